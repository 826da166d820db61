//! What servers and clients have in common: jobs, orders, a journal, and what is tried in them.

use std::{
    fs, io,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        mpsc::{self, Receiver},
    },
    thread,
    time::{Duration, Instant, SystemTime},
};

use homa_bench::pair;
use homa_sys::in_forked_child;
use homa_transport::{
    AcceptError, BindError, CallError, CallErrorKind, Config, Endpoint, EndpointBuilder,
};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde::{Deserialize, Serialize};

use super::journal::{Event, Journal, Resources, Way};
use crate::error::CliError;

/// Who an actor is and where it lives.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Identity {
    /// Counts servers and clients, each from zero.
    pub number: usize,
    /// Counts the processes that were this actor.
    pub life: u64,
    /// Where its endpoints are.
    pub ip: IpAddr,
    /// Whether it works on a tokio runtime, or with threads that wait.
    pub tokio: bool,
    /// Whether its sockets keep the receive buffer that the system gives.
    pub stock_buffer: bool,
    /// Whether it ends with the process that started it; inside a lab all end with the lab.
    pub ends_with_parent: bool,
}

/// What an actor is told on its standard input, a line of JSON each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Command {
    /// Fork, and see that the child is kept out.
    Fork,
    /// Have no free descriptor for this time.
    Descriptors { ms: u64 },
    /// End the tokio runtime in the middle of everything, and go on in another.
    Runtime,
    /// Clients: begin so many calls at once that are answered when the servers are told to.
    Burst { calls: u64 },
    /// Servers: answer all that was held.
    Release,
    /// End orderly: let calls end, note what is left.
    Finish,
}

/// How often an actor looks at its clock and at a journal that could not be written.
const LOOK: Duration = Duration::from_millis(100);

/// A move of the wall clock against the monotonic one that is noted.
const CLOCK_MOVE: Duration = Duration::from_secs(1);

/// The longest a forked child may take, in seconds.
const CHILD_SECONDS: u32 = 10;

/// How long RPCs may take to be forgotten after the last call: a server asks for acknowledgements,
/// late ones are given up.
const FORGETTING: Duration = Duration::from_secs(15);

/// An actor that runs.
#[derive(Debug)]
pub(super) struct Actor {
    pub identity: Identity,
    pub journal: Arc<Journal>,
    commands: Receiver<Command>,
}

impl Actor {
    /// Begins to read orders and to watch the clock.
    pub(super) fn begin(identity: &Identity) -> Result<Self, CliError> {
        if identity.ends_with_parent {
            pair::end_with_parent();
        }
        let journal = Arc::new(Journal::open()?);
        let watching = Arc::clone(&journal);
        thread::spawn(move || watch(&watching));
        let (sender, commands) = mpsc::channel();
        thread::spawn(move || {
            // Standard input ends when whoever started this process is gone.
            for line in io::stdin().lines().map_while(Result::ok) {
                match serde_json::from_str(&line) {
                    Ok(command) => drop(sender.send(command)),
                    Err(error) => eprintln!("homa: {line}: {error}"),
                }
            }
        });
        Ok(Actor { identity: identity.clone(), journal, commands })
    }

    /// The next order, or [`Command::Finish`] if nobody is left to give any.
    pub(super) fn next(&self, until: Instant) -> Option<Command> {
        let left = until.saturating_duration_since(Instant::now());
        match self.commands.recv_timeout(left) {
            Ok(command) => Some(command),
            Err(mpsc::RecvTimeoutError::Timeout) => None,
            Err(mpsc::RecvTimeoutError::Disconnected) => Some(Command::Finish),
        }
    }

    /// How the endpoints of this actor are set up.
    pub(super) fn builder(&self, way: Way) -> EndpointBuilder {
        let builder = EndpointBuilder::new()
            .carriage(way.carriage())
            .config(Config::default())
            .accept_queue_max(1 << 16)
            .client_ip(self.identity.ip);
        if self.identity.stock_buffer { builder.stock_receive_buffer() } else { builder }
    }

    /// Carries out an order that is the same for all actors.
    pub(super) fn try_out(&self, command: Command, endpoint: &Endpoint, server: SocketAddr) {
        let (what, wrong) = match command {
            Command::Fork => ("fork", fork(endpoint, server)),
            Command::Descriptors { ms } => {
                ("descriptors", use_up_descriptors(|| self.builder(Way::Udp), ms))
            }
            _ => return,
        };
        self.journal.note(Event::Tried(what.to_owned(), wrong.err()));
    }

    /// Notes what the process has.
    pub(super) fn note_usual(&self) {
        self.journal.note(Event::Usual(resources()));
    }

