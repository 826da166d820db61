//! One engine under whatever its peers, its application, its driver and the clock may do. Its
//! contract holds, and when all fall silent everything ends.

mod ledger;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use homa_core::{
    Carriage, Engine, Event, FailReason, HostBudget, IcmpKind, Instant, Path, PeerSettings,
    PortOptions, Received, RequestOptions, ResponseOptions, RpcError, RxMeta, Segment, SendError,
    Transmit, TransmitError,
};
use homa_wire::{HEADER_MAX, Header, RpcId};

use crate::headers::{self, Near};
use crate::input::Input;
use crate::settings;
use ledger::Ledger;

const PORT: u16 = 2000;
const OTHER_PORT: u16 = 2001;
/// Bytes of a packet that an engine looks at.
const LOOK_BYTES: usize = 128;
/// Packets kept to be repeated, reflected or quoted.
const KEPT_PACKETS: usize = 32;
/// More calls than that without an end are a loop.
const ENDLESS: usize = 100_000;
/// Every timeout is over after this.
const SILENCE_MAX: Duration = Duration::from_secs(3600);
/// Steps of one input.
const STEPS_MAX: usize = 400;

/// Runs one engine through the steps that the input describes, then lets it come to rest.
pub fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let mut world = World::new(&mut input);
    let mut steps = 0;
    while !input.is_over() && steps < STEPS_MAX {
        world.step(&mut input);
        world.check();
        steps += 1;
    }
    world.settle();
}

/// The engine and all around it.
struct World {
    engine: Engine,
    carriage: Carriage,
    now: Instant,
    peers: Vec<Peer>,
    segments: Vec<Segment>,
    ledger: Ledger,
    /// What the application knows: lengths and offsets, to hit them again.
    numbers: VecDeque<u32>,
}

/// A peer as the engine sees it.
struct Peer {
    address: SocketAddr,
    incarnation: u32,
    /// The engine's number towards it, as far as it told.
    echo: u32,
    /// Packets from the engine and to it: header, and length on the wire.
    packets: VecDeque<(Vec<u8>, u32)>,
}

impl World {
    fn new(input: &mut Input<'_>) -> Self {
        let carriage = input.choose(&[Carriage::Udp, Carriage::Ip]);
        let config = settings::config(input);
        let mut engine = Engine::new(config, HostBudget::local(), u64::from(input.byte()))
            .expect("settings are within their ranges");
        engine.bind_port(PORT, PortOptions::SERVE).expect("it is free");
        let addresses = ["10.0.0.2:9000", "10.0.0.2:9001", "10.0.0.3:9000", "[fd00::4]:9000"];
        let peers = addresses.iter().zip(1000..).map(|(address, incarnation)| Peer {
            address: address.parse().expect("an address"),
            incarnation,
            echo: 0,
            packets: VecDeque::new(),
        });
        Self {
            engine,
            carriage,
            now: Instant::from_nanos(1_000_000_000),
            peers: peers.collect(),
            segments: vec![Segment::EMPTY; 1 + input.below(128)],
            ledger: Ledger::default(),
            numbers: VecDeque::from([100, 1388, 10_000]),
        }
    }

    fn path(&self, peer: usize, port: u16) -> Path {
        Path {
            remote: self.peers[peer].address,
            local_ip: None,
            local_port: port,
            interface: 0,
            carriage: self.carriage,
        }
    }

    fn step(&mut self, input: &mut Input<'_>) {
        match input.below(32) {
            0..=8 => self.crafted_packet(input),
            9 | 10 => self.known_packet(input),
            11 => {
                let peer = input.below(self.peers.len());
                let length = input.below(LOOK_BYTES);
                let bytes = input.bytes(length);
                let length = input.number(&[bytes.len() as u32]);
                self.receive(peer, bytes, length);
            }
            12..=14 => self.call(input),
            15 | 16 => self.answer(input),
            17 => self.about_an_rpc(input),
            18..=20 => self.transmit(input),
            21 | 22 => self.events(),
            23 => self.now = self.now + Duration::from_nanos(input.magnitude(36)),
            24 => {
                self.now = self.now + Duration::from_nanos(input.magnitude(36));
                self.engine.handle_timeout(self.now, input.flag());
            }
            25..=27 => {
                let until = self.now + Duration::from_nanos(input.magnitude(33));
                self.drive(until, input.flag());
            }
            28 => self.about_a_path(input),
            29 => self.about_a_port(input),
            30 => {
                self.engine.set_receive_capacity(input.magnitude(24));
                if input.flag() {
                    self.engine.flush_acknowledgements(self.now);
                }
            }
            _ => {
                let path = self.path(input.below(self.peers.len()), PORT);
                let settings = PeerSettings::default().with(|settings| {
                    settings.unscheduled_bytes = Some(1 + input.magnitude(20) as u32);
                    settings.window_bytes = Some(input.magnitude(20) as u32);
                    settings.timeout = Some(Duration::from_nanos(input.magnitude(33)));
                });
                let _ = self.engine.set_peer(self.now, path, settings);
            }
        }
    }

