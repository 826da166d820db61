//! Homa packet headers: all nine packet types, exact to the byte.
//!
//! # The contract
//!
//! * [`Header::parse`] accepts any bytes and never panics. It checks that the packet type is known
//!   and that the type's whole header is there, and nothing else: message lengths, offsets, ports
//!   and ids are the protocol engine's to judge (docs/spec/wire-format.md §9).
//! * [`Header::encode`] writes what a [`Header`] says, field by field. Fields a receiver ignores
//!   (checksum, data offset, stale acknowledgements) are kept, so a packet without trailing bytes
//!   that is parsed and encoded again comes out unchanged, and a header that is encoded and parsed
//!   again is equal to itself.
//! * No allocation, no loops, no `unsafe`, no standard library: the crate runs inside a kernel as
//!   it is.
//!
//! ```
//! use homa_wire::{Body, Common, Data, Header, Packet};
//!
//! // A client asks the server at port 4000; RPC ids are even on the client's side.
//! let header = Header {
//!     common: Common::data(32_768, 4_000, 2, 0),
//!     body: Body::Data(Data { message_length: 5, incoming: 5, ..Data::default() }),
//!     extension: None,
//! };
//! let mut packet = [0; 61];
//! let header_bytes = header.encode(&mut packet).ok_or("too small")?;
//! packet[header_bytes..].copy_from_slice(b"hello");
//!
//! let received = Packet::parse(&packet)?;
//! assert_eq!(received.header, header);
//! assert_eq!(received.payload, b"hello");
//! assert_eq!(received.header.common.local_id(), 3, "the server's own form of the id is odd");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Packet types
//!
//! | Code | Type | Header bytes | Sent by | Says |
//! | --- | --- | --- | --- | --- |
//! | 0x10 | [`DATA`](Data) | 56 | message sender | a part of a message; the payload follows |
//! | 0x11 | [`GRANT`](Grant) | 33 | message receiver | further bytes may be sent |
//! | 0x12 | [`RESEND`](Resend) | 37 | message receiver | send this range again; are you alive? |
//! | 0x13 | [`RPC_UNKNOWN`](Body::RpcUnknown) | 28 | either | I have no such RPC |
//! | 0x14 | [`BUSY`](Body::Busy) | 28 | message sender or server | alive, but not sending now |
//! | 0x15 | [`CUTOFFS`](Cutoffs) | 62 | either | which priority unscheduled data should use |
//! | 0x16 | [`FREEZE`](Body::Freeze) | 28 | either | stop recording traces (debugging) |
//! | 0x17 | [`NEED_ACK`](Body::NeedAck) | 28 | server | may I forget this RPC? |
//! | 0x18 | [`ACK`](Ack) | 80 | client | these RPCs may be forgotten |
//!
//! Every header begins with the 28 bytes of [`Common`]. All integers are big-endian.
//!
//! # Native profile
//!
//! The format has no version field. Between peers of this implementation, three places that the
//! Linux implementation sends as zero and ignores carry more: [`Common::window`] a magic value and
//! a version, [`Common::incarnation`] the sender's random identity, and [`Data::echo`] an identity
//! sent back. Control packets may carry an [`Extension`] of 8 bytes behind their header. A packet
//! without the window's magic is pure Linux format, and [`Header::encode`] never writes an
//! extension into one.
#![no_std]
#![forbid(unsafe_code)]
#![warn(clippy::alloc_instead_of_core, clippy::std_instead_of_core)]

mod body;
mod checksum;
mod common;
mod datagram;
mod error;
mod extension;
mod header;
mod layout;
mod packet;
mod packet_type;
mod reason;
mod rpc_id;
mod whole;

pub use body::{Ack, AckEntry, Cutoffs, Data, Grant, Resend};
pub use checksum::Sum;
pub use common::Common;
pub use datagram::Packets;
pub use error::ParseError;
pub use extension::Extension;
pub use header::Header;
pub use layout::Field;
pub use packet::Packet;
pub use packet_type::{Body, PacketType};
pub use reason::Reason;
pub use rpc_id::RpcId;
pub use whole::{DataView, WholeMessages};

/// Bytes that hold any header with its extension; a buffer of this size never makes
/// [`Header::encode`] fail.
pub const HEADER_MAX: usize = 96;

/// Bytes of the common header, the first part of every packet (docs/spec/wire-format.md §2).
pub const COMMON_HEADER_BYTES: usize = 28;
/// Header bytes of a DATA packet (docs/spec/wire-format.md §5); of all types
/// [`PacketType::header_bytes`].
pub const DATA_HEADER_BYTES: usize = PacketType::Data.header_bytes();
/// Bytes of an [`Extension`], directly behind the header of a control packet.
pub const EXTENSION_BYTES: usize = 8;

/// Upper four bits of [`Common::window`] in packets of this implementation's native profile.
pub const VERSION_MAGIC: u16 = 0xA000;
/// Version of the native profile that this crate writes, 12 bits.
pub const VERSION: u16 = 3;

/// Value of [`Common::urgent`]; with [`FLAGS`] it marks Homa inside TCP frames
/// (docs/spec/wire-format.md §8).
pub const URGENT: u16 = 0xB97D;
/// Value of [`Common::flags`]: SYN and RST, which no TCP packet has together
/// (docs/spec/wire-format.md §8).
pub const FLAGS: u8 = 0x06;
/// Value of [`Common::doff`] in DATA packets: 14 words, in the upper four bits.
pub const DOFF_DATA: u8 = 0xE0;
/// Value of [`Common::doff`] in all control packets: 5 words, in the upper four bits.
pub const DOFF_CONTROL: u8 = 0x50;

/// Value of [`Data::seg_offset`] that means "the offset is in [`Common::sequence`]"
/// (docs/spec/wire-format.md §5).
pub const OFFSET_IN_SEQUENCE: u32 = u32::MAX;
/// Value of [`Resend::length`] that means "nothing arrived: send again all that was sent"
/// (docs/spec/wire-format.md §7).
pub const RESEND_ALL: u32 = u32::MAX;
/// Number of priority levels in a CUTOFFS packet.
pub const CUTOFF_LEVELS: usize = 8;
/// Most acknowledgements one ACK packet carries besides that of its own RPC.
pub const ACKS_MAX: usize = 5;

/// The IP protocol number of Homa.
pub const IP_PROTOCOL: u8 = 146;
/// The IP protocol number of TCP, in whose frames Homa travels as well.
pub const IP_PROTOCOL_TCP: u8 = 6;
/// Where [`Common::checksum`] lies in every packet, as in a TCP header.
pub const CHECKSUM_AT: usize = 16;

/// Whether a TCP segment is a Homa packet (docs/spec/wire-format.md §8).
#[inline]
pub fn is_tcp_form(segment: &[u8]) -> bool {
    segment.get(13) == Some(&FLAGS) && segment.get(18..20) == Some(&URGENT.to_be_bytes())
}

/// The `sender_id` of a packet of which only the first bytes are there, as ICMP errors quote it;
/// `None` if it is not among them.
pub fn quoted_sender_id(quoted: &[u8]) -> Option<u64> {
    let bytes = quoted.get(20..COMMON_HEADER_BYTES)?;
    bytes.try_into().ok().map(u64::from_be_bytes)
}
