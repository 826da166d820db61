//! Receiver-driven flow control: whom to grant, how much, at which priority
//! (docs/spec/protocol.md §6; SIGCOMM'18 §3.3-3.5).
//!
//! At most `grants.max_overcommit` messages are *active*; the others wait in a queue per sender
//! address, and senders wait in the order of their best message. All ranks come from live values.
//! Work per call is logarithmic in the number of messages, plus a scan of the few active ones.
//!
//! Grants to an unresponsive sender are wasted. Unvalidated clients count as one sender together,
//! with one place at most, behind all others. A message whose sender does not react for a few round
//! trips is passed over: others get its place and what it was granted counts no more, until data of
//! it comes.
//!
//! No sender has all of `max_incoming`. It is granted little more than half. Of what its messages
//! announce, which costs it a packet each, as much counts as the window of a message when all
//! places are taken.

#[cfg(any(test, feature = "check"))]
mod check;
pub(super) mod message;
mod policy;
mod senders;

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::net::IpAddr;

use self::message::{OnItsWay, Place};
use self::policy::{Candidate, FifoShare, Rank, Room, Wants};
pub(super) use self::policy::{needed_ns, round_trip_bytes};
use self::senders::{Sender, SenderIndex, slot_of};
use crate::config::Config;
use crate::engine::impossible::Impossible;
use crate::engine::receiver::incoming::PIECE_BYTES;
use crate::engine::receiver::memory::Memory;
use crate::engine::rpc::index::RpcIndex;
use crate::engine::rpc::{Rpc, RpcTable, State};
use crate::event::RpcKey;
use crate::priority::Priority;
use crate::structures::OutOfMemory;
use crate::structures::hash::{Map, SeededState};
use crate::structures::heap::IndexedHeap;
use crate::structures::shared_heap::Positions;
use crate::time::Instant;

/// Limits of a grant decision besides the configuration.
#[derive(Clone, Copy, Debug)]
pub(crate) struct GrantLimits {
    pub(super) now: Instant,
    /// Bytes divided into windows: `grants.max_incoming_bytes`.
    pub(super) max_incoming: u64,
    /// Bytes on their way at most: the same, capped by the receive buffer.
    pub(super) incoming_cap: u64,
    /// Bytes that a window keeps on their way at least.
    pub(super) kept_min: u64,
    /// The same for a peer whose round trip is not known, if windows follow round trips.
    pub(super) kept_unknown: Option<u32>,
    /// Grants smaller than this can wait while as much is on its way.
    pub(super) step: u64,
    /// Bytes that other shards of this host expect.
    pub(super) others_incoming: u64,
    /// Lowest priority for unscheduled data; that below is the highest for scheduled data.
    pub(super) min_unscheduled_priority: Priority,
}

/// Grant management of one engine.
#[derive(Debug)]
pub(crate) struct Granter {
    active: Vec<RpcIndex>,
    senders: Vec<Option<Sender>>,
    free_senders: Vec<SenderIndex>,
    sender_by_ip: Map<Option<IpAddr>, SenderIndex>,
    /// Senders with queued messages that may have a place: fewest active first, then by their best
    /// message.
    waiting_senders: IndexedHeap<SenderIndex, (u32, Rank)>,
    queue_positions: Positions,
    /// Managed messages by age, for the FIFO share. Unvalidated clients have none.
    by_birth: IndexedHeap<RpcIndex, u64>,
    /// Messages to look at, each at most once (`Granting::to_check`).
    checks: VecDeque<RpcIndex>,
    /// Messages with a GRANT to send, each at most once (`Granting::due`).
    due: VecDeque<RpcIndex>,
    /// Bytes on their way, of all senders.
    total_incoming: u64,
    /// The window of a message when all places are taken. Windows leave as much free.
    window_min: u64,
    /// Bytes that were counted as on their way and have arrived, of all messages.
    arrived: u64,
    /// When the last of them did.
    arrived_at: Instant,
    /// The message that holds the memory set aside, see [`Memory`].
    reserved_by: Option<RpcKey>,
    fifo_share: FifoShare,
    /// Room may have appeared for memory-blocked messages.
    retry_blocked: bool,
    pub(super) impossible: Impossible,
}

