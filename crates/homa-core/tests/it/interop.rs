//! What the engine does and does not do towards hosts of the Linux implementation: a test for each
//! row of `docs/interoperability.md`.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::ops::Range;
use std::time::Duration;

use crate::harness::{Host, PORT, Sent, data_bytes, data_of, exact, grants, is_answered};
use homa_core::{
    Carriage, DropReason, Event, FailReason, IcmpKind, Path, PortOptions, Received, RequestOptions,
    ResponseOptions, RpcKey, RxMeta, SendError,
};
use homa_wire::{
    ACKS_MAX, Ack, AckEntry, Body, Common, Cutoffs, DOFF_CONTROL, DOFF_DATA, Data, FLAGS, Grant,
    Header, OFFSET_IN_SEQUENCE, RESEND_ALL, Resend, URGENT, VERSION,
};

/// Payload of a full packet over IPv4 at an MTU of 1,500 bytes.
const FULL: u32 = 1424;
/// The version that the imagined Linux hosts' cutoffs have.
const LINUX_VERSION: u16 = 3;

/// A socket of a Linux host.
#[derive(Clone, Copy, Debug)]
struct Linux {
    address: SocketAddr,
}

fn linux(host: u8, port: u16) -> Linux {
    Linux { address: SocketAddr::from(([10, 1, host, 1], port)) }
}

impl Linux {
    fn path(&self) -> Path {
        self.path_to(PORT)
    }

    fn path_to(&self, local_port: u16) -> Path {
        let remote = self.address;
        Path { remote, local_ip: None, local_port, interface: 0, carriage: Carriage::Ip }
    }

    /// DATA as Linux sends it: the offset in the sequence field alone.
    fn data(&self, id: u64, range: Range<u32>, length: u32, incoming: u32) -> (Header, u32) {
        let common = Common::data(self.address.port(), PORT, id, range.start);
        let data = Data {
            message_length: length,
            incoming,
            cutoff_version: homa_core::Cutoffs::default().version(),
            seg_offset: OFFSET_IN_SEQUENCE,
            ..Data::default()
        };
        (Header { common, body: Body::Data(data), extension: None }, range.end - range.start)
    }

    fn control(&self, id: u64, body: Body) -> (Header, u32) {
        let common = Common::control(self.address.port(), PORT, id);
        (Header { common, body, extension: None }, 0)
    }

    fn resend(&self, id: u64, offset: u32, length: u32) -> (Header, u32) {
        self.control(id, Body::Resend(Resend { offset, length, priority: 5 }))
    }

    fn grant(&self, id: u64, offset: u32) -> (Header, u32) {
        self.control(id, Body::Grant(Grant { offset, priority: 2 }))
    }

    fn ack(&self, id: u64, others: &[(u64, u16)]) -> (Header, u32) {
        let mut ack = Ack { count: others.len() as u16, entries: [AckEntry::NONE; ACKS_MAX] };
        for (entry, (client_id, server_port)) in ack.entries.iter_mut().zip(others) {
            *entry = AckEntry { client_id: *client_id, server_port: *server_port };
        }
        self.control(id, Body::Ack(ack))
    }

    fn cutoffs(&self, id: u64) -> (Header, u32) {
        let levels = [i32::MAX as u32, 0, 0, 0, 1_000_000, 15_000, 2_800, 200];
        self.control(id, Body::Cutoffs(Cutoffs { levels, version: LINUX_VERSION }))
    }
}

/// One of ours over raw IP, as seen from its server.
fn announce(host: &mut Host, from: &Linux, id: u64, incarnation: u32) {
    let (mut header, _) = from.cutoffs(id);
    header.common = header.common.with_native_profile(incarnation);
    assert_eq!(receive(host, from, (header, 0)), Received::Consumed);
}

fn receive(host: &mut Host, from: &Linux, packet: (Header, u32)) -> Received {
    let mut bytes = [0; 128];
    let header_bytes = packet.0.encode(&mut bytes).unwrap() as u32;
    let length = header_bytes + packet.1;
    let shown = (length as usize).min(128);
    let meta = RxMeta::new(from.path());
    host.engine.handle_packet(host.now(), &meta, &bytes[..shown], length)
}

#[track_caller]
fn take(host: &mut Host, from: &Linux, packet: (Header, u32)) {
    let received = receive(host, from, packet);
    assert!(!matches!(received, Received::Dropped(_)), "{received:?} {packet:?}");
}

/// An engine over paths of an MTU of 1,500 bytes.
fn host() -> Host {
    Host::new(exact())
}

/// Begins a call from a port and returns it with the id of its packets, which have left.
fn call_from(host: &mut Host, port: u16, to: &Linux, length: u32) -> (RpcKey, u64, Vec<Sent>) {
    let (now, options) = (host.now(), RequestOptions::default());
    let rpc = host.engine.send_request(now, to.path_to(port), length, 0, options).unwrap();
    host.events();
    let sent = host.sent();
    let id = sent.iter().find(|sent| sent.rpc == Some(rpc)).expect("it left").id();
    (rpc, id, sent)
}

fn call(host: &mut Host, to: &Linux, length: u32) -> (RpcKey, u64, Vec<Sent>) {
    call_from(host, PORT, to, length)
}

/// A request of `length` bytes in one packet is answered with `reply` bytes.
fn serve(host: &mut Host, from: &Linux, id: u64, length: u32, reply: u32) -> RpcKey {
    take(host, from, from.data(id, 0..length, length, length));
    let rpc = host.arrived();
    host.engine.send_response(host.now(), rpc, reply, ResponseOptions::default()).unwrap();
    rpc
}

fn kinds(sent: &[Sent]) -> Vec<&'static str> {
    sent.iter().map(|sent| sent.header.packet_type().name()).collect()
}

fn ranges(sent: &[Sent]) -> Vec<Range<u32>> {
    data_of(sent).into_iter().map(|(_, range, _)| range).collect()
}

fn resends(sent: &[Sent]) -> Vec<(u32, u32)> {
    let resend = |sent: &Sent| match sent.header.body {
        Body::Resend(resend) => Some((resend.offset, resend.length)),
        _ => None,
    };
    sent.iter().filter_map(resend).collect()
}

fn is_native(sent: &Sent) -> bool {
    sent.header.common.version().is_some()
}

/// A call of 10 bytes that is answered at once and taken.
fn finished_call(host: &mut Host, to: &Linux) -> u64 {
    let (rpc, id, _) = call(host, to, 10);
    take(host, to, to.data(id | 1, 0..10, 10, 10));
    host.events();
    host.engine.consumed(host.now(), rpc, 10).unwrap();
    id
}

// The format.

#[test]
fn the_true_offset_stands_in_both_fields() {
    let mut host = host();
    let (_, _, sent) = call(&mut host, &linux(1, 99), 5000);
    for packet in &sent {
        let data = packet.data().unwrap();
        assert_eq!(data.seg_offset, packet.payload.start);
        assert_eq!(packet.header.common.sequence, packet.payload.start);
    }
    assert_eq!(sent.len(), 4);
}

#[test]
fn an_offset_in_the_sequence_field_alone_is_understood() {
    let mut host = host();
    let client = linux(1, 40_000);
    take(&mut host, &client, client.data(2, FULL..2 * FULL, 2 * FULL, 2 * FULL));
    take(&mut host, &client, client.data(2, 0..FULL, 2 * FULL, 2 * FULL));
    host.arrived();
}

#[test]
fn segments_of_one_large_packet_are_placed_by_their_own_offset() {
    let mut host = host();
    let client = linux(1, 40_000);
    for start in [0, FULL, 2 * FULL] {
        let (mut header, bytes) = client.data(2, 0..FULL, 3 * FULL, 3 * FULL);
        let Body::Data(data) = &mut header.body else { unreachable!() };
        data.seg_offset = start;
        // Network cards may count it up instead: it is not to be trusted.
        header.common.sequence = start / 2;
        let Received::Place(placement) = receive(&mut host, &client, (header, bytes)) else {
            panic!("accepted");
        };
        assert_eq!(placement.offset, start);
    }
    host.arrived();
}

