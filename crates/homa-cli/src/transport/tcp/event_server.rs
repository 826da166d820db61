//! Any number of TCP connections served by one thread: epoll, or spinning over them.
//!
//! The replies to the requests of one read leave in one write, except those whose client asked for writes of
//! their own ([`REPLY_ALONE`]).

use std::{
    collections::VecDeque,
    io,
    net::{TcpListener, TcpStream},
    os::fd::OwnedFd,
    time::{Duration, Instant},
};

use bytes::Bytes;
use rustix::event::epoll;

use super::{
    event_client::wait,
    frame::{FrameBuffer, REPLY_ALONE},
    output::Output,
    socket,
};
use crate::{
    error::CliError,
    transport::{Answer, Responder, Settings, Wait},
};

/// Connections at a time; more are closed at once.
const CONNECTIONS_MAX: usize = 4_096;

/// A connection with this many reply bytes waiting is not read until they are gone.
const WAITING_BYTES_MAX: usize = 8 << 20;

/// Delayed replies at a time; requests beyond it are answered without delay.
const DELAYED_MAX: usize = 100_000;

const LISTENER: u64 = u64::MAX;
const EVENTS_MAX: usize = 256;
/// A spinning server looks for new connections once in so many rounds.
const ROUNDS_PER_ACCEPT: u32 = 1_000;
const IDLE: Duration = Duration::from_secs(3_600);

/// Serves for ever; each reply leaves `delay` after its request arrived.
pub(crate) fn serve(
    listener: TcpListener,
    settings: &Settings,
    responder: &Responder,
    delay: Duration,
) -> Result<(), CliError> {
    let failed = |error: io::Error| CliError::io("tcp server", &error);
    let mut server = Server::new(listener, settings, responder, delay).map_err(failed)?;
    loop {
        let turn = match settings.wait {
            Wait::Sleep => server.turn_sleeping(),
            Wait::Busy => server.turn_spinning(),
        };
        turn.map_err(failed)?;
    }
}

struct Server<'a> {
    listener: TcpListener,
    poller: OwnedFd,
    settings: &'a Settings,
    responder: &'a Responder,
    delay: Duration,
    connections: Vec<Option<Connection>>,
    delayed: VecDeque<Delayed>,
    events: Vec<epoll::Event>,
    rounds: u32,
    generation: u64,
}

struct Connection {
    stream: TcpStream,
    input: FrameBuffer,
    output: Output,
    /// What epoll is asked to tell.
    watched: epoll::EventFlags,
    generation: u64,
}

/// A reply that waits for its time.
struct Delayed {
    due: Instant,
    index: usize,
    generation: u64,
    id: u64,
    body: Bytes,
}

impl<'a> Server<'a> {
    fn new(
        listener: TcpListener,
        settings: &'a Settings,
        responder: &'a Responder,
        delay: Duration,
    ) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        let poller = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        epoll::add(&poller, &listener, epoll::EventData::new_u64(LISTENER), epoll::EventFlags::IN)?;
        Ok(Server {
            listener,
            poller,
            settings,
            responder,
            delay,
            connections: Vec::new(),
            delayed: VecDeque::new(),
            events: Vec::with_capacity(EVENTS_MAX),
            rounds: 0,
            generation: 0,
        })
    }

    fn turn_sleeping(&mut self) -> io::Result<()> {
        let left = match self.delayed.front() {
            Some(first) => first.due.saturating_duration_since(Instant::now()),
            None => IDLE,
        };
        let mut events = std::mem::take(&mut self.events);
        wait(&self.poller, &mut events, left)?;
        for event in events.drain(..) {
            match event.data.u64() {
                LISTENER => self.accept(),
                index => self.serve_connection(index as usize),
            }
        }
        self.events = events;
        self.send_delayed();
        Ok(())
    }

    fn turn_spinning(&mut self) -> io::Result<()> {
        self.rounds = self.rounds.wrapping_add(1);
        if self.connections.is_empty() || self.rounds % ROUNDS_PER_ACCEPT == 0 {
            self.accept();
        }
        for index in 0..self.connections.len() {
            self.serve_connection(index);
        }
        self.send_delayed();
        Ok(())
    }

    fn accept(&mut self) {
        // Failures here (a client that went away, no descriptors left) leave the others served.
        while let Ok((stream, _)) = self.listener.accept() {
            let _ = self.add(stream);
        }
    }

    fn add(&mut self, stream: TcpStream) -> io::Result<()> {
        let index = match self.connections.iter().position(Option::is_none) {
            Some(index) => index,
            None if self.connections.len() < CONNECTIONS_MAX => {
                self.connections.push(None);
                self.connections.len() - 1
            }
            None => return Err(io::ErrorKind::ConnectionRefused.into()),
        };
        stream.set_nonblocking(true)?;
        socket::prepare(&stream, self.settings)?;
        epoll::add(
            &self.poller,
            &stream,
            epoll::EventData::new_u64(index as u64),
            epoll::EventFlags::IN,
        )?;
        self.generation += 1;
        self.connections[index] = Some(Connection {
            stream,
            input: FrameBuffer::new(),
            output: Output::default(),
            watched: epoll::EventFlags::IN,
            generation: self.generation,
        });
        Ok(())
    }

    /// Reads and answers; a connection that ended is dropped, which takes it out of epoll too.
    fn serve_connection(&mut self, index: usize) {
        let Some(Some(connection)) = self.connections.get_mut(index) else {
            return;
        };
        let delay = (!self.delay.is_zero()).then_some((self.delay, index, &mut self.delayed));
        let alive = connection
            .receive(self.responder, delay)
            .and_then(|()| connection.send(&self.poller, index, self.settings.wait));
        if alive.is_err() {
            self.connections[index] = None;
        }
    }

    fn send_delayed(&mut self) {
        if self.delayed.is_empty() {
            return;
        }
        let now = Instant::now();
        while self.delayed.front().is_some_and(|first| first.due <= now) {
            let Some(reply) = self.delayed.pop_front() else {
                return;
            };
            let Some(Some(connection)) = self.connections.get_mut(reply.index) else {
                continue;
            };
            if connection.generation != reply.generation {
                continue;
            }
            connection.output.push(reply.id, &reply.body);
            if connection.send(&self.poller, reply.index, self.settings.wait).is_err() {
                self.connections[reply.index] = None;
            }
        }
    }
}

