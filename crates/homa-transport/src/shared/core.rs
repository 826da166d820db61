//! The core of an endpoint: its shard behind a lock, the inbox of operations for it, and the seat
//! of the thread or task that drives it.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Waker;
use std::time::{Duration, Instant};

use homa_core::PeerSettings;
use homa_sys::{PollFd, poll_fds};

use super::accept::AcceptQueue;
use super::facts::Facts;
use super::lifecycle::Lifecycle;
use super::ops::Operation;
use super::rooms::Rooms;
use super::spin::SpinBudget;
use super::task_slot::TaskSlot;
use super::wakes::Wakes;
use crate::drive::batches::Batches;
use crate::drive::inbox::{Added, Inbox};
use crate::drive::parker::Parker;
use crate::drive::seat::{NEVER_NS, Seat};
use crate::drive::wait::{Host, Sleeper, Spun, Turned};
use crate::{AcceptError, CallError, CallErrorKind, ClientStats, Stats};

/// Operations that may wait in the inbox before those who add more have to help.
const INBOX_MAX: usize = 4_096;
/// Operations for later that are sent without waiting for the flush.
pub(super) const LATER_MAX: usize = 64;
/// Longest time an operation for later waits while its user goes on with others, in nanoseconds.
const LATER_NS: u64 = 10_000;
/// Looks for packets in one turn of a thread that spins. One takes 0.4 µs; locks, clock and
/// bookkeeping around each would delay the discovery of a packet.
const LOOKS_MAX: u32 = 8;
/// A task that slept this long past its deadline does not do its duty.
const OVERDUE_NS: u64 = 20_000_000;

/// Everything that handles, calls, the guard and tasks share.
#[derive(Debug)]
pub(crate) struct Core {
    shard: Box<dyn Serve>,
    pub(super) inbox: Inbox<Operation>,
    /// When the oldest operation for later was added, 0 if there is none.
    pub(super) later_since_ns: AtomicU64,
    batches: Batches,
    /// The last name of a pair of RPCs. They begin with the time, so that another incarnation of
    /// this endpoint has others.
    last_pair: AtomicU64,
    pub(crate) seat: Seat<Waker>,
    spin: SpinBudget,
    pub(crate) rooms: Rooms,
    pub(crate) life: Lifecycle,
    pub(crate) task: TaskSlot,
    pub(crate) facts: Facts,
}

/// A shard behind its lock, on any driver and clock. One indirect call per turn, so that calls,
/// requests and streams are of one type over all of them.
pub(crate) trait Serve: fmt::Debug + Send + Sync {
    /// Executes `first` or else the inbox of `core`, looks for packets up to `looks` times (unless
    /// something else is to be done), sends; then wakes whom it concerns.
    fn serve(&self, core: &Core, looks: u32, first: Option<Operation>) -> Turned;

    /// The clock of all deadlines.
    fn now_ns(&self) -> u64;

    /// Counters and gauges of this moment.
    fn stats(&self, rooms: &Rooms) -> Stats;

    /// What each client has at this moment.
    fn clients(&self, rooms: &Rooms) -> Vec<ClientStats>;
}

impl Core {
    pub(crate) fn new(
        shard: Box<dyn Serve>,
        facts: Facts,
        rooms: Rooms,
        life: Lifecycle,
        spin: SpinBudget,
    ) -> Self {
        let now_ns = shard.now_ns();
        Self {
            shard,
            inbox: Inbox::new(),
            later_since_ns: AtomicU64::new(0),
            batches: Batches::new(),
            last_pair: AtomicU64::new(now_ns),
            seat: Seat::new(),
            spin,
            rooms,
            life,
            task: TaskSlot::default(),
            facts,
        }
    }

    pub(crate) fn local_addr(&self) -> SocketAddr {
        self.facts.address
    }

    /// Whether this is a forked child; see [`Lifecycle::is_forked`].
    pub(crate) fn is_forked(&self) -> bool {
        self.life.is_forked()
    }

