//! What will happen in a world, in order.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::app::Task;
use crate::driver::{Notice, Packet};
use crate::fault::MtuChange;

/// Something that will happen.
#[derive(Debug)]
pub(super) enum Happening {
    Wake(usize),
    AtPort(usize, Packet),
    PortFree(usize),
    Tell(usize, Notice),
    Start(usize),
    Perform { host: usize, life: usize, task: Task },
    Stop(usize),
    Boot(usize),
    Mtu(MtuChange),
    Close(usize),
    Drain(usize),
    Pause(usize, u64),
}

#[derive(Debug)]
struct Entry {
    at_ns: u64,
    order: u64,
    what: Happening,
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        (self.at_ns, self.order) == (other.at_ns, other.order)
    }
}
impl Eq for Entry {}
impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Entry {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at_ns, self.order).cmp(&(other.at_ns, other.order))
    }
}

/// Happenings by time; those of the same time in the order in which they were planned.
#[derive(Debug, Default)]
pub(super) struct Calendar {
    order: u64,
    future: BinaryHeap<Reverse<Entry>>,
}

impl Calendar {
    pub(super) fn add(&mut self, at_ns: u64, what: Happening) {
        self.order += 1;
        self.future.push(Reverse(Entry { at_ns, order: self.order, what }));
    }

    /// When the next happening is, in ns.
    pub(super) fn next_ns(&self) -> Option<u64> {
        self.future.peek().map(|Reverse(entry)| entry.at_ns)
    }

    /// The next happening, and when it is.
    pub(super) fn take(&mut self) -> Option<(u64, Happening)> {
        self.future.pop().map(|Reverse(Entry { at_ns, what, .. })| (at_ns, what))
    }
}
