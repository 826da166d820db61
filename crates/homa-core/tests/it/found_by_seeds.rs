//! What random worlds on the virtual network have found, each as the smallest case.

use crate::harness::*;
use homa_core::{Config, Event, FailReason, Received, RequestOptions, RpcKey, TransmitError};
use homa_wire::{Ack, Body, Common, Extension, Grant, Header, Reason};

fn solo() -> Solo {
    Solo::new(Config::default())
}

/// The first packet of a client that has not heard from us.
fn first_contact(solo: &mut Solo, length: u32) -> RpcKey {
    let mut header = solo.data_header(address(9, 900), 10, length, 0);
    if let Body::Data(data) = &mut header.body {
        data.echo = 0;
    }
    let received = solo.header(address(9, 900), &header, length);
    assert!(matches!(received, Received::Place(_)));
    let arrived = solo.events().into_iter().find_map(|event| match event {
        Event::RequestArrived { rpc, .. } => Some(rpc),
        _ => None,
    });
    arrived.expect("it is complete")
}

fn wire_bytes(sent: &[Sent]) -> u32 {
    sent.iter().map(|sent| sent.wire_bytes).sum()
}

#[test]
fn a_train_as_a_whole_keeps_to_what_an_unvalidated_client_may_get() {
    let mut solo = solo();
    let rpc = first_contact(&mut solo, 800);
    let sent = solo.answer(rpc, 30_000);
    assert!(wire_bytes(&sent) <= 3 * (800 + 56), "{} bytes", wire_bytes(&sent));
    assert!(sent.iter().any(Sent::is_data), "but what is allowed goes at once");
}

#[test]
fn calls_of_our_own_use_up_nothing_of_what_a_client_may_get() {
    let mut solo = solo();
    let rpc = first_contact(&mut solo, 178);
    solo.call(address(9, 900), 20_000);
    solo.drain();
    let sent = solo.answer(rpc, 46);
    assert!(sent.iter().any(|sent| sent.range() == Some((0, 46))), "{sent:?}");
}

#[test]
fn a_client_that_has_to_prove_its_address_is_asked_at_once() {
    let mut solo = solo();
    let rpc = first_contact(&mut solo, 100);
    let mut sent = solo.answer(rpc, 5000);
    sent.extend(solo.advance_ns(1000));
    assert!(sent.iter().any(|sent| sent.is(&Body::NeedAck)), "{sent:?}");
}

#[test]
fn a_client_with_a_short_request_can_prove_its_address_at_once() {
    // As many bytes of control packets may go there as came: our cutoffs would have used them up.
    let mut solo = solo();
    let rpc = first_contact(&mut solo, 18);
    let mut sent = solo.answer(rpc, 40_000);
    sent.extend(solo.advance_ns(1000));
    assert!(sent.iter().any(|sent| sent.is(&Body::NeedAck)), "{sent:?}");
}

#[test]
fn a_grant_that_had_no_room_is_sent_although_its_sender_proves_its_address_meanwhile() {
    let mut solo = solo();
    let client = address(9, 900);
    let mut header = solo.data_header(client, 10, 50_000, 0);
    if let Body::Data(data) = &mut header.body {
        (data.echo, data.incoming) = (0, 1400);
    }
    let _ = solo.header(client, &header, 1400);
    let now = solo.now();
    while let Some(train) = solo.engine.poll_transmit(now, &mut solo.segments) {
        let first = &solo.segments[0];
        let header = Header::parse(first.header(), first.wire_bytes()).unwrap();
        if let Body::Grant(_) = header.body {
            solo.engine.transmit_failed(now, &train, &solo.segments, 0, TransmitError::NoRoom);
            break;
        }
    }
    let _ = solo.control(client, 10, Body::Busy, Reason::None, 0);
    let sent = solo.drain();
    assert!(sent.iter().any(|sent| sent.grant() == Some(50_000)), "{sent:?}");
}

