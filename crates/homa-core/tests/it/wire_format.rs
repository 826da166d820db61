//! What is on the wire, byte for byte: scenarios W1 to W22.

use std::net::SocketAddr;

use crate::harness::{Host, PORT, exact};
use homa_core::{
    Carriage, DropReason, Path, Received, RequestOptions, ResponseOptions, RpcKey, RxMeta, Segment,
};
use homa_wire::{AckEntry, Body, COMMON_HEADER_BYTES, Common, Data, Extension, Header};

/// A packet as a driver gets it: the header's bytes and what follows.
#[derive(Clone, Debug)]
struct Packet {
    header: Vec<u8>,
    payload: std::ops::Range<u32>,
    wire_bytes: u32,
}

impl Packet {
    fn is_data(&self) -> bool {
        self.header[11] == 0x10
    }

    fn be32(&self, at: usize) -> u32 {
        u32::from_be_bytes(self.header[at..at + 4].try_into().unwrap())
    }

    fn payload_bytes(&self) -> u32 {
        self.payload.end - self.payload.start
    }
}

/// Everything that may leave now, train by train.
fn trains(host: &mut Host) -> Vec<Vec<Packet>> {
    let mut segments = vec![Segment::EMPTY; 64];
    let mut trains = Vec::new();
    while let Some(transmit) = host.engine.poll_transmit(host.now(), &mut segments) {
        let packet = |segment: &Segment| Packet {
            header: segment.header().to_vec(),
            payload: segment.payload.clone(),
            wire_bytes: segment.wire_bytes(),
        };
        trains.push(segments[..transmit.segments].iter().map(packet).collect());
    }
    trains
}

fn packets(host: &mut Host) -> Vec<Packet> {
    trains(host).concat()
}

fn data_packets(host: &mut Host) -> Vec<Packet> {
    packets(host).into_iter().filter(Packet::is_data).collect()
}

/// The way to a Linux host over raw IP.
fn ip_path(ip: &str) -> Path {
    Path {
        remote: SocketAddr::new(ip.parse().unwrap(), 40_000),
        local_ip: None,
        local_port: PORT,
        interface: 0,
        carriage: Carriage::Ip,
    }
}

/// The same over UDP.
fn udp_path(ip: &str) -> Path {
    Path { carriage: Carriage::Udp, ..ip_path(ip) }
}

/// A call along `path`, whose MTU is 1,500 bytes.
fn call(host: &mut Host, path: Path, length: u32) -> RpcKey {
    let now = host.now();
    let key = host.engine.send_request(now, path, length, 0, RequestOptions::default()).unwrap();
    host.events();
    key
}

/// A packet in Linux format arrives.
fn arrive(host: &mut Host, path: Path, header: &Header, payload: u32) {
    let mut bytes = [0; 96];
    let written = header.encode(&mut bytes).unwrap();
    let length = written as u32 + payload;
    let _ = host.engine.handle_packet(host.now(), &RxMeta::new(path), &bytes[..written], length);
}

/// A control packet of the peer: over raw IP in Linux format.
fn control(host: &Host, path: Path, id: u64, body: Body) -> Header {
    let common = Common::control(path.remote.port(), PORT, id);
    if path.carriage == Carriage::Ip {
        return Header { common, body, extension: None };
    }
    let echo = host.engine.incarnation(path.remote.ip());
    let extension = Some(Extension { echo, ..Extension::default() });
    Header { common: common.with_native_profile(77), body, extension }
}

fn linux_data(path: Path, id: u64, length: u32, ack: AckEntry) -> Header {
    let common = Common::data(path.remote.port(), PORT, id, 0);
    let data = Data { message_length: length, incoming: length, ack, ..Data::default() };
    Header { common, body: Body::Data(data), extension: None }
}

// Scenario: W1
#[test]
fn a_request_of_twelve_bytes_is_one_packet_of_68() {
    for path in [ip_path("10.0.1.1"), udp_path("10.0.1.1"), ip_path("fd00::1")] {
        let mut host = Host::new(exact());
        call(&mut host, path, 12);
        let sent = packets(&mut host);
        assert_eq!(sent.len(), 1);
        let packet = &sent[0];
        assert_eq!((packet.wire_bytes, packet.header[11]), (68, 0x10));
        assert_eq!((packet.be32(28), packet.be32(32)), (12, 12), "message_length, incoming");
    }
}

// Scenario: W2, W3
#[test]
fn a_message_is_cut_at_what_the_mtu_leaves_for_payload() {
    for (path, expected) in [
        (ip_path("10.0.1.1"), [1424, 1424, 152]),
        (ip_path("fd00::1"), [1404, 1404, 192]),
        (udp_path("10.0.1.1"), [1416, 1416, 168]),
        (udp_path("fd00::1"), [1396, 1396, 208]),
    ] {
        let mut host = Host::new(exact());
        call(&mut host, path, 3000);
        let sent = packets(&mut host);
        let bytes: Vec<u32> = sent.iter().map(Packet::payload_bytes).collect();
        assert_eq!(bytes, expected, "{path:?}");
        let offsets: Vec<u32> = sent.iter().map(|packet| packet.be32(52)).collect();
        assert_eq!(offsets, [0, expected[0], 2 * expected[0]]);
    }
}

