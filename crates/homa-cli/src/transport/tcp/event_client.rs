//! Many calls at a time over a pool of TCP connections, from one thread.
//!
//! With [`TcpWrites::Each`] every request leaves by a write of its own when its call begins, and the server
//! is asked to write the replies alike. With [`TcpWrites::Gathered`] calls begun since the last poll leave in
//! one write per connection. In either case one read takes as many replies as have arrived, and what a full
//! connection did not take leaves together when it takes more.
//! With [`Wait::Busy`] the connections are read without asking epoll first.

use std::{
    io,
    net::{SocketAddr, TcpStream},
    os::fd::OwnedFd,
    time::{Duration, Instant},
};

use bytes::{Buf, Bytes};
use rustix::{
    event::{Timespec, epoll},
    io::Errno,
};

use super::{
    frame::{FrameBuffer, REPLY_ALONE},
    output::Output,
    socket,
};
use crate::{
    error::CliError,
    transport::{Client, Outcome, Settings, TcpWrites, Wait},
};

/// Events taken per wait.
const EVENTS_MAX: usize = 64;

/// The token of [`Client::call`], which no caller of `start` uses.
const CALL_TOKEN: u64 = u64::MAX ^ REPLY_ALONE;

/// A pool of connections to one server.
pub(crate) struct EventClient {
    server: SocketAddr,
    poller: OwnedFd,
    connections: Vec<Connection>,
    next: usize,
    wait: Wait,
    writes: TcpWrites,
    events: Vec<epoll::Event>,
}

struct Connection {
    stream: TcpStream,
    input: FrameBuffer,
    output: Output,
    /// Whether epoll is asked to tell when the connection takes more.
    watches_output: bool,
}

impl EventClient {
    /// Connects to a server.
    pub(crate) fn connect(server: SocketAddr, settings: &Settings) -> Result<Self, CliError> {
        let failed = |error: io::Error| CliError::io("epoll", &error);
        let poller = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(|e| failed(e.into()))?;
        let mut connections = Vec::new();
        for index in 0..settings.connections.max(1) {
            let stream = socket::connect(server, settings)?;
            stream.set_nonblocking(true).map_err(failed)?;
            epoll::add(
                &poller,
                &stream,
                epoll::EventData::new_u64(index as u64),
                epoll::EventFlags::IN,
            )
            .map_err(|e| failed(e.into()))?;
            connections.push(Connection {
                stream,
                input: FrameBuffer::new(),
                output: Output::default(),
                watches_output: false,
            });
        }
        let events = Vec::with_capacity(EVENTS_MAX);
        Ok(EventClient {
            server,
            poller,
            connections,
            next: 0,
            wait: settings.wait,
            writes: settings.tcp_writes,
            events,
        })
    }

    fn failed(&self, error: &io::Error) -> CliError {
        CliError::io(&format!("tcp connection to {}", self.server), error)
    }

    fn flush_all(&mut self) -> io::Result<()> {
        for (index, connection) in self.connections.iter_mut().enumerate() {
            if !connection.output.is_empty() {
                connection.flush()?;
            }
            let watch = !connection.output.is_empty();
            if watch != connection.watches_output && self.wait == Wait::Sleep {
                let flags = match watch {
                    true => epoll::EventFlags::IN | epoll::EventFlags::OUT,
                    false => epoll::EventFlags::IN,
                };
                let data = epoll::EventData::new_u64(index as u64);
                epoll::modify(&self.poller, &connection.stream, data, flags)?;
                connection.watches_output = watch;
            }
        }
        Ok(())
    }

    /// One round of writing, waiting (in the kernel or not) and reading.
    fn turn(
        &mut self,
        until: Instant,
        sink: &mut dyn FnMut(u64, Outcome<'_>),
    ) -> io::Result<usize> {
        self.flush_all()?;
        let mut ended = 0;
        if self.wait == Wait::Busy {
            for connection in &mut self.connections {
                ended += connection.receive(sink)?;
            }
            return Ok(ended);
        }
        let left = until.saturating_duration_since(Instant::now());
        wait(&self.poller, &mut self.events, left)?;
        for event in self.events.drain(..) {
            let index = event.data.u64() as usize;
            let flags = event.flags;
            if let Some(connection) = self.connections.get_mut(index) {
                if flags != epoll::EventFlags::OUT {
                    ended += connection.receive(sink)?;
                }
            }
        }
        Ok(ended)
    }
}

impl Connection {
    fn flush(&mut self) -> io::Result<bool> {
        self.output.flush(&mut &self.stream)
    }

