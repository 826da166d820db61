//! What silent and hostile senders take from others: places among the granted messages, their share
//! of what may be on its way, and the scale of both.

use std::net::SocketAddr;

use crate::harness::*;
use homa_core::{Config, Event, Received};
use homa_wire::{Body, Reason};

fn honest() -> SocketAddr {
    address(8, 800)
}

fn nobody(number: u32) -> SocketAddr {
    let [_, high, middle, low] = number.to_be_bytes();
    SocketAddr::from(([10, 60 + high, middle, low], 900))
}

/// The first packet, of 10 bytes, of a request of `length`; `known`: its sender names our
/// incarnation.
fn announce(solo: &mut Solo, from: SocketAddr, length: u32, known: bool) -> Received {
    let mut header = solo.data_header(from, 2, length, 0);
    let Body::Data(data) = &mut header.body else { unreachable!() };
    data.incoming = 100.min(length);
    data.echo = if known { data.echo } else { 0 };
    // An unvalidated client has to bring as much as it is told.
    solo.header(from, &header, if known { 10 } else { 50 })
}

/// An honest sender of one message, who sends what is granted at once.
struct Sender {
    id: u64,
    length: u32,
    sent: u32,
    granted: u32,
}

impl Sender {
    fn new(id: u64, length: u32) -> Self {
        Self { id, length, sent: 0, granted: 40_000.min(length) }
    }

    fn hear(&mut self, sent: &[Sent]) {
        let own = |sent: &&Sent| sent.header.common.sender_id == self.id | 1;
        self.granted = sent.iter().filter(own).filter_map(Sent::grant).fold(self.granted, u32::max);
    }

    fn send(&mut self, solo: &mut Solo) {
        while self.sent < self.granted {
            let end = (self.sent + FULL).min(self.granted);
            let _ = solo.data(honest(), self.id, self.length, (self.sent, end));
            self.sent = end;
            if self.sent == self.granted {
                self.hear(&solo.drain());
            }
        }
    }
}

/// How many ms a request of 1 MB takes while so many packets per ms begin messages that nobody
/// sends.
fn megabyte_beside(per_ms: u32, known: bool) -> u64 {
    let mut solo = Solo::new(Config::default());
    let mut sender = Sender::new(2, 1_000_000);
    let mut number = 0;
    for ms in 0..10_000 {
        for _ in 0..per_ms {
            number += 1;
            let _ = announce(&mut solo, nobody(number), 1500, known);
        }
        if ms >= 50 {
            sender.send(&mut solo);
        }
        let sent = solo.advance(1);
        sender.hear(&sent);
        if solo.log.iter().any(|event| matches!(event, Event::RequestArrived { .. })) {
            return ms - 50;
        }
        solo.log.clear();
    }
    panic!("it never arrives");
}

#[test]
fn unvalidated_clients_hold_one_place_and_a_megabyte_takes_no_longer_for_any_number_of_them() {
    for per_ms in [0, 1, 8] {
        let took = megabyte_beside(per_ms, false);
        assert!(took <= 1, "{per_ms} per ms: {took} ms");
    }
}

#[test]
fn senders_that_proved_their_address_and_send_nothing_lose_their_places_soon() {
    for per_ms in [1, 2] {
        let took = megabyte_beside(per_ms, true);
        assert!(took <= 3, "{per_ms} per ms: {took} ms");
    }
}

#[test]
fn an_unvalidated_client_gets_no_place_of_others_but_is_asked_for_its_proof_and_gets_one_with_it() {
    let config = Config::default().with(|config| config.grants.max_overcommit = 2);
    let mut solo = Solo::new(config);
    let _ = announce(&mut solo, nobody(1), 100_000, false);
    let first = solo.drain();
    assert!(
        first.iter().any(|sent| sent.grant().is_some()),
        "one place is for unvalidated clients"
    );
    let _ = announce(&mut solo, nobody(2), 200_000, false);
    let second = solo.drain();
    assert!(second.iter().all(|sent| sent.grant().is_none()), "and one place only");
    assert!(second.iter().any(|sent| sent.is(&Body::NeedAck)), "{second:?}");
    let _ = solo.control(nobody(2), 2, Body::Busy, Reason::None, 0);
    let sent = solo.drain();
    assert!(sent.iter().any(|sent| sent.path.remote == nobody(2) && sent.grant().is_some()));
}

