//! Requests without a state that is shared, given up and answered in all the ways there are.

use std::task::{Poll, Waker};

use bytes::Bytes;
use homa_io::Metadata;
use homa_virtual::LinkPlan;

use super::{Net, accept, call};
use crate::drive::wait::Host;
use crate::shared::ops::Operation;
use crate::shared::origin::Origin;
use crate::shared::{Accepted, Acceptor, Content, Handle, PendingCall, ServingMode};
use crate::{CallErrorKind, Rejection, ReplyError, StreamError};

/// Steps in which everything has happened that happens at once.
const SOON: u64 = 50;

/// A call that has reached its server, which has nothing else.
fn accepted(net: &mut Net) -> (Handle, Handle, PendingCall, Accepted) {
    let (client, server) = (net.open(1, false), net.open(2, true));
    let pending = call(&client, &server, "hello".into(), None);
    let accepted = accept(net, &client, &server);
    assert_eq!(accepted.body, "hello");
    (client, server, pending, accepted)
}

fn reply(accepted: &mut Accepted) -> Result<(), ReplyError> {
    let mut body = Some("done".into());
    match accepted.replier.poll_reply(Waker::noop(), &mut body) {
        Poll::Ready(replied) => replied,
        Poll::Pending => panic!("there is room"),
    }
}

fn response(
    net: &mut Net,
    hosts: [&Handle; 2],
    pending: &mut PendingCall,
) -> Result<String, CallErrorKind> {
    let response = net.run(&hosts, || pending.poll_message(Waker::noop()));
    let response = response.map_err(|error| error.kind().clone())?;
    Ok(String::from_utf8(response.to_vec()).unwrap())
}

/// Nothing of any request is left at a server.
fn is_clean(server: &Handle) -> bool {
    let stats = server.stats();
    let left = [stats.requests_waiting, stats.requests_in_service, stats.engine.live_rpcs];
    left == [0; 3]
        && stats.unacknowledged_response_bytes == 0
        && server.rooms.requests.given_up().is_empty()
}

/// Passes the time until nothing of any request is left at the second of `hosts`.
fn until_clean(net: &mut Net, hosts: [&Handle; 2]) {
    net.run(&hosts, || if is_clean(hosts[1]) { Poll::Ready(()) } else { Poll::Pending });
}

#[test]
fn a_request_that_was_given_up_while_it_waited_is_not_accepted() {
    let mut net = Net::new(LinkPlan::default());
    let (client, server) = (net.open(1, false), net.open(2, true));
    let given_up = call(&client, &server, "given up".into(), None);
    let _other = call(&client, &server, "other".into(), None);
    net.pass(SOON, &[&client, &server]);
    drop(given_up);
    net.pass(SOON, &[&client, &server]);
    assert_eq!(server.stats().requests_waiting, 2);
    assert_eq!(accept(&mut net, &client, &server).body, "other");
    assert!(server.rooms.requests.given_up().is_empty());
}

#[test]
fn a_request_that_is_overdue_when_it_was_given_up_is_not_counted() {
    let mut net = Net::new(LinkPlan::default());
    let client = net.open(1, false);
    let queue_time = std::time::Duration::from_millis(100);
    let server = net.open_with(2, true, |builder| builder.queue_time_max(queue_time));
    let given_up = call(&client, &server, "given up".into(), None);
    let mut late = call(&client, &server, "late".into(), None);
    net.pass(SOON, &[&client, &server]);
    drop(given_up);
    net.pass(3 * SOON, &[&client, &server]);
    assert_eq!(response(&mut net, [&client, &server], &mut late), Err(CallErrorKind::Overloaded));
    assert_eq!(server.stats().requests_overdue, 1);
    assert!(is_clean(&server));
}

#[test]
fn who_answers_a_request_that_was_given_up_learns_it() {
    let mut net = Net::new(LinkPlan::default());
    let (client, server, pending, mut accepted) = accepted(&mut net);
    assert!(!accepted.replier.is_cancelled());
    drop(pending);
    net.pass(SOON, &[&client, &server]);
    assert!(accepted.replier.is_cancelled());
    let cancelled = ReplyError::Cancelled { client: client.local_addr() };
    assert_eq!(reply(&mut accepted), Err(cancelled));
    drop(accepted);
    net.pass(SOON, &[&client, &server]);
    assert!(is_clean(&server));
}

#[test]
fn a_response_that_meets_its_end_leaves_nothing_behind() {
    for replies_first in [false, true] {
        let mut net = Net::new(LinkPlan::default());
        let (client, server, pending, mut accepted) = accepted(&mut net);
        drop(pending);
        net.pass(SOON, &[&client]);
        if replies_first {
            // What says so is at the server, which executes operations before it looks.
            server.attend();
            assert_eq!(reply(&mut accepted), Ok(()));
            server.turn();
            assert!(server.try_leave());
        } else {
            // As if it was given up between the look for that and the answer.
            let Origin::Plain { key, client: peer } = *accepted.replier.origin() else {
                panic!("it has a state")
            };
            net.pass(SOON, &[&client, &server]);
            assert!(accepted.replier.is_cancelled());
            let charge = server.rooms.responses.enter_anyway(peer, 4);
            server.submit(Operation::ReplyPlain(key, Content::Whole("done".into()), charge));
            assert!(server.rooms.requests.given_up().is_empty());
        }
        drop(accepted);
        net.pass(SOON, &[&client, &server]);
        assert!(is_clean(&server));
    }
}

#[test]
fn a_request_that_is_answered_gives_its_room_back_when_its_client_has_the_response() {
    let mut net = Net::new(LinkPlan::default());
    let (client, server, mut pending, mut accepted) = accepted(&mut net);
    assert_eq!(reply(&mut accepted), Ok(()));
    drop(accepted);
    assert_eq!(server.stats().unacknowledged_response_bytes, 4);
    assert_eq!(response(&mut net, [&client, &server], &mut pending), Ok("done".into()));
    until_clean(&mut net, [&client, &server]);
}

