//! The worked examples of the specification
//! (docs/spec/wire-format.md §10), byte for byte and both ways.

use homa_wire::{
    Ack, AckEntry, Body, Common, Cutoffs, Data, FLAGS, Grant, HEADER_MAX, Header,
    OFFSET_IN_SEQUENCE, Packet, RESEND_ALL, Resend, URGENT,
};

const CLIENT_PORT: u16 = 32_768;
const SERVER_PORT: u16 = 4_000;

/// Bytes written as a hex dump without offsets.
fn hex(dump: &str) -> Vec<u8> {
    dump.split_whitespace()
        .map(|byte| u8::from_str_radix(byte, 16).expect("two hex digits"))
        .collect()
}

/// Checks that `bytes` mean `header` and `payload`, and that both encode to `bytes`.
fn check(bytes: &[u8], header: Header, payload: &[u8]) {
    let packet = Packet::parse(bytes).expect("a valid packet");
    assert_eq!(packet.header, header);
    assert_eq!(packet.payload, payload);

    let mut encoded = vec![0; HEADER_MAX];
    let header_bytes = header.encode(&mut encoded).expect("fits");
    encoded.truncate(header_bytes);
    encoded.extend_from_slice(payload);
    assert_eq!(encoded, bytes);
}

fn from_client(body: Body) -> Header {
    Header { common: Common::control(CLIENT_PORT, SERVER_PORT, 2), body, extension: None }
}

fn from_server(body: Body) -> Header {
    Header { common: Common::control(SERVER_PORT, CLIENT_PORT, 3), body, extension: None }
}

fn hello() -> Header {
    Header {
        common: Common::data(CLIENT_PORT, SERVER_PORT, 2, 0),
        body: Body::Data(Data {
            message_length: 12,
            incoming: 12,
            seg_offset: OFFSET_IN_SEQUENCE,
            ..Data::default()
        }),
        extension: None,
    }
}

#[test]
fn example_a_is_a_request_of_one_packet() {
    let bytes = hex("80 00 0f a0 00 00 00 00 00 00 00 10 e0 06 00 00
        00 00 b9 7d 00 00 00 00 00 00 00 02 00 00 00 0c
        00 00 00 0c 00 00 00 00 00 00 00 00 00 00 00 00
        00 00 00 00 ff ff ff ff 48 65 6c 6c 6f 2c 20 48
        6f 6d 61 21");
    check(&bytes, hello(), b"Hello, Homa!");
}

#[test]
fn example_b_is_the_second_segment_of_a_native_multi_segment_response() {
    let bytes = hex("0f a0 80 00 00 00 00 00 00 00 00 10 d0 06 00 00
        00 00 b9 7d 00 00 00 00 00 00 00 03 00 00 13 88
        00 00 13 88 00 00 00 00 00 00 00 00 00 00 00 01
        00 00 00 00 00 00 05 90");
    let data = Data {
        message_length: 5_000,
        incoming: 5_000,
        cutoff_version: 1,
        seg_offset: 1_424,
        ..Data::default()
    };
    let common = Common { doff: 0xD0, ..Common::data(SERVER_PORT, CLIENT_PORT, 3, 0) };
    let header = Header { common, body: Body::Data(data), extension: None };
    check(&bytes, header, b"");
    assert_eq!(data.offset(common.sequence), 1_424);
    assert_eq!(common.local_id(), 2);
}

#[test]
fn example_c_is_a_grant() {
    let bytes = hex("0f a0 80 00 00 00 00 00 00 00 00 11 50 06 00 00
        00 00 b9 7d 00 00 00 00 00 00 00 03 00 01 86 a0
        02");
    let grant = Grant { offset: 100_000, priority: 2 };
    check(&bytes, from_server(Body::Grant(grant)), b"");
}

#[test]
fn example_d_is_a_resend_of_everything() {
    let bytes = hex("80 00 0f a0 00 00 00 00 00 00 00 12 50 06 00 00
        00 00 b9 7d 00 00 00 00 00 00 00 02 00 00 00 00
        ff ff ff ff 07");
    let resend = Resend { offset: 0, length: RESEND_ALL, priority: 7 };
    check(&bytes, from_client(Body::Resend(resend)), b"");
    assert!(resend.is_all());
}

#[test]
fn example_e_is_an_ack_for_three_rpcs() {
    let bytes = hex("80 00 0f a0 00 00 00 00 00 00 00 18 50 06 00 00
        00 00 b9 7d 00 00 00 00 00 00 00 02 00 02 00 00
        00 00 00 00 00 04 0f a0 00 00 00 00 00 00 00 08
        0f a1 00 00 00 00 00 00 00 00 00 00 00 00 00 00
        00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00");
    let four = AckEntry { client_id: 4, server_port: 4_000 };
    let eight = AckEntry { client_id: 8, server_port: 4_001 };
    let ack =
        Ack { count: 2, entries: [four, eight, AckEntry::NONE, AckEntry::NONE, AckEntry::NONE] };
    check(&bytes, from_client(Body::Ack(ack)), b"");
    assert_eq!(ack.entries(), [four, eight]);
}

#[test]
fn example_f_is_example_a_inside_a_tcp_frame() {
    let datagram = hex("45 c0 00 58 00 00 40 00 40 06 23 de 0a 00 01 01
        0a 00 01 02 80 00 0f a0 00 00 00 00 00 00 00 10
        e0 06 00 00 ab 8e b9 7d 00 00 00 00 00 00 00 02
        00 00 00 0c 00 00 00 0c 00 00 00 00 00 00 00 00
        00 00 00 00 00 00 00 00 ff ff ff ff 48 65 6c 6c
        6f 2c 20 48 6f 6d 61 21");
    let mut header = hello();
    header.common.checksum = 0xAB8E;
    check(&datagram[20..], header, b"Hello, Homa!");
    // What tells it from TCP.
    assert_eq!(header.common.flags, FLAGS);
    assert_eq!(header.common.urgent, URGENT);
}

#[test]
fn example_g_is_a_table_of_cutoffs() {
    let bytes = hex("0f a0 80 00 00 00 00 00 00 00 00 15 50 06 00 00
        00 00 b9 7d 00 00 00 00 00 00 00 03 7f ff ff ff
        00 00 00 00 00 00 00 00 00 00 00 00 00 0f 42 40
        00 00 3a 98 00 00 0a f0 00 00 00 c8 00 01");
    let cutoffs =
        Cutoffs { levels: [0x7FFF_FFFF, 0, 0, 0, 1_000_000, 15_000, 2_800, 200], version: 1 };
    check(&bytes, from_server(Body::Cutoffs(cutoffs)), b"");
}
