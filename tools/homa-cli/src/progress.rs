//! Progress on standard error, for work that takes more than two seconds, and only on a terminal.

use std::{
    io::{self, IsTerminal},
    time::{Duration, Instant},
};

use indicatif::{HumanDuration, ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Work shorter than this shows nothing.
const QUIET: Duration = Duration::from_secs(2);
/// Steps of the bar itself.
const BAR_STEPS: u64 = 1_000;

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
        self.show_part(done, done as f64 / self.total.max(1) as f64, what);
    }

    /// The same where steps differ: they are this part of the work.
    pub(crate) fn show_part(&mut self, done: u64, part: f64, what: &str) {
        if !self.terminal || self.started.elapsed() < QUIET {
            return;
        }
        let bar = self.bar.get_or_insert_with(|| {
            let target = ProgressDrawTarget::stderr_with_hz(10);
            let bar = ProgressBar::with_draw_target(Some(BAR_STEPS), target);
            if let Ok(style) = ProgressStyle::with_template("{bar:30} {prefix} {msg}") {
                bar.set_style(style);
            }
            bar
        });
        bar.set_prefix(format!("{done}/{}", self.total));
        bar.set_message(match time_left(self.started.elapsed(), part) {
            Some(left) => format!("{what}, {:#} left", HumanDuration(left)),
            None => what.to_owned(),
        });
        bar.set_position((part * BAR_STEPS as f64) as u64);
    }

    /// Says that a step is done where there is no terminal, which has the bar.
    pub(crate) fn tell_part(&self, done: u64, part: f64, what: &str) {
        if self.terminal || self.total < 2 {
            return;
        }
        let left = time_left(self.started.elapsed(), part);
        let left = left.map_or(String::new(), |left| format!(", {:#} left", HumanDuration(left)));
        eprintln!("homa: {done}/{} {what}{left}", self.total);
    }

    /// Takes the bar away.
    pub(crate) fn finish(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

/// The time that the rest takes at the speed so far; `None` before there is a part.
fn time_left(elapsed: Duration, part: f64) -> Option<Duration> {
    let rest = (1.0 - part).max(0.0);
    (part > 0.0).then(|| elapsed.mul_f64(rest / part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rest_takes_as_long_per_part_as_what_is_done() {
        let elapsed = Duration::from_secs(6);
        assert_eq!(time_left(elapsed, 0.25), Some(Duration::from_secs(18)));
        assert_eq!(time_left(elapsed, 1.0), Some(Duration::ZERO));
        assert_eq!(time_left(elapsed, 0.0), None);
    }
}
