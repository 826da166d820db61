//! Messages whose length grows, and what senders may say of it.

use crate::harness::*;
use homa_core::{
    Config, DropReason, Event, FailReason, Received, RequestOptions, ResponseOptions, RpcError,
    RpcKey,
};
use homa_wire::{Body, Data, Packets, Reason};

const OPEN: RequestOptions = RequestOptions {
    deadline: None,
    streaming_body: false,
    streaming_response: false,
    priority_hint: None,
    framed: false,
    open: true,
};

fn solo() -> Solo {
    Solo::new(Config::default().with(|config| config.limits.max_message_bytes = 1_000_000))
}

/// DATA of an open message of `length` bytes by now, which announces as much without a grant as it
/// may.
fn data(solo: &mut Solo, id: u64, length: u32, range: (u32, u32)) -> Received {
    data_with(solo, id, length, range, Data::OPEN)
}

fn data_with(solo: &mut Solo, id: u64, length: u32, range: (u32, u32), flags: u8) -> Received {
    let from = address(9, 900);
    let mut header = solo.data_header(from, id, length, range.0);
    if let Body::Data(data) = &mut header.body {
        data.flags = flags;
    }
    solo.header(from, &header, range.1 - range.0)
}

fn placed(received: Received) -> (u32, u32, u32) {
    let Received::Place(placement) = received else { panic!("{received:?}") };
    let bytes = placement.packet.end - placement.packet.start;
    (placement.offset, placement.offset + bytes, placement.message_length)
}

fn arrived(events: &[Event]) -> Vec<u32> {
    let arrived = events.iter().filter_map(|event| match event {
        Event::RequestArrived { length, .. } | Event::ResponseArrived { length, .. } => {
            Some(*length)
        }
        _ => None,
    });
    arrived.collect()
}

/// Length, offset, end and flags of all DATA packets.
fn sent_data(sent: &[Sent]) -> Vec<(u32, u32, u32)> {
    let data = |sent: &Sent| {
        let data = sent.data()?;
        assert!(data.is_open(&sent.header.common), "{sent:?}");
        Some((data.message_length, sent.payload.start, sent.payload.end))
    };
    sent.iter().filter_map(data).collect()
}

#[test]
fn the_last_byte_that_is_announced_leaves_when_the_message_is_finished() {
    let mut solo = solo();
    let server = address(9, 99);
    let rpc = solo.call_with(server, 11, OPEN).unwrap();
    assert_eq!(sent_data(&solo.drain()), [(11, 0, 10)]);
    let now = solo.now();
    solo.engine.supply(now, rpc, 10).unwrap();
    assert!(solo.drain().is_empty(), "nothing is new");
    solo.engine.supply(now, rpc, 30).unwrap();
    assert_eq!(sent_data(&solo.drain()), [(31, 10, 30)]);
    solo.engine.supply(now, rpc, 2_000).unwrap();
    assert_eq!(sent_data(&solo.drain()), [(2_001, 30, 30 + FULL), (2_001, 30 + FULL, 2_000)]);
    solo.engine.finish(now, rpc).unwrap();
    assert_eq!(sent_data(&solo.drain()), [(2_001, 2_000, 2_001)]);
    assert_eq!(solo.engine.finish(now, rpc), Err(RpcError::OutOfRange));
    assert_eq!(solo.engine.supply(now, rpc, 2_002), Err(RpcError::OutOfRange));
}

#[test]
fn what_is_finished_at_once_leaves_in_one_piece() {
    let mut solo = solo();
    let rpc = solo.call_with(address(9, 99), 1, OPEN).unwrap();
    let now = solo.now();
    assert!(solo.drain().is_empty(), "there is nothing to send yet");
    solo.engine.supply(now, rpc, 10).unwrap();
    solo.engine.finish(now, rpc).unwrap();
    assert_eq!(sent_data(&solo.drain()), [(11, 0, 11)]);
}

