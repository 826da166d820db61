//! Paths that swallow full-size packets without a word: noticed by what gets lost, since the network does not tell.

use core::time::Duration;

use crate::engine::Engine;
use crate::engine::peer::{MTU_MIN, Peer};
use crate::time::Instant;

/// Rounds of lost full-size packets after which the path is taken for a black hole.
const LOST_ROUNDS_MAX: u8 = 2;
/// The same towards Linux hosts, which ask for packets again that are merely late.
const LINUX_ROUNDS_MAX: u8 = 4;
/// Resend intervals between two rounds of a Linux host, at least.
const LINUX_ROUND_INTERVALS: u32 = 4;
/// The same if what was lost lies in front of a full-size packet that arrived: the path may have changed since, but
/// mere loss is more likely.
const GAP_ROUNDS_MAX: u8 = 5;
/// Payload that a packet of the smallest MTU carries over any IP version: losing it says nothing about the MTU.
const PAYLOAD_ALWAYS_FITS: u32 = 1176;
/// After this time a new message tries full-size packets again: paths heal.
const RETRY_AFTER: Duration = Duration::from_secs(300);

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
                peer.full_size_lost_rounds = 0;
                peer.full_size_gap_rounds = 0;
                // Packets longer than are believed to pass now did, at the first attempt: it was mere loss.
                if refutes {
                    if let Some((mtu, _)) = peer.mtu_before.take() {
                        peer.mtu = mtu;
                    }
                }
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
        // Several RESENDs at a time are one round; the first of them names the first loss.
        if peer.full_size_lost_at.is_some_and(|round| now.since(round) < pause) {
            return;
        }
        peer.full_size_lost_at = Some(now);
        self.note_full_size(index, first_lost);
        let Some(peer) = self.peers.known_mut(peer_index).filter(|peer| peer.mtu > MTU_MIN) else {
            return;
        };
        let (rounds, rounds_max) = if in_front_of_full {
            (&mut peer.full_size_gap_rounds, GAP_ROUNDS_MAX)
        } else {
            let rounds_max = if own { LOST_ROUNDS_MAX } else { LINUX_ROUNDS_MAX };
            (&mut peer.full_size_lost_rounds, rounds_max)
        };
        *rounds = rounds.saturating_add(1);
        if *rounds >= rounds_max {
            peer.mtu_before = Some((peer.mtu, now));
            peer.mtu = MTU_MIN;
            self.stats.mtu_black_holes = self.stats.mtu_black_holes.saturating_add(1);
        }
    }
}

impl Peer {
    /// A message to it begins: with full-size packets again if the path was taken for a black hole long ago.
    pub(crate) fn retry_full_size(&mut self, now: Instant) {
        if let Some((mtu, fell)) = self.mtu_before {
            if now >= fell + RETRY_AFTER {
                self.mtu = mtu;
                self.mtu_before = None;
                self.full_size_lost_rounds = 0;
                self.full_size_gap_rounds = 0;
            }
        }
    }
}
