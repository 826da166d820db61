//! Inputs and outputs of the engine: keys, placements, transmissions, events.

use core::net::SocketAddr;
use core::ops::Range;

use crate::addr::Path;
use crate::time::Instant;

/// Names an RPC of one engine. A key that has outlived its RPC is an error wherever it is used,
/// never another RPC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RpcKey {
    /// Position in the engine's table; small, reused. Callers may index their own tables by it.
    pub index: u32,
    /// Counts the uses of that position.
    pub generation: u32,
}

/// Verdict on a received packet.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum Received {
    /// Copy payload bytes now, before the next `poll_event`. Space was accounted for.
    Place(Placement),
    /// Nothing to copy.
    Consumed,
    /// Ignored and counted.
    Dropped(DropReason),
}

/// "Put bytes `packet` of this packet at `offset` of the incoming message of `rpc`."
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    /// The RPC whose incoming message (request at a server, response at a client) it is.
    pub rpc: RpcKey,
    /// Where in the message the first of these bytes belongs.
    pub offset: u32,
    /// Which bytes of the packet, counted from the start of the Homa header.
    pub packet: Range<u32>,
    /// Length of the whole message in bytes, as far as is known: that of an open message may grow.
    pub message_length: u32,
}

/// Why a packet was ignored. Each reason has a counter in [`crate::Stats`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DropReason {
    /// Shorter than its type demands, or of an unknown type.
    Malformed,
    /// Over UDP: not of this implementation.
    Foreign,
    /// Of another version of our extensions (named in [`crate::Stats::last_foreign_version`]).
    Version,
    /// For a port that is not open here.
    NoSuchPort,
    /// For an RPC that does not exist (any more).
    UnknownRpc,
    /// A request that was executed before, or a duplicate of data already held.
    Duplicate,
    /// Offsets, lengths or grants that contradict the message.
    BadRange,
    /// No memory for it within the limits of the configuration.
    NoMemory,
    /// A message longer than `limits.max_message_bytes`.
    TooLong,
    /// A limit of the configuration (RPCs, peers, gaps) is reached.
    Limit,
    /// A packet from an address that may not speak for the RPC it names.
    WrongPeer,
    /// A request that was not begun before its port was drained.
    Draining,
}

/// A group of packets for one destination at one priority ("train"): either each segment is a
/// datagram of its own, all equally long except the last, which may be shorter; or all go in one
/// datagram, one after the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transmit {
    /// Where to.
    pub path: Path,
    /// Internal priority, 0 (lowest) to 7.
    pub priority: u8,
    /// Differentiated services code point to mark the packets with.
    pub dscp: u8,
    /// How many of the caller's segments were filled, at least 1.
    pub segments: usize,
    /// Bytes of each datagram on the wire (header, payload, padding) except perhaps the last.
    pub segment_bytes: u32,
    /// Bytes of all segments together.
    pub total_bytes: u32,
    /// All segments, at least two, go in one datagram, directly one after the other (UDP only, see
    /// [`homa_wire::Packets`]).
    pub coalesced: bool,
}

/// Largest Homa header with its extension, in bytes.
pub const SEGMENT_HEADER_MAX: usize = 96;

/// One packet to send: header bytes, then a range of the outgoing message of `rpc`, then zeros.
#[derive(Clone, Debug)]
pub struct Segment {
    /// The RPC whose outgoing message (request at a client, response at a server) is the
    /// payload; `None` where there is no payload and perhaps no RPC.
    pub rpc: Option<RpcKey>,
    pub(crate) header: [u8; SEGMENT_HEADER_MAX],
    pub(crate) header_bytes: u8,
    /// Range of the message; empty for control packets.
    pub payload: Range<u32>,
    /// Zero bytes after the payload.
    pub padding: u16,
    pub(crate) kind: SegmentKind,
}

/// Origin of a segment, for when the driver refuses it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SegmentKind {
    Data,
    Retransmission,
    Grant,
    Control,
}

impl Segment {
    /// An empty segment, to make the array that `poll_transmit` fills.
    pub const EMPTY: Self = Self {
        rpc: None,
        header: [0; SEGMENT_HEADER_MAX],
        header_bytes: 0,
        payload: 0..0,
        padding: 0,
        kind: SegmentKind::Control,
    };

    /// The bytes of the Homa header.
    pub fn header(&self) -> &[u8] {
        self.header.get(..usize::from(self.header_bytes)).unwrap_or(&[])
    }

