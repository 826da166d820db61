//! The measuring loops, the same for every transport.

use std::time::{Duration, Instant};

use bytes::{Buf, Bytes};
use homa_sys::process_cpu_time_ns;

use super::job::Outcome;
use crate::{
    body::{self, Order},
    error::CliError,
    latency::Latency,
    transport::{Client, Pipeline},
};

/// A call that takes longer than this ends the measurement with an error.
pub(crate) const CALL_TIMEOUT: Duration = Duration::from_secs(5);

/// Fewer calls than this say nothing; a measurement goes on until it has them.
const CALLS_MIN: u64 = 20;

/// Steps in which a window is lengthened that has too few calls.
const EXTENSION: Duration = Duration::from_millis(10);

/// How long a measurement goes on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Window {
    length: Duration,
}

impl Window {
    /// A window of `secs`.
    pub(crate) fn new(secs: f64) -> Self {
        Window { length: Duration::from_secs_f64(secs.clamp(0.001, 86_400.0)) }
    }

    /// The end of a warm-up that begins now: a fifth of the window, at least 30 ms.
    pub(crate) fn warm_up(self) -> Instant {
        Instant::now() + (self.length / 5).clamp(Duration::from_millis(30), Duration::from_secs(1))
    }

    /// Whether counting, which began at `begin`, goes on. A machine that has other things to do may
    /// let a short window pass with hardly a call, so there is a least number.
    pub(crate) fn is_open(self, begin: Instant, now: Instant, calls: u64) -> bool {
        now < begin + self.length || (calls < CALLS_MIN && now < begin + self.length + CALL_TIMEOUT)
    }
}

/// CPU time of both processes since a beginning.
#[derive(Debug)]
pub(crate) struct CpuMeter {
    client_ns: u64,
    server_ns: u64,
}

impl CpuMeter {
    /// Begins with the server's time as [`server_cpu_ns`] told it.
    pub(crate) fn start(server_ns: u64) -> Self {
        CpuMeter { client_ns: process_cpu_time_ns(), server_ns }
    }

    /// CPU time of this process since the beginning, in nanoseconds; call before the server is
    /// asked.
    pub(crate) fn client_ns(&self) -> u64 {
        process_cpu_time_ns().saturating_sub(self.client_ns)
    }

    /// The server's part, from its new total.
    pub(crate) fn server_ns(&self, server_ns: u64) -> u64 {
        server_ns.saturating_sub(self.server_ns)
    }
}

/// The request for the server's CPU time.
pub(crate) fn cpu_request() -> Bytes {
    Bytes::copy_from_slice(&Order::CpuTime.encode())
}

/// The CPU time in a reply to [`cpu_request`]; zero if the server is not one of ours.
pub(crate) fn cpu_reply(reply: &mut dyn Buf) -> u64 {
    match reply.remaining() {
        8 => reply.get_u64_le(),
        _ => 0,
    }
}

/// CPU time the server process has used, in nanoseconds.
pub(crate) fn server_cpu_ns(client: &mut (impl Client + ?Sized)) -> Result<u64, CliError> {
    let mut server_ns = 0;
    client.call(&cpu_request(), CALL_TIMEOUT, &mut |reply| server_ns = cpu_reply(reply))?;
    Ok(server_ns)
}

/// One echo call at a time.
pub(crate) fn latency(
    client: &mut dyn Client,
    size_bytes: u64,
    secs: f64,
) -> Result<Outcome, CliError> {
    let request = body::pattern(0, size_bytes as usize);
    let window = Window::new(secs);
    let warm_up = window.warm_up();
    while Instant::now() < warm_up {
        client.call(&request, CALL_TIMEOUT, &mut |_| {})?;
    }
    let meter = CpuMeter::start(server_cpu_ns(client)?);
    let mut latency = Latency::new();
    let begin = Instant::now();
    let mut now = begin;
    while window.is_open(begin, now, latency.count()) {
        client.call(&request, CALL_TIMEOUT, &mut |_| {})?;
        let end = Instant::now();
        latency.record(end - now);
        now = end;
    }
    let client_ns = meter.client_ns();
    let cpu_ns = client_ns + meter.server_ns(server_cpu_ns(client)?);
    let payload_bytes = latency.count() * 2 * size_bytes;
    Ok(outcome(&latency, now - begin, payload_bytes, cpu_ns))
}

/// P50 of one echo call at a time, for each size, in order.
pub(crate) fn unloaded(
    client: &mut dyn Client,
    sizes_bytes: &[u64],
    secs: f64,
) -> Result<Outcome, CliError> {
    let share = secs / sizes_bytes.len().max(1) as f64;
    let mut found = Outcome::default();
    for size_bytes in sizes_bytes {
        let one = latency(client, *size_bytes, share)?;
        found.unloaded.push((*size_bytes, one.p50_us));
    }
    Ok(found)
}

/// Where the requests of a loop come from.
pub(crate) trait Source {
    /// The next request.
    fn next_request(&mut self) -> Bytes;
}

