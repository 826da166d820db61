//! The driver for raw IP: Homa packets directly in IP packets of protocol 146, as the Linux module
//! sends and expects them (docs/spec/wire-format.md §1). Needs `CAP_NET_RAW`.
//!
//! * An endpoint at `[::]` has a raw socket for each IP version, at an address one. The kernel
//!   gives a copy of every packet of the protocol to every raw socket; a filter leaves the packets
//!   for the own port.
//! * Several packets go and come by one system call, gathered from where they lie.
//! * Ports are the driver's own business, since the kernel has none for this protocol: see
//!   [`IpError`] and the module `ports`.
//! * Errors of the network come through the error queue, as for UDP; of those only what quotes a
//!   packet from the own port concerns this driver.
//! * Packets that look like TCP segments come and go through raw sockets of protocol 6
//!   ([`TcpForm`]), unless a rule of the system turns them into ordinary ones before.
//!
//! Everything is looked up in the network namespace of the thread that opened the driver.

mod answer;
mod claims;
mod kernel;
mod ports;
mod receive;
mod responder;
mod send;
mod sources;
mod stats;
mod tcp_form;

pub use claims::{Claim, claims};
pub use kernel::kernel_serves_homa;
pub use stats::IpStats;
pub use tcp_form::TCP_FORM_RULES;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};

use homa_core::Carriage;
use homa_sys::address::Family;
use homa_sys::raw::{Filter, RouteLookup, RxBatch};
use homa_sys::{Epoll, RawSocket, errno};
use homa_wire::{IP_PROTOCOL, IP_PROTOCOL_TCP};

use crate::driver::{Driver, RxCapacity};
use crate::socket::capacity::capacity_of;
use crate::socket::reports::Reports;
use crate::socket::same_over_sockets;
use ports::Reservation;
use responder::Responder;
use sources::Sources;
use tcp_form::MARKS;

/// The highest port that can be asked for; those above are given out by the system
/// (docs/spec/wire-format.md §3).
pub const ASKED_PORT_MAX: u16 = 32_767;

/// Token of the responder among the descriptors; sockets have their index.
const RESPONDER: u64 = u64::MAX;

/// Why no driver could be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IpError {
    /// The process may not open raw sockets.
    #[error(
        "raw IP needs CAP_NET_RAW: run as root, or once `sudo setcap cap_net_raw+ep $(command -v homa)` \
         (with the path of your own program)"
    )]
    NoCapability,
    /// The Linux module serves the protocol on this host; two implementations would answer each
    /// packet. Use another carriage, or unload the module.
    #[error("the kernel module of Homa serves IP protocol 146 on this host: unload it or use UDP")]
    KernelModule,
    /// Another program on this host has the port: choose another one, or end that program.
    #[error("Homa port {port} is in use on this host")]
    #[non_exhaustive]
    PortInUse {
        /// The port.
        port: u16,
    },
    /// Ports above [`ASKED_PORT_MAX`] cannot be asked for: choose one from 1 to 32767, or 0.
    #[error("Homa port {port} cannot be asked for: 1 to 32767 can, 0 takes a free one above")]
    #[non_exhaustive]
    PortReserved {
        /// The port.
        port: u16,
    },
    /// The system refused something else.
    #[error(transparent)]
    System(#[from] io::Error),
}

/// How a raw IP driver is set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IpConfig {
    receive_buffer_bytes: usize,
    packets_per_call: usize,
    tcp_form: TcpForm,
}

/// Treatment of packets that look like TCP segments (docs/spec/wire-format.md §8). A rule that
/// turns them into packets of protocol 146 on arrival ([`TCP_FORM_RULES`]) makes all drivers of the
/// host understand them and keeps them away from the host's TCP; this here is about hosts without
/// it. TCP sees them there, but neither answers nor uses them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TcpForm {
    /// They are not received. That saves every ordinary TCP segment of the host a copy and a look
    /// by this driver's filter, some tenths of a microsecond.
    Ignored,
    /// They are received besides ordinary packets.
    #[default]
    Understood,
    /// They are received besides ordinary packets, and all packets are sent like that.
    Sent,
}

impl Default for IpConfig {
    fn default() -> Self {
        Self { receive_buffer_bytes: 16 << 20, packets_per_call: 16, tcp_form: TcpForm::default() }
    }
}

impl IpConfig {
    /// As [`UdpConfig::receive_buffer_bytes`](crate::udp::UdpConfig::receive_buffer_bytes), for
    /// each IP version. Default 16 MiB.
    #[must_use]
    pub fn receive_buffer_bytes(mut self, bytes: usize) -> Self {
        self.receive_buffer_bytes = bytes;
        self
    }

    /// Most packets per IP version fetched by one call of [`Driver::receive`], 1 to 64. Default 16,
    /// which is at most 1 MiB.
    #[must_use]
    pub fn packets_per_call(mut self, packets: usize) -> Self {
        self.packets_per_call = packets.clamp(1, homa_sys::raw::PACKETS_MAX);
        self
    }

    /// Treatment of packets that look like TCP segments. Default: they are understood.
    #[must_use]
    pub fn tcp_form(mut self, form: TcpForm) -> Self {
        self.tcp_form = form;
        self
    }
}

