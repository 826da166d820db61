//! The AF_XDP driver between two network namespaces joined by a veth pair. Where these cannot be
//! made the tests say SKIPPED and succeed, unless they must not (`CI=true` as root).

use std::fs::File;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use homa_core::{Path, TransmitError};
use homa_sys::xdp::{XdpError as Unusable, XdpSocketConfig};
use homa_sys::{PollFd, XdpSocket, poll_fds};
use nix::sched::{CloneFlags, setns, unshare};

use super::*;
use crate::udp::UdpConfig;
use crate::udp::tests::{Sink, WHOLE, assert_arrived, equal_segments, segment, transmit};

const CURRENT: &str = "/proc/thread-self/ns/net";
/// Set for the process that is killed.
const CHILD: &str = "HOMA_TEST_XDP_CHILD";
const PORT: u16 = 4_000;
const LEFT: [&str; 2] = ["10.148.0.1", "fd00:94::1"];
const RIGHT: [&str; 2] = ["10.148.0.2", "fd00:94::2"];

/// Two hosts.
struct Pair {
    left: File,
    right: File,
}

impl Pair {
    /// Hosts whose link has `options`, as of `ip link`.
    fn new(options: &str) -> Option<Self> {
        match Self::make(options) {
            Ok(pair) => Some(pair),
            Err(why) => {
                let must = std::env::var("CI").is_ok_and(|ci| ci == "true");
                assert!(!must || !nix::unistd::geteuid().is_root(), "{why}");
                let _ = writeln!(io::stdout(), "SKIPPED: AF_XDP: {why}");
                None
            }
        }
    }

    fn make(options: &str) -> Result<Self, String> {
        let (left, right) = (new_namespace()?, new_namespace()?);
        let path = format!("/proc/{}/fd/{}", std::process::id(), right.as_raw_fd());
        within(&left, || {
            let peer = format!("peer name homa1 {options} netns {path}");
            ip(&format!("link add homa0 {options} type veth {peer}"))?;
            set_up("homa0", LEFT)
        })?;
        within(&right, || set_up("homa1", RIGHT))?;
        match rings::rehearse() {
            Ok(()) => Ok(Self { left, right }),
            Err(XdpError::Unusable(
                error @ (Unusable::NoCapability { .. }
                | Unusable::NotInKernel
                | Unusable::OldKernel { .. }),
            )) => Err(error.to_string()),
            Err(error) => panic!("{error}"),
        }
    }

    fn open_left(&self, config: &XdpConfig) -> Result<XdpDriver<UdpDriver>, XdpError> {
        open(&self.left, &format!("[::]:{PORT}"), config)
    }

    fn left(&self) -> XdpDriver<UdpDriver> {
        self.left_with(&XdpConfig::default())
    }

    fn left_with(&self, config: &XdpConfig) -> XdpDriver<UdpDriver> {
        in_time(|| self.open_left(config))
    }

    fn right(&self) -> XdpDriver<UdpDriver> {
        in_time(|| open(&self.right, &format!("[::]:{PORT}"), &XdpConfig::default()))
    }

    fn right_over_sockets(&self) -> UdpDriver {
        let address = SocketAddr::new("::".parse().unwrap(), PORT);
        within(&self.right, || bound(address))
    }
}

fn open(host: &File, address: &str, config: &XdpConfig) -> Result<XdpDriver<UdpDriver>, XdpError> {
    within(host, || {
        let mut sockets = bound(address.parse().unwrap());
        let parts = XdpParts::new(&mut sockets, config)?;
        Ok(XdpDriver::new(sockets, parts))
    })
}

