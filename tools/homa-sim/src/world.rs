//! The simulation: events, hosts that take turns, messages.

use std::{collections::HashMap, ops::Range};

use crate::{
    calendar::Calendar,
    calls::Calls,
    event::{Event, HostId, MessageId, PacketId},
    fabric::{Fabric, PortKind, PortSummary, PortView, SwitchSummary, Topology, TopologyError},
    journey::{Journey, Journeys},
    packet::wire_bytes,
    receivers::Receivers,
    time::{Span, Time},
    traffic::{Next, Traffic},
    transport::{Protocol, Transport},
};

/// A transport that wants a turn now, and had one, gets the next after this.
const PATIENCE: Span = Span::from_ns(100);

/// A message, from the application that sends to the one that receives it.
#[derive(Clone, Copy, Debug)]
pub struct Message {
    /// Its sender.
    pub from: HostId,
    /// Its receiver.
    pub to: HostId,
    /// Its length.
    pub bytes: u32,
    /// When it was given to the sender's transport.
    pub begun: Time,
    /// When the sender's transport gave the first packet of it away; [`Time::NEVER`] before.
    pub first_sent: Time,
    /// When it gave the last one so far away.
    pub last_sent: Time,
    /// When all of it was taken from the receiver's transport; [`Time::NEVER`] before.
    pub ended: Time,
}

impl Message {
    /// Whether it has arrived.
    pub fn is_over(&self) -> bool {
        self.ended != Time::NEVER
    }
}

#[derive(Debug)]
struct Host<T> {
    transport: T,
    /// The earliest turn that is in the calendar for its sake.
    due: Time,
}

/// A simulated network of hosts that speak one protocol.
#[derive(Debug)]
pub struct World<P: Protocol> {
    now: Time,
    calendar: Calendar<Event>,
    fabric: Fabric<<P::Host as Transport>::Header>,
    hosts: Vec<Host<P::Host>>,
    traffic: Traffic,
    messages: Vec<Message>,
    /// Which of them answer which, where messages are requests.
    calls: Option<Calls>,
    open: usize,
    counts: Counts,
    measured_since: Time,
    /// Messages that are followed, if any.
    journeys: Option<Journeys>,
    receivers: Receivers,
    /// Longest message of one packet.
    packet_bytes: u32,
}

/// What a simulation has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Events.
    pub events: u64,
    /// Packets that were sent into the network.
    pub packets: u64,
    /// Turns that hosts took.
    pub turns: u64,
}

impl<P: Protocol> World<P> {
    /// Hosts of a network that speak `protocol`, and the messages that they send.
    ///
    /// # Errors
    /// There cannot be such a network.
    pub fn new(
        topology: Topology,
        protocol: &P,
        traffic: Traffic,
        seed: u64,
    ) -> Result<Self, TopologyError> {
        topology.validate()?;
        let queues = protocol.queues();
        let host = |transport| Host { transport, due: Time::NEVER };
        let hosts = protocol.hosts(&topology).into_iter().map(host).collect();
        // A full packet of each host makes about ten events.
        let packet = topology.host_rate.time(wire_bytes(1500), &mut 0);
        let day = Span::from_ps(2 * packet.as_ps() / u64::from(topology.hosts()));
        let hop = packet + topology.send_delay + topology.propagation + topology.switch_delay;
        let mut calendar = Calendar::new(day, hop);
        for (source, at) in traffic.sources() {
            calendar.add(at, Event::Begins(source));
        }
        let fabric = Fabric::new(topology, queues, seed)?;
        for (change, after) in (0..).zip(fabric.changes()) {
            calendar.add(traffic.load_begins() + after, Event::Changed(change));
        }
        Ok(Self {
            receivers: Receivers::new(fabric.topology().hosts()),
            packet_bytes: protocol.packet_size().payload_max(),
            now: Time::ZERO,
            calendar,
            fabric,
            hosts,
            calls: traffic.calls().then(Calls::default),
            traffic,
            messages: Vec::new(),
            open: 0,
            counts: Counts::default(),
            measured_since: Time::ZERO,
            journeys: None,
        })
    }

    /// Follows messages, from their begin on: for few, since it looks at their senders' states at
    /// every turn.
    pub fn follow(&mut self, messages: impl IntoIterator<Item = MessageId>) {
        self.journeys = Some(Journeys::of(messages));
    }

    /// Lets everything happen up to `end`, but nothing after the end of the last message.
    pub fn run_until(&mut self, end: Time) {
        while !self.is_over() {
            let Some((at, event)) = self.calendar.next_until(end) else { break };
            self.now = at;
            self.counts.events += 1;
            self.happen(event);
        }
        if !self.is_over() && end != Time::NEVER {
            self.now = self.now.max(end);
        }
    }

