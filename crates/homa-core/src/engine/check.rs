//! What holds in an engine between two calls, whatever has happened to it. Tests, worlds and fuzzers ask for it
//! (feature `check`); it looks at everything, so a program does not.

use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;
use core::ops::Range;

use crate::addr::Carriage;
use crate::config::PeerSettings;
use crate::engine::Engine;
use crate::engine::peer::shares::Served;
use crate::engine::peer::{ChargeSums, Peer};
use crate::engine::rpc::{Role, Rpc, State};
use crate::event::RpcKey;
use crate::structures::NIL;

/// What whoever keeps the bytes of an RPC's messages has to agree with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldBytes {
    /// The RPC. It is in the table, perhaps only until its last events have been handed out.
    pub rpc: RpcKey,
    /// Memory reserved for its incoming message in bytes; `None`: it is over, and counts no more.
    pub reserved_bytes: Option<u64>,
    /// Bytes of its outgoing message that may still be read.
    pub outgoing: Range<u32>,
}

/// What the RPCs of one peer add up to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sums {
    references: u32,
    waiting: u32,
    blocked: usize,
    linked: usize,
}

impl Engine {
    /// Looks at every account, queue and timer. For tests.
    ///
    /// # Panics
    /// One of them is wrong.
    pub fn check(&self) {
        self.check_tables();
        self.check_peers();
        self.check_holders();
        self.check_memory();
        self.check_queues();
        self.granter.check_invariants(&self.rpcs, &self.config);
        for rpc in self.rpcs.iter() {
            check_messages(rpc);
            assert!(self.has_waker(rpc), "nothing wakes {rpc:?} of {:?}", self.peers.get(rpc.peer));
        }
    }

    /// How much there is to look at: RPCs and peers. For callers that check the less often the more it is.
    pub fn check_cost(&self) -> usize {
        self.rpcs.capacity().saturating_add(self.peers.capacity())
    }

