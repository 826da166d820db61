//! Transmission: control packets, grants, then data, in trains for one destination.

use homa_wire::{Header, RpcId};

use crate::addr::{Carriage, Path};
use crate::engine::Engine;
use crate::engine::ctx::Ctx;
use crate::engine::peer::{MTU_MIN, Peer, PeerIndex, PeerTable};
use crate::engine::rpc::{RpcTable, State};
use crate::engine::sender::Sender;
use crate::engine::sender::control_queue::{Control, ControlBody};
use crate::engine::sender::data::put_back_ack;
use crate::engine::sender::train::Train;
use crate::engine::stats::Count;
use crate::event::{FailReason, Segment, SegmentKind, Transmit, TransmitError};
use crate::priority::Priority;
use crate::time::{Instant, nanos};

/// Bytes on the link besides the Homa packet, for pacing: Ethernet, IP and UDP headers, preamble,
/// gap.
const LINK_OVERHEAD_BYTES: u64 = 70;

impl Engine {
    /// The next train to send, written into `segments` (which may be reused at once). `None`:
    /// nothing may leave now.
    #[inline]
    pub fn poll_transmit(&mut self, now: Instant, segments: &mut [Segment]) -> Option<Transmit> {
        self.ctx.tick(now, &mut self.peers);
        self.receiver.publish_incoming();
        // Every turn calls this once more than there are trains.
        let may_settle = !self.late_acks.is_empty() && !self.ctx.events.is_answer_expected();
        if self.has_transmit_work() || may_settle { self.poll_train(segments) } else { None }
    }

    #[inline(never)]
    fn poll_train(&mut self, segments: &mut [Segment]) -> Option<Transmit> {
        loop {
            if self.has_transmit_work() {
                if let Some(transmit) = self.next_train(segments) {
                    self.ctx.events.expect_no_answer();
                    return Some(transmit);
                }
            }
            // Apply deferred acknowledgements, then retry once.
            if self.ctx.events.is_answer_expected() || !self.settle() {
                return None;
            }
        }
    }

    #[inline]
    fn next_train(&mut self, segments: &mut [Segment]) -> Option<Transmit> {
        if segments.is_empty() {
            return None;
        }
        if !self.only_paced_work() {
            if let Some(transmit) = self.answer_train(segments) {
                return Some(transmit);
            }
        }
        self.sender.data_train(segments, &mut self.rpcs, &mut self.peers, &mut self.ctx)
    }

    /// All that goes before data.
    #[inline(never)]
    fn answer_train(&mut self, segments: &mut [Segment]) -> Option<Transmit> {
        self.receiver.decide_grants(&mut self.rpcs, &self.ctx);
        if let Some(transmit) = self.control_train(segments) {
            return Some(transmit);
        }
        let (rpcs, peers, ctx) = (&mut self.rpcs, &mut self.peers, &mut self.ctx);
        let (first, room) = self.receiver.next_grant(rpcs, peers, ctx)?;
        let rpc = rpcs.known(first)?;
        let limits = (ctx.config.top_priority(), room);
        let mut train = Train::to(segments, &rpc.path, Some(rpc.peer), limits, peers, &ctx.config);
        self.receiver.append_grants(&mut train, first, rpcs, peers, ctx);
        self.sender.finish(&train, peers, ctx)
    }

    /// Whether there is anything to send, now or when the pacer lets it.
    #[inline]
    pub(crate) fn has_transmit_work(&self) -> bool {
        !self.sender.is_empty() || !self.only_paced_work()
    }

    /// Whether there is nothing to send but data that the pacer may hold back.
    #[inline]
    pub(crate) fn only_paced_work(&self) -> bool {
        self.ctx.control.is_empty() && !self.receiver.has_work()
    }

    fn control_train(&mut self, segments: &mut [Segment]) -> Option<Transmit> {
        while let Some(entry) = self.ctx.control.pop() {
            let peer = self.peers.find(&entry.path);
            let room = control_room(peer, &entry, &self.rpcs, &self.peers);
            let limits = (entry.priority, room);
            let mut train =
                Train::to(&mut *segments, &entry.path, peer, limits, &self.peers, &self.ctx.config);
            match entry.body {
                ControlBody::Packet(header) if header.encoded_bytes() > room as usize => {
                    self.ctx.stats.control_withheld.inc();
                }
                ControlBody::Packet(header) => {
                    train.push(&header, None, (0, 0), 0, SegmentKind::Control);
                    self.ctx.control.append_to(&mut train);
                }
                ControlBody::Missing { rpc, upto, may_be_late } => {
                    let asked = (rpc, upto, may_be_late);
                    let (rpcs, peers, ctx) = (&self.rpcs, &self.peers, &mut self.ctx);
                    self.receiver.append_resends(&mut train, asked, rpcs, peers, ctx);
                }
            }
            let transmit = self.sender.finish(&train, &mut self.peers, &mut self.ctx);
            if transmit.is_some() {
                return transmit;
            }
        }
        None
    }

