//! Sizes and rates as people type them.

/// Parses a number of bytes: `100`, `10k` (10,000), `1M`, `64KiB` (65,536).
///
/// A suffix with an `i` counts in powers of 1,024, all others in powers of 1,000; a trailing `B` changes
/// nothing; upper and lower case mean the same.
///
/// # Errors
/// A sentence that says what is expected.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let wrong = || format!("`{text}` is not a size; examples: 100, 10k, 1M, 64KiB");
    let (number, suffix) = split(text);
    let unit = match suffix.to_ascii_lowercase().trim_end_matches('b') {
        "" => 1.0,
        "k" => 1e3,
        "m" => 1e6,
        "g" => 1e9,
        "ki" => 1024.0,
        "mi" => 1048576.0,
        "gi" => 1073741824.0,
        _ => return Err(wrong()),
    };
    scaled(number, unit).ok_or_else(wrong)
}

/// Parses a rate in 10^6 bit/s: `100M`, `1G`, `2.5Gbit`; a bare number counts 10^6 bit/s.
///
/// # Errors
/// A sentence that says what is expected.
pub fn parse_rate_mbps(text: &str) -> Result<u32, String> {
    let wrong = || format!("`{text}` is not a rate; examples: 100M, 1G, 2.5Gbit");
    let (number, suffix) = split(text);
    let suffix = suffix.to_ascii_lowercase();
    let unit = match suffix.trim_end_matches("/s").trim_end_matches("bit").trim_end_matches("bps") {
        "" | "m" => 1.0,
        "g" => 1e3,
        _ => return Err(wrong()),
    };
    let rate = scaled(number, unit).ok_or_else(wrong)?;
    u32::try_from(rate).ok().filter(|rate| *rate > 0).ok_or_else(wrong)
}

fn split(text: &str) -> (&str, &str) {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    (number, suffix.trim())
}

fn scaled(number: &str, unit: f64) -> Option<u64> {
    let value = number.parse::<f64>().ok()? * unit;
    (value.is_finite() && value < 1e18).then_some(value.round() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_rates_are_read_and_nonsense_is_refused() {
        assert_eq!(parse_size("64KiB"), Ok(65_536));
        assert_eq!(parse_size("1.5M"), Ok(1_500_000));
        assert_eq!(parse_rate_mbps("100M"), Ok(100));
        assert_eq!(parse_rate_mbps("2.5 Gbit/s"), Ok(2_500));
        assert_eq!(parse_rate_mbps("300"), Ok(300));
        for text in ["", "x", "1T", "-1", "1e400", "..", "1.2.3"] {
            assert!(parse_size(text).is_err(), "{text}");
            assert!(parse_rate_mbps(text).is_err(), "{text}");
        }
        assert!(parse_rate_mbps("0").is_err());
    }
}
