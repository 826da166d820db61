//! Bytes waiting to be written to one connection.

use std::{
    collections::VecDeque,
    io::{self, IoSlice, Write},
};

use bytes::{Buf, Bytes};

use super::frame;

/// Bodies up to this length are copied together, so that many frames share one write; bytes.
const COPY_BYTES_MAX: usize = 16 << 10;

/// Frames are gathered in chunks of about this length, in bytes.
const CHUNK_BYTES: usize = 256 << 10;

/// Pieces per gathered write.
const PIECES_MAX: usize = 64;

/// A queue of frames; small ones are gathered, large bodies are referred to.
#[derive(Debug, Default)]
pub struct Output {
    chunks: VecDeque<Chunk>,
    /// Bytes of the first chunk that are written already.
    written: usize,
    waiting_bytes: usize,
    spare: Option<Vec<u8>>,
}

#[derive(Debug)]
enum Chunk {
    Gathered(Vec<u8>),
    Body(Bytes),
}

impl Chunk {
    fn bytes(&self) -> &[u8] {
        match self {
            Chunk::Gathered(bytes) => bytes,
            Chunk::Body(bytes) => bytes,
        }
    }
}

impl Output {
    /// Queues a frame whose body is shared.
    pub fn push(&mut self, id: u64, body: &Bytes) {
        self.gather(&frame::header(body.len(), id));
        if body.len() <= COPY_BYTES_MAX {
            self.gather(body);
        } else {
            self.waiting_bytes += body.len();
            self.chunks.push_back(Chunk::Body(body.clone()));
        }
    }

    /// Queues bytes, copying them.
    pub fn gather(&mut self, bytes: &[u8]) {
        self.waiting_bytes += bytes.len();
        if let Some(Chunk::Gathered(last)) = self.chunks.back_mut() {
            if last.len() < CHUNK_BYTES {
                last.extend_from_slice(bytes);
                return;
            }
        }
        let mut chunk = self.spare.take().unwrap_or_default();
        chunk.extend_from_slice(bytes);
        self.chunks.push_back(Chunk::Gathered(chunk));
    }

    /// How many bytes wait.
    pub fn waiting_bytes(&self) -> usize {
        self.waiting_bytes
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.waiting_bytes == 0
    }

    /// Writes until nothing waits (true) or the connection takes no more (false).
    ///
    /// # Errors
    /// The connection is gone.
    pub fn flush(&mut self, target: &mut impl Write) -> io::Result<bool> {
        while self.waiting_bytes > 0 {
            let count = match self.write_once(target) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            self.drop_written(count);
        }
        Ok(true)
    }

    fn write_once(&self, target: &mut impl Write) -> io::Result<usize> {
        let first = self.chunks.front().map_or(&[][..], Chunk::bytes);
        let first = first.get(self.written..).unwrap_or(&[]);
        if self.chunks.len() == 1 {
            return target.write(first);
        }
        let mut slices = [IoSlice::new(&[]); PIECES_MAX];
        slices[0] = IoSlice::new(first);
        let mut used = 1;
        for (slice, chunk) in slices[1..].iter_mut().zip(self.chunks.iter().skip(1)) {
            *slice = IoSlice::new(chunk.bytes());
            used += 1;
        }
        target.write_vectored(&slices[..used])
    }

    fn drop_written(&mut self, count: usize) {
        self.waiting_bytes -= count;
        self.written += count;
        while let Some(first) = self.chunks.front() {
            let length = first.bytes().len();
            if self.written < length {
                return;
            }
            self.written -= length;
            if let Some(Chunk::Gathered(mut chunk)) = self.chunks.pop_front() {
                chunk.clear();
                self.spare = Some(chunk);
            }
        }
    }
}

/// Writes one frame to a blocking stream in as few writes as possible; `scratch` is reused between
/// calls.
///
/// # Errors
/// What the system says.
pub fn write_frame(
    target: &mut impl Write,
    scratch: &mut Vec<u8>,
    id: u64,
    body: &[u8],
) -> io::Result<()> {
    let header = frame::header(body.len(), id);
    if body.len() <= COPY_BYTES_MAX {
        scratch.clear();
        scratch.extend_from_slice(&header);
        scratch.extend_from_slice(body);
        return write_all(target, scratch);
    }
    let mut whole = (&header[..]).chain(body);
    while whole.has_remaining() {
        let mut slices = [IoSlice::new(&[]); 2];
        let used = whole.chunks_vectored(&mut slices);
        match target.write_vectored(&slices[..used]) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => whole.advance(count),
            Err(error) if again(&error) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Like `Write::write_all`, but spins on a socket that does not block.
///
/// # Errors
/// What the system says.
pub fn write_all(target: &mut impl Write, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match target.write(bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => bytes = &bytes[count..],
            Err(error) if again(&error) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn again(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tcp::frame::FrameBuffer;

    fn pattern(seed: u64, length: usize) -> Bytes {
        (0..length).map(|at| (at * 7) as u8 ^ seed as u8).collect()
    }

    /// Takes a limited number of bytes per write, and blocks every third time.
    struct Slow {
        taken: Vec<u8>,
        calls: usize,
    }

    impl Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.calls += 1;
            if self.calls.is_multiple_of(3) {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            let count = bytes.len().min(7_000);
            self.taken.extend_from_slice(&bytes[..count]);
            Ok(count)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn frames_of_all_sizes_leave_in_order_and_complete() {
        let sizes = [0, 10, 100_000, 16 << 10, 20_000, 3, 3];
        let mut output = Output::default();
        let mut target = Slow { taken: Vec::new(), calls: 0 };
        for (id, size) in sizes.iter().enumerate() {
            output.push(id as u64, &pattern(id as u64, *size));
        }
        while !output.flush(&mut target).unwrap() {}
        assert!(output.is_empty());
        let mut source = &target.taken[..];
        let mut buffer = FrameBuffer::new(1 << 30);
        let mut seen = 0;
        while buffer.fill(&mut source).unwrap().0 > 0 {
            while let Some(frame) = buffer.next_frame().unwrap() {
                assert_eq!(frame.id, seen as u64);
                assert_eq!(buffer.bytes(frame.body()), &pattern(frame.id, sizes[seen])[..]);
                seen += 1;
            }
        }
        assert_eq!(seen, sizes.len());
    }

    #[test]
    fn a_blocking_frame_is_written_whole_even_in_small_steps() {
        for size in [5, 1_000_000] {
            let mut target = Slow { taken: Vec::new(), calls: 0 };
            write_frame(&mut target, &mut Vec::new(), 1, &pattern(1, size)).unwrap();
            assert_eq!(target.taken.len(), frame::HEADER_BYTES + size);
            assert_eq!(target.taken[frame::HEADER_BYTES..], pattern(1, size)[..]);
        }
    }
}
