//! Responses that a server keeps until their clients have them.

use core::time::Duration;

use super::{ConfigError, require};

/// Unacknowledged responses (docs/spec/protocol.md §8, §11).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Responses {
    /// Bytes of responses that a server keeps because their clients do not have them yet. When one
    /// more does not fit, the client host that keeps most loses the response that has made no
    /// progress for longest (its call fails with [`crate::FailReason::Forgotten`]); a single one
    /// may always be sent. Default 1 GiB.
    pub unacknowledged_bytes: u64,
    /// A server gives an unacknowledged response up after this. Default 5 s.
    pub silence: Duration,
    /// Wait before a server asks for an acknowledgement, at least, more than 0; doubles each time.
    /// So soon it asks clients that it has told to wait, who would not miss a lost response, and
    /// all when half of `unacknowledged_bytes`, 8 MiB, or half of the RPCs that it may serve are
    /// taken; otherwise later, up to 250 ms. Default 2 ms, as Linux.
    pub request_ack_interval: Duration,
}

impl Default for Responses {
    fn default() -> Self {
        Self {
            unacknowledged_bytes: 1 << 30,
            silence: Duration::from_secs(5),
            request_ack_interval: Duration::from_millis(2),
        }
    }
}

impl Responses {
    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        require(
            !self.request_ack_interval.is_zero(),
            "responses.request_ack_interval",
            "more than 0",
        )
    }
}
