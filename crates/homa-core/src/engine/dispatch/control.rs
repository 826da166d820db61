//! Processing of control packets (docs/spec/protocol.md §10, §11).

use core::time::Duration;

use homa_wire::{AckEntry, Body, Grant, Header, Reason, Resend, RpcId};

use crate::addr::{Carriage, Path};
use crate::engine::Engine;
use crate::engine::ctx::Ctx;
use crate::engine::peer::{Peer, PeerIndex, PeerTable};
use crate::engine::profile::Profile;
use crate::engine::recovery::unacknowledged::ack_repeat_max;
use crate::engine::rpc::failure::{Refused, failure};
use crate::engine::rpc::index::RpcIndex;
use crate::engine::rpc::{Role, Rpc, State};
use crate::engine::sender::Sender;
use crate::engine::sender::replies::Replies;
use crate::engine::stats::Count;
use crate::event::{DropReason, FailReason, IcmpKind, Received};
use crate::finished::Finished;
use crate::priority::Priority;
use crate::time::{Instant, nanos};

/// "Never seen" answers, one resend interval apart, after which a peer that once had the RPC is
/// believed to have lost it. One may be an old packet that was overtaken.
const DOUBTS_MAX: u8 = 3;

/// The same bytes are retransmitted at most once in this part of a resend interval; RESENDs sent
/// once per interval may come a little early.
const RETRANSMIT_PAUSE: (u32, u32) = (3, 4);

impl Engine {
    pub(crate) fn control(
        &mut self,
        peer: Option<PeerIndex>,
        path: &Path,
        header: &Header,
        id: u64,
    ) -> Result<Received, DropReason> {
        let rpc = self.ids.find(&self.rpcs, peer, path, id);
        if let Some(index) = rpc {
            self.expand(index);
        }
        let foreign = match rpc {
            Some(index) => {
                let rpc = self.rpcs.known(index);
                !rpc.is_some_and(|rpc| rpc.may_be_spoken_of(header, &self.peers))
            }
            // The sender is not the server of the call: a reply could be used against the call.
            None => self.ids.is_call(id),
        };
        if foreign {
            return Err(DropReason::WrongPeer);
        }
        let extension = header.extension;
        let why = header.reason();
        let value = extension.map_or(0, |extension| extension.value);
        match &header.body {
            Body::Grant(grant) => self.grant_received(rpc, grant, extension.map(|_| value)),
            Body::Resend(resend) => self.resend_received(path, rpc, header, resend),
            Body::RpcUnknown => self.unknown_received(path, rpc, header, why, value),
            Body::Busy => self.busy_received(rpc),
            Body::Cutoffs(cutoffs) => {
                self.ctx.stats.cutoffs_received.inc();
                self.peers.cutoffs_received(peer, header, cutoffs)
            }
            Body::NeedAck => self.need_ack_received(path, rpc, header, why, value),
            Body::Ack(ack) => {
                self.ctx.stats.acks_received.inc();
                // In reply to a NEED_ACK Linux acknowledges what it does not know as well.
                let arrived = header.extension.is_some();
                let named =
                    AckEntry { client_id: RpcId(id).of_peer().0, server_port: path.local_port };
                self.acknowledged(
                    self.ids.find_acknowledged(&self.rpcs, peer, path, &named),
                    arrived,
                );
                if let Some(index) = rpc {
                    self.disowned(index);
                }
                for entry in ack.entries() {
                    self.acknowledged(
                        self.ids.find_acknowledged(&self.rpcs, peer, path, entry),
                        true,
                    );
                }
                Ok(Received::Consumed)
            }
            Body::Data(_) | Body::Freeze => Ok(Received::Consumed),
        }
    }

    /// An ACK from a server: a Linux host replies so to a NEED_ACK about an RPC that it does not
    /// know.
    fn disowned(&mut self, index: RpcIndex) {
        let waits = self.rpcs.known(index).is_some_and(|rpc| {
            let linux = rpc.profile(&self.peers) == Profile::Linux;
            rpc.is_client() && rpc.state() == State::Outgoing && linux
        });
        if waits {
            self.never_seen(index, 0);
        }
    }

