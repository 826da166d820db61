//! Limits of what an engine holds.

use homa_wire::Data;

use super::{ConfigError, LINUX_MESSAGE_BYTES_MAX, MESSAGE_BYTES_LIMIT, require};

/// Limits of messages, of the memory for them, and of live RPCs.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Longest message accepted or sent, 1 to 2^30 bytes. Default 1,000,000, as Linux.
    pub max_message_bytes: u32,
    /// Bytes that a *framed* message (docs/spec/wire-format.md §12) may have more, at most 2^16:
    /// the longest frame. Default 0.
    pub frame_bytes: u32,
    /// Memory for incoming messages that the application has not taken, in bytes. Default
    /// 256 MiB; at least `max_message_bytes + frame_bytes`. As much as the longest message needs is
    /// set aside for one message at a time, so that something always completes: with less than
    /// twice that, little or nothing is left for the others meanwhile (docs/spec/protocol.md §17).
    pub receive_memory_bytes: u64,
    /// Live RPCs, client and server together, 1 to 2^24. Default 2^18.
    pub max_rpcs: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_message_bytes: LINUX_MESSAGE_BYTES_MAX,
            frame_bytes: 0,
            receive_memory_bytes: 256 << 20,
            max_rpcs: 1 << 18,
        }
    }
}

impl Limits {
    /// Bytes of the longest message.
    pub(crate) fn longest(&self) -> u32 {
        self.max_message_bytes.saturating_add(self.frame_bytes)
    }

    /// The longest message with these flags.
    pub(crate) fn longest_with(&self, flags: u8) -> u32 {
        if flags & Data::FRAMED == 0 { self.max_message_bytes } else { self.longest() }
    }

    /// Whether a message of `length` bytes with these flags is too long.
    #[inline]
    pub(crate) fn exceeds(&self, length: u32, flags: u8) -> bool {
        length > self.max_message_bytes && length > self.longest_with(flags)
    }

    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        require(
            (1..=MESSAGE_BYTES_LIMIT).contains(&self.max_message_bytes),
            "limits.max_message_bytes",
            "between 1 and 2^30 bytes",
        )?;
        require(self.frame_bytes <= 1 << 16, "limits.frame_bytes", "at most 2^16 bytes")?;
        require(
            self.receive_memory_bytes >= u64::from(self.longest()),
            "limits.receive_memory_bytes",
            "at least limits.max_message_bytes and limits.frame_bytes",
        )?;
        require((1..=1 << 24).contains(&self.max_rpcs), "limits.max_rpcs", "between 1 and 2^24")
    }
}
