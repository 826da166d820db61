//! `homa bench cluster` and `homa bench plan`: transports side by side over a network of many hosts.

use std::{io, path::Path};

use homa_bench::{
    agent, files,
    metrics::summarise,
    network::{self, AgentCommand},
    plan::{NetworkKind, NetworkPlan, Plan, PlanFile},
    run,
    settings::LinkFacts,
    table,
};

use super::args::{BenchArgs, ClusterArgs, ClusterCommon, PlanArgs};
use crate::{error::CliError, interrupt, output, report};

/// The agent on a host.
pub(crate) fn agent() -> Result<(), CliError> {
    agent::run(io::BufReader::new(io::stdin()), io::stdout())
        .map_err(|error| CliError::Process(error.to_string()))
}

/// Runs one comparison.
pub(crate) fn run(args: &ClusterArgs, json: bool) -> Result<(), CliError> {
    let file = match &args.plan {
        Some(path) => PlanFile::read(path).map_err(|error| CliError::Usage(error.to_string()))?,
        None => PlanFile { variants: vec![(String::new(), Plan::default())] },
    };
    let mut variants = Vec::new();
    for (name, mut plan) in file.variants {
        change(&mut plan, args)?;
        plan.check().map_err(|error| CliError::Usage(error.to_string()))?;
        variants.push((name, plan));
    }
    run_all(&variants, &args.common, json)
}

/// Runs a plan file.
pub(crate) fn run_plan(args: &PlanArgs, json: bool) -> Result<(), CliError> {
    let file = PlanFile::read(&args.file).map_err(|error| CliError::Usage(error.to_string()))?;
    run_all(&file.variants, &args.common, json)
}

/// Runs the comparison of workloads W3 and W4 in a lab of this machine, in less than two minutes; `false`, with the
/// reason on the error output, if no lab can be built here.
pub(crate) fn run_default(args: &BenchArgs, json: bool) -> Result<bool, CliError> {
    let agent = AgentCommand::this_program(&["bench-host"])
        .map_err(|error| CliError::io("this program", &error))?;
    let mut variants = Vec::new();
    for workload in ["w3", "w4"] {
        let mut plan = Plan::default();
        let names = ["homa-udp", "tcp-cubic", "tcp-cubic-x8", "tcp-bbr-x8"];
        plan.title = "6 hosts, 100 Mbit/s, MTU 3,000, load 80 %".to_owned();
        // As in the published measurement of these workloads (`plans/goal.toml`).
        plan.network.mtu = 3000;
        plan.transports = names.iter().filter_map(|name| name.parse().ok()).collect();
        plan.load.workload = workload.to_owned();
        plan.load.secs = 5.0;
        plan.load.rounds = 1;
        variants.push((workload.to_owned(), plan));
    }
    // Only a lab that stands shows that one can be built.
    if let Some((_, plan)) = variants.first() {
        if let Err(error) = network::open(plan, &agent) {
            eprintln!("homa: no lab can be built here: {error}");
            return Ok(false);
        }
    }
    let common = ClusterCommon {
        out: args.out.clone(),
        report: true,
        ssh: String::new(),
        remote: String::new(),
    };
    run_all(&variants, &common, json).map(|()| true)
}

fn change(plan: &mut Plan, args: &ClusterArgs) -> Result<(), CliError> {
    fn set<T: Clone>(target: &mut T, value: &Option<T>) {
        if let Some(value) = value {
            *target = value.clone();
        }
    }
    let (network, load) = (&mut plan.network, &mut plan.load);
    set(&mut network.hosts, &args.hosts);
    set(&mut network.rate, &args.rate);
    set(&mut network.mtu, &args.mtu);
    set(&mut network.backend, &args.backend);
    set(&mut network.buffer, &args.buffer);
    set(&mut load.workload, &args.workload);
    set(&mut load.load, &args.load);
    set(&mut load.secs, &args.secs.map(|secs| secs.as_secs_f64()));
    set(&mut load.rounds, &args.rounds);
    set(&mut load.seed, &args.seed);
    if args.loopback {
        network.kind = NetworkKind::Loopback;
    }
    if !args.transports.is_empty() {
        plan.transports = args.transports.clone();
    }
    for setting in &args.settings {
        let table: toml::Table = toml::from_str(setting).map_err(|error| {
            CliError::Usage(format!("--set {setting}: KEY=VALUE is needed: {}", error.message()))
        })?;
        plan.homa.extend(table);
    }
    Ok(())
}

