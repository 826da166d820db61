//! Homa against the best variant of TCP, of QUIC and of gRPC, and how far each difference can be trusted.

use crate::{
    document::Summary,
    figures::RoundFigures,
    format::{number, percent, time_us},
    run::{Measured, Run},
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

/// A figure of both, and their ratio.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Comparison {
    /// What is compared.
    pub figure: &'static str,
    /// Homa's value, in words.
    pub homa: String,
    /// The best value of a variant of the other, in words.
    pub other: String,
    /// Which variant that is.
    pub best: String,
    /// So many times Homa is better; below 1: worse.
    pub ratio: f64,
    /// The lowest and highest ratio of a single round, if there are several.
    pub rounds: Option<(f64, f64)>,
    /// What to think of it.
    pub verdict: Verdict,
}

/// How far a difference can be trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Smaller than what the network tells apart.
    Unresolved,
    /// Some rounds say one thing, some the other.
    RoundsDisagree,
    /// Homa is better.
    Homa,
    /// The other is better.
    Other,
}

/// Takes a figure out of the results.
type Of<T> = fn(&T) -> f64;

/// A figure that is compared: lower is better.
struct Figure {
    name: &'static str,
    of: Of<Summary>,
    of_round: Option<Of<RoundFigures>>,
    show: fn(f64) -> String,
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

impl Figure {
    const fn new(
        name: &'static str,
        kind: Kind,
        of: Of<Summary>,
        of_round: Option<Of<RoundFigures>>,
    ) -> Self {
        let show = match kind {
            Kind::Median | Kind::Tail => time_us,
            Kind::Mean | Kind::Slowest => number,
        };
        Figure { name, of, of_round, show, kind }
    }

    /// Differences below this are the machine's: what the idle network tells apart, for tails no less than programs
    /// waited to run while the load was on.
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

const FIGURES: [Figure; 5] = [
    Figure::new(
        "short messages, P99",
        Kind::Tail,
        |all| all.short.p99_us,
        Some(|round| round.short_p99_us),
    ),
    Figure::new(
        "short messages, P50",
        Kind::Median,
        |all| all.short.p50_us,
        Some(|round| round.short_p50_us),
    ),
    Figure::new("short messages, P99.9", Kind::Tail, |all| all.short.p999_us, None),
    Figure::new(
        "average slowdown",
        Kind::Mean,
        |all| all.slowdown().average,
        Some(|round| round.average),
    ),
    Figure::new("P99 average", Kind::Slowest, |all| all.slowdown().p99_average, None),
];

/// Compares each Homa transport with the best of others; by name of the Homa transport. Empty if one of them has no result.
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
            let mut all: Vec<Comparison> =
                FIGURES.iter().filter_map(|figure| compare(run, homa, &others, figure)).collect();
            all.extend(carried(run, homa, &others));
            (homa.document.name.as_str(), all)
        })
        .collect()
}

fn compare(
    run: &Run,
    homa: &Measured,
    others: &[&Measured],
    figure: &Figure,
) -> Option<Comparison> {
    let value = |transport: &Measured| (figure.of)(&transport.document.summary);
    let best = *others.iter().min_by(|a, b| value(a).total_cmp(&value(b)))?;
    let (ours, theirs) = (value(homa), value(best));
    let rounds = figure.of_round.and_then(|of| range_of_rounds(homa, others, of));
    let resolution = figure.resolution(run, &homa.document.summary, &best.document.summary);
    let verdict = match rounds {
        _ if resolution.is_some_and(|least| (ours - theirs).abs() < least) => Verdict::Unresolved,
        Some((low, high)) if low < 1.0 && high > 1.0 => Verdict::RoundsDisagree,
        _ if theirs >= ours => Verdict::Homa,
        _ => Verdict::Other,
    };
    Some(Comparison {
        figure: figure.name,
        homa: (figure.show)(ours),
        other: (figure.show)(theirs),
        best: best.document.name.clone(),
        ratio: theirs / ours,
        rounds,
        verdict,
    })
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
fn carried(run: &Run, homa: &Measured, others: &[&Measured]) -> Option<Comparison> {
    let value = |transport: &Measured| transport.document.summary.carried();
    let best = *others.iter().max_by(|a, b| value(a).total_cmp(&value(b)))?;
    let (ours, theirs) = (value(homa), value(best));
    // Payload of RPCs under way at the ends of the window makes a per cent or so.
    let resolution = run.document.rate_resolution().unwrap_or(0.0).max(0.01);
    let verdict = match (ours - theirs).abs() < resolution {
        true => Verdict::Unresolved,
        false if ours > theirs => Verdict::Homa,
        false => Verdict::Other,
    };
    Some(Comparison {
        figure: CARRIED,
        homa: percent(ours),
        other: percent(theirs),
        best: best.document.name.clone(),
        ratio: ours / theirs,
        rounds: None,
        verdict,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_protocol_is_compared_with_its_own_best_variant() {
        let directory = tempfile::tempdir().unwrap();
        let transport = |name: &str, p99_us: f64| serde_json::json!({ "name": name, "summary": { "rpcs": 1, "short": { "p99_us": p99_us } } });
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
