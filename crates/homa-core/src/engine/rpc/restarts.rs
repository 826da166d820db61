//! Requests that are sent again from their beginning, because the server has not seen them.

use core::time::Duration;

use crate::time::Instant;

/// The pause between two restarts is doubled so many times at most.
const DOUBLED_MAX: u8 = 4;

/// When and how often a request was sent again from its beginning.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Restarts {
    last_at: Option<Instant>,
    /// Without the first.
    count: u8,
    /// The incarnation of the server that its packets named then; 0: none.
    named: u32,
}

impl Restarts {
    pub(crate) const NONE: Self = Self { last_at: None, count: 0, named: 0 };

    /// When it last was.
    pub(crate) fn last_at(&self) -> Option<Instant> {
        self.last_at
    }

    /// Whether it ever was.
    pub(crate) fn is_any(&self) -> bool {
        self.last_at.is_some()
    }

    /// Whether it was less than `pause` ago, which doubles with each, up to 16-fold, so that a
    /// server that repeats "never seen" gets the request at a bounded rate.
    pub(crate) fn is_too_soon(&self, now: Instant, pause: Duration) -> bool {
        let longer = pause.saturating_mul(1 << self.count.min(DOUBLED_MAX));
        self.last_at.is_some_and(|last| now.since(last) < longer)
    }

    /// Whether it was sent again to another incarnation of its server than this one, which may say
    /// what it has not executed meanwhile.
    pub(crate) fn went_to_another(&self, incarnation: u32) -> bool {
        self.named != 0 && self.named != incarnation
    }

    /// Notes that it is sent again, to this incarnation.
    pub(crate) fn note(&mut self, now: Instant, named: u32) {
        self.named = named;
        self.count = self.count.saturating_add(u8::from(self.is_any()));
        self.last_at = Some(now);
    }
}
