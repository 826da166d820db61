//! Recording what passes a network interface (`AF_PACKET`): whole frames with times, VLAN tags that
//! the kernel took off, and what offloading left undone.

mod filter;

use crate::address::array;
use crate::call::{check, check_bytes, check_fd, set_option};
use crate::control::ControlBuffer;
use crate::udp::options;
use std::ffi::{CString, c_int};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

pub use filter::FILTER_PORTS_MAX;

/// Room for the largest frame: 64 KiB of IP packet, link header and tags.
const FRAME_BYTES_MAX: usize = 65_536 + 256;
/// `struct virtio_net_hdr`, which the kernel puts in front of each frame.
const OFFLOAD_BYTES: usize = 10;
/// Bytes of a link-layer address as `recvmsg` fills it (`struct sockaddr_ll`).
const NAME_BYTES: usize = 20;

/// The frame was sent by this host.
const PACKET_OUTGOING: u8 = 4;
const ARPHRD_LOOPBACK: u16 = 772;
/// `struct tpacket_auxdata`: status, and where the VLAN tag lies.
const STATUS_VLAN: u32 = 1 << 4;
const STATUS_VLAN_TYPE: u32 = 1 << 6;
const AUX_TAG_AT: usize = 16;
const AUX_TYPE_AT: usize = 18;
const ETHERTYPE_VLAN: u16 = 0x8100;
/// Flags and kinds of `struct virtio_net_hdr`.
const NEEDS_CHECKSUM: u8 = 1;
const SEGMENT_TCPV4: u8 = 1;
const SEGMENT_TCPV6: u8 = 4;
const SEGMENT_UDP: u8 = 5;
const SEGMENT_ECN: u8 = 0x80;

/// A socket that receives a copy of every frame that may be Homa from one interface, in both
/// directions.
#[derive(Debug)]
pub struct PacketSocket {
    fd: OwnedFd,
    hardware_type: u16,
    received: u64,
    dropped: u64,
}

/// Room for one frame.
#[derive(Debug)]
pub struct PacketBuffer {
    bytes: Box<[u8]>,
    control: ControlBuffer,
}

/// A recorded frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet<'a> {
    /// When the kernel saw it, in ns since 1970.
    pub time_ns: u64,
    /// The frame with its link header, without `vlan`.
    pub bytes: &'a [u8],
    /// A tag that the kernel took off: its ethertype and its value.
    pub vlan: Option<(u16, u16)>,
    /// Present if a network card would still cut it, or the kernel has joined it: bytes behind the
    /// transport header in each piece.
    pub segment_bytes: Option<u16>,
    /// Present if a network card would still write a checksum: where in the frame the bytes begin
    /// that it covers, and where behind that it goes.
    pub checksum_at: Option<(u16, u16)>,
}

impl PacketSocket {
    /// Opens a socket for `interface`. UDP datagrams are received if they begin like packets of
    /// this implementation, and all from or to `udp_ports` (at most [`FILTER_PORTS_MAX`] of them).
    ///
    /// # Errors
    /// `PermissionDenied` without `CAP_NET_RAW`; `NotFound` without such an interface;
    /// `NetworkDown` while it is down; out of memory.
    pub fn open(interface: &str, udp_ports: &[u16]) -> io::Result<Self> {
        let index = index_of(interface)?;
        let kind = libc::SOCK_RAW | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
        // Protocol 0: nothing is received before the filter is there and the socket is bound.
        // SAFETY: the call takes no pointers; its result is a new descriptor or -1.
        let fd = unsafe { check_fd(libc::socket(libc::AF_PACKET, kind, 0)) }?;
        filter::attach(fd.as_fd(), udp_ports)?;
        set_option(fd.as_fd(), libc::SOL_PACKET, libc::PACKET_AUXDATA, 1)?;
        set_option(fd.as_fd(), libc::SOL_PACKET, libc::PACKET_VNET_HDR, 1)?;
        set_option(fd.as_fd(), libc::SOL_SOCKET, libc::SO_TIMESTAMPNS, 1)?;
        bind(fd.as_fd(), index)?;
        let hardware_type = hardware_type(fd.as_fd())?;
        Ok(Self { fd, hardware_type, received: 0, dropped: 0 })
    }

    /// Kind of the interface: 1 Ethernet, 772 loopback, 65,534 none (frames begin with the IP
    /// header).
    pub fn hardware_type(&self) -> u16 {
        self.hardware_type
    }

