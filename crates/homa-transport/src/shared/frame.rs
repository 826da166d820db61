//! What a message of this library says besides its body (docs/spec/wire-format.md §12): bytes ahead
//! of the body, in messages that are marked as framed. Most messages have none.

use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use homa_io::{METADATA_BYTES_MAX, Message, Metadata};

/// Bytes of a frame without metadata and leg.
const FIXED_BYTES: usize = 8;
/// Bytes of the name of a pair of RPCs.
const LEG_BYTES: usize = 8;
/// Bytes of a frame at most.
pub(crate) const FRAME_BYTES_MAX: usize = FIXED_BYTES + LEG_BYTES + METADATA_BYTES_MAX;

const OPEN: u8 = 1;
const REJECTION: u8 = 2;
const UPLOAD: u8 = 4;
const DOWNLOAD: u8 = 8;
const KNOWN: u8 = OPEN | REJECTION | UPLOAD | DOWNLOAD;

/// What travels ahead of a body.
///
/// Layout: bytes of the frame (2), flags (1), 0 (1), number (4), name of the pair (8, of a leg
/// alone), metadata.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Frame {
    /// The length of the body was not known: it ends one byte before the message.
    pub(crate) open: bool,
    /// Response: the handler rejected the request with this code; the body is its text.
    pub(crate) rejection: Option<u32>,
    /// Request: time that its client gives it, in whole µs, up to 71 minutes.
    pub(crate) timeout: Option<Duration>,
    /// Request: one of the two RPCs of a call that goes both ways at once.
    pub(crate) leg: Option<(Leg, u64)>,
    pub(crate) metadata: Metadata,
}

/// Part of a call that goes both ways at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Leg {
    /// Its request is that of the call, its response empty.
    Upload,
    /// Its request is empty, its response that of the call.
    Download,
}

/// Bytes that are no frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

