//! The RPCs that the engine knows, by its key.

use std::sync::Arc;

use homa_core::RpcKey;

use super::room::{Charge, Charges};
use super::rpc::Rpc;
use super::sets::{Sets, Started};
use super::singles::Singles;
use super::turns::Turns;

/// The library's side of the state behind the lock.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    /// By index of the engine's key.
    entries: Vec<Option<(RpcKey, Entry)>>,
    /// Requests that arrived when the accept queue had no room for them.
    pub(crate) not_queued: Turns<Arc<Rpc>>,
    /// RPCs of calls that go both ways at once, while the other one is not here.
    pub(crate) single: Singles,
    /// Sets of calls.
    pub(crate) sets: Sets,
    /// Room of responses that ended in this turn.
    pub(crate) ended: Charges,
}

/// An RPC.
#[derive(Debug)]
pub(crate) enum Entry {
    /// One with a state that its user shares.
    Rpc(Arc<Rpc>),
    /// A member of a set of calls.
    Member(Started),
    /// A request without a state that is shared, and the room of its response once it has one.
    Plain(Option<Charge>),
}

impl Registry {
    #[inline]
    pub(crate) fn insert(&mut self, key: RpcKey, entry: Entry) {
        let index = key.index as usize;
        if self.entries.len() <= index {
            self.entries.resize_with(index + 1, || None);
        }
        if let Some(place) = self.entries.get_mut(index) {
            *place = Some((key, entry));
        }
    }

    #[inline]
    pub(crate) fn get(&self, key: RpcKey) -> Option<&Arc<Rpc>> {
        match self.entries.get(key.index as usize)?.as_ref()? {
            (known, Entry::Rpc(rpc)) if *known == key => Some(rpc),
            _ => None,
        }
    }

    #[inline]
    pub(crate) fn member_mut(&mut self, key: RpcKey) -> Option<&mut Started> {
        match self.entries.get_mut(key.index as usize)?.as_mut()? {
            (known, Entry::Member(member)) if *known == key => Some(member),
            _ => None,
        }
    }

    #[inline]
    pub(crate) fn member(&self, key: RpcKey) -> Option<&Started> {
        match self.entries.get(key.index as usize)?.as_ref()? {
            (known, Entry::Member(member)) if *known == key => Some(member),
            _ => None,
        }
    }

    #[inline]
    pub(crate) fn plain_mut(&mut self, key: RpcKey) -> Option<&mut Option<Charge>> {
        match self.entries.get_mut(key.index as usize)?.as_mut()? {
            (known, Entry::Plain(charge)) if *known == key => Some(charge),
            _ => None,
        }
    }

    /// All RPCs with a state that is shared.
    pub(crate) fn rpcs(&self) -> impl Iterator<Item = &Arc<Rpc>> {
        self.entries.iter().flatten().filter_map(|(_, entry)| match entry {
            Entry::Rpc(rpc) => Some(rpc),
            Entry::Member(_) | Entry::Plain(_) => None,
        })
    }

    /// The keys of all RPCs.
    pub(crate) fn keys(&self) -> Vec<RpcKey> {
        self.entries.iter().flatten().map(|(key, _)| *key).collect()
    }

    #[inline]
    pub(crate) fn remove(&mut self, key: RpcKey) -> Option<Entry> {
        let entry = self.entries.get_mut(key.index as usize)?;
        entry.take_if(|(known, _)| *known == key).map(|(_, entry)| entry)
    }
}
