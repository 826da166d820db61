//! The account of memory for incoming messages (`ARCHITECTURE.md`, memory).

use crate::engine::rpc::Rpc;
use crate::event::RpcKey;

/// Strangers may have one part in so many of the ordinary memory.
const STRANGERS_SHARE: u64 = 4;

/// How much incoming data may be held. Space is reserved before data is accepted, so storing
/// cannot fail.
///
/// A part is set aside for one message at a time, the *favourite*: the first that needs it has it
/// until it is over or everything fits without it. All others together never hold more than the
/// ordinary part, and the part set aside holds the longest message: so the favourite always finds
/// memory, and since grant management ranks it first it completes. There is no deadlock of
/// half-received messages.
///
/// What a first packet announces costs its sender nothing, so those who have not proved their address
/// (*strangers*) may have only a quarter of the ordinary part reserved for what has not come yet, and never
/// the part set aside. Whoever finds no room there has to prove its address first.
#[derive(Debug)]
pub(crate) struct Memory {
    limit: u64,
    set_aside: u64,
    used: u64,
    /// Part of `used` that was reserved for announcements of strangers.
    strangers: u64,
    favourite: Option<RpcKey>,
    /// The favourite's message is complete; its memory waits for the application.
    favourite_complete: bool,
    /// Space came free since somebody last looked.
    pub(crate) freed: bool,
}

impl Memory {
    /// `largest` is what one message may need, in bytes; the account is never smaller.
    pub(crate) fn new(limit: u64, largest: u64) -> Self {
        Self {
            limit: limit.max(largest),
            set_aside: largest,
            used: 0,
            strangers: 0,
            favourite: None,
            favourite_complete: false,
            freed: false,
        }
    }

    /// The message that holds, or may take, what is set aside.
    pub(crate) fn favourite(&self) -> Option<RpcKey> {
        self.favourite
    }

    #[cfg(any(test, feature = "check"))]
    pub(crate) fn strangers(&self) -> u64 {
        self.strangers
    }

    #[cfg(any(test, feature = "check"))]
    pub(crate) fn limit(&self) -> u64 {
        self.limit
    }

    pub(crate) fn used(&self) -> u64 {
        self.used
    }

    /// May `bytes` be reserved on the mere word of a stranger?
    pub(crate) fn admits_stranger(&self, bytes: u64) -> bool {
        let ordinary = self.limit.saturating_sub(self.set_aside);
        self.strangers.saturating_add(bytes) <= ordinary / STRANGERS_SHARE
            && self.used.saturating_add(bytes) <= ordinary
    }

    /// Is half of the ordinary memory left after a reservation up to byte `upto`, so that it takes nothing from
    /// those who keep to their grants?
    pub(crate) fn is_plentiful(&self, rpc: &Rpc, upto: u32) -> bool {
        let more = rpc.rx.footprint(upto).saturating_sub(rpc.rx.reserved());
        let ordinary = self.limit.saturating_sub(self.set_aside);
        self.used.saturating_add(more) <= ordinary / 2
    }

    /// What is reserved for the message of `rpc` was announced by a stranger.
    pub(crate) fn count_stranger(&mut self, rpc: &mut Rpc) {
        rpc.rx.stranger_bytes = rpc.rx.reserved();
        self.strangers = self.strangers.saturating_add(rpc.rx.stranger_bytes);
    }

    /// The sender of the message of `rpc` proved its address, the message came or is over.
    pub(crate) fn forget_stranger(&mut self, rpc: &mut Rpc) {
        let bytes = core::mem::take(&mut rpc.rx.stranger_bytes);
        self.strangers = self.strangers.saturating_sub(bytes);
    }

    /// Reserves memory for the incoming message of `rpc` up to byte `upto`, if it is not yet; `false`
    /// (and no change) if there is no room.
    #[inline]
    pub(crate) fn reserve(&mut self, rpc: &mut Rpc, upto: u32) -> bool {
        upto <= rpc.rx.reserved_upto || self.reserve_more(rpc, upto)
    }

