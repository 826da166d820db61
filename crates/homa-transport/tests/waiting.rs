//! Ways to wait: in threads, in tasks of runtimes of all kinds, and for many calls at once.
#![cfg(feature = "tokio")]

mod common;

use std::future::Future;
use std::panic::catch_unwind;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::{Duration, Instant};

use common::{SOON, bind, client, client_with, echo_server, pattern, runtime};
use homa_transport::{AcceptError, Call, CallSet};
use tokio::time::timeout;

/// Runs a future without any runtime; it has to be woken.
fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return output;
        }
        let start = Instant::now();
        std::thread::park_timeout(SOON);
        assert!(start.elapsed() < SOON, "nobody wakes it");
    }
}

#[test]
fn a_thread_and_a_task_serve_at_one_endpoint_at_the_same_time() {
    let server = bind();
    let address = server.local_addr();
    let thread = std::thread::spawn({
        let server = server.clone();
        move || {
            while let Ok(request) = server.accept().wait() {
                request.reply("thread").wait().unwrap();
            }
        }
    });
    let task = std::thread::spawn({
        let server = server.clone();
        move || {
            runtime().block_on(async {
                while let Ok(request) = server.accept().await {
                    request.reply("task").await.unwrap();
                }
            });
        }
    });
    let client = client();
    let start = Instant::now();
    let (mut by_thread, mut by_task) = (0, 0);
    while by_thread == 0 || by_task == 0 {
        assert!(start.elapsed() < SOON, "{by_thread} by the thread, {by_task} by the task");
        let calls: Vec<_> = (0..20).map(|_| client.call(address, "who?").start()).collect();
        for call in calls {
            match call.wait().unwrap().into_string().unwrap().as_str() {
                "thread" => by_thread += 1,
                _ => by_task += 1,
            }
        }
    }
    server.close().wait();
    thread.join().unwrap();
    task.join().unwrap();
}

#[test]
fn waiting_for_a_request_for_some_time_tells_that_time_from_a_closed_endpoint() {
    let server = bind();
    assert!(server.accept().wait_timeout(Duration::from_millis(5)).is_none());
    assert!(server.accept().try_wait().is_none());
    server.close().wait();
    let accepted = server.accept().wait_timeout(SOON).expect("it is known at once");
    assert_eq!(accepted.unwrap_err(), AcceptError::Closed);
    assert_eq!(server.accept().try_wait().unwrap().unwrap_err(), AcceptError::Closed);
}

#[test]
fn an_accept_that_timed_out_can_be_waited_for_again() {
    let server = bind();
    let mut accepting = server.accept();
    assert!(accepting.wait_timeout(Duration::from_millis(5)).is_none());
    let _call = client().call(server.local_addr(), "now").start();
    assert_eq!(*accepting.wait_timeout(SOON).unwrap().unwrap().body(), "now");
}

#[test]
fn tasks_of_a_runtime_without_io_and_timers_call_and_serve() {
    let server = bind();
    let address = server.local_addr();
    let bare = || tokio::runtime::Builder::new_current_thread().build().unwrap();
    let serving = std::thread::spawn(move || {
        bare().block_on(async {
            let request = server.accept().await.unwrap();
            request.reply("here").await.unwrap();
            server.close().await;
        });
    });
    let answer = bare().block_on(async { client().call(address, "bare").await });
    assert_eq!(answer.unwrap(), "here");
    serving.join().unwrap();
}

#[test]
fn futures_call_and_serve_without_a_runtime() {
    let server = bind();
    let address = server.local_addr();
    let serving = std::thread::spawn(move || {
        block_on(async {
            let request = server.accept().await.unwrap();
            let body = request.body().clone();
            request.reply(body).await.unwrap();
            server.close().await;
        });
    });
    let body = pattern(300_000);
    assert!(block_on(client().call(address, body.clone())).unwrap() == body);
    serving.join().unwrap();
}

