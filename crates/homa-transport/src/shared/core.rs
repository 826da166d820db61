//! The core of an endpoint: its shard behind a lock, the inbox of operations for it, and the seat
//! of whoever drives it.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::Waker;
use std::time::{Duration, Instant as StdInstant};

use homa_core::{Instant, PeerSettings, Urgency};
use homa_io::driver::{Driver, RxStatus};
use homa_io::shard::Turn;
use homa_io::{AnyDriver, Shard};
use homa_sys::{PollFd, monotonic_ns, poll_fds};

use super::accept::AcceptQueue;
use super::context::{Context, Local};
use super::lifecycle::Lifecycle;
use super::ops::{self, Operation};
use super::registry::Registry;
use super::rooms::Rooms;
use super::spin::SpinBudget;
use super::task_slot::TaskSlot;
use super::wakes::Wakes;
use crate::drive::inbox::{Added, Inbox};
use crate::drive::parker::Parker;
use crate::drive::seat::{Due, Kick, NEVER_NS, Seat};
use crate::drive::sync::{Mutex, lock};
use crate::drive::wait::{Host, Spun, Turned};
use crate::{AcceptError, CallError, Stats};

/// Operations that may wait in the inbox before those who add more have to help.
const INBOX_MAX: usize = 4_096;
/// Operations for later that are sent without waiting for the flush.
const LATER_MAX: usize = 64;
/// Longest time an operation for later waits while its user goes on with others, in nanoseconds.
const LATER_NS: u64 = 10_000;
/// Looks for packets in one turn of a thread that spins. One takes 0.4 µs; locks, clock and bookkeeping around
/// each would delay the discovery of a packet.
const LOOKS_MAX: u32 = 8;
/// A task that slept this long past its deadline does not do its duty.
const OVERDUE_NS: u64 = 20_000_000;

/// Everything that handles, calls, the guard and tasks share.
#[derive(Debug)]
pub(crate) struct Core {
    state: Mutex<State>,
    inbox: Inbox<Operation>,
    /// When the oldest operation for later was added, 0 if there is none.
    later_since_ns: AtomicU64,
    /// Something was added for later since the guard looked.
    batches: AtomicBool,
    pub(crate) seat: Seat<Waker>,
    spin: SpinBudget,
    /// A second descriptor of the driver's socket, to wait on without the lock.
    pub(crate) socket: OwnedFd,
    pub(crate) rooms: Rooms,
    pub(crate) life: Lifecycle,
    pub(crate) task: TaskSlot,
    pub(crate) local: Local,
    pub(crate) max_message_bytes: u32,
    /// Silence after which a peer counts as gone.
    pub(crate) timeout_ns: u64,
}

/// What the lock protects.
#[derive(Debug)]
struct State {
    shard: Shard<AnyDriver>,
    registry: Registry,
    operations: VecDeque<Operation>,
}

impl Core {
    pub(crate) fn new(
        shard: Shard<AnyDriver>,
        rooms: Rooms,
        life: Lifecycle,
        spin: SpinBudget,
    ) -> io::Result<Self> {
        let driver = shard.driver();
        let socket = driver.as_fd().try_clone_to_owned()?;
        let local = Local { address: driver.local_addr(), carriage: driver.carriage() };
        let config = shard.engine().config();
        let max_message_bytes = config.max_message_bytes;
        let timeout_ns = u64::try_from(config.timeout.as_nanos()).unwrap_or(NEVER_NS);
        Ok(Self {
            state: Mutex::new(State {
                shard,
                registry: Registry::default(),
                operations: VecDeque::new(),
            }),
            inbox: Inbox::new(),
            later_since_ns: AtomicU64::new(0),
            batches: AtomicBool::new(false),
            seat: Seat::new(),
            spin,
            socket,
            rooms,
            life,
            task: TaskSlot::default(),
            local,
            max_message_bytes,
            timeout_ns,
        })
    }

    pub(crate) fn local_addr(&self) -> SocketAddr {
        self.local.address
    }