    /// Whether new calls can begin.
    pub(crate) fn check_open(&self) -> Result<(), CallError> {
        if self.is_forked() {
            return Err(CallErrorKind::Forked.into());
        }
        if let Some(error) = self.life.socket_error() {
            return Err(CallErrorKind::Socket(error).into());
        }
        // Requests that are being finished may need other servers.
        if self.life.is_open() || self.rooms.service.requests() > 0 && !self.life.is_closed() {
            Ok(())
        } else {
            Err(CallErrorKind::Closed.into())
        }
    }

    /// The queue of those who accept.
    pub(crate) fn requests(&self) -> Result<&AcceptQueue, AcceptError> {
        if self.is_forked() {
            return Err(AcceptError::Forked);
        }
        match self.life.socket_error() {
            Some(error) => Err(AcceptError::Socket(error)),
            None => Ok(&self.rooms.requests),
        }
    }

    /// A new name for a pair of RPCs.
    pub(crate) fn next_pair(&self) -> u64 {
        self.last_pair.fetch_add(1, Ordering::Relaxed)
    }

    /// The clock of all deadlines.
    pub(crate) fn now_ns(&self) -> u64 {
        self.shard.now_ns()
    }

    /// Whether a deadline has come.
    pub(crate) fn is_past(&self, deadline_ns: u64) -> bool {
        deadline_ns != NEVER_NS && self.now_ns() >= deadline_ns
    }

    /// A point in time of the standard library on the clock of all deadlines.
    pub(crate) fn time_ns(&self, at: Instant) -> u64 {
        self.after_ns(at.saturating_duration_since(Instant::now()))
    }

    /// The time in so long on the clock of all deadlines.
    pub(crate) fn after_ns(&self, duration: Duration) -> u64 {
        self.now_ns().saturating_add(u64::try_from(duration.as_nanos()).unwrap_or(NEVER_NS))
    }

    /// Settings of one peer from now on; `false` if the endpoint is closed.
    pub(crate) fn set_peer(&self, peer: SocketAddr, settings: PeerSettings) -> bool {
        let open = self.check_open().is_ok();
        if open {
            self.submit(Operation::SetPeer(peer, settings));
        }
        open
    }

    /// Has an operation executed: here and now, unless an attendant will or the task that drives
    /// returns at once.
    pub(crate) fn submit(&self, operation: Operation) {
        if self.task.returns() {
            return self.submit_later(operation);
        }
        if self.inbox.attend_alone() {
            self.serve(0, Some(operation));
            if !self.inbox.try_leave() {
                self.serve_inbox();
            }
        } else if self.inbox.add(operation, INBOX_MAX) == Added::Attend {
            self.serve_inbox();
        }
    }

    /// Queues an operation to be executed with others: at the next [`Core::flush`], when there are
    /// many, or when [`Core::flush_if_old`] finds that the oldest has waited for long.
    #[inline]
    pub(crate) fn submit_later(&self, operation: Operation) {
        let waiting = self.inbox.add_for_later(operation);
        if waiting == 1 {
            self.later_since_ns.store(self.now_ns(), Ordering::Relaxed);
            self.batches.begin(&self.seat);
        } else if waiting >= INBOX_MAX {
            // The attendant does not keep up.
            self.renew_deadline();
        } else if waiting >= LATER_MAX {
            self.flush();
        }
    }

    /// Sends a response: with others if more requests wait already, since the caller will probably
    /// accept the next one at once.
    pub(crate) fn submit_reply(&self, operation: Operation) {
        if self.rooms.requests.len() > 0 {
            self.submit_later(operation);
            self.flush_if_old();
        } else {
            self.submit(operation);
        }
    }

    /// Executes operations for later if the oldest has waited for long.
    pub(crate) fn flush_if_old(&self) {
        let since_ns = self.later_since_ns.load(Ordering::Relaxed);
        if since_ns != 0 && self.now_ns().saturating_sub(since_ns) > LATER_NS {
            self.flush();
        }
    }

    /// Executes unattended operations.
    pub(crate) fn flush(&self) {
        if self.inbox.attend_if_abandoned() {
            self.serve_inbox();
        }
    }

    /// Executes the inbox as an attendant, and leaves.
    fn serve_inbox(&self) {
        loop {
            self.serve(0, None);
            if self.inbox.try_leave() {
                return;
            }
        }
    }

    /// Makes the sleeping thread or task that drives take note of a new deadline outside the
    /// engine.
    pub(crate) fn renew_deadline(&self) {
        self.inbox.attend();
        self.serve_inbox();
    }

