//! What clients hold of a server is limited for all together, and shared: whoever holds most gives
//! way.

use std::net::SocketAddr;

use crate::harness::*;
use homa_core::{Config, DropReason, Event, Received, RequestOptions, ResponseOptions, RpcKey};
use homa_wire::{Ack, Body, Grant, Reason};

/// A server that keeps 1,000,000 bytes of responses.
fn keeping() -> Solo {
    Solo::new(Config::default().with(|config| config.responses.unacknowledged_bytes = 1_000_000))
}

/// Answers requests of a client, which acknowledges none, with `bytes` each; returns the RPCs.
fn answered(
    solo: &mut Solo,
    from: SocketAddr,
    ids: std::ops::Range<u64>,
    bytes: u32,
) -> Vec<RpcKey> {
    let answer = |id| {
        let rpc = solo.request(from, 2 * id, 100);
        solo.answer(rpc, bytes);
        rpc
    };
    ids.map(answer).collect()
}

fn ended(solo: &mut Solo, rpcs: &[RpcKey]) -> Vec<bool> {
    solo.events();
    rpcs.iter().map(|rpc| solo.ended(*rpc)).collect()
}

#[test]
fn the_host_that_keeps_most_loses_responses_when_others_need_the_room() {
    let mut solo = keeping();
    let greedy = answered(&mut solo, address(1, 900), 1..10, 100_000);
    let modest = answered(&mut solo, address(2, 900), 1..4, 100_000);
    assert_eq!(ended(&mut solo, &greedy)[..3], [true, true, false], "two had to go, the oldest");
    assert_eq!(ended(&mut solo, &modest), [false; 3]);
    assert_eq!(solo.engine.stats().responses_displaced, 2);
}

#[test]
fn a_client_is_told_that_its_response_was_given_up() {
    let mut solo = keeping();
    answered(&mut solo, address(1, 900), 1..11, 100_000);
    let rpc = solo.request(address(2, 900), 2, 100);
    let told = |sent: &Sent| sent.unknown() == Some(Reason::Finished);
    let sent = solo.answer(rpc, 100_000);
    let lost: Vec<&Sent> = sent.iter().filter(|sent| told(sent)).collect();
    assert_eq!(lost.len(), 1);
    assert_eq!((lost[0].path.remote, lost[0].header.common.local_id()), (address(1, 900), 2));
}

#[test]
fn many_ports_of_a_host_have_one_share() {
    let mut solo = keeping();
    for port in 1..=18 {
        answered(&mut solo, address(1, port), 1..2, 50_000);
    }
    let modest = answered(&mut solo, address(2, 900), 1..5, 100_000);
    assert_eq!(ended(&mut solo, &modest), [false; 4]);
    assert_eq!(solo.engine.stats().responses_displaced, 6);
}

#[test]
fn of_a_host_the_response_goes_that_has_made_no_progress_for_longest() {
    let mut solo = keeping();
    let from = address(1, 900);
    let rpcs = answered(&mut solo, from, 1..11, 100_000);
    // The client has the first packets of the oldest.
    let grant = Body::Grant(Grant { offset: 50_000, priority: 3 });
    let _ = solo.control(from, 2, grant, Reason::None, 10_000);
    answered(&mut solo, address(2, 900), 1..3, 100_000);
    assert_eq!(ended(&mut solo, &rpcs)[..3], [false, true, true]);
}

#[test]
fn a_response_longer_than_the_limit_goes_alone() {
    let limit = Config::default().with(|config| config.responses.unacknowledged_bytes = 1_000);
    let mut solo = Solo::new(limit);
    let first = answered(&mut solo, address(1, 900), 1..2, 5_000);
    assert_eq!(ended(&mut solo, &first), [false]);
    let second = answered(&mut solo, address(2, 900), 1..2, 5_000);
    assert_eq!((ended(&mut solo, &first), ended(&mut solo, &second)), (vec![true], vec![false]));
}

