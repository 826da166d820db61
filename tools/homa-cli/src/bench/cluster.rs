//! `homa bench cluster`, `homa bench plan`, and `homa bench` by itself: transports side by side
//! over a network of many hosts.

use std::io;

use homa_bench::{
    agent, congestion, fit,
    network::{self, AgentCommand},
    plan::{NetworkKind, Plan, PlanFile},
    settings::named,
    transport::{self, Transport},
};
use homa_lab::{Lab, LabSpec};

use super::{
    args::{BenchArgs, ClusterArgs, ClusterCommon, CompareOptions, PlanArgs},
    study::Study,
};
use crate::{error::CliError, options::given, transport::Carriage};

/// The transports of the comparison that nobody asked for by name: Homa, and the best of TCP. Over
/// one connection per pair short messages wait ten times as long for the longest of the others.
const SHOWN: [&str; 3] = ["homa-udp", "tcp-cubic-x8", "tcp-bbr-x8"];

/// The workloads of the same: that of which the fewest packets say most comes first.
const WORKLOADS: [&str; 2] = ["w4", "w3"];

/// What a dry run cannot know.
const TRIALS: &str = "Links are slower where this machine cannot carry them, found by trials of 4 s each; the rounds of W4 are longer then.";

/// The agent on a host.
pub(crate) fn agent() -> Result<(), CliError> {
    agent::run(io::BufReader::new(io::stdin()), io::stdout())
        .map_err(|error| CliError::Process(error.to_string()))
}

/// Runs one comparison.
pub(crate) fn run(args: &ClusterArgs, carriage: Carriage, json: bool) -> Result<(), CliError> {
    let file = match &args.plan {
        // Transports that options replace need not be there.
        Some(path) if !args.compare.transports.is_empty() => {
            PlanFile::read(path).map_err(|error| CliError::Usage(error.to_string()))?
        }
        Some(path) => read(path)?,
        None => PlanFile { variants: vec![(String::new(), Plan::default())] },
    };
    let named = args.plan.is_some() || !args.compare.transports.is_empty();
    let mut variants = file.variants;
    for (_, plan) in &mut variants {
        change(plan, &args.compare)?;
        if args.loopback {
            plan.network.kind = NetworkKind::Loopback;
        }
        carry(plan, carriage, named)?;
        if !named {
            replace_unusable(plan);
        }
    }
    run_all(variants, &args.common, json)
}

/// Runs a plan file.
pub(crate) fn run_plan(args: &PlanArgs, carriage: Carriage, json: bool) -> Result<(), CliError> {
    let mut variants = read(&args.file)?.variants;
    for (_, plan) in &mut variants {
        carry(plan, carriage, true)?;
    }
    run_all(variants, &args.common, json)
}

/// Compares the workloads W4 and W3 in a lab of this machine, with links that it can carry; `Err`
/// inside, with the reason, if no lab can be built here.
pub(crate) fn run_default(
    args: &BenchArgs,
    json: bool,
) -> Result<Result<(), homa_lab::LabError>, CliError> {
    let mut variants = Vec::new();
    let asked = args.compare.workload.as_deref();
    for workload in asked.map_or(WORKLOADS.to_vec(), |workload| vec![workload]) {
        let mut plan = shown(workload);
        change(&mut plan, &args.compare)?;
        let named = !args.compare.transports.is_empty();
        carry(&mut plan, args.carriage, named)?;
        if !named {
            replace_unusable(&mut plan);
        }
        if args.compare.secs.is_none() {
            plan.check().map_err(|error| CliError::Usage(error.to_string()))?;
            fit::seconds(&mut plan).map_err(|error| CliError::Usage(error.to_string()))?;
        }
        plan.title = headline(&plan);
        let name = if asked.is_some() { String::new() } else { workload.to_owned() };
        variants.push((name, plan));
    }
    let agent = this_program()?;
    let out = args.results.out.clone();
    let note = args.compare.rate.is_none().then_some(TRIALS);
    let study = Study { variants, agent, out, page: true, json, note };
    study.check()?;
    if args.results.dry_run {
        return study.describe().map(Ok);
    }
    // Only a lab that stands shows that one can be built.
    if let Err(error) = Lab::up(&LabSpec { hosts: 2, ..LabSpec::default() }) {
        return Ok(Err(error));
    }
    let (rate, secs) = (args.compare.rate, args.compare.secs);
    let done = study.run(&mut |plan, agent, watch| {
        if rate.is_some() {
            return network::open(plan, agent);
        }
        let found = fit::rate(plan, agent, secs.is_none(), watch);
        plan.title = headline(plan);
        found
    });
    done.map(Ok)
}

