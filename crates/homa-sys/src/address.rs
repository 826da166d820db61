//! Socket addresses as the bytes that the kernel reads and writes.
//!
//! Done on bytes, without casting between C structures, so that it is safe code.

use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

/// Bytes of a `sockaddr_in6`, the longest address used here.
pub const ADDRESS_BYTES: usize = 28;
/// Bytes of a `sockaddr_in`.
const ADDRESS_V4_BYTES: usize = 16;

/// The two address families of the internet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// `AF_INET`: takes IPv4 addresses only.
    V4,
    /// `AF_INET6`: takes IPv6 addresses, and IPv4 ones in their mapped form.
    V6,
}

impl Family {
    /// The family that an address itself belongs to.
    pub fn of(ip: IpAddr) -> Self {
        match ip {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }

    /// The number the kernel knows it by.
    pub fn number(self) -> i32 {
        match self {
            Self::V4 => libc::AF_INET,
            Self::V6 => libc::AF_INET6,
        }
    }
}

/// An address in the kernel's layout, aligned as its structures are.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(8))]
pub struct RawAddress {
    bytes: [u8; ADDRESS_BYTES],
    length: u32,
}

impl RawAddress {
    /// Room for an address that the kernel will write.
    pub const EMPTY: Self = Self { bytes: [0; ADDRESS_BYTES], length: ADDRESS_BYTES as u32 };

    /// Encodes `address` for a socket of `family`; an IPv4 address becomes a mapped one on an
    /// IPv6 socket. `None` if an IPv4 socket cannot reach the address at all.
    #[inline]
    pub fn new(address: SocketAddr, family: Family) -> Option<Self> {
        match (address, family) {
            (SocketAddr::V4(v4), Family::V4) => Some(Self::v4(v4)),
            (SocketAddr::V4(v4), Family::V6) => {
                let ip = v4.ip().to_ipv6_mapped();
                Some(Self::v6(SocketAddrV6::new(ip, v4.port(), 0, 0)))
            }
            (SocketAddr::V6(v6), Family::V6) => Some(Self::v6(v6)),
            (SocketAddr::V6(v6), Family::V4) => {
                let ip = v6.ip().to_ipv4_mapped()?;
                Some(Self::v4(SocketAddrV4::new(ip, v6.port())))
            }
        }
    }

    #[inline]
    fn v4(address: SocketAddrV4) -> Self {
        let mut raw = Self { bytes: [0; ADDRESS_BYTES], length: ADDRESS_V4_BYTES as u32 };
        raw.bytes[0..2].copy_from_slice(&(libc::AF_INET as u16).to_ne_bytes());
        raw.bytes[2..4].copy_from_slice(&address.port().to_be_bytes());
        raw.bytes[4..8].copy_from_slice(&address.ip().octets());
        raw
    }

    fn v6(address: SocketAddrV6) -> Self {
        let mut raw = Self::EMPTY;
        raw.bytes[0..2].copy_from_slice(&(libc::AF_INET6 as u16).to_ne_bytes());
        raw.bytes[2..4].copy_from_slice(&address.port().to_be_bytes());
        raw.bytes[4..8].copy_from_slice(&address.flowinfo().to_be_bytes());
        raw.bytes[8..24].copy_from_slice(&address.ip().octets());
        raw.bytes[24..28].copy_from_slice(&address.scope_id().to_ne_bytes());
        raw
    }

    /// Bytes in use (written by the kernel: as it reported, at most [`ADDRESS_BYTES`]).
    pub fn length(&self) -> u32 {
        self.length
    }

    pub(crate) fn as_ptr(&self) -> *const libc::sockaddr {
        self.bytes.as_ptr().cast()
    }

    pub(crate) fn as_mut_ptr(&mut self) -> *mut libc::sockaddr {
        self.bytes.as_mut_ptr().cast()
    }

    /// Notes how many bytes the kernel has written.
    #[inline]
    pub(crate) fn set_length(&mut self, length: u32) {
        self.length = length.min(ADDRESS_BYTES as u32);
    }

    /// The address, with a mapped IPv4 address turned back into IPv4. `None` if it is of
    /// another family.
    #[inline]
    pub fn decode(&self) -> Option<SocketAddr> {
        decode(self.bytes.get(..self.length as usize)?)
    }
}

/// Reads a `sockaddr_in` or `sockaddr_in6` from `bytes`. A mapped IPv4 address becomes IPv4.
/// `None` for another family or too few bytes.
pub fn decode(bytes: &[u8]) -> Option<SocketAddr> {
    match i32::from(u16::from_ne_bytes(*bytes.first_chunk()?)) {
        libc::AF_INET => {
            // A chunk of fixed length is checked once, not for each of its parts.
            let chunk: &[u8; ADDRESS_V4_BYTES] = bytes.first_chunk()?;
            let port = u16::from_be_bytes(array(chunk, 2)?);
            Some(SocketAddrV4::new(array::<4>(chunk, 4)?.into(), port).into())
        }
        libc::AF_INET6 => {
            let chunk: &[u8; ADDRESS_BYTES] = bytes.first_chunk()?;
            let port = u16::from_be_bytes(array(chunk, 2)?);
            let ip = Ipv6Addr::from(array::<16>(chunk, 8)?);
            if let Some(v4) = ip.to_ipv4_mapped() {
                return Some(SocketAddrV4::new(v4, port).into());
            }
            let flowinfo = u32::from_be_bytes(array(chunk, 4)?);
            let scope_id = u32::from_ne_bytes(array(chunk, 24)?);
            Some(SocketAddrV6::new(ip, port, flowinfo, scope_id).into())
        }
        _ => None,
    }
}

/// `N` bytes of `bytes` from `at`, if there are so many.
#[inline]
pub(crate) fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at.checked_add(N)?)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip(address: &str, family: Family) -> SocketAddr {
        RawAddress::new(address.parse().unwrap(), family).unwrap().decode().unwrap()
    }

    #[test]
    fn addresses_survive_the_kernels_layout() {
        for text in ["192.0.2.7:4000", "[2001:db8::9]:1", "[fe80::1%3]:65535"] {
            assert_eq!(round_trip(text, Family::V6), text.parse().unwrap());
        }
        assert_eq!(round_trip("10.0.0.1:80", Family::V4), "10.0.0.1:80".parse().unwrap());
        let mapped = round_trip("[::ffff:10.0.0.1]:80", Family::V4);
        assert_eq!(mapped, "10.0.0.1:80".parse().unwrap());
    }

    #[test]
    fn an_ipv4_socket_has_no_form_for_an_ipv6_address() {
        assert!(RawAddress::new("[::1]:1".parse().unwrap(), Family::V4).is_none());
    }

    #[test]
    fn short_or_foreign_addresses_are_not_decoded() {
        let raw = RawAddress::new("[::1]:9".parse().unwrap(), Family::V6).unwrap();
        for length in 0..ADDRESS_BYTES {
            assert_eq!(decode(&raw.bytes[..length]), None, "{length} bytes");
        }
        assert_eq!(decode(&[1; ADDRESS_BYTES]), None);
    }
}
