//! The metrics of the published evaluations, computed from the RPCs of a run.
//!
//! * *Slowdown*: time of an RPC over a reference: (a) the unloaded time of the same transport for
//!   that size, (b) Homa's, (c) the time the links need at least. References (a) and (b) are
//!   medians measured on the idle network.
//! * *Short*: the shortest 10 % of the messages (all of the size at the boundary included).
//! * *P99 average*: the mean over ten buckets of sizes (equally many messages each) of the mean
//!   slowdown of the slowest 1 % of the bucket.
//! * *Goodput*: payload of requests and answers of the RPCs that ended well within the measured
//!   time, per host and direction.
//!
//! RPCs without an end count with the time until the run gave up. RPCs of the warm-up count for
//! goodput only.

use homa_report::{
    stats::{SAMPLES_MIN, interpolate, mean, percentile, quantile},
    summary::{Decile, NotMeasured, Slowdown, Summary, Times, unloaded_us},
};

use crate::{
    load::wire_bytes,
    plan::{Pattern, Plan},
    run::{Found, Outcome, Rpc},
    settings::LinkFacts,
    spec::{Reply, Status},
    transport::Transport,
};

/// Buckets of the P99 average and of the table by size.
const DECILES: usize = 10;

/// Summaries by transport, in the order of the plan.
pub type Summaries = [(Transport, Summary)];

/// Summaries of the transports that were measured, in the order of the plan, and the others.
pub fn summarise_all(
    plan: &Plan,
    outcome: &Outcome,
) -> (Vec<(Transport, Summary)>, Vec<NotMeasured>) {
    let (mut measured, mut missing) = (Vec::new(), Vec::new());
    for (name, found) in &outcome.found {
        match summarise(plan, outcome, found) {
            summary if summary.rpcs > 0 => measured.push((name.clone(), summary)),
            _ => {
                let (name, reasons) = (name.to_string(), reasons(outcome, found));
                missing.push(NotMeasured { name, reasons });
            }
        }
    }
    (measured, missing)
}

fn reasons(outcome: &Outcome, found: &Found) -> Vec<String> {
    match (found.failures.is_empty(), outcome.interrupted) {
        (false, _) => found.failures.clone(),
        (true, true) => vec!["interrupted before".to_owned()],
        (true, false) => vec!["no RPC began in the measured time".to_owned()],
    }
}

/// Summarises one transport of a run.
pub fn summarise(plan: &Plan, outcome: &Outcome, found: &Found) -> Summary {
    let warm_up_ns = (plan.load.warm_up * 1e9) as u64;
    let lost = |rpc: &Rpc| plan.load.fail_host.is_some_and(|host| host == rpc.server);
    let measured = || found.rpcs.iter().copied().filter(|rpc| rpc.start_ns >= warm_up_ns);
    let mut counted: Vec<Rpc> = measured().filter(|rpc| !lost(rpc)).collect();
    counted.sort_unstable_by_key(|rpc| rpc.size_bytes);
    let homa =
        outcome.found.iter().find(|(name, found)| name.is_homa() && !found.unloaded.is_empty());
    let references = References {
        own: unloaded_us(&found.unloaded),
        homa: homa.map(|(_, found)| unloaded_us(&found.unloaded)),
        link: &outcome.link,
        reply: plan.load.reply,
    };
    let boundary = counted.get(counted.len() / DECILES).map_or(0, |rpc| rpc.size_bytes);
    let short = counted.partition_point(|rpc| rpc.size_bytes <= boundary);
    let all = references.slowdowns(&counted);
    let count = |status| counted.iter().filter(|rpc| rpc.status == status).count() as u64;
    let (offered_mbps, goodput_mbps) = goodput(plan, found);
    let mut summary = Summary {
        rpcs: counted.len() as u64,
        unfinished: count(Status::Unfinished),
        failed: count(Status::Failed),
        to_failed_host: measured().filter(lost).count() as u64,
        offered_mbps,
        goodput_mbps,
        short: times(&counted[..short]),
        short_bytes_max: boundary,
        all: times(&counted),
        slowdown_own: all.0,
        slowdown_homa: all.1,
        slowdown_ideal: all.2,
        deciles: deciles(&counted).map(|rpcs| references.decile(rpcs)).collect(),
        failures: found.failures.clone(),
        ..Summary::default()
    };
    add_agents(&mut summary, found);
    add_queues(&mut summary, found);
    summary
}

