//! IP headers, as far as they say how to read what follows.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::link::be16;

/// IPv6 extension headers walked at most; more than any packet has.
const EXTENSIONS_MAX: usize = 16;
const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const AUTHENTICATION: u8 = 51;
const DESTINATION_OPTIONS: u8 = 60;
const MOBILITY: u8 = 135;

/// An IP packet without its headers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ip<'a> {
    pub(crate) source: IpAddr,
    pub(crate) destination: IpAddr,
    /// TOS octet or traffic class.
    pub(crate) tos: u8,
    /// TTL or hop limit.
    pub(crate) hop_limit: u8,
    /// Number of the protocol of `bytes`.
    pub(crate) protocol: u8,
    /// Present in a piece of a fragmented packet.
    pub(crate) fragment: Option<Fragment>,
    /// Bytes behind the IP headers as these announce, of which `bytes` may hold fewer.
    pub(crate) transport_bytes: u32,
    /// What was recorded of them, without padding of the link.
    pub(crate) bytes: &'a [u8],
    /// Bytes of IP headers.
    pub(crate) header_bytes: usize,
}

/// Where a piece of a fragmented packet belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Fragment {
    /// Bytes of the whole packet in front of this piece.
    pub offset_bytes: u32,
    /// Whether pieces follow.
    pub more: bool,
}

/// Reads the IP headers. `original_bytes` is how long the packet was before the recorder cut it,
/// from the IP header on. `None` if there is no readable IP header.
pub(crate) fn parse(bytes: &[u8], original_bytes: u32) -> Option<Ip<'_>> {
    match bytes.first()? >> 4 {
        4 => parse_v4(bytes, original_bytes),
        6 => parse_v6(bytes, original_bytes),
        _ => None,
    }
}

fn parse_v4(bytes: &[u8], original_bytes: u32) -> Option<Ip<'_>> {
    let header_bytes = usize::from(bytes.first()? & 15) * 4;
    let fixed: &[u8; 20] = bytes.first_chunk()?;
    if header_bytes < fixed.len() {
        return None;
    }
    let announced = match u32::from(be16(fixed, 2)?) {
        // Segmentation offload: longer than the field can say.
        0 => original_bytes,
        announced => announced,
    };
    let transport_bytes = announced.checked_sub(u32::try_from(header_bytes).ok()?)?;
    let flags = be16(fixed, 6)?;
    let fragment =
        Fragment { offset_bytes: u32::from(flags & 0x1FFF) * 8, more: flags & 0x2000 != 0 };
    let [.., s0, s1, s2, s3, d0, d1, d2, d3] = *fixed;
    Some(Ip {
        source: Ipv4Addr::new(s0, s1, s2, s3).into(),
        destination: Ipv4Addr::new(d0, d1, d2, d3).into(),
        tos: *fixed.get(1)?,
        hop_limit: *fixed.get(8)?,
        protocol: *fixed.get(9)?,
        fragment: (fragment.more || fragment.offset_bytes > 0).then_some(fragment),
        transport_bytes,
        bytes: up_to(bytes.get(header_bytes..)?, transport_bytes),
        header_bytes,
    })
}

fn parse_v6(bytes: &[u8], original_bytes: u32) -> Option<Ip<'_>> {
    let fixed: &[u8; 40] = bytes.first_chunk()?;
    let address = |at: usize| -> Option<IpAddr> {
        let octets: [u8; 16] = fixed.get(at..at + 16)?.try_into().ok()?;
        Some(Ipv6Addr::from(octets).into())
    };
    let payload_bytes = match u32::from(be16(fixed, 4)?) {
        0 => original_bytes.checked_sub(40)?,
        announced => announced,
    };
    let mut ip = Ip {
        source: address(8)?,
        destination: address(24)?,
        tos: (be16(fixed, 0)? >> 4) as u8,
        hop_limit: *fixed.get(7)?,
        protocol: *fixed.get(6)?,
        fragment: None,
        transport_bytes: payload_bytes,
        bytes: up_to(bytes.get(40..)?, payload_bytes),
        header_bytes: 40,
    };
    for _ in 0..EXTENSIONS_MAX {
        let Some(extension_bytes) = extension_bytes(&ip) else {
            return Some(ip);
        };
        if ip.protocol == FRAGMENT {
            let field = be16(ip.bytes, 2)?;
            let offset_bytes = u32::from(field & !7);
            ip.fragment = Some(Fragment { offset_bytes, more: field & 1 != 0 });
        }
        ip.protocol = *ip.bytes.first()?;
        ip.bytes = ip.bytes.get(extension_bytes..)?;
        ip.transport_bytes =
            ip.transport_bytes.checked_sub(u32::try_from(extension_bytes).ok()?)?;
        ip.header_bytes += extension_bytes;
        if ip.fragment.is_some_and(|fragment| fragment.offset_bytes > 0) {
            return Some(ip);
        }
    }
    None
}

