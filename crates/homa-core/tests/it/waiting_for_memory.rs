//! Messages that wait for receive memory, where it holds one at a time.

use std::net::SocketAddr;
use std::time::Duration;

use crate::harness::*;
use homa_core::{Config, DropReason, FailReason, Received};
use homa_wire::{Body, Data, Reason};

/// Memory for the longest message, which is set aside for one at a time, and nothing else.
fn little_memory() -> Config {
    Config::default().with(|config| {
        config.limits.max_message_bytes = 65_536;
        config.limits.receive_memory_bytes = 65_536;
        config.unscheduled.bytes = 1_000;
        config.unscheduled.in_flight_max_bytes = 1_000;
    })
}

fn one_at_a_time() -> Solo {
    Solo::new(little_memory())
}

fn first() -> SocketAddr {
    address(9, 900)
}

fn second() -> SocketAddr {
    address(8, 800)
}

fn cancel(solo: &mut Solo, from: SocketAddr, id: u64) {
    let _ = solo.control(from, id, Body::RpcUnknown, Reason::Cancelled, 0);
    solo.events();
}

/// The first packet of a message of 60,000 bytes.
fn begin(solo: &mut Solo, from: SocketAddr, id: u64) -> Received {
    solo.data(from, id, 60_000, (0, 1000))
}

/// A packet that was sent again.
fn copy(solo: &mut Solo, from: SocketAddr, id: u64, range: (u32, u32)) -> Received {
    let mut header = solo.data_header(from, id, 60_000, range.0);
    let Body::Data(data) = &mut header.body else { unreachable!() };
    data.flags = Data::RETRANSMISSION;
    solo.header(from, &header, range.1 - range.0)
}

fn asked(sent: &[Sent], to: SocketAddr) -> Vec<(u32, u32)> {
    sent.iter().filter(|sent| sent.path.remote == to).filter_map(Sent::resend).collect()
}

#[test]
fn what_came_without_memory_is_asked_for_and_not_only_granted() {
    let mut solo = one_at_a_time();
    let _ = begin(&mut solo, first(), 2);
    for start in [0, 1000, 2000, 3000, 4000] {
        let received = solo.data(second(), 2, 60_000, (start, start + 1000));
        assert_eq!(received, Received::Dropped(DropReason::NoMemory));
    }
    solo.drain();
    cancel(&mut solo, first(), 2);
    assert_eq!(asked(&solo.drain(), second()), [(0, 1000), (1000, 4000)]);
    let _ = copy(&mut solo, second(), 2, (0, 1000));
    assert_eq!(asked(&solo.drain(), second()), [], "it is on its way");
}

#[test]
fn what_came_without_memory_is_asked_for_once_per_interval_by_whoever_it_was_sent() {
    let mut solo = Solo::new(little_memory().with(|config| config.grants.window_bytes = 2_000));
    let _ = begin(&mut solo, first(), 2);
    for start in (0..60).map(|number| number * 1000) {
        let _ = solo.data(second(), 2, 60_000, (start, start + 1000));
    }
    cancel(&mut solo, first(), 2);
    let mut questions = asked(&solo.drain(), second()).len();
    let mut grants = 0;
    for start in (0..20).map(|number| number * 1000) {
        let _ = copy(&mut solo, second(), 2, (start, start + 1000));
        let sent = solo.drain();
        grants += sent.iter().filter(|sent| matches!(sent.header.body, Body::Grant(_))).count();
        questions += asked(&sent, second()).len();
    }
    assert!(grants > 5 && questions <= 2, "{questions} RESENDs with {grants} GRANTs");
}

#[test]
fn a_message_that_others_wait_for_is_asked_for_soon_although_its_sender_is_slow() {
    for others_wait in [false, true] {
        let mut solo = one_at_a_time();
        let _ = begin(&mut solo, first(), 2);
        solo.advance(34);
        // It was asked for 14 ms ago.
        let _ = copy(&mut solo, first(), 2, (1000, 1100));
        solo.drain();
        if others_wait {
            let _ = begin(&mut solo, second(), 2);
        }
        let asked = asked(&solo.advance(10), first());
        assert_eq!(!asked.is_empty(), others_wait, "{asked:?}");
    }
}

