//! Receive memory held by a message.

use crate::structures::index::index;

index! {
    /// Index of a host that holds memory.
    pub(crate) struct HolderIndex;
}

/// A message's part in the account of [`crate::engine::receiver::memory::Memory`].
#[derive(Debug)]
pub(super) struct Held {
    /// End of the part that memory is reserved for.
    pub(super) upto: u32,
    /// Its host in the account, if it is counted there.
    pub(super) host: Option<HolderIndex>,
    /// Bytes that count against the share of unvalidated clients.
    pub(super) unvalidated_bytes: u64,
}

impl Held {
    pub(super) const NOTHING: Self = Self { upto: 0, host: None, unvalidated_bytes: 0 };
}
