//! What a run found, as text and as a document.

use serde::Serialize;

use homa_report::format::thousands;

use super::{
    drive::Outcome,
    histogram,
    plan::{Mode, Plan},
    tally::{Count, Row, Tally},
};
use crate::{
    error::CliError,
    failures::Failures,
    latency::{Spread, or_dash},
    units::format_number,
};

/// The version of the document.
const SCHEMA: u32 = 1;
/// A server that carries this share of what is offered keeps up: the last calls end after the
/// measurement.
const KEEPS_UP: f64 = 0.95;
/// A client that begins one call in a hundred later than this is late; microseconds.
const LATE_US: f64 = 1_000.0;

/// The result of a run.
#[derive(Debug, Serialize)]
pub(super) struct Summary<'a> {
    schema: u32,
    servers: Vec<String>,
    transport: &'static str,
    /// `open` or `closed`.
    mode: &'static str,
    offered_per_s: Option<f64>,
    outstanding_max: u32,
    requests: &'a str,
    seed: u64,
    warm_up_s: f64,
    secs: f64,
    calls: u64,
    ok: u64,
    failed: u64,
    unfinished: u64,
    never_begun: u64,
    in_flight_at_end: u64,
    /// Calls answered per second of the measurement.
    calls_per_s: f64,
    /// Payload of their requests and replies.
    gbit_per_s: f64,
    #[serde(flatten)]
    latency: Spread,
    /// How late calls began by this client's own doing.
    start_lag: Spread,
    keeps_up: Option<bool>,
    interrupted: bool,
    errors: &'a Failures,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    by_server: Vec<Server>,
    intervals: &'a [Row],
    intervals_left_out: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(skip)]
    client_late: bool,
    #[serde(skip)]
    tally: &'a Tally,
}

/// The part of one of several servers.
#[derive(Debug, Serialize)]
struct Server {
    address: String,
    ok: u64,
    failed: u64,
    #[serde(flatten)]
    latency: Spread,
}

impl<'a> Summary<'a> {
    /// What was found.
    pub(super) fn new(plan: &'a Plan, tally: &'a Tally, outcome: &Outcome) -> Self {
        let secs = outcome.secs;
        let per_s = |amount: f64| if secs > 0.0 { amount / secs } else { 0.0 };
        let (carried, bytes) = tally.carried;
        let servers: Vec<String> = plan.servers.iter().map(ToString::to_string).collect();
        let by_server = servers.iter().zip(&tally.servers).map(Server::new).collect();
        let mut summary = Summary {
            schema: SCHEMA,
            servers,
            transport: plan.protocol.name(),
            mode: if plan.mode == Mode::Closed { "closed" } else { "open" },
            offered_per_s: plan.rate(),
            outstanding_max: plan.outstanding,
            requests: &plan.sizes,
            seed: plan.seed,
            warm_up_s: plan.warm_up.as_secs_f64(),
            secs,
            calls: outcome.begun,
            ok: tally.all.ok,
            failed: tally.all.failed,
            unfinished: outcome.unfinished,
            never_begun: outcome.never_begun,
            in_flight_at_end: outcome.in_flight,
            calls_per_s: per_s(carried as f64),
            gbit_per_s: per_s(bytes as f64 * 8e-9),
            latency: tally.all.latency.spread(),
            start_lag: tally.lag.spread(),
            keeps_up: None,
            interrupted: outcome.interrupted,
            errors: &tally.failures,
            by_server,
            intervals: &tally.rows,
            intervals_left_out: tally.rows_left_out,
            error: None,
            client_late: outcome.client_late,
            tally,
        };
        summary.keeps_up = summary.keeps_up();
        summary.error = match &outcome.broken {
            Some(error) => Some(error.to_string()),
            None => summary.verdict().err().map(|error| error.to_string()),
        };
        summary
    }

    /// Whether the servers carried what was offered; nothing is known of a closed loop.
    fn keeps_up(&self) -> Option<bool> {
        let offered = (self.calls + self.never_begun) as f64;
        let ended = (self.tally.carried.0 + self.failed) as f64;
        let backlog = self.in_flight_at_end + self.never_begun;
        self.offered_per_s?;
        // Calls under way when it ended are no backlog while there are few of them.
        Some(self.never_begun == 0 && (ended >= KEEPS_UP * offered || backlog < 100))
    }

    /// Whether everything asked for was done.
    pub(super) fn verdict(&self) -> Result<(), CliError> {
        let lost = self.calls - self.ok + self.never_begun;
        if self.interrupted {
            return Err(CliError::Interrupted);
        }
        if lost == 0 && self.ok > 0 {
            return Ok(());
        }
        let due = self.calls + self.never_begun;
        let mut text = format!("of {} calls {} were answered", count(due), count(self.ok));
        if let Some(kind) = self.errors.main() {
            text += &format!(": {kind}");
        }
        Err(CliError::Incomplete(text))
    }

    /// The text for people.
    pub(super) fn text(&self) -> String {
        let mut text = String::from("\n");
        for line in self.pace() {
            text += &line;
            text.push('\n');
        }
        text += &format!(
            "calls      {} answered, {} failed, {} unfinished in {:.1} s\n",
            count(self.ok),
            count(self.failed),
            count(self.unfinished),
            self.secs,
        );
        text += &format!(
            "carried    {} calls/s, {} Mbit/s of payload\n",
            format_number(self.calls_per_s),
            format_number(self.gbit_per_s * 1e3),
        );
        text += &format!("time in µs {}\n", self.latency.line());
        for server in &self.by_server {
            text += &server.line();
        }
        text += &histogram::text(&self.tally.all.latency);
        if self.failed > 0 {
            text += "errors\n";
        }
        for (kind, number) in self.errors.sorted() {
            text += &format!("{:>11}  {kind}\n", count(number));
        }
        text
    }

    /// What there is to say of a rate that was not kept, by the servers or by this client.
    fn pace(&self) -> Vec<String> {
        let Some(offered) = self.offered_per_s else { return Vec::new() };
        let mut lines = Vec::new();
        if self.keeps_up == Some(false) && !self.interrupted {
            lines.push(format!(
                "offered {}/s, carried {}/s; {} calls in flight at the end, {} never begun",
                format_number(offered),
                format_number(self.calls_per_s),
                count(self.in_flight_at_end),
                count(self.never_begun),
            ));
        }
        let late = self.client_late || self.start_lag.p99_us.is_some_and(|lag| lag > LATE_US);
        if late && self.start_lag.count > 0 {
            lines.push(format!(
                "this client began calls late: P99 {} µs, at most {} µs; its processor, not the servers, is part \
                 of the times",
                or_dash(self.start_lag.p99_us),
                or_dash(self.start_lag.max_us),
            ));
        }
        lines
    }
}

impl Server {
    fn new((address, found): (&String, &Count)) -> Self {
        Server {
            address: address.clone(),
            ok: found.ok,
            failed: found.failed,
            latency: found.latency.spread(),
        }
    }

    fn line(&self) -> String {
        format!(
            "  {:<24} {} answered, {} failed, µs: P50 {}  P99 {}  max {}\n",
            self.address,
            count(self.ok),
            count(self.failed),
            or_dash(self.latency.p50_us),
            or_dash(self.latency.p99_us),
            or_dash(self.latency.max_us),
        )
    }
}

fn count(number: u64) -> String {
    thousands(number as f64)
}
