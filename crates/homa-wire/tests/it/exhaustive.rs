//! All of what is small enough to be tried completely.

use homa_wire::{
    Body, Common, DATA_HEADER_BYTES, Data, EXTENSION_BYTES, Extension, HEADER_MAX, Header,
    PacketType, Packets, ParseError,
};

/// Where the type is in every packet.
const TYPE_AT: usize = 11;
/// Values around which lengths and offsets go wrong.
const EDGES: [u32; 15] = [
    0,
    1,
    2,
    55,
    56,
    57,
    255,
    65_535,
    1 << 16,
    (1 << 31) - 1,
    1 << 31,
    u32::MAX - 57,
    u32::MAX - 56,
    u32::MAX - 1,
    u32::MAX,
];

#[test]
fn every_type_byte_and_every_pair_of_lengths_is_parsed_or_refused_as_documented() {
    for window in [[0; 2], [0xA0, 3]] {
        let mut bytes = [0x5A; HEADER_MAX + 4];
        bytes[14..16].copy_from_slice(&window);
        for code in 0..=u8::MAX {
            bytes[TYPE_AT] = code;
            for there in 0..=bytes.len() {
                for transport_len in 0..=bytes.len() {
                    let got = there.min(transport_len);
                    let parsed = Header::parse(&bytes[..there], transport_len as u32);
                    let expected = match PacketType::try_from(code) {
                        _ if got < 28 => Err(ParseError::TooShort { need: 28, got }),
                        Err(error) => Err(error),
                        Ok(kind) if got < kind.header_bytes() => {
                            Err(ParseError::TooShort { need: kind.header_bytes(), got })
                        }
                        Ok(kind) => Ok(kind),
                    };
                    assert_eq!(parsed.map(|header| header.packet_type()), expected);
                    let Ok(header) = parsed else { continue };
                    let control = header.packet_type() != PacketType::Data;
                    let has_room = got >= header.packet_type().header_bytes() + EXTENSION_BYTES;
                    let extended = window != [0; 2] && control && has_room;
                    assert_eq!(header.extension.is_some(), extended);
                    let mut out = [0; HEADER_MAX];
                    let length = header.encode(&mut out).expect("it fits");
                    assert_eq!(out[..length], bytes[..length]);
                }
            }
        }
    }
}

fn data(own: bool, message_length: u32, seg_offset: u32, payload_bytes: usize) -> Vec<u8> {
    let common = Common::data(7, 99, 2, seg_offset);
    let common = if own { common.with_native_profile(5) } else { common };
    let body = Body::Data(Data { message_length, seg_offset, ..Data::default() });
    let mut packet = vec![0xEE; DATA_HEADER_BYTES + payload_bytes];
    Header { common, body, extension: None }.encode(&mut packet).expect("it fits");
    packet
}

fn busy(own: bool, extended: bool) -> Vec<u8> {
    let common = Common::control(99, 7, 3);
    let common = if own { common.with_native_profile(5) } else { common };
    let extension = extended.then(Extension::default);
    let header = Header { common, body: Body::Busy, extension };
    let mut packet = vec![0; header.encoded_bytes()];
    header.encode(&mut packet).expect("it fits");
    packet
}

/// Lengths and offsets that say that the packet ends before, at and behind the end of what is
/// there.
#[test]
fn every_pair_of_edge_values_of_length_and_offset_ends_a_packet_where_it_says() {
    for (message_length, seg_offset) in
        EDGES.into_iter().flat_map(|length| EDGES.map(|offset| (length, offset)))
    {
        for payload_bytes in [0, 1, 2, 55, 56, 57, 300] {
            let mut datagram = data(true, message_length, seg_offset, payload_bytes);
            let alone = datagram.len();
            datagram.extend(busy(true, true));
            for transport_len in [0, 1, alone as u32, datagram.len() as u32, u32::MAX] {
                let found: Vec<_> = Packets::new(&datagram, transport_len).collect();
                let says = u64::from(message_length).checked_sub(u64::from(seg_offset));
                // What cannot be said in 32 bits says nothing.
                let says = says
                    .map(|bytes| bytes + DATA_HEADER_BYTES as u64)
                    .filter(|bytes| *bytes <= u64::from(u32::MAX));
                let there = datagram.len().min(transport_len as usize);
                let whole = there >= DATA_HEADER_BYTES;
                let first =
                    says.filter(|_| whole).unwrap_or(u64::MAX).min(u64::from(transport_len));
                assert_eq!(
                    u64::from(found[0].1),
                    first,
                    "{message_length} {seg_offset} {transport_len}"
                );
                assert_eq!(found[0].0.len(), there.min(first as usize));
                let total: u64 = found.iter().map(|(_, bytes)| u64::from(*bytes)).sum();
                assert!(total <= u64::from(transport_len));
            }
        }
    }
}

/// Up to four packets of every shape, one after the other, and padding.
#[test]
fn every_sequence_of_packets_falls_apart_where_the_first_without_an_end_begins() {
    let shapes: [(Vec<u8>, bool); 7] = [
        (data(true, 10, 0, 10), true),
        (data(true, 10, 10, 0), true),
        (data(true, 3000, 2990, 10), true),
        (data(true, 3000, 0, 10), false),
        (data(false, 10, 0, 10), false),
        (busy(true, true), true),
        (busy(false, false), false),
    ];
    for number in 0..7_usize.pow(4) {
        let chosen =
            [number % 7, number / 7 % 7, number / 49 % 7, number / 343].map(|at| &shapes[at]);
        for (count, padding) in
            (1..=4).flat_map(|count| [0, 1, 2, 40].map(|padding| (count, padding)))
        {
            let mut datagram =
                chosen[..count].iter().map(|shape| &shape.0[..]).collect::<Vec<_>>().concat();
            datagram.resize(datagram.len() + padding, 0);
            let found: Vec<_> = Packets::new(&datagram, datagram.len() as u32).collect();
            let ended = chosen[..count].iter().take_while(|shape| shape.1).count();
            assert_eq!(found.len(), count.min(ended + 1));
            for (packet, shape) in found.iter().zip(&chosen[..ended.min(count)]) {
                assert_eq!(packet.0, &shape.0[..]);
            }
        }
    }
}
