//! A request is executed at most once per incarnation of the server: duplicates, restarts, limits.

use std::time::Duration;

use crate::harness::*;
use homa_core::{Config, DropReason, Event, FailReason, Received};
use homa_wire::{Ack, Body, Common, Extension, Header, RESEND_ALL, Reason, Resend};

fn arrivals(solo: &Solo) -> usize {
    solo.log.iter().filter(|event| matches!(event, Event::RequestArrived { .. })).count()
}

// Scenario: A14
#[test]
fn a_duplicate_of_an_acknowledged_request_is_not_executed_again() {
    let mut solo = Solo::new(Config::default());
    let from = address(9, 900);
    let rpc = solo.request(from, 1000, 100);
    solo.answer(rpc, 100);
    let _ = solo.control(from, 1000, Body::Ack(Ack::default()), Reason::None, 0);
    solo.events();
    assert!(solo.ended(rpc));
    for _ in 0..2 {
        let received = solo.data(from, 1000, 100, (0, 100));
        assert_eq!(received, Received::Dropped(DropReason::Duplicate), "A14");
        solo.advance(999);
    }
    assert_eq!(arrivals(&solo), 1);
    assert_eq!(solo.engine.stats().finished_hits, 2);
    assert_eq!(solo.engine.stats().live_rpcs, 0);
}

#[test]
fn a_request_is_remembered_for_its_time_and_then_forgotten() {
    let mut solo = Solo::new(Config::default());
    let from = address(9, 900);
    let rpc = solo.request(from, 1000, 100);
    solo.answer(rpc, 100);
    let _ = solo.control(from, 1000, Body::Ack(Ack::default()), Reason::None, 0);
    solo.advance(1999);
    let _ = solo.data(from, 1000, 100, (0, 100));
    assert_eq!(solo.engine.stats().finished_hits, 1);
    solo.advance(3000);
    look(&mut solo);
    let _ = solo.data(from, 1000, 100, (0, 100));
    solo.events();
    assert_eq!(arrivals(&solo), 2, "older than the promise");
}

#[test]
fn a_request_that_was_cancelled_refused_or_timed_out_is_not_executed_by_a_late_copy() {
    let mut solo = Solo::new(Config::default());
    let from = address(9, 900);
    let refused = solo.request(from, 10, 100);
    solo.engine.abort(solo.now(), refused, FailReason::Aborted).unwrap();
    let cancelled = solo.request(from, 20, 100);
    let _ = solo.control(from, 20, Body::RpcUnknown, Reason::Cancelled, 0);
    let _ = solo.data(from, 30, 2000, (0, 1000));
    solo.advance(1100);
    assert_eq!(solo.failure(cancelled), Some(FailReason::Cancelled));
    for id in [10, 20] {
        let received = solo.data(from, id, 100, (0, 100));
        assert_eq!(received, Received::Dropped(DropReason::Duplicate), "{id}");
    }
    let _ = solo.data(from, 30, 2000, (0, 1000));
    let _ = solo.data(from, 30, 2000, (1000, 2000));
    solo.events();
    assert_eq!(arrivals(&solo), 2);
}

#[test]
fn the_same_id_from_another_client_is_another_request() {
    let mut solo = Solo::new(Config::default());
    for from in [address(9, 900), address(9, 901), address(10, 900)] {
        let rpc = solo.request(from, 1000, 100);
        solo.answer(rpc, 100);
        let _ = solo.control(from, 1000, Body::Ack(Ack::default()), Reason::None, 0);
    }
    assert_eq!(arrivals(&solo), 3);
}

