//! The page.

mod facts;
mod tables;

use std::path::Path;

use maud::{DOCTYPE, Markup, PreEscaped, html};

use crate::{
    chart::{Chart, Palette},
    document::{workload as workload_name, workload_origin},
    doubts::doubts,
    format::time_us,
    outcome::{self, outcome},
    plots,
    run::Run,
    sampled::LEVELS,
    study::{Part, Study, studies},
};

const STYLES: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// Nothing may be fetched from anywhere: what the page needs is in it.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'";

/// Runs that are read one after the other without a table of all in front.
const FEW: usize = 3;

/// The whole page.
pub(crate) fn render(runs: &[Run], palette: &Palette, notes: &[String], out: &Path) -> String {
    let title = match runs {
        [only] => format!("{}: {}", only.heading, only.document.conditions()),
        _ => heading(runs),
    };
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(POLICY);
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta name="generator" content=(concat!("homa ", env!("CARGO_PKG_VERSION")));
                title { (title) }
                style { (PreEscaped(STYLES)) }
            }
            body {
                main {
                    @if runs.len() > 1 { (overview(runs, palette)) }
                    (list("notes", notes))
                    @for (number, run) in runs.iter().enumerate() {
                        (section(run, palette, (number, studies(runs).is_empty()), out))
                    }
                    @if (2..=FEW).contains(&runs.len()) { (together(runs, palette)) }
                }
                div id="readout" role="status" hidden {}
                script { (PreEscaped(SCRIPT)) }
            }
        }
    };
    page.into_string()
}

/// What several runs have in common, and how many there are.
fn heading(runs: &[Run]) -> String {
    let title = |run: &Run| run.document.text("/title").map(str::to_owned);
    let first = runs.first().and_then(title);
    match first.filter(|first| runs.iter().all(|run| title(run).as_ref() == Some(first))) {
        Some(title) => format!("{title}: {} runs", runs.len()),
        None => format!("Homa and TCP side by side: {} runs", runs.len()),
    }
}

/// The outcome of each run; of many, also their studies and a table of all.
fn overview(runs: &[Run], palette: &Palette) -> Markup {
    html! {
        h1 { (heading(runs)) }
        nav aria-label="Runs" {
            ol.outcomes {
                @for (number, run) in runs.iter().enumerate() {
                    li { a href=(format!("#run-{number}")) { (run.heading) } br; (outcome(run)) }
                }
            }
        }
        @if runs.len() > FEW { (together(runs, palette)) }
    }
}

/// Studies, and a table of all runs.
fn together(runs: &[Run], palette: &Palette) -> Markup {
    html! {
        @for study in &studies(runs) { (study_section(study, palette)) }
        section {
            h2 { "Homa against the best variant of TCP, run by run" }
            (tables::runs(runs))
        }
    }
}

fn study_section(study: &Study<'_>, palette: &Palette) -> Markup {
    html! {
        section {
            h2 { (study.title) }
            @if let Some(expect) = study.expected() { p { strong { "Expected: " } (expect) } }
            @for (part, what) in [(Part::Short, "shortest"), (Part::Long, "longest")] {
                @if let Some(chart) = study.chart(part, palette) {
                    (figure(&chart, &format!("P99 slowdown of the {what} tenth of the messages against the setting that \
                        the plan changes. Lower is better.")))
                }
            }
            (tables::study(study))
            @let published = study.published();
            @if !published.is_empty() {
                h3 { "Published" }
                ul { @for text in published { li { (text) } } }
            }
        }
    }
}

/// A run, by its number; what it is expected to show is said here if it is `alone`, and in its
/// study otherwise.
fn section(run: &Run, palette: &Palette, (number, alone): (usize, bool), out: &Path) -> Markup {
    let document = &run.document;
    html! {
        section.run id=(format!("run-{number}")) {
            h1 { (run.heading) @if document.interrupted { " " span.badge { "ended early" } } }
            p.outcome { (outcome(run)) }
            (main_figure(run, palette))
            (list("doubts", &doubts(run)))
            (list("notes", &run.notes))
            (tables::ratios(run))
            @if let (Some(expect), true) = (document.text("/expect"), alone) { p { strong { "Expected: " } (expect) } }
            @let published = document.published();
            @if alone && !published.is_empty() {
                p { strong { "Published:" } }
                ul { @for text in published { li { (text) } } }
            }
            h2 { "All transports" }
            (tables::transports(run))
            (figures(run, palette))
            (facts::all(run, out))
        }
    }
}

