//! The engine: all RPCs of one shard, and the calls that move them. See the crate's documentation
//! for the contract.
//!
//! | room | what it decides |
//! | --- | --- |
//! | `api` | what the application asks for: requests, responses, aborts |
//! | `dispatch` | what a received packet changes |
//! | `receiver` | what senders may send to us: grants, memory |
//! | `sender` | what leaves next: new data, retransmissions, control packets |
//! | `recovery` | what happens when nothing happens: RESEND, probes, giving up |
//! | `peer` | what is known of the other ends, who a packet is from, what a host's share is |
//! | `rpc` | the states of an RPC, how it begins and ends, the events about it |
//! | `impossible` | what becomes of a broken invariant |

mod api;
#[cfg(any(test, feature = "check"))]
mod check;
mod dispatch;
mod impossible;
#[cfg(test)]
mod invariants;
mod peer;
mod ports;
mod receiver;
mod recovery;
mod rpc;
mod sender;
mod stats;

use crate::addr::{Path, PeerKey};
use crate::budget::{HostBudget, SlotId};
use crate::config::{Config, ConfigError, CutoffSource, LINUX_MESSAGE_BYTES_MAX, PeerSettings};
use crate::cutoffs::{CutoffPlanner, Cutoffs, PlannerConfig};
use crate::engine::peer::PeerTable;
use crate::engine::peer::client_hosts::ClientHosts;
use crate::engine::peer::shares::Holders;
use crate::engine::ports::Ports;
use crate::engine::receiver::grant::{GrantLimits, Granter};
use crate::engine::receiver::memory::Memory;
use crate::engine::receiver::starved::Starved;
use crate::engine::recovery::pauses::{Pauses, ReadClock};
use crate::engine::rpc::RpcTable;
use crate::engine::sender::control::Control;
use crate::engine::sender::pacer::Pacer;
use crate::engine::sender::refusals::Refusals;
use crate::engine::sender::replies::Allowance;
use crate::engine::stats::Count;
use crate::event::{Event, RpcKey, Urgency, WakeReason};
use crate::finished::Finished;
use crate::secret::{Secret, Seed};
use crate::structures::NIL;
use crate::structures::hash::{Map, SeededState};
use crate::structures::heap::IndexedHeap;
use crate::structures::shared_heap::Positions;
use crate::time::{Instant, nanos};
use alloc::collections::VecDeque;

pub use api::{RequestOptions, RpcError, SendError};
#[cfg(any(test, feature = "check"))]
pub use check::HeldBytes;
pub use receiver::incoming::PIECE_BYTES;
pub use rpc::introspect::RpcInfo;
pub use stats::Stats;

/// Ports one engine can open.
const PORTS_MAX: usize = 65_535;

/// How a port behaves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PortOptions {
    /// Requests are accepted. Otherwise only calls can be made from the port.
    pub serve: bool,
    /// Requests are read as streams from the start, see [`Engine::set_streaming`].
    pub streaming_requests: bool,
}

impl PortOptions {
    /// A port that accepts requests.
    pub const SERVE: Self = Self { serve: true, streaming_requests: false };
    /// A port that only makes calls.
    pub const CLIENT: Self = Self { serve: false, streaming_requests: false };

    /// The same with requests read as streams.
    #[must_use]
    pub const fn with_streaming_requests(self) -> Self {
        Self { streaming_requests: true, ..self }
    }
}

/// Why a port could not be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PortError {
    /// It is open in this engine already.
    InUse,
    /// No memory for it.
    OutOfMemory,
}

impl core::fmt::Display for PortError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::InUse => "the port is in use",
            Self::OutOfMemory => "out of memory",
        })
    }
}

impl core::error::Error for PortError {}

/// The protocol state machine of one shard. See the crate's documentation for the contract.
#[derive(Debug)]
pub struct Engine {
    config: Config,
    budget: HostBudget,
    budget_slot: Option<SlotId>,
    secret: Secret,
    /// When the engine was first called.
    started: Option<Instant>,
    ports: Ports,

