//! What leaves next: control packets, grants, then data in SRPT order, new or sent again, in trains for one
//! destination.

use homa_wire::{
    AckEntry, Body, Common, Data, EXTENSION_BYTES, Grant, Header, PacketType, Reason, Resend, RpcId,
};

use crate::addr::{Carriage, Path};
use crate::config::Config;
use crate::engine::Engine;
use crate::engine::peer::CHARGE_PER_PACKET;
use crate::engine::peer::{DATAGRAM_ALWAYS_FITS, MTU_MIN, Peer, PendingAck};
use crate::engine::rpc::{Rpc, State};
use crate::engine::sender::admission::{Admission, admission, must_prove};
use crate::engine::sender::control::{Control, ControlBody};
use crate::engine::sender::train::{TRAIN_BYTES_MAX, Train, wire_bytes};
use crate::engine::stats::Count;
use crate::event::{FailReason, RpcKey, Segment, SegmentKind, Transmit, TransmitError};
use crate::time::{Instant, nanos};

/// Bytes on the link besides the Homa packet, for pacing: Ethernet, IP and UDP headers, preamble, gap.
const LINK_OVERHEAD_BYTES: u64 = 70;

impl Engine {
    /// The next train to send, written into `segments` (which may be reused at once). `None`: nothing may
    /// leave now.
    #[inline]
    pub fn poll_transmit(&mut self, now: Instant, segments: &mut [Segment]) -> Option<Transmit> {
        self.tick(now);
        self.publish_incoming();
        // Every turn asks at least once more than there are trains.
        let may_settle = !self.late_acks.is_empty() && !self.answer_expected;
        if self.has_transmit_work() || may_settle { self.poll_train(segments) } else { None }
    }

    #[inline(never)]
    fn poll_train(&mut self, segments: &mut [Segment]) -> Option<Transmit> {
        loop {
            if self.has_transmit_work() {
                if let Some(transmit) = self.next_train(segments) {
                    self.answer_expected = false;
                    return Some(transmit);
                }
            }
            // What was put off may have to be settled first: once, since nothing is left of it then.
            if self.answer_expected || !self.settle() {
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
        self.data_train(segments)
    }

    /// All that goes before data.
    #[inline(never)]
    fn answer_train(&mut self, segments: &mut [Segment]) -> Option<Transmit> {
        self.decide_grants();
        if let Some(transmit) = self.control_train(segments) {
            return Some(transmit);
        }
        self.grant_train(segments)
    }

    /// Is there anything to send, now or when the pacer lets it?
    #[inline]
    pub(crate) fn has_transmit_work(&self) -> bool {
        !self.pacer.is_empty() || !self.only_paced_work()
    }

    /// Is there nothing to send but data that the pacer may hold back?
    #[inline]
    pub(crate) fn only_paced_work(&self) -> bool {
        self.control.is_empty() && !self.granter.has_work()
    }

    fn decide_grants(&mut self) {
        if self.granter.has_work() {
            let limits = self.grant_limits();
            self.granter.run(&mut self.rpcs, &mut self.memory, &self.config, &limits);
            self.publish_incoming();
        }
    }

    /// Tells the other engines of this host how much this one has granted. Messages also end without work for the
    /// granter.
    fn publish_incoming(&mut self) {
        let total = self.granter.total_incoming();
        if total != self.published_incoming {
            if let Some(slot) = &self.budget_slot {
                self.budget.set_incoming(*slot, total);
                self.published_incoming = total;
            }
        }
    }

    /// What the driver is to send, if the train has got any segments: it is accounted for as sent.
    fn finish(&mut self, train: &Train<'_>) -> Option<Transmit> {
        if train.count == 0 {
            return None;
        }
        let coalesced = train.is_datagram();
        self.stats.trains_sent.inc();
        self.stats.packets_sent.inc_by(train.count as u64);
        let link_bytes = link_bytes(u64::from(train.total_bytes), train.count, coalesced);
        let control =
            |first: &Segment| matches!(first.kind, SegmentKind::Control | SegmentKind::Grant);
        let control = train.segments.first().is_some_and(control);
        self.pacer.charge(self.now, link_bytes, control, &self.config);
        if let Some(peer) = self.peers.get_mut(train.peer).filter(|peer| !peer.validation.is_done())
        {
            let sent = train.segments.get(..train.count).unwrap_or(&[]);
            let (bytes, control_bytes) = bytes_to_client(sent);
            peer.validation.sent(bytes, control_bytes);
        }
        let class = self.config.priority_map.get(usize::from(train.priority)).copied().unwrap_or(0);
        Some(Transmit {
            path: train.path,
            priority: train.priority,
            dscp: class << 3,
            segments: train.count,
            segment_bytes: if coalesced { train.total_bytes } else { train.segment_bytes },
            total_bytes: train.total_bytes,
            coalesced,
        })
    }

    /// A train for the end of `path`, where `peer` is.
    fn train<'a>(
        &self,
        segments: &'a mut [Segment],
        path: &Path,
        peer: Option<u32>,
        priority: u8,
        limit_bytes: u32,
    ) -> Train<'a> {
        let found = peer.and_then(|peer| self.peers.known(peer));
        let datagram_bytes = match path.carriage {
            Carriage::Udp => {
                found.map_or(DATAGRAM_ALWAYS_FITS, |peer| peer.datagram_bytes(&self.config))
            }
            _ => 0,
        };
        Train::new(segments, path, peer, priority, limit_bytes, datagram_bytes)
    }

