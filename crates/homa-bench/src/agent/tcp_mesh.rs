//! TCP: an event loop over all connections, as client and as server.
//!
//! Messages are framed by 12 bytes: length and a number that comes back with the answer. A server reads a whole
//! request before it answers. Writes of one turn leave together; Nagle's algorithm is off.

mod connection;

use std::{
    collections::VecDeque,
    io,
    net::{SocketAddr, TcpListener},
    os::fd::{AsFd, OwnedFd},
    time::{Duration, Instant},
};

use homa_sys::set_tcp_congestion;
use rustix::event::{Timespec, epoll};
use socket2::{Domain, Protocol, Socket, Type};

use self::connection::{Connection, Message};
use super::{
    mesh::{Counters, Ended, Mesh},
    snmp::snmp_counter,
};
use crate::{
    spec::{HostSpec, Reply},
    transport::Transport,
};

/// Token of the listening socket.
const LISTENER: u64 = u64::MAX;
/// Connections that may wait to be accepted.
const BACKLOG: i32 = 1_024;
/// Connections of one host, so that strangers cannot fill its memory.
const CONNECTIONS_MAX: usize = 16_384;

/// A host that speaks TCP.
pub(crate) struct TcpMesh {
    epoll: OwnedFd,
    listener: TcpListener,
    address: SocketAddr,
    congestion: String,
    per_pair: usize,
    reply: Reply,
    service: Duration,
    message_bytes_max: u32,
    connections: Vec<Option<Connection>>,
    /// Indices of connections to each server.
    servers: Vec<Vec<usize>>,
    /// Answers of a slow server: when, connection, answer.
    delayed: VecDeque<(Instant, usize, Message)>,
    events: Vec<epoll::Event>,
    buffer: Vec<u8>,
}

impl TcpMesh {
    /// Binds and serves as the specification says.
    pub(crate) fn new(spec: &HostSpec) -> io::Result<Self> {
        let Transport::Tcp { congestion, connections } = &spec.transport else {
            return Err(io::ErrorKind::Unsupported.into());
        };
        let address = SocketAddr::new(spec.listen, spec.port);
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        set_tcp_congestion(&socket, congestion).map_err(|error| {
            io::Error::new(error.kind(), format!("congestion control `{congestion}`: {error}"))
        })?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        let listener: TcpListener = socket.into();
        listener.set_nonblocking(true)?;
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let data = epoll::EventData::new_u64(LISTENER);
        epoll::add(&epoll, &listener, data, epoll::EventFlags::IN)?;
        Ok(TcpMesh {
            epoll,
            address: listener.local_addr()?,
            listener,
            congestion: congestion.clone(),
            per_pair: *connections as usize,
            reply: spec.reply,
            service: Duration::from_micros(spec.service_us),
            message_bytes_max: spec.message_bytes_max,
            connections: Vec::new(),
            servers: Vec::new(),
            delayed: VecDeque::new(),
            events: Vec::with_capacity(256),
            buffer: vec![0; 256 << 10],
        })
    }

    fn add(&mut self, connection: Connection) -> io::Result<usize> {
        let index = self.connections.len();
        let data = epoll::EventData::new_u64(index as u64);
        epoll::add(&self.epoll, connection.as_fd(), data, epoll::EventFlags::IN)?;
        self.connections.push(Some(connection));
        Ok(index)
    }

