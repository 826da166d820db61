//! How each fault begins and ends.

use std::{
    fs,
    sync::mpsc::{self, RecvTimeoutError, Sender},
    thread::{self, JoinHandle},
    time::Duration,
};

use homa_bench::rng::Rng;
use homa_lab::disk::Ballast;
use nix::{
    sys::{
        ptrace,
        signal::{Signal, kill},
        wait::{WaitPidFlag, waitpid},
    },
    unistd::Pid,
};
use rustix::process::{Resource, Rlimit, prlimit};

use super::{
    actor::Command,
    ledger::Ledger,
    plan::{Fault, Kind, Target, Who},
    stage::{Stage, lab_failed},
};
use crate::error::CliError;

/// What a process may use beyond what it has when its memory is limited, in bytes.
const SLACK_BYTES: u64 = 64 << 20;

/// A throttled process runs for the second of these in every sum of both.
const STANDS: Duration = Duration::from_millis(95);
const RUNS: Duration = Duration::from_millis(5);

/// What has to be undone when a fault is over.
#[derive(Debug)]
pub(super) enum Undo {
    Nothing,
    /// Start the process again; the fault lasts until it is ready.
    Start(Who),
    Continue(Who),
    /// A thread of ours holds something until it is told to let go.
    LetGo(Hold),
    FreeMemory(Who),
    FreeDisk(Ballast),
    Plug(usize),
    Route(usize),
}