/// The plot that a run is made for, with what newcomers must know of it.
fn main_figure(run: &Run, palette: &Palette) -> Markup {
    if plots::one_size(run) {
        return html! { (tail(run, palette)) (tables::slowdown(run)) };
    }
    let Some(chart) = plots::slowdown(run, palette) else {
        return html! { p.missing { "Too few RPCs were measured to draw slowdown by message size." } };
    };
    let reference = if run.relative_to_homa() { "Homa" } else { "the same transport" };
    html! {
        figure {
            (both(&chart))
            figcaption {
                p {
                    strong { "Slowdown" } " says how many times longer a message took to be sent and answered than " (reference)
                    " needs for that size on an idle network: 1 is perfect, 10 is ten times as long. Solid: one message in a hundred \
                    took longer than this (P99); dashed: half of them did (P50). Lower is better. The shortest messages are on the left; \
                    each tenth of the messages has the same room."
                }
                p {
                    @for (index, transport) in run.transports.iter().enumerate() {
                        @let name = &transport.document.name;
                        @if index > 0 { " · " } strong { (name) } ": " (outcome::transport(name))
                    } "."
                    @let workload = run.document.text("/load/workload");
                    @if let Some((name, origin)) = workload.and_then(|name| Some((workload_name(name), workload_origin(name)?))) {
                        " " strong { (name) } ": message sizes as in " (origin) "."
                    }
                }
                @if let Some(provenance) = run.document.provenance() { p { (provenance) } }
            }
        }
        (tables::slowdown(run))
    }
}

fn tail(run: &Run, palette: &Palette) -> Markup {
    let what = if plots::one_size(run) { "messages" } else { "short messages, the shortest 10 %" };
    match plots::tail(run, palette) {
        Some(chart) => figure(
            &chart,
            &format!(
                "Tail of the times of {what}: the share of them that took at least as long. Further left is better."
            ),
        ),
        None => html! { p.missing { "The run directory has no times of single RPCs." } },
    }
}

/// A chart for wide pages, and the same for narrow ones; styles show one of them.
fn both(chart: &Chart) -> Markup {
    html! { div.wide { (chart.svg()) } div.narrow aria-hidden="true" { (chart.narrow().svg()) } }
}

fn list(class: &str, items: &[String]) -> Markup {
    html! {
        @if !items.is_empty() {
            aside class=(class) {
                strong { @if class == "doubts" { "Read with care" } @else { "Notes" } }
                ul { @for item in items { li { (item) } } }
            }
        }
    }
}

fn figures(run: &Run, palette: &Palette) -> Markup {
    let queues = plots::queues(run);
    html! {
        @if !plots::one_size(run) { h2 { "Short messages" } (tail(run, palette)) }
        h2 { "Queues of the switch" }
        @if queues.is_empty() {
            p.missing { "The network did not tell the length of its queues." }
        } @else {
            figure {
                div.levels aria-hidden="true" {
                    @for level in (0..LEVELS).rev() { span.level { i class=(format!("swatch l{level}")) {} "level " (level) } }
                }
                div.grid { @for chart in &queues { (chart.svg()) } }
                figcaption { "Bytes waiting at a port towards a host, mean of all ports and rounds, by priority level; level 7 \
                    goes first." (looks(run)) }
            }
        }
        h2 { "Throughput" }
        @match plots::throughput(run, palette) {
            Some(chart) => (figure(&chart, "What the ports towards the hosts carried, mean of all hosts and rounds, headers included.")),
            None => p.missing { "The network did not tell what its ports carried." }
        }
    }
}

/// How often the queues were looked at, and by whom.
fn looks(run: &Run) -> String {
    match run.document.queue_looks {
        Some(looks) if looks.recorded => {
            format!(" The switch recorded them every {}, exactly.", time_us(looks.every_ms * 1e3))
        }
        Some(looks) => format!(
            " The kernel was asked for them every {}; what is longer for less than that may be missing.",
            time_us(looks.every_ms * 1e3)
        ),
        None => String::new(),
    }
}

fn figure(chart: &Chart, caption: &str) -> Markup {
    html! { figure { (both(chart)) figcaption { (caption) } } }
}