    /// Whether all messages have begun and arrived.
    pub fn is_over(&self) -> bool {
        self.open == 0 && self.traffic.is_over()
    }

    /// Begins to measure ports anew.
    pub fn measure_ports(&mut self) {
        self.measured_since = self.now;
        self.fabric.measure(self.now);
        self.receivers.measure(self.now);
    }

    /// What ports did since they are measured.
    pub fn ports(&self) -> Vec<PortSummary> {
        self.fabric.summary(self.now.since(self.measured_since))
    }

    /// What ports of a kind do now.
    pub fn port_views(&self, kind: PortKind) -> Vec<PortView> {
        self.fabric.views(kind)
    }

    /// Part of the capacity of the links to hosts that was idle since ports are measured, although
    /// a message of several packets to that host was under way: its first packet had left.
    pub fn wasted(&self) -> f64 {
        let byte_ps = 8e6 / f64::from(self.fabric.topology().host_rate.mbps());
        let span = self.now.since(self.measured_since);
        self.receivers.wasted(self.now, span, byte_ps, |host| self.fabric.carried(host))
    }

    /// What waited in switches since ports are measured.
    pub fn switches(&self) -> Vec<SwitchSummary> {
        self.fabric.switch_summary(self.now, self.now.since(self.measured_since))
    }

    /// The time.
    pub fn now(&self) -> Time {
        self.now
    }

    /// The messages that have begun, in this order.
    pub fn messages(&self) -> &[Message] {
        &self.messages
    }

