//! Budget of a host: how much each of its engines has granted.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Most engines that can share a budget.
const SLOTS_MAX: usize = 1024;
const FREE: u32 = 0;
const CLAIMED: u32 = 1;

/// A cheap handle to the figures that the engines ("shards") of one host share, so that they
/// respect common limits: one handle per group of engines behind the same link.
///
/// Every engine writes only its own slot, which has a cache line of its own, and sums the
/// others' when it decides. Both happen per grant or per burst, **never per packet**. Figures of
/// others may be a moment old: limits can be exceeded by what is decided in that moment.
#[derive(Clone, Debug)]
pub struct HostBudget {
    slots: Arc<[Slot]>,
}

/// One engine's figures. Plain numbers in a fixed order, so that the slots
/// could also lie in memory that processes share.
#[derive(Debug)]
#[repr(C, align(64))]
struct Slot {
    owner: AtomicU32,
    /// Counts releases: tells a stale [`SlotId`].
    epoch: AtomicU32,
    incoming: AtomicU64,
}

impl Slot {
    const fn new() -> Self {
        Self { owner: AtomicU32::new(FREE), epoch: AtomicU32::new(0), incoming: AtomicU64::new(0) }
    }

    fn reset(&self) {
        self.incoming.store(0, Ordering::Relaxed);
    }
}

/// Names a claimed slot of a [`HostBudget`]. After its release it has no effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SlotId {
    index: u32,
    epoch: u32,
}

impl HostBudget {
    /// A budget for up to `slots` engines; numbers outside 1 to 1024 are brought into that range.
    /// Allocates 64 bytes per slot, now and never again; like every `Arc` it aborts the program
    /// if there is no memory, so make it at the start.
    pub fn new(slots: usize) -> Self {
        let slots = slots.clamp(1, SLOTS_MAX);
        Self { slots: (0..slots).map(|_| Slot::new()).collect() }
    }

    /// A budget for a single engine: there are no others to consider.
    pub fn local() -> Self {
        Self::new(1)
    }

    /// Number of engines that can share this budget.
    pub fn slots(&self) -> usize {
        self.slots.len()
    }

    /// Takes a free slot, its figures at zero. `None` if all are taken.
    pub(crate) fn claim(&self) -> Option<SlotId> {
        for (index, slot) in (0..).zip(self.slots.iter()) {
            let taken =
                slot.owner.compare_exchange(FREE, CLAIMED, Ordering::Acquire, Ordering::Relaxed);
            if taken.is_ok() {
                let epoch = slot.epoch.load(Ordering::Relaxed);
                return Some(SlotId { index, epoch });
            }
        }
        None
    }

    /// Gives a slot back, its figures at zero. A second release of the same id does nothing.
    pub(crate) fn release(&self, id: SlotId) {
        let Some(slot) = self.slots.get(id.index as usize) else {
            return;
        };
        let ended = slot.epoch.compare_exchange(
            id.epoch,
            id.epoch.wrapping_add(1),
            Ordering::Relaxed,
            Ordering::Relaxed,
        );
        if ended.is_ok() {
            slot.reset();
            // Release: whoever claims the slot next sees it reset.
            slot.owner.store(FREE, Ordering::Release);
        }
    }

    /// Publishes the bytes this engine has granted or expects unscheduled, and not yet received.
    pub(crate) fn set_incoming(&self, id: SlotId, bytes: u64) {
        if let Some(slot) = self.own(id) {
            slot.incoming.store(bytes, Ordering::Relaxed);
        }
    }

    /// Bytes that all other engines expect.
    pub(crate) fn others_incoming(&self, id: SlotId) -> u64 {
        self.others(id)
            .fold(0, |sum: u64, slot| sum.saturating_add(slot.incoming.load(Ordering::Relaxed)))
    }

    fn own(&self, id: SlotId) -> Option<&Slot> {
        let slot = self.slots.get(id.index as usize)?;
        (slot.epoch.load(Ordering::Relaxed) == id.epoch).then_some(slot)
    }

