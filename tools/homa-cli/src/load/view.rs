//! The course of a run: a line per interval on standard output, a live line on a terminal.

use std::{
    io::{self, IsTerminal},
    time::Duration,
};

use homa_report::format::thousands;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::{
    drive::View,
    hdr::Export,
    plan::{Plan, Until},
    tally::{Row, Tally},
};
use crate::{
    error::CliError,
    latency::{Latency, or_dash},
    output,
    units::format_number,
};

/// Lines between two headings on a terminal.
const HEADING_EVERY: usize = 20;

/// Shows a run to people and exports its intervals.
pub(super) struct Shown {
    /// Whether standard output gets a line per interval.
    lines: bool,
    printed: usize,
    terminal: bool,
    bar: Option<ProgressBar>,
    until: Until,
    export: Option<Export>,
    /// What the export covers, from the beginning of the measurement.
    exported: Duration,
}

impl Shown {
    /// Shows a run of this plan; with `json` standard output stays empty.
    pub(super) fn new(plan: &Plan, json: bool, export: Option<Export>) -> Self {
        Shown {
            lines: !json && plan.interval > Duration::ZERO,
            printed: 0,
            terminal: io::stdout().is_terminal(),
            bar: io::stderr().is_terminal().then(|| bar(plan)).flatten(),
            until: plan.until,
            export,
            exported: Duration::ZERO,
        }
    }

    /// Takes the live line away and writes the rest of the export.
    pub(super) fn finish(&mut self, tally: &Tally, secs: f64) -> Result<(), CliError> {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
        let Some(mut export) = self.export.take() else { return Ok(()) };
        let rest = tally.current();
        if rest.count() > 0 {
            let length = Duration::from_secs_f64(secs).saturating_sub(self.exported);
            export.interval(self.exported, length, rest)?;
        }
        export.finish(&tally.all.latency)
    }

    fn line(&mut self, row: &Row) -> Result<(), CliError> {
        let mut text = String::new();
        if self.printed == 0 || (self.terminal && self.printed % HEADING_EVERY == 0) {
            text = heading();
        }
        self.printed += 1;
        text += &line(row);
        match &self.bar {
            Some(bar) => bar.suspend(|| output::bytes(text.as_bytes())),
            None => output::bytes(text.as_bytes()),
        }
    }
}

impl View for Shown {
    fn row(&mut self, row: &Row, times: &Latency) -> Result<(), CliError> {
        if let Some(export) = &mut self.export {
            let (from, to) =
                (Duration::from_secs_f64(row.from_s), Duration::from_secs_f64(row.to_s));
            export.interval(from, to.saturating_sub(from), times)?;
            self.exported = to;
        }
        match self.lines {
            true => self.line(row),
            false => Ok(()),
        }
    }

    fn live(&mut self, elapsed: Duration, in_flight: u64, tally: &Tally) {
        let Some(bar) = &self.bar else { return };
        bar.set_position(match self.until {
            Until::Time(_) => elapsed.as_millis() as u64,
            Until::Calls(_) => tally.all.ok + tally.all.failed,
        });
        let done = thousands(tally.all.ok as f64);
        let failed = thousands(tally.all.failed as f64);
        let times = tally.current().spread();
        bar.set_message(format!(
            "{done} answered, {failed} failed, {in_flight} in flight, now P50 {} max {} µs",
            or_dash(times.p50_us),
            or_dash(times.max_us)
        ));
    }
}

fn bar(plan: &Plan) -> Option<ProgressBar> {
    let length = match plan.until {
        Until::Time(time) => time.as_millis() as u64,
        Until::Calls(count) => count,
    };
    let style = ProgressStyle::with_template("{bar:20} {eta:>3} left  {wide_msg}").ok()?;
    let target = ProgressDrawTarget::stderr_with_hz(5);
    Some(ProgressBar::with_draw_target(Some(length), target).with_style(style))
}

fn heading() -> String {
    format!(
        "{:>9} {:>11} {:>9} {:>9} {:>9} {:>9} {:>10} {:>8}\n",
        "time s", "calls/s", "Mbit/s", "P50 µs", "P99 µs", "max µs", "in flight", "failed"
    )
}

fn line(row: &Row) -> String {
    format!(
        "{:>9.1} {:>11} {:>9} {:>9} {:>9} {:>9} {:>10} {:>8}\n",
        row.to_s,
        format_number(row.calls_per_s),
        format_number(row.gbit_per_s * 1e3),
        or_dash(row.latency.p50_us),
        or_dash(row.latency.p99_us),
        or_dash(row.latency.max_us),
        thousands(row.in_flight as f64),
        thousands(row.failed as f64),
    )
}
