//! A queue in which clients take turns: host by host, then port by port of a host, and in the order
//! of arrival for each.

use std::collections::VecDeque;
use std::net::SocketAddr;

use super::peers::{Entry, Peers};

/// Items of many clients.
#[derive(Debug)]
pub(crate) struct Turns<T> {
    /// The only client with items needs no turns: its items are here, and there are no others.
    alone: Lane<T>,
    /// Whose items those are.
    who_is_alone: SocketAddr,
    peers: Peers<Lane<T>, Host>,
    /// Hosts whose clients have their turn, the next one first.
    hosts: VecDeque<u32>,
    /// Clients that had their turn when it was not for them; see [`Turns::pop`].
    aside: VecDeque<u32>,
    load: Load,
    /// Items of the clients that are aside.
    aside_items: usize,
}

/// Items and bytes in the queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Load {
    pub(crate) items: usize,
    pub(crate) bytes: usize,
}

/// Entries of one client.
#[derive(Debug)]
struct Lane<T> {
    /// Each with its bytes.
    items: VecDeque<(T, usize)>,
    bytes: usize,
    aside: bool,
}

/// Entries of the clients of one host.
#[derive(Debug, Default)]
struct Host {
    /// Those whose turn it will be, the next one first.
    lanes: VecDeque<u32>,
    load: Load,
}

/// Clients that are aside and looked at in one turn.
const LOOKS_ASIDE_MAX: usize = 64;

impl<T> Default for Lane<T> {
    fn default() -> Self {
        Self { items: VecDeque::new(), bytes: 0, aside: false }
    }
}

impl<T> Entry for Lane<T> {
    fn is_idle(&self) -> bool {
        self.items.is_empty()
    }
}

impl<T> Default for Turns<T> {
    fn default() -> Self {
        Self {
            alone: Lane::default(),
            who_is_alone: SocketAddr::from(([0; 4], 0)),
            peers: Peers::default(),
            hosts: VecDeque::new(),
            aside: VecDeque::new(),
            load: Load::default(),
            aside_items: 0,
        }
    }
}

impl Load {
    fn add(&mut self, bytes: usize) {
        self.items += 1;
        self.bytes += bytes;
    }

    fn remove(&mut self, bytes: usize) {
        self.items -= 1;
        self.bytes -= bytes;
    }

    fn without(self, part: Self) -> Self {
        Self { items: self.items - part.items, bytes: self.bytes - part.bytes }
    }
}

impl<T> Lane<T> {
    fn load(&self) -> Load {
        Load { items: self.items.len(), bytes: self.bytes }
    }

    #[inline]
    fn push(&mut self, item: T, bytes: usize) {
        self.items.push_back((item, bytes));
        self.bytes += bytes;
    }

    /// The next item, with its bytes.
    #[inline]
    fn pop(&mut self) -> Option<(T, usize)> {
        let popped = self.items.pop_front()?;
        self.bytes -= popped.1;
        Some(popped)
    }

    /// Moves what is `over` to `taken`, with one look at each or two.
    fn take_over(&mut self, is_over: &mut impl FnMut(&T) -> bool, taken: &mut Vec<T>) {
        if !self.items.iter().any(|(item, _)| is_over(item)) {
            return;
        }
        for _ in 0..self.items.len() {
            let Some((item, bytes)) = self.pop() else { return };
            if is_over(&item) {
                taken.push(item);
            } else {
                self.push(item, bytes);
            }
        }
    }
}

impl<T> Turns<T> {
    /// The load of all clients.
    pub(crate) fn load(&self) -> Load {
        self.load
    }

    /// Items of clients that were put aside.
    pub(crate) fn items_aside(&self) -> usize {
        self.aside_items
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.load.items == 0
    }

    /// The load of the client at `peer`, and that of its host.
    pub(crate) fn load_of(&self, peer: SocketAddr) -> (Load, Load) {
        if !self.alone.is_idle() {
            let (alone, load) = (self.who_is_alone, self.load);
            let load_if = |same: bool| if same { load } else { Load::default() };
            return (load_if(alone == peer), load_if(alone.ip() == peer.ip()));
        }
        self.peers.find(peer).map_or_else(Default::default, |peer| {
            let of_host = self.peers.host_entry(self.peers.host(peer)).load;
            (self.peers.peer_entry(peer).load(), of_host)
        })
    }