/// Time that the links need for an RPC, in microseconds: each message is sent by the host packet
/// after packet, and its last packet a second time by the switch.
pub fn ideal_us(link: &LinkFacts, reply: Reply, request_bytes: u64) -> f64 {
    let message = |bytes: u64| {
        let whole = wire_bytes(bytes, link.mtu_bytes);
        let packet = whole.min(u64::from(link.mtu_bytes) + 14);
        (whole + packet) as f64 * 8.0 / f64::from(link.rate_mbps.max(1))
    };
    message(request_bytes) + message(reply.bytes(request_bytes))
}

struct References<'a> {
    own: Vec<(u64, f64)>,
    homa: Option<Vec<(u64, f64)>>,
    link: &'a LinkFacts,
    reply: Reply,
}

impl References<'_> {
    fn slowdowns(&self, rpcs: &[Rpc]) -> (Slowdown, Option<Slowdown>, Slowdown) {
        let ideal = |rpc: &Rpc| ideal_us(self.link, self.reply, rpc.size_bytes);
        let against = |times: &[(u64, f64)]| {
            slowdown(rpcs, |rpc| interpolate(times, rpc.size_bytes).unwrap_or(1.0).max(0.001))
        };
        (against(&self.own), self.homa.as_deref().map(against), slowdown(rpcs, ideal))
    }

    fn decile(&self, rpcs: &[Rpc]) -> Decile {
        let (slowdown_own, slowdown_homa, slowdown_ideal) = self.slowdowns(rpcs);
        let size_bytes = rpcs.last().map_or(0, |rpc| rpc.size_bytes);
        Decile { size_bytes, times: times(rpcs), slowdown_own, slowdown_homa, slowdown_ideal }
    }
}

/// RPCs in order of size, cut into ten equal parts.
fn deciles(rpcs: &[Rpc]) -> impl Iterator<Item = &[Rpc]> {
    let at = |part: usize| rpcs.len() * part / DECILES;
    (0..DECILES).map(move |part| &rpcs[at(part)..at(part + 1)]).filter(|part| !part.is_empty())
}

fn times(rpcs: &[Rpc]) -> Times {
    let mut values: Vec<u64> = rpcs.iter().map(|rpc| rpc.latency_ns).collect();
    values.sort_unstable();
    let us = |ns: Option<u64>| ns.map_or(f64::NAN, |ns| ns as f64 / 1e3);
    let at = |share: f64| us(percentile(&values, share));
    Times {
        count: values.len() as u64,
        min_us: us(values.first().copied()),
        p50_us: at(0.5),
        p99_us: at(0.99),
        p999_us: at(0.999),
    }
}

fn slowdown(rpcs: &[Rpc], reference_us: impl Fn(&Rpc) -> f64) -> Slowdown {
    let of = |rpc: &Rpc| rpc.latency_ns as f64 / 1e3 / reference_us(rpc);
    let sorted = |rpcs: &[Rpc]| {
        let mut values: Vec<f64> = rpcs.iter().map(of).collect();
        values.sort_unstable_by(f64::total_cmp);
        values
    };
    let worst_means: Vec<f64> = deciles(rpcs)
        .map(|part| {
            let values = sorted(part);
            let worst = values.len().div_ceil(100);
            // Each tenth needs what a P99 needs.
            percentile(&values, 0.99).map_or(f64::NAN, |_| mean(&values[values.len() - worst..]))
        })
        .collect();
    let values = sorted(rpcs);
    let at = |share: f64| percentile(&values, share).unwrap_or(f64::NAN);
    Slowdown {
        average: if values.len() as u64 >= SAMPLES_MIN { mean(&values) } else { f64::NAN },
        p50: at(0.5),
        p99: at(0.99),
        p999: at(0.999),
        p99_average: mean(&worst_means),
    }
}

/// Offered and carried payload per host and direction, in 10^6 bit/s.
fn goodput(plan: &Plan, found: &Found) -> (f64, f64) {
    let reply = plan.load.reply;
    let begin_ns = (plan.load.warm_up * 1e9) as u64;
    let end_ns = ((plan.load.warm_up + plan.load.secs) * 1e9) as u64;
    let window = begin_ns..end_ns;
    let mut rounds: Vec<u32> = found.summaries.iter().map(|summary| summary.0).collect();
    rounds.dedup();
    let hosts = found.summaries.iter().map(|summary| summary.1 + 1).max().unwrap_or(1);
    // Of an incast only one link carries the load.
    let links = if plan.load.pattern == Pattern::Incast { 1 } else { hosts };
    let seconds = plan.load.secs * rounds.len().max(1) as f64 * f64::from(links);
    let (mut offered, mut carried) = (0.0, 0.0);
    for rpc in &found.rpcs {
        let bytes = (rpc.size_bytes + reply.bytes(rpc.size_bytes)) as f64;
        if window.contains(&rpc.start_ns) {
            offered += bytes;
        }
        if rpc.status == Status::Ok && window.contains(&(rpc.start_ns + rpc.latency_ns)) {
            carried += bytes;
        }
    }
    (offered * 8e-6 / seconds, carried * 8e-6 / seconds)
}