    pub(crate) fn top_priority(&self) -> u8 {
        self.config.num_priorities.saturating_sub(1)
    }

    fn control_train(&mut self, segments: &mut [Segment]) -> Option<Transmit> {
        while let Some(entry) = self.control.pop_front() {
            let peer = self.peer_of(&entry.path);
            let room = self.control_room(peer, &entry);
            let mut train = self.train(&mut *segments, &entry.path, peer, entry.priority, room);
            match entry.body {
                ControlBody::Packet(header) if header.encoded_bytes() > room as usize => {
                    self.withhold_control();
                }
                ControlBody::Packet(header) => {
                    train.push(&header, None, (0, 0), 0, SegmentKind::Control);
                    self.more_control(&mut train);
                }
                ControlBody::Missing { rpc, upto, may_be_late } => {
                    self.missing_train(&mut train, rpc, upto, may_be_late);
                }
            }
            if let Some(transmit) = self.finish(&train) {
                return Some(transmit);
            }
        }
        None
    }

    /// Bytes of control packets that may go to the end of `path` now. A server sends a peer that has not proved its
    /// address no more of them than came from it: a forged sender must not draw questions to others. (A client has chosen
    /// its peer itself.)
    fn control_room(&self, peer: Option<u32>, entry: &Control) -> u32 {
        let from_server = match &entry.body {
            ControlBody::Packet(header) => RpcId(header.common.sender_id).is_server(),
            ControlBody::Missing { rpc, .. } => self
                .rpcs
                .resolve(*rpc)
                .and_then(|index| self.rpcs.known(index))
                .is_some_and(|rpc| !rpc.is_client()),
        };
        let limited = from_server && entry.path.carriage == Carriage::Udp;
        match peer
            .and_then(|peer| self.peers.known(peer))
            .filter(|peer| limited && !peer.validation.is_done())
        {
            Some(peer) => u32::try_from(peer.validation.control_room()).unwrap_or(u32::MAX),
            None => u32::MAX,
        }
    }

    fn withhold_control(&mut self) {
        self.stats.control_withheld.inc();
    }

    /// Adds the control packets that follow in the queue, as long as they fit.
    fn more_control(&mut self, train: &mut Train<'_>) {
        while let Some(Control { path, priority, body: ControlBody::Packet(header) }) =
            self.control.front()
        {
            let bytes = u32::try_from(header.encoded_bytes()).unwrap_or(u32::MAX);
            if !train.goes(path, *priority) || train.fits(bytes, false).is_none() {
                return;
            }
            train.push(header, None, (0, 0), 0, SegmentKind::Control);
            self.control.pop_front();
        }
    }

