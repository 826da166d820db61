//! Messages that wait for in-flight credit or for address validation.

use crate::engine::ctx::Ctx;
use crate::engine::peer::{CREDIT_PER_PACKET, Peer, PeerIndex, PeerTable};
use crate::engine::rpc::index::RpcIndex;
use crate::engine::rpc::{Rpc, RpcTable};
use crate::engine::sender::Sender;
use crate::time::nanos;

impl Sender {
    /// A message may not be sent now: it waits at its peer for credit, or until the peer has
    /// validated its address.
    pub(super) fn wait_at_peer(
        &mut self,
        rpc: &mut Rpc,
        peer: &mut Peer,
        unvalidated: bool,
        ctx: &mut Ctx,
    ) {
        let index = rpc.index();
        if unvalidated {
            // The probe lets the client validate its address: at once, since its response waits for
            // that.
            peer.in_flight.set_probe_target(&rpc.path, rpc.id);
            ctx.timers.arm_peer(rpc.peer, ctx.now);
        }
        self.enter_blocked(rpc, peer);
        if !rpc.is_client() {
            ctx.arm(index, nanos(ctx.config.responses.silence));
        }
        self.pacer.remove(index);
        if !rpc.tx.blocked {
            // No memory to wait in the queue: its timer tries again.
            ctx.arm(index, nanos(ctx.config.recovery.resend_interval));
        }
        ctx.arm_blocked_probe(rpc.peer);
    }

    /// Puts an RPC that waits for room at its peer in its present place among those.
    pub(crate) fn queue_blocked(&mut self, rpc: &mut Rpc, peers: &mut PeerTable) {
        if let Some(peer) = peers.known_mut(rpc.peer) {
            self.enter_blocked(rpc, peer);
        }
    }

    /// Messages that the peer has begun to grant go first; then the fewest bytes.
    fn enter_blocked(&mut self, rpc: &mut Rpc, peer: &mut Peer) {
        let bytes = if rpc.tx.is_wanted() { 0 } else { rpc.tx.remaining() };
        let (positions, rank) = (&mut self.blocked_positions, (bytes, rpc.tx.birth()));
        rpc.tx.blocked = peer.blocked.set(positions, rpc.index(), rank).is_ok();
    }

    /// Takes an RPC out of the queue of those that wait for room at their peer.
    #[inline]
    pub(crate) fn unblock(&mut self, index: RpcIndex, rpcs: &mut RpcTable, peers: &mut PeerTable) {
        let Some(rpc) = rpcs.known_mut(index) else {
            return;
        };
        if core::mem::take(&mut rpc.tx.blocked) {
            if let Some(peer) = peers.known_mut(rpc.peer) {
                peer.blocked.remove(&mut self.blocked_positions, index);
            }
        }
    }

    /// Takes the best of those that wait for room at a peer.
    pub(crate) fn pop_blocked(
        &mut self,
        peer_index: PeerIndex,
        rpcs: &mut RpcTable,
        peers: &mut PeerTable,
    ) -> Option<RpcIndex> {
        let index = peers.known_mut(peer_index)?.blocked.pop(&mut self.blocked_positions)?;
        if let Some(rpc) = rpcs.known_mut(index) {
            rpc.tx.blocked = false;
        }
        Some(index)
    }

    /// Lets blocked RPCs of a peer go on, best first, as far as there is room now.
    pub(crate) fn serve_blocked(
        &mut self,
        peer_index: PeerIndex,
        rpcs: &mut RpcTable,
        peers: &mut PeerTable,
        ctx: &Ctx,
    ) {
        let Some(peer) = peers.known_mut(peer_index) else {
            return;
        };
        let in_flight_max = peer.in_flight_max(&ctx.config);
        while peer.in_flight.may_admit(in_flight_max) {
            let Some(index) = peer.blocked.pop(&mut self.blocked_positions) else {
                return;
            };
            if let Some(rpc) = rpcs.known_mut(index) {
                rpc.tx.blocked = false;
                let pending = rpc.tx.unscheduled_left();
                peer.in_flight.admit(&mut rpc.tx.credit, pending.saturating_add(CREDIT_PER_PACKET));
                self.pacer.follow(rpc, &ctx.config);
            }
        }
    }

    /// The peer reacted to what was sent of an RPC: none of it is on its way any more.
    #[inline]
    pub(crate) fn reacted(
        &mut self,
        index: RpcIndex,
        rpcs: &mut RpcTable,
        peers: &mut PeerTable,
        ctx: &Ctx,
    ) {
        self.release_credit(index, true, rpcs, peers, ctx);
    }

    /// The RPC's unscheduled data does not count as on its way any more; if its peer `reacted`,
    /// that is noted.
    #[inline]
    pub(crate) fn release_credit(
        &mut self,
        index: RpcIndex,
        reacted: bool,
        rpcs: &mut RpcTable,
        peers: &mut PeerTable,
        ctx: &Ctx,
    ) {
        let Some(rpc) = rpcs.known_mut(index).filter(|rpc| !rpc.tx.credit.is_none()) else {
            return;
        };
        let peer_index = rpc.peer;
        let Some(peer) = peers.known_mut(peer_index) else {
            return;
        };
        if peer.in_flight.settle(&mut rpc.tx.credit) && reacted {
            peer.liveness.reacted(ctx.now);
        }
        if !peer.blocked.is_empty() {
            self.serve_blocked(peer_index, rpcs, peers, ctx);
        }
    }

    /// The peer answered a probe: it is alive, and what was sent before is not on its way any more.
    pub(crate) fn probe_answered(
        &mut self,
        index: PeerIndex,
        rpcs: &mut RpcTable,
        peers: &mut PeerTable,
        ctx: &mut Ctx,
    ) {
        let Some(peer) = peers.known_mut(index) else {
            return;
        };
        let Some(probe) = peer.liveness.take_answered(ctx.now, &ctx.config) else {
            return;
        };
        if probe.tries == 0 {
            peer.resend_timeout.note_rtt(probe.first_sent, ctx.now);
        }
        peer.in_flight.probe_answered();
        let (next, waiting) = (peer.liveness.next_probe(), peer.liveness.waiting());
        self.serve_blocked(index, rpcs, peers, ctx);
        if waiting > 0 {
            ctx.timers.arm_peer(index, next);
        }
        if peers.known(index).is_some_and(|peer| !peer.blocked.is_empty()) {
            ctx.arm_blocked_probe(index);
        }
    }
}
