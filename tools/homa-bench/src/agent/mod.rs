//! The host agent: server and client on one host of a run, told what to do through its standard
//! input.
//!
//! [`run`] speaks Homa and TCP. Other transports are spoken by other programs, so that their
//! libraries are no dependencies of this one: they implement [`Mesh`] and call [`run_with`].

mod homa_mesh;
mod load;
mod mesh;
mod snmp;
mod tasks;
mod tcp_mesh;

use std::{
    io::{self, BufRead, Write},
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, TryRecvError, channel},
    },
    time::{Duration, Instant},
};

use homa_report::{stats::quantile, summary::UnloadedTime};
use thread_priority::{
    RealtimeThreadSchedulePolicy, ThreadPriority, ThreadPriorityValue, ThreadSchedulePolicy,
    set_thread_priority_and_policy, thread_native_id,
};

pub(crate) use self::load::RPCS_MAX;
use self::{homa_mesh::HomaMesh, load::Row, tcp_mesh::TcpMesh};
pub use self::{
    mesh::{Counters, Ended, Mesh},
    snmp::snmp_counter,
    tasks::Tasks,
};
use crate::{
    spec::{HostSpec, Order, Report},
    transport::Transport,
};

/// How long an agent without load serves before it looks for orders again.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// Time to reach a peer.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Time for one call on an idle network: a million bytes there and back over 1 Mbit/s.
const UNLOADED_TIMEOUT: Duration = Duration::from_secs(20);
/// Priority among real-time threads, of 99: below what the kernel itself needs.
const REAL_TIME_PRIORITY: u8 = 10;
/// The token of a call on an idle network, which no call of a load has.
const UNLOADED: u64 = u32::MAX as u64;
/// Sleeps by which the precision of timers is found: so many that two stalls of the machine are
/// above the 99th percentile, since Homa's window and backlog are derived from it.
const TIMER_PROBES: usize = 300;
/// RPCs per line of the report.
const RPCS_PER_LINE: usize = 1_000;
/// Longest line of orders, in bytes: workloads have at most 100,000 points.
const LINE_BYTES_MAX: u64 = 8 << 20;

/// Why an agent ended early.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AgentError {
    /// What it was told is no order: controller and agent are of different versions.
    #[error("order not understood: {0}")]
    Order(serde_json::Error),
    /// The network or the controller is gone.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Runs an agent that speaks Homa and TCP until `input` ends.
///
/// # Errors
/// See [`AgentError`]; the controller is told as well, as [`Report::Failed`].
pub fn run(input: impl BufRead + Send + 'static, output: impl Write) -> Result<(), AgentError> {
    run_with(open, input, output)
}

/// Runs an agent until `input` ends. `open` makes the transport of the specification that comes
/// first; it is called once, in the thread that uses it.
///
/// # Errors
/// See [`AgentError`]; the controller is told as well, as [`Report::Failed`].
pub fn run_with(
    open: impl FnOnce(&HostSpec) -> io::Result<Box<dyn Mesh>>,
    input: impl BufRead + Send + 'static,
    output: impl Write,
) -> Result<(), AgentError> {
    let mut output = io::BufWriter::new(output);
    let outcome = serve_orders(open, input, &mut output);
    if let Err(error) = &outcome {
        // Nobody may be listening any more.
        let _ = report(&mut output, &Report::Failed { reason: error.to_string() });
    }
    outcome
}

fn serve_orders(
    open: impl FnOnce(&HostSpec) -> io::Result<Box<dyn Mesh>>,
    input: impl BufRead + Send + 'static,
    output: &mut impl Write,
) -> Result<(), AgentError> {
    let controller_gone = Arc::new(AtomicBool::new(false));
    let orders = read_lines(input, Arc::clone(&controller_gone));
    let Ok(first) = orders.recv() else { return Ok(()) };
    let spec: HostSpec = serde_json::from_str(&first?).map_err(AgentError::Order)?;
    precise_timers();
    ahead_of_others();
    let mut mesh = open(&spec)?;
    let ready = Report::Ready { address: mesh.address(), timer_us: timer_lateness_us() };
    report(output, &ready)?;
    let (mut ended, mut rpcs) = (Vec::new(), Vec::new());
    let mut wait = Instant::now();
    loop {
        match orders.try_recv() {
            Ok(line) => {
                let order: Order = serde_json::from_str(&line?).map_err(AgentError::Order)?;
                match execute(&mut *mesh, order, &mut rpcs, output, &controller_gone) {
                    // Nobody is left to hear of it.
                    Err(_) if controller_gone.load(Ordering::Relaxed) => return Ok(()),
                    done => done?,
                }
                wait = Instant::now();
            }
            Err(TryRecvError::Disconnected) => return Ok(()),
            Err(TryRecvError::Empty) => {}
        }
        wait = (wait + LOOK_EVERY).max(Instant::now());
        mesh.poll(wait, &mut ended)?;
        ended.clear();
    }
}

/// Reads lines in a thread of its own: the agent serves while it waits for orders, and notices even
/// under load when there will be no more.
fn read_lines(
    mut input: impl BufRead + Send + 'static,
    ended: Arc<AtomicBool>,
) -> Receiver<io::Result<String>> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        loop {
            let mut line = String::new();
            let read = io::Read::take(&mut input, LINE_BYTES_MAX).read_line(&mut line);
            let more = match read {
                Ok(0) => false,
                Ok(_) => sender.send(Ok(line)).is_ok(),
                Err(error) => {
                    let _ = sender.send(Err(error));
                    false
                }
            };
            if !more {
                ended.store(true, Ordering::Relaxed);
                return;
            }
        }
    });
    receiver
}

