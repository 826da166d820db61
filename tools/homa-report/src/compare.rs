//! Homa against the best variant of TCP, of QUIC and of gRPC, and how far each difference can be
//! trusted.

use std::cmp::Ordering;

use crate::{
    comparison::{Comparison, Verdict},
    figures::{Drawn, RoundFigures},
    format::{number, percent, time_us},
    run::{Measured, Run},
    stats::{Interval, SAMPLES_MIN},
    summary::Summary,
};

/// Transports of one protocol, which a run may have in several variants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Family {
    /// Its name.
    pub name: &'static str,
    /// How the names of its variants begin.
    prefix: &'static str,
}

/// The one that Homa replaces.
pub(crate) const TCP: Family = Family { name: "TCP", prefix: "tcp" };

/// All that Homa is compared with.
pub(crate) const FAMILIES: [Family; 3] =
    [TCP, Family { name: "QUIC", prefix: "quic" }, Family { name: "gRPC", prefix: "grpc" }];

/// The figure of which more is better.
pub(crate) const CARRIED: &str = "carried of the offered load";

/// Takes a figure out of the results.
type Of<T> = fn(&T) -> f64;

/// A figure that is compared: lower is better.
struct Figure {
    name: &'static str,
    drawn: Drawn,
    of_round: Option<Of<RoundFigures>>,
    kind: Kind,
}

/// Which differences of a figure the network tells apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A median of times.
    Median,
    /// A tail of times.
    Tail,
    /// Times over unloaded ones, the mean of many.
    Mean,
    /// The same, of the slowest.
    Slowest,
}

impl Kind {
    fn is_slowdown(self) -> bool {
        matches!(self, Kind::Mean | Kind::Slowest)
    }

    /// How a value is written; a slowdown by whether it is against the own unloaded time.
    fn show(self, own: bool) -> fn(f64) -> String {
        match (self.is_slowdown(), own) {
            (false, _) => time_us,
            (true, true) => |value| slowdown(value, true),
            (true, false) => |value| slowdown(value, false),
        }
    }
}

/// A slowdown in words; none against the `own` unloaded time is below 1.
pub(crate) fn slowdown(value: f64, own: bool) -> String {
    if value < 1.0 && own { "< 1".to_owned() } else { number(value) }
}

impl Figure {
    /// Differences below this are the machine's: what the idle network tells apart, for tails no
    /// less than programs waited to run while the load was on.
    fn resolution(&self, run: &Run, ours: &Summary, theirs: &Summary) -> Option<f64> {
        let found = run.document.resolution()?;
        let waited = [ours, theirs].map(|summary| summary.machine_late_p99_us);
        let tail_us = waited.into_iter().filter(|us| us.is_finite()).fold(found.us, f64::max);
        let relative = |us: f64| run.document.shortest_us().map(|shortest| us / shortest);
        match self.kind {
            Kind::Median => Some(found.median_us),
            Kind::Tail => Some(tail_us),
            Kind::Mean => relative(found.median_us),
            Kind::Slowest => relative(found.us),
        }
    }
}

/// P99 of short messages, the figure that Homa is for.
pub(crate) const SHORT_P99: &str = "short messages, P99";
/// Their median.
pub(crate) const SHORT_P50: &str = "short messages, P50";
/// Mean slowdown of all.
pub(crate) const AVERAGE: &str = "average slowdown";

const FIGURES: [Figure; 5] = [
    Figure {
        name: SHORT_P99,
        drawn: Drawn::SHORT_P99,
        of_round: Some(|round| round.short_p99_us),
        kind: Kind::Tail,
    },
    Figure {
        name: SHORT_P50,
        drawn: Drawn::SHORT_P50,
        of_round: Some(|round| round.short_p50_us),
        kind: Kind::Median,
    },
    Figure {
        name: "short messages, P99.9",
        drawn: Drawn::SHORT_P999,
        of_round: None,
        kind: Kind::Tail,
    },
    Figure {
        name: AVERAGE,
        drawn: Drawn::AVERAGE,
        of_round: Some(|round| round.average),
        kind: Kind::Mean,
    },
    Figure { name: "P99 average", drawn: Drawn::P99_AVERAGE, of_round: None, kind: Kind::Slowest },
];

