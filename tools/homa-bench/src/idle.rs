//! Calls on the idle network, one at a time: which sizes, how many of each, and how long they take.

use crate::workload::Workload;

/// Seconds of unloaded calls per size, about.
const UNLOADED_S: f64 = 0.3;

/// About how long a call of this size takes on the idle network.
pub(crate) fn seconds(size_bytes: u64, rate_mbps: u32) -> f64 {
    2.0 * size_bytes as f64 * 8e-6 / f64::from(rate_mbps.max(1)) + 0.003
}

/// How many calls of this size are made.
pub(crate) fn repeats(size_bytes: u64, rate_mbps: u32) -> u32 {
    (UNLOADED_S / seconds(size_bytes, rate_mbps)).clamp(3.0, 60.0) as u32
}

/// Sizes at which unloaded times are measured: the shortest and the longest, and steps of about
/// three between.
pub(crate) fn sizes(sizes: &Workload) -> Vec<u64> {
    let (shortest, longest) = (sizes.quantile(0.0), sizes.quantile(1.0));
    let mut found = vec![shortest];
    for size in [100, 300, 1_000, 3_000, 10_000, 30_000, 100_000, 300_000] {
        if size > shortest && size < longest {
            found.push(size);
        }
    }
    if longest > shortest {
        found.push(longest);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unloaded_times_are_measured_from_the_shortest_to_the_longest_size() {
        for name in ["w1", "w2", "w3", "w4", "w5", "fixed:500"] {
            let sizes = Workload::load(name).unwrap();
            let found = super::sizes(&sizes);
            assert!(found.is_sorted_by(|a, b| a < b), "{name}: {found:?}");
            assert_eq!(found.last(), Some(&sizes.quantile(1.0)));
        }
    }
}