#[test]
fn an_unvalidated_client_makes_way_for_whoever_proved_its_address() {
    let config = Config::default().with(|config| config.grants.max_overcommit = 1);
    let mut solo = Solo::new(config);
    let _ = announce(&mut solo, nobody(1), 1500, false);
    solo.drain();
    let _ = announce(&mut solo, honest(), 900_000, true);
    let sent = solo.drain();
    assert!(sent.iter().any(|sent| sent.path.remote == honest() && sent.grant().is_some()));
    let _ = announce(&mut solo, nobody(2), 1400, false);
    assert!(solo.drain().iter().all(|sent| sent.grant().is_none()), "however short");
}

/// One place; the first message is granted a window.
fn one_place() -> Solo {
    let config = Config::default().with(|config| {
        config.grants.max_overcommit = 1;
        config.grants.fifo_permille = 0;
    });
    let mut solo = Solo::new(config);
    let _ = announce(&mut solo, nobody(1), 500_000, true);
    assert!(solo.drain().iter().any(|sent| sent.grant() == Some(200_010)));
    solo
}

fn granted_to(sent: &[Sent], to: SocketAddr) -> bool {
    sent.iter().any(|sent| sent.path.remote == to && sent.grant().is_some())
}

#[test]
fn a_place_is_kept_while_nobody_wants_it() {
    let mut solo = one_place();
    solo.advance(4);
    assert_eq!(solo.engine.stats().incoming_bytes, 200_000);
}

#[test]
fn a_sender_that_was_merely_slow_gets_its_place_back_when_its_data_comes() {
    let mut solo = one_place();
    let _ = announce(&mut solo, nobody(2), 900_000, true);
    assert!(!granted_to(&solo.drain(), nobody(2)));
    assert!(granted_to(&solo.advance(2), nobody(2)), "the first does not react");
    assert!(solo.engine.stats().incoming_bytes <= 200_000, "and its grant counts no more");
    for at in 0..20 {
        let _ = solo.data(nobody(1), 2, 500_000, (10 + at * 1000, 1010 + at * 1000));
    }
    solo.drain();
    let _ = solo.data(nobody(2), 2, 900_000, (10, 100_000));
    assert!(!granted_to(&solo.drain(), nobody(2)), "it ranks behind the first again");
}

#[test]
fn a_byte_now_and_then_keeps_no_place_and_no_share_of_what_may_be_on_its_way() {
    let mut solo = one_place();
    let _ = announce(&mut solo, nobody(2), 900_000, true);
    solo.drain();
    let mut granted = false;
    for at in 10..13 {
        let _ = solo.data(nobody(1), 2, 500_000, (at, at + 1));
        granted |= granted_to(&solo.advance(1), nobody(2));
    }
    assert!(granted, "200,000 bytes do not come one by one");
    let _ = solo.data(nobody(1), 2, 500_000, (13, 14));
    let _ = solo.data(nobody(2), 2, 900_000, (10, 100_000));
    assert!(granted_to(&solo.drain(), nobody(2)), "and another byte brings nothing back");
}

#[test]
fn silence_is_excused_while_data_comes_that_goes_before() {
    let config = Config::default().with(|config| {
        config.grants.max_overcommit = 2;
        config.grants.fifo_permille = 0;
        config.grants.step_bytes = 0;
    });
    let mut solo = Solo::new(config);
    let _ = announce(&mut solo, nobody(1), 900_000, true);
    let _ = announce(&mut solo, honest(), 800_000, true);
    let _ = announce(&mut solo, nobody(2), 1_000_000, true);
    solo.drain();
    for at in 1..=4 {
        let end = at * 20_000;
        let _ = solo.data(honest(), 2, 800_000, (end - 19_990, end + 10));
        assert!(!granted_to(&solo.advance(1), nobody(2)), "the first ranks behind: {at} ms");
    }
    assert!(granted_to(&solo.advance(3), nobody(2)), "nothing comes any more");
}

