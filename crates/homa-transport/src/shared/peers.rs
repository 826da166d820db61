//! Something for each peer and something for each of their hosts, found by address.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

/// State of a peer.
pub(crate) trait Entry: Default {
    /// Whether nothing is lost if it is made anew.
    fn is_idle(&self) -> bool;
}

/// A table of peers, each with its host. An index stays while the peer's entry is not idle.
#[derive(Debug)]
pub(crate) struct Peers<P, H> {
    by_address: HashMap<SocketAddr, u32>,
    peers: Vec<Peer<P>>,
    free_peers: Vec<u32>,
    by_ip: HashMap<IpAddr, u32>,
    hosts: Vec<Host<H>>,
    free_hosts: Vec<u32>,
    /// The last one found: mostly it is the next one too.
    recent: Option<(SocketAddr, u32)>,
    /// Idle ones are dropped when there are so many.
    sweep_at: usize,
}

#[derive(Debug)]
struct Peer<P> {
    address: SocketAddr,
    host: u32,
    entry: P,
}

#[derive(Debug)]
struct Host<H> {
    peers: u32,
    entry: H,
}

/// Peers that are kept although they are idle.
const IDLE_PEERS_MAX: usize = 1_024;

impl<P, H> Default for Peers<P, H> {
    fn default() -> Self {
        Self {
            by_address: HashMap::new(),
            peers: Vec::new(),
            free_peers: Vec::new(),
            by_ip: HashMap::new(),
            hosts: Vec::new(),
            free_hosts: Vec::new(),
            recent: None,
            sweep_at: IDLE_PEERS_MAX,
        }
    }
}

impl<P: Entry, H: Default> Peers<P, H> {
    /// The index of the peer at `address`, if there is one.
    #[inline]
    pub(crate) fn find(&self, address: SocketAddr) -> Option<u32> {
        match self.recent {
            Some((recent, index)) if recent == address => Some(index),
            _ => self.by_address.get(&address).copied(),
        }
    }

    /// The index of the peer at `address`.
    #[inline]
    pub(crate) fn find_or_add(&mut self, address: SocketAddr) -> u32 {
        if let Some((recent, index)) = self.recent {
            if recent == address {
                return index;
            }
        }
        let index = match self.by_address.get(&address) {
            Some(index) => *index,
            None => self.add(address),
        };
        self.recent = Some((address, index));
        index
    }

    #[inline(never)]
    fn add(&mut self, address: SocketAddr) -> u32 {
        if self.by_address.len() >= self.sweep_at {
            self.sweep();
        }
        let host = match self.by_ip.get(&address.ip()) {
            Some(host) => *host,
            None => {
                let host = place(&mut self.hosts, &mut self.free_hosts, Host::new());
                self.by_ip.insert(address.ip(), host);
                host
            }
        };
        self.hosts[host as usize].peers += 1;
        let peer = Peer { address, host, entry: P::default() };
        let index = place(&mut self.peers, &mut self.free_peers, peer);
        self.by_address.insert(address, index);
        index
    }

    /// Drops all that are idle.
    fn sweep(&mut self) {
        self.recent = None;
        let (peers, hosts) = (&self.peers, &mut self.hosts);
        let (free_peers, free_hosts, by_ip) =
            (&mut self.free_peers, &mut self.free_hosts, &mut self.by_ip);
        self.by_address.retain(|address, index| {
            let peer = &peers[*index as usize];
            if !peer.entry.is_idle() {
                return true;
            }
            free_peers.push(*index);
            let host = &mut hosts[peer.host as usize];
            host.peers -= 1;
            if host.peers == 0 {
                by_ip.remove(&address.ip());
                free_hosts.push(peer.host);
            }
            false
        });
        self.sweep_at = self.by_address.len() * 2 + IDLE_PEERS_MAX;
    }

    pub(crate) fn address(&self, peer: u32) -> SocketAddr {
        self.peers[peer as usize].address
    }

    pub(crate) fn host(&self, peer: u32) -> u32 {
        self.peers[peer as usize].host
    }

    /// The entries of a peer and of its host.
    #[inline]
    pub(crate) fn both_mut(&mut self, peer: u32) -> (&mut P, &mut H) {
        let peer = &mut self.peers[peer as usize];
        (&mut peer.entry, &mut self.hosts[peer.host as usize].entry)
    }

    pub(crate) fn peer_entry(&self, peer: u32) -> &P {
        &self.peers[peer as usize].entry
    }

    pub(crate) fn peer_entry_mut(&mut self, peer: u32) -> &mut P {
        &mut self.peers[peer as usize].entry
    }

    pub(crate) fn host_entry(&self, host: u32) -> &H {
        &self.hosts[host as usize].entry
    }

    pub(crate) fn host_entry_mut(&mut self, host: u32) -> &mut H {
        &mut self.hosts[host as usize].entry
    }

    /// All entries of peers, also idle ones.
    pub(crate) fn entries_mut(&mut self) -> impl Iterator<Item = &mut P> {
        self.peers.iter_mut().map(|peer| &mut peer.entry)
    }

    /// The same, to keep.
    pub(crate) fn into_entries(self) -> impl Iterator<Item = P> {
        self.peers.into_iter().map(|peer| peer.entry)
    }
}

impl<H: Default> Host<H> {
    fn new() -> Self {
        Self { peers: 0, entry: H::default() }
    }
}

/// Puts `entry` at a free index.
fn place<T>(entries: &mut Vec<T>, free: &mut Vec<u32>, entry: T) -> u32 {
    match free.pop() {
        Some(index) => {
            entries[index as usize] = entry;
            index
        }
        None => {
            entries.push(entry);
            u32::try_from(entries.len() - 1).unwrap_or(u32::MAX)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Default)]
    struct Count(u32);

    impl Entry for Count {
        fn is_idle(&self) -> bool {
            self.0 == 0
        }
    }

    #[test]
    fn peers_that_are_idle_are_dropped_with_their_hosts_and_no_others() {
        let mut peers: Peers<Count, u32> = Peers::default();
        let address = |n: u32| SocketAddr::from((n.to_be_bytes(), 9));
        let busy = peers.find_or_add(address(7));
        peers.peer_entry_mut(busy).0 = 1;
        for n in 0..100_000 {
            peers.find_or_add(address(n));
        }
        assert!(peers.peers.len() <= 3 * IDLE_PEERS_MAX, "{}", peers.peers.len());
        assert!(peers.hosts.len() <= 3 * IDLE_PEERS_MAX, "{}", peers.hosts.len());
        assert_eq!(peers.find(address(7)), Some(busy));
        assert_eq!(peers.find(address(8)), None);
    }

    #[test]
    fn peers_at_one_address_share_their_host() {
        let mut peers: Peers<Count, u32> = Peers::default();
        let (one, other) = ("10.0.0.1:1".parse().unwrap(), "10.0.0.1:2".parse().unwrap());
        let (one, other) = (peers.find_or_add(one), peers.find_or_add(other));
        let elsewhere = peers.find_or_add("10.0.0.2:1".parse().unwrap());
        assert_ne!(one, other);
        assert_eq!(peers.host(one), peers.host(other));
        assert_ne!(peers.host(one), peers.host(elsewhere));
    }
}
