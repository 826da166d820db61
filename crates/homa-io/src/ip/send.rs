//! Sending: as many packets as possible by each call, and what the answers of the kernel mean.

use std::io;
use std::net::{IpAddr, SocketAddr};

use arrayvec::ArrayVec;
use homa_core::{Segment, Transmit, TransmitError};
use homa_sys::Source;
use homa_sys::address::Family;
use homa_sys::raw::{Outgoing, PACKETS_MAX};

use super::tcp_form::{Checksum, splice};
use super::{Form, IpDriver, Link};
use crate::driver::{Payloads, Unsent};
use crate::socket::errors::{Verdict, is_final};
use crate::socket::gather::{join, visit};
use crate::socket::route::{is_link_local, is_same_family};

/// Where packets go, as the socket takes it.
struct Destination {
    /// Which socket.
    link: usize,
    to: SocketAddr,
    source: Option<Source>,
    tos: u8,
    /// The addresses that a checksum covers, from and to, where packets need one.
    covered: Option<(IpAddr, IpAddr)>,
}

impl IpDriver {
    /// Sends `segments`, each as a packet, in as few calls as possible.
    pub(super) fn send_segments(
        &mut self,
        transmit: &Transmit,
        segments: &[Segment],
        payloads: &impl Payloads,
    ) -> Result<(), Unsent> {
        let Some(destination) = self.destination(transmit) else {
            return Err(Unsent { first: 0, why: self.note_failure(TransmitError::Unreachable) });
        };
        let mut first = 0;
        while let Some(rest) = segments.get(first..).filter(|rest| !rest.is_empty()) {
            match self.send_some(&destination, rest, payloads) {
                Ok(count) => first += count,
                Err(why) => return Err(Unsent { first, why }),
            }
        }
        Ok(())
    }

    /// `None`: no socket of the destination's IP version, or no route there.
    fn destination(&mut self, transmit: &Transmit) -> Option<Destination> {
        let path = &transmit.path;
        let to = path.remote.ip().to_canonical();
        let family = Family::of(to);
        let is_the_one = |link: &Link| link.socket.family() == family && link.form == self.sends;
        let link = self.links.iter().position(is_the_one)?;
        // As for UDP: a socket at one address sends from there anyway, and routes choose the
        // interface.
        let mut source = path
            .local_ip
            .filter(|ip| self.local_ip.is_unspecified() && is_same_family(*ip, to))
            .map(|ip| ip.to_canonical());
        let interface = if is_link_local(to) { path.interface } else { 0 };
        let mut covered = None;
        if self.sends == Form::Tcp {
            let from = match source {
                Some(ip) => ip,
                None if !self.local_ip.is_unspecified() => self.local_ip,
                // Said to the kernel as well, so that it cannot choose another one.
                None => *source.insert(self.sources.source(&self.lookup, to, interface)?),
            };
            covered = Some((from, to));
        }
        Some(Destination {
            link,
            to: SocketAddr::new(to, 0),
            source: source.map(|ip| Source { ip, interface }),
            tos: transmit.dscp << 2,
            covered,
        })
    }

    /// Sends the first of `segments`; says how many.
    fn send_some(
        &mut self,
        destination: &Destination,
        segments: &[Segment],
        payloads: &impl Payloads,
    ) -> Result<usize, TransmitError> {
        let fields = checksums(destination, segments, payloads);
        let mut outgoing = Outgoing::new();
        for (index, segment) in segments.iter().take(PACKETS_MAX).enumerate() {
            let pushed = outgoing.push(|packet| match fields.get(index) {
                Some(field) => {
                    let mut at = 0;
                    visit(segment, payloads, |bytes| {
                        splice(&mut at, bytes, field, |piece| packet.push(piece));
                    });
                }
                None => visit(segment, payloads, |piece| packet.push(piece)),
            });
            if !pushed {
                break;
            }
        }
        if !outgoing.is_empty() {
            return self.send_batch(destination, segments, &outgoing);
        }
        let mut joined = std::mem::take(&mut self.joined);
        if let Some(segment) = segments.first() {
            join(&mut joined, std::slice::from_ref(segment), payloads);
        }
        self.stats.joined_packets += 1;
        let result = self.send_joined(destination, segments, &joined, fields.first());
        self.joined = joined;
        result
    }

