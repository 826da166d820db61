//! Every call ends: tests for the rows of the table in `docs/promises.md`.

use std::time::Duration;

use crate::harness::*;
use homa_core::{Config, DropReason, FailReason, Received, RequestOptions, RpcKey};
use homa_wire::{Body, RESEND_ALL, Reason, Resend};

/// Timeouts that no two rows share, so that each row names its own.
fn config() -> Config {
    Config::default().with(|config| {
        config.recovery.timeout = Duration::from_millis(1000);
        config.responses.silence = Duration::from_millis(3000);
    })
}

/// More than any learnt delay.
const SLACK_MS: u64 = 200;

/// Time passes in steps; `answer` sees what the engine sent and plays the peer. When the RPC ended,
/// in ms.
fn ends_after(
    solo: &mut Solo,
    rpc: RpcKey,
    limit_ms: u64,
    mut answer: impl FnMut(&mut Solo, &Sent),
) -> Option<u64> {
    let began = solo.now_ns;
    while solo.now_ns < began + limit_ms * MS {
        for sent in solo.advance(5) {
            answer(solo, &sent);
        }
        solo.events();
        if solo.ended(rpc) {
            return Some((solo.now_ns - began) / MS);
        }
    }
    None
}

/// A peer that is dead.
fn silent(_: &mut Solo, _: &Sent) {}

#[track_caller]
fn about(ended_ms: Option<u64>, bound_ms: u64) {
    let ended_ms = ended_ms.expect("it ends");
    assert!((bound_ms..=bound_ms + SLACK_MS).contains(&ended_ms), "{ended_ms} ms");
}

#[test]
fn a_request_that_is_not_sent_ends_if_its_server_is_dead() {
    let config = config().with(|config| config.unscheduled.in_flight_max_bytes = 5000);
    let mut solo = Solo::new(config);
    let server = address(9, 900);
    for _ in 0..10 {
        solo.call(server, 3000);
    }
    let rpc = solo.call(server, 3000);
    let ended = ends_after(&mut solo, rpc, 10_000, silent);
    about(ended, 1000);
    assert_eq!(solo.failure(rpc), Some(FailReason::Timeout));
}

#[test]
fn a_request_that_nobody_confirms_ends() {
    let mut solo = Solo::new(config());
    let (rpc, _, _) = solo.called(address(9, 900), 100);
    let ended = ends_after(&mut solo, rpc, 10_000, silent);
    about(ended, 1000);
    assert_eq!(solo.failure(rpc), Some(FailReason::Timeout));
}

#[test]
fn a_request_that_is_never_seen_for_ever_ends() {
    let config = config().with(|config| config.recovery.timeout = Duration::from_secs(100));
    let mut solo = Solo::new(config);
    let server = address(9, 900);
    let (rpc, id, _) = solo.called(server, 100);
    let ended = ends_after(&mut solo, rpc, 10_000, |solo, sent| {
        if sent.resend().is_some() {
            let body = Body::RpcUnknown;
            let _ = solo.control(server, id, body, Reason::NeverSeen, 100_000_000);
        }
    });
    let ended = ended.expect("it ends");
    assert!((1000..8000).contains(&ended), "half of the memory, and the probe after: {ended} ms");
    assert_eq!(solo.failure(rpc), Some(FailReason::Forgotten));
}

#[test]
fn a_call_in_service_ends_after_the_next_probe_if_its_server_dies() {
    let mut solo = Solo::new(config());
    let server = address(9, 900);
    let (rpc, id, _) = solo.called(server, 100);
    let _ = solo.control(server, id, Body::Busy, Reason::None, 0);
    let ended = ends_after(&mut solo, rpc, 10_000, silent).expect("it ends");
    assert!((1000..=2000 + SLACK_MS).contains(&ended), "{ended} ms");
    assert_eq!(solo.failure(rpc), Some(FailReason::Timeout));
}

#[test]
fn a_call_in_service_waits_as_long_as_its_server_confirms_it() {
    let mut solo = Solo::new(config());
    let server = address(9, 900);
    let (rpc, id, _) = solo.called(server, 100);
    let _ = solo.control(server, id, Body::Busy, Reason::None, 0);
    let ended = ends_after(&mut solo, rpc, 60_000, |solo, sent| {
        if sent.is(&Body::NeedAck) {
            let _ = solo.control(server, id, Body::Busy, Reason::None, 0);
        }
    });
    assert_eq!(ended, None);
}

#[test]
fn a_call_with_a_deadline_ends_although_its_server_confirms_it() {
    let mut solo = Solo::new(config());
    let server = address(9, 900);
    let deadline = Some(solo.now() + Duration::from_secs(5));
    let options = RequestOptions { deadline, ..Default::default() };
    let rpc = solo.call_with(server, 100, options).unwrap();
    let id = solo.drain()[0].header.common.sender_id | 1;
    let _ = solo.control(server, id, Body::Busy, Reason::None, 0);
    let ended = ends_after(&mut solo, rpc, 60_000, |solo, sent| {
        if sent.is(&Body::NeedAck) {
            let _ = solo.control(server, id, Body::Busy, Reason::None, 0);
        }
    });
    about(ended, 5000);
    assert_eq!(solo.failure(rpc), Some(FailReason::DeadlineExceeded { sent: true }));
}

