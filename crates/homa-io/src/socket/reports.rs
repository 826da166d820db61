//! Error reports about packets sent earlier, kept until the next receive.

use std::io;
use std::net::{IpAddr, SocketAddr};

use homa_core::IcmpKind;
use homa_sys::SocketError;
use homa_sys::udp::ErrorOrigin;

use crate::driver::PacketSink;

/// Reports kept between two receives. ICMP is a hint; more than these are counted and forgotten.
const KEPT_MAX: usize = 32;

/// Reports read in one go. What is behind them is read the next time.
const READ_MAX: usize = 64;

/// Reports that wait for the next receive. Grows once to its limit and then no more.
#[derive(Debug, Default)]
pub(crate) struct Reports {
    kept: Vec<Report>,
}

/// Reports from an error queue.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Drained {
    /// Reports read.
    pub(crate) read: u64,
    /// Of these, forgotten because too many came between two receives.
    pub(crate) lost: u64,
}

#[derive(Clone, Copy, Debug)]
enum Report {
    Icmp(IcmpKind, SocketError),
    Mtu(SocketAddr, u32),
}

impl Reports {
    /// Empties an error queue that `read_error` reads, with it the error that the next call would
    /// fail with. `mtu` tells the MTU of the path to a host. Says how many there were, and how many
    /// of them are lost.
    pub(crate) fn drain(
        &mut self,
        mut read_error: impl FnMut() -> io::Result<Option<SocketError>>,
        mut mtu: impl FnMut(IpAddr) -> Option<u32>,
    ) -> Drained {
        let mut drained = Drained::default();
        for _ in 0..READ_MAX {
            let Ok(Some(error)) = read_error() else {
                break;
            };
            drained.read += 1;
            if let Some(report) = meaning(&error, &mut mtu) {
                if !self.keep(report) {
                    drained.lost += 1;
                }
            }
        }
        drained
    }

    fn keep(&mut self, report: Report) -> bool {
        if self.kept.len() >= KEPT_MAX {
            return false;
        }
        self.kept.reserve_exact(KEPT_MAX - self.kept.len());
        self.kept.push(report);
        true
    }

    /// Hands all reports to `sink`.
    #[inline]
    pub(crate) fn deliver(&mut self, sink: &mut impl PacketSink) {
        if self.kept.is_empty() {
            return;
        }
        for report in self.kept.drain(..) {
            match report {
                Report::Icmp(kind, error) => {
                    sink.icmp_error(kind, error.destination, error.quoted());
                }
                Report::Mtu(destination, mtu) => sink.path_mtu(destination, mtu),
            }
        }
    }
}

/// Meaning of a report for Homa; `None` if it does not concern it.
fn meaning(
    error: &SocketError,
    known_mtu: &mut impl FnMut(IpAddr) -> Option<u32>,
) -> Option<Report> {
    if let Some(mtu) = error.mtu {
        // The kernel checks and bounds what routers say before it believes it.
        let believed = match error.origin {
            ErrorOrigin::Local => mtu,
            _ => known_mtu(error.destination.ip())?,
        };
        return Some(Report::Mtu(error.destination, believed));
    }
    icmp_kind(error.origin, error.icmp_type, error.icmp_code).map(|kind| Report::Icmp(kind, *error))
}

/// Source: RFC 792 with the codes of RFC 1812 (type 3), and RFC 4443 (types 1 and 4).
fn icmp_kind(origin: ErrorOrigin, icmp_type: u8, icmp_code: u8) -> Option<IcmpKind> {
    match (origin, icmp_type, icmp_code) {
        (ErrorOrigin::Icmp, 3, 3) | (ErrorOrigin::Icmp6, 1, 4) => Some(IcmpKind::PortUnreachable),
        (ErrorOrigin::Icmp, 3, 2) | (ErrorOrigin::Icmp6, 4, 1) => {
            Some(IcmpKind::ProtocolUnreachable)
        }
        (ErrorOrigin::Icmp, 3, code) if code != 4 => Some(IcmpKind::HostUnreachable),
        (ErrorOrigin::Icmp6, 1, _) => Some(IcmpKind::HostUnreachable),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Scenario: E5
    #[test]
    fn reports_of_both_ip_versions_have_one_meaning() {
        use ErrorOrigin::{Icmp, Icmp6, Local};
        assert_eq!(icmp_kind(Icmp, 3, 3), Some(IcmpKind::PortUnreachable));
        assert_eq!(icmp_kind(Icmp6, 1, 4), Some(IcmpKind::PortUnreachable));
        assert_eq!(icmp_kind(Icmp, 3, 2), Some(IcmpKind::ProtocolUnreachable));
        assert_eq!(icmp_kind(Icmp6, 4, 1), Some(IcmpKind::ProtocolUnreachable));
        assert_eq!(icmp_kind(Icmp, 3, 1), Some(IcmpKind::HostUnreachable));
        assert_eq!(icmp_kind(Icmp6, 1, 0), Some(IcmpKind::HostUnreachable));
        assert_eq!(icmp_kind(Icmp, 3, 4), None);
        assert_eq!(icmp_kind(Icmp, 11, 0), None);
        assert_eq!(icmp_kind(Local, 3, 3), None);
    }
}
