//! Events of an RPC that wait to be handed out.

use alloc::collections::VecDeque;

use crate::engine::peer::{PeerIndex, PeerTable};
use crate::engine::rpc::index::RpcIndex;
use crate::engine::rpc::{Rpc, RpcTable, State};
use crate::engine::short::ShortRpc;
use crate::event::{Event, FailReason};
use crate::structures::OutOfMemory;
use crate::structures::ring::Ring;

/// Events of an RPC, in the order in which they are reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Happened {
    Started,
    Progress,
    Arrived,
    Failed,
    Released,
    Ended,
}

impl Happened {
    const ORDER: [Self; 6] =
        [Self::Started, Self::Progress, Self::Arrived, Self::Failed, Self::Released, Self::Ended];

    const fn bit(self) -> u8 {
        1 << self as u8
    }
}

/// What is told by one event when it has happened at once.
const REQUEST_WHOLE: u8 = Happened::Started.bit() | Happened::Arrived.bit();
const RESPONSE_WHOLE: u8 = REQUEST_WHOLE | Happened::Released.bit();
const RESPONSE_DELIVERED: u8 = Happened::Released.bit() | Happened::Ended.bit();

/// Pending events of an RPC. Each is reported once, however often it happened.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PendingEvents {
    /// One bit for each [`Happened`].
    bits: u8,
    /// Counts if it has [`Happened::Failed`].
    reason: FailReason,
    /// The application knows the RPC: [`Happened::Started`] was handed out, or it made the call.
    announced: bool,
    /// The RPC waits in the queue.
    queued: bool,
}

impl Default for PendingEvents {
    fn default() -> Self {
        Self { bits: 0, reason: FailReason::Aborted, announced: false, queued: false }
    }
}

impl PendingEvents {
    pub(crate) fn add(&mut self, what: Happened) {
        self.bits |= what.bit();
    }

    pub(crate) fn add_failure(&mut self, reason: FailReason) {
        self.add(Happened::Failed);
        self.reason = reason;
    }

    /// Drops a pending event.
    pub(crate) fn forget(&mut self, what: Happened) {
        self.bits &= !what.bit();
    }

    /// The application knows the RPC.
    pub(crate) fn set_announced(&mut self) {
        self.announced = true;
    }

    /// A request that came whole is to be told of.
    pub(crate) fn set_request_whole(&mut self) {
        *self = Self { bits: REQUEST_WHOLE, queued: true, ..Self::default() };
    }

    /// A response that came whole is to be told of.
    pub(crate) fn set_response_whole(&mut self) {
        *self = Self { bits: RESPONSE_WHOLE, queued: true, announced: true, ..Self::default() };
    }

    /// A response that its client has is to be told of.
    pub(crate) fn set_response_delivered(&mut self) {
        *self = Self { bits: RESPONSE_DELIVERED, queued: true, announced: true, ..Self::default() };
    }

    /// Whether the RPC waits in the queue.
    pub(crate) fn is_queued(&self) -> bool {
        self.queued
    }

    /// Takes all that is to be told, and tells nothing.
    fn take_all(&mut self) -> u8 {
        core::mem::take(&mut self.bits)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.bits == 0
    }

    fn contains(&self, what: Happened) -> bool {
        self.bits & what.bit() != 0
    }

    fn take_first(&mut self) -> Option<Happened> {
        let first = Happened::ORDER.get(self.bits.trailing_zeros() as usize).copied();
        self.bits &= self.bits.wrapping_sub(1);
        first
    }
}

/// Pending events, in order.
#[derive(Debug, Default)]
pub(crate) struct EventQueue {
    /// RPCs with events, each at most once.
    rpcs: Ring<RpcIndex>,
    new_peers: VecDeque<PeerIndex>,
    answer_expected: bool,
}

impl EventQueue {
    /// Makes room for `rpcs` RPCs.
    pub(crate) fn try_reserve(&mut self, rpcs: usize) -> Result<(), OutOfMemory> {
        self.rpcs.try_reserve(rpcs)
    }

    /// Queues an RPC with pending events.
    #[inline]
    pub(crate) fn push(&mut self, rpc: &mut Rpc) {
        if !core::mem::replace(&mut rpc.pending.queued, true) {
            self.rpcs.push_back(rpc.index());
        }
    }

    /// Queues an RPC in short form, which is not in the queue.
    #[inline]
    pub(crate) fn push_short(&mut self, index: RpcIndex) {
        self.rpcs.push_back(index);
    }

    /// Queues the event about a new peer.
    pub(crate) fn try_push_peer(&mut self, index: PeerIndex) -> Result<(), OutOfMemory> {
        self.new_peers.try_reserve(1).map_err(|_| OutOfMemory)?;
        self.new_peers.push_back(index);
        Ok(())
    }

    /// Whether the application has just got a request: its answer, which may come soon, goes first.
    #[inline]
    pub(crate) fn is_answer_expected(&self) -> bool {
        self.answer_expected
    }

    /// The answer has come, or would have.
    #[inline]
    pub(crate) fn expect_no_answer(&mut self) {
        self.answer_expected = false;
    }

    /// The next event.
    #[inline]
    pub(crate) fn pop(&mut self, rpcs: &mut RpcTable, peers: &PeerTable) -> Option<Event> {
        // Mostly there is nothing, and every turn calls this several times.
        if !self.new_peers.is_empty() {
            return self.pop_peer(rpcs, peers);
        }
        let first = *self.rpcs.front()?;
        if rpcs.short(first).is_some() {
            self.pop_short(first, rpcs, peers)
        } else {
            self.pop_of_rpc(rpcs, peers)
        }
    }

