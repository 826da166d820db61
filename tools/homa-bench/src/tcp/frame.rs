//! Frames of the RPCs over TCP, and the buffer they arrive in.

use std::{
    io::{self, Read},
    ops::Range,
};

/// Length of a frame's header in bytes.
pub const HEADER_BYTES: usize = 12;

/// Space for many small frames per `read`, in bytes.
const READ_BYTES: usize = 256 << 10;

/// From this many missing bytes on, a `read` takes the rest of one frame and nothing behind it, so
/// that nothing has to be moved to the front afterwards.
const LARGE_REST_BYTES: usize = 64 << 10;

/// Set in the id of a request whose reply shall not wait for others to share its write.
pub const REPLY_ALONE: u64 = 1 << 63;

/// The header of a frame with this body length and RPC id.
pub fn header(body_bytes: usize, id: u64) -> [u8; HEADER_BYTES] {
    let mut bytes = [0; HEADER_BYTES];
    // Limits of bodies are below 4 GiB.
    bytes[..4].copy_from_slice(&(body_bytes as u32).to_le_bytes());
    bytes[4..].copy_from_slice(&id.to_le_bytes());
    bytes
}

/// A complete frame in a [`FrameBuffer`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// The RPC it belongs to.
    pub id: u64,
    /// Where header and body are.
    pub whole: Range<usize>,
}

impl Frame {
    /// Where the body is.
    pub fn body(&self) -> Range<usize> {
        self.whole.start + HEADER_BYTES..self.whole.end
    }
}

/// Bytes received from one connection, cut into frames in place.
#[derive(Debug)]
pub struct FrameBuffer {
    data: Vec<u8>,
    start: usize,
    end: usize,
    body_bytes_max: usize,
}

impl FrameBuffer {
    /// An empty buffer for frames with bodies of at most this length.
    pub fn new(body_bytes_max: usize) -> Self {
        FrameBuffer { data: vec![0; READ_BYTES], start: 0, end: 0, body_bytes_max }
    }

    /// One `read` into the free space; frames taken before are gone afterwards. Returns what `read`
    /// did and whether it filled all the space offered, so that more may be waiting.
    ///
    /// # Errors
    /// What `read` says; a frame is longer than allowed.
    pub fn fill(&mut self, source: &mut impl Read) -> io::Result<(usize, bool)> {
        let space = self.free_space()?;
        let count = source.read(space)?;
        let filled = count == space.len();
        self.end += count;
        Ok((count, filled))
    }

    /// The space the next `read` should fill; see [`FrameBuffer::advance`].
    ///
    /// # Errors
    /// The frame under way is longer than allowed.
    pub fn free_space(&mut self) -> io::Result<&mut [u8]> {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
        let missing = match self.frame_bytes()? {
            Some(total) => total.saturating_sub(self.end - self.start),
            None => 0,
        };
        if self.data.len() - self.end < missing.max(READ_BYTES / 4) {
            self.make_room(missing);
        }
        let limit = match missing >= LARGE_REST_BYTES {
            true => self.data.len().min(self.end + missing),
            false => self.data.len(),
        };
        Ok(&mut self.data[self.end..limit])
    }

    /// Tells that `count` bytes of the free space have been filled.
    pub fn advance(&mut self, count: usize) {
        self.end = (self.end + count).min(self.data.len());
    }

    /// The next complete frame, if it is there; its bytes stay until the next read.
    ///
    /// # Errors
    /// The frame is longer than allowed.
    pub fn next_frame(&mut self) -> io::Result<Option<Frame>> {
        match self.frame_bytes()? {
            Some(total) if total <= self.end - self.start => {
                let whole = self.start..self.start + total;
                let mut id = [0; 8];
                id.copy_from_slice(&self.data[whole.start + 4..whole.start + HEADER_BYTES]);
                self.start = whole.end;
                Ok(Some(Frame { id: u64::from_le_bytes(id), whole }))
            }
            _ => Ok(None),
        }
    }

    /// The bytes of a frame taken since the last read.
    pub fn bytes(&self, range: Range<usize>) -> &[u8] {
        &self.data[range]
    }

    /// Length of the first frame with its header, once its length has arrived.
    fn frame_bytes(&self) -> io::Result<Option<usize>> {
        if self.end - self.start < HEADER_BYTES {
            return Ok(None);
        }
        let mut length = [0; 4];
        length.copy_from_slice(&self.data[self.start..self.start + 4]);
        let body_bytes = u32::from_le_bytes(length) as usize;
        if body_bytes > self.body_bytes_max {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("frame of {body_bytes} bytes is longer than {}", self.body_bytes_max),
            ));
        }
        Ok(Some(HEADER_BYTES + body_bytes))
    }

    /// Moves what is held to the front; grows by at most what has arrived already, so that a header
    /// alone cannot claim memory.
    fn make_room(&mut self, missing: usize) {
        self.data.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        let growth = missing.min(self.end.max(READ_BYTES) * 4);
        let wanted = self.end + growth.max(READ_BYTES / 4);
        if self.data.len() < wanted {
            self.data.resize(wanted, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODY_BYTES_MAX: usize = 1 << 30;

    fn stream_of(bodies: &[usize]) -> Vec<u8> {
        let mut stream = Vec::new();
        for (id, length) in bodies.iter().enumerate() {
            stream.extend_from_slice(&header(*length, id as u64));
            stream.extend((0..*length).map(|i| (i * 7 + id) as u8));
        }
        stream
    }

    /// Hands out a stream in reads of a fixed size.
    struct Trickle<'a>(&'a [u8], usize);

    impl Read for Trickle<'_> {
        fn read(&mut self, space: &mut [u8]) -> io::Result<usize> {
            let count = self.0.len().min(self.1).min(space.len());
            space[..count].copy_from_slice(&self.0[..count]);
            self.0 = &self.0[count..];
            Ok(count)
        }
    }

    #[test]
    fn frames_are_found_however_the_stream_is_cut() {
        let bodies = [0, 1, 100, 300_000, 5, 2_000_000, 70_000, 0, 12];
        let stream = stream_of(&bodies);
        for piece in [1_000, 1_460, 65_536, usize::MAX] {
            let mut source = Trickle(&stream, piece);
            let mut buffer = FrameBuffer::new(BODY_BYTES_MAX);
            let mut seen = 0;
            while buffer.fill(&mut source).unwrap().0 > 0 {
                while let Some(frame) = buffer.next_frame().unwrap() {
                    let body = buffer.bytes(frame.body());
                    assert_eq!(frame.id as usize, seen);
                    assert_eq!(body.len(), bodies[seen]);
                    assert!(body.iter().enumerate().all(|(i, b)| *b == (i * 7 + seen) as u8));
                    seen += 1;
                }
            }
            assert_eq!(seen, bodies.len(), "pieces of {piece}");
        }
    }

    #[test]
    fn a_frame_that_claims_too_much_is_refused() {
        let stream = [0xff; 64];
        let mut buffer = FrameBuffer::new(BODY_BYTES_MAX);
        buffer.fill(&mut &stream[..]).unwrap();
        assert!(buffer.next_frame().is_err());
    }

    #[test]
    fn a_claimed_length_alone_takes_little_memory() {
        let stream = header(BODY_BYTES_MAX, 1);
        let mut buffer = FrameBuffer::new(BODY_BYTES_MAX);
        buffer.fill(&mut &stream[..]).unwrap();
        assert_eq!(buffer.next_frame().unwrap(), None);
        buffer.free_space().unwrap();
        assert!(buffer.data.len() <= 8 * READ_BYTES, "{}", buffer.data.len());
    }
}
