//! TCP checksums of encapsulated packets (docs/spec/wire-format.md §8).

use std::net::IpAddr;

const PROTOCOL_TCP: u8 = 6;
/// Where the checksum lies in a TCP header.
const CHECKSUM_AT: usize = 16;

/// What a packet's TCP checksum is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Checksum {
    /// It is right.
    Correct,
    /// It covers the pseudo-header alone: the packet was recorded on its sender, before the network card put
    /// the sum in.
    Offloaded,
    /// It is wrong.
    Wrong,
    /// There is none to check, or the recorder cut the packet.
    Unchecked,
}

/// Checks the checksum of a whole TCP-encapsulated packet.
pub(crate) fn check(source: IpAddr, destination: IpAddr, packet: &[u8]) -> Checksum {
    let pseudo = pseudo_header(source, destination, PROTOCOL_TCP, packet.len() as u64);
    let Some(field) = super::link::be16(packet, CHECKSUM_AT) else {
        return Checksum::Unchecked;
    };
    if fold(pseudo + sum(packet)) == 0xFFFF {
        Checksum::Correct
    } else if field == fold(pseudo) {
        Checksum::Offloaded
    } else {
        Checksum::Wrong
    }
}

/// The checksum over pseudo-header and packet, with whatever its field holds: all ones if that is right.
pub(crate) fn whole(source: IpAddr, destination: IpAddr, protocol: u8, packet: &[u8]) -> u16 {
    fold(pseudo_header(source, destination, protocol, packet.len() as u64) + sum(packet))
}

pub(crate) fn pseudo_header(source: IpAddr, destination: IpAddr, protocol: u8, bytes: u64) -> u64 {
    address(source) + address(destination) + u64::from(protocol) + bytes
}

fn address(ip: IpAddr) -> u64 {
    match ip {
        IpAddr::V4(ip) => sum(&ip.octets()),
        IpAddr::V6(ip) => sum(&ip.octets()),
    }
}

/// Sum of 16-bit words, not folded; a packet is too short for it to overflow.
pub(crate) fn sum(bytes: &[u8]) -> u64 {
    let words = bytes.chunks_exact(2);
    let last = words.remainder().first().map_or(0, |byte| u64::from(*byte) << 8);
    let word = |pair: &[u8]| pair.iter().fold(0, |word, byte| word << 8 | u64::from(*byte));
    words.map(word).sum::<u64>() + last
}

/// One's-complement addition of the carries.
pub(crate) fn fold(mut sum: u64) -> u16 {
    while sum > 0xFFFF {
        sum = (sum >> 16) + (sum & 0xFFFF);
    }
    sum as u16
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
        let pseudo = fold(pseudo_header(source, destination, PROTOCOL_TCP, packet.len() as u64));
        packet[16..18].copy_from_slice(&pseudo.to_be_bytes());
        assert_eq!(check(source, destination, &packet), Checksum::Offloaded);
    }
}
