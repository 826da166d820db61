//! Many clients, one server, requests that need no grant: nothing holds the senders back, so the
//! port in front of the server is a queue, which the protocol must not make longer than the
//! requests themselves do.

use homa_core::{Carriage, CutoffSource, Cutoffs, Stats};
use homa_virtual::{CallEnd, CallPlan, Dice, HostPlan, PortPlan, World};

const MS: u64 = 1_000_000;
const SECOND: u64 = 1_000_000_000;
const SERVER: usize = 0;
const CLIENTS: usize = 5;
const LINK_MBPS: u32 = 100;
const REQUEST_BYTES: u32 = 5_000;
const REQUEST_PACKETS: u64 = 4;

/// A server and its clients on links of 100 Mbit/s, with settings for such links. `top`: requests
/// go at the highest priority, like control packets; otherwise some priorities below, where probes
/// about them could overtake them.
fn world(carriage: Carriage, top: bool) -> World {
    let mut world = World::new(7);
    for number in 0..=CLIENTS {
        let mut plan = HostPlan::new(number as u8 + 1);
        plan.carriage = carriage;
        plan.uplink_mbps = Some(LINK_MBPS);
        plan.tx_queue_bytes = 1_500_000;
        plan.port = PortPlan { mbps: Some(LINK_MBPS), buffer_bytes: 500_000 };
        plan.rx_buffer_bytes = 212_992;
        plan.config.output.link_mbps = Some(LINK_MBPS);
        plan.config.unscheduled.bytes = 10_500;
        let mut levels = [1_000_000; 8];
        levels[7] = if top { REQUEST_BYTES } else { 100 };
        levels[6] = levels[6].min(if top { u32::MAX } else { 200 });
        plan.config.priorities.cutoffs = CutoffSource::Fixed(Cutoffs::new(levels));
        world.add_host(plan);
    }
    for client in 1..=CLIENTS {
        world.call(CallPlan::new(client, SERVER, 100, 100));
    }
    world
}

/// Has requests arrive for `secs` seconds, independently of each other, that take nine tenths of
/// the server's link. When they arrive, in ns.
fn load(world: &mut World, line_ns: u64, secs: u64) -> Vec<u64> {
    let mut dice = Dice::new(1);
    let mut at_ns = 100 * MS;
    let mut arrivals = Vec::new();
    while at_ns < secs * SECOND {
        let uniform = (dice.below(1 << 40) + 1) as f64 / (1_u64 << 40) as f64;
        at_ns += (-uniform.ln() * line_ns as f64 / 0.9) as u64;
        arrivals.push(at_ns);
        let client = 1 + dice.below(CLIENTS as u64) as usize;
        world.call(CallPlan { at_ns, ..CallPlan::new(client, SERVER, REQUEST_BYTES, 100) });
    }
    arrivals
}

/// How long each request would take if it waited for nothing but those before it at the server's
/// link, in ns.
fn alone_ns(arrivals: &[u64], line_ns: u64) -> Vec<u64> {
    let mut free_ns = 0;
    let passed = arrivals.iter().map(|at| {
        free_ns = free_ns.max(*at) + line_ns;
        free_ns - at
    });
    passed.collect()
}

fn percentile(times: &[u64], percent: usize) -> u64 {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    sorted[(sorted.len() * percent / 100).min(sorted.len() - 1)]
}

fn sum(world: &World, hosts: std::ops::RangeInclusive<usize>, counter: fn(&Stats) -> u64) -> u64 {
    hosts.flat_map(|host| world.stats(host)).map(|stats| counter(&stats)).sum()
}

#[test]
fn requests_that_need_no_grant_wait_for_each_other_and_for_little_else() {
    let secs = if cfg!(debug_assertions) { 3 } else { 8 };
    for (carriage, top) in
        [(Carriage::Udp, true), (Carriage::Udp, false), (Carriage::Ip, true), (Carriage::Ip, false)]
    {
        let headers = if carriage == Carriage::Udp { 56 + 8 + 20 + 14 } else { 56 + 20 + 14 };
        let bytes = u64::from(REQUEST_BYTES) + REQUEST_PACKETS * headers;
        let line_ns = bytes * 8_000 / u64::from(LINK_MBPS);
        let mut world = world(carriage, top);
        let arrivals = load(&mut world, line_ns, secs);
        assert!(world.run_calls(60 * SECOND), "calls have not ended");
        let calls = &world.ledger.calls[CLIENTS..];
        assert!(calls.iter().all(|call| call.end == Some(CallEnd::Answered)));
        let times: Vec<u64> = calls.iter().map(|call| call.ended_ns - call.plan.at_ns).collect();
        let alone = alone_ns(&arrivals, line_ns);
        // Besides, a request takes its sender's link, and mixes with others on the way.
        for (percent, limit) in [(50, 140), (99, 130)] {
            let [took, least] = [&times, &alone].map(|times| percentile(times, percent));
            println!("{carriage:?} {top} P{percent}: {took} ns, by requests alone {least} ns");
            assert!(took * 100 <= least * limit, "{carriage:?} {top} P{percent}: {took} {least}");
        }
        let count = calls.len() as u64;
        let packets = sum(&world, 1..=CLIENTS, |stats| stats.packets_sent);
        assert!(packets <= count * REQUEST_PACKETS * 101 / 100, "{packets} for {count} requests");
        assert_eq!(sum(&world, 1..=CLIENTS, |stats| stats.bytes_retransmitted), 0);
        assert_eq!(sum(&world, 1..=CLIENTS, |stats| stats.mtu_black_holes), 0);
    }
}

#[test]
fn a_burst_that_the_port_cannot_hold_waits_at_its_senders() {
    // Twice what fits into the port.
    const BURST: usize = 200;
    for top in [true, false] {
        let mut world = world(Carriage::Udp, top);
        for index in 0..BURST {
            let call = CallPlan::new(1 + index % CLIENTS, SERVER, REQUEST_BYTES, 100);
            world.call(CallPlan { at_ns: 10 * MS, ..call });
        }
        assert!(world.run_calls(60 * SECOND), "calls have not ended");
        assert_eq!(world.ledger.answered(), BURST + CLIENTS);
        let again = sum(&world, 1..=CLIENTS, |stats| stats.bytes_retransmitted);
        assert_eq!(again, 0, "top {top}: the port overflowed, or what was late was sent again");
        // Answers that waited in nobody's queue are sent again on RESENDs that came too early.
        let answers = sum(&world, SERVER..=SERVER, |stats| stats.bytes_retransmitted);
        assert!(answers <= BURST as u64 / 4 * 100, "top {top}: {answers} bytes of answers");
    }
}
