//! Small loads made by threads of this process, for measuring the lab itself.

use std::{
    io,
    net::{SocketAddr, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use socket2::SockRef;

use crate::{Lab, LabError};

/// Bytes of Ethernet, IPv4 and UDP headers in front of a payload.
pub(crate) const HEADERS_BYTES: usize = 14 + 20 + 8;

/// How long a sender sleeps that is ahead of its rate.
const PACE: Duration = Duration::from_micros(500);

/// How long a receiver waits before it looks whether it is to end.
const PATIENCE: Duration = Duration::from_millis(50);

/// The longest queue of a port that probes are waited for in.
const QUEUE_TIME_MAX: Duration = Duration::from_millis(500);

/// A thread that sends datagrams of one length to a host until dropped.
#[derive(Debug)]
pub(crate) struct Blast {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Blast {
    /// Starts to send from host `from` to `to`, frames of `frame_bytes` at a priority level: so
    /// many per second, or as many as the host's interface takes.
    pub(crate) fn start(
        lab: &Lab,
        from: usize,
        to: SocketAddr,
        level: usize,
        frame_bytes: usize,
        frames_per_s: Option<f64>,
    ) -> Result<Self, LabError> {
        let socket = socket(lab, from, level)?;
        socket.connect(to)?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let payload = vec![0; frame_bytes.saturating_sub(HEADERS_BYTES)];
        let thread = thread::Builder::new().name("lab-blast".into()).spawn(move || {
            let start = Instant::now();
            let mut sent = 0.0;
            while !stopped.load(Ordering::Relaxed) {
                if frames_per_s.is_some_and(|rate| sent > start.elapsed().as_secs_f64() * rate) {
                    thread::sleep(PACE);
                    continue;
                }
                // Refusals (nobody listens, no room) are part of an overload.
                if socket.send(&payload).is_err() {
                    thread::sleep(PACE);
                }
                sent += 1.0;
            }
        })?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for Blast {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It does not panic; if it did, that was printed.
            let _ = thread.join();
        }
    }
}

/// A thread that takes in and counts the datagrams that reach a socket of a host.
#[derive(Debug)]
pub(crate) struct Sink {
    /// Where to send to.
    pub address: SocketAddr,
    frames: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Sink {
    pub(crate) fn start(lab: &Lab, host: usize) -> Result<Self, LabError> {
        let socket = socket(lab, host, 0)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        let address = socket.local_addr()?;
        let frames = Arc::new(AtomicU64::new(0));
        let stop = Arc::new(AtomicBool::new(false));
        let (counted, stopped) = (Arc::clone(&frames), Arc::clone(&stop));
        let thread = thread::Builder::new().name("lab-sink".into()).spawn(move || {
            let mut buffer = [0; 16];
            while !stopped.load(Ordering::Relaxed) {
                if socket.recv(&mut buffer).is_ok() {
                    counted.fetch_add(1, Ordering::Relaxed);
                }
            }
        })?;
        Ok(Self { address, frames, stop, thread: Some(thread) })
    }

    /// Datagrams so far.
    pub(crate) fn frames(&self) -> u64 {
        self.frames.load(Ordering::Relaxed)
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It does not panic; if it did, that was printed.
            let _ = thread.join();
        }
    }
}

/// Sends `count` short datagrams from one host to another, some `spacing` apart, and measures how
/// long each takes from the call that sends it to the return of the call that receives it. The
/// times come in the order of arrival, in nanoseconds; lost datagrams have none.
pub(crate) fn probe(
    lab: &Lab,
    from: usize,
    to: usize,
    level: usize,
    count: u32,
    spacing: Duration,
) -> Result<Vec<u64>, LabError> {
    let receiver = socket(lab, to, 0)?;
    let sender = socket(lab, from, level)?;
    sender.connect(receiver.local_addr()?)?;
    receiver.set_read_timeout(Some(PATIENCE))?;
    let start = Instant::now();
    let done = AtomicBool::new(false);
    let times = thread::scope(|scope| {
        let receiving =
            scope.spawn(|| receive_probes(&receiver, start, count, &done, queue_time(lab)));
        let mut random = fastrand::Rng::with_seed(u64::from(count));
        for _ in 0..count {
            let sent_ns = elapsed_ns(start);
            // One that is not sent is missing like one that is lost.
            let _ = sender.send(&sent_ns.to_ne_bytes());
            thread::sleep(spacing.mul_f64(0.5 + random.f64()));
        }
        done.store(true, Ordering::Relaxed);
        receiving.join().unwrap_or_default()
    });
    Ok(times)
}

/// How long a packet waits in a full queue of a port.
fn queue_time(lab: &Lab) -> Duration {
    let spec = lab.spec();
    let seconds = spec.buffer_bytes as f64 / spec.port_bytes_per_s().max(1) as f64;
    Duration::from_secs_f64(seconds).min(QUEUE_TIME_MAX)
}

/// Takes in probes until all have come, or the last has been under way for `longest` and none
/// comes.
fn receive_probes(
    socket: &UdpSocket,
    start: Instant,
    count: u32,
    done: &AtomicBool,
    longest: Duration,
) -> Vec<u64> {
    let mut times = Vec::new();
    let mut buffer = [0; 8];
    let mut sent: Option<Instant> = None;
    while times.len() < count as usize {
        match socket.recv(&mut buffer) {
            Ok(8) => {
                times.push(elapsed_ns(start).saturating_sub(u64::from_ne_bytes(buffer)));
            }
            Ok(_) => {}
            Err(_) if sent.is_some_and(|sent| sent.elapsed() > longest) => break,
            Err(_) if done.load(Ordering::Relaxed) => {
                sent.get_or_insert_with(Instant::now);
            }
            Err(_) => {}
        }
    }
    times
}

/// A socket of a host on a free port of its address.
fn socket(lab: &Lab, host: usize, level: usize) -> Result<UdpSocket, LabError> {
    let address = lab.host(host)?.ipv4;
    lab.within(host, || -> io::Result<UdpSocket> {
        let socket = UdpSocket::bind((address, 0))?;
        SockRef::from(&socket).set_tos_v4((level as u32 & 7) << 5)?;
        Ok(socket)
    })
}

pub(crate) fn elapsed_ns(start: Instant) -> u64 {
    u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX)
}
