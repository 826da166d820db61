//! Property test of what must hold inside an engine, whatever arrives in whatever order.

use alloc::vec::Vec;
use core::net::SocketAddr;
use core::time::Duration;

use homa_wire::{Body, Common, Data, Header, RpcId};
use proptest::prelude::*;

use crate::addr::{Carriage, Path, RxMeta};
use crate::budget::HostBudget;
use crate::config::Config;
use crate::engine::peer::CREDIT_PER_PACKET;
use crate::engine::{Engine, PortOptions, RequestOptions, ResponseOptions};
use crate::event::{Event, FailReason, RpcKey, Segment};
use crate::time::Instant;

const PORT: u16 = 2000;

#[derive(Clone, Debug)]
enum Step {
    /// Bytes of message `id` of a sender arrive.
    Data { sender: u8, id: u64, length: u32, start: u32, bytes: u32 },
    /// Bytes of an open message arrive, which is said to have so many more.
    Open { sender: u8, id: u64, start: u32, bytes: u32, missing: u32 },
    /// The sender does not want to go on.
    Cancel { sender: u8, id: u64 },
    /// Everything may be sent, events are handed out.
    Drain,
    /// The application takes, or refuses, what has arrived.
    Take { refuse: bool },
    /// The application writes so many bytes of all open responses, or finishes them.
    Write { bytes: u32 },
    /// Time passes.
    Wait { ms: u64 },
}

fn step() -> impl Strategy<Value = Step> {
    let sender = 0..4u8;
    let id = (1..12u64).prop_map(|n| 2 * n);
    prop_oneof![
        12 => (sender.clone(), id.clone(), 0..200_000u32, 1..30_000u32).prop_map(
            |(sender, id, start, bytes)| {
                // The length belongs to the message.
                let length = 1000 + (u32::from(sender) + 1) * id as u32 * 3000;
                Step::Data { sender, id, length, start: start % length, bytes }
            }
        ),
        6 => (sender.clone(), id.clone(), 0..8u32, 1..30_000u32, 0..8u32).prop_map(
            |(sender, id, parts, bytes, missing)| {
                // Mostly in order, and seldom finished.
                let missing = if missing < 6 { 1 } else { (missing - 6) * 100_000 };
                Step::Open { sender, id, start: parts * 20_000, bytes, missing }
            }
        ),
        1 => (sender, id).prop_map(|(sender, id)| Step::Cancel { sender, id }),
        3 => Just(Step::Drain),
        2 => any::<bool>().prop_map(|refuse| Step::Take { refuse }),
        2 => (0..50_000u32).prop_map(|bytes| Step::Write { bytes: bytes.saturating_sub(10_000) }),
        1 => (1..300u64).prop_map(|ms| Step::Wait { ms }),
    ]
}

struct Bench {
    engine: Engine,
    now: Instant,
    segments: Vec<Segment>,
    /// Open responses, and how much of them was written.
    open: Vec<(RpcKey, u32)>,
}

impl Bench {
    fn new(config: Config) -> Self {
        let mut engine = Engine::new(config, HostBudget::local(), 3).unwrap();
        engine.bind_port(PORT, PortOptions::SERVE).unwrap();
        let segments = (0..16).map(|_| Segment::EMPTY).collect();
        Self { engine, now: Instant::from_nanos(1_000_000_000), segments, open: Vec::new() }
    }

