//! The seat: who looks after socket and timers.

use super::sync::{Arc, Mutex, lock};

/// "No deadline", in nanoseconds of the clock the deadlines are given in.
pub(crate) const NEVER_NS: u64 = u64::MAX;

/// Looks of the guard at one and the same idle holder after which it rests until that holder
/// leaves.
const LOOKS_BEFORE_REST: u32 = if cfg!(loom) { 1 } else { 8 };

/// How a holder, a blocked waiter or the guard is woken. Waking one that is not asleep must make
/// its next sleep end at once.
pub(crate) trait Kick: Clone {
    /// Wakes it.
    fn kick(&self);
}

impl Kick for std::task::Waker {
    fn kick(&self) {
        self.wake_by_ref();
    }
}

/// Work that a turn leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Due {
    /// When the next turn is due at the latest, or [`NEVER_NS`].
    pub(crate) deadline_ns: u64,
    /// A message is half sent or half received: peers wait for every turn.
    pub(crate) urgent: bool,
}

/// Kinds of waiters that drive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A thread that waits. It has the seat until it leaves.
    Thread,
    /// A task of a runtime, which sleeps whenever it is not polled. While it sleeps others may
    /// take the seat, and it is not kicked then: its runtime may not be running.
    Task,
    /// The guard. Any waiter takes the seat from it, and kicks it out of its sleep.
    Guard,
}

/// One seat, for which waiters compete. All methods take a short lock and wake no thread under it.
/// Invariants:
///
/// * the seat is never empty while a blocked waiter is listed: leaving promotes one;
/// * a holder that is asleep sleeps no longer than the deadline of the latest turn, or has been
///   kicked since;
/// * the guard rests only while somebody else holds the seat, and is kicked when it is left empty;
/// * it dozes only while nothing is urgent or the seat is held, and is kicked when the seat is
///   empty and something is urgent.
#[derive(Debug)]
pub(crate) struct Seat<W> {
    state: Arc<Mutex<State<W>>>,
}

impl<W> Clone for Seat<W> {
    fn clone(&self) -> Self {
        Self { state: self.state.clone() }
    }
}

#[derive(Debug)]
struct State<W> {
    holder: Option<Holder<W>>,
    /// Blocked waiters that take the seat over when it is left, newest last.
    blocked: Vec<Candidate<W>>,
    /// Work that the latest turn left.
    due: Due,
    /// Turns so far.
    turns: u64,
    last_ticket: u64,
    guard: Guard<W>,
}

#[derive(Debug)]
struct Holder<W> {
    ticket: Ticket,
    waker: W,
    kind: Kind,
    /// While it sleeps: until when.
    asleep_until_ns: Option<u64>,
}

impl<W> Holder<W> {
    fn is_evictable(&self) -> bool {
        match self.kind {
            Kind::Thread => false,
            Kind::Task => self.asleep_until_ns.is_some(),
            Kind::Guard => true,
        }
    }
}

#[derive(Debug)]
struct Candidate<W> {
    ticket: Ticket,
    kind: Kind,
    waker: W,
}

#[derive(Debug)]
struct Guard<W> {
    /// Set while it rests until the holder leaves.
    resting: Option<W>,
    /// Set while it sleeps for so long that it must be kicked when something is urgent.
    dozing: Option<W>,
    seen: Option<Ticket>,
    seen_turns: u64,
    looks: u32,
}

/// Names one stay in the seat or in the list of the blocked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Ticket(u64);

/// The right and duty to drive. Dropping it passes the seat on.
#[derive(Debug)]
pub(crate) struct Tenure<W: Kick> {
    seat: Seat<W>,
    ticket: Ticket,
}

/// A place among the blocked. Dropping it gives the place up; if it was promoted meanwhile, the
/// seat is passed on.
#[derive(Debug)]
pub(crate) struct Blocked<W: Kick> {
    seat: Seat<W>,
    ticket: Ticket,
    given_up: bool,
}

/// Result of [`Seat::join`].
#[derive(Debug)]
pub(crate) enum Joined<W: Kick> {
    /// The seat.
    Seat(Tenure<W>),
    /// A place in the list; the holder passes the seat on when it leaves.
    Blocked(Blocked<W>),
}

