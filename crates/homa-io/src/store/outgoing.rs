//! The bytes of a message that is being sent.

use std::ops::Range;

use bytes::Bytes;

use crate::Body;
use crate::short_queue::ShortQueue;

/// Filler for missing bytes.
static ZEROS: [u8; 4096] = [0; 4096];
/// Tables longer than this are not kept when their place is reused.
const TABLE_KEPT_MAX: usize = 64;

/// The last byte of an open message.
static TRAILER: [u8; 1] = [0];

/// An outgoing message: the application's buffers with their offsets.
#[derive(Debug, Default)]
pub(super) struct Outgoing {
    length: u32,
    /// It grows with what is supplied, and is one byte longer.
    open: bool,
    supplied: u32,
    /// Ascending, without gaps up to `supplied`; the first ones are dropped as they are released.
    chunks: ShortQueue<Chunk>,
}

#[derive(Debug)]
struct Chunk {
    start: u32,
    bytes: Bytes,
}

impl Outgoing {
    pub(super) fn length(&self) -> u32 {
        self.length
    }

    pub(super) fn supplied(&self) -> u32 {
        self.supplied
    }

    /// The first byte that was not dropped.
    #[cfg(feature = "check")]
    pub(super) fn first(&self) -> u32 {
        self.chunks.front().map_or(self.supplied, |chunk| chunk.start)
    }

    /// Begins a message of `length` bytes, which grows if it is `open`, with the buffers of `body`
    /// as far as they are not too many bytes.
    #[cold]
    pub(super) fn start(&mut self, body: Body, length: u32, open: bool) {
        self.clear();
        (self.length, self.open) = (length, open);
        for chunk in body.into_chunks() {
            self.append(chunk);
        }
    }

    /// Begins a message that is `bytes`, `length` of them, and no more.
    #[inline]
    pub(super) fn start_whole(&mut self, bytes: Bytes, length: u32) {
        if self.length != 0 {
            self.clear();
        }
        (self.length, self.supplied, self.open) = (length, length, false);
        self.chunks.push_back(Chunk { start: 0, bytes });
    }

    /// Adds the last byte of an open message, whose length is final from now on. Returns that;
    /// `None` if it is not open.
    pub(super) fn finish(&mut self) -> Option<u32> {
        if !core::mem::take(&mut self.open) {
            return None;
        }
        self.append(Bytes::from_static(&TRAILER))
    }

    /// Adds bytes at the end and returns how many there are now; `None` if they are too many.
    #[inline]
    pub(super) fn append(&mut self, bytes: Bytes) -> Option<u32> {
        let end = u32::try_from(bytes.len()).ok()?.checked_add(self.supplied)?;
        if self.open {
            self.length = end.checked_add(1)?;
        }
        if end > self.length {
            return None;
        }
        let start = self.supplied;
        if !bytes.is_empty() {
            self.chunks.push_back(Chunk { start, bytes });
        }
        self.supplied = end;
        Some(end)
    }

    /// Calls `piece` for the pieces of `range`; see
    /// [`Payloads::pieces`](crate::driver::Payloads::pieces).
    #[inline]
    pub(super) fn pieces<'a>(&'a self, range: Range<u32>, mut piece: impl FnMut(&'a [u8])) {
        // Mostly there is one buffer.
        if let Some(bytes) = self.chunks.front().and_then(|chunk| chunk.part(&range)) {
            return piece(bytes);
        }
        self.pieces_of_several(range, piece);
    }

    /// The same from several buffers, or from what is not there.
    #[inline(never)]
    fn pieces_of_several<'a>(&'a self, range: Range<u32>, mut piece: impl FnMut(&'a [u8])) {
        let mut at = range.start;
        let first = self.chunks.partition_point(|chunk| chunk.end() <= range.start);
        for chunk in self.chunks.range_from(first) {
            if at >= range.end {
                return;
            }
            if at < chunk.start {
                let missing = chunk.start.min(range.end) - at;
                zeros(missing as usize, &mut piece);
                at += missing;
            }
            let end = range.end.min(chunk.end());
            let (from, to) = (at.saturating_sub(chunk.start), end.saturating_sub(chunk.start));
            if let Some(bytes) =
                chunk.bytes.get(from as usize..to as usize).filter(|it| !it.is_empty())
            {
                piece(bytes);
                at = end;
            }
        }
        zeros(range.end.saturating_sub(at) as usize, piece);
    }

