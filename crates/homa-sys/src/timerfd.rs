//! A descriptor that becomes readable at a given time, with nanosecond resolution.

use crate::clock::timespec_of_ns;
use crate::eventfd::read_counter;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, timerfd_create, timerfd_settime,
};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

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
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        Ok(Self { fd: timerfd_create(TimerfdClockId::Monotonic, flags)? })
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
            Itimerspec { it_interval: timespec_of_ns(0), it_value: timespec_of_ns(at_ns) };
        timerfd_settime(&self.fd, TimerfdTimerFlags::ABSTIME, &setting)?;
        Ok(())
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
