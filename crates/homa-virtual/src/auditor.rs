//! Watches every link: what hosts send has to be what the protocol promises, whatever the troubles.
//!
//! It sees packets, not the state of engines. Where an engine decides on more than that (an RPC may
//! end without a packet), the promise is only asked for in calm worlds, see [`Auditor::calm`].

use std::collections::{HashMap, HashSet, VecDeque};
use std::net::{IpAddr, SocketAddr};

use homa_core::{Carriage, Config};
use homa_wire::{Ack, AckEntry, Body, Data, Header, Packets, Reason, Resend, RpcId};

use crate::driver::Packet;

/// Credit that an engine takes for a packet besides its payload.
const CHARGE_PER_PACKET: u32 = 256;
/// More violations are not recorded.
const VIOLATIONS_MAX: usize = 20;
/// RESENDs and NEED_ACKs about an RPC that may follow each other quickly; with the usual times then
/// one in three resend intervals.
const QUESTIONS_MAX: u32 = 6;
/// After this time an engine has looked at a packet that waits in its buffer, in ns.
const READ_NS: u64 = 1_000_000;

/// A host in one of its incarnations, by index, and another address.
type Ends = (usize, SocketAddr);
/// A message between them, by the id that its sender writes.
type MessageKey = (usize, SocketAddr, RpcId);

/// Traffic between a host and an address since the host's incarnation began.
#[derive(Debug, Default)]
struct Between {
    proved: bool,
    /// Bytes that came from there, as far as the host's buffer took them.
    received_bytes: u64,
    /// Bytes about calls from there that went there.
    answered_bytes: u64,
    control_bytes: u64,
    /// Unscheduled bytes sent that nothing has come back for, by id, in order.
    in_flight: VecDeque<(RpcId, u32)>,
    /// Bytes in flight when the host sent a NEED_ACK about an RPC of this id.
    probe: Option<(RpcId, usize)>,
    /// Responses that arrived and have not been acknowledged, and since when, in ns.
    to_acknowledge: VecDeque<(RpcId, u64)>,
    /// RESENDs and NEED_ACKs about each RPC since anything came from there: how many, when the
    /// first and the last was, in ns.
    asked: HashMap<RpcId, (u32, u64, u64)>,
    /// Responses that were acknowledged, and when, in ns.
    acknowledged: HashMap<RpcId, u64>,
}

/// A message as its receiver sees it.
#[derive(Debug, Default)]
struct Incoming {
    length: u32,
    /// Bytes that came, duplicates counted twice.
    received: u64,
    granted: u32,
    /// GRANTs of this message while there was no other, and those of them above the lowest
    /// priority.
    alone: u32,
    raised: u32,
}

/// All links of a world.
#[derive(Debug, Default)]
pub struct Auditor {
    /// Nothing is lost, late, stopped or aborted: everything that happens shows.
    pub calm: bool,
    between: HashMap<Ends, Between>,
    incoming: HashMap<MessageKey, Incoming>,
    /// By which number each host is known at an IP address.
    incarnations: HashMap<(usize, IpAddr), u32>,
    /// Hosts whose driver refused something: what they asked may leave later than they think.
    refused: HashSet<usize>,
    /// Broken promises.
    pub violations: Vec<String>,
}

/// One packet of a datagram, on its way between a host and an address.
struct Seen<'a> {
    now_ns: u64,
    host: usize,
    remote: SocketAddr,
    header: &'a Header,
    /// From the Homa header on.
    bytes: u32,
}

impl Seen<'_> {
    fn id(&self) -> RpcId {
        RpcId(self.header.common.sender_id)
    }

    /// The RPCs that an ACK packet acknowledges: its own, and those that it lists.
    fn acknowledged(&self, ack: &Ack) -> impl Iterator<Item = AckEntry> {
        let own = AckEntry { client_id: self.id().0, server_port: 0 };
        std::iter::once(own).chain(ack.entries().to_vec())
    }

    /// Payload of a DATA packet, without padding.
    fn range(&self, data: &Data) -> (u32, u32) {
        let payload = self.bytes.saturating_sub(self.header.encoded_bytes() as u32);
        let start = data.offset(self.header.common.sequence);
        (start, start.saturating_add(payload).min(data.message_length))
    }
}

