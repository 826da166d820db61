//! One behaviour per test, on the virtual network: real engines, real stores, real turns; virtual
//! time.

use std::time::Duration;

use homa_core::{Carriage, FailReason, SendError};
use homa_virtual::{
    CallEnd, CallPlan, LinkPlan, MtuChange, Partition, PortPlan, RefusalRates, Response, World,
};

const US: u64 = 1_000;
const MS: u64 = 1_000_000;
const SECOND: u64 = 1_000_000_000;
const CLIENT: usize = 0;
const SERVER: usize = 1;
const NOTHING: [&str; 0] = [];

/// A client and a server.
fn pair(seed: u64) -> World {
    World::with_hosts(seed, 2, |plan| plan.config.limits.max_message_bytes = 16 << 20)
}

/// A client and a server on a network of 10 Gbit/s: long messages take their time.
fn slower_pair(seed: u64) -> World {
    World::with_hosts(seed, 2, |plan| {
        plan.config.limits.max_message_bytes = 16 << 20;
        plan.uplink_mbps = Some(10_000);
        plan.port = PortPlan { mbps: Some(10_000), buffer_bytes: 1 << 20 };
    })
}

fn call(request_bytes: u32, response_bytes: u32) -> CallPlan {
    CallPlan::new(CLIENT, SERVER, request_bytes, response_bytes)
}

/// Runs until all calls have ended and everything is forgotten, and checks all that must always
/// hold.
fn finish(world: &mut World, limit_ns: u64) {
    world.show_packets = std::env::var_os("HOMA_SHOW_PACKETS").is_some();
    let ended = world.run_calls(limit_ns);
    assert_eq!(world.ledger.violations, NOTHING);
    let open: Vec<_> =
        (0..world.ledger.calls.len()).filter(|call| world.ledger.end(*call).is_none()).collect();
    assert!(ended, "calls {open:?} have not ended after {limit_ns} ns");
    assert_eq!(world.ledger.executed_twice(), [0; 0], "handlers ran twice");
    assert_eq!(world.leftovers(), NOTHING);
    assert_eq!(world.ledger.violations, NOTHING);
}

fn all_answered(world: &mut World, limit_ns: u64) {
    finish(world, limit_ns);
    let ends: Vec<_> = world.ledger.calls.iter().map(|call| call.end).collect();
    assert!(ends.iter().all(|end| *end == Some(CallEnd::Answered)), "{ends:?}");
}

#[test]
fn a_small_call_takes_one_round_trip_and_few_packets() {
    let mut world = pair(1);
    world.call(call(100, 100));
    all_answered(&mut world, SECOND);
    let took = world.ledger.calls[0].ended_ns;
    assert!(took < 20 * US, "took {took} ns");
    assert!(world.packets() <= 6, "{} packets", world.packets());
}

#[test]
fn messages_of_every_awkward_length_arrive_intact() {
    let mut world = pair(2);
    let lengths = [
        1, 2, 3, 1415, 1416, 1417, 1443, 1444, 2832, 39_999, 40_000, 40_001, 65_535, 65_536,
        65_537, 131_072, 999_999, 1_000_000, 3_000_001,
    ];
    for (index, length) in lengths.into_iter().enumerate() {
        let mut plan = call(length, lengths[lengths.len() - 1 - index]);
        plan.at_ns = index as u64 * 20 * MS;
        world.call(plan);
    }
    all_answered(&mut world, 10 * SECOND);
    assert_eq!(world.total(|stats| stats.bytes_retransmitted), 0);
}

#[test]
fn ten_megabytes_go_both_ways() {
    let mut world = pair(3);
    world.call(call(10_000_000, 10_000_000));
    all_answered(&mut world, 10 * SECOND);
}

#[test]
fn a_thousand_calls_at_once_are_all_answered() {
    let mut world = pair(4);
    for index in 0..1000 {
        world.call(call(10 + index, 1000 - index % 900));
    }
    all_answered(&mut world, 5 * SECOND);
    assert_eq!(world.rx_dropped(CLIENT) + world.rx_dropped(SERVER), 0);
}

