//! Every interleaving of the driving protocol, on a model: a socket is a list of packets, a packet
//! names the waiter it makes ready.

use std::collections::VecDeque;
use std::task::Poll;

use loom::sync::{Arc, Condvar, Mutex};
use loom::thread;

use super::batches::Batches;
use super::guard;
use super::inbox::{Added, Inbox};
use super::seat::{Due, Joined, Kick, Kind, NEVER_NS, Seat, Tenure};
use super::wait::{Host, Sleeper, Spun, Turned, wait};

/// A kick that is remembered.
#[derive(Clone)]
struct Bell(Arc<(Mutex<bool>, Condvar)>);

impl Bell {
    fn new() -> Self {
        Self(Arc::new((Mutex::new(false), Condvar::new())))
    }
}

impl Kick for Bell {
    fn kick(&self) {
        *self.0.0.lock().unwrap() = true;
        self.0.1.notify_one();
    }
}

impl Sleeper for Bell {
    type Waker = Self;

    fn waker(&self) -> &Self {
        self
    }

    fn take_kick(&self) -> bool {
        std::mem::take(&mut *self.0.0.lock().unwrap())
    }

    fn block(&self, _until_ns: u64) {
        let mut kicked = self.0.0.lock().unwrap();
        while !*kicked {
            kicked = self.0.1.wait(kicked).unwrap();
        }
    }
}

#[derive(Default)]
struct Socket {
    packets: Vec<usize>,
    /// Who sleeps until packets come: a guard that was evicted may still do so beside the leader.
    pollers: Vec<Bell>,
}

/// What the lock protects: operations are requests, each answered by a timer or by a packet.
#[derive(Default)]
struct State {
    executed: Vec<usize>,
    /// Waiters to be made ready by the next turn (a timer that is due).
    due: Vec<usize>,
}

#[derive(Default)]
struct Slot {
    ready: bool,
    waker: Option<Bell>,
}

struct Model {
    seat: Seat<Bell>,
    inbox: Inbox<usize>,
    batches: Batches,
    state: Mutex<State>,
    socket: Mutex<Socket>,
    slots: [Mutex<Slot>; 3],
}

impl Model {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            seat: Seat::new(),
            inbox: Inbox::new(),
            batches: Batches::new(),
            state: Mutex::new(State::default()),
            socket: Mutex::new(Socket::default()),
            slots: [0; 3].map(|_| Mutex::new(Slot::default())),
        })
    }

    /// An operation that asks for a timer, which makes `slot` ready in a later turn.
    fn submit(&self, slot: usize) {
        if self.inbox.attend_alone() {
            self.execute(slot);
            while !self.inbox.try_leave() {
                self.serve(false);
            }
        } else if self.inbox.add(slot, 100) == Added::Attend {
            self.serve(false);
            while !self.inbox.try_leave() {
                self.serve(false);
            }
        }
    }

    /// The same operation, left to a flush.
    fn submit_later(&self, slot: usize) {
        if self.inbox.add_for_later(slot) == 1 {
            self.batches.begin(&self.seat);
        }
    }

    /// An operation executed without the inbox.
    fn execute(&self, slot: usize) {
        let mut state = self.state.lock().unwrap();
        state.executed.push(slot);
        state.due.push(slot);
        let kicked = self.seat.turned(Due { deadline_ns: 0, urgent: true });
        drop(state);
        if let Some(kicked) = kicked {
            kicked.kick();
        }
    }

    fn deliver(&self, slot: usize) {
        let mut socket = self.socket.lock().unwrap();
        socket.packets.push(slot);
        let pollers = std::mem::take(&mut socket.pollers);
        drop(socket);
        pollers.iter().for_each(Kick::kick);
    }

    fn serve(&self, receive: bool) -> bool {
        let mut state = self.state.lock().unwrap();
        let mut operations = VecDeque::new();
        let mut ready = Vec::new();
        self.inbox.take(&mut operations);
        if receive {
            ready.append(&mut self.socket.lock().unwrap().packets);
            ready.append(&mut state.due);
        }
        for slot in operations {
            state.executed.push(slot);
            state.due.push(slot);
        }
        let deadline_ns = if state.due.is_empty() { NEVER_NS } else { 0 };
        let kicked = self.seat.turned(Due { deadline_ns, urgent: deadline_ns == 0 });
        drop(state);
        if let Some(kicked) = kicked {
            kicked.kick();
        }
        for slot in &ready {
            self.make_ready(*slot);
        }
        !ready.is_empty()
    }

    fn make_ready(&self, slot: usize) {
        let mut slot = self.slots[slot].lock().unwrap();
        slot.ready = true;
        let waker = slot.waker.take();
        drop(slot);
        if let Some(waker) = waker {
            waker.kick();
        }
    }

    fn wait_for(&self, slot: usize) {
        let done = wait(self, &Bell::new(), NEVER_NS, |waker| self.poll(slot, waker));
        assert_eq!(done, Some(()));
    }

    fn poll(&self, slot: usize, waker: &Bell) -> Poll<()> {
        let mut slot = self.slots[slot].lock().unwrap();
        if slot.ready {
            return Poll::Ready(());
        }
        slot.waker = Some(waker.clone());
        Poll::Pending
    }
}

