//! Address validation and the anti-amplification limit (RFC 9000 §8).

/// Validation state of a peer's address, and the bytes exchanged before it is validated.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct AddressValidation {
    validated: bool,
    received_bytes: u64,
    sent_bytes: u64,
    /// Of those, bytes of control packets.
    sent_control_bytes: u64,
}

impl AddressValidation {
    /// Whether the peer has echoed our incarnation, so that its address is its own.
    pub(crate) fn is_done(&self) -> bool {
        self.validated
    }

    pub(crate) fn succeed(&mut self) {
        self.validated = true;
    }

    /// Counts a packet of the peer.
    pub(crate) fn received(&mut self, bytes: u32) {
        self.received_bytes = self.received_bytes.saturating_add(u64::from(bytes));
    }

    /// Whether a packet came from the address.
    pub(crate) fn has_received(&self) -> bool {
        self.received_bytes > 0
    }

    /// Counts what leaves for the address: `bytes` in all, and those of control packets.
    pub(crate) fn sent(&mut self, bytes: u64, control_bytes: u64) {
        self.sent_bytes = self.sent_bytes.saturating_add(bytes);
        self.sent_control_bytes = self.sent_control_bytes.saturating_add(control_bytes);
    }

    /// Takes back what was counted and did not leave.
    pub(crate) fn not_sent(&mut self, bytes: u64, control_bytes: u64) {
        self.sent_bytes = self.sent_bytes.saturating_sub(bytes);
        self.sent_control_bytes = self.sent_control_bytes.saturating_sub(control_bytes);
    }

    /// Bytes that may still be sent before the address is validated: three times what was received.
    pub(crate) fn room(&self) -> u64 {
        self.received_bytes.saturating_mul(3).saturating_sub(self.sent_bytes)
    }

    /// Bytes of control packets among them: as many as were received.
    pub(crate) fn control_room(&self) -> u64 {
        self.room().min(self.received_bytes.saturating_sub(self.sent_control_bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unvalidated_address_is_sent_three_times_what_came_from_it() {
        let mut validation = AddressValidation::default();
        assert_eq!((validation.room(), validation.control_room()), (0, 0));
        validation.received(100);
        assert_eq!((validation.room(), validation.control_room()), (300, 100));
        validation.sent(250, 60);
        assert_eq!((validation.room(), validation.control_room()), (50, 40));
        validation.not_sent(100, 60);
        assert_eq!((validation.room(), validation.control_room()), (150, 100));
    }

    #[test]
    fn control_packets_have_no_more_room_than_all_packets() {
        let mut validation = AddressValidation::default();
        validation.received(100);
        validation.sent(290, 0);
        assert_eq!(validation.control_room(), 10);
        validation.sent(20, 0);
        assert_eq!((validation.room(), validation.control_room()), (0, 0));
    }
}
