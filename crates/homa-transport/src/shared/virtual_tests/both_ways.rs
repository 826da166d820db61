//! Calls that go both ways at once: two RPCs that share everything but their direction.

use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use homa_core::{Instant, RequestOptions};
use homa_io::Body;
use homa_virtual::LinkPlan;

use super::{Net, STEP_NS};
use crate::shared::frame::{Frame, Leg};
use crate::shared::ops::Operation;
use crate::shared::rpc::{Role, Rpc, RpcState};
use crate::shared::wakes::Wakes;
use crate::shared::{Accepted, Acceptor, Content, Handle, Outgoing, PendingCall, ServingMode};
use crate::{CallError, CallErrorKind, EndpointBuilder, Limit, StreamError};

/// Steps in which everything has happened that happens at once.
const SOON: u64 = 50;
/// Silence after which a peer counts as gone, and an RPC without its partner as lone.
const TIMEOUT: Duration = Duration::from_millis(200);

fn open(net: &mut Net, host: u8, serve: bool) -> Handle {
    net.open_with(host, serve, |builder| quick(builder).streaming_requests(true))
}

fn quick(builder: EndpointBuilder) -> EndpointBuilder {
    let config = builder.config.clone().with(|config| config.recovery.timeout = TIMEOUT);
    builder.config(config)
}

/// Begins one RPC of a call, by its name.
fn half(client: &Handle, server: &Handle, leg: Leg, pair: u64) -> Arc<Rpc> {
    half_with(client, server, leg, pair, RequestOptions::default())
}

fn half_with(
    client: &Handle,
    server: &Handle,
    leg: Leg,
    pair: u64,
    options: RequestOptions,
) -> Arc<Rpc> {
    let rpc = Rpc::new(server.local_addr(), Role::Client, RpcState::default());
    let content = match leg {
        Leg::Download => Content::Download(pair),
        Leg::Upload => {
            let leg = Some((leg, pair));
            Content::Announced(None, Box::new(Frame { open: true, leg, ..Frame::default() }))
        }
    };
    let start = Operation::Start(Arc::clone(&rpc), content, options);
    client.submit(start);
    rpc
}

/// A call that has not begun.
fn call(client: &Handle, server: &Handle, timeout: Option<Duration>) -> PendingCall {
    let content = Content::Announced(None, Box::default());
    let mut call = PendingCall::new(client.clone(), server.local_addr().into(), content);
    call.options().timeout = timeout;
    call
}

fn opened(net: &mut Net, hosts: &[&Handle], mut call: PendingCall) -> (Outgoing, PendingCall) {
    net.run(hosts, || call.poll_open(Waker::noop())).unwrap()
}

fn accept(net: &mut Net, hosts: &[&Handle]) -> Accepted {
    let mut acceptor = Acceptor::new(hosts[hosts.len() - 1], ServingMode::Streaming);
    net.run(hosts, || acceptor.poll(Waker::noop())).unwrap()
}

fn failed(rpc: &Rpc) -> Option<CallErrorKind> {
    rpc.lock().failed.as_ref().map(|error| error.kind().clone())
}

#[test]
fn a_half_whose_partner_never_comes_is_refused_although_nothing_else_comes() {
    for leg in [Leg::Upload, Leg::Download] {
        let mut net = Net::new(LinkPlan::default());
        let (client, server) = (open(&mut net, 1, false), open(&mut net, 2, true));
        let lone = half(&client, &server, leg, 7);
        net.pass(SOON, &[&client, &server]);
        assert_eq!(failed(&lone), None);
        let due_ns = net.world.now_ns() + TIMEOUT.as_nanos() as u64;
        assert!(server.seat.deadline_ns() <= due_ns, "whoever drives wakes up for it");
        let steps = TIMEOUT.as_nanos() as u64 / STEP_NS;
        net.pass(steps, &[&client, &server]);
        assert_eq!(failed(&lone), Some(CallErrorKind::Overloaded), "{leg:?}");
    }
}

#[test]
fn the_deadline_of_a_call_that_waited_for_room_counts_from_its_beginning() {
    let mut net = Net::new(LinkPlan::default());
    let client = net.open_with(1, false, |builder| builder.outstanding_calls_max(1));
    let server = open(&mut net, 2, true);
    let hosts = [&client, &server];
    let (_writer, first) = opened(&mut net, &hosts, call(&client, &server, None));
    let mut second = call(&client, &server, Some(Duration::from_millis(100)));
    assert!(second.poll_open(Waker::noop()).is_pending());
    let due_ns = net.world.now_ns() + 100_000_000;
    net.pass(60, &hosts);
    drop(first);
    let (mut writer, mut second) = opened(&mut net, &hosts, second);
    // Only the response is missing then.
    writer.finish().unwrap();
    let _accepted = [accept(&mut net, &hosts), accept(&mut net, &hosts)];
    let error = net.run(&hosts, || second.poll_message(Waker::noop())).unwrap_err();
    assert_eq!(*error.kind(), CallErrorKind::DeadlineExceeded { sent: true });
    assert!(net.world.now_ns() <= due_ns + 2 * STEP_NS, "{}", net.world.now_ns() - due_ns);
}

