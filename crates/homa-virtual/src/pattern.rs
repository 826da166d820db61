//! Payload that shows where it belongs.

use std::sync::LazyLock;

use bytes::{Buf, Bytes};

use crate::dice::Dice;
use homa_io::{Body, Message};

/// Length of the table in bytes: a prime, so that shifts by packets or pieces do not go unnoticed.
const TABLE_BYTES: usize = 65_521;
/// Bytes at the beginning of a message that name it, as far as it has them.
const NAME_BYTES: usize = 4;

static TABLE: LazyLock<Bytes> = LazyLock::new(|| {
    let mut dice = Dice::new(0x686F_6D61);
    (0..TABLE_BYTES).map(|_| dice.roll() as u8).collect()
});

/// Bytes of one message: its number, little-endian, then a stretch of a random table that depends
/// on it. Made and compared without writing the bytes out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pattern {
    number: u32,
    length: u32,
    salt: u64,
}

impl Pattern {
    /// The request of call `number`.
    pub fn request(number: u32, length: u32) -> Self {
        Self { number, length, salt: 0 }
    }

    /// The response of call `number`.
    pub fn response(number: u32, length: u32) -> Self {
        Self { number, length, salt: 7919 }
    }

    /// Bytes of the message.
    pub fn length(&self) -> u32 {
        self.length
    }

    /// The number in the first bytes of a message.
    pub fn number_of(mut message: Message) -> u32 {
        let mut name = [0; NAME_BYTES];
        let known = message.len().min(NAME_BYTES);
        message.copy_to_slice(&mut name[..known]);
        u32::from_le_bytes(name)
    }

    /// The whole message, as a chain of buffers.
    pub fn body(&self) -> Body {
        self.range(0, self.length).into_iter().collect()
    }

    /// The bytes from `start` to `end`.
    pub fn range(&self, start: u32, end: u32) -> Vec<Bytes> {
        let (mut at, end) = (start as usize, end.min(self.length) as usize);
        let mut chunks = Vec::new();
        if at < NAME_BYTES.min(end) {
            let name = Bytes::copy_from_slice(&self.number.to_le_bytes());
            chunks.push(name.slice(at..NAME_BYTES.min(end)));
            at = NAME_BYTES.min(end);
        }
        while at < end {
            let from = self.table_index(at);
            let to = TABLE_BYTES.min(from + end - at);
            chunks.push(TABLE.slice(from..to));
            at += to - from;
        }
        chunks
    }

    /// Whether `message` is exactly the part of this message that begins at `start`.
    pub fn matches(&self, start: u32, message: &Message) -> bool {
        let Ok(length) = u32::try_from(message.len()) else {
            return false;
        };
        if start.checked_add(length).is_none_or(|end| end > self.length) {
            return false;
        }
        let expected: Message = self.range(start, start + length).into_iter().collect();
        expected == *message
    }

    fn table_index(&self, at: usize) -> usize {
        let start = (u64::from(self.number) * 4099 + self.salt) % TABLE_BYTES as u64;
        (start as usize + at) % TABLE_BYTES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_two_parts_make_the_whole() {
        let pattern = Pattern::request(77, 150_000);
        let whole: Message = pattern.range(0, 150_000).into_iter().collect();
        assert_eq!(whole.len(), 150_000);
        assert_eq!(Pattern::number_of(whole.clone()), 77);
        for cut in [0, 1, 3, 4, 5, 65_521, 149_999] {
            let mut parts: Message = pattern.range(0, cut).into_iter().collect();
            parts.append(pattern.range(cut, 150_000).into_iter().collect());
            assert_eq!(parts, whole);
            assert!(pattern.matches(cut, &pattern.range(cut, 150_000).into_iter().collect()));
        }
    }

    #[test]
    fn a_wrong_byte_a_shift_and_another_message_are_noticed() {
        let pattern = Pattern::response(5, 100_000);
        let mut bytes = Message::from_iter(pattern.range(0, 100_000)).to_vec();
        assert!(pattern.matches(0, &Message::from(Bytes::from(bytes.clone()))));
        bytes[70_000] ^= 1;
        assert!(!pattern.matches(0, &Message::from(Bytes::from(bytes))));
        assert!(!pattern.matches(0, &Message::from_iter(pattern.range(1, 100_000))));
        assert!(
            !pattern
                .matches(0, &Message::from_iter(Pattern::response(6, 100_000).range(0, 100_000)))
        );
        assert!(
            !pattern
                .matches(0, &Message::from_iter(Pattern::request(5, 100_000).range(0, 100_000)))
        );
    }
}
