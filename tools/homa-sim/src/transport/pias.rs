//! PIAS (Bai et al., NSDI 2015): multi-level feedback queues over DCTCP.
//!
//! Senders do not know lengths: a packet's priority falls with the bytes of its message before it,
//! by thresholds that fit the workload, and acknowledgements have the highest. Rates are those of
//! DCTCP: switches mark packets of long queues, senders shrink their window by the part that was
//! marked. A lost packet is sent again after a timeout; duplicate acknowledgements say nothing
//! where packets are sprayed. The NIC has the queues of a switch, marks included.
//!
//! The constants are those of the SIGCOMM 2018 evaluation (`pias*Params.py`, `search_pias.tcl` of
//! its simulator). Left out: connections; each message begins with a fresh window.

use std::collections::{BTreeMap, VecDeque};

use homa_bench::workload::Workload;

use super::{
    Protocol, Transport,
    parts::{Flight, Inbox, SIZE, TOP, Timers},
};
use crate::{
    event::{HostId, MessageId},
    fabric::{Queues, Topology},
    packet::{Delivered, Outgoing, PRIORITIES, PacketSize, wire_bytes},
    time::{Span, Time},
};

/// Packets of a message under way at its begin (`initWindow`).
pub const INITIAL_WINDOW: u32 = 7;
/// Packets of a message under way at most (`queueSize`, less one).
pub const WINDOW_MAX: u32 = 249;
/// Full packets that wait at a port when packets are marked (`DCTCP_K`).
pub const MARK_PACKETS: u32 = 15;
/// Part that a new window has in the mean of what was marked (`DCTCP_g`).
pub const GAIN: f64 = 1.0 / 16.0;
/// Least time without an acknowledgement after which packets are lost (`min_rto`).
pub const TIMEOUT_MIN: Span = Span::from_ns(200_000);
/// Most of it, after several in succession.
const TIMEOUT_MAX: Span = Span::from_ns(64_000_000);

/// Bytes of a message before a packet, above which the packet falls by one level each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Thresholds(pub [u32; PRIORITIES - 1]);

/// Thresholds of the SIGCOMM 2018 evaluation at 80 % load.
const PUBLISHED: [(&str, [u32; PRIORITIES - 1]); 5] = [
    ("w1", [183, 259, 287, 314, 332, 352, 367]),
    ("w2", [368, 410, 422, 435, 442, 451, 457]),
    ("w3", [436, 554, 633, 720, 784, 865, 939]),
    ("w4", [38_210, 48_958, 50_905, 68_384, 73_799, 76_588, 78_129]),
    ("w5", [1_327_140, 1_940_340, 2_406_080, 2_861_600, 3_128_780, 3_412_020, 3_626_640]),
];

impl Thresholds {
    /// Those of the evaluation, for a workload of it.
    pub fn published(workload: &str) -> Option<Self> {
        let (_, thresholds) = PUBLISHED.iter().find(|(known, _)| *known == workload)?;
        Some(Self(*thresholds))
    }

    /// Those that divide messages into levels of as many each, for other workloads.
    pub fn of(sizes: &Workload) -> Self {
        let levels = PRIORITIES as f64;
        let bytes = |level: usize| sizes.quantile((level + 1) as f64 / levels);
        Self(std::array::from_fn(|level| u32::try_from(bytes(level)).unwrap_or(u32::MAX)))
    }

    /// The priority of a packet.
    fn priority(&self, bytes_before: u64) -> u8 {
        TOP - self.0.iter().filter(|bytes| bytes_before > u64::from(**bytes)).count() as u8
    }
}

/// PIAS on every host.
#[derive(Clone, Copy, Debug)]
pub struct Pias {
    thresholds: Thresholds,
}

impl Pias {
    /// PIAS with thresholds.
    pub fn new(thresholds: Thresholds) -> Self {
        Self { thresholds }
    }
}

impl Protocol for Pias {
    type Host = PiasHost;

    fn hosts(&self, network: &Topology) -> Vec<PiasHost> {
        (0..network.hosts()).map(|_| PiasHost::new(self.thresholds)).collect()
    }

    fn queues(&self) -> Queues {
        Queues { ecn_bytes: Some(MARK_BYTES), ..Queues::default() }
    }

    fn packet_size(&self) -> PacketSize {
        SIZE
    }

    /// An acknowledgement of each packet.
    fn control_bytes(&self, bytes: u32) -> f64 {
        f64::from(SIZE.packets(bytes)) * f64::from(SIZE.wire_bytes(0))
    }
}

const MARK_BYTES: u32 = MARK_PACKETS * SIZE.wire_bytes(SIZE.payload_max());

