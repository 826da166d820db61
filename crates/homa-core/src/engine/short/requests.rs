//! Requests in short form.

use super::{OutgoingShort, ShortRpc, Stage, WholeMessage};
use crate::engine::Engine;
use crate::engine::api::ResponseOptions;
use crate::engine::rpc::index::RpcIndex;
use crate::engine::rpc::list::Link;
use crate::engine::stats::Count;
use crate::event::Placement;

impl Engine {
    /// Takes a request that was not seen before. `None`, and nothing has changed: it is not new, or
    /// a limit is reached.
    #[inline]
    pub(super) fn short_request(&mut self, message: &WholeMessage<'_>) -> Option<Placement> {
        let (id, length) = (message.id(), message.length());
        let port = self.ports.get(message.path.local_port)?;
        let serves = port.options.serve && !port.options.streaming_requests && !port.draining;
        let peer = self.peers.known(message.peer)?;
        let (hash, host) = (peer.numbers.hash, peer.host());
        let is_new = peer.path == *message.path
            && !self.ids.is_request(message.peer, id)
            && (peer.is_newest_request(id, &self.ctx)
                || !self.finished.contains(self.ctx.read_clock.now(), hash, id));
        let serving_max = self.ctx.config.serving_max();
        let has_room = self.can_remember_request()
            && self.shares.has_place(serving_max)
            && self.shares.may_serve(host, true, serving_max)
            && self.receiver.has_room_for_short(length);
        if !(serves && is_new && has_room && self.ids.try_reserve_request().is_ok()) {
            return None;
        }
        if self.make_room().is_err() {
            return None;
        }
        self.hear(message);
        let birth = self.rpcs.next_birth();
        let rpc = ShortRpc {
            id,
            peer: message.peer,
            peer_incarnation: message.data.incarnation(),
            local_port: message.path.local_port,
            stage: Stage::InService,
            queued: true,
            taken: false,
            since: self.ctx.now,
            outgoing: OutgoingShort::none(birth),
            rx_length: length,
            rx_flags: message.data.flags(),
            cookie: 0,
            link: Link::NONE,
        };
        let index = self.rpcs.next_free()?;
        let key = self.rpcs.insert_short(rpc)?;
        self.ids.add_request(index, message.peer, message.path, id);
        self.ctx.stats.requests_received.inc();
        if let Some(peer) = self.peers.known_mut(message.peer) {
            peer.begin_use();
            self.shares.begin(host, &mut peer.served, true);
            peer.note_request(id, &mut self.ctx);
        }
        self.ctx.events.push_short(index);
        self.receiver.take_short(length, &mut self.ctx);
        Some(message.placement(key))
    }

    /// The application has taken all of the request of an RPC in short form, see
    /// [`Engine::consumed`]. `false`, and nothing has changed: it takes the general form.
    #[inline]
    pub(crate) fn short_consumed(&mut self, index: RpcIndex, upto: u32) -> bool {
        let is_request = |rpc: &&mut ShortRpc| {
            let told = !rpc.queued && !matches!(rpc.stage, Stage::Delivered | Stage::Over);
            told && !rpc.taken && upto == rpc.rx_length && upto > 0
        };
        let Some(rpc) = self.rpcs.short_mut(index).filter(is_request) else {
            return false;
        };
        rpc.taken = true;
        self.receiver.give_short_back(upto);
        self.receiver.use_freed_memory(&mut self.rpcs, &mut self.ctx);
        true
    }

    /// Answers the request of an RPC in short form, see [`Engine::send_response`]. `false`, and
    /// nothing has changed: it takes the general form.
    #[inline]
    pub(crate) fn short_response(
        &mut self,
        index: RpcIndex,
        (length, flags): (u32, u8),
        options: &ResponseOptions,
    ) -> bool {
        let in_service = |rpc: &&ShortRpc| rpc.stage == Stage::InService && !rpc.queued;
        let Some(rpc) = self.rpcs.short(index).filter(in_service) else {
            return false;
        };
        let Some(peer) = self.peers.known(rpc.peer) else {
            return false;
        };
        let is_usual = !(options.streaming_body || options.open)
            && peer.validation.is_done()
            && !self.ctx.config.limits.exceeds(length, flags)
            && peer.takes_short(length, &self.ctx);
        if !is_usual {
            return false;
        }
        let host = peer.host();
        let interval_ns = self.shares.first_ack_interval_ns(false, &self.ctx.config);
        let birth = self.rpcs.next_birth();
        if let Some(rpc) = self.rpcs.short_mut(index) {
            rpc.stage = Stage::Ready;
            rpc.since = self.ctx.now;
            rpc.outgoing =
                OutgoingShort { length, flags, interval_ns, ..OutgoingShort::none(birth) };
        }
        self.sender.queue(index, (length, birth), &self.ctx.config);
        self.shares.keep_response(index, (host, length), &mut self.rpcs);
        self.limit_unacknowledged(index);
        true
    }

    /// The client of an RPC in short form has its response, see [`Engine::acknowledged`].
    #[inline]
    pub(crate) fn short_acknowledged(&mut self, index: RpcIndex) {
        let answers = |rpc: &&ShortRpc| matches!(rpc.stage, Stage::Ready | Stage::Sent);
        if self.rpcs.short(index).filter(answers).is_none() {
            return;
        }
        self.settle_short(index);
        let Some(rpc) = self.rpcs.short_mut(index) else {
            return;
        };
        let (id, peer_index, length) = (rpc.id, rpc.peer, rpc.outgoing.length);
        let held = if rpc.taken { 0 } else { rpc.rx_length };
        let is_ready = rpc.stage == Stage::Ready;
        (rpc.stage, rpc.queued) = (Stage::Over, true);
        self.ctx.events.push_short(index);
        if is_ready {
            self.sender.forget(index);
        }
        self.ctx.timers.forget_rpc(index);
        if let Some(peer) = self.peers.known_mut(peer_index) {
            self.ids.forget_request(index, peer_index, &peer.path, id);
            self.shares.forget_short(index, (peer.host(), length), &mut self.rpcs);
        }
        self.end_use(peer_index, Some(id));
        if held > 0 {
            self.receiver.give_short_back(held);
        }
        self.receiver.use_freed_memory(&mut self.rpcs, &mut self.ctx);
    }
}
