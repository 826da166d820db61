//! The hosts of a lab and their addresses.

use std::{
    net::{Ipv4Addr, Ipv6Addr},
    path::PathBuf,
};

use serde::{Deserialize, Serialize};

/// One host: a network namespace with one interface, `eth0`, on the switch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LabHost {
    /// `h0`, `h1`, ...: what programs inside the lab call its IPv4 address; `h0-v6` is the IPv6
    /// address.
    pub name: String,
    /// Counts from zero; also the number of its switch port.
    pub index: usize,
    /// Address of `eth0`, prefix length 16.
    pub ipv4: Ipv4Addr,
    /// Address of `eth0`, prefix length 64.
    pub ipv6: Ipv6Addr,
    /// Ethernet address of `eth0`.
    pub mac: String,
    /// The network namespace, for `nsenter --net=`; valid while the process that holds the lab
    /// lives.
    pub netns: PathBuf,
}

/// Name of the interface inside a host.
pub(crate) const INTERFACE: &str = "eth0";

/// The IPv4 network of all hosts.
pub(crate) const NETWORK: &str = "10.66.0.0/16";

/// The host's IPv4 address: 10.66.0.1 for the first.
pub(crate) fn ipv4_of(index: usize) -> Ipv4Addr {
    let number = host_number(index);
    Ipv4Addr::new(10, 66, (number >> 8) as u8, number as u8)
}

/// The host's IPv6 address: fd66::1 for the first.
pub(crate) fn ipv6_of(index: usize) -> Ipv6Addr {
    Ipv6Addr::new(0xfd66, 0, 0, 0, 0, 0, 0, host_number(index))
}

/// What the host is called.
pub(crate) fn name_of(index: usize) -> String {
    format!("h{index}")
}

/// Lines of `/etc/hosts` for so many hosts. A name stands for one address: most servers listen to
/// IPv4 only, and most resolvers would give IPv6 first.
pub(crate) fn names_of(hosts: usize) -> String {
    let lines = (0..hosts).map(|index| {
        let name = name_of(index);
        format!("{}\t{name}\n{}\t{name}-v6\n", ipv4_of(index), ipv6_of(index))
    });
    lines.collect()
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
    fn each_host_has_a_name_for_each_of_its_addresses() {
        let names = names_of(2);
        assert_eq!(names, "10.66.0.1\th0\nfd66::1\th0-v6\n10.66.0.2\th1\nfd66::2\th1-v6\n");
    }

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
