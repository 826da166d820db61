//! The account of memory for incoming messages (ARCHITECTURE.md §Memory).

use alloc::vec::Vec;
use core::net::IpAddr;

use crate::engine::impossible::Impossible;
use crate::engine::receiver::held::HolderIndex;
use crate::engine::rpc::Rpc;
#[cfg(any(test, feature = "check"))]
use crate::engine::short::View;
use crate::event::RpcKey;
use crate::structures::hash::{Map, SeededState};
use crate::structures::index::Index;

/// Messages that take no more are not counted to the share of their host: they come in a packet or
/// two, and few instructions may be spent on them.
pub(crate) const SHORT_BYTES: u64 = 4096;
/// Unvalidated clients may have one part in so many of the ordinary memory.
const UNVALIDATED_SHARE: u64 = 4;

/// A host may hold one part in so many of what it leaves free.
const SHARE_OF_FREE: u64 = 3;

/// How much incoming data may be held. Space is reserved before data is accepted, so storing
/// cannot fail.
///
/// A reserved slot holds the longest message and belongs to one message at a time: the first that
/// needs it, until it is over or everything fits without it. All others together never hold more
/// than the ordinary part, so the holder of the reserved slot always finds memory, and since grant
/// management ranks it first it completes. Half-received messages cannot deadlock.
///
/// Announcements cost their sender nothing, so unvalidated clients together may reserve only a
/// quarter of the ordinary part ahead of data, and never the reserved slot. A client that finds no
/// room there has to validate its address first.
///
/// No host takes all: it may hold a third of what it leaves free, and one message besides, so that
/// a message that has begun can go on. A greedy host leaves three quarters of what it finds to
/// others.
#[derive(Debug)]
pub(crate) struct Memory {
    limit: u64,
    set_aside: u64,
    used: u64,
    /// Part of `used` that was reserved for announcements of unvalidated clients.
    unvalidated: u64,
    reserved_by: Option<RpcKey>,
    /// The reserved slot's message is complete; its memory waits for the application.
    reserved_complete: bool,
    /// Whether space came free since this was last taken.
    pub(super) freed: bool,
    hosts: Vec<HostMemory>,
    free_hosts: Vec<HolderIndex>,
    host_by_ip: Map<IpAddr, HolderIndex>,
    pub(super) impossible: Impossible,
}

/// Memory of the messages of one host.
#[derive(Debug)]
struct HostMemory {
    ip: IpAddr,
    messages: u32,
    held: u64,
    /// The message that goes on beyond the share.
    besides: Option<RpcKey>,
}

impl Memory {
    /// `largest` is what one message may need, in bytes; the account is never smaller.
    pub(crate) fn new(limit: u64, largest: u64, seed: u64) -> Self {
        Self {
            limit: limit.max(largest),
            set_aside: largest,
            used: 0,
            unvalidated: 0,
            reserved_by: None,
            reserved_complete: false,
            freed: false,
            hosts: Vec::new(),
            free_hosts: Vec::new(),
            host_by_ip: Map::with_hasher(SeededState::new(seed)),
            impossible: Impossible::default(),
        }
    }

    fn ordinary(&self) -> u64 {
        self.limit.saturating_sub(self.set_aside)
    }

    /// Whether the ordinary part has room for so many bytes more.
    #[inline]
    pub(crate) fn has_room(&self, more: u64) -> bool {
        self.used.saturating_add(more) <= self.ordinary()
    }

    /// The message that holds, or may take, the reserved slot.
    pub(crate) fn reserved_by(&self) -> Option<RpcKey> {
        self.reserved_by
    }

    /// Whether there is room for the message of `rpc` up to byte `upto` but not for its host.
    pub(crate) fn is_for_others(&self, rpc: &Rpc, upto: u32) -> bool {
        let more = rpc.rx.footprint(upto).saturating_sub(rpc.rx.reserved());
        self.has_room(more)
    }

