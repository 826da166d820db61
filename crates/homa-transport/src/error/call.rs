//! Why a call failed.

use std::fmt;
use std::io;
use std::net::SocketAddr;

use homa_core::FailReason;
use homa_io::METADATA_BYTES_MAX;

use crate::{Limit, SocketError};

/// Why a call ended without its response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallError {
    server: Option<SocketAddr>,
    kind: CallErrorKind,
}

/// What ended a call, and what its caller can do.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CallErrorKind {
    /// The server was silent for [`recovery.timeout`](homa_core::Config::recovery). It may or may
    /// not have executed the request: repeat it only if that does no harm.
    Timeout,
    /// The deadline given with the call passed. If any of the request was sent, the server may have
    /// executed it, or may still do so.
    #[non_exhaustive]
    DeadlineExceeded {
        /// Whether any of the request was sent.
        sent: bool,
    },
    /// No server at that port: check the address, start the server, then call again. Nothing was
    /// executed.
    NoService,
    /// No server at that port any more: it ended after the request was sent or asked about, so it
    /// may have executed the request.
    ServiceGone,
    /// The server's endpoint was closed while it had the request, which it may have executed.
    Closing,
    /// The server's handler answered with a rejection.
    Rejected(Rejection),
    /// The server's handler dropped the request without a response: it panicked, for example.
    Dropped,
    /// The server is closing, and no handler has seen the request: call another server, or this one
    /// when it is back.
    NotExecuted,
    /// The server's response begins with bytes that this version does not understand.
    Malformed,
    /// The server is a Linux host, or not known not to be one, which gets neither metadata nor
    /// bodies of unknown length. Nothing was sent.
    Unsupported,
    /// Names and values beside the body have more than 4,096 bytes, or a name has none or more than
    /// 255. Nothing was sent.
    InvalidMetadata,
    /// The server restarted after it may have received the request: it may have executed it.
    Restarted,
    /// The server executed the request but gave up keeping the response, or forgot it.
    Forgotten,
    /// The server is at a limit and did not execute the request: call again later or elsewhere.
    Overloaded,
    /// The request is longer than this endpoint's `limits.max_message_bytes` or than the server
    /// takes. Raise the setting on both sides or send less. Nothing was executed.
    #[non_exhaustive]
    TooLong {
        /// The most that would be accepted, in bytes: the smaller of what this endpoint sends and,
        /// once it has refused a request, what the server takes. `None` if the server named no
        /// limit.
        max_bytes: Option<u32>,
    },
    /// The response is longer than this endpoint's `limits.max_message_bytes`: raise it.
    ResponseTooLong,
    /// The network reports that the host cannot be reached.
    HostUnreachable,
    /// The other end does not speak Homa.
    ProtocolUnreachable,
    /// This system forbids sending to that address (a firewall rule, or a broadcast address).
    Refused,
    /// The server speaks another version of this implementation's extensions: upgrade one side.
    #[non_exhaustive]
    VersionMismatch {
        /// Its version.
        theirs: u16,
        /// Our version.
        ours: u16,
    },
    /// The address cannot be called from this endpoint (port 0, unspecified or multicast address,
    /// or IPv6 from an IPv4 socket).
    BadAddress,
    /// The server's name has no address, or no port; why.
    NotResolved(String),
    /// A message to a Linux host needs at least one byte (docs/spec/protocol.md §4). Nothing was
    /// sent.
    EmptyMessage,
    /// This endpoint is at a limit; nothing was sent. `try_start` returns it, others wait.
    LimitReached(Limit),
    /// The request body was given up before all of it was supplied, or, without a length announced,
    /// outgrew what the server takes. A server that reads requests as they arrive may have begun to
    /// execute it.
    BodyIncomplete,
    /// This endpoint was closed: bind a new one.
    Closed,
    /// This process was forked from the one that made the endpoint: make a new endpoint here.
    Forked,
    /// The socket no longer works; make a new endpoint.
    Socket(SocketError),
}

/// A server's handler's answer to a request that it does not serve.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Rejection {
    /// What it means is up to the service.
    pub code: u32,
    /// For people to read.
    pub text: String,
}

impl Rejection {
    /// A rejection with a code of the service's choice, and a text for people to read.
    pub fn new(code: u32, text: impl Into<String>) -> Self {
        Self { code, text: text.into() }
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rejected with code {}: {}", self.code, self.text)
    }
}

impl std::error::Error for Rejection {}

