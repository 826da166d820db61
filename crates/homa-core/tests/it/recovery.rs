//! Retransmission and what brings a stalled RPC forward: docs/spec/scenarios.md §T, T1 to T27.

use std::time::Duration;

use crate::harness::*;
use homa_core::{Config, Event, FailReason, RequestOptions, ResponseOptions};
use homa_wire::{Body, Grant, RESEND_ALL, Reason, Resend};

fn solo() -> Solo {
    Solo::new(Config::default())
}

fn resend(offset: u32, length: u32, priority: u8) -> Body {
    Body::Resend(Resend { offset, length, priority })
}

fn resends(sent: &[Sent]) -> Vec<(u32, u32)> {
    sent.iter().filter_map(Sent::resend).collect()
}

fn ranges(sent: &[Sent]) -> Vec<(u32, u32)> {
    sent.iter().filter_map(Sent::range).collect()
}

#[test]
fn an_answer_that_comes_although_nothing_was_sent_again_was_asked_for_too_early() {
    let server = address(9, 900);
    let first_question = |solo: &mut Solo| {
        let (_, id, _) = solo.called(server, 100);
        let begin = solo.now_ns;
        let sent = solo.advance(60);
        let asked = sent.iter().find(|sent| sent.resend().is_some()).expect("asked");
        let _ = solo.data(server, id, 10, (0, 10));
        (asked.at_ns - begin) / MS
    };
    let late = |solo: &mut Solo, says_busy: bool| {
        let (_, id, _) = solo.called(server, 100);
        solo.advance(7);
        if says_busy {
            let _ = solo.control(server, id, Body::Busy, Reason::None, 0);
        }
        solo.advance(1);
        let _ = solo.data(server, id, 10, (0, 10));
    };
    let mut slow = solo();
    late(&mut slow, false);
    assert_eq!(first_question(&mut slow), 16, "twice the 8 ms that it took");
    let mut in_service = solo();
    late(&mut in_service, true);
    assert_eq!(first_question(&mut in_service), 5, "the server was busy, not its path");
    let mut later = solo();
    late(&mut later, false);
    later.advance(4000);
    assert_eq!(first_question(&mut later), 5, "that was long ago");
}

// Scenario: T1
#[test]
fn a_client_that_hears_nothing_asks_for_everything_and_backs_off() {
    let mut solo = solo();
    let (_, _, request) = solo.called(address(9, 900), 5000);
    let sent = solo.advance(999);
    let asked: Vec<&Sent> = sent.iter().filter(|sent| sent.resend().is_some()).collect();
    assert_eq!(asked[0].resend(), Some((0, RESEND_ALL)));
    let own = request[0].priority;
    assert!(own < 7);
    let levels: Vec<(bool, u8)> =
        asked.iter().map(|sent| (sent.at_ns - 1000 * MS < 250 * MS, sent.priority)).collect();
    assert!(levels.contains(&(true, own)) && levels.contains(&(false, 7)));
    let follow = |(early, level): &(bool, u8)| *level == if *early { own } else { 7 };
    assert!(
        levels.iter().all(follow),
        "it follows the request for a quarter of the timeout: {levels:?}"
    );
    assert_eq!(asked[0].at_ns - 1000 * MS, 5 * MS, "T1: after the resend interval");
    assert_eq!(asked[1].at_ns - asked[0].at_ns, 5 * MS);
    assert!((15..=24).contains(&asked.len()), "T1, T2: {}", asked.len());
    let gaps: Vec<u64> = asked.windows(2).map(|pair| pair[1].at_ns - pair[0].at_ns).collect();
    assert!(gaps.windows(2).all(|pair| pair[0] <= pair[1]), "the interval only grows: {gaps:?}");
    assert!(gaps.iter().all(|gap| *gap <= 63 * MS), "a sixteenth of the timeout at most");
}

// Scenario: T2, X10
#[test]
fn a_silent_server_is_given_up_after_the_timeout_and_told() {
    let mut solo = solo();
    let (rpc, _, _) = solo.called(address(9, 900), 100);
    solo.advance(999);
    assert_eq!(solo.failure(rpc), None);
    let sent = solo.advance(1);
    assert_eq!(solo.failure(rpc), Some(FailReason::Timeout));
    assert!(sent.iter().any(|sent| sent.unknown() == Some(Reason::Cancelled)));
    assert_eq!(
        solo.log[solo.log.len() - 3..],
        [
            Event::Failed { rpc, cookie: 77, reason: FailReason::Timeout },
            Event::Released { rpc, upto: 100 },
            Event::Ended { rpc }
        ]
    );
    assert_eq!(solo.advance(10_000).len(), 0);
    assert_eq!(solo.engine.poll_timeout(), None, "nothing remains");
}

