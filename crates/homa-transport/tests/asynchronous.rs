//! Tasks that call and serve over loopback, in both kinds of runtime.
#![cfg(feature = "tokio")]

mod common;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use common::{SOON, acquaint, bind, bind_at, client, client_with, echo_server, pattern, runtime};
use homa_transport::{AcceptError, CallErrorKind, Limit};
use tokio::time::timeout;

async fn echo() -> SocketAddr {
    let server = bind();
    let address = server.local_addr();
    tokio::spawn(async move {
        while let Ok(request) = server.accept().await {
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
    let calls: Vec<_> =
        (0..100_u32).map(|n| client.call(server, n.to_be_bytes()).start()).collect();
    for (number, call) in (0..100_u32).zip(calls) {
        let answer = timeout(SOON, call).await.unwrap().unwrap();
        assert_eq!(answer, number.to_be_bytes());
    }
}

#[tokio::test]
async fn a_deadline_ends_a_call() {
    let server = bind();
    let client = client();
    let call = client.call(server.local_addr(), "slow").timeout(Duration::from_secs(1)).start();
    let _request = timeout(SOON, server.accept()).await.unwrap().unwrap();
    common::assert_fails!(call.await, CallErrorKind::DeadlineExceeded { .. }, server.local_addr());
}

#[tokio::test]
async fn dropping_a_call_cancels_the_request() {
    let server = bind();
    let client = client();
    acquaint(&client, &server);
    let call = client.call(server.local_addr(), "never mind").start();
    let mut request = timeout(SOON, server.accept()).await.unwrap().unwrap();
    drop(call);
    timeout(SOON, request.cancelled()).await.expect("the server is told");
    assert!(request.is_cancelled());
}

#[tokio::test]
async fn nobody_serving_fails_at_once() {
    let other = common::at_server(|| common::builder().client()).unwrap();
    let client = client();
    let server = SocketAddr::new(common::server_ip(), other.local_addr().port());
    common::assert_fails!(client.call(server, "?").await, common::nobody_serves!(), server);
}

#[tokio::test]
async fn a_cancelled_accept_loses_no_request() {
    let server = bind();
    let client = client();
    let call = client.call(server.local_addr(), "?").start();
    for _ in 0..20 {
        // Polled once or twice, then dropped.
        let _ = timeout(Duration::ZERO, server.accept()).await.map(|request| {
            let request = request.unwrap();
            tokio::spawn(request.reply("!"))
        });
        tokio::task::yield_now().await;
    }
    let late = tokio::spawn(async move {
        let request = server.accept().await.unwrap();
        request.reply("!").await.unwrap();
    });
    assert_eq!(timeout(SOON, call).await.unwrap().unwrap(), "!");
    late.abort();
}

// Scenario: X22, X23
#[tokio::test]
async fn at_a_limit_try_start_fails_and_a_call_waits() {
    let server = bind();
    let address = server.local_addr();
    let client = client_with(|builder| builder.outstanding_calls_max(1));
    let first = client.call(address, "1").try_start().unwrap();
    common::assert_fails!(
        client.call(address, "2").try_start(),
        CallErrorKind::LimitReached(Limit::OutstandingCalls(1)),
        address
    );
    common::assert_fails!(
        client.call(address, "2").timeout(Duration::from_millis(20)).await,
        CallErrorKind::DeadlineExceeded { .. },
        address
    );
    let second = tokio::spawn({
        let client = client.clone();
        async move { client.call(address, "2").await }
    });
    tokio::task::yield_now().await;
    for _ in 0..2 {
        let request = timeout(SOON, server.accept()).await.unwrap().unwrap();
        request.reply("!").await.unwrap();
    }
    assert_eq!(timeout(SOON, first).await.unwrap().unwrap(), "!");
    assert_eq!(timeout(SOON, second).await.unwrap().unwrap().unwrap(), "!");
}

// Scenario: X24
#[tokio::test]
async fn closing_tells_the_peers() {
    let server = bind();
    let address = server.local_addr();
    let client = client();
    acquaint(&client, &server);
    let call = client.call(address, "?").start();
    let request = timeout(SOON, server.accept()).await.unwrap().unwrap();
    timeout(SOON, server.close()).await.unwrap();
    common::assert_fails!(timeout(SOON, call).await.unwrap(), CallErrorKind::Closing, address);
    assert_eq!(server.accept().await.unwrap_err(), AcceptError::Closed);
    drop(request);
}

#[tokio::test]
async fn a_port_can_be_bound_again_after_close() {
    let server = bind();
    let address = server.local_addr();
    let client = client();
    let call = client.call(address, "?").start();
    drop(timeout(SOON, server.accept()).await.unwrap());
    timeout(SOON, server.close()).await.unwrap();
    drop(server);
    drop(call);
    tokio::task::yield_now().await;
    bind_at(address).unwrap();
}

#[tokio::test]
async fn the_port_is_free_soon_after_the_last_handle_is_dropped() {
    let server = bind();
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
    let silent = bind();
    let client = client();
    acquaint(&client, &silent);
    let first = runtime();
    first.block_on(async {
        assert_eq!(client.call(server, "one").await.unwrap(), "one");
        let (client, address) = (client.clone(), silent.local_addr());
        tokio::spawn(async move { client.call(address, "?").await });
        tokio::task::yield_now().await;
    });
    let mut request = silent.accept().wait_timeout(SOON).expect("it was sent").unwrap();
    drop(first);
    // The task's call went with its runtime; nobody but the guard is left to tell the server.
    let start = Instant::now();
    while !request.is_cancelled() {
        assert!(start.elapsed() < SOON, "the server was not told");
        drop(silent.accept().wait_timeout(Duration::from_millis(5)));
    }
    drop(request.take_body());
    runtime().block_on(async {
        assert_eq!(timeout(SOON, client.call(server, "two")).await.unwrap().unwrap(), "two");
    });
}

#[test]
fn a_call_moved_out_of_its_runtime_is_driven_by_the_guard() {
    let server = echo_server(common::address());
    let client = client();
    let first = runtime();
    let call = first.block_on(async {
        let mut call = Box::pin(client.call(server, "late").start());
        // Polled once, so that a task drives.
        let _ = timeout(Duration::ZERO, &mut call).await.map(drop);
        [client.call(server, "later").start()]
    });
    drop(first);
    runtime().block_on(async {
        let [call] = call;
        assert_eq!(timeout(SOON, call).await.unwrap().unwrap(), "later");
    });
}

#[test]
fn a_runtime_that_is_not_polled_does_not_stop_others() {
    let server = echo_server(common::address());
    let client = client();
    let idle = runtime();
    idle.block_on(async { assert_eq!(client.call(server, "1").await.unwrap(), "1") });
    // The driver task sits in `idle`, which nobody polls any more.
    let other = runtime();
    for _ in 0..3 {
        other.block_on(async {
            assert_eq!(timeout(SOON, client.call(server, "2")).await.unwrap().unwrap(), "2");
        });
    }
    assert_eq!(client.call(server, "3").wait().unwrap(), "3");
}

#[test]
fn tasks_and_threads_share_an_endpoint() {
    let server = echo_server(common::address());
    let client = client();
    let thread = std::thread::spawn({
        let client = client.clone();
        move || {
            for number in (0..500_u32).map(u32::to_be_bytes) {
                assert_eq!(client.call(server, number).wait().unwrap(), number);
            }
        }
    });
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        for number in (0..500_u32).map(u32::to_be_bytes) {
            let answer = timeout(SOON, client.call(server, number)).await.unwrap();
            assert_eq!(answer.unwrap(), number);
        }
    });
    thread.join().unwrap();
}

/// How often this thread has given its core away to sleep.
fn sleeps() -> u64 {
    let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
    line.unwrap().trim().parse().unwrap()
}

#[test]
fn a_task_that_looks_for_packets_does_not_sleep_between_those_of_a_message() {
    const PIECES: u64 = 50;
    let server = common::bind_with(|builder| builder.busy_poll(true));
    let address = server.local_addr();
    let calling = std::thread::spawn(move || {
        let piece = pattern(10_000);
        let length = piece.len() as u32 * PIECES as u32;
        let call = client().call_streaming(address).length(length);
        let (mut sender, response) = call.open().wait().unwrap();
        for _ in 0..PIECES {
            sender.send(piece.clone()).wait().unwrap();
            std::thread::sleep(Duration::from_millis(1));
        }
        sender.finish().unwrap();
        response.wait().unwrap()
    });
    runtime().block_on(async {
        let before = sleeps();
        let request = timeout(SOON, server.accept()).await.unwrap().unwrap();
        let slept = sleeps() - before;
        assert!(slept < PIECES / 2, "{slept} sleeps");
        request.reply("got it").await.unwrap();
        // The runtime drives until the client has its answer.
        tokio::task::spawn_blocking(|| assert_eq!(calling.join().unwrap(), "got it"))
            .await
            .unwrap();
    });
}