#[test]
fn an_acknowledgement_that_had_no_room_rides_on_the_next_packet() {
    let mut solo = solo();
    let server = address(9, 900);
    let (_, id, _) = solo.called(server, 100);
    let _ = solo.data(server, id, 10, (0, 10));
    solo.events();
    solo.drain();
    solo.call(server, 100);
    let now = solo.now();
    let train = solo.engine.poll_transmit(now, &mut solo.segments).unwrap();
    solo.engine.transmit_failed(now, &train, &solo.segments, 0, TransmitError::NoRoom);
    let sent = solo.drain();
    let acknowledged = sent.iter().filter_map(|sent| sent.data()?.acknowledged());
    assert_eq!(acknowledged.map(|ack| ack.client_id).collect::<Vec<_>>(), [id ^ 1]);
}

#[test]
fn messages_without_memory_do_not_count_as_on_their_way() {
    let config = Config::default().with(|config| {
        config.limits.max_message_bytes = 500_000;
        config.limits.receive_memory_bytes = 1 << 20;
    });
    let mut solo = Solo::new(config);
    for id in 0..60 {
        let _ = solo.data(address(9, 900), 2 * id, 450_000, (0, FULL));
    }
    for event in solo.events() {
        if let Event::RequestStarted { rpc, .. } = event {
            // Has the grants look at it again.
            solo.engine.consumed(solo.now(), rpc, 0).unwrap();
        }
    }
    solo.drain();
    let stats = solo.engine.stats();
    assert!(stats.messages_unallocated > 30);
    assert!(stats.incoming_bytes <= 2 * 400_000, "{} bytes", stats.incoming_bytes);
}

#[test]
fn what_is_missing_below_early_data_is_asked_for() {
    // The sender was granted more by a former incarnation of this end: bytes beyond our own grant
    // come first.
    let config = Config::default().with(|config| config.fixed.unread_bytes_max = 1 << 16);
    let mut solo = Solo::new(config);
    let from = address(9, 900);
    let Received::Place(placement) = solo.data(from, 10, 200_000, (30_000, 31_400)) else {
        panic!("it is accepted")
    };
    solo.events();
    solo.engine.set_streaming(solo.now(), placement.rpc).unwrap();
    for start in (31_400..120_000).step_by(1400) {
        let _ = solo.data(from, 10, 200_000, (start, start + 1400));
    }
    let sent = solo.advance(50);
    assert!(sent.iter().any(|sent| sent.resend().is_some_and(|(start, _)| start == 0)), "{sent:?}");
}

#[test]
fn a_never_seen_that_was_overtaken_by_a_grant_fails_nothing() {
    let mut solo = solo();
    let server = address(9, 900);
    let (rpc, id, _) = solo.called(server, 100_000);
    let grant = Body::Grant(Grant { offset: 60_000, priority: 0 });
    let _ = solo.control(server, id, grant, Reason::None, FULL);
    let _ = solo.control(server, id, Body::RpcUnknown, Reason::NeverSeen, 5000);
    solo.events();
    assert_eq!(solo.failure(rpc), None);
    // A server that says so again and again has lost it.
    for _ in 0..4 {
        solo.advance(20);
        let _ = solo.control(server, id, Body::RpcUnknown, Reason::NeverSeen, 5000);
        solo.events();
    }
    assert_eq!(solo.failure(rpc), Some(FailReason::Forgotten));
}

#[test]
fn several_answers_that_nothing_is_known_repeat_the_request_once() {
    let mut solo = solo();
    let server = address(9, 900);
    let (_, id, sent) = solo.called(server, 10_000);
    let packets = sent.iter().filter(|sent| sent.is_data()).count();
    for _ in 0..packets {
        let _ = solo.control(server, id, Body::RpcUnknown, Reason::NeverSeen, 5000);
        let again = solo.drain();
        assert!(again.len() <= packets);
    }
    assert_eq!(solo.engine.stats().restarts, 1);
}

#[test]
fn whoever_is_not_the_server_learns_nothing_about_a_call() {
    let mut solo = solo();
    let (rpc, id, _) = solo.called(address(9, 900), 100);
    let stranger = address(66, 900);
    for body in [Body::NeedAck, Body::RpcUnknown, Body::Busy, Body::Ack(Ack::default())] {
        let _ = solo.control(stranger, id, body, Reason::None, 0);
    }
    let mut foreign: Header = solo.data_header(stranger, id, 100, 0);
    foreign.common.window += 1;
    let _ = solo.header(stranger, &foreign, 100);
    assert!(solo.drain().is_empty(), "an answer could be turned against the call");
    assert_eq!(solo.failure(rpc), None);
}

