//! The guard of changes that alter no behaviour: digests of what the first seeds do, packet by
//! packet.
//!
//! A change that alters what is sent says so and why, and writes the digests anew with
//! `HOMA_DIGESTS=write` and a release build. `git diff` then tells how many seeds do something
//! else.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::{Cut, DRILL_ONE_IN, Trial, drills, is_drill};

const RECORDED: &str = include_str!("digests.txt");
const SEEDS: usize = 2_000;
/// Seeds per line of the record.
const LINE: usize = 20;
/// Lines that unoptimised builds look at.
const LINES_OF_DEBUG: usize = 5;

/// What a seed does.
fn digest(seed: u64) -> u64 {
    digest_of(seed, Trial::new(seed, &Cut::default()))
}

/// What a seed does in this trial.
fn digest_of(seed: u64, mut trial: Trial) -> u64 {
    let _ = trial.run();
    let drill = match is_drill(seed) {
        true => drills::play(seed / DRILL_ONE_IN, seed).world.digest(),
        false => 0,
    };
    trial.world.digest() ^ drill.rotate_left(1)
}

/// One line of the record: the first seed, and the digests of it and of those that follow.
fn line(number: usize) -> String {
    let first = number * LINE;
    let mut digests = 0_u64;
    for seed in first..first + LINE {
        digests = digests.rotate_left(7) ^ digest(seed as u64);
    }
    format!("{first:4} {digests:016x}")
}

fn lines(count: usize) -> Vec<String> {
    let (next, lines) = (AtomicUsize::new(0), Mutex::new(vec![String::new(); count]));
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= count {
                        return;
                    }
                    let line = line(number);
                    lines.lock().expect("no panic inside")[number] = line;
                }
            });
        }
    });
    lines.into_inner().expect("no panic inside")
}

#[test]
fn the_first_seeds_send_the_packets_that_are_recorded() {
    let writes = std::env::var("HOMA_DIGESTS").is_ok_and(|value| value == "write");
    let all = writes || !cfg!(debug_assertions);
    let found = lines(if all { SEEDS / LINE } else { LINES_OF_DEBUG });
    if writes {
        let mut record = String::new();
        found.iter().for_each(|line| writeln!(record, "{line}").expect("memory can be written"));
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/seeds/digests.txt");
        return std::fs::write(path, record).expect("the record can be written");
    }
    let recorded: Vec<_> = RECORDED.lines().take(found.len()).collect();
    assert_eq!(recorded.len(), found.len(), "the record is too short");
    let other: Vec<_> = found.iter().zip(&recorded).filter(|(one, two)| one != *two).collect();
    assert!(
        other.is_empty(),
        "{} of {} lines, of {LINE} seeds each, are not as recorded: {other:#?}\n\
         If the change is meant to alter what is sent, write them anew with HOMA_DIGESTS=write.",
        other.len(),
        found.len(),
    );
}

#[test]
fn rpcs_in_short_form_send_what_others_send_and_may_be_expanded_at_any_time() {
    let seeds = if cfg!(debug_assertions) { 60 } else { 1_000 };
    for seed in 0..seeds {
        let as_ever = digest(seed);
        for (what, short_form, expands) in [
            ("all in general form", false, false),
            ("none expanded without a cause", true, false),
            ("some expanded now and then", true, true),
        ] {
            let mut trial = Trial::in_form(seed, &Cut::default(), short_form);
            trial.world.expands = expands;
            assert_eq!(digest_of(seed, trial), as_ever, "{what}: seed {seed}");
        }
    }
}
