//! Two ways to drive engines by hand in virtual time: [`Solo`], one engine that is fed crafted packets, and
//! [`Net`], several engines on a wire that a test may cut.

use std::collections::VecDeque;
use std::net::SocketAddr;

use homa_core::{
    Carriage, Config, Engine, Event, FailReason, HostBudget, Instant, Path, PortOptions, Received,
    RequestOptions, RpcKey, RxMeta, Segment, SendError,
};
use homa_wire::{Body, Common, Data, Extension, Header, Reason};

pub(crate) const MS: u64 = 1_000_000;
/// Payload of a full segment at the MTU that the harness sets (1,500 over UDP and IPv4).
pub(crate) const FULL: u32 = 1500 - 20 - 8 - 56;
pub(crate) const PORT: u16 = 4000;
/// Incarnation that crafted packets carry.
pub(crate) const THEIRS: u32 = 0x00AB_CDEF;

pub(crate) fn address(host: u8, port: u16) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, host], port))
}

/// The way from our port `local_port` to `remote`.
pub(crate) fn path(local_port: u16, remote: SocketAddr) -> Path {
    Path { remote, local_ip: None, local_port, interface: 0, carriage: Carriage::Udp }
}

/// A packet that an engine sent.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    pub(crate) at: u64,
    pub(crate) path: Path,
    pub(crate) priority: u8,
    pub(crate) header: Header,
    pub(crate) bytes: Vec<u8>,
    pub(crate) wire_bytes: u32,
    pub(crate) rpc: Option<RpcKey>,
}

impl Sent {
    pub(crate) fn data(&self) -> Option<&Data> {
        match &self.header.body {
            Body::Data(data) => Some(data),
            _ => None,
        }
    }

    /// Range of the message that a DATA packet carries.
    pub(crate) fn range(&self) -> Option<(u32, u32)> {
        self.data().map(|data| {
            let end = data.seg_offset + self.wire_bytes - 56;
            (data.seg_offset, end.min(data.message_length))
        })
    }

    pub(crate) fn resend(&self) -> Option<(u32, u32)> {
        match &self.header.body {
            Body::Resend(resend) => Some((resend.offset, resend.length)),
            _ => None,
        }
    }

    pub(crate) fn grant(&self) -> Option<u32> {
        match &self.header.body {
            Body::Grant(grant) => Some(grant.offset),
            _ => None,
        }
    }

    /// The reason if it is RPC_UNKNOWN.
    pub(crate) fn unknown(&self) -> Option<Reason> {
        matches!(self.header.body, Body::RpcUnknown).then(|| self.header.reason())
    }

    pub(crate) fn is(&self, body: &Body) -> bool {
        self.header.body.packet_type() == body.packet_type()
    }

    pub(crate) fn is_data(&self) -> bool {
        self.data().is_some()
    }

    pub(crate) fn is_ack(&self) -> bool {
        matches!(self.header.body, Body::Ack(_))
    }
}

fn drain(engine: &mut Engine, now: u64, segments: &mut [Segment]) -> Vec<Sent> {
    let mut sent = Vec::new();
    while let Some(transmit) = engine.poll_transmit(Instant::from_nanos(now), segments) {
        for segment in &segments[..transmit.segments] {
            sent.push(Sent {
                at: now,
                path: transmit.path,
                priority: transmit.priority,
                header: Header::parse(segment.header(), segment.wire_bytes()).unwrap(),
                bytes: segment.header().to_vec(),
                wire_bytes: segment.wire_bytes(),
                rpc: segment.rpc,
            });
        }
        assert!(sent.len() < 1_000_000, "the engine sends without end");
    }
    check(engine);
    sent
}

/// One engine and crafted packets. [`PORT`] is open and serves.
pub(crate) struct Solo {
    pub(crate) engine: Engine,
    pub(crate) now: u64,
    pub(crate) segments: Vec<Segment>,
    /// Events handed out so far.
    pub(crate) log: Vec<Event>,
    /// Calls of `handle_timeout` made by `advance`.
    pub(crate) wakeups: u64,
}

