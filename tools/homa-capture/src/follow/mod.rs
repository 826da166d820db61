//! Follows RPCs through a recording, with bounded memory.

mod ranges;
mod rpc;

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};

use foldhash::HashMap;
use homa_wire::{AckEntry, Body, Data, PacketType, RpcId};

use crate::decode::{Frame, IcmpError, IcmpMeaning, Quoted};

pub use rpc::{Direction, Failure, Message, Rpc, RpcKey, State};

/// RPCs followed at a time unless the user says otherwise; each takes about 600 bytes, and up to 8
/// KiB more per message with many gaps.
pub const RPCS_MAX: usize = 100_000;

/// A pause after which a packet that would begin an ended RPC again is taken for a new RPC with an
/// old id.
const REUSE_NS: u64 = 5_000_000_000;

/// The RPCs of a recording. When there are more than the limit, the one that began first is given
/// up.
#[derive(Debug)]
pub struct Follow {
    rpcs_max: usize,
    rpcs: VecDeque<Rpc>,
    /// Number of the first of `rpcs`; they are numbered in the order in which they began.
    first_number: u64,
    by_key: HashMap<RpcKey, u64>,
    /// Up to which number the RPCs between two hosts (and with a port) have heard of an error, so
    /// that a stream of errors does not cost a search each.
    told: HashMap<(IpAddr, IpAddr, Option<u16>), u64>,
}

/// Entries of `told`; beyond, it starts anew.
const TOLD_MAX: usize = 4_096;

/// What a DATA packet brought, compared with what had been recorded before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DataStep {
    /// Offset of its first byte.
    pub start: u32,
    /// Offset behind its last byte, within the message.
    pub end: u32,
    /// Bytes not recorded before.
    pub new_bytes: u32,
    /// Whether its message is complete with it.
    pub completes: bool,
}

impl Follow {
    /// Follows at most `rpcs_max` RPCs, at least one.
    pub fn new(rpcs_max: usize) -> Self {
        Self {
            rpcs_max: rpcs_max.max(1),
            rpcs: VecDeque::new(),
            first_number: 0,
            by_key: HashMap::default(),
            told: HashMap::default(),
        }
    }

    /// The RPC a packet belongs to, which is followed from here on if it was not; its number.
    /// `None` for packets that need not belong to one.
    pub fn open(&mut self, now_ns: u64, frame: &Frame<'_>) -> Option<u64> {
        let key = key_of(frame);
        let packet_type = frame.header.packet_type();
        let is_first = is_start(frame);
        if let Some(number) = self.by_key.get(&key).copied() {
            let stale =
                is_first && self.rpc(number).is_some_and(|rpc| is_reused(rpc, now_ns, frame));
            if !stale {
                return Some(number);
            }
        } else if matches!(packet_type, PacketType::Cutoffs | PacketType::Freeze | PacketType::Ack)
        {
            // These concern hosts, or an RPC that is over.
            return None;
        }
        let common = frame.header.common;
        let client_port =
            if is_from_client(frame) { common.source_port } else { common.destination_port };
        let mut rpc = Rpc::new(key, client_port, frame.carriage, now_ns);
        rpc.from_start = is_first;
        Some(self.push(rpc))
    }

    fn push(&mut self, rpc: Rpc) -> u64 {
        if self.rpcs.len() >= self.rpcs_max {
            if let Some(oldest) = self.rpcs.pop_front() {
                if self.by_key.get(&oldest.key) == Some(&self.first_number) {
                    self.by_key.remove(&oldest.key);
                }
                self.first_number += 1;
            }
        }
        let number = self.first_number + self.rpcs.len() as u64;
        self.by_key.insert(rpc.key, number);
        self.rpcs.push_back(rpc);
        number
    }

    /// The RPC with this number, if it is still followed.
    pub fn rpc(&self, number: u64) -> Option<&Rpc> {
        self.rpcs.get(usize::try_from(number.checked_sub(self.first_number)?).ok()?)
    }

    pub(crate) fn rpc_mut(&mut self, number: u64) -> Option<&mut Rpc> {
        self.rpcs.get_mut(usize::try_from(number.checked_sub(self.first_number)?).ok()?)
    }

    /// The RPC with this key, if it is followed.
    pub fn find(&self, key: &RpcKey) -> Option<&Rpc> {
        self.by_key.get(key).and_then(|number| self.rpc(*number))
    }

    /// All RPCs that are followed, in the order in which they began.
    pub fn rpcs(&self) -> impl Iterator<Item = &Rpc> {
        self.rpcs.iter()
    }

    /// How many RPCs were given up for want of room.
    pub fn given_up(&self) -> u64 {
        self.first_number
    }

