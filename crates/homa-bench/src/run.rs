//! A run: every transport of a plan, in rounds, on one network.

mod sampler;
mod traced;

use std::{
    io,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use homa_lab::Fidelity;
use serde::Serialize;

use self::sampler::Sampler;
pub use self::sampler::{Looks, QueueSample, ThroughputSample};
use crate::{
    handle::Agent,
    load::rpc_per_s,
    network::Network,
    plan::{NetworkKind, Pattern, Plan},
    settings::{HomaSettings, LinkFacts},
    spec::{HostSpec, LoadOrder, LoadSummary, Order, Peer, Status, Target, UnloadedTime},
    transport::Transport,
    workload::Workload,
};

/// From the order to begin until the begin: all agents must have the order by then.
const LEAD: Duration = Duration::from_millis(300);
/// Grace for agents that report late.
const GRACE: Duration = Duration::from_secs(30);
/// Calls of the probe that finds the network's round-trip time.
const PROBE_CALLS: u32 = 60;
/// Seconds of unloaded calls per size, about.
const UNLOADED_S: f64 = 0.3;

/// An RPC of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Rpc {
    /// Round, from 0.
    pub round: u32,
    /// Host that called.
    pub client: u32,
    /// Host that was called.
    pub server: u32,
    /// Bytes of the request.
    pub size_bytes: u64,
    /// Intended begin, in nanoseconds after the begin of the load.
    pub start_ns: u64,
    /// From the intended begin to the end.
    pub latency_ns: u64,
    /// What became of it.
    pub status: Status,
}

/// All that was found about one transport.
#[derive(Debug, Clone, Default)]
pub struct Found {
    /// Unloaded times by size, from the same network before the load.
    pub unloaded: Vec<UnloadedTime>,
    /// RPCs, those of the warm-up included.
    pub rpcs: Vec<Rpc>,
    /// What each agent noticed: round, host, summary.
    pub summaries: Vec<(u32, u32, LoadSummary)>,
    /// Lengths of the switch's queues over time.
    pub queues: Vec<QueueSample>,
    /// Throughput of ports over time.
    pub throughput: Vec<ThroughputSample>,
    /// Processor time of the whole machine over the rounds' loads, as a share of all its cores.
    pub machine_busy: Vec<f64>,
    /// How late looks at the network began, in nanoseconds: so long did a program wait that wanted to run.
    pub late_ns: Vec<u64>,
    /// Why a round has no result.
    pub failures: Vec<String>,
}

/// A run's settings and results.
#[derive(Debug)]
pub struct Outcome {
    /// What is known of the links.
    pub link: LinkFacts,
    /// Homa's settings.
    pub homa: HomaSettings,
    /// RPCs each calling host begins per second.
    pub rpc_per_s: f64,
    /// Sizes, capped.
    pub sizes: Workload,
    /// What the network measured about itself before.
    pub fidelity: Option<Fidelity>,
    /// How the queues of the switch were looked at.
    pub looks: Option<Looks>,
    /// Results by transport, in the order of the plan.
    pub found: Vec<(Transport, Found)>,
    /// Interrupted before everything was done.
    pub interrupted: bool,
}

/// Runs a plan on a network. `known` is what an earlier run found about links like these: variants of a study are
/// comparable only if nothing but what they vary differs, and that includes what is derived from a measurement.
/// `progress` is told what begins; it returns false to end the run with what it has.
///
/// # Errors
/// The network does not work at all, a workload cannot be read, a setting is none of Homa's.
pub fn run(
    plan: &Plan,
    network: &dyn Network,
    known: Option<LinkFacts>,
    progress: &mut dyn FnMut(&str) -> bool,
) -> io::Result<Outcome> {
    let sizes = Workload::load(&plan.load.workload).map_err(io::Error::other)?;
    let sizes = sizes.capped(plan.load.message_max);
    let fidelity = fidelity(network, progress);
    let link = match known {
        Some(link) => link,
        None => {
            progress("round-trip time of the idle network");
            probe(plan, network, &sizes, fidelity.as_ref())?
        }
    };
    let homa = HomaSettings::derive(&link, &sizes).with(&plan.homa, &sizes).map_err(|reason| {
        io::Error::new(io::ErrorKind::InvalidInput, format!("[homa]: {reason}"))
    })?;
    let rate = rpc_per_s(&plan.load, &sizes, plan.network.rate, plan.network.mtu, network.hosts());
    let found = plan.transports.iter().map(|name| (name.clone(), Found::default())).collect();
    let mut outcome = Outcome {
        link,
        homa,
        rpc_per_s: rate,
        sizes,
        fidelity,
        looks: None,
        found,
        interrupted: false,
    };
    let all: Vec<usize> = (0..plan.transports.len()).collect();
    let turns: Vec<&[usize]> = match plan.load.together {
        true => vec![&all],
        false => all.chunks(1).collect(),
    };
    for round in 0..plan.load.rounds {
        for turn in &turns {
            let names: Vec<String> =
                turn.iter().map(|index| plan.transports[*index].to_string()).collect();
            let names = names.join(" with ");
            if !progress(&format!("round {} of {}: {names}", round + 1, plan.load.rounds)) {
                outcome.interrupted = true;
                return Ok(outcome);
            }
            if let Err(error) = measure(plan, network, &mut outcome, turn, round) {
                let failure = format!("round {}: {error}", round + 1);
                for index in *turn {
                    outcome.found[*index].1.failures.push(failure.clone());
                }
            }
        }
    }
    Ok(outcome)
}

