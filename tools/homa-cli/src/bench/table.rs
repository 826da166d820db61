//! The report as a table for people.

use std::{collections::BTreeSet, fmt::Write};

use homa_report::table::table;

use super::{
    args::BenchTest,
    distance::Distance,
    figure::shown,
    plan::LONG_BYTES,
    report::{Key, Ratio, Report, Row},
};
use crate::{
    latency::or_dash,
    transport::{Api, Protocol, TcpWrites},
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

/// Columns of a comparison, behind the transport and its rate, that hold words.
const COMPARED_WORDS: [usize; 3] = [0, 4, 5];

/// The whole report as text.
pub(crate) fn render(report: &Report) -> String {
    let mut text = format!("{}\n", report.machine.summary());
    let compared: Vec<&Row> =
        report.rows.iter().filter(|row| row.key.test == BenchTest::Compare).collect();
    for scene in compared.chunk_by(|one, next| scene(&one.key) == scene(&next.key)) {
        text.push_str(&comparison(report, scene));
    }
    let mut lines = Vec::new();
    for (index, row) in report.rows.iter().enumerate() {
        if row.key.test == BenchTest::Compare {
            continue;
        }
        if report.rows[..index].iter().all(|before| before.key != row.key) {
            lines.extend(lines_of(report, row));
        }
    }
    if !lines.is_empty() {
        text.push_str(&table(TITLES.map(str::to_owned).to_vec(), lines, &WORDS));
        text.push('\n');
    }
    text.push_str(&notes(report));
    text
}

/// What the transports of one comparison have in common.
fn scene(key: &Key) -> (Option<Distance>, Option<u64>, Option<u32>) {
    (key.cores, key.size_bytes, key.outstanding)
}

/// The transports of one comparison, a line each.
fn comparison(report: &Report, rows: &[&Row]) -> String {
    let Some(Row { key, .. }) = rows.first() else { return String::new() };
    // Long messages are compared by their bits.
    let is_long = key.size_bytes.is_some_and(|bytes| bytes >= LONG_BYTES);
    let (rate, title) = if is_long { ("gbit_per_s", "Gbit/s") } else { ("rpc_per_s", "calls/s") };
    let titles = [
        "transport",
        title,
        "CPU µs/call",
        "CPU µs/MB",
        &format!("Homa/it: {title} (min - max)"),
        "Homa/it: CPU (min - max)",
    ];
    let lines = rows.iter().map(|row| {
        let figure = |name| or_dash(row.figures.get(name).copied());
        let ratio = |metric| {
            let mut all = report.compared.iter().filter(|it| it.key == row.key);
            let ratio = all.find(|it| it.with == row.transport && it.metric == metric);
            ratio.map_or(String::new(), |it| spread(it.homa_over_other, it.min, it.max))
        };
        let cpu = "cpu_us_per_rpc";
        let figures = [figure(rate), figure(cpu), figure("cpu_us_per_mb")];
        let line = [contender(row)].into_iter().chain(figures).chain([ratio(rate), ratio(cpu)]);
        line.collect()
    });
    let table = table(titles.map(str::to_owned).to_vec(), lines.collect(), &COMPARED_WORDS);
    format!("{}:\n{table}\n", heading(report, rows))
}

/// Which comparison it is.
fn heading(report: &Report, rows: &[&Row]) -> String {
    let Some(Row { key, .. }) = rows.first() else { return String::new() };
    let size = key.size_bytes.map_or(String::new(), format_size);
    let outstanding = key.outstanding.unwrap_or(1);
    let tasks = rows.iter().find_map(|row| row.key.tasks);
    let tasks = tasks.filter(|tasks| *tasks < outstanding);
    let tasks = tasks.map_or(String::new(), |tasks| format!(" from {tasks} tasks"));
    let count = format_number(outstanding.into());
    format!("{size}, {count} outstanding{tasks}{}", elsewhere(report, key))
}

/// Where the cores were, in a run in which they were not always there.
fn elsewhere(report: &Report, key: &Key) -> String {
    let moved = report.rows.iter().any(|row| row.key.cores != key.cores);
    let text = key.cores.filter(|_| moved).map(Distance::text);
    text.map_or(String::new(), |text| format!(", {text}"))
}

/// A transport as it is used in a comparison.
fn contender(row: &Row) -> String {
    let name = match (row.transport, row.key.api) {
        (Protocol::Quic, _) => "QUIC (quinn)",
        (Protocol::Grpc, _) => "gRPC (tonic)",
        (Protocol::Tcp, Api::Tokio) => "TCP, tokio",
        (Protocol::Tcp, _) => "TCP, epoll",
        (_, Api::Tokio) => "Homa, tasks",
        _ => "Homa, one thread",
    };
    match row.conns {
        Some(count @ 2..) => format!("{name}, {count} connections"),
        _ => name.to_owned(),
    }
}

fn spread(median: f64, min: f64, max: f64) -> String {
    format!("{median:.2} ({min:.2} - {max:.2})")
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
        let mut line =
            if lines.is_empty() { names(report, row) } else { Default::default() }.to_vec();
        line.extend([figure.title.to_owned(), value(tcp), value(homa), ratio_text(ratio)]);
        line.push(ratio.map_or("", |ratio| ratio.better).to_owned());
        lines.push(line);
    }
    lines
}

