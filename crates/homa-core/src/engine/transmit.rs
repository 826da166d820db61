//! What leaves next: control packets, grants, retransmissions, then data in SRPT order, in trains of
//! equally long packets for one destination.

use homa_wire::{AckEntry, Body, Common, DATA_HEADER_BYTES, Data, Grant, Header, Resend};

use crate::addr::Path;
use crate::engine::Engine;
use crate::engine::control::{Control, ControlBody};
use crate::engine::life::CHARGE_PER_PACKET;
use crate::engine::peer::Peer;
use crate::engine::reason;
use crate::engine::rpc::State;
use crate::event::{FailReason, RpcKey, Segment, SegmentKind, Transmit, TransmitError};
use crate::time::{Instant, nanos};

/// Bytes in one train: what UDP over IPv4 can carry in a single buffer.
const TRAIN_BYTES_MAX: u32 = 65_507;
/// Bytes on the link besides the Homa packet, for pacing: Ethernet, IP and UDP headers, preamble, gap.
const LINK_OVERHEAD_BYTES: u64 = 70;

/// A train being built in the caller's array.
struct Train<'a> {
    segments: &'a mut [Segment],
    count: usize,
    path: Path,
    priority: u8,
    segment_bytes: u32,
    total_bytes: u32,
    limit_bytes: u32,
    /// A shorter segment came last: nothing can follow.
    closed: bool,
}

impl<'a> Train<'a> {
    fn new(segments: &'a mut [Segment], path: Path, priority: u8, limit_bytes: u32) -> Self {
        Self {
            segments,
            count: 0,
            path,
            priority,
            segment_bytes: 0,
            total_bytes: 0,
            limit_bytes: limit_bytes.min(TRAIN_BYTES_MAX),
            closed: false,
        }
    }

    fn goes(&self, path: &Path, priority: u8) -> bool {
        self.path == *path && self.priority == priority
    }

    /// Padding with which a segment of `bytes` fits, if it does. A slightly shorter one is padded
    /// (`paddable`) so that others can follow, a much shorter one becomes the last.
    fn fits(&self, bytes: u32, paddable: bool) -> Option<u16> {
        if self.count == 0 {
            return (!self.segments.is_empty()).then_some(0);
        }
        if self.closed || self.count >= self.segments.len() || bytes > self.segment_bytes {
            return None;
        }
        let missing = self.segment_bytes.saturating_sub(bytes);
        let pad = if paddable && missing <= self.segment_bytes / 8 { missing } else { 0 };
        let after = self.total_bytes.saturating_add(bytes).saturating_add(pad);
        (after <= self.limit_bytes).then_some(u16::try_from(pad).unwrap_or(0))
    }

    /// Adds a segment that `fits`. `false`: its header could not be written.
    fn push(
        &mut self,
        header: &Header,
        rpc: Option<RpcKey>,
        payload: (u32, u32),
        padding: u16,
        kind: SegmentKind,
    ) -> bool {
        let Some(segment) = self.segments.get_mut(self.count) else {
            return false;
        };
        let Some(written) = header.encode(&mut segment.header) else {
            return false;
        };
        segment.header_bytes = u8::try_from(written).unwrap_or(0);
        segment.rpc = rpc;
        segment.payload = payload.0..payload.1;
        segment.padding = padding;
        segment.kind = kind;
        let bytes = segment.wire_bytes();
        if self.count == 0 {
            self.segment_bytes = bytes;
        }
        self.closed = bytes < self.segment_bytes;
        self.count = self.count.saturating_add(1);
        self.total_bytes = self.total_bytes.saturating_add(bytes);
        true
    }
}