// Scenario: T3, B16
#[test]
fn a_silent_client_is_given_up_while_its_request_arrives() {
    let mut solo = solo();
    let _ = solo.data(address(9, 900), 1000, 10_000, (0, 1000));
    solo.events();
    solo.advance(999);
    assert_eq!(solo.engine.stats().live_rpcs, 1);
    let sent = solo.advance(2);
    assert_eq!(solo.engine.stats().live_rpcs, 0);
    assert_eq!(solo.engine.stats().receive_memory_bytes, 0);
    let told: Vec<Reason> = sent.iter().filter_map(Sent::unknown).collect();
    assert!(told.is_empty() || told == [Reason::Finished], "never CANCELLED: {told:?}");
}

// Scenario: T4
#[test]
fn each_gap_and_the_granted_end_are_requested_separately() {
    let mut solo = solo();
    let from = address(9, 900);
    for range in [(0, 1000), (2000, 3000), (4000, 6000)] {
        let _ = solo.data(from, 1000, 8000, range);
    }
    let sent = solo.advance(5);
    assert_eq!(resends(&sent), [(1000, 1000), (3000, 1000), (6000, 2000)]);
    assert!(sent.iter().filter(|sent| sent.resend().is_some()).all(|sent| sent.priority == 7));
}

#[test]
fn what_data_of_a_higher_priority_overtakes_is_asked_for_as_late_as_an_end() {
    // Of a message of 100,000 bytes 60,000 have come, and some of the last 20,000.
    let first_request = |boost_bytes: u32| {
        let mut solo = Solo::new(Config::default().with(|config| {
            config.unscheduled.in_flight_max_bytes = 40_000;
            config.grants.window_bytes = 30_000;
            config.grants.step_bytes = 0;
            config.grants.boost_bytes = boost_bytes;
            config.grants.fifo_permille = 0;
        }));
        let from = address(9, 900);
        for start in (0..60_000).step_by(1000) {
            let _ = solo.data(from, 1000, 100_000, (start, start + 1000));
            solo.drain();
        }
        let _ = solo.data(from, 1000, 100_000, (82_000, 83_000));
        (1..60).find(|ms| {
            // Somebody else goes on to send.
            let _ = solo.data(address(8, 900), 2000 + 2 * ms, 100, (0, 100));
            solo.events();
            !resends(&solo.advance(1)).is_empty()
        })
    };
    assert_eq!(first_request(0), Some(5), "all of the same priority");
    assert_eq!(first_request(20_000), Some(20), "the last of a higher one");
}

#[test]
fn requests_for_missing_data_never_become_rare() {
    let mut solo = solo();
    let from = address(9, 900);
    let _ = solo.data(from, 1000, 8000, (0, 1000));
    let sent = solo.advance(990);
    let at: Vec<u64> =
        sent.iter().filter(|sent| sent.resend().is_some()).map(|sent| sent.at_ns).collect();
    assert!((45..=60).contains(&at.len()), "one per 20 ms: {}", at.len());
    assert!(at.windows(2).all(|pair| pair[1] - pair[0] <= 20 * MS));
}

#[test]
fn a_sender_that_does_not_react_is_asked_for_one_packet_until_something_comes() {
    let mut solo = solo();
    let from = address(9, 900);
    for range in [(0, 1000), (2000, 3000)] {
        let _ = solo.data(from, 1000, 8000, range);
    }
    let sent = solo.advance(40);
    assert_eq!(
        resends(&sent),
        [(1000, 1000), (3000, 5000), (1000, 1000), (1000, 1000), (1000, 1000)]
    );
    let _ = solo.data(from, 1000, 8000, (1000, 2000));
    let sent = solo.advance(6);
    assert!(resends(&sent).contains(&(3000, 5000)), "{sent:?}");
}

#[test]
fn everything_is_sent_again_once_then_one_packet_at_a_time() {
    let mut solo = solo();
    let server = address(9, 900);
    let (_, id, sent) = solo.called(server, 5000);
    let first = sent[0].range().unwrap();
    for expected in [0..5000, 0..first.1] {
        let _ = solo.control(server, id, resend(0, RESEND_ALL, 7), Reason::None, 0);
        let again = ranges(&solo.drain());
        solo.now_ns += 5 * MS;
        assert_eq!(again.first().unwrap().0, expected.start);
        assert_eq!(again.last().unwrap().1, expected.end);
    }
}

