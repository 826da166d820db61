//! Several engines on a wire that a test may cut.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;

use homa_core::{
    Config, Engine, Event, FailReason, HostBudget, Instant, PortOptions, Received, RequestOptions,
    ResponseOptions, RpcKey, RxMeta, Segment,
};

use super::{MS, PORT, Sent, address, drain, engine, failure, is_answered, path};

/// What a server on a [`Net`] does with a complete request.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Service {
    /// Answers at once with so many bytes.
    Reply(u32),
    /// Answers at once with as many bytes as follow from the length of the request.
    ReplyTo(fn(u32) -> u32),
    /// Never answers.
    Hold,
    /// Refuses.
    Refuse(FailReason),
}

/// An engine at an address.
pub(crate) struct Node {
    pub(crate) address: SocketAddr,
    pub(crate) engine: Engine,
    pub(crate) service: Service,
    pub(crate) log: Vec<Event>,
    /// Requests that arrived completely.
    pub(crate) arrived: Vec<RpcKey>,
    /// Gets no turns: its process is stopped.
    pub(crate) stopped: bool,
    pub(crate) wakeups: u64,
    lengths: HashMap<RpcKey, u32>,
    /// When responses were complete.
    pub(crate) answered_at: HashMap<RpcKey, u64>,
}

/// Decides whether a packet gets lost; sees the sender's number.
pub(crate) type Filter = Box<dyn FnMut(usize, &Sent) -> bool>;

/// Several engines on a wire with a delay of 10 µs. Packets for which `lose` says so are lost.
pub(crate) struct Net {
    pub(crate) now_ns: u64,
    pub(crate) hosts: Vec<Node>,
    pub(crate) lose: Filter,
    pub(crate) carried: u64,
    /// Packets that an engine did not want.
    pub(crate) dropped: u64,
    wire: VecDeque<(u64, usize, SocketAddr, Sent)>,
    segments: Vec<Segment>,
}

const DELAY_NS: u64 = 10_000;

impl Net {
    /// `count` hosts, all alike; host `i` has port 4000 + i.
    pub(crate) fn new(config: &Config, count: usize) -> Self {
        let mut net = Self {
            now_ns: 1_000 * MS,
            hosts: Vec::new(),
            lose: Box::new(|_, _| false),
            carried: 0,
            dropped: 0,
            wire: VecDeque::new(),
            segments: vec![Segment::EMPTY; 64],
        };
        for index in 0..count {
            let address = address(index as u8 + 1, PORT + index as u16);
            let mut host = Node::new(config, address, 100 + index as u64);
            // It lives for longer than anything that is on its way.
            host.engine.handle_timeout(Instant::ZERO, true);
            net.hosts.push(host);
        }
        net
    }

    /// The host starts anew on the same port and has forgotten everything.
    pub(crate) fn restart(&mut self, host: usize, config: &Config, seed: u64) {
        let old = &self.hosts[host];
        self.hosts[host] = Node { service: old.service, ..Node::new(config, old.address, seed) };
        let now = self.now();
        self.hosts[host].engine.handle_timeout(now, true);
    }

    pub(crate) fn now(&self) -> Instant {
        Instant::from_nanos(self.now_ns)
    }

    pub(crate) fn call(&mut self, from: usize, to: usize, length: u32) -> RpcKey {
        self.call_with(from, to, length, RequestOptions::default())
    }

    pub(crate) fn call_with(
        &mut self,
        from: usize,
        to: usize,
        length: u32,
        options: RequestOptions,
    ) -> RpcKey {
        let way = path(self.hosts[from].address.port(), self.hosts[to].address);
        let now = self.now();
        self.hosts[from].engine.send_request(now, way, length, 5, options).unwrap()
    }

    pub(crate) fn answer(&mut self, host: usize, rpc: RpcKey, length: u32) {
        let now = self.now();
        self.hosts[host]
            .engine
            .send_response(now, rpc, length, ResponseOptions::default())
            .unwrap();
    }

    /// Lets `ms` milliseconds pass.
    pub(crate) fn run(&mut self, ms: u64) {
        let end = self.now_ns + ms * MS;
        loop {
            self.turn();
            let arrival = self.wire.front().map(|packet| packet.0);
            let timer = self
                .hosts
                .iter()
                .filter(|host| !host.stopped)
                .filter_map(|host| host.engine.poll_timeout())
                .map(|(at, _)| at.as_nanos())
                .min();
            let next = match (arrival, timer) {
                (Some(arrival), Some(timer)) => arrival.min(timer),
                (arrival, timer) => arrival.or(timer).unwrap_or(u64::MAX),
            };
            if next > end {
                self.now_ns = end;
                return;
            }
            self.now_ns = self.now_ns.max(next);
            self.deliver();
            let now = self.now();
            for host in self.hosts.iter_mut().filter(|host| !host.stopped) {
                let due = host.engine.poll_timeout();
                if due.is_some_and(|(at, _)| at.as_nanos() <= self.now_ns) {
                    host.engine.handle_timeout(now, true);
                    host.wakeups += 1;
                }
            }
        }
    }

