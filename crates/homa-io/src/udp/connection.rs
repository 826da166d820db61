//! A client that speaks to one server only has its socket connected to it: the kernel then keeps
//! the route, which saves some 400 ns per packet sent. Only IPv4 sockets are connected: one of IPv6
//! that was disconnected hears no other IPv6 address any more (Linux 6.18 keeps the former one).

use std::io;
use std::net::SocketAddr;

use homa_sys::UdpSocket;

use super::UdpDriver;

/// Sends in a row to one address after which the socket is connected to it.
const SENDS_BEFORE_CONNECT: u32 = 8;
/// Times a port is tried that somebody else may take meanwhile.
const BIND_ATTEMPTS: usize = 16;

/// Whether the socket is connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Connection {
    /// It must receive from all peers.
    Never,
    /// Not yet: so many sends in a row went to the same address.
    Possible {
        /// That address.
        to: Option<SocketAddr>,
        /// How many.
        sends: u32,
    },
    /// To this address.
    To(SocketAddr),
}

impl Connection {
    /// That of a new socket with a local address; `one_peer`: it may speak to one peer only.
    pub(super) fn first(local: SocketAddr, one_peer: bool) -> Self {
        match one_peer && local.is_ipv4() {
            true => Self::Possible { to: None, sends: 0 },
            false => Self::Never,
        }
    }
}

impl UdpDriver {
    /// Before a send to `to`: connects, or ends the connection for good. Says whether it is
    /// connected.
    #[inline]
    pub(super) fn connect_for(&mut self, to: SocketAddr) -> bool {
        match &mut self.connection {
            Connection::Never => false,
            Connection::To(connected) if *connected == to => true,
            Connection::To(_) => {
                // Should it fail, sends to the other address fail too and are reported.
                let _ = self.socket.disconnect();
                let _ = self.socket.set_receive_destinations(self.local.ip().is_unspecified());
                self.connection = Connection::Never;
                false
            }
            Connection::Possible { to: before, sends } if *before == Some(to) => {
                *sends += 1;
                if *sends < SENDS_BEFORE_CONNECT {
                    return false;
                }
                let connected = self.socket.connect(to).is_ok();
                if connected {
                    // Every packet is for the one address that the connection gave the socket.
                    let _ = self.socket.set_receive_destinations(false);
                }
                self.connection = if connected { Connection::To(to) } else { Connection::Never };
                connected
            }
            Connection::Possible { to: before @ None, .. } => {
                *before = Some(to);
                false
            }
            Connection::Possible { .. } => {
                self.connection = Connection::Never;
                false
            }
        }
    }
}

/// Opens a socket whose port survives the end of a connection: one that was asked for by its
/// number.
pub(super) fn bind_by_number(address: SocketAddr) -> io::Result<UdpSocket> {
    if address.port() != 0 {
        return UdpSocket::bind(address);
    }
    for _ in 0..BIND_ATTEMPTS {
        let port = UdpSocket::bind(address)?.local_addr()?.port();
        match UdpSocket::bind(SocketAddr::new(address.ip(), port)) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
            result => return result,
        }
    }
    Err(io::ErrorKind::AddrInUse.into())
}
