//! Whom the receiver lets send, how much and at which priority (docs/spec/protocol.md §6).

use crate::harness::{FULL, Host, PORT, Remote, Sent, exact, grants, levels};
use homa_core::{Config, DropReason, FailReason, HostBudget, PeerSettings, PortOptions, Received};
use homa_wire::{Body, Data, Reason};
use proptest::prelude::*;

/// The first packet of a message arrives; returns the grants it leads to.
fn begin(
    host: &mut Host,
    from: &Remote,
    id: u64,
    length: u32,
    unscheduled: u32,
) -> Vec<(u64, u32, u8)> {
    host.take(from, from.data(id, 0..FULL, length, unscheduled));
    host.events();
    grants(&host.sent())
}

/// The next `bytes` from `offset` on arrive; returns the grants they lead to.
fn more(
    host: &mut Host,
    from: &Remote,
    id: u64,
    length: u32,
    range: std::ops::Range<u32>,
) -> Vec<(u64, u32, u8)> {
    host.take(from, from.data(id, range, length, FULL));
    host.events();
    grants(&host.sent())
}

/// Just (id, offset) of grants.
fn offsets(grants: &[(u64, u32, u8)]) -> Vec<(u64, u32)> {
    grants.iter().map(|(id, offset, _)| (*id, *offset)).collect()
}

fn offset_of(grants: &[(u64, u32, u8)], id: u64) -> Option<u32> {
    grants.iter().rev().find(|grant| grant.0 == id).map(|grant| grant.1)
}

// Scenario: G1
#[test]
fn a_wholly_unscheduled_message_is_never_managed() {
    let mut host = Host::new(exact());
    let a = host.remote(1, 1);
    assert_eq!(begin(&mut host, &a, 2, 10_000, 10_000), []);
    assert_eq!(host.stats().incoming_bytes, 0);
}

#[test]
fn a_message_goes_on_however_little_may_be_on_its_way() {
    let mut host = Host::new(exact().with(|config| config.grants.max_incoming_bytes = 1));
    let a = host.remote(1, 1);
    assert_eq!(offsets(&begin(&mut host, &a, 2, 10_000, FULL)), [(2, FULL + 1_000)]);
}

// Scenario: G2
#[test]
fn the_window_of_a_single_message_is_half_of_max_incoming() {
    let mut host = Host::new(exact());
    let a = host.remote(1, 1);
    assert_eq!(offsets(&begin(&mut host, &a, 2, 900_000, 40_000)), [(2, FULL + 200_000)]);
    assert_eq!(host.stats().incoming_bytes, 200_000);
}

// Scenario: G3
#[test]
fn the_window_shrinks_with_the_number_of_active_messages() {
    let mut host = Host::new(exact().with(|config| config.grants.max_incoming_bytes = 1_200_000));
    for (n, window) in [(1, 600_000), (2, 400_000), (3, 300_000)] {
        let from = host.remote(n, 1);
        let given = begin(&mut host, &from, 2 * u64::from(n), 900_000, FULL);
        let room = 1_200_000 - [0, 600_000, 1_000_000][usize::from(n) - 1];
        let expected = FULL + window.min(room);
        assert_eq!(offset_of(&given, 2 * u64::from(n)), Some(expected), "{n} active");
    }
}

// Scenario: G3
#[test]
fn a_window_setting_replaces_the_dynamic_window() {
    let mut host = Host::new(exact().with(|config| config.grants.window_bytes = 50_000));
    for n in 1..4 {
        let from = host.remote(n, 1);
        let id = 2 * u64::from(n);
        assert_eq!(offsets(&begin(&mut host, &from, id, 900_000, FULL)), [(id, FULL + 50_000)]);
    }
}

#[test]
fn a_peer_may_have_a_window_of_its_own() {
    let mut host = Host::new(exact());
    let (a, b) = (host.remote(1, 1), host.remote(2, 1));
    let settings = PeerSettings::default().with(|settings| settings.window_bytes = Some(30_000));
    assert!(host.engine.set_peer(host.now(), a.path(), settings));
    assert_eq!(offsets(&begin(&mut host, &a, 2, 900_000, FULL)), [(2, FULL + 30_000)]);
    assert_eq!(offsets(&begin(&mut host, &b, 4, 900_000, FULL)), [(4, FULL + 133_333)]);
}

#[test]
fn a_window_is_two_round_trips_at_the_speed_of_the_link() {
    let mut host = Host::new(exact());
    host.engine.set_incoming_link(Some(10_000));
    let (a, b) = (host.remote(1, 1), host.remote(2, 1));
    assert_eq!(offsets(&begin(&mut host, &a, 2, 900_000, FULL)), [(2, FULL + 200_000)], "alone");
    let guess = FULL + 40_000;
    assert_eq!(offsets(&begin(&mut host, &b, 4, 900_000, FULL)), [(4, guess)], "not known");
    host.pass_ns(20_000);
    assert_eq!(more(&mut host, &a, 2, 900_000, FULL..2 * FULL), [], "enough is on its way");
    let second = more(&mut host, &b, 4, 900_000, FULL..2 * FULL);
    assert_eq!(offsets(&second), [(4, 2 * FULL + 50_000)]);
}

#[test]
fn a_window_does_not_follow_round_trips_while_the_speed_of_the_link_is_unknown() {
    for mbps in [None, Some(0)] {
        let mut host = Host::new(exact());
        host.engine.set_incoming_link(mbps);
        let a = host.remote(1, 1);
        begin(&mut host, &a, 2, 900_000, FULL);
        host.pass_ns(10_000);
        more(&mut host, &a, 2, 900_000, FULL..2 * FULL);
        let given = begin(&mut host, &a, 4, 900_000, FULL);
        assert_eq!(offset_of(&given, 4), Some(FULL + 44_444), "{mbps:?}");
    }
}

#[test]
fn a_window_is_no_less_than_the_longest_packets_need() {
    let config = exact().with(|config| config.grants.incoming_packets_min = 20);
    let mut host = Host::new(config);
    host.engine.set_incoming_link(Some(10_000));
    let a = host.remote(1, 1);
    begin(&mut host, &a, 2, 900_000, FULL);
    host.pass_ns(1_000);
    more(&mut host, &a, 2, 900_000, FULL..2 * FULL);
    assert_eq!(offset_of(&begin(&mut host, &a, 4, 900_000, FULL), 4), Some(FULL + 20 * FULL));
}

