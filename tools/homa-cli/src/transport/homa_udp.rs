//! Homa, awaited by threads and by tasks.

use std::{
    collections::{HashMap, VecDeque},
    io,
    net::{Ipv4Addr, SocketAddr},
    thread,
    time::{Duration, Instant},
};

use bytes::{Buf, Bytes};
use foldhash::fast::FixedState;
use homa_bench::pair::{CPU_REQUEST, Record, TaskClient};
use homa_transport::{
    AcceptError, BindError, Body, CallError, CallErrorKind, CallId, CallSet, Carriage, Endpoint,
    EndpointBuilder, Message, Request,
};

use super::{
    Answer, Client, Outcome, Pipeline, Protocol, ReceiveBuffer, Responder, Settings, Wait, no_reply,
};
use crate::{body::ORDER_BYTES, error::CliError};

/// Answers taken per poll, so that a busy client gets to send too.
const BATCH: usize = 256;

/// Requests that wait for their delayed reply; further ones are answered without delay.
const DELAYED_MAX: usize = 100_000;

/// A server without delayed replies looks this often whether it has become one; it never does.
const IDLE: Duration = Duration::from_secs(3_600);

/// An endpoint set up by these settings.
fn builder(protocol: Protocol, settings: &Settings) -> EndpointBuilder {
    let (driver, xdp) = settings.driver.choice();
    let builder = EndpointBuilder::new()
        .driver(driver)
        .xdp(xdp)
        .max_message_bytes(settings.message_bytes_max)
        .carriage(protocol.carriage().unwrap_or(Carriage::Udp))
        .tcp_encapsulated(protocol == Protocol::HomaIpTcp);
    let builder = match settings.receive_buffer {
        ReceiveBuffer::Large => builder,
        ReceiveBuffer::Stock => builder.stock_receive_buffer(),
    };
    match settings.wait {
        Wait::Busy => builder.busy_poll(true),
        Wait::Sleep if settings.spin => builder,
        Wait::Sleep => builder.spin(Duration::ZERO),
    }
}

/// Opens a client of some servers. It needs a socket of their IP version only, which takes less
/// time per packet.
fn open_client(
    protocol: Protocol,
    servers: &[SocketAddr],
    settings: &Settings,
) -> Result<Endpoint, CliError> {
    let mut builder = builder(protocol, settings);
    let all_v4 = servers.iter().all(|server| server.ip().to_canonical().is_ipv4());
    if protocol.carriage() == Some(Carriage::Udp) && all_v4 {
        builder = builder.client_ip(Ipv4Addr::UNSPECIFIED.into());
    }
    let any = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
    let first = servers.first().copied().unwrap_or(any);
    let endpoint = builder.client().map_err(|error| client_failed(protocol, first, error))?;
    settings.driver.say(&endpoint);
    Ok(endpoint)
}

/// A client of some servers.
#[derive(Debug)]
pub(crate) struct HomaClient {
    servers: Vec<SocketAddr>,
    /// When a call of many is given up.
    timeout: Option<Duration>,
    wait: Wait,
    // Before the endpoint, which would wait for its calls.
    calls: CallSet,
    tokens: HashMap<CallId, (u64, SocketAddr), FixedState>,
    endpoint: Endpoint,
}

impl HomaClient {
    /// A client; nothing is sent yet.
    pub(crate) fn new(
        protocol: Protocol,
        servers: &[SocketAddr],
        settings: &Settings,
        timeout: Option<Duration>,
    ) -> Result<Self, CliError> {
        let endpoint = open_client(protocol, servers, settings)?;
        let (servers, calls) = (servers.to_vec(), endpoint.call_set());
        let (wait, tokens) = (settings.wait, HashMap::default());
        Ok(HomaClient { servers, timeout, wait, calls, tokens, endpoint })
    }

    fn server(&self, number: usize) -> Result<SocketAddr, CliError> {
        let server = self.servers.get(number).copied();
        server.ok_or_else(|| CliError::Transport(format!("no server {number}")))
    }

    fn reason(&self, server: SocketAddr, error: &CallError) -> String {
        match (error.kind(), self.timeout) {
            (CallErrorKind::DeadlineExceeded { .. }, Some(timeout)) => no_reply(server, timeout),
            _ => error.to_string(),
        }
    }
}

