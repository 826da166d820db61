//! Packets that look like TCP segments, between two network namespaces: what travels, who
//! understands it, and that TCP itself is left alone.
#![cfg(not(loom))]

mod common;
mod recorder;

use std::fs::File;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::{at, at_client, at_server, pattern, server_ip_of_each_version};
use homa_capture::{CaptureReader, Carriage as Seen, Checksum};
use homa_core::{IcmpKind, RxMeta};
use homa_io::driver::{Driver, PacketSink, RxStatus};
use homa_io::ip::{IpConfig, IpDriver, TCP_FORM_RULES, TcpForm};
use homa_sys::address::Family;
use homa_sys::raw::{Filter, Outgoing};
use homa_sys::{PollFd, RawSocket, Source, poll_fds};
use homa_transport::{Carriage, Endpoint, EndpointBuilder};
use homa_wire::Body;
use recorder::{Recorder, rsts_sent, segments_received};

const TCP: u8 = 6;

/// Takes packets.
#[derive(Default)]
struct Sink(Vec<(RxMeta, Vec<u8>)>);

impl PacketSink for Sink {
    fn packet(&mut self, meta: &RxMeta, packet: &[u8]) {
        self.0.push((*meta, packet.to_vec()));
    }
    fn icmp_error(&mut self, _: IcmpKind, _: SocketAddr, _: &[u8]) {}
    fn path_mtu(&mut self, _: SocketAddr, _: u32) {}
}

fn builder(encapsulated: bool) -> EndpointBuilder {
    EndpointBuilder::new().carriage(Carriage::Ip).tcp_encapsulated(encapsulated)
}

/// Closes it also when a test fails, so that nobody waits for it.
struct Closed<'a>(&'a Endpoint);

impl Drop for Closed<'_> {
    fn drop(&mut self) {
        self.0.close().wait();
    }
}

/// An echo server that runs until `client` is done.
fn with_echo<T>(server: &Endpoint, client: impl FnOnce() -> T) -> T {
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while let Ok(request) = server.accept().wait() {
                let body = request.body().clone();
                let _ = request.reply(body).wait();
            }
        });
        let _closed = Closed(server);
        client()
    })
}

/// Receives until nothing came for a while.
fn receive_all(driver: &mut IpDriver, expected: usize) -> Vec<(RxMeta, Vec<u8>)> {
    let mut sink = Sink::default();
    loop {
        let mut fds = [PollFd::new(driver.as_fd(), true, false)];
        let patience = if sink.0.len() < expected { 10_000 } else { 300 };
        if poll_fds(&mut fds, Some(Duration::from_millis(patience))).unwrap() == 0 {
            return sink.0;
        }
        while driver.receive(&mut sink).unwrap() == RxStatus::More {}
    }
}

/// Sends `packet` as it is in an IP packet of protocol 6.
fn send_as_tcp(from: IpAddr, to: IpAddr, packet: &[u8]) {
    let socket = RawSocket::open(Family::of(to), TCP, &Filter::nothing()).unwrap();
    let mut packets = Outgoing::new();
    packets.push(|pieces| pieces.push(packet));
    let source = Some(Source { ip: from, interface: 0 });
    socket.send(SocketAddr::new(to, 0), source, 0xC0, &packets).unwrap();
}

/// The packets of a recording from the client to the server, and the two addresses.
fn recorded(name: &str) -> (IpAddr, IpAddr, u16, Vec<Vec<u8>>) {
    let path = format!("{}/../../testdata/captures/{name}.pcap", env!("CARGO_MANIFEST_DIR"));
    let mut reader = CaptureReader::new(File::open(path).unwrap()).unwrap();
    let (mut ends, mut packets) = (None, Vec::new());
    while let Some(frame) = reader.next_frame() {
        let frame = frame.unwrap();
        recorder::decode(frame.link, frame.data, |frame| {
            assert_eq!(frame.carriage, Seen::Tcp);
            let port = frame.header.common.destination_port;
            if port < 32_768 {
                ends = Some((frame.source, frame.destination, port));
                packets.push(frame.bytes.to_vec());
            }
        });
    }
    let (from, to, port) = ends.unwrap();
    (from, to, port, packets)
}

/// A host of its own with these addresses; `None` where that cannot be made.
fn host_with(addresses: &[IpAddr]) -> Option<File> {
    let host = common::new_host()?;
    at(&host, || {
        for ip in addresses {
            // An address that is still tentative cannot be sent from.
            let (length, flags) = if ip.is_ipv4() { (32, "") } else { (128, " nodad") };
            let line = format!("addr add {ip}/{length} dev lo{flags}");
            assert!(Command::new("ip").args(line.split(' ')).status().unwrap().success());
            assert!(reaches_itself(*ip), "{ip}");
        }
    });
    Some(host)
}

