//! The engine that ships as a transport of the simulation.
//!
//! A message is a request. The engine has no one-way messages, so the server responds with one
//! byte, which ends the call. The response goes beside the network ([`Responses::Outside`]), as
//! the published evaluation has none, or through it ([`Responses::Inside`]), as in real life.
//!
//! Where the application has calls ([`Homa::with_calls`]), its response is that of the RPC, and
//! goes through the network in both cases.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
};

use homa_core::{
    Carriage, Config, ConfigError, Engine, Event, HostBudget, Instant, Path, PortOptions, Received,
    RequestOptions, ResponseOptions, RpcInfo, RpcKey, RxMeta, SEGMENT_HEADER_MAX, Segment,
    Transmit,
};
use homa_wire::{DATA_HEADER_BYTES, PacketType};

use super::{Protocol, Transport};
use crate::{
    event::{HostId, MessageId},
    fabric::Topology,
    packet::{Delivered, Outgoing, PacketSize, wire_bytes},
    time::Time,
};

/// Homa's port, on every host.
const PORT: u16 = 4000;
/// Bytes of an IPv4 header.
const IP_BYTES: u32 = 20;
/// Most packets that the engine hands over at a time.
const TRAIN_PACKETS: usize = 64;
/// Bytes of a response.
const RESPONSE_BYTES: u32 = 1;

/// Which way responses go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Responses {
    /// Beside the network: they load no link. NICs ask for each packet.
    Outside,
    /// Through the network, as everything else, to a NIC that takes what it is given.
    Inside,
}

/// Homa with these settings on every host.
#[derive(Clone, Debug)]
pub struct Homa {
    config: Config,
    responses: Responses,
    calls: bool,
    seed: u64,
}

impl Homa {
    /// Homa with settings.
    ///
    /// # Errors
    /// A setting is out of its range.
    pub fn new(config: Config, responses: Responses, seed: u64) -> Result<Self, ConfigError> {
        config.validate()?;
        Ok(Self { config, responses, calls: false, seed })
    }

    /// The same, where the application responds if `calls`.
    #[must_use]
    pub fn with_calls(self, calls: bool) -> Self {
        Self { calls, ..self }
    }

    /// The transport of a host with a link of so many Mbit/s.
    fn host(&self, host: HostId, link_mbps: u32) -> HomaHost {
        let seed = self.seed ^ u64::from(host.0);
        let mut engine = Engine::new(self.config.clone(), HostBudget::local(), seed)
            .expect("settings were validated");
        engine.bind_port(PORT, PortOptions::SERVE).expect("the first port");
        engine.set_incoming_link(Some(link_mbps));
        // Where the NIC asks for each packet the engine gives one at a time.
        let pulled = self.responses == Responses::Outside;
        let segments = if pulled { 1 } else { TRAIN_PACKETS };
        if !pulled {
            engine.set_tx_backlog(Instant::ZERO, Some(0));
        }
        HomaHost {
            host,
            engine,
            responses: self.responses,
            calls: self.calls,
            asked: HashMap::new(),
            mtu: self.config.output.mtu_max.min(1500),
            sending: ByRpc::new(),
            receiving: ByRpc::new(),
            segments: vec![Segment::EMPTY; segments],
            train: None,
            failed: 0,
        }
    }
}

impl Protocol for Homa {
    type Host = HomaHost;

    fn hosts(&self, network: &Topology) -> Vec<HomaHost> {
        (0..network.hosts()).map(|host| self.host(HostId(host), network.host_rate.mbps())).collect()
    }

    fn packet_size(&self) -> PacketSize {
        let header_bytes = IP_BYTES + DATA_HEADER_BYTES as u32;
        PacketSize { ip_bytes_max: self.config.output.mtu_max.min(1500), header_bytes }
    }

    /// GRANTs, and the response where it goes through the network.
    fn control_bytes(&self, bytes: u32) -> f64 {
        let (size, grants) = (self.packet_size(), &self.config.grants);
        let window = match grants.window_bytes {
            0 => grants.max_incoming_bytes,
            fixed => fixed,
        };
        // A GRANT leaves when so many whole packets have come.
        let step = grants.step_bytes.min(window / 4).max(1).next_multiple_of(size.payload_max());
        let grants = bytes.saturating_sub(self.config.unscheduled.bytes).div_ceil(step);
        let response = match self.responses {
            _ if self.calls => 0,
            Responses::Outside => 0,
            Responses::Inside => size.wire_bytes(RESPONSE_BYTES),
        };
        let grant = wire_bytes(IP_BYTES + PacketType::Grant.header_bytes() as u32);
        f64::from(grants) * f64::from(grant) + f64::from(response)
    }
}