#[test]
fn data_that_needs_no_grant_and_data_sent_again_end_no_round_trip() {
    for (announced, again) in [(150_000, false), (FULL, true)] {
        let mut host = Host::new(exact());
        host.engine.set_incoming_link(Some(10_000));
        let a = host.remote(1, 1);
        begin(&mut host, &a, 2, 900_000, announced);
        host.pass_ns(1_000);
        let mut packet = a.data(2, 150_000..150_000 + FULL, 900_000, announced);
        if let (Body::Data(data), true) = (&mut packet.0.body, again) {
            data.flags = Data::RETRANSMISSION;
        }
        host.take(&a, packet);
        host.sent();
        let given = begin(&mut host, &a, 4, 900_000, FULL);
        let window = offset_of(&given, 4).unwrap_or(0) - FULL;
        assert_eq!(window, 40_000, "the guess; {announced} announced, again: {again}");
    }
}

// Scenario: G4
#[test]
fn nothing_is_granted_while_enough_is_on_its_way() {
    let mut host = Host::new(exact().with(|config| config.unscheduled.bytes = 300_000));
    let a = host.remote(1, 1);
    assert_eq!(begin(&mut host, &a, 2, 900_000, 300_000), []);
    assert_eq!(more(&mut host, &a, 2, 900_000, FULL..2 * FULL), []);
}

// Scenario: G5
#[test]
fn near_the_end_the_grant_is_the_length_of_the_message() {
    let mut host = Host::new(exact());
    let a = host.remote(1, 1);
    assert_eq!(offsets(&begin(&mut host, &a, 2, 100_000, 40_000)), [(2, 100_000)]);
    assert_eq!(more(&mut host, &a, 2, 100_000, FULL..2 * FULL), []);
}

#[test]
fn every_packet_moves_the_grant_by_its_bytes_when_there_is_no_step() {
    let mut host = Host::new(exact());
    let a = host.remote(1, 1);
    begin(&mut host, &a, 2, 900_000, FULL);
    for packet in 1..5 {
        let range = packet * FULL..(packet + 1) * FULL;
        let given = more(&mut host, &a, 2, 900_000, range.clone());
        assert_eq!(offsets(&given), [(2, range.end + 200_000)]);
    }
}

#[test]
fn a_step_gathers_small_grants_but_not_the_last() {
    let mut host = Host::new(exact().with(|config| config.grants.step_bytes = 4 * FULL));
    let a = host.remote(1, 1);
    let length = 250_000;
    assert_eq!(offsets(&begin(&mut host, &a, 2, length, FULL)), [(2, FULL + 200_000)]);
    for packet in 1..4 {
        let range = packet * FULL..(packet + 1) * FULL;
        assert_eq!(more(&mut host, &a, 2, length, range), [], "packet {packet}");
    }
    let given = more(&mut host, &a, 2, length, 4 * FULL..5 * FULL);
    assert_eq!(offsets(&given), [(2, 5 * FULL + 200_000)]);
    let given = more(&mut host, &a, 2, length, 5 * FULL..49_000);
    assert_eq!(offsets(&given), [(2, 249_000)]);
    let given = more(&mut host, &a, 2, length, 49_000..50_000);
    assert_eq!(offsets(&given), [(2, length)], "what is left is not worth waiting for");
}

/// Three messages that want 80,000 bytes each where 100,000 are allowed.
fn crowded() -> (Host, [Remote; 3]) {
    let config = exact().with(|config| {
        config.grants.max_incoming_bytes = 100_000;
        config.grants.window_bytes = 80_000;
    });
    let mut host = Host::new(config);
    let remotes = [1, 2, 3].map(|n| host.remote(n, 1));
    let [a, b, c] = remotes;
    assert_eq!(offsets(&begin(&mut host, &a, 2, 500_000, FULL)), [(2, FULL + 80_000)]);
    assert_eq!(offsets(&begin(&mut host, &b, 4, 600_000, FULL)), [(4, FULL + 20_000)]);
    assert_eq!(begin(&mut host, &c, 6, 550_000, FULL), []);
    assert_eq!(host.stats().incoming_bytes, 100_000);
    (host, remotes)
}

// Scenario: G6, G7
#[test]
fn where_there_is_room_for_a_part_a_part_is_granted_and_without_room_nothing() {
    crowded();
}

// Scenario: G8
#[test]
fn room_goes_to_the_best_memory_blocked_message_before_the_one_whose_data_made_it() {
    let (mut host, [_, b, _]) = crowded();
    // Data of b (600,000 bytes long) makes room; c (550,000) outranks it.
    assert_eq!(offsets(&more(&mut host, &b, 4, 600_000, FULL..3 * FULL)), [(6, 3 * FULL)]);
}

#[test]
fn room_that_the_data_of_a_displaced_message_makes_goes_to_memory_blocked_ones() {
    let config = levels(8, 1).with(|config| {
        config.grants.max_incoming_bytes = 100_000;
        config.grants.window_bytes = 80_000;
    });
    let mut host = Host::new(config);
    let (a, b) = (host.remote(1, 1), host.remote(2, 1));
    assert_eq!(offsets(&begin(&mut host, &a, 2, 600_000, FULL)), [(2, FULL + 80_000)]);
    assert_eq!(offsets(&begin(&mut host, &b, 4, 500_000, FULL)), [(4, FULL + 20_000)]);
    assert_eq!(offsets(&more(&mut host, &a, 2, 600_000, FULL..3 * FULL)), [(4, 3 * FULL + 20_000)]);
}

// Scenario: G9
#[test]
fn memory_blocked_messages_are_served_in_rank_order() {
    let (mut host, [a, _, _]) = crowded();
    // a ends: 80,000 bytes of room, all for c, which wants as much; the rest would be b's.
    host.take(&a, a.control(2, Body::RpcUnknown, Reason::Cancelled, 0));
    assert_eq!(offsets(&grants(&host.sent())), [(6, FULL + 80_000)]);
    let (mut host, [a, _, c]) = crowded();
    host.take(&a, a.control(2, Body::RpcUnknown, Reason::Cancelled, 0));
    host.take(&c, c.control(6, Body::RpcUnknown, Reason::Cancelled, 0));
    assert_eq!(offsets(&grants(&host.sent())), [(4, FULL + 80_000)]);
}

