//! Acknowledgements: docs/spec/scenarios.md §A, A1 to A15, without those about at-most-once.

use std::time::Duration;

use crate::harness::*;
use homa_core::{Config, Event};
use homa_wire::{Ack, AckEntry, Body, Data, Reason};

fn solo() -> Solo {
    Solo::new(Config::default())
}

/// Where acknowledgements are always asked for soon.
fn impatient() -> Solo {
    Solo::new(
        Config::default()
            .with(|config| config.fixed.request_ack_interval_max = Duration::from_millis(2)),
    )
}

fn ack(sent: &Sent) -> Option<Ack> {
    match sent.header.body {
        Body::Ack(ack) => Some(ack),
        _ => None,
    }
}

/// The acknowledgement that the first DATA packet carries.
fn riding(sent: &[Sent]) -> AckEntry {
    sent.iter().find_map(Sent::data).unwrap().ack
}

/// Calls and gets complete answers; returns the ids in the server's form.
fn answered(solo: &mut Solo, server: std::net::SocketAddr, count: usize) -> Vec<u64> {
    let calls: Vec<_> = (0..count).map(|_| solo.called(server, 100)).collect();
    calls
        .into_iter()
        .map(|(rpc, id, _)| {
            let _ = solo.data(server, id, 100, (0, 100));
            solo.events();
            solo.engine.consumed(solo.now(), rpc, 100).unwrap();
            solo.events();
            id
        })
        .collect()
}

// Scenario: A1
#[test]
fn a_complete_response_is_acknowledged_by_the_next_packet_to_the_server() {
    let mut solo = solo();
    let server = address(9, 900);
    let ids = answered(&mut solo, server, 1);
    assert!(solo.drain().iter().all(|sent| !sent.is_ack()), "it waits for a packet to ride on");
    let (_, _, sent) = solo.called(server, 100);
    let expected = AckEntry { client_id: ids[0] & !1, server_port: 900 };
    assert_eq!(riding(&sent), expected);
    let (_, _, sent) = solo.called(server, 100);
    assert_eq!(riding(&sent), AckEntry::NONE, "once");
}

// Scenario: A3, S16
#[test]
fn the_newest_acknowledgement_rides_first_and_one_per_packet() {
    let mut solo = solo();
    let server = address(9, 900);
    let rpcs: Vec<_> = (0..3).map(|_| solo.called(server, 100)).collect();
    for (_, id, _) in &rpcs {
        let _ = solo.data(server, *id, 100, (0, 100));
    }
    let carried: Vec<u64> = (0..3).map(|_| riding(&solo.called(server, 100).2).client_id).collect();
    let expected: Vec<u64> = rpcs.iter().rev().map(|(_, id, _)| id & !1).collect();
    assert_eq!(carried, expected);
}

#[test]
fn acknowledgements_that_find_no_packet_get_one_of_their_own() {
    let mut solo = solo();
    let server = address(9, 900);
    let rpcs: Vec<_> = (0..90).map(|_| solo.called(server, 100)).collect();
    for (_, id, _) in &rpcs {
        let _ = solo.data(server, *id, 100, (0, 100));
    }
    let sent = solo.drain();
    let acks: Vec<Ack> = sent.iter().filter_map(ack).collect();
    assert!(!acks.is_empty());
    assert!(acks.iter().take(1).all(|ack| ack.count == 5), "A2: five entries besides its own");
    let told: usize = acks.iter().map(|ack| 1 + usize::from(ack.count)).sum();
    assert!(told >= 90 - 64, "at most 64 wait: {told}");
}

// Scenario: A5, A6
#[test]
fn need_ack_for_a_complete_or_unknown_response_is_answered_with_an_ack() {
    let mut solo = solo();
    let server = address(9, 900);
    let ids = answered(&mut solo, server, 3);
    let _ = solo.control(server, ids[0], Body::NeedAck, Reason::None, 0);
    let sent = solo.drain();
    let acks: Vec<Ack> = sent.iter().filter_map(ack).collect();
    assert_eq!(acks.len(), 1);
    assert_eq!(acks[0].count, 3, "A5: those that waited ride along");
    assert_eq!(sent[0].header.common.sender_id, ids[0] & !1);
    let _ = solo.control(address(66, 6), 77_777, Body::NeedAck, Reason::None, 0);
    let sent = solo.drain();
    assert_eq!(ack(&sent[0]).map(|ack| ack.count), Some(0), "A6");
    assert_eq!(sent[0].header.common.sender_id, 77_776);
}

