//! Receiving a datagram, or a batch of equal ones, and what came with it.

use super::options::UDP_GRO;
use super::{UdpSocket, message};
use crate::address::{RawAddress, array};
use crate::control::{ControlBuffer, Message};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsFd;

/// Result of one receive, besides the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// Bytes in the buffer.
    pub len: usize,
    /// If the kernel joined datagrams of one flow: bytes of each of them except the last, which
    /// may be shorter. `None`: the buffer holds one datagram.
    pub gro_segment_bytes: Option<u16>,
    /// The sender. IPv4 senders are IPv4 addresses on dual stack sockets too.
    pub remote: SocketAddr,
    /// The local address that it was sent to, from which to reply.
    pub local_ip: IpAddr,
    /// Index of the interface it came in by; 0 if the kernel did not say.
    pub interface: u32,
    /// IPv4 type of service or IPv6 traffic class: code point in the upper six bits, congestion
    /// notification in the lower two.
    pub tos: u8,
    /// The buffer was too small and the rest is lost.
    pub truncated: bool,
    /// Datagrams that this socket had dropped for lack of buffer when this one was queued;
    /// wraps. Absent as long as there was none.
    pub drops_total: Option<u32>,
}

/// Where the kernel writes what comes beside a datagram. Used for one receive after the other, so
/// that it has to be made once only.
#[derive(Debug)]
pub struct Beside {
    name: RawAddress,
    control: ControlBuffer,
}

impl Beside {
    /// Room for everything that a receive asks for.
    pub const fn new() -> Self {
        Self { name: RawAddress::EMPTY, control: ControlBuffer::new() }
    }
}

impl Default for Beside {
    fn default() -> Self {
        Self::new()
    }
}

impl UdpSocket {
    /// Receives one datagram, or one batch if the kernel joined several; for batches `buffer`
    /// should have 65,536 bytes. `None` if there is nothing to receive. Does not allocate.
    ///
    /// # Errors
    /// `Interrupted`: again. `ConnectionRefused`, `HostUnreachable` and the like: the error
    /// queue holds a report about an earlier send; no datagram was lost, read it by
    /// [`read_error`](Self::read_error) and try again.
    #[inline]
    pub fn recv(&self, buffer: &mut [u8], beside: &mut Beside) -> io::Result<Option<Received>> {
        let Beside { name, control } = beside;
        let received = message::receive(self.as_fd(), buffer, name, control, 0);
        let (len, flags) = match received {
            Ok(received) => received,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            Err(error) => return Err(error),
        };
        // Only internet addresses reach an internet socket.
        let remote = name.decode().ok_or(io::ErrorKind::InvalidData)?;
        let mut received = Received {
            len,
            gro_segment_bytes: None,
            remote,
            local_ip: unspecified_like(remote.ip()),
            interface: 0,
            tos: 0,
            truncated: flags & libc::MSG_TRUNC != 0,
            drops_total: None,
        };
        for message in control.messages() {
            received.note(&message);
        }
        Ok(Some(received))
    }
}

impl Received {
    /// Takes what a control message says.
    pub(crate) fn note(&mut self, message: &Message<'_>) {
        match (message.level, message.kind) {
            (libc::IPPROTO_IP, libc::IP_TOS) | (libc::IPPROTO_IPV6, libc::IPV6_TCLASS) => {
                // An IPv4 packet on a dual stack socket has no traffic class of its own.
                if let Some(tos) = message.as_small() {
                    self.tos = tos;
                }
            }
            (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                if let (Some(index), Some(ip)) = (message.as_u32(), array::<4>(message.data, 4)) {
                    self.interface = index;
                    self.local_ip = Ipv4Addr::from(ip).into();
                }
            }
            (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                // Comes for IPv4 packets too, with the mapped address.
                let (ip, index) = (array::<16>(message.data, 0), array::<4>(message.data, 16));
                if let (Some(ip), Some(index)) = (ip, index) {
                    self.interface = u32::from_ne_bytes(index);
                    self.local_ip = IpAddr::from(Ipv6Addr::from(ip)).to_canonical();
                }
            }
            (libc::SOL_UDP, UDP_GRO) => {
                self.gro_segment_bytes = message
                    .as_u32()
                    .and_then(|bytes| u16::try_from(bytes).ok())
                    .filter(|&bytes| bytes > 0 && usize::from(bytes) < self.len);
            }
            (libc::SOL_SOCKET, libc::SO_RXQ_OVFL) => self.drops_total = message.as_u32(),
            _ => {}
        }
    }
}

pub(crate) fn unspecified_like(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    }
}
