//! Starts, watches and ends the processes of a benchmark.

use std::{
    net::SocketAddr,
    os::unix::process::CommandExt,
    path::PathBuf,
    process::{Command, Stdio},
    time::Duration,
};

use homa_bench::{
    process::{Process, Silence},
    watch::Watch,
};
use serde::Serialize;

use super::job::{Job, Listening, Outcome, ServerSpec};
use crate::{error::CliError, interrupt};

/// How long a server process may take to listen.
const START_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a client process may take beyond its measurement: warm-up, drain, and timeouts of its
/// calls.
const CLIENT_GRACE: Duration = Duration::from_secs(12);

/// Starts processes of this program, one job at a time.
#[derive(Debug)]
pub(crate) struct Launcher {
    program: PathBuf,
}

/// A server process; dropping it ends it.
#[derive(Debug)]
pub(crate) struct ServerProcess {
    /// Where it listens.
    pub address: SocketAddr,
    _process: Process,
}

/// Ends waiting when Ctrl-C is pressed.
struct Interrupt;

impl Watch for Interrupt {
    fn stopped(&self) -> bool {
        interrupt::pressed()
    }
}

impl Launcher {
    /// A launcher, which also watches for Ctrl-C from now on.
    pub(crate) fn new() -> Result<Self, CliError> {
        let program = std::env::current_exe()
            .map_err(|error| CliError::Process(format!("cannot find this program: {error}")))?;
        interrupt::watch(|| {});
        Ok(Launcher { program })
    }

    /// Starts a server and waits until it listens.
    pub(crate) fn start_server(&self, spec: &ServerSpec) -> Result<ServerProcess, CliError> {
        let mut process = self.spawn("bench-server", spec, Stdio::inherit())?;
        let line = hear(&mut process, START_TIMEOUT)?.unwrap_or_default();
        let listening: Listening = serde_json::from_str(&line).map_err(|_| {
            CliError::Process(format!(
                "the {} server ended before it listened",
                spec.protocol.name()
            ))
        })?;
        Ok(ServerProcess { address: listening.address, _process: process })
    }

    /// Runs a client to its end.
    pub(crate) fn run_client(&self, job: &Job) -> Result<Outcome, CliError> {
        let mut process = self.spawn("bench-client", job, Stdio::piped())?;
        let timeout = Duration::from_secs_f64(job.secs) * 2 + CLIENT_GRACE;
        let line = hear(&mut process, timeout)?.unwrap_or_default();
        serde_json::from_str(&line).map_err(|_| failure_of(&mut process))
    }

    fn spawn(
        &self,
        name: &str,
        argument: &impl Serialize,
        errors: Stdio,
    ) -> Result<Process, CliError> {
        let failed = |reason: String| CliError::Process(format!("{name}: {reason}"));
        let argument =
            serde_json::to_string(argument).map_err(|error| failed(error.to_string()))?;
        let child = Command::new(&self.program)
            .arg(name)
            .arg(argument)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(errors)
            // Ctrl-C is for this process, which then ends the others.
            .process_group(0)
            .spawn()
            .map_err(|error| failed(error.to_string()))?;
        Ok(Process::new(child))
    }
}

/// The next line of a process; none if it has ended.
fn hear(process: &mut Process, timeout: Duration) -> Result<Option<String>, CliError> {
    match process.hear(timeout, &Interrupt) {
        Ok(line) => Ok(Some(line)),
        Err(Silence::Ended(_)) => Ok(None),
        Err(Silence::Stopped) => Err(CliError::Interrupted),
        Err(late) => Err(CliError::Process(late.to_string())),
    }
}

/// What a client that printed no outcome said.
fn failure_of(process: &mut Process) -> CliError {
    let text = process.errors();
    let text = text.trim();
    match text.strip_prefix("homa: ").unwrap_or(text) {
        "" => CliError::Process("it ended without a result".to_owned()),
        reason => CliError::Process(reason.to_owned()),
    }
}
