//! pFabric (Alizadeh et al., SIGCOMM 2013).
//!
//! Each packet carries as its rank the bytes of its message that are not acknowledged. Switches
//! have short queues that send the lowest rank first and drop the highest
//! ([`Discipline::Ranked`]). Senders hardly control their rate: a message begins with a whole
//! window, each packet is acknowledged by itself, what is not acknowledged in a fixed short time is
//! sent again from a window of one on, and after some times without answer only probes are sent.
//! The NIC sends the message with the least left first, as a queue of its own does.
//!
//! The constants are those of the SIGCOMM 2018 evaluation (`run-list-*-pfabric.pl` of its
//! simulator), three round trips and twice the bytes of one.

use std::collections::{BTreeMap, VecDeque};

use super::{
    Protocol, Transport,
    parts::{Flight, Header, Inbox, SIZE, Timers},
};
use crate::{
    event::{HostId, MessageId},
    fabric::{Discipline, Queues, Topology},
    packet::{Delivered, Outgoing, PacketSize},
    time::{Span, Time},
};

/// Packets that wait at a port at most (`queueSize`).
pub const QUEUE_PACKETS: u32 = 13;
/// Packets of a message under way at most, from its begin on (`maxcwnd_`: one less).
pub const WINDOW: u32 = QUEUE_PACKETS - 1;
/// Time without an acknowledgement after which packets are lost (`min_rto`).
pub const TIMEOUT: Span = Span::from_ns(24_000);
/// Times without answer after which a sender probes (`prob_cap_`).
pub const TIMEOUTS_MAX: u32 = 5;

/// pFabric on every host.
#[derive(Clone, Copy, Debug, Default)]
pub struct PFabric;

impl Protocol for PFabric {
    type Host = PFabricHost;

    fn hosts(&self, network: &Topology) -> Vec<PFabricHost> {
        (0..network.hosts()).map(|_| PFabricHost::default()).collect()
    }

    fn queues(&self) -> Queues {
        let bytes_max = QUEUE_PACKETS * SIZE.wire_bytes(SIZE.payload_max());
        Queues { discipline: Discipline::Ranked { bytes_max }, ..Queues::default() }
    }

    fn packet_size(&self) -> PacketSize {
        SIZE
    }

    /// An acknowledgement of each packet. Packets that are sent again are not counted.
    fn control_bytes(&self, bytes: u32) -> f64 {
        f64::from(SIZE.packets(bytes)) * f64::from(SIZE.wire_bytes(0))
    }
}

/// What a packet is.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// Data: the packet of this index.
    Data(u32),
    /// That the packet of this index has arrived.
    Acknowledgement(u32),
    /// Whether anything arrives.
    Probe,
    /// That a probe has arrived.
    Answer,
}

/// A message that goes out.
#[derive(Debug)]
struct Sending {
    to: HostId,
    bytes: u32,
    flight: Flight,
    window: u32,
    /// When what is under way is lost; [`Time::NEVER`] without a timer.
    deadline: Time,
    /// Times without answer.
    timeouts: u32,
}

impl Sending {
    fn rank(&self) -> u32 {
        let acknowledged = SIZE.packets(self.bytes) - self.flight.missing();
        self.bytes.saturating_sub(acknowledged * SIZE.payload_max())
    }

    fn probes(&self) -> bool {
        self.timeouts >= TIMEOUTS_MAX
    }

    /// The receiver has answered.
    fn heard(&mut self, now: Time) {
        self.timeouts = 0;
        if self.deadline != Time::NEVER {
            self.deadline = now + TIMEOUT;
        }
    }

    fn can_send(&self) -> bool {
        !self.probes() && self.flight.has_next() && self.flight.under_way() < self.window
    }
}

/// pFabric on a host.
#[derive(Debug, Default)]
pub struct PFabricHost {
    sending: BTreeMap<MessageId, Sending>,
    timers: Timers,
    control: VecDeque<Outgoing<Header<Kind>>>,
    inbox: Inbox,
}

impl PFabricHost {
    /// What is under way of a message is lost.
    fn lose(&mut self, now: Time, message: MessageId) {
        let Some(sending) = self.sending.get_mut(&message) else { return };
        sending.flight.lose();
        sending.window = 1;
        sending.timeouts += 1;
        if sending.probes() {
            let (to, bytes, rank) = (sending.to, sending.bytes, sending.rank());
            sending.deadline = now + TIMEOUT;
            self.timers.set(now + TIMEOUT, message);
            let probe = Header { message, bytes, kind: Kind::Probe };
            self.control.push_back(Outgoing { rank, ..probe.control(to) });
        }
    }
}

impl Transport for PFabricHost {
    type Header = Header<Kind>;

