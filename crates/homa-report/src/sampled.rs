//! Samples of queues and throughput over time: the same moment of all rounds together.

use std::collections::HashMap;

/// Priority levels of the switch.
pub(crate) const LEVELS: usize = 8;

/// Moments per round that are kept; later ones are left out.
const MOMENTS_MAX: usize = 200_000;

/// Points of a curve over time.
const POINTS_MAX: usize = 240;

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

/// Gathers samples: those of the same index in their round belong together.
#[derive(Debug, Clone, Default)]
pub(crate) struct Gather<const N: usize> {
    moments: Vec<Moment<N>>,
    /// By round: time of its last sample and how many times there were.
    rounds: HashMap<u32, (u64, usize)>,
}

#[derive(Debug, Clone, Copy)]
struct Moment<const N: usize> {
    time_s: f64,
    times: u32,
    sums: [f64; N],
    counts: [u32; N],
}

impl<const N: usize> Gather<N> {
    /// Takes a sample of one of `N` quantities; samples of a round come in order of time.
    pub(crate) fn take(&mut self, round: u32, time_ns: u64, quantity: usize, value: f64) {
        // A round per file's word: no more of them than any plan has.
        if self.rounds.len() >= 1_000 && !self.rounds.contains_key(&round) {
            return;
        }
        let next = self.rounds.entry(round).or_insert((time_ns, 0));
        if next.0 != time_ns {
            *next = (time_ns, next.1 + 1);
        }
        let index = next.1;
        if index >= MOMENTS_MAX || quantity >= N || !value.is_finite() {
            return;
        }
        while self.moments.len() <= index {
            self.moments.push(Moment { time_s: 0.0, times: 0, sums: [0.0; N], counts: [0; N] });
        }
        let moment = &mut self.moments[index];
        moment.time_s += time_ns as f64 / 1e9;
        moment.times += 1;
        moment.sums[quantity] += value;
        moment.counts[quantity] += 1;
    }

    /// Time in seconds and means, thinned out to what a plot can show by averaging neighbours.
    fn points(&self) -> impl Iterator<Item = (f64, [f64; N])> {
        let together = self.moments.len().div_ceil(POINTS_MAX).max(1);
        self.moments.chunks(together).map(|chunk| {
            let sum = |of: &dyn Fn(&Moment<N>) -> f64| chunk.iter().map(of).sum::<f64>();
            let mean = |quantity: usize| {
                let count = sum(&|moment| f64::from(moment.counts[quantity]));
                sum(&|moment| moment.sums[quantity]) / count.max(1.0)
            };
            let times = sum(&|moment| f64::from(moment.times));
            (sum(&|moment| moment.time_s) / times.max(1.0), std::array::from_fn(mean))
        })
    }
}

impl Gather<LEVELS> {
    /// Queues over time.
    pub(crate) fn queues(&self) -> Vec<QueuePoint> {
        self.points().map(|(time_s, level_bytes)| QueuePoint { time_s, level_bytes }).collect()
    }
}

impl Gather<1> {
    /// Throughput over time, from samples in bit/s.
    pub(crate) fn rates(&self) -> Vec<RatePoint> {
        self.points().map(|(time_s, [bps])| RatePoint { time_s, mean_mbps: bps / 1e6 }).collect()
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
    fn many_samples_are_thinned_out_and_no_round_number_grows_memory() {
        let mut gather = Gather::<1>::default();
        (0..100_000_u64).for_each(|index| gather.take(0, index, 0, 8e6));
        let points = gather.rates();
        assert!(points.len() <= POINTS_MAX && points.iter().all(|point| point.mean_mbps == 8.0));
        (0..100_000_u32).for_each(|round| gather.take(round, 0, 0, 1.0));
        assert!(gather.rounds.len() <= 1_000);
    }
}
