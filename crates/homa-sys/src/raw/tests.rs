//! The facts about raw sockets that the driver rests on, on loopback, with a protocol for
//! experiments.

use super::*;
use crate::poll::{PollFd, poll_fds};
use std::io::Write;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

/// RFC 3692: for experiments.
const PROTOCOL: u8 = 253;

/// `None`, said aloud, without the right to open raw sockets.
fn open(family: Family, filter: &Filter) -> Option<RawSocket> {
    match RawSocket::open(family, PROTOCOL, filter) {
        Ok(socket) => Some(socket),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            let must = std::env::var("CI").is_ok_and(|ci| ci == "true");
            // SAFETY: the call has no conditions.
            assert!(!must || unsafe { libc::geteuid() } != 0, "CAP_NET_RAW is missing");
            let _ = writeln!(io::stdout(), "SKIPPED: raw sockets need CAP_NET_RAW");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

fn loopback(family: Family) -> SocketAddr {
    match family {
        Family::V4 => (Ipv4Addr::LOCALHOST, 0).into(),
        Family::V6 => (Ipv6Addr::LOCALHOST, 0).into(),
    }
}

/// A packet of `length` bytes from port 9 to `port`.
fn packet(port: u16, length: usize) -> Vec<u8> {
    let mut bytes = vec![0xAB; length];
    bytes[..2].copy_from_slice(&9_u16.to_be_bytes());
    bytes[2..4].copy_from_slice(&port.to_be_bytes());
    bytes
}

fn send(socket: &RawSocket, family: Family, packets: &[Vec<u8>]) -> usize {
    let mut outgoing = Outgoing::new();
    for bytes in packets {
        let (front, rest) = bytes.split_at(3);
        assert!(
            outgoing.push(|packet| [front, rest].into_iter().for_each(|piece| packet.push(piece)))
        );
    }
    socket.send(loopback(family), None, 0xA0, &outgoing).unwrap()
}

/// Receives all there is, waiting for the first.
fn receive(socket: &RawSocket, batch: &mut RxBatch) -> usize {
    let mut fds = [PollFd::new(socket.as_fd(), true, false)];
    assert_eq!(poll_fds(&mut fds, Some(Duration::from_secs(2))).unwrap(), 1, "nothing came");
    socket.recv(batch, PACKETS_MAX).unwrap()
}

#[test]
fn a_batch_goes_out_and_comes_in_by_one_call_each_without_what_is_for_other_ports() {
    for family in [Family::V4, Family::V6] {
        let Some(socket) = open(family, &Filter::to_port(family, 40)) else {
            return;
        };
        let packets =
            [packet(40, 100), packet(41, 100), packet(40, 4), packet(296, 50), packet(40, 30_000)];
        assert_eq!(send(&socket, family, &packets), 5);
        let mut batch = RxBatch::new(8);
        assert_eq!(receive(&socket, &mut batch), 3);
        for (index, expected) in [0, 2, 4].into_iter().enumerate() {
            let received = batch.packet(index).unwrap();
            assert_eq!(received.payload, packets[expected]);
            assert_eq!(received.meta.remote.ip(), loopback(family).ip());
            assert_eq!(received.meta.local_ip, loopback(family).ip());
            assert_eq!(received.destination, loopback(family).ip());
            assert_eq!((received.meta.tos, received.meta.truncated), (0xA0, false));
            assert!(received.meta.interface > 0);
        }
        assert!(batch.packet(8).is_none());
    }
}

#[test]
fn of_the_packets_to_other_ports_the_beginning_and_the_length_are_known() {
    for family in [Family::V4, Family::V6] {
        let ports: Vec<u16> = (100..164).collect();
        let except: Vec<_> = ports.iter().map(|port| (*port, None)).collect();
        let Some(socket) = open(family, &Filter::except_ports(family, &except, u32::MAX)) else {
            return;
        };
        let mut packets: Vec<_> = [100, 131, 163].map(|port| packet(port, 50)).into();
        packets.push(packet(99, 1_000));
        send(&socket, family, &packets);
        let mut batch = RxBatch::with_room(4, 128);
        // Other tests send to other ports at the same time.
        let count = receive(&socket, &mut batch);
        let found = (0..count).filter_map(|index| batch.packet(index)).find(|received| {
            assert!(
                !ports.contains(&u16::from_be_bytes([received.payload[2], received.payload[3]]))
            );
            received.meta.len == 1_000
        });
        let received = found.unwrap();
        assert!(received.meta.truncated);
        assert!(received.payload.len() >= 100 && packets[3].starts_with(received.payload));
    }
}

#[test]
fn packets_to_a_port_are_left_out_at_the_address_that_is_named_alone() {
    let elsewhere = ["127.0.0.2".parse().unwrap(), "2001:db8::1:2".parse().unwrap()];
    for family in [Family::V4, Family::V6] {
        let here = Some(loopback(family).ip());
        // As many as a filter tells apart: the jumps are not too far.
        let mut except: Vec<_> = (200..260).map(|port| (port, here)).collect();
        except.extend(elsewhere.map(|ip| (270, Some(ip))));
        let Some(socket) = open(family, &Filter::except_ports(family, &except, u32::MAX)) else {
            return;
        };
        let mut batch = RxBatch::new(8);
        // What other tests sent before the filter was in place.
        while socket.recv(&mut batch, PACKETS_MAX).unwrap() > 0 {}
        let packets = [200, 259, 270].map(|port| packet(port, 1_234));
        send(&socket, family, &packets);
        let count = receive(&socket, &mut batch);
        let ours = (0..count).filter_map(|index| batch.packet(index));
        let ours: Vec<_> = ours.filter(|received| received.meta.len == 1_234).collect();
        assert_eq!(ours.len(), 1, "{family:?}");
        assert_eq!(ours[0].payload, packets[2]);
    }
}

#[test]
fn of_packets_with_marks_only_those_with_all_of_them_come() {
    const MARKS: TcpMarks = TcpMarks { flags: 0x06, urgent: 0xB97D };
    for family in [Family::V4, Family::V6] {
        let filters = [
            Filter::tcp_to_port(family, 60, MARKS),
            Filter::tcp_except_ports(family, &[(61, None), (62, None)], u32::MAX, MARKS),
        ];
        for filter in filters {
            let Some(socket) = open(family, &filter) else {
                return;
            };
            let mut batch = RxBatch::new(8);
            // What other tests sent before the filter was in place.
            while socket.recv(&mut batch, PACKETS_MAX).unwrap() > 0 {}
            let mut marked = packet(60, 40);
            marked[13] = MARKS.flags;
            marked[18..20].copy_from_slice(&MARKS.urgent.to_be_bytes());
            let with = |at: usize, byte: u8| {
                let mut packet = marked.clone();
                packet[at] = byte;
                packet
            };
            let others = [with(13, 0x16), with(18, 0xB8), with(19, 0x7C), with(3, 61)];
            let short = marked[..19].to_vec();
            send(&socket, family, &[&others[..], &[short, marked.clone()]].concat());
            assert_eq!(receive(&socket, &mut batch), 1);
            assert_eq!(batch.packet(0).unwrap().payload, marked);
        }
    }
}

#[test]
fn what_is_longer_than_the_path_takes_is_refused_and_not_cut() {
    let Some(socket) = open(Family::V4, &Filter::nothing()) else {
        return;
    };
    let bytes = packet(1, 65_530);
    let mut outgoing = Outgoing::new();
    outgoing.push(|packet| packet.push(&bytes));
    let error = socket.send(loopback(Family::V4), None, 0, &outgoing).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EMSGSIZE));
    // An IPv6 address has no form there.
    let error = socket.send(loopback(Family::V6), None, 0, &outgoing).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
}