impl<F: FnMut() -> Bytes> Source for F {
    fn next_request(&mut self) -> Bytes {
        self()
    }
}

/// `outstanding` calls at a time, each followed by the next.
pub(crate) fn closed(
    client: &mut dyn Pipeline,
    source: &mut dyn Source,
    outstanding: u32,
    secs: f64,
) -> Result<Outcome, CliError> {
    let before_ns = server_cpu_ns(client)?;
    let mut run = Closed::new(outstanding);
    let window = Window::new(secs);
    run.until(client, source, window.warm_up())?;
    // The warm-up's share of the server's time is taken off by the calls it served: the server
    // cannot be asked in between without a gap in the load.
    let warm_calls = run.ended;
    let meter = CpuMeter::start(before_ns);
    run.counting = true;
    let begin = Instant::now();
    run.until(client, source, begin + window.length)?;
    while window.is_open(begin, Instant::now(), run.ended - warm_calls) {
        run.until(client, source, Instant::now() + EXTENSION)?;
    }
    let length = begin.elapsed();
    let client_ns = meter.client_ns();
    let calls = run.ended - warm_calls;
    run.drain(client)?;
    let server_ns =
        meter.server_ns(server_cpu_ns(client)?) as f64 * calls as f64 / run.ended.max(1) as f64;
    Ok(Outcome {
        calls,
        ..outcome(&run.latency, length, run.payload_bytes, client_ns + server_ns as u64)
    })
}

struct Closed {
    slots: Vec<(Instant, usize)>,
    free: Vec<u64>,
    ended: u64,
    counting: bool,
    payload_bytes: u64,
    latency: Latency,
    last_end: Instant,
    /// Slots and reply lengths of one poll; kept for its memory.
    batch: Vec<(u64, usize)>,
}

impl Closed {
    fn new(outstanding: u32) -> Self {
        Closed {
            slots: vec![(Instant::now(), 0); outstanding as usize],
            free: (0..u64::from(outstanding)).rev().collect(),
            ended: 0,
            counting: false,
            payload_bytes: 0,
            latency: Latency::new(),
            last_end: Instant::now(),
            batch: Vec::new(),
        }
    }

    fn until(
        &mut self,
        client: &mut dyn Pipeline,
        source: &mut dyn Source,
        end: Instant,
    ) -> Result<(), CliError> {
        self.last_end = Instant::now();
        loop {
            let now = Instant::now();
            if now >= end {
                return Ok(());
            }
            while let Some(slot) = self.free.pop() {
                let request = source.next_request();
                self.slots[slot as usize] = (now, request.len());
                client.start(slot, 0, &request)?;
            }
            self.collect(client, end)?;
        }
    }

    fn drain(&mut self, client: &mut dyn Pipeline) -> Result<(), CliError> {
        self.counting = false;
        while self.free.len() < self.slots.len() {
            self.collect(client, Instant::now() + CALL_TIMEOUT)?;
        }
        Ok(())
    }

    fn collect(&mut self, client: &mut dyn Pipeline, until: Instant) -> Result<(), CliError> {
        let mut failure = None;
        let mut ended = std::mem::take(&mut self.batch);
        let count = client.poll(until, &mut |slot, outcome| match outcome {
            Ok(reply) => ended.push((slot, reply.remaining())),
            Err(error) => failure = Some(error),
        })?;
        if let Some(error) = failure {
            return Err(CliError::Transport(error));
        }
        let now = Instant::now();
        if count > 0 {
            self.last_end = now;
        } else if now - self.last_end > CALL_TIMEOUT {
            return Err(CliError::Transport(format!("no call ended within {CALL_TIMEOUT:?}")));
        }
        for (slot, reply_bytes) in ended.drain(..) {
            self.free.push(slot);
            self.ended += 1;
            if self.counting {
                let (started, request_bytes) = self.slots[slot as usize];
                self.latency.record(now - started);
                self.payload_bytes += (request_bytes + reply_bytes) as u64;
            }
        }
        self.batch = ended;
        Ok(())
    }
}

/// An outcome with the figures all loops have.
pub(crate) fn outcome(
    latency: &Latency,
    length: Duration,
    payload_bytes: u64,
    cpu_ns: u64,
) -> Outcome {
    Outcome {
        calls: latency.count(),
        secs: length.as_secs_f64(),
        payload_bytes,
        cpu_ns,
        p50_us: latency.at_us(0.5),
        p99_us: latency.at_us(0.99),
        p999_us: latency.at_us(0.999),
        ..Outcome::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_stays_open_until_it_has_calls_but_not_for_ever() {
        let window = Window::new(0.1);
        let begin = Instant::now();
        let after = |ms| begin + Duration::from_millis(ms);
        assert!(window.is_open(begin, after(99), 1_000_000));
        assert!(!window.is_open(begin, after(101), CALLS_MIN));
        assert!(window.is_open(begin, after(101), CALLS_MIN - 1));
        assert!(!window.is_open(begin, after(60_000), 0));
    }
}
