//! Starts, watches and ends the processes of a benchmark.

use std::{
    os::unix::process::CommandExt,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use homa_bench::{
    pair,
    process::{Process, Silence},
    watch::Watch,
};
use serde::de::DeserializeOwned;

use super::job::Job;
use crate::{error::CliError, interrupt};

/// Ends waiting when Ctrl-C is pressed.
struct Interrupt;

impl Watch for Interrupt {
    fn stopped(&self) -> bool {
        interrupt::pressed()
    }
}

/// Starts a process of this program and waits for what it says of its job. Dropping the process
/// ends it.
pub(crate) fn start<T: DeserializeOwned>(
    job: &Job,
    timeout: Duration,
) -> Result<(Process, T), CliError> {
    let failed = |error: &dyn ToString| CliError::Process(error.to_string());
    let program = std::env::current_exe().map_err(|error| failed(&error))?;
    let job = serde_json::to_string(job).map_err(|error| failed(&error))?;
    hear(Command::new(program).arg("bench-worker").arg(job), timeout)
}

/// The same with the program that speaks other transports.
pub(crate) fn start_peer<T: DeserializeOwned>(
    program: &Path,
    job: &pair::Job,
    timeout: Duration,
) -> Result<(Process, T), CliError> {
    let job = serde_json::to_string(job).map_err(|error| CliError::Process(error.to_string()))?;
    hear(Command::new(program).arg("bench-pair").arg(job), timeout)
}

fn hear<T: DeserializeOwned>(
    command: &mut Command,
    timeout: Duration,
) -> Result<(Process, T), CliError> {
    let failed = |error: &dyn ToString| CliError::Process(error.to_string());
    let child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        // Ctrl-C is for this process, which then ends the others.
        .process_group(0)
        .spawn()
        .map_err(|error| failed(&error))?;
    let mut process = Process::new(child);
    match process.hear(timeout, &Interrupt) {
        Ok(line) => match serde_json::from_str::<Result<T, String>>(&line) {
            Ok(said) => Ok((process, said.map_err(CliError::Process)?)),
            Err(error) => Err(failed(&error)),
        },
        Err(Silence::Stopped) => Err(CliError::Interrupted),
        Err(silence) => Err(failed(&silence)),
    }
}
