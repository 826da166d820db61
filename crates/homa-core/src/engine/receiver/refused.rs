//! Data of a message that was refused for want of memory. Its sender counts it as sent, so a grant
//! alone does not bring it again.

use core::time::Duration;

use crate::time::Instant;

/// The part of a message that was refused for want of memory.
#[derive(Debug)]
pub(super) struct Refused {
    /// End of the data that was refused.
    upto: u32,
    /// Start of the part that is granted and was not requested again, [`u32::MAX`] if there is
    /// none.
    from: u32,
    last_sent: Option<Instant>,
}

impl Refused {
    pub(super) const NOTHING: Self = Self { upto: 0, from: u32::MAX, last_sent: None };

    /// Notes a refused packet that ends at `end`.
    pub(super) fn note(&mut self, end: u32) {
        self.upto = self.upto.max(end);
    }

    /// Takes the range to request again when `told..granted` is granted: offset and length. At most
    /// one is taken per `interval`; a part that is put off is requested with the next one, or by
    /// the timer. `highest` is the end of the data that has come.
    #[inline]
    pub(super) fn take(
        &mut self,
        (told, granted): (u32, u32),
        highest: u32,
        now: Instant,
        interval: Duration,
    ) -> Option<(u32, u32)> {
        if self.upto <= told {
            return None;
        }
        let from = told.min(self.from);
        let lately = self.last_sent.is_some_and(|at| now.since(at) < interval);
        self.from = if lately { from } else { u32::MAX };
        let start = from.max(highest);
        let length = granted.min(self.upto).saturating_sub(start);
        if lately || length == 0 {
            return None;
        }
        self.last_sent = Some(now);
        Some((start, length))
    }
}
