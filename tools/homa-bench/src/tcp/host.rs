//! Any number of connections in one thread, as client and as server: epoll, or spinning over them.
//!
//! With [`Writes::Each`] every request leaves by a write of its own when its call begins, and the
//! server is asked to write the replies alike. With [`Writes::Gathered`] calls begun since the last
//! poll leave in one write per connection, and so do the replies to the requests of one read. In
//! either case one read takes as many messages as have arrived, and what a full connection did not
//! take leaves together when it takes more.

use std::{
    collections::VecDeque,
    io,
    net::{SocketAddr, TcpListener, TcpStream},
    os::fd::OwnedFd,
    time::{Duration, Instant},
};

use bytes::Bytes;
use rustix::{
    event::{Timespec, epoll},
    io::Errno,
};

use super::{
    Answer, Pace, Settings, Wait, Writes,
    frame::{Frame, FrameBuffer, REPLY_ALONE},
    output::Output,
    socket,
};

/// Connections at a time; more are closed at once, so that strangers cannot fill the memory.
const CONNECTIONS_MAX: usize = 16_384;
/// A client with this many reply bytes waiting is not read until they are gone.
const WAITING_BYTES_MAX: usize = 8 << 20;
/// Delayed answers at a time; requests beyond it are answered without delay.
const DELAYED_MAX: usize = 100_000;
/// Token of the listening socket.
const LISTENER: u64 = u64::MAX;
/// Events taken per wait.
const EVENTS_MAX: usize = 256;
/// A spinning server looks for new connections once in so many rounds.
const ROUNDS_PER_ACCEPT: u32 = 1_000;

/// Who is told how calls end: their token, and the reply or none.
type Sink<'a> = dyn FnMut(u64, Option<&[u8]>) + 'a;

/// Who knows the answer to a request.
type Answerer = Box<dyn FnMut(&[u8]) -> Answer + Send>;

/// Client of any number of servers and server of any number of clients.
pub struct Host {
    poller: OwnedFd,
    settings: Settings,
    listener: Option<TcpListener>,
    answers: Answers,
    connections: Vec<Option<Connection>>,
    /// Indices of the connections to each server.
    servers: Vec<Vec<usize>>,
    /// Connections with requests that wait for the next poll.
    gathered: Vec<usize>,
    lost: Option<io::Error>,
    events: Vec<epoll::Event>,
    rounds: u32,
    generation: u64,
}

/// What a host says to requests, and when.
struct Answers {
    answer: Answerer,
    pace: Pace,
    delayed: VecDeque<Delayed>,
}

/// An answer that waits for its time.
struct Delayed {
    due: Instant,
    index: usize,
    generation: u64,
    id: u64,
    body: Bytes,
}

impl Host {
    /// A host that only calls.
    ///
    /// # Errors
    /// What the system says.
    pub fn client(settings: &Settings) -> io::Result<Self> {
        let answers = Answers {
            answer: Box::new(|_| Answer::Echo),
            pace: Pace::AtOnce,
            delayed: VecDeque::new(),
        };
        Ok(Host {
            poller: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            settings: settings.clone(),
            listener: None,
            answers,
            connections: Vec::new(),
            servers: Vec::new(),
            gathered: Vec::new(),
            lost: None,
            events: Vec::with_capacity(EVENTS_MAX),
            rounds: 0,
            generation: 0,
        })
    }

    /// A host that serves, and may call as well.
    ///
    /// # Errors
    /// What the system says.
    pub fn server(
        listener: TcpListener,
        settings: &Settings,
        pace: Pace,
        answer: impl FnMut(&[u8]) -> Answer + Send + 'static,
    ) -> io::Result<Self> {
        let mut host = Host::client(settings)?;
        listener.set_nonblocking(true)?;
        let data = epoll::EventData::new_u64(LISTENER);
        epoll::add(&host.poller, &listener, data, epoll::EventFlags::IN)?;
        host.listener = Some(listener);
        host.answers = Answers { answer: Box::new(answer), pace, delayed: VecDeque::new() };
        Ok(host)
    }

    /// Connects to one more server; calls name servers by their order.
    ///
    /// # Errors
    /// It cannot be reached within `timeout`.
    pub fn connect(&mut self, server: SocketAddr, timeout: Duration) -> io::Result<()> {
        let mut indices = Vec::new();
        for _ in 0..self.settings.connections.max(1) {
            let congestion = self.settings.congestion.as_deref();
            indices.push(self.add(socket::connect(server, congestion, timeout)?, true)?);
        }
        self.servers.push(indices);
        Ok(())
    }