#[test]
fn only_an_open_message_is_finished() {
    let mut solo = solo();
    let now = solo.now();
    let plain = solo.call(address(9, 99), 100);
    assert_eq!(solo.engine.finish(now, plain), Err(RpcError::OutOfRange));
    let asked = solo.request(address(9, 900), 10, 100);
    assert_eq!(solo.engine.finish(now, asked), Err(RpcError::OutOfRange), "nothing is sent");
    let options = ResponseOptions { open: true, ..ResponseOptions::default() };
    solo.engine.send_response(now, asked, 1, options).unwrap();
    solo.engine.finish(now, asked).unwrap();
    assert_eq!(sent_data(&solo.drain()).last(), Some(&(1, 0, 1)));
}

#[test]
fn beyond_the_unscheduled_part_one_byte_announces_growth_and_the_rest_waits_for_a_grant() {
    let mut solo = solo();
    let server = address(9, 99);
    let rpc = solo.call_with(server, 100_001, OPEN).unwrap();
    let sent = sent_data(&solo.drain());
    assert_eq!(sent.last(), Some(&(100_001, 39_648, 40_000)));
    let id = solo.engine.rpcs().next().unwrap().id | 1;
    let grant = |solo: &mut Solo, offset: u32| {
        let body = Body::Grant(homa_wire::Grant { offset, priority: 0 });
        let _ = solo.control(server, id, body, Reason::None, offset - 1);
    };
    grant(&mut solo, 100_001);
    assert_eq!(sent_data(&solo.drain()).last().map(|last| last.2), Some(100_000));
    let now = solo.now();
    solo.engine.supply(now, rpc, 150_000).unwrap();
    assert_eq!(sent_data(&solo.drain()), [(150_001, 100_000, 100_001)]);
    solo.engine.supply(now, rpc, 160_000).unwrap();
    assert!(solo.drain().is_empty());
    grant(&mut solo, 150_001);
    let sent = sent_data(&solo.drain());
    assert_eq!((sent[0].0, sent[0].1), (160_001, 100_001));
    assert_eq!(sent.last().map(|last| last.2), Some(150_001));
}

#[test]
fn growth_raises_what_needs_no_grant_as_if_it_had_been_known() {
    let mut solo = solo();
    let rpc = solo.call_with(address(9, 99), 101, OPEN).unwrap();
    for upto in [100, 30_000, 41_000, 60_000] {
        solo.engine.supply(solo.now(), rpc, upto).unwrap();
        let sent = solo.drain();
        let incoming = sent.iter().filter_map(Sent::data).map(|data| data.incoming);
        // All of a message that is little longer than the allowance.
        assert!(incoming.into_iter().all(|incoming| incoming == (upto + 1).min(41_001)));
        let end = sent_data(&sent).last().unwrap().2;
        assert_eq!(end, upto.min(41_001));
    }
}

#[test]
fn an_open_message_grows_to_the_limit_and_is_left_as_it_is_beyond() {
    let mut solo = solo();
    let rpc = solo.call_with(address(9, 99), 1, OPEN).unwrap();
    let now = solo.now();
    for upto in [1_000_000, 1_000_001, u32::MAX] {
        assert_eq!(solo.engine.supply(now, rpc, upto), Err(RpcError::OutOfRange));
    }
    assert!(solo.drain().is_empty());
    solo.engine.supply(now, rpc, 999_999).unwrap();
    assert_eq!(sent_data(&solo.drain())[0].0, 1_000_000);
    solo.engine.finish(now, rpc).unwrap();
}

#[test]
fn nothing_follows_a_packet_of_an_unfinished_message_in_its_datagram() {
    for open in [false, true] {
        let mut solo = solo();
        let server = address(9, 99);
        let calls: Vec<RpcKey> = (0..2).map(|_| solo.call(server, 10)).collect();
        let options = RequestOptions { open, ..OPEN };
        solo.call_with(server, 8, options).unwrap();
        let now = solo.now();
        let transmit = solo.engine.poll_transmit(now, &mut solo.segments).unwrap();
        let segments = &solo.segments[..transmit.segments];
        let mut datagram = Vec::new();
        for segment in segments {
            datagram.extend_from_slice(segment.header());
            datagram.resize(datagram.len() + segment.payload.len(), 7);
        }
        let lengths: Vec<u32> =
            Packets::new(&datagram, datagram.len() as u32).map(|packet| packet.1).collect();
        let expected: Vec<u32> = segments.iter().map(|segment| segment.wire_bytes()).collect();
        assert_eq!(lengths, expected);
        assert_eq!(lengths.len(), if open { 1 } else { 3 });
        assert_eq!(calls.len(), 2);
    }
}

