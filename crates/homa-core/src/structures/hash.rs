//! Seeded hash tables: the same seed, the same behaviour.

use core::hash::{BuildHasher, Hasher};

use foldhash::SharedSeed;
use foldhash::fast::FoldHasher;

/// Hash map with a seeded hasher. Its iteration order must not decide anything.
pub(crate) type Map<K, V> = hashbrown::HashMap<K, V, SeededState>;

/// Builds hashers from one 64-bit seed.
///
/// Keys come from the network, and the hash multiplies its input with a constant: somebody
/// who knows the constant could choose keys that all meet in one place of the table. So every
/// input is masked with a secret made from the seed first.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SeededState {
    start: u64,
    mask: u64,
}

impl SeededState {
    /// A state for `seed`. Different tables should get different seeds.
    pub(crate) const fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        Self { start: rng.next_u64(), mask: rng.next_u64() }
    }
}

impl BuildHasher for SeededState {
    type Hasher = SeededHasher;

    fn build_hasher(&self) -> SeededHasher {
        SeededHasher {
            inner: FoldHasher::with_seed(self.start, SharedSeed::global_fixed()),
            mask: self.mask,
        }
    }
}

/// The hasher of [`SeededState`].
#[derive(Clone)]
pub(crate) struct SeededHasher {
    inner: FoldHasher<'static>,
    mask: u64,
}

impl Hasher for SeededHasher {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            for (to, from) in word.iter_mut().zip(chunk) {
                *to = *from;
            }
            self.write_u64(u64::from_le_bytes(word));
        }
        // Tells a short last chunk from one that ends in zeros.
        self.write_u64(bytes.len() as u64);
    }

    fn write_u8(&mut self, value: u8) {
        self.inner.write_u8(value ^ self.mask as u8);
    }

    fn write_u16(&mut self, value: u16) {
        self.inner.write_u16(value ^ self.mask as u16);
    }

    fn write_u32(&mut self, value: u32) {
        self.inner.write_u32(value ^ self.mask as u32);
    }

    fn write_u64(&mut self, value: u64) {
        self.inner.write_u64(value ^ self.mask);
    }

    fn write_usize(&mut self, value: usize) {
        self.write_u64(value as u64);
    }

    fn finish(&self) -> u64 {
        self.inner.finish()
    }
}

/// Pseudo-random numbers (SplitMix64: a counter and a mixing function). Any seed is good. **Not
/// cryptographic**: one output determines all that follow, so none leaves the engine (see
/// [`crate::secret`]).
#[derive(Clone, Debug)]
pub(crate) struct Rng {
    state: u64,
}

impl Rng {
    /// A generator; the same seed gives the same numbers.
    pub(crate) const fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// The next 64 random bits.
    pub(crate) const fn next_u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

#[cfg(test)]
mod tests {
    use alloc::collections::BTreeSet;
    use core::hash::Hash;
    use core::net::IpAddr;

    use super::*;

    fn hash_of(state: &SeededState, value: impl Hash) -> u64 {
        state.hash_one(value)
    }

    #[test]
    fn the_same_seed_gives_the_same_hashes_and_another_seed_others() {
        let key = (IpAddr::from([10, 0, 0, 1]), 4000u16, 0x1234_5678_9abc_def0u64);
        let (a, b) = (SeededState::new(7), SeededState::new(7));
        assert_eq!(hash_of(&a, key), hash_of(&b, key));
        assert_ne!(hash_of(&a, key), hash_of(&SeededState::new(8), key));
    }

    #[test]
    fn byte_strings_differ_by_length_and_content() {
        let state = SeededState::new(1);
        let inputs: [&[u8]; 6] = [b"", b"\0", b"\0\0", b"12345678", b"12345678\0", b"123456780"];
        let hashes: BTreeSet<u64> = inputs
            .iter()
            .map(|bytes| {
                let mut hasher = state.build_hasher();
                hasher.write(bytes);
                hasher.finish()
            })
            .collect();
        assert_eq!(hashes.len(), inputs.len());
    }

    #[test]
    fn no_choice_of_the_second_word_cancels_the_first() {
        // Without the mask, one value of the second word makes the product zero
        // whatever the first is.
        let fixed = |first: u64, second: u64| {
            let mut hasher = FoldHasher::with_seed(99, SharedSeed::global_fixed());
            hasher.write_u64(first);
            hasher.write_u64(second);
            hasher.finish()
        };
        let fatal = 0xc0ac_29b7_c97c_50dd;
        assert_eq!(fixed(1, fatal), fixed(2, fatal), "the weakness this test is about is gone");
        for seed in 0..100 {
            let state = SeededState::new(seed);
            assert_ne!(hash_of(&state, (1u64, fatal)), hash_of(&state, (2u64, fatal)));
        }
    }

    #[test]
    fn sequential_keys_spread_over_the_table() {
        let state = SeededState::new(3);
        let mut buckets = [0u32; 256];
        for id in (0..25_600u64).step_by(2) {
            buckets[(hash_of(&state, (77u64, id)) & 255) as usize] += 1;
        }
        assert!(buckets.iter().all(|count| (15..=90).contains(count)), "{buckets:?}");
    }

    #[test]
    fn a_map_works_with_it() {
        let mut map: Map<(u64, u64), u32> = Map::with_hasher(SeededState::new(5));
        for index in 0..1000 {
            map.insert((u64::from(index % 7), u64::from(index)), index);
        }
        assert_eq!(map.get(&(3, 10)), Some(&10));
        assert_eq!(map.get(&(3, 11)), None);
    }

    #[test]
    fn the_generator_is_splitmix64() {
        // Known first outputs of SplitMix64 for seed 1234567.
        let mut rng = Rng::new(1_234_567);
        assert_eq!(rng.next_u64(), 6_457_827_717_110_365_317);
        assert_eq!(rng.next_u64(), 3_203_168_211_198_807_973);
    }
}
