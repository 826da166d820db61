//! Plays what one recorded host was sent into an engine that takes its place. Its application
//! begins the calls and gives the answers when the recorded one did.
//!
//! The packets are played at their times, whether or not the engine has sent what they answered in
//! the recording. An engine that grants later than the recorded host is sent data beyond its
//! grants, as hosts that complete a large packet do too; one that sends sooner is granted what it
//! has been waiting for. An answer whose time has come waits until its request is complete. So
//! every packet of the recording counts, and a packet that was lost behind the point of recording
//! reaches the engine: its RPC completes before the recorded one did.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use homa_core::{
    Carriage, Config, CutoffSource, Cutoffs, DropReason, Engine, Event, FailReason, HostBudget,
    IcmpKind, Instant, Path, PortOptions, Received, RequestOptions, ResponseOptions, RpcKey,
    RxMeta, Segment,
};
use homa_wire::{AckEntry, Body, Common, HEADER_MAX, Header};

use super::checks::{Ranges, View, check_control, check_data, check_format};
use super::frames::{Content, Frame, Icmp, Packet};
use super::story::{CallKey, Story, call_key, data_range};
use crate::harness::{MS, Sent, drain, engine};

const BEGIN_NS: u64 = 1_000 * MS;

/// A control packet in the recording, the answer of the recorded host and that of the engine.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Answer {
    pub(crate) question: &'static str,
    pub(crate) recorded: String,
    pub(crate) ours: String,
}

/// What happens on the side of the engine's host.
#[derive(Clone, Debug)]
enum Step {
    Play(usize),
    Begin(CallKey),
    Answer(CallKey),
    Close(u16),
}

pub(crate) struct Player<'a> {
    story: &'a Story,
    /// The host whose place the engine takes.
    host: IpAddr,
    engine: Engine,
    now_ns: u64,
    mtu: u32,
    unscheduled: u32,
    segments: Vec<Segment>,
    pub(crate) views: BTreeMap<CallKey, View>,
    keys: BTreeMap<RpcKey, CallKey>,
    live: BTreeMap<CallKey, RpcKey>,
    /// Recorded ids of calls of this host to those of the engine, and back.
    ids: BTreeMap<u64, u64>,
    recorded_ids: BTreeMap<u64, u64>,
    bodies: BTreeMap<CallKey, Vec<u8>>,
    /// Cutoffs that the engine was told, per peer.
    cutoffs: BTreeMap<SocketAddr, homa_wire::Cutoffs>,
    closed: BTreeSet<u16>,
    /// Answers whose time has come before their request was complete.
    due: BTreeSet<CallKey>,
    pub(crate) answers: Vec<Answer>,
    /// Whether the bytes of the messages follow the formula of the shared recordings.
    pub(crate) patterned: bool,
    /// Says of each frame by its number whether it gets lost.
    pub(crate) lost: Box<dyn Fn(usize) -> bool>,
}

impl<'a> Player<'a> {
    pub(crate) fn new(story: &'a Story, host: IpAddr) -> Self {
        let unscheduled = story.unscheduled_bytes(host);
        let config = Config::default().with(|config| {
            config.unscheduled.bytes = unscheduled;
            config.priorities.cutoffs = CutoffSource::Fixed(Cutoffs::default());
        });
        Self {
            story,
            host,
            engine: engine(config, HostBudget::local(), 11),
            now_ns: BEGIN_NS,
            mtu: story.mtu(host),
            unscheduled,
            segments: vec![Segment::EMPTY; 64],
            views: BTreeMap::new(),
            keys: BTreeMap::new(),
            live: BTreeMap::new(),
            ids: BTreeMap::new(),
            recorded_ids: BTreeMap::new(),
            bodies: BTreeMap::new(),
            cutoffs: BTreeMap::new(),
            closed: BTreeSet::new(),
            due: BTreeSet::new(),
            answers: Vec::new(),
            patterned: false,
            lost: Box::new(|_| false),
        }
    }