#[test]
fn a_message_is_granted_again_when_nothing_is_on_its_way_whatever_the_others_expect() {
    let budget = HostBudget::new(2);
    let config = exact().with(|config| config.unscheduled.bytes = 600_000);
    let mut first = Host::with_budget(config, budget.clone(), 1);
    let mut second = Host::with_budget(exact(), budget, 2);
    let (a, b) = (first.remote(1, 1), second.remote(2, 1));
    // 600,000 bytes without a grant: more than both together may expect.
    assert_eq!(begin(&mut first, &a, 2, 1_000_000, 600_000), []);
    let given = begin(&mut second, &b, 2, 900_000, FULL);
    assert_eq!(offsets(&given), [(2, FULL + 200_000)], "one window must flow");
}

#[test]
fn engines_that_share_a_budget_share_max_incoming() {
    let budget = HostBudget::new(2);
    let mut first = Host::with_budget(exact(), budget.clone(), 1);
    let mut second = Host::with_budget(exact(), budget, 2);
    let (a, b) = (first.remote(1, 1), second.remote(2, 1));
    begin(&mut first, &a, 2, 900_000, FULL);
    begin(&mut second, &b, 2, 900_000, 40_000);
    assert_eq!(first.stats().incoming_bytes, 200_000);
    assert_eq!(second.stats().incoming_bytes, 200_000);
    let c = second.remote(3, 1);
    assert_eq!(begin(&mut second, &c, 4, 900_000, FULL), [], "no room is left on the host");
}

#[test]
fn what_an_engine_expected_is_given_back_to_the_others_when_its_message_ends() {
    for complete in [true, false] {
        let budget = HostBudget::new(2);
        let mut first = Host::with_budget(exact(), budget.clone(), 1);
        let mut second = Host::with_budget(exact(), budget, 2);
        let (a, b, c) = (first.remote(1, 1), second.remote(2, 1), second.remote(3, 1));
        begin(&mut first, &a, 2, 200_000, FULL);
        begin(&mut second, &b, 2, 900_000, FULL);
        if complete {
            first.take(&a, a.data(2, FULL..200_000, 200_000, FULL));
        } else {
            first.take(&a, a.control(2, Body::RpcUnknown, Reason::Cancelled, 0));
        }
        first.sent();
        assert_eq!(first.stats().incoming_bytes, 0);
        let given = begin(&mut second, &c, 4, 900_000, FULL);
        assert_eq!(offset_of(&given, 4), Some(FULL + 133_333), "complete: {complete}");
    }
}

#[test]
fn a_small_receive_buffer_lowers_what_is_granted() {
    let mut host = Host::new(exact());
    host.engine.set_receive_capacity(212_992);
    let a = host.remote(1, 1);
    assert_eq!(offsets(&begin(&mut host, &a, 2, 900_000, FULL)), [(2, FULL + 106_496)]);
    let b = host.remote(2, 1);
    begin(&mut host, &b, 4, 900_000, FULL);
    let c = host.remote(3, 1);
    begin(&mut host, &c, 6, 900_000, FULL);
    assert!(host.stats().incoming_bytes <= 106_496, "half of it");
}

#[test]
fn long_packets_raise_what_is_granted_ahead_to_enough_of_them_to_keep_a_path_busy() {
    let mut host = Host::new(exact().with(|config| config.grants.incoming_packets_min = 16));
    let a = host.remote(1, 1);
    let given = more(&mut host, &a, 2, 900_000, 0..40_000);
    assert_eq!(offsets(&given), [(2, 40_000 + 320_000)]);
}

#[test]
fn with_more_messages_than_priorities_the_excess_shares_priority_0() {
    let mut host = Host::new(levels(8, 8));
    // max_sched_prio is 6: ranks 0 to 6 get priorities 6 to 0, rank 7 priority 0 too.
    let mut got = Vec::new();
    for n in 0..8u8 {
        let from = host.remote(n + 1, 1);
        let given =
            begin(&mut host, &from, 2 + 2 * u64::from(n), 100_000 + 1000 * u32::from(n), FULL);
        got.extend(given);
    }
    assert_eq!(host.engine.config().priorities.count, 8);
    for n in 0..8u8 {
        // Every message gets data now, so that all 8 are ranked against each other.
        let from = host.remote(n + 1, 1);
        let (id, length) = (2 + 2 * u64::from(n), 100_000 + 1000 * u32::from(n));
        let given = more(&mut host, &from, id, length, FULL..FULL + 1);
        let level = given.iter().find(|grant| grant.0 == id).map(|grant| grant.2);
        assert!(level.is_none_or(|level| level == 6u8.saturating_sub(n)), "rank {n}: {given:?}");
    }
    // The eighth was granted when it came, below the seven others.
    assert!(got.iter().all(|grant| grant.0 != 16 || grant.2 == 0), "{got:?}");
}

/// Priorities of the grants to `count` messages of rising lengths when all are active.
fn priorities_by_rank(count: u8) -> Vec<u8> {
    let mut host = Host::new(levels(8, 8).with(|config| config.grants.window_bytes = 10_000));
    let length = |n: u8| 100_000 + 1000 * u32::from(n);
    for n in 0..count {
        let from = host.remote(n + 1, 1);
        begin(&mut host, &from, 2 + 2 * u64::from(n), length(n), FULL);
    }
    let level = |n: u8| {
        let from = host.remote(n + 1, 1);
        let given = more(&mut host, &from, 2 + 2 * u64::from(n), length(n), FULL..FULL + 10);
        assert_eq!(given.len(), 1);
        given[0].2
    };
    (0..count).map(level).collect()
}

// Scenario: G10, G11
#[test]
fn few_messages_use_the_lowest_priorities_so_that_newcomers_can_preempt() {
    assert_eq!(priorities_by_rank(1), [0]);
    assert_eq!(priorities_by_rank(4), [3, 2, 1, 0]);
    assert_eq!(priorities_by_rank(7), [6, 5, 4, 3, 2, 1, 0]);
    assert_eq!(priorities_by_rank(8), [6, 5, 4, 3, 2, 1, 0, 0]);
}

