//! The course of a run: what becomes of the calls that the load generator makes.
//!
//! Calls count that begin after the warm-up.

use std::{
    io,
    time::{Duration, Instant},
};

use homa_bench::generator::{self, Call, End, Load, Record};

use super::{
    plan::{Mode, Plan, Until},
    tally::{Row, Tally},
};
use crate::{
    error::CliError,
    latency::Latency,
    transport::{
        Pipeline,
        calls::{Calls, Reply, failure},
        no_reply,
    },
};

/// How long after the end calls may begin that were meant to before it.
const GRACE: Duration = Duration::from_millis(100);
/// The longest time between two looks at what else is to be done.
const LOOK: Duration = Duration::from_millis(100);

/// Who is told of the course of a run.
pub(super) trait View {
    /// A stretch has ended; `times` are those of its calls.
    fn row(&mut self, row: &Row, times: &Latency) -> Result<(), CliError>;

    /// Some time has passed, `elapsed` of it measured.
    fn live(&mut self, elapsed: Duration, in_flight: u64, tally: &Tally);
}

/// How a run ended.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// Length of the measurement in seconds.
    pub secs: f64,
    /// Calls that were begun and count.
    pub begun: u64,
    /// Of these, calls without an end.
    pub unfinished: u64,
    /// Calls that were meant to begin and did not.
    pub never_begun: u64,
    /// Calls under way when the measurement ended.
    pub in_flight: u64,
    /// Whether calls that were due found places free: it was this client that could not begin them.
    pub client_late: bool,
    /// Whether the user ended it.
    pub interrupted: bool,
    /// What ended it otherwise.
    pub broken: Option<CliError>,
}

/// A run under way.
struct Drive<'a> {
    plan: &'a Plan,
    view: &'a mut dyn View,
    stop: &'a dyn Fn() -> bool,
    count_from: Instant,
    /// End of the measurement, once it is known.
    end: Option<Instant>,
    /// Counted calls to begin yet.
    left: u64,
    look_at: Instant,
    row_from: Instant,
    row_at: Instant,
    /// Calls under way when the run ended, counted or not.
    unfinished: u64,
    outcome: Outcome,
    tally: Tally,
}

/// Runs a plan to its end, which `stop` may bring about early, by what `now` says of the time.
pub(super) fn run(
    plan: &Plan,
    client: &mut dyn Pipeline,
    view: &mut dyn View,
    now: impl Fn() -> Instant,
    stop: impl Fn() -> bool,
) -> (Outcome, Tally) {
    let start = now();
    let mut drive = Drive::new(plan, view, &stop, start);
    let calls = Calls::new(client, plan.payload.clone(), &now);
    let mut calls = Calls { bytes_min: plan.bytes_min, ..calls };
    let done = generator::run(&mut calls, plan.load(), start, &now, &mut drive);
    drive.finish(now(), done.map_err(failure))
}

impl Plan {
    /// What the load generator is to do.
    pub(super) fn load(&self) -> Load {
        Load {
            closed: self.mode == Mode::Closed,
            length: match self.until {
                Until::Time(time) => Some(self.warm_up + time),
                Until::Calls(_) => None,
            },
            late_max: GRACE,
            timeout: Some(self.timeout),
            ..Load::closed(self.arrivals(), self.outstanding)
        }
    }
}

impl<'a> Drive<'a> {
    /// A run that begins at `start`.
    fn new(
        plan: &'a Plan,
        view: &'a mut dyn View,
        stop: &'a dyn Fn() -> bool,
        start: Instant,
    ) -> Self {
        let count_from = start + plan.warm_up;
        let (end, left) = match plan.until {
            Until::Time(time) => (Some(count_from + time), u64::MAX),
            Until::Calls(count) => (None, count),
        };
        Drive {
            plan,
            view,
            stop,
            count_from,
            end,
            left,
            look_at: start,
            row_from: count_from,
            row_at: count_from + plan.interval,
            unfinished: 0,
            outcome: Outcome::default(),
            tally: Tally::new(plan),
        }
    }

