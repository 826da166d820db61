//! How a thread waits.

use std::task::Poll;

use super::batches::Batches;
use super::seat::{Blocked, Joined, Kick, Kind, NEVER_NS, Seat, Tenure};

/// The object that is driven: an endpoint's core, or a model of it in tests.
pub(crate) trait Host {
    /// Wakes threads and tasks.
    type Waker: Kick;
    /// The parker of a waiting thread.
    type Sleeper: Sleeper<Waker = Self::Waker>;

    /// The seat waiters compete for.
    fn seat(&self) -> &Seat<Self::Waker>;
    /// Becomes an attendant of the inbox.
    fn attend(&self);
    /// Stops attending, unless something is left to do.
    fn try_leave(&self) -> bool;
    /// Executes unattended operations that were added for later.
    fn flush(&self);
    /// What the guard must know of operations for later.
    fn batches(&self) -> &Batches;
    /// As an attendant: executes the inbox, receives, sends, reports to the seat, wakes whom it
    /// concerns.
    fn turn(&self) -> Turned;
    /// As [`Host::turn`], for one who would turn again at once if there is nothing: may look for
    /// packets several times.
    fn spin_turn(&self) -> Turned {
        self.turn()
    }
    /// Sleeps until kicked, until the deadline, or until the socket is ready.
    fn sleep(&self, sleeper: &Self::Sleeper, until_ns: u64);
    /// Whether a turn that was due at `deadline_ns` is overdue, or packets wait.
    fn is_overdue(&self, deadline_ns: u64) -> bool;
    /// The clock of all deadlines.
    fn now_ns(&self) -> u64;
    /// How long to look for packets before sleeping: 0 never, [`NEVER_NS`] always.
    fn spin_ns(&self) -> u64;
    /// Whether `spin_ns` depends on what [`Host::spun`] is told.
    fn learns_to_spin(&self) -> bool;
    /// Outcome of a phase of spinning or sleeping, to learn from.
    fn spun(&self, outcome: Spun);
}

/// Result of a turn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Turned {
    /// Something was received.
    pub(crate) received: bool,
    /// How many were woken.
    pub(crate) woke: usize,
    /// There is more to do at once: sleep would be in vain.
    pub(crate) more: bool,
}

/// Outcome of a phase of looking for packets, or of a sleep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spun {
    /// Packets came while spinning.
    Paid,
    /// Nothing came while spinning.
    Failed,
    /// Slept for this long.
    Slept(u64),
}

/// A thread's parker. A kick is remembered until it is taken.
pub(crate) trait Sleeper {
    /// How others wake it.
    type Waker;
    /// Its waker.
    fn waker(&self) -> &Self::Waker;
    /// Whether it was kicked since the last time.
    fn take_kick(&self) -> bool;
    /// Sleeps until kicked (at once, if it was) or until `until_ns`.
    fn block(&self, until_ns: u64);
}

/// Waits until `poll` is ready or `until_ns` has passed (`None`). `poll` must arrange that its
/// waker is woken when it is worth asking again.
pub(crate) fn wait<H: Host, T>(
    host: &H,
    sleeper: &H::Sleeper,
    until_ns: u64,
    mut poll: impl FnMut(&H::Waker) -> Poll<T>,
) -> Option<T> {
    sleeper.take_kick();
    if let Poll::Ready(value) = poll(sleeper.waker()) {
        return Some(value);
    }
    let mut blocked = match host.seat().join(Kind::Thread, sleeper.waker()) {
        Joined::Seat(tenure) => return lead(host, sleeper, &tenure, until_ns, poll),
        Joined::Blocked(blocked) => blocked,
    };
    host.flush();
    loop {
        // Taken before looking, so that a kick in between makes the next sleep end at once.
        sleeper.take_kick();
        if let Poll::Ready(value) = poll(sleeper.waker()) {
            return Some(value);
        }
        blocked = match Blocked::promoted(blocked) {
            Ok(tenure) => return lead(host, sleeper, &tenure, until_ns, poll),
            Err(still) => still,
        };
        if until_ns != NEVER_NS && host.now_ns() >= until_ns {
            return None;
        }
        sleeper.block(until_ns);
    }
}