#[test]
fn the_last_bytes_of_a_message_go_at_the_lowest_unscheduled_level() {
    let levels_with = |boost_bytes| {
        let mut host = Host::new(levels(8, 8).with(|config| {
            config.grants.window_bytes = 10_000;
            config.grants.boost_bytes = boost_bytes;
        }));
        let a = host.remote(1, 1);
        let length = FULL + 30_000;
        let mut given = begin(&mut host, &a, 2, length, FULL);
        while let Some(upto) = given.last().map(|grant| grant.1).filter(|upto| *upto < length) {
            given.extend(more(&mut host, &a, 2, length, upto - 10_000..upto));
        }
        given.into_iter().map(|(_, _, level)| level).collect::<Vec<_>>()
    };
    assert_eq!(levels_with(10_000), [0, 0, 7]);
    assert_eq!(levels_with(20_000), [0, 7, 7]);
    assert_eq!(levels_with(9_999), [0, 0, 0]);
}

// Scenario: G12
#[test]
fn of_equally_long_messages_the_older_ranks_first() {
    let mut host = Host::new(levels(8, 8).with(|config| config.grants.window_bytes = 10_000));
    for n in 1..=2 {
        let from = host.remote(n, 1);
        begin(&mut host, &from, 2 * u64::from(n), 100_000, FULL);
    }
    for (n, level) in [(1, 1), (2, 0)] {
        let from = host.remote(n, 1);
        // Both packets before both grants: ranks stay equal.
        host.take(&from, from.data(2 * u64::from(n), FULL..FULL + 10, 100_000, FULL));
        if n == 2 {
            let given = grants(&host.sent());
            assert_eq!(given, [(2, FULL + 10_010, 1), (4, FULL + 10_010, level)]);
        }
    }
}

// Scenario: G30
#[test]
fn ranks_follow_the_data_that_arrives_while_a_message_is_active() {
    let mut host = Host::new(levels(8, 8).with(|config| config.grants.window_bytes = 10_000));
    let (a, b) = (host.remote(1, 1), host.remote(2, 1));
    begin(&mut host, &a, 2, 100_000, FULL);
    begin(&mut host, &b, 4, 101_000, FULL);
    assert_eq!(more(&mut host, &a, 2, 100_000, FULL..FULL + 10)[0].2, 1, "a is ahead");
    let given = more(&mut host, &b, 4, 101_000, FULL..FULL + 8000);
    assert_eq!(given[0].2, 1, "b has overtaken it");
    assert_eq!(more(&mut host, &a, 2, 100_000, FULL + 10..FULL + 20)[0].2, 0);
}

/// One slot for granted messages.
fn one_slot() -> Host {
    Host::new(levels(8, 1))
}

// Scenario: G13
#[test]
fn a_shorter_newcomer_displaces_the_lowest_ranked_active_message() {
    let mut host = one_slot();
    let (a, b) = (host.remote(1, 1), host.remote(2, 1));
    assert_eq!(begin(&mut host, &a, 2, 900_000, FULL).len(), 1);
    assert_eq!(begin(&mut host, &b, 4, 500_000, FULL).len(), 1);
    assert_eq!(more(&mut host, &a, 2, 900_000, FULL..2 * FULL), [], "a is queued");
}

// Scenario: G14
#[test]
fn a_longer_newcomer_is_queued_and_takes_the_slot_when_it_becomes_free() {
    let mut host = one_slot();
    let (a, b) = (host.remote(1, 1), host.remote(2, 1));
    begin(&mut host, &a, 2, 500_000, FULL);
    assert_eq!(begin(&mut host, &b, 4, 900_000, FULL), []);
    host.take(&a, a.data(2, FULL..500_000, 500_000, FULL));
    assert_eq!(offsets(&grants(&host.sent())), [(4, FULL + 200_000)]);
}

// Scenario: G15
#[test]
fn a_sender_with_two_active_messages_gives_one_to_a_sender_with_none() {
    let mut host = Host::new(levels(8, 3).with(|config| config.grants.window_bytes = 50_000));
    let (a, b, c) = (host.remote(1, 1), host.remote(2, 1), host.remote(3, 1));
    begin(&mut host, &a, 2, 300_000, FULL);
    begin(&mut host, &a, 4, 400_000, FULL);
    begin(&mut host, &b, 6, 800_000, FULL);
    // The longest of all, but its sender has no active message.
    begin(&mut host, &c, 8, 900_000, FULL);
    let given = more(&mut host, &a, 4, 400_000, FULL..2 * FULL);
    assert_eq!(offset_of(&given, 4), None, "the lower-ranked one of a");
    for (from, id, length) in [(&a, 2, 300_000), (&b, 6, 800_000), (&c, 8, 900_000)] {
        host.take(from, from.data(id, FULL..100_000, length, FULL));
        assert!(offset_of(&grants(&host.sent()), id).is_some(), "{id}");
    }
}

#[test]
fn processes_on_one_address_count_as_one_sender() {
    let mut host = Host::new(levels(8, 2));
    let (a, also_a, b) = (host.remote(1, 1), host.remote(1, 2), host.remote(2, 1));
    begin(&mut host, &a, 2, 300_000, FULL);
    begin(&mut host, &also_a, 4, 400_000, FULL);
    assert_eq!(begin(&mut host, &b, 6, 900_000, FULL).len(), 1);
    let given = more(&mut host, &also_a, 4, 400_000, FULL..2 * FULL);
    assert_eq!(offset_of(&given, 4), None);
}

// Scenario: G16
#[test]
fn a_second_message_of_a_sender_replaces_only_its_own_first() {
    let mut host = Host::new(levels(8, 2));
    let (a, b) = (host.remote(1, 1), host.remote(2, 1));
    begin(&mut host, &a, 2, 300_000, FULL);
    begin(&mut host, &b, 4, 900_000, FULL);
    // Shorter than b's, but b has only that one; longer than a's first.
    assert_eq!(begin(&mut host, &a, 6, 400_000, FULL), []);
    // Shorter than a's first: takes its place.
    assert_eq!(begin(&mut host, &a, 8, 100_000, FULL).len(), 1);
    assert_eq!(offset_of(&more(&mut host, &a, 2, 300_000, FULL..2 * FULL), 2), None);
    assert!(offset_of(&more(&mut host, &b, 4, 900_000, FULL..100_000), 4).is_some());
}

