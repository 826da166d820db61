//! Receiving DATA: docs/spec/scenarios.md §R, R1 to R29, over UDP.

use std::net::SocketAddr;

use crate::harness::*;
use homa_core::{Config, DropReason, Event, PortOptions, Received, RequestOptions};
use homa_wire::{
    Ack, AckEntry, Body, Common, Cutoffs, Data, Header, OFFSET_IN_SEQUENCE, RESEND_ALL, Reason,
};

const ID: u64 = 1000;

fn solo() -> Solo {
    Solo::new(Config::default())
}

fn place(received: Received) -> (u32, std::ops::Range<u32>) {
    match received {
        Received::Place(placement) => (placement.offset, placement.packet),
        other => panic!("not placed: {other:?}"),
    }
}

// Scenario: R1
#[test]
fn a_first_request_packet_makes_an_rpc_that_is_handed_out() {
    let mut solo = solo();
    let from = address(9, 900);
    let received = solo.data(from, ID, 100, (0, 100));
    assert_eq!(place(received), (0, 56..156));
    let events = solo.events();
    assert!(
        matches!(events[0], Event::RequestStarted { length: 100, path, .. } if path.remote == from)
    );
    assert!(matches!(events[1], Event::RequestArrived { .. }));
    assert_eq!(solo.engine.stats().live_rpcs, 1);
}

#[test]
fn requests_of_two_clients_with_one_id_stay_apart_though_their_packets_alternate() {
    let mut solo = solo();
    let placed = [0, 1000, 2000].map(|start| {
        [address(9, 900), address(10, 900)].map(|from| {
            match solo.data(from, ID, 3000, (start, start + 1000)) {
                Received::Place(placement) => placement.rpc,
                other => panic!("not placed: {other:?}"),
            }
        })
    });
    let [one, other] = placed[0];
    assert_ne!(one, other);
    assert_eq!(placed, [[one, other]; 3]);
    let arrived = |event: &&Event| matches!(event, Event::RequestArrived { .. });
    assert_eq!(solo.events().iter().filter(arrived).count(), 2);
}

// Scenario: R2, R3
#[test]
fn a_request_to_a_port_that_does_not_serve_is_refused_with_its_reason() {
    let mut solo = solo();
    solo.engine.bind_port(5000, PortOptions::CLIENT).unwrap();
    for port in [5000, 5001] {
        let header = solo.data_header(address(9, 900), ID, 100, 0);
        let mut bytes = [0; 96];
        let written = header.encode(&mut bytes).unwrap();
        let meta = homa_core::RxMeta::new(path(port, address(9, 900)));
        let now = solo.now();
        let received =
            solo.engine.handle_packet(now, &meta, &bytes[..written], written as u32 + 100);
        assert_eq!(received, Received::Dropped(DropReason::NoSuchPort));
        let sent = solo.drain();
        assert_eq!(sent.len(), 1);
        assert_eq!(sent[0].unknown(), Some(Reason::NoService));
        assert_eq!((sent[0].path.remote, sent[0].path.local_port), (address(9, 900), port));
        assert_eq!(sent[0].header.common.sender_id, ID | 1);
    }
    assert_eq!(solo.engine.stats().live_rpcs, 0);
    assert_eq!(solo.engine.stats().live_peers, 0);
}

#[test]
fn control_packets_for_closed_ports_get_no_reply_unless_they_ask() {
    let mut solo = solo();
    solo.engine.close_port(solo.now(), PORT);
    let from = address(9, 900);
    for body in
        [Body::Busy, Body::RpcUnknown, Body::Ack(Ack::default()), Body::Cutoffs(Cutoffs::default())]
    {
        let received = solo.control(from, ID, body, Reason::None, 0);
        assert_eq!(received, Received::Dropped(DropReason::NoSuchPort));
    }
    assert!(solo.drain().is_empty());
    let _ = solo.control(from, ID, Body::NeedAck, Reason::None, 0);
    assert_eq!(solo.drain()[0].unknown(), Some(Reason::NoService));
}