    /// The driver sent only the segments before `first_unsent` of the last train and says why. What
    /// was not sent is put back in its place, as if it had never been given out.
    pub fn transmit_failed(
        &mut self,
        now: Instant,
        transmit: &Transmit,
        segments: &[Segment],
        first_unsent: usize,
        why: TransmitError,
    ) {
        self.ctx.tick(now, &mut self.peers);
        let counter = match why {
            TransmitError::NoRoom => &mut self.ctx.stats.transmit_no_room,
            TransmitError::TooBig(_) => &mut self.ctx.stats.transmit_too_big,
            TransmitError::Unreachable => &mut self.ctx.stats.transmit_unreachable,
            TransmitError::Refused => &mut self.ctx.stats.transmit_refused,
        };
        counter.inc();
        let unsent =
            segments.get(first_unsent..transmit.segments.min(segments.len())).unwrap_or(&[]);
        let bytes = unsent
            .iter()
            .map(|segment| u64::from(segment.wire_bytes()))
            .fold(0, u64::saturating_add);
        let link_bytes = link_bytes(bytes, unsent.len(), transmit.coalesced);
        self.sender.pacer.refund(link_bytes, &self.ctx.config);
        self.sender.backlog.not_sent(link_bytes);
        self.ctx.stats.packets_sent =
            self.ctx.stats.packets_sent.saturating_sub(unsent.len() as u64);
        let peer = self.peers.find(&transmit.path).and_then(|peer| self.peers.known_mut(peer));
        if let Some(peer) = peer.filter(|peer| !peer.validation.is_done()) {
            let (bytes, control_bytes) = bytes_to_client(unsent);
            peer.validation.not_sent(bytes, control_bytes);
        }
        if let TransmitError::TooBig(mtu) = why {
            let mtu = if mtu == 0 { MTU_MIN } else { mtu };
            self.peers.set_mtu(&transmit.path, mtu, &mut self.ctx);
        }
        for segment in unsent.iter().rev() {
            match why {
                TransmitError::NoRoom | TransmitError::TooBig(_) => {
                    self.put_back(transmit.path, Priority::new(transmit.priority), segment)
                }
                TransmitError::Unreachable => {
                    self.lost_destination(segment, FailReason::HostUnreachable)
                }
                TransmitError::Refused => self.lost_destination(segment, FailReason::Refused),
            }
        }
    }

    fn put_back(&mut self, path: Path, priority: Priority, segment: &Segment) {
        if let Some(key) = segment.rpc {
            self.expand_key(key);
        }
        let index = segment.rpc.and_then(|key| self.rpcs.resolve(key));
        match segment.kind {
            SegmentKind::Control => {
                let bytes = u32::from(segment.header_bytes);
                if let Ok(header) = Header::parse(segment.header(), bytes) {
                    let body = ControlBody::Packet(header);
                    let peer = self.peers.find(&path).and_then(|peer| self.peers.known(peer));
                    let to_unvalidated = peer.is_some_and(Peer::is_unvalidated);
                    self.ctx.control.put_back(Control { path, priority, to_unvalidated, body });
                }
            }
            SegmentKind::Grant => {
                if let Some(rpc) = index.and_then(|index| self.rpcs.known_mut(index)) {
                    self.receiver.mark_due(rpc);
                }
            }
            SegmentKind::Data | SegmentKind::Retransmission => {
                let Some((index, (peer, _))) =
                    index.and_then(|index| Some((index, self.rpcs.ends(index)?)))
                else {
                    return;
                };
                // The RPC may be over, and its peer forgotten.
                if let Some(peer) = self.peers.get_mut(peer) {
                    put_back_ack(peer, segment);
                }
                let rpc = self.rpcs.get_mut(index).filter(|rpc| rpc.state() != State::Dead);
                if let Some(rpc) = rpc {
                    self.sender.put_back_data(rpc, segment, &mut self.peers, &mut self.ctx);
                }
            }
        }
    }

