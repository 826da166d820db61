//! Several packets in one UDP datagram, as QUIC coalesces its packets.
//!
//! Packets of the native profile that say themselves where they end may follow one another
//! directly: DATA whose payload reaches the end of its message, and control packets with their
//! [`Extension`](crate::Extension). What follows such a packet is another one, or padding: zeros,
//! which no packet begins with because no source port is 0. All other packets end with their
//! datagram, also those of a message that may grow, before the end of which a byte is missing.

use crate::common::RawCommon;
use crate::layout::Wire;
use crate::{DATA_HEADER_BYTES, Data, EXTENSION_BYTES, PacketType, VERSION};

/// The packets of a datagram, one after the other: what there is of each, and its length on the
/// wire in bytes. At least one, be the datagram empty.
///
/// ```
/// # use homa_wire::*;
/// # let header = |id| Header {
/// #     common: Common::control(7, 99, id).with_native_profile(1),
/// #     body: Body::Busy,
/// #     extension: Some(Extension::default()),
/// # };
/// let mut datagram = [0; 72];
/// let first = header(2).encode(&mut datagram).unwrap();
/// header(4).encode(&mut datagram[first..]).unwrap();
/// assert_eq!(Packets::new(&datagram, 72).count(), 2);
/// ```
#[derive(Clone, Debug)]
pub struct Packets<'a> {
    rest: &'a [u8],
    rest_bytes: u32,
    ended: bool,
}

impl<'a> Packets<'a> {
    /// The packets of a datagram of `transport_len` bytes behind the UDP header, of which `bytes`
    /// are there (a recorder may have kept less). More bytes do no harm.
    #[inline]
    #[must_use]
    pub fn new(bytes: &'a [u8], transport_len: u32) -> Self {
        let end = usize::try_from(transport_len).unwrap_or(usize::MAX);
        Self { rest: bytes.get(..end).unwrap_or(bytes), rest_bytes: transport_len, ended: false }
    }
}

impl<'a> Iterator for Packets<'a> {
    type Item = (&'a [u8], u32);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let packet_bytes = end_of_first(self.rest).unwrap_or(u32::MAX).min(self.rest_bytes);
        let there = usize::try_from(packet_bytes).unwrap_or(usize::MAX).min(self.rest.len());
        let (packet, rest) = self.rest.split_at(there);
        self.rest = rest;
        self.rest_bytes = self.rest_bytes.saturating_sub(packet_bytes);
        self.ended = rest.is_empty() || rest.starts_with(&[0, 0]) || rest == [0];
        Some((packet, packet_bytes))
    }
}

/// Where the first packet ends, if it says so.
#[inline]
fn end_of_first(bytes: &[u8]) -> Option<u32> {
    let (common, rest) = RawCommon::take(bytes)?;
    if common.get().version() != Some(VERSION) {
        return None;
    }
    match PacketType::try_from(common.packet_type()).ok()? {
        PacketType::Data => {
            let (data, _) = Data::take(rest)?;
            let payload_bytes = data.message_length.checked_sub(data.seg_offset)?;
            payload_bytes.checked_add(u32::try_from(DATA_HEADER_BYTES).ok()?)
        }
        control => u32::try_from(control.header_bytes().checked_add(EXTENSION_BYTES)?).ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{AckEntry, Body, Common, Data, Extension, Header};
    use alloc::vec;
    use alloc::vec::Vec;

    extern crate alloc;

    fn data(message_length: u32, offset: u32, payload_bytes: usize) -> Vec<u8> {
        let common = Common::data(40_000, 99, 2, offset).with_native_profile(7);
        let body = Body::Data(Data {
            message_length,
            incoming: message_length,
            ack: AckEntry::NONE,
            cutoff_version: 0,
            flags: 0,
            echo: 0,
            seg_offset: offset,
        });
        let mut packet = vec![0xEE; DATA_HEADER_BYTES + payload_bytes];
        Header { common, body, extension: None }.encode(&mut packet).unwrap();
        packet
    }

    fn busy(extension: Option<Extension>) -> Vec<u8> {
        let common = Common::control(99, 40_000, 3).with_native_profile(7);
        let header = Header { common, body: Body::Busy, extension };
        let mut packet = vec![0; header.encoded_bytes()];
        header.encode(&mut packet).unwrap();
        packet
    }

    fn lengths(datagram: &[u8]) -> Vec<usize> {
        let packets = Packets::new(datagram, u32::try_from(datagram.len()).unwrap());
        packets
            .map(|(packet, bytes)| {
                assert_eq!(packet.len(), bytes as usize);
                packet.len()
            })
            .collect()
    }

    #[test]
    fn ends_of_messages_and_control_packets_follow_one_another() {
        let extension = Some(Extension::default());
        let datagram =
            [data(10, 0, 10), busy(extension), data(3_000, 2_900, 100), data(9, 0, 4)].concat();
        assert_eq!(lengths(&datagram), [66, 36, 156, 60]);
    }

    #[test]
    fn the_middle_of_a_message_lasts_to_the_end_of_its_datagram() {
        let datagram = [data(1_000, 0, 100), data(10, 0, 10)].concat();
        assert_eq!(lengths(&datagram), [222]);
    }

    #[test]
    fn a_packet_of_a_message_that_grows_lasts_to_the_end_of_its_datagram() {
        let mut open = data(101, 0, 100);
        open[48] = Data::OPEN;
        assert_eq!(lengths(&open), [156]);
        let mut last = data(101, 100, 1);
        last[48] = Data::OPEN;
        assert_eq!(lengths(&[last, data(10, 0, 10)].concat()), [57, 66]);
    }

    #[test]
    fn zeros_behind_a_packet_are_padding() {
        for zeros in [1, 2, 3, 500] {
            assert_eq!(lengths(&[data(10, 0, 10), vec![0; zeros]].concat()), [66]);
        }
    }

    #[test]
    fn a_packet_without_extension_is_the_last() {
        assert_eq!(lengths(&busy(None)), [28]);
        assert_eq!(lengths(&[data(10, 0, 10), busy(None)].concat()), [66, 28]);
    }

    #[test]
    fn packets_in_another_form_or_version_are_not_taken_apart() {
        let mut linux = [data(10, 0, 10), data(10, 0, 10)].concat();
        linux[14..16].fill(0);
        assert_eq!(lengths(&linux), [132]);
        linux[14..16].copy_from_slice(&(crate::VERSION_MAGIC | (VERSION + 1)).to_be_bytes());
        assert_eq!(lengths(&linux), [132]);
    }

    #[test]
    fn nonsense_is_one_packet() {
        assert_eq!(lengths(&[]), [0]);
        assert_eq!(lengths(&[5; 20]), [20]);
        // An offset behind the end of the message.
        assert_eq!(lengths(&[data(10, 11, 4), busy(None)].concat()), [88]);
    }

    #[test]
    fn a_recorder_that_kept_less_still_shows_what_it_has() {
        let datagram = [data(100, 0, 100), data(50, 0, 50)].concat();
        let kept = &datagram[..180];
        let packets: Vec<_> = Packets::new(kept, 262).map(|(p, bytes)| (p.len(), bytes)).collect();
        assert_eq!(packets, [(156, 156), (24, 106)]);
    }
}
