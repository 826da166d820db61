//! The bytes of a segment, where they lie.

use homa_core::Segment;

use crate::driver::Payloads;

/// Source of padding, used as often as needed.
static ZEROS: [u8; 2_048] = [0; 2_048];

/// Copies the bytes of `segments` into `joined`: for short ones, and for the rare one that lies in
/// more pieces than a send takes.
pub(crate) fn join(joined: &mut Vec<u8>, segments: &[Segment], payloads: &impl Payloads) {
    joined.clear();
    for segment in segments {
        visit(segment, payloads, |piece| joined.extend_from_slice(piece));
    }
}

/// Calls `piece` for each part of `segment`: header, payload, padding. The parts add up to its
/// length on the wire whatever `payloads` answers.
#[inline(always)]
pub(crate) fn visit<'a>(
    segment: &'a Segment,
    payloads: &'a impl Payloads,
    mut piece: impl FnMut(&'a [u8]),
) {
    if !segment.header().is_empty() {
        piece(segment.header());
    }
    let range = segment.payload.clone();
    let mut missing = range.end.saturating_sub(range.start) as usize;
    if let Some(rpc) = segment.rpc.filter(|_| missing > 0) {
        payloads.pieces(rpc, range, |bytes: &'a [u8]| {
            let bytes = bytes.get(..missing).unwrap_or(bytes);
            missing -= bytes.len();
            if !bytes.is_empty() {
                piece(bytes);
            }
        });
    }
    let zeros = missing + usize::from(segment.padding);
    if zeros > 0 {
        visit_zeros(zeros, piece);
    }
}

/// Calls `piece` with `count` zero bytes.
#[cold]
fn visit_zeros<'a>(mut count: usize, mut piece: impl FnMut(&'a [u8])) {
    while count > 0 {
        let some = count.min(ZEROS.len());
        piece(&ZEROS[..some]);
        count -= some;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::udp::tests::{Pattern, segment};

    #[test]
    fn pieces_always_add_up_to_the_length_on_the_wire() {
        for piece_bytes in [1, 7, 100, 5_000] {
            for wrong in [-3, 0, 3] {
                let payloads = Pattern { piece_bytes, wrong };
                let mut segment = segment(5..105);
                segment.padding = 4_100;
                let mut joined = Vec::new();
                join(&mut joined, &[segment.clone()], &payloads);
                assert_eq!(joined.len(), segment.wire_bytes() as usize);
                assert_eq!(joined[..90], *Pattern::expected(5..95));
                assert!(joined[100..].iter().all(|&byte| byte == 0));
            }
        }
    }
}
