//! Whom the receiver lets send: scenarios of the group G that ends, ages and reorderings bring about.

use crate::harness::{FULL, Host, Remote, exact, grants, levels};
use homa_wire::{Body, Reason};

/// The first packet of a message arrives; returns what is granted then: (id, offset).
fn begin(host: &mut Host, from: &Remote, id: u64, length: u32) -> Vec<(u64, u32)> {
    more(host, from, id, length, 0..FULL)
}

/// A part of a message arrives; returns what is granted then.
fn more(
    host: &mut Host,
    from: &Remote,
    id: u64,
    length: u32,
    range: std::ops::Range<u32>,
) -> Vec<(u64, u32)> {
    host.take(from, from.data(id, range, length, FULL));
    host.events();
    granted(host)
}

fn granted(host: &mut Host) -> Vec<(u64, u32)> {
    grants(&host.sent()).iter().map(|grant| (grant.0, grant.1)).collect()
}

/// The client gives a request up.
fn cancel(host: &mut Host, from: &Remote, id: u64) {
    host.take(from, from.control(id, Body::RpcUnknown, Reason::Cancelled, 0));
    host.events();
}

// Scenario: G19
#[test]
fn a_sender_moves_down_when_the_best_of_its_waiting_messages_ends() {
    for best_ends in [false, true] {
        let mut host = Host::new(levels(8, 1));
        let [a, b, c] = [1, 2, 3].map(|n| host.remote(n, 1));
        begin(&mut host, &a, 2, 100_000);
        assert_eq!(begin(&mut host, &b, 4, 200_000), []);
        assert_eq!(begin(&mut host, &b, 6, 600_000), []);
        assert_eq!(begin(&mut host, &c, 8, 300_000), []);
        if best_ends {
            cancel(&mut host, &b, 4);
        }
        let given = more(&mut host, &a, 2, 100_000, FULL..100_000);
        let first = if best_ends { (8, FULL + 200_000) } else { (4, 200_000) };
        assert_eq!(given, [first], "best ends: {best_ends}");
    }
}

// Scenario: G21
#[test]
fn a_message_that_ends_between_its_data_and_the_decision_leaves_no_trace() {
    let mut host = Host::new(levels(8, 1));
    let [a, b] = [1, 2].map(|n| host.remote(n, 1));
    // Never managed, active and queued: each receives data and ends in the same batch.
    for managed in [false, true] {
        if managed {
            begin(&mut host, &a, 2, 500_000);
            begin(&mut host, &b, 4, 900_000);
        }
        host.take(&a, a.data(2, FULL..2 * FULL, 500_000, FULL));
        host.take(&b, b.data(4, FULL..2 * FULL, 900_000, FULL));
        cancel(&mut host, &a, 2);
        cancel(&mut host, &b, 4);
        assert_eq!(granted(&mut host), []);
        let stats = host.stats();
        assert_eq!((stats.incoming_bytes, stats.receive_memory_bytes, stats.live_rpcs), (0, 0, 0));
        // The only slot is free.
        let c = host.remote(3, 1);
        assert_eq!(begin(&mut host, &c, 6, 800_000), [(6, FULL + 200_000)]);
        cancel(&mut host, &c, 6);
        assert_eq!(host.stats().incoming_bytes, 0);
        host = Host::new(levels(8, 1));
    }
}

/// One slot, a window of 40,000 bytes, 10 % of the granted bytes for the oldest in steps of 50,000.
fn shared() -> Host {
    Host::new(levels(8, 1).with(|config| {
        config.fifo_grant_permille = 100;
        config.fifo_grant_increment_bytes = 40_000;
        config.window_bytes = 40_000;
        config.max_incoming_bytes = 10_000_000;
    }))
}

