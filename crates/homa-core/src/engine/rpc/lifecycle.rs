//! How RPCs begin and end, and the events about them.

use alloc::collections::VecDeque;

use homa_wire::{Body, Reason};

use crate::addr::Path;
use crate::engine::Engine;
use crate::engine::peer::CHARGE_PER_PACKET;
use crate::engine::peer::{Peer, PendingAck};
use crate::engine::recovery::reactions::next_interval_ns;
use crate::engine::rpc::events::Happened;
use crate::engine::rpc::{Role, Rpc, State};
use crate::engine::sender::admission::must_prove;
use crate::engine::stats::Count;
use crate::event::{Event, FailReason};
use crate::structures::NIL;
use crate::structures::OutOfMemory;
use crate::time::{Instant, nanos};

impl Engine {
    /// Makes a new RPC, which enters the table and all structures that are indexed by it.
    pub(crate) fn add_rpc(
        &mut self,
        role: Role,
        id: u64,
        path: &Path,
        peer_index: u32,
    ) -> Result<u32, OutOfMemory> {
        if !self.rpcs.has_room() || self.rpcs.capacity() > self.rpcs_covered {
            self.make_room_for_rpc()?;
        }
        let (birth, now) = (self.next_birth(), self.now);
        let new = |key| Rpc::new(key, role, id, path, peer_index, birth, now);
        let index = self.rpcs.insert(new).ok_or(OutOfMemory)?;
        if let Some(peer) = self.peers.known_mut(peer_index) {
            peer.references = peer.references.saturating_add(1);
        }
        if role == Role::Client {
            self.link_client(index);
        }
        Ok(index)
    }

    fn make_room_for_rpc(&mut self) -> Result<(), OutOfMemory> {
        let capacity = self.rpcs.reserve(self.config.rpcs_max as usize)?;
        self.cover_rpcs(capacity)?;
        self.rpcs_covered = capacity;
        Ok(())
    }

    /// Grows every table that is indexed by RPC, before the first such index is used.
    fn cover_rpcs(&mut self, capacity: usize) -> Result<(), OutOfMemory> {
        self.granter.try_reserve(capacity)?;
        self.pacer.try_reserve(capacity)?;
        self.rpc_timers.try_reserve(capacity)?;
        self.starved.try_reserve(capacity)?;
        self.strangers.try_reserve(capacity)?;
        self.blocked_positions.try_reserve(capacity)?;
        let events = capacity.saturating_sub(self.events.len());
        self.events.try_reserve(events).map_err(|_| OutOfMemory)
    }

    pub(crate) fn next_birth(&mut self) -> u64 {
        self.next_birth = self.next_birth.saturating_add(1);
        self.next_birth
    }

    /// Ends an RPC: it leaves every structure; its memory is given back; what remains are the
    /// events that tell the caller.
    pub(crate) fn end_rpc(&mut self, index: u32) {
        let Some(rpc) = self.rpcs.known(index).filter(|rpc| rpc.state != State::Dead) else {
            return;
        };
        let (peer, id) = (rpc.peer, rpc.id);
        let is_server = rpc.role == Role::Server;
        let (confirmed, charged) = (rpc.confirmed, !rpc.charge.is_none());
        match rpc.role {
            // Its complete response took it out of these.
            Role::Client if rpc.state == State::Delivered => {}
            Role::Client => {
                self.client_ids.remove(&id);
                self.unlink_client(index);
            }
            Role::Server => {
                self.server_ids.remove(&(peer, id));
                self.client_hosts.remove(&rpc.path, id, index);
                self.forget_response(index);
                let now = self.read_clock.stamp();
                if let Some(peer) = self.peers.known_mut(peer) {
                    self.holders.end(peer.host, &mut peer.served);
                    // It was not among them when it was accepted, and room was kept for it then.
                    let _ = self.finished.insert_unknown(now, peer.hash, id);
                }
            }
        }
        if confirmed {
            self.set_confirmed(index, false);
        }
        // Before its charge: the room that it leaves must not be given to itself.
        self.unblock(index);
        if charged {
            self.release_charge(index, false);
        }
        self.granter.remove(index, &mut self.rpcs);
        self.pacer.remove(index);
        self.rpc_timers.remove(index);
        if let Some(peer) = self.peers.known_mut(peer) {
            peer.references = peer.references.saturating_sub(1);
            peer.last_used = self.now;
        }
        if is_server {
            self.strangers.remove(index);
        }
        let Some(rpc) = self.rpcs.known_mut(index) else {
            return;
        };
        if rpc.rx.starved {
            self.starved.remove(index, rpc.rx.holder);
        }
        self.memory.release(rpc);
        rpc.state = State::Dead;
        rpc.tx.retransmit.clear();
        rpc.pending.forget(Happened::Progress);
        if rpc.tx.released < rpc.tx.length {
            rpc.tx.released = rpc.tx.length;
            rpc.pending.add(Happened::Released);
        }
        rpc.pending.add(Happened::Ended);
        queue_event(&mut self.events, rpc);
        self.memory_freed();
    }

