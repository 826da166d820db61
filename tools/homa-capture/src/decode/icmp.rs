//! ICMP errors that quote Homa packets (docs/spec/protocol.md §14).

use std::net::IpAddr;

use homa_wire::{IP_PROTOCOL, IP_PROTOCOL_TCP, PacketType, is_tcp_form, quoted_sender_id};

use super::ip::{self, Ip};
use super::link::be16;
use super::{Carriage, PROTOCOL_UDP};

pub(crate) const PROTOCOL_ICMP: u8 = 1;
pub(crate) const PROTOCOL_ICMPV6: u8 = 58;
/// Bytes of type, code, checksum and one more word, in front of the quoted packet.
const ICMP_HEADER_BYTES: usize = 8;

/// An ICMP error about a Homa packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IcmpError {
    /// Who reports the error.
    pub source: IpAddr,
    /// Who is told: the sender of the quoted packet.
    pub destination: IpAddr,
    /// ICMP type.
    pub kind: u8,
    /// ICMP code.
    pub code: u8,
    /// What is wrong.
    pub meaning: IcmpMeaning,
    /// The packet the error is about.
    pub quoted: Quoted,
}

/// What an ICMP error says of a peer (docs/spec/protocol.md §14).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum IcmpMeaning {
    /// Nobody uses the port: all RPCs with it fail.
    PortUnreachable,
    /// The host does not speak Homa: all RPCs with it fail.
    ProtocolUnreachable,
    /// The packet was too large for the path; it carries the path's MTU in bytes.
    PacketTooBig(u32),
    /// The host cannot be reached: all RPCs with it fail.
    HostUnreachable,
    /// Another error, which Homa ignores.
    Other,
}

impl IcmpMeaning {
    /// Whether it ends RPCs.
    pub const fn is_fatal(self) -> bool {
        matches!(self, Self::PortUnreachable | Self::ProtocolUnreachable | Self::HostUnreachable)
    }

    /// In words.
    pub const fn name(self) -> &'static str {
        match self {
            Self::PortUnreachable => "port unreachable",
            Self::ProtocolUnreachable => "protocol unreachable",
            Self::PacketTooBig(_) => "packet too big",
            Self::HostUnreachable => "host unreachable",
            Self::Other => "other error",
        }
    }
}

/// The beginning of a Homa packet, as an ICMP error repeats it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quoted {
    /// Its sender.
    pub source: IpAddr,
    /// Its destination.
    pub destination: IpAddr,
    /// What carried it.
    pub carriage: Carriage,
    /// Its source port.
    pub source_port: u16,
    /// Its destination port.
    pub destination_port: u16,
    /// Its type, if enough is quoted.
    pub packet_type: Option<PacketType>,
    /// Its sender's form of the RPC id, if enough is quoted.
    pub sender_id: Option<u64>,
}

/// Reads an ICMP message; `None` unless it is an error about a Homa packet.
pub(crate) fn parse(ip: &Ip<'_>, is_udp_port: impl Fn(u16) -> bool) -> Option<IcmpError> {
    let (&kind, &code) = (ip.bytes.first()?, ip.bytes.get(1)?);
    let word = u32::from_be_bytes(ip.bytes.get(4..8)?.try_into().ok()?);
    let meaning = match ip.protocol {
        PROTOCOL_ICMP => meaning_v4(kind, code, word)?,
        PROTOCOL_ICMPV6 => meaning_v6(kind, code, word)?,
        _ => return None,
    };
    let quoted_bytes = ip.bytes.get(ICMP_HEADER_BYTES..)?;
    let inner = ip::parse(quoted_bytes, u32::MAX)?;
    let quoted = quoted(&inner, is_udp_port)?;
    Some(IcmpError { source: ip.source, destination: ip.destination, kind, code, meaning, quoted })
}

fn meaning_v4(kind: u8, code: u8, word: u32) -> Option<IcmpMeaning> {
    Some(match (kind, code) {
        (3, 2) => IcmpMeaning::ProtocolUnreachable,
        (3, 3) => IcmpMeaning::PortUnreachable,
        (3, 4) => IcmpMeaning::PacketTooBig(word & 0xFFFF),
        (3, _) => IcmpMeaning::HostUnreachable,
        (4 | 5 | 11 | 12, _) => IcmpMeaning::Other,
        _ => return None,
    })
}

fn meaning_v6(kind: u8, code: u8, word: u32) -> Option<IcmpMeaning> {
    Some(match (kind, code) {
        (1, 4) => IcmpMeaning::PortUnreachable,
        (1, 3) => IcmpMeaning::HostUnreachable,
        (2, _) => IcmpMeaning::PacketTooBig(word),
        (4, 1) => IcmpMeaning::ProtocolUnreachable,
        (0..128, _) => IcmpMeaning::Other,
        _ => return None,
    })
}

fn quoted(inner: &Ip<'_>, is_udp_port: impl Fn(u16) -> bool) -> Option<Quoted> {
    let (source_port, destination_port) = (be16(inner.bytes, 0)?, be16(inner.bytes, 2)?);
    let (carriage, homa) = match inner.protocol {
        IP_PROTOCOL => (Carriage::Ip, inner.bytes),
        IP_PROTOCOL_TCP if is_tcp_form(inner.bytes) => (Carriage::Tcp, inner.bytes),
        PROTOCOL_UDP => {
            let homa = inner.bytes.get(super::UDP_HEADER_BYTES..).unwrap_or_default();
            let ours = is_udp_port(source_port) || is_udp_port(destination_port);
            if !ours && !super::is_native_form(homa) {
                return None;
            }
            (Carriage::Udp, homa)
        }
        _ => return None,
    };
    Some(Quoted {
        source: inner.source,
        destination: inner.destination,
        carriage,
        source_port,
        destination_port,
        packet_type: homa.get(11).and_then(|code| PacketType::try_from(*code).ok()),
        sender_id: quoted_sender_id(homa),
    })
}
