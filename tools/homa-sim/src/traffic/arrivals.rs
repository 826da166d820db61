//! When hosts begin their messages.

use crate::{
    chance::{exponential, log_normal},
    time::Span,
};

/// The time from one message of a host to its next.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Arrivals {
    /// Exponential: a Poisson process.
    #[default]
    Poisson,
    /// Log-normal: the larger `sigma`, the more messages come in bursts.
    LogNormal {
        /// Standard deviation of its logarithm.
        sigma: f64,
    },
}

impl Arrivals {
    /// The time to the next message.
    pub(super) fn wait(self, mean: Span, rng: &mut fastrand::Rng) -> Span {
        let factor = match self {
            Self::Poisson => exponential(rng),
            Self::LogNormal { sigma } => log_normal(rng, sigma),
        };
        Span::from_ps((factor * mean.as_ps() as f64) as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kinds_of_arrivals_have_the_mean_and_the_variation_given() {
        let kinds = [(Arrivals::Poisson, 1.0), (Arrivals::LogNormal { sigma: 0.5 }, 0.533)];
        for (arrivals, variation) in kinds {
            let mut rng = fastrand::Rng::with_seed(1);
            let mean = Span::from_ns(1_000);
            let waits: Vec<f64> =
                (0..200_000).map(|_| arrivals.wait(mean, &mut rng).as_ps() as f64 / 1e6).collect();
            let count = waits.len() as f64;
            let mean = waits.iter().sum::<f64>() / count;
            assert!((mean - 1.0).abs() < 0.01, "{arrivals:?}: {mean}");
            let spread = waits.iter().map(|wait| (wait - mean).powi(2)).sum::<f64>() / count;
            assert!((spread.sqrt() - variation).abs() < 0.01, "{arrivals:?}: {}", spread.sqrt());
        }
    }
}
