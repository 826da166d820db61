//! A descriptor that becomes readable at a given time, with nanosecond resolution.

use crate::call::{check, check_fd};
use crate::clock::timespec_of_ns;
use crate::eventfd::read_counter;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::ptr;

/// A `timerfd` on `CLOCK_MONOTONIC` that fires once. Non-blocking, closed on `exec`.
#[derive(Debug)]
pub struct TimerFd {
    fd: OwnedFd,
}

impl TimerFd {
    /// Creates one that is not armed.
    ///
    /// # Errors
    /// Out of descriptors or memory.
    pub fn new() -> io::Result<Self> {
        let flags = libc::TFD_NONBLOCK | libc::TFD_CLOEXEC;
        // SAFETY: the call takes no pointers; its result is a new descriptor or -1.
        let fd = unsafe { check_fd(libc::timerfd_create(libc::CLOCK_MONOTONIC, flags)) }?;
        Ok(Self { fd })
    }

    /// Fires once at `at_ns` of [`monotonic_ns`](crate::monotonic_ns), at once if that is past.
    /// Replaces what was armed before and forgets a firing that was not drained.
    ///
    /// # Errors
    /// None are expected.
    pub fn arm(&self, at_ns: u64) -> io::Result<()> {
        // Zero would disarm.
        self.set(at_ns.max(1))
    }

    /// Takes back what was armed, and a firing that was not drained.
    ///
    /// # Errors
    /// None are expected.
    pub fn disarm(&self) -> io::Result<()> {
        self.set(0)
    }

    fn set(&self, at_ns: u64) -> io::Result<()> {
        let setting =
            libc::itimerspec { it_interval: timespec_of_ns(0), it_value: timespec_of_ns(at_ns) };
        // SAFETY: `setting` is a valid local value that the call only reads; a null pointer for
        // the old setting is allowed and means that it is not wanted.
        let result = unsafe {
            libc::timerfd_settime(
                self.fd.as_raw_fd(),
                libc::TFD_TIMER_ABSTIME,
                &raw const setting,
                ptr::null_mut(),
            )
        };
        check(result).map(drop)
    }

    /// Makes it unreadable; says whether it had fired.
    ///
    /// # Errors
    /// None are expected.
    pub fn drain(&self) -> io::Result<bool> {
        Ok(read_counter(self.fd.as_fd())? > 0)
    }
}

impl AsFd for TimerFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl AsRawFd for TimerFd {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{PollFd, monotonic_ns, poll_fds};
    use std::time::Duration;

    #[test]
    fn fires_at_its_time_and_not_after_disarm() {
        let timer = TimerFd::new().unwrap();
        let start_ns = monotonic_ns();
        timer.arm(start_ns + 3_000_000).unwrap();
        assert!(!timer.drain().unwrap());
        let mut fds = [PollFd::new(timer.as_fd(), true, false)];
        assert_eq!(poll_fds(&mut fds, Some(Duration::from_secs(2))).unwrap(), 1);
        assert!(monotonic_ns() >= start_ns + 3_000_000);
        assert!(timer.drain().unwrap());

        timer.arm(0).unwrap();
        timer.disarm().unwrap();
        assert!(!timer.drain().unwrap());
    }
}