#[test]
fn thirty_percent_loss_both_ways_ends_every_call() {
    let mut world = pair(5);
    world.default_link.loss_ppm = 300_000;
    for index in 0..40 {
        world.call(call(1 + index * 997, 1 + index * 3001));
    }
    finish(&mut world, 60 * SECOND);
    assert!(world.ledger.answered() >= 38, "only {} answered", world.ledger.answered());
    assert!(world.total(|stats| stats.resends_gap_sent) > 0);
    assert!(world.total(|stats| stats.resends_tail_sent) > 0);
}

#[test]
fn duplicates_and_reordering_change_nothing() {
    let mut world = pair(6);
    world.default_link.duplicate_ppm = 300_000;
    world.default_link.jitter_ns = 300 * US;
    for index in 0..50 {
        world.call(call(1 + index * 997, 1 + index * 3001));
    }
    all_answered(&mut world, 10 * SECOND);
}

#[test]
fn a_partition_that_heals_within_the_timeout_fails_no_call() {
    let mut world = pair(7);
    for index in 0..10 {
        let mut plan = call(100 + index * 20_000, 150_000);
        plan.at_ns = u64::from(index) * 50 * US;
        world.call(plan);
    }
    world.partition(Partition { from: vec![], to: vec![], start_ns: 100 * US, end_ns: 400 * MS });
    all_answered(&mut world, 5 * SECOND);
}

#[test]
fn a_partition_in_either_direction_alone_is_survived_too() {
    for (from, to) in [(CLIENT, SERVER), (SERVER, CLIENT)] {
        let mut world = pair(8);
        for index in 0..10 {
            let mut plan = call(100 + index * 20_000, 150_000);
            plan.at_ns = u64::from(index) * 50 * US;
            world.call(plan);
        }
        let (from, to) = (vec![from], vec![to]);
        world.partition(Partition { from, to, start_ns: 100 * US, end_ns: 400 * MS });
        all_answered(&mut world, 5 * SECOND);
    }
}

// Scenario: T2
#[test]
fn a_partition_that_does_not_heal_ends_calls_by_timeout() {
    let mut world = pair(9);
    world.partition(Partition { from: vec![], to: vec![], start_ns: 0, end_ns: 30 * SECOND });
    for length in [10, 100_000] {
        world.call(call(length, 10));
    }
    finish(&mut world, 5 * SECOND);
    for call in &world.ledger.calls {
        assert_eq!(call.end, Some(CallEnd::Failed(FailReason::Timeout)));
        assert!((1000 * MS..1500 * MS).contains(&call.ended_ns), "after {} ns", call.ended_ns);
    }
}

#[test]
fn a_port_that_does_not_serve_is_an_error_at_once() {
    let mut world = World::with_hosts(10, 2, |plan| plan.serves = false);
    world.call(call(100, 100));
    world.call(call(500_000, 100));
    finish(&mut world, SECOND);
    for call in &world.ledger.calls {
        assert_eq!(call.end, Some(CallEnd::Failed(FailReason::NoService)));
        assert!(call.ended_ns < MS, "after {} ns", call.ended_ns);
    }
}

// Scenario: E1
#[test]
fn a_closed_socket_is_an_error_as_soon_as_icmp_tells() {
    let mut world = pair(11);
    world.faults.icmp_ppm = 1_000_000;
    world.kill(SERVER, 0);
    world.call(CallPlan { at_ns: US, ..call(100, 100) });
    finish(&mut world, SECOND);
    assert!(
        matches!(world.ledger.end(0), Some(CallEnd::Failed(FailReason::NoService))),
        "{:?}",
        world.ledger.end(0)
    );
    assert!(world.ledger.calls[0].ended_ns < MS);
}

