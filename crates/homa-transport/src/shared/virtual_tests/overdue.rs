//! Requests that wait to be accepted for too long.

use std::sync::atomic::Ordering;
use std::task::{Poll, Waker};
use std::time::Duration;

use homa_virtual::LinkPlan;

use super::{Net, STEP_NS, accept, call};
use crate::CallErrorKind;
use crate::clock::Clock;
use crate::drive::wait::Host;
use crate::shared::{Acceptor, Handle, PendingCall, ServingMode};

/// When each of the calls fails since now, in steps: all of them as overloaded.
fn refused_after(net: &mut Net, hosts: &[&Handle], calls: &mut [PendingCall]) -> Vec<u64> {
    let begin_ns = net.world.now_ns();
    let clock = net.clock.clone();
    let mut after = vec![None; calls.len()];
    net.run(hosts, || {
        for (call, after) in calls.iter_mut().zip(&mut after).filter(|(_, it)| it.is_none()) {
            if let Poll::Ready(ended) = call.poll_message(Waker::noop()) {
                assert_eq!(*ended.unwrap_err().kind(), CallErrorKind::Overloaded);
                *after = Some((clock.now_ns() - begin_ns) / STEP_NS);
            }
        }
        if after.contains(&None) { Poll::Pending } else { Poll::Ready(()) }
    });
    after.into_iter().flatten().collect()
}

/// Passes the time until so many requests wait to be accepted by the last of `hosts`.
fn until_waiting(net: &mut Net, hosts: &[&Handle], requests: u64) {
    let server = hosts[hosts.len() - 1];
    net.run(hosts, || match server.stats().requests_waiting == requests {
        true => Poll::Ready(()),
        false => Poll::Pending,
    });
}

#[test]
fn a_request_that_waits_for_too_long_is_refused_although_nobody_accepts() {
    let mut net = Net::new(LinkPlan::default());
    let (client, other, server) = (net.open(1, false), net.open(2, false), net.open(3, true));
    let _patient = call(&client, &server, "patient".into(), None);
    let call = |client, timeout_ms| {
        call(client, &server, "hello".into(), Some(Duration::from_millis(timeout_ms)))
    };
    let mut calls = [call(&client, 800), call(&client, 400), call(&other, 600), call(&other, 600)];
    let after = refused_after(&mut net, &[&client, &other, &server], &mut calls);
    for (after, due) in after.iter().zip([200_u64, 100, 150, 150]) {
        assert!((due..=due + 3).contains(after), "{after}, due after {due}");
    }
    let stats = server.stats();
    assert_eq!((stats.requests_overdue, stats.requests_waiting), (4, 1));
    assert_eq!(accept(&mut net, &client, &server).body, "patient");
}

#[test]
fn requests_without_a_place_in_the_queue_take_those_of_refused_ones() {
    let mut net = Net::new(LinkPlan::default());
    let client = net.open(1, false);
    let server = net.open_with(2, true, |builder| builder.accept_queue_max(1));
    let call = |body: &'static str, timeout_ms| {
        call(&client, &server, body.into(), Some(Duration::from_millis(timeout_ms)))
    };
    // Those that wait for a place are not looked at before they have it.
    let mut calls = [call("first", 800), call("second", 400)];
    let _third = call("third", 8_000);
    let after = refused_after(&mut net, &[&client, &server], &mut calls);
    assert!(after.iter().all(|after| (200..=205).contains(after)), "{after:?}");
    assert_eq!(accept(&mut net, &client, &server).body, "third");
}

#[test]
fn a_request_that_is_overdue_when_it_would_be_accepted_is_refused() {
    let mut net = Net::new(LinkPlan::default());
    let (client, server) = (net.open(1, false), net.open(2, true));
    let mut late = call(&client, &server, "late".into(), Some(Duration::from_millis(400)));
    let hosts = [&client, &server];
    until_waiting(&mut net, &hosts, 1);
    // Whoever drives has other things to do meanwhile.
    net.clock.0.fetch_add(100_000_000, Ordering::Relaxed);
    let mut acceptor = Acceptor::new(&server, ServingMode::Whole);
    assert!(acceptor.poll(Waker::noop()).is_pending());
    assert_eq!(server.stats().requests_overdue, 1);
    let error = net.run(&hosts, || late.poll_message(Waker::noop())).unwrap_err();
    assert_eq!(*error.kind(), CallErrorKind::Overloaded);
}

#[test]
fn whoever_drives_wakes_up_for_a_request_that_is_overdue() {
    let mut net = Net::new(LinkPlan::default());
    let (client, server) = (net.open(1, false), net.open(2, true));
    let _late = call(&client, &server, "late".into(), Some(Duration::from_millis(400)));
    until_waiting(&mut net, &[&client, &server], 1);
    let due_ns = net.world.now_ns() + 100_000_000;
    while server.stats().requests_waiting > 0 {
        let deadline_ns = server.seat.deadline_ns();
        assert!(deadline_ns <= due_ns, "sleeps for {} ns longer", deadline_ns - due_ns);
        net.clock.0.store(deadline_ns, Ordering::Relaxed);
        server.attend();
        server.turn();
        assert!(server.try_leave());
    }
    assert!(net.clock.now_ns() >= due_ns - 2 * STEP_NS);
}
