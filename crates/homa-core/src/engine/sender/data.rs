//! Data in SRPT order, new or sent again.

use homa_wire::{AckEntry, Body, Common, Data, Header};

use crate::addr::Path;
use crate::config::Config;
use crate::engine::ctx::Ctx;
use crate::engine::peer::{CREDIT_PER_PACKET, Peer, PeerIndex, PeerTable, PendingAck};
use crate::engine::profile::Profile;
use crate::engine::rpc::index::RpcIndex;
use crate::engine::rpc::{Rpc, RpcTable, State};
use crate::engine::sender::Sender;
use crate::engine::sender::admission::{Admission, admission, needs_validation};
use crate::engine::sender::train::{TRAIN_BYTES_MAX, Train, wire_bytes};
use crate::engine::stats::Count;
use crate::event::{Segment, SegmentKind, Transmit};
use crate::priority::Priority;
use crate::time::{Instant, nanos};

impl Sender {
    /// Data: the best-ranked message first (or the oldest, in its share), then others to the same
    /// destination, in order of rank, as long as their segments fit.
    #[inline]
    pub(crate) fn data_train(
        &mut self,
        segments: &mut [Segment],
        rpcs: &mut RpcTable,
        peers: &mut PeerTable,
        ctx: &mut Ctx,
    ) -> Option<Transmit> {
        let (only_short, limit) =
            if self.is_limited() { self.may_send(ctx)? } else { (false, u32::MAX) };
        loop {
            let index = self.pacer.choose(only_short, &ctx.config)?;
            let Some((path, peer)) = destination(index, rpcs, peers) else {
                self.pacer.remove(index);
                continue;
            };
            // Its first segment decides on the priority.
            let mut train = Train::to(
                &mut *segments,
                path,
                Some(peer),
                (Priority::LOWEST, limit),
                peers,
                &ctx.config,
            );
            let mut last = self.append_any(&mut train, index, only_short, rpcs, peers, ctx);
            if train.count == 0 {
                // Nothing of the chosen message could go (it is blocked at its peer now): the next
                // one.
                self.pacer.remove(index);
                continue;
            }
            while let Some(next) = self.pacer.best(only_short).filter(|best| *best != last) {
                if destination(next, rpcs, peers).is_none_or(|(path, _)| *path != train.path) {
                    break;
                }
                last = self.append_any(&mut train, next, only_short, rpcs, peers, ctx);
            }
            if only_short {
                let link_bytes = u64::from(train.total_bytes);
                self.pacer.charge_passed(ctx.now, link_bytes, &ctx.config);
            }
            return self.finish(&train, peers, ctx);
        }
    }

    /// Whether only short messages may leave, and how many bytes together; `None`: nothing may.
    #[inline(never)]
    fn may_send(&mut self, ctx: &Ctx) -> Option<(bool, u32)> {
        let only_short = !self.may_leave(false, ctx.now, &ctx.config);
        if only_short {
            let short_pass = self.may_leave(true, ctx.now, &ctx.config);
            self.pacer.hold(ctx.now, short_pass, &ctx.config);
            if !short_pass {
                return None;
            }
        } else {
            self.pacer.release(ctx.now);
        }
        let train_bytes = self.pacer.train_bytes(ctx.now, &ctx.config);
        Some((only_short, train_bytes.min(self.backlog.room(only_short))))
    }

    /// Adds as much of one message, whose path is that of the train, as fits, and perhaps others
    /// that follow. Returns the last that was tried.
    #[inline]
    fn append_any(
        &mut self,
        train: &mut Train<'_>,
        index: RpcIndex,
        only_short: bool,
        rpcs: &mut RpcTable,
        peers: &mut PeerTable,
        ctx: &mut Ctx,
    ) -> RpcIndex {
        if rpcs.short(index).is_some() {
            return self.append_short(train, index, only_short, rpcs, peers, ctx);
        }
        self.append(train, index, rpcs, peers, ctx);
        index
    }

    /// Adds as many segments of one message, whose path is that of the train, as fit.
    #[inline(never)]
    pub(crate) fn append(
        &mut self,
        train: &mut Train<'_>,
        index: RpcIndex,
        rpcs: &mut RpcTable,
        peers: &mut PeerTable,
        ctx: &mut Ctx,
    ) {
        while let Some(rpc) = rpcs.known_mut(index).filter(|rpc| rpc.tx.has_retransmissions()) {
            if !self.append_retransmission(train, rpc, peers, ctx) {
                break;
            }
        }
        while self.append_segment(train, index, rpcs, peers, ctx) {}
    }