/// Sockets at an address, when the process that another test starts has those before no more: it
/// has all descriptors for a moment.
fn bound(address: SocketAddr) -> UdpDriver {
    let until = Instant::now() + Duration::from_secs(5);
    loop {
        match UdpDriver::bind(address, &UdpConfig::default()) {
            Ok(driver) => return driver,
            Err(error) => assert!(Instant::now() < until, "{error}"),
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Opens a driver when the one before has let go of its place, as above.
fn in_time(open: impl Fn() -> Result<XdpDriver<UdpDriver>, XdpError>) -> XdpDriver<UdpDriver> {
    let until = Instant::now() + Duration::from_secs(5);
    loop {
        match open() {
            Ok(driver) => return driver,
            Err(error) => assert!(Instant::now() < until, "{error}"),
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn new_namespace() -> Result<File, String> {
    let make = || {
        unshare(CloneFlags::CLONE_NEWNET).map_err(|error| format!("no new namespace: {error}"))?;
        File::open(CURRENT).map_err(|error| format!("{CURRENT}: {error}"))
    };
    std::thread::scope(|scope| scope.spawn(make).join()).unwrap()
}

fn within<T: Send>(host: &File, what: impl FnOnce() -> T + Send) -> T {
    let visit = || {
        setns(host, CloneFlags::CLONE_NEWNET).unwrap();
        what()
    };
    let result = std::thread::scope(|scope| scope.spawn(visit).join());
    result.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

fn set_up(link: &str, [v4, v6]: [&str; 2]) -> Result<(), String> {
    for line in [
        "link set lo up".to_owned(),
        format!("addr add {v4}/24 dev {link}"),
        format!("addr add {v6}/64 dev {link} nodad"),
        format!("link set {link} up"),
    ] {
        ip(&line)?;
    }
    Ok(())
}

fn ip(line: &str) -> Result<(), String> {
    let output = Command::new("ip")
        .args(line.split_whitespace())
        .output()
        .map_err(|error| format!("`ip` (package iproute2): {error}"))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(format!("ip {line}: {}", String::from_utf8_lossy(&output.stderr).trim())),
    }
}

fn links(host: &File) -> String {
    let output = within(host, || Command::new("ip").args(["-d", "link"]).output()).unwrap();
    String::from_utf8(output.stdout).unwrap()
}

fn at(ip: &str) -> SocketAddr {
    SocketAddr::new(ip.parse().unwrap(), PORT)
}

fn path(to: SocketAddr) -> Path {
    Path { remote: to, local_ip: None, local_port: PORT, interface: 0, carriage: Carriage::Udp }
}

fn send(from: &mut impl Driver, to: SocketAddr, segments: &[Segment]) -> Result<(), Unsent> {
    from.transmit(&transmit(path(to), segments), segments, &WHOLE)
}

/// Receives until `packets` came.
fn receive(driver: &mut impl Driver, packets: usize) -> Sink {
    let mut sink = Sink::default();
    let until = Instant::now() + Duration::from_secs(5);
    while sink.packets.len() < packets {
        assert!(Instant::now() < until, "{} of {packets} came", sink.packets.len());
        if let Some(fd) = driver.readable() {
            poll_fds(&mut [PollFd::new(fd, true, false)], Some(Duration::from_millis(10))).unwrap();
        }
        driver.receive(&mut sink).unwrap();
    }
    sink
}

/// Has the two kernels find out each other's Ethernet addresses; both ways through the rings then.
fn introduce(left: &mut XdpDriver<UdpDriver>, right: &mut impl Driver) {
    for [left_ip, right_ip] in [[LEFT[0], RIGHT[0]], [LEFT[1], RIGHT[1]]] {
        send(left, at(right_ip), &[segment(0..10)]).unwrap();
        receive(right, 1);
        send(right, at(left_ip), &[segment(0..10)]).unwrap();
        receive(left, 1);
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn packets_go_and_come_through_the_rings_at_both_ends() {
    let Some(pair) = Pair::new("mtu 1500") else { return };
    let (mut left, mut right) = (pair.left(), pair.right());
    let place = left.place().unwrap();
    assert_eq!((place.interface.as_str(), place.queues), ("homa0", 1));
    assert_eq!((place.attached, place.bound), (AttachMode::Native, BindMode::Copy));
    introduce(&mut left, &mut right);
    for (from, to) in [(LEFT[0], RIGHT[0]), (LEFT[1], RIGHT[1])] {
        let (sent, received) = (left.stats().sent_packets, right.stats().received_packets);
        let segments = equal_segments(40, 1_400);
        send(&mut left, at(to), &segments).unwrap();
        let sink = receive(&mut right, 40);
        assert_arrived(&sink, &segments);
        assert_eq!(left.stats().sent_packets - sent, 40);
        assert_eq!(right.stats().received_packets - received, 40);
        for (meta, _) in sink.packets {
            assert_eq!((meta.path.remote, meta.path.local_ip), (at(from), to.parse().ok()));
            assert_eq!((meta.path.local_port, meta.path.carriage), (PORT, Carriage::Udp));
        }
        assert_eq!(left.path(at(to)), (Some(1_500), None));
    }
    left.receive(&mut Sink::default()).unwrap();
    assert_eq!(left.tx_backlog_bytes(), Some(0));
    let garbage = right.stats();
    assert_eq!((garbage.malformed_frames, garbage.damaged_frames), (0, 0));
    assert_eq!(left.rx_dropped() + right.rx_dropped(), 0);
}

#[test]
fn an_end_with_rings_and_one_with_sockets_understand_each_other() {
    let Some(pair) = Pair::new("mtu 1500") else { return };
    let (mut left, mut right) = (pair.left(), pair.right_over_sockets());
    introduce(&mut left, &mut right);
    let segments = equal_segments(40, 1_400);
    for (from, to) in [(LEFT[0], RIGHT[0]), (LEFT[1], RIGHT[1])] {
        send(&mut left, at(to), &segments).unwrap();
        assert_arrived(&receive(&mut right, 40), &segments);
        // What the kernel sends here has no whole checksums, since there is no card.
        let received = left.stats().received_packets;
        send(&mut right, at(from), &segments).unwrap();
        assert_arrived(&receive(&mut left, 40), &segments);
        assert_eq!(left.stats().received_packets - received, 40);
    }
    assert_eq!(left.stats().damaged_frames, 0);
}

#[test]
fn a_virtual_interface_takes_the_native_form_only() {
    let Some(pair) = Pair::new("mtu 1500") else { return };
    let generic = pair.open_left(&XdpConfig::default().generic(true));
    assert!(matches!(generic, Err(XdpError::OnlyGeneric { .. })), "{generic:?}");
    until_none_is_there(&pair);
    within(&pair.left, || {
        ip("link add bridge0 type bridge").unwrap();
        ip("link set bridge0 up").unwrap();
    });
    let bridge = pair.open_left(&XdpConfig::default().interface("bridge0"));
    assert!(matches!(bridge, Err(XdpError::Virtual { .. })), "{bridge:?}");
}

#[test]
fn looks_may_drive_the_queue() {
    let Some(pair) = Pair::new("mtu 1500") else { return };
    let (mut left, mut right) =
        (pair.left_with(&XdpConfig::default().busy_poll(true)), pair.right());
    introduce(&mut left, &mut right);
    let segments = equal_segments(40, 1_400);
    send(&mut right, at(LEFT[0]), &segments).unwrap();
    assert_arrived(&receive(&mut left, 40), &segments);
    send(&mut left, at(RIGHT[0]), &segments).unwrap();
    assert_arrived(&receive(&mut right, 40), &segments);
}

#[test]
fn many_small_segments_share_a_datagram() {
    let Some(pair) = Pair::new("mtu 1500") else { return };
    let (mut left, mut right) = (pair.left(), pair.right());
    introduce(&mut left, &mut right);
    let segments: Vec<_> = [(0, 100), (100, 400), (400, 407)].map(|(a, b)| segment(a..b)).into();
    let mut transmit = transmit(path(at(RIGHT[0])), &segments);
    (transmit.coalesced, transmit.segment_bytes) = (true, transmit.total_bytes);
    left.transmit(&transmit, &segments, &WHOLE).unwrap();
    assert_arrived(&receive(&mut right, 1), &[segment(0..407)]);
}

#[test]
fn other_traffic_of_the_host_is_left_to_the_kernel() {
    let Some(pair) = Pair::new("mtu 1500") else { return };
    let (mut left, mut right) = (pair.left(), pair.right());
    introduce(&mut left, &mut right);
    for ip in LEFT {
        let listener = within(&pair.left, || TcpListener::bind((ip, 4_000))).unwrap();
        let mut client = within(&pair.right, || TcpStream::connect((ip, 4_000))).unwrap();
        client.write_all(&[7; 100_000]).unwrap();
        drop(client);
        let mut received = Vec::new();
        listener.accept().unwrap().0.read_to_end(&mut received).unwrap();
        assert_eq!(received.len(), 100_000);
        // Another port of UDP, too, and a packet so long that it comes in fragments.
        let server = within(&pair.left, || UdpSocket::bind((ip, 4_001))).unwrap();
        let client = within(&pair.right, || UdpSocket::bind((ip_of_right(ip), 0))).unwrap();
        server.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        for bytes in [10, 8_000] {
            client.send_to(&vec![1; bytes], (ip, 4_001)).unwrap();
            assert_eq!(server.recv(&mut [0; 9_000]).unwrap(), bytes);
        }
        // Fragments for the own port are put together by the kernel and come through the sockets.
        let before = left.stats().received_packets;
        client.send_to(&vec![1; 8_000], (ip, PORT)).unwrap();
        assert_eq!(receive(&mut left, 1).packets[0].1.len(), 8_000);
        assert_eq!(left.stats().received_packets, before);
    }
}

fn ip_of_right(left: &str) -> &'static str {
    if left == LEFT[0] { RIGHT[0] } else { RIGHT[1] }
}

#[test]
fn this_host_itself_is_reached_through_the_sockets() {
    let Some(pair) = Pair::new("mtu 1500") else { return };
    let mut left = pair.left();
    for ip in ["127.0.0.1", LEFT[0], LEFT[1]] {
        let segments = equal_segments(5, 1_000);
        send(&mut left, at(ip), &segments).unwrap();
        // Who is told that nothing is left may sleep.
        let mut sink = Sink::default();
        while left.receive(&mut sink).unwrap() == RxStatus::More {}
        assert_arrived(&sink, &segments);
    }
    assert_eq!((left.stats().sent_packets, left.stats().received_packets), (0, 0));
}

#[test]
fn a_closed_port_is_reported_and_an_absent_host_as_well() {
    let Some(pair) = Pair::new("mtu 1500") else { return };
    let mut left = pair.left();
    let mut right = pair.right_over_sockets();
    introduce(&mut left, &mut right);
    drop(right);
    send(&mut left, at(RIGHT[0]), &[segment(0..50)]).unwrap();
    let error = report(&mut left);
    assert_eq!(error, (homa_core::IcmpKind::PortUnreachable, at(RIGHT[0])));
    let absent = at("10.148.0.77");
    let _ = send(&mut left, absent, &[segment(0..50)]);
    assert_eq!(report(&mut left), (homa_core::IcmpKind::HostUnreachable, absent));
    let nowhere = send(&mut left, at("192.0.2.1"), &[segment(0..50)]);
    assert_eq!(nowhere, Err(Unsent { first: 0, why: TransmitError::Unreachable }));
}

/// The next error that the network reports.
fn report(driver: &mut XdpDriver<UdpDriver>) -> (homa_core::IcmpKind, SocketAddr) {
    let until = Instant::now() + Duration::from_secs(10);
    let mut sink = Sink::default();
    while sink.errors.is_empty() {
        assert!(Instant::now() < until, "no report came");
        driver.receive(&mut sink).unwrap();
        std::thread::sleep(Duration::from_millis(1));
    }
    (sink.errors[0].0, sink.errors[0].1)
}

#[test]
fn a_second_filter_or_socket_at_the_same_place_is_refused() {
    let Some(pair) = Pair::new("mtu 1500") else { return };
    let would_use = || within(&pair.left, || probe(at("::"), &XdpConfig::default()));
    assert_eq!(would_use().unwrap(), "homa0");
    let left = pair.left();
    let busy = would_use();
    assert!(matches!(busy, Err(XdpError::Unusable(Unusable::InterfaceBusy))), "{busy:?}");
    let address = "[::]:4001";
    let second = open(&pair.left, address, &XdpConfig::default());
    assert!(matches!(second, Err(XdpError::Unusable(Unusable::InterfaceBusy))), "{second:?}");
    let generic = open(&pair.left, address, &XdpConfig::default().generic(true));
    assert!(matches!(generic, Err(XdpError::Unusable(Unusable::InterfaceBusy))), "{generic:?}");
    drop(left);
    until_none_is_there(&pair);
    // Somebody has the queue but no filter.
    let interface = within(&pair.left, || Netlink::new().unwrap().interfaces()).unwrap();
    let index = interface.iter().find(|one| one.name == "homa0").unwrap().index;
    let socket = within(&pair.left, raw_socket);
    bind(&socket, index);
    let third = open(&pair.left, "[::]:4002", &XdpConfig::default());
    let expected = matches!(third, Err(XdpError::Unusable(Unusable::QueueBusy { queue: 0, .. })));
    assert!(expected, "{third:?}");
    drop(socket);
    pair.left();
}

/// The kernel lets go of a queue a moment after its socket was closed.
fn bind(socket: &XdpSocket, interface: u32) {
    let until = Instant::now() + Duration::from_secs(5);
    while let Err(error) = socket.bind(interface, 0, false) {
        assert!(Instant::now() < until, "{error}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn raw_socket() -> XdpSocket {
    let config =
        XdpSocketConfig { frame_bytes: 2_048, rx_frames: 64, tx_frames: 64, multi_buffer: false };
    XdpSocket::open(config).unwrap()
}

#[test]
fn garbage_is_counted_and_ignored() {
    let Some(pair) = Pair::new("mtu 1500") else { return };
    let mut left = pair.left();
    let mut right = pair.right();
    introduce(&mut left, &mut right);
    let good = good_frame(&mut right);
    drop(right);
    let (interfaces, mut socket) =
        within(&pair.right, || (Netlink::new().unwrap().interfaces().unwrap(), raw_socket()));
    let index = interfaces.iter().find(|one| one.name == "homa1").unwrap().index;
    bind(&socket, index);
    let mut put = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = good.clone();
        change(&mut bytes);
        socket.reclaim();
        let mut frame = socket.tx_frame().unwrap();
        frame.bytes_mut()[..bytes.len()].copy_from_slice(&bytes);
        frame.commit(bytes.len(), false);
        socket.submit().unwrap();
    };
    let before = *left.stats();
    put(&|_| {});
    assert_eq!(receive(&mut left, 1).packets[0].1.len(), 100);
    // Longer than the frame; cut off; a changed byte; from loopback.
    put(&|bytes| bytes[17] = 200);
    put(&|bytes| bytes.truncate(60));
    put(&|bytes| bytes[39] = 200);
    put(&|bytes| bytes[80] ^= 1);
    put(&|bytes| {
        bytes[26..30].copy_from_slice(&[127, 0, 0, 1]);
        bytes[24..26].fill(0);
        let checksum = homa_wire::Sum::of(&bytes[14..34]).checksum();
        bytes[24..26].copy_from_slice(&checksum.to_be_bytes());
    });
    put(&|_| {});
    let sink = receive(&mut left, 1);
    assert_eq!(sink.packets.len(), 1);
    let stats = left.stats();
    assert_eq!(stats.received_packets - before.received_packets, 2);
    let counted = [
        stats.malformed_frames - before.malformed_frames,
        stats.damaged_frames - before.damaged_frames,
        stats.martian_frames - before.martian_frames,
    ];
    assert_eq!(counted.iter().sum::<u64>(), 5, "{counted:?}");
    assert!(counted.iter().all(|count| *count > 0), "{counted:?}");
}

/// A frame with a datagram of 100 bytes to the left.
fn good_frame(right: &mut XdpDriver<UdpDriver>) -> Vec<u8> {
    let way = right.way(&path(at(LEFT[0])));
    let Way::Rings(hop) = way else {
        panic!("{way:?}");
    };
    let packet = [9; 100];
    let mut frame = vec![0; hop.headers.len()];
    frame.extend(packet);
    hop.headers.write(&mut frame, packet.len(), PORT, 0);
    let mut sum = hop.headers.covered(packet.len(), PORT).unwrap();
    sum.add(&packet);
    hop.headers.put_checksum(&mut frame, sum);
    frame
}

#[test]
fn an_interface_that_goes_away_leaves_the_sockets() {
    let Some(pair) = Pair::new("mtu 1500") else { return };
    let (mut left, mut right) = (pair.left(), pair.right());
    introduce(&mut left, &mut right);
    within(&pair.left, || ip("link del homa0")).unwrap();
    for (driver, to) in [(&mut left, RIGHT[0]), (&mut right, LEFT[0])] {
        let until = Instant::now() + Duration::from_secs(5);
        while driver.place().is_ok() {
            assert!(Instant::now() < until, "not noticed");
            driver.receive(&mut Sink::default()).unwrap();
            let fd = driver.readable().unwrap();
            poll_fds(&mut [PollFd::new(fd, true, false)], Some(Duration::from_millis(5))).unwrap();
        }
        let why = driver.place().unwrap_err();
        assert!(matches!(why, XdpError::Unusable(Unusable::NoInterface)), "{why}");
        let result = send(driver, at(to), &[segment(0..50)]);
        assert_eq!(result, Err(Unsent { first: 0, why: TransmitError::Unreachable }));
        // Asleep, not turning in circles.
        while driver.receive(&mut Sink::default()).unwrap() == RxStatus::More {}
        let fd = driver.readable().unwrap();
        let mut fds = [PollFd::new(fd, true, false)];
        assert_eq!(poll_fds(&mut fds, Some(Duration::from_millis(30))).unwrap(), 0);
    }
    // This host itself is still reached, and other changes do not wake anybody.
    within(&pair.left, || ip("link add other type veth peer name another")).unwrap();
    let mut fds = [PollFd::new(left.readable().unwrap(), true, false)];
    assert_eq!(poll_fds(&mut fds, Some(Duration::from_millis(30))).unwrap(), 0);
    send(&mut left, at("127.0.0.1"), &[segment(0..50)]).unwrap();
    receive(&mut left, 1);
}

#[test]
fn a_link_that_is_down_for_a_while_works_again() {
    let Some(pair) = Pair::new("mtu 1500") else { return };
    let (mut left, mut right) = (pair.left(), pair.right());
    introduce(&mut left, &mut right);
    within(&pair.left, || ip("link set homa0 down")).unwrap();
    let until = Instant::now() + Duration::from_secs(5);
    while send(&mut left, at(RIGHT[0]), &[segment(0..50)]).is_ok() {
        assert!(Instant::now() < until, "not noticed");
        left.receive(&mut Sink::default()).unwrap();
        std::thread::sleep(Duration::from_millis(1));
    }
    within(&pair.left, || ip("link set homa0 up")).unwrap();
    let sent = left.stats().sent_packets;
    while left.stats().sent_packets == sent {
        assert!(Instant::now() < until, "not up again");
        let _ = send(&mut left, at(RIGHT[0]), &[segment(0..50)]);
        left.receive(&mut Sink::default()).unwrap();
        right.receive(&mut Sink::default()).unwrap();
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn packets_of_a_longer_mtu_are_taken_after_it_changed() {
    let Some(pair) = Pair::new("mtu 1500") else { return };
    let (mut left, mut right) = (pair.left(), pair.right());
    introduce(&mut left, &mut right);
    let too_long = send(&mut left, at(RIGHT[0]), &[segment(0..1_473)]);
    assert_eq!(too_long, Err(Unsent { first: 0, why: TransmitError::TooBig(1_500) }));
    within(&pair.left, || ip("link set homa0 mtu 3000")).unwrap();
    within(&pair.right, || ip("link set homa1 mtu 3000")).unwrap();
    let until = Instant::now() + Duration::from_secs(5);
    for driver in [&mut left, &mut right] {
        while driver.stats().reopened == 0 {
            assert!(Instant::now() < until, "not noticed");
            driver.receive(&mut Sink::default()).unwrap();
            std::thread::sleep(Duration::from_millis(1));
        }
        driver.place().unwrap();
    }
    introduce(&mut left, &mut right);
    let sent = left.stats().sent_packets;
    let segments = equal_segments(8, 2_900);
    send(&mut left, at(RIGHT[0]), &segments).unwrap();
    assert_arrived(&receive(&mut right, 8), &segments);
    assert_eq!(left.stats().sent_packets - sent, 8);
    // And a shorter one again.
    within(&pair.left, || ip("link set homa0 mtu 1400")).unwrap();
    while send(&mut left, at(RIGHT[0]), &[segment(0..1_400)]).is_ok() {
        assert!(Instant::now() < until, "not noticed");
        left.receive(&mut Sink::default()).unwrap();
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn jumbo_packets_lie_in_several_frames() {
    let Some(pair) = Pair::new("mtu 9000") else { return };
    let (mut left, mut right) = (pair.left(), pair.right());
    introduce(&mut left, &mut right);
    for (from, to) in [(LEFT[0], RIGHT[0]), (LEFT[1], RIGHT[1])] {
        let (sent, received) = (left.stats().sent_packets, right.stats().received_packets);
        let segments = equal_segments(7, 8_900);
        send(&mut left, at(to), &segments).unwrap();
        assert_arrived(&receive(&mut right, 7), &segments);
        assert_eq!(left.stats().sent_packets - sent, 7);
        assert_eq!(right.stats().received_packets - received, 7);
        send(&mut right, at(from), &[segment(0..10)]).unwrap();
        receive(&mut left, 1);
    }
    assert_eq!(right.stats().damaged_frames, 0);
}

#[test]
fn addresses_that_come_and_go_are_followed() {
    let Some(pair) = Pair::new("mtu 1500") else { return };
    let (mut left, mut right) = (pair.left(), pair.right());
    introduce(&mut left, &mut right);
    within(&pair.left, || ip("addr add 10.148.0.9/24 dev homa0")).unwrap();
    let new = at("10.148.0.9");
    let until = Instant::now() + Duration::from_secs(5);
    let mut through_rings = |left: &mut XdpDriver<UdpDriver>| {
        let before = left.stats().received_packets;
        send(&mut right, new, &[segment(0..50)]).unwrap();
        let sink = receive(left, 1);
        assert_eq!(sink.packets[0].0.path.local_ip, Some(new.ip()));
        left.stats().received_packets > before
    };
    while !through_rings(&mut left) {
        assert!(Instant::now() < until, "not redirected");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_full_ring_has_no_room_and_has_some_later() {
    let Some(pair) = Pair::new("mtu 1500") else { return };
    let mut left = pair.left_with(&XdpConfig::default().tx_frames(64));
    let mut right = pair.right();
    introduce(&mut left, &mut right);
    let segments = equal_segments(100, 100);
    let result = send(&mut left, at(RIGHT[0]), &segments);
    let Err(Unsent { first, why: TransmitError::NoRoom }) = result else {
        panic!("{result:?}");
    };
    assert!((1..=64).contains(&first), "{first}");
    assert_arrived(&receive(&mut right, first), &segments[..first]);
    send(&mut left, at(RIGHT[0]), &segments[..10]).unwrap();
    assert_arrived(&receive(&mut right, 10), &segments[..10]);
}

#[test]
fn every_queue_has_its_ring() {
    let Some(pair) = Pair::new("mtu 1500 numrxqueues 2 numtxqueues 2") else { return };
    let (mut left, right) = (pair.left(), pair.right_over_sockets());
    assert_eq!(left.place().unwrap().queues, 2);
    drop(right);
    // Other flows take other queues, as far as the sender has processors for them.
    for port in 0..20 {
        let socket = within(&pair.right, || UdpSocket::bind((RIGHT[0], 5_000 + port))).unwrap();
        socket.send_to(&[1; 100], at(LEFT[0])).unwrap();
    }
    receive(&mut left, 20);
    assert_eq!(left.stats().received_packets, 20);
    drop(left);
    let one = pair.left_with(&XdpConfig::default().queues_max(1));
    assert_eq!(one.place().unwrap().queues, 1);
}

#[test]
fn an_interface_that_cannot_be_meant_is_named() {
    let Some(pair) = Pair::new("mtu 1500") else { return };
    let on = |name: &str| XdpConfig::default().interface(name);
    let with = |name: &str| pair.open_left(&on(name));
    assert!(matches!(with("homa9"), Err(XdpError::NoSuchInterface { .. })));
    assert!(matches!(with("lo"), Err(XdpError::NotEthernet { .. })));
    pair.left_with(&on("homa0"));
    let loopback = open(&pair.left, "127.0.0.1:4000", &XdpConfig::default());
    assert!(matches!(loopback, Err(XdpError::NotEthernet { .. })), "{loopback:?}");
    let one = in_time(|| open(&pair.left, "10.148.0.1:4000", &XdpConfig::default()));
    assert_eq!(one.place().unwrap().interface, "homa0");
    drop(one);
    within(&pair.left, || {
        ip("link add other type veth peer name another").unwrap();
        ip("addr add 10.149.0.1/24 dev other").unwrap();
        ip("link set other up").unwrap();
    });
    let error = pair.open_left(&XdpConfig::default()).unwrap_err().to_string();
    assert!(error.contains("homa0") && error.contains("other"), "{error}");
    pair.left_with(&on("other"));
}

#[test]
fn a_process_that_is_killed_leaves_the_interface_as_it_was() {
    if std::env::var_os(CHILD).is_some() {
        // In the namespace of the other one.
        let mut sockets = UdpDriver::bind(at("::"), &UdpConfig::default()).unwrap();
        let parts = XdpParts::new(&mut sockets, &XdpConfig::default()).unwrap();
        let _driver = XdpDriver::new(sockets, parts);
        println!("open");
        io::stdin().read_exact(&mut [0]).unwrap();
        return;
    }
    let Some(pair) = Pair::new("mtu 1500") else { return };
    let name = "xdp::tests::a_process_that_is_killed_leaves_the_interface_as_it_was";
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", name, "--nocapture"]).env(CHILD, "");
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = within(&pair.left, || command.spawn()).unwrap();
    let mut said = String::new();
    while !said.contains("open\n") {
        let mut byte = [0];
        child.stdout.as_mut().unwrap().read_exact(&mut byte).unwrap();
        said.push(char::from(byte[0]));
    }
    assert!(links(&pair.left).contains("prog/xdp"));
    let second = open(&pair.left, "[::]:4001", &XdpConfig::default());
    assert!(matches!(second, Err(XdpError::Unusable(Unusable::InterfaceBusy))), "{second:?}");
    child.kill().unwrap();
    child.wait().unwrap();
    until_none_is_there(&pair);
    pair.left();
}

/// Waits until no filter is at the left interface.
fn until_none_is_there(pair: &Pair) {
    let until = Instant::now() + Duration::from_secs(5);
    while links(&pair.left).contains("xdp") {
        assert!(Instant::now() < until, "the program stayed");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_neighbour_not_heard_of_for_long_is_asked_for_by_the_kernel() {
    let Some(pair) = Pair::new("mtu 1500") else { return };
    let (mut left, mut right) = (pair.left(), pair.right());
    introduce(&mut left, &mut right);
    let entry = within(&pair.right, || {
        let link = Netlink::new().unwrap().interfaces().unwrap();
        link.iter().find(|one| one.name == "homa1").unwrap().mac.unwrap()
    });
    let mac = entry.map(|byte| format!("{byte:02x}")).join(":");
    let stale = format!("neigh replace {} lladdr {mac} nud stale dev homa0", RIGHT[0]);
    within(&pair.left, || ip(&stale)).unwrap();
    left.hops.forget();
    let through =
        |left: &XdpDriver<UdpDriver>| (left.stats().sent_packets, left.stats().socket_sends);
    let before = through(&left);
    for _ in 0..5 {
        send(&mut left, at(RIGHT[0]), &[segment(0..10)]).unwrap();
    }
    receive(&mut right, 5);
    let after = through(&left);
    assert_eq!((after.0 - before.0, after.1 - before.1), (4, 1));
}
