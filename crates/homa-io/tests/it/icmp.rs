//! ICMP errors that quote packets of ours, as the kernel hands them to the drivers: scenarios E1,
//! E2, E4, E5. The errors are made by a raw socket on loopback, which needs `CAP_NET_RAW`.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

use homa_core::{IcmpKind, RxMeta};
use homa_io::driver::{Driver, PacketSink};
use homa_io::ip::{IpConfig, IpDriver};
use homa_io::udp::{UdpConfig, UdpDriver};
use homa_sys::{PollFd, poll_fds};
use rustix::net::{AddressFamily, SendFlags, SocketType, ipproto, sendto, socket};

/// Next header or protocol numbers.
const UDP: u8 = 17;
const HOMA: u8 = 146;
const HOP_BY_HOP: u8 = 0;
const DESTINATION_OPTIONS: u8 = 60;

/// The port of the server that is not there.
const DEAD_PORT: u16 = 99;

#[derive(Debug, Default)]
struct Sink {
    errors: Vec<(IcmpKind, SocketAddr, Vec<u8>)>,
}

impl PacketSink for Sink {
    fn packet(&mut self, _: &RxMeta, _: &[u8]) {}

    fn icmp_error(&mut self, kind: IcmpKind, destination: SocketAddr, quoted: &[u8]) {
        self.errors.push((kind, destination, quoted.to_vec()));
    }

    fn path_mtu(&mut self, _: SocketAddr, _: u32) {}
}

/// The reports that `driver` hands out at a time, at least one.
fn reports(driver: &mut (impl Driver + AsFd)) -> Vec<(IcmpKind, SocketAddr, Vec<u8>)> {
    let (mut sink, start) = (Sink::default(), Instant::now());
    while sink.errors.is_empty() {
        assert!(start.elapsed() < Duration::from_secs(20), "no report");
        let mut fds = [PollFd::new(driver.as_fd(), true, false)];
        poll_fds(&mut fds, Some(Duration::from_millis(20))).unwrap();
        driver.receive(&mut sink).unwrap();
    }
    sink.errors
}

/// A socket that sends ICMP or ICMPv6; `None`, and a line that says so, without the right to.
fn icmp_socket(family: AddressFamily) -> Option<OwnedFd> {
    let protocol = if family == AddressFamily::INET { ipproto::ICMP } else { ipproto::ICMPV6 };
    match socket(family, SocketType::RAW, Some(protocol)) {
        Ok(socket) => Some(socket),
        Err(error) => {
            let root = std::fs::metadata("/proc/self").unwrap().uid() == 0;
            assert!(!root || std::env::var_os("CI").is_none(), "a raw socket: {error}");
            println!("SKIPPED: ICMP errors cannot be made here ({error})");
            None
        }
    }
}

/// The beginning of a Homa packet from `source` to `destination`.
fn homa(source: u16, destination: u16) -> Vec<u8> {
    let mut bytes = [source.to_be_bytes(), destination.to_be_bytes()].concat();
    bytes.resize(60, 0x5A);
    bytes
}

fn udp(source: u16, destination: u16, payload: &[u8]) -> Vec<u8> {
    let length = 8 + payload.len() as u16;
    let header = [source, destination, length, 0].map(u16::to_be_bytes).concat();
    [&header, payload].concat()
}

/// An IPv6 packet on loopback with these extension headers before `payload`.
fn ipv6(extensions: &[u8], protocol: u8, payload: &[u8]) -> Vec<u8> {
    let mut chain: Vec<u8> = extensions.to_vec();
    chain.push(protocol);
    let mut rest = Vec::new();
    for next in &chain[1..] {
        // Eight bytes: next header, no more than these, and padding.
        rest.extend([*next, 0, 1, 4, 0, 0, 0, 0]);
    }
    rest.extend(payload);
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend((rest.len() as u16).to_be_bytes());
    packet.extend([chain[0], 64]);
    packet.extend(Ipv6Addr::LOCALHOST.octets());
    packet.extend(Ipv6Addr::LOCALHOST.octets());
    packet.extend(rest);
    packet
}

fn report_v6(socket: &OwnedFd, (kind, code): (u8, u8), quoted: &[u8]) {
    let mut packet = vec![kind, code, 0, 0, 0, 0, 0, 0];
    packet.extend(quoted);
    // The kernel fills in the checksum.
    let to = SocketAddr::from((Ipv6Addr::LOCALHOST, 0));
    sendto(socket, &packet, SendFlags::empty(), &to).unwrap();
}

