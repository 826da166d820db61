//! The process that holds a lab: it answers until it is told to end.

use std::{
    io::{BufRead, BufReader, Read, Write},
    os::unix::net::{UnixListener, UnixStream},
    time::Duration,
};

use homa_lab::{Lab, LabSpec, PortCounters, QueueTrace};
use serde::{Deserialize, Serialize};

use super::{
    failed,
    state::{LabState, ProcessId, StateDirectory},
};
use crate::{error::CliError, output};

/// What the holder is to hold.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Job {
    pub directory: StateDirectory,
    pub spec: LabSpec,
    pub force: bool,
}

/// The one line the holder prints.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Outcome {
    /// The lab is up.
    Up(Box<LabState>),
    /// It is not, and why; `usage` if other options would help.
    Failed { reason: String, usage: bool },
}

/// What other commands ask the holder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Request {
    /// The state of the ports.
    Status,
    /// Also the queue lengths over time.
    Trace,
    /// Take the lab down.
    Down,
}

/// What the holder answers.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Answer {
    /// What the ports have carried.
    pub ports: Vec<PortCounters>,
    /// Queue lengths over time, if asked for.
    pub trace: Option<QueueTrace>,
    /// Time since the lab came up, in nanoseconds.
    pub uptime_ns: u64,
}

/// How long one who asks may take to do so.
const PATIENCE: Duration = Duration::from_secs(2);

/// The longest request, in bytes.
const REQUEST_BYTES_MAX: u64 = 1_000;

/// The hidden command that `homa lab up` starts.
pub(crate) fn run(job: &str) -> Result<(), CliError> {
    let job: Job = serde_json::from_str(job).map_err(|e| CliError::Usage(e.to_string()))?;
    // Before any thread exists: only then can the process move into a user namespace.
    let privileges = homa_lab::acquire_privileges().map_err(failed);
    // A terminal that closes does not end the lab. Fails only for the leader of a session already.
    let _ = rustix::process::setsid();
    match privileges.and_then(|_| bring_up(&job)) {
        Ok((lab, listener, state)) => {
            output::line(&Outcome::Up(Box::new(state)))?;
            serve(&lab, &listener);
            drop(lab);
            job.directory.remove(&job.spec.name)
        }
        Err(error) => {
            let usage = matches!(error, CliError::Usage(_));
            output::line(&Outcome::Failed { reason: error.to_string(), usage })
        }
    }
}

fn bring_up(job: &Job) -> Result<(Lab, UnixListener, LabState), CliError> {
    let lab = super::build(&job.spec, job.force)?;
    let handles = (0..lab.hosts().len()).map(|host| lab.handle(host));
    let state = LabState {
        process: ProcessId::own().map_err(|error| CliError::io("/proc/self/stat", &error))?,
        first_process: lab.first_process(),
        spec: job.spec.clone(),
        choice: lab.choice().clone(),
        hosts: lab.hosts().to_vec(),
        handles: handles.collect::<Result<_, _>>().map_err(failed)?,
    };
    // The file decides which of two labs of one name is the first; the socket is made by that one
    // only.
    job.directory.create(&state)?;
    let path = job.directory.socket(&job.spec.name);
    let listener = UnixListener::bind(&path).map_err(|error| CliError::File {
        action: "make",
        path,
        reason: error.to_string(),
    })?;
    Ok((lab, listener, state))
}

/// Answers until somebody asks for the end.
fn serve(lab: &Lab, listener: &UnixListener) {
    for stream in listener.incoming() {
        // One who goes away in the middle has no answer to miss.
        let request = stream.ok().and_then(|stream| Some((read(&stream)?, stream)));
        let Some((request, stream)) = request else { continue };
        let answer = Answer {
            ports: lab.counters().unwrap_or_default(),
            trace: (request == Request::Trace).then(|| lab.queue_trace()),
            uptime_ns: lab.uptime_ns(),
        };
        if let Ok(text) = serde_json::to_vec(&answer) {
            let _ = (&stream).write_all(&text);
        }
        if request == Request::Down {
            return;
        }
    }
}

fn read(stream: &UnixStream) -> Option<Request> {
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    stream.set_write_timeout(Some(PATIENCE)).ok()?;
    let mut line = String::new();
    BufReader::new(stream.take(REQUEST_BYTES_MAX)).read_line(&mut line).ok()?;
    serde_json::from_str(&line).ok()
}
