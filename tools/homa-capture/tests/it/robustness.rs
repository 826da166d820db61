//! Whatever the bytes: no panic, no endless loop, bounded memory.

use std::fs;

use crate::harness;
use homa_capture::{
    Analysis, CaptureReader, CaptureWriter, Decoder, FileError, LinkType, PacketRecord, RPCS_MAX,
    Recorded, RpcRecord, TotalsRecord, packet_line, rpc_text, totals_text,
};
use proptest::prelude::*;

const LINKS: [LinkType; 5] = [
    LinkType::Ethernet,
    LinkType::LinuxCooked,
    LinkType::LinuxCookedV2,
    LinkType::RawIp,
    LinkType::Loopback,
];

/// Explains a frame in every way there is.
fn explain(analysis: &mut Analysis, link: LinkType, original_bytes: u32, data: &[u8]) {
    let recorded = Recorded { time_ns: 5, link, original_bytes, data };
    analysis.frame(&recorded, |observation| {
        assert!(packet_line(observation, 0).ends_with('\n'));
        serde_json::to_string(&PacketRecord::new(observation)).unwrap();
    });
}

fn finish(analysis: &Analysis) {
    for rpc in analysis.follow().rpcs() {
        assert!(!rpc_text(rpc, 0).is_empty());
        serde_json::to_string(&RpcRecord::new(rpc)).unwrap();
    }
    totals_text(analysis.totals(), analysis.follow());
    serde_json::to_string(&TotalsRecord::new(analysis.totals(), analysis.follow())).unwrap();
}

/// All frames of the file, up to its end or an error.
fn read(bytes: &[u8]) -> (usize, Option<FileError>) {
    let mut reader = match CaptureReader::new(bytes) {
        Ok(reader) => reader,
        Err(error) => return (0, Some(error)),
    };
    let mut analysis = Analysis::new(Decoder::default(), RPCS_MAX);
    let mut frames = 0;
    loop {
        match reader.next_frame() {
            Some(Ok(recorded)) => analysis.frame(&recorded, |_| {}),
            Some(Err(error)) => return (frames, Some(error)),
            None => return (frames, None),
        }
        frames += 1;
    }
}

/// A small recording as pcapng.
fn pcapng() -> Vec<u8> {
    let path = harness::recordings().into_iter().find(|path| path.ends_with("ip4-first-100.pcap"));
    let bytes = fs::read(path.unwrap_or_else(|| harness::recordings()[0].clone())).unwrap();
    let mut reader = CaptureReader::new(&*bytes).unwrap();
    let mut out = Vec::new();
    let mut writer = CaptureWriter::new(&mut out, LinkType::Ethernet, "test0").unwrap();
    while let Some(recorded) = reader.next_frame() {
        writer.write(&recorded.unwrap()).unwrap();
    }
    writer.finish().unwrap();
    out
}

#[test]
fn recorded_packets_cut_anywhere_are_explained() {
    for path in harness::recordings() {
        let mut analysis = Analysis::new(Decoder::default(), RPCS_MAX);
        let bytes = fs::read(&path).unwrap();
        let mut reader = CaptureReader::new(&*bytes).unwrap();
        let mut frames = 0;
        while let Some(recorded) = reader.next_frame() {
            let recorded = recorded.unwrap();
            for length in 0..recorded.data.len().min(150) {
                let data = &recorded.data[..length];
                explain(&mut analysis, recorded.link, recorded.original_bytes, data);
                explain(&mut analysis, recorded.link, length as u32, data);
            }
            frames += 1;
            if frames == 8 {
                break;
            }
        }
        finish(&analysis);
    }
}

#[test]
fn packets_cut_by_the_recorder_are_no_violations() {
    for path in harness::recordings() {
        for length in [42, 54, 60, 70, 96, 120] {
            let mut analysis = Analysis::new(Decoder::default(), RPCS_MAX);
            let bytes = fs::read(&path).unwrap();
            let mut reader = CaptureReader::new(&*bytes).unwrap();
            while let Some(recorded) = reader.next_frame() {
                let mut recorded = recorded.unwrap();
                recorded.data = &recorded.data[..recorded.data.len().min(length)];
                analysis.frame(&recorded, |observation| {
                    let violations = observation.findings.iter().filter(|finding| {
                        finding.check.severity() == homa_capture::Severity::Violation
                    });
                    assert_eq!(violations.count(), 0, "{path:?} {length}: {observation:?}");
                });
            }
        }
    }
}