#[test]
fn new_data_ends_the_back_off() {
    let mut solo = solo();
    let from = address(9, 900);
    let _ = solo.data(from, 1000, 8000, (0, 1000));
    solo.advance(203);
    let _ = solo.data(from, 1000, 8000, (1000, 2000));
    let begin = solo.now_ns;
    let sent = solo.advance(40);
    let at: Vec<u64> = sent
        .iter()
        .filter(|sent| sent.resend().is_some())
        .map(|sent| (sent.at_ns - begin) / MS)
        .filter(|at| *at > 0)
        .collect();
    let gaps: Vec<u64> = at.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(gaps.contains(&5) && gaps.contains(&10), "short intervals again: {at:?}");
}

// Scenario: T5
#[test]
fn nothing_is_requested_while_the_turn_is_ours() {
    let config = Config::default().with(|config| {
        config.grants.max_overcommit = 1;
        config.grants.window_bytes = 100_000;
    });
    let mut solo = Solo::new(config);
    let _ = solo.data(address(8, 900), 10, 200_000, (0, 1400));
    let _ = solo.data(address(9, 900), 20, 900_000, (0, 1400));
    for start in (1400..40_000).step_by(1400) {
        let _ = solo.data(address(9, 900), 20, 900_000, (start, (start + 1400).min(40_000)));
    }
    let mut sent = Vec::new();
    for start in (1400..14_000).step_by(1400) {
        let _ = solo.data(address(8, 900), 10, 200_000, (start, start + 1400));
        sent.extend(solo.advance(1));
    }
    let about_second: Vec<_> =
        sent.iter().filter(|sent| sent.header.common.sender_id == 21).collect();
    assert!(about_second.iter().all(|sent| sent.resend().is_none()), "T5: {about_second:?}");
}

#[test]
fn a_message_whose_sender_is_silent_leaves_its_place_to_others() {
    let config = Config::default().with(|config| {
        config.grants.max_overcommit = 1;
        config.grants.window_bytes = 100_000;
    });
    let mut solo = Solo::new(config);
    let _ = solo.data(address(8, 900), 10, 200_000, (0, 1400));
    for start in (0..40_000).step_by(1400) {
        let _ = solo.data(address(9, 900), 20, 900_000, (start, (start + 1400).min(40_000)));
    }
    let granted = |sent: &[Sent], id| {
        sent.iter().any(|sent| sent.header.common.sender_id == id && sent.grant().is_some())
    };
    assert!(!granted(&solo.advance(1), 21));
    assert!(granted(&solo.advance(1), 21), "a few round trips are enough");
    for start in (1400..40_000).step_by(1400) {
        let _ = solo.data(address(8, 900), 10, 200_000, (start, (start + 1400).min(40_000)));
    }
    assert!(granted(&solo.advance(2), 11), "it is back, and the shorter of the two");
}

// Scenario: T7
#[test]
fn a_server_in_service_does_nothing() {
    let mut solo = solo();
    let rpc = solo.request(address(9, 900), 1000, 100);
    let (wakeups, sent) = (solo.wakeups, solo.advance(60_000));
    assert!(sent.is_empty());
    assert!(solo.wakeups - wakeups <= 1);
    assert!(!solo.ended(rpc));
}

// Scenario: T8
#[test]
fn a_client_that_has_not_sent_all_does_not_count_silence() {
    let mut solo = solo();
    let server = address(9, 900);
    let options = RequestOptions { streaming_body: true, ..RequestOptions::default() };
    let rpc = solo.call_with(server, 10_000, options).unwrap();
    solo.engine.supply(solo.now(), rpc, 1000).unwrap();
    let (sent, wakeups) = (solo.advance(5000), solo.wakeups);
    assert_eq!(ranges(&sent), [(0, 1000)]);
    assert_eq!(resends(&sent), []);
    assert_eq!(solo.failure(rpc), None);
    assert!(wakeups < 20, "waiting for the application costs nothing: {wakeups}");
    solo.engine.supply(solo.now(), rpc, 10_000).unwrap();
    let sent = solo.advance(6);
    assert_eq!(ranges(&sent).last().unwrap().1, 10_000);
    assert_eq!(resends(&sent), [(0, RESEND_ALL)], "the silence began with the last byte");
}

