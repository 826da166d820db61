//! Two processes of one machine, a client and a server on a core each, and calls that the tasks of
//! the client make: how programs use tokio, QUIC and gRPC.
//!
//! `homa bench local` starts the processes, each with a job as its argument; each says on a line
//! what came of it. [`closed`] measures any client that implements [`TaskClient`].

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU8, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::{StreamExt, stream::FuturesUnordered};
use hdrhistogram::Histogram;
use homa_sys::process_cpu_time_ns;
use rustix::{
    process::{Signal, set_parent_process_death_signal},
    thread::{CpuSet, sched_setaffinity},
};
use serde::{Deserialize, Serialize};
use tokio::{task::JoinSet, time};

use crate::spec::HostSpec;

/// A call that takes longer than this ends the measurement with an error.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(5);
/// The request that every server of a benchmark answers with the processor time it has used: eight
/// bytes, nanoseconds, little endian.
pub const CPU_REQUEST: [u8; 16] = [0x9e, b'H', b'M', 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// Fewer calls than this say nothing; a measurement goes on until it has them.
const CALLS_MIN: u64 = 20;
/// Steps in which a window is lengthened that has too few calls.
const EXTENSION: Duration = Duration::from_millis(10);
/// Up to so many calls at a time have a task each.
const TASKS_PER_CALL_MAX: u32 = 64;
/// Tasks that share more calls than that.
const TASKS_SHARED: u32 = 16;
/// Longer times are counted as this long; nanoseconds.
const LATENCY_MAX_NS: u64 = 100_000_000_000;

/// What a process of a program for another transport does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Job {
    /// Serves; it says its address.
    Serve(Side),
    /// Calls a server; it says an [`Outcome`].
    Measure {
        /// The client.
        side: Side,
        /// The server.
        server: SocketAddr,
        /// The calls.
        load: Closed,
    },
}

/// One side of a measurement.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Side {
    /// What it speaks, and what it answers.
    pub spec: HostSpec,
    /// Core to run on.
    pub cpu: Option<usize>,
}

/// Calls of one length, each followed by the next.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Closed {
    /// Length of the requests.
    pub request_bytes: u64,
    /// Calls under way at a time.
    pub outstanding: u32,
    /// Seconds that count.
    pub secs: f64,
}

impl Closed {
    /// How many calls each task keeps under way: one, where there is a task for each, else equal
    /// shares of 16 tasks.
    pub fn shares(&self) -> Vec<u32> {
        let tasks = tasks(self.outstanding);
        let (each, more) = (self.outstanding.max(1) / tasks, self.outstanding.max(1) % tasks);
        (0..tasks).map(|task| each + u32::from(task < more)).collect()
    }

    /// The longest time that all of it may take.
    pub fn timeout(&self) -> Duration {
        Duration::from_secs_f64(self.secs.clamp(0.0, 86_400.0)) * 2 + CALL_TIMEOUT * 3
    }
}

/// Tasks that make so many calls at a time.
pub fn tasks(outstanding: u32) -> u32 {
    if outstanding <= TASKS_PER_CALL_MAX { outstanding.max(1) } else { TASKS_SHARED }
}

/// What a measurement found.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// Calls that ended in the measured time.
    pub calls: u64,
    /// Length of the measured time in seconds.
    pub secs: f64,
    /// Payload of requests and replies of these calls, in bytes.
    pub payload_bytes: u64,
    /// Processor time of both processes, in nanoseconds.
    pub cpu_ns: u64,
    /// Half the calls took at most this long, in microseconds.
    pub p50_us: f64,
    /// 99 % took at most this long, in microseconds.
    pub p99_us: f64,
    /// 99.9 % took at most this long, in microseconds.
    pub p999_us: f64,
}

/// A client as tasks use it: clones share its connections.
pub trait TaskClient: Clone + Send + Sync + 'static {
    /// One call; returns the length of the answer.
    fn call(&self, request: Bytes) -> impl Future<Output = io::Result<usize>> + Send;

    /// Processor time that the server has used, in nanoseconds: the answer to [`CPU_REQUEST`].
    fn server_cpu_ns(&self) -> impl Future<Output = io::Result<u64>> + Send;

    /// One task, which keeps `outstanding` calls under way.
    fn task(
        self,
        request: Bytes,
        outstanding: u32,
        record: Record,
    ) -> impl Future<Output = io::Result<()>> + Send {
        async move {
            let one_by_one = || async {
                let mut begun = Instant::now();
                while record.wants_more() {
                    let answer_bytes = self.call(request.clone()).await?;
                    begun = record.ended(begun, request.len() + answer_bytes);
                }
                Ok(())
            };
            if outstanding == 1 {
                return one_by_one().await;
            }
            let mut all: FuturesUnordered<_> = (0..outstanding).map(|_| one_by_one()).collect();
            while let Some(ended) = all.next().await {
                ended?;
            }
            Ok(())
        }
    }
}

