//! Peers: how many are known, and what they are told.

use core::time::Duration;

use super::{ConfigError, require};

/// Peers (docs/spec/protocol.md §13).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Peers {
    /// Peers kept, at least 1; beyond it idle ones are evicted, and while all are in use new ones
    /// are refused. No IP address has more than three quarters of those that it finds, as long as
    /// something is served to them. Default 65,536.
    pub max: u32,
    /// Over raw IP: tell every new peer, in header fields that Linux ignores, that this end is of
    /// this implementation, and use the native profile (reasons for errors, early release of sent
    /// bytes, recognition of restarts, messages beyond 1,000,000 bytes) with peers that say the
    /// same. Otherwise all packets are in pure Linux format. Default true; no effect over UDP.
    pub discover: bool,
}

impl Default for Peers {
    fn default() -> Self {
        Self { max: 65_536, discover: true }
    }
}

impl Peers {
    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        require(self.max >= 1, "peers.max", "at least 1")
    }
}

/// Settings that may differ for one peer; `None` means "as in [`Config`](super::Config)". Built
/// from the default by [`with`](Self::with), as `Config` is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PeerSettings {
    /// See [`Unscheduled::bytes`](super::Unscheduled::bytes).
    pub unscheduled_bytes: Option<u32>,
    /// See [`Unscheduled::in_flight_max_bytes`](super::Unscheduled::in_flight_max_bytes).
    pub unscheduled_in_flight_max_bytes: Option<u32>,
    /// See [`Grants::window_bytes`](super::Grants::window_bytes).
    pub window_bytes: Option<u32>,
    /// See [`Recovery::timeout`](super::Recovery::timeout).
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
