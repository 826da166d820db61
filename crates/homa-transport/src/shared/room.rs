//! Bounded room for messages on their way: for calls, one room for each server; for responses, one
//! that all clients share.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Waker;

use super::peers::{Entry, Peers};
use super::waiters::{Ticket, Waiters};
use super::wakes::Wakes;
use crate::drive::seat::NEVER_NS;
use crate::drive::sync::{Mutex, MutexGuard, lock};

/// Which messages share the room.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Limits {
    /// Each peer has room for so many messages and bytes. A message longer than all of it may go
    /// when nothing else to that peer is under way, so that every message can go some time.
    Each { messages_max: usize, bytes_max: u64 },
    /// All peers have room for so many bytes. One that has some there may have more as long as it
    /// has less than is free beyond what its host has: alone it gets a third of the room, a host
    /// the half, and something is left for the next one however many there are.
    Shared { bytes_max: u64 },
}

/// Counts messages and their bytes against limits.
#[derive(Debug)]
pub(crate) struct Room {
    state: Mutex<State>,
    /// Earliest deadline of a waiter, readable without the lock.
    deadline_ns: AtomicU64,
    /// Bytes under way, readable without the lock.
    bytes: AtomicU64,
    limits: Limits,
}

#[derive(Debug, Default)]
struct State {
    messages: usize,
    bytes: u64,
    peers: Peers<Account, HostAccount>,
    /// Peers with waiters, the next to be served first.
    waiting: VecDeque<u32>,
    /// Deadlines of waiters, some of whom may be gone; the earliest on top.
    deadlines: BinaryHeap<Reverse<(u64, Place)>>,
    waiters: usize,
}

/// Messages under way to one peer.
#[derive(Debug, Default)]
struct Account {
    messages: usize,
    bytes: u64,
    /// How often room was given back.
    given_back: u64,
    /// A waiter timed out, and no room has been given back since.
    stalled: bool,
    waiters: Waiters,
    /// It is in [`State::waiting`].
    waits: bool,
}

/// Messages under way to the peers of one host.
#[derive(Debug, Default)]
struct HostAccount {
    bytes: u64,
}

/// Place of a waiter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    peer: u32,
    ticket: Ticket,
}

/// Room that was taken, to be given back.
#[derive(Debug)]
#[must_use = "room is to be given back"]
pub(crate) struct Charge {
    peer: u32,
    messages: u32,
    bytes: u64,
}

/// Room to be given back together.
#[derive(Debug, Default)]
pub(crate) struct Charges {
    /// No two for the same peer in a row.
    charges: Vec<Charge>,
}

/// Deadlines of waiters that are gone are dropped when there are this many more than waiters.
const STALE_DEADLINES_MAX: usize = 1_024;

/// Which limit there is no room under.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Full {
    Messages(usize),
    Bytes(u64),
}

impl Entry for Account {
    fn is_idle(&self) -> bool {
        self.messages == 0 && !self.waits && self.waiters.is_empty()
    }
}

impl Charges {
    pub(crate) fn is_empty(&self) -> bool {
        self.charges.is_empty()
    }

    #[inline]
    pub(crate) fn add(&mut self, charge: Charge) {
        match self.charges.last_mut() {
            Some(last) if last.peer == charge.peer => {
                last.messages += charge.messages;
                last.bytes += charge.bytes;
            }
            _ => self.charges.push(charge),
        }
    }
}