impl Engine {
    /// The next train to send, written into `segments` (which may be reused at once). `None`: nothing may
    /// leave now.
    pub fn poll_transmit(&mut self, now: Instant, segments: &mut [Segment]) -> Option<Transmit> {
        self.tick(now);
        if segments.is_empty() {
            return None;
        }
        let transmit = match self.next_train(segments) {
            Some(transmit) => transmit,
            None if !self.answer_expected && self.settle() => self.next_train(segments)?,
            None => return None,
        };
        self.answer_expected = false;
        let packets = transmit.segments as u64;
        self.stats.trains_sent = self.stats.trains_sent.saturating_add(1);
        self.stats.packets_sent = self.stats.packets_sent.saturating_add(packets);
        self.pacer.charge(now, link_bytes(&transmit), &self.config);
        if let Some(peer) = self.unproved_peer(&transmit.path) {
            let sent = segments.get(..transmit.segments).unwrap_or(&[]);
            peer.sent_bytes = peer.sent_bytes.saturating_add(bytes_to_client(sent));
        }
        Some(transmit)
    }

    /// The peer at the end of `path`, if it still has to prove its address.
    fn unproved_peer(&mut self, path: &Path) -> Option<&mut Peer> {
        let index = self.peer_of(path)?;
        self.peers.get_mut(index).filter(|peer| !peer.validated)
    }

    fn next_train(&mut self, segments: &mut [Segment]) -> Option<Transmit> {
        self.decide_grants();
        if !self.has_transmit_work() {
            return None;
        }
        if let Some(transmit) = self.control_train(segments) {
            return Some(transmit);
        }
        if let Some(transmit) = self.grant_train(segments) {
            return Some(transmit);
        }
        self.retransmit_train(segments).or_else(|| self.data_train(segments))
    }

    /// Is there anything to send, now or when the pacer lets it?
    pub(crate) fn has_transmit_work(&self) -> bool {
        !self.only_paced_work() || !self.pacer.is_empty()
    }

    /// Is there nothing to send but data that the pacer may hold back?
    pub(crate) fn only_paced_work(&self) -> bool {
        self.control.is_empty() && self.retransmits.is_empty() && !self.granter.has_work()
    }

    fn decide_grants(&mut self) {
        if self.granter.has_work() {
            let limits = self.grant_limits();
            self.granter.run(&mut self.rpcs, &mut self.memory, &self.config, &limits);
        }
        // Messages also end without work for the granter.
        let total = self.granter.total_incoming();
        if total != self.published_incoming
            && let Some(slot) = &self.budget_slot
        {
            self.budget.set_incoming(*slot, total);
            self.published_incoming = total;
        }
    }

    fn finish(&self, train: &Train<'_>) -> Option<Transmit> {
        if train.count == 0 {
            return None;
        }
        let class = self.config.priority_map.get(usize::from(train.priority)).copied().unwrap_or(0);
        Some(Transmit {
            path: train.path,
            priority: train.priority,
            dscp: class << 3,
            segments: train.count,
            segment_bytes: train.segment_bytes,
            total_bytes: train.total_bytes,
        })
    }

    fn top_priority(&self) -> u8 {
        self.config.num_priorities.saturating_sub(1)
    }

    fn control_train(&mut self, segments: &mut [Segment]) -> Option<Transmit> {
        let priority = self.top_priority();
        while let Some(entry) = self.control.pop_front() {
            let room = self.control_room(&entry.path, &entry.body);
            let mut train = Train::new(&mut *segments, entry.path, priority, room);
            match entry.body {
                ControlBody::Packet(header) if header.encoded_bytes() > room as usize => {
                    self.withhold_control();
                }
                ControlBody::Packet(header) => {
                    train.push(&header, None, (0, 0), 0, SegmentKind::Control);
                    self.more_control(&mut train);
                }
                ControlBody::Missing { rpc, may_be_late } => {
                    self.missing_train(&mut train, rpc, may_be_late);
                }
            }
            if let Some(transmit) = self.finish(&train) {
                return Some(transmit);
            }
        }
        None
    }

