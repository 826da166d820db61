//! TCP checksums of encapsulated packets (docs/spec/wire-format.md §8).

use std::net::IpAddr;

use homa_wire::{CHECKSUM_AT, IP_PROTOCOL_TCP, Sum};

/// What a packet's TCP checksum is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Checksum {
    /// It is right.
    Correct,
    /// It covers the pseudo-header alone: the packet was recorded on its sender, before the network
    /// card put the sum in.
    Offloaded,
    /// It is wrong.
    Wrong,
    /// There is none to check, or the recorder cut the packet.
    Unchecked,
}

/// Checks the checksum of a whole TCP-encapsulated packet.
pub(crate) fn check(source: IpAddr, destination: IpAddr, packet: &[u8]) -> Checksum {
    let pseudo = Sum::pseudo_header(source, destination, IP_PROTOCOL_TCP, packet.len() as u32);
    let Some(field) = super::link::be16(packet, CHECKSUM_AT) else {
        return Checksum::Unchecked;
    };
    let mut whole = pseudo;
    whole.add(packet);
    if whole.folded() == u16::MAX {
        Checksum::Correct
    } else if field == pseudo.folded() {
        Checksum::Offloaded
    } else {
        Checksum::Wrong
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
        let packet = hex
            .map(|pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap())
            .collect();
        ([10, 0, 1, 1].into(), [10, 0, 1, 2].into(), packet)
    }

    #[test]
    fn the_worked_example_is_correct_and_any_changed_byte_makes_it_wrong() {
        let (source, destination, mut packet) = example();
        assert_eq!(check(source, destination, &packet), Checksum::Correct);
        for at in 0..packet.len() {
            packet[at] ^= 0x40;
            assert_eq!(check(source, destination, &packet), Checksum::Wrong, "byte {at}");
            packet[at] ^= 0x40;
        }
    }

    #[test]
    fn the_sum_of_the_pseudo_header_alone_is_recognised() {
        let (source, destination, mut packet) = example();
        let bytes = packet.len() as u32;
        let pseudo = Sum::pseudo_header(source, destination, IP_PROTOCOL_TCP, bytes).folded();
        packet[16..18].copy_from_slice(&pseudo.to_be_bytes());
        assert_eq!(check(source, destination, &packet), Checksum::Offloaded);
    }
}