// Scenario: G17
#[test]
fn a_free_slot_goes_to_the_sender_with_the_fewest_active_messages() {
    let mut host = Host::new(levels(8, 2));
    let (a, b) = (host.remote(1, 1), host.remote(2, 1));
    begin(&mut host, &a, 2, 100_000, FULL);
    begin(&mut host, &b, 4, 200_000, FULL);
    assert_eq!(begin(&mut host, &a, 6, 300_000, FULL), []);
    assert_eq!(begin(&mut host, &b, 8, 900_000, FULL), []);
    host.take(&b, b.data(4, FULL..200_000, 200_000, FULL));
    let given = grants(&host.sent());
    assert_eq!(offset_of(&given, 6), None, "a has an active message already");
    assert!(offset_of(&given, 8).is_some(), "{given:?}");
}

// Scenario: G18
#[test]
fn a_queued_message_that_receives_data_can_earn_a_slot() {
    let mut host = one_slot();
    let (a, b) = (host.remote(1, 1), host.remote(2, 1));
    begin(&mut host, &a, 2, 500_000, FULL);
    assert_eq!(begin(&mut host, &b, 4, 510_000, 100_000), []);
    assert_eq!(more(&mut host, &b, 4, 510_000, FULL..4 * FULL), []);
    let given = more(&mut host, &b, 4, 510_000, 4 * FULL..100_000);
    assert!(offset_of(&given, 4).is_some(), "it has less left than a now: {given:?}");
    assert_eq!(more(&mut host, &a, 2, 500_000, FULL..2 * FULL), []);
}

// Scenario: G19
#[test]
fn queued_senders_are_ordered_by_the_present_rank_of_their_best_message() {
    let mut host = one_slot();
    let (a, b, c) = (host.remote(1, 1), host.remote(2, 1), host.remote(3, 1));
    begin(&mut host, &a, 2, 100_000, FULL);
    begin(&mut host, &b, 4, 500_000, 200_000);
    begin(&mut host, &c, 6, 450_000, FULL);
    // b moves up ahead of c.
    more(&mut host, &b, 4, 500_000, FULL..100_000);
    host.take(&a, a.data(2, FULL..100_000, 100_000, FULL));
    let given = offsets(&grants(&host.sent()));
    assert_eq!(given, [(4, 300_000)]);
    // b ends: what is left is c.
    host.take(&b, b.control(4, Body::RpcUnknown, Reason::Cancelled, 0));
    assert_eq!(offsets(&grants(&host.sent())), [(6, FULL + 200_000)]);
}

// Scenario: G20
#[test]
fn a_message_without_memory_is_not_managed_until_it_has_some() {
    let config = exact().with(|config| {
        config.limits.max_message_bytes = 300_000;
        config.limits.receive_memory_bytes = 800_000;
        config.unscheduled.bytes = 300_000;
    });
    let mut host = Host::new(config);
    let (a, b) = (host.remote(1, 1), host.remote(2, 1));
    for id in [2, 4] {
        host.take(&a, a.data(id, 0..FULL, 300_000, 299_000));
    }
    let received = host.receive(&b, b.data(6, 0..FULL, 290_000, 289_000));
    assert_eq!(received, Received::Dropped(DropReason::NoMemory));
    host.events();
    assert_eq!(offset_of(&grants(&host.sent()), 6), None);
    assert_eq!(host.stats().messages_unallocated, 1);
    for id in [2, 4] {
        host.take(&a, a.control(id, Body::RpcUnknown, Reason::Cancelled, 0));
    }
    host.take(&b, b.data(6, 0..FULL, 290_000, FULL));
    host.take(&b, b.data(6, FULL..200_000, 290_000, FULL));
    assert_eq!(offsets(&grants(&host.sent())), [(6, 290_000)]);
}

// Scenario: G22
#[test]
fn what_an_ended_message_was_granted_counts_no_more() {
    let mut host = Host::new(exact());
    let (a, b) = (host.remote(1, 1), host.remote(2, 1));
    begin(&mut host, &a, 2, 900_000, FULL);
    begin(&mut host, &b, 4, 900_000, FULL);
    assert_eq!(host.stats().incoming_bytes, 200_000 + 133_333);
    host.take(&a, a.control(2, Body::RpcUnknown, Reason::Cancelled, 0));
    host.sent();
    assert_eq!(host.stats().incoming_bytes, 133_333, "what b was granted");
    host.engine.close_port(host.now(), PORT);
    assert_eq!(host.stats().incoming_bytes, 0);
    host.events();
    assert_eq!(host.stats().receive_memory_bytes, 0);
}

// Scenario: G23
#[test]
fn data_beyond_the_grant_counts_as_nothing_on_its_way() {
    let mut host = Host::new(exact().with(|config| config.grants.window_bytes = 1000));
    let (a, b) = (host.remote(1, 1), host.remote(2, 1));
    begin(&mut host, &a, 2, 900_000, FULL);
    begin(&mut host, &b, 4, 900_000, FULL);
    assert_eq!(host.stats().incoming_bytes, 2000);
    // A Linux sender completes its super-packet. Received beyond granted: 0, not negative.
    host.take(&a, a.data(2, FULL..100_000, 900_000, FULL));
    assert_eq!(offsets(&grants(&host.sent())), [(2, 101_000)]);
    assert_eq!(host.stats().incoming_bytes, 2000);
}

/// 1 MB of grants to short messages while `oldest`, the only other, is queued behind them: what the
/// oldest is granted meanwhile.
fn fifo_grants_to(host: &mut Host, oldest: &Remote, id: u64, total: u32) -> Vec<(u32, u8)> {
    let short = host.remote(9, 1);
    let mut to_oldest = Vec::new();
    let mut arrived = FULL;
    for n in 0..total / 100_000 {
        let short_id = 1000 + 2 * u64::from(n);
        host.take(&short, short.data(short_id, 0..FULL, 100_000 + FULL, FULL));
        let mut sent = host.sent();
        answer_grants(host, oldest, id, &sent, &mut arrived);
        host.take(&short, short.data(short_id, FULL..100_000 + FULL, 100_000 + FULL, FULL));
        sent.extend(host.sent());
        host.take(&short, short.control(short_id, Body::RpcUnknown, Reason::Cancelled, 0));
        host.events();
        let of_oldest = grants(&sent).into_iter().filter(|grant| grant.0 == id);
        to_oldest.extend(of_oldest.map(|(_, offset, priority)| (offset, priority)));
    }
    to_oldest
}

