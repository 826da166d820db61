//! The measured facts about UDP sockets that the driver rests on, on loopback.

use super::*;
use crate::poll::{PollFd, poll_fds};
use std::io::IoSlice;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

fn bind(address: &str) -> UdpSocket {
    UdpSocket::bind(address.parse().unwrap()).unwrap()
}

fn address(socket: &UdpSocket) -> SocketAddr {
    socket.local_addr().unwrap()
}

/// The address of `socket` with the unspecified IP replaced.
fn at(ip: impl Into<IpAddr>, socket: &UdpSocket) -> SocketAddr {
    SocketAddr::new(ip.into(), address(socket).port())
}

fn wait(socket: &UdpSocket) {
    let mut fds = [PollFd::new(socket.as_fd(), true, false)];
    assert_eq!(poll_fds(&mut fds, Some(Duration::from_secs(2))).unwrap(), 1, "nothing came");
}

fn receive(socket: &UdpSocket) -> (Received, Vec<u8>) {
    wait(socket);
    let mut buffer = vec![0; 65_536];
    let received = socket.recv(&mut buffer, &mut Beside::new()).unwrap().unwrap();
    buffer.truncate(received.len);
    (received, buffer)
}

fn send(socket: &UdpSocket, to: SocketAddr, bytes: &[u8]) -> io::Result<usize> {
    socket.send(to, None, 0, None, &[IoSlice::new(bytes)])
}

fn errno<T: std::fmt::Debug>(result: io::Result<T>) -> i32 {
    result.unwrap_err().raw_os_error().unwrap()
}

/// Sends a train of 40 segments of 156 bytes, each gathered from a header and a payload.
fn train_arrives_as_one_batch(sender: &UdpSocket, receiver: &UdpSocket, to: SocketAddr) {
    let headers: Vec<[u8; 60]> = (0..40).map(|i| [i; 60]).collect();
    let payloads: Vec<[u8; 96]> = (0..40).map(|i| [100 + i; 96]).collect();
    let mut slices = Vec::new();
    for (header, payload) in headers.iter().zip(&payloads) {
        slices.push(IoSlice::new(header));
        slices.push(IoSlice::new(payload));
    }
    let sent = sender.send(to, None, 0, Some(156), &slices).unwrap();
    assert_eq!(sent, 40 * 156);
    let (received, bytes) = receive(receiver);
    assert_eq!((received.len, received.gro_segment_bytes), (40 * 156, Some(156)));
    assert!(!received.truncated);
    assert_eq!(received.remote.port(), address(sender).port());
    for (i, packet) in bytes.chunks(156).enumerate() {
        assert_eq!(packet[..60], headers[i]);
        assert_eq!(packet[60..], payloads[i]);
    }
}

#[test]
fn a_train_arrives_as_one_batch_over_ipv4() {
    let (sender, receiver) = (bind("127.0.0.1:0"), bind("127.0.0.1:0"));
    assert!(sender.gso_supported() && receiver.gro_supported());
    train_arrives_as_one_batch(&sender, &receiver, address(&receiver));
}

#[test]
fn a_train_arrives_as_one_batch_over_ipv6() {
    let (sender, receiver) = (bind("[::1]:0"), bind("[::1]:0"));
    train_arrives_as_one_batch(&sender, &receiver, address(&receiver));
}

#[test]
fn a_train_arrives_as_one_batch_between_dual_stack_sockets_over_either_family() {
    let (sender, receiver) = (bind("[::]:0"), bind("[::]:0"));
    train_arrives_as_one_batch(&sender, &receiver, at(Ipv4Addr::LOCALHOST, &receiver));
    train_arrives_as_one_batch(&sender, &receiver, at(Ipv6Addr::LOCALHOST, &receiver));
}

#[test]
fn a_short_last_segment_is_allowed() {
    let (sender, receiver) = (bind("127.0.0.1:0"), bind("127.0.0.1:0"));
    let bytes = [7; 250];
    sender.send(address(&receiver), None, 0, Some(100), &[IoSlice::new(&bytes)]).unwrap();
    let (received, _) = receive(&receiver);
    assert_eq!((received.len, received.gro_segment_bytes), (250, Some(100)));
}

