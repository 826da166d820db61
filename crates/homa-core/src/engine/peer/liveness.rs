//! Liveness of a peer: probes ("do you have this RPC?"), and when the RPCs that wait for the peer
//! are probed.

use core::time::Duration;

use crate::addr::Path;
use crate::config::Config;
use crate::event::FailReason;
use crate::time::{Instant, nanos};

/// A probe that waits for its answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Probe {
    /// The path of the RPC that was named: a peer may be reached from several ports of ours.
    pub(crate) path: Path,
    /// Id (our form) of that RPC.
    pub(crate) id: u64,
    pub(crate) first_sent: Instant,
    pub(crate) next_send: Instant,
    pub(crate) tries: u32,
}

#[derive(Debug)]
pub(crate) struct Liveness {
    probe: Option<Probe>,
    /// Time between two probes while RPCs wait.
    interval_ns: u64,
    next_probe: Instant,
    /// Client RPCs that wait for the peer, all confirmed.
    waiting: u32,
    /// Waiting RPCs still to be probed without a pause: the peer may have lost them.
    recheck: u32,
    /// Whether all are probed once more, since one of them was lost meanwhile.
    recheck_again: bool,
    /// When that may begin.
    recheck_from: Instant,
    /// The pause before that: the longer the more often it happens.
    recheck_pause: Duration,
    /// When the peer last answered a probe, or showed that it had taken what was on its way.
    reacted_at: Instant,
    /// Why calls to the peer fail, some at a time.
    failing: Option<FailReason>,
}

