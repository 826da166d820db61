//! The core of an endpoint: the shard behind its lock, and all that surrounds it.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::task::Waker;
use std::time::Duration;

use homa_core::{Carriage, Instant, Urgency};
use homa_io::driver::{Driver, RxStatus};
use homa_io::shard::Turn;
use homa_io::{AnyDriver, Shard};
use homa_sys::{PollFd, fork_generation, forked_since, monotonic_ns, poll_fds};

use super::accept::AcceptQueue;
use super::context::{Context, Registry};
use super::ops::{self, Operation};
use super::room::{Limits, Room};
use super::rpc::{Role, RpcState};
use super::spin::SpinBudget;
use super::waiters::Waiters;
use super::wakes::Wakes;
use crate::drive::inbox::{Added, Inbox};
use crate::drive::parker::Parker;
use crate::drive::seat::{Due, Kick, NEVER_NS, Seat};
use crate::drive::sync::{Mutex, lock};
use crate::drive::wait::{Host, Spun, Turned};
use crate::{EndpointBuilder, SocketError, Stats};

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

/// Open, closing (answers are finished first), closed.
const OPEN: u8 = 0;
const CLOSING: u8 = 1;
const CLOSED: u8 = 2;

/// Everything that handles, calls, the guard and tasks share.
#[derive(Debug)]
pub(crate) struct Core {
    state: Mutex<State>,
    pub(crate) inbox: Inbox<Operation>,
    /// When the oldest operation for later was added, 0 if there is none.
    later_since_ns: AtomicU64,
    /// Something was added for later since the guard looked.
    batches: AtomicBool,
    pub(crate) seat: Seat<Waker>,
    /// A second descriptor of the driver's socket, to wait on without the lock.
    pub(crate) socket: OwnedFd,
    pub(crate) accept: AcceptQueue,
    pub(crate) calls: Room,
    pub(crate) answers: Room,
    spin: SpinBudget,
    phase: AtomicU8,
    linger_until_ns: AtomicU64,
    linger: Duration,
    closing: Mutex<Waiters>,
    socket_error: OnceLock<SocketError>,
    fork_generation: u64,
    pub(crate) local_addr: SocketAddr,
    /// How packets travel.
    pub(crate) carriage: Carriage,
    pub(crate) max_message_bytes: u32,
    /// Silence after which a peer counts as gone.
    pub(crate) timeout_ns: u64,
    /// A driver task runs in some runtime.
    pub(crate) has_task: AtomicBool,
    /// Its waker.
    pub(crate) task: Mutex<Option<Waker>>,
    /// It has let others run and comes back when they have.
    pub(crate) task_returns: AtomicBool,
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
        builder: &EndpointBuilder,
        shard: Shard<AnyDriver>,
        accept: AcceptQueue,
    ) -> io::Result<Self> {
        let socket = shard.driver().as_fd().try_clone_to_owned()?;
        let local_addr = shard.driver().local_addr();
        let carriage = shard.driver().carriage();
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
            socket,
            accept,
            calls: Room::new(Limits::Each {
                messages_max: builder.outstanding_calls_max,
                bytes_max: builder.outstanding_bytes_max,
            }),
            answers: Room::new(Limits::Shared { bytes_max: builder.outstanding_bytes_max }),
            spin: SpinBudget::new(builder.spin, builder.busy_poll),
            phase: AtomicU8::new(OPEN),
            linger_until_ns: AtomicU64::new(NEVER_NS),
            linger: builder.linger,
            closing: Mutex::default(),
            socket_error: OnceLock::new(),
            fork_generation: fork_generation(),
            local_addr,
            carriage,
            max_message_bytes: builder.config.max_message_bytes,
            timeout_ns: u64::try_from(builder.config.timeout.as_nanos()).unwrap_or(NEVER_NS),
            has_task: AtomicBool::new(false),
            task: Mutex::new(None),
            task_returns: AtomicBool::new(false),
        })
    }

    /// Whether this is a forked child of the process that made the endpoint: nothing here may be
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

    pub(crate) fn socket_error(&self) -> Option<SocketError> {
        self.socket_error.get().copied()
    }

    /// Has an operation executed: here and now, unless somebody attends or comes at once.
    pub(crate) fn submit(&self, operation: Operation) {
        if self.task_returns.load(Ordering::Relaxed) {
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
            self.later_since_ns.store(monotonic_ns(), Ordering::Relaxed);
        } else if waiting >= INBOX_MAX {
            // Whoever attends does not keep up.
            self.renew_deadline();
        } else if waiting >= LATER_MAX {
            self.flush();
        }
    }

    /// Executes operations for later if the oldest has waited for long.
    pub(crate) fn flush_if_old(&self) {
        let since_ns = self.later_since_ns.load(Ordering::Relaxed);
        if since_ns != 0 && monotonic_ns().saturating_sub(since_ns) > LATER_NS {
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
        let now_ns = monotonic_ns();
        let now = Instant::from_nanos(now_ns);
        let State { shard, registry, operations } = &mut *state;
        let mut context = Context { registry, wakes: &mut wakes, core: self };
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
        self.calls.expire(now_ns, &mut wakes);
        self.answers.expire(now_ns, &mut wakes);
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
        let linger_ns = match self.phase.load(Ordering::Acquire) {
            CLOSING => self.linger_until_ns.load(Ordering::Acquire),
            _ => NEVER_NS,
        };
        linger_ns.min(self.calls.deadline_ns()).min(self.answers.deadline_ns())
    }

    fn socket_failed(&self, error: &io::Error, wakes: &mut Wakes) {
        // Only the first reason counts.
        let _ = self.socket_error.set(error.into());
        self.closed(wakes);
    }

    /// Begins to close; the second call changes nothing.
    pub(crate) fn begin_close(&self) {
        let until_ns = monotonic_ns()
            .saturating_add(u64::try_from(self.linger.as_nanos()).unwrap_or(u64::MAX));
        let began =
            self.phase.compare_exchange(OPEN, CLOSING, Ordering::AcqRel, Ordering::Acquire).is_ok();
        if began {
            self.linger_until_ns.store(until_ns, Ordering::Release);
            let mut wakes = Wakes::default();
            let refused = self.accept.close(&mut wakes);
            self.calls.wake_all(&mut wakes);
            self.answers.wake_all(&mut wakes);
            wakes.wake();
            // Closing the port tells their clients.
            drop(refused);
        }
        self.renew_deadline();
    }

    /// Closes the port when all answers are through, or have had their time.
    fn close_if_due(&self, now_ns: u64, shard: &mut Shard<AnyDriver>) -> bool {
        if self.phase.load(Ordering::Acquire) != CLOSING {
            return false;
        }
        let answers_left = self.answers.used().0 > 0;
        let now = Instant::from_nanos(now_ns);
        if answers_left && now_ns < self.linger_until_ns.load(Ordering::Acquire) {
            shard.engine_mut().hurry_acknowledgements(now);
            return false;
        }
        shard.engine_mut().close_port(now, self.local_addr.port());
        true
    }

    fn closed(&self, wakes: &mut Wakes) {
        self.phase.store(CLOSED, Ordering::Release);
        // Requests that were on their way into the queue, if the socket failed.
        drop(self.accept.close(wakes));
        self.calls.wake_all(wakes);
        self.answers.wake_all(wakes);
        lock(&self.closing).take_all(wakes);
        // The task holds a descriptor of the socket.
        wakes.add(lock(&self.task).take());
    }

    /// Gives back the room that an RPC's outgoing message took.
    pub(crate) fn release_charge(&self, role: Role, state: &mut RpcState, wakes: &mut Wakes) {
        let Some(charge) = state.charge.take() else { return };
        match role {
            Role::Client => self.calls.leave(charge, wakes),
            Role::Server => {
                self.answers.leave(charge, wakes);
                // Requests of its client may have been kept from those who accept.
                self.accept.look_aside(wakes);
            }
        }
    }

    /// Registers for the end of closing, unless it is closed.
    pub(crate) fn wait_closed(&self, ticket: &mut Option<u64>, waker: &Waker) -> bool {
        let mut closing = lock(&self.closing);
        if self.is_closed() {
            return true;
        }
        closing.register(ticket, waker);
        false
    }

    pub(crate) fn stats(&self) -> Stats {
        let state = lock(&self.state);
        let driver = state.shard.driver();
        let capacity = driver.rx_capacity();
        let (calls, call_bytes) = self.calls.used();
        Stats {
            engine: state.shard.stats(),
            outstanding_calls: calls as u64,
            outstanding_bytes: call_bytes,
            unacknowledged_answer_bytes: self.answers.used().1,
            requests_waiting: self.accept.len_with_aside() as u64,
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
            deadline_ns != NEVER_NS && monotonic_ns() > deadline_ns.saturating_add(OVERDUE_NS);
        let mut socket = [PollFd::new(self.socket.as_fd(), true, false)];
        late || poll_fds(&mut socket, Some(Duration::ZERO)).is_ok_and(|ready| ready > 0)
    }

    fn now_ns(&self) -> u64 {
        monotonic_ns()
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
