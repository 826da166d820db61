//! Cache of path properties: MTU, speed of the link, refusal of trains.

use std::net::IpAddr;

/// Hosts remembered for not taking trains, and local addresses whose link was looked up. Beyond
/// these the oldest is forgotten and found out again.
const REMEMBERED_MAX: usize = 64;

/// Properties of paths that are expensive to look up.
#[derive(Debug, Default)]
pub(super) struct Routes {
    singles: Ring<()>,
    links: Ring<Option<u32>>,
}

impl Routes {
    /// Whether packets to `ip` have to be sent one by one.
    pub(super) fn is_single(&self, ip: IpAddr) -> bool {
        self.singles.get(ip).is_some()
    }

    /// Remembers that packets to `ip` have to be sent one by one.
    pub(super) fn set_single(&mut self, ip: IpAddr) {
        if !self.is_single(ip) {
            self.singles.push(ip, ());
        }
    }

    /// MTU in bytes and speed of the link in 10^6 bit/s on the path to `ip`, where known.
    pub(super) fn path(&mut self, ip: IpAddr) -> (Option<u32>, Option<u32>) {
        (mtu(ip), self.link_mbps(ip))
    }

    fn link_mbps(&mut self, ip: IpAddr) -> Option<u32> {
        let source = homa_sys::source_ip(ip).ok()?;
        // Packets to this host itself use no link.
        if source == ip.to_canonical() || source.is_loopback() {
            return None;
        }
        if let Some(known) = self.links.get(source) {
            return *known;
        }
        let interface = homa_sys::interface_of(source).ok()?;
        let mbps = interface.and_then(homa_sys::link_mbps);
        self.links.push(source, mbps);
        mbps
    }
}

/// MTU in bytes of the path to `ip` as the kernel knows it now.
pub(super) fn mtu(ip: IpAddr) -> Option<u32> {
    homa_sys::path_mtu(ip).ok().filter(|&mtu| mtu > 0)
}

/// Bytes of the IP packet that carries `payload_bytes` in a datagram to `ip`.
pub(super) fn packet_bytes(ip: IpAddr, payload_bytes: u32) -> u32 {
    let headers = if ip.to_canonical().is_ipv4() { 20 + 8 } else { 40 + 8 };
    payload_bytes.saturating_add(headers)
}

/// The last few addresses with something about each. Searched in order: almost always empty, or
/// asked rarely.
#[derive(Debug)]
struct Ring<T> {
    entries: Vec<(IpAddr, T)>,
    next: usize,
}

impl<T> Default for Ring<T> {
    fn default() -> Self {
        Self { entries: Vec::new(), next: 0 }
    }
}

impl<T> Ring<T> {
    fn get(&self, ip: IpAddr) -> Option<&T> {
        self.entries.iter().find(|(known, _)| *known == ip).map(|(_, value)| value)
    }

    fn push(&mut self, ip: IpAddr, value: T) {
        match self.entries.get_mut(self.next) {
            Some(oldest) => *oldest = (ip, value),
            None => self.entries.push((ip, value)),
        }
        self.next = (self.next + 1) % REMEMBERED_MAX;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, Ipv6Addr};

    #[test]
    fn loopback_has_an_mtu_and_no_speed() {
        let (mtu, mbps) = Routes::default().path(Ipv4Addr::LOCALHOST.into());
        assert!(mtu.unwrap() >= 1_280);
        assert_eq!(mbps, None);
    }

    #[test]
    fn only_the_last_few_hosts_are_remembered() {
        let ip = |n: u32| IpAddr::from(Ipv4Addr::from_bits(n));
        let mut routes = Routes::default();
        for n in 0..=REMEMBERED_MAX as u32 {
            routes.set_single(ip(n));
            routes.set_single(ip(n));
        }
        assert!(!routes.is_single(ip(0)));
        assert!((1..=REMEMBERED_MAX as u32).all(|n| routes.is_single(ip(n))));
        assert_eq!(routes.singles.entries.len(), REMEMBERED_MAX);
    }

    #[test]
    fn headers_count_by_the_version_that_travels() {
        let v4 = Ipv4Addr::LOCALHOST;
        assert_eq!(packet_bytes(v4.into(), 1_472), 1_500);
        assert_eq!(packet_bytes(v4.to_ipv6_mapped().into(), 1_472), 1_500);
        assert_eq!(packet_bytes(Ipv6Addr::LOCALHOST.into(), 1_452), 1_500);
    }
}
