//! Segments: what a packet of TCP carries.

use crate::{event::MessageId, packet::PacketSize};

/// IP, TCP and the option of timestamps, which every segment has.
const HEADER_BYTES: u32 = 20 + 20 + 12;
/// Options that only a SYN has: segment size, window scale, permission of SACK.
const SYN_BYTES: u32 = 8;
/// A SACK option without blocks, and each of its blocks.
const SACK_BYTES: (u32, u32) = (4, 8);

/// How messages are divided.
pub(super) const PACKET: PacketSize = PacketSize { ip_bytes_max: 1500, header_bytes: HEADER_BYTES };
/// Most bytes of a segment.
pub(super) const MSS: u32 = PACKET.payload_max();

/// Blocks of a SACK option beside timestamps (RFC 2018 §3).
pub(super) const SACK_BLOCKS: usize = 3;

/// A connection between two hosts: the port of the one that opened it, and which way it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Flow {
    pub(super) port: u32,
    pub(super) to_listener: bool,
}

impl Flow {
    /// As segments of the other end name it.
    pub(super) fn reversed(self) -> Self {
        Self { to_listener: !self.to_listener, ..self }
    }
}

/// What a segment is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Syn,
    SynAck,
    /// Every other one.
    Ack,
    Reset,
}

/// Header of a segment. Sequence numbers have 64 bits, so that none wraps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    pub(super) flow: Flow,
    pub(super) kind: Kind,
    pub(super) seq: u64,
    /// Bytes of the stream.
    pub(super) bytes: u32,
    pub(super) ack: u64,
    pub(super) window: u32,
    /// The last bytes of a message.
    pub(super) push: bool,
    pub(super) fin: bool,
    /// The receiver saw a mark of congestion (ECE).
    pub(super) echo: bool,
    /// First and end of what has come beyond `ack`; unused ones are empty.
    pub(super) sack: [(u64, u64); SACK_BLOCKS],
}

impl Segment {
    pub(super) fn new(flow: Flow, kind: Kind, seq: u64, ack: u64) -> Self {
        Self {
            flow,
            kind,
            seq,
            bytes: 0,
            ack,
            window: 0,
            push: false,
            fin: false,
            echo: false,
            sack: [(0, 0); SACK_BLOCKS],
        }
    }

    /// The sequence number after it.
    pub(super) fn end(&self) -> u64 {
        self.seq + u64::from(self.bytes) + u64::from(self.fin)
    }

    /// Length of the IP packet.
    pub(super) fn ip_bytes(&self) -> u32 {
        let blocks = self.sack.iter().filter(|(first, end)| first < end).count() as u32;
        let sack = if blocks > 0 { SACK_BYTES.0 + SACK_BYTES.1 * blocks } else { 0 };
        let syn = if matches!(self.kind, Kind::Syn | Kind::SynAck) { SYN_BYTES } else { 0 };
        HEADER_BYTES + self.bytes + sack + syn
    }
}

/// A segment to send, and the message whose bytes it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sending {
    pub(super) segment: Segment,
    pub(super) message: Option<MessageId>,
}

impl From<Segment> for Sending {
    fn from(segment: Segment) -> Self {
        Self { segment, message: None }
    }
}