/// Header of a packet of Homa.
#[derive(Clone, Copy, Debug)]
pub struct HomaHeader {
    bytes: [u8; SEGMENT_HEADER_MAX],
    header_bytes: u8,
    /// Length of the packet from its Homa header on.
    wire_bytes: u32,
}

/// What a host knows of a message that comes in.
#[derive(Clone, Copy, Debug)]
struct Incoming {
    message: MessageId,
    bytes: u32,
}

/// The engine of a host.
#[derive(Debug)]
pub struct HomaHost {
    host: HostId,
    engine: Engine,
    responses: Responses,
    /// Whether the application responds.
    calls: bool,
    /// Requests that it has not responded to.
    asked: HashMap<MessageId, RpcKey>,
    mtu: u32,
    /// Messages of this host.
    sending: ByRpc<MessageId>,
    /// Messages of others.
    receiving: ByRpc<Incoming>,
    segments: Vec<Segment>,
    /// What the engine handed over last, and how much of it has left.
    train: Option<(Transmit, usize)>,
    failed: u64,
}

impl HomaHost {
    fn path(&self, to: HostId) -> Path {
        let local_ip = Some(address(self.host).ip());
        let carriage = Carriage::Ip;
        Path { remote: address(to), local_ip, local_port: PORT, interface: 0, carriage }
    }

    /// The next packet of the train that the engine handed over, or of its next one.
    fn next_segment(&mut self, now: Instant) -> Option<(Transmit, usize)> {
        let (transmit, index) = match self.train.take() {
            Some(train) => train,
            None => (self.engine.poll_transmit(now, &mut self.segments)?, 0),
        };
        if index + 1 < transmit.segments {
            self.train = Some((transmit.clone(), index + 1));
        }
        Some((transmit, index))
    }
}

impl Transport for HomaHost {
    type Header = HomaHeader;

    fn send(&mut self, now: Time, message: MessageId, to: HostId, bytes: u32) -> bool {
        let (path, options) = (self.path(to), RequestOptions::default());
        let (now, cookie) = (engine_time(now), u64::from(message.0));
        let Ok(rpc) = self.engine.send_request(now, path, bytes, cookie, options) else {
            self.failed += 1;
            return false;
        };
        self.sending.set(rpc, message);
        true
    }

    fn respond(
        &mut self,
        now: Time,
        request: MessageId,
        response: MessageId,
        _to: HostId,
        bytes: u32,
    ) -> bool {
        let sent = self.asked.remove(&request).filter(|rpc| {
            self.engine
                .send_response(engine_time(now), *rpc, bytes, ResponseOptions::default())
                .is_ok()
        });
        let Some(rpc) = sent else {
            self.failed += 1;
            return false;
        };
        self.sending.set(rpc, response);
        true
    }

    fn receive(&mut self, now: Time, packet: &Delivered<'_, HomaHeader>) {
        let header = packet.header;
        let path = self.path(packet.from);
        let meta = RxMeta { path, dscp: packet.priority << 3, ecn: 0 };
        let bytes = &header.bytes[..usize::from(header.header_bytes)];
        let received = self.engine.handle_packet(engine_time(now), &meta, bytes, header.wire_bytes);
        // A response that is not the application's carries no message.
        if let (Received::Place(place), Some(message)) = (received, packet.message) {
            let incoming = Incoming { message, bytes: place.message_length };
            self.receiving.set(place.rpc, incoming);
        }
    }

    fn settle(&mut self, now: Time) {
        self.engine.handle_timeout(engine_time(now), true);
    }

