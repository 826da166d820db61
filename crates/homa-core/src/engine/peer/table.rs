//! All peers, bounded, by index, by address and by host.

use alloc::vec::Vec;
use core::cell::Cell;
use core::hash::BuildHasher;
use core::net::{IpAddr, SocketAddr};

use super::{Peer, PeerNumbers};
use crate::addr::{Carriage, Path, PeerKey};
use crate::config::Config;
use crate::engine::Engine;
use crate::engine::impossible::Impossible;
use crate::engine::recovery::timer_queue::TimerQueue;
use crate::secret::Secret;
use crate::structures::NIL;
use crate::structures::hash::{Map, SeededState};
use crate::structures::table::Table;
use crate::time::Instant;

/// Peers looked at, and evicted, when a new one needs room (docs/spec/protocol.md §13).
const EVICTION_LOOKS: usize = 10;

/// All peers, bounded.
#[derive(Debug)]
pub(crate) struct PeerTable {
    /// Source of our incarnations and of the ids of calls.
    secret: Secret,
    peers: Table<Option<Peer>>,
    free: Vec<u32>,
    by_key: Map<PeerKey, u32>,
    /// For [`PeerNumbers::hash`].
    hasher: SeededState,
    /// The first of the peers at each IP address, linked through [`Peer::next_at_host`].
    by_host: Map<IpAddr, u32>,
    /// Numbers below this are, or were, those of IP addresses.
    hosts: u32,
    /// Those no longer in use.
    free_hosts: Vec<u32>,
    /// The last peer found: packets come in bursts.
    recent: Cell<Option<(SocketAddr, u32)>>,
    /// Where the search for idle peers goes on.
    hand: usize,
    pub(super) evicted: u64,
    pub(crate) impossible: Impossible,
}

