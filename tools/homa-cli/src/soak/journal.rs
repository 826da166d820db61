//! What an actor notes while it runs: lines on its standard output, a file of the stage that
//! outlives it.

use std::{
    fs::File,
    io::{self, Write},
    net::SocketAddr,
    os::fd::AsFd,
    sync::{Mutex, PoisonError},
};

use homa_sys::monotonic_ns;
use homa_transport::Carriage;
use serde::{Deserialize, Serialize};

use crate::error::CliError;

/// What a process has of the system.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Resources {
    /// Open descriptors.
    pub descriptors: u64,
    /// Threads.
    pub threads: u64,
    /// Resident memory in bytes.
    pub resident_bytes: u64,
}

/// What happened. Calls have numbers that no two calls of a run share.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Event {
    /// The endpoints of this life are there; their addresses.
    Ready(Vec<(Way, SocketAddr)>),
    /// A call is about to begin, to the server of this number.
    Began(u64, usize),
    /// It was answered, rightly, by this life of the server.
    Answered(u64, u64),
    /// It failed: why, and whether that says that no handler ran.
    Failed(u64, String, bool),
    /// This client gave it up.
    Dropped(u64),
    /// A message was not what was sent.
    Wrong(u64, String),
    /// The handler runs.
    Ran(u64),
    /// What the process has, after some calls.
    Usual(Resources),
    /// What it has when all calls have ended, and how many RPCs the endpoints still know.
    Quiet(Resources, u64),
    /// Something was tried that must come out in one way; what was wrong, if it did not.
    Tried(String, Option<String>),
    /// The wall clock was moved by so many milliseconds.
    ClockMoved(i64),
    /// Writing this journal failed for a while: why, and how many lines waited for it.
    Withheld(String, u64),
}

/// What carries the packets of an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Way {
    Udp,
    Ip,
}

impl Way {
    pub(super) fn carriage(self) -> Carriage {
        match self {
            Way::Udp => Carriage::Udp,
            Way::Ip => Carriage::Ip,
        }
    }
}

/// When an event was noted, in nanoseconds of the monotonic clock, and what it was.
pub(super) type Line = (u64, Event);

/// The journal of this process. A line is in the file when [`Journal::note`] returns, so that
/// killing the process loses none; while the disk is full, lines wait in memory.
#[derive(Debug)]
pub(super) struct Journal(Mutex<Pages>);

#[derive(Debug)]
struct Pages {
    file: File,
    /// Bytes that are not in the file yet.
    waiting: Vec<u8>,
    withheld: Option<(String, u64)>,
}

impl Journal {
    /// The journal on standard output.
    pub(super) fn open() -> Result<Self, CliError> {
        let output = io::stdout().as_fd().try_clone_to_owned();
        let file = output.map_err(|error| CliError::io("standard output", &error))?.into();
        Ok(Self::of(file))
    }

    fn of(file: File) -> Self {
        Self(Mutex::new(Pages { file, waiting: Vec::new(), withheld: None }))
    }

    /// Notes that something happens now.
    pub(super) fn note(&self, event: Event) {
        self.pages().add(event);
    }

    /// Writes what waits, if there is room by now.
    pub(super) fn catch_up(&self) {
        self.pages().write();
    }

    fn pages(&self) -> std::sync::MutexGuard<'_, Pages> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pages {
    fn add(&mut self, event: Event) {
        let line: Line = (monotonic_ns(), event);
        // Numbers, texts and lists of them: nothing that JSON cannot say.
        if let Ok(text) = serde_json::to_vec(&line) {
            self.waiting.extend_from_slice(&text);
            self.waiting.push(b'\n');
        }
        if let Some((_, lines)) = &mut self.withheld {
            *lines += 1;
        }
        self.write();
    }

    fn write(&mut self) {
        while !self.waiting.is_empty() {
            match self.file.write(&self.waiting) {
                Ok(written) => drop(self.waiting.drain(..written)),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    if self.withheld.is_none() {
                        // What cannot be said either will be in the journal.
                        let _ = writeln!(io::stderr(), "homa: cannot write the journal: {error}");
                        self.withheld = Some((error.to_string(), 1));
                    }
                    return;
                }
            }
        }
        if let Some((reason, lines)) = self.withheld.take() {
            self.add(Event::Withheld(reason, lines));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_loses_no_line() {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let journal = Journal::of(full);
        for call in 0..3 {
            journal.note(Event::Ran(call));
        }
        let file = tempfile::tempfile().unwrap();
        journal.pages().file = file.try_clone().unwrap();
        journal.catch_up();
        let mut text = vec![0; file.metadata().unwrap().len() as usize];
        std::os::unix::fs::FileExt::read_exact_at(&file, &mut text, 0).unwrap();
        let lines = String::from_utf8(text).unwrap();
        let events: Vec<Event> =
            lines.lines().map(|line| serde_json::from_str::<Line>(line).unwrap().1).collect();
        assert_eq!(events[..3], [Event::Ran(0), Event::Ran(1), Event::Ran(2)]);
        let [Event::Withheld(reason, 3)] = &events[3..] else { panic!("{events:?}") };
        assert!(reason.contains("No space left"), "{reason}");
    }
}
