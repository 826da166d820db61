//! What mutants of the engine (`tools/mutants`) have shown to lack a test.

use std::time::Duration;

use crate::harness::*;
use homa_core::{Config, DropReason, FailReason, Received, ResponseOptions, RpcKey, TransmitError};
use homa_wire::{Ack, AckEntry, Body, Extension, Grant, Reason, Resend};

const DUPLICATE: Received = Received::Dropped(DropReason::Duplicate);

/// Time passes, at the end of which a look for packets finds none: what is remembered is older
/// then.
fn pass(solo: &mut Solo, ms: u64) {
    solo.advance(ms);
    solo.engine.handle_timeout(solo.now(), true);
}

fn finish(solo: &mut Solo, id: u64) {
    let rpc = solo.request(address(9, 900), id, 100);
    solo.answer(rpc, 100);
    let _ = solo.control(address(9, 900), id, Body::Ack(Ack::default()), Reason::None, 0);
    solo.events();
}

/// A request in one packet from a client that does not say who we are; also the bytes that came.
fn unvalidated_request(solo: &mut Solo, id: u64, length: u32) -> (RpcKey, u32) {
    let mut header = solo.data_header(address(9, 900), id, length, 0);
    if let Body::Data(data) = &mut header.body {
        data.echo = 0;
    }
    let received = solo.header(address(9, 900), &header, length);
    let Received::Place(placement) = received else { panic!("{received:?}") };
    solo.events();
    (placement.rpc, 56 + length)
}

/// That client asks for the first bytes of a response again; the bytes that came.
fn unvalidated_resend(solo: &mut Solo, id: u64, length: u32) -> u32 {
    let mut header = solo.data_header(address(9, 900), id, 0, 0);
    header.body = Body::Resend(Resend { offset: 0, length, priority: 7 });
    header.extension = Some(Extension { echo: 0, reason: Reason::None, value: 0 });
    let _ = solo.header(address(9, 900), &header, 0);
    header.encoded_bytes() as u32
}

#[test]
fn a_duplicate_has_a_finished_request_remembered_for_its_time_anew() {
    let mut solo = Solo::new(Config::default());
    finish(&mut solo, 1000);
    for _ in 0..5 {
        pass(&mut solo, 1_500);
        assert_eq!(solo.data(address(9, 900), 1000, 100, (0, 100)), DUPLICATE);
    }
}

#[test]
fn a_peer_that_was_forgotten_and_came_back_repeats_no_finished_request() {
    let mut solo = Solo::new(Config::default().with(|config| {
        config.peers.max = 1;
        config.fixed.peer_idle_min = Duration::from_millis(100);
    }));
    finish(&mut solo, 1000);
    solo.advance(200);
    let other = solo.request(address(8, 800), 6, 100);
    solo.engine.abort(solo.now(), other, FailReason::Rejected).unwrap();
    let _ = solo.control(address(8, 800), 6, Body::Ack(Ack::default()), Reason::None, 0);
    solo.advance(200);
    // The count of its ids begins with one that is older than the finished one.
    finish(&mut solo, 900);
    assert_eq!(solo.data(address(9, 900), 1000, 100, (0, 100)), DUPLICATE);
}

#[test]
fn what_the_driver_refuses_does_not_count_as_on_its_way() {
    let mut solo = Solo::new(Config::default().with(|config| {
        config.unscheduled.bytes = 60_000;
        config.unscheduled.in_flight_max_bytes = 98_304;
    }));
    solo.call(address(2, 80), 60_000);
    let now = solo.now();
    for _ in 0..10 {
        let transmit = solo.engine.poll_transmit(now, &mut solo.segments).expect("a train");
        let why = TransmitError::NoRoom;
        solo.engine.transmit_failed(now, &transmit, &solo.segments, 0, why);
    }
    let sent: u32 = solo.drain().iter().filter_map(Sent::range).map(|(from, to)| to - from).sum();
    assert_eq!(sent, 60_000);
}

