//! The checksums of IP, ICMP, TCP and UDP.

use core::net::IpAddr;

/// A sum in one's complement arithmetic, of which these checksums are made (RFC 1071). Bytes are
/// added piece by piece, cut anywhere.
///
/// ```
/// use homa_wire::Sum;
///
/// let mut sum = Sum::of(&[0x45, 0, 0]);
/// sum.add(&[28]);
/// assert_eq!(sum.checksum(), !(0x4500 + 28));
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Sum {
    /// In the byte order of this computer, which makes no difference to such a sum but for that of
    /// its own two bytes. A packet is too short for it to overflow.
    total: u64,
    /// The next byte is the second of its word.
    odd: bool,
}

impl Sum {
    /// The sum of some bytes.
    pub fn of(bytes: &[u8]) -> Self {
        let mut sum = Self::default();
        sum.add(bytes);
        sum
    }

    /// The sum of the pseudo-header of a packet of `protocol` with `bytes` behind its IP header.
    pub fn pseudo_header(source: IpAddr, destination: IpAddr, protocol: u8, bytes: u32) -> Self {
        let mut sum = Self::of(&[0, protocol]);
        for ip in [source, destination] {
            match ip {
                IpAddr::V4(ip) => sum.add(&ip.octets()),
                IpAddr::V6(ip) => sum.add(&ip.octets()),
            }
        }
        // IPv4 has 16 bits here, of which the upper are zero.
        sum.add(&bytes.to_be_bytes());
        sum
    }

    /// Adds bytes behind those before.
    pub fn add(&mut self, mut bytes: &[u8]) {
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

    /// The sum as a word of 16 bits: all ones if it includes a right checksum.
    pub fn folded(self) -> u16 {
        let mut sum = self.total;
        while sum > u64::from(u16::MAX) {
            sum = (sum >> 16) + (sum & u64::from(u16::MAX));
        }
        // Folded to 16 bits.
        u16::from_be(sum as u16)
    }

    /// The checksum: what makes the sum right.
    pub fn checksum(self) -> u16 {
        !self.folded()
    }

    /// The checksum for UDP, where zero means that there is none, and TCP, which takes either form
    /// of zero.
    pub fn nonzero_checksum(self) -> u16 {
        match self.checksum() {
            0 => u16::MAX,
            checksum => checksum,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The definition: words of two bytes in network order.
    fn slow(bytes: &[u8]) -> u16 {
        let word =
            |pair: &[u8]| u32::from(pair[0]) << 8 | pair.get(1).map_or(0, |low| (*low).into());
        let sum: u32 = bytes.chunks(2).map(word).sum();
        let sum = (sum >> 16) + (sum & 0xFFFF);
        ((sum >> 16) + (sum & 0xFFFF)) as u16
    }

    #[test]
    fn the_sum_is_that_of_all_words_however_they_are_cut() {
        let bytes: [u8; 61] = core::array::from_fn(|at| (at * 83 + 200) as u8);
        for end in 0..=bytes.len() {
            for cut in 0..=end {
                let mut sum = Sum::of(&bytes[..cut]);
                sum.add(&bytes[cut..end]);
                assert_eq!(sum.folded(), slow(&bytes[..end]), "{cut} of {end}");
            }
        }
    }

    #[test]
    fn a_checksum_makes_the_sum_right_and_is_zero_only_where_it_may_be() {
        let mut header = [0x45, 0, 0, 28, 0, 9, 0x40, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2];
        let checksum = Sum::of(&header).checksum();
        header[10..12].copy_from_slice(&checksum.to_be_bytes());
        assert_eq!(Sum::of(&header).folded(), 0xFFFF);
        assert_eq!(Sum::of(&[0xFF; 2]).checksum(), 0);
        assert_eq!(Sum::of(&[0xFF; 2]).nonzero_checksum(), 0xFFFF);
        assert_eq!(Sum::of(&[0xFF, 0]).nonzero_checksum(), 0xFF);
    }

    #[test]
    fn the_pseudo_header_is_that_of_its_version() {
        let v4 = Sum::pseudo_header([10, 0, 0, 1].into(), [10, 0, 0, 2].into(), 17, 0x1_0005);
        assert_eq!(v4.folded(), slow(&[10, 0, 0, 1, 10, 0, 0, 2, 0, 17, 0, 1, 0, 5]));
        let (one, two) = ([0xFD00, 0, 0, 0, 0, 0, 0, 1], [0xFD00, 0, 0, 0, 0, 0, 0, 2]);
        let v6 = Sum::pseudo_header(one.into(), two.into(), 6, 5);
        assert_eq!(v6.folded(), slow(&[0xFD, 0, 0, 1, 0xFD, 0, 0, 2, 0, 6, 0, 5]));
    }
}