#[test]
fn a_server_that_is_slow_to_provide_its_response_costs_nothing() {
    let mut solo = solo();
    let from = address(9, 900);
    let _ = solo.data(from, 1000, 2000, (0, 1000));
    solo.advance(3);
    let rpc = {
        let _ = solo.data(from, 1000, 2000, (1000, 2000));
        match solo.events()[..] {
            [Event::RequestArrived { rpc, .. }] => rpc,
            ref other => panic!("{other:?}"),
        }
    };
    solo.engine
        .send_response(
            solo.now(),
            rpc,
            10_000,
            ResponseOptions { streaming_body: true, ..ResponseOptions::default() },
        )
        .unwrap();
    solo.engine.supply(solo.now(), rpc, 5000).unwrap();
    let before = solo.wakeups;
    solo.advance(10_000);
    assert!(solo.wakeups - before < 20, "{}", solo.wakeups - before);
    assert!(!solo.ended(rpc));
}

#[test]
fn data_grant_and_busy_are_signs_of_life_and_other_packets_are_not() {
    let life: [Body; 2] = [Body::Grant(Grant { offset: 100, priority: 0 }), Body::Busy];
    let none: [Body; 3] =
        [Body::Ack(Default::default()), Body::Cutoffs(Default::default()), resend(5, 0, 0)];
    for (bodies, survives) in [(&life[..], true), (&none[..], false)] {
        for body in bodies {
            let mut solo = solo();
            let server = address(9, 900);
            let (rpc, id, _) = solo.called(server, 100);
            solo.advance(900);
            let _ = solo.control(server, id, *body, Reason::None, 0);
            solo.advance(200);
            assert_eq!(solo.failure(rpc).is_none(), survives, "{body:?}");
        }
    }
}

// Scenario: T11
#[test]
fn a_resend_for_an_unknown_rpc_is_answered_with_what_became_of_it() {
    let mut solo = solo();
    let from = address(9, 900);
    let _ = solo.control(from, 1000, resend(0, RESEND_ALL, 7), Reason::None, 0);
    let sent = solo.drain();
    assert_eq!(sent[0].unknown(), Some(Reason::NeverSeen));
    let common = &sent[0].header.common;
    assert_eq!((common.source_port, common.destination_port), (PORT, 900), "T11: ports swapped");
    assert_eq!(common.sender_id, 1001);
    let rpc = solo.request(from, 1000, 100);
    solo.answer(rpc, 100);
    let _ = solo.control(from, 1000, Body::Ack(Default::default()), Reason::None, 0);
    let _ = solo.control(from, 1000, resend(0, RESEND_ALL, 7), Reason::None, 0);
    assert_eq!(solo.drain()[0].unknown(), Some(Reason::Finished));
}

// Scenario: T12
#[test]
fn a_server_that_receives_or_serves_answers_a_resend_with_busy() {
    let mut solo = solo();
    let from = address(9, 900);
    let _ = solo.data(from, 1000, 10_000, (0, 1000));
    solo.request(from, 2000, 100);
    for id in [1000, 2000] {
        let _ = solo.control(from, id, resend(0, RESEND_ALL, 7), Reason::None, 0);
        let sent = solo.drain();
        assert_eq!(sent.len(), 1);
        assert!(sent[0].is(&Body::Busy));
        assert_eq!(sent[0].header.common.sender_id, id | 1);
    }
}

/// A call of 20,000 bytes, all sent in full segments.
fn sending(length: u32) -> (Solo, u64) {
    let mut solo = solo();
    let (_, id, sent) = solo.called(address(9, 900), length);
    assert_eq!(ranges(&sent)[1], (FULL, 2 * FULL));
    (solo, id)
}

// Scenario: T13, T14, T17, T23
#[test]
fn a_resend_brings_whole_original_segments_at_the_priority_it_names() {
    let (mut solo, id) = sending(20_000);
    let _ = solo.control(address(9, 900), id, resend(100, 200, 3), Reason::None, 0);
    let sent = solo.drain();
    assert_eq!(ranges(&sent), [(0, FULL)]);
    assert_eq!((sent[0].priority, sent[0].data().unwrap().flags), (3, 1));
    solo.now_ns += 5 * MS;
    let _ = solo.control(address(9, 900), id, resend(FULL - 1, FULL + 2, 6), Reason::None, 0);
    let sent = solo.drain();
    assert_eq!(ranges(&sent), [(0, FULL), (FULL, 2 * FULL), (2 * FULL, 3 * FULL)]);
    assert!(sent.iter().all(|sent| sent.priority == 6));
    let _ = solo.control(address(9, 900), id, resend(19_999, 1, 7), Reason::None, 0);
    let tail = 20_000 / FULL * FULL;
    assert_eq!(ranges(&solo.drain()), [(tail, 20_000)], "T23: the short last segment");
    let (mut solo, id) = sending(20_000);
    let _ = solo.control(address(9, 900), id, resend(0, RESEND_ALL, 7), Reason::None, 0);
    let sent = solo.drain();
    assert_eq!(ranges(&sent).last().unwrap().1, 20_000, "T17: everything");
    assert_eq!(sent.len(), 15);
}

