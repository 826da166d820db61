//! What applications send: when, to whom, how much.

use homa_bench::workload::Workload;

use crate::{
    event::HostId,
    time::{Span, Time},
};

/// How much is sent, from every host to every other one by chance.
#[derive(Clone, Debug)]
pub struct Load {
    /// Sizes of messages.
    pub sizes: Workload,
    /// Mean time from one message of a host to its next; it is exponential.
    pub interval: Span,
    /// Messages of all hosts together.
    pub messages: u32,
}

/// A message that begins, and when the next one of its host does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Next {
    pub(crate) to: HostId,
    pub(crate) bytes: u32,
    pub(crate) following: Time,
}

/// The messages of all hosts: first a round of short ones in which each host calls every other
/// one, so that they know each other, then the load. Of more than 1,024 hosts each calls 64.
///
/// Sizes are stratified: of `n` messages one is drawn from every `n`-th of the distribution, in an
/// order left to chance, so that a short run has its share of the longest ones too.
#[derive(Debug)]
pub struct Traffic {
    load: Load,
    hosts: Vec<Source>,
    begun: u32,
    /// Which part of the distribution each message of the load is drawn from, the last one first.
    strata: Vec<u32>,
}

#[derive(Debug)]
struct Source {
    rng: fastrand::Rng,
    /// Hosts that it has called in the first round.
    introduced: u32,
}

/// Bytes of a message of the first round.
const INTRODUCTION_BYTES: u32 = 8;
/// Hosts of which each calls all others in the first round.
const ACQUAINTED_MAX: u32 = 1_024;
/// Hosts that one of more calls.
const INTRODUCTIONS: u32 = 64;
/// From one message of the first round to the next, of the same host.
const INTRODUCTION_INTERVAL: Span = Span::from_ns(2_000);
/// From the end of the first round to the load.
const PAUSE: Span = Span::from_ns(100_000);

impl Traffic {
    /// The messages of so many hosts, at least 2.
    pub fn new(load: Load, hosts: u32, seed: u64) -> Self {
        let mut seeds = fastrand::Rng::with_seed(seed);
        let mut strata: Vec<u32> = (0..load.messages).collect();
        seeds.shuffle(&mut strata);
        let source = |_| Source { rng: seeds.fork(), introduced: 0 };
        Self { load, hosts: (0..hosts).map(source).collect(), begun: 0, strata }
    }

    /// Messages of the first round. They are the first that begin.
    pub fn introductions(&self) -> u32 {
        self.hosts.len() as u32 * self.introductions_each()
    }

    fn introductions_each(&self) -> u32 {
        let others = self.others();
        if others < ACQUAINTED_MAX { others } else { INTRODUCTIONS }
    }

    /// When the load begins.
    pub fn load_begins(&self) -> Time {
        let round = u64::from(self.introductions_each()) * INTRODUCTION_INTERVAL.as_ps();
        Time::ZERO + Span::from_ps(round) + PAUSE
    }

    /// Hosts that a host can call.
    fn others(&self) -> u32 {
        self.hosts.len() as u32 - 1
    }

    /// When the first message of a host begins.
    pub(crate) fn first(&self, host: HostId) -> Time {
        Time::from_ps(u64::from(host.0) * INTRODUCTION_INTERVAL.as_ps() / self.hosts.len() as u64)
    }

    /// Whether all messages have begun.
    pub(crate) fn is_over(&self) -> bool {
        self.begun >= self.introductions().saturating_add(self.load.messages)
    }

    /// The message that a host begins now.
    pub(crate) fn take(&mut self, from: HostId, now: Time) -> Option<Next> {
        if self.is_over() {
            return None;
        }
        self.begun += 1;
        let (others, introductions) = (self.others(), self.introductions_each());
        let load_begins = self.load_begins();
        let source = &mut self.hosts[from.0 as usize];
        if source.introduced < introductions {
            source.introduced += 1;
            // Each begins with its neighbour, so that none is called by all at once.
            let to = HostId((from.0 + source.introduced) % (others + 1));
            let following = match source.introduced == introductions {
                true => load_begins + source.wait(self.load.interval),
                false => now + INTRODUCTION_INTERVAL,
            };
            return Some(Next { to, bytes: INTRODUCTION_BYTES, following });
        }
        let to = source.rng.u32(..others);
        let to = HostId(if to < from.0 { to } else { to + 1 });
        let part = f64::from(self.strata.pop()?) + source.rng.f64();
        let bytes = self.load.sizes.quantile(part / f64::from(self.load.messages));
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        Some(Next { to, bytes, following: now + source.wait(self.load.interval) })
    }
}

impl Source {
    /// The time to the next message. The logarithm is the same on every machine.
    fn wait(&mut self, mean: Span) -> Span {
        Span::from_ps((-libm::log(1.0 - self.rng.f64()) * mean.as_ps() as f64) as u64)
    }
}
