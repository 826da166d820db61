//! Tasks in virtual time, polled in an order that a seed chooses.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};

use homa_transport::Clock;
use homa_virtual::Dice;

/// The clock of all endpoints of a world, in ns.
#[derive(Clone, Debug, Default)]
pub(crate) struct VirtualClock(Arc<AtomicU64>);

impl VirtualClock {
    pub(crate) fn set(&self, now_ns: u64) {
        self.0.store(now_ns, Ordering::Relaxed);
    }
}

impl Clock for VirtualClock {
    fn now_ns(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What a task does for its host; a host that drops its handles ends those that accept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Accept,
    Call,
    Handler,
    Shutdown,
}

type Work = Pin<Box<dyn Future<Output = ()>>>;
/// A task to be: its host, its kind, its name, what it does.
type Spawned = (usize, Kind, String, Work);

/// A task: what it does, whom it belongs to and who is to be woken for it.
struct Task {
    host: usize,
    kind: Kind,
    name: String,
    work: Work,
    /// The waker of the latest poll; no other one counts.
    waker: Arc<TaskWaker>,
}

/// A waker of a task. Wakers of earlier polls differ from it.
struct TaskWaker {
    task: u64,
    number: u64,
    woken: Arc<Mutex<Vec<(u64, u64)>>>,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.woken.lock().unwrap().push((self.task, self.number));
    }
}

/// Those who sleep, by the time at which they wake up and a number.
#[derive(Default)]
struct Sleepers {
    by_time: BTreeMap<(u64, u64), Option<Waker>>,
    last: u64,
}

/// What tasks reach the executor by: they spawn others and sleep.
#[derive(Clone)]
pub(crate) struct Spawner {
    clock: VirtualClock,
    sleepers: Rc<RefCell<Sleepers>>,
    spawned: Rc<RefCell<Vec<Spawned>>>,
}

impl Spawner {
    pub(crate) fn now_ns(&self) -> u64 {
        self.clock.now_ns()
    }

    pub(crate) fn spawn(
        &self,
        host: usize,
        kind: Kind,
        name: String,
        work: impl Future<Output = ()> + 'static,
    ) {
        self.spawned.borrow_mut().push((host, kind, name, Box::pin(work)));
    }

    pub(crate) fn sleep(&self, duration_ns: u64) -> Sleep {
        let mut sleepers = self.sleepers.borrow_mut();
        sleepers.last += 1;
        let key = (self.now_ns().saturating_add(duration_ns), sleepers.last);
        Sleep { spawner: self.clone(), key }
    }
}

/// Ready at a time.
pub(crate) struct Sleep {
    spawner: Spawner,
    key: (u64, u64),
}

impl Future for Sleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let mut sleepers = self.spawner.sleepers.borrow_mut();
        if self.spawner.now_ns() >= self.key.0 {
            sleepers.by_time.remove(&self.key);
            return Poll::Ready(());
        }
        sleepers.by_time.insert(self.key, Some(context.waker().clone()));
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        self.spawner.sleepers.borrow_mut().by_time.remove(&self.key);
    }
}

/// The first of two that is ready; the other one is dropped.
pub(crate) async fn first<A: Future + Unpin, B: Future + Unpin>(
    mut one: A,
    mut other: B,
) -> Result<A::Output, B::Output> {
    std::future::poll_fn(move |context| {
        if let Poll::Ready(value) = Pin::new(&mut one).poll(context) {
            return Poll::Ready(Ok(value));
        }
        Pin::new(&mut other).poll(context).map(Err)
    })
    .await
}

/// Polls once; `None`: not ready.
pub(crate) async fn once<A: Future + Unpin>(mut one: A) -> Option<A::Output> {
    std::future::poll_fn(move |context| match Pin::new(&mut one).poll(context) {
        Poll::Ready(value) => Poll::Ready(Some(value)),
        Poll::Pending => Poll::Ready(None),
    })
    .await
}

/// Habits of a runtime that users may have.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Habits {
    /// One poll in so many finds a task that nobody woke; 0: none.
    pub(crate) spurious_one_in: u64,
    /// One poll in so many is with another waker than before; 0: none.
    pub(crate) moved_one_in: u64,
}

/// Tasks by number.
pub(crate) struct Executor {
    spawner: Spawner,
    tasks: BTreeMap<u64, Task>,
    woken: Arc<Mutex<Vec<(u64, u64)>>>,
    /// Woken and not polled since.
    ready: Vec<u64>,
    last: u64,
    habits: Habits,
}

