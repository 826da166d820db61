//! The bytes of a message that is arriving.

use bytes::{Buf, Bytes};
use homa_core::PIECE_BYTES;

use super::pool::Pool;
use super::slab::SHORT_BYTES_MAX;
use crate::Message;
use crate::short_queue::ShortQueue;

/// Messages and message ends up to this many bytes get a buffer of exactly their length; for longer
/// ones a pooled piece wastes less than half.
const EXACT_BYTES_MAX: u32 = PIECE_BYTES / 2;
/// Tables longer than this are not kept when their place is reused.
const TABLE_KEPT_MAX: usize = 64;

/// An incoming message: the pieces in which bytes have landed. A piece exists from its first byte
/// on, so that memory follows what arrived and not the announced length.
#[derive(Debug, Default)]
pub(super) struct Incoming {
    length: u32,
    taken: u32,
    /// All of a short message that came in one packet: then there are no pieces.
    whole: Option<Bytes>,
    /// Ascending by index.
    pieces: ShortQueue<Piece>,
}

#[derive(Debug)]
struct Piece {
    /// It starts at `index * PIECE_BYTES` of the message.
    index: u32,
    /// Filled up to the last byte that arrived; what is missing before it is zero for the time
    /// being.
    data: Vec<u8>,
}

impl Incoming {
    pub(super) fn length(&self) -> u32 {
        self.length
    }

    pub(super) fn taken(&self) -> u32 {
        self.taken
    }

    /// Copies `bytes` to `offset` of a message of `length` bytes. It may have become longer since
    /// the last; a shorter one is another message of the same RPC, and starts over.
    #[inline]
    pub(super) fn place(&mut self, offset: u32, bytes: &[u8], length: u32, pool: &mut Pool) {
        let whole = bytes.len() == length as usize && offset == 0;
        if whole && bytes.len() <= SHORT_BYTES_MAX && self.length == 0 {
            self.length = length;
            self.whole = Some(pool.copy_short(bytes));
            return;
        }
        self.place_part(offset, bytes, length, pool);
    }

    /// The same of any message.
    fn place_part(&mut self, offset: u32, bytes: &[u8], length: u32, pool: &mut Pool) {
        self.cut();
        if self.length != length {
            if length < self.length {
                self.clear(pool);
            }
            self.length = length;
        }
        if self.is_whole_and_short(offset, bytes) {
            return self.pieces.push_back(Piece { index: 0, data: bytes.to_vec() });
        }
        let skipped = self.taken.saturating_sub(offset);
        let mut offset = offset + skipped;
        let mut bytes = bytes.get(skipped as usize..).unwrap_or(&[]);
        while !bytes.is_empty() && offset < self.length {
            let within = offset % PIECE_BYTES;
            let room = (PIECE_BYTES - within).min(self.length - offset) as usize;
            let (here, rest) = bytes.split_at(room.min(bytes.len()));
            write_at(self.piece(offset / PIECE_BYTES, pool), within as usize, here);
            // At most `room`, which is less than 2^16.
            offset += here.len() as u32;
            bytes = rest;
        }
    }

    /// All bytes not taken before, if they are there.
    #[inline]
    pub(super) fn take(&mut self, pool: &Pool) -> Option<Message> {
        match self.take_whole() {
            Some((bytes, _)) => Some(bytes.into()),
            None => self.take_pieces(pool),
        }
    }

    /// The same of a short message that came in one packet, with its length.
    #[inline]
    pub(super) fn take_whole(&mut self) -> Option<(Bytes, u32)> {
        let bytes = self.whole.take()?;
        self.taken = self.length;
        Some((bytes, self.length))
    }

    /// The same of a message in pieces.
    fn take_pieces(&mut self, pool: &Pool) -> Option<Message> {
        if let Some(data) = self.pop_only_piece() {
            self.taken = self.length;
            return Some(pool.freeze(data).into());
        }
        let filled = |piece: &Piece| piece.data.len() == self.piece_bytes(piece.index) as usize;
        let first = self.taken / PIECE_BYTES;
        let missing = self.length.div_ceil(PIECE_BYTES) - first;
        if self.length == 0
            || self.pieces.len() != missing as usize
            || !self.pieces.iter().all(filled)
        {
            return None;
        }
        Some(self.take_upto(self.length, pool))
    }