impl Host for Model {
    type Waker = Bell;
    type Sleeper = Bell;

    fn seat(&self) -> &Seat<Bell> {
        &self.seat
    }

    fn attend(&self) {
        self.inbox.attend();
    }

    fn try_leave(&self) -> bool {
        self.inbox.try_leave()
    }

    fn flush(&self) {
        if self.inbox.attend_if_abandoned() {
            self.serve(false);
            while !self.inbox.try_leave() {
                self.serve(false);
            }
        }
    }

    fn batches(&self) -> &Batches {
        &self.batches
    }

    fn turn(&self) -> Turned {
        Turned { received: self.serve(true), ..Turned::default() }
    }

    fn is_overdue(&self, deadline_ns: u64) -> bool {
        deadline_ns == 0 || !self.socket.lock().unwrap().packets.is_empty()
    }

    fn learns_to_spin(&self) -> bool {
        false
    }

    fn sleep(&self, sleeper: &Bell, until_ns: u64) {
        if until_ns == 0 {
            return;
        }
        if until_ns == guard::SHORT_TICK_NS {
            return thread::yield_now();
        }
        let mut socket = self.socket.lock().unwrap();
        if !socket.packets.is_empty() {
            return;
        }
        socket.pollers.push(sleeper.clone());
        drop(socket);
        sleeper.block(NEVER_NS);
        let is_other = |poller: &Bell| !Arc::ptr_eq(&poller.0, &sleeper.0);
        self.socket.lock().unwrap().pollers.retain(is_other);
    }

    fn now_ns(&self) -> u64 {
        0
    }

    fn spin_ns(&self) -> u64 {
        0
    }

    fn spun(&self, _outcome: Spun) {}
}

fn explore(test: impl Fn() + Sync + Send + 'static) {
    explore_with(3, test);
}

fn explore_with(preemptions: usize, test: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(test);
}

#[test]
fn a_deadline_submitted_while_the_leader_falls_asleep_is_not_lost() {
    explore(|| {
        let model = Model::new();
        let other = Arc::clone(&model);
        let submitter = thread::spawn(move || other.submit(0));
        model.wait_for(0);
        submitter.join().unwrap();
    });
}

#[test]
fn a_packet_that_comes_while_the_leader_falls_asleep_is_not_lost() {
    explore(|| {
        let model = Model::new();
        let other = Arc::clone(&model);
        let network = thread::spawn(move || other.deliver(0));
        model.wait_for(0);
        network.join().unwrap();
    });
}

#[test]
fn a_leader_that_leaves_passes_the_seat_to_a_blocked_waiter() {
    explore(|| {
        let model = Model::new();
        let (second, network) = (Arc::clone(&model), Arc::clone(&model));
        let second = thread::spawn(move || second.wait_for(1));
        let network = thread::spawn(move || {
            network.deliver(0);
            network.deliver(1);
        });
        model.wait_for(0);
        second.join().unwrap();
        network.join().unwrap();
    });
}

