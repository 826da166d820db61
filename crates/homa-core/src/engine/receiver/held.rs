//! Receive memory held by a message.

use crate::structures::NIL;

/// A message's part in the account of [`crate::engine::receiver::memory::Memory`].
#[derive(Debug)]
pub(super) struct Held {
    /// End of the part that memory is reserved for.
    pub(super) upto: u32,
    /// Index of its host in the account, [`NIL`] if it is not counted there.
    pub(super) host: u32,
    /// Bytes that count against the share of unvalidated clients.
    pub(super) unvalidated_bytes: u64,
}

impl Held {
    pub(super) const NOTHING: Self = Self { upto: 0, host: NIL, unvalidated_bytes: 0 };
}
