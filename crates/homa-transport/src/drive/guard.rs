//! The guard: drives while no thread or task waits.

use super::seat::{Look, NEVER_NS, Tenure};
use super::wait::{Host, Sleeper};

/// How often the guard looks whether the seat was left while a message is half sent or half
/// received, in nanoseconds: short against every timeout of the protocol.
pub(crate) const SHORT_TICK_NS: u64 = 2_000_000;

/// The same while nothing is urgent: only control packets that peers repeat may wait then. Each
/// look takes microseconds from other work on that core.
pub(crate) const LONG_TICK_NS: u64 = 10_000_000;

/// How often it looks whether a task that has the seat still does its duty: its runtime may not be
/// running, or a task of it may not return.
pub(crate) const REST_NS: u64 = 100_000_000;

/// Action after a look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// Look again at this time or when kicked.
    Sleep { until_ns: u64 },
    /// Look again now.
    Now,
}

/// The guard's life, until `stop`, which must come with a kick; `sleep` is how it sleeps between
/// looks.
pub(crate) fn run<H: Host>(
    host: &H,
    sleeper: &H::Sleeper,
    stop: impl Fn() -> bool,
    sleep: impl Fn(u64),
) {
    loop {
        // Taken before looking at anything, so that a kick in between makes the sleep end at once.
        sleeper.take_kick();
        if stop() {
            return;
        }
        if let Next::Sleep { until_ns } = look(host, sleeper, &stop) {
            sleep(until_ns);
        }
    }
}

/// One look: executes unattended operations, takes a seat that was left, and drives until a waiter
/// wants the seat or `stop` says so.
fn look<H: Host>(host: &H, sleeper: &H::Sleeper, stop: impl Fn() -> bool) -> Next {
    let look = host.seat().guard_look(sleeper.waker(), |deadline_ns| host.is_overdue(deadline_ns));
    // Whoever adds operations after this kicks a guard that rests.
    let batching = flush(host);
    match look {
        Look::Soon => tick(host, SHORT_TICK_NS),
        Look::Later | Look::Rest | Look::RestShortly if batching => tick(host, SHORT_TICK_NS),
        Look::Later => tick(host, LONG_TICK_NS),
        Look::RestShortly => tick(host, REST_NS),
        Look::Rest => Next::Sleep { until_ns: NEVER_NS },
        Look::Drive(tenure) => {
            drive(host, sleeper, &tenure, stop);
            Next::Now
        }
    }
}

/// Executes unattended operations; whether any was added for later since the last time.
fn flush<H: Host>(host: &H) -> bool {
    host.flush();
    host.batches().take()
}

fn tick<H: Host>(host: &H, length_ns: u64) -> Next {
    Next::Sleep { until_ns: host.now_ns().saturating_add(length_ns) }
}

fn drive<H: Host>(
    host: &H,
    sleeper: &H::Sleeper,
    tenure: &Tenure<H::Waker>,
    stop: impl Fn() -> bool,
) {
    host.attend();
    loop {
        sleeper.take_kick();
        if stop() {
            break;
        }
        host.turn();
        if !host.try_leave() {
            continue;
        }
        if let Some(until_ns) = tenure.fall_asleep(NEVER_NS) {
            // Whoever adds operations after this kicks it.
            let batching = flush(host);
            let tick_ns = if batching { host.now_ns() + SHORT_TICK_NS } else { NEVER_NS };
            host.sleep(sleeper, until_ns.min(tick_ns));
        }
        if !tenure.wake_up() {
            return;
        }
        host.attend();
    }
    while !host.try_leave() {
        host.turn();
    }
}