#[test]
fn a_server_that_dies_in_the_middle_ends_calls_by_timeout() {
    let mut world = slower_pair(12);
    world.kill(SERVER, 100 * US);
    world.call(call(5_000_000, 10));
    world.call(CallPlan { response: Response::After { service_ns: SECOND }, ..call(10, 10) });
    finish(&mut world, 10 * SECOND);
    for call in &world.ledger.calls {
        assert_eq!(call.end, Some(CallEnd::Failed(FailReason::Timeout)));
        assert!(call.ended_ns < 3 * SECOND, "after {} ns", call.ended_ns);
    }
}

#[test]
fn dropping_a_call_frees_the_server_at_once() {
    let mut world = slower_pair(13);
    let never =
        CallPlan { response: Response::Never, abort_after_ns: Some(5 * MS), ..call(100, 100) };
    world.call(never);
    world.call(CallPlan { abort_after_ns: Some(50 * US), ..call(5_000_000, 100) });
    world.call(CallPlan { abort_after_ns: Some(50 * US), ..call(100, 5_000_000) });
    world.run_until(6 * MS);
    for host in [CLIENT, SERVER] {
        let stats = world.shard(host).expect("it is up").stats();
        assert_eq!((stats.live_rpcs, stats.receive_memory_bytes), (0, 0), "host {host}");
    }
    finish(&mut world, SECOND);
    assert!(world.ledger.calls.iter().all(|call| call.end == Some(CallEnd::Aborted)));
}

#[test]
fn a_deadline_ends_the_call_when_it_says() {
    let mut world = pair(14);
    let late = CallPlan { response: Response::Never, deadline_ns: Some(30 * MS), ..call(100, 100) };
    world.call(late);
    world.call(CallPlan { deadline_ns: Some(30 * MS), ..call(100, 100) });
    finish(&mut world, SECOND);
    let exceeded = CallEnd::Failed(FailReason::DeadlineExceeded { sent: true });
    assert_eq!(world.ledger.end(0), Some(exceeded));
    assert!((30 * MS..31 * MS).contains(&world.ledger.calls[0].ended_ns));
    assert_eq!(world.ledger.end(1), Some(CallEnd::Answered));
}

#[test]
fn a_dropped_request_is_an_error_at_once() {
    let mut world = pair(15);
    world.call(CallPlan { response: Response::Rejected, ..call(100, 100) });
    world.call(CallPlan { response: Response::Rejected, ..call(300_000, 100) });
    finish(&mut world, SECOND);
    for call in &world.ledger.calls {
        assert_eq!(call.end, Some(CallEnd::Failed(FailReason::Rejected)));
        assert!(call.ended_ns < 20 * MS);
    }
}

#[test]
fn a_dropped_request_is_an_error_although_every_second_packet_is_lost() {
    let mut world = pair(16);
    world.default_link.loss_ppm = 500_000;
    for _ in 0..20 {
        world.call(CallPlan { response: Response::Rejected, ..call(100, 100) });
    }
    finish(&mut world, 5 * SECOND);
    let rejected = |end: Option<CallEnd>| end == Some(CallEnd::Failed(FailReason::Rejected));
    assert!(world.ledger.calls.iter().all(|call| rejected(call.end)));
}

#[test]
fn a_service_time_of_ten_seconds_is_waited_for_and_costs_little() {
    let mut world = pair(17);
    world
        .call(CallPlan { response: Response::After { service_ns: 10 * SECOND }, ..call(100, 100) });
    all_answered(&mut world, 20 * SECOND);
    assert!(world.packets() < 100, "{} packets", world.packets());
}

