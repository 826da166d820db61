//! Options of one call.

use std::time::{Duration, Instant};

/// Options of one call; the default has no deadline and lets Homa choose the priority.
///
/// ```
/// use std::time::Duration;
/// let options = homa_transport::CallOptions::new().timeout(Duration::from_millis(20));
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct CallOptions {
    pub(crate) deadline: Option<Instant>,
    pub(crate) timeout: Option<Duration>,
    pub(crate) priority_hint: Option<u8>,
}

impl CallOptions {
    /// The default options.
    pub fn new() -> Self {
        Self::default()
    }

    /// The call fails with [`crate::CallError::DeadlineExceeded`] at this time. Waiting for room
    /// at a limit counts.
    #[must_use]
    pub fn deadline(mut self, at: Instant) -> Self {
        self.deadline = Some(at);
        self
    }

    /// As [`CallOptions::deadline`], counted from the moment the call starts.
    #[must_use]
    pub fn timeout(mut self, after: Duration) -> Self {
        self.timeout = Some(after);
        self
    }

    /// Sends the first, unscheduled bytes at this priority (0, lowest, to 7) instead of the one
    /// the server's cutoffs give to a message of this length. Larger values are taken as 7.
    /// Source: docs/spec/protocol.md §5.
    #[must_use]
    pub fn priority_hint(mut self, priority: u8) -> Self {
        self.priority_hint = Some(priority.min(7));
        self
    }
}
