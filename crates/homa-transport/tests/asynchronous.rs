//! Async endpoints over loopback, in both kinds of runtime.
#![cfg(feature = "tokio")]

mod common;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use common::{SOON, echo_server, pattern};
use homa_transport::{BindError, CallError, CallOptions, Endpoint, Limit};
use tokio::time::timeout;

fn bind_at(address: SocketAddr) -> Result<Endpoint, BindError> {
    common::at_server(|| common::builder().bind(address))
}

fn client() -> Endpoint {
    common::at_client(|| common::builder().client()).unwrap()
}

/// As [`common::acquaint`].
async fn acquaint(client: &Endpoint, server: &Endpoint) {
    if common::is_raw() {
        let call = client.start(server.local_addr(), "hello");
        let request = timeout(SOON, server.accept()).await.unwrap().unwrap().unwrap();
        request.reply("hello").await.unwrap();
        assert_eq!(call.await.unwrap(), "hello");
    }
}

async fn echo() -> SocketAddr {
    let server = bind_at(common::address()).unwrap();
    let address = server.local_addr();
    tokio::spawn(async move {
        while let Ok(Some(request)) = server.accept().await {
            tokio::spawn(async move {
                let answer = request.body().clone();
                let _ = request.reply(answer).await;
            });
        }
    });
    address
}

async fn calls_of_all_sizes_come_back() {
    let server = echo().await;
    let client = client();
    for length in [1, 100, 1_400, 10_000, 40_001, 100_000, 1_000_000] {
        let body = pattern(length);
        let answer = timeout(SOON, client.call(server, body.clone())).await.unwrap().unwrap();
        assert!(answer == body, "{length} bytes came back wrong");
    }
}

