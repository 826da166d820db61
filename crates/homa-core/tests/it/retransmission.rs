//! What a receiver that asks, again and again, gets sent again, and what others get meanwhile.

use std::net::SocketAddr;

use crate::harness::*;
use homa_core::{Config, Event, ResponseOptions, RpcKey};
use homa_wire::{Body, Grant, Reason, Resend};

fn greedy() -> SocketAddr {
    address(66, 6)
}

fn ask(solo: &mut Solo, id: u64, offset: u32, length: u32) {
    let body = Body::Resend(Resend { offset, length, priority: 7 });
    let _ = solo.control(greedy(), id, body, Reason::None, 0);
}

/// A client that was sent all of an answer of `length` bytes to its request `id`.
fn answered(solo: &mut Solo, id: u64, length: u32) {
    let rpc = solo.request(greedy(), id, 10);
    let _ = solo.answer(rpc, length);
    let grant = Body::Grant(Grant { offset: length, priority: 7 });
    let _ = solo.control(greedy(), id, grant, Reason::None, 0);
    solo.drain();
}

/// An answer of 100 bytes to somebody else's request waits to be sent.
fn short_answer(solo: &mut Solo) -> RpcKey {
    let _ = solo.data(address(8, 800), 4, 10, (0, 10));
    let arrived = solo.events().into_iter().find_map(|event| match event {
        Event::RequestArrived { rpc, .. } => Some(rpc),
        _ => None,
    });
    let rpc = arrived.expect("it is complete");
    solo.engine.send_response(solo.now(), rpc, 100, ResponseOptions::default()).unwrap();
    rpc
}

fn copied(solo: &Solo) -> u64 {
    solo.engine.stats().bytes_retransmitted
}

#[test]
fn a_short_answer_goes_before_a_megabyte_that_is_sent_again() {
    let mut solo = Solo::new(Config::default());
    answered(&mut solo, 2, 1_000_000);
    for _ in 0..10 {
        ask(&mut solo, 2, 0, 1_000_000);
    }
    let short = short_answer(&mut solo);
    let sent = solo.drain();
    let first = sent.iter().find(|sent| sent.is_data()).unwrap();
    assert_eq!(first.rpc, Some(short));
    assert!(copied(&solo) > 0);
}

#[test]
fn what_is_left_of_a_short_message_goes_before_new_data_of_long_ones() {
    let mut solo = Solo::new(Config::default());
    answered(&mut solo, 2, 3000);
    let long = solo.call(address(9, 900), 1_000_000);
    ask(&mut solo, 2, FULL, FULL);
    let sent = solo.drain();
    assert!(sent.iter().any(|sent| sent.rpc == Some(long)));
    let first = &sent[0];
    assert_eq!((first.range(), first.priority), (Some((FULL, 2 * FULL)), 7), "at the level asked");
}

#[test]
fn the_same_bytes_are_sent_again_once_per_resend_interval_however_often_they_are_asked_for() {
    let mut solo = Solo::new(Config::default());
    answered(&mut solo, 2, 100_000);
    for _ in 0..1000 {
        ask(&mut solo, 2, 0, 100_000);
        solo.advance_ns(MS / 10);
    }
    // 100 ms are 20 intervals, with a quarter of one for askers that are early.
    assert!(copied(&solo) <= 27 * 100_000, "{}", copied(&solo));
    let before = copied(&solo);
    for _ in 0..10 {
        solo.advance(5);
        ask(&mut solo, 2, 20 * FULL, FULL);
        solo.drain();
    }
    assert_eq!(copied(&solo) - before, 10 * u64::from(FULL), "once per interval is not too often");
}

#[test]
fn a_peer_has_no_more_sent_again_per_interval_than_a_receiver_asks_for() {
    let mut solo = Solo::new(Config::default());
    for id in 1..=20 {
        answered(&mut solo, 2 * id, 100_000);
    }
    solo.advance(5);
    for id in 1..=20 {
        ask(&mut solo, 2 * id, 0, 100_000);
    }
    solo.drain();
    // As much as may be granted, 400,000 bytes, and a packet of each message after these four.
    let most = 400_000 + 16 * u64::from(FULL);
    assert!((300_000..=most).contains(&copied(&solo)), "{}", copied(&solo));
}

#[test]
fn what_was_not_sent_again_for_want_of_room_is_when_it_is_asked_for_later() {
    let mut solo = Solo::new(Config::default());
    answered(&mut solo, 2, 1_000_000);
    let mut upto = 0;
    for _ in 0..4 {
        solo.advance(5);
        ask(&mut solo, 2, upto, 1_000_000 - upto);
        let ends = solo.drain().iter().filter_map(Sent::range).map(|range| range.1).max();
        upto = ends.unwrap_or(upto);
    }
    assert_eq!(upto, 1_000_000);
}

#[test]
fn whoever_asks_a_little_later_than_others_each_time_gets_a_packet_each_time() {
    let mut solo = Solo::new(Config::default());
    answered(&mut solo, 2, 1_000_000);
    answered(&mut solo, 4, 1_000_000);
    for round in 0..10 {
        solo.advance(50);
        ask(&mut solo, 2, 0, 1_000_000);
        solo.advance(1);
        ask(&mut solo, 4, round * 10 * FULL, FULL);
        let sent = solo.drain();
        let of_the_later = sent.iter().filter(|sent| sent.id() == 5).filter_map(Sent::range);
        assert_eq!(of_the_later.map(|range| range.1 - range.0).sum::<u32>(), FULL);
    }
}

#[test]
fn those_who_ask_later_get_no_more_than_as_much_again() {
    let mut solo = Solo::new(Config::default());
    for id in 1..=1_000 {
        answered(&mut solo, 2 * id, 5_000);
    }
    answered(&mut solo, 2_002, 1_000_000);
    solo.advance(50);
    ask(&mut solo, 2_002, 0, 1_000_000);
    solo.drain();
    let first = copied(&solo);
    for id in 1..=1_000 {
        ask(&mut solo, 2 * id, 0, 5_000);
    }
    solo.drain();
    assert!((first / 2..=first + 5_000).contains(&(copied(&solo) - first)), "{}", copied(&solo));
}
