//! All transports side by side: one line per figure, each with one unit. Terminal and page show the
//! same lines.

use crate::{
    compare::slowdown,
    figures::Drawn,
    format::{number, size, thousands, trimmed},
    run::{Measured, Run},
    stats::Interval,
    summary::Summary,
};

/// A figure of all transports.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Line {
    /// What it is, with its unit.
    pub label: String,
    /// One per transport, in the order of the run.
    pub cells: Vec<Cell>,
}

/// A figure of one transport, in words.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Cell {
    pub value: String,
    /// What 95 % of the draws of a bootstrap gave.
    pub interval: Option<String>,
}

/// What is counted, and how large steps of it are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unit {
    Count,
    Time,
    Bytes,
    Slowdown,
    Rate,
    Share,
}

/// Where a figure comes from.
enum Source {
    /// Chance is not known to move it.
    Found(fn(&Measured) -> f64),
    Drawn(Drawn),
}

/// A figure of the table.
struct Figure {
    label: &'static str,
    unit: Unit,
    source: Source,
    /// Whether zeros alone mean that nobody looked.
    zero_is_nothing: bool,
}

impl Figure {
    const fn new(label: &'static str, unit: Unit, of: fn(&Measured) -> f64) -> Self {
        Figure { label, unit, source: Source::Found(of), zero_is_nothing: false }
    }

    const fn drawn(label: &'static str, unit: Unit, drawn: Drawn) -> Self {
        Figure { label, unit, source: Source::Drawn(drawn), zero_is_nothing: false }
    }

    const fn or_nothing(mut self) -> Self {
        self.zero_is_nothing = true;
        self
    }

    fn of(&self, transport: &Measured) -> f64 {
        match &self.source {
            Source::Found(of) => of(transport),
            Source::Drawn(drawn) => (drawn.of)(summary(transport)),
        }
    }

    fn is_drawn(&self) -> bool {
        matches!(self.source, Source::Drawn(_))
    }

    fn interval(&self, transport: &Measured) -> Option<Interval> {
        let Source::Drawn(drawn) = &self.source else { return None };
        let enough = (drawn.samples)(&transport.document.summary) >= drawn.needed;
        enough.then(|| Interval::of((drawn.draws)(&transport.figures.draws))).flatten()
    }
}

fn summary(transport: &Measured) -> &Summary {
    &transport.document.summary
}

/// A figure of Homa's alone, or of all others'.
fn only(homa: bool, transport: &Measured, value: u64) -> f64 {
    if transport.document.is_homa() == homa { value as f64 } else { f64::NAN }
}

const FIGURES: [Figure; 16] = [
    Figure::new("RPCs measured", Unit::Count, |one| summary(one).rpcs as f64),
    Figure::new("short messages among them", Unit::Count, |one| summary(one).short.count as f64),
    Figure::drawn("P50 of short messages", Unit::Time, Drawn::SHORT_P50),
    Figure::drawn("P99 of short messages", Unit::Time, Drawn::SHORT_P99),
    Figure::drawn("P99.9 of short messages", Unit::Time, Drawn::SHORT_P999),
    Figure::drawn("average slowdown", Unit::Slowdown, Drawn::AVERAGE),
    Figure::drawn("P99 average of slowdown", Unit::Slowdown, Drawn::P99_AVERAGE),
    Figure::new("goodput, Mbit/s", Unit::Rate, |one| summary(one).goodput_mbps),
    Figure::new("carried of what was offered, %", Unit::Share, |one| summary(one).carried()),
    Figure::new("RPCs without a good end", Unit::Count, |one| {
        (summary(one).unfinished + summary(one).failed) as f64
    }),
    Figure::new("sent again", Unit::Bytes, |one| only(true, one, summary(one).retransmitted_bytes)),
    Figure::new("sent again, packets", Unit::Count, |one| {
        only(false, one, summary(one).retransmitted_packets)
    }),
    Figure::new("mean queue of a switch port", Unit::Bytes, |one| summary(one).queue_mean_bytes)
        .or_nothing(),
    Figure::new("longest queue of a port", Unit::Bytes, |one| summary(one).queue_max_bytes as f64)
        .or_nothing(),
    Figure::new("processor time per RPC", Unit::Time, |one| summary(one).cpu_us_per_rpc)
        .or_nothing(),
    Figure::new("processors busy, %", Unit::Share, |one| summary(one).machine_busy),
];

/// The lines of a run; those without any value are left out.
pub(crate) fn lines(run: &Run) -> Vec<Line> {
    FIGURES.iter().filter_map(|figure| line(run, figure)).collect()
}

/// Which messages are the short ones; nothing if nothing was measured.
pub(crate) fn short(run: &Run) -> Option<String> {
    let summaries = run.transports.iter().map(summary).filter(|summary| summary.rpcs > 0);
    let found = summaries.max_by_key(|summary| summary.short_bytes_max)?;
    Some(match found.short.count < found.rpcs {
        true => format!(
            "Short messages: the shortest 10 %, up to {}.",
            size(found.short_bytes_max as f64)
        ),
        false => "All messages are of one size, so all of them count as short.".to_owned(),
    })
}

fn line(run: &Run, figure: &Figure) -> Option<Line> {
    let measured = |transport: &Measured| summary(transport).rpcs > 0;
    let values: Vec<f64> = run
        .transports
        .iter()
        .map(|one| if measured(one) { figure.of(one) } else { f64::NAN })
        .collect();
    let known = || values.iter().copied().filter(|value| value.is_finite());
    let refused = figure.is_drawn() && run.transports.iter().any(measured);
    let nothing = figure.zero_is_nothing && known().all(|value| value == 0.0);
    if (known().next().is_none() && !refused) || nothing {
        return None;
    }
    let (factor, unit) = scale(figure.unit, known());
    let cell = |(transport, value): (&Measured, &f64)| {
        let show = |value: f64| match figure.unit {
            Unit::Slowdown => slowdown(value, run.is_own_reference(transport)),
            unit => write(unit, value * factor),
        };
        Cell {
            value: match value.is_finite() {
                true => show(*value),
                false if figure.is_drawn() && measured(transport) => "too few".to_owned(),
                false => "–".to_owned(),
            },
            interval: figure
                .interval(transport)
                .map(|Interval { low, high }| format!("{} to {}", show(low), show(high))),
        }
    };
    let label = format!("{}{unit}", figure.label);
    Some(Line { label, cells: run.transports.iter().zip(&values).map(cell).collect() })
}

/// One unit for all values of a line: the factor to it, and its name.
fn scale(unit: Unit, values: impl Iterator<Item = f64> + Clone) -> (f64, &'static str) {
    let least = values.clone().filter(|value| *value > 0.0).fold(f64::INFINITY, f64::min);
    let most = values.fold(0.0, f64::max);
    match unit {
        Unit::Time if least >= 10_000.0 && least.is_finite() => (1e-3, ", ms"),
        Unit::Time => (1.0, ", µs"),
        Unit::Bytes if most >= 10_000_000.0 => (1e-6, ", MB"),
        Unit::Bytes if most >= 10_000.0 => (1e-3, ", kB"),
        Unit::Bytes => (1.0, ", bytes"),
        Unit::Share => (100.0, ""),
        Unit::Count | Unit::Slowdown | Unit::Rate => (1.0, ""),
    }
}

fn write(unit: Unit, value: f64) -> String {
    match unit {
        Unit::Count => thousands(value),
        Unit::Share => trimmed(value, 1),
        Unit::Time | Unit::Bytes | Unit::Slowdown | Unit::Rate => number(value),
    }
}
