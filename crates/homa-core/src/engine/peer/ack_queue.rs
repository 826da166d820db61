//! Acknowledgements that wait for a packet to ride on.

use alloc::vec::Vec;

/// As many as the responses of a large batch, whose next requests then take them along.
const ACKS_MAX: usize = 64;
/// Places that are made at a time.
const PLACES_ADDED: usize = 16;

/// One acknowledgement to pass on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PendingAck {
    /// Id in the client's form.
    pub(crate) client_id: u64,
    pub(crate) server_port: u16,
}

/// The acknowledgements for one peer; the newest leaves first.
#[derive(Debug)]
pub(crate) struct AckQueue(Vec<PendingAck>);

impl AckQueue {
    pub(crate) const EMPTY: Self = Self(Vec::new());

    /// Keeps an acknowledgement for a later packet. `Some`: there is no room, this one needs a
    /// packet of its own.
    pub(crate) fn push(&mut self, ack: PendingAck) -> Option<PendingAck> {
        let is_full = self.0.len() == self.0.capacity();
        let no_room = is_full && self.0.try_reserve(PLACES_ADDED).is_err();
        if no_room || self.0.len() >= ACKS_MAX {
            return Some(ack);
        }
        self.0.push(ack);
        None
    }

    #[inline]
    pub(crate) fn pop(&mut self) -> Option<PendingAck> {
        self.0.pop()
    }

    /// Forgets all, and gives the memory back.
    pub(crate) fn clear(&mut self) {
        *self = Self::EMPTY;
    }
}
