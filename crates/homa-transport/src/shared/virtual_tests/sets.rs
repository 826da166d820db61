//! Sets of calls: members, which have no state of their own, begin, end and are given up.

use std::task::{Poll, Waker};
use std::time::Duration;

use homa_io::Body;
use homa_virtual::LinkPlan;

use super::{Net, accept};
use crate::shared::{Accepted, Completions, Content, Handle, PendingCall};
use crate::{CallError, CallErrorKind, Limit, Message, Rejection};

/// Steps in which everything has happened that happens at once.
const SOON: u64 = 20;

fn call(client: &Handle, server: &Handle, body: impl Into<Body>) -> PendingCall {
    let content = Content::Whole(body.into());
    PendingCall::new(client.clone(), server.local_addr().into(), content)
}

/// Adds a call for which there is room.
fn add(set: &mut Completions, call: PendingCall) -> u64 {
    match set.start(call).poll(Waker::noop()) {
        Poll::Ready(id) => id.unwrap(),
        Poll::Pending => panic!("there is no room"),
    }
}

fn answer(mut accepted: Accepted) {
    let mut body = Some(Body::from(accepted.body.clone()));
    assert!(accepted.replier.poll_reply(Waker::noop(), &mut body).is_ready());
}

/// The next call that is over.
fn next(
    net: &mut Net,
    hosts: &[&Handle],
    set: &mut Completions,
) -> (u64, Result<Message, CallError>) {
    net.run(hosts, || set.poll_next(Waker::noop())).unwrap()
}

fn open(net: &mut Net) -> (Handle, Handle) {
    (net.open(1, false), net.open(2, true))
}

#[test]
fn members_travel_together_and_come_back_as_they_end() {
    let mut net = Net::new(LinkPlan::default());
    let (client, server) = open(&mut net);
    let hosts = [&client, &server];
    let mut set = Completions::new(client.clone());
    let mut ids: Vec<u64> =
        (0..10).map(|number: u8| add(&mut set, call(&client, &server, vec![number]))).collect();
    assert_eq!(client.stats().engine.trains_sent, 0, "nobody waits, and they are few");
    set.flush();
    assert_eq!(client.stats().engine.trains_sent, 1);
    for _ in 0..10 {
        answer(accept(&mut net, &client, &server));
    }
    for _ in 0..10 {
        let (id, response) = next(&mut net, &hosts, &mut set);
        let at = ids.iter().position(|known| *known == id).unwrap();
        assert_eq!(response.unwrap().len(), 1);
        ids.remove(at);
    }
    assert!(set.len() == 0 && ids.is_empty());
    assert!(matches!(set.poll_next(Waker::noop()), Poll::Ready(None)));
    let stats = client.stats();
    assert_eq!(
        (stats.outstanding_calls, stats.outstanding_bytes, stats.engine.live_rpcs),
        (0, 0, 0)
    );
}

#[test]
fn a_long_response_and_a_rejection_come_to_members_as_to_others() {
    let mut net = Net::new(LinkPlan::default());
    let (client, server) = open(&mut net);
    let hosts = [&client, &server];
    let mut set = Completions::new(client.clone());
    let mut body = Body::from(vec![7; 200_000]);
    body.metadata_mut().add("number", "7");
    let long = add(&mut set, call(&client, &server, body));
    // With what travels beside it.
    answer(accept(&mut net, &client, &server));
    let (id, response) = next(&mut net, &hosts, &mut set);
    let response = response.unwrap();
    assert_eq!((id, response.len()), (long, 200_000));
    assert_eq!(response.metadata().get("number").map(|value| &**value), Some(&b"7"[..]));
    let rejected = add(&mut set, call(&client, &server, "no"));
    set.flush();
    let rejection = Rejection::new(7, "not here");
    accept(&mut net, &client, &server).replier.reject(rejection.clone());
    let (id, response) = next(&mut net, &hosts, &mut set);
    let error = response.unwrap_err();
    assert_eq!((id, error.kind()), (rejected, &CallErrorKind::Rejected(rejection)));
    assert_eq!(error.server(), Some(server.local_addr()));
}

#[test]
fn a_member_that_fails_says_why() {
    let mut net = Net::new(LinkPlan::default());
    let client = net.open_with(1, false, |builder| {
        let config = builder.config.clone().with(|config| config.limits.max_rpcs = 1);
        builder.config(config)
    });
    let server = net.open(2, true);
    let hosts = [&client, &server];
    let mut set = Completions::new(client.clone());
    let mut first = call(&client, &server, "waits");
    first.options().timeout = Some(Duration::from_millis(100));
    let (first, second) = (add(&mut set, first), add(&mut set, call(&client, &server, "fails")));
    let (id, response) = next(&mut net, &hosts, &mut set);
    let kind = CallErrorKind::LimitReached(Limit::LiveRpcs);
    assert_eq!((id, response.unwrap_err().kind()), (second, &kind));
    // A request that is not accepted is refused before.
    let _accepted = accept(&mut net, &client, &server);
    let (id, response) = next(&mut net, &hosts, &mut set);
    let kind = CallErrorKind::DeadlineExceeded { sent: true };
    assert_eq!((id, response.unwrap_err().kind()), (first, &kind));
    assert_eq!(client.stats().outstanding_calls, 0);
}

