//! Errors: what failed, with which peer, and what the caller can do. The text of each error is
//! complete: a cause is part of it, and a field, but no `source()` that would be printed a second
//! time.

use std::io;
use std::net::SocketAddr;

use homa_core::FailReason;
use thiserror::Error;

use crate::SocketError;

/// A bound of this endpoint that back-pressure comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Limit {
    /// [`crate::EndpointBuilder::outstanding_calls_max`]: calls to that server without a response
    /// yet.
    OutstandingCalls(usize),
    /// [`crate::EndpointBuilder::outstanding_bytes_max`]: bytes of requests to that server without
    /// a response yet.
    OutstandingBytes(u64),
    /// [`limits.max_rpcs`](homa_core::Config::limits): live RPCs of both roles.
    LiveRpcs,
    /// [`peers.max`](homa_core::Config::peers): known peers.
    Peers,
    /// Memory: an allocation failed.
    Memory,
}

impl std::fmt::Display for Limit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::OutstandingCalls(max) => write!(f, "outstanding_calls_max ({max})"),
            Self::OutstandingBytes(max) => write!(f, "outstanding_bytes_max ({max} bytes)"),
            Self::LiveRpcs => f.write_str("limits.max_rpcs"),
            Self::Peers => f.write_str("peers.max"),
            Self::Memory => f.write_str("memory"),
        }
    }
}

/// Why a call ended without its response.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum CallError {
    /// The server was silent for [`recovery.timeout`](homa_core::Config::recovery). It may or may
    /// not have executed the request: repeat it only if that does no harm.
    #[error("{server} did not answer in time; it may or may not have executed the request")]
    #[non_exhaustive]
    Timeout {
        /// The server's address.
        server: SocketAddr,
    },
    /// The deadline given with the call passed. If any of the request was sent, the server may have
    /// executed it, or may still do so.
    #[error("the deadline of the call to {server} passed{}", if *sent { "" } else { " before it was sent" })]
    #[non_exhaustive]
    DeadlineExceeded {
        /// The server's address.
        server: SocketAddr,
        /// Whether any of the request was sent.
        sent: bool,
    },
    /// No server at that port: check the address, start the server, then call again. Nothing was
    /// executed.
    #[error("nobody serves at {server}")]
    #[non_exhaustive]
    NoService {
        /// The server's address.
        server: SocketAddr,
    },
    /// No server at that port any more: it ended after the request was sent or asked about, so it
    /// may have executed the request.
    #[error("nobody serves at {server} any more; it may have executed the request")]
    #[non_exhaustive]
    ServiceGone {
        /// The server's address.
        server: SocketAddr,
    },
    /// The server's endpoint is closing. Ask another server.
    #[error("{server} is closing")]
    #[non_exhaustive]
    Closing {
        /// The server's address.
        server: SocketAddr,
    },
    /// The handler dropped the request without a response. What that means is up to the service.
    #[error("{server} rejected the request")]
    #[non_exhaustive]
    Rejected {
        /// The server's address.
        server: SocketAddr,
    },
    /// The server restarted after it may have received the request: it may have executed it.
    #[error("{server} restarted meanwhile; it may have executed the request")]
    #[non_exhaustive]
    Restarted {
        /// The server's address.
        server: SocketAddr,
    },
    /// The server executed the request but gave up keeping the response, or forgot it.
    #[error("{server} no longer has the response")]
    #[non_exhaustive]
    Forgotten {
        /// The server's address.
        server: SocketAddr,
    },
    /// The server is at a limit and did not execute the request: call again later or elsewhere.
    #[error("{server} is overloaded and did not execute the request")]
    #[non_exhaustive]
    Overloaded {
        /// The server's address.
        server: SocketAddr,
    },
    /// A message needs at least one byte (docs/spec/protocol.md §4). Nothing was sent.
    #[error("a request to {server} needs at least one byte")]
    #[non_exhaustive]
    EmptyMessage {
        /// The server's address.
        server: SocketAddr,
    },
    /// The request is longer than this endpoint's `limits.max_message_bytes` or than the peer
    /// takes. Raise the setting on both sides or send less. Nothing was executed.
    #[error("the request to {server} is too long: {}", most(*max_bytes))]
    #[non_exhaustive]
    TooLong {
        /// The server's address.
        server: SocketAddr,
        /// The most that would be accepted, in bytes: the smaller of what this endpoint sends and,
        /// once it has refused a request, what the server takes. `None` if the server named no
        /// limit.
        max_bytes: Option<u32>,
    },
    /// The response is longer than this endpoint's `limits.max_message_bytes`: raise it.
    #[error("the response of {server} is longer than limits.max_message_bytes here")]
    #[non_exhaustive]
    ResponseTooLong {
        /// The server's address.
        server: SocketAddr,
    },
    /// The network reports that the host cannot be reached.
    #[error("the host of {server} cannot be reached")]
    #[non_exhaustive]
    HostUnreachable {
        /// The server's address.
        server: SocketAddr,
    },
    /// The other end does not speak Homa.
    #[error("{server} does not speak Homa")]
    #[non_exhaustive]
    ProtocolUnreachable {
        /// The server's address.
        server: SocketAddr,
    },
    /// This system forbids sending to that address (a firewall rule, or a broadcast address).
    #[error("this system forbids sending to {server}")]
    #[non_exhaustive]
    Refused {
        /// The server's address.
        server: SocketAddr,
    },
    /// The server speaks another version of this implementation's extensions: upgrade one side.
    #[error("{server} speaks version {theirs} of the protocol extensions, this endpoint {ours}")]
    #[non_exhaustive]
    VersionMismatch {
        /// The server's address.
        server: SocketAddr,
        /// Its version.
        theirs: u16,
        /// Our version.
        ours: u16,
    },
    /// The address cannot be called from this endpoint (port 0, unspecified or multicast address,
    /// or IPv6 from an IPv4 socket).
    #[error("{server} cannot be called from this endpoint")]
    #[non_exhaustive]
    BadAddress {
        /// The server's address.
        server: SocketAddr,
    },
    /// This endpoint is at a limit; nothing was sent. `try_` calls return it, others wait.
    #[error("no call to {server} now: the limit {limit} is reached")]
    #[non_exhaustive]
    LimitReached {
        /// The server's address.
        server: SocketAddr,
        /// Which one.
        limit: Limit,
    },
    /// The request body was given up before all announced bytes were supplied.
    #[error("the body of the request to {server} ended before its announced length")]
    #[non_exhaustive]
    BodyIncomplete {
        /// The server's address.
        server: SocketAddr,
    },
    /// This endpoint was closed: bind a new one.
    #[error("this endpoint is closed")]
    Closed,
    /// This process was forked from the one that made the endpoint: make a new endpoint here.
    #[error("this endpoint belongs to the parent process")]
    Forked,
    /// The socket no longer works; make a new endpoint.
    #[error("the socket failed: {0}")]
    Socket(SocketError),
}

