//! A descriptor that one thread signals and another waits for.

use crate::call::{check_bytes, check_fd};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

/// An `eventfd`: becomes readable when signalled, until it is drained. Non-blocking, closed on
/// `exec`.
#[derive(Debug)]
pub struct EventFd {
    fd: OwnedFd,
}

impl EventFd {
    /// Creates one that is not signalled.
    ///
    /// # Errors
    /// Out of descriptors or memory.
    pub fn new() -> io::Result<Self> {
        // SAFETY: the call takes no pointers; its result is a new descriptor or -1.
        let fd = unsafe { check_fd(libc::eventfd(0, libc::EFD_NONBLOCK | libc::EFD_CLOEXEC)) }?;
        Ok(Self { fd })
    }

    /// Makes it readable. Signals before the next [`drain`](Self::drain) count as one.
    ///
    /// # Errors
    /// None are expected; a counter that is full is already signalled and reported as success.
    pub fn signal(&self) -> io::Result<()> {
        let one = 1_u64.to_ne_bytes();
        // SAFETY: pointer and length describe the local array, which is only read.
        let result = unsafe { libc::write(self.fd.as_raw_fd(), one.as_ptr().cast(), one.len()) };
        match check_bytes(result) {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
            _ => Ok(()),
        }
    }

    /// Makes it unreadable; says how often it was signalled since the last time.
    ///
    /// # Errors
    /// None are expected.
    pub fn drain(&self) -> io::Result<u64> {
        read_counter(self.fd.as_fd())
    }
}

/// Reads the 8-byte counter of an event or timer descriptor; 0 if there is nothing to read.
pub(crate) fn read_counter(fd: BorrowedFd<'_>) -> io::Result<u64> {
    let mut count = [0_u8; 8];
    // SAFETY: pointer and length describe the local array, into which at most 8 bytes go.
    let result = unsafe { libc::read(fd.as_raw_fd(), count.as_mut_ptr().cast(), count.len()) };
    match check_bytes(result) {
        Ok(_) => Ok(u64::from_ne_bytes(count)),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
        Err(error) => Err(error),
    }
}

impl AsFd for EventFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl AsRawFd for EventFd {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_add_up_until_drained() {
        let event = EventFd::new().unwrap();
        assert_eq!(event.drain().unwrap(), 0);
        event.signal().unwrap();
        event.signal().unwrap();
        assert_eq!(event.drain().unwrap(), 2);
        assert_eq!(event.drain().unwrap(), 0);
    }
}
