//! Every call ends, and waiting costs nothing: silence, clocks, probes of peers, restarts.

use std::time::Duration;

use crate::harness::*;
use homa_core::{Config, FailReason, Instant, PortOptions, RequestOptions, Urgency, WakeReason};
use homa_wire::{Body, Reason};

/// Packets and wake-ups of both hosts in ten seconds during which `calls` requests are in service.
fn cost_of_waiting(calls: usize) -> (u64, u64) {
    let mut net =
        Net::new(&Config::default().with(|config| config.fixed.control_queue_max = u16::MAX), 2);
    net.hosts[1].service = Service::Hold;
    for _ in 0..calls {
        net.call(0, 1, 100);
    }
    net.run(3000);
    assert_eq!(net.hosts[1].arrived.len(), calls);
    let before = (net.carried, net.hosts[0].wakeups + net.hosts[1].wakeups);
    net.run(10_000);
    assert_eq!(net.hosts[0].engine.stats().live_rpcs, calls as u64);
    assert_eq!(net.hosts[0].engine.stats().calls_failed, 0);
    (net.carried - before.0, net.hosts[0].wakeups + net.hosts[1].wakeups - before.1)
}

#[test]
fn a_hundred_thousand_waiting_calls_cost_as_much_as_ten() {
    let few = cost_of_waiting(10);
    let many = cost_of_waiting(100_000);
    assert_eq!(few, many, "packets and wake-ups in ten seconds");
    assert!(few.0 <= 30, "about one exchange per second: {few:?}");
    assert!(few.1 <= 60, "{few:?}");
}

#[test]
fn calls_that_wait_at_a_dead_server_end_within_the_timeout_of_the_next_probe() {
    let mut net = Net::new(&Config::default(), 2);
    net.hosts[1].service = Service::Hold;
    let rpcs: Vec<_> = (0..5000).map(|_| net.call(0, 1, 100)).collect();
    net.run(5000);
    net.lose = Box::new(|_, _| true);
    net.run(2200);
    for rpc in rpcs {
        assert_eq!(net.failure(0, rpc), Some(FailReason::Timeout));
    }
    let stats = net.hosts[0].engine.stats();
    assert_eq!((stats.live_rpcs, stats.peer_timeouts), (0, 1));
    net.run(1000);
    assert_eq!(
        net.hosts[0].engine.poll_timeout(),
        None,
        "{:?}",
        net.hosts[0].engine.poll_timeout()
    );
}

#[test]
fn calls_that_wait_end_soon_after_their_server_restarted() {
    let config = Config::default();
    let mut net = Net::new(&config, 2);
    net.hosts[1].service = Service::Hold;
    let rpcs: Vec<_> = (0..2000).map(|_| net.call(0, 1, 100)).collect();
    net.run(5000);
    net.restart(1, &config, 4711);
    net.run(2000);
    for rpc in rpcs {
        assert_eq!(net.failure(0, rpc), Some(FailReason::Restarted), "{rpc:?}");
    }
    assert_eq!(net.hosts[1].arrived.len(), 0, "none is executed again");
}

#[test]
fn a_call_from_a_second_port_is_watched_too() {
    let config = Config::default();
    let mut net = Net::new(&config, 2);
    net.hosts[1].service = Service::Hold;
    let port = net.hosts[0].address.port();
    let mut solo = Solo::new(config);
    solo.engine.bind_port(5000, PortOptions::CLIENT).unwrap();
    let server = net.hosts[1].address;
    let _ = (port, &mut net);
    let first = solo.called(server, 100);
    let now = solo.now();
    let second = path(5000, server);
    solo.engine.send_request(now, second, 100, 1, RequestOptions::default()).unwrap();
    let sent = solo.drain();
    let second_id = sent[0].header.common.sender_id;
    let busy = |solo: &mut Solo, port: u16, id: u64| {
        let common =
            homa_wire::Common::control(server.port(), port, id).with_native_profile(THEIRS);
        let extension =
            Some(homa_wire::Extension { echo: solo.ours(server), reason: Reason::None, value: 0 });
        let header = homa_wire::Header { common, body: Body::Busy, extension };
        let mut bytes = [0; 96];
        let written = header.encode(&mut bytes).unwrap();
        let meta = homa_core::RxMeta::new(path(port, server));
        let now = solo.now();
        let _ = solo.engine.handle_packet(now, &meta, &bytes[..written], written as u32);
    };
    busy(&mut solo, PORT, first.1);
    busy(&mut solo, 5000, second_id | 1);
    let mut probed = Vec::new();
    for _ in 0..200 {
        for sent in solo.advance(10) {
            if sent.is(&Body::NeedAck) {
                let (port, id) = (sent.path.local_port, sent.header.common.sender_id);
                probed.push((port, id));
                busy(&mut solo, port, id | 1);
            }
        }
    }
    assert!(probed.contains(&(PORT, first.1 & !1)), "{probed:?}");
    assert!(
        probed.contains(&(5000, second_id)),
        "the probe comes from the port of its RPC: {probed:?}"
    );
    assert!(probed.len() < 20, "with back-off: {probed:?}");
}

