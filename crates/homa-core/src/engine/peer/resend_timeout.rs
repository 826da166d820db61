//! The resend timeout of a peer, adapted to how long its reactions take.
//!
//! A RESEND about data that is merely late brings retransmissions, and many of them fill the path
//! that made it late. The time that they take is learnt: it is that of the path as it is now.

use core::time::Duration;

use crate::engine::profile::Profile;
use crate::time::{Instant, nanos};

/// Resend intervals that a Linux host is given until it has reacted once: the first packets take
/// longest.
const UNKNOWN_INTERVALS: u64 = 4;
/// A slow reaction counts for as long as this, and at most for twice as long if others follow.
const WINDOW: Duration = Duration::from_secs(1);
/// A Linux host known to be slower than the timeout is sent a RESEND when its longest reaction and
/// this part of it are over.
const SLACK_PARTS: u64 = 4;
/// That is at most this part of the timeout: what was lost has to come before its request is too
/// old to be sent again.
const SLOW_PART: u64 = 2;
/// RESENDs that fit into the timeout behind the first, at least.
const RESENDS_MIN: u64 = 8;

/// The longest of a peer's recent reactions, and its shortest round trip.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ResendTimeout {
    longest_ns: u64,
    longest_before_ns: u64,
    window: Option<Instant>,
    /// When it was last raised by a spurious retransmission.
    raised: Option<Instant>,
    /// `u64::MAX` = none yet.
    rtt_min_ns: u64,
}

impl ResendTimeout {
    pub(crate) const UNKNOWN: Self = Self {
        longest_ns: 0,
        longest_before_ns: 0,
        window: None,
        raised: None,
        rtt_min_ns: u64::MAX,
    };

    /// Notes how long a reaction took.
    pub(crate) fn note(&mut self, now: Instant, reaction_ns: u64) {
        if self.window.is_some_and(|since| now.since(since) < WINDOW) {
            self.longest_ns = self.longest_ns.max(reaction_ns);
            return;
        }
        self.longest_before_ns = self.longest_ns;
        self.longest_ns = reaction_ns;
        self.window = Some(now);
    }

    /// Notes that a RESEND after `interval_ns` came too early: once per interval, since it brings
    /// many packets.
    pub(crate) fn note_spurious(&mut self, now: Instant, interval_ns: u64) {
        if self.raised.is_none_or(|at| nanos(now.since(at)) >= interval_ns) {
            self.raised = Some(now);
            self.note(now, interval_ns);
        }
    }

    /// Notes a round trip.
    pub(crate) fn note_rtt(&mut self, sent: Instant, now: Instant) {
        self.rtt_min_ns = self.rtt_min_ns.min(nanos(now.since(sent)));
    }

    /// Shortest round trip seen, in ns; `u64::MAX` = none yet.
    pub(crate) fn rtt_min_ns(&self) -> u64 {
        self.rtt_min_ns
    }

    /// Silence before the first RESEND, in ns: twice the longest reaction, at least `base_ns` and
    /// at most an eighth of the timeout. A Linux host whose reactions take longer gets what they
    /// take and a little more. From peers of this implementation nothing is learnt while
    /// they are not asked, so what is known fades, by half per window from the second on: one bad
    /// second must not make later losses dear.
    #[inline]
    pub(crate) fn first_ns(
        &self,
        now: Instant,
        base_ns: u64,
        timeout_ns: impl FnOnce() -> u64,
        profile: Profile,
    ) -> u64 {
        // The peer was never late: what was learnt only fades.
        if profile.is_native()
            && self.longest_ns.max(self.longest_before_ns).saturating_mul(2) <= base_ns
        {
            return base_ns;
        }
        self.learnt_ns(now, base_ns, timeout_ns, profile)
    }

