//! The first 28 bytes of every packet.

use zerocopy::byteorder::big_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::layout::{Form, U24, put_raw};
use crate::{
    COMMON_HEADER_BYTES, DOFF_CONTROL, DOFF_DATA, FLAGS, PacketType, RpcId, URGENT, VERSION,
    VERSION_MAGIC,
};

/// Bits of [`Common::window`] that hold the version; the rest is the magic.
const VERSION_MASK: u16 = 0x0FFF;

/// The common header, without the packet type, which the [`Body`](crate::Body) implies
/// (docs/spec/wire-format.md §2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Common {
    /// Port of the sending socket.
    pub source_port: u16,
    /// Port of the socket this packet is for.
    pub destination_port: u16,
    /// DATA: offset in the message of the packet's first byte, see
    /// [`Data::offset`](crate::Data::offset). Other packets: 0.
    pub sequence: u32,
    /// Native profile: the sender's random identity, 24 bits, 0 = not given. Zero in Linux packets.
    /// Encoding drops the upper 8 bits.
    pub incarnation: u32,
    /// The whole byte 12: length of the header in 4-byte words for segmentation hardware, in the
    /// upper four bits. Ignored on receipt.
    pub doff: u8,
    /// TCP flags, [`FLAGS`] in every packet sent. Only looked at in TCP-encapsulated packets.
    pub flags: u8,
    /// Native profile: [`VERSION_MAGIC`] and the version. Zero in Linux packets. See
    /// [`Common::version`].
    pub window: u16,
    /// TCP checksum; may be 0 except in TCP-encapsulated packets. No Homa receiver checks it.
    pub checksum: u16,
    /// TCP urgent pointer, [`URGENT`] in every packet sent.
    pub urgent: u16,
    /// RPC id as its sender knows it, see [`RpcId`].
    pub sender_id: u64,
}

impl Common {
    /// The common header of a control packet in pure Linux format.
    #[inline]
    pub const fn control(source_port: u16, destination_port: u16, sender_id: u64) -> Self {
        Self {
            source_port,
            destination_port,
            sequence: 0,
            incarnation: 0,
            doff: DOFF_CONTROL,
            flags: FLAGS,
            window: 0,
            checksum: 0,
            urgent: URGENT,
            sender_id,
        }
    }

    /// The common header of a DATA packet in pure Linux format, its first byte at `offset` of the
    /// message. Write the offset into [`Data::seg_offset`](crate::Data::seg_offset) too
    /// (docs/spec/wire-format.md §11 rule 1).
    #[inline]
    pub const fn data(
        source_port: u16,
        destination_port: u16,
        sender_id: u64,
        offset: u32,
    ) -> Self {
        let control = Self::control(source_port, destination_port, sender_id);
        Self { sequence: offset, doff: DOFF_DATA, ..control }
    }

    /// The same header in this implementation's native profile: version and `incarnation` (24 bits)
    /// filled in.
    #[inline]
    #[must_use]
    pub const fn with_native_profile(self, incarnation: u32) -> Self {
        Self { incarnation, window: VERSION_MAGIC | VERSION, ..self }
    }

    /// The RPC's id as the receiver of this packet knows it.
    #[inline]
    pub const fn local_id(&self) -> u64 {
        RpcId(self.sender_id).of_peer().0
    }

    /// Version of the native profile this packet announces, 0 to 4095; `None` for pure Linux
    /// format.
    #[inline]
    pub const fn version(&self) -> Option<u16> {
        if self.window & !VERSION_MASK == VERSION_MAGIC {
            Some(self.window & VERSION_MASK)
        } else {
            None
        }
    }

    /// Writes the header to the beginning of `out`, and returns what is left of it.
    #[inline]
    pub(crate) fn put<'out>(
        &self,
        packet_type: PacketType,
        out: &'out mut [u8],
    ) -> Option<&'out mut [u8]> {
        put_raw(out, &RawCommon::new(self, packet_type))
    }
}

/// The layout of the common header (docs/spec/wire-format.md §2), the only one with a field that
/// its value has not.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(crate) struct RawCommon {
    source_port: U16,
    destination_port: U16,
    pub(crate) sequence: U32,
    pub(crate) incarnation: U24,
    packet_type: u8,
    doff: u8,
    flags: u8,
    pub(crate) window: U16,
    checksum: U16,
    urgent: U16,
    pub(crate) sender_id: U64,
}
const _: () = assert!(size_of::<RawCommon>() == COMMON_HEADER_BYTES);

impl RawCommon {
    #[inline]
    pub(crate) fn new(common: &Common, packet_type: PacketType) -> Self {
        Self {
            source_port: common.source_port.into(),
            destination_port: common.destination_port.into(),
            sequence: common.sequence.into(),
            incarnation: U24::of(common.incarnation),
            packet_type: packet_type.code(),
            doff: common.doff,
            flags: common.flags,
            window: common.window.into(),
            checksum: common.checksum.into(),
            urgent: common.urgent.into(),
            sender_id: common.sender_id.into(),
        }
    }

    /// Looks at the beginning of a packet, and returns the bytes behind it; `None` if it is cut.
    #[inline]
    pub(crate) fn take(bytes: &[u8]) -> Option<(&Self, &[u8])> {
        Self::ref_from_prefix(bytes).ok()
    }

    /// The code as received, perhaps of no type.
    #[inline]
    pub(crate) const fn packet_type(&self) -> u8 {
        self.packet_type
    }

    #[inline]
    pub(crate) fn get(&self) -> Common {
        Common {
            source_port: self.source_port.get(),
            destination_port: self.destination_port.get(),
            sequence: self.sequence.get(),
            incarnation: self.incarnation.value(),
            doff: self.doff,
            flags: self.flags,
            window: self.window.get(),
            checksum: self.checksum.get(),
            urgent: self.urgent.get(),
            sender_id: self.sender_id.get(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_window_with_the_magic_announces_a_version() {
        let mut common = Common::control(1, 2, 4);
        assert_eq!(common.version(), None);
        for window in 0..=u16::MAX {
            common.window = window;
            let expected = (window >> 12 == 0xA).then_some(window & 0xFFF);
            assert_eq!(common.version(), expected);
        }
    }

    #[test]
    fn the_two_forms_of_an_id_differ_in_bit_zero() {
        assert_eq!(Common::control(1, 2, 4).local_id(), 5);
        assert_eq!(Common::control(1, 2, 5).local_id(), 4);
    }

    #[test]
    fn the_native_profile_changes_only_window_and_incarnation() {
        let linux = Common::data(1, 2, 4, 1_000);
        let native = linux.with_native_profile(0x12_3456);
        assert_eq!(native.version(), Some(VERSION));
        assert_eq!(native.incarnation, 0x12_3456);
        let back = Common { window: 0, incarnation: 0, ..native };
        assert_eq!(back, linux);
    }
}