/// A length that the engine has already limited to 2^30.
pub(crate) fn length_u32(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

impl Frame {
    /// Whether a message cannot do without it.
    pub(crate) fn is_needed(&self) -> bool {
        let timeout_only = Self { timeout: self.timeout, ..Self::default() };
        *self != timeout_only
    }

    /// How many bytes it has on the wire.
    pub(crate) fn bytes(&self) -> usize {
        let leg_bytes = if self.leg.is_some() { LEG_BYTES } else { 0 };
        FIXED_BYTES + leg_bytes + self.metadata.bytes()
    }

    /// Its bytes on the wire. The metadata has to be valid.
    pub(crate) fn encode(&self) -> Bytes {
        let length = self.bytes();
        let mut flags = 0;
        flags |= if self.open { OPEN } else { 0 };
        flags |= if self.rejection.is_some() { REJECTION } else { 0 };
        flags |= match self.leg {
            None => 0,
            Some((Leg::Upload, _)) => UPLOAD,
            Some((Leg::Download, _)) => DOWNLOAD,
        };
        // A deadline that has come is not one that there is not.
        let micros = |timeout: Duration| u32::try_from(timeout.as_micros()).unwrap_or(0).max(1);
        let mut out = BytesMut::with_capacity(length);
        out.put_u16(u16::try_from(length).unwrap_or(u16::MAX));
        out.put_u8(flags);
        out.put_u8(0);
        out.put_u32(self.rejection.or(self.timeout.map(micros)).unwrap_or(0));
        if let Some((_, pair)) = self.leg {
            out.put_u64(pair);
        }
        self.metadata.encode(&mut out);
        out.freeze()
    }

    /// Takes the frame off the beginning of a message; `None`: not all of it is there yet.
    pub(crate) fn take_off(message: &mut Message) -> Result<Option<Self>, Malformed> {
        let mut start = [0; 2];
        if message.len() < start.len() {
            return Ok(None);
        }
        let bytes = message.chunks().flat_map(|chunk| chunk.iter());
        start.iter_mut().zip(bytes).for_each(|(place, byte)| *place = *byte);
        let length = usize::from(u16::from_be_bytes(start));
        if !(FIXED_BYTES..=FRAME_BYTES_MAX).contains(&length) {
            return Err(Malformed);
        }
        if message.len() < length {
            return Ok(None);
        }
        Self::decode(message.copy_to_bytes(length)).map(Some).ok_or(Malformed)
    }

    /// Reads a whole frame.
    fn decode(mut bytes: Bytes) -> Option<Self> {
        bytes.advance(2);
        let flags = bytes.try_get_u8().ok()?;
        let reserved = bytes.try_get_u8().ok()?;
        let number = bytes.try_get_u32().ok()?;
        // What is not understood may change what the message means.
        if flags & !KNOWN != 0 || reserved != 0 {
            return None;
        }
        let leg = match flags & (UPLOAD | DOWNLOAD) {
            0 => None,
            UPLOAD => Some((Leg::Upload, bytes.try_get_u64().ok()?)),
            DOWNLOAD => Some((Leg::Download, bytes.try_get_u64().ok()?)),
            _ => return None,
        };
        let is_rejection = flags & REJECTION != 0;
        Some(Self {
            open: flags & OPEN != 0,
            rejection: is_rejection.then_some(number),
            timeout: (!is_rejection && number > 0)
                .then(|| Duration::from_micros(u64::from(number))),
            leg,
            metadata: Metadata::decode(bytes)?,
        })
    }

    /// The message with the frame ahead of it.
    pub(crate) fn ahead_of(&self, body: Message) -> Message {
        let mut message = Message::from(self.encode());
        message.append(body);
        message
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames() -> Vec<Frame> {
        let metadata = || Metadata::new().with("trace", "17");
        vec![
            Frame::default(),
            Frame { timeout: Some(Duration::from_micros(1)), ..Frame::default() },
            Frame { open: true, metadata: metadata(), ..Frame::default() },
            Frame { rejection: Some(0), metadata: metadata(), ..Frame::default() },
            Frame { leg: Some((Leg::Upload, 7)), open: true, ..Frame::default() },
            Frame {
                leg: Some((Leg::Download, u64::MAX)),
                metadata: metadata(),
                ..Frame::default()
            },
        ]
    }

    #[test]
    fn a_frame_is_taken_off_as_it_was_put_ahead() {
        for frame in frames() {
            let mut message = frame.ahead_of("body".into());
            assert_eq!(Frame::take_off(&mut message), Ok(Some(frame)));
            assert_eq!(message, "body");
        }
    }

    #[test]
    fn a_frame_that_comes_in_pieces_waits_for_its_end() {
        for frame in frames() {
            let (encoded, mut message) = (frame.encode(), Message::new());
            for byte in &encoded {
                assert_eq!(Frame::take_off(&mut message), Ok(None));
                message.push(Bytes::copy_from_slice(&[*byte]));
            }
            assert_eq!(Frame::take_off(&mut message), Ok(Some(frame)));
            assert!(message.is_empty());
        }
    }

    #[test]
    fn what_no_peer_of_this_version_writes_is_malformed() {
        let good = frames()[1].encode();
        for (at, value) in [(1, 7), (0, 0xff), (2, 16), (2, UPLOAD | DOWNLOAD), (3, 1), (1, 9)] {
            let mut bytes = good.to_vec();
            bytes[at] = value;
            bytes.resize(9_000, 1);
            let taken = Frame::take_off(&mut bytes.into());
            assert_eq!(taken, Err(Malformed), "byte {at} is {value}");
        }
    }

    #[test]
    fn a_timeout_is_rounded_to_what_can_be_said() {
        for (timeout, said) in [(0, 1), (1_999, 1), (5_000_000, 5_000)] {
            let frame = Frame { timeout: Some(Duration::from_nanos(timeout)), ..Frame::default() };
            let taken = Frame::take_off(&mut frame.ahead_of("x".into())).unwrap().unwrap();
            assert_eq!(taken.timeout, Some(Duration::from_micros(said)));
        }
    }

    #[test]
    fn only_what_a_timeout_says_can_be_left_out() {
        let needed: Vec<bool> = frames().iter().map(Frame::is_needed).collect();
        assert_eq!(needed, [false, false, true, true, true, true]);
    }
}