// Scenario: W6
#[test]
fn data_carries_its_offset_in_both_fields_also_when_it_is_sent_again() {
    for path in [ip_path("10.0.1.1"), udp_path("10.0.1.1")] {
        let mut host = Host::new(exact());
        call(&mut host, path, 100_000);
        let mut sent = packets(&mut host);
        let id = u64::from_be_bytes(sent[0].header[20..28].try_into().unwrap());
        let resend = homa_wire::Resend { offset: 0, length: 40_000, priority: 7 };
        let header = control(&host, path, id | 1, Body::Resend(resend));
        arrive(&mut host, path, &header, 0);
        let again = data_packets(&mut host);
        assert_eq!(again.len(), sent.len());
        sent.extend(again);
        for packet in sent {
            let start = packet.payload.start;
            assert_eq!((packet.be32(4), packet.be32(52)), (start, start));
        }
    }
}

// Scenario: W13, S3
#[test]
fn a_packet_ends_exactly_where_the_unscheduled_part_does() {
    for path in [ip_path("10.0.1.1"), ip_path("fd00::1"), udp_path("10.0.1.1")] {
        let mut host = Host::new(exact());
        call(&mut host, path, 100_000);
        let sent = packets(&mut host);
        let full = sent[0].payload_bytes();
        assert_eq!(sent.last().unwrap().payload, 40_000 / full * full..40_000);
        let id = u64::from_be_bytes(sent[0].header[20..28].try_into().unwrap());
        let grant = homa_wire::Grant { offset: 100_000, priority: 2 };
        let header = control(&host, path, id | 1, Body::Grant(grant));
        arrive(&mut host, path, &header, 0);
        let granted = data_packets(&mut host);
        assert_eq!(granted[0].payload, 40_000..40_000 + full);
        assert_eq!(granted.last().unwrap().payload.end, 100_000);
    }
}

/// A server over raw IP that has sent every kind of control packet it can be brought to.
fn control_packets() -> Vec<Packet> {
    let mut host = Host::new(exact());
    let path = ip_path("10.0.1.1");
    // DATA that wants a grant and has a gap, with unknown cutoffs: GRANT, CUTOFFS, later RESEND.
    let mut header = linux_data(path, 2, 900_000, AckEntry::NONE);
    header.common.sequence = 2000;
    if let Body::Data(data) = &mut header.body {
        (data.seg_offset, data.incoming) = (2000, 40_000);
    }
    arrive(&mut host, path, &header, 1000);
    host.events();
    let mut sent = packets(&mut host);
    // A RESEND for what is not there: BUSY, and RPC_UNKNOWN for an id of nobody.
    for id in [2, 4] {
        let body = Body::Resend(homa_wire::Resend { offset: 0, length: 1, priority: 0 });
        let header = control(&host, path, id, body);
        arrive(&mut host, path, &header, 0);
    }
    // A NEED_ACK about a call that is over: ACK. An unacknowledged answer: NEED_ACK.
    let header = control(&host, path, 7, Body::NeedAck);
    arrive(&mut host, path, &header, 0);
    arrive(&mut host, path, &linux_data(path, 6, 10, AckEntry::NONE), 10);
    let rpc = host.arrived();
    host.engine.send_response(host.now(), rpc, 10, ResponseOptions::default()).unwrap();
    for _ in 0..20 {
        sent.extend(packets(&mut host));
        host.now_ns += 1_000_000;
        host.engine.handle_timeout(host.now(), true);
    }
    sent
}

// Scenario: W7
#[test]
fn the_header_length_is_5_words_in_control_packets_and_14_in_data() {
    let sent = control_packets();
    let mut kinds: Vec<u8> = sent.iter().map(|packet| packet.header[11]).collect();
    kinds.sort_unstable();
    kinds.dedup();
    assert_eq!(kinds, [0x10, 0x11, 0x12, 0x13, 0x14, 0x15, 0x17, 0x18]);
    for packet in sent {
        let expected = if packet.is_data() { 0xE0 } else { 0x50 };
        assert_eq!(packet.header[12], expected, "{packet:?}");
        assert_eq!((packet.header[13], &packet.header[18..20]), (0x06, &[0xB9, 0x7D][..]));
    }
}

