//! Why there is no endpoint.

use std::io;
use std::net::SocketAddr;

use thiserror::Error;

/// Why no endpoint could be made.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum BindError {
    /// The text names no address (unknown host, missing port).
    #[error("no such address: {0}")]
    Resolve(io::Error),
    /// Another socket uses the port: choose another, or end the other program.
    #[error("{address} is in use")]
    #[non_exhaustive]
    InUse {
        /// The address requested.
        address: SocketAddr,
    },
    /// Raw IP: the process may not open raw sockets. Run it as root, or give its program the
    /// capability once: `sudo setcap cap_net_raw+ep $(command -v homa)`.
    #[error(transparent)]
    NoCapability(homa_io::ip::IpError),
    /// Raw IP: the Linux module serves Homa on this host already. Use UDP, or unload it.
    #[error(transparent)]
    KernelModule(homa_io::ip::IpError),
    /// Raw IP: ports from 32,768 on are given out by the system. Ask for 1 to 32,767, or 0.
    #[error("port {} cannot be asked for over raw IP: 1 to 32767 can, 0 takes a free one above", address.port())]
    #[non_exhaustive]
    PortReserved {
        /// The address requested.
        address: SocketAddr,
    },
    /// AF_XDP was asked for and cannot be used: what that lacks, and what to do about it. Sockets
    /// work.
    #[error("no AF_XDP: {0}")]
    Xdp(homa_io::xdp::XdpError),
    /// This carriage is not there for endpoints: use UDP or raw IP.
    #[error("no endpoint can be made over {0:?}")]
    Carriage(homa_core::Carriage),
    /// The system refused the socket.
    #[error("cannot bind {address}: {reason}")]
    #[non_exhaustive]
    Socket {
        /// The address requested.
        address: SocketAddr,
        /// The system's error.
        reason: io::Error,
    },
    /// A setting is out of its range.
    #[error(transparent)]
    Config(#[from] homa_core::ConfigError),
    /// A thread or descriptor that every endpoint needs could not be made.
    #[error("cannot start the endpoint: {0}")]
    Resources(io::Error),
}
