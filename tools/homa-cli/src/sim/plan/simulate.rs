//! Points on all processors, each result handed over as soon as it is there.

use std::{
    io::{self, IsTerminal},
    ops::ControlFlow,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use homa_sim::{figures::PointResult, plan::Point};

use crate::{error::CliError, interrupt, progress::Progress};

/// How it ended.
pub(super) enum Ended {
    /// All points are done.
    Done,
    /// The user did not wait for the rest.
    Interrupted,
    /// A point could not be simulated or handed over.
    Failed(CliError),
}

/// Simulates points, so many at a time, in their order. After a failure no other begins, and those
/// under way are brought to their end.
pub(super) fn simulate(
    points: &[&Point],
    threads: usize,
    keep: impl Fn(&PointResult) -> Result<(), CliError> + Sync,
) -> Ended {
    let next = AtomicUsize::new(0);
    let failure = Mutex::new(None);
    let board = Board::new(points);
    let work = || {
        while lock(&failure).is_none() && !interrupt::pressed() {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(point) = points.get(index) else { break };
            let outcome = point.run.run(|moment| board.show(index, moment.part));
            let kept = match outcome {
                Ok(None) => break,
                Ok(Some(outcome)) => keep(&PointResult::of(point, &outcome)),
                Err(error) => Err(CliError::Usage(format!("{}: {error}", point.label))),
            };
            match kept {
                Ok(()) => board.done(index),
                Err(error) => drop(lock(&failure).get_or_insert(error)),
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..threads.min(points.len()) {
            scope.spawn(work);
        }
    });
    board.finish();
    match lock(&failure).take() {
        Some(error) => Ended::Failed(error),
        None if board.is_done() => Ended::Done,
        None => Ended::Interrupted,
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How far all points are.
struct Board<'a> {
    points: &'a [&'a Point],
    begun: Instant,
    is_terminal: bool,
    state: Mutex<State>,
}

struct State {
    progress: Progress,
    /// Part of each point that is done.
    parts: Vec<f64>,
    done: usize,
}

impl<'a> Board<'a> {
    fn new(points: &'a [&'a Point]) -> Self {
        let state = State {
            progress: Progress::new(points.len() as u64),
            parts: vec![0.0; points.len()],
            done: 0,
        };
        let is_terminal = io::stderr().is_terminal();
        Self { points, begun: Instant::now(), is_terminal, state: Mutex::new(state) }
    }

    /// A point has come so far; ends it if the user does not wait.
    fn show(&self, index: usize, part: f64) -> ControlFlow<()> {
        let mut state = lock(&self.state);
        state.parts[index] = part;
        let what = format!("{} {}", self.left(&state), self.points[index].label);
        let done = state.done as u64;
        state.progress.show(done, &what);
        if interrupt::pressed() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    /// A point is done, and its result is kept.
    fn done(&self, index: usize) {
        let mut state = lock(&self.state);
        state.parts[index] = 1.0;
        state.done += 1;
        let all = self.points.len();
        // A terminal has the bar.
        if !self.is_terminal && all > 1 {
            let (left, label) = (self.left(&state), &self.points[index].label);
            eprintln!("homa: {} of {all} points, {left}{label}", state.done);
        }
    }

    /// The time that is left, in words; nothing while that is not known.
    fn left(&self, state: &State) -> String {
        let packets = |point: &Point| {
            f64::from(point.run.messages)
                * point.run.sizes.mean(|bytes| (bytes as f64 / 1e3).ceil())
        };
        let all: f64 = self.points.iter().map(|point| packets(point)).sum();
        let done = self.points.iter().zip(&state.parts).map(|(point, part)| packets(point) * part);
        let part = done.sum::<f64>() / all;
        if part < 0.02 {
            return String::new();
        }
        let seconds = self.begun.elapsed().as_secs_f64() * (1.0 - part) / part;
        match Duration::try_from_secs_f64(seconds).map_or(0, |left| left.as_secs()) {
            0..=90 => format!("about {seconds:.0} s left: "),
            _ => format!("about {:.0} min left: ", seconds / 60.0),
        }
    }

    fn is_done(&self) -> bool {
        lock(&self.state).done == self.points.len()
    }

    fn finish(&self) {
        lock(&self.state).progress.finish();
    }
}
