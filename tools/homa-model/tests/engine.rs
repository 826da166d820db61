//! The engine does what the model says: two engines of `homa-core` go through the model's traces in
//! virtual time, and after each step the same requests were executed and the same calls have ended
//! in the same way. (Lives of the client are left to the model: the engine executes less of a
//! former life than the model lets it.)

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use homa_core::{
    Carriage, Config, Engine, Event, FailReason, HostBudget, Instant, Path, PortOptions,
    RequestOptions, ResponseOptions, RpcKey, RxMeta, Segment,
};
use homa_model::{
    Answer, Call, CallId, Life, Packet, Rules, Scope, Step, Stopped, Ticks, Why, World,
};
use homa_wire::{AckEntry, Body, Common, Extension, Header, RESEND_ALL, Reason, Resend};
use stateright::{Checker, Model};

const TICK_NS: u64 = 1_000_000_000;
const CLIENT_PORT: u16 = 1000;
const SERVER_PORT: u16 = 2000;
/// One packet; the longer it is the more a server may answer a client that it does not know.
const REQUEST_BYTES: u32 = 1400;

/// Settings of which the model's ticks are an image: what ends within so many and a half ticks has
/// ended at the next. A response is given up when the model says so.
fn config(scope: &Scope) -> Config {
    let packet_life = Duration::from_nanos(TICK_NS) * u32::from(scope.packet_life);
    Config::default().with(|config| {
        config.recovery.timeout = packet_life + Duration::from_nanos(TICK_NS / 2);
        config.recovery.finished_memory = packet_life * 2;
        config.fixed.resend_interval_max = Duration::from_millis(100);
        config.responses.silence = Duration::from_secs(1000);
    })
}

/// An engine at its port.
struct Host {
    engine: Engine,
    port: u16,
    life: Life,
}

impl Host {
    fn new(scope: &Scope, port: u16, life: Life, now: Instant) -> Self {
        let seed = u64::from(port) + u64::from(life);
        let mut engine = Engine::new(config(scope), HostBudget::local(), seed).unwrap();
        engine.bind_port(port, PortOptions::SERVE).unwrap();
        engine.handle_timeout(now, true);
        Self { engine, port, life }
    }

    fn path_to(&self, port: u16) -> Path {
        let remote = SocketAddr::from(([10, 0, 0, 1], port));
        let (local_port, carriage) = (self.port, Carriage::Udp);
        Path { remote, local_ip: None, local_port, interface: 0, carriage }
    }
}

/// Two engines and all packets they ever sent, the latest of each kind.
struct Bench<'a> {
    scope: &'a Scope,
    now_ns: u64,
    client: Host,
    server: Host,
    sent: HashMap<Packet, (Vec<u8>, u32)>,
    /// Ids of the calls as the client names them.
    ids: Vec<Option<u64>>,
    called: Vec<Option<RpcKey>>,
    in_service: Vec<Option<RpcKey>>,
    /// By which number the client knows the lives of the server.
    lives: HashMap<u32, Life>,
    executed: Vec<Vec<u8>>,
    ended: Vec<Option<Result<(), Why>>>,
}

impl<'a> Bench<'a> {
    fn new(scope: &'a Scope) -> Self {
        let calls = scope.calls.len();
        let mut bench = Self {
            scope,
            now_ns: TICK_NS,
            client: Host::new(scope, CLIENT_PORT, 0, Instant::from_nanos(TICK_NS)),
            server: Host::new(scope, SERVER_PORT, 0, Instant::from_nanos(TICK_NS)),
            sent: HashMap::new(),
            ids: vec![None; calls],
            called: vec![None; calls],
            in_service: vec![None; calls],
            lives: HashMap::new(),
            executed: vec![vec![0; usize::from(scope.server_lives)]; calls],
            ended: vec![None; calls],
        };
        for _ in 0..scope.began() {
            bench.tick(Stopped::Nobody);
        }
        bench
    }

    fn now(&self) -> Instant {
        Instant::from_nanos(self.now_ns)
    }

    /// Whether the engines have sent what is to be delivered.
    fn can(&self, step: Step) -> bool {
        !matches!(step, Step::Deliver(packet) if !self.sent.contains_key(&packet))
    }

