//! Identity of the sender of a packet.
//!
//! Every incarnation of an engine is known to each IP address by a number of its own, its
//! *incarnation* there: 24 bits, made by a one-way function from the engine's secret and the
//! address, so that only a host that receives what is sent to that address learns it. It does two
//! things. A packet that carries the incarnation by which a peer is known comes from that peer, in
//! the same incarnation. A packet that echoes *ours* comes from a sender that has received
//! something from us at the address it names, and that is the only proof of an address there is:
//! what others say of a peer is not believed.
//!
//! The address is that of the host: an engine that sends from several ports has one incarnation,
//! and a process that has received ours at one port can echo it for all ports of its host.

use core::time::Duration;

use core::net::IpAddr;

use homa_wire::{Body, Header, RpcId};

use crate::addr::{Carriage, Path};
use crate::engine::Engine;
use crate::engine::peer::{Peer, PeerIndex, PeerTable};
use crate::engine::profile::Profile;
use crate::engine::rpc::Rpc;
use crate::engine::stats::Count;
use crate::time::Instant;

impl Engine {
    /// The incarnation by which the engine is known at an IP address.
    pub fn incarnation(&self, ip: IpAddr) -> u32 {
        self.peers.incarnation(ip)
    }

    /// Registers a packet from the address of a peer. `None`: its incarnation or echo does not
    /// match, so it is forged or of a new incarnation that is not validated yet, and must not
    /// affect the peer's state.
    #[inline(always)]
    pub(crate) fn recognise(
        &mut self,
        index: PeerIndex,
        header: &Header,
        transport_len: u32,
        id: u64,
    ) -> Option<PeerIndex> {
        let alive =
            self.peers.known(index)?.is_sender_of(header) || self.judge(index, header, id)?;
        let peer = self.peers.known_mut(index)?;
        peer.validation.received(transport_len);
        if !alive {
            return Some(index);
        }
        peer.last_heard = self.ctx.now;
        if Profile::of(header).is_native() && header.common.incarnation != 0 {
            peer.incarnation.heard_at = self.ctx.now;
        }
        if peer.liveness.probe().is_some_and(|probe| probe.id == id)
            && !matches!(header.body, Body::NeedAck)
        {
            self.sender.probe_answered(index, &mut self.rpcs, &mut self.peers, &mut self.ctx);
        }
        Some(index)
    }

    /// Whether a packet from the address of a peer shows that the peer is alive. `None`: its
    /// sender is another one.
    #[inline(never)]
    fn judge(&mut self, index: PeerIndex, header: &Header, id: u64) -> Option<bool> {
        let peer = self.peers.known(index)?;
        let over_udp = peer.path.carriage == Carriage::Udp;
        // Linux hosts have no incarnation.
        if !(Profile::of(header).is_native() && (over_udp || self.ctx.config.peers.discover)) {
            return Some(true);
        }
        let incarnation = header.common.incarnation;
        if echo(header) == peer.numbers.ours {
            // The responder for unserved ports has no incarnation.
            if incarnation != 0 {
                let was_validated = peer.validation.is_done();
                self.validated(index, incarnation);
                if !was_validated {
                    self.offer_cutoffs_after_validation(index, id);
                }
            }
            return Some(true);
        }
        let is_itself = incarnation == peer.incarnation.number && incarnation != 0;
        let announces = !over_udp && is_cutoffs(header);
        // Packets about our calls must echo our incarnation.
        let about_call = RpcId(id).is_client() && !announces;
        if about_call || (peer.validation.is_done() && !is_itself) {
            self.ctx.stats.impostors.inc();
            return None;
        }
        if !over_udp && !is_itself && incarnation != 0 {
            self.peers.learn_incarnation(index, incarnation, &mut self.ctx);
        }
        // Over UDP the sender of an unvalidated packet may be anyone.
        Some(is_itself || !over_udp)
    }

