//! Refusals sent lately: a message comes in many packets, and one RPC_UNKNOWN answers all of them.

use core::time::Duration;

use crate::time::Instant;

/// Refusals remembered. One that displaces another lets that RPC be refused again.
const SLOTS: usize = 64;

/// An RPC by its peer's hash, our port and our form of its id.
type Named = (u64, u16, u64);

/// The RPCs refused lately, each in the slot that its id and peer choose.
#[derive(Debug)]
pub(crate) struct Refusals {
    slots: [Option<(Named, Instant)>; SLOTS],
}

impl Refusals {
    pub(crate) const NONE: Self = Self { slots: [None; SLOTS] };

    /// Whether an RPC was not refused during the last `interval`; if so it counts as refused now.
    pub(crate) fn is_due(&mut self, now: Instant, named: Named, interval: Duration) -> bool {
        let (peer_hash, _, id) = named;
        let place = usize::try_from((peer_hash ^ (id >> 1)) % SLOTS as u64).unwrap_or(0);
        let Some(slot) = self.slots.get_mut(place) else {
            return false;
        };
        let said = slot.filter(|(told, _)| *told == named);
        let due = said.is_none_or(|(_, at)| now.since(at) >= interval);
        if due {
            *slot = Some((named, now));
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_millis(5);

    #[test]
    fn an_rpc_is_due_once_per_interval_and_each_for_itself() {
        let mut told = Refusals::NONE;
        let mut due = |at_ms: u64, peer: u64, id: u64| {
            let now = Instant::ZERO + Duration::from_millis(at_ms);
            told.is_due(now, (peer, 99, id), INTERVAL)
        };
        assert!(due(0, 7, 2));
        assert!(!due(4, 7, 2));
        assert!(due(4, 7, 4), "another RPC");
        assert!(due(4, 8, 2), "another peer");
        assert!(due(5, 7, 2), "an interval later");
    }

    #[test]
    fn what_is_remembered_has_an_end() {
        let mut told = Refusals::NONE;
        for id in (0..4 * SLOTS as u64).map(|number| 2 * number) {
            assert!(told.is_due(Instant::ZERO, (7, 99, id), INTERVAL));
        }
    }
}
