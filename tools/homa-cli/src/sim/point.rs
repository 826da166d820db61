//! What is simulated at a time, and what came of it.

use std::{collections::HashMap, ffi::OsStr, path::Path, time::Duration};

use homa_sim::{
    Journey, MessageId, Outcome, PortKind, Run, Span, Time,
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
pub(super) const ROW_PERCENT_MIN: f64 = 9.0;

/// A workload to simulate with a transport.
pub(super) struct Point {
    /// The workload.
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

/// A point that was simulated.
pub(super) struct Done<'a> {
    pub(super) point: &'a Point,
    pub(super) outcome: Outcome,
    pub(super) took: Duration,
    /// Where the time of the slowest messages went that are wanted.
    pub(super) journeys: HashMap<MessageId, Journey>,
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
    /// Its sender sent other messages, although it might have sent this one.
    pub(super) others_us: f64,
    /// Its sender might not send: the receiver had not granted more.
    pub(super) grants_us: f64,
    /// Its sender sent it.
    pub(super) sending_us: f64,
    /// Queues that the packet that came last waited in.
    pub(super) queues: Vec<Waited>,
    /// The rest of the way of this packet.
    pub(super) way_us: f64,
}

/// A queue on the way of a packet.
#[derive(Debug, Serialize)]
pub(super) struct Waited {
    /// The kind of port.
    pub(super) ports: PortKind,
    /// How long it waited there.
    pub(super) us: f64,
}

impl Point {
    /// The slowest messages that are wanted of an outcome.
    pub(super) fn worst_of(&self, outcome: &Outcome) -> Vec<MessageId> {
        let (count, bytes) = self.worst;
        let slowest = outcome.samples.slowest(bytes, count);
        slowest.into_iter().map(|sample| MessageId(sample.index)).collect()
    }
}

impl Done<'_> {
    /// The slowest messages that are wanted.
    pub(super) fn slowest(&self) -> Vec<Slow> {
        let (count, bytes) = self.point.worst;
        let us = |later: Time, earlier: Time| later.since(earlier).as_ps() as f64 / 1e6;
        let slow = |sample: Sample| {
            let message = &self.outcome.messages[sample.index as usize];
            let journey = self.journeys.get(&MessageId(sample.index)).cloned().unwrap_or_default();
            let part = |time: Span| time.as_ps() as f64 / 1e6;
            let waited = |(kind, time): &(PortKind, Span)| Waited { ports: *kind, us: part(*time) };
            Slow {
                message_bytes: message.bytes,
                from: message.from.0,
                to: message.to.0,
                begun_us: us(message.begun, Time::ZERO),
                slowdown: sample.slowdown,
                others_us: part(journey.others),
                grants_us: part(journey.permission),
                sending_us: part(journey.sending),
                queues: journey.queues.iter().map(waited).collect(),
                way_us: part(journey.way),
            }
        };
        self.outcome.samples.slowest(bytes, count).into_iter().map(slow).collect()
    }

    /// Rows with enough messages for certain percentiles.
    pub(super) fn rows(&self) -> Vec<Row> {
        rows(&self.outcome.samples, &self.point.classes, ROW_PERCENT_MIN)
    }
}
