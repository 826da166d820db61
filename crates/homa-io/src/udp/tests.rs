//! The UDP driver between sockets on loopback.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::Range;
use std::time::Duration;

use homa_core::{Carriage, IcmpKind, Path, RpcKey, RxMeta, Segment, Transmit, TransmitError};
use homa_sys::{PollFd, poll_fds};

use super::*;
use crate::driver::{PacketSink, Payloads, RxStatus, Unsent};

/// Payload whose bytes follow from their offset, in pieces of a given length; with `wrong` not
/// zero, so many bytes too few or too many.
pub(crate) struct Pattern {
    pub(crate) piece_bytes: usize,
    pub(crate) wrong: i32,
}

pub(crate) const WHOLE: Pattern = Pattern { piece_bytes: usize::MAX, wrong: 0 };

/// Repeats every 251 bytes.
static PATTERN: [u8; 1 << 16] = {
    let mut bytes = [0; 1 << 16];
    let mut i = 0;
    while i < bytes.len() {
        bytes[i] = (i % 251) as u8;
        i += 1;
    }
    bytes
};

impl Pattern {
    pub(crate) fn expected(range: Range<u32>) -> &'static [u8] {
        &PATTERN[range.start as usize..range.end as usize]
    }
}

impl Payloads for Pattern {
    fn pieces<'a>(&'a self, _: RpcKey, range: Range<u32>, piece: impl FnMut(&'a [u8])) {
        let end = range.end.saturating_add_signed(self.wrong);
        Self::expected(range.start..end).chunks(self.piece_bytes).for_each(piece);
    }
}

/// A segment of payload alone: headers are made by the engine only.
pub(crate) fn segment(payload: Range<u32>) -> Segment {
    let mut segment = Segment::EMPTY;
    segment.rpc = Some(RpcKey { index: 0, generation: 0 });
    segment.payload = payload;
    segment
}

#[derive(Default)]
pub(crate) struct Sink {
    pub(crate) packets: Vec<(RxMeta, Vec<u8>)>,
    pub(crate) errors: Vec<(IcmpKind, SocketAddr, Vec<u8>)>,
    mtus: Vec<(SocketAddr, u32)>,
}

impl PacketSink for Sink {
    fn packet(&mut self, meta: &RxMeta, packet: &[u8]) {
        self.packets.push((*meta, packet.to_vec()));
    }

    fn icmp_error(&mut self, kind: IcmpKind, destination: SocketAddr, quoted: &[u8]) {
        self.errors.push((kind, destination, quoted.to_vec()));
    }

    fn path_mtu(&mut self, destination: SocketAddr, mtu: u32) {
        self.mtus.push((destination, mtu));
    }
}

fn bind(address: &str) -> UdpDriver {
    UdpDriver::bind(address.parse().unwrap(), &UdpConfig::default()).unwrap()
}

fn path(from: &UdpDriver, to: SocketAddr) -> Path {
    Path {
        remote: to,
        local_ip: None,
        local_port: from.local_addr().port(),
        interface: 0,
        carriage: Carriage::Udp,
    }
}

pub(crate) fn transmit(path: Path, segments: &[Segment]) -> Transmit {
    Transmit {
        path,
        priority: 0,
        dscp: 0,
        segments: segments.len(),
        segment_bytes: segments[0].wire_bytes(),
        total_bytes: segments.iter().map(Segment::wire_bytes).sum(),
        coalesced: false,
    }
}

fn send(from: &mut UdpDriver, to: SocketAddr, segments: &[Segment]) -> Result<(), Unsent> {
    from.transmit(&transmit(path(from, to), segments), segments, &WHOLE)
}

fn wait(driver: &UdpDriver) {
    let mut fds = [PollFd::new(driver.as_fd(), true, false)];
    assert_eq!(poll_fds(&mut fds, Some(Duration::from_secs(2))).unwrap(), 1, "nothing came");
}

fn drain(driver: &mut UdpDriver) -> Sink {
    wait(driver);
    let mut sink = Sink::default();
    while driver.receive(&mut sink).unwrap() == RxStatus::More {}
    sink
}

