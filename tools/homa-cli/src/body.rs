//! What the bodies of requests and replies are made of.
//!
//! Payloads named by a size are a *seeded pattern*: every byte follows from a seed and its offset,
//! so a receiver can check each of them without having the original.
//!
//! A request may carry a small *order* in its first 16 bytes that tells `homa serve` what to reply.
//! A server that gets a body without one decides by itself (`--echo`, `--reply-bytes`,
//! `--discard`).
//!
//! | offset | bytes | content |
//! | --- | --- | --- |
//! | 0 | 3 | magic `9e 48 4d` |
//! | 3 | 1 | 1 = reply with a pattern, 2 = reply with the server's CPU time |
//! | 4 | 4 | length of the wanted reply, little endian |
//! | 8 | 8 | seed of the wanted pattern, little endian |

use bytes::Bytes;

/// Length of an order at the front of a request, in bytes.
pub(crate) const ORDER_BYTES: usize = 16;

/// The longest reply a request may order, in bytes; a longer one is not taken as an order.
pub(crate) const REPLY_BYTES_MAX: u32 = 64 << 20;

/// Seed of the pattern a server replies with by itself; no call of `homa call` uses it for its
/// request.
pub(crate) const SERVER_SEED: u64 = u64::MAX;

const MAGIC: [u8; 3] = [0x9e, b'H', b'M'];
const KIND_PATTERN: u8 = 1;
const KIND_CPU: u8 = 2;

/// What a request asks of the server beyond the server's own behaviour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// Reply with `length` bytes of the pattern of `seed`.
    Pattern {
        /// Length of the reply in bytes.
        length: u32,
        /// Seed of the reply's pattern.
        seed: u64,
    },
    /// Reply with the CPU time the server process has used: 8 bytes, nanoseconds, little endian.
    CpuTime,
}

impl Order {
    /// The 16 bytes that carry this order.
    pub(crate) fn encode(self) -> [u8; ORDER_BYTES] {
        let (kind, length, seed) = match self {
            Order::Pattern { length, seed } => (KIND_PATTERN, length, seed),
            Order::CpuTime => (KIND_CPU, 0, 0),
        };
        let mut bytes = [0; ORDER_BYTES];
        bytes[..3].copy_from_slice(&MAGIC);
        bytes[3] = kind;
        bytes[4..8].copy_from_slice(&length.to_le_bytes());
        bytes[8..].copy_from_slice(&seed.to_le_bytes());
        bytes
    }

    /// The order at the front of `body`, if there is one.
    pub(crate) fn decode(body: &[u8]) -> Option<Order> {
        let head = body.first_chunk::<ORDER_BYTES>()?;
        if head[..3] != MAGIC {
            return None;
        }
        let length = u32::from_le_bytes([head[4], head[5], head[6], head[7]]);
        let seed = u64::from_le_bytes([
            head[8], head[9], head[10], head[11], head[12], head[13], head[14], head[15],
        ]);
        match head[3] {
            KIND_PATTERN if length <= REPLY_BYTES_MAX => Some(Order::Pattern { length, seed }),
            KIND_CPU => Some(Order::CpuTime),
            _ => None,
        }
    }
}

/// `length` bytes of the pattern of `seed`.
pub(crate) fn pattern(seed: u64, length: usize) -> Bytes {
    pattern_vec(seed, length).into()
}

/// `length` bytes of the pattern of `seed`, whose first bytes are `order` where there is room for
/// it.
pub(crate) fn pattern_with_order(seed: u64, length: usize, order: Order) -> Bytes {
    let mut bytes = pattern_vec(seed, length);
    if let Some(head) = bytes.first_chunk_mut::<ORDER_BYTES>() {
        *head = order.encode();
    }
    bytes.into()
}

fn pattern_vec(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(length + 8);
    let mut word_index = 0;
    while bytes.len() < length {
        bytes.extend_from_slice(&pattern_word(seed, word_index).to_le_bytes());
        word_index += 1;
    }
    bytes.truncate(length);
    bytes
}

/// Offset of the first byte of `piece` that differs from the pattern of `seed`, where `piece`
/// starts at `offset` of the message; nothing when all are right.
pub(crate) fn first_wrong(seed: u64, offset: u64, piece: &[u8]) -> Option<u64> {
    let mut word_index = u64::MAX;
    let mut word = [0; 8];
    for (position, byte) in piece.iter().enumerate() {
        let at = offset + position as u64;
        if at / 8 != word_index {
            word_index = at / 8;
            word = pattern_word(seed, word_index).to_le_bytes();
        }
        if *byte != word[(at % 8) as usize] {
            return Some(at);
        }
    }
    None
}

/// The finalizer of SplitMix64: no two offsets or seeds in use give similar words.
fn pattern_word(seed: u64, word_index: u64) -> u64 {
    let mut z = seed.wrapping_add(word_index.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_survives_its_encoding() {
        for order in [Order::Pattern { length: 12_345, seed: u64::MAX - 3 }, Order::CpuTime] {
            let body = pattern_with_order(7, 100, order);
            assert_eq!(body.len(), 100);
            assert_eq!(Order::decode(&body), Some(order));
        }
    }

    #[test]
    fn ordinary_bodies_carry_no_order() {
        assert_eq!(Order::decode(b""), None);
        assert_eq!(Order::decode(b"hello"), None);
        for seed in 0..100 {
            assert_eq!(Order::decode(&pattern(seed, 64)), None);
        }
    }

    #[test]
    fn an_order_for_too_long_a_reply_is_no_order() {
        let order = Order::Pattern { length: REPLY_BYTES_MAX + 1, seed: 0 };
        assert_eq!(Order::decode(&order.encode()), None);
    }

    #[test]
    fn every_wrong_byte_is_found_in_any_piece() {
        let good = pattern(42, 1_000);
        assert_eq!(first_wrong(42, 0, &good), None);
        assert_eq!(first_wrong(42, 333, &good[333..777]), None);
        for at in [0, 1, 7, 8, 500, 999] {
            let mut bad = good.to_vec();
            bad[at] ^= 1;
            assert_eq!(first_wrong(42, 0, &bad), Some(at as u64));
        }
        assert!(first_wrong(43, 0, &good).is_some());
    }
}
