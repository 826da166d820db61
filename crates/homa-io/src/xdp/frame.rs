//! Ethernet frames with the headers of IP and UDP: written ahead of packets, and taken off.

use std::net::IpAddr;

use homa_wire::{IP_PROTOCOL, Sum};

/// Bytes of an Ethernet header without a tag.
pub(super) const ETHERNET_BYTES: usize = 14;
const UDP_BYTES: usize = 8;
const UDP: u8 = 17;
/// Longest headers: Ethernet, IPv6, UDP.
const HEADERS_MAX: usize = ETHERNET_BYTES + 40 + UDP_BYTES;
/// Hops that packets live, as Linux sends them.
const TTL: u8 = 64;

/// What frames carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// UDP datagrams.
    Udp,
    /// Homa packets directly in IP packets.
    Ip,
}

impl Form {
    /// Its number in IP headers.
    pub(super) fn protocol(self) -> u8 {
        match self {
            Self::Udp => UDP,
            Self::Ip => IP_PROTOCOL,
        }
    }

    fn header_bytes(self) -> usize {
        match self {
            Self::Udp => UDP_BYTES,
            Self::Ip => 0,
        }
    }
}

/// Both ends of the link that a packet takes, and of its path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ends {
    pub(super) from_mac: [u8; 6],
    pub(super) to_mac: [u8; 6],
    /// Of one IP version.
    pub(super) from: IpAddr,
    pub(super) to: IpAddr,
    /// The port of UDP that packets come from; Homa's own ports are in its packets.
    pub(super) from_port: u16,
}

/// The headers of all packets to one host.
#[derive(Clone, Copy, Debug)]
pub(super) struct Headers {
    bytes: [u8; HEADERS_MAX],
    length: usize,
    form: Form,
    is_v4: bool,
    /// Of the pseudo-header without length.
    pseudo: Sum,
}

impl Headers {
    /// `None` if the addresses are of different IP versions.
    pub(super) fn new(ends: &Ends, form: Form) -> Option<Self> {
        let mut bytes = [0; HEADERS_MAX];
        bytes[..6].copy_from_slice(&ends.to_mac);
        bytes[6..12].copy_from_slice(&ends.from_mac);
        let ip = &mut bytes[ETHERNET_BYTES..];
        let (ether_type, ip_bytes, is_v4) = match (ends.from, ends.to) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                ip[0] = 0x45;
                // Not to be cut by routers.
                ip[6] = 0x40;
                ip[8] = TTL;
                ip[9] = form.protocol();
                ip[12..16].copy_from_slice(&from.octets());
                ip[16..20].copy_from_slice(&to.octets());
                (0x0800_u16, 20, true)
            }
            (IpAddr::V6(from), IpAddr::V6(to)) => {
                ip[0] = 0x60;
                ip[6] = form.protocol();
                ip[7] = TTL;
                ip[8..24].copy_from_slice(&from.octets());
                ip[24..40].copy_from_slice(&to.octets());
                (0x86dd_u16, 40, false)
            }
            _ => return None,
        };
        bytes[12..14].copy_from_slice(&ether_type.to_be_bytes());
        if form == Form::Udp {
            let udp = ETHERNET_BYTES + ip_bytes;
            bytes[udp..udp + 2].copy_from_slice(&ends.from_port.to_be_bytes());
        }
        Some(Self {
            bytes,
            length: ETHERNET_BYTES + ip_bytes + form.header_bytes(),
            form,
            is_v4,
            pseudo: Sum::pseudo_header(ends.from, ends.to, form.protocol(), 0),
        })
    }

    /// Bytes ahead of a Homa packet.
    pub(super) fn len(&self) -> usize {
        self.length
    }

    /// Writes the headers of `packet_bytes` to `port`, with the mark `tos`, to the beginning of a
    /// frame, which has room for them. Over UDP the [checksum](Self::put_checksum) is still
    /// missing.
    #[inline]
    pub(super) fn write(&self, frame: &mut [u8], packet_bytes: usize, port: u16, tos: u8) {
        let Some(headers) = frame.get_mut(..self.length) else {
            return;
        };
        headers.copy_from_slice(&self.bytes[..self.length]);
        let behind_ip = packet_bytes + self.form.header_bytes();
        let ip = &mut headers[ETHERNET_BYTES..];
        if self.is_v4 {
            ip[1] = tos;
            ip[2..4].copy_from_slice(&length(20 + behind_ip));
            let checksum = Sum::of(&ip[..20]).checksum();
            ip[10..12].copy_from_slice(&checksum.to_be_bytes());
        } else {
            ip[0] |= tos >> 4;
            ip[1] = tos << 4;
            ip[4..6].copy_from_slice(&length(behind_ip));
        }
        if self.form == Form::Udp {
            let udp = self.length - UDP_BYTES;
            headers[udp + 2..udp + 4].copy_from_slice(&port.to_be_bytes());
            headers[udp + 4..udp + 6].copy_from_slice(&length(behind_ip));
        }
    }

    /// The sum of what a checksum over UDP covers ahead of `packet_bytes` to `port`, which are
    /// added to it; `None` where there is no checksum.
    #[inline]
    pub(super) fn covered(&self, packet_bytes: usize, port: u16) -> Option<Sum> {
        if self.form != Form::Udp {
            return None;
        }
        let bytes = length(packet_bytes + UDP_BYTES);
        let mut sum = self.pseudo;
        // The length counts twice: in the pseudo-header and in UDP's.
        sum.add(&bytes);
        let udp = self.length - UDP_BYTES;
        sum.add(&self.bytes[udp..udp + 2]);
        sum.add(&port.to_be_bytes());
        sum.add(&bytes);
        Some(sum)
    }

    /// Puts the checksum into the headers at the beginning of a frame.
    #[inline]
    pub(super) fn put_checksum(&self, frame: &mut [u8], sum: Sum) {
        if let Some(field) = frame.get_mut(self.length - 2..self.length) {
            field.copy_from_slice(&sum.nonzero_checksum().to_be_bytes());
        }
    }
}

