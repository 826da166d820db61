//! Queue lengths over time, in a ring of bounded size.

use std::collections::VecDeque;

use crate::{QueueSample, QueueTrace};

/// The newest samples.
#[derive(Debug)]
pub(crate) struct Ring {
    interval_ns: u64,
    samples: VecDeque<QueueSample>,
    limit: usize,
    overwritten: u64,
}

impl Ring {
    pub(crate) fn new(interval_ns: u64, limit: usize) -> Self {
        Self { interval_ns, samples: VecDeque::new(), limit, overwritten: 0 }
    }

    /// The first moment after `now_ns` at which to sample; none if nothing is to be recorded.
    pub(crate) fn next_ns(&self, now_ns: u64) -> Option<u64> {
        let passed = now_ns.checked_div(self.interval_ns)?;
        passed.checked_add(1)?.checked_mul(self.interval_ns).filter(|_| self.limit > 0)
    }

    pub(crate) fn push(&mut self, sample: QueueSample) {
        if self.samples.len() >= self.limit {
            self.samples.pop_front();
            self.overwritten += 1;
        }
        self.samples.push_back(sample);
    }

    pub(crate) fn take(&mut self) -> QueueTrace {
        QueueTrace {
            interval_ns: self.interval_ns,
            samples: std::mem::take(&mut self.samples).into(),
            overwritten: std::mem::take(&mut self.overwritten),
        }
    }

    pub(crate) fn read(&self) -> QueueTrace {
        QueueTrace {
            interval_ns: self.interval_ns,
            samples: self.samples.iter().copied().collect(),
            overwritten: self.overwritten,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::LEVELS;

    #[test]
    fn the_newest_samples_are_kept_and_the_others_counted() {
        let mut ring = Ring::new(10, 3);
        for at_ns in 0..5 {
            ring.push(QueueSample { at_ns, host: 0, queue_bytes: [0; LEVELS] });
        }
        let trace = ring.read();
        assert_eq!(trace.overwritten, 2);
        assert_eq!(trace.samples.iter().map(|s| s.at_ns).collect::<Vec<_>>(), [2, 3, 4]);
    }

    #[test]
    fn samples_lie_on_multiples_of_the_interval() {
        let ring = Ring::new(10, 3);
        assert_eq!(ring.next_ns(0), Some(10));
        assert_eq!(ring.next_ns(19), Some(20));
        assert_eq!(ring.next_ns(20), Some(30));
        assert_eq!(Ring::new(0, 3).next_ns(5), None);
        assert_eq!(Ring::new(10, 0).next_ns(5), None);
        assert_eq!(ring.next_ns(u64::MAX), None);
    }
}