/// Header of a packet of PIAS.
#[derive(Clone, Copy, Debug)]
pub struct Header {
    message: MessageId,
    /// Length of the message.
    bytes: u32,
    /// Packet that is sent or acknowledged.
    index: u32,
    /// When it was sent.
    sent_at: Time,
    /// It acknowledges.
    acknowledges: bool,
    /// It was marked, or what it acknowledges.
    marked: bool,
}

/// A message that goes out.
#[derive(Debug)]
struct Sending {
    to: HostId,
    bytes: u32,
    flight: Flight,
    window: f64,
    /// Up to where the window doubles in a round trip.
    threshold: f64,
    /// Mean part of packets that were marked.
    marked_part: f64,
    /// Packets acknowledged in this round of a window, and those of them that were marked.
    round: [u32; 2],
    /// Packets of the round.
    round_packets: u32,
    round_trip: RoundTrip,
    /// When what is under way is lost; [`Time::NEVER`] without a timer.
    deadline: Time,
}

impl Sending {
    /// DCTCP's change of the window by an acknowledgement.
    fn adapt(&mut self, marked: bool) {
        self.round[0] += 1;
        self.round[1] += u32::from(marked);
        if self.round[0] >= self.round_packets {
            let part = f64::from(self.round[1]) / f64::from(self.round[0]);
            self.marked_part += GAIN * (part - self.marked_part);
            if self.round[1] > 0 {
                self.window = (self.window * (1.0 - self.marked_part / 2.0)).max(1.0);
                self.threshold = self.window;
            }
            (self.round, self.round_packets) = ([0, 0], self.window as u32);
        }
        if !marked {
            let step = if self.window < self.threshold { 1.0 } else { 1.0 / self.window };
            self.window = (self.window + step).min(WINDOW_MAX.into());
        }
    }

    /// What is under way is lost.
    fn lose(&mut self) {
        self.flight.lose();
        self.threshold = (self.window / 2.0).max(2.0);
        self.window = 1.0;
        (self.round, self.round_packets) = ([0, 0], 1);
        self.round_trip.back_off();
    }
}

/// TCP's estimate of a round trip and its timeout (RFC 6298), in picoseconds.
#[derive(Clone, Copy, Debug)]
struct RoundTrip {
    mean: Option<u64>,
    deviation: u64,
    /// Doublings since the last answer.
    doublings: u32,
}

impl RoundTrip {
    const NEW: Self = Self { mean: None, deviation: 0, doublings: 0 };

    fn measured(&mut self, time: Span) {
        let time = time.as_ps();
        self.doublings = 0;
        match &mut self.mean {
            None => (self.mean, self.deviation) = (Some(time), time / 2),
            Some(mean) => {
                self.deviation = (3 * self.deviation + mean.abs_diff(time)) / 4;
                *mean = (7 * *mean + time) / 8;
            }
        }
    }

    fn back_off(&mut self) {
        self.doublings = (self.doublings + 1).min(10);
    }

    fn timeout(&self) -> Span {
        let estimate = Span::from_ps(self.mean.unwrap_or(0) + 4 * self.deviation);
        let timeout = estimate.max(TIMEOUT_MIN).as_ps() << self.doublings;
        Span::from_ps(timeout).min(TIMEOUT_MAX)
    }
}

/// The queues of the NIC.
#[derive(Debug, Default)]
struct Nic {
    levels: [VecDeque<Outgoing<Header>>; PRIORITIES],
    queued_bytes: u32,
}

impl Nic {
    fn put(&mut self, packet: Outgoing<Header>) {
        self.queued_bytes += wire_bytes(packet.ip_bytes);
        self.levels[usize::from(packet.priority)].push_back(packet);
    }

    fn take(&mut self) -> Option<Outgoing<Header>> {
        let packet = self.levels.iter_mut().rev().find_map(VecDeque::pop_front)?;
        self.queued_bytes -= wire_bytes(packet.ip_bytes);
        Some(packet)
    }
}

/// PIAS on a host.
#[derive(Debug)]
pub struct PiasHost {
    thresholds: Thresholds,
    sending: BTreeMap<MessageId, Sending>,
    timers: Timers,
    nic: Nic,
    inbox: Inbox,
}

impl PiasHost {
    fn new(thresholds: Thresholds) -> Self {
        Self {
            thresholds,
            sending: BTreeMap::new(),
            timers: Timers::default(),
            nic: Nic::default(),
            inbox: Inbox::default(),
        }
    }

    /// Lets the window of a message go to the NIC.
    fn fill(&mut self, now: Time, message: MessageId) {
        let Some(sending) = self.sending.get_mut(&message) else { return };
        let Sending { to, bytes, .. } = *sending;
        while sending.flight.under_way() < sending.window as u32 {
            let Some(index) = sending.flight.send() else { break };
            if sending.deadline == Time::NEVER {
                sending.deadline = now + sending.round_trip.timeout();
                self.timers.set(sending.deadline, message);
            }
            let marked = self.nic.queued_bytes >= MARK_BYTES;
            let header =
                Header { message, bytes, index, sent_at: now, acknowledges: false, marked };
            let before = u64::from(index) * u64::from(SIZE.payload_max());
            let packet = Outgoing {
                priority: self.thresholds.priority(before),
                flow: message.0,
                ecn: true,
                message: Some(message),
                ..Outgoing::new(to, SIZE.ip_bytes(bytes, index), header)
            };
            self.nic.put(packet);
        }
    }