    /// Plays the whole recording; afterwards nothing of it may be left behind.
    pub(crate) fn run(&mut self) {
        for (at_ns, _, step) in self.steps() {
            self.advance(BEGIN_NS + at_ns);
            match step {
                Step::Play(number) if (self.lost)(number) => {}
                Step::Play(number) => self.play(number),
                Step::Begin(key) => self.begin(key),
                Step::Answer(key) => {
                    self.due.insert(key);
                    self.answer_due();
                }
                Step::Close(port) => {
                    self.closed.insert(port);
                    self.engine.close_port(self.now(), port);
                }
            }
            self.settle();
        }
        self.advance(self.now_ns + 50 * MS);
    }

    /// Lets the engine come to rest and checks that it holds nothing any more.
    pub(crate) fn rest(&mut self) {
        // A server that never answered was closed in the end.
        let unanswered: Vec<RpcKey> = self.live.values().copied().collect();
        for rpc in unanswered {
            let in_service =
                self.view_of(rpc).is_some_and(|view| !view.is_client && view.tx_length.is_none());
            if in_service {
                let ended = self.engine.abort(self.now(), rpc, FailReason::Rejected);
                assert_eq!(ended, Ok(()));
            }
        }
        self.advance(self.now_ns + 12_000 * MS);
        let stats = self.engine.stats();
        assert_eq!(stats.live_rpcs, 0, "RPCs are left");
        assert_eq!((stats.receive_memory_bytes, stats.incoming_bytes), (0, 0), "memory is left");
        assert_eq!(stats.peers_discovered, 0, "a Linux host was taken for one of ours");
        let before = stats.packets_sent;
        self.advance(self.now_ns + 10_000 * MS);
        assert_eq!(self.engine.stats().packets_sent, before, "it goes on sending");
    }

    fn now(&self) -> Instant {
        Instant::from_nanos(self.now_ns)
    }

    // What is to happen.

    fn steps(&mut self) -> Vec<(u64, u8, Step)> {
        let mut steps = Vec::new();
        let mut ports: BTreeMap<u16, bool> = BTreeMap::new();
        for (key, call) in &self.story.calls {
            if call.client.ip() == self.host && call.request.is_some() {
                ports.entry(call.client.port()).or_default();
                steps.push((call.begins_ns.unwrap_or(0), 1, Step::Begin(*key)));
            }
            if call.server.ip() == self.host {
                ports.insert(call.server.port(), true);
                if let Some(at_ns) = call.answers_ns {
                    steps.push((at_ns, 1, Step::Answer(*key)));
                }
            }
        }
        for (number, frame) in self.story.frames.iter().enumerate() {
            let from_other = frame.target == self.host && frame.source != self.host;
            if from_other {
                steps.push((frame.at_ns, 2, Step::Play(number)));
            }
            if let Some((port, at_ns)) = self.closing(frame) {
                steps.push((at_ns, 0, Step::Close(port)));
            }
        }
        for (port, serves) in ports {
            let options = if serves { PortOptions::SERVE } else { PortOptions::CLIENT };
            self.engine.bind_port(port, options).expect("ports differ");
        }
        steps.sort_by_key(|(at_ns, order, _)| (*at_ns, *order));
        steps
    }

    /// The recorded host says that nobody listens at a port (any more): from when on. Its port was
    /// open until the packet came that the error quotes.
    fn closing(&self, frame: &Frame) -> Option<(u16, u64)> {
        let Content::Icmp(icmp) = &frame.content else {
            return None;
        };
        let ours = icmp.quoted_target == self.host && icmp.kind == IcmpKind::PortUnreachable;
        let port = u16::from_be_bytes(icmp.quoted.get(2..4).filter(|_| ours)?.try_into().ok()?);
        let quoted = icmp.quoted.get(..28)?;
        let at_ns = self.story.frames.iter().find_map(|other| {
            let packet = other.packet().filter(|_| other.target == self.host)?;
            // The checksum may have been filled in on the way.
            let same = packet.bytes.get(..16) == quoted.get(..16)
                && packet.bytes.get(18..28) == quoted.get(18..28);
            same.then_some(other.at_ns)
        });
        Some((port, at_ns.unwrap_or(frame.at_ns)))
    }

    // The application of the recorded host.

