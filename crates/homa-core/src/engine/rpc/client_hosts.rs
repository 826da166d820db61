//! Server RPCs over raw IP by the address of their client, for acknowledgements that name no client
//! port.

use hashbrown::hash_map::Entry;

use crate::addr::{Carriage, Path, PeerKey};
use crate::engine::impossible::Impossible;
use crate::engine::rpc::index::RpcIndex;
use crate::structures::OutOfMemory;
use crate::structures::hash::{Map, SeededState};
use crate::structures::index::XorSet;

/// Address of a client with the server's port, and an id.
pub(super) type Key = (PeerKey, u64);

/// Finds the server RPC that a client host means by its id alone. Ids are unique per Linux host;
/// several processes of this implementation at one address choose theirs at random. Every operation
/// takes constant time, however many RPCs share an id.
#[derive(Debug)]
pub(crate) struct ClientHosts {
    /// RPCs of one client address, server port and id.
    entries: Map<Key, XorSet>,
    pub(super) impossible: Impossible,
}

impl ClientHosts {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            entries: Map::with_hasher(SeededState::new(seed)),
            impossible: Impossible::default(),
        }
    }

    /// Makes room for one more entry.
    pub(crate) fn try_reserve(&mut self, additional: usize) -> Result<(), OutOfMemory> {
        self.entries.try_reserve(additional).map_err(|_| OutOfMemory)
    }

    /// The key of an RPC at the server's `port` whose client has the address of `path`.
    pub(super) fn key(path: &Path, port: u16, id: u64) -> Key {
        (PeerKey { port, ..PeerKey::of(path) }, id)
    }

    /// Notes the server RPC with our form `id` that came along `path`.
    pub(crate) fn insert(&mut self, path: &Path, id: u64, index: RpcIndex) {
        if path.carriage == Carriage::Ip {
            self.entries.entry(Self::key(path, path.local_port, id)).or_default().add(index);
        }
    }

    /// Forgets an RPC that was inserted.
    pub(crate) fn remove(&mut self, path: &Path, id: u64, index: RpcIndex) {
        if path.carriage != Carriage::Ip {
            return;
        }
        let Entry::Occupied(mut entry) = self.entries.entry(Self::key(path, path.local_port, id))
        else {
            return self.impossible.found();
        };
        entry.get_mut().remove(index);
        if entry.get().is_empty() {
            entry.remove();
        }
    }

    /// The only RPC with our form `id` at `local_port` whose client has the address of `path`.
    /// `None` also if there are several: the packet is ambiguous.
    pub(crate) fn only(&self, path: &Path, local_port: u16, id: u64) -> Option<RpcIndex> {
        if path.carriage != Carriage::Ip {
            return None;
        }
        self.entries.get(&Self::key(path, local_port, id))?.only()
    }

    /// Compares with the RPCs that there are of each address, server port and id.
    #[cfg(any(test, feature = "check"))]
    pub(crate) fn check(&self, present: &alloc::collections::BTreeMap<Key, XorSet>) {
        assert_eq!(self.entries.len(), present.len(), "client addresses");
        for (key, rpcs) in present {
            assert_eq!(
                self.entries.get(key),
                Some(rpcs),
                "client address, server port and id {key:?}"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(client_port: u16, server_port: u16) -> Path {
        Path {
            remote: core::net::SocketAddr::from(([10, 0, 0, 1], client_port)),
            local_ip: None,
            local_port: server_port,
            interface: 0,
            carriage: Carriage::Ip,
        }
    }

    #[test]
    fn an_id_means_the_only_rpc_of_the_host_at_that_server_port() {
        let mut hosts = ClientHosts::new(1);
        hosts.insert(&path(40_000, 99), 3, 7.into());
        hosts.insert(&path(40_001, 98), 3, 8.into());
        assert_eq!(
            hosts.only(&path(50_000, 1), 99, 3),
            Some(7.into()),
            "from whatever port it comes"
        );
        assert_eq!(hosts.only(&path(50_000, 1), 98, 3), Some(8.into()));
        assert_eq!(hosts.only(&path(40_000, 99), 99, 5), None);
    }

    #[test]
    fn an_id_of_several_rpcs_means_none_until_one_is_left() {
        let mut hosts = ClientHosts::new(1);
        for (port, index) in [(1, 10), (2, 20), (3, 30)] {
            hosts.insert(&path(port, 99), 3, index.into());
        }
        assert_eq!(hosts.only(&path(1, 99), 99, 3), None);
        hosts.remove(&path(1, 99), 3, 10.into());
        hosts.remove(&path(3, 99), 3, 30.into());
        assert_eq!(hosts.only(&path(1, 99), 99, 3), Some(20.into()));
        hosts.remove(&path(2, 99), 3, 20.into());
        assert_eq!(hosts.only(&path(1, 99), 99, 3), None);
        assert!(hosts.entries.is_empty());
    }
}