    #[inline(never)]
    fn learnt_ns(
        &self,
        now: Instant,
        base_ns: u64,
        timeout_ns: impl FnOnce() -> u64,
        profile: Profile,
    ) -> u64 {
        let longest_ns = self.longest_ns.max(self.longest_before_ns);
        let wanted = match self.window {
            None => base_ns.saturating_mul(UNKNOWN_INTERVALS),
            Some(since) => {
                let windows = nanos(now.since(since)) / nanos(WINDOW);
                let fades = if profile.is_native() { windows.saturating_sub(1).min(63) } else { 0 };
                longest_ns.saturating_mul(2) >> fades
            }
        };
        if wanted <= base_ns {
            return base_ns;
        }
        let timeout_ns = timeout_ns();
        let usual = wanted.min(timeout_ns / RESENDS_MIN);
        let slow = match profile {
            Profile::Native => 0,
            Profile::Linux => longest_ns.saturating_add(longest_ns / SLACK_PARTS),
        };
        usual.max(slow.min(timeout_ns / SLOW_PART)).max(base_ns)
    }

    /// Silence after which a RESEND is repeated, in ns: as before the first, but so short that
    /// several fit into the timeout, since RESENDs and what they bring get lost as well.
    #[inline]
    pub(crate) fn next_ns(first_ns: u64, base_ns: u64, timeout_ns: impl FnOnce() -> u64) -> u64 {
        if first_ns <= base_ns {
            return first_ns;
        }
        first_ns.min((timeout_ns() / RESENDS_MIN).max(base_ns))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE_NS: u64 = 5_000_000;
    const TIMEOUT_NS: u64 = 1_000_000_000;

    fn first_ns(timeout: &ResendTimeout, at_ms: u64, profile: Profile) -> u64 {
        let now = Instant::ZERO + Duration::from_millis(at_ms);
        timeout.first_ns(now, BASE_NS, || TIMEOUT_NS, profile)
    }

    fn after_reaction(reaction_ms: u64) -> ResendTimeout {
        let mut timeout = ResendTimeout::UNKNOWN;
        timeout.note(Instant::ZERO, reaction_ms * 1_000_000);
        timeout
    }

    #[test]
    fn a_linux_host_is_given_time_until_it_has_reacted() {
        assert_eq!(first_ns(&ResendTimeout::UNKNOWN, 0, Profile::Native), BASE_NS);
        assert_eq!(first_ns(&ResendTimeout::UNKNOWN, 0, Profile::Linux), 4 * BASE_NS);
        assert_eq!(first_ns(&after_reaction(1), 0, Profile::Linux), BASE_NS);
    }

    #[test]
    fn a_slow_reaction_counts_twice_up_to_an_eighth_of_the_timeout() {
        assert_eq!(first_ns(&after_reaction(10), 0, Profile::Native), 20_000_000);
        assert_eq!(first_ns(&after_reaction(400), 0, Profile::Native), TIMEOUT_NS / 8);
        assert_eq!(first_ns(&after_reaction(400), 0, Profile::Linux), TIMEOUT_NS / 2);
        assert_eq!(first_ns(&after_reaction(200), 0, Profile::Linux), 250_000_000);
    }

    #[test]
    fn what_was_learnt_of_our_own_kind_fades() {
        let timeout = after_reaction(10);
        assert_eq!(first_ns(&timeout, 1_999, Profile::Native), 20_000_000);
        assert_eq!(first_ns(&timeout, 2_000, Profile::Native), 10_000_000);
        assert_eq!(first_ns(&timeout, 3_000, Profile::Native), BASE_NS);
        assert_eq!(first_ns(&timeout, 3_000, Profile::Linux), 20_000_000);
    }

    #[test]
    fn a_burst_of_spurious_retransmissions_raises_it_once() {
        let mut timeout = ResendTimeout::UNKNOWN;
        timeout.note(Instant::ZERO, 0);
        timeout.note_spurious(Instant::ZERO, BASE_NS);
        let raised = first_ns(&timeout, 0, Profile::Linux);
        assert_eq!(raised, 2 * BASE_NS);
        timeout.note_spurious(Instant::ZERO, raised);
        assert_eq!(first_ns(&timeout, 0, Profile::Linux), raised);
    }

    #[test]
    fn repetitions_fit_into_the_timeout() {
        assert_eq!(ResendTimeout::next_ns(BASE_NS, BASE_NS, || 0), BASE_NS);
        assert_eq!(ResendTimeout::next_ns(400_000_000, BASE_NS, || TIMEOUT_NS), TIMEOUT_NS / 8);
        assert_eq!(ResendTimeout::next_ns(400_000_000, BASE_NS, || 1), BASE_NS);
    }
}
