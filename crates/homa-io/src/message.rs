//! A message that was received.

use std::collections::VecDeque;
use std::fmt;
use std::io::IoSlice;

use bytes::{Buf, Bytes};

use crate::chunks::{self, Chunks};

/// The bytes of a received message (or of the next part of one): a chain of buffers, in order.
///
/// Messages up to 64 KiB are one buffer; longer ones are several, so that memory follows what has arrived.
/// Reading needs no copy: use [`Message::chunks`] or the [`Buf`] methods (`reader()` gives a
/// [`std::io::Read`]). [`Message::into_bytes`] joins them if they must be contiguous.
#[derive(Clone, Default)]
pub struct Message {
    chunks: Chunks,
}

impl Message {
    /// A message without bytes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Bytes not yet read.
    pub fn len(&self) -> usize {
        self.chunks.len()
    }

    /// Whether nothing is left to read.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds a buffer at the end.
    pub fn push(&mut self, chunk: Bytes) {
        self.chunks.push(chunk);
    }

    /// Takes the first buffer out: the next bytes to read, without a copy.
    pub fn pop_chunk(&mut self) -> Option<Bytes> {
        self.chunks.pop()
    }

    /// Adds all buffers of `other` at the end.
    pub fn append(&mut self, other: Self) {
        for chunk in other.chunks.into_chunks() {
            self.chunks.push(chunk);
        }
    }

    /// The buffers, in order; none is empty.
    pub fn chunks(&self) -> impl Iterator<Item = &Bytes> {
        self.chunks.iter()
    }

    /// The buffers themselves, in order; none is empty.
    pub fn into_chunks(self) -> impl Iterator<Item = Bytes> {
        self.chunks.into_chunks()
    }

    /// All bytes in one buffer. Copies only if there are several.
    pub fn into_bytes(self) -> Bytes {
        self.chunks.into_bytes()
    }

    /// A copy of all bytes.
    pub fn to_vec(&self) -> Vec<u8> {
        self.chunks.to_vec()
    }

    /// The bytes, if they lie in one buffer.
    pub fn as_contiguous(&self) -> Option<&[u8]> {
        let first = self.chunks.chunk();
        (first.len() == self.len()).then_some(first)
    }

    /// The bytes as text.
    ///
    /// # Errors
    /// If they are not UTF-8.
    pub fn into_string(self) -> Result<String, std::string::FromUtf8Error> {
        String::from_utf8(self.into_bytes().into())
    }
}

impl Buf for Message {
    fn remaining(&self) -> usize {
        self.chunks.remaining()
    }

    fn chunk(&self) -> &[u8] {
        self.chunks.chunk()
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        self.chunks.chunks_vectored(slices)
    }

    fn advance(&mut self, count: usize) {
        self.chunks.advance(count);
    }

    fn copy_to_bytes(&mut self, count: usize) -> Bytes {
        self.chunks.copy_to_bytes(count)
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        chunks::debug("Message", &self.chunks, f)
    }
}

impl From<Bytes> for Message {
    fn from(bytes: Bytes) -> Self {
        let mut message = Self::new();
        message.push(bytes);
        message
    }
}

impl From<Message> for Bytes {
    fn from(message: Message) -> Self {
        message.into_bytes()
    }
}

impl From<Message> for Vec<u8> {
    fn from(message: Message) -> Self {
        message.into_bytes().into()
    }
}

impl From<Message> for VecDeque<Bytes> {
    fn from(message: Message) -> Self {
        message.into_chunks().collect()
    }
}

impl FromIterator<Bytes> for Message {
    fn from_iter<I: IntoIterator<Item = Bytes>>(chunks: I) -> Self {
        let mut message = Self::new();
        chunks.into_iter().for_each(|chunk| message.push(chunk));
        message
    }
}

impl PartialEq for Message {
    fn eq(&self, other: &Self) -> bool {
        self.chunks.equals_chunks(&other.chunks)
    }
}

impl Eq for Message {}

impl<T: AsRef<[u8]> + ?Sized> PartialEq<T> for Message
where
    T: NotMessage,
{
    fn eq(&self, other: &T) -> bool {
        self.chunks.equals(other.as_ref())
    }
}

/// Types a [`Message`] can be compared with.
pub trait NotMessage {}
impl NotMessage for [u8] {}
impl<const N: usize> NotMessage for [u8; N] {}
impl<const N: usize> NotMessage for &[u8; N] {}
impl NotMessage for &[u8] {}
impl NotMessage for str {}
impl NotMessage for &str {}
impl NotMessage for String {}
impl NotMessage for Vec<u8> {}
impl NotMessage for Bytes {}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain(parts: &[&'static str]) -> Message {
        parts.iter().map(|part| Bytes::from_static(part.as_bytes())).collect()
    }

    #[test]
    fn a_single_buffer_is_given_out_without_a_copy() {
        let bytes = Bytes::from(vec![7; 100]);
        let address = bytes.as_ptr();
        assert_eq!(Message::from(bytes).into_bytes().as_ptr(), address);
    }

    #[test]
    fn several_buffers_read_as_one_message() {
        let mut message = chain(&["ab", "", "cde", "f"]);
        assert_eq!(message, "abcdef");
        assert_ne!(message, "abcdeg");
        assert_ne!(message, "abcde");
        assert_eq!(message, chain(&["a", "bcd", "ef"]));
        assert_ne!(message, chain(&["a", "bcd", "eg"]));
        assert_eq!(message.chunks().count(), 3);
        assert_eq!(message.clone().pop_chunk().expect("not empty"), "ab");
        assert_eq!(message.as_contiguous(), None);
        assert_eq!(message.copy_to_bytes(3), "abc");
        message.advance(1);
        let mut two = [0; 2];
        message.copy_to_slice(&mut two);
        assert_eq!(&two, b"ef");
        assert!(message.is_empty());
        assert_eq!(chain(&["ab", "cde"]).into_bytes(), "abcde");
    }

    #[test]
    fn debug_shows_length_and_beginning_only() {
        let message = Message::from(Bytes::from(vec![b'x'; 1000]));
        assert_eq!(format!("{message:?}"), "Message(1000 bytes, \"xxxxxxxxxxxxxxxx…\")");
    }

    #[test]
    #[should_panic(expected = "advance beyond the end")]
    fn advancing_beyond_the_end_panics_as_buf_demands() {
        chain(&["ab"]).advance(3);
    }
}
