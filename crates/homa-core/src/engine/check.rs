//! Invariants of an engine between two calls. Tests, worlds and fuzzers check them (feature
//! `check`); a check visits everything, so programs do not.

use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;
use core::ops::Range;

use crate::engine::Engine;
use crate::engine::peer::shares::{HostIndex, Served};
use crate::engine::peer::{CreditSums, Peer, PeerIndex};
use crate::engine::rpc::index::RpcIndex;
use crate::engine::rpc::{Role, Rpc, State};
use crate::engine::short::View;
use crate::event::RpcKey;
use crate::structures::index::Index;

/// Bytes of an RPC's messages, for comparison with the payload store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldBytes {
    /// The RPC. It is in the table, perhaps only until its last events have been handed out.
    pub rpc: RpcKey,
    /// Memory reserved for its incoming message in bytes; `None`: it is over, and counts no more.
    pub reserved_bytes: Option<u64>,
    /// Bytes of its outgoing message that may still be read.
    pub outgoing: Range<u32>,
}

/// Sums over the RPCs of one peer.
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
    /// If one of them is wrong.
    pub fn check(&self) {
        check_tables(self);
        check_peers(self);
        check_hosts(self);
        self.receiver.check(&self.rpcs, &self.ctx.config);
        check_queues(self);

        for rpc in self.rpcs.iter() {
            check_outgoing(&rpc);
            assert!(
                has_waker(self, &rpc),
                "nothing wakes {rpc:?} of {:?}",
                self.peers.get(rpc.peer)
            );
        }
    }

    /// How much there is to look at: RPCs and peers. For callers that check the less often the more
    /// it is.
    pub fn check_cost(&self) -> usize {
        self.rpcs.capacity().saturating_add(self.peers.capacity())
    }

    /// Bytes held for each RPC, for a check of the payload store.
    pub fn held_bytes(&self) -> impl Iterator<Item = HeldBytes> + '_ {
        self.rpcs.iter().map(|rpc| {
            let (live, tx) = (rpc.state() != State::Dead, &rpc.tx);
            HeldBytes {
                rpc: rpc.key(),
                reserved_bytes: live.then(|| rpc.rx.reserved()),
                outgoing: if rpc.is_sending() { tx.released()..tx.supplied() } else { 0..0 },
            }
        })
    }
}

fn live(engine: &Engine) -> impl Iterator<Item = View<'_>> {
    engine.rpcs.iter().filter(|rpc| rpc.state() != State::Dead)
}

/// There are as many RPCs as there may be, each of which is found by its id.
fn check_tables(engine: &Engine) {
    engine.ids.check(live(engine));
    let serving = live(engine).filter(|rpc| !rpc.is_client()).count();
    assert!(serving <= engine.ctx.config.serving_max() as usize, "{serving} requests are served");
    assert!(
        engine.rpcs.len() <= engine.ctx.config.limits.max_rpcs as usize,
        "more RPCs than limits.max_rpcs"
    );
    let remembered = engine.finished.len().saturating_add(serving);
    assert!(
        remembered <= engine.ctx.config.fixed.finished_max as usize,
        "no room to remember all requests"
    );
}