fn report_v4(socket: &OwnedFd, (kind, code): (u8, u8), payload: &[u8]) {
    let mut quoted = vec![0x45, 0];
    quoted.extend((20 + payload.len() as u16).to_be_bytes());
    quoted.extend([0, 0, 0, 0, 64, UDP, 0, 0]);
    quoted.extend(Ipv4Addr::LOCALHOST.octets());
    quoted.extend(Ipv4Addr::LOCALHOST.octets());
    quoted.extend(payload);
    let mut packet = vec![kind, code, 0, 0, 0, 0, 0, 0];
    packet.extend(quoted);
    let sum = checksum(&packet);
    packet[2..4].copy_from_slice(&sum.to_be_bytes());
    let to = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    sendto(socket, &packet, SendFlags::empty(), &to).unwrap();
}

/// The Internet checksum of RFC 1071.
fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or_default()));
    let sum: u32 = words.sum();
    let folded = (sum & 0xFFFF) + (sum >> 16);
    !((folded & 0xFFFF) + (folded >> 16)) as u16
}

const EXTENSIONS: [&[u8]; 3] = [&[], &[DESTINATION_OPTIONS], &[HOP_BY_HOP, DESTINATION_OPTIONS]];

// Scenario: E4, E5
#[test]
fn icmpv6_errors_find_the_port_behind_extension_headers() {
    let Some(socket) = icmp_socket(AddressFamily::INET6) else { return };
    let any = SocketAddr::from((Ipv6Addr::LOCALHOST, 0));
    let mut driver = UdpDriver::bind(any, &UdpConfig::default()).unwrap();
    let source = driver.local_addr().port();
    let dead = SocketAddr::from((Ipv6Addr::LOCALHOST, DEAD_PORT));
    let kinds = [
        ((1, 4), IcmpKind::PortUnreachable),
        ((1, 3), IcmpKind::HostUnreachable),
        ((4, 1), IcmpKind::ProtocolUnreachable),
    ];
    for (number, expected) in kinds {
        for extensions in EXTENSIONS {
            let quoted = homa(source, DEAD_PORT);
            let packet = ipv6(extensions, UDP, &udp(source, DEAD_PORT, &quoted));
            report_v6(&socket, number, &packet);
            assert_eq!(reports(&mut driver), [(expected, dead, quoted)], "{extensions:?}");
        }
    }
}

// Scenario: E4, E5
#[test]
fn over_raw_ip_icmpv6_errors_find_the_port_of_homa_too() {
    let Some(socket) = icmp_socket(AddressFamily::INET6) else { return };
    let any = SocketAddr::from((Ipv6Addr::LOCALHOST, 0));
    let mut driver = match IpDriver::bind(any, &IpConfig::default()) {
        Ok(driver) => driver,
        Err(error) => return println!("SKIPPED: {error}"),
    };
    let source = driver.local_addr().port();
    let dead = SocketAddr::from((Ipv6Addr::LOCALHOST, DEAD_PORT));
    for (number, expected) in
        [((1, 4), IcmpKind::PortUnreachable), ((4, 1), IcmpKind::ProtocolUnreachable)]
    {
        for extensions in EXTENSIONS {
            let quoted = homa(source, DEAD_PORT);
            // One about a packet of another program comes first and is none of ours.
            let foreign = homa(source ^ 1, DEAD_PORT);
            report_v6(&socket, number, &ipv6(extensions, HOMA, &foreign));
            report_v6(&socket, number, &ipv6(extensions, HOMA, &quoted));
            assert_eq!(reports(&mut driver), [(expected, dead, quoted)], "{extensions:?}");
        }
    }
}

// Scenario: E1, E2, E3
#[test]
fn icmp_errors_find_the_port_that_they_quote() {
    let Some(socket) = icmp_socket(AddressFamily::INET) else { return };
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let mut driver = UdpDriver::bind(any, &UdpConfig::default()).unwrap();
    let source = driver.local_addr().port();
    let kinds = [
        ((3, 3), IcmpKind::PortUnreachable),
        ((3, 2), IcmpKind::ProtocolUnreachable),
        ((3, 1), IcmpKind::HostUnreachable),
        ((3, 13), IcmpKind::HostUnreachable),
    ];
    for (number, expected) in kinds {
        for port in [DEAD_PORT, 4000] {
            let quoted = homa(source, port);
            report_v4(&socket, number, &udp(source, port, &quoted));
            let to = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
            assert_eq!(reports(&mut driver), [(expected, to, quoted)], "{number:?}");
        }
    }
}
