//! Requests that wait to be accepted, in turns of their clients: no client waits for more than one
//! request of each other client. Clients that let many responses wait for them have no turn until
//! they take some, since replying to them would block.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::Waker;

use homa_io::Message;

use super::given_up::GivenUp;
use super::origin::Origin;
use super::room::Room;
use super::turns::{Load, Turns};
use super::waiters::{Ticket, Waiters};
use super::wakes::Wakes;
use crate::drive::seat::NEVER_NS;
use crate::drive::sync::{Mutex, MutexGuard, lock};

/// Bytes of requests that may wait to be accepted. More stay in the receive memory of the engine,
/// which holds their senders back.
const QUEUED_BYTES_MAX: usize = 64 << 20;

/// A request may wait in the queue for one part in so many of the time that its client gives it.
const QUEUE_PART: u64 = 4;

/// Shortest time between two looks for requests that waited for too long, in ns: each look is at
/// all that wait.
const LOOK_NS: u64 = 1_000_000;

/// How requests are handed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ServingMode {
    /// When complete.
    Whole,
    /// At their first byte.
    Streaming,
}

/// The queue between the thread that drives and those that accept.
#[derive(Debug)]
pub(crate) struct AcceptQueue {
    state: Mutex<State>,
    requests_max: usize,
    /// Longest time in the queue, in ns.
    queue_max_ns: u64,
    /// `None`: the endpoint does not serve.
    mode: Option<ServingMode>,
    /// Requests in the queue; readable without the lock.
    length: AtomicUsize,
    /// Of them those of clients that have no turn now.
    aside: AtomicUsize,
    /// Their bytes.
    bytes: AtomicUsize,
    /// Complete requests wait in the engine for room here.
    more: AtomicBool,
    /// Requests that waited for too long, ever.
    overdue: AtomicU64,
    given_up: GivenUp,
    /// When to look for such, or [`NEVER_NS`]: not after the first in the queue is overdue, but for
    /// [`LOOK_NS`]. It may be one that was accepted meanwhile.
    look_at_ns: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    requests: Turns<Queued>,
    waiters: Waiters,
    closed: bool,
    /// No look for overdue requests before.
    next_look_ns: u64,
}

/// A request in the queue.
#[derive(Debug)]
pub(crate) struct Queued {
    pub(crate) origin: Origin,
    /// Empty for a stream.
    pub(crate) body: Message,
    /// When it is not accepted any more, or [`NEVER_NS`].
    pub(crate) refuse_at_ns: u64,
}

/// Result of [`AcceptQueue::pop_or_wait`].
#[derive(Debug)]
pub(crate) enum Next {
    Request(Queued),
    /// It waited for too long and is to be refused.
    Late(Origin),
    /// There will be none.
    Closed,
    /// The waker is registered.
    Waiting,
}

impl AcceptQueue {
    pub(crate) fn new(requests_max: usize, queue_max_ns: u64, mode: Option<ServingMode>) -> Self {
        Self {
            state: Mutex::default(),
            requests_max,
            queue_max_ns,
            mode,
            length: AtomicUsize::new(0),
            aside: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            more: AtomicBool::new(false),
            overdue: AtomicU64::new(0),
            given_up: GivenUp::default(),
            look_at_ns: AtomicU64::new(NEVER_NS),
        }
    }

    pub(crate) fn mode(&self) -> Option<ServingMode> {
        self.mode
    }

    pub(crate) fn is_streaming(&self) -> bool {
        self.mode == Some(ServingMode::Streaming)
    }

    /// When a request that arrived at `arrived_ns` is refused if it was not accepted: after the
    /// longest time in the queue, or a part of what its client gives it, so that what is answered
    /// is answered in good time and the rest can be called elsewhere.
    #[inline]
    pub(crate) fn refuse_at_ns(&self, arrived_ns: u64, deadline_ns: Option<u64>) -> u64 {
        let of_client =
            deadline_ns.map_or(NEVER_NS, |at| at.saturating_sub(arrived_ns) / QUEUE_PART);
        arrived_ns.saturating_add(self.queue_max_ns.min(of_client))
    }

    /// Requests that were given up, also after they were accepted.
    pub(crate) fn given_up(&self) -> &GivenUp {
        &self.given_up
    }

    /// Requests of `client` in the queue.
    pub(crate) fn waiting_of(&self, client: SocketAddr) -> usize {
        self.lock().requests.load_of(client).0.items
    }

    /// Whether there is room for a request of `client`: it may have less than is free beyond what
    /// its host has, of the places as of the bytes.
    pub(crate) fn has_room(&self, client: SocketAddr) -> bool {
        let load = Load {
            items: self.length.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
        };
        // Then nobody can have more.
        if load.items <= self.requests_max / 4 && load.bytes <= QUEUED_BYTES_MAX / 4 {
            return true;
        }
        let (of_client, of_host) = self.lock().requests.load_of(client);
        let share = |max: usize, used, host| max.saturating_sub(used).saturating_sub(host);
        of_client.items < share(self.requests_max, load.items, of_host.items)
            && of_client.bytes < share(QUEUED_BYTES_MAX, load.bytes, of_host.bytes)
    }

    /// Requests that can be accepted at once.
    pub(crate) fn len(&self) -> usize {
        self.len_with_aside().saturating_sub(self.aside.load(Ordering::Relaxed))
    }

