//! A set of descriptors that can be waited for as one, and is itself a descriptor.

use crate::call::{check, check_fd};
use crate::poll::{PollFd, poll_fds};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::time::Duration;

/// What an [`Epoll`] reports of a descriptor.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub struct Ready(libc::epoll_event);

impl Ready {
    /// To fill an array with.
    pub const EMPTY: Self = Self(libc::epoll_event { events: 0, u64: 0 });

    /// As given to [`Epoll::add`].
    pub fn token(&self) -> u64 {
        self.0.u64
    }

    /// Can be read.
    pub fn is_readable(&self) -> bool {
        self.0.events & libc::EPOLLIN as u32 != 0
    }

    /// Can be written.
    pub fn is_writable(&self) -> bool {
        self.0.events & libc::EPOLLOUT as u32 != 0
    }
}

impl std::fmt::Debug for Ready {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let events = self.0.events;
        formatter
            .debug_struct("Ready")
            .field("token", &self.token())
            .field("events", &events)
            .finish()
    }
}

/// An epoll set, level-triggered, closed on `exec`.
///
/// A descriptor leaves the set when it is closed; the set does not keep it open.
#[derive(Debug)]
pub struct Epoll {
    fd: OwnedFd,
}

impl Epoll {
    /// Creates an empty set.
    ///
    /// # Errors
    /// Out of descriptors or memory.
    pub fn new() -> io::Result<Self> {
        // SAFETY: the call takes no pointers; its result is a new descriptor or -1.
        let fd = unsafe { check_fd(libc::epoll_create1(libc::EPOLL_CLOEXEC)) }?;
        Ok(Self { fd })
    }

    /// Adds `fd`, awaiting that it can be read, written or both.
    ///
    /// # Errors
    /// `AlreadyExists` if it is in the set; out of memory or of the user's watches.
    pub fn add(
        &self,
        fd: BorrowedFd<'_>,
        token: u64,
        readable: bool,
        writable: bool,
    ) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_ADD, fd, token, readable, writable)
    }

    /// Changes what is awaited of `fd`, and its token.
    ///
    /// # Errors
    /// `NotFound` if it is not in the set.
    pub fn modify(
        &self,
        fd: BorrowedFd<'_>,
        token: u64,
        readable: bool,
        writable: bool,
    ) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_MOD, fd, token, readable, writable)
    }

    /// Takes `fd` out of the set.
    ///
    /// # Errors
    /// `NotFound` if it is not in the set.
    pub fn remove(&self, fd: BorrowedFd<'_>) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_DEL, fd, 0, false, false)
    }

    fn control(
        &self,
        operation: i32,
        fd: BorrowedFd<'_>,
        token: u64,
        readable: bool,
        writable: bool,
    ) -> io::Result<()> {
        let mut events = 0;
        if readable {
            events |= libc::EPOLLIN as u32;
        }
        if writable {
            events |= libc::EPOLLOUT as u32;
        }
        let mut event = libc::epoll_event { events, u64: token };
        // SAFETY: `event` is a local value that the call only reads; both descriptors are open
        // because they are borrowed.
        let result = unsafe {
            libc::epoll_ctl(self.fd.as_raw_fd(), operation, fd.as_raw_fd(), &raw mut event)
        };
        check(result).map(drop)
    }

    /// Waits until a descriptor is ready or `timeout` has passed (`None`: without limit); says
    /// how many entries of `ready` were filled. An empty `ready` is never filled.
    ///
    /// # Errors
    /// `Interrupted` when a signal came: compute the time-out anew and call again.
    pub fn wait(&self, ready: &mut [Ready], timeout: Option<Duration>) -> io::Result<usize> {
        if ready.is_empty() {
            return Ok(0);
        }
        if timeout != Some(Duration::ZERO) {
            // The time-out of `epoll_wait` is in milliseconds; that of `ppoll` is not.
            poll_fds(&mut [PollFd::new(self.as_fd(), true, false)], timeout)?;
        }
        let room = i32::try_from(ready.len()).unwrap_or(i32::MAX);
        // SAFETY: `Ready` is a transparent `epoll_event`; pointer and `room` describe the slice
        // (or its first part), which the call fills.
        let result =
            unsafe { libc::epoll_wait(self.fd.as_raw_fd(), ready.as_mut_ptr().cast(), room, 0) };
        Ok(check(result)?.unsigned_abs() as usize)
    }
}

impl AsFd for Epoll {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl AsRawFd for Epoll {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::EventFd;

    #[test]
    fn ready_descriptors_are_told_apart_by_their_tokens() {
        let epoll = Epoll::new().unwrap();
        let (first, second) = (EventFd::new().unwrap(), EventFd::new().unwrap());
        epoll.add(first.as_fd(), 10, true, false).unwrap();
        epoll.add(second.as_fd(), 20, true, false).unwrap();
        let mut ready = [Ready::EMPTY; 4];
        assert_eq!(epoll.wait(&mut ready, Some(Duration::from_micros(50))).unwrap(), 0);
        second.signal().unwrap();
        assert_eq!(epoll.wait(&mut ready, None).unwrap(), 1);
        assert_eq!((ready[0].token(), ready[0].is_readable()), (20, true));

        epoll.modify(second.as_fd(), 21, false, true).unwrap();
        assert_eq!(epoll.wait(&mut ready, None).unwrap(), 1);
        assert_eq!((ready[0].token(), ready[0].is_writable()), (21, true));

        epoll.remove(second.as_fd()).unwrap();
        assert_eq!(epoll.wait(&mut ready, Some(Duration::ZERO)).unwrap(), 0);
    }

    #[test]
    fn a_set_is_itself_readable_when_a_member_is() {
        let (epoll, event) = (Epoll::new().unwrap(), EventFd::new().unwrap());
        epoll.add(event.as_fd(), 1, true, false).unwrap();
        event.signal().unwrap();
        let mut fds = [PollFd::new(epoll.as_fd(), true, false)];
        assert_eq!(poll_fds(&mut fds, Some(Duration::from_secs(1))).unwrap(), 1);
    }
}
