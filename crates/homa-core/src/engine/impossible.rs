//! Broken invariants: an index that one table vouches for names nothing in another. A program
//! counts them and skips what was to be done, since one mistake must not end all of its calls.
//! Tests, worlds and fuzzers (feature `check`) panic.

use core::cell::Cell;

/// Whether a broken invariant is a panic.
const ARMED: bool = cfg!(any(test, feature = "check"));

/// Counter of the broken invariants of one table, see [`crate::Stats::impossible`].
#[derive(Debug, Default)]
pub(crate) struct Impossible(Cell<u64>);

impl Impossible {
    /// `found`, which is counted as broken if it is `None`.
    #[inline(always)]
    #[track_caller]
    pub(crate) fn known<T>(&self, found: Option<T>) -> Option<T> {
        if found.is_none() {
            self.found();
        }
        found
    }

    /// Counts one that the caller has found.
    ///
    /// # Panics
    /// In programs that check.
    #[cold]
    #[inline(never)]
    #[track_caller]
    pub(crate) fn found(&self) {
        self.0.set(self.count().saturating_add(1));
        if ARMED {
            panic!("an invariant is broken");
        }
    }

    pub(crate) fn count(&self) -> u64 {
        self.0.get()
    }
}

#[cfg(test)]
mod tests {
    use core::panic::AssertUnwindSafe;
    use std::panic::catch_unwind;

    use super::*;
    use crate::addr::{Carriage, Path};
    use crate::{Config, Engine, HostBudget};

    fn stops(looks: impl FnOnce()) -> bool {
        catch_unwind(AssertUnwindSafe(looks)).is_err()
    }

    #[test]
    fn a_broken_invariant_is_counted_and_stops_a_test() {
        let impossible = Impossible::default();
        assert!(stops(|| impossible.found()));
        assert_eq!(impossible.count(), 1);
    }

    #[test]
    fn what_any_table_finds_is_told() {
        let remote = core::net::SocketAddr::from(([10, 0, 0, 1], 1));
        let path =
            Path { remote, local_ip: None, local_port: 1, interface: 0, carriage: Carriage::Ip };
        let mut engine = Engine::new(Config::default(), HostBudget::local(), 1).unwrap();
        let looks: [fn(&mut Engine, &Path); 6] = [
            |engine, _| assert!(engine.rpcs.known(0.into()).is_none()),
            |engine, _| assert!(engine.rpcs.living(0.into()).is_none()),
            |engine, _| assert!(engine.peers.known_mut(0.into()).is_none()),
            |engine, _| assert!(engine.shares.known_mut(0.into()).is_none()),
            |engine, path| engine.ids.forget_request(0.into(), 0.into(), path, 1),
            |engine, _| engine.receiver.break_unallocated(),
        ];
        for (found, look) in (1..).zip(looks) {
            assert!(stops(|| look(&mut engine, &path)), "look {found}");
            assert_eq!(engine.stats().impossible, found);
        }
        assert!(engine.rpcs.get(0.into()).is_none(), "nobody vouches");
        assert!(engine.peers.get(0.into()).is_none(), "nobody vouches");
        assert_eq!(engine.stats().impossible, 6);
    }
}
