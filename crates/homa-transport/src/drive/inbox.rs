//! Operations on their way to the state behind the lock.

use std::collections::VecDeque;

use super::sync::{AtomicUsize, Mutex, Ordering, lock};

/// In [`Inbox::word`]: something is in the queue. The rest of the word counts attendants.
const FILLED: usize = 1;
/// One attendant.
const ATTENDANT: usize = 2;

/// A queue with *attendants*. An attendant promises to look into the queue again before it leaves,
/// and the last one cannot leave while there is something in it: so an operation added while
/// there is an attendant needs no further action of its caller, and none is ever stuck.
///
/// The queue is taken only under the lock of the state it is meant for, so operations are executed
/// in the order in which they were added.
///
/// To come and go takes one atomic operation each. [`FILLED`] changes only under the lock of the
/// queue, so it is exact whenever that lock is free; adding sets it and reads the attendants in one
/// step, leaving does the reverse, so one of the two notices the other.
#[derive(Debug)]
pub(crate) struct Inbox<T> {
    queue: Mutex<VecDeque<T>>,
    word: AtomicUsize,
}

/// Consequence of adding an operation, for the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Added {
    /// An attendant will execute it.
    Attended,
    /// The caller attends now: it must execute the queue, then [`Inbox::try_leave`].
    Attend,
}

impl<T> Inbox<T> {
    pub(crate) fn new() -> Self {
        Self { queue: Mutex::new(VecDeque::new()), word: AtomicUsize::new(0) }
    }

    /// Adds an operation. If there is no attendant, or as many as `full` wait already
    /// (back-pressure), the caller becomes an attendant.
    pub(crate) fn add(&self, operation: T, full: usize) -> Added {
        let mut queue = lock(&self.queue);
        queue.push_back(operation);
        let helps = queue.len() >= full;
        let attends = |word| helps || word < ATTENDANT;
        let before =
            self.update(|word| Some((word | FILLED) + if attends(word) { ATTENDANT } else { 0 }));
        if before.is_some_and(attends) { Added::Attend } else { Added::Attended }
    }

    /// Adds an operation that the caller promises to have executed later, by attending. Says how
    /// many there are now.
    #[inline]
    pub(crate) fn add_for_later(&self, operation: T) -> usize {
        let mut queue = lock(&self.queue);
        queue.push_back(operation);
        if queue.len() == 1 {
            self.word.fetch_or(FILLED, Ordering::AcqRel);
        }
        queue.len()
    }

    /// Becomes the only attendant, if nothing waits and there is none: the caller may then execute
    /// an operation without adding it.
    pub(crate) fn attend_alone(&self) -> bool {
        self.word.compare_exchange(0, ATTENDANT, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    /// Becomes an attendant.
    pub(crate) fn attend(&self) {
        self.word.fetch_add(ATTENDANT, Ordering::AcqRel);
    }

    /// Becomes an attendant if there is something to do and no other attendant.
    pub(crate) fn attend_if_abandoned(&self) -> bool {
        self.word
            .compare_exchange(FILLED, FILLED + ATTENDANT, Ordering::AcqRel, Ordering::Relaxed)
            .is_ok()
    }

    /// Whether nothing waits, as far as is known without the lock.
    pub(crate) fn is_idle(&self) -> bool {
        self.word.load(Ordering::Relaxed) & FILLED == 0
    }

    /// Exchanges the queue with `taken`, which must be empty. Only under the lock of the state.
    pub(crate) fn take(&self, taken: &mut VecDeque<T>) {
        debug_assert!(taken.is_empty());
        // Operations added before the caller became an attendant, or found that it must not leave,
        // are seen here; those added meanwhile are found when the caller leaves.
        if self.word.load(Ordering::Acquire) & FILLED == 0 {
            return;
        }
        let mut queue = lock(&self.queue);
        self.word.fetch_and(!FILLED, Ordering::AcqRel);
        std::mem::swap(&mut *queue, taken);
    }

    /// Stops attending. `false`: the caller is the last attendant and there is something to do, so
    /// it still attends.
    #[must_use]
    pub(crate) fn try_leave(&self) -> bool {
        self.update(|word| (word != FILLED + ATTENDANT).then(|| word - ATTENDANT)).is_some()
    }

    /// Changes the word in one step; what it was before, `None` if `change` refused.
    fn update(&self, change: impl Fn(usize) -> Option<usize>) -> Option<usize> {
        let mut word = self.word.load(Ordering::Relaxed);
        loop {
            let changed = change(word)?;
            match self.word.compare_exchange_weak(
                word,
                changed,
                Ordering::AcqRel,
                Ordering::Relaxed,
            ) {
                Ok(before) => return Some(before),
                Err(now) => word = now,
            }
        }
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
