//! Packets that look like TCP segments (docs/spec/wire-format.md §8): the same bytes in IP packets
//! of protocol 6, with a checksum as TCP has it. Network cards segment these, where they refuse
//! unknown protocols.

use std::net::IpAddr;

use homa_sys::raw::TcpMarks;
use homa_wire::{CHECKSUM_AT, FLAGS, IP_PROTOCOL_TCP, Sum, URGENT};

/// Mark that no TCP segment has: SYN and RST together, and the urgent pointer set without its flag.
pub(super) const MARKS: TcpMarks = TcpMarks { flags: FLAGS, urgent: URGENT };

/// Rules for `nft -f` that turn packets that look like TCP segments into ordinary Homa packets when
/// they arrive, before the host's TCP or connection tracking sees them: what the Linux module does
/// in its receive path. Packets that only pass through the host stay as they are. The kernel
/// corrects the checksum of the IPv4 header; that of TCP is not looked at by anybody.
pub const TCP_FORM_RULES: &str = "\
table inet homa {
    chain prerouting {
        type filter hook prerouting priority raw; policy accept;
        fib daddr type local ip protocol tcp tcp flags == syn|rst tcp urgptr 0xb97d ip protocol set 146
        fib daddr type local ip6 nexthdr tcp tcp flags == syn|rst tcp urgptr 0xb97d ip6 nexthdr set 146
    }
}
";

/// The end of the checksum field.
const CHECKSUM_END: usize = CHECKSUM_AT + 2;

/// Whether the checksum of a whole packet from `source` to `destination` is right, or still that of
/// the pseudo-header alone: so it travels between virtual machines and namespaces of one computer,
/// where a network card that would complete it is never met.
pub(super) fn is_intact(source: IpAddr, destination: IpAddr, packet: &[u8]) -> bool {
    let pseudo = pseudo_header(source, destination, packet.len());
    let mut whole = pseudo;
    whole.add(packet);
    let field = packet.get(CHECKSUM_AT..CHECKSUM_END);
    whole.folded() == u16::MAX || field == Some(&pseudo.folded().to_be_bytes())
}

/// The checksum field of a packet whose bytes are added piece by piece, whatever its own field
/// holds.
pub(super) struct Checksum {
    sum: Sum,
    at: usize,
}

impl Checksum {
    /// Of a packet of `bytes` from `source` to `destination`.
    pub(super) fn new(source: IpAddr, destination: IpAddr, bytes: usize) -> Self {
        Self { sum: pseudo_header(source, destination, bytes), at: 0 }
    }

    pub(super) fn add(&mut self, bytes: &[u8]) {
        splice(&mut self.at, bytes, &[0; 2], |piece| self.sum.add(piece));
    }

    pub(super) fn field(self) -> [u8; 2] {
        self.sum.nonzero_checksum().to_be_bytes()
    }
}

fn pseudo_header(source: IpAddr, destination: IpAddr, bytes: usize) -> Sum {
    let [source, destination] = [source, destination].map(|ip| ip.to_canonical());
    // An IP packet has less than 2^32 bytes.
    Sum::pseudo_header(source, destination, IP_PROTOCOL_TCP, bytes as u32)
}

/// Gives `bytes`, which begin at byte `at` of a packet, to `piece`, with `field` in place of what
/// lies where the checksum is. Moves `at` behind them.
pub(super) fn splice<'a>(
    at: &mut usize,
    bytes: &'a [u8],
    field: &'a [u8; 2],
    mut piece: impl FnMut(&'a [u8]),
) {
    // What of the bytes lies before the field, in it, behind it.
    let before = CHECKSUM_AT.saturating_sub(*at).min(bytes.len());
    let until = CHECKSUM_END.saturating_sub(*at).min(bytes.len());
    let (front, rest) = bytes.split_at(before);
    let inside = (*at + before).saturating_sub(CHECKSUM_AT).min(2)
        ..(*at + until).saturating_sub(CHECKSUM_AT).min(2);
    let (field, rest) = (field.get(inside), rest.get(until - before..));
    for part in [front, field.unwrap_or(&[]), rest.unwrap_or(&[])] {
        if !part.is_empty() {
            piece(part);
        }
    }
    *at += bytes.len();
}

#[cfg(test)]
mod tests {
    use homa_wire::is_tcp_form;

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
            let mut checksum = Checksum::new(source, destination, packet.len());
            packet.chunks(cut).for_each(|piece| checksum.add(piece));
            assert_eq!(checksum.field(), [0xAB, 0x8E], "{cut}");
        }
    }

    #[test]
    fn only_the_field_is_replaced_however_the_packet_is_cut_into_pieces() {
        let (_, _, packet) = example();
        let mut expected = packet.clone();
        expected[16..18].copy_from_slice(&[1, 2]);
        for cut in 1..=packet.len() {
            for bytes in [&packet[..], &packet[..17], &packet[..16]] {
                let (mut spliced, mut at) = (Vec::new(), 0);
                for part in bytes.chunks(cut) {
                    splice(&mut at, part, &[1, 2], |piece| spliced.extend_from_slice(piece));
                }
                assert_eq!(spliced, expected[..bytes.len()], "{cut}");
            }
        }
    }

    // Scenario: W15, W16
    #[test]
    fn packets_are_told_from_tcp_and_damaged_ones_from_whole_ones() {
        let (source, destination, mut packet) = example();
        assert!(is_tcp_form(&packet) && is_intact(source, destination, &packet));
        for at in 0..packet.len() {
            packet[at] ^= 0x40;
            assert!(!is_intact(source, destination, &packet), "byte {at}");
            assert_eq!(is_tcp_form(&packet), ![13, 18, 19].contains(&at), "byte {at}");
            packet[at] ^= 0x40;
        }
        // Of the pseudo-header alone, as it leaves a host that leaves the rest to the network card.
        let pseudo = pseudo_header(source, destination, packet.len()).folded();
        packet[16..18].copy_from_slice(&pseudo.to_be_bytes());
        assert!(is_intact(source, destination, &packet));
        assert!(!is_tcp_form(&packet[..19]) && !is_intact(source, destination, &[]));
    }
}