fn length(bytes: usize) -> [u8; 2] {
    u16::try_from(bytes).unwrap_or(u16::MAX).to_be_bytes()
}

/// A packet as it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Packet<'a> {
    pub(super) from: IpAddr,
    pub(super) to: IpAddr,
    pub(super) tos: u8,
    /// The ports of UDP, or those of Homa.
    pub(super) ports: (u16, u16),
    /// The Homa packet.
    pub(super) bytes: &'a [u8],
}

/// Why a frame carries no packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Garbage {
    /// Headers that contradict each other or the frame's length.
    Malformed,
    /// A checksum is wrong.
    Damaged,
    /// From an address that no other host has.
    Martian,
}

/// Takes the headers off a frame. `may_be_partial`: packets of this host's own kernel may have
/// only the beginning of a checksum, which a card would have completed.
#[inline]
pub(super) fn parse(frame: &[u8], form: Form, may_be_partial: bool) -> Result<Packet<'_>, Garbage> {
    let ether_type: [u8; 2] = array(frame, 12)?;
    let ip = frame.get(ETHERNET_BYTES..).ok_or(Garbage::Malformed)?;
    let (from, to, tos, behind_ip) = match u16::from_be_bytes(ether_type) {
        0x0800 => parse_v4(ip, form)?,
        0x86dd => parse_v6(ip, form)?,
        _ => return Err(Garbage::Malformed),
    };
    let ports =
        (u16::from_be_bytes(array(behind_ip, 0)?), u16::from_be_bytes(array(behind_ip, 2)?));
    let bytes = match form {
        Form::Udp => parse_udp(from, to, behind_ip, may_be_partial)?,
        Form::Ip => behind_ip,
    };
    Ok(Packet { from, to, tos, ports, bytes })
}

type Ip<'a> = (IpAddr, IpAddr, u8, &'a [u8]);

fn parse_v4(ip: &[u8], form: Form) -> Result<Ip<'_>, Garbage> {
    let header: &[u8; 20] = ip.first_chunk().ok_or(Garbage::Malformed)?;
    let total = usize::from(u16::from_be_bytes([header[2], header[3]]));
    let is_fragment = u16::from_be_bytes([header[6], header[7]]) & 0x3fff != 0;
    if header[0] != 0x45 || header[9] != form.protocol() || is_fragment {
        return Err(Garbage::Malformed);
    }
    if Sum::of(header).folded() != u16::MAX {
        return Err(Garbage::Damaged);
    }
    let behind = ip.get(20..total).ok_or(Garbage::Malformed)?;
    let from = std::net::Ipv4Addr::from(array::<4>(header, 12)?);
    let to = std::net::Ipv4Addr::from(array::<4>(header, 16)?);
    // The first byte 0 means this network, 240 and above nobody.
    if from.is_multicast() || from.is_loopback() || from.octets()[0] == 0 || from.octets()[0] >= 240
    {
        return Err(Garbage::Martian);
    }
    Ok((from.into(), to.into(), header[1], behind))
}