    /// Drops the buffers that end at or below `upto`.
    #[inline]
    pub(super) fn release(&mut self, upto: u32) {
        while self.chunks.front().is_some_and(|chunk| chunk.end() <= upto) {
            self.chunks.pop_front();
        }
    }

    /// Forgets the message and keeps the table, unless it is long.
    #[inline]
    pub(super) fn clear(&mut self) {
        self.chunks.clear(TABLE_KEPT_MAX);
        (self.length, self.supplied, self.open) = (0, 0, false);
    }

    pub(super) fn held_bytes(&self) -> u64 {
        self.chunks.iter().map(|chunk| chunk.bytes.len() as u64).sum()
    }
}

impl Chunk {
    /// The bytes of `range` if all of them are here and there are any.
    #[inline]
    fn part(&self, range: &Range<u32>) -> Option<&[u8]> {
        let from = range.start.checked_sub(self.start)?;
        let to = range.end.checked_sub(self.start)?;
        self.bytes.get(from as usize..to as usize).filter(|bytes| !bytes.is_empty())
    }

    fn end(&self) -> u32 {
        // `append` has checked that this fits.
        self.start + self.bytes.len() as u32
    }
}

/// Calls `piece` with `count` zero bytes.
pub(super) fn zeros<'a>(mut count: usize, mut piece: impl FnMut(&'a [u8])) {
    while count > 0 {
        let (here, _) = ZEROS.split_at(count.min(ZEROS.len()));
        piece(here);
        count -= here.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(outgoing: &Outgoing, range: Range<u32>) -> Vec<u8> {
        let mut all = Vec::new();
        outgoing.pieces(range, |piece| {
            assert!(!piece.is_empty());
            all.extend_from_slice(piece);
        });
        all
    }

    fn three() -> Outgoing {
        let mut outgoing = Outgoing::default();
        outgoing.start(Body::new(), 9, false);
        for part in ["abc", "", "de", "fgh"] {
            assert!(outgoing.append(part.into()).is_some());
        }
        outgoing
    }

    #[test]
    fn every_range_comes_out_as_it_went_in() {
        let outgoing = three();
        for start in 0..=8 {
            for end in start..=8 {
                let expected = &b"abcdefgh"[start as usize..end as usize];
                assert_eq!(sent(&outgoing, start..end), expected, "{start}..{end}");
            }
        }
    }

    #[test]
    fn more_bytes_than_announced_are_refused() {
        let mut outgoing = three();
        assert_eq!(outgoing.append("ij".into()), None);
        assert_eq!(outgoing.append("i".into()), Some(9));
        assert_eq!(outgoing.append("j".into()), None);
    }

    #[test]
    fn an_open_message_grows_until_it_has_its_last_byte() {
        let mut outgoing = Outgoing::default();
        outgoing.start(Body::new(), 1, true);
        assert_eq!((outgoing.length(), outgoing.supplied()), (1, 0));
        for (part, upto) in [("abc", 3), ("", 3), ("de", 5)] {
            assert_eq!(outgoing.append(part.into()), Some(upto));
            assert_eq!((outgoing.length(), outgoing.supplied()), (upto + 1, upto));
        }
        assert_eq!(outgoing.finish(), Some(6));
        assert_eq!(outgoing.length(), 6);
        assert_eq!(sent(&outgoing, 0..6), b"abcde\0");
        assert_eq!((outgoing.finish(), outgoing.append("x".into())), (None, None));
        outgoing.start(Body::new(), 3, false);
        assert_eq!(outgoing.finish(), None);
    }

    #[test]
    fn released_buffers_are_dropped_and_read_as_zeros() {
        let mut outgoing = three();
        outgoing.release(4);
        assert_eq!(outgoing.held_bytes(), 5);
        assert_eq!(sent(&outgoing, 1..6), b"\0\0def");
        outgoing.release(8);
        assert_eq!(outgoing.held_bytes(), 0);
        assert_eq!(sent(&outgoing, 6..10), [0; 4]);
    }
}