    fn accept(&mut self) -> io::Result<()> {
        loop {
            match self.listener.accept() {
                Ok((stream, _)) if self.connections.len() < CONNECTIONS_MAX => {
                    self.add(Connection::new(stream, false)?)?;
                }
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Reads what is there, acts on whole messages, writes what that causes.
    fn serve(&mut self, index: usize, ended: &mut Vec<Ended>) {
        let Some(Some(connection)) = self.connections.get_mut(index) else { return };
        let at = Instant::now();
        let mut answers = Vec::new();
        let is_client = connection.is_client;
        let (reply, service) = (self.reply, self.service);
        let delayed = &mut self.delayed;
        let read = connection.read(&mut self.buffer, self.message_bytes_max, &mut |message| {
            if is_client {
                ended.push(Ended { token: message.token, at, ok: true });
                return;
            }
            let bytes = u32::try_from(reply.bytes(u64::from(message.bytes))).unwrap_or(u32::MAX);
            let answer = Message { token: message.token, bytes };
            match service.is_zero() {
                true => answers.push(answer),
                false => {
                    let free = delayed.back().map_or(at, |last| last.0.max(at));
                    delayed.push_back((free + service, index, answer));
                }
            }
        });
        for answer in answers {
            connection.push(answer);
        }
        let written = read.and_then(|()| connection.write());
        self.settle(index, written, ended);
    }

    /// Asks for writability, or gives a broken connection up.
    fn settle(&mut self, index: usize, outcome: io::Result<()>, ended: &mut Vec<Ended>) {
        let Some(Some(connection)) = self.connections.get_mut(index) else { return };
        let outcome = outcome.and_then(|()| match connection.change_of_interest() {
            None => Ok(()),
            Some(writable) => {
                let mut flags = epoll::EventFlags::IN;
                flags.set(epoll::EventFlags::OUT, writable);
                let data = epoll::EventData::new_u64(index as u64);
                Ok(epoll::modify(&self.epoll, connection.as_fd(), data, flags)?)
            }
        });
        if outcome.is_err() {
            let at = Instant::now();
            ended.extend(connection.under_way().map(|token| Ended { token, at, ok: false }));
            // Closing takes it out of the set.
            self.connections[index] = None;
        }
    }

    fn answer_delayed(&mut self, now: Instant, ended: &mut Vec<Ended>) {
        while self.delayed.front().is_some_and(|front| front.0 <= now) {
            if let Some((_, index, answer)) = self.delayed.pop_front() {
                if let Some(Some(connection)) = self.connections.get_mut(index) {
                    connection.push(answer);
                    let written = connection.write();
                    self.settle(index, written, ended);
                }
            }
        }
    }

    fn wait(&mut self, until: Instant) -> io::Result<()> {
        let until = self.delayed.front().map_or(until, |front| front.0.min(until));
        let left = until.saturating_duration_since(Instant::now());
        let left = Timespec {
            tv_sec: left.as_secs().min(3_600) as i64,
            tv_nsec: left.subsec_nanos().into(),
        };
        self.events.clear();
        match epoll::wait(
            &self.epoll,
            rustix::buffer::spare_capacity(&mut self.events),
            Some(&left),
        ) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// The connection for a call: an idle one, else the one with the fewest bytes under way.
    fn choose(&self, server: usize) -> Option<usize> {
        let candidates = self.servers.get(server)?.iter().copied();
        candidates
            .filter_map(|index| {
                let connection = self.connections.get(index)?.as_ref()?;
                Some((connection.bytes_under_way(), index))
            })
            .min()
            .map(|(_, index)| index)
    }
}

impl Mesh for TcpMesh {
    fn address(&self) -> SocketAddr {
        self.address
    }

    fn connect(&mut self, servers: &[SocketAddr], timeout: Duration) -> io::Result<()> {
        for server in servers {
            let mut indices = Vec::new();
            for _ in 0..self.per_pair {
                let socket =
                    Socket::new(Domain::for_address(*server), Type::STREAM, Some(Protocol::TCP))?;
                set_tcp_congestion(&socket, &self.congestion)?;
                socket.connect_timeout(&(*server).into(), timeout)?;
                indices.push(self.add(Connection::new(socket.into(), true)?)?);
            }
            self.servers.push(indices);
        }
        Ok(())
    }

    fn start(&mut self, token: u64, server: usize, bytes: usize) -> io::Result<()> {
        let index = self.choose(server).ok_or(io::ErrorKind::NotConnected)?;
        let Some(Some(connection)) = self.connections.get_mut(index) else {
            return Err(io::ErrorKind::NotConnected.into());
        };
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX).min(self.message_bytes_max);
        let expected =
            bytes.saturating_add(u32::try_from(self.reply.bytes(bytes.into())).unwrap_or(u32::MAX));
        connection.begin(token, expected);
        connection.push(Message { token, bytes });
        let written = connection.write();
        let mut failed = Vec::new();
        self.settle(index, written, &mut failed);
        match failed.is_empty() {
            true => Ok(()),
            false => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }

    fn poll(&mut self, until: Instant, ended: &mut Vec<Ended>) -> io::Result<()> {
        loop {
            self.wait(until)?;
            let mut events = std::mem::take(&mut self.events);
            for event in events.drain(..) {
                match event.data.u64() {
                    LISTENER => self.accept()?,
                    index => self.serve(index as usize, ended),
                }
            }
            self.events = events;
            let now = Instant::now();
            self.answer_delayed(now, ended);
            if !ended.is_empty() || now >= until {
                return Ok(());
            }
        }
    }

    fn counters(&self) -> Counters {
        Counters {
            retransmitted_packets: snmp_counter("Tcp", "RetransSegs"),
            ..Counters::default()
        }
    }
}