/// Next action of the guard.
#[derive(Debug)]
pub(crate) enum Look<W: Kick> {
    /// Drive: the seat was left.
    Drive(Tenure<W>),
    /// Look again after a short tick.
    Soon,
    /// Look again after a long tick, or when kicked because something is urgent.
    Later,
    /// Sleep until kicked.
    Rest,
    /// Sleep until kicked, but look again some time: a task has the seat.
    RestShortly,
}

impl<W: Kick> Seat<W> {
    pub(crate) fn new() -> Self {
        let state = State {
            holder: None,
            blocked: Vec::new(),
            due: Due { deadline_ns: NEVER_NS, urgent: false },
            turns: 0,
            last_ticket: 0,
            guard: Guard { resting: None, dozing: None, seen: None, seen_turns: 0, looks: 0 },
        };
        Self { state: Arc::new(Mutex::new(state)) }
    }

    /// Takes the seat if it is empty, the guard's, or a sleeping task's; else a place among the
    /// blocked. `waker` is kicked when the seat is passed on to it, and while it holds the seat
    /// whenever it has to look again.
    #[inline]
    pub(crate) fn join(&self, kind: Kind, waker: &W) -> Joined<W> {
        let mut state = lock(&self.state);
        let ticket = state.next_ticket();
        if state.holder.as_ref().is_some_and(|holder| !holder.is_evictable()) {
            state.blocked.push(Candidate { ticket, kind, waker: waker.clone() });
            return Joined::Blocked(Blocked { seat: self.clone(), ticket, given_up: false });
        }
        let holder = Holder { ticket, kind, waker: waker.clone(), asleep_until_ns: None };
        let evicted = state.holder.replace(holder);
        drop(state);
        if let Some(guard) = evicted.filter(|holder| holder.kind == Kind::Guard) {
            guard.waker.kick();
        }
        Joined::Seat(Tenure { seat: self.clone(), ticket })
    }

    /// Reports the end of a turn, by whomever, and what it left. Call it under the lock of the
    /// state that turned, so that the latest report counts; kick what it returns after unlocking.
    #[must_use]
    pub(crate) fn turned(&self, due: Due) -> Option<W> {
        let mut state = lock(&self.state);
        state.due = due;
        state.turns = state.turns.wrapping_add(1);
        let Some(holder) = state.holder.as_mut() else {
            return if due.urgent { state.guard.dozing.take() } else { None };
        };
        if due.deadline_ns >= holder.asleep_until_ns? {
            return None;
        }
        // One kick is enough until it sleeps again.
        holder.asleep_until_ns = Some(0);
        Some(holder.waker.clone())
    }

    /// Operations were added that wait for others: returns the guard's waker, to be kicked, if it
    /// sleeps until something else happens.
    #[must_use]
    pub(crate) fn added_for_later(&self) -> Option<W> {
        let mut state = lock(&self.state);
        let drives = state.holder.as_mut().filter(|holder| holder.kind == Kind::Guard);
        if let Some(holder) = drives.filter(|holder| holder.asleep_until_ns.is_some()) {
            holder.asleep_until_ns = Some(0);
            return Some(holder.waker.clone());
        }
        state.guard.resting.take()
    }

    /// When the next turn is due, as the latest one said.
    pub(crate) fn deadline_ns(&self) -> u64 {
        lock(&self.state).due.deadline_ns
    }

    /// The guard's look, once per tick and when kicked: takes a seat that was empty since the last
    /// look, or whose task sleeps although a turn is due, as `overdue(deadline_ns)` says.
    pub(crate) fn guard_look(&self, waker: &W, overdue: impl Fn(u64) -> bool) -> Look<W> {
        let mut state = lock(&self.state);
        state.guard.resting = None;
        state.guard.dozing = None;
        let seen = state.holder.as_ref().map_or(Ticket(state.last_ticket), |holder| holder.ticket);
        let same = state.guard.seen == Some(seen);
        let turned = state.guard.seen_turns != state.turns;
        state.guard.looks = if same && !turned { state.guard.looks.saturating_add(1) } else { 0 };
        state.guard.seen = Some(seen);
        state.guard.seen_turns = state.turns;
        let Some(holder) = &state.holder else {
            return if same { self.seat_guard(&mut state, waker) } else { state.look_again(waker) };
        };
        let sleeping_task = holder.is_evictable();
        if same && !turned && sleeping_task && overdue(state.due.deadline_ns) {
            return self.seat_guard(&mut state, waker);
        }
        if state.guard.looks < LOOKS_BEFORE_REST {
            return state.look_again(waker);
        }
        state.guard.resting = Some(waker.clone());
        if sleeping_task { Look::RestShortly } else { Look::Rest }
    }