    /// See [`Serve::serve`].
    #[inline]
    fn serve(&self, looks: u32, first: Option<Operation>) -> Turned {
        self.shard.serve(self, looks, first)
    }

    /// Accepts no further request: those that no handler has seen are refused.
    pub(crate) fn stop_accepting(&self) {
        let mut wakes = Wakes::default();
        let refused = self.rooms.requests.close(&mut wakes);
        wakes.wake();
        let origins = refused.into_iter().map(|request| request.origin).collect();
        self.submit(Operation::StopAccepting(origins));
    }

    /// Begins to close: accepted requests have so much time to be answered. A second call can make
    /// it shorter.
    pub(crate) fn close(&self, within: Duration) {
        self.life.begin_close(self.after_ns(within));
        self.stop_accepting();
        // Those who wait for room for calls.
        let mut wakes = Wakes::default();
        self.rooms.calls.wake_all(&mut wakes);
        wakes.wake();
        self.renew_deadline();
    }

    /// A request was answered or dropped.
    #[inline]
    pub(crate) fn leave_service(&self) {
        let is_last = self.rooms.service.leave();
        if is_last && (self.rooms.service.is_awaited() || !self.life.is_open()) {
            self.service_is_over();
        }
    }

    #[cold]
    fn service_is_over(&self) {
        let mut wakes = Wakes::default();
        self.rooms.service.look(&mut wakes);
        wakes.wake();
        if !self.life.is_open() && !self.life.is_closed() {
            self.renew_deadline();
        }
    }

    pub(super) fn socket_failed(&self, error: &io::Error, wakes: &mut Wakes) {
        self.life.set_socket_error(error.into());
        self.closed(wakes);
    }

    pub(super) fn closed(&self, wakes: &mut Wakes) {
        self.life.end(wakes);
        // Requests that were on their way into the queue, if the socket failed.
        self.rooms.close(wakes);
        // The task holds a descriptor of the socket.
        wakes.add(self.task.take_waker());
    }

    /// Counters and gauges of this moment; zeros in a forked child.
    pub(crate) fn stats(&self) -> Stats {
        if self.is_forked() {
            return Stats::default();
        }
        self.shard.stats(&self.rooms)
    }

    /// What each client has at this moment; nothing in a forked child.
    pub(crate) fn clients(&self) -> Vec<ClientStats> {
        if self.is_forked() {
            return Vec::new();
        }
        self.shard.clients(&self.rooms)
    }
}

impl Host for Core {
    type Waker = Waker;
    type Sleeper = Parker;

    fn seat(&self) -> &Seat<Waker> {
        &self.seat
    }

    fn attend(&self) {
        self.inbox.attend();
    }

    fn try_leave(&self) -> bool {
        self.inbox.try_leave()
    }

    fn flush(&self) {
        self.flush();
    }

    fn batches(&self) -> &Batches {
        &self.batches
    }

    fn turn(&self) -> Turned {
        self.serve(1, None)
    }

    fn spin_turn(&self) -> Turned {
        self.serve(LOOKS_MAX, None)
    }

    fn sleep(&self, parker: &Parker, until_ns: u64) {
        match &self.facts.readable {
            Some(readable) => parker.poll(readable.as_fd(), until_ns),
            None => parker.block(until_ns),
        }
    }

    fn is_overdue(&self, deadline_ns: u64) -> bool {
        let late =
            deadline_ns != NEVER_NS && self.now_ns() > deadline_ns.saturating_add(OVERDUE_NS);
        let has_packets = |readable: &OwnedFd| {
            let mut readable = [PollFd::new(readable.as_fd(), true, false)];
            poll_fds(&mut readable, Some(Duration::ZERO)).is_ok_and(|ready| ready > 0)
        };
        late || self.facts.readable.as_ref().is_some_and(has_packets)
    }

    fn now_ns(&self) -> u64 {
        self.now_ns()
    }

    fn spin_ns(&self) -> u64 {
        self.spin.spin_ns()
    }

    fn learns_to_spin(&self) -> bool {
        self.spin.learns()
    }

    fn spun(&self, outcome: Spun) {
        self.spin.note(outcome);
    }
}
