//! Calls and requests from the user's side: scenarios X8 to X29 and O2.

mod common;

use std::net::SocketAddr;
use std::sync::Barrier;
use std::time::{Duration, Instant};

use common::{SOON, pattern};
use homa_transport::{Endpoint, EndpointBuilder, Request};

fn server() -> (Endpoint, SocketAddr) {
    let server = Endpoint::bind("127.0.0.1:0").unwrap();
    let address = server.local_addr();
    (server, address)
}

fn accept(server: &Endpoint) -> Request {
    server.accept().wait_timeout(Duration::from_secs(5)).expect("a request is on its way").unwrap()
}

// Scenario: X9
#[test]
fn looking_without_waiting_says_that_nothing_is_there() {
    let (server, address) = server();
    let client = Endpoint::client().unwrap();
    assert!(server.accept().wait_timeout(Duration::ZERO).is_none());
    let mut call = client.call(address, pattern(200_000)).start();
    assert!(call.try_wait().is_none());
    let request = accept(&server);
    assert!(server.accept().wait_timeout(Duration::ZERO).is_none());
    drop(request);
    assert_eq!(server.stats().engine.receive_memory_bytes, 0, "its memory is free");
}

// Scenario: X11, X12
#[test]
fn every_answer_goes_to_whom_it_belongs_in_whatever_order_they_come() {
    let (server, address) = server();
    let client = Endpoint::client().unwrap();
    let first = client.call(address, "first").start();
    let mut set = client.call_set();
    let in_set = set.add(client.call(address, "in the set")).wait().unwrap();
    set.flush();
    let last = client.call(address, "last").start();
    let mut requests: Vec<Request> = (0..3).map(|_| accept(&server)).collect();
    requests.sort_by_key(|request| request.body().to_vec());
    let [of_first, of_set, of_last] = <[Request; 3]>::try_from(requests).unwrap();
    for request in [of_last, of_first] {
        let answer = request.body().clone();
        request.reply(answer).wait().unwrap();
    }
    assert!(
        set.join_next().wait_timeout(Duration::from_millis(30)).is_none(),
        "others' answers are not its own"
    );
    assert_eq!(first.wait().unwrap(), "first");
    of_set.reply("its own").wait().unwrap();
    let (id, answer) = set.join_next().wait().unwrap();
    assert_eq!(id, in_set);
    assert_eq!(answer.unwrap(), "its own");
    assert!(set.join_next().wait().is_none(), "nothing more is under way");
    assert_eq!(last.wait().unwrap(), "last");
}

// Scenario: X14
#[test]
fn the_body_of_a_request_belongs_to_the_application_whatever_becomes_of_the_rpc() {
    let (server, address) = server();
    let client = Endpoint::client().unwrap();
    let call = client.call(address, pattern(300_000)).start();
    let mut request = accept(&server);
    drop(call);
    let start = Instant::now();
    while !request.is_cancelled() {
        assert!(start.elapsed() < SOON);
        let _ = server.accept().wait_timeout(Duration::from_millis(1));
    }
    let body = request.take_body();
    drop(request);
    server.close().wait();
    drop(server);
    assert!(body == pattern(300_000));
}

// Scenario: X16
#[test]
fn addresses_of_clients_have_the_form_of_their_family() {
    let server = Endpoint::bind("[::]:0").unwrap();
    let port = server.local_addr().port();
    let client = Endpoint::client().unwrap();
    for (ip, is_v4) in [("127.0.0.1", true), ("[::1]", false), ("[::ffff:127.0.0.1]", true)] {
        let address: SocketAddr = format!("{ip}:{port}").parse().unwrap();
        let call = client.call(address, "who?").start();
        let request = accept(&server);
        assert_eq!(request.peer().is_ipv4(), is_v4, "{}", request.peer());
        assert_eq!(request.peer().port(), client.local_addr().port());
        request.reply("you").wait().unwrap();
        assert_eq!(call.server().unwrap().is_ipv4(), is_v4);
        assert_eq!(call.wait().unwrap(), "you");
    }
}

/// How often the calling thread has gone to sleep so far.
fn sleeps() -> u64 {
    let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
    line.expect("the system counts them").trim().parse().unwrap()
}

// Scenario: X18
#[test]
fn who_polls_does_not_sleep_and_who_does_not_sleeps_once_per_answer() {
    const CALLS: u64 = 30;
    let (server, address) = server();
    std::thread::spawn(move || {
        while let Ok(request) = server.accept().wait() {
            std::thread::sleep(Duration::from_millis(3));
            let _ = request.reply("done").wait();
        }
    });
    let sleeps_of = |busy: bool| {
        let builder = EndpointBuilder::new().busy_poll(busy).spin(Duration::ZERO);
        let client = builder.client().unwrap();
        let before = sleeps();
        for _ in 0..CALLS {
            assert_eq!(client.call(address, "?").wait().unwrap(), "done");
        }
        sleeps() - before
    };
    let (polling, sleeping) = (sleeps_of(true), sleeps_of(false));
    assert!(polling < CALLS / 2, "polling slept {polling} times in {CALLS} calls");
    assert!(sleeping >= CALLS, "{sleeping} sleeps in {CALLS} calls that take 3 ms");
}

