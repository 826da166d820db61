//! What is kept of a run: the file of a point.

use homa_bench::workload::Workload;
use serde::{Deserialize, Serialize};

use crate::{
    fabric::PortSummary,
    plan::{Inputs, Point},
    reproduce::{published::unpublished, sigcomm18},
    run::{Outcome, Run},
    summary::{Sample, Samples, percentiles},
    time::Time,
    traffic::Pattern,
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
    /// Part of the capacity of the links to hosts that was idle although a message of several
    /// packets was on its way there.
    pub wasted_bandwidth: f64,
    /// By how much the bytes under way grew while the messages that count began, as a part of what
    /// these have: about 0 where the load is carried.
    pub backlog_growth: f64,
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
        let classes = unpublished(&sizes(&point.run, samples));
        let rows = sigcomm18::rows(samples, &classes);
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
            wasted_bandwidth: outcome.wasted,
            backlog_growth: backlog_growth(outcome),
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

/// Sizes that samples are divided by: those that messages were drawn from. Of calls, which have the
/// bytes of two messages, and where several distributions or none were drawn from, those that were
/// sent.
fn sizes(run: &Run, samples: &Samples) -> Workload {
    match (&run.demand.pattern, &run.demand.responses) {
        (Pattern::AllToAll | Pattern::Permutation, None) => run.sizes.clone(),
        _ => Workload::weighted(samples.all().iter().map(|sample| (sample.bytes.into(), 1.0))),
    }
}

/// Moments at which the bytes under way are counted.
const MOMENTS: usize = 100;

/// The growth of the bytes under way, by the line that fits them best.
fn backlog_growth(outcome: &Outcome) -> f64 {
    let places = || outcome.samples.all().iter().map(|sample| sample.index as usize);
    let (Some(first), Some(last)) = (places().min(), places().max()) else { return 0.0 };
    let counted = &outcome.messages[first..=last];
    let offered: f64 = counted.iter().map(|message| f64::from(message.bytes)).sum();
    let begins = counted[0].begun;
    let step_ps = (counted[last - first].begun.since(begins).as_ps() / MOMENTS as u64).max(1);
    // Bytes that come, less those that go, before each moment.
    let mut change = [0.0; MOMENTS + 1];
    let moment = |at: Time| (at.since(begins).as_ps().div_ceil(step_ps) as usize).min(MOMENTS);
    for message in &outcome.messages[..=last] {
        change[moment(message.begun)] += f64::from(message.bytes);
        change[moment(message.ended)] -= f64::from(message.bytes);
    }
    let mut bytes = 0.0;
    let middle = (MOMENTS - 1) as f64 / 2.0;
    let (mut sum, mut squares) = (0.0, 0.0);
    for (index, change) in change[..MOMENTS].iter().enumerate() {
        bytes += change;
        sum += (index as f64 - middle) * bytes;
        squares += (index as f64 - middle) * (index as f64 - middle);
    }
    sum / squares * MOMENTS as f64 / offered.max(1.0)
}

#[cfg(test)]
mod tests {
    use std::{ops::ControlFlow, path::Path};

    use super::*;
    use crate::plan::Plan;

    fn figures(text: &str) -> Vec<Figures> {
        let points = Plan::parse(text, Path::new("test.toml")).unwrap().points;
        let run = |point: &Point| {
            let outcome = point.run.run(|_| ControlFlow::Continue(())).unwrap().unwrap();
            PointResult::of(point, &outcome).figures
        };
        points.iter().map(run).collect()
    }

    #[test]
    fn a_load_that_is_not_carried_grows_and_one_that_is_does_not() {
        // One message granted to at a time carries less than 95 %.
        let text = "messages = 2000\ntraffic.sizes = \"fixed:100k\"\n\
            homa.grants.max_overcommit = 1\nload = [0.3, 0.95]\n";
        let [carried, not] = &figures(text)[..] else { panic!("two points") };
        assert!(carried.backlog_growth.abs() < 0.02, "{}", carried.backlog_growth);
        assert!(not.backlog_growth > 0.05, "{}", not.backlog_growth);
    }

    #[test]
    fn granting_to_more_messages_at_a_time_wastes_less() {
        let text = "messages = 1500\ntraffic.sizes = \"fixed:100k\"\nload = 0.7\n\
            homa.grants.max_overcommit = [1, 4]\n";
        let [one, four] = &figures(text)[..] else { panic!("two points") };
        assert!(one.wasted_bandwidth > 1.2 * four.wasted_bandwidth, "{one:?} {four:?}");
    }
}