    /// The bytes below `upto` not taken before, as far as they are there. Whole pieces are moved;
    /// the beginning of a piece that is still being filled is copied.
    pub(super) fn take_upto(&mut self, upto: u32, pool: &Pool) -> Message {
        self.cut();
        let mut message = Message::new();
        while self.taken < upto {
            let index = self.taken / PIECE_BYTES;
            let start = index * PIECE_BYTES;
            let within = (self.taken - start) as usize;
            let piece_bytes = self.piece_bytes(index);
            let whole = upto >= start + piece_bytes;
            let Some(piece) = self.pieces.front().filter(|piece| piece.index == index) else {
                break;
            };
            if whole && piece.data.len() == piece_bytes as usize {
                let data = self.pieces.pop_front().map(|piece| piece.data).unwrap_or_default();
                // Cutting the front off in place keeps the only reference: a slice would need a
                // count.
                let mut bytes = pool.freeze(data);
                bytes.advance(within);
                message.push(bytes);
                self.taken = start + piece_bytes;
            } else {
                let end = piece.data.len().min((upto - start) as usize);
                let bytes = piece.data.get(within..end).unwrap_or(&[]);
                message.push(Bytes::copy_from_slice(bytes));
                self.taken += bytes.len() as u32;
                break;
            }
        }
        message
    }

    /// Forgets the message and keeps the table, unless it is long.
    #[inline]
    pub(super) fn clear(&mut self, pool: &mut Pool) {
        if !self.pieces.is_bare() {
            self.clear_pieces(pool);
        }
        self.whole = None;
        (self.length, self.taken) = (0, 0);
    }

    /// Gives the pieces back.
    fn clear_pieces(&mut self, pool: &mut Pool) {
        while let Some(piece) = self.pieces.pop_front() {
            pool.put(piece.data);
        }
        self.pieces.clear(TABLE_KEPT_MAX);
    }

    pub(super) fn held_bytes(&self) -> u64 {
        let whole = self.whole.as_ref().map_or(0, |bytes| bytes.len() as u64);
        whole + self.pieces.iter().map(|piece| piece.data.len() as u64).sum::<u64>()
    }

    /// Makes a piece of a whole short message, to which something else happens than that it is
    /// taken.
    fn cut(&mut self) {
        if let Some(bytes) = self.whole.take() {
            self.pieces.push_back(Piece { index: 0, data: bytes.to_vec() });
        }
    }

    /// Whether `bytes` are all of a short message of which nothing has been here.
    fn is_whole_and_short(&self, offset: u32, bytes: &[u8]) -> bool {
        offset == 0
            && self.taken == 0
            && self.length <= EXACT_BYTES_MAX
            && bytes.len() == self.length as usize
            && self.pieces.front().is_none()
    }

    /// The piece that is the whole message, if one is.
    #[inline]
    fn pop_only_piece(&mut self) -> Option<Vec<u8>> {
        let first = self.pieces.front().filter(|piece| piece.index == 0)?;
        if self.taken > 0 || first.data.len() != self.length as usize {
            return None;
        }
        self.pieces.pop_front().map(|piece| piece.data)
    }

    /// Bytes of the message that belong to piece `index`.
    fn piece_bytes(&self, index: u32) -> u32 {
        PIECE_BYTES.min(self.length.saturating_sub(index.saturating_mul(PIECE_BYTES)))
    }

    /// The piece with this index, made if it is the first to be asked for.
    fn piece(&mut self, index: u32, pool: &mut Pool) -> &mut Vec<u8> {
        let at = match self.pieces.back() {
            // Bytes mostly land in the piece at the end, or begin a new one behind it.
            Some(last) if last.index == index => self.pieces.len() - 1,
            Some(last) if last.index < index => self.pieces.len(),
            Some(_) => self.pieces.partition_point(|piece| piece.index < index),
            None => 0,
        };
        if self.pieces.get(at).is_none_or(|piece| piece.index != index) {
            let data = self.new_piece(index, pool);
            self.pieces.insert(at, Piece { index, data });
        }
        let piece = self.pieces.get_mut(at).expect("it was found or made just above");
        &mut piece.data
    }

    fn new_piece(&self, index: u32, pool: &mut Pool) -> Vec<u8> {
        match self.piece_bytes(index) {
            bytes @ ..=EXACT_BYTES_MAX => Vec::with_capacity(bytes as usize),
            _ => pool.get(),
        }
    }
}

/// Writes `bytes` at `offset`. Bytes in order are appended without filling anything first.
fn write_at(data: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    let end = offset + bytes.len();
    if end > data.capacity() {
        // The message has become longer since the piece was made.
        let bytes = end.next_power_of_two().min(PIECE_BYTES as usize);
        data.reserve_exact(bytes.saturating_sub(data.len()));
    }
    if data.len() < offset {
        data.resize(offset, 0);
    }
    let overwritten = (data.len() - offset).min(bytes.len());
    let (over, behind) = bytes.split_at(overwritten);
    if let Some(place) = data.get_mut(offset..offset + overwritten).filter(|it| !it.is_empty()) {
        place.copy_from_slice(over);
    }
    data.extend_from_slice(behind);
}

#[cfg(test)]
mod tests {
    use super::*;

