//! Thousands of small worlds in which users of endpoints do what they may do, in virtual time, in
//! an order that the seed chooses, while networks and hosts fail. Every call ends once, in time,
//! and as its handler says; what an error says about the handler is true; nothing is left over.
//!
//! `HOMA_SEEDS=N` sets how many worlds (default 10,000 in release builds, 200 otherwise),
//! `HOMA_FIRST_SEED=N` where they begin, `HOMA_FAILURES_MAX=N` how many may fail before the rest is
//! not tried (default 8). A failure prints `HOMA_SEED=…`, the first one also `HOMA_SHRINK=…`, which
//! leaves out of it what it fails without (`HOMA_SHRINK=0`: not tried). With these variables only
//! this world runs, and `HOMA_SHOW_PACKETS=1` shows its packets and what its users do.

#[path = "seeds/executor.rs"]
mod executor;
#[path = "seeds/ledger.rs"]
mod ledger;
#[path = "seeds/plan.rs"]
mod plan;
#[path = "seeds/scene.rs"]
mod scene;
#[path = "seeds/users.rs"]
mod users;

use std::any::Any;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use homa_virtual::{Cut, shrink};
use ledger::Violation;
use plan::{Plan, TROUBLES};
use scene::{Outcome, play};

/// The name of threads that try worlds: their panics are reported with the seed.
const WORLDS: &str = "worlds";
/// Longest time to look for a smaller plan.
const SHRINKING_MAX: Duration = Duration::from_secs(60);

thread_local! {
    static PANICKED_AT: Cell<Option<String>> = const { Cell::new(None) };
}

fn number_from(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is a number")))
}

/// Panics in worlds are kept, to be reported with the seed.
fn keep_panics_of_worlds_quiet() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if std::thread::current().name() == Some(WORLDS) {
            PANICKED_AT.set(info.location().map(ToString::to_string));
        } else {
            usual(info);
        }
    }));
}

fn message_of(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("no message")
}

/// Carries out what is left of a seed's plan.
fn try_seed(seed: u64, cut: &Cut, shows: bool) -> Result<Outcome, Vec<Violation>> {
    match catch_unwind(AssertUnwindSafe(|| play(&Plan::new(seed, cut), shows))) {
        Ok(outcome) if outcome.violations.is_empty() => Ok(outcome),
        Ok(outcome) => Err(outcome.violations),
        Err(panic) => {
            let at = PANICKED_AT.take().unwrap_or_default();
            let text = format!("at {at}: {}", message_of(panic.as_ref()));
            Err(vec![Violation { kind: "panic", text }])
        }
    }
}

fn told(violations: &[Violation]) -> String {
    let lines: Vec<_> = violations.iter().map(|it| format!("{}: {}", it.kind, it.text)).collect();
    lines.join("\n    ")
}

/// Leaves out of a world that fails what it fails without in the same way, and tells what is left.
fn shrunk(seed: u64) -> String {
    let Err(violations) = try_seed(seed, &Cut::default(), false) else {
        return "it failed, then not".into();
    };
    let kind = violations[0].kind;
    let until = Instant::now() + SHRINKING_MAX;
    let fails = |cut: &Cut| {
        let in_time = Instant::now() < until;
        in_time && try_seed(seed, cut, false).is_err_and(|violations| violations[0].kind == kind)
    };
    let actions = Plan::new(seed, &Cut::default()).actions.len();
    let least = shrink(TROUBLES, actions, fails);
    let violations = try_seed(seed, &least, false).err().unwrap_or_default();
    format!(
        "{}\n    {}\nto repeat it:\n    HOMA_SEED={seed} HOMA_SHRINK='{least}' HOMA_SHOW_PACKETS=1 \
         cargo test --release -p homa-transport --features check --test seeds every_call",
        Plan::new(seed, &least),
        told(&violations)
    )
}