    /// Begins a call that a later [`poll`](Self::poll) reports with `token`; it may be sent only
    /// then.
    ///
    /// # Errors
    /// There is no connection to the server, or it broke.
    pub fn start(&mut self, token: u64, server: usize, body: &Bytes) -> io::Result<()> {
        let index = self.choose(server).ok_or(io::ErrorKind::NotConnected)?;
        let Some(Some(connection)) = self.connections.get_mut(index) else {
            return Err(io::ErrorKind::NotConnected.into());
        };
        let waits = !connection.output.is_empty();
        match self.settings.writes {
            Writes::Each => {
                connection.output.push(token | REPLY_ALONE, body);
                connection.output.flush(&mut &connection.stream)?;
            }
            Writes::Gathered => connection.output.push(token, body),
        }
        if !waits && !connection.output.is_empty() {
            self.gathered.push(index);
        }
        connection.begin(token, body.len());
        Ok(())
    }

    /// The connection for a call: an idle one, else the one with the fewest bytes of requests under
    /// way.
    fn choose(&self, server: usize) -> Option<usize> {
        let candidates = self.servers.get(server)?.iter().copied();
        let under_way = candidates.filter_map(|index| {
            Some((self.connections.get(index)?.as_ref()?.bytes_under_way, index))
        });
        under_way.min().map(|(_, index)| index)
    }

    /// Serves, sends and receives until calls ended or a connection to a server broke, at most to
    /// `until`. Returns how many calls ended.
    ///
    /// # Errors
    /// The host cannot go on. Of a connection that broke, [`take_lost`](Self::take_lost) tells.
    pub fn poll(
        &mut self,
        until: Instant,
        sink: &mut dyn FnMut(u64, Option<&[u8]>),
    ) -> io::Result<usize> {
        loop {
            let ended = self.turn(until, sink)?;
            if ended > 0 || self.lost.is_some() || Instant::now() >= until {
                return Ok(ended);
            }
        }
    }

    /// Why the last connection to a server that broke did; none if none has since this was last
    /// asked.
    pub fn take_lost(&mut self) -> Option<io::Error> {
        self.lost.take()
    }

    /// One round of writing, waiting (in the kernel or not) and reading.
    fn turn(&mut self, until: Instant, sink: &mut Sink<'_>) -> io::Result<usize> {
        let mut ended = 0;
        while let Some(index) = self.gathered.pop() {
            ended += self.serve(index, false, sink);
        }
        ended += match self.settings.wait {
            Wait::Sleep => self.sleep(until, sink)?,
            Wait::Busy => self.spin(sink),
        };
        Ok(ended + self.answer_delayed(sink))
    }

    fn sleep(&mut self, until: Instant, sink: &mut Sink<'_>) -> io::Result<usize> {
        let until = self.answers.delayed.front().map_or(until, |first| first.due.min(until));
        let mut events = std::mem::take(&mut self.events);
        wait(&self.poller, &mut events, until.saturating_duration_since(Instant::now()))?;
        let mut ended = 0;
        for event in events.drain(..) {
            let flags = event.flags;
            match event.data.u64() {
                LISTENER => self.accept(),
                index => ended += self.serve(index as usize, flags != epoll::EventFlags::OUT, sink),
            }
        }
        self.events = events;
        Ok(ended)
    }

    fn spin(&mut self, sink: &mut Sink<'_>) -> usize {
        self.rounds = self.rounds.wrapping_add(1);
        if self.connections.is_empty() || self.rounds % ROUNDS_PER_ACCEPT == 0 {
            self.accept();
        }
        (0..self.connections.len()).map(|index| self.serve(index, true, sink)).sum()
    }

    fn accept(&mut self) {
        // Failures here (a client that went away, no descriptors left) leave the others served.
        while let Some(Ok((stream, _))) = self.listener.as_ref().map(TcpListener::accept) {
            let _ = self.add(stream, false);
        }
    }

    fn add(&mut self, stream: TcpStream, is_client: bool) -> io::Result<usize> {
        let index = match self.connections.iter().position(Option::is_none) {
            Some(index) => index,
            None if self.connections.len() < CONNECTIONS_MAX => {
                self.connections.push(None);
                self.connections.len() - 1
            }
            None => return Err(io::ErrorKind::ConnectionRefused.into()),
        };
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        let data = epoll::EventData::new_u64(index as u64);
        epoll::add(&self.poller, &stream, data, epoll::EventFlags::IN)?;
        self.generation += 1;
        let input = FrameBuffer::new(self.settings.message_bytes_max);
        self.connections[index] = Some(Connection::new(stream, input, is_client, self.generation));
        Ok(index)
    }