// Scenario: A7, A8
#[test]
fn need_ack_for_what_is_not_complete_brings_resends() {
    let mut solo = solo();
    let server = address(9, 900);
    let (_, id, _) = solo.called(server, 100);
    let _ = solo.control(server, id, Body::NeedAck, Reason::None, 0);
    let sent = solo.drain();
    assert_eq!(sent[0].resend(), Some((0, homa_wire::RESEND_ALL)), "A8");
    let _ = solo.data(server, id, 5000, (1000, 2000));
    solo.drain();
    for (later_ns, asked) in [(0, &[][..]), (5 * MS, &[(0, 1000), (2000, 3000)])] {
        solo.now_ns += later_ns;
        let _ = solo.control(server, id, Body::NeedAck, Reason::None, 0);
        let resends: Vec<_> = solo.drain().iter().filter_map(Sent::resend).collect();
        assert_eq!(resends, asked, "A7: and not what was just asked for");
    }
}

// Scenario: A4, A15
#[test]
fn a_response_without_ack_is_asked_about_with_back_off_and_an_end() {
    let mut solo = impatient();
    let rpc = solo.request(address(9, 900), 1000, 100);
    solo.answer(rpc, 100);
    let begin = solo.now_ns;
    let sent = solo.advance(10_000);
    let asked: Vec<u64> =
        sent.iter().filter(|sent| sent.is(&Body::NeedAck)).map(|sent| sent.at_ns - begin).collect();
    assert_eq!(asked[0], 2 * MS, "A4: not before the interval");
    assert!((15..=17).contains(&asked.len()), "doubling from 2 ms to 625 ms: {asked:?}");
    assert!(asked.iter().all(|at| *at < 5000 * MS), "A15: it ends with responses.silence");
    assert!(solo.ended(rpc));
    assert!(solo.log.contains(&Event::Released { rpc, upto: 100 }));
    assert_eq!(solo.engine.stats().responses_abandoned, 1);
    assert_eq!(solo.engine.poll_timeout(), None);
    let told: Vec<Reason> = sent.iter().filter_map(Sent::unknown).collect();
    assert_eq!(told, [Reason::Finished], "a client that still waits is told");
}

#[test]
fn a_client_behind_a_slow_path_is_asked_for_its_acknowledgement_later() {
    let mut solo = impatient();
    let from = address(9, 900);
    let _ = solo.data(from, 1000, 5000, (0, 1000));
    let asked = solo.advance(34).iter().filter(|sent| sent.resend().is_some()).count();
    assert_eq!(asked, 3, "after 5, 10 and 20 ms");
    let mut copy = solo.data_header(from, 1000, 5000, 1000);
    let Body::Data(data) = &mut copy.body else { unreachable!() };
    data.flags = Data::RETRANSMISSION;
    let _ = solo.header(from, &copy, 1000);
    let _ = solo.data(from, 1000, 5000, (2000, 5000));
    let rpc = match solo.events()[..] {
        [.., Event::RequestArrived { rpc, .. }] => rpc,
        ref other => panic!("{other:?}"),
    };
    solo.answer(rpc, 100);
    let begin = solo.now_ns;
    let sent = solo.advance(100);
    let asked = sent.iter().find(|sent| sent.is(&Body::NeedAck)).expect("asked").at_ns - begin;
    assert!((27 * MS..=30 * MS).contains(&asked), "twice the 14 ms that the copy took: {asked}");
}

/// Time after which the client of `rpc`, answered now, is asked for its acknowledgement.
fn asked_after(solo: &mut Solo, rpc: homa_core::RpcKey) -> u64 {
    solo.answer(rpc, 100);
    let begin = solo.now_ns;
    for _ in 0..400 {
        if let Some(asked) = solo.advance(1).iter().find(|sent| sent.is(&Body::NeedAck)) {
            return asked.at_ns - begin;
        }
    }
    panic!("nobody was asked");
}

