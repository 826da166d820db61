//! What is given up and when: by a server for clients that never acknowledge, by a client after a
//! pause, by an engine that is always driven late. And what must not go on: a message of two
//! incarnations, a request that another incarnation may have executed.

use std::cell::Cell;
use std::rc::Rc;

use crate::harness::*;
use homa_core::{Config, DropReason, Event, FailReason, IcmpKind, Received, RpcKey};
use homa_wire::{Ack, Body, Grant, Reason, Resend};

/// A server with `count` responses of `length` bytes to one client, each asked for with a packet.
fn keeps(count: u64, length: u32) -> (Solo, Vec<RpcKey>) {
    let mut solo = Solo::new(Config::default());
    let client = address(66, 6);
    let rpcs = (0..count).map(|number| {
        let rpc = solo.request(client, 2 * number, 10);
        solo.engine.consumed(solo.now(), rpc, 10).unwrap();
        solo.answer(rpc, length);
        rpc
    });
    let rpcs = rpcs.collect();
    (solo, rpcs)
}

fn kept(solo: &Solo, rpcs: &[RpcKey]) -> usize {
    rpcs.iter().filter(|rpc| !solo.ended(**rpc)).count()
}

#[test]
fn responses_are_not_kept_for_a_client_that_shows_life_but_takes_nothing() {
    let (mut solo, rpcs) = keeps(50, 1_000_000);
    for _ in 0..12 {
        // About an RPC that does not exist.
        let _ = solo.control(address(66, 6), 4000, Body::Busy, Reason::None, 0);
        solo.advance(1000);
    }
    assert_eq!(kept(&solo, &rpcs), 0);
    assert_eq!(solo.engine.stats().responses_abandoned, 50);
}

#[test]
fn a_resend_for_nothing_new_does_not_keep_a_response() {
    let (mut solo, rpcs) = keeps(3, 30_000);
    for _ in 0..8 {
        for number in 0..3 {
            let nothing = Resend { offset: 29_999, length: 0, priority: 0 };
            let _ =
                solo.control(address(66, 6), 2 * number, Body::Resend(nothing), Reason::None, 0);
        }
        solo.advance(1000);
    }
    assert_eq!(kept(&solo, &rpcs), 0);
}

#[test]
fn responses_that_wait_behind_others_are_kept_while_their_client_takes_those() {
    let (mut solo, rpcs) = keeps(8, 1_000_000);
    let client = address(66, 6);
    for number in 0..8 {
        for third in 1..=3 {
            for sent in solo.advance(1000) {
                if matches!(sent.header.body, Body::NeedAck) {
                    let id = sent.header.common.sender_id & !1;
                    let _ = solo.control(client, id, Body::Busy, Reason::None, 0);
                }
            }
            let upto = 1_000_000 / 3 * third;
            let grant = Body::Grant(Grant { offset: upto, priority: 0 });
            let _ = solo.control(client, 2 * number, grant, Reason::None, upto);
            solo.drain();
        }
        let _ = solo.control(client, 2 * number, Body::Ack(Ack::default()), Reason::None, 0);
        solo.events();
        assert_eq!(kept(&solo, &rpcs), 7 - number as usize, "none but those it has are over");
    }
}

#[test]
fn after_a_pause_in_which_the_server_gave_up_all_calls_end_within_seconds() {
    for (calls, stopped_s) in [(1000, 4), (5000, 8), (3000, 11)] {
        let mut net = Net::new(&Config::default(), 2);
        net.hosts[1].service = Service::Hold;
        let (stopped, room) = (Rc::new(Cell::new(false)), Rc::new(Cell::new(256u32)));
        let (overflows, left) = (stopped.clone(), room.clone());
        // What the client's socket holds while its process is stopped.
        net.lose = Box::new(move |from, _| {
            let lost = from == 1 && overflows.get() && left.get() == 0;
            left.set(left.get().saturating_sub(u32::from(from == 1 && overflows.get())));
            lost
        });
        let rpcs: Vec<_> = (0..calls).map(|_| net.call(0, 1, 20)).collect();
        net.run(500);
        net.hosts[0].stopped = true;
        stopped.set(true);
        for rpc in net.hosts[1].arrived.clone() {
            net.answer(1, rpc, 20);
        }
        net.run(stopped_s * 1000);
        net.hosts[0].stopped = false;
        stopped.set(false);
        net.run(10_000);
        let over = |rpc: &&RpcKey| net.answered(0, **rpc) || net.failure(0, **rpc).is_some();
        assert_eq!(rpcs.iter().filter(over).count(), calls, "{calls} calls, {stopped_s} s");
    }
}

