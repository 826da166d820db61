//! All peers, bounded, by index, by address and by host.

use alloc::vec::Vec;
use core::cell::Cell;
use core::hash::BuildHasher;
use core::net::{IpAddr, SocketAddr};

use super::{HostPlace, Peer, PeerIndex, PeerNumbers};
use crate::addr::{Carriage, Path, PeerKey};
use crate::config::Config;
use crate::engine::Engine;
use crate::engine::impossible::Impossible;
use crate::engine::peer::shares::HostIndex;
use crate::engine::recovery::timer_queue::TimerQueue;
use crate::secret::Secret;
use crate::structures::hash::{Map, SeededState};
use crate::structures::index::Index;
use crate::structures::table::Table;
use crate::time::Instant;

/// Peers looked at, and evicted, when a new one needs room (docs/spec/protocol.md §13).
const EVICTION_LOOKS: usize = 10;

/// All peers, bounded.
#[derive(Debug)]
pub(crate) struct PeerTable {
    /// Source of our incarnations and of the ids of calls.
    secret: Secret,
    peers: Table<PeerIndex, Option<Peer>>,
    free: Vec<PeerIndex>,
    by_key: Map<PeerKey, PeerIndex>,
    /// For [`PeerNumbers::hash`].
    hasher: SeededState,
    /// The first of the peers at each IP address, linked through [`Peer::next_at_host`].
    by_host: Map<IpAddr, PeerIndex>,
    /// Indices below this are, or were, those of IP addresses.
    hosts: usize,
    /// Those no longer in use.
    free_hosts: Vec<HostIndex>,
    /// The last peer found: packets come in bursts.
    recent: Cell<Option<(SocketAddr, PeerIndex)>>,
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

    /// Indices of all places, taken or not.
    pub(crate) fn indices(&self) -> impl Iterator<Item = PeerIndex> + use<> {
        self.peers.indices()
    }

    /// Bytes that a message of `length` to a peer may begin with.
    pub(crate) fn unscheduled_bytes(&self, index: PeerIndex, length: u32, config: &Config) -> u32 {
        let peer = self.known(index);
        peer.map_or(config.unscheduled.bytes, |peer| peer.unscheduled_bytes(length, config))
    }

    pub(crate) fn is_full(&self, config: &Config) -> bool {
        self.by_key.len() >= config.peers.max as usize
    }

    /// Every [`Peer::host`] is below this.
    pub(crate) fn hosts(&self) -> usize {
        self.hosts
    }

    /// The peer at an index that may be stale: it may have been evicted.
    pub(crate) fn get(&self, index: PeerIndex) -> Option<&Peer> {
        self.peers.get(index)?.as_ref()
    }

    pub(crate) fn get_mut(&mut self, index: PeerIndex) -> Option<&mut Peer> {
        self.peers.get_mut(index)?.as_mut()
    }

    /// The peer at an index that must be valid, as that of an RPC which is not over; its absence
    /// is [`Impossible`].
    #[inline]
    #[track_caller]
    pub(crate) fn known(&self, index: PeerIndex) -> Option<&Peer> {
        self.impossible.known(self.get(index))
    }

    /// As [`PeerTable::known`].
    #[inline]
    #[track_caller]
    pub(crate) fn known_mut(&mut self, index: PeerIndex) -> Option<&mut Peer> {
        self.impossible.known(self.peers.get_mut(index).and_then(Option::as_mut))
    }

    /// The peer at the end of `path`.
    #[inline]
    pub(crate) fn find(&self, path: &Path) -> Option<PeerIndex> {
        match self.recent.get() {
            Some((remote, index)) if remote == path.remote => Some(index),
            _ => self.search(path),
        }
    }

