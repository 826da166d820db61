//! The controller's side of an agent.

use std::{
    io::{self, BufRead, BufReader, Write},
    net::SocketAddr,
    process::{Child, ChildStdin},
    sync::mpsc::{Receiver, RecvTimeoutError, sync_channel},
    time::{Duration, Instant},
};

use crate::{
    network::Network,
    spec::{HostSpec, LoadSummary, Order, Report, Status, UnloadedTime},
    watch::{Watch, interrupted, patience},
};

/// Reports that may wait to be read, so that an agent gone wild fills a pipe and not this process's memory.
const REPORTS_MAX: usize = 1_000;
/// Time for an agent to start.
const START_TIMEOUT: Duration = Duration::from_secs(20);
/// Time for everything that is done without load.
const ORDER_TIMEOUT: Duration = Duration::from_secs(120);

/// An agent under way; dropping it ends it.
pub(crate) struct Agent<'a> {
    host: u32,
    address: SocketAddr,
    timer_us: f64,
    child: Child,
    input: Option<ChildStdin>,
    reports: Receiver<Report>,
    watch: &'a dyn Watch,
}

impl<'a> Agent<'a> {
    /// Starts an agent and waits until it serves.
    pub(crate) fn start(
        network: &dyn Network,
        spec: &HostSpec,
        watch: &'a dyn Watch,
    ) -> io::Result<Self> {
        let mut child = network.start_agent(spec.host, &spec.transport)?;
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(io::Error::other("an agent was started without pipes"));
        };
        let (sender, reports) = sync_channel(REPORTS_MAX);
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines() {
                let Ok(line) = line else { return };
                let report = serde_json::from_str(&line).unwrap_or_else(|error| Report::Failed {
                    reason: format!("said what is no report: {error}"),
                });
                if sender.send(report).is_err() {
                    return;
                }
            }
        });
        let address = SocketAddr::new(spec.listen, spec.port);
        let (host, input) = (spec.host, Some(input));
        let mut agent = Agent { host, address, timer_us: 0.0, child, input, reports, watch };
        agent.write(spec)?;
        match agent.receive(START_TIMEOUT)? {
            Report::Ready { address, timer_us } => {
                agent.address = address;
                agent.timer_us = timer_us;
            }
            other => return Err(agent.unexpected(&other)),
        }
        Ok(agent)
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// How late timers wake it, in microseconds.
    pub(crate) fn timer_us(&self) -> f64 {
        self.timer_us
    }

    /// Gives an order; its result is taken by one of the other functions.
    pub(crate) fn order(&mut self, order: &Order) -> io::Result<()> {
        self.write(order)
    }

    /// Waits until an order without result is done.
    pub(crate) fn done(&mut self) -> io::Result<()> {
        match self.receive(ORDER_TIMEOUT)? {
            Report::Done => Ok(()),
            other => Err(self.unexpected(&other)),
        }
    }

    /// Waits for unloaded times.
    pub(crate) fn unloaded(&mut self) -> io::Result<Vec<UnloadedTime>> {
        match self.receive(ORDER_TIMEOUT)? {
            Report::Unloaded(times) => Ok(times),
            other => Err(self.unexpected(&other)),
        }
    }

    /// Waits until the load is over.
    pub(crate) fn loaded(&mut self, until: Instant) -> io::Result<LoadSummary> {
        match self.receive(until.saturating_duration_since(Instant::now()))? {
            Report::Loaded(summary) => Ok(summary),
            other => Err(self.unexpected(&other)),
        }
    }

    /// Fetches the RPCs of the last load.
    pub(crate) fn collect(
        &mut self,
        sink: &mut dyn FnMut((u32, u64, u64, u64, Status)),
    ) -> io::Result<()> {
        self.order(&Order::Collect)?;
        loop {
            match self.receive(ORDER_TIMEOUT)? {
                Report::Rpcs(rows) => rows.into_iter().for_each(&mut *sink),
                Report::Done => return Ok(()),
                other => return Err(self.unexpected(&other)),
            }
        }
    }

    /// Ends it at once, as a machine that fails.
    pub(crate) fn end(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    fn write(&mut self, order: &impl serde::Serialize) -> io::Result<()> {
        let mut line = serde_json::to_vec(order)?;
        line.push(b'\n');
        let input = self.input.as_mut().ok_or(io::ErrorKind::BrokenPipe)?;
        input.write_all(&line).map_err(|error| self.failed(&error.to_string()))
    }

    fn receive(&mut self, timeout: Duration) -> io::Result<Report> {
        let until = Instant::now() + timeout;
        let received = loop {
            match self.reports.recv_timeout(patience(until)) {
                _ if self.watch.stopped() => return Err(interrupted()),
                Err(RecvTimeoutError::Timeout) if Instant::now() < until => {}
                received => break received,
            }
        };
        match received {
            Ok(Report::Failed { reason }) => Err(self.failed(&reason)),
            Ok(report) => Ok(report),
            Err(_) => {
                let state = match self.child.try_wait() {
                    Ok(Some(status)) => format!("it ended ({status})"),
                    _ => "it says nothing".to_owned(),
                };
                Err(self.failed(&state))
            }
        }
    }

    fn unexpected(&self, report: &Report) -> io::Error {
        let mut text = format!("{report:?}");
        text.truncate(200);
        self.failed(&format!("said something unexpected: {text}"))
    }

    fn failed(&self, reason: &str) -> io::Error {
        io::Error::other(format!("host {}: {reason}", self.host))
    }
}

impl Drop for Agent<'_> {
    fn drop(&mut self) {
        // The end of its input ends it; killing makes sure, where it is a process of this machine.
        self.input = None;
        self.end();
    }
}