/// What the network measures about itself; a network that cannot says why, and the run does without.
fn fidelity(network: &dyn Network, progress: &mut dyn FnMut(&str) -> bool) -> Option<Fidelity> {
    match network.fidelity()? {
        Ok(fidelity) => {
            let us = |ns: u64| ns as f64 / 1e3;
            progress(&format!(
                "the network tells apart: tails by {:.0} us, medians by {:.0} us, rates by {:.1} %",
                us(fidelity.latency_resolution_ns),
                us(fidelity.median_resolution_ns),
                100.0 * fidelity.rate_resolution
            ));
            Some(fidelity)
        }
        Err(error) => {
            progress(&format!("the network cannot measure itself: {error}"));
            None
        }
    }
}

/// Finds the round-trip time with agents that have the settings of any network.
fn probe(
    plan: &Plan,
    network: &dyn Network,
    sizes: &Workload,
    fidelity: Option<&Fidelity>,
) -> io::Result<LinkFacts> {
    let mut link = LinkFacts {
        rate_mbps: plan.network.rate,
        rtt_us: 500.0,
        timer_us: 100.0,
        mtu_bytes: plan.network.mtu,
    };
    let transport = plan.transports.iter().find(|transport| transport.is_homa());
    let transport = transport.or(plan.transports.first()).ok_or(io::ErrorKind::InvalidInput)?;
    let homa = HomaSettings::derive(&link, sizes);
    let mut server = Agent::start(network, &host_spec(plan, network, 0, transport, &homa)?)?;
    let mut client = Agent::start(network, &host_spec(plan, network, 1, transport, &homa)?)?;
    let times = unloaded(&mut client, &mut server, &[1], PROBE_CALLS)?;
    let measured = fidelity.map(|found| found.machine.sleep_late.p99_ns as f64 / 1e3);
    link.timer_us = usual([Some(client.timer_us()), Some(server.timer_us()), measured]);
    link.rtt_us = times.first().map_or(500.0, |time| time.p50_ns as f64 / 1e3);
    Ok(link)
}

/// The middle one of some measurements of one quantity, the lower one of two: a single stall of the machine in one of
/// them must not decide Homa's settings.
fn usual(measured: [Option<f64>; 3]) -> f64 {
    let mut found: Vec<f64> = measured.into_iter().flatten().collect();
    found.sort_unstable_by(f64::total_cmp);
    found.get(found.len().saturating_sub(1) / 2).copied().unwrap_or(0.0)
}

fn host_spec(
    plan: &Plan,
    network: &dyn Network,
    host: u32,
    transport: &Transport,
    homa: &HomaSettings,
) -> io::Result<HostSpec> {
    Ok(HostSpec {
        host,
        listen: network.address(host)?,
        port: plan.network.port,
        transport: transport.clone(),
        homa: homa.clone(),
        reply: plan.load.reply.into(),
        message_bytes_max: u32::try_from(plan.load.message_max).unwrap_or(u32::MAX),
        service_us: plan.load.service_us,
    })
}

fn unloaded(
    client: &mut Agent,
    server: &mut Agent,
    sizes_bytes: &[u64],
    repeats: u32,
) -> io::Result<Vec<UnloadedTime>> {
    client.order(&Order::Connect { peers: vec![Peer { host: 0, address: server.address() }] })?;
    client.done()?;
    let sizes_bytes = sizes_bytes.to_vec();
    client.order(&Order::Unloaded { server: 0, sizes_bytes, repeats })?;
    client.unloaded()
}