/// Length of the extension header at the front; `None` if there is another protocol.
fn extension_bytes(ip: &Ip<'_>) -> Option<usize> {
    let length = || ip.bytes.get(1).map_or(0, |length| usize::from(*length));
    match ip.protocol {
        HOP_BY_HOP | ROUTING | DESTINATION_OPTIONS | MOBILITY => Some(8 + 8 * length()),
        AUTHENTICATION => Some(8 + 4 * length()),
        FRAGMENT => Some(8),
        _ => None,
    }
}

/// The first `length` bytes, or all if there are fewer.
fn up_to(bytes: &[u8], length: u32) -> &[u8] {
    usize::try_from(length).ok().and_then(|length| bytes.get(..length)).unwrap_or(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v4(total: u16, flags: u16) -> Vec<u8> {
        let mut packet = vec![0x46, 0xC0];
        packet.extend(total.to_be_bytes());
        packet.extend([0, 0]);
        packet.extend(flags.to_be_bytes());
        packet.extend([64, 146, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, 1, 1, 1, 1]);
        packet.extend([7; 30]);
        packet
    }

    #[test]
    fn options_and_padding_of_the_link_are_left_out() {
        let packet = v4(44, 0x4000);
        let ip = parse(&packet, 54).unwrap();
        assert_eq!((ip.tos, ip.protocol, ip.hop_limit), (0xC0, 146, 64));
        assert_eq!((ip.transport_bytes, ip.bytes, ip.header_bytes), (20, &[7; 20][..], 24));
        assert_eq!(ip.source, IpAddr::from([10, 0, 0, 1]));
        assert_eq!(ip.fragment, None);
    }

    #[test]
    fn fragments_say_where_they_belong() {
        let fragment = |flags| parse(&v4(44, flags), 54).unwrap().fragment;
        assert_eq!(fragment(0x2000), Some(Fragment { offset_bytes: 0, more: true }));
        assert_eq!(fragment(0x0003), Some(Fragment { offset_bytes: 24, more: false }));
    }

    #[test]
    fn a_length_of_zero_means_what_was_recorded() {
        assert_eq!(parse(&v4(0, 0), 54).unwrap().transport_bytes, 30);
        assert!(parse(&v4(20, 0), 54).is_none(), "shorter than its own header");
    }

    #[test]
    fn extension_headers_of_version_6_are_walked_to_the_protocol() {
        let mut packet = vec![0x6C, 0, 0, 0, 0, 28, 0, 64];
        packet.extend([0xFD; 16]);
        packet.extend([0xFE; 16]);
        packet.extend([60, 0, 0, 0, 0, 0, 0, 0]);
        packet.extend([44, 0, 0, 0, 0, 0, 0, 0]);
        packet.extend([146, 0, 0, 1, 0, 0, 0, 1]);
        packet.extend([9; 4]);
        let ip = parse(&packet, 68).unwrap();
        assert_eq!((ip.protocol, ip.tos, ip.transport_bytes), (146, 0xC0, 4));
        assert_eq!(ip.bytes, [9; 4]);
        assert_eq!(ip.fragment, Some(Fragment { offset_bytes: 0, more: true }));
    }
}
