//! `homa lab run`: the commands of a plan in a lab that lasts as long as they do.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader, Read, Write},
    path::Path,
    process::{Child, ExitStatus, Stdio},
    sync::{Arc, Mutex, PoisonError},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use homa_lab::{Choice, Lab, PortCounters};
use serde::Serialize;

use super::{
    args::RunArgs,
    failed,
    plan::{self, Plan},
    preview::Preview,
};
use crate::{error::CliError, interrupt, output};

/// How often the commands are looked at.
const LOOK: Duration = Duration::from_millis(5);

/// How much of what a command prints the report holds, in bytes.
const KEPT_BYTES: usize = 64 << 10;

/// The longest line that is passed on in one piece, in bytes.
const LINE_BYTES_MAX: u64 = 64 << 10;

/// How a command of the plan ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "kind", content = "detail")]
enum Ending {
    /// With status 0, or with the run if it is in the background.
    Fine,
    /// With another status or by a signal.
    Failed(String),
    /// It was killed for taking too long.
    TimedOut,
    /// It was in the background and failed before the end of the run.
    Early(String),
    /// It never started.
    NotStarted(String),
    /// The run was interrupted.
    Interrupted,
}

/// What became of one command on one host.
#[derive(Debug, Serialize)]
struct Outcome {
    host: usize,
    command: String,
    ending: Ending,
    seconds: f64,
    /// The last of what it printed on both outputs.
    printed: String,
}

/// Everything about a run.
#[derive(Debug, Serialize)]
struct Report {
    spec: homa_lab::LabSpec,
    switch: Choice,
    commands: Vec<Outcome>,
    ports: Vec<PortCounters>,
}

/// A command on a host, from waiting for its time to its end.
struct Task {
    host: usize,
    words: Vec<String>,
    background: bool,
    starts: Duration,
    timeout: Option<Duration>,
    child: Option<Child>,
    started: Option<Instant>,
    ended: Option<(Ending, Duration)>,
    printed: Arc<Mutex<Vec<u8>>>,
    readers: Vec<JoinHandle<()>>,
}

/// `homa lab run`
pub(crate) fn run(args: &RunArgs, json: bool) -> Result<(), CliError> {
    let plan = plan::read(&args.plan)?;
    if args.dry_run {
        let preview = Preview::new(&plan, args.out.clone());
        return match json {
            true => output::document(&preview),
            false => output::bytes(preview.text().as_bytes()),
        };
    }
    // Before any thread exists: only then can the process move into a user namespace.
    homa_lab::acquire_privileges().map_err(failed)?;
    if let Some(directory) = &args.out {
        fs::create_dir_all(directory).map_err(|e| write_error(directory, &e))?;
    }
    let lab = super::build(&plan.lab, args.force)?;
    interrupt::watch(|| ());
    if !json {
        let choice = lab.choice();
        eprintln!("lab is up; switch: {} ({})", choice.backend, choice.reason);
    }
    let mut tasks = tasks(&plan);
    drive(&lab, &mut tasks, args.out.as_deref(), json);
    let ports = lab.counters().map_err(failed)?;
    let trace = lab.queue_trace();
    let (spec, switch) = (plan.lab.clone(), lab.choice().clone());
    // Ends what is left, so that the outputs close.
    drop(lab);
    let commands = tasks.into_iter().map(finish).collect();
    let report = Report { spec, switch, commands, ports };
    if let Some(directory) = &args.out {
        write_results(directory, &report, &trace)?;
    }
    if json {
        output::document(&report)?;
    }
    verdict(&report)
}

fn tasks(plan: &Plan) -> Vec<Task> {
    let hosts = plan.lab.hosts as usize;
    let task = |command: &plan::PlanCommand, host: usize| Task {
        host,
        words: command.run.get_ref().words(),
        background: command.background,
        starts: Duration::from_millis(command.delay_ms),
        timeout: command.timeout_ms.map(Duration::from_millis),
        child: None,
        started: None,
        ended: None,
        printed: Arc::default(),
        readers: Vec::new(),
    };
    plan.commands
        .iter()
        .flat_map(|command| command.hosts(hosts).into_iter().map(|host| task(command, host)))
        .collect()
}

