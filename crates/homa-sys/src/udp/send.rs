//! Sending one datagram, or a train of equal ones, gathered from pieces.

use super::options::UDP_SEGMENT;
use super::{UdpSocket, message};
use crate::address::{Family, RawAddress};
use crate::control::ControlBuffer;
use arrayvec::ArrayVec;
use std::ffi::c_int;
use std::io::{self, IoSlice};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;

/// Most pieces of one send (the kernel's `UIO_MAXIOV`).
pub const GATHER_MAX: usize = 1_024;

/// Pieces of one send, on the stack and without allocation. Half of what the kernel takes: four
/// per segment of the longest train, in 8,192 bytes.
pub type Pieces<'a> = ArrayVec<IoSlice<'a>, { GATHER_MAX / 2 }>;

/// Where a packet is to leave from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Source {
    /// The address it carries.
    pub ip: IpAddr,
    /// The interface it leaves by; 0 lets the routes decide, which is right for all but
    /// link-local addresses.
    pub interface: u32,
}

impl UdpSocket {
    /// Sends the concatenation of `slices` to `to`; with `gso_segment_bytes` as several
    /// datagrams of that length, the last of which may be shorter. All or nothing is sent; the
    /// result is the number of bytes. `tos` is the IPv4 type of service or IPv6 traffic class
    /// (code point in the upper six bits). Does not allocate.
    ///
    /// # Errors
    /// * `WouldBlock` (`EAGAIN`): the socket is full; wait until it is writable.
    /// * `ENOBUFS`: the device is full; try later, the socket may stay writable.
    /// * `EMSGSIZE`: longer than the MTU of the path; [`read_error`](Self::read_error) or
    ///   [`path_mtu`](crate::path_mtu) tell it.
    /// * `ECONNREFUSED`, `EHOSTUNREACH`, `ENETUNREACH`: no route, or the pending report of an
    ///   earlier send, perhaps to another destination: empty the error queue, try once more.
    /// * `EINVAL`, `EIO` with `gso_segment_bytes`: too many segments, or the path cannot cut.
    /// * `EPERM`: a filter forbids it.
    /// * `InvalidInput` without an error number: more than [`GATHER_MAX`] pieces, or an IPv6
    ///   address on an IPv4 socket.
    #[inline]
    pub fn send(
        &self,
        to: SocketAddr,
        source: Option<Source>,
        tos: u8,
        gso_segment_bytes: Option<u16>,
        slices: &[IoSlice<'_>],
    ) -> io::Result<usize> {
        let name = RawAddress::new(to, self.family).ok_or(io::ErrorKind::InvalidInput)?;
        self.send_named(to, Some(&name), source, tos, gso_segment_bytes, slices)
    }

    /// As [`send`](Self::send) to `to`, which the socket is [connected](Self::connect) to: some
    /// 400 ns less, since the kernel keeps the route.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    #[inline]
    pub fn send_connected(
        &self,
        to: SocketAddr,
        tos: u8,
        gso_segment_bytes: Option<u16>,
        slices: &[IoSlice<'_>],
    ) -> io::Result<usize> {
        self.send_named(to, None, None, tos, gso_segment_bytes, slices)
    }

    #[inline]
    fn send_named(
        &self,
        to: SocketAddr,
        name: Option<&RawAddress>,
        source: Option<Source>,
        tos: u8,
        gso_segment_bytes: Option<u16>,
        slices: &[IoSlice<'_>],
    ) -> io::Result<usize> {
        if slices.len() > GATHER_MAX {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let tos = Some(tos).filter(|tos| *tos != self.default_tos());
        if let ([slice], None, None, None) = (slices, source, tos, gso_segment_bytes) {
            return message::send_plain(self.as_fd(), name, slice);
        }
        let mut control = ControlBuffer::new();
        let family = Family::of(to.ip().to_canonical());
        let fits =
            push_marks(&mut control, family, source, tos).and_then(|()| match gso_segment_bytes {
                Some(bytes) => control.push(libc::SOL_UDP, UDP_SEGMENT, &bytes.to_ne_bytes()),
                None => Some(()),
            });
        // The three messages take less than 100 of 256 bytes.
        fits.ok_or(io::ErrorKind::InvalidInput)?;
        message::send(self.as_fd(), name, &mut control, slices)
    }
}

/// Adds what differs from the socket's defaults (its mark, source chosen by the routes). The
/// packet's own family decides, not the socket's: for a mapped destination an IPv6 socket takes
/// the messages of IPv4.
pub(crate) fn push_marks(
    control: &mut ControlBuffer,
    packet: Family,
    source: Option<Source>,
    tos: Option<u8>,
) -> Option<()> {
    if let Some(tos) = tos {
        let value = c_int::from(tos).to_ne_bytes();
        match packet {
            Family::V4 => control.push(libc::IPPROTO_IP, libc::IP_TOS, &value)?,
            Family::V6 => control.push(libc::IPPROTO_IPV6, libc::IPV6_TCLASS, &value)?,
        }
    }
    let Some(source) = source else {
        return Some(());
    };
    match (packet, source.ip.to_canonical()) {
        (Family::V4, IpAddr::V4(ip)) => {
            let mut info = [0; 12];
            info[0..4].copy_from_slice(&source.interface.to_ne_bytes());
            info[4..8].copy_from_slice(&ip.octets());
            control.push(libc::IPPROTO_IP, libc::IP_PKTINFO, &info)
        }
        (Family::V6, IpAddr::V6(ip)) => {
            let mut info = [0; 20];
            info[0..16].copy_from_slice(&ip.octets());
            info[16..20].copy_from_slice(&source.interface.to_ne_bytes());
            control.push(libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, &info)
        }
        // An address of the other family cannot be the source of this packet.
        _ => None,
    }
}
