//! Index of an RPC, and its place in the table.

use crate::event::RpcKey;
use crate::structures::index::{Index, index};

index! {
    /// Index of an RPC in the table of an engine. It is used again when the RPC is over.
    pub(crate) struct RpcIndex;
}

/// Place of an RPC in the table: its index, and which use of it this is.
#[derive(Debug)]
pub(crate) struct RpcPlace {
    index: RpcIndex,
    generation: u32,
}

impl RpcPlace {
    #[inline]
    pub(super) fn new(index: RpcIndex, generation: u32) -> Self {
        Self { index, generation }
    }

    #[inline]
    pub(super) fn index(&self) -> RpcIndex {
        self.index
    }

    /// The same for the application.
    #[inline]
    pub(super) fn key(&self) -> RpcKey {
        // Positions have 32 bits.
        RpcKey { index: self.index.position() as u32, generation: self.generation }
    }
}
