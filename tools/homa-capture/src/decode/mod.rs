//! From the bytes of a recorded frame to a Homa packet, without I/O and without state.

pub(crate) mod checksum;
mod icmp;
pub(crate) mod ip;
pub(crate) mod link;
mod train;

use std::net::IpAddr;

use homa_wire::{
    Ack, Body, COMMON_HEADER_BYTES, DATA_HEADER_BYTES, HEADER_MAX, Header, IP_PROTOCOL,
    IP_PROTOCOL_TCP, PacketType, ParseError, URGENT, VERSION_MAGIC, is_tcp_form,
};

pub use checksum::Checksum;
pub use icmp::{IcmpError, IcmpMeaning, Quoted};
pub use ip::Fragment;
pub use link::LinkType;

use homa_wire::Packets;
use icmp::{PROTOCOL_ICMP, PROTOCOL_ICMPV6};
use ip::Ip;
use link::be16;
use train::Segments;

const PROTOCOL_UDP: u8 = 17;
const UDP_HEADER_BYTES: usize = 8;
/// In an ACK: where the first entry begins, and the length of each.
const ACK_ENTRIES_AT: usize = 30;
const ACK_ENTRY_BYTES: usize = 10;

/// What carries a Homa packet in IP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Carriage {
    /// Directly, with protocol number 146.
    Ip,
    /// As something that looks like a TCP packet (docs/spec/wire-format.md §8).
    Tcp,
    /// In UDP datagrams.
    Udp,
}

impl Carriage {
    /// As the command line calls it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ip => "ip",
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

/// A Homa packet found in a frame.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    /// IP address of its sender.
    pub source: IpAddr,
    /// IP address it is for.
    pub destination: IpAddr,
    /// TOS octet or traffic class; its upper three bits hold the priority level.
    pub tos: u8,
    /// TTL or hop limit.
    pub hop_limit: u8,
    /// Outermost VLAN, if tagged.
    pub vlan: Option<u16>,
    /// Known to have stayed on its host.
    pub loopback: bool,
    /// Present if the packet is the first piece of a fragmented one.
    pub fragment: Option<Fragment>,
    /// What carries it.
    pub carriage: Carriage,
    /// TCP form: what its checksum is worth.
    pub checksum: Checksum,
    /// What it says. Fields that the recorder cut off are zero, see [`Frame::header_whole`].
    pub header: Header,
    /// Whether the whole header was recorded.
    pub header_whole: bool,
    /// Bytes of the Homa packet on the wire.
    pub packet_bytes: u32,
    /// What was recorded of them.
    pub bytes: &'a [u8],
}

impl Frame<'_> {
    /// Message bytes the packet carried on the wire, padding behind the message's end included; 0
    /// in control packets.
    pub fn payload_bytes(&self) -> u32 {
        match self.header.body {
            Body::Data(_) => self.packet_bytes.saturating_sub(DATA_HEADER_BYTES as u32),
            _ => 0,
        }
    }

    /// Priority level that the network sees, 0 to 7.
    pub fn level(&self) -> u8 {
        self.tos >> 5
    }

    /// Whether its sender says it is this implementation.
    pub fn is_native_profile(&self) -> bool {
        self.header.common.version().is_some()
    }
}

/// Why bytes that should be a Homa packet are none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum BadReason {
    /// Shorter than its type demands, in bytes (docs/spec/wire-format.md §9 step 1).
    TooShort {
        /// What its type demands.
        need: u32,
        /// What there is.
        got: u32,
    },
    /// A type that does not exist (docs/spec/wire-format.md §4).
    UnknownType(u8),
    /// The IP or UDP header announces more bytes than the frame had.
    LengthLies {
        /// What is announced.
        announced: u32,
        /// What there was on the wire.
        got: u32,
    },
    /// A later piece of a fragmented IP packet: it has no Homa header
    /// (docs/spec/wire-format.md §1).
    Fragment(Fragment),
    /// The recorder cut it before the end of the common header; nothing is wrong with the packet.
    Cut,
}

impl BadReason {
    /// A short name for counters.
    pub const fn name(self) -> &'static str {
        match self {
            Self::TooShort { .. } => "too-short",
            Self::UnknownType(_) => "unknown-type",
            Self::LengthLies { .. } => "length-lies",
            Self::Fragment(_) => "fragment",
            Self::Cut => "cut",
        }
    }
}

