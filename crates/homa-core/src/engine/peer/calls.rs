//! The calls to a peer that are not answered: a list, and the round of probes over it.

use core::time::Duration;

use homa_wire::{Body, Reason};

use crate::addr::Path;
use crate::engine::Engine;
use crate::engine::ctx::Ctx;
use crate::engine::peer::{Peer, PeerIndex, PeerTable, Probe};
use crate::engine::profile::Profile;
use crate::engine::rpc::failure::Refused;
use crate::engine::rpc::ids::Ids;
use crate::engine::rpc::index::RpcIndex;
use crate::engine::rpc::list::RpcList;
use crate::engine::rpc::{Rpc, RpcTable, State};
#[cfg(any(test, feature = "check"))]
use crate::engine::short::View;
use crate::engine::stats::Count;
use crate::event::FailReason;
use crate::priority::Priority;
use crate::time::{Instant, nanos};

/// Calls probed at a time while all are verified: the probes share a datagram, and so do the
/// replies.
const RECHECK_BATCH: u32 = 32;
/// Steps of the round over a peer's RPCs to find one to probe.
const PROBE_STEPS: usize = 16;
/// RPCs of a dead peer that are ended per call.
pub(crate) const FAILURES_PER_CALL: usize = 1024;
/// Wait before a peer is probed when unscheduled data in flight holds messages up.
const BLOCKED_PROBE_DELAY: Duration = Duration::from_micros(200);

/// The calls to one peer.
#[derive(Debug)]
pub(crate) struct Calls {
    list: RpcList,
    /// Where the round of probes stands among them.
    cursor: Option<RpcIndex>,
}

impl Calls {
    pub(super) const NONE: Self = Self { list: RpcList::EMPTY, cursor: None };

    /// Puts a new call first.
    #[inline]
    pub(crate) fn add(&mut self, index: RpcIndex, rpcs: &mut RpcTable) {
        self.list.push_front(index, rpcs);
    }

    /// The one that began last.
    pub(crate) fn first(&self) -> Option<RpcIndex> {
        self.list.first()
    }

    /// Where the round of probes stands.
    #[cfg(any(test, feature = "check"))]
    pub(crate) fn cursor(&self) -> Option<RpcIndex> {
        self.cursor
    }

    #[cfg(any(test, feature = "check"))]
    pub(crate) fn iter<'a>(&self, rpcs: &'a RpcTable) -> impl Iterator<Item = View<'a>> + use<'a> {
        self.list.iter(rpcs)
    }
}

impl PeerTable {
    /// Takes a call out that is answered, or over.
    #[inline]
    pub(crate) fn unlink_call(&mut self, index: RpcIndex, peer: PeerIndex, rpcs: &mut RpcTable) {
        if let Some(peer) = self.known_mut(peer) {
            let next = peer.calls.list.remove(index, rpcs);
            if peer.calls.cursor == Some(index) {
                peer.calls.cursor = next;
            }
        }
    }

    /// The next of the peer's waiting RPCs, going round so that each is verified in turn.
    fn next_waiting(&mut self, index: PeerIndex, rpcs: &RpcTable) -> Option<(Path, u64)> {
        let peer = self.known_mut(index)?;
        let first = peer.calls.list.first();
        let mut cursor = peer.calls.cursor;
        for _ in 0..PROBE_STEPS {
            let here = cursor.filter(|cursor| rpcs.is_call_to(*cursor, index)).or(first)?;
            cursor = rpcs.link(here)?.next();
            // One in short form is not confirmed.
            if let Some(rpc) = rpcs.get(here).filter(|rpc| rpc.is_waiting()) {
                let named = (rpc.path, rpc.id);
                peer.calls.cursor = cursor;
                return Some(named);
            }
        }
        peer.calls.cursor = cursor;
        None
    }

    /// The peer may have lost requests that it said it has: it has another incarnation, does not
    /// know one of them any more, or this end was paused for long. Asks about each, so that all
    /// calls end soon. (Nothing is ended on this suspicion alone: ids cannot be guessed, addresses
    /// can be forged.)
    pub(crate) fn recheck_waiting(&mut self, index: PeerIndex, ctx: &mut Ctx) {
        let Some(peer) = self.known_mut(index) else {
            return;
        };
        if let Some(at) = peer.liveness.recheck(ctx.now, &ctx.config) {
            ctx.timers.arm_peer(index, at);
        }
    }

    /// Verifies all waiting calls, whichever server they wait for.
    pub(crate) fn recheck_all(&mut self, ctx: &mut Ctx) {
        for index in self.indices() {
            if self.get(index).is_some_and(|peer| peer.liveness.waiting() > 0) {
                self.recheck_waiting(index, ctx);
            }
        }
    }

    /// Probes the next of the peer's waiting RPCs, or several of them while all are verified.
    /// `false`: the next one is further away.
    pub(crate) fn probe_waiting(
        &mut self,
        index: PeerIndex,
        ids: &Ids,
        rpcs: &RpcTable,
        ctx: &mut Ctx,
    ) -> bool {
        let recheck = self.known(index).map_or(0, |peer| peer.liveness.left_to_recheck());
        let Some(mut last) = self.next_waiting(index, rpcs) else {
            return false;
        };
        let mut asked = 1;
        while asked < recheck.min(RECHECK_BATCH) {
            let Some(next) = self.next_waiting(index, rpcs) else {
                break;
            };
            self.send_probe(index, last, ctx.now, ids, rpcs, ctx);
            last = next;
            asked = asked.saturating_add(1);
        }
        if let Some(peer) = self.known_mut(index) {
            peer.liveness.rechecked(asked);
        }
        self.start_probe(index, last, ids, rpcs, ctx);
        true
    }

