//! Progress over all that a comparison does, with the time that is left.

use std::{
    fmt::Write,
    io::{IsTerminal, stderr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use homa_bench::{
    estimate::{Step, total},
    watch::Watch,
};
use indicatif::{ProgressBar, ProgressState, ProgressStyle};

use crate::interrupt;

/// How often the time that is left is drawn anew.
const TICK: Duration = Duration::from_millis(500);

/// The steps of a comparison: a bar on a terminal, a line per step elsewhere.
pub(crate) struct Overall {
    schedule: Arc<Mutex<Schedule>>,
    bar: Option<ProgressBar>,
}

/// What is to be done, and what is under way.
struct Schedule {
    steps: Vec<Step>,
    /// Steps that have begun; the last of them is under way.
    begun: usize,
    since: Instant,
}

impl Schedule {
    /// Goes on to the step of this name; whether it is planned.
    fn begin(&mut self, what: &str) -> bool {
        let later = self.steps.iter().skip(self.begun).position(|step| step.what == what);
        if let Some(later) = later {
            self.begun += later + 1;
            self.since = Instant::now();
        }
        later.is_some()
    }

    /// About how much time is left.
    fn left(&self) -> Duration {
        let current = self.begun.checked_sub(1).and_then(|index| self.steps.get(index));
        let current = current.map_or(Duration::ZERO, |step| step.time);
        let later = total(self.steps.get(self.begun..).unwrap_or_default());
        later + current.saturating_sub(self.since.elapsed())
    }
}

impl Overall {
    /// Progress over these steps.
    pub(crate) fn new(steps: Vec<Step>) -> Self {
        let schedule = Schedule { steps, begun: 0, since: Instant::now() };
        let schedule = Arc::new(Mutex::new(schedule));
        let bar = stderr().is_terminal().then(|| bar(&schedule));
        Overall { schedule, bar }
    }

    /// Replaces the steps that have not begun.
    pub(crate) fn plan_rest(&self, rest: Vec<Step>) {
        let mut schedule = lock(&self.schedule);
        let begun = schedule.begun;
        schedule.steps.truncate(begun);
        schedule.steps.extend(rest);
    }

    /// Takes the bar away while something is printed.
    pub(crate) fn suspend<T>(&self, print: impl FnOnce() -> T) -> T {
        match &self.bar {
            Some(bar) => bar.suspend(print),
            None => print(),
        }
    }

    fn print(&self, text: &str) {
        self.suspend(|| eprintln!("homa: {text}"));
    }
}

impl Drop for Overall {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

impl Watch for Overall {
    fn begins(&self, step: &str) {
        if self.stopped() {
            return;
        }
        let (left, begun, steps) = {
            let mut schedule = lock(&self.schedule);
            // A network that needs no building is there at once.
            if !schedule.begin(step) {
                return;
            }
            (schedule.left(), schedule.begun, schedule.steps.len())
        };
        match &self.bar {
            Some(bar) => bar.set_message(format!("step {begun} of {steps}: {step}")),
            None => eprintln!("homa: step {begun} of {steps}, {} left: {step}", about(left)),
        }
    }

    fn says(&self, text: &str) {
        self.print(text);
    }

    fn stopped(&self) -> bool {
        interrupt::pressed()
    }
}

fn lock(schedule: &Mutex<Schedule>) -> MutexGuard<'_, Schedule> {
    schedule.lock().unwrap_or_else(PoisonError::into_inner)
}

fn bar(schedule: &Arc<Mutex<Schedule>>) -> ProgressBar {
    let bar = ProgressBar::new_spinner();
    let schedule = Arc::clone(schedule);
    let left = move |_: &ProgressState, text: &mut dyn Write| {
        // What cannot be written is not shown.
        let _ = write!(text, "{}", about(lock(&schedule).left()));
    };
    if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}, {left} left") {
        bar.set_style(style.with_key("left", left));
    }
    bar.enable_steady_tick(TICK);
    bar
}

/// A time as people say it: nobody knows it better.
pub(crate) fn about(time: Duration) -> String {
    match time.as_secs() {
        0..=9 => "some seconds".to_owned(),
        secs @ 10..=99 => format!("about {} s", secs.div_ceil(5) * 5),
        secs @ 100..=5_999 => format!("about {} min", (secs + 30) / 60),
        secs => format!("about {:.1} h", secs as f64 / 3_600.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(what: &str, secs: u64) -> Step {
        Step { what: what.to_owned(), time: Duration::from_secs(secs) }
    }

    #[test]
    fn the_time_left_is_that_of_the_steps_not_yet_done() {
        let steps = vec![step("a", 100), step("b", 200), step("a", 300)];
        let mut schedule = Schedule { steps, begun: 0, since: Instant::now() };
        let left = |schedule: &Schedule| schedule.left().as_secs_f64().round();
        assert_eq!(left(&schedule), 600.0);
        assert!(schedule.begin("b"));
        assert_eq!((schedule.begun, left(&schedule)), (2, 500.0));
        assert!(!schedule.begin("unknown"));
        assert!(schedule.begin("a"));
        assert_eq!((schedule.begun, left(&schedule)), (3, 300.0));
        schedule.since -= Duration::from_secs(400);
        assert_eq!(left(&schedule), 0.0);
    }

    #[test]
    fn times_are_said_no_more_exactly_than_they_are_known() {
        let said = [3, 12, 95, 100, 100 * 60, 7_200].map(|secs| about(Duration::from_secs(secs)));
        let wanted = [
            "some seconds",
            "about 15 s",
            "about 95 s",
            "about 2 min",
            "about 1.7 h",
            "about 2.0 h",
        ];
        assert_eq!(said, wanted);
    }
}
