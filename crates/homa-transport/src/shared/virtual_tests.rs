//! The core over a driver and a clock that are not the system's: no socket, no thread, no sleep.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};
use std::time::Duration;

use homa_core::{RxMeta, Segment, Transmit};
use homa_io::Body;
use homa_io::driver::{Driver, PacketSink, Payloads, RxCapacity, RxStatus, Unsent};

use super::open::core_on;
use super::{Acceptor, CallMode, Closing, Handle, PendingCall, ServingMode};
use crate::clock::Clock;
use crate::drive::wait::Host;
use crate::{CallError, CallOptions, EndpointBuilder};

/// Steps of virtual time while nothing is ready, and how many of them are waited at most.
const STEP_NS: u64 = 1_000_000;
const STEPS_MAX: u64 = 100_000;

/// Packets on their way to one address.
type Queue = VecDeque<(RxMeta, Vec<u8>)>;

/// A network that loses nothing, or everything, at once.
#[derive(Clone, Debug, Default)]
struct Net {
    queues: Arc<Mutex<HashMap<SocketAddr, Queue>>>,
    now_ns: Arc<AtomicU64>,
    loses_all: bool,
}

#[derive(Debug)]
struct NetDriver {
    net: Net,
    address: SocketAddr,
}

impl Clock for Net {
    fn now_ns(&self) -> u64 {
        self.now_ns.load(Ordering::Relaxed)
    }
}

impl Driver for NetDriver {
    fn receive(&mut self, sink: &mut impl PacketSink) -> io::Result<RxStatus> {
        loop {
            let mut queues = self.net.queues.lock().unwrap();
            let packet = queues.get_mut(&self.address).and_then(Queue::pop_front);
            drop(queues);
            let Some((meta, packet)) = packet else { return Ok(RxStatus::Drained) };
            sink.packet(&meta, &packet);
        }
    }

    fn transmit(
        &mut self,
        transmit: &Transmit,
        segments: &[Segment],
        payloads: &impl Payloads,
    ) -> Result<(), Unsent> {
        let mut meta = RxMeta::new(transmit.path);
        meta.path.remote = self.address;
        meta.path.local_port = transmit.path.remote.port();
        let in_datagram = if transmit.coalesced { segments.len() } else { 1 };
        for datagram in segments.chunks(in_datagram) {
            let mut bytes = Vec::new();
            for segment in datagram {
                bytes.extend_from_slice(segment.header());
                if let Some(rpc) = segment.rpc {
                    let range = segment.payload.clone();
                    payloads.pieces(rpc, range, |piece| bytes.extend_from_slice(piece));
                }
                bytes.resize(bytes.len() + usize::from(segment.padding), 0);
            }
            if !self.net.loses_all {
                let mut queues = self.net.queues.lock().unwrap();
                queues.entry(transmit.path.remote).or_default().push_back((meta, bytes));
            }
        }
        Ok(())
    }

    fn path(&mut self, _: SocketAddr) -> (Option<u32>, Option<u32>) {
        (Some(1_500), None)
    }

    fn rx_capacity(&self) -> RxCapacity {
        RxCapacity { bytes: 1 << 20, packets: 1_000 }
    }

    fn local_addr(&self) -> SocketAddr {
        self.address
    }

    fn tx_backlog_bytes(&self) -> Option<u64> {
        None
    }

    fn rx_dropped(&self) -> u64 {
        0
    }
}

impl Net {
    fn open(&self, host: u8, serve: bool) -> Handle {
        let address = SocketAddr::from(([10, 0, 0, host], 4_000));
        let driver = NetDriver { net: self.clone(), address };
        let builder = EndpointBuilder::new().seed(u64::from(host)).linger(Duration::from_secs(3));
        let core = core_on(&builder, serve, driver, self.clone()).unwrap();
        Handle::new(Arc::new(core), None, None)
    }

    /// Turns all hosts and passes the time until `poll` is ready.
    fn run<T>(&self, hosts: &[&Handle], mut poll: impl FnMut() -> Poll<T>) -> T {
        for _ in 0..STEPS_MAX {
            for host in hosts {
                host.attend();
                while host.turn().received {}
                assert!(host.try_leave());
            }
            if let Poll::Ready(value) = poll() {
                return value;
            }
            self.now_ns.fetch_add(STEP_NS, Ordering::Relaxed);
        }
        panic!("nothing happens");
    }
}

fn call(client: &Handle, server: &Handle, body: Body, options: CallOptions) -> PendingCall {
    PendingCall::start(client, server.local_addr(), CallMode::Whole(body), options, None)
}

#[test]
fn a_call_of_many_packets_goes_over_any_driver() {
    let net = Net::default();
    let (client, server) = (net.open(1, false), net.open(2, true));
    let sent: Vec<u8> = (0..200_000_u32).map(|index| index as u8).collect();
    let mut pending = call(&client, &server, sent.clone().into(), CallOptions::default());
    let mut acceptor = Acceptor::new(&server, ServingMode::Whole).unwrap();
    let hosts = [&client, &server];
    let mut accepted = net.run(&hosts, || acceptor.poll(Waker::noop())).unwrap().unwrap();
    assert_eq!(accepted.body, sent);
    let mut answer = Some(Body::from("done"));
    let replied = net.run(&hosts, || accepted.answer.poll_reply(Waker::noop(), &mut answer));
    replied.unwrap();
    let answer = net.run(&hosts, || pending.poll_message(Waker::noop())).unwrap();
    assert_eq!(answer, "done");
    assert_eq!(client.stats().outstanding_calls, 0);
}

#[test]
fn deadlines_and_time_outs_go_by_the_clock_of_the_endpoint() {
    let net = Net { loses_all: true, ..Net::default() };
    let (client, server) = (net.open(1, false), net.open(2, true));
    for timeout_ns in [250_000_000, 3_600_000_000_000] {
        let begin_ns = net.now_ns();
        let options = CallOptions::new().timeout(Duration::from_nanos(timeout_ns));
        let mut pending = call(&client, &server, "hello".into(), options);
        let error = net.run(&[&client], || pending.poll_message(Waker::noop())).unwrap_err();
        let passed_ns = net.now_ns() - begin_ns;
        if timeout_ns < client.facts.timeout_ns {
            assert!(matches!(error, CallError::DeadlineExceeded { .. }), "{error}");
            assert!(passed_ns.abs_diff(timeout_ns) <= STEP_NS, "{passed_ns}");
        } else {
            assert!(matches!(error, CallError::Timeout { .. }), "{error}");
            assert!(passed_ns >= client.facts.timeout_ns, "{passed_ns}");
        }
    }
}

#[test]
fn an_endpoint_that_closes_lingers_by_its_clock() {
    let net = Net::default();
    let (client, server) = (net.open(1, false), net.open(2, true));
    let _pending = call(&client, &server, "hello".into(), CallOptions::default());
    let mut acceptor = Acceptor::new(&server, ServingMode::Whole).unwrap();
    let accepted = net.run(&[&client, &server], || acceptor.poll(Waker::noop()));
    let mut accepted = accepted.unwrap().unwrap();
    let mut answer = Some(Body::from("nobody takes it"));
    let begin_ns = net.now_ns();
    let replied = net.run(&[&server], || accepted.answer.poll_reply(Waker::noop(), &mut answer));
    replied.unwrap();
    let mut closing = Closing::begin(&server);
    net.run(&[&server], || closing.poll(Waker::noop()));
    let passed_ns = net.now_ns() - begin_ns;
    assert!(passed_ns.abs_diff(3_000_000_000) <= 2 * STEP_NS, "{passed_ns}");
}