    fn seat_guard(&self, state: &mut State<W>, waker: &W) -> Look<W> {
        let ticket = state.next_ticket();
        let waker = waker.clone();
        state.holder = Some(Holder { ticket, waker, kind: Kind::Guard, asleep_until_ns: None });
        Look::Drive(Tenure { seat: self.clone(), ticket })
    }

    #[inline]
    fn leave(&self, ticket: Ticket) {
        let mut state = lock(&self.state);
        if state.holder.as_ref().is_none_or(|holder| holder.ticket != ticket) {
            // A guard that was evicted.
            return;
        }
        let next = state.blocked.pop().map(|Candidate { ticket, kind, waker }| {
            let holder = Holder { ticket, kind, waker: waker.clone(), asleep_until_ns: None };
            (holder, waker)
        });
        let (holder, kicked) = match next {
            Some((holder, waker)) => (Some(holder), Some(waker)),
            None => (None, state.take_guard_to_kick()),
        };
        state.holder = holder;
        drop(state);
        if let Some(waker) = kicked {
            waker.kick();
        }
    }
}

impl<W> State<W> {
    fn next_ticket(&mut self) -> Ticket {
        self.last_ticket += 1;
        Ticket(self.last_ticket)
    }

    fn look_again(&mut self, waker: &W) -> Look<W>
    where
        W: Kick,
    {
        if self.due.urgent {
            return Look::Soon;
        }
        self.guard.dozing = Some(waker.clone());
        Look::Later
    }

    /// The guard's waker, if the guard is to be kicked when the seat is left empty.
    fn take_guard_to_kick(&mut self) -> Option<W> {
        let dozing = if self.due.urgent { self.guard.dozing.take() } else { None };
        dozing.or_else(|| self.guard.resting.take())
    }

    fn holder_mut(&mut self, ticket: Ticket) -> Option<&mut Holder<W>> {
        self.holder.as_mut().filter(|holder| holder.ticket == ticket)
    }
}

impl<W: Kick> Tenure<W> {
    /// About to sleep: says until when at most (`also_ns` or the deadline of the latest turn,
    /// whichever is earlier); from now on it is kicked if that becomes earlier. `None`: evicted,
    /// stop driving.
    pub(crate) fn fall_asleep(&self, also_ns: u64) -> Option<u64> {
        let mut state = lock(&self.seat.state);
        let until_ns = state.due.deadline_ns.min(also_ns);
        state.holder_mut(self.ticket)?.asleep_until_ns = Some(until_ns);
        Some(until_ns)
    }

    /// Awake again: no kick is needed. `false`: evicted, stop driving.
    #[must_use]
    pub(crate) fn wake_up(&self) -> bool {
        let mut state = lock(&self.seat.state);
        state.holder_mut(self.ticket).map(|holder| holder.asleep_until_ns = None).is_some()
    }

    /// Changes who is kicked (a task may move to another waker).
    pub(crate) fn set_waker(&self, waker: &W) {
        if let Some(holder) = lock(&self.seat.state).holder_mut(self.ticket) {
            holder.waker = waker.clone();
        }
    }
}

impl<W: Kick> Drop for Tenure<W> {
    fn drop(&mut self) {
        self.seat.leave(self.ticket);
    }
}

impl<W: Kick> Blocked<W> {
    /// After a kick: the seat, if it was passed on to this waiter.
    pub(crate) fn promoted(mut self) -> Result<Tenure<W>, Self> {
        if lock(&self.seat.state).holder_mut(self.ticket).is_none() {
            return Err(self);
        }
        let tenure = Tenure { seat: self.seat.clone(), ticket: self.ticket };
        self.given_up = true;
        Ok(tenure)
    }
}

impl<W: Kick> Drop for Blocked<W> {
    fn drop(&mut self) {
        if self.given_up {
            return;
        }
        let mut state = lock(&self.seat.state);
        // Tickets rise, and the newest leave first.
        if let Ok(place) =
            state.blocked.binary_search_by_key(&self.ticket, |candidate| candidate.ticket)
        {
            state.blocked.remove(place);
            return;
        }
        drop(state);
        self.seat.leave(self.ticket);
    }
}