    /// Bytes of control packets that may go to the end of `path` now. A server sends a peer that has not
    /// proved its address no more than a few times what came from it, in control packets too: a forged
    /// sender must not draw questions to others. (A client has chosen its peer itself.)
    fn control_room(&self, path: &Path, body: &ControlBody) -> u32 {
        let from_server = match body {
            ControlBody::Packet(header) => header.common.sender_id & 1 == 1,
            ControlBody::Missing { rpc, .. } => self
                .rpcs
                .resolve(*rpc)
                .and_then(|index| self.rpcs.get(index))
                .is_some_and(|rpc| !rpc.is_client()),
        };
        let limited = from_server && path.carriage == crate::addr::Carriage::Udp;
        let peer = self.peer_of(path).and_then(|index| self.peers.get(index));
        match peer.filter(|peer| limited && !peer.validated) {
            Some(peer) => u32::try_from(peer.unvalidated_room()).unwrap_or(u32::MAX),
            None => u32::MAX,
        }
    }

    fn withhold_control(&mut self) {
        self.stats.control_withheld = self.stats.control_withheld.saturating_add(1);
    }

    /// Adds the control packets that follow in the queue, as long as they fit.
    fn more_control(&mut self, train: &mut Train<'_>) {
        while let Some(Control { path, body: ControlBody::Packet(header) }) = self.control.front() {
            let bytes = u32::try_from(header.encoded_bytes()).unwrap_or(u32::MAX);
            if !train.goes(path, train.priority) || train.fits(bytes, false).is_none() {
                return;
            }
            train.push(header, None, (0, 0), 0, SegmentKind::Control);
            self.control.pop_front();
        }
    }

    /// RESENDs for every gap of a message and for its missing end, as far as [`Engine::questions`] lets.
    fn missing_train(&mut self, train: &mut Train<'_>, key: RpcKey, may_be_late: bool) {
        let room_bytes = self.room_for_copies();
        let Some(rpc) = self.rpcs.resolve(key).and_then(|index| self.rpcs.get(index)) else {
            return;
        };
        let rx = &rpc.rx;
        let priority = self.top_priority();
        let extension = self.speaks_own(rpc).then(|| self.extension(&rpc.path, reason::NONE, 0));
        let mut questions = self.questions(rx, room_bytes, may_be_late);
        let mut ask = |start: u32, length: u32| {
            let body = Body::Resend(Resend { offset: start, length, priority });
            let header = self.control_header(&rpc.path, rpc.id, body, extension);
            let bytes = u32::try_from(header.encoded_bytes()).unwrap_or(u32::MAX);
            train.total_bytes.saturating_add(bytes) <= train.limit_bytes
                && train.push(&header, Some(key), (0, 0), 0, SegmentKind::Control)
        };
        let (mut gaps, mut tails, mut all) = (0u64, 0u64, 0u64);
        if rpc.state == State::Outgoing {
            all += u64::from(ask(0, homa_wire::RESEND_ALL));
        } else if rpc.state == State::Incoming {
            // What does not fit into this train is asked for next time; the first gaps matter most.
            for (start, end) in rx.data.gaps() {
                let Some(length) = questions.next(end.saturating_sub(*start)) else {
                    break;
                };
                gaps = gaps.saturating_add(u64::from(ask(*start, length)));
            }
            let highest = rx.data.highest();
            if highest < rx.granted_told
                && let Some(length) = questions.next(rx.granted_told.saturating_sub(highest))
            {
                tails += u64::from(ask(highest, length));
            }
        }
        self.asked_bytes = self.asked_bytes.saturating_add(questions.asked_bytes);
        self.stats.resends_gap_sent = self.stats.resends_gap_sent.saturating_add(gaps);
        self.stats.resends_tail_sent = self.stats.resends_tail_sent.saturating_add(tails);
        self.stats.resends_all_sent = self.stats.resends_all_sent.saturating_add(all);
    }