#[test]
fn a_message_is_complete_when_its_last_byte_has_come() {
    let mut solo = solo();
    assert_eq!(placed(data(&mut solo, 10, 101, (0, 100))), (0, 100, 101));
    // The longer one overtakes that before it.
    assert_eq!(placed(data(&mut solo, 10, 301, (200, 300))), (200, 300, 301));
    assert_eq!(placed(data(&mut solo, 10, 201, (100, 200))), (100, 200, 301));
    let started = solo.events().iter().any(|event| {
        matches!(event, Event::RequestStarted { length: 301, open: true, framed: false, .. })
    });
    assert!(started, "{:?}", solo.log);
    assert!(arrived(&solo.log).is_empty());
    assert_eq!(placed(data(&mut solo, 10, 301, (300, 301))), (300, 301, 301));
    assert_eq!(arrived(&solo.events()), [301]);
    let received = data(&mut solo, 10, 401, (301, 400));
    assert_eq!(received, Received::Dropped(DropReason::Duplicate), "it is over");
}

#[test]
fn a_packet_ends_where_it_says_that_its_message_does() {
    // What lies behind is padding.
    let mut solo = solo();
    assert_eq!(placed(data(&mut solo, 10, 301, (0, 300))), (0, 300, 301));
    assert_eq!(placed(data(&mut solo, 10, 401, (300, 410))), (300, 401, 401));
    assert_eq!(arrived(&solo.events()), [401]);
    assert_eq!(placed(data(&mut solo, 12, 301, (200, 300))), (200, 300, 301));
    assert_eq!(placed(data(&mut solo, 12, 101, (0, 300))), (0, 101, 301));
}

#[test]
fn lengths_that_lie_are_dropped_and_counted() {
    let mut solo = solo();
    let bad = Received::Dropped(DropReason::BadRange);
    let _ = data(&mut solo, 10, 1_001, (0, 500));
    assert_eq!(data(&mut solo, 10, 100, (100, 200)), bad, "it begins behind its end");
    assert_eq!(data(&mut solo, 10, 0, (0, 100)), bad);
    for flags in [0, Data::FRAMED, Data::FRAMED | Data::OPEN] {
        assert_eq!(data_with(&mut solo, 10, 1_001, (500, 600), flags), bad);
    }
    let _ = data_with(&mut solo, 12, 1_001, (0, 500), 0);
    assert_eq!(data(&mut solo, 12, 1_001, (500, 600)), bad, "it cannot grow");
    assert_eq!(data_with(&mut solo, 12, 1_002, (500, 600), 0), bad);
    assert_eq!(solo.engine.stats().dropped_bad_range, 7);
    check(&solo.engine);
}

#[test]
fn a_length_costs_its_receiver_nothing_before_data_comes() {
    let mut solo = solo();
    let length = |grown: u32| 101 + grown * 9_999;
    for id in (0..50).map(|number| number * 2) {
        let _ = data(&mut solo, id, length(0), (0, 100));
    }
    solo.drain();
    for grown in 1..100 {
        for id in (0..50).map(|number| number * 2) {
            let mut header = solo.data_header(address(9, 900), id, length(grown), 0);
            let Body::Data(data) = &mut header.body else { unreachable!() };
            (data.flags, data.incoming) = (Data::OPEN, 101);
            assert_eq!(
                solo.header(address(9, 900), &header, 100),
                Received::Dropped(DropReason::Duplicate)
            );
        }
        check(&solo.engine);
    }
    solo.events();
    let held = solo.engine.stats().receive_memory_bytes;
    assert_eq!(held, 50 * 256, "before anything is granted");
    solo.drain();
    let (held, config) = (solo.engine.stats().receive_memory_bytes, solo.engine.config());
    let windows = u64::from(config.grants.max_incoming_bytes) + 50 * 65_536;
    assert!(held <= windows, "{held} bytes");
}