#[test]
fn when_the_memory_of_finished_requests_is_full_new_ones_are_refused_not_old_ones_forgotten() {
    let mut solo = Solo::new(Config::default().with(|config| config.fixed.finished_max = 16));
    let from = address(9, 900);
    for id in 0..16 {
        let rpc = solo.request(from, id * 2, 100);
        solo.answer(rpc, 100);
        let _ = solo.control(from, id * 2, Body::Ack(Ack::default()), Reason::None, 0);
    }
    solo.events();
    let received = solo.data(from, 1000, 100, (0, 100));
    assert_eq!(received, Received::Dropped(DropReason::Limit));
    assert_eq!(
        solo.drain().iter().filter_map(Sent::unknown).collect::<Vec<_>>(),
        [Reason::Overloaded]
    );
    for id in 0..16 {
        let received = solo.data(from, id * 2, 100, (0, 100));
        assert_eq!(received, Received::Dropped(DropReason::Duplicate));
    }
    assert_eq!(arrivals(&solo), 16);
    solo.advance(3000);
    look(&mut solo);
    solo.request(from, 1002, 100);
}

#[test]
fn live_requests_count_against_the_memory_that_they_will_need() {
    let mut solo = Solo::new(Config::default().with(|config| config.fixed.finished_max = 16));
    let from = address(9, 900);
    for id in 0..16 {
        solo.request(from, id * 2, 100);
    }
    let received = solo.data(from, 1000, 100, (0, 100));
    assert_eq!(received, Received::Dropped(DropReason::Limit));
}

#[test]
fn a_client_refused_at_a_limit_is_told_that_nothing_was_executed() {
    let mut net = Net::new(&Config::default().with(|config| config.fixed.finished_max = 16), 2);
    net.hosts[1].service = Service::Hold;
    let rpcs: Vec<_> = (0..17).map(|_| net.call(0, 1, 100)).collect();
    net.run(10);
    let failed: Vec<_> = rpcs.iter().filter_map(|rpc| net.failure(0, *rpc)).collect();
    assert_eq!(failed, [FailReason::Overloaded]);
    assert_eq!(net.hosts[1].arrived.len(), 16);
}

/// A call to a server whose incarnation the client knows.
fn known(net: &mut Net) {
    net.call(0, 1, 100);
    net.run(10);
    net.call(0, 1, 100);
    net.run(10);
    net.hosts[0].log.clear();
}

#[test]
fn a_request_first_sent_after_the_server_restarted_is_simply_sent_again() {
    let config = Config::default();
    let mut net = Net::new(&config, 2);
    known(&mut net);
    net.restart(1, &config, 555);
    net.run(1000);
    let rpc = net.call(0, 1, 5000);
    net.run(100);
    assert!(net.answered(0, rpc), "{:?}", net.failure(0, rpc));
    assert_eq!(net.hosts[1].arrived.len(), 1);
    assert_eq!(net.hosts[1].engine.stats().stale_incarnations, 4, "one per packet");
}

#[test]
fn a_request_that_the_former_incarnation_may_have_executed_is_not_repeated() {
    let config = Config::default();
    let mut net = Net::new(&config, 2);
    known(&mut net);
    net.hosts[1].service = Service::Reply(100);
    net.lose = Box::new(|from, _| from == 1);
    let rpc = net.call(0, 1, 100);
    net.run(3);
    net.restart(1, &config, 555);
    net.lose = Box::new(|_, _| false);
    net.run(200);
    let failure = net.failure(0, rpc);
    assert!(
        matches!(failure, Some(FailReason::Restarted | FailReason::Forgotten)) || failure.is_none(),
        "{failure:?}"
    );
    assert_eq!(net.hosts[1].arrived.len(), 0, "the new incarnation must not execute it");
    assert!(failure.is_some(), "and the client is told");
}

#[test]
fn restarted_names_the_age_and_decides_by_it() {
    let cases = [(100, 50_000, false), (100, 100_001, true), (0, 1, true), (0, 0, false)];
    for (sent_before_ms, age_us, repeated) in cases {
        let mut solo = Solo::new(Config::default());
        let server = address(9, 900);
        let (rpc, id, _) = solo.called(server, 100);
        solo.advance(sent_before_ms);
        let _ = solo.control(server, id, Body::RpcUnknown, Reason::Restarted, age_us);
        let again = solo.drain().iter().filter(|sent| sent.is_data()).count();
        solo.events();
        let case = (sent_before_ms, age_us);
        assert_eq!(again == 1, repeated, "{case:?}");
        let failure = solo.failure(rpc);
        assert_eq!(failure, (!repeated).then_some(FailReason::Restarted), "{case:?}");
    }
}