/// The comparison of one workload.
fn shown(workload: &str) -> Plan {
    let mut plan = Plan::default();
    // As in the published measurement of these workloads (`plans/goal.toml`).
    plan.network.mtu = 3000;
    plan.transports = SHOWN.iter().filter_map(|name| name.parse().ok()).collect();
    workload.clone_into(&mut plan.load.workload);
    plan.load.warm_up = 1.5;
    plan.load.rounds = 1;
    plan
}

/// What is compared, in a line.
fn headline(plan: &Plan) -> String {
    let (network, load) = (&plan.network, &plan.load);
    format!(
        "{} hosts, {} Mbit/s, packets of {} bytes, load {:.0} %",
        network.hosts,
        network.rate,
        network.mtu,
        100.0 * load.load
    )
}

fn read(path: &std::path::Path) -> Result<PlanFile, CliError> {
    PlanFile::read_for_here(path).map_err(|error| CliError::Usage(error.to_string()))
}

fn this_program() -> Result<AgentCommand, CliError> {
    AgentCommand::this_program(&["bench-host"])
        .map_err(|error| CliError::io("this program", &error))
}

fn run_all(
    variants: Vec<(String, Plan)>,
    common: &ClusterCommon,
    json: bool,
) -> Result<(), CliError> {
    let (ssh, remote) = (common.ssh.clone(), common.remote.clone());
    let agent = AgentCommand { ssh, remote, ..this_program()? };
    let (out, page) = (common.results.out.clone(), common.report);
    let study = Study { variants, agent, out, page, json, note: None };
    study.check()?;
    match common.results.dry_run {
        true => study.describe(),
        false => study.run(&mut |plan, agent, _| network::open(plan, agent)),
    }
}

/// Changes a plan by options.
fn change(plan: &mut Plan, options: &CompareOptions) -> Result<(), CliError> {
    fn set<T: Clone>(target: &mut T, value: &Option<T>) {
        if let Some(value) = value {
            *target = value.clone();
        }
    }
    let (network, load) = (&mut plan.network, &mut plan.load);
    set(&mut network.hosts, &options.hosts);
    set(&mut network.rate, &options.rate);
    set(&mut network.mtu, &options.mtu);
    set(&mut network.backend, &options.backend);
    set(&mut network.buffer, &options.buffer);
    set(&mut load.workload, &options.workload);
    set(&mut load.message_max, &options.message_max);
    set(&mut load.load, &options.load);
    set(&mut load.secs, &options.secs.map(|secs| secs.as_secs_f64()));
    set(&mut load.rounds, &options.rounds);
    set(&mut load.seed, &options.seed);
    if !options.transports.is_empty() {
        plan.transports = options.transports.clone();
    }
    for setting in &options.settings {
        named::merge(&mut plan.homa, given(setting)?);
    }
    Ok(())
}

/// Has Homa carried as the global option says; who named transports has said it already.
fn carry(plan: &mut Plan, carriage: Carriage, named: bool) -> Result<(), CliError> {
    let usage = |text: &str| Err(CliError::Usage(text.to_owned()));
    match carriage {
        Carriage::Udp | Carriage::Auto => Ok(()),
        _ if named => {
            usage("the transports are named already, such as homa-ip: leave --carriage out")
        }
        Carriage::Ip => {
            for transport in &mut plan.transports {
                if transport.is_homa() {
                    *transport = Transport::Homa(transport::Carriage::Ip);
                }
            }
            Ok(())
        }
        _ => usage(
            "over a network of hosts Homa is carried by udp or ip; `homa bench local` has more",
        ),
    }
}

fn replace_unusable(plan: &mut Plan) {
    for sentence in congestion::replace_unusable(plan) {
        eprintln!("homa: {sentence}");
    }
}
