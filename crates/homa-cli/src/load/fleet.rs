//! The servers of a run, called through one client.

use std::{
    collections::HashMap,
    net::{Ipv4Addr, SocketAddr},
    thread,
    time::{Duration, Instant},
};

use bytes::{Buf, Bytes};
use foldhash::fast::FixedState;
use homa_transport::{
    CallError, CallOptions, Carriage,
    blocking::{CallId, CallSet, Endpoint},
};

use super::plan::Plan;
use crate::{
    error::CliError,
    serve::settings,
    transport::{Api, Client, Protocol, Settings, connect::connect, homa_udp},
};

/// Ends taken per poll, so that a busy client gets to begin calls too.
const BATCH: usize = 256;

/// How a call ended: length of the reply in bytes, or the kind of failure.
pub(super) type End = Result<usize, String>;

/// Servers that can be called.
pub(super) trait Fleet {
    /// Begins a call to the server of this number, which [`Fleet::poll`] reports with `token`.
    ///
    /// Fails with the kind of failure where that is known at once.
    fn start(&mut self, token: u64, server: usize, body: Bytes) -> Result<(), String>;

    /// Reports calls that ended; waits for the first one, at most to `until`.
    fn poll(&mut self, until: Instant, ended: &mut dyn FnMut(u64, End)) -> Result<(), CliError>;

    /// What a call to this server that got no reply in time is counted as.
    fn timed_out(&self, server: usize) -> String;
}

/// A client for the servers of a plan.
pub(super) fn open(plan: &Plan, busy: bool) -> Result<Box<dyn Fleet>, CliError> {
    let settings = settings(busy, plan.message_bytes_max());
    match (plan.protocol, plan.servers.first()) {
        (Protocol::Tcp, Some(server)) => {
            let client = connect(Protocol::Tcp, Api::Event, *server, &settings)?;
            Ok(Box::new(One { client, server: *server, timeout: plan.timeout }))
        }
        _ => Ok(Box::new(Many::new(plan, &settings)?)),
    }
}

/// Homa: one endpoint calls all servers.
struct Many {
    servers: Vec<SocketAddr>,
    timeout: Duration,
    // Before the endpoint, which would wait for its calls.
    calls: CallSet,
    tokens: HashMap<CallId, (u64, usize), FixedState>,
    _endpoint: Endpoint,
}

impl Many {
    fn new(plan: &Plan, settings: &Settings) -> Result<Self, CliError> {
        let any = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
        let first = plan.servers.first().copied().unwrap_or(any);
        let mut builder = homa_udp::builder(plan.protocol, settings);
        // A socket of one IP version takes less time per packet.
        let all_v4 = plan.servers.iter().all(|server| server.ip().to_canonical().is_ipv4());
        if plan.protocol.carriage() == Some(Carriage::Udp) && all_v4 {
            builder = builder.client_ip(Ipv4Addr::UNSPECIFIED.into());
        }
        let endpoint = builder
            .client_blocking()
            .map_err(|error| homa_udp::client_failed(plan.protocol, first, error))?;
        Ok(Many {
            servers: plan.servers.clone(),
            timeout: plan.timeout,
            calls: endpoint.call_set(),
            tokens: HashMap::default(),
            _endpoint: endpoint,
        })
    }

    fn kind(&self, server: usize, error: &CallError) -> String {
        match error {
            CallError::DeadlineExceeded { .. } => self.timed_out(server),
            other => other.to_string(),
        }
    }
}

impl Fleet for Many {
    fn start(&mut self, token: u64, server: usize, body: Bytes) -> Result<(), String> {
        // Numbers come from the plan that named the servers.
        let Some(address) = self.servers.get(server).copied() else {
            return Err(format!("no server {server}"));
        };
        let options = CallOptions::new().timeout(self.timeout);
        let call = self
            .calls
            .start_with(address, body, options)
            .map_err(|error| self.kind(server, &error))?;
        self.tokens.insert(call, (token, server));
        Ok(())
    }

    fn poll(&mut self, until: Instant, ended: &mut dyn FnMut(u64, End)) -> Result<(), CliError> {
        let left = until.saturating_duration_since(Instant::now());
        if self.calls.is_empty() {
            thread::sleep(left);
            return Ok(());
        }
        let mut next = self.calls.wait_timeout(left);
        let mut taken = 0;
        while let Some((call, answer)) = next {
            if let Some((token, server)) = self.tokens.remove(&call) {
                let end = match answer {
                    Ok(reply) => Ok(reply.remaining()),
                    Err(error) => Err(self.kind(server, &error)),
                };
                ended(token, end);
            }
            taken += 1;
            next = if taken < BATCH { self.calls.try_next() } else { None };
        }
        Ok(())
    }

    fn timed_out(&self, server: usize) -> String {
        timed_out(self.servers.get(server), self.timeout)
    }
}

/// TCP: the one server.
struct One {
    client: Box<dyn Client>,
    server: SocketAddr,
    timeout: Duration,
}

impl Fleet for One {
    fn start(&mut self, token: u64, _: usize, body: Bytes) -> Result<(), String> {
        self.client.start(token, &body).map_err(|error| error.to_string())
    }

    fn poll(&mut self, until: Instant, ended: &mut dyn FnMut(u64, End)) -> Result<(), CliError> {
        self.client.poll(until, &mut |token, outcome| {
            ended(token, outcome.map(|reply| reply.remaining()));
        })?;
        Ok(())
    }

    fn timed_out(&self, _: usize) -> String {
        timed_out(Some(&self.server), self.timeout)
    }
}

fn timed_out(server: Option<&SocketAddr>, timeout: Duration) -> String {
    let server = server.map_or_else(String::new, |server| format!(" from {server}"));
    format!("no reply{server} within {timeout:?}")
}