#[test]
fn a_response_that_found_no_memory_is_waited_for_and_not_asked_for() {
    // All memory is set aside for one message: that of a request which nobody takes.
    let mut solo = Solo::new(Config::default().with(|config| {
        config.limits.max_message_bytes = 100_000;
        config.limits.receive_memory_bytes = 100_000;
    }));
    solo.request(address(9, 900), 1000, 50_000);
    let (_, id, _) = solo.called(address(2, 80), 100);
    let received = solo.data(address(2, 80), id, 70_000, (0, FULL));
    assert_eq!(received, Received::Dropped(DropReason::NoMemory));
    let _ = solo.control(address(2, 80), id, Body::NeedAck, Reason::None, 0);
    let sent = solo.drain();
    assert!(sent.iter().any(|sent| sent.is(&Body::Busy)), "{sent:?}");
    assert!(sent.iter().all(|sent| sent.resend().is_none()), "{sent:?}");
}

#[test]
fn while_data_of_others_comes_one_packet_of_a_silent_message_is_asked_for_first() {
    let mut solo = Solo::new(Config::default());
    let _ = solo.data(address(9, 900), 1000, 30_000, (0, FULL));
    let mut asked = Vec::new();
    for id in 1..=20 {
        let sent = solo.advance(1);
        asked.extend(sent.iter().filter_map(Sent::resend));
        let _ = solo.data(address(8, 800), 2 * id, 100, (0, 100));
        if !asked.is_empty() {
            break;
        }
    }
    assert_eq!(asked, [(FULL, FULL - 1)], "less than all that is missing, within a packet");
}

#[test]
fn what_an_unvalidated_client_asks_for_again_counts_towards_what_it_may_get() {
    let mut solo = Solo::new(Config::default());
    let (first, mut came) = unvalidated_request(&mut solo, 1000, 1_400);
    for id in (1002..1020).step_by(2) {
        came += unvalidated_request(&mut solo, id, 1_400).1;
    }
    let mut sent = solo.answer(first, 30_000);
    for _ in 0..5 {
        came += unvalidated_resend(&mut solo, 1000, 30_000);
        sent.extend(solo.advance(10));
    }
    let bytes: u32 = sent.iter().map(|sent| sent.wire_bytes).sum();
    assert!(bytes <= 3 * came, "{bytes} bytes for {came}");
    assert!(bytes > 35_000, "what is allowed is sent again: {bytes}");
}

#[test]
fn an_unvalidated_client_that_got_nothing_is_asked_to_prove_its_address() {
    let mut solo = Solo::new(Config::default());
    let (rpc, _) = unvalidated_request(&mut solo, 1000, 800);
    let sent = solo.answer(rpc, 2_000);
    assert!(sent.iter().any(Sent::is_data), "{sent:?}");
    unvalidated_resend(&mut solo, 1000, 2_000);
    let sent = solo.drain();
    assert!(sent.iter().any(|sent| sent.is(&Body::NeedAck)), "{sent:?}");
}

#[test]
fn an_older_request_that_comes_late_does_not_make_newer_ones_unknown() {
    let mut solo = Solo::new(Config::default());
    finish(&mut solo, 100);
    pass(&mut solo, 3_000);
    finish(&mut solo, 1000);
    finish(&mut solo, 900);
    assert_eq!(solo.data(address(9, 900), 1000, 100, (0, 100)), DUPLICATE);
}

#[test]
fn any_number_of_acknowledgements_may_come_with_data_at_a_time() {
    let mut solo = Solo::new(Config::default());
    let client = address(9, 900);
    let ids = || (1_000..1_200).step_by(2);
    let answered: Vec<RpcKey> = ids()
        .map(|id| {
            let rpc = solo.request(client, id, 100);
            solo.answer(rpc, 100);
            rpc
        })
        .collect();
    for id in ids() {
        let mut header = solo.data_header(client, id + 1_000, 200, 0);
        if let Body::Data(data) = &mut header.body {
            data.ack = AckEntry { client_id: id, server_port: PORT };
        }
        let _ = solo.header(client, &header, 100);
    }
    solo.drain();
    solo.events();
    assert!(answered.iter().all(|rpc| solo.ended(*rpc)));
}