    fn grant_received(
        &mut self,
        rpc: Option<RpcIndex>,
        grant: &Grant,
        received_upto: Option<u32>,
    ) -> Result<Received, DropReason> {
        self.ctx.stats.grants_received.inc();
        let index = rpc.ok_or(DropReason::UnknownRpc)?;
        let Some(rpc) = self.rpcs.known_mut(index).filter(|rpc| rpc.is_sending()) else {
            return Ok(Received::Consumed);
        };
        rpc.last_heard = self.ctx.now;
        if rpc.tx.grant(grant.offset) {
            rpc.progress_at = self.ctx.now;
        }
        let priority = Priority::new(grant.priority).min(self.ctx.config.top_priority());
        rpc.tx.set_scheduled_priority(priority);
        if rpc.tx.blocked {
            self.sender.queue_blocked(rpc, &mut self.peers);
        }
        // A Linux peer does not say what it has; it grants because something arrived.
        let upto = received_upto.unwrap_or(u32::MAX);
        rpc.note_full_size(upto, &mut self.peers, &self.ctx.config);
        rpc.note_server_incarnation(&self.peers);
        rpc.set_confirmed(false, &mut self.peers, &mut self.ctx);
        if !rpc.tx.credit.is_none() {
            self.sender.reacted(index, &mut self.rpcs, &mut self.peers, &self.ctx);
        }
        self.ctx.arm(index, nanos(self.ctx.config.recovery.resend_interval));
        if let Some(upto) = received_upto {
            self.shares.release(index, upto, &mut self.rpcs, &self.peers, &mut self.ctx);
        }
        if let Some(rpc) = self.rpcs.known(index) {
            self.sender.schedule(rpc, &self.ctx.config);
        }
        Ok(Received::Consumed)
    }

    fn resend_received(
        &mut self,
        path: &Path,
        rpc: Option<RpcIndex>,
        header: &Header,
        resend: &Resend,
    ) -> Result<Received, DropReason> {
        self.ctx.stats.resends_received.inc();
        let Some(index) = rpc else {
            let (peers, ctx) = (&self.peers, &mut self.ctx);
            self.replies.answer_unknown((path, header), &mut self.finished, peers, ctx);
            return Err(DropReason::UnknownRpc);
        };
        let is_client = self.rpcs.known(index).is_some_and(Rpc::is_client);
        if is_client && self.ctx.pauses.may_be_stale() {
            // A server that has forgotten the request would execute it again; one that has it asks
            // again.
            return Ok(Received::Consumed);
        }
        self.sender.reacted(index, &mut self.rpcs, &mut self.peers, &self.ctx);
        let retransmit_max = self.receiver.incoming_cap(&self.ctx);
        let Some(rpc) = self.rpcs.known_mut(index) else {
            return Err(DropReason::UnknownRpc);
        };
        if rpc.role == Role::Server && rpc.state() != State::Outgoing {
            if let State::Refused(_) = rpc.state() {
                self.ctx.tell_refused(rpc, &self.peers);
            } else {
                self.shares.tell_busy(rpc, &self.peers, &mut self.ctx);
            }
            return Ok(Received::Consumed);
        }
        if rpc.tx.length() == 0 || rpc.state() == State::Delivered {
            return Ok(Received::Consumed);
        }
        let (peers, ctx) = (&mut self.peers, &mut self.ctx);
        if self.sender.send_again(rpc, resend, retransmit_max, peers, ctx) {
            self.shares.tell_busy(rpc, peers, ctx);
        }
        Ok(Received::Consumed)
    }

    fn busy_received(&mut self, rpc: Option<RpcIndex>) -> Result<Received, DropReason> {
        self.ctx.stats.busy_received.inc();
        let index = rpc.ok_or(DropReason::UnknownRpc)?;
        self.sender.reacted(index, &mut self.rpcs, &mut self.peers, &self.ctx);
        self.receiver.look_for_proof(index, &mut self.rpcs, &self.peers);
        let Some(rpc) = self.rpcs.known_mut(index) else {
            return Err(DropReason::UnknownRpc);
        };
        let most = match (rpc.role, rpc.state()) {
            (Role::Server, State::Outgoing | State::Refused(_)) => ack_repeat_max(&self.ctx.config),
            _ => self.ctx.busy_interval_max(self.peers.known(rpc.peer)),
        };
        let max_ns = nanos(most.max(self.ctx.config.recovery.resend_interval));
        rpc.last_heard = self.ctx.now;
        if rpc.state() == State::Incoming {
            // Its sender has nothing else to send yet.
            rpc.progress_at = self.ctx.now;
        }
        rpc.doubts = 0;
        rpc.resend.back_off(max_ns);
        let asked = rpc.is_client() && rpc.state() == State::Outgoing;
        let waits = asked && rpc.tx.is_idle();
        if waits && rpc.restarts.is_any() && !rpc.confirmed {
            rpc.note_retransmission(&mut self.peers, self.ctx.now);
        }
        if asked {
            rpc.note_server_incarnation(&self.peers);
        }
        if waits && rpc.profile(&self.peers).is_native() {
            rpc.set_confirmed(true, &mut self.peers, &mut self.ctx);
        }
        Ok(Received::Consumed)
    }

