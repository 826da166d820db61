//! Options and facts of a UDP socket that are set or asked outside the packet path.

use super::UdpSocket;
use crate::address::{Family, RawAddress};
use crate::call::{check, check_fd, option, set_option};
use std::ffi::c_int;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::atomic::Ordering;

/// Segment size of a send, or of a batch received (`linux/udp.h`).
pub(super) const UDP_SEGMENT: c_int = 103;
/// Join segments of one flow on receipt (`linux/udp.h`).
pub(super) const UDP_GRO: c_int = 104;

/// Sets what every socket needs before it is bound.
pub(super) fn prepare(fd: BorrowedFd<'_>, ip: IpAddr, shared: bool) -> io::Result<()> {
    use libc::{IPPROTO_IP, IPPROTO_IPV6, SOL_SOCKET};
    set_option(fd, SOL_SOCKET, libc::SO_RXQ_OVFL, 1)?;
    if shared {
        set_option(fd, SOL_SOCKET, libc::SO_REUSEPORT, 1)?;
    }
    if ip.is_ipv6() {
        set_option(fd, IPPROTO_IPV6, libc::IPV6_RECVERR, 1)?;
        set_option(fd, IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, libc::IPV6_PMTUDISC_DO)?;
    }
    if ip.is_ipv4() || ip.is_unspecified() {
        // A dual stack socket keeps separate options for its IPv4 packets.
        set_option(fd, IPPROTO_IP, libc::IP_RECVERR, 1)?;
        set_option(fd, IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_DO)?;
    }
    // Bound to one address, every packet is for that one: asking costs time per packet.
    if ip.is_unspecified() { receive_destinations(fd, ip.is_ipv6(), true, true) } else { Ok(()) }
}

/// Says before it is bound whether an IPv6 socket takes IPv4 as well: at all addresses it does.
pub(super) fn set_dual_stack(fd: BorrowedFd<'_>, ip: IpAddr) -> io::Result<()> {
    let v6_only = c_int::from(!ip.is_unspecified());
    match ip.is_ipv6() {
        true => set_option(fd, libc::IPPROTO_IPV6, libc::IPV6_V6ONLY, v6_only),
        false => Ok(()),
    }
}

/// Asks, or no longer asks, to which local address each packet was sent.
fn receive_destinations(fd: BorrowedFd<'_>, v6: bool, v4: bool, on: bool) -> io::Result<()> {
    if v6 {
        set_option(fd, libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO, c_int::from(on))?;
    }
    if v4 {
        set_option(fd, libc::IPPROTO_IP, libc::IP_PKTINFO, c_int::from(on))?;
    }
    Ok(())
}

/// Asks for joined batches; says whether the kernel can (Linux 5.0 and later).
pub(super) fn enable_gro(fd: BorrowedFd<'_>) -> bool {
    set_option(fd, libc::SOL_UDP, UDP_GRO, 1).is_ok()
}

/// The address that a socket is bound to.
pub(crate) fn local_addr(fd: BorrowedFd<'_>) -> io::Result<SocketAddr> {
    let mut raw = RawAddress::EMPTY;
    let mut length = raw.length();
    // SAFETY: the pointer leads to `length` bytes of room, of which the call fills at most all.
    check(unsafe { libc::getsockname(fd.as_raw_fd(), raw.as_mut_ptr(), &raw mut length) })?;
    raw.set_length(length);
    // An internet socket has an internet address.
    raw.decode().ok_or_else(|| io::ErrorKind::InvalidData.into())
}

impl UdpSocket {
    /// Asks for the mark of each packet received ([`Received::tos`](super::Received::tos), else
    /// 0), which costs some 50 ns per receive.
    ///
    /// # Errors
    /// None are expected.
    pub fn set_receive_tos(&self, on: bool) -> io::Result<()> {
        let fd = self.as_fd();
        if self.family == Family::V6 {
            set_option(fd, libc::IPPROTO_IPV6, libc::IPV6_RECVTCLASS, c_int::from(on))?;
        }
        if self.takes_v4 {
            set_option(fd, libc::IPPROTO_IP, libc::IP_RECVTOS, c_int::from(on))?;
        }
        Ok(())
    }