    fn begin(&mut self, key: CallKey) {
        let call = self.story.calls[&key].clone();
        if self.closed.contains(&call.client.port()) {
            return;
        }
        let length = call.request.as_ref().map_or(1, |message| message.length);
        let path = self.path(call.client.port(), call.server);
        let options = RequestOptions::default();
        let rpc = self.engine.send_request(self.now(), path, length, 0, options);
        let rpc = rpc.unwrap_or_else(|error| panic!("{key:?}: {error}"));
        let mut view = View::new(call.clone(), true);
        view.begin_sending(length, self.unscheduled);
        self.views.insert(key, view);
        self.keys.insert(rpc, key);
        self.live.insert(key, rpc);
        self.tell_earlier_cutoffs(call.client.port(), call.server, 1);
        self.hand_out_events();
        self.learn_id(key);
    }

    /// The engine's id for a call is in its first packet.
    fn learn_id(&mut self, key: CallKey) {
        for sent in self.drain_raw() {
            let id = sent.header.common.sender_id;
            if id & 1 == 0
                && !self.recorded_ids.contains_key(&id)
                && matches!(sent.header.body, Body::Data(_))
            {
                self.ids.insert(key.1, id);
                self.recorded_ids.insert(id, key.1);
            }
            self.check(&sent, None);
        }
        assert!(self.ids.contains_key(&key.1), "a request leaves at once");
    }

    /// What the recorded host had been told before the recording began.
    fn tell_earlier_cutoffs(&mut self, local_port: u16, remote: SocketAddr, id: u64) {
        if self.cutoffs.contains_key(&remote) {
            return;
        }
        if let Some(cutoffs) = self.story.earlier_cutoffs(self.host, remote.ip()) {
            let common = Common::control(remote.port(), local_port, id);
            let header = Header { common, body: Body::Cutoffs(cutoffs), extension: None };
            let meta = RxMeta::new(self.path(local_port, remote));
            let mut bytes = [0; HEADER_MAX];
            let length = header.encode(&mut bytes).expect("it fits");
            let received =
                self.engine.handle_packet(self.now(), &meta, &bytes[..length], length as u32);
            assert_eq!(received, Received::Consumed);
            self.cutoffs.insert(remote, cutoffs);
        }
    }

    fn answer_due(&mut self) {
        for key in self.due.clone() {
            let Some(view) = self.views.get_mut(&key).filter(|view| view.arrived && !view.failed)
            else {
                continue;
            };
            let Some(rpc) = self.live.get(&key).copied() else {
                self.due.remove(&key);
                continue;
            };
            let length =
                self.story.calls[&key].response.as_ref().map_or(1, |message| message.length);
            view.begin_sending(length, self.unscheduled);
            self.due.remove(&key);
            let now = self.now();
            let sent = self.engine.send_response(now, rpc, length, ResponseOptions::default());
            assert_eq!(sent, Ok(()), "{key:?}");
        }
    }

    // The network.

    fn path(&self, local_port: u16, remote: SocketAddr) -> Path {
        Path { remote, local_ip: Some(self.host), local_port, interface: 0, carriage: Carriage::Ip }
    }

    fn play(&mut self, number: usize) {
        let frame = &self.story.frames[number];
        match &frame.content {
            Content::Homa(packet) => self.play_packet(number, frame, packet),
            Content::Icmp(icmp) => self.play_icmp(icmp),
        }
    }

    /// The packet with the engine's id in place of the recorded one.
    fn renamed(&self, packet: &Packet) -> Option<Vec<u8>> {
        let mut bytes = packet.bytes.clone();
        let id = packet.header.common.sender_id;
        if id & 1 == 1 {
            let ours = *self.ids.get(&(id & !1))? | 1;
            bytes[20..28].copy_from_slice(&ours.to_be_bytes());
        }
        Some(bytes)
    }