    /// What is kept for each RPC, for a check of the payload's store.
    pub fn held_bytes(&self) -> impl Iterator<Item = HeldBytes> + '_ {
        self.rpcs.iter().map(|rpc| {
            let (live, tx) = (rpc.state != State::Dead, &rpc.tx);
            HeldBytes {
                rpc: rpc.key,
                reserved_bytes: live.then(|| rpc.rx.reserved()),
                outgoing: if rpc.is_sending() { tx.released..tx.supplied } else { 0..0 },
            }
        })
    }

    fn live(&self) -> impl Iterator<Item = &Rpc> {
        self.rpcs.iter().filter(|rpc| rpc.state != State::Dead)
    }

    /// Each live RPC is found by its id, and nothing else is.
    fn check_tables(&self) {
        let mut hosts = BTreeMap::new();
        let (mut calls, mut serving) = (0_usize, 0_usize);
        for rpc in self.live() {
            let index = Some(&rpc.key.index);
            if rpc.is_client() {
                if rpc.state != State::Delivered {
                    calls += 1;
                    assert_eq!(self.client_ids.get(&rpc.id), index, "id of {rpc:?}");
                }
                continue;
            }
            serving += 1;
            assert_eq!(self.server_ids.get(&(rpc.peer, rpc.id)), index, "id of {rpc:?}");
            if rpc.path.carriage == Carriage::Ip {
                let key = (rpc.path.remote.ip().to_canonical(), rpc.path.local_port, rpc.id);
                let (count, indices) = hosts.entry(key).or_insert((0_u32, 0_u32));
                *count += 1;
                *indices ^= rpc.key.index;
            }
        }
        assert_eq!(self.client_ids.len(), calls, "ids of calls");
        assert_eq!(self.server_ids.len(), serving, "ids of requests");
        assert!(serving <= self.config.serving_max() as usize, "{serving} requests are served");
        self.client_hosts.check(&hosts);
        assert!(self.rpcs.len() <= self.config.rpcs_max as usize, "more RPCs than rpcs_max");
        let remembered = self.finished.len().saturating_add(serving);
        assert!(
            remembered <= self.config.finished_max as usize,
            "no room to remember all requests"
        );
    }

    /// What each host of clients holds is the sum over its RPCs; its responses are in its list.
    fn check_holders(&self) {
        let (mut numbers, mut ips) = (BTreeMap::new(), BTreeMap::new());
        for index in 0..self.peers.capacity() as u32 {
            let Some(peer) = self.peers.get(index) else { continue };
            let number = *numbers.entry(peer.key.ip).or_insert(peer.host);
            assert_eq!(number, peer.host, "number of the host of {peer:?}");
            let ip = *ips.entry(peer.host).or_insert(peer.key.ip);
            assert_eq!(ip, peer.key.ip, "number of two hosts: {peer:?}");
        }
        let mut held = vec![(Served::default(), 0_u64, Vec::new()); self.peers.hosts()];
        let (mut proved, mut served_peers) = (Served::default(), BTreeMap::new());
        for rpc in self.live().filter(|rpc| !rpc.is_client()) {
            let Some(peer) = self.peers.get(rpc.peer) else { continue };
            let (served, kept_bytes, kept) = &mut held[peer.host as usize];
            let of_peer = served_peers.entry(rpc.peer).or_insert(0);
            let one = Served { rpcs: 1, peers: u32::from(*of_peer == 0) };
            *of_peer += 1;
            served.add(one);
            if peer.served.proved {
                proved.add(one);
            }
            if rpc.state == State::Outgoing {
                *kept_bytes += u64::from(rpc.tx.supplied - rpc.tx.released);
                kept.push(rpc.key.index);
            }
        }
        for index in 0..self.peers.capacity() as u32 {
            let Some(peer) = self.peers.get(index) else { continue };
            let rpcs = served_peers.get(&index).copied().unwrap_or(0);
            assert_eq!(peer.served.rpcs, rpcs, "what is served to {peer:?}");
        }
        let sums: Vec<_> = held.iter().map(|(served, bytes, _)| (*served, *bytes)).collect();
        self.holders.check(&sums, proved);
        for (host, (_, _, mut kept)) in (0..).zip(held) {
            let mut listed: Vec<u32> = self.responses_kept_for(host).collect();
            listed.sort_unstable();
            kept.sort_unstable();
            assert_eq!(listed, kept, "responses that host {host} keeps");
        }
    }

    /// Each peer's accounts are the sums over its RPCs.
    fn check_peers(&self) {
        let mut sums = vec![Sums::default(); self.peers.capacity()];
        let mut charges = vec![ChargeSums::default(); self.peers.capacity()];
        for rpc in self.live() {
            let peer = self.peers.get(rpc.peer).unwrap_or_else(|| panic!("no peer of {rpc:?}"));
            let sum = &mut sums[rpc.peer as usize];
            sum.references += 1;
            sum.waiting += u32::from(rpc.confirmed);
            assert!(!rpc.confirmed || rpc.is_client(), "a server waits for its client: {rpc:?}");
            charges[rpc.peer as usize].add(&rpc.charge, &peer.in_flight);
            sum.blocked += usize::from(rpc.blocked_on_peer);
            let blocked = peer.blocked.contains(&self.blocked_positions, rpc.key.index);
            assert_eq!(blocked, rpc.blocked_on_peer, "queue of those that wait for room: {rpc:?}");
            let linked = rpc.is_client() && rpc.state != State::Delivered;
            assert_eq!(rpc.linked, linked, "link to the peer of {rpc:?}");
            sum.linked += usize::from(linked);
        }
        for (index, (sum, charged)) in (0..).zip(sums.into_iter().zip(charges)) {
            // The timer of one that was evicted comes up once more, for nothing.
            if let Some(peer) = self.peers.get(index) {
                self.check_peer(index, peer, sum);
                charged.check(&peer.in_flight, peer.in_flight_max(&self.config));
            }
        }
        self.peers.check(&self.config);
    }

    fn check_peer(&self, index: u32, peer: &Peer, of_rpcs: Sums) {
        let settings = u32::from(peer.settings != PeerSettings::default());
        let accounts = Sums {
            references: peer.references.saturating_sub(settings),
            waiting: peer.liveness.waiting(),
            blocked: peer.blocked.len(),
            linked: self.linked_to(index, peer),
        };
        assert_eq!(accounts, of_rpcs, "accounts of peer {index}, and its RPCs: {peer:?}");
        let cursor = self.rpcs.get(peer.probe_cursor);
        assert!(
            peer.probe_cursor == NIL || cursor.is_some_and(|rpc| rpc.linked),
            "cursor: {peer:?}"
        );
        let needs_timer = peer.liveness.probe().is_some()
            || peer.liveness.waiting() > 0
            || !peer.blocked.is_empty();
        let timed = self.peer_timers.contains(index);
        assert!(timed || !needs_timer, "no timer looks at peer {index}: {peer:?}");
    }

    /// Length of the chain of a peer's client RPCs, which is sound.
    fn linked_to(&self, index: u32, peer: &Peer) -> usize {
        let (mut length, mut previous, mut next) = (0, NIL, peer.first_client_rpc);
        while let Some(rpc) = self.rpcs.get(next) {
            let belongs = rpc.linked && rpc.peer == index && rpc.previous == previous;
            assert!(belongs, "in the chain of peer {index} after {previous}: {rpc:?}");
            length += 1;
            (previous, next) = (next, rpc.next);
            assert!(length <= self.rpcs.len(), "the chain of peer {index} has no end");
        }
        assert_eq!(next, NIL, "end of the chain of peer {index}");
        length
    }

    /// What is reserved belongs to messages that are there.
    fn check_memory(&self) {
        let reserved: u64 = self.live().map(|rpc| rpc.rx.reserved()).sum();
        assert_eq!(self.memory.used(), reserved, "receive memory");
        let strangers: u64 = self.live().map(|rpc| rpc.rx.stranger_bytes).sum();
        assert_eq!(self.memory.strangers(), strangers, "receive memory of strangers");
        assert!(self.memory.used() <= self.memory.limit(), "more receive memory than there is");
        self.memory.check_holders(self.live());
        let favourite = self.memory.favourite().map(|key| self.rpcs.resolve(key));
        let lives = |index| self.rpcs.get(index).is_some_and(|rpc| rpc.state != State::Dead);
        assert!(favourite.is_none_or(|index| index.is_some_and(lives)), "the favourite is over");
    }

    /// Queues and timers hold those that are to be looked at, and no others.
    fn check_queues(&self) {
        let mut in_events = vec![0_u8; self.rpcs.capacity()];
        self.events.iter().for_each(|index| in_events[*index as usize] += 1);
        for rpc in self.rpcs.iter() {
            let index = rpc.key.index;
            let dead = rpc.state == State::Dead;
            let events = u8::from(rpc.in_event_queue);
            assert_eq!(in_events[index as usize], events, "event queue: {rpc:?}");
            assert!(rpc.in_event_queue || rpc.pending.is_empty(), "events not told: {rpc:?}");
            assert!(rpc.in_event_queue || !dead, "nobody takes it out: {rpc:?}");
            assert_eq!(
                self.starved.contains(index, rpc.rx.holder),
                rpc.rx.starved && !dead,
                "starved: {rpc:?}"
            );
            let stranger =
                rpc.role == Role::Server && self.peers.get(rpc.peer).is_some_and(Peer::is_stranger);
            assert!(dead || !stranger || self.strangers.contains(index), "strangers: {rpc:?}");
            assert!(!dead || !self.strangers.contains(index), "strangers: {rpc:?}");
            let new = !rpc.blocked_on_peer;
            let sends = rpc.is_sending() && (new || !rpc.tx.retransmit.is_empty());
            assert!(sends || !self.pacer.contains(index), "in the output order: {rpc:?}");
            assert!(!dead || !self.rpc_timers.contains(index), "a timer of {rpc:?}");
        }
        for index in 0..self.rpcs.capacity() as u32 {
            if self.rpcs.get(index).is_none() {
                let kept = [
                    ("events", in_events[index as usize] > 0),
                    ("starved", self.starved.contains(index, NIL)),
                    ("strangers", self.strangers.contains(index)),
                    ("output order", self.pacer.contains(index)),
                    ("timers", self.rpc_timers.contains(index)),
                ];
                let named = kept.iter().find(|(_, kept)| *kept).map(|(name, _)| name);
                assert_eq!(named, None, "still holds RPC {index}, which is over");
            }
        }
    }

    /// Whether something looks at the RPC again without a packet or a call: a queue that is served, a timer of its
    /// own or of its peer; or it waits for the application.
    fn has_waker(&self, rpc: &Rpc) -> bool {
        let index = rpc.key.index;
        let timed = self.rpc_timers.contains(index);
        let tx = &rpc.tx;
        match (rpc.role, rpc.state) {
            (_, State::Dead | State::Delivered) | (Role::Server, State::InService) => true,
            (_, State::Refused(_)) => timed,
            (_, State::Incoming) if rpc.rx.starved => {
                timed && (self.memory.used() > 0 || self.memory.freed)
            }
            (_, State::Incoming) if rpc.rx.awaits_data() => timed || rpc.rx.grant_due,
            (_, State::Incoming) => self.granter.watches(rpc, &self.config, &self.memory),
            (_, State::Outgoing) if !tx.retransmit.is_empty() => self.pacer.contains(index),
            // By the timer of the peer, see `check_peer`.
            (Role::Client, State::Outgoing) if rpc.blocked_on_peer => true,
            (Role::Server, State::Outgoing) if rpc.blocked_on_peer => timed,
            (_, State::Outgoing) if tx.has_sendable() => self.pacer.contains(index),
            // For the application to supply more.
            (_, State::Outgoing) if !tx.is_idle() => tx.supplied < tx.length,
            (_, State::Outgoing) => timed || rpc.confirmed,
            (Role::Client, State::InService) => false,
        }
    }
}