/// The share of each client host is the sum over its RPCs; its responses are in its list.
fn check_hosts(engine: &Engine) {
    let (mut numbers, mut ips) = (BTreeMap::new(), BTreeMap::new());
    for index in engine.peers.indices() {
        let Some(peer) = engine.peers.get(index) else { continue };
        let number = *numbers.entry(peer.key.ip).or_insert(peer.host());
        assert_eq!(number, peer.host(), "number of the host of {peer:?}");
        let ip = *ips.entry(peer.host()).or_insert(peer.key.ip);
        assert_eq!(ip, peer.key.ip, "number of two hosts: {peer:?}");
    }
    let mut held = vec![(Served::default(), 0_u64, Vec::new()); engine.peers.hosts()];
    let (mut validated, mut served_peers) = (Served::default(), BTreeMap::new());
    for rpc in live(engine).filter(|rpc| !rpc.is_client()) {
        let Some(peer) = engine.peers.get(rpc.peer) else { continue };
        let (served, unacknowledged_bytes, kept) = &mut held[peer.host().position()];
        let of_peer = served_peers.entry(rpc.peer).or_insert(0);
        let one = Served { rpcs: 1, peers: u32::from(*of_peer == 0) };
        *of_peer += 1;
        served.add(one);
        if peer.served.validated {
            validated.add(one);
        }
        if rpc.state() == State::Outgoing {
            *unacknowledged_bytes += u64::from(rpc.tx.unacknowledged_bytes());
            kept.push(rpc.index());
        }
    }
    for index in engine.peers.indices() {
        let Some(peer) = engine.peers.get(index) else { continue };
        let rpcs = served_peers.get(&index).copied().unwrap_or(0);
        assert_eq!(peer.served.rpcs, rpcs, "what is served to {peer:?}");
    }
    let sums: Vec<_> = held.iter().map(|(served, bytes, _)| (*served, *bytes)).collect();
    engine.shares.check(&sums, validated);
    for (host, (_, _, mut kept)) in HostIndex::first(held.len()).zip(held) {
        let mut listed: Vec<RpcIndex> = engine.shares.responses_to(host, &engine.rpcs).collect();
        listed.sort_unstable();
        kept.sort_unstable();
        assert_eq!(listed, kept, "responses that host {host:?} keeps");
    }
}

/// Each peer's accounts are the sums over its RPCs.
fn check_peers(engine: &Engine) {
    let mut sums = vec![Sums::default(); engine.peers.capacity()];
    let mut credits = vec![CreditSums::default(); engine.peers.capacity()];
    for rpc in live(engine) {
        let peer = engine.peers.get(rpc.peer).unwrap_or_else(|| panic!("no peer of {rpc:?}"));
        let sum = &mut sums[rpc.peer.position()];
        sum.references += 1;
        sum.waiting += u32::from(rpc.confirmed);
        assert!(!rpc.confirmed || rpc.is_client(), "a server waits for its client: {rpc:?}");
        credits[rpc.peer.position()].add(&rpc.tx.credit, &peer.in_flight);
        sum.blocked += usize::from(rpc.tx.blocked);
        let blocked = engine.sender.is_blocked(rpc.index(), peer);
        assert_eq!(blocked, rpc.tx.blocked, "queue of those that wait for room: {rpc:?}");
        let linked = rpc.is_client() && rpc.state() != State::Delivered;
        assert_eq!(is_listed_call(&rpc), linked, "link to the peer of {rpc:?}");
        sum.linked += usize::from(linked);
    }
    for (index, (sum, charged)) in engine.peers.indices().zip(sums.into_iter().zip(credits)) {
        // The timer of one that was evicted comes up once more, for nothing.
        if let Some(peer) = engine.peers.get(index) {
            check_peer(engine, index, peer, sum);
            charged.check(&peer.in_flight, peer.in_flight_max(&engine.ctx.config));
        }
    }
    engine.peers.check(&engine.ctx.config);
}

fn check_peer(engine: &Engine, index: PeerIndex, peer: &Peer, of_rpcs: Sums) {
    let accounts = Sums {
        references: peer.uses().saturating_sub(u32::from(peer.has_settings())),
        waiting: peer.liveness.waiting(),
        blocked: peer.blocked.len(),
        linked: linked_to(engine, index, peer),
    };
    assert_eq!(accounts, of_rpcs, "accounts of peer {index:?}, and its RPCs: {peer:?}");
    let sound = peer
        .calls
        .cursor()
        .is_none_or(|cursor| engine.rpcs.view(cursor).is_some_and(|rpc| is_listed_call(&rpc)));
    assert!(sound, "cursor: {peer:?}");
    let needs_timer =
        peer.liveness.probe().is_some() || peer.liveness.waiting() > 0 || !peer.blocked.is_empty();
    let timed = engine.ctx.timers.has_peer(index);
    assert!(timed || !needs_timer, "no timer looks at peer {index:?}: {peer:?}");
}

