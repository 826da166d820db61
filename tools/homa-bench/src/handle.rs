//! The controller's side of an agent.

use std::{
    io,
    net::SocketAddr,
    time::{Duration, Instant},
};

use homa_report::summary::UnloadedTime;

use crate::{
    network::Network,
    process::{Process, Silence},
    spec::{HostSpec, LoadSummary, Order, Report, Status},
    watch::{Watch, interrupted},
};

/// Time for an agent to start.
const START_TIMEOUT: Duration = Duration::from_secs(20);
/// Time for everything that is done without load.
const ORDER_TIMEOUT: Duration = Duration::from_secs(120);

/// An agent under way; dropping it ends it.
pub(crate) struct Agent<'a> {
    host: u32,
    address: SocketAddr,
    timer_us: f64,
    process: Process,
    watch: &'a dyn Watch,
}

impl<'a> Agent<'a> {
    /// Starts an agent and waits until it serves.
    pub(crate) fn start(
        network: &dyn Network,
        spec: &HostSpec,
        watch: &'a dyn Watch,
    ) -> io::Result<Self> {
        let process = Process::new(network.start_agent(spec.host, &spec.transport)?);
        let address = SocketAddr::new(spec.listen, spec.port);
        let mut agent = Agent { host: spec.host, address, timer_us: 0.0, process, watch };
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
        self.process.end();
    }

    fn write(&mut self, order: &impl serde::Serialize) -> io::Result<()> {
        self.process.tell(order).map_err(|error| self.failed(&error.to_string()))
    }

    fn receive(&mut self, timeout: Duration) -> io::Result<Report> {
        let line = match self.process.hear(timeout, self.watch) {
            Ok(line) => line,
            Err(Silence::Stopped) => return Err(interrupted()),
            Err(silence) => return Err(self.failed(&silence.to_string())),
        };
        match serde_json::from_str(&line) {
            Ok(Report::Failed { reason }) => Err(self.failed(&reason)),
            Ok(report) => Ok(report),
            Err(error) => Err(self.failed(&format!("said what is no report: {error}"))),
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