// Scenario: R24
#[test]
fn a_response_nobody_can_take_is_told_so_at_once() {
    let mut solo = solo();
    let received = solo.data(address(9, 900), 2001, 100, (0, 100));
    assert_eq!(received, Received::Dropped(DropReason::UnknownRpc));
    assert_eq!(solo.drain()[0].unknown(), Some(Reason::Finished));
    solo.now_ns += 5 * MS;
    solo.engine.close_port(solo.now(), PORT);
    let received = solo.data(address(9, 900), 2001, 100, (0, 100));
    assert_eq!(received, Received::Dropped(DropReason::NoSuchPort));
    assert_eq!(solo.drain()[0].unknown(), Some(Reason::Finished));
}

#[test]
fn the_packets_of_a_message_that_is_not_taken_bring_one_answer_per_resend_interval() {
    let mut solo = solo();
    let interval = solo.engine.config().recovery.resend_interval.as_nanos() as u64;
    for round in 0..3 {
        for start in (0..10_000).step_by(1000) {
            let _ = solo.data(address(9, 900), 2001, 10_000, (start, start + 1000));
        }
        assert_eq!(solo.drain().len(), 1, "round {round}");
        solo.now_ns += interval;
    }
}

#[test]
fn replies_about_unknown_rpcs_are_limited() {
    let mut solo = solo();
    for id in 0..3000 {
        let _ = solo.data(address(9, 900), 2001 + 2 * id, 100, (0, 100));
    }
    assert!(solo.drain().len() <= 1000);
    assert!(solo.engine.stats().replies_suppressed >= 2000);
    solo.now_ns += MS;
    let _ = solo.data(address(9, 900), 2001, 100, (0, 100));
    assert_eq!(solo.drain().len(), 1);
}

// Scenario: R4, R5
#[test]
fn a_message_may_begin_with_any_of_its_packets() {
    let mut solo = solo();
    let from = address(9, 900);
    let received = solo.data(from, ID, 4000, (2000, 3000));
    assert_eq!(place(received), (2000, 56..1056));
    assert!(
        solo.events()
            .iter()
            .any(|event| matches!(event, Event::RequestStarted { length: 4000, .. }))
    );
    let _ = solo.data(from, ID, 4000, (0, 2000));
    assert!(solo.events().is_empty());
    let _ = solo.data(from, ID, 4000, (3000, 4000));
    assert!(matches!(solo.events()[..], [Event::RequestArrived { .. }]));
    assert_eq!(solo.engine.stats().requests_received, 1);
}

// Scenario: R6, R7
#[test]
fn a_message_too_long_is_refused_with_the_limit() {
    let mut solo = solo();
    for length in [1_000_001, 0x8000_0000, u32::MAX] {
        let received = solo.data(address(9, 900), ID, length, (0, 100));
        assert_eq!(received, Received::Dropped(DropReason::TooLong));
        let sent = solo.drain();
        assert_eq!(sent[0].unknown(), Some(Reason::TooLong));
        assert_eq!(sent[0].header.extension.unwrap().value, 1_000_000);
        solo.now_ns += 5 * MS;
    }
    assert_eq!(solo.engine.stats().live_rpcs, 0);
}

// Scenario: R8
#[test]
fn a_message_of_no_bytes_is_rejected() {
    let mut solo = solo();
    let received = solo.data(address(9, 900), ID, 0, (0, 100));
    assert_eq!(received, Received::Dropped(DropReason::Malformed));
    let (_, id, _) = solo.called(address(9, 900), 100);
    let received = solo.data(address(9, 900), id, 0, (0, 100));
    assert_eq!(received, Received::Dropped(DropReason::Malformed));
    assert_eq!(solo.engine.stats().live_rpcs, 1, "the call still waits");
}

/// Gaps are seen from outside by the RESENDs that the silence after the packets brings.
fn resends_after(ranges: &[(u32, u32)]) -> Vec<(u32, u32)> {
    let mut solo = solo();
    for range in ranges {
        let _ = solo.data(address(9, 900), ID, 10_000, *range);
    }
    solo.drain();
    solo.advance(6).iter().filter_map(Sent::resend).collect()
}

