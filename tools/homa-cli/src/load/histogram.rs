//! Times as a picture of text.

use homa_report::format::thousands;

use crate::{latency::Latency, units::format_number};

/// Rows of a picture at most.
const ROWS: i32 = 12;
/// Length of the longest bar.
const BAR: u64 = 40;

/// Times within this ratio are in one row.
const ALIKE: f64 = 1.02;

/// How many calls took how long: rows of equal ratio from the shortest time to the longest, empty
/// without calls.
pub(super) fn text(times: &Latency) -> String {
    if times.count() == 0 {
        return String::new();
    }
    let rows = rows(times);
    let most = rows.iter().map(|row| row.1).max().unwrap_or(1).max(1);
    let mut text = String::from("histogram\n");
    for (upper_ns, count) in rows {
        let bar = "#".repeat(((count * BAR).div_ceil(most)) as usize);
        let upper = format_number(upper_ns / 1e3);
        text += format!("  <= {upper:>9} µs {:>12} {bar}", thousands(count as f64)).trim_end();
        text.push('\n');
    }
    text
}

/// Upper ends in nanoseconds, and the calls up to there that are in no row before.
fn rows(times: &Latency) -> Vec<(f64, u64)> {
    let histogram = times.histogram();
    let (min, max) = (histogram.min().max(1) as f64, histogram.max().max(1) as f64);
    // Rows closer to each other than the histogram is exact would be empty.
    let number = if max / min < ALIKE { 1 } else { ROWS };
    let ratio = (max / min).powf(1.0 / f64::from(number));
    let mut rows: Vec<(f64, u64)> = (1..number).map(|row| (min * ratio.powi(row), 0)).collect();
    rows.push((max, 0));
    for step in histogram.iter_recorded() {
        let value = step.value_iterated_to() as f64;
        let index = rows.partition_point(|row| row.0 < value).min(rows.len() - 1);
        rows[index].1 += step.count_at_value();
    }
    rows
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn every_call_is_in_one_row_of_rising_times() {
        let mut times = Latency::new();
        for us in 10..=5_000 {
            times.record(Duration::from_micros(us));
        }
        let found = rows(&times);
        assert_eq!(found.iter().map(|row| row.1).sum::<u64>(), 4_991);
        assert!(found.windows(2).all(|pair| pair[0].0 < pair[1].0));
        let text = text(&times);
        assert_eq!(text.lines().count(), 1 + ROWS as usize, "{text}");
        let longest = text.lines().map(|line| line.matches('#').count()).max();
        assert_eq!(longest, Some(BAR as usize));
    }

    #[test]
    fn equal_times_make_one_row_and_none_no_picture() {
        let mut times = Latency::new();
        assert_eq!(text(&times), "");
        times.record(Duration::from_micros(7));
        times.record(Duration::from_micros(7));
        assert_eq!(rows(&times).len(), 1);
    }
}