#[test]
fn a_restarted_server_says_so() {
    let mut world = slower_pair(18);
    world.call(call(10, 10));
    let slow = Response::After { service_ns: SECOND };
    world.call(CallPlan { at_ns: MS, response: slow, ..call(100, 100) });
    world.call(CallPlan { at_ns: MS, ..call(5_000_000, 100) });
    world.restart(SERVER, 2 * MS - 500 * US, 100 * US);
    finish(&mut world, 5 * SECOND);
    assert_eq!(world.ledger.end(0), Some(CallEnd::Answered));
    for call in 1..3 {
        assert_eq!(
            world.ledger.end(call),
            Some(CallEnd::Failed(FailReason::Restarted)),
            "call {call}"
        );
        assert!(
            world.ledger.calls[call].ended_ns < 200 * MS,
            "after {} ns",
            world.ledger.calls[call].ended_ns
        );
    }
}

#[test]
fn a_restarted_client_is_served_and_its_earlier_calls_are_forgotten() {
    let mut world = slower_pair(19);
    world
        .call(CallPlan { response: Response::After { service_ns: 50 * MS }, ..call(100, 400_000) });
    world.call(call(5_000_000, 100));
    world.restart(CLIENT, MS, MS);
    world.call(CallPlan { at_ns: 3 * MS, ..call(100, 100) });
    finish(&mut world, 5 * SECOND);
    assert_eq!(world.ledger.end(0), Some(CallEnd::HostGone));
    assert_eq!(world.ledger.end(1), Some(CallEnd::HostGone));
    assert_eq!(world.ledger.end(2), Some(CallEnd::Answered));
}

#[test]
fn closing_an_endpoint_tells_clients_and_servers_at_once() {
    let mut world = slower_pair(20);
    world.call(CallPlan { response: Response::After { service_ns: SECOND }, ..call(100, 100) });
    world.call(call(5_000_000, 100));
    world.close(SERVER, MS);
    world.call(CallPlan { at_ns: 10 * MS, ..call(100, 100) });
    finish(&mut world, 5 * SECOND);
    for call in 0..2 {
        assert_eq!(world.ledger.end(call), Some(CallEnd::Failed(FailReason::Closing)));
        assert!(world.ledger.calls[call].ended_ns < 5 * MS);
    }
    assert_eq!(world.ledger.end(2), Some(CallEnd::Failed(FailReason::NoService)));

    let mut world = pair(21);
    world.call(CallPlan { response: Response::Never, ..call(100, 100) });
    world.close(CLIENT, MS);
    world.run_until(2 * MS);
    assert_eq!(world.ledger.end(0), Some(CallEnd::Failed(FailReason::EndpointClosed)));
    assert_eq!(world.shard(SERVER).expect("it is up").stats().live_rpcs, 0);
}

#[test]
fn a_server_that_drains_answers_what_has_begun_and_refuses_the_rest_under_loss() {
    for seed in 30..40 {
        let mut world = slower_pair(seed);
        world.default_link.loss_ppm = 100_000;
        let slow = Response::After { service_ns: 300 * MS };
        let plan = CallPlan { framed: seed % 2 == 0, response: slow, ..call(100, 300_000) };
        for number in 0..40 {
            world.call(CallPlan { at_ns: number * MS, ..plan });
        }
        // Nobody knows which of them came before the port was drained.
        world.drain(SERVER, 20 * MS);
        finish(&mut world, 10 * SECOND);
        let ends = |end| world.ledger.calls.iter().filter(|call| call.end == Some(end)).count();
        let refused = CallEnd::Failed(FailReason::NotExecuted);
        assert_eq!(ends(CallEnd::Answered) + ends(refused), 40);
        assert!(ends(CallEnd::Answered) > 10 && ends(refused) >= 20);
        let executed = world.ledger.calls.iter().filter(|call| !call.executions.is_empty());
        assert_eq!(executed.count(), ends(CallEnd::Answered), "what was refused never ran");
    }
}

