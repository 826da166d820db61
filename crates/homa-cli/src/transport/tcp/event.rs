//! Many calls at a time from one thread, and many clients served by one.

use std::{
    io,
    net::{SocketAddr, TcpListener},
    time::{Duration, Instant},
};

use bytes::{Buf, Bytes};
use homa_bench::tcp::{Host, Pace};

use super::CONNECT_TIMEOUT;
use crate::{
    error::CliError,
    transport::{Client, Outcome, Responder, Settings, no_reply},
};

/// The token of [`Client::call`], which no caller of `start` uses.
const CALL_TOKEN: u64 = u64::MAX >> 1;

/// How long a server waits at a time.
const IDLE: Duration = Duration::from_secs(3_600);

/// A pool of connections to one server.
pub(crate) struct EventClient {
    server: SocketAddr,
    host: Host,
}

impl EventClient {
    /// Connects to a server.
    pub(crate) fn connect(server: SocketAddr, settings: &Settings) -> Result<Self, CliError> {
        let mut host =
            Host::client(&settings.tcp()).map_err(|error| CliError::io("epoll", &error))?;
        host.connect(server, CONNECT_TIMEOUT).map_err(|source| CliError::Connect {
            address: server,
            protocol: "tcp",
            source,
        })?;
        Ok(EventClient { server, host })
    }

    fn failed(&self, error: &io::Error) -> CliError {
        CliError::io(&format!("tcp connection to {}", self.server), error)
    }
}

impl Client for EventClient {
    fn call(
        &mut self,
        body: &Bytes,
        timeout: Duration,
        sink: &mut dyn FnMut(&mut dyn Buf),
    ) -> Result<(), CliError> {
        let deadline = Instant::now() + timeout;
        self.start(CALL_TOKEN, 0, body)?;
        let mut done = false;
        while !done {
            self.poll(deadline, &mut |token, outcome| {
                if let (CALL_TOKEN, Ok(reply)) = (token, outcome) {
                    sink(reply);
                    done = true;
                }
            })?;
            if !done && Instant::now() >= deadline {
                return Err(CliError::Transport(no_reply(self.server, timeout)));
            }
        }
        Ok(())
    }

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
