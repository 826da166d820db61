//! From RPCs to curves. The metrics are those of the published evaluations, as `homa bench cluster`
//! defines them.

use std::collections::BTreeMap;

use crate::{
    stats::{
        Blocked, Bootstrap, interpolate, mean, percentile, samples_for_interval, samples_needed,
    },
    summary::{P99_AVERAGE_MIN, Summary},
};

/// Points of a slowdown curve at most, and RPCs that a point needs: a P99 of fewer says little.
const POINTS_MAX: usize = 50;
const RPCS_PER_POINT: usize = 200;

/// Points that are cut if they then have enough for a P99, as the published tables do.
const POINTS_MIN: usize = 10;

/// Parts of the messages, by size, of which the P99 average takes the slowest.
const DECILES: usize = 10;

/// Points of a distribution's tail.
const TAIL_POINTS: usize = 160;

/// An RPC that counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rpc {
    /// Bytes of the request.
    pub size_bytes: u64,
    /// From the intended begin to the end, in nanoseconds.
    pub latency_ns: u64,
    /// Round, from 0.
    pub round: u32,
    /// Block of time for [`Bootstrap`].
    pub block: u32,
}

/// Slowdown of a range of sizes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Bucket {
    /// Middle of the range: share of all messages that are shorter.
    pub share: f64,
    /// Shortest and longest message, in bytes.
    pub sizes_bytes: (u64, u64),
    /// Median of the slowdown.
    pub p50: f64,
    /// Its 99th percentile.
    pub p99: f64,
}

/// Times of the short messages of one round, and the mean slowdown of all of its messages.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct RoundFigures {
    /// Median of short messages, in microseconds.
    pub short_p50_us: f64,
    /// Their 99th percentile.
    pub short_p99_us: f64,
    /// Mean slowdown of all messages.
    pub average: f64,
}

/// What draws of a bootstrap gave for each figure; see [`Bootstrap`].
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Draws {
    /// Median of short messages, in microseconds.
    pub short_p50_us: Vec<f64>,
    /// Their 99th percentile.
    pub short_p99_us: Vec<f64>,
    /// Their 99.9th percentile.
    pub short_p999_us: Vec<f64>,
    /// Mean slowdown of all messages.
    pub average: Vec<f64>,
    /// Mean over ten classes of sizes of the mean slowdown of their slowest 1 %.
    pub p99_average: Vec<f64>,
}

/// A figure of a transport's RPCs, and what says how far chance moves it.
#[derive(Clone, Copy)]
pub(crate) struct Drawn {
    /// The figure.
    pub of: fn(&Summary) -> f64,
    /// What draws gave for it.
    pub draws: fn(&Draws) -> &[f64],
    /// RPCs that it is of.
    pub samples: fn(&Summary) -> u64,
    /// How many it takes for an interval.
    pub needed: u64,
}

impl Drawn {
    pub(crate) const SHORT_P50: Drawn =
        Drawn::short(|all| all.short.p50_us, |draws| &draws.short_p50_us, 0.5);
    pub(crate) const SHORT_P99: Drawn =
        Drawn::short(|all| all.short.p99_us, |draws| &draws.short_p99_us, 0.99);
    pub(crate) const SHORT_P999: Drawn =
        Drawn::short(|all| all.short.p999_us, |draws| &draws.short_p999_us, 0.999);
    pub(crate) const AVERAGE: Drawn = Drawn {
        of: |all| all.slowdown().average,
        draws: |draws| &draws.average,
        samples: |all| all.rpcs,
        needed: samples_for_interval(0.5),
    };
    pub(crate) const P99_AVERAGE: Drawn = Drawn {
        of: |all| all.slowdown().p99_average,
        draws: |draws| &draws.p99_average,
        samples: |all| all.rpcs,
        needed: P99_AVERAGE_MIN,
    };

    /// A percentile of the short messages.
    const fn short(of: fn(&Summary) -> f64, draws: fn(&Draws) -> &[f64], share: f64) -> Self {
        Drawn { of, draws, samples: |all| all.short.count, needed: samples_for_interval(share) }
    }
}

/// Curves of one transport.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Figures {
    /// Slowdown by size, short messages first.
    pub slowdown: Vec<Bucket>,
    /// Short messages: time in microseconds, and share of them that took at least that long.
    pub tail: Vec<(f64, f64)>,
    /// The same figures round by round: how well they repeat.
    pub rounds: Vec<RoundFigures>,
    /// Sizes at 0, 10, ... 100 % of the messages.
    pub deciles_bytes: Vec<u64>,
    /// How far chance moves the figures.
    pub draws: Draws,
}

/// Unloaded times that slowdowns are relative to, by size in bytes; microseconds.
type Reference<'a> = &'a [(u64, f64)];

