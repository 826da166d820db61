//! `homa sim reproduce buffers`: how much of a switch's buffer Homa, DCTCP and TCP use.

use homa_report::table::table;
use homa_sim::reproduce::buffers::{Point, Row, restricted, row, settings, unrestricted, unsteady};
use serde::Serialize;

use super::{
    args::BuffersArgs,
    out,
    simulate::{self, Job},
};
use crate::{error::CliError, interrupt, output};

/// Messages of a run.
const MESSAGES: u32 = 10_000;
/// With `--quick`.
const MESSAGES_QUICK: u32 = 1_000;
/// Parts of the used buffer that are left to a transport.
const PARTS: [f64; 4] = [0.8, 0.5, 0.25, 0.1];
/// With `--quick`.
const PARTS_QUICK: [f64; 1] = [0.5];

/// What is printed.
#[derive(Debug, Serialize)]
struct Document {
    messages: u32,
    seed: u64,
    rows: Vec<Row>,
}

/// Runs the command.
pub(crate) fn run(args: &BuffersArgs, json: bool) -> Result<(), CliError> {
    out::check(args.study.out.as_deref())?;
    let (messages, parts) = match args.quick {
        true => (MESSAGES_QUICK, &PARTS_QUICK[..]),
        false => (MESSAGES, &PARTS[..]),
    };
    let (messages, seed) = (args.messages.unwrap_or(messages), args.study.seed);
    interrupt::watch(|| {});
    let threads = super::threads(args.study.threads);
    let mut rows = simulate(&unrestricted(messages, seed), threads)?;
    let mut points = unsteady(messages, seed);
    points.extend(restricted(&rows, parts, messages, seed));
    if !args.quick {
        points.extend(settings(messages, seed));
    }
    rows.extend(simulate(&points, threads)?);
    let document = Document { messages, seed, rows };
    match json {
        true => output::document(&document)?,
        false => output::bytes(render(&document).as_bytes())?,
    }
    args.study.out.as_ref().map_or(Ok(()), |out| out::write(out, &document, Vec::new()))
}

/// Simulates all points, several at a time.
fn simulate<'a>(points: &'a [Point], threads: usize) -> Result<Vec<Row>, CliError> {
    let name = |point: &Point| format!("{} of {}", point.study, point.run.transport.name());
    let job = |point: &'a Point| Job { name: name(point), run: &point.run };
    let jobs: Vec<_> = points.iter().map(job).collect();
    let rows = simulate::simulate(&jobs, threads, |index, show| {
        let point = &points[index];
        let outcome = point.run.run(|moment| show(moment.part));
        let outcome = outcome.map_err(|error| CliError::Usage(error.to_string()))?;
        let Some(outcome) = outcome else { return Ok(None) };
        row(point, &outcome).map(Some).ok_or_else(|| CliError::Incomplete(name(point)))
    });
    match rows.waited_for()? {
        rows if rows.len() == points.len() => Ok(rows),
        _ => Err(CliError::Interrupted),
    }
}

fn render(document: &Document) -> String {
    let header = [
        "study",
        "hosts speak",
        "with",
        "load",
        "buffer",
        "used",
        "published",
        "mean",
        "busy",
        "dropped",
        "P99 short",
        "P99",
        "mean",
    ];
    let megabytes = |bytes: f64| format!("{:.2} MB", bytes / 1e6);
    let cells = |row: &Row| {
        vec![
            row.study.to_owned(),
            row.transport.to_owned(),
            row.setting.clone(),
            format!("{:.0} %", 100.0 * row.load),
            megabytes(row.buffer_bytes as f64),
            megabytes(row.used_bytes_max as f64),
            row.published_bytes.map_or_else(String::new, |bytes| megabytes(bytes as f64)),
            megabytes(row.used_bytes_mean),
            format!("{:.0} %", 100.0 * row.utilization),
            row.dropped_packets.to_string(),
            format!("{:.2}", row.slowdown_p99_short),
            format!("{:.2}", row.slowdown_p99),
            format!("{:.2}", row.slowdown_mean),
        ]
    };
    let rows = document.rows.iter().map(cells).collect();
    let table = table(header.map(str::to_owned).to_vec(), rows, &[]);
    format!("{table}{NOTE}")
}

/// What the columns mean.
const NOTE: &str = "
20 hosts, 25 Gbit/s, calls of W5 up to 1 MB. Used: the most bytes that waited in the switch, and their mean over time;
published: what Linux used. Slowdown: of the shorter half of the calls, of all, in the mean.
";