#[test]
fn files_cut_anywhere_give_what_is_whole_and_a_clear_error() {
    let path = harness::recordings().into_iter().find(|path| path.ends_with("ip4-first-100.pcap"));
    let pcap = fs::read(path.unwrap_or_else(|| harness::recordings()[0].clone())).unwrap();
    for file in [pcap, pcapng()] {
        let (all, error) = read(&file);
        assert!(error.is_none() && all > 0, "{error:?}");
        let mut most = 0;
        for length in 0..file.len() {
            let (frames, error) = read(&file[..length]);
            most = most.max(frames);
            // The end of a packet is a possible end of a file.
            assert!(error.is_some() || frames < all, "{length}");
        }
        assert!(most < all + 1);
    }
}

#[test]
fn what_is_no_recording_is_refused_with_a_hint() {
    let error = |bytes: &[u8]| read(bytes).1.unwrap().to_string();
    assert!(error(b"").contains("empty"));
    assert!(error(b"hello, this is text and no recording").contains("not a pcap"));
    assert!(error(&[0x1F, 0x8B, 8, 0]).contains("gunzip"));
    let mut other_link = vec![0xD4, 0xC3, 0xB2, 0xA1, 2, 0, 4, 0];
    other_link.extend([0; 8]);
    other_link.extend([0, 0, 4, 0, 105, 0, 0, 0]);
    assert!(error(&other_link).contains("link type 105"));
}

/// A pcap file of raw IP with these numbers in the header of its only packet.
fn pcap(magic: u32, order: fn(u32) -> [u8; 4], packet: [u32; 4], data: &[u8]) -> Vec<u8> {
    let header = [magic, 0x0004_0002, 0, 0, 262_144, 101];
    let numbers = header.into_iter().chain(packet).flat_map(order);
    numbers.chain(data.iter().copied()).collect()
}

#[test]
fn pcap_files_are_read_whatever_their_byte_order_and_unit_of_time() {
    for order in [u32::to_le_bytes, u32::to_be_bytes] {
        for (magic, time_ns) in [(0xA1B2_C3D4, 7_000_005_000), (0xA1B2_3C4D, 7_000_000_005)] {
            let file = pcap(magic, order, [7, 5, 3, 9], &[0x45, 1, 2]);
            let mut reader = CaptureReader::new(&*file).unwrap();
            let link = LinkType::RawIp;
            let frame = Recorded { time_ns, link, original_bytes: 9, data: &[0x45, 1, 2] };
            assert_eq!(reader.next_frame().unwrap().unwrap(), frame);
            assert!(reader.next_frame().is_none());
            assert_eq!(reader.read_bytes(), 16 + 3);
        }
    }
}

#[test]
fn a_packet_longer_than_any_is_damage_and_takes_no_memory() {
    let file = pcap(0xA1B2_C3D4, u32::to_le_bytes, [0, 0, u32::MAX, 9], &[1; 100]);
    let (frames, error) = read(&file);
    assert_eq!(frames, 0);
    let text = error.unwrap().to_string();
    assert_eq!(text, "the file is damaged after packet 0: a packet of 4294967295 bytes");
    let file = pcap(0xA1B2_C3D4, u32::to_le_bytes, [0, 0, 1 << 20, 9], &[1; 100]);
    assert!(matches!(read(&file).1, Some(FileError::Truncated(1))));
}

#[test]
fn times_survive_the_way_through_a_file() {
    let mut out = Vec::new();
    let mut writer = CaptureWriter::new(&mut out, LinkType::RawIp, "x").unwrap();
    let time_ns = 1_790_000_000_123_456_789;
    let frame = Recorded { time_ns, link: LinkType::RawIp, original_bytes: 9, data: &[0x45, 1, 2] };
    writer.write(&frame).unwrap();
    writer.finish().unwrap();
    let mut reader = CaptureReader::new(&*out).unwrap();
    assert_eq!(reader.next_frame().unwrap().unwrap(), frame);
    assert!(reader.next_frame().is_none());
}

