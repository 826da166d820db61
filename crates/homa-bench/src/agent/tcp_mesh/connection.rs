//! One TCP connection: framing, what waits to be written, and which calls are under way.

use std::{
    collections::VecDeque,
    io::{self, IoSlice, Read, Write},
    net::TcpStream,
    os::fd::{AsFd, BorrowedFd},
};

/// Bytes in front of each message: length and token, little endian.
const FRAME_BYTES: usize = 12;
/// Pieces gathered into one write.
const PIECES_MAX: usize = 64;
/// Bytes read in one turn, so that other connections get theirs.
const READ_BYTES_MAX: usize = 1 << 20;

/// Payload of all messages.
static PAYLOAD: [u8; 64 << 10] = [0x5a; 64 << 10];

/// A message by its length and the number its answer bears.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) token: u64,
    pub(super) bytes: u32,
}

/// A message that is being written.
#[derive(Debug)]
struct Outgoing {
    frame: [u8; FRAME_BYTES],
    body_bytes: usize,
    written: usize,
}

/// A connection.
#[derive(Debug)]
pub(super) struct Connection {
    stream: TcpStream,
    /// This side calls; otherwise it serves.
    pub(super) is_client: bool,
    frame: [u8; FRAME_BYTES],
    frame_have: usize,
    body_missing: usize,
    outgoing: VecDeque<Outgoing>,
    waits_for_room: bool,
    /// Calls under way, in order, with the bytes that belong to them.
    calls: VecDeque<(u64, u32)>,
    calls_bytes: u64,
}

