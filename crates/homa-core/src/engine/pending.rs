//! Events of an RPC that wait to be handed out.

use crate::engine::rpc::{Role, Rpc, State};
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
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct PendingEvents {
    /// One bit for each [`Happened`].
    bits: u8,
    reason: Option<FailReason>,
}

impl PendingEvents {
    pub(crate) fn add(&mut self, what: Happened) {
        self.bits |= what.bit();
    }

    pub(crate) fn add_failure(&mut self, reason: FailReason) {
        self.add(Happened::Failed);
        self.reason = Some(reason);
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
        let first = Happened::ORDER.get(self.bits.trailing_zeros() as usize).copied()?;
        self.forget(first);
        Some(first)
    }
}

impl Rpc {
    /// Takes the next event that waits.
    pub(crate) fn next_event(&mut self) -> Option<Event> {
        let (rpc, cookie) = (self.key, self.cookie);
        if !self.announced && !self.announces() {
            // Whoever keeps the bytes that were placed has to learn that they are not wanted.
            let ended = core::mem::take(&mut self.pending).contains(Happened::Ended);
            return (ended && self.rx.data.received() > 0).then_some(Event::Ended { rpc });
        }
        Some(match (self.pending.take_first()?, self.role) {
            (Happened::Started, Role::Client) => {
                Event::ResponseStarted { rpc, cookie, length: self.rx.length() }
            }
            (Happened::Started, Role::Server) => {
                self.announced = true;
                Event::RequestStarted { rpc, path: self.path, length: self.rx.length() }
            }
            (Happened::Progress, _) => {
                Event::BodyProgress { rpc, contiguous_upto: self.rx.data.contiguous() }
            }
            (Happened::Arrived, Role::Client) => Event::ResponseArrived { rpc, cookie },
            (Happened::Arrived, Role::Server) => Event::RequestArrived { rpc },
            (Happened::Failed, _) => {
                let reason = self.pending.reason.unwrap_or(FailReason::Aborted);
                Event::Failed { rpc, cookie, reason }
            }
            (Happened::Released, _) => Event::Released { rpc, upto: self.tx.released },
            (Happened::Ended, _) => Event::Ended { rpc },
        })
    }

    /// Is the next event the one by which a request is announced? One that is over before anybody heard of it is
    /// not announced at all.
    fn announces(&self) -> bool {
        self.pending.contains(Happened::Started) && self.state != State::Dead
    }
}