fn is_listed_call(rpc: &Rpc) -> bool {
    rpc.is_client() && rpc.link.is_listed()
}

/// Length of the list of a peer's client RPCs, which is sound.
fn linked_to(engine: &Engine, index: PeerIndex, peer: &Peer) -> usize {
    let listed = peer.calls.iter(&engine.rpcs);
    listed.inspect(|rpc| assert!(rpc.is_client() && rpc.peer == index, "not its: {rpc:?}")).count()
}

/// Queues and timers hold exactly the RPCs that are to be visited.
fn check_queues(engine: &Engine) {
    let mut in_events = vec![0_u8; engine.rpcs.capacity()];
    engine.ctx.events.rpcs().for_each(|index| in_events[index.position()] += 1);
    for rpc in engine.rpcs.iter() {
        let index = rpc.index();
        let dead = rpc.state() == State::Dead;
        let events = u8::from(rpc.pending.is_queued());
        assert_eq!(in_events[index.position()], events, "event queue: {rpc:?}");
        assert!(rpc.pending.is_queued() || rpc.pending.is_empty(), "events not told: {rpc:?}");
        assert!(rpc.pending.is_queued() || !dead, "nobody takes it out: {rpc:?}");
        let unvalidated = rpc.role == Role::Server
            && engine.peers.get(rpc.peer).is_some_and(Peer::is_unvalidated);
        assert!(dead || !unvalidated || engine.unvalidated.contains(index), "unvalidated: {rpc:?}");
        assert!(!dead || !engine.unvalidated.contains(index), "unvalidated: {rpc:?}");
        let new = !rpc.tx.blocked;
        let sends = rpc.is_sending() && (new || rpc.tx.has_retransmissions());
        assert!(sends || !engine.sender.contains(index), "in the output order: {rpc:?}");
        assert!(!dead || !engine.ctx.timers.has_rpc(index), "a timer of {rpc:?}");
    }
    for index in engine.rpcs.indices() {
        if engine.rpcs.view(index).is_none() {
            let kept = [
                ("events", in_events[index.position()] > 0),
                ("unallocated", engine.receiver.is_unallocated(index)),
                ("unvalidated clients", engine.unvalidated.contains(index)),
                ("output order", engine.sender.contains(index)),
                ("timers", engine.ctx.timers.has_rpc(index)),
            ];
            let named = kept.iter().find(|(_, kept)| *kept).map(|(name, _)| name);
            assert_eq!(named, None, "still holds RPC {index:?}, which is over");
        }
    }
}

/// Whether something looks at the RPC again without a packet or a call: a queue that is served, a
/// timer of its own or of its peer; or it waits for the application.
fn has_waker(engine: &Engine, rpc: &Rpc) -> bool {
    let index = rpc.index();
    let timed = engine.ctx.timers.has_rpc(index);
    let tx = &rpc.tx;
    match (rpc.role, rpc.state()) {
        (_, State::Dead | State::Delivered) | (Role::Server, State::InService) => true,
        (_, State::Refused(_)) => timed,
        (_, State::Incoming) => engine.receiver.watches(rpc, timed, &engine.ctx.config),
        (_, State::Outgoing) if tx.has_retransmissions() => engine.sender.contains(index),
        // By the timer of the peer, see `check_peer`.
        (Role::Client, State::Outgoing) if rpc.tx.blocked => true,
        (Role::Server, State::Outgoing) if rpc.tx.blocked => timed,
        (_, State::Outgoing) if tx.has_sendable() => engine.sender.contains(index),
        // For the application to supply more.
        (_, State::Outgoing) if !tx.is_idle() => tx.supplied() < tx.length(),
        (_, State::Outgoing) => timed || rpc.confirmed,
        (Role::Client, State::InService) => false,
    }
}

/// Invariants of the outgoing message of an RPC.
fn check_outgoing(rpc: &Rpc) {
    let over = matches!(rpc.state(), State::Dead | State::Incoming | State::Delivered);
    assert!(rpc.tx.check(over), "outgoing message: {rpc:?}");
}
