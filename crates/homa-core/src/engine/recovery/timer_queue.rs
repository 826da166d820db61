//! When which RPC and which peer is looked at. Each has at most one timer.

use crate::engine::peer::PeerIndex;
use crate::engine::rpc::index::RpcIndex;
use crate::event::WakeReason;
use crate::structures::OutOfMemory;
use crate::structures::heap::IndexedHeap;
use crate::structures::index::Index;
use crate::time::Instant;

/// The timers of all RPCs and peers.
#[derive(Debug)]
pub(crate) struct TimerQueue {
    rpcs: IndexedHeap<RpcIndex, Instant>,
    peers: IndexedHeap<PeerIndex, Instant>,
}

impl Default for TimerQueue {
    fn default() -> Self {
        Self { rpcs: IndexedHeap::new(), peers: IndexedHeap::new() }
    }
}

impl TimerQueue {
    /// Covers RPCs below `limit`.
    pub(crate) fn try_reserve_rpcs(&mut self, limit: usize) -> Result<(), OutOfMemory> {
        self.rpcs.try_reserve(limit)
    }

    /// Covers peers below `limit`.
    pub(crate) fn try_reserve_peers(&mut self, limit: usize) -> Result<(), OutOfMemory> {
        self.peers.try_reserve(limit)
    }

    /// Makes sure that an RPC is looked at by `at`.
    #[inline]
    pub(crate) fn arm_rpc(&mut self, rpc: RpcIndex, at: Instant) {
        arm(&mut self.rpcs, rpc, at);
    }

    /// Makes sure that a peer is looked at by `at`.
    pub(crate) fn arm_peer(&mut self, peer: PeerIndex, at: Instant) {
        arm(&mut self.peers, peer, at);
    }

    #[inline]
    pub(crate) fn forget_rpc(&mut self, rpc: RpcIndex) {
        self.rpcs.remove(rpc);
    }

    pub(crate) fn forget_peer(&mut self, peer: PeerIndex) {
        self.peers.remove(peer);
    }

    /// Whether the timer of an RPC is due.
    #[inline]
    pub(crate) fn is_rpc_due(&self, now: Instant) -> bool {
        is_due(&self.rpcs, now)
    }

    /// Takes the next RPC that is due.
    #[inline]
    pub(crate) fn pop_due_rpc(&mut self, now: Instant) -> Option<RpcIndex> {
        pop_due(&mut self.rpcs, now)
    }

    /// Takes the next peer that is due.
    #[inline]
    pub(crate) fn pop_due_peer(&mut self, now: Instant) -> Option<PeerIndex> {
        pop_due(&mut self.peers, now)
    }

    /// The next timer.
    #[inline]
    pub(crate) fn next(&self) -> Option<(Instant, WakeReason)> {
        let rpc = self.rpcs.peek().map(|(_, at)| (at, WakeReason::Rpc));
        let peer = self.peers.peek().map(|(_, at)| (at, WakeReason::Peer));
        match (rpc, peer) {
            (Some(rpc), Some(peer)) => Some(if peer.0 < rpc.0 { peer } else { rpc }),
            (rpc, peer) => rpc.or(peer),
        }
    }

    #[cfg(any(test, feature = "check"))]
    pub(crate) fn has_rpc(&self, rpc: RpcIndex) -> bool {
        self.rpcs.contains(rpc)
    }

    #[cfg(any(test, feature = "check"))]
    pub(crate) fn has_peer(&self, peer: PeerIndex) -> bool {
        self.peers.contains(peer)
    }
}

#[inline]
fn arm<I: Index>(timers: &mut IndexedHeap<I, Instant>, index: I, at: Instant) {
    timers.set_at_most(index, at);
}

#[inline]
fn is_due<I: Index>(timers: &IndexedHeap<I, Instant>, now: Instant) -> bool {
    timers.peek().is_some_and(|(_, at)| at <= now)
}

#[inline]
fn pop_due<I: Index>(timers: &mut IndexedHeap<I, Instant>, now: Instant) -> Option<I> {
    let (index, _) = timers.peek().filter(|(_, at)| *at <= now)?;
    timers.remove(index);
    Some(index)
}