    /// Moves packets of stopped hosts to their sockets and all others into their engines.
    fn deliver(&mut self) {
        let now = self.now();
        let mut waiting = VecDeque::new();
        while let Some((at, from, to, sent)) = self.wire.pop_front() {
            if at > self.now_ns {
                self.wire.push_front((at, from, to, sent));
                break;
            }
            let sender = self.hosts[from].address;
            let Some(host) = self.hosts.iter_mut().find(|host| host.address == to) else {
                continue;
            };
            if host.stopped {
                waiting.push_back((at + MS, from, to, sent));
                continue;
            }
            let meta = RxMeta::new(path(to.port(), sender));
            self.carried += 1;
            let received = host.engine.handle_packet(now, &meta, &sent.bytes, sent.wire_bytes);
            self.dropped += u64::from(matches!(received, Received::Dropped(_)));
        }
        self.wire.extend(waiting);
        self.wire.make_contiguous().sort_by_key(|packet| packet.0);
    }

    /// Hands out events and takes what the engines send, until nothing moves.
    fn turn(&mut self) {
        for index in 0..self.hosts.len() {
            if self.hosts[index].stopped {
                continue;
            }
            self.hosts[index].serve(self.now_ns);
            let now = self.now();
            for sent in drain(&mut self.hosts[index].engine, now, &mut self.segments) {
                if !(self.lose)(index, &sent) {
                    let to = sent.path.remote;
                    self.wire.push_back((self.now_ns + DELAY_NS, index, to, sent));
                }
            }
            self.hosts[index].serve(self.now_ns);
        }
    }

    pub(crate) fn failure(&self, host: usize, of: RpcKey) -> Option<FailReason> {
        failure(&self.hosts[host].log, of)
    }

    pub(crate) fn answered(&self, host: usize, of: RpcKey) -> bool {
        is_answered(&self.hosts[host].log, of, 5)
    }

    /// No RPC is left anywhere and nobody wants to be woken.
    pub(crate) fn assert_quiet(&self) {
        for (index, host) in self.hosts.iter().enumerate() {
            let stats = host.engine.stats();
            let left = (stats.live_rpcs, stats.receive_memory_bytes, stats.incoming_bytes);
            assert_eq!(left, (0, 0, 0), "host {index}: {stats:?}");
            assert_eq!(host.engine.poll_timeout(), None, "host {index}");
        }
    }
}

impl Node {
    fn new(config: &Config, address: SocketAddr, seed: u64) -> Self {
        let mut engine = engine(config.clone(), HostBudget::local(), seed);
        engine.bind_port(address.port(), PortOptions::SERVE).unwrap();
        Self {
            address,
            engine,
            service: Service::Reply(100),
            log: Vec::new(),
            arrived: Vec::new(),
            stopped: false,
            wakeups: 0,
            lengths: HashMap::new(),
            answered_at: HashMap::new(),
        }
    }

    fn serve(&mut self, now: u64) {
        let now = Instant::from_nanos(now);
        while let Some(event) = self.engine.poll_event() {
            event.parts().for_each(|part| self.serve_one(now, part));
        }
    }

    fn serve_one(&mut self, now: Instant, event: Event) {
        match event {
            Event::PeerAdded { path } => self.engine.path_changed(now, path, 1500, None),
            Event::ResponseStarted { rpc, length, .. }
            | Event::RequestStarted { rpc, length, .. } => {
                self.lengths.insert(rpc, length);
            }
            Event::ResponseArrived { rpc, .. } => {
                self.answered_at.insert(rpc, now.as_nanos());
                let length = self.lengths.remove(&rpc).unwrap();
                self.engine.consumed(now, rpc, length).unwrap();
            }
            Event::RequestArrived { rpc, .. } => {
                self.arrived.push(rpc);
                let length = self.lengths.remove(&rpc).unwrap();
                self.engine.consumed(now, rpc, length).unwrap();
                match self.service {
                    Service::Reply(length) => {
                        self.engine
                            .send_response(now, rpc, length, ResponseOptions::default())
                            .unwrap();
                    }
                    Service::ReplyTo(answer_bytes) => {
                        self.engine
                            .send_response(
                                now,
                                rpc,
                                answer_bytes(length),
                                ResponseOptions::default(),
                            )
                            .unwrap();
                    }
                    Service::Hold => {}
                    Service::Refuse(why) => {
                        self.engine.abort(now, rpc, why).unwrap();
                    }
                }
            }
            _ => {}
        }
        self.log.push(event);
    }
}
