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
    let mut values: Vec<f64> = samples.iter().map(|sample| sample.slowdown).collect();
    values.sort_by(f64::total_cmp);
    let last = values.len().checked_sub(1)?;
    Some(fractions.map(|fraction| {
        let rank = (fraction * values.len() as f64).ceil() as usize;
        values[rank.saturating_sub(1).min(last)]
    }))
}