/// Who is told of the calls of all tasks.
#[derive(Debug, Clone)]
pub struct Record(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    phase: AtomicU8,
    sums: Mutex<Sums>,
}

#[derive(Debug)]
struct Sums {
    ended: u64,
    payload_bytes: u64,
    latency_ns: Histogram<u64>,
}

const WARM_UP: u8 = 0;
const COUNTING: u8 = 1;
const OVER: u8 = 2;

impl Record {
    fn new() -> io::Result<Self> {
        let latency_ns =
            Histogram::new_with_bounds(1, LATENCY_MAX_NS, 3).map_err(io::Error::other)?;
        let sums = Mutex::new(Sums { ended: 0, payload_bytes: 0, latency_ns });
        Ok(Record(Arc::new(Shared { phase: AtomicU8::new(WARM_UP), sums })))
    }

    /// Whether one more call is to begin.
    pub fn wants_more(&self) -> bool {
        self.0.phase.load(Ordering::Relaxed) != OVER
    }

    /// A call that began then has its answer now, of so many bytes both ways; returns the time.
    pub fn ended(&self, begun: Instant, payload_bytes: usize) -> Instant {
        let now = Instant::now();
        let mut sums = self.sums();
        sums.ended += 1;
        if self.0.phase.load(Ordering::Relaxed) == COUNTING {
            sums.payload_bytes += payload_bytes as u64;
            let ns = u64::try_from((now - begun).as_nanos()).unwrap_or(LATENCY_MAX_NS);
            sums.latency_ns.saturating_record(ns);
        }
        now
    }

    fn counted(&self) -> u64 {
        self.sums().latency_ns.len()
    }

    fn sums(&self) -> MutexGuard<'_, Sums> {
        // The sums are whole at any time.
        self.0.sums.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long a measurement goes on.
#[derive(Debug, Clone, Copy)]
pub struct Window {
    length: Duration,
}

impl Window {
    /// A window of `secs`.
    pub fn new(secs: f64) -> Self {
        Window { length: Duration::from_secs_f64(secs.clamp(0.001, 86_400.0)) }
    }

    /// The end of a warm-up that begins now: a fifth of the window, at least 30 ms.
    pub fn warm_up(self) -> Instant {
        Instant::now() + (self.length / 5).clamp(Duration::from_millis(30), Duration::from_secs(1))
    }

    /// Whether counting, which began at `begin`, goes on. A machine that has other things to do may
    /// let a short window pass with hardly a call, so there is a least number.
    pub fn is_open(self, begin: Instant, now: Instant, calls: u64) -> bool {
        now < begin + self.length || (calls < CALLS_MIN && now < begin + self.length + CALL_TIMEOUT)
    }