/// Drives from the seat until `poll` is ready or `until_ns` has passed.
fn lead<H: Host, T>(
    host: &H,
    sleeper: &H::Sleeper,
    tenure: &Tenure<H::Waker>,
    until_ns: u64,
    mut poll: impl FnMut(&H::Waker) -> Poll<T>,
) -> Option<T> {
    let mut attendance = Attendance::begin(host);
    let mut spin = Spin::begin(host);
    loop {
        let turned = if spin.length_ns > 0 { host.spin_turn() } else { host.turn() };
        if sleeper.take_kick() {
            if let Poll::Ready(value) = poll(sleeper.waker()) {
                spin.ended(turned.received);
                return Some(value);
            }
        }
        if spin.goes_on(turned.received, until_ns) || turned.more {
            std::hint::spin_loop();
            continue;
        }
        if until_ns != NEVER_NS && host.now_ns() >= until_ns {
            return None;
        }
        if !attendance.pause() {
            continue;
        }
        // Threads are not evicted, so both succeed.
        let slept = tenure.fall_asleep(until_ns).map(|until_ns| spin.sleep(sleeper, until_ns));
        let _still_seated = slept.is_some() && tenure.wake_up();
        attendance.resume();
        spin = Spin::begin(host);
    }
}

/// Attending the inbox; dropping it, also by a panic, executes what is left to do.
pub(crate) struct Attendance<'a, H: Host> {
    host: &'a H,
    attending: bool,
}

impl<'a, H: Host> Attendance<'a, H> {
    pub(crate) fn begin(host: &'a H) -> Self {
        host.attend();
        Self { host, attending: true }
    }

    /// Stops attending, unless there is something to do.
    fn pause(&mut self) -> bool {
        self.attending = !self.host.try_leave();
        !self.attending
    }

    fn resume(&mut self) {
        self.host.attend();
        self.attending = true;
    }
}

impl<H: Host> Drop for Attendance<'_, H> {
    fn drop(&mut self) {
        while self.attending && !self.host.try_leave() {
            self.host.turn();
        }
    }
}

/// A phase of looking for packets without sleeping.
struct Spin<'a, H: Host> {
    host: &'a H,
    length_ns: u64,
    until_ns: u64,
    /// Whether spinning is adaptive, so that sleeps are to be measured.
    learns: bool,
}

impl<'a, H: Host> Spin<'a, H> {
    fn begin(host: &'a H) -> Self {
        let length_ns = host.spin_ns();
        let until_ns = match length_ns {
            0 => 0,
            NEVER_NS => NEVER_NS,
            _ => host.now_ns().saturating_add(length_ns),
        };
        Self { host, length_ns, until_ns, learns: host.learns_to_spin() }
    }

    /// Whether to look again. Every packet prolongs the phase.
    fn goes_on(&mut self, received: bool, deadline_ns: u64) -> bool {
        if self.length_ns == 0 {
            return false;
        }
        if self.length_ns == NEVER_NS && deadline_ns == NEVER_NS {
            return true;
        }
        let now_ns = self.host.now_ns();
        if received && self.length_ns != NEVER_NS {
            self.host.spun(Spun::Paid);
            self.until_ns = now_ns.saturating_add(self.length_ns);
        }
        if now_ns >= self.until_ns {
            self.host.spun(Spun::Failed);
            return false;
        }
        now_ns < deadline_ns
    }

    fn sleep(&self, sleeper: &H::Sleeper, until_ns: u64) {
        let start_ns = if self.learns { self.host.now_ns() } else { 0 };
        self.host.sleep(sleeper, until_ns);
        if self.learns {
            self.host.spun(Spun::Slept(self.host.now_ns().saturating_sub(start_ns)));
        }
    }

    fn ended(&self, received: bool) {
        if received && self.length_ns != 0 {
            self.host.spun(Spun::Paid);
        }
    }
}
