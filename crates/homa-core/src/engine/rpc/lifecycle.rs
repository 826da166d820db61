//! How RPCs begin and end, and the events about them.

use homa_wire::{Body, Reason};

use crate::addr::Path;
use crate::engine::Engine;
use crate::engine::api::RpcError;
use crate::engine::peer::PeerIndex;
use crate::engine::rpc::events::Happened;
use crate::engine::rpc::index::RpcIndex;
use crate::engine::rpc::{Role, Rpc, State};
use crate::engine::stats::Count;
use crate::event::{FailReason, RpcKey};
use crate::structures::OutOfMemory;
use crate::time::Instant;

impl Engine {
    /// Makes a new RPC, which enters the table and all structures that are indexed by it.
    pub(crate) fn add_rpc(
        &mut self,
        role: Role,
        id: u64,
        path: &Path,
        peer_index: PeerIndex,
    ) -> Result<RpcIndex, OutOfMemory> {
        self.make_room()?;
        let (birth, now) = (self.rpcs.next_birth(), self.ctx.now);
        let new = |place| Rpc::new(place, role, id, path, peer_index, birth, now);
        let index = self.rpcs.insert(new).ok_or(OutOfMemory)?;
        if let Some(peer) = self.peers.known_mut(peer_index) {
            peer.begin_use();
            if role == Role::Client {
                peer.calls.add(index, &mut self.rpcs);
            }
        }
        Ok(index)
    }

    /// Makes room for one more RPC in every table that is indexed by RPC.
    #[inline]
    pub(crate) fn make_room(&mut self) -> Result<(), OutOfMemory> {
        if self.rpcs.has_room() && self.rpcs.is_covered() {
            return Ok(());
        }
        self.make_room_for_rpc()
    }

    /// Grows every table that is indexed by RPC, before the first such index is used.
    fn make_room_for_rpc(&mut self) -> Result<(), OutOfMemory> {
        let capacity = self.rpcs.reserve(self.ctx.config.limits.max_rpcs as usize)?;
        self.receiver.try_reserve(capacity)?;
        self.sender.try_reserve(capacity)?;
        self.ctx.timers.try_reserve_rpcs(capacity)?;
        self.unvalidated.try_reserve(capacity)?;
        self.ctx.events.try_reserve(capacity)?;
        self.rpcs.set_covered();
        Ok(())
    }

    /// Ends an RPC; what remains are the events that tell the caller.
    pub(crate) fn end_rpc(&mut self, index: RpcIndex) {
        if !self.retire_rpc(index) {
            return;
        }
        let Some(rpc) = self.rpcs.known_mut(index) else {
            return;
        };
        rpc.pending.forget(Happened::Progress);
        if rpc.tx.release_all() {
            rpc.pending.add(Happened::Released);
        }
        rpc.pending.add(Happened::Ended);
        self.ctx.events.push(rpc);
    }

    /// Ends the call of a complete response, which the caller has taken as a whole when
    /// [`Event::ResponseWhole`](crate::Event::ResponseWhole) told of it. Unlike after
    /// [`Engine::consumed`] no [`Event::Ended`](crate::Event::Ended) follows.
    ///
    /// # Errors
    /// [`RpcError::Stale`]: the RPC is over. [`RpcError::OutOfRange`]: it has no complete response,
    /// or events of it are still to come.
    pub fn finish_call(&mut self, now: Instant, rpc: RpcKey) -> Result<(), RpcError> {
        self.ctx.tick(now, &mut self.peers);
        if let Some(index) = self.rpcs.short_of(rpc) {
            let ended = self.finish_short_call(index);
            return if ended { Ok(()) } else { Err(RpcError::OutOfRange) };
        }
        let (index, rpc) = self.rpcs.live_mut(rpc).ok_or(RpcError::Stale)?;
        if rpc.state() != State::Delivered || rpc.pending.is_queued() {
            return Err(RpcError::OutOfRange);
        }
        self.retire_rpc(index);
        self.rpcs.remove(index);
        Ok(())
    }

