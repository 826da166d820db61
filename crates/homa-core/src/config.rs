//! Settings of an engine, in groups that are the concepts of the protocol, with units and
//! defaults. Validated once, by [`Config::validate`].

#[cfg(any(test, feature = "check"))]
mod exact;
mod fixed;
mod grants;
mod limits;
mod output;
mod peers;
mod priorities;
#[cfg(any(test, feature = "check"))]
mod random;
mod recovery;
mod responses;
mod unscheduled;

#[doc(hidden)]
pub use fixed::Fixed;
pub use grants::Grants;
pub use limits::Limits;
pub use output::Output;
pub use peers::{PeerSettings, Peers};
pub use priorities::{CutoffSource, Priorities};
pub use recovery::Recovery;
pub use responses::Responses;
pub use unscheduled::Unscheduled;

use crate::priority::Priority;

/// Highest number of priorities the wire format can express.
pub const PRIORITIES_MAX: u8 = 8;
/// Longest message of the Linux implementation, in bytes.
pub const LINUX_MESSAGE_BYTES_MAX: u32 = 1_000_000;
/// Longest message this implementation can be configured for: 1 GiB.
pub const MESSAGE_BYTES_LIMIT: u32 = 1 << 30;

/// All settings of an engine. Start from [`Config::default`] and change what you need; fields
/// name their unit. docs/spec/protocol.md §2 has the settings of Linux beside them.
///
/// ```
/// use std::time::Duration;
///
/// let config = homa_core::Config::default().with(|config| {
///     config.recovery.timeout = Duration::from_secs(10);
///     config.limits.max_rpcs = 1000;
/// });
/// assert!(config.validate().is_ok());
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Config {
    /// Limits of an engine.
    pub limits: Limits,
    /// Unscheduled data.
    pub unscheduled: Unscheduled,
    /// Grants.
    pub grants: Grants,
    /// Priorities of packets.
    pub priorities: Priorities,
    /// Order and pacing of output.
    pub output: Output,
    /// Recovery from silence, and the memory against duplicates.
    pub recovery: Recovery,
    /// Responses that a server keeps until their clients have them.
    pub responses: Responses,
    /// Number of peers, and the announcements to them.
    pub peers: Peers,
    /// Constants that only tests vary.
    #[doc(hidden)]
    pub fixed: Fixed,
}

/// A setting out of its range.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConfigError {
    /// Name of the field in [`Config`], with its group, such as `grants.max_overcommit`.
    pub setting: &'static str,
    /// The range it must be in.
    pub must_be: &'static str,
}

impl core::fmt::Display for ConfigError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "setting {} must be {}", self.setting, self.must_be)
    }
}

impl core::error::Error for ConfigError {}

/// An error that names `setting` unless it is `good`.
fn require(good: bool, setting: &'static str, must_be: &'static str) -> Result<(), ConfigError> {
    if good { Ok(()) } else { Err(ConfigError { setting, must_be }) }
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
        // Every group by its name: a new one has to be checked here.
        let Self {
            limits,
            unscheduled,
            grants,
            priorities,
            output,
            recovery,
            responses,
            peers,
            fixed,
        } = self;
        limits.validate()?;
        unscheduled.validate()?;
        grants.validate()?;
        priorities.validate()?;
        output.validate()?;
        recovery.validate()?;
        responses.validate()?;
        peers.validate()?;
        fixed.validate()
    }

    /// Bytes of a message that room is kept for on its sender's word: what this end would send at
    /// most before there is a reaction. For more the message has to come first, or to be granted.
    pub(crate) fn unscheduled_max(&self) -> u32 {
        self.unscheduled.bytes.max(self.unscheduled.in_flight_max_bytes)
    }

    /// The highest of the priorities.
    #[inline]
    pub(crate) fn top_priority(&self) -> Priority {
        Priority::new(self.priorities.count.saturating_sub(1))
    }

    /// Calls that are served at a time at most: a quarter of the table is kept for calls made here.
    pub(crate) fn serving_max(&self) -> u32 {
        self.limits.max_rpcs.saturating_sub(self.limits.max_rpcs / 4)
    }
}