    /// Whether one more host may hold so much. Its messages are counted from now on.
    fn join_host(&mut self, rpc: &mut Rpc) -> bool {
        let ip = rpc.path.remote.ip().to_canonical();
        let index = match self.host_by_ip.get(&ip) {
            Some(index) => *index,
            None => match self.add_host(ip) {
                Some(index) => index,
                None => return false,
            },
        };
        if let Some(host) = self.hosts.get_mut(index.position()) {
            host.messages = host.messages.saturating_add(1);
            host.held = host.held.saturating_add(rpc.rx.reserved());
            rpc.rx.held.host = Some(index);
        } else {
            self.impossible.found();
        }
        true
    }

    /// `None`: the system has no memory.
    fn add_host(&mut self, ip: IpAddr) -> Option<HolderIndex> {
        self.host_by_ip.try_reserve(1).ok()?;
        let host = HostMemory { ip, messages: 0, held: 0, besides: None };
        let index = match self.free_hosts.pop() {
            Some(index) => {
                *self.hosts.get_mut(index.position())? = host;
                index
            }
            None => {
                let index = HolderIndex::at(self.hosts.len())?;
                self.hosts.try_reserve(1).ok()?;
                // Room for every index to come back.
                let total = self.hosts.len().saturating_add(1);
                let missing = total.saturating_sub(self.free_hosts.len());
                self.free_hosts.try_reserve(missing).ok()?;
                self.hosts.push(host);
                index
            }
        };
        self.host_by_ip.insert(ip, index);
        Some(index)
    }

    fn leave_host(&mut self, rpc: &mut Rpc) {
        let Some(index) = rpc.rx.held.host.take() else {
            return;
        };
        let Some(host) = self.hosts.get_mut(index.position()) else {
            return self.impossible.found();
        };
        host.messages = host.messages.saturating_sub(1);
        if host.messages == 0 {
            self.host_by_ip.remove(&host.ip);
            self.free_hosts.push(index);
        }
    }

    /// The host of a message, if it is counted.
    #[inline(always)]
    fn host_mut(&mut self, index: Option<HolderIndex>) -> Option<&mut HostMemory> {
        self.hosts.get_mut(index?.position())
    }

    /// Whether the host of a message may hold `more` bytes, of which `free` are left then. One
    /// message may that is beyond the share.
    fn within_share(
        &mut self,
        rpc: RpcKey,
        host: Option<HolderIndex>,
        more: u64,
        free: u64,
    ) -> bool {
        let Some(host) = self.host_mut(host) else {
            return true;
        };
        if host.held.saturating_add(more) <= free / SHARE_OF_FREE {
            return true;
        }
        *host.besides.get_or_insert(rpc) == rpc
    }

    #[cfg(any(test, feature = "check"))]
    pub(crate) fn unvalidated(&self) -> u64 {
        self.unvalidated
    }

