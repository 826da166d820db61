//! Properties of paths that follow from addresses.

use std::net::IpAddr;

/// Whether an address means nothing without an interface.
pub(crate) fn is_link_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(_) => false,
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    }
}

/// Whether packets between two addresses are of one IP version.
pub(crate) fn is_same_family(a: IpAddr, b: IpAddr) -> bool {
    a.to_canonical().is_ipv4() == b.to_canonical().is_ipv4()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    #[test]
    fn only_ipv6_has_addresses_of_a_link() {
        assert!(is_link_local("fe80::1".parse().unwrap()));
        assert!(!is_link_local("169.254.0.1".parse().unwrap()));
    }

    #[test]
    fn a_source_address_goes_with_its_own_family_only() {
        let v4 = IpAddr::from(Ipv4Addr::LOCALHOST);
        assert!(is_same_family(v4, Ipv4Addr::LOCALHOST.to_ipv6_mapped().into()));
        assert!(!is_same_family(v4, "::1".parse().unwrap()));
    }
}