impl Granter {
    pub(crate) fn new(config: &Config, seed: u64) -> Self {
        Self {
            active: Vec::with_capacity(usize::from(config.grants.max_overcommit)),
            senders: Vec::new(),
            free_senders: Vec::new(),
            sender_by_ip: Map::with_hasher(SeededState::new(seed)),
            waiting_senders: IndexedHeap::new(),
            queue_positions: Positions::default(),
            by_birth: IndexedHeap::new(),
            checks: VecDeque::new(),
            due: VecDeque::new(),
            total_incoming: 0,
            window_min: policy::window_min(
                u64::from(config.grants.max_incoming_bytes),
                config.grants.max_overcommit,
            ),
            arrived: 0,
            arrived_at: Instant::ZERO,
            reserved_by: None,
            fifo_share: FifoShare::default(),
            retry_blocked: false,
            impossible: Impossible::default(),
        }
    }

    /// Covers RPC indices below `rpcs`.
    pub(crate) fn try_reserve(&mut self, rpcs: usize) -> Result<(), OutOfMemory> {
        self.queue_positions.try_reserve(rpcs)?;
        self.by_birth.try_reserve(rpcs)
    }

    #[inline]
    pub(crate) fn total_incoming(&self) -> u64 {
        self.total_incoming
    }

    /// Something about the incoming message of `rpc` changed: look at it before the next
    /// transmission.
    #[inline]
    pub(crate) fn touch(&mut self, rpc: &mut Rpc) {
        if rpc.rx.granted < rpc.rx.length() || rpc.rx.granting.place != Place::Out {
            self.enlist(rpc);
        }
    }

    fn enlist(&mut self, rpc: &mut Rpc) {
        let rx = &mut rpc.rx;
        if !rx.granting.to_check && self.checks.try_reserve(1).is_ok() {
            rx.granting.to_check = true;
            self.checks.push_back(rpc.index());
        }
    }

    /// Memory came free or the configuration of limits changed.
    pub(crate) fn retry(&mut self) {
        self.retry_blocked = true;
    }

    /// The next message that a GRANT has to be sent for.
    pub(crate) fn pop_due(&mut self, rpcs: &mut RpcTable) -> Option<RpcIndex> {
        loop {
            let index = self.due.pop_front()?;
            if let Some(rpc) = rpcs.get_mut(index) {
                if core::mem::take(&mut rpc.rx.granting.due) && !rpc.rx.is_complete() {
                    return Some(index);
                }
            }
        }
    }

    /// Whether there is anything for [`Granter::run`] or [`Granter::pop_due`] to do.
    #[inline]
    pub(crate) fn has_work(&self) -> bool {
        !self.checks.is_empty()
            || !self.due.is_empty()
            || (self.retry_blocked && !self.active.is_empty())
    }

    /// A GRANT that was built could not be sent, or one must be repeated.
    pub(crate) fn mark_due(&mut self, rpc: &mut Rpc) {
        // Without memory for the queue the GRANT is recovered by the timers.
        if !rpc.rx.granting.due && self.due.try_reserve(1).is_ok() {
            rpc.rx.granting.due = true;
            self.due.push_back(rpc.index());
        }
    }

    /// Looks at all messages that changed and decides on grants.
    pub(crate) fn run(
        &mut self,
        rpcs: &mut RpcTable,
        memory: &mut Memory,
        config: &Config,
        limits: &GrantLimits,
    ) {
        while let Some(index) = self.checks.pop_front() {
            let Some(rpc) = rpcs.get_mut(index) else {
                continue;
            };
            if core::mem::take(&mut rpc.rx.granting.to_check) {
                self.look_at(index, rpcs, memory, config, limits);
            }
        }
        if core::mem::take(&mut self.retry_blocked) {
            self.serve_memory_blocked(rpcs, memory, config, limits);
        }
    }

