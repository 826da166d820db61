//! What the hosts of clients hold of this server: RPCs that it serves, the peers they are served
//! to, and responses that it keeps. All are limited for all together, and nobody may take what
//! others need: a host is given no more RPCs, and no more peers, than three times those that are
//! left, and when too many bytes are kept, the host that keeps most gives some up.
//!
//! A share belongs to an IP address, whatever number of ports send from it. For those who have
//! proved their address what strangers hold is left, since they lose it to others. A stranger has
//! its share of what is there, so that it has no more when it proves its address.

use alloc::vec::Vec;
use core::cmp::Reverse;

use crate::addr::Path;
use crate::engine::impossible::Impossible;
use crate::engine::peer::PeerTable;
use crate::engine::rpc::list::RpcList;
use crate::structures::OutOfMemory;
use crate::structures::heap::IndexedHeap;

/// A host may have this many times the places that are left: three quarters of all if it is alone,
/// and something is left for the next one however many there are.
const TIMES_WHAT_IS_LEFT: u32 = 3;

/// Peers, and requests without a proof of its address, that every host may have whatever its share.
const EVERY_HOST_MIN: u32 = 16;

/// What one host holds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Holder {
    /// Server RPCs alive, and the peers that they belong to.
    serving: Served,
    /// Bytes of responses kept.
    kept_bytes: u64,
    /// Its responses: first the one that has made no progress for longest.
    pub(crate) kept: RpcList,
}

impl Holder {
    const NONE: Self = Self { serving: Served::NOTHING, kept_bytes: 0, kept: RpcList::EMPTY };
}

/// RPCs that are served, and the peers that they are served to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Served {
    pub(crate) rpcs: u32,
    pub(crate) peers: u32,
}

impl Served {
    const NOTHING: Self = Self { rpcs: 0, peers: 0 };

    #[inline(always)]
    pub(crate) fn add(&mut self, other: Self) {
        self.rpcs = self.rpcs.saturating_add(other.rpcs);
        self.peers = self.peers.saturating_add(other.peers);
    }

    #[inline(always)]
    fn remove(&mut self, other: Self) {
        self.rpcs = self.rpcs.saturating_sub(other.rpcs);
        self.peers = self.peers.saturating_sub(other.peers);
    }
}

/// What one peer is served.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct PeerServed {
    pub(crate) rpcs: u32,
    /// It counts among those that have proved their address.
    pub(crate) proved: bool,
}

/// All hosts, by [`crate::engine::peer::Peer::host`], and the sums over them.
#[derive(Debug)]
pub(crate) struct Holders {
    hosts: Vec<Holder>,
    serving: Served,
    /// Those of peers that have proved their address.
    proved: Served,
    kept_bytes: u64,
    /// Hosts that keep much, those that keep most first.
    by_kept: IndexedHeap<Reverse<u64>>,
    /// As a power of two: so little that all hosts together, if none keeps more, stay far below the
    /// limit. Who keeps less is not ranked, so that short responses cost nothing.
    much_bits: u32,
    /// Shortest and longest wait before a client is asked for an acknowledgement.
    ack_intervals_ns: (u64, u64),
    /// See [`crate::Engine::hurry_acknowledgements`].
    in_hurry: bool,
    pub(crate) impossible: Impossible,
}

impl Holders {
    /// For at most `hosts_max` hosts, which keep about `kept_max_bytes` together.
    pub(crate) fn new(hosts_max: u32, kept_max_bytes: u64, ack_intervals_ns: (u64, u64)) -> Self {
        let half = kept_max_bytes / u64::from(hosts_max).saturating_mul(2).max(1);
        Self {
            hosts: Vec::new(),
            serving: Served::NOTHING,
            proved: Served::NOTHING,
            kept_bytes: 0,
            by_kept: IndexedHeap::new(),
            much_bits: half.checked_ilog2().unwrap_or(0),
            ack_intervals_ns,
            in_hurry: false,
            impossible: Impossible::default(),
        }
    }

    /// Makes room for all hosts below `limit`.
    pub(crate) fn try_reserve(&mut self, limit: usize) -> Result<(), OutOfMemory> {
        let more = limit.saturating_sub(self.hosts.len());
        self.hosts.try_reserve(more).map_err(|_| OutOfMemory)?;
        self.by_kept.try_reserve(limit)?;
        let covered = self.hosts.len().saturating_add(more);
        self.hosts.resize(covered, Holder::NONE);
        Ok(())
    }

    #[cfg(any(test, feature = "check"))]
    pub(crate) fn get(&self, host: u32) -> Option<&Holder> {
        self.hosts.get(host as usize)
    }

