//! Facts about the network as the kernel knows them, by rtnetlink: routes, neighbours, interfaces,
//! addresses, and that some of these changed.
//!
//! Source: rtnetlink(7), `linux/rtnetlink.h`, `linux/neighbour.h`.

mod message;
mod socket;

pub use socket::{Netlink, NetlinkMonitor};

use std::net::IpAddr;

/// Where packets to a destination go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Route {
    /// They leave through an interface, to one host.
    pub is_unicast: bool,
    /// Index of the interface.
    pub interface: u32,
    /// Address that they leave from unless told otherwise.
    pub source: Option<IpAddr>,
    /// The router that passes them on; without one the destination is on the link.
    pub gateway: Option<IpAddr>,
    /// Longest packet on the path in bytes, if it is less than the interface's.
    pub mtu: Option<u32>,
}

/// A host on a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Neighbour {
    /// Its Ethernet address.
    pub mac: [u8; 6],
    /// The kernel has lately heard from it there, or needs not to.
    pub is_confirmed: bool,
}

/// A network interface.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Interface {
    /// Its index.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Its Ethernet address; `None` if it is no Ethernet.
    pub mac: Option<[u8; 6]>,
    /// Longest packet that it takes, in bytes.
    pub mtu: u32,
    /// Queues that packets come by, at most: fewer may be in use.
    pub rx_queues: u32,
    /// Kind of an interface that has no card behind it, such as `veth`, as far as it has one.
    pub kind: Option<String>,
    /// An XDP program is there.
    pub has_xdp: bool,
    /// It is switched on.
    pub is_up: bool,
    /// It leads to this host itself.
    pub is_loopback: bool,
}
