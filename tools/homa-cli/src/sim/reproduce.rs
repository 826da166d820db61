//! `homa sim reproduce`: published figures beside those of the simulation.

use std::{ops::RangeInclusive, path::Path};

use homa_bench::{plan::PlanError, settings::named, workload::Workload};
use homa_sim::{
    PortSummary,
    network::Network,
    plan::{self, Inputs, PointSpec, TrafficSpec},
    reproduce::{
        published::{self, Class, Slowdown},
        sigcomm18::{Messages, Row, rows},
    },
};
use serde::Serialize;

use super::{
    args::{RunOptions, Sigcomm18Args, TransportArg},
    out, picture,
    point::{Done, Point, Slow, Worst, simulate, unfinished},
    run_files,
    summary::{self, Summary, summary},
    table,
};
use crate::{error::CliError, interrupt, options::given, output};

/// Packets of data that a run makes, within bounds of messages: enough for the P99 of each class.
const PACKETS: f64 = 100e6;
const MESSAGES: RangeInclusive<u32> = 20_000..=5_000_000;
/// With `--quick`.
const PACKETS_QUICK: f64 = 3e6;
const MESSAGES_QUICK: RangeInclusive<u32> = 4_000..=200_000;

/// Lengths up to which messages count as short.
const SHORT_BYTES: u32 = 10_000;

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
    /// Measured as the published one: of Homa that of a host, in the mean over hosts.
    #[serde(flatten)]
    slowdown: Slowdown,
    /// Of the messages of all hosts together.
    pooled: Slowdown,
    messages: usize,
    published: Option<Slowdown>,
}

/// How far a workload is from what was published: the largest error in percent of rows of at least
/// 9 % of the messages each.
#[derive(Debug, Serialize)]
struct ErrorDocument {
    workload: String,
    transport: &'static str,
    mean_percent: Option<f64>,
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
    /// What `homa sim explain` begins with.
    inputs: Inputs,
}

/// Runs the command.
pub(crate) fn run(args: &Sigcomm18Args, json: bool) -> Result<(), CliError> {
    let points = args.workloads.iter().flat_map(|name| {
        let worst = Worst::new(args.worst, args.worst_max);
        let wanted = move |point| Point { worst, ..point };
        args.transports
            .iter()
            .map(move |transport| point(name, *transport, &args.options).map(wanted))
    });
    let points = points.collect::<Result<Vec<_>, _>>()?;
    out::check(args.out.as_deref())?;
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
    unfinished(&done)
}

/// Writes results, pictures, and the files of a run per workload.
fn write(out: &Path, document: &Document, done: &[Done<'_>]) -> Result<(), CliError> {
    // Transports of a workload follow each other.
    let workloads = || done.chunk_by(|a, b| a.point.name == b.point.name);
    let pictures = workloads().filter_map(|done| {
        let name = done[0].point.file_name();
        Some((out.join(format!("slowdown-{name}.svg")), picture::draw(done)?.into_bytes()))
    });
    out::write(out, document, pictures.collect())?;
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
pub(super) fn point(
    name: &str,
    transport: TransportArg,
    args: &RunOptions,
) -> Result<Point, CliError> {
    let of_file = || Workload::exact_file(name).map(Messages::of);
    let (sizes, messages) = match Messages::published(name) {
        Some(messages) => (format!("sigcomm18/{name}"), messages),
        None => (name.to_owned(), of_file()?),
    };
    let (packets, bounds, racks) = match args.quick {
        true => (PACKETS_QUICK, MESSAGES_QUICK, 1),
        false => (PACKETS, MESSAGES, 9),
    };
    let mut settings = toml::Table::new();
    for setting in &args.settings {
        named::merge(&mut settings, given(setting)?);
    }
    let count = args.messages.unwrap_or_else(|| messages.count(packets, bounds));
    let network = match &args.network {
        Some(path) => {
            Network::read(path).map_err(|error| CliError::Usage(format!("--network: {error}")))?
        }
        None => Network { racks: Some(args.racks.unwrap_or(racks)), ..Network::default() },
    };
    let spec = PointSpec {
        transport: transport.name().to_owned(),
        profile: args.profile.into(),
        pacing: args.pacing.into(),
        network,
        traffic: TrafficSpec { sizes: Some(sizes), ..TrafficSpec::default() },
        load: Some(args.load),
        messages: Some(count),
        seed: args.seed,
        homa: settings,
    };
    let point = plan::Point::new(name.to_owned(), Vec::new(), &spec, Path::new(""));
    let plan::Point { run, inputs, .. } = point.map_err(usage)?;
    let classes = classes(name, transport, &messages, args.load);
    Ok(Point { name: name.to_owned(), run, inputs, classes, worst: Worst::NONE })
}

/// What is wrong, in words of the command line.
fn usage(error: PlanError) -> CliError {
    CliError::Usage(match &error {
        PlanError::Value { key, must_be, .. } => match key.strip_prefix("homa.") {
            Some(setting) => format!("--set: setting `{setting}` must be {must_be}"),
            None => format!("the {key} must be {must_be}"),
        },
        other => other.to_string(),
    })
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
        false => homa
            .into_iter()
            .map(|class| Class { published: None, each_host: None, ..class })
            .collect(),
    }
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
        slowdown: row.slowdown,
        pooled: row.pooled,
        messages: row.messages,
        published: row.class.published,
    };
    rows(&done.outcome.samples, classes).into_iter().map(document).collect()
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
        mean_percent: largest(&|row| Some(row.slowdown.mean? / row.class.published?.mean?)),
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
        inputs: done.point.inputs.clone(),
    }
}