fn parse_v6(ip: &[u8], form: Form) -> Result<Ip<'_>, Garbage> {
    let header: &[u8; 40] = ip.first_chunk().ok_or(Garbage::Malformed)?;
    let length = usize::from(u16::from_be_bytes([header[4], header[5]]));
    if header[0] >> 4 != 6 || header[6] != form.protocol() {
        return Err(Garbage::Malformed);
    }
    let behind = ip.get(40..40 + length).ok_or(Garbage::Malformed)?;
    let from = std::net::Ipv6Addr::from(array::<16>(header, 8)?);
    let to = std::net::Ipv6Addr::from(array::<16>(header, 24)?);
    let is_v4 = from.to_ipv4_mapped().is_some() || to.to_ipv4_mapped().is_some();
    if from.is_multicast() || from.is_loopback() || from.is_unspecified() || is_v4 {
        return Err(Garbage::Martian);
    }
    let tos = header[0] << 4 | header[1] >> 4;
    Ok((from.into(), to.into(), tos, behind))
}

fn parse_udp(
    from: IpAddr,
    to: IpAddr,
    behind_ip: &[u8],
    may_be_partial: bool,
) -> Result<&[u8], Garbage> {
    let length = u16::from_be_bytes(array(behind_ip, 4)?);
    let checksum = u16::from_be_bytes(array(behind_ip, 6)?);
    let datagram = behind_ip.get(..usize::from(length)).ok_or(Garbage::Malformed)?;
    let bytes = datagram.get(UDP_BYTES..).ok_or(Garbage::Malformed)?;
    if checksum == 0 {
        // There is none, which IPv6 does not allow.
        return if from.is_ipv4() { Ok(bytes) } else { Err(Garbage::Damaged) };
    }
    let pseudo = Sum::pseudo_header(from, to, UDP, u32::from(length));
    let mut sum = pseudo;
    sum.add(datagram);
    let is_intact = sum.folded() == u16::MAX;
    let is_partial = may_be_partial && checksum == pseudo.folded();
    if is_intact || is_partial { Ok(bytes) } else { Err(Garbage::Damaged) }
}

