//! Questions to the kernel, and news from it.

use super::message::{Message, Request, messages};
use super::{Interface, Neighbour, Route};
use crate::call::{check, check_bytes, check_fd, set_option};
use std::ffi::c_int;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::ptr;

/// The kernel sends up to 32 kB at a time.
const BUFFER_BYTES: usize = 1 << 16;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
/// Answers read while one to the question is awaited.
const READS_MAX: usize = 10_000;

/// Asks the kernel about the network namespace in which its thread was when it was made, wherever
/// its user is later. Answers come at once: nothing blocks.
#[derive(Debug)]
pub struct Netlink {
    fd: OwnedFd,
    number: u32,
    buffer: Box<[u8]>,
}

impl Netlink {
    /// # Errors
    /// Out of descriptors or memory.
    pub fn new() -> io::Result<Self> {
        let buffer = vec![0; BUFFER_BYTES].into_boxed_slice();
        Ok(Self { fd: open(0)?, number: 0, buffer })
    }

    /// Where packets to `to` go, from the address `from` and through `interface` (if not 0) if
    /// these are given.
    ///
    /// # Errors
    /// `NetworkUnreachable`, `HostUnreachable` without a route; `InvalidInput` if `from` is no
    /// address of this host.
    pub fn route(&mut self, to: IpAddr, from: Option<IpAddr>, interface: u32) -> io::Result<Route> {
        self.ask_one(Request::route(to, from, interface), |it| it.route())
    }

    /// The neighbour `ip` on the link of `interface`; `None` if its Ethernet address is not known.
    ///
    /// # Errors
    /// Out of memory.
    pub fn neighbour(&mut self, ip: IpAddr, interface: u32) -> io::Result<Option<Neighbour>> {
        let answer = self.ask_one(Request::neighbour(ip, interface), |it| Some(it.neighbour()));
        match answer {
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
            answer => answer,
        }
    }

    /// The interface with this index.
    ///
    /// # Errors
    /// `ENODEV` if there is none.
    pub fn interface(&mut self, index: u32) -> io::Result<Interface> {
        self.ask_one(Request::interface(Some(index)), |it| it.interface())
    }

    /// All interfaces.
    ///
    /// # Errors
    /// Out of memory.
    pub fn interfaces(&mut self) -> io::Result<Vec<Interface>> {
        let mut all = Vec::new();
        self.ask(Request::interface(None), |it| all.extend(it.interface()))?;
        Ok(all)
    }

    /// All addresses of this host, each with the index of its interface.
    ///
    /// # Errors
    /// Out of memory.
    pub fn addresses(&mut self) -> io::Result<Vec<(u32, IpAddr)>> {
        let mut all = Vec::new();
        self.ask(Request::addresses(), |it| all.extend(it.address()))?;
        Ok(all)
    }