#[test]
fn a_request_that_grows_too_long_is_refused_with_the_limit() {
    for start in [0, 100] {
        let mut solo = solo();
        let _ = data(&mut solo, 10, 101, (0, 100));
        solo.events();
        solo.drain();
        let received = data(&mut solo, 10, 1_000_001, (start, start + 100));
        assert_eq!(received, Received::Dropped(DropReason::TooLong));
        let sent = solo.drain();
        let why = sent.iter().find_map(|sent| sent.header.extension).expect("it is told");
        assert_eq!((why.reason, why.value), (Reason::TooLong, 1_000_000));
        let events = solo.events();
        let failed = events
            .iter()
            .any(|event| matches!(event, Event::Failed { reason: FailReason::RequestTooLong, .. }));
        assert!(failed, "{events:?}");
        let stats = solo.engine.stats();
        assert_eq!((stats.live_rpcs, stats.receive_memory_bytes), (0, 0));
        let received = data(&mut solo, 10, 101, (0, 100));
        assert_eq!(received, Received::Dropped(DropReason::Duplicate), "it is not begun again");
    }
}

#[test]
fn a_response_that_grows_too_long_fails_the_call() {
    let mut solo = solo();
    let server = address(9, 900);
    let (rpc, id, _) = solo.called(server, 100);
    let _ = data(&mut solo, id, 101, (0, 100));
    let received = data(&mut solo, id, 1_000_001, (100, 200));
    assert_eq!(received, Received::Dropped(DropReason::TooLong));
    solo.events();
    assert_eq!(solo.failure(rpc), Some(FailReason::ResponseTooLong));
    assert_eq!(
        solo.drain().iter().filter_map(Sent::unknown).collect::<Vec<_>>(),
        [Reason::TooLong]
    );
}

#[test]
fn an_answer_before_the_end_of_the_request_ends_it() {
    let mut solo = solo();
    let server = address(9, 900);
    let rpc = solo.call_with(server, 11, OPEN).unwrap();
    let id = solo.drain()[0].header.common.sender_id | 1;
    let _ = solo.data(server, id, 100, (0, 50));
    let now = solo.now();
    assert_eq!(solo.engine.supply(now, rpc, 20), Err(RpcError::OutOfRange));
    check(&solo.engine);
    let _ = solo.data(server, id, 100, (50, 100));
    solo.events();
    assert!(is_answered(&solo.log, rpc, 77));
    assert!(solo.drain().iter().all(|sent| !sent.is_data()));
}

#[test]
fn a_receiver_whose_sender_has_nothing_yet_asks_ever_less() {
    let mut net = Net::new(&Config::default(), 2);
    net.hosts[1].service = Service::Hold;
    let rpc = net.call_with(0, 1, 11, OPEN);
    net.run(20_000);
    assert_eq!(net.failure(0, rpc), None);
    assert!(net.carried < 400, "{} packets", net.carried);
    let now = net.now();
    net.hosts[0].engine.supply(now, rpc, 1_000).unwrap();
    net.hosts[0].engine.finish(now, rpc).unwrap();
    net.run(1);
    assert_eq!(arrived(&net.hosts[1].log), [1_001]);
}

#[test]
fn who_waits_for_its_supplier_keeps_no_place_from_others() {
    let config = |config: &mut Config| config.grants.max_overcommit = 1;
    let mut solo = Solo::new(Config::default().with(config));
    let granted = |sent: &[Sent], id: u64| {
        let to = |sent: &&Sent| sent.header.common.sender_id == id | 1;
        sent.iter().filter(to).filter_map(Sent::grant).next_back()
    };
    // All of it has come that there is, and the byte that is missing was granted.
    let _ = data(&mut solo, 10, 60_001, (0, 40_000));
    assert_eq!(granted(&solo.drain(), 10), Some(60_001));
    for start in [40_000, 50_000] {
        let _ = data(&mut solo, 10, 60_001, (start, start + 10_000));
    }
    solo.drain();
    assert_eq!(solo.engine.stats().incoming_bytes, 0, "nothing of it is on its way");
    let mut header = solo.data_header(address(8, 900), 20, 900_000, 0);
    header.common.incarnation = 8;
    let _ = solo.header(address(8, 900), &header, 40_000);
    assert!(granted(&solo.drain(), 20) > Some(40_000));
    // It comes back when it grows.
    let _ = data(&mut solo, 10, 61_001, (60_000, 60_001));
    solo.drain();
    assert!(solo.engine.rpcs().any(|rpc| rpc.rx_granted == 61_001), "the shorter one goes first");
}

