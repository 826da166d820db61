//! Shares of the client hosts: RPCs served, the peers they are served to, and unacknowledged
//! responses. All are limited for all hosts together, and no host may take what others need: a host
//! is given no more RPCs, and no more peers, than three times those that are left, and when too
//! many bytes are kept, the host that keeps most gives some up.
//!
//! A share belongs to an IP address, whatever number of ports send from it. What unvalidated
//! clients hold counts as free for validated ones, which may displace them. An unvalidated client
//! has its share of what is really free, so that it holds no more than its share when it is
//! validated.

use alloc::vec::Vec;
use core::cmp::Reverse;

use crate::addr::Path;
use crate::engine::impossible::Impossible;
use crate::engine::peer::{Peer, PeerIndex, PeerTable};
use crate::engine::rpc::index::RpcIndex;
use crate::engine::rpc::list::RpcList;
use crate::structures::OutOfMemory;
use crate::structures::heap::IndexedHeap;
use crate::structures::index::{Index, index};

/// A host may have this many times the places that are left: three quarters of all if it is alone,
/// and something is left for the next one however many there are.
const TIMES_WHAT_IS_LEFT: u32 = 3;

/// Peers, and requests as an unvalidated client, that every host may have whatever its share.
const EVERY_HOST_MIN: u32 = 16;

index! {
    /// Index of an IP address among those of all peers.
    pub(crate) struct HostIndex;
}

/// The share of one host.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HostShare {
    /// Server RPCs alive, and the peers that they belong to.
    serving: Served,
    /// Bytes of responses kept.
    unacknowledged_bytes: u64,
    /// Its responses: first the one that has made no progress for longest.
    pub(crate) responses: RpcList,
}

impl HostShare {
    const NONE: Self =
        Self { serving: Served::NOTHING, unacknowledged_bytes: 0, responses: RpcList::EMPTY };
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

/// RPCs served to one peer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct PeerServed {
    pub(crate) rpcs: u32,
    /// Whether it counts among the validated ones.
    pub(crate) validated: bool,
}

/// All hosts, by [`crate::engine::peer::Peer::host`], and the sums over them.
#[derive(Debug)]
pub(crate) struct HostShares {
    hosts: Vec<HostShare>,
    serving: Served,
    /// The part of validated peers.
    validated: Served,
    unacknowledged_bytes: u64,
    /// Hosts with many unacknowledged bytes, most first.
    by_bytes: IndexedHeap<HostIndex, Reverse<u64>>,
    /// Threshold for `by_bytes`, as a power of two: hosts below it together stay far below the
    /// limit, so they are not ranked and short responses cost nothing.
    much_bits: u32,
    /// Shortest and longest wait before a client is asked for an acknowledgement.
    ack_intervals_ns: (u64, u64),
    /// See [`crate::Engine::flush_acknowledgements`].
    flushing: bool,
    pub(crate) impossible: Impossible,
}

impl HostShares {
    /// For at most `hosts_max` hosts, which keep about `unacknowledged_max_bytes` together.
    pub(crate) fn new(
        hosts_max: u32,
        unacknowledged_max_bytes: u64,
        ack_intervals_ns: (u64, u64),
    ) -> Self {
        let half = unacknowledged_max_bytes / u64::from(hosts_max).saturating_mul(2).max(1);
        Self {
            hosts: Vec::new(),
            serving: Served::NOTHING,
            validated: Served::NOTHING,
            unacknowledged_bytes: 0,
            by_bytes: IndexedHeap::new(),
            much_bits: half.checked_ilog2().unwrap_or(0),
            ack_intervals_ns,
            flushing: false,
            impossible: Impossible::default(),
        }
    }

    /// Makes room for all hosts below `limit`.
    pub(crate) fn try_reserve(&mut self, limit: usize) -> Result<(), OutOfMemory> {
        let more = limit.saturating_sub(self.hosts.len());
        self.hosts.try_reserve(more).map_err(|_| OutOfMemory)?;
        self.by_bytes.try_reserve(limit)?;
        let covered = self.hosts.len().saturating_add(more);
        self.hosts.resize(covered, HostShare::NONE);
        Ok(())
    }

    #[cfg(any(test, feature = "check"))]
    pub(crate) fn get(&self, host: HostIndex) -> Option<&HostShare> {
        self.hosts.get(host.position())
    }

    /// The share of a peer's host.
    #[track_caller]
    pub(crate) fn known_mut(&mut self, host: HostIndex) -> Option<&mut HostShare> {
        self.impossible.known(self.hosts.get_mut(host.position()))
    }

    /// Shortest and longest wait before a client is asked for an acknowledgement, in ns.
    pub(crate) fn ack_intervals_ns(&self) -> (u64, u64) {
        self.ack_intervals_ns
    }

