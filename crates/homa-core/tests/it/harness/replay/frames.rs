//! Reads recordings (pcap and pcapng): the Homa packets and the ICMP errors in them. Everything
//! else, also what is damaged, is left out.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

use homa_core::IcmpKind;
use homa_wire::{FLAGS, HEADER_MAX, Header, IP_PROTOCOL, IP_PROTOCOL_TCP, PacketType, URGENT};
use pcap_parser::traits::PcapNGPacketBlock;
use pcap_parser::{Block, PcapBlockOwned, create_reader};

const IP_PROTOCOL_ICMP: u8 = 1;
const IP_PROTOCOL_ICMPV6: u8 = 58;

/// Something of a recording that concerns Homa.
#[derive(Clone, Debug)]
pub(crate) struct Frame {
    /// Since the first frame of the recording.
    pub(crate) at_ns: u64,
    pub(crate) source: IpAddr,
    pub(crate) target: IpAddr,
    pub(crate) content: Content,
}

#[derive(Clone, Debug)]
pub(crate) enum Content {
    Homa(Packet),
    Icmp(Icmp),
}

/// A Homa packet, native or in a TCP frame.
#[derive(Clone, Debug)]
pub(crate) struct Packet {
    pub(crate) header: Header,
    /// From the Homa header on, perhaps cut by the recorder.
    pub(crate) bytes: Vec<u8>,
    pub(crate) transport_len: u32,
    /// Top three bits of the traffic class.
    pub(crate) level: u8,
    /// IP header bytes that count towards the path's MTU.
    pub(crate) ip_header_bytes: u32,
}

/// An ICMP error about a Homa packet.
#[derive(Clone, Debug)]
pub(crate) struct Icmp {
    pub(crate) kind: IcmpKind,
    /// Receiver of the packet it quotes.
    pub(crate) quoted_target: IpAddr,
    /// From the Homa header on.
    pub(crate) quoted: Vec<u8>,
}

impl Frame {
    pub(crate) fn packet(&self) -> Option<&Packet> {
        match &self.content {
            Content::Homa(packet) => Some(packet),
            Content::Icmp(_) => None,
        }
    }
}

/// An IP packet without its header.
struct Ip<'a> {
    source: IpAddr,
    target: IpAddr,
    protocol: u8,
    traffic_class: u8,
    header_bytes: u32,
    /// As long as the header says, although the recorder may have kept less.
    payload_len: u32,
    payload: &'a [u8],
}

/// All frames of a recording in the order of their time.
pub(crate) fn read(path: &Path) -> Vec<Frame> {
    let bytes = fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let records = records(&bytes);
    let first_ns = records.iter().map(|record| record.0).min().unwrap_or(0);
    let mut frames: Vec<Frame> = records
        .iter()
        .filter_map(|(at_ns, link, bytes)| {
            let ip = ip_packet(network_layer(*link, bytes)?)?;
            let content = content(&ip)?;
            Some(Frame { at_ns: at_ns - first_ns, source: ip.source, target: ip.target, content })
        })
        .collect();
    frames.sort_by_key(|frame| frame.at_ns);
    frames
}

/// The unit of times and the link type of an interface.
#[derive(Clone, Copy)]
struct Interface {
    per_second: u64,
    link: u32,
}

impl Interface {
    fn ns(self, ticks: u64) -> u64 {
        let ns = u128::from(ticks) * 1_000_000_000 / u128::from(self.per_second.max(1));
        u64::try_from(ns).unwrap_or(u64::MAX)
    }
}

/// Time, link type and bytes of every record. A file that ends within a record ends there.
fn records(file: &[u8]) -> Vec<(u64, u32, Vec<u8>)> {
    // The whole file is in the reader's memory, so nothing needs to be filled in later.
    let Ok(mut reader) = create_reader(file.len(), std::io::Cursor::new(file)) else {
        return Vec::new();
    };
    let mut interfaces = Vec::new();
    let mut records = Vec::new();
    while let Ok((bytes, block)) = reader.next() {
        match block {
            PcapBlockOwned::LegacyHeader(header) => {
                let per_second =
                    if header.is_nanosecond_precision() { 1_000_000_000 } else { 1_000_000 };
                interfaces.push(Interface { per_second, link: header.network.0 as u32 });
            }
            PcapBlockOwned::Legacy(packet) => {
                let Interface { per_second, link } = interfaces[0];
                let at_ns = u64::from(packet.ts_sec) * 1_000_000_000
                    + u64::from(packet.ts_usec) * (1_000_000_000 / per_second);
                records.push((at_ns, link, packet.data.to_vec()));
            }
            PcapBlockOwned::NG(Block::SectionHeader(_)) => interfaces.clear(),
            PcapBlockOwned::NG(Block::InterfaceDescription(interface)) => {
                let per_second = interface.ts_resolution().unwrap_or(1_000_000);
                interfaces.push(Interface { per_second, link: interface.linktype.0 as u32 });
            }
            PcapBlockOwned::NG(Block::EnhancedPacket(packet)) => {
                if let Some(interface) = interfaces.get(packet.if_id as usize) {
                    let ticks = u64::from(packet.ts_high) << 32 | u64::from(packet.ts_low);
                    let data = packet.packet_data().to_vec();
                    records.push((interface.ns(ticks), interface.link, data));
                }
            }
            PcapBlockOwned::NG(_) => {}
        }
        reader.consume(bytes);
    }
    records
}

