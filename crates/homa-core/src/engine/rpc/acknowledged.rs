//! Server RPCs whose client does not need them any more.

use homa_wire::AckEntry;

use crate::addr::Path;
use crate::engine::Engine;
use crate::engine::peer::PeerIndex;
use crate::engine::rpc::State;
use crate::engine::rpc::index::RpcIndex;

/// Deferred acknowledgements, at most.
pub(crate) const LATE_ACKS_MAX: usize = 64;

impl Engine {
    /// Defers an acknowledgement that came with data until the reply to that data is on its way,
    /// see [`Engine::settle`]; beyond [`LATE_ACKS_MAX`] it is applied at once.
    pub(crate) fn acknowledge_later(
        &mut self,
        peer: Option<PeerIndex>,
        path: &Path,
        ack: &AckEntry,
    ) {
        let named = self.ids.find_acknowledged(&self.rpcs, peer, path, ack);
        let Some(rpc) = named.and_then(|index| self.rpcs.key(index)) else {
            return;
        };
        if self.late_acks.len() < LATE_ACKS_MAX {
            // Reserved when the engine was made.
            self.late_acks.push_back(rpc);
        } else {
            self.acknowledged(named, true);
        }
    }

    /// Applies the deferred acknowledgements. `true`: there were some.
    pub(crate) fn settle(&mut self) -> bool {
        let any = !self.late_acks.is_empty();
        while let Some(key) = self.late_acks.pop_front() {
            self.acknowledged(self.rpcs.resolve(key), true);
        }
        any
    }

    /// Ends a server RPC that its client no longer needs; if it `arrived`, because the client has
    /// the response.
    pub(crate) fn acknowledged(&mut self, index: Option<RpcIndex>, arrived: bool) {
        let Some(index) = index else {
            return;
        };
        if self.rpcs.short(index).is_some() {
            return self.short_acknowledged(index);
        }
        let Some(rpc) = self.rpcs.known_mut(index) else {
            return;
        };
        if let State::Outgoing | State::Refused(_) = rpc.state() {
            if arrived && rpc.state() == State::Outgoing {
                rpc.note_full_size(u32::MAX, &mut self.peers, &self.ctx.config);
            }
            self.sender.reacted(index, &mut self.rpcs, &mut self.peers, &self.ctx);
            self.end_rpc(index);
        }
    }
}