    fn look_at(
        &mut self,
        index: RpcIndex,
        rpcs: &mut RpcTable,
        memory: &mut Memory,
        config: &Config,
        limits: &GrantLimits,
    ) {
        let Some(rpc) = rpcs.known_mut(index) else {
            return;
        };
        // It may have ended, or been refused, since it was to be looked at.
        if rpc.rx.is_complete() || rpc.state() != State::Incoming {
            self.remove(index, rpcs);
            return;
        }
        self.reserved_by = memory.reserved_by();
        if rpc.rx.granting.has_sender() && !rpc.rx.unvalidated {
            // It moves: it takes part in the FIFO share (again).
            self.by_birth.set(index, rpc.rx.birth);
        }
        let before = rpc.rx.granting.counted.bytes();
        self.count(rpc);
        let arrived = before.saturating_sub(rpc.rx.granting.counted.bytes());
        if arrived > 0 {
            self.arrived = self.arrived.saturating_add(arrived);
            self.arrived_at = limits.now;
            self.retry_blocked = true;
        }
        if waits_for_its_reader(rpc, config) || waits_for_its_supplier(rpc) {
            self.pass_over(index, rpcs);
            return;
        }
        match rpc.rx.granting.place {
            Place::Active => return self.grant_active(index, rpcs, memory, config, limits),
            Place::Out if rpc.rx.unallocated || rpc.rx.granting.passed_over => return,
            Place::Out => self.manage(index, rpcs),
            Place::Queued => self.reposition(index, rpcs),
        }
        if rpcs.known(index).is_some_and(|rpc| rpc.rx.granting.place == Place::Active) {
            self.grant_active(index, rpcs, memory, config, limits);
        }
    }

    /// Grants to a message that has a place, unless others with one wait for room.
    fn grant_active(
        &mut self,
        index: RpcIndex,
        rpcs: &mut RpcTable,
        memory: &mut Memory,
        config: &Config,
        limits: &GrantLimits,
    ) {
        if !self.others_blocked(index, rpcs) {
            self.grant(index, rpcs, memory, config, limits);
        } else if let Some(rpc) = rpcs.known_mut(index) {
            rpc.rx.granting.memory_blocked = true;
            self.retry_blocked = true;
        }
    }

    /// SRPT, except that the message that holds the memory set aside comes before all.
    fn rank(&self, index: RpcIndex, rpcs: &RpcTable) -> Option<Rank> {
        rpcs.known(index).map(|rpc| {
            let first = self.reserved_by == Some(rpc.key());
            policy::rank(rpc.rx.remaining(), rpc.rx.birth, first)
        })
    }

    /// Updates what is on its way by the message.
    fn count(&mut self, rpc: &mut Rpc) {
        let rx = &rpc.rx;
        // DATA of an unallocated message is dropped, and requested again when there is memory for
        // it.
        let now = if rx.unallocated { OnItsWay::NOTHING } else { rx.on_its_way() };
        self.recount(rpc, now);
    }

    fn recount(&mut self, rpc: &mut Rpc, now: OnItsWay) {
        if !rpc.rx.granting.has_sender() {
            return;
        }
        let announced_max = self.window_min;
        let Some(sender) = self.known_sender_mut(rpc.rx.granting.sender) else {
            return;
        };
        let before = core::mem::replace(&mut rpc.rx.granting.counted, now);
        let counted = sender.counted(announced_max);
        let change = |sum: u64, before: u32, now: u32| {
            sum.saturating_sub(u64::from(before)).saturating_add(u64::from(now))
        };
        sender.announced = change(sender.announced, before.announced, now.announced);
        sender.granted = change(sender.granted, before.granted, now.granted);
        let counts = sender.counted(announced_max);
        self.total_incoming = self.total_incoming.saturating_sub(counted).saturating_add(counts);
    }

    fn others_blocked(&self, index: RpcIndex, rpcs: &RpcTable) -> bool {
        self.active.iter().any(|other| {
            *other != index && rpcs.known(*other).is_some_and(|rpc| rpc.rx.granting.memory_blocked)
        })
    }

