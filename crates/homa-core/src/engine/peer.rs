//! What is known of the other ends: one bounded record per peer.

use alloc::vec::Vec;
use core::cell::Cell;
use core::hash::BuildHasher;
use core::net::{IpAddr, SocketAddr};
use core::time::Duration;

use crate::addr::{Carriage, Path, PeerKey};
use crate::config::{Config, PeerSettings};
use crate::cutoffs::Cutoffs;
use crate::engine::LONG_PACKET_BYTES;
use crate::engine::holders::PeerServed;
use crate::engine::impossible::Impossible;
use crate::engine::patience::Patience;
use crate::engine::rpc::NIL;
use crate::engine::shared_heap::SharedHeap;
use crate::engine::train::{DATAGRAM_ALWAYS_FITS, DATAGRAM_WITHIN_HOST};
use crate::event::FailReason;
use crate::structures::hash::{Map, SeededState};
use crate::structures::heap::IndexedHeap;
use crate::time::Instant;

/// Acknowledgements that wait for a packet to ride on, per peer.
const ACKS_MAX: usize = 16;
/// Peers looked at, and evicted, when a new one needs room (docs/spec/protocol.md §13).
const EVICTION_LOOKS: usize = 10;
/// Path MTU assumed until the driver says better: what IPv6 guarantees.
pub(crate) const MTU_MIN: u32 = 1280;

/// A question to the peer that waits for its answer: "do you have this RPC?"
#[derive(Clone, Copy, Debug)]
pub(crate) struct Probe {
    /// The way of the RPC that was named: a peer may be reached from several ports of ours.
    pub(crate) path: Path,
    /// Id (our form) of that RPC.
    pub(crate) id: u64,
    pub(crate) first_sent: Instant,
    pub(crate) next_send: Instant,
    pub(crate) tries: u32,
}

