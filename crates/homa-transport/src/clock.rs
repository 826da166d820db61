//! The clock of an endpoint.

use std::fmt;

use homa_sys::monotonic_ns;

/// Tells the time of all deadlines of an endpoint.
pub trait Clock: fmt::Debug + Send + Sync {
    /// Nanoseconds since some moment; never less than before.
    fn now_ns(&self) -> u64;
}

/// The monotonic clock of the system, by which threads and tasks sleep.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SystemClock;

impl Clock for SystemClock {
    #[inline]
    fn now_ns(&self) -> u64 {
        monotonic_ns()
    }
}
