//! What is counted: how calls ended, and how long they took.

use std::time::Duration;

use serde::Serialize;

use super::plan::Plan;
use crate::{
    failures::Failures,
    latency::{Latency, Spread},
};

/// Rows of the course that are kept.
const ROWS_MAX: usize = 20_000;

/// Calls that ended within some time.
#[derive(Debug, Clone)]
pub(super) struct Count {
    /// Calls that were answered.
    pub ok: u64,
    /// Calls that failed.
    pub failed: u64,
    /// Payload of the requests and replies of answered calls.
    pub bytes: u64,
    /// Times of answered calls.
    pub latency: Latency,
}

impl Count {
    fn new() -> Self {
        Count { ok: 0, failed: 0, bytes: 0, latency: Latency::new() }
    }

    fn ok(&mut self, latency: Duration, bytes: u64) {
        self.ok += 1;
        self.bytes += bytes;
        self.latency.record(latency);
    }

    fn clear(&mut self) {
        (self.ok, self.failed, self.bytes) = (0, 0, 0);
        self.latency.clear();
    }
}

/// A stretch of the measurement.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(super) struct Row {
    /// Its beginning, in seconds from that of the measurement.
    pub from_s: f64,
    /// Its end, alike.
    pub to_s: f64,
    /// Calls answered in it.
    pub ok: u64,
    /// Calls that failed in it.
    pub failed: u64,
    /// Calls answered per second.
    pub calls_per_s: f64,
    /// Payload of their requests and replies, in Gbit/s.
    pub gbit_per_s: f64,
    /// Calls under way at its end.
    pub in_flight: u64,
    /// Their times.
    #[serde(flatten)]
    pub latency: Spread,
}

/// The counts of a run.
#[derive(Debug)]
pub(super) struct Tally {
    /// All calls that count, those that ended after the measurement included.
    pub all: Count,
    /// By server, where there are several.
    pub servers: Vec<Count>,
    /// Why calls failed.
    pub failures: Failures,
    /// How much later than it could calls began: this client's own doing.
    pub lag: Latency,
    /// Calls answered within the measurement, and their payload in bytes.
    pub carried: (u64, u64),
    /// The course.
    pub rows: Vec<Row>,
    /// Rows for which there was no more room.
    pub rows_left_out: u64,
    current: Count,
}

impl Tally {
    /// Nothing counted yet.
    pub(super) fn new(plan: &Plan) -> Self {
        let servers = if plan.servers.len() > 1 { plan.servers.len() } else { 0 };
        Tally {
            all: Count::new(),
            servers: vec![Count::new(); servers],
            failures: Failures::default(),
            lag: Latency::new(),
            carried: (0, 0),
            rows: Vec::new(),
            rows_left_out: 0,
            current: Count::new(),
        }
    }

    /// Counts an answered call; `within` tells whether it ended within the measurement.
    pub(super) fn ok(&mut self, server: usize, latency: Duration, bytes: u64, within: bool) {
        self.all.ok(latency, bytes);
        self.current.ok(latency, bytes);
        if let Some(server) = self.servers.get_mut(server) {
            server.ok(latency, bytes);
        }
        if within {
            self.carried = (self.carried.0 + 1, self.carried.1 + bytes);
        }
    }

    /// Counts a failed call.
    pub(super) fn failed(&mut self, server: usize, kind: String) {
        self.all.failed += 1;
        self.current.failed += 1;
        if let Some(server) = self.servers.get_mut(server) {
            server.failed += 1;
        }
        self.failures.add(kind);
    }

    /// Ends a stretch of the course, of which the row and the times remain until the next.
    pub(super) fn row(&self, from: Duration, to: Duration, in_flight: u64) -> Row {
        let secs = (to - from).as_secs_f64().max(1e-9);
        Row {
            from_s: from.as_secs_f64(),
            to_s: to.as_secs_f64(),
            ok: self.current.ok,
            failed: self.current.failed,
            calls_per_s: self.current.ok as f64 / secs,
            gbit_per_s: self.current.bytes as f64 * 8e-9 / secs,
            in_flight,
            latency: self.current.latency.spread(),
        }
    }

    /// Times of the calls since the last row.
    pub(super) fn current(&self) -> &Latency {
        &self.current.latency
    }

    /// Keeps a row and begins the next.
    pub(super) fn keep(&mut self, row: Row) {
        self.current.clear();
        match self.rows.len() < ROWS_MAX {
            true => self.rows.push(row),
            false => self.rows_left_out += 1,
        }
    }
}
