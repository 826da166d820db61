//! A port that is drained: what has begun goes on, what is new is refused and never executed.

use crate::harness::*;
use homa_core::{Config, DropReason, Event, FailReason, PortError, PortOptions, Received};
use homa_wire::{Ack, Body, Common, Extension, Header, RESEND_ALL, Reason, Resend};

fn drain_server(net: &mut Net) {
    let (now, port) = (net.now(), net.hosts[1].address.port());
    net.hosts[1].engine.drain_port(now, port);
}

fn solo() -> Solo {
    Solo::new(Config::default())
}

fn drain_port(solo: &mut Solo) {
    solo.engine.drain_port(solo.now(), PORT);
}

fn unknown(sent: &[Sent]) -> Vec<Reason> {
    sent.iter().filter_map(Sent::unknown).collect()
}

#[test]
fn new_requests_are_refused_and_not_executed_whatever_is_lost() {
    for percent in [0, 10, 30] {
        for length in [100, 30_000, 300_000] {
            let mut net = Net::new(&Config::default(), 2);
            drain_server(&mut net);
            let mut dice = 1_u64;
            net.lose = Box::new(move |_, _| {
                dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (dice >> 33) % 100 < percent
            });
            let rpcs: Vec<_> = (0..10).map(|_| net.call(0, 1, length)).collect();
            net.run(900);
            for rpc in rpcs {
                assert_eq!(
                    net.failure(0, rpc),
                    Some(FailReason::NotExecuted),
                    "{length} {percent}"
                );
            }
            assert!(net.hosts[1].arrived.is_empty());
            assert!(net.hosts[1].engine.stats().dropped_draining >= 10);
            net.run(2000);
            net.assert_quiet();
        }
    }
}

#[test]
fn requests_that_have_begun_are_answered() {
    let mut net = Net::new(&Config::default(), 2);
    net.hosts[1].service = Service::Hold;
    let in_service = net.call(0, 1, 100);
    net.run(1);
    // A part of this one is there: the rest waits for a grant, which is lost.
    let mut grants = 1;
    net.lose = Box::new(move |from, sent| {
        let lose = from == 1 && sent.grant().is_some() && grants > 0;
        grants -= u32::from(lose);
        lose
    });
    let arriving = net.call(0, 1, 200_000);
    net.run(1);
    for _ in 0..2 {
        drain_server(&mut net);
    }
    let late = net.call(0, 1, 100);
    net.run(100);
    assert_eq!(net.failure(0, late), Some(FailReason::NotExecuted));
    assert_eq!(net.hosts[1].arrived.len(), 2);
    for rpc in net.hosts[1].arrived.clone() {
        net.answer(1, rpc, 50_000);
    }
    net.run(100);
    assert!(net.answered(0, in_service) && net.answered(0, arriving));
}

#[test]
fn calls_from_the_port_go_out() {
    let mut net = Net::new(&Config::default(), 2);
    drain_server(&mut net);
    let rpc = net.call(1, 0, 100_000);
    net.run(50);
    assert!(net.answered(1, rpc));
}

#[test]
fn copies_of_a_known_request_are_no_new_request() {
    let mut solo = solo();
    let from = address(9, 900);
    let finished = solo.request(from, 10, 100);
    solo.answer(finished, 100);
    let _ = solo.control(from, 10, Body::Ack(Ack::default()), Reason::None, 0);
    let in_service = solo.request(from, 20, 100);
    let _ = solo.data(from, 30, 3000, (0, 1000));
    drain_port(&mut solo);
    for (id, length) in [(10, 100), (20, 100)] {
        let received = solo.data(from, id, length, (0, length));
        assert_eq!(received, Received::Dropped(DropReason::Duplicate), "{id}");
    }
    for range in [(1000, 2000), (2000, 3000)] {
        assert!(matches!(solo.data(from, 30, 3000, range), Received::Place(_)));
    }
    assert!(unknown(&solo.drain()).is_empty());
    let arrived = |event: &Event| matches!(event, Event::RequestArrived { .. });
    assert_eq!(solo.events().iter().filter(|event| arrived(event)).count(), 1);
    let answer: Vec<Sent> = solo.answer(in_service, 100);
    assert!(answer.iter().any(Sent::is_data));
}