#[test]
fn every_call_in_every_world_ends_once_in_time_and_as_its_handler_says() {
    let shrinking = std::env::var("HOMA_SHRINK").ok();
    if let Some(seed) = number_from("HOMA_SEED") {
        let cut = shrinking.as_deref().filter(|cut| *cut != "0").unwrap_or("");
        let cut = cut.parse().unwrap_or_else(|error| panic!("HOMA_SHRINK: {error}"));
        println!("{}", Plan::new(seed, &cut));
        let shows = std::env::var("HOMA_SHOW_PACKETS").is_ok();
        match try_seed(seed, &cut, shows) {
            Ok(outcome) => println!("{outcome:#?}"),
            Err(violations) => panic!("HOMA_SEED={seed} HOMA_SHRINK={cut}: {}", told(&violations)),
        }
        return;
    }
    keep_panics_of_worlds_quiet();
    let seeds =
        number_from("HOMA_SEEDS").unwrap_or(if cfg!(debug_assertions) { 200 } else { 10_000 });
    let first = number_from("HOMA_FIRST_SEED").unwrap_or(0);
    let failures_max = number_from("HOMA_FAILURES_MAX").unwrap_or(8) as usize;
    let next = AtomicU64::new(first);
    let (total, failures) = (Mutex::new(BTreeMap::<String, u64>::new()), Mutex::new(Vec::new()));
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            let worlds = std::thread::Builder::new().name(WORLDS.into());
            let spawned = worlds.spawn_scoped(scope, || {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    let failed = failures.lock().expect("no panic inside").len();
                    if seed >= first + seeds || failed >= failures_max {
                        return;
                    }
                    match try_seed(seed, &Cut::default(), false) {
                        Ok(outcome) => {
                            let mut total = total.lock().expect("no panic inside");
                            for (what, count) in outcome.counts {
                                *total.entry(what).or_default() += count;
                            }
                        }
                        Err(violations) => {
                            let text = format!("HOMA_SEED={seed}: {}", told(&violations));
                            failures.lock().expect("no panic inside").push((seed, text));
                        }
                    }
                }
            });
            spawned.expect("threads can be made");
        }
    });
    let failures = failures.into_inner().expect("no panic inside");
    if let Some((seed, _)) = failures.iter().min().filter(|_| shrinking.as_deref() != Some("0")) {
        let seed = *seed;
        let worlds = std::thread::Builder::new().name(WORLDS.into());
        let shrunk = worlds.spawn(move || shrunk(seed)).expect("threads can be made");
        let shrunk = shrunk.join().expect("no panic inside");
        let all: Vec<_> = failures.into_iter().map(|(_, failure)| failure).collect();
        panic!("{}\n\nthe first, shrunk: {shrunk}", all.join("\n"));
    }
    assert!(failures.is_empty(), "{failures:#?}");
    let total = total.into_inner().expect("no panic inside");
    println!("{seeds} worlds: {total:?}");
    let least = (seeds / 100).max(1);
    let reached = |what: &&&str| total.get(**what).is_none_or(|count| *count < least);
    let rare: Vec<_> = COMMON.iter().filter(reached).collect();
    assert!(rare.is_empty() || seeds < 1000, "reached less than {least} times: {rare:?}");
}

/// Ends of calls that a set of worlds has to bring about.
const COMMON: &[&str] = &[
    "accepted",
    "Answered",
    "GivenUp",
    "BodyIncomplete",
    "Closed",
    "Closing",
    "DeadlineExceeded",
    "Dropped",
    "LimitReached",
    "NoService",
    "NotExecuted",
    "Overloaded",
    "Rejected",
    "Restarted",
    "ServiceGone",
    "Stopped",
    "Timeout",
    "TooLong",
];

#[test]
fn a_seed_does_the_same_twice() {
    let seeds = if cfg!(debug_assertions) { 20 } else { 200 };
    for seed in 0..seeds {
        let digest = || play(&Plan::new(seed, &Cut::default()), false).digest;
        assert_eq!(digest(), digest(), "HOMA_SEED={seed}");
    }
}

#[test]
fn a_world_shrinks_to_what_it_fails_with() {
    // As if no call might be rejected.
    let rejects = |seed: u64, cut: &Cut| {
        play(&Plan::new(seed, cut), false).counts.get("Rejected").is_some_and(|count| *count > 0)
    };
    let actions = |seed: u64, cut: &Cut| Plan::new(seed, cut).actions.len();
    let whole = Cut::default();
    let seed = (0..1_000).find(|seed| actions(*seed, &whole) > 9 && rejects(*seed, &whole));
    let seed = seed.expect("some seed rejects");
    let least = shrink(TROUBLES, actions(seed, &whole), |cut| rejects(seed, cut));
    let told = least.to_string().parse().expect("a cut is read as it is written");
    assert!(rejects(seed, &told), "{told}");
    assert_eq!(actions(seed, &told), 1, "{}", Plan::new(seed, &told));
    assert_eq!(Plan::new(seed, &told).link.loss_ppm, 0, "{told}");
}