    /// The system cannot or may not send to the destination of this segment: a call to it fails
    /// now; other packets are recovered by their timers if it comes back.
    fn lost_destination(&mut self, segment: &Segment, reason: FailReason) {
        if let Some(key) = segment.rpc {
            self.expand_key(key);
        }
        let Some((index, rpc)) = segment.rpc.and_then(|key| self.rpcs.live_mut(key)) else {
            return;
        };
        if rpc.is_client() && rpc.state() == State::Outgoing {
            self.fail_rpc(index, reason);
        } else {
            self.ctx.arm(index, nanos(self.ctx.config.recovery.resend_interval));
        }
    }
}

/// Bytes of control packets that may go to the end of a path now. A server sends an unvalidated
/// peer no more of them than came from it, so that a forged source address draws no packets to
/// others. (A client has chosen its peer itself.)
fn control_room(
    peer: Option<PeerIndex>,
    entry: &Control,
    rpcs: &RpcTable,
    peers: &PeerTable,
) -> u32 {
    let from_server = match &entry.body {
        ControlBody::Packet(header) => RpcId(header.common.sender_id).is_server(),
        ControlBody::Missing { rpc, .. } => {
            let rpc = rpcs.resolve(*rpc).and_then(|index| rpcs.known(index));
            rpc.is_some_and(|rpc| !rpc.is_client())
        }
    };
    let limited = from_server && entry.path.carriage == Carriage::Udp;
    match peer.and_then(|peer| peers.known(peer)).filter(|_| limited) {
        Some(peer) if !peer.validation.is_done() => {
            u32::try_from(peer.validation.control_room()).unwrap_or(u32::MAX)
        }
        None if limited && entry.to_unvalidated => 0,
        _ => u32::MAX,
    }
}

impl Sender {
    /// The train for the driver, if it has segments, accounted for as sent.
    pub(super) fn finish(
        &mut self,
        train: &Train<'_>,
        peers: &mut PeerTable,
        ctx: &mut Ctx,
    ) -> Option<Transmit> {
        if train.count == 0 {
            return None;
        }
        let coalesced = train.is_datagram();
        ctx.stats.trains_sent.inc();
        ctx.stats.packets_sent.inc_by(train.count as u64);
        if self.is_limited() {
            self.charge(train, ctx);
        }
        let peer = train.peer.and_then(|peer| peers.known_mut(peer));
        if let Some(peer) = peer.filter(|peer| !peer.validation.is_done()) {
            let sent = train.segments.get(..train.count).unwrap_or(&[]);
            let (bytes, control_bytes) = bytes_to_client(sent);
            peer.validation.sent(bytes, control_bytes);
        }
        let class = ctx
            .config
            .fixed
            .priority_map
            .get(usize::from(train.priority.level()))
            .copied()
            .unwrap_or(0);
        Some(Transmit {
            path: train.path,
            priority: train.priority.level(),
            dscp: class << 3,
            segments: train.count,
            segment_bytes: if coalesced { train.total_bytes } else { train.segment_bytes },
            total_bytes: train.total_bytes,
            coalesced,
        })
    }

    /// Charges a train to the clock and the backlog.
    #[inline(never)]
    fn charge(&mut self, train: &Train<'_>, ctx: &Ctx) {
        let bytes = link_bytes(u64::from(train.total_bytes), train.count, train.is_datagram());
        let control =
            |first: &Segment| matches!(first.kind, SegmentKind::Control | SegmentKind::Grant);
        let control = train.segments.first().is_some_and(control);
        self.pacer.charge(ctx.now, bytes, control, &ctx.config);
        self.backlog.sent(ctx.now, bytes);
    }
}

/// Bytes on the link of packets of `bytes` in all.
fn link_bytes(bytes: u64, packets: usize, coalesced: bool) -> u64 {
    let datagrams = if coalesced { packets.min(1) } else { packets };
    bytes.saturating_add((datagrams as u64).saturating_mul(LINK_OVERHEAD_BYTES))
}

/// Bytes that a server sends, and those of control packets among them, which count towards the
/// anti-amplification limit. Requests of this end do not.
fn bytes_to_client(segments: &[Segment]) -> (u64, u64) {
    let (mut bytes, mut control_bytes) = (0u64, 0u64);
    for segment in segments {
        let id = homa_wire::quoted_sender_id(segment.header());
        if id.is_some_and(|id| RpcId(id).is_server()) {
            let packet_bytes = u64::from(segment.wire_bytes());
            bytes = bytes.saturating_add(packet_bytes);
            if matches!(segment.kind, SegmentKind::Control | SegmentKind::Grant) {
                control_bytes = control_bytes.saturating_add(packet_bytes);
            }
        }
    }
    (bytes, control_bytes)
}
