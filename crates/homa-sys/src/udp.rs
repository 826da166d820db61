//! UDP sockets with segmentation offload, marks and source addresses per packet, and the error
//! queue.
//!
//! Facts that the design rests on (Linux 6.18; the tests of this module repeat them): a send
//! with `UDP_SEGMENT` takes at most [`GSO_SEGMENTS_MAX`] segments and
//! [`DATAGRAM_PAYLOAD_MAX_BYTES`] bytes, cut from one gathered buffer at equal distances; a
//! receive with `UDP_GRO` joins segments of one flow back into one batch; a socket whose error
//! queue holds a report may answer the next send, to whatever destination, with that report's
//! error and send nothing.

pub(crate) mod errors;
pub(crate) mod message;
pub(crate) mod options;
pub(crate) mod receive;
pub(crate) mod send;

pub use errors::{ErrorOrigin, QUOTED_BYTES, SocketError};
pub use options::{path_mtu, source_ip};
pub use receive::{Beside, Received};
pub use send::{GATHER_MAX, Pieces, Source};

use crate::address::{Family, RawAddress};
use crate::call::{check, check_fd};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::atomic::AtomicU8;

/// Most segments of one send with `UDP_SEGMENT`; one more fails with `EINVAL`.
pub const GSO_SEGMENTS_MAX: usize = 128;

/// Most payload bytes of one send over IPv4, with or without segmentation: 65,535 less 20 of IP
/// and 8 of UDP header.
pub const DATAGRAM_PAYLOAD_MAX_BYTES: usize = 65_507;

/// A non-blocking UDP socket, closed on `exec`, that never fragments and never lets a router
/// fragment (`IP_PMTUDISC_DO`).
///
/// Every method takes `&self`; several threads may use it, each call is one system call.
#[derive(Debug)]
pub struct UdpSocket {
    fd: OwnedFd,
    family: Family,
    /// It sends and receives IPv4: not so an IPv6 socket at one address.
    takes_v4: bool,
    gro: bool,
    default_tos: AtomicU8,
}

impl UdpSocket {
    /// Opens a socket at `address`. `[::]` takes IPv4 as well (dual stack); other IPv6
    /// addresses do not; a mapped IPv4 address is the IPv4 address.
    ///
    /// # Errors
    /// As `bind(2)`: `AddrInUse`, `AddrNotAvailable`, `PermissionDenied` (ports below 1,024);
    /// out of descriptors or memory; `Unsupported` if the kernel lacks an option that is needed.
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        Self::open(address, false)
    }

    /// The same for several sockets at one address (`SO_REUSEPORT`) between which the kernel
    /// divides the flows. All of them must be opened by this function and by one user.
    ///
    /// # Errors
    /// As [`bind`](Self::bind).
    pub fn bind_shared(address: SocketAddr) -> io::Result<Self> {
        Self::open(address, true)
    }

    fn open(address: SocketAddr, shared: bool) -> io::Result<Self> {
        let address = canonical(address);
        let family = Family::of(address.ip());
        let kind = libc::SOCK_DGRAM | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
        // SAFETY: the call takes no pointers; its result is a new descriptor or -1.
        let fd = unsafe { check_fd(libc::socket(family.number(), kind, 0)) }?;
        options::set_dual_stack(fd.as_fd(), address.ip())?;
        options::prepare(fd.as_fd(), address.ip(), shared)?;
        let gro = options::enable_gro(fd.as_fd());
        // An address always has a form in its own family.
        let raw = RawAddress::new(address, family).ok_or(io::ErrorKind::InvalidInput)?;
        // SAFETY: pointer and length describe the local `raw`, which is only read.
        check(unsafe { libc::bind(fd.as_raw_fd(), raw.as_ptr(), raw.length()) })?;
        let takes_v4 = address.ip().is_ipv4() || address.ip().is_unspecified();
        Ok(Self { fd, family, takes_v4, gro, default_tos: AtomicU8::new(0) })
    }

    /// Takes over a socket that is bound, for example by a supervisor that passes it on. One at
    /// `[::]` has to take IPv4 as well.
    ///
    /// # Errors
    /// As [`bind`](Self::bind); `InvalidInput` if it is not bound to a port.
    pub fn from_bound(socket: std::net::UdpSocket) -> io::Result<Self> {
        let address = canonical(socket.local_addr()?);
        if address.port() == 0 {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the socket is not bound"));
        }
        socket.set_nonblocking(true)?;
        let fd = OwnedFd::from(socket);
        options::prepare(fd.as_fd(), address.ip(), false)?;
        let gro = options::enable_gro(fd.as_fd());
        let takes_v4 = address.ip().is_ipv4() || address.ip().is_unspecified();
        let family = Family::of(address.ip());
        Ok(Self { fd, family, takes_v4, gro, default_tos: AtomicU8::new(0) })
    }

    /// The address it is bound to.
    ///
    /// # Errors
    /// None are expected.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        options::local_addr(self.fd.as_fd())
    }

    /// IPv6 sockets (dual stack or not) are of family V6.
    pub fn family(&self) -> Family {
        self.family
    }
}

impl AsFd for UdpSocket {
    #[inline]
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl AsRawFd for UdpSocket {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

/// Turns a mapped IPv4 address into IPv4; leaves others, with their scope, as they are.
fn canonical(address: SocketAddr) -> SocketAddr {
    match address.ip().to_canonical() {
        ip @ std::net::IpAddr::V4(_) => SocketAddr::new(ip, address.port()),
        std::net::IpAddr::V6(_) => address,
    }
}

#[cfg(test)]
mod tests;