#[test]
fn one_overtaken_never_seen_does_not_end_a_call_in_service() {
    let mut solo = Solo::new(Config::default());
    let server = address(9, 900);
    let (rpc, id, _) = solo.called(server, 100);
    let _ = solo.control(server, id, Body::Busy, Reason::None, 0);
    for _ in 0..40 {
        for sent in solo.advance(100) {
            if sent.is(&Body::NeedAck) {
                let _ = solo.control(address(9, 900), 1, Body::Busy, Reason::None, 0);
            }
        }
    }
    let _ = solo.control(server, id, Body::RpcUnknown, Reason::NeverSeen, 0);
    solo.events();
    assert!(solo.drain().iter().all(|sent| !sent.is_data()), "it is not executed a second time");
    let asked = solo.advance(6).iter().filter(|sent| sent.resend().is_some()).count();
    assert_eq!((asked, solo.failure(rpc)), (1, None), "the server is asked again");
    let _ = solo.control(server, id, Body::Busy, Reason::None, 0);
    solo.advance(500);
    assert_eq!(solo.failure(rpc), None);
}

#[test]
fn a_server_that_forgot_a_request_it_had_ends_the_call() {
    let mut solo = Solo::new(Config::default());
    let server = address(9, 900);
    let (rpc, id, _) = solo.called(server, 100);
    let _ = solo.control(server, id, Body::Busy, Reason::None, 0);
    for _ in 0..3 {
        let _ = solo.control(server, id, Body::RpcUnknown, Reason::NeverSeen, 0);
        solo.advance(6);
    }
    assert_eq!(solo.failure(rpc), Some(FailReason::Forgotten));
}

#[test]
fn nothing_is_asked_again_or_given_up_while_packets_wait_unread() {
    let mut solo = Solo::new(Config::default());
    let deadline = Some(solo.now() + Duration::from_millis(50));
    let options = RequestOptions { deadline, ..Default::default() };
    let rpc = solo.call_with(address(9, 900), 100, options).unwrap();
    let request = solo.request(address(8, 900), 10, 100);
    solo.answer(request, 100);
    solo.drain();
    for _ in 0..10_000 {
        solo.now_ns += MS;
        solo.engine.handle_timeout(solo.now(), false);
        solo.events();
        assert!(solo.drain().is_empty());
    }
    assert_eq!(solo.failure(rpc), None);
    assert!(!solo.ended(request));
    assert_eq!(solo.engine.stats().clock_jumps, 0, "a busy driver is no jump of the clock");
    solo.engine.handle_timeout(solo.now(), true);
    solo.events();
    assert_eq!(solo.failure(rpc), Some(FailReason::DeadlineExceeded { sent: true }));
}

#[test]
fn a_stopped_process_does_not_take_its_own_silence_for_that_of_others() {
    let mut solo = Solo::new(Config::default());
    let server = address(9, 900);
    let (rpc, id, _) = solo.called(server, 100);
    solo.advance(10);
    solo.now_ns += 3000 * MS;
    solo.engine.handle_timeout(solo.now(), true);
    solo.events();
    assert_eq!(solo.failure(rpc), None);
    assert_eq!(solo.engine.stats().clock_jumps, 1);
    solo.advance(900);
    assert_eq!(solo.failure(rpc), None, "the whole timeout runs again");
    let _ = solo.data(server, id, 100, (0, 100));
    solo.advance(500);
    assert_eq!(solo.failure(rpc), None);
}

#[test]
fn an_engine_that_slept_until_its_timer_has_not_jumped() {
    let mut solo = Solo::new(Config::default());
    let (rpc, _, _) = solo.called(address(9, 900), 100);
    solo.advance(1001);
    assert_eq!(solo.engine.stats().clock_jumps, 0);
    assert_eq!(solo.failure(rpc), Some(FailReason::Timeout));
}

