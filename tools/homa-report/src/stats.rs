//! Percentiles, how many samples they need, and how far chance moves them.

use fastrand::Rng;

/// Samples below which nothing is said but how many there are.
pub const SAMPLES_MIN: u64 = 10;

/// Draws of a bootstrap at most and at least, and values that all draws together may look at.
const DRAWS_MAX: usize = 1_000;
const DRAWS_MIN: usize = 200;
const WORK_MAX: usize = 50_000_000;

/// Share of the draws that an interval leaves out at each end.
const TAIL: f64 = 0.025;

/// Samples that a percentile needs, so that one of them lies above it: 100 for P99, 1,000 for
/// P99.9, and never fewer than [`SAMPLES_MIN`]. This is the one rule of terminal, page and JSON.
pub const fn samples_needed(share: f64) -> u64 {
    // A little less, cut off, and one more: rounded up.
    let above = ((1.0 - 1e-9) / (1.0 - share.clamp(0.0, 0.999_999))) as u64 + 1;
    if above > SAMPLES_MIN { above } else { SAMPLES_MIN }
}

/// Samples that an interval of a percentile needs: with fewer than five above it, nothing bounds it
/// from above. The tests say how often intervals of so many hold the true value.
pub const fn samples_for_interval(share: f64) -> u64 {
    5 * samples_needed(share)
}

/// The value that this share of the sorted values does not exceed; `None` without values.
pub fn quantile<T: Copy>(sorted: &[T], share: f64) -> Option<T> {
    let rank = (sorted.len() as f64 * share).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied()
}

/// As [`quantile`], but only of as many values as [`samples_needed`] asks for.
pub fn percentile<T: Copy>(sorted: &[T], share: f64) -> Option<T> {
    (sorted.len() as u64 >= samples_needed(share)).then(|| quantile(sorted, share)).flatten()
}

/// The mean; NaN without values.
pub fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// The middle of sorted values, of an even number the mean of the middle two; none of an empty
/// list.
pub fn median(sorted: &[f64]) -> Option<f64> {
    let upper = sorted.get(sorted.len() / 2)?;
    let lower = sorted.get((sorted.len() - 1) / 2)?;
    Some((lower + upper) / 2.0)
}

/// What lies between measured points, in order, at `x`: on the line between the two next to it, and
/// beyond them as the nearest; none without points.
pub fn interpolate(points: &[(u64, f64)], x: u64) -> Option<f64> {
    let index = points.partition_point(|point| point.0 < x);
    match (index.checked_sub(1).and_then(|below| points.get(below)), points.get(index)) {
        (Some(low), Some(high)) => {
            let share = (x - low.0) as f64 / (high.0 - low.0) as f64;
            Some(low.1 + (high.1 - low.1) * share)
        }
        (None, Some(only)) | (Some(only), None) => Some(only.1),
        (None, None) => None,
    }
}

/// Between these, 95 % of what chance would have given instead.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Interval {
    /// The lower end.
    pub low: f64,
    /// The upper end.
    pub high: f64,
}

impl Interval {
    /// The middle 95 % of what the draws of a bootstrap gave. `None` if some had nothing to compute
    /// it from.
    pub fn of(draws: &[f64]) -> Option<Self> {
        let mut sorted: Vec<f64> =
            draws.iter().copied().filter(|value| value.is_finite()).collect();
        if sorted.is_empty() || (sorted.len() as f64) < draws.len() as f64 * (1.0 - TAIL) {
            return None;
        }
        sorted.sort_unstable_by(f64::total_cmp);
        Some(Interval { low: quantile(&sorted, TAIL)?, high: quantile(&sorted, 1.0 - TAIL)? })
    }

    /// Whether it holds this value.
    pub fn contains(&self, value: f64) -> bool {
        (self.low..=self.high).contains(&value)
    }
}

/// What a bootstrap draws: how often each block of a run counts. RPCs that are near each other in
/// time wait in the same queues, so blocks of time are drawn instead of RPCs; of several rounds
/// first the rounds, then blocks of them. The draws depend on nothing but their number, so that all
/// transports of a run, which are offered the same RPCs at the same times, are drawn alike, and a
/// repetition gives the same intervals.
#[derive(Debug, Clone)]
pub struct Bootstrap {
    draws: Vec<Vec<u32>>,
}