#[test]
fn a_member_that_is_given_up_is_cancelled_at_its_server() {
    let mut net = Net::new(LinkPlan::default());
    let (client, server) = open(&mut net);
    let hosts = [&client, &server];
    let mut set = Completions::new(client.clone());
    let (given_up, other) =
        (add(&mut set, call(&client, &server, "a")), add(&mut set, call(&client, &server, "b")));
    set.flush();
    let accepted = [(); 2].map(|()| accept(&mut net, &client, &server));
    assert!(set.abort(given_up) && !set.abort(given_up));
    net.pass(SOON, &hosts);
    let cancelled = accepted.iter().filter(|accepted| accepted.replier.is_cancelled());
    assert_eq!(cancelled.map(|accepted| accepted.body.to_vec()).collect::<Vec<_>>(), [b"a"]);
    accepted.into_iter().filter(|accepted| !accepted.replier.is_cancelled()).for_each(answer);
    assert_eq!(next(&mut net, &hosts, &mut set).0, other);
    assert_eq!((set.len(), client.stats().outstanding_calls), (0, 0));
}

#[test]
fn a_member_that_was_not_sent_leaves_nothing_when_it_is_given_up() {
    let mut net = Net::new(LinkPlan::default());
    let (client, server) = open(&mut net);
    let hosts = [&client, &server];
    let mut set = Completions::new(client.clone());
    let id = add(&mut set, call(&client, &server, "a"));
    assert_eq!(client.stats().outstanding_calls, 1);
    assert!(set.abort(id));
    assert_eq!(client.stats().outstanding_calls, 0);
    set.flush();
    net.pass(SOON, &hosts);
    assert_eq!(server.stats().engine.requests_received, 0);
}

#[test]
fn a_set_that_is_dropped_gives_up_what_is_in_it() {
    let mut net = Net::new(LinkPlan::default());
    let (client, server) = open(&mut net);
    let hosts = [&client, &server];
    let mut set = Completions::new(client.clone());
    for _ in 0..2 {
        add(&mut set, call(&client, &server, "sent"));
    }
    set.flush();
    let accepted = [(); 2].map(|()| accept(&mut net, &client, &server));
    add(&mut set, call(&client, &server, "not sent"));
    assert_eq!(client.stats().outstanding_calls, 3);
    drop(set);
    assert_eq!(client.stats().outstanding_calls, 0);
    net.pass(SOON, &hosts);
    assert!(accepted.iter().all(|accepted| accepted.replier.is_cancelled()));
    assert_eq!(server.stats().engine.requests_received, 2);
}

#[test]
fn a_set_keeps_to_its_calls_when_another_takes_its_place() {
    let mut net = Net::new(LinkPlan::default());
    let (client, server) = open(&mut net);
    let hosts = [&client, &server];
    let mut first = Completions::new(client.clone());
    add(&mut first, call(&client, &server, "first"));
    first.flush();
    answer(accept(&mut net, &client, &server));
    assert!(next(&mut net, &hosts, &mut first).1.is_ok());
    // Their numbers and places are the same.
    let mut second = Completions::new(client.clone());
    let of_second = add(&mut second, call(&client, &server, "second"));
    second.flush();
    let accepted = accept(&mut net, &client, &server);
    let not_sent = add(&mut first, call(&client, &server, "not sent"));
    assert!(first.abort(not_sent));
    drop(first);
    net.pass(SOON, &hosts);
    assert!(!accepted.replier.is_cancelled());
    answer(accepted);
    assert_eq!(next(&mut net, &hosts, &mut second).0, of_second);
}

#[test]
fn a_call_that_waits_for_room_has_a_state_of_its_own() {
    let mut net = Net::new(LinkPlan::default());
    let client = net.open_with(1, false, |builder| builder.outstanding_calls_max(1));
    let server = net.open(2, true);
    let hosts = [&client, &server];
    let mut set = Completions::new(client.clone());
    let first = add(&mut set, call(&client, &server, "first"));
    let mut starting = set.start(call(&client, &server, "second"));
    assert!(starting.poll(Waker::noop()).is_pending(), "the first one was sent meanwhile");
    let accepted = net.run(&hosts, || {
        assert!(starting.poll(Waker::noop()).is_pending());
        crate::shared::Acceptor::new(&server, crate::shared::ServingMode::Whole).poll(Waker::noop())
    });
    answer(accepted.unwrap());
    let second = net.run(&hosts, || starting.poll(Waker::noop())).unwrap();
    answer(accept(&mut net, &client, &server));
    let mut ended = [(); 2].map(|()| next(&mut net, &hosts, &mut set).0);
    ended.sort_unstable();
    let mut all = [first, second];
    all.sort_unstable();
    assert_eq!(ended, all);
}