/// Starts, watches and ends the commands until all that count have ended or Ctrl-C is pressed.
fn drive(lab: &Lab, tasks: &mut [Task], out: Option<&Path>, quiet: bool) {
    let start = Instant::now();
    loop {
        for (number, task) in tasks.iter_mut().enumerate() {
            if task.ended.is_none() && task.started.is_none() && start.elapsed() >= task.starts {
                task.start(lab, number, out, quiet);
            }
            task.look();
        }
        // A background command that is to start later is not waited for.
        let over = tasks.iter().all(|task| task.background || task.ended.is_some());
        if over || interrupt::pressed() {
            break;
        }
        thread::sleep(LOOK);
    }
    for task in tasks.iter_mut().filter(|task| task.ended.is_none()) {
        let ending = match (interrupt::pressed(), task.background) {
            (true, _) => Ending::Interrupted,
            (false, _) => Ending::Fine,
        };
        task.end(ending);
    }
}

impl Task {
    fn start(&mut self, lab: &Lab, number: usize, out: Option<&Path>, quiet: bool) {
        self.started = Some(Instant::now());
        match self.spawn(lab) {
            Ok(mut child) => {
                let outputs: [Option<Box<dyn Read + Send>>; 2] = [
                    child.stdout.take().map(|stream| Box::new(stream) as _),
                    child.stderr.take().map(|stream| Box::new(stream) as _),
                ];
                for (stream, ending) in outputs.into_iter().zip(["out", "err"]) {
                    let name = format!("{number:03}-h{}.{ending}", self.host);
                    // A file that cannot be made: the output is still shown and reported.
                    let file = out.and_then(|directory| File::create(directory.join(name)).ok());
                    self.readers.extend(stream.map(|stream| {
                        let printed = Arc::clone(&self.printed);
                        let prefix = (!quiet).then(|| format!("h{} | ", self.host));
                        thread::spawn(move || pass_on(stream, prefix.as_deref(), file, &printed))
                    }));
                }
                self.child = Some(child);
            }
            Err(reason) => self.end(Ending::NotStarted(reason)),
        }
    }

