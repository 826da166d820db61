//! Two hosts that call each other over a network that loses, repeats, delays, reorders, cuts,
//! changes and invents packets, while hosts are stopped and restarted. Every call ends: with the
//! right bytes, or with an error.

mod app;
mod network;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use homa_core::{
    Carriage, Config, Engine, FailReason, HostBudget, Instant, Path, PortOptions, RequestOptions,
    TransmitError,
};
use homa_io::Shard;
use homa_virtual::Pattern;
use homa_wire::{HEADER_MAX, Packets, RpcId};

use crate::headers::{self, Near};
use crate::input::Input;
use crate::settings;
use app::{App, Call, Outcome};
use network::{Datagram, Fate, Port};

const STEPS_MAX: usize = 300;
/// Calls are named by their first byte.
const CALLS_MAX: usize = 200;
const DELAY_NS: u64 = 10_000;
/// Packets older than this are beyond what `recovery.finished_memory` answers for.
const OLD: Duration = Duration::from_secs(1);
/// Every call is over after this, however long its timeouts are.
const PATIENCE: Duration = Duration::from_secs(900);
/// More turns than this at one time, or in all, are a loop.
const TURNS_MAX: usize = 2_000_000;

/// Runs two hosts through the steps that the input describes, then lets them come to rest in peace.
pub fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let mut world = World::new(&mut input);
    let mut steps = 0;
    while !input.is_over() && steps < STEPS_MAX {
        world.step(&mut input);
        steps += 1;
    }
    world.settle();
}

struct World {
    now: Instant,
    hosts: [Host; 2],
    carriage: Carriage,
    calls: Vec<Call>,
    fates: std::collections::VecDeque<Fate>,
    /// Datagrams on their way, by arrival and order of sending, with the host they go to.
    wire: BTreeMap<(Instant, u64), (usize, Datagram)>,
    sent: u64,
    /// RPCs that a changed or invented packet named: their bytes are anybody's.
    forged: Vec<u64>,
    /// A packet came so late that it may have been executed again.
    late: bool,
    turns: usize,
    /// Lives of both hosts so far.
    lives: u64,
}

struct Host {
    shard: Shard<Port>,
    app: App,
    config: Config,
    stopped_until: Instant,
}

impl Host {
    fn new(config: &Config, port: Port, seed: u64) -> Self {
        let mut engine = Engine::new(config.clone(), HostBudget::local(), seed)
            .expect("settings are within their ranges");
        engine.bind_port(port.address.port(), PortOptions::SERVE).expect("it is free");
        Self {
            shard: Shard::new(engine, port),
            app: App::default(),
            config: config.clone(),
            stopped_until: Instant::ZERO,
        }
    }
}

impl World {
    fn new(input: &mut Input<'_>) -> Self {
        let carriage = input.choose(&[Carriage::Udp, Carriage::Ip]);
        let hosts = [1, 2].map(|number| {
            let address = SocketAddr::from(([10, 0, 0, number], 4000 + u16::from(number)));
            let config = settings::config(input);
            Host::new(&config, Port::new(address, carriage), u64::from(number))
        });
        Self {
            now: Instant::from_nanos(1_000_000_000),
            hosts,
            carriage,
            calls: Vec::new(),
            fates: std::collections::VecDeque::new(),
            wire: BTreeMap::new(),
            sent: 0,
            forged: Vec::new(),
            late: false,
            turns: 0,
            lives: 2,
        }
    }

    fn step(&mut self, input: &mut Input<'_>) {
        match input.below(16) {
            0..=3 => self.call(input),
            4..=7 => self.fates.push_back(Fate::new(input)),
            8 => self.invent(input),
            9..=11 => self.advance(self.now + Duration::from_nanos(input.magnitude(32))),
            12 => {
                let host = input.below(2);
                let until = self.now + Duration::from_nanos(input.magnitude(34));
                self.hosts[host].stopped_until = until;
                self.advance(self.now + Duration::from_nanos(input.magnitude(34)));
            }
            13 => self.restart(input.below(2)),
            14 => self.abort(input),
            _ => {
                let port = self.hosts[input.below(2)].shard.driver_mut();
                match input.below(4) {
                    0 => port.mtu = 576 + input.magnitude(14) as u32,
                    1 | 2 => port.refusals.push_back((TransmitError::NoRoom, input.below(16))),
                    _ => port.refusals.push_back((TransmitError::Unreachable, 0)),
                }
            }
        }
    }