#[test]
fn what_a_former_incarnation_did_not_execute_the_next_one_may_have() {
    for reason in [Reason::NotExecuted, Reason::NoService, Reason::Overloaded] {
        let mut solo = Solo::new(Config::default());
        let server = address(9, 900);
        let refusal = |solo: &Solo, incarnation, reason| Header {
            common: Common::control(server.port(), PORT, 0).with_native_profile(incarnation),
            body: Body::RpcUnknown,
            extension: Some(Extension { echo: solo.ours(server), reason, value: 0 }),
        };
        let (rpc, id, _) = solo.called(server, 100);
        let mut never_seen = refusal(&solo, 555, Reason::NeverSeen);
        never_seen.common.sender_id = id;
        let _ = solo.header(server, &never_seen, 0);
        assert!(solo.drain().iter().any(Sent::is_data), "sent again, to the one that lives now");
        let mut late = refusal(&solo, 444, reason);
        late.common.sender_id = id;
        let _ = solo.header(server, &late, 0);
        solo.events();
        assert_eq!(solo.failure(rpc), Some(FailReason::ServiceGone), "{reason:?}");
    }
}

#[test]
fn a_call_right_after_a_restart_is_answered() {
    let config = Config::default();
    for since_restart_us in [50, 100, 500, 1000, 5000] {
        let mut net = Net::new(&config, 2);
        known(&mut net);
        net.restart(1, &config, 555);
        net.now_ns += since_restart_us * 1000;
        let rpc = net.call(0, 1, 100);
        net.run(20);
        assert!(net.answered(0, rpc), "after {since_restart_us} us: {:?}", net.failure(0, rpc));
    }
}

#[test]
fn an_old_server_says_that_it_is_as_old_as_can_be_said() {
    let mut solo = Solo::new(Config::default());
    let from = address(9, 900);
    for (seconds, age_us) in [(0, 0), (4000, 4_000_000_000), (1000, u32::MAX)] {
        solo.advance(seconds * 1000);
        let mut header = solo.data_header(from, 1000, 100, 0);
        let Body::Data(data) = &mut header.body else { unreachable!() };
        data.echo ^= 1;
        let _ = solo.header(from, &header, 100);
        let sent = solo.drain();
        assert_eq!(sent[0].unknown(), Some(Reason::Restarted));
        assert_eq!(sent[0].header.extension.unwrap().value, age_us);
    }
}

#[test]
fn a_request_that_names_no_incarnation_is_taken_by_any() {
    let mut solo = Solo::new(Config::default());
    let from = address(9, 900);
    let mut header = solo.data_header(from, 1000, 100, 0);
    for (echo, taken) in [(0, true), (solo.ours(from), true), (solo.ours(from) ^ 1, false)] {
        let Body::Data(data) = &mut header.body else { unreachable!() };
        data.echo = echo;
        header.common.sender_id += 2;
        let received = solo.header(from, &header, 100);
        assert_eq!(matches!(received, Received::Place(_)), taken, "{echo:x}: {received:?}");
        solo.events();
    }
    assert_eq!(solo.engine.stats().stale_incarnations, 1);
}

#[test]
fn a_client_that_restarts_on_its_port_is_served_anew() {
    let config = Config::default();
    let mut net = Net::new(&config, 2);
    known(&mut net);
    net.restart(0, &config, 999);
    let rpc = net.call(0, 1, 100_000);
    net.run(100);
    assert!(net.answered(0, rpc));
    net.run(3000);
    net.assert_quiet();
}

