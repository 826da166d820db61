//! The error queue: what the network or this host reported about packets sent earlier.

use super::{UdpSocket, message};
use crate::address::{self, RawAddress, array};
use crate::control::ControlBuffer;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};

/// Most bytes of a refused packet that a report quotes here; enough for every Homa header.
pub const QUOTED_BYTES: usize = 128;

/// Bytes of the kernel's `sock_extended_err`, behind which the offender's address follows.
const EXTENDED_BYTES: usize = 16;

/// Origin of an error report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorOrigin {
    /// This host, about a packet that did not leave it.
    Local,
    /// A host or router on the path, by ICMP.
    Icmp,
    /// A host or router on the path, by ICMPv6.
    Icmp6,
    /// Something else, such as a time stamp.
    Other,
}

/// A report about a packet sent earlier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SocketError {
    /// The error number that it stands for, such as `ECONNREFUSED`.
    pub errno: i32,
    /// Its origin. Reports from the network can be forged by anyone who can guess ports: believe
    /// them only if [`quoted`](Self::quoted) names something that was sent.
    pub origin: ErrorOrigin,
    /// ICMP or ICMPv6 type; 0 for local errors.
    pub icmp_type: u8,
    /// ICMP or ICMPv6 code; 0 for local errors.
    pub icmp_code: u8,
    /// With `EMSGSIZE`: the MTU of the path in bytes (whole IP packets).
    pub mtu: Option<u32>,
    /// Where the packet was sent.
    pub destination: SocketAddr,
    /// Address of the reporting host, if known.
    pub offender: Option<IpAddr>,
    quoted: [u8; QUOTED_BYTES],
    quoted_bytes: u8,
}

impl SocketError {
    /// The beginning of the packet behind its IP and UDP headers, as far as it was quoted (perhaps
    /// not at all).
    pub fn quoted(&self) -> &[u8] {
        self.quoted.get(..usize::from(self.quoted_bytes)).unwrap_or(&[])
    }
}

impl UdpSocket {
    /// Takes the next report from the error queue; `None` if it is empty. Reading clears the
    /// error that the next send or receive would have failed with. Does not allocate.
    ///
    /// # Errors
    /// `Interrupted`: again.
    pub fn read_error(&self) -> io::Result<Option<SocketError>> {
        read(self.as_fd())
    }
}

/// Takes the next report from the error queue of a socket; `None` if it is empty.
pub(crate) fn read(fd: BorrowedFd<'_>) -> io::Result<Option<SocketError>> {
    let mut quoted = [0; QUOTED_BYTES];
    let mut name = RawAddress::EMPTY;
    let mut control = ControlBuffer::new();
    loop {
        let flags = libc::MSG_ERRQUEUE | libc::MSG_DONTWAIT;
        let read = message::receive(fd, &mut quoted, &mut name, &mut control, flags);
        let len = match read {
            Ok((len, _)) => len,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            Err(error) => return Err(error),
        };
        // A report without address or description is of no use; the queue is finite and
        // every round takes one out.
        if let Some(error) = decode(&name, &control, quoted, len) {
            return Ok(Some(error));
        }
    }
}

fn decode(
    name: &RawAddress,
    control: &ControlBuffer,
    quoted: [u8; QUOTED_BYTES],
    len: usize,
) -> Option<SocketError> {
    let report = control.messages().find(|message| {
        matches!(
            (message.level, message.kind),
            (libc::IPPROTO_IP, libc::IP_RECVERR) | (libc::IPPROTO_IPV6, libc::IPV6_RECVERR)
        )
    })?;
    let errno = i32::try_from(report.as_u32()?).ok()?;
    let [origin, icmp_type, icmp_code, _] = array::<4>(report.data, 4)?;
    let info = u32::from_ne_bytes(array(report.data, 8)?);
    let origin = match origin {
        libc::SO_EE_ORIGIN_LOCAL => ErrorOrigin::Local,
        libc::SO_EE_ORIGIN_ICMP => ErrorOrigin::Icmp,
        libc::SO_EE_ORIGIN_ICMP6 => ErrorOrigin::Icmp6,
        _ => ErrorOrigin::Other,
    };
    Some(SocketError {
        errno,
        origin,
        icmp_type,
        icmp_code,
        mtu: (errno == libc::EMSGSIZE && info > 0).then_some(info),
        destination: name.decode()?,
        offender: report
            .data
            .get(EXTENDED_BYTES..)
            .and_then(address::decode)
            .map(|offender| offender.ip()),
        quoted,
        // At most QUOTED_BYTES, which fits.
        quoted_bytes: len.min(QUOTED_BYTES) as u8,
    })
}
