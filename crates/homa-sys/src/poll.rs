//! Waiting for a few descriptors with a nanosecond timeout.

use crate::clock::timespec_of_ns;
use arrayvec::ArrayVec;
use rustix::event::{self, PollFlags};
use std::io;
use std::os::fd::BorrowedFd;
use std::time::Duration;

/// Most descriptors that [`poll_fds`] takes; use an [`Epoll`](crate::Epoll) for more.
pub const POLL_FDS_MAX: usize = 16;

/// A descriptor and what is awaited of it.
#[derive(Clone, Copy, Debug)]
pub struct PollFd<'a> {
    fd: BorrowedFd<'a>,
    awaited: PollFlags,
    ready: PollFlags,
}

impl<'a> PollFd<'a> {
    /// Awaits that `fd` can be read or written. Errors are always awaited.
    pub fn new(fd: BorrowedFd<'a>, readable: bool, writable: bool) -> Self {
        let mut awaited = PollFlags::empty();
        awaited.set(PollFlags::IN, readable);
        awaited.set(PollFlags::OUT, writable);
        Self { fd, awaited, ready: PollFlags::empty() }
    }

    /// After [`poll_fds`]: can be read.
    pub fn is_readable(&self) -> bool {
        self.ready.contains(PollFlags::IN)
    }

    /// After [`poll_fds`]: can be written.
    pub fn is_writable(&self) -> bool {
        self.ready.contains(PollFlags::OUT)
    }

    /// After [`poll_fds`]: has an error pending, on a socket perhaps in its error queue, or was
    /// hung up.
    pub fn is_failed(&self) -> bool {
        self.ready.intersects(PollFlags::ERR | PollFlags::HUP | PollFlags::NVAL)
    }
}

/// Waits until one of `fds` is ready or `timeout` has passed (`None`: without limit). Says how
/// many are ready; 0 after the timeout.
///
/// # Errors
/// `Interrupted` when a signal came: compute the timeout anew and call again. `InvalidInput` for
/// more than [`POLL_FDS_MAX`] descriptors.
pub fn poll_fds(fds: &mut [PollFd<'_>], timeout: Option<Duration>) -> io::Result<usize> {
    if fds.len() > POLL_FDS_MAX {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let timeout = timeout
        .map(|timeout| timespec_of_ns(u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX)));
    let mut polled: ArrayVec<event::PollFd<'_>, POLL_FDS_MAX> =
        fds.iter().map(|fd| event::PollFd::from_borrowed_fd(fd.fd, fd.awaited)).collect();
    let ready = event::poll(&mut polled, timeout.as_ref())?;
    for (fd, polled) in fds.iter_mut().zip(&polled) {
        fd.ready = polled.revents();
    }
    Ok(ready)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{EventFd, monotonic_ns};
    use std::os::fd::AsFd;

    #[test]
    fn a_timeout_below_a_millisecond_is_kept() {
        let event = EventFd::new().unwrap();
        let mut fds = [PollFd::new(event.as_fd(), true, false)];
        let start_ns = monotonic_ns();
        assert_eq!(poll_fds(&mut fds, Some(Duration::from_micros(200))).unwrap(), 0);
        assert!(monotonic_ns() - start_ns >= 200_000);
        assert!(!fds[0].is_readable());
    }

    #[test]
    fn more_descriptors_than_can_be_polled_are_refused() {
        let event = EventFd::new().unwrap();
        let mut fds = [PollFd::new(event.as_fd(), true, false); POLL_FDS_MAX + 1];
        let error = poll_fds(&mut fds, Some(Duration::ZERO)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        event.signal().unwrap();
        assert_eq!(poll_fds(&mut fds[..POLL_FDS_MAX], None).unwrap(), POLL_FDS_MAX);
    }

    #[test]
    fn only_the_ready_descriptor_is_reported() {
        let (quiet, loud) = (EventFd::new().unwrap(), EventFd::new().unwrap());
        loud.signal().unwrap();
        let mut fds =
            [PollFd::new(quiet.as_fd(), true, false), PollFd::new(loud.as_fd(), true, true)];
        assert_eq!(poll_fds(&mut fds, None).unwrap(), 1);
        assert!(!fds[0].is_readable());
        assert!(fds[1].is_readable() && fds[1].is_writable() && !fds[1].is_failed());
    }
}