/// Whether this host reaches itself at `ip`, soon: the kernel adds the route of an IPv6 address
/// some time after the address.
fn reaches_itself(ip: IpAddr) -> bool {
    let socket = UdpSocket::bind((ip, 0)).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    let sends = |_: &i32| socket.send_to(b"?", socket.local_addr().unwrap()).is_ok();
    (0..500).filter(sends).any(|_| socket.recv(&mut [0]).is_ok())
}

/// Loads the rules into the network namespace of this thread. `false`, said aloud, without `nft`.
fn load_rules() -> bool {
    let child = Command::new("nft").args(["-f", "-"]).stdin(Stdio::piped()).spawn();
    match child {
        Ok(mut child) => {
            child.stdin.take().unwrap().write_all(TCP_FORM_RULES.as_bytes()).unwrap();
            assert!(child.wait().unwrap().success(), "nft refuses the rules");
            true
        }
        Err(error) => {
            let must = std::env::var("CI").is_ok_and(|ci| ci == "true");
            assert!(!must, "nft (package nftables): {error}");
            let _ = writeln!(std::io::stdout(), "SKIPPED: nft (package nftables): {error}");
            false
        }
    }
}

// Scenario: W14, W15
#[test]
fn each_end_sends_its_own_form_and_understands_both() {
    for ip in server_ip_of_each_version() {
        for (client_form, server_form) in [(true, true), (true, false), (false, true)] {
            let address = SocketAddr::new(ip, common::address().port());
            let recorder = Recorder::start();
            let (server, client) = (
                at_server(|| builder(server_form).bind(address)).unwrap(),
                at_client(|| builder(client_form).client()).unwrap(),
            );
            let client_port = client.local_addr().port();
            let rsts = rsts_sent();
            with_echo(&server, || {
                for length in [1, 100, 10_000, 300_000] {
                    let body = pattern(length);
                    assert_eq!(client.call(address, body.clone()).wait().unwrap(), body[..]);
                }
            });
            drop(client);
            assert_eq!(rsts_sent(), rsts, "the hosts' TCP answers nothing");
            let recorded = recorder.stop();
            let mut seen = [0, 0];
            recorded.homa(|frame| {
                let common = frame.header.common;
                let from_client = common.source_port == client_port;
                if from_client || common.destination_port == client_port {
                    let is_tcp = if from_client { client_form } else { server_form };
                    seen[usize::from(from_client)] += 1;
                    check(frame, is_tcp);
                }
            });
            assert!(seen.iter().all(|&packets| packets > 200), "{seen:?}");
            assert_eq!(recorded.rsts(), 0, "no RST travels but in Homa packets");
        }
    }
}

/// What a packet in that form looks like.
fn check(frame: &homa_capture::Frame<'_>, is_tcp: bool) {
    let common = &frame.header.common;
    if !is_tcp {
        assert_eq!(frame.carriage, Seen::Ip);
        return;
    }
    assert_eq!((frame.carriage, frame.checksum), (Seen::Tcp, Checksum::Correct));
    assert_eq!((common.flags, common.urgent), (0x06, 0xB97D));
    let is_data = matches!(frame.header.body, Body::Data(_));
    assert_eq!(common.doff, if is_data { 0xE0 } else { 0x50 });
}

// Scenario: W16
#[test]
fn ordinary_tcp_between_the_same_ports_goes_on_undisturbed() {
    for ip in server_ip_of_each_version() {
        let address = SocketAddr::new(ip, common::address().port());
        let recorder = Recorder::start();
        let rsts = rsts_sent();
        let server = at_server(|| builder(true).bind(address)).unwrap();
        let client = at_client(|| builder(true).client()).unwrap();
        let listener = at_server(|| TcpListener::bind(address)).unwrap();
        let mut stream = at_client(|| TcpStream::connect(address)).unwrap();
        let (mut peer, _) = listener.accept().unwrap();
        let bytes = pattern(4_000_000);
        std::thread::scope(|scope| {
            let tcp = scope.spawn(|| {
                let mut received = vec![0; bytes.len()];
                peer.read_exact(&mut received).unwrap();
                received
            });
            scope.spawn(|| stream.write_all(&bytes).unwrap());
            with_echo(&server, || {
                let mut calls = 0;
                while !tcp.is_finished() || calls < 20 {
                    let body = pattern(30_000);
                    assert_eq!(client.call(address, body.clone()).wait().unwrap(), body[..]);
                    calls += 1;
                }
            });
            assert!(tcp.join().unwrap() == bytes);
        });
        assert_eq!(rsts_sent(), rsts);
        assert_eq!(recorder.stop().rsts(), 0);
    }
}