#[test]
fn a_call_that_the_server_lost_has_all_others_checked_without_a_pause() {
    let mut net = Net::new(&Config::default(), 2);
    net.hosts[1].service = Service::Hold;
    let rpcs: Vec<_> = (0..200).map(|_| net.call(0, 1, 20)).collect();
    net.run(3000);
    // The server loses some of them, and its words about it.
    net.lose = Box::new(|from, _| from == 1);
    let now = net.now();
    for rpc in net.hosts[1].arrived.clone().iter().step_by(2) {
        let _ = net.hosts[1].engine.abort(now, *rpc, FailReason::Aborted);
    }
    net.run(700);
    net.lose = Box::new(|_, _| false);
    net.run(4000);
    let over = rpcs.iter().filter(|rpc| net.failure(0, **rpc).is_some()).count();
    assert!(over >= 100, "{over}");
}

#[test]
fn an_engine_that_is_always_driven_late_asks_and_gives_up_all_the_same() {
    let mut solo = Solo::new(Config::default());
    let (rpc, _, _) = solo.called(address(9, 900), 100);
    let mut sent = 0;
    for _ in 0..500 {
        solo.now_ns += 40 * MS;
        solo.engine.handle_timeout(solo.now(), true);
        sent += solo.drain().len();
        solo.events();
    }
    assert!(sent > 0);
    assert_eq!(solo.failure(rpc), Some(FailReason::Timeout));
}

#[test]
fn a_closed_port_ends_any_number_of_calls_a_part_per_turn() {
    let mut solo = Solo::new(Config::default());
    let server = address(9, 900);
    let (_, id, sent) = solo.called(server, 20);
    let rpcs: Vec<_> = (0..5000).map(|_| solo.call(server, 20)).collect();
    solo.drain();
    let quoted = sent.iter().find(|sent| sent.header.common.sender_id | 1 == id).unwrap();
    let now = solo.now();
    let way = path(PORT, server);
    solo.engine.icmp_error(now, IcmpKind::PortUnreachable, way, &quoted.bytes);
    let at_once = solo.engine.stats().calls_failed;
    assert!((1..2000).contains(&at_once), "a turn stays short: {at_once}");
    solo.advance(1);
    assert!(rpcs.iter().all(|rpc| solo.failure(*rpc) == Some(FailReason::NoService)));
}

#[test]
fn an_aborted_call_is_not_told_of_its_response() {
    let mut solo = Solo::new(Config::default());
    let server = address(9, 900);
    let (rpc, id, _) = solo.called(server, 100);
    let _ = solo.data(server, id, 100, (0, 100));
    solo.engine.abort(solo.now(), rpc, FailReason::Aborted).unwrap();
    let events = solo.events();
    let arrived = |event: &Event| matches!(event, Event::ResponseArrived { .. });
    assert!(!events.iter().any(arrived), "{events:?}");
    assert!(solo.ended(rpc));
}

/// Cancels calls that wait for room in part, then calls ten times; returns how many were answered.
fn answered_after_cancelled(unscheduled_bytes: u32, length: u32) -> usize {
    let config = Config::default().with(|config| config.unscheduled.bytes = unscheduled_bytes);
    let mut net = Net::new(&config, 2);
    net.call(0, 1, 100);
    net.run(5);
    for number in 0..60 {
        let mut rpcs: Vec<_> = (0..number % 3).map(|_| net.call(0, 1, 30_000)).collect();
        rpcs.push(net.call(0, 1, length));
        net.run(0);
        let (now, last) = (net.now(), rpcs[rpcs.len() - 1]);
        let _ = net.hosts[0].engine.abort(now, last, FailReason::Aborted);
        net.run(100);
    }
    let rpcs: Vec<_> = (0..10).map(|_| net.call(0, 1, 200_000)).collect();
    net.run(5_000);
    let probes = net.hosts[0].engine.stats().probes_sent;
    assert!(probes < 1_000, "{probes} probes");
    rpcs.iter().filter(|rpc| net.answered(0, **rpc)).count()
}

#[test]
fn cancelled_calls_leave_their_room_to_later_ones() {
    for unscheduled_bytes in [40_000, 60_000, 100_000, 200_000] {
        let answered = answered_after_cancelled(unscheduled_bytes, 500_000);
        assert_eq!(answered, 10, "{unscheduled_bytes}");
    }
}

#[test]
fn who_waits_for_memory_and_is_not_heard_of_is_given_up() {
    let mut solo = Solo::new(Config::default().with(|config| {
        config.limits.max_message_bytes = 65_536;
        config.limits.receive_memory_bytes = 131_072;
    }));
    for id in [2, 4] {
        solo.request(address(8, 800), id, 60_000);
    }
    for id in 0..200 {
        let received = solo.data(address(9, 900), 2 * id, 60_000, (0, 1000));
        assert_eq!(received, Received::Dropped(DropReason::NoMemory));
    }
    // No memory comes free.
    solo.advance(5_000);
    solo.events();
    assert_eq!(solo.engine.stats().live_rpcs, 2);
}