#[test]
fn grants_of_silent_senders_leave_room_for_the_best_message() {
    // Three long messages hold all that may be on its way, and their senders have better things to
    // do.
    let config = Config::default().with(|config| {
        config.grants.max_incoming_bytes = 300_000;
        config.grants.window_bytes = 100_000;
    });
    let mut solo = Solo::new(config);
    for number in 1..=3 {
        let _ = announce(&mut solo, nobody(number), 1_000_000, true);
    }
    solo.drain();
    assert!(solo.engine.stats().incoming_bytes >= 300_000);
    let mut best = Sender::new(2, 200_000);
    best.send(&mut solo);
    assert!(best.sent < 200_000, "there is no room");
    best.hear(&solo.advance(2));
    best.send(&mut solo);
    assert_eq!(
        best.sent, 200_000,
        "a window at the latest when the others have been silent for a while"
    );
}

#[test]
fn the_share_of_the_oldest_is_a_window_of_a_message_at_a_time() {
    let config = Config::default().with(|config| {
        config.grants.max_overcommit = 1;
        config.grants.fifo_permille = 500;
        config.grants.window_bytes = 10_000;
    });
    let mut solo = Solo::new(config);
    for number in 1..=3 {
        let _ = announce(&mut solo, nobody(number), 1_000_000, true);
    }
    solo.drain();
    let mut best = Sender::new(2, 900_000);
    best.send(&mut solo);
    // What three silent senders hold, and the window of the one that sends.
    let incoming = solo.engine.stats().incoming_bytes;
    assert!(incoming <= 3 * 20_000 + 10_000, "{incoming}");
}

/// The first packets of twenty requests of 1 MB that say that 40,000 bytes of each come without
/// grant; what counts as on its way then.
fn counted_of_twenty(from: fn(u16) -> SocketAddr, known: bool) -> u64 {
    // No windows but for what is announced.
    let mut solo = Solo::new(Config::default().with(|config| config.grants.window_bytes = 1_000));
    for number in 0..20 {
        let mut header = solo.data_header(from(number), 2, 1_000_000, 0);
        let Body::Data(data) = &mut header.body else { unreachable!() };
        data.echo = if known { data.echo } else { 0 };
        let _ = solo.header(from(number), &header, 10);
    }
    solo.drain();
    solo.engine.stats().incoming_bytes
}

#[test]
fn of_what_a_host_announces_a_window_counts_and_of_all_unvalidated_clients_as_much() {
    let window = 400_000 / 9;
    let one_host = |number: u16| address(9, 900 + number);
    let many_hosts = |number: u16| nobody(number.into());
    assert_eq!(counted_of_twenty(one_host, true), window);
    assert_eq!(counted_of_twenty(many_hosts, false), window);
    assert_eq!(counted_of_twenty(many_hosts, true), 20 * 39_990, "an incast holds grants back");
}

#[test]
fn what_was_announced_counts_until_it_has_come() {
    let mut solo = Solo::new(Config::default().with(|config| config.grants.window_bytes = 1_000));
    for id in [2, 4] {
        let _ = solo.data(honest(), id, 1_000_000, (0, 10));
    }
    solo.drain();
    assert_eq!(solo.engine.stats().incoming_bytes, 400_000 / 9);
    let _ = solo.data(honest(), 2, 1_000_000, (10, 40_000));
    solo.drain();
    // Of the first a window was granted, and a step of a quarter of it.
    assert_eq!(solo.engine.stats().incoming_bytes, 39_990 + 1_000 + 250);
}

