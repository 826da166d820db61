//! What a transport did in a run: what programs that measure write into `run.json`, and reports
//! read. What is missing is taken as unknown: runs of other versions stay readable.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};

use crate::{
    comparison::Comparison,
    stats::{SAMPLES_MIN, samples_needed},
};

/// Number of the layout of `run.json`, the newest that reports know. In 1 the settings of Homa had
/// names of their own.
pub const SCHEMA: u32 = 2;

/// RPCs that the P99 average needs: as many as a P99 in each of the ten classes of sizes.
pub(crate) const P99_AVERAGE_MIN: u64 = 1_000;

/// A transport that a run has no result of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NotMeasured {
    /// The transport.
    pub name: String,
    /// Why.
    #[serde(default)]
    pub reasons: Vec<String>,
}

/// How the queues of the switch were looked at.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Looks {
    /// Whether the network recorded them itself, at exact times.
    pub recorded: bool,
    /// Time between two looks, in milliseconds.
    pub every_ms: f64,
}

/// One transport's results.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TransportDocument {
    /// The transport.
    pub name: String,
    /// What it did under load.
    #[serde(default)]
    pub summary: Summary,
    /// What it did before, on the idle network.
    #[serde(default)]
    pub unloaded: Vec<UnloadedTime>,
    /// This against the best variant of TCP, of QUIC and of gRPC, if it is Homa.
    #[serde(default, skip_deserializing)]
    pub against: Vec<Comparison>,
}

/// Times of calls of one size, one at a time.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct UnloadedTime {
    /// Length of the requests.
    pub size_bytes: u64,
    /// The fastest, in nanoseconds.
    #[serde(default)]
    pub min_ns: u64,
    /// The median.
    pub p50_ns: u64,
    /// The 90th percentile.
    #[serde(default)]
    pub p90_ns: u64,
}

/// Unloaded times by size, in microseconds, for [`interpolate`](crate::stats::interpolate).
pub fn unloaded_us(times: &[UnloadedTime]) -> Vec<(u64, f64)> {
    times.iter().map(|time| (time.size_bytes, time.p50_ns as f64 / 1e3)).collect()
}

/// What a transport did in a run.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Summary {
    /// RPCs that count.
    pub rpcs: u64,
    /// Those that did not end in time.
    pub unfinished: u64,
    /// Those the transport gave up.
    pub failed: u64,
    /// RPCs to a host that failed in the middle; they are in no other figure but the goodput.
    pub to_failed_host: u64,
    /// Payload offered per host and direction, in 10^6 bit/s.
    #[serde(deserialize_with = "number")]
    pub offered_mbps: f64,
    /// Payload carried per host and direction, in 10^6 bit/s.
    #[serde(deserialize_with = "number")]
    pub goodput_mbps: f64,
    /// Times of short messages.
    pub short: Times,
    /// Longest of the short messages, in bytes.
    pub short_bytes_max: u64,
    /// Times of all messages.
    pub all: Times,
    /// Slowdown against the same transport's unloaded time.
    pub slowdown_own: Slowdown,
    /// Slowdown against Homa's unloaded time, if the plan has Homa.
    pub slowdown_homa: Option<Slowdown>,
    /// Slowdown against the links' ideal time.
    pub slowdown_ideal: Slowdown,
    /// By size.
    pub deciles: Vec<Decile>,
    /// How late RPCs began, P99 over hosts' P99, in microseconds.
    #[serde(deserialize_with = "number")]
    pub lag_p99_us: f64,
    /// Latest begin of an RPC, in microseconds.
    #[serde(deserialize_with = "number")]
    pub lag_max_us: f64,
    /// Processor time of the agents per RPC, in microseconds, kernel work in interrupts not
    /// included.
    #[serde(deserialize_with = "number")]
    pub cpu_us_per_rpc: f64,
    /// Share of the machine's processor time that was used.
    #[serde(deserialize_with = "number")]
    pub machine_busy: f64,
    /// How long a program waited that wanted to run while the load was on, P99, in microseconds:
    /// what the machine itself may add to a time.
    #[serde(deserialize_with = "number")]
    pub machine_late_p99_us: f64,
    /// The same, the longest.
    #[serde(deserialize_with = "number")]
    pub machine_late_max_us: f64,
    /// Payload bytes sent again (Homa).
    pub retransmitted_bytes: u64,
    /// Packets sent again (TCP).
    pub retransmitted_packets: u64,
    /// Packets the sockets lost.
    pub dropped_by_system: u64,
    /// Longest queue of a port that was seen, all levels together, in bytes.
    pub queue_max_bytes: u64,
    /// Mean length of the queues of a port, all levels together, in bytes.
    #[serde(deserialize_with = "number")]
    pub queue_mean_bytes: f64,
    /// Mean length by level, level 0 first, in bytes.
    pub queue_mean_by_level_bytes: Vec<f64>,
    /// Counters of the transport, added up over hosts and rounds.
    pub counters: BTreeMap<String, u64>,
    /// Why rounds have no result.
    pub failures: Vec<String>,
}

