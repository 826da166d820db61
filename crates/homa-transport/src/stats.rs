//! Counters of an endpoint, and what each of its clients has.

use std::net::SocketAddr;

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

/// What one client of an endpoint has there at one moment, of the limits that clients share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClientStats {
    /// Its address.
    pub client: SocketAddr,
    /// Its requests that are not answered: arriving, waiting or in service.
    pub requests: u64,
    /// Those of them that wait to be accepted.
    pub requests_waiting: u64,
    /// Bytes of them that have arrived.
    pub request_bytes: u64,
    /// Responses that it has not acknowledged.
    pub responses: u64,
    /// Their bytes.
    pub response_bytes: u64,
}

impl ClientStats {
    #[cfg_attr(loom, allow(dead_code, reason = "loom tests the driving protocol only"))]
    pub(crate) fn new(client: SocketAddr) -> Self {
        Self {
            client,
            requests: 0,
            requests_waiting: 0,
            request_bytes: 0,
            responses: 0,
            response_bytes: 0,
        }
    }
}