    fn path(&self, from: usize) -> Path {
        let address = |host: usize| self.hosts[host].shard.driver().address;
        Path {
            remote: address(1 - from),
            local_ip: None,
            local_port: address(from).port(),
            interface: 0,
            carriage: self.carriage,
        }
    }

    fn call(&mut self, input: &mut Input<'_>) {
        let client = input.below(2);
        let mut length = || 1 + input.magnitude(18) as u32;
        let (request_bytes, response_bytes) = (length(), length());
        let kind = input.byte();
        let deadline = (kind & 3 == 3).then(|| Duration::from_nanos(input.magnitude(33)));
        if self.calls.len() >= CALLS_MAX {
            return;
        }
        let path = self.path(client);
        let number = self.calls.len();
        let body = Pattern::request(number as u32, request_bytes).body();
        let options = RequestOptions {
            deadline: deadline.map(|after| self.now + after),
            streaming_response: kind & 4 != 0,
            ..RequestOptions::default()
        };
        let mut view = self.hosts[client].shard.view(self.now);
        if let Ok(rpc) = view.send_request(path, body, number as u64, options) {
            let found = view.engine().rpcs().find(|info| info.rpc == rpc);
            self.calls.push(Call {
                client,
                rpc,
                id: found.expect("it is alive").id,
                request_bytes,
                response_bytes,
                held: kind & 8 != 0,
                executed: 0,
                outcome: None,
            });
            self.hosts[client].app.called(rpc, request_bytes);
        }
    }

    fn abort(&mut self, input: &mut Input<'_>) {
        let number = input.below(self.calls.len());
        let Some(call) = self.calls.get_mut(number).filter(|call| call.outcome.is_none()) else {
            return;
        };
        let host = &mut self.hosts[call.client];
        if host.shard.view(self.now).abort(call.rpc, FailReason::Aborted).is_ok() {
            call.outcome = Some(Outcome::Failed);
            host.app.aborted(call.rpc);
        }
    }

    /// The host has forgotten everything and starts anew.
    fn restart(&mut self, host: usize) {
        // No two incarnations have the same ids.
        self.lives += 1;
        let seed = self.lives;
        for call in self.calls.iter_mut() {
            if call.client == host {
                call.outcome.get_or_insert(Outcome::Lost);
            } else {
                call.executed = 0;
            }
        }
        let old = &self.hosts[host];
        let port = Port::new(old.shard.driver().address, self.carriage);
        self.hosts[host] = Host::new(&old.config.clone(), port, seed);
    }

    /// A packet that nobody sent.
    fn invent(&mut self, input: &mut Input<'_>) {
        let to = input.below(2);
        let ids: Vec<u64> = self.calls.iter().rev().take(8).map(|call| call.id).collect();
        let incarnation = |host: usize| self.hosts[host].shard.driver().incarnation;
        let path = self.path(to);
        let near = Near {
            source_port: path.remote.port(),
            destination_port: path.local_port,
            ids: &ids.iter().flat_map(|id| [*id, RpcId(*id).of_peer().0]).collect::<Vec<_>>(),
            incarnation: incarnation(1 - to),
            echo: incarnation(to),
            numbers: &[100, 1388, 10_000],
        };
        let header = headers::header(input, &near);
        let mut bytes = [0; HEADER_MAX];
        let length = header.encode(&mut bytes).expect("it fits");
        let mut bytes = bytes[..length].to_vec();
        if let homa_wire::Body::Data(_) = header.body {
            bytes.resize(length + input.below(256) * 4, 0xEE);
        }
        self.forge(&bytes);
        let datagram = Datagram { bytes, path, sent_at: self.now };
        self.carry(to, datagram, Duration::ZERO);
    }

    /// Notes the RPCs that a packet names which may say anything.
    fn forge(&mut self, bytes: &[u8]) {
        let packets = Packets::new(bytes, bytes.len() as u32);
        let ids = packets.filter_map(|(packet, _)| homa_wire::quoted_sender_id(packet));
        self.forged.extend(ids.map(|id| RpcId(id).of_client().0));
        self.forged.extend(homa_wire::quoted_sender_id(bytes).map(|id| RpcId(id).of_client().0));
    }

    fn carry(&mut self, to: usize, datagram: Datagram, delay: Duration) {
        self.sent += 1;
        let at = self.now + Duration::from_nanos(DELAY_NS) + delay;
        self.wire.insert((at, self.sent), (to, datagram));
    }

