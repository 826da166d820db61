//! Control packets about RPCs: how they are built and queued.

use homa_wire::{Ack, AckEntry, Body, Common, Extension, Header, Reason, Resend, RpcId};

use crate::addr::{Carriage, Path};
use crate::config::Config;
use crate::engine::ctx::Ctx;
use crate::engine::peer::{Peer, PeerIndex, PeerTable, PendingAck};
use crate::engine::profile::Profile;
use crate::engine::rpc::failure::refusal;
use crate::engine::rpc::ids::Ids;
use crate::engine::rpc::{Rpc, RpcTable, State};
use crate::engine::sender::control_queue::{Control, ControlBody};
use crate::engine::stats::Count;
use crate::priority::Priority;

impl Rpc {
    /// Builds a control header about it, in pure Linux format, or with a reason and a value in the
    /// native profile.
    pub(crate) fn control_header(
        &self,
        peers: &PeerTable,
        body: Body,
        (reason, value): (Reason, u32),
    ) -> Header {
        let (path, peer) = (&self.path, peers.known(self.peer));
        let mut common = Common::control(path.local_port, path.remote.port(), self.id);
        let native = peer.filter(|_| self.profile_with(peer).is_native());
        let extension = native.map(|peer| {
            common = common.with_native_profile(peer.numbers.ours);
            let echo = if self.is_client() { peer.incarnation() } else { self.peer_incarnation };
            Extension { echo, reason, value }
        });
        Header { common, body, extension }
    }
}

impl Ctx {
    /// Queues a control packet about an RPC.
    pub(crate) fn tell(&mut self, rpc: &Rpc, peers: &PeerTable, body: Body, reason: Reason) {
        self.tell_with((reason, 0), rpc, peers, body);
    }

    /// Tells the server that a call is cancelled, unless it has never been asked or has answered in
    /// full. A Linux server would keep what waits for a grant for ever. It forgets the RPC at once,
    /// so it is told only if no copy of the request can follow.
    pub(crate) fn tell_cancelled(&mut self, rpc: &Rpc, peers: &PeerTable) {
        let no_retransmission =
            rpc.state() == State::Incoming || (rpc.tx.is_idle() && !rpc.tx.was_retransmitted());
        let asked = rpc.state() != State::Delivered && rpc.tx.sent() > 0;
        if asked && (rpc.profile(peers).is_native() || no_retransmission) {
            self.tell(rpc, peers, Body::RpcUnknown, Reason::Cancelled);
        }
    }

    /// Tells the client that its request is over. Linux takes RPC_UNKNOWN for a demand to send the
    /// request again.
    pub(crate) fn tell_finished(&mut self, rpc: &Rpc, peers: &PeerTable) {
        if rpc.profile(peers).is_native() {
            self.tell(rpc, peers, Body::RpcUnknown, Reason::Finished);
        }
    }

    /// The same with a value beside the reason.
    pub(crate) fn tell_with(
        &mut self,
        words: (Reason, u32),
        rpc: &Rpc,
        peers: &PeerTable,
        body: Body,
    ) {
        let header = rpc.control_header(peers, body, words);
        let priority = self.config.top_priority();
        self.push_to(peers.known(rpc.peer), rpc.path, header, priority);
    }

    /// Tells the client that its request is refused, and why, if it is.
    pub(crate) fn tell_refused(&mut self, rpc: &Rpc, peers: &PeerTable) {
        if let State::Refused(why) = rpc.state() {
            self.tell_with(refusal(why), rpc, peers, Body::RpcUnknown);
        }
    }

    /// Queues RESENDs for an incoming message; `may_be_late`: after silence, when data may still be
    /// on its way.
    pub(crate) fn queue_resend(&mut self, rpc: &mut Rpc, may_be_late: bool) {
        self.resend_below(u32::MAX, rpc, may_be_late);
    }

    /// Queues RESENDs for all missing bytes below `sent`, which the sender says it has sent, at
    /// most once per resend interval: a Linux server says so every tick.
    pub(crate) fn resend_at_intervals(&mut self, rpc: &mut Rpc, sent: u32, peers: &PeerTable) {
        let interval_ns = self.next_interval_ns(peers.known(rpc.peer), rpc.profile(peers));
        if rpc.resend.has_sent_resend(self.now, interval_ns) {
            return;
        }
        self.resend_below(sent, rpc, false);
        // The timer sends no RESEND before either.
        rpc.resend.not_before(self.now.plus_ns(interval_ns));
    }

    fn resend_below(&mut self, upto: u32, rpc: &mut Rpc, may_be_late: bool) {
        rpc.resend.note_resend(self.now);
        let body = ControlBody::Missing { rpc: rpc.key(), upto, may_be_late };
        let priority = self.config.top_priority();
        // Decided on when it leaves, by an RPC that holds its peer.
        self.push_control(Control { path: rpc.path, priority, to_unvalidated: false, body });
    }

    /// Queues a RESEND for data that is granted now and came earlier, when there was no memory for
    /// it: at most once per resend interval, since its source address may be forged.
    #[inline]
    pub(crate) fn resend_refused(&mut self, rpc: &mut Rpc, peers: &PeerTable) {
        let interval = self.config.recovery.resend_interval;
        if let Some((offset, length)) = rpc.rx.take_refused(self.now, interval) {
            let priority = self.config.top_priority().level();
            self.stats.resends_tail_sent.inc();
            let body = Body::Resend(Resend { offset, length, priority });
            self.tell(rpc, peers, body, Reason::None);
        }
    }

