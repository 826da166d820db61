//! Memory that is shared with the kernel.

use crate::call::check;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::{self, NonNull};

/// A mapping of its own, page-aligned, readable and writable; unmapped when dropped. What parts of
/// it mean, and who may touch them when, is its owner's business.
#[derive(Debug)]
pub(super) struct Mapping {
    start: NonNull<u8>,
    bytes: usize,
}

// SAFETY: a mapping belongs to the process, not to a thread, and nothing else has this one.
unsafe impl Send for Mapping {}

impl Mapping {
    /// Zeroed memory.
    pub(super) fn anonymous(bytes: usize) -> io::Result<Self> {
        Self::new(bytes, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0)
    }

    /// A ring of an AF_XDP socket, by its offset.
    pub(super) fn of_ring(fd: BorrowedFd<'_>, bytes: usize, offset: u64) -> io::Result<Self> {
        let flags = libc::MAP_SHARED | libc::MAP_POPULATE;
        let offset = libc::off_t::try_from(offset).map_err(|_| io::ErrorKind::InvalidInput)?;
        Self::new(bytes, flags, fd.as_raw_fd(), offset)
    }

    fn new(bytes: usize, flags: i32, fd: i32, offset: libc::off_t) -> io::Result<Self> {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: the kernel chooses where, so that nothing that exists is replaced.
        let start = unsafe { libc::mmap(ptr::null_mut(), bytes, protection, flags, fd, offset) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { start, bytes })
    }

    /// Where `bytes` bytes at `offset` begin, if they lie within.
    pub(super) fn at(&self, offset: usize, bytes: usize) -> Option<NonNull<u8>> {
        let end = offset.checked_add(bytes)?;
        // SAFETY: `offset` is within the mapping, or just behind it.
        (end <= self.bytes).then(|| unsafe { self.start.add(offset) })
    }

    pub(super) fn len(&self) -> usize {
        self.bytes
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping is this one's alone, and nobody borrows from it any more.
        let _ = check(unsafe { libc::munmap(self.start.as_ptr().cast(), self.bytes) });
    }
}
