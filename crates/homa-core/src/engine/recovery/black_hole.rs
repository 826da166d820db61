//! What tells the path MTU that full-size packets are lost, or arrive.

use crate::engine::Engine;
use crate::engine::peer::Losses;
use crate::engine::stats::Count;

/// Resend intervals between two rounds of a Linux host, at least.
const LINUX_ROUND_INTERVALS: u32 = 4;
/// Payload that a packet of the smallest MTU carries over any IP version: losing it says nothing about the MTU.
const PAYLOAD_ALWAYS_FITS: u32 = 1176;

impl Engine {
    /// The peer has everything of the outgoing message of an RPC below `upto`. If that is a full segment more
    /// than was known, its path carries the MTU we assume.
    pub(crate) fn note_full_size(&mut self, index: u32, upto: u32) {
        let Some(rpc) = self.rpcs.known_mut(index) else {
            return;
        };
        let upto = upto.min(rpc.tx.length);
        if upto >= rpc.tx.proven_upto.saturating_add(rpc.tx.segment_bytes) {
            rpc.tx.proven_upto = upto;
            let (peer, once, segment_bytes) = (rpc.peer, !rpc.tx.copied, rpc.tx.segment_bytes);
            // A Linux host does not say how much of it arrived.
            let own = self.rpcs.known(index).is_some_and(|rpc| self.speaks_own(rpc));
            let refutes = own && once && segment_bytes > self.payload_max(peer);
            if let Some(peer) = self.peers.known_mut(peer) {
                // Packets longer than are believed to pass now did, at the first attempt: it was mere loss.
                peer.path_mtu.arrived(refutes);
            }
        }
    }

    /// Packets of an RPC with `lost_bytes` of payload were lost, from `first_lost` on, although small ones pass.
    /// After some rounds without any success the path is taken for a black hole and falls to the smallest MTU.
    pub(crate) fn packets_lost(
        &mut self,
        index: u32,
        first_lost: u32,
        lost_bytes: u32,
        in_front_of_full: bool,
    ) {
        if lost_bytes <= PAYLOAD_ALWAYS_FITS {
            return;
        }
        let now = self.now;
        let Some(rpc) = self.rpcs.known(index) else {
            return;
        };
        let (peer_index, own) = (rpc.peer, self.speaks_own(rpc));
        // A Linux host asks every 5 ms, whether or not what it asked for can have come by then.
        let pause = if own {
            self.config.resend_interval / 2
        } else {
            self.config.resend_interval.saturating_mul(LINUX_ROUND_INTERVALS)
        };
        let Some(peer) = self.peers.known_mut(peer_index) else {
            return;
        };
        // The first of several RESENDs at a time names the first loss.
        if !peer.path_mtu.begins_round(now, pause) {
            return;
        }
        self.note_full_size(index, first_lost);
        let losses =
            if in_front_of_full { Losses::InFront } else { Losses::Behind { linux: !own } };
        let peer = self.peers.known_mut(peer_index);
        if peer.is_some_and(|peer| peer.path_mtu.count_round(now, losses)) {
            self.stats.mtu_black_holes.inc();
        }
    }
}