#[test]
fn packets_duplicated_and_late_never_execute_twice() {
    let mut solo = Solo::new(Config::default());
    let from = address(9, 900);
    let mut state = 7u64;
    let mut random = move |below: u64| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    for _ in 0..20_000 {
        let id = random(40) * 2;
        match random(8) {
            0 => {
                let _ = solo.control(from, id, Body::Ack(Ack::default()), Reason::None, 0);
            }
            1 => {
                let body = Body::Resend(Resend { offset: 0, length: RESEND_ALL, priority: 7 });
                let _ = solo.control(from, id, body, Reason::None, 0);
            }
            2 => drop(solo.advance_ns(10_000)),
            _ => {
                let start = random(4) as u32 * 1000;
                let _ = solo.data(from, id, 4000, (start, start + 1000));
            }
        }
        for event in solo.events() {
            if let Event::RequestArrived { rpc, .. } = event {
                solo.answer(rpc, 100);
            }
        }
    }
    assert!(solo.now_ns < 1_000 * MS + 1900 * MS, "within the memory");
    assert_eq!(arrivals(&solo), 40);
}

#[test]
fn a_request_finished_long_after_it_was_sent_is_recognised_although_younger_ones_came_since() {
    let mut solo = Solo::new(Config::default());
    let from = address(9, 900);
    let slow = solo.request(from, 2, 100);
    for id in (4..400).step_by(2) {
        let rpc = solo.request(from, id, 100);
        solo.answer(rpc, 100);
        solo.advance(50);
    }
    solo.answer(slow, 100);
    let _ = solo.control(from, 2, Body::Ack(Ack::default()), Reason::None, 0);
    solo.events();
    assert!(solo.ended(slow));
    assert_eq!(solo.data(from, 2, 100, (0, 100)), Received::Dropped(DropReason::Duplicate));
    assert_eq!(solo.engine.stats().finished_hits, 1);
}

/// The driver looks for packets and finds none: what came before has been read.
fn look(solo: &mut Solo) {
    solo.engine.handle_timeout(solo.now(), true);
}

/// The process is stopped; what comes meanwhile lies in its socket.
fn stop(solo: &mut Solo, ms: u64) {
    solo.now_ns += ms * MS;
}

#[test]
fn a_copy_that_lay_unread_while_an_idle_server_was_stopped_is_recognised() {
    let mut solo = Solo::new(Config::default());
    let from = address(9, 900);
    let rpc = solo.request(from, 1000, 100);
    solo.answer(rpc, 100);
    let _ = solo.control(from, 1000, Body::Ack(Ack::default()), Reason::None, 0);
    solo.advance(100);
    assert_eq!(solo.engine.poll_timeout(), None, "no timer that could be late");
    stop(&mut solo, 10_000);
    assert_eq!(solo.data(from, 1000, 100, (0, 100)), Received::Dropped(DropReason::Duplicate));
    assert_eq!(arrivals(&solo), 1);
}

#[test]
fn a_request_finished_right_after_the_server_was_stopped_is_remembered_for_its_time() {
    let mut solo = Solo::new(Config::default());
    let from = address(9, 900);
    stop(&mut solo, 10_000);
    let rpc = solo.request(from, 1000, 100);
    solo.answer(rpc, 100);
    let _ = solo.control(from, 1000, Body::Ack(Ack::default()), Reason::None, 0);
    look(&mut solo);
    solo.advance(1000);
    look(&mut solo);
    assert_eq!(solo.data(from, 1000, 100, (0, 100)), Received::Dropped(DropReason::Duplicate));
}

