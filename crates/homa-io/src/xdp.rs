//! The driver over AF_XDP: packets come from the network card's queues into memory of this process
//! and leave from there, beside the kernel's network stack. What it takes, how it is chosen and
//! what cards need: docs/xdp.md.
//!
//! * It stands on a driver over sockets ([`SocketDriver`]), which reserves the port, hears what the
//!   network reports, and has all packets whose way does not lead through the interface: those to
//!   this host itself, to neighbours whose address the kernel has to find out first, and those
//!   that a queue without a socket brings.
//! * A filter at the interface redirects whole packets to the own port at an own address; the
//!   kernel gets everything else as ever. The filter goes with the process.
//! * Out: each datagram is written into a frame, headers and payload, and a group of them is shown
//!   to the kernel at once. In: packets are checked as the kernel would check them.
//! * Routes and neighbours are the kernel's, looked up by netlink and remembered for a second at
//!   most; interfaces, addresses and routes that change are noticed.
//!
//! An interface has one filter, so one such driver. Everything is looked up in the network
//! namespace of the thread that opened the driver.

mod frame;
mod hops;
mod receive;
mod rings;
mod send;
mod stats;
mod watch;

pub use homa_sys::xdp::{AttachMode, BindMode};
pub use stats::XdpStats;

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};

use homa_core::{Carriage, Segment, Transmit};
use homa_sys::netlink::{Netlink, NetlinkMonitor};
use homa_sys::{Epoll, link_mbps};

use crate::driver::{Driver, PacketSink, Payloads, RxCapacity, RxStatus, Unsent};
use crate::home::Home;
use crate::ip::IpDriver;
use crate::udp::UdpDriver;
use frame::Form;
use hops::{Hops, Way};
use receive::Looks;
use rings::Rings;

/// Payload in a packet of an Ethernet MTU, the smallest over both IP versions, in round numbers.
const MTU_PACKET_PAYLOAD_BYTES: u64 = 1_400;
/// Tokens among the descriptors; queues have their number.
const SOCKETS: u64 = u64::MAX;
const MONITOR: u64 = u64::MAX - 1;

/// Why AF_XDP cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum XdpError {
    /// The system does not let, or cannot.
    #[error(transparent)]
    Unusable(#[from] homa_sys::xdp::XdpError),
    /// No interface has that name: see `ip link`.
    #[error("there is no network interface {name}")]
    #[non_exhaustive]
    NoSuchInterface {
        /// The name.
        name: String,
    },
    /// The interface carries no Ethernet frames (loopback, tunnels): use sockets there.
    #[error("{name} is no Ethernet interface")]
    #[non_exhaustive]
    NotEthernet {
        /// Its name.
        name: String,
    },
    /// There is none that leads to other hosts from this address: use sockets.
    #[error("no Ethernet interface is up that has the endpoint's address")]
    NoEthernet,
    /// The endpoint serves all addresses, and there are several interfaces: name one.
    #[error("several interfaces lead to other hosts ({}): name one", .names.join(", "))]
    #[non_exhaustive]
    SeveralInterfaces {
        /// Their names.
        names: Vec<String>,
    },
    /// The interface stands on others (bridge, bond, VLAN, tunnel): use one of those if it has the
    /// endpoint's address, or sockets.
    #[error("{name} is a virtual interface: AF_XDP is used on cards and veth only")]
    #[non_exhaustive]
    Virtual {
        /// Its name.
        name: String,
    },
    /// The interface's driver cannot have the filter, and only that was wanted, or the interface is
    /// virtual, where datagrams are joined before they come to the network stack. Use sockets.
    #[error("the driver of {name} cannot have an XDP program")]
    #[non_exhaustive]
    OnlyGeneric {
        /// Name of the interface.
        name: String,
    },
    /// Packets that look like TCP segments go through sockets only.
    #[error("packets that look like TCP segments go through sockets only")]
    TcpForm,
    /// The system refused something else.
    #[error(transparent)]
    System(#[from] io::Error),
}

/// How an AF_XDP driver is set up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct XdpConfig {
    interface: Option<String>,
    rx_frames: u32,
    tx_frames: u32,
    queues_max: u32,
    copy: bool,
    generic: bool,
    native_only: bool,
    busy_poll: bool,
}

impl Default for XdpConfig {
    fn default() -> Self {
        Self {
            interface: None,
            rx_frames: 4_096,
            tx_frames: 2_048,
            queues_max: 64,
            copy: false,
            generic: false,
            native_only: false,
            busy_poll: false,
        }
    }
}

impl XdpConfig {
    /// Name of the interface to use. Default: the one that has the endpoint's address, or for an
    /// endpoint at all addresses the only Ethernet interface that is up and has an address.
    #[must_use]
    pub fn interface(mut self, name: impl Into<String>) -> Self {
        self.interface = Some(name.into());
        self
    }