#[test]
fn a_waiter_promoted_while_it_becomes_ready_passes_the_seat_on() {
    explore(|| {
        let model = Model::new();
        model.deliver(0);
        model.deliver(1);
        let (second, third) = (Arc::clone(&model), Arc::clone(&model));
        let second = thread::spawn(move || second.wait_for(1));
        let third = thread::spawn(move || {
            third.submit(2);
            third.wait_for(2);
        });
        model.wait_for(0);
        second.join().unwrap();
        third.join().unwrap();
    });
}

// Scenario: P24
#[test]
fn an_operation_is_never_stuck_in_the_inbox() {
    explore(|| {
        let model = Model::new();
        let others: Vec<_> = (1..3)
            .map(|slot| {
                let model = Arc::clone(&model);
                thread::spawn(move || {
                    model.submit(slot);
                    model.submit(slot);
                })
            })
            .collect();
        model.submit(0);
        for other in others {
            other.join().unwrap();
        }
        assert_eq!(model.state.lock().unwrap().executed.len(), 5);
    });
}

/// The guard as its thread runs it; ticks of up to `tick_ns` are yields, longer ones never end.
fn run_guard(model: &Model, bell: &Bell, done: &Mutex<bool>, tick_ns: u64) {
    let sleep = |until_ns| {
        if until_ns > tick_ns {
            bell.block(NEVER_NS);
        } else {
            thread::yield_now();
        }
    };
    guard::run(model, bell, || *done.lock().unwrap(), sleep);
}

/// Runs `work`, which must leave it to the guard to make slot 0 ready; long ticks never end.
fn leave_to_a_dozing_guard(work: impl Fn(&Arc<Model>) + Sync + Send + 'static) {
    explore(move || {
        let model = Model::new();
        let (bell, done) = (Bell::new(), Arc::new(Mutex::new(false)));
        let guard = thread::spawn({
            let (model, bell, done) = (Arc::clone(&model), bell.clone(), Arc::clone(&done));
            move || run_guard(&model, &bell, &done, guard::SHORT_TICK_NS)
        });
        let waiter = Bell::new();
        assert!(model.poll(0, &waiter).is_pending());
        work(&model);
        waiter.block(NEVER_NS);
        assert!(model.poll(0, &waiter).is_ready());
        *done.lock().unwrap() = true;
        bell.kick();
        guard.join().unwrap();
    });
}

#[test]
fn a_dozing_guard_is_kicked_when_something_urgent_comes_up_at_an_empty_seat() {
    leave_to_a_dozing_guard(|model| model.submit(0));
}

#[test]
fn a_dozing_guard_is_kicked_when_the_seat_is_left_with_something_urgent() {
    leave_to_a_dozing_guard(|model| {
        let other = Arc::clone(model);
        let submitter = thread::spawn(move || other.submit(0));
        model.deliver(1);
        model.wait_for(1);
        submitter.join().unwrap();
    });
}

#[test]
fn the_guard_drives_when_the_seat_was_left() {
    explore(|| {
        let model = Model::new();
        let (bell, done) = (Bell::new(), Arc::new(Mutex::new(false)));
        model.deliver(0);
        let guard = thread::spawn({
            let (model, bell, done) = (Arc::clone(&model), bell.clone(), Arc::clone(&done));
            move || run_guard(&model, &bell, &done, guard::REST_NS)
        });
        // Takes the seat and leaves it empty; nobody else waits.
        model.wait_for(0);
        let waiter = Bell::new();
        if model.poll(1, &waiter).is_pending() {
            model.deliver(1);
            waiter.block(NEVER_NS);
        }
        assert!(model.poll(1, &waiter).is_ready());
        *done.lock().unwrap() = true;
        bell.kick();
        guard.join().unwrap();
    });
}

#[test]
fn a_waiter_takes_the_seat_from_the_guard() {
    explore(|| {
        let model = Model::new();
        let (bell, done) = (Bell::new(), Arc::new(Mutex::new(false)));
        let guard = thread::spawn({
            let (model, bell, done) = (Arc::clone(&model), bell.clone(), Arc::clone(&done));
            move || run_guard(&model, &bell, &done, guard::REST_NS)
        });
        model.submit(0);
        model.wait_for(0);
        *done.lock().unwrap() = true;
        bell.kick();
        guard.join().unwrap();
    });
}

/// Waits without driving until others have made `slot` ready.
fn leave_to_others(model: &Model, slot: usize) {
    let waiter = Bell::new();
    while model.poll(slot, &waiter).is_pending() {
        waiter.block(NEVER_NS);
        waiter.take_kick();
    }
}