fn add_agents(summary: &mut Summary, found: &Found) {
    let mut cpu_ns = 0;
    for (_, _, agent) in &found.summaries {
        cpu_ns += agent.cpu_ns;
        summary.lag_p99_us = summary.lag_p99_us.max(agent.lag_p99_ns as f64 / 1e3);
        summary.lag_max_us = summary.lag_max_us.max(agent.lag_max_ns as f64 / 1e3);
        summary.retransmitted_bytes += agent.retransmitted_bytes;
        summary.retransmitted_packets += agent.retransmitted_packets;
        summary.dropped_by_system += agent.dropped_by_system;
        for (name, count) in &agent.counters {
            *summary.counters.entry(name.clone()).or_default() += count;
        }
    }
    summary.cpu_us_per_rpc = cpu_ns as f64 / 1e3 / found.rpcs.len().max(1) as f64;
    let mut late_ns = found.late_ns.clone();
    late_ns.sort_unstable();
    let late_us = |share| quantile(&late_ns, share).map_or(0.0, |ns| ns as f64 / 1e3);
    summary.machine_late_p99_us = late_us(0.99);
    summary.machine_late_max_us = late_us(1.0);
    summary.machine_busy = mean(&found.machine_busy);
}

fn add_queues(summary: &mut Summary, found: &Found) {
    let mut ports: std::collections::BTreeMap<(u32, u64, u32), u64> = Default::default();
    let mut levels = [(0_u64, 0_u64); 8];
    for sample in &found.queues {
        *ports.entry((sample.round, sample.time_ns, sample.port)).or_default() += sample.bytes;
        if let Some(level) = levels.get_mut(usize::from(sample.level)) {
            *level = (level.0 + sample.bytes, level.1 + 1);
        }
    }
    summary.queue_max_bytes = ports.values().copied().max().unwrap_or(0);
    summary.queue_mean_bytes = ports.values().sum::<u64>() as f64 / ports.len().max(1) as f64;
    summary.queue_mean_by_level_bytes =
        levels.iter().map(|(bytes, count)| *bytes as f64 / (*count).max(1) as f64).collect();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rpc(size_bytes: u64, latency_us: u64) -> Rpc {
        Rpc {
            round: 0,
            client: 0,
            server: 1,
            size_bytes,
            start_ns: 0,
            latency_ns: latency_us * 1_000,
            status: Status::Ok,
        }
    }

    #[test]
    fn percentiles_are_values_that_so_many_do_not_exceed() {
        let rpcs: Vec<Rpc> = (1..=1_000).map(|us| rpc(1, us)).collect();
        let found = times(&rpcs);
        assert_eq!(
            (found.min_us, found.p50_us, found.p99_us, found.p999_us),
            (1.0, 500.0, 990.0, 999.0)
        );
        let slow = slowdown(&rpcs, |_| 10.0);
        assert_eq!((slow.average, slow.p50, slow.p99), (50.05, 50.0, 99.0));
    }

    #[test]
    fn the_p99_average_is_the_mean_of_the_worst_of_each_tenth() {
        // Ten sizes, a hundred RPCs each; in each the slowest one takes ten times its size.
        let mut rpcs = Vec::new();
        for size in 1..=10 {
            rpcs.extend((0..99).map(|_| rpc(size, 1)));
            rpcs.push(rpc(size, size * 10));
        }
        let found = slowdown(&rpcs, |_| 1.0);
        assert!((found.p99_average - 55.0).abs() < 1e-9, "{}", found.p99_average);
    }

    #[test]
    fn the_ideal_time_is_serialisation_twice_for_one_packet_and_once_more_for_long_messages() {
        let link = LinkFacts { rate_mbps: 100, rtt_us: 0.0, timer_us: 0.0, mtu_bytes: 1500 };
        let one = ideal_us(&link, Reply::Echo, 1_412);
        assert!((one - 4.0 * 1_514.0 * 0.08).abs() < 1e-6, "{one}");
        let ten = ideal_us(&link, Reply::Echo, 14_120);
        assert!((ten - 22.0 * 1_514.0 * 0.08).abs() < 1e-6, "{ten}");
    }
}
