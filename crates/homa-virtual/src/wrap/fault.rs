//! Loses, repeats and reorders packets on purpose.

use std::io;

use homa_core::{RxMeta, Segment, Transmit};

use homa_io::driver::{Driver, PacketSink, Payloads, RxStatus, Unsent};

use crate::dice::Dice;

/// How often what happens to a packet, in 1/1000.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FaultRates {
    /// It disappears.
    pub loss_permille: u16,
    /// It comes twice.
    pub duplicate_permille: u16,
    /// It comes after its successor (received packets only).
    pub reorder_permille: u16,
}

/// Injects faults around the driver within; the same seed injects the same faults.
#[derive(Debug)]
pub struct FaultInjector<D> {
    inner: D,
    rx: FaultRates,
    tx: FaultRates,
    dice: Dice,
    held: Held,
}

impl<D> FaultInjector<D> {
    /// Treats packets received through `inner` by `rx` and packets sent by `tx`.
    pub fn new(inner: D, rx: FaultRates, tx: FaultRates, seed: u64) -> Self {
        Self { inner, rx, tx, dice: Dice::new(seed), held: Held::default() }
    }

    /// The driver within.
    pub fn inner_mut(&mut self) -> &mut D {
        &mut self.inner
    }
}

impl<D: Driver> Driver for FaultInjector<D> {
    fn receive(&mut self, sink: &mut impl PacketSink) -> io::Result<RxStatus> {
        let Self { inner, rx, dice, held, .. } = self;
        let status = inner.receive(&mut FaultySink { rates: *rx, dice, held, sink })?;
        // A packet is held back for the rest of its batch at most: the next one may never come.
        held.release(sink);
        Ok(status)
    }

    fn transmit(
        &mut self,
        transmit: &Transmit,
        segments: &[Segment],
        payloads: &impl Payloads,
    ) -> Result<(), Unsent> {
        for (index, segment) in segments.iter().enumerate() {
            if self.dice.hits(self.tx.loss_permille) {
                continue;
            }
            let one = Transmit {
                segments: 1,
                segment_bytes: segment.wire_bytes(),
                total_bytes: segment.wire_bytes(),
                coalesced: false,
                ..transmit.clone()
            };
            let copies = 1 + usize::from(self.dice.hits(self.tx.duplicate_permille));
            for _ in 0..copies {
                self.inner
                    .transmit(&one, std::slice::from_ref(segment), payloads)
                    .map_err(|unsent| Unsent { first: index, ..unsent })?;
            }
        }
        Ok(())
    }

    leave_to_inner!();
}

/// A packet that waits for its successor. The buffer is used again.
#[derive(Debug, Default)]
struct Held {
    meta: Option<RxMeta>,
    packet: Vec<u8>,
}

impl Held {
    fn hold(&mut self, meta: &RxMeta, packet: &[u8]) {
        self.packet.clear();
        self.packet.extend_from_slice(packet);
        self.meta = Some(*meta);
    }

    fn release(&mut self, sink: &mut impl PacketSink) {
        if let Some(meta) = self.meta.take() {
            sink.packet(&meta, &self.packet);
        }
    }
}

struct FaultySink<'a, S> {
    rates: FaultRates,
    dice: &'a mut Dice,
    held: &'a mut Held,
    sink: &'a mut S,
}

impl<S: PacketSink> PacketSink for FaultySink<'_, S> {
    fn packet(&mut self, meta: &RxMeta, packet: &[u8]) {
        if self.dice.hits(self.rates.loss_permille) {
            return;
        }
        if self.held.meta.is_none() && self.dice.hits(self.rates.reorder_permille) {
            self.held.hold(meta, packet);
            return;
        }
        self.sink.packet(meta, packet);
        if self.dice.hits(self.rates.duplicate_permille) {
            self.sink.packet(meta, packet);
        }
        self.held.release(self.sink);
    }

    leave_to_sink!();
}
