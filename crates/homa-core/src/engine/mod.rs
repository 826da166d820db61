//! The engine: all RPCs of one shard, and the calls that move them. See the crate's documentation
//! for the contract.
//!
//! | room | what it decides |
//! | --- | --- |
//! | `api` | what the application asks for: requests, responses, aborts |
//! | `dispatch` | what a received packet changes |
//! | `receiver` | what senders may send to us: grants, memory |
//! | `sender` | what leaves next: new data, retransmissions, control packets |
//! | `recovery` | what follows from silence: RESEND, probes, giving up |
//! | `peer` | what is known of the other ends, who a packet is from, what a host's share is |
//! | `ctx` | nothing: the context that all rooms share |
//! | `rpc` | the states of an RPC, how it begins and ends, the events about it |
//! | `short` | the same of an RPC of one packet each way, as long as nothing unusual happens |
//! | `profile` | nothing: the profiles of packets |
//! | `impossible` | what becomes of a broken invariant |

mod api;
#[cfg(any(test, feature = "check"))]
mod check;
mod clock;
mod ctx;
mod dispatch;
mod impossible;
#[cfg(test)]
mod invariants;
mod peer;
mod ports;
mod profile;
mod receiver;
mod recovery;
mod rpc;
mod sender;
mod short;
mod stats;

use crate::addr::Path;
use crate::budget::HostBudget;
use crate::config::{Config, ConfigError, PeerSettings};
use crate::engine::ctx::Ctx;
use crate::engine::peer::PeerTable;
use crate::engine::peer::shares::HostShares;
use crate::engine::peer::unvalidated::Unvalidated;
use crate::engine::ports::Ports;
use crate::engine::receiver::Receiver;
use crate::engine::rpc::RpcTable;
use crate::engine::rpc::ids::Ids;
use crate::engine::sender::Sender;
use crate::engine::sender::replies::Replies;
use crate::event::{Event, RpcKey};
use crate::finished::Finished;
use crate::secret::{Secret, Seed};
use crate::time::Instant;
use alloc::collections::VecDeque;

pub use api::{RequestOptions, ResponseOptions, RpcError, SendError};
#[cfg(any(test, feature = "check"))]
pub use check::HeldBytes;
pub use receiver::incoming::PIECE_BYTES;
pub use rpc::introspect::RpcInfo;
pub use stats::Stats;

/// Ports one engine can open.
const PORTS_MAX: usize = 65_535;

/// How a port behaves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PortOptions {
    /// Requests are accepted. Otherwise only calls can be made from the port.
    pub serve: bool,
    /// Requests are read as streams from the start, see [`Engine::set_streaming`].
    pub streaming_requests: bool,
}

impl PortOptions {
    /// A port that accepts requests.
    pub const SERVE: Self = Self { serve: true, streaming_requests: false };
    /// A port that only makes calls.
    pub const CLIENT: Self = Self { serve: false, streaming_requests: false };

    /// The same with requests read as streams.
    #[must_use]
    pub const fn with_streaming_requests(self) -> Self {
        Self { streaming_requests: true, ..self }
    }
}

/// Why a port could not be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PortError {
    /// It is open in this engine already.
    InUse,
    /// It was drained and closed: a request that was refused then must not be executed now.
    Drained,
    /// No memory for it.
    OutOfMemory,
}

impl core::fmt::Display for PortError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::InUse => "the port is in use",
            Self::Drained => "the port was drained",
            Self::OutOfMemory => "out of memory",
        })
    }
}

impl core::error::Error for PortError {}

/// The protocol state machine of one shard. See the crate's documentation for the contract.
#[derive(Debug)]
pub struct Engine {
    ctx: Ctx,
    ports: Ports,

    rpcs: RpcTable,
    ids: Ids,
    finished: Finished,
    /// Shares of the client hosts in the RPCs served and the unacknowledged responses.
    shares: HostShares,

    peers: PeerTable,
    unvalidated: Unvalidated,

    receiver: Receiver,
    sender: Sender,

    /// Server RPCs with a deferred acknowledgement, see [`Engine::settle`].
    late_acks: VecDeque<RpcKey>,

    replies: Replies,
}

