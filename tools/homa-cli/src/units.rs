//! Sizes and durations as people type them, and numbers as people read them.

use std::time::Duration;

use homa_bench::units::parse_scaled;
pub(crate) use homa_bench::units::parse_size;
use homa_report::format::thousands;

/// Parses a duration: `10ms`, `5s`, `2m`, `250us`, `100ns`; a bare number counts seconds.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    let text = text.trim();
    parse_scaled(text, |suffix| {
        Some(match suffix {
            "ns" => 1,
            "us" | "µs" => 1_000,
            "ms" => 1_000_000,
            "" | "s" => 1_000_000_000,
            "m" | "min" => 60_000_000_000,
            _ => return None,
        })
    })
    .map(Duration::from_nanos)
    .ok_or_else(|| format!("`{text}` is not a duration; examples: 10ms, 5s, 250us"))
}

/// Parses a duration and refuses zero.
pub(crate) fn parse_positive_duration(text: &str) -> Result<Duration, String> {
    match parse_duration(text)? {
        Duration::ZERO => Err("must be longer than zero".to_owned()),
        duration => Ok(duration),
    }
}

/// The highest rate that can be asked for, in events per second.
const FREQUENCY_MAX: f64 = 1e8;

/// Parses a number of events per second: `500`, `10k`, `2.5M`; above 0.
pub(crate) fn parse_frequency(text: &str) -> Result<f64, String> {
    let text = text.trim().trim_end_matches("/s");
    let (number, factor) = match text.char_indices().last() {
        Some((at, 'k' | 'K')) => (&text[..at], 1e3),
        Some((at, 'm' | 'M')) => (&text[..at], 1e6),
        _ => (text, 1.0),
    };
    match number.replace('_', "").parse::<f64>() {
        Ok(value) if value > 0.0 && value * factor <= FREQUENCY_MAX => Ok(value * factor),
        Ok(value) if value > 0.0 => Err(format!("at most {FREQUENCY_MAX:.0} per second")),
        _ => Err(format!("`{text}` is not a rate above 0; examples: 500, 10k, 2.5M")),
    }
}

/// Parses a number greater than zero, such as a share of load.
pub(crate) fn parse_positive(text: &str) -> Result<f64, String> {
    match text.trim().parse::<f64>() {
        Ok(value) if value.is_finite() && value > 0.0 => Ok(value),
        _ => Err(format!("`{text}` is not a number above zero")),
    }
}

/// Writes a number of bytes the short way: `100 B`, `10 kB`, `1 MB`.
pub(crate) fn format_size(bytes: u64) -> String {
    let (value, unit) = match bytes {
        0..1_000 => return format!("{bytes} B"),
        1_000..1_000_000 => (bytes as f64 / 1e3, "kB"),
        1_000_000..1_000_000_000 => (bytes as f64 / 1e6, "MB"),
        _ => (bytes as f64 / 1e9, "GB"),
    };
    format!("{} {unit}", format_number(value))
}

/// Writes a number with about three significant digits and thousands separated by commas.
pub(crate) fn format_number(value: f64) -> String {
    let magnitude = value.abs();
    if magnitude >= 1_000.0 {
        return thousands(value.round());
    }
    let text = if magnitude >= 100.0 {
        format!("{value:.0}")
    } else if magnitude >= 10.0 {
        format!("{value:.1}")
    } else {
        format!("{value:.2}")
    };
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_in_every_unit() {
        assert_eq!(parse_duration("10ms"), Ok(Duration::from_millis(10)));
        assert_eq!(parse_duration("5s"), Ok(Duration::from_secs(5)));
        assert_eq!(parse_duration("0.5"), Ok(Duration::from_millis(500)));
        assert_eq!(parse_duration("2m"), Ok(Duration::from_secs(120)));
        assert_eq!(parse_duration("250us"), Ok(Duration::from_micros(250)));
        assert!(parse_duration("soon").is_err());
        assert!(parse_positive_duration("0s").is_err());
    }

    #[test]
    fn numbers_are_written_for_people() {
        assert_eq!(format_number(1_234_567.0), "1,234,567");
        assert_eq!(format_number(12.34), "12.3");
        assert_eq!(format_number(1.50), "1.5");
        assert_eq!(format_number(0.0), "0");
        assert_eq!(format_size(100), "100 B");
        assert_eq!(format_size(10_000), "10 kB");
        assert_eq!(format_size(1_000_000), "1 MB");
    }

    #[test]
    fn rates_per_second_are_read_and_nonsense_is_refused() {
        for (text, rate) in [("500", 500.0), ("10k", 1e4), ("2.5M/s", 2.5e6), ("0.5", 0.5)] {
            assert_eq!(parse_frequency(text), Ok(rate), "{text}");
        }
        for text in ["", "k", "0", "-1", "x", "nan", "inf", "1e9", "10G"] {
            assert!(parse_frequency(text).is_err(), "{text}");
        }
    }

    #[test]
    fn only_numbers_above_zero_are_loads() {
        assert_eq!(parse_positive("0.5"), Ok(0.5));
        for text in ["0", "-1", "nan", "inf", "x"] {
            assert!(parse_positive(text).is_err(), "{text}");
        }
    }
}