/// A [`Driver`] over raw IP sockets.
#[derive(Debug)]
pub struct IpDriver {
    /// For each IP version one, at least one, then for each one for what looks like TCP.
    links: Vec<Link>,
    epoll: Epoll,
    reservation: Reservation,
    local_ip: IpAddr,
    capacity: RxCapacity,
    packets_per_call: usize,
    batch: RxBatch,
    reports: Reports,
    lookup: RouteLookup,
    sources: Sources,
    /// Which packets this driver sends.
    sends: Form,
    stats: IpStats,
    responder: Responder,
    /// Where a packet that lies in too many pieces is joined.
    joined: Vec<u8>,
}

/// Form of packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// Homa's own protocol number.
    Native,
    /// TCP segments.
    Tcp,
}

/// The socket of one IP version and form.
#[derive(Debug)]
struct Link {
    socket: RawSocket,
    form: Form,
    /// As the kernel last told: a counter that wraps.
    drops_seen: u32,
}

impl IpDriver {
    /// Opens a driver at `address`: `[::]` takes IPv4 as well, port 0 a free one from 32768 on. The
    /// port is taken on all addresses of the host; senders to another address are told that no
    /// server is there.
    ///
    /// # Errors
    /// See [`IpError`].
    pub fn bind(address: SocketAddr, config: &IpConfig) -> Result<Self, IpError> {
        if kernel_serves_homa() {
            return Err(IpError::KernelModule);
        }
        let reservation = Reservation::new(address.port(), address.ip())?;
        let mut links = open_links(address, reservation.port(), Form::Native)?;
        if config.tcp_form != TcpForm::Ignored {
            links.extend(open_links(address, reservation.port(), Form::Tcp)?);
        }
        let epoll = Epoll::new()?;
        let mut buffer_bytes = usize::MAX;
        for (token, link) in links.iter().enumerate() {
            let given = link.socket.set_receive_buffer(config.receive_buffer_bytes)?;
            buffer_bytes = buffer_bytes.min(given);
            epoll.add(link.socket.as_fd(), token as u64, true, false)?;
        }
        let responder = Responder::new(reservation.served(), config.tcp_form != TcpForm::Ignored)?;
        epoll.add(responder.epoll().as_fd(), RESPONDER, true, false)?;
        Ok(Self {
            links,
            epoll,
            reservation,
            local_ip: address.ip().to_canonical(),
            capacity: capacity_of(buffer_bytes as u64),
            packets_per_call: config.packets_per_call,
            batch: RxBatch::new(config.packets_per_call),
            reports: Reports::default(),
            lookup: RouteLookup::new()?,
            sources: Sources::default(),
            sends: if config.tcp_form == TcpForm::Sent { Form::Tcp } else { Form::Native },
            stats: IpStats::default(),
            responder,
            joined: Vec::new(),
        })
    }

    /// Counters so far.
    pub fn stats(&self) -> &IpStats {
        &self.stats
    }

    /// Whether this driver replies for the unserved ports of its host.
    pub fn is_responder(&self) -> bool {
        self.responder.is_holder()
    }

    fn port(&self) -> u16 {
        self.reservation.port()
    }

    /// MTU in bytes of the path to `remote` as the kernel knows it now.
    fn mtu(&self, remote: SocketAddr) -> Option<u32> {
        let interface = match remote {
            SocketAddr::V4(_) => 0,
            SocketAddr::V6(v6) => v6.scope_id(),
        };
        self.lookup.mtu(remote.ip(), interface).ok().filter(|&mtu| mtu > 0)
    }
}

/// Opens the sockets of one form that `address` needs. A system without IPv6 serves `[::]` by IPv4
/// alone.
fn open_links(address: SocketAddr, port: u16, form: Form) -> Result<Vec<Link>, IpError> {
    let ip = address.ip().to_canonical();
    let families: &[Family] = match (ip, ip.is_unspecified()) {
        (IpAddr::V4(_), _) => &[Family::V4],
        (IpAddr::V6(_), true) => &[Family::V4, Family::V6],
        (IpAddr::V6(_), false) => &[Family::V6],
    };
    let mut links = Vec::with_capacity(families.len());
    for &family in families {
        let opened = match form {
            Form::Native => RawSocket::open(family, IP_PROTOCOL, &Filter::to_port(family, port)),
            Form::Tcp => {
                let filter = Filter::tcp_to_port(family, port, MARKS);
                RawSocket::open(family, IP_PROTOCOL_TCP, &filter)
            }
        };
        let socket = match opened {
            Ok(socket) => socket,
            Err(error) if error.raw_os_error() == Some(errno::EPERM) => {
                return Err(IpError::NoCapability);
            }
            Err(_) if family == Family::V6 && !links.is_empty() => continue,
            Err(error) => return Err(error.into()),
        };
        if !ip.is_unspecified() {
            socket.bind(address)?;
        }
        links.push(Link { socket, form, drops_seen: 0 });
    }
    Ok(links)
}

impl AsFd for IpDriver {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}

impl Driver for IpDriver {
    same_over_sockets!();

    fn path(&mut self, remote: SocketAddr) -> (Option<u32>, Option<u32>) {
        (self.mtu(remote), None)
    }

    fn local_addr(&self) -> SocketAddr {
        SocketAddr::new(self.local_ip, self.port())
    }

    fn carriage(&self) -> Carriage {
        Carriage::Ip
    }

    fn tx_backlog_bytes(&self) -> Option<u64> {
        let queued = |link: &Link| link.socket.queued_tx_bytes().ok().map(|bytes| bytes as u64);
        self.links.iter().filter(|link| link.form == self.sends).map(queued).sum()
    }
}
