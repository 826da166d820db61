//! Settings of an engine, with units and defaults. Validated once, by [`Config::validate`].

#[cfg(any(test, feature = "check"))]
mod exact;
#[cfg(any(test, feature = "check"))]
mod random;

use core::time::Duration;

use crate::cutoffs::Cutoffs;

/// Highest number of priority levels the wire format can express.
pub const PRIORITIES_MAX: u8 = 8;
/// Longest message of the Linux implementation, in bytes.
pub const LINUX_MESSAGE_BYTES_MAX: u32 = 1_000_000;
/// Longest message this implementation can be configured for: 1 GiB.
pub const MESSAGE_BYTES_LIMIT: u32 = 1 << 30;

/// Where the thresholds for unscheduled priorities come from.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CutoffSource {
    /// Computed from the lengths of incoming messages (docs/spec/protocol.md §5).
    Automatic {
        /// How often to look. Default 1 s.
        interval: Duration,
        /// Messages that must have come since the last look. Default 10,000.
        messages_min: u64,
        /// Change of the length distribution that is worth new thresholds, in 1/1000 of the sum
        /// over deciles. Default 1000.
        drift_min_permille: u32,
    },
    /// These, for ever.
    Fixed(Cutoffs),
}

/// All settings of an engine. Start from [`Config::default`] and change what you need; fields
/// name their unit. Sources: docs/spec/protocol.md §2.2 where a setting exists in Linux.
///
/// ```
/// use std::time::Duration;
///
/// let config = homa_core::Config::default().with(|config| {
///     config.timeout = Duration::from_secs(10);
///     config.rpcs_max = 1000;
/// });
/// assert!(config.validate().is_ok());
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Config {
    // Messages and memory.
    /// Longest message accepted or sent, 1 to 2^30 bytes. Default 1,000,000, as Linux.
    pub max_message_bytes: u32,
    /// Memory for incoming messages that the application has not taken, in bytes. Default
    /// 256 MiB; at least `max_message_bytes`. As much as the longest message needs is kept for one
    /// message at a time, so that something always completes: with less than twice that, little
    /// or nothing is left for the others meanwhile.
    pub receive_memory_bytes: u64,
    /// For messages read as a stream: bytes that may wait unread before the sender is held back.
    /// Default 1 MiB.
    pub unread_bytes_max: u32,
    /// Live RPCs, client and server together. Default 2^18.
    pub rpcs_max: u32,
    /// Missing ranges remembered per incoming message; packets that would make more are dropped.
    /// At least 16, or each packet that overtakes another would be lost. Default 512.
    pub gaps_max: u16,
    /// Control packets waiting to be sent; more are dropped and counted. Default 4,096.
    pub control_queue_max: u16,

    // Unscheduled data, grants (receiver side).
    /// Bytes of a message sent without waiting for a grant. Default 40,000.
    pub unscheduled_bytes: u32,
    /// Bytes that senders together may send and have not sent yet. Default 400,000.
    pub max_incoming_bytes: u32,
    /// `max_incoming_bytes` counts as at least this many of the longest packets that come: fewer
    /// cannot keep a path busy. Default 16, which matters from packets of 25,000 bytes on (loopback);
    /// 0 = never more than configured.
    pub incoming_packets_min: u8,
    /// Fixed grant window per message in bytes; 0 = `max_incoming_bytes` / (active + 1).
    pub window_bytes: u32,
    /// Grants smaller than this wait for more while as much is still on its way (at most a quarter
    /// of the window). At least two of the longest packets that come. Default 8,192; 0 grants
    /// every byte at once as Linux does.
    pub grant_step_bytes: u32,
    /// Messages granted to at the same time, 1 to 64. Default 8.
    pub max_overcommit: u8,
    /// Share of granted bytes that goes to the oldest message, in 1/1000, 0 to 500. Default 50.
    pub fifo_grant_permille: u16,
    /// Size of one grant to the oldest message in bytes. Default 50,000.
    pub fifo_grant_increment_bytes: u32,

    // Priorities.
    /// Priority levels in use, 1 to 8. Default 8.
    pub num_priorities: u8,
    /// Internal level to DSCP class selector (0 to 7). Default identity.
    pub priority_map: [u8; 8],
    /// Thresholds for unscheduled data. Default automatic.
    pub cutoffs: CutoffSource,

    // Sender side.
    /// Speed of the link in 10^6 bit/s; `None` (default) = unknown: no clock paces the output,
    /// the driver's room and `bytes_per_turn_max` bound it.
    pub link_mbps: Option<u32>,
    /// Share of the link speed that pacing counts on, in percent, 5 to 100. Default 99.
    pub max_link_usage_percent: u8,
    /// Estimated device backlog above which long messages wait. Default 5 µs.
    pub max_nic_backlog: Duration,
    /// Messages shorter than this never wait for the pacer, in bytes. Default 1,000.
    pub defer_min_bytes: u32,
    /// Share of paced bytes that comes from the oldest message, in 1/1000 of what the others send, 0 to 500.
    /// Default 50. 1000 switches SRPT at the sender off: messages go in order of age alone, those that do not wait
    /// for the pacer as well.
    pub pacer_fifo_permille: u16,
    /// Unscheduled bytes (with 256 for each packet) on their way to one peer that it has not
    /// reacted to; more wait in SRPT order. Default 98,304: what half of a stock Linux receive
    /// buffer holds.
    pub unscheduled_in_flight_max_bytes: u32,
    /// Packets (IP) longer than this are never sent, before or after the path MTU is known.
    /// Default 65,535.
    pub mtu_max: u32,

    // Time.
    /// Silence before a retransmission is requested. Default 5 ms.
    pub resend_interval: Duration,
    /// Longest interval between requests after the peer said BUSY. Default 1 s.
    pub resend_interval_max: Duration,
    /// Silence of a peer after which its RPCs fail. Default 1 s.
    pub timeout: Duration,
    /// Wait before a server asks for an acknowledgement, at least; doubles each time. So soon it asks clients that it
    /// has told to wait, who would not miss a lost response, and all when half of `kept_responses_bytes`, 8 MiB, or half
    /// of the RPCs that it may serve are taken. Default 2 ms.
    pub request_ack_interval: Duration,
    /// The same while nothing is kept, in between the more is kept the sooner: acknowledgements ride on later requests
    /// of the client, and to ask for one costs two packets. At most an eighth of `response_silence`, at least
    /// `request_ack_interval`. Default 250 ms.
    pub request_ack_interval_max: Duration,
    /// Bytes of responses that a server keeps because their clients do not have them yet. When one more does not fit, the
    /// client host that keeps most loses the response that has made no progress for longest (its call fails with
    /// [`crate::FailReason::Forgotten`]); a single one may always be sent. Default 1 GiB.
    pub kept_responses_bytes: u64,
    /// A server gives an unacknowledged answer up after this. Default 5 s.
    pub response_silence: Duration,
    /// After a jump of the clock beyond this between two turns (process stopped, machine paused) the
    /// silence of peers is counted anew. Deadlines given with calls stay. Default 20 ms.
    pub clock_jump_min: Duration,

    // At most once.
    /// How long finished RPCs are remembered against late duplicates; a client repeats a request during half of it. At most
    /// once holds if no packet stays in the network for longer than half of it. Default 2 s.
    pub finished_memory: Duration,
    /// How many are remembered (16 bytes each, allocated as needed);
    /// when full, new requests are refused. Default 2^22: enough for 1.5 million RPCs per second.
    pub finished_max: u32,

    // Peers.
    /// Over raw IP: tell every new peer, in header fields that Linux ignores, that this end is of this
    /// implementation, and use its own profile (reasons for errors, early release of sent bytes, recognition of
    /// restarts, messages beyond 1,000,000 bytes) with peers that say the same. Otherwise all packets
    /// are in pure Linux format. Default true; no effect over UDP.
    pub discover_peers: bool,
    /// Peers kept; beyond it idle ones are evicted, and while all are in use new ones are refused. No IP address has more than
    /// three quarters of those that it finds, as long as something is served to them.
    /// Default 65,536.
    pub peers_max: u32,
    /// Of peers idle for less, only the one idle for longest is evicted, when there is no room for another. Default 10 s.
    pub peer_idle_min: Duration,
    /// Peers idle for longer are evicted. Default 120 s.
    pub peer_idle_max: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max_message_bytes: LINUX_MESSAGE_BYTES_MAX,
            receive_memory_bytes: 256 << 20,
            unread_bytes_max: 1 << 20,
            rpcs_max: 1 << 18,
            gaps_max: 512,
            control_queue_max: 4096,
            unscheduled_bytes: 40_000,
            max_incoming_bytes: 400_000,
            incoming_packets_min: 16,
            window_bytes: 0,
            grant_step_bytes: 8192,
            max_overcommit: 8,
            fifo_grant_permille: 50,
            fifo_grant_increment_bytes: 50_000,
            num_priorities: PRIORITIES_MAX,
            priority_map: [0, 1, 2, 3, 4, 5, 6, 7],
            cutoffs: CutoffSource::Automatic {
                interval: Duration::from_secs(1),
                messages_min: 10_000,
                drift_min_permille: 1000,
            },
            link_mbps: None,
            max_link_usage_percent: 99,
            max_nic_backlog: Duration::from_micros(5),
            defer_min_bytes: 1000,
            pacer_fifo_permille: 50,
            unscheduled_in_flight_max_bytes: 98_304,
            mtu_max: 65_535,
            resend_interval: Duration::from_millis(5),
            resend_interval_max: Duration::from_secs(1),
            timeout: Duration::from_secs(1),
            request_ack_interval: Duration::from_millis(2),
            request_ack_interval_max: Duration::from_millis(250),
            kept_responses_bytes: 1 << 30,
            response_silence: Duration::from_secs(5),
            clock_jump_min: Duration::from_millis(20),
            finished_memory: Duration::from_secs(2),
            finished_max: 1 << 22,
            discover_peers: true,
            peers_max: 65_536,
            peer_idle_min: Duration::from_secs(10),
            peer_idle_max: Duration::from_secs(120),
        }
    }
}

