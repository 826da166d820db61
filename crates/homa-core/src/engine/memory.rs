//! The account of memory for incoming messages (`ARCHITECTURE.md`, memory).

use crate::event::RpcKey;

/// How much incoming data may be held. Space is reserved before data is accepted, so storing
/// cannot fail. A part is set aside for one message at a time, the *favourite*: whatever else
/// happens it can complete, so there is no deadlock of half-received messages.
#[derive(Debug)]
pub(crate) struct Memory {
    limit: u64,
    set_aside: u64,
    used: u64,
    favourite: Option<RpcKey>,
    /// Space came free since somebody last looked.
    pub(crate) freed: bool,
}

impl Memory {
    /// `largest` is what one message may need at a time, in bytes.
    pub(crate) fn new(limit: u64, largest: u64) -> Self {
        Self { limit, set_aside: largest.min(limit / 2), used: 0, favourite: None, freed: false }
    }

    pub(crate) fn used(&self) -> u64 {
        self.used
    }

    /// Changes the account of `rpc` from `old` to `new` bytes; `false` (and no change) if there is no
    /// room. Giving back always succeeds.
    pub(crate) fn change(&mut self, rpc: RpcKey, old: u64, new: u64) -> bool {
        if new <= old {
            self.used = self.used.saturating_sub(old.saturating_sub(new));
            self.freed |= new < old;
            if self.used <= self.limit.saturating_sub(self.set_aside) {
                // All that is held fits the ordinary part: what is set aside is whole again.
                self.favourite = None;
            }
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

    /// `rpc` needs nothing any more.
    pub(crate) fn leave(&mut self, rpc: RpcKey) {
        if self.favourite == Some(rpc) {
            self.favourite = None;
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
    fn the_part_set_aside_is_free_as_soon_as_everything_fits_without_it() {
        let mut memory = Memory::new(1000, 400);
        assert!(memory.change(A, 0, 500));
        assert!(memory.change(B, 0, 300), "the favourite");
        assert!(!memory.change(A, 500, 600));
        assert!(memory.change(A, 500, 300));
        assert!(
            memory.change(A, 300, 600),
            "it becomes the favourite while B still holds its part"
        );
    }
}
