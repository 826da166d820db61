//! Priorities: how many there are, and which unscheduled data uses which.

use core::time::Duration;

use super::{Config, ConfigError, LINUX_MESSAGE_BYTES_MAX, PRIORITIES_MAX, require};
use crate::cutoffs::{CutoffPlanner, Cutoffs, PlannerConfig};
use crate::time::Instant;

/// Network priorities (docs/spec/protocol.md §5).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Priorities {
    /// Priorities in use, 1 to 8. Default 8, as `num_priorities` of Linux.
    pub count: u8,
    /// Thresholds for unscheduled data. Default automatic.
    pub cutoffs: CutoffSource,
}

impl Default for Priorities {
    fn default() -> Self {
        Self { count: PRIORITIES_MAX, cutoffs: CutoffSource::default() }
    }
}

impl Priorities {
    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        require((1..=PRIORITIES_MAX).contains(&self.count), "priorities.count", "between 1 and 8")
    }
}

impl Config {
    /// The thresholds that an engine computes when messages of these `lengths`, in bytes, have
    /// come: for simulations that are shorter than it looks at traffic.
    pub fn computed_cutoffs(&self, lengths: impl IntoIterator<Item = u32>) -> Cutoffs {
        let count = self.priorities.count;
        let message_bytes_max = self.limits.max_message_bytes.max(LINUX_MESSAGE_BYTES_MAX);
        let settings =
            PlannerConfig { messages_min: 1, message_bytes_max, ..PlannerConfig::default() };
        let default = Cutoffs::default_for(count);
        let Ok(mut planner) = CutoffPlanner::new(settings) else {
            return default;
        };
        lengths.into_iter().for_each(|length| planner.record(length));
        let computed = planner.maybe_update(Instant::ZERO, self.unscheduled.bytes, count, &default);
        computed.unwrap_or(default)
    }
}

/// Where the thresholds for unscheduled priorities come from.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CutoffSource {
    /// Computed from the lengths of incoming messages (docs/spec/protocol.md §5).
    Automatic {
        /// How often to look. Default 1 s.
        interval: Duration,
        /// Messages that must have come since the last look. Default 10,000.
        messages_min: u64,
        /// Change of the length distribution that is worth new thresholds, in 1/1000 of the sum
        /// over deciles. Default 1000.
        drift_min_permille: u32,
    },
    /// These, for ever.
    Fixed(Cutoffs),
}

impl Default for CutoffSource {
    fn default() -> Self {
        Self::Automatic {
            interval: Duration::from_secs(1),
            messages_min: 10_000,
            drift_min_permille: 1000,
        }
    }
}