#[test]
fn a_task_has_many_calls_in_a_set() {
    let server = echo_server(common::address());
    let client = client();
    runtime().block_on(async {
        let mut calls = client.call_set();
        let mut ids = Vec::new();
        for number in 0..200_u32 {
            let call = client.call(server, number.to_be_bytes());
            ids.push(calls.add(call).await.unwrap());
        }
        while let Some((id, answer)) = timeout(SOON, calls.join_next()).await.unwrap() {
            let number = ids.iter().position(|known| *known == id).unwrap() as u32;
            assert_eq!(answer.unwrap(), number.to_be_bytes());
        }
        assert!(calls.is_empty());
    });
}

#[test]
fn a_call_given_up_while_it_waits_for_room_is_not_in_the_set() {
    let server = bind();
    let address = server.local_addr();
    let client = client_with(|builder| builder.outstanding_calls_max(1));
    runtime().block_on(async {
        let mut calls = client.call_set();
        let first = calls.add(client.call(address, "first")).await.unwrap();
        // Dropped while it waits for room: it is not in the set.
        let waiting = calls.add(client.call(address, "second"));
        assert!(timeout(Duration::from_millis(20), waiting).await.is_err());
        assert_eq!(calls.len(), 1);
        let request = timeout(SOON, server.accept()).await.unwrap().unwrap();
        request.reply("done").await.unwrap();
        let (id, answer) = timeout(SOON, calls.join_next()).await.unwrap().unwrap();
        assert_eq!((id, answer.unwrap().into_string().unwrap().as_str()), (first, "done"));
        timeout(SOON, calls.add(client.call(address, "third"))).await.unwrap().unwrap();
    });
}

/// Adds a call and takes its response.
fn round(calls: &mut CallSet, call: Call) {
    let id = calls.add(call).wait().unwrap();
    let (ended, answer) = calls.join_next().wait_timeout(SOON).expect("it is answered").unwrap();
    assert_eq!(ended, id);
    assert_eq!(answer.unwrap(), "hello");
    assert!(calls.is_empty());
}

#[test]
fn a_call_under_way_or_over_can_be_added_to_a_set() {
    let server = bind();
    let client = client();
    let mut calls = client.call_set();
    let call = client.call(server.local_addr(), "started").start();
    let request = server.accept().wait().unwrap();
    std::thread::spawn(move || request.reply("hello").wait().unwrap());
    round(&mut calls, call);

    let mut over = client.call(server.local_addr(), "over").start();
    assert!(over.try_wait().is_none());
    server.accept().wait().unwrap().reply("hello").wait().unwrap();
    let start = Instant::now();
    while client.stats().outstanding_calls > 0 {
        assert!(start.elapsed() < SOON, "the response never comes");
        std::thread::sleep(Duration::from_millis(1));
    }
    round(&mut calls, over);
}

#[test]
fn a_call_of_another_endpoint_can_be_added_to_a_set() {
    let server = echo_server(common::address());
    let (client, other) = (client(), client());
    let mut calls = client.call_set();
    round(&mut calls, other.call(server, "hello"));
    round(&mut calls, other.call(server, "hello").start());
    drop(other);
    round(&mut calls, client.call(server, "hello"));
}

#[test]
fn a_panic_with_a_call_under_way_ends_that_call_alone() {
    let server = bind();
    let address = server.local_addr();
    let client = client();
    let panicked = catch_unwind(|| {
        let _call = client.call(address, "lost").start();
        panic!("on purpose");
    });
    assert!(panicked.is_err());
    common::serve_echo(server);
    assert_eq!(client.call(address, "next").wait().unwrap(), "next");
    let start = Instant::now();
    while client.stats().outstanding_calls > 0 {
        assert!(start.elapsed() < SOON, "{:?}", client.stats());
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_thread_looks_for_a_response_again_and_again() {
    let server = echo_server(common::address());
    let mut call = client().call(server, "?").start();
    let start = Instant::now();
    let answer = loop {
        assert!(start.elapsed() < SOON, "looking brings it");
        if let Some(answer) = call.try_wait() {
            break answer;
        }
        std::hint::spin_loop();
    };
    assert_eq!(answer.unwrap(), "?");
}