#[test]
fn boundaries_lie_on_a_grid_whatever_is_granted() {
    let mut host = host();
    let server = linux(1, 99);
    let (_, id, mut sent) = call(&mut host, &server, 100_000);
    assert_eq!(ranges(&sent).last(), Some(&(28 * FULL..40_000)), "one lies at `incoming`");
    for upto in [40_001, 45_000, 45_500, 77_777, 100_000] {
        take(&mut host, &server, server.grant(id | 1, upto));
        sent = host.sent();
        for range in ranges(&sent) {
            assert_eq!((range.start - 40_000) % FULL, 0, "{range:?}");
            assert!(range.end == 100_000 || range.end - range.start == FULL, "{range:?}");
            assert!(range.start < upto, "{range:?}");
        }
    }
    assert_eq!(ranges(&sent).last().unwrap().end, 100_000);
}

#[test]
fn retransmissions_keep_the_original_boundaries() {
    let mut host = host();
    let server = linux(1, 99);
    let (_, id, _) = call(&mut host, &server, 100_000);
    take(&mut host, &server, server.grant(id | 1, 50_000));
    let first: BTreeSet<u32> = (0..).map(|n| n * FULL).take_while(|at| *at < 40_000).collect();
    host.sent();
    for (offset, length) in
        [(5, 10), (FULL - 1, 2), (39_000, 2000), (41_000, 5000), (0, RESEND_ALL)]
    {
        take(&mut host, &server, server.resend(id | 1, offset, length));
        for packet in host.sent().iter().filter(|packet| packet.data().is_some()) {
            let start = packet.payload.start;
            let on_grid = first.contains(&start) || (start - 40_000) % FULL == 0;
            assert!(on_grid, "{offset}+{length}: {:?}", packet.payload);
            assert_eq!(packet.data().unwrap().flags, 1);
            assert_eq!(packet.priority, 5, "the level that the RESEND names");
            let incoming = packet.data().unwrap().incoming;
            assert!(incoming >= packet.payload.end, "{incoming}");
        }
    }
}

#[test]
fn marks_are_set_and_reserved_fields_are_zero() {
    let mut host = host();
    let server = linux(1, 99);
    let (_, id, mut sent) = call(&mut host, &server, 100);
    sent.extend(host.pass_ms(20));
    take(&mut host, &server, server.data(id | 1, 0..FULL, 900_000, 40_000));
    sent.extend(host.sent());
    assert!(kinds(&sent).contains(&"RESEND") && kinds(&sent).contains(&"GRANT"));
    for packet in &sent {
        let common = &packet.header.common;
        assert_eq!((common.flags, common.urgent), (FLAGS, URGENT));
        let doff = if packet.data().is_some() { DOFF_DATA } else { DOFF_CONTROL };
        assert_eq!(common.doff, doff);
        assert_eq!((common.window, common.incarnation), (0, 0), "{packet:?}");
        assert_eq!(packet.data().map_or(0, |data| data.echo), 0);
    }
}

#[test]
fn control_packets_end_with_their_linux_header() {
    let mut host = host();
    let client = linux(1, 40_000);
    serve(&mut host, &client, 2, 10, 10);
    let mut sent = host.pass_ms(10);
    take(&mut host, &client, client.data(4, 0..FULL, 900_000, 40_000));
    sent.extend(host.pass_ms(10));
    let _ = receive(&mut host, &client, client.resend(90, 0, RESEND_ALL));
    take(&mut host, &client, client.resend(4, 0, RESEND_ALL));
    sent.extend(host.sent());
    let seen: BTreeSet<_> = kinds(&sent).into_iter().collect();
    assert_eq!(
        seen,
        BTreeSet::from(["BUSY", "DATA", "GRANT", "NEED_ACK", "RESEND", "RPC_UNKNOWN"])
    );
    for packet in sent.iter().filter(|packet| packet.data().is_none()) {
        assert_eq!(packet.wire_bytes, packet.header.packet_type().header_bytes() as u32);
        assert_eq!(packet.header.extension, None);
    }
}

#[test]
fn data_is_never_padded_and_padded_data_is_not_taken() {
    let mut host = host();
    let server = linux(1, 99);
    let (now, options) = (host.now(), RequestOptions::default());
    for _ in 0..8 {
        host.engine.send_request(now, server.path(), FULL - 20, 0, options).unwrap();
    }
    host.events();
    assert!(host.sent().iter().all(|packet| packet.padding == 0));
    let client = linux(2, 40_000);
    let (header, bytes) = client.data(2, 0..100, 100, 100);
    let received = receive(&mut host, &client, (header, bytes + 1));
    assert_eq!(received, Received::Dropped(DropReason::BadRange));
}

#[test]
fn priorities_ride_in_the_class_selector() {
    let mut host = host();
    let server = linux(1, 99);
    let (_, id, sent) = call(&mut host, &server, 100_000);
    assert!(sent.iter().all(|packet| packet.priority == 6 && packet.dscp == 6 << 3));
    take(&mut host, &server, server.grant(id | 1, 50_000));
    let sent = host.sent();
    assert!(!sent.is_empty());
    assert!(sent.iter().all(|packet| packet.priority == 2 && packet.dscp == 2 << 3));
}

#[test]
fn jumbo_frames_are_used_and_taken() {
    let mut host = host();
    host.mtu = Some(9000);
    let server = linux(1, 99);
    let (_, id, sent) = call(&mut host, &server, 40_000);
    assert_eq!(ranges(&sent)[0], 0..8924);
    take(&mut host, &server, server.data(id | 1, 8924..9000, 9000, 9000));
    take(&mut host, &server, server.data(id | 1, 0..8924, 9000, 9000));
    assert!(host.events().iter().any(|event| matches!(event, Event::ResponseArrived { .. })));
}

#[test]
fn segments_of_any_size_fit_together() {
    // A server with an IPv6 socket sends segments of 1,404 bytes to IPv4 clients.
    let mut host = host();
    let server = linux(1, 99);
    let (_, id, _) = call(&mut host, &server, 100);
    for start in [1404, 0, 2808] {
        take(&mut host, &server, server.data(id | 1, start..(start + 1404).min(4000), 4000, 4000));
    }
    assert!(host.events().iter().any(|event| matches!(event, Event::ResponseArrived { .. })));
}

// What Linux has no words for.

#[test]
fn a_framed_or_open_message_is_refused_before_it_is_sent() {
    let mut host = host();
    let server = linux(1, 99);
    let (now, path) = (host.now(), server.path());
    let framed = RequestOptions { framed: true, ..RequestOptions::default() };
    let open = RequestOptions { open: true, ..RequestOptions::default() };
    for options in [framed, open] {
        let refused = host.engine.send_request(now, path, 100, 0, options);
        assert_eq!(refused, Err(SendError::NotNative));
    }
    assert_eq!((host.stats().live_rpcs, host.stats().requests_sent), (0, 0));
    assert!(host.sent().is_empty());

    let client = linux(2, 40_000);
    take(&mut host, &client, client.data(2, 0..10, 10, 10));
    let rpc = host.arrived();
    let framed = ResponseOptions { framed: true, ..ResponseOptions::default() };
    let open = ResponseOptions { open: true, ..ResponseOptions::default() };
    for options in [framed, open] {
        assert_eq!(host.engine.send_response(now, rpc, 10, options), Err(SendError::NotNative));
    }
    assert_eq!(host.engine.send_response(now, rpc, 10, ResponseOptions::default()), Ok(()));
}

