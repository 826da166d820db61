//! Failing worlds made smaller: what is left out of a plan so that it still fails in the same way.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

/// Bodies are halved so often at most.
const HALVED_MAX: u32 = 24;

/// What is left out of a plan; everything else stays as it was.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cut {
    /// The only actions or calls left, by their place; `None`: all.
    pub only: Option<Vec<usize>>,
    /// Troubles that do not happen, by name.
    pub without: BTreeSet<String>,
    /// How often the lengths of bodies are halved.
    pub halved: u32,
}

impl Cut {
    /// Whether the action or call at a place is left.
    pub fn makes(&self, place: usize) -> bool {
        self.only.as_ref().is_none_or(|only| only.contains(&place))
    }

    /// What is left of a body of `bytes`, at least one.
    pub fn bytes(&self, bytes: u32) -> u32 {
        (bytes >> self.halved).max(1)
    }
}

/// `without:loss+jitter,only:3+17,halved:4`, without spaces.
impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        if !self.without.is_empty() {
            let names: Vec<_> = self.without.iter().map(String::as_str).collect();
            parts.push(format!("without:{}", names.join("+")));
        }
        if let Some(only) = &self.only {
            let places: Vec<_> = only.iter().map(usize::to_string).collect();
            parts.push(format!("only:{}", places.join("+")));
        }
        if self.halved > 0 {
            parts.push(format!("halved:{}", self.halved));
        }
        f.write_str(&parts.join(","))
    }
}

impl FromStr for Cut {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut cut = Self::default();
        for part in text.split(',').filter(|part| !part.is_empty()) {
            let (what, list) = part.split_once(':').unwrap_or((part, ""));
            let parts = || list.split('+').filter(|it| !it.is_empty());
            let numbers = || parts().map(str::parse).collect::<Result<_, _>>();
            let wrong = |_| format!("{list} are no numbers");
            match what {
                "without" => cut.without = parts().map(String::from).collect(),
                "only" => cut.only = Some(numbers().map_err(wrong)?),
                "halved" => cut.halved = list.parse().map_err(wrong)?,
                _ => return Err(format!("{part}: not known")),
            }
        }
        Ok(cut)
    }
}

/// The least that still fails of a plan with these troubles and so many actions or calls. `fails`
/// tries one; as soon as it says `false` to all, for want of time, the search is over.
pub fn shrink(troubles: &[&str], actions: usize, fails: impl Fn(&Cut) -> bool) -> Cut {
    let mut search = Search { least: Cut::default(), fails };
    // A trouble may be needed only for what is cut later.
    for _ in 0..2 {
        search.with_fewer_actions(actions);
        for name in troubles {
            search.with(|cut| {
                cut.without.insert((*name).to_owned());
            });
        }
    }
    while search.least.halved < HALVED_MAX && search.with(|cut| cut.halved += 1) {}
    search.least
}

struct Search<F> {
    least: Cut,
    fails: F,
}

impl<F: Fn(&Cut) -> bool> Search<F> {
    /// Keeps a change after which it still fails.
    fn with(&mut self, change: impl FnOnce(&mut Cut)) -> bool {
        let mut cut = self.least.clone();
        change(&mut cut);
        let better = cut != self.least && (self.fails)(&cut);
        if better {
            self.least = cut;
        }
        better
    }

    /// Leaves out actions, first many at a time, then one by one.
    fn with_fewer_actions(&mut self, actions: usize) {
        let mut only = self.least.only.clone().unwrap_or_else(|| (0..actions).collect());
        let mut part = only.len().div_ceil(2);
        while part > 0 {
            let mut at = 0;
            while at < only.len() {
                let mut fewer = only.clone();
                fewer.drain(at..(at + part).min(only.len()));
                if self.with(|cut| cut.only = Some(fewer.clone())) {
                    only = fewer;
                } else {
                    at += part;
                }
            }
            part = if part == 1 { 0 } else { part.div_ceil(2) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_is_read_as_it_is_written() {
        for text in ["", "without:limits+loss,only:3+17,halved:4", "only:0", "only:"] {
            assert_eq!(text.parse::<Cut>().map(|cut| cut.to_string()).as_deref(), Ok(text));
        }
        assert!("only:x".parse::<Cut>().is_err() && "most".parse::<Cut>().is_err());
    }

    #[test]
    fn a_world_shrinks_to_what_it_fails_with() {
        let fails = |cut: &Cut| {
            let both = cut.makes(7) && cut.makes(40);
            both && !cut.without.contains("loss") && cut.halved <= 3
        };
        let least = shrink(&["jitter", "loss", "pause"], 50, fails);
        assert_eq!(least.to_string(), "without:jitter+pause,only:7+40,halved:3");
    }
}