#[test]
fn the_messages_of_a_host_or_of_unvalidated_clients_are_granted_little_more_than_one_alone() {
    let one_host = |number: u16| address(9, 900 + number);
    let many_hosts = |number: u16| nobody(number.into());
    for known in [true, false] {
        let from = if known { one_host } else { many_hosts };
        let mut solo = Solo::new(Config::default());
        // Each has precedence over those before it.
        for number in 0..40 {
            let _ = announce(&mut solo, from(number), 900_000 - 1000 * u32::from(number), known);
            solo.drain();
        }
        let held = solo.engine.stats().incoming_bytes;
        assert!((244_444..=249_000).contains(&held), "half, and a window: {held}");
        let mut sender = Sender::new(2, 500_000);
        sender.send(&mut solo);
        assert_eq!(sender.sent, 500_000, "others go on at once");
    }
}

#[test]
fn the_share_of_the_oldest_gives_no_host_more_than_its_part() {
    let config = Config::default().with(|config| {
        config.grants.max_overcommit = 2;
        config.grants.fifo_permille = 500;
        config.fixed.fifo_grant_bytes = 10_000;
        config.grants.window_bytes = 10_000;
        config.grants.max_incoming_bytes = 200_000;
    });
    let mut solo = Solo::new(config);
    for number in 0..20 {
        let _ = announce(&mut solo, address(9, 900 + number), 1_000_000, true);
    }
    solo.drain();
    let mut best = Sender::new(2, 900_000);
    best.send(&mut solo);
    let of_host = solo.engine.stats().incoming_bytes - u64::from(best.granted - best.sent);
    let part = 100_000 + 200_000 / 3;
    assert!((part..=part + 10_000 + 20 * 90).contains(&of_host), "{of_host}");
}

#[test]
fn a_stream_that_waits_for_its_reader_holds_no_place() {
    let config = Config::default().with(|config| {
        config.grants.max_overcommit = 1;
        config.fixed.unread_bytes_max = 65_536;
    });
    let mut solo = Solo::new(config);
    let _ = solo.data(nobody(1), 2, 500_000, (0, 100));
    let rpc = solo.events().into_iter().find_map(|event| match event {
        Event::RequestStarted { rpc, .. } => Some(rpc),
        _ => None,
    });
    let rpc = rpc.expect("it has begun");
    solo.engine.set_streaming(solo.now(), rpc).unwrap();
    solo.drain();
    let _ = solo.data(nobody(1), 2, 500_000, (100, 65_536));
    solo.drain();
    let _ = announce(&mut solo, nobody(2), 900_000, true);
    assert!(granted_to(&solo.drain(), nobody(2)));
    solo.engine.consumed(solo.now(), rpc, 65_000).unwrap();
    assert!(granted_to(&solo.drain(), nobody(1)), "it is read, and the shorter of the two");
}

#[test]
fn one_long_packet_changes_what_is_granted_for_a_second_and_that_of_an_unvalidated_client_not_at_all()
 {
    let on_its_way = |known: Option<bool>, later_ms: u64| {
        let mut solo = Solo::new(Config::default());
        solo.engine.set_receive_capacity(92 * 1424);
        if let Some(known) = known {
            let mut header = solo.data_header(nobody(99), 2, 60_000, 0);
            let Body::Data(data) = &mut header.body else { unreachable!() };
            data.echo = if known { data.echo } else { 0 };
            let _ = solo.header(nobody(99), &header, 60_000);
            solo.advance(later_ms);
        }
        for number in 0..8 {
            let _ = solo.data(nobody(number), 2, 1_000_000, (0, FULL));
        }
        solo.drain();
        solo.engine.stats().incoming_bytes
    };
    let without = on_its_way(None, 0);
    assert_ne!(on_its_way(Some(true), 1), without, "long packets come: more is granted");
    assert_eq!(on_its_way(Some(true), 1500), without);
    assert_eq!(on_its_way(Some(false), 1), without);
}