    fn grant_train(&mut self, segments: &mut [Segment]) -> Option<Transmit> {
        let priority = self.top_priority();
        let first = self.granter.pop_due(&mut self.rpcs)?;
        let path = self.rpcs.get(first)?.path;
        let mut train = Train::new(segments, path, priority, u32::MAX);
        let mut next = Some(first);
        while let Some(index) = next {
            let Some(rpc) = self.rpcs.get(index) else {
                break;
            };
            let body = Body::Grant(Grant { offset: rpc.rx.granted, priority: rpc.rx.priority });
            let upto = rpc.rx.data.contiguous();
            let extension =
                self.speaks_own(rpc).then(|| self.extension(&rpc.path, reason::NONE, upto));
            let header = self.control_header(&rpc.path, rpc.id, body, extension);
            let bytes = u32::try_from(header.encoded_bytes()).unwrap_or(u32::MAX);
            if !train.goes(&rpc.path, priority) || train.fits(bytes, false).is_none() {
                if let Some(rpc) = self.rpcs.get_mut(index) {
                    self.granter.mark_due(rpc);
                }
                break;
            }
            train.push(&header, Some(rpc.key), (0, 0), 0, SegmentKind::Grant);
            if let Some(rpc) = self.rpcs.get_mut(index) {
                // Until now the sender may have had nothing to send: its silence begins here. A silent
                // sender gets few GRANTs, so that this cannot go on for ever.
                rpc.last_heard = self.now;
                rpc.rx.granted_told = rpc.rx.granted;
            }
            self.stats.grants_sent = self.stats.grants_sent.saturating_add(1);
            self.arm(index, nanos(self.config.resend_interval));
            next = self.granter.pop_due(&mut self.rpcs);
        }
        self.finish(&train)
    }

    fn retransmit_train(&mut self, segments: &mut [Segment]) -> Option<Transmit> {
        while let Some(index) = self.retransmits.front().copied() {
            let Some(rpc) = self.rpcs.get_mut(index).filter(|rpc| rpc.in_retransmit_queue) else {
                self.retransmits.pop_front();
                continue;
            };
            let (path, priority, peer) = (rpc.path, rpc.tx.retransmit_priority, rpc.peer);
            let payload_max = self.payload_max(peer);
            let mut limit = self.pacer.quantum_bytes(&self.config);
            if let Some(room) = self.unproved_room(index) {
                if room < u64::from(wire_bytes(payload_max)) {
                    self.drop_retransmissions(index);
                    continue;
                }
                limit = limit.min(u32::try_from(room).unwrap_or(u32::MAX));
            }
            let mut train = Train::new(&mut *segments, path, priority, limit);
            self.append_retransmissions(&mut train, index, payload_max);
            if let Some(rpc) = self.rpcs.get_mut(index)
                && (rpc.tx.retransmit.is_empty() || rpc.state == State::Dead)
            {
                rpc.in_retransmit_queue = false;
                self.retransmits.pop_front();
                if rpc.state == State::Outgoing {
                    rpc.last_heard = self.now;
                    self.arm(index, nanos(self.config.resend_interval));
                }
            }
            if let Some(transmit) = self.finish(&train) {
                return Some(transmit);
            }
        }
        None
    }

    /// A client that has not proved its address gets no more: it will ask again.
    fn drop_retransmissions(&mut self, index: u32) {
        self.retransmits.pop_front();
        let interval_ns = nanos(self.config.resend_interval);
        if let Some(rpc) = self.rpcs.get_mut(index) {
            rpc.tx.retransmit.clear();
            rpc.in_retransmit_queue = false;
            self.arm(index, interval_ns);
        }
    }

