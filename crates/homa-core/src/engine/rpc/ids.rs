//! Look-up of RPCs by the id in a packet.

use hashbrown::hash_map::Entry;
use homa_wire::{AckEntry, RpcId};

use crate::addr::Path;
use crate::engine::peer::PeerIndex;
use crate::engine::rpc::client_hosts::ClientHosts;
use crate::engine::rpc::index::RpcIndex;
use crate::engine::rpc::{RpcTable, State};
#[cfg(any(test, feature = "check"))]
use crate::engine::short::View;
use crate::structures::OutOfMemory;
use crate::structures::hash::{Map, SeededState};
#[cfg(any(test, feature = "check"))]
use crate::structures::index::XorSet;

/// RPCs by their ids, which are in our own form: even at the client, odd at the server.
#[derive(Debug)]
pub(crate) struct Ids {
    calls: Map<u64, RpcIndex>,
    /// Requests by the peer that sent them.
    requests: Map<(PeerIndex, u64), RpcIndex>,
    /// Requests over raw IP by the address of their client.
    client_hosts: ClientHosts,
    /// Ids of calls given so far, see [`crate::engine::peer::PeerNumbers::first_id`].
    given: u64,
    /// The RPC that data came for last, if more of its message is to come: packets come in bursts.
    arriving: Option<RpcIndex>,
}

impl Ids {
    pub(crate) fn new(calls_seed: u64, requests_seed: u64, hosts_seed: u64) -> Self {
        Self {
            calls: Map::with_hasher(SeededState::new(calls_seed)),
            requests: Map::with_hasher(SeededState::new(requests_seed)),
            client_hosts: ClientHosts::new(hosts_seed),
            given: 0,
            arriving: None,
        }
    }

    /// The live RPC `id`, if a packet about it came along its path, at the end of which is `peer`.
    #[inline]
    pub(crate) fn find(
        &self,
        rpcs: &RpcTable,
        peer: Option<PeerIndex>,
        path: &Path,
        id: u64,
    ) -> Option<RpcIndex> {
        let peer = peer?;
        if let Some(rpc) =
            self.arriving.and_then(|index| rpcs.get(index)).filter(|rpc| rpc.id == id)
        {
            let is_it = rpc.peer == peer && rpc.path.local_port == path.local_port;
            if is_it && rpc.state() == State::Incoming {
                return self.arriving;
            }
        }
        self.search(rpcs, peer, path, id)
    }

    #[inline(never)]
    fn search(&self, rpcs: &RpcTable, peer: PeerIndex, path: &Path, id: u64) -> Option<RpcIndex> {
        if RpcId(id).is_server() {
            return self.requests.get(&(peer, id)).copied();
        }
        let index = self.calls.get(&id).copied()?;
        (rpcs.ends(index)? == (peer, path.local_port)).then_some(index)
    }

    /// The call of this id, whatever its peer.
    #[inline]
    pub(crate) fn call(&self, id: u64) -> Option<RpcIndex> {
        self.calls.get(&id).copied()
    }

    /// Whether a request of this id and peer is alive.
    #[inline]
    pub(crate) fn is_request(&self, peer: PeerIndex, id: u64) -> bool {
        self.requests.contains_key(&(peer, id))
    }

    /// The server RPC that an acknowledgement which came along `path` names. A Linux host keeps
    /// them per host: they may come from any of its ports and do not name the client's.
    pub(crate) fn find_acknowledged(
        &self,
        rpcs: &RpcTable,
        peer: Option<PeerIndex>,
        path: &Path,
        ack: &AckEntry,
    ) -> Option<RpcIndex> {
        let client_id = RpcId(ack.client_id);
        if client_id.is_server() {
            return None;
        }
        let id = client_id.of_server().0;
        let here = |index: &RpcIndex| {
            rpcs.ends(*index).is_some_and(|(_, local_port)| local_port == ack.server_port)
        };
        let of_peer = self.find(rpcs, peer, path, id).filter(here);
        of_peer.or_else(|| self.client_hosts.only(path, ack.server_port, id))
    }

    /// Whether a call has this id, whatever its peer.
    #[inline]
    pub(crate) fn is_call(&self, id: u64) -> bool {
        self.calls.contains_key(&id)
    }

    /// More data is to come for this RPC, or for none.
    #[inline]
    pub(crate) fn set_arriving(&mut self, index: Option<RpcIndex>) {
        self.arriving = index;
    }

    /// Makes room for a call.
    #[inline]
    pub(crate) fn try_reserve_call(&mut self) -> Result<(), OutOfMemory> {
        self.calls.try_reserve(1).map_err(|_| OutOfMemory)
    }

    /// Makes room for a request.
    #[inline]
    pub(crate) fn try_reserve_request(&mut self) -> Result<(), OutOfMemory> {
        self.requests.try_reserve(1).map_err(|_| OutOfMemory)?;
        self.client_hosts.try_reserve(1)
    }

    /// Enters a call under the next id of its peer, whose ids begin with `first`. Ids to one peer
    /// count up, also when it was forgotten meanwhile; their distance from those to another peer is
    /// secret.
    #[inline]
    pub(crate) fn give(&mut self, index: RpcIndex, first: u64) -> u64 {
        loop {
            let id = first.wrapping_add(self.given.wrapping_mul(2));
            self.given = self.given.wrapping_add(1);
            // Calls to two peers may meet by chance.
            if let Entry::Vacant(entry) = self.calls.entry(id) {
                entry.insert(index);
                return id;
            }
        }
    }

    /// Enters a request.
    #[inline]
    pub(crate) fn add_request(&mut self, index: RpcIndex, peer: PeerIndex, path: &Path, id: u64) {
        self.requests.insert((peer, id), index);
        self.client_hosts.insert(path, id, index);
    }

    #[inline]
    pub(crate) fn forget_call(&mut self, id: u64) {
        self.calls.remove(&id);
    }

    #[inline]
    pub(crate) fn forget_request(
        &mut self,
        index: RpcIndex,
        peer: PeerIndex,
        path: &Path,
        id: u64,
    ) {
        self.requests.remove(&(peer, id));
        self.client_hosts.remove(path, id, index);
    }

    /// Broken invariants.
    pub(crate) fn impossible(&self) -> u64 {
        self.client_hosts.impossible.count()
    }

    /// Each of the live RPCs is found by its id, and nothing else is.
    #[cfg(any(test, feature = "check"))]
    pub(crate) fn check<'a>(&self, live: impl Iterator<Item = View<'a>>) {
        let mut hosts = alloc::collections::BTreeMap::new();
        let (mut calls, mut requests) = (0_usize, 0_usize);
        for rpc in live {
            let index = Some(&rpc.index());
            if rpc.is_client() {
                if rpc.state() != State::Delivered {
                    calls += 1;
                    assert_eq!(self.calls.get(&rpc.id), index, "id of {rpc:?}");
                }
                continue;
            }
            requests += 1;
            assert_eq!(self.requests.get(&(rpc.peer, rpc.id)), index, "id of {rpc:?}");
            if rpc.path.carriage == crate::addr::Carriage::Ip {
                let key = ClientHosts::key(&rpc.path, rpc.path.local_port, rpc.id);
                hosts.entry(key).or_insert_with(XorSet::default).add(rpc.index());
            }
        }
        assert_eq!(self.calls.len(), calls, "ids of calls");
        assert_eq!(self.requests.len(), requests, "ids of requests");
        self.client_hosts.check(&hosts);
    }
}
