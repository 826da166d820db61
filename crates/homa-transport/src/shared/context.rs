//! What operations and events work on, besides the shard.

use std::net::SocketAddr;
use std::sync::Arc;

use homa_core::{Path, RpcKey};

use super::core::Core;
use super::rpc::Rpc;
use super::turns::Turns;
use super::wakes::Wakes;

/// The library's side of the state behind the lock.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    /// By index of the engine's key.
    rpcs: Vec<Option<(RpcKey, Arc<Rpc>)>>,
    /// Requests that arrived when the accept queue had no room for them.
    pub(crate) not_queued: Turns<Arc<Rpc>>,
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

    #[inline]
    pub(crate) fn remove(&mut self, key: RpcKey) -> Option<Arc<Rpc>> {
        let entry = self.rpcs.get_mut(key.index as usize)?;
        if entry.as_ref()?.0 != key {
            return None;
        }
        entry.take().map(|(_, rpc)| rpc)
    }
}

/// Borrowed for the length of one turn.
pub(crate) struct Context<'a> {
    pub(crate) registry: &'a mut Registry,
    /// Woken after the lock is released.
    pub(crate) wakes: &'a mut Wakes,
    /// What needs no lock.
    pub(crate) core: &'a Core,
}

impl Context<'_> {
    /// Gives back the room that an RPC's outgoing message took.
    pub(crate) fn release(&mut self, rpc: &Rpc) {
        self.core.release_charge(rpc.role, &mut rpc.lock(), self.wakes);
    }

    pub(crate) fn path_to(&self, remote: SocketAddr) -> Path {
        Path {
            remote,
            local_ip: None,
            local_port: self.core.local_addr.port(),
            interface: 0,
            carriage: self.core.carriage,
        }
    }
}

/// A length that the engine has already limited to 2^30.
pub(crate) fn length_u32(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}
