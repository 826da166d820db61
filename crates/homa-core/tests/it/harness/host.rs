//! A hand-driven engine and the packets of its imagined peers.

use std::net::SocketAddr;
use std::ops::Range;

use homa_core::{
    Config, CutoffSource, Cutoffs, Engine, Event, HostBudget, Instant, Path, PortOptions, Received,
    RequestOptions, ResponseOptions, RpcKey, RxMeta, Segment, Stats, Transmit, TransmitError,
};
use homa_wire::{AckEntry, Body, Common, Data, Extension, Grant, Header, Reason, Resend};

use super::{PORT, Sent, address, check, engine, path, read};

/// Longest header of a packet as the engine gets to see it.
const HEADER_BYTES: usize = 128;

/// See [`Config::exact`].
pub(crate) fn exact() -> Config {
    Config::exact()
}

/// Settings with these numbers of priorities and of active messages, all unscheduled data on the
/// top priority.
pub(crate) fn levels(num_priorities: u8, max_overcommit: u8) -> Config {
    let mut table = [0; 8];
    table[usize::from(num_priorities) - 1] = 1_000_000;
    let cutoffs = CutoffSource::Fixed(Cutoffs::new(table));
    exact().with(|config| {
        config.priorities.count = num_priorities;
        config.grants.max_overcommit = max_overcommit;
        config.priorities.cutoffs = cutoffs;
    })
}

/// An imagined peer that writes packets of the native profile.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Remote {
    pub(crate) address: SocketAddr,
    pub(crate) incarnation: u32,
    /// What it believes to be the engine's incarnation; 0 = it does not know.
    pub(crate) echo: u32,
}

impl Remote {
    pub(crate) fn path(&self) -> Path {
        path(PORT, self.address)
    }

    /// DATA `range` of a message of `length` bytes, `incoming` of which come without grants.
    /// `id` is the sender's form: even from a client, odd from a server.
    pub(crate) fn data(
        &self,
        id: u64,
        range: Range<u32>,
        length: u32,
        incoming: u32,
    ) -> (Header, u32) {
        let common = Common::data(self.address.port(), PORT, id, range.start)
            .with_native_profile(self.incarnation);
        let data = Data {
            message_length: length,
            incoming,
            ack: AckEntry::NONE,
            echo: self.echo,
            cutoff_version: Cutoffs::default().version(),
            seg_offset: range.start,
            ..Data::default()
        };
        let header = Header { common, body: Body::Data(data), extension: None };
        (header, range.end - range.start)
    }

    pub(crate) fn control(&self, id: u64, body: Body, reason: Reason, value: u32) -> (Header, u32) {
        let common =
            Common::control(self.address.port(), PORT, id).with_native_profile(self.incarnation);
        let extension = Some(Extension { echo: self.echo, reason, value });
        (Header { common, body, extension }, 0)
    }

    pub(crate) fn grant(&self, id: u64, offset: u32, priority: u8) -> (Header, u32) {
        self.control(id, Body::Grant(Grant { offset, priority }), Reason::None, 0)
    }

    pub(crate) fn resend(&self, id: u64, offset: u32, length: u32) -> (Header, u32) {
        self.control(id, Body::Resend(Resend { offset, length, priority: 7 }), Reason::None, 0)
    }
}

/// An engine that serves at [`PORT`], its clock and what it did.
pub(crate) struct Host {
    pub(crate) engine: Engine,
    pub(crate) now_ns: u64,
    /// Told to the engine for every new peer; `None` leaves the smallest.
    pub(crate) mtu: Option<u32>,
    segments: Vec<Segment>,
    /// Packets of each train.
    pub(crate) trains: Vec<usize>,
    /// Datagrams of each train.
    pub(crate) datagrams: Vec<usize>,
    /// Whether all accounts of the engine are looked at after each step.
    pub(crate) checked: bool,
}

impl Host {
    pub(crate) fn new(config: Config) -> Self {
        Self::with_budget(config, HostBudget::local(), 1)
    }

    pub(crate) fn with_budget(config: Config, budget: HostBudget, seed: u64) -> Self {
        let mut engine = engine(config, budget, seed);
        engine.bind_port(PORT, PortOptions::SERVE).unwrap();
        Self {
            engine,
            now_ns: 1_000_000_000,
            mtu: Some(1500),
            segments: vec![Segment::EMPTY; 64],
            trains: Vec::new(),
            datagrams: Vec::new(),
            checked: true,
        }
    }

    /// Id of a live RPC, in our form.
    pub(crate) fn id_of(&self, rpc: RpcKey) -> u64 {
        self.engine.rpcs().find(|info| info.rpc == rpc).expect("it lives").id
    }

    pub(crate) fn now(&self) -> Instant {
        Instant::from_nanos(self.now_ns)
    }

    /// A peer at 10.0.0.`host` that knows the engine's incarnation.
    pub(crate) fn remote(&self, host: u8, port: u16) -> Remote {
        let address = address(host, port);
        Remote {
            address,
            incarnation: 1000 + u32::from(host),
            echo: self.engine.incarnation(address.ip()),
        }
    }

