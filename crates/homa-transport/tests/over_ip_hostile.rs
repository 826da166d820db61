//! Raw IP packets that are not meant: fragments, garbage, addresses that no host has.

mod common;

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use common::craft::{Fragment, send_crafted};
use common::raw::{Sink, client, receive_until, request, send, server};
use common::{at_client, bind_at, serve_echo, server_ip_of_each_version};
use homa_io::driver::Driver;

/// Where a packet of a server comes from at the client's host.
fn client_ip(server: IpAddr) -> IpAddr {
    match server {
        IpAddr::V4(_) => "10.146.0.2".parse().unwrap(),
        IpAddr::V6(_) => "fd00:92::2".parse().unwrap(),
    }
}

fn port() -> u16 {
    common::address().port()
}

#[test]
fn a_packet_in_fragments_arrives_whole_or_not_at_all() {
    let mut server = server(port()).unwrap();
    let mut client = client();
    for ip in server_ip_of_each_version() {
        let to = SocketAddr::new(ip, server.local_addr().port());
        let whole = request(&client, to, true, 2_500);
        let (first, second) = whole.split_at(1_200);
        let from = client_ip(ip);
        at_client(|| {
            let last = |id| Some(Fragment { id, offset: 1_200, more: false });
            let start = |id| Some(Fragment { id, offset: 0, more: true });
            // Without a beginning, without an end, and in the wrong order.
            send_crafted(from, ip, last(1), second);
            send_crafted(from, ip, start(2), first);
            send_crafted(from, ip, last(3), second);
            send_crafted(from, ip, start(3), first);
        });
        let end = request(&client, to, true, 1);
        send(&mut client, to, None, 0, &end, 1).unwrap();
        let mut sink = Sink::default();
        assert!(receive_until(&mut server, &mut sink, |sink| {
            sink.packets.iter().any(|(_, packet)| *packet == end)
        }));
        let received: Vec<_> = sink.packets.iter().map(|(_, packet)| packet).collect();
        assert!(received == [&whole, &end], "{} packets", received.len());
        assert_eq!(sink.packets[0].0.path.local_ip, Some(ip));
    }
}

#[test]
fn nothing_is_taken_from_or_at_addresses_that_are_no_hosts() {
    let mut server = server(port()).unwrap();
    let mut client = client();
    let server_port = server.local_addr().port();
    for ip in server_ip_of_each_version() {
        let to = SocketAddr::new(ip, server_port);
        let packet = request(&client, to, true, 1);
        let (sources, destinations): (&[&str], &[&str]) = match ip {
            IpAddr::V4(_) => {
                (&["127.0.0.1", "224.0.0.1", "255.255.255.255"], &["10.146.0.255", "224.0.0.1"])
            }
            IpAddr::V6(_) => (&["::", "::1", "ff02::1", "::ffff:10.146.0.2"], &["ff02::1"]),
        };
        let before = server.stats().martian_packets;
        at_client(|| {
            for source in sources {
                send_crafted(source.parse().unwrap(), ip, None, &packet);
            }
            for destination in destinations {
                send_crafted(client_ip(ip), destination.parse().unwrap(), None, &packet);
            }
        });
        let end = request(&client, to, true, 2);
        send(&mut client, to, None, 0, &end, 1).unwrap();
        let mut sink = Sink::default();
        assert!(receive_until(&mut server, &mut sink, |sink| !sink.packets.is_empty()));
        let received: Vec<_> = sink.packets.iter().map(|(meta, _)| meta.path.remote).collect();
        assert_eq!(received, [SocketAddr::new(client_ip(ip), client.local_addr().port())]);
        assert!(sink.packets[0].1 == end);
        // What the system lets through: the broadcast, the address that is none.
        assert!(server.stats().martian_packets > before, "{ip}");
        assert_eq!(server.stats().answered_by_icmp, 0);
    }
}

/// Packets to the port of `to` that are none of Homa's: of types there are not, and cut off.
fn garbage(whole: &[u8]) -> Vec<Vec<u8>> {
    let known = 0x10..=0x18;
    let of_type = |code: u8| {
        let mut packet = whole.to_vec();
        packet[11] = code;
        packet
    };
    let unknown = (0..=u8::MAX).filter(|code| !known.contains(code)).map(of_type);
    // Headers have 28 bytes at least, those of data 52 and a byte of it.
    let types = known.clone().map(of_type);
    let cut = types.flat_map(|packet| (4..28).map(move |length| packet[..length].to_vec()));
    let cut_data = (28..52).map(|length| whole[..length].to_vec());
    unknown.chain(cut).chain(cut_data).collect()
}

#[test]
fn garbage_is_counted_and_nothing_is_sent_back() {
    for ip in server_ip_of_each_version() {
        let endpoint = bind_at(SocketAddr::new(ip, port())).unwrap();
        serve_echo(endpoint.clone());
        let to = endpoint.local_addr();
        let mut client = client();
        let whole = request(&client, to, false, 100);
        let packets = garbage(&whole);
        for packet in &packets {
            send(&mut client, to, None, 0, packet, 1).unwrap();
        }
        let until = Instant::now() + Duration::from_secs(10);
        while endpoint.stats().engine.dropped_malformed < packets.len() as u64 {
            assert!(Instant::now() < until, "{:?}", endpoint.stats().engine);
            std::thread::sleep(Duration::from_millis(1));
        }
        // The response to what is meant is the first thing that comes back.
        send(&mut client, to, None, 0, &whole, 1).unwrap();
        let mut sink = Sink::default();
        assert!(receive_until(&mut client, &mut sink, |sink| sink.packets.len() > 1));
        assert!(sink.errors.is_empty());
        let stats = endpoint.stats().engine;
        assert_eq!(stats.dropped_malformed, packets.len() as u64);
        assert_eq!(stats.packets_received, packets.len() as u64 + 1);
        let ids: Vec<_> = sink.packets.iter().map(|(_, packet)| &packet[20..28]).collect();
        assert!(ids.contains(&&3_u64.to_be_bytes()[..]), "{ids:?}");
    }
}
