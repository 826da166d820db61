//! A run: starts everybody, lets the faults come and go, ends everybody.

use std::{
    collections::VecDeque,
    thread,
    time::{Duration, Instant},
};

use homa_bench::rng::Rng;
use homa_sys::monotonic_ns;

use super::{
    actor::Command,
    faults::{self, Undo},
    ledger::Ledger,
    plan::{Fault, Who},
    stage::Stage,
};
use crate::{error::CliError, interrupt, progress::Progress};

/// The time between two looks at what is to be done.
const TICK: Duration = Duration::from_millis(10);

/// The time between two readings of the journals.
const READING: Duration = Duration::from_millis(100);

/// The time between two looks of the ledger at all calls.
const WATCHING: Duration = Duration::from_secs(1);

/// How long processes may take to be ready, and to finish: calls that wait for their bound, then
/// RPCs that are to be forgotten.
const STARTING: Duration = Duration::from_secs(30);
const FINISHING: Duration = Duration::from_secs(60);

/// A run under way.
#[derive(Debug)]
pub(super) struct Run {
    pub stage: Stage,
    pub ledger: Ledger,
    rng: Rng,
    active: Vec<Active>,
    read_at: Instant,
    watch_at: Instant,
}

/// A fault that has begun.
#[derive(Debug)]
struct Active {
    number: usize,
    /// When it is to end.
    until: Instant,
    undo: Option<Undo>,
    /// Whose readiness it waits for from then on.
    starting: Option<Who>,
}

impl Run {
    /// Starts all processes, the servers first: clients are told where they are.
    pub(super) fn start(stage: Stage, ledger: Ledger, seed: u64) -> Result<Self, CliError> {
        let now = Instant::now();
        let mut run = Run {
            stage,
            ledger,
            rng: Rng::new(seed),
            active: Vec::new(),
            read_at: now,
            watch_at: now,
        };
        let (servers, clients): (Vec<Who>, Vec<Who>) =
            run.stage.cast.all().partition(|who| matches!(who, Who::Server(_)));
        for group in [servers, clients] {
            for who in &group {
                run.stage.start(*who)?;
            }
            let ready = |run: &Run| group.iter().all(|who| run.stage.is_ready(*who));
            if !run.wait(STARTING, ready)? {
                let violations = run.ledger.violations.join("\n");
                return Err(CliError::Process(format!("not all processes started: {violations}")));
            }
        }
        Ok(run)
    }

    /// Waits until something is so; returns whether it is.
    pub(super) fn wait(
        &mut self,
        patience: Duration,
        until: impl Fn(&Self) -> bool,
    ) -> Result<bool, CliError> {
        let end = Instant::now() + patience;
        loop {
            self.read()?;
            if until(self) {
                return Ok(true);
            }
            if Instant::now() > end || interrupt::pressed() {
                return Ok(false);
            }
            thread::sleep(TICK);
        }
    }

    /// Lets the faults come and go for the length of the run; Ctrl-C ends it early, in good order.
    pub(super) fn go(
        &mut self,
        length: Duration,
        plan: &[Fault],
        verbose: bool,
    ) -> Result<Duration, CliError> {
        let start = Instant::now();
        let mut coming: VecDeque<Fault> = plan.iter().copied().collect();
        let mut progress = Progress::new(length.as_secs());
        while start.elapsed() < length && !interrupt::pressed() {
            while coming.front().is_some_and(|next| next.at <= start.elapsed()) {
                let Some(fault) = coming.pop_front() else { break };
                if verbose {
                    eprintln!("{fault}");
                }
                self.begin(fault)?;
            }
            self.end_due(Instant::now())?;
            self.look()?;
            let counts = &self.ledger.counts;
            let (ended, open) = (counts.answered + counts.failed, self.ledger.open_calls());
            progress.show(
                start.elapsed().as_secs(),
                &format!(
                    "s, {ended} calls ended, {open} under way, {} faults now, {} violations",
                    self.active.len(),
                    self.ledger.violation_count
                ),
            );
            thread::sleep(TICK);
        }
        progress.finish();
        // Whatever is still wrong, if the run was interrupted, is put right.
        let later = Instant::now() + length;
        self.end_due(later)?;
        Ok(start.elapsed())
    }

    fn begin(&mut self, fault: Fault) -> Result<(), CliError> {
        let number = self.ledger.fault_begins(fault, monotonic_ns());
        let until = Instant::now() + fault.lasts;
        let undo = faults::begin(&fault, &mut self.stage, &mut self.ledger, &mut self.rng)?;
        self.active.push(Active { number, until, undo: Some(undo), starting: None });
        Ok(())
    }

    fn end_due(&mut self, now: Instant) -> Result<(), CliError> {
        for index in 0..self.active.len() {
            let Some(active) = self.active.get_mut(index) else { continue };
            if active.until > now {
                continue;
            }
            let Some(undo) = active.undo.take() else { continue };
            if let Undo::Start(who) = &undo {
                active.starting = Some(*who);
            }
            let (number, over) = (active.number, active.starting.is_none());
            faults::end(undo, &mut self.stage)?;
            if over {
                self.ledger.fault_ends(number, monotonic_ns());
            }
        }
        self.active.retain(|active| active.undo.is_some() || active.starting.is_some());
        Ok(())
    }

    fn look(&mut self) -> Result<(), CliError> {
        let now = Instant::now();
        if now >= self.read_at {
            self.read_at = now + READING;
            self.read()?;
        }
        if now >= self.watch_at {
            self.watch_at = now + WATCHING;
            self.ledger.watch(monotonic_ns());
        }
        Ok(())
    }

    /// Reads the journals; faults that waited for a process are over when it is ready.
    fn read(&mut self) -> Result<(), CliError> {
        for (who, at_ns) in self.stage.look(&mut self.ledger)? {
            let ledger = &mut self.ledger;
            self.active.retain(|active| {
                let over = active.starting == Some(who);
                if over {
                    ledger.fault_ends(active.number, at_ns);
                }
                !over
            });
        }
        Ok(())
    }

    /// Lets all calls end, then all processes, the clients first.
    pub(super) fn finish(&mut self) -> Result<(), CliError> {
        self.wait(STARTING, |run| run.active.is_empty())?;
        let (servers, clients): (Vec<Who>, Vec<Who>) =
            self.stage.cast.all().partition(|who| matches!(who, Who::Server(_)));
        for group in [clients, servers] {
            for who in &group {
                self.stage.tell(*who, Command::Finish)?;
            }
            let over = |run: &Run| group.iter().all(|who| !run.stage.runs(*who));
            self.wait(FINISHING, over)?;
            for who in group {
                if self.stage.runs(who) && !interrupt::pressed() {
                    self.ledger.violate(format!("{who} did not finish within {FINISHING:?}"));
                }
                self.stage.kill(who, &mut self.ledger)?;
            }
        }
        if !interrupt::pressed() {
            self.ledger.close();
        }
        Ok(())
    }
}
