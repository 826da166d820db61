//! Grants: how much receivers let senders send.

use super::{ConfigError, require};

/// Grants to the senders of incoming messages (docs/spec/protocol.md §6).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Grants {
    /// Messages granted to at the same time, 1 to 64. Default 8, as Linux.
    pub max_overcommit: u8,
    /// Bytes that senders together may send and have not sent yet, at least 1. Default 400,000,
    /// as `max_incoming` of Linux.
    pub max_incoming_bytes: u32,
    /// `max_incoming_bytes` counts as at least this many of the longest packets that come: fewer
    /// cannot keep a path busy. Default 16, which matters from packets of 25,000 bytes on
    /// (loopback); 0 = never more than configured.
    pub incoming_packets_min: u8,
    /// Fixed window per message, in bytes: a GRANT leaves before less is on its way. Default 0 =
    /// `max_incoming_bytes` / (active + 1), a GRANT leaving when a step less is on its way.
    pub window_bytes: u32,
    /// Bytes kept on their way for a message, in percent of what comes in a round trip, which is
    /// the shortest time lately from a GRANT to its data, at the speed of the link. At least
    /// `incoming_packets_min` of the longest packets, at most the dynamic window. Default 200; 0 =
    /// always the dynamic window, as Linux.
    pub window_rtt_percent: u16,
    /// Grants smaller than this wait for more while as much is still on its way (at most a quarter
    /// of the window), in bytes. At least two of the longest packets that come. Default
    /// 8,192; 0 grants every byte at once as Linux does.
    pub step_bytes: u32,
    /// The last bytes of a message, so many, are granted at the lowest level of unscheduled data.
    /// Default 20,000; 0 = at those of scheduled data, as Linux.
    pub boost_bytes: u32,
    /// Share of granted bytes that goes to the oldest message, in 1/1000, 0 to 500. Default 50, as
    /// `grant_fifo_fraction` of Linux.
    pub fifo_permille: u16,
}

impl Default for Grants {
    fn default() -> Self {
        Self {
            max_overcommit: 8,
            max_incoming_bytes: 400_000,
            incoming_packets_min: 16,
            window_bytes: 0,
            window_rtt_percent: 200,
            step_bytes: 8192,
            boost_bytes: 20_000,
            fifo_permille: 50,
        }
    }
}

impl Grants {
    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        require(
            (1..=64).contains(&self.max_overcommit),
            "grants.max_overcommit",
            "between 1 and 64 messages",
        )?;
        require(self.max_incoming_bytes >= 1, "grants.max_incoming_bytes", "at least 1 byte")?;
        require(self.fifo_permille <= 500, "grants.fifo_permille", "at most 500")
    }
}
