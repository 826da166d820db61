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
/// Bursts from the rings in a row after which the sockets are looked at all the same.
const BURSTS_PER_LOOK: u32 = 16;
/// Descriptors that can be ready at a time; others come the next time.
const READY_MAX: usize = 8;

/// When sockets and network are looked at: when the rings are empty, and now and then.
#[derive(Debug, Default)]
pub(super) struct Looks {
    /// Bursts from the rings since the last look.
    bursts: u32,
    /// The sockets have something to tell, whether or not they are readable.
    sockets_due: bool,
    /// Something may have happened to the interface.
    pub(super) examination_due: bool,
    /// When it was examined last.
    pub(super) examined_ns: u64,
}

impl Looks {
    /// Packets went through the sockets: the next look asks there.
    pub(super) fn expect_sockets(&mut self) {
        self.sockets_due = true;
    }

    /// The interface did not do what it should.
    pub(super) fn suspect(&mut self) {
        self.examination_due = true;
    }

    /// Whether to look behind a burst.
    fn is_due(&mut self) -> bool {
        self.bursts += 1;
        self.bursts >= BURSTS_PER_LOOK
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
    /// Receives a burst from each queue, or what came another way. Only a call that found the rings
    /// empty says that nothing is left: it looked everywhere.
    pub(super) fn receive_batch(&mut self, sink: &mut impl PacketSink) -> io::Result<RxStatus> {
        match self.receive_from_rings(sink) {
            None => self.sockets.receive(sink),
            Some(0) => self.look(sink),
            Some(_) => {
                if self.looks.is_due() {
                    self.look(sink)?;
                }
                Ok(RxStatus::More)
            }
        }
    }

    /// Receives a burst from each queue; says how many packets came. `None` without rings.
    fn receive_from_rings(&mut self, sink: &mut impl PacketSink) -> Option<u32> {
        let rings = self.rings.as_mut().ok()?;
        let here = Here {
            form: self.form,
            carriage: self.sockets.carriage(),
            may_be_partial: self.may_be_partial,
            tells_address: self.local.ip().is_unspecified() || self.form == Form::Ip,
            interface: rings.interface.index,
        };
        let stats = &mut self.stats;
        let mut packets = 0;
        for queue in &mut rings.queues {
            packets += queue.receive(PACKETS_MAX, |frame| here.hand_over(frame, stats, sink));
        }
        if packets > 0 {
            stats.receives += 1;
            return Some(packets);
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
        Some(0)
    }

    /// Looks at the sockets and for changes of the network.
    fn look(&mut self, sink: &mut impl PacketSink) -> io::Result<RxStatus> {
        self.stats.socket_looks += 1;
        self.looks.bursts = 0;
        let mut ready = [Ready::EMPTY; READY_MAX];
        let count = match self.epoll.wait(&mut ready, Some(Duration::ZERO)) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => 0,
            result => result?,
        };
        let mut sockets_due = std::mem::take(&mut self.looks.sockets_due);
        let mut status = RxStatus::Drained;
        for ready in ready.iter().take(count) {
            match ready.token() {
                SOCKETS => sockets_due = true,
                MONITOR => self.looks.examination_due |= self.monitor.take_news(),
                // They came since.
                _ if ready.is_readable() => status = RxStatus::More,
                // Ready, but not with packets: the interface is gone.
                _ => self.looks.examination_due = true,
            }
        }
        if sockets_due && self.sockets.receive(sink)? == RxStatus::More {
            status = RxStatus::More;
        }
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
