//! Invariants of grants between two calls.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use super::message::{OnItsWay, Place};
use super::senders::SenderIndex;
use super::{Granter, Sender, grantable_upto};
use crate::config::Config;
use crate::engine::receiver::memory::Memory;
use crate::engine::rpc::index::RpcIndex;
use crate::engine::rpc::{Rpc, RpcTable, State};
use crate::structures::index::Index;

impl Granter {
    /// Checks the invariants between two calls and, when [`Granter::run`] has nothing to do, that
    /// no message was forgotten.
    pub(crate) fn check_invariants(&self, rpcs: &RpcTable, config: &Config) {
        let there = self.senders.iter().flatten();
        let counted: u64 = there.map(|sender| sender.counted(self.window_min)).sum();
        assert_eq!(counted, self.total_incoming, "on its way");
        assert!(self.active.len() <= usize::from(config.grants.max_overcommit), "active messages");
        let mut senders = alloc::vec![(0_u32, 0_usize, (0_u64, 0_u64)); self.senders.len()];
        for rpc in rpcs.iter() {
            let (index, rx) = (rpc.index(), &rpc.rx);
            let (active, queued) =
                (rx.granting.place == Place::Active, rx.granting.place == Place::Queued);
            assert_eq!(self.active.contains(&index), active, "active: {rpc:?}");
            assert!(
                active || !rx.granting.memory_blocked,
                "memory-blocked without a slot: {rpc:?}"
            );
            let managed = rx.granting.has_sender();
            assert_eq!(managed, active || queued, "with a sender: {rpc:?}");
            assert!(
                managed || rx.granting.counted == OnItsWay::NOTHING,
                "counted for nobody: {rpc:?}"
            );
            assert!(!(managed && rx.granting.passed_over), "managed and passed over: {rpc:?}");
            if managed && !rx.granting.to_check {
                assert_eq!(rx.granting.counted, rx.on_its_way(), "on its way: {rpc:?}");
            }
            let incoming = rpc.state() == State::Incoming;
            assert!(incoming || !managed, "over but managed: {rpc:?}");
            assert!(managed || !self.by_birth.contains(index), "in the order of age: {rpc:?}");
            if !self.has_work() {
                let grantable = incoming && !rx.is_complete() && rx.granted < rx.length();
                let excused = rx.unallocated || rx.granting.passed_over;
                assert!(managed || !grantable || excused, "not managed: {rpc:?}");
            }
            let of_sender = rx.granting.sender.map(|sender| &mut senders[sender.position()]);
            if let Some(sender) = of_sender {
                sender.0 += u32::from(active);
                sender.1 += usize::from(queued);
                sender.2.0 += u64::from(rx.granting.counted.announced);
                sender.2.1 += u64::from(rx.granting.counted.granted);
                let queue = self.known_sender(rx.granting.sender).map(|record| &record.queue);
                let here = queue.is_some_and(|queue| queue.contains(&self.queue_positions, index));
                assert_eq!(here, queued, "queue of its sender: {rpc:?}");
            }
        }
        for ((active, queued, on_its_way), (number, sender)) in
            senders.into_iter().zip(SenderIndex::first(self.senders.len()).zip(&self.senders))
        {
            let may_be_active = sender.as_ref().is_some_and(Sender::may_be_active);
            let waits = queued > 0 && may_be_active;
            assert_eq!(self.waiting_senders.contains(number), waits, "waiting senders");
            let Some(sender) = sender else { continue };
            let members = active.saturating_add(queued as u32);
            assert!(members > 0, "nothing is left of {sender:?}");
            assert_eq!(
                (sender.active, sender.members),
                (active, members),
                "messages of {sender:?}"
            );
            assert_eq!(
                (sender.announced, sender.granted),
                on_its_way,
                "on its way from {sender:?}"
            );
            assert_eq!(sender.queue.len(), queued, "queue of {sender:?}");
            assert_eq!(self.sender_by_ip.get(&sender.ip), Some(&number), "address of {sender:?}");
            assert!(!sender.is_unvalidated() || active <= 1, "unvalidated clients have one place");
        }
        let there = self.senders.iter().filter(|sender| sender.is_some()).count();
        assert_eq!(self.sender_by_ip.len(), there, "addresses of senders");
        let free = self.active.len() < usize::from(config.grants.max_overcommit);
        assert!(!free || self.waiting_senders.is_empty(), "a slot is free but somebody waits");
        self.check_list(&self.checks, rpcs, |rpc| rpc.rx.granting.to_check, "to look at");
        self.check_list(&self.due, rpcs, |rpc| rpc.rx.granting.due, "to send a GRANT for");
    }

    /// A list holds all that are marked.
    fn check_list(
        &self,
        list: &VecDeque<RpcIndex>,
        rpcs: &RpcTable,
        marked: fn(&Rpc) -> bool,
        what: &str,
    ) {
        let mut sorted: Vec<RpcIndex> = list.iter().copied().collect();
        sorted.sort_unstable();
        for rpc in rpcs.iter().filter(|rpc| marked(rpc)) {
            assert!(sorted.binary_search(&rpc.index()).is_ok(), "not in the list {what}: {rpc:?}");
        }
    }

    /// Whether a message of which all that was granted has come will be granted more: it waits for
    /// a place or room that others give back, or for its reader.
    pub(crate) fn watches(&self, rpc: &Rpc, config: &Config, memory: &Memory) -> bool {
        let others_hold = self.total_incoming > 0 || memory.used() > rpc.rx.reserved();
        let reader = grantable_upto(rpc, config) <= rpc.rx.allowed_upto();
        match rpc.rx.granting.place {
            _ if rpc.rx.granting.to_check => true,
            Place::Out => reader,
            Place::Queued => true,
            Place::Active if rpc.rx.granting.memory_blocked => self.retry_blocked || others_hold,
            Place::Active => reader,
        }
    }
}
