//! Acknowledgements that wait for a packet to ride on.

const ACKS_MAX: usize = 16;

/// One acknowledgement to pass on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PendingAck {
    /// Id in the client's form.
    pub(crate) client_id: u64,
    pub(crate) server_port: u16,
}

/// The acknowledgements for one peer; the newest leaves first. Ids and ports lie apart, without
/// gaps between them: every peer has such a queue.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AckQueue {
    client_ids: [u64; ACKS_MAX],
    server_ports: [u16; ACKS_MAX],
    count: u8,
}

impl AckQueue {
    pub(crate) const EMPTY: Self =
        Self { client_ids: [0; ACKS_MAX], server_ports: [0; ACKS_MAX], count: 0 };

    /// Keeps an acknowledgement for a later packet. `Some`: the queue is full, this one needs a
    /// packet of its own.
    pub(crate) fn push(&mut self, ack: PendingAck) -> Option<PendingAck> {
        let place = usize::from(self.count);
        match (self.client_ids.get_mut(place), self.server_ports.get_mut(place)) {
            (Some(client_id), Some(server_port)) => {
                (*client_id, *server_port) = (ack.client_id, ack.server_port);
                self.count = self.count.saturating_add(1);
                None
            }
            _ => Some(ack),
        }
    }

    pub(crate) fn pop(&mut self) -> Option<PendingAck> {
        self.count = self.count.checked_sub(1)?;
        let place = usize::from(self.count);
        let client_id = *self.client_ids.get(place)?;
        let server_port = *self.server_ports.get(place)?;
        Some(PendingAck { client_id, server_port })
    }

    pub(crate) fn clear(&mut self) {
        self.count = 0;
    }
}
