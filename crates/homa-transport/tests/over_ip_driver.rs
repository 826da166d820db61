//! The raw IP driver itself, between two network namespaces: ports, refusals, path MTU, what is not
//! meant.

mod common;

use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use common::raw::{Sink, client, receive_until, request, send, server};
use common::{at_client, server_ip_of_each_version};
use homa_core::{IcmpKind, TransmitError};
use homa_io::driver::{Driver, RxStatus, Unsent};
use homa_io::ip::{IpConfig, IpDriver, IpError};
use homa_sys::{PollFd, poll_fds};
use homa_wire::{Body, Header};

fn port() -> u16 {
    common::address().port()
}

#[test]
fn packets_of_both_ip_versions_arrive_with_their_marks_and_addresses() {
    let mut server = server(port()).unwrap();
    let mut client = client();
    let second = common::second_server_ip();
    for ip in server_ip_of_each_version().into_iter().chain([second]) {
        let to = SocketAddr::new(ip, server.local_addr().port());
        let packet = request(&client, to, false, 1_300);
        send(&mut client, to, None, 40, &packet, 100).unwrap();
        let mut sink = Sink::default();
        assert!(receive_until(&mut server, &mut sink, |sink| sink.packets.len() == 100));
        for (meta, received) in &sink.packets {
            assert_eq!(*received, packet);
            assert_eq!((meta.dscp, meta.ecn), (40, 0));
            assert_eq!(meta.path.local_ip, Some(ip));
            assert_eq!(meta.path.local_port, server.local_addr().port());
            assert_eq!(meta.path.remote.port(), client.local_addr().port());
            assert!(meta.path.interface > 0);
        }
        // Back along the same way, from the address that was asked; what is for another port stays
        // away.
        let path = sink.packets[0].0.path;
        send(&mut server, path.remote, path.local_ip, 0, &packet, 1).unwrap();
        let back = request(&server, path.remote, false, 10);
        send(&mut server, path.remote, path.local_ip, 0, &back, 1).unwrap();
        let mut sink = Sink::default();
        assert!(receive_until(&mut client, &mut sink, |sink| !sink.packets.is_empty()));
        assert_eq!((sink.packets.len(), &sink.packets[0].1), (1, &back));
        assert_eq!(sink.packets[0].0.path.remote, to);
    }
    let calls = client.stats().sends;
    assert!(calls <= 12, "{calls} calls for 300 packets");
}

#[test]
fn a_port_belongs_to_one_endpoint_of_a_host() {
    let port = port();
    let first = server(port).unwrap();
    assert!(matches!(server(port).unwrap_err(), IpError::PortInUse { port: p, .. } if p == port));
    // Another host, or another place of that name.
    let address = SocketAddr::new("::".parse().unwrap(), port);
    at_client(|| IpDriver::bind(address, &IpConfig::default())).unwrap();
    drop(first);
    server(port).unwrap();
    assert!(matches!(server(40_000).unwrap_err(), IpError::PortReserved { port: 40_000, .. }));
}

#[test]
fn without_the_capability_the_error_says_how_to_get_it() {
    use rustix::thread::{CapabilitySet, CapabilitySets, capabilities, set_capabilities};
    // Capabilities are those of a thread.
    let error = std::thread::spawn(|| {
        let mut sets: CapabilitySets = capabilities(None).unwrap();
        sets.effective.remove(CapabilitySet::NET_RAW);
        set_capabilities(None, sets).unwrap();
        IpDriver::bind("127.0.0.1:0".parse().unwrap(), &IpConfig::default()).unwrap_err()
    })
    .join()
    .unwrap();
    assert!(matches!(error, IpError::NoCapability));
    assert!(error.to_string().contains("setcap cap_net_raw+ep"), "{error}");
}

#[test]
fn one_process_answers_for_ports_of_nobody_and_another_follows_it() {
    let responders = |drivers: &mut [IpDriver]| {
        drivers.iter_mut().for_each(|driver| {
            receive_until(driver, &mut Sink::default(), |_| false);
        });
        drivers.iter().filter(|driver| driver.is_responder()).count()
    };
    // Other tests of this binary have endpoints at the same host: whoever is first has the role.
    let mut drivers = [server(port()).unwrap(), server(port()).unwrap()];
    assert!(responders(&mut drivers) <= 1);
    let mut client = client();
    for ip in server_ip_of_each_version() {
        let nobody = SocketAddr::new(ip, port());
        // A Linux host is told by ICMP, a peer by RPC_UNKNOWN.
        let linux = request(&client, nobody, false, 10);
        let mut told = Sink::default();
        let until = Instant::now() + Duration::from_secs(10);
        while told.errors.is_empty() {
            assert!(Instant::now() < until, "nobody answers to {nobody}");
            send(&mut client, nobody, None, 0, &linux, 1).unwrap();
            for driver in &mut drivers {
                let _ = driver.receive(&mut Sink::default());
            }
            let mut fds = [PollFd::new(client.as_fd(), true, false)];
            poll_fds(&mut fds, Some(Duration::from_millis(50))).unwrap();
            let _ = client.receive(&mut told);
        }
        let (kind, destination, quoted) = &told.errors[0];
        assert_eq!((*kind, *destination), (IcmpKind::PortUnreachable, nobody));
        assert_eq!(quoted[..], linux[..]);
    }
}

