//! Endpoints as the sockets of scenarios C1 to C12: ports, closing, what is left.

mod common;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use common::{SOON, echo_server, pattern};
use homa_transport::{AcceptError, BindError, CallError, CallErrorKind, Endpoint, EndpointBuilder};

// Scenario: C1
#[test]
fn every_client_gets_a_port_of_its_own_from_the_systems_range() {
    let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap();
    let mut bounds = range.split_whitespace().map(|bound| bound.parse::<u16>().unwrap());
    let (low, high) = (bounds.next().unwrap(), bounds.next().unwrap());
    let clients: Vec<_> = (0..10).map(|_| Endpoint::client().unwrap()).collect();
    let mut ports: Vec<u16> = clients.iter().map(|client| client.local_addr().port()).collect();
    assert!(ports.iter().all(|port| (low..=high).contains(port)), "{ports:?}");
    ports.sort_unstable();
    ports.dedup();
    assert_eq!(ports.len(), 10);
}

// Scenario: C4
#[test]
fn port_0_leaves_the_choice_to_the_system() {
    let server = echo_server("127.0.0.1:0");
    assert_ne!(server.port(), 0);
    assert_eq!(Endpoint::client().unwrap().call(server, "hello").wait().unwrap(), "hello");
}

// Scenario: C3, C5
#[test]
fn a_port_can_be_chosen_serves_and_is_free_again_afterwards() {
    // An address of this process alone, and a port that the system gives to nobody by itself.
    let [.., high, low] = std::process::id().to_be_bytes();
    let free = SocketAddr::from(([127, 77, high, low], 4000));
    for _ in 0..2 {
        // A client that knew the first server could take the second for its next life.
        let client = Endpoint::client().unwrap();
        let server = Endpoint::bind(free).unwrap();
        assert_eq!(server.local_addr(), free);
        assert!(
            matches!(Endpoint::bind(free), Err(BindError::InUse { address, .. }) if address == free)
        );
        common::serve_echo(server.clone());
        assert_eq!(client.call(free, "here?").wait().unwrap(), "here?");
        server.close().wait();
        drop(server);
        let start = Instant::now();
        while std::net::UdpSocket::bind(free).is_err() {
            assert!(start.elapsed() < SOON, "the port is never free");
            std::thread::yield_now();
        }
    }
}

// Scenario: C7
#[test]
fn an_endpoint_that_only_calls_refuses_requests_and_cannot_accept() {
    let (client, other) = (Endpoint::client().unwrap(), Endpoint::client().unwrap());
    assert_eq!(client.accept().wait().unwrap_err(), AcceptError::NotServing);
    let address = SocketAddr::from(([127, 0, 0, 1], client.local_addr().port()));
    common::assert_fails!(other.call(address, "?").wait(), common::nobody_serves!(), address);
    let server = echo_server("127.0.0.1:0");
    assert_eq!(client.call(server, "calls work").wait().unwrap(), "calls work");
}

/// Waits until `done` or fails.
fn soon(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < SOON, "{what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

// Scenario: C10
#[test]
fn closing_releases_all_who_wait_also_those_who_wait_for_room() {
    let silent = Endpoint::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr();
    let endpoint = EndpointBuilder::new()
        .outstanding_calls_max(1)
        .linger(Duration::ZERO)
        .bind("127.0.0.1:0")
        .unwrap();
    let thread = |work: fn(&Endpoint, SocketAddr) -> String| {
        let endpoint = endpoint.clone();
        std::thread::spawn(move || work(&endpoint, address))
    };
    let call = |endpoint: &Endpoint, address| {
        format!("{:?}", endpoint.call(address, "x").wait().unwrap_err().kind())
    };
    let calling = thread(call);
    soon("the first call has the only place", || endpoint.stats().outstanding_calls == 1);
    let for_room = thread(call);
    let accepting = thread(|endpoint, _| format!("{:?}", endpoint.accept().wait().unwrap_err()));
    let waiting_with_limit = thread(|endpoint, _| {
        let accepted = endpoint.accept().wait_timeout(Duration::from_secs(60));
        format!("{:?}", accepted.expect("it does not last").unwrap_err())
    });
    std::thread::sleep(Duration::from_millis(50));
    let start = Instant::now();
    endpoint.close().wait();
    let said =
        [calling, for_room, accepting, waiting_with_limit].map(|thread| thread.join().unwrap());
    assert_eq!(said, ["Closed"; 4]);
    assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
}

// Scenario: C11, C12
#[test]
fn closing_again_changes_nothing_and_nothing_is_left() {
    let server = Endpoint::bind("127.0.0.1:0").unwrap();
    let address = server.local_addr();
    let client = Endpoint::client().unwrap();
    let calls: Vec<_> = (0..10).map(|_| client.call(address, pattern(300_000)).start()).collect();
    let request = server.accept().wait().unwrap();
    let closed = CallError::from(CallErrorKind::Closed);
    for endpoint in [&client, &server] {
        for _ in 0..2 {
            endpoint.close().wait();
        }
        let stats = endpoint.stats();
        assert_eq!((stats.outstanding_calls, stats.outstanding_bytes), (0, 0));
        assert_eq!((stats.engine.live_rpcs, stats.engine.receive_memory_bytes), (0, 0));
        assert_eq!(endpoint.call(address, "?").wait().unwrap_err(), closed);
    }
    for call in calls {
        assert_eq!(call.wait().unwrap_err(), closed);
    }
    assert!(request.reply("late").wait().is_err());
}
