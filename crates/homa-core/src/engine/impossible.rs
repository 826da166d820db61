//! States that cannot be: an index that one table vouches for names nothing in another. A program counts such a thing and
//! goes on as if there had been nothing to do, since one mistake must not end all of its calls. Tests, worlds and fuzzers
//! (feature `check`) stop there, or it would stay unseen.

use core::cell::Cell;

/// Whether a program stops instead.
const ARMED: bool = cfg!(any(test, feature = "check"));

/// How often a table was asked for something that has to be there, and was not: see [`crate::Stats::impossible`].
#[derive(Debug, Default)]
pub(crate) struct Impossible(Cell<u64>);

impl Impossible {
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
            panic!("a state that cannot be");
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
    fn what_cannot_be_is_counted_and_stops_a_test() {
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
            |engine, _| assert!(engine.rpcs.known(0).is_none()),
            |engine, _| assert!(engine.rpcs.living(0).is_none()),
            |engine, _| assert!(engine.peers.known_mut(0).is_none()),
            |engine, _| assert!(engine.holders.known_mut(0).is_none()),
            |engine, path| engine.client_hosts.remove(path, 1, 0),
            |engine, _| engine.starved.set_apart(0),
        ];
        for (found, look) in (1..).zip(looks) {
            assert!(stops(|| look(&mut engine, &path)), "look {found}");
            assert_eq!(engine.stats().impossible, found);
        }
        assert!(engine.rpcs.get(0).is_none() && engine.peers.get(0).is_none(), "nobody vouches");
        assert_eq!(engine.stats().impossible, 6);
    }
}