/// An address on loopback at which nobody listens.
fn closed() -> SocketAddr {
    bind("127.0.0.1:0").local_addr()
}

fn failed(first: usize, why: TransmitError) -> Result<(), Unsent> {
    Err(Unsent { first, why })
}

/// `count` segments of `bytes` each, at consecutive offsets.
pub(crate) fn equal_segments(count: u32, bytes: u32) -> Vec<Segment> {
    (0..count).map(|i| segment(i * bytes..(i + 1) * bytes)).collect()
}

pub(crate) fn assert_arrived(sink: &Sink, segments: &[Segment]) {
    assert_eq!(sink.packets.len(), segments.len());
    for ((_, packet), segment) in sink.packets.iter().zip(segments) {
        assert_eq!(packet, Pattern::expected(segment.payload.clone()));
    }
}

#[test]
fn a_train_goes_out_in_one_call_and_comes_in_as_its_packets() {
    let (mut from, mut to) = (bind("127.0.0.1:0"), bind("127.0.0.1:0"));
    let mut segments = equal_segments(40, 1_400);
    segments.push(segment(60_000..60_100));
    send(&mut from, to.local_addr(), &segments).unwrap();
    assert_eq!((from.stats().sends, from.stats().sent_trains), (1, 1));
    assert_eq!((from.stats().sent_packets, from.stats().sent_bytes), (41, 40 * 1_400 + 100));
    let sink = drain(&mut to);
    assert_arrived(&sink, &segments);
    assert_eq!((to.stats().receives, to.stats().received_trains), (1, 1));
    assert_eq!((to.stats().received_packets, to.stats().received_bytes), (41, 56_100));
}

#[test]
fn more_than_a_train_holds_goes_out_in_several_calls() {
    let (mut from, mut to) = (bind("127.0.0.1:0"), bind("127.0.0.1:0"));
    let segments = equal_segments(300, 100);
    send(&mut from, to.local_addr(), &segments).unwrap();
    assert_eq!(from.stats().sends, 3);
    assert_arrived(&drain(&mut to), &segments);
}

#[test]
fn segments_of_any_lengths_arrive_as_they_are() {
    let (mut from, mut to) = (bind("127.0.0.1:0"), bind("127.0.0.1:0"));
    let lengths = [100, 100, 60, 60, 200, 1, 1_400, 1_400, 1_399, 1_400, 7];
    let segments: Vec<_> = lengths.iter().map(|&bytes| segment(3..3 + bytes)).collect();
    send(&mut from, to.local_addr(), &segments).unwrap();
    assert_arrived(&drain(&mut to), &segments);
    assert_eq!(from.stats().sends, 5);
}

#[test]
fn payload_in_many_pieces_and_padding_arrive_whole() {
    let (mut from, mut to) = (bind("127.0.0.1:0"), bind("127.0.0.1:0"));
    let mut segments = equal_segments(3, 2_000);
    for segment in &mut segments {
        segment.padding = 100;
    }
    let transmit = transmit(path(&from, to.local_addr()), &segments);
    for (piece_bytes, joined) in [(64, 0), (1, 3)] {
        let payloads = Pattern { piece_bytes, wrong: 0 };
        from.transmit(&transmit, &segments, &payloads).unwrap();
        for ((_, packet), segment) in drain(&mut to).packets.iter().zip(&segments) {
            assert_eq!(packet[..2_000], *Pattern::expected(segment.payload.clone()));
            assert_eq!(packet[2_000..], [0; 100]);
        }
        assert_eq!(from.stats().joined_packets, joined);
    }
}