    /// Bytes on the wire: header, payload and padding.
    pub fn wire_bytes(&self) -> u32 {
        u32::from(self.header_bytes)
            .saturating_add(self.payload.end.saturating_sub(self.payload.start))
            .saturating_add(u32::from(self.padding))
    }
}

/// Why a driver could not send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TransmitError {
    /// The socket, ring or device is full: try again when it is writable.
    NoRoom,
    /// Longer than the path takes: its MTU in bytes (IP packet), 0 if unknown.
    TooBig(u32),
    /// No way to the destination at the moment.
    Unreachable,
    /// The system forbids sending to this destination.
    Refused,
}

/// An error that the network reported about a packet of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum IcmpKind {
    /// No port is open there.
    PortUnreachable,
    /// The host does not speak the protocol.
    ProtocolUnreachable,
    /// The host or network cannot be reached.
    HostUnreachable,
}

/// Why an RPC ended without its response.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FailReason {
    /// The peer was silent for the timeout. It may or may not have executed the request.
    Timeout,
    /// The deadline given with the call passed.
    DeadlineExceeded {
        /// Whether any of the request was sent.
        sent: bool,
    },
    /// The call was aborted here.
    Aborted,
    /// The client gave the call up (seen by the server's handler).
    Cancelled,
    /// No server at that port, and the request was not received: nothing was executed.
    NoService,
    /// No server at that port any more. The request was sent before that was known: it may have
    /// been executed.
    ServiceGone,
    /// The server's endpoint is closing or closed.
    Closing,
    /// The server dropped the request without a response.
    Rejected,
    /// The server restarted after it may have received the request: it may have executed it.
    Restarted,
    /// The server gave up keeping its response, or forgot the RPC after it had acknowledged it.
    Forgotten,
    /// The server is at a limit and did not execute the request.
    Overloaded,
    /// The message is longer than the peer takes.
    PeerLimit {
        /// The most that it takes, as it said; `None` if it did not, or said something impossible.
        max_bytes: Option<u32>,
    },
    /// The response announces more bytes than `limits.max_message_bytes` allows here.
    ResponseTooLong,
    /// The network reports that the host cannot be reached.
    HostUnreachable,
    /// The peer does not speak Homa.
    ProtocolUnreachable,
    /// This system forbids sending to the peer.
    Refused,
    /// The peer speaks another version of our extensions.
    VersionMismatch {
        /// Its version; ours is [`homa_wire::VERSION`].
        theirs: u16,
    },
    /// This endpoint was closed.
    EndpointClosed,
    /// The server is closing and did not execute the request.
    NotExecuted,
    /// The request has grown beyond `limits.max_message_bytes` (seen by the server).
    RequestTooLong,
}

impl FailReason {
    /// Whether the server that says so has not executed the request.
    pub(crate) fn is_not_executed(self) -> bool {
        let refused = matches!(self, Self::NoService | Self::NotExecuted | Self::Overloaded);
        refused || matches!(self, Self::PeerLimit { .. })
    }

    /// The same, if it is certain that the request was not executed.
    pub(crate) fn not_executed(self) -> Self {
        match self {
            Self::Timeout
            | Self::ServiceGone
            | Self::Closing
            | Self::Restarted
            | Self::Forgotten
            | Self::HostUnreachable => Self::NotExecuted,
            other => other,
        }
    }
}