    /// Grants what window, room and memory allow; notes whether more is wanted.
    fn grant(
        &mut self,
        index: RpcIndex,
        rpcs: &mut RpcTable,
        memory: &mut Memory,
        config: &Config,
        limits: &GrantLimits,
    ) {
        let Some(rpc) = rpcs.known_mut(index) else {
            return;
        };
        rpc.rx.granting.memory_blocked = false;
        let rx = &rpc.rx;
        let (demanded, configured) = (rx.granting.window, config.grants.window_bytes);
        let (max_incoming, active) = (limits.max_incoming, self.active.len());
        let round_trip = (rx.granting.round_trip_bytes, limits.kept_unknown);
        let kept = policy::kept(round_trip, limits.kept_min, active);
        let fixed = (demanded, configured);
        let window = policy::window(fixed, kept, limits.step, max_incoming, active);
        let wants = Wants {
            length: rx.length(),
            received: rx.data.received(),
            granted: rx.granted,
            allowed_upto: rx.allowed_upto(),
            grantable_upto: grantable_upto(rpc, config),
        };
        let room = Room {
            window,
            host: self.room(limits),
            sender: self.room_of(rx.granting.sender, window.bytes, limits).unwrap_or(0),
            idle: self.total_incoming == 0,
        };
        let Some((upto, target)) = policy::grant(wants, room) else {
            return;
        };
        let lowest_unscheduled = limits.min_unscheduled_priority;
        let priority = match policy::is_boosted(&wants, config.grants.boost_bytes) {
            true => lowest_unscheduled,
            false => self.priority(index, rpcs, lowest_unscheduled.below()),
        };
        let Some(rpc) = rpcs.known_mut(index) else {
            return;
        };
        let upto = reserve(rpc, u32::try_from(upto).unwrap_or(u32::MAX), memory);
        self.reserved_by = memory.reserved_by();
        rpc.rx.granting.memory_blocked = u64::from(upto) < target;
        if upto > rpc.rx.granted {
            let given = u64::from(upto.saturating_sub(rpc.rx.granted));
            self.give(rpc, upto, priority, limits.now);
            let (permille, increment) =
                (config.grants.fifo_permille, config.fixed.fifo_grant_bytes);
            if self.fifo_share.earn(given, permille, increment) {
                self.grant_oldest(rpcs, memory, config, limits, window.bytes);
            }
        }
    }

    fn give(&mut self, rpc: &mut Rpc, upto: u32, priority: Priority, now: Instant) {
        if rpc.rx.granting.counted == OnItsWay::NOTHING {
            rpc.rx.moved_at = now;
            rpc.rx.granting.behind = self.arrived.saturating_add(self.total_incoming);
        }
        let granting = &mut rpc.rx.granting;
        if priority > granting.priority && granting.counted.granted > 0 {
            granting.overtaken_below = rpc.rx.granted;
        }
        granting.priority = priority;
        rpc.rx.granted = upto;
        self.count(rpc);
        self.mark_due(rpc);
    }

    /// Passes a message over of which nothing has come since `since`, if others want what it holds.
    /// Silence is excused while data comes that was on its way before, or that goes before it by
    /// its rank. `true`: it takes part in grants no more.
    pub(crate) fn pass_over_unresponsive(
        &mut self,
        index: RpcIndex,
        rpcs: &mut RpcTable,
        since: Instant,
    ) -> bool {
        let Some(rpc) = rpcs.known(index) else {
            return true;
        };
        if rpc.rx.granting.counted == OnItsWay::NOTHING {
            return true;
        }
        let wanted = !self.waiting_senders.is_empty() || self.others_blocked(index, rpcs);
        if !wanted || self.is_excused(rpc, rpcs, since) {
            return false;
        }
        self.pass_over(index, rpcs);
        true
    }

    fn is_excused(&self, rpc: &Rpc, rpcs: &RpcTable, since: Instant) -> bool {
        let flows = self.arrived_at > since;
        let own = self.rank(rpc.index(), rpcs);
        let goes_before = |other: &RpcIndex| {
            let moves = rpcs.known(*other).is_some_and(|other| {
                other.rx.moved_at > since && other.rx.granting.counted.bytes() > 0
            });
            moves && self.rank(*other, rpcs) < own
        };
        flows && (self.arrived < rpc.rx.granting.behind || self.active.iter().any(goes_before))
    }

    /// The message takes no part in grants until [`Granting::take_part`].
    ///
    /// [`Granting::take_part`]: self::message::Granting::take_part
    pub(crate) fn pass_over(&mut self, index: RpcIndex, rpcs: &mut RpcTable) {
        self.leave(index, rpcs);
        if let Some(rpc) = rpcs.known_mut(index) {
            rpc.rx.granting.passed_over = true;
        }
    }

    /// The sender of a message has proved its address: the message counts with its host from now
    /// on.
    pub(crate) fn change_sender(&mut self, index: RpcIndex, rpcs: &mut RpcTable) {
        let managed = rpcs.known(index).is_some_and(|rpc| rpc.rx.granting.has_sender());
        self.leave(index, rpcs);
        if let (Some(rpc), true) = (rpcs.known_mut(index), managed) {
            self.enlist(rpc);
        }
    }