impl PeerTable {
    pub(crate) fn new(secret: Secret, seed: u64, hash_seed: u64) -> Self {
        Self {
            secret,
            peers: Table::default(),
            free: Vec::new(),
            by_key: Map::with_hasher(SeededState::new(seed)),
            hasher: SeededState::new(hash_seed),
            by_host: Map::with_hasher(SeededState::new(seed)),
            hosts: 0,
            free_hosts: Vec::new(),
            recent: Cell::new(None),
            hand: 0,
            evicted: 0,
            impossible: Impossible::default(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.by_key.len()
    }

    pub(crate) fn capacity(&self) -> usize {
        self.peers.len()
    }

    /// Bytes that a message to a peer may begin with.
    pub(crate) fn unscheduled_bytes(&self, index: u32, config: &Config) -> u32 {
        let peer = self.known(index);
        peer.map_or(config.unscheduled.bytes, |peer| peer.unscheduled_bytes(config))
    }

    pub(crate) fn is_full(&self, config: &Config) -> bool {
        self.by_key.len() >= config.peers.max as usize
    }

    /// Every [`Peer::host`] is below this.
    pub(crate) fn hosts(&self) -> usize {
        self.hosts as usize
    }

    /// The peer at an index that may be stale: of a link that may lead nowhere, or of a peer that
    /// may have been evicted.
    pub(crate) fn get(&self, index: u32) -> Option<&Peer> {
        self.peers.get(index)?.as_ref()
    }

    pub(crate) fn get_mut(&mut self, index: u32) -> Option<&mut Peer> {
        self.peers.get_mut(index)?.as_mut()
    }

    /// The peer at an index that must be valid, as that of an RPC which is not over; its absence
    /// is [`Impossible`].
    #[inline]
    #[track_caller]
    pub(crate) fn known(&self, index: u32) -> Option<&Peer> {
        self.impossible.known(self.get(index))
    }

    /// As [`PeerTable::known`].
    #[inline]
    #[track_caller]
    pub(crate) fn known_mut(&mut self, index: u32) -> Option<&mut Peer> {
        self.impossible.known(self.peers.get_mut(index).and_then(Option::as_mut))
    }

    /// The peer at the end of `path`.
    #[inline]
    pub(crate) fn find(&self, path: &Path) -> Option<u32> {
        match self.recent.get() {
            Some((remote, index)) if remote == path.remote => Some(index),
            _ => self.search(path),
        }
    }

    fn search(&self, path: &Path) -> Option<u32> {
        let index = self.by_key.get(&PeerKey::of(path)).copied()?;
        self.recent.set(Some((path.remote, index)));
        Some(index)
    }

    /// [`PeerNumbers::hash`] of the peer at the end of `path`, whether it is known or not.
    pub(crate) fn hash_of(&self, path: &Path) -> u64 {
        self.hasher.hash_one(PeerKey::of(path))
    }

    /// The incarnation by which this engine is known at an IP address.
    pub(crate) fn incarnation(&self, ip: IpAddr) -> u32 {
        self.secret.incarnation(ip)
    }

    /// Number of an IP address, [`NIL`] if no peer is there.
    pub(crate) fn host_at(&self, ip: IpAddr) -> u32 {
        self.get(self.first_at_host(ip)).map_or(NIL, |peer| peer.place.host)
    }

    /// The first of the peers at an IP address, [`NIL`] if there is none.
    pub(crate) fn first_at_host(&self, ip: IpAddr) -> u32 {
        self.by_host.get(&ip.to_canonical()).copied().unwrap_or(NIL)
    }

    /// Adds a peer that is not there yet. `None`: the table is full, or memory is.
    pub(crate) fn insert(
        &mut self,
        key: PeerKey,
        path: Path,
        config: &Config,
        now: Instant,
    ) -> Option<u32> {
        if self.is_full(config) {
            return None;
        }
        self.by_key.try_reserve(1).ok()?;
        self.by_host.try_reserve(1).ok()?;
        // Room for every number to come back.
        let numbered = (self.hosts as usize).saturating_add(1);
        let missing = numbered.saturating_sub(self.free_hosts.len());
        self.free_hosts.try_reserve(missing).ok()?;
        let index = match self.free.pop() {
            Some(index) => index,
            None => {
                let index = u32::try_from(self.peers.len()).ok()?;
                // Room for every index to come back, so that eviction cannot fail.
                let missing = self.peers.len().saturating_add(1).saturating_sub(self.free.len());
                self.free.try_reserve(missing).ok()?;
                self.peers.grow(1, || None).ok()?;
                index
            }
        };
        let numbers = PeerNumbers {
            hash: self.hasher.hash_one(key),
            ours: self.secret.incarnation(key.ip),
            first_id: self.secret.first_id(&key),
        };
        let mut peer = Peer::new(key, numbers, path, config, now);
        if path.carriage == Carriage::Ip {
            if let Some(neighbour) = self.get(self.first_at_host(key.ip)) {
                peer.cutoffs.inherit(&neighbour.cutoffs);
            }
        }
        *self.peers.get_mut(index)? = Some(peer);
        self.by_key.insert(key, index);
        self.link_to_host(index);
        Some(index)
    }

    /// Puts a new peer first among those at its IP address.
    fn link_to_host(&mut self, index: u32) {
        let Some(ip) = self.known(index).map(|peer| peer.key.ip) else {
            return;
        };
        let next = self.by_host.insert(ip, index).unwrap_or(NIL);
        let host = match self.get_mut(next) {
            Some(next) => {
                next.place.previous = index;
                next.place.host
            }
            None => self.free_hosts.pop().unwrap_or_else(|| {
                self.hosts = self.hosts.saturating_add(1);
                self.hosts.saturating_sub(1)
            }),
        };
        if let Some(peer) = self.known_mut(index) {
            peer.place.next = next;
            peer.place.host = host;
        }
    }

    /// Forgets all that leads to a peer that was at `index`.
    fn unlink(&mut self, index: u32, peer: &Peer) {
        self.by_key.remove(&peer.key);
        self.recent.set(None);
        self.free.push(index);
        let (previous, next) = (peer.place.previous, peer.place.next);
        if let Some(next) = self.get_mut(next) {
            next.place.previous = previous;
        }
        if let Some(previous) = self.get_mut(previous) {
            previous.place.next = next;
        } else if next == NIL {
            self.by_host.remove(&peer.key.ip);
            self.free_hosts.push(peer.place.host);
        } else if let Some(first) = self.by_host.get_mut(&peer.key.ip) {
            *first = next;
        } else {
            self.impossible.found();
        }
    }

    /// Looks at a few peers, going round, and drops those that are idle: for `fixed.peer_idle_max`,
    /// or if the table is full for `fixed.peer_idle_min`, and unvalidated clients at once. If it is
    /// full and all are younger, the one goes that has been silent for longest: idle peers keep no
    /// newcomer out.
    pub(crate) fn evict(&mut self, now: Instant, config: &Config, timers: &mut TimerQueue) {
        let full = self.is_full(config);
        let idle_min = if full { config.fixed.peer_idle_min } else { config.fixed.peer_idle_max };
        let mut longest: Option<(Instant, u32)> = None;
        for _ in 0..EVICTION_LOOKS.min(self.peers.len()) {
            self.hand = self.hand.saturating_add(1);
            if self.hand >= self.peers.len() {
                self.hand = 0;
            }
            let index = u32::try_from(self.hand).unwrap_or(NIL);
            let Some(peer) = self.get(index).filter(|peer| peer.is_unused()) else {
                continue;
            };
            let used = peer.last_heard.max(peer.users.last_at);
            if now.since(used) >= idle_min || (full && peer.is_unvalidated()) {
                self.remove(index, timers);
                self.evicted = self.evicted.saturating_add(1);
            } else if longest.is_none_or(|(than, _)| used < than) {
                longest = Some((used, index));
            }
        }
        if let Some((_, index)) = longest.filter(|_| self.is_full(config)) {
            self.remove(index, timers);
            self.evicted = self.evicted.saturating_add(1);
        }
    }

    /// Every peer is found by its address, alone and among those at its IP address.
    #[cfg(any(test, feature = "check"))]
    pub(crate) fn check(&self, config: &Config) {
        assert!(self.len() <= config.peers.max as usize, "more peers than peers.max");
        assert_eq!(self.peers.iter().flatten().count(), self.len(), "addresses of peers");
        for (index, peer) in (0..).zip(self.peers.iter()) {
            let Some(peer) = peer else { continue };
            assert_eq!(self.by_key.get(&peer.key), Some(&index), "address of {peer:?}");
            match self.get(peer.place.previous) {
                Some(previous) => {
                    assert_eq!((previous.place.next, previous.key.ip), (index, peer.key.ip));
                }
                None => assert_eq!(self.first_at_host(peer.key.ip), index, "first of its address"),
            }
            if let Some(next) = self.get(peer.place.next) {
                assert_eq!(next.place.previous, index, "chain of an address: {next:?}");
            }
        }
        let hosts: alloc::collections::BTreeSet<IpAddr> =
            self.peers.iter().flatten().map(|peer| peer.key.ip).collect();
        assert_eq!(self.by_host.len(), hosts.len(), "IP addresses");
    }

    /// Forgets a peer that nothing refers to, and its timer.
    pub(crate) fn remove(&mut self, index: u32, timers: &mut TimerQueue) {
        timers.forget_peer(index);
        let peer = self.peers.get_mut(index).and_then(Option::take);
        if let Some(peer) = self.impossible.known(peer) {
            self.unlink(index, &peer);
        }
    }
}

impl Engine {
    /// The peer at the end of `path`, made if it is new. `None`: no room.
    pub(crate) fn peer_or_new(&mut self, now: Instant, path: &Path) -> Option<u32> {
        match self.peers.find(path) {
            Some(index) => Some(index),
            None => self.add_peer(now, path),
        }
    }

    fn add_peer(&mut self, now: Instant, path: &Path) -> Option<u32> {
        if self.peers.is_full(&self.ctx.config) {
            self.peers.evict(now, &self.ctx.config, &mut self.ctx.timers);
        }
        while self.peers.is_full(&self.ctx.config) && self.displace_unvalidated(None) {}
        let index = self.peers.insert(PeerKey::of(path), *path, &self.ctx.config, now)?;
        let capacity = self.peers.capacity();
        let reserved = self.ctx.timers.try_reserve_peers(capacity).is_ok()
            && self.shares.try_reserve(self.peers.hosts()).is_ok()
            && self.ctx.events.try_push_peer(index).is_ok();
        if !reserved {
            self.peers.remove(index, &mut self.ctx.timers);
            return None;
        }
        Some(index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use core::net::SocketAddr;

    fn insert(table: &mut PeerTable, host: u8, port: u16) -> u32 {
        let path = Path {
            remote: SocketAddr::from(([10, 0, 0, host], port)),
            local_ip: None,
            local_port: 1,
            interface: 0,
            carriage: Carriage::Ip,
        };
        table.insert(PeerKey::of(&path), path, &Config::default(), Instant::ZERO).unwrap()
    }

    fn at_host(table: &PeerTable, host: u8) -> Vec<u32> {
        let mut next = table.first_at_host(IpAddr::from([10, 0, 0, host]));
        let mut found = Vec::new();
        while let Some(peer) = table.get(next) {
            found.push(next);
            next = peer.place.next;
        }
        found
    }

    #[test]
    fn the_peers_at_an_address_are_found_whichever_of_them_go() {
        let mut table = PeerTable::new(Secret::new(crate::Seed::from(1)), 1, 2);
        let peers: Vec<u32> = (1..=4).map(|port| insert(&mut table, 1, port)).collect();
        let elsewhere = insert(&mut table, 2, 1);
        assert_eq!(at_host(&table, 1), vec![peers[3], peers[2], peers[1], peers[0]]);
        for (gone, left) in [
            (peers[1], vec![peers[3], peers[2], peers[0]]),
            (peers[3], vec![peers[2], peers[0]]),
            (peers[0], vec![peers[2]]),
            (peers[2], vec![]),
        ] {
            table.remove(gone, &mut TimerQueue::default());
            assert_eq!(at_host(&table, 1), left);
        }
        assert_eq!(at_host(&table, 2), vec![elsewhere]);
        assert_eq!(table.by_host.len(), 1);
        let again = insert(&mut table, 1, 9);
        assert_eq!(at_host(&table, 1), vec![again]);
    }
}
