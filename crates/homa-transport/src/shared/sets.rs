//! Sets of calls with members under way, for the thread that drives.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;

use homa_core::RpcKey;
use homa_io::Message;

use super::room::{Charge, Charges, Room};
use super::set::{CallQueue, Finished, Member};
use super::wakes::Wakes;
use crate::CallError;

/// A member of a set that the engine knows.
#[derive(Debug)]
pub(crate) struct Started {
    set: u32,
    /// The number that its set gave it.
    id: u64,
    pub(crate) server: SocketAddr,
    /// Its response begins with a frame.
    pub(crate) framed: bool,
    charge: Charge,
}

/// Sets by place. One has a place as long as it has members under way.
#[derive(Debug, Default)]
pub(crate) struct Sets {
    places: Vec<Set>,
    free: Vec<u32>,
    /// Sets with members that finished in this turn.
    touched: Vec<u32>,
    /// Room of members that finished in this turn.
    charges: Charges,
    /// Memory of the last batch that started.
    starting: Vec<Member>,
}

#[derive(Debug, Default)]
struct Set {
    queue: Option<Arc<CallQueue>>,
    /// Keys of its members, by the place that is the lower half of their number. Old ones name RPCs
    /// that are over.
    keys: Vec<Option<RpcKey>>,
    under_way: usize,
    /// Members that finished in this turn.
    finished: VecDeque<Finished>,
}

/// Place of a member in its set.
fn place_of(id: u64) -> usize {
    (id & u64::from(u32::MAX)) as usize
}

impl Sets {
    /// Members of a set that are to start, if there are any, and the set's place. They are to be
    /// given back empty.
    pub(crate) fn take_starting(&mut self, queue: Arc<CallQueue>) -> Option<(u32, Vec<Member>)> {
        queue.take_starting(&mut self.starting);
        if self.starting.is_empty() {
            return None;
        }
        let set = self.find(&queue).unwrap_or_else(|| self.add(queue));
        let starting = std::mem::take(&mut self.starting);
        self.places.get_mut(set as usize)?.under_way += starting.len();
        Some((set, starting))
    }

    pub(crate) fn give_back_starting(&mut self, starting: Vec<Member>) {
        self.starting = starting;
    }

    /// Gives a set a place.
    fn add(&mut self, queue: Arc<CallQueue>) -> u32 {
        let set = self.free.pop().unwrap_or_else(|| {
            self.places.push(Set::default());
            u32::try_from(self.places.len() - 1).unwrap_or(u32::MAX)
        });
        queue.set_place(set);
        if let Some(entry) = self.places.get_mut(set as usize) {
            entry.queue = Some(queue);
        }
        set
    }

    /// The place of a set that has members under way.
    fn find(&self, queue: &Arc<CallQueue>) -> Option<u32> {
        let known = self.places.get(queue.place() as usize)?.queue.as_ref()?;
        Arc::ptr_eq(known, queue).then(|| queue.place())
    }

    /// A member has started.
    #[inline]
    pub(crate) fn started(
        &mut self,
        set: u32,
        key: RpcKey,
        (id, server): (u64, SocketAddr),
        charge: Charge,
    ) -> Started {
        if let Some(entry) = self.places.get_mut(set as usize) {
            let place = place_of(id);
            if entry.keys.len() <= place {
                entry.keys.resize(place + 1, None);
            }
            if let Some(known) = entry.keys.get_mut(place) {
                *known = Some(key);
            }
        }
        Started { set, id, server, framed: false, charge }
    }

    /// Keys that the members of a set had last: that of `id`, or all.
    pub(crate) fn keys(&self, queue: &Arc<CallQueue>, id: Option<u64>) -> Vec<RpcKey> {
        let entry = self.find(queue).and_then(|set| self.places.get(set as usize));
        let keys = entry.map_or(&[][..], |entry| &entry.keys);
        match id {
            Some(id) => keys.get(place_of(id)).copied().flatten().into_iter().collect(),
            None => keys.iter().copied().flatten().collect(),
        }
    }

    /// A member is finished: its set learns of it at the end of the turn.
    #[inline]
    pub(crate) fn finish(&mut self, member: Started, result: Result<Message, CallError>) {
        self.finish_one(member.set, member.id, result, member.charge);
    }

    /// As [`Sets::finish`] of one that could not start.
    pub(crate) fn finish_one(
        &mut self,
        set: u32,
        id: u64,
        result: Result<Message, CallError>,
        charge: Charge,
    ) {
        self.charges.add(charge);
        let Some(entry) = self.places.get_mut(set as usize) else { return };
        if entry.finished.is_empty() {
            self.touched.push(set);
        }
        entry.under_way = entry.under_way.saturating_sub(1);
        entry.finished.push_back(Finished::Member(id, result));
    }

    /// Tells the sets which of their members are finished, and gives back their room.
    #[inline]
    pub(crate) fn hand_over(&mut self, calls: &Room, wakes: &mut Wakes) {
        if !self.touched.is_empty() {
            self.hand_over_finished(calls, wakes);
        }
    }

    fn hand_over_finished(&mut self, calls: &Room, wakes: &mut Wakes) {
        calls.leave_all(&mut self.charges, wakes);
        while let Some(set) = self.touched.pop() {
            let Some(entry) = self.places.get_mut(set as usize) else { continue };
            let Some(queue) = &entry.queue else { continue };
            wakes.add(queue.finish_all(&mut entry.finished));
            if entry.under_way == 0 {
                entry.queue = None;
                entry.keys.clear();
                self.free.push(set);
            }
        }
    }
}
