//! The general form of an RPC in short form.

use super::{ShortRpc, Stage};
use crate::addr::Path;
use crate::engine::Engine;
use crate::engine::peer::PeerTable;
use crate::engine::receiver::incoming::Incoming;
use crate::engine::rpc::index::{RpcIndex, RpcPlace};
use crate::engine::rpc::{Role, Rpc, RpcTable, State};
use crate::event::RpcKey;

impl ShortRpc {
    /// The RPC that would be there if it had never been short; `path` is that of its peer.
    pub(crate) fn expanded(&self, place: RpcPlace, path: &Path) -> Rpc {
        let out = &self.outgoing;
        let mut rpc = Rpc::new(place, self.role(), self.id, path, self.peer, out.birth, self.since);
        rpc.peer_incarnation = self.peer_incarnation;
        rpc.link = self.link;
        if self.role() == Role::Client {
            rpc.call.cookie = self.cookie;
        }
        if self.rx_length > 0 {
            let consumed = if self.taken { self.rx_length } else { 0 };
            rpc.rx = Incoming::whole(self.rx_length, self.rx_flags, consumed);
        }
        if out.length > 0 {
            rpc.tx.begin(out.length, out.length, out.length);
            rpc.tx.set_flags(out.flags);
            rpc.resend.begin(out.interval_ns);
        }
        if matches!(self.stage, Stage::Sent | Stage::Delivered | Stage::Over) {
            rpc.tx.leave_whole(out.segment_bytes, out.first_priority, self.since);
        }
        rpc.tx.credit = out.credit;
        self.expand_state(&mut rpc);
        rpc
    }

    /// The state of the general form, and its events.
    fn expand_state(&self, rpc: &mut Rpc) {
        let states: &[State] = match (self.role(), self.stage) {
            (Role::Client, Stage::Delivered) => &[State::Incoming, State::Delivered],
            (Role::Client, _) => &[],
            (Role::Server, Stage::InService) => &[State::InService],
            (Role::Server, Stage::Over) => &[State::InService, State::Outgoing, State::Dead],
            (Role::Server, _) => &[State::InService, State::Outgoing],
        };
        states.iter().for_each(|state| rpc.go_on(*state));
        if matches!(self.stage, Stage::Delivered | Stage::Over) {
            rpc.tx.release_all();
        }
        match self.stage {
            Stage::InService if self.queued => rpc.pending.set_request_whole(),
            Stage::Delivered if self.queued => rpc.pending.set_response_whole(),
            Stage::Over => rpc.pending.set_response_delivered(),
            _ => rpc.pending.set_announced(),
        }
    }
}

/// An RPC in its general form, for checks: one in short form is expanded aside. The address of its
/// peer, which no invariant is about, is left out.
#[cfg(any(test, feature = "check"))]
#[derive(Debug)]
pub(crate) enum View<'a> {
    General(&'a Rpc),
    Expanded(alloc::boxed::Box<Rpc>),
}

#[cfg(any(test, feature = "check"))]
impl View<'_> {
    pub(crate) fn of_short(rpc: &ShortRpc, place: RpcPlace) -> Self {
        let path = Path {
            remote: core::net::SocketAddr::from(([0, 0, 0, 0], 0)),
            local_ip: None,
            local_port: rpc.local_port,
            interface: 0,
            carriage: crate::addr::Carriage::Udp,
        };
        Self::Expanded(alloc::boxed::Box::new(rpc.expanded(place, &path)))
    }
}

#[cfg(any(test, feature = "check"))]
impl core::ops::Deref for View<'_> {
    type Target = Rpc;

    fn deref(&self) -> &Rpc {
        match self {
            Self::General(rpc) => rpc,
            Self::Expanded(rpc) => rpc,
        }
    }
}

impl RpcTable {
    /// Expands an RPC in short form that is not over. Nothing happens to others.
    #[cold]
    #[inline(never)]
    fn expand_short(&mut self, index: RpcIndex, peers: &PeerTable) {
        let expanded = self.short(index).filter(|short| short.stage != Stage::Over);
        let Some(peer) = expanded.and_then(|short| peers.known(short.peer)) else {
            return;
        };
        if let Some(general) = self.expanded(index, &peer.path) {
            self.replace(index, general);
        }
    }

    /// Makes sure that an RPC which is not over is in its general form.
    #[inline]
    pub(crate) fn expand(&mut self, index: RpcIndex, peers: &PeerTable) {
        if self.short(index).is_some() {
            self.expand_short(index, peers);
        }
    }
}

impl Engine {
    /// Makes sure that an RPC which is not over is in its general form.
    #[inline]
    pub(crate) fn expand(&mut self, index: RpcIndex) {
        self.rpcs.expand(index, &self.peers);
    }

    /// The same for an RPC that the caller may still use.
    #[inline]
    pub(crate) fn expand_key(&mut self, rpc: RpcKey) {
        if let Some(index) = self.rpcs.resolve(rpc) {
            self.expand(index);
        }
    }

    /// Expands the chosen ones of the RPCs in short form, as if something unusual had happened to
    /// them. Nothing that is sent or told changes: for what looks at all RPCs, and for tests.
    pub fn expand_short_forms(&mut self, mut chosen: impl FnMut(RpcKey) -> bool) {
        for index in self.rpcs.indices() {
            if let Some((rpc, _)) = self.rpcs.keyed_short(index) {
                if chosen(rpc) {
                    self.expand(index);
                }
            }
        }
    }
}