    rpcs: RpcTable,
    /// RPC indices below this are covered by all tables that are indexed by RPC.
    rpcs_covered: usize,
    client_ids: Map<u64, u32>,
    /// The RPC that data came for last, if more of its message is to come: packets come in bursts.
    arriving: u32,
    /// Server RPCs by peer and our (odd) id.
    server_ids: Map<(u32, u64), u32>,
    /// Server RPCs over raw IP by the address of their client.
    client_hosts: ClientHosts,
    /// Client RPCs so far, which number their ids, see [`peer::Peer::first_id`].
    ids_given: u64,
    next_birth: u64,
    finished: Finished,
    /// What the hosts of clients have of the RPCs served and of the responses kept.
    holders: Holders,
    /// See [`Engine::hurry_acknowledgements`].
    in_hurry: bool,
    /// Shortest and longest wait before a client is asked for an acknowledgement.
    ack_intervals_ns: (u64, u64),

    peers: PeerTable,
    /// Server RPCs of clients that had not proved their address when they began, by age.
    strangers: IndexedHeap<u64>,
    /// Where blocked RPCs lie in the queues of their peers.
    blocked_positions: Positions,

    granter: Granter,
    /// What the budget was last told of `Granter::total_incoming`.
    published_incoming: u64,
    memory: Memory,
    /// When DATA last came, of whatever message.
    data_at: Instant,
    /// Bytes asked for again since `asked_since`, in the present resend interval.
    asked_bytes: u64,
    asked_since: Instant,
    /// Messages whose unscheduled part waits for memory.
    starved: Starved,
    rx_capacity_bytes: u64,
    longest_payload: LongestPayload,
    cutoffs: Cutoffs,
    cutoff_version: u16,
    planner: Option<CutoffPlanner>,
    next_planning: Instant,

    pacer: Pacer,
    control: VecDeque<Control>,

    /// Acknowledged server RPCs, to be ended when nothing is left to send or answer.
    late_acks: VecDeque<RpcKey>,
    /// The application has just got a request: its answer, which may come soon, goes first.
    answer_expected: bool,

    /// RPCs with events to hand out, each at most once.
    events: VecDeque<u32>,
    new_peers: VecDeque<u32>,

    rpc_timers: IndexedHeap<Instant>,
    peer_timers: IndexedHeap<Instant>,
    pauses: Pauses,
    /// For replies about unknown RPCs.
    allowance: Allowance,
    refusals: Refusals,
    now: Instant,
    read_clock: ReadClock,
    stats: Stats,
}

impl Engine {
    /// An engine without ports. `seed` drives all its random choices (RPC ids, incarnation, hashes): true
    /// randomness outside tests, see [`Seed`].
    ///
    /// # Errors
    /// The first setting of `config` out of its range.
    pub fn new(
        config: Config,
        budget: HostBudget,
        seed: impl Into<Seed>,
    ) -> Result<Self, ConfigError> {
        config.validate()?;
        let secret = Secret::new(seed.into());
        let mut tables = 0..=u8::MAX;
        let mut hash_seed = || secret.hash_seed(tables.next().unwrap_or(0));
        let (cutoffs, planner) = match &config.cutoffs {
            CutoffSource::Fixed(cutoffs) => ((*cutoffs).normalise(config.num_priorities), None),
            CutoffSource::Automatic { interval, messages_min, drift_min_permille } => {
                let settings = PlannerConfig {
                    interval: *interval,
                    messages_min: *messages_min,
                    drift_min_permille: *drift_min_permille,
                    message_bytes_max: config.max_message_bytes.max(LINUX_MESSAGE_BYTES_MAX),
                    ..PlannerConfig::default()
                };
                (Cutoffs::default_for(config.num_priorities), CutoffPlanner::new(settings).ok())
            }
        };
        let pieces = config.max_message_bytes.div_ceil(PIECE_BYTES);
        let largest = u64::from(pieces).saturating_mul(u64::from(PIECE_BYTES));
        Ok(Self {
            budget_slot: budget.claim(),
            budget,
            started: None,
            ports: Ports::new(hash_seed()),
            rpcs: RpcTable::default(),
            rpcs_covered: 0,
            arriving: NIL,
            client_ids: Map::with_hasher(SeededState::new(hash_seed())),
            server_ids: Map::with_hasher(SeededState::new(hash_seed())),
            ids_given: 0,
            next_birth: 0,
            finished: Finished::new(
                config.finished_memory,
                config.finished_max as usize,
                hash_seed(),
            ),
            holders: Holders::new(config.peers_max, config.kept_responses_bytes),
            in_hurry: false,
            ack_intervals_ns: recovery::unacknowledged::ack_intervals_ns(&config),
            peers: PeerTable::new(hash_seed(), hash_seed()),
            strangers: IndexedHeap::new(),
            blocked_positions: Positions::default(),
            granter: Granter::new(&config, hash_seed()),
            client_hosts: ClientHosts::new(hash_seed()),
            published_incoming: 0,
            memory: Memory::new(config.receive_memory_bytes, largest, hash_seed()),
            data_at: Instant::ZERO,
            asked_bytes: 0,
            asked_since: Instant::ZERO,
            starved: Starved::default(),
            rx_capacity_bytes: u64::MAX,
            longest_payload: LongestPayload::default(),
            cutoff_version: cutoffs.version(),
            cutoffs,
            planner,
            next_planning: Instant::ZERO,
            pacer: Pacer::new(&config),
            control: VecDeque::new(),
            late_acks: VecDeque::with_capacity(dispatch::control::LATE_ACKS_MAX),
            answer_expected: false,
            events: VecDeque::new(),
            new_peers: VecDeque::new(),
            rpc_timers: IndexedHeap::new(),
            peer_timers: IndexedHeap::new(),
            pauses: Pauses::NONE,
            allowance: Allowance::FULL,
            refusals: Refusals::NONE,
            now: Instant::ZERO,
            read_clock: ReadClock::ZERO,
            stats: Stats::default(),
            secret,
            config,
        })
    }

