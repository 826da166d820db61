//! Queue lengths that a network recorded by itself, as samples of all ports and levels.

use std::{ops::Range, time::Instant};

use super::QueueSample;
use crate::network::QueueRecord;

/// The record's looks within a span, with zeros for ports that held nothing then; times count from
/// `begin`. The round is left to the caller.
pub(super) fn samples(
    record: &QueueRecord,
    hosts: u32,
    begin: Instant,
    span: &Range<Instant>,
) -> impl Iterator<Item = QueueSample> + use<> {
    let ns = |at: Instant| at.saturating_duration_since(record.since).as_nanos() as u64;
    let (interval_ns, begin_ns) = (record.interval_ns.max(1), ns(begin));
    let moments = ns(span.start).div_ceil(interval_ns)..ns(span.end).div_ceil(interval_ns);
    let mut looks = record.looks.clone().into_iter().peekable();
    moments.flat_map(move |moment| {
        let at_ns = moment * interval_ns;
        let mut bytes = vec![[0; homa_lab::LEVELS]; hosts as usize];
        while let Some((look_ns, host, levels)) = looks.next_if(|look| look.0 <= at_ns) {
            if let Some(port) = bytes.get_mut(host as usize).filter(|_| look_ns == at_ns) {
                *port = levels;
            }
        }
        let time_ns = at_ns.saturating_sub(begin_ns);
        bytes.into_iter().zip(0..).flat_map(move |(levels, port)| {
            levels.into_iter().zip(0..).map(move |(bytes, level)| QueueSample {
                round: 0,
                time_ns,
                port,
                level,
                bytes,
            })
        })
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn ports_that_held_nothing_at_a_look_are_zero_then() {
        let since = Instant::now();
        let at = |us| since + Duration::from_micros(us);
        let mut levels = [0; homa_lab::LEVELS];
        levels[3] = 700;
        let record = QueueRecord {
            since,
            interval_ns: 10_000,
            // Before the span, at its second look, and a host that there is not.
            looks: vec![(0, 1, levels), (30_000, 1, levels), (30_000, 9, levels)],
        };
        let found: Vec<QueueSample> = samples(&record, 2, at(15), &(at(15)..at(45))).collect();
        assert_eq!(found.len(), 3 * 2 * homa_lab::LEVELS);
        let held: Vec<_> = found.iter().filter(|sample| sample.bytes > 0).collect();
        assert_eq!(held.len(), 1);
        let sample = held[0];
        assert_eq!((sample.time_ns, sample.port, sample.level), (15_000, 1, 3));
    }
}