#[test]
fn no_flag_of_a_linux_host_means_anything_but_a_retransmission() {
    let mut host = host();
    let client = linux(2, 40_000);
    for (id, flags) in [(2, 0), (4, 2), (6, 0xFF)] {
        let (mut header, bytes) = client.data(id, 0..10, 10, 10);
        let Body::Data(data) = &mut header.body else { unreachable!() };
        data.flags = flags;
        take(&mut host, &client, (header, bytes));
        let framed = |event: &Event| matches!(event, Event::RequestStarted { framed: true, .. });
        let open = |event: &Event| matches!(event, Event::RequestStarted { open: true, .. });
        assert!(!host.events().iter().any(|event| framed(event) || open(event)));
    }
    assert_eq!(host.stats().retransmissions_used, 2);
}

#[test]
fn a_draining_port_says_nothing_to_a_linux_client() {
    let mut host = host();
    let (client, now) = (linux(2, 40_000), host.now());
    host.engine.drain_port(now, PORT);
    let received = receive(&mut host, &client, client.data(2, 0..10, 10, 10));
    assert_eq!(received, Received::Dropped(DropReason::Draining));
    assert!(host.sent().is_empty());
}

// Limits.

#[test]
fn a_message_beyond_1_000_000_bytes_is_refused_before_it_is_sent() {
    let mut host = Host::new(exact().with(|config| config.limits.max_message_bytes = 5_000_000));
    let server = linux(1, 99);
    let (now, options) = (host.now(), RequestOptions::default());
    let refused = host.engine.send_request(now, server.path(), 1_000_001, 0, options);
    assert_eq!(refused, Err(SendError::PeerLimit { max: 1_000_000 }));
    assert!(host.engine.send_request(now, server.path(), 1_000_000, 0, options).is_ok());
    let client = linux(2, 40_000);
    take(&mut host, &client, client.data(2, 0..10, 10, 10));
    let rpc = host.arrived();
    let refused = host.engine.send_response(now, rpc, 1_000_001, ResponseOptions::default());
    assert_eq!(refused, Err(SendError::PeerLimit { max: 1_000_000 }));
    assert_eq!(host.engine.send_response(now, rpc, 1_000_000, ResponseOptions::default()), Ok(()));
}

#[test]
fn a_linux_client_gets_its_whole_response_at_once() {
    let mut host = host();
    let client = linux(1, 40_000);
    serve(&mut host, &client, 2, 1, 40_000);
    assert_eq!(
        data_bytes(&host.sent()),
        40_000,
        "there is nothing it could prove its address with"
    );
}

#[test]
fn unscheduled_data_to_a_linux_host_is_not_held_back() {
    let mut host = host();
    let sent: u32 = (0..10).map(|_| data_bytes(&call(&mut host, &linux(1, 99), 40_000).2)).sum();
    assert_eq!(sent, 400_000);
}

#[test]
fn nothing_is_released_before_the_response_begins() {
    let mut host = host();
    let server = linux(1, 99);
    let (rpc, id, _) = call(&mut host, &server, 100_000);
    for upto in [60_000, 100_000] {
        take(&mut host, &server, server.grant(id | 1, upto));
        host.sent();
    }
    assert_eq!(host.events(), []);
    take(&mut host, &server, server.data(id | 1, 0..10, 100, 100));
    assert!(host.events().contains(&Event::Released { rpc, upto: 100_000 }));
}

// Unscheduled data, cutoffs, grants.

#[test]
fn the_version_of_cutoffs_is_echoed_as_received() {
    let mut host = host();
    let server = linux(1, 99);
    let (_, id, sent) = call(&mut host, &server, 100);
    assert_eq!(sent[0].data().unwrap().cutoff_version, 0);
    take(&mut host, &server, server.cutoffs(id | 1));
    let (_, _, sent) = call(&mut host, &server, 100);
    assert_eq!(sent[0].data().unwrap().cutoff_version, LINUX_VERSION);
    assert_eq!(sent[0].priority, 7, "and the thresholds are followed");
    assert_eq!(call(&mut host, &server, 201).2[0].priority, 6);
    assert_eq!(call(&mut host, &server, 15_001).2[0].priority, 4);
}

/// Version and priority of a call of 100 bytes.
fn calls_with(host: &mut Host, to: &Linux) -> (u16, u8) {
    let (_, _, sent) = call(host, to, 100);
    (sent[0].data().unwrap().cutoff_version, sent[0].priority)
}

#[test]
fn cutoffs_of_a_linux_host_hold_for_all_of_its_sockets() {
    let mut host = host();
    let (told, known, elsewhere) = (linux(1, 99), linux(1, 98), linux(2, 99));
    assert_eq!(calls_with(&mut host, &known), (0, 6));
    let (_, id, _) = call(&mut host, &told, 100);
    take(&mut host, &told, told.cutoffs(id | 1));
    assert_eq!(calls_with(&mut host, &known), (LINUX_VERSION, 7), "one that was there before");
    assert_eq!(calls_with(&mut host, &linux(1, 97)), (LINUX_VERSION, 7), "one that is new");
    assert_eq!(calls_with(&mut host, &elsewhere), (0, 6), "another host");
    // The answer to a client of that host goes at the right priority at once.
    serve(&mut host, &linux(1, 40_000), 2, 10, 100);
    let sent = host.sent();
    let answer = sent.iter().find(|sent| sent.data().is_some()).unwrap();
    assert_eq!((answer.data().unwrap().cutoff_version, answer.priority), (LINUX_VERSION, 7));
}

#[test]
fn cutoffs_of_a_process_of_this_implementation_hold_for_it_alone() {
    let mut host = host();
    let (told, other) = (linux(1, 99), linux(1, 98));
    let (_, id, _) = call(&mut host, &told, 100);
    announce(&mut host, &told, id | 1, 77);
    assert_eq!(calls_with(&mut host, &told), (LINUX_VERSION, 7));
    assert_eq!(
        calls_with(&mut host, &other),
        (0, 6),
        "it has its own, and an announcement to make"
    );
}

#[test]
fn other_cutoffs_than_ours_are_answered_with_ours_once_per_millisecond() {
    let mut host = host();
    let client = linux(1, 40_000);
    let ask = |host: &mut Host, id: u64, version: u16| {
        let (mut header, bytes) = client.data(id, 0..10, 10, 10);
        let Body::Data(data) = &mut header.body else { unreachable!() };
        data.cutoff_version = version;
        take(host, &client, (header, bytes));
        host.events();
        kinds(&host.sent()).iter().filter(|kind| **kind == "CUTOFFS").count()
    };
    assert_eq!(ask(&mut host, 2, 0), 1, "first contact");
    assert_eq!(ask(&mut host, 4, 0), 0);
    host.pass_ms(1);
    assert_eq!(ask(&mut host, 6, 1), 1);
    host.pass_ms(1);
    assert_eq!(ask(&mut host, 8, homa_core::Cutoffs::default().version()), 0);
}

#[test]
fn data_beyond_the_grant_is_accepted() {
    let mut host = host();
    let client = linux(1, 40_000);
    take(&mut host, &client, client.data(2, 0..FULL, 900_000, FULL));
    let granted = grants(&host.sent())[0].1;
    take(&mut host, &client, client.data(2, granted..granted + 20 * FULL, 900_000, FULL));
    assert_eq!(host.stats().dropped_bad_range, 0);
}

#[test]
fn a_message_that_announces_no_unscheduled_bytes_is_taken_and_granted() {
    let mut host = host();
    let client = linux(1, 40_000);
    take(&mut host, &client, client.data(2, 0..FULL, 100_000, 0));
    assert!(grants(&host.sent())[0].1 > FULL);
    take(&mut host, &client, client.data(4, 0..100, 100, 0));
    host.arrived();
}

