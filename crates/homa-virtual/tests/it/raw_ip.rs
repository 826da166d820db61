//! Hosts over raw IP: some of this implementation, some that speak pure Linux format only.

use homa_core::{Carriage, SendError, Stats};
use homa_virtual::{CallEnd, CallPlan, HostPlan, Response, World};

const MS: u64 = 1_000_000;
const SECOND: u64 = 1_000_000_000;
const CLIENT: usize = 0;
const SERVER: usize = 1;

fn world(seed: u64, change: impl Fn(&mut HostPlan)) -> World {
    World::with_hosts(seed, 2, |plan| {
        plan.carriage = Carriage::Ip;
        change(plan);
    })
}

fn call(at_ns: u64, bytes: u32) -> CallPlan {
    CallPlan { at_ns, ..CallPlan::new(CLIENT, SERVER, bytes, bytes) }
}

#[track_caller]
fn all_answered(world: &mut World) {
    assert!(world.run_calls(60 * SECOND), "every call ends");
    for (number, call) in world.ledger.calls.iter().enumerate() {
        assert_eq!(call.end, Some(CallEnd::Answered), "call {number}: {:?}", call.plan);
    }
    assert_eq!(world.ledger.violations, Vec::<String>::new());
    assert_eq!(world.ledger.executed_twice(), []);
}

fn server_stats(world: &World) -> Stats {
    world.shard(SERVER).expect("it is up").stats()
}

#[test]
fn two_ends_of_this_implementation_find_each_other_with_the_first_call() {
    let mut world = world(1, |_| ());
    for number in 0..20 {
        world.call(call(number * MS, 30_000));
    }
    all_answered(&mut world);
    assert_eq!(world.total(|stats| stats.peers_discovered), 2, "each found the other");
    assert_eq!(world.total(|stats| stats.cutoffs_received), 2, "and said nothing for it but once");
    assert_eq!(world.leftovers(), Vec::<String>::new());
}

#[test]
fn with_discovery_switched_off_on_one_side_everything_stays_in_linux_format() {
    for off in [CLIENT, SERVER] {
        let mut world = World::new(2);
        for number in [CLIENT, SERVER] {
            let mut plan = HostPlan::new(number as u8 + 1);
            plan.carriage = Carriage::Ip;
            plan.config.peers.discover = number != off;
            world.add_host(plan);
        }
        for number in 0..20 {
            world.call(call(number * MS, 30_000));
        }
        all_answered(&mut world);
        assert_eq!(world.total(|stats| stats.peers_discovered), 0);
    }
}

#[test]
fn messages_beyond_the_limit_of_linux_pass_once_the_peer_is_known() {
    let mut world = world(3, |plan| plan.config.limits.max_message_bytes = 4_000_000);
    world.call(call(0, 3_000_000));
    world.call(call(0, 100));
    world.call(call(MS, 3_000_000));
    assert!(world.run_calls(10 * SECOND));
    let refused = CallEnd::NotSent(SendError::PeerLimit { max: 1_000_000 });
    assert_eq!(world.ledger.end(0), Some(refused));
    assert_eq!(world.ledger.end(2), Some(CallEnd::Answered));
}

#[test]
fn a_host_that_returns_as_a_linux_machine_is_served_at_once() {
    for host in [CLIENT, SERVER] {
        for seed in 0..20 {
            let mut world = world(seed, |plan| plan.returns_as_linux = true);
            for number in 0..5 {
                world.call(call(number * MS, 1 + 9973 * number as u32));
            }
            world.restart(host, 50 * MS, MS);
            for number in 0..50 {
                let bytes = 1 + 2003 * number as u32;
                world.call(call(52 * MS + number * MS / 10, bytes));
            }
            all_answered(&mut world);
            assert!(world.now_ns() < 100 * MS, "without a pause: {} ns", world.now_ns());
            let reverted = world.total(|stats| stats.peers_reverted);
            assert_eq!(reverted, u64::from(host == SERVER), "host {host}");
        }
    }
}

#[test]
fn calls_that_an_earlier_incarnation_had_in_service_end_when_its_host_returns_as_a_linux_machine() {
    let mut world = world(5, |plan| plan.returns_as_linux = true);
    world.call(call(0, 100));
    for _ in 0..200 {
        let slow = Response::After { service_ns: 30 * SECOND };
        world.call(CallPlan { response: slow, ..call(10 * MS, 100) });
    }
    world.restart(SERVER, 3 * SECOND, MS);
    world.call(call(3 * SECOND + 10 * MS, 100));
    assert!(world.run_calls(8 * SECOND), "every call ends");
    assert_eq!(world.ledger.end(201), Some(CallEnd::Answered));
    let failed =
        world.ledger.calls.iter().filter(|call| matches!(call.end, Some(CallEnd::Failed(_))));
    assert_eq!(failed.count(), 200);
}

#[test]
fn after_ten_seconds_of_silence_a_peer_has_to_announce_itself_again() {
    let mut world = world(6, |_| ());
    world.call(call(0, 100));
    world.call(call(MS, 100));
    world.call(call(12 * SECOND, 100));
    all_answered(&mut world);
    // The third call was asked in Linux format with cutoff version 0.
    assert_eq!(world.total(|stats| stats.cutoffs_received), 3);
    assert_eq!(world.total(|stats| stats.peers_discovered), 2);
    assert_eq!(server_stats(&world).peers_reverted, 0);
}

#[test]
fn several_processes_at_one_address_do_not_disturb_each_other() {
    let mut world = World::new(7);
    for (number, address) in [([10, 0, 0, 1], 4000), ([10, 0, 0, 1], 4001), ([10, 0, 0, 2], 4000)]
        .into_iter()
        .enumerate()
    {
        let mut plan = HostPlan::new(number as u8 + 1);
        plan.carriage = Carriage::Ip;
        plan.address = address.into();
        world.add_host(plan);
    }
    for number in 0..40 {
        let at_ns = number * MS / 4;
        for (client, server) in [(0, 2), (1, 2), (2, 0), (2, 1)] {
            world.call(CallPlan { at_ns, ..CallPlan::new(client, server, 20_000, 20_000) });
        }
    }
    all_answered(&mut world);
    assert_eq!(world.total(|stats| stats.peers_discovered), 4);
    assert_eq!(world.total(|stats| stats.peers_reverted), 0);
    assert_eq!(world.total(|stats| stats.stale_incarnations), 0);
    assert_eq!(world.total(|stats| stats.resends_received), 0);
}

#[test]
fn losing_every_second_announcement_does_not_harm() {
    for seed in 0..50 {
        let mut world = world(100 + seed, |_| ());
        world.default_link.loss_ppm = 200_000;
        for number in 0..20 {
            world.call(call(number * 2 * MS, 100 + 5000 * number as u32));
        }
        all_answered(&mut world);
        assert_eq!(world.total(|stats| stats.peers_reverted), 0, "seed {seed}");
    }
}