/// Calls over raw IP that were all answered; the ACK packets this leads to.
fn acks_of(calls: usize) -> Vec<Packet> {
    let mut host = Host::new(exact());
    let path = ip_path("10.0.1.1");
    let rpcs: Vec<RpcKey> = (0..calls).map(|_| call(&mut host, path, 10)).collect();
    let ids: Vec<u64> = packets(&mut host)
        .iter()
        .map(|packet| u64::from_be_bytes(packet.header[20..28].try_into().unwrap()))
        .collect();
    for (rpc, id) in rpcs.iter().zip(ids) {
        arrive(&mut host, path, &linux_data(path, id | 1, 10, AckEntry::NONE), 10);
        host.events();
        host.engine.consumed(host.now(), *rpc, 10).unwrap();
    }
    packets(&mut host).into_iter().filter(|packet| packet.header[11] == 0x18).collect()
}

// Scenario: W8
#[test]
fn an_ack_with_five_entries_has_80_bytes_and_5_words() {
    let sent = acks_of(80);
    let full: Vec<_> = sent.iter().filter(|packet| packet.header[28..30] == [0, 5]).collect();
    assert!(!full.is_empty(), "{sent:?}");
    for packet in full {
        assert_eq!((packet.wire_bytes, packet.header[12]), (80, 0x50));
    }
}

// Scenario: W9, W10
#[test]
fn what_is_shorter_than_its_header_is_counted_and_not_answered() {
    let mut host = Host::new(exact());
    let path = udp_path("10.0.1.1");
    for (body, header_bytes) in [
        (Body::NeedAck, COMMON_HEADER_BYTES),
        (Body::Grant(homa_wire::Grant { offset: 1, priority: 0 }), 33),
        (Body::Ack(homa_wire::Ack::default()), 80),
    ] {
        let mut bytes = [0; 96];
        control(&host, path, 2, body).encode(&mut bytes).unwrap();
        let before = host.stats().dropped_malformed;
        let meta = RxMeta::new(path);
        let short = header_bytes - 1;
        let now = host.now();
        let received = host.engine.handle_packet(now, &meta, &bytes[..short], short as u32);
        assert_eq!(received, Received::Dropped(DropReason::Malformed), "{header_bytes}");
        assert_eq!(host.stats().dropped_malformed, before + 1);
        assert!(packets(&mut host).is_empty());
        let whole = header_bytes as u32;
        let received = host.engine.handle_packet(now, &meta, &bytes[..header_bytes], whole);
        assert_ne!(received, Received::Dropped(DropReason::Malformed), "one byte more");
        packets(&mut host);
    }
}

// Scenario: W18
#[test]
fn the_packets_of_a_train_differ_only_in_their_offsets() {
    let mut host = Host::new(exact());
    call(&mut host, udp_path("10.0.1.1"), 30_000);
    let trains = trains(&mut host);
    assert_eq!(trains.len(), 1);
    let train = &trains[0];
    assert_eq!(train.len(), 22);
    let mut expected = 0;
    for packet in train {
        assert_eq!((packet.be32(4), packet.be32(52)), (expected, expected));
        expected += packet.payload_bytes();
        let common = |packet: &Packet| [&packet.header[..4], &packet.header[8..52]].concat();
        assert_eq!(common(packet), common(&train[0]));
    }
    assert_eq!(expected, 30_000);
}

/// Packets in the first train when a train may have so many bytes.
fn packets_in_a_train_of(bytes: u64) -> usize {
    // At 8 Gbit/s the link sends a byte per nanosecond.
    let config = exact().with(|config| {
        config.output.link_mbps = Some(8000);
        config.output.max_link_usage_percent = 100;
        config.output.quantum = std::time::Duration::from_nanos(bytes);
    });
    let mut host = Host::new(config);
    call(&mut host, udp_path("10.0.1.1"), 30_000);
    trains(&mut host)[0].len()
}

// Scenario: W20
#[test]
fn a_train_holds_as_many_whole_packets_as_its_limit_allows() {
    assert_eq!(packets_in_a_train_of(3 * 1472 - 1), 2);
    assert_eq!(packets_in_a_train_of(3 * 1472), 3);
}

// Scenario: W22
#[test]
fn an_mtu_that_leaves_no_room_for_payload_is_refused_or_not_believed() {
    let error = exact().with(|config| config.output.mtu_max = 575).validate().unwrap_err();
    assert_eq!(error.setting, "output.mtu_max");
    for (ip, smallest) in [("10.0.1.1", 576 - 28), ("fd00::1", 1280 - 48)] {
        let mut host = Host::new(exact());
        host.mtu = Some(60);
        call(&mut host, udp_path(ip), 3000);
        let longest = packets(&mut host).iter().map(|packet| packet.wire_bytes).max();
        assert_eq!(longest, Some(smallest), "{ip}");
    }
}

// Scenario: W12
#[test]
fn the_server_answers_in_its_own_form_of_the_id() {
    let mut host = Host::new(exact());
    let remote = host.remote(1, 1);
    host.serve(&remote, 2, 10, 10);
    assert_eq!(data_packets(&mut host)[0].header[20..28], 3_u64.to_be_bytes());
}