impl Solo {
    pub(crate) fn new(config: Config) -> Self {
        let mut engine = Engine::new(config, HostBudget::local(), 7).unwrap();
        engine.bind_port(PORT, PortOptions::SERVE).unwrap();
        Self {
            engine,
            now: 1_000 * MS,
            segments: vec![Segment::EMPTY; 64],
            log: Vec::new(),
            wakeups: 0,
        }
    }

    /// Incarnation of the engine, as it is known at an address.
    pub(crate) fn ours(&self, at: SocketAddr) -> u32 {
        self.engine.incarnation(at.ip())
    }

    pub(crate) fn instant(&self) -> Instant {
        Instant::from_nanos(self.now)
    }

    pub(crate) fn drain(&mut self) -> Vec<Sent> {
        drain(&mut self.engine, self.now, &mut self.segments)
    }

    /// Events since the last look; answers `PeerAdded` with an MTU of 1,500.
    pub(crate) fn events(&mut self) -> Vec<Event> {
        let mut events = Vec::new();
        let now = self.instant();
        while let Some(event) = self.engine.poll_event() {
            if let Event::PeerAdded { path } = event {
                self.engine.path_changed(now, path, 1500, None);
            } else {
                events.push(event);
            }
        }
        self.log.extend(events.iter().cloned());
        events
    }

    pub(crate) fn raw(&mut self, from: SocketAddr, bytes: &[u8], length: u32) -> Received {
        let meta = RxMeta::new(path(PORT, from));
        self.engine.handle_packet(self.instant(), &meta, bytes, length)
    }

    pub(crate) fn header(&mut self, from: SocketAddr, header: &Header, payload: u32) -> Received {
        let mut bytes = [0; 96];
        let written = header.encode(&mut bytes).unwrap();
        self.raw(from, &bytes[..written], written as u32 + payload)
    }

    /// A control packet with the sender's form `id`; it echoes our incarnation.
    pub(crate) fn control(
        &mut self,
        from: SocketAddr,
        id: u64,
        body: Body,
        why: Reason,
        value: u32,
    ) -> Received {
        let common = Common::control(from.port(), PORT, id).with_own_profile(THEIRS);
        let extension = Some(Extension { echo: self.ours(from), reason: why, value });
        self.header(from, &Header { common, body, extension }, 0)
    }

    pub(crate) fn data_header(&self, from: SocketAddr, id: u64, length: u32, start: u32) -> Header {
        let common = Common::data(from.port(), PORT, id, start).with_own_profile(THEIRS);
        let data = Data {
            message_length: length,
            incoming: length.min(40_000),
            echo: self.ours(from),
            seg_offset: start,
            ..Data::default()
        };
        Header { common, body: Body::Data(data), extension: None }
    }

    /// DATA with bytes `range` of a message of `length`, from a peer that knows our incarnation.
    pub(crate) fn data(
        &mut self,
        from: SocketAddr,
        id: u64,
        length: u32,
        range: (u32, u32),
    ) -> Received {
        let header = self.data_header(from, id, length, range.0);
        self.header(from, &header, range.1 - range.0)
    }

    /// A whole message in full segments.
    pub(crate) fn message(&mut self, from: SocketAddr, id: u64, length: u32) {
        let mut start = 0;
        while start < length {
            let end = (start + FULL).min(length);
            let _ = self.data(from, id, length, (start, end));
            start = end;
        }
    }

    /// A request that arrived completely; the events about it were taken.
    pub(crate) fn request(&mut self, from: SocketAddr, id: u64, length: u32) -> RpcKey {
        self.message(from, id, length);
        let rpc = self
            .events()
            .iter()
            .find_map(|event| match event {
                Event::RequestArrived { rpc } => Some(*rpc),
                _ => None,
            })
            .expect("the request arrives");
        self.drain();
        rpc
    }

    pub(crate) fn call(&mut self, to: SocketAddr, length: u32) -> RpcKey {
        self.call_with(to, length, RequestOptions::default()).unwrap()
    }

    pub(crate) fn call_with(
        &mut self,
        to: SocketAddr,
        length: u32,
        options: RequestOptions,
    ) -> Result<RpcKey, SendError> {
        let rpc = self.engine.send_request(self.instant(), path(PORT, to), length, 77, options)?;
        self.events();
        Ok(rpc)
    }

