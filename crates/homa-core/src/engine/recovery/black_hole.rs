//! Evidence for the path MTU: full-size packets that are lost, or arrive.

use crate::config::Config;
use crate::engine::ctx::Ctx;
use crate::engine::peer::{Losses, PeerTable};
use crate::engine::rpc::Rpc;
use crate::engine::stats::Count;

/// Resend intervals between two rounds of a Linux host, at least.
const LINUX_ROUND_INTERVALS: u32 = 4;
/// Payload that a packet of the smallest MTU carries over any IP version: losing it says nothing
/// about the MTU.
const PAYLOAD_ALWAYS_FITS: u32 = 1176;

impl Rpc {
    /// The peer has everything of the outgoing message below `upto`. If that is a full segment more
    /// than was known, its path carries the MTU we assume.
    #[inline]
    pub(crate) fn note_full_size(&mut self, upto: u32, peers: &mut PeerTable, config: &Config) {
        if !self.tx.prove(upto) {
            return;
        }
        if let Some(peer) = peers.known_mut(self.peer) {
            // A Linux host does not say how much of it arrived.
            let refutes = self.profile_with(Some(peer)).is_native()
                && !self.tx.was_retransmitted()
                && self.tx.segment_bytes() > peer.payload_max(config);
            // Packets longer than are believed to pass now did, at the first attempt: it was mere
            // loss.
            peer.path_mtu.arrived(refutes);
        }
    }

    /// Packets with `lost_bytes` of payload were lost, from `first_lost` on, although small ones
    /// pass. After some rounds without any success the path is taken for a black hole and falls to
    /// the smallest MTU.
    pub(crate) fn packets_lost(
        &mut self,
        first_lost: u32,
        lost_bytes: u32,
        in_front_of_full: bool,
        peers: &mut PeerTable,
        ctx: &mut Ctx,
    ) {
        if lost_bytes <= PAYLOAD_ALWAYS_FITS {
            return;
        }
        let profile = self.profile(peers);
        // A Linux host sends RESENDs every 5 ms, whether or not the range can have come by then.
        let pause = if profile.is_native() {
            ctx.config.recovery.resend_interval / 2
        } else {
            ctx.config.recovery.resend_interval.saturating_mul(LINUX_ROUND_INTERVALS)
        };
        let Some(peer) = peers.known_mut(self.peer) else {
            return;
        };
        // The first of several RESENDs at a time names the first loss.
        if !peer.path_mtu.begins_round(ctx.now, pause) {
            return;
        }
        self.note_full_size(first_lost, peers, &ctx.config);
        let losses = if in_front_of_full { Losses::InFront } else { Losses::Behind(profile) };
        let peer = peers.known_mut(self.peer);
        if peer.is_some_and(|peer| peer.path_mtu.count_round(ctx.now, losses)) {
            ctx.stats.mtu_black_holes.inc();
        }
    }
}
