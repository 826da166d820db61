//! What applications send: when, to whom, how much.

mod arrivals;
mod pattern;
mod sizes;
mod trace;

use std::sync::Arc;

use homa_bench::workload::Workload;

pub use self::{
    arrivals::Arrivals,
    pattern::{Background, Incast, Pattern},
    trace::{Recorded, Trace, TraceError},
};
use self::{
    pattern::{Partners, RECEIVER, Rounds},
    sizes::Sizes,
};
use crate::{
    event::HostId,
    time::{Span, Time},
};

/// How messages come, whatever their number and sizes. By default every host sends one-way messages
/// to all others at exponential intervals.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Demand {
    /// Who sends to whom.
    pub pattern: Pattern,
    /// When hosts begin those that they send on their own.
    pub arrivals: Arrivals,
    /// Sizes of responses: every message is a request then, and its call ends when the response to
    /// it has arrived. Without, messages are one-way.
    pub responses: Option<Workload>,
}

/// Traffic that cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TrafficError {
    /// An incast needs so many other hosts: give fewer senders.
    #[error("the senders of an incast must be {}", self.must_be())]
    #[non_exhaustive]
    Senders {
        /// Hosts besides the receiver.
        others: u32,
    },
    /// The background is out of its range: give another.
    #[error("the background of an incast must be {}", self.must_be())]
    Background,
    /// The deviation is out of its range: give another.
    #[error("the deviation of log-normal intervals must be {}", self.must_be())]
    Sigma,
    /// A recording has more hosts than the network: simulate more.
    #[error("the recording must be {}", self.must_be())]
    #[non_exhaustive]
    Hosts {
        /// Hosts of the recording.
        hosts: u32,
    },
}

impl TrafficError {
    /// What would be right.
    pub(crate) fn must_be(&self) -> String {
        match self {
            Self::Senders { others } => {
                format!("from 1 to {others}, the hosts besides the receiver")
            }
            Self::Background => "above 0, and below 1 together with the load".to_owned(),
            Self::Sigma => format!("above 0 and at most {SIGMA_MAX}"),
            Self::Hosts { hosts } => format!("of a network of {hosts} hosts or more"),
        }
    }
}

/// Largest deviation of the logarithm of intervals.
const SIGMA_MAX: f64 = 3.0;

impl Demand {
    /// Checks that so many hosts can send so at a load.
    pub(crate) fn check(&self, hosts: u32, load: f64) -> Result<(), TrafficError> {
        match self.arrivals {
            Arrivals::LogNormal { sigma } if !(sigma > 0.0 && sigma <= SIGMA_MAX) => {
                return Err(TrafficError::Sigma);
            }
            _ => {}
        }
        match &self.pattern {
            Pattern::AllToAll | Pattern::Permutation => Ok(()),
            Pattern::Incast(Incast { senders, background }) => {
                let others = hosts - 1;
                if !(1..=others).contains(senders) {
                    return Err(TrafficError::Senders { others });
                }
                let fits =
                    |background: &Background| background.load > 0.0 && background.load + load < 1.0;
                match background.as_ref().is_none_or(fits) {
                    true => Ok(()),
                    false => Err(TrafficError::Background),
                }
            }
            Pattern::Recorded(trace) if trace.hosts() > hosts => {
                Err(TrafficError::Hosts { hosts: trace.hosts() })
            }
            Pattern::Recorded(_) => Ok(()),
        }
    }
}

/// How much is sent, and how often.
#[derive(Clone, Debug)]
pub struct Load {
    /// Sizes of messages; a recording has its own.
    pub sizes: Workload,
    /// Messages of all hosts together; of a recording at most what it has. Responses do not count.
    pub messages: u32,
    /// How they come.
    pub demand: Demand,
    /// Mean time from one message that a host sends on its own to its next; none, if hosts do not.
    pub interval: Option<Span>,
    /// From one round of an incast to the next, if it is one.
    pub round: Option<Span>,
}