#[test]
fn a_handler_is_told_the_earlier_deadline_of_the_two_halves() {
    for legs in [[Leg::Upload, Leg::Download], [Leg::Download, Leg::Upload]] {
        let mut net = Net::new(LinkPlan::default());
        let (client, server) = (open(&mut net, 1, false), open(&mut net, 2, true));
        let begin_ns = net.world.now_ns();
        // As if the other one had been on its way for so long.
        for (leg, steps) in legs.into_iter().zip([60, 0]) {
            let deadline = Instant::from_nanos(net.world.now_ns() + 100_000_000);
            let options = RequestOptions { deadline: Some(deadline), ..RequestOptions::default() };
            half_with(&client, &server, leg, 7, options);
            net.pass(steps, &[&client, &server]);
        }
        let accepted = accept(&mut net, &[&client, &server]);
        let deadline_ns = accepted.replier.deadline_ns().unwrap() - begin_ns;
        assert!(deadline_ns <= 100_000_000 + 2 * STEP_NS, "{deadline_ns} ns");
    }
}

#[test]
fn a_body_that_outgrows_what_its_server_takes_may_have_been_executed_in_part() {
    let mut net = Net::new(LinkPlan::default());
    let client = open(&mut net, 1, false);
    let server = net
        .open_with(2, true, |builder| builder.streaming_requests(true).max_message_bytes(10_000));
    let hosts = [&client, &server];
    let (mut writer, mut call) = opened(&mut net, &hosts, call(&client, &server, None));
    write(&mut writer, 8_000).unwrap();
    let (mut reader, mut replier) = accept(&mut net, &hosts).into_stream();
    net.pass(SOON, &hosts);
    write(&mut writer, 8_000).unwrap();
    net.pass(SOON, &hosts);
    let error = write(&mut writer, 1).unwrap_err();
    assert!(matches!(error, StreamError::TooLong { most_bytes: 10_000, .. }), "{error}");
    let Poll::Ready(ended) = call.poll_message(Waker::noop()) else { panic!("it goes on") };
    let error = ended.unwrap_err();
    assert_eq!((error.kind(), error.may_have_executed()), (&CallErrorKind::BodyIncomplete, true));
    let error = loop {
        match reader.poll_chunk(Waker::noop()) {
            Poll::Ready(Ok(piece)) => assert!(piece.is_some(), "it is not the end"),
            Poll::Ready(Err(error)) => break error,
            Poll::Pending => panic!("it waits on"),
        }
    };
    assert!(matches!(error, StreamError::TooLong { most_bytes: 10_000, .. }), "{error}");
    assert!(replier.poll_cancelled(Waker::noop()).is_ready());
}

/// Writes so many bytes, for which there is room.
fn write(writer: &mut Outgoing, bytes: usize) -> Result<(), StreamError> {
    match writer.poll_send(Waker::noop(), &mut Some(Bytes::from(vec![7; bytes]))) {
        Poll::Ready(sent) => sent,
        Poll::Pending => panic!("there is no room"),
    }
}

#[test]
fn halves_share_a_failure_when_one_of_them_cannot_begin() {
    for others in [0, 1] {
        let mut net = Net::new(LinkPlan::default());
        let client = net.open_with(1, false, |builder| {
            let config = builder.config.clone().with(|config| config.limits.max_rpcs = 1);
            builder.config(config)
        });
        let server = open(&mut net, 2, true);
        let hosts = [&client, &server];
        // Without another call the first half takes the only place.
        let begin = |_| super::call(&client, &server, "other".into(), None);
        let _others: Vec<_> = (0..others).map(begin).collect();
        let (mut writer, mut call) = opened(&mut net, &hosts, call(&client, &server, None));
        let failure = CallErrorKind::LimitReached(Limit::LiveRpcs);
        let StreamError::Call(error) = write(&mut writer, 1).unwrap_err() else {
            panic!("the call has failed");
        };
        assert_eq!(*error.kind(), failure);
        let Poll::Ready(ended) = call.poll_message(Waker::noop()) else { panic!("it goes on") };
        assert_eq!(*ended.unwrap_err().kind(), failure);
        let stats = client.stats();
        assert_eq!((stats.outstanding_calls, stats.engine.live_rpcs), (others, others));
    }
}

