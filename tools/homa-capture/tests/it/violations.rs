//! Every violation the checker knows is found in a packet that commits it, and not in the correct
//! one.

use crate::harness::{
    CLIENT, SERVER, Story, data, encode, from_client, from_server, ip_packet, port_unreachable,
};
use homa_capture::{Decoded, Decoder, LinkType, State};
use homa_wire::{Ack, AckEntry, Body, Cutoffs, Data, Extension, Grant, Header, Reason, Resend};

fn grant(offset: u32) -> Header {
    from_server(Body::Grant(Grant { offset, priority: 2 }))
}

fn ack() -> Header {
    from_client(Body::Ack(Ack::default()))
}

#[test]
fn a_correct_rpc_has_no_findings() {
    let mut story = Story::new();
    for (header, payload_bytes) in [
        (from_client(data(0, 2_000, 1_000)), 1_000),
        (grant(2_000), 0),
        (from_client(data(1_000, 2_000, 1_000)), 1_000),
        (from_server(data(0, 10, 10)), 10),
        (from_server(Body::NeedAck), 0),
        (ack(), 0),
    ] {
        assert_eq!(story.packet(&header, payload_bytes), [""; 0], "{header:?}");
    }
    let rpc = story.analysis.follow().rpcs().next().unwrap();
    assert_eq!(rpc.state(), State::Complete);
    assert!(rpc.acknowledged_ns.is_some());
}

#[test]
fn an_rpc_whose_response_was_complete_did_not_fail_when_a_repetition_finds_nobody() {
    let response = encode(&from_server(data(0, 10, 10)), &[0; 10]);
    let response = ip_packet(SERVER, CLIENT, 0, &response);
    let error = port_unreachable(&response);
    // Frames after the request, and whether the response found its client.
    let cases: [(&[&Vec<u8>], bool); 4] = [
        (&[&response, &response, &error], true),
        (&[&response, &error], false),
        (&[&response, &response, &error, &error], false),
        (&[&response, &error, &response], false),
    ];
    for (frames, arrived) in cases {
        let mut story = Story::new();
        story.packet(&from_client(data(0, 10, 10)), 10);
        for frame in frames {
            story.frame(frame);
        }
        let rpc = story.analysis.follow().rpcs().next().unwrap();
        assert_eq!(rpc.state() == State::Complete, arrived, "{} frames: {rpc:?}", frames.len());
        assert!(rpc.icmp_errors > 0);
    }
}

#[test]
fn packets_too_short_of_unknown_type_or_fragmented_are_counted_and_explained() {
    let mut story = Story::new();
    let packet = encode(&grant(5), &[]);
    assert_eq!(story.frame(&ip_packet(SERVER, CLIENT, 0, &packet[..32])), ["too-short"]);
    assert_eq!(story.frame(&ip_packet(SERVER, CLIENT, 0, &packet[..5])), ["too-short"]);
    assert_eq!(story.frame(&ip_packet(SERVER, CLIENT, 0, &[])), ["too-short"]);
    let mut unknown = packet.clone();
    unknown[11] = 0x19;
    assert_eq!(story.frame(&ip_packet(SERVER, CLIENT, 0, &unknown)), ["unknown-type"]);
    let mut fragment = ip_packet(SERVER, CLIENT, 0, &packet);
    fragment[6..8].copy_from_slice(&[0x20, 0]);
    assert_eq!(story.frame(&fragment), ["fragment"]);
    fragment[6..8].copy_from_slice(&[0, 9]);
    assert_eq!(story.frame(&fragment), ["fragment"]);
    let mut lies = ip_packet(SERVER, CLIENT, 0, &packet);
    lies[3] += 1;
    assert_eq!(story.frame(&lies), ["length-lies"]);
    let bad = &story.analysis.totals().bad;
    assert_eq!(
        bad.iter().map(|(name, count)| (*name, *count)).collect::<Vec<_>>(),
        [("fragment", 1), ("length-lies", 1), ("too-short", 3), ("unknown-type", 1)]
    );
}

#[test]
fn wrong_doff_flags_urgent_parity_and_ranges_are_found() {
    let mut story = Story::new();
    let mut header = from_client(data(0, 100, 100));
    header.common.doff = 0x50;
    assert_eq!(story.packet(&header, 100), ["wrong-doff"]);
    let mut header = from_server(Body::Busy);
    header.common.flags = 2;
    header.common.urgent = 0;
    assert_eq!(story.packet(&header, 0), ["wrong-flags", "wrong-urgent"]);
    assert_eq!(story.packet(&from_client(Body::NeedAck), 0), ["wrong-parity"]);
    let mut odd = Ack { count: 9, ..Ack::default() };
    odd.entries[1] = AckEntry { client_id: 5, server_port: 1 };
    let found = story.packet(&from_server(Body::Ack(odd)), 0);
    assert_eq!(found, ["wrong-parity", "too-many-acks", "wrong-parity"]);
    let resend = Resend { offset: 0, length: 1, priority: 8 };
    assert_eq!(story.packet(&from_client(Body::Resend(resend)), 0), ["priority-range"]);
    assert_eq!(story.packet(&from_server(Body::Busy), 3), ["trailing-bytes"]);
}