    fn others(&self, id: SlotId) -> impl Iterator<Item = &Slot> {
        (0..)
            .zip(self.slots.iter())
            .filter(move |(index, _)| *index != id.index)
            .map(|(_, slot)| slot)
    }
}

impl Default for HostBudget {
    fn default() -> Self {
        Self::local()
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;
    use proptest::prelude::*;
    use std::thread;

    use super::*;

    #[test]
    fn every_slot_has_its_own_cache_line() {
        assert_eq!(size_of::<Slot>(), 64);
        assert_eq!(align_of::<Slot>(), 64);
    }

    #[test]
    fn an_engine_sees_the_sum_of_the_others() {
        let budget = HostBudget::new(3);
        let ids: Vec<SlotId> = core::iter::from_fn(|| budget.claim()).collect();
        assert_eq!(ids.len(), 3);
        for (id, bytes) in ids.iter().zip([1, 20, 300]) {
            budget.set_incoming(*id, bytes);
        }
        assert_eq!(budget.others_incoming(ids[0]), 320);
    }

    #[test]
    fn a_single_engine_has_no_others() {
        let budget = HostBudget::local();
        let id = budget.claim().unwrap();
        budget.set_incoming(id, 5);
        assert_eq!(budget.others_incoming(id), 0);
        assert_eq!(budget.claim(), None);
    }

    #[test]
    fn a_released_slot_is_empty_and_its_old_id_dead() {
        let budget = HostBudget::new(2);
        let (a, b) = (budget.claim().unwrap(), budget.claim().unwrap());
        budget.set_incoming(a, 7);
        budget.clone().release(a);
        assert_eq!(budget.others_incoming(b), 0);
        let again = budget.claim().unwrap();
        assert_ne!(again, a);
        budget.set_incoming(a, 1_000);
        budget.release(a);
        assert_eq!(budget.others_incoming(b), 0);
        assert_eq!(budget.claim(), None);
    }

    #[test]
    fn sums_saturate_and_sizes_are_bounded() {
        assert_eq!(HostBudget::new(0).slots(), 1);
        assert_eq!(HostBudget::new(usize::MAX).slots(), SLOTS_MAX);
        let budget = HostBudget::new(3);
        let ids: Vec<SlotId> = core::iter::from_fn(|| budget.claim()).collect();
        budget.set_incoming(ids[0], u64::MAX);
        budget.set_incoming(ids[1], u64::MAX);
        assert_eq!(budget.others_incoming(ids[2]), u64::MAX);
        let foreign = SlotId { index: 99, epoch: 1 };
        budget.set_incoming(foreign, 1);
        budget.release(foreign);
    }

    #[test]
    fn threads_never_share_a_slot() {
        let budget = HostBudget::new(4);
        let workers: Vec<_> = (0..4)
            .map(|_| {
                let budget = budget.clone();
                thread::spawn(move || {
                    for round in 0..1000 {
                        let id = budget.claim().unwrap();
                        budget.set_incoming(id, round);
                        assert!(budget.others_incoming(id) <= 3 * 1000);
                        budget.release(id);
                    }
                })
            })
            .collect();
        for worker in workers {
            worker.join().unwrap();
        }
        let id = budget.claim().unwrap();
        assert_eq!(budget.others_incoming(id), 0);
    }

    proptest! {
        #[test]
        fn sums_match_a_model(figures in prop::collection::vec(0..1_000_000u32, 1..20)) {
            let budget = HostBudget::new(figures.len());
            let ids: Vec<SlotId> = core::iter::from_fn(|| budget.claim()).collect();
            for (id, bytes) in ids.iter().zip(&figures) {
                budget.set_incoming(*id, u64::from(*bytes));
            }
            let total: u64 = figures.iter().map(|bytes| u64::from(*bytes)).sum();
            for (own, id) in ids.iter().enumerate() {
                prop_assert_eq!(budget.others_incoming(*id), total - u64::from(figures[own]));
            }
        }
    }
}
