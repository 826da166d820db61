//! A digest of a world's history.

use std::hash::Hasher;

/// A hash of what happened in a world, the same on all machines with little-endian words.
///
/// [`Hasher`]s of the standard library promise no value, and this one has to be written down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Digest(u64);

impl Digest {
    /// 2^64 divided by the golden ratio.
    const FACTOR: u64 = 0x9E37_79B9_7F4A_7C15;

    fn add(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(29) ^ word).wrapping_mul(Self::FACTOR);
    }
}

impl Hasher for Digest {
    fn write(&mut self, bytes: &[u8]) {
        self.add(bytes.len() as u64);
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.add(u64::from_le_bytes(word));
        }
    }

    fn finish(&self) -> u64 {
        self.0 ^ (self.0 >> 32)
    }
}

#[cfg(test)]
mod tests {
    use std::hash::Hash;

    use super::*;

    fn digest(value: impl Hash) -> u64 {
        let mut digest = Digest::default();
        value.hash(&mut digest);
        digest.finish()
    }

    #[test]
    fn a_digest_tells_bytes_lengths_and_order_apart() {
        let all = [
            digest(b""),
            digest(b"\0"),
            digest(b"\0\0"),
            digest((1_u64, 2_u64)),
            digest((2_u64, 1_u64)),
            digest([1_u64, 2_u64]),
        ];
        for (index, one) in all.iter().enumerate() {
            assert!(!all[..index].contains(one), "{index} of {all:x?}");
        }
    }

    #[test]
    fn a_digest_is_the_same_in_every_run() {
        assert_eq!(digest(1_u64), digest(1_u64));
        assert_eq!(digest(b"homa"), DIGEST_OF_HOMA);
    }

    const DIGEST_OF_HOMA: u64 = 0x0614_839E_C686_227E;
}
