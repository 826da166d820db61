//! Operations on their way to the state behind the lock.

use std::collections::VecDeque;

use super::sync::{AtomicBool, Mutex, Ordering, lock};

/// A queue with *attendants*. An attendant promises to look into the queue again before it leaves,
/// and the last one cannot leave while there is something in it: so an operation added while
/// somebody attends needs no further action of who added it, and none is ever stuck.
///
/// The queue is taken only under the lock of the state it is meant for, so operations are executed
/// in the order in which they were added.
#[derive(Debug)]
pub(crate) struct Inbox<T> {
    state: Mutex<State<T>>,
    /// Something may be in the queue; spares attendants the lock when nothing is.
    filled: AtomicBool,
}

#[derive(Debug)]
struct State<T> {
    queue: VecDeque<T>,
    attendants: usize,
}

/// What adding an operation means for who added it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Added {
    /// Somebody attends and will execute it.
    Attended,
    /// The caller attends now: it must execute the queue, then [`Inbox::try_leave`].
    Attend,
}

impl<T> Inbox<T> {
    pub(crate) fn new() -> Self {
        let state = Mutex::new(State { queue: VecDeque::new(), attendants: 0 });
        Self { state, filled: AtomicBool::new(false) }
    }

    /// Adds an operation. If nobody attends, or as many as `full` wait already (back-pressure: who
    /// adds faster than attendants execute has to help), the caller becomes an attendant.
    pub(crate) fn add(&self, operation: T, full: usize) -> Added {
        let mut state = lock(&self.state);
        state.queue.push_back(operation);
        self.filled.store(true, Ordering::Release);
        if state.attendants > 0 && state.queue.len() < full {
            return Added::Attended;
        }
        state.attendants += 1;
        Added::Attend
    }

    /// Adds an operation that the caller promises to have executed later, by attending. Says how
    /// many there are now.
    pub(crate) fn add_for_later(&self, operation: T) -> usize {
        let mut state = lock(&self.state);
        state.queue.push_back(operation);
        self.filled.store(true, Ordering::Release);
        state.queue.len()
    }

    /// Becomes the only attendant, if nothing waits and nobody attends: the caller may then execute
    /// an operation without adding it.
    pub(crate) fn attend_alone(&self) -> bool {
        let mut state = lock(&self.state);
        let alone = state.attendants == 0 && state.queue.is_empty();
        state.attendants += usize::from(alone);
        alone
    }

    /// Becomes an attendant.
    pub(crate) fn attend(&self) {
        lock(&self.state).attendants += 1;
    }

    /// Becomes an attendant if there is something to do and nobody else does it.
    pub(crate) fn attend_if_abandoned(&self) -> bool {
        let mut state = lock(&self.state);
        let abandoned = state.attendants == 0 && !state.queue.is_empty();
        state.attendants += usize::from(abandoned);
        abandoned
    }

    /// Whether nothing waits, as far as is known without the lock.
    pub(crate) fn is_idle(&self) -> bool {
        !self.filled.load(Ordering::Relaxed)
    }

    /// Exchanges the queue with `taken`, which must be empty. Only under the lock of the state.
    pub(crate) fn take(&self, taken: &mut VecDeque<T>) {
        debug_assert!(taken.is_empty());
        // What was added before the caller found that it must not leave is seen here, since both
        // happened under the lock; what is added meanwhile is found when the caller leaves.
        if !self.filled.load(Ordering::Acquire) {
            return;
        }
        let mut state = lock(&self.state);
        self.filled.store(false, Ordering::Release);
        std::mem::swap(&mut state.queue, taken);
    }

    /// Stops attending. `false`: the caller is the last attendant and there is something to do, so
    /// it still attends.
    #[must_use]
    pub(crate) fn try_leave(&self) -> bool {
        let mut state = lock(&self.state);
        let may_leave = state.queue.is_empty() || state.attendants > 1;
        state.attendants -= usize::from(may_leave);
        may_leave
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn the_last_attendant_cannot_leave_work_behind() {
        let inbox = Inbox::new();
        assert_eq!(inbox.add(1, 10), Added::Attend);
        assert_eq!(inbox.add(2, 10), Added::Attended);
        assert!(!inbox.try_leave());
        let mut taken = VecDeque::new();
        inbox.take(&mut taken);
        assert_eq!(taken, [1, 2]);
        assert!(inbox.try_leave());
        assert_eq!(inbox.add(3, 10), Added::Attend);
    }

    // Scenario: P24
    #[test]
    fn whoever_comes_to_an_empty_inbox_may_act_alone() {
        let inbox = Inbox::new();
        assert!(inbox.attend_alone());
        assert!(!inbox.attend_alone());
        assert_eq!(inbox.add(1, 10), Added::Attended);
        assert!(!inbox.try_leave());
        inbox.take(&mut VecDeque::new());
        assert!(inbox.try_leave());
        assert_eq!(inbox.add_for_later(2), 1);
        assert!(!inbox.attend_alone(), "what waits goes first");
    }

    #[test]
    fn a_full_inbox_makes_everybody_help() {
        let inbox = Inbox::new();
        assert_eq!(inbox.add(1, 2), Added::Attend);
        assert_eq!(inbox.add(2, 2), Added::Attend);
        assert!(inbox.try_leave(), "another one attends");
        assert!(!inbox.try_leave(), "nobody else does");
    }

    #[test]
    fn work_kept_for_later_is_found_by_whoever_looks() {
        let inbox = Inbox::new();
        assert!(!inbox.attend_if_abandoned());
        assert_eq!(inbox.add_for_later(1), 1);
        assert!(inbox.attend_if_abandoned());
        assert!(!inbox.attend_if_abandoned(), "somebody does it");
    }
}
