//! What goes wrong with a body that is read or written piece by piece.

use std::io;
use std::net::SocketAddr;

use thiserror::Error;

use crate::CallError;

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
    /// The server reads no more of the body; it may answer the call all the same.
    #[error("{peer} reads no more of the body")]
    #[non_exhaustive]
    Stopped {
        /// The server.
        peer: SocketAddr,
    },
    /// More bytes than the length announced, or than a message may have; none of them was taken.
    /// Or, of a body without a length, more in all than its server takes: the call has failed.
    #[error("the body shared with {peer} has more than {most_bytes} bytes")]
    #[non_exhaustive]
    TooLong {
        /// The other end's address.
        peer: SocketAddr,
        /// The length given at the start, or the most that `limits.max_message_bytes` lets, here
        /// or at the server.
        most_bytes: u32,
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

impl StreamError {
    pub(super) fn io_kind(&self) -> io::ErrorKind {
        match self {
            Self::Call(error) => error.io_kind(),
            Self::Cancelled { .. } => io::ErrorKind::ConnectionAborted,
            Self::Stopped { .. } => io::ErrorKind::BrokenPipe,
            Self::TooLong { .. } => io::ErrorKind::InvalidInput,
            Self::Incomplete { .. } => io::ErrorKind::UnexpectedEof,
        }
    }
}
