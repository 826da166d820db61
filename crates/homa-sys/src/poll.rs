//! Waiting for a few descriptors with a nanosecond time-out.

use crate::call::check;
use crate::clock::timespec_of_ns;
use std::ffi::c_short;
use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;
use std::time::Duration;

/// A descriptor and what is awaited of it.
#[derive(Clone, Copy, Debug)]
#[repr(transparent)]
pub struct PollFd<'a> {
    raw: libc::pollfd,
    fd: PhantomData<BorrowedFd<'a>>,
}

impl<'a> PollFd<'a> {
    /// Awaits that `fd` can be read or written. Errors are always awaited.
    pub fn new(fd: BorrowedFd<'a>, readable: bool, writable: bool) -> Self {
        let mut events: c_short = 0;
        if readable {
            events |= libc::POLLIN;
        }
        if writable {
            events |= libc::POLLOUT;
        }
        Self { raw: libc::pollfd { fd: fd.as_raw_fd(), events, revents: 0 }, fd: PhantomData }
    }

    /// After [`poll_fds`]: can be read.
    pub fn is_readable(&self) -> bool {
        self.raw.revents & libc::POLLIN != 0
    }

    /// After [`poll_fds`]: can be written.
    pub fn is_writable(&self) -> bool {
        self.raw.revents & libc::POLLOUT != 0
    }

    /// After [`poll_fds`]: has an error pending, on a socket perhaps in its error queue, or was
    /// hung up.
    pub fn is_failed(&self) -> bool {
        self.raw.revents & (libc::POLLERR | libc::POLLHUP | libc::POLLNVAL) != 0
    }
}

/// Waits until one of `fds` is ready or `timeout` has passed (`None`: without limit). Says how
/// many are ready; 0 after the time-out.
///
/// # Errors
/// `Interrupted` when a signal came: compute the time-out anew and call again.
pub fn poll_fds(fds: &mut [PollFd<'_>], timeout: Option<Duration>) -> io::Result<usize> {
    let timeout = timeout
        .map(|timeout| timespec_of_ns(u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX)));
    let timeout = timeout.as_ref().map_or(ptr::null(), ptr::from_ref);
    // SAFETY: `PollFd` is a transparent `pollfd`, so pointer and length describe the slice, into
    // whose `revents` the call writes; its descriptors are open because they are borrowed. The
    // time-out is null or points to a value that lives until the end of this function; a null
    // signal mask leaves the mask alone.
    let result = unsafe {
        libc::ppoll(fds.as_mut_ptr().cast(), fds.len() as libc::nfds_t, timeout, ptr::null())
    };
    Ok(check(result)?.unsigned_abs() as usize)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{EventFd, monotonic_ns};
    use std::os::fd::AsFd;

    #[test]
    fn a_time_out_below_a_millisecond_is_kept() {
        let event = EventFd::new().unwrap();
        let mut fds = [PollFd::new(event.as_fd(), true, false)];
        let start_ns = monotonic_ns();
        assert_eq!(poll_fds(&mut fds, Some(Duration::from_micros(200))).unwrap(), 0);
        assert!(monotonic_ns() - start_ns >= 200_000);
        assert!(!fds[0].is_readable());
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