    /// Records a packet of the RPC with this number. For DATA, says what it brought.
    pub fn update(&mut self, number: Option<u64>, now_ns: u64, frame: &Frame<'_>) -> DataStep {
        if let Body::Data(data) = &frame.header.body {
            if let Some(entry) = data.acknowledged() {
                self.acknowledge(now_ns, frame, entry);
            }
        }
        if let Body::Ack(ack) = &frame.header.body {
            for entry in ack.entries() {
                self.acknowledge(now_ns, frame, *entry);
            }
        }
        let Some(rpc) = number.and_then(|number| self.rpc_mut(number)) else {
            return DataStep::default();
        };
        rpc.last_ns = now_ns;
        count(&mut rpc.packets, frame.header.packet_type());
        if is_from_client(frame) {
            rpc.need_acks_unanswered = 0;
        }
        if frame.header_whole { update_rpc(rpc, now_ns, frame) } else { DataStep::default() }
    }

    fn acknowledge(&mut self, now_ns: u64, frame: &Frame<'_>, entry: AckEntry) {
        let key = RpcKey {
            client: frame.source,
            server: SocketAddr::new(frame.destination, entry.server_port),
            id: RpcId(entry.client_id).of_client().0,
        };
        if let Some(number) = self.by_key.get(&key).copied() {
            if let Some(rpc) = self.rpc_mut(number) {
                rpc.acknowledged_ns.get_or_insert(now_ns);
                rpc.last_ns = rpc.last_ns.max(now_ns);
                rpc.need_acks_unanswered = 0;
            }
        }
    }

    /// Records an ICMP error and says which RPC it quotes. Errors about a port or host end all RPCs
    /// with it (docs/spec/protocol.md §14).
    pub fn icmp(&mut self, now_ns: u64, error: &IcmpError) -> Option<u64> {
        let quoted_key = quoted_key(&error.quoted);
        let number = quoted_key.and_then(|key| self.by_key.get(&key).copied());
        if let Some(rpc) = number.and_then(|number| self.rpc_mut(number)) {
            rpc.icmp_errors += 1;
            rpc.last_ns = now_ns;
            let about_response = error.quoted.packet_type == Some(PacketType::Data)
                && error.quoted.sender_id.is_some_and(|id| RpcId(id).is_server())
                && error.meaning.is_fatal();
            rpc.response.errors += u64::from(about_response);
            let over = rpc.acknowledged_ns.is_some() || rpc.response.may_have_arrived();
            if about_response && !over {
                rpc.failure.get_or_insert((Failure::Icmp(error.meaning), now_ns));
            }
        }
        let (peer, local) = (error.quoted.destination, error.quoted.source);
        let port = match error.meaning {
            IcmpMeaning::PortUnreachable => Some(error.quoted.destination_port),
            _ if !error.meaning.is_fatal() => return number,
            _ => None,
        };
        self.fail_all(now_ns, error.meaning, (local, peer, port));
        number
    }

    /// Ends the RPCs of host `local` with host `peer`, of all ports or one of the peer's.
    fn fail_all(&mut self, now_ns: u64, meaning: IcmpMeaning, whom: (IpAddr, IpAddr, Option<u16>)) {
        let next_number = self.first_number + self.rpcs.len() as u64;
        if self.told.len() >= TOLD_MAX {
            self.told.clear();
        }
        let from = self.told.insert(whom, next_number).unwrap_or(0);
        let skipped = usize::try_from(from.saturating_sub(self.first_number)).unwrap_or(usize::MAX);
        let (local, peer, port) = whom;
        for rpc in self.rpcs.iter_mut().skip(skipped) {
            let with_server = rpc.key.client == local && rpc.key.server.ip() == peer;
            let with_client = rpc.key.client == peer && rpc.key.server.ip() == local;
            let concerned = with_server && port.is_none_or(|port| rpc.key.server.port() == port)
                || with_client && port.is_none_or(|port| rpc.client_port == port);
            // A client that has its answer does not notice.
            let over = rpc.acknowledged_ns.is_some() || rpc.response.is_complete();
            if concerned && !over {
                rpc.failure.get_or_insert((Failure::Icmp(meaning), now_ns));
            }
        }
    }
}

/// Whether the packet's sender is the client of its RPC (docs/spec/wire-format.md §3).
pub fn is_from_client(frame: &Frame<'_>) -> bool {
    RpcId(frame.header.common.sender_id).is_client()
}

/// The RPC a packet belongs to.
pub fn key_of(frame: &Frame<'_>) -> RpcKey {
    let common = &frame.header.common;
    let (client, server) = if is_from_client(frame) {
        (frame.source, SocketAddr::new(frame.destination, common.destination_port))
    } else {
        (frame.destination, SocketAddr::new(frame.source, common.source_port))
    };
    RpcKey { client, server, id: RpcId(common.sender_id).of_client().0 }
}

/// The RPC that a quoted packet belongs to.
pub fn quoted_key(quoted: &Quoted) -> Option<RpcKey> {
    let id = RpcId(quoted.sender_id?);
    let (client, server): (IpAddr, _) = if id.is_client() {
        (quoted.source, SocketAddr::new(quoted.destination, quoted.destination_port))
    } else {
        (quoted.destination, SocketAddr::new(quoted.source, quoted.source_port))
    };
    Some(RpcKey { client, server, id: id.of_client().0 })
}

