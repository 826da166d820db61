//! Many calls at a time from one thread, and many clients served by one.

use std::{
    io,
    net::{SocketAddr, TcpListener},
    time::{Duration, Instant},
};

use bytes::Bytes;
use homa_bench::tcp::{Host, Pace};

use super::CONNECT_TIMEOUT;
use crate::{
    error::CliError,
    transport::{Outcome, Pipeline, Responder, Settings},
};

/// How long a server waits at a time.
const IDLE: Duration = Duration::from_secs(3_600);

/// A pool of connections to one server.
pub(crate) struct Connections {
    server: SocketAddr,
    host: Host,
}

impl Connections {
    /// Connects to a server.
    pub(crate) fn open(server: SocketAddr, settings: &Settings) -> Result<Self, CliError> {
        let mut host =
            Host::client(&settings.tcp()).map_err(|error| CliError::io("epoll", &error))?;
        host.connect(server, CONNECT_TIMEOUT).map_err(|source| CliError::Connect {
            address: server,
            protocol: "tcp",
            source,
        })?;
        Ok(Connections { server, host })
    }

    fn failed(&self, error: &io::Error) -> CliError {
        CliError::io(&format!("tcp connection to {}", self.server), error)
    }
}

impl Pipeline for Connections {
    fn start(&mut self, token: u64, server: usize, body: &Bytes) -> Result<(), CliError> {
        self.host.start(token, server, body).map_err(|error| self.failed(&error))
    }

    fn poll(
        &mut self,
        until: Instant,
        sink: &mut dyn FnMut(u64, Outcome<'_>),
    ) -> Result<usize, CliError> {
        let ended = self.host.poll(until, &mut |token, reply| {
            if let Some(mut reply) = reply {
                sink(token, Ok(&mut reply));
            }
        });
        // What is lost with one connection cannot be told from what the others will answer.
        match ended.and_then(|ended| self.host.take_lost().map_or(Ok(ended), Err)) {
            Ok(ended) => Ok(ended),
            Err(error) => Err(self.failed(&error)),
        }
    }
}

/// Serves for ever; each reply leaves `delay` after its request arrived.
pub(crate) fn serve(
    listener: TcpListener,
    settings: &Settings,
    responder: &Responder,
    delay: Duration,
) -> Result<(), CliError> {
    let failed = |error: io::Error| CliError::io("tcp server", &error);
    let pace = if delay.is_zero() { Pace::AtOnce } else { Pace::After(delay) };
    let responder = responder.clone();
    let answer = move |request: &[u8]| responder.answer(request, request.len());
    let mut host = Host::server(listener, &settings.tcp(), pace, answer).map_err(failed)?;
    loop {
        host.poll(Instant::now() + IDLE, &mut |_, _| {}).map_err(failed)?;
    }
}