    fn crafted_packet(&mut self, input: &mut Input<'_>) {
        let index = input.below(self.peers.len());
        let peer = &self.peers[index];
        let ids: Vec<u64> = peer
            .packets
            .iter()
            .rev()
            .take(8)
            .filter_map(|(bytes, _)| {
                homa_wire::quoted_sender_id(bytes).map(|id| RpcId(id).of_peer().0)
            })
            .collect();
        let near = Near {
            source_port: peer.address.port(),
            destination_port: input.choose(&[PORT, PORT, PORT, OTHER_PORT]),
            ids: &ids,
            incarnation: peer.incarnation,
            echo: peer.echo,
            numbers: self.numbers.make_contiguous(),
        };
        let header = headers::header(input, &near);
        let mut bytes = [0; HEADER_MAX];
        let length = header.encode(&mut bytes).expect("it fits");
        if let homa_wire::Body::Data(data) = &header.body {
            self.note(data.message_length);
            self.note(data.seg_offset);
        }
        let payload = match header.body {
            homa_wire::Body::Data(data) if input.flag() => {
                data.message_length.wrapping_sub(data.seg_offset).min(1400)
            }
            homa_wire::Body::Data(_) => input.magnitude(16) as u32,
            _ => 0,
        };
        self.receive(index, &bytes[..length], length as u32 + payload);
    }