    fn step(&mut self, step: Step) {
        let now = self.now();
        match step {
            Step::Call(call) => {
                let path = self.client.path_to(SERVER_PORT);
                let options = RequestOptions::default();
                let rpc = self.client.engine.send_request(now, path, REQUEST_BYTES, 0, options);
                self.called[call] = Some(rpc.unwrap());
                self.settle();
                self.ask_at_once(call);
            }
            Step::Abort(call) => {
                let rpc = self.called[call].unwrap();
                self.client.engine.abort(now, rpc, FailReason::Aborted).unwrap();
                self.ended[call] = Some(Err(Why::Aborted));
            }
            Step::Reply(call) => {
                let rpc = self.in_service[call].unwrap();
                let bytes = 1000 * u32::from(self.scope.parts);
                self.server
                    .engine
                    .send_response(now, rpc, bytes, ResponseOptions::default())
                    .unwrap();
            }
            Step::Forget(call) => {
                let rpc = self.in_service[call].unwrap();
                self.server.engine.abort(now, rpc, FailReason::Aborted).unwrap();
            }
            Step::Deliver(packet) => self.deliver(packet),
            Step::RestartServer => {
                self.server = Host::new(self.scope, SERVER_PORT, self.server.life + 1, now);
                self.tick(Stopped::Nobody);
            }
            Step::RestartClient => {
                self.client = Host::new(self.scope, CLIENT_PORT, self.client.life + 1, now);
            }
            Step::Tick(stopped) => self.tick(stopped),
        }
        self.settle();
    }

    /// The first RESEND about a call: it takes no time in the model.
    fn ask_at_once(&mut self, call: CallId) {
        let request = self.sent.iter().find_map(|(packet, (bytes, length))| match packet {
            Packet::Request { call: of, .. } if *of == call => Header::parse(bytes, *length).ok(),
            _ => None,
        });
        let request = request.unwrap();
        let Body::Data(data) = &request.body else { unreachable!() };
        let body = Body::Resend(Resend { offset: 0, length: RESEND_ALL, priority: 7 });
        let common = Common::control(CLIENT_PORT, SERVER_PORT, request.common.sender_id)
            .with_native_profile(request.common.incarnation);
        let extension = Some(Extension { echo: data.echo, reason: Reason::None, value: 0 });
        self.keep(Packet::Ask(call), &Header { common, body, extension }, 0);
    }

    fn keep(&mut self, packet: Packet, header: &Header, payload: u32) {
        let mut bytes = vec![0; 96];
        let written = header.encode(&mut bytes).unwrap();
        bytes.truncate(written);
        self.sent.insert(packet, (bytes, written as u32 + payload));
    }

    fn deliver(&mut self, packet: Packet) {
        let (bytes, length) = &self.sent[&packet];
        let to_client = matches!(packet, Packet::Answer(..));
        let (host, from) = match to_client {
            true => (&mut self.client, SERVER_PORT),
            false => (&mut self.server, CLIENT_PORT),
        };
        let meta = RxMeta::new(host.path_to(from));
        let now = Instant::from_nanos(self.now_ns);
        let _ = host.engine.handle_packet(now, &meta, bytes, *length);
        if let Packet::Request { call, .. } = packet {
            self.serve(Some(call));
        }
    }

    /// Lets a tick pass for whoever is not stopped.
    fn tick(&mut self, stopped: Stopped) {
        let end = self.now_ns + TICK_NS;
        loop {
            let mut driven = Vec::new();
            if stopped != Stopped::Client {
                driven.push(&mut self.client.engine);
            }
            if stopped != Stopped::Server {
                driven.push(&mut self.server.engine);
            }
            let due = driven.iter().filter_map(|engine| engine.poll_timeout()).map(|(at, _)| at);
            let next = due.min().map_or(end, |at| at.as_nanos().clamp(self.now_ns, end));
            self.now_ns = next;
            for engine in driven {
                engine.handle_timeout(Instant::from_nanos(next), true);
            }
            self.settle_but(stopped);
            if next == end {
                return;
            }
        }
    }

    fn settle(&mut self) {
        self.settle_but(Stopped::Nobody);
    }

    /// Takes what the engines have to send and to tell.
    fn settle_but(&mut self, stopped: Stopped) {
        if stopped != Stopped::Server {
            self.serve(None);
            for (header, payload) in drain(&mut self.server, self.now_ns) {
                self.server_sent(&header, payload);
            }
        }
        if stopped != Stopped::Client {
            self.hear();
            for (header, payload) in drain(&mut self.client, self.now_ns) {
                self.client_sent(header, payload);
            }
        }
    }

