//! Exchange of cutoffs between peers (docs/spec/protocol.md §5).

use core::net::IpAddr;
use core::time::Duration;

use homa_wire::{Body, Header, Reason};

use crate::addr::{Carriage, Path};
use crate::config::Config;
use crate::cutoffs::Cutoffs;
use crate::engine::Engine;
use crate::engine::peer::{Peer, PeerIndex, PeerTable};
use crate::engine::profile::Profile;
use crate::event::{DropReason, Received};
use crate::time::Instant;

/// Sockets of a Linux host to which the cutoffs of one of them are copied at once; others keep
/// theirs until they send CUTOFFS themselves.
const SOCKETS_TOLD_MAX: usize = 64;

/// A peer is sent our cutoffs at most once per so much time.
const OFFER_INTERVAL: Duration = Duration::from_millis(1);

/// Cutoffs of a peer, and when it was last sent ours.
#[derive(Debug)]
pub(crate) struct CutoffExchange {
    of_peer: Cutoffs,
    version: u16,
    /// Whether they are those of a Linux host, for all of its sockets.
    of_host: bool,
    ours_sent: Option<Instant>,
}

impl CutoffExchange {
    pub(super) fn new(config: &Config) -> Self {
        let of_peer = Cutoffs::initial(config.priorities.count);
        Self { of_peer, version: 0, of_host: false, ours_sent: None }
    }

    /// Forgets the cutoffs of the peer, not when it was sent ours.
    pub(super) fn forget_told(&mut self, config: &Config) {
        *self = Self { ours_sent: self.ours_sent, ..Self::new(config) };
    }

    /// The peer's cutoffs, or what is assumed of them.
    #[inline]
    pub(crate) fn of_peer(&self) -> &Cutoffs {
        &self.of_peer
    }

    /// The version of the peer's cutoffs, 0 as long as they are not known.
    pub(super) fn version(&self) -> u16 {
        self.version
    }

    fn hold(&mut self, told: &homa_wire::Cutoffs, of_host: bool) {
        self.of_peer = Cutoffs::new(told.levels);
        self.version = told.version;
        self.of_host = of_host;
    }

    /// Begins with what another socket of the host said, if that holds for the host.
    pub(super) fn inherit(&mut self, other: &Self) {
        if other.of_host {
            (self.of_peer, self.version, self.of_host) = (other.of_peer, other.version, true);
        }
    }
}

impl PeerTable {
    /// A process of this implementation speaks for itself, a Linux host for all of its sockets.
    pub(crate) fn cutoffs_received(
        &mut self,
        peer: Option<PeerIndex>,
        header: &Header,
        told: &homa_wire::Cutoffs,
    ) -> Result<Received, DropReason> {
        let peer = peer.and_then(|peer| self.known_mut(peer)).ok_or(DropReason::UnknownRpc)?;
        let of_host = peer.path.carriage == Carriage::Ip && header.common.version().is_none();
        peer.cutoffs.hold(told, of_host);
        if of_host {
            let host = peer.key.ip;
            self.tell_sockets(host, told);
        }
        Ok(Received::Consumed)
    }

    fn tell_sockets(&mut self, host: IpAddr, told: &homa_wire::Cutoffs) {
        let mut next = self.first_at_host(host);
        for _ in 0..SOCKETS_TOLD_MAX {
            let Some(peer) = next.and_then(|next| self.known_mut(next)) else {
                return;
            };
            next = peer.next_at_host();
            if peer.profile() == Profile::Linux {
                peer.cutoffs.hold(told, true);
            }
        }
    }
}

impl Peer {
    /// Whether it is to be sent our cutoffs now, which is so at most once per ms. An unvalidated
    /// client gets none: what may be sent there is for the probe that lets it prove its address.
    fn begin_cutoffs(&mut self, now: Instant) -> bool {
        let lately = self.cutoffs.ours_sent.is_some_and(|sent| now.since(sent) < OFFER_INTERVAL);
        let begins = !self.is_unvalidated() && !lately;
        if begins {
            self.cutoffs.ours_sent = Some(now);
        }
        begins
    }
}

impl Engine {
    /// The sender of a DATA packet holds cutoffs of this `version`: if they are not ours it is sent
    /// them.
    #[inline]
    pub(crate) fn offer_cutoffs(
        &mut self,
        index: PeerIndex,
        path: &Path,
        header: &Header,
        version: u16,
    ) {
        if version != self.receiver.cutoffs().version() {
            self.send_cutoffs(index, path, header.common.local_id(), Profile::of(header));
        }
    }

    /// Sends a client that has validated its address the cutoffs withheld until then.
    pub(crate) fn offer_cutoffs_after_validation(&mut self, index: PeerIndex, id: u64) {
        let untold =
            |peer: &&Peer| peer.cutoffs.ours_sent.is_none() && peer.newest_request.is_some();
        if let Some(path) = self.peers.known(index).filter(untold).map(|peer| peer.path) {
            self.send_cutoffs(index, &path, id, Profile::Native);
        }
    }

    fn send_cutoffs(&mut self, index: PeerIndex, path: &Path, id: u64, profile: Profile) {
        if self.peers.known_mut(index).is_some_and(|peer| peer.begin_cutoffs(self.ctx.now)) {
            let words = (Body::Cutoffs(self.receiver.cutoffs().body()), Reason::None);
            let tables = (&self.rpcs, &self.peers);
            let header =
                self.ids.header_about((path, id, profile), words, tables, &self.ctx.config);
            self.ctx.push_packet(*path, header, self.ctx.config.top_priority());
        }
    }
}
