//! Who has which Homa port of this host.
//!
//! The kernel knows no ports of this protocol. A port belongs to whoever has bound the abstract Unix socket
//! `homa/146/PORT`: that is atomic, one name space per network namespace, and ends with the process.

use std::io;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect, socket_with,
};

use super::{ASKED_PORT_MAX, IpError};

/// How many ports the system gives out.
const AUTOMATIC_PORTS: u16 = u16::MAX - ASKED_PORT_MAX;

/// A port that belongs to this process until it is dropped.
#[derive(Debug)]
pub(super) struct Reservation {
    port: u16,
    _socket: OwnedFd,
}

impl Reservation {
    /// Takes `port`, or for 0 a free one of those that the system gives out.
    pub(super) fn new(port: u16) -> Result<Self, IpError> {
        if port > ASKED_PORT_MAX {
            return Err(IpError::PortReserved { port });
        }
        if port > 0 {
            return Self::take(port)?.ok_or(IpError::PortInUse { port });
        }
        // Where to begin does not matter as long as it differs, so that a port is not used again at once.
        let start = homa_sys::monotonic_ns() / 1_000 % u64::from(AUTOMATIC_PORTS);
        for step in 0..u64::from(AUTOMATIC_PORTS) {
            let offset = (start + step) % u64::from(AUTOMATIC_PORTS);
            // Below 32,768 + 32,768.
            let port = ASKED_PORT_MAX + 1 + offset as u16;
            if let Some(reservation) = Self::take(port)? {
                return Ok(reservation);
            }
        }
        Err(IpError::System(io::ErrorKind::AddrInUse.into()))
    }

    /// The port.
    pub(super) fn port(&self) -> u16 {
        self.port
    }

    /// `None`: somebody has it.
    fn take(port: u16) -> io::Result<Option<Self>> {
        let socket = open()?;
        match bind(&socket, &name(port)?) {
            Ok(()) => Ok(Some(Self { port, _socket: socket })),
            Err(Errno::ADDRINUSE) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

/// Whether somebody on this host has `port`.
pub(super) fn is_reserved(port: u16) -> io::Result<bool> {
    match connect(open()?, &name(port)?) {
        Ok(()) => Ok(true),
        Err(Errno::CONNREFUSED) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

fn open() -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    Ok(socket_with(AddressFamily::UNIX, SocketType::DGRAM, flags, None)?)
}

fn name(port: u16) -> io::Result<SocketAddrUnix> {
    Ok(SocketAddrUnix::new_abstract_name(format!("homa/146/{port}").as_bytes())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    // Scenario: C1, C2
    #[test]
    fn a_port_belongs_to_one_at_a_time() {
        let first = Reservation::new(0).unwrap();
        assert!(first.port() > ASKED_PORT_MAX);
        assert!(is_reserved(first.port()).unwrap());
        assert!(Reservation::take(first.port()).unwrap().is_none());
        let port = first.port();
        drop(first);
        assert!(!is_reserved(port).unwrap());
        assert!(Reservation::take(port).unwrap().is_some());
    }

    // Scenario: C5
    #[test]
    fn ports_that_the_system_gives_out_cannot_be_asked_for() {
        let error = Reservation::new(32_768).unwrap_err();
        assert!(matches!(error, IpError::PortReserved { port: 32_768 }));
    }
}
