//! A simulated workload as the files of a run, which `homa report` puts beside those of real
//! networks.

use std::{
    fs::{self, File},
    io::{self, BufWriter, Write},
    path::Path,
};

use homa_bench::{
    files::{QUEUE_COLUMNS, RPC_COLUMNS, SCHEMA, THROUGHPUT_COLUMNS},
    machine::{Machine, Provenance},
    settings::named,
};
use homa_report::{
    stats::{mean, quantile},
    summary::{Slowdown, Summary, Times, TransportDocument, UnloadedTime},
};
use homa_sim::{HostId, Message, PortKind, Time, summary::Sample};
use serde::Serialize;
use serde_json::{Value, json};

use super::point::Done;

/// Sizes that unloaded times are given of: each longer than the one before by so many parts of it.
const UNLOADED_STEP: u32 = 20;

/// A run as one JSON document, with the names that those of real networks have.
#[derive(Debug, Serialize)]
struct RunDocument {
    schema: u32,
    plan: Value,
    variant: &'static str,
    #[serde(flatten)]
    provenance: Provenance,
    machine: Machine,
    network: Value,
    derived: Value,
    transports: Vec<TransportDocument>,
}

/// Writes the files of a run into a directory, which is made. `done` are the transports that had
/// one workload.
pub(super) fn write(directory: &Path, done: &[&Done<'_>]) -> io::Result<()> {
    let Some(first) = done.first() else { return Ok(()) };
    fs::create_dir_all(directory)?;
    let mut json = BufWriter::new(File::create(directory.join("run.json"))?);
    serde_json::to_writer_pretty(&mut json, &document(first, done))?;
    json.flush()?;
    let file = |name: &str, columns: &str| {
        let mut file = BufWriter::new(File::create(directory.join(name))?);
        writeln!(file, "{columns}")?;
        io::Result::Ok(file)
    };
    let mut rpcs = file("rpcs.csv", RPC_COLUMNS)?;
    let mut queues = file("queues.csv", QUEUE_COLUMNS)?;
    let mut throughput = file("throughput.csv", THROUGHPUT_COLUMNS)?;
    for done in done {
        let name = done.point.run.transport.name();
        write_rpcs(&mut rpcs, done)?;
        done.series.write_queues(&mut queues, name)?;
        done.series.write_throughput(&mut throughput, name)?;
    }
    [rpcs, queues, throughput].iter_mut().try_for_each(Write::flush)
}

fn write_rpcs(out: &mut impl Write, done: &Done<'_>) -> io::Result<()> {
    let name = done.point.run.transport.name();
    let begin = begin(done);
    for (message, _) in counted(done) {
        let Message { from, to, bytes, begun, ended, .. } = message;
        let (start, latency) = (ns(begun.since(begin).as_ps()), ns(ended.since(*begun).as_ps()));
        writeln!(out, "{name},0,{},{},{bytes},{start},{latency},ok", from.0, to.0)?;
    }
    Ok(())
}

/// The messages that count, by size.
fn counted<'a>(done: &'a Done<'_>) -> impl Iterator<Item = (&'a Message, f64)> {
    let message = |sample: &Sample| &done.outcome.messages[sample.index as usize];
    done.outcome.samples.all().iter().map(move |sample| (message(sample), sample.slowdown))
}

/// When the first of them began.
fn begin(done: &Done<'_>) -> Time {
    counted(done).map(|(message, _)| message.begun).min().unwrap_or(Time::ZERO)
}

/// From the first begin to the last, in seconds.
fn seconds(done: &Done<'_>) -> f64 {
    let last = counted(done).map(|(message, _)| message.begun).max().unwrap_or(Time::ZERO);
    last.since(begin(done)).as_ps() as f64 / 1e12
}

fn ns(ps: u64) -> u64 {
    ps / 1_000
}

