//! Which faults come when: drawn from a seed before anything runs, so that a run can be had again.

use std::{fmt, time::Duration};

use clap::ValueEnum;
use homa_bench::rng::Rng;
use serde::Serialize;

/// What can go wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Kind {
    /// A process is killed (SIGKILL) and another takes its place and port
    Kill,
    /// A process is stopped for 0.1 to 15 s
    Stop,
    /// One thread of a process is stopped, whatever it holds
    Thread,
    /// A process gets a twentieth of a core
    Throttle,
    /// A process forks with calls under way; the child must be kept out
    Fork,
    /// A process has no free descriptor
    Descriptors,
    /// A tokio runtime ends in the middle of its tasks
    Runtime,
    /// A process may take 64 MiB more than it has (RLIMIT_AS)
    Memory,
    /// The disk of all journals is full
    Disk,
    /// The cable of a host is pulled
    Unplug,
    /// A host has no route to the other
    Route,
    /// The wall clock of a process jumps by an hour
    Clock,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.to_possible_value().as_ref().map_or("", |value| value.get_name()))
    }
}

/// A server or a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Who {
    Server(usize),
    Client(usize),
}

impl Who {
    pub(super) fn number(self) -> usize {
        match self {
            Who::Server(number) | Who::Client(number) => number,
        }
    }

    /// Every other actor works on tokio.
    pub(super) fn is_tokio(self) -> bool {
        self.number() % 2 == 1
    }
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Who::Server(number) => write!(f, "server {number}"),
            Who::Client(number) => write!(f, "client {number}"),
        }
    }
}

/// What a fault happens to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Target {
    Process(Who),
    Host(usize),
    Disk,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Process(who) => who.fmt(f),
            Target::Host(host) => write!(f, "host {host}"),
            Target::Disk => f.write_str("the journals' disk"),
        }
    }
}

/// One fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fault {
    /// When it begins, after the start of the run.
    pub at: Duration,
    /// How long it lasts; a killed process is absent for this time.
    pub lasts: Duration,
    pub kind: Kind,
    pub target: Target,
}

impl Fault {
    fn end(&self) -> Duration {
        self.at + self.lasts
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (at, lasts) = (self.at.as_secs_f64(), self.lasts.as_secs_f64());
        write!(
            f,
            "{at:8.2} s  {:11} {:18} {lasts:5.2} s",
            self.kind.to_string(),
            self.target.to_string()
        )
    }
}

/// Who takes part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cast {
    pub servers: usize,
    pub clients: usize,
    /// Hosts of the lab; one is this machine.
    pub hosts: usize,
}

impl Cast {
    pub(super) fn all(self) -> impl Iterator<Item = Who> {
        (0..self.servers).map(Who::Server).chain((0..self.clients).map(Who::Client))
    }

    /// The host of an actor.
    pub(super) fn host(self, who: Who) -> usize {
        who.number() % self.hosts
    }

    fn targets(self, kind: Kind) -> Vec<Target> {
        match kind {
            Kind::Disk => vec![Target::Disk],
            Kind::Unplug | Kind::Route => (0..self.hosts).map(Target::Host).collect(),
            Kind::Runtime => self.all().filter(|who| who.is_tokio()).map(Target::Process).collect(),
            Kind::Clock => self.clocked().map(Target::Process).collect(),
            _ => self.all().map(Target::Process).collect(),
        }
    }

    /// The actors whose clock can be moved.
    pub(super) fn clocked(self) -> impl Iterator<Item = Who> {
        [Who::Server(self.servers - 1), Who::Client(self.clients - 1)].into_iter()
    }
}

/// Calls are made for this time before the first fault.
const WARM_UP: Duration = Duration::from_secs(2);

/// After a fault its target is left alone for this time.
const REST: Duration = Duration::from_secs(1);

