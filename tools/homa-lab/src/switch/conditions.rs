//! What a direction of a link does to frames besides carrying them.

use serde::{Deserialize, Serialize};

use crate::{LabError, spec::check};

/// What one direction of a host's link does to frames. Shares are of all frames, 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LinkConditions {
    /// Every frame takes this much longer, in nanoseconds.
    pub delay_ns: u64,
    /// And up to this much more, evenly distributed; frames stay in order.
    pub jitter_ns: u64,
    /// Share of frames that disappear.
    pub loss: f64,
    /// Share of frames that arrive twice.
    pub duplicate: f64,
    /// Share of frames that are held back while later ones pass.
    pub reorder: f64,
    /// For how long, in nanoseconds.
    pub reorder_ns: u64,
}

/// The longest delay that can be asked for: ten seconds.
const DELAY_NS_MAX: u64 = 10_000_000_000;

impl LinkConditions {
    /// Whether frames pass unchanged and at once.
    pub fn is_clean(&self) -> bool {
        *self == Self::default()
    }

    /// Checks every number.
    ///
    /// # Errors
    /// [`LabError::Spec`] with `key`.
    pub fn validate(&self, key: &'static str) -> Result<(), LabError> {
        let shares = [self.loss, self.duplicate, self.reorder];
        check(
            shares.iter().all(|share| (0.0..=1.0).contains(share)),
            key,
            "shares (loss, duplicate, reorder) from 0 to 1",
        )?;
        let times = [self.delay_ns, self.jitter_ns, self.reorder_ns];
        check(times.iter().all(|time| *time <= DELAY_NS_MAX), key, "times of at most 10 s")?;
        check(
            self.reorder == 0.0 || self.reorder_ns > 0,
            key,
            "given a reorder_ns if frames are to be reordered",
        )
    }
}

/// One direction of one link.
#[derive(Debug)]
pub(crate) struct Direction {
    conditions: LinkConditions,
    random: fastrand::Rng,
    /// When the latest frame that kept its place comes out.
    latest_ns: u64,
}

/// When copies of a frame come out; none, one or two.
pub(crate) type Copies = [Option<u64>; 2];

impl Direction {
    pub(crate) fn new(conditions: LinkConditions, seed: u64) -> Self {
        Self { conditions, random: fastrand::Rng::with_seed(seed), latest_ns: 0 }
    }

    /// Decides about a frame that enters now. Every frame draws as many random numbers, so that a
    /// setting that changes one fate leaves the others alone.
    pub(crate) fn pass(&mut self, now_ns: u64) -> Copies {
        if self.conditions.is_clean() {
            return [Some(now_ns), None];
        }
        let [lost, twice, held, late] = [(); 4].map(|()| self.random.f64());
        let LinkConditions { delay_ns, jitter_ns, loss, duplicate, reorder, reorder_ns } =
            self.conditions;
        if lost < loss {
            return [None, None];
        }
        let jitter_ns = (late * jitter_ns as f64) as u64;
        let in_order_ns = (now_ns + delay_ns + jitter_ns).max(self.latest_ns);
        let out_ns = if held < reorder {
            in_order_ns + reorder_ns
        } else {
            self.latest_ns = in_order_ns;
            in_order_ns
        };
        [Some(out_ns), (twice < duplicate).then_some(out_ns)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jitter_keeps_the_order_and_reordering_breaks_it() {
        let jitter = LinkConditions { delay_ns: 100, jitter_ns: 5_000, ..Default::default() };
        let mut direction = Direction::new(jitter, 1);
        let times: Vec<_> = (0..1000).filter_map(|n| direction.pass(n * 10)[0]).collect();
        assert!(times.is_sorted());
        assert!(times.iter().zip(0..).all(|(out, n)| *out >= n * 10 + 100));
        let held = LinkConditions { reorder: 0.1, reorder_ns: 1_000, ..Default::default() };
        let mut direction = Direction::new(held, 1);
        let times: Vec<_> = (0..1000).filter_map(|n| direction.pass(n * 10)[0]).collect();
        let late = times.iter().zip(0..).filter(|(out, n)| **out == n * 10 + 1_000).count();
        assert!((60..140).contains(&late), "{late} of 1000");
        assert!(!times.is_sorted());
    }

    #[test]
    fn shares_of_loss_and_duplication_are_kept_and_repeat_with_the_seed() {
        let conditions = LinkConditions { loss: 0.2, duplicate: 0.1, ..Default::default() };
        let count = |seed| {
            let mut direction = Direction::new(conditions, seed);
            (0..10_000).map(|n| direction.pass(n).iter().flatten().count()).collect::<Vec<_>>()
        };
        let fates = count(7);
        assert_eq!(fates, count(7));
        assert_ne!(fates, count(8));
        let lost = fates.iter().filter(|copies| **copies == 0).count();
        let twice = fates.iter().filter(|copies| **copies == 2).count();
        assert!((1_850..2_150).contains(&lost), "{lost}");
        assert!((700..900).contains(&twice), "{twice}");
    }

    #[test]
    fn impossible_conditions_are_refused() {
        for spoilt in [
            LinkConditions { loss: 1.5, ..Default::default() },
            LinkConditions { duplicate: f64::NAN, ..Default::default() },
            LinkConditions { delay_ns: 11_000_000_000, ..Default::default() },
            LinkConditions { reorder: 0.1, ..Default::default() },
        ] {
            assert!(spoilt.validate("up").is_err(), "{spoilt:?}");
        }
    }
}