/// The data that a message was granted arrives.
fn answer_grants(host: &mut Host, from: &Remote, id: u64, sent: &[Sent], arrived: &mut u32) {
    if let Some(upto) = offset_of(&grants(sent), id) {
        host.take(from, from.data(id, *arrived..upto, 1_000_000, 40_000));
        *arrived = upto;
    }
}

// Scenario: G24
#[test]
fn the_oldest_message_gets_its_share_of_all_granted_bytes_at_a_high_priority() {
    let mut host = Host::new(levels(8, 1).with(|config| config.grants.fifo_permille = 50));
    let old = host.remote(1, 1);
    host.take(&old, old.data(2, 0..FULL, 1_000_000, 40_000));
    host.sent();
    // The first window and every megabyte of grants to others earn it 50,000 bytes.
    let given = fifo_grants_to(&mut host, &old, 2, 4_000_000);
    let fifo: Vec<_> = given.iter().filter(|grant| grant.1 == 6).collect();
    assert!((3..=5).contains(&fifo.len()), "{given:?}");
}

// Scenario: G25
#[test]
fn without_a_share_or_an_increment_the_oldest_gets_nothing_extra() {
    for (permille, increment) in [(0, 50_000), (50, 0)] {
        let config = levels(8, 1).with(|config| {
            config.grants.fifo_permille = permille;
            config.fixed.fifo_grant_bytes = increment;
        });
        let mut host = Host::new(config);
        let old = host.remote(1, 1);
        host.take(&old, old.data(2, 0..FULL, 1_000_000, 40_000));
        host.sent();
        let given = fifo_grants_to(&mut host, &old, 2, 3_000_000);
        assert!(given.iter().all(|grant| grant.1 < 6), "{given:?}");
    }
}

// Scenario: G26
#[test]
fn a_message_that_does_not_answer_to_its_fifo_grants_leaves_them_to_the_next_oldest() {
    let config = levels(8, 1).with(|config| {
        config.grants.fifo_permille = 500;
        config.grants.max_incoming_bytes = 4_000_000;
        config.grants.window_bytes = 200_000;
    });
    let mut host = Host::new(config);
    let (old, next) = (host.remote(1, 1), host.remote(2, 1));
    host.take(&old, old.data(2, 0..FULL, 1_000_000, 40_000));
    host.take(&next, next.data(4, 0..FULL, 1_000_000, 40_000));
    let high = |sent: &[Sent]| {
        grants(sent).into_iter().filter(|grant| grant.2 == 6).map(|grant| grant.0).collect()
    };
    let mut fifo: Vec<u64> = high(&host.sent());
    let short = host.remote(9, 1);
    for n in 0..40u64 {
        let id = 1000 + 2 * n;
        host.take(&short, short.data(id, 0..FULL, 100_000 + FULL, FULL));
        fifo.extend(high(&host.sent()));
        host.take(&short, short.control(id, Body::RpcUnknown, Reason::Cancelled, 0));
        host.events();
    }
    assert!(fifo.contains(&2) && fifo.contains(&4), "{fifo:?}");
    let first = fifo.iter().filter(|id| **id == 2).count();
    assert!(first <= 5, "a window and an increment at most: {fifo:?}");
    // It answers: it is the oldest again.
    host.take(&old, old.data(2, FULL..300_000, 1_000_000, 40_000));
    let again = high(&host.sent());
    assert!(again.iter().all(|id| *id == 2) && !again.is_empty(), "{again:?}");
}

// Scenario: G28
#[test]
fn a_fifo_grant_ends_at_the_end_of_the_message() {
    let mut host = Host::new(levels(8, 1).with(|config| config.grants.fifo_permille = 500));
    let old = host.remote(1, 1);
    host.take(&old, old.data(2, 0..FULL, 230_000, FULL));
    assert_eq!(offsets(&grants(&host.sent())).last(), Some(&(2, 230_000)));
}

// Scenario: G29, K5
#[test]
fn settings_out_of_range_are_refused_by_name() {
    let refused = |config: Config, setting| {
        let error = config.validate().expect_err(setting);
        assert_eq!(error.setting, setting);
    };
    refused(exact().with(|config| config.grants.fifo_permille = 501), "grants.fifo_permille");
    refused(exact().with(|config| config.grants.max_overcommit = 65), "grants.max_overcommit");
    refused(exact().with(|config| config.grants.max_overcommit = 0), "grants.max_overcommit");
    refused(exact().with(|config| config.priorities.count = 9), "priorities.count");
    refused(
        exact().with(|config| config.grants.max_incoming_bytes = 0),
        "grants.max_incoming_bytes",
    );
    refused(
        exact().with(|config| config.limits.receive_memory_bytes = 999_999),
        "limits.receive_memory_bytes",
    );
}

#[test]
fn a_slow_reader_of_a_stream_holds_its_sender_back() {
    let mut host = Host::new(exact().with(|config| config.fixed.unread_bytes_max = 100_000));
    host.engine.bind_port(3000, PortOptions::SERVE.with_streaming_requests()).unwrap();
    let a = host.remote(1, 1);
    host.take(&a, a.data(2, 0..FULL, 900_000, FULL));
    let rpc = match host.events().as_slice() {
        [.., homa_core::Event::RequestStarted { rpc, .. }] => *rpc,
        other => panic!("{other:?}"),
    };
    host.engine.set_streaming(host.now(), rpc).unwrap();
    assert_eq!(offsets(&grants(&host.sent())), [(2, 100_000)]);
    host.take(&a, a.data(2, FULL..50_000, 900_000, FULL));
    host.events();
    assert_eq!(grants(&host.sent()), []);
    host.engine.consumed(host.now(), rpc, 30_000).unwrap();
    assert_eq!(offsets(&grants(&host.sent())), [(2, 130_000)]);
}

