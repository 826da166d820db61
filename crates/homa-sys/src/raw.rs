//! Raw sockets of one IP protocol: whole batches in and out by one system call, marks and source
//! addresses per packet, the error queue, and filters that keep other programs' packets away.
//!
//! Facts that the design rests on (the tests of this module repeat them): a raw IPv4 socket
//! receives the IP header too, and its filter sees it; a raw IPv6 socket does neither. Every raw
//! socket of a protocol gets a copy of each of its packets, and of each ICMP error about them,
//! whichever socket they concern: packets are selected by a filter, errors must be by the packet
//! they quote.

mod batch;
mod filter;
mod lookup;
mod message;

pub use batch::{Outgoing, PacketPieces, RawReceived, RxBatch};
pub use filter::{Filter, TcpMarks};
pub use lookup::RouteLookup;
pub use message::PACKETS_MAX;

use crate::address::{Family, RawAddress};
use crate::call::{check, check_fd, set_option};
use crate::udp::{SocketError, Source, errors, options, send};
use std::ffi::c_int;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use crate::control::ControlBuffer;

/// A non-blocking raw socket, closed on `exec`, that never fragments and never lets a router
/// fragment (`IP_PMTUDISC_DO`). It takes packets of its own family only.
///
/// It belongs to the network namespace in which its thread was when it was opened.
#[derive(Debug)]
pub struct RawSocket {
    fd: OwnedFd,
    family: Family,
}

impl RawSocket {
    /// Opens a socket for packets of IP protocol `protocol` that pass `filter`.
    ///
    /// Packets that came before the filter was in place may still be received.
    ///
    /// # Errors
    /// `PermissionDenied` without `CAP_NET_RAW`; `EAFNOSUPPORT` without that IP version; out of
    /// descriptors or memory.
    pub fn open(family: Family, protocol: u8, filter: &Filter) -> io::Result<Self> {
        let kind = libc::SOCK_RAW | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
        // SAFETY: the call takes no pointers; its result is a new descriptor or -1.
        let fd = unsafe { check_fd(libc::socket(family.number(), kind, c_int::from(protocol))) }?;
        let socket = Self { fd, family };
        socket.set_filter(filter)?;
        socket.prepare()?;
        Ok(socket)
    }

    fn prepare(&self) -> io::Result<()> {
        use libc::{IPPROTO_IP, IPPROTO_IPV6};
        let fd = self.as_fd();
        set_option(fd, libc::SOL_SOCKET, libc::SO_RXQ_OVFL, 1)?;
        match self.family {
            Family::V4 => {
                set_option(fd, IPPROTO_IP, libc::IP_PKTINFO, 1)?;
                set_option(fd, IPPROTO_IP, libc::IP_RECVERR, 1)?;
                set_option(fd, IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_DO)
            }
            Family::V6 => {
                set_option(fd, IPPROTO_IPV6, libc::IPV6_RECVPKTINFO, 1)?;
                set_option(fd, IPPROTO_IPV6, libc::IPV6_RECVTCLASS, 1)?;
                set_option(fd, IPPROTO_IPV6, libc::IPV6_RECVERR, 1)?;
                set_option(fd, IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, libc::IPV6_PMTUDISC_DO)
            }
        }
    }

    /// Replaces the filter; packets received before are not affected.
    ///
    /// # Errors
    /// Out of memory for filters (`net.core.optmem_max`).
    pub fn set_filter(&self, filter: &Filter) -> io::Result<()> {
        filter.attach(self.as_fd())
    }

    /// Receives only packets for the local address `ip`, and sends from it.
    ///
    /// # Errors
    /// `AddrNotAvailable`: not an address of this host. `InvalidInput`: of the other family.
    pub fn bind(&self, ip: SocketAddr) -> io::Result<()> {
        let raw = self.name(ip)?;
        // SAFETY: pointer and length describe the local `raw`, which is only read.
        check(unsafe { libc::bind(self.fd.as_raw_fd(), raw.as_ptr(), raw.length()) }).map(drop)
    }

    /// The IP version of its packets.
    pub fn family(&self) -> Family {
        self.family
    }

    /// As [`UdpSocket::set_receive_buffer`](crate::UdpSocket::set_receive_buffer).
    ///
    /// # Errors
    /// None are expected.
    pub fn set_receive_buffer(&self, bytes: usize) -> io::Result<usize> {
        options::set_receive_buffer(self.as_fd(), bytes)
    }

    /// As [`UdpSocket::queued_tx_bytes`](crate::UdpSocket::queued_tx_bytes).
    ///
    /// # Errors
    /// None are expected.
    pub fn queued_tx_bytes(&self) -> io::Result<usize> {
        options::queued_tx_bytes(self.as_fd())
    }

    /// Takes the next report from the error queue, as
    /// [`UdpSocket::read_error`](crate::UdpSocket::read_error). Reports about packets of other
    /// programs come as well. Ports in the addresses mean nothing.
    ///
    /// # Errors
    /// `Interrupted`: again.
    pub fn read_error(&self) -> io::Result<Option<SocketError>> {
        errors::read(self.as_fd())
    }

    /// Receives up to `max` packets into `batch`; 0 if there are none. Does not allocate.
    ///
    /// # Errors
    /// As [`UdpSocket::recv`](crate::UdpSocket::recv).
    pub fn recv(&self, batch: &mut RxBatch, max: usize) -> io::Result<usize> {
        match batch.fill(self.as_fd(), self.family, max) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
            result => result,
        }
    }

    /// Sends `packets` to `to`, in order, marked `tos`, with `source` as their sender (the routes
    /// choose one if there is none); the kernel writes their IP headers. Says how many were sent,
    /// at least one. Does not allocate.
    ///
    /// # Errors
    /// Nothing was sent; as [`UdpSocket::send`](crate::UdpSocket::send).
    pub fn send(
        &self,
        to: SocketAddr,
        source: Option<Source>,
        tos: u8,
        packets: &Outgoing<'_>,
    ) -> io::Result<usize> {
        let name = self.name(to)?;
        let mut control = ControlBuffer::new();
        // The two messages take less than 100 of 256 bytes.
        send::push_marks(&mut control, self.family, source, Some(tos).filter(|tos| *tos != 0))
            .ok_or(io::ErrorKind::InvalidInput)?;
        message::send_all(self.as_fd(), &name, &mut control, packets.packets())
    }

    /// The address as the kernel takes it, without a port: that would be another protocol.
    fn name(&self, mut address: SocketAddr) -> io::Result<RawAddress> {
        address.set_port(0);
        let same = Family::of(address.ip()) == self.family;
        let canonical = IpAddr::to_canonical(&address.ip());
        if !same && Family::of(canonical) != self.family {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        RawAddress::new(address, self.family).ok_or_else(|| io::ErrorKind::InvalidInput.into())
    }
}

impl AsFd for RawSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl AsRawFd for RawSocket {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

#[cfg(test)]
mod tests;
