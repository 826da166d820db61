//! The driver task of a tokio runtime.

use std::future::Future;
use std::io;
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Waker};

use homa_sys::{TimerFd, monotonic_ns};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::runtime::RuntimeFlavor;

use crate::drive::seat::{Blocked, Joined, Kind, NEVER_NS, Tenure};
use crate::drive::wait::{Attendance, Host, Spun};
use crate::shared::core::Core;

/// Turns in a row before other tasks of the runtime get their turn.
const TURNS_MAX: usize = 8;

/// Makes sure that a task drives, if the caller runs in a runtime and no task does yet.
pub(crate) fn ensure_task(core: &Arc<Core>) {
    if core.task.is_taken() {
        return;
    }
    // Without one there is nothing to wait for: the source of packets drives.
    let Some(readable) = &core.facts.readable else { return };
    let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
    if !core.task.take() {
        return;
    }
    let may_spin = runtime.runtime_flavor() == RuntimeFlavor::CurrentThread;
    // Tokio cannot be asked whether the runtime has I/O: it panics where it has none.
    match catch_unwind(AssertUnwindSafe(|| DriverTask::new(core, readable, may_spin))) {
        Ok(Ok(task)) => drop(runtime.spawn(task)),
        // Without descriptors the guard drives.
        Ok(Err(_)) => core.task.leave(),
        // So it does for good without I/O: the place stays taken.
        Err(_) => {}
    }
}

/// Drives an endpoint from within a runtime: woken by the socket, by a timer, or by a kick.
#[derive(Debug)]
struct DriverTask {
    core: Weak<Core>,
    socket: AsyncFd<OwnedFd>,
    timer: AsyncFd<TimerFd>,
    /// When the timer fires, if it is armed.
    armed_ns: u64,
    place: Place,
    /// The waker that the core knows.
    noted: Option<Waker>,
    /// The runtime has one thread, so that looking for packets for a while disturbs no other task.
    may_spin: bool,
    /// While it looks for packets: until when.
    spin_until_ns: u64,
    asleep_since_ns: u64,
}

#[derive(Debug)]
enum Place {
    None,
    Blocked(Blocked<Waker>, Waker),
    Seat(Tenure<Waker>, Waker),
}

/// Result of a series of turns.
enum Step {
    /// Let other tasks run, so many of which were woken, then go on.
    Yield { woke: usize },
    /// Nothing to do.
    Sleep,
}

impl DriverTask {
    fn new(core: &Arc<Core>, readable: &OwnedFd, may_spin: bool) -> io::Result<Self> {
        Ok(Self {
            core: Arc::downgrade(core),
            socket: watch(readable.try_clone()?)?,
            timer: watch(TimerFd::new()?)?,
            armed_ns: NEVER_NS,
            place: Place::None,
            noted: None,
            may_spin,
            spin_until_ns: 0,
            asleep_since_ns: 0,
        })
    }

    /// Has the seat, or waits for it.
    fn take_seat(&mut self, core: &Core, waker: &Waker) -> bool {
        let place = std::mem::replace(&mut self.place, Place::None);
        self.place = match place {
            Place::Seat(tenure, known) if tenure.wake_up() => {
                if known.will_wake(waker) {
                    Place::Seat(tenure, known)
                } else {
                    tenure.set_waker(waker);
                    Place::Seat(tenure, waker.clone())
                }
            }
            Place::Blocked(blocked, known) if known.will_wake(waker) => match blocked.promoted() {
                Ok(tenure) => Place::Seat(tenure, known),
                Err(blocked) => Place::Blocked(blocked, known),
            },
            // Evicted, new, or moved to another waker.
            other => {
                drop(other);
                match core.seat.join(Kind::Task, waker) {
                    Joined::Seat(tenure) => Place::Seat(tenure, waker.clone()),
                    Joined::Blocked(blocked) => Place::Blocked(blocked, waker.clone()),
                }
            }
        };
        matches!(self.place, Place::Seat(..))
    }

    /// Turns until somebody was woken or there is nothing to do.
    fn drive(&mut self, core: &Core, context: &mut Context<'_>) -> Step {
        self.drain_timer(context);
        let (mut received, mut step) = (false, Step::Yield { woke: 0 });
        for _ in 0..TURNS_MAX {
            // Forgotten before the socket is emptied, so that what comes then is noticed.
            if let Poll::Ready(Ok(mut ready)) = self.socket.poll_read_ready(context) {
                ready.clear_ready();
            }
            let turned = if self.spin_until_ns == 0 { core.turn() } else { core.spin_turn() };
            received |= turned.received;
            if turned.woke > 0 {
                step = Step::Yield { woke: turned.woke };
                break;
            }
            if !turned.more && self.socket.poll_read_ready(context).is_pending() {
                step = Step::Sleep;
                break;
            }
        }
        if received {
            self.begin_spin(core);
        }
        step
    }

