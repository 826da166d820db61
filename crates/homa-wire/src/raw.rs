//! Headers as they lie in memory: packed, big-endian, without alignment.
//!
//! These types are only the layout. Each converts to and from the plain value its users work with.

use zerocopy::byteorder::big_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::{
    ACKS_MAX, Ack, AckEntry, CUTOFF_LEVELS, Common, Cutoffs, Data, Extension, Grant, PacketType,
    Resend,
};

/// Declares a layout of the wire and checks its size when compiling.
macro_rules! layout {
    ($(#[$doc:meta])* $name:ident, $bytes:expr, { $($field:ident: $type:ty,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
        #[repr(C)]
        pub(crate) struct $name { $($field: $type,)* }
        const _: () = assert!(size_of::<$name>() == $bytes);
    };
}

layout!(
    /// Source: docs/spec/wire-format.md §2.
    RawCommon, crate::COMMON_HEADER_BYTES, {
    source_port: U16,
    destination_port: U16,
    sequence: U32,
    incarnation: U24,
    packet_type: u8,
    doff: u8,
    flags: u8,
    window: U16,
    checksum: U16,
    urgent: U16,
    sender_id: U64,
});

layout!(
    /// Source: docs/spec/wire-format.md §5, §7.
    RawAckEntry, 10, {
    client_id: U64,
    server_port: U16,
});

layout!(
    /// Source: docs/spec/wire-format.md §5, without the common header.
    RawData, crate::DATA_HEADER_BYTES - crate::COMMON_HEADER_BYTES, {
    message_length: U32,
    incoming: U32,
    ack: RawAckEntry,
    cutoff_version: U16,
    retransmit: u8,
    echo: U24,
    seg_offset: U32,
});

layout!(
    /// Source: docs/spec/wire-format.md §7, without the common header.
    RawGrant, crate::GRANT_HEADER_BYTES - crate::COMMON_HEADER_BYTES, {
    offset: U32,
    priority: u8,
});

layout!(
    /// Source: docs/spec/wire-format.md §7, without the common header.
    RawResend, crate::RESEND_HEADER_BYTES - crate::COMMON_HEADER_BYTES, {
    offset: U32,
    length: U32,
    priority: u8,
});

layout!(
    /// Source: docs/spec/wire-format.md §7, without the common header.
    RawCutoffs, crate::CUTOFFS_HEADER_BYTES - crate::COMMON_HEADER_BYTES, {
    levels: [U32; CUTOFF_LEVELS],
    version: U16,
});

layout!(
    /// Source: docs/spec/wire-format.md §7, without the common header.
    RawAck, crate::ACK_HEADER_BYTES - crate::COMMON_HEADER_BYTES, {
    count: U16,
    entries: [RawAckEntry; ACKS_MAX],
});

layout!(
    /// Own profile, see [`Extension`].
    RawExtension, crate::EXTENSION_BYTES, {
    echo: U24,
    reason: u8,
    value: U32,
});

layout!(
    /// An integer of 24 bits.
    U24, 3, {
    bytes: [u8; 3],
});

impl U24 {
    #[inline]
    const fn get(self) -> u32 {
        let [high, middle, low] = self.bytes;
        u32::from_be_bytes([0, high, middle, low])
    }

    /// Keeps the lower 24 bits.
    #[inline]
    const fn new(value: u32) -> Self {
        let [_, high, middle, low] = value.to_be_bytes();
        Self { bytes: [high, middle, low] }
    }
}

impl RawCommon {
    #[inline]
    pub(crate) fn new(common: &Common, packet_type: PacketType) -> Self {
        Self {
            source_port: common.source_port.into(),
            destination_port: common.destination_port.into(),
            sequence: common.sequence.into(),
            incarnation: U24::new(common.incarnation),
            packet_type: packet_type.code(),
            doff: common.doff,
            flags: common.flags,
            window: common.window.into(),
            checksum: common.checksum.into(),
            urgent: common.urgent.into(),
            sender_id: common.sender_id.into(),
        }
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
            incarnation: self.incarnation.get(),
            doff: self.doff,
            flags: self.flags,
            window: self.window.get(),
            checksum: self.checksum.get(),
            urgent: self.urgent.get(),
            sender_id: self.sender_id.get(),
        }
    }
}

impl RawAckEntry {
    #[inline]
    fn new(entry: &AckEntry) -> Self {
        Self { client_id: entry.client_id.into(), server_port: entry.server_port.into() }
    }

    #[inline]
    fn get(&self) -> AckEntry {
        AckEntry { client_id: self.client_id.get(), server_port: self.server_port.get() }
    }
}

impl RawData {
    #[inline]
    pub(crate) fn new(data: &Data) -> Self {
        Self {
            message_length: data.message_length.into(),
            incoming: data.incoming.into(),
            ack: RawAckEntry::new(&data.ack),
            cutoff_version: data.cutoff_version.into(),
            retransmit: data.retransmit,
            echo: U24::new(data.echo),
            seg_offset: data.seg_offset.into(),
        }
    }

    #[inline]
    pub(crate) fn get(&self) -> Data {
        Data {
            message_length: self.message_length.get(),
            incoming: self.incoming.get(),
            ack: self.ack.get(),
            cutoff_version: self.cutoff_version.get(),
            retransmit: self.retransmit,
            echo: self.echo.get(),
            seg_offset: self.seg_offset.get(),
        }
    }
}

impl RawGrant {
    #[inline]
    pub(crate) fn new(grant: &Grant) -> Self {
        Self { offset: grant.offset.into(), priority: grant.priority }
    }

    #[inline]
    pub(crate) fn get(&self) -> Grant {
        Grant { offset: self.offset.get(), priority: self.priority }
    }
}

impl RawResend {
    #[inline]
    pub(crate) fn new(resend: &Resend) -> Self {
        Self {
            offset: resend.offset.into(),
            length: resend.length.into(),
            priority: resend.priority,
        }
    }

    #[inline]
    pub(crate) fn get(&self) -> Resend {
        Resend { offset: self.offset.get(), length: self.length.get(), priority: self.priority }
    }
}

impl RawCutoffs {
    #[inline]
    pub(crate) fn new(cutoffs: &Cutoffs) -> Self {
        Self { levels: cutoffs.levels.map(U32::new), version: cutoffs.version.into() }
    }

    #[inline]
    pub(crate) fn get(&self) -> Cutoffs {
        Cutoffs { levels: self.levels.map(U32::get), version: self.version.get() }
    }
}

impl RawAck {
    #[inline]
    pub(crate) fn new(ack: &Ack) -> Self {
        Self { count: ack.count.into(), entries: ack.entries.each_ref().map(RawAckEntry::new) }
    }

    #[inline]
    pub(crate) fn get(&self) -> Ack {
        Ack { count: self.count.get(), entries: self.entries.each_ref().map(RawAckEntry::get) }
    }
}

impl RawExtension {
    #[inline]
    pub(crate) fn new(extension: &Extension) -> Self {
        Self {
            echo: U24::new(extension.echo),
            reason: extension.reason.code(),
            value: extension.value.into(),
        }
    }

    #[inline]
    pub(crate) fn get(&self) -> Extension {
        Extension { echo: self.echo.get(), reason: self.reason.into(), value: self.value.get() }
    }
}