#[test]
fn coalesced_packets_arrive_in_one_datagram() {
    let (mut from, mut to) = (bind("127.0.0.1:0"), bind("127.0.0.1:0"));
    // In one piece, gathered, and in more pieces than one call takes: then what fits goes first.
    for (lengths, piece_bytes, datagrams) in
        [(vec![100, 300, 7], 64, 1), (vec![4_000, 9_000, 100], 500, 1), (vec![300; 4], 1, 2)]
    {
        let segments: Vec<_> = lengths.iter().map(|&bytes| segment(3..3 + bytes)).collect();
        let mut transmit = transmit(path(&from, to.local_addr()), &segments);
        (transmit.coalesced, transmit.segment_bytes) = (true, transmit.total_bytes);
        if datagrams > 1 {
            // Long enough not to be joined at once.
            assert!(transmit.total_bytes > 1_024);
        }
        from.transmit(&transmit, &segments, &Pattern { piece_bytes, wrong: 0 }).unwrap();
        let sink = drain(&mut to);
        let arrived: Vec<u8> = sink.packets.iter().flat_map(|(_, bytes)| bytes.clone()).collect();
        let expected: Vec<u8> =
            segments.iter().flat_map(|it| Pattern::expected(it.payload.clone()).to_vec()).collect();
        assert_eq!(arrived, expected);
        assert!(sink.packets.len() <= datagrams);
    }
}

// Scenario: W17
#[test]
fn marks_and_addresses_of_a_packet_are_known() {
    for (bind_to, ip) in [
        ("127.0.0.1:0", IpAddr::from(Ipv4Addr::LOCALHOST)),
        ("[::]:0", Ipv4Addr::new(127, 0, 0, 2).into()),
        ("[::]:0", Ipv6Addr::LOCALHOST.into()),
    ] {
        let config = UdpConfig::default().receive_marks(true);
        let mut from = bind("[::]:0");
        let mut to = UdpDriver::bind(bind_to.parse().unwrap(), &config).unwrap();
        let bound_to_one = !to.local_addr().ip().is_unspecified();
        let destination = SocketAddr::new(ip, to.local_addr().port());
        let segments = equal_segments(2, 100);
        let mut transmit = transmit(path(&from, destination), &segments);
        transmit.dscp = 46;
        from.transmit(&transmit, &segments, &WHOLE).unwrap();
        let sink = drain(&mut to);
        assert_eq!(sink.packets.len(), 2);
        for (meta, _) in sink.packets {
            assert_eq!((meta.dscp, meta.ecn), (46, 0));
            assert_eq!(meta.path.remote.port(), from.local_addr().port());
            assert_eq!(meta.path.local_ip, Some(ip).filter(|_| !bound_to_one));
            assert_eq!(meta.path.local_port, to.local_addr().port());
            assert_eq!(meta.path.carriage, Carriage::Udp);
            assert_eq!(meta.path.interface > 0, !bound_to_one);
        }
    }
}

#[test]
fn a_reply_along_the_path_of_a_packet_leaves_from_the_address_that_was_asked() {
    for server in ["0.0.0.0:0", "[::]:0"] {
        let (mut client, mut server) = (bind("127.0.0.1:0"), bind(server));
        let asked = SocketAddr::new(Ipv4Addr::new(127, 0, 0, 2).into(), server.local_addr().port());
        send(&mut client, asked, &[segment(0..10)]).unwrap();
        let (meta, _) = drain(&mut server).packets.remove(0);
        let reply = [segment(0..20)];
        server.transmit(&transmit(meta.path, &reply), &reply, &WHOLE).unwrap();
        assert_eq!(drain(&mut client).packets[0].0.path.remote, asked);
    }
}

// Scenario: R34
#[test]
fn a_batch_is_bounded_and_the_last_look_says_drained() {
    let mut from = bind("127.0.0.1:0");
    let config = UdpConfig::default().receives_per_call(4);
    let mut to = UdpDriver::bind("127.0.0.1:0".parse().unwrap(), &config).unwrap();
    for _ in 0..6 {
        send(&mut from, to.local_addr(), &[segment(0..10)]).unwrap();
    }
    wait(&to);
    let mut sink = Sink::default();
    assert_eq!(to.receive(&mut sink).unwrap(), RxStatus::More);
    assert_eq!(sink.packets.len(), 1, "the first packet is not kept waiting");
    assert_eq!(to.receive(&mut sink).unwrap(), RxStatus::More);
    assert_eq!(sink.packets.len(), 5);
    assert_eq!(to.receive(&mut sink).unwrap(), RxStatus::Drained);
    assert_eq!(sink.packets.len(), 6);
    assert_eq!(to.stats().empty_receives, 1);
}

