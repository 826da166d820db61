//! What the commands need of a transport, so that Homa and TCP run through the same code.

use std::{
    fmt,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::{Buf, Bytes};
use clap::ValueEnum;
pub(crate) use homa_bench::tcp::{Answer, Wait, Writes as TcpWrites};
use homa_sys::process_cpu_time_ns;
use serde::{Deserialize, Serialize};

use crate::{
    body::{self, Order},
    error::CliError,
    options::DriverArgs,
};

pub(crate) mod calls;
pub(crate) mod connect;
pub(crate) mod homa_udp;
pub(crate) mod tcp;

/// The longest message any of the transports here accepts, in bytes.
pub(crate) const MESSAGE_BYTES_MAX: usize = 1 << 30;

/// Which protocol carries the RPCs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ValueEnum)]
pub(crate) enum Protocol {
    /// Homa inside UDP datagrams
    #[serde(rename = "homa-udp")]
    #[value(name = "homa")]
    HomaUdp,
    /// Homa in raw IP packets, chosen by the carriage
    #[serde(rename = "homa-ip")]
    #[value(skip)]
    HomaIp,
    /// Homa in IP packets that look like TCP segments, chosen by the carriage
    #[serde(rename = "homa-ip-tcp")]
    #[value(skip)]
    HomaIpTcp,
    /// Length-prefixed RPCs over TCP connections
    #[serde(rename = "tcp")]
    #[value(name = "tcp")]
    Tcp,
    /// Streams of QUIC, spoken by a program of its own; comparisons only
    #[serde(rename = "quic")]
    #[value(skip)]
    Quic,
    /// Unary calls of gRPC, spoken by that program too; comparisons only
    #[serde(rename = "grpc")]
    #[value(skip)]
    Grpc,
}

impl Protocol {
    /// The name used in tables and documents.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Protocol::HomaUdp => "homa-udp",
            Protocol::HomaIp => "homa-ip",
            Protocol::HomaIpTcp => "homa-ip-tcp",
            Protocol::Tcp => "tcp",
            Protocol::Quic => "quic",
            Protocol::Grpc => "grpc",
        }
    }

    /// Whether it is Homa, however carried.
    pub(crate) fn is_homa(self) -> bool {
        self.carriage().is_some()
    }

    /// Whether a program of its own speaks it.
    pub(crate) fn is_peer(self) -> bool {
        matches!(self, Protocol::Quic | Protocol::Grpc)
    }

    /// The same with Homa packets carried that way.
    pub(crate) fn over(self, carriage: Carriage) -> Self {
        match (self, carriage) {
            (Protocol::Tcp | Protocol::Quic | Protocol::Grpc, _) => self,
            (_, Carriage::Ip) => Protocol::HomaIp,
            (_, Carriage::IpTcp) => Protocol::HomaIpTcp,
            _ => Protocol::HomaUdp,
        }
    }

    /// How Homa packets travel; `None` for other transports.
    pub(crate) fn carriage(self) -> Option<homa_transport::Carriage> {
        match self {
            Protocol::HomaUdp => Some(homa_transport::Carriage::Udp),
            Protocol::HomaIp | Protocol::HomaIpTcp => Some(homa_transport::Carriage::Ip),
            Protocol::Tcp | Protocol::Quic | Protocol::Grpc => None,
        }
    }
}

/// What carries Homa packets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Carriage {
    /// UDP datagrams; needs no privileges
    #[default]
    Udp,
    /// Raw IP, protocol 146, which hosts with the Linux module speak; needs CAP_NET_RAW
    Ip,
    /// As `ip`, with packets that look like TCP segments (the Linux module's `hijack_tcp`); whoever
    /// speaks raw IP understands them too
    IpTcp,
    /// UDP: the one that works everywhere
    Auto,
}

/// The programming interface through which a transport is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Api {
    /// One call at a time from a thread that blocks.
    Blocking,
    /// Many calls at a time from one thread; over TCP an epoll loop.
    Event,
    /// Tasks on a current-thread tokio runtime.
    Tokio,
}

impl fmt::Display for Api {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Api::Blocking => "blocking",
            Api::Event => "event",
            Api::Tokio => "tokio",
        })
    }
}

/// How large the receive buffers of the sockets are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ReceiveBuffer {
    /// As large as the transport likes it.
    Large,
    /// What the system gives a socket that asks for nothing.
    Stock,
}

/// Settings of one side of a transport.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Settings {
    /// What waiting threads do.
    pub wait: Wait,
    /// Number of TCP connections of a client; Homa has none.
    pub connections: usize,
    /// Congestion control of TCP by its name in the kernel, such as `cubic`; none keeps the
    /// system's.
    pub congestion_control: Option<String>,
    /// Receive buffers of the sockets.
    pub receive_buffer: ReceiveBuffer,
    /// With [`Wait::Sleep`]: wait in the transport's default way, which for Homa is to look for
    /// packets for a while before it sleeps, as long as that pays off; if not set, Homa sleeps at
    /// once. TCP does so in either case.
    pub spin: bool,
    /// How a TCP client with several calls at a time writes, and has its server write.
    pub tcp_writes: TcpWrites,
    /// The longest message accepted or sent, in bytes; Homa only.
    pub message_bytes_max: u32,
    /// What moves packets; Homa only.
    #[serde(default)]
    pub driver: DriverArgs,
}

impl Settings {
    /// The same with another driver.
    pub(crate) fn over(self, driver: &DriverArgs) -> Self {
        Self { driver: driver.clone(), ..self }
    }