    /// Ends an RPC with a reason that the application is told.
    pub(crate) fn fail_rpc(&mut self, index: u32, reason: FailReason) {
        let Some(rpc) = self.rpcs.known_mut(index) else {
            return;
        };
        if rpc.state == State::Dead {
            return;
        }
        let told = match rpc.role {
            Role::Client => rpc.state != State::Delivered,
            Role::Server => matches!(rpc.state, State::Incoming | State::InService),
        };
        if told {
            let peer_heard =
                self.peers.known(rpc.peer).is_some_and(|peer| peer.validation.has_received());
            let reason = match reason {
                FailReason::NoService if rpc.may_have_arrived(true, peer_heard) => {
                    FailReason::ServiceGone
                }
                FailReason::ServiceGone if !rpc.may_have_arrived(false, peer_heard) => {
                    FailReason::NoService
                }
                other => other,
            };
            rpc.pending.add_failure(reason);
            if rpc.is_client() {
                self.stats.calls_failed.inc();
            }
        }
        self.end_rpc(index);
    }

    /// The peer's last word on a request or response: it is complete at the other end.
    pub(crate) fn release_outgoing(&mut self, index: u32, upto: u32) {
        let Some(rpc) = self.rpcs.known_mut(index) else {
            return;
        };
        let upto = upto.min(rpc.tx.sent);
        if upto > rpc.tx.released {
            let bytes = upto.saturating_sub(rpc.tx.released);
            rpc.tx.released = upto;
            rpc.tx.retransmit.remove_below(upto);
            rpc.pending.add(Happened::Released);
            queue_event(&mut self.events, rpc);
            if !rpc.is_client() {
                self.response_taken(index, bytes);
            }
        }
    }

    /// A client's response is complete: the server may forget it.
    pub(crate) fn acknowledge(&mut self, index: u32) {
        let Some(rpc) = self.rpcs.known(index) else {
            return;
        };
        let ack = PendingAck { client_id: rpc.id, server_port: rpc.path.remote.port() };
        let overflow = self.peers.known_mut(rpc.peer).and_then(|peer| peer.acks.push(ack));
        if overflow.is_some() {
            let (path, id, own) = (rpc.path, rpc.id, self.speaks_own(rpc));
            self.push_ack_packet(path, id, own);
        }
    }

    /// The caller does not want the response any more, whether it has come meanwhile or not.
    pub(crate) fn forget_arrival(&mut self, index: u32) {
        if let Some(rpc) = self.rpcs.known_mut(index) {
            rpc.pending.forget(Happened::Arrived);
        }
    }

    pub(crate) fn queue_event(&mut self, index: u32) {
        if let Some(rpc) = self.rpcs.known_mut(index) {
            queue_event(&mut self.events, rpc);
        }
    }

    /// Hands out the next event of the first RPC that has one.
    pub(crate) fn next_rpc_event(&mut self) -> Option<Event> {
        while let Some(index) = self.events.front().copied() {
            let Some(rpc) = self.rpcs.known_mut(index) else {
                self.events.pop_front();
                continue;
            };
            let told = rpc.next_to_tell();
            if rpc.pending.is_empty() {
                rpc.in_event_queue = false;
                self.events.pop_front();
            }
            match told {
                None if rpc.state == State::Dead => self.rpcs.remove(index),
                None => {}
                Some(Happened::Ended) => {
                    let key = rpc.key;
                    self.rpcs.remove(index);
                    return Some(Event::Ended { rpc: key });
                }
                Some(told) => {
                    self.answer_expected |= told == Happened::Arrived && !rpc.is_client();
                    return rpc.event(told);
                }
            }
        }
        None
    }

    /// Begins to receive a message of `length` bytes, of which the sender says that `announced` come without
    /// grant. Unless it is complete at once its timer has to be armed.
    pub(crate) fn start_incoming(&mut self, index: u32, length: u32, announced: u32) {
        let birth = self.next_birth();
        let unscheduled = announced.min(self.unscheduled_max());
        let Some(rpc) = self.rpcs.known_mut(index) else {
            return;
        };
        let peer = self.peers.known(rpc.peer);
        let own = rpc.own && peer.is_some_and(Peer::is_own);
        let base = next_interval_ns(peer, own, self.now, &self.config);
        let window = peer.and_then(|peer| peer.settings.window_bytes);
        rpc.rx.begin(length, unscheduled, birth);
        rpc.rx.streaming |= rpc.response_streaming;
        rpc.rx.window = window.unwrap_or(0);
        rpc.rx.unproved = peer.is_some_and(|peer| must_prove(rpc, peer));
        rpc.rx.moved_at = self.now;
        rpc.progress_at = self.now;
        rpc.resend.reset(base);
        let upto = rpc.rx.granted;
        if !self.memory.reserve(rpc, upto) {
            rpc.rx.starved = true;
            self.starved.add(index, (length, birth));
            self.stats.messages_starved.inc();
        } else {
            // Also if the packet at hand should find no memory: the message is known now.
            self.granter.touch(rpc);
        }
        rpc.pending.add(Happened::Started);
        queue_event(&mut self.events, rpc);
    }