#[test]
fn more_packets_or_pieces_than_a_call_takes_are_left_out_whole() {
    let byte = [0];
    let mut outgoing = Outgoing::new();
    assert!(outgoing.push(|packet| (0..500).for_each(|_| packet.push(&byte))));
    assert!(!outgoing.push(|packet| (0..500).for_each(|_| packet.push(&byte))));
    assert!(outgoing.push(|packet| packet.push(&byte)));
    assert_eq!((outgoing.len(), outgoing.is_empty()), (2, false));
    let mut outgoing = Outgoing::new();
    let taken = (0..100).filter(|_| outgoing.push(|packet| packet.push(&byte))).count();
    assert_eq!(taken, PACKETS_MAX);
    let lengths: Vec<usize> = outgoing.packets().map(<[_]>::len).collect();
    assert_eq!(lengths, [1; PACKETS_MAX]);
}

#[test]
fn routes_are_looked_up_again_and_again_by_the_same_socket() {
    let lookup = RouteLookup::new().unwrap();
    for _ in 0..3 {
        for ip in ["127.0.0.1", "::1", "127.0.0.9"] {
            let ip: IpAddr = ip.parse().unwrap();
            let Ok(source) = lookup.source_ip(ip, 0) else {
                // A system without IPv6.
                continue;
            };
            assert_eq!(source, if ip.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { ip });
            assert_eq!(lookup.mtu(ip, 0).unwrap(), crate::path_mtu(ip).unwrap());
        }
    }
}
