//! A run: every transport of a plan, in rounds, on one network.

mod sampler;
mod traced;

use std::{
    io,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use homa_lab::Fidelity;
use homa_report::summary::{Looks, UnloadedTime};
use homa_transport::Config;
use serde::Serialize;

pub(crate) use self::sampler::machine_busy;
pub use self::sampler::{QueueSample, ThroughputSample};
use self::sampler::{Sampler, Seen};
use crate::{
    estimate,
    handle::Agent,
    idle,
    load::rpc_per_s,
    network::Network,
    plan::{NetworkKind, Pattern, Plan},
    settings::{self, LinkFacts},
    spec::{HostSpec, LoadOrder, LoadSummary, Order, Peer, Status, Target},
    transport::Transport,
    watch::Watch,
    workload::Workload,
};

/// From the order to begin until the begin: all agents must have the order by then.
const LEAD: Duration = Duration::from_millis(300);
/// Grace for agents that report late.
const GRACE: Duration = Duration::from_secs(30);
/// Calls of the probe that finds the network's round-trip time.
const PROBE_CALLS: u32 = 60;
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
    /// How late looks at the network began, in nanoseconds: so long did a program wait that wanted
    /// to run.
    pub late_ns: Vec<u64>,
    /// Why a round has no result.
    pub failures: Vec<String>,
}

impl Found {
    /// Whether there is anything to summarise.
    pub fn is_measured(&self) -> bool {
        !self.rpcs.is_empty()
    }

    fn add(&mut self, other: Found) {
        self.rpcs.extend(other.rpcs);
        self.summaries.extend(other.summaries);
        self.queues.extend(other.queues);
        self.throughput.extend(other.throughput);
        self.machine_busy.extend(other.machine_busy);
        self.late_ns.extend(other.late_ns);
        self.failures.extend(other.failures);
    }

    fn saw(&mut self, seen: &Seen) {
        self.queues.extend(&seen.queues);
        self.throughput.extend(&seen.throughput);
        self.late_ns.extend(&seen.late_ns);
        self.machine_busy.extend(seen.busy);
    }
}