    /// Waits until the endpoints know no RPC, and notes what is left and broken invariants.
    pub(super) fn note_quiet(&self, endpoints: &[Endpoint]) {
        let until = Instant::now() + FORGETTING;
        let known = || endpoints.iter().map(live).sum();
        let mut left: u64 = known();
        while left > 0 && Instant::now() < until {
            thread::sleep(LOOK);
            left = known();
        }
        self.journal.note(Event::Quiet(resources(), left));
        let impossible: u64 = endpoints.iter().map(|it| it.stats().engine.impossible).sum();
        let wrong = (impossible > 0).then(|| format!("{impossible} broken invariants"));
        self.journal.note(Event::Tried("states".to_owned(), wrong));
    }
}

fn live(endpoint: &Endpoint) -> u64 {
    let stats = endpoint.stats();
    stats.engine.live_rpcs + stats.outstanding_calls + stats.requests_waiting
}

/// Notes moves of the wall clock, and writes lines that had no room.
fn watch(journal: &Journal) {
    let mut before = (Instant::now(), SystemTime::now());
    loop {
        thread::sleep(LOOK);
        let now = (Instant::now(), SystemTime::now());
        let passed_ms = (now.0 - before.0).as_millis() as i64;
        let wall_ms = match now.1.duration_since(before.1) {
            Ok(forward) => forward.as_millis() as i64,
            Err(back) => -(back.duration().as_millis() as i64),
        };
        let moved_ms = wall_ms - passed_ms;
        if moved_ms.unsigned_abs() > CLOCK_MOVE.as_millis() as u64 {
            journal.note(Event::ClockMoved(moved_ms));
        }
        before = now;
        journal.catch_up();
    }
}

/// What this process has now; what cannot be read counts as zero.
fn resources() -> Resources {
    let entries = |path| fs::read_dir(path).map_or(0, |entries| entries.count() as u64);
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let resident_kib = resident.and_then(|text| text.trim().trim_end_matches(" kB").parse().ok());
    Resources {
        // One of them is the directory that is read.
        descriptors: entries("/proc/self/fd").saturating_sub(1),
        threads: entries("/proc/self/task"),
        resident_bytes: resident_kib.unwrap_or(0_u64) * 1_024,
    }
}

/// Forks; in the child the endpoint must say so, whatever is asked of it.
fn fork(endpoint: &Endpoint, server: SocketAddr) -> Result<(), String> {
    let code = in_forked_child(CHILD_SECONDS, || {
        let is_forked = |error: CallError| *error.kind() == CallErrorKind::Forked;
        let call = || endpoint.call(server, vec![0; 16]);
        let called = call().wait().is_err_and(is_forked);
        let tried = call().try_start().is_err_and(is_forked);
        let accepted = matches!(
            endpoint.accept().wait_timeout(Duration::ZERO),
            Some(Err(AcceptError::Forked | AcceptError::NotServing))
        );
        u8::from(!called) | u8::from(!tried) << 1 | u8::from(!accepted) << 2
    });
    match code {
        Ok(Some(0)) => Ok(()),
        Ok(Some(bits)) => Err(format!("in the child not all calls failed with Forked ({bits:#b})")),
        Ok(None) => Err("the child hung or panicked".to_owned()),
        Err(error) => Err(format!("fork: {error}")),
    }
}

/// Leaves no free descriptor for a time, in which a new endpoint is refused with the reason;
/// afterwards one can be made.
fn use_up_descriptors(builder: impl Fn() -> EndpointBuilder, ms: u64) -> Result<(), String> {
    let open = fs::read_dir("/proc/self/fd").map_err(|error| error.to_string())?;
    let numbers =
        open.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u64>().ok());
    let highest = numbers.max().unwrap_or(0);
    let usual = getrlimit(Resource::Nofile);
    let set = |current| {
        let limit = Rlimit { current, ..usual };
        setrlimit(Resource::Nofile, limit).map_err(|error| format!("RLIMIT_NOFILE: {error}"))
    };
    set(Some(highest + 1))?;
    let mut holes = Vec::new();
    while let Ok(file) = fs::File::open("/dev/null") {
        holes.push(file);
    }
    let refused = builder().client();
    thread::sleep(Duration::from_millis(ms));
    set(usual.current)?;
    drop(holes);
    match refused {
        Ok(_) => return Err("an endpoint was made without a free descriptor".to_owned()),
        Err(error) if names_descriptors(&error) => {}
        Err(error) => return Err(format!("a new endpoint failed with `{error}`")),
    }
    builder().client().map(drop).map_err(|error| format!("afterwards: {error}"))
}

fn names_descriptors(error: &BindError) -> bool {
    error.to_string().contains("open files")
}

/// A runtime to work on: with two threads or, every other time, with the calling one only.
pub(super) fn runtime(number: u64) -> io::Result<tokio::runtime::Runtime> {
    let mut builder = match number % 2 {
        0 => tokio::runtime::Builder::new_multi_thread(),
        _ => tokio::runtime::Builder::new_current_thread(),
    };
    builder.worker_threads(2).enable_all().build()
}

/// Reads a job.
pub(super) fn job<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, CliError> {
    serde_json::from_str(text).map_err(|error| CliError::Usage(format!("job: {error}")))
}
