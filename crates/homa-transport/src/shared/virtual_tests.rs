//! The core over the driver and the clock of a virtual network: no socket, no thread, no sleep.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Poll, Waker};
use std::time::Duration;

use homa_io::Body;
use homa_virtual::{HostPlan, LinkPlan, World};

use super::open::core_on;
use super::{Accepted, Acceptor, Closing, Content, Handle, PendingCall, ServingMode};
use crate::clock::Clock;
use crate::drive::wait::Host;
use crate::{CallErrorKind, EndpointBuilder};

/// Steps of virtual time while nothing is ready, and how many of them are waited at most.
const STEP_NS: u64 = 1_000_000;
const STEPS_MAX: u64 = 100_000;

/// The time of a world, in ns.
#[derive(Clone, Debug, Default)]
struct WorldClock(Arc<AtomicU64>);

impl Clock for WorldClock {
    fn now_ns(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Endpoints on a virtual network.
struct Net {
    world: World,
    clock: WorldClock,
}

impl Net {
    fn new(link: LinkPlan) -> Self {
        let mut world = World::new(1);
        world.default_link = link;
        Self { world, clock: WorldClock::default() }
    }

    fn open(&mut self, host: u8, serve: bool) -> Handle {
        self.open_with(host, serve, |builder| builder)
    }

    fn open_with(
        &mut self,
        host: u8,
        serve: bool,
        set: impl FnOnce(EndpointBuilder) -> EndpointBuilder,
    ) -> Handle {
        let (_, driver) = self.world.attach(HostPlan::new(host));
        let builder = EndpointBuilder::new().seed(u64::from(host)).linger(Duration::from_secs(3));
        let builder = set(builder);
        let core = core_on(&builder, serve, driver, self.clock.clone()).unwrap();
        Handle::new(Arc::new(core), None)
    }

    /// Turns all hosts and passes the time until `poll` is ready.
    fn run<T>(&mut self, hosts: &[&Handle], mut poll: impl FnMut() -> Poll<T>) -> T {
        for _ in 0..STEPS_MAX {
            for host in hosts {
                host.attend();
                while host.turn().received {}
                assert!(host.try_leave());
            }
            if let Poll::Ready(value) = poll() {
                assert!(self.world.ledger.violations.is_empty(), "{:?}", self.world.ledger);
                assert!(self.world.auditor.violations.is_empty(), "{:?}", self.world.auditor);
                return value;
            }
            self.world.run_until(self.world.now_ns() + STEP_NS);
            self.clock.0.store(self.world.now_ns(), Ordering::Relaxed);
        }
        panic!("nothing happens");
    }
}

fn call(client: &Handle, server: &Handle, body: Body, timeout: Option<Duration>) -> PendingCall {
    let server = server.local_addr().into();
    let mut call = PendingCall::new(client.clone(), server, Content::Whole(body));
    call.options().timeout = timeout;
    call.begin();
    call
}

#[test]
fn a_call_of_many_packets_goes_over_any_driver() {
    let mut net = Net::new(LinkPlan::default());
    let (client, server) = (net.open(1, false), net.open(2, true));
    let sent: Vec<u8> = (0..200_000_u32).map(|index| index as u8).collect();
    let mut pending = call(&client, &server, sent.clone().into(), None);
    let mut acceptor = Acceptor::new(&server, ServingMode::Whole);
    let hosts = [&client, &server];
    let mut accepted = net.run(&hosts, || acceptor.poll(Waker::noop())).unwrap();
    assert_eq!(accepted.body, sent);
    let mut response = Some(Body::from("done"));
    let replied = net.run(&hosts, || accepted.replier.poll_reply(Waker::noop(), &mut response));
    replied.unwrap();
    let response = net.run(&hosts, || pending.poll_message(Waker::noop())).unwrap();
    assert_eq!(response, "done");
    assert_eq!(client.stats().outstanding_calls, 0);
}

#[test]
fn deadlines_and_timeouts_go_by_the_clock_of_the_endpoint() {
    let mut net = Net::new(LinkPlan { loss_ppm: 1_000_000, ..LinkPlan::default() });
    let (client, server) = (net.open(1, false), net.open(2, true));
    for timeout_ns in [250_000_000, 3_600_000_000_000] {
        let begin_ns = net.world.now_ns();
        let timeout = Some(Duration::from_nanos(timeout_ns));
        let mut pending = call(&client, &server, "hello".into(), timeout);
        let error = net.run(&[&client], || pending.poll_message(Waker::noop())).unwrap_err();
        let passed_ns = net.world.now_ns() - begin_ns;
        if timeout_ns < client.facts.timeout_ns {
            assert!(matches!(error.kind(), CallErrorKind::DeadlineExceeded { .. }), "{error}");
            assert!(passed_ns.abs_diff(timeout_ns) <= STEP_NS, "{passed_ns}");
        } else {
            assert!(matches!(error.kind(), CallErrorKind::Timeout), "{error}");
            assert!(passed_ns >= client.facts.timeout_ns, "{passed_ns}");
        }
    }
}

#[test]
fn an_endpoint_that_closes_lingers_by_its_clock() {
    let mut net = Net::new(LinkPlan::default());
    let (client, server) = (net.open(1, false), net.open(2, true));
    let _pending = call(&client, &server, "hello".into(), None);
    let mut accepted = accept(&mut net, &client, &server);
    let mut response = Some(Body::from("nobody takes it"));
    let begin_ns = net.world.now_ns();
    let replied = net.run(&[&server], || accepted.replier.poll_reply(Waker::noop(), &mut response));
    replied.unwrap();
    let mut closing = Closing::begin(&server, server.facts.linger);
    net.run(&[&server], || closing.poll(Waker::noop()));
    let passed_ns = net.world.now_ns() - begin_ns;
    assert!(passed_ns.abs_diff(3_000_000_000) <= 2 * STEP_NS, "{passed_ns}");
}

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

fn accept(net: &mut Net, client: &Handle, server: &Handle) -> Accepted {
    let mut acceptor = Acceptor::new(server, ServingMode::Whole);
    net.run(&[client, server], || acceptor.poll(Waker::noop())).unwrap()
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
