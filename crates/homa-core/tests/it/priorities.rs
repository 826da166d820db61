//! Sending and its priorities: unscheduled data, grants received, cutoffs
//! (docs/spec/protocol.md §4, §5).

use std::time::Duration;

use crate::harness::{FULL, Host, Remote, Sent, data_bytes, data_of, exact, grants, levels};
use homa_core::{
    Config, CutoffSource, Cutoffs, PortOptions, RequestOptions, ResponseOptions, SendError,
};
use homa_wire::{AckEntry, Body, Data, Header, Reason};

fn cutoffs_of(sent: &[Sent]) -> Vec<homa_wire::Cutoffs> {
    let cutoffs = |sent: &Sent| match sent.header.body {
        Body::Cutoffs(cutoffs) => Some(cutoffs),
        _ => None,
    };
    sent.iter().filter_map(cutoffs).collect()
}

/// A packet of a request whose sender holds cutoffs of `version`.
fn with_version(remote: &Remote, id: u64, version: u16) -> (Header, u32) {
    let (mut header, payload) = remote.data(id, 0..100, 100, 100);
    if let Body::Data(data) = &mut header.body {
        data.cutoff_version = version;
    }
    (header, payload)
}

/// The peer tells its cutoffs.
fn tell(host: &mut Host, remote: &Remote, levels: [u32; 8], version: u16) {
    let body = Body::Cutoffs(homa_wire::Cutoffs { levels, version });
    host.take(remote, remote.control(1, body, Reason::None, 0));
}

/// Priority of the first packet of a message.
fn level(host: &mut Host, remote: &Remote, length: u32) -> u8 {
    host.call(remote, length);
    let sent = host.sent();
    data_of(&sent)[0].2
}

// Scenario: S1, S2
#[test]
fn empty_and_too_long_messages_are_refused_without_a_trace() {
    let mut host = Host::new(exact());
    let remote = host.remote(1, 1);
    let now = host.now();
    let mut send =
        |length| host.engine.send_request(now, remote.path(), length, 0, RequestOptions::default());
    assert_eq!(send(0), Err(SendError::EmptyMessage));
    assert_eq!(send(1_000_001), Err(SendError::TooLong { max: 1_000_000 }));
    assert!(send(1_000_000).is_ok());
    assert_eq!(host.stats().live_rpcs, 1);
}

// Scenario: W6, S3, S4
#[test]
fn exactly_the_unscheduled_bytes_leave_without_a_grant() {
    for (length, leaves) in [(100_000, 40_000), (40_001, 40_000), (40_000, 40_000), (7, 7)] {
        let mut host = Host::new(exact());
        let remote = host.remote(1, 1);
        host.call(&remote, length);
        let sent = host.sent();
        assert_eq!(data_bytes(&sent), leaves);
        for packet in &sent {
            let data = packet.data().unwrap();
            assert_eq!((data.incoming, data.message_length), (leaves, length));
            assert_eq!(data.seg_offset, packet.payload.start);
            assert_eq!(packet.header.common.sequence, packet.payload.start);
        }
        assert_eq!(data_bytes(&host.pass_ms(1)), 0);
    }
}

/// A call of 100,000 bytes whose unscheduled part has left.
fn half_sent() -> (Host, Remote, u64) {
    let mut host = Host::new(exact());
    let remote = host.remote(1, 1);
    host.call(&remote, 100_000);
    let id = host.sent()[0].id();
    (host, remote, id)
}

// Scenario: S5, S11
#[test]
fn a_grant_lets_the_bytes_below_it_leave_at_its_priority() {
    let (mut host, remote, id) = half_sent();
    host.take(&remote, remote.grant(id | 1, 60_000, 2));
    let sent = data_of(&host.sent());
    assert!(sent.iter().all(|(_, _, level)| *level == 2));
    assert_eq!(sent.last().unwrap().1.end, 60_000);
}

