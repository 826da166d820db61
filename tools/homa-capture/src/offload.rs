//! Frames as they are on the wire: what the kernel leaves to network cards, done here. A recorder
//! on a sending host sees long packets that are cut, and checksums that are written, only behind
//! it; on a receiving host, packets that have been joined.

use std::net::IpAddr;

use homa_wire::{CHECKSUM_AT, IP_PROTOCOL_TCP, Sum};

use crate::decode::{LinkType, ip, link};

const PROTOCOL_UDP: u8 = 17;
/// Where the checksum lies in a UDP header.
const UDP_CHECKSUM_AT: usize = 6;
const UDP_HEADER_BYTES: usize = 8;
/// Where Ethernet frames have their type.
const ETHERTYPE_AT: usize = 12;

/// What the kernel left undone in a frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offload {
    /// Bytes behind the transport header in each packet of a train.
    pub segment_bytes: Option<u16>,
    /// Where in the frame the bytes begin that its checksum covers, and where behind that it goes.
    pub checksum_at: Option<(u16, u16)>,
    /// A VLAN tag that was taken off: ethertype and value.
    pub vlan: Option<(u16, u16)>,
}

/// Gives `each` the frames that are, or were, on the wire for this one.
pub fn as_on_wire(link: LinkType, frame: &[u8], offload: Offload, mut each: impl FnMut(&[u8])) {
    let mut frame = frame.to_vec();
    let layout = Layout::of(link, &frame).filter(|layout| frame.len() > layout.payload_at);
    if let (Some(segment_bytes), Some(layout)) = (offload.segment_bytes.map(usize::from), layout) {
        let headers: Vec<u8> = frame.drain(..layout.payload_at).collect();
        for (index, payload) in frame.chunks(segment_bytes.max(1)).enumerate() {
            let mut segment = [&headers, payload].concat();
            layout.adapt(&mut segment, index, segment_bytes);
            insert_tag(link, &mut segment, offload.vlan);
            each(&segment);
        }
        return;
    }
    if let Some((start, offset)) = offload.checksum_at {
        complete(&mut frame, usize::from(start), usize::from(offset));
    }
    insert_tag(link, &mut frame, offload.vlan);
    each(&frame);
}

/// Where a frame has its headers.
struct Layout {
    ip_at: usize,
    transport_at: usize,
    payload_at: usize,
    protocol: u8,
    source: IpAddr,
    destination: IpAddr,
}

impl Layout {
    fn of(link: LinkType, frame: &[u8]) -> Option<Self> {
        let network = link::network(link, frame)?;
        let ip = ip::parse(network.bytes, u32::try_from(network.bytes.len()).ok()?)?;
        let transport_at = network.link_bytes + ip.header_bytes;
        let header_bytes = match ip.protocol {
            PROTOCOL_UDP => UDP_HEADER_BYTES,
            // The part that segmentation repeats, in 4-byte words (docs/spec/wire-format.md §6).
            _ => usize::from(ip.bytes.get(12)? >> 4) * 4,
        };
        Some(Self {
            ip_at: network.link_bytes,
            transport_at,
            payload_at: transport_at + header_bytes,
            protocol: ip.protocol,
            source: ip.source,
            destination: ip.destination,
        })
    }

    /// Turns a copy of the headers with one piece of the payload into the packet number `index`.
    fn adapt(&self, segment: &mut [u8], index: usize, segment_bytes: usize) {
        let ip_bytes = segment.len() - self.ip_at;
        let transport_bytes = segment.len() - self.transport_at;
        match self.source {
            IpAddr::V4(_) => {
                put16(segment, self.ip_at + 2, ip_bytes as u16);
                let id = link::be16(segment, self.ip_at + 4).unwrap_or_default();
                put16(segment, self.ip_at + 4, id.wrapping_add(index as u16));
                put16(segment, self.ip_at + 10, 0);
                let header = segment.get(self.ip_at..self.transport_at).unwrap_or_default();
                let checksum = Sum::of(header).checksum();
                put16(segment, self.ip_at + 10, checksum);
            }
            IpAddr::V6(_) => put16(segment, self.ip_at + 4, (ip_bytes - 40) as u16),
        }
        let checksum_at = self.transport_at
            + if self.protocol == PROTOCOL_UDP {
                put16(segment, self.transport_at + 4, transport_bytes as u16);
                UDP_CHECKSUM_AT
            } else {
                self.advance_sequence(segment, index, segment_bytes);
                CHECKSUM_AT
            };
        put16(segment, checksum_at, 0);
        // Homa's own packets are summed like TCP's, whatever their protocol number
        // (docs/spec/wire-format.md §2).
        let protocol = if self.protocol == PROTOCOL_UDP { PROTOCOL_UDP } else { IP_PROTOCOL_TCP };
        let transport = segment.get(self.transport_at..).unwrap_or_default();
        let bytes = transport_bytes as u32;
        let mut sum = Sum::pseudo_header(self.source, self.destination, protocol, bytes);
        sum.add(transport);
        put16(segment, checksum_at, sum.nonzero_checksum());
    }