#[test]
fn a_call_that_was_told_to_wait_is_watched_again_when_it_is_granted() {
    let mut solo = Solo::new(Config::default());
    let (_, id, _) = solo.called(address(2, 80), 60_000);
    let _ = solo.control(address(2, 80), id, Body::Busy, Reason::None, 0);
    solo.advance(1);
    let _ = solo.control(
        address(2, 80),
        id,
        Body::Grant(Grant { offset: 60_000, priority: 3 }),
        Reason::None,
        0,
    );
    let sent = solo.advance(50);
    assert!(sent.iter().any(Sent::is_data), "{sent:?}");
    assert!(sent.iter().any(|sent| sent.resend().is_some()), "its response is asked for");
}

#[test]
fn a_client_acknowledges_a_refusal() {
    let mut solo = Solo::new(Config::default());
    let (rpc, id, _) = solo.called(address(2, 80), 100);
    let _ = solo.control(address(2, 80), id, Body::RpcUnknown, Reason::Rejected, 0);
    solo.events();
    assert_eq!(solo.failure(rpc), Some(FailReason::Rejected));
    let sent = solo.drain();
    assert!(sent.iter().any(Sent::is_ack), "{sent:?}");
}

#[test]
fn an_answer_about_a_call_that_is_over_makes_room_for_those_that_wait() {
    // A long call, a short one behind it, and then no room for a packet of the third.
    let (long, short) = (40_000 + 29 * 256, 100 + 256);
    let mut solo = Solo::new(Config::default().with(|config| {
        config.unscheduled.bytes = 40_000;
        config.unscheduled.in_flight_max_bytes = long + short + 500;
    }));
    let server = address(2, 80);
    solo.called(server, 40_000);
    let (_, id, _) = solo.called(server, 100);
    let third = solo.call(server, 40_000);
    assert!(solo.drain().is_empty(), "it waits for room");
    let _ = solo.data(server, id, 100, (0, 100));
    let asked = solo.advance(1);
    assert!(
        asked.iter().any(|sent| sent.is(&Body::NeedAck) && sent.header.common.sender_id == id ^ 1)
    );
    assert!(asked.iter().all(|sent| !sent.is_data()));
    let _ = solo.control(server, id, Body::RpcUnknown, Reason::Finished, 0);
    assert!(solo.drain().iter().any(|sent| sent.is_data() && sent.rpc == Some(third)));
}

/// Lets time pass until a waiting call is asked about; answers that it is in service and returns
/// its id.
fn asked_about(solo: &mut Solo) -> u64 {
    for _ in 0..5_000 {
        let sent = solo.advance(1);
        if let Some(question) = sent.iter().find(|sent| sent.is(&Body::NeedAck)) {
            let id = question.header.common.sender_id | 1;
            let _ = solo.control(address(2, 80), id, Body::Busy, Reason::None, 0);
            return id;
        }
    }
    panic!("nobody is asked");
}

#[test]
fn the_round_over_waiting_calls_goes_on_where_one_of_them_ends() {
    let mut solo = Solo::new(Config::default());
    let mut calls = std::collections::BTreeMap::new();
    for _ in 0..5 {
        let (rpc, id, _) = solo.called(address(2, 80), 100);
        let _ = solo.control(address(2, 80), id, Body::Busy, Reason::None, 0);
        calls.insert(id, rpc);
    }
    let round: Vec<u64> = (0..5).map(|_| asked_about(&mut solo)).collect();
    assert_eq!(asked_about(&mut solo), round[0]);
    // The one that is next ends.
    let _ = solo.data(address(2, 80), round[1], 100, (0, 100));
    solo.engine.consumed(solo.now(), calls[&round[1]], 100).unwrap();
    solo.events();
    assert!(solo.ended(calls[&round[1]]));
    assert_eq!(asked_about(&mut solo), round[2]);
}