    pub(crate) fn is_flushing(&self) -> bool {
        self.flushing
    }

    /// Flushes acknowledgements from now on. Returns whether that is new.
    pub(crate) fn begin_flush(&mut self) -> bool {
        !core::mem::replace(&mut self.flushing, true)
    }

    /// Server RPCs alive.
    pub(crate) fn serving(&self) -> usize {
        self.serving.rpcs as usize
    }

    /// Whether one more request may be served, if `max` may be at a time.
    #[inline]
    pub(crate) fn has_place(&self, max: u32) -> bool {
        self.serving.rpcs < max
    }

    /// Bytes of all responses kept.
    pub(crate) fn unacknowledged_bytes(&self) -> u64 {
        self.unacknowledged_bytes
    }

    /// Whether a request of `host`, which has `validated` its address or not, may be served, if
    /// `max` may be at a time.
    pub(crate) fn may_serve(&self, host: HostIndex, validated: bool, max: u32) -> bool {
        let taken = if validated { self.validated } else { self.serving };
        let has = self.hosts.get(host.position()).map_or(0, |share| share.serving.rpcs);
        has < max.saturating_sub(taken.rpcs).saturating_mul(TIMES_WHAT_IS_LEFT)
    }

    /// Whether a host has reached its share as an unvalidated client but not as a validated one.
    fn is_beyond_share(&self, host: HostIndex, max: u32) -> bool {
        let has = self.hosts.get(host.position()).map_or(0, |share| share.serving.rpcs);
        has >= EVERY_HOST_MIN
            && !self.may_serve(host, false, max)
            && self.may_serve(host, true, max)
    }

    /// Whether an unvalidated client must validate its address first: its host has its share of
    /// places, perhaps by forged requests, and would get more once validated.
    pub(crate) fn needs_validation_first(
        &self,
        peers: &PeerTable,
        peer: Option<PeerIndex>,
        path: &Path,
        max: u32,
    ) -> bool {
        let known = peer.and_then(|peer| peers.known(peer));
        let host = known.map(Peer::host).or_else(|| peers.host_at(path.remote.ip()));
        host.is_some_and(|host| self.is_beyond_share(host, max))
    }

    /// Whether one more peer of `host` may be served, if there may be `max` peers.
    pub(crate) fn may_have_peer(&self, host: HostIndex, validated: bool, max: u32) -> bool {
        let taken = if validated { self.validated } else { self.serving };
        let has = self.hosts.get(host.position()).map_or(0, |share| share.serving.peers);
        let left = max.saturating_sub(taken.peers);
        has < left.saturating_mul(TIMES_WHAT_IS_LEFT).max(EVERY_HOST_MIN)
    }

    /// A request of a peer at `host` is served from now on.
    #[inline]
    pub(crate) fn begin(&mut self, host: HostIndex, peer: &mut PeerServed, validated: bool) {
        if peer.rpcs == 0 {
            peer.validated = validated;
        }
        let one = Served { rpcs: 1, peers: u32::from(peer.rpcs == 0) };
        peer.rpcs = peer.rpcs.saturating_add(1);
        self.serving.add(one);
        if peer.validated {
            self.validated.add(one);
        }
        if let Some(share) = self.hosts.get_mut(host.position()) {
            share.serving.add(one);
        }
    }

    /// Counts the end of a server RPC.
    #[inline]
    pub(crate) fn end(&mut self, host: HostIndex, peer: &mut PeerServed) {
        peer.rpcs = peer.rpcs.saturating_sub(1);
        let one = Served { rpcs: 1, peers: u32::from(peer.rpcs == 0) };
        self.serving.remove(one);
        if peer.validated {
            self.validated.remove(one);
        }
        if let Some(share) = self.hosts.get_mut(host.position()) {
            share.serving.remove(one);
        }
    }

    /// Notes that the peer is validated: its requests can no longer be displaced.
    pub(crate) fn note_validated(&mut self, peer: &mut PeerServed) {
        if peer.rpcs > 0 && !core::mem::replace(&mut peer.validated, true) {
            self.validated.add(Served { rpcs: peer.rpcs, peers: 1 });
        }
    }

    /// `bytes` more of responses to `host` are kept.
    #[inline]
    pub(crate) fn keep(&mut self, host: HostIndex, bytes: u32) {
        self.unacknowledged_bytes = self.unacknowledged_bytes.saturating_add(u64::from(bytes));
        if let Some(share) = self.known_mut(host) {
            let before = share.unacknowledged_bytes;
            share.unacknowledged_bytes = before.saturating_add(u64::from(bytes));
            let after = share.unacknowledged_bytes;
            self.rank(host, before, after);
        }
    }

