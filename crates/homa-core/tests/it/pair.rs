//! Two engines joined by a perfect wire: the shortest path through the protocol.

use std::net::SocketAddr;

use homa_core::{
    Carriage, Config, Engine, Event, HostBudget, Instant, Path, PortOptions, Received,
    RequestOptions, RpcKey, RxMeta, Segment,
};

struct Pair {
    now: u64,
    engines: [Engine; 2],
    segments: Vec<Segment>,
    packets: u64,
    trains: u64,
}

const PORTS: [u16; 2] = [1000, 2000];

fn address(side: usize) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, side as u8 + 1], PORTS[side]))
}

fn path(from: usize) -> Path {
    Path {
        remote: address(1 - from),
        local_ip: None,
        local_port: PORTS[from],
        interface: 0,
        carriage: Carriage::Udp,
    }
}

impl Pair {
    fn new(config: &Config) -> Self {
        let engines = [0, 1].map(|side| {
            let mut engine =
                Engine::new(config.clone(), HostBudget::local(), 7 + side as u64).unwrap();
            engine.bind_port(PORTS[side], PortOptions::SERVE).unwrap();
            engine
        });
        Self { now: 1_000_000, engines, segments: vec![Segment::EMPTY; 64], packets: 0, trains: 0 }
    }

    /// Moves packets and time until nothing happens for a while; answers requests with as many bytes as
    /// `reply` says. Returns the events of both sides.
    fn run(&mut self, reply: u32) -> [Vec<Event>; 2] {
        let mut log = [Vec::new(), Vec::new()];
        let end = self.now + 3_000_000_000;
        while self.now < end {
            let mut moved = false;
            for side in [0, 1] {
                moved |= self.events(side, reply, &mut log[side]);
                while let Some(transmit) = self.engines[side]
                    .poll_transmit(Instant::from_nanos(self.now), &mut self.segments)
                {
                    moved = true;
                    self.trains += 1;
                    for segment in &self.segments[..transmit.segments] {
                        self.packets += 1;
                        let meta = RxMeta::new(path(1 - side));
                        let received = self.engines[1 - side].handle_packet(
                            Instant::from_nanos(self.now),
                            &meta,
                            segment.header(),
                            segment.wire_bytes(),
                        );
                        assert!(
                            !matches!(received, Received::Dropped(_)),
                            "{received:?} {segment:?}"
                        );
                    }
                }
            }
            if !moved {
                let next = self
                    .engines
                    .iter()
                    .filter_map(|engine| engine.poll_timeout())
                    .map(|(at, _)| at.as_nanos())
                    .min();
                let Some(next) = next else { break };
                self.now = next.max(self.now + 1000);
                for engine in &mut self.engines {
                    engine.handle_timeout(Instant::from_nanos(self.now), true);
                }
            }
        }
        log
    }

    fn events(&mut self, side: usize, reply: u32, log: &mut Vec<Event>) -> bool {
        let now = Instant::from_nanos(self.now);
        let mut moved = false;
        while let Some(event) = self.engines[side].poll_event() {
            moved = true;
            match event {
                Event::PeerAdded { path } => self.engines[side].path_changed(now, path, 1500, None),
                Event::RequestArrived { rpc } => {
                    self.engines[side].send_response(now, rpc, reply).unwrap();
                }
                Event::ResponseArrived { rpc, .. } => {
                    self.engines[side].consumed(now, rpc, reply).unwrap()
                }
                _ => {}
            }
            log.push(event);
        }
        moved
    }

    fn call(&mut self, length: u32) -> RpcKey {
        let now = Instant::from_nanos(self.now);
        self.engines[0].send_request(now, path(0), length, 5, RequestOptions::default()).unwrap()
    }
}

fn completes(length: u32, reply: u32) {
    let mut pair =
        Pair::new(&Config::default().with(|config| config.max_message_bytes = 10_000_000));
    let rpc = pair.call(length);
    let [client, server] = pair.run(reply);
    assert!(client.contains(&Event::ResponseArrived { rpc, cookie: 5 }), "{client:?} {server:?}");
    assert!(client.contains(&Event::Released { rpc, upto: length }));
    assert_eq!(client.last(), Some(&Event::Ended { rpc }));
    assert!(matches!(server.last(), Some(Event::Ended { .. })), "{server:?}");
    for engine in &pair.engines {
        let stats = engine.stats();
        assert_eq!((stats.live_rpcs, stats.receive_memory_bytes, stats.incoming_bytes), (0, 0, 0));
        assert_eq!(stats.bytes_retransmitted, 0, "{stats:?}");
    }
}

#[test]
fn a_one_byte_request_is_answered() {
    completes(1, 1);
}

#[test]
fn a_message_longer_than_the_unscheduled_limit_is_granted_and_completes() {
    completes(1_000_000, 100);
    completes(100, 1_000_000);
    completes(10_000_000, 10_000_000);
}

#[test]
fn sixty_four_equal_requests_leave_in_one_train() {
    let mut pair = Pair::new(&Config::default());
    for _ in 0..64 {
        pair.call(100);
    }
    let [client, _] = pair.run(100);
    let arrived =
        client.iter().filter(|event| matches!(event, Event::ResponseArrived { .. })).count();
    assert_eq!(arrived, 64);
    assert!(pair.trains < 20, "{} trains", pair.trains);
}
