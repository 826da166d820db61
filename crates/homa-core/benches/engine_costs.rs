//! What the engine itself costs per RPC: two engines joined by memory, no sockets, no payload.
//!
//! ```text
//! cargo bench -p homa-core
//! ```
//!
//! With arguments, a length in bytes, how many RPCs are outstanding and how many are made in all,
//! time is virtual and every run the same, for a tool that counts instructions: the difference of
//! two numbers of RPCs counts (`tools/instructions`).

use std::net::SocketAddr;
use std::time::Instant as Clock;

use homa_core::{
    Carriage, Config, Engine, Event, HostBudget, Instant, Path, PortOptions, RequestOptions,
    ResponseOptions, RxMeta, Segment,
};

const PORTS: [u16; 2] = [1000, 2000];

fn path(from: usize) -> Path {
    Path {
        remote: SocketAddr::from(([10, 0, 0, 2 - from as u8], PORTS[1 - from])),
        local_ip: None,
        local_port: PORTS[from],
        interface: 0,
        carriage: Carriage::Udp,
    }
}

struct Bench {
    engines: [Engine; 2],
    segments: Vec<Segment>,
    length: u32,
    /// RPCs still to be begun.
    left: u64,
    done: u64,
    packets: u64,
}

impl Bench {
    fn new(length: u32, total: u64) -> Self {
        let engines = [0, 1].map(|side| {
            let mut engine = Engine::new(Config::default(), HostBudget::local(), side as u64)
                .expect("defaults are valid");
            engine.bind_port(PORTS[side], PortOptions::SERVE).expect("a new engine has no ports");
            engine
        });
        let segments = vec![Segment::EMPTY; 128];
        Self { engines, segments, length, left: total, done: 0, packets: 0 }
    }

    fn turn(&mut self, now: Instant) {
        for side in [0, 1] {
            while let Some(event) = self.engines[side].poll_event() {
                match event {
                    Event::PeerAdded { path } => {
                        self.engines[side].path_changed(now, path, 1500, None)
                    }
                    Event::RequestArrived { rpc, .. } | Event::RequestWhole { rpc, .. } => {
                        let _ = self.engines[side].consumed(now, rpc, self.length);
                        let _ = self.engines[side].send_response(
                            now,
                            rpc,
                            self.length,
                            ResponseOptions::default(),
                        );
                    }
                    Event::ResponseWhole { rpc, .. } => {
                        let _ = self.engines[side].finish_call(now, rpc);
                        self.done += 1;
                        self.call(now);
                    }
                    Event::ResponseArrived { rpc, .. } => {
                        let _ = self.engines[side].consumed(now, rpc, self.length);
                        self.done += 1;
                        self.call(now);
                    }
                    _ => {}
                }
            }
            while let Some(transmit) = self.engines[side].poll_transmit(now, &mut self.segments) {
                let meta = RxMeta::new(path(1 - side));
                for segment in &self.segments[..transmit.segments] {
                    self.packets += 1;
                    let _ = self.engines[1 - side].handle_packet(
                        now,
                        &meta,
                        segment.header(),
                        segment.wire_bytes(),
                    );
                }
            }
            self.engines[side].handle_timeout(now, true);
        }
    }

    fn call(&mut self, now: Instant) {
        if self.left == 0 {
            return;
        }
        self.left -= 1;
        self.engines[0]
            .send_request(now, path(0), self.length, 0, RequestOptions::default())
            .expect("within limits");
    }
}

/// Makes `total` RPCs, with 5 µs from turn to turn.
fn count(length: u32, outstanding: u64, total: u64) {
    let mut bench = Bench::new(length, total);
    let mut now_ns = 1;
    for _ in 0..outstanding {
        bench.call(Instant::from_nanos(now_ns));
    }
    while bench.done < total {
        now_ns += 5_000;
        bench.turn(Instant::from_nanos(now_ns));
    }
    println!("{total} RPCs of {length} bytes, {} packets", bench.packets);
}

/// How long each case runs: `cargo test --benches` shows only that they do.
fn case_ms() -> u128 {
    if std::env::args().any(|word| word == "--bench") { 1500 } else { 10 }
}

fn main() {
    let arguments: Vec<u32> = std::env::args().skip(1).flat_map(|word| word.parse()).collect();
    if let [length, outstanding, total] = arguments[..] {
        return count(length, outstanding.into(), total.into());
    }
    for (length, outstanding) in [(100, 1), (100, 64), (10_000, 1), (1_000_000, 1)] {
        let mut bench = Bench::new(length, u64::MAX);
        let start = Clock::now();
        let now = |start: Clock| Instant::from_nanos(start.elapsed().as_nanos() as u64 + 1);
        for _ in 0..outstanding {
            bench.call(now(start));
        }
        while start.elapsed().as_millis() < case_ms() {
            bench.turn(now(start));
        }
        let ns = start.elapsed().as_nanos() as f64;
        println!(
            "{length:>8} bytes both ways, {outstanding:>3} outstanding: {:>8.0} ns per RPC (both engines), {:>6.0} ns per packet",
            ns / bench.done as f64,
            ns / bench.packets as f64
        );
    }
}