fn document(first: &Done<'_>, done: &[&Done<'_>]) -> RunDocument {
    let (point, run) = (first.point, &first.point.run);
    let homa = done.iter().find_map(|done| done.point.run.transport.homa());
    RunDocument {
        schema: SCHEMA,
        plan: json!({
            "title": format!("{}, simulated", point.name.to_uppercase()),
            "load": {
                "workload": point.name,
                "load": run.load,
                "warm_up": 0.0,
                "secs": seconds(first),
                "seed": run.seed,
            },
        }),
        variant: "",
        provenance: Provenance::now(),
        machine: Machine::now(),
        network: json!({ "kind": "simulated", "hosts": run.topology.hosts() }),
        derived: json!({
            "link": { "rate_mbps": run.topology.host_rate.mbps() },
            "homa": homa.map(named::table),
            "mean_message_bytes": run.sizes.mean_bytes(),
        }),
        transports: done.iter().map(|done| transport(done)).collect(),
    }
}

fn transport(done: &Done<'_>) -> TransportDocument {
    let outcome = &done.outcome;
    let found: Vec<(&Message, f64)> = counted(done).collect();
    // A tenth of the messages is short, with all that are as long as the longest of those.
    let boundary = found.get(found.len() / 10).map_or(0, |(message, _)| message.bytes);
    let short = found.partition_point(|(message, _)| message.bytes <= boundary);
    let payload: u64 = found.iter().map(|(message, _)| u64::from(message.bytes)).sum();
    let hosts = f64::from(done.point.run.topology.hosts());
    let mbps = payload as f64 * 8e-6 / seconds(done).max(f64::MIN_POSITIVE) / hosts;
    let ports = outcome.ports.iter().find(|ports| ports.kind == PortKind::RackDown);
    let summary = Summary {
        rpcs: found.len() as u64,
        unfinished: outcome.samples.unfinished as u64,
        failed: outcome.failed,
        offered_mbps: mbps,
        goodput_mbps: mbps,
        short: times(&found[..short]),
        short_bytes_max: boundary.into(),
        all: times(&found),
        slowdown_own: slowdown(&found),
        queue_max_bytes: ports.map_or(0, |ports| ports.queued_bytes_max),
        queue_mean_bytes: ports.map_or(0.0, |ports| ports.queued_bytes_mean),
        ..Summary::default()
    };
    let name = done.point.run.transport.name().to_owned();
    TransportDocument { name, summary, unloaded: unloaded(done), against: Vec::new() }
}

/// Times on the idle network between hosts that are as far apart as any two.
fn unloaded(done: &Done<'_>) -> Vec<UnloadedTime> {
    let run = &done.point.run;
    let last = HostId(run.topology.hosts() - 1);
    let longest = done.outcome.samples.all().last().map_or(1, |sample| sample.bytes);
    let sizes = std::iter::successors(Some(1_u32), |bytes| {
        let next = bytes.saturating_add((bytes / UNLOADED_STEP).max(1));
        (*bytes < longest).then_some(next.min(longest))
    });
    let time = |bytes| {
        let time = run.topology.idle_time(HostId(0), last, bytes, &done.outcome.packet_size);
        let ns = ns(time.as_ps());
        UnloadedTime { size_bytes: u64::from(bytes), min_ns: ns, p50_ns: ns, p90_ns: ns }
    };
    sizes.map(time).collect()
}

fn times(found: &[(&Message, f64)]) -> Times {
    let us = |message: &Message| message.ended.since(message.begun).as_ps() as f64 / 1e6;
    let mut times: Vec<f64> = found.iter().map(|(message, _)| us(message)).collect();
    times.sort_by(f64::total_cmp);
    let at = |share| quantile(&times, share).unwrap_or(f64::NAN);
    let (p50_us, p99_us, p999_us) = (at(0.5), at(0.99), at(0.999));
    Times { count: times.len() as u64, min_us: at(0.0), p50_us, p99_us, p999_us }
}

fn slowdown(found: &[(&Message, f64)]) -> Slowdown {
    let mut values: Vec<f64> = found.iter().map(|(_, slowdown)| *slowdown).collect();
    let average = mean(&values);
    values.sort_by(f64::total_cmp);
    let at = |share| quantile(&values, share).unwrap_or(f64::NAN);
    let (p50, p99, p999) = (at(0.5), at(0.99), at(0.999));
    Slowdown { average, p50, p99, p999, p99_average: f64::NAN }
}
