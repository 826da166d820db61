//! What waits costs nothing: 100,000 calls in service at a server with no data moving cost as much
//! as ten.

use homa_core::Stats;
use homa_virtual::{CallPlan, Response, World};

const MS: u64 = 1_000_000;
const SECOND: u64 = 1_000_000_000;

/// Calls that wait: as many as the promise says, fewer where the compiler does not optimise.
const MANY: usize = if cfg!(debug_assertions) { 20_000 } else { 100_000 };

/// Turns and packets of both ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cost {
    turns: u64,
    packets: u64,
}

/// A world in which `count` calls are in service and everything is quiet.
fn waiting(count: usize) -> World {
    let mut world = World::with_hosts(1, 2, |_| ());
    for index in 0..count as u64 {
        let response = Response::After { service_ns: 60 * SECOND };
        world.call(CallPlan { at_ns: index * 500, response, ..CallPlan::new(0, 1, 20, 20) });
    }
    world.run_until(10 * SECOND);
    let live = |stats: &Stats| stats.live_rpcs;
    assert_eq!(world.total(live), 2 * count as u64);
    world
}

fn cost_of(world: &mut World, until_ns: u64) -> Cost {
    let before = (world.turns(0) + world.turns(1), world.packets());
    world.run_until(until_ns);
    Cost { turns: world.turns(0) + world.turns(1) - before.0, packets: world.packets() - before.1 }
}

#[test]
fn any_number_of_waiting_calls_needs_no_more_turns_and_packets_than_ten() {
    let idle = |count| cost_of(&mut waiting(count), 30 * SECOND);
    let (few, many) = (idle(10), idle(MANY));
    println!("20 s of waiting: ten calls {few:?}, {MANY} calls {many:?}");
    assert_eq!(few.packets, many.packets);
    assert!(many.turns <= few.turns + few.turns / 5, "{few:?} against {many:?}");
    assert!(few.turns < 1000);
}

#[test]
fn a_call_beside_any_number_of_waiting_ones_is_as_quick_as_beside_ten() {
    let beside = |count| {
        let mut world = waiting(count);
        let begin = world.now_ns() + MS;
        let call = world.call(CallPlan { at_ns: begin, ..CallPlan::new(0, 1, 100, 100) });
        let cost = cost_of(&mut world, begin + 50 * MS);
        (world.ledger.calls[call].ended_ns - begin, cost)
    };
    let (few, many) = (beside(10), beside(MANY));
    println!("beside ten {few:?}, beside {MANY} {many:?}");
    assert_eq!(few.0, many.0, "latency in ns");
    // A probe to the peer and its answer may fall into the time.
    assert!(many.1.packets <= few.1.packets + 4);
}
