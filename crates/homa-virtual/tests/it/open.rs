//! Messages whose length nobody knows when they begin.

use homa_core::{FailReason, Stats};
use homa_virtual::{CallEnd, CallPlan, Dice, LinkPlan, PortPlan, Response, World, Writes};

const US: u64 = 1_000;
const MS: u64 = 1_000_000;
const SECOND: u64 = 1_000_000_000;
const CLIENT: usize = 0;
const SERVER: usize = 1;
const NOTHING: [&str; 0] = [];

fn pair(seed: u64) -> World {
    World::with_hosts(seed, 2, |plan| {
        plan.config.limits.max_message_bytes = 16 << 20;
        plan.uplink_mbps = Some(10_000);
        plan.port = PortPlan { mbps: Some(10_000), buffer_bytes: 1 << 20 };
    })
}

/// A call with open messages, written in pieces of at most so many bytes, so long after each other.
fn call(bytes: (u32, u32), bytes_max: u32, gap_max_ns: u64) -> CallPlan {
    let open = Some(Writes { bytes_max, gap_max_ns });
    CallPlan { open, ..CallPlan::new(CLIENT, SERVER, bytes.0, bytes.1) }
}

/// Loss, duplicates, and packets that overtake each other.
fn bad_link() -> LinkPlan {
    LinkPlan {
        jitter_ns: 50 * US,
        loss_ppm: 50_000,
        duplicate_ppm: 50_000,
        spike_ppm: 10_000,
        spike_ns: 3 * MS,
        ..LinkPlan::default()
    }
}

fn finish(world: &mut World, limit_ns: u64) {
    let ended = world.run_calls(limit_ns);
    assert_eq!(world.ledger.violations, NOTHING);
    assert!(ended, "{:?}", world.ledger.calls);
    assert_eq!(world.leftovers(), NOTHING);
    assert_eq!(world.ledger.violations, NOTHING);
}

fn all_answered(world: &mut World, limit_ns: u64) {
    finish(world, limit_ns);
    let ends: Vec<_> = world.ledger.calls.iter().map(|call| call.end).collect();
    assert!(ends.iter().all(|end| *end == Some(CallEnd::Answered)), "{ends:?}");
}

fn stats(world: &World, host: usize) -> Stats {
    world.shard(host).expect("it is up").stats()
}

#[test]
fn open_messages_of_all_lengths_arrive_as_they_were_written() {
    for bytes in [0, 1, 2, 100, 1_399, 1_400, 1_401, 39_999, 40_000, 65_536, 300_000, 3_000_000] {
        for bytes_max in [1_000, 100_000, 10_000_000] {
            let mut world = pair(u64::from(bytes ^ bytes_max));
            for _ in 0..2 {
                world.call(call((bytes.max(1), bytes), bytes_max, 20 * US));
            }
            all_answered(&mut world, 5 * SECOND);
            let asked =
                stats(&world, CLIENT).resends_tail_sent + stats(&world, SERVER).resends_tail_sent;
            assert_eq!(asked, 0, "nothing is lost, {bytes} bytes, {bytes_max} at a time");
        }
    }
}

#[test]
fn an_open_message_of_no_bytes_is_a_message() {
    let mut world = pair(1);
    world.call(call((0, 0), 100, 0));
    all_answered(&mut world, SECOND);
    assert!(world.packets() <= 6, "{} packets", world.packets());
}

#[test]
fn a_short_open_message_that_is_written_at_once_costs_no_more_packets_than_another() {
    let packets = |open| {
        let mut world = pair(2);
        let plan = CallPlan { open, ..CallPlan::new(CLIENT, SERVER, 1_000, 1_000) };
        world.call(CallPlan::new(CLIENT, SERVER, 10, 10));
        world.call(CallPlan { at_ns: 10 * MS, ..plan });
        all_answered(&mut world, SECOND);
        world.packets()
    };
    // Its last byte comes in a packet of its own.
    let writes = Writes { bytes_max: u32::MAX, gap_max_ns: 0 };
    assert!(packets(Some(writes)) <= packets(None) + 2);
}