    #[cold]
    fn pop_peer(&mut self, rpcs: &mut RpcTable, peers: &PeerTable) -> Option<Event> {
        while let Some(index) = self.new_peers.pop_front() {
            if let Some(peer) = peers.get(index) {
                return Some(Event::PeerAdded { path: peer.path });
            }
        }
        self.pop_of_rpc(rpcs, peers)
    }

    /// The event of an RPC in short form, the first in the queue.
    #[inline(always)]
    fn pop_short(
        &mut self,
        index: RpcIndex,
        rpcs: &mut RpcTable,
        peers: &PeerTable,
    ) -> Option<Event> {
        self.rpcs.pop_front();
        self.answer_expected |= rpcs.short(index).is_some_and(ShortRpc::is_in_service);
        rpcs.tell_short(index, peers)
    }

    /// The next event of the first RPC that has one.
    fn pop_of_rpc(&mut self, rpcs: &mut RpcTable, peers: &PeerTable) -> Option<Event> {
        while let Some(index) = self.rpcs.front().copied() {
            if rpcs.short(index).is_some() {
                return self.pop_short(index, rpcs, peers);
            }
            let Some(rpc) = rpcs.known_mut(index) else {
                self.rpcs.pop_front();
                continue;
            };
            if let Some(event) = rpc.whole() {
                self.rpcs.pop_front();
                match event {
                    Event::ResponseDelivered { .. } => rpcs.remove(index),
                    _ => self.answer_expected |= !rpc.is_client(),
                }
                return Some(event);
            }
            let told = rpc.next_to_tell();
            if rpc.pending.is_empty() {
                rpc.pending.queued = false;
                self.rpcs.pop_front();
            }
            match told {
                None if rpc.state() == State::Dead => rpcs.remove(index),
                None => {}
                Some(Happened::Ended) => {
                    let key = rpc.key();
                    rpcs.remove(index);
                    return Some(Event::Ended { rpc: key });
                }
                Some(Happened::Arrived) => {
                    self.answer_expected |= !rpc.is_client();
                    return rpc.event(Happened::Arrived);
                }
                Some(told) => return rpc.event(told),
            }
        }
        None
    }

    #[cfg(any(test, feature = "check"))]
    pub(crate) fn rpcs(&self) -> impl Iterator<Item = RpcIndex> + '_ {
        self.rpcs.iter().copied()
    }
}

impl Rpc {
    /// Takes all pending events if they have one in common.
    #[inline]
    fn whole(&mut self) -> Option<Event> {
        let (rpc, length, client) = (self.key(), self.rx.length(), self.is_client());
        let (framed, open) = (self.rx.is_framed(), self.rx.is_open());
        let event = match self.pending.bits {
            REQUEST_WHOLE if !client => {
                let path = self.path;
                Event::RequestWhole { rpc, length, framed, open, path }
            }
            RESPONSE_WHOLE if client => {
                let (cookie, released_upto) = (self.call.cookie, self.tx.released());
                Event::ResponseWhole { rpc, length, framed, open, cookie, released_upto }
            }
            RESPONSE_DELIVERED if !client && self.pending.announced => {
                Event::ResponseDelivered { rpc, released_upto: self.tx.released() }
            }
            _ => return None,
        };
        self.pending = PendingEvents { announced: true, ..PendingEvents::default() };
        Some(event)
    }

    /// Takes the next event.
    #[inline]
    fn next_to_tell(&mut self) -> Option<Happened> {
        if self.pending.announced { self.pending.take_first() } else { self.announce() }
    }

    #[inline(never)]
    fn announce(&mut self) -> Option<Happened> {
        if self.pending.contains(Happened::Started) && self.state() != State::Dead {
            self.pending.announced = true;
            return self.pending.take_first();
        }
        // An RPC that is over before it was announced is not announced at all, but the store has to
        // learn that its bytes are not wanted.
        let ended = self.pending.take_all() & Happened::Ended.bit() != 0;
        (ended && self.rx.received() > 0).then_some(Happened::Ended)
    }

    /// The event that tells it; `Some`, so that it is made where it is returned.
    #[inline]
    fn event(&self, what: Happened) -> Option<Event> {
        let (rpc, cookie, client) = (self.key(), self.call.cookie, self.is_client());
        let (rx, length) = (&self.rx, self.rx.length());
        Some(match what {
            Happened::Started if client => {
                let (framed, open) = (rx.is_framed(), rx.is_open());
                Event::ResponseStarted { rpc, cookie, length, framed, open }
            }
            Happened::Started => {
                let (framed, open) = (rx.is_framed(), rx.is_open());
                Event::RequestStarted { rpc, path: self.path, length, framed, open }
            }
            Happened::Progress => {
                Event::BodyProgress { rpc, contiguous_upto: rx.contiguous(), length }
            }
            Happened::Arrived if client => Event::ResponseArrived { rpc, cookie, length },
            Happened::Arrived => Event::RequestArrived { rpc, length },
            Happened::Failed => Event::Failed { rpc, cookie, reason: self.pending.reason },
            Happened::Released => Event::Released { rpc, upto: self.tx.released() },
            Happened::Ended => Event::Ended { rpc },
        })
    }
}