    /// Adds as much of what one message has to send again as fits.
    fn append_retransmissions(&mut self, train: &mut Train<'_>, index: u32, payload_max: u32) {
        while let Some(rpc) = self.rpcs.get_mut(index).filter(|rpc| rpc.state != State::Dead) {
            let Some((start, end)) = rpc.tx.next_retransmit(payload_max) else {
                return;
            };
            let bytes = wire_bytes(end.saturating_sub(start));
            if train.fits(bytes, false).is_none() {
                rpc.tx.request_retransmit(start, end, rpc.tx.retransmit_priority, 0);
                return;
            }
            self.push_data(train, index, (start, end), 0, true);
        }
    }

    /// New data: the best-ranked message first (or the oldest, in its share), then others to the same
    /// destination at the same priority, in order of rank, as long as their segments fit.
    fn data_train(&mut self, segments: &mut [Segment]) -> Option<Transmit> {
        let only_short = self.now < self.pacer.ready_at(&self.config);
        loop {
            let index = self.pacer.choose(only_short, &self.config)?;
            let Some(rpc) = self.rpcs.get(index) else {
                self.pacer.remove(index);
                continue;
            };
            let limit = self.pacer.quantum_bytes(&self.config);
            let mut train =
                Train::new(&mut *segments, rpc.path, self.new_data_priority(index), limit);
            let mut next = Some(index);
            while let Some(index) = next {
                self.append_new_data(&mut train, index);
                next = self.pacer.best(only_short).filter(|best| *best != index);
            }
            if let Some(transmit) = self.finish(&train) {
                return Some(transmit);
            }
            // Nothing of the chosen message could go (it is blocked at its peer now): the next one.
            self.pacer.remove(index);
        }
    }

    /// Adds as many new segments of one message as fit.
    fn append_new_data(&mut self, train: &mut Train<'_>, index: u32) {
        loop {
            let Some(rpc) = self.rpcs.get(index) else {
                return;
            };
            let (peer, own) = (rpc.peer, self.speaks_own(rpc));
            if rpc.tx.sent == 0 {
                self.retry_full_size(peer);
            }
            let payload_max = self.payload_max(peer);
            if let Some(rpc) = self.rpcs.get_mut(index).filter(|rpc| rpc.tx.sent == 0) {
                rpc.tx.segment_bytes = payload_max;
            }
            let priority = self.new_data_priority(index);
            let Some(rpc) = self.rpcs.get_mut(index) else {
                return;
            };
            rpc.tx.whole_segments |= !own;
            let Some((start, end)) = rpc.tx.next_new(payload_max) else {
                return;
            };
            let payload = end.saturating_sub(start);
            if !train.goes(&rpc.path, priority) {
                return;
            }
            let paddable = own && end == rpc.tx.length;
            let Some(padding) = train.fits(wire_bytes(payload), paddable) else {
                return;
            };
            if !self.admit(index, start, payload, train.total_bytes) {
                return;
            }
            self.push_data(train, index, (start, end), padding, false);
            self.note_sent(index, start, end);
        }
    }

    /// Bytes that may still be sent for this RPC to a client that has not proved its address; `None`: no limit.
    fn unproved_room(&self, index: u32) -> Option<u64> {
        let rpc = self.rpcs.get(index).filter(|rpc| !rpc.is_client() && self.speaks_own(rpc))?;
        let peer = self.peers.get(rpc.peer).filter(|peer| !peer.validated)?;
        Some(peer.unvalidated_room())
    }