#[test]
fn lengths_and_offsets_that_lie_are_found() {
    let first = |header: &Header, payload_bytes| Story::new().packet(header, payload_bytes);
    assert_eq!(first(&from_client(data(0, 0, 0)), 5), ["message-length", "offset-beyond-message"]);
    let long = from_client(data(0, 1_000_001, 1_000_001));
    assert_eq!(first(&long, 1_400), ["message-length"]);
    assert_eq!(first(&from_client(data(100, 100, 100)), 5), ["offset-beyond-message"]);
    assert_eq!(first(&from_client(data(90, 100, 100)), 11), ["payload-beyond-message"]);
    assert_eq!(first(&from_client(data(0, 100, 100)), 0), ["empty-data"]);
    assert_eq!(first(&from_client(data(0, 100, 101)), 100), ["incoming-beyond-message"]);
    let end = from_client(data(u32::MAX - 1, u32::MAX, 5));
    let found = first(&end, 100);
    assert!(found.contains(&"payload-beyond-message"), "{found:?}");
}

/// DATA in this implementation's profile, of an open message of `length` bytes by now.
fn open(offset: u32, length: u32, incoming: u32) -> Header {
    let mut header = from_client(data(offset, length, incoming));
    header.common = header.common.with_native_profile(7);
    if let Body::Data(data) = &mut header.body {
        data.flags = Data::OPEN;
    }
    header
}

#[test]
fn an_open_message_grows_until_its_last_byte_comes() {
    let mut story = Story::new();
    let complete = |story: &Story| {
        let rpc = story.analysis.follow().rpcs().next().unwrap();
        (rpc.request.length, rpc.request.is_complete(), rpc.request.repeated_bytes)
    };
    for (offset, length, payload_bytes) in
        [(0, 1_001, 1_000), (1_500, 2_001, 500), (1_000, 1_501, 500), (1_000, 1_501, 500)]
    {
        let found = story.packet(&open(offset, length, length), payload_bytes);
        assert_eq!(found, [""; 0], "{offset}");
    }
    assert_eq!(complete(&story), (Some(2_001), false, 500));
    assert_eq!(story.packet(&open(2_000, 2_001, 2_001), 1), [""; 0]);
    assert_eq!(complete(&story), (Some(2_001), true, 500));
    // A copy of an older packet, and one that is of another message.
    assert_eq!(story.packet(&open(0, 1_001, 1_001), 1_000), [""; 0]);
    assert_eq!(story.analysis.follow().rpcs().count(), 1);
    let mut story = Story::new();
    story.packet(&open(0, 1_001, 1_001), 500);
    let mut other = open(500, 2_001, 2_001);
    if let Body::Data(data) = &mut other.body {
        data.flags = 0;
    }
    assert_eq!(story.packet(&other, 500), ["length-changed"]);
}

#[test]
fn a_changed_length_and_a_partial_overlap_are_found() {
    let mut story = Story::new();
    story.packet(&from_client(data(0, 3_000, 3_000)), 1_000);
    assert_eq!(story.packet(&from_client(data(1_000, 2_999, 2_999)), 1_000), ["length-changed"]);
    assert_eq!(story.packet(&from_client(data(1_500, 3_000, 3_000)), 1_000), ["partial-overlap"]);
    let mut own = from_client(data(2_000, 3_000, 3_000));
    own.common = own.common.with_native_profile(7);
    assert_eq!(story.packet(&own, 1_000), ["resegmented"]);
}

#[test]
fn data_that_nobody_granted_and_grants_behind_the_end_are_found() {
    let mut story = Story::new();
    story.packet(&from_client(data(0, 500_000, 10_000)), 1_400);
    let overshoot = from_client(data(10_000 + 65_535, 500_000, 10_000));
    assert_eq!(story.packet(&overshoot, 1_400), [""; 0], "a super-packet may be finished");
    let beyond = from_client(data(10_000 + 65_536, 500_000, 10_000));
    assert_eq!(story.packet(&beyond, 1_000), ["beyond-grant"]);
    assert_eq!(story.packet(&grant(500_001), 0), ["grant-beyond-length"]);
    let mut story = Story::new();
    story.packet(&from_client(data(0, 500_000, 0)), 1_400);
    let reduced = from_client(data(300_000, 500_000, 0));
    assert_eq!(story.packet(&reduced, 1_400), [""; 0], "peers without grants say 0");
}

