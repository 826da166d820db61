//! `homa sim reproduce`: published figures beside those of the simulation.

use std::{
    collections::HashMap,
    ops::{ControlFlow, RangeInclusive},
    path::Path,
    sync::{Mutex, PoisonError},
    time::Instant,
};

use homa_bench::{results, settings::named, workload::Workload};
use homa_sim::{
    PortSummary, SetupError,
    reproduce::{
        published::{self, Class, Slowdown},
        sigcomm18::{self, Messages, Profile, Row, rows},
    },
};
use rayon::iter::{IndexedParallelIterator, IntoParallelRefIterator, ParallelIterator};
use serde::Serialize;

use super::{
    args::{PacingArg, Sigcomm18Args, TransportArg},
    picture,
    point::{Done, Point, Slow},
    run_files,
    series::Series,
    summary::{self, Summary, summary},
    table,
};
use crate::{
    error::CliError, interrupt, options::given, output, progress::Progress, report::store,
};

/// Packets of data that a run makes, within bounds of messages: enough for the P99 of each class.
const PACKETS: f64 = 100e6;
const MESSAGES: RangeInclusive<u32> = 20_000..=5_000_000;
/// With `--quick`.
const PACKETS_QUICK: f64 = 3e6;
const MESSAGES_QUICK: RangeInclusive<u32> = 4_000..=200_000;

/// Lengths up to which messages count as short.
const SHORT_BYTES: u32 = 10_000;

/// Steps of the bar per workload.
const STEPS: usize = 1000;

/// What is printed.
#[derive(Debug, Serialize)]
struct Document {
    rows: Vec<RowDocument>,
    errors: Vec<ErrorDocument>,
    summary: Vec<Summary>,
    runs: Vec<RunDocument>,
}

/// A class of messages of a workload.
#[derive(Debug, Serialize)]
struct RowDocument {
    workload: String,
    transport: &'static str,
    load: f64,
    message_bytes: u32,
    count_percent: f64,
    slowdown_p50: f64,
    slowdown_p99: f64,
    messages: usize,
    published: Option<Slowdown>,
}

/// How far a workload is from what was published: the largest error in percent of rows of at least
/// 9 % of the messages each.
#[derive(Debug, Serialize)]
struct ErrorDocument {
    workload: String,
    transport: &'static str,
    p50_percent: f64,
    p99_short_percent: Option<f64>,
    p99_long_percent: Option<f64>,
}

/// A simulated workload.
#[derive(Debug, Serialize)]
struct RunDocument {
    workload: String,
    transport: &'static str,
    hosts: u32,
    messages: u32,
    unfinished: usize,
    failed_calls: u64,
    seed: u64,
    settings: Option<toml::Table>,
    packets: u64,
    events: u64,
    seconds: f64,
    ports: Vec<PortSummary>,
    slowest: Vec<Slow>,
}

/// Runs the command.
pub(crate) fn run(args: &Sigcomm18Args, json: bool) -> Result<(), CliError> {
    let points = args.workloads.iter().flat_map(|name| {
        args.transports.iter().map(move |transport| point(name, *transport, args))
    });
    let points = points.collect::<Result<Vec<_>, _>>()?;
    if let Some(out) = &args.out {
        results::try_directory(out).map_err(|error| CliError::File {
            action: "write results to",
            path: out.clone(),
            reason: error.to_string(),
        })?;
    }
    interrupt::watch(|| {});
    let done = simulate(&points, super::threads(args.threads))?;
    // What was simulated is printed although the user did not wait for the rest.
    if !done.is_empty() {
        let document = document(&done);
        match json {
            true => output::document(&document)?,
            false => {
                let text = table::render(&done) + &summary::render(&document.summary);
                output::bytes(text.as_bytes())?;
            }
        }
        if let Some(out) = &args.out {
            write(out, &document, &done)?;
        }
    }
    if interrupt::pressed() {
        return Err(CliError::Interrupted);
    }
    match done.iter().find(|done| done.outcome.stuck || done.outcome.failed > 0) {
        None => Ok(()),
        Some(Done { point, outcome, .. }) => Err(CliError::Incomplete(format!(
            "{}: {} messages did not arrive, {} calls failed",
            point.name, outcome.samples.unfinished, outcome.failed
        ))),
    }
}