    /// Reads what is there and reports the replies in it.
    fn receive(&mut self, sink: &mut dyn FnMut(u64, Outcome<'_>)) -> io::Result<usize> {
        let mut ended = 0;
        loop {
            let filled = match self.input.fill(&mut &self.stream) {
                Ok((0, _)) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok((_, filled)) => filled,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(ended),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            while let Some(frame) = self.input.next_frame()? {
                sink(frame.id & !REPLY_ALONE, Ok(&mut self.input.bytes(frame.body())));
                ended += 1;
            }
            // A read that did not fill the space took all there was; ended calls are reported first.
            if !filled || ended > 0 {
                return Ok(ended);
            }
        }
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
        self.start(CALL_TOKEN, body)?;
        let mut done = false;
        while !done {
            self.poll(deadline, &mut |token, outcome| {
                if let (CALL_TOKEN, Ok(reply)) = (token, outcome) {
                    sink(reply);
                    done = true;
                }
            })?;
            if !done && Instant::now() >= deadline {
                return Err(CliError::Transport(format!(
                    "no reply from {} within {timeout:?}",
                    self.server
                )));
            }
        }
        Ok(())
    }

    fn start(&mut self, token: u64, body: &Bytes) -> Result<(), CliError> {
        let index = self.next % self.connections.len();
        self.next = index + 1;
        let Some(connection) = self.connections.get_mut(index) else {
            return Ok(());
        };
        let written = match self.writes {
            TcpWrites::Each => {
                connection.output.push(token | REPLY_ALONE, body);
                connection.flush().map(|_| ())
            }
            TcpWrites::Gathered => {
                connection.output.push(token, body);
                Ok(())
            }
        };
        written.map_err(|error| self.failed(&error))
    }

    fn poll(
        &mut self,
        until: Instant,
        sink: &mut dyn FnMut(u64, Outcome<'_>),
    ) -> Result<usize, CliError> {
        loop {
            let ended = self.turn(until, sink).map_err(|error| self.failed(&error))?;
            if ended > 0 || Instant::now() >= until {
                return Ok(ended);
            }
        }
    }
}

/// Waits for events, at most for `left`; being interrupted by a signal is no event.
pub(super) fn wait(
    poller: &OwnedFd,
    events: &mut Vec<epoll::Event>,
    left: Duration,
) -> io::Result<()> {
    let timeout = Timespec {
        tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(left.subsec_nanos()),
    };
    events.clear();
    match epoll::wait(poller, rustix::buffer::spare_capacity(events), Some(&timeout)) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;
    use crate::{
        body,
        transport::{ReceiveBuffer, tcp::frame::HEADER_BYTES},
    };

    /// A client and the server's end of its connection, which gives up reading after a while.
    fn pair(tcp_writes: TcpWrites) -> (EventClient, TcpStream) {
        let listener = socket::listen(([127, 0, 0, 1], 0).into()).unwrap();
        let settings = Settings {
            wait: Wait::Sleep,
            connections: 1,
            congestion_control: None,
            receive_buffer: ReceiveBuffer::Large,
            spin: true,
            tcp_writes,
            message_bytes_max: 1_000,
        };
        let client = EventClient::connect(listener.local_addr().unwrap(), &settings).unwrap();
        let (server, _) = listener.accept().unwrap();
        server.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        (client, server)
    }

    #[test]
    fn with_writes_of_their_own_requests_leave_when_they_begin() {
        let (mut client, mut server) = pair(TcpWrites::Each);
        client.start(7, &body::pattern(0, 50)).unwrap();
        let mut frame = [0; HEADER_BYTES + 50];
        server.read_exact(&mut frame).unwrap();
        assert_eq!(frame[4..HEADER_BYTES], (7 | REPLY_ALONE).to_le_bytes());
        io::Write::write_all(&mut server, &frame).unwrap();
        let mut tokens = Vec::new();
        let until = Instant::now() + Duration::from_secs(5);
        client.poll(until, &mut |token, _| tokens.push(token)).unwrap();
        assert_eq!(tokens, [7]);
    }

    #[test]
    fn gathered_requests_leave_with_the_next_poll() {
        let (mut client, mut server) = pair(TcpWrites::Gathered);
        for token in 0..3 {
            client.start(token, &body::pattern(0, 50)).unwrap();
        }
        let mut frames = [0; 3 * (HEADER_BYTES + 50)];
        assert!(server.read(&mut frames).is_err(), "nothing leaves before the poll");
        client.poll(Instant::now(), &mut |_, _| {}).unwrap();
        assert_eq!(server.read(&mut frames).unwrap(), frames.len());
        assert_eq!(frames[4..HEADER_BYTES], [0; 8]);
    }
}
