//! The system's error about a socket, as a value that can be kept and compared.

use std::{fmt, io};

/// The system's error when a socket failed; converts into [`io::Error`] by `From`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SocketError {
    kind: io::ErrorKind,
    errno: Option<i32>,
}

impl SocketError {
    /// Which kind of failure it was.
    pub fn kind(&self) -> io::ErrorKind {
        self.kind
    }

    /// The system's number for it (errno), if it came from the system.
    pub fn raw_os_error(&self) -> Option<i32> {
        self.errno
    }
}

impl fmt::Display for SocketError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        io::Error::from(*self).fmt(f)
    }
}

impl std::error::Error for SocketError {}

impl From<&io::Error> for SocketError {
    fn from(error: &io::Error) -> Self {
        Self { kind: error.kind(), errno: error.raw_os_error() }
    }
}

impl From<SocketError> for io::Error {
    fn from(error: SocketError) -> Self {
        error.errno.map_or_else(|| error.kind.into(), io::Error::from_raw_os_error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_system_said_is_kept_with_its_number() {
        let error = SocketError::from(&io::Error::from_raw_os_error(1));
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
        assert_eq!(error.raw_os_error(), Some(1));
        assert_eq!(error.to_string(), "Operation not permitted (os error 1)");
        assert_eq!(io::Error::from(error).raw_os_error(), Some(1));
        let ours = SocketError::from(&io::Error::other("ours"));
        assert_eq!(ours.raw_os_error(), None);
        assert_eq!(ours.to_string(), io::Error::from(io::ErrorKind::Other).to_string());
    }
}