    /// The peer has received something from us in its present incarnation, so its address is its
    /// own.
    fn validated(&mut self, index: PeerIndex, incarnation: u32) {
        if self.peers.known(index).is_some_and(|peer| peer.incarnation.number != incarnation) {
            self.peers.learn_incarnation(index, incarnation, &mut self.ctx);
        }
        if let Some(peer) = self.peers.known_mut(index) {
            peer.validation.succeed();
            self.shares.note_validated(&mut peer.served);
            self.sender.serve_blocked(index, &mut self.rpcs, &mut self.peers, &self.ctx);
        }
    }
}

impl PeerTable {
    /// This incarnation of a peer says that it executes nothing that it has not begun. Whether that
    /// was not known, nor anything of this kind `just` now: what was sent after the first time is
    /// known of.
    pub(crate) fn note_drained(
        &mut self,
        index: PeerIndex,
        incarnation: u32,
        (now, just): (Instant, Duration),
    ) -> bool {
        let Some(peer) = self.known_mut(index).filter(|peer| !peer.has_drained(incarnation)) else {
            return false;
        };
        let before = peer.drained.replace((incarnation, now));
        before.is_none_or(|(_, since)| now.since(since) >= just)
    }
}

impl Peer {
    /// Whether the server of this call said that it is closing.
    pub(crate) fn is_closing(&self, call: &Rpc) -> bool {
        self.has_drained(call.peer_incarnation)
    }

    /// Whether this incarnation has said that it executes nothing that it has not begun.
    fn has_drained(&self, incarnation: u32) -> bool {
        self.drained.is_some_and(|(drained, _)| drained == incarnation)
    }
}

impl PeerTable {
    /// The incarnation by which this engine is known at the end of `path`, where `peer` is.
    #[inline]
    pub(crate) fn incarnation_for(&self, peer: Option<PeerIndex>, path: &Path) -> u32 {
        match peer.and_then(|index| self.known(index)) {
            Some(peer) => peer.numbers.ours,
            None => self.incarnation(path.remote.ip()),
        }
    }

    /// Whether a packet shows that its sender has received something from us at its address.
    pub(crate) fn is_named_by(&self, path: &Path, header: &Header) -> bool {
        Profile::of(header).is_native()
            && echo(header) == self.incarnation_for(self.find(path), path)
    }
}

impl Rpc {
    /// Whether the sender of a packet may speak about it: it is the other end, or the
    /// present incarnation of the peer, which does not know the RPC.
    #[inline]
    pub(crate) fn may_be_spoken_of(&self, header: &Header, peers: &PeerTable) -> bool {
        let incarnation = header.common.incarnation;
        // The server of a call has named us.
        let free =
            self.is_client() || !(self.begun_in.is_native() && Profile::of(header).is_native());
        free || incarnation == self.peer_incarnation
            || peers
                .known(self.peer)
                .is_some_and(|peer| peer.incarnation.number == incarnation && incarnation != 0)
    }
}

impl Peer {
    /// A packet of `bytes` has come of which the peer is certainly the sender.
    #[inline]
    pub(crate) fn hear(&mut self, now: Instant, bytes: u32) {
        self.validation.received(bytes);
        (self.last_heard, self.incarnation.heard_at) = (now, now);
    }

    /// Whether a packet is of the peer in the incarnation by which it is known, and the peer has
    /// proved its address.
    #[inline]
    fn is_sender_of(&self, header: &Header) -> bool {
        Profile::of(header).is_native()
            && self.is_certainly(header.common.incarnation, echo(header))
    }

    /// The same of a packet of the native profile that names its sender's incarnation and echoes
    /// ours.
    #[inline]
    pub(crate) fn is_certainly(&self, incarnation: u32, echo: u32) -> bool {
        self.validation.is_done()
            && incarnation == self.incarnation.number
            && incarnation != 0
            && echo == self.numbers.ours
    }
}

/// Our incarnation as the sender of a packet knows it, 0 if it does not.
pub(crate) fn echo(header: &Header) -> u32 {
    match &header.body {
        Body::Data(data) => data.echo,
        _ => header.extension.map_or(0, |extension| extension.echo),
    }
}

pub(crate) fn is_cutoffs(header: &Header) -> bool {
    matches!(header.body, Body::Cutoffs(_))
}
