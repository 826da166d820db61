//! Messages that wait for receive memory.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use crate::engine::impossible::Impossible;
use crate::engine::receiver::held::HolderIndex;
use crate::engine::rpc::index::RpcIndex;
use crate::structures::OutOfMemory;
use crate::structures::index::Index;
use crate::structures::shared_heap::{Positions, SharedHeap};

/// Length and birth of a message: the shortest has the next memory that is free.
type Rank = (u32, u64);

/// Messages that wait for memory, shortest first. Those of a host that holds its share wait apart:
/// they hold up no others, and keep their order.
#[derive(Debug, Default)]
pub(crate) struct Unallocated {
    positions: Positions,
    ready: SharedHeap<RpcIndex, Rank>,
    /// By the host's place in the account of memory.
    apart: Vec<Apart>,
    /// Messages that wait apart.
    apart_count: usize,
    /// The hosts of which messages wait apart; the first was looked at longest ago.
    hosts: VecDeque<HolderIndex>,
    pub(super) impossible: Impossible,
}

#[derive(Debug, Default)]
struct Apart {
    messages: SharedHeap<RpcIndex, Rank>,
    /// Whether the host is in the queue of hosts.
    queued: bool,
}

impl Unallocated {
    /// Covers RPCs below `capacity`.
    pub(crate) fn try_reserve(&mut self, capacity: usize) -> Result<(), OutOfMemory> {
        self.positions.try_reserve(capacity)?;
        self.ready.try_reserve(capacity)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.ready.is_empty() && self.apart_count == 0
    }

    #[cfg(any(test, feature = "check"))]
    pub(crate) fn contains(&self, index: RpcIndex, host: Option<HolderIndex>) -> bool {
        let apart = host.and_then(|host| self.apart.get(host.position()));
        self.ready.contains(&self.positions, index)
            || apart.is_some_and(|apart| apart.messages.contains(&self.positions, index))
    }

    pub(crate) fn add(&mut self, index: RpcIndex, rank: Rank) {
        // Room was reserved when the RPC was made.
        let _ = self.ready.set(&mut self.positions, index, rank);
    }

    /// Takes a message out that may be in, of a host with the place `host`.
    pub(crate) fn remove(&mut self, index: RpcIndex, host: Option<HolderIndex>) {
        if !self.ready.remove(&mut self.positions, index) {
            if let Some(apart) = host.and_then(|host| self.apart.get_mut(host.position())) {
                let there = apart.messages.remove(&mut self.positions, index);
                self.apart_count = self.apart_count.saturating_sub(usize::from(there));
            }
        }
    }

    /// The message whose turn it is.
    pub(crate) fn first(&self) -> Option<RpcIndex> {
        self.ready.peek().map(|(index, _)| index)
    }

    /// Lets the first message wait apart, since its host holds its share.
    pub(crate) fn set_apart(&mut self, host: Option<HolderIndex>) {
        let Some((index, rank)) = self.ready.peek() else {
            return self.impossible.found();
        };
        self.ready.remove(&mut self.positions, index);
        if self.try_set_apart(index, rank, host).is_err() {
            // Behind all others at least.
            self.add(index, (u32::MAX, rank.1));
        }
    }

    fn try_set_apart(
        &mut self,
        index: RpcIndex,
        rank: Rank,
        host: Option<HolderIndex>,
    ) -> Result<(), OutOfMemory> {
        // A host that is not counted has no place: there was no memory for it.
        let host = host.ok_or(OutOfMemory)?;
        let place = host.position();
        let missing = place.saturating_add(1).saturating_sub(self.apart.len());
        self.apart.try_reserve(missing).map_err(|_| OutOfMemory)?;
        self.hosts.try_reserve(1).map_err(|_| OutOfMemory)?;
        if missing > 0 {
            self.apart.resize_with(place.saturating_add(1), Apart::default);
        }
        let apart = self.apart.get_mut(place).ok_or(OutOfMemory)?;
        apart.messages.set(&mut self.positions, index, rank)?;
        self.apart_count = self.apart_count.saturating_add(1);
        if !core::mem::replace(&mut apart.queued, true) {
            self.hosts.push_back(host);
        }
        Ok(())
    }

    /// Lets the shortest message of each of at most `hosts_max` hosts take part again.
    pub(crate) fn recall(&mut self, hosts_max: usize) {
        for _ in 0..self.hosts.len().min(hosts_max) {
            let Some(host) = self.hosts.pop_front() else {
                return self.impossible.found();
            };
            self.recall_of(Some(host));
            if let Some(apart) = self.apart.get_mut(host.position()) {
                apart.queued = !apart.messages.is_empty();
                if apart.queued {
                    self.hosts.push_back(host);
                }
            }
        }
    }

    /// Lets the shortest message of a host take part again.
    pub(crate) fn recall_of(&mut self, host: Option<HolderIndex>) {
        let Some(apart) = host.and_then(|host| self.apart.get_mut(host.position())) else {
            return;
        };
        if let Some((index, rank)) = apart.messages.peek() {
            apart.messages.remove(&mut self.positions, index);
            self.apart_count = self.apart_count.saturating_sub(1);
            self.add(index, rank);
        }
    }
}