    /// RESENDs for every gap of a message and for its missing end below `upto`, as far as
    /// [`Engine::questions`] lets.
    fn missing_train(&mut self, train: &mut Train<'_>, key: RpcKey, upto: u32, may_be_late: bool) {
        let room_bytes = self.room_for_copies();
        let Some(rpc) = self.rpcs.resolve(key).and_then(|index| self.rpcs.known(index)) else {
            return;
        };
        let rx = &rpc.rx;
        let priority = self.top_priority();
        let words = self.speaks_own(rpc).then_some((Reason::None, 0));
        let mut questions = self.questions(rx, room_bytes, may_be_late);
        let mut ask = |start: u32, length: u32| {
            let body = Body::Resend(Resend { offset: start, length, priority });
            let header = self.control_header(&rpc.path, rpc.id, body, words);
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
            let (highest, end) = (rx.data.highest(), rx.granted_told.min(upto));
            if highest < end {
                if let Some(length) = questions.next(end.saturating_sub(highest)) {
                    tails += u64::from(ask(highest, length));
                }
            }
        }
        self.asked_bytes = self.asked_bytes.saturating_add(questions.asked_bytes);
        self.stats.resends_gap_sent.inc_by(gaps);
        self.stats.resends_tail_sent.inc_by(tails);
        self.stats.resends_all_sent.inc_by(all);
    }

    fn grant_train(&mut self, segments: &mut [Segment]) -> Option<Transmit> {
        let priority = self.top_priority();
        let (first, room) = self.next_grant()?;
        let rpc = self.rpcs.known(first)?;
        let mut train = self.train(segments, &rpc.path, Some(rpc.peer), priority, room);
        let mut next = Some(first);
        while let Some(index) = next {
            let Some(rpc) = self.rpcs.known(index) else {
                break;
            };
            let body = Body::Grant(Grant { offset: rpc.rx.granted, priority: rpc.rx.priority });
            let upto = rpc.rx.data.contiguous();
            let words = self.speaks_own(rpc).then_some((Reason::None, upto));
            let header = self.control_header(&rpc.path, rpc.id, body, words);
            let bytes = u32::try_from(header.encoded_bytes()).unwrap_or(u32::MAX);
            if !train.goes(&rpc.path, priority) || train.fits(bytes, false).is_none() {
                if let Some(rpc) = self.rpcs.known_mut(index) {
                    self.granter.mark_due(rpc);
                }
                break;
            }
            train.push(&header, Some(rpc.key), (0, 0), 0, SegmentKind::Grant);
            if let Some(rpc) = self.rpcs.known_mut(index) {
                // Until now the sender may have had nothing to send: its silence begins here. A silent
                // sender gets few GRANTs, so that this cannot go on for ever.
                rpc.last_heard = self.now;
                rpc.progress_at = self.now;
                rpc.rx.granted_told = rpc.rx.granted;
            }
            self.stats.grants_sent.inc();
            self.watch_grant(index);
            next = self.granter.pop_due(&mut self.rpcs);
        }
        self.finish(&train)
    }

    /// The next message to send a GRANT for, and the bytes of GRANTs that may go to its sender. A client that still has to
    /// prove its address gets the GRANT after the proof.
    fn next_grant(&mut self) -> Option<(u32, u32)> {
        loop {
            let index = self.granter.pop_due(&mut self.rpcs)?;
            let rpc = self.rpcs.known(index)?;
            let room = match self.peers.get(rpc.peer).filter(|peer| must_prove(rpc, peer)) {
                Some(peer) => u32::try_from(peer.validation.control_room()).unwrap_or(u32::MAX),
                None => u32::MAX,
            };
            if room >= GRANT_BYTES {
                return Some((index, room));
            }
            self.withhold_control();
            self.watch_grant(index);
        }
    }