// Scenario: S6, S11
#[test]
fn an_older_grant_takes_nothing_back_but_its_priority_counts() {
    let (mut host, remote, id) = half_sent();
    host.take(&remote, remote.grant(id | 1, 60_000, 2));
    host.take(&remote, remote.grant(id | 1, 50_000, 1));
    let sent = data_of(&host.sent());
    assert_eq!(sent.last().unwrap().1.end, 60_000);
    assert!(sent.iter().all(|(_, _, level)| *level == 1));
}

// Scenario: S7
#[test]
fn a_grant_beyond_the_end_means_the_end_and_one_beyond_the_priorities_the_top() {
    let (mut host, remote, id) = half_sent();
    host.take(&remote, remote.grant(id | 1, u32::MAX, 255));
    let sent = data_of(&host.sent());
    assert_eq!(sent.last().unwrap().1.end, 100_000);
    assert!(sent.iter().all(|(_, _, level)| *level == 7));
    host.take(&remote, remote.grant(id | 1, 100_000, 0));
    assert_eq!(data_bytes(&host.sent()), 0, "nothing is left to send");
}

// Scenario: S8
#[test]
fn a_grant_for_a_call_that_receives_its_response_is_ignored() {
    let (mut host, remote, id) = half_sent();
    host.take(&remote, remote.data(id | 1, 0..FULL, 50_000, 50_000));
    host.take(&remote, remote.grant(id | 1, 90_000, 2));
    assert_eq!(data_bytes(&host.sent()), 0);
}

#[test]
fn data_sent_again_is_marked_and_keeps_its_segments() {
    let (mut host, remote, id) = half_sent();
    host.take(&remote, remote.resend(id | 1, 100, 200));
    let sent = host.sent();
    assert_eq!(data_of(&sent), [(id, 0..FULL, 7)]);
    assert_eq!(sent[0].data().unwrap().flags, 1);
}

#[test]
fn before_a_peer_has_told_its_cutoffs_everything_goes_at_priority_6() {
    let mut host = Host::new(exact());
    let remote = host.remote(1, 1);
    assert_eq!(level(&mut host, &remote, 10), 6);
    assert_eq!(level(&mut host, &remote, 30_000), 6);
}

// Scenario: S10, K1, K2
#[test]
fn the_priority_follows_the_peers_cutoffs_for_the_whole_length() {
    let mut host = Host::new(exact());
    let remote = host.remote(1, 1);
    assert_eq!(level(&mut host, &remote, 10), 6);
    // Entry 0 counts as "no limit" whatever it says.
    tell(&mut host, &remote, [5, 0, 0, 400, 200, 100, 0, 0], 77);
    for (length, expected) in
        [(10, 5), (100, 5), (101, 4), (200, 4), (201, 3), (400, 3), (401, 0), (500_000, 0)]
    {
        assert_eq!(level(&mut host, &remote, length), expected, "{length} bytes");
    }
}

// Scenario: S12, K2
#[test]
fn every_packet_names_the_newest_cutoffs_even_in_a_message_begun_before() {
    let (mut host, remote, id) = half_sent();
    tell(&mut host, &remote, [0, 0, 0, 0, 0, 0, 1_000_000, 0], 4711);
    host.take(&remote, remote.grant(id | 1, 60_000, 2));
    let sent = host.sent();
    assert!(sent.iter().filter_map(Sent::data).all(|data| data.cutoff_version == 4711));
    let other = host.remote(2, 1);
    host.call(&other, 10);
    assert_eq!(host.sent()[0].data().unwrap().cutoff_version, 0, "another peer's are unknown");
}

#[test]
fn cutoffs_of_another_address_change_nothing() {
    let mut host = Host::new(exact());
    let (remote, other) = (host.remote(1, 1), host.remote(1, 2));
    assert_eq!(level(&mut host, &remote, 10), 6);
    let body = Body::Cutoffs(homa_wire::Cutoffs { levels: [0, 0, 0, 9, 0, 0, 0, 0], version: 1 });
    let _ = host.receive(&other, other.control(1, body, Reason::None, 0));
    assert_eq!(level(&mut host, &remote, 10), 6);
}