impl Connection {
    pub(super) fn new(stream: TcpStream, is_client: bool) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        Ok(Connection {
            stream,
            is_client,
            frame: [0; FRAME_BYTES],
            frame_have: 0,
            body_missing: 0,
            outgoing: VecDeque::new(),
            waits_for_room: false,
            calls: VecDeque::new(),
            calls_bytes: 0,
        })
    }

    /// Notes a call of which this many bytes go both ways.
    pub(super) fn begin(&mut self, token: u64, bytes: u32) {
        self.calls.push_back((token, bytes));
        self.calls_bytes += u64::from(bytes);
    }

    /// Bytes of the calls under way.
    pub(super) fn bytes_under_way(&self) -> u64 {
        self.calls_bytes
    }

    /// The calls under way.
    pub(super) fn under_way(&self) -> impl Iterator<Item = u64> + '_ {
        self.calls.iter().map(|call| call.0)
    }

    /// Adds a message to what waits to be written.
    pub(super) fn push(&mut self, message: Message) {
        let mut frame = [0; FRAME_BYTES];
        frame[..4].copy_from_slice(&message.bytes.to_le_bytes());
        frame[4..].copy_from_slice(&message.token.to_le_bytes());
        self.outgoing.push_back(Outgoing { frame, body_bytes: message.bytes as usize, written: 0 });
    }

    /// Writes as much as the socket takes.
    pub(super) fn write(&mut self) -> io::Result<()> {
        while !self.outgoing.is_empty() {
            let mut pieces = Vec::with_capacity(PIECES_MAX);
            gather(&self.outgoing, &mut pieces);
            match self.stream.write_vectored(&pieces) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => self.advance(written),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn advance(&mut self, mut written: usize) {
        while let Some(front) = self.outgoing.front_mut() {
            let left = FRAME_BYTES + front.body_bytes - front.written;
            if written < left {
                front.written += written;
                return;
            }
            written -= left;
            self.outgoing.pop_front();
        }
    }

    /// Whether writability is awaited from now on, if that changed.
    pub(super) fn change_of_interest(&mut self) -> Option<bool> {
        let waits = !self.outgoing.is_empty();
        let changed = waits != self.waits_for_room;
        self.waits_for_room = waits;
        changed.then_some(waits)
    }

    /// Reads what is there and tells of each whole message.
    pub(super) fn read(
        &mut self,
        buffer: &mut [u8],
        message_bytes_max: u32,
        sink: &mut dyn FnMut(Message),
    ) -> io::Result<()> {
        let mut total = 0;
        while total < READ_BYTES_MAX {
            let count = match self.stream.read(buffer) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            self.take(&buffer[..count], message_bytes_max, sink)?;
            total += count;
            if count < buffer.len() {
                return Ok(());
            }
        }
        Ok(())
    }

    fn take(
        &mut self,
        mut bytes: &[u8],
        message_bytes_max: u32,
        sink: &mut dyn FnMut(Message),
    ) -> io::Result<()> {
        while !bytes.is_empty() {
            if self.frame_have < FRAME_BYTES {
                let count = bytes.len().min(FRAME_BYTES - self.frame_have);
                let (front, rest) = bytes.split_at(count);
                self.frame[self.frame_have..self.frame_have + count].copy_from_slice(front);
                self.frame_have += count;
                bytes = rest;
                if self.frame_have < FRAME_BYTES {
                    return Ok(());
                }
                self.body_missing = self.message().bytes as usize;
                if self.message().bytes > message_bytes_max {
                    return Err(io::ErrorKind::InvalidData.into());
                }
            }
            let count = bytes.len().min(self.body_missing);
            bytes = &bytes[count..];
            self.body_missing -= count;
            if self.body_missing == 0 {
                self.frame_have = 0;
                let message = self.message();
                self.ended(message.token);
                sink(message);
            }
        }
        Ok(())
    }

    fn message(&self) -> Message {
        let [a, b, c, d, token @ ..] = self.frame;
        Message { bytes: u32::from_le_bytes([a, b, c, d]), token: u64::from_le_bytes(token) }
    }

    fn ended(&mut self, token: u64) {
        if let Some(index) = self.calls.iter().position(|call| call.0 == token) {
            if let Some((_, bytes)) = self.calls.remove(index) {
                self.calls_bytes -= u64::from(bytes);
            }
        }
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

fn gather<'a>(outgoing: &'a VecDeque<Outgoing>, pieces: &mut Vec<IoSlice<'a>>) {
    for message in outgoing {
        let (mut skip, mut body) = (message.written, message.body_bytes);
        if skip < FRAME_BYTES {
            pieces.push(IoSlice::new(&message.frame[skip..]));
            skip = 0;
        } else {
            skip -= FRAME_BYTES;
        }
        body -= skip;
        while body > 0 && pieces.len() < PIECES_MAX {
            let count = body.min(PAYLOAD.len());
            pieces.push(IoSlice::new(&PAYLOAD[..count]));
            body -= count;
        }
        if pieces.len() + 1 >= PIECES_MAX {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn messages_of_all_lengths_arrive_whole_and_in_order() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let mut client = Connection::new(client, true).unwrap();
        let mut server = Connection::new(listener.accept().unwrap().0, false).unwrap();
        let sizes = [0, 1, 11, 70_000, 64 << 10, 1_000_000, 3];
        for (token, bytes) in sizes.into_iter().enumerate() {
            client.begin(token as u64, bytes);
            client.push(Message { token: token as u64, bytes });
        }
        let mut found = Vec::new();
        let mut buffer = vec![0; 10_000];
        while found.len() < sizes.len() {
            client.write().unwrap();
            server.read(&mut buffer, 1_000_000, &mut |message| found.push(message.bytes)).unwrap();
        }
        assert_eq!(found, sizes);
        assert_eq!(
            client.bytes_under_way(),
            sizes.iter().map(|bytes| u64::from(*bytes)).sum::<u64>()
        );
    }

    #[test]
    fn a_length_beyond_the_limit_ends_the_connection() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let mut server = Connection::new(listener.accept().unwrap().0, false).unwrap();
        client.write_all(&[0xff; FRAME_BYTES]).unwrap();
        let error = loop {
            match server.read(&mut [0; 100], 1_000_000, &mut |_| panic!("no message")) {
                Ok(()) => {}
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }
}