#[test]
fn a_resend_beyond_the_grant_stands_for_a_lost_grant() {
    let mut host = host();
    let server = linux(1, 99);
    let (_, id, _) = call(&mut host, &server, 100_000);
    take(&mut host, &server, server.resend(id | 1, 40_000, 10_000));
    let sent = host.sent();
    assert!(data_bytes(&sent) >= 10_000, "what was granted goes out");
    assert!(kinds(&sent).contains(&"BUSY"), "nothing of it had been sent");
    assert!(sent.iter().filter_map(Sent::data).all(|data| data.flags == 0));
}

// RESEND, BUSY, RPC_UNKNOWN.

#[test]
fn resend_of_everything_is_answered_as_the_state_demands() {
    let mut host = host();
    let client = linux(1, 40_000);
    let ask = |host: &mut Host| {
        let _ = receive(host, &client, client.resend(2, 0, RESEND_ALL));
        host.sent()
    };
    assert_eq!(kinds(&ask(&mut host)), ["RPC_UNKNOWN"]);
    take(&mut host, &client, client.data(2, 0..10, 10, 10));
    let rpc = host.arrived();
    assert_eq!(kinds(&ask(&mut host)), ["BUSY"]);
    host.engine.send_response(host.now(), rpc, 3000, ResponseOptions::default()).unwrap();
    host.sent();
    assert_eq!(ranges(&ask(&mut host)), [0..FULL, FULL..2 * FULL, 2 * FULL..3000]);
    take(&mut host, &client, client.ack(2, &[]));
    assert_eq!(kinds(&ask(&mut host)), ["RPC_UNKNOWN"]);
}

#[test]
fn rpc_unknown_makes_a_client_send_again_all_it_has_sent() {
    let mut host = host();
    let server = linux(1, 99);
    let (_, id, _) = call(&mut host, &server, 100_000);
    take(&mut host, &server, server.control(id | 1, Body::RpcUnknown));
    let sent = host.sent();
    assert_eq!(data_bytes(&sent), 40_000);
    assert!(sent.iter().filter_map(Sent::data).all(|data| data.flags == 1));
}

#[test]
fn a_late_copy_of_rpc_unknown_ends_no_call_that_the_server_has() {
    let mut host = host();
    let server = linux(1, 99);
    let (_, id, _) = call(&mut host, &server, 100);
    for _ in 0..100 {
        for _ in resends(&host.pass_ms(50)) {
            take(&mut host, &server, server.control(id | 1, Body::Busy));
        }
    }
    // Too old to be sent again.
    take(&mut host, &server, server.control(id | 1, Body::RpcUnknown));
    assert!(!resends(&host.pass_ms(500)).is_empty(), "it is asked about");
    take(&mut host, &server, server.control(id | 1, Body::Busy));
    take(&mut host, &server, server.data(id | 1, 0..10, 10, 10));
    assert!(host.events().iter().any(|event| matches!(event, Event::ResponseArrived { .. })));
}

#[test]
fn a_call_ends_when_the_server_forgot_it_in_the_middle_of_its_response() {
    let mut host = host();
    let server = linux(1, 99);
    let (rpc, id, _) = call(&mut host, &server, 100);
    take(&mut host, &server, server.data(id | 1, 0..1000, 5000, 5000));
    // Copies, while data still arrives.
    for _ in 0..10 {
        take(&mut host, &server, server.control(id | 1, Body::RpcUnknown));
    }
    assert!(!host.events().iter().any(|event| matches!(event, Event::Failed { .. })));
    for _ in 0..20 {
        for _ in resends(&host.pass_ms(5)) {
            take(&mut host, &server, server.control(id | 1, Body::RpcUnknown));
        }
    }
    let failed = Event::Failed { rpc, cookie: 0, reason: FailReason::Forgotten };
    assert!(host.events().contains(&failed));
}

#[test]
fn rpc_unknown_ends_a_server_rpc() {
    let mut host = host();
    let client = linux(1, 40_000);
    serve(&mut host, &client, 2, 10, 900_000);
    host.sent();
    take(&mut host, &client, client.control(2, Body::RpcUnknown));
    host.events();
    assert_eq!(host.stats().live_rpcs, 0);
}

#[test]
fn busy_keeps_a_call_alive_for_as_long_as_it_is_repeated() {
    let mut host = host();
    let server = linux(1, 99);
    let (rpc, id, _) = call(&mut host, &server, 100);
    let mut asked = 0;
    for _ in 0..200 {
        let sent = host.pass_ms(50);
        assert!(!sent.iter().any(Sent::is_probe), "Linux servers do not answer probes");
        for _ in resends(&sent) {
            asked += 1;
            take(&mut host, &server, server.control(id | 1, Body::Busy));
        }
    }
    assert!((50..=300).contains(&asked), "{asked} RESENDs in 10 s: they become rare");
    take(&mut host, &server, server.data(id | 1, 0..10, 10, 10));
    assert!(is_answered(&host.events(), rpc, 0));
}

#[test]
fn a_silent_linux_host_is_given_up_after_the_timeout() {
    let mut host = host();
    let (rpc, _, _) = call(&mut host, &linux(1, 99), 100);
    let sent = host.pass_ms(990);
    assert!(resends(&sent).iter().all(|asked| *asked == (0, RESEND_ALL)));
    assert!(resends(&sent).len() >= 10, "{}", resends(&sent).len());
    assert_eq!(host.events(), []);
    host.pass_ms(100);
    let failed = Event::Failed { rpc, cookie: 0, reason: FailReason::Timeout };
    assert!(host.events().contains(&failed));
}

/// A call is answered after some milliseconds; the RESENDs until then.
fn answered_after(host: &mut Host, server: &Linux, wait_ms: u64) -> (u64, usize) {
    let (_, id, _) = call(host, server, 100);
    let asked = resends(&host.pass_ms(wait_ms)).len();
    take(host, server, server.data(id ^ 1, 0..100, 100, 100));
    host.events();
    (id, asked)
}

#[test]
fn a_slow_linux_host_is_not_asked_for_what_is_merely_late() {
    let mut host = host();
    let server = linux(1, 99);
    // Nothing is known of it at first; afterwards it has twice the time that it took.
    for wait_ms in [15, 28, 50] {
        assert_eq!(answered_after(&mut host, &server, wait_ms).1, 0, "{wait_ms} ms");
    }
    // What was lost is asked for all the same, however slow the host.
    assert_eq!(answered_after(&mut host, &server, 130).1, 1);
    // Since that came by itself it was merely late.
    assert_eq!(answered_after(&mut host, &server, 150).1, 0);
    // Slowness is forgotten: each of these measures anew.
    for _ in 0..30 {
        answered_after(&mut host, &server, 1);
        host.pass_ms(100);
    }
    assert_eq!(answered_after(&mut host, &server, 6).1, 1);
}

#[test]
fn a_saturated_linux_host_is_asked_when_its_longest_reaction_is_over_and_often_enough_then() {
    let mut host = host();
    let server = linux(1, 99);
    // It gets slower and slower.
    let mut wait_ms = 15;
    while wait_ms < 340 {
        assert_eq!(answered_after(&mut host, &server, wait_ms).1, 0, "{wait_ms} ms");
        wait_ms += wait_ms / 5;
    }
    let (rpc, _, _) = call(&mut host, &server, 100);
    assert_eq!(resends(&host.pass_ms(wait_ms)), [], "it may take that long");
    assert_eq!(resends(&host.pass_ms(wait_ms / 4)), [(0, RESEND_ALL)], "it was lost");
    let again = resends(&host.pass_ms(900)).len();
    assert!((7..=9).contains(&again), "{again}: RESENDs and replies get lost as well");
    assert_eq!(host.events(), []);
    host.pass_ms(300);
    let failed = Event::Failed { rpc, cookie: 0, reason: FailReason::Timeout };
    assert!(host.events().contains(&failed), "it has as much time to answer as others");
}