impl Liveness {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            probe: None,
            interval_ns: 0,
            next_probe: Instant::FAR_FUTURE,
            waiting: 0,
            recheck: 0,
            recheck_again: false,
            recheck_from: Instant::ZERO,
            recheck_pause: Duration::ZERO,
            reacted_at: now,
            failing: None,
        }
    }

    /// An RPC begins to wait. Returns when the peer is to be probed, if it is the first.
    pub(crate) fn begin_wait(&mut self, now: Instant, interval_ns: u64) -> Option<Instant> {
        self.waiting = self.waiting.saturating_add(1);
        (self.waiting == 1).then(|| {
            self.interval_ns = interval_ns;
            self.next_probe = now + Duration::from_nanos(interval_ns);
            self.next_probe
        })
    }

    pub(crate) fn end_wait(&mut self) {
        self.waiting = self.waiting.saturating_sub(1);
    }

    pub(crate) fn waiting(&self) -> u32 {
        self.waiting
    }

    /// The probe that waits for its answer.
    pub(crate) fn probe(&self) -> Option<Probe> {
        self.probe
    }

    pub(crate) fn set_probe(&mut self, probe: Probe) {
        self.probe = Some(probe);
    }

    /// The probe needs no answer any more.
    pub(crate) fn forget_probe(&mut self) {
        self.probe = None;
    }

    /// When the next probe about a waiting RPC is due.
    pub(crate) fn next_probe(&self) -> Instant {
        self.next_probe
    }

    /// The answer to a probe came: the next one follows at once while RPCs are rechecked, otherwise
    /// ever later.
    pub(crate) fn take_answered(&mut self, now: Instant, config: &Config) -> Option<Probe> {
        let probe = self.probe.take()?;
        self.reacted_at = now;
        let again = self.recheck == 0 && core::mem::take(&mut self.recheck_again);
        if self.recheck > 0 {
            self.next_probe = now;
        } else if again {
            self.begin_recheck(now, config);
        } else {
            let longest_ns = nanos(config.fixed.resend_interval_max);
            self.interval_ns = self.interval_ns.saturating_mul(2).min(longest_ns);
            self.next_probe = now + Duration::from_nanos(self.interval_ns);
        }
        Some(probe)
    }

    /// The peer may have lost requests that it said it has: all RPCs that wait are asked about.
    /// Returns from when on, unless that goes on already.
    pub(crate) fn recheck(&mut self, now: Instant, config: &Config) -> Option<Instant> {
        if self.recheck > 0 {
            self.recheck_again = true;
            return None;
        }
        Some(self.begin_recheck(now, config))
    }

    /// A server may lose one RPC after the other: the pause doubles, until it has been quiet for a
    /// while.
    fn begin_recheck(&mut self, now: Instant, config: &Config) -> Instant {
        let (shortest, longest) =
            (config.recovery.resend_interval * 2, config.fixed.resend_interval_max);
        let quiet = now >= self.recheck_from + longest;
        let longer = self.recheck_pause.saturating_mul(2).min(longest);
        self.recheck_pause = if quiet { shortest } else { longer.max(shortest) };
        self.next_probe = now.max(self.recheck_from);
        self.recheck_from = self.next_probe + self.recheck_pause;
        self.recheck = self.waiting;
        self.next_probe
    }

    /// RPCs still to be probed without a pause.
    pub(crate) fn left_to_recheck(&self) -> u32 {
        self.recheck.min(self.waiting)
    }

    /// Notes that so many RPCs were probed.
    pub(crate) fn rechecked(&mut self, asked: u32) {
        self.recheck = self.left_to_recheck().saturating_sub(asked);
    }

    /// The peer has taken what was on its way.
    pub(crate) fn reacted(&mut self, now: Instant) {
        self.reacted_at = now;
    }

    pub(crate) fn reacted_at(&self) -> Instant {
        self.reacted_at
    }

    /// Why calls to the peer fail, some at a time.
    pub(crate) fn failing(&self) -> Option<FailReason> {
        self.failing
    }

    pub(crate) fn set_failing(&mut self, reason: Option<FailReason>) {
        self.failing = reason;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Instant {
        Instant::ZERO + Duration::from_millis(ms)
    }

    fn probed(liveness: &mut Liveness, now: Instant) {
        let path = Path {
            remote: core::net::SocketAddr::from(([10, 0, 0, 1], 1)),
            local_ip: None,
            local_port: 1,
            interface: 0,
            carriage: crate::addr::Carriage::Udp,
        };
        liveness.set_probe(Probe { path, id: 2, first_sent: now, next_send: now, tries: 0 });
    }

    fn answer(liveness: &mut Liveness, now: Instant) -> Instant {
        probed(liveness, now);
        assert!(liveness.take_answered(now, &Config::default()).is_some());
        liveness.next_probe()
    }

    #[test]
    fn only_the_first_rpc_that_waits_sets_the_time_of_the_probe() {
        let mut liveness = Liveness::new(at(0));
        assert_eq!(liveness.begin_wait(at(1), 5_000_000), Some(at(6)));
        assert_eq!(liveness.begin_wait(at(2), 5_000_000), None);
        liveness.end_wait();
        liveness.end_wait();
        assert_eq!(liveness.begin_wait(at(9), 5_000_000), Some(at(14)));
    }

    #[test]
    fn probes_become_rarer_as_long_as_they_are_answered() {
        let longest = Config::default().fixed.resend_interval_max;
        let mut liveness = Liveness::new(at(0));
        liveness.begin_wait(at(0), 10_000_000);
        assert_eq!(answer(&mut liveness, at(100)), at(120));
        assert_eq!(answer(&mut liveness, at(200)), at(240));
        for _ in 0..40 {
            answer(&mut liveness, at(300));
        }
        assert_eq!(liveness.next_probe(), at(300) + longest);
    }

    #[test]
    fn a_recheck_asks_about_all_that_wait_without_a_pause() {
        let mut liveness = Liveness::new(at(0));
        for _ in 0..3 {
            liveness.begin_wait(at(0), 10_000_000);
        }
        assert_eq!(liveness.recheck(at(1000), &Config::default()), Some(at(1000)));
        liveness.rechecked(2);
        assert_eq!(answer(&mut liveness, at(1001)), at(1001), "one is left");
        liveness.rechecked(1);
        assert!(answer(&mut liveness, at(1002)) > at(1002));
    }

    #[test]
    fn rechecks_come_the_later_the_more_often_one_is_wanted() {
        let config = Config::default();
        let mut liveness = Liveness::new(at(0));
        liveness.begin_wait(at(0), 10_000_000);
        let mut next = at(10_000);
        let mut pauses = (0..8).map(|_| {
            let from = liveness.recheck(next, &config).unwrap();
            assert_eq!(liveness.recheck(next, &config), None, "it goes on");
            liveness.rechecked(1);
            let again = answer(&mut liveness, from);
            liveness.rechecked(1);
            answer(&mut liveness, again);
            let pause = again.since(from);
            next = again;
            pause
        });
        let first = pauses.next().unwrap();
        assert_eq!(first, config.recovery.resend_interval * 2);
        assert!(pauses.by_ref().take(3).all(|pause| pause > first));
        assert!(pauses.all(|pause| pause <= config.fixed.resend_interval_max));
    }

    #[test]
    fn who_waits_no_more_is_not_rechecked() {
        let mut liveness = Liveness::new(at(0));
        liveness.begin_wait(at(0), 10_000_000);
        liveness.recheck(at(1), &Config::default());
        liveness.end_wait();
        assert_eq!(liveness.left_to_recheck(), 0);
    }
}