    /// Queues a control packet at a priority. A probe or RESEND about sent data goes at the data's
    /// own priority; otherwise it overtakes the data and the peer reports it missing.
    pub(crate) fn push_packet(&mut self, path: Path, header: Header, priority: Priority) {
        self.push_to(None, path, header, priority);
    }

    /// As [`Ctx::push_packet`], to a peer that may be unvalidated.
    pub(crate) fn push_to(
        &mut self,
        peer: Option<&Peer>,
        path: Path,
        header: Header,
        priority: Priority,
    ) {
        let to_unvalidated = peer.is_some_and(Peer::is_unvalidated);
        let body = ControlBody::Packet(header);
        self.push_control(Control { path, priority, to_unvalidated, body });
    }

    fn push_control(&mut self, entry: Control) {
        if !self.control.try_push(entry, self.config.fixed.control_queue_max) {
            self.stats.control_dropped.inc();
        }
    }
}

impl PeerTable {
    /// Acknowledges what waited for a request to ride on: `port` sends no more requests, and the
    /// servers' NEED_ACKs would go unanswered.
    pub(crate) fn acknowledge_at_once(&mut self, port: u16, ctx: &mut Ctx) {
        for index in self.indices() {
            let profile = self.profile(ctx.now, index);
            while let Some(peer) = self.get_mut(index) {
                let mut path = peer.path;
                let Some(ack) = peer.acks.pop() else {
                    break;
                };
                path.local_port = port;
                path.remote.set_port(ack.server_port);
                self.acknowledge(path, ack.client_id, profile, ctx);
            }
        }
    }

    /// A control header to the end of `path`, where `peer` is. With an extension it is of the
    /// native profile.
    pub(crate) fn control_header(
        &self,
        peer: Option<PeerIndex>,
        path: &Path,
        id: u64,
        body: Body,
        extension: Option<Extension>,
        config: &Config,
    ) -> Header {
        let mut common = Common::control(path.local_port, path.remote.port(), id);
        let announces = path.carriage == Carriage::Ip
            && config.peers.discover
            && matches!(body, Body::Cutoffs(_));
        if extension.is_some() || announces {
            common = common.with_native_profile(self.incarnation_for(peer, path));
        }
        Header { common, body, extension }
    }
}

impl Ids {
    /// Builds a control header about an RPC with our form `id` that may be over, in the native
    /// profile or in pure Linux format.
    pub(crate) fn header_about(
        &self,
        (path, id, profile): (&Path, u64, Profile),
        (body, reason): (Body, Reason),
        (rpcs, peers): (&RpcTable, &PeerTable),
        config: &Config,
    ) -> Header {
        let peer = peers.find(path);
        let extension = profile.is_native().then(|| {
            let served = match RpcId(id).is_server() {
                true => self.find(rpcs, peer, path, id),
                false => None,
            };
            let incarnation = served.and_then(|index| rpcs.peer_incarnation(index));
            let peer = peer.and_then(|index| peers.known(index));
            let echo = incarnation.unwrap_or_else(|| peer.map_or(0, |peer| peer.incarnation()));
            Extension { echo, reason, value: 0 }
        });
        peers.control_header(peer, path, id, body, extension, config)
    }
}

impl PeerTable {
    /// A call's response is complete: the server may forget it.
    #[inline]
    pub(crate) fn acknowledge_call(&mut self, rpc: &Rpc, ctx: &mut Ctx) {
        self.acknowledge_with_next((rpc.peer, &rpc.path, rpc.id), rpc.profile(self), ctx);
    }

    /// Acknowledges the call with our form `id` to the end of `path`, where `peer` is, with the
    /// next request there if there is room.
    #[inline]
    pub(crate) fn acknowledge_with_next(
        &mut self,
        (peer, path, id): (PeerIndex, &Path, u64),
        profile: Profile,
        ctx: &mut Ctx,
    ) {
        let ack = PendingAck { client_id: id, server_port: path.remote.port() };
        if self.known_mut(peer).and_then(|peer| peer.acks.push(ack)).is_some() {
            self.acknowledge(*path, id, profile, ctx);
        }
    }

    /// Acknowledges the call with our form `id` to the end of `path`, and others that wait.
    pub(crate) fn acknowledge(&mut self, path: Path, id: u64, profile: Profile, ctx: &mut Ctx) {
        let index = self.find(&path);
        let mut ack = Ack { count: 0, entries: [AckEntry::NONE; homa_wire::ACKS_MAX] };
        let mut echo = 0;
        if let Some(peer) = index.and_then(|index| self.known_mut(index)) {
            echo = peer.incarnation();
            for entry in &mut ack.entries {
                let Some(PendingAck { client_id, server_port }) = peer.acks.pop() else { break };
                *entry = AckEntry { client_id, server_port };
                ack.count = ack.count.saturating_add(1);
            }
        }
        let extension =
            profile.is_native().then_some(Extension { echo, reason: Reason::None, value: 0 });
        let header = self.control_header(index, &path, id, Body::Ack(ack), extension, &ctx.config);
        ctx.push_packet(path, header, ctx.config.top_priority());
    }
}