#[test]
fn a_request_that_is_over_before_it_was_announced_ends_all_the_same() {
    let mut solo = solo();
    let from = address(9, 900);
    let Received::Place(placement) = solo.data(from, 10, 5000, (0, 1400)) else {
        panic!("it is accepted")
    };
    let _ = solo.control(from, 10, Body::RpcUnknown, Reason::Cancelled, 0);
    assert_eq!(solo.events(), [Event::Ended { rpc: placement.rpc }], "its bytes must be forgotten");
}

#[test]
fn finished_requests_are_forgotten_without_being_asked_about() {
    let mut solo = solo();
    let from = address(9, 900);
    let rpc = solo.request(from, 10, 100);
    solo.answer(rpc, 100);
    let _ = solo.control(from, 10, Body::Ack(Ack::default()), Reason::None, 0);
    solo.advance(1);
    assert_eq!(solo.engine.stats().finished_entries, 1);
    solo.advance(10_000);
    solo.engine.handle_timeout(solo.now(), true);
    assert_eq!(solo.engine.stats().finished_entries, 0);
}

#[test]
fn full_segments_that_vanish_after_others_arrived_still_mean_a_smaller_path() {
    let mut solo = solo();
    let server = address(9, 900);
    let (_, id, _) = solo.called(server, 200_000);
    let grant = Body::Grant(Grant { offset: 100_000, priority: 0 });
    let _ = solo.control(server, id, grant, Reason::None, 20 * FULL);
    solo.drain();
    for _ in 0..3 {
        solo.advance(10);
        let resend = homa_wire::Resend { offset: 20 * FULL, length: 20_000, priority: 7 };
        let _ = solo.control(server, id, Body::Resend(resend), Reason::None, 0);
        solo.drain();
    }
    assert_eq!(solo.engine.stats().mtu_black_holes, 1);
}

#[test]
fn a_stream_of_reported_losses_hides_no_black_hole() {
    let mut solo = solo();
    let server = address(9, 900);
    let ids: Vec<u64> = (0..4).map(|_| solo.called(server, 20_000).1).collect();
    for round in 0..100 {
        let resend = homa_wire::Resend { offset: 0, length: 20_000, priority: 7 };
        let _ = solo.control(server, ids[round % ids.len()], Body::Resend(resend), Reason::None, 0);
        solo.advance(1);
    }
    assert_eq!(solo.engine.stats().mtu_black_holes, 1);
}

#[test]
fn replies_to_several_resends_that_come_at_once_are_one_doubt() {
    let mut solo = Solo::new(Config::default());
    let server = address(9, 900);
    let (rpc, id, _) = solo.called(server, 100);
    let _ = solo.control(server, id, Body::Busy, Reason::None, 0);
    for _ in 0..10 {
        let _ = solo.control(server, id, Body::RpcUnknown, Reason::NeverSeen, 1_000_000);
    }
    solo.events();
    assert_eq!(solo.failure(rpc), None);
    for _ in 0..5 {
        solo.advance(100);
        let _ = solo.control(server, id, Body::RpcUnknown, Reason::NeverSeen, 1_000_000);
    }
    solo.events();
    assert_eq!(solo.failure(rpc), Some(FailReason::Forgotten), "it is asked and says so again");
}

/// What is sent when a server asks for the acknowledgement of a response of 5,000 bytes, of which
/// 1,000 have come, all are granted, and `sent` were sent.
fn asked_for_an_acknowledgement(sent: u32) -> Vec<Sent> {
    let mut solo = solo();
    let server = address(9, 900);
    let (_, id, _) = solo.called(server, 100);
    let mut header = solo.data_header(server, id, 5000, 0);
    if let Body::Data(data) = &mut header.body {
        data.incoming = 1000;
    }
    let _ = solo.header(server, &header, 1000);
    let granted = solo.drain();
    assert!(granted.iter().any(|sent| sent.grant() == Some(5000)), "{granted:?}");
    let _ = solo.control(server, id, Body::NeedAck, Reason::None, sent);
    solo.drain()
}

