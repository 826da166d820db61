//! How far apart two cores are, by the time that one hands a cache line over to the other.
//!
//! A virtual machine may be told of caches that it does not have, and its host may move its cores
//! while it runs: what counts is measured, anew in each round, and what the kernel says is only
//! told.

use std::{
    fs,
    sync::{
        Barrier,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use homa_report::stats::median;
use serde::Serialize;

use super::pin::{self, Cores};

/// A line that takes longer than this goes from one cache to another; ns.
const SHARED_MAX_NS: f64 = 75.0;
/// Hand-overs per batch; the fastest batch counts, since everything else only makes them slower.
const BATCH: u32 = 200;
/// Batches with a longer mean did not have both cores for themselves, and say nothing; ns.
const UNDISTURBED_MAX_NS: f64 = 1_000.0;
/// How long batches are repeated.
const USUAL: Duration = Duration::from_millis(5);
/// How long a first one that says something is waited for, on a machine with other things to do.
const LONGEST: Duration = Duration::from_millis(200);

/// Where two cores are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Distance {
    /// They share a cache.
    ShareCache,
    /// A line goes from the cache of one to that of the other.
    FarApart,
}

impl Distance {
    /// What a hand-over of so many nanoseconds says.
    fn of(handover_ns: f64) -> Self {
        if handover_ns <= SHARED_MAX_NS { Distance::ShareCache } else { Distance::FarApart }
    }

    /// The words for it.
    pub(crate) fn text(self) -> &'static str {
        match self {
            Distance::ShareCache => "cores share a cache",
            Distance::FarApart => "cores are far apart",
        }
    }
}

/// What the rounds of a benchmark found.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(crate) struct Distances {
    /// Time of a hand-over before each round, in nanoseconds; null where it could not be measured.
    pub handover_ns: Vec<Option<f64>>,
    /// What each of them says.
    pub found: Vec<Option<Distance>>,
    /// Whether the kernel lists a cache that both cores share; null where it lists none.
    pub shared_by_topology: Option<bool>,
}

impl Distances {
    /// Asks the kernel about these cores; nothing is measured yet.
    pub(crate) fn new(cores: Cores) -> Self {
        let topology = |(client, server)| shared_by_topology(client, server);
        Distances { shared_by_topology: cores.both().and_then(topology), ..Distances::default() }
    }

    /// Rounds with these times of a hand-over.
    #[cfg(test)]
    pub(crate) fn of(handovers_ns: &[Option<f64>]) -> Self {
        let mut found = Distances::default();
        handovers_ns.iter().for_each(|ns| found.add(*ns));
        found
    }

    /// Measures before a round.
    pub(crate) fn measure(&mut self, cores: Cores) {
        self.add(cores.both().and_then(|(client, server)| handover_ns(client, server)));
    }

    fn add(&mut self, handover_ns: Option<f64>) {
        let tenths = |ns: f64| (ns * 10.0).round() / 10.0;
        self.handover_ns.push(handover_ns.map(tenths));
        self.found.push(handover_ns.map(Distance::of));
    }

    /// The different answers of the rounds, the nearest first.
    pub(crate) fn states(&self) -> Vec<Distance> {
        let mut states: Vec<Distance> = self.found.iter().copied().flatten().collect();
        states.sort();
        states.dedup();
        states
    }

    /// Where the cores were in a round; where that is not known, as before it, else as after it.
    pub(crate) fn of_round(&self, round: usize) -> Option<Distance> {
        let (before, after) = self.found.split_at((round + 1).min(self.found.len()));
        before.iter().rev().chain(after).find_map(|found| *found)
    }

    /// What was found, in a sentence; none where cores are not pinned.
    pub(crate) fn text(&self) -> Option<String> {
        let states = self.states();
        let said = |state: &Distance| {
            let of_state = |at: &usize| self.found[*at] == Some(*state);
            let rounds: Vec<usize> = (0..self.found.len()).filter(of_state).collect();
            let mut times: Vec<f64> =
                rounds.iter().filter_map(|at| self.handover_ns[*at]).collect();
            times.sort_by(f64::total_cmp);
            let ns = median(&times).unwrap_or_default();
            let which = match states.len() {
                1 => String::new(),
                _ => {
                    let numbers: Vec<_> = rounds.iter().map(|at| (at + 1).to_string()).collect();
                    let word = if numbers.len() == 1 { "round" } else { "rounds" };
                    format!(" in {word} {}", numbers.join(", "))
                }
            };
            format!("{} ({ns:.0} ns per hand-over){which}", state.text())
        };
        let text = states.iter().map(said).collect::<Vec<_>>().join("; ");
        let contradicted = self.shared_by_topology == Some(true)
            && states.contains(&Distance::FarApart)
            || self.shared_by_topology == Some(false) && states.contains(&Distance::ShareCache);
        let note = if contradicted { ", whatever the kernel says of its caches" } else { "" };
        if states.is_empty() {
            let unknown = "other programs left no time to measure how far apart the cores are";
            return (!self.found.is_empty()).then(|| unknown.to_owned());
        }
        Some(format!("{text}{note}"))
    }
}

/// Time of a hand-over between two cores, in nanoseconds; none if others left no time for it, or
/// one of them may not be used.
fn handover_ns(client: usize, server: usize) -> Option<f64> {
    let (line, stop, both) = (Line::default(), AtomicBool::new(false), Barrier::new(2));
    thread::scope(|scope| {
        let answering = scope.spawn(|| {
            let pinned = pin::current_process(Some(server)).is_ok();
            both.wait();
            while !stop.load(Ordering::Relaxed) {
                let count = line.0.load(Ordering::Acquire);
                if count % 2 == 1 {
                    line.0.store(count.wrapping_add(1), Ordering::Release);
                }
            }
            pinned
        });
        let asking = scope.spawn(|| {
            let pinned = pin::current_process(Some(client)).is_ok();
            both.wait();
            let best = best_batch(&line);
            stop.store(true, Ordering::Relaxed);
            best.filter(|_| pinned)
        });
        let best = asking.join().ok()?;
        best.filter(|_| answering.join().unwrap_or(false))
    })
}

