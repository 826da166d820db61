//! Latencies, collected in nanoseconds and reported in microseconds.

use std::time::Duration;

use hdrhistogram::Histogram;
use homa_report::format::thousands;
use serde::Serialize;

use crate::units::format_number;

/// Longer times are counted as this long; nanoseconds.
const MAX_NS: u64 = 100_000_000_000;

/// Every figure is right to a part in a thousand.
const SIGNIFICANT_DIGITS: u8 = 3;

/// A collection of latencies.
#[derive(Debug, Clone)]
pub(crate) struct Latency(Histogram<u64>);

/// Percentiles of a collection, in microseconds; nothing where there are too few latencies to tell:
/// a share of 1 in N takes N of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub(crate) struct Spread {
    /// How many latencies there were.
    pub count: u64,
    /// The shortest.
    pub min_us: Option<f64>,
    /// Their mean.
    pub mean_us: Option<f64>,
    /// Half of them were at most this long.
    pub p50_us: Option<f64>,
    /// 90 % of them were at most this long.
    pub p90_us: Option<f64>,
    /// 99 % of them were at most this long.
    pub p99_us: Option<f64>,
    /// 99.9 % of them were at most this long.
    pub p999_us: Option<f64>,
    /// 99.99 % of them were at most this long.
    pub p9999_us: Option<f64>,
    /// The longest.
    pub max_us: Option<f64>,
}

impl Spread {
    /// The percentiles by name, for one line of text: those that the sample cannot carry are `-`.
    pub(crate) fn line(&self) -> String {
        let shown = [
            ("min", self.min_us),
            ("P50", self.p50_us),
            ("P90", self.p90_us),
            ("P99", self.p99_us),
            ("P99.9", self.p999_us),
            ("P99.99", self.p9999_us),
            ("max", self.max_us),
        ];
        let shown = shown.map(|(name, value)| format!("{name} {}", or_dash(value)));
        format!("{} (n = {})", shown.join("  "), thousands(self.count as f64))
    }
}

/// A number for people, or `-` for one that is not known.
pub(crate) fn or_dash(value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_owned(), format_number)
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

    /// The latencies, in nanoseconds.
    pub(crate) fn histogram(&self) -> &Histogram<u64> {
        &self.0
    }

    /// Forgets all.
    pub(crate) fn clear(&mut self) {
        self.0.reset();
    }

    /// The percentiles so far, as far as the sample carries them.
    pub(crate) fn spread(&self) -> Spread {
        let count = self.count();
        let any = |ns: f64| (count > 0).then_some(ns / 1e3);
        let at = |quantile: f64, needed: u64| (count >= needed).then(|| self.at_us(quantile));
        Spread {
            count,
            min_us: any(self.0.min() as f64),
            mean_us: any(self.0.mean()),
            p50_us: at(0.5, 1),
            p90_us: at(0.9, 10),
            p99_us: at(0.99, 100),
            p999_us: at(0.999, 1_000),
            p9999_us: at(0.9999, 10_000),
            max_us: any(self.0.max() as f64),
        }
    }

    /// The latency that this share of them did not exceed, in microseconds.
    pub(crate) fn at_us(&self, share: f64) -> f64 {
        self.0.value_at_quantile(share) as f64 / 1e3
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
        assert_eq!(latency.count(), 1_000);
        for (share, expected) in [(0.5, 500.0), (0.99, 990.0), (1.0, 1_000.0)] {
            let value = latency.at_us(share);
            assert!((value / expected - 1.0).abs() < 0.001, "{value} instead of {expected}");
        }
    }

    #[test]
    fn percentiles_that_a_sample_cannot_carry_are_not_told() {
        let mut latency = Latency::new();
        assert_eq!(latency.spread(), Spread::default());
        assert!(latency.spread().line().starts_with("min -  P50 -"));
        for us in 1..=99 {
            latency.record(Duration::from_micros(us));
        }
        let found = latency.spread();
        assert!(found.p90_us.is_some() && found.p99_us.is_none());
        latency.record(Duration::from_micros(100));
        let found = latency.spread();
        assert!(found.p99_us.is_some() && found.p999_us.is_none());
        assert_eq!(found.mean_us.map(f64::round), Some(51.0));
        assert!(found.line().ends_with("P99.9 -  P99.99 -  max 100 (n = 100)"), "{}", found.line());
    }

    #[test]
    fn no_latency_is_too_long_to_be_counted() {
        let mut latency = Latency::new();
        latency.record(Duration::from_secs(1_000_000));
        assert_eq!(latency.count(), 1);
    }
}
