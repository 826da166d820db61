//! The RPCs that the engine knows, by its key.

use std::sync::Arc;

use homa_core::RpcKey;

use super::rpc::Rpc;
use super::singles::Singles;
use super::turns::Turns;

/// The library's side of the state behind the lock.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    /// By index of the engine's key.
    rpcs: Vec<Option<(RpcKey, Arc<Rpc>)>>,
    /// Requests that arrived when the accept queue had no room for them.
    pub(crate) not_queued: Turns<Arc<Rpc>>,
    /// RPCs of calls that go both ways at once, while the other one is not here.
    pub(crate) single: Singles,
}

impl Registry {
    #[inline]
    pub(crate) fn insert(&mut self, key: RpcKey, rpc: Arc<Rpc>) {
        let index = key.index as usize;
        if self.rpcs.len() <= index {
            self.rpcs.resize_with(index + 1, || None);
        }
        if let Some(entry) = self.rpcs.get_mut(index) {
            *entry = Some((key, rpc));
        }
    }

    #[inline]
    pub(crate) fn get(&self, key: RpcKey) -> Option<&Arc<Rpc>> {
        let entry = self.rpcs.get(key.index as usize)?.as_ref()?;
        (entry.0 == key).then_some(&entry.1)
    }

    /// All RPCs.
    pub(crate) fn rpcs(&self) -> impl Iterator<Item = &Arc<Rpc>> {
        self.rpcs.iter().flatten().map(|(_, rpc)| rpc)
    }

    #[inline]
    pub(crate) fn remove(&mut self, key: RpcKey) -> Option<Arc<Rpc>> {
        let entry = self.rpcs.get_mut(key.index as usize)?;
        if entry.as_ref()?.0 != key {
            return None;
        }
        entry.take().map(|(_, rpc)| rpc)
    }
}
