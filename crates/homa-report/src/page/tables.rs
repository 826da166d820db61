//! Tables of results.

use maud::{Markup, html};

use crate::{
    compare::{Comparison, FAMILIES, TCP, Verdict, comparisons},
    format::{number, percent, size, thousands, time_us},
    run::Run,
    study::{Part, Study},
};

/// Homa against the best of TCP, with what to think of each difference.
pub(super) fn ratios(run: &Run) -> Markup {
    let all = FAMILIES.map(|family| (family.name, comparisons(run, family)));
    let is_empty = all.iter().all(|(_, comparisons)| comparisons.is_empty());
    html! {
        @if is_empty {
            p.missing { "No comparison: the run has no result of Homa, or none of another transport." }
        }
        @for (other, comparisons) in &all { @for (name, comparisons) in comparisons {
            h2 { (name) " against the best variant of " (other) }
            div.scroll { table.ratios {
                thead { tr {
                    th scope="col" { "figure" } th.n scope="col" { (name) } th.n scope="col" { "best " (other) } td {}
                    th.n scope="col" { "ratio" } th.n scope="col" { "single rounds" } td {}
                } }
                tbody { @for comparison in comparisons { (row(comparison)) } }
            } }
        } }
        @if !is_empty { p.muted {
            "The ratio says how many times better Homa is, each figure against the variant that is best in it. Short: the \
             shortest 10 % of the messages. P99 average: mean over ten size classes of the mean slowdown of their slowest 1 %."
        } }
    }
}

fn row(comparison: &Comparison) -> Markup {
    html! {
        tr class=(class(comparison.verdict)) {
            th scope="row" { (comparison.figure) }
            td.n { (comparison.homa) } td.n { (comparison.other) } td { (comparison.best) }
            td.n { strong { (ratio(comparison)) } }
            td.n { @if let Some((low, high)) = comparison.rounds { (number(low)) " to " (number(high)) } }
            td { (words(comparison.verdict)) }
        }
    }
}

fn ratio(comparison: &Comparison) -> String {
    match comparison.verdict {
        Verdict::Unresolved => "< resolution".to_owned(),
        _ => format!("{}×", number(comparison.ratio)),
    }
}

fn class(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Unresolved | Verdict::RoundsDisagree => "unresolved",
        Verdict::Homa => "better",
        Verdict::Other => "worse",
    }
}

fn words(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Unresolved => "below what this run tells apart",
        Verdict::RoundsDisagree => "rounds disagree",
        Verdict::Homa => "Homa is better",
        Verdict::Other => "the other is better",
    }
}

/// Everything that was measured of each transport.
pub(super) fn transports(run: &Run) -> Markup {
    html! {
        div.scroll { table.wide {
            thead {
                tr {
                    th rowspan="2" scope="col" { "transport" } th rowspan="2" scope="col" { "RPCs" }
                    th colspan="3" scope="colgroup" { "short messages" }
                    th colspan="2" scope="colgroup" { "slowdown" }
                    th rowspan="2" scope="col" { "goodput," br; "Mbit/s" } th rowspan="2" scope="col" { "carried" }
                    th rowspan="2" scope="col" { "not" br; "ended" } th rowspan="2" scope="col" { "sent" br; "again" }
                    th colspan="2" scope="colgroup" { "queue of a port" }
                    th rowspan="2" scope="col" { "CPU" br; "per RPC" } th rowspan="2" scope="col" { "machine" br; "busy" }
                }
                tr {
                    @for name in ["P50", "P99", "P99.9", "average", "P99 average", "mean", "longest"] { th scope="col" { (name) } }
                }
            }
            tbody { @for transport in &run.transports { @let s = &transport.document.summary; tr {
                th scope="row" { (transport.document.name) }
                td.n { (thousands(s.rpcs as f64)) }
                td.n { (time_us(s.short.p50_us)) } td.n { (time_us(s.short.p99_us)) } td.n { (time_us(s.short.p999_us)) }
                td.n { (number(s.slowdown().average)) } td.n { (number(s.slowdown().p99_average)) }
                td.n { (number(s.goodput_mbps)) } td.n { (percent(s.carried())) }
                td.n { (thousands((s.unfinished + s.failed) as f64)) }
                td.n { (sent_again(transport)) }
                td.n { (size(s.queue_mean_bytes)) } td.n { (size(s.queue_max_bytes as f64)) }
                td.n { (time_us(s.cpu_us_per_rpc)) } td.n { (percent(s.machine_busy)) }
            } } }
        } }
        p.muted {
            "Goodput: payload of requests and answers that ended in the measured time, per host and direction. Carried: goodput \
             over what was offered. CPU: time of the hosts' processes, kernel work in interrupts not included."
        }
        @let short = run.transports.iter().map(|transport| transport.document.summary.short_bytes_max).max();
        @if let Some(bytes) = short { p.muted { "Short messages have up to " (size(bytes as f64)) "." } }
    }
}