    /// Makes `tos` the mark of packets sent without one of their own: sends with this mark need
    /// no control message, which saves some 150 ns each.
    ///
    /// # Errors
    /// None are expected.
    pub fn set_default_tos(&self, tos: u8) -> io::Result<()> {
        let (fd, value) = (self.as_fd(), c_int::from(tos));
        if self.family == Family::V6 {
            set_option(fd, libc::IPPROTO_IPV6, libc::IPV6_TCLASS, value)?;
        }
        if self.takes_v4 {
            set_option(fd, libc::IPPROTO_IP, libc::IP_TOS, value)?;
        }
        self.default_tos.store(tos, Ordering::Relaxed);
        Ok(())
    }

    /// The mark of packets sent without one of their own.
    #[inline]
    pub fn default_tos(&self) -> u8 {
        self.default_tos.load(Ordering::Relaxed)
    }

    /// Asks, or no longer asks, to which local address each packet was sent
    /// ([`Received::local_ip`](super::Received::local_ip), else unspecified), which costs some 150
    /// ns per receive. Sockets bound to `0.0.0.0` or `[::]` begin with asking, others without.
    ///
    /// # Errors
    /// None are expected.
    pub fn set_receive_destinations(&self, on: bool) -> io::Result<()> {
        receive_destinations(self.as_fd(), self.family == Family::V6, self.takes_v4, on)
    }

    /// Connects the socket: [`send_connected`](Self::send_connected) goes there, and only packets
    /// from there are received. Its own address becomes that of the route.
    ///
    /// # Errors
    /// No route, or an address of the wrong family.
    pub fn connect(&self, to: SocketAddr) -> io::Result<()> {
        let raw = RawAddress::new(to, self.family).ok_or(io::ErrorKind::InvalidInput)?;
        // SAFETY: pointer and length describe the local `raw`, which is only read.
        check(unsafe { libc::connect(self.as_raw_fd(), raw.as_ptr(), raw.length()) }).map(drop)
    }

    /// Ends the connection: packets from everywhere are received again. The port stays the same
    /// only if the socket was bound to it by its number.
    ///
    /// # Errors
    /// None are expected.
    pub fn disconnect(&self) -> io::Result<()> {
        disconnect(self.as_fd())
    }

    /// Whether sends may carry several segments (`UDP_SEGMENT`, Linux 4.18 and later). A route
    /// may refuse them all the same, with `EINVAL` or `EIO`.
    pub fn gso_supported(&self) -> bool {
        option(self.as_fd(), libc::SOL_UDP, UDP_SEGMENT).is_ok()
    }

    /// Joins, or no longer joins, segments of one flow on receipt: see
    /// [`gro_supported`](Self::gro_supported). Sockets begin with joining where the kernel can.
    ///
    /// # Errors
    /// The kernel cannot (before Linux 5.0).
    pub fn set_gro(&self, on: bool) -> io::Result<()> {
        set_option(self.as_fd(), libc::SOL_UDP, UDP_GRO, c_int::from(on))
    }

    /// Whether receives may bring several segments (`UDP_GRO`, Linux 5.0 and later).
    pub fn gro_supported(&self) -> bool {
        self.gro
    }

    /// Asks for a receive buffer of `bytes` in the kernel's own accounting, in which a packet
    /// costs more than its length; says what the kernel gave, as
    /// [`receive_buffer`](Self::receive_buffer). Without `CAP_NET_ADMIN` the limit is twice
    /// `net.core.rmem_max`, and asking for more is no error.
    ///
    /// # Errors
    /// None are expected.
    pub fn set_receive_buffer(&self, bytes: usize) -> io::Result<usize> {
        set_receive_buffer(self.as_fd(), bytes)
    }

    /// Size of the receive buffer in bytes of the kernel's accounting.
    ///
    /// # Errors
    /// None are expected.
    pub fn receive_buffer(&self) -> io::Result<usize> {
        receive_buffer(self.as_fd())
    }

    /// Whether sent packets over IPv4 carry a checksum, as they do from the start. Without it the
    /// kernel refuses to cut trains (`EINVAL`), which makes this useful in tests.
    ///
    /// # Errors
    /// None are expected.
    pub fn set_tx_checksum(&self, on: bool) -> io::Result<()> {
        set_option(self.as_fd(), libc::SOL_SOCKET, libc::SO_NO_CHECK, c_int::from(!on))
    }

