//! Ethernet frames, as far as a switch looks into them.

use crate::host::index_of_mac;

const ETHERNET_BYTES: usize = 14;
const IPV4: [u8; 2] = [0x08, 0x00];
const IPV6: [u8; 2] = [0x86, 0xdd];

/// Congestion experienced, in the two ECN bits.
const CE: u8 = 0b11;

/// A frame in a buffer that is used again.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Frame {
    buffer: Vec<u8>,
    length: usize,
}

/// Where a frame is to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Destination {
    /// To the port of one host.
    Port(usize),
    /// To every other port: broadcast and multicast.
    All,
    /// To nobody this switch knows, or too short to tell.
    Unknown,
}

impl Frame {
    /// An empty buffer for frames of up to `capacity` bytes.
    pub fn with_capacity(capacity: usize) -> Self {
        Self { buffer: vec![0; capacity], length: 0 }
    }

    /// The whole buffer, to be written by a receive call; [`Frame::set_length`] then says how much
    /// counts.
    pub fn space(&mut self) -> &mut [u8] {
        &mut self.buffer
    }

    /// Says how many bytes of the buffer are the frame; more than there are count as all.
    pub fn set_length(&mut self, length: usize) {
        self.length = length.min(self.buffer.len());
    }

    /// The frame.
    pub fn bytes(&self) -> &[u8] {
        self.buffer.get(..self.length).unwrap_or_default()
    }

    /// Length of the frame in bytes.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether there is no frame in the buffer.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Where the frame is to go, of `ports` ports.
    pub(crate) fn destination(&self, ports: usize) -> Destination {
        match self.bytes().get(..ETHERNET_BYTES) {
            Some([first, ..]) if first & 1 == 1 => Destination::All,
            Some(header) => match header.get(..6).and_then(index_of_mac) {
                Some(port) if port < ports => Destination::Port(port),
                _ => Destination::Unknown,
            },
            None => Destination::Unknown,
        }
    }

    /// The priority level: the upper three bits of the DSCP; 0 for what is not IP.
    pub(crate) fn level(&self) -> usize {
        usize::from(self.traffic_class().unwrap_or(0) >> 5)
    }

    /// Marks a packet of an ECN-capable transport; whether it carries the mark now.
    pub(crate) fn mark_congestion(&mut self) -> bool {
        if self.traffic_class().is_none_or(|class| class & CE == 0) {
            return false;
        }
        match self.ether_type() {
            Some(IPV6) => {
                if let Some(byte) = self.buffer.get_mut(ETHERNET_BYTES + 1) {
                    *byte |= CE << 4;
                }
            }
            _ => self.mark_ipv4(),
        }
        true
    }

    /// Sets the mark and corrects the header's checksum by the difference (RFC 1624).
    fn mark_ipv4(&mut self) {
        let Some(header) = self.buffer.get_mut(ETHERNET_BYTES..ETHERNET_BYTES + 20) else {
            return;
        };
        let before = u16::from_be_bytes([header[0], header[1]]);
        header[1] |= CE;
        let after = u16::from_be_bytes([header[0], header[1]]);
        let checksum = u16::from_be_bytes([header[10], header[11]]);
        let sum = u32::from(!checksum) + u32::from(!before) + u32::from(after);
        let folded = (sum & 0xffff) + (sum >> 16);
        let folded = (folded & 0xffff) + (folded >> 16);
        // Folded twice, the sum fits into 16 bits.
        let [_, _, high, low] = (!folded).to_be_bytes();
        header[10] = high;
        header[11] = low;
    }

    /// The byte of DSCP and ECN of a whole IP header.
    fn traffic_class(&self) -> Option<u8> {
        let ip = self.bytes().get(ETHERNET_BYTES..)?;
        match self.ether_type()? {
            IPV4 if ip.len() >= 20 => ip.get(1).copied(),
            IPV6 if ip.len() >= 40 => Some(ip[0] << 4 | ip[1] >> 4),
            _ => None,
        }
    }

    fn ether_type(&self) -> Option<[u8; 2]> {
        self.bytes().get(12..ETHERNET_BYTES)?.try_into().ok()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::host::mac_of;

    /// An IPv4 packet of `length` bytes (with Ethernet header) to a host, with a correct checksum.
    pub(crate) fn ipv4_frame(to: usize, traffic_class: u8, length: usize) -> Frame {
        let mut frame = Frame::with_capacity(length.max(34));
        frame.set_length(length);
        let bytes = frame.space();
        bytes[..6].copy_from_slice(&mac_of(to));
        bytes[12..14].copy_from_slice(&IPV4);
        bytes[14] = 0x45;
        bytes[15] = traffic_class;
        bytes[22] = 64;
        let sum = header_sum(&bytes[14..34]);
        bytes[24..26].copy_from_slice(&(!sum).to_be_bytes());
        frame
    }

    fn header_sum(header: &[u8]) -> u16 {
        let mut sum: u32 =
            header.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        sum as u16
    }

    #[test]
    fn a_mark_keeps_the_ipv4_checksum_right() {
        for class in 0..=255u8 {
            let mut frame = ipv4_frame(0, class, 60);
            let marked = frame.mark_congestion();
            assert_eq!(marked, class & 3 != 0);
            assert_eq!(frame.bytes()[15], if marked { class | 3 } else { class });
            assert_eq!(header_sum(&frame.bytes()[14..34]), 0xffff, "class {class}");
        }
    }

    #[test]
    fn ipv6_packets_have_levels_and_marks() {
        let mut frame = Frame::with_capacity(60);
        frame.set_length(60);
        frame.space()[12..14].copy_from_slice(&IPV6);
        frame.space()[14] = 0x6e;
        frame.space()[15] = 0x25;
        assert_eq!(frame.level(), 7);
        assert!(frame.mark_congestion());
        assert_eq!(&frame.bytes()[14..16], &[0x6e, 0x35]);
    }

    #[test]
    fn frames_that_are_too_short_go_nowhere() {
        for length in 0..14 {
            let mut frame = Frame::with_capacity(64);
            frame.set_length(length);
            assert_eq!(frame.destination(8), Destination::Unknown);
            assert_eq!(frame.level(), 0);
            assert!(!frame.mark_congestion());
        }
        assert_eq!(ipv4_frame(3, 0, 20).level(), 0);
        assert_eq!(ipv4_frame(3, 0, 60).destination(4), Destination::Port(3));
        assert_eq!(ipv4_frame(4, 0, 60).destination(4), Destination::Unknown);
    }
}