    fn advance_sequence(&self, segment: &mut [u8], index: usize, segment_bytes: usize) {
        let at = self.transport_at + 4;
        if let Some(field) = segment.get_mut(at..at + 4) {
            if let Ok(old) = <[u8; 4]>::try_from(&*field) {
                let behind = index.saturating_mul(segment_bytes) as u32;
                field.copy_from_slice(&u32::from_be_bytes(old).wrapping_add(behind).to_be_bytes());
            }
        }
    }
}

/// Writes the checksum of everything from `start` on, of which the field holds the pseudo-header's
/// part.
fn complete(frame: &mut [u8], start: usize, offset: usize) {
    let sum = Sum::of(frame.get(start..).unwrap_or_default());
    if start + offset + 2 <= frame.len() {
        put16(frame, start + offset, sum.nonzero_checksum());
    }
}

fn insert_tag(link: LinkType, frame: &mut Vec<u8>, vlan: Option<(u16, u16)>) {
    if let Some((ethertype, tag)) = vlan {
        if link == LinkType::Ethernet && frame.len() >= ETHERTYPE_AT {
            let bytes = [ethertype.to_be_bytes(), tag.to_be_bytes()].concat();
            frame.splice(ETHERTYPE_AT..ETHERTYPE_AT, bytes);
        }
    }
}

fn put16(bytes: &mut [u8], at: usize, value: u16) {
    if let Some(place) = bytes.get_mut(at..at + 2) {
        place.copy_from_slice(&value.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An IPv4 datagram whose checksum holds the sum of the pseudo-header, as a sending host has
    /// it.
    fn datagram(payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![2; 12];
        frame.extend([8, 0, 0x45, 0xE0]);
        frame.extend((28 + payload.len() as u16).to_be_bytes());
        frame.extend([0, 9, 0x40, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
        frame.extend([0x13, 0x7F, 0xEB, 0x7A]);
        frame.extend((8 + payload.len() as u16).to_be_bytes());
        frame.extend(pseudo_header(8 + payload.len()).folded().to_be_bytes());
        frame.extend(payload);
        frame
    }

    fn pseudo_header(bytes: usize) -> Sum {
        Sum::pseudo_header([10, 0, 0, 1].into(), [10, 0, 0, 2].into(), PROTOCOL_UDP, bytes as u32)
    }

    fn is_valid(frame: &[u8]) -> bool {
        let mut sum = pseudo_header(frame.len() - 34);
        sum.add(&frame[34..]);
        sum.folded() == 0xFFFF
    }

    #[test]
    fn a_checksum_left_to_the_card_is_written() {
        let frame = datagram(b"abcde");
        assert!(!is_valid(&frame));
        let offload = Offload { checksum_at: Some((34, 6)), ..Offload::default() };
        let mut frames = Vec::new();
        as_on_wire(LinkType::Ethernet, &frame, offload, |frame| frames.push(frame.to_vec()));
        assert_eq!(frames.len(), 1);
        assert!(is_valid(&frames[0]));
    }

    #[test]
    fn a_train_is_cut_into_valid_datagrams_with_their_tags() {
        let frame = datagram(&(0..250).collect::<Vec<u8>>());
        let offload = Offload { segment_bytes: Some(100), ..Offload::default() };
        let mut lengths = Vec::new();
        as_on_wire(LinkType::Ethernet, &frame, offload, |frame| {
            assert!(is_valid(frame));
            assert_eq!(Sum::of(&frame[14..34]).folded(), 0xFFFF, "IP checksum");
            assert_eq!(usize::from(u16::from_be_bytes([frame[16], frame[17]])), frame.len() - 14);
            lengths.push((frame.len() - 42, frame[42], frame[19]));
        });
        assert_eq!(lengths, [(100, 0, 9), (100, 100, 10), (50, 200, 11)]);
        let tagged = Offload { vlan: Some((0x8100, 7)), ..offload };
        as_on_wire(LinkType::Ethernet, &frame, tagged, |frame| {
            assert_eq!(frame[12..18], [0x81, 0, 0, 7, 8, 0]);
        });
    }

    #[test]
    fn nonsense_is_passed_on_unchanged() {
        let offload = Offload {
            segment_bytes: Some(1),
            checksum_at: Some((u16::MAX, u16::MAX)),
            vlan: Some((1, 2)),
        };
        let mut frames = Vec::new();
        as_on_wire(LinkType::Ethernet, &[1, 2, 3], offload, |frame| frames.push(frame.to_vec()));
        assert_eq!(frames, [[1, 2, 3]]);
    }
}