/// One acknowledgement to pass on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PendingAck {
    /// Id in the client's form.
    pub(crate) client_id: u64,
    pub(crate) server_port: u16,
}

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
    /// The number by which we know its present life; 0 = unknown, or a Linux host. Over UDP it has proved that it is its
    /// own, over raw IP it may only have announced it.
    pub(crate) incarnation: u32,
    /// When it last said so in a packet of our own profile.
    pub(crate) own_heard: Instant,
    /// It has echoed our incarnation: its address is its own.
    pub(crate) validated: bool,
    pub(crate) received_bytes: u64,
    pub(crate) sent_bytes: u64,
    /// Those of control packets.
    pub(crate) sent_control_bytes: u64,
    pub(crate) cutoffs: Cutoffs,
    pub(crate) cutoff_version: u16,
    /// They are those of a Linux host, for all of its sockets.
    pub(crate) cutoffs_of_host: bool,
    /// The highest id (our form) of its requests, and since when they have been compared.
    pub(crate) newest_request: Option<(u64, Instant)>,

    pub(crate) cutoffs_sent: Option<Instant>,
    pub(crate) mtu: u32,
    /// Rounds of lost full-size packets since one is known to have arrived.
    pub(crate) full_size_lost_rounds: u8,
    /// Rounds of gaps in front of a full-size packet that had arrived, since the same.
    pub(crate) full_size_gap_rounds: u8,
    /// The MTU before the path was taken for a black hole, and when that was.
    pub(crate) mtu_before: Option<(u32, Instant)>,
    /// When the last such round began.
    pub(crate) full_size_lost_at: Option<Instant>,
    /// How long it takes to react, if it is a Linux host.
    pub(crate) patience: Patience,
    /// When that was last raised because it had been asked too early.
    pub(crate) patience_raised: Option<Instant>,
    /// Smallest round trip seen, in ns; `u64::MAX` = none yet.
    pub(crate) rtt_min_ns: u64,
    /// Bytes that it had sent again since `copied_since`, in the present resend interval.
    pub(crate) copied_bytes: u64,
    copied_since: Instant,

    acks: [PendingAck; ACKS_MAX],
    ack_count: usize,

    // Unscheduled data on its way.
    pub(crate) in_flight: u32,
    pub(crate) in_flight_before_probe: u32,
    /// What RPCs that waited for room will put on its way: they are in the output order now.
    pub(crate) let_go: u32,
    pub(crate) epoch: u32,
    pub(crate) cleared_epoch: u32,
    /// Way and id (our form) of the RPC that was charged last.
    pub(crate) last_charged: Option<(Path, u64)>,
    /// Lowest level of what was charged since nothing was.
    pub(crate) charged_level: u8,
    /// RPCs that wait for `in_flight` to fall or for validation, in SRPT order.
    pub(crate) blocked: SharedHeap<(u32, u64)>,

    // Liveness.
    pub(crate) probe: Option<Probe>,
    pub(crate) probe_interval_ns: u64,
    pub(crate) next_probe: Instant,
    /// Client RPCs waiting for this peer, all confirmed.
    pub(crate) waiting: u32,
    /// First of its client RPCs (linked through [`crate::engine::rpc::Rpc::next`]).
    pub(crate) first_client_rpc: u32,
    /// Where the round of liveness probes stands.
    pub(crate) probe_cursor: u32,
    /// Waiting RPCs still to be asked about without a pause: the peer may have lost them.
    pub(crate) recheck: u32,
    /// One of them was lost: all are asked about once more.
    pub(crate) recheck_again: bool,
    /// When that may begin, and the pause before: the longer the more often it does.
    recheck_from: Instant,
    recheck_pause: Duration,
    /// When it last answered a question, or showed that it had taken what was on its way.
    pub(crate) reacted_at: Instant,
    /// Calls to it fail, some at a time, for this reason.
    pub(crate) failing: Option<FailReason>,

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
            validated: false,
            received_bytes: 0,
            sent_bytes: 0,
            sent_control_bytes: 0,
            cutoffs: Cutoffs::initial(config.num_priorities),
            cutoff_version: 0,
            cutoffs_of_host: false,
            newest_request: None,
            cutoffs_sent: None,
            mtu: MTU_MIN,
            full_size_lost_rounds: 0,
            full_size_gap_rounds: 0,
            mtu_before: None,
            full_size_lost_at: None,
            patience: Patience::default(),
            patience_raised: None,
            rtt_min_ns: u64::MAX,
            copied_bytes: 0,
            copied_since: now,
            acks: [PendingAck { client_id: 0, server_port: 0 }; ACKS_MAX],
            ack_count: 0,
            in_flight: 0,
            let_go: 0,
            in_flight_before_probe: 0,
            epoch: 1,
            cleared_epoch: 0,
            last_charged: None,
            charged_level: 0,
            blocked: SharedHeap::default(),
            probe: None,
            probe_interval_ns: 0,
            next_probe: Instant::FAR_FUTURE,
            waiting: 0,
            first_client_rpc: NIL,
            probe_cursor: NIL,
            recheck: 0,
            recheck_again: false,
            recheck_from: Instant::ZERO,
            recheck_pause: Duration::ZERO,
            reacted_at: now,
            failing: None,
            host: NIL,
            next_at_host: NIL,
            previous_at_host: NIL,
        }
    }

    /// The way to it carries IP packets of at most `mtu` bytes. Says whether that is less than before.
    pub(crate) fn mtu_changed(&mut self, mtu: u32) -> bool {
        let floor = if self.key.ip.is_ipv4() { 576 } else { MTU_MIN };
        let (before, mtu) = (self.mtu, mtu.max(floor));
        if mtu != before {
            self.mtu = mtu;
            self.full_size_lost_rounds = 0;
            self.full_size_gap_rounds = 0;
            self.mtu_before = None;
        }
        mtu < before
    }

    /// The peer lives another life than before: what it told us is void.
    pub(crate) fn forget_learned(&mut self, incarnation: u32, config: &Config) {
        self.incarnation = incarnation;
        self.validated = false;
        self.received_bytes = 0;
        self.sent_bytes = 0;
        self.sent_control_bytes = 0;
        self.cutoffs = Cutoffs::initial(config.num_priorities);
        self.cutoff_version = 0;
        self.cutoffs_of_host = false;
        self.newest_request = None;
        self.ack_count = 0;
    }

    /// Whether it has not proved its address, although it could.
    pub(crate) fn is_stranger(&self) -> bool {
        !self.validated && self.path.carriage == Carriage::Udp
    }

    /// Whether nothing refers to it, and it was not asked anything.
    fn is_unused(&self) -> bool {
        self.references == 0 && (self.probe.is_none() || self.is_stranger())
    }

    /// Nothing is on its way to it any more, no question either.
    pub(crate) fn nothing_in_flight(&mut self) {
        self.probe = None;
        self.in_flight = 0;
        self.in_flight_before_probe = 0;
        self.cleared_epoch = self.epoch;
        self.epoch = self.epoch.saturating_add(1);
    }

    /// Remembers an acknowledgement for a later packet. `Some`: the store was full, send this one by
    /// an ACK of its own.
    pub(crate) fn push_ack(&mut self, ack: PendingAck) -> Option<PendingAck> {
        match self.acks.get_mut(self.ack_count) {
            Some(slot) => {
                *slot = ack;
                self.ack_count = self.ack_count.saturating_add(1);
                None
            }
            None => Some(ack),
        }
    }

    /// The newest waiting acknowledgement.
    pub(crate) fn pop_ack(&mut self) -> Option<PendingAck> {
        self.ack_count = self.ack_count.checked_sub(1)?;
        self.acks.get(self.ack_count).copied()
    }

    /// Longest Homa packet (header and payload) that fits the path.
    pub(crate) fn packet_bytes_max(&self, config: &Config) -> u32 {
        let ip_header = if self.key.ip.is_ipv4() { 20 } else { 40 };
        let udp_header = if self.path.carriage == Carriage::Udp { 8 } else { 0 };
        // An IPv4 packet cannot be longer than 65,535 bytes in all, nor can UDP data in IPv6.
        let ip_bytes = self.mtu.min(config.mtu_max).min(65_535);
        ip_bytes.saturating_sub(ip_header).saturating_sub(udp_header)
    }

    /// Longest datagram in which several packets may go. If a path swallowed it for its length, nobody would
    /// notice, since all in it are short: it is no longer than what every path carries, except within a host,
    /// whose packets are far longer than those of any network. There it is so long that to copy it takes less time
    /// than to send another: what comes first in it waits for the rest.
    pub(crate) fn datagram_bytes(&self, config: &Config) -> u32 {
        let packet_bytes = self.packet_bytes_max(config);
        let within_host = u64::from(packet_bytes) > LONG_PACKET_BYTES;
        packet_bytes.min(if within_host { DATAGRAM_WITHIN_HOST } else { DATAGRAM_ALWAYS_FITS })
    }

    /// All RPCs that wait are asked about, from the time on that is returned. A server may lose one after the other: the
    /// pause doubles, until it has been quiet for a while.
    pub(crate) fn begin_recheck(&mut self, now: Instant, config: &Config) -> Instant {
        let (shortest, longest) = (config.resend_interval * 2, config.resend_interval_max);
        let quiet = now >= self.recheck_from + longest;
        let longer = self.recheck_pause.saturating_mul(2).min(longest);
        self.recheck_pause = if quiet { shortest } else { longer.max(shortest) };
        self.next_probe = now.max(self.recheck_from);
        self.recheck_from = self.next_probe + self.recheck_pause;
        self.recheck = self.waiting;
        self.next_probe
    }

    pub(crate) fn timeout(&self, config: &Config) -> Duration {
        self.settings.timeout.unwrap_or(config.timeout)
    }

    pub(crate) fn unscheduled_bytes(&self, config: &Config) -> u32 {
        self.settings.unscheduled_bytes.unwrap_or(config.unscheduled_bytes).max(1)
    }

    pub(crate) fn in_flight_max(&self, config: &Config) -> u32 {
        self.settings
            .unscheduled_in_flight_max_bytes
            .unwrap_or(config.unscheduled_in_flight_max_bytes)
    }

    /// Bytes that may still be sent before the peer has proved its address: three times what it
    /// sent, as in QUIC (RFC 9000 §8).
    pub(crate) fn unvalidated_room(&self) -> u64 {
        self.received_bytes.saturating_mul(3).saturating_sub(self.sent_bytes)
    }

    /// Bytes that it may still have sent again in the present resend interval.
    pub(crate) fn room_for_copies(&mut self, now: Instant, interval: Duration, max: u64) -> u32 {
        if now.since(self.copied_since) >= interval {
            self.copied_since = now;
            self.copied_bytes = 0;
        }
        u32::try_from(max.saturating_sub(self.copied_bytes)).unwrap_or(u32::MAX)
    }

    /// Bytes of control packets among them: as many as it sent.
    pub(crate) fn unvalidated_control_room(&self) -> u64 {
        self.unvalidated_room().min(self.received_bytes.saturating_sub(self.sent_control_bytes))
    }

    /// Notes a round trip.
    pub(crate) fn note_rtt(&mut self, sent: Instant, now: Instant) {
        self.rtt_min_ns = self.rtt_min_ns.min(crate::time::nanos(now.since(sent)));
    }
}

