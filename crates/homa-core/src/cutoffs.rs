//! Which priority unscheduled data gets: the table, and its computation from observed traffic.

use core::time::Duration;

use crate::histogram::{LargeMessages, LengthBin, LengthHistogram};
use crate::structures::OutOfMemory;
use crate::time::Instant;

const LEVELS: usize = 8;
/// Entry 0: no message is longer, so there is always a level.
const EVERY_LENGTH: u32 = u32::MAX >> 1;
/// Entries from here on mean "messages of any length", as in Linux, whose longest message this
/// is.
const UNBOUNDED_BYTES: u32 = 1_000_000;
const DECILES: usize = 9;

/// Thresholds for unscheduled priorities: entry *i* is the largest message length in bytes
/// whose unscheduled packets use level *i*. Read from the top level down, values increase; the
/// first level with 1,000,000 or more is the lowest for unscheduled data, and those below it are
/// for scheduled data. Source: docs/spec/protocol.md §5.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Cutoffs {
    levels: [u32; LEVELS],
}

impl Cutoffs {
    /// The table with these entries, except that entry 0 always admits every length.
    pub const fn new(levels: [u32; LEVELS]) -> Self {
        let [_, one, two, three, four, five, six, seven] = levels;
        Self { levels: [EVERY_LENGTH, one, two, three, four, five, six, seven] }
    }

    /// Cutoffs that a sender assumes before its peer has announced any: level 6 for all lengths, or
    /// level 0 where `num_priorities` (1 to 8) leaves no level 6.
    pub fn initial(num_priorities: u8) -> Self {
        Self::new([0, 0, 0, 0, 0, 0, EVERY_LENGTH, 0]).normalise(num_priorities)
    }

    /// Cutoffs that an engine announces before it has seen enough traffic: Linux's default table
    /// (`Cutoffs::default()`) or, with fewer levels, its upper part on the levels there are.
    pub fn default_for(num_priorities: u8) -> Self {
        let mut levels = Self::default().levels;
        let missing = LEVELS.saturating_sub(usize::from(num_priorities.max(1)));
        levels.rotate_left(missing);
        Self::new(levels).normalise(num_priorities)
    }

    /// The entries, level 0 first, in bytes.
    pub const fn levels(&self) -> &[u32; LEVELS] {
        &self.levels
    }

    /// Level for the unscheduled packets of a message of `length` bytes: the highest one below
    /// `num_priorities` (1 to 8) that admits it, 0 if none does. A level for 1,000,000 bytes is one
    /// for messages of any length.
    pub fn priority(&self, length: u32, num_priorities: u8) -> u8 {
        let length = length.min(UNBOUNDED_BYTES);
        let levels = self.levels.get(..usize::from(num_priorities)).unwrap_or(&self.levels);
        let level = levels.iter().rposition(|longest| *longest >= length).unwrap_or(0);
        u8::try_from(level).unwrap_or(0)
    }

    /// Adapts the table to `num_priorities` (1 to 8): levels that do not exist admit nothing.
    #[must_use]
    pub fn normalise(mut self, num_priorities: u8) -> Self {
        for entry in self.levels.iter_mut().skip(usize::from(num_priorities.max(1))) {
            *entry = 0;
        }
        self
    }

    /// Highest level for scheduled data: the one below the lowest unscheduled level, or 0, which
    /// both then share. Only levels below `num_priorities` (1 to 8) count.
    pub fn max_scheduled_priority(&self, num_priorities: u8) -> u8 {
        self.min_unscheduled_priority(num_priorities).saturating_sub(1)
    }

    /// Lowest level for unscheduled data, of those below `num_priorities` (1 to 8).
    pub(crate) fn min_unscheduled_priority(&self, num_priorities: u8) -> u8 {
        (0..num_priorities)
            .zip(&self.levels)
            .rev()
            .find(|(_, longest)| **longest >= UNBOUNDED_BYTES)
            .map_or(0, |(level, _)| level)
    }

    /// Names the table to peers: a hash of its entries, never 0 (which means "no table").
    /// A hash rather than a counter, so that a restarted engine does not reuse a number for
    /// another table.
    pub fn version(&self) -> u16 {
        // FNV-1a over the bytes, folded to 16 bits.
        let bytes = self.levels.iter().flat_map(|entry| entry.to_be_bytes());
        let hash = bytes
            .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
        let folded = ((hash >> 16) ^ (hash & 0xffff)) as u16;
        // Linux counts its versions up from 1: a host that changes sides shows another version.
        folded | 0x8000
    }
}

