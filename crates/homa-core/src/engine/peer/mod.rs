//! State of the other ends. A [`Peer`] consists of parts with private state.
//!
//! | file | what it decides |
//! | --- | --- |
//! | `identity` | who a packet is from, and what that is worth |
//! | `validation` | how much may be sent to an unvalidated address |
//! | `unvalidated` | which requests of unvalidated clients are displaced |
//! | `in_flight` | how much unscheduled data may be on its way |
//! | `path_mtu` | how long packets may be |
//! | `round_trip` | how much has to be on its way |
//! | `resend_timeout` | how long a reaction may take |
//! | `retransmissions` | how much is sent again at the peer's word |
//! | `liveness`, `calls` | when the peer is probed, and about which call |
//! | `ack_queue`, `cutoff_exchange` | what the peer is told with other packets |
//! | `discovery` | which profile is used over raw IP |
//! | `shares` | what the clients of one host hold |
//! | `table` | which peers are forgotten |

mod ack_queue;
pub(super) mod calls;
pub(super) mod cutoff_exchange;
pub(super) mod discovery;
pub(super) mod identity;
mod in_flight;
mod liveness;
mod path_mtu;
mod resend_timeout;
mod retransmissions;
mod round_trip;
pub(super) mod shares;
mod table;
pub(super) mod unvalidated;
mod validation;

use core::time::Duration;

pub(crate) use self::ack_queue::{AckQueue, PendingAck};
use self::calls::Calls;
use self::cutoff_exchange::CutoffExchange;
#[cfg(any(test, feature = "check"))]
pub(crate) use self::in_flight::CreditSums;
pub(crate) use self::in_flight::{CREDIT_PER_PACKET, Credit, InFlight};
pub(crate) use self::liveness::{Liveness, Probe};
use self::path_mtu::DATAGRAM_WITHIN_HOST;
pub(crate) use self::path_mtu::{DATAGRAM_ALWAYS_FITS, Losses, MTU_MIN, PathMtu};
pub(crate) use self::resend_timeout::ResendTimeout;
use self::retransmissions::RetransmissionBudget;
pub(crate) use self::round_trip::RoundTrip;
pub(crate) use self::table::PeerTable;
use self::validation::AddressValidation;
use crate::addr::{Carriage, Path, PeerKey};
use crate::config::{Config, PeerSettings};
use crate::engine::peer::shares::{HostIndex, PeerServed};
use crate::engine::rpc::index::RpcIndex;
use crate::structures::index::index;
use crate::structures::shared_heap::SharedHeap;
use crate::time::Instant;

/// Packets longer than this are those of a path within a host, and fill a receive buffer with
/// little waste.
pub(crate) const LONG_PACKET_BYTES: u64 = 16_384;

index! {
    /// Index of a peer in the table of an engine. It is used again when the peer is forgotten.
    pub(crate) struct PeerIndex;
}

/// One peer: an `IP:port`, whatever carries the packets.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) key: PeerKey,
    pub(crate) numbers: PeerNumbers,
    /// A path to it, for packets that concern no RPC.
    pub(crate) path: Path,
    settings: PeerSettings,
    users: Users,
    /// The RPCs served to it.
    pub(crate) served: PeerServed,
    pub(crate) last_heard: Instant,

    // Learned from the peer; forgotten when its incarnation changes.
    incarnation: PeerIncarnation,
    pub(crate) validation: AddressValidation,
    pub(crate) cutoffs: CutoffExchange,
    /// The incarnation that executes nothing that was sent after that time: it said so.
    pub(crate) drained: Option<(u32, Instant)>,
    /// The highest id (our form) of its requests, and since when they have been compared.
    pub(crate) newest_request: Option<(u64, Instant)>,

    pub(crate) path_mtu: PathMtu,
    pub(crate) round_trip: RoundTrip,
    pub(crate) resend_timeout: ResendTimeout,
    pub(crate) retransmissions: RetransmissionBudget,
    pub(crate) acks: AckQueue,
    /// Unscheduled data on its way to it.
    pub(crate) in_flight: InFlight,
    /// RPCs that wait for `in_flight` to fall or for validation, in SRPT order.
    pub(crate) blocked: SharedHeap<RpcIndex, (u32, u64)>,

    pub(crate) liveness: Liveness,
    pub(crate) calls: Calls,
    place: HostPlace,
}