    /// Does to a datagram what the network does to it.
    fn send(&mut self, to: usize, mut datagram: Datagram) {
        let fate = self.fates.front_mut().map(Fate::next);
        if self.fates.front().is_some_and(Fate::is_over) {
            self.fates.pop_front();
        }
        let mut delay = Duration::ZERO;
        match fate {
            None | Some(Fate::Spare(_)) => {}
            Some(Fate::Lose(_)) => return,
            Some(Fate::Repeat(after)) => self.carry(to, datagram.clone(), after),
            Some(Fate::Delay(time)) => delay = time,
            Some(Fate::Cut(length)) => {
                datagram.bytes.truncate(length.min(datagram.bytes.len()));
                // Who parses the whole no longer finds the packets behind the cut.
                self.forge(&datagram.bytes);
            }
            Some(Fate::Change { at, with }) => {
                self.forge(&datagram.bytes);
                if let Some(byte) = datagram.bytes.get_mut(at) {
                    *byte ^= with;
                }
                self.forge(&datagram.bytes);
            }
        }
        self.carry(to, datagram, delay);
    }

    /// Lets all happen that is due until then.
    fn advance(&mut self, until: Instant) {
        loop {
            self.turn();
            let arrival = self.wire.keys().next().map(|(at, _)| *at);
            let timers = self.hosts.iter().filter_map(|host| {
                let due = host.shard.next_timeout()?;
                Some(due.max(host.stopped_until))
            });
            match timers.chain(arrival).min() {
                Some(next) if next <= until => self.now = self.now.max(next),
                _ => break,
            }
            self.deliver();
        }
        self.now = self.now.max(until);
    }

    fn deliver(&mut self) {
        while let Some(entry) = self.wire.first_entry().filter(|entry| entry.key().0 <= self.now) {
            let (to, datagram) = entry.remove();
            self.hosts[to].shard.driver_mut().received.push_back(datagram);
        }
    }

    /// A turn of each host that runs.
    fn turn(&mut self) {
        self.turns += 1;
        assert!(self.turns < TURNS_MAX, "they never come to rest");
        for index in 0..2 {
            let host = &mut self.hosts[index];
            if host.stopped_until > self.now {
                continue;
            }
            let now = self.now;
            let old = |datagram: &Datagram| now.since(datagram.sent_at) > OLD;
            self.late |= host.shard.driver().received.iter().any(old);
            let mut handler = app::Handler {
                app: &mut host.app,
                calls: &mut self.calls,
                host: index,
                forged: &self.forged,
                careless: self.late || !self.forged.is_empty(),
            };
            let _ = host.shard.turn(now, &mut handler).expect("this driver has no errors");
            for mut datagram in std::mem::take(&mut host.shard.driver_mut().sent) {
                datagram.sent_at = now;
                self.send(1 - index, datagram);
            }
        }
    }

    /// The network is good again and the applications do what is left to do: all calls end, nothing
    /// stays behind.
    fn settle(&mut self) {
        self.fates.clear();
        for host in &mut self.hosts {
            host.stopped_until = Instant::ZERO;
            host.shard.driver_mut().refusals.clear();
        }
        let end = self.now + PATIENCE;
        while self.now < end && !self.is_at_rest() && !self.only_forged_are_left() {
            for host in &mut self.hosts {
                host.app.answer_held(&mut host.shard.view(self.now), &self.calls);
            }
            self.advance(self.now + Duration::from_secs(1));
        }
        for (number, call) in self.calls.iter().enumerate().filter(|it| !self.is_forged(it.1)) {
            assert!(call.outcome.is_some(), "call {number} never ends: {call:?}");
        }
        if !self.forged.is_empty() {
            return;
        }
        for (index, host) in self.hosts.iter().enumerate() {
            let stats = host.shard.stats();
            let left = (stats.live_rpcs, stats.receive_memory_bytes, stats.incoming_bytes);
            let rpcs: Vec<_> = host.shard.engine().rpcs().collect();
            assert_eq!(left, (0, 0, 0), "host {index} keeps {rpcs:?}");
            assert_eq!((host.shard.store().live(), host.app.watching()), (0, 0), "host {index}");
        }
    }

    /// Whether a packet that may say anything named the call: over a plain network it may then
    /// last.
    fn is_forged(&self, call: &Call) -> bool {
        self.forged.contains(&call.id)
    }

    fn only_forged_are_left(&self) -> bool {
        let over = |call: &Call| call.outcome.is_some() || self.is_forged(call);
        !self.forged.is_empty() && self.calls.iter().all(over)
    }

    fn is_at_rest(&self) -> bool {
        let idle = |host: &Host| host.shard.stats().live_rpcs == 0 && host.app.watching() == 0;
        self.hosts.iter().all(idle) && self.wire.is_empty()
    }
}