#[test]
fn what_is_written_first_leaves_at_once() {
    // As much as may be sent without a grant is read half a round trip later.
    let mut world = pair(3);
    world.default_link.delay_ns = 10 * MS;
    let writes = Writes { bytes_max: 3_000, gap_max_ns: 100 * US };
    let plan = CallPlan { open: Some(writes), ..CallPlan::new(CLIENT, SERVER, 30_000, 30_000) };
    world.call(CallPlan::new(CLIENT, SERVER, 10, 10));
    world.call(CallPlan { at_ns: 100 * MS, ..plan });
    all_answered(&mut world, SECOND);
    let took_ns = world.ledger.calls[1].ended_ns - 100 * MS;
    assert!(took_ns < 30 * MS, "one round trip and the time to write it, not {took_ns} ns");
    let grants = stats(&world, CLIENT).grants_sent + stats(&world, SERVER).grants_sent;
    assert_eq!(grants, 0);
}

#[test]
fn a_long_open_message_is_as_fast_as_its_grants() {
    let took_ns = |open| {
        let mut world = pair(4);
        world.call(CallPlan { open, ..CallPlan::new(CLIENT, SERVER, 5_000_000, 100) });
        all_answered(&mut world, SECOND);
        world.ledger.calls[0].ended_ns
    };
    let writes = Writes { bytes_max: 200_000, gap_max_ns: 0 };
    let (open, other) = (took_ns(Some(writes)), took_ns(None));
    assert!(open < other * 3 / 2, "{open} ns, and {other} ns if its length is known");
}

#[test]
fn nobody_gives_up_while_a_supplier_is_slow() {
    for seed in 10..14 {
        let mut world = pair(seed);
        if seed % 2 == 0 {
            world.default_link = bad_link();
        }
        for _ in 0..4 {
            world.call(call((20, 20), 5, 9 * SECOND));
            world.call(call((200_000, 200_000), 60_000, 9 * SECOND));
        }
        all_answered(&mut world, 300 * SECOND);
        let slowest = world.ledger.calls.iter().map(|call| call.ended_ns).max();
        assert!(slowest > Some(20 * SECOND), "{slowest:?}");
    }
}

#[test]
fn a_slow_supplier_holds_nobody_up() {
    let mut world = pair(20);
    // More of them than there are messages granted to.
    for _ in 0..40 {
        world.call(call((300_000, 10), 60_000, 3 * SECOND));
    }
    for number in 0..20 {
        world.call(CallPlan {
            at_ns: 4 * SECOND + number * 10 * MS,
            ..CallPlan::new(CLIENT, SERVER, 1_000_000, 100)
        });
    }
    all_answered(&mut world, 60 * SECOND);
    for entry in &world.ledger.calls[40..] {
        let took_ns = entry.ended_ns - entry.plan.at_ns;
        assert!(took_ns < 10 * MS, "{took_ns} ns");
    }
}

#[test]
fn many_writes_of_one_byte_arrive() {
    let mut world = pair(21);
    world.call(call((3_000, 3_000), 1, 100 * US));
    world.call(call((50_000, 50_000), 1, 0));
    all_answered(&mut world, 20 * SECOND);
}

#[test]
fn many_writes_of_one_byte_arrive_over_a_bad_link() {
    let mut world = pair(22);
    world.default_link = bad_link();
    world.call(call((1_000, 1_000), 1, 100 * US));
    world.call(call((45_000, 45_000), 1, 0));
    all_answered(&mut world, 60 * SECOND);
}

#[test]
fn readers_of_streams_get_what_has_come_before_the_last_is_written() {
    for seed in 23..27 {
        let mut world = World::with_hosts(seed, 2, |plan| {
            plan.config.limits.max_message_bytes = 16 << 20;
            plan.stream_requests = true;
            plan.read_delay_ns = (seed % 2) * 200 * US;
        });
        if seed > 24 {
            world.default_link = bad_link();
        }
        for bytes in [10, 10_000, 3_000_000] {
            let plan = call((bytes, bytes), 1 + bytes / 10, 50 * MS);
            world.call(CallPlan { read_as_stream: true, ..plan });
        }
        all_answered(&mut world, 60 * SECOND);
        for call in &world.ledger.calls[1..] {
            assert!(call.first_byte_ns + 50 * MS < call.ended_ns, "{call:?}");
        }
    }
}

