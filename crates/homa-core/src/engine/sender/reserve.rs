//! How much has to be in a queue so that it does not run empty before somebody comes to fill it:
//! found from what was left each time, as Linux finds the limits of the queues of devices
//! (`dynamic_queue_limits`).

use core::ops::RangeInclusive;

/// An amount, in bytes or ns, that grows by a step when the queue ran empty while data waited, and
/// shrinks by half of what was always left.
#[derive(Debug)]
pub(crate) struct Reserve {
    amount: u64,
    bounds: RangeInclusive<u64>,
    /// Least step upwards.
    step: u64,
    /// The least that was left since the last change, and how often that was looked at.
    spare: u64,
    looks: u32,
}

impl Reserve {
    pub(crate) fn new(amount: u64, bounds: RangeInclusive<u64>, step: u64) -> Self {
        let amount = amount.clamp(*bounds.start(), *bounds.end());
        Self { amount, bounds, step, spare: u64::MAX, looks: 0 }
    }

    #[inline]
    pub(crate) fn amount(&self) -> u64 {
        self.amount
    }

    /// So much was left after a wait; `None`: the queue ran empty.
    pub(crate) fn learn(&mut self, left: Option<u64>) {
        let amount = match left {
            None => self.amount.saturating_add(self.amount / 8).saturating_add(self.step),
            Some(left) => {
                self.spare = self.spare.min(left);
                self.looks = self.looks.saturating_add(1);
                if self.looks < LOOKS {
                    return;
                }
                self.amount.saturating_sub(self.spare.div_ceil(2))
            }
        };
        self.amount = amount.clamp(*self.bounds.start(), *self.bounds.end());
        (self.spare, self.looks) = (u64::MAX, 0);
    }
}

/// Looks after which the amount shrinks.
const LOOKS: u32 = 16;

#[cfg(test)]
mod tests {
    use super::*;

    /// What a reserve becomes of somebody who comes late by times of `late_ns`, in turns.
    fn settled(late_ns: &[u64]) -> u64 {
        let mut reserve = Reserve::new(10_000, 0..=10_000, 100);
        for late_ns in late_ns.iter().cycle().take(2_000) {
            reserve.learn(reserve.amount().checked_sub(*late_ns));
        }
        reserve.amount()
    }

    #[test]
    fn a_reserve_is_what_lateness_takes_and_little_more() {
        for late_ns in [0, 1_000, 3_000, 8_000] {
            let amount = settled(&[late_ns]);
            assert!((late_ns..=late_ns + late_ns / 4 + 200).contains(&amount), "{amount}");
        }
    }

    #[test]
    fn the_latest_of_a_few_counts() {
        let amount = settled(&[100, 200, 4_000, 300]);
        assert!((3_900..=5_200).contains(&amount), "{amount}");
    }

    #[test]
    fn a_reserve_stays_within_its_bounds() {
        assert_eq!(settled(&[1_000_000]), 10_000);
        let mut reserve = Reserve::new(1, 3_000..=9_000, 100);
        assert_eq!(reserve.amount(), 3_000);
        for _ in 0..1_000 {
            reserve.learn(Some(3_000));
        }
        assert_eq!(reserve.amount(), 3_000);
    }
}