    /// Bytes of sent packets that have not left the host yet, in the kernel's accounting
    /// (`SIOCOUTQ`). Follows the backlog of the egress device.
    ///
    /// # Errors
    /// None are expected.
    pub fn queued_tx_bytes(&self) -> io::Result<usize> {
        queued_tx_bytes(self.as_fd())
    }
}

/// As [`UdpSocket::disconnect`], of any socket.
pub(crate) fn disconnect(fd: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: integers only; all zeros is valid.
    let mut nowhere: libc::sockaddr = unsafe { std::mem::zeroed() };
    nowhere.sa_family = libc::AF_UNSPEC as libc::sa_family_t;
    let length = size_of::<libc::sockaddr>() as libc::socklen_t;
    // SAFETY: pointer and length describe the local `nowhere`, which is only read.
    check(unsafe { libc::connect(fd.as_raw_fd(), &raw const nowhere, length) }).map(drop)
}

/// As [`UdpSocket::set_receive_buffer`], of any socket.
pub(crate) fn set_receive_buffer(fd: BorrowedFd<'_>, bytes: usize) -> io::Result<usize> {
    // The kernel doubles what it is asked for.
    let half = c_int::try_from(bytes / 2).unwrap_or(c_int::MAX / 2).min(c_int::MAX / 2);
    set_option(fd, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, half)
        .or_else(|_| set_option(fd, libc::SOL_SOCKET, libc::SO_RCVBUF, half))?;
    receive_buffer(fd)
}

fn receive_buffer(fd: BorrowedFd<'_>) -> io::Result<usize> {
    let bytes = option(fd, libc::SOL_SOCKET, libc::SO_RCVBUF)?;
    Ok(usize::try_from(bytes).unwrap_or(0))
}

/// As [`UdpSocket::queued_tx_bytes`], of any socket.
pub(crate) fn queued_tx_bytes(fd: BorrowedFd<'_>) -> io::Result<usize> {
    let mut bytes: c_int = 0;
    // SAFETY: this request writes one `int`, to which the pointer leads. Linux defines
    // SIOCOUTQ as TIOCOUTQ.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) })?;
    Ok(usize::try_from(bytes).unwrap_or(0))
}

/// The MTU in bytes (whole IP packets) of the path to `ip` as this host knows it now: of the
/// route, or what routers reported.
///
/// # Errors
/// `NetworkUnreachable` or `HostUnreachable` without a route; out of descriptors.
pub fn path_mtu(ip: IpAddr) -> io::Result<u32> {
    let fd = connected(ip)?;
    let mtu = match Family::of(ip.to_canonical()) {
        Family::V4 => option(fd.as_fd(), libc::IPPROTO_IP, libc::IP_MTU),
        Family::V6 => option(fd.as_fd(), libc::IPPROTO_IPV6, libc::IPV6_MTU),
    }?;
    Ok(u32::try_from(mtu).unwrap_or(0))
}

/// The local address that packets to `ip` leave from unless told otherwise.
///
/// # Errors
/// As [`path_mtu`].
pub fn source_ip(ip: IpAddr) -> io::Result<IpAddr> {
    Ok(local_addr(connected(ip)?.as_fd())?.ip())
}

/// A scratch socket connected to `ip`: connecting a UDP socket looks up the route and sends
/// nothing.
fn connected(ip: IpAddr) -> io::Result<std::os::fd::OwnedFd> {
    let ip = ip.to_canonical();
    let family = Family::of(ip);
    let kind = libc::SOCK_DGRAM | libc::SOCK_CLOEXEC;
    // SAFETY: the call takes no pointers; its result is a new descriptor or -1.
    let fd = unsafe { check_fd(libc::socket(family.number(), kind, 0)) }?;
    // Any port serves, but not 0.
    let raw = RawAddress::new(SocketAddr::new(ip, 9), family).ok_or(io::ErrorKind::InvalidInput)?;
    // SAFETY: pointer and length describe the local `raw`, which is only read.
    check(unsafe { libc::connect(fd.as_raw_fd(), raw.as_ptr(), raw.length()) })?;
    Ok(fd)
}