    /// A call whose first packets were sent; also the id in the server's form.
    pub(crate) fn called(&mut self, to: SocketAddr, length: u32) -> (RpcKey, u64, Vec<Sent>) {
        let rpc = self.call(to, length);
        let sent = self.drain();
        let id = sent.iter().find(|sent| sent.rpc == Some(rpc)).unwrap().header.common.sender_id;
        (rpc, id | 1, sent)
    }

    pub(crate) fn answer(&mut self, rpc: RpcKey, length: u32) -> Vec<Sent> {
        self.engine.send_response(self.instant(), rpc, length).unwrap();
        self.drain()
    }

    /// Lets `ms` milliseconds pass, waking the engine whenever it asks for it. Returns what it sent.
    pub(crate) fn advance(&mut self, ms: u64) -> Vec<Sent> {
        self.advance_ns(ms * MS)
    }

    pub(crate) fn advance_ns(&mut self, ns: u64) -> Vec<Sent> {
        let end = self.now + ns;
        let mut sent = self.drain();
        self.events();
        while let Some((at, _)) = self.engine.poll_timeout() {
            let at = at.as_nanos();
            if at > end {
                break;
            }
            self.now = self.now.max(at);
            self.engine.handle_timeout(self.instant(), true);
            self.wakeups += 1;
            assert!(self.wakeups < 10_000_000, "the engine never sleeps");
            sent.extend(self.drain());
            self.events();
        }
        self.now = end;
        sent
    }

    pub(crate) fn failure(&self, of: RpcKey) -> Option<FailReason> {
        failure(&self.log, of)
    }

    pub(crate) fn ended(&self, of: RpcKey) -> bool {
        self.log.contains(&Event::Ended { rpc: of })
    }
}

pub(crate) fn failure(log: &[Event], of: RpcKey) -> Option<FailReason> {
    log.iter().find_map(|event| match event {
        Event::Failed { rpc, reason, .. } if *rpc == of => Some(*reason),
        _ => None,
    })
}

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
    Reject,
}

/// An engine at an address.
pub(crate) struct Host {
    pub(crate) address: SocketAddr,
    pub(crate) engine: Engine,
    pub(crate) service: Service,
    pub(crate) log: Vec<Event>,
    /// Requests that arrived completely.
    pub(crate) arrived: Vec<RpcKey>,
    /// Gets no turns: its process is stopped.
    pub(crate) stopped: bool,
    pub(crate) wakeups: u64,
    lengths: std::collections::HashMap<RpcKey, u32>,
    /// When responses were complete.
    pub(crate) answered_at: std::collections::HashMap<RpcKey, u64>,
}

/// Decides whether a packet gets lost; sees the sender's number.
pub(crate) type Filter = Box<dyn FnMut(usize, &Sent) -> bool>;

/// Several engines on a wire with a delay of 10 µs. Packets for which `lose` says so are lost.
pub(crate) struct Net {
    pub(crate) now: u64,
    pub(crate) hosts: Vec<Host>,
    pub(crate) lose: Filter,
    pub(crate) carried: u64,
    wire: VecDeque<(u64, usize, SocketAddr, Sent)>,
    segments: Vec<Segment>,
}

const DELAY_NS: u64 = 10_000;

impl Net {
    /// `count` hosts, all alike; host `i` has port 4000 + i.
    pub(crate) fn new(config: &Config, count: usize) -> Self {
        let mut net = Self {
            now: 1_000 * MS,
            hosts: Vec::new(),
            lose: Box::new(|_, _| false),
            carried: 0,
            wire: VecDeque::new(),
            segments: vec![Segment::EMPTY; 64],
        };
        for index in 0..count {
            let address = address(index as u8 + 1, PORT + index as u16);
            let mut host = Host::new(config, address, 100 + index as u64);
            // It lives for longer than anything that is on its way.
            host.engine.handle_timeout(Instant::ZERO, true);
            net.hosts.push(host);
        }
        net
    }

