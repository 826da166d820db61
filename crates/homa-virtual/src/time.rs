//! Time as the world counts it, from 0, and as its engines do.

use homa_core::Instant;

/// Age of the hosts when the world begins: nothing is on its way that was sent to a former
/// incarnation.
const EPOCH_NS: u64 = 10_000_000_000;

/// The engines' time at `world_ns`.
pub(crate) fn engine_time(world_ns: u64) -> Instant {
    Instant::from_nanos(world_ns.saturating_add(EPOCH_NS))
}

/// When that is in the world.
pub(crate) fn world_ns(engine_time: Instant) -> u64 {
    engine_time.as_nanos().saturating_sub(EPOCH_NS)
}
