//! What a run will do, and how long that takes.

use std::time::Duration;

use crate::{
    idle,
    plan::{NetworkKind, Plan},
    transport::Transport,
    workload::Workload,
};

/// Building a lab and finding out what it carries.
const OPEN_S: f64 = 3.0;
/// A lab measures itself.
const FIDELITY_S: f64 = 2.5;
/// Two agents and some calls.
const PROBE_S: f64 = 1.5;
/// An agent starts and finds out how precise timers are.
const AGENT_S: f64 = 0.15;
/// Agents wait for each other, and say what they found.
const ROUND_S: f64 = 1.0;
/// Calls under way at the end of the load need some of the time they are given.
const DRAIN_SHARE: f64 = 0.5;

/// A part of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// What is done, as [`Watch::begins`](crate::watch::Watch::begins) is told.
    pub what: String,
    /// About how long it takes.
    pub time: Duration,
}

/// Building the network.
pub const OPEN: &str = "network, and what this machine carries of it";
/// What the network can tell apart.
pub const FIDELITY: &str = "what the network can tell apart";
/// The round-trip time.
pub const PROBE: &str = "round-trip time of the idle network";

/// The times of one transport on the idle network.
pub fn unloaded(transport: &Transport) -> String {
    format!("times of {transport} on the idle network")
}

/// A round of the transports of a turn.
pub fn round(plan: &Plan, round: u32, turn: &[usize]) -> String {
    let names = turn.iter().filter_map(|index| plan.transports.get(*index));
    let names: Vec<String> = names.map(ToString::to_string).collect();
    format!("round {} of {}: {}", round + 1, plan.load.rounds, names.join(" with "))
}

/// Which transports are measured together, one after the other.
pub fn turns(plan: &Plan) -> Vec<Vec<usize>> {
    let all: Vec<usize> = (0..plan.transports.len()).collect();
    match plan.load.together {
        true => vec![all],
        false => all.into_iter().map(|index| vec![index]).collect(),
    }
}

/// The steps of a plan in order; `known`: an earlier run has found what is known of links like
/// these.
pub fn steps(plan: &Plan, sizes: &Workload, known: bool) -> Vec<Step> {
    let step = |what: &str, secs: f64| Step {
        what: what.to_owned(),
        time: Duration::from_secs_f64(secs.clamp(0.0, 1e9)),
    };
    let mut steps = Vec::new();
    if plan.network.kind == NetworkKind::Lab {
        steps.extend([step(OPEN, OPEN_S), step(FIDELITY, FIDELITY_S)]);
    }
    if !known {
        steps.push(step(PROBE, PROBE_S));
    }
    let load = &plan.load;
    let rate_mbps = plan.network.rate;
    let calls =
        |size: u64| f64::from(idle::repeats(size, rate_mbps) + 2) * idle::seconds(size, rate_mbps);
    let baseline_s: f64 = idle::sizes(sizes).into_iter().map(calls).sum();
    let agents_s = AGENT_S * f64::from(plan.hosts());
    let load_s = load.warm_up + load.secs + DRAIN_SHARE * load.drain;
    for number in 0..load.rounds {
        for turn in turns(plan) {
            let names = turn.iter().filter_map(|index| plan.transports.get(*index));
            if number == 0 {
                steps.extend(names.map(|name| step(&unloaded(name), 2.0 * AGENT_S + baseline_s)));
            }
            let agents_s = agents_s * turn.len() as f64;
            steps.push(step(&round(plan, number, &turn), agents_s + ROUND_S + load_s));
        }
    }
    steps
}

/// The time of all steps.
pub fn total(steps: &[Step]) -> Duration {
    steps.iter().map(|step| step.time).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_takes_at_least_its_load_and_each_step_is_named_once() {
        let plan = Plan::default();
        let sizes = plan.sizes().unwrap();
        let steps = steps(&plan, &sizes, false);
        // Five transports, two rounds, 7 s each.
        let total = total(&steps).as_secs();
        assert!((70..160).contains(&total), "{total} s");
        let mut names: Vec<&str> = steps.iter().map(|step| step.what.as_str()).collect();
        assert_eq!(names.len(), 3 + 5 + 10);
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), steps.len());
    }
}