// Scenario: W15, W16
#[test]
fn packets_recorded_from_linux_are_taken_as_they_are_and_damaged_ones_and_tcp_are_not() {
    for name in ["hijack-ip4-10000", "hijack-ip6-10000", "hijack-gso-ip4-60000"] {
        let (from, to, port, packets) = recorded(name);
        let Some(host) = host_with(&[from, to]) else {
            return;
        };
        at(&host, || {
            let everywhere = SocketAddr::new("::".parse().unwrap(), port);
            let mut driver = IpDriver::bind(everywhere, &IpConfig::default()).unwrap();
            let before = segments_received();
            for packet in &packets {
                send_as_tcp(from, to, packet);
                let mut damaged = packet.clone();
                *damaged.last_mut().unwrap() ^= 1;
                // These were recorded before the network card wrote the sum, which forgives such
                // damage.
                damaged[16] ^= 1;
                send_as_tcp(from, to, &damaged);
                let mut ordinary = packet.clone();
                ordinary[13] = 0x04;
                send_as_tcp(from, to, &ordinary);
            }
            let received = receive_all(&mut driver, packets.len());
            assert_eq!(received.len(), packets.len(), "{name}");
            for ((meta, received), packet) in received.iter().zip(&packets) {
                assert_eq!(received, packet);
                assert_eq!((meta.path.remote.ip(), meta.path.local_ip), (from, Some(to)));
                assert_eq!((meta.dscp, meta.path.local_port), (0xC0 >> 2, port));
            }
            let stats = driver.stats();
            assert_eq!(stats.received_tcp_packets, packets.len() as u64);
            assert_eq!(stats.damaged_packets, packets.len() as u64);
            assert_eq!(stats.stray_packets, 0);
            // Without the rule the host's own TCP sees all three, and says nothing.
            assert_eq!(segments_received() - before, 3 * packets.len() as u64);
        });
    }
}

// Scenario: W15, W16
#[test]
fn with_the_rule_tcp_sees_none_of_them_and_everybody_understands_them() {
    for name in ["hijack-ip4-10000", "hijack-ip6-10000"] {
        let (from, to, port, packets) = recorded(name);
        let Some(host) = host_with(&[from, to]) else {
            return;
        };
        at(&host, || {
            if !load_rules() {
                return;
            }
            let everywhere = SocketAddr::new("::".parse().unwrap(), port);
            let without = IpConfig::default().tcp_form(TcpForm::Ignored);
            let mut driver = IpDriver::bind(everywhere, &without).unwrap();
            let native =
                RawSocket::open(Family::V4, 146, &Filter::to_port(Family::V4, port)).unwrap();
            let before = segments_received();
            for packet in &packets {
                send_as_tcp(from, to, packet);
            }
            let received = receive_all(&mut driver, packets.len());
            assert_eq!(received.len(), packets.len(), "{name}");
            for ((meta, received), packet) in received.iter().zip(&packets) {
                // All but the checksum, which the kernel adapts to the other protocol number.
                assert_eq!((&received[..16], &received[18..]), (&packet[..16], &packet[18..]));
                assert_eq!((meta.path.remote.ip(), meta.path.local_ip), (from, Some(to)));
            }
            assert_eq!(segments_received(), before, "TCP has not seen them");
            if from.is_ipv4() {
                let mut bytes = [0; 2_000];
                let (length, _) =
                    rustix::net::recv(&native, &mut bytes[..], rustix::net::RecvFlags::empty())
                        .unwrap();
                assert!(length > 20 && bytes[9] == 146);
                assert_eq!(recorder::header_sum(&bytes[..20]), 0xFFFF, "the IP header stays valid");
            }
            // TCP itself is as it was.
            let listener = TcpListener::bind((to, port)).unwrap();
            let mut stream = TcpStream::connect((to, port)).unwrap();
            let (mut peer, _) = listener.accept().unwrap();
            stream.write_all(b"as ever").unwrap();
            let mut bytes = [0; 7];
            peer.read_exact(&mut bytes).unwrap();
            assert_eq!(&bytes, b"as ever");
            assert!(segments_received() > before);
        });
    }
}

#[test]
fn who_does_not_want_them_does_not_get_them_without_the_rule() {
    for ip in server_ip_of_each_version() {
        let address = SocketAddr::new(ip, common::address().port());
        let without = builder(false).tcp_understood(false);
        let _server = at_server(|| without.bind(address)).unwrap();
        let client = at_client(|| builder(true).client()).unwrap();
        let start = Instant::now();
        assert!(client.call(address, "hello").timeout(Duration::from_millis(300)).wait().is_err());
        assert!(start.elapsed() >= Duration::from_millis(300), "nobody says anything");
    }
}