    /// May the peer be sent another `payload` bytes of this message now, after `in_train` bytes of the present
    /// train? If not, the message waits at the peer.
    fn admit(&mut self, index: u32, start: u32, payload: u32, in_train: u32) -> bool {
        let needed = u64::from(wire_bytes(payload)).saturating_add(u64::from(in_train));
        let unproved = self.unproved_room(index).is_some_and(|room| room < needed);
        let Some(rpc) = self.rpcs.get(index) else {
            return false;
        };
        let own = self.speaks_own(rpc);
        let unscheduled = start < rpc.tx.unscheduled;
        let (peer_index, key) = (rpc.peer, (rpc.tx.remaining(), rpc.birth));
        let (server, path, id) = (!rpc.is_client(), rpc.path, rpc.id);
        let Some(peer) = self.peers.get_mut(peer_index) else {
            return false;
        };
        let cost = payload.saturating_add(CHARGE_PER_PACKET);
        let over = own
            && unscheduled
            && peer.in_flight > 0
            && peer.in_flight.saturating_add(cost) > peer.in_flight_max(&self.config);
        if over || unproved {
            if unproved {
                // Asking lets the client prove its address: at once, since its answer waits for that.
                peer.last_charged = Some((path, id));
                let now = self.now;
                self.arm_peer(peer_index, now);
            }
            let Some(peer) = self.peers.get_mut(peer_index) else {
                return false;
            };
            let blocked = peer.blocked.set(&mut self.blocked_positions, index, key).is_ok();
            if server {
                self.arm(index, nanos(self.config.response_silence));
            }
            if let Some(rpc) = self.rpcs.get_mut(index) {
                rpc.blocked_on_peer = blocked;
            }
            self.pacer.remove(index);
            if !blocked {
                // No memory to wait in the queue: its timer tries again.
                self.arm(index, nanos(self.config.resend_interval));
            }
            self.arm_blocked_probe(peer_index);
            return false;
        }
        if own && unscheduled {
            self.charge_peer(index, peer_index, cost);
        }
        true
    }

    fn charge_peer(&mut self, index: u32, peer_index: u32, cost: u32) {
        // Charges of before the present probe move to after it with their message.
        let Some(rpc) = self.rpcs.get(index) else {
            return;
        };
        let (path, id, earlier, epoch) = (rpc.path, rpc.id, rpc.charge, rpc.charge_epoch);
        let Some(peer) = self.peers.get_mut(peer_index) else {
            return;
        };
        let cleared = epoch <= peer.cleared_epoch;
        let kept = if cleared { 0 } else { earlier };
        if !cleared && epoch < peer.epoch {
            peer.in_flight_before_probe = peer.in_flight_before_probe.saturating_sub(kept);
        }
        peer.in_flight = peer.in_flight.saturating_add(cost);
        peer.last_charged = Some((path, id));
        let present = peer.epoch;
        if let Some(rpc) = self.rpcs.get_mut(index) {
            rpc.charge = kept.saturating_add(cost);
            rpc.charge_epoch = present;
        }
    }

    fn note_sent(&mut self, index: u32, start: u32, end: u32) {
        let bytes = end.saturating_sub(start);
        self.stats.bytes_sent = self.stats.bytes_sent.saturating_add(u64::from(bytes));
        let Some(rpc) = self.rpcs.get_mut(index) else {
            return;
        };
        rpc.tx.sent = end;
        if rpc.first_sent.is_none() {
            rpc.first_sent = Some(self.now);
            // A server that is not asked in our own profile does not say how old its life is.
            let life = self.peers.get(rpc.peer).map_or(0, |peer| peer.incarnation);
            rpc.server_life = if rpc.own { life } else { 0 };
        }
        rpc.last_heard = self.now;
        let idle = rpc.tx.is_idle();
        let interval_ns = rpc.interval_ns;
        self.pacer.account(index, bytes, &self.config);
        self.schedule(index);
        if idle {
            self.arm(index, interval_ns);
        }
    }