    fn client_sent(&mut self, mut header: Header, payload: u32) {
        let id = header.common.sender_id;
        if matches!(header.body, Body::Data(_)) && !self.ids.contains(&Some(id)) {
            let made = self.called.iter().zip(&self.ids);
            let new = made.into_iter().position(|(rpc, id)| rpc.is_some() && id.is_none());
            self.ids[new.expect("a request of a call")] = Some(id);
        }
        let Some(call) = self.ids.iter().position(|known| *known == Some(id)) else {
            return;
        };
        let packet = match &mut header.body {
            Body::Data(data) => {
                // Acknowledgements do not ride: the model forgets responses by itself.
                data.ack = AckEntry::NONE;
                let names = (data.echo != 0).then(|| self.lives[&data.echo]);
                Packet::Request { call, names }
            }
            Body::Resend(_) => Packet::Ask(call),
            Body::NeedAck => Packet::Probe(call),
            _ => return,
        };
        self.keep(packet, &header, payload);
    }

    fn server_sent(&mut self, header: &Header, payload: u32) {
        let life = self.server.life;
        self.lives.insert(header.common.incarnation, life);
        let id = header.common.local_id();
        let Some(call) = self.ids.iter().position(|known| *known == Some(id)) else {
            return;
        };
        let value = header.extension.map_or(0, |extension| extension.value);
        let age = Ticks::try_from(u64::from(value) * 1000 / TICK_NS).unwrap();
        let answer = match (&header.body, header.reason()) {
            (Body::Data(data), _) => Answer::Part(u8::from(data.seg_offset > 0)),
            (Body::Busy, _) => Answer::Busy,
            (Body::NeedAck, _) => Answer::NeedAck,
            (Body::RpcUnknown, Reason::NeverSeen) => Answer::NeverSeen(age),
            (Body::RpcUnknown, Reason::Finished) => Answer::Finished,
            (Body::RpcUnknown, Reason::Restarted) => Answer::Restarted(age),
            _ => return,
        };
        self.keep(Packet::Answer(call, life, answer), header, payload);
    }

    /// Events of the server; `arriving` is the call whose request came.
    fn serve(&mut self, arriving: Option<CallId>) {
        let now = self.now();
        while let Some(event) = self.server.engine.poll_event() {
            match event {
                Event::PeerAdded { path } => self.server.engine.path_changed(now, path, 1500, None),
                Event::RequestArrived { rpc, .. } | Event::RequestWhole { rpc, .. } => {
                    let call = arriving.expect("a request comes in a packet");
                    self.in_service[call] = Some(rpc);
                    self.executed[call][usize::from(self.server.life)] += 1;
                    self.server.engine.consumed(now, rpc, REQUEST_BYTES).unwrap();
                }
                _ => {}
            }
        }
    }

    /// Events of the client.
    fn hear(&mut self) {
        let now = self.now();
        while let Some(event) = self.client.engine.poll_event() {
            let (rpc, end) = match event {
                Event::PeerAdded { path } => {
                    self.client.engine.path_changed(now, path, 1500, None);
                    continue;
                }
                Event::ResponseArrived { rpc, .. } | Event::ResponseWhole { rpc, .. } => {
                    (rpc, Ok(()))
                }
                Event::Failed { rpc, reason: FailReason::Timeout, .. } => (rpc, Err(Why::Timeout)),
                Event::Failed { rpc, reason: FailReason::Restarted, .. } => {
                    (rpc, Err(Why::Restarted))
                }
                Event::Failed { rpc, reason: FailReason::Forgotten, .. } => {
                    (rpc, Err(Why::Forgotten))
                }
                Event::Failed { reason, .. } => panic!("{reason:?}"),
                _ => continue,
            };
            let of_life = |call: &CallId| self.scope.calls[*call] == self.client.life;
            let mut calls = (0..self.called.len()).filter(of_life);
            let call = calls.find(|call| self.called[*call] == Some(rpc)).unwrap();
            self.ended[call] = Some(end);
        }
    }

    /// Whether what can be seen of the engines is what the model says.
    fn agrees(&self, world: &World) -> bool {
        let ends = world.client.calls.iter().enumerate().all(|(call, state)| match state {
            Call::Unmade => true,
            Call::Waiting(_) => self.ended[call].is_none(),
            Call::Answered(_) => self.ended[call] == Some(Ok(())),
            Call::Failed(why) => self.ended[call] == Some(Err(*why)),
        });
        ends && self.executed == world.executed
    }
}

/// What an engine sends.
fn drain(host: &mut Host, now_ns: u64) -> Vec<(Header, u32)> {
    let mut segments = vec![Segment::EMPTY; 16];
    let mut sent = Vec::new();
    while let Some(transmit) = host.engine.poll_transmit(Instant::from_nanos(now_ns), &mut segments)
    {
        for segment in &segments[..transmit.segments] {
            let header = Header::parse(segment.header(), segment.wire_bytes()).unwrap();
            let payload = segment.wire_bytes() - segment.header().len() as u32;
            sent.push((header, payload));
        }
    }
    sent
}