    fn play_packet(&mut self, number: usize, frame: &Frame, packet: &Packet) {
        let remote = SocketAddr::new(frame.source, packet.header.common.source_port);
        let local_port = packet.header.common.destination_port;
        let key = call_key(frame, packet);
        // About an RPC of before the recording: under its own id, which nobody knows.
        let bytes = self.renamed(packet).unwrap_or_else(|| packet.bytes.clone());
        let known = self.views.get(&key).cloned();
        let meta = RxMeta::new(self.path(local_port, remote));
        let shown = &bytes[..bytes.len().min(128)];
        let received = self.engine.handle_packet(self.now(), &meta, shown, packet.transport_len);
        self.note_received(key, remote, packet, &received);
        if let Received::Place(placement) = &received {
            self.place(key, placement, &bytes);
        }
        self.note_data(key, packet, &received);
        self.hand_out_events();
        if matches!(packet.header.body, Body::Data(_)) {
            self.tell_earlier_cutoffs(local_port, remote, packet.header.common.sender_id);
        }
        self.answer_due();
        let sent = self.drain_raw();
        let ours: Vec<&Sent> =
            sent.iter().filter(|sent| self.key_of(sent, remote) == key).collect();
        let reply = self.reply(&ours);
        for sent in &sent {
            self.check(sent, Some(remote));
        }
        if self.closed.contains(&local_port) {
            assert_eq!(received, Received::Dropped(DropReason::NoSuchPort), "{packet:?}");
            return;
        }
        self.compare(number, key, packet, known.as_ref(), reply);
    }

    /// What a packet tells about the RPC, before the engine reacts.
    fn note_received(
        &mut self,
        key: CallKey,
        remote: SocketAddr,
        packet: &Packet,
        received: &Received,
    ) {
        if let Body::Cutoffs(cutoffs) = packet.header.body {
            if *received == Received::Consumed {
                self.cutoffs.insert(remote, cutoffs);
            }
        }
        if let Body::Ack(ack) = &packet.header.body {
            for entry in ack.entries() {
                self.acknowledged((remote.ip(), entry.client_id));
            }
            self.acknowledged(key);
        }
        if let Body::Data(data) = &packet.header.body {
            if let Some(AckEntry { client_id, .. }) = data.acknowledged() {
                self.acknowledged((remote.ip(), client_id));
            }
        }
        let Some(view) = self.views.get_mut(&key) else {
            return;
        };
        let length = view.tx_length.unwrap_or(0);
        match &packet.header.body {
            Body::Grant(grant) if view.rx_length.is_none() || !view.is_client => {
                view.tx_granted = view.tx_granted.max(grant.offset.min(length));
                if view.tx_length.is_some() {
                    view.scheduled_priority = grant.priority;
                }
            }
            Body::Resend(resend) => {
                let end =
                    if resend.is_all() { 0 } else { resend.offset.saturating_add(resend.length) };
                view.tx_granted = view.tx_granted.max(end.min(length));
                view.resend_priorities.push(resend.priority);
                view.asked_ns.insert(resend.offset, self.now_ns);
                view.asked.add(
                    resend.offset.min(length),
                    if resend.is_all() { length } else { end.min(length) },
                );
            }
            Body::RpcUnknown => {
                view.told_unknown = true;
                view.asked.add(0, length);
                view.over |= !view.is_client;
            }
            _ => {}
        }
    }

    fn acknowledged(&mut self, key: CallKey) {
        if let Some(view) = self.views.get_mut(&key) {
            if !view.is_client && view.tx_length.is_some() {
                view.over = true;
            }
        }
    }

    /// The bytes that the engine wants stored are those of the message at this place.
    fn place(&mut self, key: CallKey, placement: &homa_core::Placement, bytes: &[u8]) {
        let call = &self.story.calls[&key];
        let is_client = call.client.ip() == self.host;
        let view = self.views.entry(key).or_insert_with(|| View::new(call.clone(), is_client));
        view.rx_length.get_or_insert(placement.message_length);
        assert_eq!(view.rx_length, Some(placement.message_length));
        self.live.entry(key).or_insert(placement.rpc);
        self.keys.entry(placement.rpc).or_insert(key);
        let (from, to) = (placement.packet.start as usize, placement.packet.end as usize);
        let start = placement.offset;
        let end = start + (to - from) as u32;
        assert!(!view.rx.overlaps(start, end), "bytes {start} to {end} are stored twice");
        view.rx.add(start, end);
        let body =
            self.bodies.entry(key).or_insert_with(|| vec![0; placement.message_length as usize]);
        let there = bytes.get(from..to.min(bytes.len())).unwrap_or(&[]);
        body[start as usize..start as usize + there.len()].copy_from_slice(there);
        if self.patterned && !there.is_empty() {
            let pattern = |at: u32| (31 * u64::from(at) + u64::from(at >> 8)) as u8;
            let seed = there[0].wrapping_sub(pattern(start));
            let expected = (start..).take(there.len()).map(|at| seed.wrapping_add(pattern(at)));
            assert!(expected.eq(there.iter().copied()), "bytes of {key:?} from {start} on");
        }
    }