#[test]
fn resends_of_delivered_bytes_are_violations_and_of_recorded_ones_notes() {
    let resend = |offset, length| Body::Resend(Resend { offset, length, priority: 7 });
    let mut story = Story::new();
    story.packet(&from_client(data(0, 100, 100)), 100);
    assert_eq!(story.packet(&from_server(resend(0, 100)), 0), ["resend-of-recorded"]);
    story.packet(&from_server(data(0, 10, 10)), 10);
    assert_eq!(story.packet(&from_server(resend(0, 100)), 0), ["resend-of-delivered"]);
    story.packet(&ack(), 0);
    assert_eq!(story.packet(&from_client(resend(0, u32::MAX)), 0), ["resend-of-delivered"]);
}

#[test]
fn acks_and_need_acks_that_come_too_early_are_found() {
    let mut story = Story::new();
    story.packet(&from_client(data(0, 100, 100)), 100);
    assert_eq!(story.packet(&ack(), 0), ["ack-before-completion"]);
    let mut story = Story::new();
    story.packet(&from_client(data(0, 100, 100)), 100);
    story.packet(&from_server(data(0, 500_000, 10_000)), 1_400);
    assert_eq!(story.packet(&from_server(Body::NeedAck), 0), ["need-ack-too-early"]);
    assert_eq!(story.packet(&ack(), 0), ["ack-of-unknown"]);
    let mut probe = from_server(Body::NeedAck);
    probe.common = probe.common.with_native_profile(9);
    probe.extension = Some(Extension { reason: Reason::Probe, ..Extension::default() });
    assert_eq!(story.packet(&probe, 0), [""; 0], "a probe may come at any time");
    for (value, finding) in [(1_400, None), (10_000, Some("need-ack-incomplete"))] {
        probe.extension = Some(Extension { value, ..Extension::default() });
        let expected: Vec<&str> = finding.into_iter().collect();
        assert_eq!(story.packet(&probe, 0), expected, "it says that {value} bytes were sent");
    }
    let mut story = Story::new();
    story.packet(&from_client(data(0, 100, 100)), 100);
    story.packet(&from_server(data(0, 2_000, 2_000)), 1_400);
    assert_eq!(story.packet(&from_server(Body::NeedAck), 0), ["need-ack-incomplete"]);
}

#[test]
fn either_side_may_probe_the_other_in_the_native_profile() {
    let mut story = Story::new();
    story.packet(&from_client(data(0, 100, 100)), 100);
    let mut probe = from_client(Body::NeedAck);
    probe.common = probe.common.with_native_profile(9);
    probe.extension = Some(Extension { reason: Reason::Probe, ..Extension::default() });
    assert_eq!(story.packet(&probe, 0), [""; 0]);
    let mut answer = from_server(Body::Ack(Ack::default()));
    answer.common = answer.common.with_native_profile(9);
    assert_eq!(story.packet(&answer, 0), [""; 0]);
    let rpc = story.analysis.follow().rpcs().next().unwrap();
    assert_eq!(rpc.acknowledged_ns, None, "a server acknowledges no RPC");
}

#[test]
fn an_id_used_again_for_another_request_begins_another_rpc() {
    let mut story = Story::new();
    for length in [100, 200] {
        story.packet(&from_client(data(0, length, length)), length as usize);
        story.packet(&from_server(data(0, 10, 10)), 10);
        assert_eq!(story.packet(&ack(), 0), [""; 0]);
    }
    let lengths: Vec<_> =
        story.analysis.follow().rpcs().map(|rpc| rpc.request.length.unwrap()).collect();
    assert_eq!(lengths, [100, 200]);
}

#[test]
fn entries_of_an_ack_that_the_recorder_cut_do_not_count() {
    let mut ack = Ack { count: 3, ..Ack::default() };
    for (index, entry) in ack.entries.iter_mut().enumerate() {
        *entry = AckEntry { client_id: 2 * index as u64 + 4, server_port: 99 };
    }
    let packet = ip_packet(CLIENT, SERVER, 0, &encode(&from_client(Body::Ack(ack)), &[]));
    let cut = &packet[..20 + 30 + 2 * 10 + 9];
    Decoder::default().decode(LinkType::RawIp, cut, packet.len() as u32, |decoded| {
        let Decoded::Homa(frame) = decoded else {
            panic!("{decoded:?}");
        };
        let Body::Ack(ack) = frame.header.body else {
            panic!("{frame:?}");
        };
        assert_eq!(ack.entries().len(), 2);
        assert!(!frame.header_whole);
    });
}

