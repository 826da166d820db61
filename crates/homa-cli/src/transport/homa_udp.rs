//! Homa, through the library's blocking and async interfaces.

use std::{
    collections::{HashMap, VecDeque},
    io,
    net::{Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};

use bytes::{Buf, Bytes};
use foldhash::fast::FixedState;
use homa_transport::{
    BindError, Body, CallError, CallOptions, Carriage, EndpointBuilder, Message,
    blocking::{CallId, CallSet, Endpoint, Request},
};

use super::{Answer, Client, Outcome, Protocol, ReceiveBuffer, Responder, Settings, Wait};
use crate::{body::ORDER_BYTES, error::CliError};

/// Answers taken per poll, so that a busy client gets to send too.
const BATCH: usize = 256;

/// Requests that wait for their delayed reply; further ones are answered without delay.
const DELAYED_MAX: usize = 100_000;

/// A server without delayed replies looks this often whether it has become one; it never does.
const IDLE: Duration = Duration::from_secs(3_600);

/// An endpoint set up by these settings.
pub(crate) fn builder(protocol: Protocol, settings: &Settings) -> EndpointBuilder {
    let builder = EndpointBuilder::new()
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

/// Opens a client of one server. It needs a socket of that server's IP version only, which takes less time per
/// packet.
fn open_client<T>(
    protocol: Protocol,
    server: SocketAddr,
    settings: &Settings,
    open: impl FnOnce(EndpointBuilder) -> Result<T, BindError>,
) -> Result<T, CliError> {
    let mut builder = builder(protocol, settings);
    if protocol.carriage() == Some(Carriage::Udp) && server.ip().to_canonical().is_ipv4() {
        builder = builder.client_ip(Ipv4Addr::UNSPECIFIED.into());
    }
    open(builder).map_err(|error| client_failed(protocol, server, error))
}

/// A client of one server.
#[derive(Debug)]
pub(crate) struct HomaClient {
    server: SocketAddr,
    endpoint: Endpoint,
    calls: CallSet,
    tokens: HashMap<CallId, u64, FixedState>,
}

impl HomaClient {
    /// A client; nothing is sent yet.
    pub(crate) fn new(
        protocol: Protocol,
        server: SocketAddr,
        settings: &Settings,
    ) -> Result<Self, CliError> {
        let endpoint = open_client(protocol, server, settings, EndpointBuilder::client_blocking)?;
        let calls = endpoint.call_set();
        Ok(HomaClient { server, endpoint, calls, tokens: HashMap::default() })
    }
}

impl Client for HomaClient {
    fn call(
        &mut self,
        body: &Bytes,
        timeout: Duration,
        sink: &mut dyn FnMut(&mut dyn Buf),
    ) -> Result<(), CliError> {
        let options = CallOptions::new().timeout(timeout);
        let mut reply =
            self.endpoint.call_with(self.server, body.clone(), options).map_err(call_failed)?;
        sink(&mut reply);
        Ok(())
    }

    fn start(&mut self, token: u64, body: &Bytes) -> Result<(), CliError> {
        let call = self.calls.start(self.server, body.clone()).map_err(call_failed)?;
        self.tokens.insert(call, token);
        Ok(())
    }

    fn poll(
        &mut self,
        until: Instant,
        sink: &mut dyn FnMut(u64, Outcome<'_>),
    ) -> Result<usize, CliError> {
        let left = until.saturating_duration_since(Instant::now());
        let mut next = self.calls.wait_timeout(left);
        let mut ended = 0;
        while let Some((call, answer)) = next {
            ended += 1;
            if let Some(token) = self.tokens.remove(&call) {
                match answer {
                    Ok(mut reply) => sink(token, Ok(&mut reply)),
                    Err(error) => sink(token, Err(error.to_string())),
                }
            }
            if ended == BATCH {
                break;
            }
            next = self.calls.try_next();
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
    builder(protocol, settings)
        .bind_blocking(address)
        .map_err(|error| bind_failed(protocol, address, error))
}

/// Serves for ever; each reply leaves `delay` after its request arrived.
pub(crate) fn serve(
    endpoint: &Endpoint,
    responder: &Responder,
    delay: Duration,
) -> Result<(), CliError> {
    if delay.is_zero() {
        while let Some(request) = endpoint.accept().map_err(accept_failed)? {
            reply(request, responder);
        }
        return Ok(());
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
        match endpoint.accept_timeout(left).map_err(accept_failed)? {
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
    let _ = request.reply(answer(body, responder));
}

/// Serves for ever, on a tokio runtime.
pub(crate) async fn serve_tokio(
    endpoint: &homa_transport::Endpoint,
    responder: &Responder,
) -> io::Result<()> {
    while let Some(mut request) = endpoint.accept().await.map_err(io::Error::other)? {
        let body = request.take_body();
        // A client that no longer waits for its reply is no failure of the server.
        let _ = request.reply(answer(body, responder)).await;
    }
    Ok(())
}

fn answer(body: Message, responder: &Responder) -> Body {
    let length = body.len();
    let mut head = [0; ORDER_BYTES];
    let head = &mut head[..length.min(ORDER_BYTES)];
    copy_front(&body, head);
    match responder.answer(head, length) {
        Answer::Echo => body.into(),
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
#[derive(Debug)]
pub(crate) struct TokioClient {
    server: SocketAddr,
    endpoint: homa_transport::Endpoint,
}

impl TokioClient {
    /// A client; nothing is sent yet.
    pub(crate) fn new(
        protocol: Protocol,
        server: SocketAddr,
        settings: &Settings,
    ) -> Result<Self, CliError> {
        open_client(protocol, server, settings, EndpointBuilder::client)
            .map(|endpoint| TokioClient { server, endpoint })
    }

    /// One call; returns the reply.
    pub(crate) async fn call(&mut self, body: &Bytes) -> io::Result<Message> {
        self.endpoint.call(self.server, body.clone()).await.map_err(io::Error::other)
    }
}

fn bind_failed(protocol: Protocol, address: SocketAddr, error: BindError) -> CliError {
    CliError::Bind { address, protocol: protocol.name(), source: system_error(error) }
}

/// Why calls to a server cannot be made.
pub(crate) fn client_failed(protocol: Protocol, server: SocketAddr, error: BindError) -> CliError {
    CliError::Client { address: server, protocol: protocol.name(), source: system_error(error) }
}

fn system_error(error: BindError) -> io::Error {
    match error {
        BindError::InUse { .. } => io::ErrorKind::AddrInUse.into(),
        BindError::Socket { reason, .. } => reason,
        other => io::Error::other(other),
    }
}

fn call_failed(error: CallError) -> CliError {
    CliError::Transport(error.to_string())
}

fn accept_failed(error: homa_transport::AcceptError) -> CliError {
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