// Scenario: T15, T16, T24
#[test]
fn retransmission_ends_at_what_was_sent_and_beyond_it_is_busy() {
    let (mut solo, id) = sending(500_000);
    let server = address(9, 900);
    let _ = solo.control(server, id, resend(39_000, 1000, 7), Reason::None, 0);
    assert_eq!(ranges(&solo.drain()).last().unwrap().1, 40_000);
    let _ = solo.control(server, id, resend(39_999, 0, 7), Reason::None, 0);
    assert_eq!(ranges(&solo.drain()), [], "T24: an empty range");
    let _ = solo.control(server, id, resend(400_000, 0, 7), Reason::None, 0);
    let sent = solo.drain();
    assert!(sent.iter().all(|sent| !sent.is_data()));
    assert!(sent.iter().any(|sent| sent.is(&Body::Busy)), "T16");
}

// Scenario: T18
#[test]
fn a_resend_beyond_the_grant_raises_it() {
    let (mut solo, id) = sending(500_000);
    let server = address(9, 900);
    let _ = solo.control(server, id, resend(40_000, 10_000, 7), Reason::None, 0);
    let sent = solo.drain();
    assert_eq!(ranges(&sent).last().unwrap().1, 50_000, "T18: {:?}", ranges(&sent));
    assert_eq!(solo.engine.stats().grants_recovered, 1);
    let _ = solo.control(server, id, resend(50_000, u32::MAX - 1, 7), Reason::None, 0);
    assert_eq!(ranges(&solo.drain()).last().unwrap().1, 500_000, "the end at most");
    for (offset, length) in [(u32::MAX, 1), (u32::MAX, u32::MAX), (600_000, 5)] {
        let _ = solo.control(server, id, resend(offset, length, 255), Reason::None, 0);
        assert!(ranges(&solo.drain()).iter().all(|range| range.1 <= 500_000));
    }
}

#[test]
fn a_flood_of_resends_between_two_turns_costs_one_retransmission() {
    let (mut solo, id) = sending(20_000);
    for _ in 0..1000 {
        let _ = solo.control(address(9, 900), id, resend(0, RESEND_ALL, 7), Reason::None, 0);
    }
    assert_eq!(solo.drain().iter().filter(|sent| sent.is_data()).count(), 15);
}

// Scenario: T19, T25
#[test]
fn a_request_whose_response_began_is_released_and_not_sent_again() {
    let (mut solo, id) = sending(20_000);
    let server = address(9, 900);
    let _ = solo.control(server, id, resend(0, RESEND_ALL, 7), Reason::None, 0);
    let _ = solo.data(server, id, 5000, (0, 1000));
    assert_eq!(ranges(&solo.drain()), [], "T25: what waited for retransmission is void");
    let _ = solo.control(server, id, resend(0, RESEND_ALL, 7), Reason::None, 0);
    assert_eq!(ranges(&solo.drain()), [], "T19: the server has all of it");
}

// Scenario: T20
#[test]
fn a_server_that_never_saw_the_request_gets_all_of_it_again() {
    let (mut solo, id) = sending(20_000);
    let server = address(9, 900);
    let _ = solo.control(server, id, Body::RpcUnknown, Reason::NeverSeen, 0);
    let sent = solo.drain();
    assert_eq!(sent.len(), 15);
    assert!(sent.iter().all(|sent| sent.data().unwrap().flags == 1));
    assert_eq!(solo.engine.stats().restarts, 1);
}

// Scenario: T21
#[test]
fn never_seen_is_ignored_once_the_response_began() {
    let (mut solo, id) = sending(20_000);
    let server = address(9, 900);
    let _ = solo.data(server, id, 5000, (0, 1000));
    let _ = solo.control(server, id, Body::RpcUnknown, Reason::NeverSeen, 0);
    assert_eq!(solo.drain().iter().filter(|sent| sent.is_data()).count(), 0);
    let _ = solo.data(server, id, 5000, (1000, 5000));
    assert!(solo.events().iter().any(|event| matches!(event, Event::ResponseArrived { .. })));
}