/// The message that a packet is part of, or about.
pub fn direction_of(frame: &Frame<'_>) -> Direction {
    let own = if is_from_client(frame) { Direction::Request } else { Direction::Response };
    match frame.header.packet_type() {
        // These come from the message's receiver.
        PacketType::Grant | PacketType::Resend => own.other(),
        _ => own,
    }
}

/// Whether a packet that begins an RPC begins another than this one under its old id, as after a
/// restart of the client's host or between recordings joined to one file.
fn is_reused(rpc: &Rpc, now_ns: u64, frame: &Frame<'_>) -> bool {
    let Body::Data(data) = &frame.header.body else {
        return false;
    };
    let over = rpc.state() != State::Unfinished;
    let grows = rpc.request.open && is_open(frame, data);
    let other_length = rpc.request.length.is_some_and(|length| length != data.message_length);
    let other_length = other_length && !grows;
    let later = now_ns > rpc.last_ns.saturating_add(REUSE_NS);
    over && (other_length || later) || now_ns < rpc.first_ns
}

/// Whether an RPC begins with this packet.
fn is_start(frame: &Frame<'_>) -> bool {
    match &frame.header.body {
        Body::Data(data) => is_from_client(frame) && !is_again(frame, data),
        _ => false,
    }
}

fn is_again(frame: &Frame<'_>, data: &Data) -> bool {
    data.is_retransmission(&frame.header.common)
}

fn is_open(frame: &Frame<'_>, data: &Data) -> bool {
    data.is_open(&frame.header.common)
}

fn count(counts: &mut [u64; PacketType::ALL.len()], packet_type: PacketType) {
    if let Some(count) = counts.get_mut(packet_type.index()) {
        *count += 1;
    }
}

fn update_rpc(rpc: &mut Rpc, now_ns: u64, frame: &Frame<'_>) -> DataStep {
    let direction = direction_of(frame);
    match &frame.header.body {
        Body::Data(data) => {
            let start = data.offset(frame.header.common.sequence);
            return update_data(rpc.message_mut(direction), now_ns, frame, start);
        }
        Body::Grant(grant) => {
            let message = rpc.message_mut(direction);
            message.grants += 1;
            message.granted = message.granted.max(grant.offset);
            message.allowed = message.allowed.max(grant.offset);
            message.grant_level = Some(grant.priority);
        }
        Body::Resend(resend) => {
            let message = rpc.message_mut(direction);
            message.resends += 1;
            if !resend.is_all() {
                message.allowed = message.allowed.max(resend.offset.saturating_add(resend.length));
            }
        }
        Body::Busy => rpc.message_mut(direction).busys += 1,
        Body::NeedAck if !is_from_client(frame) => rpc.need_acks_unanswered += 1,
        Body::Ack(_) if is_from_client(frame) => {
            rpc.acknowledged_ns.get_or_insert(now_ns);
        }
        Body::RpcUnknown => {
            let reason = frame.header.reason();
            let failure = if !is_from_client(frame) {
                reason.ends_call().then_some(Failure::Refused(reason))
            } else if rpc.response.is_complete() {
                // It has the answer, and has forgotten the RPC since.
                rpc.acknowledged_ns.get_or_insert(now_ns);
                None
            } else {
                Some(Failure::Cancelled)
            };
            if let Some(failure) = failure {
                rpc.failure.get_or_insert((failure, now_ns));
            }
        }
        Body::NeedAck | Body::Ack(_) | Body::Cutoffs(_) | Body::Freeze => {}
    }
    DataStep::default()
}

fn update_data(message: &mut Message, now_ns: u64, frame: &Frame<'_>, start: u32) -> DataStep {
    let Body::Data(data) = &frame.header.body else {
        return DataStep::default();
    };
    message.packets += 1;
    message.first_ns.get_or_insert(now_ns);
    message.retransmitted_packets += u64::from(is_again(frame, data));
    let length = message.length.get_or_insert(data.message_length);
    message.open |= is_open(frame, data);
    if message.open {
        *length = data.message_length.max(*length);
    }
    let length = *length;
    if !is_again(frame, data) || message.unscheduled == 0 {
        message.unscheduled = message.unscheduled.max(data.incoming.min(length));
    }
    message.allowed = message.allowed.max(data.incoming.min(length));
    message.repetitions += u64::from(message.is_complete());
    let end = start.saturating_add(frame.payload_bytes()).min(length.min(data.message_length));
    if start >= end {
        return DataStep { start, end: start, ..DataStep::default() };
    }
    let new_bytes = message.seen.insert(start, end);
    message.repeated_bytes += u64::from(end - start - new_bytes);
    let completes = message.complete_ns.is_none() && message.seen.bytes() == u64::from(length);
    if completes {
        message.complete_ns = Some(now_ns);
        message.seen.compact();
    }
    DataStep { start, end, new_bytes, completes }
}
