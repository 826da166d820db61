//! `homa lab exec`: a program inside a host, and the signals that are meant for it.

use std::{
    io,
    os::unix::process::ExitStatusExt,
    process::{self, Child, Command, ExitStatus},
    time::{Duration, Instant},
};

use homa_lab::tool;
use homa_sys::start_unmasked;
use nix::{
    errno::Errno,
    sys::{
        signal::{SigSet, Signal, Signal::*, kill},
        signalfd::SignalFd,
    },
    unistd::Pid,
};

use super::{args::ExecArgs, state::StateDirectory};
use crate::error::CliError;

/// What is passed on; the end of the program is heard of by SIGCHLD.
const SIGNALS: [Signal; 10] =
    [SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGTSTP, SIGCONT, SIGWINCH, SIGUSR1, SIGUSR2, SIGCHLD];

/// A second request to end that comes later than this after the first ends the program at once.
/// `timeout` and service managers send to the process and to its group: that is one request.
const ONE_REQUEST: Duration = Duration::from_millis(300);

/// `homa lab exec`
pub(crate) fn run(args: &ExecArgs) -> Result<(), CliError> {
    let directory = StateDirectory::open()?;
    let name = &args.name;
    let state = directory.read(name)?.filter(|state| state.process.lives()).ok_or_else(|| {
        CliError::Usage(format!("no lab named `{name}` is up; build one with `homa lab up`"))
    })?;
    let handle = state.handles.get(args.host).ok_or_else(|| {
        let hosts = state.handles.len();
        CliError::Usage(format!("there is no host h{}; this lab has {hosts}", args.host))
    })?;
    let Some((program, arguments)) = args.command.split_first() else {
        return Err(CliError::Usage("which program?".into()));
    };
    let mut command = Command::new(program);
    command.args(arguments).env("LAB_HOST", format!("h{}", args.host));
    // Inside its hosts the owner of a lab is their administrator.
    command.env("PATH", tool::search_path());
    let signals = Signals::hold().map_err(|error| CliError::io("hold signals back", &error))?;
    let mut child = handle
        .enter_and_spawn(start_unmasked(&mut command))
        .map_err(|error| CliError::Transport(format!("{}: {error}", program.to_string_lossy())))?;
    let status = signals
        .pass_on_until_the_end_of(&mut child)
        .map_err(|error| CliError::io("wait for the program", &error))?;
    process::exit(status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0)))
}

/// Signals of this process that wait to be read. A process inside the lab's process namespace can
/// make no thread that would wait for them, and a handler could do little.
struct Signals(SignalFd);

impl Signals {
    /// Holds them back from now on, also in programs that are started without [`start_unmasked`].
    fn hold() -> io::Result<Self> {
        let set: SigSet = SIGNALS.into_iter().collect();
        set.thread_block()?;
        Ok(Self(SignalFd::new(&set)?))
    }

    /// Passes on to a program what is meant for it until it ends.
    fn pass_on_until_the_end_of(&self, child: &mut Child) -> io::Result<ExitStatus> {
        let program = Pid::from_raw(i32::try_from(child.id()).map_err(io::Error::other)?);
        let mut asked: Option<Instant> = None;
        loop {
            // Also where a signal was missed: two of a kind are one.
            if let Some(status) = child.try_wait()? {
                return Ok(status);
            }
            let read = match self.0.read_signal() {
                Ok(Some(read)) => read,
                Ok(None) | Err(Errno::EINTR) => continue,
                Err(error) => return Err(error.into()),
            };
            let Ok(signal) = Signal::try_from(read.ssi_signo as i32) else { continue };
            // The kernel's own, by keys of a terminal, go to all of a terminal's programs.
            let by_terminal = read.ssi_code > 0;
            let to_end = matches!(signal, SIGTERM | SIGINT | SIGHUP | SIGQUIT);
            match signal {
                SIGCHLD => {}
                // Only the leader of a session hears that its terminal is gone.
                _ if by_terminal && signal != SIGHUP => {}
                _ if to_end && asked.is_some_and(|asked| asked.elapsed() > ONE_REQUEST) => {
                    send(program, SIGKILL)?;
                }
                _ => send(program, signal)?,
            }
            if to_end && !by_terminal {
                asked.get_or_insert_with(Instant::now);
            }
            if signal == SIGTSTP {
                // The shell is to see the whole job stopped.
                send(Pid::this(), SIGSTOP)?;
            }
        }
    }
}

/// Sends a signal; a program that has ended meanwhile needs none.
fn send(to: Pid, signal: Signal) -> io::Result<()> {
    match kill(to, signal) {
        Err(Errno::ESRCH) => Ok(()),
        sent => Ok(sent?),
    }
}