#[test]
fn segments_and_bytes_of_a_train_have_the_stated_limits() {
    let (sender, receiver) = (bind("127.0.0.1:0"), bind("127.0.0.1:0"));
    let bytes = vec![0; 65_536];
    let to = address(&receiver);
    let try_send = |length: usize, segment: u16| {
        sender.send(to, None, 0, Some(segment), &[IoSlice::new(&bytes[..length])])
    };
    assert_eq!(try_send(GSO_SEGMENTS_MAX * 100, 100).unwrap(), GSO_SEGMENTS_MAX * 100);
    assert_eq!(errno(try_send((GSO_SEGMENTS_MAX + 1) * 100, 100)), libc::EINVAL);
    assert_eq!(try_send(DATAGRAM_PAYLOAD_MAX_BYTES, 1_400).unwrap(), DATAGRAM_PAYLOAD_MAX_BYTES);
    assert_eq!(errno(try_send(DATAGRAM_PAYLOAD_MAX_BYTES + 1, 1_400)), libc::EMSGSIZE);
}

#[test]
fn pieces_are_gathered_and_too_many_refused() {
    let (sender, receiver) = (bind("127.0.0.1:0"), bind("127.0.0.1:0"));
    let slices = [IoSlice::new(b"ho"), IoSlice::new(b""), IoSlice::new(b"ma")];
    sender.send(address(&receiver), None, 0, None, &slices).unwrap();
    let (received, bytes) = receive(&receiver);
    assert_eq!(bytes, b"homa");
    assert_eq!(received.gro_segment_bytes, None);

    let piece = IoSlice::new(b"x");
    assert_eq!(sender.send(address(&receiver), None, 0, None, &[piece; 1_024]).unwrap(), 1_024);
    let error = sender.send(address(&receiver), None, 0, None, &[piece; 1_025]).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
}

// Scenario: W17
#[test]
fn marks_are_seen_by_the_receiver_and_change_per_packet() {
    for (from, to_bind, ip) in [
        ("127.0.0.1:0", "127.0.0.1:0", IpAddr::from(Ipv4Addr::LOCALHOST)),
        ("[::1]:0", "[::1]:0", Ipv6Addr::LOCALHOST.into()),
        ("[::]:0", "[::]:0", Ipv4Addr::LOCALHOST.into()),
        ("[::]:0", "[::]:0", Ipv6Addr::LOCALHOST.into()),
    ] {
        let (sender, receiver) = (bind(from), bind(to_bind));
        receiver.set_receive_tos(true).unwrap();
        for (count, tos) in [46 << 2, 0, 10 << 2, 10 << 2, 63 << 2].into_iter().enumerate() {
            if count == 2 {
                sender.set_default_tos(tos).unwrap();
            }
            let to = at(ip, &receiver);
            sender.send(to, None, tos, None, &[IoSlice::new(b"x")]).unwrap();
            assert_eq!(receive(&receiver).0.tos, tos, "from {from} to {to}");
        }
    }
}

#[test]
fn a_reply_leaves_from_the_address_that_was_asked() {
    for server in ["0.0.0.0:0", "[::]:0"] {
        let (client, server) = (bind("127.0.0.1:0"), bind(server));
        send(&client, at(Ipv4Addr::new(127, 0, 0, 2), &server), b"ask").unwrap();
        let (asked, _) = receive(&server);
        assert_eq!(asked.local_ip, IpAddr::from(Ipv4Addr::new(127, 0, 0, 2)));
        assert_eq!(asked.remote, address(&client));
        let source = Source { ip: asked.local_ip, interface: 0 };
        server.send(asked.remote, Some(source), 0, None, &[IoSlice::new(b"reply")]).unwrap();
        let (reply, _) = receive(&client);
        assert_eq!(reply.remote.ip(), asked.local_ip);
    }
}

#[test]
fn an_ipv6_reply_takes_its_source_and_interface() {
    let (client, server) = (bind("[::1]:0"), bind("[::]:0"));
    send(&client, at(Ipv6Addr::LOCALHOST, &server), b"ask").unwrap();
    let (asked, _) = receive(&server);
    assert_eq!(asked.local_ip, IpAddr::from(Ipv6Addr::LOCALHOST));
    let source = Source { ip: asked.local_ip, interface: asked.interface };
    server.send(asked.remote, Some(source), 0, None, &[IoSlice::new(b"reply")]).unwrap();
    assert_eq!(receive(&client).0.remote, at(Ipv6Addr::LOCALHOST, &server));
}

#[test]
fn a_source_of_the_other_family_is_refused() {
    let socket = bind("[::]:0");
    let source = Source { ip: Ipv6Addr::LOCALHOST.into(), interface: 0 };
    let to = at(Ipv4Addr::LOCALHOST, &socket);
    let error = socket.send(to, Some(source), 0, None, &[IoSlice::new(b"x")]).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
}