#[test]
fn a_linux_host_that_was_asked_too_early_is_given_more_time() {
    let mut host = host();
    let server = linux(1, 99);
    answered_after(&mut host, &server, 1);
    let (id, asked) = answered_after(&mut host, &server, 8);
    assert_eq!(asked, 1);
    // The answer to the RESEND comes after that to the call: nothing had been lost.
    let (mut header, bytes) = server.data(id ^ 1, 0..100, 100, 100);
    if let Body::Data(data) = &mut header.body {
        (data.flags, data.seg_offset) = (1, 0);
    }
    let _ = receive(&mut host, &server, (header, bytes));
    host.sent();
    assert_eq!(answered_after(&mut host, &server, 8).1, 0);
}

#[test]
fn a_linux_server_whose_response_waits_for_memory_is_not_given_up_for_its_silence() {
    let mut host = Host::new(exact().with(|config| {
        config.limits.max_message_bytes = 300_000;
        config.limits.receive_memory_bytes = 300_000;
    }));
    let mut begin = |number: u8| {
        let server = linux(number, 99);
        let (rpc, id, _) = call(&mut host, &server, 100);
        let _ = receive(&mut host, &server, server.data(id ^ 1, 0..FULL, 300_000, 40_000));
        rpc
    };
    begin(1);
    let waits = begin(2);
    let info = |host: &Host| host.engine.rpcs().find(|info| info.rpc == waits);
    assert!(info(&host).is_some_and(|info| info.waits_for_memory));
    let silence_ms = host.engine.config().responses.silence.as_millis() as u64;
    let mut waited_ms = 0;
    while info(&host).is_some_and(|info| info.waits_for_memory) {
        // The one in its place is alive, and slow.
        let other = linux(1, 99);
        let _ = receive(&mut host, &other, other.control(1, Body::Busy));
        host.pass_ms(10);
        host.events();
        waited_ms += 10;
        assert!(waited_ms <= silence_ms + 10);
    }
    assert!(info(&host).is_some() || waited_ms >= silence_ms, "{waited_ms} ms");
}

#[test]
fn a_linux_host_that_asks_again_for_what_is_on_its_way_does_not_look_like_a_black_hole() {
    for (pause_ms, fell) in [(5, 0), (25, 1)] {
        let mut host = host();
        let server = linux(1, 99);
        let (_, id, _) = call(&mut host, &server, 30_000);
        for _ in 0..6 {
            take(&mut host, &server, server.resend(id ^ 1, 28_480, 1_424));
            assert!(host.pass_ms(pause_ms).iter().filter_map(Sent::data).count() >= 1);
        }
        assert_eq!(host.stats().mtu_black_holes, fell, "every {pause_ms} ms");
    }
}

#[test]
fn acknowledgements_show_that_full_packets_arrive_unless_they_answer_a_need_ack() {
    for (listed, fell) in [(true, 0), (false, 1)] {
        let mut host = host();
        let client = linux(1, 40_000);
        for id in (2..=12).step_by(2) {
            serve(&mut host, &client, id, 10, 3_000);
            host.sent();
            take(&mut host, &client, client.resend(id, 0, 2 * FULL));
            host.pass_ms(25);
            let ack = match listed {
                true => client.ack(90, &[(id, PORT)]),
                false => client.ack(id, &[]),
            };
            let _ = receive(&mut host, &client, ack);
            host.events();
            assert_eq!(host.stats().live_rpcs, 0);
        }
        assert_eq!(host.stats().mtu_black_holes, fell, "listed {listed}");
    }
}

#[test]
fn some_packets_are_never_answered() {
    let mut host = host();
    let client = linux(1, 40_000);
    for id in [2, 91] {
        for body in [Body::Busy, Body::RpcUnknown, Body::Freeze] {
            let _ = receive(&mut host, &client, client.control(id, body));
        }
        let _ = receive(&mut host, &client, client.cutoffs(id));
        let _ = receive(&mut host, &client, client.ack(id, &[(4, PORT), (6, 1)]));
    }
    assert_eq!(kinds(&host.sent()), [""; 0]);
}

#[test]
fn freeze_is_counted_and_changes_nothing() {
    let mut host = host();
    let client = linux(1, 40_000);
    serve(&mut host, &client, 2, 10, 10);
    host.sent();
    let (mut header, _) = client.control(0, Body::Freeze);
    header.common.destination_port = 0;
    assert_eq!(receive(&mut host, &client, (header, 0)), Received::Consumed);
    assert_eq!(host.stats().freezes_received, 1);
    assert_eq!(host.stats().live_rpcs, 1);
    assert_eq!(kinds(&host.sent()), [""; 0]);
}

// Acknowledgements.

#[test]
fn acks_ride_on_later_requests_to_the_same_server_port() {
    let mut host = host();
    let (server, other_port) = (linux(1, 99), linux(1, 98));
    let ids = [finished_call(&mut host, &server), finished_call(&mut host, &server)];
    let acks = |sent: &[Sent]| -> Vec<u64> {
        let acked = |sent: &Sent| sent.data().and_then(Data::acknowledged).map(|ack| ack.client_id);
        sent.iter().filter_map(acked).collect()
    };
    assert_eq!(acks(&call(&mut host, &other_port, 100).2), [0; 0]);
    // The second call carried the acknowledgement of the first.
    let sent = call(&mut host, &server, 5000).2;
    assert_eq!(acks(&sent), [ids[1]], "one, and only once");
    assert_eq!(sent[0].data().unwrap().ack.server_port, 99);
}

#[test]
fn acknowledgements_that_wait_leave_when_the_port_is_closed() {
    let mut host = host();
    let server = linux(1, 99);
    let calls: Vec<u64> = (0..8).map(|_| call(&mut host, &server, 100).1).collect();
    for id in &calls {
        take(&mut host, &server, server.data(id ^ 1, 0..100, 100, 100));
    }
    host.events();
    assert_eq!(kinds(&host.sent()), [""; 0]);
    host.engine.close_port(host.now(), PORT);
    let sent = host.sent();
    assert_eq!(kinds(&sent), ["ACK"; 2]);
    let mut named: Vec<u64> = sent.iter().map(Sent::id).collect();
    for packet in &sent {
        if let Body::Ack(ack) = &packet.header.body {
            let entries = ack.entries.iter().take(usize::from(ack.count));
            named.extend(entries.map(|entry| entry.client_id));
        }
    }
    named.sort_unstable();
    assert_eq!(named, calls);
}

#[test]
fn acks_that_find_no_request_to_ride_on_go_in_a_packet_of_their_own() {
    let mut host = host();
    let server = linux(1, 99);
    let calls: Vec<_> = (0..65).map(|_| call(&mut host, &server, 10)).collect();
    let mut acked = BTreeSet::new();
    for (_, id, _) in &calls {
        take(&mut host, &server, server.data(id | 1, 0..10, 10, 10));
        for packet in host.sent() {
            let Body::Ack(ack) = packet.header.body else { panic!("{packet:?}") };
            acked.extend(ack.entries().iter().map(|entry| entry.client_id));
            acked.insert(packet.id());
        }
    }
    assert_eq!(acked.len(), 6, "five and the one in the header: what one packet of Linux holds");
}

#[test]
fn an_ack_counts_from_whatever_port_of_the_client_host() {
    let mut host = host();
    let client = linux(1, 40_000);
    serve(&mut host, &client, 2, 10, 10);
    serve(&mut host, &client, 4, 10, 10);
    serve(&mut host, &client, 6, 10, 10);
    host.sent();
    let other = linux(1, 50_000);
    take(&mut host, &other, other.ack(90, &[(2, PORT), (6, PORT + 1)]));
    host.events();
    assert_eq!(host.stats().live_rpcs, 2, "one of them names another server port");
    let (mut header, bytes) = other.data(92, 0..10, 10, 10);
    let Body::Data(data) = &mut header.body else { unreachable!() };
    data.ack = AckEntry { client_id: 4, server_port: PORT };
    take(&mut host, &other, (header, bytes));
    let rpc = host.arrived();
    // What came with a request is acted on when its answer has left.
    host.engine.send_response(host.now(), rpc, 10, ResponseOptions::default()).unwrap();
    host.sent();
    host.events();
    assert_eq!(host.stats().live_rpcs, 2, "the new request is one of them: {rpc:?}");
    let stranger = linux(2, 40_000);
    take(&mut host, &stranger, stranger.ack(6, &[(6, PORT)]));
    host.events();
    assert_eq!(host.stats().live_rpcs, 2, "not from another host");
}