impl Load {
    /// How long it lasts, in picoseconds.
    fn length_ps(&self, hosts: u32) -> f64 {
        let messages = f64::from(self.messages);
        if let Pattern::Recorded(trace) = &self.demand.pattern {
            let last = (self.messages as usize).checked_sub(1);
            let last = last.map_or(Span::ZERO, |last| trace.messages()[last].at);
            return last.as_ps().max(1) as f64;
        }
        match (self.interval, self.round) {
            (Some(interval), None) => interval.as_ps() as f64 * messages / f64::from(hosts),
            _ => messages / (self.own_rate(hosts) + self.round_rate()),
        }
    }

    /// Messages per picosecond that hosts send on their own.
    fn own_rate(&self, hosts: u32) -> f64 {
        self.interval.map_or(0.0, |interval| f64::from(hosts) / interval.as_ps() as f64)
    }

    /// Messages per picosecond of rounds.
    fn round_rate(&self) -> f64 {
        match (&self.demand.pattern, self.round) {
            (Pattern::Incast(incast), Some(round)) => {
                f64::from(incast.senders) / round.as_ps() as f64
            }
            _ => 0.0,
        }
    }
}

/// A message that begins, and when the next one of its source does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Next {
    pub(crate) from: HostId,
    pub(crate) to: HostId,
    pub(crate) bytes: u32,
    /// The length of the response, if it is a request.
    pub(crate) response: Option<u32>,
    pub(crate) following: Option<Time>,
}

/// The messages of all hosts: first a round of short ones in which each host calls every other
/// one, so that they know each other, then the load. Of more than 1,024 hosts each calls 64.
///
/// Each host is a source of messages; a last source begins those that are no host's own, rounds of
/// an incast and recorded ones.
#[derive(Debug)]
pub struct Traffic {
    load: Load,
    hosts: Vec<Source>,
    begun: u32,
    /// Of messages that hosts send on their own.
    own: Sizes,
    partners: Partners,
    common: Common,
    responses: Option<Sizes>,
    /// What is no host's own follows this.
    rng: fastrand::Rng,
}

#[derive(Debug)]
struct Source {
    rng: fastrand::Rng,
    /// Hosts that it has called in the first round.
    introduced: u32,
}

/// Messages that are no host's own.
#[derive(Debug)]
enum Common {
    Nothing,
    Rounds(Rounds, Sizes),
    /// A recording, and how many of its messages have begun.
    Recorded(Arc<Trace>, usize),
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
    pub fn new(mut load: Load, hosts: u32, seed: u64) -> Self {
        if let Pattern::Recorded(trace) = &load.demand.pattern {
            load.messages = load.messages.min(trace.messages().len() as u32);
        }
        let mut seeds = fastrand::Rng::with_seed(seed);
        let (own_sizes, own_messages) = match &load.demand.pattern {
            Pattern::AllToAll | Pattern::Permutation => (load.sizes.clone(), load.messages),
            Pattern::Incast(Incast { background: Some(background), .. }) => {
                let part = load.own_rate(hosts) * load.length_ps(hosts);
                (background.sizes.clone(), part.round() as u32)
            }
            _ => (load.sizes.clone(), 0),
        };
        let own = Sizes::new(own_sizes, own_messages, &mut seeds);
        let source = |_| Source { rng: seeds.fork(), introduced: 0 };
        let sources = (0..hosts).map(source).collect();
        let partners = match load.demand.pattern {
            Pattern::Permutation => Partners::derangement(hosts, &mut seeds),
            _ => Partners::All,
        };
        let common = match (&load.demand.pattern, load.round) {
            (Pattern::Incast(incast), Some(round)) => {
                let rest = load.messages.saturating_sub(own_messages);
                let sizes = Sizes::new(load.sizes.clone(), rest, &mut seeds);
                Common::Rounds(Rounds::new(incast.senders, round, hosts), sizes)
            }
            (Pattern::Recorded(trace), _) => Common::Recorded(Arc::clone(trace), 0),
            _ => Common::Nothing,
        };
        let responses = load.demand.responses.clone();
        let responses = responses.map(|sizes| Sizes::new(sizes, load.messages, &mut seeds));
        Self { load, hosts: sources, begun: 0, own, partners, common, responses, rng: seeds }
    }

    /// Messages of the first round, without responses. They are the first that begin.
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