#[test]
fn a_response_that_its_server_gave_up_is_found_out_while_it_waits() {
    let mut solo = one_at_a_time();
    let (rpc, id, _) = solo.called(second(), 100);
    let _ = begin(&mut solo, first(), 2);
    assert_eq!(begin(&mut solo, second(), id), Received::Dropped(DropReason::NoMemory));
    let mut answered = 0;
    for ms in 0..1_200 {
        // The first message moves and does not end.
        let _ = solo.data(first(), 2, 60_000, (1000 + 40 * ms, 1040 + 40 * ms));
        for _ in asked(&solo.advance(1), second()) {
            let _ = solo.control(second(), id, Body::RpcUnknown, Reason::NeverSeen, 1_000_000);
            answered += 1;
        }
    }
    assert_eq!(solo.failure(rpc), Some(FailReason::Forgotten));
    assert_eq!(answered, 4, "once after the timeout, and three times again");
}

#[test]
fn a_response_that_its_server_keeps_is_not_asked_about_while_it_waits() {
    let mut solo = one_at_a_time();
    let (rpc, id, _) = solo.called(second(), 100);
    let _ = begin(&mut solo, first(), 2);
    let _ = begin(&mut solo, second(), id);
    solo.drain();
    for start in (1000..31_000).step_by(1000) {
        let _ = solo.data(first(), 2, 60_000, (start, start + 1000));
        let _ = solo.control(second(), id, Body::NeedAck, Reason::None, 0);
        let sent = solo.advance(100);
        assert_eq!(asked(&sent, second()), []);
        assert!(sent.iter().any(|sent| sent.is(&Body::Busy)));
    }
    assert_eq!(solo.failure(rpc), None);
}

#[test]
fn a_response_of_which_a_part_came_and_that_is_forgotten_ends_soon_although_its_server_is_slow() {
    let mut solo = one_at_a_time();
    let (rpc, id, _) = solo.called(first(), 100);
    let _ = begin(&mut solo, first(), id);
    solo.advance(34);
    let _ = copy(&mut solo, first(), id, (1000, 1100));
    solo.drain();
    let begin_ns = solo.now_ns;
    while solo.failure(rpc).is_none() && solo.now_ns < begin_ns + 1_000 * MS {
        for _ in asked(&solo.advance(1), first()) {
            let _ = solo.control(first(), id, Body::RpcUnknown, Reason::NeverSeen, 1_000_000);
        }
    }
    assert_eq!(solo.failure(rpc), Some(FailReason::Forgotten));
    let took_ms = (solo.now_ns - begin_ns) / MS;
    assert!(
        took_ms < 28 + 20,
        "the time it is known to take, once, and three intervals: {took_ms}"
    );
}

#[test]
fn a_client_that_waits_is_asked_several_times_before_its_response_is_given_up() {
    let mut solo = Solo::new(Config::default().with(|config| {
        config.recovery.timeout = Duration::from_secs(4);
        config.responses.silence = Duration::from_millis(800);
    }));
    let rpc = solo.request(first(), 1000, 100);
    solo.answer(rpc, 100);
    let mut last_ns = solo.now_ns;
    for _ in 0..2_000 {
        if solo.advance(1).iter().any(|sent| sent.is(&Body::NeedAck)) {
            assert!(solo.now_ns - last_ns <= 101 * MS, "{}", solo.now_ns - last_ns);
            last_ns = solo.now_ns;
            let _ = solo.control(first(), 1000, Body::Busy, Reason::None, 0);
        }
    }
    assert!(!solo.ended(rpc));
}

#[test]
fn where_messages_are_short_no_more_is_set_aside_than_the_longest_takes() {
    let mut solo = Solo::new(Config::default().with(|config| {
        config.limits.max_message_bytes = 1_000;
        config.limits.receive_memory_bytes = 10_240;
        config.unscheduled.bytes = 100;
    }));
    let began = |id: u64| {
        let received = solo.data(first(), 2 * id, 1_000, (0, 100));
        matches!(received, Received::Place(_))
    };
    // 1,024 bytes each; messages this short are not counted to their host's share.
    assert_eq!((1..=12).map(began).filter(|began| *began).count(), 10);
}