impl Room {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            state: Mutex::default(),
            deadline_ns: AtomicU64::new(NEVER_NS),
            bytes: AtomicU64::new(0),
            limits,
        }
    }

    /// Takes room for a message of `bytes`.
    #[inline]
    pub(crate) fn try_enter(&self, peer: SocketAddr, bytes: u64) -> Result<Charge, Full> {
        let mut state = self.lock();
        let peer = state.peers.find_or_add(peer);
        self.enter(&mut state, peer, bytes)
    }

    /// As [`Room::try_enter`], or registers `waker` for when there is room or `deadline_ns` comes.
    pub(crate) fn enter_or_wait(
        &self,
        peer: SocketAddr,
        bytes: u64,
        place: &mut Option<Place>,
        waker: &Waker,
        deadline_ns: u64,
    ) -> Result<Charge, Full> {
        let mut state = self.lock();
        let peer = state.peers.find_or_add(peer);
        let entered = self.enter(&mut state, peer, bytes);
        let charge = match entered {
            Ok(charge) => charge,
            Err(full) => {
                let known = *place;
                *place = Some(state.register(peer, known, waker));
                if *place != known && deadline_ns != NEVER_NS {
                    state.add_deadline(deadline_ns, place.unwrap_or(Place { peer, ticket: 0 }));
                    self.note_deadline(&state);
                }
                return Err(full);
            }
        };
        let waited = place.take().map(|place| state.withdraw(place)).is_some();
        // Room that was given back at once may be enough for several.
        let next = if waited { self.next(&mut state, peer) } else { None };
        drop(state);
        if let Some(next) = next {
            next.wake();
        }
        Ok(charge)
    }

    /// Takes room for a message of `bytes` whether there is any or not.
    pub(crate) fn enter_anyway(&self, peer: SocketAddr, bytes: u64) -> Charge {
        let mut state = self.lock();
        let peer = state.peers.find_or_add(peer);
        self.charge(&mut state, peer, bytes)
    }

    /// Ends a wait that timed out. A peer that has nothing there gets room although there is none;
    /// for other peers waiting ends at once until they give some back.
    pub(crate) fn enter_at_last(&self, peer: SocketAddr, bytes: u64) -> Option<Charge> {
        let mut state = self.lock();
        let peer = state.peers.find_or_add(peer);
        let account = state.peers.peer_entry_mut(peer);
        account.stalled = account.messages > 0;
        (!account.stalled).then(|| self.charge(&mut state, peer, bytes))
    }

    /// Gives room back; the waker of a waiter that may enter now is added to `wakes`.
    #[inline]
    pub(crate) fn leave(&self, charge: Charge, wakes: &mut Wakes) {
        let mut state = self.lock();
        let peer = charge.peer;
        self.give_back(&mut state, charge);
        if state.waiters > 0 {
            wakes.add(self.next(&mut state, peer));
        }
    }

    /// As [`Room::leave`] for all of `charges`. How many messages they were for.
    pub(crate) fn leave_all(&self, charges: &mut Charges, wakes: &mut Wakes) -> u32 {
        let mut state = self.lock();
        let mut left = 0;
        for charge in charges.charges.drain(..) {
            let (peer, messages) = (charge.peer, charge.messages);
            self.give_back(&mut state, charge);
            left += messages;
            for _ in 0..messages {
                if state.waiters == 0 {
                    break;
                }
                wakes.add(self.next(&mut state, peer));
            }
        }
        left
    }

    /// Exchanges room that was taken for nothing in particular for that of a message of `bytes` to
    /// the same peer. If there is not so much, what was taken is given back.
    #[cfg(feature = "tower")]
    pub(crate) fn exchange(&self, charge: Charge, bytes: u64) -> Result<Charge, Full> {
        let mut wakes = Wakes::default();
        let mut state = self.lock();
        let peer = charge.peer;
        self.give_back(&mut state, charge);
        let entered = self.enter(&mut state, peer, bytes);
        if entered.is_err() {
            wakes.add(self.next(&mut state, peer));
        }
        drop(state);
        wakes.wake();
        entered
    }

    #[inline]
    fn give_back(&self, state: &mut State, charge: Charge) {
        let messages = charge.messages as usize;
        state.messages = state.messages.saturating_sub(messages);
        state.bytes = state.bytes.saturating_sub(charge.bytes);
        self.bytes.store(state.bytes, Ordering::Relaxed);
        let (account, of_host) = state.peers.both_mut(charge.peer);
        of_host.bytes = of_host.bytes.saturating_sub(charge.bytes);
        account.messages = account.messages.saturating_sub(messages);
        account.bytes = account.bytes.saturating_sub(charge.bytes);
        account.given_back += u64::from(charge.messages);
        account.stalled = false;
    }

    /// A waiter goes away. If its turn had come, the next one is woken instead.
    pub(crate) fn withdraw(&self, place: Place) {
        let mut state = self.lock();
        let next = match state.withdraw(place) {
            true => None,
            false => self.next(&mut state, place.peer),
        };
        drop(state);
        if let Some(next) = next {
            next.wake();
        }
    }

    /// How often `peer` has given room back; `None`: it is in vain to wait for it.
    pub(crate) fn given_back(&self, peer: SocketAddr) -> Option<u64> {
        let state = self.lock();
        let Some(peer) = state.peers.find(peer) else { return Some(0) };
        let account = state.peers.peer_entry(peer);
        (!account.stalled).then_some(account.given_back)
    }

    /// Whether `peer` has less than half of what it may have, so that more for it can be begun.
    pub(crate) fn is_modest(&self, peer: SocketAddr) -> bool {
        let Limits::Shared { bytes_max } = self.limits else { return true };
        // Then nobody can have more.
        if self.bytes.load(Ordering::Relaxed) < bytes_max / 4 {
            return true;
        }
        let state = self.lock();
        let Some(peer) = state.peers.find(peer) else { return true };
        let bytes = state.peers.peer_entry(peer).bytes;
        bytes == 0 || bytes < state.share_bytes(peer, bytes_max) / 2
    }

    /// The next deadline of a waiter, or [`NEVER_NS`].
    fn deadline_ns(&self) -> u64 {
        self.deadline_ns.load(Ordering::Acquire)
    }

    fn note_deadline(&self, state: &State) -> u64 {
        let earliest_ns = state.deadlines.peek().map_or(NEVER_NS, |Reverse((at_ns, _))| *at_ns);
        self.deadline_ns.store(earliest_ns, Ordering::Release);
        earliest_ns
    }

    /// Wakes the waiters whose deadline has come, and says when the next one comes.
    #[inline]
    pub(crate) fn expire(&self, now_ns: u64, wakes: &mut Wakes) -> u64 {
        let earliest_ns = self.deadline_ns();
        if earliest_ns > now_ns { earliest_ns } else { self.wake_late(now_ns, wakes) }
    }

    #[inline(never)]
    fn wake_late(&self, now_ns: u64, wakes: &mut Wakes) -> u64 {
        let mut state = self.lock();
        while let Some(Reverse((at_ns, place))) = state.deadlines.peek().copied() {
            if at_ns > now_ns {
                break;
            }
            state.deadlines.pop();
            wakes.add(state.take(place));
        }
        self.note_deadline(&state)
    }

    /// Wakes all waiters.
    pub(crate) fn wake_all(&self, wakes: &mut Wakes) {
        let mut state = self.lock();
        state.waiters = 0;
        for account in state.peers.entries_mut() {
            account.waiters.take_all(wakes);
        }
    }

    /// Messages and bytes under way.
    pub(crate) fn used(&self) -> (usize, u64) {
        let state = self.lock();
        (state.messages, state.bytes)
    }

    #[inline]
    fn enter(&self, state: &mut State, peer: u32, bytes: u64) -> Result<Charge, Full> {
        self.check(state, peer, bytes)?;
        Ok(self.charge(state, peer, bytes))
    }

    #[inline]
    fn charge(&self, state: &mut State, peer: u32, bytes: u64) -> Charge {
        state.messages += 1;
        state.bytes += bytes;
        self.bytes.store(state.bytes, Ordering::Relaxed);
        let (account, of_host) = state.peers.both_mut(peer);
        of_host.bytes += bytes;
        account.messages += 1;
        account.bytes += bytes;
        Charge { peer, messages: 1, bytes }
    }

    /// Whether a message of `bytes` to `peer` may go.
    #[inline]
    fn check(&self, state: &State, peer: u32, bytes: u64) -> Result<(), Full> {
        let account = state.peers.peer_entry(peer);
        match self.limits {
            Limits::Each { messages_max, .. } if account.messages >= messages_max => {
                Err(Full::Messages(messages_max))
            }
            Limits::Each { bytes_max, .. }
                if account.bytes > 0 && account.bytes.saturating_add(bytes) > bytes_max =>
            {
                Err(Full::Bytes(bytes_max))
            }
            // Then nobody has more than is free beyond what its host has.
            Limits::Shared { bytes_max } if state.bytes < bytes_max / 3 => Ok(()),
            Limits::Shared { bytes_max }
                if state.bytes > 0 && account.bytes >= state.share_bytes(peer, bytes_max) =>
            {
                Err(Full::Bytes(bytes_max))
            }
            _ => Ok(()),
        }
    }

    /// A waiter that may enter: first one for `peer`, then for the next one of all in turn.
    fn next(&self, state: &mut State, peer: u32) -> Option<Waker> {
        if let Some(next) = self.next_of(state, peer) {
            return Some(next);
        }
        let other = state.waiting.pop_front()?;
        let next = self.next_of(state, other);
        let account = state.peers.peer_entry_mut(other);
        account.waits = !account.waiters.is_empty();
        if account.waits {
            state.waiting.push_back(other);
        }
        next
    }

    fn next_of(&self, state: &mut State, peer: u32) -> Option<Waker> {
        self.check(state, peer, 0).ok()?;
        let next = state.peers.peer_entry_mut(peer).waiters.take_oldest();
        state.waiters -= usize::from(next.is_some());
        next
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

impl State {
    /// Share of `peer` in a room for `bytes_max`: the free bytes less those that its host holds.
    fn share_bytes(&self, peer: u32, bytes_max: u64) -> u64 {
        let of_host = self.peers.host_entry(self.peers.host(peer)).bytes;
        bytes_max.saturating_sub(self.bytes).saturating_sub(of_host)
    }

    fn register(&mut self, peer: u32, known: Option<Place>, waker: &Waker) -> Place {
        let account = self.peers.peer_entry_mut(peer);
        let before = account.waiters.len();
        let mut ticket = known.filter(|place| place.peer == peer).map(|place| place.ticket);
        account.waiters.register(&mut ticket, waker);
        self.waiters += account.waiters.len() - before;
        if !std::mem::replace(&mut account.waits, true) {
            self.waiting.push_back(peer);
        }
        Place { peer, ticket: ticket.unwrap_or(0) }
    }

    /// `false`: it was taken to be woken before.
    fn withdraw(&mut self, place: Place) -> bool {
        self.take(place).is_some()
    }

    fn take(&mut self, place: Place) -> Option<Waker> {
        let taken = self.peers.peer_entry_mut(place.peer).waiters.take(place.ticket);
        self.waiters -= usize::from(taken.is_some());
        taken
    }

    fn add_deadline(&mut self, at_ns: u64, place: Place) {
        if self.deadlines.len() > self.waiters.saturating_add(STALE_DEADLINES_MAX) {
            let peers = &self.peers;
            self.deadlines.retain(|Reverse((_, place))| {
                peers.peer_entry(place.peer).waiters.contains(place.ticket)
            });
        }
        self.deadlines.push(Reverse((at_ns, place)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn each(messages_max: usize, bytes_max: u64) -> Room {
        Room::new(Limits::Each { messages_max, bytes_max })
    }

    fn peer(host: u8, port: u16) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, host], port))
    }

    fn here() -> SocketAddr {
        peer(1, 1)
    }

    /// Takes room for messages of `bytes` until there is none; gives it back later.
    fn fill(room: &Room, peer: SocketAddr, bytes: u64) -> Vec<Charge> {
        std::iter::from_fn(|| room.try_enter(peer, bytes).ok()).collect()
    }

    #[test]
    fn a_message_longer_than_the_room_goes_alone() {
        for limits in
            [Limits::Each { messages_max: 10, bytes_max: 100 }, Limits::Shared { bytes_max: 100 }]
        {
            let room = Room::new(limits);
            let charge = room.try_enter(here(), 500).unwrap();
            assert_eq!(room.try_enter(here(), 1).unwrap_err(), Full::Bytes(100));
            room.leave(charge, &mut Wakes::default());
            let _charge = room.try_enter(here(), 60).unwrap();
            assert_eq!(room.try_enter(here(), 60).unwrap_err(), Full::Bytes(100));
            assert_eq!(room.used(), (1, 60));
        }
    }

    #[test]
    fn calls_to_one_server_take_no_room_from_those_to_another() {
        let room = each(3, 1_000);
        let stuck = fill(&room, here(), 1);
        assert_eq!(stuck.len(), 3);
        assert_eq!(fill(&room, peer(1, 2), 1).len(), 3);
        assert_eq!(room.used(), (6, 6));
    }

    #[test]
    fn however_much_others_take_of_a_shared_room_something_is_left() {
        let room = Room::new(Limits::Shared { bytes_max: 27_000 });
        let taken = |peer| fill(&room, peer, 1).len();
        assert_eq!(
            [taken(peer(1, 1)), taken(peer(2, 1)), taken(peer(3, 1))],
            [9_000, 6_000, 4_000]
        );
        // Another port of a host has to share with it.
        assert_eq!([taken(peer(3, 2)), taken(peer(4, 1))], [1_334, 2_222]);
        assert!(room.is_modest(peer(5, 1)));
        assert!(!room.is_modest(peer(1, 1)));
    }

    #[test]
    fn many_ports_of_a_host_have_half_of_a_shared_room() {
        let room = Room::new(Limits::Shared { bytes_max: 10_000 });
        let taken: usize = (1..1_000).map(|port| fill(&room, peer(1, port), 1).len()).sum();
        assert_eq!(taken, 5_000);
        assert_eq!(fill(&room, peer(2, 1), 1).len(), 1_667);
    }

    #[test]
    fn who_has_half_of_its_share_is_not_modest_any_more() {
        let room = Room::new(Limits::Shared { bytes_max: 8_000 });
        let mut charges: Vec<Charge> =
            (0..2_000).map(|_| room.try_enter(here(), 1).unwrap()).collect();
        assert!(!room.is_modest(here()), "it has 2,000 and may have 4,000");
        room.leave(charges.pop().unwrap(), &mut Wakes::default());
        assert!(room.is_modest(here()));
        assert_eq!(room.given_back(here()), Some(1));
    }

    #[test]
    fn who_gives_nothing_back_is_waited_for_once() {
        let room = Room::new(Limits::Shared { bytes_max: 9 });
        let mut charges = fill(&room, here(), 1);
        assert!(room.enter_at_last(here(), 1).is_none());
        assert_eq!(room.given_back(here()), None);
        room.leave(charges.pop().unwrap(), &mut Wakes::default());
        assert_eq!(room.given_back(here()), Some(1));
        assert!(room.enter_at_last(peer(2, 1), 100).is_some(), "it has nothing");
    }

    #[test]
    fn room_given_back_together_lets_as_many_enter_as_if_it_came_one_by_one() {
        let room = each(3, 1_000);
        let mut charges = Charges::default();
        fill(&room, here(), 5).into_iter().for_each(|charge| charges.add(charge));
        charges.add(room.try_enter(peer(2, 1), 7).unwrap());
        charges.add(room.try_enter(peer(2, 1), 9).unwrap());
        assert_eq!((charges.charges.len(), room.used()), (2, (5, 31)));
        let mut places = [None; 4];
        for place in &mut places {
            room.enter_or_wait(here(), 1, place, Waker::noop(), NEVER_NS).unwrap_err();
        }
        let mut wakes = Wakes::default();
        assert_eq!(room.leave_all(&mut charges, &mut wakes), 5);
        assert_eq!((wakes.len(), room.used()), (4, (0, 0)));
        assert_eq!([here(), peer(2, 1)].map(|peer| room.given_back(peer)), [Some(3), Some(2)]);
        assert!(charges.is_empty());
        assert_eq!(fill(&room, here(), 1).len(), 3);
    }

    #[test]
    fn only_the_waiters_whose_deadline_has_come_are_woken() {
        let room = each(1, 100);
        let _charge = room.try_enter(here(), 1).unwrap();
        let mut places = [None; 3];
        for (place, deadline_ns) in places.iter_mut().zip([30, 10, 20]) {
            room.enter_or_wait(here(), 1, place, Waker::noop(), deadline_ns).unwrap_err();
        }
        assert_eq!(room.deadline_ns(), 10);
        let mut wakes = Wakes::default();
        room.expire(20, &mut wakes);
        assert_eq!((wakes.len(), room.deadline_ns()), (2, 30));
    }

    #[test]
    fn deadlines_of_those_who_are_gone_do_not_pile_up() {
        let room = each(1, 100);
        let _charge = room.try_enter(here(), 1).unwrap();
        for at_ns in 0..10_000 {
            let mut place = None;
            room.enter_or_wait(here(), 1, &mut place, Waker::noop(), 1_000 + at_ns).unwrap_err();
            room.withdraw(place.unwrap());
        }
        assert!(room.lock().deadlines.len() <= STALE_DEADLINES_MAX + 2);
    }

    #[test]
    fn room_for_several_wakes_several() {
        let room = each(10, 100);
        let charge = room.try_enter(here(), 100).unwrap();
        let flag = std::sync::Arc::new(Flag::default());
        let (mut first, mut second) = (None, None);
        room.enter_or_wait(here(), 10, &mut first, Waker::noop(), NEVER_NS).unwrap_err();
        let waker = Waker::from(flag.clone());
        room.enter_or_wait(here(), 10, &mut second, &waker, NEVER_NS).unwrap_err();
        room.leave(charge, &mut Wakes::default());
        let _charge = room.enter_or_wait(here(), 10, &mut first, Waker::noop(), NEVER_NS).unwrap();
        assert!(flag.0.load(Ordering::SeqCst));
    }

    #[test]
    fn room_given_back_by_one_is_offered_to_others_who_may_have_it() {
        let room = Room::new(Limits::Shared { bytes_max: 100 });
        let one = room.try_enter(peer(1, 1), 60).unwrap();
        let _other = room.try_enter(peer(2, 1), 50).unwrap();
        let mut places = [None; 3];
        for (place, host) in places.iter_mut().zip(1..) {
            room.enter_or_wait(peer(host, 1), 10, place, Waker::noop(), NEVER_NS).unwrap_err();
        }
        let mut wakes = Wakes::default();
        room.leave(one, &mut wakes);
        assert_eq!(wakes.len(), 1, "the first has nothing now");
        let _one =
            room.enter_or_wait(peer(1, 1), 10, &mut places[0], Waker::noop(), NEVER_NS).unwrap();
        assert_eq!(room.lock().waiters, 2);
        let mut wakes = Wakes::default();
        for _ in 0..3 {
            room.leave(room.try_enter(peer(1, 1), 0).unwrap(), &mut wakes);
        }
        assert_eq!(wakes.len(), 1, "the third has nothing, the second its share");
    }

    #[test]
    fn a_waiter_whose_turn_had_come_passes_it_on_when_it_goes_away() {
        let room = each(1, 100);
        let charge = room.try_enter(here(), 1).unwrap();
        let (mut first, mut second) = (None, None);
        let wait = |place: &mut Option<Place>, waker: &Waker| {
            assert!(room.enter_or_wait(here(), 1, place, waker, NEVER_NS).is_err());
        };
        let flag = std::sync::Arc::new(Flag::default());
        wait(&mut first, Waker::noop());
        wait(&mut second, &Waker::from(flag.clone()));
        let mut wakes = Wakes::default();
        room.leave(charge, &mut wakes);
        assert_eq!(wakes.len(), 1);
        room.withdraw(first.unwrap());
        assert!(flag.0.load(Ordering::SeqCst));
    }

    #[derive(Default)]
    struct Flag(std::sync::atomic::AtomicBool);

    impl std::task::Wake for Flag {
        fn wake(self: std::sync::Arc<Self>) {
            self.0.store(true, Ordering::SeqCst);
        }
    }
}
