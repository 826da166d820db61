//! What links lose: packets by chance, and all while they are down.

use serde::{Deserialize, Serialize};

use crate::time::Span;

/// Packets that links lose by chance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Loss {
    /// Part of the packets that a host's link loses, in each direction.
    pub hosts: f64,
    /// Part of the packets that a link between switches loses.
    pub switches: f64,
    /// Packets that are lost one after the other, in the mean; each by itself if not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub burst: Option<f64>,
}

impl Loss {
    /// Whether there can be such losses.
    pub(super) fn is_valid(&self) -> bool {
        // A burst of `burst` packets and a good one after it lose no larger part.
        let most = self.burst.map_or(1.0, |burst| burst / (burst + 1.0));
        let possible = |part: f64| (0.0..1.0).contains(&part) && part <= most;
        possible(self.hosts)
            && possible(self.switches)
            && self.burst.is_none_or(|burst| burst >= 1.0)
    }
}

/// A link, or all links between two switches, that loses everything for a while.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The names of its switches: `leaf0`, `spine0` of a leaf-spine, `edge0`, `aggregation0`,
    /// `core0` of a fat tree.
    pub ends: [String; 2],
    /// When it fails.
    pub at: Span,
    /// How long.
    pub lasts: Span,
}

/// Losses of a link by chance: it is good or bad, and loses what comes while it is bad (Gilbert).
#[derive(Clone, Debug)]
pub(super) struct Losses {
    /// Chance that it becomes bad before a packet, and that it becomes good after one.
    fails: f64,
    mends: f64,
    bad: bool,
    chance: fastrand::Rng,
}

impl Losses {
    /// Losses of this part of packets; `None` for none.
    pub(super) fn new(part: f64, burst: Option<f64>, seed: u64) -> Option<Box<Self>> {
        // A packet is lost with the chance fails / (fails + mends).
        let mends = burst.map_or(1.0 - part, |burst| 1.0 / burst);
        let fails = mends * part / (1.0 - part);
        let chance = fastrand::Rng::with_seed(seed);
        (part > 0.0).then(|| Box::new(Self { fails, mends, bad: false, chance }))
    }

    /// Whether the next packet is lost.
    pub(super) fn next(&mut self) -> bool {
        let change = if self.bad { self.mends } else { self.fails };
        if self.chance.f64() < change {
            self.bad = !self.bad;
        }
        self.bad
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_lose_the_part_given_in_bursts_of_the_mean_length_given() {
        let cases = [(0.01, Some(1.0), 1.0), (0.01, Some(5.0), 5.0), (0.2, None, 1.25)];
        for (part, given, burst) in cases {
            let mut losses = Losses::new(part, given, 1).unwrap();
            let lost: Vec<bool> = (0..1_000_000).map(|_| losses.next()).collect();
            let count = lost.iter().filter(|lost| **lost).count() as f64;
            let bursts = lost.windows(2).filter(|pair| !pair[0] && pair[1]).count() as f64;
            assert!((count / 1e6 / part - 1.0).abs() < 0.05, "{count} of {part}");
            assert!((count / bursts / burst - 1.0).abs() < 0.05, "{bursts} bursts of {burst}");
        }
        assert!(Losses::new(0.0, None, 1).is_none());
    }
}