impl Engine {
    /// An engine without ports. `seed` drives all its random choices (RPC ids, incarnation,
    /// hashes): true randomness outside tests, see [`Seed`].
    ///
    /// # Errors
    /// The first setting of `config` out of its range.
    pub fn new(
        config: Config,
        budget: HostBudget,
        seed: impl Into<Seed>,
    ) -> Result<Self, ConfigError> {
        config.validate()?;
        let secret = Secret::new(seed.into());
        let [
            ports,
            call_ids,
            request_ids,
            finished,
            peers,
            peer_names,
            senders,
            client_hosts,
            memory,
        ] = [0, 1, 2, 3, 4, 5, 6, 7, 8].map(|table| secret.hash_seed(table));
        Ok(Self {
            ports: Ports::new(ports),
            rpcs: RpcTable::default(),
            ids: Ids::new(call_ids, request_ids, client_hosts),
            finished: Finished::new(
                config.recovery.finished_memory,
                config.fixed.finished_max as usize,
                finished,
            ),
            shares: HostShares::new(
                config.peers.max,
                config.responses.unacknowledged_bytes,
                recovery::unacknowledged::ack_intervals_ns(&config),
            ),
            peers: PeerTable::new(secret, peers, peer_names),
            unvalidated: Unvalidated::default(),
            receiver: Receiver::new(&config, budget, [senders, memory]),
            sender: Sender::new(&config),
            late_acks: VecDeque::with_capacity(rpc::acknowledged::LATE_ACKS_MAX),
            replies: Replies::NONE,
            ctx: Ctx::new(config),
        })
    }

    /// The settings in force.
    pub fn config(&self) -> &Config {
        &self.ctx.config
    }

    /// Opens a port.
    ///
    /// # Errors
    /// The port is open already or was drained, or memory is short.
    pub fn bind_port(&mut self, port: u16, options: PortOptions) -> Result<(), PortError> {
        self.ports.open(port, options)
    }

    /// Gives one peer settings of its own and keeps its record. `false`: the peer table is full.
    pub fn set_peer(&mut self, now: Instant, path: Path, settings: PeerSettings) -> bool {
        let Some(index) = self.peer_or_new(now, &path) else {
            return false;
        };
        let Some(peer) = self.peers.known_mut(index) else {
            return false;
        };
        peer.set_settings(settings);
        true
    }

    /// Capacity of the driver's receive buffer, in payload bytes of packets of an Ethernet MTU;
    /// about half of it is granted ahead at most.
    pub fn set_receive_capacity(&mut self, bytes: u64) {
        self.receiver.set_capacity(bytes);
    }

    /// The path to `remote` carries IP packets of at most `mtu` bytes; the link runs at
    /// `link_mbps`, if known. Port 0 stands for all peers at that IP address, as in reports about
    /// packets that are not quoted. Nothing happens for an unknown peer.
    pub fn path_changed(&mut self, now: Instant, path: Path, mtu: u32, link_mbps: Option<u32>) {
        self.ctx.tick(now, &mut self.peers);
        if link_mbps.is_some() {
            self.sender.set_link(link_mbps, &self.ctx.config);
            self.receiver.set_link(link_mbps);
        }
        self.peers.set_mtu(&path, mtu, &mut self.ctx);
    }

    /// Data comes at `mbps` 10^6 bit/s at most, if that is known: how long windows have to be. For
    /// drivers whose output needs no clock; others say it by [`Engine::path_changed`].
    pub fn set_incoming_link(&mut self, mbps: Option<u32>) {
        self.receiver.set_link(mbps);
    }

    /// Bytes handed over that have not left the host, as the driver knows; `None`: it cannot tell.
    /// Once told, the engine hands over no more than the queue of the host needs, and asks again
    /// ([`Engine::asks_tx_backlog`]).
    pub fn set_tx_backlog(&mut self, now: Instant, bytes: Option<u64>) {
        self.sender.set_backlog(now, bytes);
    }

    /// Whether data waits until [`Engine::set_tx_backlog`] tells what has left meanwhile. To be
    /// asked when [`Engine::poll_transmit`] has nothing more.
    #[inline]
    pub fn asks_tx_backlog(&self, now: Instant) -> bool {
        self.sender.asks_backlog(now)
    }

    /// The next thing to tell the application.
    #[inline]
    pub fn poll_event(&mut self) -> Option<Event> {
        self.ctx.events.pop(&mut self.rpcs, &self.peers)
    }

    /// Counters and present sizes.
    pub fn stats(&self) -> Stats {
        let tables = [&self.rpcs.impossible, &self.shares.impossible, &self.peers.impossible];
        let counts = tables.iter().map(|table| table.count());
        let others = self.ids.impossible().saturating_add(self.receiver.impossible());
        Stats {
            live_rpcs: self.rpcs.len() as u64,
            live_peers: self.peers.len() as u64,
            finished_entries: self.finished.len() as u64,
            receive_memory_bytes: self.receiver.memory_bytes(),
            incoming_bytes: self.receiver.incoming_bytes(),
            impossible: counts.fold(others, u64::saturating_add),
            ..self.ctx.stats
        }
    }
}