    fn note_data(&mut self, key: CallKey, packet: &Packet, received: &Received) {
        let Body::Data(data) = &packet.header.body else {
            return;
        };
        let (start, end) = data_range(packet);
        let Some(view) = self.views.get_mut(&key) else {
            return;
        };
        view.rx_granted = view.rx_granted.max(data.incoming.min(data.message_length));
        if let Received::Dropped(reason) = received {
            let held = view.arrived || view.failed || view.over || {
                let before = view.rx.bytes();
                let mut with: Ranges = view.rx.clone();
                with.add(start, end);
                with.bytes() == before
            };
            assert!(held, "{start}..{end} of {key:?} was dropped: {reason:?}");
        }
    }

    fn play_icmp(&mut self, icmp: &Icmp) {
        let port = |at: usize| {
            icmp.quoted.get(at..at + 2).map(|bytes| u16::from_be_bytes([bytes[0], bytes[1]]))
        };
        let (Some(local_port), Some(remote_port)) = (port(0), port(2)) else {
            return;
        };
        let path = self.path(local_port, SocketAddr::new(icmp.quoted_target, remote_port));
        let mut quoted = icmp.quoted.clone();
        if let Some(id) = homa_wire::quoted_sender_id(&quoted) {
            if let Some(ours) = self.ids.get(&id).filter(|_| id & 1 == 0) {
                quoted[20..28].copy_from_slice(&ours.to_be_bytes());
            }
        }
        self.engine.icmp_error(self.now(), icmp.kind, path, &quoted);
        self.settle();
    }

    // The engine.

    fn advance(&mut self, to_ns: u64) {
        for _ in 0..1_000_000 {
            self.settle();
            let next_ns = self.engine.poll_timeout().map_or(to_ns, |(at, _)| at.as_nanos());
            if next_ns >= to_ns {
                self.now_ns = self.now_ns.max(to_ns);
                self.engine.handle_timeout(self.now(), true);
                return self.settle();
            }
            self.now_ns = next_ns.max(self.now_ns + 1);
            self.engine.handle_timeout(self.now(), true);
        }
        panic!("the engine's timers never let time pass");
    }

    fn settle(&mut self) {
        self.hand_out_events();
        self.answer_due();
        for sent in self.drain_raw() {
            self.check(&sent, None);
        }
        self.hand_out_events();
    }

    fn hand_out_events(&mut self) {
        while let Some(event) = self.engine.poll_event() {
            match event {
                Event::PeerAdded { path } => {
                    self.engine.path_changed(self.now(), path, self.mtu, None);
                }
                Event::RequestArrived { rpc, .. } | Event::RequestWhole { rpc, .. } => {
                    self.message_arrived(rpc)
                }
                Event::ResponseArrived { rpc, .. } | Event::ResponseWhole { rpc, .. } => {
                    self.message_arrived(rpc);
                    let length = self.view_of(rpc).and_then(|view| view.rx_length).unwrap_or(0);
                    let taken = self.engine.consumed(self.now(), rpc, length);
                    assert_eq!(taken, Ok(()));
                }
                Event::Failed { rpc, .. } => {
                    if let Some(view) = self.view_of(rpc) {
                        view.failed = true;
                    }
                }
                Event::Ended { rpc } | Event::ResponseDelivered { rpc, .. } => {
                    if let Some(key) = self.keys.remove(&rpc) {
                        self.live.remove(&key);
                        if let Some(view) = self.views.get_mut(&key) {
                            view.over = true;
                        }
                    }
                }
                _ => {}
            }
        }
    }

    fn view_of(&mut self, rpc: RpcKey) -> Option<&mut View> {
        let key = self.keys.get(&rpc)?;
        self.views.get_mut(key)
    }

