//! The round trip to a peer: from a GRANT to the data that it allows.

/// Round trips of which the shortest counts. All are too long: what was granted before goes first,
/// and so do other messages. Some of so many found a sender that waited for the GRANT.
const SAMPLES: u8 = 8;

/// The shortest of the last 8 to 16 round trips, or of as many as there are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RoundTrip {
    /// Of the last samples, below [`SAMPLES`] of them; `u32::MAX`: none.
    shortest_ns: u32,
    /// Of the [`SAMPLES`] before.
    shortest_before_ns: u32,
    samples: u8,
}

impl RoundTrip {
    pub(crate) const UNKNOWN: Self =
        Self { shortest_ns: u32::MAX, shortest_before_ns: u32::MAX, samples: 0 };

    /// Notes a round trip.
    pub(crate) fn note(&mut self, ns: u64) {
        self.shortest_ns = self.shortest_ns.min(u32::try_from(ns).unwrap_or(u32::MAX));
        self.samples = self.samples.saturating_add(1);
        if self.samples >= SAMPLES {
            let shortest_before_ns = self.shortest_ns;
            *self = Self { shortest_before_ns, ..Self::UNKNOWN };
        }
    }

    /// The round trip in ns; `None`: not known yet.
    pub(crate) fn ns(&self) -> Option<u32> {
        let ns = self.shortest_ns.min(self.shortest_before_ns);
        (ns < u32::MAX).then_some(ns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shortest_of_the_last_round_trips_counts_and_a_longer_way_shows() {
        let mut rtt = RoundTrip::UNKNOWN;
        assert_eq!(rtt.ns(), None);
        rtt.note(u64::MAX);
        assert_eq!(rtt.ns(), None, "too long for a round trip");
        let mut note = |times: &[u64]| {
            times.iter().for_each(|ns| rtt.note(*ns));
            rtt.ns()
        };
        assert_eq!(note(&[90_000, 10_000, 70_000]), Some(10_000));
        assert_eq!(note(&[50_000; 8]), Some(10_000), "until 8 more have been seen");
        assert_eq!(note(&[50_000; 4]), Some(50_000));
    }
}
