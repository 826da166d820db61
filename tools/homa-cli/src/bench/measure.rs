//! What all measurements have in common, and the closed loop, the same for every transport.

use std::{
    io,
    time::{Duration, Instant},
};

use bytes::{Buf, Bytes};
pub(crate) use homa_bench::pair::{CALL_TIMEOUT, Window};
use homa_bench::{
    arrivals::{Arrivals, Spacing},
    generator::{self, Call, End, Load, Record},
    workload::Workload,
};
use homa_sys::process_cpu_time_ns;

use super::job::Outcome;
use crate::{
    body::Order,
    error::CliError,
    latency::Latency,
    transport::{
        Client, Pipeline,
        calls::{Calls, Reply, failure},
    },
};

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

/// `outstanding` calls at a time, each followed by the next; of the `sizes` the payload has the
/// longest.
pub(crate) fn closed(
    client: &mut dyn Pipeline,
    (sizes, seed): (Workload, u64),
    payload: Bytes,
    outstanding: u32,
    secs: f64,
) -> Result<Outcome, CliError> {
    let meter = CpuMeter::start(server_cpu_ns(client)?);
    let mut run = Closed::new(Window::new(secs));
    let arrivals = Arrivals::new(sizes, 1.0, Spacing::Constant, 1, seed);
    let load = Load::closed(arrivals, outstanding);
    let calls = Calls::new(&mut *client, payload, Instant::now);
    let mut calls = Calls { one_look: true, ..calls };
    generator::run(&mut calls, load, Instant::now(), Instant::now, &mut run).map_err(failure)?;
    // The server cannot be asked for its time without a gap in the load: calls that do not count
    // have their share of it.
    let server_ns = meter.server_ns(server_cpu_ns(client)?) as f64;
    let share = run.latency.count() as f64 / run.ended.max(1) as f64;
    let (length, client_ns) = run.measured.unwrap_or_default();
    let cpu_ns = client_ns + (server_ns * share) as u64;
    Ok(outcome(&run.latency, length, run.payload_bytes, cpu_ns))
}

/// A closed loop: warm-up, window, and the end of the calls that are under way then.
struct Closed {
    window: Window,
    warm_up: Instant,
    /// When counting began, and this process's CPU time until then.
    counting: Option<(Instant, u64)>,
    /// Length of the window and this process's CPU time in it, once it is over.
    measured: Option<(Duration, u64)>,
    ended: u64,
    payload_bytes: u64,
    latency: Latency,
    last_end: Instant,
    /// Why a call failed, which ends the measurement.
    failure: Option<CliError>,
}

impl Closed {
    fn new(window: Window) -> Self {
        Closed {
            window,
            warm_up: window.warm_up(),
            counting: None,
            measured: None,
            ended: 0,
            payload_bytes: 0,
            latency: Latency::new(),
            last_end: Instant::now(),
            failure: None,
        }
    }
}

impl Record<Reply> for Closed {
    fn look(&mut self, now: Instant, _: usize) -> io::Result<Instant> {
        if let Some(failure) = self.failure.take() {
            return Err(io::Error::other(failure));
        }
        if now.saturating_duration_since(self.last_end) > CALL_TIMEOUT {
            let reason = format!("no call ended within {CALL_TIMEOUT:?}");
            return Err(io::Error::other(CliError::Transport(reason)));
        }
        if now < self.warm_up {
            return Ok(self.warm_up);
        }
        let (begin, before_ns) = *self.counting.get_or_insert_with(|| (now, process_cpu_time_ns()));
        if self.measured.is_none() && !self.window.is_open(begin, now, self.latency.count()) {
            let client_ns = process_cpu_time_ns().saturating_sub(before_ns);
            self.measured = Some((now - begin, client_ns));
        }
        Ok(self.window.look_at(begin, now))
    }

    fn wants_more(&self) -> bool {
        self.measured.is_none()
    }

    fn ends(&mut self, call: &Call, at: Instant, end: End<Reply>) {
        let reply_bytes = match end {
            End::Known(Ok(reply_bytes)) => reply_bytes,
            End::Known(Err(reason)) => {
                self.failure.get_or_insert(CliError::Transport(reason));
                return;
            }
            End::TimedOut | End::Unfinished => return,
        };
        self.ended += 1;
        self.last_end = at;
        if self.counting.is_some() && self.measured.is_none() {
            self.latency.record(at.saturating_duration_since(call.begun));
            self.payload_bytes += call.bytes + reply_bytes as u64;
        }
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
    use homa_bench::pair;

    use super::*;

    #[test]
    fn the_question_for_processor_time_is_the_same_for_all_programs() {
        assert_eq!(cpu_request(), &pair::CPU_REQUEST[..]);
    }

    /// Answers the first call; all others fail.
    struct Fails(Vec<u64>, u64);

    impl Pipeline for Fails {
        fn start(&mut self, token: u64, _: usize, _: &Bytes) -> Result<(), CliError> {
            self.0.push(token);
            Ok(())
        }

        fn poll(
            &mut self,
            _: Instant,
            sink: &mut dyn FnMut(u64, crate::transport::Outcome<'_>),
        ) -> Result<usize, CliError> {
            for token in self.0.drain(..) {
                self.1 += 1;
                match self.1 {
                    1 => sink(token, Ok(&mut Bytes::new())),
                    _ => sink(token, Err("no reply".to_owned())),
                }
            }
            Ok(1)
        }
    }

    #[test]
    fn the_first_call_that_fails_ends_a_closed_loop() {
        let (sizes, payload) = (Workload::of_length(1), Bytes::from_static(b"."));
        let mut client = Fails(Vec::new(), 0);
        let error = closed(&mut client, (sizes, 1), payload, 4, 60.0).unwrap_err();
        assert_eq!((error.to_string().as_str(), client.1), ("no reply", 5));
    }
}
