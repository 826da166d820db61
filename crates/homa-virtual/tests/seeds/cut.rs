//! What is left out of a world, to find the least that still fails.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;
use std::time::{Duration, Instant};

/// Longest time that is spent on a world that fails.
const TIME_MAX: Duration = Duration::from_secs(60);
/// Messages are halved at most so many times.
const HALVED_MAX: u32 = 24;

/// Left out of a world; everything else stays as it was.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cut {
    /// Troubles that do not happen, by name.
    pub(crate) without: BTreeSet<String>,
    /// The only calls that are made; `None`: all.
    pub(crate) only: Option<Vec<usize>>,
    /// Times that the lengths of all messages are halved.
    pub(crate) halved: u32,
    /// Hosts that no call concerns are not there.
    pub(crate) lonely: bool,
}

impl Cut {
    pub(crate) fn makes(&self, call: usize) -> bool {
        self.only.as_ref().is_none_or(|only| only.contains(&call))
    }

    pub(crate) fn bytes(&self, bytes: u32) -> u32 {
        (bytes >> self.halved).max(1)
    }
}

/// `without:loss+jitter,only:3+17,halved:4,lonely`, without spaces.
impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        if !self.without.is_empty() {
            let names: Vec<_> = self.without.iter().map(String::as_str).collect();
            parts.push(format!("without:{}", names.join("+")));
        }
        if let Some(only) = &self.only {
            let numbers: Vec<_> = only.iter().map(usize::to_string).collect();
            parts.push(format!("only:{}", numbers.join("+")));
        }
        if self.halved > 0 {
            parts.push(format!("halved:{}", self.halved));
        }
        if self.lonely {
            parts.push("lonely".into());
        }
        f.write_str(&parts.join(","))
    }
}

impl FromStr for Cut {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut cut = Self::default();
        let number = |text: &str| text.parse().map_err(|_| format!("{text} is no number"));
        for part in text.split(',').filter(|part| !part.is_empty()) {
            let (what, list) = part.split_once(':').unwrap_or((part, ""));
            match what {
                "without" => cut.without = list.split('+').map(String::from).collect(),
                "only" => cut.only = Some(list.split('+').map(number).collect::<Result<_, _>>()?),
                "halved" => cut.halved = list.parse().map_err(|_| format!("halved:{list}"))?,
                "lonely" => cut.lonely = true,
                _ => return Err(format!("{part}: not known")),
            }
        }
        Ok(cut)
    }
}

/// The least that still fails, of a world with these troubles and calls; `fails` tries one.
pub(crate) fn shrink(troubles: &[&str], calls: usize, fails: impl Fn(&Cut) -> bool) -> Cut {
    let mut found = Search { least: Cut::default(), fails, until: Instant::now() + TIME_MAX };
    found.with(|cut| cut.lonely = true);
    // A trouble may be needed only for what is cut later.
    for _ in 0..2 {
        for name in troubles {
            found.with(|cut| {
                cut.without.insert((*name).into());
            });
        }
        found.with_fewer_calls(calls);
    }
    while found.least.halved < HALVED_MAX && found.with(|cut| cut.halved += 1) {}
    found.least
}

struct Search<F> {
    least: Cut,
    fails: F,
    until: Instant,
}

impl<F: Fn(&Cut) -> bool> Search<F> {
    /// Keeps a change after which it still fails.
    fn with(&mut self, change: impl FnOnce(&mut Cut)) -> bool {
        let mut cut = self.least.clone();
        change(&mut cut);
        let better = cut != self.least && Instant::now() < self.until && (self.fails)(&cut);
        if better {
            self.least = cut;
        }
        better
    }

    /// Leaves out parts of the calls, first large ones, then smaller ones.
    fn with_fewer_calls(&mut self, calls: usize) {
        let mut only = self.least.only.clone().unwrap_or_else(|| (0..calls).collect());
        let mut part = only.len().div_ceil(2);
        while part > 0 && only.len() > 1 {
            let mut at = 0;
            while at < only.len() && only.len() > 1 {
                let mut fewer = only.clone();
                fewer.drain(at..(at + part).min(only.len()));
                if !fewer.is_empty() && self.with(|cut| cut.only = Some(fewer.clone())) {
                    only = fewer;
                } else {
                    at += part;
                }
            }
            part = if part == 1 { 0 } else { part.div_ceil(2) };
        }
    }
}

#[test]
fn a_cut_is_read_as_it_is_written() {
    for text in ["", "without:loss+slow-readers,only:3+17,halved:4,lonely", "lonely", "only:0"] {
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
    assert_eq!(least.to_string(), "without:jitter+pause,only:7+40,halved:3,lonely");
}
