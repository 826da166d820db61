//! Where the payload bytes lie: incoming messages in pieces, outgoing ones as the application's
//! buffers.
//!
//! The engine never sees payload; it names byte ranges of messages by [`RpcKey`]. The store keeps
//! one place per table index of the engine, with room for the RPC's incoming and its outgoing
//! message, and takes a key of another generation for an unknown one. Places keep their small
//! tables when they are reused, pieces come from a bounded pool ([`PIECES_KEPT_MAX`]) and short
//! messages share slabs, so that packets cause hardly any allocation in steady state.

mod incoming;
mod outgoing;
mod pool;
mod slab;

use std::ops::Range;

use bytes::Bytes;
use homa_core::{Placement, RpcKey};

use crate::driver::Payloads;
use crate::{Body, Message};
use incoming::Incoming;
use outgoing::Outgoing;
use pool::Pool;

pub use pool::PIECES_KEPT_MAX;

/// The payload of all messages of one engine.
#[derive(Debug, Default)]
pub struct Store {
    slots: Vec<Slot>,
    live: usize,
    pool: Pool,
}

/// Buffers of one RPC.
#[derive(Debug, Default)]
struct Slot {
    /// `None` when unused.
    generation: Option<u32>,
    incoming: Incoming,
    outgoing: Outgoing,
}

impl Store {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    /// Copies the bytes that `placement` names from `packet` to where they belong. A placement that
    /// does not fit the packet or the message copies what does.
    #[inline]
    pub fn place(&mut self, placement: &Placement, packet: &[u8]) {
        let range =
            placement.packet.start as usize..packet.len().min(placement.packet.end as usize);
        let Some(bytes) = packet.get(range) else {
            return;
        };
        let (slot, pool) = self.slot_for(placement.rpc);
        slot.incoming.place(placement.offset, bytes, placement.message_length, pool);
    }

    /// Moves the whole incoming message out; `None` if the key is unknown or bytes are missing.
    pub fn take(&mut self, rpc: RpcKey) -> Option<Message> {
        self.take_with_length(rpc).map(|(message, _)| message)
    }

    /// As [`Store::take`], with the length of all of the message.
    #[inline]
    pub(crate) fn take_with_length(&mut self, rpc: RpcKey) -> Option<(Message, u32)> {
        let (slot, pool) = self.slot_mut(rpc)?;
        let message = slot.incoming.take(pool)?;
        Some((message, slot.incoming.length()))
    }

    /// As [`Store::take_with_length`], for a short message that came in one packet; `None` for any
    /// other.
    #[inline]
    pub(crate) fn take_short(&mut self, rpc: RpcKey) -> Option<(Bytes, u32)> {
        self.slot_mut(rpc)?.0.incoming.take_whole()
    }

    /// Moves the bytes of the incoming message below `upto` out that were not taken before; fewer
    /// if they are not all there. For messages that are read as they arrive.
    pub fn take_upto(&mut self, rpc: RpcKey, upto: u32) -> Option<Message> {
        let (slot, pool) = self.slot_mut(rpc)?;
        Some(slot.incoming.take_upto(upto, pool))
    }

    /// Throws away what has arrived of the incoming message.
    pub(crate) fn discard_incoming(&mut self, rpc: RpcKey) {
        if let Some((slot, pool)) = self.slot_mut(rpc) {
            slot.incoming.clear(pool);
        }
    }

    /// Length of the incoming message and how much of it was taken; `None` if nothing of it has
    /// arrived.
    #[inline]
    pub fn incoming(&self, rpc: RpcKey) -> Option<(u32, u32)> {
        let incoming = &self.slot(rpc)?.incoming;
        (incoming.length() > 0).then(|| (incoming.length(), incoming.taken()))
    }

    /// Keeps `body` as the beginning of the outgoing message of `rpc`, which is `length` bytes
    /// long.
    #[inline]
    pub fn set_outgoing(&mut self, rpc: RpcKey, body: Body, length: u32) {
        self.start_outgoing(rpc, body, length, false);
    }

    /// Keeps `body` as the beginning of the outgoing message of `rpc`, which grows with what is
    /// supplied until it is finished.
    pub fn set_open_outgoing(&mut self, rpc: RpcKey, body: Body) {
        self.start_outgoing(rpc, body, 1, true);
    }

    #[inline]
    fn start_outgoing(&mut self, rpc: RpcKey, body: Body, length: u32, open: bool) {
        let (slot, _) = self.slot_for(rpc);
        match body.into_only_chunk() {
            Ok(whole) if !open && whole.len() == length as usize => {
                slot.outgoing.start_whole(whole, length)
            }
            Ok(chunk) => slot.outgoing.start(chunk.into(), length, open),
            Err(body) => slot.outgoing.start(body, length, open),
        }
    }