// Scenario: R9, R10, R11, R12, R13, R14, R17
#[test]
fn gaps_are_requested_exactly() {
    assert_eq!(resends_after(&[(0, 1000), (1000, 10_000)]), [], "in order: no gap, all there");
    assert_eq!(resends_after(&[(0, 1000), (1000, 2000)]), [(2000, 8000)], "the tail");
    let gap = (0, 1000);
    let top = (4000, 10_000);
    assert_eq!(resends_after(&[gap, top]), [(1000, 3000)]);
    assert_eq!(resends_after(&[gap, top, (1000, 2000)]), [(2000, 2000)], "from the front");
    assert_eq!(resends_after(&[gap, top, (3000, 4000)]), [(1000, 2000)], "from the back");
    assert_eq!(resends_after(&[gap, top, (2000, 3000)]), [(1000, 1000), (3000, 1000)], "split");
    assert_eq!(resends_after(&[gap, top, (1000, 4000)]), [], "filled");
    let several = [(0, 1000), (2000, 3000), (4000, 5000), (6000, 10_000), (5000, 5500)];
    assert_eq!(resends_after(&several), [(1000, 1000), (3000, 1000), (5500, 500)]);
}

// Scenario: R15
#[test]
fn data_already_held_is_a_duplicate() {
    let mut solo = solo();
    let from = address(9, 900);
    let _ = solo.data(from, ID, 10_000, (0, 3000));
    for range in [(0, 3000), (1000, 2000), (0, 1)] {
        let received = solo.data(from, ID, 10_000, range);
        assert_eq!(received, Received::Dropped(DropReason::Duplicate));
    }
    assert_eq!(solo.engine.stats().bytes_received, 3000);
}

// Scenario: R16
#[test]
fn data_that_overlaps_what_is_held_is_trimmed() {
    let mut solo = solo();
    let from = address(9, 900);
    let _ = solo.data(from, ID, 10_000, (1000, 2000));
    assert_eq!(place(solo.data(from, ID, 10_000, (0, 1500))), (0, 56..1056));
    assert_eq!(place(solo.data(from, ID, 10_000, (1500, 2500))), (2000, 556..1056));
    assert_eq!(solo.engine.stats().bytes_received, 2500);
}

// Scenario: R18, R19
#[test]
fn data_at_or_beyond_the_end_is_discarded_and_padding_is_cut() {
    let mut solo = solo();
    let from = address(9, 900);
    let _ = solo.data(from, ID, 3000, (0, 1000));
    for start in [3000, 3001, 0xFFFF_FFFE] {
        let header = solo.data_header(from, ID, 3000, start);
        let received = solo.header(from, &header, 100);
        assert_eq!(received, Received::Dropped(DropReason::BadRange), "{start}");
    }
    let header = solo.data_header(from, ID, 3000, 1000);
    let received = solo.header(from, &header, 0);
    assert_eq!(received, Received::Dropped(DropReason::BadRange), "no payload");
    let header = solo.data_header(from, ID, 3000, 2000);
    let received = solo.header(from, &header, 1400);
    assert_eq!(place(received), (2000, 56..1056), "padding after the end is allowed");
}

// Scenario: W4, W5
#[test]
fn the_offset_is_taken_from_the_sequence_if_the_segment_names_none() {
    let mut solo = solo();
    let from = address(9, 900);
    let mut header = solo.data_header(from, ID, 3000, 1424);
    let Body::Data(data) = &mut header.body else { unreachable!() };
    data.seg_offset = OFFSET_IN_SEQUENCE;
    assert_eq!(place(solo.header(from, &header, 100)).0, 1424);
    let mut header = solo.data_header(from, ID, 3000, 200);
    header.common.sequence = 0;
    assert_eq!(place(solo.header(from, &header, 100)).0, 200);
}

