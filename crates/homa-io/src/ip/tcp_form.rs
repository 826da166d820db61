//! Packets that look like TCP segments
//! (docs/spec/wire-format.md §8): the same bytes in IP packets of protocol
//! 6, with a checksum as TCP has it. Network cards segment these, where they refuse unknown protocols.

use std::net::IpAddr;

use homa_sys::raw::TcpMarks;
use homa_wire::{FLAGS, URGENT};

/// The IP protocol number of TCP.
pub(super) const PROTOCOL: u8 = 6;

/// What no TCP segment has: SYN and RST together, and the urgent pointer set without its flag.
pub(super) const MARKS: TcpMarks = TcpMarks { flags: FLAGS, urgent: URGENT };

/// Rules for `nft -f` that turn packets that look like TCP segments into ordinary Homa packets when they
/// arrive, before the host's TCP or connection tracking sees them: what the Linux module does in its receive
/// path. Packets that only pass through the host stay as they are. The kernel corrects the checksum of the
/// IPv4 header; that of TCP is not looked at by anybody.
pub const TCP_FORM_RULES: &str = "\
table inet homa {
    chain prerouting {
        type filter hook prerouting priority raw; policy accept;
        fib daddr type local ip protocol tcp tcp flags == syn|rst tcp urgptr 0xb97d ip protocol set 146
        fib daddr type local ip6 nexthdr tcp tcp flags == syn|rst tcp urgptr 0xb97d ip6 nexthdr set 146
    }
}
";

/// Where the header has its flags, its checksum and its urgent pointer.
const FLAGS_AT: usize = 13;
const CHECKSUM_AT: usize = 16;
const CHECKSUM_END: usize = 18;
const URGENT_END: usize = 20;

/// Whether a TCP segment is a Homa packet.
pub(super) fn is_homa(segment: &[u8]) -> bool {
    segment.get(FLAGS_AT) == Some(&FLAGS)
        && segment.get(CHECKSUM_END..URGENT_END) == Some(URGENT.to_be_bytes().as_slice())
}

/// Whether the checksum of a whole packet from `source` to `destination` is right, or still that of the
/// pseudo-header alone: so it travels between virtual machines and namespaces of one computer, where a
/// network card that would complete it is never met.
pub(super) fn is_intact(source: IpAddr, destination: IpAddr, packet: &[u8]) -> bool {
    let pseudo = Sum::pseudo_header(source, destination, packet.len());
    let (alone, mut whole) = (pseudo.folded(), pseudo);
    whole.add(packet);
    let field = packet.get(CHECKSUM_AT..CHECKSUM_END);
    whole.folded() == u16::MAX || field == Some(alone.to_ne_bytes().as_slice())
}

