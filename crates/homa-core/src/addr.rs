//! Where packets come from and go to.

use core::hash::{Hash, Hasher};
use core::net::{IpAddr, SocketAddr};

/// How Homa packets are carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Carriage {
    /// The Homa packet is a UDP payload; the UDP ports count, Homa's own are ignored. A peer
    /// is an `IP:port`. Both ends are always this implementation.
    Udp,
    /// IP protocol 146, as the Linux module speaks it. A peer is an `IP:port` here too, since
    /// several processes of this implementation may share an address. What Linux keeps per host
    /// is handled where it matters: an acknowledgement counts whatever port of the client's
    /// address it comes from.
    Ip,
}

/// The path between a local port and a remote port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Path {
    /// Address and Homa port of the other end (over UDP the two port spaces are the same).
    pub remote: SocketAddr,
    /// Our address as the peer used it, so that replies leave from the address that was asked;
    /// `None` lets the system choose.
    pub local_ip: Option<IpAddr>,
    /// Our Homa port (over UDP: the port of the socket).
    pub local_port: u16,
    /// Index of the network interface, 0 if any will do.
    pub interface: u32,
    /// Carriage of packets on this path.
    pub carriage: Carriage,
}

/// Metadata of a received packet: path, DSCP, ECN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RxMeta {
    /// The path it came along: `remote` is its sender, `local_ip`/`local_port` its destination. For
    /// [`Carriage::Ip`] the ports are filled in from the Homa header by the engine.
    pub path: Path,
    /// Differentiated services code point, 0 to 63.
    pub dscp: u8,
    /// Explicit congestion notification bits, 0 to 3.
    pub ecn: u8,
}

impl RxMeta {
    /// A packet that came along `path`, without marks.
    pub const fn new(path: Path) -> Self {
        Self { path, dscp: 0, ecn: 0 }
    }
}

/// Key of a peer: an `IP:port`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct PeerKey {
    pub(crate) ip: IpAddr,
    pub(crate) port: u16,
}

impl PeerKey {
    pub(crate) fn of(path: &Path) -> Self {
        Self { ip: path.remote.ip().to_canonical(), port: path.remote.port() }
    }
}

impl Hash for PeerKey {
    /// In one step where the address is IPv4: most packets come of another peer than the last.
    #[inline]
    fn hash<H: Hasher>(&self, state: &mut H) {
        match self.ip {
            IpAddr::V4(ip) => state.write_u64(u64::from(ip.to_bits()) << 16 | u64::from(self.port)),
            IpAddr::V6(ip) => (ip, self.port).hash(state),
        }
    }
}
