//! Claims to what one process of a host has for itself alone: a port, a role.
//!
//! The kernel knows no ports of this protocol, but raw sockets: only who may speak raw IP can open
//! one, everybody can see it (`/proc/net/raw`), it belongs to a network namespace, and it ends with
//! its process. So a claim is a raw socket that carries nothing, bound to an IPv4 address that no
//! host has and that says what is claimed. A name in a place that is open to all, as that of an
//! abstract Unix socket, could be taken by any user of the host.
//!
//! A process claims first and then looks for other claims, so of two at least one sees the other
//! and withdraws; perhaps both do, and try again after different times.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::net::sockopt::set_ip_freebind;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, ipproto, socket_with};

/// The sockets of the thread's network namespace.
const TABLE: &str = "/proc/thread-self/net/raw";
/// The protocol number of sockets that receive nothing, as the table shows it.
const SEND_ONLY: &str = ":00FF";
/// A port is claimed at 240.0.0.0/4, addresses reserved for ever; the role at 0.0.0.0/8, which
/// belong to no host.
const PORTS: u32 = 0xF000_0000;
/// Times that a claim is made in a row while others claim the same.
const ATTEMPTS_MAX: usize = 8;
/// Longest time between two of them, in microseconds.
const PAUSE_US: u64 = 1_000;
/// Times that the table is read until it does not change.
const READS_MAX: usize = 8;

/// The object of a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Claim {
    /// A port.
    #[non_exhaustive]
    Port {
        /// Which one.
        port: u16,
        /// Part of the name that tells where it serves, below 4,096; 0: there is none.
        mark: u16,
    },
    /// The role of responder for unserved ports.
    #[non_exhaustive]
    Responder {
        /// Part of the name of its socket, below 2^24.
        mark: u32,
    },
}

impl Claim {
    /// Whether `other` is a claim to the same.
    fn excludes(self, other: Self) -> bool {
        match (self, other) {
            (Self::Port { port, .. }, Self::Port { port: other, .. }) => port == other,
            (Self::Responder { .. }, Self::Responder { .. }) => true,
            _ => false,
        }
    }

    fn address(self) -> Ipv4Addr {
        Ipv4Addr::from(match self {
            Self::Port { port, mark } => PORTS | u32::from(mark & 0xFFF) << 16 | u32::from(port),
            Self::Responder { mark } => mark & 0xFF_FFFF,
        })
    }

    fn of_address(address: Ipv4Addr) -> Option<Self> {
        let bits = u32::from(address);
        match bits >> 24 {
            _ if bits >= PORTS => {
                Some(Self::Port { port: bits as u16, mark: (bits >> 16) as u16 & 0xFFF })
            }
            0 if bits > 0 => Some(Self::Responder { mark: bits }),
            _ => None,
        }
    }
}

/// A claim that this process has until it is dropped.
#[derive(Debug)]
pub(super) struct Claimed {
    _socket: OwnedFd,
}

/// Claims; `None`: somebody else has it.
pub(super) fn claim(claim: Claim) -> io::Result<Option<Claimed>> {
    for _ in 0..ATTEMPTS_MAX {
        let claimed = Claimed { _socket: open(claim)? };
        if claims()?.iter().filter(|(other, _)| claim.excludes(*other)).count() <= 1 {
            return Ok(Some(claimed));
        }
        drop(claimed);
        std::thread::sleep(Duration::from_micros(random() % PAUSE_US));
    }
    Ok(None)
}

fn open(claim: Claim) -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::INET, SocketType::RAW, flags, Some(ipproto::RAW))?;
    set_ip_freebind(&socket, true)?;
    bind(&socket, &SocketAddrV4::new(claim.address(), 0))?;
    Ok(socket)
}

/// The claims in this thread's network namespace, with the inodes of their sockets.
///
/// # Errors
/// The system does not show its sockets.
pub fn claims() -> io::Result<Vec<(Claim, u64)>> {
    let mut claims = parse(&std::fs::read_to_string(TABLE)?);
    for _ in 1..READS_MAX {
        // It comes in pieces: a socket that ends meanwhile can hide others.
        let before = std::mem::replace(&mut claims, parse(&std::fs::read_to_string(TABLE)?));
        if before == claims {
            break;
        }
    }
    Ok(claims)
}

/// Reads what the table has: slot, local address, remote address, state, queues, timer,
/// retransmissions, user, timeout, inode, and more.
fn parse(table: &str) -> Vec<(Claim, u64)> {
    let claim = |line: &str| {
        let mut fields = line.split_whitespace();
        let address = fields.nth(1)?.strip_suffix(SEND_ONLY)?;
        // As it lies in memory.
        let address = Ipv4Addr::from(u32::from_str_radix(address, 16).ok()?.to_ne_bytes());
        Some((Claim::of_address(address)?, fields.nth(7)?.parse().ok()?))
    };
    let mut claims: Vec<_> = table.lines().filter_map(claim).collect();
    claims.sort_unstable();
    claims
}

/// Some number.
pub(super) fn random() -> u64 {
    RandomState::new().hash_one(homa_sys::monotonic_ns())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_says_what_is_claimed() {
        for claim in [
            Claim::Port { port: 1, mark: 0 },
            Claim::Port { port: 65_535, mark: 4_095 },
            Claim::Responder { mark: 1 },
            Claim::Responder { mark: 0xFF_FFFF },
        ] {
            assert_eq!(Claim::of_address(claim.address()), Some(claim));
        }
        assert_eq!(Claim::of_address(Ipv4Addr::UNSPECIFIED), None);
        assert_eq!(Claim::of_address(Ipv4Addr::LOCALHOST), None);
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn claims_are_found_among_other_raw_sockets() {
        let table = "\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops
  94: 00000000:0092 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 11 2 0000000000000000 0
 160: 030201F0:00FF 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 12 2 00000000032cf396 0
 160: 07000000:00FF 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 13 2 00000000b21c471c 0
 160: 00000000:00FF 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 14 2 00000000b21c471c 0
";
        let port = Claim::Port { port: 0x203, mark: 1 };
        assert_eq!(parse(table), [(port, 12), (Claim::Responder { mark: 7 }, 13)]);
    }
}
