//! The queue of events: a calendar of short days, with what lies beyond it in a heap.
//!
//! Nearly all events lie within some microseconds, so a day holds few and is sorted when it begins.
//! Days keep their memory: no event costs an allocation once a run is under way.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, VecDeque},
};

use crate::time::{Span, Time};

/// Days of the calendar; a power of two.
const DAYS: usize = 4096;
/// Bits of a word of the map of days that have events.
const WORD: usize = u64::BITS as usize;

/// An event to come: by time, then in the order in which events were entered.
#[derive(Clone, Copy, Debug)]
struct Entry<E> {
    at: Time,
    order: u64,
    event: E,
}

impl<E> Entry<E> {
    fn key(&self) -> (Time, u64) {
        (self.at, self.order)
    }
}

impl<E> PartialEq for Entry<E> {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl<E> Eq for Entry<E> {}

impl<E> PartialOrd for Entry<E> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<E> Ord for Entry<E> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.key().cmp(&other.key())
    }
}

/// Events in the order of their times; those at the same time in the order of their entry.
#[derive(Debug)]
pub(crate) struct Calendar<E> {
    /// Length of a day: so many picoseconds as a power of two.
    day_bits: u32,
    /// The day that `now` is in.
    today: u64,
    /// What is left of today, in order.
    current: VecDeque<Entry<E>>,
    /// Later days of the calendar, by their number modulo [`DAYS`], not in order.
    days: Vec<Vec<Entry<E>>>,
    /// Which days have events.
    occupied: [u64; DAYS / WORD],
    /// Events beyond the calendar.
    beyond: BinaryHeap<Reverse<Entry<E>>>,
    entered: u64,
    now: Time,
}

impl<E: Copy> Calendar<E> {
    /// An empty calendar, whose days are about as long as `day`, which a run is fastest with if it
    /// holds ten to a hundred events.
    pub(crate) fn new(day: Span) -> Self {
        Self {
            day_bits: day.as_ps().max(1).ilog2(),
            today: 0,
            current: VecDeque::new(),
            days: (0..DAYS).map(|_| Vec::new()).collect(),
            occupied: [0; DAYS / WORD],
            beyond: BinaryHeap::new(),
            entered: 0,
            now: Time::ZERO,
        }
    }

    /// Enters an event. A time that has passed counts as now.
    pub(crate) fn add(&mut self, at: Time, event: E) {
        let at = at.max(self.now);
        let entry = Entry { at, order: self.entered, event };
        self.entered += 1;
        let day = at.as_ps() >> self.day_bits;
        if day <= self.today {
            // It is the last of its moment.
            let place = self.current.partition_point(|other| other.at <= at);
            self.current.insert(place, entry);
        } else if day - self.today < DAYS as u64 {
            self.note(day, entry);
        } else {
            self.beyond.push(Reverse(entry));
        }
    }

    /// Takes the next event out, unless it comes after `end`.
    pub(crate) fn next_until(&mut self, end: Time) -> Option<(Time, E)> {
        if self.current.is_empty() {
            self.begin_next_day()?;
        }
        if self.current.front()?.at > end {
            return None;
        }
        let entry = self.current.pop_front()?;
        self.now = entry.at;
        Some((entry.at, entry.event))
    }

    fn note(&mut self, day: u64, entry: Entry<E>) {
        let slot = day as usize % DAYS;
        self.days[slot].push(entry);
        self.occupied[slot / WORD] |= 1 << (slot % WORD);
    }

    /// Goes on to the next day that has events.
    fn begin_next_day(&mut self) -> Option<()> {
        let near = self.next_occupied();
        let far = self.beyond.peek().map(|Reverse(entry)| entry.at.as_ps() >> self.day_bits);
        self.today = match (near, far) {
            (Some(near), Some(far)) => near.min(far),
            (near, far) => near.or(far)?,
        };
        let slot = self.today as usize % DAYS;
        self.current.extend(self.days[slot].drain(..));
        self.occupied[slot / WORD] &= !(1 << (slot % WORD));
        while let Some(Reverse(entry)) = self.beyond.peek() {
            let day = entry.at.as_ps() >> self.day_bits;
            if day - self.today >= DAYS as u64 {
                break;
            }
            let Some(Reverse(entry)) = self.beyond.pop() else { break };
            if day == self.today {
                self.current.push_back(entry);
            } else {
                self.note(day, entry);
            }
        }
        self.current.make_contiguous().sort_unstable();
        Some(())
    }

    /// The next day after today that has events within the calendar.
    fn next_occupied(&self) -> Option<u64> {
        let start = (self.today as usize + 1) % DAYS;
        let words = DAYS / WORD;
        for step in 0..=words {
            let word = (start / WORD + step) % words;
            let mut days = self.occupied[word];
            if step == 0 {
                days &= u64::MAX << (start % WORD);
            }
            if step == words {
                days &= !(u64::MAX << (start % WORD));
            }
            if days != 0 {
                let slot = word * WORD + days.trailing_zeros() as usize;
                let ahead = (slot + DAYS - start) % DAYS;
                return Some(self.today + 1 + ahead as u64);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn events_of_one_moment_come_in_the_order_of_their_entry() {
        let mut calendar = Calendar::new(Span::from_ns(16));
        for event in 0..10 {
            calendar.add(Time::from_ns(5), event);
        }
        assert_eq!(calendar.next_until(Time::NEVER), Some((Time::from_ns(5), 0)));
        calendar.add(Time::from_ns(5), 10);
        // What would have been earlier comes now.
        calendar.add(Time::from_ns(1), 11);
        let rest: Vec<_> = std::iter::from_fn(|| calendar.next_until(Time::NEVER))
            .map(|(_, event)| event)
            .collect();
        assert_eq!(rest, (1..=11).collect::<Vec<_>>());
    }

    proptest! {
        #[test]
        fn events_come_in_the_order_of_their_times(
            steps in proptest::collection::vec((0_u64..40, 0_u32..40, 0_usize..4), 1..400),
        ) {
            let mut calendar = Calendar::new(Span::from_ps(1 << 4));
            let (mut model, mut found, mut now) = (Vec::new(), Vec::new(), Time::ZERO);
            for (order, (ahead, shift, takes)) in steps.into_iter().enumerate() {
                // From the same moment to far beyond the calendar.
                let at = now + Span::from_ps(ahead << (shift % 16));
                calendar.add(at, order);
                model.push((at, order));
                for _ in 0..takes {
                    let Some(next) = calendar.next_until(Time::NEVER) else { break };
                    now = next.0;
                    found.push(next);
                }
            }
            found.extend(std::iter::from_fn(|| calendar.next_until(Time::NEVER)));
            model.sort();
            prop_assert_eq!(found, model);
        }
    }
}
