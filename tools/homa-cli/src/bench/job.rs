//! What the processes of the benchmark are told and say: a job as JSON argument, and one line with
//! what came of it or why nothing did.

use std::net::SocketAddr;

use homa_bench::pair;
use serde::{Deserialize, Serialize};

use crate::transport::{Api, Protocol, Settings};

/// What a process does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum Job {
    /// Serves; it says its address.
    Serve(Side),
    /// Calls a server; it says an [`Outcome`].
    Measure(Measurement),
}

/// One side of a measurement.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Side {
    /// Transport to use.
    pub protocol: Protocol,
    /// Programming interface to use.
    pub api: Api,
    /// Its settings.
    pub settings: Settings,
    /// Core to run on.
    pub cpu: Option<usize>,
}

/// One measurement.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Measurement {
    /// The client.
    pub side: Side,
    /// The server.
    pub server: SocketAddr,
    /// What to do.
    pub work: Work,
    /// Length of the measurement in seconds, without the warm-up.
    pub secs: f64,
}

/// The kinds of measurements.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum Work {
    /// One echo call at a time, for each of these sizes in turn, which share the time.
    Alone {
        /// Lengths of the requests.
        sizes_bytes: Vec<u64>,
    },
    /// A fixed number of calls outstanding, of the sizes of a workload.
    Closed {
        /// Name or file of the workload.
        workload: String,
        /// Length of the replies; none: an echo.
        reply_bytes: Option<u32>,
        /// Calls under way at a time.
        outstanding: u32,
        /// Seed of the sizes.
        seed: u64,
    },
    /// A fixed number of calls outstanding, made by tasks.
    Tasks {
        /// The calls.
        load: pair::Closed,
        /// Length of the replies; none: an echo.
        reply_bytes: Option<u32>,
    },
    /// Echo calls of the sizes of a workload that begin at random times, whatever has ended.
    Mixed(Mixed),
}

/// A mixed workload.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Mixed {
    /// Name or file of the workload.
    pub workload: String,
    /// Mean number of calls that begin per second.
    pub rpc_per_s: f64,
    /// Unloaded time by size, in order of size: bytes and microseconds.
    pub unloaded: Vec<(u64, f64)>,
    /// Upper ends of the classes of sizes that are reported, in order; bytes.
    pub classes_bytes: Vec<u64>,
    /// Seed of sizes and arrivals.
    pub seed: u64,
}

/// What a measurement found.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Outcome {
    /// Calls that ended in the measured time.
    pub calls: u64,
    /// Calls that did not end, or not in time.
    pub unfinished: u64,
    /// Length of the measured time in seconds.
    pub secs: f64,
    /// Payload of requests and replies of these calls, in bytes.
    pub payload_bytes: u64,
    /// CPU time of both processes, in nanoseconds.
    pub cpu_ns: u64,
    /// Half the calls took at most this long, in microseconds.
    pub p50_us: f64,
    /// 99 % took at most this long, in microseconds.
    pub p99_us: f64,
    /// 99.9 % took at most this long, in microseconds.
    pub p999_us: f64,
    /// Slowdown of all calls (mixed).
    pub slowdown: Option<Slowdown>,
    /// Slowdown by size (mixed).
    pub classes: Vec<Slowdown>,
    /// P50 in microseconds by size (one call at a time).
    pub unloaded: Vec<(u64, f64)>,
}

/// How many times longer than unloaded the calls of a class of sizes took.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Slowdown {
    /// The longest message of the class, in bytes.
    pub size_bytes: u64,
    /// Calls in the class.
    pub count: u64,
    /// Half the calls had at most this slowdown.
    pub p50: f64,
    /// 99 % had at most this slowdown.
    pub p99: f64,
}

impl From<pair::Outcome> for Outcome {
    fn from(found: pair::Outcome) -> Self {
        let pair::Outcome { calls, secs, payload_bytes, cpu_ns, p50_us, p99_us, p999_us } = found;
        let default = Outcome::default();
        Outcome { calls, secs, payload_bytes, cpu_ns, p50_us, p99_us, p999_us, ..default }
    }
}

impl Outcome {
    /// Calls per second.
    pub(crate) fn rpc_per_s(&self) -> f64 {
        self.calls as f64 / self.secs.max(1e-9)
    }

    /// Payload in Gbit/s, requests and replies together.
    pub(crate) fn gbit_per_s(&self) -> f64 {
        self.payload_bytes as f64 * 8e-9 / self.secs.max(1e-9)
    }

    /// CPU time of both sides per 10^6 bytes of requests and replies, in microseconds.
    pub(crate) fn cpu_us_per_mb(&self) -> f64 {
        self.cpu_ns as f64 * 1e3 / self.payload_bytes.max(1) as f64
    }

    /// CPU time of both sides per call, in microseconds.
    pub(crate) fn cpu_us_per_rpc(&self) -> f64 {
        self.cpu_ns as f64 / 1e3 / self.calls.max(1) as f64
    }
}
