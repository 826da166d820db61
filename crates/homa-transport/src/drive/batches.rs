//! Batches of operations for later, of which the guard has to know.

use super::seat::{Kick, Seat};
use super::sync::{AtomicBool, Ordering};

/// The guard's note that operations were added for later since it looked. While it stands the guard
/// looks again after a short tick, so that only the first of a batch must kick it.
#[derive(Debug)]
pub(crate) struct Batches(AtomicBool);

impl Batches {
    pub(crate) fn new() -> Self {
        Self(AtomicBool::new(false))
    }

    /// An operation was added for later to an empty inbox.
    pub(crate) fn begin<W: Kick>(&self, seat: &Seat<W>) {
        if !self.0.swap(true, Ordering::AcqRel) {
            seat.added_for_later().iter().for_each(Kick::kick);
        }
    }

    /// Takes the note. Only for the guard: one who takes it between the guard's flush and the
    /// guard's own look at it leaves what was added meanwhile to a guard that rests.
    pub(super) fn take(&self) -> bool {
        self.0.swap(false, Ordering::AcqRel)
    }
}
