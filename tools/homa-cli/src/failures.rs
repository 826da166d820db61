//! Failures of calls, counted by kind.

use std::{cmp::Reverse, collections::BTreeMap};

use serde::Serialize;

/// Different kinds of failures told apart.
const KINDS_MAX: usize = 100;
/// What further ones are counted as.
const OTHER: &str = "other failures";

/// Failures by kind.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub(crate) struct Failures(BTreeMap<String, u64>);

impl Failures {
    /// Counts one.
    pub(crate) fn add(&mut self, kind: String) {
        let known = self.0.contains_key(&kind) || self.0.len() < KINDS_MAX;
        *self.0.entry(if known { kind } else { OTHER.to_owned() }).or_default() += 1;
    }

    /// Kinds and counts, the most frequent first.
    pub(crate) fn sorted(&self) -> Vec<(&str, u64)> {
        let mut all: Vec<_> = self.0.iter().map(|(kind, count)| (kind.as_str(), *count)).collect();
        all.sort_by_key(|(_, count)| Reverse(*count));
        all
    }

    /// The most frequent kind.
    pub(crate) fn main(&self) -> Option<&str> {
        self.sorted().first().map(|(kind, _)| *kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_counted_by_kind_and_the_most_frequent_comes_first() {
        let mut failures = Failures::default();
        for kind in ["a", "b", "b"] {
            failures.add(kind.to_owned());
        }
        assert_eq!(failures.sorted(), [("b", 2), ("a", 1)]);
        assert_eq!(failures.main(), Some("b"));
        assert_eq!(Failures::default().main(), None);
    }

    #[test]
    fn any_number_of_kinds_takes_little_room() {
        let mut failures = Failures::default();
        for kind in 0..1_000 {
            failures.add(kind.to_string());
        }
        assert_eq!(failures.sorted().len(), KINDS_MAX + 1);
        assert_eq!(failures.main(), Some(OTHER));
    }
}
