//! The packets of an engine, as tests look at them.

use std::net::SocketAddr;
use std::ops::Range;

use homa_core::{Carriage, Engine, Instant, Path, RpcKey, Segment, Transmit};
use homa_wire::{Body, Data, Header, Reason};

pub(crate) const MS: u64 = 1_000_000;
/// Payload of a full packet: IPv4 and UDP at an MTU of 1,500 bytes.
pub(crate) const FULL: u32 = 1500 - 20 - 8 - 56;
/// Port of the engine under test, or of the first of several.
pub(crate) const PORT: u16 = 4000;

pub(crate) fn address(host: u8, port: u16) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, host], port))
}

/// The way over UDP from our port `local_port` to `remote`.
pub(crate) fn path(local_port: u16, remote: SocketAddr) -> Path {
    Path { remote, local_ip: None, local_port, interface: 0, carriage: Carriage::Udp }
}

/// A packet that an engine sent.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    pub(crate) at_ns: u64,
    pub(crate) path: Path,
    pub(crate) priority: u8,
    pub(crate) dscp: u8,
    pub(crate) header: Header,
    /// The header as it was written.
    pub(crate) bytes: Vec<u8>,
    pub(crate) payload: Range<u32>,
    pub(crate) padding: u16,
    /// Length of header, payload and padding.
    pub(crate) wire_bytes: u32,
    pub(crate) rpc: Option<RpcKey>,
}

impl Sent {
    fn new(at: Instant, transmit: &Transmit, segment: &Segment) -> Self {
        Self {
            at_ns: at.as_nanos(),
            path: transmit.path,
            priority: transmit.priority,
            dscp: transmit.dscp,
            header: Header::parse(segment.header(), segment.wire_bytes()).unwrap(),
            bytes: segment.header().to_vec(),
            payload: segment.payload.clone(),
            padding: segment.padding,
            wire_bytes: segment.wire_bytes(),
            rpc: segment.rpc,
        }
    }

    pub(crate) fn id(&self) -> u64 {
        self.header.common.sender_id
    }

    pub(crate) fn is(&self, body: &Body) -> bool {
        self.header.body.packet_type() == body.packet_type()
    }

    pub(crate) fn data(&self) -> Option<&Data> {
        match &self.header.body {
            Body::Data(data) => Some(data),
            _ => None,
        }
    }

    pub(crate) fn is_data(&self) -> bool {
        self.data().is_some()
    }

    /// Range of the message that a DATA packet carries.
    pub(crate) fn range(&self) -> Option<(u32, u32)> {
        self.data().map(|_| (self.payload.start, self.payload.end))
    }

    /// Offset of a GRANT.
    pub(crate) fn grant(&self) -> Option<u32> {
        match &self.header.body {
            Body::Grant(grant) => Some(grant.offset),
            _ => None,
        }
    }

    /// Offset and length of a RESEND.
    pub(crate) fn resend(&self) -> Option<(u32, u32)> {
        match &self.header.body {
            Body::Resend(resend) => Some((resend.offset, resend.length)),
            _ => None,
        }
    }

    /// Reason of an RPC_UNKNOWN.
    pub(crate) fn unknown(&self) -> Option<Reason> {
        matches!(self.header.body, Body::RpcUnknown).then(|| self.header.reason())
    }

    pub(crate) fn is_ack(&self) -> bool {
        matches!(self.header.body, Body::Ack(_))
    }

    pub(crate) fn is_probe(&self) -> bool {
        self.header.body == Body::NeedAck
    }
}

/// The GRANTs among packets: (id in the client's form, offset, priority).
pub(crate) fn grants(sent: &[Sent]) -> Vec<(u64, u32, u8)> {
    let grant = |sent: &Sent| match &sent.header.body {
        Body::Grant(grant) => Some((sent.id() & !1, grant.offset, grant.priority)),
        _ => None,
    };
    sent.iter().filter_map(grant).collect()
}

/// The payload ranges of the DATA among packets, with their priorities.
pub(crate) fn data_of(sent: &[Sent]) -> Vec<(u64, Range<u32>, u8)> {
    let data = |sent: &Sent| sent.data().map(|_| (sent.id(), sent.payload.clone(), sent.priority));
    sent.iter().filter_map(data).collect()
}

/// Payload bytes among packets.
pub(crate) fn data_bytes(sent: &[Sent]) -> u32 {
    data_of(sent).iter().map(|(_, range, _)| range.end - range.start).sum()
}

/// The packets of a train, whose lengths are what it says.
pub(crate) fn read(now: Instant, transmit: &Transmit, segments: &[Segment]) -> Vec<Sent> {
    let segments = &segments[..transmit.segments];
    let total: u32 = segments.iter().map(Segment::wire_bytes).sum();
    assert_eq!(total, transmit.total_bytes);
    let (last, equal) = segments.split_last().unwrap();
    if transmit.coalesced {
        assert_eq!(transmit.segment_bytes, total);
        assert!(!equal.is_empty());
    } else {
        assert!(equal.iter().all(|segment| segment.wire_bytes() == transmit.segment_bytes));
        assert!(last.wire_bytes() <= transmit.segment_bytes);
    }
    segments.iter().map(|segment| Sent::new(now, transmit, segment)).collect()
}

/// Everything that may leave now. Fails if there is no end to it.
#[track_caller]
pub(crate) fn drain(engine: &mut Engine, now: Instant, segments: &mut [Segment]) -> Vec<Sent> {
    let mut sent = Vec::new();
    while let Some(transmit) = engine.poll_transmit(now, segments) {
        sent.extend(read(now, &transmit, segments));
        assert!(sent.len() < 1_000_000, "the engine never stops sending");
    }
    check(engine);
    sent
}

/// All accounts of the engine are right. What many RPCs do is for the worlds: a look at each of
/// them after each step would take most of the time.
pub(crate) fn check(engine: &Engine) {
    if engine.check_cost() <= 1024 {
        engine.check();
    }
}