    /// Reads if there is something, answers, and writes; returns how many calls ended.
    fn serve(&mut self, index: usize, readable: bool, sink: &mut Sink<'_>) -> usize {
        let Some(Some(connection)) = self.connections.get_mut(index) else { return 0 };
        let mut ended = 0;
        let received = match readable {
            true => connection.receive(index, &mut self.answers, &mut |token, reply| {
                ended += 1;
                sink(token, reply);
            }),
            false => Ok(()),
        };
        let sent = received.and_then(|()| connection.send(&self.poller, index, self.settings.wait));
        ended + sent.err().map_or(0, |error| self.lose(index, error, sink))
    }

    /// Drops a connection that broke, which takes it out of epoll too; returns how many calls that
    /// ends.
    fn lose(&mut self, index: usize, error: io::Error, sink: &mut Sink<'_>) -> usize {
        let Some(connection) = self.connections.get_mut(index).and_then(Option::take) else {
            return 0;
        };
        if connection.is_client {
            self.servers.iter_mut().for_each(|indices| indices.retain(|known| *known != index));
            self.lost = Some(error);
        }
        connection.calls.iter().for_each(|(token, _)| sink(*token, None));
        connection.calls.len()
    }

    fn answer_delayed(&mut self, sink: &mut Sink<'_>) -> usize {
        let mut ended = 0;
        if self.answers.delayed.is_empty() {
            return ended;
        }
        let now = Instant::now();
        while self.answers.delayed.front().is_some_and(|first| first.due <= now) {
            let Some(reply) = self.answers.delayed.pop_front() else { return ended };
            let Some(Some(connection)) = self.connections.get_mut(reply.index) else { continue };
            if connection.generation == reply.generation {
                connection.output.push(reply.id, &reply.body);
                ended += self.serve(reply.index, false, sink);
            }
        }
        ended
    }
}

impl Answers {
    /// When the answer to a request that arrived now leaves; none: at once.
    fn due(&self) -> Option<Instant> {
        if self.delayed.len() >= DELAYED_MAX {
            return None;
        }
        match self.pace {
            Pace::AtOnce => None,
            Pace::After(time) => Some(Instant::now() + time),
            Pace::OneByOne(time) => {
                let now = Instant::now();
                Some(self.delayed.back().map_or(now, |last| last.due.max(now)) + time)
            }
        }
    }
}

/// A connection, either to a server or of a client.
struct Connection {
    stream: TcpStream,
    input: FrameBuffer,
    output: Output,
    is_client: bool,
    /// What epoll is asked to tell.
    watched: epoll::EventFlags,
    generation: u64,
    /// Calls under way, in order, with the bytes of their requests.
    calls: VecDeque<(u64, usize)>,
    bytes_under_way: usize,
}

impl Connection {
    fn new(stream: TcpStream, input: FrameBuffer, is_client: bool, generation: u64) -> Self {
        Connection {
            stream,
            input,
            output: Output::default(),
            is_client,
            watched: epoll::EventFlags::IN,
            generation,
            calls: VecDeque::new(),
            bytes_under_way: 0,
        }
    }

    fn begin(&mut self, token: u64, bytes: usize) {
        self.calls.push_back((token, bytes));
        self.bytes_under_way += bytes;
    }

    fn end(&mut self, token: u64) {
        let index = self.calls.iter().position(|call| call.0 == token);
        if let Some((_, bytes)) = index.and_then(|index| self.calls.remove(index)) {
            self.bytes_under_way -= bytes;
        }
    }