fn sent_again(transport: &crate::run::Measured) -> String {
    let summary = &transport.document.summary;
    match transport.document.is_homa() {
        true => size(summary.retransmitted_bytes as f64),
        false => format!("{}\u{a0}pkts", thousands(summary.retransmitted_packets as f64)),
    }
}

/// The numbers behind the plot.
pub(super) fn slowdown(run: &Run) -> Markup {
    html! {
        details {
            summary { "The plot's numbers" }
            @for transport in run.transports.iter().filter(|transport| !transport.figures.slowdown.is_empty()) {
                h3 { (transport.document.name) }
                div.scroll { table {
                    thead { tr { th.n scope="col" { "messages shorter" } th scope="col" { "sizes" } th.n scope="col" { "P50" } th.n scope="col" { "P99" } } }
                    tbody { @for bucket in &transport.figures.slowdown { tr {
                        td.n { (percent(bucket.share)) }
                        td { (size(bucket.sizes_bytes.0 as f64)) " to " (size(bucket.sizes_bytes.1 as f64)) }
                        td.n { (number(bucket.p50)) } td.n { (number(bucket.p99)) }
                    } } }
                } }
            }
        }
    }
}

/// The ratios of all runs, a row each.
pub(super) fn runs(runs: &[Run]) -> Markup {
    html! {
        div.scroll { table {
            thead { tr {
                th scope="col" { "run" } th scope="col" { "transport" }
                @for name in ["short P99", "short P50", "short P99.9", "average slowdown", "P99 average", "carried"] { th.n scope="col" { (name) } }
            } }
            tbody { @for (index, run) in runs.iter().enumerate() { @for (name, comparisons) in comparisons(run, TCP) { tr {
                th scope="row" { a href=(format!("#run-{index}")) { (run.document.heading()) } }
                td { (name) }
                @for comparison in &comparisons { td class=(format!("n {}", class(comparison.verdict))) title=(words(comparison.verdict)) { (ratio(comparison)) } }
            } } } }
        } }
        p.muted { "How many times better Homa is than the best variant of TCP. Grey: below what the run tells apart, or rounds that disagree." }
    }
}

/// What each setting of a study gave.
pub(super) fn study(study: &Study<'_>) -> Markup {
    html! {
        div.scroll { table {
            thead { tr {
                th scope="col" { (study.setting) } th scope="col" { "transport" } th.n scope="col" { "short P50" } th.n scope="col" { "short P99" }
                th.n scope="col" { "P99 slowdown, short" } th.n scope="col" { "long" } th.n scope="col" { "average slowdown" } th.n scope="col" { "carried" }
            } }
            tbody { @for (value, run) in study.runs() { @for transport in &run.transports { @let s = &transport.document.summary; tr {
                th scope="row" { (value) } td { (transport.document.name) }
                td.n { (time_us(s.short.p50_us)) } td.n { (time_us(s.short.p99_us)) }
                @for part in [Part::Short, Part::Long] { td.n { (number(part.p99(s).unwrap_or(f64::NAN))) } }
                td.n { (number(s.slowdown().average)) } td.n { (percent(s.carried())) }
            } } } }
        } }
    }
}
