//! Servers that shut down in order, and clients that lose nothing by it.

mod common;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use common::SOON;
use homa_transport::{AcceptError, CallErrorKind, Endpoint};

/// Calls under way while servers restart.
const CALLS: u32 = 10_000;
const SERVERS: usize = 3;

/// How often each call was executed.
#[derive(Clone, Default)]
struct Ledger(Arc<Mutex<HashMap<u32, u32>>>);

impl Ledger {
    fn execute(&self, body: &[u8]) {
        let call = u32::from_be_bytes(body.try_into().unwrap());
        *self.0.lock().unwrap().entry(call).or_default() += 1;
    }

    fn executions(&self, call: u32) -> u32 {
        self.0.lock().unwrap().get(&call).copied().unwrap_or(0)
    }
}

/// The number of answered calls, which becomes that of all when this goes, by a panic too: nobody
/// waits for more.
struct Answered(Arc<AtomicUsize>);

impl Drop for Answered {
    fn drop(&mut self) {
        self.0.store(CALLS as usize, Ordering::Relaxed);
    }
}

/// Serves with some threads until nothing is accepted any more.
fn serve(server: &Endpoint, ledger: &Ledger) -> Vec<thread::JoinHandle<()>> {
    let serve = || {
        let (server, ledger) = (server.clone(), ledger.clone());
        thread::spawn(move || {
            while let Ok(request) = server.accept().wait() {
                let body = request.body().to_vec();
                ledger.execute(&body);
                thread::sleep(Duration::from_micros(100));
                // Its client waits: nobody gives up here.
                request.reply(body).wait().unwrap();
            }
        })
    };
    (0..4).map(|_| serve()).collect()
}

/// The same with tasks.
async fn serve_tasks(server: Endpoint, ledger: Ledger) {
    while let Ok(request) = server.accept().await {
        let ledger = ledger.clone();
        tokio::spawn(async move {
            let body = request.body().to_vec();
            ledger.execute(&body);
            tokio::time::sleep(Duration::from_millis(1)).await;
            request.reply(body).await.unwrap();
        });
    }
}