#[test]
fn a_newest_request_is_not_believed_sooner_because_the_server_was_stopped() {
    let mut solo = Solo::new(Config::default());
    let from = address(9, 900);
    let request = |solo: &mut Solo, id: u64, incarnation: u32| {
        let mut header = solo.data_header(from, id, 100, 0);
        header.common.incarnation = incarnation;
        let received = solo.header(from, &header, 100);
        for event in solo.events() {
            if let Event::RequestArrived { rpc, .. } = event {
                solo.answer(rpc, 100);
                solo.engine.abort(solo.now(), rpc, FailReason::Aborted).unwrap();
            }
        }
        received
    };
    // Of two requests the younger comes first; a packet of another incarnation makes the server
    // count anew from the older one.
    let _ = request(&mut solo, 1002, THEIRS);
    let _ = request(&mut solo, 7000, THEIRS + 1);
    let _ = request(&mut solo, 1000, THEIRS);
    stop(&mut solo, 10_000);
    assert_eq!(request(&mut solo, 1002, THEIRS), Received::Dropped(DropReason::Duplicate));
    assert_eq!(arrivals(&solo), 3);
}

#[test]
fn a_request_is_repeated_only_while_its_copy_can_arrive_within_the_memory() {
    for (age_ms, repeated) in [(999, true), (1000, false)] {
        let config =
            Config::default().with(|config| config.recovery.timeout = Duration::from_secs(10));
        let mut solo = Solo::new(config);
        let server = address(9, 900);
        let (rpc, id, _) = solo.called(server, 100);
        solo.advance(age_ms);
        let _ = solo.control(server, id, Body::RpcUnknown, Reason::NeverSeen, 100_000_000);
        let again = solo.drain().iter().filter(|sent| sent.is_data()).count();
        solo.events();
        assert_eq!(again == 1, repeated, "{age_ms}");
        assert_eq!(solo.failure(rpc), (!repeated).then_some(FailReason::Forgotten), "{age_ms}");
    }
}

/// A RESEND for all of a request reaches its client, who was stopped for `ms` just before. Returns
/// how many packets of DATA that brings, and how many another brings when all packets have been
/// read.
fn retransmitted_after_a_stop(ms: u64) -> [usize; 2] {
    let mut solo = Solo::new(Config::default());
    let server = address(9, 900);
    let (_, id, _) = solo.called(server, 100);
    solo.now_ns += ms * MS;
    let resend = Body::Resend(Resend { offset: 0, length: RESEND_ALL, priority: 0 });
    let data = |sent: Vec<Sent>| sent.iter().filter(|sent| sent.data().is_some()).count();
    let _ = solo.control(server, id | 1, resend, Reason::None, 0);
    let unread = data(solo.drain());
    solo.engine.handle_timeout(solo.now(), true);
    solo.drain();
    solo.advance(10);
    let _ = solo.control(server, id | 1, resend, Reason::None, 0);
    [unread, data(solo.drain())]
}

#[test]
fn a_resend_that_may_have_lain_unread_during_a_stop_brings_no_request_again() {
    assert_eq!(retransmitted_after_a_stop(5_000), [0, 1]);
    assert_eq!(retransmitted_after_a_stop(600), [0, 1]);
    assert_eq!(retransmitted_after_a_stop(300)[0], 1, "the server remembers for longer");
}

#[test]
fn a_request_that_was_to_be_sent_again_before_a_stop_is_not_sent_after_it() {
    let resend = Body::Resend(Resend { offset: 0, length: RESEND_ALL, priority: 0 });
    for (ms, retransmitted) in [(5_000, 0), (300, 1)] {
        let mut solo = Solo::new(Config::default());
        let server = address(9, 900);
        let (_, id, _) = solo.called(server, 100);
        let _ = solo.control(server, id | 1, resend, Reason::None, 0);
        solo.now_ns += ms * MS;
        solo.engine.handle_timeout(solo.now(), true);
        let data = |sent: &[Sent]| sent.iter().filter(|sent| sent.data().is_some()).count();
        assert_eq!(data(&solo.drain()), retransmitted, "{ms} ms");
        let _ = solo.control(server, id | 1, resend, Reason::None, 0);
        assert_eq!(data(&solo.drain()), 1, "who asks afterwards gets it");
    }
}
