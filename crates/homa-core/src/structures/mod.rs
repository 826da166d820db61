//! Small data structures without knowledge of the protocol.
//!
//! All of them are deterministic, never panic whatever they are given, and grow fallibly.

pub(crate) mod hash;
pub(crate) mod heap;
pub(crate) mod index;
pub(crate) mod ranges;
pub(crate) mod reassembly;
pub(crate) mod ring;
pub(crate) mod shared_heap;
pub(crate) mod table;

/// A table could not grow. Nothing was changed; free something, or refuse what needed the room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OutOfMemory;