    fn message_arrived(&mut self, rpc: RpcKey) {
        let view = self.view_of(rpc).expect("its bytes were placed");
        let length = view.rx_length.unwrap_or(0);
        assert!(view.rx.covers(length), "a message arrived that is not complete: {view:?}");
        assert!(!view.arrived, "it arrived twice");
        view.arrived = true;
    }

    fn drain_raw(&mut self) -> Vec<Sent> {
        let now = self.now();
        let sent = drain(&mut self.engine, now, &mut self.segments);
        assert!(sent.iter().all(|sent| sent.priority == sent.dscp >> 3), "identity map");
        sent
    }

    /// The recorded name of the RPC that a packet of the engine is about. Packets go to ports of
    /// `remote`'s host.
    fn key_of(&self, sent: &Sent, remote: SocketAddr) -> CallKey {
        let id = sent.header.common.sender_id;
        if id & 1 == 0 {
            (self.host, self.recorded_ids.get(&id).copied().unwrap_or(id))
        } else {
            (remote.ip(), id & !1)
        }
    }

    fn check(&mut self, sent: &Sent, remote: Option<SocketAddr>) {
        check_format(sent);
        let id = sent.header.common.sender_id;
        let known = if id & 1 == 0 {
            self.recorded_ids.get(&id).map(|id| (self.host, *id))
        } else {
            self.views.keys().find(|key| key.1 == id & !1 && key.0 != self.host).copied()
        };
        self.check_acks(sent);
        let Some(view) = known.and_then(|key| self.views.get_mut(&key)) else {
            let about_nothing =
                matches!(sent.header.body, Body::RpcUnknown | Body::Ack(_) | Body::Cutoffs(_));
            assert!(about_nothing, "about an RPC that is not known, from {remote:?}: {sent:?}");
            return;
        };
        let peer = if view.is_client { view.call.server } else { view.call.client };
        assert_eq!(sent.header.common.destination_port, peer.port(), "{sent:?}");
        let cutoffs = self.cutoffs.get(&peer);
        let (version, level) = match cutoffs {
            Some(cutoffs) => (cutoffs.version, level_of(&cutoffs.levels, view.tx_length)),
            None => (0, 6),
        };
        check_data(view, sent, level, version);
        let ahead_max = self.engine.config().grants.max_incoming_bytes;
        check_control(view, sent, ahead_max);
        if let Body::Resend(resend) = &sent.header.body {
            let interval_ns = self.engine.config().recovery.resend_interval.as_nanos() as u64;
            view.asks_for(resend.offset, sent.at_ns, interval_ns);
        }
        if let Body::Grant(grant) = &sent.header.body {
            view.rx_granted = view.rx_granted.max(grant.offset);
        }
    }

    /// Only complete responses are acknowledged, by packets to the port of their server.
    fn check_acks(&self, sent: &Sent) {
        let entries: Vec<AckEntry> = match &sent.header.body {
            Body::Data(data) => data.acknowledged().into_iter().collect(),
            Body::Ack(ack) => ack.entries().to_vec(),
            _ => return,
        };
        for entry in entries {
            let id = self.recorded_ids.get(&entry.client_id).expect("an id of the engine");
            let view = &self.views[&(self.host, *id)];
            assert!(view.arrived, "not complete: {sent:?}");
            assert_eq!(entry.server_port, view.call.server.port(), "{sent:?}");
            assert_eq!(entry.server_port, sent.header.common.destination_port, "{sent:?}");
        }
    }

    // Answers.

    /// What the engine sent at once, in one word.
    fn reply(&self, sent: &[&Sent]) -> String {
        let kinds: BTreeSet<&str> = sent
            .iter()
            .filter_map(|sent| match &sent.header.body {
                Body::Data(data) if !data.is_retransmission(&sent.header.common) => None,
                Body::Data(_) => Some("DATA again"),
                Body::Grant(_) => None,
                body => Some(body.packet_type().name()),
            })
            .collect();
        kinds.into_iter().collect::<Vec<_>>().join("+")
    }

