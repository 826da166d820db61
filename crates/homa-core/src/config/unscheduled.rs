//! Unscheduled data: what is sent without a grant.

use super::{ConfigError, MESSAGE_BYTES_LIMIT, require};

/// Unscheduled data (docs/spec/protocol.md §4).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Unscheduled {
    /// Bytes of a message sent without waiting for a grant, 1 to 2^30. Default 40,000, as
    /// `unsched_bytes` of Linux.
    pub bytes: u32,
    /// A remainder of at most so many bytes is sent without waiting for a grant as well. Default
    /// 1,500; 0 = none, as Linux.
    pub remainder_bytes: u32,
    /// Unscheduled bytes, with 256 for each packet, on their way to one peer that it has not
    /// reacted to: its in-flight credit. More wait in SRPT order. Default 98,304: what half of a
    /// stock Linux receive buffer holds.
    pub in_flight_max_bytes: u32,
}

impl Default for Unscheduled {
    fn default() -> Self {
        Self { bytes: 40_000, remainder_bytes: 1_500, in_flight_max_bytes: 98_304 }
    }
}

impl Unscheduled {
    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        require(
            (1..=MESSAGE_BYTES_LIMIT).contains(&self.bytes),
            "unscheduled.bytes",
            "between 1 and 2^30 bytes",
        )
    }
}
