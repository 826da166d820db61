//! Room for a call that is not made yet.

use std::net::SocketAddr;
use std::task::{Poll, Waker};

use super::handle::{Handle, HasHandle};
use super::room::{Charge, Place};
use super::wakes::Wakes;
use crate::CallError;
use crate::drive::seat::NEVER_NS;

/// Room for one call to a server, which is waited for first. Dropped unused, it is given back.
#[derive(Debug)]
pub(crate) struct Permit {
    handle: Handle,
    server: SocketAddr,
    charge: Option<Charge>,
    /// Place among those who wait for room.
    place: Option<Place>,
}

impl Permit {
    /// A permit that has no room yet.
    pub(crate) fn new(handle: Handle, server: SocketAddr) -> Self {
        Self { handle, server, charge: None, place: None }
    }

    /// Ready when it has room.
    pub(crate) fn poll(&mut self, waker: &Waker) -> Poll<Result<(), CallError>> {
        if let Err(error) = self.handle.check_open() {
            return Poll::Ready(Err(error));
        }
        if self.charge.is_none() {
            let (room, place) = (&self.handle.rooms.calls, &mut self.place);
            self.charge = room.enter_or_wait(self.server, 0, place, waker, NEVER_NS).ok();
        }
        if self.charge.is_some() { Poll::Ready(Ok(())) } else { Poll::Pending }
    }

    /// The room, for a request of `bytes`; `None` if there is not so much.
    pub(crate) fn into_room(mut self, bytes: u64) -> Option<Charge> {
        let charge = self.charge.take()?;
        self.handle.rooms.calls.exchange(charge, bytes).ok()
    }
}

impl HasHandle for Permit {
    fn handle(&self) -> &Handle {
        &self.handle
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if self.handle.is_forked() {
            return;
        }
        let room = &self.handle.rooms.calls;
        if let Some(place) = self.place.take() {
            room.withdraw(place);
        }
        if let Some(charge) = self.charge.take() {
            let mut wakes = Wakes::default();
            room.leave(charge, &mut wakes);
            wakes.wake();
        }
    }
}