    fn arrived(&mut self, now: Time) -> Option<MessageId> {
        let now = engine_time(now);
        while let Some(event) = self.engine.poll_event() {
            match event {
                Event::RequestArrived { rpc, .. } | Event::RequestWhole { rpc, .. } => {
                    let Some(incoming) = self.receiving.get(rpc) else { continue };
                    let taken = self.engine.consumed(now, rpc, incoming.bytes);
                    let responded = match self.calls {
                        true => {
                            self.asked.insert(incoming.message, rpc);
                            Ok(())
                        }
                        false => self.engine.send_response(
                            now,
                            rpc,
                            RESPONSE_BYTES,
                            ResponseOptions::default(),
                        ),
                    };
                    self.failed += u64::from(taken.is_err() || responded.is_err());
                    return Some(incoming.message);
                }
                Event::ResponseArrived { rpc, .. } | Event::ResponseWhole { rpc, .. } => {
                    let incoming = self.receiving.get(rpc);
                    let bytes = incoming.map_or(RESPONSE_BYTES, |incoming| incoming.bytes);
                    self.failed += u64::from(self.engine.consumed(now, rpc, bytes).is_err());
                    if let Some(incoming) = incoming {
                        return Some(incoming.message);
                    }
                }
                Event::Failed { .. } => self.failed += 1,
                Event::PeerAdded { path } => self.engine.path_changed(now, path, self.mtu, None),
                _ => {}
            }
        }
        None
    }

    fn transmit(&mut self, now: Time) -> Option<Outgoing<HomaHeader>> {
        let (transmit, index) = self.next_segment(engine_time(now))?;
        let segment = &self.segments[index];
        let header = segment.header();
        let is_data = !segment.payload.is_empty();
        let message = segment.rpc.filter(|_| is_data).and_then(|rpc| self.sending.get(rpc));
        let mut bytes = [0; SEGMENT_HEADER_MAX];
        bytes[..header.len()].copy_from_slice(header);
        let wire_bytes = segment.wire_bytes();
        Some(Outgoing {
            to: host_at(transmit.path.remote),
            ip_bytes: IP_BYTES + wire_bytes,
            priority: transmit.priority,
            // Homa's order is that of its priorities, and all goes from port to port.
            rank: 0,
            flow: 0,
            ecn: false,
            message,
            outside: self.responses == Responses::Outside && is_data && message.is_none(),
            header: HomaHeader { bytes, header_bytes: header.len() as u8, wire_bytes },
        })
    }

    fn may_send(&self, message: MessageId) -> bool {
        let is_it = |info: &RpcInfo| self.sending.get(info.rpc) == Some(message);
        self.engine.rpcs().find(is_it).is_some_and(|rpc| rpc.tx_granted > rpc.tx_sent)
    }

    fn asks_backlog(&self, now: Time) -> bool {
        self.engine.asks_tx_backlog(engine_time(now))
    }

    fn set_backlog(&mut self, now: Time, bytes: u64) {
        self.engine.set_tx_backlog(engine_time(now), Some(bytes));
    }

    fn failed(&self) -> u64 {
        self.failed
    }

    fn timeout(&mut self, _now: Time) -> Option<Time> {
        self.engine.poll_timeout().map(|(at, _)| Time::from_ns(at.as_nanos()))
    }
}

/// What is known of RPCs of an engine.
#[derive(Debug)]
struct ByRpc<T>(Vec<Option<(RpcKey, T)>>);

impl<T: Copy> ByRpc<T> {
    fn new() -> Self {
        Self(Vec::new())
    }

    fn set(&mut self, rpc: RpcKey, value: T) {
        let index = rpc.index as usize;
        if index >= self.0.len() {
            self.0.resize(index + 1, None);
        }
        self.0[index] = Some((rpc, value));
    }

    fn get(&self, rpc: RpcKey) -> Option<T> {
        let entry = self.0.get(rpc.index as usize).copied().flatten();
        entry.filter(|(key, _)| *key == rpc).map(|(_, value)| value)
    }
}

/// The engine counts nanoseconds.
fn engine_time(now: Time) -> Instant {
    Instant::from_nanos(now.as_ns())
}

/// The address of a host: within 10.0.0.0/8.
fn address(host: HostId) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::from(NETWORK | (host.0 + 1))), PORT)
}

/// The host with an address.
fn host_at(address: SocketAddr) -> HostId {
    match address.ip() {
        IpAddr::V4(ip) => HostId((u32::from(ip) & !NETWORK).wrapping_sub(1)),
        IpAddr::V6(_) => unreachable!("hosts have addresses of IPv4"),
    }
}

/// 10.0.0.0.
const NETWORK: u32 = 10 << 24;
