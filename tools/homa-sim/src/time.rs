//! Simulated time, in picoseconds: a byte takes a whole number of them on most links.

use std::ops::Add;

/// A moment of the simulation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(u64);

/// A length of time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span(u64);

impl Time {
    /// The begin of the simulation.
    pub const ZERO: Self = Self(0);
    /// Later than everything that happens.
    pub const NEVER: Self = Self(u64::MAX);

    /// The moment so many picoseconds after the begin.
    pub const fn from_ps(ps: u64) -> Self {
        Self(ps)
    }

    /// The first moment of a nanosecond.
    pub const fn from_ns(ns: u64) -> Self {
        Self(ns.saturating_mul(1000))
    }

    /// Picoseconds since the begin.
    pub const fn as_ps(self) -> u64 {
        self.0
    }

    /// Whole nanoseconds since the begin.
    pub const fn as_ns(self) -> u64 {
        self.0 / 1000
    }

    /// The time since `earlier`; nothing if that is later.
    pub const fn since(self, earlier: Self) -> Span {
        Span(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Span> for Time {
    type Output = Self;

    fn add(self, span: Span) -> Self {
        Self(self.0.saturating_add(span.0))
    }
}

impl Span {
    /// No time.
    pub const ZERO: Self = Self(0);

    /// So many picoseconds.
    pub const fn from_ps(ps: u64) -> Self {
        Self(ps)
    }

    /// So many nanoseconds.
    pub const fn from_ns(ns: u64) -> Self {
        Self(ns.saturating_mul(1000))
    }

    /// The length in picoseconds.
    pub const fn as_ps(self) -> u64 {
        self.0
    }

    /// The length in seconds.
    pub fn as_secs(self) -> f64 {
        self.0 as f64 / 1e12
    }
}

impl Add for Span {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

/// The rate of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    mbps: u32,
}

/// Picoseconds that a bit takes at 1 Mbit/s, times the bits of a byte.
const BYTE_PS_AT_1_MBPS: u64 = 8_000_000;

impl Rate {
    /// So many 10^6 bit/s; `None` for 0.
    pub const fn from_mbps(mbps: u32) -> Option<Self> {
        if mbps == 0 { None } else { Some(Self { mbps }) }
    }

    /// The rate in 10^6 bit/s.
    pub const fn mbps(self) -> u32 {
        self.mbps
    }

    /// The time that `bytes` take. What is less than a picosecond stays in `rest`, so that a busy
    /// link loses no time to rounding.
    pub fn time(self, bytes: u32, rest: &mut u32) -> Span {
        let mbps = u64::from(self.mbps);
        let work = u64::from(bytes) * BYTE_PS_AT_1_MBPS + u64::from(*rest);
        // Less than the rate, which has 32 bits.
        *rest = (work % mbps) as u32;
        Span(work / mbps)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_frame_takes_its_time_at_ten_gigabits() {
        let rate = Rate::from_mbps(10_000).unwrap();
        assert_eq!(rate.time(1538, &mut 0), Span::from_ps(1_230_400));
        assert_eq!(Rate::from_mbps(0), None);
    }

    #[test]
    fn a_rate_that_does_not_divide_loses_no_time() {
        let rate = Rate::from_mbps(3_000).unwrap();
        let mut rest = 0;
        let total: u64 = (0..3_000).map(|_| rate.time(1, &mut rest).as_ps()).sum();
        assert_eq!((total, rest), (8_000_000, 0));
    }
}