// Scenario: A4
#[test]
fn while_little_is_kept_acknowledgements_have_time() {
    let mut solo = solo();
    let rpc = solo.request(address(9, 900), 1000, 100);
    assert_eq!(asked_after(&mut solo, rpc), 250 * MS);
}

#[test]
fn the_more_is_kept_the_sooner_acknowledgements_are_asked_for() {
    let kept = |config: Config, count: u64| {
        let mut solo = Solo::new(config);
        let from = address(9, 900);
        for id in 1..count {
            let rpc = solo.request(from, 10 * id, 100);
            solo.answer(rpc, 100);
        }
        let rpc = solo.request(from, 10 * count, 100);
        asked_after(&mut solo, rpc)
    };
    let bytes = Config::default().with(|config| config.responses.unacknowledged_bytes = 10_000);
    let half = kept(bytes.clone(), 26);
    assert!((120 * MS..130 * MS).contains(&half), "a quarter of what may be kept: {half}");
    assert_eq!(kept(bytes, 51), 2 * MS, "half of it");
    let rpcs = Config::default().with(|config| config.limits.max_rpcs = 80);
    assert_eq!(kept(rpcs, 30), 2 * MS, "half of the RPCs that may be served");
}

#[test]
fn a_client_that_was_told_to_wait_is_asked_soon_since_it_does_not_ask_itself() {
    let mut solo = solo();
    let from = address(9, 900);
    let told = solo.request(from, 1000, 100);
    let all = homa_wire::Resend { offset: 0, length: homa_wire::RESEND_ALL, priority: 7 };
    let _ = solo.control(from, 1000, Body::Resend(all), Reason::None, 0);
    assert!(solo.drain().iter().any(|sent| sent.is(&Body::Busy)));
    assert_eq!(asked_after(&mut solo, told), 2 * MS);
    // Told after the response left.
    let later = solo.request(from, 2000, 100);
    solo.answer(later, 100);
    let _ = solo.control(from, 2000, Body::NeedAck, Reason::Probe, 0);
    let sent = solo.advance(2);
    let about = |sent: &&Sent| sent.is(&Body::NeedAck) && sent.header.common.local_id() == 2000;
    assert_eq!(sent.iter().filter(about).count(), 1, "{sent:?}");
}

#[test]
fn a_server_that_waits_for_acknowledgements_alone_asks_for_all_at_once() {
    let mut solo = solo();
    let from = address(9, 900);
    for id in [10, 20] {
        let rpc = solo.request(from, id, 100);
        solo.answer(rpc, 100);
    }
    solo.advance(10);
    solo.engine.flush_acknowledgements(solo.now());
    let asks = |sent: &[Sent]| sent.iter().filter(|sent| sent.is(&Body::NeedAck)).count();
    assert_eq!(asks(&solo.advance(2)), 2);
    let rpc = solo.request(from, 30, 100);
    solo.answer(rpc, 100);
    solo.engine.flush_acknowledgements(solo.now());
    assert!(asks(&solo.advance(2)) >= 1, "and soon for later ones");
}

// Scenario: A9, A12, A13
#[test]
fn an_ack_ends_the_rpcs_it_names() {
    let mut solo = solo();
    let from = address(9, 900);
    let rpcs: Vec<_> = (1..=7).map(|id| solo.request(from, id * 10, 100)).collect();
    for rpc in &rpcs {
        solo.answer(*rpc, 100);
    }
    let entries = [20, 30, 40, 50, 60].map(|client_id| AckEntry { client_id, server_port: PORT });
    let _ = solo.control(from, 10, Body::Ack(Ack { count: 2, entries }), Reason::None, 0);
    solo.events();
    let ended: Vec<bool> = rpcs.iter().map(|rpc| solo.ended(*rpc)).collect();
    assert_eq!(ended, [true, true, true, false, false, false, false], "A9");
    let _ = solo.control(from, 999_998, Body::Ack(Ack { count: 20, entries }), Reason::None, 0);
    solo.events();
    let ended = rpcs.iter().filter(|rpc| solo.ended(**rpc)).count();
    assert_eq!(ended, 6, "A12, A13: five entries, whatever the header names");
}