    fn drain_timer(&mut self, context: &mut Context<'_>) {
        while let Poll::Ready(Ok(mut ready)) = self.timer.poll_read_ready(context) {
            // Only a descriptor that is not open can fail.
            let _ = self.timer.get_ref().drain();
            ready.clear_ready();
            self.armed_ns = NEVER_NS;
        }
    }

    /// Prepares to sleep until the next deadline; `false` if it has come already.
    fn fall_asleep(&mut self) -> bool {
        let Place::Seat(tenure, _) = &self.place else { return true };
        // A timer armed earlier than needed stays: it costs one wake-up, re-arming costs as much.
        let Some(until_ns) = tenure.fall_asleep(self.armed_ns) else { return true };
        if until_ns >= self.armed_ns {
            return true;
        }
        // What is due already is not armed, nor noted as such: a later sleep would rely on it.
        if until_ns <= monotonic_ns() || self.timer.get_ref().arm(until_ns).is_err() {
            return false;
        }
        self.armed_ns = until_ns;
        true
    }

    /// Lets everything else that is ready in the runtime run first. Others may take the seat in
    /// between, and no kick is needed.
    fn yield_now(&self, context: &mut Context<'_>) {
        if let Place::Seat(tenure, _) = &self.place {
            // Evicted: noticed by the next poll.
            let _ = tenure.fall_asleep(0);
        }
        let yielding = std::pin::pin!(tokio::task::yield_now());
        if yielding.poll(context).is_ready() {
            context.waker().wake_by_ref();
        }
    }

    /// Something was received: more packets may come soon, also of a message that wakes nobody yet.
    fn begin_spin(&mut self, core: &Core) {
        let spin_ns = if self.may_spin { core.spin_ns() } else { 0 };
        if self.spin_until_ns != 0 && core.learns_to_spin() {
            core.spun(Spun::Paid);
        }
        self.spin_until_ns = match spin_ns {
            0 => 0,
            _ => monotonic_ns().saturating_add(spin_ns),
        };
    }

    /// Whether to look again before sleeping.
    fn spins(&mut self, core: &Core) -> bool {
        if self.spin_until_ns == 0 {
            return false;
        }
        if monotonic_ns() < self.spin_until_ns {
            return true;
        }
        self.spin_until_ns = 0;
        core.spun(Spun::Failed);
        false
    }

    /// Leaves word how to wake it when the endpoint is closed.
    fn note_waker(&mut self, core: &Core, waker: &Waker) {
        if self.noted.as_ref().is_none_or(|noted| !noted.will_wake(waker)) {
            core.task.set_waker(waker);
            self.noted = Some(waker.clone());
        }
    }

    /// Learns from the sleep that a packet ended.
    fn note_sleep(&mut self, core: &Core) {
        if self.asleep_since_ns != 0 {
            core.spun(Spun::Slept(monotonic_ns().saturating_sub(self.asleep_since_ns)));
            self.asleep_since_ns = 0;
        }
    }
}

#[expect(
    deprecated,
    reason = "the replacement is an unsafe function whose condition, that the descriptor stays \
              open and the same, both types used here fulfil by construction"
)]
fn watch<T: std::os::fd::AsRawFd>(descriptor: T) -> io::Result<AsyncFd<T>> {
    AsyncFd::with_interest(descriptor, Interest::READABLE)
}

impl Future for DriverTask {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let task = &mut *self;
        let Some(core) = task.core.upgrade() else { return Poll::Ready(()) };
        if core.is_forked() {
            return Poll::Ready(());
        }
        core.task.set_returns(false);
        task.note_waker(&core, context.waker());
        task.note_sleep(&core);
        while !core.life.is_closed() && task.take_seat(&core, context.waker()) {
            let attendance = Attendance::begin(&*core);
            let step = task.drive(&core, context);
            drop(attendance);
            match step {
                Step::Yield { woke } => {
                    // What several submit is sent together when they have run.
                    core.task.set_returns(woke > 1);
                    task.yield_now(context);
                    return Poll::Pending;
                }
                Step::Sleep if task.spins(&core) => {
                    task.yield_now(context);
                    return Poll::Pending;
                }
                Step::Sleep if task.fall_asleep() => {
                    if task.may_spin && core.learns_to_spin() {
                        task.asleep_since_ns = monotonic_ns();
                    }
                    return Poll::Pending;
                }
                Step::Sleep => {}
            }
        }
        if core.life.is_closed() { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl Drop for DriverTask {
    fn drop(&mut self) {
        let Some(core) = self.core.upgrade() else { return };
        if core.is_forked() {
            // Its locks may be held for ever: leak the place rather than touch them.
            std::mem::forget(std::mem::replace(&mut self.place, Place::None));
            return;
        }
        self.place = Place::None;
        core.task.leave();
        core.flush();
    }
}