    /// Reads until a message is whole or nothing more is there: replies end calls, requests are
    /// answered.
    fn receive(
        &mut self,
        index: usize,
        answers: &mut Answers,
        sink: &mut Sink<'_>,
    ) -> io::Result<()> {
        // Its client must read first; a client always reads, so that one of the two goes on.
        if !self.is_client && self.output.waiting_bytes() > WAITING_BYTES_MAX {
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
                if self.is_client {
                    let token = frame.id & !REPLY_ALONE;
                    self.end(token);
                    sink(token, Some(self.input.bytes(frame.body())));
                } else {
                    self.answer(&frame, index, answers)?;
                }
            }
            // A read that did not fill the space took all there was.
            if frames > 0 || !filled {
                return Ok(());
            }
        }
    }

    fn answer(&mut self, frame: &Frame, index: usize, answers: &mut Answers) -> io::Result<()> {
        let request = self.input.bytes(frame.body());
        let answer = (answers.answer)(request);
        if let Some(due) = answers.due() {
            let body = match answer {
                Answer::Echo => Bytes::copy_from_slice(request),
                Answer::Bytes(bytes) => bytes,
            };
            let (generation, id) = (self.generation, frame.id);
            answers.delayed.push_back(Delayed { due, index, generation, id, body });
            return Ok(());
        }
        match answer {
            // The frame of an echo is the frame of its request.
            Answer::Echo => self.output.gather(self.input.bytes(frame.whole.clone())),
            Answer::Bytes(bytes) => self.output.push(frame.id, &bytes),
        }
        if frame.id & REPLY_ALONE != 0 {
            self.output.flush(&mut &self.stream)?;
        }
        Ok(())
    }

    /// Writes what it can, and has epoll tell when the rest can go.
    fn send(&mut self, poller: &OwnedFd, index: usize, wait: Wait) -> io::Result<()> {
        if !self.output.is_empty() {
            self.output.flush(&mut &self.stream)?;
        }
        // While many replies wait, no more requests are asked for.
        let wanted = match self.output.waiting_bytes() {
            0 => epoll::EventFlags::IN,
            bytes if !self.is_client && bytes > WAITING_BYTES_MAX => epoll::EventFlags::OUT,
            _ => epoll::EventFlags::IN | epoll::EventFlags::OUT,
        };
        if wanted != self.watched && wait == Wait::Sleep {
            epoll::modify(poller, &self.stream, epoll::EventData::new_u64(index as u64), wanted)?;
            self.watched = wanted;
        }
        Ok(())
    }
}