#[test]
fn another_reader_reads_what_is_written() {
    use pcap_parser::traits::PcapNGPacketBlock;
    use pcap_parser::{Block, PcapNGCapture};
    let mut out = Vec::new();
    let mut writer = CaptureWriter::new(&mut out, LinkType::LinuxCookedV2, "eth0").unwrap();
    let (link, data) = (LinkType::LinuxCookedV2, [7, 8, 9, 10, 11]);
    let frame = Recorded { time_ns: (5 << 32) + 6, link, original_bytes: 90, data: &data };
    writer.write(&frame).unwrap();
    writer.finish().unwrap();
    let file = PcapNGCapture::from_file(&out).unwrap();
    let [Block::SectionHeader(section), Block::InterfaceDescription(interface), packet] =
        &file.sections[0].blocks[..]
    else {
        panic!("{} blocks", file.sections[0].blocks.len());
    };
    assert_eq!((section.major_version, section.minor_version), (1, 0));
    assert_eq!((interface.linktype.0, interface.snaplen, interface.if_tsresol), (276, 0, 9));
    assert_eq!(interface.if_name().unwrap().unwrap(), "eth0");
    let Block::EnhancedPacket(packet) = packet else { panic!("{packet:?}") };
    assert_eq!((packet.if_id, packet.ts_high, packet.ts_low), (0, 5, 6));
    assert_eq!((packet.caplen, packet.origlen, packet.packet_data()), (5, 90, &data[..]));
}

#[test]
fn more_rpcs_than_can_be_followed_push_out_the_oldest() {
    let mut analysis = Analysis::new(Decoder::default(), 10);
    for id in 0..1_000_u64 {
        let mut header = harness::from_client(harness::data(0, 5, 5));
        header.common.sender_id = id * 2;
        let packet = harness::encode(&header, &[0; 5]);
        let frame = harness::ip_packet(harness::CLIENT, harness::SERVER, 0, &packet);
        explain(&mut analysis, LinkType::RawIp, frame.len() as u32, &frame);
    }
    assert_eq!(analysis.follow().rpcs().count(), 10);
    assert_eq!(analysis.follow().given_up(), 990);
    assert_eq!(analysis.follow().rpcs().next().unwrap().key.id, 1_980);
    // One that was pushed out begins anew.
    let packet = harness::encode(&harness::from_client(harness::data(0, 5, 5)), &[0; 5]);
    let frame = harness::ip_packet(harness::CLIENT, harness::SERVER, 0, &packet);
    explain(&mut analysis, LinkType::RawIp, frame.len() as u32, &frame);
    assert_eq!(analysis.follow().rpcs().last().unwrap().key.id, 2);
    finish(&analysis);
}

proptest! {
    #[test]
    fn any_bytes_are_explained(
        frames in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..200), any::<u32>()), 1..20),
        link in 0..LINKS.len(),
    ) {
        let mut analysis = Analysis::new(Decoder::new(&[99]), 4);
        for (bytes, original_bytes) in &frames {
            explain(&mut analysis, LINKS[link], *original_bytes, bytes);
        }
        finish(&analysis);
    }

    #[test]
    fn any_homa_packets_are_explained(
        packets in prop::collection::vec(
            (0x0F_u8..0x1A, prop::collection::vec(any::<u8>(), 28..120), any::<bool>(), any::<u32>()),
            1..40,
        ),
        protocol in prop::sample::select(vec![146_u8, 6, 17]),
    ) {
        let mut analysis = Analysis::new(Decoder::new(&[99]), 3);
        for (kind, mut homa, from_client, original_bytes) in packets {
            homa[11] = kind;
            homa[13] = 6;
            homa[18..20].copy_from_slice(&[0xB9, 0x7D]);
            homa[14] &= 0xAF;
            // Few ids and ports, so that packets meet.
            homa[20..27].fill(0);
            homa[27] &= 3;
            let (from, to) = if from_client { (1, 2) } else { (2, 1) };
            homa[0..4].copy_from_slice(&[0, from * 33, 0, to * 33]);
            let mut frame = harness::ip_packet([10, 0, 0, from], [10, 0, 0, to], 0, &homa);
            frame[9] = protocol;
            explain(&mut analysis, LinkType::RawIp, original_bytes, &frame);
        }
        finish(&analysis);
    }

    #[test]
    fn damaged_files_end_with_an_error_or_an_end(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let mut file = pcapng();
        for (at, byte) in changes {
            let at = at.index(file.len());
            file[at] = byte;
        }
        read(&file);
    }
}