#[test]
fn data_of_another_length_is_not_joined_to_a_message() {
    let mut solo = Solo::new(Config::default());
    let server = address(9, 900);
    let (rpc, id, _) = solo.called(server, 100);
    let _ = solo.data(server, id, 3000, (0, 1000));
    let received = solo.data(server, id, 2000, (1000, 2000));
    assert_eq!(received, Received::Dropped(DropReason::BadRange));
    let request = address(8, 800);
    let _ = solo.data(request, 40, 3000, (0, 1000));
    let received = solo.data(request, 40, 2000, (1000, 2000));
    assert_eq!(received, Received::Dropped(DropReason::BadRange));
    solo.advance(1200);
    assert_eq!(solo.failure(rpc), Some(FailReason::Timeout), "nothing of it came any more");
}

#[test]
fn a_response_of_two_incarnations_of_the_server_is_an_error() {
    let config = Config::default();
    let mut net = Net::new(&config, 2);
    net.hosts[1].service = Service::Reply(50_000);
    let known = net.call(0, 1, 10);
    net.run(10);
    assert!(net.answered(0, known));
    // The request is copied; the first incarnation answers in part, the second executes the copy.
    let copy = Rc::new(std::cell::RefCell::new(None));
    let (seen, data) = (copy.clone(), Cell::new(0));
    net.lose = Box::new(move |from, sent| {
        if from == 0 && sent.is_data() && seen.borrow().is_none() {
            *seen.borrow_mut() = Some(sent.clone());
        }
        data.set(data.get() + u32::from(from == 1 && sent.is_data()));
        from == 1 && sent.is_data() && data.get() > 5
    });
    let rpc = net.call(0, 1, 10);
    net.run(1);
    net.restart(1, &config, 4711);
    net.lose = Box::new(|_, _| false);
    net.run(3000);
    assert!(!net.answered(0, rpc));
    assert!(net.failure(0, rpc).is_some());
    assert!(copy.borrow().is_some());
}

#[test]
fn a_copy_that_lay_unread_while_the_process_was_stopped_is_not_executed() {
    let mut solo = Solo::new(Config::default());
    let client = address(8, 800);
    let rpc = solo.request(client, 2, 100);
    solo.answer(rpc, 100);
    let _ = solo.control(client, 2, Body::Ack(Ack::default()), Reason::None, 0);
    solo.events();
    solo.advance(5);
    solo.now_ns += 10_000 * MS;
    let received = solo.data(client, 2, 100, (0, 100));
    assert_eq!(received, Received::Dropped(DropReason::Duplicate));
}

#[test]
fn a_first_request_that_was_sent_before_its_server_began_to_live_is_not_repeated() {
    for (age_us, ends) in [(1_000, true), (30_000, false)] {
        let mut solo = Solo::new(Config::default());
        let server = address(9, 900);
        let (rpc, id, _) = solo.called(server, 100);
        solo.advance(3);
        let _ = solo.control(server, id, Body::RpcUnknown, Reason::NeverSeen, age_us);
        solo.events();
        let ended = solo.failure(rpc) == Some(FailReason::Restarted);
        assert_eq!(ended, ends, "alive for {age_us} us");
        assert_eq!(solo.drain().iter().any(Sent::is_data), !ends);
    }
}

#[test]
fn a_server_that_loses_one_call_after_the_other_is_sent_few_probes() {
    const CALLS: u64 = 2_000;
    let mut solo = Solo::new(Config::default());
    let server = address(9, 900);
    for _ in 0..CALLS {
        let (_, id, _) = solo.called(server, 20);
        let _ = solo.control(server, id, Body::Busy, Reason::None, 0);
    }
    let (mut asked, mut lost) = (0, 0);
    for _ in 0..50_000 {
        for sent in solo.advance_ns(100_000) {
            if !matches!(sent.header.body, Body::NeedAck) {
                continue;
            }
            asked += 1;
            let id = sent.header.common.local_id();
            if asked % (CALLS / 2) == 1 {
                lost += 1;
                let _ = solo.control(server, id, Body::RpcUnknown, Reason::Finished, 0);
            } else {
                let _ = solo.control(server, id, Body::Busy, Reason::None, 0);
            }
        }
    }
    assert!(lost > 2 && asked < 15 * CALLS, "{asked} RESENDs in 5 s, {lost} calls lost");
}

#[test]
fn a_server_that_says_again_and_again_that_it_saw_nothing_is_not_sent_everything_each_time() {
    let mut solo = Solo::new(Config::default());
    let server = address(9, 900);
    let (_, id, _) = solo.called(server, 1_000_000);
    let all = Grant { offset: 1_000_000, priority: 7 };
    let _ = solo.control(server, id, Body::Grant(all), Reason::None, 0);
    solo.drain();
    let mut sent_bytes = 0;
    for _ in 0..1_000 {
        let _ = solo.control(server, id, Body::RpcUnknown, Reason::NeverSeen, 0);
        sent_bytes += solo.advance(1).iter().map(|sent| u64::from(sent.wire_bytes)).sum::<u64>();
    }
    assert!((1_000_000..40_000_000).contains(&sent_bytes), "{sent_bytes} bytes in a second");
}