// Scenario: A10, A11
#[test]
fn entries_for_other_ports_and_unknown_rpcs_are_right_or_skipped() {
    let mut solo = solo();
    let from = address(9, 900);
    let rpc = solo.request(from, 10, 100);
    solo.answer(rpc, 100);
    let entry = |client_id, server_port| AckEntry { client_id, server_port };
    let mut entries = [AckEntry::NONE; 5];
    entries[..4].copy_from_slice(&[entry(10, 1), entry(12, PORT), entry(11, PORT), entry(0, PORT)]);
    let _ = solo.control(from, 998, Body::Ack(Ack { count: 4, entries }), Reason::None, 0);
    solo.events();
    assert!(!solo.ended(rpc), "A11: wrong port, unknown, odd, zero");
    solo.engine.bind_port(5000, homa_core::PortOptions::SERVE).unwrap();
    entries[0] = entry(10, PORT);
    let header = homa_wire::Header {
        common: homa_wire::Common::control(900, 5000, 998).with_native_profile(THEIRS),
        body: Body::Ack(Ack { count: 1, entries }),
        extension: None,
    };
    let mut bytes = [0; 96];
    let written = header.encode(&mut bytes).unwrap();
    let meta = homa_core::RxMeta::new(path(5000, from));
    let now = solo.now();
    let _ = solo.engine.handle_packet(now, &meta, &bytes[..written], written as u32);
    solo.events();
    assert!(solo.ended(rpc), "A10: an entry for another port of ours");
}

#[test]
fn an_ack_before_the_answer_has_no_effect() {
    let mut solo = solo();
    let from = address(9, 900);
    let rpc = solo.request(from, 10, 100);
    let _ = solo.control(from, 10, Body::Ack(Ack::default()), Reason::None, 0);
    solo.events();
    assert!(!solo.ended(rpc));
    assert_eq!(solo.answer(rpc, 100).iter().filter(|sent| sent.is_data()).count(), 1);
}

#[test]
fn a_lost_ack_is_made_up_for() {
    let mut net = Net::new(&Config::default(), 2);
    let mut left = 3;
    net.lose = Box::new(move |from, sent| {
        let lose = from == 0 && sent.is_ack() && left > 0;
        left -= u32::from(lose);
        lose
    });
    let rpc = net.call(0, 1, 100);
    net.run(3000);
    assert!(net.answered(0, rpc));
    net.assert_quiet();
}

// Scenario: A15
#[test]
fn a_client_that_vanished_is_forgotten() {
    let mut net = Net::new(&Config::default(), 2);
    net.hosts[1].service = Service::Reply(100_000);
    net.call(0, 1, 100);
    net.run(0);
    net.lose = Box::new(|from, _| from == 0);
    net.run(7000);
    assert_eq!(net.hosts[1].engine.stats().live_rpcs, 0);
    assert_eq!(net.hosts[1].engine.poll_timeout(), None);
}

#[test]
fn a_response_to_a_client_that_never_proves_its_address_is_given_up() {
    let mut solo = solo();
    let from = address(9, 900);
    let mut header = solo.data_header(from, 1000, 100, 0);
    let Body::Data(data) = &mut header.body else { unreachable!() };
    data.echo = 0;
    let _ = solo.header(from, &header, 100);
    let rpc = match solo.events()[..] {
        [_, Event::RequestArrived { rpc, .. }] => rpc,
        ref other => panic!("{other:?}"),
    };
    let received = 156;
    let sent = solo.answer(rpc, 500_000);
    let sent_later = solo.advance(20_000);
    let all = sent.iter().chain(&sent_later);
    let data: u32 = all.clone().filter(|sent| sent.is_data()).map(|sent| sent.wire_bytes).sum();
    assert!(data <= 3 * received, "no reflection: {data}");
    assert!(solo.ended(rpc), "it does not wait for ever");
    assert_eq!(solo.engine.poll_timeout(), None, "nobody is asked any more");
    let packets = all.count();
    assert!(packets < 150, "{packets} packets to an address that may be a victim's");
}