#[test]
fn a_request_too_old_to_be_recognised_as_a_duplicate_is_not_restarted() {
    let config = Config::default().with(|config| config.recovery.timeout = Duration::from_secs(10));
    let mut solo = Solo::new(config);
    let server = address(9, 900);
    let (rpc, id, _) = solo.called(server, 100);
    solo.advance(2001);
    let _ = solo.control(server, id, Body::RpcUnknown, Reason::NeverSeen, 0);
    solo.events();
    assert_eq!(solo.failure(rpc), Some(FailReason::Forgotten));
    assert!(solo.drain().iter().all(|sent| !sent.is_data()));
}

// Scenario: T27
#[test]
fn a_lost_grant_is_recovered_within_two_resend_intervals() {
    let mut net = Net::new(&Config::default(), 2);
    let mut lost = false;
    let mut lost_at = 0;
    net.lose = Box::new(move |_, sent| {
        let lose = sent.grant().is_some() && !lost;
        lost |= lose;
        lose
    });
    let rpc = net.call(0, 1, 60_000);
    let begin = net.now_ns;
    while !net.answered(0, rpc) {
        net.run(1);
        lost_at += 1;
        assert!(lost_at <= 11, "T27");
    }
    assert!(net.now_ns - begin <= 11 * MS);
    assert!(net.hosts[0].engine.stats().grants_recovered >= 1);
}

/// A small generator for loss; the seed makes it repeatable.
fn coin(permille: u64, mut state: u64) -> impl FnMut() -> bool {
    move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % 1000 < permille
    }
}

// Scenario: T26
#[test]
fn a_thousand_calls_complete_once_each_despite_ten_percent_loss() {
    let mut net = Net::new(&Config::default(), 2);
    let mut lost = coin(100, 0x9E37_79B9_7F4A_7C15);
    net.lose = Box::new(move |_, _| lost());
    let rpcs: Vec<_> =
        (0..1000).map(|index| net.call(0, 1, [100, 5000, 100_000][index % 3])).collect();
    net.run(20_000);
    for rpc in rpcs {
        assert!(net.answered(0, rpc), "T26: {rpc:?} {:?}", net.failure(0, rpc));
    }
    assert_eq!(net.hosts[1].arrived.len(), 1000, "each executed once");
    net.assert_quiet();
}

#[test]
fn a_response_lost_as_a_whole_comes_again() {
    for size in [100, 100_000] {
        let mut net = Net::new(&Config::default(), 2);
        net.hosts[1].service = Service::Reply(size);
        let mut dropped = 0;
        net.lose = Box::new(move |from, sent| {
            let first = from == 1 && sent.data().is_some_and(|data| data.flags == 0);
            dropped += u32::from(first);
            first && dropped < 30
        });
        let rpc = net.call(0, 1, 100);
        net.run(100);
        assert!(net.answered(0, rpc), "{size}");
        net.run(600);
        net.assert_quiet();
    }
}

#[test]
fn a_lost_response_to_a_call_that_waited_long_is_recovered() {
    let mut net = Net::new(&Config::default(), 2);
    net.hosts[1].service = Service::Hold;
    let rpc = net.call(0, 1, 100);
    net.run(10_000);
    assert_eq!(net.failure(0, rpc), None, "a server that lives may take its time");
    let mut left = 1;
    net.lose = Box::new(move |from, sent| {
        let lose = from == 1 && sent.is_data() && left > 0;
        left -= u32::from(lose);
        lose
    });
    let request = net.hosts[1].arrived[0];
    net.answer(1, request, 100);
    net.run(20);
    assert!(net.answered(0, rpc));
}

/// As Linux gives peers up: after 100 ms.
fn impatient() -> Config {
    Config::default().with(|config| config.recovery.timeout = Duration::from_millis(100))
}

// Scenario: T2
#[test]
fn with_the_timeout_of_linux_a_call_fails_after_100_ms() {
    let mut solo = Solo::new(impatient());
    let (rpc, _, _) = solo.called(address(9, 900), 100);
    solo.advance(99);
    assert_eq!(solo.failure(rpc), None);
    solo.advance(1);
    assert_eq!(solo.failure(rpc), Some(FailReason::Timeout));
}