/// `N` bytes from `at`.
#[inline]
fn array<const N: usize>(bytes: &[u8], at: usize) -> Result<[u8; N], Garbage> {
    let some = bytes.get(at..at + N).and_then(|bytes| bytes.try_into().ok());
    some.ok_or(Garbage::Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;

    const V4: [&str; 2] = ["192.0.2.1", "192.0.2.2"];
    const V6: [&str; 2] = ["2001:db8::1", "fe80::2"];

    fn frame(addresses: [&str; 2], form: Form, packet: &[u8], tos: u8) -> Vec<u8> {
        let ends = Ends {
            from_mac: [2; 6],
            to_mac: [4; 6],
            from: addresses[0].parse().unwrap(),
            to: addresses[1].parse().unwrap(),
            from_port: 0x1234,
        };
        let headers = Headers::new(&ends, form).unwrap();
        let mut frame = vec![0xaa; headers.len()];
        frame.extend(packet);
        headers.write(&mut frame, packet.len(), 0x5678, tos);
        if let Some(mut sum) = headers.covered(packet.len(), 0x5678) {
            sum.add(packet);
            headers.put_checksum(&mut frame, sum);
        }
        frame
    }

    /// Begins with ports, as every Homa packet.
    fn packet(bytes: usize) -> Vec<u8> {
        let mut packet = vec![0x12, 0x34, 0x56, 0x78];
        packet.extend((4..bytes).map(|i| (i * 7) as u8));
        packet
    }

    #[test]
    fn what_was_written_is_read_again() {
        for addresses in [V4, V6] {
            for form in [Form::Udp, Form::Ip] {
                for bytes in [4, 5, 100, 1_401] {
                    let (packet, tos) = (packet(bytes), 46 << 2 | 1);
                    let mut frame = frame(addresses, form, &packet, tos);
                    // Short frames are padded on the way.
                    frame.resize(frame.len() + 20, 0x55);
                    let parsed = parse(&frame, form, false).unwrap();
                    assert_eq!(parsed.bytes, packet);
                    assert_eq!(parsed.from, addresses[0].parse::<IpAddr>().unwrap());
                    assert_eq!(parsed.to, addresses[1].parse::<IpAddr>().unwrap());
                    assert_eq!((parsed.ports, parsed.tos), ((0x1234, 0x5678), tos));
                }
            }
        }
    }

    #[test]
    fn a_frame_is_as_the_kernel_would_send_it() {
        let frame = frame(V4, Form::Udp, b"abcd", 0);
        let expected = [
            4, 4, 4, 4, 4, 4, 2, 2, 2, 2, 2, 2, 8, 0, 0x45, 0, 0, 32, 0, 0, 0x40, 0, 64, 17, 0xb6,
            0xc9, 192, 0, 2, 1, 192, 0, 2, 2, 0x12, 0x34, 0x56, 0x78, 0, 12,
        ];
        assert_eq!(frame[..40], expected);
        assert_eq!(frame[42..], *b"abcd");
    }

    #[test]
    fn a_changed_bit_is_noticed_wherever_a_checksum_covers_it() {
        for addresses in [V4, V6] {
            let good = frame(addresses, Form::Udp, &packet(50), 0);
            // Behind the hop limit of IPv6 and the marks, which nothing covers.
            let first = if addresses == V4 { 14 } else { 22 };
            for at in first..good.len() {
                let mut bad = good.clone();
                bad[at] ^= 0x10;
                assert!(parse(&bad, Form::Udp, false).is_err(), "byte {at}");
            }
        }
    }

    #[test]
    fn the_beginning_of_a_checksum_does_where_it_may() {
        for addresses in [V4, V6] {
            let mut frame = frame(addresses, Form::Udp, &packet(50), 0);
            let [from, to] = addresses.map(|it| it.parse::<IpAddr>().unwrap());
            let partial = Sum::pseudo_header(from, to, UDP, 58).folded();
            let at = frame.len() - 50 - 2;
            frame[at..at + 2].copy_from_slice(&partial.to_be_bytes());
            assert!(parse(&frame, Form::Udp, true).is_ok());
            assert_eq!(parse(&frame, Form::Udp, false), Err(Garbage::Damaged));
        }
    }

    #[test]
    fn only_ipv4_has_datagrams_without_a_checksum() {
        for (addresses, is_ok) in [(V4, true), (V6, false)] {
            let mut frame = frame(addresses, Form::Udp, &packet(50), 0);
            let at = frame.len() - 50 - 2;
            frame[at..at + 2].copy_from_slice(&[0, 0]);
            assert_eq!(parse(&frame, Form::Udp, false).is_ok(), is_ok);
        }
    }

    #[test]
    fn a_frame_cut_off_anywhere_is_malformed() {
        for addresses in [V4, V6] {
            for form in [Form::Udp, Form::Ip] {
                let whole = frame(addresses, form, &packet(30), 0);
                for length in 0..whole.len() {
                    assert!(parse(&whole[..length], form, true).is_err(), "{length}");
                }
            }
        }
    }

    #[test]
    fn packets_of_nobody_are_martians() {
        for from in ["127.0.0.1", "0.1.2.3", "224.0.0.1", "255.255.255.255"] {
            let frame = frame([from, V4[1]], Form::Udp, &packet(9), 0);
            assert_eq!(parse(&frame, Form::Udp, false), Err(Garbage::Martian));
        }
        for from in ["::1", "::", "ff02::1", "::ffff:192.0.2.1"] {
            let frame = frame([from, V6[1]], Form::Udp, &packet(9), 0);
            assert_eq!(parse(&frame, Form::Udp, false), Err(Garbage::Martian));
        }
    }

    #[test]
    fn addresses_of_two_versions_have_no_headers() {
        let ends = Ends {
            from_mac: [0; 6],
            to_mac: [0; 6],
            from: V4[0].parse().unwrap(),
            to: V6[0].parse().unwrap(),
            from_port: 1,
        };
        assert!(Headers::new(&ends, Form::Udp).is_none());
    }

    #[test]
    fn arbitrary_bytes_are_no_packet_and_do_not_panic() {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut random = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        };
        let mut accepted = 0;
        for _ in 0..20_000 {
            let addresses = if random() % 2 == 0 { V4 } else { V6 };
            let form = if random() % 2 == 0 { Form::Udp } else { Form::Ip };
            let mut frame = frame(addresses, form, &packet(4 + random() as usize % 60), 0);
            for _ in 0..1 + random() % 4 {
                let at = random() as usize % frame.len();
                frame[at] = random() as u8;
            }
            frame.truncate(random() as usize % (2 * frame.len()));
            accepted += usize::from(parse(&frame, form, random() % 2 == 0).is_ok());
        }
        // Bytes that nothing covers may change.
        assert!(accepted < 10_000, "{accepted}");
    }
}
