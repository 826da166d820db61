//! What a socket is in the Linux implementation, a port is here: scenarios C3 to C13 and X2 to X26,
//! as far as the engine decides them.

use crate::harness::*;
use homa_core::{
    Config, DropReason, Event, FailReason, PortError, PortOptions, Received, RequestOptions,
    ResponseOptions, RxMeta, SendError,
};
use homa_wire::{Body, Header, Reason};

fn solo() -> Solo {
    Solo::new(Config::default())
}

/// A request of 100 bytes comes to a port of ours.
fn ask(solo: &mut Solo, port: u16, id: u64) -> Received {
    let from = address(9, 900);
    let header = solo.data_header(from, id, 100, 0);
    deliver(solo, port, &header, 100)
}

fn deliver(solo: &mut Solo, port: u16, header: &Header, payload: u32) -> Received {
    let mut bytes = [0; 96];
    let written = header.encode(&mut bytes).unwrap();
    let meta = RxMeta::new(path(port, address(9, 900)));
    let now = solo.now();
    solo.engine.handle_packet(now, &meta, &bytes[..written], written as u32 + payload)
}

fn is_refused(received: &Received) -> bool {
    *received == Received::Dropped(DropReason::NoSuchPort)
}

// Scenario: C3, C5
#[test]
fn a_port_serves_when_it_is_bound_and_is_free_when_it_is_closed() {
    let mut solo = solo();
    assert!(is_refused(&ask(&mut solo, 80, 2)));
    solo.engine.bind_port(80, PortOptions::SERVE).unwrap();
    assert_eq!(solo.engine.bind_port(80, PortOptions::SERVE), Err(PortError::InUse));
    assert!(!is_refused(&ask(&mut solo, 80, 4)));
    let now = solo.now();
    solo.engine.close_port(now, PORT);
    assert!(is_refused(&ask(&mut solo, PORT, 6)), "the old port");
    assert!(!is_refused(&ask(&mut solo, 80, 8)), "the new one");
    solo.engine.bind_port(PORT, PortOptions::SERVE).unwrap();
    solo.engine.bind_port(40_000, PortOptions::SERVE).unwrap();
    assert!(!is_refused(&ask(&mut solo, 40_000, 10)), "any port may serve");
}

// Scenario: C7
#[test]
fn serving_can_be_turned_off_and_on_again() {
    let mut solo = solo();
    for (round, serve) in [true, false, true].into_iter().enumerate() {
        let now = solo.now();
        solo.engine.close_port(now, PORT);
        let options = if serve { PortOptions::SERVE } else { PortOptions::CLIENT };
        solo.engine.bind_port(PORT, options).unwrap();
        solo.drain();
        let received = ask(&mut solo, PORT, 2 + 2 * round as u64);
        assert_eq!(is_refused(&received), !serve);
        let no_service = |sent: &Sent| sent.unknown() == Some(Reason::NoService);
        assert_eq!(solo.drain().iter().any(no_service), !serve);
        let (rpc, id, _) = solo.called(address(8, 900), 100);
        let _ = solo.data(address(8, 900), id, 100, (0, 100));
        assert!(is_answered(&solo.events(), rpc, 77), "calls work");
    }
}

// Scenario: C11, C12
#[test]
fn closing_a_port_ends_all_its_rpcs_and_gives_all_memory_back() {
    let mut solo = solo();
    let peer = address(9, 900);
    solo.engine.bind_port(5000, PortOptions::SERVE).unwrap();
    assert!(!is_refused(&ask(&mut solo, 5000, 2)));
    let _ = solo.data(peer, 4, 500_000, (0, 1400));
    solo.request(peer, 6, 3000);
    let answered = solo.request(peer, 8, 3000);
    solo.answer(answered, 500_000);
    let (waiting, _, _) = solo.called(peer, 500_000);
    let (receiving, id, _) = solo.called(peer, 100);
    let _ = solo.data(peer, id, 500_000, (0, 1400));
    assert_eq!(solo.engine.stats().live_rpcs, 6);
    for _ in 0..2 {
        let now = solo.now();
        solo.engine.close_port(now, PORT);
        solo.events();
    }
    for rpc in [waiting, receiving] {
        assert_eq!(solo.failure(rpc), Some(FailReason::EndpointClosed));
    }
    let stats = solo.engine.stats();
    assert_eq!((stats.live_rpcs, stats.receive_memory_bytes), (1, 256), "that of the other port");
    assert_eq!(stats.incoming_bytes, 0);
    let options = RequestOptions::default();
    let refused = solo.call_with(peer, 100, options);
    assert_eq!(refused, Err(SendError::NoSuchPort));
}