/// What holds for the two messages of an RPC.
fn check_messages(rpc: &Rpc) {
    let (tx, rx) = (&rpc.tx, &rpc.rx);
    let sender = tx.released <= tx.sent && tx.sent <= tx.supplied && tx.supplied <= tx.length;
    let over =
        rpc.state == State::Dead || rpc.state == State::Incoming || rpc.state == State::Delivered;
    assert!(over || sender && tx.granted <= tx.length, "outgoing message: {rpc:?}");
    if let (Some((first, _)), false) = (tx.retransmit.first(), over) {
        assert!(first >= tx.released, "what was released is sent again: {rpc:?}");
    }
    let (received, contiguous) = (rx.data.received(), rx.data.contiguous());
    let receiver = rx.consumed <= contiguous && contiguous <= received && received <= rx.length();
    assert!(receiver, "incoming message: {rpc:?}");
    let granted = rx.granted_told <= rx.granted && rx.granted <= rx.length();
    assert!(granted, "grants: {rpc:?}");
    let withheld = rx.passed_over || rx.unproved;
    let told = rx.granted_told == rx.granted || rx.grant_due || withheld;
    assert!(rpc.state != State::Incoming || told, "nobody tells what is granted: {rpc:?}");
    let reserved = rx.starved || rx.silent || rx.reserved_upto >= rx.granted.max(rx.data.highest());
    assert!(rpc.state != State::Incoming || reserved, "granted without memory: {rpc:?}");
}