/// One round of the transports of these indices, all at the same time.
fn measure(
    plan: &Plan,
    network: &dyn Network,
    outcome: &mut Outcome,
    turn: &[usize],
    round: u32,
) -> io::Result<()> {
    for index in turn {
        if outcome.found[*index].1.unloaded.is_empty() {
            let name = outcome.found[*index].0.clone();
            outcome.found[*index].1.unloaded = baseline(plan, network, outcome, &name)?;
        }
    }
    let mut meshes = Vec::new();
    for index in turn {
        meshes.push((*index, mesh(plan, network, outcome, *index)?));
    }
    let share = 1.0 / turn.len().max(1) as f64;
    let now_unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let begin = Instant::now() + LEAD;
    let start_unix_ns = (now_unix + LEAD).as_nanos() as u64;
    for (_, agents) in &mut meshes {
        let addresses: Vec<_> = agents.iter().map(Agent::address).collect();
        for (agent, host) in agents.iter_mut().zip(0..) {
            let hosts = addresses.len();
            let order = load_order(plan, outcome, (host, hosts), round, start_unix_ns, share);
            agent.order(&Order::Load(order))?;
        }
    }
    let end = begin + Duration::from_secs_f64(plan.load.warm_up + plan.load.secs);
    watch(plan, network, outcome, &mut meshes, round, (begin, end));
    let until = end + Duration::from_secs_f64(plan.load.drain) + GRACE;
    let mut failures = Vec::new();
    for (index, agents) in &mut meshes {
        let found = &mut outcome.found[*index].1;
        failures.extend(gather(plan, found, agents, round, until));
    }
    match failures.is_empty() {
        true => Ok(()),
        false => Err(io::Error::other(failures.join("; "))),
    }
}

/// An agent on each host, each with all others as its peers.
fn mesh(
    plan: &Plan,
    network: &dyn Network,
    outcome: &Outcome,
    index: usize,
) -> io::Result<Vec<Agent>> {
    let name = &outcome.found[index].0;
    let mut agents = (0..network.hosts())
        .map(|host| Agent::start(network, &host_spec(plan, network, host, name, &outcome.homa)?))
        .collect::<io::Result<Vec<_>>>()?;
    let addresses: Vec<_> = agents.iter().map(Agent::address).collect();
    for (agent, host) in agents.iter_mut().zip(0..) {
        let all = addresses.iter().zip(0..);
        let others = all
            .filter(|(_, peer)| *peer != host)
            .map(|(address, host)| Peer { host, address: *address })
            .collect();
        agent.order(&Order::Connect { peers: others })?;
    }
    agents.iter_mut().try_for_each(Agent::done)?;
    Ok(agents)
}

/// Samples the network until the load ends, and ends the host that the plan wants to fail.
fn watch(
    plan: &Plan,
    network: &dyn Network,
    outcome: &mut Outcome,
    meshes: &mut [(usize, Vec<Agent>)],
    round: u32,
    (begin, end): (Instant, Instant),
) {
    // Only an emulated link has exactly the rate that the plan says.
    let exact = plan.network.kind == NetworkKind::Lab;
    let link_bps = exact.then(|| f64::from(plan.network.rate) * 1e6);
    let sampler = Sampler::new(network, round, begin, link_bps);
    let mut parts = vec![(begin, end)];
    if plan.load.fail_host.is_some() {
        let at = begin + Duration::from_secs_f64(plan.load.warm_up + plan.load.secs / 2.0);
        parts = vec![(begin, at), (at, end)];
    }
    for (part, (from, to)) in parts.into_iter().enumerate() {
        if let (1, Some(host)) = (part, plan.load.fail_host) {
            for (_, agents) in meshes.iter_mut() {
                if let Some(agent) = agents.get_mut(host as usize) {
                    agent.end();
                }
            }
        }
        let seen = sampler.sample(from..to);
        outcome.looks = seen.looks.or(outcome.looks);
        for (index, _) in meshes.iter() {
            let found = &mut outcome.found[*index].1;
            found.queues.extend(&seen.queues);
            found.throughput.extend(&seen.throughput);
            found.late_ns.extend(&seen.late_ns);
            found.machine_busy.extend(seen.busy);
        }
    }
}