    /// Bytes of a message that room is kept for on its sender's word: what this end would send at most before
    /// there is a reaction. For more the message has to come first, or to be granted.
    pub(crate) fn unscheduled_max(&self) -> u32 {
        self.config.unscheduled_bytes.max(self.config.unscheduled_in_flight_max_bytes)
    }

    /// Memory came free: feeds starved messages, shortest first, and looks at needy ones again.
    #[inline]
    pub(crate) fn memory_freed(&mut self) {
        if core::mem::take(&mut self.memory.freed) {
            self.granter.retry();
            if !self.starved.is_empty() {
                self.serve_starved();
            }
        }
    }

    #[inline(never)]
    fn serve_starved(&mut self) {
        self.starved.recall(STARVED_LOOKS / 2);
        let mut served = false;
        for _ in 0..STARVED_LOOKS {
            let Some(index) = self.starved.first() else {
                return;
            };
            let Some(rpc) = self.rpcs.known_mut(index) else {
                return;
            };
            let upto = rpc.rx.granted;
            if !self.memory.reserve(rpc, upto) {
                if !self.memory.is_for_others(rpc, upto) {
                    return;
                }
                self.starved.set_apart(rpc.rx.holder);
                continue;
            }
            served = true;
            // Its sender's silence begins now, by every measure.
            rpc.rx.starved = false;
            rpc.rx.moved_at = self.now;
            rpc.last_heard = self.now;
            rpc.progress_at = self.now;
            self.granter.touch(rpc);
            let holder = rpc.rx.holder;
            self.starved.remove(index, holder);
            self.starved.recall_of(holder);
            self.push_missing(index);
            self.arm(index, nanos(self.config.resend_interval));
        }
        // There may be room for more.
        self.memory.freed |= served;
    }

    /// Makes sure that the RPC's timer looks at it within `interval_ns` from now.
    pub(crate) fn arm(&mut self, index: u32, interval_ns: u64) {
        self.arm_at(index, self.now.plus_ns(interval_ns));
    }

    pub(crate) fn arm_at(&mut self, index: u32, at: Instant) {
        if self.rpc_timers.key(index).is_none_or(|armed| armed > at) {
            self.rpc_timers.set(index, at);
        }
    }

    /// Moves a client RPC between "watched by its own timer" and "watched through its peer".
    pub(crate) fn set_confirmed(&mut self, index: u32, confirmed: bool) {
        let first_interval = nanos(self.config.resend_interval).saturating_mul(2);
        let Some(rpc) = self.rpcs.known_mut(index) else {
            return;
        };
        rpc.doubts = 0;
        if rpc.confirmed == confirmed {
            return;
        }
        rpc.confirmed = confirmed;
        let peer_index = rpc.peer;
        let Some(peer) = self.peers.known_mut(peer_index) else {
            return;
        };
        if !confirmed {
            peer.liveness.end_wait();
        } else if let Some(at) = peer.liveness.begin_wait(self.now, first_interval) {
            self.arm_peer(peer_index, at);
        }
    }

    /// The peer reacted to what was sent of an RPC: none of it is on its way any more.
    pub(crate) fn reacted(&mut self, index: u32) {
        self.release_charge(index, true);
    }

    /// The RPC's unscheduled data does not count as on its way any more; if its peer `reacted`, that is noted.
    #[inline]
    fn release_charge(&mut self, index: u32, reacted: bool) {
        let Some(rpc) = self.rpcs.known_mut(index) else {
            return;
        };
        if rpc.charge.is_none() {
            return;
        }
        let peer_index = rpc.peer;
        let Some(peer) = self.peers.known_mut(peer_index) else {
            return;
        };
        if peer.in_flight.settle(&mut rpc.charge) && reacted {
            peer.liveness.reacted(self.now);
        }
        if !peer.blocked.is_empty() {
            self.serve_blocked(peer_index);
        }
    }

    /// Takes an RPC out of the queue of those that wait for room at their peer.
    pub(crate) fn unblock(&mut self, index: u32) {
        let Some(rpc) = self.rpcs.known_mut(index) else {
            return;
        };
        if core::mem::take(&mut rpc.blocked_on_peer) {
            if let Some(peer) = self.peers.known_mut(rpc.peer) {
                peer.blocked.remove(&mut self.blocked_positions, index);
            }
        }
    }