    fn receive_at(&mut self, path: Path, header: Header, payload: u32) -> Received {
        let mut bytes = [0; HEADER_BYTES];
        let header_bytes = header.encode(&mut bytes).unwrap();
        let length = header_bytes as u32 + payload;
        let shown = HEADER_BYTES.min(length as usize);
        let received =
            self.engine.handle_packet(self.now(), &RxMeta::new(path), &bytes[..shown], length);
        self.check();
        received
    }

    /// The engine receives a packet.
    pub(crate) fn receive(&mut self, remote: &Remote, packet: (Header, u32)) -> Received {
        self.receive_at(remote.path(), packet.0, packet.1)
    }

    /// The engine receives a packet that it must not drop.
    #[track_caller]
    pub(crate) fn take(&mut self, remote: &Remote, packet: (Header, u32)) {
        let received = self.receive(remote, packet);
        assert!(!matches!(received, Received::Dropped(_)), "{received:?} {packet:?}");
    }

    /// The next train; `accept` says how many of its segments the driver takes, and why not more.
    pub(crate) fn sent_partly(&mut self, accept: usize, why: TransmitError) -> Vec<Sent> {
        let now = self.now();
        let Some(transmit) = self.engine.poll_transmit(now, &mut self.segments) else {
            return Vec::new();
        };
        let sent = self.read(&transmit);
        if accept < transmit.segments {
            self.engine.transmit_failed(now, &transmit, &self.segments, accept, why);
            self.check();
        }
        sent.into_iter().take(accept).collect()
    }

    /// One train, if there is one.
    pub(crate) fn train(&mut self) -> Vec<Sent> {
        let now = self.now();
        match self.engine.poll_transmit(now, &mut self.segments) {
            Some(transmit) => self.read(&transmit),
            None => Vec::new(),
        }
    }

    /// Everything that may leave now. Fails if there is no end to it.
    #[track_caller]
    pub(crate) fn sent(&mut self) -> Vec<Sent> {
        let mut all = Vec::new();
        for _ in 0..100_000 {
            let train = self.train();
            if train.is_empty() {
                self.check();
                return all;
            }
            all.extend(train);
        }
        panic!("the engine never stops sending");
    }

    fn read(&mut self, transmit: &Transmit) -> Vec<Sent> {
        self.trains.push(transmit.segments);
        self.datagrams.push(if transmit.coalesced { 1 } else { transmit.segments });
        read(self.now(), transmit, &self.segments)
    }

    /// The events so far; new peers get their MTU.
    pub(crate) fn events(&mut self) -> Vec<Event> {
        let mut events = Vec::new();
        while let Some(event) = self.engine.poll_event() {
            if let (Event::PeerAdded { path }, Some(mtu)) = (&event, self.mtu) {
                self.engine.path_changed(self.now(), *path, mtu, None);
            }
            events.extend(event.parts());
        }
        self.check();
        events
    }

    /// Time passes, in small steps while timers are due; what is sent meanwhile is returned.
    pub(crate) fn pass_ns(&mut self, duration_ns: u64) -> Vec<Sent> {
        let end = self.now_ns + duration_ns;
        let mut all = Vec::new();
        for _ in 0..1_000_000 {
            all.extend(self.sent());
            let next = self.engine.poll_timeout().map_or(end, |(at, _)| at.as_nanos());
            if next >= end || self.now_ns >= end {
                self.now_ns = end;
                self.engine.handle_timeout(self.now(), true);
                all.extend(self.sent());
                return all;
            }
            self.now_ns = next.max(self.now_ns + 1);
            self.engine.handle_timeout(self.now(), true);
        }
        panic!("the engine's timers never let time pass");
    }

    pub(crate) fn pass_ms(&mut self, duration_ms: u64) -> Vec<Sent> {
        self.pass_ns(duration_ms * 1_000_000)
    }

    pub(crate) fn call(&mut self, remote: &Remote, length: u32) -> RpcKey {
        self.call_with(remote, length, RequestOptions::default())
    }

    pub(crate) fn call_with(
        &mut self,
        remote: &Remote,
        length: u32,
        options: RequestOptions,
    ) -> RpcKey {
        let now = self.now();
        let key = self.engine.send_request(now, remote.path(), length, 0, options).unwrap();
        self.events();
        key
    }

    pub(crate) fn stats(&self) -> Stats {
        self.engine.stats()
    }

    /// The RPC of the last `RequestArrived` among the events so far.
    #[track_caller]
    pub(crate) fn arrived(&mut self) -> RpcKey {
        let arrived = |event: &Event| match event {
            Event::RequestArrived { rpc, .. } => Some(*rpc),
            _ => None,
        };
        self.events().iter().rev().find_map(arrived).expect("a request arrived")
    }

    /// A request of `length` bytes comes in one piece and is answered with `reply` bytes.
    pub(crate) fn serve(&mut self, remote: &Remote, id: u64, length: u32, reply: u32) -> RpcKey {
        self.take(remote, remote.data(id, 0..length, length, length));
        let rpc = self.arrived();
        self.engine.send_response(self.now(), rpc, reply, ResponseOptions::default()).unwrap();
        rpc
    }

    fn check(&self) {
        if self.checked {
            check(&self.engine);
        }
    }
}
