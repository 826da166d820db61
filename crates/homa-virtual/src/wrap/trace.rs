//! Shows every packet to a function, for example to write it to a file.

use std::io;

use homa_core::{Path, RxMeta, Segment, Transmit};

use homa_io::driver::{Driver, PacketSink, Payloads, RxStatus, Unsent};

/// Which way a traced packet went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Received from the path's remote end.
    In,
    /// Sent to it.
    Out,
}

/// Calls a function with each packet (Homa header and payload) that the driver within received or
/// sent.
#[derive(Debug)]
pub struct Tracer<D, F> {
    inner: D,
    show: F,
    buffer: Vec<u8>,
}

impl<D, F: FnMut(Direction, &Path, &[u8])> Tracer<D, F> {
    /// Shows what passes `inner` to `show`.
    pub fn new(inner: D, show: F) -> Self {
        Self { inner, show, buffer: Vec::new() }
    }

    /// The driver within.
    pub fn inner_mut(&mut self) -> &mut D {
        &mut self.inner
    }
}

impl<D: Driver, F: FnMut(Direction, &Path, &[u8])> Driver for Tracer<D, F> {
    fn receive(&mut self, sink: &mut impl PacketSink) -> io::Result<RxStatus> {
        let show = &mut self.show;
        self.inner.receive(&mut TracingSink { show, sink })
    }

    fn transmit(
        &mut self,
        transmit: &Transmit,
        segments: &[Segment],
        payloads: &impl Payloads,
    ) -> Result<(), Unsent> {
        let result = self.inner.transmit(transmit, segments, payloads);
        let sent = result.map_or_else(|unsent| unsent.first, |()| segments.len());
        for segment in segments.iter().take(sent) {
            write_packet(segment, payloads, &mut self.buffer);
            (self.show)(Direction::Out, &transmit.path, &self.buffer);
        }
        result
    }

    leave_to_inner!();
}

/// Replaces the contents of `packet` by what `segment` is on the wire.
pub(crate) fn write_packet(segment: &Segment, payloads: &impl Payloads, packet: &mut Vec<u8>) {
    packet.clear();
    append_packet(segment, payloads, packet);
}

/// As [`write_packet`], behind what is in `packet`.
pub(crate) fn append_packet(segment: &Segment, payloads: &impl Payloads, packet: &mut Vec<u8>) {
    packet.extend_from_slice(segment.header());
    if let Some(rpc) = segment.rpc.filter(|_| !segment.payload.is_empty()) {
        payloads.pieces(rpc, segment.payload.clone(), |piece| packet.extend_from_slice(piece));
    }
    packet.resize(packet.len() + usize::from(segment.padding), 0);
}

struct TracingSink<'a, S, F> {
    show: &'a mut F,
    sink: &'a mut S,
}

impl<S: PacketSink, F: FnMut(Direction, &Path, &[u8])> PacketSink for TracingSink<'_, S, F> {
    fn packet(&mut self, meta: &RxMeta, packet: &[u8]) {
        (self.show)(Direction::In, &meta.path, packet);
        self.sink.packet(meta, packet);
    }

    leave_to_sink!();
}
