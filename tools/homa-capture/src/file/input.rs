//! What both formats need: numbers in the byte order of the file, and reading that tells an end
//! from a cut.

use std::io::{self, Read};

use super::FileError;

/// Longest block or frame read, in bytes; a frame has at most 256 KiB, some blocks hold secrets or
/// names.
pub(super) const BLOCK_BYTES_MAX: u32 = 64 << 20;

/// How the numbers of a file are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ByteOrder {
    Big,
    Little,
}

impl ByteOrder {
    /// The order in which `bytes` are the number `magic`, if there is one.
    pub(super) fn of(bytes: [u8; 4], magic: u32) -> Option<Self> {
        [Self::Big, Self::Little].into_iter().find(|order| order.u32(&bytes, 0) == Some(magic))
    }

    /// The number of 4 bytes at `at`, if they are there.
    pub(super) fn u32(self, bytes: &[u8], at: usize) -> Option<u32> {
        let bytes: [u8; 4] = bytes.get(at..at.checked_add(4)?)?.try_into().ok()?;
        Some(match self {
            Self::Big => u32::from_be_bytes(bytes),
            Self::Little => u32::from_le_bytes(bytes),
        })
    }

    /// The number of 2 bytes at `at`, if they are there.
    pub(super) fn u16(self, bytes: &[u8], at: usize) -> Option<u16> {
        let bytes: [u8; 2] = bytes.get(at..at.checked_add(2)?)?.try_into().ok()?;
        Some(match self {
            Self::Big => u16::from_be_bytes(bytes),
            Self::Little => u16::from_le_bytes(bytes),
        })
    }

    /// These 8 bytes as a number with a sign.
    pub(super) fn i64(self, bytes: [u8; 8]) -> i64 {
        match self {
            Self::Big => i64::from_be_bytes(bytes),
            Self::Little => i64::from_le_bytes(bytes),
        }
    }
}

/// Fills `bytes`; `false` if the file ends before them and may. `packets` have been read before.
pub(super) fn read_all(
    reader: &mut impl Read,
    bytes: &mut [u8],
    may_end: bool,
    packets: u64,
) -> Result<bool, FileError> {
    let mut filled = 0;
    while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match reader.read(rest) {
            Ok(0) if filled == 0 && may_end => return Ok(false),
            Ok(0) => return Err(FileError::Truncated(packets + 1)),
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(true)
}

/// Appends the next `count` bytes to `bytes`, which grows only as they arrive.
pub(super) fn append(
    reader: &mut impl Read,
    bytes: &mut Vec<u8>,
    count: u32,
    packets: u64,
) -> Result<(), FileError> {
    let got = reader.take(u64::from(count)).read_to_end(bytes)?;
    if got as u64 == u64::from(count) { Ok(()) } else { Err(FileError::Truncated(packets + 1)) }
}

/// The structure of the file is broken after so many packets.
pub(super) fn damaged(after: u64, reason: &str) -> FileError {
    FileError::Damaged { after, reason: reason.to_owned() }
}