    /// When to look whether it is open, at the latest.
    pub fn look_at(self, begin: Instant, now: Instant) -> Instant {
        if now < begin + self.length { begin + self.length } else { now + EXTENSION }
    }
}

/// Measures calls of many tasks on the runtime that this runs on.
///
/// # Errors
/// A call that failed, or took too long.
pub async fn closed<C: TaskClient>(
    client: C,
    request: Bytes,
    load: &Closed,
) -> io::Result<Outcome> {
    time::timeout(load.timeout(), closed_in_time(client, request, load)).await.map_err(|_| {
        let reason = format!("not all calls ended within {:?}", load.timeout());
        io::Error::new(io::ErrorKind::TimedOut, reason)
    })?
}

async fn closed_in_time<C: TaskClient>(
    client: C,
    request: Bytes,
    load: &Closed,
) -> io::Result<Outcome> {
    client.call(request.clone()).await?;
    let (record, mut tasks) = (Record::new()?, JoinSet::new());
    let server_before_ns = client.server_cpu_ns().await?;
    for share in load.shares() {
        tasks.spawn(client.clone().task(request.clone(), share, record.clone()));
    }
    let (secs, client_ns) = tokio::select! {
        measured = measure(&record, Window::new(load.secs)) => measured,
        failed = ends(&mut tasks) => return Err(match failed {
            Err(error) => error,
            Ok(()) => io::Error::other("the tasks ended before their time"),
        }),
    };
    ends(&mut tasks).await?;
    let server_ns = client.server_cpu_ns().await?.saturating_sub(server_before_ns) as f64;
    let sums = record.sums();
    // The server cannot be asked for its time without a gap in the load: calls that do not count
    // have their share of it.
    let share = sums.latency_ns.len() as f64 / sums.ended.max(1) as f64;
    let at_us = |quantile| sums.latency_ns.value_at_quantile(quantile) as f64 / 1e3;
    Ok(Outcome {
        calls: sums.latency_ns.len(),
        secs: secs.as_secs_f64(),
        payload_bytes: sums.payload_bytes,
        cpu_ns: client_ns + (server_ns * share) as u64,
        p50_us: at_us(0.5),
        p99_us: at_us(0.99),
        p999_us: at_us(0.999),
    })
}

/// Counts for a window after a warm-up; returns its length and the processor time of this process
/// in it.
async fn measure(record: &Record, window: Window) -> (Duration, u64) {
    time::sleep_until(window.warm_up().into()).await;
    record.0.phase.store(COUNTING, Ordering::Relaxed);
    let (begin, before_ns) = (Instant::now(), process_cpu_time_ns());
    while window.is_open(begin, Instant::now(), record.counted()) {
        time::sleep_until(window.look_at(begin, Instant::now()).into()).await;
    }
    record.0.phase.store(OVER, Ordering::Relaxed);
    (begin.elapsed(), process_cpu_time_ns().saturating_sub(before_ns))
}

/// Waits for all tasks, or for the first that fails.
async fn ends(tasks: &mut JoinSet<io::Result<()>>) -> io::Result<()> {
    while let Some(ended) = tasks.join_next().await {
        ended.map_err(io::Error::other)??;
    }
    Ok(())
}

/// Pins this thread, and with it all threads it starts later.
///
/// # Errors
/// The core may not be used.
pub fn pin(core: Option<usize>) -> io::Result<()> {
    let Some(core) = core.filter(|core| *core < CpuSet::MAX_CPU) else {
        return Ok(());
    };
    let mut set = CpuSet::new();
    set.set(core);
    Ok(sched_setaffinity(None, &set)?)
}

/// Makes this process end when the benchmark that started it ends, however it does.
pub fn end_with_parent() {
    // Without it an orphan would only live longer.
    let _ = set_parent_process_death_signal(Some(Signal::TERM));
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU64;

    use super::*;

    /// Answers at once, up to the call of this number.
    #[derive(Debug, Clone)]
    struct Calls(Arc<AtomicU64>, u64);

    impl TaskClient for Calls {
        async fn call(&self, request: Bytes) -> io::Result<usize> {
            tokio::task::yield_now().await;
            match self.0.fetch_add(1, Ordering::Relaxed) < self.1 {
                true => Ok(request.len()),
                false => Err(io::Error::other("no more")),
            }
        }

        async fn server_cpu_ns(&self) -> io::Result<u64> {
            Ok(self.0.load(Ordering::Relaxed) * 1_000)
        }
    }

    fn run(calls_max: u64, outstanding: u32) -> io::Result<Outcome> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let load = Closed { request_bytes: 10, outstanding, secs: 0.02 };
        let client = Calls(Arc::default(), calls_max);
        runtime.block_on(closed(client, Bytes::from_static(b"0123456789"), &load))
    }

    #[test]
    fn a_window_stays_open_until_it_has_calls_but_not_for_ever() {
        let window = Window::new(0.1);
        let begin = Instant::now();
        let after = |ms| begin + Duration::from_millis(ms);
        assert!(window.is_open(begin, after(99), 1_000_000));
        assert!(!window.is_open(begin, after(101), CALLS_MIN));
        assert!(window.is_open(begin, after(101), CALLS_MIN - 1));
        assert!(!window.is_open(begin, after(60_000), 0));
        assert_eq!(window.look_at(begin, after(1)), after(100));
        assert_eq!(window.look_at(begin, after(101)), after(111));
    }

    #[test]
    fn up_to_64_calls_have_a_task_each_and_more_are_shared_by_16() {
        let shares = |outstanding| Closed { request_bytes: 1, outstanding, secs: 1.0 }.shares();
        assert_eq!(shares(64), [1; 64]);
        assert_eq!(shares(0), [1]);
        let many = shares(1_000);
        assert_eq!((many.len(), many.iter().sum::<u32>()), (16, 1_000));
        assert!(many.iter().all(|share| [62, 63].contains(share)), "{many:?}");
    }

    #[test]
    fn calls_of_all_tasks_count_and_the_server_has_its_share_of_the_time() {
        for outstanding in [1, 7, 100] {
            let found = run(u64::MAX, outstanding).unwrap();
            assert!(found.calls >= CALLS_MIN && found.secs > 0.0, "{found:?}");
            assert_eq!(found.payload_bytes, found.calls * 20);
            // Each call takes the server of this test a microsecond.
            assert!(found.cpu_ns >= found.calls * 990, "{found:?}");
        }
    }

    #[test]
    fn the_first_call_that_fails_ends_the_measurement() {
        for outstanding in [1, 100] {
            assert_eq!(run(5, outstanding).unwrap_err().to_string(), "no more");
        }
    }
}