/// Waits for events, at most for `left`; being interrupted by a signal is no event.
fn wait(poller: &OwnedFd, events: &mut Vec<epoll::Event>, left: Duration) -> io::Result<()> {
    let timeout = Timespec {
        tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: left.subsec_nanos().into(),
    };
    events.clear();
    match epoll::wait(poller, rustix::buffer::spare_capacity(events), Some(&timeout)) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;
    use crate::tcp::frame::{HEADER_BYTES, header};

    const LIMIT: usize = 1_000_000;
    const SOON: Duration = Duration::from_millis(1);
    const TIMEOUT: Duration = Duration::from_secs(5);

    fn settings(writes: Writes, connections: usize) -> Settings {
        let (wait, congestion) = (Wait::Sleep, None);
        Settings { wait, writes, connections, congestion, message_bytes_max: LIMIT }
    }

    fn listener() -> (TcpListener, SocketAddr) {
        let listener = socket::listen(([127, 0, 0, 1], 0).into(), None).unwrap();
        let address = listener.local_addr().unwrap();
        (listener, address)
    }

    fn body(length: usize) -> Bytes {
        (0..length).map(|at| at as u8).collect()
    }

    /// A client and the server's end of its connection, which gives up reading after a while.
    fn pair(writes: Writes) -> (Host, TcpStream) {
        let (listener, address) = listener();
        let mut client = Host::client(&settings(writes, 1)).unwrap();
        client.connect(address, TIMEOUT).unwrap();
        let (server, _) = listener.accept().unwrap();
        server.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        (client, server)
    }

    /// Polls both until all calls have ended; returns tokens and replies in order of the tokens.
    fn replies(client: &mut Host, server: &mut Host, count: usize) -> Vec<(u64, Option<Vec<u8>>)> {
        let mut found = Vec::new();
        let until = Instant::now() + 4 * TIMEOUT;
        while found.len() < count && Instant::now() < until {
            server.poll(Instant::now() + SOON, &mut |_, _| panic!("it calls nobody")).unwrap();
            client
                .poll(Instant::now() + SOON, &mut |token, reply| {
                    found.push((token, reply.map(<[u8]>::to_vec)));
                })
                .unwrap();
        }
        found.sort_by_key(|(token, _)| *token);
        found
    }

    #[test]
    fn with_writes_of_their_own_requests_leave_when_they_begin() {
        let (mut client, mut server) = pair(Writes::Each);
        client.start(7, 0, &body(50)).unwrap();
        let mut frame = [0; HEADER_BYTES + 50];
        server.read_exact(&mut frame).unwrap();
        assert_eq!(frame[4..HEADER_BYTES], (7 | REPLY_ALONE).to_le_bytes());
        server.write_all(&frame).unwrap();
        let mut tokens = Vec::new();
        client.poll(Instant::now() + TIMEOUT, &mut |token, _| tokens.push(token)).unwrap();
        assert_eq!(tokens, [7]);
    }

    #[test]
    fn gathered_requests_leave_with_the_next_poll() {
        let (mut client, mut server) = pair(Writes::Gathered);
        for token in 0..3 {
            client.start(token, 0, &body(50)).unwrap();
        }
        let mut frames = [0; 3 * (HEADER_BYTES + 50)];
        assert!(server.read(&mut frames).is_err(), "nothing leaves before the poll");
        client.poll(Instant::now(), &mut |_, _| {}).unwrap();
        assert_eq!(server.read(&mut frames).unwrap(), frames.len());
        assert_eq!(frames[4..HEADER_BYTES], [0; 8]);
    }

    #[test]
    fn replies_are_written_at_once_where_their_client_asked_for_it() {
        for (flag, waits) in [(0, true), (REPLY_ALONE, false)] {
            let (listener, address) = listener();
            let mut client = TcpStream::connect(address).unwrap();
            let stream = listener.accept().unwrap().0;
            let mut server = Connection::new(stream, FrameBuffer::new(LIMIT), false, 0);
            let mut frames = header(0, 1 | flag).to_vec();
            frames.extend(header(0, 2 | flag));
            client.write_all(&frames).unwrap();
            let mut host = Host::client(&settings(Writes::Each, 1)).unwrap();
            server.receive(0, &mut host.answers, &mut |_, _| {}).unwrap();
            assert_eq!(!server.output.is_empty(), waits, "{flag}");
        }
    }

    #[test]
    fn messages_of_all_lengths_come_back_whole_over_several_connections() {
        let sizes = [0, 1, 11, 70_000, 64 << 10, LIMIT, 3];
        for writes in [Writes::Each, Writes::Gathered] {
            let (listener, address) = listener();
            let settings = settings(writes, 3);
            let mut server =
                Host::server(listener, &settings, Pace::AtOnce, |_| Answer::Echo).unwrap();
            let mut client = Host::client(&settings).unwrap();
            client.connect(address, TIMEOUT).unwrap();
            for (token, size) in sizes.into_iter().enumerate() {
                client.start(token as u64, 0, &body(size)).unwrap();
            }
            let found = replies(&mut client, &mut server, sizes.len());
            assert_eq!(found.len(), sizes.len());
            for ((token, reply), size) in found.into_iter().zip(sizes) {
                assert_eq!(reply.as_deref(), Some(&body(size)[..]), "{token}");
            }
            let idle = client.connections.iter().flatten().all(|one| one.bytes_under_way == 0);
            assert!(idle);
        }
    }

    #[test]
    fn a_call_takes_an_idle_connection_if_there_is_one() {
        let (_listener, address) = listener();
        let mut client = Host::client(&settings(Writes::Gathered, 3)).unwrap();
        client.connect(address, TIMEOUT).unwrap();
        for (token, bytes) in [500, 100, 300, 100, 150].into_iter().enumerate() {
            client.start(token as u64, 0, &body(bytes)).unwrap();
        }
        let under_way: Vec<usize> =
            client.connections.iter().flatten().map(|one| one.bytes_under_way).collect();
        assert_eq!(under_way, [500, 350, 300]);
    }

    #[test]
    fn answers_leave_at_their_pace() {
        let step = Duration::from_millis(40);
        for (pace, least) in [(Pace::After(step), step), (Pace::OneByOne(step), 3 * step)] {
            let (listener, address) = listener();
            let settings = settings(Writes::Gathered, 1);
            let mut server = Host::server(listener, &settings, pace, |_| Answer::Echo).unwrap();
            let mut client = Host::client(&settings).unwrap();
            client.connect(address, TIMEOUT).unwrap();
            let begin = Instant::now();
            (0..3).for_each(|token| client.start(token, 0, &body(10)).unwrap());
            assert_eq!(replies(&mut client, &mut server, 3).len(), 3);
            assert!(begin.elapsed() >= least, "{pace:?}: {:?}", begin.elapsed());
        }
    }

    #[test]
    fn calls_over_a_connection_that_breaks_end_without_a_reply() {
        let (mut client, server) = pair(Writes::Gathered);
        client.start(1, 0, &body(10)).unwrap();
        client.start(2, 0, &body(10)).unwrap();
        drop(server);
        let mut ended = Vec::new();
        client
            .poll(Instant::now() + TIMEOUT, &mut |token, reply| {
                ended.push((token, reply.is_some()));
            })
            .unwrap();
        assert_eq!(ended, [(1, false), (2, false)]);
        assert!(client.take_lost().is_some() && client.take_lost().is_none());
        assert!(client.start(3, 0, &body(10)).is_err());
    }
}