#[test]
fn the_mark_of_framed_messages_arrives_under_loss() {
    let mut world = slower_pair(41);
    world.default_link.loss_ppm = 100_000;
    for number in 0..40 {
        let pieces = Response::InPieces { service_ns: 10 * US, piece_bytes: 10_000 };
        let plan = CallPlan { framed: number % 2 == 0, ..call(100_000, 50_000) };
        world.call(CallPlan { request_piece_bytes: Some(7_000), response: pieces, ..plan });
        world.call(plan);
    }
    all_answered(&mut world, 10 * SECOND);
}

#[test]
fn a_request_that_the_server_did_not_execute_is_refused_so_under_loss() {
    let mut world = pair(42);
    world.default_link.loss_ppm = 300_000;
    for _ in 0..20 {
        world.call(CallPlan { response: Response::NotExecuted, ..call(100, 100) });
    }
    finish(&mut world, 5 * SECOND);
    let refused = Some(CallEnd::Failed(FailReason::NotExecuted));
    assert!(world.ledger.calls.iter().all(|call| call.end == refused));
}

#[test]
fn the_first_byte_of_a_streamed_response_is_readable_before_the_last_is_sent() {
    let mut world = pair(22);
    let response = Response::InPieces { service_ns: MS, piece_bytes: 100_000 };
    world.call(CallPlan { response, read_as_stream: true, ..call(100, 1_000_000) });
    all_answered(&mut world, 5 * SECOND);
    let call = &world.ledger.calls[0];
    assert!(call.first_byte_ns < 2 * MS, "first byte after {} ns", call.first_byte_ns);
    assert!(call.ended_ns > 9 * MS);
}

#[test]
fn a_request_that_is_supplied_slowly_arrives_whole() {
    for stream_requests in [false, true] {
        let mut world = World::with_hosts(23, 2, |plan| plan.stream_requests = stream_requests);
        world.call(CallPlan { request_piece_bytes: Some(3000), ..call(500_000, 10) });
        all_answered(&mut world, 5 * SECOND);
    }
}

#[test]
fn a_sender_may_pause_for_longer_than_the_timeout() {
    let mut world = pair(24);
    let response = Response::InPieces { service_ns: 3 * SECOND, piece_bytes: 1000 };
    world.call(CallPlan { response, read_as_stream: true, ..call(100, 4000) });
    world.call(CallPlan { response, ..call(100, 4000) });
    all_answered(&mut world, 60 * SECOND);
}

#[test]
fn a_slow_reader_holds_the_sender_back() {
    let mut world = World::with_hosts(25, 2, |plan| {
        plan.config.limits.max_message_bytes = 16 << 20;
        plan.config.fixed.unread_bytes_max = 128 << 10;
        plan.read_delay_ns = 2 * MS;
    });
    world.call(CallPlan { read_as_stream: true, ..call(100, 4_000_000) });
    let mut most = 0;
    for step in 0..400 {
        world.run_until(step * 500 * US);
        most = most.max(world.shard(CLIENT).expect("it is up").store().incoming_bytes());
    }
    assert!((64 << 10..300 << 10).contains(&most), "{most} bytes waited");
    all_answered(&mut world, 10 * SECOND);
}

#[test]
fn bytes_that_have_arrived_are_released_while_the_rest_is_on_its_way() {
    let mut world = slower_pair(45);
    world.call(call(10_000_000, 10));
    world.run_until(5 * MS);
    let held = world.shard(CLIENT).expect("it is up").store().outgoing_bytes();
    assert!((1_000_000..8_000_000).contains(&held), "{held} bytes held of ten million");
    all_answered(&mut world, SECOND);
}

#[test]
fn a_smaller_mtu_in_the_middle_of_a_message_is_learned_from_the_system() {
    let mut world = slower_pair(26);
    world.call(call(2_000_000, 2_000_000));
    world.change_mtu(300 * US, MtuChange { from: CLIENT, to: SERVER, mtu: 1300, known: true });
    world.change_mtu(300 * US, MtuChange { from: SERVER, to: CLIENT, mtu: 1400, known: true });
    all_answered(&mut world, 10 * SECOND);
    assert!(world.total(|stats| stats.transmit_too_big) > 0);
}

