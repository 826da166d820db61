//! Trains of UDP datagrams: a recorder on the sending or receiving host sees several as one,
//! because the kernel cuts them later or has already joined them. Every segment begins with its own
//! Homa header and all but the last are equally long.

use homa_wire::{COMMON_HEADER_BYTES, URGENT};
use memchr::memmem;

use super::is_native_form;

/// Where the urgent field lies in a header.
const URGENT_AT: usize = 18;

/// The segments of a datagram: what was recorded of each, and its length on the wire in bytes.
pub(super) struct Segments<'a> {
    rest: &'a [u8],
    rest_bytes: u32,
    segment_bytes: u32,
}

impl<'a> Segments<'a> {
    /// `bytes` are recorded of `announced`.
    pub(super) fn new(bytes: &'a [u8], announced: u32) -> Self {
        let recorded = usize::try_from(announced).ok().and_then(|end| bytes.get(..end));
        let bytes = recorded.unwrap_or(bytes);
        let segment_bytes = segment_bytes(bytes).unwrap_or(announced);
        Self { rest: bytes, rest_bytes: announced, segment_bytes }
    }
}

impl<'a> Iterator for Segments<'a> {
    type Item = (&'a [u8], u32);

    fn next(&mut self) -> Option<Self::Item> {
        let first = self.segment_bytes == self.rest_bytes && self.rest_bytes == 0;
        if self.rest_bytes == 0 && !first {
            return None;
        }
        let bytes = self.segment_bytes.min(self.rest_bytes);
        let length = usize::try_from(bytes).unwrap_or(usize::MAX).min(self.rest.len());
        let (segment, rest) = self.rest.split_at(length);
        self.rest = rest;
        self.rest_bytes -= bytes;
        // An empty datagram is one item, too short for a packet.
        self.segment_bytes = self.segment_bytes.max(1);
        Some((segment, bytes))
    }
}

/// The smallest length at whose multiples headers of the same sender begin, all through the
/// datagram.
fn segment_bytes(bytes: &[u8]) -> Option<u32> {
    if !is_native_form(bytes) {
        return None;
    }
    let pattern = URGENT.to_be_bytes();
    let after_first = bytes.get(COMMON_HEADER_BYTES..)?;
    memmem::find_iter(after_first, &pattern)
        .filter_map(|at| (at + COMMON_HEADER_BYTES).checked_sub(URGENT_AT))
        .filter(|start| *start >= COMMON_HEADER_BYTES)
        .find(|length| are_segments(bytes, *length))
        .and_then(|length| u32::try_from(length).ok())
}

fn are_segments(bytes: &[u8], length: usize) -> bool {
    let ports = bytes.get(..4);
    bytes.chunks(length).all(|segment| segment.get(..4) == ports && is_native_form(segment))
}

#[cfg(test)]
mod tests {
    use super::*;
    use homa_wire::{Body, Common, Header};

    fn header(id: u64) -> [u8; 28] {
        let common = Common::control(1, 2, id).with_native_profile(7);
        let mut out = [0; 28];
        let header = Header { common, body: Body::Busy, extension: None };
        header.encode(&mut out).unwrap();
        out
    }

    fn lengths(bytes: &[u8], announced: u32) -> Vec<(usize, u32)> {
        Segments::new(bytes, announced).map(|(segment, bytes)| (segment.len(), bytes)).collect()
    }

    #[test]
    fn a_train_is_cut_at_its_headers_and_its_last_segment_may_be_shorter() {
        let mut train = Vec::new();
        for id in [2, 4, 6] {
            train.extend(header(id));
            train.extend([0xB9, 0x7D, 0xB9, 0x7D, 5]);
        }
        train.truncate(train.len() - 3);
        assert_eq!(lengths(&train, 96), [(33, 33), (33, 33), (30, 30)]);
        assert_eq!(lengths(&train, 300).len(), 10, "the recorder cut the rest");
    }

    #[test]
    fn a_single_datagram_stays_whole_whatever_its_payload_holds() {
        let mut one = header(2).to_vec();
        one.extend([0xB9, 0x7D].repeat(300));
        assert_eq!(lengths(&one, one.len() as u32), [(628, 628)]);
        assert_eq!(lengths(&[], 0), [(0, 0)]);
        assert_eq!(lengths(&[1, 2], 9), [(2, 9)]);
    }
}