impl Default for Cutoffs {
    /// Linux's table: up to 200 bytes at level 7, 2800 at 6, 15,000 at 5, the rest at 4.
    fn default() -> Self {
        Self::new([EVERY_LENGTH, 0, 0, 0, UNBOUNDED_BYTES, 15_000, 2_800, 200])
    }
}

/// Settings of a [`CutoffPlanner`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct PlannerConfig {
    /// How often to look at the traffic.
    pub(crate) interval: Duration,
    /// Messages needed for a look; with fewer it goes on collecting.
    pub(crate) messages_min: u64,
    /// Change of the length distribution worth a new table, in 1/1000, summed over nine deciles
    /// (at most 9000).
    pub(crate) drift_min_permille: u32,
    /// Added to the computed number of unscheduled levels before rounding, in 1/1000 level.
    pub(crate) boost_permille: i32,
    /// Number of unscheduled levels, `None` to compute it.
    pub(crate) unscheduled_levels: Option<u8>,
    /// Longest message in bytes: what the unbounded levels admit (at least 1,000,000).
    pub(crate) message_bytes_max: u32,
}

impl Default for PlannerConfig {
    /// As the program that does this for Linux.
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(1),
            messages_min: 10_000,
            drift_min_permille: 1000,
            boost_permille: 0,
            unscheduled_levels: None,
            message_bytes_max: UNBOUNDED_BYTES,
        }
    }
}

/// Computes cutoffs from the lengths of incoming messages, so that the unscheduled levels carry
/// equal numbers of bytes. Source: docs/spec/protocol.md §Computing cutoffs.
#[derive(Debug)]
pub(crate) struct CutoffPlanner {
    config: PlannerConfig,
    histogram: LengthHistogram,
    /// The histogram at the last look.
    baseline: LengthHistogram,
    next_update: Instant,
    /// Deciles of the distribution the last table was computed from, in bytes.
    deciles: [u32; DECILES],
    /// Priority levels for which it was computed; 0 before the first.
    num_priorities: u8,
}

impl CutoffPlanner {
    /// A planner that has seen nothing.
    ///
    /// # Errors
    /// [`OutOfMemory`] if its 3 KB cannot be allocated.
    pub(crate) fn new(config: PlannerConfig) -> Result<Self, OutOfMemory> {
        Ok(Self {
            config,
            histogram: LengthHistogram::new()?,
            baseline: LengthHistogram::new()?,
            next_update: Instant::ZERO,
            deciles: [0; DECILES],
            num_priorities: 0,
        })
    }

    /// Counts an incoming message of `length` bytes.
    pub(crate) fn record(&mut self, length: u32) {
        self.histogram.record(length);
    }

    /// All that was recorded.
    pub(crate) const fn histogram(&self) -> &LengthHistogram {
        &self.histogram
    }

    /// When [`Self::maybe_update`] will look next; earlier calls do nothing.
    #[cfg(test)]
    pub(crate) const fn next_update(&self) -> Instant {
        self.next_update
    }

    /// A new table if the interval is over, enough messages came and their lengths have changed
    /// enough; `None` if it equals `current`. With one priority level there is nothing to compute.
    pub(crate) fn maybe_update(
        &mut self,
        now: Instant,
        unscheduled_bytes: u32,
        num_priorities: u8,
        current: &Cutoffs,
    ) -> Option<Cutoffs> {
        if now < self.next_update {
            return None;
        }
        self.next_update = now + self.config.interval;
        let num_priorities = num_priorities.min(LEVELS as u8);
        if num_priorities <= 1 {
            return None;
        }
        let sample = Sample { planner: self };
        let messages = sample.messages();
        if messages < self.config.messages_min.max(1) {
            return None;
        }
        let deciles = sample.deciles(messages, self.unbounded());
        let drifted = drift_permille(&deciles, &self.deciles) >= self.config.drift_min_permille;
        let table = (drifted || num_priorities != self.num_priorities)
            .then(|| sample.cutoffs(unscheduled_bytes, num_priorities));
        self.baseline.copy_from(&self.histogram);
        let table = table?;
        self.deciles = deciles;
        self.num_priorities = num_priorities;
        (table != *current).then_some(table)
    }