fn run_all(
    variants: &[(String, Plan)],
    common: &ClusterCommon,
    json: bool,
) -> Result<(), CliError> {
    interrupt::watch(|| {});
    let mut agent = AgentCommand::this_program(&["bench-host"])
        .map_err(|error| CliError::io("this program", &error))?;
    agent.ssh = common.ssh.clone();
    agent.remote = common.remote.clone();
    for (_, plan) in variants {
        agent.check(plan).map_err(|error| CliError::Usage(error.to_string()))?;
    }
    let (mut documents, mut directories) = (Vec::new(), Vec::new());
    let mut end = Ok(());
    let mut known: Vec<(NetworkPlan, LinkFacts)> = Vec::new();
    for (name, plan) in variants {
        let directory = match name.is_empty() {
            true => common.out.clone(),
            false => common.out.join(file_name(name)),
        };
        let (document, complete) = one(name, plan, &agent, &mut known, &directory, json)?;
        documents.push(document);
        directories.push(directory);
        if let Err(error) = complete {
            let interrupted = matches!(error, CliError::Interrupted);
            end = Err(error);
            if interrupted {
                break;
            }
        }
    }
    if common.report && !directories.is_empty() {
        let page = report::of_runs(&directories, &common.out)?;
        eprintln!("homa: {}", page.display());
    }
    if json {
        match documents.len() {
            1 => output::document(&documents[0])?,
            _ => output::document(&documents)?,
        }
    }
    end
}

/// Runs one variant; says whether it is complete. `known` is what is known of the networks so far.
fn one(
    name: &str,
    plan: &Plan,
    agent: &AgentCommand,
    known: &mut Vec<(NetworkPlan, LinkFacts)>,
    directory: &Path,
    json: bool,
) -> Result<(serde_json::Value, Result<(), CliError>), CliError> {
    let failed = |error: io::Error| CliError::Process(error.to_string());
    let network = network::open(plan, agent).map_err(failed)?;
    let title = format!("{}{}{name}", plan.title, if name.is_empty() { "" } else { ": " });
    eprintln!("homa: {title}");
    let like = known.iter().find(|(network, _)| same_links(network, &plan.network));
    let like = like.map(|found| found.1);
    let outcome = run::run(plan, &*network, like, &mut |step| {
        eprintln!("homa: {step}");
        !interrupt::pressed()
    })
    .map_err(failed)?;
    known.push((plan.network.clone(), outcome.link));
    let summaries: Vec<_> = outcome
        .found
        .iter()
        .map(|(transport, found)| (transport.clone(), summarise(plan, &outcome, found)))
        .collect();
    let document = files::document(plan, name, network.facts(), &outcome, &summaries);
    files::write(directory, &document, &outcome).map_err(|error| CliError::File {
        action: "write",
        path: directory.to_owned(),
        reason: error.to_string(),
    })?;
    if !json {
        let text = format!("{title}\n{}\n", table::render(&outcome, &summaries));
        output::bytes(text.as_bytes())?;
    }
    let failures: usize = summaries.iter().map(|(_, summary)| summary.failures.len()).sum();
    let complete = match (outcome.interrupted, failures) {
        (true, _) => Err(CliError::Interrupted),
        (_, 0) => Ok(()),
        (_, count) => Err(CliError::Incomplete(format!("{count} measurements failed"))),
    };
    let value =
        serde_json::to_value(&document).map_err(|error| CliError::Process(error.to_string()))?;
    Ok((value, complete))
}

/// Whether an idle network is the same: what its buffers hold does not show then.
fn same_links(one: &NetworkPlan, other: &NetworkPlan) -> bool {
    let (buffer, uplink_buffer) = (other.buffer, other.uplink_buffer);
    NetworkPlan { buffer, uplink_buffer, ..one.clone() } == *other
}

/// The name of a variant as a directory.
fn file_name(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_variants_become_harmless_directories() {
        assert_eq!(file_name("load 0.8/x"), "load-0.8-x");
    }
}
