//! The bytes of a message.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::fmt;
use std::io::IoSlice;

use bytes::{Buf, Bytes, BytesMut};

use crate::Metadata;
use crate::rare::Rare;
use crate::short_queue::ShortQueue;

/// Bytes of a message that [`Debug`](fmt::Debug) shows.
const SHOWN_BYTES: usize = 16;

/// The bytes of a message to send or received (or of the next part of one): a chain of buffers, in
/// order. The usual single buffer needs no allocation of its own; empty buffers are not kept.
///
/// To send, it is made by `From` or collected from buffers, which are never copied before they go
/// out: [`Bytes`], [`Vec<u8>`] and [`String`] are taken as they are, slices are copied once.
///
/// Received messages up to 64 KiB are one buffer; longer ones are several, so that memory follows
/// what has arrived. One of up to 256 bytes shares 1 KiB of memory with others, all of which it
/// keeps while it is held. Reading needs no copy: use [`Message::chunks`] or the [`Buf`] methods
/// (`reader()` gives a [`std::io::Read`]). [`Message::into_bytes`] joins them if they must be
/// contiguous.
#[derive(Clone, Default)]
pub struct Message {
    chunks: ShortQueue<Bytes>,
    len: usize,
    metadata: Rare<Metadata>,
}

static NO_METADATA: Metadata = Metadata::new();

/// A message to send.
pub type Body = Message;

impl Message {
    /// A message without bytes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Bytes not yet read.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing is left to read.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// What travels beside the bytes.
    pub fn metadata(&self) -> &Metadata {
        self.metadata.get().unwrap_or(&NO_METADATA)
    }

    /// Whether anything travels beside the bytes.
    #[inline]
    pub fn has_metadata(&self) -> bool {
        !self.metadata.is_none()
    }

    /// The same to be changed.
    pub fn metadata_mut(&mut self) -> &mut Metadata {
        self.metadata.get_or_default()
    }

    /// The same bytes with this beside them.
    #[must_use]
    pub fn with_metadata(mut self, metadata: Metadata) -> Self {
        self.metadata = if metadata.is_empty() { Rare::NONE } else { Rare::new(metadata) };
        self
    }

    /// Takes out what travels beside the bytes.
    pub fn take_metadata(&mut self) -> Metadata {
        self.metadata.take().unwrap_or_default()
    }

    /// Adds a buffer at the end.
    #[inline]
    pub fn push(&mut self, chunk: Bytes) {
        if chunk.is_empty() {
            return;
        }
        self.len += chunk.len();
        self.chunks.push_back(chunk);
    }

    /// Takes the first buffer out: the next bytes to read, without a copy.
    pub fn pop_chunk(&mut self) -> Option<Bytes> {
        let chunk = self.chunks.pop_front()?;
        self.len -= chunk.len();
        Some(chunk)
    }

    /// Keeps the first `len` bytes; no effect if there are no more.
    pub fn truncate(&mut self, len: usize) {
        while self.len > len {
            let excess = self.len - len;
            match self.chunks.back_mut() {
                Some(last) if last.len() > excess => {
                    last.truncate(last.len() - excess);
                    self.len = len;
                }
                _ => match self.chunks.pop_back() {
                    Some(last) => self.len -= last.len(),
                    None => return,
                },
            }
        }
    }

    /// Adds all buffers of `other` at the end; not its metadata.
    pub fn append(&mut self, other: Self) {
        other.into_chunks().for_each(|chunk| self.push(chunk));
    }

    /// The buffers, in order; none is empty.
    pub fn chunks(&self) -> impl Iterator<Item = &Bytes> {
        self.chunks.iter()
    }

    /// The buffers themselves, in order; none is empty.
    pub fn into_chunks(self) -> impl Iterator<Item = Bytes> {
        self.chunks.into_iter()
    }

    /// The buffer, if there is one and nothing else.
    #[inline]
    pub(crate) fn into_only_chunk(self) -> Result<Bytes, Self> {
        if self.has_metadata() {
            return Err(self);
        }
        let Self { chunks, len, metadata } = self;
        chunks.into_only().map_err(|chunks| Self { chunks, len, metadata })
    }

    /// All bytes in one buffer. Copies only if there are several.
    pub fn into_bytes(mut self) -> Bytes {
        if self.chunk().len() < self.len {
            return self.copy_to_bytes(self.len);
        }
        self.pop_chunk().unwrap_or_default()
    }

    /// A copy of all bytes.
    pub fn to_vec(&self) -> Vec<u8> {
        let mut all = Vec::with_capacity(self.len);
        self.chunks().for_each(|chunk| all.extend_from_slice(chunk));
        all
    }

    /// The bytes, if they lie in one buffer.
    pub fn as_contiguous(&self) -> Option<&[u8]> {
        let first = self.chunk();
        (first.len() == self.len).then_some(first)
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
        self.len
    }