fn each_packet(packet: &Packet, mut see: impl FnMut(&Header, u32)) {
    let length = packet.bytes.len() as u32;
    let mut one = |bytes: &[u8], length| {
        if let Ok(header) = Header::parse(bytes, length) {
            see(&header, length);
        }
    };
    match packet.meta.path.carriage {
        Carriage::Udp => {
            Packets::new(&packet.bytes, length).for_each(|(bytes, length)| one(bytes, length))
        }
        _ => one(&packet.bytes, length),
    }
}

impl Auditor {
    /// A host begins an incarnation.
    pub(crate) fn booted(&mut self, host: usize) {
        self.between.retain(|(other, _), _| *other != host);
        self.incoming.retain(|(other, ..), _| *other != host);
        self.incarnations.retain(|(other, _), _| *other != host);
    }

    /// An address has received the incarnation by which it knows a host.
    pub fn heard_of(&mut self, host: usize, ip: IpAddr, incarnation: u32) {
        self.incarnations.insert((host, ip), incarnation);
    }

    /// The driver of a host refused a train, or part of it.
    pub(crate) fn refused(&mut self, host: usize) {
        self.refused.insert(host);
    }

    /// A packet leaves a host.
    pub(crate) fn sent(&mut self, now_ns: u64, host: usize, packet: &Packet, config: &Config) {
        let over_udp = packet.meta.path.carriage == Carriage::Udp;
        each_packet(packet, |header, bytes| {
            let seen = Seen { now_ns, host, remote: packet.to, header, bytes };
            if header.common.incarnation != 0 {
                let key = (host, packet.to.ip());
                self.incarnations.insert(key, header.common.incarnation);
            }
            if over_udp {
                self.check_anti_amplification(&seen);
            }
            self.check_resends(&seen, config);
            if self.calm {
                self.check_calm(&seen, config);
            }
        });
    }

    /// A packet has reached a host's receive buffer.
    pub(crate) fn arrived(&mut self, now_ns: u64, host: usize, packet: &Packet) {
        let remote = packet.meta.path.remote;
        each_packet(packet, |header, bytes| {
            let seen = Seen { now_ns, host, remote, header, bytes };
            let ours = self.incarnations.get(&(host, remote.ip())).copied();
            let echo = match &header.body {
                Body::Data(data) => data.echo,
                _ => header.extension.map_or(0, |extension| extension.echo),
            };
            let between = self.between.entry((host, remote)).or_default();
            between.received_bytes += u64::from(bytes);
            between.asked.clear();
            let names_us = echo != 0 && Some(echo) == ours;
            between.proved |= names_us;
            // Packets about a call that do not echo its host's incarnation are ignored.
            let native = header.common.version().is_some();
            let heard = names_us || !native || seen.id().is_client();
            if self.calm && heard {
                self.note_arrival(&seen, names_us || !native);
            }
        });
    }

    fn violation(&mut self, seen: &Seen<'_>, what: &str) {
        if self.violations.len() < VIOLATIONS_MAX {
            let Seen { now_ns, host, remote, header, bytes } = seen;
            let packet = &header.body;
            self.violations.push(format!(
                "{now_ns} ns: host {host} to {remote}, id {:x}: {what}: {packet:?} of {bytes} B",
                seen.id().0
            ));
        }
    }

    /// RESENDs to a silent peer become rarer.
    fn check_resends(&mut self, seen: &Seen<'_>, config: &Config) {
        let reason = seen.header.reason();
        let acknowledgement = match seen.header.body {
            Body::Resend(_) => false,
            Body::NeedAck if reason != Reason::Probe => true,
            _ => return,
        };
        let times = |config: &Config| {
            (
                config.recovery.resend_interval,
                config.recovery.timeout,
                config.responses.request_ack_interval,
            )
        };
        // Times out of proportion allow a RESEND per interval.
        let (interval, intervals_each) = match acknowledgement {
            _ if times(config) == times(&Config::default()) => (config.recovery.resend_interval, 3),
            true => (config.recovery.resend_interval.min(config.responses.request_ack_interval), 1),
            false => (config.recovery.resend_interval, 1),
        };
        let between = self.between.entry((seen.host, seen.remote)).or_default();
        let (count, first_ns, last_ns) =
            between.asked.entry(seen.id()).or_insert((0, seen.now_ns, u64::MAX));
        if *last_ns != seen.now_ns {
            (*count, *last_ns) = (*count + 1, seen.now_ns);
        }
        let intervals = (seen.now_ns - *first_ns) / interval.as_nanos() as u64;
        let (count, most) = (*count, QUESTIONS_MAX + intervals as u32 / intervals_each);
        if count > most {
            let what =
                format!("RESEND or NEED_ACK {count} to a silent peer in {intervals} intervals");
            self.violation(seen, &what);
        }
    }

