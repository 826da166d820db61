//! When the RPCs of an open-loop load are meant to begin, at which server, and how long they are.

use crate::{rng::Rng, workload::Workload};

/// How the beginnings are spread over time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spacing {
    /// As by many independent clients: exponential intervals.
    Poisson,
    /// Equal intervals.
    Constant,
}

/// An RPC that is meant to begin.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Arrival {
    /// When, in seconds from the start of the load.
    pub at_s: f64,
    /// Which of the servers it is for, from 0.
    pub server: usize,
    /// Length of its request in bytes.
    pub bytes: u64,
}

/// An endless sequence of arrivals; the same seed gives the same one.
#[derive(Debug, Clone)]
pub struct Arrivals {
    workload: Workload,
    interval_s: f64,
    spacing: Spacing,
    servers: usize,
    rng: Rng,
    at_s: f64,
}

impl Arrivals {
    /// Arrivals at this mean rate per second, each at one of `servers` by chance; `None` for a rate
    /// that is not above 0, or without servers.
    pub fn new(
        workload: Workload,
        per_s: f64,
        spacing: Spacing,
        servers: usize,
        seed: u64,
    ) -> Option<Self> {
        (per_s > 0.0 && servers > 0).then(|| Arrivals {
            workload,
            interval_s: 1.0 / per_s,
            spacing,
            servers,
            rng: Rng::new(seed),
            at_s: 0.0,
        })
    }

    /// The next arrival.
    pub fn take(&mut self) -> Arrival {
        self.at_s += match self.spacing {
            Spacing::Poisson => self.rng.exponential(self.interval_s),
            Spacing::Constant => self.interval_s,
        };
        let server = (self.rng.uniform() * self.servers as f64) as usize;
        Arrival { at_s: self.at_s, server, bytes: self.workload.sample(&mut self.rng) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrivals(spacing: Spacing) -> Vec<Arrival> {
        let workload = Workload::of_length(100);
        let mut arrivals = Arrivals::new(workload, 1_000.0, spacing, 4, 7).unwrap();
        std::iter::repeat_with(|| arrivals.take()).take(100_000).collect()
    }

    #[test]
    fn arrivals_have_the_rate_asked_for_and_spread_over_the_servers() {
        for spacing in [Spacing::Poisson, Spacing::Constant] {
            let found = arrivals(spacing);
            let last_s = found.last().unwrap().at_s;
            assert!((last_s / 100.0 - 1.0).abs() < 0.02, "{spacing:?}: {last_s}");
            for server in 0..4 {
                let count = found.iter().filter(|arrival| arrival.server == server).count();
                assert!((24_000..26_000).contains(&count), "{server}: {count}");
            }
        }
    }

    #[test]
    fn constant_arrivals_have_equal_intervals() {
        let found = arrivals(Spacing::Constant);
        assert!(found.windows(2).all(|pair| (pair[1].at_s - pair[0].at_s - 1e-3).abs() < 1e-9));
    }

    #[test]
    fn there_are_no_arrivals_without_a_rate_or_a_server() {
        let none = |per_s, servers| {
            Arrivals::new(Workload::of_length(1), per_s, Spacing::Poisson, servers, 1).is_none()
        };
        assert!(none(0.0, 1) && none(f64::NAN, 1) && none(1.0, 0) && !none(1.0, 1));
    }
}