    /// What the recorded host sent about the RPC before the next packet came for it.
    fn recorded_reply(&self, number: usize, key: CallKey) -> String {
        let mut kinds = BTreeSet::new();
        for frame in &self.story.frames[number + 1..] {
            let Some(packet) = frame.packet().filter(|packet| call_key(frame, packet) == key)
            else {
                continue;
            };
            if frame.target == self.host {
                break;
            }
            match &packet.header.body {
                Body::Data(data) if !data.is_retransmission(&packet.header.common) => {}
                Body::Data(_) => {
                    kinds.insert("DATA again");
                }
                Body::Grant(_) | Body::NeedAck => {}
                body => {
                    kinds.insert(body.packet_type().name());
                }
            }
        }
        kinds.into_iter().collect::<Vec<_>>().join("+")
    }

    /// Is a control packet answered as the state of the RPC demands? `known` is how it stood
    /// before.
    fn compare(
        &mut self,
        number: usize,
        key: CallKey,
        packet: &Packet,
        known: Option<&View>,
        reply: String,
    ) {
        let recorded = self.recorded_reply(number, key);
        let question = match &packet.header.body {
            Body::Resend(_) => "RESEND",
            Body::NeedAck => "NEED_ACK",
            Body::RpcUnknown => "RPC_UNKNOWN",
            Body::Ack(_) | Body::Busy => {
                assert!(reply.is_empty(), "{:?} was answered by {reply}", packet.header.body);
                return;
            }
            _ => return,
        };
        let mut due = expected(&packet.header.body, known);
        // A slow host is asked as often as a timeout has eighths, others more often.
        let lately_ns =
            self.now_ns.saturating_sub(self.engine.config().recovery.timeout.as_nanos() as u64 / 8);
        if question == "NEED_ACK" && known.is_some_and(|view| view.asked_since(lately_ns)) {
            due.push("");
        }
        // The same bytes are sent again once per resend interval.
        let interval_ns = self.engine.config().recovery.resend_interval.as_nanos() as u64;
        let twice = |view: &View| match &packet.header.body {
            Body::Resend(resend) => view
                .asked_ns
                .get(&resend.offset)
                .is_some_and(|asked_ns| self.now_ns < asked_ns + interval_ns),
            _ => false,
        };
        if known.is_some_and(twice) {
            due.push("");
        }
        assert!(
            due.contains(&reply.as_str()),
            "{question} was answered by {reply:?}, due was one of {due:?}; before: {known:?}"
        );
        self.answers.push(Answer { question, recorded, ours: reply });
    }
}

/// The priority of an unscheduled packet of a message (docs/spec/protocol.md §5).
fn level_of(levels: &[u32], length: Option<u32>) -> u8 {
    let length = length.unwrap_or(0);
    (1..8u8).rev().find(|level| levels[usize::from(*level)] >= length).unwrap_or(0)
}

/// What may answer a control packet about an RPC in this state (docs/spec/protocol.md §10, §11).
fn expected(question: &Body, known: Option<&View>) -> Vec<&'static str> {
    match (question, known) {
        (Body::Resend(_), None) => vec!["RPC_UNKNOWN"],
        (Body::Resend(_), Some(view)) if view.over => vec!["RPC_UNKNOWN"],
        (Body::Resend(_), Some(view)) if view.is_client && view.rx_length.is_some() => {
            vec!["", "DATA again", "BUSY"]
        }
        (Body::Resend(resend), Some(view)) => match view.tx_length {
            None => vec!["BUSY"],
            Some(_) if resend.offset >= view.tx_sent_upto => vec!["BUSY"],
            Some(_) => vec!["DATA again"],
        },
        (Body::NeedAck, None) => vec!["ACK"],
        (Body::NeedAck, Some(view)) if !view.is_client => vec!["RPC_UNKNOWN", "BUSY", "RESEND", ""],
        (Body::NeedAck, Some(view)) if view.arrived || view.over => vec!["ACK"],
        (Body::NeedAck, Some(_)) => vec!["RESEND", "BUSY"],
        (Body::RpcUnknown, Some(view))
            if view.is_client && !view.over && view.rx_length.is_none() =>
        {
            // Not again for each of several in a row.
            vec!["DATA again", ""]
        }
        _ => vec![""],
    }
}