/// Goes through a trace, as far as the engines send what arrives in it: they limit what they send
/// to an address that is not proved. How far that is, or the first step after which the engines and
/// the model disagree.
fn replay(scope: &Scope, steps: &[Step]) -> Result<usize, String> {
    let mut bench = Bench::new(scope);
    let mut world = scope.init_states().remove(0);
    for (number, step) in steps.iter().enumerate() {
        // A step may change nothing.
        world = scope.next_state(&world, *step).unwrap_or(world);
        if !bench.can(*step) {
            return Ok(number);
        }
        bench.step(*step);
        if !bench.agrees(&world) {
            let (executed, ended) = (&bench.executed, &bench.ended);
            let trace = &steps[..=number];
            return Err(format!(
                "{trace:?}\nthe engines: {executed:?} {ended:?}\nthe model: {world:#?}"
            ));
        }
    }
    Ok(steps.len())
}

/// Replays the shortest trace to every state, or to one in `every`.
fn agrees_in_every_state(scope: Scope, every: usize) {
    let failure = Arc::new(Mutex::new(None));
    let (of, found) = (scope.clone(), failure.clone());
    let visited = AtomicUsize::new(0);
    let visit = move |path: stateright::Path<World, Step>| {
        let chosen = visited.fetch_add(1, Ordering::Relaxed) % every == 0;
        if chosen && found.lock().unwrap().is_none() {
            if let Err(error) = replay(&of, &path.into_actions()) {
                *found.lock().unwrap() = Some(error);
            }
        }
    };
    let states = scope.checker().visitor(visit).spawn_bfs().join().unique_state_count();
    println!("{} traces", states / every);
    let failure = failure.lock().unwrap().take();
    assert!(failure.is_none(), "{}", failure.unwrap());
}

fn scope() -> Scope {
    let (calls, rules) = (vec![0], Rules::default());
    Scope { calls, server_lives: 1, parts: 1, ticks: 2, packet_life: 1, stops: vec![], rules }
}

#[test]
fn the_engine_agrees_with_the_model_about_one_call() {
    agrees_in_every_state(scope(), 1);
}

#[test]
fn the_engine_agrees_with_the_model_while_ends_are_stopped() {
    let stops = vec![Stopped::Client, Stopped::Server];
    agrees_in_every_state(Scope { stops, ..scope() }, 2);
}

#[test]
fn the_engine_agrees_with_the_model_while_the_server_restarts() {
    agrees_in_every_state(Scope { server_lives: 2, parts: 2, ticks: 1, ..scope() }, 4);
}

/// Goes through a random trace: the steps that were taken, and all.
fn walk(scope: &Scope, seed: u64) -> (usize, usize) {
    let mut random = seed;
    let mut below = |limit: usize| {
        random =
            random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) as usize % limit
    };
    let mut world = scope.init_states().remove(0);
    let mut trace = Vec::new();
    for _ in 0..60 {
        let mut steps = scope.next_steps(&world);
        if steps.is_empty() {
            break;
        }
        let (step, after) = steps.swap_remove(below(steps.len()));
        trace.push(step);
        world = after;
    }
    match replay(scope, &trace) {
        Ok(steps) => (steps, trace.len()),
        Err(error) => panic!("seed {seed}: {error}"),
    }
}

#[test]
fn the_engine_agrees_with_the_model_on_long_random_traces() {
    let seeds = std::env::var("HOMA_SEEDS").map_or(2_000, |seeds| seeds.parse().unwrap());
    let stops = vec![Stopped::Client, Stopped::Server];
    let large = Scope { server_lives: 2, parts: 2, ticks: 8, stops, ..scope() };
    let (mut taken, mut all) = (0, 0);
    for seed in 0..seeds {
        let (steps, length) = walk(&large, seed);
        (taken, all) = (taken + steps, all + length);
    }
    println!("{taken} of {all} steps taken");
    assert!(taken * 100 > all * 90);
}

#[test]
fn a_copy_that_lay_unread_while_an_idle_server_was_stopped_is_recognised() {
    let request = Packet::Request { call: 0, names: None };
    let mut trace = vec![Step::Call(0), Step::Deliver(request), Step::Reply(0), Step::Forget(0)];
    trace.extend([Step::Tick(Stopped::Server); 3]);
    trace.push(Step::Deliver(request));
    let stopped = Scope { ticks: 3, stops: vec![Stopped::Server], ..scope() };
    assert_eq!(replay(&stopped, &trace), Ok(trace.len()));
}
