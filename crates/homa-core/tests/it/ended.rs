//! What is left of an RPC that is over: nothing, at once. Scenarios D1 to D9. The Linux
//! implementation frees the packet buffers of dead RPCs later, in steps; here payload belongs to
//! the application and there is nothing to free but table entries.

use std::time::Duration;

use crate::harness::*;
use homa_core::{
    Config, Event, FailReason, PeerSettings, RequestOptions, RpcError, RpcKey, SendError,
    TransmitError,
};
use homa_wire::{Body, RESEND_ALL, Reason, Resend};

fn assert_nothing_left(solo: &Solo) {
    let stats = solo.engine.stats();
    let left = (stats.live_rpcs, stats.receive_memory_bytes, stats.incoming_bytes);
    assert_eq!(left, (0, 0, 0));
    assert_eq!(solo.engine.rpcs().count(), 0);
    assert_eq!(solo.engine.poll_timeout(), None);
}

fn abort(solo: &mut Solo, rpc: RpcKey) -> Result<(), RpcError> {
    solo.engine.abort(solo.now(), rpc, FailReason::Aborted)
}

// Scenario: D1, D4, X20
#[test]
fn ten_thousand_rpcs_that_ended_need_no_cleaning_up() {
    let mut solo = Solo::new(Config::default());
    let from = address(9, 900);
    for id in 1..=10_000 {
        let rpc = solo.request(from, 2 * id, 1000);
        solo.answer(rpc, 1000);
        let _ = solo.control(from, 2 * id, Body::Ack(Default::default()), Reason::None, 0);
        solo.events();
        assert!(solo.ended(rpc));
        solo.log.clear();
        assert_eq!(
            solo.engine.stats().live_rpcs,
            0,
            "at the end of its own packet, without a timer"
        );
    }
    solo.drain();
    assert_nothing_left(&solo);
}

// Scenario: D2
#[test]
fn an_rpc_that_ended_keeps_its_place_until_its_owner_knows() {
    let mut solo = Solo::new(Config::default());
    let server = address(9, 900);
    let (first, _, _) = solo.called(server, 100);
    abort(&mut solo, first).unwrap();
    let now = solo.now();
    let options = RequestOptions::default();
    let second = solo.engine.send_request(now, path(PORT, server), 100, 1, options).unwrap();
    assert_ne!(first.index, second.index, "the events about the first have not been taken");
    let events = solo.events();
    assert_eq!(events, [Event::Released { rpc: first, upto: 100 }, Event::Ended { rpc: first }]);
    let third = solo.call(server, 100);
    assert_eq!(first.index, third.index);
    assert_ne!(first, third, "with another generation");
}

// Scenario: D3
#[test]
fn packets_that_the_driver_refuses_after_their_rpc_ended_are_forgotten() {
    for why in [TransmitError::NoRoom, TransmitError::TooBig(1300), TransmitError::Unreachable] {
        let mut solo = Solo::new(Config::default());
        let server = address(9, 900);
        let rpc = solo.call(server, 20_000);
        let now = solo.now();
        let transmit = solo.engine.poll_transmit(now, &mut solo.segments).unwrap();
        assert!(transmit.segments > 3);
        abort(&mut solo, rpc).unwrap();
        solo.engine.transmit_failed(now, &transmit, &solo.segments, 1, why);
        assert!(solo.drain().iter().all(|sent| !sent.is_data()), "{why:?}");
        solo.events();
        assert_eq!(solo.failure(rpc), None);
        assert_nothing_left(&solo);
    }
}

// Scenario: D3
#[test]
fn an_rpc_that_ends_while_the_pacer_holds_it_back_sends_no_more() {
    let mut solo = Solo::new(Config::default().with(|config| config.output.link_mbps = Some(10)));
    let rpc = solo.call(address(9, 900), 40_000);
    let sent = solo.advance(5).iter().filter(|sent| sent.is_data()).count();
    assert!((1..20).contains(&sent), "most of it waits: {sent} packets");
    abort(&mut solo, rpc).unwrap();
    assert!(solo.advance(1000).iter().all(|sent| !sent.is_data()));
    assert_nothing_left(&solo);
}

/// Memory for three messages, so that a fourth waits.
fn scarce() -> Solo {
    Solo::new(Config::default().with(|config| {
        config.limits.max_message_bytes = 65_536;
        config.limits.receive_memory_bytes = 131_072;
        config.output.link_mbps = Some(100);
    }))
}