// Scenario: R20
#[test]
fn more_gaps_than_allowed_cost_the_packet_and_nothing_else() {
    let mut solo = Solo::new(Config::default().with(|config| config.fixed.gaps_max = 16));
    let from = address(9, 900);
    for gap in 0..16 {
        let start = 200 * gap + 100;
        let _ = place(solo.data(from, ID, 10_000, (start, start + 100)));
    }
    let received = solo.data(from, ID, 10_000, (5000, 6000));
    assert_eq!(received, Received::Dropped(DropReason::Limit));
    for gap in 0..16 {
        let start = 200 * gap;
        let _ = place(solo.data(from, ID, 10_000, (start, start + 100)));
    }
    let _ = place(solo.data(from, ID, 10_000, (3200, 10_000)));
    assert!(solo.events().iter().any(|event| matches!(event, Event::RequestArrived { .. })));
}

// Scenario: T6, B9, B10, R21
#[test]
fn without_memory_the_rpc_is_kept_its_data_dropped_and_asked_for_when_room_appears() {
    let config = Config::default().with(|config| {
        config.limits.max_message_bytes = 65_536;
        config.limits.receive_memory_bytes = 131_072;
    });
    let mut solo = Solo::new(config);
    let from = address(9, 900);
    let first = solo.request(from, 2, 60_000);
    let second = solo.request(from, 4, 60_000);
    let received = solo.data(from, 6, 60_000, (0, 1000));
    assert_eq!(received, Received::Dropped(DropReason::NoMemory));
    assert_eq!(solo.engine.stats().messages_unallocated, 1);
    assert_eq!(solo.engine.stats().live_rpcs, 3);
    assert!(solo.advance(500).iter().all(|sent| sent.resend().is_none()), "T6: it waits");
    let _ = solo.control(
        from,
        6,
        Body::Resend(homa_wire::Resend { offset: 0, length: 1, priority: 0 }),
        Reason::None,
        0,
    );
    assert!(solo.drain().iter().any(|sent| sent.is(&Body::Busy)));
    solo.engine.consumed(solo.now(), first, 60_000).unwrap();
    let sent = solo.drain();
    let asked: Vec<_> = sent.iter().filter_map(Sent::resend).collect();
    assert!(matches!(asked[..], [(0, 40_000..)]), "{asked:?}");
    let _ = place(solo.data(from, 6, 60_000, (0, 1000)));
    solo.engine.consumed(solo.now(), second, 60_000).unwrap();
}

// Scenario: B9
#[test]
fn the_shortest_unallocated_message_gets_memory_first() {
    let config = Config::default().with(|config| {
        config.limits.max_message_bytes = 65_536;
        config.limits.receive_memory_bytes = 131_072;
    });
    let mut solo = Solo::new(config);
    let from = address(9, 900);
    let first = solo.request(from, 2, 60_000);
    let _second = solo.request(from, 4, 60_000);
    for (id, length) in [(6, 50_000), (8, 20_000), (10, 60_000)] {
        let received = solo.data(from, id, length, (0, 1000));
        assert_eq!(received, Received::Dropped(DropReason::NoMemory));
    }
    solo.drain();
    solo.engine.consumed(solo.now(), first, 60_000).unwrap();
    let sent = solo.drain();
    let first_asked = sent.iter().find(|sent| sent.resend().is_some()).unwrap();
    assert_eq!(first_asked.header.common.sender_id, 9);
}

// Scenario: X4, R23
#[test]
fn a_response_turns_an_outgoing_call_into_an_incoming_one() {
    let mut solo = solo();
    let server = address(9, 900);
    let (rpc, id, _) = solo.called(server, 100);
    let _ = place(solo.data(server, id, 3000, (0, 1000)));
    let events = solo.events();
    assert!(events.contains(&Event::ResponseStarted {
        rpc,
        cookie: 77,
        length: 3000,
        framed: false,
        open: false,
    }));
    assert!(
        events.contains(&Event::Released { rpc, upto: 100 }),
        "the request is not needed any more"
    );
    let _ = place(solo.data(server, id, 3000, (1000, 3000)));
    assert!(is_answered(&solo.events(), rpc, 77));
    solo.engine.consumed(solo.now(), rpc, 3000).unwrap();
    assert_eq!(solo.events(), [Event::Ended { rpc }]);
}

