//! Memory for short incoming messages, many in one allocation.

use bytes::{Bytes, BytesMut};

/// Longest message that shares its memory with others.
pub(super) const SHORT_BYTES_MAX: usize = 256;
/// Memory of one slab: what the shortest message can keep from being freed, for as long as the
/// application has it.
const SLAB_BYTES: usize = 1_024;

/// Cuts slabs into messages, one behind the other. The last message of a slab that is dropped, on
/// any thread, frees it; one whose messages are gone when it is full is used again.
#[derive(Debug, Default)]
pub(super) struct Slab {
    /// What is left of the newest one.
    rest: BytesMut,
}

impl Slab {
    /// A copy of `bytes`, at most [`SHORT_BYTES_MAX`].
    #[inline]
    pub(super) fn copy(&mut self, bytes: &[u8]) -> Bytes {
        if bytes.len() > self.rest.capacity() {
            self.renew();
        }
        self.rest.extend_from_slice(bytes);
        self.rest.split().freeze()
    }

    // Apart, since it is rare.
    #[cold]
    fn renew(&mut self) {
        self.rest.reserve(SLAB_BYTES);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_lie_one_behind_the_other() {
        let mut slab = Slab::default();
        let (first, second) = (slab.copy(b"abc"), slab.copy(b"defg"));
        assert_eq!((&first[..], &second[..]), (&b"abc"[..], &b"defg"[..]));
        assert_eq!(first.as_ptr().wrapping_add(3), second.as_ptr());
    }

    #[test]
    fn no_message_keeps_more_than_one_slab() {
        let mut slab = Slab::default();
        let mut kept = Vec::new();
        for count in 0..100 {
            kept.push(slab.copy(&[count; SHORT_BYTES_MAX]));
            assert!(slab.rest.capacity() <= SLAB_BYTES - SHORT_BYTES_MAX);
        }
        for (count, bytes) in kept.into_iter().enumerate() {
            assert_eq!(bytes, [count as u8; SHORT_BYTES_MAX][..]);
            let slab: Vec<u8> = bytes.into();
            assert!(slab.capacity() <= SLAB_BYTES);
        }
    }

    #[test]
    fn a_slab_whose_messages_are_gone_is_used_again() {
        let mut slab = Slab::default();
        let address = slab.copy(&[1; 100]).as_ptr();
        for _ in 0..10 * SLAB_BYTES {
            let offset = slab.copy(&[2; 100]).as_ptr().addr().wrapping_sub(address.addr());
            assert!(offset < SLAB_BYTES, "another slab");
        }
    }
}