#[test]
fn who_waited_for_the_end_of_a_request_and_answered_it_is_forgotten() {
    let ends: [fn(Accepted); 2] = [
        |mut accepted| assert_eq!(reply(&mut accepted), Ok(())),
        |mut accepted| _ = accepted.replier.shared_request(),
    ];
    for end in ends {
        let mut net = Net::new(LinkPlan::default());
        let (_client, server, _pending, mut accepted) = accepted(&mut net);
        for _ in 0..2 {
            assert!(accepted.replier.poll_cancelled(Waker::noop()).is_pending());
            assert_eq!(server.rooms.requests.given_up().waiting(), 1);
        }
        end(accepted);
        assert_eq!(server.rooms.requests.given_up().waiting(), 0);
    }
}

#[test]
fn a_request_is_dropped_refused_or_rejected() {
    let rejection = Rejection { code: 7, text: "no".into() };
    let ends: [(fn(Accepted), _); 3] = [
        (drop, CallErrorKind::Dropped),
        (|accepted| accepted.replier.refuse(), CallErrorKind::Overloaded),
        (
            |accepted| accepted.replier.reject(Rejection { code: 7, text: "no".into() }),
            CallErrorKind::Rejected(rejection),
        ),
    ];
    for (end, kind) in ends {
        let mut net = Net::new(LinkPlan::default());
        let (client, server, mut pending, accepted) = accepted(&mut net);
        end(accepted);
        assert_eq!(response(&mut net, [&client, &server], &mut pending), Err(kind));
        until_clean(&mut net, [&client, &server]);
    }
}

#[test]
fn a_request_is_answered_piece_by_piece() {
    let mut net = Net::new(LinkPlan::default());
    let (client, server, mut pending, accepted) = accepted(&mut net);
    let mut writer = accepted.replier.reply_streaming(Some(6), Metadata::new()).unwrap();
    for piece in [&b"one"[..], b"two"] {
        let mut piece = Some(Bytes::from_static(piece));
        assert!(writer.poll_send(Waker::noop(), &mut piece).is_ready());
    }
    writer.finish().unwrap();
    assert_eq!(response(&mut net, [&client, &server], &mut pending), Ok("onetwo".into()));
    until_clean(&mut net, [&client, &server]);
}

#[test]
fn who_writes_a_response_learns_that_it_was_given_up() {
    for looks_before in [false, true] {
        let mut net = Net::new(LinkPlan::default());
        let (client, server, pending, mut accepted) = accepted(&mut net);
        assert!(accepted.replier.poll_cancelled(Waker::noop()).is_pending());
        if looks_before {
            // The request has a state that is shared before its client gives it up.
            accepted.replier.shared_request();
            net.pass(1, &[&server]);
        }
        drop(pending);
        net.pass(SOON, &[&client]);
        server.attend();
        let mut writer = accepted.replier.reply_streaming(Some(6), Metadata::new()).unwrap();
        server.turn();
        assert!(server.try_leave());
        net.pass(SOON, &[&client, &server]);
        let written = writer.poll_ready(Waker::noop());
        let cancelled = StreamError::Cancelled { peer: client.local_addr() };
        assert_eq!(written, Poll::Ready(Err(cancelled)));
        drop(writer);
        net.pass(SOON, &[&client, &server]);
        assert!(is_clean(&server));
    }
}

#[test]
fn a_request_that_was_given_up_before_its_state_is_shared_is_known_to_be() {
    let mut net = Net::new(LinkPlan::default());
    let (client, server, pending, mut accepted) = accepted(&mut net);
    drop(pending);
    net.pass(SOON, &[&client]);
    // The server learns both in one turn, the client's word last, or first.
    server.attend();
    server.turn();
    let rpc = accepted.replier.shared_request();
    assert!(!rpc.has_failed());
    server.turn();
    assert!(server.try_leave());
    assert!(rpc.has_failed() && accepted.replier.is_cancelled());
    drop((accepted, rpc));
    assert!(is_clean(&server));
}

#[test]
fn a_request_that_is_here_is_read_as_a_stream() {
    let mut net = Net::new(LinkPlan::default());
    let (client, server) = (net.open(1, false), net.open(2, true));
    let mut pending = call(&client, &server, "hello".into(), None);
    let mut acceptor = Acceptor::new(&server, ServingMode::Streaming);
    let accepted = net.run(&[&client, &server], || acceptor.poll(Waker::noop())).unwrap();
    assert!(matches!(accepted.replier.origin(), Origin::Plain { .. }));
    let (mut reader, mut replier) = accepted.into_stream();
    let Poll::Ready(Ok(body)) = reader.poll_rest(Waker::noop()) else { panic!("it is here") };
    assert_eq!(body, "hello");
    drop(reader);
    let mut body = Some("done".into());
    assert!(replier.poll_reply(Waker::noop(), &mut body).is_ready());
    drop(replier);
    assert_eq!(response(&mut net, [&client, &server], &mut pending), Ok("done".into()));
}

#[test]
fn a_request_that_nobody_has_seen_is_not_executed_when_its_server_stops() {
    let mut net = Net::new(LinkPlan::default());
    let (client, server) = (net.open(1, false), net.open(2, true));
    let mut pending = call(&client, &server, "hello".into(), None);
    net.pass(SOON, &[&client, &server]);
    server.stop_accepting();
    let ended = response(&mut net, [&client, &server], &mut pending);
    assert_eq!(ended, Err(CallErrorKind::NotExecuted));
    until_clean(&mut net, [&client, &server]);
}
