//! Receiving: what is ready, in batches, without what cannot be meant.

use std::io;
use std::net::{IpAddr, SocketAddr};

use homa_core::{Carriage, Path, RxMeta};
use homa_sys::SocketError;
use homa_sys::address::Family;
use homa_sys::epoll::Ready;
use homa_sys::raw::RawReceived;
use homa_sys::udp::ErrorOrigin;
use homa_wire::is_tcp_form;
use std::time::Duration;

use super::answer::{Answer, wanted};
use super::tcp_form::is_intact;
use super::{Form, IpDriver, IpStats, Link, RESPONDER};
use crate::driver::{PacketSink, RxStatus};
use crate::socket::errors::is_beyond_use;

/// Descriptors that can be ready at a time.
const READY_MAX: usize = 8;

impl IpDriver {
    /// Receives one batch from each socket that has something.
    pub(super) fn receive_batch(&mut self, sink: &mut impl PacketSink) -> io::Result<RxStatus> {
        let mut ready = [Ready::EMPTY; READY_MAX];
        let count = match self.epoll.wait(&mut ready, Some(Duration::ZERO)) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(RxStatus::More),
            result => result?,
        };
        if count == 0 {
            self.stats.empty_looks += 1;
        }
        let mut status = RxStatus::Drained;
        for ready in ready.iter().take(count) {
            if ready.token() == RESPONDER {
                self.responder.act(&mut self.stats);
            }
            let link = usize::try_from(ready.token()).unwrap_or(usize::MAX);
            if link < self.links.len() && self.receive_from(link, sink)? == RxStatus::More {
                status = RxStatus::More;
            }
        }
        Ok(status)
    }

    /// Receives one batch from one socket that has packets or reports.
    fn receive_from(&mut self, index: usize, sink: &mut impl PacketSink) -> io::Result<RxStatus> {
        let Some(link) = self.links.get_mut(index) else {
            return Ok(RxStatus::Drained);
        };
        let received = link.socket.recv(&mut self.batch, self.packets_per_call);
        let count = match received {
            Ok(count) => count,
            Err(error) if is_beyond_use(&error) => return Err(error),
            // A pending report about an earlier send, or a signal: no packet was lost.
            Err(_) => {
                self.drain_reports(index);
                return Ok(RxStatus::More);
            }
        };
        if count == 0 {
            // Ready, but not with packets.
            self.drain_reports(index);
            return Ok(RxStatus::Drained);
        }
        self.stats.receives += 1;
        for packet in 0..count {
            self.hand_over(index, packet, sink);
        }
        // A batch that is not full was ended by the look that found nothing more.
        let full = count == self.packets_per_call;
        Ok(if full { RxStatus::More } else { RxStatus::Drained })
    }

    /// Passes one packet of the batch on.
    fn hand_over(&mut self, link: usize, packet: usize, sink: &mut impl PacketSink) {
        let (Some(received), Some(link)) = (self.batch.packet(packet), self.links.get_mut(link))
        else {
            self.stats.martian_packets += 1;
            return;
        };
        if let Some(total) = received.meta.drops_total {
            let new = total.wrapping_sub(link.drops_seen);
            link.drops_seen = total;
            self.stats.dropped_packets = self.stats.dropped_packets.saturating_add(u64::from(new));
        }
        let family = link.socket.family();
        let Some(meta) = meta(&received, family, &mut self.stats) else {
            return;
        };
        let form = link.form;
        let is_stray = form == Form::Tcp && !is_tcp_form(received.payload);
        if is_stray || meta.path.local_port != self.reservation.port() {
            self.stats.stray_packets += 1;
            return;
        }
        if form == Form::Tcp {
            if !is_intact(meta.path.remote.ip(), received.destination, received.payload) {
                self.stats.damaged_packets += 1;
                return;
            }
            self.stats.received_tcp_packets += 1;
        }
        self.stats.received_packets += 1;
        self.stats.received_bytes += received.payload.len() as u64;
        sink.packet(&meta, received.payload);
        if sink.refused_port() {
            let answerer = &mut self.responder.answerer;
            // Answers are ordinary packets and speak of ordinary packets, as those of Linux do.
            let native = |link: &&Link| link.socket.family() == family && link.form == Form::Native;
            if let Some(link) = self.links.iter().find(native) {
                if let Some(answer) = wanted(received.payload) {
                    if answer.0 == Answer::Icmp
                        && answerer.may()
                        && answerer.send(
                            &link.socket,
                            &meta,
                            received.payload,
                            received.meta.len,
                            answer,
                        )
                    {
                        self.stats.answered_by_icmp += 1;
                    }
                }
            }
        }
    }

    /// Empties the error queue of a socket, with it the error that the next call would fail with.
    pub(super) fn drain_reports(&mut self, index: usize) {
        let Some(link) = self.links.get(index) else {
            return;
        };
        let port = self.reservation.port();
        let (lookup, form) = (&self.lookup, link.form);
        let mut foreign = 0;
        let read = || {
            loop {
                match link.socket.read_error()? {
                    Some(error) => match of_own_packet(error, port, form) {
                        Some(error) => return Ok(Some(error)),
                        // The queue is finite: every round takes one out.
                        None => foreign += 1,
                    },
                    None => return Ok(None),
                }
            }
        };
        let mtu = |ip: IpAddr| lookup.mtu(ip, 0).ok().filter(|&mtu| mtu > 0);
        let drained = self.reports.drain(read, mtu);
        self.stats.reports += drained.read;
        self.stats.lost_reports += drained.lost;
        self.stats.foreign_reports += foreign;
    }
}