#[test]
fn a_dead_peer_is_reported_and_a_healthy_one_not_blamed() {
    let (mut from, mut healthy, dead) = (bind("127.0.0.1:0"), bind("127.0.0.1:0"), closed());
    send(&mut from, dead, &[segment(7..107)]).unwrap();
    wait(&from);
    // This send would fail with the error of the one before.
    send(&mut from, healthy.local_addr(), &equal_segments(3, 50)).unwrap();
    assert_eq!(from.stats().repeated_sends, 1);
    assert_eq!(drain(&mut healthy).packets.len(), 3);
    let mut sink = Sink::default();
    from.receive(&mut sink).unwrap();
    let quoted = Pattern::expected(7..107).to_vec();
    assert_eq!(sink.errors, [(IcmpKind::PortUnreachable, dead, quoted)]);
}

#[test]
fn a_receive_finds_reports_by_itself() {
    let (mut from, dead) = (bind("[::]:0"), closed());
    send(&mut from, dead, &[segment(0..10)]).unwrap();
    let sink = drain(&mut from);
    assert_eq!(sink.errors.len(), 1);
    assert_eq!(sink.errors[0].1, dead);
    assert!(sink.packets.is_empty());
}

#[test]
fn reports_between_two_receives_are_bounded() {
    let mut from = bind("127.0.0.1:0");
    let dead = closed();
    for _ in 0..100 {
        // Each empties the queue of the report about the one before.
        let _ = send(&mut from, dead, &[segment(0..10)]);
    }
    let mut sink = Sink::default();
    from.receive(&mut sink).unwrap();
    assert!(sink.errors.len() <= 32);
    assert_eq!(from.stats().reports, sink.errors.len() as u64 + from.stats().lost_reports);
}

// Scenario: E9
#[test]
fn a_destination_without_a_route_fails_and_others_do_not() {
    // From a loopback address no other host can be reached.
    let (mut from, mut to) = (bind("127.0.0.1:0"), bind("127.0.0.1:0"));
    let nowhere = "192.0.2.200:9".parse().unwrap();
    let segments = equal_segments(5, 100);
    assert_eq!(send(&mut from, nowhere, &segments), failed(0, TransmitError::Unreachable));
    assert_eq!(from.stats().unreachable, 1);
    let v6 = "[2001:db8::1]:9".parse().unwrap();
    assert_eq!(send(&mut from, v6, &segments), failed(0, TransmitError::Unreachable));
    send(&mut from, to.local_addr(), &segments).unwrap();
    assert_eq!(drain(&mut to).packets.len(), 5);
}

#[test]
fn a_forbidden_destination_is_refused() {
    let mut from = bind("0.0.0.0:0");
    let broadcast = "127.255.255.255:9".parse().unwrap();
    let result = send(&mut from, broadcast, &[segment(0..10)]);
    assert_eq!(result, failed(0, TransmitError::Refused));
    assert_eq!(from.stats().refused, 1);
}

#[test]
fn a_packet_beyond_the_mtu_is_too_big_and_what_came_before_is_sent() {
    let (mut from, mut to) = (bind("[::1]:0"), bind("[::1]:0"));
    let mtu = from.path(to.local_addr()).0.unwrap();
    let too_long = mtu - 47;
    if too_long > 1 << 16 {
        return;
    }
    // Where the interface's MTU is small enough the long ones make a train.
    let segments = [segment(0..100), segment(0..too_long), segment(0..too_long)];
    let result = send(&mut from, to.local_addr(), &segments);
    assert_eq!(result, failed(1, TransmitError::TooBig(mtu)));
    assert_eq!(drain(&mut to).packets.len(), 1);
    assert_eq!((from.stats().too_big, from.stats().uncut_hosts), (1, 0));
    send(&mut from, to.local_addr(), &[segment(0..too_long - 1)]).unwrap();
}

#[test]
fn a_path_that_cuts_no_trains_gets_single_packets() {
    let (mut from, mut to) = (bind("127.0.0.1:0"), bind("127.0.0.1:0"));
    from.socket.set_tx_checksum(false).unwrap();
    let segments = equal_segments(100, 100);
    send(&mut from, to.local_addr(), &segments).unwrap();
    assert_arrived(&drain(&mut to), &segments);
    let stats = *from.stats();
    assert_eq!((stats.uncut_hosts, stats.sends, stats.sent_trains), (1, 100, 0));
    send(&mut from, to.local_addr(), &segments).unwrap();
    assert_eq!(from.stats().uncut_hosts, 1, "remembered");
}