#[test]
fn of_a_streamed_response_only_what_was_provided_and_not_taken_counts() {
    let mut solo = keeping();
    let from = address(1, 900);
    let stream = solo.request(from, 2, 100);
    solo.engine
        .send_response(
            solo.now(),
            stream,
            1_000_000,
            ResponseOptions { streaming_body: true, ..ResponseOptions::default() },
        )
        .unwrap();
    solo.engine.supply(solo.now(), stream, 400_000).unwrap();
    solo.drain();
    let others = answered(&mut solo, address(2, 900), 1..7, 100_000);
    assert_eq!(ended(&mut solo, &others), [false; 6], "it all fits");
    // It grows, and is not what has to go: most is kept for others.
    solo.engine.supply(solo.now(), stream, 500_000).unwrap();
    assert_eq!(ended(&mut solo, &others), [true, false, false, false, false, false]);
    let grant = Body::Grant(Grant { offset: 500_000, priority: 3 });
    let _ = solo.control(from, 2, grant, Reason::None, 30_000);
    let again = answered(&mut solo, address(3, 900), 1..2, 30_000);
    assert_eq!(ended(&mut solo, &again), [false]);
    assert_eq!(solo.engine.stats().responses_displaced, 1, "what was taken has left room");
}

#[test]
fn a_host_leaves_a_quarter_of_the_places_to_others() {
    let config = Config::default().with(|config| config.limits.max_rpcs = 400);
    let mut solo = Solo::new(config);
    let refused = |solo: &mut Solo, from, id: u64| {
        solo.data(from, id, 10, (0, 10)) == Received::Dropped(DropReason::Limit)
    };
    let greedy = |port| address(1, 1 + port % 50);
    let taken =
        (0..300).take_while(|id| !refused(&mut solo, greedy(*id as u16), 2 + 2 * id)).count();
    assert_eq!(taken, 225, "of 300");
    let told: Vec<Reason> = solo.drain().iter().filter_map(Sent::unknown).collect();
    assert_eq!(told, [Reason::Overloaded]);
    let others = (0..50).filter(|id| !refused(&mut solo, address(2, 900), 2 + 2 * id)).count();
    assert_eq!(others, 50);
    // Answered and acknowledged, they make room for others of the same host.
    for event in solo.events() {
        if let Event::RequestArrived { rpc, .. } = event {
            solo.answer(rpc, 10);
            solo.advance(0);
        }
    }
    solo.advance(6_000);
    assert_eq!(solo.engine.stats().live_rpcs, 0);
    assert!(!refused(&mut solo, greedy(1), 100_000));
}

#[test]
fn a_host_that_uses_all_its_ports_leaves_a_quarter_of_the_peers_to_others() {
    let config = Config::default().with(|config| config.peers.max = 1_000);
    let mut solo = Solo::new(config);
    let begin = |solo: &mut Solo, from| {
        let received = solo.data(from, 2, 10, (0, 10));
        solo.events();
        matches!(received, Received::Place(_))
    };
    let taken = (1..=2_000).filter(|port| begin(&mut solo, address(1, *port))).count();
    assert_eq!(taken, 750, "one request in service each");
    let taken = (1..=2_000).filter(|port| begin(&mut solo, address(2, *port))).count();
    assert_eq!(taken, 188);
    for host in 10..60 {
        assert!(begin(&mut solo, address(host, 900)), "{host}");
    }
    assert!(solo.call_with(address(9, 900), 100, RequestOptions::default()).is_ok());
}

#[test]
fn idle_ports_of_a_host_keep_no_other_out() {
    let config = Config::default().with(|config| config.peers.max = 1_000);
    let mut solo = Solo::new(config);
    for port in 1..=2_000 {
        let rpc = solo.request(address(1, port), 2, 10);
        solo.answer(rpc, 10);
        let _ = solo.control(address(1, port), 2, Body::Ack(Ack::default()), Reason::None, 0);
        solo.events();
    }
    for host in 10..60 {
        let _ = solo.request(address(host, 900), 2, 10);
    }
    assert!(solo.call_with(address(9, 900), 100, RequestOptions::default()).is_ok());
}

#[test]
fn a_host_that_proves_its_address_late_has_not_got_all_places() {
    let config = Config::default().with(|config| config.limits.max_rpcs = 400);
    let mut solo = Solo::new(config);
    for id in 1..=300 {
        let mut header = solo.data_header(address(1, 900), 2 * id, 10, 0);
        let Body::Data(data) = &mut header.body else { unreachable!() };
        data.echo = 0;
        let _ = solo.header(address(1, 900), &header, 10);
    }
    let _ = solo.control(address(1, 900), 2, Body::Busy, Reason::None, 0);
    solo.events();
    let mut taken = 0;
    for host in 10..30 {
        let received = solo.data(address(host, 900), 2, 10, (0, 10));
        taken += u32::from(matches!(received, Received::Place(_)));
    }
    assert_eq!(taken, 20);
}