    fn send_joined(
        &mut self,
        destination: &Destination,
        segments: &[Segment],
        joined: &[u8],
        field: Option<&[u8; 2]>,
    ) -> Result<usize, TransmitError> {
        let mut outgoing = Outgoing::new();
        outgoing.push(|packet| match field {
            Some(field) => splice(&mut 0, joined, field, |piece| packet.push(piece)),
            None => packet.push(joined),
        });
        self.send_batch(destination, segments, &outgoing)
    }

    /// One successful call, or the reason why there is none.
    fn send_batch(
        &mut self,
        destination: &Destination,
        segments: &[Segment],
        outgoing: &Outgoing<'_>,
    ) -> Result<usize, TransmitError> {
        let mut attempt = 1;
        loop {
            let Some(link) = self.links.get(destination.link) else {
                return Err(TransmitError::Unreachable);
            };
            let why = match link.socket.send(
                destination.to,
                destination.source,
                destination.tos,
                outgoing,
            ) {
                Ok(sent) => {
                    self.note_sent(segments.get(..sent).unwrap_or(segments));
                    return Ok(sent);
                }
                Err(error) => match self.judge(&error, destination.to, segments) {
                    Verdict::Certain(why) => return Err(self.note_failure(why)),
                    Verdict::Doubtful(why) => why,
                },
            };
            // As for UDP: perhaps what the network said about an earlier packet to somebody else.
            let reports_before = self.stats.reports + self.stats.foreign_reports;
            self.drain_reports(destination.link);
            let explained = self.stats.reports + self.stats.foreign_reports > reports_before;
            if is_final(attempt, explained) {
                return Err(self.note_failure(why));
            }
            self.stats.repeated_sends += 1;
            attempt += 1;
        }
    }

    /// Verdict on an error of this send.
    fn judge(&self, error: &io::Error, to: SocketAddr, segments: &[Segment]) -> Verdict {
        let header_bytes = if to.is_ipv4() { 20 } else { 40 };
        let packet_bytes = segments.first().map_or(0, Segment::wire_bytes) + header_bytes;
        Verdict::of(error, packet_bytes, || self.mtu(to))
    }

    fn note_sent(&mut self, segments: &[Segment]) {
        self.stats.sends += 1;
        self.stats.sent_packets += segments.len() as u64;
        let bytes: u64 = segments.iter().map(|segment| u64::from(segment.wire_bytes())).sum();
        self.stats.sent_bytes += bytes;
    }

    fn note_failure(&mut self, why: TransmitError) -> TransmitError {
        let stats = &mut self.stats;
        match why {
            TransmitError::NoRoom => stats.no_room += 1,
            TransmitError::TooBig(_) => stats.too_big += 1,
            TransmitError::Refused => stats.refused += 1,
            _ => stats.unreachable += 1,
        }
        why
    }
}

/// The checksum fields of the first of `segments`, as many as a call takes; none where they need
/// none.
fn checksums(
    destination: &Destination,
    segments: &[Segment],
    payloads: &impl Payloads,
) -> ArrayVec<[u8; 2], PACKETS_MAX> {
    let Some((from, to)) = destination.covered else {
        return ArrayVec::new();
    };
    let field = |segment: &Segment| {
        let mut checksum = Checksum::new(from, to, segment.wire_bytes() as usize);
        visit(segment, payloads, |piece| checksum.add(piece));
        checksum.field()
    };
    segments.iter().take(PACKETS_MAX).map(field).collect()
}
