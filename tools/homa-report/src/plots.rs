//! The plots of the papers, from a run's curves.

use crate::{
    chart::{Axis, Chart, Line, Palette, Point, Reference, Series, Tick},
    format::{number, percent, plain, size, time_us, trimmed},
    run::{Measured, Run},
    sampled::LEVELS,
};

const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 460.0;

/// Slowdown by message size, P99 solid and P50 dashed. Sizes are spaced by their share of the
/// messages.
pub(crate) fn slowdown(run: &Run, palette: &Palette) -> Option<Chart> {
    let mut series = Vec::new();
    for transport in &run.transports {
        let buckets = &transport.figures.slowdown;
        let own = run.is_own_reference(transport);
        for (part, line, pick) in PERCENTILES {
            let known = buckets.iter().filter(|bucket| pick(bucket).is_finite());
            let points = known.map(|bucket| Point {
                x: bucket.share,
                // Nothing is faster than on the idle network; what seems so is the machine's.
                y: if own { pick(bucket).max(1.0) } else { pick(bucket) },
                text: format!(
                    "{} at {}",
                    crate::compare::slowdown(pick(bucket), own),
                    sizes(bucket.sizes_bytes)
                ),
            });
            series.push(of(transport, palette, part, line, points));
        }
    }
    series.retain(|series| !series.points.is_empty());
    // One point is no curve: so few messages say nothing by size.
    series.iter().find(|series| series.points.len() > 1)?;
    let values = series.iter().flat_map(|series| series.points.iter().map(|point| point.y));
    let relative =
        if run.relative_to_homa() { "Homa's unloaded time" } else { "its own unloaded time" };
    let y = Axis::log(&format!("slowdown against {relative}"), values.chain([1.0]), plain);
    Some(Chart {
        name: "slowdown",
        description: "Slowdown by message size, 50th and 99th percentile of each transport"
            .to_owned(),
        title: None,
        width: WIDTH,
        height: HEIGHT,
        x: share_axis(run),
        y,
        series,
        references: Vec::new(),
        legend: true,
    })
}

/// Whether all messages are of one size, so that nothing can be drawn against it.
pub(crate) fn one_size(run: &Run) -> bool {
    let mut measured = run.transports.iter().filter(|one| one.document.summary.rpcs > 0).peekable();
    measured.peek().is_some()
        && measured.all(|one| {
            let deciles = &one.document.summary.deciles;
            one.figures.deciles_bytes.first() == one.figures.deciles_bytes.last()
                && deciles.first().map(|first| first.size_bytes)
                    == deciles.last().map(|last| last.size_bytes)
        })
}

type PickBucket = fn(&crate::figures::Bucket) -> f64;

const PERCENTILES: [(&str, Line, PickBucket); 2] =
    [("P99", Line::Solid, |bucket| bucket.p99), ("P50", Line::Dashed, |bucket| bucket.p50)];

fn sizes((shortest, longest): (u64, u64)) -> String {
    match shortest == longest {
        true => size(longest as f64),
        false => format!("{} to {}", size(shortest as f64), size(longest as f64)),
    }
}

/// An axis from the shortest to the longest message on which each tenth of the messages has the
/// same room.
fn share_axis(run: &Run) -> Axis {
    let deciles = run
        .transports
        .iter()
        .map(|transport| &transport.figures.deciles_bytes)
        .find(|deciles| !deciles.is_empty());
    let mut ticks: Vec<Tick> = Vec::new();
    for (index, bytes) in deciles.into_iter().flatten().enumerate() {
        let label = size(*bytes as f64);
        // A size that fills several tenths is written once.
        let known = ticks.iter().any(|tick| tick.label == label);
        ticks.push(Tick {
            at: index as f64 / 10.0,
            label: if known { String::new() } else { label },
        });
    }
    Axis {
        label: "message size; every step holds a tenth of the messages".to_owned(),
        log: false,
        low: 0.0,
        high: 1.0,
        ticks,
        minor: Vec::new(),
    }
}

fn of(
    transport: &Measured,
    palette: &Palette,
    part: &'static str,
    line: Line,
    points: impl Iterator<Item = Point>,
) -> Series {
    let style = palette.style(&transport.document.name);
    Series {
        name: transport.document.name.clone(),
        part,
        class: format!("c{style}"),
        mark: (line == Line::Solid).then_some(style),
        line,
        points: points.filter(|point| point.x.is_finite() && point.y.is_finite()).collect(),
    }
}

