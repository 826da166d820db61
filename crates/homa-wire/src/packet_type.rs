//! The packet types: one table of their codes, names and bodies.

use core::fmt;

use crate::layout::{Field, Wire};
use crate::{Ack, COMMON_HEADER_BYTES, Cutoffs, Data, Grant, ParseError, Resend};

/// Declares the packet types, each once: `Type(value: its body) = code, name`.
macro_rules! packet_types {
    ($(
        $(#[$doc:meta])*
        $name:ident $(($value:ident: $body:ty))? = $code:literal, $text:literal;
    )*) => {
        /// The type of a packet, byte 11 of every header (docs/spec/wire-format.md §4).
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum PacketType {
            $($(#[$doc])* $name = $code,)*
        }

        impl PacketType {
            /// All types in the order of their codes.
            pub const ALL: [Self; [$($code),*].len()] = [$(Self::$name),*];

            /// Bytes of this type's header, without payload and extension: the shortest valid
            /// packet.
            #[inline]
            pub const fn header_bytes(self) -> usize {
                match self {
                    $(Self::$name => {
                        COMMON_HEADER_BYTES $(+ size_of::<<$body as Wire>::Raw>())?
                    })*
                }
            }

            /// The fields behind the common header, in the order of the wire; they begin at its
            /// end.
            pub const fn fields(self) -> &'static [Field] {
                match self {
                    $(Self::$name => {
                        let bodies: &[&[Field]] = &[$(<$body as Wire>::FIELDS)?];
                        if let [fields] = bodies { fields } else { &[] }
                    })*
                }
            }

            /// The name the protocol's documents use, such as `RPC_UNKNOWN`.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }
        }

        impl TryFrom<u8> for PacketType {
            type Error = ParseError;

            /// Fails with [`ParseError::UnknownType`] for codes outside 0x10 to 0x18.
            #[inline]
            fn try_from(code: u8) -> Result<Self, ParseError> {
                match code {
                    $($code => Ok(Self::$name),)*
                    _ => Err(ParseError::UnknownType(code)),
                }
            }
        }

        /// The part of a header that depends on the packet type (docs/spec/wire-format.md §4 to
        /// §7).
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Body {
            $($(#[$doc])* $name $(($body))?,)*
        }

        impl Body {
            /// The packet type that goes with this body.
            #[inline]
            pub const fn packet_type(&self) -> PacketType {
                match self {
                    $(Self::$name { .. } => PacketType::$name,)*
                }
            }

            /// Reads the body of a packet of this type, and returns the bytes behind it; `None` if
            /// it is cut.
            #[inline]
            pub(crate) fn take(packet_type: PacketType, bytes: &[u8]) -> Option<(Self, &[u8])> {
                Some(match packet_type {
                    $(PacketType::$name => {
                        let rest = bytes;
                        $(let ($value, rest) = <$body>::take(rest)?;)?
                        (Self::$name $(($value))?, rest)
                    })*
                })
            }

            /// Writes the body to the beginning of `out`, and returns what is left of it.
            #[inline]
            pub(crate) fn put<'out>(&self, out: &'out mut [u8]) -> Option<&'out mut [u8]> {
                match self {
                    $(Self::$name $(($value))? => {
                        $(let out = $value.put(out)?;)?
                        Some(out)
                    })*
                }
            }
        }
    };
}

packet_types! {
    /// Part of a message.
    Data(data: Data) = 0x10, "DATA";
    /// Permission to send further bytes.
    Grant(grant: Grant) = 0x11, "GRANT";
    /// Request for retransmission, which also probes whether the peer is alive.
    Resend(resend: Resend) = 0x12, "RESEND";
    /// The sender has no such RPC.
    RpcUnknown = 0x13, "RPC_UNKNOWN";
    /// The sender is alive but not sending now.
    Busy = 0x14, "BUSY";
    /// Priorities for unscheduled data.
    Cutoffs(cutoffs: Cutoffs) = 0x15, "CUTOFFS";
    /// Stop recording traces. May have port 0 and id 0.
    Freeze = 0x16, "FREEZE";
    /// The server asks whether it may forget the RPC.
    NeedAck = 0x17, "NEED_ACK";
    /// The server may forget RPCs.
    Ack(ack: Ack) = 0x18, "ACK";
}

impl PacketType {
    /// The code on the wire, 0x10 to 0x18.
    #[inline]
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// The place in [`PacketType::ALL`].
    #[inline]
    pub fn index(self) -> usize {
        usize::from(self.code() - Self::Data.code())
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

    #[test]
    fn the_index_is_the_place_among_all() {
        for (index, packet_type) in PacketType::ALL.into_iter().enumerate() {
            assert_eq!(packet_type.index(), index);
        }
    }

    #[test]
    fn fields_follow_each_other_without_a_gap() {
        for packet_type in PacketType::ALL {
            let mut end = 0;
            for field in packet_type.fields() {
                assert_eq!(field.at, end, "{packet_type} {}", field.name);
                end += field.bytes;
            }
            assert_eq!(COMMON_HEADER_BYTES + end, packet_type.header_bytes());
        }
    }
}