    /// Ends the run as it was `done`.
    fn finish(mut self, now: Instant, done: Result<(), CliError>) -> (Outcome, Tally) {
        let done = done.and_then(|()| {
            self.end.get_or_insert(now);
            self.close_row(now, 0)
        });
        match done {
            Ok(()) => {}
            Err(CliError::Interrupted) => self.outcome.interrupted = true,
            Err(error) => self.outcome.broken = Some(error),
        }
        let end = self.end.map_or(now, |end| end.min(now));
        if self.end != Some(end) {
            self.outcome.in_flight = self.unfinished;
        }
        self.outcome.secs = end.saturating_duration_since(self.count_from).as_secs_f64();
        (self.outcome, self.tally)
    }

    /// Ends the stretch under way; not after the end of the measurement.
    fn close_row(&mut self, now: Instant, in_flight: u64) -> Result<(), CliError> {
        let to = self.end.map_or(now, |end| now.min(end));
        if self.plan.interval == Duration::ZERO || to <= self.row_from {
            return Ok(());
        }
        let from = self.row_from.saturating_duration_since(self.count_from);
        let row = self.tally.row(from, to - self.count_from, in_flight);
        self.view.row(&row, self.tally.current())?;
        self.tally.keep(row);
        self.row_from = to;
        while self.row_at <= now {
            self.row_at += self.plan.interval;
        }
        Ok(())
    }
}

impl Record<Reply> for Drive<'_> {
    /// What is to be done now and then: rows, and the live view.
    fn look(&mut self, now: Instant, under_way: usize) -> io::Result<Instant> {
        let in_flight = under_way as u64;
        if (self.stop)() {
            self.close_row(now, in_flight).map_err(io::Error::other)?;
            return Err(io::Error::other(CliError::Interrupted));
        }
        if now >= self.look_at {
            self.look_at = now + LOOK;
            let row_at = self.end.map_or(self.row_at, |end| end.min(self.row_at));
            if now >= row_at {
                self.close_row(now, in_flight).map_err(io::Error::other)?;
            } else {
                self.look_at = self.look_at.min(row_at);
            }
            let elapsed = now.saturating_duration_since(self.count_from);
            self.view.live(elapsed, in_flight, &self.tally);
        }
        Ok(self.look_at)
    }

    fn wants_more(&self) -> bool {
        self.left > 0
    }

    fn begins(&mut self, call: &Call) {
        if call.begun >= self.count_from {
            self.outcome.begun += 1;
            self.left -= 1;
            self.tally.lag.record(call.begun.saturating_duration_since(call.possible));
        }
    }

    fn ends(&mut self, call: &Call, at: Instant, end: End<Reply>) {
        self.unfinished += u64::from(end == End::Unfinished);
        if call.begun < self.count_from {
            return;
        }
        match end {
            End::Known(Ok(reply_bytes)) => {
                let within = self.end.is_none_or(|end| at <= end);
                let latency = at.saturating_duration_since(call.intended);
                let bytes = call.bytes.max(self.plan.bytes_min) + reply_bytes as u64;
                self.tally.ok(call.server, latency, bytes, within);
            }
            End::Known(Err(kind)) => self.tally.failed(call.server, kind),
            End::TimedOut => {
                let server = self.plan.servers.get(call.server);
                let kind = server.map(|server| no_reply(*server, self.plan.timeout));
                self.tally.failed(call.server, kind.unwrap_or_default());
            }
            End::Unfinished => self.outcome.unfinished += 1,
        }
    }

    /// Notes what is under way, and about how many calls were missed: an estimate, since there may
    /// be too many to count.
    fn over(&mut self, _: Instant, under_way: usize, missed: &mut dyn Iterator<Item = Call>) {
        let Some(end) = self.end else { return };
        self.outcome.in_flight = under_way as u64;
        let (Some(rate), Some(first)) = (self.plan.rate(), missed.next()) else { return };
        let behind = end.saturating_duration_since(first.intended);
        self.outcome.never_begun = (behind.as_secs_f64() * rate).round().max(1.0) as u64;
        self.outcome.client_late = under_way < self.plan.outstanding as usize;
    }
}

#[cfg(test)]
mod tests;