/// Metadata of a packet for the engine; `None`, and counted, if it is not for this driver.
pub(super) fn meta(
    received: &RawReceived<'_>,
    family: Family,
    stats: &mut IpStats,
) -> Option<RxMeta> {
    let &[source_high, source_low, high, low, ..] = received.payload else {
        stats.martian_packets += 1;
        return None;
    };
    let mut remote = received.meta.remote;
    let to_one = received.destination == received.meta.local_ip;
    if !to_one || !is_host(remote.ip(), family) || !is_host(received.destination, family) {
        stats.martian_packets += 1;
        return None;
    }
    remote.set_port(u16::from_be_bytes([source_high, source_low]));
    Some(RxMeta {
        path: Path {
            remote,
            local_ip: Some(received.meta.local_ip),
            local_port: u16::from_be_bytes([high, low]),
            interface: received.meta.interface,
            carriage: Carriage::Ip,
        },
        dscp: received.meta.tos >> 2,
        ecn: received.meta.tos & 3,
    })
}

/// Whether an address can be that of one host, and came in a packet of its own IP version: a mapped
/// address in an IPv6 packet would pass for a host that did not send it.
fn is_host(ip: IpAddr, family: Family) -> bool {
    let broadcast = matches!(ip, IpAddr::V4(v4) if v4.is_broadcast());
    Family::of(ip) == family && !ip.is_unspecified() && !ip.is_multicast() && !broadcast
}

/// A report with its destination's port filled in, if it is about a packet sent from `port`, or
/// about the path to the host, which has no port. What this host itself reports comes to the socket
/// that sent, but may quote nothing. What looks like TCP has to look like Homa too: ordinary TCP
/// may use the same port.
fn of_own_packet(mut error: SocketError, port: u16, form: Form) -> Option<SocketError> {
    // The path to a host is as narrow for all ports of both ends, whichever packet was too long.
    if error.mtu.is_some() {
        error.destination.set_port(0);
        return Some(error);
    }
    let is_foreign = form == Form::Tcp && !is_tcp_form(error.quoted());
    if is_foreign && error.origin != ErrorOrigin::Local {
        return None;
    }
    let destination_port = match *error.quoted() {
        [source_high, source_low, high, low, ..] => (u16::from_be_bytes([source_high, source_low])
            == port)
            .then_some(u16::from_be_bytes([high, low])),
        _ => (error.origin == ErrorOrigin::Local).then_some(0),
    }?;
    error.destination = SocketAddr::new(error.destination.ip(), destination_port);
    Some(error)
}
