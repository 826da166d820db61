//! Simulations on all processors, several at a time.

use std::{
    ops::ControlFlow,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use homa_sim::Run;

use crate::{error::CliError, interrupt, progress::Progress};

/// A simulation among others.
pub(super) struct Job<'a> {
    /// What the user knows it by.
    pub(super) name: String,
    pub(super) run: &'a Run,
}

/// What came of simulations.
pub(super) struct Results<T> {
    /// In the order of the jobs; none of those that were not waited for.
    pub(super) found: Vec<Option<T>>,
    /// Why some were not.
    pub(super) failure: Option<CliError>,
}

impl<T> Results<T> {
    /// Those that the user waited for.
    pub(super) fn waited_for(self) -> Result<Vec<T>, CliError> {
        match self.failure {
            Some(error) => Err(error),
            None => Ok(self.found.into_iter().flatten().collect()),
        }
    }
}

/// Does the work of each job, so many at a time, in their order. `work` says which part of it is
/// done, and leaves it without a result when it hears that nobody waits any more. After a failure
/// no other begins, and those under way are brought to their end.
pub(super) fn simulate<T: Send>(
    jobs: &[Job<'_>],
    threads: usize,
    work: impl Fn(usize, &dyn Fn(f64) -> ControlFlow<()>) -> Result<Option<T>, CliError> + Sync,
) -> Results<T> {
    let next = AtomicUsize::new(0);
    let failure = Mutex::new(None);
    let found = Mutex::new((0..jobs.len()).map(|_| None).collect::<Vec<_>>());
    let board = Board::new(jobs);
    let take_jobs = || {
        while lock(&failure).is_none() && !interrupt::pressed() {
            let index = next.fetch_add(1, Ordering::Relaxed);
            if index >= jobs.len() {
                break;
            }
            match work(index, &|part| board.show(index, part)) {
                Ok(None) => break,
                Ok(Some(result)) => {
                    lock(&found)[index] = Some(result);
                    board.done(index);
                }
                Err(error) => drop(lock(&failure).get_or_insert(error)),
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..threads.min(jobs.len()) {
            scope.spawn(take_jobs);
        }
    });
    board.finish();
    let (found, failure) = (found.into_inner(), failure.into_inner());
    Results {
        found: found.unwrap_or_else(PoisonError::into_inner),
        failure: failure.unwrap_or_else(PoisonError::into_inner),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How far all jobs are.
struct Board<'a> {
    jobs: &'a [Job<'a>],
    /// About how many packets each of them has.
    packets: Vec<f64>,
    state: Mutex<State>,
}

struct State {
    progress: Progress,
    /// Part of each job that is done.
    parts: Vec<f64>,
    done: u64,
}

impl<'a> Board<'a> {
    fn new(jobs: &'a [Job<'a>]) -> Self {
        let packets = |job: &Job<'_>| {
            let each = job.run.sizes.mean(|bytes| (bytes as f64 / 1e3).ceil());
            f64::from(job.run.messages) * each
        };
        let state = State {
            progress: Progress::new(jobs.len() as u64),
            parts: vec![0.0; jobs.len()],
            done: 0,
        };
        Self { jobs, packets: jobs.iter().map(packets).collect(), state: Mutex::new(state) }
    }

    /// A job has come so far; ends it if the user does not wait.
    fn show(&self, index: usize, part: f64) -> ControlFlow<()> {
        let mut state = lock(&self.state);
        state.parts[index] = part;
        let (done, part) = (state.done, self.part(&state));
        state.progress.show_part(done, part, &self.jobs[index].name);
        if interrupt::pressed() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    /// A job is done.
    fn done(&self, index: usize) {
        let mut state = lock(&self.state);
        state.parts[index] = 1.0;
        state.done += 1;
        state.progress.tell_part(state.done, self.part(&state), &self.jobs[index].name);
    }

    /// Part of all packets that is done.
    fn part(&self, state: &State) -> f64 {
        let all: f64 = self.packets.iter().sum();
        let done = self.packets.iter().zip(&state.parts).map(|(packets, part)| packets * part);
        done.sum::<f64>() / all.max(1.0)
    }

    fn finish(&self) {
        lock(&self.state).progress.finish();
    }
}