/// Draws the faults of a run of this length.
pub(super) fn draw(seed: u64, length: Duration, cast: Cast, kinds: &[Kind]) -> Vec<Fault> {
    let mut rng = Rng::new(seed);
    let secs = length.as_secs_f64();
    let last_end = secs - (secs / 4.0).clamp(2.0, 10.0);
    let gap = (secs / 25.0).clamp(0.4, 1.5);
    let (mut at, mut bag) = (WARM_UP.as_secs_f64(), Vec::new());
    let mut faults: Vec<Fault> = Vec::new();
    while at < last_end && !kinds.is_empty() {
        // Each kind comes once before any comes again.
        if bag.is_empty() {
            bag = kinds.to_vec();
        }
        let kind = bag.swap_remove(below(&mut rng, bag.len()));
        let lasts = lasts_secs(kind, &mut rng).min(secs / 4.0).min(last_end - at);
        let targets = cast.targets(kind);
        let first = below(&mut rng, targets.len());
        let possible = (0..targets.len()).map(|step| Fault {
            at: Duration::from_secs_f64(at),
            lasts: Duration::from_secs_f64(lasts),
            kind,
            target: targets[(first + step) % targets.len()],
        });
        let fits = |fault: &Fault| faults.iter().all(|other| !exclude(other, fault));
        faults.extend(possible.into_iter().find(fits));
        at += rng.exponential(gap).clamp(0.05, 4.0 * gap);
    }
    faults
}

fn below(rng: &mut Rng, end: usize) -> usize {
    ((rng.uniform() * end as f64) as usize).min(end.saturating_sub(1))
}

/// How long a fault lasts, in seconds: short times are as likely as long ones, on a scale of
/// powers.
fn lasts_secs(kind: Kind, rng: &mut Rng) -> f64 {
    let (least, most): (f64, f64) = match kind {
        Kind::Fork | Kind::Runtime | Kind::Clock => return 0.0,
        Kind::Kill => (0.05, 3.0),
        Kind::Stop => (0.1, 15.0),
        Kind::Unplug => (0.1, 10.0),
        Kind::Thread | Kind::Route => (0.1, 5.0),
        Kind::Throttle => (1.0, 10.0),
        Kind::Descriptors | Kind::Disk => (0.2, 3.0),
        Kind::Memory => (1.0, 5.0),
    };
    least * (most / least).powf(rng.uniform())
}

/// Whether two faults cannot come together: a target has one at a time, and a process that is
/// killed while its journal waits for room would take calls along that nobody hears of.
fn exclude(one: &Fault, other: &Fault) -> bool {
    let apart = one.end() + REST <= other.at || other.end() + REST <= one.at;
    let both = |a, b| (one.kind == a && other.kind == b) || (one.kind == b && other.kind == a);
    let same = one.target == other.target;
    let network =
        both(Kind::Unplug, Kind::Route) || (same && matches!(one.target, Target::Host(_)));
    !apart && (same || network || both(Kind::Disk, Kind::Kill))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CAST: Cast = Cast { servers: 2, clients: 4, hosts: 2 };

    fn all(secs: u64, seed: u64) -> Vec<Fault> {
        draw(seed, Duration::from_secs(secs), CAST, Kind::value_variants())
    }

    #[test]
    fn a_seed_gives_the_same_faults_again_and_another_gives_others() {
        assert_eq!(all(60, 1), all(60, 1));
        assert_ne!(all(60, 1), all(60, 2));
    }

    #[test]
    fn every_kind_comes_in_five_minutes_and_all_are_over_before_the_end() {
        for seed in 0..20 {
            let faults = all(300, seed);
            for kind in Kind::value_variants() {
                assert!(faults.iter().any(|fault| fault.kind == *kind), "seed {seed}: {kind}");
            }
            assert!(faults.iter().all(|fault| fault.end() <= Duration::from_secs(290)));
            assert!(faults.iter().any(|one| {
                faults.iter().any(|other| one != other && one.at < other.at && other.at < one.end())
            }));
        }
    }

    #[test]
    fn a_target_has_one_fault_at_a_time() {
        let faults = all(300, 7);
        for (index, one) in faults.iter().enumerate() {
            for other in &faults[index + 1..] {
                assert!(one.target != other.target || one.end() < other.at, "{one}\n{other}");
            }
        }
    }

    #[test]
    fn only_what_was_asked_for_is_drawn() {
        let faults = draw(1, Duration::from_secs(12), CAST, &[Kind::Kill]);
        assert!(!faults.is_empty() && faults.iter().all(|fault| fault.kind == Kind::Kill));
        assert!(draw(1, Duration::from_secs(12), CAST, &[]).is_empty());
    }
}
