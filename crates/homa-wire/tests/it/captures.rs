//! Packets recorded from the Linux implementation parse, mean what they should, and encode to the
//! same bytes.
//!
//! `HOMA_CAPTURES=DIR` runs the same checks on the recordings of another directory.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};

use homa_wire::{
    Body, FLAGS, HEADER_MAX, Header, IP_PROTOCOL, IP_PROTOCOL_TCP, Packet, PacketType, Packets,
    URGENT,
};
use pcap_parser::PcapCapture;

/// One Homa packet of a recording, perhaps cut by the recorder.
struct Recorded {
    bytes: Vec<u8>,
    transport_len: u32,
}

#[test]
fn every_recorded_packet_encodes_to_the_bytes_it_was_parsed_from() {
    let mut counts: BTreeMap<PacketType, usize> = BTreeMap::new();
    for path in recordings() {
        for packet in homa_packets(&path) {
            let header = parse(&packet, &path);
            let mut out = [0; HEADER_MAX];
            let header_bytes = header.encode(&mut out).expect("HEADER_MAX holds every header");
            assert_eq!(out[..header_bytes], packet.bytes[..header_bytes], "{path:?}");
            assert_eq!(header_bytes, header.packet_type().header_bytes());
            assert_eq!(header.extension, None, "Linux sends none");
            assert_eq!(header.common.version(), None, "Linux announces none");
            *counts.entry(header.packet_type()).or_default() += 1;
        }
    }
    if std::env::var_os("HOMA_CAPTURES").is_none() {
        let counts: Vec<_> =
            counts.into_iter().map(|(packet_type, count)| (packet_type.name(), count)).collect();
        assert_eq!(counts, EXPECTED);
    }
}

/// What every parser must do with a packet whose bytes were changed: refuse it, or find in it what
/// encodes to it.
fn check_changed(bytes: &[u8], transport_len: u32) {
    for (packet, length) in Packets::new(bytes, transport_len) {
        assert!(packet.len() <= length as usize);
    }
    let Ok(header) = Header::parse(bytes, transport_len) else {
        return;
    };
    let mut out = [0; HEADER_MAX];
    let header_bytes = header.encode(&mut out).expect("HEADER_MAX holds every header");
    assert_eq!(out[..header_bytes], bytes[..header_bytes]);
}

#[test]
fn every_change_of_a_byte_of_recorded_packets_is_refused_or_encodes_back() {
    /// Packets of each type of which every byte takes every value; of the others it takes a few.
    const THOROUGHLY: usize = 12;
    let few = |byte: u8| [0, 0xFF, byte ^ 1, byte ^ 0x80, byte.wrapping_add(1)];
    let mut seen: BTreeMap<u8, usize> = BTreeMap::new();
    for path in recordings() {
        for mut packet in homa_packets(&path) {
            // The rest is payload.
            packet.bytes.truncate(HEADER_MAX);
            let count = seen.entry(packet.bytes[11]).or_default();
            *count += 1;
            let thoroughly = *count <= THOROUGHLY;
            if !thoroughly && *count % 16 != 0 {
                continue;
            }
            for at in 0..packet.bytes.len() {
                let byte = packet.bytes[at];
                let values = if thoroughly { (0..=u8::MAX).collect() } else { few(byte).to_vec() };
                for value in values {
                    packet.bytes[at] = value;
                    check_changed(&packet.bytes, packet.transport_len);
                }
                packet.bytes[at] = byte;
            }
        }
    }
}

/// Packets of each type in `testdata/captures`, counted with another tool (7 ACKs that the recorder
/// cut are left out). Linux sends FREEZE only on demand.
const EXPECTED: [(&str, usize); 8] = [
    ("DATA", 12_711),
    ("GRANT", 1_072),
    ("RESEND", 176),
    ("RPC_UNKNOWN", 3),
    ("BUSY", 98),
    ("CUTOFFS", 10),
    ("NEED_ACK", 632),
    ("ACK", 143),
];