fn names(report: &Report, row: &Row) -> [String; 5] {
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
        format!("{}{stock}{gathers}{}", key.test.name(), elsewhere(report, key)),
        size,
        format!("{}{spin}", key.wait),
        key.api.to_string(),
        key.outstanding.map_or("-".to_owned(), |count| count.to_string()),
    ]
}

fn ratio_text(ratio: Option<&Ratio>) -> String {
    ratio.map_or("-".to_owned(), |ratio| spread(ratio.homa_over_tcp, ratio.min, ratio.max))
}

fn notes(report: &Report) -> String {
    let mut text = String::new();
    let states = report.rows.iter().map(|row| row.key.cores).collect::<BTreeSet<_>>();
    let of_state = |cores| {
        let rows = report.rows.iter().filter(move |row| row.key.cores == cores);
        rows.map(|row| row.rounds).max().unwrap_or(0)
    };
    let rounds: usize = states.into_iter().map(of_state).sum();
    // Writing to a string cannot fail.
    let _ = writeln!(
        text,
        "Medians of {rounds} rounds; ratios are taken in each round. CPU: both processes together."
    );
    let compared = || report.rows.iter().filter(|row| row.key.test == BenchTest::Compare);
    if compared().next().is_some() {
        text.push_str(
            "Comparison: TCP through tokio has a task that writes all requests at hand together, TCP through epoll \
             one thread that writes\nall of a turn at once; Homa/it: Homa from tasks for tokio, QUIC and gRPC, from one \
             thread for epoll.\n",
        );
    }
    if compared().any(|row| row.transport == Protocol::Quic) {
        text.push_str("QUIC encrypts; the others do not.\n");
    }
    if let Some(reason) = &report.not_measured {
        let _ = writeln!(text, "QUIC and gRPC are not measured: {reason}");
    }
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
    fn what_users_compare_is_shown_before_all_else_with_homa_on_top() {
        let text = render(&report::tests::compared(&[Some(30.0)]));
        let at = |part: &str| text.find(part).unwrap_or_else(|| panic!("no {part} in {text}"));
        let order = [
            "cores share a cache (30 ns per hand-over)",
            "100 B, 1,000 outstanding from 16 tasks:",
            "Homa/it: calls/s",
            "Homa, tasks",
            "TCP, tokio",
            "gRPC (tonic)",
            "test ",
        ];
        assert!(order.map(at).is_sorted(), "{text}");
        let tcp = text.lines().find(|line| line.starts_with("TCP, tokio")).unwrap();
        assert!(tcp.contains("0.50 (0.50 - 0.50)"), "{tcp}");
        let homa = text.lines().find(|line| line.starts_with("Homa, tasks")).unwrap();
        assert!(!homa.contains('('), "{homa}");
    }

    #[test]
    fn rounds_with_the_cores_elsewhere_have_a_table_of_their_own() {
        let text = render(&report::tests::compared(&[Some(30.0), Some(120.0), Some(31.0)]));
        for heading in [
            "100 B, 1,000 outstanding from 16 tasks, cores share a cache:",
            "100 B, 1,000 outstanding from 16 tasks, cores are far apart:",
            "Medians of 3 rounds",
        ] {
            assert!(text.contains(heading), "{text}");
        }
    }

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