/// Percentiles of times, in microseconds; NaN, `null` in JSON, where [`samples_needed`] asks for
/// more.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Times {
    /// Number of RPCs.
    pub count: u64,
    /// The fastest.
    #[serde(deserialize_with = "number")]
    pub min_us: f64,
    /// Median.
    #[serde(deserialize_with = "number")]
    pub p50_us: f64,
    /// 99th percentile.
    #[serde(deserialize_with = "number")]
    pub p99_us: f64,
    /// 99.9th percentile.
    #[serde(deserialize_with = "number")]
    pub p999_us: f64,
}

/// Percentiles of slowdowns; NaN where there are too few, as of times.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Slowdown {
    /// Mean over all RPCs.
    #[serde(deserialize_with = "number")]
    pub average: f64,
    /// Median.
    #[serde(deserialize_with = "number")]
    pub p50: f64,
    /// 99th percentile.
    #[serde(deserialize_with = "number")]
    pub p99: f64,
    /// 99.9th percentile.
    #[serde(deserialize_with = "number")]
    pub p999: f64,
    /// Mean over the tenths of the messages, by size, of the mean of each one's slowest 1 %.
    #[serde(deserialize_with = "number")]
    pub p99_average: f64,
}

/// A tenth of the messages, by size.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Decile {
    /// Longest message, in bytes.
    pub size_bytes: u64,
    /// Times.
    pub times: Times,
    /// Slowdown against the same transport's unloaded time.
    pub slowdown_own: Slowdown,
    /// Slowdown against Homa's unloaded time.
    pub slowdown_homa: Option<Slowdown>,
    /// Slowdown against the ideal time.
    pub slowdown_ideal: Slowdown,
}

/// Numbers that could not be computed are written as `null`.
fn number<'de, D: Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
    Ok(Option::<f64>::deserialize(from)?.unwrap_or(f64::NAN))
}

impl TransportDocument {
    /// Whether it is Homa, over whatever carriage.
    pub(crate) fn is_homa(&self) -> bool {
        is_homa(&self.name)
    }
}

impl Times {
    /// Takes out what so few RPCs do not carry.
    fn refuse_what_samples_do_not_carry(&mut self) {
        let shares =
            [(&mut self.p50_us, 0.5), (&mut self.p99_us, 0.99), (&mut self.p999_us, 0.999)];
        for (value, share) in shares {
            if self.count < samples_needed(share) {
                *value = f64::NAN;
            }
        }
    }
}

impl Slowdown {
    /// Takes out what so few RPCs do not carry.
    fn refuse_what_samples_do_not_carry(&mut self, count: u64) {
        let shares = [(&mut self.p50, 0.5), (&mut self.p99, 0.99)];
        for (value, share) in shares {
            if count < samples_needed(share) {
                *value = f64::NAN;
            }
        }
        if count < SAMPLES_MIN {
            self.average = f64::NAN;
        }
        if count < P99_AVERAGE_MIN {
            self.p99_average = f64::NAN;
        }
    }
}

impl Summary {
    /// Takes out percentiles and means that so few RPCs do not carry, which runs of older versions
    /// have.
    pub(crate) fn refuse_what_samples_do_not_carry(&mut self) {
        self.short.refuse_what_samples_do_not_carry();
        for slowdown in [Some(&mut self.slowdown_own), self.slowdown_homa.as_mut()] {
            slowdown.into_iter().for_each(|one| one.refuse_what_samples_do_not_carry(self.rpcs));
        }
        for decile in &mut self.deciles {
            // Older versions do not say how many there are, but they are tenths.
            let count = decile.times.count.max(self.rpcs / 10);
            for slowdown in [Some(&mut decile.slowdown_own), decile.slowdown_homa.as_mut()] {
                slowdown.into_iter().for_each(|one| one.refuse_what_samples_do_not_carry(count));
            }
        }
        if self.rpcs < SAMPLES_MIN {
            self.goodput_mbps = f64::NAN;
        }
    }

    /// Slowdown against Homa's unloaded time, or against its own where the run has no Homa.
    pub(crate) fn slowdown(&self) -> Slowdown {
        self.slowdown_homa.unwrap_or(self.slowdown_own)
    }

    /// Share of the offered payload that was carried.
    pub(crate) fn carried(&self) -> f64 {
        self.goodput_mbps / self.offered_mbps
    }
}

impl Decile {
    /// As [`Summary::slowdown`].
    pub(crate) fn slowdown(&self) -> Slowdown {
        self.slowdown_homa.unwrap_or(self.slowdown_own)
    }
}

/// Whether a transport of this name is Homa.
pub(crate) fn is_homa(name: &str) -> bool {
    name.starts_with("homa")
}
