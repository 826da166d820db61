//! Parker of a thread of the operating system.

use std::cell::Cell;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Wake, Waker};
use std::thread::Thread;
use std::time::Duration;

use homa_sys::{EventFd, PollFd, fork_generation, forked_since, monotonic_ns, poll_fds};

use super::seat::NEVER_NS;
use super::wait::Sleeper;

const IDLE: u8 = 0;
const KICKED: u8 = 1;
/// Parked; needs `unpark`.
const BLOCKED: u8 = 2;
/// In `ppoll`; needs its event descriptor signalled.
const POLLING: u8 = 3;

/// One per thread: remembers kicks, and ends the thread's sleep whichever way it sleeps. Kicking a
/// thread that is not asleep costs one atomic exchange.
#[derive(Debug)]
pub(crate) struct Parker {
    shared: Arc<Shared>,
    waker: Waker,
    fork_generation: u64,
}

#[derive(Debug)]
struct Shared {
    state: AtomicU8,
    thread: Thread,
    event: EventFd,
}

impl Wake for Shared {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        match self.state.swap(KICKED, Ordering::AcqRel) {
            BLOCKED => self.thread.unpark(),
            POLLING => {
                // Only a descriptor that is not open can fail, and it is open.
                let _ = self.event.signal();
            }
            _ => {}
        }
    }
}

thread_local! {
    static PARKER: Cell<Option<Parker>> = const { Cell::new(None) };
}

impl Parker {
    pub(crate) fn new() -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            state: AtomicU8::new(IDLE),
            thread: std::thread::current(),
            event: EventFd::new()?,
        });
        let waker = Waker::from(Arc::clone(&shared));
        Ok(Self { shared, waker, fork_generation: fork_generation() })
    }

    /// Lends the thread's parker to `f`. A wait inside a wait (from a waker) gets another one.
    ///
    /// # Errors
    /// Out of descriptors.
    pub(crate) fn with(f: impl FnOnce(&Self)) -> std::io::Result<()> {
        let kept = PARKER.try_with(Cell::take).ok().flatten();
        let parker = match kept {
            // A forked child must not share its descriptor with the parent.
            Some(parker) if !forked_since(parker.fork_generation) => parker,
            _ => Self::new()?,
        };
        f(&parker);
        // At the end of a thread there may be no place to keep it.
        let _ = PARKER.try_with(|kept| kept.set(Some(parker)));
        Ok(())
    }

    /// Sleeps until kicked, until the deadline, or until `socket` is ready.
    pub(crate) fn poll(&self, socket: BorrowedFd<'_>, until_ns: u64) {
        if self.transition(IDLE, POLLING).is_err() {
            return;
        }
        let mut fds =
            [PollFd::new(socket, true, false), PollFd::new(self.shared.event.as_fd(), true, false)];
        // Interrupted is a spurious wake-up: the caller computes the time anew.
        let _ = poll_fds(&mut fds, remaining(until_ns));
        // Fails if it was kicked, which stays noted.
        let _ = self.transition(POLLING, IDLE);
        if fds[1].is_readable() {
            let _ = self.shared.event.drain();
        }
    }

    fn transition(&self, from: u8, to: u8) -> Result<u8, u8> {
        self.shared.state.compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire)
    }
}

impl Sleeper for Parker {
    type Waker = Waker;

    fn waker(&self) -> &Waker {
        &self.waker
    }

    fn take_kick(&self) -> bool {
        self.shared.state.load(Ordering::Relaxed) == KICKED
            && self.shared.state.swap(IDLE, Ordering::AcqRel) == KICKED
    }

    fn block(&self, until_ns: u64) {
        if self.transition(IDLE, BLOCKED).is_err() {
            return;
        }
        match remaining(until_ns) {
            None => std::thread::park(),
            Some(timeout) => std::thread::park_timeout(timeout),
        }
        let _ = self.transition(BLOCKED, IDLE);
    }
}

fn remaining(until_ns: u64) -> Option<Duration> {
    (until_ns != NEVER_NS).then(|| Duration::from_nanos(until_ns.saturating_sub(monotonic_ns())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kick_before_the_sleep_ends_it_at_once() {
        let parker = Parker::new().unwrap();
        parker.waker().wake_by_ref();
        parker.block(NEVER_NS);
        assert!(parker.take_kick());
        assert!(!parker.take_kick());
    }

    #[test]
    fn a_kick_ends_a_poll_and_leaves_nothing_behind() {
        let parker = Parker::new().unwrap();
        let quiet = EventFd::new().unwrap();
        let waker = parker.waker().clone();
        let kicker = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(20));
            waker.wake();
        });
        parker.poll(quiet.as_fd(), NEVER_NS);
        assert!(parker.take_kick());
        kicker.join().unwrap();
        let soon = monotonic_ns() + 5_000_000;
        while monotonic_ns() < soon {
            parker.poll(quiet.as_fd(), soon);
        }
        assert!(!parker.take_kick());
    }
}