impl Bootstrap {
    /// Draws from `rounds` of `blocks` each. `values` is how many there are to look at in each
    /// draw: more of them are drawn less often.
    pub fn new(rounds: usize, blocks: usize, values: usize) -> Self {
        let count = (WORK_MAX / values.max(1)).clamp(DRAWS_MIN, DRAWS_MAX);
        let mut random = Rng::with_seed(0x486f_6d61);
        let draw = |_| {
            let mut weights = vec![0; rounds * blocks];
            for _ in 0..rounds {
                let round = random.usize(..rounds);
                for _ in 0..blocks {
                    weights[round * blocks + random.usize(..blocks)] += 1;
                }
            }
            weights
        };
        Bootstrap { draws: (0..count).map(draw).collect() }
    }

    /// A figure of each draw, from how often each block counts.
    pub fn each(&self, figure: impl Fn(&[u32]) -> f64) -> Vec<f64> {
        self.draws.iter().map(|weights| figure(weights)).collect()
    }
}

/// Values in falling order, each with the block it comes from.
#[derive(Debug, Clone, Default)]
pub struct Blocked {
    falling: Vec<(f64, u32)>,
    /// Values of each block, and their sum.
    blocks: Vec<(u64, f64)>,
}

impl Blocked {
    /// Values with the number of their block, below `blocks`, in any order.
    pub fn new(values: impl Iterator<Item = (f64, u32)>, blocks: usize) -> Self {
        let mut falling: Vec<(f64, u32)> =
            values.filter(|value| (value.1 as usize) < blocks).collect();
        falling.sort_unstable_by(|a, b| b.0.total_cmp(&a.0));
        let mut sums = vec![(0, 0.0); blocks];
        for (value, block) in &falling {
            let sum = &mut sums[*block as usize];
            *sum = (sum.0 + 1, sum.1 + value);
        }
        Blocked { falling, blocks: sums }
    }

    fn total(&self, weights: &[u32]) -> u64 {
        self.blocks.iter().zip(weights).map(|(block, weight)| block.0 * u64::from(*weight)).sum()
    }

    /// The value that this share does not exceed, if blocks count so often; NaN without values.
    pub fn quantile(&self, weights: &[u32], share: f64) -> f64 {
        let total = self.total(weights);
        let rank = ((total as f64 * share).ceil() as u64).max(1);
        let mut above = 0;
        for (value, block) in &self.falling {
            above += u64::from(weights[*block as usize]);
            if above > total - rank.min(total) && total > 0 {
                return *value;
            }
        }
        f64::NAN
    }

    /// The mean of the largest share, at least one value, if blocks count so often; NaN without
    /// values.
    pub fn mean_of_largest(&self, weights: &[u32], share: f64) -> f64 {
        let wanted = (self.total(weights) as f64 * share).ceil();
        let (mut sum, mut taken) = (0.0, 0.0);
        for (value, block) in &self.falling {
            let weight = f64::from(weights[*block as usize]).min(wanted - taken);
            sum += value * weight;
            taken += weight;
            if taken >= wanted {
                break;
            }
        }
        sum / taken
    }

