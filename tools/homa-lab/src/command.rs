//! Programs inside a host.

use std::{
    ffi::OsStr,
    io,
    path::Path,
    process::{Child, Command, ExitStatus, Output, Stdio},
};

use crate::{
    namespace::{HostSpace, Sandbox},
    tool,
};

/// A program to be started inside a host; like [`Command`], and ended with the lab at the latest.
/// It is looked for in [`tool::search_path`].
#[derive(Debug)]
pub struct HostCommand<'lab> {
    sandbox: &'lab Sandbox,
    space: &'lab HostSpace,
    command: Command,
}

impl<'lab> HostCommand<'lab> {
    pub(crate) fn new(sandbox: &'lab Sandbox, space: &'lab HostSpace, program: &OsStr) -> Self {
        let mut command = Command::new(program);
        // Inside its hosts the owner of a lab is their administrator.
        command.env("PATH", tool::search_path());
        Self { sandbox, space, command }
    }

    /// Adds an argument.
    pub fn arg(&mut self, argument: impl AsRef<OsStr>) -> &mut Self {
        self.command.arg(argument);
        self
    }

    /// Adds arguments.
    pub fn args(&mut self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> &mut Self {
        self.command.args(arguments);
        self
    }

    /// Sets an environment variable.
    pub fn env(&mut self, key: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> &mut Self {
        self.command.env(key, value);
        self
    }

    /// Sets the directory to start in.
    pub fn current_dir(&mut self, directory: impl AsRef<Path>) -> &mut Self {
        self.command.current_dir(directory);
        self
    }

    /// Where standard input comes from.
    pub fn stdin(&mut self, stdin: impl Into<Stdio>) -> &mut Self {
        self.command.stdin(stdin);
        self
    }

    /// Where standard output goes.
    pub fn stdout(&mut self, stdout: impl Into<Stdio>) -> &mut Self {
        self.command.stdout(stdout);
        self
    }

    /// Where the error output goes.
    pub fn stderr(&mut self, stderr: impl Into<Stdio>) -> &mut Self {
        self.command.stderr(stderr);
        self
    }

    /// The command itself, for what has no method here.
    pub fn as_command(&mut self) -> &mut Command {
        &mut self.command
    }

    /// Starts the program.
    ///
    /// # Errors
    /// As [`Command::spawn`].
    pub fn spawn(&mut self) -> io::Result<Child> {
        let Self { sandbox, space, command } = self;
        space.run(sandbox, || command.spawn())
    }

    /// Starts the program and waits for its end.
    ///
    /// # Errors
    /// As [`Command::status`].
    pub fn status(&mut self) -> io::Result<ExitStatus> {
        let Self { sandbox, space, command } = self;
        space.run(sandbox, || command.status())
    }

    /// Starts the program, waits for its end and collects what it printed.
    ///
    /// # Errors
    /// As [`Command::output`].
    pub fn output(&mut self) -> io::Result<Output> {
        let Self { sandbox, space, command } = self;
        space.run(sandbox, || command.output())
    }
}
