//! Handles of endpoints, calls and requests: together they keep the endpoint open.

use std::ops::Deref;
use std::panic::RefUnwindSafe;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use super::core::Core;
use super::guard_thread::GuardThread;
use super::waiters::Ticket;
use crate::drive::parker::Parker;
use crate::drive::seat::NEVER_NS;
use crate::drive::sync::{Mutex, lock};
use crate::drive::wait::{Host, wait};

/// A share of an endpoint's core; dropping the last one closes it.
#[derive(Clone, Debug)]
pub(crate) struct Handle {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    core: Arc<Core>,
    guard: Mutex<Option<GuardThread>>,
}

/// Handlers and wakers run without any of the locks, so a panic of theirs leaves nothing half
/// changed.
impl RefUnwindSafe for Shared {}

impl Deref for Handle {
    type Target = Core;

    #[inline]
    fn deref(&self) -> &Core {
        &self.shared.core
    }
}

/// A part of an endpoint that its users hold.
pub(crate) trait HasHandle {
    fn handle(&self) -> &Handle;
}

impl<T: HasHandle> HasHandle for &mut T {
    #[inline]
    fn handle(&self) -> &Handle {
        T::handle(self)
    }
}

impl Handle {
    /// Opens `core` to its users; the guard drives it while none of them waits.
    pub(crate) fn new(core: Arc<Core>, guard: Option<GuardThread>) -> Self {
        Self { shared: Arc::new(Shared { core, guard: Mutex::new(guard) }) }
    }

    /// Whether both are of the same endpoint.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared)
    }

    /// Called by every task that has to wait: inside a tokio runtime, a task of it drives.
    #[inline]
    pub(crate) fn drive_by_task(&self) {
        #[cfg(feature = "tokio")]
        crate::driver_task::ensure_task(&self.shared.core);
    }

    /// Blocks until `poll` is ready.
    pub(crate) fn wait<T>(&self, poll: impl FnMut(&Waker) -> Poll<T>) -> T {
        let mut poll = poll;
        loop {
            if let Some(value) = self.wait_until_ns(NEVER_NS, &mut poll) {
                return value;
            }
        }
    }

    /// Blocks until `poll` is ready or the time has come.
    pub(crate) fn wait_until<T>(
        &self,
        until: Instant,
        poll: impl FnMut(&Waker) -> Poll<T>,
    ) -> Option<T> {
        self.wait_until_ns(self.time_ns(until), poll)
    }

    fn wait_until_ns<T>(
        &self,
        until_ns: u64,
        mut poll: impl FnMut(&Waker) -> Poll<T>,
    ) -> Option<T> {
        let core = &*self.shared.core;
        if core.is_forked() {
            // Nothing may be driven here; the poll says so.
            return match poll(Waker::noop()) {
                Poll::Ready(value) => Some(value),
                Poll::Pending => None,
            };
        }
        let mut value = None;
        let parked = Parker::with(|parker| value = wait(core, parker, until_ns, &mut poll));
        match parked {
            Ok(()) => value,
            // Out of descriptors: no way to sleep on one, so look now and then.
            Err(_) => {
                std::thread::sleep(Duration::from_millis(1));
                core.attend();
                core.turn();
                while !core.try_leave() {
                    core.turn();
                }
                match poll(Waker::noop()) {
                    Poll::Ready(value) => Some(value),
                    Poll::Pending if core.now_ns() < until_ns => self.wait_until_ns(until_ns, poll),
                    Poll::Pending => None,
                }
            }
        }
    }

    /// Looks for packets once, then whether `poll` is ready.
    pub(crate) fn look<T>(&self, mut poll: impl FnMut(&Waker) -> Poll<T>) -> Option<T> {
        self.wait_until_ns(1, &mut poll)
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        if self.core.is_forked() {
            return;
        }
        self.core.close(self.core.facts.linger);
        if let Some(guard) = lock(&self.guard).take() {
            guard.end(self.core.life.is_closed());
        }
    }
}

/// The end of closing.
#[derive(Debug)]
pub(crate) struct Closing {
    handle: Handle,
    ticket: Option<Ticket>,
}

impl Closing {
    /// Begins to close, or makes it shorter: accepted requests have `within` to be answered.
    pub(crate) fn begin(handle: &Handle, within: Duration) -> Self {
        if !handle.is_forked() {
            handle.close(within);
        }
        Self { handle: handle.clone(), ticket: None }
    }

    /// Ready when it is closed, with how many accepted requests were not answered.
    pub(crate) fn poll(&mut self, waker: &Waker) -> Poll<usize> {
        if self.handle.is_forked() {
            return Poll::Ready(0);
        }
        if self.handle.life.wait_closed(&mut self.ticket, waker) {
            return Poll::Ready(self.handle.rooms.service.requests());
        }
        Poll::Pending
    }
}

impl HasHandle for Closing {
    fn handle(&self) -> &Handle {
        &self.handle
    }
}

/// The end of all accepted requests and their responses.
#[derive(Debug)]
pub(crate) struct Idle {
    handle: Handle,
    ticket: Option<Ticket>,
}

impl Idle {
    pub(crate) fn new(handle: &Handle) -> Self {
        Self { handle: handle.clone(), ticket: None }
    }

    pub(crate) fn poll(&mut self, waker: &Waker) -> Poll<()> {
        let (handle, ticket) = (&self.handle, &mut self.ticket);
        let is_over = || handle.is_forked() || handle.life.is_closed() || handle.rooms.is_idle();
        if is_over() {
            return Poll::Ready(());
        }
        handle.rooms.service.register(ticket, waker);
        // It may have ended before the waker was there.
        if is_over() { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl HasHandle for Idle {
    fn handle(&self) -> &Handle {
        &self.handle
    }
}

impl Drop for Idle {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket.filter(|_| !self.handle.is_forked()) {
            self.handle.rooms.service.withdraw(ticket);
        }
    }
}
