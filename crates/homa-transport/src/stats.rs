//! Counters of an endpoint.

/// Counters and gauges of an endpoint at one moment.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct Stats {
    /// Counters of the protocol engine.
    pub engine: homa_core::Stats,
    /// Calls without a response now.
    pub outstanding_calls: u64,
    /// Bytes of their requests.
    pub outstanding_bytes: u64,
    /// Bytes of responses not yet taken by their clients.
    pub unacknowledged_response_bytes: u64,
    /// Requests waiting to be accepted.
    pub requests_waiting: u64,
    /// Requests that were refused since they had waited too long to be accepted
    /// ([`queue_time_max`](crate::EndpointBuilder::queue_time_max)).
    pub requests_overdue: u64,
    /// Requests accepted and not answered.
    pub requests_in_service: u64,
    /// Packets the system dropped because they were not fetched in time.
    pub dropped_by_system: u64,
    /// Payload bytes the receive buffer holds in packets of MTU size.
    pub receive_capacity_bytes: u64,
    /// Small packets the receive buffer holds.
    pub receive_capacity_packets: u32,
}
