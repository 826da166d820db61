//! Bounds of an endpoint.

/// A bound of this endpoint that back-pressure comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Limit {
    /// [`crate::EndpointBuilder::outstanding_calls_max`]: calls to that server without a response
    /// yet.
    OutstandingCalls(usize),
    /// [`crate::EndpointBuilder::outstanding_bytes_max`]: bytes of requests to that server without
    /// a response yet.
    OutstandingBytes(u64),
    /// [`limits.max_rpcs`](homa_core::Config::limits): live RPCs of both roles.
    LiveRpcs,
    /// [`peers.max`](homa_core::Config::peers): known peers.
    Peers,
    /// Memory: an allocation failed.
    Memory,
}

impl std::fmt::Display for Limit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::OutstandingCalls(max) => write!(f, "outstanding_calls_max ({max})"),
            Self::OutstandingBytes(max) => write!(f, "outstanding_bytes_max ({max} bytes)"),
            Self::LiveRpcs => f.write_str("limits.max_rpcs"),
            Self::Peers => f.write_str("peers.max"),
            Self::Memory => f.write_str("memory"),
        }
    }
}
