//! Choice of what leaves next.
//!
//! | file | what it decides |
//! | --- | --- |
//! | `transmit` | the order of control packets, GRANTs and data |
//! | `data` | the order of messages, retransmissions first |
//! | `pacer` | which message sends, and when |
//! | `backlog`, `reserve` | how much may wait in the queue of the host |
//! | `waiting` | which messages wait for room at their peer |
//! | `admission` | whether data may go to a peer now |
//! | `train` | what goes together |
//! | `control`, `control_queue` | what control packets say, which of them wait |
//! | `replies` | how packets about unknown RPCs are answered |
//! | `refusals` | how often the same is refused |
//! | `outgoing` | nothing: the state of one message |

pub(super) mod admission;
mod backlog;
pub(super) mod control;
pub(super) mod control_queue;
mod data;
pub(super) mod outgoing;
pub(super) mod pacer;
pub(super) mod refusals;
pub(super) mod replies;
mod reserve;
pub(super) mod train;
pub(super) mod transmit;
mod waiting;

use crate::config::Config;
use crate::engine::rpc::Rpc;
use crate::engine::rpc::index::RpcIndex;
use crate::engine::sender::backlog::Backlog;
use crate::engine::sender::pacer::Pacer;
use crate::structures::OutOfMemory;
use crate::structures::shared_heap::Positions;
use crate::time::Instant;

/// The order in which messages are sent.
#[derive(Debug)]
pub(crate) struct Sender {
    pacer: Pacer,
    backlog: Backlog,
    /// Where blocked RPCs lie in the queues of their peers.
    blocked_positions: Positions,
}

impl Sender {
    pub(crate) fn new(config: &Config) -> Self {
        let (pacer, backlog) = (Pacer::new(config), Backlog::new());
        Self { pacer, backlog, blocked_positions: Positions::default() }
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

    /// Enters a message of `length` bytes that has just begun and goes in one packet.
    #[inline(always)]
    pub(crate) fn queue(&mut self, index: RpcIndex, (length, birth): (u32, u64), config: &Config) {
        self.pacer.set(index, length, birth, length < config.output.defer_min_bytes);
    }

    /// A message of `length` bytes has left in one packet.
    #[inline]
    pub(crate) fn left(&mut self, index: RpcIndex, length: u32, config: &Config) {
        self.pacer.account(index, length, config);
        self.pacer.remove(index);
    }

    /// The best-ranked message, or the best that is short.
    #[inline]
    pub(crate) fn best(&self, only_short: bool) -> Option<RpcIndex> {
        self.pacer.best(only_short)
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

    /// Bytes that have not left the host, if the driver can tell.
    pub(crate) fn set_backlog(&mut self, now: Instant, bytes: Option<u64>) {
        self.backlog.told(now, bytes);
    }

    /// Whether data waits only because the driver has to tell how much of the last has left.
    #[inline]
    pub(crate) fn asks_backlog(&self, now: Instant) -> bool {
        !self.is_empty() && self.backlog.is_full(false) && now >= self.backlog.look_at()
    }

    /// Whether a clock or the driver says when data may leave.
    #[inline]
    fn is_limited(&self) -> bool {
        self.pacer.has_clock() || self.backlog.is_known()
    }

    /// When data may leave, or the driver is to be asked, if only data waits.
    #[inline]
    pub(crate) fn ready_at(&self, config: &Config) -> Instant {
        if !self.is_limited() {
            return Instant::ZERO;
        }
        let short = self.pacer.has_short();
        let paced = self.pacer.ready_at(short, config);
        if self.backlog.is_full(short) { paced.max(self.backlog.look_at()) } else { paced }
    }

    /// Whether long messages, or short ones, may leave now.
    fn may_leave(&self, short: bool, now: Instant, config: &Config) -> bool {
        now >= self.pacer.ready_at(short, config) && !self.backlog.is_full(short)
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