    /// Lets blocked RPCs of a peer go on, best first, as far as there is room now.
    pub(crate) fn serve_blocked(&mut self, peer_index: u32) {
        loop {
            let Some(peer) = self.peers.known_mut(peer_index) else {
                return;
            };
            if !peer.in_flight.may_admit(peer.in_flight_max(&self.config)) {
                return;
            }
            let Some(index) = peer.blocked.pop(&mut self.blocked_positions) else {
                return;
            };
            if let Some(rpc) = self.rpcs.known_mut(index) {
                rpc.blocked_on_peer = false;
                let pending = rpc.tx.unscheduled.saturating_sub(rpc.tx.sent);
                peer.in_flight.admit(&mut rpc.charge, pending.saturating_add(CHARGE_PER_PACKET));
            }
            self.schedule(index);
        }
    }

    /// Enters an RPC into the output order, or takes it out, as its state demands.
    pub(crate) fn schedule(&mut self, index: u32) {
        if let Some(rpc) = self.rpcs.known(index) {
            self.pacer.follow(rpc, &self.config);
        }
    }

    /// Tells the other end that this one does not know the RPC any more, and why.
    pub(crate) fn tell_unknown(&mut self, index: u32, why: Reason) {
        if let Some(rpc) = self.rpcs.known(index) {
            let (path, id, own) = (rpc.path, rpc.id, self.speaks_own(rpc));
            self.push_control(path, id, own, Body::RpcUnknown, why, 0);
        }
    }

    /// Ends every RPC of `port` and tells the peers; then the port is gone.
    pub fn close_port(&mut self, now: Instant, port: u16) {
        self.tick(now);
        if !self.ports.close(port) {
            return;
        }
        for index in 0..u32::try_from(self.rpcs.capacity()).unwrap_or(NIL) {
            let Some(rpc) = self.rpcs.get(index) else {
                continue;
            };
            if rpc.path.local_port != port || rpc.state == State::Dead {
                continue;
            }
            let why = if rpc.is_client() { Reason::Cancelled } else { Reason::Closing };
            // What was delivered is acknowledged below.
            if rpc.state != State::Delivered && self.speaks_own(rpc) {
                self.tell_unknown(index, why);
            }
            self.fail_rpc(index, FailReason::EndpointClosed);
        }
        self.acknowledge_at_once(port);
    }

    /// Acknowledges what waited for a request to ride on: `port` sends no more of them, and nobody would answer
    /// the servers' questions.
    fn acknowledge_at_once(&mut self, port: u16) {
        for index in 0..u32::try_from(self.peers.capacity()).unwrap_or(NIL) {
            let own = self.is_own_peer(index);
            while let Some(peer) = self.peers.get_mut(index) {
                let mut path = peer.path;
                let Some(ack) = peer.acks.pop() else {
                    break;
                };
                path.local_port = port;
                path.remote.set_port(ack.server_port);
                self.push_ack_packet(path, ack.client_id, own);
            }
        }
    }

    fn link_client(&mut self, index: u32) {
        let Some(rpc) = self.rpcs.known(index) else {
            return;
        };
        let Some(peer) = self.peers.known_mut(rpc.peer) else {
            return;
        };
        let next = core::mem::replace(&mut peer.first_client_rpc, index);
        if let Some(rpc) = self.rpcs.known_mut(index) {
            rpc.next = next;
            rpc.previous = NIL;
            rpc.linked = true;
        }
        if let Some(neighbour) = self.rpcs.get_mut(next) {
            neighbour.previous = index;
        }
    }

    pub(crate) fn unlink_client(&mut self, index: u32) {
        let Some(rpc) = self.rpcs.known_mut(index) else {
            return;
        };
        if !core::mem::take(&mut rpc.linked) {
            return;
        }
        let (previous, next, peer) = (rpc.previous, rpc.next, rpc.peer);
        if let Some(neighbour) = self.rpcs.get_mut(next) {
            neighbour.previous = previous;
        }
        match self.rpcs.get_mut(previous) {
            Some(neighbour) => neighbour.next = next,
            None => {
                if let Some(peer) = self.peers.known_mut(peer) {
                    peer.first_client_rpc = next;
                }
            }
        }
        if let Some(peer) = self.peers.known_mut(peer) {
            if peer.probe_cursor == index {
                peer.probe_cursor = next;
            }
        }
    }
}

/// Has the events that wait at an RPC handed out. There is room in the queue for all RPCs.
pub(crate) fn queue_event(events: &mut VecDeque<u32>, rpc: &mut Rpc) {
    if !core::mem::replace(&mut rpc.in_event_queue, true) {
        events.push_back(rpc.key.index);
    }
}

/// Starved messages looked at when memory came free.
const STARVED_LOOKS: usize = 64;
