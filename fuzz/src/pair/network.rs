//! The driver of a host, and what a network does to datagrams.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use homa_core::{Carriage, Instant, Path, RxMeta, Segment, Transmit, TransmitError};
use homa_io::driver::{Driver, PacketSink, Payloads, RxCapacity, RxStatus, Unsent};
use homa_wire::Header;

use crate::input::Input;

/// A datagram on its way.
#[derive(Clone, Debug)]
pub(super) struct Datagram {
    pub(super) bytes: Vec<u8>,
    /// As its receiver sees it.
    pub(super) path: Path,
    pub(super) sent_at: Instant,
}

/// What happens to the next datagrams.
#[derive(Clone, Copy, Debug)]
pub(super) enum Fate {
    /// Nothing, to so many.
    Spare(u8),
    /// So many are lost.
    Lose(u8),
    Repeat(Duration),
    Delay(Duration),
    Cut(usize),
    Change {
        at: usize,
        with: u8,
    },
}

impl Fate {
    pub(super) fn new(input: &mut Input<'_>) -> Self {
        match input.below(8) {
            0 => Self::Spare(input.byte() % 32),
            1 | 2 => Self::Lose(input.byte() % 32),
            3 => Self::Repeat(Duration::from_nanos(input.magnitude(33))),
            4 | 5 => Self::Delay(Duration::from_nanos(input.magnitude(33))),
            6 => Self::Cut(input.magnitude(12) as usize),
            _ => Self::Change { at: input.below(120), with: input.byte() },
        }
    }

    /// What happens to one datagram; the fate of several has one less before it.
    pub(super) fn next(&mut self) -> Self {
        let fate = *self;
        match self {
            Self::Spare(left) | Self::Lose(left) => *left = left.saturating_sub(1),
            _ => *self = Self::Spare(0),
        }
        fate
    }

    pub(super) fn is_over(&self) -> bool {
        matches!(self, Self::Spare(0) | Self::Lose(0))
    }
}

/// A host's end of the network.
#[derive(Debug)]
pub(super) struct Port {
    pub(super) address: SocketAddr,
    carriage: Carriage,
    pub(super) mtu: u32,
    /// Why trains are refused, and from which segment on.
    pub(super) refusals: VecDeque<(TransmitError, usize)>,
    pub(super) received: VecDeque<Datagram>,
    pub(super) sent: Vec<Datagram>,
    /// The host's number, as it told last.
    pub(super) incarnation: u32,
}

impl Port {
    pub(super) fn new(address: SocketAddr, carriage: Carriage) -> Self {
        Self {
            address,
            carriage,
            mtu: 1500,
            refusals: VecDeque::new(),
            received: VecDeque::new(),
            sent: Vec::new(),
            incarnation: 0,
        }
    }

    fn refusal(&mut self, transmit: &Transmit) -> Option<Unsent> {
        let ip_bytes = match self.carriage {
            Carriage::Ip => 20,
            _ => 28,
        };
        if transmit.segment_bytes + ip_bytes > self.mtu {
            return Some(Unsent { first: 0, why: TransmitError::TooBig(self.mtu) });
        }
        let (why, first) = self.refusals.pop_front()?;
        let first = if transmit.coalesced { 0 } else { first.min(transmit.segments - 1) };
        Some(Unsent { first, why })
    }
}

impl Driver for Port {
    fn receive(&mut self, sink: &mut impl PacketSink) -> io::Result<RxStatus> {
        while let Some(datagram) = self.received.pop_front() {
            sink.packet(&RxMeta::new(datagram.path), &datagram.bytes);
        }
        Ok(RxStatus::Drained)
    }

    fn transmit(
        &mut self,
        transmit: &Transmit,
        segments: &[Segment],
        payloads: &impl Payloads,
    ) -> Result<(), Unsent> {
        crate::engine::check_train(transmit, segments);
        let refusal = self.refusal(transmit);
        let segments = &segments[..refusal.map_or(segments.len(), |unsent| unsent.first)];
        let path = Path {
            remote: SocketAddr::new(self.address.ip(), transmit.path.local_port),
            local_ip: None,
            local_port: transmit.path.remote.port(),
            ..transmit.path
        };
        let in_datagram = if transmit.coalesced { segments.len().max(1) } else { 1 };
        for datagram in segments.chunks(in_datagram) {
            let mut bytes = Vec::new();
            for segment in datagram {
                let header = Header::parse(segment.header(), segment.wire_bytes());
                let told = header.expect("it can be parsed").common.incarnation;
                self.incarnation = if told == 0 { self.incarnation } else { told };
                bytes.extend_from_slice(segment.header());
                if let Some(rpc) = segment.rpc.filter(|_| !segment.payload.is_empty()) {
                    payloads.pieces(rpc, segment.payload.clone(), &mut |piece| {
                        bytes.extend_from_slice(piece);
                    });
                }
                bytes.resize(bytes.len() + usize::from(segment.padding), 0);
            }
            self.sent.push(Datagram { bytes, path, sent_at: Instant::ZERO });
        }
        refusal.map_or(Ok(()), Err)
    }

    fn path(&mut self, _: SocketAddr) -> (Option<u32>, Option<u32>) {
        (Some(self.mtu), None)
    }

    fn rx_capacity(&self) -> RxCapacity {
        RxCapacity { bytes: 1 << 20, packets: 1 << 10 }
    }

    fn local_addr(&self) -> SocketAddr {
        self.address
    }

    fn carriage(&self) -> Carriage {
        self.carriage
    }

    fn tx_backlog_bytes(&self) -> Option<u64> {
        None
    }

    fn rx_dropped(&self) -> u64 {
        0
    }
}
