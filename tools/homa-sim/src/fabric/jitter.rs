//! Delays of hosts that vary.

use crate::{
    chance::log_normal,
    time::{Span, Time},
};

/// Delays that are log-normal, of packets that do not overtake each other.
#[derive(Debug)]
pub(super) struct Jitter {
    mean: Span,
    sigma: f64,
    latest: Time,
    chance: fastrand::Rng,
}

impl Jitter {
    /// Delays of this mean, whose logarithm has the standard deviation `sigma`.
    pub(super) fn new(mean: Span, sigma: f64, seed: u64) -> Self {
        Self { mean, sigma, latest: Time::ZERO, chance: fastrand::Rng::with_seed(seed) }
    }

    /// When what comes at `at` is through.
    pub(super) fn after(&mut self, at: Time) -> Time {
        let factor = log_normal(&mut self.chance, self.sigma);
        let delay = Span::from_ps((self.mean.as_ps() as f64 * factor) as u64);
        self.latest = self.latest.max(at + delay);
        self.latest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_have_the_mean_and_the_variation_given_and_keep_the_order() {
        let mut jitter = Jitter::new(Span::from_ns(1_000), 0.5, 1);
        // So far apart that none waits for another.
        let delays: Vec<f64> = (1..100_000)
            .map(|step| Time::from_ns(step * 1_000_000))
            .map(|at| jitter.after(at).since(at).as_ps() as f64 / 1e6)
            .collect();
        let count = delays.len() as f64;
        let mean = delays.iter().sum::<f64>() / count;
        assert!((mean - 1.0).abs() < 0.01, "{mean}");
        let logs: Vec<f64> = delays.iter().map(|delay| delay.ln()).collect();
        let middle = logs.iter().sum::<f64>() / count;
        let spread = logs.iter().map(|log| (log - middle).powi(2)).sum::<f64>() / count;
        assert!((spread.sqrt() - 0.5).abs() < 0.01, "{spread}");
        let last = jitter.after(Time::from_ns(1 << 40));
        assert!(jitter.after(Time::from_ns(1 << 40)) >= last);
    }
}