#[test]
fn a_refused_request_stays_refused() {
    let mut solo = solo();
    let from = address(9, 900);
    solo.request(from, 2, 100);
    drain_port(&mut solo);
    for id in [10, 12, 10, 10, 12] {
        let received = solo.data(from, id, 100, (0, 100));
        assert_eq!(received, Received::Dropped(DropReason::Draining));
        assert_eq!(unknown(&solo.drain()), [Reason::NotExecuted]);
        solo.advance(10);
    }
    // Its client asks what has become of it, and sends it again.
    let resend = Resend { offset: 0, length: RESEND_ALL, priority: 7 };
    let _ = solo.control(from, 10, Body::Resend(resend), Reason::None, 0);
    assert_eq!(unknown(&solo.drain()), [Reason::NeverSeen]);
    let received = solo.data(from, 10, 100, (0, 100));
    assert_eq!(received, Received::Dropped(DropReason::Draining));
    assert_eq!(solo.engine.stats().dropped_draining, 6);
}

#[test]
fn a_drained_port_that_closes_is_not_opened_again() {
    let mut solo = solo();
    let (from, kept) = (address(9, 900), 77);
    solo.engine.bind_port(kept, PortOptions::SERVE).unwrap();
    drain_port(&mut solo);
    let now = solo.now();
    solo.engine.drain_port(now, 78);
    solo.engine.close_port(now, PORT);
    let received = solo.data(from, 10, 100, (0, 100));
    assert_eq!(received, Received::Dropped(DropReason::NoSuchPort));
    assert_eq!(unknown(&solo.drain()), [Reason::NoService]);
    assert_eq!(solo.engine.bind_port(PORT, PortOptions::SERVE), Err(PortError::Drained));
    solo.engine.close_port(now, kept);
    assert_eq!(solo.engine.bind_port(kept, PortOptions::SERVE), Ok(()));
    assert_eq!(solo.engine.bind_port(78, PortOptions::SERVE), Ok(()), "it was not open");
}

#[test]
fn a_request_sent_when_its_server_was_known_to_drain_goes_to_the_next_incarnation() {
    let server = address(9, 900);
    // The second call is sent so long after the refusal of the first is heard.
    for later_ms in [0, 1] {
        let mut solo = solo();
        let (_, known, _) = solo.called(server, 100);
        let _ = solo.data(server, known, 100, (0, 100));
        let (first, first_id, _) = solo.called(server, 100);
        let (before, before_id, _) = solo.called(server, 100);
        solo.advance(1);
        let _ = solo.control(server, first_id, Body::RpcUnknown, Reason::NotExecuted, 0);
        solo.events();
        assert_eq!(solo.failure(first), Some(FailReason::NotExecuted));
        solo.now_ns += later_ms * MS;
        let (second, second_id, _) = solo.called(server, 100);
        solo.now_ns += 20 * MS;
        for id in [before_id, second_id] {
            let common = Common::control(server.port(), PORT, id).with_native_profile(THEIRS + 1);
            let (echo, reason) = (solo.ours(server), Reason::Restarted);
            let extension = Some(Extension { echo, reason, value: 5_000 });
            let _ = solo.header(server, &Header { common, body: Body::RpcUnknown, extension }, 0);
        }
        solo.events();
        assert_eq!(solo.failure(before), Some(FailReason::Restarted), "it may have begun");
        assert_eq!(solo.failure(second), None, "{later_ms} ms later");
        assert_eq!(solo.drain().iter().filter(|sent| sent.is_data()).count(), 1);
    }
}