/// A setting out of its range.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConfigError {
    /// Name of the field in [`Config`].
    pub setting: &'static str,
    /// What it must be.
    pub must_be: &'static str,
}

impl core::fmt::Display for ConfigError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "setting {} must be {}", self.setting, self.must_be)
    }
}

impl core::error::Error for ConfigError {}

/// Settings that may differ for one peer; `None` means "as in [`Config`]". Built from the default by
/// [`with`](Self::with), as [`Config`] is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PeerSettings {
    /// See [`Config::unscheduled_bytes`].
    pub unscheduled_bytes: Option<u32>,
    /// See [`Config::window_bytes`].
    pub window_bytes: Option<u32>,
    /// See [`Config::unscheduled_in_flight_max_bytes`].
    pub unscheduled_in_flight_max_bytes: Option<u32>,
    /// See [`Config::timeout`].
    pub timeout: Option<Duration>,
}

impl PeerSettings {
    /// These settings with a change.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }
}

impl Config {
    /// These settings with a change.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    /// Checks every range.
    ///
    /// # Errors
    /// The first setting out of its range.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let checks: [(bool, &'static str, &'static str); 19] = [
            (
                (1..=MESSAGE_BYTES_LIMIT).contains(&self.max_message_bytes),
                "max_message_bytes",
                "between 1 and 2^30 bytes",
            ),
            (
                self.receive_memory_bytes >= u64::from(self.max_message_bytes),
                "receive_memory_bytes",
                "at least max_message_bytes",
            ),
            (self.unread_bytes_max >= 1 << 16, "unread_bytes_max", "at least 65536 bytes"),
            ((1..=1 << 24).contains(&self.rpcs_max), "rpcs_max", "between 1 and 2^24"),
            (self.gaps_max >= 16, "gaps_max", "at least 16"),
            (self.control_queue_max >= 16, "control_queue_max", "at least 16"),
            (
                (1..=MESSAGE_BYTES_LIMIT).contains(&self.unscheduled_bytes),
                "unscheduled_bytes",
                "between 1 and 2^30 bytes",
            ),
            (self.max_incoming_bytes >= 1, "max_incoming_bytes", "at least 1 byte"),
            (
                (1..=64).contains(&self.max_overcommit),
                "max_overcommit",
                "between 1 and 64 messages",
            ),
            (self.fifo_grant_permille <= 500, "fifo_grant_permille", "at most 500"),
            (
                self.pacer_fifo_permille <= 500 || self.pacer_fifo_permille == 1000,
                "pacer_fifo_permille",
                "at most 500, or 1000",
            ),
            (
                (1..=PRIORITIES_MAX).contains(&self.num_priorities),
                "num_priorities",
                "between 1 and 8",
            ),
            (self.priority_map.iter().all(|level| *level < 8), "priority_map", "levels 0 to 7"),
            (self.link_mbps != Some(0), "link_mbps", "None or at least 1"),
            (
                (5..=100).contains(&self.max_link_usage_percent),
                "max_link_usage_percent",
                "between 5 and 100",
            ),
            (self.mtu_max >= 576, "mtu_max", "at least 576 bytes"),
            (
                !self.resend_interval.is_zero() && self.resend_interval <= self.timeout,
                "resend_interval",
                "more than 0 and at most timeout",
            ),
            (!self.request_ack_interval.is_zero(), "request_ack_interval", "more than 0"),
            (
                self.finished_max >= 16 && self.peers_max >= 1,
                "finished_max, peers_max",
                "at least 16 entries and 1 peer",
            ),
        ];
        match checks.into_iter().find(|(good, _, _)| !good) {
            None => Ok(()),
            Some((_, setting, must_be)) => Err(ConfigError { setting, must_be }),
        }
    }

    /// Bytes of a message that room is kept for on its sender's word: what this end would send at most before
    /// there is a reaction. For more the message has to come first, or to be granted.
    pub(crate) fn unscheduled_max(&self) -> u32 {
        self.unscheduled_bytes.max(self.unscheduled_in_flight_max_bytes)
    }

    /// The highest of the levels.
    pub(crate) fn top_priority(&self) -> u8 {
        self.num_priorities.saturating_sub(1)
    }

    /// Calls that are served at a time at most: a quarter of the table is kept for calls made here.
    pub(crate) fn serving_max(&self) -> u32 {
        self.rpcs_max.saturating_sub(self.rpcs_max / 4)
    }
}