    /// What sources have begun, in this order, by its place among that: the first message and the
    /// last one, which are the same where messages are one-way. A response that has not begun is
    /// none.
    pub(crate) fn exchanges(
        &self,
        places: Range<usize>,
    ) -> impl Iterator<Item = (MessageId, Option<MessageId>)> + '_ {
        places.map_while(|place| match &self.calls {
            None => {
                let id = (place < self.messages.len()).then_some(MessageId(place as u32))?;
                Some((id, Some(id)))
            }
            Some(calls) => {
                let request = *calls.requests().get(place)?;
                Some((request, calls.response(request)))
            }
        })
    }

    /// The messages that have begun, and where the time of those went that were followed and have
    /// ended, when nothing else is wanted of the simulation any more.
    pub fn into_found(self) -> (Vec<Message>, HashMap<MessageId, Journey>) {
        (self.messages, self.journeys.map(Journeys::into_found).unwrap_or_default())
    }

    /// The transports, by host.
    pub fn transports(&self) -> impl Iterator<Item = &P::Host> {
        self.hosts.iter().map(|host| &host.transport)
    }

    /// What the simulation has done.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// What hosts send.
    pub fn traffic(&self) -> &Traffic {
        &self.traffic
    }

    /// The network.
    pub fn topology(&self) -> &Topology {
        self.fabric.topology()
    }

    fn happen(&mut self, event: Event) {
        let host = match event {
            Event::Arrived(id) => match self.fabric.arrive(self.now, id, &mut self.calendar) {
                None => return,
                Some(host) => self.deliver(host, id),
            },
            Event::ArrivedOutside(id) => self.deliver(self.fabric.receiver(id), id),
            Event::Freed(port) => {
                let left = self.fabric.freed(self.now, port, &mut self.calendar);
                if let (Some(journeys), Some(id)) = (&mut self.journeys, left) {
                    let (since, kind) = self.fabric.queued(id);
                    journeys.waited(id, kind, self.now.since(since));
                }
                let host = HostId(port.0);
                if port.0 as usize >= self.hosts.len() || self.fabric.is_busy(host, self.now) {
                    return;
                }
                host
            }
            Event::Due(host) => {
                let entry = &mut self.hosts[host.0 as usize];
                if entry.due != self.now {
                    return;
                }
                entry.due = Time::NEVER;
                host
            }
            Event::Begins(source) => match self.begin(source) {
                Some(host) => host,
                None => return,
            },
            Event::Changed(change) => return self.fabric.change(change),
        };
        self.turn(host);
    }

    fn deliver(&mut self, host: HostId, id: PacketId) -> HostId {
        let packet = self.fabric.delivered(id);
        if let (Some(journeys), Some(message)) = (&mut self.journeys, packet.message) {
            journeys.arrived(message, id);
        }
        self.hosts[host.0 as usize].transport.receive(self.now, &packet);
        self.fabric.forget(id);
        host
    }

    /// The next message of a source begins, at the host that is told.
    fn begin(&mut self, source: HostId) -> Option<HostId> {
        let Next { from, to, bytes, response, following } = self.traffic.take(source, self.now)?;
        if let Some(following) = following {
            self.calendar.add(following, Event::Begins(source));
        }
        let id = self.add_message(from, to, bytes);
        if let (Some(calls), Some(response_bytes)) = (&mut self.calls, response) {
            calls.begin(id, response_bytes);
        }
        let taken = self.hosts[from.0 as usize].transport.send(self.now, id, to, bytes);
        self.open += usize::from(taken);
        Some(from)
    }

    fn add_message(&mut self, from: HostId, to: HostId, bytes: u32) -> MessageId {
        let id = MessageId(u32::try_from(self.messages.len()).expect("at most 2^32 messages"));
        self.messages.push(Message {
            from,
            to,
            bytes,
            begun: self.now,
            first_sent: Time::NEVER,
            last_sent: Time::NEVER,
            ended: Time::NEVER,
        });
        if let Some(journeys) = &mut self.journeys {
            journeys.begin(self.now, id, from);
        }
        id
    }

    /// A message has arrived. If it is a request, the response to it begins.
    fn end(&mut self, id: MessageId) {
        let entry = &mut self.messages[id.0 as usize];
        entry.ended = self.now;
        self.open -= 1;
        if let Some(journeys) = &mut self.journeys {
            journeys.end(self.now, id, entry.begun);
        }
        if entry.bytes > self.packet_bytes && entry.first_sent != Time::NEVER {
            self.receivers.ends(entry.to, self.now, self.fabric.carried(entry.to));
        }
        let (from, to) = (entry.to, entry.from);
        let Some(bytes) = self.calls.as_mut().and_then(|calls| calls.asked(id)) else { return };
        let response = self.add_message(from, to, bytes);
        if let Some(calls) = &mut self.calls {
            calls.respond(id, response);
        }
        let transport = &mut self.hosts[from.0 as usize].transport;
        let taken = transport.respond(self.now, id, response, to, bytes);
        self.open += usize::from(taken);
    }

    /// A host does what there is to do.
    fn turn(&mut self, host: HostId) {
        self.counts.turns += 1;
        let pulls = self.fabric.topology().nic_pulls;
        self.hosts[host.0 as usize].transport.settle(self.now);
        let mut asks_later = false;
        loop {
            while let Some(message) = self.hosts[host.0 as usize].transport.arrived(self.now) {
                self.end(message);
            }
            if pulls && self.fabric.is_busy(host, self.now) {
                asks_later = true;
                break;
            }
            let transport = &mut self.hosts[host.0 as usize].transport;
            let Some(packet) = transport.transmit(self.now) else {
                if !transport.asks_backlog(self.now) {
                    break;
                }
                transport.set_backlog(self.now, self.fabric.backlog_bytes(host, self.now));
                continue;
            };
            if let Some(message) = packet.message {
                let message = &mut self.messages[message.0 as usize];
                if message.first_sent == Time::NEVER {
                    message.first_sent = self.now;
                    // One that is late, after its message has arrived, begins nothing.
                    if message.bytes > self.packet_bytes && !message.is_over() {
                        self.receivers.begins(
                            message.to,
                            self.now,
                            self.fabric.carried(message.to),
                        );
                    }
                }
                message.last_sent = self.now;
            }
            self.counts.packets += u64::from(!packet.outside);
            let carries = packet.message;
            let id = self.fabric.send(self.now, host, packet, &mut self.calendar);
            if let Some(journeys) = &mut self.journeys {
                journeys.give(self.now, host, id, carries);
            }
        }
        if self.journeys.is_some() {
            self.note_what_waits(host);
        }
        let entry = &mut self.hosts[host.0 as usize];
        let Some(at) = entry.transport.timeout(self.now) else { return };
        let at = match at > self.now {
            true => at,
            // The NIC asks when it is free.
            false if asks_later => return,
            false => self.now + PATIENCE,
        };
        if at < entry.due {
            entry.due = at;
            self.calendar.add(at, Event::Due(host));
        }
    }

    /// Notes why messages that are followed wait at their sender.
    fn note_what_waits(&mut self, host: HostId) {
        let Some(journeys) = &mut self.journeys else { return };
        let transport = &self.hosts[host.0 as usize].transport;
        let is_busy = self.fabric.is_busy(host, self.now);
        for message in journeys.of_sender(host) {
            if !is_busy || !journeys.is_given(host, message) {
                journeys.not_sent(self.now, message, transport.may_send(message));
            }
        }
    }
}