    const LENGTH: u32 = 2 * PIECE_BYTES + 1000;

    fn pattern(length: u32) -> Vec<u8> {
        (0..length).map(|i| (i % 251) as u8).collect()
    }

    fn place_all(incoming: &mut Incoming, pool: &mut Pool, all: &[u8], order: &[(u32, u32)]) {
        for &(start, end) in order {
            let bytes = &all[start as usize..end as usize];
            incoming.place(start, bytes, all.len() as u32, pool);
        }
    }

    // Scenario: B3
    #[test]
    fn bytes_may_land_in_any_order_and_overlap() {
        let (all, mut pool) = (pattern(LENGTH), Pool::default());
        let orders: [&[(u32, u32)]; 3] = [
            &[(0, LENGTH)],
            &[(100_000, LENGTH), (50_000, 120_000), (0, 50_001)],
            &[(LENGTH - 1, LENGTH), (65_536, LENGTH), (65_000, 65_600), (0, 65_000)],
        ];
        for order in orders {
            let mut incoming = Incoming::default();
            place_all(&mut incoming, &mut pool, &all, order);
            let message = incoming.take(&pool).expect("all bytes are there");
            assert_eq!(message, all);
            assert_eq!(message.chunks().count(), 3);
            assert_eq!(incoming.held_bytes(), 0);
        }
    }

    #[test]
    fn a_message_of_another_length_starts_over() {
        let (mut incoming, mut pool) = (Incoming::default(), Pool::default());
        incoming.place(1, &[1; 50], 100, &mut pool);
        incoming.place(0, &[2; 30], 60, &mut pool);
        assert_eq!(incoming.held_bytes(), 30);
        incoming.place(30, &[3; 30], 60, &mut pool);
        let message = incoming.take(&pool).expect("complete").to_vec();
        assert_eq!((&message[..30], &message[30..]), (&[2; 30][..], &[3; 30][..]));
    }

    #[test]
    fn a_message_that_grows_keeps_what_has_come() {
        let all = pattern(LENGTH);
        for step in [1, 255, 1400, 70_000] {
            let (mut incoming, mut pool) = (Incoming::default(), Pool::default());
            for start in (0..LENGTH - 1).step_by(step) {
                let end = (LENGTH - 1).min(start + step as u32);
                let bytes = &all[start as usize..end as usize];
                incoming.place(start, bytes, end + 1, &mut pool);
                let room = incoming.pieces.iter().map(|piece| piece.data.capacity()).sum::<usize>();
                assert!(room as u32 <= (2 * end).max(end + PIECE_BYTES), "{room} for {end} bytes");
                assert!(incoming.take(&pool).is_none());
            }
            incoming.place(LENGTH - 1, &all[LENGTH as usize - 1..], LENGTH, &mut pool);
            assert!(incoming.take(&pool).expect("complete") == all);
        }
    }

    #[test]
    fn a_message_that_grows_is_read_as_it_comes() {
        let (all, mut pool) = (pattern(LENGTH), Pool::default());
        let (mut incoming, mut got) = (Incoming::default(), Vec::new());
        for start in (0..LENGTH).step_by(1000) {
            let end = LENGTH.min(start + 1000);
            let length = LENGTH.min(end + 1);
            incoming.place(start, &all[start as usize..end as usize], length, &mut pool);
            got.extend(incoming.take_upto(end, &pool).to_vec());
            assert_eq!(got.len(), end as usize);
            assert!(incoming.pieces.len() <= 1, "what was read is gone");
        }
        assert!(got == all);
    }

    #[test]
    fn memory_follows_what_arrived_and_not_what_was_announced() {
        let (mut incoming, mut pool) = (Incoming::default(), Pool::default());
        incoming.place(1 << 29, &[1], 1 << 30, &mut pool);
        assert_eq!(incoming.pieces.len(), 1);
        assert_eq!(incoming.held_bytes(), 1);
        assert!(incoming.take(&pool).is_none());
        assert!(incoming.take_upto(1 << 30, &pool).is_empty());
    }

    // Scenario: B5
    #[test]
    fn a_short_message_gets_a_buffer_of_its_length() {
        let (mut incoming, mut pool) = (Incoming::default(), Pool::default());
        incoming.place(0, &[7; 1_000], 1_000, &mut pool);
        assert_eq!(incoming.pieces.front().expect("a piece").data.capacity(), 1_000);
        assert_eq!(incoming.take(&pool).expect("complete"), [7; 1_000]);
        assert!(incoming.take(&pool).is_none());
    }

