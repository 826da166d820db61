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

mod both_ways;
mod broken_socket;
mod overdue;
mod plain;
mod sets;
mod wakes;

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
    fn run<T>(&mut self, hosts: &[&Handle], poll: impl FnMut() -> Poll<T>) -> T {
        self.run_for(STEPS_MAX, hosts, poll).expect("something happens")
    }

    /// The same for so many steps.
    fn run_for<T>(
        &mut self,
        steps: u64,
        hosts: &[&Handle],
        mut poll: impl FnMut() -> Poll<T>,
    ) -> Option<T> {
        for _ in 0..steps {
            for host in hosts {
                host.attend();
                while host.turn().received {}
                assert!(host.try_leave());
            }
            if let Poll::Ready(value) = poll() {
                assert!(self.world.ledger.violations.is_empty(), "{:?}", self.world.ledger);
                assert!(self.world.auditor.violations.is_empty(), "{:?}", self.world.auditor);
                return Some(value);
            }
            self.world.run_until(self.world.now_ns() + STEP_NS);
            self.clock.0.store(self.world.now_ns(), Ordering::Relaxed);
        }
        None
    }

    /// Turns all hosts for so many steps.
    fn pass(&mut self, steps: u64, hosts: &[&Handle]) {
        assert_eq!(self.run_for(steps, hosts, || Poll::<()>::Pending), None);
    }
}

fn call(client: &Handle, server: &Handle, body: Body, timeout: Option<Duration>) -> PendingCall {
    let server = server.local_addr().into();
    let mut call = PendingCall::new(client.clone(), server, Content::Whole(body));
    call.options().timeout = timeout;
    call.begin();
    call
}

fn accept(net: &mut Net, client: &Handle, server: &Handle) -> Accepted {
    let mut acceptor = Acceptor::new(server, ServingMode::Whole);
    net.run(&[client, server], || acceptor.poll(Waker::noop())).unwrap()
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