    /// Takes a message out that goes on. Its sender is still told what it was granted.
    fn leave(&mut self, index: RpcIndex, rpcs: &mut RpcTable) {
        let due = rpcs.known(index).is_some_and(|rpc| rpc.rx.granting.due);
        self.remove(index, rpcs);
        if let Some(rpc) = rpcs.known_mut(index) {
            rpc.rx.granting.due = due;
        }
    }

    /// Bytes that may still be granted on this host.
    fn room(&self, limits: &GrantLimits) -> u64 {
        limits
            .incoming_cap
            .saturating_sub(self.total_incoming)
            .saturating_sub(limits.others_incoming)
    }

    /// Bytes that may still be granted to a sender; `None`: it has more than its part.
    fn room_of(
        &self,
        sender: Option<SenderIndex>,
        window: u64,
        limits: &GrantLimits,
    ) -> Option<u64> {
        let part = policy::part_of_sender(window, limits.max_incoming, self.window_min);
        part.checked_sub(self.known_sender(sender)?.granted)
    }

    /// Priority for scheduled data of an active message.
    fn priority(&self, index: RpcIndex, rpcs: &RpcTable, highest: Priority) -> Priority {
        let Some(own) = self.rank(index, rpcs) else {
            return Priority::LOWEST;
        };
        let better = |other: &&RpcIndex| self.rank(**other, rpcs).is_some_and(|rank| rank < own);
        let better = self.active.iter().filter(better).count();
        policy::priority(better, self.active.len(), highest)
    }

    /// Gives the increment, a window at most, to the oldest message that can use it, at the highest
    /// priority of scheduled data. One that has more than a window on its way, or its sender more
    /// than its part, or that is granted to its end, is passed over until data of it arrives.
    fn grant_oldest(
        &mut self,
        rpcs: &mut RpcTable,
        memory: &mut Memory,
        config: &Config,
        limits: &GrantLimits,
        window: u64,
    ) {
        let increment = u64::from(config.fixed.fifo_grant_bytes).min(window);
        let increment = u32::try_from(increment).unwrap_or(u32::MAX);
        for _ in 0..FIFO_LOOKS {
            let Some((index, _)) = self.by_birth.peek() else {
                return;
            };
            let Some(rpc) = rpcs.known_mut(index) else {
                return;
            };
            let responsive = rpc.rx.granting.counted.bytes() <= window
                && self.room_of(rpc.rx.granting.sender, window, limits).is_some();
            let upto = rpc.rx.granted.saturating_add(increment).min(grantable_upto(rpc, config));
            if responsive && upto > rpc.rx.granted {
                let upto = reserve(rpc, upto, memory);
                if upto > rpc.rx.granted {
                    self.give(rpc, upto, limits.min_unscheduled_priority.below(), limits.now);
                    if memory.reserved_by() == Some(rpc.key()) {
                        // It ranks first now.
                        self.touch(rpc);
                    }
                    return;
                }
            }
            self.by_birth.remove(index);
        }
    }

    /// Serves messages that lacked room or memory, best first. One that still lacks memory does not
    /// stop those behind it: they may hold what it waits for.
    fn serve_memory_blocked(
        &mut self,
        rpcs: &mut RpcTable,
        memory: &mut Memory,
        config: &Config,
        limits: &GrantLimits,
    ) {
        self.reserved_by = memory.reserved_by();
        let mut served = None;
        for _ in 0..self.active.len() {
            let best = self
                .active
                .iter()
                .filter(|index| {
                    rpcs.known(**index).is_some_and(|rpc| rpc.rx.granting.memory_blocked)
                })
                .map(|index| (self.rank(*index, rpcs), *index))
                .filter(|entry| served.is_none_or(|served| *entry > served))
                .min();
            let Some(entry) = best else { return };
            self.grant(entry.1, rpcs, memory, config, limits);
            let memory_blocked =
                rpcs.known(entry.1).is_some_and(|rpc| rpc.rx.granting.memory_blocked);
            if memory_blocked && self.room(limits) == 0 {
                return;
            }
            served = Some(entry);
        }
    }