    fn spawn(&self, lab: &Lab) -> Result<Child, String> {
        let (program, arguments) = self.words.split_first().ok_or("nothing to run")?;
        let mut command = lab.command(self.host, program).map_err(|error| error.to_string())?;
        command.args(arguments);
        command.env("LAB_HOST", self.host.to_string());
        command.env("LAB_HOSTS", lab.hosts().len().to_string());
        for host in lab.hosts() {
            command.env(format!("LAB_IP_{}", host.index), host.ipv4.to_string());
            command.env(format!("LAB_IP6_{}", host.index), host.ipv6.to_string());
            if host.index == self.host {
                command.env("LAB_IP", host.ipv4.to_string());
                command.env("LAB_IP6", host.ipv6.to_string());
            }
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().map_err(|error| format!("{program}: {error}"))
    }

    /// Notices that it has ended or takes too long.
    fn look(&mut self) {
        let (Some(child), Some(started)) = (&mut self.child, self.started) else { return };
        if self.ended.is_some() {
            return;
        }
        match child.try_wait() {
            Ok(Some(status)) => {
                let ending = self.judge(status);
                self.end(ending);
            }
            Ok(None) if self.timeout.is_some_and(|timeout| started.elapsed() > timeout) => {
                // It may end by itself in this moment.
                let _ = child.kill();
                self.end(Ending::TimedOut);
            }
            Ok(None) => {}
            Err(error) => self.end(Ending::Failed(error.to_string())),
        }
    }

    fn judge(&self, status: ExitStatus) -> Ending {
        match (self.background, status.success()) {
            (_, true) => Ending::Fine,
            (true, false) => Ending::Early(status.to_string()),
            (false, false) => Ending::Failed(status.to_string()),
        }
    }

    fn end(&mut self, ending: Ending) {
        let time = self.started.map_or(Duration::ZERO, |started| started.elapsed());
        self.ended = Some((ending, time));
    }
}

/// Passes on what a command prints, line by line, until it closes its output.
fn pass_on(
    stream: impl Read,
    prefix: Option<&str>,
    mut file: Option<File>,
    printed: &Mutex<Vec<u8>>,
) {
    let mut reader = BufReader::new(stream);
    let mut line = Vec::new();
    loop {
        line.clear();
        match reader.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        if let Some(file) = &mut file {
            // A full disk loses the rest of the file; the run goes on.
            let _ = file.write_all(&line);
        }
        if let Some(prefix) = prefix {
            let end: &[u8] = if line.ends_with(b"\n") { b"" } else { b"\n" };
            // Nobody reads: the files and the exit status are left.
            let _ = output::bytes(&[prefix.as_bytes(), &line, end].concat());
        }
        let mut kept = printed.lock().unwrap_or_else(PoisonError::into_inner);
        kept.extend_from_slice(&line);
        let excess = kept.len().saturating_sub(KEPT_BYTES);
        kept.drain(..excess);
    }
}

fn finish(mut task: Task) -> Outcome {
    if let Some(mut child) = task.child.take() {
        // The lab is down: it has ended.
        let _ = child.wait();
    }
    for reader in task.readers.drain(..) {
        // A reader does not panic; if it did, that was printed.
        let _ = reader.join();
    }
    let printed = task.printed.lock().unwrap_or_else(PoisonError::into_inner);
    let (ending, time) = task.ended.unwrap_or((Ending::Interrupted, Duration::ZERO));
    Outcome {
        host: task.host,
        command: match task.words.as_slice() {
            [shell, flag, line] if shell == "sh" && flag == "-c" => line.clone(),
            words => words.join(" "),
        },
        ending,
        seconds: time.as_secs_f64(),
        printed: String::from_utf8_lossy(&printed).into_owned(),
    }
}

fn write_results(
    directory: &Path,
    report: &Report,
    trace: &homa_lab::QueueTrace,
) -> Result<(), CliError> {
    let text =
        serde_json::to_string_pretty(report).map_err(|e| CliError::Process(e.to_string()))?;
    let path = directory.join("report.json");
    fs::write(&path, text).map_err(|error| write_error(&path, &error))?;
    if trace.interval_ns == 0 {
        return Ok(());
    }
    let mut rows =
        String::from("at_ns,host,level0,level1,level2,level3,level4,level5,level6,level7\n");
    for sample in &trace.samples {
        let levels = sample.queue_bytes.map(|bytes| bytes.to_string()).join(",");
        rows.push_str(&format!("{},{},{levels}\n", sample.at_ns, sample.host));
    }
    let path = directory.join("queues.csv");
    fs::write(&path, rows).map_err(|error| write_error(&path, &error))
}

fn write_error(path: &Path, error: &std::io::Error) -> CliError {
    CliError::File { action: "write", path: path.to_owned(), reason: error.to_string() }
}

fn verdict(report: &Report) -> Result<(), CliError> {
    if report.commands.iter().any(|outcome| outcome.ending == Ending::Interrupted) {
        return Err(CliError::Interrupted);
    }
    let failed: Vec<_> = report
        .commands
        .iter()
        .filter_map(|outcome| {
            let what = match &outcome.ending {
                Ending::Fine => return None,
                Ending::Failed(status) => status.clone(),
                Ending::TimedOut => "took too long".into(),
                Ending::Early(status) => format!("ended before the run ({status})"),
                Ending::NotStarted(reason) => format!("did not start: {reason}"),
                Ending::Interrupted => "was interrupted".into(),
            };
            Some(format!("  h{}: {}: {what}", outcome.host, outcome.command))
        })
        .collect();
    match failed.len() {
        0 => Ok(()),
        count => Err(CliError::Incomplete(format!(
            "{count} of {} commands failed:\n{}",
            report.commands.len(),
            failed.join("\n")
        ))),
    }
}