    /// Takes an RPC out of every structure and gives its memory back. `false`: it was over.
    fn retire_rpc(&mut self, index: RpcIndex) -> bool {
        let Some(rpc) = self.rpcs.known(index).filter(|rpc| rpc.state() != State::Dead) else {
            return false;
        };
        let (peer, id) = (rpc.peer, rpc.id);
        let is_server = rpc.role == Role::Server;
        let (confirmed, charged) = (rpc.confirmed, !rpc.tx.credit.is_none());
        // Each of the following is rare, and looks the RPC up.
        let (blocked, granted) = (rpc.tx.blocked, rpc.rx.is_managed());
        match rpc.role {
            // Its complete response took it out of these.
            Role::Client if rpc.state() == State::Delivered => {}
            Role::Client => {
                self.ids.forget_call(id);
                self.peers.unlink_call(index, peer, &mut self.rpcs);
            }
            Role::Server => {
                self.ids.forget_request(index, peer, &rpc.path, id);
                self.shares.forget_response(index, &mut self.rpcs, &self.peers);
            }
        }
        if confirmed {
            if let Some(rpc) = self.rpcs.known_mut(index) {
                rpc.set_confirmed(false, &mut self.peers, &mut self.ctx);
            }
        }
        // Before its charge: the room that it leaves must not be given to itself.
        if blocked {
            self.sender.unblock(index, &mut self.rpcs, &mut self.peers);
        }
        if charged {
            self.sender.release_credit(index, false, &mut self.rpcs, &mut self.peers, &self.ctx);
        }
        if granted {
            self.receiver.stop_granting(index, &mut self.rpcs);
        }
        self.sender.forget(index);
        self.ctx.timers.forget_rpc(index);
        self.end_use(peer, Some(id).filter(|_| is_server));
        if is_server {
            self.unvalidated.forget(index);
        }
        let Some(rpc) = self.rpcs.known_mut(index) else {
            return false;
        };
        self.receiver.release(rpc);
        rpc.go_on(State::Dead);
        self.receiver.use_freed_memory(&mut self.rpcs, &mut self.ctx);
        true
    }

    /// An RPC with a peer is over, which served its request `served` or was a call. The request is
    /// remembered.
    #[inline]
    pub(crate) fn end_use(&mut self, peer: PeerIndex, served: Option<u64>) {
        let Some(peer) = self.peers.known_mut(peer) else {
            return;
        };
        peer.end_use(self.ctx.now);
        if let Some(id) = served {
            self.shares.end(peer.host(), &mut peer.served);
            let now = self.ctx.read_clock.stamp();
            // It was not among them when it was accepted, and room was kept for it then.
            let _ = self.finished.insert_unknown(now, peer.numbers.hash, id);
        }
    }

    /// Ends an RPC with a reason that the application is told.
    pub(crate) fn fail_rpc(&mut self, index: RpcIndex, reason: FailReason) {
        self.expand(index);
        let Some(rpc) = self.rpcs.known_mut(index) else {
            return;
        };
        if rpc.state() == State::Dead {
            return;
        }
        let told = match rpc.role {
            Role::Client => rpc.state() != State::Delivered,
            Role::Server => matches!(rpc.state(), State::Incoming | State::InService),
        };
        if told {
            let drained = rpc.is_sent_to_drained(self.peers.known(rpc.peer));
            let reason = if drained { reason.not_executed() } else { reason };
            rpc.pending.add_failure(reason);
            if rpc.is_client() {
                self.ctx.stats.calls_failed.inc();
            }
        }
        self.end_rpc(index);
    }

    /// Refuses new requests to `port` from now on: their clients learn that they were not executed
    /// ([`FailReason::NotExecuted`]; Linux hosts learn nothing, and ask again). RPCs that have
    /// begun go on, and so do calls from the port. Nothing happens if the port is not open.
    pub fn drain_port(&mut self, now: Instant, port: u16) {
        self.ctx.tick(now, &mut self.peers);
        self.ports.drain(port);
    }

    /// Ends every RPC of `port` and tells the peers; then the port is gone.
    pub fn close_port(&mut self, now: Instant, port: u16) {
        self.ctx.tick(now, &mut self.peers);
        if !self.ports.close(port) {
            return;
        }
        self.expand_short_forms(|_| true);
        for index in self.rpcs.indices() {
            let Some(rpc) = self.rpcs.get(index) else {
                continue;
            };
            if rpc.path.local_port != port || rpc.state() == State::Dead {
                continue;
            }
            let why = if rpc.is_client() { Reason::Cancelled } else { Reason::Closing };
            // What was delivered is acknowledged below.
            if rpc.state() != State::Delivered && rpc.profile(&self.peers).is_native() {
                self.ctx.tell(rpc, &self.peers, Body::RpcUnknown, why);
            }
            self.fail_rpc(index, FailReason::EndpointClosed);
        }
        self.peers.acknowledge_at_once(port, &mut self.ctx);
    }
}