/// The tail of the distribution of short messages' times.
pub(crate) fn tail(run: &Run, palette: &Palette) -> Option<Chart> {
    let curves = run.transports.iter().map(|transport| {
        let points = transport.figures.tail.iter().map(|(us, share)| Point {
            x: *us,
            y: *share,
            text: format!("{} took {} or more", percent(*share), time_us(*us)),
        });
        of(transport, palette, "", Line::Solid, points)
    });
    let series: Vec<Series> = curves.filter(|series| series.points.len() > 1).collect();
    let all = || series.iter().flat_map(|series| &series.points);
    let x = Axis::log("time of an RPC", all().map(|point| point.x), time_us);
    let y = Axis::log("share that took at least as long", all().map(|point| point.y), |share| {
        format!("{}\u{a0}%", trimmed(share * 100.0, 4))
    });
    (!series.is_empty()).then(|| Chart {
        name: "tail",
        description: "Share of short messages that took at least a time, for each transport"
            .to_owned(),
        title: None,
        width: WIDTH,
        height: 400.0,
        x,
        y,
        series: series.clone(),
        references: Vec::new(),
        legend: true,
    })
}

/// Queues of the switch over time, level upon level, a chart per transport with common axes.
pub(crate) fn queues(run: &Run) -> Vec<Chart> {
    let sum = |levels: &[f64; LEVELS]| levels.iter().sum::<f64>();
    let all = || run.transports.iter().flat_map(|transport| &transport.queues);
    let high = all().map(|point| sum(&point.level_bytes)).fold(0.0, f64::max);
    let end = all().map(|point| point.time_s).fold(0.0, f64::max);
    let chart = |transport: &Measured| Chart {
        name: "queues",
        description: format!(
            "Mean queue of a port of the switch over time by priority level, {}",
            transport.document.name
        ),
        title: Some(transport.document.name.clone()),
        width: 430.0,
        height: 250.0,
        x: Axis::linear_to("seconds", end, |value| trimmed(value, 2)),
        y: Axis::linear("mean queue", high.max(1_000.0), size),
        series: used_levels(transport).map(|level| level_series(transport, level)).collect(),
        references: warm_up(run),
        legend: false,
    };
    let measured = |transport: &&Measured| transport.queues.len() > 1;
    run.transports.iter().filter(measured).map(chart).collect()
}

/// Levels that ever held something, from 7, which goes first and lies at the bottom; level 0 in any
/// case.
fn used_levels(transport: &Measured) -> impl Iterator<Item = usize> {
    let used = |level: &usize| {
        *level == 0 || transport.queues.iter().any(|point| point.level_bytes[*level] > 0.0)
    };
    (0..LEVELS).rev().filter(used)
}

/// A level's area.
fn level_series(transport: &Measured, level: usize) -> Series {
    let points = transport.queues.iter().map(|point| Point {
        x: point.time_s,
        y: point.level_bytes[level..].iter().sum(),
        text: size(point.level_bytes[level]),
    });
    Series {
        name: format!("level {level}"),
        part: "",
        class: format!("l{level}"),
        mark: None,
        line: Line::Area,
        points: points.collect(),
    }
}

/// What the ports carried over time.
pub(crate) fn throughput(run: &Run, palette: &Palette) -> Option<Chart> {
    let curves = run.transports.iter().map(|transport| {
        let points = transport.rates.iter().map(|point| Point {
            x: point.time_s,
            y: point.mean_mbps,
            text: format!("{} Mbit/s", number(point.mean_mbps)),
        });
        of(transport, palette, "", Line::Solid, points)
    });
    let series: Vec<Series> = curves.filter(|series| series.points.len() > 1).collect();
    let all = || series.iter().flat_map(|series| &series.points);
    let rate = run.document.rate_mbps();
    let high = all().map(|point| point.y).chain(rate).fold(0.0, f64::max);
    let end = all().map(|point| point.x).fold(0.0, f64::max);
    let mut references = warm_up(run);
    references.extend(rate.map(|at| Reference {
        label: format!("rate of the links, {} Mbit/s", plain(at)),
        at,
        vertical: false,
    }));
    (!series.is_empty()).then(|| Chart {
        name: "throughput",
        description: "Throughput of the switch's ports over time, mean of all hosts".to_owned(),
        title: None,
        width: WIDTH,
        height: 320.0,
        x: Axis::linear_to("seconds", end, |value| trimmed(value, 2)),
        y: Axis::linear("Mbit/s towards a host, frames", high * 1.08, plain),
        series: series.clone(),
        references,
        legend: true,
    })
}

fn warm_up(run: &Run) -> Vec<Reference> {
    let at = run.document.window_s().0;
    let label = "counted from here".to_owned();
    if at > 0.0 { vec![Reference { label, at, vertical: true }] } else { Vec::new() }
}
