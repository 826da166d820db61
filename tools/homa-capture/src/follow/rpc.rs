//! What a recording shows of one RPC.

use std::net::{IpAddr, SocketAddr};

use homa_wire::{PacketType, Reason};

use super::ranges::Ranges;
use crate::decode::{Carriage, IcmpMeaning};

/// Which of an RPC's two messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// From the client.
    Request,
    /// From the server.
    Response,
}

impl Direction {
    /// In words.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Request => "request",
            Self::Response => "response",
        }
    }

    /// The other message.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::Request => Self::Response,
            Self::Response => Self::Request,
        }
    }
}

/// What tells RPCs apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RpcKey {
    /// The client's address. Its port is not part of it: acknowledgements may come from another
    /// one.
    pub client: IpAddr,
    /// The server.
    pub server: SocketAddr,
    /// The RPC's id in the client's (even) form.
    pub id: u64,
}

/// What became of an RPC, as far as the recording shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// The response was recorded as a whole, or the client acknowledged it.
    Complete,
    /// Something ended it before.
    Failed(Failure),
    /// Neither.
    Unfinished,
}

/// What ended an RPC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// An ICMP error.
    Icmp(IcmpMeaning),
    /// The server refused or lost it: what its RPC_UNKNOWN says.
    Refused(Reason),
    /// The client does not want the answer any more.
    Cancelled,
}

/// One of an RPC's messages, as far as recorded.
#[derive(Clone, Debug, Default)]
pub struct Message {
    /// Length in bytes, once a DATA packet said it; if it is open, the longest that one said.
    pub length: Option<u32>,
    /// Whether it may grow, or has grown to its end.
    pub open: bool,
    /// Bytes its sender may send without a grant.
    pub unscheduled: u32,
    /// End of what its sender may send: the unscheduled part, grants, and ranges asked for again.
    pub allowed: u32,
    /// Highest offset of a GRANT seen for it.
    pub granted: u32,
    /// Priority level of the last GRANT.
    pub grant_level: Option<u8>,
    /// DATA packets.
    pub packets: u64,
    /// DATA packets marked as retransmissions.
    pub retransmitted_packets: u64,
    /// Bytes that DATA packets carried again.
    pub repeated_bytes: u64,
    /// GRANT packets for it.
    pub grants: u64,
    /// RESEND packets about it.
    pub resends: u64,
    /// BUSY packets of its sender.
    pub busys: u64,
    /// Time of the first DATA packet, in ns since 1970.
    pub first_ns: Option<u64>,
    /// Time at which all its bytes had been recorded, in ns since 1970.
    pub complete_ns: Option<u64>,
    /// DATA packets after it was complete.
    pub(crate) repetitions: u64,
    /// ICMP errors about its DATA packets.
    pub(crate) errors: u64,
    pub(crate) seen: Ranges,
}

impl Message {
    /// Bytes recorded of it, each counted once.
    pub fn recorded_bytes(&self) -> u64 {
        self.seen.bytes()
    }

    /// Whether all its bytes were recorded.
    pub fn is_complete(&self) -> bool {
        self.complete_ns.is_some()
    }

    /// Whether it was recorded as a whole before what ICMP errors are about: its receiver may have
    /// gone when it had it, and the errors be about repetitions.
    pub(crate) fn may_have_arrived(&self) -> bool {
        self.is_complete() && self.errors <= self.repetitions
    }
}

/// What a recording shows of one RPC.
#[derive(Clone, Debug)]
pub struct Rpc {
    /// What tells it apart.
    pub key: RpcKey,
    /// Port of the client.
    pub client_port: u16,
    /// What carries its packets.
    pub carriage: Carriage,
    /// Whether its first recorded packet is the first of the request: if not, what is missing may
    /// have come before the recording began.
    pub from_start: bool,
    /// The request.
    pub request: Message,
    /// The response.
    pub response: Message,
    /// Time of its first packet, in ns since 1970.
    pub first_ns: u64,
    /// Time of its last packet, in ns since 1970.
    pub last_ns: u64,
    /// Packets of each type, in the order of [`PacketType::ALL`].
    pub packets: [u64; PacketType::ALL.len()],
    /// ICMP errors about it.
    pub icmp_errors: u64,
    /// Time of the first acknowledgement, in ns since 1970.
    pub acknowledged_ns: Option<u64>,
    /// What ended it, and when.
    pub failure: Option<(Failure, u64)>,
    /// NEED_ACK packets since the client was last heard of.
    pub need_acks_unanswered: u64,
    /// Violations found in its packets.
    pub violations: u64,
}

/// So many NEED_ACKs in a row without any packet of the client mean that it did not get the
/// response, or is gone.
const NEED_ACKS_UNANSWERED_MAX: u64 = 10;

impl Rpc {
    pub(crate) fn new(key: RpcKey, client_port: u16, carriage: Carriage, now_ns: u64) -> Self {
        Self {
            key,
            client_port,
            carriage,
            from_start: false,
            request: Message::default(),
            response: Message::default(),
            first_ns: now_ns,
            last_ns: now_ns,
            packets: [0; PacketType::ALL.len()],
            icmp_errors: 0,
            acknowledged_ns: None,
            failure: None,
            need_acks_unanswered: 0,
            violations: 0,
        }
    }

    /// What became of it.
    pub fn state(&self) -> State {
        let delivered =
            self.response.is_complete() && self.need_acks_unanswered <= NEED_ACKS_UNANSWERED_MAX;
        match self.failure {
            _ if self.acknowledged_ns.is_some() => State::Complete,
            Some((failure, _)) => State::Failed(failure),
            None if delivered => State::Complete,
            None => State::Unfinished,
        }
    }

    /// One of its messages.
    pub fn message(&self, direction: Direction) -> &Message {
        match direction {
            Direction::Request => &self.request,
            Direction::Response => &self.response,
        }
    }

    pub(crate) fn message_mut(&mut self, direction: Direction) -> &mut Message {
        match direction {
            Direction::Request => &mut self.request,
            Direction::Response => &mut self.response,
        }
    }

    /// Packets of one type.
    pub fn count(&self, packet_type: PacketType) -> u64 {
        self.packets.get(packet_type.index()).copied().unwrap_or_default()
    }
}