    /// Length that a level without limit admits.
    fn unbounded(&self) -> u32 {
        self.config.message_bytes_max.max(UNBOUNDED_BYTES)
    }
}

/// The traffic between the last look and this one.
struct Sample<'a> {
    planner: &'a CutoffPlanner,
}

impl Sample<'_> {
    fn bins(&self) -> impl Iterator<Item = LengthBin> + Clone {
        self.planner.histogram.bins_since(&self.planner.baseline)
    }

    fn large(&self) -> LargeMessages {
        self.planner.histogram.large_since(&self.planner.baseline)
    }

    fn messages(&self) -> u64 {
        saturating_sum(self.bins().map(messages_in)).saturating_add(self.large().count)
    }

    fn total_bytes(&self) -> u64 {
        saturating_sum(self.bins().map(|bin| bin.bytes)).saturating_add(self.large().bytes)
    }

    /// Lengths below which 1/10, 2/10, … of the messages are: upper edges of their bins, `longest`
    /// for those beyond the bins.
    fn deciles(&self, messages: u64, longest: u32) -> [u32; DECILES] {
        let mut deciles = [longest; DECILES];
        let mut rank = (1..).zip(&mut deciles);
        let mut next = rank.next();
        let mut below = 0u64;
        for bin in self.bins() {
            below = below.saturating_add(messages_in(bin));
            while let Some((tenths, decile)) = &mut next {
                if below.saturating_mul(10) < messages.saturating_mul(*tenths) {
                    break;
                }
                **decile = bin.upper_bytes;
                next = rank.next();
            }
        }
        deciles
    }

    /// The table for this traffic (steps 4 to 6 of the source).
    fn cutoffs(&self, unscheduled_bytes: u32, num_priorities: u8) -> Cutoffs {
        let total = self.total_bytes();
        let large = self.large();
        // A long message may still be shorter than `unscheduled_bytes`.
        let unscheduled_large =
            large.count.saturating_mul(u64::from(unscheduled_bytes)).min(large.bytes);
        let unscheduled =
            saturating_sum(self.bins().map(|bin| unscheduled_in(bin, unscheduled_bytes)))
                .saturating_add(unscheduled_large);
        let count = self.unscheduled_levels(unscheduled, total, num_priorities);
        let share = if count == num_priorities {
            total / u64::from(num_priorities)
        } else {
            unscheduled / u64::from(count)
        };
        self.divide(share.saturating_add(1), unscheduled_bytes, num_priorities)
    }

    /// Number of levels for unscheduled data, 1 to `num_priorities`. It is half of them at least:
    /// the unscheduled part of a long message may be several round trips of a link, and at one
    /// level short messages would wait for it.
    fn unscheduled_levels(&self, unscheduled: u64, total: u64, num_priorities: u8) -> u8 {
        if let Some(fixed) = self.planner.config.unscheduled_levels {
            return fixed.clamp(1, num_priorities);
        }
        // Keep the products below 2^63: the ratio survives the loss of low bits.
        let excess = (u64::BITS - total.leading_zeros()).saturating_sub(48);
        let thousandths = ((unscheduled >> excess) * 1000 * u64::from(num_priorities))
            .checked_div(total >> excess)
            .unwrap_or(0);
        let boosted = thousandths
            .saturating_add_signed(i64::from(self.planner.config.boost_permille))
            .saturating_add(500);
        let rounded = u8::try_from(boosted / 1000).unwrap_or(num_priorities);
        rounded.clamp((num_priorities / 2).max(1), num_priorities)
    }

    /// Gives each level, from the top, the next `target` unscheduled bytes of ever longer
    /// messages.
    fn divide(&self, target: u64, unscheduled_bytes: u32, num_priorities: u8) -> Cutoffs {
        let mut levels = [self.planner.unbounded(); LEVELS];
        let mut from_top = levels.iter_mut().take(usize::from(num_priorities)).rev();
        let mut collected = 0u64;
        for bin in self.bins() {
            collected = collected.saturating_add(unscheduled_in(bin, unscheduled_bytes));
            if collected >= target {
                let Some(level) = from_top.next() else { break };
                *level = bin.upper_bytes;
                collected = 0;
            }
        }
        // Level 0 admits every length whatever was put there.
        Cutoffs::new(levels).normalise(num_priorities)
    }
}