/// DATA of an open request whose client does not know our incarnation.
fn data_of_stranger(solo: &mut Solo, host: u8, length: u32, incoming: u32) -> Received {
    let from = address(host, 900);
    let mut header = solo.data_header(from, 10, length, 0);
    let Body::Data(data) = &mut header.body else { unreachable!() };
    (data.flags, data.incoming, data.echo) = (Data::OPEN, incoming, 0);
    solo.header(from, &header, 100)
}

#[test]
fn an_open_request_of_an_unvalidated_client_counts_as_a_piece_however_short_it_says_it_is() {
    let config = Config::default().with(|config| {
        config.limits.max_message_bytes = 100_000;
        // A quarter of it, besides what is set aside, holds four pieces.
        config.limits.receive_memory_bytes = (2 + 16) * 65_536;
    });
    let mut solo = Solo::new(config);
    for host in 1..=10 {
        let _ = data_of_stranger(&mut solo, host, 101, 101);
    }
    let stats = solo.engine.stats();
    assert_eq!((stats.live_rpcs, stats.unvalidated_put_off), (4, 6));
    assert_eq!(stats.receive_memory_bytes, 4 * 256);
    check(&solo.engine);
}

#[test]
fn what_an_unvalidated_client_announces_of_its_growth_reserves_nothing() {
    let mut solo = solo();
    let _ = data_of_stranger(&mut solo, 9, 101, 101);
    let _ = data_of_stranger(&mut solo, 9, 40_001, 40_001);
    assert_eq!(solo.engine.rpcs().next().unwrap().rx_length, 40_001);
    assert_eq!(solo.engine.stats().receive_memory_bytes, 256);
    // One that has proved its address announces what it sends.
    let _ = data(&mut solo, 12, 101, (0, 100));
    let _ = data(&mut solo, 12, 20_001, (0, 100));
    assert_eq!(solo.engine.stats().receive_memory_bytes, 256 + 20_224);
}

#[test]
fn the_time_that_a_supplier_takes_is_no_round_trip() {
    let granted = |open: bool| {
        let config = |config: &mut Config| config.output.link_mbps = Some(10_000);
        let mut solo = Solo::new(Config::default().with(config));
        if open {
            // The byte that is granted is written half a second later.
            for start in (0..40_000).step_by(1_000) {
                let _ = data(&mut solo, 10, 40_001, (start, start + 1_000));
            }
            assert!(solo.drain().iter().any(|sent| sent.grant() == Some(40_001)));
            let _ = solo.control(address(9, 900), 10, Body::Busy, Reason::None, 0);
            solo.advance(500);
            let _ = data(&mut solo, 10, 40_001, (40_000, 40_001));
            solo.drain();
        }
        // A message alone is granted much in any case.
        for start in (0..40_000).step_by(1_000) {
            let _ = solo.data(address(8, 900), 20, 100_000, (start, start + 1_000));
            let _ = data_with(&mut solo, 22, 900_000, (start, start + 1_000), 0);
        }
        let sent = solo.drain();
        let of_second = sent.iter().filter(|sent| sent.header.common.sender_id == 23);
        of_second.filter_map(Sent::grant).max().unwrap()
    };
    assert_eq!(granted(true), granted(false));
}

#[test]
fn an_open_message_that_becomes_long_waits_for_the_clock_like_others() {
    let config = |config: &mut Config| config.output.link_mbps = Some(100);
    let left_at_once = |upto: u32| {
        let mut solo = Solo::new(Config::default().with(config));
        solo.call(address(8, 99), 100_000);
        solo.drain();
        let rpc = solo.call_with(address(9, 99), 101, OPEN).unwrap();
        solo.engine.supply(solo.now(), rpc, upto).unwrap();
        solo.drain().iter().any(|sent| sent.rpc == Some(rpc))
    };
    assert!(left_at_once(200), "short ones pass the clock");
    assert!(!left_at_once(30_000));
}
