//! A whole packet in one piece.

use crate::{Body, DATA_HEADER_BYTES, Header, ParseError};

/// A packet whose bytes lie in one piece: the header read, the payload borrowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet<'a> {
    /// The parsed header.
    pub header: Header,
    /// DATA: the message bytes it carries, which may include padding behind the message's end.
    /// Control packets: empty.
    pub payload: &'a [u8],
}

impl<'a> Packet<'a> {
    /// Reads the packet that `bytes` holds: all bytes behind the IP or UDP header, up to the end
    /// the IP or UDP header gives. The payload is not copied.
    ///
    /// # Errors
    /// As [`Header::parse`].
    #[inline]
    pub fn parse(bytes: &'a [u8]) -> Result<Self, ParseError> {
        // More than 4 GiB is not a packet; saturating only shortens what is looked at.
        let transport_len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let header = Header::parse(bytes, transport_len)?;
        let payload = match header.body {
            Body::Data(_) => bytes.get(DATA_HEADER_BYTES..).unwrap_or_default(),
            _ => &[],
        };
        Ok(Self { header, payload })
    }
}
