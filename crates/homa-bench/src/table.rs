//! What a run found, for people.

use std::fmt::Write;

use crate::{metrics::Summary, run::Outcome, settings::HomaSettings, transport::Transport};

/// Summaries by transport, in the order of the plan.
pub type Summaries = [(Transport, Summary)];

/// The tables of a run.
pub fn render(outcome: &Outcome, summaries: &Summaries) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = header(&mut text, outcome);
    let _ = overview(&mut text, summaries);
    let _ = ratios(&mut text, summaries);
    let _ = by_size(&mut text, summaries);
    let _ = failures(&mut text, summaries);
    text
}

/// Homa against the best of some other transports.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Ratios {
    /// The others' lowest P99 of short messages over Homa's.
    pub short_p99: f64,
    /// The others' lowest P50 of short messages over Homa's.
    pub short_p50: f64,
    /// The others' lowest average slowdown (against Homa's unloaded time) over Homa's.
    pub average_slowdown: f64,
    /// Homa's goodput over what was offered.
    pub homa_carried: f64,
    /// The highest share of the offered payload that one of the others carried.
    pub other_carried: f64,
}

/// Compares a Homa transport with the best of those that `with` holds for, such as all variants of TCP; each figure with
/// the best of its own. `None` if one side has no result.
pub fn compare(
    homa: &Summary,
    summaries: &Summaries,
    with: impl Fn(&Transport) -> bool,
) -> Option<Ratios> {
    let others: Vec<&Summary> = summaries
        .iter()
        .filter(|(name, summary)| with(name) && summary.rpcs > 0)
        .map(|(_, summary)| summary)
        .collect();
    let least =
        |value: fn(&Summary) -> f64| others.iter().map(|summary| value(summary)).reduce(f64::min);
    let slowdown =
        |summary: &Summary| summary.slowdown_homa.unwrap_or(summary.slowdown_ideal).average;
    if homa.rpcs == 0 {
        return None;
    }
    Some(Ratios {
        short_p99: least(|summary| summary.short.p99_us)? / homa.short.p99_us,
        short_p50: least(|summary| summary.short.p50_us)? / homa.short.p50_us,
        average_slowdown: least(slowdown)? / slowdown(homa),
        homa_carried: homa.goodput_mbps / homa.offered_mbps,
        other_carried: others
            .iter()
            .map(|other| other.goodput_mbps / other.offered_mbps)
            .reduce(f64::max)?,
    })
}

fn header(text: &mut String, outcome: &Outcome) -> std::fmt::Result {
    let link = &outcome.link;
    writeln!(
        text,
        "links of {} Mbit/s, round trip {:.0} us, timers {:.0} us late; {:.1} RPC/s per calling host, mean {:.0} bytes",
        link.rate_mbps,
        link.rtt_us,
        link.timer_us,
        outcome.rpc_per_s,
        outcome.sizes.mean_bytes()
    )?;
    let homa: &HomaSettings = &outcome.homa;
    writeln!(
        text,
        "Homa: unscheduled {} B, window {} B, max incoming {} B, overcommitment {}, backlog {} us, levels {}, cutoffs {:?}\n",
        homa.unscheduled_bytes,
        homa.window_bytes,
        homa.max_incoming_bytes,
        homa.max_overcommit,
        homa.max_nic_backlog_us,
        homa.num_priorities,
        homa.cutoffs
    )
}

fn overview(text: &mut String, summaries: &Summaries) -> std::fmt::Result {
    writeln!(
        text,
        "{:<14} {:>7} {:>9} {:>9} {:>10} {:>8} {:>8} {:>8} {:>8} {:>8} {:>6} {:>6} {:>8} {:>7} {:>5}",
        "transport",
        "RPCs",
        "short P50",
        "P99 us",
        "P99.9",
        "avg slow",
        "(own)",
        "(ideal)",
        "P99avg",
        "goodput",
        "carr.",
        "unfin",
        "retrans",
        "queue",
        "CPU"
    )?;
    for (name, s) in summaries {
        writeln!(
            text,
            "{:<14} {:>7} {:>9.0} {:>9.0} {:>10.0} {:>8.2} {:>8.2} {:>8.2} {:>8.1} {:>8.2} {:>5.0}% {:>6} {:>8} {:>6.0}k {:>4.0}%",
            name.to_string(),
            s.rpcs,
            s.short.p50_us,
            s.short.p99_us,
            s.short.p999_us,
            s.slowdown_homa.map_or(f64::NAN, |slowdown| slowdown.average),
            s.slowdown_own.average,
            s.slowdown_ideal.average,
            s.slowdown_homa.unwrap_or(s.slowdown_ideal).p99_average,
            s.goodput_mbps,
            100.0 * s.goodput_mbps / s.offered_mbps.max(1e-9),
            s.unfinished + s.failed,
            if name.is_homa() { s.retransmitted_bytes / 1_400 } else { s.retransmitted_packets },
            s.queue_mean_bytes / 1e3,
            100.0 * s.machine_busy.unwrap_or(f64::NAN),
        )?;
    }
    writeln!(
        text,
        "short = shortest 10 % of messages (up to {} B); slowdown against Homa's unloaded time, (own), (ideal); goodput in\nMbit/s of payload per host and direction; retransmitted packets; mean queue of a port in kB; share of all cores used\n",
        summaries.first().map_or(0, |(_, summary)| summary.short_bytes_max)
    )
}