/// Writes results, pictures, and the files of a run per workload.
fn write(out: &Path, document: &Document, done: &[Done<'_>]) -> Result<(), CliError> {
    let text = serde_json::to_vec_pretty(document);
    let text = text.map_err(|error| CliError::Process(error.to_string()))?;
    let mut files = vec![(out.join("results.json"), text)];
    // Transports of a workload follow each other.
    let workloads = || done.chunk_by(|a, b| a.point.name == b.point.name);
    files.extend(workloads().filter_map(|done| {
        let name = done[0].point.file_name();
        Some((out.join(format!("slowdown-{name}.svg")), picture::draw(done)?.into_bytes()))
    }));
    for file in store(files)? {
        eprintln!("homa: wrote {}", file.display());
    }
    for workload in workloads() {
        let path = out.join(workload[0].point.file_name());
        run_files::write(&path, &workload.iter().collect::<Vec<_>>()).map_err(|error| {
            CliError::File { action: "write", path: path.clone(), reason: error.to_string() }
        })?;
    }
    eprintln!("homa: a page of all: homa report {}", out.display());
    Ok(())
}

/// What a workload and a transport of the command line need.
fn point(name: &str, transport: TransportArg, args: &Sigcomm18Args) -> Result<Point, CliError> {
    let of_file = || Workload::exact_file(name).map(Messages::of);
    let messages = Messages::published(name).map_or_else(of_file, Ok)?;
    let classes = classes(name, transport, &messages, args.load);
    let (packets, bounds, racks) = match args.quick {
        true => (PACKETS_QUICK, MESSAGES_QUICK, 1),
        false => (PACKETS, MESSAGES, 9),
    };
    let mut settings = toml::Table::new();
    for setting in &args.settings {
        named::merge(&mut settings, given(setting)?);
    }
    let config = Profile::from(args.profile)
        .config_with(&messages, args.pacing.into(), &settings)
        .map_err(|error| CliError::Usage(format!("--set: {error}")))?;
    let count = args.messages.unwrap_or_else(|| messages.count(packets, bounds));
    let racks = args.racks.unwrap_or(racks);
    let transport = messages.transport(transport.name(), config).expect("one of the evaluation");
    let mut run = sigcomm18::run(messages.sizes, transport, racks, args.load, count, args.seed);
    run.topology.nic_pulls &= args.pacing != PacingArg::Backlog;
    run.check().map_err(usage)?;
    let worst_max = u32::try_from(args.worst_max).unwrap_or(u32::MAX);
    let worst = (usize::from(args.worst), worst_max);
    Ok(Point { name: name.to_owned(), run, classes, worst })
}

/// The published classes of a transport, or those of Homa without their figures, or of the sizes.
fn classes(name: &str, transport: TransportArg, messages: &Messages, load: f64) -> Vec<Class> {
    let published = published::sigcomm18(transport.name(), name, load);
    if !published.is_empty() {
        return published;
    }
    let homa = published::sigcomm18(TransportArg::Homa.name(), name, load);
    match homa.is_empty() {
        true => published::unpublished(&messages.sizes),
        false => homa.into_iter().map(|class| Class { published: None, ..class }).collect(),
    }
}

/// Simulates all points, several at a time. Those that the user does not wait for are left out.
fn simulate(points: &[Point], threads: usize) -> Result<Vec<Done<'_>>, CliError> {
    let parts = Mutex::new((Progress::new((points.len() * STEPS) as u64), vec![0.0; points.len()]));
    let show = |index: usize, part: f64| {
        let mut parts = parts.lock().unwrap_or_else(PoisonError::into_inner);
        parts.1[index] = part;
        let steps = parts.1.iter().sum::<f64>() * STEPS as f64;
        parts.0.show(steps as u64, &points[index].name);
        if interrupt::pressed() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let simulate = |(index, point): (usize, &Point)| {
        let begun = Instant::now();
        let mut series = Series::default();
        let outcome = point.run.run(|moment| {
            series.look(moment);
            show(index, moment.part)
        });
        let Some(outcome) = outcome.map_err(usage)? else { return Ok(None) };
        let took = begun.elapsed();
        let worst = point.worst_of(&outcome);
        if worst.is_empty() {
            return Ok(Some((outcome, took, series, HashMap::new())));
        }
        // A second run, which is the same, follows them.
        let again = point.run.explain(&worst, |moment| show(index, moment.part));
        let again = again.map_err(usage)?;
        Ok(again.map(|again| (outcome, took, series, again.journeys)))
    };
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
    let pool = pool.map_err(|error| CliError::Process(error.to_string()))?;
    let outcomes: Result<Vec<_>, CliError> =
        pool.install(|| points.par_iter().enumerate().map(simulate).collect());
    parts.lock().unwrap_or_else(PoisonError::into_inner).0.finish();
    let done = points.iter().zip(outcomes?);
    Ok(done
        .filter_map(|(point, outcome)| {
            let (outcome, took, series, journeys) = outcome?;
            Some(Done { point, outcome, took, series, journeys })
        })
        .collect())
}

fn usage(error: SetupError) -> CliError {
    CliError::Usage(error.to_string())
}

fn document(done: &[Done<'_>]) -> Document {
    Document {
        rows: done.iter().flat_map(row_documents).collect(),
        errors: done.iter().filter_map(error_document).collect(),
        summary: summary(done),
        runs: done.iter().map(run_document).collect(),
    }
}

fn row_documents(done: &Done<'_>) -> Vec<RowDocument> {
    let Point { name, run, classes, .. } = done.point;
    let document = |row: Row| RowDocument {
        workload: name.clone(),
        transport: run.transport.name(),
        load: run.load,
        message_bytes: row.class.message_bytes,
        count_percent: row.class.count_percent,
        slowdown_p50: row.slowdown.p50,
        slowdown_p99: row.slowdown.p99,
        messages: row.messages,
        published: row.class.published,
    };
    rows(&done.outcome.samples, classes, 0.0).into_iter().map(document).collect()
}

/// The largest error; nothing if nothing was published.
fn error_document(done: &Done<'_>) -> Option<ErrorDocument> {
    let rows = done.rows();
    let largest = |of: &dyn Fn(&Row) -> Option<f64>| {
        let errors = rows.iter().filter_map(of).map(|ratio| 100.0 * (ratio - 1.0));
        errors.max_by(|a, b| a.abs().total_cmp(&b.abs()))
    };
    let p99 = |row: &Row| Some(row.slowdown.p99 / row.class.published?.p99);
    let is_short = |row: &Row| row.class.message_bytes <= SHORT_BYTES;
    Some(ErrorDocument {
        workload: done.point.name.clone(),
        transport: done.point.run.transport.name(),
        p50_percent: largest(&|row| Some(row.slowdown.p50 / row.class.published?.p50))?,
        p99_short_percent: largest(&|row| p99(row).filter(|_| is_short(row))),
        p99_long_percent: largest(&|row| p99(row).filter(|_| !is_short(row))),
    })
}

fn run_document(done: &Done<'_>) -> RunDocument {
    let Point { name, run, .. } = done.point;
    let outcome = &done.outcome;
    RunDocument {
        workload: name.clone(),
        transport: run.transport.name(),
        hosts: run.topology.hosts(),
        messages: run.messages,
        unfinished: outcome.samples.unfinished,
        failed_calls: outcome.failed,
        seed: run.seed,
        settings: run.transport.homa().map(named::table),
        packets: outcome.counts.packets,
        events: outcome.counts.events,
        seconds: done.took.as_secs_f64(),
        ports: outcome.ports.clone(),
        slowest: done.slowest(),
    }
}