    fn receive(&mut self, sender: u8, common: Common, body: Body, payload: u32) {
        let remote = SocketAddr::from(([10, 0, sender / 2, 1], 1 + u16::from(sender)));
        let path = Path {
            remote,
            local_ip: None,
            local_port: PORT,
            interface: 0,
            carriage: Carriage::Udp,
        };
        let header = Header { common: common.with_native_profile(7), body, extension: None };
        let mut bytes = [0; 128];
        let written = header.encode(&mut bytes).unwrap() as u32;
        let meta = RxMeta::new(path);
        let _ = self.engine.handle_packet(self.now, &meta, &bytes, written + payload);
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Data { sender, id, length, start, bytes } => {
                let data = Data {
                    message_length: length,
                    incoming: length.min(20_000),
                    echo: self.engine.incarnation(core::net::IpAddr::from([10, 0, sender / 2, 1])),
                    seg_offset: start,
                    ..Data::default()
                };
                let bytes = bytes.min(length - start);
                self.receive(sender, Common::data(1, PORT, id, start), Body::Data(data), bytes);
            }
            Step::Open { sender, id, start, bytes, missing } => {
                let length = start + bytes + missing;
                let data = Data {
                    message_length: length,
                    incoming: length.min(20_000),
                    echo: self.engine.incarnation(core::net::IpAddr::from([10, 0, sender / 2, 1])),
                    flags: Data::OPEN,
                    seg_offset: start,
                    ..Data::default()
                };
                self.receive(sender, Common::data(1, PORT, id, start), Body::Data(data), bytes);
            }
            Step::Write { bytes } => self.write(bytes),
            Step::Cancel { sender, id } => {
                self.receive(sender, Common::control(1, PORT, id), Body::RpcUnknown, 0);
            }
            Step::Drain => self.drain(),
            Step::Take { refuse } => self.take(refuse),
            Step::Wait { ms } => {
                self.now = self.now + Duration::from_millis(ms);
                self.engine.handle_timeout(self.now, true);
            }
        }
    }

    fn drain(&mut self) {
        while self.engine.poll_transmit(self.now, &mut self.segments).is_some() {}
    }

    fn take(&mut self, refuse: bool) {
        while let Some(event) = self.engine.poll_event() {
            let (Event::RequestArrived { rpc, length } | Event::RequestWhole { rpc, length, .. }) =
                event
            else {
                continue;
            };
            if refuse {
                self.engine.abort(self.now, rpc, FailReason::Rejected).unwrap();
            } else {
                let open = length % 2 == 0;
                let options = ResponseOptions { open, ..ResponseOptions::default() };
                self.engine.send_response(self.now, rpc, 10, options).unwrap();
                if open {
                    self.open.push((rpc, 9));
                }
            }
        }
    }

    /// Writes to all open responses; no byte finishes them.
    fn write(&mut self, bytes: u32) {
        let (engine, now) = (&mut self.engine, self.now);
        self.open.retain_mut(|(rpc, written)| {
            let upto = *written + bytes;
            let goes_on = bytes > 0 && engine.supply(now, *rpc, upto).is_ok();
            if !goes_on {
                let _ = engine.finish(now, *rpc);
            }
            *written = upto;
            goes_on
        });
    }

    fn check(&mut self) {
        self.drain();
        self.engine.check();
    }
}

#[test]
fn answers_let_go_no_more_calls_than_there_is_room_for() {
    let mut bench = Bench::new(Config::default());
    let remote = SocketAddr::from(([10, 0, 0, 1], 1));
    let path =
        Path { remote, local_ip: None, local_port: PORT, interface: 0, carriage: Carriage::Udp };
    for _ in 0..3_000 {
        let options = RequestOptions::default();
        bench.engine.send_request(bench.now, path, 100, 0, options).unwrap();
    }
    let mut sent = Vec::new();
    while let Some(transmit) = bench.engine.poll_transmit(bench.now, &mut bench.segments) {
        let ids = bench.segments[..transmit.segments].iter();
        sent.extend(ids.filter_map(|it| homa_wire::quoted_sender_id(it.header())));
    }
    assert!(sent.len() > 200 && sent.len() < 2_000, "{}", sent.len());
    // Answers come in long trains: nothing is sent between them.
    for id in &sent[..200] {
        let body = Data {
            message_length: 10,
            incoming: 10,
            echo: bench.engine.incarnation(remote.ip()),
            ..Data::default()
        };
        bench.receive(0, Common::data(1, PORT, RpcId(*id).of_peer().0, 0), Body::Data(body), 10);
        let peer =
            bench.engine.peers.find(&path).and_then(|it| bench.engine.peers.get(it)).unwrap();
        let room = peer.in_flight_max(&bench.engine.ctx.config) + 100 + CREDIT_PER_PACKET;
        let used = peer.in_flight.bytes() + peer.in_flight.admitted();
        assert!(used <= room, "{:?}", peer.in_flight);
    }
    bench.check();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn accounts_and_queues_agree_after_every_step(
        steps in prop::collection::vec(step(), 1..120),
        overcommit in 1..5u8,
        memory in prop_oneof![Just(300_000u64), Just(700_000u64), Just(64_000_000u64)],
    ) {
        let config = Config::default().with(|config| {
            config.grants.max_overcommit = overcommit;
            config.limits.max_message_bytes = 290_000;
            config.limits.receive_memory_bytes = memory.max(327_680);
            config.grants.max_incoming_bytes = 100_000;
            config.fixed.fifo_grant_bytes = 10_000;
        });
        let mut bench = Bench::new(config);
        for step in &steps {
            bench.step(step);
            bench.check();
        }
        // Silence: one after the other is granted, asked for and given up. (Longer steps would
        // count as jumps of the clock.)
        for _ in 0..6000 {
            bench.step(&Step::Wait { ms: 10 });
            bench.step(&Step::Write { bytes: 0 });
            bench.step(&Step::Take { refuse: true });
            bench.drain();
            if bench.engine.stats().live_rpcs == 0 {
                break;
            }
        }
        bench.check();
        let stats = bench.engine.stats();
        prop_assert_eq!((stats.live_rpcs, stats.incoming_bytes, stats.receive_memory_bytes), (0, 0, 0));
    }
}
