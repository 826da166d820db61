//! Sending and its order: scenarios of the groups S and P.

use crate::harness::{FULL, Host, Sent, data_bytes, data_of, exact};
use homa_core::{Config, FailReason, RequestOptions, RpcError, TransmitError};

/// A link of 10 Gbit/s, all of it usable, 5 µs of backlog: trains of four full packets.
fn paced() -> Config {
    exact().with(|config| {
        config.link_mbps = Some(10_000);
        config.max_link_usage_percent = 100;
    })
}

/// The ids of the DATA among packets, each once per run of packets.
fn order(sent: &[Sent]) -> Vec<u64> {
    let mut ids: Vec<u64> = data_of(sent).iter().map(|data| data.0).collect();
    ids.dedup();
    ids
}

// Scenario: S9
#[test]
fn a_grant_to_a_sender_that_has_sent_everything_brings_no_packet() {
    let mut host = Host::new(exact());
    let remote = host.remote(1, 1);
    host.call(&remote, 50_000);
    let id = host.sent()[0].id();
    host.take(&remote, remote.grant(id | 1, 50_000, 3));
    assert_eq!(data_bytes(&host.sent()), 10_000);
    for offset in [50_000, 60_000, u32::MAX] {
        host.take(&remote, remote.grant(id | 1, offset, 3));
        assert!(host.sent().is_empty(), "{offset}");
    }
}

// Scenario: S14
#[test]
fn a_call_that_was_aborted_while_it_is_supplied_takes_and_sends_no_more() {
    let mut host = Host::new(exact());
    let remote = host.remote(1, 1);
    let options = RequestOptions { streaming_body: true, ..RequestOptions::default() };
    let rpc = host.call_with(&remote, 30_000, options);
    host.engine.supply(host.now(), rpc, 10_000).unwrap();
    assert_eq!(data_bytes(&host.sent()), 10_000);
    host.engine.abort(host.now(), rpc, FailReason::Aborted).unwrap();
    assert_eq!(host.engine.supply(host.now(), rpc, 30_000), Err(RpcError::Stale));
    assert_eq!(data_bytes(&host.pass_ms(10)), 0);
    host.events();
    assert_eq!(host.engine.supply(host.now(), rpc, 30_000), Err(RpcError::Stale));
    assert_eq!(host.stats().live_rpcs, 0);
}

// Scenario: S18
#[test]
fn an_answer_that_finds_no_route_is_counted_and_recovered_later() {
    let mut host = Host::new(exact());
    let remote = host.remote(1, 1);
    host.serve(&remote, 2, 10, 3000);
    host.sent_partly(0, TransmitError::Unreachable);
    assert_eq!(host.stats().transmit_unreachable, 1);
    assert_eq!(host.stats().live_rpcs, 1);
    host.sent();
    host.take(&remote, remote.resend(2, 0, u32::MAX));
    let ranges: Vec<_> = data_of(&host.sent()).into_iter().map(|data| data.1).collect();
    assert_eq!(ranges, [0..FULL, FULL..2 * FULL, 2 * FULL..3000]);
}

// Scenario: S18
#[test]
fn a_call_without_a_route_is_counted_accepted_and_then_fails() {
    let mut host = Host::new(exact());
    let remote = host.remote(1, 1);
    let rpc = host.call(&remote, 3000);
    host.sent_partly(0, TransmitError::Unreachable);
    assert_eq!(host.stats().transmit_unreachable, 1);
    let reason = FailReason::HostUnreachable;
    assert!(host.events().contains(&homa_core::Event::Failed { rpc, cookie: 0, reason }));
}

// Scenario: P11
#[test]
fn a_message_that_its_share_has_helped_goes_on_in_its_new_rank() {
    let train = 4 * FULL;
    let mut host = Host::new(paced().with(|config| config.pacer_fifo_permille = 500));
    let [old, other, short] = [1, 2, 3].map(|n| host.remote(n, 1));
    let [old, other, short] =
        [(old, 30_000), (other, 25_000), (short, train)].map(|(to, length)| {
            let rpc = host.call(&to, length);
            host.id_of(rpc)
        });
    let sent = host.pass_ns(1_000_000);
    // The shortest leaves and earns the oldest a turn; then 24,336 bytes are left of that, fewer than 25,000.
    assert_eq!(order(&sent)[..3], [short, old, other]);
    let of_old: u32 = data_of(&sent)
        .iter()
        .skip(4)
        .take_while(|data| data.0 == old)
        .map(|data| data.1.end - data.1.start)
        .sum();
    assert!(of_old > train, "more than its share at once: {of_old}");
}

// Scenario: P16
#[test]
fn a_new_long_message_does_not_pass_what_waits_with_fewer_bytes_left() {
    let mut host = Host::new(paced());
    let (a, b) = (host.remote(1, 1), host.remote(2, 1));
    host.call(&a, 40_000);
    let waiting = host.sent()[0].id();
    // The link is idle again, but nobody has looked.
    host.now_ns += 1_000_000;
    host.call(&b, 39_000);
    let sent = host.sent();
    assert_eq!(data_bytes(&sent), 8 * FULL);
    assert_eq!(order(&sent), [waiting]);
}

// Scenario: P23
#[test]
fn a_packet_that_arrives_lets_go_what_may_leave_by_now() {
    let mut host = Host::new(paced());
    let (a, b) = (host.remote(1, 1), host.remote(2, 1));
    host.call(&a, 40_000);
    assert_eq!(data_bytes(&host.sent()), 8 * FULL);
    // No timer was looked at: a packet for somebody else comes and the turn ends by sending.
    host.now_ns += 100_000;
    host.take(&b, b.data(2, 0..10, 10, 10));
    assert_eq!(data_bytes(&host.sent()), 8 * FULL);
}
