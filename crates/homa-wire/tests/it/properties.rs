//! What holds for all headers and all bytes.

use homa_wire::{
    Ack, AckEntry, Body, Common, Cutoffs, DATA_HEADER_BYTES, Data, EXTENSION_BYTES, Extension,
    Grant, HEADER_MAX, Header, Packet, PacketType, Packets, ParseError, Resend, VERSION,
    VERSION_MAGIC,
};
use proptest::array::uniform5;
use proptest::collection::vec;
use proptest::prelude::*;

/// Where the type is in every packet.
const TYPE_AT: usize = 11;
/// Where the window is in every packet.
const WINDOW_AT: usize = 14;
const U24: u32 = 1 << 24;

fn window() -> impl Strategy<Value = u16> {
    prop_oneof![Just(0), Just(VERSION_MAGIC | VERSION), Just(VERSION_MAGIC | 2), any::<u16>()]
}

fn common() -> impl Strategy<Value = Common> {
    let tcp = (any::<u8>(), any::<u8>(), window(), any::<u16>(), any::<u16>());
    let homa = (any::<u16>(), any::<u16>(), any::<u32>(), 0..U24, any::<u64>());
    (homa, tcp).prop_map(|(homa, tcp)| {
        let (source_port, destination_port, sequence, incarnation, sender_id) = homa;
        let (doff, flags, window, checksum, urgent) = tcp;
        Common {
            source_port,
            destination_port,
            sequence,
            incarnation,
            doff,
            flags,
            window,
            checksum,
            urgent,
            sender_id,
        }
    })
}

fn ack_entry() -> impl Strategy<Value = AckEntry> {
    (any::<u64>(), any::<u16>())
        .prop_map(|(client_id, server_port)| AckEntry { client_id, server_port })
}

fn data() -> impl Strategy<Value = Data> {
    let lengths = (any::<u32>(), any::<u32>(), any::<u32>());
    let rest = (ack_entry(), any::<u16>(), any::<u8>(), 0..U24);
    (lengths, rest).prop_map(|(lengths, rest)| {
        let (message_length, incoming, seg_offset) = lengths;
        let (ack, cutoff_version, flags, echo) = rest;
        Data { message_length, incoming, ack, cutoff_version, flags, echo, seg_offset }
    })
}

fn body() -> impl Strategy<Value = Body> {
    prop_oneof![
        data().prop_map(Body::Data),
        (any::<u32>(), any::<u8>())
            .prop_map(|(offset, priority)| Body::Grant(Grant { offset, priority })),
        (any::<u32>(), any::<u32>(), any::<u8>()).prop_map(|(offset, length, priority)| {
            Body::Resend(Resend { offset, length, priority })
        }),
        Just(Body::RpcUnknown),
        Just(Body::Busy),
        (any::<[u32; 8]>(), any::<u16>())
            .prop_map(|(levels, version)| Body::Cutoffs(Cutoffs { levels, version })),
        Just(Body::Freeze),
        Just(Body::NeedAck),
        (any::<u16>(), uniform5(ack_entry()))
            .prop_map(|(count, entries)| Body::Ack(Ack { count, entries })),
    ]
}

fn extension() -> impl Strategy<Value = Extension> {
    (0..U24, any::<u8>(), any::<u32>()).prop_map(|(echo, reason, value)| Extension {
        echo,
        reason: reason.into(),
        value,
    })
}

fn header() -> impl Strategy<Value = Header> {
    (common(), body(), proptest::option::of(extension()))
        .prop_map(|(common, body, extension)| Header { common, body, extension })
}

/// Bytes that look like a packet more often than chance would have it.
fn packet_bytes() -> impl Strategy<Value = Vec<u8>> {
    let shaped = (vec(any::<u8>(), 16..200), 0x10..=0x18_u8, window()).prop_map(
        |(mut bytes, code, window)| {
            bytes[TYPE_AT] = code;
            bytes[WINDOW_AT..WINDOW_AT + 2].copy_from_slice(&window.to_be_bytes());
            bytes
        },
    );
    prop_oneof![1 => vec(any::<u8>(), 0..200), 4 => shaped]
}

