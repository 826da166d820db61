//! Requests of clients that have not proved their address.
//!
//! Such a request costs whoever sends it one packet with any address on it. So strangers have half of the places, and when a
//! place is wanted the oldest of them goes: an honest client proves its address with its next packet, a round trip later,
//! and those that stay strangers are not there.

use crate::engine::Engine;
use crate::engine::peer::Peer;
use crate::engine::rpc::State;
use crate::event::FailReason;

impl Engine {
    /// Counts a new request, unless its client has proved its address.
    pub(crate) fn count_stranger(&mut self, index: u32) {
        let Some(rpc) = self.rpcs.get(index) else {
            return;
        };
        if self.peers.get(rpc.peer).is_some_and(Peer::is_stranger) {
            self.strangers.set(index, rpc.birth);
        }
    }

    /// Whether strangers have all the places that they may have.
    pub(crate) fn has_many_strangers(&self) -> bool {
        let places = self.config.serving_max().min(self.config.peers_max);
        self.strangers.len() >= places.div_ceil(2) as usize
    }

    /// Ends the oldest request of a stranger. `false`: there is none.
    pub(crate) fn displace_stranger(&mut self) -> bool {
        while let Some((index, _)) = self.strangers.peek() {
            self.strangers.remove(index);
            let live = self.rpcs.get(index).filter(|rpc| rpc.state != State::Dead);
            let Some(peer) = live.map(|rpc| rpc.peer) else {
                continue;
            };
            // Many have proved themselves since.
            if self.peers.get(peer).is_some_and(Peer::is_stranger) {
                self.stats.strangers_displaced = self.stats.strangers_displaced.saturating_add(1);
                self.fail_rpc(index, FailReason::Timeout);
                self.forget_stranger(peer);
                return true;
            }
        }
        false
    }

    /// Forgets a stranger of whom no request is left.
    fn forget_stranger(&mut self, peer: u32) {
        if self.peers.get(peer).is_some_and(|peer| peer.references == 0) {
            self.peers.remove(peer);
            self.peer_timers.remove(peer);
        }
    }
}
