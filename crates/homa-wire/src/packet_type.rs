//! The nine packet types and their codes.

use core::fmt;

use crate::{
    ACK_HEADER_BYTES, BUSY_HEADER_BYTES, CUTOFFS_HEADER_BYTES, DATA_HEADER_BYTES,
    FREEZE_HEADER_BYTES, GRANT_HEADER_BYTES, NEED_ACK_HEADER_BYTES, ParseError,
    RESEND_HEADER_BYTES, RPC_UNKNOWN_HEADER_BYTES,
};

/// The type of a packet, byte 11 of every header (docs/spec/wire-format.md §4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum PacketType {
    /// Part of a message.
    Data = 0x10,
    /// Permission to send further bytes.
    Grant = 0x11,
    /// Request for retransmission, and question whether the peer is alive.
    Resend = 0x12,
    /// The sender has no such RPC.
    RpcUnknown = 0x13,
    /// The sender is alive but not sending now.
    Busy = 0x14,
    /// Priorities for unscheduled data.
    Cutoffs = 0x15,
    /// Stop recording traces.
    Freeze = 0x16,
    /// The server asks for an acknowledgement.
    NeedAck = 0x17,
    /// The server may forget RPCs.
    Ack = 0x18,
}

impl PacketType {
    /// All types in the order of their codes.
    pub const ALL: [Self; 9] = [
        Self::Data,
        Self::Grant,
        Self::Resend,
        Self::RpcUnknown,
        Self::Busy,
        Self::Cutoffs,
        Self::Freeze,
        Self::NeedAck,
        Self::Ack,
    ];

    /// The code on the wire, 0x10 to 0x18.
    #[inline]
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// Bytes of this type's header, without payload and extension: the shortest valid packet.
    #[inline]
    pub const fn header_bytes(self) -> usize {
        match self {
            Self::Data => DATA_HEADER_BYTES,
            Self::Grant => GRANT_HEADER_BYTES,
            Self::Resend => RESEND_HEADER_BYTES,
            Self::RpcUnknown => RPC_UNKNOWN_HEADER_BYTES,
            Self::Busy => BUSY_HEADER_BYTES,
            Self::Cutoffs => CUTOFFS_HEADER_BYTES,
            Self::Freeze => FREEZE_HEADER_BYTES,
            Self::NeedAck => NEED_ACK_HEADER_BYTES,
            Self::Ack => ACK_HEADER_BYTES,
        }
    }

    /// The name the protocol's documents use, such as `RPC_UNKNOWN`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Data => "DATA",
            Self::Grant => "GRANT",
            Self::Resend => "RESEND",
            Self::RpcUnknown => "RPC_UNKNOWN",
            Self::Busy => "BUSY",
            Self::Cutoffs => "CUTOFFS",
            Self::Freeze => "FREEZE",
            Self::NeedAck => "NEED_ACK",
            Self::Ack => "ACK",
        }
    }
}

impl TryFrom<u8> for PacketType {
    type Error = ParseError;

    /// Fails with [`ParseError::UnknownType`] for codes outside 0x10 to 0x18.
    #[inline]
    fn try_from(code: u8) -> Result<Self, ParseError> {
        Ok(match code {
            0x10 => Self::Data,
            0x11 => Self::Grant,
            0x12 => Self::Resend,
            0x13 => Self::RpcUnknown,
            0x14 => Self::Busy,
            0x15 => Self::Cutoffs,
            0x16 => Self::Freeze,
            0x17 => Self::NeedAck,
            0x18 => Self::Ack,
            _ => return Err(ParseError::UnknownType(code)),
        })
    }
}

impl fmt::Display for PacketType {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.name())
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::string::ToString;

    use super::*;

    #[test]
    fn every_code_is_a_type_or_an_error_that_names_it() {
        for code in 0..=u8::MAX {
            match PacketType::try_from(code) {
                Ok(packet_type) => assert_eq!(packet_type.code(), code),
                Err(error) => {
                    assert_eq!(error, ParseError::UnknownType(code));
                    assert!(!(0x10..=0x18).contains(&code));
                }
            }
        }
    }

    #[test]
    fn the_names_and_lengths_are_those_of_the_specification() {
        let expected = [
            ("DATA", 56),
            ("GRANT", 33),
            ("RESEND", 37),
            ("RPC_UNKNOWN", 28),
            ("BUSY", 28),
            ("CUTOFFS", 62),
            ("FREEZE", 28),
            ("NEED_ACK", 28),
            ("ACK", 80),
        ];
        for (packet_type, (name, bytes)) in PacketType::ALL.into_iter().zip(expected) {
            assert_eq!(packet_type.to_string(), name);
            assert_eq!(packet_type.header_bytes(), bytes);
        }
    }
}
