//! A bounded memory of finished RPCs, against late duplicates of their requests.

use core::hash::BuildHasher;
use core::mem;
use core::time::Duration;

use hashbrown::HashTable;

use crate::structures::hash::SeededState;
use crate::time::Instant;

/// Generations kept. An entry lives for `GENERATIONS − 1` to `GENERATIONS` of their spans.
const GENERATIONS: usize = 4;
/// Tables of up to this many entries are never shrunk.
const SMALL: usize = 1024;

/// Nothing more can be remembered now: refuse new requests until older entries expire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Full;

/// A finished RPC: hash of its peer, and its id. 16 bytes.
type Entry = (u64, u64);

/// Remembers finished `(peer_hash, id)` pairs for at least a given time and at most 4/3 of it.
///
/// Entries lie in four generations by the time they were added; the oldest is dropped as a
/// whole, lazily, so that no entry needs a timer. A call with an earlier `now` than before is
/// harmless.
#[derive(Debug)]
pub(crate) struct Finished {
    /// From the current generation to the oldest.
    generations: [HashTable<Entry>; GENERATIONS],
    current_since: Instant,
    /// Time for which a generation is the current one, at least 1 ns.
    span_ns: u64,
    max: usize,
    hasher: SeededState,
}

impl Finished {
    /// Remembers for `memory`, up to `max` entries (16 bytes each, plus free room in the
    /// tables). Allocates nothing yet.
    pub(crate) const fn new(memory: Duration, max: usize, seed: u64) -> Self {
        Self {
            generations: [const { HashTable::new() }; GENERATIONS],
            current_since: Instant::ZERO,
            span_ns: span_ns(memory),
            max,
            hasher: SeededState::new(seed),
        }
    }

    /// Remembers from now on. A pair that is known already is remembered anew.
    ///
    /// # Errors
    /// [`Full`] if there are `max` entries, or no memory for one more.
    pub(crate) fn insert(&mut self, now: Instant, peer_hash: u64, id: u64) -> Result<(), Full> {
        self.rotate(now);
        let entry = (peer_hash, id);
        let hash = self.hasher.hash_one(entry);
        let known = self.generation_of(hash, entry);
        if known == Some(0) {
            return Ok(());
        }
        if known.is_none() && self.len() >= self.max {
            return Err(Full);
        }
        self.add(hash, entry)?;
        if let Some(table) = known.and_then(|index| self.generations.get_mut(index)) {
            if let Ok(older) = table.find_entry(hash, |other| *other == entry) {
                older.remove();
            }
        }
        Ok(())
    }

    /// As [`Finished::insert`], for a pair that is not known. (One that is would only take two
    /// places.)
    pub(crate) fn insert_unknown(
        &mut self,
        now: Instant,
        peer_hash: u64,
        id: u64,
    ) -> Result<(), Full> {
        self.rotate(now);
        if self.len() >= self.max {
            return Err(Full);
        }
        let entry = (peer_hash, id);
        self.add(self.hasher.hash_one(entry), entry)
    }

    fn add(&mut self, hash: u64, entry: Entry) -> Result<(), Full> {
        let hasher = self.hasher;
        let [current, ..] = &mut self.generations;
        current.try_reserve(1, |entry| hasher.hash_one(entry)).map_err(|_| Full)?;
        current.insert_unique(hash, entry, |entry| hasher.hash_one(entry));
        Ok(())
    }

    /// Whether the pair is remembered.
    pub(crate) fn contains(&mut self, now: Instant, peer_hash: u64, id: u64) -> bool {
        self.rotate(now);
        let entry = (peer_hash, id);
        self.generation_of(self.hasher.hash_one(entry), entry).is_some()
    }

    /// Entries held; some may be due to be dropped at the next call that names the time.
    pub(crate) fn len(&self) -> usize {
        self.generations.iter().fold(0, |sum, table| sum.saturating_add(table.len()))
    }

    /// Whether an unknown pair could not be added now (short of memory apart).
    #[cfg(test)]
    pub(crate) fn is_full(&mut self, now: Instant) -> bool {
        self.rotate(now);
        self.len() >= self.max
    }

    fn generation_of(&self, hash: u64, entry: Entry) -> Option<usize> {
        self.generations
            .iter()
            .position(|table| table.find(hash, |other| *other == entry).is_some())
    }

    /// Drops the generations that are older than the memory.
    pub(crate) fn rotate(&mut self, now: Instant) {
        let since_ns = now.ns_since(self.current_since);
        if since_ns < self.span_ns {
            return;
        }
        let passed = since_ns.checked_div(self.span_ns).unwrap_or(0);
        let whole = passed.saturating_mul(self.span_ns);
        self.current_since = self.current_since.plus_ns(whole);
        for _ in 0..passed.min(GENERATIONS as u64) {
            self.generations.rotate_right(1);
            let [current, previous, ..] = &mut self.generations;
            recycle(current, previous.len());
        }
    }
}

/// Empties a table for reuse. One that is far larger than the last generation suggests is
/// given back, so that a burst does not hold its memory in every generation.
fn recycle(table: &mut HashTable<Entry>, expected: usize) {
    if table.capacity() > expected.max(SMALL).saturating_mul(4) {
        drop(mem::take(table));
    } else {
        table.clear();
    }
}

/// Span of a generation: `GENERATIONS − 1` of them are at least `memory`.
const fn span_ns(memory: Duration) -> u64 {
    let memory_ns =
        memory.as_secs().saturating_mul(1_000_000_000).saturating_add(memory.subsec_nanos() as u64);
    let span = memory_ns.div_ceil(GENERATIONS as u64 - 1);
    if span == 0 { 1 } else { span }
}

