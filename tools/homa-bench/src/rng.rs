//! Random numbers for sizes and arrivals, seeded, not for secrets.

/// A generator of random numbers; the same seed gives the same numbers with the same version of
/// this program.
#[derive(Debug, Clone)]
pub struct Rng(fastrand::Rng);

impl Rng {
    /// A generator.
    pub fn new(seed: u64) -> Self {
        Rng(fastrand::Rng::with_seed(seed))
    }

    /// A uniform number in [0, 1).
    pub fn uniform(&mut self) -> f64 {
        self.0.f64()
    }

    /// The time to the next event of a Poisson process with this mean interval, in the mean's unit.
    pub fn exponential(&mut self, mean: f64) -> f64 {
        -(1.0 - self.uniform()).ln() * mean
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_have_the_mean_asked_for_and_the_spread_of_an_exponential() {
        let mut rng = Rng::new(7);
        let intervals: Vec<f64> = (0..200_000).map(|_| rng.exponential(3.0)).collect();
        let mean = intervals.iter().sum::<f64>() / intervals.len() as f64;
        let variance =
            intervals.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / intervals.len() as f64;
        assert!((mean / 3.0 - 1.0).abs() < 0.01, "mean {mean}");
        assert!((variance / 9.0 - 1.0).abs() < 0.03, "variance {variance}");
    }
}