#[test]
fn what_a_grant_on_its_way_lets_go_is_not_missing() {
    let resends = |sent: &[Sent]| sent.iter().filter_map(Sent::resend).collect::<Vec<_>>();
    let sent = asked_for_an_acknowledgement(1000);
    assert_eq!(resends(&sent), []);
    assert!(sent.iter().any(|sent| sent.is(&Body::Busy)), "{sent:?}");
    assert_eq!(resends(&asked_for_an_acknowledgement(2000)), [(1000, 1000)]);
    assert_eq!(resends(&asked_for_an_acknowledgement(5000)), [(1000, 4000)]);
    assert_eq!(resends(&asked_for_an_acknowledgement(0)), [(1000, 4000)], "all, as from Linux");
}

#[test]
fn a_server_that_asks_for_an_acknowledgement_says_how_much_it_has_sent() {
    let mut solo = solo();
    let client = address(9, 900);
    let rpc = solo.request(client, 10, 100);
    let sent = solo.answer(rpc, 100_000);
    let end = sent.iter().filter_map(Sent::range).map(|range| range.1).max().unwrap();
    assert!(end < 100_000, "the rest waits for a grant");
    let asked = solo.advance(300).into_iter().find(|sent| sent.is(&Body::NeedAck)).unwrap();
    assert_eq!(asked.header.extension.unwrap().value, end);
}

#[test]
fn a_request_that_the_driver_had_no_room_for_is_not_asked_about() {
    let config = Config::default().with(|config| config.unscheduled.in_flight_max_bytes = 2000);
    let mut solo = Solo::new(config);
    for _ in 0..3 {
        solo.call(address(9, 900), 500);
    }
    let now = solo.now();
    let train = solo.engine.poll_transmit(now, &mut solo.segments).unwrap();
    assert_eq!(train.segments, 2, "the third waits");
    solo.engine.transmit_failed(now, &train, &solo.segments, 0, TransmitError::NoRoom);
    solo.now_ns += MS;
    solo.engine.handle_timeout(solo.now(), true);
    let sent = solo.drain();
    let asked = sent.iter().position(Sent::is_probe).expect("the third is held back");
    let behind = sent[asked..].iter().filter(|sent| sent.is_data());
    let named: Vec<_> = behind.filter(|data| data.id() == sent[asked].id()).collect();
    assert!(named.is_empty(), "its server would say that it never came: {sent:?}");
}

fn ask_again(solo: &mut Solo, id: u64, offset: u32, length: u32) {
    let resend = homa_wire::Resend { offset, length, priority: 7 };
    let _ = solo.control(address(9, 900), id, Body::Resend(resend), Reason::None, 0);
}

#[test]
fn what_is_left_of_a_full_segment_that_is_lost_again_means_a_smaller_path() {
    let mut solo = solo();
    let (_, id, _) = solo.called(address(9, 900), 20_000);
    // The first may mean the short end of a segment, five in front of what arrived mean a black
    // hole.
    for question in 0..6 {
        assert_eq!(solo.engine.stats().mtu_black_holes, 0, "after {question} RESENDs");
        solo.advance(10);
        ask_again(&mut solo, id, 3 * FULL - 1, 1);
        solo.drain();
    }
    assert_eq!(solo.engine.stats().mtu_black_holes, 1);
}

#[test]
fn short_segments_that_are_lost_again_and_again_say_nothing_about_the_path() {
    let mut solo = solo();
    let (_, id, _) = solo.called(address(9, 900), 10 * FULL + 1000);
    for _ in 0..20 {
        solo.advance(10);
        ask_again(&mut solo, id, 10 * FULL + 500, 500);
        solo.drain();
    }
    assert_eq!(solo.engine.stats().mtu_black_holes, 0);
}