impl CallError {
    #[cfg_attr(loom, allow(dead_code, reason = "loom tests the driving protocol only"))]
    pub(crate) fn new(server: SocketAddr, kind: CallErrorKind) -> Self {
        Self { server: Some(server), kind }
    }

    #[cfg_attr(loom, allow(dead_code, reason = "loom tests the driving protocol only"))]
    pub(crate) fn from_reason(reason: FailReason, server: SocketAddr) -> Self {
        let kind = match reason {
            FailReason::Timeout => CallErrorKind::Timeout,
            FailReason::DeadlineExceeded { sent } => CallErrorKind::DeadlineExceeded { sent },
            FailReason::NoService => CallErrorKind::NoService,
            FailReason::ServiceGone => CallErrorKind::ServiceGone,
            FailReason::Closing => CallErrorKind::Closing,
            FailReason::NotExecuted => CallErrorKind::NotExecuted,
            FailReason::Rejected | FailReason::Cancelled => CallErrorKind::Dropped,
            FailReason::Restarted => CallErrorKind::Restarted,
            FailReason::Forgotten => CallErrorKind::Forgotten,
            FailReason::Overloaded => CallErrorKind::Overloaded,
            FailReason::PeerLimit { max_bytes } => CallErrorKind::TooLong { max_bytes },
            FailReason::ResponseTooLong => CallErrorKind::ResponseTooLong,
            FailReason::HostUnreachable => CallErrorKind::HostUnreachable,
            FailReason::ProtocolUnreachable => CallErrorKind::ProtocolUnreachable,
            FailReason::Refused => CallErrorKind::Refused,
            FailReason::VersionMismatch { theirs } => {
                CallErrorKind::VersionMismatch { theirs, ours: homa_wire::VERSION }
            }
            FailReason::Aborted => CallErrorKind::BodyIncomplete,
            FailReason::RequestTooLong => CallErrorKind::TooLong { max_bytes: None },
            _ => return CallErrorKind::Closed.into(),
        };
        Self::new(server, kind)
    }

    /// What ended the call.
    pub fn kind(&self) -> &CallErrorKind {
        &self.kind
    }

    /// The server of the failed call; `None` if the endpoint itself is at fault, or a name has no
    /// address.
    pub fn server(&self) -> Option<SocketAddr> {
        self.server
    }

    /// The rejection by the server's handler, if it was one.
    pub fn rejection(&self) -> Option<&Rejection> {
        match &self.kind {
            CallErrorKind::Rejected(rejection) => Some(rejection),
            _ => None,
        }
    }

    /// Whether the server may have executed the request. If not, calling again is always safe.
    pub fn may_have_executed(&self) -> bool {
        use CallErrorKind as Kind;
        match &self.kind {
            Kind::DeadlineExceeded { sent } => *sent,
            Kind::Timeout
            | Kind::ServiceGone
            | Kind::Closing
            | Kind::Rejected(_)
            | Kind::Dropped
            | Kind::Malformed
            | Kind::Restarted
            | Kind::Forgotten
            | Kind::ResponseTooLong
            | Kind::BodyIncomplete
            | Kind::HostUnreachable
            | Kind::Closed
            | Kind::Socket(_) => true,
            Kind::NoService
            | Kind::NotExecuted
            | Kind::Overloaded
            | Kind::Unsupported
            | Kind::InvalidMetadata
            | Kind::TooLong { .. }
            | Kind::ProtocolUnreachable
            | Kind::Refused
            | Kind::VersionMismatch { .. }
            | Kind::BadAddress
            | Kind::NotResolved(_)
            | Kind::EmptyMessage
            | Kind::LimitReached(_)
            | Kind::Forked => false,
        }
    }

    /// Whether the same call may succeed later or at another server, and was not executed: calling
    /// again is safe and makes sense.
    pub fn is_retryable(&self) -> bool {
        use CallErrorKind as Kind;
        matches!(
            self.kind,
            Kind::NoService | Kind::NotExecuted | Kind::Overloaded | Kind::LimitReached(_)
        )
    }

    /// What the users of the other RPC of a call are told when one fails so, both of which were
    /// begun: of a body that is too long a handler may have read the beginning.
    #[cfg_attr(loom, allow(dead_code, reason = "loom tests the driving protocol only"))]
    pub(crate) fn kind_of_partner(&self) -> CallErrorKind {
        match &self.kind {
            CallErrorKind::TooLong { .. } => CallErrorKind::BodyIncomplete,
            kind => kind.clone(),
        }
    }