/// A message of the property tests.
#[derive(Clone, Debug)]
struct Message {
    sender: u8,
    length: u32,
    unscheduled: u32,
}

fn message() -> impl Strategy<Value = Message> {
    (1..5u8, 1..400_000u32, 1..60_000u32).prop_map(|(sender, length, unscheduled)| Message {
        sender,
        length,
        unscheduled: unscheduled.min(length),
    })
}

/// Senders that send what they may, a packet of a random message at a time. Returns the bytes
/// received per message.
fn all_arrive(config: Config, messages: &[Message], order: &[u16]) -> Host {
    let mut host = Host::new(config);
    let remotes: Vec<Remote> = (0..5).map(|n| host.remote(n, 1)).collect();
    let id = |index: usize| 2 + 2 * index as u64;
    let mut sent = vec![0u32; messages.len()];
    let mut granted: Vec<u32> = messages.iter().map(|message| message.unscheduled).collect();
    let mut choice = order.iter().cycle();
    for _ in 0..200_000 {
        let ready: Vec<usize> = (0..messages.len()).filter(|n| sent[*n] < granted[*n]).collect();
        if ready.is_empty() {
            let done = (0..messages.len()).all(|n| sent[n] == messages[n].length);
            if done {
                break;
            }
            // All messages wait: time passes, and RESENDs are due for the unallocated ones.
            let answers = host.pass_ms(1);
            apply(&answers, &mut sent, &mut granted, messages);
            continue;
        }
        let n = ready[usize::from(*choice.next().unwrap()) % ready.len()];
        let message = &messages[n];
        let end = (sent[n] + FULL * (1 + n as u32 % 7)).min(granted[n]);
        let from = remotes[usize::from(message.sender)];
        let packet = from.data(id(n), sent[n]..end, message.length, message.unscheduled);
        let received = host.receive(&from, packet);
        if !matches!(received, Received::Dropped(DropReason::NoMemory)) {
            assert!(matches!(received, Received::Place(_)), "{received:?}");
        }
        sent[n] = end;
        finish_requests(&mut host);
        let answers = host.sent();
        apply(&answers, &mut sent, &mut granted, messages);
        let expected: u64 = 400_000.max(u64::from(host.engine.config().grants.max_incoming_bytes));
        let unscheduled: u64 = messages.iter().map(|m| u64::from(m.unscheduled)).sum();
        assert!(host.stats().incoming_bytes <= expected + unscheduled);
    }
    for (n, message) in messages.iter().enumerate() {
        assert_eq!(sent[n], message.length, "message {n}, granted {}", granted[n]);
    }
    host
}

/// What the packets of the receiver change at the senders.
fn apply(answers: &[Sent], sent: &mut [u32], granted: &mut [u32], messages: &[Message]) {
    for answer in answers {
        let n = (answer.id() as usize & !1) / 2 - 1;
        match answer.header.body {
            Body::Grant(grant) => granted[n] = granted[n].max(grant.offset.min(messages[n].length)),
            Body::Resend(resend) if resend.offset < sent[n] => sent[n] = resend.offset,
            _ => {}
        }
    }
}

