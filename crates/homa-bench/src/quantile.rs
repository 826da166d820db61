//! Quantiles and means of samples that are kept whole.

pub use homa_report::stats::quantile as at_share;

/// The middle of sorted values, of an even number the mean of the middle two; none of an empty list.
pub fn median(sorted: &[f64]) -> Option<f64> {
    let upper = sorted.get(sorted.len() / 2)?;
    let lower = sorted.get((sorted.len() - 1) / 2)?;
    Some((lower + upper) / 2.0)
}

/// The mean; 0 of an empty list.
pub fn mean(values: &[f64]) -> f64 {
    // The sum of nothing is -0.
    values.iter().fold(0.0, |sum, value| sum + value) / values.len().max(1) as f64
}

/// What lies between measured points, in order, at `x`: on the line between the two next to it, and beyond them as the
/// nearest; none without points.
pub fn interpolate(points: &[(u64, f64)], x: u64) -> Option<f64> {
    let index = points.partition_point(|point| point.0 < x);
    match (index.checked_sub(1).and_then(|below| points.get(below)), points.get(index)) {
        (Some(low), Some(high)) => {
            let share = (x - low.0) as f64 / (high.0 - low.0) as f64;
            Some(low.1 + (high.1 - low.1) * share)
        }
        (None, Some(only)) | (Some(only), None) => Some(only.1),
        (None, None) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_a_value_that_so_many_do_not_exceed() {
        let values: Vec<u32> = (1..=1_000).collect();
        let found = [0.0, 0.5, 0.99, 0.999, 1.0].map(|share| at_share(&values, share));
        assert_eq!(found, [Some(1), Some(500), Some(990), Some(999), Some(1_000)]);
        assert_eq!(at_share::<u32>(&[], 0.5), None);
    }

    #[test]
    fn between_points_there_is_a_line_and_beyond_them_the_nearest() {
        let points = [(100, 10.0), (1_000, 19.0), (10_000, 100.0)];
        for (x, y) in [(1, 10.0), (100, 10.0), (550, 14.5), (1_000, 19.0), (50_000, 100.0)] {
            assert_eq!(interpolate(&points, x), Some(y), "{x}");
        }
        assert_eq!(interpolate(&[], 5), None);
    }

    #[test]
    fn medians_and_means_of_few_values_and_of_none() {
        assert_eq!(median(&[1.0, 2.0, 3.0]), Some(2.0));
        assert_eq!(median(&[1.0, 2.0, 3.0, 4.0]), Some(2.5));
        assert_eq!((median(&[7.0]), median(&[])), (Some(7.0), None));
        assert_eq!((mean(&[1.0, 2.0]), mean(&[]).is_sign_positive()), (1.5, true));
    }
}
