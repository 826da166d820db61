//! Recovery: what follows from silence, and how long duplicates are recognised.

use core::time::Duration;

use super::{ConfigError, require};

/// Retransmission, giving up, at most once (docs/spec/protocol.md §8, §11).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Recovery {
    /// Silence before a retransmission is requested, more than 0, at most `timeout`; learnt from
    /// the peer's reactions later. Default 5 ms, as Linux.
    pub resend_interval: Duration,
    /// Silence of a peer after which its RPCs fail. Default 1 s (Linux: 100 ms).
    pub timeout: Duration,
    /// How long finished RPCs are remembered against late duplicates; a client repeats a request
    /// during half of it. At most once holds if no packet stays in the network for longer than
    /// half of it. Default 2 s.
    pub finished_memory: Duration,
    /// How long a new engine takes only requests that name it. Copies of requests to the former
    /// engine at its address, which may still be on their way, name another one or none; a client
    /// that does not know it yet is told, which costs its first request a round trip, or ends it
    /// as *restarted* if it cannot tell whether that was sent before this engine began. Not towards
    /// Linux hosts. Default 0: never.
    pub quiet_time: Duration,
}

impl Default for Recovery {
    fn default() -> Self {
        Self {
            resend_interval: Duration::from_millis(5),
            timeout: Duration::from_secs(1),
            finished_memory: Duration::from_secs(2),
            quiet_time: Duration::ZERO,
        }
    }
}

impl Recovery {
    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        require(
            !self.resend_interval.is_zero() && self.resend_interval <= self.timeout,
            "recovery.resend_interval",
            "more than 0 and at most recovery.timeout",
        )
    }
}