/// The application takes every complete request and drops it.
fn finish_requests(host: &mut Host) {
    for event in host.events() {
        if let homa_core::Event::RequestArrived { rpc, .. } = event {
            host.engine.abort(host.now(), rpc, FailReason::Rejected).unwrap();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn all_messages_complete_in_any_order_of_arrival(
        messages in prop::collection::vec(message(), 1..24),
        order in prop::collection::vec(any::<u16>(), 1..50),
        overcommit in 1..9u8,
        step in prop_oneof![Just(0u32), Just(8192u32)],
    ) {
        let config = exact().with(|config| {
            config.grants.max_overcommit = overcommit;
            config.grants.step_bytes = step;
            config.grants.fifo_permille = 50;
        });
        let host = all_arrive(config, &messages, &order);
        let stats = host.stats();
        prop_assert_eq!((stats.incoming_bytes, stats.receive_memory_bytes), (0, 0));
        prop_assert_eq!(stats.resends_gap_sent + stats.resends_tail_sent, 0);
    }

    #[test]
    fn with_memory_for_a_few_messages_all_complete_one_after_another(
        messages in prop::collection::vec(message(), 4..24),
        order in prop::collection::vec(any::<u16>(), 1..50),
        overcommit in 1..9u8,
    ) {
        let config = exact().with(|config| {
            config.grants.max_overcommit = overcommit;
            config.limits.max_message_bytes = 400_000;
            config.limits.receive_memory_bytes = 800_000;
            config.grants.fifo_permille = 50;
        });
        let host = all_arrive(config, &messages, &order);
        prop_assert_eq!(host.stats().receive_memory_bytes, 0);
    }
}

/// As [`begin`], with the unscheduled part in one packet; returns just what is granted.
fn begun(host: &mut Host, from: &Remote, id: u64, length: u32) -> Vec<(u64, u32)> {
    offsets(&begin(host, from, id, length, FULL))
}

/// As [`more`]; returns just what is granted.
fn continued(
    host: &mut Host,
    from: &Remote,
    id: u64,
    length: u32,
    range: std::ops::Range<u32>,
) -> Vec<(u64, u32)> {
    offsets(&more(host, from, id, length, range))
}

fn granted(host: &mut Host) -> Vec<(u64, u32)> {
    offsets(&grants(&host.sent()))
}

/// The client gives a request up.
fn cancel(host: &mut Host, from: &Remote, id: u64) {
    host.take(from, from.control(id, Body::RpcUnknown, Reason::Cancelled, 0));
    host.events();
}

// Scenario: G19
#[test]
fn a_sender_moves_down_when_the_best_of_its_waiting_messages_ends() {
    for best_ends in [false, true] {
        let mut host = Host::new(levels(8, 1));
        let [a, b, c] = [1, 2, 3].map(|n| host.remote(n, 1));
        begun(&mut host, &a, 2, 100_000);
        assert_eq!(begun(&mut host, &b, 4, 200_000), []);
        assert_eq!(begun(&mut host, &b, 6, 600_000), []);
        assert_eq!(begun(&mut host, &c, 8, 300_000), []);
        if best_ends {
            cancel(&mut host, &b, 4);
        }
        let given = continued(&mut host, &a, 2, 100_000, FULL..100_000);
        let first = if best_ends { (8, FULL + 200_000) } else { (4, 200_000) };
        assert_eq!(given, [first], "best ends: {best_ends}");
    }
}

// Scenario: G21
#[test]
fn a_message_that_ends_between_its_data_and_the_decision_leaves_no_trace() {
    let mut host = Host::new(levels(8, 1));
    let [a, b] = [1, 2].map(|n| host.remote(n, 1));
    // Never managed, active and queued: each receives data and ends in the same batch.
    for managed in [false, true] {
        if managed {
            begun(&mut host, &a, 2, 500_000);
            begun(&mut host, &b, 4, 900_000);
        }
        host.take(&a, a.data(2, FULL..2 * FULL, 500_000, FULL));
        host.take(&b, b.data(4, FULL..2 * FULL, 900_000, FULL));
        cancel(&mut host, &a, 2);
        cancel(&mut host, &b, 4);
        assert_eq!(granted(&mut host), []);
        let stats = host.stats();
        assert_eq!((stats.incoming_bytes, stats.receive_memory_bytes, stats.live_rpcs), (0, 0, 0));
        // The only slot is free.
        let c = host.remote(3, 1);
        assert_eq!(begun(&mut host, &c, 6, 800_000), [(6, FULL + 200_000)]);
        cancel(&mut host, &c, 6);
        assert_eq!(host.stats().incoming_bytes, 0);
        host = Host::new(levels(8, 1));
    }
}

/// One slot, a window of 40,000 bytes, 10 % of the granted bytes for the oldest in steps of 50,000.
fn shared() -> Host {
    Host::new(levels(8, 1).with(|config| {
        config.grants.fifo_permille = 100;
        config.fixed.fifo_grant_bytes = 40_000;
        config.grants.window_bytes = 40_000;
        config.grants.max_incoming_bytes = 10_000_000;
    }))
}

/// Short messages that together are granted `total` bytes, a multiple of 40,000, come and go;
/// returns what others are granted at priority 6 meanwhile.
fn pass_by(host: &mut Host, total: u32, first_id: u64) -> Vec<(u64, u32)> {
    let short = host.remote(9, 1);
    let mut to_others = Vec::new();
    for n in 0..u64::from(total / 40_000) {
        let id = first_id + 2 * n;
        host.take(&short, short.data(id, 0..FULL, 40_000 + FULL, FULL));
        for (granted, offset, level) in grants(&host.sent()) {
            if granted == id {
                assert_eq!(offset, 40_000 + FULL);
            } else {
                assert_eq!(level, 6);
                to_others.push((granted, offset));
            }
        }
        cancel(host, &short, id);
        host.sent();
    }
    to_others
}

// Scenario: G24, G25
#[test]
fn the_oldest_gets_its_increment_when_others_were_granted_enough_and_not_before() {
    let mut host = shared();
    let [old, young] = [1, 2].map(|n| host.remote(n, 1));
    // 40,000 bytes of the 400,000 that earn a turn go to the first message.
    assert_eq!(begun(&mut host, &old, 2, 900_000), [(2, FULL + 40_000)]);
    let short = host.remote(8, 1);
    begun(&mut host, &short, 900, 60_000);
    assert_eq!(begun(&mut host, &young, 4, 800_000), []);
    // The short one keeps the slot; 80,000 bytes so far.
    assert_eq!(pass_by(&mut host, 280_000, 1000), []);
    assert_eq!(pass_by(&mut host, 40_000, 3000), [(2, FULL + 80_000)]);
    assert_eq!(pass_by(&mut host, 360_000, 5000), []);
    // It has more than a window on its way: the next oldest has only that.
    assert_eq!(pass_by(&mut host, 40_000, 7000), [(900, 60_000)]);
}

// Scenario: G27
#[test]
fn an_oldest_message_with_more_than_a_window_on_its_way_leaves_its_share_to_the_next() {
    let mut host = shared();
    let [old, next] = [1, 2].map(|n| host.remote(n, 1));
    // All but 1,000 bytes come without a grant, more than the window.
    host.take(&old, old.data(2, 0..FULL, 60_000, 59_000));
    assert_eq!(granted(&mut host), []);
    assert_eq!(begun(&mut host, &next, 4, 900_000), []);
    let given = pass_by(&mut host, 1_200_000, 1000);
    assert_eq!(given, [(4, FULL + 40_000), (4, FULL + 80_000)]);
}

// Scenario: G28
#[test]
fn the_last_step_of_the_oldest_ends_with_its_message() {
    let mut host = shared();
    let old = host.remote(1, 1);
    assert_eq!(begun(&mut host, &old, 2, 60_000), [(2, FULL + 40_000)]);
    assert_eq!(pass_by(&mut host, 1_000_000, 1000), [(2, 60_000)], "and nothing after that");
}

// Scenario: G10
#[test]
fn the_eighth_of_eight_messages_shares_the_lowest_priority() {
    let mut host = Host::new(levels(8, 8).with(|config| config.grants.window_bytes = 10_000));
    let senders: Vec<Remote> = (1..=8).map(|n| host.remote(n, 1)).collect();
    let message = |n: usize| (2 + 2 * n as u64, 100_000 + 1000 * n as u32);
    for (n, from) in senders.iter().enumerate() {
        let (id, length) = message(n);
        begun(&mut host, from, id, length);
    }
    for (n, from) in senders.iter().enumerate() {
        let (id, length) = message(n);
        host.take(from, from.data(id, FULL..FULL + 10, length, FULL));
    }
    let mut given: Vec<_> = grants(&host.sent()).iter().map(|grant| (grant.0, grant.2)).collect();
    given.sort_unstable();
    let levels: Vec<u8> = given.iter().map(|grant| grant.1).collect();
    assert_eq!(levels, [6, 5, 4, 3, 2, 1, 0, 0]);
}

// Scenario: G29
#[test]
fn the_bounds_of_settings_are_taken() {
    for max_overcommit in [1, 8, 64] {
        assert!(
            exact().with(|config| config.grants.max_overcommit = max_overcommit).validate().is_ok()
        );
    }
    assert!(exact().with(|config| config.grants.fifo_permille = 500).validate().is_ok());
}