    /// Data: the best-ranked message first (or the oldest, in its share), then others to the same
    /// destination, in order of rank, as long as their segments fit.
    fn data_train(&mut self, segments: &mut [Segment]) -> Option<Transmit> {
        let only_short = self.now < self.pacer.ready_at(&self.config);
        loop {
            let index = self.pacer.choose(only_short, &self.config)?;
            let Some(rpc) = self.rpcs.living(index) else {
                self.pacer.remove(index);
                continue;
            };
            let limit = self.pacer.quantum_bytes(&self.config);
            // Its first segment decides on the priority.
            let mut train = self.train(&mut *segments, &rpc.path, Some(rpc.peer), 0, limit);
            self.append_data(&mut train, index);
            if train.count == 0 {
                // Nothing of the chosen message could go (it is blocked at its peer now): the next one.
                self.pacer.remove(index);
                continue;
            }
            let mut last = index;
            while let Some(next) = self.pacer.best(only_short).filter(|best| *best != last) {
                if self.rpcs.known(next).is_none_or(|rpc| rpc.path != train.path) {
                    break;
                }
                self.append_data(&mut train, next);
                last = next;
            }
            return self.finish(&train);
        }
    }

    /// Adds as many segments of one message, whose path is that of the train, as fit.
    #[inline(never)]
    fn append_data(&mut self, train: &mut Train<'_>, index: u32) {
        while self.append_copy(train, index) {}
        while self.append_segment(train, index) {}
    }

    /// Adds the next segment that a message has to send again. `false`: there is none, or it does not fit.
    #[inline]
    fn append_copy(&mut self, train: &mut Train<'_>, index: u32) -> bool {
        match self.rpcs.known(index) {
            Some(rpc) if !rpc.tx.retransmit.is_empty() => self.append_next_copy(train, index),
            _ => false,
        }
    }

    #[inline(never)]
    fn append_next_copy(&mut self, train: &mut Train<'_>, index: u32) -> bool {
        let Some(rpc) = self.rpcs.known_mut(index).filter(|rpc| rpc.is_sending()) else {
            return false;
        };
        let Some(peer) = self.peers.known_mut(rpc.peer) else {
            return false;
        };
        let Some((start, end)) = rpc.tx.next_retransmit(peer.payload_max(&self.config)) else {
            return false;
        };
        let (payload, priority) = (end.saturating_sub(start), rpc.tx.retransmit_priority);
        let bytes = wire_bytes(payload);
        let after = u64::from(train.total_bytes).saturating_add(u64::from(bytes));
        let exhausted = must_prove(rpc, peer) && peer.validation.room() < after;
        // A server that has forgotten the request meanwhile would execute it again.
        let forgotten = rpc.is_client() && self.pauses.may_be_forgotten(rpc.tx.copies_since);
        if exhausted || forgotten {
            // It gets no more: it will ask again.
            rpc.tx.retransmit.clear();
            self.copies_sent(index);
            return false;
        }
        if train.count == 0 {
            train.priority = priority;
        }
        if train.fits(bytes, false).is_none() || !train.takes(priority, bytes) {
            return false;
        }
        let header = data_header(rpc, peer, (start, end), true, self.now);
        train.push(&header, Some(rpc.key), (start, end), 0, SegmentKind::Retransmission);
        train.note_priority(priority);
        rpc.tx.retransmit.pop_front(payload);
        let done = rpc.tx.retransmit.is_empty();
        self.stats.bytes_retransmitted.inc_by(u64::from(payload));
        self.pacer.account(index, payload, &self.config);
        if done {
            self.copies_sent(index);
        } else {
            self.schedule(index);
        }
        true
    }

    /// Nothing is left to be sent again of a message: its peer has time to react from now on.
    fn copies_sent(&mut self, index: u32) {
        if let Some(rpc) = self.rpcs.known_mut(index) {
            rpc.last_heard = self.now;
        }
        self.schedule(index);
        self.arm(index, nanos(self.config.resend_interval));
    }

