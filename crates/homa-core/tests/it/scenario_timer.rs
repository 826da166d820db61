//! Silence and retransmission, scenarios T1 to T27, where the other tests do not show them. See also
//! `recovery.rs` and `liveness.rs`.

use std::time::Duration;

use crate::harness::*;
use homa_core::{Config, FailReason};
use homa_wire::{Body, Grant, RESEND_ALL, Reason, Resend};

/// As Linux gives peers up: after 100 ms.
fn impatient() -> Config {
    Config::default().with(|config| config.timeout = Duration::from_millis(100))
}

fn resend(offset: u32, length: u32, priority: u8) -> Body {
    Body::Resend(Resend { offset, length, priority })
}

fn ranges(sent: &[Sent]) -> Vec<(u32, u32)> {
    sent.iter().filter_map(Sent::range).collect()
}

fn resends(sent: &[Sent]) -> Vec<(u32, u32)> {
    sent.iter().filter_map(Sent::resend).collect()
}

// Scenario: T2
#[test]
fn with_the_time_out_of_linux_a_call_fails_after_100_ms() {
    let mut solo = Solo::new(impatient());
    let (rpc, _, _) = solo.called(address(9, 900), 100);
    solo.advance(99);
    assert_eq!(solo.failure(rpc), None);
    solo.advance(1);
    assert_eq!(solo.failure(rpc), Some(FailReason::Timeout));
}

// Scenario: T5
#[test]
fn a_message_that_has_all_that_was_granted_waits_without_resend_and_time_out() {
    let config = impatient().with(|config| {
        config.max_overcommit = 1;
        config.window_bytes = 10_000;
        config.fifo_grant_permille = 0;
    });
    let mut solo = Solo::new(config);
    let (short, long) = (address(8, 900), address(9, 900));
    for start in (0..40_000).step_by(1400) {
        let _ = solo.data(short, 10, 600_000, (start, (start + 1400).min(40_000)));
        let _ = solo.data(long, 20, 900_000, (start, (start + 1400).min(40_000)));
    }
    solo.drain();
    // The shorter message has the only place and goes on slowly, so that nothing is granted to the other.
    for start in (40_000..460_000).step_by(1400) {
        let _ = solo.data(short, 10, 600_000, (start, start + 1400));
        let sent = solo.advance(1);
        let about_long = |sent: &&Sent| sent.header.common.sender_id == 21;
        assert_eq!(sent.iter().filter(about_long).count(), 0);
    }
    assert_eq!(solo.engine.stats().live_rpcs, 2, "three times the time-out has passed");
}

// Scenario: T8, T9
#[test]
fn a_message_that_the_pacer_still_holds_back_counts_as_not_sent() {
    // 40,000 bytes take a third of a second at 1 Mbit/s.
    let config = impatient().with(|config| config.link_mbps = Some(1));
    let mut solo = Solo::new(config);
    let rpc = solo.call(address(9, 900), 40_000);
    let mut sent = Vec::new();
    while ranges(&sent).last().is_none_or(|range| range.1 < 40_000) {
        assert_eq!(resends(&sent), [], "not while it is being sent");
        assert_eq!(solo.failure(rpc), None, "at {} ms", solo.now_ns / MS);
        sent.extend(solo.advance(1));
    }
    assert!(solo.now_ns > 1300 * MS, "more than the time-out: {} ms", solo.now_ns / MS - 1000);
    let sent = solo.advance(6);
    assert_eq!(resends(&sent), [(0, RESEND_ALL)], "the silence begins with the last byte");
    solo.advance(100);
    assert_eq!(solo.failure(rpc), Some(FailReason::Timeout));
}

/// Does a call that gets this packet after 90 ms outlive the 100 ms that its server may be silent?
fn outlives(body: Body, why: Reason) -> bool {
    let mut solo = Solo::new(impatient());
    let server = address(9, 900);
    let (rpc, id, _) = solo.called(server, 100);
    solo.advance(90);
    let _ = solo.control(server, id, body, why, 0);
    solo.advance(60);
    solo.failure(rpc).is_none()
}

// Scenario: T10
#[test]
fn only_data_grant_and_busy_begin_the_silence_anew() {
    assert!(outlives(Body::Grant(Grant { offset: 100, priority: 0 }), Reason::None));
    assert!(outlives(Body::Busy, Reason::None));
    for body in [
        Body::NeedAck,
        Body::Ack(Default::default()),
        resend(5, 0, 0),
        Body::Cutoffs(Default::default()),
    ] {
        assert!(!outlives(body, Reason::None), "{body:?}");
    }
    let mut solo = Solo::new(impatient());
    let server = address(9, 900);
    let (rpc, id, _) = solo.called(server, 100);
    for start in 0..20 {
        solo.advance(90);
        let _ = solo.data(server, id, 10_000, (start * 100, start * 100 + 100));
    }
    assert_eq!(solo.failure(rpc), None, "DATA every 90 ms");
    // The first answer took 90 ms: questions begin later by a part of the time-out.
    solo.advance(101 + 100 / 8);
    assert_eq!(solo.failure(rpc), Some(FailReason::Timeout));
}

/// A call of `length` bytes, sent as far as it may be, and its id in the server's form.
fn sending(length: u32) -> (Solo, u64) {
    let mut solo = Solo::new(Config::default());
    let (_, id, _) = solo.called(address(9, 900), length);
    (solo, id)
}