    /// The mean, if blocks count so often; NaN without values.
    pub fn mean(&self, weights: &[u32]) -> f64 {
        let sums =
            self.blocks.iter().zip(weights).map(|(block, weight)| block.1 * f64::from(*weight));
        sums.sum::<f64>() / self.total(weights) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_a_value_that_so_many_do_not_exceed() {
        let values: Vec<u32> = (1..=1_000).collect();
        let found = [0.0, 0.5, 0.99, 0.999, 1.0].map(|share| quantile(&values, share));
        assert_eq!(found, [Some(1), Some(500), Some(990), Some(999), Some(1_000)]);
        assert_eq!(quantile::<u32>(&[], 0.5), None);
    }

    #[test]
    fn between_points_there_is_a_line_and_beyond_them_the_nearest() {
        let points = [(100, 10.0), (1_000, 19.0), (10_000, 100.0)];
        for (x, y) in [(1, 10.0), (100, 10.0), (550, 14.5), (1_000, 19.0), (50_000, 100.0)] {
            assert_eq!(interpolate(&points, x), Some(y), "{x}");
        }
        assert_eq!(interpolate(&[], 5), None);
    }

    #[test]
    fn medians_of_few_values_and_of_none() {
        assert_eq!(median(&[1.0, 2.0, 3.0]), Some(2.0));
        assert_eq!(median(&[1.0, 2.0, 3.0, 4.0]), Some(2.5));
        assert_eq!((median(&[7.0]), median(&[])), (Some(7.0), None));
    }

    #[test]
    fn a_percentile_needs_a_sample_above_it() {
        let needed = [0.5, 0.9, 0.99, 0.999, 0.9999].map(samples_needed);
        assert_eq!(needed, [10, 10, 100, 1_000, 10_000]);
        let sorted: Vec<u32> = (1..=100).collect();
        assert_eq!(percentile(&sorted, 0.99), Some(99));
        assert_eq!(percentile(&sorted[..99], 0.99), None);
        assert_eq!(percentile(&sorted[..9], 0.5), None);
        assert_eq!(quantile(&sorted[..9], 0.5), Some(5));
    }

    #[test]
    fn figures_of_a_draw_in_which_each_block_counts_once_are_those_of_the_values() {
        let mut random = Rng::with_seed(7);
        for count in [1, 2, 9, 100, 1_001] {
            let values: Vec<(f64, u32)> =
                (0..count).map(|_| (random.f64(), random.u32(..20))).collect();
            let mut sorted: Vec<f64> = values.iter().map(|value| value.0).collect();
            sorted.sort_unstable_by(f64::total_cmp);
            let blocked = Blocked::new(values.into_iter(), 20);
            for share in [0.5, 0.99, 0.999] {
                assert_eq!(Some(blocked.quantile(&[1; 20], share)), quantile(&sorted, share));
                assert_eq!(Some(blocked.quantile(&[3; 20], share)), quantile(&sorted, share));
            }
            assert!((blocked.mean(&[1; 20]) - mean(&sorted)).abs() < 1e-9);
            assert_eq!(blocked.mean_of_largest(&[1; 20], 1e-9), sorted[sorted.len() - 1]);
        }
        assert!(Blocked::default().quantile(&[], 0.5).is_nan());
    }

    #[test]
    fn the_same_run_has_the_same_intervals() {
        let draws = || Bootstrap::new(3, 20, 1_000).draws;
        assert_eq!(draws(), draws());
        assert!(draws().iter().all(|weights| weights.iter().sum::<u32>() == 60));
        assert_eq!(Bootstrap::new(1, 20, usize::MAX).draws.len(), DRAWS_MIN);
    }

    /// How many of 100 experiments have the true value in their interval: times are exponential,
    /// and a few in a row share a wait, as RPCs behind one long message do.
    fn coverage(count: usize, rounds: usize, share: f64, truth: f64) -> usize {
        let mut random = Rng::with_seed(3);
        let mut exponential = || -(1.0 - random.f64()).ln();
        let covers = |_| {
            let blocks = 20;
            let mut wait = 0.0;
            let values: Vec<(f64, u32)> = (0..count)
                .map(|index| {
                    if index % 3 == 0 {
                        wait = exponential();
                    }
                    (wait, (index * rounds * blocks / count) as u32)
                })
                .collect();
            let blocked = Blocked::new(values.into_iter(), rounds * blocks);
            let draws = Bootstrap::new(rounds, blocks, 250_000);
            let found = Interval::of(&draws.each(|weights| blocked.quantile(weights, share)));
            found.is_some_and(|interval| interval.contains(truth))
        };
        (0..100).map(covers).filter(|covered| *covered).count()
    }

    #[test]
    fn intervals_hold_the_true_value_about_as_often_as_they_say() {
        for (count, rounds) in [(150, 1), (1_200, 1), (1_200, 2)] {
            let median = coverage(count, rounds, 0.5, 2_f64.ln());
            assert!(median >= 88, "P50 of {count} in {rounds}: {median} of 100");
        }
        // As many independent times as an interval needs, and four times as many.
        for (count, rounds) in [(1_500, 1), (1_500, 2), (6_000, 2)] {
            let p99 = coverage(count, rounds, 0.99, 100_f64.ln());
            assert!(p99 >= 85, "P99 of {count} in {rounds}: {p99} of 100");
        }
    }

    #[test]
    fn an_interval_needs_draws_that_have_values() {
        assert_eq!(Interval::of(&[]), None);
        assert_eq!(Interval::of(&[f64::NAN, 1.0]), None);
        assert_eq!(Interval::of(&[2.0; 50]), Some(Interval { low: 2.0, high: 2.0 }));
    }
}