impl Client for HomaClient {
    fn call(
        &mut self,
        body: &Bytes,
        timeout: Duration,
        sink: &mut dyn FnMut(&mut dyn Buf),
    ) -> Result<(), CliError> {
        let call = self.endpoint.call(self.server(0)?, body.clone()).timeout(timeout);
        sink(&mut call.wait().map_err(|error| CliError::Transport(error.to_string()))?);
        Ok(())
    }
}

impl Pipeline for HomaClient {
    fn start(&mut self, token: u64, server: usize, body: &Bytes) -> Result<(), CliError> {
        let server = self.server(server)?;
        let mut call = self.endpoint.call(server, body.clone());
        if let Some(timeout) = self.timeout {
            call = call.timeout(timeout);
        }
        let added = self.calls.add(call).wait();
        let id = added.map_err(|error| CliError::Transport(self.reason(server, &error)))?;
        self.tokens.insert(id, (token, server));
        Ok(())
    }

    fn poll(
        &mut self,
        until: Instant,
        sink: &mut dyn FnMut(u64, Outcome<'_>),
    ) -> Result<usize, CliError> {
        let left = until.saturating_duration_since(Instant::now());
        if self.calls.is_empty() && self.wait == Wait::Sleep {
            thread::sleep(left);
            return Ok(0);
        }
        let mut next = self.calls.join_next().wait_timeout(left);
        let mut ended = 0;
        while let Some(Some((call, answer))) = next {
            ended += 1;
            if let Some((token, server)) = self.tokens.remove(&call) {
                match answer {
                    Ok(mut reply) => sink(token, Ok(&mut reply)),
                    Err(error) => sink(token, Err(self.reason(server, &error))),
                }
            }
            if ended == BATCH {
                break;
            }
            next = self.calls.join_next().try_wait();
        }
        Ok(ended)
    }
}

/// An endpoint that serves at this address.
pub(crate) fn bind(
    protocol: Protocol,
    address: SocketAddr,
    settings: &Settings,
) -> Result<Endpoint, CliError> {
    let bound = builder(protocol, settings).bind(address);
    let endpoint = bound.map_err(|error| bind_failed(protocol, address, error))?;
    settings.driver.say(&endpoint);
    Ok(endpoint)
}

/// Serves for ever; each reply leaves `delay` after its request arrived.
pub(crate) fn serve(
    endpoint: &Endpoint,
    responder: &Responder,
    delay: Duration,
) -> Result<(), CliError> {
    if delay.is_zero() {
        loop {
            reply(endpoint.accept().wait().map_err(accept_failed)?, responder);
        }
    }
    let mut waiting: VecDeque<(Instant, Request)> = VecDeque::new();
    loop {
        let now = Instant::now();
        while waiting.front().is_some_and(|(due, _)| *due <= now) {
            if let Some((_, request)) = waiting.pop_front() {
                reply(request, responder);
            }
        }
        let left = waiting.front().map_or(IDLE, |(due, _)| due.saturating_duration_since(now));
        match endpoint.accept().wait_timeout(left).transpose().map_err(accept_failed)? {
            Some(request) if waiting.len() < DELAYED_MAX => {
                waiting.push_back((Instant::now() + delay, request));
            }
            Some(request) => reply(request, responder),
            None => {}
        }
    }
}

fn reply(mut request: Request, responder: &Responder) {
    let body = request.take_body();
    // A client that no longer waits for its reply is no failure of the server.
    let _ = request.reply(answer(body, responder)).wait();
}

/// Serves for ever, on a tokio runtime.
pub(crate) async fn serve_tokio(endpoint: &Endpoint, responder: &Responder) -> io::Result<()> {
    loop {
        let mut request = endpoint.accept().await?;
        let body = request.take_body();
        // A client that no longer waits for its reply is no failure of the server.
        let _ = request.reply(answer(body, responder)).await;
    }
}

fn answer(body: Message, responder: &Responder) -> Body {
    let length = body.len();
    let mut head = [0; ORDER_BYTES];
    let head = &mut head[..length.min(ORDER_BYTES)];
    copy_front(&body, head);
    match responder.answer(head, length) {
        Answer::Echo => body,
        Answer::Bytes(bytes) => bytes.into(),
    }
}

/// Copies the first bytes of a message, which may lie in several chunks.
fn copy_front(message: &Message, mut target: &mut [u8]) {
    for chunk in message.chunks() {
        let count = chunk.len().min(target.len());
        let (front, rest) = target.split_at_mut(count);
        front.copy_from_slice(&chunk[..count]);
        target = rest;
        if target.is_empty() {
            return;
        }
    }
}

/// A client on a tokio runtime.
#[derive(Debug, Clone)]
pub(crate) struct TokioClient {
    server: SocketAddr,
    endpoint: Endpoint,
}

impl TokioClient {
    /// A client; nothing is sent yet.
    pub(crate) fn new(
        protocol: Protocol,
        server: SocketAddr,
        settings: &Settings,
    ) -> Result<Self, CliError> {
        let endpoint = open_client(protocol, &[server], settings)?;
        Ok(TokioClient { server, endpoint })
    }