#[test]
fn what_was_asked_for_long_ago_takes_no_room_from_later_resends() {
    let mut solo = Solo::new(Config::default());
    for number in 1..=40 {
        let id = 2 * number;
        let _ = solo.data(address(9, 900), id, 30_000, (0, FULL));
        let asked: u32 = solo.advance(20).iter().filter_map(Sent::resend).map(|it| it.1).sum();
        assert!(asked >= 30_000 - FULL, "message {number}: {asked} bytes");
        solo.request(address(9, 900), id, 30_000);
    }
}

#[test]
fn a_reader_that_takes_little_is_granted_little_while_nothing_is_on_its_way() {
    let mut solo =
        Solo::new(Config::default().with(|config| config.fixed.unread_bytes_max = 65_536));
    let (client, length) = (address(9, 900), 500_000);
    let Received::Place(first) = solo.data(client, 10, length, (0, FULL)) else { panic!() };
    solo.engine.set_streaming(solo.now(), first.rpc).unwrap();
    let mut came = FULL;
    while came < 65_536 {
        let end = (came + FULL).min(65_536);
        let _ = solo.data(client, 10, length, (came, end));
        came = end;
        solo.drain();
    }
    solo.engine.consumed(solo.now(), first.rpc, 1_000).unwrap();
    assert_eq!(solo.drain().iter().find_map(Sent::grant), Some(66_536));
}

#[test]
fn a_client_that_proves_its_address_leaves_the_share_of_unvalidated_clients_to_others() {
    let mut solo = Solo::new(Config::default().with(|config| {
        config.limits.max_message_bytes = 100_000;
        config.limits.receive_memory_bytes = 1_100_000;
    }));
    let announce = |solo: &mut Solo, host: u8| {
        let mut header = solo.data_header(address(host, 900), 1000, 100_000, 0);
        if let Body::Data(data) = &mut header.body {
            data.echo = 0;
        }
        matches!(solo.header(address(host, 900), &header, FULL), Received::Place(_))
    };
    let admitted = (1..=20).take_while(|host| announce(&mut solo, *host)).count();
    assert!((1..20).contains(&admitted), "{admitted} unvalidated clients");
    assert!(!announce(&mut solo, 50));
    let _ = solo.data(address(1, 900), 1000, 100_000, (FULL, 2 * FULL));
    assert!(announce(&mut solo, 50), "there is room for one again");
    assert!(!announce(&mut solo, 51));
}

#[test]
fn a_message_without_memory_for_its_unscheduled_part_takes_nothing() {
    // What is not set aside for one message is 200,000 bytes.
    let mut solo = Solo::new(Config::default().with(|config| {
        config.limits.max_message_bytes = 200_000;
        config.limits.receive_memory_bytes = 262_144 + 200_000;
    }));
    let taken = solo.request(address(1, 900), 10, 100_000);
    let _ = solo.data(address(2, 900), 10, 100_000, (0, FULL));
    let _ = solo.data(address(3, 900), 10, 100_000, (0, FULL));
    solo.engine.consumed(solo.now(), taken, 100_000).unwrap();
    // The third has what is set aside; of the rest a piece is left and not two.
    let mut header = solo.data_header(address(4, 900), 10, 200_000, 0);
    if let Body::Data(data) = &mut header.body {
        data.incoming = 90_000;
    }
    for _ in 0..2 {
        let received = solo.header(address(4, 900), &header, FULL);
        assert_eq!(received, Received::Dropped(DropReason::NoMemory));
    }
    let short = solo.data(address(5, 900), 10, 60_000, (0, FULL));
    assert!(matches!(short, Received::Place(_)), "{short:?}");
}