#[test]
fn an_ipv4_socket_refuses_ipv6_destinations() {
    let (v4, v6) = (bind("127.0.0.1:0"), bind("[::1]:0"));
    assert_eq!(send(&v4, address(&v6), b"x").unwrap_err().kind(), io::ErrorKind::InvalidInput);
}

/// A local address without a listener.
fn closed(ip: &str) -> SocketAddr {
    address(&bind(&format!("{ip}:0")))
}

fn wait_for_error(socket: &UdpSocket) -> SocketError {
    let mut fds = [PollFd::new(socket.as_fd(), false, false)];
    assert_eq!(poll_fds(&mut fds, Some(Duration::from_secs(2))).unwrap(), 1, "no report came");
    assert!(fds[0].is_failed());
    socket.read_error().unwrap().unwrap()
}

#[test]
fn an_unreachable_port_is_reported_with_its_destination_and_the_packet() {
    for (bind_at, ip, origin) in [
        ("127.0.0.1:0", "127.0.0.1", ErrorOrigin::Icmp),
        ("[::1]:0", "[::1]", ErrorOrigin::Icmp6),
        ("[::]:0", "127.0.0.1", ErrorOrigin::Icmp),
        ("[::]:0", "[::1]", ErrorOrigin::Icmp6),
    ] {
        let (socket, destination) = (bind(bind_at), closed(ip));
        send(&socket, destination, &[9; 200]).unwrap();
        let error = wait_for_error(&socket);
        assert_eq!((error.errno, error.origin), (libc::ECONNREFUSED, origin), "{bind_at} {ip}");
        assert_eq!((error.destination, error.offender), (destination, Some(destination.ip())));
        assert_eq!(error.quoted(), [9; QUOTED_BYTES]);
        assert_eq!(error.mtu, None);
        assert_eq!(socket.read_error().unwrap(), None);
    }
}

#[test]
fn a_pending_report_fails_the_next_send_to_a_healthy_peer_until_it_is_read() {
    let (sender, healthy) = (bind("127.0.0.1:0"), bind("127.0.0.1:0"));
    let dead = closed("127.0.0.1");
    send(&sender, dead, b"x").unwrap();
    let mut fds = [PollFd::new(sender.as_fd(), false, false)];
    poll_fds(&mut fds, Some(Duration::from_secs(2))).unwrap();
    assert_eq!(errno(send(&sender, address(&healthy), b"lost")), libc::ECONNREFUSED);
    assert_eq!(healthy.recv(&mut [0; 16], &mut Beside::new()).unwrap(), None);
    assert_eq!(sender.read_error().unwrap().unwrap().destination, dead);
    send(&sender, address(&healthy), b"sent").unwrap();
    assert_eq!(receive(&healthy).1, b"sent");
}

#[test]
fn a_receive_does_not_fail_once_the_report_was_read() {
    let socket = bind("127.0.0.1:0");
    send(&socket, closed("127.0.0.1"), b"x").unwrap();
    wait_for_error(&socket);
    assert_eq!(socket.recv(&mut [0; 16], &mut Beside::new()).unwrap(), None);
}

#[test]
fn too_long_a_datagram_fails_and_its_report_tells_the_mtu() {
    let socket = bind("[::1]:0");
    let mtu = path_mtu(Ipv6Addr::LOCALHOST.into()).unwrap();
    assert!(mtu >= 1_280);
    // One byte more than fits behind the IPv6 and the UDP header.
    let bytes = vec![0; mtu as usize - 40 - 8 + 1];
    assert_eq!(errno(send(&socket, address(&socket), &bytes)), libc::EMSGSIZE);
    let error = socket.read_error().unwrap().unwrap();
    assert_eq!((error.errno, error.origin), (libc::EMSGSIZE, ErrorOrigin::Local));
    assert_eq!((error.mtu, error.destination.port()), (Some(mtu), address(&socket).port()));
    send(&socket, address(&socket), &bytes[1..]).unwrap();
}

#[test]
fn beyond_what_a_datagram_can_be_there_is_no_report() {
    let socket = bind("127.0.0.1:0");
    assert_eq!(errno(send(&socket, address(&socket), &[0; 65_536])), libc::EMSGSIZE);
    assert_eq!(socket.read_error().unwrap(), None);
}

