//! Two engines joined by a wire that loses nothing: the shortest path through the protocol.

use crate::harness::*;
use homa_core::{Config, Event};

/// A client and a server that answers with so many bytes.
fn pair(config: &Config, reply: u32) -> Net {
    let mut net = Net::new(config, 2);
    net.hosts[1].service = Service::Reply(reply);
    net
}

fn completes(length: u32, reply: u32) {
    let config = Config::default().with(|config| config.limits.max_message_bytes = 10_000_000);
    let mut net = pair(&config, reply);
    let rpc = net.call(0, 1, length);
    net.run(3000);
    let (client, server) = (&net.hosts[0].log, &net.hosts[1].log);
    assert!(is_answered(client, rpc, 5), "{client:?} {server:?}");
    assert!(client.contains(&Event::Released { rpc, upto: length }));
    assert_eq!(client.last(), Some(&Event::Ended { rpc }));
    assert!(matches!(server.last(), Some(Event::Ended { .. })), "{server:?}");
    assert_eq!(net.dropped, 0);
    net.assert_quiet();
    for host in &net.hosts {
        assert_eq!(host.engine.stats().bytes_retransmitted, 0, "{:?}", host.engine.stats());
    }
}

#[test]
fn a_one_byte_request_is_answered() {
    completes(1, 1);
}

#[test]
fn a_message_longer_than_the_unscheduled_limit_is_granted_and_completes() {
    completes(1_000_000, 100);
    completes(100, 1_000_000);
    completes(10_000_000, 10_000_000);
}

#[test]
fn sixty_four_equal_requests_leave_in_one_train() {
    let mut net = pair(&Config::default(), 100);
    for _ in 0..64 {
        net.call(0, 1, 100);
    }
    net.run(3000);
    let arrived = net.hosts[0]
        .log
        .iter()
        .filter(|event| matches!(event, Event::ResponseArrived { .. }))
        .count();
    assert_eq!(arrived, 64);
    let trains: u64 = net.hosts.iter().map(|host| host.engine.stats().trains_sent).sum();
    assert!(trains < 20, "{trains} trains");
    assert_eq!(net.dropped, 0);
}