/// Events for the caller, in order. What happens to a short message happens at once: it is told
/// by one event, which [`Event::parts`] splits for callers that need not tell the two apart.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
// The fields lie in this order, so that each kind is written alike.
#[repr(u32)]
pub enum Event {
    /// Server: the first bytes of a request are here.
    RequestStarted {
        /// The RPC.
        rpc: RpcKey,
        /// Bytes of the whole request. If it is `open`, as far as is known: it may become longer.
        length: u32,
        /// As its client gave it to `send_request`; `false` if that is a Linux host.
        framed: bool,
        /// The same.
        open: bool,
        /// Where it came from and whom it asked.
        path: Path,
    },
    /// Server: the request is complete; answer with `send_response`.
    RequestArrived {
        /// The RPC.
        rpc: RpcKey,
        /// Bytes of the whole request. The last one of an open request has no meaning.
        length: u32,
    },
    /// Client: the first bytes of the response are here.
    ResponseStarted {
        /// The RPC.
        rpc: RpcKey,
        /// Bytes of the whole response. If it is `open`, as far as is known: it may become longer.
        length: u32,
        /// As its server gave it to `send_response`; `false` if that is a Linux host.
        framed: bool,
        /// The same.
        open: bool,
        /// As given to `send_request`.
        cookie: u64,
    },
    /// Client: the response is complete. Take its bytes and report them by `consumed`.
    ResponseArrived {
        /// The RPC.
        rpc: RpcKey,
        /// Bytes of the whole response. The last one of an open response has no meaning.
        length: u32,
        /// As given to `send_request`.
        cookie: u64,
    },
    /// All bytes of the incoming message below `contiguous_upto` are here. Only for messages
    /// switched to streaming by `set_streaming`.
    BodyProgress {
        /// The RPC.
        rpc: RpcKey,
        /// First byte still missing.
        contiguous_upto: u32,
        /// Bytes of the whole message, as far as is known. All of them are here only if that is
        /// final.
        length: u32,
    },
    /// The RPC is over without (all of) its response; `Released` follows if it had a message to
    /// send. At a server this ends a request that was announced by `RequestStarted`.
    Failed {
        /// The RPC.
        rpc: RpcKey,
        /// As given to `send_request`; 0 at a server.
        cookie: u64,
        /// Why.
        reason: FailReason,
    },
    /// The engine will not ask for outgoing bytes below `upto` again. The last one of every
    /// accepted message has `upto` = its length.
    Released {
        /// The RPC.
        rpc: RpcKey,
        /// Bytes below this may be forgotten.
        upto: u32,
    },
    /// The RPC's key is dead now: forget what was kept for it. Comes last, exactly once. A request
    /// that was over before it was reported has no other event than this, if bytes of it were
    /// placed.
    Ended {
        /// The RPC.
        rpc: RpcKey,
    },
    /// A peer became known: tell the engine its MTU by `path_changed`.
    PeerAdded {
        /// Address as in [`Path::remote`].
        path: Path,
    },
    /// Server: a request came as a whole. `RequestStarted` and `RequestArrived` in one.
    RequestWhole {
        /// The RPC.
        rpc: RpcKey,
        /// Bytes of the request.
        length: u32,
        /// As in `RequestStarted`.
        framed: bool,
        /// The same.
        open: bool,
        /// Where it came from and whom it asked.
        path: Path,
    },
    /// Client: a response came as a whole. `ResponseStarted`, `ResponseArrived` and the `Released`
    /// of the whole request in one.
    ResponseWhole {
        /// The RPC.
        rpc: RpcKey,
        /// Bytes of the response.
        length: u32,
        /// As in `ResponseStarted`.
        framed: bool,
        /// The same.
        open: bool,
        /// As given to `send_request`.
        cookie: u64,
        /// Bytes of the request.
        released_upto: u32,
    },
    /// Server: the client has the response. `Released` and `Ended` in one.
    ResponseDelivered {
        /// The RPC.
        rpc: RpcKey,
        /// Bytes of the response.
        released_upto: u32,
    },
}

impl Event {
    /// The events that this one tells at once, in order; itself if it tells only one.
    pub fn parts(self) -> impl Iterator<Item = Self> {
        let parts = match self {
            Self::RequestWhole { rpc, length, framed, open, path } => [
                Some(Self::RequestStarted { rpc, length, framed, open, path }),
                Some(Self::RequestArrived { rpc, length }),
                None,
            ],
            Self::ResponseWhole { rpc, length, framed, open, cookie, released_upto } => [
                Some(Self::ResponseStarted { rpc, length, framed, open, cookie }),
                Some(Self::ResponseArrived { rpc, length, cookie }),
                Some(Self::Released { rpc, upto: released_upto }),
            ],
            Self::ResponseDelivered { rpc, released_upto } => {
                let released = Self::Released { rpc, upto: released_upto };
                [Some(released), Some(Self::Ended { rpc }), None]
            }
            one => [Some(one), None, None],
        };
        parts.into_iter().flatten()
    }
}

/// How much it matters that the engine gets its next turn in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Urgency {
    /// Nothing will happen unless a packet or a call comes.
    Quiescent,
    /// Only housekeeping, at this time or later.
    Lazy(Instant),
    /// A message is half sent or half received: the next turn moves data.
    Active,
}

/// Why the engine wants to be woken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WakeReason {
    /// There is something to send now.
    Transmit,
    /// The output pacer has room again.
    Pacer,
    /// An RPC's retransmission, acknowledgement or deadline timer.
    Rpc,
    /// A peer's liveness or probe timer.
    Peer,
    /// Periodic housekeeping (cutoffs, eviction).
    Housekeeping,
}

/// Address of a peer whose settings differ from the configuration.
pub type PeerAddr = SocketAddr;