    /// One call; returns the reply.
    pub(crate) async fn call(&self, body: &Bytes) -> io::Result<Message> {
        Ok(self.endpoint.call(self.server, body.clone()).await?)
    }
}

impl TaskClient for TokioClient {
    async fn call(&self, request: Bytes) -> io::Result<usize> {
        Ok(TokioClient::call(self, &request).await?.len())
    }

    async fn server_cpu_ns(&self) -> io::Result<u64> {
        let mut reply = TokioClient::call(self, &Bytes::from_static(&CPU_REQUEST)).await?;
        // A server that is not one of ours does not tell.
        Ok(if reply.len() == 8 { reply.get_u64_le() } else { 0 })
    }

    /// Several calls of one task are a set.
    async fn task(self, request: Bytes, outstanding: u32, record: Record) -> io::Result<()> {
        let mut now = Instant::now();
        while outstanding == 1 && record.wants_more() {
            let answer = TokioClient::call(&self, &request).await?;
            now = record.ended(now, request.len() + answer.len());
        }
        if outstanding == 1 {
            return Ok(());
        }
        let mut calls = self.endpoint.call_set();
        let mut begun: HashMap<CallId, Instant, FixedState> = HashMap::default();
        for _ in 0..outstanding {
            let id = calls.add(self.endpoint.call(self.server, request.clone())).await?;
            begun.insert(id, now);
        }
        while let Some((id, answer)) = calls.join_next().await {
            let answer_bytes = answer?.len();
            let since = begun.remove(&id).unwrap_or(now);
            now = record.ended(since, request.len() + answer_bytes);
            if record.wants_more() {
                let id = calls.add(self.endpoint.call(self.server, request.clone())).await?;
                begun.insert(id, now);
            }
        }
        Ok(())
    }
}

fn bind_failed(protocol: Protocol, address: SocketAddr, error: BindError) -> CliError {
    CliError::Bind { address, protocol: protocol.name(), source: system_error(error) }
}

/// Why calls to a server cannot be made.
fn client_failed(protocol: Protocol, server: SocketAddr, error: BindError) -> CliError {
    CliError::Client { address: server, protocol: protocol.name(), source: system_error(error) }
}

fn system_error(error: BindError) -> io::Error {
    match error {
        BindError::InUse { .. } => io::ErrorKind::AddrInUse.into(),
        BindError::Socket { reason, .. } => reason,
        other => io::Error::other(other),
    }
}

fn accept_failed(error: AcceptError) -> CliError {
    CliError::Transport(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_front_of_a_message_is_found_across_its_chunks() {
        let mut message = Message::new();
        for chunk in [&b"ab"[..], b"", b"cdefg", b"hijklmnopqrstuv"] {
            message.push(Bytes::from_static(chunk));
        }
        let mut front = [0; 16];
        copy_front(&message, &mut front);
        assert_eq!(&front, b"abcdefghijklmnop");
        let mut short = [0; 3];
        copy_front(&message, &mut short);
        assert_eq!(&short, b"abc");
    }
}
