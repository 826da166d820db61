//! Receiving: bounded batches, trains split into packets, drops counted.

use std::io;

use homa_core::{Carriage, Path, RxMeta};
use homa_sys::Received;
use homa_sys::udp::Beside;

use super::{UdpDriver, UdpStats};
use crate::driver::{PacketSink, RxStatus};
use crate::socket::errors::is_beyond_use;

/// Longer than every datagram and every train.
const BUFFER_BYTES: usize = 65_536;

/// How many empty receives pass between looks at the error queue. A report there normally fails
/// the next receive or send; one that was raised by neither would keep the socket ready forever.
const EMPTY_RECEIVES_PER_LOOK: u32 = 64;

/// Packets handed over one by one after a look behind one of them found nothing.
const SINGLES_PER_LOOK: u32 = 8;

/// The state of the receiving half.
#[derive(Debug)]
pub(super) struct Receiver {
    buffer: Box<[u8]>,
    beside: Box<Beside>,
    receives_per_call: usize,
    /// As the kernel last told: a counter that wraps.
    drops_seen: u32,
    empty_receives: u32,
    /// Calls that still return with the first packet, whose answer must not wait for a look that
    /// finds nothing. 0: packets come faster than they are fetched, and a call looks until nothing
    /// is left.
    singles: u32,
}

impl Receiver {
    pub(super) fn new(receives_per_call: usize) -> Self {
        Self {
            buffer: vec![0; BUFFER_BYTES].into_boxed_slice(),
            beside: Box::default(),
            receives_per_call,
            drops_seen: 0,
            empty_receives: 0,
            singles: 1,
        }
    }
}

impl UdpDriver {
    /// Receives until nothing is left or the batch is full; while packets come one by one, only
    /// one.
    pub(super) fn receive_batch(&mut self, sink: &mut impl PacketSink) -> io::Result<RxStatus> {
        for count in 0..self.receiver.receives_per_call {
            match self.socket.recv(&mut self.receiver.buffer, &mut self.receiver.beside) {
                Ok(Some(received)) => {
                    self.hand_over(&received, sink);
                    if self.receiver.singles > 0 {
                        self.receiver.singles -= 1;
                        return Ok(RxStatus::More);
                    }
                }
                Ok(None) => {
                    self.receiver.singles = match count {
                        0 => 1,
                        1 => SINGLES_PER_LOOK,
                        _ => 0,
                    };
                    self.note_empty();
                    return Ok(RxStatus::Drained);
                }
                Err(error) if is_beyond_use(&error) => return Err(error),
                // A pending report about an earlier send, or a signal: no packet was lost.
                Err(_) => self.drain_reports(),
            }
        }
        Ok(RxStatus::More)
    }

    /// Passes on the packets of one receive.
    fn hand_over(&mut self, received: &Received, sink: &mut impl PacketSink) {
        let stats = &mut self.stats;
        if let Some(total) = received.drops_total {
            let new = total.wrapping_sub(self.receiver.drops_seen);
            self.receiver.drops_seen = total;
            stats.dropped_packets = stats.dropped_packets.saturating_add(u64::from(new));
        }
        let meta = RxMeta {
            path: Path {
                remote: received.remote,
                local_ip: Some(received.local_ip).filter(|ip| !ip.is_unspecified()),
                local_port: self.local.port(),
                interface: received.interface,
                carriage: Carriage::Udp,
            },
            dscp: received.tos >> 2,
            ecn: received.tos & 3,
        };
        stats.receives += 1;
        let bytes = self.receiver.buffer.get(..received.len).unwrap_or(&[]);
        let whole_bytes = match received.gro_segment_bytes {
            Some(segment_bytes) => {
                stats.received_trains += 1;
                usize::from(segment_bytes)
            }
            None => received.len,
        };
        split(bytes, whole_bytes, received.truncated, stats, |packet| sink.packet(&meta, packet));
    }

    fn note_empty(&mut self) {
        self.stats.empty_receives += 1;
        self.receiver.empty_receives += 1;
        if self.receiver.empty_receives >= EMPTY_RECEIVES_PER_LOOK {
            self.receiver.empty_receives = 0;
            self.drain_reports();
        }
    }
}

/// Calls `packet` for each `whole_bytes` of `bytes` and for a shorter rest, unless the rest was
/// cut off by the kernel.
fn split(
    bytes: &[u8],
    whole_bytes: usize,
    truncated: bool,
    stats: &mut UdpStats,
    mut packet: impl FnMut(&[u8]),
) {
    let mut packets = bytes.chunks(whole_bytes.max(1));
    if truncated {
        packets.next_back();
        stats.truncated_packets += 1;
    }
    for bytes in packets {
        stats.received_packets += 1;
        stats.received_bytes += bytes.len() as u64;
        packet(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lengths(bytes: usize, whole_bytes: usize, truncated: bool) -> Vec<usize> {
        let mut seen = Vec::new();
        let buffer = vec![0; bytes];
        split(&buffer, whole_bytes, truncated, &mut UdpStats::default(), |p| seen.push(p.len()));
        seen
    }

    #[test]
    fn a_train_splits_into_equal_packets_and_a_shorter_last_one() {
        assert_eq!(lengths(250, 100, false), [100, 100, 50]);
        assert_eq!(lengths(200, 100, false), [100, 100]);
        assert_eq!(lengths(70, 70, false), [70]);
        assert_eq!(lengths(0, 0, false), []);
    }

    #[test]
    fn the_packet_that_was_cut_off_is_not_handed_over() {
        assert_eq!(lengths(250, 100, true), [100, 100]);
        assert_eq!(lengths(70, 70, true), []);
    }
}