    /// Frames for packets received and not fetched, per queue: rounded up to a power of two, 64 to
    /// 32,768. Default 4,096. A frame has 2,048 bytes, 4,096 where the MTU is above 1,774.
    #[must_use]
    pub fn rx_frames(mut self, frames: u32) -> Self {
        self.rx_frames = frames.clamp(64, 1 << 15).next_power_of_two();
        self
    }

    /// Frames for packets on their way out, as [`rx_frames`](Self::rx_frames). Default 2,048.
    #[must_use]
    pub fn tx_frames(mut self, frames: u32) -> Self {
        self.tx_frames = frames.clamp(64, 1 << 15).next_power_of_two();
        self
    }

    /// Most queues of the interface that are used, 1 to 64, beginning with the first. Default 64.
    /// What comes by others comes through the sockets.
    #[must_use]
    pub fn queues_max(mut self, queues: u32) -> Self {
        self.queues_max = queues.clamp(1, 64);
        self
    }

    /// Has the kernel copy packets even where the card could write them into place. Default no.
    #[must_use]
    pub fn copy(mut self, on: bool) -> Self {
        self.copy = on;
        self
    }

    /// Puts the filter into the network stack even where the card's driver could have it. Default
    /// no. It is refused on virtual interfaces ([`XdpError::OnlyGeneric`]).
    #[must_use]
    pub fn generic(mut self, on: bool) -> Self {
        self.generic = on;
        self
    }

    /// Fails with [`XdpError::OnlyGeneric`] where the card's driver cannot have the filter. Default
    /// no.
    #[must_use]
    pub fn native_only(mut self, on: bool) -> Self {
        self.native_only = on;
        self
    }

    /// Has looks for packets drive the card's queues (`SO_PREFER_BUSY_POLL`), for endpoints that
    /// look all the time. Default no. It takes `napi_defer_hard_irqs` and `gro_flush_timeout` of
    /// the interface as well, and costs each look that finds nothing a system call.
    #[must_use]
    pub fn busy_poll(mut self, on: bool) -> Self {
        self.busy_poll = on;
        self
    }
}

/// A driver over sockets that an [`XdpDriver`] can stand on.
pub trait SocketDriver: Driver + AsFd {
    /// Has the kernel leave packets as they came: joined ones would not be redirected by a filter
    /// in the network stack.
    ///
    /// # Errors
    /// None are expected.
    fn receive_single_packets(&mut self) -> io::Result<()>;
}

impl SocketDriver for UdpDriver {
    fn receive_single_packets(&mut self) -> io::Result<()> {
        self.set_joined_receives(false)
    }
}

