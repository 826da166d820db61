//! Settings that only tests vary.

use core::time::Duration;

use super::{ConfigError, require};

/// Constants for users. They are fields because tests and virtual worlds vary them: with the
/// defaults a run would have to be very long, or very large, to reach these limits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fixed {
    /// For messages read as a stream: bytes that may wait unread before the sender is held back,
    /// at least 65,536. 1 MiB.
    pub unread_bytes_max: u32,
    /// Missing ranges remembered per incoming message; packets that would make more are dropped.
    /// At least 16, or each packet that overtakes another would be lost. 512.
    pub gaps_max: u16,
    /// Control packets waiting to be sent, at least 16; more are dropped and counted. 4,096.
    pub control_queue_max: u16,
    /// Size of one grant to the oldest message, in bytes. 50,000, as `fifo_grant_increment` of
    /// Linux.
    pub fifo_grant_bytes: u32,
    /// Priority to DSCP class selector (0 to 7). Identity, as `priority_map` of Linux.
    pub priority_map: [u8; 8],
    /// Longest interval between RESENDs, and between probes, to a peer that answers. 1 s.
    pub resend_interval_max: Duration,
    /// Wait before a server asks for an acknowledgement while it keeps no responses; the more it
    /// keeps, the shorter the wait. Acknowledgements ride on later requests of the client, and
    /// to ask for one costs two packets. At most an eighth of `responses.silence`, at least
    /// `responses.request_ack_interval`. 250 ms.
    pub request_ack_interval_max: Duration,
    /// After a jump of the clock beyond this between two turns (process stopped, machine paused)
    /// the silence of peers is counted anew. Deadlines given with calls stay. 20 ms.
    pub clock_jump_min: Duration,
    /// Finished RPCs remembered, at least 16 (16 bytes each, allocated as needed); when full, new
    /// requests are refused. 2^22: enough for 1.5 million RPCs per second.
    pub finished_max: u32,
    /// Of peers idle for less, only the one idle for longest is evicted, when there is no room for
    /// another. 10 s, as Linux.
    pub peer_idle_min: Duration,
    /// Peers idle for longer are evicted. 120 s, as Linux.
    pub peer_idle_max: Duration,
    /// RPCs of one short packet each way are kept in a short form as long as nothing unusual
    /// happens to them. It costs less and changes no packet. Yes.
    pub short_form: bool,
}

impl Default for Fixed {
    fn default() -> Self {
        Self {
            unread_bytes_max: 1 << 20,
            gaps_max: 512,
            control_queue_max: 4096,
            fifo_grant_bytes: 50_000,
            priority_map: [0, 1, 2, 3, 4, 5, 6, 7],
            resend_interval_max: Duration::from_secs(1),
            request_ack_interval_max: Duration::from_millis(250),
            clock_jump_min: Duration::from_millis(20),
            finished_max: 1 << 22,
            peer_idle_min: Duration::from_secs(10),
            peer_idle_max: Duration::from_secs(120),
            short_form: true,
        }
    }
}

impl Fixed {
    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        require(
            self.unread_bytes_max >= 1 << 16,
            "fixed.unread_bytes_max",
            "at least 65536 bytes",
        )?;
        require(self.gaps_max >= 16, "fixed.gaps_max", "at least 16")?;
        require(self.control_queue_max >= 16, "fixed.control_queue_max", "at least 16")?;
        require(
            self.priority_map.iter().all(|class| *class < 8),
            "fixed.priority_map",
            "class selectors 0 to 7",
        )?;
        require(self.finished_max >= 16, "fixed.finished_max", "at least 16")
    }
}
