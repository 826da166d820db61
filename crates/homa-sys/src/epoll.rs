//! A set of descriptors that can be waited for as one, and is itself a descriptor.

use crate::poll::{PollFd, poll_fds};
use rustix::event::Timespec;
use rustix::event::epoll::{self, Event, EventData, EventFlags};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::time::Duration;

/// Readiness that an [`Epoll`] reports of a descriptor.
#[derive(Clone, Copy, Debug)]
pub struct Ready {
    token: u64,
    events: EventFlags,
}

impl Ready {
    /// To fill an array with.
    pub const EMPTY: Self = Self { token: 0, events: EventFlags::empty() };

    /// As given to [`Epoll::add`].
    pub fn token(&self) -> u64 {
        self.token
    }

    /// Can be read.
    pub fn is_readable(&self) -> bool {
        self.events.contains(EventFlags::IN)
    }

    /// Can be written.
    pub fn is_writable(&self) -> bool {
        self.events.contains(EventFlags::OUT)
    }
}

/// Descriptors that one [`Epoll::wait`] reports at most.
const READY_MAX: usize = 64;

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
        Ok(Self { fd: epoll::create(epoll::CreateFlags::CLOEXEC)? })
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
        Ok(epoll::add(&self.fd, fd, EventData::new_u64(token), awaited(readable, writable))?)
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
        Ok(epoll::modify(&self.fd, fd, EventData::new_u64(token), awaited(readable, writable))?)
    }

    /// Takes `fd` out of the set.
    ///
    /// # Errors
    /// `NotFound` if it is not in the set.
    pub fn remove(&self, fd: BorrowedFd<'_>) -> io::Result<()> {
        Ok(epoll::delete(&self.fd, fd)?)
    }

    /// Waits until a descriptor is ready or `timeout` has passed (`None`: without limit); says
    /// how many entries of `ready` were filled, at most 64. An empty `ready` is never filled.
    ///
    /// # Errors
    /// `Interrupted` when a signal came: compute the timeout anew and call again.
    pub fn wait(&self, ready: &mut [Ready], timeout: Option<Duration>) -> io::Result<usize> {
        if ready.is_empty() {
            return Ok(0);
        }
        if timeout != Some(Duration::ZERO) {
            // The timeout of `epoll_wait` is in milliseconds; that of `ppoll` is not.
            poll_fds(&mut [PollFd::new(self.as_fd(), true, false)], timeout)?;
        }
        let mut events = [const { MaybeUninit::<Event>::uninit() }; READY_MAX];
        let room = ready.len().min(READY_MAX);
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        let (events, _) = epoll::wait(&self.fd, &mut events[..room], Some(&now))?;
        for (ready, event) in ready.iter_mut().zip(&*events) {
            *ready = Ready { token: event.data.u64(), events: event.flags };
        }
        Ok(events.len())
    }
}

fn awaited(readable: bool, writable: bool) -> EventFlags {
    let mut events = EventFlags::empty();
    events.set(EventFlags::IN, readable);
    events.set(EventFlags::OUT, writable);
    events
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
    fn more_ready_descriptors_than_fit_are_reported_in_turn() {
        let epoll = Epoll::new().unwrap();
        let events: Vec<EventFd> = (0..READY_MAX + 1).map(|_| EventFd::new().unwrap()).collect();
        for (token, event) in events.iter().enumerate() {
            event.signal().unwrap();
            epoll.add(event.as_fd(), token as u64, true, false).unwrap();
        }
        let mut ready = [Ready::EMPTY; READY_MAX + 1];
        assert_eq!(epoll.wait(&mut ready[..3], None).unwrap(), 3);
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..3 {
            let count = epoll.wait(&mut ready, None).unwrap();
            assert_eq!(count, READY_MAX);
            seen.extend(ready[..count].iter().map(Ready::token));
        }
        assert_eq!(seen.len(), READY_MAX + 1, "none is left out for ever");
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