    /// What the host of a peer holds.
    #[track_caller]
    pub(crate) fn known_mut(&mut self, host: u32) -> Option<&mut Holder> {
        self.impossible.known(self.hosts.get_mut(host as usize))
    }

    /// Shortest and longest wait before a client is asked for an acknowledgement, in ns.
    pub(crate) fn ack_intervals_ns(&self) -> (u64, u64) {
        self.ack_intervals_ns
    }

    pub(crate) fn is_in_hurry(&self) -> bool {
        self.in_hurry
    }

    /// All acknowledgements are asked for soon from now on. Whether that is new.
    pub(crate) fn begin_hurry(&mut self) -> bool {
        !core::mem::replace(&mut self.in_hurry, true)
    }

    /// Server RPCs alive.
    pub(crate) fn serving(&self) -> usize {
        self.serving.rpcs as usize
    }

    /// Bytes of all responses kept.
    pub(crate) fn kept_bytes(&self) -> u64 {
        self.kept_bytes
    }

    /// Whether a request of `host`, which has `proved` its address or not, may be served, if `max`
    /// may be at a time.
    pub(crate) fn may_serve(&self, host: u32, proved: bool, max: u32) -> bool {
        let taken = if proved { self.proved } else { self.serving };
        let has = self.hosts.get(host as usize).map_or(0, |holder| holder.serving.rpcs);
        has < max.saturating_sub(taken.rpcs).saturating_mul(TIMES_WHAT_IS_LEFT)
    }

    /// Whether a host has its share as a stranger but not as one that has proved its address.
    fn is_beyond_share(&self, host: u32, max: u32) -> bool {
        let has = self.hosts.get(host as usize).map_or(0, |holder| holder.serving.rpcs);
        has >= EVERY_HOST_MIN
            && !self.may_serve(host, false, max)
            && self.may_serve(host, true, max)
    }

    /// Whether the address of a stranger has its share of places and would get more with a proof:
    /// others may have written it.
    pub(crate) fn has_to_prove_first(
        &self,
        peers: &PeerTable,
        peer: Option<u32>,
        path: &Path,
        max: u32,
    ) -> bool {
        let known = peer.and_then(|peer| peers.known(peer));
        let host = known.map_or_else(|| peers.host_at(path.remote.ip()), |peer| peer.host());
        self.is_beyond_share(host, max)
    }

    /// Whether one more peer of `host` may be served, if there may be `max` peers.
    pub(crate) fn may_have_peer(&self, host: u32, proved: bool, max: u32) -> bool {
        let taken = if proved { self.proved } else { self.serving };
        let has = self.hosts.get(host as usize).map_or(0, |holder| holder.serving.peers);
        let left = max.saturating_sub(taken.peers);
        has < left.saturating_mul(TIMES_WHAT_IS_LEFT).max(EVERY_HOST_MIN)
    }

    /// A request of a peer at `host` is served from now on.
    #[inline]
    pub(crate) fn begin(&mut self, host: u32, peer: &mut PeerServed, proved: bool) {
        if peer.rpcs == 0 {
            peer.proved = proved;
        }
        let one = Served { rpcs: 1, peers: u32::from(peer.rpcs == 0) };
        peer.rpcs = peer.rpcs.saturating_add(1);
        self.serving.add(one);
        if peer.proved {
            self.proved.add(one);
        }
        if let Some(holder) = self.hosts.get_mut(host as usize) {
            holder.serving.add(one);
        }
    }

    /// It is over.
    #[inline]
    pub(crate) fn end(&mut self, host: u32, peer: &mut PeerServed) {
        peer.rpcs = peer.rpcs.saturating_sub(1);
        let one = Served { rpcs: 1, peers: u32::from(peer.rpcs == 0) };
        self.serving.remove(one);
        if peer.proved {
            self.proved.remove(one);
        }
        if let Some(holder) = self.hosts.get_mut(host as usize) {
            holder.serving.remove(one);
        }
    }

    /// The peer has proved its address: what it is served, nobody else can have.
    pub(crate) fn prove(&mut self, peer: &mut PeerServed) {
        if peer.rpcs > 0 && !core::mem::replace(&mut peer.proved, true) {
            self.proved.add(Served { rpcs: peer.rpcs, peers: 1 });
        }
    }

    /// `bytes` more of responses to `host` are kept.
    #[inline]
    pub(crate) fn keep(&mut self, host: u32, bytes: u32) {
        self.kept_bytes = self.kept_bytes.saturating_add(u64::from(bytes));
        if let Some(holder) = self.known_mut(host) {
            let before = holder.kept_bytes;
            holder.kept_bytes = before.saturating_add(u64::from(bytes));
            let after = holder.kept_bytes;
            self.rank(host, before, after);
        }
    }

