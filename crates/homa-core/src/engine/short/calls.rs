//! Calls in short form.

use super::{OutgoingShort, ShortRpc, Stage, WholeMessage};
use crate::addr::Path;
use crate::engine::Engine;
use crate::engine::api::RequestOptions;
use crate::engine::peer::PeerIndex;
use crate::engine::profile::Profile;
use crate::engine::rpc::index::RpcIndex;
use crate::engine::rpc::list::Link;
use crate::engine::stats::Count;
use crate::event::{Placement, RpcKey};

impl RequestOptions {
    /// Whether nothing but a frame is asked for.
    #[inline]
    fn is_plain(&self) -> bool {
        self.deadline.is_none()
            && !(self.streaming_body || self.open || self.streaming_response)
            && self.priority_hint.is_none()
    }
}

impl Engine {
    /// Begins a call in short form. `None`: it takes the general one.
    #[inline]
    pub(crate) fn begin_short_call(
        &mut self,
        path: &Path,
        peer_index: PeerIndex,
        (length, flags): (u32, u8),
        cookie: u64,
        options: &RequestOptions,
    ) -> Option<RpcKey> {
        let peer = self.peers.known(peer_index)?;
        let is_usual =
            options.is_plain() && peer.takes_short(length, &self.ctx) && peer.path == *path;
        if !is_usual {
            return None;
        }
        let first_id = peer.numbers.first_id;
        let interval_ns = self.ctx.next_interval_ns(Some(peer), Profile::Native);
        if self.make_room().is_err() || self.ids.try_reserve_call().is_err() {
            return None;
        }
        let index = self.rpcs.next_free()?;
        let birth = self.rpcs.next_birth();
        let rpc = ShortRpc {
            id: self.ids.give(index, first_id),
            peer: peer_index,
            peer_incarnation: 0,
            local_port: path.local_port,
            stage: Stage::Ready,
            queued: false,
            taken: false,
            since: self.ctx.now,
            outgoing: OutgoingShort { length, flags, interval_ns, ..OutgoingShort::none(birth) },
            rx_length: 0,
            rx_flags: 0,
            cookie,
            link: Link::NONE,
        };
        let key = self.rpcs.insert_short(rpc)?;
        if let Some(peer) = self.peers.known_mut(peer_index) {
            peer.begin_use();
            peer.calls.add(index, &mut self.rpcs);
        }
        self.ctx.stats.requests_sent.inc();
        self.sender.queue(index, (length, birth), &self.ctx.config);
        Some(key)
    }

    /// Takes the response to a call in short form. `None`, and nothing has changed: there is no
    /// such call, or no memory.
    #[inline]
    pub(super) fn answer(&mut self, message: &WholeMessage<'_>) -> Option<Placement> {
        let (id, length) = (message.id(), message.length());
        let index = self.ids.call(id)?;
        let rpc = self.rpcs.short(index)?;
        let is_it = rpc.stage == Stage::Sent
            && rpc.peer == message.peer
            && rpc.local_port == message.path.local_port;
        if !(is_it && self.receiver.has_room_for_short(length)) {
            return None;
        }
        self.hear(message);
        let rpc = self.rpcs.short_mut(index)?;
        rpc.stage = Stage::Delivered;
        rpc.since = self.ctx.now;
        rpc.peer_incarnation = message.data.incarnation();
        (rpc.rx_length, rpc.rx_flags) = (length, message.data.flags());
        rpc.queued = true;
        self.ctx.events.push_short(index);
        self.settle_short(index);
        self.receiver.take_short(length, &mut self.ctx);
        self.ctx.stats.responses_received.inc();
        let call = (message.peer, message.path, id);
        self.peers.acknowledge_with_next(call, Profile::Native, &mut self.ctx);
        self.ids.forget_call(id);
        self.peers.unlink_call(index, message.peer, &mut self.rpcs);
        self.rpcs.key(index).map(|key| message.placement(key))
    }

    /// Ends a call in short form whose response the caller has, see [`Engine::finish_call`].
    /// `false`, and nothing has changed: it has no response, or its event is still to come.
    #[inline]
    pub(crate) fn finish_short_call(&mut self, index: RpcIndex) -> bool {
        let here = |rpc: &&ShortRpc| rpc.stage == Stage::Delivered && !rpc.queued;
        let Some(rpc) = self.rpcs.short(index).filter(here) else {
            return false;
        };
        let (peer, length) = (rpc.peer, rpc.rx_length);
        self.ctx.timers.forget_rpc(index);
        self.end_use(peer, None);
        self.receiver.give_short_back(length);
        self.receiver.use_freed_memory(&mut self.rpcs, &mut self.ctx);
        self.rpcs.remove(index);
        true
    }
}
