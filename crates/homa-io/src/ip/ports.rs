//! Who has which Homa port of this host.
//!
//! The kernel knows no ports of this protocol. A port belongs to whoever has bound the abstract Unix socket
//! `homa/146/PORT`: that is atomic, one name space per network namespace, and ends with the process. At which
//! address it serves is told by a second name, `homa/146/PORT/ADDRESS`: packets to others are for nobody.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
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
    served: Served,
    _port: OwnedFd,
    _address: OwnedFd,
}

/// A port and the address of this host at which it is somebody's: `::` for all, `0.0.0.0` for those of IPv4.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Served {
    pub(super) port: u16,
    pub(super) ip: IpAddr,
}

impl Served {
    /// Whether packets to `port` at the address `ip` are for it.
    pub(super) fn covers(&self, port: u16, ip: IpAddr) -> bool {
        self.port == port && wider(ip).any(|wider| wider == self.ip)
    }
}

impl Reservation {
    /// Takes `port`, or for 0 a free one of those that the system gives out, to serve at the address `ip`.
    pub(super) fn new(port: u16, ip: IpAddr) -> Result<Self, IpError> {
        if port > ASKED_PORT_MAX {
            return Err(IpError::PortReserved { port });
        }
        if port > 0 {
            return Self::take(port, ip)?.ok_or(IpError::PortInUse { port });
        }
        // Where to begin does not matter as long as it differs, so that a port is not used again at once.
        let start = homa_sys::monotonic_ns() / 1_000 % u64::from(AUTOMATIC_PORTS);
        for step in 0..u64::from(AUTOMATIC_PORTS) {
            let offset = (start + step) % u64::from(AUTOMATIC_PORTS);
            // Below 32,768 + 32,768.
            let port = ASKED_PORT_MAX + 1 + offset as u16;
            if let Some(reservation) = Self::take(port, ip)? {
                return Ok(reservation);
            }
        }
        Err(IpError::System(io::ErrorKind::AddrInUse.into()))
    }

    /// The port.
    pub(super) fn port(&self) -> u16 {
        self.served.port
    }

    /// The port with its address.
    pub(super) fn served(&self) -> Served {
        self.served
    }

    /// `None`: somebody has it.
    fn take(port: u16, ip: IpAddr) -> io::Result<Option<Self>> {
        let served = Served { port, ip: ip.to_canonical() };
        let (socket, address) = (open()?, open()?);
        match bind(&socket, &name(&port.to_string())?) {
            Ok(()) => {}
            Err(Errno::ADDRINUSE) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
        // Nobody else takes this one: the port is ours.
        bind(&address, &address_name(&served)?)?;
        Ok(Some(Self { served, _port: socket, _address: address }))
    }
}

/// What serves at `port` of the address `ip` of this host; `None`: nobody.
pub(super) fn serving(port: u16, ip: IpAddr) -> io::Result<Option<Served>> {
    for ip in wider(ip) {
        let served = Served { port, ip };
        match connect(open()?, &address_name(&served)?) {
            Ok(()) => return Ok(Some(served)),
            Err(Errno::CONNREFUSED) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(None)
}

/// The addresses at which one may serve who gets packets to `ip`, the widest first.
fn wider(ip: IpAddr) -> impl Iterator<Item = IpAddr> {
    let v4 = ip.is_ipv4().then_some(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    [Some(IpAddr::V6(Ipv6Addr::UNSPECIFIED)), v4, Some(ip)].into_iter().flatten()
}

fn open() -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    Ok(socket_with(AddressFamily::UNIX, SocketType::DGRAM, flags, None)?)
}

fn address_name(Served { port, ip }: &Served) -> io::Result<SocketAddrUnix> {
    name(&format!("{port}/{ip}"))
}

fn name(of: &str) -> io::Result<SocketAddrUnix> {
    Ok(SocketAddrUnix::new_abstract_name(format!("homa/146/{of}").as_bytes())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    // Scenario: C1, C2
    #[test]
    fn a_port_belongs_to_one_at_a_time() {
        let any = IpAddr::V6(Ipv6Addr::UNSPECIFIED);
        let first = Reservation::new(0, any).unwrap();
        assert!(first.port() > ASKED_PORT_MAX);
        assert_eq!(serving(first.port(), LOOPBACK).unwrap(), Some(first.served()));
        assert!(Reservation::take(first.port(), any).unwrap().is_none());
        assert!(Reservation::take(first.port(), LOOPBACK).unwrap().is_none());
        let port = first.port();
        drop(first);
        assert_eq!(serving(port, LOOPBACK).unwrap(), None);
        assert!(Reservation::take(port, any).unwrap().is_some());
    }

    #[test]
    fn a_port_is_served_at_the_address_it_was_opened_at_alone() {
        let ips: [IpAddr; 4] = [
            LOOPBACK,
            "10.0.0.1".parse().unwrap(),
            "::1".parse().unwrap(),
            "2001:db8::1".parse().unwrap(),
        ];
        for (at, reached) in [
            ("::", &ips[..]),
            ("0.0.0.0", &ips[..2]),
            ("127.0.0.1", &ips[..1]),
            ("::1", &ips[2..3]),
        ] {
            let reservation = Reservation::new(0, at.parse().unwrap()).unwrap();
            let (served, port) = (reservation.served(), reservation.port());
            for ip in ips {
                let expected = reached.contains(&ip).then_some(served);
                assert_eq!(serving(port, ip).unwrap(), expected, "{ip} at {at}");
                assert_eq!(served.covers(port, ip), expected.is_some(), "{ip} at {at}");
            }
            assert!(!served.covers(port ^ 1, ips[0]));
        }
    }

    // Scenario: C5
    #[test]
    fn ports_that_the_system_gives_out_cannot_be_asked_for() {
        let error = Reservation::new(32_768, LOOPBACK).unwrap_err();
        assert!(matches!(error, IpError::PortReserved { port: 32_768 }));
    }
}