/// Compares each Homa transport with the best of others; by name of the Homa transport. Empty if
/// one of them has no result.
pub(crate) fn comparisons(run: &Run, family: Family) -> Vec<(&str, Vec<Comparison>)> {
    let measured = || run.transports.iter().filter(|transport| transport.document.summary.rpcs > 0);
    let others: Vec<&Measured> =
        measured().filter(|transport| transport.document.name.starts_with(family.prefix)).collect();
    if others.is_empty() {
        return Vec::new();
    }
    measured()
        .filter(|transport| transport.document.is_homa())
        .map(|homa| {
            let mut all: Vec<Comparison> = FIGURES
                .iter()
                .filter_map(|figure| compare(run, homa, (family.name, &others), figure))
                .collect();
            all.extend(carried(run, homa, (family.name, &others)));
            (homa.document.name.as_str(), all)
        })
        .collect()
}

fn compare(
    run: &Run,
    homa: &Measured,
    (with, others): (&'static str, &[&Measured]),
    figure: &Figure,
) -> Option<Comparison> {
    let value = |transport: &Measured| (figure.drawn.of)(&transport.document.summary);
    let best = *others.iter().min_by(|a, b| value(a).total_cmp(&value(b)))?;
    let (ours, theirs) = (value(homa), value(best));
    let samples = |transport: &Measured| (figure.drawn.samples)(&transport.document.summary);
    let samples = samples(homa).min(samples(best));
    let rounds = figure.of_round.and_then(|of| range_of_rounds(homa, others, of));
    let interval =
        (samples >= figure.drawn.needed).then(|| interval(homa, others, figure)).flatten();
    let resolution = figure.resolution(run, &homa.document.summary, &best.document.summary);
    let disagree = rounds.is_some_and(|(low, high)| low < 1.0 && high > 1.0)
        || interval.is_some_and(|interval| interval.contains(1.0));
    let below_one = ours < 1.0 || (theirs < 1.0 && run.is_own_reference(best));
    let verdict = match disagree {
        _ if ours.is_nan() || theirs.is_nan() => Verdict::TooFew,
        // Of tails it takes more than many runs have; those say what they saw, and that chance is
        // not known.
        _ if samples < figure.drawn.needed && figure.kind != Kind::Tail => Verdict::TooFew,
        _ if figure.kind.is_slowdown() && below_one => Verdict::BelowOne,
        _ if resolution.is_some_and(|least| (ours - theirs).abs() < least) => Verdict::Unresolved,
        true => Verdict::Undecided,
        false if theirs >= ours => Verdict::Homa,
        false => Verdict::Other,
    };
    Some(Comparison {
        with,
        figure: figure.name,
        homa: ours,
        other: theirs,
        best: best.document.name.clone(),
        ratio: if verdict.has_ratio() { theirs / ours } else { f64::NAN },
        interval,
        rounds,
        samples,
        verdict,
        show: [homa, best].map(|one| figure.kind.show(run.is_own_reference(one))),
        needed: figure.drawn.needed,
    })
}

/// How far chance moves the ratio to the best of the others, which may be another one in each draw.
fn interval(homa: &Measured, others: &[&Measured], figure: &Figure) -> Option<Interval> {
    let of = |transport: &Measured, draw: usize| {
        let draws = (figure.drawn.draws)(&transport.figures.draws);
        draws.get(draw).copied().unwrap_or(f64::NAN)
    };
    let ratio = |draw: usize| {
        let best = others.iter().map(|other| of(other, draw)).fold(f64::NAN, f64::min);
        best / of(homa, draw)
    };
    let draws = (figure.drawn.draws)(&homa.figures.draws).len();
    Interval::of(&(0..draws).map(ratio).collect::<Vec<_>>())
}

/// The ratio to the best of the others in each round: the lowest and the highest.
fn range_of_rounds(
    homa: &Measured,
    others: &[&Measured],
    of: Of<RoundFigures>,
) -> Option<(f64, f64)> {
    let rounds = &homa.figures.rounds;
    let ratios = rounds.iter().enumerate().filter_map(|(index, ours)| {
        let theirs = others.iter().filter_map(|other| other.figures.rounds.get(index)).map(of);
        theirs.reduce(f64::min).map(|best| best / of(ours))
    });
    let ratios: Vec<f64> = ratios.filter(|ratio| ratio.is_finite()).collect();
    let low = ratios.iter().copied().reduce(f64::min)?;
    let high = ratios.iter().copied().reduce(f64::max)?;
    (ratios.len() > 1).then_some((low, high))
}

/// What was carried of the offered load: here more is better.
fn carried(
    run: &Run,
    homa: &Measured,
    (with, others): (&'static str, &[&Measured]),
) -> Option<Comparison> {
    let value = |transport: &Measured| transport.document.summary.carried();
    // Of what is no number nothing is better.
    let rank = |transport: &Measured| Some(value(transport)).filter(|share| !share.is_nan());
    let best =
        *others.iter().max_by(|a, b| rank(a).partial_cmp(&rank(b)).unwrap_or(Ordering::Equal))?;
    let (ours, theirs) = (value(homa), value(best));
    // Payload of RPCs under way at the ends of the window makes a per cent or so.
    let resolution = run.document.rate_resolution().unwrap_or(0.0).max(0.01);
    let verdict = match (ours - theirs).abs() < resolution {
        _ if ours.is_nan() || theirs.is_nan() => Verdict::TooFew,
        true => Verdict::Unresolved,
        false if ours > theirs => Verdict::Homa,
        false => Verdict::Other,
    };
    let rpcs = |transport: &Measured| transport.document.summary.rpcs;
    Some(Comparison {
        with,
        figure: CARRIED,
        homa: ours,
        other: theirs,
        best: best.document.name.clone(),
        ratio: if verdict.has_ratio() { ours / theirs } else { f64::NAN },
        interval: None,
        rounds: None,
        samples: rpcs(homa).min(rpcs(best)),
        verdict,
        show: [percent; 2],
        needed: SAMPLES_MIN,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_protocol_is_compared_with_its_own_best_variant() {
        let directory = tempfile::tempdir().unwrap();
        let transport = |name: &str, p99_us: f64| serde_json::json!({ "name": name, "summary": { "rpcs": 100, "short": { "count": 100, "p99_us": p99_us } } });
        let document = serde_json::json!({ "schema": 1, "plan": {}, "transports": [
            transport("homa-udp", 10.0), transport("tcp-cubic", 500.0), transport("tcp-bbr", 300.0),
            transport("quic", 400.0), transport("quic-x4", 200.0),
        ] });
        std::fs::write(directory.path().join("run.json"), document.to_string()).unwrap();
        let columns = "transport,round,client,server,size_bytes,start_ns,latency_ns,status\n";
        std::fs::write(directory.path().join("rpcs.csv"), columns).unwrap();
        let run = Run::read(directory.path()).unwrap();
        let best = FAMILIES.map(|family| {
            let all = comparisons(&run, family);
            let (_, found) = all.first()?;
            let p99 = found.iter().find(|found| found.figure == "short messages, P99")?;
            Some((p99.best.clone(), p99.ratio))
        });
        let expected =
            [Some(("tcp-bbr".to_owned(), 30.0)), Some(("quic-x4".to_owned(), 20.0)), None];
        assert_eq!(best, expected);
    }
}