// Scenario: R25, R29
#[test]
fn a_request_packet_for_an_rpc_in_service_or_answered_counts_only_for_its_ack() {
    let mut solo = solo();
    let from = address(9, 900);
    let answered = solo.request(from, 2, 100);
    solo.answer(answered, 100);
    let rpc = solo.request(from, 4, 100);
    let mut header = solo.data_header(from, 4, 100, 0);
    let Body::Data(data) = &mut header.body else { unreachable!() };
    data.ack = AckEntry { client_id: 2, server_port: PORT };
    assert_eq!(solo.header(from, &header, 100), Received::Dropped(DropReason::Duplicate));
    solo.drain();
    solo.events();
    assert!(!solo.ended(answered), "the answer to the request is to leave first");
    solo.engine.handle_timeout(solo.now(), true);
    solo.drain();
    solo.events();
    assert!(solo.ended(answered), "R29: the ack counts although the packet is dropped");
    assert!(!solo.ended(rpc));
    solo.answer(rpc, 100);
    assert_eq!(solo.data(from, 4, 100, (0, 100)), Received::Dropped(DropReason::Duplicate));
}

fn with_version(solo: &Solo, version: u16) -> Header {
    let mut header = solo.data_header(address(9, 900), ID, 10_000, 0);
    let Body::Data(data) = &mut header.body else { unreachable!() };
    *data = Data { cutoff_version: version, ..*data };
    header
}

#[test]
fn stale_cutoffs_bring_the_present_ones_at_most_once_per_millisecond() {
    let mut solo = solo();
    let from = address(9, 900);
    let stale = with_version(&solo, 0);
    for _ in 0..10 {
        let _ = solo.header(from, &stale, 1000);
    }
    let cutoffs = |sent: Vec<Sent>| -> Vec<u16> {
        sent.iter()
            .filter_map(|sent| match sent.header.body {
                Body::Cutoffs(cutoffs) => Some(cutoffs.version),
                _ => None,
            })
            .collect()
    };
    let versions = cutoffs(solo.drain());
    assert_eq!(versions.len(), 1);
    solo.now_ns += MS;
    let _ = solo.header(from, &stale, 1000);
    assert_eq!(cutoffs(solo.drain()), versions);
    solo.now_ns += MS;
    let current = with_version(&solo, versions[0]);
    let _ = solo.header(from, &current, 1000);
    assert_eq!(cutoffs(solo.drain()), []);
}

// Scenario: R32
#[test]
fn equal_ids_of_different_clients_are_different_rpcs() {
    let mut solo = solo();
    let sources = [address(9, 900), address(9, 901), address(8, 900)];
    let rpcs = sources.map(|from| solo.request(from, ID, 100));
    assert_eq!(solo.engine.stats().live_rpcs, 3);
    for (from, rpc) in sources.into_iter().zip(rpcs) {
        let sent = solo.answer(rpc, 100);
        assert_eq!(sent.iter().find(|sent| sent.is_data()).unwrap().path.remote, from);
    }
}

