//! Requests of unvalidated clients.
//!
//! Such a request costs its sender a single packet, whose address may be forged. When all places
//! are taken the oldest of them is displaced: an honest client validates its address one round trip
//! later, a forged one never.

use crate::engine::Engine;
use crate::engine::peer::{Peer, PeerIndex, PeerTable};
use crate::engine::rpc::index::RpcIndex;
use crate::engine::rpc::{Rpc, RpcTable};
use crate::engine::stats::Count;
use crate::event::FailReason;
use crate::structures::OutOfMemory;
use crate::structures::heap::IndexedHeap;

/// Server RPCs of clients that were unvalidated when they began, by age.
#[derive(Debug)]
pub(crate) struct Unvalidated(IndexedHeap<RpcIndex, u64>);

impl Default for Unvalidated {
    fn default() -> Self {
        Self(IndexedHeap::new())
    }
}

impl Unvalidated {
    /// Covers RPCs below `limit`.
    pub(crate) fn try_reserve(&mut self, limit: usize) -> Result<(), OutOfMemory> {
        self.0.try_reserve(limit)
    }

    /// Counts a new request, unless its client is validated.
    pub(crate) fn add(&mut self, rpc: &Rpc, peers: &PeerTable) {
        if peers.known(rpc.peer).is_some_and(Peer::is_unvalidated) {
            self.0.set(rpc.index(), rpc.tx.birth());
        }
    }

    #[inline]
    pub(crate) fn forget(&mut self, index: RpcIndex) {
        self.0.remove(index);
    }

    /// Takes the oldest request of an unvalidated client, to make room for a client `else_than` its
    /// own. `None`: there is none, or it is that client's own, which is refused instead.
    fn pop(
        &mut self,
        else_than: Option<PeerIndex>,
        rpcs: &RpcTable,
        peers: &PeerTable,
    ) -> Option<RpcIndex> {
        while let Some((index, _)) = self.0.peek() {
            let peer = rpcs.living(index).map(|rpc| rpc.peer);
            // Many have validated their address since.
            let unvalidated =
                peer.filter(|peer| peers.known(*peer).is_some_and(Peer::is_unvalidated));
            if unvalidated.is_some() && unvalidated == else_than {
                return None;
            }
            self.0.remove(index);
            if unvalidated.is_some() {
                return Some(index);
            }
        }
        None
    }

    #[cfg(any(test, feature = "check"))]
    pub(crate) fn contains(&self, index: RpcIndex) -> bool {
        self.0.contains(index)
    }
}

impl Engine {
    /// Ends the oldest request of an unvalidated client, see [`Unvalidated::pop`]. `false`: there
    /// is none.
    pub(crate) fn displace_unvalidated(&mut self, else_than: Option<PeerIndex>) -> bool {
        let oldest = self.unvalidated.pop(else_than, &self.rpcs, &self.peers);
        let Some(rpc) = oldest.and_then(|index| self.rpcs.known(index)) else {
            return false;
        };
        let (index, peer) = (rpc.index(), rpc.peer);
        self.ctx.stats.unvalidated_displaced.inc();
        self.fail_rpc(index, FailReason::Timeout);
        // An unvalidated client of whom no request is left is forgotten.
        if self.peers.known(peer).is_some_and(|peer| !peer.is_in_use()) {
            self.peers.remove(peer, &mut self.ctx.timers);
        }
        true
    }
}
