//! How a run is followed and ended.

use std::{
    io,
    time::{Duration, Instant},
};

/// Whoever ends a run waits no longer than this for it.
const PATIENCE: Duration = Duration::from_millis(50);

/// Told what a run does, and asked whether it shall go on.
pub trait Watch: Sync {
    /// A step begins; [`steps`](crate::estimate::steps) names all of them, in this order.
    fn begins(&self, _step: &str) {}

    /// Something that a reader of the results wants to know.
    fn says(&self, _text: &str) {}

    /// Whether the run shall end at once, with what it has.
    fn stopped(&self) -> bool;
}

/// Sleeps until `at`, or until the run shall end.
pub(crate) fn sleep_until(at: Instant, watch: &dyn Watch) {
    while !watch.stopped() {
        let left = at.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        std::thread::sleep(left.min(PATIENCE));
    }
}

/// The longest wait after which to ask again, until `at`.
pub(crate) fn patience(at: Instant) -> Duration {
    at.saturating_duration_since(Instant::now()).min(PATIENCE)
}

/// What a step that was ended says.
pub(crate) fn interrupted() -> io::Error {
    io::Error::new(io::ErrorKind::Interrupted, "interrupted")
}

/// Follows nothing and never ends: for tests and trials.
#[derive(Debug, Clone, Copy, Default)]
pub struct Unwatched;

impl Watch for Unwatched {
    fn stopped(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Stopped;

    impl Watch for Stopped {
        fn stopped(&self) -> bool {
            true
        }
    }

    #[test]
    fn a_sleep_ends_in_time_or_at_once() {
        let begin = Instant::now();
        sleep_until(begin + Duration::from_secs(3_600), &Stopped);
        assert!(begin.elapsed() < Duration::from_secs(3_000));
        sleep_until(begin + Duration::from_millis(5), &Unwatched);
        assert!(begin.elapsed() >= Duration::from_millis(5));
    }
}
