//! What becomes of arriving packets: scenarios of the group R that need a batch, a limit or both families.

use std::net::SocketAddr;

use crate::harness::{FULL, Host, PORT, Remote, data_bytes, exact, grants};
use homa_core::{DropReason, Event, PortOptions, Received, RequestOptions};
use homa_wire::{Body, RESEND_ALL, Reason};

fn v6(remote: Remote) -> Remote {
    Remote { address: SocketAddr::from(([0xfd00, 0, 0, 0, 0, 0, 0, 1], 7)), ..remote }
}

// Scenario: R3
#[test]
fn every_packet_of_a_batch_for_an_unknown_port_is_refused_over_both_families() {
    let mut host = Host::new(exact());
    host.engine.close_port(host.now(), PORT);
    let remote = host.remote(1, 1);
    for remote in [remote, v6(remote)] {
        for id in [2, 4, 6] {
            let received = host.receive(&remote, remote.data(id, 0..FULL, 90_000, 40_000));
            assert_eq!(received, Received::Dropped(DropReason::NoSuchPort));
        }
        let sent = host.sent();
        assert_eq!(sent.iter().map(|sent| sent.id()).collect::<Vec<_>>(), [3, 5, 7]);
        for answer in sent {
            assert_eq!(answer.header.body, Body::RpcUnknown);
            assert_eq!(answer.header.reason(), Reason::NoService);
            assert_eq!(answer.path.remote, remote.address);
        }
    }
    let stats = host.stats();
    assert_eq!((stats.live_rpcs, stats.live_peers, stats.receive_memory_bytes), (0, 0, 0));
}

// Scenario: R21
#[test]
fn packets_without_memory_are_counted_and_their_rpc_is_kept() {
    let config = exact().with(|config| {
        config.max_message_bytes = 65_536;
        config.receive_memory_bytes = 131_072;
        config.unscheduled_bytes = 60_000;
    });
    let mut host = Host::new(config);
    let remote = host.remote(1, 1);
    for id in [2, 4] {
        host.take(&remote, remote.data(id, 0..60_000, 60_000, 60_000));
    }
    for packet in 0..3 {
        let range = packet * FULL..(packet + 1) * FULL;
        let received = host.receive(&remote, remote.data(6, range, 60_000, 60_000));
        assert_eq!(received, Received::Dropped(DropReason::NoMemory));
    }
    let stats = host.stats();
    assert_eq!((stats.dropped_no_memory, stats.messages_starved), (3, 1));
    assert_eq!(stats.live_rpcs, 3);
}

// Scenario: R23
#[test]
fn a_response_takes_its_length_and_its_unscheduled_part_from_its_first_packet() {
    let mut host = Host::new(exact());
    let remote = host.remote(1, 1);
    let rpc = host.call(&remote, 100);
    let id = host.sent()[0].id() | 1;
    // Offset 2,832 comes first; 40,000 bytes come without a grant.
    host.take(&remote, remote.data(id, 2 * FULL..3 * FULL, 900_000, 40_000));
    let started = Event::ResponseStarted { rpc, cookie: 0, length: 900_000 };
    assert!(host.events().contains(&started));
    assert_eq!(grants(&host.sent()), [(id & !1, FULL + 200_000, 0)]);
    assert_eq!(host.stats().incoming_bytes, 200_000);
    // What it announces later changes nothing.
    host.take(&remote, remote.data(id, 0..FULL, 900_000, 900_000));
    assert_eq!(grants(&host.sent()), [(id & !1, 2 * FULL + 200_000, 0)]);
}

// Scenario: R30
#[test]
fn control_packets_of_a_batch_are_answered_before_its_long_messages() {
    let mut host = Host::new(exact());
    let (a, b) = (host.remote(1, 1), host.remote(2, 1));
    host.call(&b, 100_000);
    let id = host.sent()[0].id();
    // A batch: long DATA, then a GRANT and a question about a request that is being received.
    host.take(&a, a.data(2, 0..FULL, 900_000, FULL));
    host.take(&b, b.grant(id | 1, 60_000, 2));
    host.take(&a, a.resend(2, 0, RESEND_ALL));
    let sent = host.sent();
    let kinds: Vec<_> = sent.iter().map(|sent| sent.header.packet_type()).collect();
    assert_eq!(kinds[..2], [homa_wire::PacketType::Busy, homa_wire::PacketType::Grant]);
    assert!(kinds[2..].iter().all(|kind| *kind == homa_wire::PacketType::Data));
    assert_eq!(data_bytes(&sent), 20_000, "the GRANT of the same batch counts");
}

// Scenario: R31
#[test]
fn interleaved_messages_of_a_batch_get_one_grant_each_for_all_their_packets() {
    let mut host = Host::new(exact().with(|config| config.window_bytes = 50_000));
    let (a, b) = (host.remote(1, 1), host.remote(2, 1));
    for packet in 0..10 {
        let range = packet * FULL..(packet + 1) * FULL;
        for (remote, id) in [(&a, 2), (&b, 4)] {
            match host.receive(remote, remote.data(id, range.clone(), 900_000, FULL)) {
                Received::Place(placement) => assert_eq!(placement.offset, range.start),
                other => panic!("{other:?}"),
            }
        }
    }
    let upto = 10 * FULL + 50_000;
    let given: Vec<_> = grants(&host.sent()).iter().map(|grant| (grant.0, grant.1)).collect();
    assert_eq!(given, [(2, upto), (4, upto)]);
}

// Scenario: R33
#[test]
fn packets_that_the_application_has_not_seen_cause_no_second_event() {
    let mut host = Host::new(exact());
    let remote = host.remote(1, 1);
    let options = RequestOptions { streaming_response: true, ..RequestOptions::default() };
    let rpc = host.call_with(&remote, 100, options);
    let id = host.sent()[0].id() | 1;
    for packet in 0..10 {
        let range = packet * FULL..(packet + 1) * FULL;
        host.take(&remote, remote.data(id, range, 40_000, 40_000));
    }
    let events = host.events();
    let progress: Vec<_> =
        events.iter().filter(|event| matches!(event, Event::BodyProgress { .. })).collect();
    assert_eq!(progress, [&Event::BodyProgress { rpc, contiguous_upto: 10 * FULL }]);
    let started = |event: &&Event| matches!(event, Event::ResponseStarted { .. });
    assert_eq!(events.iter().filter(started).count(), 1);
    assert_eq!(host.events(), [], "nothing is told twice");
    host.take(&remote, remote.data(id, 10 * FULL..11 * FULL, 40_000, 40_000));
    assert_eq!(host.events(), [Event::BodyProgress { rpc, contiguous_upto: 11 * FULL }]);
}

// Scenario: R2
#[test]
fn a_port_that_only_calls_refuses_requests_and_takes_responses() {
    let mut host = Host::new(exact());
    host.engine.close_port(host.now(), PORT);
    host.engine.bind_port(PORT, PortOptions::CLIENT).unwrap();
    let remote = host.remote(1, 1);
    let received = host.receive(&remote, remote.data(2, 0..10, 10, 10));
    assert_eq!(received, Received::Dropped(DropReason::NoSuchPort));
    assert_eq!(host.sent()[0].header.reason(), Reason::NoService);
    let rpc = host.call(&remote, 10);
    let id = host.sent()[0].id() | 1;
    host.take(&remote, remote.data(id, 0..10, 10, 10));
    assert!(host.events().contains(&Event::ResponseArrived { rpc, cookie: 0 }));
}
