//! Clock of the engine: the time of a turn, and the pauses that its jumps reveal.

use crate::engine::ctx::Ctx;
use crate::engine::peer::PeerTable;
use crate::engine::stats::Count;
use crate::time::{Instant, nanos};

impl Ctx {
    /// Notes the time. A call long after the next timer means that the engine was not driven for a
    /// while (stopped process, paused machine): packets may wait unread, so silence during that
    /// time says nothing about the peers.
    #[inline]
    pub(crate) fn tick(&mut self, now: Instant, peers: &mut PeerTable) {
        // The calls of one turn name the same time.
        if now > self.now || self.started.is_none() {
            self.advance(now, peers);
        }
    }

    fn advance(&mut self, now: Instant, peers: &mut PeerTable) {
        let (gap_ns, usual_ns) = (now.ns_since(self.now), nanos(self.config.fixed.clock_jump_min));
        if gap_ns > usual_ns || self.started.is_none() {
            self.look_for_pause(now, peers);
        }
        self.read_clock.turn(gap_ns, usual_ns);
        self.now = self.now.max(now);
    }

    #[cold]
    fn look_for_pause(&mut self, now: Instant, peers: &mut PeerTable) {
        self.started.get_or_insert(now);
        // A timer that waits although the engine is called (the driver still finds packets) is no
        // jump.
        let due = self.timers.next().map_or(now, |(at, _)| at.max(self.now));
        let paused = now.since(due) > self.config.fixed.clock_jump_min;
        if paused {
            self.stats.clock_jumps.inc();
            if self.pauses.note(due, now, &self.config) {
                peers.recheck_all(self);
            }
        }
    }
}