    /// Writes one DATA segment.
    fn push_data(
        &mut self,
        train: &mut Train<'_>,
        index: u32,
        range: (u32, u32),
        padding: u16,
        again: bool,
    ) {
        let Some(rpc) = self.rpcs.get_mut(index) else {
            return;
        };
        let (key, path, id) = (rpc.key, rpc.path, rpc.id);
        let (length, unscheduled) = (rpc.tx.length, rpc.tx.unscheduled);
        let (peer, begun_own) = (rpc.peer, rpc.own);
        let Some(peer) = self.peers.get_mut(peer) else {
            return;
        };
        let own = begun_own && peer.is_own();
        let ack = peer.pop_ack().map_or(AckEntry::NONE, |ack| AckEntry {
            client_id: ack.client_id,
            server_port: ack.server_port,
        });
        let mut common = Common::data(path.local_port, path.remote.port(), id, range.0);
        if own {
            common = common.with_own_profile(self.incarnation);
        }
        let data = Data {
            message_length: length,
            incoming: if again { unscheduled.max(range.1) } else { unscheduled },
            ack,
            cutoff_version: peer.echoed_cutoff_version(self.now),
            retransmit: u8::from(again),
            echo: if own { peer.incarnation } else { 0 },
            seg_offset: range.0,
        };
        let kind = if again { SegmentKind::Retransmission } else { SegmentKind::Data };
        let header = Header { common, body: Body::Data(data), extension: None };
        train.push(&header, Some(key), range, padding, kind);
        if again {
            let bytes = u64::from(range.1.saturating_sub(range.0));
            self.stats.bytes_retransmitted = self.stats.bytes_retransmitted.saturating_add(bytes);
        }
    }

    /// Level of the next new segment of a message.
    fn new_data_priority(&self, index: u32) -> u8 {
        match self.rpcs.get(index) {
            Some(rpc) if rpc.tx.sent < rpc.tx.unscheduled => self.unscheduled_priority(index),
            Some(rpc) => rpc.tx.scheduled_priority,
            None => 0,
        }
    }

    pub(crate) fn unscheduled_priority(&self, index: u32) -> u8 {
        let Some(rpc) = self.rpcs.get(index) else {
            return 0;
        };
        let levels = self.config.num_priorities;
        let by_cutoffs = || {
            self.peers.get(rpc.peer).map_or(0, |peer| peer.cutoffs.priority(rpc.tx.length, levels))
        };
        rpc.priority_hint.unwrap_or_else(by_cutoffs)
    }

    /// Longest payload of a DATA packet to the peer.
    pub(crate) fn payload_max(&self, peer: u32) -> u32 {
        let packet = self
            .peers
            .get(peer)
            .map_or(TRAIN_BYTES_MAX, |peer| peer.packet_bytes_max(&self.config));
        packet.min(TRAIN_BYTES_MAX).saturating_sub(wire_bytes(0)).max(1)
    }

    /// The driver sent only the segments before `first_unsent` of the last train and says why. What was not
    /// sent is put back in its place, as if it had never been given out.
    pub fn transmit_failed(
        &mut self,
        now: Instant,
        transmit: &Transmit,
        segments: &[Segment],
        first_unsent: usize,
        why: TransmitError,
    ) {
        self.tick(now);
        let counter = match why {
            TransmitError::NoRoom => &mut self.stats.transmit_no_room,
            TransmitError::TooBig(_) => &mut self.stats.transmit_too_big,
            TransmitError::Unreachable => &mut self.stats.transmit_unreachable,
            TransmitError::Refused => &mut self.stats.transmit_refused,
        };
        *counter = counter.saturating_add(1);
        let unsent =
            segments.get(first_unsent..transmit.segments.min(segments.len())).unwrap_or(&[]);
        let bytes = unsent
            .iter()
            .map(|segment| u64::from(segment.wire_bytes()))
            .fold(0, u64::saturating_add);
        self.pacer.refund(
            bytes.saturating_add((unsent.len() as u64).saturating_mul(LINK_OVERHEAD_BYTES)),
            &self.config,
        );
        self.stats.packets_sent = self.stats.packets_sent.saturating_sub(unsent.len() as u64);
        if let Some(peer) = self.unproved_peer(&transmit.path) {
            peer.sent_bytes = peer.sent_bytes.saturating_sub(bytes_to_client(unsent));
        }
        if let TransmitError::TooBig(mtu) = why {
            let mtu = if mtu == 0 { crate::engine::peer::MTU_MIN } else { mtu };
            self.path_changed(now, transmit.path, mtu, None);
        }
        for segment in unsent.iter().rev() {
            match why {
                TransmitError::NoRoom | TransmitError::TooBig(_) => {
                    self.put_back(transmit.path, segment)
                }
                TransmitError::Unreachable => {
                    self.lost_destination(segment, FailReason::HostUnreachable)
                }
                TransmitError::Refused => self.lost_destination(segment, FailReason::Refused),
            }
        }
    }

