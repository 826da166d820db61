//! Counts what passes.

use std::io;

use homa_core::{RxMeta, Segment, Transmit};

use homa_io::driver::{Driver, PacketSink, Payloads, RxStatus, Unsent};

/// Traffic through a [`Counter`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Packets received.
    pub rx_packets: u64,
    /// Bytes received, Homa headers included.
    pub rx_bytes: u64,
    /// Calls of `receive`.
    pub rx_calls: u64,
    /// Packets sent.
    pub tx_packets: u64,
    /// Bytes sent, Homa headers included.
    pub tx_bytes: u64,
    /// Calls of `transmit`.
    pub tx_calls: u64,
    /// Packets the driver refused.
    pub tx_refused: u64,
}

/// Counts packets, bytes and calls of the driver within.
#[derive(Debug)]
pub struct Counter<D> {
    inner: D,
    counts: Counts,
}

impl<D> Counter<D> {
    /// Counts what passes `inner`.
    pub fn new(inner: D) -> Self {
        Self { inner, counts: Counts::default() }
    }

    /// The traffic so far.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// The driver within.
    pub fn inner_mut(&mut self) -> &mut D {
        &mut self.inner
    }
}

impl<D: Driver> Driver for Counter<D> {
    fn receive(&mut self, sink: &mut impl PacketSink) -> io::Result<RxStatus> {
        self.counts.rx_calls += 1;
        let counts = &mut self.counts;
        self.inner.receive(&mut CountingSink { counts, sink })
    }

    fn transmit(
        &mut self,
        transmit: &Transmit,
        segments: &[Segment],
        payloads: &impl Payloads,
    ) -> Result<(), Unsent> {
        self.counts.tx_calls += 1;
        let result = self.inner.transmit(transmit, segments, payloads);
        let sent = result.map_or_else(|unsent| unsent.first, |()| segments.len());
        for segment in segments.iter().take(sent) {
            self.counts.tx_packets += 1;
            self.counts.tx_bytes += u64::from(segment.wire_bytes());
        }
        self.counts.tx_refused += segments.len().saturating_sub(sent) as u64;
        result
    }

    leave_to_inner!();
}

struct CountingSink<'a, S> {
    counts: &'a mut Counts,
    sink: &'a mut S,
}

impl<S: PacketSink> PacketSink for CountingSink<'_, S> {
    fn packet(&mut self, meta: &RxMeta, packet: &[u8]) {
        self.counts.rx_packets += 1;
        self.counts.rx_bytes += packet.len() as u64;
        self.sink.packet(meta, packet);
    }

    leave_to_sink!();
}