#[test]
fn a_smaller_mtu_in_the_middle_of_a_message_is_learned_from_routers() {
    let mut world = slower_pair(27);
    world.call(call(2_000_000, 2_000_000));
    world.change_mtu(300 * US, MtuChange { from: CLIENT, to: SERVER, mtu: 1300, known: false });
    world.change_mtu(400 * US, MtuChange { from: SERVER, to: CLIENT, mtu: 1400, known: false });
    all_answered(&mut world, 10 * SECOND);
    assert!(world.total(|stats| stats.mtu_shrinks) > 0);
}

#[test]
fn a_path_that_swallows_long_packets_silently_is_survived() {
    for at_ns in [0, 300 * US] {
        let mut world = slower_pair(28);
        world.default_link.too_big_is_told = false;
        world.call(call(2_000_000, 2_000_000));
        world.change_mtu(at_ns, MtuChange { from: CLIENT, to: SERVER, mtu: 1300, known: false });
        world.change_mtu(at_ns, MtuChange { from: SERVER, to: CLIENT, mtu: 1300, known: false });
        all_answered(&mut world, 20 * SECOND);
        assert!(world.total(|stats| stats.mtu_black_holes) > 0);
    }
}

#[test]
fn a_driver_without_room_loses_nothing() {
    let mut world = pair(29);
    for host in [CLIENT, SERVER] {
        world.refuse(host, RefusalRates { no_room_ppm: 300_000, ..RefusalRates::default() });
    }
    for index in 0..30 {
        world.call(call(100 + index * 10_000, 100 + index * 10_000));
    }
    all_answered(&mut world, 10 * SECOND);
    assert!(world.total(|stats| stats.transmit_no_room) > 0);
    assert_eq!(world.total(|stats| stats.bytes_retransmitted), 0, "refused data is not lost data");
    assert_eq!(world.total(|stats| stats.dropped_duplicate), 0, "and what was sent was sent");
}

// Scenario: E10
#[test]
fn a_missing_route_is_waited_for() {
    let mut world = pair(30);
    for host in [CLIENT, SERVER] {
        world.refuse(host, RefusalRates { unreachable_ppm: 200_000, ..RefusalRates::default() });
    }
    for index in 0..30 {
        world.call(call(100 + index * 10_000, 100 + index * 10_000));
    }
    finish(&mut world, 10 * SECOND);
    assert!(world.ledger.answered() >= 1);
    assert!(world.total(|stats| stats.transmit_unreachable) > 0);
}

#[test]
fn a_forbidden_destination_is_an_error_at_once() {
    let mut world = pair(31);
    world.refuse(CLIENT, RefusalRates { refused_ppm: 1_000_000, ..RefusalRates::default() });
    world.call(call(100, 100));
    world.call(call(500_000, 100));
    finish(&mut world, SECOND);
    for call in &world.ledger.calls {
        assert_eq!(call.end, Some(CallEnd::Failed(FailReason::Refused)));
        assert!(call.ended_ns < MS);
    }
}

#[test]
fn a_host_that_is_stopped_for_300_ms_fails_no_call() {
    for host in [CLIENT, SERVER] {
        let mut world = pair(32);
        for index in 0..20 {
            let response = Response::After { service_ns: u64::from(index % 3) * 100 * MS };
            let at_ns = u64::from(index) * 30 * US;
            world.call(CallPlan {
                at_ns,
                response,
                ..call(100 + index * 9000, 100 + index * 9000)
            });
        }
        world.run_until(200 * US);
        world.pause(host, 300 * MS);
        all_answered(&mut world, 5 * SECOND);
    }
}

#[test]
fn a_client_that_is_stopped_for_three_seconds_still_gets_its_answers() {
    let mut world = pair(33);
    for index in 0..10 {
        world.call(call(100, 100 + index * 9000));
    }
    world.run_until(2 * US);
    world.pause(CLIENT, 3 * SECOND);
    all_answered(&mut world, 10 * SECOND);
}

