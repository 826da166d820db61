//! Who sends to whom.

use std::sync::Arc;

use homa_bench::workload::Workload;

use super::trace::Trace;
use crate::{event::HostId, time::Span};

/// Who sends to whom, and what [`Run::load`](crate::Run::load) is a part of.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Pattern {
    /// Every host sends to all others by chance; the load is that of every host's link.
    #[default]
    AllToAll,
    /// Every host sends to one other, and gets from one; the load is that of every host's link.
    Permutation,
    /// Hosts send to one at the same moment; the load is that of this one's link.
    Incast(Incast),
    /// As it was recorded; the load is what that has.
    Recorded(Arc<Trace>),
}

/// Hosts that begin a message each to the host 0 at the same moment, again and again at equal
/// intervals. Which ones is left to chance each time. Of calls the host 0 begins all, and it is
/// responses that meet.
#[derive(Clone, Debug, PartialEq)]
pub struct Incast {
    /// How many at a time.
    pub senders: u32,
    /// What else is sent.
    pub background: Option<Background>,
}

/// Messages from every host to all others by chance, beside an incast.
#[derive(Clone, Debug, PartialEq)]
pub struct Background {
    /// Part of every host's link that is used, besides that of the incast.
    pub load: f64,
    /// Sizes of messages.
    pub sizes: Workload,
}

/// The host that an incast meets at.
pub(super) const RECEIVER: HostId = HostId(0);

/// Whom hosts send to on their own.
#[derive(Debug)]
pub(super) enum Partners {
    /// All others.
    All,
    /// One each, by host.
    One(Vec<HostId>),
}

impl Partners {
    /// A partner for each host, which is another and nobody else's: any derangement is as likely
    /// as any other.
    pub(super) fn derangement(hosts: u32, rng: &mut fastrand::Rng) -> Self {
        let mut partners: Vec<HostId> = (0..hosts).map(HostId).collect();
        // One shuffle in e has none that stays.
        while (0..).zip(&partners).any(|(host, partner)| partner.0 == host) {
            rng.shuffle(&mut partners);
        }
        Self::One(partners)
    }

    /// Whom a host sends its next message to.
    pub(super) fn next(&self, from: HostId, hosts: u32, rng: &mut fastrand::Rng) -> HostId {
        match self {
            Self::All => {
                let to = rng.u32(..hosts - 1);
                HostId(if to < from.0 { to } else { to + 1 })
            }
            Self::One(partners) => partners[from.0 as usize],
        }
    }
}

/// Rounds of an incast.
#[derive(Debug)]
pub(super) struct Rounds {
    senders: usize,
    /// From one round to the next.
    interval: Span,
    /// All hosts but the receiver: those of the round first.
    order: Vec<HostId>,
    /// How many of the round have begun.
    begun: usize,
}

impl Rounds {
    pub(super) fn new(senders: u32, interval: Span, hosts: u32) -> Self {
        let order = (0..hosts).map(HostId).filter(|host| *host != RECEIVER).collect();
        Self { senders: senders as usize, interval, order, begun: 0 }
    }

    /// The next sender, and how long after it the one after that begins.
    pub(super) fn next(&mut self, rng: &mut fastrand::Rng) -> (HostId, Span) {
        let place = self.begun;
        let chosen = rng.usize(place..self.order.len());
        self.order.swap(place, chosen);
        self.begun = (place + 1) % self.senders;
        let wait = if self.begun == 0 { self.interval } else { Span::ZERO };
        (self.order[place], wait)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn a_permutation_gives_each_host_another_that_is_nobody_elses_and_another_seed_others() {
        let partners =
            |hosts, seed| match Partners::derangement(hosts, &mut fastrand::Rng::with_seed(seed)) {
                Partners::One(partners) => partners,
                Partners::All => panic!("no permutation"),
            };
        for (hosts, seed) in [(2, 1), (3, 1), (16, 1), (16, 2), (1_000, 3)] {
            let found = partners(hosts, seed);
            assert!((0..).zip(&found).all(|(host, partner)| partner.0 != host), "{found:?}");
            let all: HashSet<_> = found.iter().copied().collect();
            assert_eq!(all, (0..hosts).map(HostId).collect());
            assert_eq!(found, partners(hosts, seed));
        }
        assert_ne!(partners(16, 1), partners(16, 2));
    }

    #[test]
    fn each_round_has_as_many_different_senders_as_it_should_none_of_them_the_receiver() {
        let mut rounds = Rounds::new(5, Span::from_ns(7), 8);
        let mut rng = fastrand::Rng::with_seed(1);
        let mut counts = [0; 8];
        for _ in 0..1_000 {
            let round: Vec<_> = (0..5).map(|_| rounds.next(&mut rng)).collect();
            let senders: HashSet<_> = round.iter().map(|(host, _)| *host).collect();
            assert_eq!(senders.len(), 5, "{round:?}");
            let waits: Vec<_> = round.iter().map(|(_, wait)| wait.as_ps()).collect();
            assert_eq!(waits, [0, 0, 0, 0, 7_000]);
            senders.iter().for_each(|host| counts[host.0 as usize] += 1);
        }
        assert_eq!(counts[0], 0);
        // Each of the others is one of five of seven: 714, with a deviation of 14.
        assert!(counts[1..].iter().all(|count| (650..780).contains(count)), "{counts:?}");
    }
}
