//! Settings for tests that count on every number.

use core::time::Duration;

use super::{Config, CutoffSource};
use crate::cutoffs::Cutoffs;

impl Config {
    /// Settings with which every number is predictable: every byte is granted at once, nothing goes
    /// to the oldest, no remainder goes unscheduled, the cutoffs are fixed.
    pub fn exact() -> Self {
        Self::default().with(|config| {
            config.grants.step_bytes = 0;
            config.grants.incoming_packets_min = 0;
            config.grants.fifo_permille = 0;
            config.unscheduled.remainder_bytes = 0;
            config.output.fifo_permille = 0;
            config.priorities.cutoffs = CutoffSource::Fixed(Cutoffs::default());
            config.fixed.request_ack_interval_max = Duration::from_millis(2);
        })
    }
}
