//! How long to look for packets before sleeping.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::drive::seat::NEVER_NS;
use crate::drive::wait::Spun;

/// Short sleeps needed at most before spinning is tried again.
const DOUBT_MAX: u32 = 1_024;

/// Spinning saves the wake-up of a sleeping core (tens of microseconds) if packets come soon, and
/// wastes the core if not, or if the peer needs it. So: after a phase that found nothing, sleep;
/// spin again after sleeps that were so short that spinning would have paid, twice as many after
/// each failure in a row.
#[derive(Debug)]
pub(crate) struct SpinBudget {
    length_ns: u64,
    /// Short sleeps still needed before the next try.
    doubt: AtomicU32,
    /// Short sleeps that the next failure will cost.
    penalty: AtomicU32,
}

impl SpinBudget {
    pub(crate) fn new(length: Duration, busy: bool) -> Self {
        let length_ns = match busy {
            true => NEVER_NS,
            false => u64::try_from(length.as_nanos()).unwrap_or(NEVER_NS - 1),
        };
        Self { length_ns, doubt: AtomicU32::new(1), penalty: AtomicU32::new(1) }
    }

    pub(crate) fn learns(&self) -> bool {
        self.length_ns != 0 && self.length_ns != NEVER_NS
    }

    pub(crate) fn spin_ns(&self) -> u64 {
        if self.learns() && self.doubt.load(Ordering::Relaxed) > 0 {
            return 0;
        }
        self.length_ns
    }

    /// Learns. Several threads may do so at a time; what gets lost does not matter.
    pub(crate) fn note(&self, outcome: Spun) {
        match outcome {
            Spun::Paid => self.penalty.store(1, Ordering::Relaxed),
            Spun::Failed => {
                let penalty = self.penalty.load(Ordering::Relaxed);
                self.doubt.store(penalty, Ordering::Relaxed);
                self.penalty.store((penalty * 2).min(DOUBT_MAX), Ordering::Relaxed);
            }
            Spun::Slept(slept_ns) if slept_ns < self.length_ns => {
                let doubt = self.doubt.load(Ordering::Relaxed);
                self.doubt.store(doubt.saturating_sub(1), Ordering::Relaxed);
            }
            Spun::Slept(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spinning_in_vain_is_tried_less_and_less_often() {
        let spin = SpinBudget::new(Duration::from_micros(50), false);
        let mut sleeps_before_try = Vec::new();
        for _ in 0..4 {
            let mut sleeps = 0;
            while spin.spin_ns() == 0 {
                spin.note(Spun::Slept(10_000));
                sleeps += 1;
            }
            sleeps_before_try.push(sleeps);
            spin.note(Spun::Failed);
        }
        assert_eq!(sleeps_before_try, [1, 1, 2, 4]);
        spin.note(Spun::Slept(60_000));
        assert_eq!(spin.spin_ns(), 0, "a long sleep says nothing for spinning");
    }

    #[test]
    fn busy_polling_and_no_spinning_do_not_learn() {
        assert_eq!(SpinBudget::new(Duration::ZERO, false).spin_ns(), 0);
        assert_eq!(SpinBudget::new(Duration::ZERO, true).spin_ns(), NEVER_NS);
    }
}