    /// Adds bytes to the outgoing message of `rpc` and returns up to where it is known now; `None`,
    /// and nothing is added, if the key is unknown or the message would become longer than
    /// announced. An open message grows, up to 2^32 - 1 bytes.
    pub fn supply(&mut self, rpc: RpcKey, bytes: Bytes) -> Option<u32> {
        self.slot_mut(rpc)?.0.outgoing.append(bytes)
    }

    /// Adds the last byte, zero, to the outgoing message of `rpc` and returns its length, which is
    /// final; `None` if the key is unknown or the message not open.
    pub fn finish(&mut self, rpc: RpcKey) -> Option<u32> {
        self.slot_mut(rpc)?.0.outgoing.finish()
    }

    /// Length of the outgoing message and how much of it was supplied; `None` if there is none.
    pub fn outgoing(&self, rpc: RpcKey) -> Option<(u32, u32)> {
        let outgoing = &self.slot(rpc)?.outgoing;
        (outgoing.length() > 0).then(|| (outgoing.length(), outgoing.supplied()))
    }

    /// Forgets the outgoing buffers that lie below `upto`.
    #[inline]
    pub fn released(&mut self, rpc: RpcKey, upto: u32) {
        if let Some((slot, _)) = self.slot_mut(rpc) {
            slot.outgoing.release(upto);
        }
    }

    /// Forgets the RPC.
    #[inline]
    pub fn remove(&mut self, rpc: RpcKey) {
        if let Some((slot, pool)) = self.slot_mut(rpc) {
            slot.clear(pool);
            slot.generation = None;
            self.live -= 1;
        }
    }

    /// RPCs for which something is kept.
    pub fn live(&self) -> usize {
        self.live
    }

    /// Bytes of incoming messages that were not taken. Visits every place: for tests and reports.
    pub fn incoming_bytes(&self) -> u64 {
        self.slots.iter().map(|slot| slot.incoming.held_bytes()).sum()
    }

    /// Bytes of outgoing messages that were not released. Visits every place: for tests and
    /// reports.
    pub fn outgoing_bytes(&self) -> u64 {
        self.slots.iter().map(|slot| slot.outgoing.held_bytes()).sum()
    }

    /// Compares with the engine whose bytes these are. Visits every place: for tests.
    ///
    /// # Panics
    /// A place is for no RPC, holds more than the engine has reserved for, or lacks bytes that it
    /// may send.
    #[cfg(feature = "check")]
    pub fn check(&self, engine: &homa_core::Engine) {
        let mut known = 0;
        for held in engine.held_bytes() {
            let Some(slot) = self.slot(held.rpc) else {
                assert!(held.outgoing.is_empty(), "no bytes to send: {held:?}");
                continue;
            };
            known += 1;
            let incoming_bytes = slot.incoming.held_bytes();
            let reserved = held.reserved_bytes.is_none_or(|reserved| incoming_bytes <= reserved);
            assert!(reserved, "holds {incoming_bytes} bytes: {held:?}");
            let has = slot.outgoing.first()..slot.outgoing.supplied();
            let all = has.start <= held.outgoing.start && has.end == held.outgoing.end;
            assert!(held.outgoing.is_empty() || all, "can send {has:?} only: {held:?}");
        }
        let live = self.slots.iter().filter(|slot| slot.generation.is_some()).count();
        assert_eq!(self.live, live, "places in use");
        assert_eq!(known, live, "places of RPCs that are gone");
    }

    #[inline]
    fn slot(&self, rpc: RpcKey) -> Option<&Slot> {
        self.slots.get(rpc.index as usize).filter(|slot| slot.is(rpc))
    }

    #[inline]
    fn slot_mut(&mut self, rpc: RpcKey) -> Option<(&mut Slot, &mut Pool)> {
        let slot = self.slots.get_mut(rpc.index as usize)?;
        slot.is(rpc).then_some((slot, &mut self.pool))
    }

    /// The place of `rpc`, made or taken over from an RPC that ended. The index is bounded by the
    /// engine's table (`limits.max_rpcs`).
    #[inline]
    fn slot_for(&mut self, rpc: RpcKey) -> (&mut Slot, &mut Pool) {
        let index = rpc.index as usize;
        if self.slots.len() <= index {
            self.slots.resize_with(index + 1, Slot::default);
        }
        // The table was just made long enough.
        let slot = &mut self.slots[index];
        if !slot.is(rpc) {
            match slot.generation {
                // It was cleared when it became unused.
                None => self.live += 1,
                Some(_) => slot.take_over(&mut self.pool),
            }
            slot.generation = Some(rpc.generation);
        }
        (slot, &mut self.pool)
    }
}

