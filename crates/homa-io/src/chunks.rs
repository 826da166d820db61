//! A chain of byte buffers: what [`Message`](crate::Message) and [`Body`](crate::Body) are made of.

use std::io::IoSlice;

use bytes::{Buf, Bytes, BytesMut};

use crate::short_queue::ShortQueue;

/// Buffers in order. The usual single buffer needs no allocation of its own; empty buffers are not kept.
#[derive(Clone, Default)]
pub(crate) struct Chunks {
    chunks: ShortQueue<Bytes>,
    len: usize,
}

impl Chunks {
    #[inline]
    pub(crate) fn push(&mut self, chunk: Bytes) {
        if chunk.is_empty() {
            return;
        }
        self.len += chunk.len();
        self.chunks.push_back(chunk);
    }

    /// Takes the first buffer out.
    pub(crate) fn pop(&mut self) -> Option<Bytes> {
        let chunk = self.chunks.pop_front()?;
        self.len -= chunk.len();
        Some(chunk)
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Bytes> {
        self.chunks.iter()
    }

    pub(crate) fn into_chunks(self) -> impl Iterator<Item = Bytes> {
        self.chunks.into_iter()
    }

    /// All bytes in one buffer; copies only if there are several.
    pub(crate) fn into_bytes(mut self) -> Bytes {
        if self.chunk().len() < self.len {
            return self.copy_to_bytes(self.len);
        }
        self.pop().unwrap_or_default()
    }

    pub(crate) fn to_vec(&self) -> Vec<u8> {
        let mut all = Vec::with_capacity(self.len);
        for chunk in self.iter() {
            all.extend_from_slice(chunk);
        }
        all
    }

    pub(crate) fn equals(&self, mut other: &[u8]) -> bool {
        self.len == other.len()
            && self.iter().all(|chunk| {
                let (here, rest) = other.split_at(chunk.len());
                other = rest;
                chunk == here
            })
    }

    pub(crate) fn equals_chunks(&self, other: &Self) -> bool {
        let (mut ours, mut theirs) = (self.clone(), other.clone());
        if ours.len != theirs.len {
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

impl Buf for Chunks {
    fn remaining(&self) -> usize {
        self.len
    }

    fn chunk(&self) -> &[u8] {
        self.chunks.front().map_or(&[], |chunk| chunk)
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let mut filled = 0;
        for (slice, chunk) in slices.iter_mut().zip(self.iter()) {
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
            self.pop();
        }
    }

    fn copy_to_bytes(&mut self, count: usize) -> Bytes {
        assert!(count <= self.len, "copy beyond the end: {count} of {}", self.len);
        match self.chunks.front_mut() {
            Some(chunk) if count < chunk.len() => {
                self.len -= count;
                return chunk.split_to(count);
            }
            Some(chunk) if count == chunk.len() => return self.pop().unwrap_or_default(),
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
pub(crate) fn debug(
    name: &str,
    chunks: &Chunks,
    f: &mut std::fmt::Formatter<'_>,
) -> std::fmt::Result {
    const SHOWN: usize = 16;
    let head: Vec<u8> = chunks.iter().flat_map(|chunk| chunk.iter().copied()).take(SHOWN).collect();
    let more = if chunks.len() > SHOWN { "…" } else { "" };
    write!(f, "{name}({} bytes, \"{}{more}\")", chunks.len(), head.escape_ascii())
}