    fn unknown_received(
        &mut self,
        path: &Path,
        rpc: Option<RpcIndex>,
        header: &Header,
        why: Reason,
        value: u32,
    ) -> Result<Received, DropReason> {
        self.ctx.stats.unknown_received.inc();
        let Some((index, rpc)) = rpc.and_then(|index| Some((index, self.rpcs.known(index)?)))
        else {
            // The server repeats its refusal: our ACK was lost.
            if why.is_repeated(value) && RpcId(header.common.local_id()).is_client() {
                self.replies.acknowledge_again((path, header), &mut self.peers, &mut self.ctx);
            }
            return Err(DropReason::UnknownRpc);
        };
        let (state, id, path, profile) = (rpc.state(), rpc.id, rpc.path, rpc.profile(&self.peers));
        let (peer, confirmed) = (rpc.peer, rpc.confirmed);
        let is_elsewhere = rpc.restarts.went_to_another(header.common.incarnation);
        let request_bytes = rpc.tx.length();
        if rpc.role == Role::Server {
            self.fail_rpc(index, FailReason::Cancelled);
            return Ok(Received::Consumed);
        }
        if state == State::Delivered {
            return Ok(Received::Consumed);
        }
        if why == Reason::NotExecuted {
            let when = (self.ctx.now, self.ctx.config.recovery.resend_interval);
            if self.peers.note_drained(peer, header.common.incarnation, when) {
                self.ask_about_calls(peer);
            }
        }
        match why {
            Reason::Restarted => self.server_reincarnated(index, value),
            _ => match failure(why, value, request_bytes) {
                Some(failure) => {
                    if why.is_repeated(value) {
                        self.peers.acknowledge(path, id, profile, &mut self.ctx);
                    }
                    let failure = match failure {
                        _ if is_elsewhere && failure.is_not_executed() => FailReason::ServiceGone,
                        FailReason::NoService => self.unserved(index, Refused::First),
                        other => other,
                    };
                    self.fail_rpc(index, failure);
                }
                None if state == State::Outgoing => self.never_seen(index, value),
                None => self.response_forgotten(index),
            },
        }
        if confirmed && matches!(why, Reason::NeverSeen | Reason::Finished | Reason::Restarted) {
            // The server had confirmed this request, so it may have lost others as well.
            self.peers.recheck_waiting(peer, &mut self.ctx);
        }
        Ok(Received::Consumed)
    }

    /// The server's present incarnation began `age_us` ago. Unless the request was sent only after
    /// that, or after the former incarnation had said that it executes no more, that one may have
    /// executed it.
    fn server_reincarnated(&mut self, index: RpcIndex, age_us: u32) {
        let born = self.ctx.now - Duration::from_micros(u64::from(age_us));
        let Some(rpc) = self.rpcs.known(index) else {
            return;
        };
        let sent_after = rpc.tx.first_sent().is_some_and(|sent| sent > born);
        let not_executed = sent_after || rpc.is_sent_to_drained(self.peers.known(rpc.peer));
        if not_executed && rpc.tx.released() == 0 {
            self.restart(index);
            if let Some(rpc) = self.rpcs.known_mut(index) {
                rpc.note_server_incarnation(&self.peers);
            }
        } else {
            self.fail_rpc(index, FailReason::Restarted);
        }
    }

