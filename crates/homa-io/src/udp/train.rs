//! Which segments go together, and the pieces they are gathered from.

use std::io::IoSlice;

use homa_core::Segment;
use homa_sys::udp::{DATAGRAM_PAYLOAD_MAX_BYTES, Pieces};

use crate::driver::Payloads;
use crate::socket::gather::visit;

/// How many of `segments`, at most `segments_max`, one send can carry: all as long as the first
/// but the last, which may be shorter. The kernel cuts a train blindly at equal distances, so a
/// longer one behind a shorter one would be corrupted, not refused. At least 1.
pub(super) fn train_length(segments: &[Segment], segments_max: usize) -> usize {
    let mut lengths = segments
        .iter()
        .take(segments_max)
        .map(|segment| usize::try_from(segment.wire_bytes()).unwrap_or(usize::MAX));
    let whole_bytes = lengths.next().unwrap_or(0);
    let mut total_bytes = whole_bytes;
    let mut count = 1;
    // An empty datagram has no length to cut at.
    if whole_bytes == 0 {
        return count;
    }
    for bytes in lengths {
        total_bytes = total_bytes.saturating_add(bytes);
        if bytes == 0 || bytes > whole_bytes || total_bytes > DATAGRAM_PAYLOAD_MAX_BYTES {
            break;
        }
        count += 1;
        if bytes < whole_bytes {
            break;
        }
    }
    count
}

/// Puts the pieces of `segments` into `pieces`, without copying bytes; stops before a segment
/// that does not fit whole. Says how many segments it took, perhaps none.
pub(super) fn gather<'a>(
    pieces: &mut Pieces<'a>,
    segments: &'a [Segment],
    payloads: &'a impl Payloads,
) -> usize {
    for (index, segment) in segments.iter().enumerate() {
        let before = pieces.len();
        let mut fits = true;
        visit(segment, payloads, |piece| fits &= pieces.try_push(IoSlice::new(piece)).is_ok());
        if !fits {
            pieces.truncate(before);
            return index;
        }
    }
    segments.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::udp::tests::{Pattern, segment};
    use homa_sys::udp::GSO_SEGMENTS_MAX;

    fn length_of_train(lengths: &[u32]) -> usize {
        let segments: Vec<_> = lengths.iter().map(|&bytes| segment(0..bytes)).collect();
        train_length(&segments, GSO_SEGMENTS_MAX)
    }

    #[test]
    fn equal_segments_and_one_shorter_make_a_train() {
        assert_eq!(length_of_train(&[100]), 1);
        assert_eq!(length_of_train(&[100, 100, 100]), 3);
        assert_eq!(length_of_train(&[100, 100, 60, 60]), 3);
        assert_eq!(length_of_train(&[100, 100, 101]), 2);
        assert_eq!(length_of_train(&[100, 0, 100]), 1);
        assert_eq!(length_of_train(&[0, 0]), 1);
    }

    #[test]
    fn a_train_keeps_the_kernels_limits() {
        assert_eq!(length_of_train(&[10; 200]), GSO_SEGMENTS_MAX);
        assert_eq!(length_of_train(&[1_400; 100]), DATAGRAM_PAYLOAD_MAX_BYTES / 1_400);
        assert_eq!(length_of_train(&[u32::MAX, 1]), 1);
    }

    #[test]
    fn a_segment_in_too_many_pieces_is_left_out_whole() {
        let payloads = Pattern { piece_bytes: 1, wrong: 0 };
        let segments = [segment(0..200), segment(0..200), segment(0..200)];
        let mut pieces = Pieces::new();
        assert_eq!(gather(&mut pieces, &segments, &payloads), 2);
        assert_eq!(pieces.len(), 400);
        let long = [segment(0..600)];
        let mut pieces = Pieces::new();
        assert_eq!(gather(&mut pieces, &long, &payloads), 0);
        assert!(pieces.is_empty());
    }
}
