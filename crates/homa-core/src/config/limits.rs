//! Limits of what an engine holds.

use super::{ConfigError, LINUX_MESSAGE_BYTES_MAX, MESSAGE_BYTES_LIMIT, require};

/// Limits of messages, of the memory for them, and of live RPCs.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Longest message accepted or sent, 1 to 2^30 bytes. Default 1,000,000, as Linux.
    pub max_message_bytes: u32,
    /// Memory for incoming messages that the application has not taken, in bytes. Default
    /// 256 MiB; at least `max_message_bytes`. As much as the longest message needs is set aside
    /// for one message at a time, so that something always completes: with less than twice that,
    /// little or nothing is left for the others meanwhile (docs/spec/protocol.md §17).
    pub receive_memory_bytes: u64,
    /// Live RPCs, client and server together, 1 to 2^24. Default 2^18.
    pub max_rpcs: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_message_bytes: LINUX_MESSAGE_BYTES_MAX,
            receive_memory_bytes: 256 << 20,
            max_rpcs: 1 << 18,
        }
    }
}

impl Limits {
    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        require(
            (1..=MESSAGE_BYTES_LIMIT).contains(&self.max_message_bytes),
            "limits.max_message_bytes",
            "between 1 and 2^30 bytes",
        )?;
        require(
            self.receive_memory_bytes >= u64::from(self.max_message_bytes),
            "limits.receive_memory_bytes",
            "at least limits.max_message_bytes",
        )?;
        require((1..=1 << 24).contains(&self.max_rpcs), "limits.max_rpcs", "between 1 and 2^24")
    }
}