impl SocketDriver for IpDriver {
    fn receive_single_packets(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Where the rings of a driver are.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct XdpPlace {
    /// Name of the interface.
    pub interface: String,
    /// Where the filter sits.
    pub attached: AttachMode,
    /// How packets come into memory: with zero copy on all queues, or not.
    pub bound: BindMode,
    /// Queues in use.
    pub queues: u32,
}

/// A [`Driver`] over AF_XDP that stands on one over sockets.
#[derive(Debug)]
pub struct XdpDriver<D> {
    sockets: D,
    /// Or why there are none any more, and the sockets do everything.
    rings: Result<Rings, XdpError>,
    epoll: Epoll,
    netlink: Netlink,
    monitor: NetlinkMonitor,
    hops: Hops,
    config: XdpConfig,
    form: Form,
    local: SocketAddr,
    capacity: RxCapacity,
    /// Packets of the local kernel come without a whole checksum: there is no card.
    may_be_partial: bool,
    looks: Looks,
    stats: XdpStats,
    /// Packets dropped at queues that are closed by now.
    dropped_before: u64,
    home: Home,
}

/// What an [`XdpDriver`] has beside its sockets, set up but not in use.
#[derive(Debug)]
pub struct XdpParts {
    rings: Rings,
    netlink: Netlink,
    monitor: NetlinkMonitor,
    home: Home,
    epoll: Epoll,
    config: XdpConfig,
}

impl XdpParts {
    /// Sets up what a driver beside `sockets` needs. From now on packets wait in the rings.
    ///
    /// # Errors
    /// See [`XdpError`]; the sockets then work as before.
    pub fn new(sockets: &mut impl SocketDriver, config: &XdpConfig) -> Result<Self, XdpError> {
        let home = Home::here()?;
        let mut netlink = Netlink::new()?;
        // First, so that nothing that changes from now on is missed.
        let monitor = NetlinkMonitor::new()?;
        let local = sockets.local_addr();
        let interface = rings::choose(&mut netlink, local, config.interface.as_deref())?;
        let addresses = rings::served(&mut netlink, local)?;
        let form = form_of(sockets.carriage());
        let rings = Rings::open(interface, form, local.port(), &addresses, config)?;
        if rings.attached == AttachMode::Generic {
            sockets.receive_single_packets()?;
        }
        let epoll = Epoll::new()?;
        epoll.add(sockets.as_fd(), SOCKETS, true, false)?;
        epoll.add(monitor.as_fd(), MONITOR, true, false)?;
        watch::add_queues(&epoll, &rings)?;
        Ok(Self { rings, netlink, monitor, home, epoll, config: config.clone() })
    }
}

impl<D: SocketDriver> XdpDriver<D> {
    /// A driver of `parts` that were set up for these `sockets`.
    pub fn new(sockets: D, parts: XdpParts) -> Self {
        let local = sockets.local_addr();
        let form = form_of(sockets.carriage());
        let XdpParts { rings, netlink, monitor, home, epoll, config } = parts;
        Self {
            capacity: capacity(&rings),
            may_be_partial: rings.interface.kind.is_some(),
            rings: Ok(rings),
            epoll,
            netlink,
            monitor,
            hops: Hops::new(form, local),
            config,
            form,
            local,
            looks: Looks::default(),
            stats: XdpStats::default(),
            dropped_before: 0,
            home,
            sockets,
        }
    }

    /// Counters so far.
    pub fn stats(&self) -> &XdpStats {
        &self.stats
    }

    /// The sockets it stands on.
    pub fn sockets(&self) -> &D {
        &self.sockets
    }

    /// Where the rings are.
    ///
    /// # Errors
    /// Why there are none any more: all packets go through the sockets, and will.
    pub fn place(&self) -> Result<XdpPlace, &XdpError> {
        self.rings.as_ref().map(|rings| XdpPlace {
            interface: rings.interface.name.clone(),
            attached: rings.attached,
            bound: rings.bound,
            queues: rings.queues.len() as u32,
        })
    }

    /// The way along a path, with the rings it may lead through.
    fn way(&mut self, path: &homa_core::Path) -> Way {
        let Ok(rings) = &self.rings else {
            return Way::Sockets;
        };
        self.hops.way(path, &mut self.netlink, rings, &mut self.stats.route_lookups)
    }
}

/// The name of the interface that a driver at `local` would use, as far as can be told without
/// putting anything there: whether its driver takes the filter is not.
///
/// # Errors
/// Why there would be none.
pub fn probe(local: SocketAddr, config: &XdpConfig) -> Result<String, XdpError> {
    let interface = rings::choose(&mut Netlink::new()?, local, config.interface.as_deref())?;
    rings::rehearse()?;
    if interface.has_xdp {
        return Err(homa_sys::xdp::XdpError::InterfaceBusy.into());
    }
    Ok(interface.name)
}

fn form_of(carriage: Carriage) -> Form {
    if carriage == Carriage::Ip { Form::Ip } else { Form::Udp }
}

/// Packets that wait at the first queue, in case all come there.
fn capacity(rings: &Rings) -> RxCapacity {
    let packets = rings.rx_frames;
    RxCapacity { bytes: u64::from(packets) * MTU_PACKET_PAYLOAD_BYTES, packets }
}

impl<D: SocketDriver> AsFd for XdpDriver<D> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}

impl<D: SocketDriver> Driver for XdpDriver<D> {
    fn receive(&mut self, sink: &mut impl PacketSink) -> io::Result<RxStatus> {
        self.receive_batch(sink)
    }

    fn transmit(
        &mut self,
        transmit: &Transmit,
        segments: &[Segment],
        payloads: &impl Payloads,
    ) -> Result<(), Unsent> {
        match self.way(&transmit.path) {
            Way::Rings(hop) if !self.hops.takes_doubt() => {
                self.send_segments(&hop, transmit, segments, payloads)
            }
            _ => {
                self.stats.socket_sends += 1;
                // What the network says to it is fetched there.
                self.looks.expect_sockets();
                self.sockets.transmit(transmit, segments, payloads)
            }
        }
    }

    fn path(&mut self, remote: SocketAddr) -> (Option<u32>, Option<u32>) {
        let path = homa_core::Path {
            remote,
            local_ip: None,
            local_port: self.local.port(),
            interface: 0,
            carriage: self.sockets.carriage(),
        };
        match (self.way(&path), &self.rings) {
            (Way::Rings(hop), Ok(rings)) => (Some(hop.mtu), link_mbps(rings.interface.index)),
            _ => self.sockets.path(remote),
        }
    }

    fn rx_capacity(&self) -> RxCapacity {
        self.capacity
    }

    fn local_addr(&self) -> SocketAddr {
        self.local
    }

    fn carriage(&self) -> Carriage {
        self.sockets.carriage()
    }

    fn readable(&self) -> Option<BorrowedFd<'_>> {
        Some(self.as_fd())
    }

    fn tx_backlog_bytes(&self) -> Option<u64> {
        let queues = self.rings.iter().flat_map(|rings| &rings.queues);
        let in_rings: u64 = queues.map(|queue| queue.tx_backlog_bytes()).sum();
        Some(in_rings + self.sockets.tx_backlog_bytes().unwrap_or(0))
    }

    fn rx_dropped(&self) -> u64 {
        self.sockets.rx_dropped() + self.dropped_before + self.dropped_at_queues()
    }
}

#[cfg(test)]
mod tests;
