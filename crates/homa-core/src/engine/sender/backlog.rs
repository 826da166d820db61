//! The queue of the host, where the driver tells its length: as much as keeps it from running empty
//! (docs/spec/protocol.md §7).

use core::ops::RangeInclusive;
use core::time::Duration;

use crate::engine::sender::reserve::Reserve;
use crate::time::Instant;

/// What has not left the host.
#[derive(Debug)]
pub(crate) struct Backlog {
    /// The driver can tell.
    known: bool,
    /// Bytes at the last look, and those handed over since.
    bytes: u64,
    /// When the first of those since was handed over.
    since: Option<Instant>,
    /// Data waits while there are so many bytes; short messages, while there are twice as many.
    limit: Reserve,
    /// Too many were found: data waits for the next look.
    held: bool,
    look_at: Instant,
    wait: Duration,
}

impl Backlog {
    /// Of a driver that has told nothing: no limit.
    pub(crate) fn new() -> Self {
        Self {
            known: false,
            bytes: 0,
            since: None,
            limit: Reserve::new(LIMIT_START, LIMIT_BYTES, PACKET_BYTES / 2),
            held: false,
            look_at: Instant::ZERO,
            wait: WAIT_MIN,
        }
    }

    /// Whether the driver can tell.
    #[inline]
    pub(crate) fn is_known(&self) -> bool {
        self.known
    }

    /// The driver tells how many bytes have not left; `None`: it cannot.
    pub(crate) fn told(&mut self, now: Instant, bytes: Option<u64>) {
        self.known = bytes.is_some();
        let bytes = bytes.unwrap_or(0);
        // After a wait, or at once after the hand-over, data is there that could have been sent.
        let ran_empty = bytes == 0 && (self.held || self.since == Some(now));
        if self.held || ran_empty {
            self.limit.learn(Some(bytes).filter(|_| !ran_empty));
        }
        // Behind a hand-over room for a train is waited for, not for a packet.
        let limit = self.limit.amount();
        let most = if self.held { limit } else { limit - limit / 4 };
        (self.bytes, self.since) = (bytes, None);
        self.wait =
            if self.held && bytes >= most { (self.wait * 2).min(WAIT_MAX) } else { WAIT_MIN };
        self.held = bytes >= most;
        self.look_at = if self.held { now + self.wait } else { Instant::ZERO };
    }

    /// Bytes were handed over.
    #[inline]
    pub(crate) fn sent(&mut self, now: Instant, bytes: u64) {
        self.bytes = self.bytes.saturating_add(bytes);
        self.since.get_or_insert(now);
    }

    /// Bytes were not handed over after all.
    pub(crate) fn not_sent(&mut self, bytes: u64) {
        self.bytes = self.bytes.saturating_sub(bytes);
    }

    /// Whether messages, long or short ones, wait until the driver has told how much is left.
    #[inline]
    pub(crate) fn is_full(&self, short: bool) -> bool {
        self.known && ((self.held && !short) || self.bytes >= self.limit(short))
    }

    /// When it is worth asking the driver.
    #[inline]
    pub(crate) fn look_at(&self) -> Instant {
        self.look_at
    }

    /// Bytes of the longest train; at least one packet goes.
    #[inline]
    pub(crate) fn room(&self, short: bool) -> u32 {
        if !self.known {
            return u32::MAX;
        }
        u32::try_from(self.limit(short).saturating_sub(self.bytes)).unwrap_or(u32::MAX)
    }

    fn limit(&self, short: bool) -> u64 {
        let limit = self.limit.amount();
        if short { limit.saturating_mul(2) } else { limit }
    }
}

/// A full packet of Ethernet.
const PACKET_BYTES: u64 = 1_538;
/// Limit before anything is learnt.
const LIMIT_START: u64 = 8 << 10;
const LIMIT_BYTES: RangeInclusive<u64> = 2 * PACKET_BYTES..=256 << 10;
/// Time until the next look if too many bytes are found; doubles while they are.
const WAIT_MIN: Duration = Duration::from_micros(5);
const WAIT_MAX: Duration = Duration::from_micros(40);

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends over a link of `mbps` for 20 ms all that may go, and looks as often as is asked.
    /// Returns the most bytes that waited in the second half, and how much was sent in it.
    fn over(mbps: u64) -> (u64, u64) {
        let mut backlog = Backlog::new();
        backlog.told(Instant::ZERO, Some(0));
        let (mut queued, mut most, mut sent) = (0, 0, 0);
        for us in 0..20_000 {
            let now = Instant::from_nanos(us * 1_000);
            queued = u64::saturating_sub(queued, mbps / 8);
            let mut handed_over = 0;
            while handed_over < 1 << 20 {
                if !backlog.is_full(false) {
                    let bytes = PACKET_BYTES.max(backlog.room(false).into());
                    backlog.sent(now, bytes);
                    (queued, handed_over) = (queued + bytes, handed_over + bytes);
                } else if now >= backlog.look_at() {
                    backlog.told(now, Some(queued));
                } else {
                    break;
                }
            }
            if us >= 10_000 {
                (most, sent) = (most.max(queued), sent + handed_over);
            }
        }
        (most, sent)
    }

    #[test]
    fn a_link_of_unknown_speed_is_busy_behind_a_short_queue() {
        for mbps in [1_000, 10_000, 25_000, 100_000] {
            let (most, sent) = over(mbps);
            assert!(sent >= mbps * 10_000 / 8 * 95 / 100, "{mbps}: {sent}");
            assert!(most <= mbps * 10 / 8 + 3 * PACKET_BYTES, "{mbps}: {most}");
        }
    }

    #[test]
    fn short_messages_pass_until_as_many_bytes_wait_again() {
        let mut backlog = Backlog::new();
        assert!(!backlog.is_full(false) && backlog.room(false) == u32::MAX);
        backlog.told(Instant::ZERO, Some(LIMIT_START));
        assert!(backlog.is_full(false) && !backlog.is_full(true));
        backlog.sent(Instant::ZERO, LIMIT_START);
        assert!(backlog.is_full(true));
    }

    #[test]
    fn bytes_that_left_long_ago_raise_no_limit() {
        let mut backlog = Backlog::new();
        for ms in 0..1_000 {
            let now = Instant::from_nanos(ms * 1_000_000);
            if backlog.is_full(false) {
                backlog.told(now, Some(0));
            }
            backlog.sent(now, 200);
        }
        assert_eq!(backlog.limit.amount(), LIMIT_START);
    }

    #[test]
    fn a_queue_that_swallows_all_at_once_gets_long_trains() {
        let mut backlog = Backlog::new();
        for _ in 0..1_000 {
            backlog.told(Instant::ZERO, Some(0));
            backlog.sent(Instant::ZERO, backlog.room(false).into());
        }
        assert_eq!(backlog.limit.amount(), *LIMIT_BYTES.end());
    }

    #[test]
    fn a_driver_that_cannot_tell_any_more_limits_nothing() {
        let mut backlog = Backlog::new();
        backlog.told(Instant::ZERO, Some(1 << 20));
        backlog.told(Instant::ZERO, None);
        assert!(!backlog.is_full(false));
    }
}
