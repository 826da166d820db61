//! What a run shows: slowdown by size, as published evaluations report it.

use std::ops::Range;

use crate::{
    packet::PacketSize,
    transport::Protocol,
    world::{Message, World},
};

/// A message that counts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    /// Its length.
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
    /// Those of the messages `counted`, in the order of their begin.
    pub fn of<P: Protocol>(world: &World<P>, size: &PacketSize, counted: Range<usize>) -> Self {
        let messages = world.messages().get(counted.clone()).unwrap_or_default();
        let topology = world.topology();
        let first = counted.start as u32;
        let sample = |(index, message): (u32, &Message)| {
            let Message { from, to, bytes, begun, ended, .. } = *message;
            let idle = topology.idle_time(from, to, bytes, size).as_ps();
            let slowdown = ended.since(begun).as_ps() as f64 / idle as f64;
            Sample { bytes, index, slowdown }
        };
        let ended = (first..).zip(messages).filter(|(_, message)| message.is_over());
        let mut samples: Vec<_> = ended.map(sample).collect();
        samples.sort_by_key(|sample| sample.bytes);
        let unfinished = messages.len() - samples.len();
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
    let mut values: Vec<f64> = samples.iter().map(|sample| sample.slowdown).collect();
    values.sort_by(f64::total_cmp);
    let last = values.len().checked_sub(1)?;
    Some(fractions.map(|fraction| {
        let rank = (fraction * values.len() as f64).ceil() as usize;
        values[rank.saturating_sub(1).min(last)]
    }))
}