    /// The memory of each host is the sum over its messages.
    #[cfg(any(test, feature = "check"))]
    pub(crate) fn check_hosts<'a>(&self, live: impl Iterator<Item = View<'a>>) {
        let mut sums = alloc::vec![(0_u32, 0_u64); self.hosts.len()];
        for rpc in live {
            let Some(host) = rpc.rx.held.host else { continue };
            let sum = &mut sums[host.position()];
            *sum = (sum.0 + 1, sum.1 + rpc.rx.reserved());
        }
        for (index, (host, sum)) in HolderIndex::first(sums.len()).zip(self.hosts.iter().zip(sums))
        {
            assert_eq!((host.messages, host.held), sum, "memory of {host:?}");
            let known = self.host_by_ip.get(&host.ip) == Some(&index);
            assert_eq!(known, host.messages > 0, "address of {host:?}");
        }
        let there = self.hosts.iter().filter(|host| host.messages > 0).count();
        assert_eq!(self.host_by_ip.len(), there, "hosts that hold memory");
    }

    #[cfg(any(test, feature = "check"))]
    pub(crate) fn limit(&self) -> u64 {
        self.limit
    }

    pub(crate) fn used(&self) -> u64 {
        self.used
    }

    /// Whether an unvalidated client may reserve `bytes`.
    pub(crate) fn admits_unvalidated(&self, bytes: u64) -> bool {
        let ordinary = self.ordinary();
        self.unvalidated.saturating_add(bytes) <= ordinary / UNVALIDATED_SHARE
            && self.has_room(bytes)
    }

    /// Whether half of the ordinary memory is left after a reservation up to byte `upto`, so that
    /// senders within their grants lose nothing.
    pub(crate) fn is_plentiful(&self, rpc: &Rpc, upto: u32) -> bool {
        let more = rpc.rx.footprint(upto).saturating_sub(rpc.rx.reserved());
        self.used.saturating_add(more) <= self.ordinary() / 2
    }

    /// Counts the reservation of `rpc`'s message, or `least` bytes if that is more, towards the
    /// share of unvalidated clients.
    pub(crate) fn count_unvalidated(&mut self, rpc: &mut Rpc, least: u64) {
        rpc.rx.held.unvalidated_bytes = rpc.rx.reserved().max(least);
        self.unvalidated = self.unvalidated.saturating_add(rpc.rx.held.unvalidated_bytes);
    }

    /// Takes the reservation of `rpc`'s message out of the share of unvalidated clients: its sender
    /// is validated, or the message has come or is over.
    pub(crate) fn forget_unvalidated(&mut self, rpc: &mut Rpc) {
        let bytes = core::mem::take(&mut rpc.rx.held.unvalidated_bytes);
        self.unvalidated = self.unvalidated.saturating_sub(bytes);
    }

    /// Reserves memory for the incoming message of `rpc` up to byte `upto`, if it is not yet;
    /// `false` (and no change) if there is no room.
    #[inline]
    pub(crate) fn reserve(&mut self, rpc: &mut Rpc, upto: u32) -> bool {
        upto <= rpc.rx.held.upto || self.reserve_more(rpc, upto)
    }

    fn reserve_more(&mut self, rpc: &mut Rpc, upto: u32) -> bool {
        let (old, new) = (rpc.rx.reserved(), rpc.rx.footprint(upto));
        let after = self.used.saturating_add(new.saturating_sub(old));
        let no_share = new <= SHORT_BYTES && rpc.rx.held.host.is_none();
        if no_share && after <= self.ordinary() {
            self.used = after;
        } else if !self.reserve_of_share(rpc, old, new) {
            return false;
        }
        rpc.rx.held.upto = upto;
        true
    }

    /// Accounts for a message of an RPC in short form, which has come.
    #[inline]
    pub(crate) fn take_short(&mut self, bytes: u64) {
        self.used = self.used.saturating_add(bytes);
        self.release_reserved();
    }

    #[inline(never)]
    fn reserve_of_share(&mut self, rpc: &mut Rpc, old: u64, new: u64) -> bool {
        let counted = new <= SHORT_BYTES || rpc.rx.held.host.is_some() || self.join_host(rpc);
        counted && self.change(rpc.key(), rpc.rx.held.host, old, new)
    }

    /// The reader of the message of `rpc` took some of it: `after` bytes are accounted instead of
    /// `before`.
    #[inline]
    pub(crate) fn shrink(&mut self, rpc: &Rpc, before: u64, after: u64) {
        if after < before {
            self.give_back(rpc.rx.held.host, before.saturating_sub(after));
        }
    }

    /// Changes the account of `rpc` from `old` to `new` bytes; `false` (and no change) if there is
    /// no room. Giving back always succeeds.
    #[inline]
    fn change(&mut self, rpc: RpcKey, host: Option<HolderIndex>, old: u64, new: u64) -> bool {
        if new < old {
            self.give_back(host, old.saturating_sub(new));
        }
        new <= old || self.take(rpc, host, new.saturating_sub(old))
    }

    /// `less` bytes are accounted for a message, which counts to `host` or to none.
    #[inline]
    pub(crate) fn give_back(&mut self, host: Option<HolderIndex>, less: u64) {
        self.used = self.used.saturating_sub(less);
        if let Some(host) = self.host_mut(host) {
            host.held = host.held.saturating_sub(less);
        }
        self.freed = true;
        self.release_reserved();
    }

    /// `false` (and no change): there is no room for `more` bytes.
    fn take(&mut self, rpc: RpcKey, host: Option<HolderIndex>, more: u64) -> bool {
        let (after, ordinary) = (self.used.saturating_add(more), self.ordinary());
        let free = ordinary.saturating_sub(after);
        if after > ordinary || !self.within_share(rpc, host, more, free) {
            if after > self.limit || self.reserved_by.is_some_and(|owner| owner != rpc) {
                return false;
            }
            self.reserved_by = Some(rpc);
        }
        if let Some(host) = self.host_mut(host) {
            host.held = host.held.saturating_add(more);
        }
        self.used = after;
        true
    }

    /// The message of `rpc` is complete: it needs no more memory than it has.
    pub(crate) fn complete(&mut self, rpc: RpcKey) {
        self.reserved_complete |= self.reserved_by == Some(rpc);
        self.release_reserved();
    }

    /// A complete holder of the reserved slot makes way as soon as all that is held fits the
    /// ordinary part: then what is set aside is whole again.
    fn release_reserved(&mut self) {
        if self.reserved_complete && self.used <= self.ordinary() {
            self.reserved_by = None;
            self.reserved_complete = false;
            self.freed = true;
        }
    }

    /// Gives back all that is reserved for the incoming message of `rpc`.
    pub(crate) fn release(&mut self, rpc: &mut Rpc) {
        self.forget_unvalidated(rpc);
        let reserved = rpc.rx.reserved();
        self.change(rpc.key(), rpc.rx.held.host, reserved, 0);
        self.leave(rpc);
        self.leave_host(rpc);
        rpc.rx.held.upto = 0;
    }

    /// `rpc` needs nothing any more.
    #[inline]
    pub(crate) fn leave(&mut self, rpc: &Rpc) {
        if let Some(host) = self.host_mut(rpc.rx.held.host) {
            host.besides = host.besides.filter(|besides| *besides != rpc.key());
        }
        let rpc = rpc.key();
        if self.reserved_by == Some(rpc) {
            self.reserved_by = None;
            self.reserved_complete = false;
            self.freed = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: RpcKey = RpcKey { index: 0, generation: 0 };
    const B: RpcKey = RpcKey { index: 1, generation: 0 };

    #[test]
    fn the_holder_of_the_reserved_slot_always_finds_what_the_longest_message_needs() {
        for limit in [0u64, 400, 500, 1000] {
            let mut memory = Memory::new(limit, 400, 1);
            let ordinary = limit.saturating_sub(400);
            assert!(memory.change(B, None, 0, ordinary), "others take all they can get");
            assert!(memory.change(A, None, 0, 400), "limit {limit}");
            assert!(!memory.change(B, None, ordinary, ordinary + 1), "limit {limit}");
        }
    }

    #[test]
    fn the_part_set_aside_serves_one_message_at_a_time() {
        let mut memory = Memory::new(1000, 400, 1);
        assert!(memory.change(A, None, 0, 600));
        assert!(
            memory.change(A, None, 600, 700),
            "the first to need it becomes the holder of the reserved slot"
        );
        assert!(!memory.change(B, None, 0, 100));
        assert!(memory.change(A, None, 700, 1000));
        assert!(!memory.change(A, None, 1000, 1001));
        assert!(memory.change(A, None, 1000, 0));
        memory.reserved_by = None;
        memory.freed = true;
        assert!(memory.freed);
        assert!(memory.change(B, None, 0, 1000));
    }

    #[test]
    fn a_complete_holder_of_the_reserved_slot_makes_way_when_everything_fits_without_the_part_set_aside()
     {
        let mut memory = Memory::new(1000, 400, 1);
        assert!(memory.change(A, None, 0, 500));
        assert!(memory.change(B, None, 0, 300), "the holder of the reserved slot");
        assert!(memory.change(A, None, 500, 300));
        assert!(!memory.change(A, None, 300, 301 + 300), "B may still need what is set aside");
        memory.complete(B);
        assert!(memory.freed);
        assert!(
            memory.change(A, None, 300, 700),
            "the holder of the reserved slot while B still holds its part"
        );
    }
}
