//! What happens to a short message at once is told by one event.

use crate::harness::*;
use homa_core::{Config, DropReason, Event, FailReason, PortOptions, Received, RpcError, RpcKey};
use homa_wire::{Body, Reason};

/// The next event that is not about a peer.
fn next(solo: &mut Solo) -> Option<Event> {
    let mut event = solo.engine.poll_event();
    while matches!(event, Some(Event::PeerAdded { .. })) {
        event = solo.engine.poll_event();
    }
    event
}

#[test]
fn a_request_that_comes_as_a_whole_is_told_by_one_event() {
    let mut solo = Solo::new(Config::default());
    let client = address(9, 900);
    solo.message(client, 2, 1000);
    let told = next(&mut solo);
    let Some(Event::RequestWhole { rpc, length: 1000, path, .. }) = told else {
        panic!("{told:?}");
    };
    assert_eq!(path.remote, client);
    assert_eq!(next(&mut solo), None);
    solo.answer(rpc, 500);
    let _ = solo.control(client, 2, Body::Ack(Default::default()), Reason::None, 0);
    assert_eq!(next(&mut solo), Some(Event::ResponseDelivered { rpc, released_upto: 500 }));
    assert_eq!((next(&mut solo), solo.engine.stats().live_rpcs), (None, 0));
}

#[test]
fn a_request_of_which_a_part_was_told_has_no_event_as_a_whole() {
    let mut solo = Solo::new(Config::default());
    let client = address(9, 900);
    let _ = solo.data(client, 2, 2000, (0, 1000));
    assert!(matches!(next(&mut solo), Some(Event::RequestStarted { .. })));
    let _ = solo.data(client, 2, 2000, (1000, 2000));
    assert!(matches!(next(&mut solo), Some(Event::RequestArrived { .. })));
    assert_eq!(next(&mut solo), None);
}

#[test]
fn a_request_that_was_over_before_it_was_told_is_not_told_as_a_whole() {
    let mut solo = Solo::new(Config::default());
    let client = address(9, 900);
    solo.message(client, 2, 1000);
    let _ = solo.control(client, 2, Body::RpcUnknown, Reason::Cancelled, 0);
    assert!(matches!(next(&mut solo), Some(Event::Ended { .. })));
    assert_eq!(next(&mut solo), None);
}

#[test]
fn a_packet_with_padding_behind_the_end_of_a_message_is_a_part_of_it() {
    let mut solo = Solo::new(Config::default());
    let client = address(9, 900);
    // As many bytes as the whole message has, of which only the first half are of it.
    let header = solo.data_header(client, 2, 100, 50);
    let Received::Place(placed) = solo.header(client, &header, 100) else { panic!("it is taken") };
    assert_eq!((placed.offset, placed.packet.len()), (50, 50));
    assert!(matches!(next(&mut solo), Some(Event::RequestStarted { .. })));
    assert_eq!(next(&mut solo), None, "its beginning is missing");
    let _ = solo.data(client, 2, 100, (0, 50));
    assert!(matches!(next(&mut solo), Some(Event::RequestArrived { .. })));
}

#[test]
fn a_request_that_comes_as_a_whole_is_there_once() {
    let mut solo = Solo::new(Config::default());
    let client = address(9, 900);
    solo.message(client, 2, 1000);
    let again = solo.data(client, 2, 1000, (0, 1000));
    assert_eq!(again, Received::Dropped(DropReason::Duplicate));
    assert!(matches!(next(&mut solo), Some(Event::RequestWhole { .. })));
    assert_eq!(next(&mut solo), None);
}

#[test]
fn a_request_that_is_read_as_a_stream_makes_progress_as_a_whole() {
    let mut solo = Solo::new(Config::default());
    solo.engine.close_port(solo.now(), PORT);
    let streaming = PortOptions::SERVE.with_streaming_requests();
    solo.engine.bind_port(PORT, streaming).unwrap();
    solo.message(address(9, 900), 2, 1000);
    let told: Vec<_> = std::iter::from_fn(|| next(&mut solo)).collect();
    let progress = |event: &Event| {
        matches!(event, Event::BodyProgress { contiguous_upto: 1000, length: 1000, .. })
    };
    assert!(told.iter().any(progress), "{told:?}");
    assert!(matches!(told.last(), Some(Event::RequestArrived { .. })), "{told:?}");
}

/// A call that is answered by 300 bytes; its events are still to come.
fn answered(solo: &mut Solo) -> RpcKey {
    let (rpc, id, _) = solo.called(address(9, 900), 100);
    let _ = solo.data(address(9, 900), id, 300, (0, 300));
    rpc
}

#[test]
fn a_response_that_comes_as_a_whole_is_told_by_one_event_and_ends_its_call() {
    let mut solo = Solo::new(Config::default());
    let rpc = answered(&mut solo);
    let (framed, open) = (false, false);
    let (cookie, released_upto, length) = (77, 100, 300);
    let whole = Event::ResponseWhole { rpc, length, framed, open, cookie, released_upto };
    assert_eq!(next(&mut solo), Some(whole));
    let now = solo.now();
    assert_eq!(solo.engine.finish_call(now, rpc), Ok(()));
    assert_eq!(solo.engine.finish_call(now, rpc), Err(RpcError::Stale));
    let stats = solo.engine.stats();
    assert_eq!((stats.live_rpcs, stats.receive_memory_bytes, next(&mut solo)), (0, 0, None));
}

#[test]
fn a_call_is_not_finished_before_all_of_it_was_told() {
    let mut solo = Solo::new(Config::default());
    let rpc = answered(&mut solo);
    let now = solo.now();
    assert_eq!(solo.engine.finish_call(now, rpc), Err(RpcError::OutOfRange));
    let (other, ..) = solo.called(address(9, 900), 100);
    assert_eq!(solo.engine.finish_call(now, other), Err(RpcError::OutOfRange));
    solo.events();
    assert_eq!(solo.engine.finish_call(now, rpc), Ok(()));
}

#[test]
fn a_response_that_is_not_wanted_is_not_told_as_a_whole() {
    let mut solo = Solo::new(Config::default());
    let rpc = answered(&mut solo);
    solo.engine.abort(solo.now(), rpc, FailReason::Aborted).unwrap();
    let told: Vec<_> = std::iter::from_fn(|| next(&mut solo)).collect();
    assert!(!told.iter().any(|event| matches!(event, Event::ResponseWhole { .. })), "{told:?}");
    assert_eq!(told.last(), Some(&Event::Ended { rpc }));
}

#[test]
fn an_event_that_tells_several_has_them_as_parts_in_order() {
    let rpc = RpcKey { index: 1, generation: 2 };
    let parts: Vec<_> = Event::ResponseDelivered { rpc, released_upto: 9 }.parts().collect();
    assert_eq!(parts, [Event::Released { rpc, upto: 9 }, Event::Ended { rpc }]);
    let parts: Vec<_> = Event::Ended { rpc }.parts().collect();
    assert_eq!(parts, [Event::Ended { rpc }]);
}
