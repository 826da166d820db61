//! The AF_XDP driver between two network namespaces joined by a veth pair. Where these cannot be
//! made the tests say SKIPPED and succeed, unless they must not (`CI=true` as root).

use std::fs::File;
use std::io::{Read, Write};
use std::net::{IpAddr, TcpListener, TcpStream, UdpSocket};
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
        let pair = Self { left, right };
        match pair.open_left(&XdpConfig::default()) {
            Ok(_) => Ok(pair),
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
        self.open_left(&XdpConfig::default()).unwrap()
    }

    fn right(&self) -> XdpDriver<UdpDriver> {
        open(&self.right, &format!("[::]:{PORT}"), &XdpConfig::default()).unwrap()
    }

    fn right_over_sockets(&self) -> UdpDriver {
        let address = SocketAddr::new("::".parse().unwrap(), PORT);
        within(&self.right, || UdpDriver::bind(address, &UdpConfig::default())).unwrap()
    }
}

fn open(host: &File, address: &str, config: &XdpConfig) -> Result<XdpDriver<UdpDriver>, XdpError> {
    within(host, || {
        let mut sockets = UdpDriver::bind(address.parse().unwrap(), &UdpConfig::default())?;
        let parts = XdpParts::new(&mut sockets, config)?;
        Ok(XdpDriver::new(sockets, parts))
    })
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