/// All peers, bounded.
#[derive(Debug)]
pub(crate) struct PeerTable {
    peers: Vec<Option<Peer>>,
    free: Vec<u32>,
    by_key: Map<PeerKey, u32>,
    /// For [`Peer::hash`].
    hasher: SeededState,
    /// The first of the peers at each IP address, linked through [`Peer::next_at_host`].
    by_host: Map<IpAddr, u32>,
    /// Numbers below this are, or were, those of IP addresses.
    hosts: u32,
    /// Those that were.
    free_hosts: Vec<u32>,
    /// The last peer found: packets come in bursts.
    recent: Cell<Option<(SocketAddr, u32)>>,
    /// Where the search for idle peers goes on.
    hand: usize,
    pub(crate) evicted: u64,
    pub(crate) impossible: Impossible,
}

impl PeerTable {
    pub(crate) fn new(seed: u64, hash_seed: u64) -> Self {
        Self {
            peers: Vec::new(),
            free: Vec::new(),
            by_key: Map::with_hasher(SeededState::new(seed)),
            hasher: SeededState::new(hash_seed),
            by_host: Map::with_hasher(SeededState::new(seed)),
            hosts: 0,
            free_hosts: Vec::new(),
            recent: Cell::new(None),
            hand: 0,
            evicted: 0,
            impossible: Impossible::default(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.by_key.len()
    }

    pub(crate) fn capacity(&self) -> usize {
        self.peers.len()
    }

    pub(crate) fn is_full(&self, config: &Config) -> bool {
        self.by_key.len() >= config.peers_max as usize
    }

    /// Every [`Peer::host`] is below this.
    pub(crate) fn hosts(&self) -> usize {
        self.hosts as usize
    }

    /// The peer at an index for which nobody vouches: of a link that may lead nowhere, or of one that may have been evicted.
    pub(crate) fn get(&self, index: u32) -> Option<&Peer> {
        self.peers.get(index as usize)?.as_ref()
    }

    pub(crate) fn get_mut(&mut self, index: u32) -> Option<&mut Peer> {
        self.peers.get_mut(index as usize)?.as_mut()
    }

    /// The peer at an index that the engine vouches for, as that of an RPC which is not over: that there is none is
    /// [`Impossible`].
    #[inline]
    #[track_caller]
    pub(crate) fn known(&self, index: u32) -> Option<&Peer> {
        self.impossible.known(self.get(index))
    }

    /// As [`PeerTable::known`].
    #[inline]
    #[track_caller]
    pub(crate) fn known_mut(&mut self, index: u32) -> Option<&mut Peer> {
        self.impossible.known(self.peers.get_mut(index as usize).and_then(Option::as_mut))
    }

    /// The peer at the end of `path`.
    #[inline]
    pub(crate) fn find(&self, path: &Path) -> Option<u32> {
        match self.recent.get() {
            Some((remote, index)) if remote == path.remote => Some(index),
            _ => self.search(path),
        }
    }

    fn search(&self, path: &Path) -> Option<u32> {
        let index = self.by_key.get(&PeerKey::of(path)).copied()?;
        self.recent.set(Some((path.remote, index)));
        Some(index)
    }

    /// [`Peer::hash`] of the peer at the end of `path`, whether it is known or not.
    pub(crate) fn hash_of(&self, path: &Path) -> u64 {
        self.hasher.hash_one(PeerKey::of(path))
    }

    /// Number of an IP address, [`NIL`] if no peer is there.
    pub(crate) fn host_at(&self, ip: IpAddr) -> u32 {
        self.get(self.first_at_host(ip)).map_or(NIL, |peer| peer.host)
    }

    /// The first of the peers at an IP address, [`NIL`] if there is none.
    pub(crate) fn first_at_host(&self, ip: IpAddr) -> u32 {
        self.by_host.get(&ip.to_canonical()).copied().unwrap_or(NIL)
    }

    /// Adds a peer that is not there yet. `None`: the table is full, or memory is.
    pub(crate) fn insert(
        &mut self,
        key: PeerKey,
        path: Path,
        config: &Config,
        now: Instant,
    ) -> Option<u32> {
        if self.is_full(config) {
            return None;
        }
        self.by_key.try_reserve(1).ok()?;
        self.by_host.try_reserve(1).ok()?;
        // Room for every number to come back.
        let numbered = (self.hosts as usize).saturating_add(1);
        let missing = numbered.saturating_sub(self.free_hosts.len());
        self.free_hosts.try_reserve(missing).ok()?;
        let index = match self.free.pop() {
            Some(index) => index,
            None => {
                let index = u32::try_from(self.peers.len()).ok()?;
                self.peers.try_reserve(1).ok()?;
                // Room for every index to come back, so that eviction cannot fail.
                let missing = self.peers.len().saturating_add(1).saturating_sub(self.free.len());
                self.free.try_reserve(missing).ok()?;
                self.peers.push(None);
                index
            }
        };
        let hash = self.hasher.hash_one(key);
        let mut peer = Peer::new(key, hash, path, config, now);
        if path.carriage == Carriage::Ip {
            if let Some(neighbour) = self.get(self.first_at_host(key.ip)) {
                peer.inherit_cutoffs(neighbour);
            }
        }
        *self.peers.get_mut(index as usize)? = Some(peer);
        self.by_key.insert(key, index);
        self.link_to_host(index);
        Some(index)
    }

    /// Puts a new peer first among those at its IP address.
    fn link_to_host(&mut self, index: u32) {
        let Some(ip) = self.known(index).map(|peer| peer.key.ip) else {
            return;
        };
        let next = self.by_host.insert(ip, index).unwrap_or(NIL);
        let host = match self.get_mut(next) {
            Some(next) => {
                next.previous_at_host = index;
                next.host
            }
            None => self.free_hosts.pop().unwrap_or_else(|| {
                self.hosts = self.hosts.saturating_add(1);
                self.hosts.saturating_sub(1)
            }),
        };
        if let Some(peer) = self.known_mut(index) {
            peer.next_at_host = next;
            peer.host = host;
        }
    }

    /// Forgets all that leads to a peer that was at `index`.
    fn unlink(&mut self, index: u32, peer: &Peer) {
        self.by_key.remove(&peer.key);
        self.recent.set(None);
        self.free.push(index);
        let (previous, next) = (peer.previous_at_host, peer.next_at_host);
        if let Some(next) = self.get_mut(next) {
            next.previous_at_host = previous;
        }
        if let Some(previous) = self.get_mut(previous) {
            previous.next_at_host = next;
        } else if next == NIL {
            self.by_host.remove(&peer.key.ip);
            self.free_hosts.push(peer.host);
        } else if let Some(first) = self.by_host.get_mut(&peer.key.ip) {
            *first = next;
        } else {
            self.impossible.found();
        }
    }

    /// Looks at a few peers, going round, and drops those that are idle: for `peer_idle_max`, or if the table is full for
    /// `peer_idle_min`, and strangers at once. If it is full and all are younger, the one goes that has been silent for longest:
    /// idle ones keep no newcomer out, whosever they are.
    pub(crate) fn evict(
        &mut self,
        now: Instant,
        config: &Config,
        timers: &mut IndexedHeap<Instant>,
    ) {
        let full = self.is_full(config);
        let idle_min = if full { config.peer_idle_min } else { config.peer_idle_max };
        let mut longest: Option<(Instant, u32)> = None;
        for _ in 0..EVICTION_LOOKS.min(self.peers.len()) {
            self.hand = self.hand.saturating_add(1);
            if self.hand >= self.peers.len() {
                self.hand = 0;
            }
            let index = u32::try_from(self.hand).unwrap_or(NIL);
            let Some(peer) = self.get(index).filter(|peer| peer.is_unused()) else {
                continue;
            };
            let used = peer.last_heard.max(peer.last_used);
            if now.since(used) >= idle_min || (full && peer.is_stranger()) {
                self.remove(index, timers);
                self.evicted = self.evicted.saturating_add(1);
            } else if longest.is_none_or(|(than, _)| used < than) {
                longest = Some((used, index));
            }
        }
        if let Some((_, index)) = longest.filter(|_| self.is_full(config)) {
            self.remove(index, timers);
            self.evicted = self.evicted.saturating_add(1);
        }
    }

    /// Every peer is found by its address, alone and among those at its IP address.
    #[cfg(any(test, feature = "check"))]
    pub(crate) fn check(&self, config: &Config) {
        assert!(self.len() <= config.peers_max as usize, "more peers than peers_max");
        assert_eq!(self.peers.iter().flatten().count(), self.len(), "addresses of peers");
        for (index, peer) in (0..).zip(&self.peers) {
            let Some(peer) = peer else { continue };
            assert_eq!(self.by_key.get(&peer.key), Some(&index), "address of {peer:?}");
            match self.get(peer.previous_at_host) {
                Some(previous) => {
                    assert_eq!((previous.next_at_host, previous.key.ip), (index, peer.key.ip));
                }
                None => assert_eq!(self.first_at_host(peer.key.ip), index, "first of its address"),
            }
            if let Some(next) = self.get(peer.next_at_host) {
                assert_eq!(next.previous_at_host, index, "chain of an address: {next:?}");
            }
        }
        let hosts: alloc::collections::BTreeSet<IpAddr> =
            self.peers.iter().flatten().map(|peer| peer.key.ip).collect();
        assert_eq!(self.by_host.len(), hosts.len(), "IP addresses");
    }

    /// Forgets a peer that nothing refers to, and its timer.
    pub(crate) fn remove(&mut self, index: u32, timers: &mut IndexedHeap<Instant>) {
        timers.remove(index);
        let peer = self.peers.get_mut(index as usize).and_then(Option::take);
        if let Some(peer) = self.impossible.known(peer) {
            self.unlink(index, &peer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use core::net::SocketAddr;

    fn insert(table: &mut PeerTable, host: u8, port: u16) -> u32 {
        let path = Path {
            remote: SocketAddr::from(([10, 0, 0, host], port)),
            local_ip: None,
            local_port: 1,
            interface: 0,
            carriage: Carriage::Ip,
        };
        table.insert(PeerKey::of(&path), path, &Config::default(), Instant::ZERO).unwrap()
    }

    fn at_host(table: &PeerTable, host: u8) -> Vec<u32> {
        let mut next = table.first_at_host(IpAddr::from([10, 0, 0, host]));
        let mut found = Vec::new();
        while let Some(peer) = table.get(next) {
            found.push(next);
            next = peer.next_at_host;
        }
        found
    }

    #[test]
    fn the_peers_at_an_address_are_found_whichever_of_them_go() {
        let mut table = PeerTable::new(1, 2);
        let peers: Vec<u32> = (1..=4).map(|port| insert(&mut table, 1, port)).collect();
        let elsewhere = insert(&mut table, 2, 1);
        assert_eq!(at_host(&table, 1), vec![peers[3], peers[2], peers[1], peers[0]]);
        for (gone, left) in [
            (peers[1], vec![peers[3], peers[2], peers[0]]),
            (peers[3], vec![peers[2], peers[0]]),
            (peers[0], vec![peers[2]]),
            (peers[2], vec![]),
        ] {
            table.remove(gone, &mut IndexedHeap::new());
            assert_eq!(at_host(&table, 1), left);
        }
        assert_eq!(at_host(&table, 2), vec![elsewhere]);
        assert_eq!(table.by_host.len(), 1);
        let again = insert(&mut table, 1, 9);
        assert_eq!(at_host(&table, 1), vec![again]);
    }
}
