//! Sending: a frame for each datagram, written in place, and all of a group shown at once.

use homa_core::{Segment, Transmit, TransmitError};
use homa_sys::XdpSocket;
use homa_wire::Sum;

use super::frame::ETHERNET_BYTES;
use super::hops::Hop;
use super::{SocketDriver, XdpDriver};
use crate::driver::{Payloads, Unsent};
use crate::socket::gather::visit;

/// Where datagrams go, and how they are marked.
struct To<'a> {
    hop: &'a Hop,
    port: u16,
    tos: u8,
}

impl<D: SocketDriver> XdpDriver<D> {
    /// Sends `segments` by the first queue.
    pub(super) fn send_segments(
        &mut self,
        hop: &Hop,
        transmit: &Transmit,
        segments: &[Segment],
        payloads: &impl Payloads,
    ) -> Result<(), Unsent> {
        let queue = self.rings.as_mut().ok().and_then(|rings| rings.queues.first_mut());
        let Some(queue) = queue else {
            self.stats.down += 1;
            return Err(Unsent { first: 0, why: TransmitError::Unreachable });
        };
        queue.reclaim();
        let to = To { hop, port: transmit.path.remote.port(), tos: transmit.dscp << 2 };
        let datagram_segments = if transmit.coalesced { segments.len() } else { 1 };
        let (mut first, mut packets, mut bytes) = (0, 0, 0);
        let mut result = Ok(());
        for datagram in segments.chunks(datagram_segments.max(1)) {
            match put(queue, &to, datagram, payloads) {
                Ok(length) => {
                    first += datagram.len();
                    packets += 1;
                    bytes += length as u64;
                }
                Err(why) => {
                    result = Err(Unsent { first, why });
                    break;
                }
            }
        }
        let submitted = queue.submit();
        let stats = &mut self.stats;
        stats.sends += 1;
        stats.sent_packets += packets;
        stats.sent_bytes += bytes;
        match result {
            Err(Unsent { why: TransmitError::NoRoom, .. }) => stats.no_room += 1,
            Err(_) => stats.too_big += 1,
            Ok(()) => {}
        }
        if submitted.is_err() {
            // Frames that wait are as good as lost on the way; what happened is looked up.
            stats.down += 1;
            self.looks.suspect();
        }
        result
    }
}

/// Writes a datagram of `segments` into free frames of `queue` and commits them; says its length
/// without headers.
fn put(
    queue: &mut XdpSocket,
    to: &To<'_>,
    segments: &[Segment],
    payloads: &impl Payloads,
) -> Result<usize, TransmitError> {
    let hop = to.hop;
    let packet_bytes = segments.iter().map(|segment| segment.wire_bytes() as usize).sum::<usize>();
    let headers_bytes = hop.headers.len();
    if headers_bytes - ETHERNET_BYTES + packet_bytes > hop.mtu as usize {
        return Err(TransmitError::TooBig(hop.mtu));
    }
    let frame_bytes = queue.frame_bytes();
    let frames = (headers_bytes + packet_bytes).div_ceil(frame_bytes);
    if frames > queue.tx_free() {
        return Err(TransmitError::NoRoom);
    }
    if frames > 1 {
        put_in_several(queue, to, segments, payloads, packet_bytes);
        return Ok(packet_bytes);
    }
    let Some(mut frame) = queue.tx_frame() else {
        return Err(TransmitError::NoRoom);
    };
    let bytes = frame.bytes_mut();
    hop.headers.write(bytes, packet_bytes, to.port, to.tos);
    let mut at = headers_bytes;
    for segment in segments {
        visit(segment, payloads, |piece| {
            if let Some(room) = bytes.get_mut(at..at + piece.len()) {
                room.copy_from_slice(piece);
            }
            at += piece.len();
        });
    }
    if let Some(mut sum) = hop.headers.covered(packet_bytes, to.port) {
        sum.add(bytes.get(headers_bytes..headers_bytes + packet_bytes).unwrap_or(&[]));
        hop.headers.put_checksum(bytes, sum);
    }
    frame.commit(headers_bytes + packet_bytes, false);
    Ok(packet_bytes)
}

/// The same for a datagram that is longer than a frame, of which enough are free. The checksum
/// comes first, since the frame that has it leaves the writer's hands first.
fn put_in_several(
    queue: &mut XdpSocket,
    to: &To<'_>,
    segments: &[Segment],
    payloads: &impl Payloads,
    packet_bytes: usize,
) {
    let hop = to.hop;
    let checksum =
        hop.headers.covered(packet_bytes, to.port).map(|sum| added(sum, segments, payloads));
    let headers_bytes = hop.headers.len();
    let frame_bytes = queue.frame_bytes();
    let whole_bytes = headers_bytes + packet_bytes;
    let mut done = 0;
    while done < whole_bytes {
        let Some(mut frame) = queue.tx_frame() else {
            return;
        };
        let part_bytes = frame_bytes.min(whole_bytes - done);
        let bytes = frame.bytes_mut();
        if done == 0 {
            hop.headers.write(bytes, packet_bytes, to.port, to.tos);
            if let Some(sum) = checksum {
                hop.headers.put_checksum(bytes, sum);
            }
        }
        let mut at = headers_bytes;
        for segment in segments {
            visit(segment, payloads, |piece| {
                copy_part(bytes, done, at, piece);
                at += piece.len();
            });
        }
        done += part_bytes;
        frame.commit(part_bytes, done < whole_bytes);
    }
}

/// `sum` with all bytes of `segments`.
fn added(mut sum: Sum, segments: &[Segment], payloads: &impl Payloads) -> Sum {
    for segment in segments {
        visit(segment, payloads, |piece| sum.add(piece));
    }
    sum
}

/// Copies what of `piece`, which begins at `at` of a packet, belongs into a frame that begins at
/// `frame_at` of it.
fn copy_part(frame: &mut [u8], frame_at: usize, at: usize, piece: &[u8]) {
    let from = at.max(frame_at);
    let to = (at + piece.len()).min(frame_at + frame.len());
    if from >= to {
        return;
    }
    if let (Some(room), Some(bytes)) =
        (frame.get_mut(from - frame_at..to - frame_at), piece.get(from - at..to - at))
    {
        room.copy_from_slice(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_cut_where_frames_end() {
        let packet: Vec<u8> = (0..100).collect();
        for piece_bytes in [1, 7, 30, 100] {
            let mut joined = Vec::new();
            for frame_at in (0..100).step_by(30) {
                let mut frame = [0xff; 30];
                for (index, piece) in packet.chunks(piece_bytes).enumerate() {
                    copy_part(&mut frame, frame_at, index * piece_bytes, piece);
                }
                joined.extend(frame);
            }
            assert_eq!(joined[..100], packet);
        }
    }
}