#[test]
fn a_peer_that_restarted_has_told_no_cutoffs() {
    let mut host = Host::new(exact());
    let remote = host.remote(1, 1);
    assert_eq!(level(&mut host, &remote, 10), 6);
    tell(&mut host, &remote, [0, 0, 0, 0, 1_000_000, 0, 0, 0], 9);
    assert_eq!(level(&mut host, &remote, 10), 4);
    let restarted = Remote { incarnation: 77, ..remote };
    host.take(&restarted, restarted.data(2, 0..10, 10, 10));
    host.events();
    host.sent();
    host.call(&remote, 10);
    let sent = host.sent();
    assert_eq!((sent[0].priority, sent[0].data().unwrap().cutoff_version), (6, 0));
}

// Scenario: R26, R27
#[test]
fn a_sender_with_stale_cutoffs_is_told_ours_once_per_millisecond() {
    let mut host = Host::new(exact());
    let remote = host.remote(1, 1);
    for id in [2, 4, 6] {
        host.take(&remote, with_version(&remote, id, 1));
    }
    let told = cutoffs_of(&host.sent());
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].levels, *Cutoffs::default().levels());
    assert_eq!(told[0].version, Cutoffs::default().version());
    host.now_ns += 999_999;
    host.take(&remote, with_version(&remote, 8, 1));
    assert_eq!(cutoffs_of(&host.sent()).len(), 0);
    host.now_ns += 1;
    host.take(&remote, with_version(&remote, 10, 0));
    assert_eq!(cutoffs_of(&host.sent()).len(), 1);
}

// Scenario: R28
#[test]
fn a_sender_with_the_present_cutoffs_is_told_nothing() {
    let mut host = Host::new(exact());
    let remote = host.remote(1, 1);
    let version = Cutoffs::default().version();
    host.take(&remote, with_version(&remote, 2, version));
    host.take(&remote, with_version(&remote, 4, version));
    assert_eq!(cutoffs_of(&host.sent()), []);
}

#[test]
fn a_peer_is_told_even_if_its_data_is_dropped() {
    let mut host = Host::new(exact());
    let remote = host.remote(1, 1);
    host.take(&remote, with_version(&remote, 2, Cutoffs::default().version()));
    let _ = host.receive(&remote, with_version(&remote, 2, 5));
    assert_eq!(cutoffs_of(&host.sent()).len(), 1);
}

// Scenario: K3
#[test]
fn fewer_priorities_close_the_upper_ones_and_move_the_scheduled_ones() {
    let fixed = CutoffSource::Fixed(Cutoffs::new([0, 0, 0, 1_000_000, 5000, 300, 200, 100]));
    let mut host = Host::new(exact().with(|config| {
        config.priorities.count = 6;
        config.priorities.cutoffs = fixed;
    }));
    let remote = host.remote(1, 1);
    host.take(&remote, with_version(&remote, 2, 0));
    let told = cutoffs_of(&host.sent());
    assert_eq!(told[0].levels[3..], [1_000_000, 5000, 300, 0, 0]);
    // Priority 3 is the lowest unscheduled one, so a single scheduled message gets 2 - 2 = 0, the
    // first of three 2.
    assert_eq!(host.engine.config().priorities.count, 6);
    for n in 2..5u8 {
        let from = host.remote(n, 1);
        let id = 2 * u64::from(n);
        host.take(&from, from.data(id, 0..FULL, 100_000 + u32::from(n), FULL));
        host.sent();
    }
    let from = host.remote(2, 1);
    host.take(&from, from.data(4, FULL..90_000, 100_002, FULL));
    let top = grants(&host.sent()).iter().map(|grant| grant.2).max();
    assert!(top <= Some(2), "{top:?}");
}

// Scenario: K4
#[test]
fn without_an_unlimited_priority_scheduled_and_unscheduled_data_share_priority_0() {
    let fixed = CutoffSource::Fixed(Cutoffs::new([0, 0, 0, 0, 0, 0, 0, 100]));
    let mut host = Host::new(exact().with(|config| config.priorities.cutoffs = fixed));
    for n in 1..4u8 {
        let from = host.remote(n, 1);
        host.take(&from, from.data(2, 0..FULL, 100_000, FULL));
        let given = grants(&host.sent());
        assert!(given.iter().all(|grant| grant.2 == 0) && !given.is_empty());
    }
}