    /// Whether this is a forked child; see [`Lifecycle::is_forked`].
    pub(crate) fn is_forked(&self) -> bool {
        self.life.is_forked()
    }

    /// Whether new calls can begin.
    pub(crate) fn check_open(&self) -> Result<(), CallError> {
        if self.is_forked() {
            return Err(CallError::Forked);
        }
        if let Some(error) = self.life.socket_error() {
            return Err(CallError::Socket(error));
        }
        if self.life.is_open() { Ok(()) } else { Err(CallError::Closed) }
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

    /// The clock of all deadlines.
    pub(crate) fn now_ns(&self) -> u64 {
        monotonic_ns()
    }

    /// Whether a deadline has come.
    pub(crate) fn is_past(&self, deadline_ns: u64) -> bool {
        deadline_ns != NEVER_NS && self.now_ns() >= deadline_ns
    }

    /// A point in time of the standard library on the clock of all deadlines.
    pub(crate) fn time_ns(&self, at: StdInstant) -> u64 {
        self.after_ns(at.saturating_duration_since(StdInstant::now()))
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

    /// Has an operation executed: here and now, unless somebody attends or comes at once.
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

    /// Has an operation executed with others: at the next [`Core::flush`], when there are many, or
    /// when [`Core::flush_if_old`] finds that the oldest has waited for long.
    pub(crate) fn submit_later(&self, operation: Operation) {
        let waiting = self.inbox.add_for_later(operation);
        if waiting == 1 {
            self.batches.store(true, Ordering::Relaxed);
            self.later_since_ns.store(self.now_ns(), Ordering::Relaxed);
        } else if waiting >= INBOX_MAX {
            // Whoever attends does not keep up.
            self.renew_deadline();
        } else if waiting >= LATER_MAX {
            self.flush();
        }
    }

    /// Sends an answer: with others if more requests wait already, since whoever answers will
    /// probably accept the next one at once.
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

    /// Executes what nobody attends to.
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

    /// Makes whoever sleeps take note of a new deadline outside the engine.
    pub(crate) fn renew_deadline(&self) {
        self.inbox.attend();
        self.serve_inbox();
    }

    /// Executes `first` or else the inbox, looks for packets up to `looks` times (unless something else is to be
    /// done), sends; then wakes whom it concerns.
    fn serve(&self, looks: u32, first: Option<Operation>) -> Turned {
        let mut wakes = Wakes::default();
        let mut state = lock(&self.state);
        let now_ns = self.now_ns();
        let now = Instant::from_nanos(now_ns);
        let State { shard, registry, operations } = &mut *state;
        let mut context =
            Context { registry, wakes: &mut wakes, rooms: &self.rooms, local: self.local };
        if let Some(operation) = first {
            ops::execute(operation, &mut shard.view(now), &mut context);
        } else {
            self.later_since_ns.store(0, Ordering::Relaxed);
            self.inbox.take(operations);
            while let Some(operation) = operations.pop_front() {
                ops::execute(operation, &mut shard.view(now), &mut context);
            }
        }
        let closes = self.close_if_due(now_ns, shard);
        let turn = match looks {
            0 => Ok(shard.push(now, &mut context)),
            _ => self.look(looks, now, shard, &mut context),
        };
        let turn = turn.map_err(|error| self.socket_failed(&error, context.wakes));
        self.rooms.expire(now_ns, &mut wakes);
        let next_ns = match &turn {
            Ok(turn) => turn.next.map_or(NEVER_NS, Instant::as_nanos),
            Err(()) => NEVER_NS,
        };
        let urgent = turn.as_ref().is_ok_and(|turn| turn.urgency == Urgency::Active);
        let deadline_ns = next_ns.min(self.own_deadline_ns());
        let kicked = self.seat.turned(Due { deadline_ns, urgent });
        drop(state);
        if closes {
            self.closed(&mut wakes);
        }
        if let Some(kicked) = kicked {
            kicked.kick();
        }
        let woke = wakes.len();
        wakes.wake();
        let more = next_ns <= now_ns;
        turn.map_or(Turned::default(), |turn| Turned {
            received: turn.work,
            woke,
            more: more || (looks > 0 && turn.rx == RxStatus::More),
        })
    }

    /// Turns up to `looks` times, as long as there is nothing but packets to look for.
    fn look(
        &self,
        looks: u32,
        now: Instant,
        shard: &mut Shard<AnyDriver>,
        context: &mut Context<'_>,
    ) -> io::Result<Turn> {
        let mut turn = shard.turn(now, context)?;
        for _ in 1..looks {
            if turn.work || turn.rx == RxStatus::More || !self.inbox.is_idle() {
                break;
            }
            turn = shard.turn(now, context)?;
        }
        Ok(turn)
    }

    /// The next time at which something is due here that the engine does not know of.
    fn own_deadline_ns(&self) -> u64 {
        self.life.closing_until_ns().unwrap_or(NEVER_NS).min(self.rooms.deadline_ns())
    }

    /// Begins to close; the second call changes nothing.
    pub(crate) fn close(&self) {
        if self.life.begin_close(self.now_ns()) {
            let mut wakes = Wakes::default();
            let refused = self.rooms.close(&mut wakes);
            wakes.wake();
            // Closing the port tells their clients.
            drop(refused);
        }
        self.renew_deadline();
    }

    /// Closes the port when all answers are through, or have had their time.
    fn close_if_due(&self, now_ns: u64, shard: &mut Shard<AnyDriver>) -> bool {
        let Some(until_ns) = self.life.closing_until_ns() else { return false };
        let now = Instant::from_nanos(now_ns);
        if self.rooms.answers.used().0 > 0 && now_ns < until_ns {
            shard.engine_mut().hurry_acknowledgements(now);
            return false;
        }
        shard.engine_mut().close_port(now, self.local.address.port());
        true
    }

    fn socket_failed(&self, error: &io::Error, wakes: &mut Wakes) {
        self.life.set_socket_error(error.into());
        self.closed(wakes);
    }

    fn closed(&self, wakes: &mut Wakes) {
        self.life.end(wakes);
        // Requests that were on their way into the queue, if the socket failed.
        drop(self.rooms.close(wakes));
        // The task holds a descriptor of the socket.
        wakes.add(self.task.take_waker());
    }

    /// Counters and gauges of this moment; zeros in a forked child.
    pub(crate) fn stats(&self) -> Stats {
        if self.is_forked() {
            return Stats::default();
        }
        let state = lock(&self.state);
        let driver = state.shard.driver();
        let capacity = driver.rx_capacity();
        let (calls, call_bytes) = self.rooms.calls.used();
        Stats {
            engine: state.shard.stats(),
            outstanding_calls: calls as u64,
            outstanding_bytes: call_bytes,
            unacknowledged_answer_bytes: self.rooms.answers.used().1,
            requests_waiting: self.rooms.requests.len_with_aside() as u64,
            dropped_by_system: driver.rx_dropped(),
            receive_capacity_bytes: capacity.bytes,
            receive_capacity_packets: capacity.packets,
        }
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

    fn flush_abandoned(&self) -> bool {
        self.flush();
        self.batches.swap(false, Ordering::Relaxed)
    }

    fn turn(&self) -> Turned {
        self.serve(1, None)
    }

    fn spin_turn(&self) -> Turned {
        self.serve(LOOKS_MAX, None)
    }

    fn sleep(&self, parker: &Parker, until_ns: u64) {
        parker.poll(self.socket.as_fd(), until_ns);
    }

    fn is_overdue(&self, deadline_ns: u64) -> bool {
        let late =
            deadline_ns != NEVER_NS && self.now_ns() > deadline_ns.saturating_add(OVERDUE_NS);
        let mut socket = [PollFd::new(self.socket.as_fd(), true, false)];
        late || poll_fds(&mut socket, Some(Duration::ZERO)).is_ok_and(|ready| ready > 0)
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
