//! Begins the calls when they are due and collects their ends.
//!
//! In an open loop a call's time counts from the moment it was *meant* to begin, so that neither a
//! server that stands still nor a client that falls behind is spared (coordinated omission). Calls
//! count that begin after the warm-up. Memory does not grow with rate or length: calls that find no
//! place under way are neither begun nor kept before there is one.

use std::time::{Duration, Instant};

use homa_bench::arrivals::{Arrival, Arrivals};

use super::{
    plan::{Mode, Plan, Until},
    tally::{Row, Tally},
};
use crate::{
    body::ORDER_BYTES,
    error::CliError,
    latency::Latency,
    transport::{Pipeline, no_reply},
};

/// Calls begun before ends are collected again.
const BATCH: usize = 64;
/// How long after the end calls may begin that were meant to before it.
const GRACE: Duration = Duration::from_millis(100);
/// The longest time between two looks at what else is to be done.
const LOOK: Duration = Duration::from_millis(100);
/// The shortest.
const LOOK_MIN: Duration = Duration::from_millis(1);

/// How a call ended: length of the reply in bytes, or the kind of failure.
type End = Result<usize, String>;

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

#[derive(Debug, Clone, Copy)]
struct Call {
    /// From when its time counts.
    intended: Instant,
    started: Instant,
    server: usize,
    bytes: u64,
    counted: bool,
}

/// A place for a call under way; replies to an earlier call in it have another generation.
#[derive(Debug, Clone, Copy, Default)]
struct Slot {
    generation: u32,
    call: Option<Call>,
}

/// A run under way, by what `now` says of the time.
pub(super) struct Drive<'a, N> {
    plan: &'a Plan,
    now: N,
    start: Instant,
    count_from: Instant,
    /// End of the measurement, once it is known.
    end: Option<Instant>,
    arrivals: Arrivals,
    next: Arrival,
    /// Counted calls to begin yet.
    left: u64,
    slots: Vec<Slot>,
    free: Vec<u32>,
    /// Since when there has been a free place.
    room_since: Instant,
    look_at: Instant,
    row_from: Instant,
    row_at: Instant,
    outcome: Outcome,
    /// What is counted.
    pub tally: Tally,
}

impl<'a, N: Fn() -> Instant> Drive<'a, N> {
    /// A run that begins now; `None` without servers.
    pub(super) fn new(plan: &'a Plan, now: N) -> Option<Self> {
        let mut arrivals = plan.arrivals()?;
        let start = now();
        let count_from = start + plan.warm_up;
        let (end, left) = match plan.until {
            Until::Time(time) => (Some(count_from + time), u64::MAX),
            Until::Calls(count) => (None, count),
        };
        Some(Drive {
            plan,
            now,
            start,
            count_from,
            end,
            next: arrivals.take(),
            arrivals,
            left,
            slots: vec![Slot::default(); plan.outstanding as usize],
            free: (0..plan.outstanding).rev().collect(),
            room_since: start,
            look_at: start,
            row_from: count_from,
            row_at: count_from + plan.interval,
            outcome: Outcome::default(),
            tally: Tally::new(plan),
        })
    }

    /// Runs to the end, which `stop` may bring about early.
    pub(super) fn run(
        &mut self,
        client: &mut dyn Pipeline,
        view: &mut dyn View,
        stop: impl Fn() -> bool,
    ) -> Outcome {
        if let Err(error) = self.turns(client, view, &stop) {
            self.outcome.broken = Some(error);
        }
        let now = (self.now)();
        let end = self.end.map_or(now, |end| end.min(now));
        if self.end != Some(end) {
            self.outcome.in_flight = self.in_flight();
        }
        self.outcome.secs = end.saturating_duration_since(self.count_from).as_secs_f64();
        let unfinished = self.slots.iter().filter_map(|slot| slot.call);
        self.outcome.unfinished = unfinished.filter(|call| call.counted).count() as u64;
        std::mem::take(&mut self.outcome)
    }

    fn turns(
        &mut self,
        client: &mut dyn Pipeline,
        view: &mut dyn View,
        stop: &dyn Fn() -> bool,
    ) -> Result<(), CliError> {
        let mut beginning = true;
        loop {
            let now = (self.now)();
            if stop() {
                self.outcome.interrupted = true;
                return self.close_row(now, view);
            }
            if now >= self.look_at {
                self.look(now, view)?;
            }
            if beginning {
                beginning = self.begin_due(now, client);
                if !beginning {
                    self.beginnings_over(now);
                }
            }
            if !beginning && self.in_flight() == 0 {
                break;
            }
            let until = self.wake_at(now, beginning);
            self.collect(client, until)?;
        }
        let now = (self.now)();
        self.end.get_or_insert(now);
        self.close_row(now, view)
    }

    /// Begins the calls that are due, as many as there are places for; returns whether there are
    /// more to come.
    fn begin_due(&mut self, now: Instant, client: &mut dyn Pipeline) -> bool {
        let closed = self.plan.mode == Mode::Closed;
        for _ in 0..BATCH {
            let intended = if closed { now } else { self.intended() };
            let over =
                self.end.is_some_and(|end| now >= end && (intended >= end || now >= end + GRACE));
            if over || self.left == 0 {
                return false;
            }
            if intended > now || self.free.is_empty() {
                break;
            }
            self.begin(intended, now, client);
            self.next = self.arrivals.take();
        }
        true
    }

