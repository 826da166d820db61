//! QUIC with quinn: a connection per pair of hosts (or more), a stream per RPC that ends with the
//! message's end.

mod settings;
mod tls;
mod traffic;

use std::{
    io,
    net::{SocketAddr, UdpSocket},
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use homa_bench::{
    agent::{Counters, Ended, Mesh, Tasks, snmp_counter},
    pair::{self, CALL_TIMEOUT, CPU_REQUEST, Closed, Outcome, TaskClient},
    spec::HostSpec,
};
use quinn::{Connection, Endpoint, RecvStream, SendStream, TokioRuntime};
use rustix::net::sockopt;

use self::traffic::Traffic;
use crate::{
    messages::{Messages, cpu_ns},
    pool::Pool,
};

/// Receive buffer of the socket, in bytes, as far as the system grants it; Homa asks for as much.
const RECEIVE_BUFFER_BYTES: usize = 8 << 20;

/// A host that speaks QUIC.
#[derive(Debug)]
pub struct QuicMesh {
    tasks: Tasks,
    endpoint: Endpoint,
    address: SocketAddr,
    per_pair: u32,
    messages: Messages,
    traffic: Arc<Traffic>,
    addresses: Vec<SocketAddr>,
    servers: Vec<Pool<Connection>>,
}

impl QuicMesh {
    /// Binds and serves as the specification says; calls go over `per_pair` connections to each
    /// server.
    ///
    /// # Errors
    /// What the system says.
    pub fn new(spec: &HostSpec, per_pair: u32) -> io::Result<Self> {
        let tasks = Tasks::new()?;
        let socket = bind(spec)?;
        let transport = Arc::new(settings::transport(spec));
        let mut server = tls::server().map_err(io::Error::other)?;
        server.transport_config(Arc::clone(&transport));
        let mut client = tls::client().map_err(io::Error::other)?;
        client.transport_config(transport);
        let mut endpoint = tasks.within(|| {
            Endpoint::new(settings::endpoint(spec), Some(server), socket, Arc::new(TokioRuntime))
        })?;
        endpoint.set_default_client_config(client);
        let messages = Messages::new(spec);
        let traffic = Arc::new(Traffic::default());
        tasks.spawn(accept(endpoint.clone(), messages.clone(), Arc::clone(&traffic)));
        Ok(QuicMesh {
            address: endpoint.local_addr()?,
            tasks,
            endpoint,
            per_pair,
            messages,
            traffic,
            addresses: Vec::new(),
            servers: Vec::new(),
        })
    }

    /// Measures calls that tasks make to a server.
    ///
    /// # Errors
    /// It cannot be reached, or a call failed.
    pub fn measure(&mut self, server: SocketAddr, load: &Closed) -> io::Result<Outcome> {
        let pool = self.tasks.wait_for(CALL_TIMEOUT, self.reach(server))?;
        let client = Client { pool: Arc::new(pool), messages: self.messages.clone() };
        let request = self.messages.request(load.request_bytes as usize);
        self.tasks.wait_for(load.timeout() * 2, pair::closed(client, request, load))
    }

    /// Connections to a server, each of which has carried a call: handshake and transport
    /// parameters are done.
    async fn reach(&self, server: SocketAddr) -> io::Result<Pool<Connection>> {
        let mut connections = Vec::new();
        for _ in 0..self.per_pair {
            let connecting =
                self.endpoint.connect(server, tls::SERVER_NAME).map_err(io::Error::other)?;
            let connection = connecting.await?;
            self.traffic.watch(&connection);
            if !call(connection.clone(), self.messages.clone(), self.messages.request(1)).await {
                return Err(io::Error::other(format!("{server} gives no answer")));
            }
            connections.push(connection);
        }
        Ok(Pool::new(connections))
    }
}

impl Mesh for QuicMesh {
    fn address(&self) -> SocketAddr {
        self.address
    }

    fn connect(&mut self, servers: &[SocketAddr], timeout: Duration) -> io::Result<()> {
        let open = |pool: &Pool<Connection>| {
            pool.connections().all(|connection| connection.close_reason().is_none())
        };
        if self.addresses == servers && self.servers.iter().all(open) {
            return Ok(());
        }
        for old in self.servers.drain(..) {
            old.connections().for_each(|connection| connection.close(0_u32.into(), b""));
        }
        for server in servers {
            let pool = self.tasks.wait_for(timeout, self.reach(*server))?;
            self.servers.push(pool);
        }
        self.addresses = servers.to_vec();
        Ok(())
    }

    fn start(&mut self, token: u64, server: usize, bytes: usize) -> io::Result<()> {
        let request = self.messages.request(bytes);
        let both_ways = request.len() + self.messages.answer_bytes(bytes);
        let pool = self.servers.get(server).ok_or(io::ErrorKind::AddrNotAvailable)?;
        let (connection, under_way) = pool.choose(both_ways).ok_or(io::ErrorKind::NotConnected)?;
        let (connection, messages) = (connection.clone(), self.messages.clone());
        self.tasks.start(token, async move {
            let ok = call(connection, messages, request).await;
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
            dropped_by_system: snmp_counter("Udp", "RcvbufErrors"),
            ..self.traffic.counters()
        }
    }
}

fn bind(spec: &HostSpec) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind(SocketAddr::new(spec.listen, spec.port))?;
    if let Some(bytes) = settings::send_buffer_bytes(spec.homa.output.link_mbps)
        && bytes < sockopt::socket_send_buffer_size(&socket)? / 2
    {
        sockopt::set_socket_send_buffer_size(&socket, bytes)?;
    }
    // Forcing it beyond the system's limit is a matter of privileges; less is slower under bursts,
    // and works.
    let _ = sockopt::set_socket_recv_buffer_size_force(&socket, RECEIVE_BUFFER_BYTES)
        .or_else(|_| sockopt::set_socket_recv_buffer_size(&socket, RECEIVE_BUFFER_BYTES));
    Ok(socket)
}

/// Whether a call got its answer.
async fn call(connection: Connection, messages: Messages, request: Bytes) -> bool {
    let bytes = request.len();
    let answer = exchange(&connection, &messages, request).await;
    answer.is_ok_and(|answer| messages.is_answer(bytes, &answer))
}

/// What a request is answered with.
async fn exchange(
    connection: &Connection,
    messages: &Messages,
    request: Bytes,
) -> io::Result<Vec<u8>> {
    let (mut send, mut receive) = connection.open_bi().await?;
    send.write_chunk(request).await?;
    send.finish().map_err(io::Error::other)?;
    receive.read_to_end(messages.bytes_max()).await.map_err(io::Error::other)
}

/// The client of the tasks of one process.
#[derive(Debug, Clone)]
struct Client {
    pool: Arc<Pool<Connection>>,
    messages: Messages,
}

impl Client {
    async fn exchange(&self, request: Bytes) -> io::Result<Vec<u8>> {
        let (connection, _under_way) =
            self.pool.choose(request.len()).ok_or(io::ErrorKind::NotConnected)?;
        exchange(connection, &self.messages, request).await
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

async fn accept(endpoint: Endpoint, messages: Messages, traffic: Arc<Traffic>) {
    while let Some(incoming) = endpoint.accept().await {
        let (messages, traffic) = (messages.clone(), Arc::clone(&traffic));
        tokio::spawn(async move {
            if let Ok(connection) = incoming.await {
                traffic.watch(&connection);
                serve(connection, messages).await;
            }
        });
    }
}

async fn serve(connection: Connection, messages: Messages) {
    while let Ok((send, receive)) = connection.accept_bi().await {
        tokio::spawn(answer(send, receive, messages.clone()));
    }
}

/// A client that gave up, or sends more than the longest message, gets no answer: the streams are
/// reset.
async fn answer(mut send: SendStream, mut receive: RecvStream, messages: Messages) {
    let Ok(request) = receive.read_to_end(messages.bytes_max()).await else { return };
    let answer = messages.answer(request.into()).await;
    if send.write_chunk(answer).await.is_ok() {
        let _ = send.finish();
    }
}