// Scenario: X19
#[test]
fn one_of_several_waiting_threads_gets_a_request_and_the_others_go_on_waiting() {
    let (server, address) = server();
    let (taken, requests) = std::sync::mpsc::channel();
    let threads: Vec<_> = (0..4)
        .map(|number| {
            let (server, taken) = (server.clone(), taken.clone());
            std::thread::spawn(move || {
                while let Ok(request) = server.accept().wait() {
                    taken.send(number).unwrap();
                    request.reply("taken").wait().unwrap();
                }
            })
        })
        .collect();
    std::thread::sleep(Duration::from_millis(20));
    let client = Endpoint::client().unwrap();
    for _ in 0..100 {
        assert_eq!(client.call(address, "?").wait().unwrap(), "taken");
        requests.recv_timeout(Duration::from_secs(5)).unwrap();
        assert!(requests.try_recv().is_err(), "one of them");
    }
    server.close().wait();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

// Scenario: X21
#[test]
fn requests_that_came_together_are_accepted_one_after_the_other_without_more_packets() {
    let (server, address) = server();
    let client = Endpoint::client().unwrap();
    let calls: Vec<_> =
        (0..5_u8).map(|number| client.call(address, vec![number]).start()).collect();
    let first = accept(&server);
    let start = Instant::now();
    while server.stats().requests_waiting < 4 {
        assert!(start.elapsed() < SOON);
        // Nobody waits: the guard thread looks for packets now and then.
        std::thread::sleep(Duration::from_millis(1));
    }
    let packets = server.stats().engine.packets_received;
    let others: Vec<Request> = (0..4).map(|_| accept(&server)).collect();
    assert_eq!(server.stats().engine.packets_received, packets);
    for request in others.into_iter().chain([first]) {
        request.reply("done").wait().unwrap();
    }
    for call in calls {
        assert_eq!(call.wait().unwrap(), "done");
    }
}

// Scenario: X25
#[test]
fn dropping_a_set_aborts_its_calls_and_no_other_call_and_no_request() {
    let (server, address) = server();
    let (both, own) = self::server();
    let asked = Endpoint::client().unwrap().call(own, "to be served").start();
    let serving = accept(&both);
    let other = both.call(address, "other").start();
    let mut set = both.call_set();
    for _ in 0..5 {
        set.add(both.call(address, "in the set")).wait().unwrap();
    }
    set.flush();
    let mut requests: Vec<Request> = (0..6).map(|_| accept(&server)).collect();
    let aborted = set.add(both.call(address, "aborted alone")).wait().unwrap();
    assert!(set.abort(aborted));
    assert!(!set.abort(aborted), "X26: it is not in the set any more");
    drop(set);
    let start = Instant::now();
    while requests.iter().filter(|request| request.is_cancelled()).count() < 5 {
        assert!(start.elapsed() < SOON);
        let _ = server.accept().wait_timeout(Duration::from_millis(1));
    }
    requests.retain(|request| !request.is_cancelled());
    assert_eq!(requests.len(), 1);
    requests.pop().unwrap().reply("other").wait().unwrap();
    assert_eq!(other.wait().unwrap(), "other");
    serving.reply("served").wait().unwrap();
    assert_eq!(asked.wait().unwrap(), "served");
}

// Scenario: O2
#[test]
fn counters_read_by_two_threads_at_once_are_the_same() {
    let (server, address) = server();
    common::serve_echo(server.clone());
    let client = Endpoint::client().unwrap();
    for _ in 0..100 {
        assert_eq!(client.call(address, "count me").wait().unwrap(), "count me");
    }
    server.close().wait();
    drop(server);
    // What is still on its way is looked at by the guard thread.
    let mut before = client.stats().engine;
    loop {
        std::thread::sleep(Duration::from_millis(50));
        let now = client.stats().engine;
        if std::mem::replace(&mut before, now) == now {
            break;
        }
    }
    let barrier = Barrier::new(4);
    let read = || {
        barrier.wait();
        (0..1000).map(|_| client.stats().engine).all(|engine| engine == before)
    };
    let same = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(read)).collect();
        threads.into_iter().all(|thread| thread.join().unwrap())
    });
    assert!(same);
    assert_eq!((before.requests_sent, before.responses_received), (100, 100));
}