    fn ask_one<T>(
        &mut self,
        request: Request,
        read: impl Fn(&Message<'_>) -> Option<T>,
    ) -> io::Result<T> {
        let mut answer = None;
        self.ask(request, |message| answer = read(message))?;
        answer.ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    /// Asks, and passes all messages on that answer.
    fn ask(&mut self, request: Request, mut answer: impl FnMut(&Message<'_>)) -> io::Result<()> {
        self.number = self.number.wrapping_add(1);
        let is_dump = request.is_dump();
        send(self.fd.as_fd(), &request.finish(self.number))?;
        for _ in 0..READS_MAX {
            let length = receive(self.fd.as_fd(), &mut self.buffer)?;
            for message in messages(self.buffer.get(..length).unwrap_or(&[])) {
                if message.number != self.number {
                    continue;
                }
                match message.kind {
                    NLMSG_DONE => return Ok(()),
                    NLMSG_ERROR => return result(message.errno()),
                    _ => answer(&message),
                }
                if !is_dump {
                    return Ok(());
                }
            }
        }
        Err(io::ErrorKind::InvalidData.into())
    }
}

/// Becomes readable when routes, addresses or interfaces change, in the network namespace in which
/// its thread was when it was made.
#[derive(Debug)]
pub struct NetlinkMonitor {
    fd: OwnedFd,
}

impl NetlinkMonitor {
    /// # Errors
    /// Out of descriptors or memory.
    pub fn new() -> io::Result<Self> {
        let groups = libc::RTMGRP_LINK
            | libc::RTMGRP_IPV4_IFADDR
            | libc::RTMGRP_IPV6_IFADDR
            | libc::RTMGRP_IPV4_ROUTE
            | libc::RTMGRP_IPV6_ROUTE;
        Ok(Self { fd: open(groups as u32)? })
    }

    /// Takes the news that there are, at most 64 messages; says whether there were some.
    pub fn take_news(&self) -> bool {
        let mut news = false;
        let mut one = [0; 16];
        for _ in 0..64 {
            match receive(self.fd.as_fd(), &mut one) {
                Ok(_) => news = true,
                // Some got lost: that is news as well.
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => news = true,
                Err(_) => break,
            }
        }
        news
    }
}

impl AsFd for NetlinkMonitor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn result(errno: i32) -> io::Result<()> {
    if errno == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(errno)) }
}

/// A non-blocking socket that hears of `groups`.
fn open(groups: u32) -> io::Result<OwnedFd> {
    let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: the call takes no pointers; its result is a new descriptor or -1.
    let fd = unsafe { check_fd(libc::socket(libc::AF_NETLINK, kind, libc::NETLINK_ROUTE)) }?;
    // Otherwise some questions are answered only where they are asked strictly, and the other way
    // round; kernels before 4.20 know no difference.
    let _ = set_option(fd.as_fd(), libc::SOL_NETLINK, libc::NETLINK_GET_STRICT_CHK, 1);
    let mut address = EMPTY;
    address.nl_groups = groups;
    let length = size_of::<libc::sockaddr_nl>() as libc::socklen_t;
    // SAFETY: pointer and length describe the local `address`, which is only read.
    check(unsafe { libc::bind(fd.as_raw_fd(), (&raw const address).cast(), length) })?;
    Ok(fd)
}

/// The kernel's address.
// SAFETY: it consists of numbers, for which zero is valid.
const EMPTY: libc::sockaddr_nl = unsafe {
    let mut address: libc::sockaddr_nl = std::mem::zeroed();
    address.nl_family = libc::AF_NETLINK as u16;
    address
};

fn send(fd: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<()> {
    let (start, length) = (bytes.as_ptr().cast(), bytes.len());
    // SAFETY: pointer and length describe `bytes`, which is only read; there is no address, of
    // length 0.
    let result = unsafe { libc::sendto(fd.as_raw_fd(), start, length, 0, ptr::null(), 0) };
    check_bytes(result).map(drop)
}

/// Receives one datagram of the kernel, as far as there is room; those of others are skipped.
fn receive(fd: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        let mut from = EMPTY;
        let mut from_bytes = size_of::<libc::sockaddr_nl>() as libc::socklen_t;
        let (start, room): (_, usize) = (buffer.as_mut_ptr().cast(), buffer.len());
        let flags: c_int = libc::MSG_DONTWAIT;
        // SAFETY: pointers and lengths describe `buffer` and the local `from`; the call writes at
        // most as many bytes there, for which all bit patterns are valid.
        let result = unsafe {
            libc::recvfrom(
                fd.as_raw_fd(),
                start,
                room,
                flags,
                (&raw mut from).cast(),
                &raw mut from_bytes,
            )
        };
        let length = check_bytes(result)?;
        if from.nl_pid == 0 {
            return Ok(length);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    #[test]
    fn loopback_and_what_leads_there_are_known() {
        let mut netlink = Netlink::new().unwrap();
        let interfaces = netlink.interfaces().unwrap();
        let loopback = interfaces.iter().find(|one| one.is_loopback).unwrap();
        assert_eq!((loopback.name.as_str(), loopback.mac), ("lo", None));
        assert!(loopback.mtu >= 1_280);
        assert_eq!(netlink.interface(loopback.index).unwrap(), *loopback);
        let local = IpAddr::from(Ipv4Addr::LOCALHOST);
        assert!(netlink.addresses().unwrap().contains(&(loopback.index, local)));
        let route = netlink.route(local, None, 0).unwrap();
        assert_eq!((route.is_unicast, route.interface), (false, loopback.index));
        assert_eq!((route.source, route.gateway), (Some(local), None));
        let from = Ipv4Addr::new(127, 0, 0, 9).into();
        assert_eq!(netlink.route(local, Some(from), 0).unwrap().interface, loopback.index);
    }

    #[test]
    fn what_does_not_exist_is_said_not_to() {
        let mut netlink = Netlink::new().unwrap();
        let error = netlink.interface(u32::MAX >> 1).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENODEV));
        let nobody = Ipv4Addr::new(192, 0, 2, 201).into();
        let loopback = crate::interface_of(Ipv4Addr::LOCALHOST.into()).unwrap().unwrap();
        assert_eq!(netlink.neighbour(nobody, loopback).unwrap(), None);
        let foreign = Ipv4Addr::new(192, 0, 2, 200).into();
        assert!(netlink.route(Ipv4Addr::LOCALHOST.into(), Some(foreign), 0).is_err());
    }

    #[test]
    fn without_changes_there_are_no_news() {
        let monitor = NetlinkMonitor::new().unwrap();
        // Other tests may change something meanwhile, but not for ever.
        while monitor.take_news() {}
        assert!(!monitor.take_news());
    }
}