    /// Adds the next segment that a message has to send again. `false`: it does not fit, or may not
    /// leave.
    #[inline(never)]
    fn append_retransmission(
        &mut self,
        train: &mut Train<'_>,
        rpc: &mut Rpc,
        peers: &mut PeerTable,
        ctx: &mut Ctx,
    ) -> bool {
        let Some(peer) = peers.known_mut(rpc.peer).filter(|_| rpc.is_sending()) else {
            return false;
        };
        let Some((start, end)) = rpc.tx.next_retransmit(peer.payload_max(&ctx.config)) else {
            return false;
        };
        let (payload, priority) = (end.saturating_sub(start), rpc.tx.retransmit_priority());
        let bytes = wire_bytes(payload);
        let after = u64::from(train.total_bytes).saturating_add(u64::from(bytes));
        let exhausted = needs_validation(rpc, peer) && peer.validation.room() < after;
        // A server that has forgotten the request meanwhile would execute it again.
        let forgotten = rpc.is_client() && ctx.pauses.may_be_forgotten(rpc.tx.resent_since());
        if exhausted || forgotten {
            // It gets no more: it will ask again.
            rpc.tx.drop_retransmissions();
            self.retransmissions_sent(rpc, ctx);
            return false;
        }
        if train.count == 0 {
            train.priority = priority;
        }
        if train.fits(bytes, false).is_none() || !train.takes(priority, bytes) {
            return false;
        }
        let header = data_header(rpc, peer, (start, end), true, ctx.now);
        train.push(&header, Some(rpc.key()), (start, end), 0, SegmentKind::Retransmission);
        train.note_priority(priority);
        let more = rpc.tx.retransmitted(payload);
        ctx.stats.bytes_retransmitted.inc_by(u64::from(payload));
        self.pacer.account(rpc.index(), payload, &ctx.config);
        if more {
            self.pacer.follow(rpc, &ctx.config);
        } else {
            self.retransmissions_sent(rpc, ctx);
        }
        true
    }

    /// Nothing is left to be sent again of a message: its peer has time to react from now on.
    fn retransmissions_sent(&mut self, rpc: &mut Rpc, ctx: &mut Ctx) {
        rpc.last_heard = ctx.now;
        self.pacer.follow(rpc, &ctx.config);
        ctx.arm(rpc.index(), nanos(ctx.config.recovery.resend_interval));
    }

    /// Adds the next new segment of a message. `false`: no other can follow now, or it does not fit
    /// or has to wait.
    #[inline]
    fn append_segment(
        &mut self,
        train: &mut Train<'_>,
        index: RpcIndex,
        rpcs: &mut RpcTable,
        peers: &mut PeerTable,
        ctx: &mut Ctx,
    ) -> bool {
        let may_go = |rpc: &&mut Rpc| {
            rpc.tx.has_unsent() && !rpc.tx.blocked && !rpc.tx.has_retransmissions()
        };
        let Some(rpc) = rpcs.known_mut(index).filter(may_go) else {
            return false;
        };
        let Some(peer) = peers.known_mut(rpc.peer) else {
            return false;
        };
        let profile = rpc.profile_with(Some(peer));
        let begins = rpc.tx.sent() == 0;
        if begins {
            peer.path_mtu.retry(ctx.now);
        }
        let payload_max = peer.payload_max(&ctx.config);
        let priority = rpc.new_data_priority(peer, &ctx.config);
        if begins {
            rpc.tx.begin_segments(payload_max, priority);
        }
        rpc.tx.keep_segments_whole(profile == Profile::Linux);
        let Some((start, end)) = rpc.tx.next_new(payload_max) else {
            return false;
        };
        let bytes = wire_bytes(end.saturating_sub(start));
        let paddable = profile.is_native() && end == rpc.tx.length();
        if train.count == 0 {
            train.priority = priority;
        }
        let Some(padding) = train.fits(bytes, paddable).filter(|_| train.takes(priority, bytes))
        else {
            return false;
        };
        peer.in_flight.end_admission(&mut rpc.tx.credit);
        match admission(rpc, peer, (start, end), train.total_bytes, &ctx.config) {
            Admission::Free => {}
            Admission::Charged(cost) => {
                peer.in_flight.charge(&mut rpc.tx.credit, cost, train.priority);
                peer.in_flight.set_probe_target(&rpc.path, rpc.id);
            }
            Admission::Wait { unvalidated } => {
                self.wait_at_peer(rpc, peer, unvalidated, ctx);
                return false;
            }
        }
        let header = data_header(rpc, peer, (start, end), false, ctx.now);
        train.push(&header, Some(rpc.key()), (start, end), padding, SegmentKind::Data);
        train.note_priority(priority);
        self.note_sent(rpc, peer, (start, end), ctx)
    }

    /// New data left. `false`: that was all that may be sent.
    #[inline]
    fn note_sent(&mut self, rpc: &mut Rpc, peer: &Peer, range: (u32, u32), ctx: &mut Ctx) -> bool {
        let bytes = range.1.saturating_sub(range.0);
        ctx.stats.bytes_sent.inc_by(u64::from(bytes));
        rpc.tx.note_sent(range.1);
        // A server that is not asked in the native profile does not say how old its incarnation is.
        if rpc.tx.note_first(ctx.now) && rpc.is_client() {
            rpc.peer_incarnation = if rpc.begun_in.is_native() { peer.incarnation() } else { 0 };
        }
        rpc.last_heard = ctx.now;
        rpc.progress_at = ctx.now;
        let idle = rpc.tx.is_idle();
        self.pacer.account(rpc.index(), bytes, &ctx.config);
        if idle {
            self.pacer.remove(rpc.index());
            ctx.arm(rpc.index(), rpc.resend.interval_ns());
        } else {
            self.pacer.follow(rpc, &ctx.config);
        }
        !idle
    }