/// Lets the guard look so often, at the price of no preemption. After two it drives or rests.
fn let_the_guard_look(times: usize) {
    for _ in 0..times {
        thread::yield_now();
    }
}

/// Runs `work` beside the guard, then ends the guard; ticks end, rests do not. More than two
/// preemptions of three threads take minutes.
fn beside_the_guard(preemptions: usize, work: impl Fn(&Arc<Model>) + Sync + Send + 'static) {
    explore_with(preemptions, move || {
        let model = Model::new();
        let (bell, done) = (Bell::new(), Arc::new(Mutex::new(false)));
        let guard = thread::spawn({
            let (model, bell, done) = (Arc::clone(&model), bell.clone(), Arc::clone(&done));
            move || run_guard(&model, &bell, &done, guard::LONG_TICK_NS)
        });
        work(&model);
        *done.lock().unwrap() = true;
        bell.kick();
        guard.join().unwrap();
    });
}

#[test]
fn an_operation_for_later_is_executed_while_the_guard_that_drives_falls_asleep() {
    beside_the_guard(3, |model| {
        let_the_guard_look(2);
        model.submit_later(0);
        leave_to_others(model, 0);
    });
}

#[test]
fn an_operation_for_later_is_executed_while_the_leader_sleeps_and_the_guard_rests() {
    beside_the_guard(2, |model| {
        let leader = thread::spawn({
            let model = Arc::clone(model);
            move || model.wait_for(1)
        });
        let_the_guard_look(1);
        model.submit_later(0);
        leave_to_others(model, 0);
        model.make_ready(1);
        leader.join().unwrap();
    });
}

#[test]
fn operations_that_two_threads_add_for_later_are_executed() {
    beside_the_guard(2, |model| {
        let other = thread::spawn({
            let model = Arc::clone(model);
            move || {
                model.submit_later(1);
                leave_to_others(&model, 1);
            }
        });
        let_the_guard_look(2);
        model.submit_later(0);
        leave_to_others(model, 0);
        other.join().unwrap();
    });
}

/// A leader that is asleep in the seat, but for the time of its turns.
struct Leader<'a> {
    model: &'a Model,
    bell: Bell,
    tenure: Tenure<Bell>,
}

impl<'a> Leader<'a> {
    fn asleep(model: &'a Model) -> Self {
        let bell = Bell::new();
        let Joined::Seat(tenure) = model.seat.join(Kind::Thread, &bell) else {
            unreachable!("no other thread had the seat")
        };
        assert_eq!(tenure.fall_asleep(NEVER_NS), Some(NEVER_NS));
        Self { model, bell, tenure }
    }

    /// Turns whenever it is kicked, until the timer of `slot` has been served.
    fn turn_until_ready(&self, slot: usize) {
        while !self.model.slots[slot].lock().unwrap().ready {
            self.bell.block(NEVER_NS);
            self.bell.take_kick();
            loop {
                assert!(self.tenure.wake_up());
                self.model.serve(true);
                if self.tenure.fall_asleep(NEVER_NS) == Some(NEVER_NS) {
                    break;
                }
            }
        }
    }
}

#[test]
fn operations_that_two_threads_add_for_later_while_the_guard_rests_are_executed() {
    beside_the_guard(2, |model| {
        let leader = Leader::asleep(model);
        let other = thread::spawn({
            let model = Arc::clone(model);
            move || model.submit_later(1)
        });
        let_the_guard_look(2);
        model.submit_later(0);
        leader.turn_until_ready(0);
        leader.turn_until_ready(1);
        other.join().unwrap();
    });
}

#[test]
fn a_waiter_that_is_blocked_does_not_keep_the_guard_from_operations_for_later() {
    beside_the_guard(2, |model| {
        let leader = Leader::asleep(model);
        let waiter = thread::spawn({
            let model = Arc::clone(model);
            move || model.wait_for(1)
        });
        let_the_guard_look(1);
        for slot in [0, 2] {
            model.submit_later(slot);
            leader.turn_until_ready(slot);
        }
        model.make_ready(1);
        waiter.join().unwrap();
    });
}
