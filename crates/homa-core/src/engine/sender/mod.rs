//! Choice of what leaves next.
//!
//! | file | what it decides |
//! | --- | --- |
//! | `transmit` | the order of control packets, GRANTs and data |
//! | `data` | the order of messages, retransmissions first |
//! | `pacer` | which message sends, and when |
//! | `waiting` | which messages wait for room at their peer |
//! | `admission` | whether data may go to a peer now |
//! | `train` | what goes together |
//! | `control`, `control_queue` | what control packets say, which of them wait |
//! | `replies` | how packets about unknown RPCs are answered |
//! | `refusals` | how often the same is refused |
//! | `outgoing` | nothing: the state of one message |

pub(super) mod admission;
pub(super) mod control;
pub(super) mod control_queue;
mod data;
pub(super) mod outgoing;
pub(super) mod pacer;
pub(super) mod refusals;
pub(super) mod replies;
pub(super) mod train;
pub(super) mod transmit;
mod waiting;

use crate::config::Config;
use crate::engine::rpc::Rpc;
use crate::engine::rpc::index::RpcIndex;
use crate::engine::sender::pacer::Pacer;
use crate::structures::OutOfMemory;
use crate::structures::shared_heap::Positions;
use crate::time::Instant;

/// The order in which messages are sent.
#[derive(Debug)]
pub(crate) struct Sender {
    pacer: Pacer,
    /// Where blocked RPCs lie in the queues of their peers.
    blocked_positions: Positions,
}

impl Sender {
    pub(crate) fn new(config: &Config) -> Self {
        Self { pacer: Pacer::new(config), blocked_positions: Positions::default() }
    }

    /// Covers RPCs below `limit`.
    pub(crate) fn try_reserve(&mut self, limit: usize) -> Result<(), OutOfMemory> {
        self.pacer.try_reserve(limit)?;
        self.blocked_positions.try_reserve(limit)
    }

    /// Enters an RPC into the output order, or takes it out, as its state demands.
    #[inline]
    pub(crate) fn schedule(&mut self, rpc: &Rpc, config: &Config) {
        self.pacer.follow(rpc, config);
    }

    /// Takes an RPC out of the output order.
    #[inline]
    pub(crate) fn forget(&mut self, index: RpcIndex) {
        self.pacer.remove(index);
    }

    /// Links run at so many Mbit/s, if that is known.
    pub(crate) fn set_link(&mut self, mbps: Option<u32>, config: &Config) {
        self.pacer.set_link(mbps, config);
    }

    /// When data may leave, if only data waits.
    #[inline]
    pub(crate) fn ready_at(&self, config: &Config) -> Instant {
        if self.pacer.has_short() { Instant::ZERO } else { self.pacer.ready_at(config) }
    }

    /// Whether no message is to be sent.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.pacer.is_empty()
    }

    #[cfg(any(test, feature = "check"))]
    pub(crate) fn contains(&self, index: RpcIndex) -> bool {
        self.pacer.contains(index)
    }

    #[cfg(any(test, feature = "check"))]
    pub(crate) fn is_blocked(&self, index: RpcIndex, peer: &crate::engine::peer::Peer) -> bool {
        peer.blocked.contains(&self.blocked_positions, index)
    }
}
