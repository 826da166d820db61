//! Processes of a benchmark that speak in lines: started, heard, ended.

use std::{
    fmt,
    io::{self, BufRead, BufReader, Write},
    process::{Child, ChildStdin, ExitStatus},
    sync::mpsc::{Receiver, RecvTimeoutError, sync_channel},
    time::{Duration, Instant},
};

use serde::Serialize;

use crate::watch::{Watch, patience};

/// Lines that may wait to be read, so that a process gone wild fills a pipe and not this one's
/// memory.
const LINES_MAX: usize = 1_000;

/// A process under way; dropping it ends it.
#[derive(Debug)]
pub struct Process {
    child: Child,
    input: Option<ChildStdin>,
    lines: Receiver<String>,
}

/// Why a process does not say anything.
#[derive(Debug)]
#[non_exhaustive]
pub enum Silence {
    /// Whoever listens shall no longer.
    Stopped,
    /// It takes longer than this.
    Late(Duration),
    /// It has ended.
    Ended(Option<ExitStatus>),
}

impl fmt::Display for Silence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Silence::Stopped => f.write_str("interrupted"),
            Silence::Late(time) => write!(f, "it took longer than {time:?}"),
            Silence::Ended(Some(status)) => write!(f, "it ended ({status})"),
            Silence::Ended(None) => f.write_str("it says nothing"),
        }
    }
}

impl Process {
    /// A process whose standard output is a pipe; its standard input may be one.
    pub fn new(mut child: Child) -> Self {
        let (sender, lines) = sync_channel(LINES_MAX);
        if let Some(output) = child.stdout.take() {
            // Reading in a thread, so that waiting for it can end early.
            std::thread::spawn(move || {
                let lines = BufReader::new(output).lines();
                lines.map_while(Result::ok).try_for_each(|line| sender.send(line))
            });
        }
        let input = child.stdin.take();
        Process { child, input, lines }
    }

    /// Writes a document on a line of its standard input.
    ///
    /// # Errors
    /// It reads no more.
    pub fn tell(&mut self, document: &impl Serialize) -> io::Result<()> {
        let mut line = serde_json::to_vec(document)?;
        line.push(b'\n');
        self.input.as_mut().ok_or(io::ErrorKind::BrokenPipe)?.write_all(&line)
    }

    /// Waits for the next line.
    ///
    /// # Errors
    /// None came in time, or none will.
    pub fn hear(&mut self, timeout: Duration, watch: &dyn Watch) -> Result<String, Silence> {
        let until = Instant::now() + timeout;
        loop {
            let heard = self.lines.recv_timeout(patience(until));
            if watch.stopped() {
                return Err(Silence::Stopped);
            }
            match heard {
                Ok(line) => return Ok(line),
                Err(RecvTimeoutError::Timeout) if Instant::now() < until => {}
                Err(RecvTimeoutError::Timeout) => return Err(Silence::Late(timeout)),
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(Silence::Ended(self.child.try_wait().ok().flatten()));
                }
            }
        }
    }

    /// Ends it at once, as a machine that fails.
    pub fn end(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // The end of its input ends it; killing makes sure, where it is a process of this machine.
        self.input = None;
        self.end();
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;
    use crate::watch::Unwatched;

    const SOON: Duration = Duration::from_millis(100);
    const LATE: Duration = Duration::from_secs(60);

    fn shell(script: &str) -> Process {
        let mut command = Command::new("sh");
        let pipes = command.stdin(Stdio::piped()).stdout(Stdio::piped());
        Process::new(pipes.arg("-c").arg(script).spawn().unwrap())
    }

    #[test]
    fn what_a_process_says_is_heard_line_by_line_until_it_ends() {
        let mut process = shell("read line; echo \"$line\"; echo two; exit 3");
        process.tell(&7).unwrap();
        assert_eq!(process.hear(LATE, &Unwatched).unwrap(), "7");
        assert_eq!(process.hear(LATE, &Unwatched).unwrap(), "two");
        assert!(matches!(process.hear(LATE, &Unwatched), Err(Silence::Ended(_))));
    }

    #[test]
    fn a_process_that_says_nothing_is_not_waited_for_for_ever() {
        let mut process = shell("exec sleep 100");
        let begin = Instant::now();
        assert!(matches!(process.hear(SOON, &Unwatched), Err(Silence::Late(_))));
        drop(process);
        assert!(begin.elapsed() < LATE);
    }
}
