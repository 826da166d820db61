//! The cutoffs of this host: at which priority senders send what needs no grant
//! (docs/spec/protocol.md §5).

use core::time::Duration;

use crate::config::{Config, CutoffSource, LINUX_MESSAGE_BYTES_MAX};
use crate::cutoffs::{CutoffPlanner, Cutoffs, PlannerConfig};
use crate::engine::ctx::Ctx;
use crate::engine::stats::Count;
use crate::histogram::LengthHistogram;
use crate::priority::Priority;
use crate::time::Instant;

/// How often traffic is looked at for new cutoffs; the planner's own interval is longer.
const PLANNING_INTERVAL: Duration = Duration::from_millis(100);

/// The cutoffs in force, and where the next ones come from.
#[derive(Debug)]
pub(crate) struct OwnCutoffs {
    cutoffs: Cutoffs,
    /// Cached, since every packet needs it, as the next one.
    version: u16,
    min_unscheduled_priority: Priority,
    planner: Option<CutoffPlanner>,
    next_planning: Instant,
}

impl OwnCutoffs {
    pub(super) fn new(config: &Config) -> Self {
        let (cutoffs, planner) = match &config.priorities.cutoffs {
            CutoffSource::Fixed(cutoffs) => ((*cutoffs).normalise(config.priorities.count), None),
            CutoffSource::Automatic { interval, messages_min, drift_min_permille } => {
                let settings = PlannerConfig {
                    interval: *interval,
                    messages_min: *messages_min,
                    drift_min_permille: *drift_min_permille,
                    message_bytes_max: config.limits.max_message_bytes.max(LINUX_MESSAGE_BYTES_MAX),
                    ..PlannerConfig::default()
                };
                (Cutoffs::default_for(config.priorities.count), CutoffPlanner::new(settings).ok())
            }
        };
        Self {
            version: cutoffs.version(),
            min_unscheduled_priority: min_unscheduled(&cutoffs, config),
            cutoffs,
            planner,
            next_planning: Instant::ZERO,
        }
    }

    /// Names them among all that this host has had.
    #[inline]
    pub(crate) fn version(&self) -> u16 {
        self.version
    }

    /// The cutoffs announced to peers.
    pub(crate) fn body(&self) -> homa_wire::Cutoffs {
        homa_wire::Cutoffs { levels: *self.cutoffs.levels(), version: self.version() }
    }

    /// Lowest priority for unscheduled data.
    #[inline]
    pub(super) fn min_unscheduled_priority(&self) -> Priority {
        self.min_unscheduled_priority
    }

    /// Counts a message of `length` bytes that has arrived. A mere announcement does not affect the
    /// cutoffs.
    #[inline]
    pub(super) fn record(&mut self, length: u32) {
        if let Some(planner) = &mut self.planner {
            planner.record(length);
        }
    }

    /// Whether it is time to look at the traffic; the next time is set.
    #[inline]
    pub(crate) fn is_due(&mut self, now: Instant) -> bool {
        let due = now >= self.next_planning;
        if due {
            self.next_planning = now + PLANNING_INTERVAL;
        }
        due
    }

    /// Computes new cutoffs from what arrived, if that has changed.
    pub(crate) fn plan(&mut self, ctx: &mut Ctx) {
        let Some(planner) = &mut self.planner else {
            return;
        };
        let (num_priorities, unscheduled_bytes) =
            (ctx.config.priorities.count, ctx.config.unscheduled.bytes);
        let fresh = planner.maybe_update(ctx.now, unscheduled_bytes, num_priorities, &self.cutoffs);
        if let Some(cutoffs) = fresh {
            self.version = cutoffs.version();
            self.min_unscheduled_priority = min_unscheduled(&cutoffs, &ctx.config);
            self.cutoffs = cutoffs;
            ctx.stats.cutoff_updates.inc();
        }
    }

    /// Lengths of the messages that arrived, if cutoffs follow them.
    pub(crate) fn histogram(&self) -> Option<&LengthHistogram> {
        self.planner.as_ref().map(CutoffPlanner::histogram)
    }
}

fn min_unscheduled(cutoffs: &Cutoffs, config: &Config) -> Priority {
    Priority::new(cutoffs.min_unscheduled_priority(config.priorities.count))
}