    /// A server sends three times what came from an address that is not proved at most, and as many
    /// bytes of control packets as came. GRANTs do not count: one message of unvalidated clients is
    /// granted at a time.
    fn check_anti_amplification(&mut self, seen: &Seen<'_>) {
        let between = self.between.entry((seen.host, seen.remote)).or_default();
        if between.proved || seen.id().is_client() || matches!(seen.header.body, Body::Grant(_)) {
            return;
        }
        let bytes = u64::from(seen.bytes);
        between.answered_bytes += bytes;
        if !matches!(seen.header.body, Body::Data(_)) {
            between.control_bytes += bytes;
        }
        let Between { received_bytes, answered_bytes, control_bytes, .. } = *between;
        if answered_bytes > 3 * received_bytes || control_bytes > received_bytes {
            let what = format!(
                "{answered_bytes} B, {control_bytes} B of them control packets, for {received_bytes} B to an address that \
                 is not proved"
            );
            self.violation(seen, &what);
        }
    }
}

/// Promises that hold only in calm worlds.
impl Auditor {
    fn check_calm(&mut self, seen: &Seen<'_>, config: &Config) {
        match &seen.header.body {
            Body::Data(data) => self.data_sent(seen, data, config),
            Body::Grant(grant) => {
                self.grant_sent(seen, grant.offset, grant.priority, config);
            }
            Body::Resend(Resend { .. }) => {
                self.violation(seen, "asked for although nothing is lost")
            }
            Body::NeedAck => self.need_ack_sent(seen),
            Body::Ack(ack) => {
                seen.acknowledged(ack).for_each(|entry| self.acknowledged(seen, entry));
            }
            _ => {}
        }
    }

    fn acknowledged(&mut self, seen: &Seen<'_>, ack: AckEntry) {
        let between = self.between.entry((seen.host, seen.remote)).or_default();
        between.to_acknowledge.retain(|(id, _)| *id != RpcId(ack.client_id));
    }

    fn data_sent(&mut self, seen: &Seen<'_>, data: &Data, config: &Config) {
        let (start, end) = seen.range(data);
        let between = self.between.entry((seen.host, seen.remote)).or_default();
        let waits = between.to_acknowledge.front();
        let late = waits.is_some_and(|(_, since_ns)| since_ns + READ_NS < seen.now_ns);
        let exact = !self.refused.contains(&seen.host);
        let late = exact && late && data.acknowledged().is_none();
        if start < data.incoming && seen.header.common.version().is_some() {
            let cost = end - start + CHARGE_PER_PACKET;
            let before: u32 = between.in_flight.iter().map(|(_, bytes)| bytes).sum();
            between.in_flight.push_back((seen.id(), cost));
            if exact && before > 0 && before + cost > config.unscheduled.in_flight_max_bytes {
                let what = format!("{before} B and {cost} B unscheduled without a reaction");
                self.violation(seen, &what);
            }
        }
        if late {
            self.violation(seen, "it takes no acknowledgement along, and some wait");
        }
        if let Some(ack) = data.acknowledged() {
            self.acknowledged(seen, ack);
        }
    }