impl CallError {
    #[cfg_attr(loom, allow(dead_code, reason = "loom tests the driving protocol only"))]
    pub(crate) fn from_reason(reason: FailReason, server: SocketAddr) -> Self {
        match reason {
            FailReason::Timeout => Self::Timeout { server },
            FailReason::DeadlineExceeded { sent } => Self::DeadlineExceeded { server, sent },
            FailReason::NoService => Self::NoService { server },
            FailReason::ServiceGone => Self::ServiceGone { server },
            FailReason::Closing => Self::Closing { server },
            FailReason::Rejected | FailReason::Cancelled => Self::Rejected { server },
            FailReason::Restarted => Self::Restarted { server },
            FailReason::Forgotten => Self::Forgotten { server },
            FailReason::Overloaded => Self::Overloaded { server },
            FailReason::PeerLimit { max_bytes } => Self::TooLong { server, max_bytes },
            FailReason::ResponseTooLong => Self::ResponseTooLong { server },
            FailReason::HostUnreachable => Self::HostUnreachable { server },
            FailReason::ProtocolUnreachable => Self::ProtocolUnreachable { server },
            FailReason::Refused => Self::Refused { server },
            FailReason::VersionMismatch { theirs } => {
                Self::VersionMismatch { server, theirs, ours: homa_wire::VERSION }
            }
            FailReason::Aborted => Self::BodyIncomplete { server },
            _ => Self::Closed,
        }
    }

    /// The server of the failed call; `None` if the endpoint itself is at fault.
    pub fn server(&self) -> Option<SocketAddr> {
        match *self {
            Self::Timeout { server }
            | Self::DeadlineExceeded { server, .. }
            | Self::NoService { server }
            | Self::ServiceGone { server }
            | Self::Closing { server }
            | Self::Rejected { server }
            | Self::Restarted { server }
            | Self::Forgotten { server }
            | Self::Overloaded { server }
            | Self::EmptyMessage { server }
            | Self::TooLong { server, .. }
            | Self::ResponseTooLong { server }
            | Self::HostUnreachable { server }
            | Self::ProtocolUnreachable { server }
            | Self::Refused { server }
            | Self::VersionMismatch { server, .. }
            | Self::BadAddress { server }
            | Self::LimitReached { server, .. }
            | Self::BodyIncomplete { server } => Some(server),
            Self::Closed | Self::Forked | Self::Socket(_) => None,
        }
    }

