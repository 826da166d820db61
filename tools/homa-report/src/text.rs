//! A run for a terminal: the outcome, the same tables as on the page, and what to read with care.

use std::fmt::Write;

use crate::{
    compare::{FAMILIES, comparisons, slowdown},
    comparison::Comparison,
    doubts::doubts,
    format::size,
    lines::{lines, short},
    run::{Measured, Run},
    table::table,
};

/// Width of lines of prose, in characters.
const WIDTH: usize = 110;

/// The whole text.
pub(crate) fn of(run: &Run) -> String {
    let mut text = String::new();
    paragraph(&mut text, "", &crate::outcome::outcome(run));
    let by_size = by_size(run);
    let tables = [Some(transports(run)), by_size].into_iter().flatten().chain(factors(run));
    for table in tables {
        // Writing to a String cannot fail.
        let _ = write!(text, "\n{table}");
    }
    items(&mut text, "Read with care", &doubts(run));
    items(&mut text, "Notes", &run.notes);
    text
}

fn names(run: &Run) -> impl Iterator<Item = String> {
    run.transports.iter().map(|transport| match transport.document.summary.rpcs {
        0 => format!("{} (not measured)", transport.document.name),
        _ => transport.document.name.clone(),
    })
}

fn transports(run: &Run) -> String {
    let header = [String::new()].into_iter().chain(names(run)).collect();
    let mut rows = Vec::new();
    for line in lines(run) {
        let intervals = line.cells.iter().map(|cell| cell.interval.clone().unwrap_or_default());
        let intervals: Vec<String> = intervals.collect();
        let values = line.cells.iter().map(|cell| cell.value.clone());
        rows.push([line.label.clone()].into_iter().chain(values).collect());
        if intervals.iter().any(|text| !text.is_empty()) {
            rows.push(["  95 %".to_owned()].into_iter().chain(intervals).collect());
        }
    }
    let short = short(run).map_or(String::new(), |words| format!("{words}\n"));
    format!("{}{short}", table(header, rows, &[0]))
}

/// Slowdown by size; `None` if nothing was measured.
fn by_size(run: &Run) -> Option<String> {
    let deciles = |transport: &Measured| {
        (transport.document.summary.deciles.clone(), run.is_own_reference(transport))
    };
    let all: Vec<_> = run.transports.iter().map(deciles).collect();
    let longest = all.iter().map(|one| &one.0).max_by_key(|deciles| deciles.len())?;
    let ends = longest.first().zip(longest.last());
    ends.filter(|(first, last)| first.size_bytes < last.size_bytes)?;
    let row = |(index, decile): (usize, &crate::summary::Decile)| {
        let cell = |(deciles, own): &(Vec<crate::summary::Decile>, bool)| {
            let found = deciles.get(index).map(|decile| decile.slowdown());
            found.map_or("–".to_owned(), |found| {
                format!("{} / {}", slowdown(found.p50, *own), slowdown(found.p99, *own))
            })
        };
        let first = format!("up to {}", size(decile.size_bytes as f64));
        [first].into_iter().chain(all.iter().map(cell)).collect()
    };
    let rows: Vec<Vec<String>> = longest.iter().enumerate().map(row).collect();
    rows.iter()
        .flat_map(|row| &row[1..])
        .find(|cell| cell.contains(|c: char| c.is_ascii_digit()))?;
    let first = "slowdown P50 / P99".to_owned();
    let header = [first].into_iter().chain(names(run)).collect();
    let relative =
        if run.relative_to_homa() { "Homa needs for it" } else { "the transport needs for it" };
    let note = format!(
        "Slowdown: how many times longer an RPC took than {relative} on the idle network. Each line is a tenth of the messages.\n"
    );
    Some(format!("{}{note}", table(header, rows, &[0])))
}

/// A table for each Homa and each protocol that it is compared with.
fn factors(run: &Run) -> impl Iterator<Item = String> {
    let all = FAMILIES.iter().flat_map(|family| comparisons(run, *family));
    all.filter_map(|(homa, found)| {
        let with = found.first()?.with;
        let header = ["", homa, &format!("best {with}"), "which", "times better", "95 %", "n", ""];
        let row = |one: &Comparison| {
            let samples = crate::format::thousands(one.samples as f64);
            let verdict = one.verdict.words().to_owned();
            let figure = one.figure.to_owned();
            let (homa, other, times) = (one.homa(), one.other(), one.times());
            vec![figure, homa, other, one.best().to_owned(), times, one.between(), samples, verdict]
        };
        let rows = found.iter().map(row).collect();
        Some(table(header.map(str::to_owned).to_vec(), rows, &[0, 3, 7]))
    })
}

fn items(text: &mut String, title: &str, items: &[String]) {
    if !items.is_empty() {
        let _ = writeln!(text, "\n{title}:");
    }
    for item in items {
        paragraph(text, "- ", item);
    }
}

/// Prose in lines of at most [`WIDTH`], further ones as far in as the first one's words.
fn paragraph(text: &mut String, before: &str, words: &str) {
    let mut line = before.to_owned();
    let indent = " ".repeat(before.len());
    for word in words.split(' ') {
        if line.chars().count() + word.chars().count() >= WIDTH && line.trim_start() != before {
            let _ = writeln!(text, "{}", line.trim_end());
            line.clone_from(&indent);
        }
        line.push_str(word);
        line.push(' ');
    }
    let _ = writeln!(text, "{}", line.trim_end());
}
