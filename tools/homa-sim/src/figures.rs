//! What is kept of a run: the file of a point.

use serde::{Deserialize, Serialize};

use crate::{
    fabric::PortSummary,
    plan::{Inputs, Point},
    reproduce::{published::unpublished, sigcomm18},
    run::Outcome,
    summary::{Sample, percentiles},
};

/// The result of a point: what went in, and what came out. The same inputs give the same text.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PointResult {
    /// What went in.
    pub inputs: Inputs,
    /// What came out.
    pub figures: Figures,
}

/// What a run shows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    /// Slowdown of all messages that count.
    pub all: Option<Slowdown>,
    /// Of the smaller half of them.
    pub smaller_half: Option<Slowdown>,
    /// By size: tenths of all messages, the last one divided further.
    pub rows: Vec<SizeRow>,
    /// What ports did while the messages that count began.
    pub ports: Vec<PortSummary>,
    /// Messages that count and did not arrive.
    pub unfinished: usize,
    /// Messages that a transport gave up.
    pub failed: u64,
    /// Whether messages were under way that never came to an end.
    pub stuck: bool,
    /// Packets that were sent into the network.
    pub packets: u64,
    /// Events of the simulation.
    pub events: u64,
}

/// Slowdown of messages.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Slowdown {
    /// How many.
    pub messages: usize,
    /// Mean.
    pub mean: f64,
    /// Median.
    pub p50: f64,
    /// 99th percentile.
    pub p99: f64,
    /// 99.9th percentile.
    pub p999: f64,
    /// The largest.
    pub max: f64,
}

/// Slowdown of messages of some sizes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct SizeRow {
    /// The longest of them.
    pub message_bytes: u32,
    /// Their share of all messages, in percent.
    pub count_percent: f64,
    /// How many were measured.
    pub messages: usize,
    /// Median.
    pub slowdown_p50: f64,
    /// 99th percentile.
    pub slowdown_p99: f64,
}

impl PointResult {
    /// The result of a point that ran.
    pub fn of(point: &Point, outcome: &Outcome) -> Self {
        let samples = &outcome.samples;
        let half = samples.all().len() / 2;
        let classes = unpublished(&point.run.sizes);
        let rows = sigcomm18::rows(samples, &classes, 0.0);
        let row = |row: sigcomm18::Row| SizeRow {
            message_bytes: row.class.message_bytes,
            count_percent: row.class.count_percent,
            messages: row.messages,
            slowdown_p50: row.slowdown.p50,
            slowdown_p99: row.slowdown.p99,
        };
        let figures = Figures {
            all: Slowdown::of(samples.all()),
            smaller_half: Slowdown::of(&samples.all()[..half]),
            rows: rows.into_iter().map(row).collect(),
            ports: outcome.ports.clone(),
            unfinished: samples.unfinished,
            failed: outcome.failed,
            stuck: outcome.stuck,
            packets: outcome.counts.packets,
            events: outcome.counts.events,
        };
        Self { inputs: point.inputs.clone(), figures }
    }

    /// Its name: that of its inputs.
    pub fn hash(&self) -> String {
        self.inputs.hash()
    }
}

impl Slowdown {
    fn of(samples: &[Sample]) -> Option<Self> {
        let [p50, p99, p999, max] = percentiles(samples, [0.5, 0.99, 0.999, 1.0])?;
        let sum: f64 = samples.iter().map(|sample| sample.slowdown).sum();
        let messages = samples.len();
        Some(Self { messages, mean: sum / messages as f64, p50, p99, p999, max })
    }
}
