//! Whether an endpoint is open: closing, the end of its socket, and forked processes.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::task::Waker;

use homa_sys::{fork_generation, forked_since};

use super::waiters::{Ticket, Waiters};
use super::wakes::Wakes;
use crate::SocketError;
use crate::drive::seat::NEVER_NS;
use crate::drive::sync::{Mutex, lock};

const OPEN: u8 = 0;
/// Accepted requests are finished first.
const CLOSING: u8 = 1;
const CLOSED: u8 = 2;

/// An endpoint is open, then closing, then closed.
#[derive(Debug)]
pub(crate) struct Lifecycle {
    phase: AtomicU8,
    /// When closing ends at the latest.
    until_ns: AtomicU64,
    /// Since when nothing is left to be done while it closes.
    idle_since_ns: AtomicU64,
    /// Those who wait for the end of closing.
    closing: Mutex<Waiters>,
    socket_error: OnceLock<SocketError>,
    fork_generation: u64,
}

impl Lifecycle {
    pub(crate) fn new() -> Self {
        Self {
            phase: AtomicU8::new(OPEN),
            until_ns: AtomicU64::new(NEVER_NS),
            idle_since_ns: AtomicU64::new(NEVER_NS),
            closing: Mutex::default(),
            socket_error: OnceLock::new(),
            fork_generation: fork_generation(),
        }
    }

    /// Whether this is a forked child of the process that made the endpoint: nothing of it may be
    /// used then, since other threads of the parent may have held any lock.
    pub(crate) fn is_forked(&self) -> bool {
        forked_since(self.fork_generation)
    }

    pub(crate) fn is_open(&self) -> bool {
        self.phase.load(Ordering::Acquire) == OPEN
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.phase.load(Ordering::Acquire) == CLOSED
    }

    /// Why the socket cannot be used, if so.
    pub(crate) fn socket_error(&self) -> Option<SocketError> {
        self.socket_error.get().copied()
    }

    /// The socket cannot be used any more. Only the first reason counts.
    pub(crate) fn set_socket_error(&self, error: SocketError) {
        let _ = self.socket_error.set(error);
    }

    /// Begins to close, which may take until `until_ns`. If it began before, the earlier time
    /// counts.
    pub(crate) fn begin_close(&self, until_ns: u64) {
        self.until_ns.fetch_min(until_ns, Ordering::AcqRel);
        // Another one may have begun it.
        let _ = self.phase.compare_exchange(OPEN, CLOSING, Ordering::AcqRel, Ordering::Acquire);
    }

    /// While it is closing: when accepted requests have had their time.
    pub(crate) fn closing_until_ns(&self) -> Option<u64> {
        let closing = self.phase.load(Ordering::Acquire) == CLOSING;
        closing.then(|| self.until_ns.load(Ordering::Acquire))
    }

    /// Whether it is idle for so long; the first time it is asked it began to be.
    pub(crate) fn has_lingered(&self, now_ns: u64, linger_ns: u64) -> bool {
        let since_ns = self.idle_since_ns.fetch_min(now_ns, Ordering::AcqRel).min(now_ns);
        let until_ns = since_ns.saturating_add(linger_ns);
        self.until_ns.fetch_min(until_ns, Ordering::AcqRel);
        now_ns >= until_ns
    }

    /// It is closed: wakes those who wait for that.
    pub(crate) fn end(&self, wakes: &mut Wakes) {
        self.phase.store(CLOSED, Ordering::Release);
        lock(&self.closing).take_all(wakes);
    }

    /// Registers for the end of closing; `true` if it is closed.
    pub(crate) fn wait_closed(&self, ticket: &mut Option<Ticket>, waker: &Waker) -> bool {
        let mut closing = lock(&self.closing);
        if self.is_closed() {
            return true;
        }
        closing.register(ticket, waker);
        false
    }
}