    /// The settings in force.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Opens a port.
    ///
    /// # Errors
    /// The port is open already, or memory is short.
    pub fn bind_port(&mut self, port: u16, options: PortOptions) -> Result<(), PortError> {
        self.ports.open(port, options)
    }

    /// Gives one peer settings of its own and keeps its record. `false`: the peer table is full.
    pub fn set_peer(&mut self, now: Instant, path: Path, settings: PeerSettings) -> bool {
        let Some(index) = self.peer_or_new(now, &path) else {
            return false;
        };
        let Some(peer) = self.peers.known_mut(index) else {
            return false;
        };
        if peer.settings == PeerSettings::default() {
            peer.references = peer.references.saturating_add(1);
        }
        peer.settings = settings;
        true
    }

    /// What the driver's receive buffer holds, in payload bytes of packets of an Ethernet MTU:
    /// about half of it is granted ahead at most.
    pub fn set_receive_capacity(&mut self, bytes: u64) {
        self.rx_capacity_bytes = bytes.max(1);
        self.granter.retry();
    }

    /// The path to `remote` carries IP packets of at most `mtu` bytes; the link runs at
    /// `link_mbps`, if known. Port 0 stands for all peers at that IP address, as in reports about
    /// packets that are not quoted. Nothing happens for an unknown peer.
    pub fn path_changed(&mut self, now: Instant, path: Path, mtu: u32, link_mbps: Option<u32>) {
        self.tick(now);
        if link_mbps.is_some() {
            self.pacer.set_link(link_mbps, &self.config);
        }
        let whole_host = path.remote.port() == 0;
        let mut next = match whole_host {
            true => self.peers.first_at_host(path.remote.ip()),
            false => self.peer_of(&path).unwrap_or(NIL),
        };
        while let Some(peer) = self.peers.get_mut(next) {
            if peer.path_mtu.set(mtu, peer.key.ip.is_ipv4()) {
                self.stats.mtu_shrinks.inc();
            }
            next = if whole_host { peer.next_at_host } else { NIL };
        }
    }

    /// When `handle_timeout` should be called next, and why. `None`: only a packet or a call can
    /// change anything.
    #[inline]
    pub fn poll_timeout(&self) -> Option<(Instant, WakeReason)> {
        if self.has_transmit_work() {
            let at = if self.only_paced_work() && !self.pacer.has_short() {
                self.pacer.ready_at(&self.config)
            } else {
                Instant::ZERO
            };
            let reason = if at > self.now { WakeReason::Pacer } else { WakeReason::Transmit };
            return Some((at.max(self.now), reason)).map(|paced| self.sooner_timer(paced));
        }
        self.next_timer()
    }