/// Computes the curves; RPCs are of so many `blocks`.
pub(crate) fn figures(
    mut rpcs: Vec<Rpc>,
    reference: Reference<'_>,
    (bootstrap, blocks): (&Bootstrap, usize),
) -> Figures {
    rpcs.sort_by_key(|rpc| rpc.size_bytes);
    let Some(last) = rpcs.len().checked_sub(1) else { return Figures::default() };
    let boundary = rpcs[rpcs.len() / 10].size_bytes;
    let short = rpcs.partition_point(|rpc| rpc.size_bytes <= boundary);
    let at = |part: usize| rpcs[(rpcs.len() * part / 10).min(last)].size_bytes;
    Figures {
        slowdown: slowdown(&rpcs, reference),
        tail: tail(&rpcs[..short]),
        rounds: rounds(&rpcs, boundary, reference),
        deciles_bytes: (0..=10).map(at).collect(),
        draws: draws(&rpcs, short, reference, (bootstrap, blocks)),
    }
}

/// The figures of each draw; the first `short` RPCs are short messages.
fn draws(
    rpcs: &[Rpc],
    short: usize,
    reference: Reference<'_>,
    (bootstrap, blocks): (&Bootstrap, usize),
) -> Draws {
    let times = rpcs[..short].iter().map(|rpc| (rpc.latency_ns as f64 / 1e3, rpc.block));
    let times = Blocked::new(times, blocks);
    let slowdowns = |rpcs: &[Rpc]| {
        let values = rpcs.iter().map(|rpc| (slowdown_of(rpc, reference), rpc.block));
        Blocked::new(values, blocks)
    };
    let at = |part: usize| rpcs.len() * part / DECILES;
    let deciles: Vec<Blocked> =
        (0..DECILES).map(|part| slowdowns(&rpcs[at(part)..at(part + 1)])).collect();
    let all = slowdowns(rpcs);
    Draws {
        short_p50_us: bootstrap.each(|weights| times.quantile(weights, 0.5)),
        short_p99_us: bootstrap.each(|weights| times.quantile(weights, 0.99)),
        short_p999_us: bootstrap.each(|weights| times.quantile(weights, 0.999)),
        average: bootstrap.each(|weights| all.mean(weights)),
        p99_average: bootstrap.each(|weights| {
            let worst = deciles.iter().map(|decile| decile.mean_of_largest(weights, 0.01));
            mean(&worst.collect::<Vec<_>>())
        }),
    }
}

fn slowdown_of(rpc: &Rpc, reference: Reference<'_>) -> f64 {
    let unloaded_us = interpolate(reference, rpc.size_bytes).unwrap_or(0.0).max(0.001);
    rpc.latency_ns as f64 / 1e3 / unloaded_us
}

/// Cuts RPCs, sorted by size, into ranges of about equally many messages; messages of one size stay
/// together.
fn slowdown(rpcs: &[Rpc], reference: Reference<'_>) -> Vec<Bucket> {
    let most = rpcs.len() / samples_needed(0.99) as usize;
    let points = (rpcs.len() / RPCS_PER_POINT).clamp(POINTS_MIN.min(most).max(1), POINTS_MAX);
    let mut buckets = Vec::new();
    let mut start = 0;
    while let Some(first) = rpcs.get(start) {
        // The end that the share of the whole asks for, so that long runs of one size do not shift
        // all others.
        let boundary = |part: usize| part * rpcs.len() / points;
        let part = start * points / rpcs.len() + 1;
        // A rest of a part is too little for percentiles: it goes with the next part.
        let whole = boundary(part) >= start + (rpcs.len() / points).div_ceil(2);
        let wanted = boundary(if whole { part } else { part + 1 }).clamp(start + 1, rpcs.len());
        let longest = rpcs[wanted - 1].size_bytes;
        let end = wanted + rpcs[wanted..].partition_point(|rpc| rpc.size_bytes <= longest);
        let mut values: Vec<f64> =
            rpcs[start..end].iter().map(|rpc| slowdown_of(rpc, reference)).collect();
        values.sort_unstable_by(f64::total_cmp);
        buckets.push(Bucket {
            share: (start + end) as f64 / 2.0 / rpcs.len() as f64,
            sizes_bytes: (first.size_bytes, longest),
            p50: percentile(&values, 0.5).unwrap_or(f64::NAN),
            p99: percentile(&values, 0.99).unwrap_or(f64::NAN),
        });
        start = end;
    }
    buckets
}

/// The distribution's tail, points evenly spaced on a logarithmic axis.
fn tail(short: &[Rpc]) -> Vec<(f64, f64)> {
    let mut times: Vec<u64> = short.iter().map(|rpc| rpc.latency_ns).collect();
    times.sort_unstable_by(|a, b| b.cmp(a));
    let count = times.len();
    let mut points: Vec<(f64, f64)> = Vec::new();
    let mut taken = usize::MAX;
    for step in 0..=TAIL_POINTS {
        // From all of them down to the slowest one.
        let slower = (count as f64).powf(1.0 - step as f64 / TAIL_POINTS as f64).round() as usize;
        if slower == 0 || slower > count || slower == taken {
            continue;
        }
        taken = slower;
        points.push((times[slower - 1] as f64 / 1e3, slower as f64 / count as f64));
    }
    points
}