#[test]
fn a_stream_is_held_back_by_its_reader_and_goes_on_when_it_reads() {
    let config = Config::default().with(|config| config.fixed.unread_bytes_max = 65_536);
    let mut solo = Solo::new(config);
    let server = address(9, 900);
    let options = RequestOptions { streaming_response: true, ..RequestOptions::default() };
    let rpc = solo.call_with(server, 100, options).unwrap();
    let id = solo.drain()[0].header.common.sender_id | 1;
    let _ = solo.data(server, id, 1_000_000, (0, 1000));
    let progress = Event::BodyProgress { rpc, contiguous_upto: 1000, length: 1_000_000 };
    assert!(solo.events().contains(&progress));
    let mut sent_upto = 1000;
    let mut granted = 40_000;
    for _ in 0..1000 {
        granted = solo.drain().iter().filter_map(Sent::grant).max().unwrap_or(granted);
        if sent_upto == granted {
            break;
        }
        let end = (sent_upto + 1000).min(granted);
        let _ = solo.data(server, id, 1_000_000, (sent_upto, end));
        sent_upto = end;
    }
    assert_eq!(granted, 65_536, "no more than the reader may have unread");
    assert!(solo.engine.stats().receive_memory_bytes <= 131_072);
    assert!(solo.advance(5000).iter().all(|sent| sent.resend().is_none()), "it is our turn");
    assert_eq!(solo.failure(rpc), None, "a slow reader is no silence of the peer");
    solo.engine.consumed(solo.now(), rpc, 60_000).unwrap();
    let more = solo.drain().iter().filter_map(Sent::grant).max();
    assert_eq!(more, Some(125_536));
}

#[test]
fn a_grant_lost_after_the_reader_paused_for_long_is_recovered() {
    let config = Config::default().with(|config| config.fixed.unread_bytes_max = 65_536);
    let mut solo = Solo::new(config);
    let server = address(9, 900);
    let options = RequestOptions { streaming_response: true, ..RequestOptions::default() };
    let rpc = solo.call_with(server, 100, options).unwrap();
    let id = solo.drain()[0].header.common.sender_id | 1;
    for start in (0..65_536).step_by(1024) {
        let _ = solo.data(server, id, 1_000_000, (start, start + 1024));
        solo.drain();
    }
    solo.advance(5000);
    solo.engine.consumed(solo.now(), rpc, 60_000).unwrap();
    let sent = solo.advance(20);
    assert_eq!(solo.failure(rpc), None, "the pause was ours");
    assert!(sent.iter().any(|sent| sent.resend().is_some()), "{sent:?}");
    solo.advance(1100);
    assert_eq!(solo.failure(rpc), Some(homa_core::FailReason::Timeout));
}

#[test]
fn the_sender_of_a_long_message_is_told_how_much_has_arrived() {
    let mut solo = solo();
    let from = address(9, 900);
    let _ = solo.data(from, ID, 500_000, (0, 20_000));
    let sent = solo.drain();
    let grant = sent.iter().find(|sent| sent.grant().is_some()).unwrap();
    assert_eq!(grant.header.extension.unwrap().value, 20_000);
}

#[test]
fn a_sender_forgets_what_a_grant_says_has_arrived() {
    let mut solo = solo();
    let server = address(9, 900);
    let (rpc, id, _) = solo.called(server, 500_000);
    let grant = Body::Grant(homa_wire::Grant { offset: 60_000, priority: 3 });
    let _ = solo.control(server, id, grant, Reason::None, 30_000);
    assert_eq!(solo.events(), [Event::Released { rpc, upto: 30_000 }]);
    let sent = solo.drain();
    assert_eq!(sent.iter().filter_map(Sent::range).map(|range| range.1).max(), Some(60_000));
    let resend = Body::Resend(homa_wire::Resend { offset: 0, length: 60_000, priority: 7 });
    let _ = solo.control(server, id, resend, Reason::None, 0);
    let again = solo.drain();
    assert_eq!(again.iter().filter_map(Sent::range).map(|range| range.0).min(), Some(30_000));
    let grant = Body::Grant(homa_wire::Grant { offset: u32::MAX, priority: 200 });
    let _ = solo.control(server, id, grant, Reason::None, u32::MAX);
    assert_eq!(solo.events(), [Event::Released { rpc, upto: 60_000 }], "never more than was sent");
}

