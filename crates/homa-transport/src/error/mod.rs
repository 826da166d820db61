//! Errors: what failed, with which peer, and what the caller can do. The text of each error is
//! complete: a cause is part of it, and a field, but no `source()` that would be printed a second
//! time.

mod bind;
mod call;
mod limit;
mod serve;
mod stream;

pub use bind::BindError;
pub use call::{CallError, CallErrorKind, Rejection};
pub use limit::Limit;
pub use serve::{AcceptError, ReplyError};
pub use stream::StreamError;

use std::io;

/// Wraps an error of this crate, of the nearest kind that the standard library has.
macro_rules! into_io {
    ($($error:ty),*) => {$(
        impl From<$error> for io::Error {
            fn from(error: $error) -> Self {
                Self::new(error.io_kind(), error)
            }
        }
    )*};
}

into_io!(CallError, AcceptError, ReplyError, StreamError);

impl From<BindError> for io::Error {
    fn from(error: BindError) -> Self {
        match error {
            BindError::Resolve(reason)
            | BindError::Resources(reason)
            | BindError::Socket { reason, .. } => reason,
            BindError::InUse { .. } => Self::new(io::ErrorKind::AddrInUse, error),
            BindError::NoCapability(_) => Self::new(io::ErrorKind::PermissionDenied, error),
            other => Self::new(io::ErrorKind::InvalidInput, other),
        }
    }
}