    fn grant_sent(&mut self, seen: &Seen<'_>, offset: u32, priority: u8, config: &Config) {
        let key = (seen.host, seen.remote, seen.id().of_peer());
        let underway = self.incoming.keys().filter(|(host, ..)| *host == seen.host).count();
        let message = self.incoming.entry(key).or_default();
        let before = std::mem::replace(&mut message.granted, offset);
        // The last bytes go before other scheduled data.
        let is_end = offset.saturating_add(config.grants.boost_bytes) > message.length;
        if underway == 1 && !is_end {
            message.alone += 1;
            message.raised += u32::from(priority > 0);
        }
        // The oldest message has a share of its own at a high priority.
        let too_high = message.raised > 1 + message.alone / 4;
        let outstanding = u64::from(offset).saturating_sub(message.received);
        let (beyond, length) = (offset > message.length, message.length);
        let window = match config.grants.window_bytes {
            0 => u64::from(config.grants.max_incoming_bytes) / 2,
            fixed => u64::from(fixed),
        };
        let share = window + u64::from(config.fixed.fifo_grant_bytes).min(window);
        let all: u64 = self
            .incoming
            .iter()
            .filter(|((host, ..), _)| *host == seen.host)
            .map(|(_, it)| u64::from(it.granted).saturating_sub(it.received))
            .sum();
        if offset < before || (beyond && length > 0) {
            self.violation(seen, &format!("after a grant up to {before} of {length}"));
        }
        if outstanding > share {
            self.violation(
                seen,
                &format!("{outstanding} B granted ahead, {share} B are its share"),
            );
        }
        if all > u64::from(config.grants.max_incoming_bytes) + share {
            self.violation(seen, &format!("{all} B granted ahead to all"));
        }
        if too_high {
            self.violation(seen, "a message that is alone has a high level");
        }
    }

    fn need_ack_sent(&mut self, seen: &Seen<'_>) {
        let between = self.between.entry((seen.host, seen.remote)).or_default();
        let said = between.acknowledged.get(&seen.id().of_peer());
        let exact = !self.refused.contains(&seen.host);
        let known = exact && said.is_some_and(|at_ns| at_ns + READ_NS < seen.now_ns);
        let probe = seen.header.reason() == Reason::Probe;
        if probe {
            // One at a time: if it asks about another RPC the last NEED_ACK has been answered.
            let last = between.probe.filter(|(asked, _)| *asked != seen.id());
            let read = last.map_or(0, |(_, length)| length.min(between.in_flight.len()));
            between.in_flight.drain(..read);
            between.probe = Some((seen.id(), between.in_flight.len()));
        } else if known {
            self.violation(seen, "asked for an acknowledgement that came");
        }
    }

    fn note_arrival(&mut self, seen: &Seen<'_>, is_itself: bool) {
        let id = seen.id().of_peer();
        let is_answer = is_itself && !matches!(seen.header.body, Body::NeedAck);
        let between = self.between.entry((seen.host, seen.remote)).or_default();
        if let Some((_, length)) = between.probe.filter(|(asked, _)| *asked == id && is_answer) {
            between.probe = None;
            between.in_flight.drain(..length.min(between.in_flight.len()));
        }
        between.in_flight.retain(|(of, _)| *of != id);
        if let Some((_, length)) = &mut between.probe {
            *length = (*length).min(between.in_flight.len());
        }
        match &seen.header.body {
            Body::Data(data) => {
                if let Some(ack) = data.acknowledged() {
                    self.reacted(seen, ack);
                }
                self.data_arrived(seen, data);
            }
            Body::Ack(ack) => {
                seen.acknowledged(ack).for_each(|entry| self.reacted(seen, entry));
            }
            _ => {}
        }
    }

    /// An acknowledgement is a reaction to the response that it names.
    fn reacted(&mut self, seen: &Seen<'_>, ack: AckEntry) {
        let between = self.between.entry((seen.host, seen.remote)).or_default();
        let id = RpcId(ack.client_id);
        between.in_flight.retain(|(of, _)| *of != id.of_server());
        between.acknowledged.insert(id, seen.now_ns);
    }

    fn data_arrived(&mut self, seen: &Seen<'_>, data: &Data) {
        let (start, end) = seen.range(data);
        let key = (seen.host, seen.remote, seen.id());
        let message = self.incoming.entry(key).or_default();
        message.length = message.length.max(data.message_length);
        message.received += u64::from(end - start);
        if message.received < u64::from(message.length) {
            return;
        }
        self.incoming.remove(&key);
        if seen.id().is_server() {
            let between = self.between.entry((seen.host, seen.remote)).or_default();
            between.to_acknowledge.push_back((seen.id().of_peer(), seen.now_ns));
        }
    }
}