    /// The server, which lives for `age_us`, has not seen the request: from the start again, while
    /// it can still recognise a duplicate.
    fn never_seen(&mut self, index: RpcIndex, age_us: u32) {
        let now = self.ctx.now;
        let Some(rpc) = self.rpcs.known_mut(index) else {
            return;
        };
        if rpc.server_restarted(&self.peers) || rpc.precedes_incarnation(now, age_us) {
            self.server_reincarnated(index, age_us);
            return;
        }
        // The other half of its memory leaves time for the retransmission to arrive.
        let memory = self.ctx.config.recovery.finished_memory / 2;
        let too_old = rpc.tx.first_sent().is_some_and(|sent| now.since(sent) >= memory);
        // RPC_UNKNOWN from a Linux host may be a late duplicate, which does not end a call.
        let may_be_late = too_old && rpc.profile(&self.peers) == Profile::Linux;
        if rpc.confirmed || rpc.doubts > 0 || rpc.tx.released() > 0 || may_be_late {
            let interval = self.ctx.config.recovery.resend_interval;
            // Replies to several RESENDs that come at once count as one.
            if rpc.doubts > 0 && now.since(rpc.last_heard) < interval {
                return;
            }
            let doubts = rpc.doubts.saturating_add(1);
            if doubts >= DOUBTS_MAX {
                self.fail_rpc(index, FailReason::Forgotten);
                return;
            }
            rpc.set_confirmed(false, &mut self.peers, &mut self.ctx);
            rpc.doubts = doubts;
            // The timeout begins now: while the call was confirmed it did not run.
            rpc.last_heard = now;
            rpc.resend.set_interval(nanos(interval));
            self.ctx.arm(index, nanos(interval));
            return;
        }
        if too_old {
            self.fail_rpc(index, FailReason::Forgotten);
        } else {
            self.restart(index);
        }
    }

    /// The server does not know an RPC of whose response a part is here. In the Linux profile that
    /// may be a late duplicate: the rest is given up when it is repeated several times and nothing
    /// else comes.
    fn response_forgotten(&mut self, index: RpcIndex) {
        let (interval, now) = (self.ctx.config.recovery.resend_interval, self.ctx.now);
        let Some(rpc) = self.rpcs.known_mut(index) else {
            return;
        };
        let still = now.since(rpc.progress_at) >= interval * u32::from(rpc.doubts);
        rpc.doubts = if still { rpc.doubts.saturating_add(1) } else { 1 };
        if rpc.doubts > DOUBTS_MAX {
            self.fail_rpc(index, FailReason::Forgotten);
            return;
        }
        // The server answers, so it is alive; others may wait for the memory of this response.
        rpc.resend.set_interval(nanos(interval));
        rpc.resend.end_wait(now);
        self.ctx.arm(index, nanos(interval));
    }

    /// Sends all of a request again that was sent before.
    fn restart(&mut self, index: RpcIndex) {
        let Some(rpc) = self.rpcs.known(index) else {
            return;
        };
        if rpc.tx.released() > 0 {
            self.fail_rpc(index, FailReason::Forgotten);
            return;
        }
        // Each packet of the request may have been answered: they ask for one repetition.
        let pause = self.ctx.config.recovery.resend_interval / 2;
        if rpc.restarts.is_too_soon(self.ctx.now, pause) {
            return;
        }
        let (peer, asked) = (rpc.peer, rpc.resend.has_sent_since(rpc.last_heard));
        self.sender.reacted(index, &mut self.rpcs, &mut self.peers, &self.ctx);
        self.ctx.stats.restarts.inc();
        let Some(rpc) = self.rpcs.known_mut(index) else {
            return;
        };
        rpc.set_confirmed(false, &mut self.peers, &mut self.ctx);
        let Some(peer) = self.peers.known(peer) else {
            return;
        };
        let config = &self.ctx.config;
        rpc.restarts.note(self.ctx.now, peer.incarnation());
        // Our RESEND may have overtaken it; if it did not, the server asks for the rest.
        let busy = !peer.in_flight.is_empty();
        let sent = if asked { rpc.tx.retransmit_all(busy) } else { rpc.tx.sent() };
        rpc.tx.forget_resent(self.ctx.now, pause);
        let priority = rpc.unscheduled_priority(peer, config);
        rpc.tx.request_retransmit(0, sent, peer.payload_max(config), u32::MAX, priority);
        let lost_bytes = sent.min(rpc.tx.segment_bytes());
        self.sender.schedule(rpc, config);
        self.ctx.arm(index, nanos(self.ctx.config.recovery.resend_interval));
        rpc.packets_lost(0, lost_bytes, false, &mut self.peers, &mut self.ctx);
    }

