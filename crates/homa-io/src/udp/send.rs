//! Sending: trains where the path takes them, and verdicts on the kernel's errors.

use std::io::{self, IoSlice};
use std::net::{IpAddr, SocketAddr};

use homa_core::{Segment, Transmit, TransmitError};
use homa_sys::udp::Pieces;
use homa_sys::{Source, errno};

use super::train::{gather, train_length};
use super::{UdpDriver, route};
use crate::driver::{Payloads, Unsent};
use crate::socket::errors::{Verdict, is_final};
use crate::socket::gather::join;
use crate::socket::route::{is_link_local, is_same_family};

/// A datagram alone and no longer than this is copied together: that takes less time than the
/// kernel needs for a list of pieces.
const JOINED_BYTES_MAX: u32 = 1_536;

/// So is one of several packets that have no more bytes than this on average.
const JOINED_PACKET_BYTES_MAX: usize = 512;

/// Sends in a row with one and the same mark after which it becomes the socket's default.
const SENDS_BEFORE_DEFAULT: u32 = 16;

/// Longest train of kernels before Linux 6.9.
const OLD_SEGMENTS_MAX: usize = 64;

/// Where a transmission goes, as the socket takes it.
struct Destination<'a> {
    to: &'a SocketAddr,
    source: Option<Source>,
    tos: u8,
    /// The socket is connected to `to`.
    connected: bool,
}

/// Packets to be sent by one call.
struct Train<'a> {
    pieces: &'a [IoSlice<'a>],
    /// Bytes of each datagram but the last.
    segment_bytes: u32,
    datagrams: usize,
    packets: usize,
}

/// Why a call sent nothing.
enum Refusal {
    /// The path does not take so many segments in one call; fewer, or one, may do.
    Cut,
    /// For good, as far as this call goes.
    Failed(TransmitError),
}

impl UdpDriver {
    /// Sends `segments` in as few calls as possible.
    pub(super) fn send_segments(
        &mut self,
        transmit: &Transmit,
        segments: &[Segment],
        payloads: &impl Payloads,
    ) -> Result<(), Unsent> {
        let destination = self.destination(transmit);
        self.learn_mark(destination.tos);
        let one_datagram = transmit.coalesced || segments.len() == 1;
        if one_datagram && is_joined(transmit.total_bytes, segments.len()) {
            match self.send_joined(&destination, segments, payloads) {
                Ok(_) => return Ok(()),
                Err(Refusal::Failed(why)) => return Err(Unsent { first: 0, why }),
                // Not of a single datagram; the loop sends what can be sent.
                Err(Refusal::Cut) => {}
            }
        }
        let ip = destination.to.ip();
        let single = segments.len() == 1 || self.routes.is_single(ip);
        let mut train_max = if single { 1 } else { self.train_max };
        let mut suspected = false;
        let mut first = 0;
        while let Some(rest) = segments.get(first..).filter(|rest| !rest.is_empty()) {
            let wanted = match train_max {
                _ if transmit.coalesced => rest.len(),
                1 => 1,
                _ => train_length(rest, train_max),
            };
            let group = rest.get(..wanted).unwrap_or(rest);
            match self.send_some(&destination, group, transmit.coalesced, payloads) {
                Ok(count) => {
                    first += count;
                    if std::mem::take(&mut suspected) {
                        self.learn(ip, train_max);
                    }
                }
                // Strictly smaller each time, and a single packet is never too long a train.
                Err(Refusal::Cut) => {
                    train_max = if wanted > OLD_SEGMENTS_MAX { OLD_SEGMENTS_MAX } else { 1 };
                    suspected = true;
                }
                Err(Refusal::Failed(why)) => return Err(Unsent { first, why }),
            }
        }
        Ok(())
    }

    /// A train failed and a shorter one, of at most `train_max`, did not: so it was its length.
    fn learn(&mut self, ip: IpAddr, train_max: usize) {
        if train_max == 1 {
            self.stats.uncut_hosts += 1;
            self.routes.set_single(ip);
        } else {
            self.train_max = train_max;
        }
    }