// Scenario: T5
#[test]
fn a_message_that_has_all_that_was_granted_waits_without_resend_and_timeout() {
    let config = impatient().with(|config| {
        config.grants.max_overcommit = 1;
        config.grants.window_bytes = 10_000;
        config.grants.fifo_permille = 0;
    });
    let mut solo = Solo::new(config);
    let (short, long) = (address(8, 900), address(9, 900));
    for start in (0..40_000).step_by(1400) {
        let _ = solo.data(short, 10, 600_000, (start, (start + 1400).min(40_000)));
        let _ = solo.data(long, 20, 900_000, (start, (start + 1400).min(40_000)));
    }
    solo.drain();
    // The shorter message has the only place and goes on slowly, so that nothing is granted to the
    // other.
    for start in (40_000..460_000).step_by(1400) {
        let _ = solo.data(short, 10, 600_000, (start, start + 1400));
        let sent = solo.advance(1);
        let about_long = |sent: &&Sent| sent.header.common.sender_id == 21;
        assert_eq!(sent.iter().filter(about_long).count(), 0);
    }
    assert_eq!(solo.engine.stats().live_rpcs, 2, "three times the timeout has passed");
}

// Scenario: T8, T9
#[test]
fn a_message_that_the_pacer_still_holds_back_counts_as_not_sent() {
    // 40,000 bytes take a third of a second at 1 Mbit/s.
    let config = impatient().with(|config| config.output.link_mbps = Some(1));
    let mut solo = Solo::new(config);
    let rpc = solo.call(address(9, 900), 40_000);
    let mut sent = Vec::new();
    while ranges(&sent).last().is_none_or(|range| range.1 < 40_000) {
        assert_eq!(resends(&sent), [], "not while it is being sent");
        assert_eq!(solo.failure(rpc), None, "at {} ms", solo.now_ns / MS);
        sent.extend(solo.advance(1));
    }
    assert!(solo.now_ns > 1300 * MS, "more than the timeout: {} ms", solo.now_ns / MS - 1000);
    let sent = solo.advance(6);
    assert_eq!(resends(&sent), [(0, RESEND_ALL)], "the silence begins with the last byte");
    solo.advance(100);
    assert_eq!(solo.failure(rpc), Some(FailReason::Timeout));
}

/// Does a call that gets this packet after 90 ms outlive the 100 ms that its server may be silent?
fn outlives(body: Body, why: Reason) -> bool {
    let mut solo = Solo::new(impatient());
    let server = address(9, 900);
    let (rpc, id, _) = solo.called(server, 100);
    solo.advance(90);
    let _ = solo.control(server, id, body, why, 0);
    solo.advance(60);
    solo.failure(rpc).is_none()
}

// Scenario: T10
#[test]
fn only_data_grant_and_busy_begin_the_silence_anew() {
    assert!(outlives(Body::Grant(Grant { offset: 100, priority: 0 }), Reason::None));
    assert!(outlives(Body::Busy, Reason::None));
    for body in [
        Body::NeedAck,
        Body::Ack(Default::default()),
        resend(5, 0, 0),
        Body::Cutoffs(Default::default()),
    ] {
        assert!(!outlives(body, Reason::None), "{body:?}");
    }
    let mut solo = Solo::new(impatient());
    let server = address(9, 900);
    let (rpc, id, _) = solo.called(server, 100);
    for start in 0..20 {
        solo.advance(90);
        let _ = solo.data(server, id, 10_000, (start * 100, start * 100 + 100));
    }
    assert_eq!(solo.failure(rpc), None, "DATA every 90 ms");
    // The first answer took 90 ms: RESENDs begin later by a part of the timeout.
    solo.advance(101 + 100 / 8);
    assert_eq!(solo.failure(rpc), Some(FailReason::Timeout));
}

/// A call of `length` bytes, sent as far as it may be, and its id in the server's form.
fn calling(length: u32) -> (Solo, u64) {
    let mut solo = Solo::new(Config::default());
    let (_, id, _) = solo.called(address(9, 900), length);
    (solo, id)
}

// Scenario: T14
#[test]
fn segments_sent_again_say_that_they_need_no_grant() {
    let (mut solo, id) = calling(500_000);
    let server = address(9, 900);
    let _ = solo.control(
        server,
        id,
        Body::Grant(Grant { offset: 60_000, priority: 2 }),
        Reason::None,
        0,
    );
    solo.drain();
    let _ = solo.control(server, id, resend(45_000, 10_000, 5), Reason::None, 0);
    let sent = solo.drain();
    let again = ranges(&sent);
    assert!(again.first().unwrap().0 <= 45_000 && again.last().unwrap().1 >= 55_000, "{again:?}");
    assert!(again.windows(2).all(|pair| pair[0].1 == pair[1].0), "without a gap: {again:?}");
    for sent in &sent {
        let (data, end) = (sent.data().unwrap(), sent.range().unwrap().1);
        assert_eq!((sent.priority, data.flags, data.incoming), (5, 1, end));
    }
}

