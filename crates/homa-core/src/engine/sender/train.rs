//! Packets for one destination, being gathered in the caller's array.

use homa_wire::{Body, DATA_HEADER_BYTES, Header, VERSION};

use crate::addr::{Carriage, Path};
use crate::config::Config;
use crate::engine::peer::{DATAGRAM_ALWAYS_FITS, PeerIndex, PeerTable};
use crate::event::{RpcKey, Segment, SegmentKind};
use crate::priority::Priority;

/// Bytes in one train: what UDP over IPv4 can carry in a single buffer.
pub(crate) const TRAIN_BYTES_MAX: u32 = 65_507;

/// Length of a DATA packet from the Homa header on.
pub(crate) fn wire_bytes(payload: u32) -> u32 {
    payload.saturating_add(DATA_HEADER_BYTES as u32)
}

/// A train being built in the caller's array: either equally long packets, each a datagram of its
/// own, or packets of any lengths in one datagram. Which one it is remains open as long as both are
/// possible.
pub(crate) struct Train<'a> {
    pub(super) segments: &'a mut [Segment],
    pub(super) count: usize,
    pub(crate) path: Path,
    /// The peer at the end of `path`, if it is known.
    pub(crate) peer: Option<PeerIndex>,
    pub(crate) priority: Priority,
    pub(super) segment_bytes: u32,
    pub(crate) total_bytes: u32,
    pub(crate) limit_bytes: u32,
    /// Longest datagram for several packets; 0: none.
    datagram_bytes: u32,
    /// One is of another length than the first, or rides along: no train of equal ones can go on.
    closed: bool,
    /// All fit one datagram, and each but the last says where it ends.
    coalesced: bool,
    /// The last one says where it ends, too.
    ends: bool,
}

impl<'a> Train<'a> {
    /// A train to the end of `path`, where `peer` is, of at most so many bytes.
    pub(crate) fn to(
        segments: &'a mut [Segment],
        path: &Path,
        peer: Option<PeerIndex>,
        (priority, limit_bytes): (Priority, u32),
        peers: &PeerTable,
        config: &Config,
    ) -> Self {
        let found = peer.and_then(|peer| peers.known(peer));
        let datagram_bytes = match path.carriage {
            Carriage::Udp => found.map_or(DATAGRAM_ALWAYS_FITS, |peer| peer.datagram_bytes(config)),
            _ => 0,
        };
        Self::new(segments, path, peer, (priority, limit_bytes), datagram_bytes)
    }

    fn new(
        segments: &'a mut [Segment],
        path: &Path,
        peer: Option<PeerIndex>,
        (priority, limit_bytes): (Priority, u32),
        datagram_bytes: u32,
    ) -> Self {
        Self {
            segments,
            count: 0,
            path: *path,
            peer,
            priority,
            segment_bytes: 0,
            total_bytes: 0,
            limit_bytes: limit_bytes.min(TRAIN_BYTES_MAX),
            datagram_bytes,
            closed: false,
            coalesced: true,
            ends: true,
        }
    }

    /// Packets in it.
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    pub(crate) fn goes(&self, path: &Path, priority: Priority) -> bool {
        self.priority == priority && self.path == *path
    }

    /// Whether a packet of `bytes` at `priority` may go with the others. In a datagram that leaves
    /// anyway also one of a lower priority rides along.
    pub(crate) fn takes(&self, priority: Priority, bytes: u32) -> bool {
        priority == self.priority || (priority < self.priority && self.coalesces(bytes))
    }

    /// The packet added last may be of a lower priority, which it only has in one datagram with the
    /// others.
    pub(crate) fn note_priority(&mut self, priority: Priority) {
        self.closed |= priority != self.priority;
    }

    /// Whether its packets, several, go in one datagram.
    pub(crate) fn is_datagram(&self) -> bool {
        self.coalesced && self.count > 1
    }

    /// Whether a packet of `bytes` can go in one datagram with those before.
    fn coalesces(&self, bytes: u32) -> bool {
        let after = self.total_bytes.saturating_add(bytes);
        self.coalesced && self.ends && after <= self.datagram_bytes.min(self.limit_bytes)
    }

    /// Whether a packet of `bytes` can be added to others in one datagram.
    #[inline]
    pub(crate) fn carries(&self, bytes: u32) -> bool {
        self.count > 0 && self.count < self.segments.len() && self.coalesces(bytes)
    }

    /// Padding with which a segment of `bytes` fits, if it does. Where all have to be equally long,
    /// a slightly shorter one is padded (`paddable`) so that others can follow, a much shorter one
    /// becomes the last.
    pub(crate) fn fits(&self, bytes: u32, paddable: bool) -> Option<u16> {
        if self.count == 0 {
            return (!self.segments.is_empty()).then_some(0);
        }
        if self.count >= self.segments.len() {
            return None;
        }
        if self.coalesces(bytes) {
            return Some(0);
        }
        if self.closed || bytes > self.segment_bytes {
            return None;
        }
        let missing = self.segment_bytes.saturating_sub(bytes);
        let pad = if paddable && missing <= self.segment_bytes / 8 { missing } else { 0 };
        let after = self.total_bytes.saturating_add(bytes).saturating_add(pad);
        (after <= self.limit_bytes).then_some(u16::try_from(pad).unwrap_or(0))
    }

    /// Adds a segment that `fits`. `false`: its header could not be written. (Inlined, since mostly
    /// the caller knows which header it is.)
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
        self.added(bytes, padding == 0 && says_where_it_ends(header, payload.1));
        true
    }

    /// Adds a message of `length` bytes that `fits` as a whole; `put` writes its header.
    #[inline(always)]
    pub(crate) fn push_whole(
        &mut self,
        put: impl FnOnce(&mut [u8]) -> Option<usize>,
        rpc: RpcKey,
        length: u32,
        padding: u16,
    ) {
        let Some(segment) = self.segments.get_mut(self.count) else {
            return;
        };
        let Some(written) = put(&mut segment.header) else {
            return;
        };
        segment.header_bytes = u8::try_from(written).unwrap_or(0);
        segment.rpc = Some(rpc);
        segment.payload = 0..length;
        segment.padding = padding;
        segment.kind = SegmentKind::Data;
        self.added(wire_bytes(length).saturating_add(u32::from(padding)), padding == 0);
    }

    /// A packet of `bytes` was added, which says where it `ends` or does not.
    #[inline(always)]
    fn added(&mut self, bytes: u32, ends: bool) {
        if self.count == 0 {
            self.segment_bytes = bytes;
        } else {
            self.coalesced = self.coalesces(bytes);
        }
        self.closed |= bytes != self.segment_bytes;
        self.ends = ends;
        self.count = self.count.saturating_add(1);
        self.total_bytes = self.total_bytes.saturating_add(bytes);
    }
}

/// Whether another packet may follow this one in its datagram (see [`homa_wire::Packets`]).
#[inline]
fn says_where_it_ends(header: &Header, payload_end: u32) -> bool {
    match &header.body {
        Body::Data(data) => {
            header.common.version() == Some(VERSION) && payload_end == data.message_length
        }
        _ => header.written_extension().is_some(),
    }
}