    fn acknowledged(&mut self, now: Time, header: &Header) {
        let message = header.message;
        let Some(sending) = self.sending.get_mut(&message) else { return };
        sending.round_trip.measured(now.since(header.sent_at));
        if sending.flight.acknowledge(header.index) {
            sending.adapt(header.marked);
        }
        if sending.flight.is_over() {
            self.sending.remove(&message);
            return;
        }
        if sending.deadline != Time::NEVER {
            sending.deadline = now + sending.round_trip.timeout();
        }
        self.fill(now, message);
    }
}

impl Transport for PiasHost {
    type Header = Header;

    fn send(&mut self, now: Time, message: MessageId, to: HostId, bytes: u32) -> bool {
        let sending = Sending {
            to,
            bytes,
            flight: Flight::new(SIZE.packets(bytes)),
            window: INITIAL_WINDOW.into(),
            threshold: f64::INFINITY,
            marked_part: 1.0,
            round: [0, 0],
            round_packets: INITIAL_WINDOW,
            round_trip: RoundTrip::NEW,
            deadline: Time::NEVER,
        };
        self.sending.insert(message, sending);
        self.fill(now, message);
        true
    }

    fn receive(&mut self, now: Time, packet: &Delivered<'_, Header>) {
        let header = *packet.header;
        if header.acknowledges {
            return self.acknowledged(now, &header);
        }
        self.inbox.take(header.message, header.index, SIZE.packets(header.bytes));
        let marked = header.marked || packet.marked;
        let answer = Header { acknowledges: true, marked, ..header };
        let answer = Outgoing::new(packet.from, SIZE.header_bytes, answer);
        let flow = header.message.0;
        self.nic.put(Outgoing { priority: TOP, flow, ..answer });
    }

    fn settle(&mut self, now: Time) {
        while let Some(message) = self.timers.due(now) {
            let Some(sending) = self.sending.get_mut(&message) else { continue };
            if sending.deadline > now {
                self.timers.set(sending.deadline, message);
                continue;
            }
            sending.deadline = Time::NEVER;
            sending.lose();
            self.fill(now, message);
        }
    }

    fn arrived(&mut self, _now: Time) -> Option<MessageId> {
        self.inbox.arrived()
    }

    fn transmit(&mut self, _now: Time) -> Option<Outgoing<Header>> {
        self.nic.take()
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
    fn packets_of_a_message_fall_by_a_level_at_each_threshold() {
        let payload = SIZE.payload_max();
        let thresholds = std::array::from_fn(|level| level as u32 * payload);
        let mut host = PiasHost::new(Thresholds(thresholds));
        host.send(Time::ZERO, MessageId(0), HostId(1), INITIAL_WINDOW * payload);
        let sent = drain(&mut host, Time::ZERO);
        let levels: Vec<_> = sent.iter().map(|packet| packet.priority).collect();
        assert_eq!(levels, [7, 6, 5, 4, 3, 2, 1]);
    }

    #[test]
    fn a_window_that_was_marked_shrinks_by_half_of_the_part_and_others_grow() {
        let thresholds = Thresholds([u32::MAX; 7]);
        let window = |marked| {
            let mut sender = PiasHost::new(thresholds);
            let mut receiver = PiasHost::new(thresholds);
            sender.send(Time::ZERO, MessageId(0), HostId(1), 100 * SIZE.payload_max());
            for mut packet in drain(&mut sender, Time::ZERO) {
                packet.header.marked = marked;
                receiver.receive(Time::ZERO, &packet.delivered(HostId(0)));
            }
            exchange(&mut receiver, &mut sender, HostId(1), Time::ZERO);
            sender.sending[&MessageId(0)].window
        };
        let initial = f64::from(INITIAL_WINDOW);
        assert_eq!(window(false), 2.0 * initial);
        assert_eq!(window(true), initial / 2.0);
    }

    #[test]
    fn thresholds_of_other_workloads_divide_messages_equally() {
        let sizes = Workload::exact("length_bytes,cumulative_fraction\n80,0\n800,1\n".as_bytes());
        let Thresholds(levels) = Thresholds::of(&sizes.unwrap());
        assert!(levels.is_sorted() && levels[0] >= 80 && levels[6] <= 800, "{levels:?}");
        assert_eq!(Thresholds::published("w3").unwrap().0[0], 436);
    }
}
