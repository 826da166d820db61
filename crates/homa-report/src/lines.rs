//! All transports side by side: one line per figure, each with one unit. Terminal and page show the same lines.

use crate::{
    compare::slowdown,
    figures::Draws,
    format::{number, size, thousands, trimmed},
    run::{Measured, Run},
    stats::{Interval, samples_for_interval},
    summary::{P99_AVERAGE_MIN, Summary},
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

/// How far chance moves a figure.
struct Drawn {
    of: fn(&Draws) -> &[f64],
    /// How many RPCs it is of, and how many it takes for an interval.
    samples: fn(&Summary) -> u64,
    needed: u64,
}

/// A figure of the table.
struct Figure {
    label: &'static str,
    unit: Unit,
    of: fn(&Measured) -> f64,
    draws: Option<Drawn>,
    /// Whether zeros alone mean that nobody looked.
    zero_is_nothing: bool,
}

impl Figure {
    const fn new(label: &'static str, unit: Unit, of: fn(&Measured) -> f64) -> Self {
        Figure { label, unit, of, draws: None, zero_is_nothing: false }
    }

    const fn drawn(
        mut self,
        of: fn(&Draws) -> &[f64],
        samples: fn(&Summary) -> u64,
        needed: u64,
    ) -> Self {
        self.draws = Some(Drawn { of, samples, needed });
        self
    }

    const fn or_nothing(mut self) -> Self {
        self.zero_is_nothing = true;
        self
    }

    fn interval(&self, transport: &Measured) -> Option<Interval> {
        let drawn = self.draws.as_ref()?;
        let enough = (drawn.samples)(&transport.document.summary) >= drawn.needed;
        enough.then(|| Interval::of((drawn.of)(&transport.figures.draws))).flatten()
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
    Figure::new("P50 of short messages", Unit::Time, |one| summary(one).short.p50_us).drawn(
        |draws| &draws.short_p50_us,
        |all| all.short.count,
        samples_for_interval(0.5),
    ),
    Figure::new("P99 of short messages", Unit::Time, |one| summary(one).short.p99_us).drawn(
        |draws| &draws.short_p99_us,
        |all| all.short.count,
        samples_for_interval(0.99),
    ),
    Figure::new("P99.9 of short messages", Unit::Time, |one| summary(one).short.p999_us).drawn(
        |draws| &draws.short_p999_us,
        |all| all.short.count,
        samples_for_interval(0.999),
    ),
    Figure::new("average slowdown", Unit::Slowdown, |one| summary(one).slowdown().average).drawn(
        |draws| &draws.average,
        |all| all.rpcs,
        samples_for_interval(0.5),
    ),
    Figure::new("P99 average of slowdown", Unit::Slowdown, |one| {
        summary(one).slowdown().p99_average
    })
    .drawn(|draws| &draws.p99_average, |all| all.rpcs, P99_AVERAGE_MIN),
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
        .map(|one| if measured(one) { (figure.of)(one) } else { f64::NAN })
        .collect();
    let known = || values.iter().copied().filter(|value| value.is_finite());
    let refused = figure.draws.is_some() && run.transports.iter().any(measured);
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
                false if figure.draws.is_some() && measured(transport) => "too few".to_owned(),
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