type Delay<'a> = Option<(Duration, usize, &'a mut VecDeque<Delayed>)>;

impl Connection {
    /// One read, and the answers to all the frames it completed.
    fn receive(&mut self, responder: &Responder, mut delay: Delay<'_>) -> io::Result<()> {
        if self.output.waiting_bytes() > WAITING_BYTES_MAX {
            return Ok(());
        }
        loop {
            let filled = match self.input.fill(&mut &self.stream) {
                Ok((0, _)) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok((_, filled)) => filled,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            let mut frames = 0;
            while let Some(frame) = self.input.next_frame()? {
                frames += 1;
                let request = self.input.bytes(frame.body());
                let answer = responder.answer(request, request.len());
                if let Some((delay, index, queue)) = &mut delay {
                    if queue.len() < DELAYED_MAX {
                        let body = match answer {
                            Answer::Echo => Bytes::copy_from_slice(request),
                            Answer::Bytes(bytes) => bytes,
                        };
                        let due = Instant::now() + *delay;
                        queue.push_back(Delayed {
                            due,
                            index: *index,
                            generation: self.generation,
                            id: frame.id,
                            body,
                        });
                        continue;
                    }
                }
                match answer {
                    Answer::Echo => self.output.gather(self.input.bytes(frame.whole)),
                    Answer::Bytes(bytes) => self.output.push(frame.id, &bytes),
                }
                if frame.id & REPLY_ALONE != 0 {
                    self.output.flush(&mut &self.stream)?;
                }
            }
            if frames > 0 || !filled {
                return Ok(());
            }
        }
    }

    /// Writes what it can, and has epoll tell when the rest can go.
    fn send(&mut self, poller: &OwnedFd, index: usize, wait: Wait) -> io::Result<()> {
        if !self.output.is_empty() {
            self.output.flush(&mut &self.stream)?;
        }
        // While many replies wait, no more requests are asked for: their client must read first.
        let wanted = match self.output.waiting_bytes() {
            0 => epoll::EventFlags::IN,
            1..=WAITING_BYTES_MAX => epoll::EventFlags::IN | epoll::EventFlags::OUT,
            _ => epoll::EventFlags::OUT,
        };
        if wanted != self.watched && wait == Wait::Sleep {
            epoll::modify(poller, &self.stream, epoll::EventData::new_u64(index as u64), wanted)?;
            self.watched = wanted;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::transport::{Behaviour, tcp::frame};

    #[test]
    fn replies_are_written_at_once_where_their_client_asked_for_it() {
        for (flag, waits) in [(0, true), (REPLY_ALONE, false)] {
            let listener = socket::listen(([127, 0, 0, 1], 0).into()).unwrap();
            let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let mut server = Connection {
                stream: listener.accept().unwrap().0,
                input: FrameBuffer::new(),
                output: Output::default(),
                watched: epoll::EventFlags::IN,
                generation: 0,
            };
            client.write_all(&frame::header(0, 1 | flag)).unwrap();
            client.write_all(&frame::header(0, 2 | flag)).unwrap();
            server.receive(&Responder::new(Behaviour::Echo), None).unwrap();
            assert_eq!(!server.output.is_empty(), waits, "{flag}");
        }
    }
}
