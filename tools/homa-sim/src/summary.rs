//! What a run shows: slowdown by size, as published evaluations report it.

use std::ops::Range;

use crate::{
    event::MessageId,
    packet::PacketSize,
    transport::Protocol,
    world::{Message, World},
};

/// A message that counts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    /// Its length; of a call that of request and response.
    pub bytes: u32,
    /// Its place among the messages.
    pub index: u32,
    /// Its time, in times of what it takes on the idle network.
    pub slowdown: f64,
}

/// Messages that count, shortest first, and how many of them have not arrived.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Samples {
    samples: Vec<Sample>,
    /// Messages without an end.
    pub unfinished: usize,
}

impl Samples {
    /// Those of the messages `counted`, in the order of their begin; responses are not among those
    /// that are counted. A call is as long as both its messages, and so is its time.
    pub fn of<P: Protocol>(world: &World<P>, size: &PacketSize, counted: Range<usize>) -> Self {
        let topology = world.topology();
        let message = |id: MessageId| world.messages()[id.0 as usize];
        let idle_ps = |message: Message| {
            topology.idle_time(message.from, message.to, message.bytes, size).as_ps()
        };
        let sample = |first: MessageId, last: MessageId| {
            let (begun, ended) = (message(first).begun, message(last).ended);
            let messages = [first, last].into_iter().take(if first == last { 1 } else { 2 });
            let (mut bytes, mut idle) = (0_u32, 0);
            for message in messages.map(message) {
                bytes = bytes.saturating_add(message.bytes);
                idle += idle_ps(message);
            }
            let slowdown = ended.since(begun).as_ps() as f64 / idle as f64;
            Sample { bytes, index: first.0, slowdown }
        };
        let mut samples = Vec::new();
        let mut unfinished = 0;
        for (first, last) in world.exchanges(counted) {
            match last.filter(|last| message(*last).is_over()) {
                Some(last) => samples.push(sample(first, last)),
                None => unfinished += 1,
            }
        }
        samples.sort_by_key(|sample| sample.bytes);
        Self { samples, unfinished }
    }

    /// Those of lengths above `over` and up to `upto` bytes.
    pub fn between(&self, over: u32, upto: u32) -> &[Sample] {
        let begin = self.samples.partition_point(|sample| sample.bytes <= over);
        let end = self.samples.partition_point(|sample| sample.bytes <= upto);
        &self.samples[begin..end.max(begin)]
    }

    /// The slowest messages of at most `bytes`, the slowest first.
    pub fn slowest(&self, bytes: u32, count: usize) -> Vec<Sample> {
        let mut found = self.between(0, bytes).to_vec();
        found.sort_by(|a, b| b.slowdown.total_cmp(&a.slowdown));
        found.truncate(count);
        found
    }

    /// All of them.
    pub fn all(&self) -> &[Sample] {
        &self.samples
    }
}

/// Percentiles of the slowdown, each the smallest value that this fraction does not exceed;
/// `None` without samples.
pub fn percentiles<const N: usize>(samples: &[Sample], fractions: [f64; N]) -> Option<[f64; N]> {
    let values = sorted(samples);
    let last = values.len().checked_sub(1)?;
    Some(fractions.map(|fraction| values[rank(fraction, values.len()).saturating_sub(1).min(last)]))
}

/// Percentiles of the slowdown that a host with `each` of these messages has, in the mean over such
/// hosts. A high percentile of few messages is lower than that of all: the 99th of ten is the
/// largest, which is below the 99th of all on nine of ten hosts. `None` without samples.
pub fn percentiles_of_hosts<const N: usize>(
    samples: &[Sample],
    each: usize,
    fractions: [f64; N],
) -> Option<[f64; N]> {
    if each > EACH_MAX {
        return percentiles(samples, fractions);
    }
    let values = sorted(samples);
    let (count, each) = (values.len().max(1) as f64, each.max(1));
    let mean = |fraction: f64| {
        let rank = rank(fraction, each).max(1);
        // A host's value of this rank is at most `value` if at least `rank` of its values are.
        let mut before = 0.0;
        let part = |(index, value): (usize, &f64)| {
            let upto = at_least(rank, each, (index + 1) as f64 / count);
            value * (upto - std::mem::replace(&mut before, upto))
        };
        values.iter().enumerate().map(part).sum()
    };
    (!values.is_empty()).then(|| fractions.map(mean))
}

/// Messages of a host up to which its percentiles differ from those of all.
const EACH_MAX: usize = 500;

/// The probability that at least `rank` of `count` values are below a quantile (binomial).
fn at_least(rank: usize, count: usize, quantile: f64) -> f64 {
    let above = (1.0 - quantile).max(0.0);
    let mut term = quantile.powi(count as i32);
    let mut sum = term;
    for more in 1..=count - rank {
        term *= (count - more + 1) as f64 / more as f64 * above / quantile;
        sum += term;
    }
    sum
}

fn sorted(samples: &[Sample]) -> Vec<f64> {
    let mut values: Vec<f64> = samples.iter().map(|sample| sample.slowdown).collect();
    values.sort_by(f64::total_cmp);
    values
}

/// The place of a percentile among so many values, from 1.
fn rank(fraction: f64, count: usize) -> usize {
    (fraction * count as f64).ceil() as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_values(values: impl Iterator<Item = f64>) -> Vec<Sample> {
        values.map(|slowdown| Sample { bytes: 1, index: 0, slowdown }).collect()
    }

    #[test]
    fn a_percentile_of_hosts_with_few_messages_is_that_of_their_largest() {
        let samples = of_values((1..=1_000).map(f64::from));
        let [p50, p99] = percentiles_of_hosts(&samples, 7, [0.5, 0.99]).unwrap();
        // The largest of seven equally distributed values is at 7/8, the fourth in the middle.
        assert!((p99 - 875.0).abs() < 2.0 && (p50 - 500.0).abs() < 2.0, "{p50} {p99}");
        assert_eq!(percentiles(&samples, [0.99]), Some([990.0]));
        let [one] = percentiles_of_hosts(&samples, 1, [0.99]).unwrap();
        assert!((one - 500.5).abs() < 1e-6, "the mean: {one}");
        assert_eq!(percentiles_of_hosts(&[], 7, [0.99]), None);
    }

    #[test]
    fn a_percentile_of_hosts_with_many_messages_is_that_of_all() {
        let samples = of_values((0..20_000).map(|index| 1.0 + f64::from(index) / 1e4));
        let all = percentiles(&samples, [0.5, 0.99]).unwrap();
        for each in [EACH_MAX, EACH_MAX + 1] {
            let hosts = percentiles_of_hosts(&samples, each, [0.5, 0.99]).unwrap();
            for (all, hosts) in all.iter().zip(hosts) {
                assert!((all - hosts).abs() < 0.01, "{each}: {all} {hosts}");
            }
        }
    }
}
