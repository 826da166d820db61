//! What lies in front of the IP header.

/// How a recorder describes the link a packet was seen on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LinkType {
    /// Ethernet, with any number of VLAN tags; also Linux's loopback device.
    Ethernet,
    /// Linux cooked, version 1: what recordings of "any" device hold.
    LinuxCooked,
    /// Linux cooked, version 2.
    LinuxCookedV2,
    /// The packet begins with its IP header.
    RawIp,
    /// Four bytes in front of the IP header, as BSD's loopback device has them.
    Loopback,
}

impl LinkType {
    /// The type with this number in the list of link types that pcap and pcapng files use.
    pub const fn from_number(number: u32) -> Option<Self> {
        Some(match number {
            0 | 108 => Self::Loopback,
            1 => Self::Ethernet,
            // 12 and 14 are what systems used before 101 was assigned; 228 and 229 are of one
            // version.
            12 | 14 | 101 | 228 | 229 => Self::RawIp,
            113 => Self::LinuxCooked,
            276 => Self::LinuxCookedV2,
            _ => return None,
        })
    }

    /// The number that files are written with.
    pub const fn number(self) -> u32 {
        match self {
            Self::Ethernet => 1,
            Self::LinuxCooked => 113,
            Self::LinuxCookedV2 => 276,
            Self::RawIp => 101,
            Self::Loopback => 0,
        }
    }
}

const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_IPV6: u16 = 0x86DD;
/// 802.1Q, 802.1ad and the older number of stacked tags.
const ETHERTYPES_VLAN: [u16; 3] = [0x8100, 0x88A8, 0x9100];
/// More tags than any network stacks.
const VLAN_TAGS_MAX: usize = 8;
/// Hardware type of the loopback device in cooked headers.
const ARPHRD_LOOPBACK: u16 = 772;

/// An IP packet and what its link said of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Network<'a> {
    /// From the IP header on.
    pub(crate) bytes: &'a [u8],
    /// Bytes of the frame in front of the IP header.
    pub(crate) link_bytes: usize,
    /// The outermost VLAN, if tagged.
    pub(crate) vlan: Option<u16>,
    /// Known to have stayed on its host.
    pub(crate) loopback: bool,
}

/// Finds the IP packet in a frame; `None` if it holds none.
pub(crate) fn network(link: LinkType, frame: &[u8]) -> Option<Network<'_>> {
    match link {
        LinkType::Ethernet => {
            let loopback = frame.get(..12)?.iter().all(|byte| *byte == 0);
            behind_ethertype(frame, 12, loopback)
        }
        LinkType::LinuxCooked => {
            let loopback = be16(frame, 2)? == ARPHRD_LOOPBACK;
            behind_ethertype(frame, 14, loopback)
        }
        LinkType::LinuxCookedV2 => {
            let loopback = be16(frame, 8)? == ARPHRD_LOOPBACK;
            let ethertype = be16(frame, 0)?;
            tagged(frame, 20, ethertype, loopback)
        }
        LinkType::RawIp => ip(frame, 0, None, false),
        LinkType::Loopback => ip(frame, 4, None, true),
    }
}

/// The packet behind the type field at `at`.
fn behind_ethertype(frame: &[u8], at: usize, loopback: bool) -> Option<Network<'_>> {
    tagged(frame, at + 2, be16(frame, at)?, loopback)
}

/// The packet at `at`, perhaps behind VLAN tags, whose type field says `ethertype`.
fn tagged(frame: &[u8], mut at: usize, mut ethertype: u16, loopback: bool) -> Option<Network<'_>> {
    let mut vlan = None;
    for _ in 0..VLAN_TAGS_MAX {
        if !ETHERTYPES_VLAN.contains(&ethertype) {
            break;
        }
        let tag = be16(frame, at)? & 0x0FFF;
        vlan = vlan.or(Some(tag));
        ethertype = be16(frame, at + 2)?;
        at += 4;
    }
    match ethertype {
        ETHERTYPE_IPV4 | ETHERTYPE_IPV6 => ip(frame, at, vlan, loopback),
        _ => None,
    }
}

fn ip(frame: &[u8], link_bytes: usize, vlan: Option<u16>, loopback: bool) -> Option<Network<'_>> {
    Some(Network { bytes: frame.get(link_bytes..)?, link_bytes, vlan, loopback })
}

/// 16 bits at `at`, big-endian.
pub(crate) fn be16(bytes: &[u8], at: usize) -> Option<u16> {
    let bytes = bytes.get(at..at.checked_add(2)?)?;
    bytes.try_into().ok().map(u16::from_be_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const IP: [u8; 4] = [0x45, 0, 0, 20];

    fn found(link: LinkType, header: &[u8]) -> Option<(Vec<u8>, Option<u16>, bool)> {
        let frame = [header, &IP].concat();
        let network = network(link, &frame)?;
        assert_eq!(network.link_bytes, header.len());
        Some((network.bytes.to_vec(), network.vlan, network.loopback))
    }

    #[test]
    fn every_link_type_gives_the_same_packet() {
        let mut ethernet = vec![2; 12];
        ethernet.extend([8, 0]);
        assert_eq!(found(LinkType::Ethernet, &ethernet), Some((IP.to_vec(), None, false)));
        let mut cooked = vec![0, 0, 0, 1, 0, 6, 1, 2, 3, 4, 5, 6, 0, 0];
        cooked.extend([8, 0]);
        assert_eq!(found(LinkType::LinuxCooked, &cooked), Some((IP.to_vec(), None, false)));
        let mut second = vec![8, 0, 0, 0, 0, 0, 0, 1, 3, 4];
        second.extend([0; 10]);
        assert_eq!(found(LinkType::LinuxCookedV2, &second), Some((IP.to_vec(), None, true)));
        assert_eq!(found(LinkType::RawIp, &[]), Some((IP.to_vec(), None, false)));
        assert_eq!(found(LinkType::Loopback, &[2, 0, 0, 0]), Some((IP.to_vec(), None, true)));
    }

    #[test]
    fn vlan_tags_are_skipped_and_the_outer_one_is_kept() {
        let mut header = vec![2; 12];
        header.extend([0x88, 0xA8, 0x60, 7, 0x81, 0, 0, 9, 0x08, 0]);
        assert_eq!(found(LinkType::Ethernet, &header), Some((IP.to_vec(), Some(7), false)));
    }

    #[test]
    fn endless_tags_and_other_protocols_are_no_packets() {
        let endless = [0x81, 0, 0x81, 0].repeat(20);
        let mut header = vec![2; 12];
        header.extend(endless);
        assert_eq!(found(LinkType::Ethernet, &header), None);
        let mut arp = vec![2; 12];
        arp.extend([8, 6]);
        assert_eq!(found(LinkType::Ethernet, &arp), None);
    }

    #[test]
    fn numbers_and_types_agree() {
        for number in 0..300 {
            if let Some(link) = LinkType::from_number(number) {
                assert_eq!(LinkType::from_number(link.number()), Some(link));
            }
        }
        assert_eq!(LinkType::from_number(105), None);
    }
}