/// A run's settings and results.
#[derive(Debug)]
pub struct Outcome {
    /// What is known of the links.
    pub link: LinkFacts,
    /// Homa's settings.
    pub homa: Config,
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

impl Outcome {
    /// Nothing found yet.
    fn new(plan: &Plan, sizes: Workload, link: LinkFacts, homa: Config) -> Self {
        let (load, network) = (&plan.load, &plan.network);
        let found = plan.transports.iter().map(|name| (name.clone(), Found::default()));
        Outcome {
            link,
            homa,
            rpc_per_s: rpc_per_s(load, &sizes, network.rate, network.mtu, plan.hosts()),
            sizes,
            fidelity: None,
            looks: None,
            found: found.collect(),
            interrupted: false,
        }
    }
}

/// Runs a plan on a network. `known` is what an earlier run found about links like these: variants
/// of a study are comparable only if nothing but what they vary differs, and that includes what is
/// derived from a measurement. A round that `watch` ends is left out.
///
/// # Errors
/// The network does not work at all, a workload cannot be read, a setting is none of Homa's;
/// interrupted before anything was measured.
pub fn run(
    plan: &Plan,
    network: &dyn Network,
    known: Option<LinkFacts>,
    watch: &dyn Watch,
) -> io::Result<Outcome> {
    let sizes = plan.sizes().map_err(io::Error::other)?;
    let fidelity = fidelity(network, watch);
    let link = match known {
        Some(link) => link,
        None => {
            watch.begins(estimate::PROBE);
            probe(plan, network, &sizes, fidelity.as_ref(), watch)?
        }
    };
    let derived = settings::derive(&link, &sizes, plan.message_bytes_max());
    let homa = settings::with(&derived, &plan.homa, &sizes)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
    let mut outcome = Outcome { fidelity, ..Outcome::new(plan, sizes, link, homa) };
    for round in 0..plan.load.rounds {
        for turn in estimate::turns(plan) {
            let measured = measure(plan, network, &mut outcome, &turn, round, watch);
            if watch.stopped() {
                outcome.interrupted = true;
                return Ok(outcome);
            }
            for (index, found) in measured {
                outcome.found[index].1.add(found);
            }
        }
    }
    Ok(outcome)
}

/// One turn of a transport alone for so many seconds: what it costs. Returns what was found, and
/// the rate of RPCs.
///
/// # Errors
/// As [`run`]; the turn failed.
pub fn trial(plan: &Plan, network: &dyn Network, watch: &dyn Watch) -> io::Result<Found> {
    let sizes = plan.sizes().map_err(io::Error::other)?;
    let link = LinkFacts::usual(plan.network.rate, plan.network.mtu);
    let homa = settings::derive(&link, &sizes, plan.message_bytes_max());
    let mut outcome = Outcome::new(plan, sizes, link, homa);
    let mut found = Found::default();
    offer(plan, network, &mut outcome, &[0], 0, watch, &mut [(0, &mut found)])?;
    match found.failures.first() {
        None => Ok(found),
        Some(failure) => Err(io::Error::other(failure.clone())),
    }
}

/// What the network measures about itself; a network that cannot says why, and the run does
/// without.
fn fidelity(network: &dyn Network, watch: &dyn Watch) -> Option<Fidelity> {
    if !network.measures_itself() {
        return None;
    }
    watch.begins(estimate::FIDELITY);
    match network.fidelity()? {
        Ok(fidelity) => {
            let us = |ns: u64| ns as f64 / 1e3;
            watch.says(&format!(
                "the network tells apart: tails by {:.0} us, medians by {:.0} us, rates by {:.1} %",
                us(fidelity.latency_resolution_ns),
                us(fidelity.median_resolution_ns),
                100.0 * fidelity.rate_resolution
            ));
            Some(fidelity)
        }
        Err(error) => {
            watch.says(&format!("the network cannot measure itself: {error}"));
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
    watch: &dyn Watch,
) -> io::Result<LinkFacts> {
    let mut link = LinkFacts::usual(plan.network.rate, plan.network.mtu);
    let transport = plan.transports.iter().find(|transport| transport.is_homa());
    let transport = transport.or(plan.transports.first()).ok_or(io::ErrorKind::InvalidInput)?;
    let homa = settings::derive(&link, sizes, plan.message_bytes_max());
    let start =
        |host| Agent::start(network, &host_spec(plan, network, host, transport, &homa)?, watch);
    let (mut server, mut client) = (start(0)?, start(1)?);
    let times = unloaded(&mut client, &mut server, &[1], PROBE_CALLS)?;
    let measured = fidelity.map(|found| found.machine.sleep_late.p99_ns as f64 / 1e3);
    link.timer_us = usual([Some(client.timer_us()), Some(server.timer_us()), measured]);
    link.rtt_us = times.first().map_or(500.0, |time| time.p50_ns as f64 / 1e3);
    Ok(link)
}

/// The middle one of some measurements of one quantity, the lower one of two: a single stall of the
/// machine in one of them must not decide Homa's settings.
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
    homa: &Config,
) -> io::Result<HostSpec> {
    Ok(HostSpec {
        host,
        listen: network.address(host)?,
        port: plan.network.port,
        transport: transport.clone(),
        homa: homa.clone(),
        reply: plan.load.reply,
        message_bytes_max: plan.message_bytes_max(),
        service_us: plan.load.service_us,
    })
}

fn unloaded(
    client: &mut Agent<'_>,
    server: &mut Agent<'_>,
    sizes_bytes: &[u64],
    repeats: u32,
) -> io::Result<Vec<UnloadedTime>> {
    client.order(&Order::Connect { peers: vec![Peer { host: 0, address: server.address() }] })?;
    client.done()?;
    let sizes_bytes = sizes_bytes.to_vec();
    client.order(&Order::Unloaded { server: 0, sizes_bytes, repeats })?;
    client.unloaded()
}

/// One round of the transports of these indices, all at the same time: what was found of each,
/// failures included.
fn measure(
    plan: &Plan,
    network: &dyn Network,
    outcome: &mut Outcome,
    turn: &[usize],
    round: u32,
    watch: &dyn Watch,
) -> Vec<(usize, Found)> {
    let mut measured: Vec<(usize, Found)> =
        turn.iter().map(|index| (*index, Found::default())).collect();
    let mut parts: Vec<(usize, &mut Found)> =
        measured.iter_mut().map(|(index, found)| (*index, found)).collect();
    let done = baselines(plan, network, outcome, turn, watch).and_then(|()| {
        watch.begins(&estimate::round(plan, round, turn));
        offer(plan, network, outcome, turn, round, watch, &mut parts)
    });
    if let Err(error) = done {
        let failure = format!("round {}: {error}", round + 1);
        measured.iter_mut().for_each(|(_, found)| found.failures.push(failure.clone()));
    }
    measured
}

/// Measures the unloaded times of transports of which they are not known.
fn baselines(
    plan: &Plan,
    network: &dyn Network,
    outcome: &mut Outcome,
    turn: &[usize],
    watch: &dyn Watch,
) -> io::Result<()> {
    for index in turn {
        if outcome.found[*index].1.unloaded.is_empty() {
            let name = outcome.found[*index].0.clone();
            watch.begins(&estimate::unloaded(&name));
            outcome.found[*index].1.unloaded = baseline(plan, network, outcome, &name, watch)?;
        }
    }
    Ok(())
}

/// Offers the load of a round; what is found goes to `parts`, by index of the transport.
fn offer(
    plan: &Plan,
    network: &dyn Network,
    outcome: &mut Outcome,
    turn: &[usize],
    round: u32,
    watch: &dyn Watch,
    parts: &mut [(usize, &mut Found)],
) -> io::Result<()> {
    let mut meshes = Vec::new();
    for index in turn {
        meshes.push(mesh(plan, network, outcome, *index, watch)?);
    }
    let share = 1.0 / turn.len().max(1) as f64;
    let now_unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let begin = Instant::now() + LEAD;
    let start_unix_ns = (now_unix + LEAD).as_nanos() as u64;
    for agents in &mut meshes {
        let hosts = agents.len();
        for (agent, host) in agents.iter_mut().zip(0..) {
            let order = load_order(plan, outcome, (host, hosts), round, start_unix_ns, share);
            agent.order(&Order::Load(order))?;
        }
    }
    let end = begin + Duration::from_secs_f64(plan.load.warm_up + plan.load.secs);
    let seen = look(plan, network, &mut meshes, round, (begin, end), watch);
    outcome.looks = seen.looks.or(outcome.looks);
    let until = end + Duration::from_secs_f64(plan.load.drain) + GRACE;
    let mut failures = Vec::new();
    for (agents, (_, found)) in meshes.iter_mut().zip(parts) {
        found.saw(&seen);
        failures.extend(gather(plan, found, agents, round, until));
    }
    match failures.is_empty() {
        true => Ok(()),
        false => Err(io::Error::other(failures.join("; "))),
    }
}

/// An agent on each host, each with all others as its peers.
fn mesh<'a>(
    plan: &Plan,
    network: &dyn Network,
    outcome: &Outcome,
    index: usize,
    watch: &'a dyn Watch,
) -> io::Result<Vec<Agent<'a>>> {
    let name = &outcome.found[index].0;
    let start =
        |host| Agent::start(network, &host_spec(plan, network, host, name, &outcome.homa)?, watch);
    let mut agents = (0..network.hosts()).map(start).collect::<io::Result<Vec<_>>>()?;
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

/// Looks at the network until the load ends, and ends the host that the plan wants to fail.
fn look(
    plan: &Plan,
    network: &dyn Network,
    meshes: &mut [Vec<Agent<'_>>],
    round: u32,
    (begin, end): (Instant, Instant),
    watch: &dyn Watch,
) -> Seen {
    // Only an emulated link has exactly the rate that the plan says.
    let exact = plan.network.kind == NetworkKind::Lab;
    let link_bps = exact.then(|| f64::from(plan.network.rate) * 1e6);
    let sampler = Sampler::new(network, round, begin, link_bps, watch);
    let Some(host) = plan.load.fail_host else { return sampler.sample(begin..end) };
    let at = begin + Duration::from_secs_f64(plan.load.warm_up + plan.load.secs / 2.0);
    let before = sampler.sample(begin..at);
    let failing = meshes.iter_mut().filter_map(|agents| agents.get_mut(host as usize));
    failing.for_each(Agent::end);
    before.and(sampler.sample(at..end))
}

/// Takes what the agents found; says which could not tell.
fn gather(
    plan: &Plan,
    found: &mut Found,
    agents: &mut [Agent<'_>],
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
    watch: &dyn Watch,
) -> io::Result<Vec<UnloadedTime>> {
    let start = |host| {
        let spec = host_spec(plan, network, host, transport, &outcome.homa)?;
        Agent::start(network, &spec, watch)
    };
    let (mut server, mut client) = (start(0)?, start(1)?);
    let mut times = Vec::new();
    for size in idle::sizes(&outcome.sizes) {
        let repeats = idle::repeats(size, plan.network.rate);
        times.extend(unloaded(&mut client, &mut server, &[size], repeats)?);
    }
    Ok(times)
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
}