#[test]
fn when_the_responder_goes_another_takes_its_place_at_once() {
    let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
    let bind = move || IpDriver::bind(loopback, &IpConfig::default()).unwrap();
    let Some(place) = common::new_host() else {
        return;
    };
    let (mut first, mut second) = common::at(&place, || (bind(), bind()));
    assert_eq!((first.is_responder(), second.is_responder()), (true, false));
    // Lets the second one in.
    assert!(receive_until(&mut first, &mut Sink::default(), |_| true));
    drop(first);
    let mut fds = [PollFd::new(second.as_fd(), true, false)];
    assert_eq!(poll_fds(&mut fds, Some(Duration::from_secs(2))).unwrap(), 1, "it is woken");
    // By a thread that is elsewhere.
    second.receive(&mut Sink::default()).unwrap();
    assert!(second.is_responder());
    let mut third = common::at(&place, bind);
    assert!(!third.is_responder());
    let nobody = SocketAddr::from(([127, 0, 0, 1], 7));
    let packet = request(&third, nobody, true, 10);
    send(&mut third, nobody, None, 0, &packet, 1).unwrap();
    let mut told = Sink::default();
    assert!(receive_until(&mut second, &mut Sink::default(), |_| true));
    let until = Instant::now() + Duration::from_secs(2);
    while told.packets.is_empty() && Instant::now() < until {
        second.receive(&mut Sink::default()).unwrap();
        third.receive(&mut told).unwrap();
    }
    let answer = &told.packets[0].1;
    let header = Header::parse(answer, answer.len() as u32).unwrap();
    assert_eq!((header.body, header.common.local_id()), (Body::RpcUnknown, 2));
    assert_eq!(header.common.source_port, 7);
}

#[test]
fn an_endpoint_of_one_ip_version_answers_for_nobody_in_the_other_too() {
    let Some(place) = common::new_host() else {
        return;
    };
    let at = |ip: &str| {
        let address = SocketAddr::new(ip.parse().unwrap(), 0);
        common::at(&place, || IpDriver::bind(address, &IpConfig::default()).unwrap())
    };
    for (own, other) in [("127.0.0.1", "::1"), ("::1", "127.0.0.1")] {
        let mut responder = at(own);
        assert!(responder.is_responder());
        let mut client = at(other);
        let nobody = SocketAddr::new(other.parse().unwrap(), 7);
        let packet = request(&client, nobody, true, 10);
        send(&mut client, nobody, None, 0, &packet, 1).unwrap();
        receive_until(&mut responder, &mut Sink::default(), |_| false);
        let mut told = Sink::default();
        assert!(receive_until(&mut client, &mut told, |sink| !sink.packets.is_empty()), "{other}");
        assert_eq!(responder.stats().answered_for_nobody, 1);
    }
}

#[test]
fn a_port_is_nobodys_at_addresses_where_it_is_not_served() {
    let Some(place) = common::new_host() else {
        return;
    };
    let at = |ip: &str| {
        let address = SocketAddr::new(ip.parse().unwrap(), 0);
        common::at(&place, || IpDriver::bind(address, &IpConfig::default()).unwrap())
    };
    // The server answers for its own port, then somebody else does.
    for others in [&[][..], &["127.0.0.1"]] {
        for (own, elsewhere) in [("127.0.0.1", ["127.0.0.2", "::1"]), ("0.0.0.0", ["::1"; 2])] {
            let mut responders: Vec<_> = others.iter().map(|ip| at(ip)).collect();
            let mut server = at(own);
            assert_eq!(server.is_responder(), others.is_empty());
            let port = server.local_addr().port();
            let mut client = at("::");
            // On loopback what was sent has arrived.
            let mut drive = |server: &mut IpDriver, sink: &mut Sink| {
                for responder in &mut responders {
                    while responder.receive(&mut Sink::default()).unwrap() == RxStatus::More {}
                }
                while server.receive(sink).unwrap() == RxStatus::More {}
            };
            for nobody in elsewhere.map(|ip| SocketAddr::new(ip.parse().unwrap(), port)) {
                // Where it serves the port is known to be somebody's by then.
                let to = SocketAddr::from(([127, 0, 0, 1], port));
                let right = request(&client, to, false, 10);
                let wrong = request(&client, nobody, false, 10);
                send(&mut client, to, None, 0, &right, 1).unwrap();
                let mut taken = Sink::default();
                drive(&mut server, &mut taken);
                assert_eq!(taken.packets.len(), 1, "{own}");
                send(&mut client, nobody, None, 0, &wrong, 1).unwrap();
                drive(&mut server, &mut taken);
                assert_eq!(taken.packets.len(), 1, "{own}");
                let mut told = Sink::default();
                assert!(receive_until(&mut client, &mut told, |told| !told.errors.is_empty()));
                let (kind, destination, quoted) = &told.errors[0];
                assert_eq!((*kind, *destination), (IcmpKind::PortUnreachable, nobody));
                assert_eq!((told.errors.len(), &quoted[..]), (1, &wrong[..]));
            }
        }
    }
}

