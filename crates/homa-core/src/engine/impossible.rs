//! States that cannot be: an index that one table vouches for names nothing in another. A program counts such a thing and
//! goes on as if there had been nothing to do, since one mistake must not end all of its calls. Tests, worlds and fuzzers
//! (feature `check`) stop there, or it would stay unseen.

use core::cell::Cell;

/// Whether a program stops instead.
const ARMED: bool = cfg!(any(test, feature = "check"));

/// How often a table was asked for something that has to be there, and was not: see [`crate::Stats::impossible`].
#[derive(Debug, Default)]
pub(crate) struct Impossible(Cell<u64>);

impl Impossible {
    /// Counts one that the caller has found.
    ///
    /// # Panics
    /// In programs that check.
    #[cold]
    #[inline(never)]
    #[track_caller]
    pub(crate) fn found(&self) {
        self.0.set(self.count().saturating_add(1));
        if ARMED {
            panic!("a state that cannot be");
        }
    }

    pub(crate) fn count(&self) -> u64 {
        self.0.get()
    }
}