// Scenario: B9
#[test]
fn scarce_receive_memory_delays_messages_and_deadlocks_none() {
    let mut world = World::with_hosts(34, 4, |plan| {
        plan.config.limits.receive_memory_bytes = 1 << 20;
        plan.config.limits.max_message_bytes = 500_000;
    });
    for index in 0..60 {
        let plan = CallPlan::new(index % 3, 3, 100_000 + 6000 * index as u32, 1000);
        world.call(plan);
    }
    all_answered(&mut world, 20 * SECOND);
    assert!(world.total(|stats| stats.messages_unallocated) > 0);
}

#[test]
fn an_incast_into_a_stock_receive_buffer_ends_well() {
    let mut world = World::with_hosts(35, 17, |plan| {
        plan.rx_buffer_bytes = 212_992;
        plan.uplink_mbps = Some(10_000);
        plan.port = PortPlan { mbps: Some(10_000), buffer_bytes: 500_000 };
    });
    for index in 0..160 {
        world.call(CallPlan::new(1 + index % 16, 0, 30_000, 100));
    }
    all_answered(&mut world, 20 * SECOND);
}

#[test]
fn a_short_message_passes_long_ones_on_a_busy_link() {
    let mut world = World::with_hosts(36, 3, |plan| {
        plan.uplink_mbps = Some(10_000);
        plan.port = PortPlan { mbps: Some(10_000), buffer_bytes: 2 << 20 };
        plan.config.limits.max_message_bytes = 16 << 20;
        plan.config.output.link_mbps = Some(10_000);
    });
    for client in [0, 2, 0, 2] {
        world.call(CallPlan::new(client, 1, 5_000_000, 10));
    }
    for index in 0..20 {
        let at_ns = MS + index * 300 * US;
        world.call(CallPlan { at_ns, ..CallPlan::new(0, 1, 500, 10) });
    }
    all_answered(&mut world, 10 * SECOND);
    let mut took: Vec<u64> =
        world.ledger.calls[4..].iter().map(|call| call.ended_ns - call.plan.at_ns).collect();
    took.sort_unstable();
    assert!(took[10] < 100 * US, "median {} ns behind 20 MB", took[10]);
}

#[test]
fn forged_damaged_and_misdirected_packets_break_nothing() {
    for seed in 0..20 {
        let mut world = World::with_hosts(3700 + seed, 3, |_| ());
        world.faults.forge_ppm = 200_000;
        world.default_link.loss_ppm = 10_000;
        for index in 0..40 {
            world.call(CallPlan::new(
                index % 3,
                (index + 1) % 3,
                1 + 997 * index as u32,
                1 + 4001 * index as u32,
            ));
        }
        all_answered(&mut world, 20 * SECOND);
    }
}

#[test]
fn random_bytes_from_anywhere_are_counted_and_dropped() {
    let mut world = pair(38);
    let mut state = 1_u64;
    for index in 0..20_000_u64 {
        let mut bytes = Vec::new();
        for _ in 0..index % 120 {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            bytes.push((state >> 33) as u8);
        }
        if let (Some(kind), true) = (bytes.get_mut(11), index % 2 == 0) {
            *kind = 0x10 + (index % 9) as u8;
        }
        let from = std::net::SocketAddr::from((
            [192, 0, 2, (index % 250) as u8],
            1 + (index % 60_000) as u16,
        ));
        world.inject(index * US, from, SERVER, bytes);
    }
    world.call(CallPlan { at_ns: 10 * MS, ..call(100_000, 100_000) });
    all_answered(&mut world, 10 * SECOND);
    assert!(world.total(|stats| stats.dropped_malformed) > 0);
    assert!(world.total(|stats| stats.dropped_foreign) > 0);
}

