//! What a reader needs to judge and repeat a run: plan, settings, network, machine, command, raw
//! data.

use std::path::{Component, Path, PathBuf};

use maud::{Markup, html};
use serde_json::Value;

use crate::{
    document::Document,
    format::{command, percent, time_us, trimmed},
    names::name,
    run::{DOCUMENT, QUEUES, RPCS, Run, THROUGHPUT},
};

/// Values of a table at most: a page is no dump of a damaged file.
const VALUES_MAX: usize = 300;

/// All facts of a run; `out` is where the page will be.
pub(super) fn all(run: &Run, out: &Path) -> Markup {
    let document = &run.document;
    html! {
        @if !document.command.is_empty() {
            h2 { "Repeat it" }
            pre { code { (command(&document.command)) } }
        }
        h2 { "Facts" }
        div.facts {
            (fidelity(run))
            (table("Derived from the network", &document.derived, true))
            (table("Machine", &document.machine, true))
            (table("Network", &document.network, false))
            (table("Plan", &document.plan, false))
        }
        h2 { "Raw data" }
        ul {
            @for (name, what) in [
                (DOCUMENT, "the run, its settings and summaries"),
                (RPCS, "every RPC"),
                (QUEUES, "queues of the switch over time"),
                (THROUGHPUT, "throughput of its ports over time"),
            ] {
                @let path = run.directory.join(name);
                @if path.exists() { li { a href=(link(&path, out)) { (name) } ": " (what) } }
                @else { li { (name) ": missing" } }
            }
        }
    }
}

fn fidelity(run: &Run) -> Markup {
    let document = &run.document;
    let (time, rate) = (document.resolution(), document.rate_resolution());
    html! {
        @if time.is_some() || rate.is_some() {
            details open {
                summary { "What this run tells apart" }
                @if let Some(resolution) = time { p {
                    "Differences of time below " strong { (time_us(resolution.us)) } " are not the transports'"
                    @if resolution.by_the_network {
                        ": so much do times of single datagrams spread, from P50 to P99. Of medians, those below "
                        strong { (time_us(resolution.median_us)) } "."
                    } @else { ": so much do the shortest unloaded RPCs spread, from P50 to P90." }
                } }
                @if let Some(share) = rate { p {
                    "Differences of throughput below " strong { (percent(share)) } " are not the transports': so exact are the links."
                } }
                @for sentence in measured(document) { p { (sentence) } }
                @if let Some(measured) = document.fidelity() { details { summary { "All figures of this" } (rows(measured)) } }
            }
        }
    }
}

/// What the network measured about itself before the load, and the machine while it was on, in
/// words.
fn measured(document: &Document) -> Vec<String> {
    let mut found = Vec::new();
    let number = |pointer: &str| document.fidelity()?.pointer(pointer)?.as_f64();
    let us = |pointer: &str| number(pointer).map(|ns| time_us(ns / 1e3));
    if let (Some(low), Some(high)) = (number("/rate_lowest"), number("/rate_highest")) {
        let (low, high) = (trimmed(100.0 * low, 2), trimmed(100.0 * high, 2));
        found.push(format!("Overloaded ports carried {low} to {high} % of their rate."));
    }
    if let (Some(p50), Some(p99)) = (us("/idle/p50_ns"), us("/idle/p99_ns")) {
        let overload = us("/top_level/p50_ns").zip(us("/top_level/p99_ns")).zip(us("/frame_ns"));
        let overload = overload.filter(|_| number("/top_level/count").is_some_and(|n| n > 0.0));
        let overload = overload.map_or(String::new(), |((p50, p99), frame)| {
            format!(
                "; at the highest level of an overloaded port {p50} (P99 {p99}), where one full packet takes {frame}"
            )
        });
        found.push(format!(
            "A short packet took {p50} (P99 {p99}) through the idle network, system calls included{overload}."
        ));
    }
    if let (Some(late), Some(p99), Some(share)) = (
        us("/machine/sleep_late/p50_ns"),
        us("/machine/sleep_late/p99_ns"),
        number("/machine/stalled_share"),
    ) {
        found.push(format!(
            "Timers of the idle machine were late by {late} (P99 {p99}), and it stood still for {} % of the time.",
            trimmed(100.0 * share, 2)
        ));
    }
    let waits = document.transports.iter().filter(|one| one.summary.machine_late_max_us > 0.0);
    let waits: Vec<String> = waits
        .map(|transport| {
            let summary = &transport.summary;
            let (p99, max) = (summary.machine_late_p99_us, summary.machine_late_max_us);
            format!("{} {} ({})", transport.name, time_us(p99), time_us(max))
        })
        .collect();
    if !waits.is_empty() {
        found.push(format!(
            "While the load was on, a program that wanted to run waited this long, P99 (longest): {}. Differences of tails \
             below that are not told apart either.",
            waits.join(", ")
        ));
    }
    found
}

fn table(title: &str, value: &Value, open: bool) -> Markup {
    html! {
        @if value.as_object().is_some_and(|object| !object.is_empty()) {
            details open[open] { summary { (title) } (rows(value)) }
        }
    }
}

fn rows(value: &Value) -> Markup {
    let mut found = Vec::new();
    flatten(value, String::new(), &mut found);
    html! {
        table.facts { tbody { @for (key, value) in found.iter().take(VALUES_MAX) { tr { th scope="row" { (name(key)) } td { (value) } } } } }
    }
}

fn flatten(value: &Value, name: String, found: &mut Vec<(String, String)>) {
    match value {
        Value::Object(object) => {
            for (key, value) in object {
                let name = if name.is_empty() { key.clone() } else { format!("{name}.{key}") };
                flatten(value, name, found);
            }
        }
        Value::Array(list) => {
            let parts: Vec<String> = list.iter().map(scalar).collect();
            found.push((name, parts.join(", ")));
        }
        other => found.push((name, scalar(other))),
    }
}

fn scalar(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "–".to_owned(),
        // Fifteen digits of a measured time say no more than four behind the point.
        Value::Number(number) if number.is_f64() => trimmed(number.as_f64().unwrap_or(f64::NAN), 4),
        other => other.to_string(),
    }
}

/// A file as the page's browser finds it: relative to the page where possible.
fn link(path: &Path, out: &Path) -> String {
    let absolute = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let (path, out) = (absolute(path), absolute(out));
    let base: Vec<Component<'_>> =
        out.parent().map(|base| base.components().collect()).unwrap_or_default();
    let parts: Vec<Component<'_>> = path.components().collect();
    let common = base.iter().zip(&parts).take_while(|(a, b)| a == b).count();
    let mut found = PathBuf::new();
    base[common..].iter().for_each(|_| found.push(".."));
    parts[common..].iter().for_each(|part| found.push(part));
    escape(&found.to_string_lossy())
}

/// Percent-encodes what has a meaning in a URL. What comes out never begins with a scheme.
fn escape(path: &str) -> String {
    let mut text = String::new();
    for byte in path.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' | b'/' => {
                text.push(char::from(byte));
            }
            byte => text.push_str(&format!("%{byte:02X}")),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn raw_data_is_linked_relative_to_the_page() {
        let found = |path: &str, out: &str| link(Path::new(path), Path::new(out));
        assert_eq!(found("/a/run/rpcs.csv", "/a/run/report.html"), "rpcs.csv");
        assert_eq!(found("/a/run/rpcs.csv", "/a/other/report.html"), "../run/rpcs.csv");
        assert_eq!(found("/a/javascript:x/b #1.csv", "/a/r.html"), "javascript%3Ax/b%20%231.csv");
    }
}