    /// Requests in the queue, also those of clients that have no turn now.
    pub(crate) fn len_with_aside(&self) -> usize {
        self.length.load(Ordering::Relaxed)
    }

    /// Requests that were refused because they waited for too long.
    pub(crate) fn overdue(&self) -> u64 {
        self.overdue.load(Ordering::Relaxed)
    }

    /// A client has taken a response: its requests may be accepted again.
    #[inline]
    pub(crate) fn look_aside(&self, wakes: &mut Wakes) {
        if self.aside.load(Ordering::Relaxed) > 0 {
            wakes.add(self.lock().waiters.take_newest());
        }
    }

    /// Says whether requests wait for room in the queue.
    pub(crate) fn set_more(&self, more: bool) {
        self.more.store(more, Ordering::Release);
    }

    /// Whether requests wait for room in the queue.
    pub(crate) fn has_more(&self) -> bool {
        self.more.load(Ordering::Acquire)
    }

    /// Adds a request, or gives it back if nothing is accepted any more. Returns who is to be
    /// woken: the newest waiter, whose caches are warm and who probably drives.
    #[inline]
    pub(crate) fn push(&self, request: Queued) -> Result<Option<Waker>, Queued> {
        let mut state = self.lock();
        if state.closed {
            return Err(request);
        }
        if request.refuse_at_ns < self.look_at_ns.load(Ordering::Relaxed) {
            let look_at_ns = request.refuse_at_ns.max(state.next_look_ns);
            self.look_at_ns.store(look_at_ns, Ordering::Relaxed);
        }
        let bytes = request.body.len();
        state.requests.push(request.origin.client(), request, bytes);
        self.publish(&state);
        Ok(state.waiters.take_newest())
    }

    /// Nothing can be accepted from now on.
    pub(crate) fn close(&self, wakes: &mut Wakes) -> Vec<Queued> {
        let mut state = self.lock();
        state.closed = true;
        let refused = state.requests.take_all();
        self.publish(&state);
        state.waiters.take_all(wakes);
        refused
    }

    /// When [`AcceptQueue::take_overdue`] has something to do, in ns, or [`NEVER_NS`].
    #[inline]
    pub(crate) fn look_at_ns(&self) -> u64 {
        self.look_at_ns.load(Ordering::Relaxed)
    }

    /// Takes out requests that waited for too long and are to be refused.
    #[cold]
    pub(crate) fn take_overdue(&self, now_ns: u64) -> Vec<Queued> {
        let mut state = self.lock();
        let mut look_at_ns = NEVER_NS;
        let mut overdue = state.requests.take_over(|request| {
            let overdue = request.refuse_at_ns <= now_ns;
            if !overdue {
                look_at_ns = look_at_ns.min(request.refuse_at_ns);
            }
            overdue
        });
        state.next_look_ns = now_ns.saturating_add(LOOK_NS);
        self.look_at_ns.store(look_at_ns.max(state.next_look_ns), Ordering::Relaxed);
        self.publish(&state);
        drop(state);
        // Those that their clients have given up are not refused.
        overdue.retain(|request| !request.origin.take_given_up(&self.given_up));
        self.overdue.fetch_add(overdue.len() as u64, Ordering::Relaxed);
        overdue
    }

    /// The next request of a client that lets few of `responses` wait for it, or registers `waker`
    /// for it.
    #[inline]
    pub(crate) fn pop_or_wait(
        &self,
        responses: &Room,
        ticket: &mut Option<Ticket>,
        waker: &Waker,
        now_ns: impl FnOnce() -> u64,
    ) -> Next {
        let mut state = self.lock();
        let mut looks = 0;
        let request = loop {
            match state.requests.pop(|client| responses.is_modest(client)) {
                // Given up by its client while it waited: it is skipped.
                Some(request) if request.origin.take_given_up(&self.given_up) => {}
                Some(request) => break request,
                // A response taken before this client was put aside has woken no one.
                None if looks == 0 && state.requests.items_aside() > 0 => looks += 1,
                None => {
                    self.publish(&state);
                    if state.closed {
                        return Next::Closed;
                    }
                    state.waiters.register(ticket, waker);
                    return Next::Waiting;
                }
            }
        };
        self.publish(&state);
        if request.refuse_at_ns != NEVER_NS && now_ns() >= request.refuse_at_ns {
            self.overdue.fetch_add(1, Ordering::Relaxed);
            // Its place among those who wait is kept: it asks again at once.
            return Next::Late(request.origin);
        }
        if let Some(ticket) = ticket.take() {
            state.waiters.withdraw(ticket);
        }
        Next::Request(request)
    }

    /// A waiter goes away. If a request was meant for it, another one is woken instead.
    pub(crate) fn withdraw(&self, ticket: Ticket) {
        let mut state = self.lock();
        if state.waiters.withdraw(ticket) || state.requests.is_empty() {
            return;
        }
        let next = state.waiters.take_newest();
        drop(state);
        if let Some(next) = next {
            next.wake();
        }
    }

    /// Tells those without the lock how much is in the queue.
    fn publish(&self, state: &State) {
        let load = state.requests.load();
        self.length.store(load.items, Ordering::Relaxed);
        self.aside.store(state.requests.items_aside(), Ordering::Relaxed);
        self.bytes.store(load.bytes, Ordering::Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}