/// Serves at an address that another server has left.
fn bind_again(address: SocketAddr) -> Endpoint {
    let begin = Instant::now();
    loop {
        match common::bind_at(address) {
            Ok(server) => return server,
            Err(error) => assert!(begin.elapsed() < SOON, "{error}"),
        }
        thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_rolling_restart_under_ten_thousand_calls_loses_none_and_executes_none_twice() {
    let ledger = Ledger::default();
    let servers: Vec<Endpoint> = (0..SERVERS).map(|_| common::bind()).collect();
    let addresses: Vec<SocketAddr> = servers.iter().map(Endpoint::local_addr).collect();
    let answered = Arc::new(AtomicUsize::new(0));
    thread::scope(|scope| {
        let (ledger, answered_too, addresses) = (&ledger, &answered, &addresses);
        scope.spawn(move || {
            for (nth, server) in servers.into_iter().enumerate() {
                let workers = serve(&server, ledger);
                while answered_too.load(Ordering::Relaxed) < (nth + 1) * CALLS as usize / 8 {
                    thread::sleep(Duration::from_millis(1));
                }
                assert_eq!(server.drain(SOON).wait(), 0, "all that was accepted is answered");
                workers.into_iter().for_each(|worker| worker.join().unwrap());
                let address = server.local_addr();
                drop(server);
                let _workers = serve(&bind_again(address), ledger);
            }
        });
        let answered = Answered(Arc::clone(&answered));
        let client = common::client();
        let mut calls = client.call_set();
        let mut under_way = HashMap::new();
        let mut again: Vec<(u32, usize)> = (0..CALLS).map(|call| (call, 0)).collect();
        let mut retries = 0;
        while !again.is_empty() || !under_way.is_empty() {
            for (call, tries) in again.drain(..) {
                let server = addresses[(call as usize + tries) % SERVERS];
                let id = calls.add(client.call(server, call.to_be_bytes())).wait().unwrap();
                under_way.insert(id, (call, tries));
            }
            let Some((id, answer)) = calls.join_next().wait() else { continue };
            let (call, tries) = under_way.remove(&id).unwrap();
            match answer {
                Ok(answer) => {
                    assert_eq!(answer, call.to_be_bytes());
                    answered.0.fetch_add(1, Ordering::Relaxed);
                }
                Err(error) => {
                    assert!(error.is_retryable(), "call {call}: {error}");
                    assert!(tries < 10_000, "call {call}: {error}");
                    retries += 1;
                    again.push((call, tries + 1));
                    if retries % 100 == 0 {
                        thread::sleep(Duration::from_millis(1));
                    }
                }
            }
        }
        assert!(retries > 0, "calls met servers that were shutting down");
    });
    for call in 0..CALLS {
        assert_eq!(ledger.executions(call), 1, "call {call}");
    }
}

#[cfg(feature = "tokio")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tasks_lose_nothing_by_a_rolling_restart_either() {
    let ledger = Ledger::default();
    let servers: Vec<Endpoint> = (0..SERVERS).map(|_| common::bind()).collect();
    let addresses: Vec<SocketAddr> = servers.iter().map(Endpoint::local_addr).collect();
    let answered = Arc::new(AtomicUsize::new(0));
    for server in &servers {
        tokio::spawn(serve_tasks(server.clone(), ledger.clone()));
    }
    let client = common::client();
    let calls: Vec<_> = (0..CALLS)
        .map(|call| {
            let (client, addresses) = (client.clone(), addresses.clone());
            let answered = Arc::clone(&answered);
            tokio::spawn(async move {
                for tries in 0..10_000 {
                    let server = addresses[(call as usize + tries) % SERVERS];
                    match client.call(server, call.to_be_bytes()).await {
                        Ok(answer) => {
                            assert_eq!(answer, call.to_be_bytes());
                            answered.fetch_add(1, Ordering::Relaxed);
                            return;
                        }
                        Err(error) => assert!(error.is_retryable(), "call {call}: {error}"),
                    }
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                panic!("call {call} was not answered");
            })
        })
        .collect();
    for (nth, server) in servers.into_iter().enumerate() {
        while answered.load(Ordering::Relaxed) < (nth + 1) * CALLS as usize / 8 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(server.drain(SOON).await, 0, "all that was accepted is answered");
        let address = server.local_addr();
        drop(server);
        let again = tokio::task::spawn_blocking(move || bind_again(address)).await.unwrap();
        tokio::spawn(serve_tasks(again, ledger.clone()));
    }
    for call in calls {
        tokio::time::timeout(SOON, call).await.unwrap().unwrap();
    }
    for call in 0..CALLS {
        assert_eq!(ledger.executions(call), 1, "call {call}");
    }
}

#[test]
fn a_request_that_no_handler_has_seen_was_not_executed() {
    let server = common::bind();
    let client = common::client();
    let first = client.call(server.local_addr(), "first").start();
    let accepted = server.accept().wait().unwrap();
    let second = client.call(server.local_addr(), "second").start();
    while server.stats().requests_waiting == 0 {
        thread::sleep(Duration::from_millis(1));
    }
    server.stop_accepting();
    for refused in [second, client.call(server.local_addr(), "third")] {
        let error = refused.wait().unwrap_err();
        assert_eq!(error.kind(), &CallErrorKind::NotExecuted);
        assert!(error.is_retryable() && !error.may_have_executed());
    }
    assert_eq!(server.accept().wait().unwrap_err(), AcceptError::Closed);
    accepted.reply("done").wait().unwrap();
    assert_eq!(first.wait().unwrap(), "done");
    server.wait_idle().wait();
}

#[test]
fn draining_waits_for_accepted_requests_and_lets_their_handlers_call() {
    let (server, other) = (common::bind(), common::echo_server(common::address()));
    let client = common::client();
    let call = client.call(server.local_addr(), "work").start();
    let accepted = server.accept().wait().unwrap();
    let draining = thread::spawn({
        let server = server.clone();
        move || server.drain(SOON).wait()
    });
    thread::sleep(Duration::from_millis(50));
    assert!(!draining.is_finished() && !accepted.is_cancelled());
    let needed = server.call(other, "needed").wait().unwrap();
    accepted.reply(needed).wait().unwrap();
    assert_eq!(call.wait().unwrap(), "needed");
    assert_eq!(draining.join().unwrap(), 0);
    let error = server.call(other, "too late").wait().unwrap_err();
    assert_eq!(error.kind(), &CallErrorKind::Closed);
}

#[test]
fn a_drain_ends_at_its_time_and_tells_how_many_were_not_answered() {
    let server = common::bind();
    let client = common::client();
    let call = client.call(server.local_addr(), "slow").start();
    let mut accepted = server.accept().wait().unwrap();
    let begin = Instant::now();
    assert_eq!(server.drain(Duration::from_millis(50)).wait(), 1);
    assert!(begin.elapsed() >= Duration::from_millis(50));
    let error = call.wait().unwrap_err();
    assert_eq!(error.kind(), &CallErrorKind::Closing);
    assert!(error.may_have_executed());
    accepted.cancelled().wait();
    assert!(accepted.reply("too late").wait().is_err());
}

#[test]
fn closing_makes_a_drain_shorter_and_nothing_makes_it_longer() {
    let server = common::bind_with(|builder| builder.linger(Duration::from_millis(20)));
    let client = common::client();
    let _call = client.call(server.local_addr(), "slow").start();
    let _accepted = server.accept().wait().unwrap();
    let mut draining = server.drain(Duration::from_secs(3_600));
    assert!(draining.wait_timeout(Duration::from_millis(10)).is_none());
    assert_eq!(server.close().wait(), 1);
    assert_eq!(draining.wait(), 1);
    assert_eq!(server.drain(Duration::from_secs(3_600)).wait(), 1, "it is closed already");
}

#[test]
fn waiting_for_idleness_ends_with_the_last_request_and_its_response() {
    let server = common::bind();
    server.wait_idle().wait();
    let client = common::client();
    let call = client.call(server.local_addr(), "work").start();
    let accepted = server.accept().wait().unwrap();
    let mut idle = server.wait_idle();
    assert!(idle.wait_timeout(Duration::from_millis(20)).is_none());
    thread::scope(|scope| {
        scope.spawn(|| {
            thread::sleep(Duration::from_millis(20));
            accepted.reply("done").wait().unwrap();
        });
        idle.wait();
    });
    assert_eq!(call.wait().unwrap(), "done");
    assert_eq!(server.stats().requests_in_service, 0);
}

#[test]
fn a_dropped_request_is_no_longer_in_service() {
    let server = common::bind();
    let client = common::client();
    let call = client.call(server.local_addr(), "work").start();
    drop(server.accept().wait().unwrap());
    server.wait_idle().wait();
    assert_eq!(call.wait().unwrap_err().kind(), &CallErrorKind::Dropped);
    let panicking = thread::spawn({
        let server = server.clone();
        move || {
            let _request = server.accept().wait().unwrap();
            panic!("a handler");
        }
    });
    let call = client.call(server.local_addr(), "work").start();
    panicking.join().unwrap_err();
    assert_eq!(call.wait().unwrap_err().kind(), &CallErrorKind::Dropped);
    server.wait_idle().wait();
}
