//! Acknowledgements, scenarios A1 to A15, where `acks.rs` does not show them exactly.

use std::time::Duration;

use crate::harness::*;
use homa_core::Config;
use homa_wire::{Ack, Body};

/// Acknowledgements that wait for one peer; Linux keeps five.
const KEPT: usize = 16;

/// Answers of `server` come to `count` calls; the ids in the client's form.
fn answered(solo: &mut Solo, server: std::net::SocketAddr, count: usize) -> Vec<u64> {
    let calls: Vec<_> = (0..count).map(|_| solo.called(server, 100).1).collect();
    for id in &calls {
        let _ = solo.data(server, *id, 100, (0, 100));
    }
    solo.events();
    calls.into_iter().map(|id| id & !1).collect()
}

fn acks(sent: &[Sent]) -> Vec<(u64, Ack)> {
    let ack = |sent: &Sent| match sent.header.body {
        Body::Ack(ack) => Some((sent.header.common.sender_id, ack)),
        _ => None,
    };
    sent.iter().filter_map(ack).collect()
}

// Scenario: A1, A2
#[test]
fn the_acknowledgement_that_finds_no_place_leaves_with_the_five_newest() {
    let mut solo = Solo::new(Config::default());
    let server = address(9, 900);
    let ids = answered(&mut solo, server, KEPT + 1);
    let sent = acks(&solo.drain());
    assert_eq!(sent.len(), 1, "those before it wait for a packet to ride on");
    let (header, ack) = sent[0];
    assert_eq!(header, ids[KEPT], "the one that found no place is in the header");
    let told: Vec<u64> = ack.entries().iter().map(|entry| entry.client_id).collect();
    let newest: Vec<u64> = ids[KEPT - 5..KEPT].iter().rev().copied().collect();
    assert_eq!(told, newest, "and five more, the newest first");
    assert!(ack.entries().iter().all(|entry| entry.server_port == 900));
}

// Scenario: A4, A15
#[test]
fn need_ack_begins_after_its_interval_and_its_packets_are_few_for_a_client_that_is_gone() {
    let interval = Duration::from_millis(2);
    let mut solo =
        Solo::new(Config::default().with(|config| config.request_ack_interval_max = interval));
    let rpc = solo.request(address(9, 900), 1000, 100);
    solo.answer(rpc, 100);
    let asks = |sent: &[Sent]| sent.iter().filter(|sent| sent.is(&Body::NeedAck)).count();
    assert_eq!(asks(&solo.advance_ns(2 * MS - 1)), 0);
    assert_eq!(asks(&solo.advance_ns(1)), 1);
    let sent = solo.advance(100_000);
    assert!(asks(&sent) < 20, "Linux would have asked every millisecond: {}", asks(&sent));
    assert!(solo.ended(rpc));
    assert_eq!(solo.engine.stats().live_rpcs, 0);
}
