//! A comparison that this machine can carry: rates at which the links, not its processors, decide,
//! and time for enough short messages.

use std::{io, time::Duration};

use crate::{
    load::rpc_per_s,
    network::{AgentCommand, Network, open},
    plan::Plan,
    run::{Found, machine_busy, trial},
    watch::Watch,
};

/// Short messages per transport that a P99 shall rest on: ten are slower.
pub const SHORT_WANTED: f64 = 1_000.0;

/// Share of the messages that counts as short.
const SHORT_SHARE: f64 = 0.1;

/// Seconds per transport and round, whatever the wanted number takes.
const SECS: std::ops::RangeInclusive<f64> = 5.0..=25.0;

/// The load's share of the processors that leaves room for what is not even over time.
const BUSY_MAX: f64 = 0.75;

/// More than this share of the processors for others shows in the figures.
const OTHERS_MAX: f64 = 0.2;

/// How long the machine is looked at before the load.
const BEFORE: Duration = Duration::from_millis(300);

/// Above this share nobody knows how much more would be used.
const SATURATED: f64 = 0.95;

/// Slower links say nothing that faster ones do not; 10^6 bit/s.
const RATE_MBPS_MIN: u32 = 10;

/// Trials until a rate is taken as it is.
const TRIALS_MAX: u32 = 4;

/// Seconds of a trial, its warm-up, and the time for what is under way at its end.
const TRIAL_S: (f64, f64, f64) = (1.0, 0.5, 1.0);

/// Processor time of the kernel for the network, at most, per time of the agents.
const KERNEL_FACTOR: f64 = 1.5;

/// Lowers the rate of a plan's links until this machine carries its load, found out by trials of
/// its first transport. `with_seconds`: the time follows the rate, as [`seconds`] has it. Returns
/// the network that is up at that rate.
///
/// # Errors
/// No lab can be built here, or the trial fails.
pub fn rate(
    plan: &mut Plan,
    agent: &AgentCommand,
    with_seconds: bool,
    watch: &dyn Watch,
) -> io::Result<Box<dyn Network>> {
    for number in 1.. {
        if with_seconds {
            seconds(plan)?;
        }
        let network = match open(plan, agent) {
            Err(error) if number < TRIALS_MAX && may_be_lower(plan) && plan_fits(&error) => {
                watch.says(&format!("links of {} Mbit/s: {error}", plan.network.rate));
                plan.network.rate = lower(plan.network.rate, 0.5);
                continue;
            }
            network => network?,
        };
        if watch.stopped() {
            return Ok(network);
        }
        let before = machine_busy(BEFORE);
        if number == 1 && before.is_some_and(|busy| busy > OTHERS_MAX) {
            watch.says(&format!(
                "other programs take {:.0} % of this machine's processors: figures may be theirs",
                100.0 * before.unwrap_or_default()
            ));
        }
        let busy = demand(plan, before, &*network, watch)?;
        let mut share = if busy > SATURATED { 0.5 } else { BUSY_MAX / busy.max(0.01) };
        if !network.is_comfortable() {
            share = share.min(BUSY_MAX);
        }
        let next = lower(plan.network.rate, share);
        if share >= 1.0 || next >= plan.network.rate || number >= TRIALS_MAX {
            watch.says(&format!(
                "links of {} Mbit/s: the load takes {:.0} % of this machine's processors",
                plan.network.rate,
                100.0 * busy
            ));
            return Ok(network);
        }
        watch.says(&format!(
            "links of {} Mbit/s would take {:.0} % of this machine's processors: {next} Mbit/s",
            plan.network.rate,
            100.0 * busy
        ));
        plan.network.rate = next;
    }
    // The loop has no end but its returns.
    Err(io::ErrorKind::Unsupported.into())
}

/// The time that gives each transport enough short messages, within limits; sets the plan's
/// seconds.
///
/// # Errors
/// The sizes cannot be read.
pub fn seconds(plan: &mut Plan) -> io::Result<()> {
    let sizes = plan.sizes().map_err(io::Error::other)?;
    let (network, hosts) = (&plan.network, plan.hosts());
    let rate = rpc_per_s(&plan.load, &sizes, network.rate, network.mtu, hosts) * f64::from(hosts);
    let wanted = SHORT_WANTED / SHORT_SHARE / rate.max(1e-9) / f64::from(plan.load.rounds);
    plan.load.secs = wanted.ceil().clamp(*SECS.start(), *SECS.end());
    Ok(())
}