#[tokio::test]
async fn calls_work_in_a_current_thread_runtime() {
    calls_of_all_sizes_come_back().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_work_in_a_multi_thread_runtime() {
    calls_of_all_sizes_come_back().await;
}

async fn a_thousand_tasks_call_at_once() {
    let server = echo().await;
    let client = client();
    let tasks: Vec<_> = (0..1_000_u32)
        .map(|number| {
            let client = client.clone();
            tokio::spawn(async move {
                for _ in 0..3 {
                    let answer = client.call(server, number.to_be_bytes()).await.unwrap();
                    assert_eq!(answer, number.to_be_bytes());
                }
            })
        })
        .collect();
    for task in tasks {
        timeout(SOON, task).await.unwrap().unwrap();
    }
    assert_eq!(client.stats().outstanding_calls, 0);
}

#[tokio::test]
async fn a_thousand_tasks_share_an_endpoint() {
    a_thousand_tasks_call_at_once().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_tasks_share_an_endpoint_on_several_threads() {
    a_thousand_tasks_call_at_once().await;
}

#[tokio::test]
async fn calls_started_from_one_task_go_on_together() {
    let server = echo().await;
    let client = client();
    let calls: Vec<_> = (0..100_u32).map(|n| client.start(server, n.to_be_bytes())).collect();
    for (number, call) in (0..100_u32).zip(calls) {
        let answer = timeout(SOON, call).await.unwrap().unwrap();
        assert_eq!(answer, number.to_be_bytes());
    }
}

#[tokio::test]
async fn a_deadline_ends_a_call() {
    let server = bind_at(common::address()).unwrap();
    let client = client();
    let options = CallOptions::new().timeout(Duration::from_millis(30));
    let error = client.call_with(server.local_addr(), "slow", options).await.unwrap_err();
    common::assert_fails!(error, CallError::DeadlineExceeded { .. }, server.local_addr());
}

#[tokio::test]
async fn dropping_a_call_cancels_the_request() {
    let server = bind_at(common::address()).unwrap();
    let client = client();
    acquaint(&client, &server).await;
    let call = client.start(server.local_addr(), "never mind");
    let mut request = timeout(SOON, server.accept()).await.unwrap().unwrap().unwrap();
    drop(call);
    timeout(SOON, request.cancelled()).await.expect("the server is told");
    assert!(request.is_cancelled());
}

#[tokio::test]
async fn nobody_serving_fails_at_once() {
    let other = common::at_server(|| common::builder().client()).unwrap();
    let client = client();
    let server = SocketAddr::new(common::server_ip(), other.local_addr().port());
    let error = client.call(server, "?").await.unwrap_err();
    common::assert_fails!(error, common::nobody_serves!(), server);
}

#[tokio::test]
async fn a_cancelled_accept_loses_no_request() {
    let server = bind_at(common::address()).unwrap();
    let client = client();
    let call = client.start(server.local_addr(), "?");
    for _ in 0..20 {
        // Polled once or twice, then dropped.
        let _ = timeout(Duration::ZERO, server.accept()).await.map(|request| {
            let request = request.unwrap().unwrap();
            tokio::spawn(request.reply("!"))
        });
        tokio::task::yield_now().await;
    }
    let late = tokio::spawn(async move {
        let request = server.accept().await.unwrap().unwrap();
        request.reply("!").await.unwrap();
    });
    assert_eq!(timeout(SOON, call).await.unwrap().unwrap(), "!");
    late.abort();
}

// Scenario: X22, X23
#[tokio::test]
async fn at_a_limit_try_call_fails_and_call_waits() {
    let server = bind_at(common::address()).unwrap();
    let address = server.local_addr();
    let client = common::at_client(|| common::builder().outstanding_calls_max(1).client()).unwrap();
    let first = client.try_call(address, "1").unwrap();
    let error = client.try_call(address, "2").unwrap_err();
    const LIMIT: Limit = Limit::OutstandingCalls(1);
    common::assert_fails!(error, CallError::LimitReached { limit: LIMIT, .. }, address);
    let options = CallOptions::new().timeout(Duration::from_millis(20));
    let error = client.call_with(address, "2", options).await.unwrap_err();
    common::assert_fails!(error, CallError::DeadlineExceeded { .. }, address);
    let second = tokio::spawn({
        let client = client.clone();
        async move { client.call(address, "2").await }
    });
    tokio::task::yield_now().await;
    for _ in 0..2 {
        let request = timeout(SOON, server.accept()).await.unwrap().unwrap().unwrap();
        request.reply("!").await.unwrap();
    }
    assert_eq!(timeout(SOON, first).await.unwrap().unwrap(), "!");
    assert_eq!(timeout(SOON, second).await.unwrap().unwrap().unwrap(), "!");
}

// Scenario: X24
#[tokio::test]
async fn closing_tells_the_peers() {
    let server = bind_at(common::address()).unwrap();
    let address = server.local_addr();
    let client = client();
    acquaint(&client, &server).await;
    let call = client.start(address, "?");
    let request = timeout(SOON, server.accept()).await.unwrap().unwrap().unwrap();
    timeout(SOON, server.close()).await.unwrap();
    let error = timeout(SOON, call).await.unwrap().unwrap_err();
    common::assert_fails!(error, CallError::Closing { .. }, address);
    assert!(server.accept().await.unwrap().is_none());
    drop(request);
}

#[tokio::test]
async fn a_port_can_be_bound_again_after_close() {
    let server = bind_at(common::address()).unwrap();
    let address = server.local_addr();
    let client = client();
    let call = client.start(address, "?");
    drop(timeout(SOON, server.accept()).await.unwrap());
    timeout(SOON, server.close()).await.unwrap();
    drop(server);
    drop(call);
    tokio::task::yield_now().await;
    bind_at(address).unwrap();
}

#[tokio::test]
async fn the_port_is_free_soon_after_the_last_handle_is_dropped() {
    let server = bind_at(common::address()).unwrap();
    let address = server.local_addr();
    // Polled once, so that a task drives.
    assert!(timeout(Duration::from_millis(1), server.accept()).await.is_err());
    drop(server);
    let start = Instant::now();
    while let Err(error) = bind_at(address) {
        assert!(start.elapsed() < SOON, "{error}");
        tokio::task::yield_now().await;
    }
}

#[test]
fn calls_pending_in_a_dropped_runtime_do_not_stop_the_endpoint() {
    let server = echo_server(common::address());
    let silent = common::bind();
    let client = client();
    common::acquaint(&client.to_blocking(), &silent);
    let first = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    first.block_on(async {
        assert_eq!(client.call(server, "one").await.unwrap(), "one");
        let (client, address) = (client.clone(), silent.local_addr());
        tokio::spawn(async move { client.call(address, "?").await });
        tokio::task::yield_now().await;
    });
    let mut request = silent.accept_timeout(SOON).unwrap().expect("it was sent");
    drop(first);
    // The task's call went with its runtime; nobody but the guard is left to tell the server.
    let start = Instant::now();
    while !request.is_cancelled() {
        assert!(start.elapsed() < SOON, "the server was not told");
        drop(silent.accept_timeout(Duration::from_millis(5)));
    }
    drop(request.take_body());
    let second = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    second.block_on(async {
        assert_eq!(timeout(SOON, client.call(server, "two")).await.unwrap().unwrap(), "two");
    });
}

#[test]
fn a_call_moved_out_of_its_runtime_is_driven_by_the_guard() {
    let server = echo_server(common::address());
    let client = client();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let call = runtime.block_on(async {
        let mut call = Box::pin(client.start(server, "late"));
        // Polled once, so that a task drives.
        let _ = timeout(Duration::ZERO, &mut call).await.map(drop);
        Some(client.start(server, "later"))
    });
    drop(runtime);
    let second = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    assert_eq!(second.block_on(timeout_call(call.unwrap())).unwrap(), "later");
}

async fn timeout_call(call: homa_transport::Call) -> Result<homa_transport::Message, CallError> {
    timeout(SOON, call).await.unwrap()
}

#[test]
fn a_runtime_that_is_not_polled_does_not_stop_others() {
    let server = echo_server(common::address());
    let client = client();
    let idle = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    idle.block_on(async { assert_eq!(client.call(server, "1").await.unwrap(), "1") });
    // The driver task sits in `idle`, which nobody polls any more.
    let other = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for _ in 0..3 {
        other.block_on(async {
            assert_eq!(timeout(SOON, client.call(server, "2")).await.unwrap().unwrap(), "2");
        });
    }
    assert_eq!(client.to_blocking().call(server, "3").unwrap(), "3");
}

#[test]
fn tasks_and_threads_share_an_endpoint() {
    let server = echo_server(common::address());
    let client = client();
    let blocking = client.to_blocking();
    let thread = std::thread::spawn(move || {
        for number in 0..500_u32 {
            assert_eq!(blocking.call(server, number.to_be_bytes()).unwrap(), number.to_be_bytes());
        }
    });
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        for number in 0..500_u32 {
            let answer = timeout(SOON, client.call(server, number.to_be_bytes())).await.unwrap();
            assert_eq!(answer.unwrap(), number.to_be_bytes());
        }
    });
    thread.join().unwrap();
}