    /// Makes the mark that most packets carry the socket's default.
    #[inline]
    fn learn_mark(&mut self, tos: u8) {
        if self.socket.default_tos() == tos {
            self.other_marks = 0;
            return;
        }
        self.other_marks += 1;
        if self.other_marks >= SENDS_BEFORE_DEFAULT {
            self.other_marks = 0;
            // Should it fail, every packet goes on saying its mark.
            let _ = self.socket.set_default_tos(tos);
        }
    }

    #[inline]
    fn destination<'a>(&mut self, transmit: &'a Transmit) -> Destination<'a> {
        let path = &transmit.path;
        // A socket at one address sends from there anyway. The interface is left to the routes
        // except where the address means nothing without it.
        let source = path
            .local_ip
            .filter(|ip| self.local.ip().is_unspecified() && is_same_family(*ip, path.remote.ip()));
        let interface = if is_link_local(path.remote.ip()) { path.interface } else { 0 };
        Destination {
            to: &path.remote,
            source: source.map(|ip| Source { ip, interface }),
            tos: transmit.dscp << 2,
            connected: self.connect_for(path.remote),
        }
    }

    /// Sends the first of `segments`, which make one train or one long datagram (`coalesced`): all
    /// if their pieces fit one call. Says how many.
    fn send_some(
        &mut self,
        destination: &Destination<'_>,
        segments: &[Segment],
        coalesced: bool,
        payloads: &impl Payloads,
    ) -> Result<usize, Refusal> {
        let Some((first, others)) = segments.split_first() else {
            return Ok(0);
        };
        if others.is_empty() && first.wire_bytes() <= JOINED_BYTES_MAX {
            return self.send_joined(destination, segments, payloads);
        }
        let mut pieces = Pieces::new();
        let count = gather(&mut pieces, segments, payloads);
        if count == 0 {
            self.stats.joined_packets += 1;
            return self.send_joined(destination, std::slice::from_ref(first), payloads);
        }
        let (segment_bytes, datagrams) = match coalesced {
            true => (pieces.iter().map(|piece| piece.len() as u32).sum(), 1),
            false => (first.wire_bytes(), count),
        };
        self.send_train(
            destination,
            &Train { pieces: &pieces, segment_bytes, datagrams, packets: count },
        )?;
        Ok(count)
    }

    /// Sends one datagram from a buffer that the pieces of `segments` are copied to.
    fn send_joined(
        &mut self,
        destination: &Destination<'_>,
        segments: &[Segment],
        payloads: &impl Payloads,
    ) -> Result<usize, Refusal> {
        let mut joined = std::mem::take(&mut self.joined);
        join(&mut joined, segments, payloads);
        let segment_bytes = u32::try_from(joined.len()).unwrap_or(u32::MAX);
        let packets = segments.len();
        let pieces = &[IoSlice::new(&joined)];
        let result =
            self.send_train(destination, &Train { pieces, segment_bytes, datagrams: 1, packets });
        self.joined = joined;
        result.map(|()| packets)
    }

    /// One successful call, or the reason why there is none.
    #[inline]
    fn send_train(
        &mut self,
        destination: &Destination<'_>,
        train: &Train<'_>,
    ) -> Result<(), Refusal> {
        match self.send_once(destination, train) {
            Ok(()) => Ok(()),
            Err(error) => self.refused(error, destination, train),
        }
    }

    /// One call.
    #[inline]
    fn send_once(&mut self, destination: &Destination<'_>, train: &Train<'_>) -> io::Result<()> {
        let gso = u16::try_from(train.segment_bytes).ok().filter(|_| train.datagrams > 1);
        let sent = if destination.connected {
            self.socket.send_connected(*destination.to, destination.tos, gso, train.pieces)
        } else {
            self.socket.send(
                *destination.to,
                destination.source,
                destination.tos,
                gso,
                train.pieces,
            )
        };
        self.note_sent(train, sent?);
        Ok(())
    }

    /// Finds out what an error means, if need be by sending again.
    #[cold]
    fn refused(
        &mut self,
        mut error: io::Error,
        destination: &Destination<'_>,
        train: &Train<'_>,
    ) -> Result<(), Refusal> {
        let mut attempt = 1;
        loop {
            if is_cut(&error, train) {
                return Err(Refusal::Cut);
            }
            let why = match judge(&error, destination.to.ip(), train) {
                Verdict::Certain(why) => return Err(self.note_failure(why)),
                Verdict::Doubtful(why) => why,
            };
            // Perhaps not the answer to this send, but what the network said about another.
            let reports_before = self.stats.reports;
            self.drain_reports();
            let explained = self.stats.reports > reports_before;
            if is_final(attempt, explained) {
                return Err(self.note_failure(why));
            }
            self.stats.repeated_sends += 1;
            attempt += 1;
            error = match self.send_once(destination, train) {
                Ok(()) => return Ok(()),
                Err(again) => again,
            };
        }
    }

    fn note_sent(&mut self, train: &Train<'_>, bytes: usize) {
        self.stats.sends += 1;
        self.stats.sent_packets += train.packets as u64;
        self.stats.sent_bytes += bytes as u64;
        if train.datagrams > 1 {
            self.stats.sent_trains += 1;
        }
    }

    fn note_failure(&mut self, why: TransmitError) -> Refusal {
        let stats = &mut self.stats;
        match why {
            TransmitError::NoRoom => stats.no_room += 1,
            TransmitError::TooBig(_) => stats.too_big += 1,
            TransmitError::Refused => stats.refused += 1,
            _ => stats.unreachable += 1,
        }
        Refusal::Failed(why)
    }
}

