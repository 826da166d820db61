//! What is simulated at a time, and what came of it.

use std::{
    collections::HashMap,
    ffi::OsStr,
    ops::ControlFlow,
    path::Path,
    time::{Duration, Instant},
};

use homa_sim::{
    Journey, MessageId, Outcome, PortKind, Run, SetupError, Span, Time,
    plan::Inputs,
    reproduce::{
        published::Class,
        sigcomm18::{Row, gather_rows, rows},
    },
    summary::Sample,
};
use serde::Serialize;

use super::{
    series::Series,
    simulate::{self, Job},
};
use crate::error::CliError;

/// Messages of a row at least, in percent, in tables and errors: published classes are finer than a
/// run's percentiles are certain.
pub(super) const ROW_PERCENT_MIN: f64 = 9.0;

/// A workload to simulate with a transport.
pub(super) struct Point {
    /// The workload.
    pub(super) name: String,
    pub(super) run: Run,
    /// What goes into the run.
    pub(super) inputs: Inputs,
    pub(super) classes: Vec<Class>,
    pub(super) worst: Worst,
}

/// Which of the slowest messages are wanted.
#[derive(Clone, Copy)]
pub(super) struct Worst {
    count: usize,
    /// Their largest size.
    bytes_max: u32,
}

impl Worst {
    pub(super) const NONE: Self = Self { count: 0, bytes_max: 0 };

    pub(super) fn new(count: u16, bytes_max: u64) -> Self {
        let bytes_max = u32::try_from(bytes_max).unwrap_or(u32::MAX);
        Self { count: count.into(), bytes_max }
    }

    /// The slowest messages that are wanted of an outcome.
    fn of(self, outcome: &Outcome) -> Vec<Sample> {
        outcome.samples.slowest(self.bytes_max, self.count)
    }
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

/// Simulates all points, several at a time. Those that the user does not wait for are left out.
pub(super) fn simulate<'a>(points: &'a [Point], threads: usize) -> Result<Vec<Done<'a>>, CliError> {
    let job = |point: &'a Point| Job { name: point.name.clone(), run: &point.run };
    let jobs: Vec<_> = points.iter().map(job).collect();
    simulate::simulate(&jobs, threads, |index, show| points[index].simulate(show)).waited_for()
}

/// Fails if messages did not arrive.
pub(super) fn unfinished(done: &[Done<'_>]) -> Result<(), CliError> {
    done.iter().try_for_each(|done| complete(&done.point.name, &done.outcome))
}

/// Fails if messages of a run did not arrive.
pub(super) fn complete(name: &str, outcome: &Outcome) -> Result<(), CliError> {
    match outcome.stuck || outcome.failed > 0 {
        false => Ok(()),
        true => Err(CliError::Incomplete(format!(
            "{name}: {} messages did not arrive, {} calls failed",
            outcome.samples.unfinished, outcome.failed
        ))),
    }
}

impl Point {
    /// Simulates it: twice if the slowest messages are wanted, since they are known, and can be
    /// followed, only after a first run, which is the same.
    fn simulate(
        &self,
        show: &dyn Fn(f64) -> ControlFlow<()>,
    ) -> Result<Option<Done<'_>>, CliError> {
        let wrong = |error: SetupError| CliError::Usage(error.to_string());
        let runs = if self.worst.count > 0 { 2.0 } else { 1.0 };
        let begun = Instant::now();
        let mut series = Series::default();
        let outcome = self.run.run(|moment| {
            series.look(moment);
            show(moment.part / runs)
        });
        let Some(outcome) = outcome.map_err(wrong)? else { return Ok(None) };
        let took = begun.elapsed();
        let done = Done { point: self, outcome, took, series, journeys: HashMap::new() };
        let worst = self.worst.of(&done.outcome);
        if worst.is_empty() {
            return Ok(Some(done));
        }
        let worst: Vec<_> = worst.iter().map(|sample| MessageId(sample.index)).collect();
        let again = self.run.explain(&worst, |moment| show((1.0 + moment.part) / runs));
        Ok(again.map_err(wrong)?.map(|again| Done { journeys: again.journeys, ..done }))
    }
}

impl Done<'_> {
    /// The slowest messages that are wanted.
    pub(super) fn slowest(&self) -> Vec<Slow> {
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
                grants_us: part(journey.grants),
                sending_us: part(journey.sending),
                queues: journey.queues.iter().map(waited).collect(),
                way_us: part(journey.way),
            }
        };
        self.point.worst.of(&self.outcome).into_iter().map(slow).collect()
    }

    /// Rows with enough messages for certain percentiles.
    pub(super) fn rows(&self) -> Vec<Row> {
        gather_rows(&rows(&self.outcome.samples, &self.point.classes), ROW_PERCENT_MIN)
    }
}
