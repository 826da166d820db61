//! Bodies of the packet types, after the common header.

use zerocopy::byteorder::big_endian::{U16, U32, U64};

use crate::layout::{U24, layout};
use crate::{ACKS_MAX, CUTOFF_LEVELS, Common, OFFSET_IN_SEQUENCE, RESEND_ALL};

layout! {
    /// DATA: part of a message; the payload follows the header (docs/spec/wire-format.md §5).
    pub struct Data as RawData {
        /// Bytes of the whole message, the same in all its packets unless it is [`Data::OPEN`]. Not
        /// checked by parsing.
        pub message_length: u32 as U32,
        /// All bytes below this offset will come without further grants. Not checked by parsing.
        pub incoming: u32 as U32,
        /// An older RPC of the sender's whose server state may go, or [`AckEntry::NONE`].
        /// See [`Data::acknowledged`].
        pub ack: AckEntry as RawAckEntry,
        /// Version of the newest CUTOFFS the sender holds from this destination; 0 = none.
        pub cutoff_version: u16 as U16,
        /// What the packet says of itself and its message, see [`Data::RETRANSMISSION`] and the
        /// others. In Linux format every value but 0 says that it is a retransmission.
        pub flags: u8 as u8,
        /// Native profile: the receiver's incarnation as the sender knows it, 24 bits, 0 = not
        /// known. Zero in Linux packets. Encoding drops the upper 8 bits.
        pub echo: u32 as U24,
        /// Offset of the first payload byte, or [`OFFSET_IN_SEQUENCE`]. See [`Data::offset`].
        pub seg_offset: u32 as U32,
    }
}

impl Data {
    /// Flag: sent again because of RESEND or RPC_UNKNOWN. For statistics and timing only.
    pub const RETRANSMISSION: u8 = 1 << 0;
    /// Flag, native profile: the message begins with a frame of the application's library. The same
    /// in all packets of a message.
    pub const FRAMED: u8 = 1 << 1;
    /// Flag, native profile: the message may grow. [`Data::message_length`] is its length as far as
    /// it is known, and one byte; that byte is sent when the length is final. The same in all
    /// packets of a message.
    pub const OPEN: u8 = 1 << 2;

    /// The flags that all packets of a message share.
    const OF_MESSAGE: u8 = Self::FRAMED | Self::OPEN;

    /// Whether the packet was sent again; `common` is the part before it.
    #[inline]
    pub const fn is_retransmission(&self, common: &Common) -> bool {
        // Mostly there is no flag.
        self.flags != 0 && (self.flags & Self::RETRANSMISSION != 0 || common.version().is_none())
    }

    /// The flags that all packets of the message share, 0 in Linux format; `common` is the part
    /// before it.
    #[inline]
    pub const fn message_flags(&self, common: &Common) -> u8 {
        let flags = self.flags & Self::OF_MESSAGE;
        if flags != 0 && common.version().is_none() { 0 } else { flags }
    }

    /// Whether the message begins with a frame of the application's library; `common` is the part
    /// before it.
    #[inline]
    pub const fn is_framed(&self, common: &Common) -> bool {
        self.message_flags(common) & Self::FRAMED != 0
    }

    /// Whether the message may grow; `common` is the part before it.
    #[inline]
    pub const fn is_open(&self, common: &Common) -> bool {
        self.message_flags(common) & Self::OPEN != 0
    }

    /// Offset in the message of the first payload byte. `sequence` is the packet's
    /// [`Common::sequence`], which counts only when [`Data::seg_offset`] says so
    /// (docs/spec/wire-format.md §5).
    ///
    /// [`Common::sequence`]: crate::Common::sequence
    #[inline]
    pub const fn offset(&self, sequence: u32) -> u32 {
        if self.seg_offset == OFFSET_IN_SEQUENCE { sequence } else { self.seg_offset }
    }

    /// Whether the payload is the beginning of the message; `common` is the part before it.
    #[inline]
    pub const fn begins(&self, common: &Common) -> bool {
        self.offset(common.sequence) == 0
    }

    /// The older RPC this packet acknowledges in passing, if any.
    #[inline]
    pub const fn acknowledged(&self) -> Option<AckEntry> {
        if self.ack.client_id == 0 { None } else { Some(self.ack) }
    }
}