#[test]
fn a_process_stopped_for_300_ms_loses_no_call_on_either_side() {
    for side in [0, 1] {
        let mut net = Net::new(&Config::default(), 2);
        net.hosts[1].service = Service::Reply(100_000);
        let rpcs: Vec<_> = (0..20).map(|_| net.call(0, 1, 100_000)).collect();
        net.run(0);
        net.hosts[side].stopped = true;
        net.run(300);
        net.hosts[side].stopped = false;
        net.run(3000);
        for rpc in rpcs {
            assert!(net.answered(0, rpc), "{side}: {:?}", net.failure(0, rpc));
        }
        assert_eq!(net.hosts[1].arrived.len(), 20);
        net.run(3000);
        net.assert_quiet();
    }
}

#[test]
fn a_partition_that_heals_in_time_costs_no_call_and_one_that_does_not_ends_all() {
    for (cut_ms, survives) in [(500, true), (2500, false)] {
        for one_way in [None, Some(0), Some(1)] {
            let mut net = Net::new(&Config::default(), 2);
            net.hosts[1].service = Service::Reply(200_000);
            let rpcs: Vec<_> = (0..10).map(|_| net.call(0, 1, 50_000)).collect();
            net.lose = Box::new(move |from, _| one_way.is_none_or(|side| side == from));
            net.run(cut_ms);
            net.lose = Box::new(|_, _| false);
            net.run(10_000);
            for rpc in rpcs {
                let answered = net.answered(0, rpc);
                assert!(answered || net.failure(0, rpc).is_some(), "every call ends");
                assert!(answered || !survives, "{cut_ms} {one_way:?} {:?}", net.failure(0, rpc));
            }
            assert!(net.hosts[1].arrived.len() <= 10);
            net.assert_quiet();
        }
    }
}

#[test]
fn an_unsent_call_to_a_silent_peer_ends_with_those_before_it() {
    let config = Config::default().with(|config| config.unscheduled.in_flight_max_bytes = 5000);
    let mut net = Net::new(&config, 2);
    net.lose = Box::new(|_, _| true);
    let rpcs: Vec<_> = (0..50).map(|_| net.call(0, 1, 3000)).collect();
    net.run(2500);
    for rpc in rpcs {
        assert_eq!(net.failure(0, rpc), Some(FailReason::Timeout));
    }
    assert_eq!(net.hosts[0].engine.stats().live_rpcs, 0);
}

#[test]
fn probes_of_a_silent_peer_are_few() {
    let config = Config::default().with(|config| config.unscheduled.in_flight_max_bytes = 5000);
    let mut solo = Solo::new(config);
    for _ in 0..1000 {
        solo.call(address(9, 900), 3000);
    }
    let sent = solo.advance(990);
    let probes = sent.iter().filter(|sent| sent.is(&Body::NeedAck)).count();
    let resends = sent.iter().filter(|sent| sent.resend().is_some()).count();
    assert!(probes <= 30 && resends <= 60, "{probes} probes, {resends} RESENDs");
}

#[test]
fn the_engine_says_when_and_why_it_wants_to_be_woken() {
    let mut solo = Solo::new(Config::default());
    assert_eq!(solo.engine.poll_timeout(), None);
    assert_eq!(solo.engine.urgency(), Urgency::Quiescent);
    let rpc = solo.call(address(9, 900), 100);
    assert!(matches!(solo.engine.poll_timeout(), Some((_, WakeReason::Transmit))));
    assert_eq!(solo.engine.urgency(), Urgency::Active);
    solo.drain();
    let at = Instant::from_nanos(solo.now_ns + 5 * MS);
    assert_eq!(solo.engine.poll_timeout(), Some((at, WakeReason::Rpc)));
    assert_eq!(solo.engine.urgency(), Urgency::Lazy(at));
    let wakeups = solo.wakeups;
    for _ in 0..100 {
        solo.engine.handle_timeout(solo.now(), true);
        assert!(solo.drain().is_empty(), "early calls are harmless");
    }
    solo.advance(4);
    assert_eq!(solo.wakeups, wakeups);
    assert_eq!(solo.failure(rpc), None);
}

// Scenario: T2
#[test]
fn a_peers_own_timeout_counts() {
    let mut solo = Solo::new(Config::default());
    let server = address(9, 900);
    let settings = homa_core::PeerSettings::default()
        .with(|settings| settings.timeout = Some(Duration::from_millis(100)));
    let now = solo.now();
    assert!(solo.engine.set_peer(now, path(PORT, server), settings));
    let (impatient, _, _) = solo.called(server, 100);
    let (patient, _, _) = solo.called(address(8, 900), 100);
    solo.advance(101);
    assert_eq!(solo.failure(impatient), Some(FailReason::Timeout));
    assert_eq!(solo.failure(patient), None);
}