#[test]
fn a_silent_unvalidated_client_that_proves_its_address_by_an_answer_still_holds_nothing() {
    let mut solo = Solo::new(Config::default());
    let mut header = solo.data_header(address(9, 900), 1000, 1_000_000, 0);
    if let Body::Data(data) = &mut header.body {
        data.echo = 0;
    }
    assert!(matches!(solo.header(address(9, 900), &header, FULL), Received::Place(_)));
    solo.advance(40);
    assert_eq!(solo.engine.stats().incoming_bytes, 0, "it is passed over");
    let _ = solo.control(address(9, 900), 1000, Body::Busy, Reason::None, 0);
    solo.drain();
    assert_eq!(solo.engine.stats().incoming_bytes, 0);
    for at in 1..30 {
        let more = solo.data(address(9, 900), 1000, 1_000_000, (at * FULL, (at + 1) * FULL));
        assert!(matches!(more, Received::Place(_)), "{more:?}");
    }
    solo.drain();
    assert!(solo.engine.stats().incoming_bytes > 0);
}

#[test]
fn bytes_of_another_incarnation_of_the_server_do_not_complete_a_response() {
    let mut solo = Solo::new(Config::default());
    let server = address(2, 80);
    let (rpc, id, _) = solo.called(server, 100);
    let _ = solo.data(server, id, 2_000, (0, 1_000));
    let mut header = solo.data_header(server, id, 2_000, 1_000);
    header.common.incarnation = THEIRS ^ 1;
    let received = solo.header(server, &header, 1_000);
    assert_eq!(received, Received::Dropped(DropReason::WrongPeer));
    solo.events();
    assert_eq!(solo.failure(rpc), Some(FailReason::Restarted));
}

#[test]
fn a_client_that_expects_a_longer_response_is_told_that_there_is_none() {
    let mut solo = Solo::new(Config::default());
    let rpc = solo.request(address(9, 900), 1000, 100);
    solo.answer(rpc, 2_000);
    let body = Body::Resend(Resend { offset: 3_000, length: 500, priority: 7 });
    let _ = solo.control(address(9, 900), 1000, body, Reason::None, 0);
    let sent = solo.drain();
    assert!(sent.iter().any(|sent| sent.unknown() == Some(Reason::Finished)), "{sent:?}");
}

/// Calls that their server has, and their ids.
fn in_service(solo: &mut Solo, count: usize) -> Vec<u64> {
    let called = |_| {
        let (_, id, _) = solo.called(address(2, 80), 100);
        let _ = solo.control(address(2, 80), id, Body::Busy, Reason::None, 0);
        id
    };
    (0..count).map(called).collect()
}

fn asked(sent: &[Sent]) -> std::collections::BTreeSet<u64> {
    let questions = sent.iter().filter(|sent| sent.is(&Body::NeedAck));
    questions.map(|sent| sent.header.common.sender_id | 1).collect()
}

#[test]
fn a_server_that_lost_a_call_is_asked_about_many_others_at_once() {
    let mut solo = Solo::new(Config::default());
    let ids = in_service(&mut solo, 100);
    let _ = solo.control(address(2, 80), ids[0], Body::RpcUnknown, Reason::Finished, 0);
    let sent = solo.advance(1);
    assert!(asked(&sent).len() >= 32, "{:?}", asked(&sent));
}

#[test]
fn after_a_long_pause_all_calls_in_service_are_asked_about() {
    let mut solo = Solo::new(Config::default());
    in_service(&mut solo, 20);
    for _ in 0..10 {
        asked_about(&mut solo);
    }
    solo.now_ns += 11_000 * MS;
    solo.engine.handle_timeout(solo.now(), true);
    let sent = solo.advance(1);
    assert_eq!(asked(&sent).len(), 20);
}