    /// The system does not take a segment now: it is sent as if it had never been given out.
    pub(super) fn put_back_data(
        &mut self,
        rpc: &mut Rpc,
        segment: &Segment,
        peers: &mut PeerTable,
        ctx: &mut Ctx,
    ) {
        let (start, end) = (segment.payload.start, segment.payload.end);
        let bytes = end.saturating_sub(start);
        if segment.kind == SegmentKind::Data
            && rpc.tx.sent() == end
            && rpc.state() == State::Outgoing
        {
            rpc.tx.take_back(start);
            if start < rpc.tx.unscheduled() {
                if let Some(peer) = peers.known_mut(rpc.peer) {
                    let cost = bytes.saturating_add(CREDIT_PER_PACKET);
                    peer.in_flight.take_back(&mut rpc.tx.credit, cost);
                }
            }
            ctx.stats.bytes_sent = ctx.stats.bytes_sent.saturating_sub(u64::from(bytes));
        } else {
            rpc.tx.put_retransmission_back(start, end);
        }
        self.pacer.follow(rpc, &ctx.config);
    }
}

/// Path and peer of an RPC in the output order.
#[inline]
fn destination<'a>(
    index: RpcIndex,
    rpcs: &'a RpcTable,
    peers: &'a PeerTable,
) -> Option<(&'a Path, PeerIndex)> {
    match rpcs.short(index) {
        Some(rpc) => peers.known(rpc.peer).map(|peer| (&peer.path, rpc.peer)),
        None => rpcs.living(index).map(|rpc| (&rpc.path, rpc.peer)),
    }
}

/// The acknowledgement that a segment to `peer` took along waits for another.
pub(super) fn put_back_ack(peer: &mut Peer, segment: &Segment) {
    let header = Header::parse(segment.header(), segment.wire_bytes());
    let Ok(Header { body: Body::Data(data), .. }) = header else {
        return;
    };
    if let Some(AckEntry { client_id, server_port }) = data.acknowledged() {
        // There is room where it was.
        let _ = peer.acks.push(PendingAck { client_id, server_port });
    }
}

/// The header of one DATA segment; it takes an acknowledgement along that waits at the peer.
#[inline]
fn data_header(rpc: &Rpc, peer: &mut Peer, range: (u32, u32), again: bool, now: Instant) -> Header {
    let profile = rpc.profile_with(Some(peer));
    let unscheduled = rpc.tx.unscheduled();
    let ack = peer.acks.pop().map_or(AckEntry::NONE, |ack| AckEntry {
        client_id: ack.client_id,
        server_port: ack.server_port,
    });
    let mut common = Common::data(rpc.path.local_port, rpc.path.remote.port(), rpc.id, range.0);
    let mut flags = if again { Data::RETRANSMISSION } else { 0 };
    if profile.is_native() {
        common = common.with_native_profile(peer.numbers.ours);
        flags |= rpc.tx.flags();
    }
    let data = Data {
        message_length: rpc.tx.length(),
        incoming: if again { unscheduled.max(range.1) } else { unscheduled },
        ack,
        cutoff_version: peer.echoed_cutoff_version(now),
        flags,
        echo: match (profile, rpc.is_client()) {
            (Profile::Linux, _) => 0,
            // The one that got the beginning, if it was known: another one has to refuse the rest.
            (Profile::Native, true) if rpc.peer_incarnation == 0 => peer.incarnation(),
            (Profile::Native, _) => rpc.peer_incarnation,
        },
        seg_offset: range.0,
    };
    Header { common, body: Body::Data(data), extension: None }
}

impl Rpc {
    /// Priority of the next new segment of the outgoing message.
    fn new_data_priority(&self, peer: &Peer, config: &Config) -> Priority {
        if self.tx.sent() < self.tx.unscheduled() {
            self.unscheduled_priority(peer, config)
        } else {
            self.tx.scheduled_priority()
        }
    }

    pub(crate) fn unscheduled_priority(&self, peer: &Peer, config: &Config) -> Priority {
        self.call.priority_hint.unwrap_or_else(|| {
            let cutoffs = peer.cutoffs.of_peer();
            Priority::new(cutoffs.priority(self.tx.length(), config.priorities.count))
        })
    }
}

impl Peer {
    /// Longest payload of a DATA packet to it.
    pub(crate) fn payload_max(&self, config: &Config) -> u32 {
        let packet = self.packet_bytes_max(config).min(TRAIN_BYTES_MAX);
        packet.saturating_sub(wire_bytes(0)).max(1)
    }
}