fn may_be_lower(plan: &Plan) -> bool {
    plan.network.rate > RATE_MBPS_MIN
}

/// Whether a lower rate may help: the emulation saturates.
fn plan_fits(error: &io::Error) -> bool {
    error.to_string().contains("saturates")
}

/// A rate that is no more than this share of another; one that people would choose.
fn lower(rate_mbps: u32, share: f64) -> u32 {
    let wanted = (f64::from(rate_mbps) * share.min(1.0)) as u32;
    (wanted / 5 * 5).max(RATE_MBPS_MIN).min(rate_mbps)
}

/// The share of the processors that the load takes by itself, whatever else runs here.
fn demand(
    plan: &Plan,
    before: Option<f64>,
    network: &dyn Network,
    watch: &dyn Watch,
) -> io::Result<f64> {
    let mut plan = plan.clone();
    (plan.load.secs, plan.load.warm_up, plan.load.drain) = TRIAL_S;
    plan.load.rounds = 1;
    plan.transports.truncate(1);
    let found = trial(&plan, network, watch)?;
    Ok(share_of_load(&plan, before, &found))
}

/// What is busy more than before, and at least what the agents and the kernel for them used.
fn share_of_load(plan: &Plan, before: Option<f64>, found: &Found) -> f64 {
    let cores = std::thread::available_parallelism().map_or(1.0, |cores| usize::from(cores) as f64);
    let seconds = (plan.load.warm_up + plan.load.secs) * cores;
    let agents_ns: u64 = found.summaries.iter().map(|(_, _, summary)| summary.cpu_ns).sum();
    let agents = KERNEL_FACTOR * agents_ns as f64 / 1e9 / seconds;
    let all = found.machine_busy.first().copied().unwrap_or(0.0);
    let others = before.unwrap_or(0.0).min(1.0 - agents.min(1.0));
    (all - others).max(agents.min(all))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::LoadSummary;

    #[test]
    fn time_is_given_for_a_thousand_short_messages_within_limits() {
        for (workload, rate, secs) in
            [("w4", 100, 21.0..23.5), ("w3", 50, 5.0..5.1), ("w5", 10, 25.0..25.1)]
        {
            let mut plan = Plan::default();
            (plan.load.workload, plan.network.rate) = (workload.to_owned(), rate);
            plan.load.rounds = 1;
            plan.network.mtu = 3000;
            seconds(&mut plan).unwrap();
            assert!(secs.contains(&plan.load.secs), "{workload}: {}", plan.load.secs);
        }
    }

    #[test]
    fn rates_are_lowered_to_what_people_would_choose() {
        let found = [(100, 0.75), (100, 0.5), (75, 0.9), (12, 0.5), (10, 0.1), (100, 2.0)];
        let found = found.map(|(rate, share)| lower(rate, share));
        assert_eq!(found, [75, 50, 65, 10, 10, 100]);
    }

    #[test]
    fn what_other_programs_use_is_not_the_loads() {
        let plan = Plan::default();
        let cores = std::thread::available_parallelism().unwrap().get() as f64;
        let seconds = (plan.load.warm_up + plan.load.secs) * cores;
        let agents = |share: f64| {
            let cpu_ns = (share / KERNEL_FACTOR * seconds * 1e9) as u64;
            vec![(0, 0, LoadSummary { cpu_ns, ..LoadSummary::default() })]
        };
        let demand = |before, all, share| {
            let found =
                Found { machine_busy: vec![all], summaries: agents(share), ..Found::default() };
            (100.0 * share_of_load(&plan, Some(before), &found)).round()
        };
        assert_eq!(demand(0.0, 0.6, 0.4), 60.0, "idle before");
        assert_eq!(demand(1.0, 1.0, 0.4), 40.0, "all taken before: what the agents used");
        assert_eq!(demand(0.3, 0.9, 0.4), 60.0, "some taken before");
        assert_eq!(demand(0.0, 1.0, 0.9), 100.0, "all of it");
    }
}
