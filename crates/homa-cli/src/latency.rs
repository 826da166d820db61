//! Latencies, collected in nanoseconds and reported in microseconds.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// Longer times are counted as this long; nanoseconds.
const MAX_NS: u64 = 100_000_000_000;

/// Every figure is right to a part in a thousand.
const SIGNIFICANT_DIGITS: u8 = 3;

/// A collection of latencies.
#[derive(Debug, Clone)]
pub(crate) struct Latency(Histogram<u64>);

/// Percentiles of a collection, in microseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Percentiles {
    /// How many latencies there were.
    pub count: u64,
    /// The shortest.
    pub min_us: f64,
    /// Half of them were at most this long.
    pub p50_us: f64,
    /// 90 % of them were at most this long.
    pub p90_us: f64,
    /// 99 % of them were at most this long.
    pub p99_us: f64,
    /// 99.9 % of them were at most this long.
    pub p999_us: f64,
    /// The longest.
    pub max_us: f64,
}

impl Latency {
    /// An empty collection.
    pub(crate) fn new() -> Self {
        // These bounds are valid for any histogram; with others, an unbounded one serves as well.
        let histogram = Histogram::new_with_bounds(1, MAX_NS, SIGNIFICANT_DIGITS);
        Latency(
            histogram.unwrap_or_else(|_| {
                Histogram::new(SIGNIFICANT_DIGITS).expect("3 digits are valid")
            }),
        )
    }

    /// Adds one latency.
    pub(crate) fn record(&mut self, latency: Duration) {
        self.0.saturating_record(u64::try_from(latency.as_nanos()).unwrap_or(MAX_NS));
    }

    /// Number of latencies.
    pub(crate) fn count(&self) -> u64 {
        self.0.len()
    }

    /// The percentiles so far.
    pub(crate) fn percentiles(&self) -> Percentiles {
        let us = |ns: u64| ns as f64 / 1e3;
        let at = |quantile| us(self.0.value_at_quantile(quantile));
        Percentiles {
            count: self.count(),
            min_us: us(self.0.min()),
            p50_us: at(0.5),
            p90_us: at(0.9),
            p99_us: at(0.99),
            p999_us: at(0.999),
            max_us: us(self.0.max()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_of_known_latencies_are_right_to_a_part_in_a_thousand() {
        let mut latency = Latency::new();
        for us in 1..=1_000 {
            latency.record(Duration::from_micros(us));
        }
        let found = latency.percentiles();
        assert_eq!(found.count, 1_000);
        for (value, expected) in
            [(found.p50_us, 500.0), (found.p99_us, 990.0), (found.max_us, 1_000.0)]
        {
            assert!((value / expected - 1.0).abs() < 0.001, "{value} instead of {expected}");
        }
    }

    #[test]
    fn no_latency_is_too_long_to_be_counted() {
        let mut latency = Latency::new();
        latency.record(Duration::from_secs(1_000_000));
        assert_eq!(latency.count(), 1);
    }
}
