//! Memory for incoming messages: pieces that are used again and again, and slabs for short ones.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use homa_core::PIECE_BYTES;

use super::slab::Slab;

/// Unused pieces that are kept for later: 16 MiB. More go back to the allocator.
pub const PIECES_KEPT_MAX: usize = 256;

/// Lends empty pieces of [`PIECE_BYTES`] capacity. Fresh memory costs a page fault per 4 KiB, more
/// than the copy into it, so pieces come back when the application drops the last reference to
/// them, on any thread.
#[derive(Debug, Default)]
pub(super) struct Pool {
    shared: Arc<Shared>,
    slab: Slab,
}

#[derive(Debug, Default)]
struct Shared {
    free: Mutex<Vec<Vec<u8>>>,
}

impl Pool {
    /// A copy of a message of at most [`SHORT_BYTES_MAX`](super::slab::SHORT_BYTES_MAX) bytes.
    #[inline]
    pub(super) fn copy_short(&mut self, bytes: &[u8]) -> Bytes {
        self.slab.copy(bytes)
    }

    /// An empty piece.
    pub(super) fn get(&mut self) -> Vec<u8> {
        let recycled = self.shared.lock().pop();
        recycled.unwrap_or_else(|| Vec::with_capacity(PIECE_BYTES as usize))
    }

    /// Takes a buffer back; those of another size are freed.
    pub(super) fn put(&mut self, piece: Vec<u8>) {
        self.shared.put(piece);
    }

    /// Makes a filled buffer readable by the application. A piece finds its way back by itself.
    #[inline]
    pub(super) fn freeze(&self, data: Vec<u8>) -> Bytes {
        if data.capacity() == PIECE_BYTES as usize {
            Bytes::from_owner(Lent { data, home: Arc::clone(&self.shared) })
        } else {
            Bytes::from(data)
        }
    }

    #[cfg(test)]
    pub(super) fn free(&self) -> usize {
        self.shared.lock().len()
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Vec<u8>>> {
        // A list of vectors is valid at any time, also after a panic elsewhere.
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, mut piece: Vec<u8>) {
        if piece.capacity() != PIECE_BYTES as usize {
            return;
        }
        piece.clear();
        let mut free = self.lock();
        if free.len() < PIECES_KEPT_MAX {
            free.push(piece);
        }
    }
}

/// A piece in the application's hands.
struct Lent {
    data: Vec<u8>,
    home: Arc<Shared>,
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.data
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        self.home.put(std::mem::take(&mut self.data));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Scenario: B8, B12
    #[test]
    fn a_piece_comes_back_when_its_last_reader_is_gone() {
        let mut pool = Pool::default();
        let mut piece = pool.get();
        piece.extend_from_slice(b"abc");
        let address = piece.as_ptr();
        let bytes = pool.freeze(piece);
        let part = bytes.slice(1..2);
        drop(bytes);
        assert_eq!(pool.free(), 0);
        drop(part);
        assert_eq!(pool.free(), 1);
        let again = pool.get();
        assert_eq!((again.as_ptr(), again.len()), (address, 0));
    }

    #[test]
    fn the_pool_keeps_a_bounded_number_of_pieces() {
        let mut pool = Pool::default();
        let pieces: Vec<_> = (0..PIECES_KEPT_MAX + 5).map(|_| pool.get()).collect();
        pieces.into_iter().for_each(|piece| pool.put(piece));
        assert_eq!(pool.free(), PIECES_KEPT_MAX);
        pool.put(Vec::with_capacity(10));
        assert_eq!(pool.free(), PIECES_KEPT_MAX);
    }
}
