//! A clock that goes on when it is looked at, so that each run executes the same instructions.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use homa_transport::Clock;

/// Time that passes with each look, in ns.
const TICK_NS: u64 = 50;

#[derive(Clone, Debug)]
pub(crate) struct Ticks(Arc<AtomicU64>);

impl Ticks {
    /// A clock that begins at a time.
    pub(crate) fn from_ns(begin_ns: u64) -> Self {
        Self(Arc::new(AtomicU64::new(begin_ns)))
    }
}

impl Clock for Ticks {
    fn now_ns(&self) -> u64 {
        let now_ns = self.0.load(Ordering::Relaxed) + TICK_NS;
        self.0.store(now_ns, Ordering::Relaxed);
        now_ns
    }
}