#[test]
fn a_response_that_stops_arriving_ends_its_call() {
    let mut solo = Solo::new(config());
    let server = address(9, 900);
    let (rpc, id, _) = solo.called(server, 100);
    let _ = solo.data(server, id, 3000, (0, 1000));
    let ended = ends_after(&mut solo, rpc, 10_000, silent);
    about(ended, 1000);
    assert_eq!(solo.failure(rpc), Some(FailReason::Timeout));
}

#[test]
fn a_request_that_stops_arriving_ends_at_its_server() {
    let mut solo = Solo::new(config());
    let client = address(9, 900);
    let _ = solo.data(client, 1000, 3000, (0, 1000));
    let started = solo.events();
    let rpc = started.iter().find_map(|event| match event {
        homa_core::Event::RequestStarted { rpc, .. } => Some(*rpc),
        _ => None,
    });
    let rpc = rpc.expect("it started");
    let ended = ends_after(&mut solo, rpc, 10_000, silent);
    about(ended, 1000);
    assert_eq!(solo.failure(rpc), Some(FailReason::Timeout));
}

#[test]
fn a_response_that_nobody_acknowledges_ends() {
    let mut solo = Solo::new(config());
    let rpc = solo.request(address(9, 900), 1000, 100);
    solo.answer(rpc, 100);
    let ended = ends_after(&mut solo, rpc, 10_000, silent);
    about(ended, 3000);
}

#[test]
fn a_refusal_that_nobody_acknowledges_ends() {
    let mut solo = Solo::new(config());
    let rpc = solo.request(address(9, 900), 1000, 100);
    solo.engine.abort(solo.now(), rpc, FailReason::Aborted).unwrap();
    let ended = ends_after(&mut solo, rpc, 10_000, silent);
    about(ended, 3000);
}

#[test]
fn a_response_is_kept_while_its_client_says_that_it_has_no_room_for_it_yet() {
    let mut solo = Solo::new(config());
    let client = address(9, 900);
    let rpc = solo.request(client, 1000, 100);
    solo.answer(rpc, 100);
    let ended = ends_after(&mut solo, rpc, 30_000, |solo, sent| {
        if sent.is(&Body::NeedAck) {
            let _ = solo.control(client, 1000, Body::Busy, Reason::None, 0);
        }
    });
    assert_eq!(ended, None, "as one that reads slowly does");
}

#[test]
fn a_response_that_waits_for_room_ends_if_its_client_is_dead() {
    let config = config().with(|config| config.unscheduled.in_flight_max_bytes = 5000);
    let mut solo = Solo::new(config);
    let client = address(9, 900);
    let rpcs: Vec<RpcKey> =
        (0..10).map(|call| solo.request(client, 1000 + 2 * call, 100)).collect();
    for rpc in &rpcs {
        solo.answer(*rpc, 3000);
    }
    let last = *rpcs.last().unwrap();
    let ended = ends_after(&mut solo, last, 30_000, silent).expect("it ends");
    assert!((3000..=6000 + SLACK_MS).contains(&ended), "{ended} ms");
}

#[test]
fn a_message_of_which_only_retransmissions_come_ends() {
    let mut solo = Solo::new(config());
    let from = address(9, 900);
    let _ = solo.data(from, 2, 30_000, (0, 1000));
    solo.drain();
    let rpc = solo.events().into_iter().find_map(|event| match event {
        homa_core::Event::RequestStarted { rpc, .. } => Some(rpc),
        _ => None,
    });
    let ended = ends_after(&mut solo, rpc.expect("it began"), 30_000, |solo, sent| {
        if sent.resend().is_some() {
            let _ = solo.data(from, 2, 30_000, (0, 1000));
        }
    });
    about(ended, 6 * 3000);
}

#[test]
fn a_message_whose_sender_has_nothing_new_yet_is_waited_for() {
    let mut solo = Solo::new(config());
    let (rpc, id, _) = solo.called(address(9, 900), 100);
    let _ = solo.data(address(9, 900), id, 30_000, (0, 1000));
    let ended = ends_after(&mut solo, rpc, 60_000, |solo, sent| {
        if sent.resend().is_some() {
            let _ = solo.control(address(9, 900), id, Body::Busy, Reason::None, 0);
        }
    });
    assert_eq!(ended, None);
}

#[test]
fn the_silence_of_a_sender_is_counted_from_when_there_is_memory_for_its_message() {
    let mut solo = Solo::new(config().with(|config| {
        config.limits.max_message_bytes = 65_536;
        config.limits.receive_memory_bytes = 131_072;
    }));
    let first = solo.request(address(8, 800), 2, 60_000);
    solo.request(address(8, 800), 4, 60_000);
    for id in [6, 8] {
        let received = solo.data(address(9, 900), id, 60_000, (0, 1000));
        assert_eq!(received, Received::Dropped(DropReason::NoMemory));
    }
    let ask = Body::Resend(Resend { offset: 0, length: RESEND_ALL, priority: 0 });
    // Longer than six response silences.
    for _ in 0..200 {
        for id in [6, 8] {
            let _ = solo.control(address(9, 900), id, ask, Reason::None, 0);
        }
        solo.advance(100);
    }
    solo.engine.consumed(solo.now(), first, 60_000).unwrap();
    solo.advance(500);
    // The one that is served, the one that waits for it, and the two that came whole.
    assert_eq!(solo.engine.stats().live_rpcs, 4);
}
