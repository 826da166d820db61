//! Route look-ups, in the namespace where they began.

use crate::address::{Family, RawAddress};
use crate::call::{check, check_fd, option};
use crate::udp::options;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

/// Looks routes up in the network namespace in which its thread was when it was made, wherever its
/// user is later.
#[derive(Debug)]
pub struct RouteLookup {
    v4: Option<OwnedFd>,
    v6: Option<OwnedFd>,
}

impl RouteLookup {
    /// # Errors
    /// Out of descriptors or memory.
    pub fn new() -> io::Result<Self> {
        let (v4, v6) = (open(Family::V4), open(Family::V6));
        match (v4, v6) {
            (Err(error), Err(_)) => Err(error),
            // A system may lack one IP version.
            (v4, v6) => Ok(Self { v4: v4.ok(), v6: v6.ok() }),
        }
    }

    /// As [`path_mtu`](crate::path_mtu).
    ///
    /// # Errors
    /// As [`path_mtu`](crate::path_mtu).
    pub fn mtu(&self, ip: IpAddr, interface: u32) -> io::Result<u32> {
        let fd = self.connect(ip, interface)?.as_fd();
        let mtu = match Family::of(ip.to_canonical()) {
            Family::V4 => option(fd, libc::IPPROTO_IP, libc::IP_MTU),
            Family::V6 => option(fd, libc::IPPROTO_IPV6, libc::IPV6_MTU),
        }?;
        Ok(u32::try_from(mtu).unwrap_or(0))
    }

    /// As [`source_ip`](crate::source_ip).
    ///
    /// # Errors
    /// As [`source_ip`](crate::source_ip).
    pub fn source_ip(&self, ip: IpAddr, interface: u32) -> io::Result<IpAddr> {
        Ok(options::local_addr(self.connect(ip, interface)?.as_fd())?.ip())
    }

    /// Connecting a UDP socket looks up the route and sends nothing.
    fn connect(&self, ip: IpAddr, interface: u32) -> io::Result<&OwnedFd> {
        let ip = ip.to_canonical();
        let family = Family::of(ip);
        let fd = match family {
            Family::V4 => &self.v4,
            Family::V6 => &self.v6,
        };
        let fd = fd.as_ref().ok_or(io::ErrorKind::NetworkUnreachable)?;
        // Otherwise the source address of the last path would stay.
        options::disconnect(fd.as_fd())?;
        // Any port serves, but not 0.
        let mut to = SocketAddr::new(ip, 9);
        if let SocketAddr::V6(to) = &mut to {
            if to.ip().is_unicast_link_local() {
                to.set_scope_id(interface);
            }
        }
        let raw = RawAddress::new(to, family).ok_or(io::ErrorKind::InvalidInput)?;
        // SAFETY: pointer and length describe the local `raw`, which is only read.
        check(unsafe { libc::connect(fd.as_raw_fd(), raw.as_ptr(), raw.length()) })?;
        Ok(fd)
    }
}

fn open(family: Family) -> io::Result<OwnedFd> {
    let kind = libc::SOCK_DGRAM | libc::SOCK_CLOEXEC;
    // SAFETY: the call takes no pointers; its result is a new descriptor or -1.
    unsafe { check_fd(libc::socket(family.number(), kind, 0)) }
}