/// Estimated number of messages: their bytes over the middle of the bin.
fn messages_in(bin: LengthBin) -> u64 {
    let edges = u64::from(bin.lower_bytes).saturating_add(u64::from(bin.upper_bytes));
    bin.bytes.saturating_mul(2).checked_div(edges).unwrap_or(0)
}

/// Estimated bytes that are sent without waiting for a grant.
fn unscheduled_in(bin: LengthBin, unscheduled_bytes: u32) -> u64 {
    if bin.upper_bytes <= unscheduled_bytes {
        bin.bytes
    } else {
        messages_in(bin).saturating_mul(u64::from(unscheduled_bytes)).min(bin.bytes)
    }
}

/// Sum over deciles of |a − b| / max(a, b), in 1/1000.
fn drift_permille(new: &[u32; DECILES], old: &[u32; DECILES]) -> u32 {
    new.iter().zip(old).fold(0, |sum: u32, (a, b)| {
        let change = u64::from(a.abs_diff(*b)) * 1000;
        let relative = change.checked_div(u64::from(*a.max(b))).unwrap_or(0);
        sum.saturating_add(u32::try_from(relative).unwrap_or(1000))
    })
}

fn saturating_sum(values: impl Iterator<Item = u64>) -> u64 {
    values.fold(0, u64::saturating_add)
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;
    use proptest::prelude::*;

    use super::*;

    const W1: &str = include_str!("../testdata/w1.csv");
    const W2: &str = include_str!("../testdata/w2.csv");
    const W3: &str = include_str!("../testdata/w3.csv");
    const W4: &str = include_str!("../testdata/w4.csv");
    const W5: &str = include_str!("../testdata/w5.csv");
    const UNSCHEDULED: u32 = 40_000;

    fn planner() -> CutoffPlanner {
        CutoffPlanner::new(PlannerConfig::default()).unwrap()
    }

    /// `count` messages spread evenly over the distribution, capped at 1,000,000 bytes.
    fn lengths(csv: &str, count: u32) -> Vec<u32> {
        let points: Vec<(u32, f64)> = csv
            .lines()
            .skip(1)
            .map(|line| line.split_once(',').unwrap())
            .map(|(length, fraction)| (length.parse().unwrap(), fraction.parse().unwrap()))
            .collect();
        (0..count)
            .map(|index| (f64::from(index) + 0.5) / f64::from(count))
            .map(|fraction| points[points.partition_point(|point| point.1 < fraction)].0)
            .map(|length| length.min(1_000_000))
            .collect()
    }

    fn feed(planner: &mut CutoffPlanner, lengths: &[u32]) {
        for length in lengths {
            planner.record(*length);
        }
    }

    fn plan(planner: &mut CutoffPlanner, second: u64, num_priorities: u8) -> Option<Cutoffs> {
        let now = Instant::from_nanos(second * 1_000_000_000);
        planner.maybe_update(now, UNSCHEDULED, num_priorities, &Cutoffs::default())
    }

    fn planned(csv: &str) -> Cutoffs {
        let mut planner = planner();
        feed(&mut planner, &lengths(csv, 200_000));
        plan(&mut planner, 1, 8).unwrap()
    }

    /// The values from the top level down never decrease.
    fn is_monotone(table: &Cutoffs, num_priorities: u8) -> bool {
        let used = &table.levels()[..usize::from(num_priorities)];
        used.windows(2).all(|pair| pair[0] >= pair[1])
    }

    /// Whether `ours` is within `percent` of the hand-made value.
    fn near(ours: u32, theirs: u32, percent: u32) -> bool {
        ours.abs_diff(theirs) <= theirs / 100 * percent
    }

    #[test]
    fn a_length_uses_the_highest_level_that_admits_it() {
        let table = Cutoffs::new([0, 0, 0, 400, 200, 100, 0, 0]);
        let levels = [10, 200, 201, 401].map(|length| table.priority(length, 8));
        assert_eq!(levels, [5, 4, 3, 0]);
        assert_eq!(table.priority(10, 5), 4);
        assert_eq!(table.priority(10, 0), 0);
        assert_eq!(table.priority(u32::MAX, 255), 0);
    }

    #[test]
    fn a_level_for_a_million_bytes_is_one_for_longer_messages_too() {
        let table = Cutoffs::default();
        for length in [15_001, 1_000_000, 1_000_001, 1 << 30] {
            assert_eq!(table.priority(length, 8), 4, "{length}");
        }
    }

    #[test]
    fn before_any_cutoffs_everything_goes_at_level_6_or_0() {
        for (num_priorities, level) in [(8, 6), (7, 6), (6, 0), (4, 0), (1, 0)] {
            let initial = Cutoffs::initial(num_priorities);
            assert_eq!(initial.priority(1, num_priorities), level);
            assert_eq!(initial.priority(1_000_000, num_priorities), level);
        }
    }

    #[test]
    fn the_default_table_leaves_levels_0_to_3_for_scheduled_data() {
        let table = Cutoffs::default();
        let levels = [200, 201, 2801, 15_001, 1_000_000].map(|length| table.priority(length, 8));
        assert_eq!(levels, [7, 6, 5, 4, 4]);
        assert_eq!(table.min_unscheduled_priority(8), 4);
        assert_eq!(table.max_scheduled_priority(8), 3);
    }

    #[test]
    fn normalising_empties_the_levels_that_do_not_exist() {
        let table = Cutoffs::new([5, 1_000_000, 1_000_000, 900, 800, 700, 600, 500]);
        let table = table.normalise(6);
        assert_eq!(table.levels(), &[EVERY_LENGTH, 1_000_000, 1_000_000, 900, 800, 700, 0, 0]);
        assert_eq!(table.max_scheduled_priority(8), 1);
        let table = table.normalise(2);
        assert_eq!(table.max_scheduled_priority(8), 0);
        let table = table.normalise(0);
        assert_eq!(table.levels(), &[EVERY_LENGTH, 0, 0, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn without_a_level_for_all_lengths_level_0_is_shared() {
        let table = Cutoffs::new([0, 999_999, 5000, 400, 300, 200, 100, 50]);
        assert_eq!(table.max_scheduled_priority(8), 0);
        assert_eq!(table.min_unscheduled_priority(8), 0);
    }

    #[test]
    fn levels_that_do_not_exist_do_not_count_for_scheduled_data() {
        let table = Cutoffs::new([0, 0, 1_000_000, 500, 0, 0, 1_000_000, 100]);
        assert_eq!(table.max_scheduled_priority(8), 5);
        assert_eq!(table.max_scheduled_priority(4), 1);
        assert_eq!(table.max_scheduled_priority(0), 0);
    }

    #[test]
    fn with_fewer_levels_the_default_table_keeps_its_upper_part() {
        assert_eq!(Cutoffs::default_for(8), Cutoffs::default());
        let expected = [EVERY_LENGTH, 1_000_000, 15_000, 2_800, 200, 0, 0, 0];
        assert_eq!(Cutoffs::default_for(5).levels(), &expected);
        assert_eq!(Cutoffs::default_for(5).max_scheduled_priority(5), 0);
        let expected = [EVERY_LENGTH, 2_800, 200, 0, 0, 0, 0, 0];
        assert_eq!(Cutoffs::default_for(3).levels(), &expected);
        for num_priorities in [0, 1] {
            assert_eq!(Cutoffs::default_for(num_priorities).levels()[1..], [0; 7]);
        }
    }

    // Scenario: K6
    #[test]
    fn versions_tell_tables_apart_and_are_never_0() {
        let tables = [W1, W2, W3, W4, W5].map(planned);
        let mut versions: Vec<u16> = tables.iter().map(Cutoffs::version).collect();
        versions.push(Cutoffs::default().version());
        versions.sort_unstable();
        versions.dedup();
        assert_eq!(versions.len(), 6);
        assert!(!versions.contains(&0));
        assert_eq!(Cutoffs::default().version(), Cutoffs::default().version());
    }

    #[test]
    fn w1_is_nearly_all_unscheduled() {
        let table = planned(W1);
        assert!(is_monotone(&table, 8), "{table:?}");
        assert_eq!(table.max_scheduled_priority(8), 0);
        assert!(table.levels()[1] < 20_000, "{table:?}");
        assert!(near(table.levels()[7], 192, 40), "{table:?}");
    }

    #[test]
    fn w2_has_six_unscheduled_levels() {
        let table = planned(W2);
        assert!(is_monotone(&table, 8), "{table:?}");
        assert_eq!(table.max_scheduled_priority(8), 1, "{table:?}");
        assert!(near(table.levels()[7], 320, 25) && near(table.levels()[3], 7168, 25), "{table:?}");
    }

    #[test]
    fn w3_has_four_unscheduled_levels() {
        let table = planned(W3);
        assert!(is_monotone(&table, 8), "{table:?}");
        assert_eq!(table.max_scheduled_priority(8), 3, "{table:?}");
        assert!(near(table.levels()[7], 3008, 25), "{table:?}");
        assert!(near(table.levels()[6], 12_288, 25), "{table:?}");
        assert!(near(table.levels()[5], 63_488, 25), "{table:?}");
    }

    #[test]
    fn short_messages_have_levels_of_their_own_however_little_is_unscheduled() {
        let table = planned(W4);
        assert!(near(table.levels()[7], 47_104, 25), "{table:?}");
        assert!(near(table.levels()[6], 77_824, 25), "{table:?}");
        assert_eq!(table.levels()[1..6], [1_000_000; 5]);
        // Most lengths are beyond those that are counted one by one.
        let table = planned(W5);
        assert!(near(table.levels()[7], 52_224, 25), "{table:?}");
        assert_eq!(table.levels()[1..7], [1_000_000; 6]);
    }

    #[test]
    fn too_few_messages_are_collected_further() {
        let mut planner = planner();
        let lengths = lengths(W3, 9_000);
        feed(&mut planner, &lengths);
        assert_eq!(plan(&mut planner, 1, 8), None);
        feed(&mut planner, &lengths);
        assert!(plan(&mut planner, 2, 8).is_some());
    }

    #[test]
    fn nothing_is_looked_at_before_the_interval_is_over() {
        let mut planner = planner();
        assert_eq!(plan(&mut planner, 10, 8), None);
        assert_eq!(planner.next_update(), Instant::from_nanos(11_000_000_000));
        feed(&mut planner, &lengths(W3, 20_000));
        assert_eq!(plan(&mut planner, 10, 8), None);
        assert!(plan(&mut planner, 11, 8).is_some());
    }

    #[test]
    fn only_a_changed_distribution_or_number_of_levels_gives_a_new_table() {
        let mut planner = planner();
        for (second, csv, num_priorities, changes) in [
            (1, W3, 8, true),
            (2, W3, 8, false),
            (3, W3, 6, true),
            (4, W5, 6, true),
            (5, W5, 6, false),
        ] {
            feed(&mut planner, &lengths(csv, 20_000));
            let table = plan(&mut planner, second, num_priorities);
            assert_eq!(table.is_some(), changes, "second {second}");
        }
    }

    #[test]
    fn a_table_that_equals_the_current_one_is_not_reported() {
        let mut planner = planner();
        feed(&mut planner, &lengths(W3, 200_000));
        let now = Instant::from_nanos(1);
        assert_eq!(planner.maybe_update(now, UNSCHEDULED, 8, &planned(W3)), None);
    }

    #[test]
    fn with_one_level_there_is_nothing_to_compute() {
        let mut planner = planner();
        feed(&mut planner, &lengths(W3, 20_000));
        assert_eq!(plan(&mut planner, 1, 1), None);
        assert_eq!(plan(&mut planner, 3, 0), None);
    }

    #[test]
    fn the_number_of_unscheduled_levels_can_be_fixed_or_boosted() {
        let lowest_unscheduled = |config| {
            let mut planner = CutoffPlanner::new(config).unwrap();
            feed(&mut planner, &lengths(W3, 200_000));
            plan(&mut planner, 1, 8).unwrap().max_scheduled_priority(8) + 1
        };
        assert_eq!(
            lowest_unscheduled(PlannerConfig {
                unscheduled_levels: Some(2),
                ..PlannerConfig::default()
            }),
            6
        );
        assert_eq!(
            lowest_unscheduled(PlannerConfig {
                unscheduled_levels: Some(0),
                ..PlannerConfig::default()
            }),
            7
        );
        assert_eq!(
            lowest_unscheduled(PlannerConfig { boost_permille: 1000, ..PlannerConfig::default() }),
            3
        );
        assert_eq!(
            lowest_unscheduled(PlannerConfig {
                boost_permille: i32::MIN,
                ..PlannerConfig::default()
            }),
            4
        );
    }

    #[test]
    fn unbounded_levels_admit_the_longest_message() {
        let long = PlannerConfig { message_bytes_max: 1 << 30, ..PlannerConfig::default() };
        let mut planner = CutoffPlanner::new(long).unwrap();
        feed(&mut planner, &lengths(W5, 20_000));
        let table = plan(&mut planner, 1, 8).unwrap();
        assert_eq!(table.levels()[1..7], [1 << 30; 6]);
        assert_eq!(table.priority(1 << 30, 8), 6);
    }

    #[test]
    fn a_level_for_everything_gets_its_share_of_all_bytes() {
        // The short messages have 11 MB. An eighth of all bytes is 20 MB, an eighth of the
        // unscheduled bytes would be only 9 MB.
        let fixed = PlannerConfig { unscheduled_levels: Some(8), ..PlannerConfig::default() };
        let mut planner = CutoffPlanner::new(fixed).unwrap();
        feed(&mut planner, &[1000; 11_000]);
        feed(&mut planner, &[100_000; 1_500]);
        let table = plan(&mut planner, 1, 8).unwrap();
        assert_eq!(table.levels()[7], 100_352);
    }

    #[test]
    fn long_messages_are_not_counted_as_more_than_they_are() {
        // With `unscheduled_bytes` far above their length the target would be out of reach.
        let fixed = PlannerConfig { unscheduled_levels: Some(4), ..PlannerConfig::default() };
        let mut planner = CutoffPlanner::new(fixed).unwrap();
        feed(&mut planner, &[100_000; 12_000]);
        feed(&mut planner, &[200_000; 10_000]);
        let table = planner.maybe_update(Instant::ZERO, 1_000_000, 8, &Cutoffs::default());
        assert_eq!(table.unwrap().levels()[7], 100_352);
    }

    #[test]
    fn deciles_are_the_lengths_below_which_each_tenth_lies() {
        let mut planner = planner();
        for length in [64, 192, 448, 960, 4096, 131_072] {
            feed(&mut planner, &[length; 1000]);
        }
        feed(&mut planner, &[500_000; 4000]);
        let sample = Sample { planner: &planner };
        let counts: Vec<u64> = sample.bins().map(messages_in).filter(|count| *count > 0).collect();
        // Lengths at the upper edge of their bin are counted as more messages than they are.
        assert_eq!(counts, [2000, 1200, 1076, 1034, 1007, 1003]);
        let deciles = sample.deciles(sample.messages(), 1_000_000);
        let long = 1_000_000;
        assert_eq!(deciles, [64, 192, 448, 960, 4096, 131_072, long, long, long]);
    }

    #[test]
    fn drift_is_the_sum_of_relative_changes() {
        let old = [100, 100, 100, 100, 100, 100, 100, 100, 100];
        let new = [100, 200, 50, 100, 100, 100, 100, 100, 400];
        assert_eq!(drift_permille(&new, &old), 500 + 500 + 750);
        assert_eq!(drift_permille(&old, &[0; DECILES]), 9000);
        assert_eq!(drift_permille(&[0; DECILES], &[0; DECILES]), 0);
    }

    proptest! {
        #[test]
        fn any_traffic_gives_a_usable_table(
            lengths in prop::collection::vec(prop_oneof![1..5000u32, 1..=u32::MAX], 1..200),
            num_priorities in 2..=8u8,
            unscheduled_bytes in prop_oneof![1..100_000u32, 1..=u32::MAX],
            boost_permille in -9000..9000i32,
        ) {
            let config = PlannerConfig { messages_min: 1, boost_permille, ..PlannerConfig::default() };
            let mut planner = CutoffPlanner::new(config).unwrap();
            feed(&mut planner, &lengths);
            let current = Cutoffs::new([0; LEVELS]);
            let table =
                planner.maybe_update(Instant::ZERO, unscheduled_bytes, num_priorities, &current);
            if let Some(table) = table {
                prop_assert!(is_monotone(&table, num_priorities), "{:?}", table);
                prop_assert_eq!(table.levels()[0], EVERY_LENGTH);
                prop_assert!(table.levels()[usize::from(num_priorities)..].iter().all(|e| *e == 0));
                prop_assert!(table.max_scheduled_priority(num_priorities) < num_priorities);
            }
        }
    }
}