/// Whether a datagram of so many bytes and packets is copied together.
fn is_joined(bytes: u32, packets: usize) -> bool {
    bytes <= JOINED_BYTES_MAX || bytes as usize <= JOINED_PACKET_BYTES_MAX * packets
}

/// Whether an error says that the path does not take so many segments in one call.
fn is_cut(error: &io::Error, train: &Train<'_>) -> bool {
    train.datagrams > 1 && matches!(error.raw_os_error(), Some(errno::EINVAL | errno::EIO))
}

/// Verdict on another error of this send.
fn judge(error: &io::Error, ip: IpAddr, train: &Train<'_>) -> Verdict {
    Verdict::of(error, route::packet_bytes(ip, train.segment_bytes), || route::mtu(ip))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    fn train(segment_bytes: u32, datagrams: usize) -> Train<'static> {
        Train { pieces: &[], segment_bytes, datagrams, packets: datagrams }
    }

    #[test]
    fn a_datagram_is_copied_together_if_it_or_its_packets_are_short() {
        assert!(is_joined(1_500, 1) && is_joined(1_500, 2));
        assert!(!is_joined(9_000, 1) && !is_joined(9_000, 6));
        assert!(is_joined(9_000, 60));
    }

    #[test]
    fn only_trains_can_be_cut() {
        for errno in [errno::EINVAL, errno::EIO] {
            let error = io::Error::from_raw_os_error(errno);
            assert!(is_cut(&error, &train(100, 2)));
            assert!(!is_cut(&error, &train(100, 1)));
        }
        assert!(!is_cut(&io::Error::from_raw_os_error(errno::ENOBUFS), &train(100, 9)));
    }

    #[test]
    fn packets_are_too_big_if_they_are_longer_than_the_mtu_with_their_headers() {
        let ip = Ipv4Addr::LOCALHOST.into();
        let verdict =
            |bytes| judge(&io::Error::from_raw_os_error(errno::EMSGSIZE), ip, &train(bytes, 2));
        let mtu = route::mtu(ip).unwrap();
        assert_eq!(verdict(mtu - 27), Verdict::Certain(TransmitError::TooBig(mtu)));
        assert_eq!(verdict(mtu - 28), Verdict::Doubtful(TransmitError::TooBig(0)));
    }
}