    #[test]
    fn a_short_message_that_came_whole_is_taken_in_any_way() {
        let (all, mut pool) = (pattern(100), Pool::default());
        let mut incoming = Incoming::default();
        incoming.place(0, &all, 100, &mut pool);
        assert_eq!(incoming.held_bytes(), 100);
        let mut got = incoming.take_upto(30, &pool).to_vec();
        assert_eq!((got.len(), incoming.taken(), incoming.held_bytes()), (30, 30, 100));
        got.extend(incoming.take(&pool).map(|rest| rest.to_vec()).unwrap_or_default());
        got.extend(incoming.take_upto(100, &pool).to_vec());
        assert_eq!((got, incoming.held_bytes()), (all, 0));
    }

    #[test]
    fn a_short_message_that_came_whole_may_come_again_and_grow() {
        let (all, mut pool) = (pattern(200), Pool::default());
        let mut incoming = Incoming::default();
        incoming.place(0, &all[..100], 100, &mut pool);
        incoming.place(0, &all[..100], 100, &mut pool);
        assert_eq!(incoming.held_bytes(), 100);
        incoming.place(100, &all[100..], 200, &mut pool);
        assert_eq!(incoming.take(&pool).expect("complete"), all);
    }

    #[test]
    fn a_short_message_that_nobody_takes_makes_room_for_the_next() {
        let (mut incoming, mut pool) = (Incoming::default(), Pool::default());
        incoming.place(0, &[1; 100], 100, &mut pool);
        incoming.clear(&mut pool);
        assert_eq!((incoming.held_bytes(), incoming.length()), (0, 0));
        incoming.place(0, &[2; 60], 60, &mut pool);
        incoming.place(0, &[3; 30], 30, &mut pool);
        assert_eq!(incoming.take(&pool).expect("complete"), [3; 30]);
    }

    #[test]
    fn a_stream_is_taken_part_by_part_without_losing_a_byte() {
        let (all, mut pool) = (pattern(LENGTH), Pool::default());
        let (mut incoming, mut got) = (Incoming::default(), Vec::new());
        for start in (0..LENGTH).step_by(1400) {
            let end = LENGTH.min(start + 1400);
            place_all(&mut incoming, &mut pool, &all, &[(start, end)]);
            if start % 3 == 0 {
                got.extend(incoming.take_upto(end, &pool).to_vec());
                assert_eq!(got.len(), end as usize);
            }
        }
        got.extend(incoming.take(&pool).expect("the rest is there").to_vec());
        assert!(got == all);
    }

    #[test]
    fn bytes_below_what_was_taken_are_ignored() {
        let (mut incoming, mut pool) = (Incoming::default(), Pool::default());
        incoming.place(0, &[1; 50], 100, &mut pool);
        assert_eq!(incoming.take_upto(50, &pool), [1; 50]);
        incoming.place(20, &[2; 80], 100, &mut pool);
        assert_eq!(incoming.take_upto(100, &pool), [2; 50]);
        incoming.place(0, &[3; 100], 100, &mut pool);
        assert_eq!(incoming.held_bytes(), 0);
    }

    #[test]
    fn what_was_taken_is_not_there_any_more() {
        let (mut incoming, mut pool) = (Incoming::default(), Pool::default());
        incoming.place(0, &[1; 100], 100, &mut pool);
        assert!(incoming.take(&pool).is_some());
        assert_eq!(incoming.taken(), 100);
        incoming.place(0, &[1; 100], 100, &mut pool);
        assert_eq!(incoming.held_bytes(), 0);
    }

    #[test]
    fn a_piece_is_taken_as_far_as_it_is_there() {
        let (mut incoming, mut pool) = (Incoming::default(), Pool::default());
        incoming.place(0, &[1; 50], 100, &mut pool);
        assert_eq!(incoming.take_upto(100, &pool), [1; 50]);
        incoming.place(50, &[2; 50], 100, &mut pool);
        assert_eq!(incoming.take_upto(100, &pool), [2; 50]);
    }

    #[test]
    fn pieces_of_a_message_that_nobody_takes_come_back() {
        let (all, mut pool) = (pattern(LENGTH), Pool::default());
        let mut incoming = Incoming::default();
        place_all(&mut incoming, &mut pool, &all, &[(0, LENGTH)]);
        incoming.clear(&mut pool);
        assert_eq!(pool.free(), 2, "its end has a buffer of its own");
    }

    #[test]
    fn pieces_are_used_again_by_the_next_message() {
        let (all, mut pool) = (pattern(PIECE_BYTES), Pool::default());
        let mut incoming = Incoming::default();
        place_all(&mut incoming, &mut pool, &all, &[(0, PIECE_BYTES)]);
        let address = incoming.pieces.front().expect("a piece").data.as_ptr();
        drop(incoming.take(&pool));
        incoming.clear(&mut pool);
        place_all(&mut incoming, &mut pool, &all, &[(0, PIECE_BYTES)]);
        assert_eq!(incoming.pieces.front().expect("a piece").data.as_ptr(), address);
    }
}