/// A thread at work until this is dropped.
#[derive(Debug)]
pub(super) struct Hold {
    end: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Hold {
    fn new(work: impl FnOnce(&dyn Fn(Duration) -> bool) + Send + 'static) -> Self {
        let (end, ended) = mpsc::channel::<()>();
        let thread = thread::spawn(move || {
            // Waits, and tells whether to go on.
            work(&|time| ended.recv_timeout(time) == Err(RecvTimeoutError::Timeout));
        });
        Hold { end: Some(end), thread: Some(thread) }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take() {
            // A panic of it was printed.
            let _ = thread.join();
        }
    }
}

/// Begins a fault.
pub(super) fn begin(
    fault: &Fault,
    stage: &mut Stage,
    ledger: &mut Ledger,
    rng: &mut Rng,
) -> Result<Undo, CliError> {
    let who = match fault.target {
        Target::Process(who) => who,
        Target::Host(host) => return cut_off(fault.kind, host, stage),
        Target::Disk => return fill(stage),
    };
    if !stage.runs(who) {
        // It ended by itself, which is a violation already.
        return Ok(Undo::Nothing);
    }
    let ms = fault.lasts.as_millis() as u64;
    match fault.kind {
        Kind::Kill => {
            stage.kill(who, ledger)?;
            Ok(Undo::Start(who))
        }
        Kind::Stop => {
            stage.signal(who, Signal::SIGSTOP)?;
            Ok(Undo::Continue(who))
        }
        Kind::Thread => stop_thread(stage.process(who)?.0, rng),
        Kind::Throttle => {
            let (process, _) = stage.process(who)?;
            Ok(Undo::LetGo(Hold::new(move |wait| throttle(process, wait))))
        }
        Kind::Memory => {
            limit_memory(stage.process(who)?.0, true)?;
            Ok(Undo::FreeMemory(who))
        }
        Kind::Clock => {
            stage.move_clock(who).map_err(|error| CliError::io("clock", &error))?;
            Ok(Undo::Nothing)
        }
        Kind::Fork => tell(stage, who, Command::Fork),
        Kind::Descriptors => tell(stage, who, Command::Descriptors { ms }),
        Kind::Runtime => tell(stage, who, Command::Runtime),
        // Their targets are others.
        Kind::Disk | Kind::Unplug | Kind::Route => Ok(Undo::Nothing),
    }
}

/// Ends a fault. One that started a process lasts until that is ready.
pub(super) fn end(undo: Undo, stage: &mut Stage) -> Result<(), CliError> {
    match undo {
        Undo::Nothing => {}
        Undo::LetGo(hold) => drop(hold),
        Undo::Start(who) => stage.start(who)?,
        Undo::Continue(who) if stage.runs(who) => stage.signal(who, Signal::SIGCONT)?,
        Undo::FreeMemory(who) if stage.runs(who) => limit_memory(stage.process(who)?.0, false)?,
        Undo::Continue(_) | Undo::FreeMemory(_) => {}
        Undo::FreeDisk(ballast) => {
            drop(ballast);
            stage.disk_is_full = false;
        }
        Undo::Plug(host) => {
            if let Some(lab) = &stage.lab {
                lab.plug(host).map_err(lab_failed)?;
            }
        }
        Undo::Route(host) => {
            if let Some(lab) = &stage.lab {
                lab.set_route(host, true).map_err(lab_failed)?;
            }
        }
    }
    Ok(())
}

fn tell(stage: &mut Stage, who: Who, command: Command) -> Result<Undo, CliError> {
    stage.tell(who, command)?;
    Ok(Undo::Nothing)
}

fn cut_off(kind: Kind, host: usize, stage: &Stage) -> Result<Undo, CliError> {
    let Some(lab) = &stage.lab else { return Ok(Undo::Nothing) };
    match kind {
        Kind::Route => {
            lab.set_route(host, false).map_err(lab_failed)?;
            Ok(Undo::Route(host))
        }
        _ => {
            lab.unplug(host).map_err(lab_failed)?;
            Ok(Undo::Plug(host))
        }
    }
}

fn fill(stage: &mut Stage) -> Result<Undo, CliError> {
    let Some(disk) = &stage.disk else { return Ok(Undo::Nothing) };
    let ballast = disk.fill().map_err(|error| CliError::io("fill the disk", &error))?;
    stage.disk_is_full = true;
    Ok(Undo::FreeDisk(ballast))
}

/// Stops one thread, not the first, whose state others would take for the process's own.
fn stop_thread(process: Pid, rng: &mut Rng) -> Result<Undo, CliError> {
    let entries = fs::read_dir(format!("/proc/{process}/task"))
        .map_err(|error| CliError::io("threads", &error))?;
    let mut threads: Vec<i32> = entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|thread| *thread != process.as_raw())
        .collect();
    threads.sort_unstable();
    let chosen = threads.get((rng.uniform() * threads.len() as f64) as usize).copied();
    let Some(thread) = chosen.map(Pid::from_raw) else { return Ok(Undo::Nothing) };
    Ok(Undo::LetGo(Hold::new(move |wait| {
        // All of it is for the thread that began it to do. A thread that ended meanwhile needs none
        // of it.
        if ptrace::seize(thread, ptrace::Options::empty()).is_err() {
            return;
        }
        if ptrace::interrupt(thread)
            .and_then(|()| waitpid(thread, Some(WaitPidFlag::__WALL)))
            .is_ok()
        {
            while wait(Duration::from_secs(3_600)) {}
            let _ = ptrace::detach(thread, None);
        }
    })))
}

/// Lets a process run for a small part of the time, as the quota of a container does.
fn throttle(process: Pid, wait: &dyn Fn(Duration) -> bool) {
    loop {
        let stands = kill(process, Signal::SIGSTOP).is_ok() && wait(STANDS);
        // Also at the end: it is not to stay stopped.
        let runs = kill(process, Signal::SIGCONT).is_ok();
        if !stands || !runs || !wait(RUNS) {
            return;
        }
    }
}

fn limit_memory(process: Pid, tight: bool) -> Result<(), CliError> {
    let failed = |error: std::io::Error| CliError::io("RLIMIT_AS", &error);
    let current = match tight {
        true => Some(size_bytes(process).map_err(failed)? + SLACK_BYTES),
        false => None,
    };
    let limit = Rlimit { current, maximum: None };
    let process = rustix::process::Pid::from_raw(process.as_raw());
    prlimit(process, Resource::As, limit).map_err(|error| failed(error.into()))?;
    Ok(())
}

/// Address space of a process.
fn size_bytes(process: Pid) -> std::io::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let size = status.lines().find_map(|line| line.strip_prefix("VmSize:"));
    let kib = size.and_then(|text| text.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kib.map(|kib| kib * 1_024).ok_or_else(|| std::io::ErrorKind::InvalidData.into())
}