    fn need_ack_received(
        &mut self,
        path: &Path,
        rpc: Option<RpcIndex>,
        header: &Header,
        why: Reason,
        sent: u32,
    ) -> Result<Received, DropReason> {
        let (id, profile) = (header.common.local_id(), Profile::of(header));
        self.ctx.stats.need_acks_received.inc();
        let Some(index) = rpc else {
            if RpcId(id).is_client() {
                self.replies.acknowledge_again((path, header), &mut self.peers, &mut self.ctx);
            } else {
                let (peers, ctx) = (&self.peers, &mut self.ctx);
                self.replies.answer_unknown((path, header), &mut self.finished, peers, ctx);
            }
            return Ok(Received::Consumed);
        };
        self.sender.reacted(index, &mut self.rpcs, &mut self.peers, &self.ctx);
        let Some(rpc) = self.rpcs.known_mut(index) else {
            return Ok(Received::Consumed);
        };
        let complete = rpc.is_client() && rpc.state() == State::Delivered;
        // A Linux host asks when it has sent everything, and does not say how much that is.
        let sent = if sent > 0 { sent } else { u32::MAX };
        let nothing_missing = rpc.state() == State::Incoming
            && (rpc.rx.is_unallocated() || !rpc.rx.awaits_data_below(sent));
        let refused = matches!(rpc.state(), State::Refused(_));
        if rpc.rx.is_unallocated() {
            // Its server keeps the response.
            rpc.last_heard = self.ctx.now;
            rpc.doubts = 0;
        }
        if complete {
            self.peers.acknowledge(*path, id, profile, &mut self.ctx);
        } else if refused {
            self.ctx.tell_refused(rpc, &self.peers);
        } else if why == Reason::Probe || nothing_missing {
            self.shares.tell_busy(rpc, &self.peers, &mut self.ctx);
        } else {
            self.ctx.resend_at_intervals(rpc, sent, &self.peers);
        }
        Ok(Received::Consumed)
    }

    /// The network reports an error about a packet of ours to `path.remote`, of which it quotes the
    /// bytes `quoted` from the Homa header on. It counts only if it quotes a live RPC of ours.
    pub fn icmp_error(&mut self, now: Instant, kind: IcmpKind, path: Path, quoted: &[u8]) {
        self.ctx.tick(now, &mut self.peers);
        let Some(id) = homa_wire::quoted_sender_id(quoted) else {
            return;
        };
        let Some(index) = self.ids.find(&self.rpcs, self.peers.find(&path), &path, id) else {
            return;
        };
        self.expand(index);
        let Some(rpc) = self.rpcs.known(index) else {
            return;
        };
        self.ctx.stats.icmp_errors.inc();
        let reason = match kind {
            IcmpKind::PortUnreachable => FailReason::NoService,
            IcmpKind::ProtocolUnreachable => FailReason::ProtocolUnreachable,
            IcmpKind::HostUnreachable => FailReason::HostUnreachable,
        };
        let (is_client, peer) = (rpc.is_client(), rpc.peer);
        let whole_host = path.carriage == Carriage::Ip && kind != IcmpKind::PortUnreachable;
        if !is_client {
            self.fail_rpc(index, reason);
        } else if whole_host {
            self.fail_clients_of_host(&path, reason);
        } else {
            // The peer is one socket: if its port is closed no RPC to it can be answered.
            let (of_it, of_others) = match reason {
                FailReason::NoService => {
                    let only_packet = rpc.tx.sent() <= rpc.tx.segment_bytes();
                    let guess = if only_packet { Refused::First } else { Refused::Later };
                    let refused = Refused::quoted(quoted).unwrap_or(guess);
                    (self.unserved(index, refused), FailReason::ServiceGone)
                }
                other => (other, other),
            };
            self.fail_rpc(index, of_it);
            self.fail_calls_to(peer, of_others);
        }
    }
}