/// Short messages that together are granted `total` bytes, a multiple of 40,000, come and go; returns
/// what others are granted at level 6 meanwhile.
fn pass_by(host: &mut Host, total: u32, first_id: u64) -> Vec<(u64, u32)> {
    let short = host.remote(9, 1);
    let mut to_others = Vec::new();
    for n in 0..u64::from(total / 40_000) {
        let id = first_id + 2 * n;
        host.take(&short, short.data(id, 0..FULL, 40_000 + FULL, FULL));
        for (granted, offset, level) in grants(&host.sent()) {
            if granted == id {
                assert_eq!(offset, 40_000 + FULL);
            } else {
                assert_eq!(level, 6);
                to_others.push((granted, offset));
            }
        }
        cancel(host, &short, id);
        host.sent();
    }
    to_others
}

// Scenario: G24, G25
#[test]
fn the_oldest_gets_its_increment_when_others_were_granted_enough_and_not_before() {
    let mut host = shared();
    let [old, young] = [1, 2].map(|n| host.remote(n, 1));
    // 40,000 bytes of the 400,000 that earn a turn go to the first message.
    assert_eq!(begin(&mut host, &old, 2, 900_000), [(2, FULL + 40_000)]);
    let short = host.remote(8, 1);
    begin(&mut host, &short, 900, 60_000);
    assert_eq!(begin(&mut host, &young, 4, 800_000), []);
    // The short one keeps the slot; 80,000 bytes so far.
    assert_eq!(pass_by(&mut host, 280_000, 1000), []);
    assert_eq!(pass_by(&mut host, 40_000, 3000), [(2, FULL + 80_000)]);
    assert_eq!(pass_by(&mut host, 360_000, 5000), []);
    // It has more than a window on its way: the next oldest has only that.
    assert_eq!(pass_by(&mut host, 40_000, 7000), [(900, 60_000)]);
}

// Scenario: G27
#[test]
fn an_oldest_message_with_more_than_a_window_on_its_way_leaves_its_share_to_the_next() {
    let mut host = shared();
    let [old, next] = [1, 2].map(|n| host.remote(n, 1));
    // All but 1,000 bytes come without a grant, more than the window.
    host.take(&old, old.data(2, 0..FULL, 60_000, 59_000));
    assert_eq!(granted(&mut host), []);
    assert_eq!(begin(&mut host, &next, 4, 900_000), []);
    let given = pass_by(&mut host, 1_200_000, 1000);
    assert_eq!(given, [(4, FULL + 40_000), (4, FULL + 80_000)]);
}

// Scenario: G28
#[test]
fn the_last_step_of_the_oldest_ends_with_its_message() {
    let mut host = shared();
    let old = host.remote(1, 1);
    assert_eq!(begin(&mut host, &old, 2, 60_000), [(2, FULL + 40_000)]);
    assert_eq!(pass_by(&mut host, 1_000_000, 1000), [(2, 60_000)], "and nothing after that");
}

// Scenario: G10
#[test]
fn the_eighth_of_eight_messages_shares_the_lowest_level() {
    let mut host = Host::new(levels(8, 8).with(|config| config.window_bytes = 10_000));
    let senders: Vec<Remote> = (1..=8).map(|n| host.remote(n, 1)).collect();
    let message = |n: usize| (2 + 2 * n as u64, 100_000 + 1000 * n as u32);
    for (n, from) in senders.iter().enumerate() {
        let (id, length) = message(n);
        begin(&mut host, from, id, length);
    }
    for (n, from) in senders.iter().enumerate() {
        let (id, length) = message(n);
        host.take(from, from.data(id, FULL..FULL + 10, length, FULL));
    }
    let mut given: Vec<_> = grants(&host.sent()).iter().map(|grant| (grant.0, grant.2)).collect();
    given.sort_unstable();
    let levels: Vec<u8> = given.iter().map(|grant| grant.1).collect();
    assert_eq!(levels, [6, 5, 4, 3, 2, 1, 0, 0]);
}

// Scenario: G29
#[test]
fn the_bounds_of_settings_are_taken() {
    for max_overcommit in [1, 8, 64] {
        assert!(exact().with(|config| config.max_overcommit = max_overcommit).validate().is_ok());
    }
    assert!(exact().with(|config| config.fifo_grant_permille = 500).validate().is_ok());
}