/// Bytes that should be a Homa packet and are none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadPacket {
    /// IP address of its sender.
    pub source: IpAddr,
    /// IP address it is for.
    pub destination: IpAddr,
    /// What carries it.
    pub carriage: Carriage,
    /// Source and destination port, if they were recorded.
    pub ports: Option<(u16, u16)>,
    /// Bytes behind the IP or UDP header, as announced.
    pub packet_bytes: u32,
    /// What is wrong.
    pub reason: BadReason,
}

/// What a frame holds.
#[derive(Clone, Copy, Debug)]
#[allow(clippy::large_enum_variant, reason = "it lives on the stack for the time of one packet")]
#[non_exhaustive]
pub enum Decoded<'a> {
    /// A Homa packet.
    Homa(Frame<'a>),
    /// What should be one.
    Bad(BadPacket),
    /// An ICMP error about one.
    Icmp(IcmpError),
    /// Anything else.
    Other,
}

/// Finds Homa packets in frames.
#[derive(Clone, Debug, Default)]
pub struct Decoder {
    udp_ports: Vec<u16>,
}

impl Decoder {
    /// A decoder that takes all datagrams from or to `udp_ports` for Homa. Others are recognised by
    /// their header: this implementation's version, the urgent field and a valid type.
    pub fn new(udp_ports: &[u16]) -> Self {
        Self { udp_ports: udp_ports.to_vec() }
    }

    /// Decodes a frame and gives what it holds to `found`: once, or for each packet of a train of
    /// UDP datagrams that was recorded before the kernel cut it. `original_bytes` is the length of
    /// the frame before the recorder cut it.
    pub fn decode<'a>(
        &self,
        link: LinkType,
        frame: &'a [u8],
        original_bytes: u32,
        mut found: impl FnMut(Decoded<'a>),
    ) {
        let Some(network) = link::network(link, frame) else {
            return found(Decoded::Other);
        };
        let recorded_bytes = u32::try_from(frame.len()).unwrap_or(u32::MAX);
        let link_bytes = network.link_bytes as u32;
        let original_bytes = original_bytes.max(recorded_bytes).saturating_sub(link_bytes);
        let Some(ip) = ip::parse(network.bytes, original_bytes) else {
            return found(Decoded::Other);
        };
        let context = Context { ip, vlan: network.vlan, loopback: network.loopback };
        let on_wire = original_bytes.saturating_sub(ip.header_bytes as u32);
        match ip.protocol {
            IP_PROTOCOL => {
                found(context.packet(Carriage::Ip, ip.bytes, ip.transport_bytes, on_wire))
            }
            IP_PROTOCOL_TCP if is_tcp_form(ip.bytes) && !context.is_later_fragment() => {
                found(context.packet(Carriage::Tcp, ip.bytes, ip.transport_bytes, on_wire));
            }
            PROTOCOL_UDP => self.datagram(&context, on_wire, found),
            PROTOCOL_ICMP | PROTOCOL_ICMPV6 => {
                let error = icmp::parse(&ip, |port| self.udp_ports.contains(&port));
                found(error.map_or(Decoded::Other, Decoded::Icmp));
            }
            _ => found(Decoded::Other),
        }
    }

    fn datagram<'a>(
        &self,
        context: &Context<'a>,
        on_wire: u32,
        mut found: impl FnMut(Decoded<'a>),
    ) {
        let ip = &context.ip;
        let homa = ip.bytes.get(UDP_HEADER_BYTES..).unwrap_or_default();
        let chosen = |at| be16(ip.bytes, at).is_some_and(|port| self.udp_ports.contains(&port));
        let ours = chosen(0) || chosen(2) || is_native_form(homa);
        if !ours || context.is_later_fragment() {
            return found(Decoded::Other);
        }
        let header_bytes = UDP_HEADER_BYTES as u32;
        // A train may be longer than the field can say; then it is zero.
        let announced = match be16(ip.bytes, 4).map_or(0, u32::from) {
            0 => ip.transport_bytes,
            announced => announced.min(ip.transport_bytes),
        };
        let announced = announced.saturating_sub(header_bytes);
        let on_wire = on_wire.saturating_sub(header_bytes);
        for (segment, bytes) in Segments::new(homa, announced) {
            for (packet, bytes) in Packets::new(segment, bytes) {
                found(context.packet(Carriage::Udp, packet, bytes, on_wire));
            }
        }
    }
}

