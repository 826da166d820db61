//! What goes wrong at a server.

use std::io;
use std::net::SocketAddr;

use thiserror::Error;

use crate::SocketError;

/// Why no request can be accepted.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum AcceptError {
    /// This endpoint was closed, or accepts no more requests (`stop_accepting`, `drain`).
    #[error("this endpoint accepts no more requests")]
    Closed,
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
    /// Longer than `limits.max_message_bytes`: raise it on both sides. The client sees the request
    /// as dropped.
    #[error("the response to {client} is longer than {max_bytes} bytes")]
    #[non_exhaustive]
    TooLong {
        /// The client's address.
        client: SocketAddr,
        /// The most that is accepted.
        max_bytes: u32,
    },
    /// Names and values beside the body have more than 4,096 bytes, or a name has none or more than
    /// 255. The client sees the request as dropped.
    #[error("the metadata for {client} has too many bytes, or a name of a wrong length")]
    #[non_exhaustive]
    InvalidMetadata {
        /// The client's address.
        client: SocketAddr,
    },
    /// The client takes none of the responses that it has coming, and these fill its share of
    /// [`crate::EndpointBuilder::outstanding_bytes_max`]: its call is dropped, so that others can
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

impl AcceptError {
    pub(super) fn io_kind(&self) -> io::ErrorKind {
        match self {
            Self::Closed => io::ErrorKind::NotConnected,
            Self::NotServing | Self::Streaming => io::ErrorKind::InvalidInput,
            Self::Forked => io::ErrorKind::Unsupported,
            Self::Socket(error) => error.kind(),
        }
    }
}

impl ReplyError {
    pub(super) fn io_kind(&self) -> io::ErrorKind {
        match self {
            Self::Cancelled { .. } => io::ErrorKind::ConnectionAborted,
            Self::TooLong { .. } | Self::InvalidMetadata { .. } => io::ErrorKind::InvalidInput,
            Self::NoRoom { .. } => io::ErrorKind::TimedOut,
            Self::Closed => io::ErrorKind::NotConnected,
            Self::Forked => io::ErrorKind::Unsupported,
        }
    }
}