    pub(super) fn io_kind(&self) -> io::ErrorKind {
        use CallErrorKind as Kind;
        match &self.kind {
            Kind::Timeout | Kind::DeadlineExceeded { .. } => io::ErrorKind::TimedOut,
            Kind::NoService | Kind::NotExecuted | Kind::ProtocolUnreachable => {
                io::ErrorKind::ConnectionRefused
            }
            Kind::ServiceGone | Kind::Closing | Kind::Restarted | Kind::Forgotten => {
                io::ErrorKind::ConnectionReset
            }
            Kind::Dropped | Kind::BodyIncomplete => io::ErrorKind::ConnectionAborted,
            Kind::Overloaded | Kind::LimitReached(_) => io::ErrorKind::ResourceBusy,
            Kind::HostUnreachable => io::ErrorKind::HostUnreachable,
            Kind::Refused => io::ErrorKind::PermissionDenied,
            Kind::VersionMismatch { .. } | Kind::Unsupported | Kind::Forked => {
                io::ErrorKind::Unsupported
            }
            Kind::Malformed => io::ErrorKind::InvalidData,
            Kind::NotResolved(_) => io::ErrorKind::NotFound,
            Kind::BadAddress
            | Kind::EmptyMessage
            | Kind::InvalidMetadata
            | Kind::TooLong { .. }
            | Kind::ResponseTooLong => io::ErrorKind::InvalidInput,
            Kind::Rejected(_) => io::ErrorKind::Other,
            Kind::Closed => io::ErrorKind::NotConnected,
            Kind::Socket(error) => error.kind(),
        }
    }
}

/// An error of the endpoint itself.
impl From<CallErrorKind> for CallError {
    fn from(kind: CallErrorKind) -> Self {
        Self { server: None, kind }
    }
}

impl PartialEq<CallErrorKind> for CallError {
    fn eq(&self, kind: &CallErrorKind) -> bool {
        self.kind == *kind
    }
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use CallErrorKind as Kind;
        let unnamed = || "the server".to_owned();
        let server = self.server.map_or_else(unnamed, |server| server.to_string());
        match &self.kind {
            Kind::Timeout => write!(
                f,
                "{server} did not answer in time; it may or may not have executed the request"
            ),
            Kind::DeadlineExceeded { sent: true } => {
                write!(f, "the deadline of the call to {server} passed")
            }
            Kind::DeadlineExceeded { sent: false } => {
                write!(f, "the deadline of the call to {server} passed before it was sent")
            }
            Kind::NoService => write!(f, "nobody serves at {server}"),
            Kind::ServiceGone => {
                write!(f, "nobody serves at {server} any more; it may have executed the request")
            }
            Kind::Closing => write!(f, "{server} closed; it may have executed the request"),
            Kind::Rejected(Rejection { code, text }) => {
                write!(f, "{server} rejected the request with code {code}: {text}")
            }
            Kind::Dropped => write!(f, "{server} dropped the request without an answer"),
            Kind::NotExecuted => {
                write!(f, "{server} is closing and did not execute the request")
            }
            Kind::Malformed => write!(f, "the response of {server} cannot be understood"),
            Kind::Unsupported => write!(
                f,
                "{server} is a Linux host or not known not to be one: it gets neither metadata nor \
                 bodies of unknown length"
            ),
            Kind::InvalidMetadata => write!(
                f,
                "the metadata for {server} has more than {METADATA_BYTES_MAX} bytes, or a name \
                 without or with more than 255"
            ),
            Kind::Restarted => {
                write!(f, "{server} restarted meanwhile; it may have executed the request")
            }
            Kind::Forgotten => write!(f, "{server} no longer has the response"),
            Kind::Overloaded => {
                write!(f, "{server} is overloaded and did not execute the request")
            }
            Kind::TooLong { max_bytes: Some(max_bytes) } => write!(
                f,
                "the request to {server} is too long: at most {max_bytes} bytes are possible"
            ),
            Kind::TooLong { max_bytes: None } => write!(
                f,
                "the request to {server} is too long: the server takes less, and does not say how \
                 much"
            ),
            Kind::ResponseTooLong => {
                write!(f, "the response of {server} is longer than limits.max_message_bytes here")
            }
            Kind::HostUnreachable => write!(f, "the host of {server} cannot be reached"),
            Kind::ProtocolUnreachable => write!(f, "{server} does not speak Homa"),
            Kind::Refused => write!(f, "this system forbids sending to {server}"),
            Kind::VersionMismatch { theirs, ours } => write!(
                f,
                "{server} speaks version {theirs} of the protocol extensions, this endpoint {ours}"
            ),
            Kind::BadAddress => write!(f, "{server} cannot be called from this endpoint"),
            Kind::NotResolved(why) => f.write_str(why),
            Kind::EmptyMessage => write!(f, "a request to {server} needs at least one byte"),
            Kind::LimitReached(limit) => {
                write!(f, "no call to {server} now: the limit {limit} is reached")
            }
            Kind::BodyIncomplete => {
                write!(f, "the body of the request to {server} ended before its length")
            }
            Kind::Closed => f.write_str("this endpoint is closed"),
            Kind::Forked => f.write_str("this endpoint belongs to the parent process"),
            Kind::Socket(error) => write!(f, "the socket failed: {error}"),
        }
    }
}