    /// As [`UdpSocket::set_receive_buffer`](crate::UdpSocket::set_receive_buffer).
    ///
    /// # Errors
    /// None are expected.
    pub fn set_receive_buffer(&self, bytes: usize) -> io::Result<usize> {
        options::set_receive_buffer(self.as_fd(), bytes)
    }

    /// Receives a frame; `None` if there is none now. On the loopback device, where everything
    /// passes twice, only what arrives counts.
    ///
    /// # Errors
    /// `Interrupted`: again. `NetworkDown`: the interface went down; frames may come again.
    /// `InvalidInput`: a frame was lost that this kernel cannot describe.
    pub fn recv<'a>(&self, buffer: &'a mut PacketBuffer) -> io::Result<Option<Packet<'a>>> {
        loop {
            let (length, name) = match self.recv_once(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                result => result?,
            };
            let [.., kind, _, _, _, _, _, _, _, _, _] = name;
            let is_echo = self.hardware_type == ARPHRD_LOOPBACK && kind == PACKET_OUTGOING;
            if !is_echo && length >= OFFLOAD_BYTES {
                return Ok(Some(buffer.packet(length)));
            }
        }
    }

    fn recv_once(&self, buffer: &mut PacketBuffer) -> io::Result<(usize, [u8; NAME_BYTES])> {
        let mut name = [0_u8; NAME_BYTES];
        let mut room =
            libc::iovec { iov_base: buffer.bytes.as_mut_ptr().cast(), iov_len: buffer.bytes.len() };
        buffer.control = ControlBuffer::new();
        let mut header = libc::msghdr {
            msg_name: name.as_mut_ptr().cast(),
            msg_namelen: NAME_BYTES as u32,
            msg_iov: &raw mut room,
            msg_iovlen: 1,
            msg_control: buffer.control.as_mut_ptr(),
            msg_controllen: crate::control::CONTROL_BYTES as _,
            msg_flags: 0,
        };
        // SAFETY: `header` describes memory that this function holds exclusively until the call
        // returns: the local `name`, one local `iovec` that describes `buffer.bytes`, and
        // `buffer.control` with its whole length. The kernel keeps none of them, and any bytes it
        // writes are valid.
        let length =
            check_bytes(unsafe { libc::recvmsg(self.fd.as_raw_fd(), &raw mut header, 0) })?;
        #[allow(clippy::unnecessary_cast, reason = "the field is narrower in some C libraries")]
        buffer.control.set_length(header.msg_controllen as usize);
        Ok((length.min(buffer.bytes.len()), name))
    }

    /// How many frames the kernel has counted for this socket so far, and how many of them it
    /// dropped because they were not received fast enough.
    ///
    /// # Errors
    /// None are expected.
    pub fn statistics(&mut self) -> io::Result<(u64, u64)> {
        let mut counts = [0_u32; 2];
        let mut length = size_of_val(&counts) as libc::socklen_t;
        // SAFETY: pointer and length describe the local `counts`, into which the call writes at
        // most `length` bytes (`struct tpacket_stats`, two integers); every bit pattern is valid.
        check(unsafe {
            libc::getsockopt(
                self.fd.as_raw_fd(),
                libc::SOL_PACKET,
                libc::PACKET_STATISTICS,
                counts.as_mut_ptr().cast(),
                &raw mut length,
            )
        })?;
        let [received, dropped] = counts;
        // Reading them sets the kernel's counters to zero.
        self.received += u64::from(received);
        self.dropped += u64::from(dropped);
        Ok((self.received, self.dropped))
    }
}

impl AsFd for PacketSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl PacketBuffer {
    /// Room for any frame.
    pub fn new() -> Self {
        let bytes = vec![0; OFFLOAD_BYTES + FRAME_BYTES_MAX].into_boxed_slice();
        Self { bytes, control: ControlBuffer::new() }
    }

    fn packet(&self, length: usize) -> Packet<'_> {
        let (offload, _) = self.bytes.split_at(OFFLOAD_BYTES.min(self.bytes.len()));
        let half = |at| array::<2>(offload, at).map_or(0, u16::from_ne_bytes);
        let (flags, kind) = (offload.first().copied(), offload.get(1).copied());
        let kind = kind.unwrap_or_default() & !SEGMENT_ECN;
        let is_cut = matches!(kind, SEGMENT_TCPV4 | SEGMENT_TCPV6 | SEGMENT_UDP);
        let needs_checksum = flags.unwrap_or_default() & NEEDS_CHECKSUM != 0;
        let mut packet = Packet {
            time_ns: 0,
            bytes: self.bytes.get(OFFLOAD_BYTES..length).unwrap_or_default(),
            vlan: None,
            segment_bytes: Some(half(4)).filter(|bytes| is_cut && *bytes > 0),
            checksum_at: Some((half(6), half(8))).filter(|_| needs_checksum),
        };
        for message in self.control.messages() {
            match (message.level, message.kind) {
                (libc::SOL_SOCKET, libc::SCM_TIMESTAMPNS) => {
                    packet.time_ns = time_ns(message.data).unwrap_or_default();
                }
                (libc::SOL_PACKET, libc::PACKET_AUXDATA) => packet.vlan = vlan(message.data),
                _ => {}
            }
        }
        packet
    }
}

