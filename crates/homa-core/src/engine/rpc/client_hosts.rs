//! Server RPCs over raw IP by the address of their client, for acknowledgements that name no client
//! port.

use core::net::IpAddr;

use crate::addr::{Carriage, Path};
use crate::engine::impossible::Impossible;
use crate::structures::OutOfMemory;
use crate::structures::hash::{Map, SeededState};

/// RPCs of one client address, server port and id.
#[derive(Clone, Copy, Debug, Default)]
struct Entry {
    count: u32,
    /// Exclusive or of their indices: with one RPC, its index.
    indices: u32,
}

/// Finds the server RPC that a client host means by its id alone. Ids are unique per Linux host;
/// several processes of this implementation at one address choose theirs at random. Every operation
/// takes constant time, however many RPCs share an id.
#[derive(Debug)]
pub(crate) struct ClientHosts {
    entries: Map<(IpAddr, u16, u64), Entry>,
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

    /// Notes the server RPC with our form `id` that came along `path`.
    pub(crate) fn insert(&mut self, path: &Path, id: u64, index: u32) {
        if path.carriage == Carriage::Ip {
            let entry = self.entries.entry(key(path, id)).or_default();
            entry.count = entry.count.saturating_add(1);
            entry.indices ^= index;
        }
    }

    /// Forgets an RPC that was inserted.
    pub(crate) fn remove(&mut self, path: &Path, id: u64, index: u32) {
        if path.carriage != Carriage::Ip {
            return;
        }
        let Some(entry) = self.entries.get_mut(&key(path, id)) else {
            return self.impossible.found();
        };
        entry.count = entry.count.saturating_sub(1);
        entry.indices ^= index;
        if entry.count == 0 {
            self.entries.remove(&key(path, id));
        }
    }

    /// The only RPC with our form `id` at `local_port` whose client has the address of `path`.
    /// `None` also if there are several: the packet is ambiguous.
    pub(crate) fn only(&self, path: &Path, local_port: u16, id: u64) -> Option<u32> {
        if path.carriage != Carriage::Ip {
            return None;
        }
        let entry = self.entries.get(&(path.remote.ip().to_canonical(), local_port, id))?;
        (entry.count == 1).then_some(entry.indices)
    }

    /// Compares with how many RPCs there are of each address, server port and id, and the exclusive
    /// or of their indices.
    #[cfg(any(test, feature = "check"))]
    pub(crate) fn check(
        &self,
        present: &alloc::collections::BTreeMap<(IpAddr, u16, u64), (u32, u32)>,
    ) {
        assert_eq!(self.entries.len(), present.len(), "client addresses");
        for (key, rpcs) in present {
            let entry = self.entries.get(key).map(|entry| (entry.count, entry.indices));
            assert_eq!(entry, Some(*rpcs), "client address, server port and id {key:?}");
        }
    }
}

fn key(path: &Path, id: u64) -> (IpAddr, u16, u64) {
    (path.remote.ip().to_canonical(), path.local_port, id)
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
        hosts.insert(&path(40_000, 99), 3, 7);
        hosts.insert(&path(40_001, 98), 3, 8);
        assert_eq!(hosts.only(&path(50_000, 1), 99, 3), Some(7), "from whatever port it comes");
        assert_eq!(hosts.only(&path(50_000, 1), 98, 3), Some(8));
        assert_eq!(hosts.only(&path(40_000, 99), 99, 5), None);
    }

    #[test]
    fn an_id_of_several_rpcs_means_none_until_one_is_left() {
        let mut hosts = ClientHosts::new(1);
        for (port, index) in [(1, 10), (2, 20), (3, 30)] {
            hosts.insert(&path(port, 99), 3, index);
        }
        assert_eq!(hosts.only(&path(1, 99), 99, 3), None);
        hosts.remove(&path(1, 99), 3, 10);
        hosts.remove(&path(3, 99), 3, 30);
        assert_eq!(hosts.only(&path(1, 99), 99, 3), Some(20));
        hosts.remove(&path(2, 99), 3, 20);
        assert_eq!(hosts.only(&path(1, 99), 99, 3), None);
        assert!(hosts.entries.is_empty());
    }
}