/// Numbers of a peer that are made of the engine's secret and its address.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PeerNumbers {
    /// Names it in the memory of finished RPCs.
    pub(crate) hash: u64,
    /// Our incarnation as this address knows it; it is sent to no other address.
    pub(crate) ours: u32,
    /// Where the ids of our calls to it begin.
    pub(crate) first_id: u64,
}

/// References to a peer.
#[derive(Clone, Copy, Debug)]
struct Users {
    /// RPCs, and settings of its own.
    count: u32,
    /// When the last RPC with it ended.
    last_at: Instant,
}

/// Identity of a peer.
#[derive(Clone, Copy, Debug)]
struct PeerIncarnation {
    /// The number of its present incarnation; 0 = unknown, or a Linux host. Over UDP it has proved
    /// that it is its own, over raw IP it may only have announced it.
    number: u32,
    /// When it last said so in a packet of the native profile.
    heard_at: Instant,
}

/// A peer among those at its IP address.
#[derive(Clone, Copy, Debug)]
struct HostPlace {
    host: HostIndex,
    next: Option<PeerIndex>,
    previous: Option<PeerIndex>,
}

impl Peer {
    fn new(
        key: PeerKey,
        numbers: PeerNumbers,
        path: Path,
        place: HostPlace,
        config: &Config,
        now: Instant,
    ) -> Self {
        Self {
            key,
            numbers,
            path,
            settings: PeerSettings::default(),
            users: Users { count: 0, last_at: now },
            served: PeerServed::default(),
            last_heard: now,
            incarnation: PeerIncarnation { number: 0, heard_at: now },
            validation: AddressValidation::default(),
            cutoffs: CutoffExchange::new(config),
            drained: None,
            newest_request: None,
            path_mtu: PathMtu::ASSUMED,
            round_trip: RoundTrip::UNKNOWN,
            resend_timeout: ResendTimeout::UNKNOWN,
            retransmissions: RetransmissionBudget::new(now),
            acks: AckQueue::EMPTY,
            in_flight: InFlight::NONE,
            blocked: SharedHeap::default(),
            liveness: Liveness::new(now),
            calls: Calls::NONE,
            place,
        }
    }

    /// Resets all that was learnt from the former incarnation of the peer.
    pub(crate) fn forget_learned(&mut self, incarnation: u32, config: &Config) {
        self.incarnation.number = incarnation;
        self.validation = AddressValidation::default();
        self.cutoffs.forget_told(config);
        self.newest_request = None;
        self.acks.clear();
    }

    /// The number by which its present incarnation is known; 0 = unknown, or a Linux host.
    pub(crate) fn incarnation(&self) -> u32 {
        self.incarnation.number
    }

    /// Index of its IP address among those of all peers.
    pub(crate) fn host(&self) -> HostIndex {
        self.place.host
    }

    /// The next of the peers at its IP address.
    pub(crate) fn next_at_host(&self) -> Option<PeerIndex> {
        self.place.next
    }

    /// Gives it settings of its own, for which it is kept.
    pub(crate) fn set_settings(&mut self, settings: PeerSettings) {
        if self.settings == PeerSettings::default() {
            self.begin_use();
        }
        self.settings = settings;
    }

    #[cfg(any(test, feature = "check"))]
    pub(crate) fn has_settings(&self) -> bool {
        self.settings != PeerSettings::default()
    }

    /// Adds a reference.
    pub(crate) fn begin_use(&mut self) {
        self.users.count = self.users.count.saturating_add(1);
    }

