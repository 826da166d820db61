//! What is known of the other ends. A [`Peer`] has parts that keep their state to themselves.
//!
//! | file | what it decides |
//! | --- | --- |
//! | `identity` | who a packet is from, and what that is worth |
//! | `validation` | how much may be sent to an address that is not proved |
//! | `unvalidated` | which clients without a proof have to go |
//! | `in_flight` | how much unscheduled data may be on its way |
//! | `path_mtu` | how long packets may be |
//! | `resend_timeout` | how long a reaction may take |
//! | `retransmissions` | how much is sent again at the peer's word |
//! | `liveness`, `calls` | when the peer is probed, and about which call |
//! | `ack_queue`, `cutoff_exchange` | what the peer is told with other packets |
//! | `profile` | which packet format is used over raw IP |
//! | `shares` | what the clients of one host hold |
//! | `table` | which peers are forgotten |

mod ack_queue;
mod calls;
pub(super) mod cutoff_exchange;
pub(super) mod identity;
mod in_flight;
mod liveness;
mod path_mtu;
pub(super) mod profile;
mod resend_timeout;
mod retransmissions;
pub(super) mod shares;
mod table;
pub(super) mod unvalidated;
mod validation;

use core::time::Duration;

pub(crate) use self::ack_queue::{AckQueue, PendingAck};
#[cfg(any(test, feature = "check"))]
pub(crate) use self::in_flight::ChargeSums;
pub(crate) use self::in_flight::{CHARGE_PER_PACKET, Charge, InFlight};
pub(crate) use self::liveness::{Liveness, Probe};
use self::path_mtu::DATAGRAM_WITHIN_HOST;
pub(crate) use self::path_mtu::{DATAGRAM_ALWAYS_FITS, Losses, MTU_MIN, PathMtu};
pub(crate) use self::resend_timeout::ResendTimeout;
use self::retransmissions::RetransmissionBudget;
pub(crate) use self::table::PeerTable;
use self::validation::AddressValidation;
use crate::addr::{Carriage, Path, PeerKey};
use crate::config::{Config, PeerSettings};
use crate::cutoffs::Cutoffs;
use crate::engine::peer::shares::PeerServed;
use crate::structures::NIL;
use crate::structures::shared_heap::SharedHeap;
use crate::time::Instant;

/// Packets longer than this are those of a path within a host, and fill a receive buffer with
/// little waste.
pub(crate) const LONG_PACKET_BYTES: u64 = 16_384;

/// One peer: an `IP:port`, whatever carries the packets.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) key: PeerKey,
    /// Names it in the memory of finished RPCs.
    pub(crate) hash: u64,
    /// A way to it, for packets that concern no RPC.
    pub(crate) path: Path,
    pub(crate) settings: PeerSettings,
    /// RPCs that refer to it.
    pub(crate) references: u32,
    /// Those that are served to it.
    pub(crate) served: PeerServed,
    pub(crate) last_heard: Instant,
    /// When the last RPC with it ended.
    pub(crate) last_used: Instant,

    /// Our incarnation as it knows it: nobody at another address is told.
    pub(crate) ours: u32,
    /// Where the ids of our calls to it begin.
    pub(crate) first_id: u64,

    // Learned from the peer; forgotten when its incarnation changes.
    /// The number by which we know its present life; 0 = unknown, or a Linux host. Over UDP it has
    /// proved that it is its own, over raw IP it may only have announced it.
    pub(crate) incarnation: u32,
    /// When it last said so in a packet of our own profile.
    own_heard: Instant,
    pub(crate) validation: AddressValidation,
    pub(crate) cutoffs: Cutoffs,
    cutoff_version: u16,
    /// They are those of a Linux host, for all of its sockets.
    cutoffs_of_host: bool,
    /// The highest id (our form) of its requests, and since when they have been compared.
    pub(crate) newest_request: Option<(u64, Instant)>,

    cutoffs_sent: Option<Instant>,
    pub(crate) path_mtu: PathMtu,
    pub(crate) resend_timeout: ResendTimeout,
    pub(crate) retransmissions: RetransmissionBudget,
    pub(crate) acks: AckQueue,
    /// Unscheduled data on its way to it.
    pub(crate) in_flight: InFlight,
    /// RPCs that wait for `in_flight` to fall or for validation, in SRPT order.
    pub(crate) blocked: SharedHeap<(u32, u64)>,

    pub(crate) liveness: Liveness,
    /// First of its client RPCs (linked through [`crate::engine::rpc::Rpc::next`]).
    pub(crate) first_client_rpc: u32,
    /// Where the round of liveness probes stands among them.
    pub(crate) probe_cursor: u32,

    /// Number of its IP address among those of all peers.
    pub(crate) host: u32,
    // The other peers there.
    pub(crate) next_at_host: u32,
    previous_at_host: u32,
}

impl Peer {
    fn new(key: PeerKey, hash: u64, path: Path, config: &Config, now: Instant) -> Self {
        Self {
            key,
            hash,
            path,
            settings: PeerSettings::default(),
            references: 0,
            served: PeerServed::default(),
            last_heard: now,
            last_used: now,
            ours: 0,
            first_id: 0,
            incarnation: 0,
            own_heard: now,
            validation: AddressValidation::default(),
            cutoffs: Cutoffs::initial(config.priorities.count),
            cutoff_version: 0,
            cutoffs_of_host: false,
            newest_request: None,
            cutoffs_sent: None,
            path_mtu: PathMtu::ASSUMED,
            resend_timeout: ResendTimeout::UNKNOWN,
            retransmissions: RetransmissionBudget::new(now),
            acks: AckQueue::EMPTY,
            in_flight: InFlight::NONE,
            blocked: SharedHeap::default(),
            liveness: Liveness::new(now),
            first_client_rpc: NIL,
            probe_cursor: NIL,
            host: NIL,
            next_at_host: NIL,
            previous_at_host: NIL,
        }
    }

    /// The peer lives another life than before: what it told us is void.
    pub(crate) fn forget_learned(&mut self, incarnation: u32, config: &Config) {
        self.incarnation = incarnation;
        self.validation = AddressValidation::default();
        self.cutoffs = Cutoffs::initial(config.priorities.count);
        self.cutoff_version = 0;
        self.cutoffs_of_host = false;
        self.newest_request = None;
        self.acks.clear();
    }

    /// Whether it has not proved its address, although it could.
    pub(crate) fn is_stranger(&self) -> bool {
        !self.validation.is_done() && self.path.carriage == Carriage::Udp
    }

    /// Whether nothing refers to it, and it was not asked anything.
    fn is_unused(&self) -> bool {
        self.references == 0 && (self.liveness.probe().is_none() || self.is_stranger())
    }

    /// Nothing is on its way to it any more, no question either.
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

    /// Longest datagram in which several packets may go. If a path swallowed it for its length,
    /// nobody would notice, since all in it are short: it is no longer than what every path
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

    pub(crate) fn unscheduled_bytes(&self, config: &Config) -> u32 {
        self.settings.unscheduled_bytes.unwrap_or(config.unscheduled.bytes).max(1)
    }

    pub(crate) fn in_flight_max(&self, config: &Config) -> u32 {
        self.settings
            .unscheduled_in_flight_max_bytes
            .unwrap_or(config.unscheduled.in_flight_max_bytes)
    }
}