// Scenario: W9, W11
#[test]
fn a_common_header_alone_or_less_is_malformed() {
    let mut solo = solo();
    let mut bytes = [0; 96];
    let header = solo.data_header(address(9, 900), ID, 100, 0);
    let written = header.encode(&mut bytes).unwrap();
    for length in 0..written {
        let received = solo.raw(address(9, 900), &bytes[..length], length as u32);
        assert_eq!(received, Received::Dropped(DropReason::Malformed), "{length}");
    }
    for kind in [0x00, 0x0F, 0x19, 0xFF] {
        bytes[11] = kind;
        let received = solo.raw(address(9, 900), &bytes[..written], 200);
        assert_eq!(received, Received::Dropped(DropReason::Malformed), "{kind:x}");
    }
    assert!(solo.drain().is_empty());
    let foreign =
        Header { common: Common::control(900, PORT, ID), body: Body::NeedAck, extension: None };
    let received = solo.header(address(9, 900), &foreign, 0);
    assert_eq!(received, Received::Dropped(DropReason::Foreign), "over UDP only our own profile");
    assert!(solo.drain().is_empty());
}

fn v6(remote: Remote) -> Remote {
    Remote { address: SocketAddr::from(([0xfd00, 0, 0, 0, 0, 0, 0, 1], 7)), ..remote }
}

// Scenario: R3
#[test]
fn every_packet_of_a_batch_for_an_unknown_port_is_refused_over_both_families() {
    let mut host = Host::new(exact());
    host.engine.close_port(host.now(), PORT);
    let remote = host.remote(1, 1);
    for remote in [remote, v6(remote)] {
        for id in [2, 4, 6] {
            let received = host.receive(&remote, remote.data(id, 0..FULL, 90_000, 40_000));
            assert_eq!(received, Received::Dropped(DropReason::NoSuchPort));
        }
        let sent = host.sent();
        assert_eq!(sent.iter().map(|sent| sent.id()).collect::<Vec<_>>(), [3, 5, 7]);
        for answer in sent {
            assert_eq!(answer.header.body, Body::RpcUnknown);
            assert_eq!(answer.header.reason(), Reason::NoService);
            assert_eq!(answer.path.remote, remote.address);
        }
    }
    let stats = host.stats();
    assert_eq!((stats.live_rpcs, stats.live_peers, stats.receive_memory_bytes), (0, 0, 0));
}

// Scenario: R21
#[test]
fn packets_without_memory_are_counted_and_their_rpc_is_kept() {
    let config = exact().with(|config| {
        config.limits.max_message_bytes = 65_536;
        config.limits.receive_memory_bytes = 131_072;
        config.unscheduled.bytes = 60_000;
    });
    let mut host = Host::new(config);
    let remote = host.remote(1, 1);
    for id in [2, 4] {
        host.take(&remote, remote.data(id, 0..60_000, 60_000, 60_000));
    }
    for packet in 0..3 {
        let range = packet * FULL..(packet + 1) * FULL;
        let received = host.receive(&remote, remote.data(6, range, 60_000, 60_000));
        assert_eq!(received, Received::Dropped(DropReason::NoMemory));
    }
    let stats = host.stats();
    assert_eq!((stats.dropped_no_memory, stats.messages_unallocated), (3, 1));
    assert_eq!(stats.live_rpcs, 3);
}

// Scenario: R23
#[test]
fn a_response_takes_its_length_and_its_unscheduled_part_from_its_first_packet() {
    let mut host = Host::new(exact());
    let remote = host.remote(1, 1);
    let rpc = host.call(&remote, 100);
    let id = host.sent()[0].id() | 1;
    // Offset 2,832 comes first; 40,000 bytes come without a grant.
    host.take(&remote, remote.data(id, 2 * FULL..3 * FULL, 900_000, 40_000));
    let started =
        Event::ResponseStarted { rpc, cookie: 0, length: 900_000, framed: false, open: false };
    assert!(host.events().contains(&started));
    assert_eq!(grants(&host.sent()), [(id & !1, FULL + 200_000, 0)]);
    assert_eq!(host.stats().incoming_bytes, 200_000);
    // What it announces later changes nothing.
    host.take(&remote, remote.data(id, 0..FULL, 900_000, 900_000));
    assert_eq!(grants(&host.sent()), [(id & !1, 2 * FULL + 200_000, 0)]);
}

