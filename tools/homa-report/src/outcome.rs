//! What a run found, in one sentence.

use crate::{
    compare::{AVERAGE, SHORT_P50, SHORT_P99, TCP, comparisons},
    comparison::{Comparison, Verdict},
    doubts::BUSY_MAX,
    format::{number, percent},
    run::Run,
    stats::Interval,
};

/// Figures that a sentence may be about, the most telling first.
const TOLD: [&str; 3] = [SHORT_P99, SHORT_P50, AVERAGE];

/// What a run found of Homa and TCP, with the conditions in front; what it did not find, if that is
/// the outcome.
pub(crate) fn outcome(run: &Run) -> String {
    let conditions = run.document.conditions();
    let all = comparisons(run, TCP);
    let Some((_, found)) = all.first() else {
        return match run.transports.iter().all(|transport| transport.document.summary.rpcs == 0) {
            true => format!("{conditions}: nothing was measured."),
            false => format!("{conditions}: measured without a comparison of Homa with TCP."),
        };
    };
    let told =
        TOLD.iter().find_map(|name| found.iter().find(|one| one.figure == *name && decided(one)));
    let sentence = told.map_or_else(|| nothing(found), difference);
    format!("{conditions}: {sentence}{}.", busy(run))
}

/// Whether a figure says who is better. Of P99, which is what Homa is for, also without an
/// interval, if it says so.
fn decided(found: &Comparison) -> bool {
    let sure = found.interval.is_some() || found.figure == SHORT_P99;
    sure && matches!(found.verdict, Verdict::Homa | Verdict::Other)
}

/// Who is better by how much.
fn difference(found: &Comparison) -> String {
    let homa = found.verdict == Verdict::Homa;
    let times = if homa { found.ratio } else { 1.0 / found.ratio };
    let word = match (found.figure, homa) {
        (AVERAGE, true) => "smaller",
        (AVERAGE, false) => "larger",
        (_, true) => "shorter",
        (_, false) => "longer",
    };
    let subject = match found.figure {
        SHORT_P99 => "the 99th percentile of Homa's short messages",
        SHORT_P50 => "the median of Homa's short messages",
        _ => "Homa's average slowdown",
    };
    let best = transport(&found.best);
    format!(
        "{subject} is {} times ({}) {word} than the best TCP's ({best})",
        number(times),
        trust(found)
    )
}

/// How far the factor can be trusted.
fn trust(found: &Comparison) -> String {
    match found.interval {
        Some(Interval { low, high }) if found.verdict == Verdict::Homa => {
            format!("95\u{a0}%: {} to {}", number(low), number(high))
        }
        Some(Interval { low, high }) => {
            format!("95\u{a0}%: {} to {}", number(1.0 / high), number(1.0 / low))
        }
        None => format!("of {} messages, too few for an interval", found.samples),
    }
}

/// Why no difference is told.
fn nothing(found: &[Comparison]) -> String {
    let why = found.iter().find(|one| one.figure == SHORT_P99).map(|one| match one.verdict {
        Verdict::TooFew => format!("short messages measured: {}", one.samples),
        Verdict::Undecided => "what is seen may be chance".to_owned(),
        _ => "what is seen is below what this network and machine tell apart".to_owned(),
    });
    let why = why.map_or(String::new(), |why| format!(" ({why})"));
    format!("no difference between Homa and TCP is resolved{why}")
}

/// A warning if the processors were what RPCs waited for.
fn busy(run: &Run) -> String {
    let busy = run.transports.iter().map(|transport| transport.document.summary.machine_busy);
    match busy.filter(|share| *share > BUSY_MAX).reduce(f64::max) {
        Some(share) => {
            format!(
                "; but the processors were busy for {} of the time, so they decide too",
                percent(share)
            )
        }
        None => String::new(),
    }
}

/// A transport as people call it: `CUBIC, 8 connections per pair of hosts`.
pub(crate) fn transport(name: &str) -> String {
    let (base, count) = match name.rsplit_once("-x") {
        Some((base, count)) if count.parse::<u32>().is_ok() => (base, Some(count)),
        _ => (name, None),
    };
    let base = match base {
        "homa-udp" => "Homa over UDP".to_owned(),
        "homa-ip" => "Homa over IP protocol 146".to_owned(),
        "quic" => "QUIC, a stream per RPC".to_owned(),
        "grpc" => "gRPC, unary calls".to_owned(),
        other => other.strip_prefix("tcp-").map_or(other.to_owned(), str::to_uppercase),
    };
    match count {
        Some(count) => format!("{base}, {count} connections per pair of hosts"),
        None if name.starts_with("tcp-") => format!("{base}, one connection per pair of hosts"),
        None => base,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transports_have_names_that_people_know() {
        for (name, words) in [
            ("tcp-cubic-x8", "CUBIC, 8 connections per pair of hosts"),
            ("tcp-bbr", "BBR, one connection per pair of hosts"),
            ("grpc-x2", "gRPC, unary calls, 2 connections per pair of hosts"),
            ("homa-udp", "Homa over UDP"),
        ] {
            assert_eq!(transport(name), words);
        }
    }
}
