//! gRPC with tonic: unary calls over HTTP/2 without TLS, a channel per pair of hosts (or more).
//!
//! As TCP's agent: Nagle's algorithm is off at both ends, the congestion control is the system's.
//! Windows of HTTP/2 never limit: a stream's is the longest message, a channel's a thousand of 1 MB
//! (by default 64 kB each). Frames have the default length, 16 kB, so that streams share a channel
//! in turns. No deadline, no compression.

mod codec;
mod server;

use std::{
    io,
    net::{SocketAddr, TcpListener},
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use homa_bench::{
    agent::{Counters, Ended, Mesh, Tasks, snmp_counter},
    pair::{self, CALL_TIMEOUT, CPU_REQUEST, Closed, Outcome, TaskClient},
    spec::HostSpec,
};
use http::uri::PathAndQuery;
use socket2::{Domain, Protocol, Socket, Type};
use tonic::{
    Request,
    client::Grpc,
    transport::{Channel, Endpoint},
};

use self::codec::BytesCodec;
use crate::{
    messages::{Messages, cpu_ns},
    pool::Pool,
};

/// The method that is called.
const METHOD: &str = "/homa.bench.Peer/Call";
/// RPCs of a channel under way: more than those of a usual load.
const STREAMS_MAX: u32 = 16_384;
/// Unread bytes per channel: a thousand messages of 1 MB.
const CHANNEL_BYTES_MAX: u32 = 1 << 30;
/// Connections that may wait to be accepted.
const BACKLOG: i32 = 1_024;

/// A host that speaks gRPC.
#[derive(Debug)]
pub struct GrpcMesh {
    tasks: Tasks,
    address: SocketAddr,
    per_pair: u32,
    messages: Messages,
    addresses: Vec<SocketAddr>,
    servers: Vec<Pool<Channel>>,
}

impl GrpcMesh {
    /// Binds and serves as the specification says; calls go over `per_pair` channels to each
    /// server.
    ///
    /// # Errors
    /// What the system says.
    pub fn new(spec: &HostSpec, per_pair: u32) -> io::Result<Self> {
        let tasks = Tasks::new()?;
        let listener = listen(SocketAddr::new(spec.listen, spec.port))?;
        let address = listener.local_addr()?;
        let messages = Messages::new(spec);
        let listener = tasks.within(|| tokio::net::TcpListener::from_std(listener))?;
        tasks.spawn(server::serve(listener, messages.clone()));
        Ok(GrpcMesh {
            tasks,
            address,
            per_pair,
            messages,
            addresses: Vec::new(),
            servers: Vec::new(),
        })
    }

    /// Measures calls that tasks make to a server.
    ///
    /// # Errors
    /// It cannot be reached, or a call failed.
    pub fn measure(&mut self, server: SocketAddr, load: &Closed) -> io::Result<Outcome> {
        let pool = self.tasks.wait_for(CALL_TIMEOUT, self.reach(server, CALL_TIMEOUT))?;
        let client = Client { pool: Arc::new(pool), messages: self.messages.clone() };
        let request = self.messages.request(load.request_bytes as usize);
        self.tasks.wait_for(load.timeout() * 2, pair::closed(client, request, load))
    }

    /// Channels to a server, each of which has carried a call: the settings of both ends are known.
    async fn reach(&self, server: SocketAddr, timeout: Duration) -> io::Result<Pool<Channel>> {
        let mut channels = Vec::new();
        for _ in 0..self.per_pair {
            let endpoint = Endpoint::from_shared(format!("http://{server}"))
                .map_err(io::Error::other)?
                .tcp_nodelay(true)
                .connect_timeout(timeout)
                .buffer_size(STREAMS_MAX as usize)
                .initial_stream_window_size(stream_window(&self.messages))
                .initial_connection_window_size(CHANNEL_BYTES_MAX);
            let channel = endpoint.connect().await.map_err(io::Error::other)?;
            if !call(channel.clone(), self.messages.clone(), self.messages.request(1)).await {
                return Err(io::Error::other(format!("{server} gives no answer")));
            }
            channels.push(channel);
        }
        Ok(Pool::new(channels))
    }
}

impl Mesh for GrpcMesh {
    fn address(&self) -> SocketAddr {
        self.address
    }

    fn connect(&mut self, servers: &[SocketAddr], timeout: Duration) -> io::Result<()> {
        // Channels open their connection again by themselves.
        if self.addresses == servers {
            return Ok(());
        }
        self.servers.clear();
        for server in servers {
            let pool = self.tasks.wait_for(timeout, self.reach(*server, timeout))?;
            self.servers.push(pool);
        }
        self.addresses = servers.to_vec();
        Ok(())
    }

    fn start(&mut self, token: u64, server: usize, bytes: usize) -> io::Result<()> {
        let request = self.messages.request(bytes);
        let both_ways = request.len() + self.messages.answer_bytes(bytes);
        let pool = self.servers.get(server).ok_or(io::ErrorKind::AddrNotAvailable)?;
        let (channel, under_way) = pool.choose(both_ways).ok_or(io::ErrorKind::NotConnected)?;
        let (channel, messages) = (channel.clone(), self.messages.clone());
        self.tasks.start(token, async move {
            let ok = call(channel, messages, request).await;
            drop(under_way);
            ok
        });
        Ok(())
    }

    fn poll(&mut self, until: Instant, ended: &mut Vec<Ended>) -> io::Result<()> {
        self.tasks.poll(until, ended)
    }

    fn counters(&self) -> Counters {
        Counters {
            retransmitted_packets: snmp_counter("Tcp", "RetransSegs"),
            ..Counters::default()
        }
    }
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// Window of a stream: the longest message with its prefix.
fn stream_window(messages: &Messages) -> u32 {
    u32::try_from(messages.bytes_max() + 1_024).unwrap_or(u32::MAX).clamp(65_535, CHANNEL_BYTES_MAX)
}

/// Whether a call got its answer.
async fn call(channel: Channel, messages: Messages, request: Bytes) -> bool {
    let bytes = request.len();
    let answer = exchange(channel, &messages, request).await;
    answer.is_ok_and(|answer| messages.is_answer(bytes, &answer))
}

/// What a request is answered with.
async fn exchange(channel: Channel, messages: &Messages, request: Bytes) -> io::Result<Bytes> {
    let mut client = Grpc::new(channel)
        .max_decoding_message_size(messages.bytes_max())
        .max_encoding_message_size(messages.bytes_max());
    client.ready().await.map_err(io::Error::other)?;
    let path = PathAndQuery::from_static(METHOD);
    let answer = client.unary(Request::new(request), path, BytesCodec).await;
    Ok(answer.map_err(io::Error::other)?.into_inner())
}

/// The client of the tasks of one process.
#[derive(Debug, Clone)]
struct Client {
    pool: Arc<Pool<Channel>>,
    messages: Messages,
}

impl Client {
    async fn exchange(&self, request: Bytes) -> io::Result<Bytes> {
        let (channel, _under_way) =
            self.pool.choose(request.len()).ok_or(io::ErrorKind::NotConnected)?;
        exchange(channel.clone(), &self.messages, request).await
    }
}

impl TaskClient for Client {
    async fn call(&self, request: Bytes) -> io::Result<usize> {
        Ok(self.exchange(request).await?.len())
    }

    async fn server_cpu_ns(&self) -> io::Result<u64> {
        cpu_ns(&self.exchange(Bytes::from_static(&CPU_REQUEST)).await?)
    }
}