    /// `bytes` of them are not any more.
    #[inline]
    pub(crate) fn let_go(&mut self, host: u32, bytes: u32) {
        self.kept_bytes = self.kept_bytes.saturating_sub(u64::from(bytes));
        if let Some(holder) = self.known_mut(host) {
            let before = holder.kept_bytes;
            holder.kept_bytes = before.saturating_sub(u64::from(bytes));
            let after = holder.kept_bytes;
            self.rank(host, before, after);
        }
    }

    /// A host keeps other bytes than before.
    #[inline]
    fn rank(&mut self, host: u32, before: u64, after: u64) {
        let much = after >> self.much_bits;
        if much == before >> self.much_bits {
            return;
        }
        if much == 0 {
            self.by_kept.remove(host);
        } else {
            self.by_kept.set(host, Reverse(much));
        }
    }

    /// Compares with what each host is served, the bytes of responses kept for it, and what all are
    /// served that have proved their address.
    #[cfg(any(test, feature = "check"))]
    pub(crate) fn check(&self, held: &[(Served, u64)], proved: Served) {
        let mut all = (Served::NOTHING, 0);
        for (host, (served, kept_bytes)) in (0..).zip(held) {
            let holder = self.get(host).copied().unwrap_or(Holder::NONE);
            let found = (holder.serving, holder.kept_bytes);
            assert_eq!(found, (*served, *kept_bytes), "requests, peers, bytes of host {host}");
            let ranked = self.by_kept.key(host).map_or(0, |Reverse(much)| much);
            assert_eq!(ranked, kept_bytes >> self.much_bits, "rank of host {host}");
            all.0.add(*served);
            all.1 += kept_bytes;
        }
        let sums = (self.serving, self.kept_bytes);
        assert_eq!((sums, self.proved), (all, proved), "what all hosts hold");
    }

    /// Of the host that keeps most, the response that has made no progress for longest.
    pub(crate) fn to_give_up(&self) -> Option<u32> {
        let (host, _) = self.by_kept.peek()?;
        self.hosts.get(host as usize).map(|holder| holder.kept.first())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn however_many_hosts_take_all_they_can_something_is_left_for_the_next() {
        let mut holders = Holders::new(6, 0, (1, 2));
        holders.try_reserve(6).unwrap();
        let mut peers = [PeerServed::default(); 6];
        let mut take = |host: u32| {
            let before = holders.serving();
            while holders.may_serve(host, true, 1_000) {
                holders.begin(host, &mut peers[host as usize], true);
            }
            holders.serving() - before
        };
        let taken: Vec<usize> = (0..6).map(&mut take).collect();
        assert_eq!(taken, [750, 188, 47, 12, 3, 0]);
        (0..250).for_each(|_| holders.end(0, &mut peers[0]));
        assert!(holders.may_serve(5, true, 1_000));
        assert!(!holders.may_serve(0, true, 900));
    }

    #[test]
    fn a_stranger_has_no_more_than_its_share_when_it_proves_its_address() {
        let mut holders = Holders::new(2, 0, (1, 2));
        holders.try_reserve(2).unwrap();
        let mut peer = PeerServed::default();
        while holders.may_serve(0, false, 1_000) {
            holders.begin(0, &mut peer, false);
        }
        assert_eq!(holders.serving(), 750);
        assert!(holders.may_serve(0, true, 1_000), "others find all of it");
        holders.prove(&mut peer);
        assert!(!holders.may_serve(0, true, 1_000) && holders.may_serve(1, true, 1_000));
        holders.prove(&mut peer);
        (0..750).for_each(|_| holders.end(0, &mut peer));
        assert_eq!((holders.serving, holders.proved), (Served::NOTHING, Served::NOTHING));
    }

    #[test]
    fn the_host_that_keeps_most_is_known() {
        let mut holders = Holders::new(3, 60, (1, 2));
        holders.try_reserve(3).unwrap();
        for host in 0..3 {
            holders.known_mut(host).unwrap().kept = RpcList::of(10 + host);
        }
        assert_eq!(holders.to_give_up(), None);
        holders.keep(0, 100);
        holders.keep(1, 200);
        holders.keep(2, 150);
        assert_eq!((holders.to_give_up(), holders.kept_bytes()), (Some(11), 450));
        holders.let_go(1, 200);
        assert_eq!(holders.to_give_up(), Some(12));
        holders.let_go(2, 150);
        holders.let_go(0, 93);
        assert_eq!((holders.to_give_up(), holders.kept_bytes()), (None, 7), "too little");
    }
}
