//! The hosts of a lab and their addresses.

use std::{
    net::{Ipv4Addr, Ipv6Addr},
    path::PathBuf,
};

use serde::{Deserialize, Serialize};

/// One host: a network namespace with one interface, `eth0`, on the switch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LabHost {
    /// `h0`, `h1`, ...
    pub name: String,
    /// Counts from zero; also the number of its switch port.
    pub index: usize,
    /// Address of `eth0`, prefix length 16.
    pub ipv4: Ipv4Addr,
    /// Address of `eth0`, prefix length 64.
    pub ipv6: Ipv6Addr,
    /// Ethernet address of `eth0`.
    pub mac: String,
    /// The network namespace, for `nsenter --net=`; valid while the process that holds the lab lives.
    pub netns: PathBuf,
}

/// Name of the interface inside a host.
pub(crate) const INTERFACE: &str = "eth0";

/// The host's IPv4 address: 10.66.0.1 for the first.
pub(crate) fn ipv4_of(index: usize) -> Ipv4Addr {
    let number = host_number(index);
    Ipv4Addr::new(10, 66, (number >> 8) as u8, number as u8)
}

/// The host's IPv6 address: fd66::1 for the first.
pub(crate) fn ipv6_of(index: usize) -> Ipv6Addr {
    Ipv6Addr::new(0xfd66, 0, 0, 0, 0, 0, 0, host_number(index))
}

/// The host's Ethernet address (locally administered).
pub(crate) fn mac_of(index: usize) -> [u8; 6] {
    let [high, low] = host_number(index).to_be_bytes();
    [0x02, 0x66, 0, 0, high, low]
}

/// Which host an Ethernet address of [`mac_of`] belongs to.
pub(crate) fn index_of_mac(mac: &[u8]) -> Option<usize> {
    match *mac {
        [0x02, 0x66, 0, 0, high, low] => {
            usize::from(u16::from_be_bytes([high, low])).checked_sub(1)
        }
        _ => None,
    }
}

/// An Ethernet address as people write it.
pub(crate) fn mac_text(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

/// Hosts count from 1 in addresses; the number of hosts is limited far below 2^16.
fn host_number(index: usize) -> u16 {
    u16::try_from(index + 1).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_hosts_are_distinct_and_lead_back() {
        assert_eq!(ipv4_of(0).to_string(), "10.66.0.1");
        assert_eq!(ipv4_of(255).to_string(), "10.66.1.0");
        assert_eq!(ipv6_of(9).to_string(), "fd66::a");
        assert_eq!(mac_text(mac_of(2)), "02:66:00:00:00:03");
        for index in [0, 1, 254, 255, 256] {
            assert_eq!(index_of_mac(&mac_of(index)), Some(index));
        }
        assert_eq!(index_of_mac(&[0xff; 6]), None);
        assert_eq!(index_of_mac(&[0x02, 0x66, 0, 0, 0, 0]), None);
    }
}