fn rounds(rpcs: &[Rpc], boundary_bytes: u64, reference: Reference<'_>) -> Vec<RoundFigures> {
    #[derive(Default)]
    struct Round {
        short_ns: Vec<u64>,
        slowdowns: f64,
        count: u64,
    }
    let mut found: BTreeMap<u32, Round> = BTreeMap::new();
    for rpc in rpcs {
        let round = found.entry(rpc.round).or_default();
        round.slowdowns += slowdown_of(rpc, reference);
        round.count += 1;
        if rpc.size_bytes <= boundary_bytes {
            round.short_ns.push(rpc.latency_ns);
        }
    }
    let figures = |mut round: Round| {
        round.short_ns.sort_unstable();
        let us = |share| percentile(&round.short_ns, share).map_or(f64::NAN, |ns| ns as f64 / 1e3);
        RoundFigures {
            short_p50_us: us(0.5),
            short_p99_us: us(0.99),
            average: round.slowdowns / round.count as f64,
        }
    };
    found.into_values().map(figures).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rpc(size_bytes: u64, us: u64, round: u32) -> Rpc {
        Rpc { size_bytes, latency_ns: us * 1_000, round, block: round }
    }

    /// Curves of RPCs of up to two rounds, a block each.
    fn found(rpcs: Vec<Rpc>) -> Figures {
        figures(rpcs, &REFERENCE, (&Bootstrap::new(2, 1, 1_000_000), 2))
    }

    const REFERENCE: [(u64, f64); 2] = [(100, 10.0), (1_100, 20.0)];

    #[test]
    fn slowdowns_are_relative_to_unloaded_times_between_measured_sizes() {
        let rpcs = (0..1_000).map(|_| rpc(600, 30, 0)).collect();
        let found = found(rpcs);
        assert_eq!(found.slowdown.len(), 1, "messages of one size stay together");
        assert_eq!((found.slowdown[0].p50, found.slowdown[0].share), (2.0, 0.5));
        assert_eq!(
            found.rounds,
            [RoundFigures { short_p50_us: 30.0, short_p99_us: 30.0, average: 2.0 }]
        );
    }

    #[test]
    fn ranges_hold_equally_many_messages_and_cover_all() {
        let rpcs = (0..4_000).map(|size| rpc(size, 1, 0)).collect();
        let found = found(rpcs);
        assert_eq!(found.slowdown.len(), 20);
        assert_eq!(found.slowdown[0].sizes_bytes, (0, 199));
        assert_eq!(found.slowdown[19].sizes_bytes, (3_800, 3_999));
        assert_eq!(found.deciles_bytes[5], 2_000);
    }

    #[test]
    fn what_a_long_run_of_one_size_leaves_of_a_range_goes_with_the_next() {
        let sizes = (0..1_000).map(|index| if index < 199 { 1 } else { index });
        let found = found(sizes.map(|size| rpc(size, 1, 0)).collect());
        assert_eq!(found.slowdown[0].sizes_bytes, (1, 1));
        assert_eq!(found.slowdown[1].sizes_bytes, (199, 299));
        assert_eq!(found.slowdown.len(), 9);
    }

    #[test]
    fn the_tail_ends_at_the_slowest_message() {
        let rpcs = (1..=1_000).map(|us| rpc(1, us, 0)).collect();
        let found = found(rpcs);
        assert_eq!(found.tail.first(), Some(&(1.0, 1.0)));
        assert_eq!(found.tail.last(), Some(&(1_000.0, 0.001)));
        assert!(found.tail.is_sorted_by(|a, b| a.0 <= b.0 && a.1 >= b.1), "{:?}", found.tail);
    }

    #[test]
    fn rounds_are_told_apart() {
        let rpcs =
            (0..400).map(|index| rpc(1, 10 + 10 * u64::from(index % 2), index % 2)).collect();
        let found = found(rpcs);
        assert_eq!(found.rounds.len(), 2);
        assert_eq!((found.rounds[0].short_p99_us, found.rounds[1].short_p99_us), (10.0, 20.0));
        // Half of the draws have both rounds, the others one of them.
        let p99 = &found.draws.short_p99_us;
        assert!(p99.contains(&10.0) && p99.contains(&20.0), "{p99:?}");
        assert!(p99.iter().all(|us| [10.0, 20.0].contains(us)));
    }

    #[test]
    fn a_point_without_enough_messages_has_no_percentile() {
        let found = found((0..99).map(|us| rpc(us, us, 0)).collect());
        assert_eq!(found.slowdown.len(), 1);
        assert!(found.slowdown[0].p99.is_nan() && found.slowdown[0].p50.is_finite());
        assert!(found.rounds[0].short_p99_us.is_nan());
    }

    #[test]
    fn nothing_measured_gives_no_curves() {
        assert_eq!(found(Vec::new()), Figures::default());
    }
}
