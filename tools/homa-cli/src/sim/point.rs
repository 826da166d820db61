//! What is simulated at a time, and what came of it.

use std::{ffi::OsStr, path::Path, time::Duration};

use homa_sim::{
    Outcome, Run, Time,
    reproduce::{
        published::Class,
        sigcomm18::{Row, rows},
    },
    summary::Sample,
};
use serde::Serialize;

use super::series::Series;

/// Messages of a row at least, in percent, in tables and errors: published classes are finer than a
/// run's percentiles are certain.
const ROW_PERCENT_MIN: f64 = 9.0;

/// A workload to simulate.
pub(super) struct Point {
    pub(super) name: String,
    pub(super) run: Run,
    pub(super) classes: Vec<Class>,
    /// How many of the slowest messages are wanted, and their largest size.
    pub(super) worst: (usize, u32),
}

impl Point {
    /// The name of the workload, or of its file, as a part of names of files.
    pub(super) fn file_name(&self) -> &str {
        Path::new(&self.name).file_stem().and_then(OsStr::to_str).unwrap_or("workload")
    }
}

/// A workload that was simulated.
pub(super) struct Done<'a> {
    pub(super) point: &'a Point,
    pub(super) outcome: Outcome,
    pub(super) took: Duration,
    /// Queues and throughput over time.
    pub(super) series: Series,
}

/// Where the time of a message went; times in microseconds.
#[derive(Debug, Serialize)]
pub(super) struct Slow {
    /// Its length.
    pub(super) message_bytes: u32,
    /// Its sender.
    pub(super) from: u32,
    /// Its receiver.
    pub(super) to: u32,
    /// When it began.
    pub(super) begun_us: f64,
    /// Its time in times of what it takes on the idle network.
    pub(super) slowdown: f64,
    /// Until its first packet left.
    pub(super) waiting_us: f64,
    /// From its first packet to its last.
    pub(super) sending_us: f64,
    /// From its last packet to the end.
    pub(super) arriving_us: f64,
}

impl Done<'_> {
    /// The slowest messages that are wanted.
    pub(super) fn slowest(&self) -> Vec<Slow> {
        let (count, bytes) = self.point.worst;
        let us = |later: Time, earlier: Time| later.since(earlier).as_ps() as f64 / 1e6;
        let slow = |sample: Sample| {
            let message = &self.outcome.messages[sample.index as usize];
            Slow {
                message_bytes: message.bytes,
                from: message.from.0,
                to: message.to.0,
                begun_us: us(message.begun, Time::ZERO),
                slowdown: sample.slowdown,
                waiting_us: us(message.first_sent, message.begun),
                sending_us: us(message.last_sent, message.first_sent),
                arriving_us: us(message.ended, message.last_sent),
            }
        };
        self.outcome.samples.slowest(bytes, count).into_iter().map(slow).collect()
    }

    /// Rows with enough messages for certain percentiles.
    pub(super) fn rows(&self) -> Vec<Row> {
        rows(&self.outcome.samples, &self.point.classes, ROW_PERCENT_MIN)
    }
}
