//! Sizes of messages, drawn from a distribution.

use homa_bench::workload::Workload;

/// Messages of a distribution. Sizes are stratified: of `n` messages one is drawn from every `n`-th
/// of the distribution, in an order left to chance, so that a short run has its share of the
/// longest ones too. Further ones are drawn from all of it.
#[derive(Debug)]
pub(super) struct Sizes {
    distribution: Workload,
    count: u32,
    /// Which part of the distribution each message is drawn from, the last one first.
    strata: Vec<u32>,
}

impl Sizes {
    /// So many messages.
    pub(super) fn new(distribution: Workload, count: u32, rng: &mut fastrand::Rng) -> Self {
        let mut strata: Vec<u32> = (0..count).collect();
        rng.shuffle(&mut strata);
        Self { distribution, count, strata }
    }

    /// The size of the next one.
    pub(super) fn next(&mut self, rng: &mut fastrand::Rng) -> u32 {
        let fraction = match self.strata.pop() {
            Some(stratum) => (f64::from(stratum) + rng.f64()) / f64::from(self.count),
            None => rng.f64(),
        };
        u32::try_from(self.distribution.quantile(fraction)).unwrap_or(u32::MAX)
    }
}
