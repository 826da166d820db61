//! `homa sim reproduce buffers`: how much of a switch's buffer Homa, DCTCP and TCP use.

use std::{
    ops::ControlFlow,
    sync::{Mutex, PoisonError},
};

use homa_bench::results;
use homa_report::table::table;
use homa_sim::reproduce::buffers::{Point, Row, restricted, row, settings, unrestricted, unsteady};
use rayon::iter::{IntoParallelRefIterator, ParallelIterator};
use serde::Serialize;

use super::args::BuffersArgs;
use crate::{error::CliError, interrupt, output, progress::Progress, report::store};

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
    if let Some(out) = &args.out {
        results::try_directory(out).map_err(|error| CliError::File {
            action: "write results to",
            path: out.clone(),
            reason: error.to_string(),
        })?;
    }
    let (messages, parts) = match args.quick {
        true => (MESSAGES_QUICK, &PARTS_QUICK[..]),
        false => (MESSAGES, &PARTS[..]),
    };
    let (messages, seed) = (args.messages.unwrap_or(messages), args.seed);
    interrupt::watch(|| {});
    let threads = super::threads(args.threads);
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
    if let Some(out) = &args.out {
        let text = serde_json::to_vec_pretty(&document);
        let text = text.map_err(|error| CliError::Process(error.to_string()))?;
        for file in store(vec![(out.join("results.json"), text)])? {
            eprintln!("homa: wrote {}", file.display());
        }
    }
    Ok(())
}

/// Simulates all points, several at a time.
fn simulate(points: &[Point], threads: usize) -> Result<Vec<Row>, CliError> {
    let progress = Mutex::new((Progress::new(points.len() as u64), 0));
    let simulate = |point: &Point| {
        let follow = |_: &homa_sim::Moment<'_>| match interrupt::pressed() {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        };
        let outcome = point.run.run(follow);
        let outcome = outcome.map_err(|error| CliError::Usage(error.to_string()))?;
        let outcome = outcome.ok_or(CliError::Interrupted)?;
        let mut progress = progress.lock().unwrap_or_else(PoisonError::into_inner);
        progress.1 += 1;
        let done = progress.1;
        progress.0.show(done, point.study);
        let name = || format!("{} of {}", point.study, point.run.transport.name());
        row(point, &outcome).ok_or_else(|| CliError::Incomplete(name()))
    };
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
    let pool = pool.map_err(|error| CliError::Process(error.to_string()))?;
    let rows = pool.install(|| points.par_iter().map(simulate).collect());
    progress.lock().unwrap_or_else(PoisonError::into_inner).0.finish();
    rows
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
20 hosts, 25 Gbit/s, W5. Used: the most bytes that waited in the switch, and their mean over time;
published: what Linux used. Slowdown: of the smaller half of the messages, of all, in the mean.
";
