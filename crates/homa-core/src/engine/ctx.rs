//! Context shared by all parts of the engine: settings, the time, counters, and the queues for
//! timers, events and control packets.

use crate::config::Config;
use crate::engine::recovery::pauses::{Pauses, ReadClock};
use crate::engine::recovery::timer_queue::TimerQueue;
use crate::engine::rpc::events::EventQueue;
use crate::engine::rpc::index::RpcIndex;
use crate::engine::sender::control_queue::ControlQueue;
use crate::engine::stats::Stats;
use crate::time::{Instant, nanos};

/// The context that all rooms are handed.
#[derive(Debug)]
pub(crate) struct Ctx {
    pub(crate) config: Config,
    /// When the engine was first called.
    pub(crate) started: Option<Instant>,
    /// When it was last called.
    pub(crate) now: Instant,
    pub(crate) stats: Stats,
    pub(crate) timers: TimerQueue,
    pub(crate) events: EventQueue,
    pub(crate) control: ControlQueue,
    pub(crate) pauses: Pauses,
    pub(crate) read_clock: ReadClock,
}

impl Ctx {
    pub(crate) fn new(config: Config) -> Self {
        Self {
            config,
            started: None,
            now: Instant::ZERO,
            stats: Stats::default(),
            timers: TimerQueue::default(),
            events: EventQueue::default(),
            control: ControlQueue::default(),
            pauses: Pauses::NONE,
            read_clock: ReadClock::ZERO,
        }
    }

    /// How long this incarnation of the engine has lasted in microseconds, rounded down; saturates
    /// after 4,294 s. Too low an age is safe: the client then believes that the former incarnation
    /// lasted longer.
    pub(crate) fn age_us(&self) -> u32 {
        let age = self.now.since(self.started.unwrap_or(self.now));
        u32::try_from(nanos(age) / 1000).unwrap_or(u32::MAX)
    }

    /// Whether this incarnation is so new that requests have to name it.
    pub(crate) fn is_quiet(&self) -> bool {
        let age = self.now.since(self.started.unwrap_or(self.now));
        age < self.config.recovery.quiet_time
    }

    /// See [`Pauses::counts_from`].
    #[inline]
    pub(crate) fn counts_from(&self, since: Instant) -> Instant {
        self.pauses.counts_from(since, &self.config)
    }

    /// See [`Pauses::unacknowledged_from`].
    pub(crate) fn unacknowledged_from(&self, since: Instant) -> Instant {
        self.pauses.unacknowledged_from(since, &self.config)
    }

    /// Makes sure that the timer of an RPC looks at it within `interval_ns` from now.
    #[inline(always)]
    pub(crate) fn arm(&mut self, rpc: RpcIndex, interval_ns: u64) {
        self.timers.arm_rpc(rpc, self.now.plus_ns(interval_ns));
    }
}