    fn search(&self, path: &Path) -> Option<PeerIndex> {
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

    /// Index of an IP address. `None`: no peer is there.
    pub(crate) fn host_at(&self, ip: IpAddr) -> Option<HostIndex> {
        self.first_at_host(ip).and_then(|first| self.get(first)).map(Peer::host)
    }

    /// The first of the peers at an IP address.
    pub(crate) fn first_at_host(&self, ip: IpAddr) -> Option<PeerIndex> {
        self.by_host.get(&ip.to_canonical()).copied()
    }

    /// Adds a peer that is not there yet. `None`: the table is full, or memory is.
    pub(crate) fn insert(
        &mut self,
        key: PeerKey,
        path: Path,
        config: &Config,
        now: Instant,
    ) -> Option<PeerIndex> {
        if self.is_full(config) {
            return None;
        }
        self.by_key.try_reserve(1).ok()?;
        self.by_host.try_reserve(1).ok()?;
        // Room for every number to come back.
        let numbered = self.hosts.saturating_add(1);
        let missing = numbered.saturating_sub(self.free_hosts.len());
        self.free_hosts.try_reserve(missing).ok()?;
        let index = match self.free.pop() {
            Some(index) => index,
            None => {
                let index = self.peers.next_index()?;
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
        let place = self.link_to_host(key.ip, index)?;
        let mut peer = Peer::new(key, numbers, path, place, config, now);
        if path.carriage == Carriage::Ip {
            if let Some(neighbour) = place.next.and_then(|next| self.known(next)) {
                peer.cutoffs.inherit(&neighbour.cutoffs);
            }
        }
        *self.peers.get_mut(index)? = Some(peer);
        self.by_key.insert(key, index);
        Some(index)
    }

    /// Puts a new peer first among those at its IP address. Returns its place there.
    fn link_to_host(&mut self, ip: IpAddr, index: PeerIndex) -> Option<HostPlace> {
        let next = self.by_host.insert(ip, index);
        let host = match next.and_then(|next| self.known_mut(next)) {
            Some(next) => {
                next.place.previous = Some(index);
                next.place.host
            }
            None => self.free_hosts.pop().or_else(|| {
                let host = HostIndex::at(self.hosts);
                self.hosts = self.hosts.saturating_add(1);
                host
            })?,
        };
        Some(HostPlace { host, next, previous: None })
    }

    /// Forgets all that leads to a peer that was at `index`.
    fn unlink(&mut self, index: PeerIndex, peer: &Peer) {
        self.by_key.remove(&peer.key);
        self.recent.set(None);
        self.free.push(index);
        let (previous, next) = (peer.place.previous, peer.place.next);
        if let Some(next) = next.and_then(|next| self.known_mut(next)) {
            next.place.previous = previous;
        }
        match (previous.and_then(|previous| self.known_mut(previous)), next) {
            (Some(previous), _) => previous.place.next = next,
            (None, Some(next)) => {
                if let Some(first) = self.impossible.known(self.by_host.get_mut(&peer.key.ip)) {
                    *first = next;
                }
            }
            (None, None) => {
                self.by_host.remove(&peer.key.ip);
                self.free_hosts.push(peer.place.host);
            }
        }
    }

    /// Looks at a few peers, going round, and drops those that are idle: for `fixed.peer_idle_max`,
    /// or if the table is full for `fixed.peer_idle_min`, and unvalidated clients at once. If it is
    /// full and all are younger, the one goes that has been silent for longest: idle peers keep no
    /// newcomer out.
    pub(crate) fn evict(&mut self, now: Instant, config: &Config, timers: &mut TimerQueue) {
        let full = self.is_full(config);
        let idle_min = if full { config.fixed.peer_idle_min } else { config.fixed.peer_idle_max };
        let mut longest: Option<(Instant, PeerIndex)> = None;
        for _ in 0..EVICTION_LOOKS.min(self.peers.len()) {
            self.hand = self.hand.saturating_add(1);
            if self.hand >= self.peers.len() {
                self.hand = 0;
            }
            let Some(index) = PeerIndex::at(self.hand) else {
                continue;
            };
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
        for (index, peer) in self.indices().zip(self.peers.iter()) {
            let Some(peer) = peer else { continue };
            assert_eq!(self.by_key.get(&peer.key), Some(&index), "address of {peer:?}");
            let index = Some(index);
            match peer.place.previous.and_then(|previous| self.get(previous)) {
                Some(previous) => {
                    assert_eq!((previous.place.next, previous.key.ip), (index, peer.key.ip));
                }
                None => assert_eq!(self.first_at_host(peer.key.ip), index, "first of its address"),
            }
            if let Some(next) = peer.place.next.and_then(|next| self.get(next)) {
                assert_eq!(next.place.previous, index, "chain of an address: {next:?}");
            }
        }
        let hosts: alloc::collections::BTreeSet<IpAddr> =
            self.peers.iter().flatten().map(|peer| peer.key.ip).collect();
        assert_eq!(self.by_host.len(), hosts.len(), "IP addresses");
    }

    /// Forgets a peer that nothing refers to, and its timer.
    pub(crate) fn remove(&mut self, index: PeerIndex, timers: &mut TimerQueue) {
        timers.forget_peer(index);
        let peer = self.peers.get_mut(index).and_then(Option::take);
        if let Some(peer) = self.impossible.known(peer) {
            self.unlink(index, &peer);
        }
    }
}

impl Engine {
    /// The peer at the end of `path`, made if it is new. `None`: no room.
    pub(crate) fn peer_or_new(&mut self, now: Instant, path: &Path) -> Option<PeerIndex> {
        match self.peers.find(path) {
            Some(index) => Some(index),
            None => self.add_peer(now, path),
        }
    }

    fn add_peer(&mut self, now: Instant, path: &Path) -> Option<PeerIndex> {
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

    fn insert(table: &mut PeerTable, host: u8, port: u16) -> PeerIndex {
        let path = Path {
            remote: SocketAddr::from(([10, 0, 0, host], port)),
            local_ip: None,
            local_port: 1,
            interface: 0,
            carriage: Carriage::Ip,
        };
        table.insert(PeerKey::of(&path), path, &Config::default(), Instant::ZERO).unwrap()
    }

    fn at_host(table: &PeerTable, host: u8) -> Vec<PeerIndex> {
        let mut next = table.first_at_host(IpAddr::from([10, 0, 0, host]));
        let mut found = Vec::new();
        while let Some(index) = next {
            found.push(index);
            next = table.known(index).unwrap().place.next;
        }
        found
    }

    #[test]
    fn the_peers_at_an_address_are_found_whichever_of_them_go() {
        let mut table = PeerTable::new(Secret::new(crate::Seed::from(1)), 1, 2);
        let peers: Vec<PeerIndex> = (1..=4).map(|port| insert(&mut table, 1, port)).collect();
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
