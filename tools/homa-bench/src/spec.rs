//! What the controller of a run and its host agents tell each other: one JSON document per line.
//!
//! The controller writes a [`HostSpec`], then any number of [`Order`]s; the agent answers with
//! [`Report`]s. When its input ends, the agent ends.

use std::net::{IpAddr, SocketAddr};

use homa_report::summary::UnloadedTime;
use homa_transport::Config;
use serde::{Deserialize, Serialize};

use crate::{settings::named, transport::Transport, workload::Workload};

/// What a host agent is: server and client of one transport.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HostSpec {
    /// Its number, from 0.
    pub host: u32,
    /// Where it serves.
    pub listen: IpAddr,
    /// Port it serves at; 0 for one of the system's choice.
    pub port: u16,
    /// What it speaks.
    pub transport: Transport,
    /// Settings of Homa; others use at most the longest packet.
    #[serde(with = "named")]
    pub homa: Config,
    /// What it answers requests with.
    pub reply: Reply,
    /// Longest message, in bytes.
    pub message_bytes_max: u32,
    /// Wait of the server before each answer, in microseconds: a slow receiver.
    #[serde(default)]
    pub service_us: u64,
}

/// What a server answers a request with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// As many bytes as the request has.
    Echo,
    /// This many bytes: one-way messages with a short answer.
    Bytes(u32),
}

impl Reply {
    /// Bytes of the answer to a request of `request_bytes`.
    pub fn bytes(self, request_bytes: u64) -> u64 {
        match self {
            Reply::Echo => request_bytes,
            Reply::Bytes(bytes) => u64::from(bytes),
        }
    }
}

/// What the controller asks of an agent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// Measure calls one at a time.
    Unloaded {
        /// The server, by its index in the last [`Order::Connect`].
        server: usize,
        /// Lengths of requests in bytes.
        sizes_bytes: Vec<u64>,
        /// Calls per size.
        repeats: u32,
    },
    /// Reach these servers; orders name them by their index here.
    Connect {
        /// The servers.
        peers: Vec<Peer>,
    },
    /// Offer load.
    Load(LoadOrder),
    /// Report every RPC of the last load; asked for when all agents are done, since reporting takes
    /// time.
    Collect,
}

/// A server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    /// Its number.
    pub host: u32,
    /// Its address.
    pub address: SocketAddr,
}

/// A server that load goes to; one that is named twice gets twice as much.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// Index in the last [`Order::Connect`].
    pub index: usize,
    /// Its number, for the report.
    pub host: u32,
}

/// Load to offer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LoadOrder {
    /// Servers, chosen uniformly at random.
    pub servers: Vec<Target>,
    /// Message sizes.
    pub workload: Workload,
    /// Mean number of RPCs that begin per second (Poisson); 0: this host only serves.
    pub rpc_per_s: f64,
    /// Calls under way at most; RPCs whose time has come meanwhile wait at the client, and that
    /// counts.
    pub client_max: u32,
    /// When to begin: nanoseconds since 1970.
    pub start_unix_ns: u64,
    /// Seconds of load that are not counted, at the beginning.
    pub warm_up_s: f64,
    /// Seconds of load that count.
    pub secs: f64,
    /// Seconds to wait at the end for calls that are under way.
    pub drain_s: f64,
    /// Seed of arrivals, sizes and destinations.
    pub seed: u64,
}

/// What an agent says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Report {
    /// It serves.
    Ready {
        /// Where.
        address: SocketAddr,
        /// How late timers wake it, in microseconds: the 99th percentile of short sleeps.
        timer_us: f64,
    },
    /// An order without result is done.
    Done,
    /// Unloaded times.
    Unloaded(Vec<UnloadedTime>),
    /// Some of the RPCs of the load: server, request bytes, intended start in nanoseconds after the
    /// load's begin, latency in nanoseconds, status.
    Rpcs(Vec<(u32, u64, u64, u64, Status)>),
    /// The load is over.
    Loaded(LoadSummary),
    /// The agent cannot go on.
    Failed {
        /// Why.
        reason: String,
    },
}

/// What became of an RPC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// The whole answer came.
    Ok,
    /// The transport gave up.
    Failed,
    /// Under way when the run ended; its latency is the time until then.
    Unfinished,
}

/// What an agent noticed during its load.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct LoadSummary {
    /// Processor time of the agent's process between begin and end of the load, in nanoseconds.
    /// Work that the kernel does in interrupts is not in it.
    pub cpu_ns: u64,
    /// From the intended begin of RPCs to their real begin, in nanoseconds: median.
    pub lag_p50_ns: u64,
    /// 99th percentile of the same.
    pub lag_p99_ns: u64,
    /// Longest.
    pub lag_max_ns: u64,
    /// RPCs that were not begun because `client_max` were under way to the end.
    pub never_begun: u64,
    /// Bytes sent again (Homa: payload; TCP: segments, see `retransmitted_packets`).
    pub retransmitted_bytes: u64,
    /// TCP segments sent again; packets that QUIC found lost.
    pub retransmitted_packets: u64,
    /// Packets dropped at the socket because nobody fetched them in time.
    pub dropped_by_system: u64,
    /// Counters of the transport, by name; empty for TCP.
    pub counters: Vec<(String, u64)>,
}