    /// Takes a new message into management: a slot, or its sender's queue.
    fn manage(&mut self, index: RpcIndex, rpcs: &mut RpcTable) {
        let Some(rpc) = rpcs.known_mut(index) else {
            return;
        };
        // One that could not be queued for want of memory is a member already.
        if !rpc.rx.granting.has_sender() {
            let ip = (!rpc.rx.unvalidated).then(|| rpc.path.remote.ip().to_canonical());
            let Some(sender) = self.sender_of(ip) else {
                return;
            };
            rpc.rx.granting.sender = Some(sender);
            if let Some(record) = self.known_sender_mut(Some(sender)) {
                record.members = record.members.saturating_add(1);
            }
        }
        if !rpc.rx.unvalidated {
            self.by_birth.set(index, rpc.rx.birth);
        }
        self.count(rpc);
        self.place(index, rpcs);
    }

    /// Gives a message a slot if one is free or it deserves that of another; else queues it.
    fn place(&mut self, index: RpcIndex, rpcs: &mut RpcTable) {
        if self.active.len() < self.active.capacity() && self.may_be_active(index, rpcs) {
            self.activate(index, rpcs);
        } else if let Some(victim) = self.victim_for(index, rpcs) {
            self.deactivate(victim, rpcs);
            self.activate(index, rpcs);
            self.enqueue(victim, rpcs);
        } else {
            self.enqueue(index, rpcs);
        }
    }

    fn may_be_active(&self, index: RpcIndex, rpcs: &RpcTable) -> bool {
        let sender = rpcs.known(index).and_then(|rpc| self.known_sender(rpc.rx.granting.sender));
        sender.is_some_and(Sender::may_be_active)
    }

    /// The active message that has to make room for `index`, if any.
    fn victim_for(&self, index: RpcIndex, rpcs: &RpcTable) -> Option<RpcIndex> {
        let sender = rpcs.known(index)?.rx.granting.sender;
        let newcomer = self.candidate(index, sender, rpcs)?;
        let active = self.active.iter();
        policy::victim(newcomer, active.filter_map(|other| self.candidate(*other, sender, rpcs)))
    }

    /// A message beside others, if `newcomer` is the sender of one more.
    fn candidate(
        &self,
        index: RpcIndex,
        newcomer: Option<SenderIndex>,
        rpcs: &RpcTable,
    ) -> Option<Candidate> {
        let (rank, rx) = (self.rank(index, rpcs)?, &rpcs.known(index)?.rx);
        let sender = rx.granting.sender;
        let active = self.known_sender(sender).map_or(0, |record| record.active);
        let of_sender = active.saturating_add(u32::from(sender == newcomer));
        Some(Candidate { index, rank, of_sender, unvalidated: rx.unvalidated })
    }

    fn activate(&mut self, index: RpcIndex, rpcs: &mut RpcTable) {
        let Some(rpc) = rpcs.known_mut(index) else {
            return;
        };
        rpc.rx.granting.place = Place::Active;
        self.active.push(index);
        let sender = rpc.rx.granting.sender;
        if let Some(record) = self.known_sender_mut(sender) {
            record.active = record.active.saturating_add(1);
        }
        self.rekey_sender(sender);
    }

    fn deactivate(&mut self, index: RpcIndex, rpcs: &mut RpcTable) {
        self.active.retain(|other| *other != index);
        let Some(rpc) = rpcs.known_mut(index) else {
            return;
        };
        rpc.rx.granting.place = Place::Out;
        rpc.rx.granting.memory_blocked = false;
        let sender = rpc.rx.granting.sender;
        if let Some(record) = self.known_sender_mut(sender) {
            record.active = record.active.saturating_sub(1);
        }
        self.rekey_sender(sender);
    }

    fn enqueue(&mut self, index: RpcIndex, rpcs: &mut RpcTable) {
        let Some(key) = self.rank(index, rpcs) else { return };
        let Some(rpc) = rpcs.known_mut(index) else {
            return;
        };
        let sender = rpc.rx.granting.sender;
        let record = slot_of(&mut self.senders, sender);
        let Some(record) = self.impossible.known(record) else {
            return;
        };
        // Out of memory: it stays out and is looked at again when its next packet comes.
        if record.queue.set(&mut self.queue_positions, index, key).is_ok() {
            rpc.rx.granting.place = Place::Queued;
        }
        self.rekey_sender(sender);
    }

