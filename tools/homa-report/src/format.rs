//! Numbers as people read them.

/// Three significant digits, without exponent where that is readable; `–` if there is no number.
pub(crate) fn number(value: f64) -> String {
    if !value.is_finite() {
        return "–".to_owned();
    }
    let size = value.abs();
    match size {
        _ if size == 0.0 => "0".to_owned(),
        _ if size >= 99.95 => thousands(value),
        _ if size >= 9.995 => format!("{value:.1}"),
        _ if size >= 0.0995 => format!("{value:.2}"),
        _ if size >= 0.000_1 => format!("{value:.4}"),
        _ => format!("{value:.1e}"),
    }
}

/// As short as it can be written: for the round numbers of axes.
pub(crate) fn plain(value: f64) -> String {
    if value.abs() >= 1_000.0 { thousands(value) } else { trimmed(value, 6) }
}

/// Whole number with commas between thousands.
pub fn thousands(value: f64) -> String {
    let digits = format!("{:.0}", value.abs());
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    if value < 0.0 && digits != "0" { format!("-{text}") } else { text }
}

/// Bytes as B, kB, MB or GB.
pub(crate) fn size(bytes: f64) -> String {
    scaled(bytes, &[(1e9, "GB"), (1e6, "MB"), (1e3, "kB"), (1.0, "B")])
}

/// Microseconds as µs, ms or s.
pub(crate) fn time_us(us: f64) -> String {
    scaled(us, &[(1e6, "s"), (1e3, "ms"), (1.0, "µs")])
}

fn scaled(value: f64, units: &[(f64, &str)]) -> String {
    if !value.is_finite() {
        return "–".to_owned();
    }
    // A value that rounds up to the next unit is written in it.
    let unit = units.iter().find(|unit| value.abs() >= unit.0 * 0.999_5).or(units.last());
    let (factor, name) = unit.copied().unwrap_or((1.0, ""));
    let text = match value / factor {
        part if (part - part.round()).abs() < 0.05 || part.abs() >= 99.95 => format!("{part:.0}"),
        part => format!("{part:.1}"),
    };
    format!("{text}\u{a0}{name}")
}

/// A share as per cent.
pub(crate) fn percent(share: f64) -> String {
    if share.is_finite() {
        format!("{}\u{a0}%", trimmed(share * 100.0, 1))
    } else {
        "–".to_owned()
    }
}

/// With so many digits behind the point at most.
pub(crate) fn trimmed(value: f64, digits: usize) -> String {
    let text = format!("{value:.digits$}");
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}

/// A command line that a shell reads as these arguments.
pub(crate) fn command(arguments: &[String]) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,+@%".contains(c);
    let quoted = |argument: &String| match !argument.is_empty() && argument.chars().all(plain) {
        true => argument.clone(),
        false => format!("'{}'", argument.replace('\'', r"'\''")),
    };
    arguments.iter().map(quoted).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_about_three_digits_and_their_unit() {
        assert_eq!(number(12_345.6), "12,346");
        assert_eq!(number(12.34), "12.3");
        assert_eq!(number(1.234), "1.23");
        assert_eq!(number(f64::NAN), "–");
        assert_eq!(number(0.0), "0");
        assert_eq!(size(1_500.0), "1.5\u{a0}kB");
        assert_eq!(size(999_999.0), "1\u{a0}MB");
        assert_eq!(size(64.0), "64\u{a0}B");
        assert_eq!(time_us(1_250.0), "1.2\u{a0}ms");
        assert_eq!(percent(0.955), "95.5\u{a0}%");
        assert_eq!(trimmed(100.0, 0), "100");
        assert_eq!(thousands(-1_000.0), "-1,000");
    }

    #[test]
    fn commands_survive_a_shell() {
        let arguments = ["homa", "a b", "it's", ""].map(str::to_owned);
        assert_eq!(command(&arguments), r"homa 'a b' 'it'\''s' ''");
    }
}