// Scenario: C13, X2
#[test]
fn ids_are_even_count_up_and_begin_where_the_seed_says() {
    let ids = || {
        let mut solo = solo();
        let mut id = || solo.called(address(9, 900), 100).2[0].header.common.sender_id;
        [id(), id(), id()]
    };
    let first = ids();
    assert_eq!(first, ids(), "the same seed");
    assert!(first.iter().all(|id| id % 2 == 0 && *id != 0), "{first:?}");
    assert_eq!([first[1], first[2]], [first[0] + 2, first[0] + 4]);
}

// Scenario: X4, X5
#[test]
fn a_request_brings_no_cookie_to_its_server() {
    let mut solo = solo();
    let rpc = solo.request(address(9, 900), 2, 100);
    let info = solo.engine.rpcs().next().unwrap();
    assert_eq!((info.rpc, info.cookie), (rpc, 0));
    let _ = solo.control(address(9, 900), 2, Body::RpcUnknown, Reason::Cancelled, 0);
    let failed = Event::Failed { rpc, cookie: 0, reason: FailReason::Cancelled };
    assert!(solo.events().contains(&failed));
}

// Scenario: X6, X7
#[test]
fn an_answer_that_nobody_waits_for_sends_nothing_and_harms_nobody() {
    let mut solo = solo();
    let from = address(9, 900);
    let gone = solo.request(from, 2, 100);
    let kept = solo.request(from, 4, 100);
    let _ = solo.control(from, 2, Body::RpcUnknown, Reason::Cancelled, 0);
    let now = solo.now();
    assert_eq!(
        solo.engine.send_response(now, gone, 100, ResponseOptions::default()),
        Err(SendError::Stale)
    );
    assert!(solo.drain().is_empty());
    assert_eq!(solo.engine.send_response(now, kept, 100, ResponseOptions::default()), Ok(()));
    assert_eq!(
        solo.engine.send_response(now, kept, 100, ResponseOptions::default()),
        Err(SendError::NotInService)
    );
    assert_eq!(solo.drain().iter().filter(|sent| sent.is_data()).count(), 1, "once");
    solo.events();
    assert_eq!(solo.engine.stats().live_rpcs, 1);
}

// Scenario: X14
#[test]
fn a_complete_request_is_in_service_and_its_bytes_are_the_applications() {
    let mut solo = solo();
    let from = address(9, 900);
    let rpc = solo.request(from, 2, 3000);
    let held = solo.engine.stats().receive_memory_bytes;
    assert!(held >= 3000);
    solo.advance(60_000);
    assert_eq!(solo.engine.stats().receive_memory_bytes, held, "until it has taken them");
    solo.engine.consumed(solo.now(), rpc, 3000).unwrap();
    assert_eq!(solo.engine.stats().receive_memory_bytes, 0);
    let _ = solo.control(from, 2, Body::NeedAck, Reason::Probe, 0);
    assert!(solo.drain().iter().any(|sent| sent.is(&Body::Busy)), "it is still in service");
    assert_eq!(solo.answer(rpc, 100).iter().filter(|sent| sent.is_data()).count(), 1);
}

// Scenario: X25
#[test]
fn an_aborted_call_disappears_and_a_failed_one_names_its_reason() {
    let mut solo = solo();
    let server = address(9, 900);
    let (aborted, _, _) = solo.called(server, 100);
    let (failed, id, _) = solo.called(server, 100);
    let now = solo.now();
    solo.engine.abort(now, aborted, FailReason::Aborted).unwrap();
    assert_eq!(
        solo.events(),
        [Event::Released { rpc: aborted, upto: 100 }, Event::Ended { rpc: aborted }]
    );
    let told = solo.drain();
    assert!(
        told.iter().any(|sent| sent.unknown() == Some(Reason::Cancelled)),
        "Linux tells nobody"
    );
    let _ = solo.control(server, id, Body::RpcUnknown, Reason::Rejected, 0);
    assert!(solo.events().contains(&Event::Failed {
        rpc: failed,
        cookie: 77,
        reason: FailReason::Rejected
    }));
}
