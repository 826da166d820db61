//! Pauses, times in which the engine was not driven: a stopped process, a paused machine, a starved
//! runtime. Packets lay unread meanwhile, so silence during a pause says nothing about the peers.

use crate::config::Config;
use crate::time::{Instant, nanos};

/// Pauses remembered: an engine that is always driven late shifts silence by no more than these.
const PAUSES_MAX: usize = 64;

/// A pause is long that takes this part of the silence after which responses are given up.
const LONG_PAUSE_PART: u32 = 8;

/// After a pause of this part of `recovery.finished_memory` a packet may be older than what its
/// sender remembers.
const STALE_PART: u32 = 4;

/// The last pauses, from when to when.
#[derive(Debug)]
pub(crate) struct Pauses {
    ring: [(Instant, Instant); PAUSES_MAX],
    next: usize,
    last_end: Instant,
    /// End of the last pause after which others may have forgotten what was said before.
    forgotten_at: Instant,
    /// Whether packets of that pause may still lie unread.
    unread: bool,
}

impl Pauses {
    pub(crate) const NONE: Self = Self {
        ring: [(Instant::ZERO, Instant::ZERO); PAUSES_MAX],
        next: 0,
        last_end: Instant::ZERO,
        forgotten_at: Instant::ZERO,
        unread: false,
    };

    /// Whether the present packet may have lain unread for so long that its sender has forgotten
    /// the RPC.
    pub(crate) fn may_be_stale(&self) -> bool {
        self.unread
    }

    /// Whether the sender of a request at `asked` may have forgotten it: there was a long pause
    /// since.
    pub(crate) fn may_be_forgotten(&self, asked: Instant) -> bool {
        asked < self.forgotten_at
    }

    /// A look for packets found none: those that come from now on are fresh.
    pub(crate) fn all_read(&mut self) {
        self.unread = false;
    }

    /// Notes that the engine was not driven from `start` to `end`. Returns whether that was so long
    /// that servers gave up responses.
    pub(crate) fn note(&mut self, start: Instant, end: Instant, config: &Config) -> bool {
        self.add(start, end);
        let lasted = end.since(start);
        if lasted >= config.recovery.finished_memory / STALE_PART {
            self.forgotten_at = end;
            self.unread = true;
        }
        lasted >= config.responses.silence
    }

    /// From when on a silence that began at `since` counts: a pause is no silence, nor is as much
    /// time after it, up to a timeout, since what stopped this end may have stopped others.
    #[inline]
    pub(crate) fn counts_from(&self, since: Instant, config: &Config) -> Instant {
        if since >= self.last_end {
            return since;
        }
        self.shifted(since, 0, nanos(config.recovery.timeout))
    }

    /// The same for the silence of clients whose responses are kept: against
    /// [`responses.silence`](crate::Config::responses) short pauses do not matter, and on a busy
    /// machine they come all the time.
    pub(crate) fn unacknowledged_from(&self, since: Instant, config: &Config) -> Instant {
        let least = config.responses.silence / LONG_PAUSE_PART;
        self.shifted(since, nanos(least), nanos(config.recovery.timeout))
    }

    /// Remembers a pause, which ends now; it replaces the oldest.
    fn add(&mut self, start: Instant, end: Instant) {
        if let Some(oldest) = self.ring.get_mut(self.next) {
            *oldest = (start, end);
        }
        self.next = self.next.saturating_add(1).checked_rem(PAUSES_MAX).unwrap_or(0);
        self.last_end = end;
    }

    /// `at`, later by the pauses since of at least `least_ns`, and by as much again up to
    /// `grace_ns` for each, but not later than the end of the last one.
    fn shifted(&self, at: Instant, least_ns: u64, grace_ns: u64) -> Instant {
        let paused_ns = |(start, end): &(Instant, Instant)| end.ns_since((*start).max(at));
        let shift_ns = self
            .ring
            .iter()
            .map(paused_ns)
            .filter(|paused_ns| *paused_ns >= least_ns)
            .map(|paused_ns| paused_ns.saturating_add(paused_ns.min(grace_ns)))
            .fold(0, u64::saturating_add);
        at.plus_ns(shift_ns).min(self.last_end.max(at))
    }
}

/// The clock of the memory against late duplicates. A duplicate that lies unread during a pause
/// must not become too old to be recognised: time without turns counts when all packets have been
/// read, and only for what was remembered before.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReadClock {
    now: Instant,
    /// Time without turns, whose packets may still lie unread.
    unread_ns: u64,
}

impl ReadClock {
    pub(crate) const ZERO: Self = Self { now: Instant::ZERO, unread_ns: 0 };

    pub(crate) fn now(&self) -> Instant {
        self.now
    }

    /// Another turn after `gap_ns`, of which up to `usual_ns` is usual.
    #[inline]
    pub(crate) fn turn(&mut self, gap_ns: u64, usual_ns: u64) {
        let counts_ns = gap_ns.min(usual_ns);
        self.now = self.now.plus_ns(counts_ns);
        self.unread_ns = self.unread_ns.saturating_add(gap_ns.saturating_sub(counts_ns));
    }

    /// A look for packets found none.
    #[inline]
    pub(crate) fn all_read(&mut self) {
        self.now = self.now.plus_ns(core::mem::take(&mut self.unread_ns));
    }

    /// The time for what is remembered from now on.
    #[inline]
    pub(crate) fn stamp(&mut self) -> Instant {
        self.unread_ns = 0;
        self.now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn at(ms: u64) -> Instant {
        Instant::from_nanos(ms * MS)
    }

    #[test]
    fn a_pause_and_its_grace_are_taken_from_a_silence() {
        let mut pauses = Pauses::NONE;
        pauses.add(at(100), at(150));
        assert_eq!(pauses.shifted(at(20), 0, 30 * MS), at(100), "50 ms and 30 ms of grace");
        assert_eq!(pauses.shifted(at(20), 0, 1_000 * MS), at(120));
        assert_eq!(pauses.shifted(at(90), 0, 1_000 * MS), at(150), "not beyond its end");
        assert_eq!(pauses.shifted(at(140), 0, 0), at(150), "what is left of it");
        assert_eq!(pauses.shifted(at(150), 0, 1_000 * MS), at(150));
        assert_eq!(pauses.shifted(at(200), 0, 1_000 * MS), at(200));
        assert_eq!(pauses.shifted(at(20), 51 * MS, 1_000 * MS), at(20), "too short to count");
    }

    #[test]
    fn pauses_without_end_do_not_shift_a_silence_without_end() {
        let mut pauses = Pauses::NONE;
        for turn in 0..1_000 {
            pauses.add(at(40 * turn + 5), at(40 * turn + 40));
        }
        let shifted = pauses.shifted(at(0), 0, 1_000 * MS);
        assert_eq!(shifted, at(64 * 35 * 2), "those that are remembered");
    }
}