#[test]
fn an_ack_that_could_mean_several_rpcs_is_ignored() {
    let mut host = host();
    let (one, two, other) = (linux(1, 40_000), linux(1, 40_001), linux(1, 50_000));
    for client in [&one, &two] {
        serve(&mut host, client, 2, 10, 10);
    }
    host.sent();
    take(&mut host, &other, other.ack(90, &[(2, PORT)]));
    host.events();
    assert_eq!(host.stats().live_rpcs, 2);
    take(&mut host, &one, one.ack(2, &[]));
    host.events();
    assert_eq!(host.stats().live_rpcs, 1, "its own port says which");
    take(&mut host, &other, other.ack(90, &[(2, PORT)]));
    host.events();
    assert_eq!(host.stats().live_rpcs, 0, "and then there is only one");
}

#[test]
fn an_ack_without_entries_names_the_rpc_of_its_header() {
    let mut host = host();
    let client = linux(1, 40_000);
    serve(&mut host, &client, 2, 10, 10);
    host.sent();
    take(&mut host, &client, client.ack(2, &[]));
    host.events();
    assert_eq!(host.stats().live_rpcs, 0);
}

#[test]
fn every_need_ack_about_a_complete_call_is_answered_however_often_it_comes() {
    let mut host = host();
    let server = linux(1, 99);
    let (rpc, id, _) = call(&mut host, &server, 10);
    take(&mut host, &server, server.data(id | 1, 0..10, 10, 10));
    host.events();
    for round in 0..40 {
        if round == 20 {
            host.engine.consumed(host.now(), rpc, 10).unwrap();
            host.events();
        }
        let _ = receive(&mut host, &server, server.control(id | 1, Body::NeedAck));
        let sent = host.sent();
        assert_eq!(kinds(&sent), ["ACK"], "round {round}");
        assert_eq!(sent[0].id(), id);
        host.pass_ms(1);
    }
}

#[test]
fn need_ack_about_an_incomplete_response_brings_resends_for_what_is_missing() {
    let mut host = host();
    let server = linux(1, 99);
    let (_, id, _) = call(&mut host, &server, 10);
    take(&mut host, &server, server.data(id | 1, FULL..2 * FULL, 5000, 5000));
    take(&mut host, &server, server.control(id | 1, Body::NeedAck));
    assert_eq!(resends(&host.sent()), [(0, FULL), (2 * FULL, 5000 - 2 * FULL)]);
}

#[test]
fn however_often_linux_asks_what_is_missing_is_asked_for_once_per_resend_interval() {
    let mut host = host();
    let server = linux(1, 99);
    let (_, id, _) = call(&mut host, &server, 10);
    take(&mut host, &server, server.data(id | 1, FULL..2 * FULL, 5000, 5000));
    let mut asked = Vec::new();
    for tenth_ms in 0..200 {
        if tenth_ms % 2 == 0 {
            take(&mut host, &server, server.control(id | 1, Body::NeedAck));
        }
        let again = resends(&host.pass_ns(100_000));
        asked.extend(again.into_iter().map(|range| (tenth_ms, range)));
    }
    let first: Vec<_> = asked.iter().filter(|(_, range)| range.0 == 0).map(|(at, _)| *at).collect();
    // Each step ends a tenth of a millisecond later.
    assert!(first.windows(2).all(|pair| pair[1] >= pair[0] + 49), "{asked:?}");
    assert!((2..=5).contains(&first.len()), "repeated in 20 ms, not given up: {asked:?}");
    // What came meanwhile is not asked for any more.
    take(&mut host, &server, server.data(id | 1, 0..FULL, 5000, 5000));
    host.pass_ms(20);
    take(&mut host, &server, server.control(id | 1, Body::NeedAck));
    assert!(resends(&host.sent()).iter().all(|range| range.0 == 2 * FULL));
}

#[test]
fn need_ack_is_sent_only_when_all_of_the_response_was_and_ever_more_rarely() {
    let mut host = host();
    let client = linux(1, 40_000);
    serve(&mut host, &client, 2, 10, 100_000);
    assert!(!host.pass_ms(50).iter().any(Sent::is_probe), "it waits for grants");
    take(&mut host, &client, client.grant(2, 100_000));
    let asked = host.pass_ms(1000).iter().filter(|sent| sent.is_probe()).count();
    assert!((3..=15).contains(&asked), "{asked} in a second");
    host.pass_ms(10_000);
    host.events();
    assert_eq!(host.stats().live_rpcs, 0, "and there is an end");
}

/// The client of a response that waits for a grant makes other calls, one per second; what is sent
/// meanwhile.
fn waits_for_a_grant(host: &mut Host, client: &Linux, seconds: u64) -> Vec<Sent> {
    let mut sent = Vec::new();
    for second in 0..seconds {
        serve(host, client, 1000 + 2 * second, 10, 10);
        sent.extend(host.pass_ms(1000));
        take(host, client, client.ack(1000 + 2 * second, &[]));
    }
    sent
}

#[test]
fn a_response_that_waits_for_a_grant_is_kept_while_its_client_shows_life() {
    let mut host = host();
    let client = linux(1, 40_000);
    serve(&mut host, &client, 2, 10, 100_000);
    let sent = waits_for_a_grant(&mut host, &client, 20);
    assert!(!sent.iter().any(|sent| sent.is_probe() && sent.id() == 3), "not all of it was sent");
    assert_eq!(host.stats().responses_abandoned, 0);
    take(&mut host, &client, client.grant(2, 100_000));
    assert_eq!(ranges(&host.sent()).last().map(|range| range.end), Some(100_000));
}

#[test]
fn a_response_that_nobody_takes_ends_on_a_busy_machine_as_well() {
    for length in [100, 100_000] {
        let mut host = host();
        serve(&mut host, &linux(1, 40_000), 2, 10, length);
        // The engine is driven late again and again.
        for _ in 0..100 {
            host.pass_ms(1);
            host.now_ns += 99_000_000;
        }
        host.events();
        assert!(host.stats().clock_jumps > 0);
        assert_eq!((host.stats().live_rpcs, host.stats().responses_abandoned), (0, 1), "{length}");
    }
}

#[test]
fn a_response_that_waits_for_a_grant_ends_with_an_acknowledgement_or_silence_or_after_a_minute() {
    let client = linux(1, 40_000);
    let mut acknowledged = host();
    serve(&mut acknowledged, &client, 2, 10, 100_000);
    waits_for_a_grant(&mut acknowledged, &client, 3);
    take(&mut acknowledged, &client, client.ack(2, &[]));
    acknowledged.events();
    assert_eq!(acknowledged.stats().live_rpcs, 0);
    let mut silent = host();
    serve(&mut silent, &client, 2, 10, 100_000);
    silent.pass_ms(5100);
    silent.events();
    assert_eq!((silent.stats().live_rpcs, silent.stats().responses_abandoned), (0, 1));
    let mut forgotten = host();
    serve(&mut forgotten, &client, 2, 10, 100_000);
    waits_for_a_grant(&mut forgotten, &client, 61);
    forgotten.events();
    assert_eq!((forgotten.stats().live_rpcs, forgotten.stats().responses_abandoned), (0, 1));
}

// Requests that nobody takes, errors of the network.

