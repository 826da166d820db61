//! Recordings in files: pcap and pcapng in, pcapng out; one packet in memory at a time.

mod input;
mod pcap;
mod pcapng;
mod write;

use std::io::{self, BufRead, BufReader, Read};

use crate::decode::LinkType;
use pcap::PcapReader;
use pcapng::PcapngReader;

pub use write::{CaptureWriter, WriteError};

/// A recorded frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recorded<'a> {
    /// When it was recorded, in ns since 1970.
    pub time_ns: u64,
    /// What its first bytes are.
    pub link: LinkType,
    /// Its length on the wire in bytes; `data` may hold fewer.
    pub original_bytes: u32,
    /// What was recorded.
    pub data: &'a [u8],
}

/// Why a recording cannot be read, or not to its end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FileError {
    /// The system could not read it: check name and rights.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It is no pcap or pcapng file.
    #[error("not a pcap or pcapng file (it begins with {0})")]
    NotARecording(String),
    /// It is compressed: decompress it first.
    #[error("the file is compressed; decompress it first (for example with `{0}`)")]
    Compressed(&'static str),
    /// Its packets have a kind of link header that is not known here.
    #[error(
        "link type {0} is not supported; supported are Ethernet (1), Linux cooked (113, 276), raw IP (101) and loopback (0, 108)"
    )]
    LinkType(u32),
    /// It ends in the middle of a packet: the packets before it have been read.
    #[error("the file ends in the middle of packet {0}: it was cut, or is still being written")]
    Truncated(u64),
    /// Its structure is broken: the packets before have been read.
    #[error("the file is damaged after packet {after}: {reason}")]
    #[non_exhaustive]
    Damaged {
        /// Packets read before.
        after: u64,
        /// What is wrong.
        reason: String,
    },
}

/// Reads a recording from its beginning, whatever of the two formats it has.
pub struct CaptureReader<R: Read> {
    format: Format<R>,
    packets: u64,
    read_bytes: u64,
    skipped: u64,
    finished: bool,
}

enum Format<R: Read> {
    Pcap(PcapReader<BufReader<R>>),
    Pcapng(PcapngReader<BufReader<R>>),
}

const PCAPNG_MAGIC: [u8; 4] = [0x0A, 0x0D, 0x0D, 0x0A];
/// First bytes of compressed files and what decompresses them.
const COMPRESSED: [(&[u8], &str); 4] = [
    (&[0x1F, 0x8B], "gunzip"),
    (&[0x28, 0xB5, 0x2F, 0xFD], "unzstd"),
    (&[0xFD, 0x37, 0x7A, 0x58], "unxz"),
    (&[0x04, 0x22, 0x4D, 0x18], "unlz4"),
];

impl<R: Read> CaptureReader<R> {
    /// Begins to read.
    ///
    /// # Errors
    /// The file cannot be read, or is no recording.
    pub fn new(reader: R) -> Result<Self, FileError> {
        let mut reader = BufReader::with_capacity(1 << 20, reader);
        let start: Vec<u8> = reader.fill_buf()?.iter().take(4).copied().collect();
        if let Some((_, tool)) = COMPRESSED.iter().find(|(magic, _)| start.starts_with(magic)) {
            return Err(FileError::Compressed(tool));
        }
        let format = if start == PCAPNG_MAGIC {
            Format::Pcapng(PcapngReader::new(reader))
        } else {
            Format::Pcap(PcapReader::new(reader)?.ok_or_else(|| no_recording(&start))?)
        };
        Ok(Self { format, packets: 0, read_bytes: 0, skipped: 0, finished: false })
    }

    /// The next frame; `None` at the end and after an error.
    pub fn next_frame(&mut self) -> Option<Result<Recorded<'_>, FileError>> {
        if self.finished {
            return None;
        }
        let (packets, skipped, read_bytes) =
            (&mut self.packets, &mut self.skipped, &mut self.read_bytes);
        let result = match &mut self.format {
            Format::Pcap(reader) => reader.next_frame(*packets, read_bytes).transpose(),
            Format::Pcapng(reader) => reader.next_frame(*packets, skipped, read_bytes),
        };
        match &result {
            Some(Ok(_)) => *packets += 1,
            Some(Err(_)) | None => self.finished = true,
        }
        result
    }

    /// Bytes of the file that have been used.
    pub fn read_bytes(&self) -> u64 {
        self.read_bytes
    }

    /// Packets left out because their interface has a link type that is not supported.
    pub fn skipped(&self) -> u64 {
        self.skipped
    }
}

/// A file that begins so is none.
fn no_recording(start: &[u8]) -> FileError {
    FileError::NotARecording(match start {
        [] => "nothing: it is empty".to_owned(),
        start => format!("{start:02x?}"),
    })
}