    #[inline]
    pub(crate) fn push(&mut self, peer: SocketAddr, item: T, bytes: usize) {
        if self.is_empty() {
            self.who_is_alone = peer;
        } else if self.alone.is_idle() || self.who_is_alone != peer {
            return self.queue(peer, item, bytes);
        }
        self.load.add(bytes);
        self.alone.push(item, bytes);
    }

    /// A client that was alone lines up like any other.
    #[inline(never)]
    fn queue_alone(&mut self) {
        let peer = self.peers.find_or_add(self.who_is_alone);
        std::mem::swap(self.peers.peer_entry_mut(peer), &mut self.alone);
        let host = self.peers.host(peer);
        self.peers.host_entry_mut(host).load = self.load;
        self.line_up(peer);
    }

    #[inline(never)]
    fn queue(&mut self, peer: SocketAddr, item: T, bytes: usize) {
        if !self.alone.is_idle() {
            self.queue_alone();
        }
        self.load.add(bytes);
        let peer = self.peers.find_or_add(peer);
        let lane = self.peers.peer_entry_mut(peer);
        lane.push(item, bytes);
        let (first, aside) = (lane.items.len() == 1, lane.aside);
        let host = self.peers.host(peer);
        self.peers.host_entry_mut(host).load.add(bytes);
        if aside {
            self.aside_items += 1;
        } else if first {
            self.line_up(peer);
        }
    }

    /// The next item of a client that `may` have it. Others are put aside, keep what they have, and
    /// are looked at again later, some each time.
    #[inline]
    pub(crate) fn pop(&mut self, may: impl Fn(SocketAddr) -> bool) -> Option<T> {
        if self.is_empty() {
            return None;
        }
        if !self.alone.is_idle() {
            if may(self.who_is_alone) {
                let (item, bytes) = self.alone.pop()?;
                self.load.remove(bytes);
                return Some(item);
            }
            self.queue_alone();
        }
        self.pop_queued(may)
    }

    #[inline(never)]
    fn pop_queued(&mut self, may: impl Fn(SocketAddr) -> bool) -> Option<T> {
        if !self.aside.is_empty() {
            self.call_back(1, &may);
        }
        loop {
            let Some(host) = self.hosts.pop_front() else {
                if !self.call_back(LOOKS_ASIDE_MAX, &may) {
                    return None;
                }
                continue;
            };
            let entry = self.peers.host_entry_mut(host);
            let lane = entry.lanes.pop_front();
            if !entry.lanes.is_empty() {
                self.hosts.push_back(host);
            }
            let Some(lane) = lane else { continue };
            if may(self.peers.address(lane)) {
                return self.take(lane, host);
            }
            let entry = self.peers.peer_entry_mut(lane);
            entry.aside = true;
            self.aside_items += entry.items.len();
            self.aside.push_back(lane);
        }
    }

    /// Takes out what is `over`, in no order that matters; everything else keeps its turn.
    pub(crate) fn take_over(&mut self, mut is_over: impl FnMut(&T) -> bool) -> Vec<T> {
        let mut taken = Vec::new();
        if !self.alone.is_idle() {
            self.alone.take_over(&mut is_over, &mut taken);
            self.load = self.alone.load();
            return taken;
        }
        let Self { peers, hosts, aside, load, aside_items, .. } = self;
        let mut take_from = |peers: &mut Peers<Lane<T>, Host>, lane: u32| {
            let (lane, host) = peers.both_mut(lane);
            let before = lane.load();
            lane.take_over(&mut is_over, &mut taken);
            let over = before.without(lane.load());
            *load = load.without(over);
            host.load = host.load.without(over);
            over.items
        };
        hosts.retain(|host| {
            let mut lanes = std::mem::take(&mut peers.host_entry_mut(*host).lanes);
            lanes.retain(|lane| {
                take_from(peers, *lane);
                !peers.peer_entry(*lane).is_idle()
            });
            let kept = !lanes.is_empty();
            peers.host_entry_mut(*host).lanes = lanes;
            kept
        });
        aside.retain(|lane| {
            *aside_items -= take_from(peers, *lane);
            let entry = peers.peer_entry_mut(*lane);
            entry.aside = !entry.is_idle();
            entry.aside
        });
        taken
    }

