//! Budget of retransmissions to a peer: each RESEND costs a hostile peer one small packet. A
//! receiver asks for as much as it has room for, and then for a packet of each further message:
//! both are bounded here, so that a receiver that asks a little later than others, time after time,
//! is not left with nothing.

use core::time::Duration;

use crate::time::Instant;

/// Bytes retransmitted to one peer in the present resend interval.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RetransmissionBudget {
    spent_bytes: u64,
    since: Instant,
}

impl RetransmissionBudget {
    pub(crate) fn new(now: Instant) -> Self {
        Self { spent_bytes: 0, since: now }
    }

    /// Bytes of a message that may be sent again: what is left of `max` per `interval`, and when
    /// nothing is, a packet of `packet_bytes` up to as much again.
    pub(crate) fn left(
        &mut self,
        now: Instant,
        interval: Duration,
        max: u64,
        packet_bytes: u32,
    ) -> u32 {
        if now.since(self.since) >= interval {
            *self = Self::new(now);
        }
        if self.spent_bytes >= max.saturating_mul(2) {
            return 0;
        }
        // At least a packet: the part of it that fits may be all that the receiver has of it.
        let left = max.saturating_sub(self.spent_bytes).max(u64::from(packet_bytes));
        u32::try_from(left).unwrap_or(u32::MAX)
    }

    pub(crate) fn spend(&mut self, bytes: u32) {
        self.spent_bytes = self.spent_bytes.saturating_add(u64::from(bytes));
    }
}