#[test]
fn a_failure_of_another_kind_does_not_turn_trains_off() {
    let mut from = bind("127.0.0.1:0");
    let nowhere: SocketAddr = "192.0.2.200:9".parse().unwrap();
    let _ = send(&mut from, nowhere, &equal_segments(100, 100));
    assert!(!from.routes.is_single(nowhere.ip()));
    assert_eq!((from.train_max, from.stats().uncut_hosts), (GSO_SEGMENTS_MAX, 0));
}

// Scenario: W21
#[test]
fn without_offload_every_packet_is_a_call() {
    let config = UdpConfig::default().offload(false);
    let mut from = UdpDriver::bind("127.0.0.1:0".parse().unwrap(), &config).unwrap();
    let mut to = bind("127.0.0.1:0");
    let segments = equal_segments(10, 100);
    send(&mut from, to.local_addr(), &segments).unwrap();
    assert_eq!(from.stats().sends, 10);
    assert_arrived(&drain(&mut to), &segments);
}

#[test]
fn capacity_follows_the_buffer_and_what_it_cannot_hold_is_counted() {
    let config = UdpConfig::default().receive_buffer_bytes(83_200);
    let mut to = UdpDriver::bind("127.0.0.1:0".parse().unwrap(), &config).unwrap();
    assert_eq!(to.rx_capacity(), RxCapacity { bytes: 36 * 1_400, packets: 100 });
    let mut from = bind("127.0.0.1:0");
    for _ in 0..300 {
        send(&mut from, to.local_addr(), &[segment(0..100)]).unwrap();
    }
    let held = drain(&mut to).packets.len() as u64;
    for _ in 0..3 {
        // Each tells the drops before it, which count once.
        send(&mut from, to.local_addr(), &[segment(0..100)]).unwrap();
        drain(&mut to);
        assert_eq!(to.rx_dropped(), 300 - held);
    }
    assert!((100..110).contains(&held), "{held} held");
}

#[test]
fn nothing_is_queued_on_loopback() {
    assert_eq!(bind("127.0.0.1:0").tx_backlog_bytes(), Some(0));
}

#[test]
fn a_client_of_one_server_is_connected_and_of_two_is_heard_by_both() {
    let config = UdpConfig::default().one_peer(true);
    let mut client = UdpDriver::bind("0.0.0.0:0".parse().unwrap(), &config).unwrap();
    let port = client.local_addr().port();
    let mut servers = [bind("127.0.0.1:0"), bind("127.0.0.1:0")];
    for (index, connected) in [(0, true), (1, false), (0, false)] {
        for _ in 0..10 {
            send(&mut client, servers[index].local_addr(), &[segment(0..10)]).unwrap();
        }
        assert_eq!(drain(&mut servers[index]).packets.len(), 10);
        assert_eq!(matches!(client.connection, Connection::To(_)), connected);
        let back = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port);
        send(&mut servers[index], back, &[segment(0..20)]).unwrap();
        assert_eq!(drain(&mut client).packets.len(), 1);
    }
}

#[test]
fn a_dual_stack_client_hears_ipv6_after_many_packets_to_ipv4() {
    let config = UdpConfig::default().one_peer(true);
    let mut client = UdpDriver::bind("[::]:0".parse().unwrap(), &config).unwrap();
    let port = client.local_addr().port();
    let (mut four, mut six) = (bind("127.0.0.1:0"), bind("[::1]:0"));
    for (server, back) in
        [(&mut four, Ipv4Addr::LOCALHOST.into()), (&mut six, Ipv6Addr::LOCALHOST.into())]
    {
        for _ in 0..10 {
            send(&mut client, server.local_addr(), &[segment(0..10)]).unwrap();
        }
        send(server, SocketAddr::new(back, port), &[segment(0..20)]).unwrap();
        assert_eq!(drain(&mut client).packets.len(), 1, "from {back}");
    }
}
