//! What operations and events work on, besides the shard.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::Waker;

use homa_core::{Carriage, Path, RpcKey};

use super::accept::AcceptQueue;
use super::room::Room;
use super::rpc::{Role, Rpc, RpcState};

/// The library's side of the state behind the lock.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    /// By index of the engine's key.
    rpcs: Vec<Option<(RpcKey, Arc<Rpc>)>>,
    /// Requests that arrived when the accept queue was full.
    pub(crate) not_queued: VecDeque<Arc<Rpc>>,
}

impl Registry {
    pub(crate) fn insert(&mut self, key: RpcKey, rpc: Arc<Rpc>) {
        let index = key.index as usize;
        if self.rpcs.len() <= index {
            self.rpcs.resize_with(index + 1, || None);
        }
        if let Some(entry) = self.rpcs.get_mut(index) {
            *entry = Some((key, rpc));
        }
    }

    pub(crate) fn get(&self, key: RpcKey) -> Option<&Arc<Rpc>> {
        let entry = self.rpcs.get(key.index as usize)?.as_ref()?;
        (entry.0 == key).then_some(&entry.1)
    }

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
    pub(crate) wakes: &'a mut Vec<Waker>,
    pub(crate) accept: &'a AcceptQueue,
    pub(crate) calls: &'a Room,
    pub(crate) answers: &'a Room,
    pub(crate) local_port: u16,
    /// How packets travel.
    pub(crate) carriage: Carriage,
}

impl Context<'_> {
    /// Gives back the room that an RPC's outgoing message took.
    pub(crate) fn release(&mut self, rpc: &Rpc) {
        self.release_charge(rpc.role, &mut rpc.lock());
    }

    pub(crate) fn release_charge(&mut self, role: Role, state: &mut RpcState) {
        if let Some(bytes) = state.charge_bytes.take() {
            match role {
                Role::Client => self.calls.leave(bytes, self.wakes),
                Role::Server => self.answers.leave(bytes, self.wakes),
            }
        }
    }

    pub(crate) fn path_to(&self, remote: SocketAddr) -> Path {
        Path {
            remote,
            local_ip: None,
            local_port: self.local_port,
            interface: 0,
            carriage: self.carriage,
        }
    }
}

/// A length that the engine has already limited to 2^30.
pub(crate) fn length_u32(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}
