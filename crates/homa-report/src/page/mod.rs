//! The page.

mod facts;
mod tables;

use std::path::Path;

use maud::{DOCTYPE, Markup, PreEscaped, html};

use crate::{
    chart::{Chart, Palette},
    doubts::doubts,
    format::time_us,
    plots,
    run::Run,
    sampled::LEVELS,
    study::{Part, Study, studies},
};

const STYLES: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// Nothing may be fetched from anywhere: what the page needs is in it.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'";

/// The whole page.
pub(crate) fn render(runs: &[Run], palette: &Palette, notes: &[String], out: &Path) -> String {
    let title = match runs {
        [only] => only.document.heading(),
        _ => format!("{} runs", runs.len()),
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
                title { (title) " – Homa report" }
                style { (PreEscaped(STYLES)) }
            }
            body {
                main {
                    @if runs.len() > 1 { (overview(runs, palette)) }
                    (list("notes", notes))
                    @for (number, run) in runs.iter().enumerate() {
                        (section(run, palette, number, out))
                    }
                }
                div id="readout" role="status" hidden {}
                script { (PreEscaped(SCRIPT)) }
            }
        }
    };
    page.into_string()
}

fn overview(runs: &[Run], palette: &Palette) -> Markup {
    let studies = studies(runs);
    html! {
        h1 { (runs.len()) " runs" }
        nav aria-label="Runs" {
            ol {
                @for (number, run) in runs.iter().enumerate() {
                    li { a href=(format!("#run-{number}")) { (run.document.heading()) } " " span.muted { (run.document.conditions()) } }
                }
            }
        }
        @for study in &studies { (study_section(study, palette)) }
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

fn section(run: &Run, palette: &Palette, number: usize, out: &Path) -> Markup {
    let document = &run.document;
    html! {
        section.run id=(format!("run-{number}")) {
            h1 { (document.heading()) @if document.interrupted { " " span.badge { "ended early" } } }
            p.conditions { (document.conditions()) }
            @if let Some(expect) = document.text("/expect") { p { strong { "Expected: " } (expect) } }
            @let published = document.published();
            @if !published.is_empty() {
                p { strong { "Published:" } }
                ul { @for text in published { li { (text) } } }
            }
            (tables::ratios(run))
            (list("doubts", &doubts(run)))
            (list("notes", &run.notes))
            (figures(run, palette))
            h2 { "All transports" }
            (tables::transports(run))
            (facts::all(run, out))
        }
    }
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
        h2 { "Slowdown by message size" }
        @match plots::slowdown(run, palette) {
            Some(chart) => {
                (figure(&chart, "Time of RPCs relative to the unloaded network, P99 (solid) and P50 (dashed), by size of the \
                    request. Sizes are spaced by their share of the messages. Lower is better."))
                (tables::slowdown(run))
            }
            None => p.missing { "Too few RPCs were measured for any percentile." }
        }
        h2 { "Short messages" }
        @match plots::tail(run, palette) {
            Some(chart) => (figure(&chart, "Tail of the times of short messages, the shortest 10 %: the share of them that took at \
                least as long. Further left is better.")),
            None => p.missing { "The run directory has no times of single RPCs." }
        }
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
    html! { figure { (chart.svg()) figcaption { (caption) } } }
}
