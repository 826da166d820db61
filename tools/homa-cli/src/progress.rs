//! Progress on standard error, for work that takes more than two seconds, and only on a terminal.

use std::{
    io::{self, IsTerminal},
    time::{Duration, Instant},
};

use indicatif::{HumanDuration, ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Work shorter than this shows nothing.
const QUIET: Duration = Duration::from_secs(2);

/// A bar drawn at most ten times a second. It appears two seconds after the start.
#[derive(Debug)]
pub(crate) struct Progress {
    started: Instant,
    bar: Option<ProgressBar>,
    total: u64,
    terminal: bool,
}

impl Progress {
    /// A bar for `total` steps.
    pub(crate) fn new(total: u64) -> Self {
        Progress { started: Instant::now(), bar: None, total, terminal: io::stderr().is_terminal() }
    }

    /// Shows that `done` steps are done, what is under way, and how long the rest takes if it goes
    /// on like this.
    pub(crate) fn show(&mut self, done: u64, what: &str) {
        if !self.terminal || self.started.elapsed() < QUIET {
            return;
        }
        let total = self.total;
        let bar = self.bar.get_or_insert_with(|| {
            let bar =
                ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr_with_hz(10));
            if let Ok(style) = ProgressStyle::with_template("{bar:30} {pos}/{len} {msg}") {
                bar.set_style(style);
            }
            bar
        });
        bar.set_message(match time_left(self.started.elapsed(), done, total) {
            Some(left) => format!("{what}, {:#} left", HumanDuration(left)),
            None => what.to_owned(),
        });
        bar.set_position(done);
    }

    /// Takes the bar away.
    pub(crate) fn finish(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

/// The time that the rest takes at the speed so far; `None` before the first step.
fn time_left(elapsed: Duration, done: u64, total: u64) -> Option<Duration> {
    let rest = total.saturating_sub(done);
    (done > 0).then(|| elapsed.mul_f64(rest as f64 / done as f64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rest_takes_as_long_per_step_as_what_is_done() {
        let elapsed = Duration::from_secs(6);
        assert_eq!(time_left(elapsed, 3, 9), Some(Duration::from_secs(12)));
        assert_eq!(time_left(elapsed, 9, 9), Some(Duration::ZERO));
        assert_eq!(time_left(elapsed, 0, 9), None);
    }
}
