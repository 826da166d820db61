//! Figures of the SIGCOMM 2018 evaluation: slowdown by size at 80 % load.
//!
//! What was published of Homa are the percentiles that each host measured, in the mean over hosts,
//! weighted by their numbers of messages (`digestModulesStats` of the evaluation's scripts). A host
//! of W5 had seven messages of a class, so that its 99th percentile is the largest of them.

use homa_bench::workload::Workload;
use serde::{Deserialize, Serialize};

/// Load of the published figures.
pub const LOAD: f64 = 0.8;

/// Slowdowns of the messages of a class.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Slowdown {
    /// The mean, which was not published of all transports.
    #[serde(rename = "slowdown_mean")]
    pub mean: Option<f64>,
    /// The median.
    #[serde(rename = "slowdown_p50")]
    pub p50: f64,
    /// The 99th percentile.
    #[serde(rename = "slowdown_p99")]
    pub p99: f64,
}

/// Messages longer than those of the class before, up to its own length.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Class {
    /// Longest of its messages.
    pub message_bytes: u32,
    /// Its share of all messages, in percent.
    pub count_percent: f64,
    /// What was published of it.
    pub published: Option<Slowdown>,
    /// Messages of it that a host had, if percentiles are those of hosts.
    pub each_host: Option<f64>,
}

/// A line of the file.
#[derive(Deserialize)]
struct Line {
    transport: String,
    load: f64,
    workload: String,
    message_bytes: u32,
    count_percent: f64,
    slowdown_mean: Option<f64>,
    slowdown_p50: f64,
    slowdown_p99: f64,
}

const SIGCOMM18: &str = include_str!("../../published/sigcomm18_slowdown_load80.csv");

/// The published classes of a transport and a workload, shortest messages first; without figures if
/// none were published for this load.
pub fn sigcomm18(transport: &str, workload: &str, load: f64) -> Vec<Class> {
    let mut reader = csv::Reader::from_reader(SIGCOMM18.as_bytes());
    let lines = reader.deserialize().map(|line| line.expect("the file is ours"));
    let wanted = |line: &Line| line.transport == transport && line.workload == workload;
    let each_host = messages_each_host(workload).filter(|_| transport == "homa");
    let class = |line: Line| Class {
        message_bytes: line.message_bytes,
        count_percent: line.count_percent,
        published: (line.load == load).then_some(Slowdown {
            mean: line.slowdown_mean,
            p50: line.slowdown_p50,
            p99: line.slowdown_p99,
        }),
        each_host: each_host.map(|messages| messages * line.count_percent / 100.0),
    };
    lines.filter(wanted).map(class).collect()
}

/// What the evaluation simulated of a workload (docs/spec/simulation-sigcomm18.md §2): seconds at
/// 80 % load, bytes of messages per byte on the wire, mean bytes of a message.
const SIMULATED: [(&str, f64, f64, f64); 5] = [
    ("w1", 1.2, 0.657, 187.8),
    ("w2", 3.0, 0.796, 440.8),
    ("w3", 3.75, 0.887, 2_927.0),
    ("w4", 3.75, 0.898, 127_797.0),
    ("w5", 1.9, 0.898, 2_515_857.0),
];
/// Bytes per second of a host's link.
const LINK_BYTES: f64 = 10e9 / 8.0;

/// Messages that a host of the evaluation received, at 80 % load; at 50 % about as many.
fn messages_each_host(workload: &str) -> Option<f64> {
    let (_, seconds, part, bytes) = SIMULATED.iter().find(|(name, ..)| *name == workload)?;
    Some(seconds * LOAD * part * LINK_BYTES / bytes)
}

/// Classes of a workload of which nothing was published.
pub fn unpublished(sizes: &Workload) -> Vec<Class> {
    let mut before = 0.0;
    let class = |bytes: u64| {
        let points = sizes.points();
        let upto = points.partition_point(|point| point.0 <= bytes);
        let fraction = upto.checked_sub(1).map_or(0.0, |last| points[last].1);
        let count_percent = 100.0 * (fraction - std::mem::replace(&mut before, fraction));
        Class { message_bytes: bytes as u32, count_percent, published: None, each_host: None }
    };
    sizes.class_ends_bytes().into_iter().map(class).collect()
}
