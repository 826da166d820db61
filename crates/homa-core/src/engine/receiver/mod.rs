//! Grants and receive memory.
//!
//! | file | what it decides |
//! | --- | --- |
//! | `messages` | how the state of an incoming message begins, goes on and ends |
//! | `grant` | whom to grant, how much, at which priority |
//! | `limits` | how much may be on its way to this host |
//! | `memory` | for which messages memory is reserved |
//! | `unallocated` | who is next when memory comes free |
//! | `resends` | how much is requested again at a time |
//! | `reactions` | when a sender loses its place for not reacting |
//! | `own_cutoffs` | at which priority senders send without a grant |
//! | `packets` | what GRANTs and RESENDs say when they leave |
//! | `incoming` | nothing: the state of one message |

pub(super) mod grant;
mod held;
pub(super) mod incoming;
mod limits;
pub(super) mod memory;
mod messages;
mod own_cutoffs;
mod packets;
mod reactions;
mod refused;
mod resends;
pub(super) mod unallocated;

use crate::budget::HostBudget;
use crate::config::Config;
use crate::engine::receiver::grant::Granter;
use crate::engine::receiver::incoming::Incoming;
use crate::engine::receiver::limits::{HostShare, ReceiveBuffer};
use crate::engine::receiver::memory::Memory;
use crate::engine::receiver::own_cutoffs::OwnCutoffs;
use crate::engine::receiver::resends::RecentResends;
use crate::engine::receiver::unallocated::Unallocated;
use crate::engine::rpc::{Rpc, State};
use crate::structures::OutOfMemory;
use crate::time::Instant;

/// All that decides what senders may send.
#[derive(Debug)]
pub(crate) struct Receiver {
    granter: Granter,
    memory: Memory,
    unallocated: Unallocated,
    buffer: ReceiveBuffer,
    host: HostShare,
    recent_resends: RecentResends,
    cutoffs: OwnCutoffs,
    /// How fast data can come, as the driver knows.
    link_mbps: Option<u32>,
    /// When DATA last came, of whatever message.
    data_at: Instant,
}

impl Receiver {
    pub(crate) fn new(config: &Config, budget: HostBudget, seeds: [u64; 2]) -> Self {
        let [sender_seed, memory_seed] = seeds;
        let longest = config.limits.longest();
        let largest = Incoming::new(longest, 0, 0).footprint(longest);
        Self {
            granter: Granter::new(config, sender_seed),
            memory: Memory::new(config.limits.receive_memory_bytes, largest, memory_seed),
            unallocated: Unallocated::default(),
            buffer: ReceiveBuffer::default(),
            host: HostShare::new(budget),
            recent_resends: RecentResends::default(),
            cutoffs: OwnCutoffs::new(config),
            link_mbps: None,
            data_at: Instant::ZERO,
        }
    }

    /// Covers RPCs below `limit`.
    pub(crate) fn try_reserve(&mut self, limit: usize) -> Result<(), OutOfMemory> {
        self.granter.try_reserve(limit)?;
        self.unallocated.try_reserve(limit)
    }

    /// Whether data is expected, or memory for it.
    #[inline]
    pub(crate) fn expects_data(&self) -> bool {
        self.granter.total_incoming() > 0 || !self.unallocated.is_empty()
    }

    /// Whether there are grants to decide on or to send.
    #[inline]
    pub(crate) fn has_work(&self) -> bool {
        self.granter.has_work()
    }

    /// Bytes that senders may send and have not.
    pub(crate) fn incoming_bytes(&self) -> u64 {
        self.granter.total_incoming()
    }

    /// Memory reserved, in bytes.
    pub(crate) fn memory_bytes(&self) -> u64 {
        self.memory.used()
    }

    /// Broken invariants.
    pub(crate) fn impossible(&self) -> u64 {
        let tables =
            [&self.granter.impossible, &self.memory.impossible, &self.unallocated.impossible];
        tables.iter().map(|table| table.count()).fold(0, u64::saturating_add)
    }

    /// DATA has come, of whatever message.
    #[inline]
    pub(crate) fn note_data(&mut self, now: Instant) {
        self.data_at = now;
    }

    /// A GRANT has to be sent for the message of `rpc`, again perhaps.
    pub(crate) fn mark_due(&mut self, rpc: &mut Rpc) {
        self.granter.mark_due(rpc);
    }