// Scenario: R30
#[test]
fn control_packets_of_a_batch_are_answered_before_its_long_messages() {
    let mut host = Host::new(exact());
    let (a, b) = (host.remote(1, 1), host.remote(2, 1));
    host.call(&b, 100_000);
    let id = host.sent()[0].id();
    // A batch: long DATA, then a GRANT and a NEED_ACK about a request that is being received.
    host.take(&a, a.data(2, 0..FULL, 900_000, FULL));
    host.take(&b, b.grant(id | 1, 60_000, 2));
    host.take(&a, a.resend(2, 0, RESEND_ALL));
    let sent = host.sent();
    let kinds: Vec<_> = sent.iter().map(|sent| sent.header.packet_type()).collect();
    assert_eq!(kinds[..2], [homa_wire::PacketType::Busy, homa_wire::PacketType::Grant]);
    assert!(kinds[2..].iter().all(|kind| *kind == homa_wire::PacketType::Data));
    assert_eq!(data_bytes(&sent), 20_000, "the GRANT of the same batch counts");
}

// Scenario: R31
#[test]
fn interleaved_messages_of_a_batch_get_one_grant_each_for_all_their_packets() {
    let mut host = Host::new(exact().with(|config| config.grants.window_bytes = 50_000));
    let (a, b) = (host.remote(1, 1), host.remote(2, 1));
    for packet in 0..10 {
        let range = packet * FULL..(packet + 1) * FULL;
        for (remote, id) in [(&a, 2), (&b, 4)] {
            match host.receive(remote, remote.data(id, range.clone(), 900_000, FULL)) {
                Received::Place(placement) => assert_eq!(placement.offset, range.start),
                other => panic!("{other:?}"),
            }
        }
    }
    let upto = 10 * FULL + 50_000;
    let given: Vec<_> = grants(&host.sent()).iter().map(|grant| (grant.0, grant.1)).collect();
    assert_eq!(given, [(2, upto), (4, upto)]);
}

// Scenario: R33
#[test]
fn packets_that_the_application_has_not_seen_cause_no_second_event() {
    let mut host = Host::new(exact());
    let remote = host.remote(1, 1);
    let options = RequestOptions { streaming_response: true, ..RequestOptions::default() };
    let rpc = host.call_with(&remote, 100, options);
    let id = host.sent()[0].id() | 1;
    for packet in 0..10 {
        let range = packet * FULL..(packet + 1) * FULL;
        host.take(&remote, remote.data(id, range, 40_000, 40_000));
    }
    let events = host.events();
    let progress: Vec<_> =
        events.iter().filter(|event| matches!(event, Event::BodyProgress { .. })).collect();
    let upto = |contiguous_upto| Event::BodyProgress { rpc, contiguous_upto, length: 40_000 };
    assert_eq!(progress, [&upto(10 * FULL)]);
    let started = |event: &&Event| matches!(event, Event::ResponseStarted { .. });
    assert_eq!(events.iter().filter(started).count(), 1);
    assert_eq!(host.events(), [], "nothing is told twice");
    host.take(&remote, remote.data(id, 10 * FULL..11 * FULL, 40_000, 40_000));
    assert_eq!(host.events(), [upto(11 * FULL)]);
}

// Scenario: R2
#[test]
fn a_port_that_only_calls_refuses_requests_and_takes_responses() {
    let mut host = Host::new(exact());
    host.engine.close_port(host.now(), PORT);
    host.engine.bind_port(PORT, PortOptions::CLIENT).unwrap();
    let remote = host.remote(1, 1);
    let received = host.receive(&remote, remote.data(2, 0..10, 10, 10));
    assert_eq!(received, Received::Dropped(DropReason::NoSuchPort));
    assert_eq!(host.sent()[0].header.reason(), Reason::NoService);
    let rpc = host.call(&remote, 10);
    let id = host.sent()[0].id() | 1;
    host.take(&remote, remote.data(id, 0..10, 10, 10));
    assert!(is_answered(&host.events(), rpc, 0));
}