// Scenario: K7
#[test]
fn with_few_priorities_and_no_cutoffs_known_everything_goes_at_priority_0() {
    for num_priorities in [1, 4, 6] {
        let mut host = Host::new(levels(num_priorities, 8));
        let remote = host.remote(1, 1);
        assert_eq!(level(&mut host, &remote, 10), 0);
    }
}

#[test]
fn a_cutoff_table_beyond_the_priorities_in_use_is_read_from_the_top_priority_in_use() {
    let mut host = Host::new(levels(4, 8));
    let remote = host.remote(1, 1);
    host.call(&remote, 10);
    host.sent();
    tell(&mut host, &remote, [0, 0, 1_000_000, 500, 400, 300, 200, 100], 3);
    assert_eq!(level(&mut host, &remote, 10), 3);
    assert_eq!(level(&mut host, &remote, 501), 2);
}

#[test]
fn a_hint_replaces_the_priority_of_unscheduled_data_within_the_priorities_in_use() {
    let mut host = Host::new(levels(4, 8));
    let remote = host.remote(1, 1);
    for (hint, expected) in [(2, 2), (7, 3)] {
        let options = RequestOptions { priority_hint: Some(hint), ..RequestOptions::default() };
        host.call_with(&remote, 10, options);
        assert_eq!(host.sent()[0].priority, expected);
    }
}

// Scenario: W17
#[test]
fn priorities_are_mapped_to_class_selectors() {
    let priority_map = [0, 0, 1, 1, 2, 3, 4, 5];
    let mut host = Host::new(exact().with(|config| config.fixed.priority_map = priority_map));
    let remote = host.remote(1, 1);
    for (hint, class) in [(5, 3), (0, 0), (7, 5)] {
        let options = RequestOptions { priority_hint: Some(hint), ..RequestOptions::default() };
        host.call_with(&remote, 10, options);
        let sent = host.sent();
        assert_eq!((sent[0].priority, sent[0].dscp), (hint, class << 3));
    }
}

#[test]
fn control_packets_and_grants_go_at_the_top_priority() {
    let mut host = Host::new(levels(6, 8));
    let remote = host.remote(1, 1);
    host.take(&remote, remote.data(2, 0..FULL, 100_000, FULL));
    let sent = host.sent();
    assert!(!sent.is_empty() && sent.iter().all(|sent| sent.priority == 5), "{sent:?}");
}

// Scenario: W12
#[test]
fn a_response_takes_its_unscheduled_priority_from_the_clients_cutoffs() {
    let mut host = Host::new(exact());
    let remote = host.remote(1, 1);
    host.take(&remote, remote.data(2, 0..10, 10, 10));
    tell(&mut host, &remote, [0, 0, 0, 1_000_000, 0, 200, 0, 0], 3);
    let rpc = host.arrived();
    host.engine.send_response(host.now(), rpc, 150, ResponseOptions::default()).unwrap();
    assert_eq!(data_of(&host.sent()), [(3, 0..150, 5)]);
}

/// Requests of `length` bytes come and go.
fn traffic(host: &mut Host, from: &Remote, count: u64, first_id: u64, length: u32) {
    for n in 0..count {
        let id = first_id + 2 * n;
        host.take(from, from.data(id, 0..length, length, length));
        host.take(from, from.control(id, Body::RpcUnknown, Reason::Cancelled, 0));
        host.events();
        host.sent();
    }
}

fn automatic() -> Config {
    let cutoffs = CutoffSource::Automatic {
        interval: Duration::from_secs(1),
        messages_min: 100,
        drift_min_permille: 1000,
    };
    exact().with(|config| config.priorities.cutoffs = cutoffs)
}