    /// Those of TCP.
    pub(crate) fn tcp(&self) -> homa_bench::tcp::Settings {
        homa_bench::tcp::Settings {
            wait: self.wait,
            writes: self.tcp_writes,
            connections: self.connections,
            congestion: self.congestion_control.clone(),
            message_bytes_max: MESSAGE_BYTES_MAX,
        }
    }
}

/// Why a call that took too long has no reply.
pub(crate) fn no_reply(server: SocketAddr, timeout: Duration) -> String {
    format!("no reply from {server} within {timeout:?}")
}

/// The end of one call: the reply, or why there is none.
pub(crate) type Outcome<'a> = Result<&'a mut dyn Buf, String>;

/// The client side of a transport, used by one thread for one call at a time.
pub(crate) trait Client {
    /// One call: sends `body`, waits for the reply and shows it to `sink`.
    ///
    /// Fails when there is no reply within `timeout`.
    fn call(
        &mut self,
        body: &Bytes,
        timeout: Duration,
        sink: &mut dyn FnMut(&mut dyn Buf),
    ) -> Result<(), CliError>;
}

/// The client side of a transport, used by one thread for many calls at a time.
pub(crate) trait Pipeline {
    /// Begins a call to the server of this number, which a later [`Pipeline::poll`] reports with
    /// `token`; it may be sent only then.
    fn start(&mut self, token: u64, server: usize, body: &Bytes) -> Result<(), CliError>;

    /// Reports calls that ended; waits for the first one, at most to `until`. Returns how many
    /// there were.
    fn poll(
        &mut self,
        until: Instant,
        sink: &mut dyn FnMut(u64, Outcome<'_>),
    ) -> Result<usize, CliError>;
}

/// The token of a [`call`](Client::call) through a pipeline, which no caller of `start` uses.
const CALL_TOKEN: u64 = u64::MAX >> 1;

impl Client for dyn Pipeline + '_ {
    fn call(
        &mut self,
        body: &Bytes,
        timeout: Duration,
        sink: &mut dyn FnMut(&mut dyn Buf),
    ) -> Result<(), CliError> {
        let deadline = Instant::now() + timeout;
        self.start(CALL_TOKEN, 0, body)?;
        let mut ended = None;
        while ended.is_none() {
            self.poll(deadline, &mut |token, outcome| {
                if token == CALL_TOKEN {
                    ended = Some(outcome.map(&mut *sink));
                }
            })?;
            if ended.is_none() && Instant::now() >= deadline {
                ended = Some(Err(format!("no reply within {timeout:?}")));
            }
        }
        ended.unwrap_or(Ok(())).map_err(CliError::Transport)
    }
}

/// What a server does with requests that carry no [`Order`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Behaviour {
    /// The reply is the request.
    Echo,
    /// The reply is the pattern of [`body::SERVER_SEED`] with this length in bytes.
    Pattern(u32),
    /// The reply is one byte.
    Discard,
}

/// Decides what to answer, and counts; clones share the counters.
#[derive(Debug, Clone)]
pub(crate) struct Responder {
    echo: bool,
    reply: Bytes,
    counters: Arc<Counters>,
}

/// What a server has done so far.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    requests: AtomicU64,
    request_bytes: AtomicU64,
}

impl Responder {
    /// A responder for this behaviour.
    pub(crate) fn new(behaviour: Behaviour) -> Self {
        let reply = match behaviour {
            Behaviour::Echo => Bytes::new(),
            Behaviour::Pattern(length) => body::pattern(body::SERVER_SEED, length as usize),
            Behaviour::Discard => Bytes::from_static(b"."),
        };
        Responder { echo: behaviour == Behaviour::Echo, reply, counters: Arc::default() }
    }

    /// The answer to a request of `length` bytes, of which `head` shows the first (all, or at least
    /// [`body::ORDER_BYTES`]).
    pub(crate) fn answer(&self, head: &[u8], length: usize) -> Answer {
        match Order::decode(head) {
            Some(Order::CpuTime) => {
                Answer::Bytes(Bytes::copy_from_slice(&process_cpu_time_ns().to_le_bytes()))
            }
            Some(Order::Pattern { length: reply_length, seed }) => {
                self.count(length);
                Answer::Bytes(body::pattern(seed, reply_length as usize))
            }
            None if self.echo => {
                self.count(length);
                Answer::Echo
            }
            None => {
                self.count(length);
                Answer::Bytes(self.reply.clone())
            }
        }
    }

    /// Requests answered and their bytes.
    pub(crate) fn served(&self) -> (u64, u64) {
        (
            self.counters.requests.load(Ordering::Relaxed),
            self.counters.request_bytes.load(Ordering::Relaxed),
        )
    }

    fn count(&self, length: usize) {
        self.counters.requests.fetch_add(1, Ordering::Relaxed);
        self.counters.request_bytes.fetch_add(length as u64, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_overrides_the_behaviour_of_the_server() {
        let responder = Responder::new(Behaviour::Echo);
        let order = Order::Pattern { length: 5, seed: 9 }.encode();
        assert_eq!(responder.answer(&order, 100), Answer::Bytes(body::pattern(9, 5)));
        assert_eq!(responder.answer(b"hello", 5), Answer::Echo);
        assert_eq!(responder.served(), (2, 105));
    }

    #[test]
    fn requests_for_cpu_time_are_not_counted_as_served() {
        let responder = Responder::new(Behaviour::Discard);
        let Answer::Bytes(bytes) = responder.answer(&Order::CpuTime.encode(), ORDER) else {
            panic!("no bytes")
        };
        assert_eq!(bytes.len(), 8);
        assert_eq!(responder.served(), (0, 0));
        assert_eq!(responder.answer(b"", 0), Answer::Bytes(Bytes::from_static(b".")));
    }

    const ORDER: usize = body::ORDER_BYTES;
}