impl Payloads for Store {
    fn pieces<'a>(&'a self, rpc: RpcKey, range: Range<u32>, piece: impl FnMut(&'a [u8])) {
        match self.slot(rpc) {
            Some(slot) => slot.outgoing.pieces(range, piece),
            None => outgoing::zeros(range.end.saturating_sub(range.start) as usize, piece),
        }
    }
}

impl Slot {
    fn is(&self, rpc: RpcKey) -> bool {
        self.generation == Some(rpc.generation)
    }

    // Apart, since an RPC mostly leaves its place empty.
    #[cold]
    fn take_over(&mut self, pool: &mut Pool) {
        self.clear(pool);
    }

    #[inline]
    fn clear(&mut self, pool: &mut Pool) {
        self.incoming.clear(pool);
        self.outgoing.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: RpcKey = RpcKey { index: 3, generation: 1 };
    const NEW: RpcKey = RpcKey { index: 3, generation: 2 };

    fn placement(rpc: RpcKey, packet: Range<u32>, message_length: u32) -> Placement {
        Placement { rpc, offset: 0, packet, message_length }
    }

    #[test]
    fn a_key_of_another_generation_finds_nothing() {
        let mut store = Store::new();
        store.place(&placement(OLD, 2..5, 3), b"##abc");
        store.set_outgoing(OLD, "question".into(), 8);
        assert_eq!(store.take(NEW), None);
        assert_eq!(store.supply(NEW, "x".into()), None);
        store.remove(NEW);
        assert_eq!(store.live(), 1);
        assert_eq!(store.take(OLD).expect("complete"), "abc");
        store.remove(OLD);
        assert_eq!((store.live(), store.outgoing_bytes()), (0, 0));
    }

    #[test]
    fn a_new_generation_takes_the_place_over_clean() {
        let mut store = Store::new();
        store.place(&placement(OLD, 0..3, 6), b"abc");
        store.set_outgoing(OLD, "old".into(), 3);
        store.place(&placement(NEW, 0..2, 2), b"xy");
        assert_eq!(store.live(), 1);
        assert_eq!(store.take(NEW).expect("complete"), "xy");
        assert_eq!(store.outgoing(NEW), None);
        assert_eq!(store.take_upto(OLD, 3), None);
    }

    #[test]
    fn an_outgoing_message_begins_with_any_number_of_buffers_and_goes_on() {
        let bodies = [&[][..], &["a"], &["ab"], &["a", "b"]];
        for (body, open) in bodies.iter().flat_map(|body| [(body, false), (body, true)]) {
            let mut store = Store::new();
            let body: Body = body.iter().map(|part| Bytes::from_static(part.as_bytes())).collect();
            let begun = body.len() as u32;
            match open {
                true => store.set_open_outgoing(OLD, body),
                false => store.set_outgoing(OLD, body, 2),
            }
            let length = if open { begun + 1 } else { 2 };
            assert_eq!(store.outgoing(OLD), Some((length, begun)));
            assert_eq!(store.outgoing_bytes(), u64::from(begun));
            let more = store.supply(OLD, "x".into());
            assert_eq!(more, Some(begun + 1).filter(|upto| open || *upto <= 2));
        }
    }

    #[test]
    fn a_new_body_replaces_the_old_one() {
        let mut store = Store::new();
        for body in ["old", "new", "other"] {
            store.set_outgoing(OLD, body.into(), body.len() as u32);
            assert_eq!(store.outgoing_bytes(), body.len() as u64);
            store.pieces(OLD, 0..body.len() as u32, |piece| assert_eq!(piece, body.as_bytes()));
        }
    }

    #[test]
    fn a_placement_that_does_not_fit_the_packet_is_harmless() {
        let mut store = Store::new();
        store.place(&placement(OLD, 2..50, 3), b"##a");
        store.place(&placement(OLD, 7..9, 3), b"##a");
        assert_eq!(store.incoming_bytes(), 1);
    }

    #[test]
    fn bytes_that_are_gone_are_sent_as_zeros() {
        let store = Store::new();
        let mut sent = Vec::new();
        store.pieces(OLD, 10..20_000, |piece| sent.extend_from_slice(piece));
        assert_eq!(sent, vec![0; 19_990]);
    }
}