#[cfg(test)]
mod tests {
    use alloc::collections::BTreeMap;
    use proptest::prelude::*;

    use super::*;

    const MEMORY: Duration = Duration::from_secs(2);

    fn at_ms(ms: u64) -> Instant {
        Instant::from_nanos(ms * 1_000_000)
    }

    #[test]
    fn an_entry_is_remembered_for_its_time_and_then_forgotten() {
        for start in [0, 1, 666, 667, 1_999, 1_000_000_000] {
            let mut finished = Finished::new(MEMORY, 100, 1);
            finished.insert(at_ms(start), 7, 8).unwrap();
            assert!(finished.contains(at_ms(start), 7, 8));
            assert!(finished.contains(at_ms(start + 2000), 7, 8), "{start}");
            assert!(!finished.contains(at_ms(start + 4000), 7, 8), "{start}");
            assert_eq!(finished.len(), 0);
        }
    }

    #[test]
    fn a_pair_that_is_said_to_be_unknown_is_remembered_like_any_other() {
        let mut finished = Finished::new(MEMORY, 2, 1);
        finished.insert_unknown(at_ms(0), 7, 8).unwrap();
        assert!(finished.contains(at_ms(2000), 7, 8) && !finished.contains(at_ms(0), 7, 10));
        // Said so wrongly: it takes two places.
        finished.insert_unknown(at_ms(0), 7, 8).unwrap();
        assert_eq!(finished.insert_unknown(at_ms(0), 7, 10), Err(Full));
        assert!(!finished.contains(at_ms(6000), 7, 8));
        finished.insert_unknown(at_ms(6000), 7, 10).unwrap();
    }

    #[test]
    fn peer_and_id_both_count() {
        let mut finished = Finished::new(MEMORY, 100, 1);
        finished.insert(at_ms(0), 7, 8).unwrap();
        assert!(!finished.contains(at_ms(0), 7, 10));
        assert!(!finished.contains(at_ms(0), 9, 8));
    }

    #[test]
    fn when_full_new_pairs_are_refused_until_old_ones_expire() {
        let mut finished = Finished::new(MEMORY, 3, 1);
        for id in 0..3 {
            finished.insert(at_ms(id * 700), 1, id).unwrap();
        }
        assert!(finished.is_full(at_ms(1400)));
        assert_eq!(finished.insert(at_ms(1400), 1, 9), Err(Full));
        assert_eq!(finished.insert(at_ms(1400), 1, 2), Ok(()));
        assert!(!finished.is_full(at_ms(2700)));
        assert_eq!(finished.insert(at_ms(2700), 1, 9), Ok(()));
    }

    #[test]
    fn a_known_pair_is_remembered_anew_and_counts_once() {
        let mut finished = Finished::new(MEMORY, 1, 1);
        finished.insert(at_ms(0), 1, 2).unwrap();
        finished.insert(at_ms(1500), 1, 2).unwrap();
        assert_eq!(finished.len(), 1);
        assert!(finished.contains(at_ms(3500), 1, 2));
    }

    #[test]
    fn time_that_goes_back_forgets_nothing() {
        let mut finished = Finished::new(MEMORY, 10, 1);
        finished.insert(at_ms(5000), 1, 2).unwrap();
        assert!(finished.contains(at_ms(1), 1, 2));
        assert!(finished.contains(at_ms(7000), 1, 2));
        assert!(!finished.contains(Instant::FAR_FUTURE, 1, 2));
    }

    #[test]
    fn no_memory_at_all_is_harmless() {
        let mut finished = Finished::new(Duration::ZERO, 0, 1);
        assert_eq!(finished.insert(at_ms(1), 1, 2), Err(Full));
        let mut finished = Finished::new(Duration::MAX, 1, 1);
        finished.insert(at_ms(1), 1, 2).unwrap();
        assert!(finished.contains(at_ms(1_000_000), 1, 2));
    }

    #[test]
    fn memory_is_kept_for_reuse_but_not_after_a_burst() {
        let mut finished = Finished::new(MEMORY, 1 << 20, 1);
        let span = 667;
        for id in 0..50_000 {
            finished.insert(at_ms(0), 1, id).unwrap();
        }
        let burst = finished.generations[0].capacity();
        for generation in 1..4 {
            finished.insert(at_ms(generation * span), 1, 0).unwrap();
        }
        finished.rotate(at_ms(4 * span));
        assert!(finished.generations.iter().all(|table| table.capacity() < burst));
        for generation in 5..10 {
            let before = finished.generations[3].capacity();
            finished.rotate(at_ms(generation * span));
            assert_eq!(finished.generations[0].capacity(), before);
        }
    }

    proptest! {
        #[test]
        fn entries_live_between_one_and_two_times_the_memory(
            steps in prop::collection::vec((0..1500u64, 0..12u64, any::<bool>()), 1..200),
            max in 1..10usize,
        ) {
            let mut finished = Finished::new(MEMORY, max, 9);
            let mut added_ms: BTreeMap<u64, u64> = BTreeMap::new();
            let mut now_ms = 0;
            for (wait_ms, id, add) in steps {
                now_ms += wait_ms;
                if add && finished.insert(at_ms(now_ms), 5, id).is_ok() {
                    added_ms.insert(id, now_ms);
                }
                prop_assert!(finished.len() <= max);
                for id in 0..12 {
                    let age_ms = added_ms.get(&id).map(|added| now_ms - added);
                    let known = finished.contains(at_ms(now_ms), 5, id);
                    prop_assert!(known || age_ms.is_none_or(|age| age > 2000));
                    prop_assert!(!known || age_ms.is_some_and(|age| age < 4000));
                }
            }
        }
    }
}
