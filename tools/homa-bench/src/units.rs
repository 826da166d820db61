//! Sizes and rates as people type them.

/// Parses a number of bytes: `100`, `10k` (10,000), `1M`, `64KiB` (65,536), `1GiB`.
///
/// A suffix with an `i` counts in powers of 1,024, all others in powers of 1,000; a trailing `B`
/// changes nothing; upper and lower case mean the same.
///
/// # Errors
/// A sentence that says what is expected.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let text = text.trim();
    parse_scaled(text, |suffix| {
        Some(match suffix.to_ascii_lowercase().trim_end_matches('b') {
            "" => 1,
            "k" => 1_000,
            "m" => 1_000_000,
            "g" => 1_000_000_000,
            "ki" => 1 << 10,
            "mi" => 1 << 20,
            "gi" => 1 << 30,
            _ => return None,
        })
    })
    .ok_or_else(|| format!("`{text}` is not a size; examples: 100, 10k, 1M, 64KiB"))
}

/// Parses a rate in 10^6 bit/s: `100M`, `1G`, `2.5Gbit`; a bare number counts 10^6 bit/s.
///
/// # Errors
/// A sentence that says what is expected.
pub fn parse_rate_mbps(text: &str) -> Result<u32, String> {
    let text = text.trim();
    parse_scaled(text, |suffix| {
        let suffix = suffix.to_ascii_lowercase();
        match suffix.trim_end_matches("/s").trim_end_matches("bit").trim_end_matches("bps") {
            "" | "m" => Some(1),
            "g" => Some(1_000),
            _ => None,
        }
    })
    .and_then(|rate| u32::try_from(rate).ok().filter(|rate| *rate > 0))
    .ok_or_else(|| format!("`{text}` is not a rate; examples: 100M, 1G, 2.5Gbit"))
}

/// Parses a number with a suffix, of which `unit` knows how much it counts; to the nearest whole
/// number. Digits may be grouped: `1_000`. `None` if it is not a number, has an unknown suffix, or
/// does not fit.
pub fn parse_scaled(text: &str, unit: impl Fn(&str) -> Option<u64>) -> Option<u64> {
    let text = text.trim();
    let is_digit = |c: char| c.is_ascii_digit() || c == '.' || c == '_';
    let (number, suffix) = text.split_at(text.find(|c| !is_digit(c)).unwrap_or(text.len()));
    let unit = unit(suffix.trim_start())?;
    let number = number.replace('_', "");
    if let Ok(whole) = number.parse::<u64>() {
        return whole.checked_mul(unit);
    }
    // Not cut off: 1.001 * 1,000 is a little less than 1,001.
    let value = (number.parse::<f64>().ok()? * unit as f64).round();
    (0.0..9e18).contains(&value).then_some(value as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_with_decimal_and_binary_suffixes() {
        for (text, bytes) in [
            ("0", 0),
            ("100", 100),
            ("10k", 10_000),
            ("1M", 1_000_000),
            ("1.5M", 1_500_000),
            ("1.001k", 1_001),
            ("64KiB", 65_536),
            (" 64 KiB ", 65_536),
            ("2GiB", 2 << 30),
            ("1_000", 1_000),
            ("7B", 7),
        ] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn what_is_not_a_size_is_refused() {
        for text in [
            "",
            "k",
            "x",
            "1T",
            "-1",
            "10x",
            "1e3q",
            "1e400",
            "..",
            "1..2",
            "1.2.3",
            "99999999999999999999",
            "20000000000G",
        ] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn rates_are_read_and_nonsense_is_refused() {
        assert_eq!(parse_rate_mbps("100M"), Ok(100));
        assert_eq!(parse_rate_mbps("2.5 Gbit/s"), Ok(2_500));
        assert_eq!(parse_rate_mbps("300"), Ok(300));
        for text in ["", "x", "0", "1T", "-1", "1e400", "..", "1.2.3", "5000000G"] {
            assert!(parse_rate_mbps(text).is_err(), "{text}");
        }
    }
}