    /// How long the load lasts, in picoseconds.
    pub(crate) fn length_ps(&self) -> f64 {
        self.load.length_ps(self.hosts.len() as u32)
    }

    /// Messages of the load, without responses.
    pub(crate) fn messages(&self) -> u32 {
        self.load.messages
    }

    /// Whether messages are requests.
    pub(crate) fn calls(&self) -> bool {
        self.load.demand.responses.is_some()
    }

    /// Hosts that a host can call.
    fn others(&self) -> u32 {
        self.hosts.len() as u32 - 1
    }

    /// Sources of messages, and when the first one of each begins: those that have any.
    pub(crate) fn sources(&self) -> impl Iterator<Item = (HostId, Time)> + '_ {
        let hosts = self.hosts.len() as u32;
        let of_host = move |host: u32| {
            let after = u64::from(host) * INTRODUCTION_INTERVAL.as_ps() / u64::from(hosts);
            (HostId(host), Time::from_ps(after))
        };
        let common = match &self.common {
            Common::Nothing => None,
            Common::Rounds(..) => Some(Span::ZERO),
            Common::Recorded(trace, _) => trace.messages().first().map(|first| first.at),
        };
        let common = common.map(|after| (HostId(hosts), self.load_begins() + after));
        (0..hosts).map(of_host).chain(common)
    }

    /// Whether all messages have begun.
    pub(crate) fn is_over(&self) -> bool {
        self.begun >= self.introductions().saturating_add(self.load.messages)
    }

    /// The message that a source begins now.
    pub(crate) fn take(&mut self, source: HostId, now: Time) -> Option<Next> {
        if self.is_over() {
            return None;
        }
        let next = match source.0 as usize == self.hosts.len() {
            true => self.take_common(now)?,
            false => self.take_own(source, now),
        };
        self.begun += 1;
        Some(next)
    }

    /// The message that a host begins on its own.
    fn take_own(&mut self, from: HostId, now: Time) -> Next {
        let (hosts, introductions) = (self.hosts.len() as u32, self.introductions_each());
        let load_begins = self.load_begins();
        let (interval, arrivals) = (self.load.interval, self.load.demand.arrivals);
        let source = &mut self.hosts[from.0 as usize];
        if source.introduced < introductions {
            source.introduced += 1;
            // Each begins with its neighbour, so that none is called by all at once.
            let to = HostId((from.0 + source.introduced) % hosts);
            let following = match source.introduced == introductions {
                true => {
                    interval.map(|interval| load_begins + arrivals.wait(interval, &mut source.rng))
                }
                false => Some(now + INTRODUCTION_INTERVAL),
            };
            let response = self.responses.as_ref().map(|_| INTRODUCTION_BYTES);
            return Next { from, to, bytes: INTRODUCTION_BYTES, response, following };
        }
        let to = self.partners.next(from, hosts, &mut source.rng);
        let bytes = self.own.next(&mut source.rng);
        let following = interval.map(|interval| now + arrivals.wait(interval, &mut source.rng));
        Next { from, to, bytes, response: self.response(), following }
    }

    /// The next message that is no host's own.
    fn take_common(&mut self, now: Time) -> Option<Next> {
        let (load_begins, calls) = (self.load_begins(), self.calls());
        let (from, to, bytes, following) = match &mut self.common {
            Common::Nothing => return None,
            Common::Rounds(rounds, sizes) => {
                let (host, wait) = rounds.next(&mut self.rng);
                // It is data that meets at the receiver: of calls the responses.
                let (from, to) = if calls { (RECEIVER, host) } else { (host, RECEIVER) };
                (from, to, sizes.next(&mut self.rng), Some(now + wait))
            }
            Common::Recorded(trace, begun) => {
                let Recorded { from, to, bytes, .. } = *trace.messages().get(*begun)?;
                *begun += 1;
                let following = trace.messages().get(*begun);
                (from, to, bytes, following.map(|following| load_begins + following.at))
            }
        };
        Some(Next { from, to, bytes, response: self.response(), following })
    }

    /// The length of a response, if messages are requests.
    fn response(&mut self) -> Option<u32> {
        Some(self.responses.as_mut()?.next(&mut self.rng))
    }
}
