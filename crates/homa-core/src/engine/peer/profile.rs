//! Which packet format is used towards whom over raw IP: pure Linux format, or the native profile
//! with peers that announced it (`docs/interoperability.md`).
//!
//! The announcement is our window and incarnation in the header of CUTOFFS packets, fields that
//! Linux ignores. CUTOFFS goes to every peer whose DATA names other cutoffs than ours, which first
//! contact always does. So the first RPC is in Linux format, and the first CUTOFFS makes its client
//! begin the next ones in the native profile; that tells the server in turn. Nothing else is ever
//! sent for the sake of discovery.

use core::time::Duration;

use homa_wire::{Body, Header};

use crate::addr::{Carriage, Path};
use crate::engine::Engine;
use crate::engine::ctx::Ctx;
use crate::engine::peer::{Peer, PeerIndex, PeerTable};
use crate::engine::rpc::Rpc;
use crate::engine::stats::Count;
use crate::time::Instant;

/// New RPCs are begun in the native profile while the peer was heard speaking it within this time.
/// After that the address may belong to another machine.
const NATIVE_MEMORY: Duration = Duration::from_secs(10);

impl Peer {
    /// Whether it is of this implementation, as far as is known. Over UDP every peer is.
    pub(crate) fn is_native(&self) -> bool {
        self.path.carriage == Carriage::Udp || self.incarnation.number != 0
    }

    /// Whether the peer announced the native profile within `NATIVE_MEMORY`.
    fn is_native_of_late(&self, now: Instant) -> bool {
        self.is_native()
            && (self.path.carriage == Carriage::Udp
                || now < self.incarnation.heard_at + NATIVE_MEMORY)
    }

    /// The version of its cutoffs that DATA names; 0 ("none") makes it announce itself again.
    pub(crate) fn echoed_cutoff_version(&self, now: Instant) -> u16 {
        if self.is_native() && !self.is_native_of_late(now) { 0 } else { self.cutoffs.version() }
    }
}

impl PeerTable {
    /// Whether an RPC may be begun with a peer in the native profile.
    pub(crate) fn is_native_of_late(&self, now: Instant, peer: PeerIndex) -> bool {
        self.get(peer).is_some_and(|peer| peer.is_native_of_late(now))
    }

    /// Registers a new incarnation of the peer.
    pub(crate) fn learn_incarnation(&mut self, index: PeerIndex, incarnation: u32, ctx: &mut Ctx) {
        let Some(peer) = self.known_mut(index) else {
            return;
        };
        if peer.incarnation.number == 0 {
            if peer.path.carriage == Carriage::Ip {
                ctx.stats.peers_discovered.inc();
            }
            peer.incarnation.number = incarnation;
            return;
        }
        let waited_for = peer.liveness.waiting() > 0;
        peer.forget_learned(incarnation, &ctx.config);
        if waited_for {
            self.recheck_waiting(index, ctx);
        }
    }
}

impl Rpc {
    /// Whether its packets are in the native profile: it was begun so, and the peer has not turned
    /// out to be a Linux host since.
    #[inline]
    pub(crate) fn speaks_native(&self, peers: &PeerTable) -> bool {
        self.native && peers.known(self.peer).is_some_and(Peer::is_native)
    }
}

impl Engine {
    /// A packet in Linux format from a peer that we believe to be of this implementation: what it
    /// cannot have sent shows that a Linux host has taken its place. That is CUTOFFS without an
    /// announcement, and anything about an RPC begun in the native profile.
    pub(crate) fn notice_linux(&mut self, index: PeerIndex, path: &Path, header: &Header, id: u64) {
        let believed_native = path.carriage == Carriage::Ip
            && self.peers.known(index).is_some_and(|peer| peer.incarnation.number != 0);
        if !believed_native {
            return;
        }
        let begun_native = || {
            self.ids
                .find(&self.rpcs, Some(index), path, id)
                .and_then(|index| self.rpcs.known(index))
                .is_some_and(|rpc| rpc.native)
        };
        if matches!(header.body, Body::Cutoffs(_)) || begun_native() {
            self.revert_to_linux(index);
        }
    }

    /// All RPCs continue in Linux format, including those begun in the native profile.
    fn revert_to_linux(&mut self, index: PeerIndex) {
        self.ctx.stats.peers_reverted.inc();
        let Some(peer) = self.peers.known_mut(index) else {
            return;
        };
        peer.forget_learned(0, &self.ctx.config);
        peer.nothing_in_flight();
        // The Linux profile has no in-flight limit, so no message waits for credit.
        while let Some(blocked) = self.sender.pop_blocked(index, &mut self.rpcs, &mut self.peers) {
            if let Some(rpc) = self.rpcs.known(blocked) {
                self.sender.schedule(rpc, &self.ctx.config);
            }
        }
        if self.peers.known(index).is_some_and(|peer| peer.liveness.waiting() > 0) {
            self.peers.recheck_waiting(index, &mut self.ctx);
        }
    }
}