#[test]
fn the_receive_buffer_is_read_back() {
    let socket = bind("127.0.0.1:0");
    let before = socket.receive_buffer().unwrap();
    assert!(before > 0);
    assert_eq!(socket.set_receive_buffer(100_000).unwrap(), 100_000);
    let large = socket.set_receive_buffer(8 << 20).unwrap();
    assert_eq!(large, socket.receive_buffer().unwrap());
    assert!(large >= before.min(8 << 20));
    // Asking for more than can be is no error.
    socket.set_receive_buffer(usize::MAX).unwrap();
}

#[test]
fn drops_for_lack_of_buffer_are_counted() {
    let (sender, receiver) = (bind("127.0.0.1:0"), bind("127.0.0.1:0"));
    receiver.set_receive_buffer(4_608).unwrap();
    for _ in 0..50 {
        send(&sender, address(&receiver), &[0; 1_000]).unwrap();
    }
    let mut buffer = [0; 2_048];
    while let Some(received) = receiver.recv(&mut buffer, &mut Beside::new()).unwrap() {
        assert_eq!(received.len, 1_000);
    }
    send(&sender, address(&receiver), b"after").unwrap();
    let (received, _) = receive(&receiver);
    assert!(received.drops_total.unwrap() > 30, "{received:?}");
}

#[test]
fn a_small_buffer_truncates_and_says_so() {
    let (sender, receiver) = (bind("127.0.0.1:0"), bind("127.0.0.1:0"));
    send(&sender, address(&receiver), &[1; 100]).unwrap();
    wait(&receiver);
    let received = receiver.recv(&mut [0; 10], &mut Beside::new()).unwrap().unwrap();
    assert_eq!((received.len, received.truncated), (10, true));
}

#[test]
fn an_empty_datagram_is_not_nothing() {
    let (sender, receiver) = (bind("127.0.0.1:0"), bind("127.0.0.1:0"));
    assert_eq!(receiver.recv(&mut [0; 16], &mut Beside::new()).unwrap(), None);
    send(&sender, address(&receiver), b"").unwrap();
    assert_eq!(receive(&receiver).0.len, 0);
}

#[test]
fn sockets_may_share_an_address_only_when_both_ask_for_it() {
    let first = UdpSocket::bind_shared("127.0.0.1:0".parse().unwrap()).unwrap();
    UdpSocket::bind_shared(address(&first)).unwrap();
    let error = UdpSocket::bind(address(&first)).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
}

#[test]
fn a_mapped_address_binds_the_ipv4_one() {
    let socket = bind("[::ffff:127.0.0.1]:0");
    assert_eq!(socket.family(), Family::V4);
    assert_eq!(address(&socket).ip(), IpAddr::from(Ipv4Addr::LOCALHOST));
}

#[test]
fn nothing_is_queued_after_loopback_has_delivered() {
    let (sender, receiver) = (bind("127.0.0.1:0"), bind("127.0.0.1:0"));
    send(&sender, address(&receiver), &[0; 1_000]).unwrap();
    receive(&receiver);
    assert_eq!(sender.queued_tx_bytes().unwrap(), 0);
}

#[test]
fn the_source_of_loopback_is_loopback() {
    let ip = IpAddr::from(Ipv4Addr::LOCALHOST);
    assert_eq!(source_ip(ip).unwrap(), ip);
}

#[test]
fn a_connected_socket_keeps_its_port_and_hears_everybody_again_afterwards() {
    for (bind_to, ip) in [("0.0.0.0:0", "127.0.0.1"), ("[::]:0", "127.0.0.1"), ("[::]:0", "::1")] {
        let ip: IpAddr = ip.parse().unwrap();
        let port = address(&bind(bind_to)).port();
        let mut own = bind_to.parse::<SocketAddr>().unwrap();
        own.set_port(port);
        let client = UdpSocket::bind(own).unwrap();
        let (server, other) = (bind("[::]:0"), bind("[::]:0"));
        client.connect(at(ip, &server)).unwrap();
        client.send_connected(at(ip, &server), 0, None, &[IoSlice::new(b"a")]).unwrap();
        assert_eq!(receive(&server).1, b"a");
        other.send(at(ip, &client), None, 0, None, &[IoSlice::new(b"unheard")]).unwrap();
        server.send(at(ip, &client), None, 0, None, &[IoSlice::new(b"b")]).unwrap();
        assert_eq!(receive(&client).1, b"b");

        client.disconnect().unwrap();
        assert_eq!(address(&client).port(), port);
        // The other one has been told that nobody is here; a third one has not.
        bind("[::]:0").send(at(ip, &client), None, 0, None, &[IoSlice::new(b"c")]).unwrap();
        assert_eq!(receive(&client).1, b"c");
    }
}