/// Without it a sleep lasts up to 50 microseconds longer than asked for.
fn precise_timers() {
    // A system that refuses only makes late what is reported as late.
    let _ = rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1));
}

/// Other programs of the machine should not delay messages, nor should agents interrupt each other:
/// real-time scheduling, or at least a session of its own ahead of others. Needs a privilege;
/// without it the agent is one among others, which the report shows as late begins of RPCs.
fn ahead_of_others() {
    // Where sessions share the processors evenly, the priority within one says nothing to the
    // others.
    if rustix::process::setsid().is_ok() {
        let _ = std::fs::write("/proc/self/autogroup", "-20");
    }
    let _ = rustix::process::setpriority_process(None, -20);
    real_time();
}

/// Has this thread run before all that are not real-time threads, where the system allows it.
pub(crate) fn real_time() {
    let policy = ThreadSchedulePolicy::Realtime(RealtimeThreadSchedulePolicy::RoundRobin);
    if let Ok(priority) = ThreadPriorityValue::try_from(REAL_TIME_PRIORITY) {
        let priority = ThreadPriority::Crossplatform(priority);
        let _ = set_thread_priority_and_policy(thread_native_id(), priority, policy);
    }
}

fn timer_lateness_us() -> f64 {
    let wanted = Duration::from_micros(200);
    let mut late: Vec<Duration> = (0..TIMER_PROBES)
        .map(|_| {
            let begin = Instant::now();
            std::thread::sleep(wanted);
            begin.elapsed().saturating_sub(wanted)
        })
        .collect();
    late.sort_unstable();
    quantile(&late, 0.99).map_or(0.0, |time| time.as_secs_f64() * 1e6)
}

fn open(spec: &HostSpec) -> io::Result<Box<dyn Mesh>> {
    Ok(match &spec.transport {
        Transport::Homa(_) => Box::new(HomaMesh::new(spec)?),
        Transport::Tcp { .. } => Box::new(TcpMesh::new(spec)?),
        peer @ (Transport::Quic { .. } | Transport::Grpc { .. }) => {
            let text = format!("{peer} is spoken by the program homa-bench-peers, not by this one");
            return Err(io::Error::new(io::ErrorKind::Unsupported, text));
        }
    })
}

fn execute(
    mesh: &mut dyn Mesh,
    order: Order,
    rpcs: &mut Vec<Row>,
    output: &mut impl Write,
    controller_gone: &AtomicBool,
) -> Result<(), AgentError> {
    match order {
        Order::Connect { peers } => {
            let servers: Vec<SocketAddr> = peers.iter().map(|peer| peer.address).collect();
            mesh.connect(&servers, CONNECT_TIMEOUT)?;
            report(output, &Report::Done)?;
        }
        Order::Unloaded { server, sizes_bytes, repeats } => {
            let times = unloaded(mesh, server, &sizes_bytes, repeats)?;
            report(output, &Report::Unloaded(times))?;
        }
        Order::Load(order) => {
            let (found, summary) = load::run(mesh, &order, controller_gone)?;
            *rpcs = found;
            report(output, &Report::Loaded(summary))?;
        }
        Order::Collect => {
            for some in rpcs.chunks(RPCS_PER_LINE) {
                report(output, &Report::Rpcs(some.to_vec()))?;
            }
            rpcs.clear();
            report(output, &Report::Done)?;
        }
    }
    Ok(())
}

/// Calls one server, one call at a time; a few calls of each size are not counted.
fn unloaded(
    mesh: &mut dyn Mesh,
    server: usize,
    sizes_bytes: &[u64],
    repeats: u32,
) -> io::Result<Vec<UnloadedTime>> {
    let mut times = Vec::new();
    for size in sizes_bytes {
        let mut found = Vec::new();
        for repeat in 0..repeats + 2 {
            let time = one_call(mesh, server, *size)?;
            if repeat >= 2 {
                found.push(time);
            }
        }
        found.sort_unstable();
        let at = |share| quantile(&found, share).map_or(0, |time| time.as_nanos() as u64);
        times.push(UnloadedTime {
            size_bytes: *size,
            min_ns: at(0.0),
            p50_ns: at(0.5),
            p90_ns: at(0.9),
        });
    }
    Ok(times)
}

fn one_call(mesh: &mut dyn Mesh, server: usize, size: u64) -> io::Result<Duration> {
    let begin = Instant::now();
    let deadline = begin + UNLOADED_TIMEOUT;
    mesh.start(UNLOADED, server, size as usize)?;
    let mut ended = Vec::new();
    while Instant::now() < deadline {
        mesh.poll(deadline, &mut ended)?;
        match ended.iter().find(|call| call.token == UNLOADED) {
            Some(call) if call.reply => return Ok(call.at.duration_since(begin)),
            Some(_) => return Err(io::Error::other("a call failed on the idle network")),
            None => {}
        }
    }
    Err(io::Error::other("a call got no answer on the idle network"))
}

fn report(output: &mut impl Write, report: &Report) -> io::Result<()> {
    serde_json::to_writer(&mut *output, report)?;
    output.write_all(b"\n")?;
    output.flush()
}
