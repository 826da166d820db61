//! Why bytes are not a Homa packet.

use core::fmt;

/// Why [`Header::parse`](crate::Header::parse) refused a packet. Nothing is ever sent back to its
/// source: drop the packet and count it (docs/spec/wire-format.md §9).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ParseError {
    /// The packet ends before its header does. If `got` is less than was received, the caller
    /// passed too short a piece of the packet; otherwise the packet was cut or is not Homa.
    TooShort {
        /// Bytes the header of this type takes.
        need: usize,
        /// Bytes that were there.
        got: usize,
    },
    /// Byte 11 holds a code outside 0x10 to 0x18: not Homa, or a version from the future.
    UnknownType(u8),
}

impl fmt::Display for ParseError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooShort { need, got } => write!(
                formatter,
                "packet too short: its header takes {need} bytes, {got} are there"
            ),
            Self::UnknownType(code) => write!(formatter, "unknown packet type {code:#04x}"),
        }
    }
}

impl core::error::Error for ParseError {}