    fn reserve_more(&mut self, rpc: &mut Rpc, upto: u32) -> bool {
        let rx = &mut rpc.rx;
        if !self.change(rpc.key, rx.reserved(), rx.footprint(upto)) {
            return false;
        }
        rx.reserved_upto = upto;
        true
    }

    /// Changes the account of `rpc` from `old` to `new` bytes; `false` (and no change) if there is no
    /// room. Giving back always succeeds.
    pub(crate) fn change(&mut self, rpc: RpcKey, old: u64, new: u64) -> bool {
        if new <= old {
            self.used = self.used.saturating_sub(old.saturating_sub(new));
            self.freed |= new < old;
            self.replace_favourite();
            return true;
        }
        let after = self.used.saturating_add(new.saturating_sub(old));
        let ordinary = self.limit.saturating_sub(self.set_aside);
        if after > ordinary {
            if after > self.limit || self.favourite.is_some_and(|owner| owner != rpc) {
                return false;
            }
            self.favourite = Some(rpc);
        }
        self.used = after;
        true
    }

    /// The message of `rpc` is complete: it needs no more memory than it has.
    pub(crate) fn complete(&mut self, rpc: RpcKey) {
        self.favourite_complete |= self.favourite == Some(rpc);
        self.replace_favourite();
    }

    /// A complete favourite makes way as soon as all that is held fits the ordinary part: then what is set
    /// aside is whole again.
    fn replace_favourite(&mut self) {
        if self.favourite_complete && self.used <= self.limit.saturating_sub(self.set_aside) {
            self.favourite = None;
            self.favourite_complete = false;
            self.freed = true;
        }
    }

    /// Gives back all that is reserved for the incoming message of `rpc`.
    pub(crate) fn release(&mut self, rpc: &mut Rpc) {
        self.forget_stranger(rpc);
        let reserved = rpc.rx.reserved();
        self.change(rpc.key, reserved, 0);
        self.leave(rpc.key);
        rpc.rx.reserved_upto = 0;
    }

    /// `rpc` needs nothing any more.
    pub(crate) fn leave(&mut self, rpc: RpcKey) {
        if self.favourite == Some(rpc) {
            self.favourite = None;
            self.favourite_complete = false;
            self.freed = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: RpcKey = RpcKey { index: 0, generation: 0 };
    const B: RpcKey = RpcKey { index: 1, generation: 0 };

    #[test]
    fn the_favourite_always_finds_what_the_longest_message_needs() {
        for limit in [0u64, 400, 500, 1000] {
            let mut memory = Memory::new(limit, 400);
            let ordinary = limit.saturating_sub(400);
            assert!(memory.change(B, 0, ordinary), "others take all they can get");
            assert!(memory.change(A, 0, 400), "limit {limit}");
            assert!(!memory.change(B, ordinary, ordinary + 1), "limit {limit}");
        }
    }

    #[test]
    fn the_part_set_aside_serves_one_message_at_a_time() {
        let mut memory = Memory::new(1000, 400);
        assert!(memory.change(A, 0, 600));
        assert!(memory.change(A, 600, 700), "the first to need it becomes the favourite");
        assert!(!memory.change(B, 0, 100));
        assert!(memory.change(A, 700, 1000));
        assert!(!memory.change(A, 1000, 1001));
        assert!(memory.change(A, 1000, 0));
        memory.leave(A);
        assert!(memory.freed);
        assert!(memory.change(B, 0, 1000));
    }

    #[test]
    fn a_complete_favourite_makes_way_when_everything_fits_without_the_part_set_aside() {
        let mut memory = Memory::new(1000, 400);
        assert!(memory.change(A, 0, 500));
        assert!(memory.change(B, 0, 300), "the favourite");
        assert!(memory.change(A, 500, 300));
        assert!(!memory.change(A, 300, 301 + 300), "B may still need what is set aside");
        memory.complete(B);
        assert!(memory.freed);
        assert!(memory.change(A, 300, 700), "the favourite while B still holds its part");
    }
}