    /// Whether the server may have executed the request. If not, calling again is always safe.
    pub fn may_have_executed(&self) -> bool {
        matches!(
            self,
            Self::Timeout { .. }
                | Self::DeadlineExceeded { sent: true, .. }
                | Self::ServiceGone { .. }
                | Self::Closing { .. }
                | Self::Rejected { .. }
                | Self::Restarted { .. }
                | Self::Forgotten { .. }
                | Self::ResponseTooLong { .. }
                | Self::HostUnreachable { .. }
                | Self::Closed
                | Self::Socket(_)
        )
    }
}

/// How much is possible, where that is known.
fn most(max_bytes: Option<u32>) -> String {
    match max_bytes {
        Some(max_bytes) => format!("at most {max_bytes} bytes are possible"),
        None => "the server takes less, and does not say how much".to_owned(),
    }
}

/// Why no endpoint could be made.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum BindError {
    /// The text names no address (unknown host, missing port).
    #[error("no such address: {0}")]
    Resolve(io::Error),
    /// Another socket uses the port: choose another, or end the other program.
    #[error("{address} is in use")]
    #[non_exhaustive]
    InUse {
        /// The address requested.
        address: SocketAddr,
    },
    /// Raw IP: the process may not open raw sockets. Run it as root, or give its program the
    /// capability once: `sudo setcap cap_net_raw+ep $(command -v homa)`.
    #[error(transparent)]
    NoCapability(homa_io::ip::IpError),
    /// Raw IP: the Linux module serves Homa on this host already. Use UDP, or unload it.
    #[error(transparent)]
    KernelModule(homa_io::ip::IpError),
    /// Raw IP: ports from 32,768 on are given out by the system. Ask for 1 to 32,767, or 0.
    #[error("port {} cannot be asked for over raw IP: 1 to 32767 can, 0 takes a free one above", address.port())]
    #[non_exhaustive]
    PortReserved {
        /// The address requested.
        address: SocketAddr,
    },
    /// This carriage is not there for endpoints: use UDP or raw IP.
    #[error("no endpoint can be made over {0:?}")]
    Carriage(homa_core::Carriage),
    /// The system refused the socket.
    #[error("cannot bind {address}: {reason}")]
    #[non_exhaustive]
    Socket {
        /// The address requested.
        address: SocketAddr,
        /// The system's error.
        reason: io::Error,
    },
    /// A setting is out of its range.
    #[error(transparent)]
    Config(#[from] homa_core::ConfigError),
    /// A thread or descriptor that every endpoint needs could not be made.
    #[error("cannot start the endpoint: {0}")]
    Resources(io::Error),
}

/// Why no request can be accepted.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum AcceptError {
    /// The endpoint was made by `client()`: use `bind`.
    #[error("this endpoint does not serve: make it with bind")]
    NotServing,
    /// The endpoint hands requests out at their first byte: use `accept_streaming` (or build the
    /// endpoint without `streaming_requests`).
    #[error("this endpoint streams requests: use accept_streaming")]
    Streaming,
    /// This process was forked from the one that made the endpoint: make a new endpoint here.
    #[error("this endpoint belongs to the parent process")]
    Forked,
    /// The socket no longer works; make a new endpoint.
    #[error("the socket failed: {0}")]
    Socket(SocketError),
}

/// Why a response was not taken.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ReplyError {
    /// The client gave the call up, or is gone, and does not wait for the response. Nothing to do.
    #[error("{client} no longer waits for the response")]
    #[non_exhaustive]
    Cancelled {
        /// The client's address.
        client: SocketAddr,
    },
    /// A response needs at least one byte. The client sees the request as rejected.
    #[error("a response to {client} needs at least one byte")]
    #[non_exhaustive]
    EmptyMessage {
        /// The client's address.
        client: SocketAddr,
    },
    /// Longer than `limits.max_message_bytes`: raise it on both sides. The client sees the request
    /// as rejected.
    #[error("the response to {client} is longer than {max_bytes} bytes")]
    #[non_exhaustive]
    TooLong {
        /// The client's address.
        client: SocketAddr,
        /// The most that is accepted.
        max_bytes: u32,
    },
    /// The client takes none of the responses that it has coming, and these fill its share of
    /// [`crate::EndpointBuilder::outstanding_bytes_max`]: its call is rejected, so that others can
    /// be answered. Nothing to do, unless all clients are as slow: then raise the setting.
    #[error("{client} takes no responses, and has its share of the room for them")]
    #[non_exhaustive]
    NoRoom {
        /// The client's address.
        client: SocketAddr,
    },
    /// This endpoint was closed.
    #[error("this endpoint is closed")]
    Closed,
    /// This process was forked from the one that accepted the request.
    #[error("this endpoint belongs to the parent process")]
    Forked,
}

