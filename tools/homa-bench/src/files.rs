//! What a run leaves on disk; `docs/bench-files.md` describes the columns.

use std::{
    fs::{self, File},
    io::{self, BufWriter, Write},
    path::Path,
};

use homa_lab::Fidelity;
pub use homa_report::summary::SCHEMA;
use homa_report::{
    Findings, Sample,
    summary::{Looks, NotMeasured, TransportDocument},
};
use serde::Serialize;
use serde_json::{Value, json};

use crate::{
    machine::{Machine, Provenance},
    metrics::Summaries,
    plan::Plan,
    run::{Found, Outcome},
    settings::named,
    spec::Status,
    transport::Transport,
};

/// A run as one JSON document, without its RPCs and samples.
#[derive(Debug, Serialize)]
pub struct RunDocument<'a> {
    /// Layout of the document.
    schema: u32,
    /// What was to be compared.
    plan: &'a Plan,
    /// Name of the variant, if the plan has several.
    variant: &'a str,
    /// When, where and by which program; `command` repeats it.
    #[serde(flatten)]
    provenance: Provenance,
    /// The machine.
    machine: Machine,
    /// The network.
    network: Value,
    /// What was derived from the network.
    derived: Value,
    /// What the network measured about itself before the run.
    fidelity: Option<&'a Fidelity>,
    /// How the queues of the switch were looked at.
    queue_looks: Option<Looks>,
    /// Whether it was interrupted.
    interrupted: bool,
    /// Results, in the order of the plan.
    transports: Vec<TransportDocument>,
    /// Transports without result, and why.
    not_measured: &'a [NotMeasured],
    /// What they say, and how far that can be trusted.
    #[serde(skip)]
    findings: Option<Findings>,
}

/// Puts the document of a run together.
pub fn document<'a>(
    plan: &'a Plan,
    variant: &'a str,
    network: Value,
    outcome: &'a Outcome,
    summaries: &'a Summaries,
    not_measured: &'a [NotMeasured],
) -> RunDocument<'a> {
    let unloaded = |name: &Transport| {
        let found = outcome.found.iter().find(|(other, _)| other == name);
        found.map_or_else(Vec::new, |(_, found)| found.unloaded.clone())
    };
    let transports = summaries.iter().map(|(name, summary)| TransportDocument {
        name: name.to_string(),
        summary: summary.clone(),
        unloaded: unloaded(name),
        against: Vec::new(),
    });
    let mut document = RunDocument {
        schema: SCHEMA,
        plan,
        variant,
        provenance: Provenance::now(),
        machine: Machine::now(),
        network,
        derived: json!({
            "link": outcome.link,
            "homa": named::table(&outcome.homa),
            "rpc_per_s": outcome.rpc_per_s,
            "mean_message_bytes": outcome.sizes.mean_bytes(),
        }),
        fidelity: outcome.fidelity.as_ref(),
        queue_looks: outcome.looks,
        interrupted: outcome.interrupted,
        transports: transports.collect(),
        not_measured,
        findings: None,
    };
    document.compare(outcome);
    document
}

impl RunDocument<'_> {
    /// Finds out what the results say.
    fn compare(&mut self, outcome: &Outcome) {
        let names: Vec<&str> = self.transports.iter().map(|one| one.name.as_str()).collect();
        let measured = outcome.found.iter().filter_map(|(name, found)| {
            let name = name.to_string();
            Some((names.iter().position(|other| *other == name)?, found))
        });
        let samples = measured.flat_map(|(transport, found)| {
            found.rpcs.iter().map(move |rpc| Sample {
                transport,
                round: rpc.round,
                server: u64::from(rpc.server),
                size_bytes: rpc.size_bytes,
                start_ns: rpc.start_ns,
                latency_ns: rpc.latency_ns,
            })
        });
        // A document of ours is one that reports understand.
        let document = serde_json::to_value(&*self).ok();
        self.findings = document.and_then(|document| Findings::new(document, samples).ok());
        for transport in &mut self.transports {
            let against = self.findings.as_ref().map(|found| found.against(&transport.name));
            transport.against = against.unwrap_or_default();
        }
    }

    /// What the results say, and how far that can be trusted, for a terminal.
    pub fn text(&self) -> String {
        self.findings.as_ref().map_or_else(String::new, Findings::text)
    }
}

/// Writes a run's files into a directory, which is made.
///
/// # Errors
/// What the system says about directory or file.
pub fn write(directory: &Path, document: &RunDocument<'_>, outcome: &Outcome) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    let mut json = BufWriter::new(File::create(directory.join("run.json"))?);
    serde_json::to_writer_pretty(&mut json, document)?;
    json.flush()?;
    each(directory, "rpcs.csv", RPC_COLUMNS, outcome, rpcs)?;
    each(directory, "queues.csv", QUEUE_COLUMNS, outcome, queues)?;
    each(directory, "throughput.csv", THROUGHPUT_COLUMNS, outcome, throughput)
}

/// Columns of `rpcs.csv`.
pub const RPC_COLUMNS: &str = "transport,round,client,server,size_bytes,start_ns,latency_ns,status";
/// Columns of `queues.csv`.
pub const QUEUE_COLUMNS: &str = "transport,round,time_ns,port,level,bytes";
/// Columns of `throughput.csv`.
pub const THROUGHPUT_COLUMNS: &str = "transport,round,time_ns,host,rx_bps";

type Rows = fn(&mut dyn Write, &Transport, &Found) -> io::Result<()>;

fn each(
    directory: &Path,
    name: &str,
    columns: &str,
    outcome: &Outcome,
    rows: Rows,
) -> io::Result<()> {
    let mut file = BufWriter::new(File::create(directory.join(name))?);
    writeln!(file, "{columns}")?;
    for (transport, found) in &outcome.found {
        rows(&mut file, transport, found)?;
    }
    file.flush()
}

fn rpcs(file: &mut dyn Write, name: &Transport, found: &Found) -> io::Result<()> {
    for rpc in &found.rpcs {
        let status = match rpc.status {
            Status::Ok => "ok",
            Status::Failed => "failed",
            Status::Unfinished => "unfinished",
        };
        writeln!(
            file,
            "{name},{},{},{},{},{},{},{status}",
            rpc.round, rpc.client, rpc.server, rpc.size_bytes, rpc.start_ns, rpc.latency_ns
        )?;
    }
    Ok(())
}

fn queues(file: &mut dyn Write, name: &Transport, found: &Found) -> io::Result<()> {
    for sample in &found.queues {
        let (round, time_ns, port) = (sample.round, sample.time_ns, sample.port);
        writeln!(file, "{name},{round},{time_ns},{port},{},{}", sample.level, sample.bytes)?;
    }
    Ok(())
}

fn throughput(file: &mut dyn Write, name: &Transport, found: &Found) -> io::Result<()> {
    for sample in &found.throughput {
        let (round, time_ns, host) = (sample.round, sample.time_ns, sample.host);
        writeln!(file, "{name},{round},{time_ns},{host},{:.0}", sample.rx_bps)?;
    }
    Ok(())
}
