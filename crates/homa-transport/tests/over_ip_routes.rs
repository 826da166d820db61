//! Raw IP over a router that lets shorter packets through than the links of the ends carry.

mod common;

use std::net::SocketAddr;

use common::raw::{Sink, receive_until, request, send};
use common::routed::{ROUTER_MTU, routed, routed_server_ips};
use common::{at, builder, pattern, serve_echo};
use homa_io::driver::Driver;
use homa_io::ip::{IpConfig, IpDriver};

const PORT: u16 = 99;

#[test]
fn both_ends_learn_from_a_router_that_the_path_is_narrow() {
    let Some(hosts) = routed() else {
        return;
    };
    let everywhere = SocketAddr::from(([0_u16; 8], PORT));
    let server = at(&hosts.server, || builder().bind(everywhere)).unwrap();
    serve_echo(server.clone());
    let body = pattern(300_000);
    for (versions, ip) in (1..).zip(routed_server_ips()) {
        let client = at(&hosts.client, || builder().client()).unwrap();
        for _ in 0..3 {
            assert!(client.call(SocketAddr::new(ip, PORT), body.clone()).wait().unwrap() == body);
        }
        assert_eq!(client.stats().engine.mtu_shrinks, 1, "{ip}");
        assert_eq!(server.stats().engine.mtu_shrinks, versions, "{ip}");
    }
}

#[test]
fn what_a_router_says_to_one_port_counts_for_all_of_the_host() {
    let Some(hosts) = routed() else {
        return;
    };
    let open = || IpDriver::bind("[::]:0".parse().unwrap(), &IpConfig::default()).unwrap();
    let (mut sender, mut other) = at(&hosts.client, || (open(), open()));
    for ip in routed_server_ips() {
        let to = SocketAddr::new(ip, PORT);
        assert_eq!(sender.path(to).0, Some(1_500));
        let packet = request(&sender, to, true, 1_300);
        send(&mut sender, to, None, 0, &packet, 1).unwrap();
        for driver in [&mut sender, &mut other] {
            let mut sink = Sink::default();
            assert!(receive_until(driver, &mut sink, |sink| !sink.mtus.is_empty()), "{ip}");
            assert_eq!(sink.mtus, [(SocketAddr::new(ip, 0), ROUTER_MTU)]);
            assert!(sink.errors.is_empty());
            assert_eq!(driver.path(to).0, Some(ROUTER_MTU));
        }
    }
}