#[test]
fn control_packets_have_no_trailing_bytes_and_data_packets_stay_within_their_message() {
    for path in recordings() {
        for packet in homa_packets(&path) {
            let header = parse(&packet, &path);
            let header_bytes = u32::try_from(header.encoded_bytes()).expect("at most HEADER_MAX");
            let payload_bytes = packet.transport_len - header_bytes;
            match header.body {
                Body::Data(data) => {
                    let end = data.offset(header.common.sequence) + payload_bytes;
                    assert!(payload_bytes > 0 && end <= data.message_length, "{path:?}");
                }
                _ => assert_eq!(payload_bytes, 0, "{path:?}: {header:?}"),
            }
        }
    }
}

#[test]
fn the_offset_of_every_recorded_data_packet_fits_its_payload() {
    for path in recordings() {
        // (sender's port, RPC id) -> seed of the message's pattern
        let mut seeds = HashMap::new();
        for recorded in homa_packets(&path) {
            let packet = Packet::parse(&recorded.bytes).expect("parses, as the test above shows");
            let Body::Data(data) = packet.header.body else {
                continue;
            };
            let common = packet.header.common;
            let first = data.offset(common.sequence);
            for (position, &byte) in (first..).zip(packet.payload) {
                let pattern = (31 * u64::from(position) + (u64::from(position) >> 8)) as u8;
                let seed = byte.wrapping_sub(pattern);
                let known = *seeds.entry((common.source_port, common.sender_id)).or_insert(seed);
                assert_eq!(seed, known, "{path:?}: byte {position} of {common:?}");
            }
        }
        assert!(!seeds.is_empty() || !path.to_string_lossy().contains("rpc"), "{path:?}");
    }
}

fn parse(packet: &Recorded, path: &Path) -> Header {
    let prefix = &packet.bytes[..packet.bytes.len().min(HEADER_MAX)];
    Header::parse(prefix, packet.transport_len)
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn recordings() -> Vec<PathBuf> {
    let directory = std::env::var_os("HOMA_CAPTURES").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/captures"),
        PathBuf::from,
    );
    let mut paths: Vec<PathBuf> = directory
        .read_dir()
        .expect("the directory of recordings is there")
        .map(|entry| entry.expect("it can be listed").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "pcap"))
        .collect();
    paths.sort();
    assert!(!paths.is_empty(), "no recordings in {directory:?}");
    paths
}

fn homa_packets(path: &Path) -> Vec<Recorded> {
    let file = fs::read(path).expect("recording can be read");
    let recording = PcapCapture::from_file(&file).expect("recording is a pcap file");
    recording.blocks.iter().filter_map(|frame| homa_in_ethernet(frame.data)).collect()
}

/// The Homa packet in an Ethernet frame, if there is one: native, or inside a TCP frame marked by
/// flags and urgent pointer (docs/spec/wire-format.md §8).
fn homa_in_ethernet(frame: &[u8]) -> Option<Recorded> {
    let be16 = |at: usize| u16::from_be_bytes([frame[at], frame[at + 1]]);
    let (protocol, start, transport_len) = match be16(12) {
        0x0800 => {
            let ip_header_bytes = u16::from(frame[14] & 0xF) * 4;
            (frame[23], 14 + ip_header_bytes, be16(16) - ip_header_bytes)
        }
        0x86DD => (frame[20], 14 + 40, be16(18)),
        _ => return None,
    };
    let start = usize::from(start);
    let end = frame.len().min(start + usize::from(transport_len));
    let bytes = &frame[start..end];
    let is_cut = bytes.len() < usize::from(transport_len);
    if is_cut && bytes.len() < PacketType::Ack.header_bytes() && bytes[11] == PacketType::Ack.code()
    {
        return None; // The recorder kept 128 bytes of the frame: too few for an ACK over IPv6.
    }
    let is_homa = match protocol {
        IP_PROTOCOL => true,
        IP_PROTOCOL_TCP => bytes[13] == FLAGS && bytes[18..20] == URGENT.to_be_bytes(),
        _ => false,
    };
    is_homa.then(|| Recorded { bytes: bytes.to_vec(), transport_len: u32::from(transport_len) })
}
