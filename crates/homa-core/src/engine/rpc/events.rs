//! Events of an RPC that wait to be handed out.

use crate::engine::rpc::{Rpc, State};
use crate::event::{Event, FailReason};

/// What happened to an RPC, in the order in which it is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Happened {
    Started,
    Progress,
    Arrived,
    Failed,
    Released,
    Ended,
}

impl Happened {
    const ORDER: [Self; 6] =
        [Self::Started, Self::Progress, Self::Arrived, Self::Failed, Self::Released, Self::Ended];

    const fn bit(self) -> u8 {
        1 << self as u8
    }
}

/// What is still to be told of an RPC. Each thing is told once, however often it happened.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PendingEvents {
    /// One bit for each [`Happened`].
    bits: u8,
    /// Counts if it has [`Happened::Failed`].
    reason: FailReason,
}

impl Default for PendingEvents {
    fn default() -> Self {
        Self { bits: 0, reason: FailReason::Aborted }
    }
}

impl PendingEvents {
    pub(crate) fn add(&mut self, what: Happened) {
        self.bits |= what.bit();
    }

    pub(crate) fn add_failure(&mut self, reason: FailReason) {
        self.add(Happened::Failed);
        self.reason = reason;
    }

    /// It does not matter any more.
    pub(crate) fn forget(&mut self, what: Happened) {
        self.bits &= !what.bit();
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.bits == 0
    }

    fn contains(&self, what: Happened) -> bool {
        self.bits & what.bit() != 0
    }

    fn take_first(&mut self) -> Option<Happened> {
        let first = Happened::ORDER.get(self.bits.trailing_zeros() as usize).copied();
        self.bits &= self.bits.wrapping_sub(1);
        first
    }
}

impl Rpc {
    /// Takes what is to be told next.
    #[inline]
    pub(crate) fn next_to_tell(&mut self) -> Option<Happened> {
        if self.announced { self.pending.take_first() } else { self.announce() }
    }

    #[inline(never)]
    fn announce(&mut self) -> Option<Happened> {
        if self.pending.contains(Happened::Started) && self.state != State::Dead {
            self.announced = true;
            return self.pending.take_first();
        }
        // One that is over before anybody heard of it is not announced at all. But whoever keeps the bytes that
        // were placed has to learn that they are not wanted.
        let ended = core::mem::take(&mut self.pending).contains(Happened::Ended);
        (ended && self.rx.data.received() > 0).then_some(Happened::Ended)
    }

    /// The event that tells it; `Some`, so that it is made where it is returned.
    #[inline]
    pub(crate) fn event(&self, what: Happened) -> Option<Event> {
        let (rpc, cookie, client) = (self.key, self.cookie, self.is_client());
        Some(match what {
            Happened::Started if client => {
                Event::ResponseStarted { rpc, cookie, length: self.rx.length() }
            }
            Happened::Started => {
                Event::RequestStarted { rpc, path: self.path, length: self.rx.length() }
            }
            Happened::Progress => {
                Event::BodyProgress { rpc, contiguous_upto: self.rx.data.contiguous() }
            }
            Happened::Arrived if client => Event::ResponseArrived { rpc, cookie },
            Happened::Arrived => Event::RequestArrived { rpc },
            Happened::Failed => Event::Failed { rpc, cookie, reason: self.pending.reason },
            Happened::Released => Event::Released { rpc, upto: self.tx.released },
            Happened::Ended => Event::Ended { rpc },
        })
    }
}