    /// An RPC with it has ended.
    pub(crate) fn end_use(&mut self, now: Instant) {
        self.users.count = self.users.count.saturating_sub(1);
        self.users.last_at = now;
    }

    /// Whether an RPC, or settings, refer to it.
    pub(crate) fn is_in_use(&self) -> bool {
        self.users.count > 0
    }

    /// Number of references.
    #[cfg(any(test, feature = "check"))]
    pub(crate) fn uses(&self) -> u32 {
        self.users.count
    }

    /// Whether its address could be validated and is not.
    pub(crate) fn is_unvalidated(&self) -> bool {
        !self.validation.is_done() && self.path.carriage == Carriage::Udp
    }

    /// Whether nothing refers to it and no probe is open.
    fn is_unused(&self) -> bool {
        !self.is_in_use() && (self.liveness.probe().is_none() || self.is_unvalidated())
    }

    /// Nothing is on its way to it any more, no probe either.
    pub(crate) fn nothing_in_flight(&mut self) {
        self.liveness.forget_probe();
        self.in_flight.clear();
    }

    /// Longest Homa packet (header and payload) that fits the path.
    pub(crate) fn packet_bytes_max(&self, config: &Config) -> u32 {
        let ip_header = if self.key.ip.is_ipv4() { 20 } else { 40 };
        let udp_header = if self.path.carriage == Carriage::Udp { 8 } else { 0 };
        // An IPv4 packet cannot be longer than 65,535 bytes in all, nor can UDP data in IPv6.
        let ip_bytes = self.path_mtu.bytes().min(config.output.mtu_max).min(65_535);
        ip_bytes.saturating_sub(ip_header).saturating_sub(udp_header)
    }

    /// Longest datagram in which several packets may go. If a path dropped it for its length, that
    /// would go unnoticed, since all packets in it are short: it is no longer than what every path
    /// carries, except within a host, whose packets are far longer than those of any network. There
    /// it is so long that to copy it takes less time than to send another: what comes first in it
    /// waits for the rest.
    pub(crate) fn datagram_bytes(&self, config: &Config) -> u32 {
        let packet_bytes = self.packet_bytes_max(config);
        let within_host = u64::from(packet_bytes) > LONG_PACKET_BYTES;
        packet_bytes.min(if within_host { DATAGRAM_WITHIN_HOST } else { DATAGRAM_ALWAYS_FITS })
    }

    pub(crate) fn timeout(&self, config: &Config) -> Duration {
        self.settings.timeout.unwrap_or(config.recovery.timeout)
    }

    /// Grant window in bytes that its settings demand.
    pub(crate) fn window_bytes(&self) -> Option<u32> {
        self.settings.window_bytes
    }

    /// Bytes that a message of `length` to it begins with.
    pub(crate) fn unscheduled_bytes(&self, length: u32, config: &Config) -> u32 {
        let limit = self.settings.unscheduled_bytes.unwrap_or(config.unscheduled.bytes);
        unscheduled(length, limit.max(1), config.unscheduled.remainder_bytes)
    }

    pub(crate) fn in_flight_max(&self, config: &Config) -> u32 {
        self.settings
            .unscheduled_in_flight_max_bytes
            .unwrap_or(config.unscheduled.in_flight_max_bytes)
    }
}

/// Bytes of a message of `length` that are sent without a grant: `limit` of them, or all if no more
/// than `remainder` would be left.
fn unscheduled(length: u32, limit: u32, remainder: u32) -> u32 {
    if length.saturating_sub(limit) <= remainder { limit.max(length) } else { limit }
}

#[cfg(test)]
mod tests {
    use super::unscheduled;

    #[test]
    fn a_short_remainder_is_sent_without_a_grant_as_well() {
        assert_eq!(unscheduled(10_000, 9_968, 1_500), 10_000);
        assert_eq!(unscheduled(11_469, 9_968, 1_500), 9_968);
        assert_eq!(unscheduled(10_000, 9_968, 0), 9_968);
        assert_eq!(unscheduled(100, 9_968, 1_500), 9_968);
    }
}