    /// `bytes` of responses to `host` are no longer kept.
    #[inline]
    pub(crate) fn let_go(&mut self, host: HostIndex, bytes: u32) {
        self.unacknowledged_bytes = self.unacknowledged_bytes.saturating_sub(u64::from(bytes));
        if let Some(share) = self.known_mut(host) {
            let before = share.unacknowledged_bytes;
            share.unacknowledged_bytes = before.saturating_sub(u64::from(bytes));
            let after = share.unacknowledged_bytes;
            self.rank(host, before, after);
        }
    }

    /// Updates the rank of a host whose bytes changed.
    #[inline]
    fn rank(&mut self, host: HostIndex, before: u64, after: u64) {
        let much = after >> self.much_bits;
        if much == before >> self.much_bits {
            return;
        }
        if much == 0 {
            self.by_bytes.remove(host);
        } else {
            self.by_bytes.set(host, Reverse(much));
        }
    }

    /// Compares with the RPCs served to each host, its unacknowledged bytes, and the sum over
    /// validated peers.
    #[cfg(any(test, feature = "check"))]
    pub(crate) fn check(&self, held: &[(Served, u64)], validated: Served) {
        let mut all = (Served::NOTHING, 0);
        for (host, (served, unacknowledged_bytes)) in HostIndex::first(held.len()).zip(held) {
            let share = self.get(host).copied().unwrap_or(HostShare::NONE);
            let found = (share.serving, share.unacknowledged_bytes);
            assert_eq!(
                found,
                (*served, *unacknowledged_bytes),
                "requests, peers, bytes of host {host:?}"
            );
            let ranked = self.by_bytes.key(host).map_or(0, |Reverse(much)| much);
            assert_eq!(ranked, unacknowledged_bytes >> self.much_bits, "rank of host {host:?}");
            all.0.add(*served);
            all.1 += unacknowledged_bytes;
        }
        let sums = (self.serving, self.unacknowledged_bytes);
        assert_eq!((sums, self.validated), (all, validated), "what all hosts hold");
    }

    /// Of the host that keeps most, the response that has made no progress for longest.
    pub(crate) fn to_give_up(&self) -> Option<RpcIndex> {
        let (host, _) = self.by_bytes.peek()?;
        self.hosts.get(host.position()).and_then(|share| share.responses.first())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn however_many_hosts_take_all_they_can_something_is_left_for_the_next() {
        let mut shares = HostShares::new(6, 0, (1, 2));
        shares.try_reserve(6).unwrap();
        let mut peers = [PeerServed::default(); 6];
        let mut take = |host: HostIndex| {
            let before = shares.serving();
            while shares.may_serve(host, true, 1_000) {
                shares.begin(host, &mut peers[host.position()], true);
            }
            shares.serving() - before
        };
        let taken: Vec<usize> = HostIndex::first(6).map(&mut take).collect();
        assert_eq!(taken, [750, 188, 47, 12, 3, 0]);
        (0..250).for_each(|_| shares.end(0.into(), &mut peers[0]));
        assert!(shares.may_serve(5.into(), true, 1_000));
        assert!(!shares.may_serve(0.into(), true, 900));
    }

    #[test]
    fn an_unvalidated_client_has_no_more_than_its_share_when_it_proves_its_address() {
        let mut shares = HostShares::new(2, 0, (1, 2));
        shares.try_reserve(2).unwrap();
        let mut peer = PeerServed::default();
        while shares.may_serve(0.into(), false, 1_000) {
            shares.begin(0.into(), &mut peer, false);
        }
        assert_eq!(shares.serving(), 750);
        assert!(shares.may_serve(0.into(), true, 1_000), "others find all of it");
        shares.note_validated(&mut peer);
        assert!(
            !shares.may_serve(0.into(), true, 1_000) && shares.may_serve(1.into(), true, 1_000)
        );
        shares.note_validated(&mut peer);
        (0..750).for_each(|_| shares.end(0.into(), &mut peer));
        assert_eq!((shares.serving, shares.validated), (Served::NOTHING, Served::NOTHING));
    }

    #[test]
    fn the_host_that_keeps_most_is_known() {
        let mut shares = HostShares::new(3, 60, (1, 2));
        shares.try_reserve(3).unwrap();
        for host in 0..3_u32 {
            shares.known_mut(host.into()).unwrap().responses = RpcList::of((10 + host).into());
        }
        assert_eq!(shares.to_give_up(), None);
        shares.keep(0.into(), 100);
        shares.keep(1.into(), 200);
        shares.keep(2.into(), 150);
        assert_eq!((shares.to_give_up(), shares.unacknowledged_bytes()), (Some(11.into()), 450));
        shares.let_go(1.into(), 200);
        assert_eq!(shares.to_give_up(), Some(12.into()));
        shares.let_go(2.into(), 150);
        shares.let_go(0.into(), 93);
        assert_eq!((shares.to_give_up(), shares.unacknowledged_bytes()), (None, 7), "too little");
    }
}