    fn send(&mut self, _now: Time, message: MessageId, to: HostId, bytes: u32) -> bool {
        let flight = Flight::new(SIZE.packets(bytes));
        let (window, deadline) = (WINDOW, Time::NEVER);
        let sending = Sending { to, bytes, flight, window, deadline, timeouts: 0 };
        self.sending.insert(message, sending);
        true
    }

    fn receive(&mut self, now: Time, packet: &Delivered<'_, Header<Kind>>) {
        let header = *packet.header;
        let answer = |kind| Header { kind, ..header }.control(packet.from);
        match header.kind {
            Kind::Data(index) => {
                self.inbox.take(header.message, index, SIZE.packets(header.bytes));
                self.control.push_back(answer(Kind::Acknowledgement(index)));
            }
            Kind::Probe => self.control.push_back(answer(Kind::Answer)),
            Kind::Acknowledgement(index) => {
                let Some(sending) = self.sending.get_mut(&header.message) else { return };
                if sending.flight.acknowledge(index) {
                    sending.window = (sending.window + 1).min(WINDOW);
                }
                sending.heard(now);
                if sending.flight.is_over() {
                    self.sending.remove(&header.message);
                }
            }
            Kind::Answer => {
                if let Some(sending) = self.sending.get_mut(&header.message) {
                    sending.heard(now);
                }
            }
        }
    }

    fn settle(&mut self, now: Time) {
        while let Some(message) = self.timers.due(now) {
            let Some(sending) = self.sending.get_mut(&message) else { continue };
            if sending.flight.under_way() == 0 && !sending.probes() {
                sending.deadline = Time::NEVER;
            } else if sending.deadline > now {
                self.timers.set(sending.deadline, message);
            } else {
                sending.deadline = Time::NEVER;
                self.lose(now, message);
            }
        }
    }

    fn arrived(&mut self, _now: Time) -> Option<MessageId> {
        self.inbox.arrived()
    }

    fn transmit(&mut self, now: Time) -> Option<Outgoing<Header<Kind>>> {
        if let Some(control) = self.control.pop_front() {
            return Some(control);
        }
        let ready = self.sending.iter_mut().filter(|(_, sending)| sending.can_send());
        let (message, sending) =
            ready.min_by_key(|(message, sending)| (sending.rank(), **message))?;
        let (message, rank) = (*message, sending.rank());
        let index = sending.flight.send()?;
        if sending.deadline == Time::NEVER {
            sending.deadline = now + TIMEOUT;
            self.timers.set(sending.deadline, message);
        }
        let header = Header { message, bytes: sending.bytes, kind: Kind::Data(index) };
        Some(Outgoing { rank, ..header.data(sending.to, index) })
    }

    fn timeout(&mut self, _now: Time) -> Option<Time> {
        self.timers.next()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::testing::{drain, exchange};

    #[test]
    fn a_message_begins_with_a_window_and_its_rank_falls_with_what_is_acknowledged() {
        let (mut sender, mut receiver) = (PFabricHost::default(), PFabricHost::default());
        let bytes = 20 * SIZE.payload_max();
        sender.send(Time::ZERO, MessageId(0), HostId(1), bytes);
        let sent = exchange(&mut sender, &mut receiver, HostId(0), Time::ZERO);
        assert_eq!(sent.len(), WINDOW as usize);
        assert!(sent.iter().all(|packet| packet.rank == bytes));
        exchange(&mut receiver, &mut sender, HostId(1), Time::ZERO);
        let sent = drain(&mut sender, Time::ZERO);
        assert_eq!(sent[0].rank, bytes - WINDOW * SIZE.payload_max());
    }

    #[test]
    fn without_answers_one_packet_is_sent_at_a_time_and_then_only_probes() {
        let (mut sender, mut receiver) = (PFabricHost::default(), PFabricHost::default());
        sender.send(Time::ZERO, MessageId(0), HostId(1), 20 * SIZE.payload_max());
        drain(&mut sender, Time::ZERO);
        let mut sent = Vec::new();
        for _ in 0..=TIMEOUTS_MAX {
            let now = sender.timeout(Time::ZERO).unwrap();
            sender.settle(now);
            sent = drain(&mut sender, now);
            assert_eq!(sent.len(), 1);
        }
        assert!(matches!(sent[0].header.kind, Kind::Probe), "{sent:?}");
        // An answer starts it again.
        let now = sender.timeout(Time::ZERO).unwrap();
        sender.settle(now);
        exchange(&mut sender, &mut receiver, HostId(0), now);
        exchange(&mut receiver, &mut sender, HostId(1), now);
        assert_eq!(drain(&mut sender, now)[0].message, Some(MessageId(0)));
    }
}
