//! A socket that fails for good ends all that waits for it.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Poll, Waker};

use homa_core::{Segment, Transmit};
use homa_io::driver::{Driver, PacketSink, Payloads, RxCapacity, RxStatus, Unsent};
use homa_virtual::{AttachedDriver, HostPlan, LinkPlan};

use super::{Net, accept, call};
use crate::EndpointBuilder;
use crate::shared::open::core_on;
use crate::shared::{Completions, Content, Handle, PendingCall};
use crate::{CallErrorKind, StreamError};

/// A driver that can be broken.
#[derive(Debug)]
struct Breakable {
    driver: AttachedDriver,
    is_broken: Arc<AtomicBool>,
}

impl Driver for Breakable {
    fn receive(&mut self, sink: &mut impl PacketSink) -> io::Result<RxStatus> {
        match self.is_broken.load(Ordering::Relaxed) {
            true => Err(io::ErrorKind::NotConnected.into()),
            false => self.driver.receive(sink),
        }
    }

    fn transmit(
        &mut self,
        transmit: &Transmit,
        segments: &[Segment],
        payloads: &impl Payloads,
    ) -> Result<(), Unsent> {
        self.driver.transmit(transmit, segments, payloads)
    }

    fn path(&mut self, remote: SocketAddr) -> (Option<u32>, Option<u32>) {
        self.driver.path(remote)
    }

    fn rx_capacity(&self) -> RxCapacity {
        self.driver.rx_capacity()
    }

    fn local_addr(&self) -> SocketAddr {
        self.driver.local_addr()
    }

    fn tx_backlog_bytes(&self) -> Option<u64> {
        self.driver.tx_backlog_bytes()
    }

    fn rx_dropped(&self) -> u64 {
        self.driver.rx_dropped()
    }
}

/// An endpoint of its own host, and what breaks its socket.
fn open(net: &mut Net, host: u8, serve: bool) -> (Handle, Arc<AtomicBool>) {
    let (_, driver) = net.world.attach(HostPlan::new(host));
    let is_broken = Arc::new(AtomicBool::new(false));
    let driver = Breakable { driver, is_broken: Arc::clone(&is_broken) };
    let core = core_on(&EndpointBuilder::new(), serve, driver, net.clock.clone()).unwrap();
    (Handle::new(Arc::new(core), None), is_broken)
}

fn is_of_socket(kind: &CallErrorKind) -> bool {
    matches!(kind, CallErrorKind::Socket(error) if error.kind() == io::ErrorKind::NotConnected)
}

#[test]
fn calls_under_way_end_when_the_socket_fails() {
    let mut net = Net::new(LinkPlan::default());
    let (client, is_broken) = open(&mut net, 1, false);
    let server = net.open(2, true);
    let hosts = [&client, &server];
    let mut single = call(&client, &server, "one".into(), None);
    let mut set = Completions::new(client.clone());
    let content = Content::Whole("two".into());
    let member = PendingCall::new(client.clone(), server.local_addr().into(), content);
    let Poll::Ready(Ok(id)) = set.start(member).poll(Waker::noop()) else { panic!("no room") };
    set.flush();
    let content = Content::Announced(Some(5), Box::default());
    let mut third = PendingCall::new(client.clone(), server.local_addr().into(), content);
    let (mut writer, mut third) = net.run(&hosts, || third.poll_open(Waker::noop())).unwrap();
    net.pass(20, &hosts);
    is_broken.store(true, Ordering::Relaxed);
    net.pass(1, &[&client]);
    let Poll::Ready(Err(error)) = single.poll_message(Waker::noop()) else {
        panic!("the call waits on");
    };
    assert!(is_of_socket(error.kind()), "{error}");
    let Poll::Ready(Some((ended, Err(error)))) = set.poll_next(Waker::noop()) else {
        panic!("the call in a set waits on");
    };
    assert!(ended == id && is_of_socket(error.kind()), "{error}");
    let Poll::Ready(Err(error)) = third.poll_message(Waker::noop()) else {
        panic!("the call whose body is written waits on");
    };
    assert!(is_of_socket(error.kind()), "{error}");
    let written = writer.poll_ready(Waker::noop());
    let Poll::Ready(Err(StreamError::Call(error))) = written else { panic!("{written:?}") };
    assert!(is_of_socket(error.kind()), "{error}");
    assert_eq!(client.stats().outstanding_calls, 0);
    let mut late = call(&client, &server, "late".into(), None);
    let Poll::Ready(Err(error)) = late.poll_message(Waker::noop()) else { panic!("it begins") };
    assert!(is_of_socket(error.kind()), "{error}");
}

#[test]
fn handlers_learn_that_the_socket_has_failed() {
    let mut net = Net::new(LinkPlan::default());
    let client = net.open(1, false);
    let (server, is_broken) = open(&mut net, 2, true);
    let _call = call(&client, &server, "one".into(), None);
    let mut accepted = accept(&mut net, &client, &server);
    assert!(accepted.replier.poll_cancelled(Waker::noop()).is_pending());
    is_broken.store(true, Ordering::Relaxed);
    net.pass(1, &[&server]);
    assert!(accepted.replier.poll_cancelled(Waker::noop()).is_ready());
    let mut response = Some("done".into());
    let Poll::Ready(_) = accepted.replier.poll_reply(Waker::noop(), &mut response) else {
        panic!("it waits on");
    };
}

#[test]
fn responses_on_their_way_give_their_room_back_when_the_socket_fails() {
    let mut net = Net::new(LinkPlan::default());
    let client = net.open(1, false);
    let (server, is_broken) = open(&mut net, 2, true);
    let _call = call(&client, &server, "one".into(), None);
    let mut accepted = accept(&mut net, &client, &server);
    let mut response = Some("done".into());
    assert!(accepted.replier.poll_reply(Waker::noop(), &mut response).is_ready());
    drop(accepted);
    assert_eq!(server.stats().unacknowledged_response_bytes, 4);
    is_broken.store(true, Ordering::Relaxed);
    net.pass(1, &[&server]);
    assert_eq!(server.stats().unacknowledged_response_bytes, 0);
    assert!(server.rooms.requests.given_up().is_empty());
}