    /// A packet that came or left before, perhaps in another's name, perhaps changed.
    fn known_packet(&mut self, input: &mut Input<'_>) {
        let from = input.below(self.peers.len());
        let packets = &self.peers[from].packets;
        let Some((mut bytes, mut length)) = packets.get(input.below(packets.len())).cloned() else {
            return;
        };
        for _ in 0..input.below(4) {
            let at = input.below(bytes.len().max(1));
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= input.byte();
            }
        }
        if input.rarely(4) {
            length = input.number(&[length]);
        }
        if input.rarely(4) {
            // The other direction.
            if let Some([a, b, c, d]) = bytes.first_chunk_mut::<4>() {
                std::mem::swap(a, c);
                std::mem::swap(b, d);
            }
            if let Some(last) = bytes.get_mut(27) {
                *last ^= 1;
            }
        }
        let from = if input.rarely(4) { input.below(self.peers.len()) } else { from };
        self.receive(from, &bytes, length);
    }

    fn receive(&mut self, peer: usize, bytes: &[u8], transport_len: u32) {
        let meta = RxMeta::new(self.path(peer, PORT));
        let header = &bytes[..bytes.len().min(transport_len as usize).min(LOOK_BYTES)];
        keep(&mut self.peers[peer].packets, header, transport_len);
        let received = self.engine.handle_packet(self.now, &meta, header, transport_len);
        if let Received::Place(placement) = received {
            self.ledger.placed(&placement, transport_len);
        }
    }

    fn call(&mut self, input: &mut Input<'_>) {
        let path =
            self.path(input.below(self.peers.len()), input.choose(&[PORT, PORT, OTHER_PORT]));
        let length = input.magnitude(20) as u32;
        let deadline =
            input.rarely(4).then(|| self.now + Duration::from_nanos(input.magnitude(33)));
        let (streaming_body, open) = kind(input);
        let options = RequestOptions {
            deadline,
            streaming_body,
            streaming_response: input.rarely(4),
            priority_hint: input.rarely(8).then(|| input.byte()),
            framed: false,
            open,
        };
        let cookie = u64::from(input.byte());
        if let Ok(rpc) = self.engine.send_request(self.now, path, length, cookie, options) {
            self.ledger.called(rpc, cookie, length);
            if open {
                self.ledger.set_open(rpc);
            }
            self.note(length);
        }
    }

    fn answer(&mut self, input: &mut Input<'_>) {
        let Some(rpc) = self.ledger.pick(input) else { return };
        let length = input.magnitude(20) as u32;
        let (streaming_body, open) = kind(input);
        let options = ResponseOptions { streaming_body, open, framed: false };
        match self.engine.send_response(self.now, rpc, length, options) {
            Ok(()) => {
                self.ledger.answered(rpc, length);
                if open {
                    self.ledger.set_open(rpc);
                }
                self.note(length);
            }
            Err(SendError::NotInService) => self.ledger.must_live(rpc),
            // Over, or a length that cannot be sent.
            Err(_) => {}
        }
    }

    fn about_an_rpc(&mut self, input: &mut Input<'_>) {
        let Some(rpc) = self.ledger.pick(input) else { return };
        let upto = input.number(self.numbers.make_contiguous());
        let result = match input.below(5) {
            0 => {
                let why = input.choose(&[FailReason::Aborted, FailReason::Rejected]);
                let result = self.engine.abort(self.now, rpc, why);
                if result.is_ok() {
                    self.ledger.aborted(rpc);
                }
                result
            }
            1 if self.ledger.is_open(rpc) && upto % 4 == 0 => {
                let result = self.engine.finish(self.now, rpc);
                if result.is_ok() {
                    self.ledger.finished(rpc);
                }
                result
            }
            1 => {
                let result = self.engine.supply(self.now, rpc, upto);
                if result.is_ok() {
                    self.ledger.supplied(rpc, upto);
                }
                result
            }
            2 => self.engine.set_streaming(self.now, rpc),
            3 => self.engine.consumed(self.now, rpc, upto),
            _ => self.engine.consumed(self.now, rpc, self.ledger.contiguous(rpc)),
        };
        if result != Err(RpcError::Stale) {
            self.ledger.must_live(rpc);
        }
    }

    fn about_a_path(&mut self, input: &mut Input<'_>) {
        let index = input.below(self.peers.len());
        let mut path = self.path(index, PORT);
        if input.rarely(4) {
            path.remote.set_port(0);
        }
        if input.flag() {
            let link_mbps = input.rarely(4).then(|| 1 + input.magnitude(17) as u32);
            self.engine.path_changed(self.now, path, input.number(&[1500, 9000]), link_mbps);
        } else {
            let packets = &self.peers[index].packets;
            let kinds = [
                IcmpKind::PortUnreachable,
                IcmpKind::ProtocolUnreachable,
                IcmpKind::HostUnreachable,
            ];
            let quoted = packets.get(input.below(packets.len())).map_or(&[][..], |it| &it.0);
            self.engine.icmp_error(self.now, input.choose(&kinds), path, quoted);
        }
    }

    fn about_a_port(&mut self, input: &mut Input<'_>) {
        let port = input.choose(&[PORT, OTHER_PORT]);
        if input.flag() {
            self.engine.close_port(self.now, port);
        }
        if input.flag() {
            let streaming = PortOptions::SERVE.with_streaming_requests();
            let options = input.choose(&[PortOptions::SERVE, PortOptions::CLIENT, streaming]);
            let _ = self.engine.bind_port(port, options);
        }
    }

    /// Takes some trains, and refuses some.
    fn transmit(&mut self, input: &mut Input<'_>) {
        for _ in 0..=input.below(4) {
            let Some(transmit) = self.engine.poll_transmit(self.now, &mut self.segments) else {
                return;
            };
            self.sent(&transmit);
            if input.rarely(4) {
                let why = match input.below(4) {
                    0 | 1 => TransmitError::NoRoom,
                    2 => TransmitError::TooBig(input.magnitude(14) as u32),
                    _ => input.choose(&[TransmitError::Unreachable, TransmitError::Refused]),
                };
                let first = input.below(transmit.segments);
                let segments = &self.segments[..transmit.segments];
                self.engine.transmit_failed(self.now, &transmit, segments, first, why);
            }
        }
    }

    /// Looks at what leaves, and at the engine's number in it.
    fn sent(&mut self, transmit: &Transmit) {
        let segments = &self.segments[..transmit.segments];
        check_train(transmit, segments);
        let peer = self.peers.iter_mut().find(|peer| peer.address == transmit.path.remote);
        for segment in segments {
            let header = Header::parse(segment.header(), segment.wire_bytes());
            let header = header.expect("what an engine sends can be parsed");
            if let Some(rpc) = segment.rpc.filter(|_| !segment.payload.is_empty()) {
                self.ledger.sent(rpc, &segment.payload);
            }
            if let homa_wire::Body::Data(data) = &header.body {
                assert!(segment.payload.end <= data.message_length);
                assert_eq!(segment.payload.start, data.offset(header.common.sequence));
            }
        }
        let Some(peer) = peer else { return };
        for segment in segments {
            let header = Header::parse(segment.header(), segment.wire_bytes()).expect("as above");
            if header.common.version().is_some() && header.common.incarnation != 0 {
                peer.echo = header.common.incarnation;
            }
            keep(&mut peer.packets, segment.header(), segment.wire_bytes());
        }
    }

    fn events(&mut self) {
        for count in 0.. {
            assert!(count < ENDLESS, "events without end");
            let Some(event) = self.engine.poll_event() else { return };
            if let Event::PeerAdded { path } = event {
                self.engine.path_changed(self.now, path, 1500, None);
            } else {
                event.parts().for_each(|part| self.ledger.event(&part));
            }
        }
    }

    /// Wakes the engine whenever it asks for it; what it sends is lost.
    fn drive(&mut self, until: Instant, rx_drained: bool) {
        for count in 0.. {
            assert!(count < ENDLESS, "the engine never sleeps");
            self.events();
            self.drain();
            self.events();
            match self.engine.poll_timeout() {
                Some((at, _)) if at <= until => {
                    self.now = self.now.max(at);
                    self.engine.handle_timeout(self.now, rx_drained);
                    if !rx_drained {
                        // Nothing is given up unless somebody looked.
                        self.engine.handle_timeout(self.now, true);
                    }
                }
                _ => break,
            }
        }
        self.now = self.now.max(until);
    }

    fn drain(&mut self) {
        for count in 0.. {
            assert!(count < ENDLESS, "it sends without end");
            match self.engine.poll_transmit(self.now, &mut self.segments) {
                Some(transmit) => self.sent(&transmit),
                None => return,
            }
        }
    }

    fn note(&mut self, number: u32) {
        if self.numbers.len() >= 16 {
            self.numbers.pop_front();
        }
        self.numbers.push_back(number);
    }

    fn check(&self) {
        self.engine.check();
        let (stats, config) = (self.engine.stats(), self.engine.config());
        assert!(stats.live_rpcs <= u64::from(config.limits.max_rpcs), "{stats:?}");
        assert!(stats.live_peers <= u64::from(config.peers.max), "{stats:?}");
        assert!(stats.finished_entries <= u64::from(config.fixed.finished_max), "{stats:?}");
        assert!(stats.receive_memory_bytes <= config.limits.receive_memory_bytes, "{stats:?}");
    }

    /// No packet comes any more, the application does all that is left to do: nothing stays behind.
    fn settle(&mut self) {
        self.events();
        for rpc in self.ledger.live() {
            if self.ledger.is_open(rpc) {
                let _ = self.engine.finish(self.now, rpc);
            } else if let Some(length) = self.ledger.outgoing(rpc) {
                let _ = self.engine.supply(self.now, rpc, length);
            }
        }
        let until = self.now + SILENCE_MAX;
        while self.now < until && self.engine.stats().live_rpcs > 0 {
            self.take_and_answer();
            self.drive(self.now + Duration::from_secs(1), true);
            self.check();
        }
        self.drive(until, true);
        let stats = self.engine.stats();
        let left = (stats.live_rpcs, stats.receive_memory_bytes, stats.incoming_bytes);
        assert_eq!(left, (0, 0, 0), "after silence: {:?}", self.engine.rpcs().collect::<Vec<_>>());
        self.ledger.assert_all_ended();
        assert_eq!(self.engine.poll_timeout(), None, "nothing is left to wait for");
    }

    fn take_and_answer(&mut self) {
        for rpc in self.ledger.live() {
            let _ = self.engine.consumed(self.now, rpc, self.ledger.contiguous(rpc));
            let answer = self.ledger.waits_for_answer(rpc);
            if answer
                && self.engine.send_response(self.now, rpc, 1, ResponseOptions::default()).is_ok()
            {
                self.ledger.answered(rpc, 1);
            }
        }
    }
}

/// Whether a message is provided later, and whether it is open.
fn kind(input: &mut Input<'_>) -> (bool, bool) {
    let kind = input.below(8);
    (kind % 4 == 3, kind == 6)
}

fn keep(packets: &mut VecDeque<(Vec<u8>, u32)>, header: &[u8], length: u32) {
    if packets.len() >= KEPT_PACKETS {
        packets.pop_front();
    }
    packets.push_back((header.to_vec(), length));
}

/// What the engine promises about every train: the kernel cuts it blindly.
pub(crate) fn check_train(transmit: &Transmit, segments: &[Segment]) {
    assert!(transmit.priority < 8 && transmit.dscp < 64);
    let total: u32 = segments.iter().map(Segment::wire_bytes).sum();
    assert_eq!(transmit.total_bytes, total);
    let (last, others) = segments.split_last().expect("a train has at least one segment");
    if transmit.coalesced {
        assert_eq!((transmit.segment_bytes, transmit.path.carriage), (total, Carriage::Udp));
        return assert!(!others.is_empty());
    }
    assert!(others.iter().all(|it| it.wire_bytes() == transmit.segment_bytes), "unequal segments");
    assert!(last.wire_bytes() <= transmit.segment_bytes);
}