    /// How much the next turn matters.
    #[inline]
    pub fn urgency(&self) -> Urgency {
        let moving = self.has_transmit_work()
            || self.granter.total_incoming() > 0
            || !self.starved.is_empty();
        match self.next_timer() {
            _ if moving => Urgency::Active,
            None => Urgency::Quiescent,
            Some((at, _)) => Urgency::Lazy(at),
        }
    }

    /// The next thing to tell the application.
    #[inline]
    pub fn poll_event(&mut self) -> Option<Event> {
        // Mostly there is nothing, and every turn asks several times.
        match (self.new_peers.is_empty(), self.events.is_empty()) {
            (true, true) => None,
            (true, false) => self.next_rpc_event(),
            (false, _) => self.next_peer_event(),
        }
    }

    #[cold]
    fn next_peer_event(&mut self) -> Option<Event> {
        while let Some(index) = self.new_peers.pop_front() {
            if let Some(peer) = self.peers.get(index) {
                return Some(Event::PeerAdded { path: peer.path });
            }
        }
        self.next_rpc_event()
    }

    /// Counters and present sizes.
    pub fn stats(&self) -> Stats {
        Stats {
            live_rpcs: self.rpcs.len() as u64,
            live_peers: self.peers.len() as u64,
            finished_entries: self.finished.len() as u64,
            receive_memory_bytes: self.memory.used(),
            incoming_bytes: self.granter.total_incoming(),
            impossible: self.impossible(),
            ..self.stats
        }
    }

    /// Broken invariants of all tables.
    fn impossible(&self) -> u64 {
        let tables = [
            &self.rpcs.impossible,
            &self.client_hosts.impossible,
            &self.holders.impossible,
            &self.peers.impossible,
            &self.granter.impossible,
            &self.memory.impossible,
            &self.starved.impossible,
        ];
        tables.iter().map(|table| table.count()).fold(0, u64::saturating_add)
    }

    #[inline]
    fn next_timer(&self) -> Option<(Instant, WakeReason)> {
        let rpc = self.rpc_timers.peek().map(|(_, at)| (at, WakeReason::Rpc));
        let peer = self.peer_timers.peek().map(|(_, at)| (at, WakeReason::Peer));
        match (rpc, peer) {
            (Some(rpc), Some(peer)) => Some(if peer.0 < rpc.0 { peer } else { rpc }),
            (rpc, peer) => rpc.or(peer),
        }
    }

    #[inline]
    fn sooner_timer(&self, paced: (Instant, WakeReason)) -> (Instant, WakeReason) {
        self.next_timer().filter(|timer| timer.0 < paced.0).unwrap_or(paced)
    }

    /// Notes the time. A call long after the next timer means that nobody drove the engine for a
    /// while (stopped process, paused machine): packets may wait unread, so silence during that
    /// time says nothing about the peers.
    #[inline]
    fn tick(&mut self, now: Instant) {
        // The calls of one turn name the same time.
        if now > self.now || self.started.is_none() {
            self.advance(now);
        }
    }

    fn advance(&mut self, now: Instant) {
        let (gap_ns, usual_ns) = (now.ns_since(self.now), nanos(self.config.clock_jump_min));
        if gap_ns > usual_ns || self.started.is_none() {
            self.look_for_pause(now);
        }
        self.read_clock.turn(gap_ns, usual_ns);
        self.now = self.now.max(now);
    }

    #[cold]
    fn look_for_pause(&mut self, now: Instant) {
        self.started.get_or_insert(now);
        // A timer that waits although the engine is called (the driver still finds packets) is no jump.
        let due = self.next_timer().map_or(now, |(at, _)| at.max(self.now));
        if now.since(due) > self.config.clock_jump_min {
            self.note_pause(due, now);
        }
    }

    /// How long this life of the engine has lasted in microseconds, rounded down; after 4,294 s no more is said.
    /// Saying too little is safe: a client then takes the former life for longer than it was.
    pub(crate) fn age_us(&self) -> u32 {
        let age = self.now.since(self.started.unwrap_or(self.now));
        u32::try_from(nanos(age) / 1000).unwrap_or(u32::MAX)
    }

