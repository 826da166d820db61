//! A whole header: parsed from bytes, encoded to bytes.

use crate::common::RawCommon;
use crate::layout::Wire;
use crate::{
    Body, COMMON_HEADER_BYTES, Common, DATA_HEADER_BYTES, Data, EXTENSION_BYTES, Extension,
    PacketType, ParseError, Reason, VERSION,
};

/// Everything a packet says besides its payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Header {
    /// The part all packets have.
    pub common: Common,
    /// The part that depends on the packet type.
    pub body: Body,
    /// Native profile only: see [`Header::written_extension`].
    pub extension: Option<Extension>,
}

impl Header {
    /// Reads the header of a packet of `transport_len` bytes, of which `header` holds at least the
    /// first min(`transport_len`, [`HEADER_MAX`](crate::HEADER_MAX)). More bytes do no harm.
    ///
    /// The extension is read if the packet announces [`VERSION`], is not DATA and has 8 bytes
    /// behind its header. Other bytes behind the header are payload or ignored. The values of
    /// fields are not judged.
    ///
    /// # Errors
    /// [`ParseError::TooShort`] if the packet, or `header`, ends within the header of its type;
    /// [`ParseError::UnknownType`] if there is no such type (docs/spec/wire-format.md §9 step 1).
    #[inline]
    pub fn parse(header: &[u8], transport_len: u32) -> Result<Self, ParseError> {
        // A link may have padded the packet: what lies behind its end is not part of it.
        let end = usize::try_from(transport_len).unwrap_or(usize::MAX);
        let packet = header.get(..end).unwrap_or(header);
        let too_short = |need| ParseError::TooShort { need, got: packet.len() };

        let (raw, rest) = RawCommon::take(packet).ok_or(too_short(COMMON_HEADER_BYTES))?;
        let packet_type = PacketType::try_from(raw.packet_type())?;
        let common = raw.get();
        if matches!(packet_type, PacketType::Data) {
            // The usual packet is parsed without a copy of its body.
            let (data, _) = Data::take(rest).ok_or(too_short(packet_type.header_bytes()))?;
            return Ok(Self { common, body: Body::Data(data), extension: None });
        }
        let (body, rest) =
            Body::take(packet_type, rest).ok_or(too_short(packet_type.header_bytes()))?;
        let extension = if carries_extension(&common, packet_type) {
            Extension::take(rest).map(|(extension, _)| extension)
        } else {
            None
        };
        Ok(Self { common, body, extension })
    }

    /// Writes the header to the beginning of `out` and returns how many bytes it took, which is
    /// [`Header::encoded_bytes`]; `None`, with `out` untouched, if it does not fit. The payload of
    /// a DATA packet goes directly behind.
    #[inline]
    #[must_use]
    pub fn encode(&self, out: &mut [u8]) -> Option<usize> {
        if let Body::Data(data) = &self.body {
            // The usual packet has a header of one length.
            let out = out.get_mut(..DATA_HEADER_BYTES)?;
            let out = self.common.put(PacketType::Data, out)?;
            data.put(out)?;
            return Some(DATA_HEADER_BYTES);
        }
        let encoded_bytes = self.encoded_bytes();
        let out = out.get_mut(..encoded_bytes)?;
        let out = self.common.put(self.packet_type(), out)?;
        let out = self.body.put(out)?;
        if let Some(extension) = self.written_extension() {
            extension.put(out)?;
        }
        Some(encoded_bytes)
    }

    /// Bytes that [`Header::encode`] writes: header and extension, 28 to 88.
    #[inline]
    pub const fn encoded_bytes(&self) -> usize {
        let extension_bytes = match self.written_extension() {
            Some(_) => EXTENSION_BYTES,
            None => 0,
        };
        self.packet_type().header_bytes() + extension_bytes
    }

    /// The extension as it goes on the wire: only control packets that announce [`VERSION`] carry
    /// one. In all other packets a receiver would take it for payload or not look, so it is left
    /// out.
    #[inline]
    pub const fn written_extension(&self) -> Option<&Extension> {
        if carries_extension(&self.common, self.packet_type()) {
            self.extension.as_ref()
        } else {
            None
        }
    }

    /// Why the packet was sent, [`Reason::None`] without an extension.
    #[inline]
    pub const fn reason(&self) -> Reason {
        match &self.extension {
            Some(extension) => extension.reason,
            None => Reason::None,
        }
    }

    /// The type of the packet.
    #[inline]
    pub const fn packet_type(&self) -> PacketType {
        self.body.packet_type()
    }
}

/// Whether 8 bytes behind this header are an extension.
#[inline]
const fn carries_extension(common: &Common, packet_type: PacketType) -> bool {
    matches!(common.version(), Some(VERSION)) && !matches!(packet_type, PacketType::Data)
}
