//! A message to send.

use std::borrow::Cow;
use std::fmt;

use bytes::{Bytes, BytesMut};

use crate::Message;
use crate::chunks::{self, Chunks};

/// The bytes of a message to send: the application's own buffers, never copied before they go out.
///
/// Made by `From`: [`Bytes`], [`Vec<u8>`] and [`String`] are taken as they are, slices are copied once, a
/// received [`Message`] can be sent on, and a chain of buffers can be collected.
#[derive(Clone, Default)]
pub struct Body {
    chunks: Chunks,
}

impl Body {
    /// A body without bytes. Homa messages have at least one: sending this is an error.
    pub fn new() -> Self {
        Self::default()
    }

    /// Bytes of the whole body.
    pub fn len(&self) -> usize {
        self.chunks.len()
    }

    /// Whether there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds a buffer at the end.
    pub fn push(&mut self, chunk: Bytes) {
        self.chunks.push(chunk);
    }

    /// The buffers, in order; none is empty.
    pub fn chunks(&self) -> impl Iterator<Item = &Bytes> {
        self.chunks.iter()
    }

    /// The buffers themselves, in order; none is empty.
    pub fn into_chunks(self) -> impl Iterator<Item = Bytes> {
        self.chunks.into_chunks()
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        chunks::debug("Body", &self.chunks, f)
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        let mut body = Self::new();
        body.push(bytes);
        body
    }
}

impl From<BytesMut> for Body {
    fn from(bytes: BytesMut) -> Self {
        bytes.freeze().into()
    }
}

impl From<Vec<u8>> for Body {
    fn from(bytes: Vec<u8>) -> Self {
        Bytes::from(bytes).into()
    }
}

impl From<Box<[u8]>> for Body {
    fn from(bytes: Box<[u8]>) -> Self {
        Bytes::from(bytes).into()
    }
}

impl From<String> for Body {
    fn from(text: String) -> Self {
        Bytes::from(text).into()
    }
}

impl From<&[u8]> for Body {
    fn from(bytes: &[u8]) -> Self {
        Bytes::copy_from_slice(bytes).into()
    }
}

impl<const N: usize> From<&[u8; N]> for Body {
    fn from(bytes: &[u8; N]) -> Self {
        bytes.as_slice().into()
    }
}

impl<const N: usize> From<[u8; N]> for Body {
    fn from(bytes: [u8; N]) -> Self {
        bytes.as_slice().into()
    }
}

impl From<&str> for Body {
    fn from(text: &str) -> Self {
        text.as_bytes().into()
    }
}

impl From<&String> for Body {
    fn from(text: &String) -> Self {
        text.as_bytes().into()
    }
}

impl From<&Vec<u8>> for Body {
    fn from(bytes: &Vec<u8>) -> Self {
        bytes.as_slice().into()
    }
}

impl From<Cow<'_, [u8]>> for Body {
    fn from(bytes: Cow<'_, [u8]>) -> Self {
        bytes.into_owned().into()
    }
}

impl From<Message> for Body {
    fn from(message: Message) -> Self {
        message.into_chunks().collect()
    }
}

impl From<&Message> for Body {
    fn from(message: &Message) -> Self {
        message.clone().into()
    }
}

impl FromIterator<Bytes> for Body {
    fn from_iter<I: IntoIterator<Item = Bytes>>(chunks: I) -> Self {
        let mut body = Self::new();
        chunks.into_iter().for_each(|chunk| body.push(chunk));
        body
    }
}
