//! A line on the terminal for work without steps that takes more than two seconds.

use std::{
    io::{self, IsTerminal},
    sync::mpsc::{self, RecvTimeoutError},
    thread::{self, JoinHandle},
    time::Duration,
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Work shorter than this shows nothing.
const QUIET: Duration = Duration::from_secs(2);

/// How often the time that has passed is drawn again.
const TICK: Duration = Duration::from_millis(200);

/// Says on standard error what is under way and since when, from two seconds on until dropped; only
/// on a terminal. Makes a thread: not before the process has the privileges that it needs.
pub(crate) struct Waiting {
    end: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Waiting {
    /// Starts to wait for `what`.
    pub(crate) fn new(what: impl Into<String>) -> Self {
        if !io::stderr().is_terminal() {
            return Self { end: None, thread: None };
        }
        let what = what.into();
        let (end, ended) = mpsc::channel();
        // Without the thread there is no line; the work is done all the same.
        let thread =
            thread::Builder::new().name("waiting".into()).spawn(move || show(&what, &ended)).ok();
        Self { end: Some(end), thread }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take() {
            // It does not panic; if it did, that was printed.
            let _ = thread.join();
        }
    }
}

fn show(what: &str, ended: &mpsc::Receiver<()>) {
    if ended.recv_timeout(QUIET) != Err(RecvTimeoutError::Timeout) {
        return;
    }
    let target = ProgressDrawTarget::stderr_with_hz(10);
    let bar = ProgressBar::with_draw_target(None, target).with_elapsed(QUIET);
    if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}, {elapsed}") {
        bar.set_style(style);
    }
    bar.set_message(what.to_owned());
    while ended.recv_timeout(TICK) == Err(RecvTimeoutError::Timeout) {
        bar.tick();
    }
    bar.finish_and_clear();
}