#[test]
fn a_response_that_waits_for_room_is_kept_while_its_client_takes_others() {
    let mut solo = Solo::new(Config::default());
    let client = address(9, 900);
    let responses: Vec<RpcKey> = (1..=6)
        .map(|number| {
            let rpc = solo.request(client, 2 * number, 100);
            solo.answer(rpc, 40_000);
            rpc
        })
        .collect();
    // It answers no probe, but speaks of another RPC all the time, and acknowledges one response.
    for second in 0..6 {
        if second == 3 {
            let _ = solo.control(client, 2, Body::Ack(Ack::default()), Reason::None, 0);
        }
        let _ = solo.control(client, 4000, Body::Busy, Reason::None, 0);
        solo.advance(1_000);
    }
    assert!(solo.ended(responses[0]));
    assert!(!solo.ended(responses[5]));
}

/// One message may be granted at a time; a short one of an unvalidated client and a long one of
/// somebody else have begun.
fn an_unvalidated_client_and_another() -> Solo {
    let mut solo = Solo::new(Config::default().with(|config| {
        config.grants.max_overcommit = 1;
        config.grants.fifo_permille = 500;
        config.fixed.fifo_grant_bytes = 20_000;
    }));
    let mut header = solo.data_header(address(9, 900), 1000, 100_000, 0);
    if let Body::Data(data) = &mut header.body {
        data.echo = 0;
    }
    assert!(matches!(solo.header(address(9, 900), &header, FULL), Received::Place(_)));
    let _ = solo.data(address(8, 800), 1000, 1_000_000, (0, FULL));
    solo
}

fn is_granted(sent: &[Sent], to: u8) -> bool {
    sent.iter().any(|sent| sent.grant().is_some() && sent.path.remote.ip() == address(to, 1).ip())
}

#[test]
fn an_unvalidated_client_has_no_share_of_the_oldest() {
    let mut solo = an_unvalidated_client_and_another();
    solo.drain();
    let mut sent = Vec::new();
    for start in (FULL..900_000).step_by(FULL as usize) {
        let _ = solo.data(address(8, 800), 1000, 1_000_000, (start, start + FULL));
        sent.extend(solo.drain());
    }
    assert!(is_granted(&sent, 8) && !is_granted(&sent, 9));
}

#[test]
fn a_place_that_is_free_again_goes_to_whoever_proved_its_address() {
    let mut solo = an_unvalidated_client_and_another();
    let _ = solo.data(address(7, 700), 1000, 1_000_000, (0, FULL));
    let sent = solo.drain();
    let (first, second) = if is_granted(&sent, 8) { (8, 7) } else { (7, 8) };
    assert!(is_granted(&sent, first) && !is_granted(&sent, second));
    let port = u16::from(first) * 100;
    let _ = solo.control(address(first, port), 1000, Body::RpcUnknown, Reason::Cancelled, 0);
    let sent = solo.drain();
    assert!(is_granted(&sent, second) && !is_granted(&sent, 9), "{sent:?}");
}

/// NEED_ACKs of a server for its responses that are answered with BUSY while `seconds` pass.
fn says_busy(solo: &mut Solo, client: std::net::SocketAddr, seconds: u64) {
    for _ in 0..seconds {
        for sent in solo.advance(1000) {
            if sent.is(&Body::NeedAck) {
                let _ = solo.control(
                    client,
                    sent.header.common.sender_id & !1,
                    Body::Busy,
                    Reason::None,
                    0,
                );
            }
        }
    }
}

#[test]
fn what_was_asked_for_and_has_arrived_meanwhile_is_not_sent_again() {
    let mut solo = Solo::new(Config::default());
    let client = address(9, 900);
    let rpc = solo.request(client, 1000, 100);
    solo.answer(rpc, 100_000);
    solo.advance(10);
    let first = Resend { offset: 0, length: 4 * FULL, priority: 7 };
    let _ = solo.control(client, 1000, Body::Resend(first), Reason::None, 0);
    // Released bytes are not there any more.
    let grant = Body::Grant(Grant { offset: 40_000, priority: 0 });
    let _ = solo.control(client, 1000, grant, Reason::None, 3 * FULL);
    let ranges: Vec<_> = solo.drain().iter().filter_map(Sent::range).collect();
    assert!(!ranges.is_empty() && ranges.iter().all(|range| range.0 >= 3 * FULL), "{ranges:?}");
}

