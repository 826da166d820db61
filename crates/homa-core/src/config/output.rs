//! Output: how fast, and in which order, data leaves.

use core::time::Duration;

use super::{ConfigError, require};

/// Output order and pacer (docs/spec/protocol.md §7).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Output {
    /// Speed of the link in 10^6 bit/s, at least 1; `None` (default) = unknown: no clock paces the
    /// output, the driver's room and `bytes_per_turn_max` bound it.
    pub link_mbps: Option<u32>,
    /// Share of the link speed that pacing counts on, in percent, 5 to 100. Default 99, as
    /// `max_link_usage` of Linux.
    pub max_link_usage_percent: u8,
    /// Estimated device backlog above which long messages wait, at most. Lower while the sender
    /// comes in time: a reserve for the time by which it comes late. Default 10 µs (Linux: a fixed
    /// `max_nic_est_backlog_usecs` of 5).
    pub max_nic_backlog: Duration,
    /// Data handed over at a time when the backlog allows it, as time on the link; at least one
    /// packet. A sender that comes late hands over more, up to `max_nic_backlog`. Default 1.25 µs.
    pub quantum: Duration,
    /// Messages shorter than this never wait for the pacer, in bytes. Default 1,000, as Linux.
    pub defer_min_bytes: u32,
    /// Share of paced bytes that comes from the oldest message, in 1/1000 of what the others send,
    /// 0 to 500. Default 50, as `pacer_fifo_fraction` of Linux. 1000 switches SRPT at the sender
    /// off: messages go in order of age alone, those that do not wait for the pacer as well.
    pub fifo_permille: u16,
    /// Packets (IP) longer than this are never sent, before or after the path MTU is known; at
    /// least 576 bytes. Default 65,535.
    pub mtu_max: u32,
}

impl Default for Output {
    fn default() -> Self {
        Self {
            link_mbps: None,
            max_link_usage_percent: 99,
            max_nic_backlog: Duration::from_micros(10),
            quantum: Duration::from_nanos(1_250),
            defer_min_bytes: 1000,
            fifo_permille: 50,
            mtu_max: 65_535,
        }
    }
}

impl Output {
    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        require(self.link_mbps != Some(0), "output.link_mbps", "None or at least 1")?;
        require(
            (5..=100).contains(&self.max_link_usage_percent),
            "output.max_link_usage_percent",
            "between 5 and 100",
        )?;
        require(
            self.fifo_permille <= 500 || self.fifo_permille == 1000,
            "output.fifo_permille",
            "at most 500, or 1000",
        )?;
        require(self.mtu_max >= 576, "output.mtu_max", "at least 576 bytes")
    }
}