fn ratios(text: &mut String, summaries: &Summaries) -> std::fmt::Result {
    for (name, homa) in summaries.iter().filter(|(name, _)| name.is_homa()) {
        if let Some(found) = compare(homa, summaries, Transport::is_tcp) {
            ratio(text, ("best TCP", "TCP"), name, &found)?;
        }
        for (peer, _) in summaries.iter().filter(|(name, _)| name.is_peer()) {
            if let Some(found) = compare(homa, summaries, |other| other == peer) {
                let peer = peer.to_string();
                ratio(text, (&peer, &peer), name, &found)?;
            }
        }
    }
    writeln!(text)
}

fn ratio(
    text: &mut String,
    (others, other): (&str, &str),
    homa: &Transport,
    ratios: &Ratios,
) -> std::fmt::Result {
    writeln!(
        text,
        "{others} over {homa}: short P99 {:.1}x, short P50 {:.1}x, average slowdown {:.1}x; carried of the offered: Homa {:.1} %, {other} {:.1} %",
        ratios.short_p99,
        ratios.short_p50,
        ratios.average_slowdown,
        100.0 * ratios.homa_carried,
        100.0 * ratios.other_carried
    )
}

fn by_size(text: &mut String, summaries: &Summaries) -> std::fmt::Result {
    let rows = summaries.iter().map(|(_, summary)| summary.deciles.len()).max().unwrap_or(0);
    write!(text, "{:<10}", "up to B")?;
    for (name, _) in summaries {
        write!(text, " {:>20}", name.to_string())?;
    }
    writeln!(text, "   slowdown P50 / P99 / P99.9")?;
    for row in 0..rows {
        let decile = |summary: &Summary| summary.deciles.get(row).cloned().unwrap_or_default();
        let size = summaries.first().map_or(0, |(_, summary)| decile(summary).size_bytes);
        write!(text, "{size:<10}")?;
        for (_, summary) in summaries {
            let decile = decile(summary);
            let s = decile.slowdown_homa.unwrap_or(decile.slowdown_ideal);
            write!(text, " {:>20}", format!("{:.1} / {:.1} / {:.0}", s.p50, s.p99, s.p999))?;
        }
        writeln!(text)?;
    }
    Ok(())
}

fn failures(text: &mut String, summaries: &Summaries) -> std::fmt::Result {
    for (name, summary) in summaries {
        for failure in &summary.failures {
            writeln!(text, "{name}: {failure}")?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::{Slowdown, Times};

    fn found(name: &str, short_p99_us: f64) -> (Transport, Summary) {
        let short = Times { p99_us: short_p99_us, p50_us: 10.0, ..Times::default() };
        let slowdown_ideal = Slowdown { average: 2.0, ..Slowdown::default() };
        let carried = (50.0, 40.0);
        let summary = Summary {
            rpcs: 1,
            short,
            slowdown_ideal,
            offered_mbps: carried.0,
            goodput_mbps: carried.1,
            ..Summary::default()
        };
        (name.parse().unwrap(), summary)
    }

    #[test]
    fn the_best_tcp_is_a_tcp_and_peers_are_compared_one_by_one() {
        let all = [
            found("homa-udp", 10.0),
            found("tcp-cubic", 500.0),
            found("tcp-bbr-x8", 300.0),
            found("quic", 200.0),
            found("grpc-x4", 50.0),
        ];
        let short_p99 = |with: &dyn Fn(&Transport) -> bool| {
            compare(&all[0].1, &all, with).map(|ratios| ratios.short_p99)
        };
        assert_eq!(short_p99(&Transport::is_tcp), Some(30.0));
        assert_eq!(short_p99(&|name| name.to_string() == "quic"), Some(20.0));
        assert_eq!(short_p99(&|name| name.to_string() == "quic-x2"), None);
        let mut text = String::new();
        ratios(&mut text, &all).unwrap();
        let lines: Vec<&str> = text.lines().map(|line| line.split(':').next().unwrap()).collect();
        assert_eq!(
            lines,
            ["best TCP over homa-udp", "quic over homa-udp", "grpc-x4 over homa-udp", ""]
        );
        assert!(text.contains("quic over homa-udp: short P99 20.0x"), "{text}");
    }
}