#[test]
fn a_new_incarnation_of_a_client_has_to_prove_its_address_again() {
    let mut solo = solo();
    let from = address(9, 900);
    let validated = solo.request(from, 10, 100);
    let sent = solo.answer(validated, 30_000);
    assert!(sent.iter().filter(|sent| sent.is_data()).count() > 20);
    let _ = solo.control(from, 10, Body::Ack(Ack::default()), Reason::None, 0);
    let mut header = solo.data_header(from, 20, 100, 0);
    header.common.incarnation = THEIRS ^ 1;
    let Body::Data(data) = &mut header.body else { unreachable!() };
    data.echo = 0;
    solo.events();
    let _ = solo.header(from, &header, 100);
    assert_eq!(solo.events(), [], "or anybody could end what the former incarnation is owed");
    let sent = solo.drain();
    assert_eq!((sent.len(), sent[0].unknown()), (1, Some(Reason::NeverSeen)));
    let told = sent[0].header;
    assert_eq!(told.extension.unwrap().echo, THEIRS ^ 1, "the answer is for the new incarnation");
    let Body::Data(data) = &mut header.body else { unreachable!() };
    data.echo = told.common.incarnation;
    let _ = solo.header(from, &header, 100);
    let arrived = solo.events();
    assert!(matches!(arrived[..], [.., Event::RequestArrived { .. }]), "{arrived:?}");
}

#[test]
fn a_client_that_proves_its_address_gets_a_long_response() {
    let mut net = Net::new(&Config::default(), 2);
    net.hosts[1].service = Service::Reply(500_000);
    let rpc = net.call(0, 1, 100);
    net.run(100);
    assert!(net.answered(0, rpc));
}

/// Acknowledgements that wait for one peer; Linux keeps five.
const KEPT: usize = 64;

/// Answers of `server` come to `count` calls; the ids in the client's form.
/// So many calls whose responses arrived and were not read; the ids in the client's form.
fn arrived(solo: &mut Solo, server: std::net::SocketAddr, count: usize) -> Vec<u64> {
    let calls: Vec<_> = (0..count).map(|_| solo.called(server, 100).1).collect();
    for id in &calls {
        let _ = solo.data(server, *id, 100, (0, 100));
    }
    solo.events();
    calls.into_iter().map(|id| id & !1).collect()
}

fn acks(sent: &[Sent]) -> Vec<(u64, Ack)> {
    let ack = |sent: &Sent| match sent.header.body {
        Body::Ack(ack) => Some((sent.header.common.sender_id, ack)),
        _ => None,
    };
    sent.iter().filter_map(ack).collect()
}

// Scenario: A1, A2
#[test]
fn the_acknowledgement_that_finds_no_place_leaves_with_the_five_newest() {
    let mut solo = Solo::new(Config::default());
    let server = address(9, 900);
    let ids = arrived(&mut solo, server, KEPT + 1);
    let sent = acks(&solo.drain());
    assert_eq!(sent.len(), 1, "those before it wait for a packet to ride on");
    let (header, ack) = sent[0];
    assert_eq!(header, ids[KEPT], "the one that found no place is in the header");
    let told: Vec<u64> = ack.entries().iter().map(|entry| entry.client_id).collect();
    let newest: Vec<u64> = ids[KEPT - 5..KEPT].iter().rev().copied().collect();
    assert_eq!(told, newest, "and five more, the newest first");
    assert!(ack.entries().iter().all(|entry| entry.server_port == 900));
}

// Scenario: A4, A15
#[test]
fn need_ack_begins_after_its_interval_and_its_packets_are_few_for_a_client_that_is_gone() {
    let interval = Duration::from_millis(2);
    let mut solo = Solo::new(
        Config::default().with(|config| config.fixed.request_ack_interval_max = interval),
    );
    let rpc = solo.request(address(9, 900), 1000, 100);
    solo.answer(rpc, 100);
    let asks = |sent: &[Sent]| sent.iter().filter(|sent| sent.is(&Body::NeedAck)).count();
    assert_eq!(asks(&solo.advance_ns(2 * MS - 1)), 0);
    assert_eq!(asks(&solo.advance_ns(1)), 1);
    let sent = solo.advance(100_000);
    assert!(asks(&sent) < 20, "Linux would have asked every millisecond: {}", asks(&sent));
    assert!(solo.ended(rpc));
    assert_eq!(solo.engine.stats().live_rpcs, 0);
}