layout! {
    /// GRANT: the message may be sent up to `offset` (docs/spec/wire-format.md §7).
    pub struct Grant as RawGrant {
        /// All bytes below this offset may be sent. A value lower than an earlier one takes nothing
        /// back.
        pub offset: u32 as U32,
        /// Internal priority for the message's scheduled packets from now on, 0 (lowest) to 7.
        pub priority: u8 as u8,
    }
}

layout! {
    /// RESEND: send a range again (docs/spec/wire-format.md §7).
    pub struct Resend as RawResend {
        /// First byte wanted.
        pub offset: u32 as U32,
        /// Bytes wanted, or [`RESEND_ALL`].
        pub length: u32 as U32,
        /// Internal priority for the retransmitted packets, 0 (lowest) to 7.
        pub priority: u8 as u8,
    }
}

impl Resend {
    /// Whether nothing of the message arrived and all that was sent is wanted again.
    #[inline]
    pub const fn is_all(&self) -> bool {
        self.length == RESEND_ALL
    }
}

layout! {
    /// CUTOFFS: priorities for unscheduled packets sent to the originator of this packet
    /// (docs/spec/wire-format.md §7).
    pub struct Cutoffs as RawCutoffs {
        /// Entry `i`: largest message length in bytes that should use priority `i`. Entry 0 is to
        /// be taken as 2^31 - 1 whatever it holds.
        pub levels: [u32; CUTOFF_LEVELS] as [U32; CUTOFF_LEVELS],
        /// Opaque version to put into later DATA packets.
        pub version: u16 as U16,
    }
}

layout! {
    /// ACK: the server may forget RPCs: the one the common header names and those listed
    /// (docs/spec/wire-format.md §7).
    pub struct Ack as RawAck {
        /// How many entries count, as received; values above 5 mean 5. See [`Ack::entries()`].
        pub count: u16 as U16,
        /// All entries as received; those from `count` on are zero or stale.
        pub entries: [AckEntry; ACKS_MAX] as [RawAckEntry; ACKS_MAX],
    }
}

impl Ack {
    /// The entries that count, at most 5.
    #[inline]
    pub fn entries(&self) -> &[AckEntry] {
        let count = usize::from(self.count).min(ACKS_MAX);
        self.entries.get(..count).unwrap_or_default()
    }
}

layout! {
    /// Names an RPC whose server state may be dropped (docs/spec/wire-format.md §5, §7).
    pub struct AckEntry as RawAckEntry {
        /// The RPC's id in the client's (even) form; 0 = no acknowledgement.
        pub client_id: u64 as U64,
        /// Port of the server that handled the RPC.
        pub server_port: u16 as U16,
    }
}

impl AckEntry {
    /// No acknowledgement: what unused places hold.
    pub const NONE: Self = Self { client_id: 0, server_port: 0 };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_segment_offset_governs_unless_it_is_all_ones() {
        let mut data = Data { seg_offset: 1_424, ..Data::default() };
        assert_eq!(data.offset(7), 1_424);
        data.seg_offset = 0;
        assert_eq!(data.offset(7), 0);
        data.seg_offset = OFFSET_IN_SEQUENCE;
        assert_eq!(data.offset(7), 7);
    }

    #[test]
    fn in_linux_format_every_flag_says_that_a_packet_was_sent_again() {
        let linux = Common::data(1, 2, 2, 0);
        let native = linux.with_native_profile(7);
        for flags in 0..=u8::MAX {
            let data = Data { flags, ..Data::default() };
            assert_eq!(data.is_retransmission(&linux), flags != 0);
            assert_eq!(data.is_retransmission(&native), flags & Data::RETRANSMISSION != 0);
            assert!(!data.is_framed(&linux));
            assert_eq!(data.is_framed(&native), flags & Data::FRAMED != 0);
            assert!(!data.is_open(&linux));
            assert_eq!(data.is_open(&native), flags & Data::OPEN != 0);
        }
    }

    #[test]
    fn an_ack_that_announces_too_many_entries_has_five() {
        let mut ack =
            Ack { count: 2, entries: [AckEntry { client_id: 4, server_port: 1 }; ACKS_MAX] };
        assert_eq!(ack.entries().len(), 2);
        ack.count = u16::MAX;
        assert_eq!(ack.entries().len(), ACKS_MAX);
        ack.count = 0;
        assert!(ack.entries().is_empty());
    }

    #[test]
    fn an_ack_for_id_zero_is_none() {
        let mut data = Data::default();
        data.ack.server_port = 9;
        assert_eq!(data.acknowledged(), None);
        data.ack.client_id = 2;
        assert_eq!(data.acknowledged(), Some(data.ack));
    }
}