    /// Adds the next new segment of a message. `false`: no other can follow now, or it does not fit or has to wait.
    #[inline]
    fn append_segment(&mut self, train: &mut Train<'_>, index: u32) -> bool {
        let may_go = |rpc: &&mut Rpc| {
            rpc.tx.has_unsent() && !rpc.blocked_on_peer && rpc.tx.retransmit.is_empty()
        };
        let Some(rpc) = self.rpcs.known_mut(index).filter(may_go) else {
            return false;
        };
        let Some(peer) = self.peers.known_mut(rpc.peer) else {
            return false;
        };
        let own = rpc.own && peer.is_own();
        let begins = rpc.tx.sent == 0;
        if begins {
            peer.path_mtu.retry(self.now);
        }
        let payload_max = peer.payload_max(&self.config);
        let priority = rpc.new_data_priority(peer, &self.config);
        if begins {
            rpc.tx.segment_bytes = payload_max;
            rpc.tx.first_priority = priority;
        }
        rpc.tx.whole_segments |= !own;
        let Some((start, end)) = rpc.tx.next_new(payload_max) else {
            return false;
        };
        let bytes = wire_bytes(end.saturating_sub(start));
        let paddable = own && end == rpc.tx.length;
        if train.count == 0 {
            train.priority = priority;
        }
        let Some(padding) = train.fits(bytes, paddable).filter(|_| train.takes(priority, bytes))
        else {
            return false;
        };
        peer.in_flight.end_admission(&mut rpc.charge);
        match admission(rpc, peer, (start, end), train.total_bytes, &self.config) {
            Admission::Free => {}
            Admission::Charged(cost) => {
                peer.in_flight.charge(&mut rpc.charge, cost, train.priority);
                peer.in_flight.set_probe_target(&rpc.path, rpc.id);
            }
            Admission::Wait { unproved } => {
                self.wait_at_peer(index, unproved);
                return false;
            }
        }
        let header = data_header(rpc, peer, (start, end), false, self.now);
        train.push(&header, Some(rpc.key), (start, end), padding, SegmentKind::Data);
        train.note_priority(priority);
        self.note_sent(index, start, end)
    }

    /// A message may not be sent now: it waits at its peer for room, or until the peer has proved its address.
    fn wait_at_peer(&mut self, index: u32, unproved: bool) {
        let Some(rpc) = self.rpcs.known(index) else {
            return;
        };
        let (peer_index, key) = (rpc.peer, (rpc.tx.remaining(), rpc.birth));
        let (server, path, id) = (!rpc.is_client(), rpc.path, rpc.id);
        if unproved {
            // Asking lets the client prove its address: at once, since its answer waits for that.
            if let Some(peer) = self.peers.known_mut(peer_index) {
                peer.in_flight.set_probe_target(&path, id);
            }
            let now = self.now;
            self.arm_peer(peer_index, now);
        }
        let Some(peer) = self.peers.known_mut(peer_index) else {
            return;
        };
        let blocked = peer.blocked.set(&mut self.blocked_positions, index, key).is_ok();
        if server {
            self.arm(index, nanos(self.config.response_silence));
        }
        if let Some(rpc) = self.rpcs.known_mut(index) {
            rpc.blocked_on_peer = blocked;
        }
        self.pacer.remove(index);
        if !blocked {
            // No memory to wait in the queue: its timer tries again.
            self.arm(index, nanos(self.config.resend_interval));
        }
        self.arm_blocked_probe(peer_index);
    }

