//! How much a peer may have sent again: the same bytes cost a hostile peer one small packet each time.

use core::time::Duration;

use crate::time::Instant;

/// Bytes retransmitted at the word of one peer in the present resend interval.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RetransmissionBudget {
    spent_bytes: u64,
    since: Instant,
}

impl RetransmissionBudget {
    pub(crate) fn new(now: Instant) -> Self {
        Self { spent_bytes: 0, since: now }
    }

    /// Bytes that are left of `max` per `interval`.
    pub(crate) fn left(&mut self, now: Instant, interval: Duration, max: u64) -> u32 {
        if now.since(self.since) >= interval {
            *self = Self::new(now);
        }
        u32::try_from(max.saturating_sub(self.spent_bytes)).unwrap_or(u32::MAX)
    }

    pub(crate) fn spend(&mut self, bytes: u32) {
        self.spent_bytes = self.spent_bytes.saturating_add(u64::from(bytes));
    }
}