impl Sender {
    /// RESEND: the receiver of a message misses a range. Sends it again, of all to that peer at
    /// most `retransmit_max` bytes per resend interval. Returns whether nothing of it was sent yet.
    fn send_again(
        &mut self,
        rpc: &mut Rpc,
        resend: &Resend,
        retransmit_max: u64,
        peers: &mut PeerTable,
        ctx: &mut Ctx,
    ) -> bool {
        if rpc.profile(peers).is_native() && resend.offset >= rpc.tx.length() {
            // The receiver takes it for another message, which nobody can complete.
            ctx.tell(rpc, peers, Body::RpcUnknown, Reason::Finished);
            return false;
        }
        let Some(peer) = peers.known_mut(rpc.peer) else {
            return false;
        };
        let (config, now) = (&ctx.config, ctx.now);
        let payload_max = peer.payload_max(config);
        let is_server = rpc.role == Role::Server;
        if is_server && !peer.may_be_sent(payload_max) {
            ctx.tell(rpc, peers, Body::NeedAck, Reason::Probe);
            return false;
        }
        let interval = config.recovery.resend_interval;
        let tx = &mut rpc.tx;
        let end = if resend.is_all() {
            tx.retransmit_all(!peer.in_flight.is_empty())
        } else {
            resend.offset.saturating_add(resend.length)
        };
        let grants = end > tx.granted() && end > resend.offset;
        if grants {
            tx.grant(end);
            ctx.stats.grants_recovered.inc();
        }
        let nothing_sent = resend.offset >= tx.sent();
        let priority = Priority::new(resend.priority).min(config.top_priority());
        let lost_bytes = tx.lost_payload(resend.offset, end, payload_max);
        // A gap ends where something arrived.
        let in_front_of_full = !resend.is_all() && tx.is_full_segment(end);
        tx.forget_resent(now, interval * RETRANSMIT_PAUSE.0 / RETRANSMIT_PAUSE.1);
        let segment_bytes = tx.segment_bytes();
        let room_bytes = peer.retransmissions.left(now, interval, retransmit_max, segment_bytes);
        let again = tx.request_retransmit(resend.offset, end, payload_max, room_bytes, priority);
        if again > 0 {
            peer.retransmissions.spend(again);
        }
        if is_server && (again > 0 || grants) {
            // Only a RESEND for existing bytes shows that the client wants the response.
            rpc.last_heard = now;
        }
        if again > 0 {
            rpc.packets_lost(resend.offset, lost_bytes, in_front_of_full, peers, ctx);
        }
        self.schedule(rpc, &ctx.config);
        ctx.arm(rpc.index(), nanos(interval));
        nothing_sent
    }
}

impl Replies {
    /// Replies to a packet about an RPC that is not known here: it is over, or never was in this
    /// incarnation.
    fn answer_unknown(
        &mut self,
        packet: (&Path, &Header),
        finished: &mut Finished,
        peers: &PeerTable,
        ctx: &mut Ctx,
    ) {
        let (path, header) = packet;
        let id = header.common.local_id();
        let hash = peers.hash_of(path);
        let finished = RpcId(id).is_client() || finished.contains(ctx.read_clock.now(), hash, id);
        let why = if finished { (Reason::Finished, 0) } else { (Reason::NeverSeen, ctx.age_us()) };
        self.send(packet, Body::RpcUnknown, why, peers, ctx);
    }
}

impl Rpc {
    /// Notes that the present incarnation of the server may have the request.
    fn note_server_incarnation(&mut self, peers: &PeerTable) {
        if self.is_client() && self.begun_in.is_native() {
            self.peer_incarnation = peers.known(self.peer).map_or(0, |peer| peer.incarnation());
        }
    }

    /// Whether the server, as far as is known, has started anew since the request was sent.
    fn server_restarted(&self, peers: &PeerTable) -> bool {
        let incarnation = peers.known(self.peer).map_or(0, |peer| peer.incarnation());
        self.peer_incarnation != 0 && self.peer_incarnation != incarnation
    }

    /// Whether a request that names no incarnation of its server, since none was known, was sent
    /// before the present one began, as far as the server says (0: it was not).
    fn precedes_incarnation(&self, now: Instant, age_us: u32) -> bool {
        let born = now - Duration::from_micros(u64::from(age_us));
        let named_none = self.begun_in.is_native() && self.peer_incarnation == 0;
        named_none && age_us > 0 && self.tx.first_sent().is_some_and(|sent| sent <= born)
    }
}

impl Peer {
    /// Whether the anti-amplification limit admits a packet with so much payload.
    fn may_be_sent(&self, payload: u32) -> bool {
        let over_ip = self.path.carriage == Carriage::Ip;
        over_ip || self.validation.is_done() || self.validation.room() >= u64::from(payload)
    }
}