#[test]
fn a_segment_that_reaches_beyond_the_memory_of_its_message_is_taken_as_far_as_that_goes() {
    let config = Config::default().with(|config| {
        config.limits.max_message_bytes = 200_000;
        config.limits.receive_memory_bytes = 5 << 16;
    });
    let mut solo = Solo::new(config);
    let mut send = |host: u8, start: u32| {
        let mut header = solo.data_header(address(host, 900), 10, 200_000, start);
        if let Body::Data(data) = &mut header.body {
            data.incoming = 65_000;
        }
        solo.header(address(host, 900), &header, FULL)
    };
    assert!(matches!(send(8, 0), Received::Place(_)));
    assert!(matches!(send(9, 0), Received::Place(_)), "it has the memory that is set aside");
    let Received::Place(placement) = send(8, 64_500) else {
        panic!("the memory up to 65,000 is its own")
    };
    assert_eq!((placement.offset, placement.packet.len()), (64_500, 500));
    assert!(matches!(send(8, 66_000), Received::Dropped(_)));
}

#[test]
fn what_a_server_waits_for_goes_before_shorter_messages_that_wait_for_room_there() {
    let config = Config::default().with(|config| {
        config.unscheduled.in_flight_max_bytes = 3_000;
        config.unscheduled.bytes = 20_000;
    });
    let mut solo = Solo::new(config);
    let server = address(9, 900);
    let (long, id, _) = solo.called(server, 100_000);
    let _ = solo.control(server, id, Body::Busy, Reason::None, 0);
    solo.drain();
    for _ in 0..20 {
        solo.call(server, 2_000);
    }
    assert!(!solo.drain().iter().any(Sent::is_data), "there is no room");
    let grant = Body::Grant(Grant { offset: 60_000, priority: 0 });
    let _ = solo.control(server, id, grant, Reason::None, FULL);
    let sent = solo.drain();
    let first = sent.iter().find(|sent| sent.is_data()).unwrap();
    assert_eq!((first.rpc, first.range()), (Some(long), Some((2 * FULL, 3 * FULL))));
}

#[test]
fn a_client_that_says_that_it_is_busy_is_asked_ever_more_rarely() {
    let mut solo = solo();
    let client = address(9, 900);
    let rpc = solo.request(client, 10, 100);
    solo.answer(rpc, 100);
    let mut last_sent = Vec::new();
    for ms in 0..5_000 {
        if solo.advance(1).iter().any(|sent| sent.is(&Body::NeedAck)) {
            last_sent.push(ms);
            let _ = solo.control(client, 10, Body::Busy, Reason::None, 0);
        }
    }
    let pauses: Vec<i32> = last_sent.windows(2).map(|two| two[1] - two[0]).collect();
    assert!(pauses.len() > 4 && pauses.is_sorted(), "{pauses:?}");
    assert!(pauses.last() >= Some(&600), "{pauses:?}");
}

#[test]
fn the_rest_of_a_request_names_the_incarnation_that_got_its_beginning() {
    let (mut solo, server) = (solo(), address(9, 900));
    let (_, id, _) = solo.called(server, 100);
    let _ = solo.data(server, id, 10, (0, 10));
    let options = RequestOptions { streaming_body: true, ..RequestOptions::default() };
    let rpc = solo.call_with(server, 3000, options).unwrap();
    let supply = |solo: &mut Solo, upto| -> Vec<u32> {
        solo.engine.supply(solo.now(), rpc, upto).unwrap();
        let sent = solo.drain();
        sent.iter().filter_map(|sent| Some(sent.data()?.echo)).collect()
    };
    assert_eq!(supply(&mut solo, 1000), [THEIRS]);
    // It starts anew and says so.
    let common = Common::control(server.port(), PORT, id | 1 << 40).with_native_profile(THEIRS + 1);
    let echo = Extension { echo: solo.ours(server), ..Extension::default() };
    let _ = solo.header(server, &Header { common, body: Body::Busy, extension: Some(echo) }, 0);
    assert_eq!(supply(&mut solo, 2000), [THEIRS], "the other one must not take it for a request");
    assert_eq!(solo.called(server, 10).2.last().unwrap().data().unwrap().echo, THEIRS + 1);
}
