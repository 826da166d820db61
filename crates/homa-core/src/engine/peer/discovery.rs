//! Discovery of the profile of peers over raw IP: the native one is used with those that announced
//! it (`docs/interoperability.md`).
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
use crate::engine::profile::Profile;
use crate::engine::rpc::Rpc;
use crate::engine::stats::Count;
use crate::time::Instant;

/// New RPCs are begun in the native profile while the peer was heard speaking it within this time.
/// After that the address may belong to another machine.
const NATIVE_MEMORY: Duration = Duration::from_secs(10);

impl Peer {
    /// The profile that it understands, as far as is known.
    #[inline]
    pub(crate) fn profile(&self) -> Profile {
        if self.incarnation.number != 0 {
            Profile::Native
        } else {
            Profile::over(self.path.carriage)
        }
    }

    /// The same if it was confirmed within [`NATIVE_MEMORY`].
    #[inline]
    fn recent_profile(&self, now: Instant) -> Profile {
        match Profile::over(self.path.carriage) {
            Profile::Linux if now < self.incarnation.heard_at + NATIVE_MEMORY => self.profile(),
            profile => profile,
        }
    }

    /// The version of its cutoffs that DATA names; 0 ("none") makes it announce itself again.
    pub(crate) fn echoed_cutoff_version(&self, now: Instant) -> u16 {
        if self.profile() == self.recent_profile(now) { self.cutoffs.version() } else { 0 }
    }
}

impl PeerTable {
    /// The profile in which an RPC with a peer is begun.
    pub(crate) fn profile(&self, now: Instant, peer: PeerIndex) -> Profile {
        self.get(peer).map_or(Profile::Linux, |peer| peer.recent_profile(now))
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
    /// The profile of its packets: native if it was begun so, and the peer has not turned out to be
    /// a Linux host since.
    #[inline]
    pub(crate) fn profile(&self, peers: &PeerTable) -> Profile {
        match self.begun_in {
            Profile::Native => self.profile_with(peers.known(self.peer)),
            Profile::Linux => Profile::Linux,
        }
    }

    /// The same for the RPC's `peer`.
    #[inline]
    pub(crate) fn profile_with(&self, peer: Option<&Peer>) -> Profile {
        match self.begun_in {
            Profile::Native => peer.map_or(Profile::Linux, Peer::profile),
            Profile::Linux => Profile::Linux,
        }
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
                .is_some_and(|rpc| rpc.begun_in.is_native())
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