/// A counter in a cache line of its own: odd while it is the other side's turn.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Line(AtomicU32);

/// The fastest batch, as time per hand-over.
fn best_batch(line: &Line) -> Option<f64> {
    let begin = Instant::now();
    let mut best: Option<f64> = None;
    while begin.elapsed() < if best.is_some() { USUAL } else { LONGEST } {
        let batch = Instant::now();
        let whole = (0..BATCH / 2).all(|_| ask(line, begin + LONGEST));
        let ns = batch.elapsed().as_nanos() as f64 / f64::from(BATCH);
        if whole && ns <= UNDISTURBED_MAX_NS {
            best = Some(best.map_or(ns, |best| best.min(ns)));
        }
    }
    best
}

/// Hands the line over and waits until it is back; whether it was in time.
fn ask(line: &Line, until: Instant) -> bool {
    let mine = line.0.load(Ordering::Acquire);
    if mine % 2 == 1 {
        return false;
    }
    line.0.store(mine.wrapping_add(1), Ordering::Release);
    let mut looks = 0_u32;
    while line.0.load(Ordering::Acquire) == mine.wrapping_add(1) {
        looks = looks.wrapping_add(1);
        if looks % 65_536 == 0 && Instant::now() >= until {
            return false;
        }
    }
    true
}

/// Whether the kernel lists a cache that both cores share; none if it lists no caches.
fn shared_by_topology(one: usize, other: usize) -> Option<bool> {
    let directory = format!("/sys/devices/system/cpu/cpu{one}/cache");
    let caches = fs::read_dir(directory).ok()?.filter_map(Result::ok);
    let lists = caches
        .filter_map(|cache| fs::read_to_string(cache.path().join("shared_cpu_list")).ok())
        .collect::<Vec<_>>();
    (!lists.is_empty()).then(|| lists.iter().any(|list| lists_core(list, other)))
}

/// Whether a list such as `0-3,8` has this core.
fn lists_core(list: &str, core: usize) -> bool {
    list.trim().split(',').any(|part| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (first.trim().parse::<usize>(), last.trim().parse::<usize>());
        first.is_ok_and(|first| first <= core) && last.is_ok_and(|last| core <= last)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn distances(handovers: &[Option<f64>], topology: Option<bool>) -> Distances {
        Distances { shared_by_topology: topology, ..Distances::of(handovers) }
    }

    #[test]
    fn the_time_of_a_hand_over_tells_how_far_apart_cores_are() {
        assert_eq!(Distance::of(25.0), Distance::ShareCache);
        assert_eq!(Distance::of(120.0), Distance::FarApart);
        let text = distances(&[Some(38.04), Some(36.0)], Some(true)).text().unwrap();
        assert_eq!(text, "cores share a cache (37 ns per hand-over)");
        assert_eq!(Distances::default().text(), None);
        let text = distances(&[None, None], Some(true)).text().unwrap();
        assert!(text.starts_with("other programs left no time"), "{text}");
    }

    #[test]
    fn rounds_in_which_the_cores_were_elsewhere_are_named() {
        let found = distances(&[Some(38.0), Some(110.0), None, Some(112.0)], None);
        let text = found.text().unwrap();
        assert_eq!(
            text,
            "cores share a cache (38 ns per hand-over) in round 1; \
             cores are far apart (111 ns per hand-over) in rounds 2, 4"
        );
        assert_eq!(found.states(), [Distance::ShareCache, Distance::FarApart]);
    }

    #[test]
    fn a_round_without_a_measurement_counts_as_the_one_before_it() {
        let found = distances(&[None, Some(38.0), None, Some(110.0)], None);
        let rounds: Vec<_> = (0..5).map(|round| found.of_round(round).unwrap()).collect();
        let (near, far) = (Distance::ShareCache, Distance::FarApart);
        assert_eq!(rounds, [near, near, near, far, far]);
        assert_eq!(Distances::default().of_round(0), None);
    }

    #[test]
    fn what_was_measured_decides_and_a_kernel_that_says_otherwise_is_named() {
        for (ns, topology, named) in
            [(110.0, true, true), (38.0, false, true), (38.0, true, false), (110.0, false, false)]
        {
            let text = distances(&[Some(ns)], Some(topology)).text().unwrap();
            assert_eq!(text.contains("whatever the kernel says"), named, "{text}");
        }
    }

    #[test]
    fn lists_of_cores_are_read_with_their_ranges() {
        for (list, core, expected) in [
            ("0-1\n", 1, true),
            ("0", 1, false),
            ("0,2,4-6", 5, true),
            ("0,2,4-6", 3, false),
            ("", 0, false),
            ("x-y", 0, false),
        ] {
            assert_eq!(lists_core(list, core), expected, "{list:?} {core}");
        }
    }

    #[test]
    fn a_hand_over_takes_some_time_between_any_two_cores_and_none_is_found_on_one_that_is_not() {
        let cores = Cores::choose(None).unwrap();
        if let Some(ns) = cores.both().and_then(|(client, server)| handover_ns(client, server)) {
            assert!(ns > 0.0 && ns <= UNDISTURBED_MAX_NS, "{ns}");
        }
        assert_eq!(handover_ns(0, 1_000), None);
    }
}
