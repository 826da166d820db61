//! Tables of results.

use maud::{Markup, html};

use crate::{
    compare::{FAMILIES, TCP, comparisons, slowdown as slowdown_in_words},
    comparison::{Comparison, Verdict},
    format::{number, percent, size, thousands},
    lines::{lines, short},
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
            @let rounds = comparisons.iter().any(|one| one.rounds.is_some());
            h2 { (name) " against the best variant of " (other) }
            div.scroll { table.ratios {
                thead { tr {
                    td {} th.n scope="col" { "times better" } th.n scope="col" { "95 %" }
                    th.n scope="col" { (name) } th.n scope="col" { "best " (other) } th scope="col" { "which" }
                    th.n scope="col" { "messages" } @if rounds { th.n scope="col" { "single rounds" } } td {}
                } }
                tbody { @for comparison in comparisons { (row(comparison, rounds)) } }
            } }
        } }
        @if !is_empty { p.muted {
            "Times better: how many times smaller Homa's figure is (of the load carried: larger), each against the variant that is best in \
             it. 95 %: where the factor lies if chance had drawn other messages of the same run (bootstrap over blocks of time); the \
             machine's and the network's own errors come on top. Messages: how many the figure is of. P99 average: mean over ten \
             classes of sizes of the mean slowdown of their slowest 1 %."
        } }
    }
}

fn row(comparison: &Comparison, rounds: bool) -> Markup {
    html! {
        tr class=(class(comparison.verdict)) {
            th scope="row" { (comparison.figure) }
            td.n { strong { (comparison.times()) } }
            td.n { (comparison.between()) }
            td.n { (comparison.homa()) } td.n { (comparison.other()) } td { (comparison.best()) }
            td.n { (thousands(comparison.samples as f64)) }
            @if rounds { td.n { @if let Some((low, high)) = comparison.rounds { (number(low)) " to " (number(high)) } } }
            td { (comparison.verdict.words()) }
        }
    }
}

fn class(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Homa => "better",
        Verdict::Other => "worse",
        _ => "unresolved",
    }
}

/// Everything that was measured of each transport.
pub(super) fn transports(run: &Run) -> Markup {
    html! {
        div.scroll { table.lines {
            thead { tr {
                td {}
                @for transport in &run.transports { th.n scope="col" {
                    (transport.document.name)
                    @if transport.document.summary.rpcs == 0 { br; span.muted { "not measured" } }
                } }
            } }
            tbody { @for line in lines(run) { tr {
                th scope="row" { (line.label) }
                @for cell in &line.cells { td.n {
                    (cell.value) @if let Some(interval) = &cell.interval { br; small { (interval) } }
                } }
            } } }
        } }
        p.muted {
            "Small: between these, 95 % of what chance would have given (bootstrap over blocks of time). “Too few”: P99 needs 100 \
             messages and P99.9 needs 1,000. Goodput: payload of requests and answers that ended in the measured time, per host and \
             direction. Processor time: of the hosts' processes, kernel work in interrupts not included."
        }
        @if let Some(words) = short(run) { p.muted { (words) } }
    }
}

/// The numbers behind the plot.
pub(super) fn slowdown(run: &Run) -> Markup {
    html! {
        details {
            summary { "The plot's numbers" }
            @for transport in run.transports.iter().filter(|transport| !transport.figures.slowdown.is_empty()) {
                @let own = run.is_own_reference(transport);
                h3 { (transport.document.name) }
                div.scroll { table {
                    thead { tr { th.n scope="col" { "messages shorter" } th scope="col" { "sizes" } th.n scope="col" { "P50" } th.n scope="col" { "P99" } } }
                    tbody { @for bucket in &transport.figures.slowdown { tr {
                        td.n { (percent(bucket.share)) }
                        td { (size(bucket.sizes_bytes.0 as f64)) " to " (size(bucket.sizes_bytes.1 as f64)) }
                        td.n { (slowdown_in_words(bucket.p50, own)) } td.n { (slowdown_in_words(bucket.p99, own)) }
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
                th scope="row" { a href=(format!("#run-{index}")) { (run.heading) } }
                td { (name) }
                @for comparison in &comparisons { td class=(format!("n {}", class(comparison.verdict))) title=(comparison.verdict.words()) {
                    (comparison.times()) @if !comparison.between().is_empty() { br; small { (comparison.between()) } }
                } }
            } } } }
        } }
        p.muted { "How many times better Homa is than the best variant of TCP. Small: 95 % of what chance would have given. Grey: too few messages, below what the run tells apart, or perhaps chance." }
    }
}

/// What each setting of a study gave.
pub(super) fn study(study: &Study<'_>) -> Markup {
    html! {
        div.scroll { table {
            thead { tr {
                th scope="col" { (study.setting) } th scope="col" { "transport" } th.n scope="col" { "short P50, ms" } th.n scope="col" { "short P99, ms" }
                th.n scope="col" { "P99 slowdown, short" } th.n scope="col" { "long" } th.n scope="col" { "average slowdown" } th.n scope="col" { "carried" }
            } }
            tbody { @for (value, run) in study.runs() { @for transport in &run.transports { @let (s, own) = (&transport.document.summary, run.is_own_reference(transport)); tr {
                th scope="row" { (value) } td { (transport.document.name) }
                td.n { (number(s.short.p50_us / 1e3)) } td.n { (number(s.short.p99_us / 1e3)) }
                @for part in [Part::Short, Part::Long] { td.n { (slowdown_in_words(part.p99(s).unwrap_or(f64::NAN), own)) } }
                td.n { (slowdown_in_words(s.slowdown().average, own)) } td.n { (percent(s.carried())) }
            } } } }
        } }
    }
}
