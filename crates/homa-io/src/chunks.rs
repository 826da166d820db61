//! A chain of byte buffers: what [`Message`](crate::Message) and [`Body`](crate::Body) are made of.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf, Bytes, BytesMut};

/// Buffers in order. The usual single buffer needs no allocation of its own; empty buffers are not kept.
#[derive(Clone, Default)]
pub(crate) struct Chunks {
    first: Bytes,
    rest: VecDeque<Bytes>,
    len: usize,
}

impl Chunks {
    pub(crate) fn push(&mut self, chunk: Bytes) {
        if chunk.is_empty() {
            return;
        }
        self.len += chunk.len();
        if self.first.is_empty() {
            self.first = chunk;
        } else {
            self.rest.push_back(chunk);
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Bytes> {
        Some(&self.first).filter(|first| !first.is_empty()).into_iter().chain(&self.rest)
    }

    pub(crate) fn into_chunks(self) -> impl Iterator<Item = Bytes> {
        Some(self.first).filter(|first| !first.is_empty()).into_iter().chain(self.rest)
    }

    /// All bytes in one buffer; copies only if there are several.
    pub(crate) fn into_bytes(mut self) -> Bytes {
        if self.rest.is_empty() { self.first } else { self.copy_to_bytes(self.len) }
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
        &self.first
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
        self.len -= count;
        while count >= self.first.len() && !self.rest.is_empty() {
            count -= self.first.len();
            self.first = self.rest.pop_front().unwrap_or_default();
        }
        self.first.advance(count);
    }

    fn copy_to_bytes(&mut self, count: usize) -> Bytes {
        assert!(count <= self.len, "copy beyond the end: {count} of {}", self.len);
        if count <= self.first.len() {
            let bytes = self.first.slice(..count);
            self.advance(count);
            return bytes;
        }
        let mut joined = BytesMut::with_capacity(count);
        while joined.len() < count {
            let part = self.first.len().min(count - joined.len());
            joined.extend_from_slice(self.first.get(..part).unwrap_or(&[]));
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