// Scenario: D7, D8, D9
#[test]
fn an_rpc_that_ends_leaves_every_queue_it_is_in() {
    let mut solo = scarce();
    let from = address(9, 900);
    let mut started: Vec<RpcKey> = Vec::new();
    // With gaps, and granted to.
    let _ = solo.data(from, 2, 60_000, (2000, 3000));
    let _ = solo.data(from, 2, 60_000, (5000, 6000));
    // Complete and not taken, and half received.
    let _ = solo.data(from, 4, 1000, (0, 1000));
    let _ = solo.data(from, 6, 60_000, (0, 100));
    // Waiting for memory.
    let _ = solo.data(from, 8, 60_000, (0, 100));
    started.extend(solo.events().iter().filter_map(|event| match event {
        Event::RequestStarted { rpc, .. } => Some(*rpc),
        _ => None,
    }));
    // Held back by the pacer, to be sent again, waiting for room at the peer, with a deadline.
    started.push(solo.call(from, 60_000));
    let sent = solo.advance(2);
    let id = sent.iter().find(|sent| sent.is_data()).unwrap().header.common.sender_id;
    let again = Resend { offset: 0, length: RESEND_ALL, priority: 7 };
    let _ = solo.control(from, id | 1, Body::Resend(again), Reason::None, 0);
    for _ in 0..5 {
        let deadline = Some(solo.now() + Duration::from_secs(1));
        let options = RequestOptions { deadline, ..RequestOptions::default() };
        started.push(solo.call_with(from, 60_000, options).unwrap());
    }
    let infos: Vec<_> = solo.engine.rpcs().collect();
    assert_eq!(infos.len(), started.len());
    assert!(infos.iter().any(|info| info.rx_gaps == 2));
    assert!(infos.iter().any(|info| info.is_ready));
    assert!(infos.iter().any(|info| info.waits_for_memory));
    for rpc in &started {
        abort(&mut solo, *rpc).unwrap();
        let again = abort(&mut solo, *rpc);
        assert!(again.is_ok() || again == Err(RpcError::Stale), "{again:?}");
    }
    // The clients of refused requests hear of it and say so.
    for sent in solo.drain().iter().filter(|sent| sent.unknown() == Some(Reason::Rejected)) {
        let _ = solo.control(
            from,
            sent.header.common.sender_id ^ 1,
            Body::Ack(Default::default()),
            Reason::None,
            0,
        );
    }
    solo.events();
    solo.drain();
    for rpc in started {
        assert!(solo.ended(rpc), "{rpc:?}");
        assert_eq!(solo.log.iter().filter(|event| **event == Event::Ended { rpc }).count(), 1);
    }
    assert!(solo.advance(5000).iter().all(|sent| !sent.is_data()));
    assert_nothing_left(&solo);
}

// Scenario: D9
#[test]
fn the_last_rpc_of_a_peer_lets_it_go() {
    let config = Config::default().with(|config| config.peers.max = 1);
    let mut solo = Solo::new(config);
    let (rpc, _, _) = solo.called(address(9, 900), 5000);
    let call = |solo: &mut Solo| {
        solo.call_with(address(8, 900), 100, RequestOptions::default()).map(|_| ())
    };
    assert_eq!(call(&mut solo), Err(SendError::PeersLimit));
    abort(&mut solo, rpc).unwrap();
    solo.drain();
    solo.events();
    assert!(solo.log.contains(&Event::Released { rpc, upto: 5000 }), "the request's bytes");
    solo.now_ns += 11_000 * MS;
    solo.engine.handle_timeout(solo.now(), true);
    assert_eq!(call(&mut solo), Ok(()), "the peer could be forgotten");
    let settings = PeerSettings::default();
    assert!(solo.engine.set_peer(solo.now(), path(PORT, address(8, 900)), settings));
}

// Scenario: D7
#[test]
fn a_message_whose_rpc_ended_is_granted_nothing_any_more() {
    for native in [true, false] {
        let mut solo = Solo::new(Config::default());
        let from = address(9, 900);
        let rpc = if native {
            let (rpc, id, _) = solo.called(from, 100);
            let _ = solo.data(from, id, 500_000, (0, 1400));
            rpc
        } else {
            let _ = solo.data(from, 2, 500_000, (0, 1400));
            let Event::RequestStarted { rpc, .. } = solo.events()[0] else { panic!() };
            rpc
        };
        abort(&mut solo, rpc).unwrap();
        assert!(solo.drain().iter().all(|sent| sent.grant().is_none()), "own call: {native}");
        let _ = solo.control(from, 2, Body::Ack(Default::default()), Reason::None, 0);
        solo.events();
        solo.drain();
        assert_nothing_left(&solo);
    }
}