// Scenario: A14
#[test]
fn late_duplicates_within_the_promise_do_not_run_a_handler_again() {
    let mut world = pair(39);
    world.faults.late_ppm = 500_000;
    world.faults.late_ns = 1_900 * MS;
    for index in 0..100 {
        world.call(CallPlan { at_ns: index * 10 * MS, ..call(100, 100) });
    }
    all_answered(&mut world, 20 * SECOND);
    assert!(world.total(|stats| stats.finished_hits) > 10);
}

#[test]
fn over_raw_ip_the_same_calls_work() {
    let mut world = World::with_hosts(40, 2, |plan| plan.carriage = Carriage::Ip);
    world.default_link.loss_ppm = 20_000;
    for index in 0..60 {
        let at_ns = u64::from(index) * 100 * US;
        world.call(CallPlan { at_ns, ..call(1 + index * 997, 1 + index * 3001) });
    }
    all_answered(&mut world, 10 * SECOND);
}

#[test]
fn limits_are_errors_that_name_themselves() {
    let mut world = World::with_hosts(41, 2, |plan| {
        plan.config.limits.max_message_bytes = 10_000;
        plan.config.limits.receive_memory_bytes = 1 << 20;
        plan.config.limits.max_rpcs = 8;
    });
    world.call(call(10_001, 10));
    for _ in 0..9 {
        world.call(CallPlan { response: Response::After { service_ns: MS }, ..call(100, 100) });
    }
    finish(&mut world, 5 * SECOND);
    assert_eq!(world.ledger.end(0), Some(CallEnd::NotSent(SendError::TooLong { max: 10_000 })));
    assert_eq!(world.ledger.end(9), Some(CallEnd::NotSent(SendError::RpcLimit)));
    let refused = world
        .ledger
        .calls
        .iter()
        .filter(|call| call.end == Some(CallEnd::Failed(FailReason::Overloaded)));
    // Six of the eight places are for calls that are served, one of them for another host.
    assert_eq!(refused.count(), 3, "a server keeps places for its own calls");
}

#[test]
fn a_response_that_is_too_long_for_the_client_is_an_error() {
    let mut world = World::new(42);
    for (number, max) in [(1, 10_000), (2, 1_000_000)] {
        let mut plan = homa_virtual::HostPlan::new(number);
        plan.config.limits.max_message_bytes = max;
        world.add_host(plan);
    }
    world.call(call(100, 20_000));
    world.call(CallPlan { at_ns: MS, ..CallPlan::new(SERVER, CLIENT, 20_000, 10) });
    finish(&mut world, 5 * SECOND);
    assert_eq!(world.ledger.end(0), Some(CallEnd::Failed(FailReason::ResponseTooLong)));
    assert_eq!(
        world.ledger.end(1),
        Some(CallEnd::Failed(FailReason::PeerLimit { max_bytes: Some(10_000) }))
    );
}

#[test]
fn the_same_seed_gives_the_same_history() {
    let history = || {
        let mut world = pair(43);
        world.default_link =
            LinkPlan { loss_ppm: 50_000, jitter_ns: 20 * US, ..LinkPlan::default() };
        for index in 0..50 {
            world.call(call(1 + index * 997, 1 + index * 3001));
        }
        finish(&mut world, 20 * SECOND);
        let ends: Vec<u64> = world.ledger.calls.iter().map(|call| call.ended_ns).collect();
        (ends, world.packets(), world.turns(CLIENT))
    };
    assert_eq!(history(), history());
}

// Scenario: A15
#[test]
fn a_server_gives_up_an_answer_that_nobody_acknowledges() {
    let mut world =
        World::with_hosts(44, 2, |plan| plan.config.responses.silence = Duration::from_secs(2));
    world.call(CallPlan { response: Response::After { service_ns: 10 * MS }, ..call(100, 100) });
    world.kill(CLIENT, MS);
    finish(&mut world, SECOND);
    assert_eq!(world.total(|stats| stats.responses_abandoned), 1);
}