    /// New data left. `false`: that was all that may be sent.
    #[inline]
    fn note_sent(&mut self, index: u32, start: u32, end: u32) -> bool {
        let bytes = end.saturating_sub(start);
        self.stats.bytes_sent.inc_by(u64::from(bytes));
        let Some(rpc) = self.rpcs.known_mut(index) else {
            return false;
        };
        rpc.tx.sent = end;
        if rpc.first_sent.is_none() {
            rpc.first_sent = Some(self.now);
            // A server that is not asked in our own profile does not say how old its life is.
            if rpc.is_client() {
                let life = self.peers.known(rpc.peer).map_or(0, |peer| peer.incarnation);
                rpc.peer_life = if rpc.own { life } else { 0 };
            }
        }
        rpc.last_heard = self.now;
        rpc.progress_at = self.now;
        let idle = rpc.tx.is_idle();
        let interval_ns = rpc.resend.interval_ns();
        self.pacer.account(index, bytes, &self.config);
        if idle {
            self.pacer.remove(index);
            self.arm(index, interval_ns);
        } else {
            self.pacer.follow(rpc, &self.config);
        }
        !idle
    }

    pub(crate) fn unscheduled_priority(&self, index: u32) -> u8 {
        let rpc = self.rpcs.known(index);
        let found = rpc.and_then(|rpc| Some((rpc, self.peers.known(rpc.peer)?)));
        found.map_or(0, |(rpc, peer)| rpc.unscheduled_priority(peer, &self.config))
    }

    /// Longest payload of a DATA packet to the peer.
    pub(crate) fn payload_max(&self, peer: u32) -> u32 {
        let no_peer = TRAIN_BYTES_MAX.saturating_sub(wire_bytes(0));
        self.peers.known(peer).map_or(no_peer, |peer| peer.payload_max(&self.config))
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
        counter.inc();
        let unsent =
            segments.get(first_unsent..transmit.segments.min(segments.len())).unwrap_or(&[]);
        let bytes = unsent
            .iter()
            .map(|segment| u64::from(segment.wire_bytes()))
            .fold(0, u64::saturating_add);
        let link_bytes = link_bytes(bytes, unsent.len(), transmit.coalesced);
        self.pacer.refund(link_bytes, &self.config);
        self.stats.packets_sent = self.stats.packets_sent.saturating_sub(unsent.len() as u64);
        let peer = self.peer_of(&transmit.path).and_then(|peer| self.peers.known_mut(peer));
        if let Some(peer) = peer.filter(|peer| !peer.validation.is_done()) {
            let (bytes, control_bytes) = bytes_to_client(unsent);
            peer.validation.not_sent(bytes, control_bytes);
        }
        if let TransmitError::TooBig(mtu) = why {
            let mtu = if mtu == 0 { MTU_MIN } else { mtu };
            self.path_changed(now, transmit.path, mtu, None);
        }
        for segment in unsent.iter().rev() {
            match why {
                TransmitError::NoRoom | TransmitError::TooBig(_) => {
                    self.put_back(transmit.path, transmit.priority, segment)
                }
                TransmitError::Unreachable => {
                    self.lost_destination(segment, FailReason::HostUnreachable)
                }
                TransmitError::Refused => self.lost_destination(segment, FailReason::Refused),
            }
        }
    }

    fn put_back(&mut self, path: Path, priority: u8, segment: &Segment) {
        let index = segment.rpc.and_then(|key| self.rpcs.resolve(key));
        match segment.kind {
            SegmentKind::Control => {
                let bytes = u32::from(segment.header_bytes);
                if let Ok(header) = Header::parse(segment.header(), bytes) {
                    let body = ControlBody::Packet(header);
                    self.control.push_front(Control { path, priority, body });
                }
            }
            SegmentKind::Grant => {
                if let Some(rpc) = index.and_then(|index| self.rpcs.known_mut(index)) {
                    self.granter.mark_due(rpc);
                }
            }
            SegmentKind::Data | SegmentKind::Retransmission => {
                if let Some(index) = index {
                    self.put_back_ack(index, segment);
                    self.put_back_data(index, segment);
                }
            }
        }
    }

    /// The acknowledgement that a segment took along waits for another.
    fn put_back_ack(&mut self, index: u32, segment: &Segment) {
        let header = Header::parse(segment.header(), segment.wire_bytes());
        let Ok(Header { body: Body::Data(data), .. }) = header else {
            return;
        };
        // The RPC may be over, and its peer forgotten.
        let peer = self.rpcs.known(index).and_then(|rpc| self.peers.get_mut(rpc.peer));
        if let (Some(peer), Some(ack)) = (peer, data.acknowledged()) {
            let AckEntry { client_id, server_port } = ack;
            // There is room where it was.
            let _ = peer.acks.push(PendingAck { client_id, server_port });
        }
    }