#[test]
fn a_message_that_grows_beyond_the_limit_of_its_receiver_is_an_error_at_once() {
    // The other end takes less than its sender may send.
    for (small, request, failed) in [
        (SERVER, 3_000_000, FailReason::PeerLimit { max_bytes: Some(100_000) }),
        (CLIENT, 10, FailReason::ResponseTooLong),
    ] {
        for bytes_max in [10_000, 1_000_000] {
            let number = std::cell::Cell::new(0);
            let mut world = World::with_hosts(30, 2, |plan| {
                let limit =
                    if number.replace(number.get() + 1) == small { 100_000 } else { 16 << 20 };
                plan.config.limits.max_message_bytes = limit;
            });
            world.call(CallPlan::new(CLIENT, SERVER, 10, 10));
            world.call(call((request, 3_000_000), bytes_max, 100 * US));
            world.call(call((10, 10), 10, MS));
            finish(&mut world, 5 * SECOND);
            assert_eq!(world.ledger.end(1), Some(CallEnd::Failed(failed)), "{bytes_max}");
            assert_eq!(world.ledger.end(2), Some(CallEnd::Answered));
            assert!(stats(&world, small).dropped_too_long > 0);
        }
    }
}

#[test]
fn an_open_message_grows_as_far_as_the_limit_and_no_further() {
    for (bytes, end) in [
        (99_999, CallEnd::Answered),
        (100_000, CallEnd::Failed(FailReason::DeadlineExceeded { sent: true })),
    ] {
        let mut world =
            World::with_hosts(31, 2, |plan| plan.config.limits.max_message_bytes = 100_000);
        // What cannot be written is not finished either.
        let plan = call((bytes, 99_999), 40_000, 100 * US);
        world.call(CallPlan { deadline_ns: Some(SECOND), ..plan });
        finish(&mut world, 5 * SECOND);
        assert_eq!(world.ledger.end(0), Some(end));
    }
}

#[test]
fn memory_follows_what_has_come_and_not_what_was_said() {
    let mut world = World::with_hosts(32, 2, |plan| {
        plan.config.limits.max_message_bytes = 1 << 20;
        plan.config.limits.receive_memory_bytes = 8 << 20;
    });
    // Half-written messages; none of them has more than a few bytes.
    world.call(CallPlan::new(CLIENT, SERVER, 10, 10));
    for _ in 0..200 {
        world.call(CallPlan { at_ns: MS, ..call((100, 10), 10, 30 * SECOND) });
    }
    world.run_until(SECOND);
    let held = stats(&world, SERVER).receive_memory_bytes;
    assert!(held <= 200 * 256, "{held} bytes");
    let bytes = world.shard(SERVER).expect("it is up").store().incoming_bytes();
    assert!(bytes <= 200 * 20, "{bytes} bytes");
}

#[test]
fn random_writes_arrive_as_they_were_written_whatever_happens() {
    for seed in 0..60 {
        let mut dice = Dice::new(seed);
        let (mut world, hosts) = (World::new(seed), 3);
        for number in 1..=hosts {
            let mut plan = homa_virtual::HostPlan::new(number);
            plan.config.limits.max_message_bytes = 4 << 20;
            plan.config.limits.receive_memory_bytes =
                if dice.below(3) == 0 { 5 << 20 } else { 64 << 20 };
            plan.stream_requests = dice.below(2) == 0;
            plan.read_delay_ns = dice.below(2) * 100 * US;
            plan.config.output.link_mbps = (dice.below(2) == 0).then_some(10_000);
            world.add_host(plan);
        }
        world.default_link = LinkPlan {
            loss_ppm: dice.below(100_000) as u32,
            jitter_ns: dice.below(200 * US),
            duplicate_ppm: dice.below(100_000) as u32,
            ..LinkPlan::default()
        };
        for _ in 0..30 {
            let mut length = || (1_u64 << dice.below(20)) as u32 + dice.below(100) as u32;
            let bytes = (length(), length());
            let most = length().max(bytes.0.max(bytes.1) / 50);
            let gap_ns = 1 << dice.below(24);
            let mut plan = call(bytes, most, gap_ns);
            plan.at_ns = dice.below(20 * MS);
            plan.client = dice.below(u64::from(hosts)) as usize;
            plan.server = (plan.client + 1 + dice.below(2) as usize) % usize::from(hosts);
            plan.framed = dice.below(2) == 0;
            plan.read_as_stream = dice.below(2) == 0;
            plan.response = Response::After { service_ns: dice.below(MS) };
            if dice.below(4) == 0 {
                plan.open = None;
            }
            if dice.below(8) == 0 {
                plan.abort_after_ns = Some(dice.below(10 * MS));
            }
            world.call(plan);
        }
        finish(&mut world, 60 * SECOND);
        for entry in &world.ledger.calls {
            let aborted =
                entry.plan.abort_after_ns.is_some() && entry.end == Some(CallEnd::Aborted);
            assert!(aborted || entry.end == Some(CallEnd::Answered), "seed {seed}: {entry:?}");
        }
    }
}