    /// A queued message received data: it may have become worth a slot.
    fn reposition(&mut self, index: RpcIndex, rpcs: &mut RpcTable) {
        self.enqueue(index, rpcs);
        let Some(sender) = rpcs.known(index).map(|rpc| rpc.rx.granting.sender) else {
            return;
        };
        let best =
            self.known_sender(sender).and_then(|record| record.queue.peek()).map(|(best, _)| best);
        if best == Some(index) && self.victim_for(index, rpcs).is_some() {
            self.dequeue(index, rpcs);
            self.place(index, rpcs);
        }
    }

    fn dequeue(&mut self, index: RpcIndex, rpcs: &mut RpcTable) {
        let Some(rpc) = rpcs.known_mut(index) else {
            return;
        };
        rpc.rx.granting.place = Place::Out;
        let sender = rpc.rx.granting.sender;
        let record = slot_of(&mut self.senders, sender);
        if let Some(record) = self.impossible.known(record) {
            record.queue.remove(&mut self.queue_positions, index);
        }
        self.rekey_sender(sender);
    }

    /// The message is complete or its RPC ended: takes it out of every structure.
    pub(crate) fn remove(&mut self, index: RpcIndex, rpcs: &mut RpcTable) {
        let Some(rpc) = rpcs.known_mut(index) else {
            return;
        };
        rpc.rx.granting.due = false;
        rpc.rx.granting.memory_blocked = false;
        self.retry_blocked |= rpc.rx.granting.counted != OnItsWay::NOTHING;
        self.recount(rpc, OnItsWay::NOTHING);
        let Some(sender) = rpc.rx.granting.sender else {
            return;
        };
        let state = rpc.rx.granting.place;
        match state {
            Place::Active => self.deactivate(index, rpcs),
            Place::Queued => self.dequeue(index, rpcs),
            Place::Out => {}
        }
        if let Some(rpc) = rpcs.known_mut(index) {
            rpc.rx.granting.sender = None;
        }
        self.by_birth.remove(index);
        self.leave_sender(sender);
        if state == Place::Active {
            self.fill_slot(rpcs);
        }
    }

    /// A slot is free: the best message of the sender with the fewest active ones takes it.
    fn fill_slot(&mut self, rpcs: &mut RpcTable) {
        let Some((sender, _)) = self.waiting_senders.peek() else {
            return;
        };
        let Some((index, _)) =
            self.known_sender(Some(sender)).and_then(|record| record.queue.peek())
        else {
            return self.impossible.found();
        };
        self.dequeue(index, rpcs);
        self.activate(index, rpcs);
        if let Some(rpc) = rpcs.known_mut(index) {
            rpc.rx.granting.memory_blocked = true;
        }
        self.retry_blocked = true;
    }
}

/// How far a message may be granted at most: its end, or what a slow reader leaves room for.
fn grantable_upto(rpc: &Rpc, config: &Config) -> u32 {
    let length = rpc.rx.length();
    if rpc.rx.streaming {
        rpc.rx.consumed.saturating_add(config.fixed.unread_bytes_max).min(length)
    } else {
        length
    }
}

/// Whether nothing more can be granted before the reader of a stream takes what has come.
fn waits_for_its_reader(rpc: &Rpc, config: &Config) -> bool {
    let rx = &rpc.rx;
    let allowed = rx.allowed_upto();
    let granted = allowed < rx.length() && allowed >= grantable_upto(rpc, config);
    rx.streaming && granted && rx.granting.has_sender() && rx.granting.counted == OnItsWay::NOTHING
}

/// Whether nothing can be granted before a message grows: all has come that there is of it.
fn waits_for_its_supplier(rpc: &Rpc) -> bool {
    let rx = &rpc.rx;
    rx.is_open() && rx.waits_for_growth() && rx.granted >= rx.length() && rx.granting.has_sender()
}

/// Reserves memory up to `upto`, or as far as there is room in whole pieces. Returns how far.
fn reserve(rpc: &mut Rpc, upto: u32, memory: &mut Memory) -> u32 {
    if upto <= rpc.rx.held.upto {
        return upto;
    }
    // All of it, or at least the next piece.
    let next_piece = upto.min(rpc.rx.held.upto.saturating_add(PIECE_BYTES));
    for upto in [upto, next_piece] {
        if memory.reserve(rpc, upto) {
            return upto;
        }
    }
    rpc.rx.granted.max(rpc.rx.held.upto.min(upto))
}

/// Messages looked at for one grant to the oldest.
const FIFO_LOOKS: usize = 16;