    fn chunk(&self) -> &[u8] {
        self.chunks.front().map_or(&[], |chunk| chunk)
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let mut filled = 0;
        for (slice, chunk) in slices.iter_mut().zip(self.chunks()) {
            *slice = IoSlice::new(chunk);
            filled += 1;
        }
        filled
    }

    fn advance(&mut self, mut count: usize) {
        assert!(count <= self.len, "advance beyond the end: {count} of {}", self.len);
        while count > 0 {
            let Some(chunk) = self.chunks.front_mut() else {
                return;
            };
            if count < chunk.len() {
                chunk.advance(count);
                self.len -= count;
                return;
            }
            count -= chunk.len();
            self.pop_chunk();
        }
    }

    fn copy_to_bytes(&mut self, count: usize) -> Bytes {
        assert!(count <= self.len, "copy beyond the end: {count} of {}", self.len);
        match self.chunks.front_mut() {
            Some(chunk) if count < chunk.len() => {
                self.len -= count;
                return chunk.split_to(count);
            }
            Some(chunk) if count == chunk.len() => return self.pop_chunk().unwrap_or_default(),
            _ => {}
        }
        let mut joined = BytesMut::with_capacity(count);
        while joined.len() < count {
            let part = self.chunk().len().min(count - joined.len());
            joined.extend_from_slice(self.chunk().get(..part).unwrap_or(&[]));
            self.advance(part);
        }
        joined.freeze()
    }
}

/// Length and the first bytes, so that logs stay readable.
impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.chunks().flat_map(|chunk| chunk.iter().copied());
        let head: Vec<u8> = bytes.take(SHOWN_BYTES).collect();
        let more = if self.len > SHOWN_BYTES { "…" } else { "" };
        write!(f, "Message({} bytes, \"{}{more}\")", self.len, head.escape_ascii())
    }
}

impl From<Bytes> for Message {
    #[inline]
    fn from(bytes: Bytes) -> Self {
        let len = bytes.len();
        Self { chunks: (len > 0).then_some(bytes).into(), len, metadata: Rare::NONE }
    }
}

impl From<BytesMut> for Message {
    fn from(bytes: BytesMut) -> Self {
        bytes.freeze().into()
    }
}

impl From<Vec<u8>> for Message {
    fn from(bytes: Vec<u8>) -> Self {
        Bytes::from(bytes).into()
    }
}

impl From<Box<[u8]>> for Message {
    fn from(bytes: Box<[u8]>) -> Self {
        Bytes::from(bytes).into()
    }
}

impl From<String> for Message {
    fn from(text: String) -> Self {
        Bytes::from(text).into()
    }
}

impl From<&[u8]> for Message {
    fn from(bytes: &[u8]) -> Self {
        Bytes::copy_from_slice(bytes).into()
    }
}

impl<const N: usize> From<&[u8; N]> for Message {
    fn from(bytes: &[u8; N]) -> Self {
        bytes.as_slice().into()
    }
}

impl<const N: usize> From<[u8; N]> for Message {
    fn from(bytes: [u8; N]) -> Self {
        bytes.as_slice().into()
    }
}

impl From<&str> for Message {
    fn from(text: &str) -> Self {
        text.as_bytes().into()
    }
}

impl From<&String> for Message {
    fn from(text: &String) -> Self {
        text.as_bytes().into()
    }
}

impl From<&Vec<u8>> for Message {
    fn from(bytes: &Vec<u8>) -> Self {
        bytes.as_slice().into()
    }
}

impl From<Cow<'_, [u8]>> for Message {
    fn from(bytes: Cow<'_, [u8]>) -> Self {
        bytes.into_owned().into()
    }
}

impl From<&Message> for Message {
    fn from(message: &Message) -> Self {
        message.clone()
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
        let (mut ours, mut theirs) = (self.clone(), other.clone());
        if ours.len != theirs.len || ours.metadata() != theirs.metadata() {
            return false;
        }
        while ours.has_remaining() {
            let common = ours.chunk().len().min(theirs.chunk().len());
            if ours.chunk().get(..common) != theirs.chunk().get(..common) {
                return false;
            }
            ours.advance(common);
            theirs.advance(common);
        }
        true
    }
}

impl Eq for Message {}

impl<T: AsRef<[u8]> + ?Sized> PartialEq<T> for Message
where
    T: NotMessage,
{
    fn eq(&self, other: &T) -> bool {
        let mut other = other.as_ref();
        self.len == other.len()
            && self.chunks().all(|chunk| {
                let (here, rest) = other.split_at(chunk.len());
                other = rest;
                chunk == here
            })
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

    #[test]
    fn a_truncated_message_keeps_its_first_bytes() {
        let whole = Message::from_iter(["ab", "cde", "f"].map(Bytes::from));
        for len in 0..8 {
            let mut message = whole.clone();
            message.truncate(len);
            assert_eq!(message, &"abcdef"[..len.min(6)]);
            assert_eq!(message.len(), len.min(6));
        }
    }

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
