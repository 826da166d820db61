//! Servers that are called by name.
#![cfg(feature = "tokio")]

mod common;

use common::{SOON, client, echo_server, runtime};
use homa_transport::{CallError, CallErrorKind};
use tokio::time::timeout;

/// The error of a call to a server whose name has no address.
fn error_of(name: &str) -> CallError {
    let error = client().call(name, "?").wait().unwrap_err();
    assert!(matches!(error.kind(), CallErrorKind::NotResolved(_)), "{error:?}");
    assert!(error.to_string().contains(&format!("`{name}`")), "{error}");
    assert!(!error.may_have_executed());
    assert_eq!(error.server(), None);
    error
}

#[test]
fn a_name_is_resolved_for_a_thread() {
    let port = echo_server("127.0.0.1:0").port();
    let client = client();
    assert_eq!(client.call(format!("localhost:{port}"), "hello").wait().unwrap(), "hello");
    assert_eq!(client.call(("localhost", port), "hello").wait().unwrap(), "hello");
}

#[test]
fn a_name_is_resolved_for_a_task() {
    let port = echo_server("127.0.0.1:0").port();
    let client = client();
    runtime().block_on(async {
        let call = client.call(("localhost", port), "hello");
        assert_eq!(call.server(), None, "the name is not looked up before the call begins");
        assert_eq!(timeout(SOON, call).await.unwrap().unwrap(), "hello");
    });
}

#[test]
fn a_call_by_name_that_was_started_goes_on_when_it_is_waited_for() {
    let port = echo_server("127.0.0.1:0").port();
    let client = client();
    let started = client.call(("localhost", port), "started").start();
    let tried = client.call(("localhost", port), "tried").try_start().unwrap();
    assert_eq!(started.wait().unwrap(), "started");
    assert_eq!(tried.wait().unwrap(), "tried");
}

#[test]
fn a_name_without_an_address_is_named() {
    error_of("no.such.host.invalid:4000");
}

#[test]
fn a_name_without_a_port_is_named() {
    error_of("localhost");
}

#[test]
fn an_endpoint_of_ipv4_says_that_it_cannot_call_a_name_that_has_ipv6_addresses_only() {
    let client = common::client_with(|builder| builder.client_ip([127, 0, 0, 1].into()));
    // Without brackets it is looked up, and no table of hosts has to list it.
    let error = client.call("::1:4000", "?").wait().unwrap_err();
    let expected = format!("`::1:4000` has no address that {} can call", client.local_addr());
    assert_eq!(error.to_string(), expected);
}

#[test]
fn calls_by_name_can_be_in_a_set_also_those_of_another_endpoint() {
    let port = echo_server("127.0.0.1:0").port();
    let (client, other) = (client(), client());
    let mut calls = client.call_set();
    for endpoint in [&client, &other] {
        let id = calls.add(endpoint.call(("localhost", port), "hello")).wait().unwrap();
        let (ended, answer) =
            calls.join_next().wait_timeout(SOON).expect("it is answered").unwrap();
        assert_eq!((ended, answer.unwrap().into_string().unwrap()), (id, "hello".to_owned()));
    }
}