    fn put_back(&mut self, path: Path, segment: &Segment) {
        let index = segment.rpc.and_then(|key| self.rpcs.resolve(key));
        match segment.kind {
            SegmentKind::Control => {
                let bytes = u32::from(segment.header_bytes);
                if let Ok(header) = Header::parse(segment.header(), bytes) {
                    self.control.push_front(Control { path, body: ControlBody::Packet(header) });
                }
            }
            SegmentKind::Grant => {
                if let Some(rpc) = index.and_then(|index| self.rpcs.get_mut(index)) {
                    self.granter.mark_due(rpc);
                }
            }
            SegmentKind::Data | SegmentKind::Retransmission => {
                if let Some(index) = index {
                    self.put_back_data(index, segment);
                }
            }
        }
    }

    fn put_back_data(&mut self, index: u32, segment: &Segment) {
        let Some(rpc) = self.rpcs.get_mut(index).filter(|rpc| rpc.state != State::Dead) else {
            return;
        };
        let (start, end) = (segment.payload.start, segment.payload.end);
        let bytes = end.saturating_sub(start);
        if segment.kind == SegmentKind::Data && rpc.tx.sent == end && rpc.state == State::Outgoing {
            rpc.tx.sent = start;
            let cost = bytes.saturating_add(CHARGE_PER_PACKET).min(rpc.charge);
            let (peer, current) = (rpc.peer, rpc.charge_epoch);
            if start < rpc.tx.unscheduled {
                rpc.charge = rpc.charge.saturating_sub(cost);
                if let Some(peer) = self.peers.get_mut(peer)
                    && current == peer.epoch
                {
                    peer.in_flight = peer.in_flight.saturating_sub(cost);
                }
            }
            self.stats.bytes_sent = self.stats.bytes_sent.saturating_sub(u64::from(bytes));
            self.schedule(index);
        } else {
            let priority = rpc.tx.retransmit_priority;
            rpc.tx.request_retransmit(start, end, priority, 0);
            self.schedule_retransmit(index);
        }
    }

    /// The system cannot or may not send to the destination of this segment: a call to it fails now; other
    /// packets are recovered by their timers if it comes back.
    fn lost_destination(&mut self, segment: &Segment, reason: FailReason) {
        let Some((index, rpc)) = segment.rpc.and_then(|key| self.rpcs.live_mut(key)) else {
            return;
        };
        if rpc.is_client() && rpc.state == State::Outgoing {
            self.fail_rpc(index, reason);
        } else {
            self.arm(index, nanos(self.config.resend_interval));
        }
    }
}

fn wire_bytes(payload: u32) -> u32 {
    payload.saturating_add(DATA_HEADER_BYTES as u32)
}

/// Bytes that a server sends: what a client may have asked for in somebody else's name. Requests of ours
/// nobody asked for.
fn bytes_to_client(segments: &[Segment]) -> u64 {
    segments
        .iter()
        .filter(|segment| {
            homa_wire::quoted_sender_id(segment.header()).is_some_and(|id| id & 1 == 1)
        })
        .map(|segment| u64::from(segment.wire_bytes()))
        .fold(0, u64::saturating_add)
}

fn link_bytes(transmit: &Transmit) -> u64 {
    let overhead = (transmit.segments as u64).saturating_mul(LINK_OVERHEAD_BYTES);
    u64::from(transmit.total_bytes).saturating_add(overhead)
}
