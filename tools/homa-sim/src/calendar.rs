//! The queue of events: a calendar of short days, with what lies beyond it in a heap.
//!
//! Nearly all events lie within the time of a hop, so the calendar is no longer than that and stays
//! in the cache; a day holds few events and is sorted when it begins. Days keep their memory: no
//! event costs an allocation once a run is under way.

use std::{
    cmp::{Ordering, Reverse},
    collections::BinaryHeap,
    mem,
};

use crate::time::{Span, Time};

/// Bits of a word of the map of days that have events.
const WORD: usize = u64::BITS as usize;

/// Most days of a calendar; what takes longer than they last waits in the heap.
const DAYS_MAX: u64 = 1 << 16;

/// An event to come.
#[derive(Clone, Copy, Debug)]
struct Entry<E> {
    at: Time,
    event: E,
}

/// An event beyond the calendar: by time, then in the order in which events were entered.
#[derive(Clone, Copy, Debug)]
struct Beyond<E> {
    entry: Entry<E>,
    order: u64,
}

impl<E> Beyond<E> {
    fn key(&self) -> (Time, u64) {
        (self.entry.at, self.order)
    }
}

impl<E> PartialEq for Beyond<E> {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl<E> Eq for Beyond<E> {}

impl<E> PartialOrd for Beyond<E> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<E> Ord for Beyond<E> {
    fn cmp(&self, other: &Self) -> Ordering {
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
    /// Events of today, in order.
    current: Vec<Entry<E>>,
    /// Those of them that are over.
    over: usize,
    /// Later days, by their number modulo that of days, a power of two. Each in the order of
    /// entry: what lies beyond comes in before anything is entered for the same day.
    days: Vec<Vec<Entry<E>>>,
    /// Which days have events.
    occupied: Vec<u64>,
    /// Events beyond the calendar.
    beyond: BinaryHeap<Reverse<Beyond<E>>>,
    entered: u64,
    now: Time,
}

impl<E: Copy> Calendar<E> {
    /// An empty calendar whose days are about as long as `day`, which a run is fastest with if it
    /// holds about ten events. Events up to `reach` ahead do not enter the heap.
    pub(crate) fn new(day: Span, reach: Span) -> Self {
        let day_bits = day.as_ps().max(1).ilog2();
        let days = (reach.as_ps() >> day_bits).saturating_add(2).min(DAYS_MAX);
        let days = days.next_power_of_two().max(WORD as u64) as usize;
        Self {
            day_bits,
            today: 0,
            current: Vec::new(),
            over: 0,
            days: (0..days).map(|_| Vec::new()).collect(),
            occupied: vec![0; days / WORD],
            beyond: BinaryHeap::new(),
            entered: 0,
            now: Time::ZERO,
        }
    }

    /// Enters an event. A time that has passed counts as now.
    pub(crate) fn add(&mut self, at: Time, event: E) {
        let at = at.max(self.now);
        let entry = Entry { at, event };
        let day = at.as_ps() >> self.day_bits;
        if day <= self.today {
            // It is the last of its moment.
            let left = &self.current[self.over..];
            let place = self.over + left.partition_point(|other| other.at <= at);
            self.current.insert(place, entry);
        } else if self.is_within(day) {
            self.note(day, entry);
        } else {
            self.entered += 1;
            self.beyond.push(Reverse(Beyond { entry, order: self.entered }));
        }
    }

    /// Takes the next event out, unless it comes after `end`.
    pub(crate) fn next_until(&mut self, end: Time) -> Option<(Time, E)> {
        if self.over == self.current.len() {
            self.begin_next_day()?;
        }
        let Entry { at, event } = *self.current.get(self.over)?;
        if at > end {
            return None;
        }
        self.over += 1;
        self.now = at;
        Some((at, event))
    }

    /// Whether a day after today is one of the calendar.
    fn is_within(&self, day: u64) -> bool {
        day - self.today < self.days.len() as u64
    }

    fn slot(&self, day: u64) -> usize {
        day as usize & (self.days.len() - 1)
    }

    fn note(&mut self, day: u64, entry: Entry<E>) {
        let slot = self.slot(day);
        self.days[slot].push(entry);
        self.occupied[slot / WORD] |= 1 << (slot % WORD);
    }

    /// Goes on to the next day that has events.
    fn begin_next_day(&mut self) -> Option<()> {
        let near = self.next_occupied();
        let far = self.beyond.peek().map(|Reverse(far)| far.entry.at.as_ps() >> self.day_bits);
        self.today = match (near, far) {
            (Some(near), Some(far)) => near.min(far),
            (near, far) => near.or(far)?,
        };
        let slot = self.slot(self.today);
        self.current.clear();
        self.over = 0;
        mem::swap(&mut self.current, &mut self.days[slot]);
        self.occupied[slot / WORD] &= !(1 << (slot % WORD));
        while let Some(Reverse(Beyond { entry, .. })) = self.beyond.peek().copied() {
            let day = entry.at.as_ps() >> self.day_bits;
            if !self.is_within(day) {
                break;
            }
            self.beyond.pop();
            if day == self.today {
                self.current.push(entry);
            } else {
                self.note(day, entry);
            }
        }
        // Stable: those of one moment stay in the order of their entry.
        self.current.sort_by_key(|entry| entry.at);
        Some(())
    }

    /// The next day after today that has events within the calendar.
    fn next_occupied(&self) -> Option<u64> {
        let start = self.slot(self.today + 1);
        let words = self.occupied.len();
        for step in 0..=words {
            let word = (start / WORD + step) & (words - 1);
            let mut days = self.occupied[word];
            if step == 0 {
                days &= u64::MAX << (start % WORD);
            }
            if step == words {
                days &= !(u64::MAX << (start % WORD));
            }
            if days != 0 {
                let slot = word * WORD + days.trailing_zeros() as usize;
                let ahead = self.slot((slot + self.days.len() - start) as u64);
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
        let mut calendar = Calendar::new(Span::from_ns(16), Span::ZERO);
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
            let mut calendar = Calendar::new(Span::from_ps(1 << 4), Span::from_ns(4));
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
