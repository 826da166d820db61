//! One engine that is fed crafted packets.

use std::net::SocketAddr;

use homa_core::{
    Config, Engine, Event, FailReason, HostBudget, Instant, PortOptions, Received, RequestOptions,
    ResponseOptions, RpcKey, RxMeta, Segment, SendError,
};
use homa_wire::{Body, Common, Data, Extension, Header, Reason};

use super::{FULL, MS, PORT, Sent, drain, engine, path};

/// Incarnation that crafted packets carry.
pub(crate) const THEIRS: u32 = 0x00AB_CDEF;

/// One engine and crafted packets. [`PORT`] is open and serves.
pub(crate) struct Solo {
    pub(crate) engine: Engine,
    pub(crate) now_ns: u64,
    pub(crate) segments: Vec<Segment>,
    /// Events handed out so far.
    pub(crate) log: Vec<Event>,
    /// Calls of `handle_timeout` made by `advance`.
    pub(crate) wakeups: u64,
}

impl Solo {
    pub(crate) fn new(config: Config) -> Self {
        let mut engine = engine(config, HostBudget::local(), 7);
        engine.bind_port(PORT, PortOptions::SERVE).unwrap();
        Self {
            engine,
            now_ns: 1_000 * MS,
            segments: vec![Segment::EMPTY; 64],
            log: Vec::new(),
            wakeups: 0,
        }
    }

    /// Incarnation of the engine, as it is known at an address.
    pub(crate) fn ours(&self, at: SocketAddr) -> u32 {
        self.engine.incarnation(at.ip())
    }

    pub(crate) fn now(&self) -> Instant {
        Instant::from_nanos(self.now_ns)
    }

    pub(crate) fn drain(&mut self) -> Vec<Sent> {
        let now = self.now();
        drain(&mut self.engine, now, &mut self.segments)
    }

    /// Events since the last look; answers `PeerAdded` with an MTU of 1,500.
    pub(crate) fn events(&mut self) -> Vec<Event> {
        let mut events = Vec::new();
        let now = self.now();
        while let Some(event) = self.engine.poll_event() {
            if let Event::PeerAdded { path } = event {
                self.engine.path_changed(now, path, 1500, None);
            } else {
                events.extend(event.parts());
            }
        }
        self.log.extend(events.iter().cloned());
        events
    }

    pub(crate) fn raw(&mut self, from: SocketAddr, bytes: &[u8], length: u32) -> Received {
        let meta = RxMeta::new(path(PORT, from));
        self.engine.handle_packet(self.now(), &meta, bytes, length)
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
        let common = Common::control(from.port(), PORT, id).with_native_profile(THEIRS);
        let extension = Some(Extension { echo: self.ours(from), reason: why, value });
        self.header(from, &Header { common, body, extension }, 0)
    }

    pub(crate) fn data_header(&self, from: SocketAddr, id: u64, length: u32, start: u32) -> Header {
        let common = Common::data(from.port(), PORT, id, start).with_native_profile(THEIRS);
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
                Event::RequestArrived { rpc, .. } => Some(*rpc),
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
        let rpc = self.engine.send_request(self.now(), path(PORT, to), length, 77, options)?;
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
        self.engine.send_response(self.now(), rpc, length, ResponseOptions::default()).unwrap();
        self.drain()
    }

    /// Lets `ms` milliseconds pass, waking the engine whenever it asks for it. Returns what it
    /// sent.
    pub(crate) fn advance(&mut self, ms: u64) -> Vec<Sent> {
        self.advance_ns(ms * MS)
    }

    pub(crate) fn advance_ns(&mut self, ns: u64) -> Vec<Sent> {
        let end = self.now_ns + ns;
        let mut sent = self.drain();
        self.events();
        while let Some((at, _)) = self.engine.poll_timeout() {
            let at = at.as_nanos();
            if at > end {
                break;
            }
            self.now_ns = self.now_ns.max(at);
            self.engine.handle_timeout(self.now(), true);
            self.wakeups += 1;
            assert!(self.wakeups < 10_000_000, "the engine never sleeps");
            sent.extend(self.drain());
            self.events();
        }
        self.now_ns = end;
        sent
    }

    pub(crate) fn failure(&self, of: RpcKey) -> Option<FailReason> {
        failure(&self.log, of)
    }

    pub(crate) fn ended(&self, of: RpcKey) -> bool {
        self.log.contains(&Event::Ended { rpc: of })
    }
}

/// Whether the response of a call with this cookie is complete.
pub(crate) fn is_answered(log: &[Event], of: RpcKey, with: u64) -> bool {
    log.iter().any(|event| match event {
        Event::ResponseArrived { rpc, cookie, .. } => *rpc == of && *cookie == with,
        _ => false,
    })
}

pub(crate) fn failure(log: &[Event], of: RpcKey) -> Option<FailReason> {
    log.iter().find_map(|event| match event {
        Event::Failed { rpc, reason, .. } if *rpc == of => Some(*reason),
        _ => None,
    })
}
