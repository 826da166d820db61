//! The memory of a switch, which the queues of its ports share.

use crate::time::{Span, Time};

/// How much may wait in a switch. Bytes are those of link time; what a port is sending does not
/// count.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Buffer {
    /// Any amount.
    #[default]
    Unlimited,
    /// So many bytes at each port, whatever others have.
    PerPort {
        /// Bytes of a port.
        bytes: u64,
    },
    /// Memory shared with dynamic thresholds (Choudhury and Hahne, 1998): a packet is dropped if
    /// its queue, of one priority at one port, has at least `alpha` times the free bytes.
    Shared {
        /// Bytes of the switch.
        bytes: u64,
        /// Factor of the free bytes.
        alpha: f64,
    },
}

/// What waits in the switches of a tier.
#[derive(Clone, Debug, PartialEq)]
pub struct SwitchSummary {
    /// Links to the closest hosts' switch: 0 for switches that have hosts.
    pub tier: u32,
    /// How many.
    pub switches: u32,
    /// Bytes that waited in a switch, in the mean over time and switches.
    pub used_bytes_mean: f64,
    /// What is not exceeded in 99 % of the time, over all of them; within 3 %.
    pub used_bytes_p99: u64,
    /// The most that waited in one switch.
    pub used_bytes_max: u64,
}

impl SwitchSummary {
    /// What waited in some switches of a tier.
    pub(super) fn of<'a>(
        tier: u32,
        now: Time,
        span: Span,
        memories: impl Iterator<Item = &'a Memory>,
    ) -> Self {
        let (mut switches, mut used_bytes_max, mut byte_ps) = (0, 0, 0.0);
        let mut ps_by_use = Vec::new();
        for memory in memories {
            let mut memory = memory.clone();
            memory.note(now);
            switches += 1;
            used_bytes_max = used_bytes_max.max(memory.used_bytes_max);
            byte_ps += memory.byte_ps as f64;
            add(&mut ps_by_use, &memory.ps_by_use);
        }
        let total: u64 = ps_by_use.iter().sum();
        let mut below = 0;
        let is_p99 = |ps: &u64| {
            below += ps;
            below as f64 >= 0.99 * total as f64
        };
        let class = ps_by_use.iter().position(is_p99).unwrap_or_default();
        let used_bytes_mean = byte_ps / (span.as_ps().max(1) as f64 * f64::from(switches));
        // The end of a class may be more than there ever was.
        let used_bytes_p99 = end_of(class).min(used_bytes_max);
        Self { tier, switches, used_bytes_mean, used_bytes_p99, used_bytes_max }
    }
}

/// Adds sums by class to others.
fn add(sums: &mut Vec<u64>, others: &[u64]) {
    sums.resize(sums.len().max(others.len()), 0);
    sums.iter_mut().zip(others).for_each(|(sum, other)| *sum += other);
}

/// Classes of a factor of two.
const CLASSES: u64 = 32;

/// The class of a number of bytes.
fn class_of(bytes: u64) -> usize {
    let shift = (bytes / CLASSES).checked_ilog2().unwrap_or(0);
    (u64::from(shift) * CLASSES + (bytes >> shift)) as usize
}

/// The most bytes of a class.
fn end_of(class: usize) -> u64 {
    let class = class as u64;
    let shift = (class / CLASSES).saturating_sub(1);
    ((class - shift * CLASSES + 1) << shift) - 1
}

/// Memory of a switch.
#[derive(Clone, Debug)]
pub(super) struct Memory {
    buffer: Buffer,
    used_bytes: u64,
    used_bytes_max: u64,
    /// When the use changed last.
    changed: Time,
    /// Bytes used, times the picoseconds that they were.
    byte_ps: u128,
    /// Time by class of use.
    ps_by_use: Vec<u64>,
}

impl Memory {
    pub(super) fn new(buffer: Buffer) -> Self {
        Self {
            buffer,
            used_bytes: 0,
            used_bytes_max: 0,
            changed: Time::ZERO,
            byte_ps: 0,
            ps_by_use: Vec::new(),
        }
    }

    /// Begins to measure anew.
    pub(super) fn measure(&mut self, now: Time) {
        (self.changed, self.used_bytes_max) = (now, self.used_bytes);
        self.byte_ps = 0;
        self.ps_by_use.clear();
    }

