//! Two hosts with a router between them that lets shorter packets through than its links carry.

use std::fs::{self, File};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsRawFd;

use super::world::{can_make_hosts, ip, new_namespace, within};

/// What the router lets through, in bytes of IP packets, of the 1,500 that the links carry.
pub(crate) const ROUTER_MTU: u32 = 1_300;

const SERVER_V4: Ipv4Addr = Ipv4Addr::new(10, 147, 2, 2);
const SERVER_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x93, 0, 2, 0, 0, 0, 2);

/// The hosts. They go with the files and with the endpoints in them.
pub(crate) struct Routed {
    pub(crate) server: File,
    pub(crate) client: File,
    _router: File,
}

/// The server's addresses.
pub(crate) fn routed_server_ips() -> [IpAddr; 2] {
    [SERVER_V4.into(), SERVER_V6.into()]
}

/// Three hosts in a row; `None` where that cannot be made.
pub(crate) fn routed() -> Option<Routed> {
    if !can_make_hosts() {
        return None;
    }
    let hosts = [(); 3].map(|()| new_namespace().unwrap());
    let [server, router, client] = hosts;
    for host in [&server, &router, &client] {
        // Otherwise nobody is asked for by what is passed on, for the time in which links are
        // watched for others with the same address.
        within(Some(host), || {
            ["all", "default"].map(|of| set(&format!("ipv6/conf/{of}/accept_dad"), "0"))
        });
    }
    within(Some(&router), || set_up_router(&server, &client));
    within(Some(&server), || set_up_end(2));
    within(Some(&client), || set_up_end(1));
    Some(Routed { server, client, _router: router })
}

/// An end on the link `number`.
fn set_up_end(number: u8) {
    for line in [
        "link set lo up".to_owned(),
        format!("addr add 10.147.{number}.2/24 dev end"),
        format!("addr add fd00:93:0:{number}::2/64 dev end nodad"),
        "link set end up".to_owned(),
        format!("route add default via 10.147.{number}.1"),
        format!("-6 route add default via fd00:93:0:{number}::1"),
    ] {
        ip(&line).unwrap();
    }
}

fn set_up_router(server: &File, client: &File) {
    for (number, end) in [(1, client), (2, server)] {
        let path = format!("/proc/{}/fd/{}", std::process::id(), end.as_raw_fd());
        for line in [
            format!("link add r{number} mtu 1500 type veth peer name end mtu 1500 netns {path}"),
            format!("addr add 10.147.{number}.1/24 dev r{number}"),
            format!("addr add fd00:93:0:{number}::1/64 dev r{number} nodad"),
            format!("link set r{number} up"),
            // More specific than the way to the link, and locked so that it counts for what is
            // passed on.
            format!("route add 10.147.{number}.2/32 dev r{number} mtu lock {ROUTER_MTU}"),
            format!("-6 route add fd00:93:0:{number}::2/128 dev r{number} mtu lock {ROUTER_MTU}"),
        ] {
            ip(&line).unwrap();
        }
    }
    for setting in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
        set(setting, "1");
    }
}

/// Changes a setting of the network namespace of this thread.
fn set(setting: &str, value: &str) {
    fs::write(format!("/proc/sys/net/{setting}"), value).unwrap();
}