/// Why a streamed body broke off.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum StreamError {
    /// The RPC ended: as a client, this is why. The bytes read so far are good.
    #[error(transparent)]
    Call(#[from] CallError),
    /// As a server: the client gave the call up or is gone.
    #[error("{peer} gave the call up")]
    #[non_exhaustive]
    Cancelled {
        /// The client.
        peer: SocketAddr,
    },
    /// More bytes were sent than the length announced.
    #[error("the body for {peer} is longer than the {announced_bytes} bytes announced")]
    #[non_exhaustive]
    TooLong {
        /// The other end's address.
        peer: SocketAddr,
        /// The length given at the start.
        announced_bytes: u32,
    },
    /// `finish` came before all announced bytes were sent; the RPC was aborted.
    #[error("the body for {peer} lacks {missing_bytes} of the bytes announced")]
    #[non_exhaustive]
    Incomplete {
        /// The other end's address.
        peer: SocketAddr,
        /// How many are missing.
        missing_bytes: u32,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    // Scenario: X29
    #[test]
    fn every_error_says_what_happened_and_to_whom() {
        let server: SocketAddr = "192.0.2.1:4000".parse().unwrap();
        let errors = [
            CallError::Timeout { server },
            CallError::DeadlineExceeded { server, sent: true },
            CallError::DeadlineExceeded { server, sent: false },
            CallError::NoService { server },
            CallError::ServiceGone { server },
            CallError::Closing { server },
            CallError::Rejected { server },
            CallError::Restarted { server },
            CallError::Forgotten { server },
            CallError::Overloaded { server },
            CallError::EmptyMessage { server },
            CallError::TooLong { server, max_bytes: Some(1_000_000) },
            CallError::ResponseTooLong { server },
            CallError::HostUnreachable { server },
            CallError::ProtocolUnreachable { server },
            CallError::Refused { server },
            CallError::VersionMismatch { server, theirs: 2, ours: 1 },
            CallError::BadAddress { server },
            CallError::LimitReached { server, limit: Limit::OutstandingCalls(7) },
            CallError::BodyIncomplete { server },
        ];
        let mut texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
        for (error, text) in errors.iter().zip(&texts) {
            assert!(text.contains("192.0.2.1:4000"), "{text}");
            assert_eq!(error.server(), Some(server));
        }
        texts.sort();
        texts.dedup();
        assert_eq!(texts.len(), errors.len(), "no two say the same");
        assert!(texts.iter().any(|text| text.contains("1000000")), "limits are named");
    }

    #[test]
    fn no_error_says_what_its_source_says_again() {
        let server: SocketAddr = "192.0.2.1:4000".parse().unwrap();
        let refused = || io::Error::from_raw_os_error(13);
        let config = homa_core::Config::default().with(|config| config.limits.max_rpcs = 0);
        let errors: [&dyn std::error::Error; 6] = [
            &BindError::Resolve(refused()),
            &BindError::Resources(refused()),
            &BindError::Socket { address: server, reason: refused() },
            &BindError::Config(config.validate().unwrap_err()),
            &CallError::Socket(SocketError::from(&refused())),
            &StreamError::Call(CallError::Socket(SocketError::from(&refused()))),
        ];
        for error in errors {
            let text = error.to_string();
            assert!(text.contains("os error 13") || text.contains("limits.max_rpcs"), "{text}");
            let again = error.source().filter(|source| text.contains(&source.to_string()));
            assert!(again.is_none(), "{text}");
        }
    }

    #[test]
    fn a_call_that_was_not_sent_when_its_deadline_passed_was_not_executed() {
        let server: SocketAddr = "192.0.2.1:4000".parse().unwrap();
        for sent in [false, true] {
            let error = CallError::from_reason(FailReason::DeadlineExceeded { sent }, server);
            assert_eq!(error.may_have_executed(), sent, "{error}");
        }
    }
}
