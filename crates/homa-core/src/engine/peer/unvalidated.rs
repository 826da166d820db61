//! Requests of clients that have not proved their address.
//!
//! Such a request costs whoever sends it one packet with any address on it. So when all places are taken the oldest of them
//! goes: an honest client proves its address with its next packet, a round trip later, and those that stay strangers are not
//! there.

use crate::engine::Engine;
use crate::engine::peer::Peer;
use crate::engine::stats::Count;
use crate::event::FailReason;

impl Engine {
    /// Counts a new request, unless its client has proved its address.
    pub(crate) fn count_stranger(&mut self, index: u32) {
        let Some(rpc) = self.rpcs.known(index) else {
            return;
        };
        if self.peers.known(rpc.peer).is_some_and(Peer::is_stranger) {
            self.strangers.set(index, rpc.birth);
        }
    }

    /// Ends the oldest request of a stranger, to make room for somebody `else_than` its client. `false`: there is none, or it
    /// is that client's: whoever wants more places than there are is told so, and need not lose what it has.
    pub(crate) fn displace_stranger(&mut self, else_than: Option<u32>) -> bool {
        while let Some((index, _)) = self.strangers.peek() {
            let peer = self.rpcs.living(index).map(|rpc| rpc.peer);
            // Many have proved themselves since.
            let stranger =
                peer.filter(|peer| self.peers.known(*peer).is_some_and(Peer::is_stranger));
            if stranger.is_some() && stranger == else_than {
                return false;
            }
            self.strangers.remove(index);
            if let Some(stranger) = stranger {
                self.stats.strangers_displaced.inc();
                self.fail_rpc(index, FailReason::Timeout);
                self.forget_stranger(stranger);
                return true;
            }
        }
        false
    }

    /// Forgets a stranger of whom no request is left.
    fn forget_stranger(&mut self, peer: u32) {
        if self.peers.known(peer).is_some_and(|peer| peer.references == 0) {
            self.peers.remove(peer, &mut self.peer_timers);
        }
    }
}
