//! Samples of queues and throughput over time, all rounds together.

use std::collections::{BTreeMap, HashMap};

/// Priority levels of the switch.
pub(crate) const LEVELS: usize = 8;

/// Looks at the network that are kept per transport, of all rounds together; later ones are left
/// out.
const MOMENTS_MAX: usize = 200_000;

/// Points of a curve over time.
const POINTS_MAX: usize = 160;

/// One point of queues over time, the mean of all ports and rounds.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct QueuePoint {
    /// Seconds after the begin of the load.
    pub time_s: f64,
    /// Mean length of a port's queue by level, in bytes.
    pub level_bytes: [f64; LEVELS],
}

/// One point of throughput over time.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct RatePoint {
    /// Seconds after the begin of the load.
    pub time_s: f64,
    /// Mean of all hosts, in 10^6 bit/s.
    pub mean_mbps: f64,
}

/// Gathers samples of `N` quantities; looks of different rounds at about the same time become one
/// point.
#[derive(Debug, Clone, Default)]
pub(crate) struct Gather<const N: usize> {
    /// In the order of the file.
    moments: Vec<Moment<N>>,
}

/// One look at the network: values of all ports together.
#[derive(Debug, Clone, Copy)]
struct Moment<const N: usize> {
    round: u32,
    time_ns: u64,
    sums: [f64; N],
    counts: [u32; N],
}

impl<const N: usize> Gather<N> {
    /// Takes a sample of one quantity; those of one look follow each other.
    pub(crate) fn take(&mut self, round: u32, time_ns: u64, quantity: usize, value: f64) {
        if quantity >= N || !value.is_finite() {
            return;
        }
        let new =
            self.moments.last().is_none_or(|last| (last.round, last.time_ns) != (round, time_ns));
        if new && self.moments.len() >= MOMENTS_MAX {
            return;
        }
        if new {
            self.moments.push(Moment { round, time_ns, sums: [0.0; N], counts: [0; N] });
        }
        if let Some(moment) = self.moments.last_mut() {
            moment.sums[quantity] += value;
            moment.counts[quantity] += 1;
        }
    }

    /// Time in seconds and means: points as far apart as the looks of a round, or as a plot can
    /// show.
    fn points(&self) -> Vec<(f64, [f64; N])> {
        let end_ns = self.moments.iter().map(|moment| moment.time_ns).max().unwrap_or(0);
        let mut looks: HashMap<u32, usize> = HashMap::new();
        self.moments.iter().for_each(|moment| *looks.entry(moment.round).or_default() += 1);
        let most = looks.into_values().max().unwrap_or(0).clamp(2, POINTS_MAX);
        let width_ns = (end_ns as f64 / (most - 1) as f64).max(1.0);
        let mut bins: BTreeMap<u64, Vec<&Moment<N>>> = BTreeMap::new();
        for moment in &self.moments {
            // To the nearest, so that a look that is a little early or late stays with its like.
            let bin = (moment.time_ns as f64 / width_ns).round() as u64;
            bins.entry(bin).or_default().push(moment);
        }
        bins.into_values().map(|moments| mean(&moments)).collect()
    }
}

fn mean<const N: usize>(moments: &[&Moment<N>]) -> (f64, [f64; N]) {
    let time_ns: f64 = moments.iter().map(|moment| moment.time_ns as f64).sum();
    let of = |quantity: usize| {
        let sum: f64 = moments.iter().map(|moment| moment.sums[quantity]).sum();
        let count: f64 = moments.iter().map(|moment| f64::from(moment.counts[quantity])).sum();
        sum / count.max(1.0)
    };
    (time_ns / 1e9 / moments.len() as f64, std::array::from_fn(of))
}

impl Gather<LEVELS> {
    /// Queues over time.
    pub(crate) fn queues(&self) -> Vec<QueuePoint> {
        self.points()
            .into_iter()
            .map(|(time_s, level_bytes)| QueuePoint { time_s, level_bytes })
            .collect()
    }
}

impl Gather<1> {
    /// Throughput over time, from samples in bit/s.
    pub(crate) fn rates(&self) -> Vec<RatePoint> {
        self.points()
            .into_iter()
            .map(|(time_s, [bps])| RatePoint { time_s, mean_mbps: bps / 1e6 })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_moment_of_all_rounds_and_ports_is_one_point() {
        let mut gather = Gather::<LEVELS>::default();
        for (round, late_ns) in [(0, 0), (1, 2_000_000)] {
            for moment in 0..3_u64 {
                for port in 0..2_u64 {
                    let value = (moment * 100 + port * 10) as f64;
                    gather.take(round, moment * 500_000_000 + late_ns, 3, value);
                }
            }
        }
        let points = gather.queues();
        assert_eq!(points.len(), 3);
        assert_eq!(points[2].level_bytes[3], 205.0);
        assert!((points[2].time_s - 1.001).abs() < 1e-9, "{points:?}");
    }

    #[test]
    fn looks_that_one_round_missed_do_not_shift_the_others() {
        let mut gather = Gather::<1>::default();
        for (round, moments) in [(0, &[0, 1, 2, 3, 4][..]), (1, &[0, 4][..])] {
            for moment in moments {
                gather.take(round, moment * 500_000_000, 0, *moment as f64 * 1e6);
            }
        }
        let rates: Vec<f64> = gather.rates().iter().map(|point| point.mean_mbps).collect();
        assert_eq!(rates, [0.0, 1.0, 2.0, 3.0, 4.0]);
    }

    #[test]
    fn many_samples_are_thinned_out_and_memory_is_bounded() {
        let mut gather = Gather::<1>::default();
        (0..400_000_u64).for_each(|index| gather.take(0, index, 0, 8e6));
        assert_eq!(gather.moments.len(), MOMENTS_MAX);
        let points = gather.rates();
        assert!(points.len() <= POINTS_MAX && points.iter().all(|point| point.mean_mbps == 8.0));
    }
}
