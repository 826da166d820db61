//! Headers and datagrams: nothing panics, and bytes and meaning are the same in both directions.

use homa_wire::{DATA_HEADER_BYTES, HEADER_MAX, Header, Packet, PacketType, Packets};

use crate::headers::{self, Near};
use crate::input::Input;

/// Reads the input as a datagram, as one cut by its recorder, or as headers to be put into one.
pub fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    match input.below(3) {
        0 => {
            let datagram = input.rest();
            look_at(datagram, datagram.len() as u32);
        }
        1 => {
            let transport_len = input.number(&[28, 36, 56, 96]);
            look_at(input.rest(), transport_len);
        }
        _ => coalesce(&mut input),
    }
}

fn look_at(datagram: &[u8], transport_len: u32) {
    let there = datagram.len().min(transport_len as usize);
    let (mut at, mut on_wire) = (0, 0);
    for (packet, length) in Packets::new(datagram, transport_len) {
        assert_eq!(packet, &datagram[at..at + packet.len()]);
        assert!(packet.len() <= length as usize && (length > 0 || there == 0));
        parse(packet, length);
        at += packet.len();
        on_wire += u64::from(length);
    }
    assert!(at <= there && on_wire <= u64::from(transport_len));
    assert!(datagram[at..there].iter().take(2).all(|byte| *byte == 0), "only padding is left");
    parse(datagram, transport_len);
    if transport_len as usize == datagram.len() {
        whole_packet(datagram);
    }
}

fn parse(bytes: &[u8], transport_len: u32) {
    let parsed = Header::parse(bytes, transport_len);
    // The engine sees no more of a packet than this.
    let first = &bytes[..bytes.len().min(HEADER_MAX)];
    assert_eq!(parsed, Header::parse(first, transport_len));
    let Ok(header) = parsed else { return };
    let encoded = encode(&header);
    assert!(encoded.len() <= bytes.len().min(transport_len as usize));
    assert_eq!(encoded, bytes[..encoded.len()], "{header:?}");
    assert_eq!(homa_wire::quoted_sender_id(bytes), Some(header.common.sender_id));
    assert_eq!(header.common.local_id() ^ header.common.sender_id, 1);
}

fn whole_packet(bytes: &[u8]) {
    let Ok(packet) = Packet::parse(bytes) else {
        return assert!(Header::parse(bytes, bytes.len() as u32).is_err());
    };
    match packet.header.packet_type() {
        PacketType::Data => assert_eq!(packet.payload, &bytes[DATA_HEADER_BYTES..]),
        _ => assert!(packet.payload.is_empty()),
    }
}

fn encode(header: &Header) -> Vec<u8> {
    let mut out = [0x5A; HEADER_MAX];
    let length = header.encode(&mut out).expect("HEADER_MAX holds every header");
    assert_eq!(length, header.encoded_bytes());
    assert!(out[length..].iter().all(|byte| *byte == 0x5A), "nothing is written behind it");
    assert_eq!(header.encode(&mut out[..length - 1]), None);
    out[..length].to_vec()
}

/// Headers of one datagram are found in it again, as far as each says where it ends.
fn coalesce(input: &mut Input<'_>) {
    let near = Near {
        source_port: 7,
        destination_port: 99,
        ids: &[2, 3, u64::MAX],
        incarnation: 0x00AB_CDEF,
        echo: 0x0012_3456,
        numbers: &[0, 1, 100, 1388, 40_000],
    };
    let (mut datagram, mut expected) = (Vec::new(), Vec::new());
    while !input.is_over() && expected.len() < 40 {
        let header = headers::header(input, &near);
        let packet = encode(&header);
        let written = Header { extension: header.written_extension().copied(), ..header };
        assert_eq!(Header::parse(&packet, packet.len() as u32), Ok(written));
        datagram.extend_from_slice(&packet);
        expected.push(written);
    }
    let found = Packets::new(&datagram, datagram.len() as u32);
    let says_its_end = |header: &Header| header.extension.is_some();
    for ((packet, length), expected) in found.zip(&expected).take_while(|it| says_its_end(it.1)) {
        assert_eq!(Header::parse(packet, length).as_ref(), Ok(expected));
    }
    look_at(&datagram, datagram.len() as u32);
}