#[test]
fn a_linux_client_is_not_told_unknown_by_a_closed_port() {
    let mut host = host();
    let client = linux(1, 40_000);
    let (mut header, bytes) = client.data(2, 0..10, 10, 10);
    header.common.destination_port = 55;
    let received = receive(&mut host, &client, (header, bytes));
    assert_eq!(received, Received::Dropped(DropReason::NoSuchPort), "the driver sends ICMP");
    assert_eq!(kinds(&host.sent()), [""; 0], "it would send its request again, for ever");
}

#[test]
fn data_for_a_call_that_is_over_is_dropped_without_a_word() {
    let mut host = host();
    let server = linux(1, 99);
    let id = finished_call(&mut host, &server);
    for (id, length) in [(id, 10), (90, 50_000)] {
        for _ in 0..3 {
            let received = receive(&mut host, &server, server.data(id | 1, 0..10, length, 10));
            assert_eq!(received, Received::Dropped(DropReason::UnknownRpc));
        }
    }
    assert_eq!(kinds(&host.sent()), [""; 0], "only RESEND is answered with RPC_UNKNOWN");
    let _ = receive(&mut host, &server, server.control(id | 1, Body::NeedAck));
    assert_eq!(kinds(&host.sent()), ["ACK"], "its server is freed when it asks");
}

#[test]
fn requests_that_are_not_taken_bring_nothing() {
    let mut host = Host::new(exact().with(|config| config.limits.max_message_bytes = 20_000));
    let client = linux(1, 40_000);
    for start in [0, FULL] {
        let (header, bytes) = client.data(2, start..start + FULL, 30_000, 30_000);
        let received = receive(&mut host, &client, (header, bytes));
        assert_eq!(received, Received::Dropped(DropReason::TooLong));
    }
    assert_eq!(kinds(&host.sent()), [""; 0], "all would come again for each RPC_UNKNOWN");
    let _ = receive(&mut host, &client, client.resend(2, 0, RESEND_ALL));
    assert_eq!(kinds(&host.sent()), ["RPC_UNKNOWN"]);
}

#[test]
fn a_call_given_up_is_told_its_server_once_unless_its_request_was_sent_twice() {
    let abort = |host: &mut Host, rpc| {
        host.engine.abort(host.now(), rpc, FailReason::Cancelled).unwrap();
        kinds(&host.sent())
    };
    let (mut host, server) = (host(), linux(1, 99));
    let (waits, _, _) = call(&mut host, &server, 100);
    assert_eq!(abort(&mut host, waits), ["RPC_UNKNOWN"]);
    let (receives, id, _) = call(&mut host, &server, 100);
    take(&mut host, &server, server.data(id | 1, 0..FULL, 90_000, 40_000));
    host.sent();
    assert_eq!(abort(&mut host, receives), ["RPC_UNKNOWN"], "no grant will come");
    let (again, id, _) = call(&mut host, &server, 100);
    take(&mut host, &server, server.control(id | 1, Body::RpcUnknown));
    assert_eq!(kinds(&host.sent()), ["DATA"]);
    assert_eq!(abort(&mut host, again), [""; 0], "a copy that is late would be executed anew");
}

#[test]
fn a_finished_request_is_not_executed_again() {
    let mut host = host();
    let client = linux(1, 40_000);
    serve(&mut host, &client, 2, 10, 10);
    host.sent();
    take(&mut host, &client, client.ack(2, &[]));
    host.events();
    host.pass_ms(1_500);
    let received = receive(&mut host, &client, client.data(2, 0..10, 10, 10));
    assert_eq!(received, Received::Dropped(DropReason::Duplicate));
}

fn icmp(host: &mut Host, kind: IcmpKind, about: &Linux, id: u64) {
    let mut quoted = [0; 64];
    quoted[20..28].copy_from_slice(&id.to_be_bytes());
    host.engine.icmp_error(host.now(), kind, about.path(), &quoted);
}

#[test]
fn an_unreachable_port_ends_the_calls_to_it_and_an_unreachable_host_all() {
    let mut host = host();
    let (dead, alive) = (linux(1, 99), linux(1, 98));
    let calls: Vec<_> = [dead, dead, alive].iter().map(|to| call(&mut host, to, 10)).collect();
    let failed = |host: &mut Host| -> Vec<RpcKey> {
        let failed = |event: Event| match event {
            Event::Failed { rpc, .. } => Some(rpc),
            _ => None,
        };
        host.events().into_iter().filter_map(failed).collect()
    };
    icmp(&mut host, IcmpKind::PortUnreachable, &dead, calls[0].1);
    let ended: BTreeSet<_> = failed(&mut host).into_iter().collect();
    assert_eq!(ended, BTreeSet::from([calls[0].0, calls[1].0]));
    let (again, id, _) = call(&mut host, &dead, 10);
    icmp(&mut host, IcmpKind::HostUnreachable, &dead, id);
    let ended: BTreeSet<_> = failed(&mut host).into_iter().collect();
    assert_eq!(ended, BTreeSet::from([again, calls[2].0]));
}

#[test]
fn lengths_that_no_linux_host_sends_are_refused() {
    let mut host = host();
    let client = linux(1, 40_000);
    let refused = receive(&mut host, &client, client.data(2, 0..10, 0, 0));
    assert_eq!(refused, Received::Dropped(DropReason::Malformed));
    let refused = receive(&mut host, &client, client.data(2, 0..10, 1_000_001, 0));
    assert_eq!(refused, Received::Dropped(DropReason::TooLong));
}

// Discovery.

#[test]
fn the_announcement_rides_in_the_header_of_cutoffs_alone() {
    let mut host = host();
    let client = linux(1, 40_000);
    let (mut header, bytes) = client.data(2, 0..10, 10, 10);
    let Body::Data(data) = &mut header.body else { unreachable!() };
    data.cutoff_version = 0;
    take(&mut host, &client, (header, bytes));
    let rpc = host.arrived();
    host.engine.send_response(host.now(), rpc, 10, ResponseOptions::default()).unwrap();
    let sent = host.pass_ms(5);
    assert_eq!(kinds(&sent), ["CUTOFFS", "DATA", "NEED_ACK", "NEED_ACK"]);
    assert!(
        is_native(&sent[0])
            && sent[0].header.common.incarnation == host.engine.incarnation(client.address.ip())
    );
    assert_eq!(sent[0].wire_bytes, 62, "nothing behind it");
    assert!(!sent[1..].iter().any(is_native));
}

#[test]
fn an_rpc_keeps_the_format_it_was_begun_in() {
    let mut host = host();
    let server = linux(1, 99);
    let (_, first, _) = call(&mut host, &server, 100_000);
    announce(&mut host, &server, first | 1, 77);
    take(&mut host, &server, server.grant(first | 1, 60_000));
    assert!(!host.sent().iter().any(is_native));
    let (_, second, sent) = call(&mut host, &server, 100_000);
    assert!(sent.iter().all(|packet| is_native(packet) && packet.data().unwrap().echo == 77));
    take(&mut host, &server, server.grant(first | 1, 70_000));
    assert!(!host.sent().iter().any(is_native));
    assert_eq!(host.stats().peers_discovered, 1);
    assert_ne!(first, second);
}

#[test]
fn with_discovery_switched_off_every_packet_is_in_linux_format() {
    let mut host = Host::new(exact().with(|config| config.peers.discover = false));
    let server = linux(1, 99);
    let (_, id, _) = call(&mut host, &server, 10);
    announce(&mut host, &server, id | 1, 77);
    assert!(!call(&mut host, &server, 10).2.iter().any(is_native));
    let client = linux(2, 40_000);
    let (mut header, bytes) = client.data(2, 0..10, 10, 10);
    let Body::Data(data) = &mut header.body else { unreachable!() };
    data.cutoff_version = 0;
    take(&mut host, &client, (header, bytes));
    let sent = host.sent();
    assert_eq!(kinds(&sent), ["CUTOFFS"]);
    assert!(!is_native(&sent[0]));
}