// Scenario: K6
#[test]
fn cutoffs_are_computed_from_what_arrives_and_told_to_the_senders() {
    let mut host = Host::new(automatic());
    let remote = host.remote(1, 1);
    host.pass_ms(10);
    traffic(&mut host, &remote, 1000, 2, 50);
    traffic(&mut host, &remote, 50, 4002, 1000);
    host.pass_ms(1100);
    assert_eq!(host.stats().cutoff_updates, 1);
    host.take(&remote, with_version(&remote, 9000, Cutoffs::default().version()));
    let told = cutoffs_of(&host.sent());
    assert_eq!(told.len(), 1, "the default table is stale now");
    assert_ne!(told[0].levels, *Cutoffs::default().levels());
    assert_ne!(told[0].version, Cutoffs::default().version());
    // Both lengths have as many bytes: each gets a priority.
    assert!((50..1000).contains(&told[0].levels[7]), "{:?}", told[0].levels);
    assert!((1000..2000).contains(&told[0].levels[6]), "{:?}", told[0].levels);
    host.now_ns += 2_000_000;
    host.take(&remote, with_version(&remote, 9002, told[0].version));
    assert_eq!(cutoffs_of(&host.sent()), []);
}

#[test]
fn too_few_messages_or_the_same_lengths_again_leave_the_cutoffs_alone() {
    let mut host = Host::new(automatic());
    let remote = host.remote(1, 1);
    host.pass_ms(10);
    traffic(&mut host, &remote, 50, 2, 50);
    host.pass_ms(1100);
    assert_eq!(host.stats().cutoff_updates, 0, "a sample of 50 is too small");
    traffic(&mut host, &remote, 200, 1002, 50);
    host.pass_ms(1100);
    assert_eq!(host.stats().cutoff_updates, 1);
    traffic(&mut host, &remote, 200, 3002, 50);
    host.pass_ms(1100);
    assert_eq!(host.stats().cutoff_updates, 1, "nothing has drifted");
    traffic(&mut host, &remote, 400, 5002, 20_000);
    host.pass_ms(1100);
    assert_eq!(host.stats().cutoff_updates, 2);
}

// Scenario: S16
#[test]
fn a_message_that_arrives_is_acknowledged_by_a_later_data_packet_once() {
    let mut host = Host::new(exact());
    let remote = host.remote(1, 1);
    let rpc = host.call(&remote, 10);
    let id = host.sent()[0].id();
    host.take(&remote, remote.data(id | 1, 0..10, 10, 10));
    host.events();
    host.engine.consumed(host.now(), rpc, 10).unwrap();
    host.call(&remote, 3000);
    let sent = host.sent();
    let acks: Vec<AckEntry> =
        sent.iter().filter_map(Sent::data).filter_map(Data::acknowledged).collect();
    assert_eq!(acks, [AckEntry { client_id: id, server_port: 1 }]);
}

// Scenario: S17
#[test]
fn a_request_can_be_supplied_while_it_is_sent() {
    let mut host = Host::new(exact());
    let remote = host.remote(1, 1);
    let options = RequestOptions { streaming_body: true, ..RequestOptions::default() };
    let rpc = host.call_with(&remote, 100_000, options);
    assert_eq!(data_bytes(&host.sent()), 0);
    for (upto, leaves) in [(FULL, FULL), (10_000, 10_000 - FULL), (50_000, 30_000)] {
        host.engine.supply(host.now(), rpc, upto).unwrap();
        assert_eq!(data_bytes(&host.sent()), leaves);
    }
    assert!(host.engine.supply(host.now(), rpc, 100_001).is_err());
}

#[test]
fn a_port_that_is_not_open_cannot_send() {
    let mut host = Host::new(exact());
    let remote = host.remote(1, 1);
    let path = homa_core::Path { local_port: 77, ..remote.path() };
    let now = host.now();
    let options = RequestOptions::default();
    assert_eq!(host.engine.send_request(now, path, 1, 0, options), Err(SendError::NoSuchPort));
    host.engine.bind_port(77, PortOptions::CLIENT).unwrap();
    assert!(host.engine.send_request(now, path, 1, 0, options).is_ok());
}