impl std::error::Error for CallError {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{BindError, StreamError};

    fn server() -> SocketAddr {
        "192.0.2.1:4000".parse().unwrap()
    }

    // Scenario: X29
    #[test]
    fn every_error_says_what_happened_and_to_whom() {
        use CallErrorKind as Kind;
        let kinds = [
            Kind::Timeout,
            Kind::DeadlineExceeded { sent: true },
            Kind::DeadlineExceeded { sent: false },
            Kind::NoService,
            Kind::ServiceGone,
            Kind::Closing,
            Kind::Rejected(Rejection { code: 7, text: "not yours".into() }),
            Kind::Dropped,
            Kind::NotExecuted,
            Kind::Malformed,
            Kind::Unsupported,
            Kind::InvalidMetadata,
            Kind::Restarted,
            Kind::Forgotten,
            Kind::Overloaded,
            Kind::EmptyMessage,
            Kind::TooLong { max_bytes: Some(1_000_000) },
            Kind::TooLong { max_bytes: None },
            Kind::ResponseTooLong,
            Kind::HostUnreachable,
            Kind::ProtocolUnreachable,
            Kind::Refused,
            Kind::VersionMismatch { theirs: 2, ours: 1 },
            Kind::BadAddress,
            Kind::LimitReached(Limit::OutstandingCalls(7)),
            Kind::BodyIncomplete,
        ];
        let errors: Vec<_> = kinds.into_iter().map(|kind| CallError::new(server(), kind)).collect();
        let mut texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
        for (error, text) in errors.iter().zip(&texts) {
            assert!(text.contains("192.0.2.1:4000"), "{text}");
            assert_eq!(error.server(), Some(server()));
        }
        texts.sort();
        texts.dedup();
        assert_eq!(texts.len(), errors.len(), "no two say the same");
        assert!(texts.iter().any(|text| text.contains("1000000")), "limits are named");
    }

    #[test]
    fn no_error_says_what_its_source_says_again() {
        let refused = || io::Error::from_raw_os_error(13);
        let config = homa_core::Config::default().with(|config| config.limits.max_rpcs = 0);
        let socket = || CallError::from(CallErrorKind::Socket(SocketError::from(&refused())));
        let errors: [&dyn std::error::Error; 6] = [
            &BindError::Resolve(refused()),
            &BindError::Resources(refused()),
            &BindError::Socket { address: server(), reason: refused() },
            &BindError::Config(config.validate().unwrap_err()),
            &socket(),
            &StreamError::Call(socket()),
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
        for sent in [false, true] {
            let error = CallError::from_reason(FailReason::DeadlineExceeded { sent }, server());
            assert_eq!(error.may_have_executed(), sent, "{error}");
        }
    }

    #[test]
    fn what_is_retryable_was_not_executed() {
        use FailReason as Reason;
        for reason in [Reason::NoService, Reason::NotExecuted, Reason::Overloaded, Reason::Timeout]
        {
            let error = CallError::from_reason(reason, server());
            assert_eq!(error.is_retryable(), !error.may_have_executed(), "{error}");
        }
    }

    #[test]
    fn an_io_error_has_the_kind_and_keeps_the_call_error() {
        let error = CallError::from_reason(FailReason::Timeout, server());
        let wrapped = io::Error::from(error.clone());
        assert_eq!(wrapped.kind(), io::ErrorKind::TimedOut);
        assert_eq!(wrapped.get_ref().unwrap().downcast_ref(), Some(&error));
    }
}
