//! Budget of RESENDs. Retransmissions overtake the data they replace: RESENDs for all that is
//! merely late would fill a slow path, or the buffer of a slow host, with them.

use core::time::Duration;

use crate::engine::ctx::Ctx;
use crate::engine::peer::Peer;
use crate::engine::receiver::Receiver;
use crate::engine::receiver::incoming::Incoming;
use crate::engine::rpc::Rpc;
use crate::time::Instant;

/// Resend intervals after which the end of a granted message is asked for although its silence is
/// explained.
const EXPLAINED_INTERVALS: u32 = 4;

/// Payload of a packet of an Ethernet MTU, in round numbers.
const ETHERNET_PAYLOAD: u32 = 1400;

/// Ranges of one message that may be requested now.
#[derive(Debug)]
pub(super) struct ResendBudget {
    /// RESENDs left.
    count: u32,
    /// Bytes per RESEND, at most.
    limit_bytes: u32,
    /// Bytes that may be requested altogether; the first RESEND is for a packet at least.
    room_bytes: u64,
    packet_bytes: u32,
    used_bytes: u64,
}

impl ResendBudget {
    /// Number of bytes to request of `length` missing ones; `None`: nothing more now.
    pub(super) fn next(&mut self, length: u32) -> Option<u32> {
        let left = self.room_bytes.saturating_sub(self.used_bytes);
        let full = left < u64::from(self.packet_bytes);
        if self.count == 0 || (full && self.used_bytes > 0) {
            return None;
        }
        self.count = self.count.saturating_sub(1);
        let left = u32::try_from(left).unwrap_or(u32::MAX).max(self.packet_bytes);
        let limit = self.limit_bytes.min(left);
        // A RESEND for less than is missing ends within a packet: its end is not taken for that
        // of the gap.
        let length = if length < limit { length } else { length.min(limit.saturating_sub(1)) };
        self.used_bytes = self.used_bytes.saturating_add(u64::from(length));
        Some(length)
    }
}

/// Bytes requested lately, of all messages.
#[derive(Debug, Default)]
pub(super) struct RecentResends {
    /// In the resend interval that began then.
    bytes: u64,
    since: Instant,
}

impl Receiver {
    /// Silence before the granted end of a message is requested: shorter messages go first, so
    /// silence is no loss while its sender, or anybody, sends other things. A gap shows loss by
    /// itself, unless what came behind it was granted at a higher priority.
    pub(crate) fn granted_timeout(&self, rpc: &Rpc, peer: Option<&Peer>, ctx: &Ctx) -> Duration {
        let heard = peer.map_or(self.data_at, |peer| peer.last_heard);
        let interval = ctx.config.recovery.resend_interval;
        let other_things = ctx.now.since(heard.max(self.data_at)) < interval;
        let granted = rpc.rx.granted_told > ctx.config.unscheduled_max();
        let lost = |gap: &(u32, u32)| rpc.rx.granting.shows_loss(gap.0);
        let explained = !rpc.rx.data.gaps().iter().any(lost) && granted && other_things;
        if explained { interval * EXPLAINED_INTERVALS } else { Duration::ZERO }
    }

    /// Budget for the RESENDs of a message. If data `may_be_late`, an unresponsive sender is asked
    /// for one packet only until something comes, since the requested range may still be on its
    /// way. While data of others comes the path may be slow as well: one packet first, and more as
    /// retransmissions turn out to be of use.
    pub(super) fn resend_budget(
        &self,
        rx: &Incoming,
        room_bytes: u64,
        may_be_late: bool,
        ctx: &Ctx,
    ) -> ResendBudget {
        let packet_bytes = self.buffer.longest_payload(ctx.now).max(ETHERNET_PAYLOAD);
        let flows = ctx.now.since(self.data_at) < ctx.config.recovery.resend_interval;
        let (count, limit_bytes) = if may_be_late && rx.unresponsive {
            (1, packet_bytes)
        } else if may_be_late && flows {
            let packets = rx.retransmissions_used.saturating_mul(2).saturating_add(1);
            (packets, packet_bytes.saturating_mul(packets))
        } else {
            (u32::MAX, u32::MAX)
        };
        ResendBudget { count, limit_bytes, room_bytes, packet_bytes, used_bytes: 0 }
    }

    /// Bytes that may still be requested in the present resend interval: as much as may be granted
    /// ahead, since as much comes at once.
    pub(super) fn resend_room(&mut self, ctx: &Ctx) -> u64 {
        if ctx.now.since(self.recent_resends.since) >= ctx.config.recovery.resend_interval {
            self.recent_resends = RecentResends { bytes: 0, since: ctx.now };
        }
        self.incoming_cap(ctx).saturating_sub(self.recent_resends.bytes)
    }

    /// Notes the bytes of RESENDs that leave.
    pub(super) fn note_resends(&mut self, resend_budget: &ResendBudget) {
        self.recent_resends.bytes =
            self.recent_resends.bytes.saturating_add(resend_budget.used_bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resend_budget(count: u32, limit_bytes: u32, room_bytes: u64) -> ResendBudget {
        ResendBudget { count, limit_bytes, room_bytes, packet_bytes: 1400, used_bytes: 0 }
    }

    #[test]
    fn without_limits_everything_is_asked_for() {
        let mut all = resend_budget(u32::MAX, u32::MAX, u64::MAX);
        assert_eq!((all.next(5), all.next(1_000_000)), (Some(5), Some(1_000_000)));
    }

    #[test]
    fn a_resend_for_less_than_is_missing_ends_within_a_packet() {
        assert_eq!(resend_budget(1, 1400, 10_000).next(1400), Some(1399));
        assert_eq!(resend_budget(1, 1400, 10_000).next(1399), Some(1399));
        assert_eq!(resend_budget(9, 14_000, 10_000).next(20_000), Some(9_999));
    }

    #[test]
    fn every_message_may_ask_for_a_packet_and_for_more_while_there_is_room() {
        let mut full = resend_budget(u32::MAX, u32::MAX, 0);
        assert_eq!((full.next(9000), full.next(9000)), (Some(1399), None));
        let mut some = resend_budget(u32::MAX, u32::MAX, 3000);
        assert_eq!(
            (some.next(1000), some.next(1000), some.next(1000)),
            (Some(1000), Some(1000), None)
        );
        let mut two = resend_budget(2, 1400, 10_000);
        assert_eq!((two.next(10), two.next(10), two.next(10)), (Some(10), Some(10), None));
    }
}
