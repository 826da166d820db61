//! Who is woken and told, and when: nobody polls before the waker says so.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Poll, Wake, Waker};
use std::time::Duration;

use bytes::Bytes;
use homa_io::{Body, Metadata};
use homa_virtual::LinkPlan;

use super::{Net, accept, call};
use crate::shared::{
    Accepted, Acceptor, Closing, Completions, Content, Handle, Idle, Incoming, Outgoing,
    PendingCall, ServingMode,
};
use crate::{CallErrorKind, EndpointBuilder, Rejection, StreamError};

/// Steps in which everything has happened that happens at once.
const SOON: u64 = 50;
/// Bytes of a piece of a stream.
const PIECE: usize = 300_000;

/// Whether a waker was used.
#[derive(Debug, Default)]
struct Bell(AtomicBool);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Bell {
    fn new() -> (Arc<Self>, Waker) {
        let bell = Arc::<Self>::default();
        (Arc::clone(&bell), bell.into())
    }

    fn has_rung(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

fn pair(net: &mut Net) -> (Handle, Handle) {
    (net.open(1, false), net.open(2, true))
}

fn reply(accepted: &mut Accepted, body: &'static str) {
    let mut body = Some(Body::from(body));
    assert_eq!(accepted.replier.poll_reply(Waker::noop(), &mut body), Poll::Ready(Ok(())));
}

#[test]
fn who_goes_away_after_a_request_was_meant_for_it_passes_it_on() {
    let mut net = Net::new(LinkPlan::default());
    let (client, server) = pair(&mut net);
    let ((first_bell, first_waker), (second_bell, second_waker)) = (Bell::new(), Bell::new());
    let mut first = Acceptor::new(&server, ServingMode::Whole);
    let mut second = Acceptor::new(&server, ServingMode::Whole);
    assert!(first.poll(&first_waker).is_pending() && second.poll(&second_waker).is_pending());
    let _pending = call(&client, &server, "hello".into(), None);
    net.pass(SOON, &[&client, &server]);
    assert!(second_bell.has_rung() && !first_bell.has_rung(), "the newest waits with warm caches");
    drop(second);
    assert!(first_bell.has_rung());
    assert!(first.poll(&first_waker).is_ready());
}

#[test]
fn requests_without_a_place_in_the_queue_are_not_executed_when_their_server_stops() {
    let mut net = Net::new(LinkPlan::default());
    let client = net.open(1, false);
    let server = net.open_with(2, true, |builder| builder.accept_queue_max(1));
    let mut calls = ["first", "second", "third"].map(|it| call(&client, &server, it.into(), None));
    net.pass(SOON, &[&client, &server]);
    assert_eq!(server.stats().requests_waiting, 1);
    server.stop_accepting();
    net.pass(SOON, &[&client, &server]);
    for call in &mut calls {
        let Poll::Ready(ended) = call.poll_message(Waker::noop()) else { panic!("it goes on") };
        assert_eq!(*ended.unwrap_err().kind(), CallErrorKind::NotExecuted);
    }
}

#[test]
fn a_request_whose_answer_cannot_be_sent_is_dropped() {
    let mut net = Net::new(LinkPlan::default());
    let (client, server) = pair(&mut net);
    let mut pending = call(&client, &server, "hello".into(), None);
    let accepted = accept(&mut net, &client, &server);
    accepted.replier.reject(Rejection::new(1, "x".repeat(1_100_000)));
    net.pass(SOON, &[&client, &server]);
    let Poll::Ready(ended) = pending.poll_message(Waker::noop()) else { panic!("it goes on") };
    assert_eq!(*ended.unwrap_err().kind(), CallErrorKind::Dropped);
}

#[test]
fn a_call_that_has_its_response_gives_its_room_back_once_and_at_once() {
    let mut net = Net::new(LinkPlan::default());
    let (client, server) = pair(&mut net);
    let mut short = call(&client, &server, vec![1; 100].into(), None);
    let mut accepted = accept(&mut net, &client, &server);
    let _long = call(&client, &server, vec![2; 1_000].into(), None);
    assert_eq!(client.stats().outstanding_bytes, 1_100);
    reply(&mut accepted, "done");
    // The server is asked for nothing more.
    let response = net.run_for(SOON, &[&client], || short.poll_message(Waker::noop()));
    assert_eq!(response.unwrap().unwrap(), "done");
    let stats = client.stats();
    assert_eq!((stats.outstanding_calls, stats.outstanding_bytes), (1, 1_000));
}

#[test]
fn calls_of_a_set_are_sent_when_their_answers_are_awaited() {
    let mut net = Net::new(LinkPlan::default());
    let (client, server) = pair(&mut net);
    let mut calls = Completions::new(client.clone());
    let content = Content::Whole("hello".into());
    let pending = PendingCall::new(client.clone(), server.local_addr().into(), content);
    assert!(calls.start(pending).poll(Waker::noop()).is_ready());
    assert!(calls.poll_next(Waker::noop()).is_pending());
    // Nobody else drives the client.
    net.pass(SOON, &[&server]);
    assert_eq!(server.stats().requests_waiting, 1);
}

#[test]
fn who_waits_for_cancellation_is_woken_when_the_client_gives_up() {
    let mut net = Net::new(LinkPlan::default());
    let (client, server) = pair(&mut net);
    let pending = call(&client, &server, "hello".into(), None);
    let mut accepted = accept(&mut net, &client, &server);
    let (bell, waker) = Bell::new();
    assert!(accepted.replier.poll_cancelled(&waker).is_pending());
    net.pass(SOON, &[&client, &server]);
    assert!(!bell.has_rung());
    drop(pending);
    net.pass(SOON, &[&client, &server]);
    assert!(bell.has_rung());
    assert!(accepted.replier.poll_cancelled(&waker).is_ready());
}

#[test]
fn an_endpoint_is_not_idle_while_a_handler_works() {
    let mut net = Net::new(LinkPlan::default());
    let (client, server) = pair(&mut net);
    let _pending = call(&client, &server, "hello".into(), None);
    let mut accepted = accept(&mut net, &client, &server);
    let mut idle = Idle::new(&server);
    assert!(idle.poll(Waker::noop()).is_pending());
    reply(&mut accepted, "done");
    drop(accepted);
    net.run(&[&client, &server], || idle.poll(Waker::noop()));
}

#[test]
fn calls_that_wait_for_room_end_when_their_endpoint_begins_to_close() {
    let mut net = Net::new(LinkPlan::default());
    let client = net.open(1, false);
    let server = net.open_with(2, true, |builder| builder.outstanding_calls_max(1));
    let third = net.open(3, true);
    let _pending = call(&client, &server, "hello".into(), None);
    let mut accepted = accept(&mut net, &client, &server);
    reply(&mut accepted, "nobody takes it");
    drop(accepted);
    let _first = call(&server, &third, "first".into(), None);
    let mut second = call(&server, &third, "second".into(), None);
    let (bell, waker) = Bell::new();
    assert!(second.poll_message(&waker).is_pending());
    // The response on its way keeps it from being closed.
    let mut closing = Closing::begin(&server, Duration::from_secs(3));
    assert!(bell.has_rung());
    let Poll::Ready(ended) = second.poll_message(&waker) else { panic!("it waits on") };
    assert_eq!(*ended.unwrap_err().kind(), CallErrorKind::Closed);
    assert!(closing.poll(Waker::noop()).is_pending());
}

#[test]
fn the_end_of_the_last_request_closes_an_endpoint_that_waits_for_nothing_else() {
    let mut net = Net::new(LinkPlan::default());
    let (client, server) = pair(&mut net);
    let pending = call(&client, &server, "hello".into(), None);
    let accepted = accept(&mut net, &client, &server);
    let mut closing = Closing::begin(&server, Duration::from_secs(3));
    drop(pending);
    net.pass(SOON, &[&client, &server]);
    let (bell, waker) = Bell::new();
    assert!(closing.poll(&waker).is_pending());
    // The client has given up, and whoever drives sleeps.
    drop(accepted);
    assert!(bell.has_rung());
    assert!(closing.poll(&waker).is_ready());
}

/// Both ends of a response that is read while it is written.
fn streamed(net: &mut Net, body_bytes: Option<u32>) -> (Handle, Handle, Incoming, Outgoing) {
    let long = |builder: EndpointBuilder| builder.max_message_bytes(16 << 20);
    let (client, server) = (net.open_with(1, false, long), net.open_with(2, true, long));
    let mut pending = call(&client, &server, "hello".into(), None);
    pending.stream_response();
    let accepted = accept(net, &client, &server);
    let mut writer = accepted.replier.reply_streaming(body_bytes, Metadata::new()).unwrap();
    assert!(is_sent(&mut writer, Waker::noop()));
    let begun = net.run_for(SOON, &[&client, &server], || pending.poll_stream(Waker::noop()));
    (client, server, begun.unwrap().unwrap(), writer)
}

/// Whether there was room for another piece, of which `waker` is told otherwise.
fn is_sent(writer: &mut Outgoing, waker: &Waker) -> bool {
    let sent = writer.poll_send(waker, &mut Some(Bytes::from(vec![7; PIECE])));
    sent.map(Result::unwrap).is_ready()
}

/// Reads what is there; returns how much.
fn read(reader: &mut Incoming) -> usize {
    let mut bytes = 0;
    while let Poll::Ready(Ok(Some(piece))) = reader.poll_chunk(Waker::noop()) {
        bytes += piece.len();
    }
    bytes
}

#[test]
fn a_writer_is_woken_when_what_it_wrote_was_taken() {
    let mut net = Net::new(LinkPlan::default());
    let (client, server, mut reader, mut writer) = streamed(&mut net, None);
    let (bell, waker) = Bell::new();
    let pieces = 1 + (0..10).take_while(|_| is_sent(&mut writer, &waker)).count();
    assert!(pieces < 10 && !bell.has_rung());
    let mut bytes = 0;
    net.run_for(SOON, &[&client, &server], || {
        bytes += read(&mut reader);
        Poll::<()>::Pending
    });
    assert_eq!(bytes, pieces * PIECE);
    assert!(bell.has_rung());
    assert!(is_sent(&mut writer, &waker));
}

#[test]
fn what_arrives_of_a_stream_while_nobody_reads_can_be_read_later() {
    let mut net = Net::new(LinkPlan::default());
    let body_bytes = 3 * PIECE;
    let (client, server, mut reader, mut writer) = streamed(&mut net, Some(body_bytes as u32));
    assert!(is_sent(&mut writer, Waker::noop()) && is_sent(&mut writer, Waker::noop()));
    writer.finish().unwrap();
    net.pass(SOON, &[&client, &server]);
    let mut bytes = 0;
    net.run_for(SOON, &[&client, &server], || {
        bytes += read(&mut reader);
        Poll::<()>::Pending
    });
    assert_eq!(bytes, body_bytes);
}

#[test]
fn the_writer_of_a_response_is_told_when_nobody_reads_it_any_more() {
    for waits in [false, true] {
        let mut net = Net::new(LinkPlan::default());
        let (client, server, mut reader, mut writer) = streamed(&mut net, None);
        let (bell, waker) = Bell::new();
        while waits && is_sent(&mut writer, &waker) {}
        net.pass(SOON, &[&client, &server]);
        assert!(read(&mut reader) > 0);
        drop(reader);
        net.pass(SOON, &[&client, &server]);
        assert_eq!(bell.has_rung(), waits);
        let sent = writer.poll_send(Waker::noop(), &mut Some(Bytes::from_static(b"more")));
        assert!(matches!(sent, Poll::Ready(Err(StreamError::Cancelled { .. }))), "{sent:?}");
    }
}