// Scenario: T15, T16
#[test]
fn a_resend_beyond_what_was_sent_brings_what_was_sent_and_busy() {
    let (mut solo, id) = calling(500_000);
    let server = address(9, 900);
    let _ = solo.control(server, id, resend(38_000, 2_000, 7), Reason::None, 0);
    let sent = solo.drain();
    assert_eq!(ranges(&sent).last().unwrap().1, 40_000);
    assert!(sent.iter().all(|sent| sent.data().is_some_and(|data| data.flags == 1)));
    let _ = solo.control(server, id, resend(100_000, 1, 7), Reason::None, 0);
    let sent = solo.drain();
    assert_eq!(sent.iter().filter(|sent| sent.is(&Body::Busy)).count(), 1);
    let new = sent.iter().filter_map(Sent::data).all(|data| data.flags == 0);
    assert!(new, "nothing of it had been sent, so nothing is sent again");
}

// Scenario: T18
#[test]
fn the_grant_that_a_resend_makes_up_for_brings_new_data() {
    let (mut solo, id) = calling(500_000);
    let _ = solo.control(address(9, 900), id, resend(39_000, 5_000, 7), Reason::None, 0);
    let sent = solo.drain();
    let flags = |from: u32| {
        let at = |sent: &&Sent| sent.range().is_some_and(|range| range.0 >= from);
        let flag = |sent: &Sent| sent.data().unwrap().flags;
        sent.iter().filter(at).map(flag).collect::<Vec<_>>()
    };
    assert_eq!(ranges(&sent).iter().map(|range| range.1).max(), Some(44_000));
    assert!(flags(40_000).iter().all(|flag| *flag == 0), "what lies beyond 40,000 is new");
    assert!(ranges(&sent).len() > flags(40_000).len(), "what lies before it is sent again");
}

// Scenario: T22
#[test]
fn rpc_unknown_ends_the_rpc_at_its_server_whatever_it_does() {
    let from = address(9, 900);
    for stage in ["receiving", "in service", "answering"] {
        let mut solo = Solo::new(Config::default());
        match stage {
            "receiving" => drop(solo.data(from, 1000, 9000, (0, 100))),
            "in service" => drop(solo.request(from, 1000, 100)),
            _ => {
                let rpc = solo.request(from, 1000, 100);
                solo.answer(rpc, 100);
            }
        }
        solo.events();
        assert_eq!(solo.engine.stats().live_rpcs, 1);
        let _ = solo.control(from, 1000, Body::RpcUnknown, Reason::Cancelled, 0);
        solo.events();
        let stats = solo.engine.stats();
        assert_eq!((stats.live_rpcs, stats.receive_memory_bytes), (0, 0), "{stage}");
        assert_eq!(ranges(&solo.advance(10_000)), [], "{stage}: nothing more is sent");
    }
}

// Scenario: T25
#[test]
fn an_rpc_that_ends_between_two_trains_of_a_retransmission_ends_it() {
    let (mut solo, id) = calling(20_000);
    let _ = solo.control(address(9, 900), id, resend(0, RESEND_ALL, 7), Reason::None, 0);
    solo.segments.truncate(2);
    let now = solo.now();
    let first = solo.engine.poll_transmit(now, &mut solo.segments).unwrap();
    assert_eq!((first.segments, solo.segments[0].payload.clone()), (2, 0..FULL));
    let rpc = solo.segments[0].rpc.unwrap();
    solo.engine.abort(now, rpc, FailReason::Aborted).unwrap();
    let sent = solo.drain();
    assert!(sent.iter().all(|sent| !sent.is_data()), "{:?}", ranges(&sent));
    assert_eq!(solo.engine.poll_timeout(), None);
}

// Scenario: T26
#[test]
fn a_thousand_long_calls_survive_the_loss_of_every_tenth_packet() {
    let mut net = Net::new(&Config::default(), 2);
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    net.lose = Box::new(move |_, _| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 33).is_multiple_of(10)
    });
    let rpcs: Vec<_> = (0..1000).map(|_| net.call(0, 1, 100_000)).collect();
    net.run(60_000);
    for rpc in rpcs {
        assert!(net.answered(0, rpc), "{:?}", net.failure(0, rpc));
    }
    assert_eq!(net.hosts[1].arrived.len(), 1000, "each executed once");
    net.assert_quiet();
}