impl Executor {
    pub(crate) fn new(clock: VirtualClock, habits: Habits) -> Self {
        let spawner = Spawner { clock, sleepers: Rc::default(), spawned: Rc::default() };
        Self {
            spawner,
            tasks: BTreeMap::new(),
            woken: Arc::default(),
            ready: Vec::new(),
            last: 0,
            habits,
        }
    }

    pub(crate) fn spawner(&self) -> &Spawner {
        &self.spawner
    }

    /// Takes in new tasks, those whose time has come and those that were woken.
    pub(crate) fn gather(&mut self) {
        let now_ns = self.spawner.now_ns();
        for (host, kind, name, work) in self.spawner.spawned.take() {
            self.last += 1;
            let waker = self.waker(self.last, 0);
            self.tasks.insert(self.last, Task { host, kind, name, work, waker });
            self.ready.push(self.last);
        }
        let mut due = Vec::new();
        for ((at_ns, _), waker) in &mut self.spawner.sleepers.borrow_mut().by_time {
            if *at_ns > now_ns {
                break;
            }
            due.extend(waker.take());
        }
        due.into_iter().for_each(Waker::wake);
        let woken = std::mem::take(&mut *self.woken.lock().unwrap());
        for (task, number) in woken {
            let is_latest = self.tasks.get(&task).is_some_and(|it| it.waker.number == number);
            if is_latest && !self.ready.contains(&task) {
                self.ready.push(task);
            }
        }
    }

    fn waker(&self, task: u64, number: u64) -> Arc<TaskWaker> {
        Arc::new(TaskWaker { task, number, woken: Arc::clone(&self.woken) })
    }

    /// Tasks that are to be polled, of hosts that run.
    pub(crate) fn ready(&self, runs: impl Fn(usize) -> bool) -> impl Iterator<Item = u64> {
        self.ready
            .iter()
            .copied()
            .filter(move |task| self.tasks.get(task).is_some_and(|task| runs(task.host)))
    }

    /// A task of a host that runs which nobody woke, sometimes.
    pub(crate) fn spurious(&self, dice: &mut Dice, runs: impl Fn(usize) -> bool) -> Option<u64> {
        if self.habits.spurious_one_in == 0 || dice.below(self.habits.spurious_one_in) > 0 {
            return None;
        }
        let at = dice.below(self.tasks.len() as u64) as usize;
        let (number, task) = self.tasks.iter().nth(at)?;
        runs(task.host).then_some(*number)
    }

    /// When the next sleeper wakes up.
    pub(crate) fn next_ns(&self) -> Option<u64> {
        let sleepers = self.spawner.sleepers.borrow();
        let waits = |(_, waker): &(&(u64, u64), &Option<Waker>)| waker.is_some();
        sleepers.by_time.iter().find(waits).map(|((at_ns, _), _)| *at_ns)
    }

    /// Polls a task; its host.
    pub(crate) fn poll(&mut self, number: u64, dice: &mut Dice) -> Option<usize> {
        self.ready.retain(|task| *task != number);
        let moves = self.habits.moved_one_in > 0 && dice.below(self.habits.moved_one_in) == 0;
        let mut task = self.tasks.remove(&number)?;
        if moves {
            task.waker = self.waker(number, task.waker.number + 1);
        }
        let waker = Waker::from(Arc::clone(&task.waker));
        let host = task.host;
        let polled = task.work.as_mut().poll(&mut Context::from_waker(&waker));
        if polled.is_pending() {
            self.tasks.insert(number, task);
        }
        Some(host)
    }

    /// Ends tasks without a poll, in the order that the dice choose.
    pub(crate) fn end(&mut self, dice: &mut Dice, ends: impl Fn(usize, Kind) -> bool) {
        let all = self.tasks.iter().filter(|(_, task)| ends(task.host, task.kind));
        let mut ended: Vec<u64> = all.map(|(number, _)| *number).collect();
        while !ended.is_empty() {
            let at = dice.below(ended.len() as u64) as usize;
            let task = self.tasks.remove(&ended.swap_remove(at));
            drop(task);
        }
    }

    /// Whether a host has tasks that are not there to accept.
    pub(crate) fn works(&self, host: usize) -> bool {
        self.tasks.values().any(|task| task.host == host && task.kind != Kind::Accept)
    }

    /// The names of tasks that are not over.
    pub(crate) fn pending(&self, counts: impl Fn(Kind) -> bool) -> Vec<&str> {
        let all = self.tasks.values().filter(|task| counts(task.kind));
        all.map(|task| task.name.as_str()).collect()
    }
}
