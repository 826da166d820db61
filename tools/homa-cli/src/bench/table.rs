//! The report as a table for people.

use std::fmt::Write;

use homa_report::table::table;

use super::{
    args::BenchTest,
    figure::shown,
    report::{Ratio, Report, Row},
};
use crate::{
    latency::or_dash,
    transport::{Protocol, TcpWrites},
    units::{format_number, format_size},
};

const TITLES: [&str; 10] = [
    "test",
    "size",
    "wait",
    "api",
    "calls",
    "figure",
    "tcp",
    "homa",
    "homa/tcp (min - max)",
    "better",
];

/// Columns that hold words.
const WORDS: [usize; 6] = [0, 2, 3, 5, 8, 9];

/// The whole report as text.
pub(crate) fn render(report: &Report) -> String {
    let mut lines = Vec::new();
    for (index, row) in report.rows.iter().enumerate() {
        if report.rows[..index].iter().all(|before| before.key != row.key) {
            lines.extend(lines_of(report, row));
        }
    }
    let table = table(TITLES.map(str::to_owned).to_vec(), lines, &WORDS);
    format!("{}\n{table}{}", report.machine.summary(), notes(report))
}

/// The lines of one case: one per figure, of which only the first names the case.
fn lines_of(report: &Report, row: &Row) -> Vec<Vec<String>> {
    let key = &row.key;
    let of = |is_tcp: bool| {
        let mut rows = report.rows.iter().filter(|row| row.key == *key);
        rows.find(|row| (row.transport == Protocol::Tcp) == is_tcp)
    };
    let (tcp, homa) = (of(true), of(false));
    let mut lines: Vec<Vec<String>> = Vec::new();
    for figure in shown(key.test, key.is_class()) {
        let value =
            |row: Option<&Row>| or_dash(row.and_then(|row| row.figures.get(figure.name).copied()));
        let mut ratios = report.ratios.iter().filter(|ratio| ratio.key == *key);
        let ratio = ratios.find(|ratio| ratio.metric == figure.name);
        let mut line = if lines.is_empty() { names(row) } else { Default::default() }.to_vec();
        line.extend([figure.title.to_owned(), value(tcp), value(homa), ratio_text(ratio)]);
        line.push(ratio.map_or("", |ratio| ratio.better).to_owned());
        lines.push(line);
    }
    lines
}

fn names(row: &Row) -> [String; 5] {
    let key = &row.key;
    let size = match (key.size_bytes, key.is_class()) {
        (Some(bytes), true) => format!("<= {}", format_size(bytes)),
        (Some(bytes), false) => format_size(bytes),
        (None, _) => "all".to_owned(),
    };
    let stock = if key.rcvbuf.is_some() { ", stock rcvbuf" } else { "" };
    let gathers = match key.tcp_writes {
        Some(TcpWrites::Gathered) => ", TCP gathers",
        Some(TcpWrites::Each) | None => "",
    };
    let spin = if key.spin == Some(false) { ", no spin" } else { "" };
    [
        format!("{}{stock}{gathers}", key.test.name()),
        size,
        format!("{}{spin}", key.wait),
        key.api.to_string(),
        row.outstanding.map_or("-".to_owned(), |count| count.to_string()),
    ]
}

fn ratio_text(ratio: Option<&Ratio>) -> String {
    ratio.map_or("-".to_owned(), |ratio| {
        format!("{:.2} ({:.2} - {:.2})", ratio.homa_over_tcp, ratio.min, ratio.max)
    })
}

fn notes(report: &Report) -> String {
    let mut text = String::new();
    let rounds = report.rows.iter().map(|row| row.rounds).max().unwrap_or(0);
    // Writing to a string cannot fail.
    let _ = writeln!(
        text,
        "\nMedians of {rounds} rounds; ratios are taken in each round. CPU: both processes together."
    );
    if let Some(offered) = report.rows.iter().find_map(|row| row.offered_rpc_per_s) {
        let offered = format_number(offered);
        let _ = writeln!(text, "Mixed workload: {offered} RPC/s offered to each transport.");
    }
    if report.rows.iter().any(|row| row.key.test == BenchTest::Latency) {
        text.push_str(
            "sleep: each in its default way of waiting; Homa looks for packets for a short time before it sleeps.\n",
        );
    }
    if report.rows.iter().any(|row| row.key.test == BenchTest::Rate) {
        text.push_str(
            "rate: TCP writes each message when it is made; TCP gathers: all messages at hand in one write.\n",
        );
    }
    for row in &report.rows {
        if let Some(count @ 1..) = row.unfinished {
            let _ = writeln!(
                text,
                "{}: {count} calls of the mixed workload did not end in time.",
                row.transport.name()
            );
        }
    }
    if report.machine.loadavg.is_some_and(|load| load > 0.5) {
        text.push_str("This machine was not idle before the benchmark: expect noise.\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::report;

    #[test]
    fn columns_line_up_and_every_figure_has_its_ratio() {
        let text = render(&report::tests::sample());
        let header = text.lines().find(|line| line.starts_with("test")).unwrap();
        let row = text.lines().find(|line| line.starts_with("rate")).unwrap();
        let end = |line: &str, word: &str| {
            line.find(word).map(|at| line[..at].chars().count() + word.chars().count())
        };
        assert_eq!(end(header, "  tcp"), end(row, "1,000"), "{text}");
        assert!(row.contains("100 B") && row.contains("64"), "{row}");
        assert!(text.contains("slowdown P99"), "{text}");
        assert!(text.contains("0.50 (0.50 - 0.50)"), "{text}");
    }
}