/// Takes what the agents found; says which could not tell.
fn gather(
    plan: &Plan,
    found: &mut Found,
    agents: &mut [Agent],
    round: u32,
    until: Instant,
) -> Vec<String> {
    let mut failures = Vec::new();
    let failed = |host: u32| plan.load.fail_host == Some(host);
    for (agent, host) in agents.iter_mut().zip(0..).filter(|(_, host)| !failed(*host)) {
        match agent.loaded(until) {
            Ok(summary) => found.summaries.push((round, host, summary)),
            Err(error) => failures.push(error.to_string()),
        }
    }
    for (agent, client) in agents.iter_mut().zip(0..).filter(|(_, host)| !failed(*host)) {
        let rpcs = &mut found.rpcs;
        let collected = agent.collect(&mut |(server, size_bytes, start_ns, latency_ns, status)| {
            rpcs.push(Rpc { round, client, server, size_bytes, start_ns, latency_ns, status });
        });
        failures.extend(collected.err().map(|error| error.to_string()));
    }
    failures
}

/// Unloaded times over the sizes of the workload, from host 1 to host 0.
fn baseline(
    plan: &Plan,
    network: &dyn Network,
    outcome: &Outcome,
    transport: &Transport,
) -> io::Result<Vec<UnloadedTime>> {
    let spec = |host| host_spec(plan, network, host, transport, &outcome.homa);
    let mut server = Agent::start(network, &spec(0)?)?;
    let mut client = Agent::start(network, &spec(1)?)?;
    let mut times = Vec::new();
    for size in baseline_sizes(&outcome.sizes) {
        let seconds = 2.0 * size as f64 * 8e-6 / f64::from(plan.network.rate) + 0.003;
        let repeats = (UNLOADED_S / seconds).clamp(3.0, 60.0) as u32;
        times.extend(unloaded(&mut client, &mut server, &[size], repeats)?);
    }
    Ok(times)
}

/// Sizes at which unloaded times are measured: the shortest and the longest, and steps of about three between.
fn baseline_sizes(sizes: &Workload) -> Vec<u64> {
    let (shortest, longest) = (sizes.quantile(0.0), sizes.quantile(1.0));
    let mut found = vec![shortest];
    for size in [100, 300, 1_000, 3_000, 10_000, 30_000, 100_000, 300_000] {
        if size > shortest && size < longest {
            found.push(size);
        }
    }
    if longest > shortest {
        found.push(longest);
    }
    found
}

fn load_order(
    plan: &Plan,
    outcome: &Outcome,
    (host, hosts): (u32, usize),
    round: u32,
    start_unix_ns: u64,
    share: f64,
) -> LoadOrder {
    let hosts = u32::try_from(hosts).unwrap_or(u32::MAX);
    // Agents were told all hosts but themselves, in order.
    let target = |peer: u32| Target { index: (peer - u32::from(peer > host)) as usize, host: peer };
    let servers: Vec<Target> = match plan.load.pattern {
        Pattern::AllToAll => (0..hosts).filter(|peer| *peer != host).map(target).collect(),
        Pattern::Incast if host == 0 => Vec::new(),
        Pattern::Incast => vec![target(0)],
        Pattern::Ring => vec![target((host + 1) % hosts.max(1))],
    };
    let mixed = plan.load.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    LoadOrder {
        rpc_per_s: if servers.is_empty() { 0.0 } else { outcome.rpc_per_s * share },
        servers,
        workload: outcome.sizes.clone(),
        client_max: plan.load.client_max,
        start_unix_ns,
        warm_up_s: plan.load.warm_up,
        secs: plan.load.secs,
        drain_s: plan.load.drain,
        // The same arrivals for every transport of a round, others in the next.
        seed: mixed ^ (u64::from(round) << 32) ^ u64::from(host),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_stall_while_timers_are_measured_decides_nothing() {
        assert_eq!(usual([Some(44.0), Some(407.0), Some(80.0)]), 80.0);
        assert_eq!(usual([Some(44.0), Some(407.0), None]), 44.0);
    }

    #[test]
    fn unloaded_times_are_measured_from_the_shortest_to_the_longest_size() {
        for name in ["w1", "w2", "w3", "w4", "w5", "fixed:500"] {
            let sizes = Workload::load(name).unwrap();
            let found = baseline_sizes(&sizes);
            assert!(found.is_sorted_by(|a, b| a < b), "{name}: {found:?}");
            assert_eq!(found.last(), Some(&sizes.quantile(1.0)));
        }
    }
}