    fn put_back_data(&mut self, index: u32, segment: &Segment) {
        let Some(rpc) = self.rpcs.known_mut(index).filter(|rpc| rpc.state != State::Dead) else {
            return;
        };
        let (start, end) = (segment.payload.start, segment.payload.end);
        let bytes = end.saturating_sub(start);
        if segment.kind == SegmentKind::Data && rpc.tx.sent == end && rpc.state == State::Outgoing {
            rpc.tx.sent = start;
            if start < rpc.tx.unscheduled {
                if let Some(peer) = self.peers.known_mut(rpc.peer) {
                    let cost = bytes.saturating_add(CHARGE_PER_PACKET);
                    peer.in_flight.take_back(&mut rpc.charge, cost);
                }
            }
            self.stats.bytes_sent = self.stats.bytes_sent.saturating_sub(u64::from(bytes));
            self.schedule(index);
        } else {
            rpc.tx.put_retransmission_back(start, end);
            self.schedule(index);
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

/// Bytes of a GRANT packet of this implementation.
const GRANT_BYTES: u32 = (PacketType::Grant.header_bytes() + EXTENSION_BYTES) as u32;

/// The header of one DATA segment; it takes an acknowledgement along that waits at the peer.
#[inline]
fn data_header(rpc: &Rpc, peer: &mut Peer, range: (u32, u32), again: bool, now: Instant) -> Header {
    let own = rpc.own && peer.is_own();
    let unscheduled = rpc.tx.unscheduled;
    let ack = peer.acks.pop().map_or(AckEntry::NONE, |ack| AckEntry {
        client_id: ack.client_id,
        server_port: ack.server_port,
    });
    let mut common = Common::data(rpc.path.local_port, rpc.path.remote.port(), rpc.id, range.0);
    if own {
        common = common.with_own_profile(peer.ours);
    }
    let data = Data {
        message_length: rpc.tx.length,
        incoming: if again { unscheduled.max(range.1) } else { unscheduled },
        ack,
        cutoff_version: peer.echoed_cutoff_version(now),
        retransmit: u8::from(again),
        echo: match (own, rpc.is_client()) {
            (false, _) => 0,
            (true, true) => peer.incarnation,
            (true, false) => rpc.peer_life,
        },
        seg_offset: range.0,
    };
    Header { common, body: Body::Data(data), extension: None }
}

impl Rpc {
    /// Level of the next new segment of the outgoing message.
    fn new_data_priority(&self, peer: &Peer, config: &Config) -> u8 {
        if self.tx.sent < self.tx.unscheduled {
            self.unscheduled_priority(peer, config)
        } else {
            self.tx.scheduled_priority
        }
    }

    fn unscheduled_priority(&self, peer: &Peer, config: &Config) -> u8 {
        let by_cutoffs = || peer.cutoffs.priority(self.tx.length, config.num_priorities);
        self.priority_hint.unwrap_or_else(by_cutoffs)
    }
}

impl Peer {
    /// Longest payload of a DATA packet to it.
    fn payload_max(&self, config: &Config) -> u32 {
        let packet = self.packet_bytes_max(config).min(TRAIN_BYTES_MAX);
        packet.saturating_sub(wire_bytes(0)).max(1)
    }
}

/// What packets of `bytes` in all take on the link.
fn link_bytes(bytes: u64, packets: usize, coalesced: bool) -> u64 {
    let datagrams = if coalesced { packets.min(1) } else { packets };
    bytes.saturating_add((datagrams as u64).saturating_mul(LINK_OVERHEAD_BYTES))
}

/// Bytes that a server sends, and those of control packets among them: what a client may have asked for in somebody
/// else's name. Requests of ours nobody asked for.
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
