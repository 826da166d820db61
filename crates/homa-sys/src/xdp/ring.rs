//! The rings through which process and kernel pass frames to each other: each has one producer and
//! one consumer, whose counters only grow and wrap.

use super::memory::Mapping;
use std::io;
use std::marker::PhantomData;
use std::os::fd::BorrowedFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

/// Where the parts of a ring are in its mapping (`struct xdp_ring_offset`), and where the mapping
/// is in the socket.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    pub(super) producer: u64,
    pub(super) consumer: u64,
    pub(super) descriptors: u64,
    pub(super) flags: u64,
    pub(super) mapping: u64,
}

/// Entries of rings: plain numbers, for which all bit patterns are valid.
pub(super) trait Entry: Copy {}

/// Frames in the fill and the completion ring: their address in the memory for packets.
impl Entry for u64 {}

/// A packet in the receive or transmit ring (`struct xdp_desc`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub(super) struct Descriptor {
    /// Address in the memory for packets.
    pub(super) address: u64,
    pub(super) bytes: u32,
    pub(super) options: u32,
}

impl Entry for Descriptor {}

/// A mapped ring; which side this process is follows from the wrapper.
#[derive(Debug)]
struct Ring<T> {
    /// Keeps the pointers below valid.
    _mapping: Mapping,
    producer: NonNull<AtomicU32>,
    consumer: NonNull<AtomicU32>,
    flags: NonNull<AtomicU32>,
    entries: NonNull<T>,
    /// A power of two.
    size: u32,
    entry: PhantomData<T>,
}

// SAFETY: the pointers lead into the mapping, which goes along.
unsafe impl<T: Send> Send for Ring<T> {}

impl<T: Entry> Ring<T> {
    fn map(fd: BorrowedFd<'_>, size: u32, layout: Layout) -> io::Result<Self> {
        let invalid = || io::Error::from(io::ErrorKind::InvalidData);
        let offset = |at: u64| usize::try_from(at).map_err(|_| invalid());
        let entries_bytes = size_of::<T>().checked_mul(size as usize).ok_or_else(invalid)?;
        let descriptors = offset(layout.descriptors)?;
        let bytes = descriptors.checked_add(entries_bytes).ok_or_else(invalid)?;
        let mapping = Mapping::of_ring(fd, bytes, layout.mapping)?;
        let counter = |at: u64| {
            let place = mapping.at(offset(at)?, size_of::<AtomicU32>()).ok_or_else(invalid)?;
            let place = place.cast::<AtomicU32>();
            if place.is_aligned() { Ok(place) } else { Err(invalid()) }
        };
        let (producer, consumer) = (counter(layout.producer)?, counter(layout.consumer)?);
        let flags = counter(layout.flags)?;
        let entries = mapping.at(descriptors, entries_bytes).ok_or_else(invalid)?.cast::<T>();
        if !size.is_power_of_two() || !entries.is_aligned() {
            return Err(invalid());
        }
        let entry = PhantomData;
        Ok(Self { _mapping: mapping, producer, consumer, flags, entries, size, entry })
    }

    fn producer(&self) -> &AtomicU32 {
        // SAFETY: within the mapping and aligned, as checked; both sides use it atomically.
        unsafe { self.producer.as_ref() }
    }

    fn consumer(&self) -> &AtomicU32 {
        // SAFETY: as above.
        unsafe { self.consumer.as_ref() }
    }

    fn needs_wakeup(&self) -> bool {
        // SAFETY: as above.
        let flags = unsafe { self.flags.as_ref() };
        flags.load(Ordering::Relaxed) & libc::XDP_RING_NEED_WAKEUP != 0
    }

    /// The place of the entry with this number.
    fn slot(&self, number: u32) -> NonNull<T> {
        let index = (number & (self.size - 1)) as usize;
        // SAFETY: less than the number of entries, which lie within the mapping.
        unsafe { self.entries.add(index) }
    }
}

/// A ring that this process fills: the fill and the transmit ring.
#[derive(Debug)]
pub(super) struct Producer<T> {
    ring: Ring<T>,
    /// Entries written, of which the kernel knows those published.
    written: u32,
}

impl<T: Entry> Producer<T> {
    pub(super) fn map(fd: BorrowedFd<'_>, size: u32, layout: Layout) -> io::Result<Self> {
        Ok(Self { ring: Ring::map(fd, size, layout)?, written: 0 })
    }

    /// Writes an entry that [`publish`](Self::publish) shows; `false` without room.
    #[inline]
    pub(super) fn push(&mut self, entry: T) -> bool {
        if self.unread() >= self.ring.size {
            return false;
        }
        // SAFETY: the slot is within the ring, and the kernel does not read it before it is
        // published, as it is not among the unread ones.
        unsafe { self.ring.slot(self.written).write(entry) };
        self.written = self.written.wrapping_add(1);
        true
    }

    /// Shows the kernel all that was written.
    #[inline]
    pub(super) fn publish(&mut self) {
        self.ring.producer().store(self.written, Ordering::Release);
    }

    /// Entries that the kernel has not taken yet.
    #[inline]
    pub(super) fn unread(&self) -> u32 {
        self.written.wrapping_sub(self.ring.consumer().load(Ordering::Acquire))
    }

    /// Whether the kernel looks only after a system call.
    #[inline]
    pub(super) fn needs_wakeup(&self) -> bool {
        self.ring.needs_wakeup()
    }
}

/// A ring that the kernel fills: the receive and the completion ring.
#[derive(Debug)]
pub(super) struct Consumer<T> {
    ring: Ring<T>,
    /// Entries read, of which the kernel knows those released.
    read: u32,
}

impl<T: Entry> Consumer<T> {
    pub(super) fn map(fd: BorrowedFd<'_>, size: u32, layout: Layout) -> io::Result<Self> {
        Ok(Self { ring: Ring::map(fd, size, layout)?, read: 0 })
    }

    /// Entries that wait, at most as many as the ring has.
    #[inline]
    pub(super) fn waiting(&self) -> u32 {
        let produced = self.ring.producer().load(Ordering::Acquire);
        produced.wrapping_sub(self.read).min(self.ring.size)
    }

    /// The `ahead`-th of the `waiting` entries.
    #[inline]
    pub(super) fn peek(&self, ahead: u32, waiting: u32) -> Option<T> {
        if ahead >= waiting.min(self.ring.size) {
            return None;
        }
        // SAFETY: the slot is within the ring, all bit patterns are valid, and the kernel does not
        // write it before it is released.
        Some(unsafe { self.ring.slot(self.read.wrapping_add(ahead)).read() })
    }

    /// Takes the next of the `waiting` entries, of which one is less then.
    #[inline]
    pub(super) fn pop(&mut self, waiting: &mut u32) -> Option<T> {
        let entry = self.peek(0, *waiting)?;
        *waiting -= 1;
        self.read = self.read.wrapping_add(1);
        Some(entry)
    }

    /// Gives the places of all entries taken back to the kernel.
    #[inline]
    pub(super) fn release(&mut self) {
        self.ring.consumer().store(self.read, Ordering::Release);
    }
}