/// The bytes behind the link header, if they are IP.
fn network_layer(link: u32, frame: &[u8]) -> Option<&[u8]> {
    const ETHERNET: u32 = 1;
    const RAW: [u32; 3] = [12, 14, 101];
    const LINUX_COOKED: u32 = 113;
    const LINUX_COOKED_2: u32 = 276;
    let (mut at, type_at) = match link {
        ETHERNET => (14, 12),
        LINUX_COOKED => (16, 14),
        LINUX_COOKED_2 => (20, 0),
        _ if RAW.contains(&link) => return Some(frame),
        _ => return None,
    };
    let mut ether_type = be16(frame, type_at)?;
    if ether_type == 0x8100 {
        ether_type = be16(frame, at + 2)?;
        at += 4;
    }
    matches!(ether_type, 0x0800 | 0x86DD).then(|| frame.get(at..)).flatten()
}

fn ip_packet(bytes: &[u8]) -> Option<Ip<'_>> {
    match bytes.first()? >> 4 {
        4 => ipv4(bytes),
        6 => ipv6(bytes),
        _ => None,
    }
}

fn ipv4(bytes: &[u8]) -> Option<Ip<'_>> {
    let header_bytes = usize::from(bytes[0] & 0xF) * 4;
    let total = usize::from(be16(bytes, 2)?);
    let is_fragment = be16(bytes, 6)? & 0x3FFF != 0;
    let address = |at: usize| -> Option<IpAddr> {
        let octets: [u8; 4] = bytes.get(at..at + 4)?.try_into().ok()?;
        Some(Ipv4Addr::from(octets).into())
    };
    (!is_fragment && header_bytes >= 20 && total >= header_bytes).then_some(())?;
    Some(Ip {
        source: address(12)?,
        target: address(16)?,
        protocol: *bytes.get(9)?,
        traffic_class: bytes[1],
        header_bytes: header_bytes as u32,
        payload_len: (total - header_bytes) as u32,
        payload: bytes.get(header_bytes..bytes.len().min(total))?,
    })
}

fn ipv6(bytes: &[u8]) -> Option<Ip<'_>> {
    let address = |at: usize| -> Option<IpAddr> {
        let octets: [u8; 16] = bytes.get(at..at + 16)?.try_into().ok()?;
        Some(Ipv6Addr::from(octets).into())
    };
    let total = 40 + usize::from(be16(bytes, 4)?);
    let (mut protocol, mut at) = (*bytes.get(6)?, 40);
    // Hop-by-hop, routing and destination options say how long they are.
    while matches!(protocol, 0 | 43 | 60) {
        protocol = *bytes.get(at)?;
        at += 8 + 8 * usize::from(*bytes.get(at + 1)?);
    }
    (total >= at).then_some(())?;
    Some(Ip {
        source: address(8)?,
        target: address(24)?,
        protocol,
        traffic_class: (bytes[0] << 4) | (bytes[1] >> 4),
        header_bytes: at as u32,
        payload_len: (total - at) as u32,
        payload: bytes.get(at..bytes.len().min(total))?,
    })
}

fn content(ip: &Ip<'_>) -> Option<Content> {
    match ip.protocol {
        IP_PROTOCOL => homa(ip).map(Content::Homa),
        IP_PROTOCOL_TCP if is_encapsulated(ip.payload) => homa(ip).map(Content::Homa),
        IP_PROTOCOL_ICMP => icmp(ip.payload, false).map(Content::Icmp),
        IP_PROTOCOL_ICMPV6 => icmp(ip.payload, true).map(Content::Icmp),
        _ => None,
    }
}

/// Homa in a TCP frame is marked by flags and urgent pointer (docs/spec/wire-format.md §8).
fn is_encapsulated(tcp: &[u8]) -> bool {
    tcp.get(13) == Some(&FLAGS) && be16(tcp, 18) == Some(URGENT)
}

fn homa(ip: &Ip<'_>) -> Option<Packet> {
    let mut bytes = ip.payload.to_vec();
    let is_cut = bytes.len() < ip.payload_len as usize;
    if is_cut && bytes.get(11) == Some(&PacketType::Ack.code()) {
        // 128 bytes of a frame hold an ACK over IPv6 but for its last entry, which is hardly ever
        // used.
        bytes.resize(PacketType::Ack.header_bytes(), 0);
    }
    let shown = bytes.get(..bytes.len().min(HEADER_MAX))?;
    let header = Header::parse(shown, ip.payload_len).ok()?;
    Some(Packet {
        header,
        bytes,
        transport_len: ip.payload_len,
        level: ip.traffic_class >> 5,
        ip_header_bytes: ip.header_bytes,
    })
}

/// An error about a Homa packet (docs/spec/protocol.md §14).
fn icmp(bytes: &[u8], v6: bool) -> Option<Icmp> {
    let kind = match (v6, bytes.first()?, bytes.get(1)?) {
        (false, 3, 2) | (true, 4, 1) => IcmpKind::ProtocolUnreachable,
        (false, 3, 3) | (true, 1, 4) => IcmpKind::PortUnreachable,
        (false, 3, _) | (true, 1, 3) => IcmpKind::HostUnreachable,
        _ => return None,
    };
    let quoted = ip_packet(bytes.get(8..)?)?;
    let is_homa = quoted.protocol == IP_PROTOCOL
        || (quoted.protocol == IP_PROTOCOL_TCP && is_encapsulated(quoted.payload));
    is_homa.then(|| Icmp { kind, quoted_target: quoted.target, quoted: quoted.payload.to_vec() })
}

fn be16(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}