    /// Everything, in no order that matters.
    pub(crate) fn take_all(&mut self) -> Vec<T> {
        let taken = std::mem::take(self);
        let queued = taken.peers.into_entries().flat_map(|lane| lane.items).map(|(item, _)| item);
        taken.alone.items.into_iter().map(|(item, _)| item).chain(queued).collect()
    }

    fn take(&mut self, lane: u32, host: u32) -> Option<T> {
        let entry = self.peers.peer_entry_mut(lane);
        let (item, bytes) = entry.pop()?;
        let more = !entry.items.is_empty();
        self.load.remove(bytes);
        self.peers.host_entry_mut(host).load.remove(bytes);
        if more {
            self.line_up(lane);
        }
        Some(item)
    }

    /// Puts a client last among those of its host that have their turn.
    fn line_up(&mut self, lane: u32) {
        let host = self.peers.host(lane);
        let entry = self.peers.host_entry_mut(host);
        if entry.lanes.is_empty() {
            self.hosts.push_back(host);
        }
        entry.lanes.push_back(lane);
    }

    /// Lines up again the first client of at most `looks` that are aside and `may` have their turn.
    /// Returns whether there was one.
    fn call_back(&mut self, looks: usize, may: &impl Fn(SocketAddr) -> bool) -> bool {
        for _ in 0..looks.min(self.aside.len()) {
            let Some(lane) = self.aside.pop_front() else { break };
            if may(self.peers.address(lane)) {
                let entry = self.peers.peer_entry_mut(lane);
                entry.aside = false;
                self.aside_items -= entry.items.len();
                self.line_up(lane);
                return true;
            }
            self.aside.push_back(lane);
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(host: u8, port: u16) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, host], port))
    }

    fn all(turns: &mut Turns<u32>, may: impl Fn(SocketAddr) -> bool) -> Vec<u32> {
        std::iter::from_fn(|| turns.pop(&may)).collect()
    }

    #[test]
    fn hosts_take_turns_and_then_the_ports_of_each() {
        let mut turns = Turns::default();
        for item in 0..6_u16 {
            turns.push(peer(1, 1 + item / 3), 10 + u32::from(item), 5);
        }
        turns.push(peer(2, 1), 20, 1);
        turns.push(peer(2, 1), 21, 1);
        turns.push(peer(3, 1), 30, 1);
        let (items, bytes) = (6, 30);
        let of_port = Load { items: 3, bytes: 15 };
        assert_eq!(turns.load_of(peer(1, 2)), (of_port, Load { items, bytes }));
        assert_eq!(all(&mut turns, |_| true), [10, 20, 30, 13, 21, 11, 14, 12, 15]);
        assert!(turns.is_empty());
        assert_eq!(turns.load_of(peer(1, 2)), (Load::default(), Load::default()));
        assert_eq!(turns.load(), Load::default());
    }

    #[test]
    fn who_is_alone_needs_no_turn_and_is_counted_like_others() {
        let mut turns = Turns::default();
        let load = Load { items: 1, bytes: 7 };
        turns.push(peer(1, 1), 10, 7);
        assert_eq!(turns.load_of(peer(1, 1)), (load, load));
        assert_eq!(turns.load_of(peer(1, 2)), (Load::default(), load));
        assert_eq!(turns.load_of(peer(2, 1)), (Load::default(), Load::default()));
        assert_eq!(
            (turns.pop(|_| true), turns.load(), turns.pop(|_| true)),
            (Some(10), Load::default(), None)
        );
        turns.push(peer(1, 1), 11, 7);
        assert_eq!(turns.pop(|_| false), None);
        assert_eq!((turns.load(), turns.items_aside()), (load, 1));
        assert_eq!(turns.load_of(peer(1, 1)), (load, load));
        assert_eq!((turns.pop(|_| true), turns.load()), (Some(11), Load::default()));
        turns.push(peer(1, 1), 12, 7);
        assert_eq!(turns.take_all(), [12]);
        assert!(turns.is_empty());
    }

    #[test]
    fn a_client_that_was_alone_with_many_items_takes_turns_with_the_next_one() {
        let mut turns = Turns::default();
        for item in 10..15 {
            turns.push(peer(1, 1), item, 3);
        }
        assert_eq!(turns.pop(|_| true), Some(10));
        assert_eq!(turns.take_over(|item| *item == 12), [12]);
        let load = Load { items: 3, bytes: 9 };
        assert_eq!(turns.load_of(peer(1, 1)), (load, load));
        assert_eq!((turns.load(), turns.items_aside()), (load, 0));
        assert_eq!(turns.load_of(peer(1, 2)), (Load::default(), load));
        turns.push(peer(2, 1), 20, 4);
        assert_eq!(turns.load_of(peer(1, 1)), (load, load));
        assert_eq!(turns.load(), Load { items: 4, bytes: 13 });
        assert_eq!(all(&mut turns, |_| true), [11, 20, 13, 14]);
        for item in [30, 31] {
            turns.push(peer(2, 1), item, 0);
        }
        assert_eq!(turns.pop(|_| false), None);
        assert_eq!((turns.load().items, turns.items_aside()), (2, 2));
        turns.push(peer(2, 1), 32, 0);
        assert_eq!(all(&mut turns, |_| true), [30, 31, 32]);
        for item in [40, 41] {
            turns.push(peer(3, 1), item, 0);
        }
        assert_eq!(turns.take_all(), [40, 41]);
        assert_eq!(turns.load(), Load::default());
    }

    #[test]
    fn who_may_not_have_its_turn_keeps_what_it_has() {
        let mut turns = Turns::default();
        for (host, item) in [(1, 10), (1, 11), (2, 20), (1, 12)] {
            turns.push(peer(host, 1), item, 0);
        }
        let others = |address| address != peer(1, 1);
        assert_eq!(all(&mut turns, others), [20]);
        turns.push(peer(1, 1), 13, 0);
        turns.push(peer(2, 1), 21, 0);
        assert_eq!((turns.load().items, turns.items_aside()), (5, 4));
        assert_eq!(all(&mut turns, others), [21]);
        assert_eq!(all(&mut turns, |_| true), [10, 11, 12, 13]);
        assert_eq!((turns.load().items, turns.items_aside()), (0, 0));
    }

    #[test]
    fn what_is_over_is_taken_out_and_all_else_keeps_its_turn() {
        let mut turns = Turns::default();
        turns.push(peer(1, 1), 1, 7);
        assert!(turns.take_over(|_| false).is_empty());
        assert_eq!((turns.take_over(|_| true), turns.load()), (vec![1], Load::default()));
        for (host, port, item) in
            [(1, 1, 10), (1, 1, 11), (1, 1, 12), (1, 2, 13), (2, 1, 20), (3, 1, 30), (3, 1, 31)]
        {
            turns.push(peer(host, port), item, 5);
        }
        let others = |address| address != peer(3, 1);
        assert_eq!(turns.pop(others), Some(10));
        assert_eq!(turns.pop(others), Some(20));
        assert_eq!(turns.pop(others), Some(13));
        turns.push(peer(2, 1), 21, 5);
        assert_eq!((turns.load(), turns.items_aside()), (Load { items: 5, bytes: 25 }, 2));
        assert_eq!(turns.take_over(|item| [11, 21, 30].contains(item)), [11, 21, 30]);
        assert_eq!((turns.load(), turns.items_aside()), (Load { items: 2, bytes: 10 }, 1));
        let one = Load { items: 1, bytes: 5 };
        assert_eq!(turns.load_of(peer(1, 1)), (one, one));
        assert_eq!(turns.load_of(peer(2, 1)), (Load::default(), Load::default()));
        assert_eq!(turns.take_over(|item| *item == 31), [31]);
        assert_eq!((turns.load(), turns.items_aside()), (one, 0));
        // Who had nothing left lines up as if it came for the first time.
        turns.push(peer(3, 1), 32, 5);
        turns.push(peer(2, 1), 22, 5);
        assert_eq!(all(&mut turns, |_| true), [12, 32, 22]);
        assert!(turns.is_empty());
    }

    #[test]
    fn one_of_many_that_are_aside_gets_its_turn_in_the_end() {
        let mut turns = Turns::default();
        for port in 1..=1_000 {
            turns.push(peer(1, port), u32::from(port), 0);
        }
        assert!(all(&mut turns, |_| false).is_empty());
        let may = |address| address == peer(1, 777);
        let found = (0..20).find_map(|_| turns.pop(may));
        assert_eq!(found, Some(777));
        assert_eq!(turns.take_all().len(), 999);
        assert!(turns.is_empty());
    }
}