    /// Sends a probe that names an RPC: the reply shows that the peer is alive and has read what
    /// came before the probe.
    pub(crate) fn start_probe(
        &mut self,
        index: PeerIndex,
        (path, id): (Path, u64),
        ids: &Ids,
        rpcs: &RpcTable,
        ctx: &mut Ctx,
    ) {
        let interval =
            Duration::from_nanos(ctx.first_interval_ns(self.known(index), Profile::Native));
        let Some(peer) = self.known_mut(index) else {
            return;
        };
        peer.in_flight.probe_sent();
        let (first_sent, next_send) = (ctx.now, ctx.now + interval);
        peer.liveness.set_probe(Probe { path, id, first_sent, next_send, tries: 0 });
        self.send_probe(index, (path, id), first_sent, ids, rpcs, ctx);
        ctx.timers.arm_peer(index, next_send);
    }

    /// Sends a probe to a peer that has been silent since `since`.
    pub(crate) fn send_probe(
        &self,
        index: PeerIndex,
        (path, id): (Path, u64),
        since: Instant,
        ids: &Ids,
        rpcs: &RpcTable,
        ctx: &mut Ctx,
    ) {
        ctx.stats.probes_sent.inc();
        let rpc = ids.find(rpcs, Some(index), &path, id).and_then(|index| rpcs.known(index));
        let profile = rpc.map_or_else(|| self.profile(ctx.now, index), |rpc| rpc.profile(self));
        // The answer says that everything on its way has been read.
        let peer = self.known(index);
        let behind =
            peer.and_then(|peer| peer.in_flight.lowest_priority()).unwrap_or(Priority::HIGHEST);
        let priority = ctx.recovery_priority(peer, behind, since);
        let words = (Body::NeedAck, Reason::Probe);
        let header = ids.header_about((&path, id, profile), words, (rpcs, self), &ctx.config);
        ctx.push_to(peer, path, header, priority);
    }
}

impl Engine {
    /// Has the calls to a peer that it has not confirmed asked about soon: a server that is closing
    /// is not there for long to refuse those that were lost.
    pub(crate) fn ask_about_calls(&mut self, index: PeerIndex) {
        let interval_ns = nanos(self.ctx.config.recovery.resend_interval);
        let mut next = self.peers.known(index).and_then(|peer| peer.calls.first());
        while let Some(index) = next {
            self.expand(index);
            let Some(rpc) = self.rpcs.known(index) else {
                return;
            };
            next = rpc.link.next();
            if !rpc.confirmed && rpc.state() == State::Outgoing {
                self.ctx.arm(rpc.index(), interval_ns);
            }
        }
    }

    /// Fails all calls to a peer, some of them now and the others in the next turns.
    pub(crate) fn fail_calls_to(&mut self, index: PeerIndex, reason: FailReason) {
        let all = self.fail_clients_of(index, reason, FAILURES_PER_CALL);
        let Some(peer) = self.peers.known_mut(index) else {
            return;
        };
        peer.liveness.set_failing(Some(reason).filter(|_| !all));
        // Other work of the peer's timer waits until all have failed.
        let now = self.ctx.now;
        self.ctx.timers.arm_peer(index, now);
    }

    /// Fails the client RPCs of all ports of a host.
    pub(crate) fn fail_clients_of_host(&mut self, path: &Path, reason: FailReason) {
        let mut next = self.peers.first_at_host(path.remote.ip());
        while let Some(index) = next {
            next = self.peers.known(index).and_then(Peer::next_at_host);
            self.fail_calls_to(index, reason);
        }
    }

    /// Fails up to `limit` client RPCs of a peer; `true` if none is left.
    pub(crate) fn fail_clients_of(
        &mut self,
        peer: PeerIndex,
        reason: FailReason,
        limit: usize,
    ) -> bool {
        for _ in 0..limit {
            let Some(first) = self.peers.known(peer).and_then(|peer| peer.calls.first()) else {
                return true;
            };
            self.expand(first);
            let of_it = match reason {
                FailReason::ServiceGone => self.unserved(first, Refused::Other),
                other => other,
            };
            self.fail_rpc(first, of_it);
        }
        false
    }
}

impl Ctx {
    /// RPCs wait for in-flight credit: arms the timer for a probe, in case the peer does not react
    /// by itself.
    pub(crate) fn arm_blocked_probe(&mut self, peer: PeerIndex) {
        self.timers.arm_peer(peer, self.now + BLOCKED_PROBE_DELAY);
    }
}

impl Rpc {
    /// Moves a call between "watched by its own timer" and "watched through its peer".
    #[inline]
    pub(crate) fn set_confirmed(&mut self, confirmed: bool, peers: &mut PeerTable, ctx: &mut Ctx) {
        self.doubts = 0;
        if self.confirmed == confirmed {
            return;
        }
        self.confirmed = confirmed;
        let Some(peer) = peers.known_mut(self.peer) else {
            return;
        };
        let first_interval = nanos(ctx.config.recovery.resend_interval).saturating_mul(2);
        if !confirmed {
            peer.liveness.end_wait();
        } else if let Some(at) = peer.liveness.begin_wait(ctx.now, first_interval) {
            ctx.timers.arm_peer(self.peer, at);
        }
    }
}