/// What a packet's IP header says.
struct Context<'a> {
    ip: Ip<'a>,
    vlan: Option<u16>,
    loopback: bool,
}

impl Context<'_> {
    fn is_later_fragment(&self) -> bool {
        self.ip.fragment.is_some_and(|fragment| fragment.offset_bytes > 0)
    }

    /// Reads the Homa packet of which `bytes` were recorded, `announced` are said to be there, and
    /// at most `on_wire` were.
    fn packet<'a>(
        &self,
        carriage: Carriage,
        bytes: &'a [u8],
        announced: u32,
        on_wire: u32,
    ) -> Decoded<'a> {
        match self.read(carriage, bytes, announced, on_wire) {
            Ok(frame) => Decoded::Homa(frame),
            Err(reason) => Decoded::Bad(BadPacket {
                source: self.ip.source,
                destination: self.ip.destination,
                carriage,
                ports: be16(bytes, 0).zip(be16(bytes, 2)).filter(|_| !self.is_later_fragment()),
                packet_bytes: announced,
                reason,
            }),
        }
    }

    fn read<'a>(
        &self,
        carriage: Carriage,
        bytes: &'a [u8],
        announced: u32,
        on_wire: u32,
    ) -> Result<Frame<'a>, BadReason> {
        if let Some(fragment) = self.ip.fragment.filter(|fragment| fragment.offset_bytes > 0) {
            return Err(BadReason::Fragment(fragment));
        }
        let whole = usize::try_from(announced).unwrap_or(usize::MAX);
        let bytes = bytes.get(..whole).unwrap_or(bytes);
        let header = read_header(bytes, announced)?;
        if announced > on_wire && self.ip.fragment.is_none() {
            return Err(BadReason::LengthLies { announced, got: on_wire });
        }
        let checked =
            carriage == Carriage::Tcp && bytes.len() == whole && self.ip.fragment.is_none();
        Ok(Frame {
            source: self.ip.source,
            destination: self.ip.destination,
            tos: self.ip.tos,
            hop_limit: self.ip.hop_limit,
            vlan: self.vlan,
            loopback: self.loopback,
            fragment: self.ip.fragment,
            carriage,
            checksum: if checked {
                checksum::check(self.ip.source, self.ip.destination, bytes)
            } else {
                Checksum::Unchecked
            },
            header,
            header_whole: bytes.len() >= header.packet_type().header_bytes(),
            packet_bytes: announced,
            bytes,
        })
    }
}

/// Reads a header of which the recorder may have cut off the end: what is missing reads as zero.
fn read_header(bytes: &[u8], announced: u32) -> Result<Header, BadReason> {
    if bytes.len() < COMMON_HEADER_BYTES && (bytes.len() as u32) < announced {
        return Err(BadReason::Cut);
    }
    let mut padded = [0; HEADER_MAX];
    let recorded = bytes.get(..HEADER_MAX).unwrap_or(bytes);
    if let Some(place) = padded.get_mut(..recorded.len()) {
        place.copy_from_slice(recorded);
    }
    let mut header = Header::parse(&padded, announced).map_err(|error| match error {
        ParseError::UnknownType(code) => BadReason::UnknownType(code),
        ParseError::TooShort { need, .. } => {
            BadReason::TooShort { need: need as u32, got: announced }
        }
        // Other errors can only come from a newer `homa-wire`.
        _ => BadReason::UnknownType(padded.get(11).copied().unwrap_or_default()),
    })?;
    if let Body::Ack(ack) = &mut header.body {
        limit_to_recorded(ack, recorded.len());
    }
    Ok(header)
}

/// Entries that were not recorded do not count.
fn limit_to_recorded(ack: &mut Ack, recorded_bytes: usize) {
    let entries = recorded_bytes.saturating_sub(ACK_ENTRIES_AT) / ACK_ENTRY_BYTES;
    if entries < ack.entries.len() {
        ack.count = ack.count.min(entries as u16);
    }
}

/// Whether a datagram begins with a header of this implementation.
fn is_native_form(bytes: &[u8]) -> bool {
    be16(bytes, 14).is_some_and(|window| window & 0xF000 == VERSION_MAGIC)
        && be16(bytes, 18) == Some(URGENT)
        && bytes.get(11).is_some_and(|code| PacketType::try_from(*code).is_ok())
}