#[test]
fn a_port_whose_owner_has_gone_is_answered_for_however_many_others_are_in_use() {
    let Some(place) = common::new_host() else {
        return;
    };
    let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
    let bind = || common::at(&place, || IpDriver::bind(loopback, &IpConfig::default()).unwrap());
    let (mut responder, mut client) = (bind(), bind());
    assert!(responder.is_responder());
    let ask = |client: &mut IpDriver, responder: &mut IpDriver, to| {
        let packet = request(client, to, true, 10);
        send(client, to, None, 0, &packet, 1).unwrap();
        while responder.receive(&mut Sink::default()).unwrap() == RxStatus::More {}
    };
    let owner = bind();
    let gone = owner.local_addr();
    ask(&mut client, &mut responder, gone);
    drop(owner);
    let mut told = Sink::default();
    let mut others = Vec::new();
    while told.packets.is_empty() {
        assert!(others.len() < 40, "nobody answers");
        others.push(bind());
        ask(&mut client, &mut responder, others.last().unwrap().local_addr());
        ask(&mut client, &mut responder, gone);
        std::thread::sleep(Duration::from_millis(50));
        client.receive(&mut told).unwrap();
    }
    assert_eq!(told.packets[0].0.path.remote, gone);
}

#[test]
fn a_linux_client_learns_by_icmp_that_a_port_serves_nobody() {
    let mut other = server(port()).unwrap();
    let mut client = client();
    for ip in server_ip_of_each_version() {
        let to = SocketAddr::new(ip, other.local_addr().port());
        let packet = request(&client, to, false, 100);
        send(&mut client, to, None, 0, &packet, 1).unwrap();
        let mut refusing = Sink { refuses: true, ..Sink::default() };
        assert!(receive_until(&mut other, &mut refusing, |sink| !sink.packets.is_empty()));
        let mut told = Sink::default();
        assert!(receive_until(&mut client, &mut told, |sink| !sink.errors.is_empty()));
        assert_eq!(told.errors[0].0, IcmpKind::PortUnreachable);
        assert_eq!(told.errors[0].1, to);
        assert_eq!(told.errors[0].2[..], packet[..packet.len().min(128)]);
    }
    // The report is nobody else's.
    assert_eq!(other.stats().answered_by_icmp, 2);
}

#[test]
fn a_path_that_became_narrower_is_noticed() {
    let mut server = server(port()).unwrap();
    let mut client = client();
    for (ip, route) in
        server_ip_of_each_version().into_iter().zip(["10.146.0.1/32", "fd00:92::1/128"])
    {
        let to = SocketAddr::new(ip, server.local_addr().port());
        assert_eq!(client.path(to).0, Some(1_500));
        let headers = if ip.is_ipv4() { 20 } else { 40 };
        let packet = request(&client, to, false, 1_500 - headers - 56);
        send(&mut client, to, None, 0, &packet, 1).unwrap();
        let add = format!("route add {route} dev homa1 mtu 1300");
        let status = at_client(|| {
            std::process::Command::new("ip").args(add.split_whitespace()).status().unwrap()
        });
        assert!(status.success());
        assert_eq!(client.path(to).0, Some(1_300), "whichever thread asks");
        let refused = send(&mut client, to, None, 0, &packet, 2);
        assert_eq!(refused, Err(Unsent { first: 0, why: TransmitError::TooBig(1_300) }));
        let packet = request(&client, to, false, 1_300 - headers - 56);
        send(&mut client, to, None, 0, &packet, 1).unwrap();
        let mut sink = Sink::default();
        assert!(receive_until(&mut server, &mut sink, |sink| sink.packets.len() == 2));
        at_client(|| {
            let delete = format!("route del {route} dev homa1");
            std::process::Command::new("ip").args(delete.split_whitespace()).status().unwrap()
        });
    }
}

#[test]
fn what_is_not_meant_is_counted_and_what_is_too_short_kept_away() {
    let mut server = server(port()).unwrap();
    let mut client = client();
    for ip in server_ip_of_each_version() {
        let to = SocketAddr::new(ip, server.local_addr().port());
        for length in 0..4 {
            send(&mut client, to, None, 0, &vec![0xFF; length.max(1)], 1).unwrap();
        }
        let whole = request(&client, to, false, 4);
        send(&mut client, to, None, 0, &whole, 1).unwrap();
        let mut sink = Sink::default();
        assert!(receive_until(&mut server, &mut sink, |sink| !sink.packets.is_empty()));
        assert_eq!(sink.packets.len(), 1, "only the whole one");
        assert_eq!(sink.packets[0].1, whole);
    }
}
