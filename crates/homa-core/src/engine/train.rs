//! Equally long packets for one destination at one priority, being gathered in the caller's array.

use homa_wire::Header;

use crate::addr::Path;
use crate::engine::rpc::NIL;
use crate::event::{RpcKey, Segment, SegmentKind};

/// Bytes in one train: what UDP over IPv4 can carry in a single buffer.
pub(crate) const TRAIN_BYTES_MAX: u32 = 65_507;

/// A train being built in the caller's array.
pub(crate) struct Train<'a> {
    pub(crate) segments: &'a mut [Segment],
    pub(crate) count: usize,
    pub(crate) path: Path,
    /// The peer at the end of `path`, [`NIL`] if it is not known.
    pub(crate) peer: u32,
    pub(crate) priority: u8,
    pub(crate) segment_bytes: u32,
    pub(crate) total_bytes: u32,
    pub(crate) limit_bytes: u32,
    /// A shorter segment came last: nothing can follow.
    closed: bool,
}

impl<'a> Train<'a> {
    pub(crate) fn new(
        segments: &'a mut [Segment],
        path: &Path,
        peer: Option<u32>,
        priority: u8,
        limit_bytes: u32,
    ) -> Self {
        Self {
            segments,
            count: 0,
            path: *path,
            peer: peer.unwrap_or(NIL),
            priority,
            segment_bytes: 0,
            total_bytes: 0,
            limit_bytes: limit_bytes.min(TRAIN_BYTES_MAX),
            closed: false,
        }
    }

    pub(crate) fn goes(&self, path: &Path, priority: u8) -> bool {
        self.priority == priority && self.path == *path
    }

    /// Padding with which a segment of `bytes` fits, if it does. A slightly shorter one is padded
    /// (`paddable`) so that others can follow, a much shorter one becomes the last.
    pub(crate) fn fits(&self, bytes: u32, paddable: bool) -> Option<u16> {
        if self.count == 0 {
            return (!self.segments.is_empty()).then_some(0);
        }
        if self.closed || self.count >= self.segments.len() || bytes > self.segment_bytes {
            return None;
        }
        let missing = self.segment_bytes.saturating_sub(bytes);
        let pad = if paddable && missing <= self.segment_bytes / 8 { missing } else { 0 };
        let after = self.total_bytes.saturating_add(bytes).saturating_add(pad);
        (after <= self.limit_bytes).then_some(u16::try_from(pad).unwrap_or(0))
    }

    /// Adds a segment that `fits`. `false`: its header could not be written. (Inlined, since mostly the caller knows
    /// which header it is.)
    #[inline(always)]
    pub(crate) fn push(
        &mut self,
        header: &Header,
        rpc: Option<RpcKey>,
        payload: (u32, u32),
        padding: u16,
        kind: SegmentKind,
    ) -> bool {
        let Some(segment) = self.segments.get_mut(self.count) else {
            return false;
        };
        let Some(written) = header.encode(&mut segment.header) else {
            return false;
        };
        segment.header_bytes = u8::try_from(written).unwrap_or(0);
        segment.rpc = rpc;
        segment.payload = payload.0..payload.1;
        segment.padding = padding;
        segment.kind = kind;
        let bytes = segment.wire_bytes();
        if self.count == 0 {
            self.segment_bytes = bytes;
        }
        self.closed = bytes < self.segment_bytes;
        self.count = self.count.saturating_add(1);
        self.total_bytes = self.total_bytes.saturating_add(bytes);
        true
    }
}
