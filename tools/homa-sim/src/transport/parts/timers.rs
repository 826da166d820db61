//! Timers of messages.

use std::{cmp::Reverse, collections::BinaryHeap};

use crate::{event::MessageId, time::Time};

/// Timers, one per message. What a message waits for is its own matter: when its timer is due and
/// it waits for longer, it sets the timer again. So no answer costs a change here.
#[derive(Debug, Default)]
pub(crate) struct Timers(BinaryHeap<Reverse<(Time, MessageId)>>);

impl Timers {
    /// Sets the timer of a message that has none.
    pub(crate) fn set(&mut self, at: Time, message: MessageId) {
        self.0.push(Reverse((at, message)));
    }

    /// A message whose timer is due, and that has none from now on.
    pub(crate) fn due(&mut self, now: Time) -> Option<MessageId> {
        self.next().filter(|at| *at <= now)?;
        self.0.pop().map(|Reverse((_, message))| message)
    }

    /// When the next is due.
    pub(crate) fn next(&self) -> Option<Time> {
        self.0.peek().map(|Reverse((at, _))| *at)
    }
}