#[test]
fn responses_that_wait_for_room_are_kept_while_their_client_takes_others() {
    let config = Config::default().with(|config| config.unscheduled.in_flight_max_bytes = 3_000);
    let mut solo = Solo::new(config);
    let client = address(9, 900);
    let ids: Vec<u64> = (0..12).map(|number| 1000 + 2 * number).collect();
    let rpcs: Vec<_> = ids.iter().map(|id| solo.request(client, *id, 100)).collect();
    for rpc in &rpcs {
        solo.engine.send_response(solo.now(), *rpc, 2_000, ResponseOptions::default()).unwrap();
    }
    // One after the other has room and is acknowledged; NEED_ACKs are not answered.
    let mut sent = solo.drain();
    for _ in 0..12 {
        let came =
            sent.iter().filter(|sent| sent.is_data()).map(|sent| sent.header.common.sender_id);
        let came: std::collections::BTreeSet<_> = came.map(|id| id & !1).collect();
        sent = solo.advance(1000);
        for id in came {
            let _ = solo.control(client, id, Body::Ack(Ack::default()), Reason::None, 0);
        }
        sent.extend(solo.drain());
    }
    solo.events();
    assert_eq!(solo.engine.stats().responses_abandoned, 0);
    assert!(rpcs.iter().all(|rpc| solo.ended(*rpc)));
}

#[test]
fn words_alone_keep_a_response_for_a_minute() {
    let mut solo = Solo::new(Config::default());
    let client = address(9, 900);
    let rpc = solo.request(client, 1000, 100);
    solo.answer(rpc, 30_000);
    says_busy(&mut solo, client, 55);
    assert!(!solo.ended(rpc), "it may be slow");
    says_busy(&mut solo, client, 10);
    assert!(solo.ended(rpc));
}

#[test]
fn an_unallocated_message_that_is_given_up_waits_for_nothing() {
    let mut solo = Solo::new(Config::default().with(|config| {
        config.limits.max_message_bytes = 65_536;
        config.limits.receive_memory_bytes = 131_072;
    }));
    let others = address(8, 800);
    let taken = [solo.request(others, 2, 60_000), solo.request(others, 4, 60_000)];
    let received = solo.data(address(9, 900), 6, 60_000, (0, 1000));
    assert_eq!(received, Received::Dropped(DropReason::NoMemory));
    solo.events();
    solo.advance(3_000);
    // There is room, but nobody has heard of its sender for long.
    solo.engine.consumed(solo.now(), taken[0], 60_000).unwrap();
    let sent = solo.drain();
    assert!(sent.iter().all(|sent| sent.resend().is_none() && sent.grant().is_none()), "{sent:?}");
    solo.engine.check();
}

#[test]
fn unvalidated_clients_have_no_share_of_the_oldest() {
    let mut solo = Solo::new(Config::default().with(|config| {
        config.grants.fifo_permille = 500;
        config.fixed.fifo_grant_bytes = 10_000;
    }));
    for host in [60, 61] {
        let mut header = solo.data_header(address(host, 900), 1000, 900_000, 0);
        if let Body::Data(data) = &mut header.body {
            data.echo = 0;
        }
        let _ = solo.header(address(host, 900), &header, FULL);
    }
    solo.drain();
    // The grants that an honest message of a megabyte brings to the two, who are older.
    let (mut start, mut granted, mut to_unvalidated) = (0, 40_000, 0);
    while start < 1_000_000 {
        let end = (start + FULL).min(granted);
        let _ = solo.data(address(8, 800), 2, 1_000_000, (start, end));
        start = end;
        for sent in solo.drain() {
            match sent.grant() {
                Some(upto) if sent.path.remote == address(8, 800) => granted = granted.max(upto),
                Some(_) => to_unvalidated += 1,
                None => {}
            }
        }
        assert!(start < granted || start == 1_000_000, "nothing is granted any more");
    }
    assert_eq!(to_unvalidated, 0);
}