#[test]
fn after_ten_seconds_of_silence_a_peer_is_asked_to_announce_itself_again() {
    let mut host = host();
    let server = linux(1, 99);
    let (_, id, _) = call(&mut host, &server, 10);
    announce(&mut host, &server, id | 1, 77);
    take(&mut host, &server, server.data(id | 1, 0..10, 10, 10));
    host.events();
    host.now_ns += Duration::from_secs(11).as_nanos() as u64;
    let (_, id, sent) = call(&mut host, &server, 10);
    assert!(!is_native(&sent[0]));
    assert_eq!(sent[0].data().unwrap().cutoff_version, 0);
    announce(&mut host, &server, id | 1, 77);
    let (_, _, sent) = call(&mut host, &server, 10);
    assert!(is_native(&sent[0]));
    assert_eq!(sent[0].data().unwrap().cutoff_version, LINUX_VERSION);
}

/// A packet about an RPC that shows what sent it.
type Proof<'a> = &'a dyn Fn(&Linux, u64) -> (Header, u32);

#[test]
fn a_host_that_returns_as_a_linux_machine_is_spoken_to_in_linux_format() {
    let about_a_native_rpc = |server: &Linux, id| server.control(id | 1, Body::Busy);
    let cutoffs = |server: &Linux, _| server.cutoffs(90);
    let proofs: [Proof<'_>; 2] = [&about_a_native_rpc, &cutoffs];
    for proof in proofs {
        let mut host = host();
        let server = linux(1, 99);
        let (_, id, _) = call(&mut host, &server, 10);
        announce(&mut host, &server, id | 1, 77);
        let (_, own, sent) = call(&mut host, &server, 100_000);
        assert!(is_native(&sent[0]));
        let _ = receive(&mut host, &server, proof(&server, own));
        assert_eq!(host.stats().peers_reverted, 1);
        assert!(!call(&mut host, &server, 10).2.iter().any(is_native), "new RPCs");
        take(&mut host, &server, server.grant(own | 1, 60_000));
        let sent = host.pass_ms(20);
        assert!(data_bytes(&sent) >= 20_000 && !sent.iter().any(is_native), "and what had begun");
    }
}

#[test]
fn a_call_that_waited_for_an_earlier_incarnation_ends_when_a_linux_machine_acknowledges_it() {
    let mut host = host();
    let server = linux(1, 99);
    let (_, first, _) = call(&mut host, &server, 10);
    announce(&mut host, &server, first | 1, 77);
    take(&mut host, &server, server.data(first | 1, 0..10, 10, 10));
    let (rpc, id, _) = call(&mut host, &server, 10);
    let (mut busy, _) = server.control(id | 1, Body::Busy);
    busy.common = busy.common.with_native_profile(77);
    let echo = host.engine.incarnation(server.address.ip());
    busy.extension = Some(homa_wire::Extension { echo, ..homa_wire::Extension::default() });
    take(&mut host, &server, (busy, 0));
    // Linux answers so to a NEED_ACK about an RPC that it does not know.
    for _ in 0..200 {
        if host.pass_ms(10).iter().any(|sent| sent.is_probe() && sent.id() == id) {
            let _ = receive(&mut host, &server, server.ack(id | 1, &[]));
        }
    }
    let failed = Event::Failed { rpc, cookie: 0, reason: FailReason::Restarted };
    assert!(host.events().contains(&failed), "the earlier incarnation may have executed it");
}

#[test]
fn an_announcement_of_another_version_is_none() {
    let mut host = host();
    let server = linux(1, 99);
    let (_, id, _) = call(&mut host, &server, 10);
    let (mut header, _) = server.cutoffs(id | 1);
    header.common = header.common.with_native_profile(77);
    header.common.window += VERSION;
    take(&mut host, &server, (header, 0));
    let (_, _, sent) = call(&mut host, &server, 10);
    assert!(!is_native(&sent[0]));
    assert_eq!(sent[0].data().unwrap().cutoff_version, LINUX_VERSION, "it is CUTOFFS all the same");
    assert_eq!(host.stats().calls_failed, 0);
}

#[test]
fn two_processes_at_one_address_are_two_peers() {
    let mut host = host();
    host.engine.bind_port(PORT + 1, PortOptions::CLIENT).unwrap();
    let (one, two) = (linux(1, 99), linux(1, 98));
    for (server, incarnation) in [(&one, 77), (&two, 88)] {
        let (_, id, _) = call(&mut host, server, 10);
        announce(&mut host, server, id | 1, incarnation);
    }
    for (server, incarnation) in [(&one, 77), (&two, 88), (&one, 77)] {
        let (_, _, sent) = call_from(&mut host, PORT + 1, server, 10);
        assert_eq!(sent[0].data().unwrap().echo, incarnation);
    }
    assert_eq!(host.stats().peers_reverted, 0);
}

#[test]
fn a_forged_announcement_changes_nothing_of_a_peer_that_has_proved_itself() {
    let mut host = host();
    let server = linux(1, 99);
    let (_, first, _) = call(&mut host, &server, 10);
    announce(&mut host, &server, first | 1, 77);
    let (_, id, _) = call(&mut host, &server, 10);
    let echo = host.engine.incarnation(server.address.ip());
    let (mut busy, _) = server.control(id | 1, Body::Busy);
    busy.common = busy.common.with_native_profile(77);
    busy.extension = Some(homa_wire::Extension { echo, ..homa_wire::Extension::default() });
    take(&mut host, &server, (busy, 0));
    let (mut forged, _) = server.cutoffs(id | 1);
    forged.common = forged.common.with_native_profile(88);
    let received = receive(&mut host, &server, (forged, 0));
    assert!(matches!(received, Received::Dropped(_)), "{received:?}");
    let (_, _, sent) = call(&mut host, &server, 10);
    assert_eq!(sent[0].data().unwrap().echo, 77);
}

// The table.

/// Names in backticks in the last column of the tables, with the file that they are in.
fn tests_in_the_table(text: &str) -> BTreeSet<String> {
    text.lines()
        .filter(|line| line.starts_with('|') && !line.starts_with("| ---"))
        .filter_map(|line| line.trim_end_matches('|').rsplit_once('|'))
        .flat_map(|(_, last)| {
            last.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>()
        })
        .collect()
}

fn tests_in(file: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let mut lines = file.lines();
    while let Some(line) = lines.next() {
        if line.trim() == "#[test]" {
            if let Some(name) = lines.next().and_then(|line| line.trim().strip_prefix("fn ")) {
                names.extend(name.split('(').next().map(str::to_owned));
            }
        }
    }
    names
}

#[test]
fn the_table_names_every_test_of_this_file_and_no_other_than_there_are() {
    let workspace = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let read = |name: &str| std::fs::read_to_string(workspace.join(name)).expect(name);
    let named = tests_in_the_table(&read("docs/interoperability.md"));
    let mut here = tests_in(&read("crates/homa-core/tests/it/interop.rs"));
    here.remove("the_table_names_every_test_of_this_file_and_no_other_than_there_are");
    let mut there = here.clone();
    for file in [
        "crates/homa-core/tests/it/replay.rs",
        "crates/homa-virtual/tests/it/raw_ip.rs",
        "crates/homa-transport/tests/over_ip_driver.rs",
        "tools/homa-capture/tests/it/violations.rs",
        "tools/homa-cli/tests/linux_peer.rs",
    ] {
        there.extend(tests_in(&read(file)));
    }
    let missing: Vec<_> = named.difference(&there).collect();
    assert!(missing.is_empty(), "the table names tests that do not exist: {missing:?}");
    let unnamed: Vec<_> = here.difference(&named).collect();
    assert!(unnamed.is_empty(), "the table does not name: {unnamed:?}");
}