    /// When data last moved a message that holds the reserved slot while others wait for memory;
    /// control packets of its sender do not count.
    pub(crate) fn held_up_since(&self, rpc: &Rpc) -> Option<Instant> {
        let holds = rpc.state() == State::Incoming && self.memory.reserved_by() == Some(rpc.key());
        (holds && !self.unallocated.is_empty()).then_some(rpc.rx.moved_at)
    }

    /// Cutoffs that senders are to use.
    #[inline]
    pub(crate) fn cutoffs(&self) -> &OwnCutoffs {
        &self.cutoffs
    }

    /// Cutoffs that senders are to use.
    pub(crate) fn cutoffs_mut(&mut self) -> &mut OwnCutoffs {
        &mut self.cutoffs
    }
}

#[cfg(any(test, feature = "check"))]
mod check {
    use super::Receiver;
    use crate::config::Config;
    use crate::engine::rpc::index::RpcIndex;
    use crate::engine::rpc::{Rpc, RpcTable, State};

    impl Receiver {
        /// Reservations belong to live messages, and grants keep to their limits.
        pub(crate) fn check(&self, rpcs: &RpcTable, config: &Config) {
            self.granter.check_invariants(rpcs, config);
            let live = || rpcs.iter().filter(|rpc| rpc.state() != State::Dead);
            let reserved: u64 = live().map(|rpc| rpc.rx.reserved()).sum();
            assert_eq!(self.memory.used(), reserved, "receive memory");
            let unvalidated: u64 = live().map(|rpc| rpc.rx.held.unvalidated_bytes).sum();
            assert_eq!(
                self.memory.unvalidated(),
                unvalidated,
                "receive memory of unvalidated clients"
            );
            assert!(self.memory.used() <= self.memory.limit(), "more memory than there is");
            self.memory.check_hosts(live());
            let reserved_by = self.memory.reserved_by().map(|key| rpcs.resolve(key));
            let lives = |index| rpcs.view(index).is_some_and(|rpc| rpc.state() != State::Dead);
            let is_there = reserved_by.is_none_or(|index| index.is_some_and(lives));
            assert!(is_there, "the holder of the reserved slot is over");
            for rpc in rpcs.iter() {
                self.check_message(&rpc);
            }
        }

        fn check_message(&self, rpc: &Rpc) {
            let (rx, dead) = (&rpc.rx, rpc.state() == State::Dead);
            let waits = self.unallocated.contains(rpc.index(), rx.held.host);
            assert_eq!(waits, rx.unallocated && !dead, "unallocated: {rpc:?}");
            let (received, contiguous) = (rx.data.received(), rx.data.contiguous());
            let ordered =
                rx.consumed <= contiguous && contiguous <= received && received <= rx.length();
            assert!(ordered, "incoming message: {rpc:?}");
            let granted = rx.granted_told <= rx.granted && rx.granted <= rx.length();
            assert!(granted, "grants: {rpc:?}");
            let withheld = rx.granting.is_passed_over() || rx.unvalidated;
            let told = rx.granted_told == rx.granted || rx.granting.is_due() || withheld;
            let comes = rpc.state() == State::Incoming;
            assert!(!comes || told, "nobody tells what is granted: {rpc:?}");
            let reserved = rx.unallocated
                || rx.unresponsive
                || rx.held.upto >= rx.granted.max(rx.data.highest());
            assert!(!comes || reserved, "granted without memory: {rpc:?}");
        }

        /// Breaks what holds of those that wait for memory.
        #[cfg(test)]
        pub(crate) fn break_unallocated(&mut self) {
            self.unallocated.set_apart(None);
        }

        pub(crate) fn is_unallocated(&self, index: RpcIndex) -> bool {
            self.unallocated.contains(index, None)
        }

        /// Whether something looks at the message of `rpc` again: its timer (`timed`), or what
        /// decides on grants.
        pub(crate) fn watches(&self, rpc: &Rpc, timed: bool, config: &Config) -> bool {
            match &rpc.rx {
                rx if rx.unallocated => timed && (self.memory.used() > 0 || self.memory.freed),
                rx if rx.awaits_data() => timed || rx.granting.is_due(),
                _ => self.granter.watches(rpc, config, &self.memory),
            }
        }
    }
}
