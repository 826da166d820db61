//! Acknowledgements that wait for a packet to ride on.

const ACKS_MAX: usize = 16;

/// One acknowledgement to pass on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PendingAck {
    /// Id in the client's form.
    pub(crate) client_id: u64,
    pub(crate) server_port: u16,
}

/// The acknowledgements for one peer, newest first.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AckQueue {
    acks: [PendingAck; ACKS_MAX],
    count: usize,
}

impl AckQueue {
    pub(crate) const EMPTY: Self =
        Self { acks: [PendingAck { client_id: 0, server_port: 0 }; ACKS_MAX], count: 0 };

    /// Keeps an acknowledgement for a later packet. `Some`: the queue is full, this one needs a
    /// packet of its own.
    pub(crate) fn push(&mut self, ack: PendingAck) -> Option<PendingAck> {
        match self.acks.get_mut(self.count) {
            Some(slot) => {
                *slot = ack;
                self.count = self.count.saturating_add(1);
                None
            }
            None => Some(ack),
        }
    }

    pub(crate) fn pop(&mut self) -> Option<PendingAck> {
        self.count = self.count.checked_sub(1)?;
        self.acks.get(self.count).copied()
    }

    pub(crate) fn clear(&mut self) {
        self.count = 0;
    }
}