#[test]
fn a_writer_whose_call_has_failed_is_not_told_that_it_may_be_answered() {
    let mut net = Net::new(LinkPlan::default());
    let (client, server) = (open(&mut net, 1, false), open(&mut net, 2, true));
    let hosts = [&client, &server];
    let [upload, download] = [Leg::Upload, Leg::Download].map(|leg| half(&client, &server, leg, 7));
    upload.lock().is_upload = true;
    Rpc::pair(&upload, &download);
    let (_reader, mut replier) = accept(&mut net, &hosts).into_stream();
    // As if only one of the two rejections came through.
    let request = replier.shared_request();
    let answer = request.lock().partner.take().and_then(|answer| answer.upgrade()).unwrap();
    answer.lock().partner = None;
    drop(replier);
    net.pass(SOON, &hosts);
    assert_eq!(failed(&download), Some(CallErrorKind::Dropped));
    let mut writer = Outgoing::new(client.clone(), upload, None);
    let StreamError::Call(error) = write(&mut writer, 1).unwrap_err() else {
        panic!("the call has failed");
    };
    assert_eq!(*error.kind(), CallErrorKind::Dropped);
}

#[test]
fn a_half_whose_partner_has_failed_does_not_begin() {
    let mut net = Net::new(LinkPlan::default());
    let (client, server) = (open(&mut net, 1, false), open(&mut net, 2, true));
    let [upload, download] =
        [(); 2].map(|()| Rpc::new(server.local_addr(), Role::Client, RpcState::default()));
    let failure = CallError::new(server.local_addr(), CallErrorKind::Unsupported);
    upload.fail(failure, &mut Wakes::default());
    Rpc::pair(&upload, &download);
    let content = Content::Download(7);
    let start = Operation::Start(Arc::clone(&download), content, RequestOptions::default());
    client.submit(start);
    assert_eq!(failed(&download), Some(CallErrorKind::Unsupported));
    assert_eq!(client.stats().engine.live_rpcs, 0);
}

#[test]
fn a_reader_of_a_whole_response_that_is_dropped_stops_the_writer() {
    for reads_all in [false, true] {
        let mut net = Net::new(LinkPlan::default());
        let (client, server) = (open(&mut net, 1, false), open(&mut net, 2, true));
        let hosts = [&client, &server];
        let (mut writer, mut call) = opened(&mut net, &hosts, call(&client, &server, None));
        let (_request, mut replier) = accept(&mut net, &hosts).into_stream();
        let mut response = Some(Body::from("enough"));
        assert!(replier.poll_reply(Waker::noop(), &mut response).is_ready());
        net.pass(SOON, &hosts);
        let mut reader = net.run(&hosts, || call.poll_stream(Waker::noop())).unwrap();
        if reads_all {
            assert!(reader.poll_chunk(Waker::noop()).is_ready());
        }
        drop(reader);
        assert_eq!(write(&mut writer, 1).is_ok(), reads_all);
    }
}

#[test]
fn a_body_that_is_accepted_whole_may_take_longer_than_a_half_waits() {
    let mut net = Net::new(LinkPlan::default());
    let (client, server) = (net.open_with(1, false, quick), net.open_with(2, true, quick));
    let hosts = [&client, &server];
    let (mut writer, mut call) = opened(&mut net, &hosts, call(&client, &server, None));
    for _ in 0..30 {
        write(&mut writer, 1).unwrap();
        net.pass(20, &hosts);
    }
    writer.finish().unwrap();
    let mut accepted = super::accept(&mut net, &client, &server);
    assert_eq!(accepted.body.len(), 30);
    let mut response = Some(Body::from("done"));
    assert!(accepted.replier.poll_reply(Waker::noop(), &mut response).is_ready());
    assert_eq!(net.run(&hosts, || call.poll_message(Waker::noop())).unwrap(), "done");
}

#[test]
fn a_client_that_was_silent_learns_the_same_of_both_halves() {
    let mut net = Net::new(LinkPlan::default());
    let (client, server) = (open(&mut net, 1, false), open(&mut net, 2, true));
    let hosts = [&client, &server];
    let (mut writer, mut call) = opened(&mut net, &hosts, call(&client, &server, None));
    let accepted = accept(&mut net, &hosts);
    // The client's host stands still.
    let steps = 10 * TIMEOUT.as_nanos() as u64 / STEP_NS;
    let given_up = net.run_for(steps, &[&server], || match accepted.replier.is_cancelled() {
        true => Poll::Ready(()),
        false => Poll::Pending,
    });
    assert!(given_up.is_some());
    let error = net.run(&hosts, || call.poll_message(Waker::noop())).unwrap_err();
    assert_eq!(*error.kind(), CallErrorKind::Forgotten);
    let StreamError::Call(error) = write(&mut writer, 1).unwrap_err() else {
        panic!("the call has failed");
    };
    assert_eq!(*error.kind(), CallErrorKind::Forgotten);
}
