//! Limits of an endpoint outside the shard's lock: messages on their way, and requests that wait to
//! be accepted.

use super::accept::AcceptQueue;
use super::alarms::Alarms;
use super::room::{Charge, Charges, Room};
use super::rpc::{Role, RpcState};
use super::service::Service;
use super::wakes::Wakes;

/// Room for calls, for responses and for requests.
#[derive(Debug)]
pub(crate) struct Rooms {
    pub(crate) calls: Room,
    pub(crate) responses: Room,
    pub(crate) requests: AcceptQueue,
    pub(crate) service: Service,
    pub(crate) alarms: Alarms,
}

impl Rooms {
    /// Gives back the room that an RPC's outgoing message took.
    pub(crate) fn release(&self, role: Role, state: &mut RpcState, wakes: &mut Wakes) {
        let Some(charge) = state.charge.take() else { return };
        match role {
            Role::Client => self.calls.leave(charge, wakes),
            Role::Server => self.leave_responses(charge, wakes),
        }
    }

    /// Gives back the room that a response took.
    pub(crate) fn leave_responses(&self, charge: Charge, wakes: &mut Wakes) {
        self.responses.leave(charge, wakes);
        self.service.look(wakes);
        // Requests of its client may have been kept from those who accept.
        self.requests.look_aside(wakes);
    }

    /// As [`Rooms::leave_responses`] for those that ended in one turn.
    pub(crate) fn leave_all_responses(&self, charges: &mut Charges, wakes: &mut Wakes) {
        let left = self.responses.leave_all(charges, wakes);
        self.service.look(wakes);
        for _ in 0..left {
            self.requests.look_aside(wakes);
        }
    }

    /// Wakes those whose deadline has come, and says when the next one comes or requests are
    /// overdue.
    #[inline]
    pub(crate) fn expire(&self, now_ns: u64, wakes: &mut Wakes) -> u64 {
        let rooms_ns = self.calls.expire(now_ns, wakes).min(self.responses.expire(now_ns, wakes));
        rooms_ns.min(self.alarms.expire(now_ns, wakes)).min(self.requests.look_at_ns())
    }

    /// Whether no request is worked on and no response on its way.
    pub(crate) fn is_idle(&self) -> bool {
        self.service.requests() == 0 && self.responses.used().0 == 0
    }

    /// Wakes all waiters; nothing can be accepted from now on.
    pub(crate) fn close(&self, wakes: &mut Wakes) {
        drop(self.requests.close(wakes));
        self.calls.wake_all(wakes);
        self.responses.wake_all(wakes);
        self.service.look(wakes);
    }
}