    /// When the next call of an open loop is meant to begin.
    fn intended(&self) -> Instant {
        self.start + Duration::from_secs_f64(self.next.at_s)
    }

    fn begin(&mut self, intended: Instant, now: Instant, client: &mut dyn Pipeline) {
        // The caller has seen that there is a free one; its index is that of a slot.
        let Some(index) = self.free.pop() else { return };
        let Some(slot) = self.slots.get_mut(index as usize) else { return };
        let counted = now >= self.count_from;
        if counted {
            self.outcome.begun += 1;
            self.left -= 1;
            self.tally.lag.record(now.saturating_duration_since(intended.max(self.room_since)));
        }
        slot.generation = (slot.generation + 1) & (u32::MAX >> 1);
        let token = u64::from(slot.generation) << 32 | u64::from(index);
        let body = self.body();
        let (server, bytes) = (self.next.server, body.len() as u64);
        let call = Call { intended, started: now, server, bytes, counted };
        self.slots[index as usize].call = Some(call);
        if let Err(error) = client.start(token, server, &body) {
            self.ended(token, Err(error.to_string()));
        }
    }

    fn body(&self) -> bytes::Bytes {
        let least = if self.plan.reply_ordered { ORDER_BYTES } else { 1 };
        let length = (self.next.bytes as usize).max(least).min(self.plan.payload.len());
        self.plan.payload.slice(..length)
    }

    fn collect(&mut self, client: &mut dyn Pipeline, until: Instant) -> Result<(), CliError> {
        client.poll(until, &mut |token, outcome| {
            self.ended(token, outcome.map(|reply| reply.remaining()));
        })?;
        Ok(())
    }

    fn ended(&mut self, token: u64, end: End) {
        let (index, generation) = (token as u32, (token >> 32) as u32);
        let Some(slot) = self.slots.get_mut(index as usize) else { return };
        // The reply to a call that was given up counts no more.
        if slot.generation != generation {
            return;
        }
        let Some(call) = slot.call.take() else { return };
        let now = (self.now)();
        if self.free.is_empty() {
            self.room_since = now;
        }
        self.free.push(index);
        if !call.counted {
            return;
        }
        match end {
            Ok(reply_bytes) => {
                let within = self.end.is_none_or(|end| now <= end);
                let latency = now.saturating_duration_since(call.intended);
                self.tally.ok(call.server, latency, call.bytes + reply_bytes as u64, within);
            }
            Err(kind) => self.tally.failed(call.server, kind),
        }
    }

    /// Notes what is under way and what was not begun when no more calls begin.
    fn beginnings_over(&mut self, now: Instant) {
        let Some(end) = self.end else { return };
        self.outcome.in_flight = self.in_flight();
        let Some(rate) = self.plan.rate() else { return };
        let behind = end.saturating_duration_since(self.intended());
        if now >= end + GRACE && behind > Duration::ZERO {
            self.outcome.never_begun = (behind.as_secs_f64() * rate).round().max(1.0) as u64;
            self.outcome.client_late = !self.free.is_empty();
        }
    }

    fn in_flight(&self) -> u64 {
        (self.slots.len() - self.free.len()) as u64
    }

    /// When to stop waiting for ends.
    fn wake_at(&self, now: Instant, beginning: bool) -> Instant {
        if !beginning || self.free.is_empty() {
            return self.look_at;
        }
        match self.plan.mode {
            Mode::Closed => now,
            Mode::Open(..) => {
                let next = self.intended().min(self.look_at);
                self.end.filter(|end| *end > now).map_or(next, |end| end.min(next))
            }
        }
    }

    /// What is to be done now and then: rows, the live view, calls that take too long.
    fn look(&mut self, now: Instant, view: &mut dyn View) -> Result<(), CliError> {
        self.look_at = now + (self.plan.timeout / 10).clamp(LOOK_MIN, LOOK);
        for index in 0..self.slots.len() {
            let Slot { generation, call: Some(call) } = self.slots[index] else { continue };
            if now.saturating_duration_since(call.started) > self.plan.timeout {
                let server = self.plan.servers.get(call.server);
                let kind = server.map(|server| no_reply(*server, self.plan.timeout));
                let token = u64::from(generation) << 32 | index as u64;
                self.ended(token, Err(kind.unwrap_or_default()));
            }
        }
        let row_at = self.end.map_or(self.row_at, |end| end.min(self.row_at));
        if now >= row_at {
            self.close_row(now, view)?;
        } else {
            self.look_at = self.look_at.min(row_at);
        }
        view.live(now.saturating_duration_since(self.count_from), self.in_flight(), &self.tally);
        Ok(())
    }

    /// Ends the stretch under way; not after the end of the measurement.
    fn close_row(&mut self, now: Instant, view: &mut dyn View) -> Result<(), CliError> {
        let to = self.end.map_or(now, |end| now.min(end));
        if self.plan.interval == Duration::ZERO || to <= self.row_from {
            return Ok(());
        }
        let from = self.row_from.saturating_duration_since(self.count_from);
        let row = self.tally.row(from, to - self.count_from, self.in_flight());
        view.row(&row, self.tally.current())?;
        self.tally.keep(row);
        self.row_from = to;
        while self.row_at <= now {
            self.row_at += self.plan.interval;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
