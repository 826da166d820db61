//! Errors that the network reports, scenarios E1 to E10, where `errors.rs` does not show them.

use crate::harness::*;
use homa_core::{Config, Event, FailReason, IcmpKind, PortOptions, RequestOptions, TransmitError};

fn solo() -> Solo {
    Solo::new(Config::default())
}

// Scenario: E1, E7
#[test]
fn a_network_error_finds_the_calls_from_all_ports_of_the_endpoint() {
    let mut solo = solo();
    let server = address(9, 99);
    solo.engine.bind_port(5000, PortOptions::CLIENT).unwrap();
    let (here, _, sent) = solo.called(server, 100);
    let now = solo.now();
    let options = RequestOptions::default();
    let there = solo.engine.send_request(now, path(5000, server), 100, 8, options).unwrap();
    let elsewhere =
        solo.engine.send_request(now, path(5000, address(9, 98)), 100, 9, options).unwrap();
    solo.drain();
    solo.engine.icmp_error(now, IcmpKind::PortUnreachable, path(PORT, server), &sent[0].bytes);
    solo.events();
    assert_eq!(solo.failure(here), Some(FailReason::NoService));
    assert_eq!(solo.failure(there), Some(FailReason::NoService), "from another port of ours");
    assert_eq!(solo.failure(elsewhere), None, "another port of the server's host");
    assert!(solo.log.contains(&Event::Failed {
        rpc: there,
        cookie: 8,
        reason: FailReason::NoService
    }));
}

// Scenario: E2, E6
#[test]
fn an_unreachable_client_ends_the_answer_on_its_way_to_it() {
    for kind in [IcmpKind::HostUnreachable, IcmpKind::ProtocolUnreachable] {
        let mut solo = solo();
        let from = address(9, 900);
        let rpc = solo.request(from, 10, 100);
        let sent = solo.answer(rpc, 30_000);
        let data = sent.iter().find(|sent| sent.is_data()).unwrap().bytes.clone();
        let now = solo.now();
        solo.engine.icmp_error(now, kind, path(PORT, from), &data);
        assert_eq!(
            solo.events(),
            [Event::Released { rpc, upto: 30_000 }, Event::Ended { rpc }],
            "the service is not told: it has answered"
        );
        assert_eq!(solo.engine.stats().live_rpcs, 0);
        assert_eq!(solo.engine.poll_timeout(), None);
    }
}

// Scenario: E8
#[test]
fn a_network_error_about_an_rpc_that_is_over_changes_nothing() {
    let mut solo = solo();
    let server = address(9, 99);
    let (rpc, _, sent) = solo.called(server, 100);
    let (other, _, _) = solo.called(server, 100);
    solo.engine.abort(solo.now(), rpc, FailReason::Aborted).unwrap();
    let now = solo.now();
    solo.engine.icmp_error(now, IcmpKind::PortUnreachable, path(PORT, server), &sent[0].bytes);
    solo.events();
    assert_eq!((solo.failure(rpc), solo.failure(other)), (None, None));
    assert_eq!(solo.engine.stats().icmp_errors, 0);
}

/// What becomes of a call whose first packets the driver refuses with `why`.
fn refused(why: TransmitError) -> Option<FailReason> {
    let mut solo = solo();
    let rpc = solo.call(address(9, 900), 5000);
    let now = solo.now();
    let transmit = solo.engine.poll_transmit(now, &mut solo.segments).unwrap();
    solo.engine.transmit_failed(now, &transmit, &solo.segments, 0, why);
    solo.events();
    solo.failure(rpc)
}

// Scenario: E9
#[test]
fn a_call_without_a_route_fails_at_once_with_the_reason() {
    assert_eq!(refused(TransmitError::Unreachable), Some(FailReason::HostUnreachable));
    assert_eq!(refused(TransmitError::Refused), Some(FailReason::Refused));
    assert_eq!(refused(TransmitError::NoRoom), None, "a full queue is not the end");
}

// Scenario: E10
#[test]
fn a_route_that_is_gone_for_a_while_costs_an_answer_only_time() {
    let mut solo = solo();
    let from = address(9, 900);
    let rpc = solo.request(from, 10, 100);
    let now = solo.now();
    solo.engine.send_response(now, rpc, 5000).unwrap();
    let transmit = solo.engine.poll_transmit(now, &mut solo.segments).unwrap();
    solo.engine.transmit_failed(now, &transmit, &solo.segments, 0, TransmitError::Unreachable);
    solo.drain();
    let sent = solo.advance(300);
    assert!(!solo.ended(rpc), "the driver looks for a way again with every packet");
    assert!(
        sent.iter().any(|sent| sent.is(&homa_wire::Body::NeedAck)),
        "and one is sent: {sent:?}"
    );
}