impl Default for PacketBuffer {
    fn default() -> Self {
        Self::new()
    }
}

/// A `struct timespec` in ns.
fn time_ns(data: &[u8]) -> Option<u64> {
    const WORD: usize = size_of::<libc::c_long>();
    let seconds = libc::c_long::from_ne_bytes(array(data, 0)?);
    let ns = libc::c_long::from_ne_bytes(array(data, WORD)?);
    let seconds = u64::try_from(seconds).ok()?;
    seconds.checked_mul(1_000_000_000)?.checked_add(u64::try_from(ns).ok()?)
}

/// The tag in a `struct tpacket_auxdata`.
fn vlan(data: &[u8]) -> Option<(u16, u16)> {
    let status = u32::from_ne_bytes(array(data, 0)?);
    if status & STATUS_VLAN == 0 {
        return None;
    }
    let tag = u16::from_ne_bytes(array(data, AUX_TAG_AT)?);
    let ethertype = if status & STATUS_VLAN_TYPE == 0 {
        ETHERTYPE_VLAN
    } else {
        u16::from_ne_bytes(array(data, AUX_TYPE_AT)?)
    };
    Some((ethertype, tag))
}

fn index_of(interface: &str) -> io::Result<c_int> {
    let not_found = || io::Error::from(io::ErrorKind::NotFound);
    let name = CString::new(interface).map_err(|_| not_found())?;
    // SAFETY: the pointer leads to a C string that lives until the call has returned.
    let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
    if index == 0 {
        return Err(not_found());
    }
    c_int::try_from(index).map_err(|_| not_found())
}

fn bind(fd: BorrowedFd<'_>, index: c_int) -> io::Result<()> {
    let address = libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as u16,
        sll_protocol: (libc::ETH_P_ALL as u16).to_be(),
        sll_ifindex: index,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    let length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
    // SAFETY: pointer and length describe the local `address`, which is only read.
    check(unsafe { libc::bind(fd.as_raw_fd(), (&raw const address).cast(), length) }).map(drop)
}

/// Hardware type of the interface the socket is bound to.
fn hardware_type(fd: BorrowedFd<'_>) -> io::Result<u16> {
    let mut name = [0_u8; NAME_BYTES];
    let mut length = NAME_BYTES as libc::socklen_t;
    // SAFETY: pointer and length describe the local `name`, into which the call writes at most
    // `length` bytes; every bit pattern is valid.
    check(unsafe { libc::getsockname(fd.as_raw_fd(), name.as_mut_ptr().cast(), &raw mut length) })?;
    // Behind family (2), protocol (2) and index (4).
    Ok(array::<2>(&name, 8).map_or(0, u16::from_ne_bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_and_times_are_read_from_control_messages() {
        let mut aux = [0_u8; 20];
        aux[..4].copy_from_slice(&(STATUS_VLAN | STATUS_VLAN_TYPE).to_ne_bytes());
        aux[16..18].copy_from_slice(&7_u16.to_ne_bytes());
        aux[18..20].copy_from_slice(&0x88A8_u16.to_ne_bytes());
        assert_eq!(vlan(&aux), Some((0x88A8, 7)));
        aux[..4].copy_from_slice(&STATUS_VLAN.to_ne_bytes());
        assert_eq!(vlan(&aux), Some((0x8100, 7)));
        aux[..4].copy_from_slice(&0_u32.to_ne_bytes());
        assert_eq!(vlan(&aux), None);
        assert_eq!(vlan(&aux[..3]), None);
        let time = [3 as libc::c_long, 5].map(libc::c_long::to_ne_bytes).concat();
        assert_eq!(time_ns(&time), Some(3_000_000_005));
    }

    #[test]
    fn an_interface_that_does_not_exist_is_not_found() {
        let error = PacketSocket::open("none-such-0", &[]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        let error = PacketSocket::open("a\0b", &[]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
