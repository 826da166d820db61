//! Ownership of the Homa ports of this host.
//!
//! A port belongs to the process that has claimed it ([`super::claims`]). At which address it
//! serves is told by the name of an abstract Unix socket, `homa/146/PORT/MARK/ADDRESS`, with the
//! mark of the claim: packets to other addresses are unserved. Any user can take such names, so a
//! mark is chosen whose name is free. Where none is, the port counts as served at all addresses.

use std::collections::HashSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::OwnedFd;

use homa_sys::errno;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect, socket_with,
};

use super::claims::{Claim, Claimed, claim, claims, random};
use super::{ASKED_PORT_MAX, IpError};

/// How many ports the system gives out.
const AUTOMATIC_PORTS: u16 = u16::MAX - ASKED_PORT_MAX;

/// Marks tried until one has a free name.
const MARKS_TRIED_MAX: usize = 16;
/// Marks that there are; the first one means that there is no name.
const MARKS: u64 = 4_096;

/// A port that belongs to this process until it is dropped.
#[derive(Debug)]
pub(super) struct Reservation {
    served: Served,
    _port: Claimed,
    _address: Option<OwnedFd>,
}

/// A port and the address of this host at which it is served: `::` for all, `0.0.0.0` for those
/// of IPv4.
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
    /// Takes `port`, or for 0 a free one of those that the system gives out, to serve at the
    /// address `ip`.
    pub(super) fn new(port: u16, ip: IpAddr) -> Result<Self, IpError> {
        if port > ASKED_PORT_MAX {
            return Err(IpError::PortReserved { port });
        }
        if port > 0 {
            return Self::take(port, ip)?.ok_or(IpError::PortInUse { port });
        }
        let taken: HashSet<u16> =
            claims()?.into_iter().filter_map(|(claim, _)| port_of(claim)).collect();
        // Where to begin does not matter as long as it differs, so that a port is not used again at
        // once.
        let start = homa_sys::monotonic_ns() / 1_000 % u64::from(AUTOMATIC_PORTS);
        for step in 0..u64::from(AUTOMATIC_PORTS) {
            let offset = (start + step) % u64::from(AUTOMATIC_PORTS);
            // Below 32,768 + 32,768.
            let port = ASKED_PORT_MAX + 1 + offset as u16;
            if taken.contains(&port) {
                continue;
            }
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
    fn take(port: u16, ip: IpAddr) -> Result<Option<Self>, IpError> {
        let served = Served { port, ip: ip.to_canonical() };
        let (mark, address) = tell(&served)?;
        match claim(Claim::Port { port, mark }) {
            Ok(Some(claimed)) => Ok(Some(Self { served, _port: claimed, _address: address })),
            Ok(None) => Ok(None),
            Err(error) if error.raw_os_error() == Some(errno::EPERM) => Err(IpError::NoCapability),
            Err(error) => Err(error.into()),
        }
    }
}

/// Takes a name that tells where a port serves; returns its mark as well.
fn tell(served: &Served) -> io::Result<(u16, Option<OwnedFd>)> {
    for _ in 0..MARKS_TRIED_MAX {
        // Below 4,096.
        let mark = (1 + random() % (MARKS - 1)) as u16;
        let socket = open()?;
        match bind(&socket, &name(served, mark)?) {
            Ok(()) => return Ok((mark, Some(socket))),
            Err(Errno::ADDRINUSE) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok((0, None))
}

fn port_of(claim: Claim) -> Option<u16> {
    match claim {
        Claim::Port { port, .. } => Some(port),
        Claim::Responder { .. } => None,
    }
}

/// The owner of `port` at the address `ip` of this host; `None`: there is none.
pub(super) fn serving(port: u16, ip: IpAddr) -> io::Result<Option<Served>> {
    for (claim, _) in claims()? {
        match claim {
            Claim::Port { port: claimed, mark: 0 } if claimed == port => {
                return Ok(Some(Served { port, ip: IpAddr::V6(Ipv6Addr::UNSPECIFIED) }));
            }
            Claim::Port { port: claimed, mark } if claimed == port => {
                if let Some(served) = told(port, mark, ip)? {
                    return Ok(Some(served));
                }
            }
            _ => {}
        }
    }
    Ok(None)
}

/// Where the owner of a port with this mark serves packets to `ip`; `None`: it does not.
fn told(port: u16, mark: u16, ip: IpAddr) -> io::Result<Option<Served>> {
    for ip in wider(ip) {
        let served = Served { port, ip };
        match connect(open()?, &name(&served, mark)?) {
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

fn name(Served { port, ip }: &Served, mark: u16) -> io::Result<SocketAddrUnix> {
    Ok(SocketAddrUnix::new_abstract_name(format!("homa/146/{port}/{mark}/{ip}").as_bytes())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    /// Whether this process may have ports.
    fn may_claim() -> bool {
        let may = !matches!(Reservation::new(0, LOOPBACK), Err(IpError::NoCapability));
        if !may {
            eprintln!("SKIPPED: raw IP needs CAP_NET_RAW");
        }
        may
    }

    // Scenario: C1, C2
    #[test]
    fn a_port_belongs_to_one_at_a_time() {
        if !may_claim() {
            return;
        }
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
        if !may_claim() {
            return;
        }
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

    #[test]
    fn of_many_that_want_a_port_at_once_one_has_it() {
        if !may_claim() {
            return;
        }
        let free = Reservation::new(0, LOOPBACK).unwrap().port();
        let barrier = std::sync::Barrier::new(8);
        let take = || {
            barrier.wait();
            let taken = Reservation::take(free, LOOPBACK).unwrap();
            barrier.wait();
            usize::from(taken.is_some())
        };
        let owners: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(take)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert!(owners <= 1, "{owners}");
        assert!(Reservation::take(free, LOOPBACK).unwrap().is_some());
    }

    #[test]
    fn a_port_whose_names_are_all_taken_counts_as_served_at_all_addresses() {
        if !may_claim() {
            return;
        }
        let port = Reservation::new(0, LOOPBACK).unwrap().port();
        let unnamed = claim(Claim::Port { port, mark: 0 }).unwrap();
        let served = serving(port, "192.0.2.1".parse().unwrap()).unwrap().unwrap();
        assert_eq!(served, Served { port, ip: IpAddr::V6(Ipv6Addr::UNSPECIFIED) });
        drop(unnamed);
        assert_eq!(serving(port, LOOPBACK).unwrap(), None);
    }

    // Scenario: C5
    #[test]
    fn ports_that_the_system_gives_out_cannot_be_asked_for() {
        let error = Reservation::new(32_768, LOOPBACK).unwrap_err();
        assert!(matches!(error, IpError::PortReserved { port: 32_768 }));
    }
}
