//! Reads a journal while it is written.

use std::{
    fs::File,
    io::{self, ErrorKind, Write},
    os::unix::fs::FileExt,
};

use rustix::fs::{FallocateFlags, fallocate};

use super::journal::Line;

/// Bytes read at a time.
const CHUNK_BYTES: usize = 256 << 10;

/// Room is given back when so much was read.
const GIVE_BACK_BYTES: u64 = 1 << 20;

/// The reading end of a journal.
#[derive(Debug)]
pub(super) struct Tail {
    file: File,
    at: u64,
    given_back: u64,
    /// The start of a line whose end is not there yet.
    rest: Vec<u8>,
    copy: Option<File>,
}

impl Tail {
    /// Reads a journal from the start; all of it is copied to `copy`.
    pub(super) fn new(file: File, copy: Option<File>) -> Self {
        Tail { file, at: 0, given_back: 0, rest: Vec::new(), copy }
    }

    /// Takes the lines that are there now.
    ///
    /// # Errors
    /// Those of reading, of writing the copy, and of lines that no actor writes.
    pub(super) fn read(&mut self, sink: &mut dyn FnMut(Line)) -> io::Result<()> {
        let mut chunk = vec![0; CHUNK_BYTES];
        loop {
            let length = self.file.read_at(&mut chunk, self.at)?;
            if length == 0 {
                return Ok(());
            }
            self.at += length as u64;
            self.rest.extend_from_slice(&chunk[..length]);
            let Some(end) = self.rest.iter().rposition(|byte| *byte == b'\n') else { continue };
            let next = self.rest.split_off(end + 1);
            let lines = std::mem::replace(&mut self.rest, next);
            for line in lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
                let line = serde_json::from_slice(line)
                    .map_err(|error| io::Error::new(ErrorKind::InvalidData, error))?;
                sink(line);
            }
            if let Some(copy) = &mut self.copy {
                copy.write_all(&lines)?;
            }
        }
    }

    /// Gives the room of what was read back to the disk; a file system that cannot do that keeps
    /// it.
    pub(super) fn give_back(&mut self) {
        if self.at - self.given_back >= GIVE_BACK_BYTES {
            let mode = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
            let _ = fallocate(&self.file, mode, self.given_back, self.at - self.given_back);
            self.given_back = self.at;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::soak::journal::Event;

    #[test]
    fn lines_are_taken_when_they_are_whole() {
        let file = tempfile::tempfile().unwrap();
        let mut tail = Tail::new(file.try_clone().unwrap(), None);
        let text = b"[1,{\"ran\":7}]\n[2,{\"ran\":8}]\n[3,";
        file.write_all_at(text, 0).unwrap();
        let mut lines = Vec::new();
        tail.read(&mut |line| lines.push(line)).unwrap();
        assert_eq!(lines, [(1, Event::Ran(7)), (2, Event::Ran(8))]);
        file.write_all_at(b"{\"ran\":9}]\n", text.len() as u64).unwrap();
        tail.read(&mut |line| lines.push(line)).unwrap();
        assert_eq!(lines.last(), Some(&(3, Event::Ran(9))));
    }
}