    fn grant_limits(&self) -> GrantLimits {
        let packet = u64::from(self.longest_payload.bytes(self.now));
        let enough = packet.saturating_mul(u64::from(self.config.incoming_packets_min));
        let max_incoming = u64::from(self.config.max_incoming_bytes).max(enough);
        let step = match self.config.grant_step_bytes {
            0 => 0,
            least if self.config.incoming_packets_min == 0 => u64::from(least),
            least => u64::from(least).max(packet.saturating_mul(2)),
        };
        GrantLimits {
            now: self.now,
            max_incoming,
            incoming_cap: max_incoming.min(self.receive_share()).max(1),
            step,
            others_incoming: self
                .budget_slot
                .as_ref()
                .map_or(0, |slot| self.budget.others_incoming(*slot)),
            max_scheduled_priority: self.cutoffs.max_scheduled_priority(self.config.num_priorities),
        }
    }

    /// Share of the receive buffer for granted data: half of it, the other half being for
    /// unscheduled data; but two of the longest packets if three quarters hold them, since
    /// otherwise receiving could not overlap with sending.
    fn receive_share(&self) -> u64 {
        let packet = u64::from(self.longest_payload.bytes(self.now));
        // The system's own administration takes about as much as a short packet, and next to
        // nothing of a long one.
        let capacity = if packet > LONG_PACKET_BYTES {
            self.rx_capacity_bytes.saturating_mul(3) / 2
        } else {
            self.rx_capacity_bytes
        };
        let most = capacity.saturating_mul(3) / 4;
        (capacity / 2).max(packet.saturating_mul(2).min(most))
    }

    /// Computes new cutoffs from what arrived, when it is time.
    fn plan_cutoffs(&mut self) {
        let Some(planner) = &mut self.planner else {
            return;
        };
        let levels = self.config.num_priorities;
        let fresh =
            planner.maybe_update(self.now, self.config.unscheduled_bytes, levels, &self.cutoffs);
        if let Some(cutoffs) = fresh {
            self.cutoff_version = cutoffs.version();
            self.cutoffs = cutoffs;
            self.stats.cutoff_updates.inc();
        }
    }

    fn peer_of(&self, path: &Path) -> Option<u32> {
        self.peers.find(path)
    }

    /// The peer at the end of `path`, made if it is new. `None`: no room.
    fn peer_or_new(&mut self, now: Instant, path: &Path) -> Option<u32> {
        match self.peers.find(path) {
            Some(index) => Some(index),
            None => self.add_peer(now, path),
        }
    }

    fn add_peer(&mut self, now: Instant, path: &Path) -> Option<u32> {
        if self.peers.is_full(&self.config) {
            self.peers.evict(now, &self.config, &mut self.peer_timers);
        }
        while self.peers.is_full(&self.config) && self.displace_stranger(None) {}
        let index = self.peers.insert(PeerKey::of(path), *path, &self.config, now)?;
        let capacity = self.peers.capacity();
        let reserved = self.peer_timers.try_reserve(capacity).is_ok()
            && self.new_peers.try_reserve(1).is_ok()
            && self.holders.try_reserve(self.peers.hosts()).is_ok();
        if !reserved {
            self.peers.remove(index, &mut self.peer_timers);
            return None;
        }
        self.new_peers.push_back(index);
        if let Some(peer) = self.peers.known_mut(index) {
            peer.ours = self.secret.incarnation(peer.key.ip);
            peer.first_id = self.secret.first_id(&peer.key);
        }
        Some(index)
    }
}

/// The longest payload of the packets that came lately, in bytes.
#[derive(Clone, Copy, Debug, Default)]
struct LongestPayload {
    bytes: u32,
    at: Instant,
}

impl LongestPayload {
    fn note(&mut self, now: Instant, bytes: u32) {
        if bytes >= self.bytes(now) {
            *self = Self { bytes, at: now };
        }
    }

    fn bytes(&self, now: Instant) -> u32 {
        if now.ns_since(self.at) < LONGEST_PAYLOAD_MEMORY_NS { self.bytes } else { 0 }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if let Some(slot) = self.budget_slot.take() {
            self.budget.release(slot);
        }
    }
}

/// A long packet is no hint at what will come after this time.
const LONGEST_PAYLOAD_MEMORY_NS: u64 = 1_000_000_000;

/// Packets longer than this fill a receive buffer with little waste.
pub(crate) const LONG_PACKET_BYTES: u64 = 16_384;
