//! Figures of the SIGCOMM 2018 evaluation: slowdown by size at 80 % load.

use homa_bench::workload::Workload;
use serde::{Deserialize, Serialize};

/// Load of the published figures.
pub const LOAD: f64 = 0.8;

/// Published slowdowns of the messages of a class.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Slowdown {
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
}

/// A line of the file.
#[derive(Deserialize)]
struct Line {
    transport: String,
    load: f64,
    workload: String,
    message_bytes: u32,
    count_percent: f64,
    slowdown_p50: f64,
    slowdown_p99: f64,
}

const SIGCOMM18: &str = include_str!("../../published/sigcomm18_slowdown_load80.csv");

/// The published classes of a transport and a workload, shortest messages first; none if nothing
/// was published for this load.
pub fn sigcomm18(transport: &str, workload: &str, load: f64) -> Vec<Class> {
    let mut reader = csv::Reader::from_reader(SIGCOMM18.as_bytes());
    let lines = reader.deserialize().map(|line| line.expect("the file is ours"));
    let wanted =
        |line: &Line| line.transport == transport && line.workload == workload && line.load == load;
    let class = |line: Line| Class {
        message_bytes: line.message_bytes,
        count_percent: line.count_percent,
        published: Some(Slowdown { p50: line.slowdown_p50, p99: line.slowdown_p99 }),
    };
    lines.filter(wanted).map(class).collect()
}

/// Classes of a workload of which nothing was published.
pub fn unpublished(sizes: &Workload) -> Vec<Class> {
    let mut before = 0.0;
    let class = |bytes: u64| {
        let points = sizes.points();
        let upto = points.partition_point(|point| point.0 <= bytes);
        let fraction = upto.checked_sub(1).map_or(0.0, |last| points[last].1);
        let count_percent = 100.0 * (fraction - std::mem::replace(&mut before, fraction));
        Class { message_bytes: bytes as u32, count_percent, published: None }
    };
    sizes.class_ends_bytes().into_iter().map(class).collect()
}
