//! Starts, watches and ends the processes of a benchmark.

use std::{
    io::{self, BufRead, BufReader, Read},
    net::SocketAddr,
    os::unix::process::CommandExt,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use serde::Serialize;

use super::job::{Job, Listening, Outcome, ServerSpec};
use crate::{error::CliError, interrupt};

/// How long a server process may take to listen.
const START_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a client process may take beyond its measurement: warm-up, drain, and time-outs of its calls.
const CLIENT_GRACE: Duration = Duration::from_secs(12);

/// Starts processes of this program, one job at a time.
#[derive(Debug)]
pub(crate) struct Launcher {
    program: PathBuf,
    sender: mpsc::Sender<Message>,
    receiver: mpsc::Receiver<Message>,
    jobs: u64,
}

#[derive(Debug)]
enum Message {
    Interrupted,
    /// What the process of this job printed.
    Printed(u64, io::Result<String>),
}

/// A server process; dropping it ends it.
#[derive(Debug)]
pub(crate) struct ServerProcess {
    /// Where it listens.
    pub address: SocketAddr,
    _process: Process,
}

#[derive(Debug)]
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only if it has ended and been waited for already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Launcher {
    /// A launcher, which also watches for Ctrl-C from now on.
    pub(crate) fn new() -> Result<Self, CliError> {
        let program = std::env::current_exe()
            .map_err(|error| CliError::Process(format!("cannot find this program: {error}")))?;
        let (sender, receiver) = mpsc::channel();
        let on_interrupt = sender.clone();
        interrupt::watch(move || {
            let _ = on_interrupt.send(Message::Interrupted);
        });
        Ok(Launcher { program, sender, receiver, jobs: 0 })
    }

    /// Starts a server and waits until it listens.
    pub(crate) fn start_server(&mut self, spec: &ServerSpec) -> Result<ServerProcess, CliError> {
        let mut process = self.spawn("bench-server", spec, Stdio::inherit())?;
        let job = self.read(&mut process, |output, text| {
            BufReader::new(output).read_line(text).map(|_| ())
        })?;
        let line = self.wait(job, START_TIMEOUT, &mut process)?;
        let listening: Listening = serde_json::from_str(&line).map_err(|_| {
            CliError::Process(format!(
                "the {} server ended before it listened",
                spec.protocol.name()
            ))
        })?;
        Ok(ServerProcess { address: listening.address, _process: process })
    }

    /// Runs a client to its end.
    pub(crate) fn run_client(&mut self, job: &Job) -> Result<Outcome, CliError> {
        let mut process = self.spawn("bench-client", job, Stdio::piped())?;
        let id =
            self.read(&mut process, |mut output, text| output.read_to_string(text).map(|_| ()))?;
        let text =
            self.wait(id, Duration::from_secs_f64(job.secs) * 2 + CLIENT_GRACE, &mut process)?;
        serde_json::from_str(&text).map_err(|_| failure_of(&mut process))
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
        Ok(Process(child))
    }

    /// Reads the output of a process in a thread, so that waiting for it can end early.
    fn read(
        &mut self,
        process: &mut Process,
        read: impl FnOnce(std::process::ChildStdout, &mut String) -> io::Result<()> + Send + 'static,
    ) -> Result<u64, CliError> {
        self.jobs += 1;
        let (job, sender) = (self.jobs, self.sender.clone());
        let Some(output) = process.0.stdout.take() else {
            return Err(CliError::Process("no output to read".to_owned()));
        };
        thread::spawn(move || {
            let mut text = String::new();
            let result = read(output, &mut text).map(|()| text);
            let _ = sender.send(Message::Printed(job, result));
        });
        Ok(job)
    }

    fn wait(
        &mut self,
        job: u64,
        timeout: Duration,
        process: &mut Process,
    ) -> Result<String, CliError> {
        let deadline = Instant::now() + timeout;
        while !interrupt::pressed() {
            match self.receiver.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(Message::Printed(printed, text)) if printed == job => {
                    return text.map_err(|error| CliError::Process(error.to_string()));
                }
                // An earlier process, which was given up, has ended now.
                Ok(Message::Printed(..)) => {}
                Ok(Message::Interrupted) => break,
                Err(RecvTimeoutError::Timeout) => {
                    let _ = process.0.kill();
                    return Err(CliError::Process(format!("it took longer than {timeout:?}")));
                }
                // This launcher holds a sender itself.
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        Err(CliError::Interrupted)
    }
}

/// What a client that printed no outcome said.
fn failure_of(process: &mut Process) -> CliError {
    let mut text = String::new();
    if let Some(errors) = process.0.stderr.take() {
        let _ = errors.take(4_096).read_to_string(&mut text);
    }
    let text = text.trim();
    match text.strip_prefix("homa: ").unwrap_or(text) {
        "" => CliError::Process("it ended without a result".to_owned()),
        reason => CliError::Process(reason.to_owned()),
    }
}