/// The checksum field of a packet from `source` to `destination` that `visit` gives piece by piece, `bytes`
/// in all; whatever its own field holds.
pub(super) fn checksum<'a>(
    source: IpAddr,
    destination: IpAddr,
    bytes: usize,
    visit: impl FnOnce(&mut dyn FnMut(&'a [u8])),
) -> [u8; 2] {
    let mut sum = Sum::pseudo_header(source, destination, bytes);
    splice(&[0; 2], visit, &mut |piece| sum.add(piece));
    // Of the two forms of zero TCP sends either; all ones is the one that UDP needs too.
    match !sum.folded() {
        0 => [0xFF; 2],
        sum => sum.to_ne_bytes(),
    }
}

/// Gives the pieces of `visit` to `piece`, with `field` in place of what lies where the checksum is.
pub(super) fn splice<'a>(
    field: &'a [u8; 2],
    visit: impl FnOnce(&mut dyn FnMut(&'a [u8])),
    piece: &mut dyn FnMut(&'a [u8]),
) {
    let mut at = 0;
    let mut some = |bytes: &'a [u8]| {
        if !bytes.is_empty() {
            piece(bytes);
        }
    };
    visit(&mut |bytes| {
        let end = at + bytes.len();
        // What of the piece lies before the field, in it, behind it.
        let before = CHECKSUM_AT.saturating_sub(at).min(bytes.len());
        let until = CHECKSUM_END.saturating_sub(at).min(bytes.len());
        let (front, rest) = bytes.split_at(before);
        some(front);
        let inside = (at + before).saturating_sub(CHECKSUM_AT).min(2)
            ..(at + until).saturating_sub(CHECKSUM_AT).min(2);
        some(field.get(inside).unwrap_or(&[]));
        some(rest.get(until - before..).unwrap_or(&[]));
        at = end;
    });
}

/// A sum in one's complement arithmetic (RFC 1071), in the byte order of this computer: the order makes no
/// difference to such a sum but for that of its own two bytes.
#[derive(Clone, Copy, Debug)]
struct Sum {
    /// A packet is too short for it to overflow.
    total: u64,
    /// The next byte is the second of its word.
    odd: bool,
}

impl Sum {
    fn pseudo_header(source: IpAddr, destination: IpAddr, bytes: usize) -> Self {
        let mut sum = Self { total: 0, odd: false };
        for ip in [source, destination] {
            match ip.to_canonical() {
                IpAddr::V4(ip) => sum.add(&ip.octets()),
                IpAddr::V6(ip) => sum.add(&ip.octets()),
            }
        }
        sum.add(&[0, PROTOCOL]);
        // An IP packet has less than 2^32 bytes; IPv4 has 16 bits here, of which the upper are zero.
        sum.add(&(bytes as u32).to_be_bytes());
        sum
    }

    fn add(&mut self, mut bytes: &[u8]) {
        if self.odd {
            if let Some((first, rest)) = bytes.split_first() {
                self.total += u64::from(u16::from_ne_bytes([0, *first]));
                self.odd = false;
                bytes = rest;
            }
        }
        let words = bytes.chunks_exact(4);
        let rest = words.remainder();
        let word = |word: &[u8]| word.try_into().map_or(0, u32::from_ne_bytes);
        self.total += words.map(|bytes| u64::from(word(bytes))).sum::<u64>();
        for half in rest.chunks(2) {
            self.odd = half.len() == 1;
            let last = half.get(1).copied().unwrap_or(0);
            self.total +=
                half.first().map_or(0, |first| u64::from(u16::from_ne_bytes([*first, last])));
        }
    }

    fn folded(&self) -> u16 {
        let mut sum = self.total;
        while sum > u64::from(u16::MAX) {
            sum = (sum >> 16) + (sum & u64::from(u16::MAX));
        }
        // Folded to 16 bits.
        sum as u16
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Worked example F of the wire format, from the TCP header on.
    const EXAMPLE: &str = "80000fa00000000000000010e0060000ab8eb97d00000000000000020000000c0000000c\
        00000000000000000000000000000000ffffffff48656c6c6f2c20486f6d6121";

    fn example() -> (IpAddr, IpAddr, Vec<u8>) {
        let hex = EXAMPLE.as_bytes().chunks(2);
        let byte = |pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap();
        ([10, 0, 1, 1].into(), [10, 0, 1, 2].into(), hex.map(byte).collect())
    }

    // Scenario: W14
    #[test]
    fn the_checksum_of_the_worked_example_comes_out_however_it_is_cut_into_pieces() {
        let (source, destination, mut packet) = example();
        packet[16..18].fill(0x55);
        for cut in 1..=packet.len() {
            let visit = |piece: &mut dyn FnMut(&'static [u8])| {
                let bytes: &'static [u8] = packet.clone().leak();
                bytes.chunks(cut).for_each(piece);
            };
            assert_eq!(checksum(source, destination, packet.len(), visit), [0xAB, 0x8E], "{cut}");
        }
    }

    #[test]
    fn only_the_field_is_replaced_however_the_packet_is_cut_into_pieces() {
        let (_, _, packet) = example();
        let mut expected = packet.clone();
        expected[16..18].copy_from_slice(&[1, 2]);
        for cut in 1..=packet.len() {
            for bytes in [&packet[..], &packet[..17], &packet[..16]] {
                let mut spliced = Vec::new();
                let visit = |piece: &mut dyn FnMut(_)| bytes.chunks(cut).for_each(piece);
                splice(&[1, 2], visit, &mut |piece| spliced.extend_from_slice(piece));
                assert_eq!(spliced, expected[..bytes.len()], "{cut}");
            }
        }
    }

    // Scenario: W15, W16
    #[test]
    fn packets_are_told_from_tcp_and_damaged_ones_from_whole_ones() {
        let (source, destination, mut packet) = example();
        assert!(is_homa(&packet) && is_intact(source, destination, &packet));
        for at in 0..packet.len() {
            packet[at] ^= 0x40;
            assert!(!is_intact(source, destination, &packet), "byte {at}");
            assert_eq!(is_homa(&packet), ![13, 18, 19].contains(&at), "byte {at}");
            packet[at] ^= 0x40;
        }
        // Of the pseudo-header alone, as it leaves a host that leaves the rest to the network card.
        let pseudo = Sum::pseudo_header(source, destination, packet.len()).folded();
        packet[16..18].copy_from_slice(&pseudo.to_ne_bytes());
        assert!(is_intact(source, destination, &packet));
        assert!(!is_homa(&packet[..19]) && !is_intact(source, destination, &[]));
    }
}