fn encode(header: &Header) -> Vec<u8> {
    let mut out = vec![0; HEADER_MAX];
    let encoded_bytes = header.encode(&mut out).expect("HEADER_MAX holds every header");
    out.truncate(encoded_bytes);
    out
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn what_is_encoded_parses_to_the_same_header(header in header()) {
        let bytes = encode(&header);
        let expected = Header { extension: header.written_extension().copied(), ..header };
        prop_assert_eq!(Packet::parse(&bytes).map(|packet| packet.header), Ok(expected));
    }

    #[test]
    fn an_extension_goes_only_into_control_packets_of_this_version(header in header()) {
        let allowed = header.common.version() == Some(VERSION)
            && header.packet_type() != PacketType::Data;
        prop_assert_eq!(header.written_extension().is_some(), allowed && header.extension.is_some());
        let extension_bytes = if header.written_extension().is_some() { EXTENSION_BYTES } else { 0 };
        let expected = header.packet_type().header_bytes() + extension_bytes;
        prop_assert_eq!(header.encoded_bytes(), expected);
        prop_assert_eq!(encode(&header).len(), expected);
    }

    #[test]
    fn any_bytes_that_parse_encode_to_the_same_bytes(bytes in packet_bytes()) {
        if let Ok(packet) = Packet::parse(&bytes) {
            let encoded = encode(&packet.header);
            prop_assert_eq!(&encoded[..], &bytes[..encoded.len()]);
            if packet.header.packet_type() == PacketType::Data {
                prop_assert_eq!(packet.payload, &bytes[DATA_HEADER_BYTES..]);
            } else {
                prop_assert!(packet.payload.is_empty());
            }
        }
    }

    #[test]
    fn bytes_parse_exactly_if_the_type_is_known_and_its_header_is_there(bytes in packet_bytes()) {
        let got = bytes.len();
        let expected = match bytes.get(TYPE_AT).map(|&code| PacketType::try_from(code)) {
            _ if got < 28 => Err(ParseError::TooShort { need: 28, got }),
            Some(Ok(packet_type)) if got < packet_type.header_bytes() => {
                Err(ParseError::TooShort { need: packet_type.header_bytes(), got })
            }
            Some(Ok(packet_type)) => Ok(packet_type),
            Some(Err(error)) => Err(error),
            None => unreachable!("28 bytes have a type"),
        };
        let parsed = Packet::parse(&bytes).map(|packet| packet.header.packet_type());
        prop_assert_eq!(parsed, expected);
    }

    #[test]
    fn any_datagram_falls_into_packets_that_lie_side_by_side(
        parts in vec(packet_bytes(), 0..6),
        own in any::<bool>(),
        transport_len in 0..2_000u32,
    ) {
        let mut datagram = parts.concat();
        if own && datagram.len() > 16 {
            datagram[14..16].copy_from_slice(&(VERSION_MAGIC | VERSION).to_be_bytes());
        }
        let there = datagram.len().min(transport_len as usize);
        let (mut at, mut on_wire) = (0, 0);
        for (packet, bytes) in Packets::new(&datagram, transport_len) {
            prop_assert_eq!(packet, &datagram[at..at + packet.len()]);
            prop_assert!(packet.len() <= bytes as usize);
            at += packet.len();
            on_wire += bytes;
        }
        prop_assert!(at <= there && on_wire <= transport_len);
        prop_assert!(datagram[at..there].iter().take(2).all(|byte| *byte == 0), "only padding is left");
    }

    #[test]
    fn the_first_bytes_of_a_packet_are_enough(bytes in packet_bytes()) {
        let transport_len = u32::try_from(bytes.len()).expect("short");
        let prefix = &bytes[..bytes.len().min(HEADER_MAX)];
        prop_assert_eq!(
            Header::parse(prefix, transport_len),
            Header::parse(&bytes, transport_len)
        );
    }

    #[test]
    fn bytes_behind_the_end_of_the_packet_are_not_looked_at(
        bytes in packet_bytes(),
        padding in vec(any::<u8>(), 0..50),
    ) {
        let transport_len = u32::try_from(bytes.len()).expect("short");
        let expected = Header::parse(&bytes, transport_len);
        let padded = [bytes, padding].concat();
        prop_assert_eq!(Header::parse(&padded, transport_len), expected);
    }

    #[test]
    fn any_two_lengths_are_safe(bytes in packet_bytes(), transport_len in any::<u32>()) {
        if let Ok(header) = Header::parse(&bytes, transport_len) {
            prop_assert!(header.encoded_bytes() <= bytes.len().min(transport_len as usize));
        }
    }

    #[test]
    fn a_buffer_that_is_too_small_is_refused_and_left_alone(header in header(), missing in 1..=88_usize) {
        let room = header.encoded_bytes().saturating_sub(missing);
        let mut out = vec![0x5A; room];
        prop_assert_eq!(header.encode(&mut out), None);
        prop_assert!(out.iter().all(|&byte| byte == 0x5A));
    }

    #[test]
    fn more_than_24_bits_of_an_incarnation_do_not_spill_over(header in header(), surplus in any::<u8>()) {
        let mut wide = header;
        wide.common.incarnation |= u32::from(surplus) << 24;
        prop_assert_eq!(encode(&wide), encode(&header));
    }
}