// Scenario: T14
#[test]
fn segments_sent_again_say_that_they_need_no_grant() {
    let (mut solo, id) = sending(500_000);
    let server = address(9, 900);
    let _ = solo.control(
        server,
        id,
        Body::Grant(Grant { offset: 60_000, priority: 2 }),
        Reason::None,
        0,
    );
    solo.drain();
    let _ = solo.control(server, id, resend(45_000, 10_000, 5), Reason::None, 0);
    let sent = solo.drain();
    let again = ranges(&sent);
    assert!(again.first().unwrap().0 <= 45_000 && again.last().unwrap().1 >= 55_000, "{again:?}");
    assert!(again.windows(2).all(|pair| pair[0].1 == pair[1].0), "without a gap: {again:?}");
    for sent in &sent {
        let (data, end) = (sent.data().unwrap(), sent.range().unwrap().1);
        assert_eq!((sent.priority, data.retransmit, data.incoming), (5, 1, end));
    }
}

// Scenario: T15, T16
#[test]
fn a_resend_beyond_what_was_sent_brings_what_was_sent_and_busy() {
    let (mut solo, id) = sending(500_000);
    let server = address(9, 900);
    let _ = solo.control(server, id, resend(38_000, 2_000, 7), Reason::None, 0);
    let sent = solo.drain();
    assert_eq!(ranges(&sent).last().unwrap().1, 40_000);
    assert!(sent.iter().all(|sent| sent.data().is_some_and(|data| data.retransmit == 1)));
    let _ = solo.control(server, id, resend(100_000, 1, 7), Reason::None, 0);
    let sent = solo.drain();
    assert_eq!(sent.iter().filter(|sent| sent.is(&Body::Busy)).count(), 1);
    let new = sent.iter().filter_map(Sent::data).all(|data| data.retransmit == 0);
    assert!(new, "nothing of it had been sent, so nothing is sent again");
}

// Scenario: T18
#[test]
fn the_grant_that_a_resend_makes_up_for_brings_new_data() {
    let (mut solo, id) = sending(500_000);
    let _ = solo.control(address(9, 900), id, resend(39_000, 5_000, 7), Reason::None, 0);
    let sent = solo.drain();
    let flags = |from: u32| {
        let at = |sent: &&Sent| sent.range().is_some_and(|range| range.0 >= from);
        let flag = |sent: &Sent| sent.data().unwrap().retransmit;
        sent.iter().filter(at).map(flag).collect::<Vec<_>>()
    };
    assert_eq!(ranges(&sent).iter().map(|range| range.1).max(), Some(44_000));
    assert!(flags(40_000).iter().all(|flag| *flag == 0), "what lies beyond 40,000 is new");
    assert!(ranges(&sent).len() > flags(40_000).len(), "what lies before it is sent again");
}

// Scenario: T22
#[test]
fn rpc_unknown_ends_the_rpc_at_its_server_whatever_it_does() {
    let from = address(9, 900);
    for stage in ["receiving", "in service", "answering"] {
        let mut solo = Solo::new(Config::default());
        match stage {
            "receiving" => drop(solo.data(from, 1000, 9000, (0, 100))),
            "in service" => drop(solo.request(from, 1000, 100)),
            _ => {
                let rpc = solo.request(from, 1000, 100);
                solo.answer(rpc, 100);
            }
        }
        solo.events();
        assert_eq!(solo.engine.stats().live_rpcs, 1);
        let _ = solo.control(from, 1000, Body::RpcUnknown, Reason::Cancelled, 0);
        solo.events();
        let stats = solo.engine.stats();
        assert_eq!((stats.live_rpcs, stats.receive_memory_bytes), (0, 0), "{stage}");
        assert_eq!(ranges(&solo.advance(10_000)), [], "{stage}: nothing more is sent");
    }
}

// Scenario: T25
#[test]
fn an_rpc_that_ends_between_two_trains_of_a_retransmission_ends_it() {
    let (mut solo, id) = sending(20_000);
    let _ = solo.control(address(9, 900), id, resend(0, RESEND_ALL, 7), Reason::None, 0);
    solo.segments.truncate(2);
    let now = solo.now();
    let first = solo.engine.poll_transmit(now, &mut solo.segments).unwrap();
    assert_eq!((first.segments, solo.segments[0].payload.clone()), (2, 0..FULL));
    let rpc = solo.segments[0].rpc.unwrap();
    solo.engine.abort(now, rpc, FailReason::Aborted).unwrap();
    let sent = solo.drain();
    assert!(sent.iter().all(|sent| !sent.is_data()), "{:?}", ranges(&sent));
    assert_eq!(solo.engine.poll_timeout(), None);
}

// Scenario: T26
#[test]
fn a_thousand_long_calls_survive_the_loss_of_every_tenth_packet() {
    let mut net = Net::new(&Config::default(), 2);
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    net.lose = Box::new(move |_, _| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 33).is_multiple_of(10)
    });
    let rpcs: Vec<_> = (0..1000).map(|_| net.call(0, 1, 100_000)).collect();
    net.run(60_000);
    for rpc in rpcs {
        assert!(net.answered(0, rpc), "{:?}", net.failure(0, rpc));
    }
    assert_eq!(net.hosts[1].arrived.len(), 1000, "each executed once");
    net.assert_quiet();
}