#[test]
fn the_wrong_level_is_found_once_the_cutoffs_are_known() {
    let mut story = Story::new();
    let data = Data { message_length: 150, incoming: 150, cutoff_version: 4, ..Data::default() };
    let packet = encode(&from_client(Body::Data(data)), &[0; 150]);
    assert_eq!(story.frame(&ip_packet(CLIENT, SERVER, 3 << 5, &packet)), [""; 0]);
    let levels = [0, 0, 0, 0, 1_000_000, 15_000, 2_800, 200];
    story.packet(&from_server(Body::Cutoffs(Cutoffs { levels, version: 4 })), 0);
    assert_eq!(story.frame(&ip_packet(CLIENT, SERVER, 3 << 5, &packet)), ["wrong-level"]);
    assert_eq!(story.frame(&ip_packet(CLIENT, SERVER, 7 << 5, &packet)), [""; 0]);
    assert_eq!(story.frame(&ip_packet(CLIENT, SERVER, 0, &packet)), [""; 0], "no marks at all");
}

#[test]
fn martian_sources_are_found() {
    let packet = encode(&from_client(data(0, 100, 100)), &[0; 100]);
    for source in [[0, 0, 0, 0], [127, 0, 0, 1], [224, 0, 0, 1], [240, 1, 1, 1], [255; 4]] {
        let found = Story::new().frame(&ip_packet(source, SERVER, 0, &packet));
        assert_eq!(found, ["martian-source"], "{source:?}");
    }
    let local = ip_packet([127, 0, 0, 1], [127, 0, 0, 1], 0, &packet);
    assert_eq!(Story::new().frame(&local), [""; 0]);
}

#[test]
fn an_id_of_the_wrong_side_is_found() {
    let mut story = Story::new();
    story.packet(&from_client(data(0, 100, 100)), 100);
    // The server answers under the even id.
    let mut wrong = from_server(data(0, 10, 10));
    wrong.common.sender_id = 2;
    let frame = ip_packet(SERVER, CLIENT, 0, &encode(&wrong, &[0; 10]));
    assert_eq!(story.frame(&frame), ["wrong-parity"]);
}

#[test]
fn a_wrong_tcp_checksum_is_found_and_an_offloaded_one_is_not() {
    let tcp = |sum: u16| {
        let mut header = from_client(data(0, 4, 4));
        header.common.checksum = sum;
        let mut packet = ip_packet(CLIENT, SERVER, 0, &encode(&header, &[1, 2, 3, 4]));
        packet[9] = 6;
        packet
    };
    let mut sums = Vec::new();
    for sum in 0..=u16::MAX {
        if Story::new().frame(&tcp(sum)).is_empty() {
            sums.push(sum);
        }
    }
    // 10.0.0.1, 10.0.0.2, TCP, 60 bytes.
    let pseudo = 0x0A00 + 0x0001 + 0x0A00 + 0x0002 + 6 + 60;
    assert_eq!(sums.len(), 2, "{sums:x?}");
    assert!(sums.contains(&pseudo));
}

#[test]
fn other_traffic_is_not_taken_for_homa() {
    let mut tcp = ip_packet(CLIENT, SERVER, 0, &[0; 40]);
    tcp[9] = 6;
    let mut udp = ip_packet(CLIENT, SERVER, 0, &[0; 40]);
    udp[9] = 17;
    for frame in [tcp, udp.clone(), vec![], vec![0x45]] {
        Decoder::default().decode(LinkType::RawIp, &frame, frame.len() as u32, |decoded| {
            assert!(matches!(decoded, Decoded::Other), "{decoded:?}");
        });
    }
    udp[20 + 2..20 + 6].copy_from_slice(&[0, 99, 0, 40]);
    Decoder::new(&[99]).decode(LinkType::RawIp, &udp, udp.len() as u32, |decoded| {
        assert!(matches!(decoded, Decoded::Bad(_)), "{decoded:?}");
    });
}

#[test]
fn several_packets_of_one_datagram_are_each_explained() {
    let own = |mut header: Header| {
        header.common = header.common.with_native_profile(9);
        header
    };
    let mut homa = encode(&own(from_client(data(0, 100, 100))), &[0; 100]);
    let mut grant = own(grant(2_000));
    grant.extension = Some(Extension::default());
    homa.extend(encode(&grant, &[]));
    homa.extend(encode(&own(from_client(data(0, 30, 30))), &[0; 30]));
    homa.extend([0; 7]);
    let mut udp = vec![0, 99, 0, 99, 0, 0, 0, 0];
    udp[4..6].copy_from_slice(&(8 + homa.len() as u16).to_be_bytes());
    udp.extend(homa);
    let mut frame = ip_packet(CLIENT, SERVER, 0, &udp);
    frame[9] = 17;
    let mut lengths = Vec::new();
    Decoder::default().decode(LinkType::RawIp, &frame, frame.len() as u32, |decoded| {
        let Decoded::Homa(packet) = decoded else { panic!("{decoded:?}") };
        lengths.push(packet.packet_bytes);
    });
    assert_eq!(lengths, [156, 41, 86]);
}