    /// Whether there is room for a packet, where so many bytes wait in its queue and at its port.
    pub(super) fn admits(&self, bytes: u64, in_queue: u64, at_port: u64) -> bool {
        match self.buffer {
            Buffer::Unlimited => true,
            Buffer::PerPort { bytes: limit } => at_port + bytes <= limit,
            Buffer::Shared { bytes: limit, alpha } => {
                let free = limit.saturating_sub(self.used_bytes);
                bytes <= free && (in_queue as f64) < alpha * free as f64
            }
        }
    }

    /// Bytes that wait.
    #[cfg(test)]
    pub(super) fn used_bytes(&self) -> u64 {
        self.used_bytes
    }

    pub(super) fn take(&mut self, now: Time, bytes: u64) {
        self.note(now);
        self.used_bytes += bytes;
        self.used_bytes_max = self.used_bytes_max.max(self.used_bytes);
    }

    pub(super) fn free(&mut self, now: Time, bytes: u64) {
        self.note(now);
        self.used_bytes -= bytes;
    }

    /// The use is about to change.
    fn note(&mut self, now: Time) {
        let ps = now.since(self.changed).as_ps();
        self.changed = now;
        self.byte_ps += u128::from(self.used_bytes) * u128::from(ps);
        let class = class_of(self.used_bytes);
        if class >= self.ps_by_use.len() {
            self.ps_by_use.resize(class + 1, 0);
        }
        self.ps_by_use[class] += ps;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_of_shared_memory_grows_to_alpha_times_what_is_free() {
        let mut memory = Memory::new(Buffer::Shared { bytes: 90_000, alpha: 0.5 });
        let mut queue = 0;
        while memory.admits(1_000, queue, queue) {
            memory.take(Time::ZERO, 1_000);
            queue += 1_000;
        }
        // One queue alone gets alpha / (1 + alpha) of the memory.
        assert_eq!(queue, 30_000);
        // Another one gets half of what that leaves, and takes from the first.
        assert!(memory.admits(1_000, 29_000, 29_000));
        assert!(!memory.admits(1_000, 30_000, 30_000));
        memory.take(Time::ZERO, 20_000);
        assert!(!memory.admits(1_000, 20_000, 20_000));
        memory.free(Time::ZERO, 50_000);
        assert!(memory.admits(1_000, 34_000, 34_000));
    }

    #[test]
    fn a_port_has_no_more_than_its_own_memory() {
        let mut memory = Memory::new(Buffer::PerPort { bytes: 3_000 });
        memory.take(Time::ZERO, 50_000);
        assert!(memory.admits(1_000, 0, 2_000));
        assert!(!memory.admits(1_001, 0, 2_000));
    }

    #[test]
    fn a_class_of_use_ends_where_the_next_begins_and_is_three_percent_wide() {
        for class in 0..1_000 {
            let end = end_of(class);
            assert_eq!((class_of(end), class_of(end + 1)), (class, class + 1));
            let width = end - class.checked_sub(1).map_or(0, end_of);
            assert!(width <= 1 + end / CLASSES, "{width} bytes up to {end}");
        }
    }

    #[test]
    fn the_use_of_a_switch_is_weighted_by_time() {
        let mut memory = Memory::new(Buffer::Unlimited);
        memory.take(Time::from_ns(10), 5_000);
        memory.measure(Time::from_ns(20));
        memory.free(Time::from_ns(30), 4_000);
        memory.take(Time::from_ns(1_019), 9_000);
        let (now, span) = (Time::from_ns(1_020), Span::from_ns(1_000));
        let summary = SwitchSummary::of(0, now, span, [&memory].into_iter());
        assert_eq!(summary.used_bytes_max, 10_000);
        let mean = (10.0 * 5_000.0 + 989.0 * 1_000.0 + 10_000.0) / 1_000.0;
        assert!((summary.used_bytes_mean - mean).abs() < 0.01, "{summary:?}");
        // 989 of 1,000 ns had 1,000 bytes, 10 had 5,000 and one 10,000.
        assert!((5_000..5_160).contains(&summary.used_bytes_p99), "{summary:?}");
    }
}
