//! Receiving: bursts from the rings, and now and then a look at the sockets.

use std::io;
use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::time::Duration;

use homa_core::{Carriage, Path, RxMeta};
use homa_sys::epoll::Ready;

use super::frame::{Form, Garbage, Packet, parse};
use super::{MONITOR, SOCKETS, SocketDriver, XdpDriver, XdpStats};
use crate::driver::{PacketSink, RxStatus};
use crate::socket::route::is_link_local;

/// Most packets fetched from a queue by one call.
const PACKETS_MAX: u32 = 64;
/// Calls between looks at the sockets at most, each of which is a system call.
const CALLS_PER_LOOK_MAX: u32 = 16;
/// Descriptors that can be ready at a time; others come the next time.
const READY_MAX: usize = 8;

/// When sockets and network are looked at.
#[derive(Debug)]
pub(super) struct Looks {
    /// Calls until then.
    until: u32,
    /// Calls from one look to the next: the more, the longer nothing was found.
    interval: u32,
    /// The sockets have something to tell, whether or not they are readable.
    sockets_due: bool,
    /// Something may have happened to the interface.
    pub(super) examination_due: bool,
    /// When it was examined last.
    pub(super) examined_ns: u64,
}

impl Default for Looks {
    fn default() -> Self {
        let (sockets_due, examination_due) = (false, false);
        Self { until: 0, interval: 1, sockets_due, examination_due, examined_ns: 0 }
    }
}

impl Looks {
    /// Packets went through the sockets: the next call looks there.
    pub(super) fn expect_sockets(&mut self) {
        self.sockets_due = true;
        self.until = 0;
        self.interval = 1;
    }

    /// The interface did not do what it should.
    pub(super) fn suspect(&mut self) {
        self.examination_due = true;
    }

    /// Whether this call looks.
    fn is_due(&mut self) -> bool {
        self.until = self.until.saturating_sub(1);
        self.until == 0 || self.examination_due
    }

    /// A look did or did not find anything.
    fn note(&mut self, found: bool) {
        self.interval = if found { 1 } else { (self.interval * 2).min(CALLS_PER_LOOK_MAX) };
        self.until = self.interval;
    }
}

/// What packets of a queue have in common.
struct Here {
    form: Form,
    carriage: Carriage,
    may_be_partial: bool,
    /// The endpoint has several addresses, so each packet tells.
    tells_address: bool,
    interface: u32,
}

impl<D: SocketDriver> XdpDriver<D> {
    /// Receives a burst from each queue, and if it is time from the sockets.
    pub(super) fn receive_batch(&mut self, sink: &mut impl PacketSink) -> io::Result<RxStatus> {
        let Some(mut status) = self.receive_from_rings(sink) else {
            return self.sockets.receive(sink);
        };
        if self.looks.is_due() && self.look(sink)? == RxStatus::More {
            status = RxStatus::More;
        }
        Ok(status)
    }

    /// `None` without rings.
    fn receive_from_rings(&mut self, sink: &mut impl PacketSink) -> Option<RxStatus> {
        let rings = self.rings.as_mut()?;
        let here = Here {
            form: self.form,
            carriage: self.sockets.carriage(),
            may_be_partial: self.may_be_partial,
            tells_address: self.local.ip().is_unspecified() || self.form == Form::Ip,
            interface: rings.interface.index,
        };
        let stats = &mut self.stats;
        let (mut status, mut total) = (RxStatus::Drained, 0);
        for queue in &mut rings.queues {
            let packets = queue.receive(PACKETS_MAX, |frame| here.hand_over(frame, stats, sink));
            total += packets;
            if packets == PACKETS_MAX {
                status = RxStatus::More;
            }
        }
        if total > 0 {
            stats.receives += 1;
            return Some(status);
        }
        stats.empty_looks += 1;
        for queue in &mut rings.queues {
            let mut result = Ok(());
            if self.config.busy_poll || queue.rx_needs_wakeup() {
                result = queue.wake_rx();
            }
            if queue.has_unsent() {
                result = result.and(queue.submit());
            }
            if result.is_err() {
                self.looks.suspect();
            }
        }
        Some(status)
    }

    /// Looks at the sockets and for changes of the network.
    fn look(&mut self, sink: &mut impl PacketSink) -> io::Result<RxStatus> {
        self.stats.socket_looks += 1;
        let mut ready = [Ready::EMPTY; READY_MAX];
        let count = match self.epoll.wait(&mut ready, Some(Duration::ZERO)) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => 0,
            result => result?,
        };
        let mut sockets_due = std::mem::take(&mut self.looks.sockets_due);
        for ready in ready.iter().take(count) {
            match ready.token() {
                SOCKETS => sockets_due = true,
                MONITOR => self.looks.examination_due |= self.monitor.take_news(),
                // Ready, but not with packets: the interface is gone.
                _ => self.looks.examination_due |= !ready.is_readable(),
            }
        }
        self.looks.note(sockets_due);
        let status = if sockets_due { self.sockets.receive(sink)? } else { RxStatus::Drained };
        if self.looks.examination_due {
            self.examine();
        }
        Ok(status)
    }
}

impl Here {
    /// Passes a packet on, or counts why not.
    #[inline]
    fn hand_over(&self, frame: &[u8], stats: &mut XdpStats, sink: &mut impl PacketSink) {
        match parse(frame, self.form, self.may_be_partial) {
            Ok(packet) => {
                stats.received_packets += 1;
                stats.received_bytes += packet.bytes.len() as u64;
                sink.packet(&self.meta(&packet), packet.bytes);
            }
            Err(Garbage::Malformed) => stats.malformed_frames += 1,
            Err(Garbage::Damaged) => stats.damaged_frames += 1,
            Err(Garbage::Martian) => stats.martian_frames += 1,
        }
    }

    fn meta(&self, packet: &Packet<'_>) -> RxMeta {
        let remote = match packet.from {
            IpAddr::V6(ip) if is_link_local(packet.from) => {
                SocketAddrV6::new(ip, packet.ports.0, 0, self.interface).into()
            }
            ip => SocketAddr::new(ip, packet.ports.0),
        };
        RxMeta {
            path: Path {
                remote,
                local_ip: self.tells_address.then_some(packet.to),
                local_port: packet.ports.1,
                interface: if self.tells_address { self.interface } else { 0 },
                carriage: self.carriage,
            },
            dscp: packet.tos >> 2,
            ecn: packet.tos & 3,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_become_rarer_while_they_find_nothing() {
        let mut looks = Looks::default();
        let mut calls_until_look = |found: bool| {
            let calls = (1..).find(|_| looks.is_due()).unwrap();
            looks.note(found);
            calls
        };
        let calls: Vec<i32> = (0..7).map(|_| calls_until_look(false)).collect();
        assert_eq!(calls, [1, 2, 4, 8, 16, 16, 16]);
        assert_eq!(calls_until_look(true), 16);
        assert_eq!(calls_until_look(true), 1);
        looks.note(false);
        looks.expect_sockets();
        assert!(looks.is_due());
    }
}