    /// The host starts anew on the same port and has forgotten everything.
    pub(crate) fn restart(&mut self, host: usize, config: &Config, seed: u64) {
        let old = &self.hosts[host];
        self.hosts[host] = Host { service: old.service, ..Host::new(config, old.address, seed) };
        self.hosts[host].engine.handle_timeout(Instant::from_nanos(self.now), true);
    }

    pub(crate) fn instant(&self) -> Instant {
        Instant::from_nanos(self.now)
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
        let now = self.instant();
        self.hosts[from].engine.send_request(now, way, length, 5, options).unwrap()
    }

    pub(crate) fn answer(&mut self, host: usize, rpc: RpcKey, length: u32) {
        let now = self.instant();
        self.hosts[host].engine.send_response(now, rpc, length).unwrap();
    }

    /// Lets `ms` milliseconds pass.
    pub(crate) fn run(&mut self, ms: u64) {
        let end = self.now + ms * MS;
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
                self.now = end;
                return;
            }
            self.now = self.now.max(next);
            self.deliver();
            for host in self.hosts.iter_mut().filter(|host| !host.stopped) {
                let due = host.engine.poll_timeout();
                if due.is_some_and(|(at, _)| at.as_nanos() <= self.now) {
                    host.engine.handle_timeout(Instant::from_nanos(self.now), true);
                    host.wakeups += 1;
                }
            }
        }
    }

    /// Moves packets of stopped hosts to their sockets and all others into their engines.
    fn deliver(&mut self) {
        let mut waiting = VecDeque::new();
        while let Some((at, from, to, sent)) = self.wire.pop_front() {
            if at > self.now {
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
            let now = Instant::from_nanos(self.now);
            let _ = host.engine.handle_packet(now, &meta, &sent.bytes, sent.wire_bytes);
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
            self.hosts[index].serve(self.now);
            for sent in drain(&mut self.hosts[index].engine, self.now, &mut self.segments) {
                if !(self.lose)(index, &sent) {
                    let to = sent.path.remote;
                    self.wire.push_back((self.now + DELAY_NS, index, to, sent));
                }
            }
            self.hosts[index].serve(self.now);
        }
    }

    pub(crate) fn failure(&self, host: usize, of: RpcKey) -> Option<FailReason> {
        failure(&self.hosts[host].log, of)
    }

    pub(crate) fn answered(&self, host: usize, of: RpcKey) -> bool {
        self.hosts[host].log.contains(&Event::ResponseArrived { rpc: of, cookie: 5 })
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

impl Host {
    fn new(config: &Config, address: SocketAddr, seed: u64) -> Self {
        let mut engine = Engine::new(config.clone(), HostBudget::local(), seed).unwrap();
        engine.bind_port(address.port(), PortOptions::SERVE).unwrap();
        Self {
            address,
            engine,
            service: Service::Reply(100),
            log: Vec::new(),
            arrived: Vec::new(),
            stopped: false,
            wakeups: 0,
            lengths: std::collections::HashMap::new(),
            answered_at: std::collections::HashMap::new(),
        }
    }

    fn serve(&mut self, now: u64) {
        let now = Instant::from_nanos(now);
        while let Some(event) = self.engine.poll_event() {
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
                Event::RequestArrived { rpc } => {
                    self.arrived.push(rpc);
                    let length = self.lengths.remove(&rpc).unwrap();
                    self.engine.consumed(now, rpc, length).unwrap();
                    match self.service {
                        Service::Reply(length) => {
                            self.engine.send_response(now, rpc, length).unwrap();
                        }
                        Service::ReplyTo(answer_bytes) => {
                            self.engine.send_response(now, rpc, answer_bytes(length)).unwrap();
                        }
                        Service::Hold => {}
                        Service::Reject => {
                            self.engine.abort(now, rpc, FailReason::Aborted).unwrap();
                        }
                    }
                }
                _ => {}
            }
            self.log.push(event);
        }
    }
}

/// All accounts of the engine are right. What many RPCs do is for the worlds: a look at each of them after each step
/// would take most of the time.
fn check(engine: &Engine) {
    if engine.check_cost() <= 1024 {
        engine.check();
    }
}
