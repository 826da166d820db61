//! How the state of an incoming message begins, goes on and ends.

use homa_wire::{Data, Header};

use crate::engine::ctx::Ctx;
use crate::engine::peer::{Peer, PeerTable};
use crate::engine::receiver::Receiver;
use crate::engine::receiver::incoming::{Incoming, PIECE_BYTES, short_footprint};
use crate::engine::rpc::events::Happened;
use crate::engine::rpc::index::RpcIndex;
use crate::engine::rpc::{Rpc, RpcTable};
use crate::engine::sender::admission::needs_validation;
use crate::engine::stats::Count;
use crate::event::DropReason;
use crate::structures::reassembly::Insert;
use crate::time::nanos;

/// Unallocated messages visited when memory was freed.
const UNALLOCATED_LOOKS: usize = 64;

/// New bytes that a packet brought.
#[derive(Debug)]
pub(crate) struct Accepted {
    pub(crate) start: u32,
    pub(crate) end: u32,
    /// Whether its sender was unresponsive.
    pub(crate) spoke_again: bool,
}

impl Receiver {
    /// Begins to receive the message of a packet with a `payload` of so many bytes, and takes it if
    /// it is all of the message. Unless it is complete at once its timer has to be armed.
    #[inline]
    pub(crate) fn begin(
        &mut self,
        index: RpcIndex,
        (header, data, payload): (&Header, &Data, u32),
        rpcs: &mut RpcTable,
        peers: &PeerTable,
        ctx: &mut Ctx,
    ) {
        let (length, announced) = (data.message_length, data.incoming);
        let birth = rpcs.next_birth();
        let Some(rpc) = rpcs.known_mut(index) else {
            return;
        };
        let peer = peers.known(rpc.peer);
        let unscheduled = announced.min(ctx.config.unscheduled_max());
        let profile = rpc.profile_with(peer);
        rpc.rx.begin(length, unscheduled, birth);
        if data.flags != 0 {
            rpc.rx.flags = data.message_flags(&header.common);
        }
        rpc.rx.streaming |= rpc.call.streaming_response;
        rpc.progress_at = ctx.now;
        rpc.pending.add(Happened::Started);
        ctx.events.push(rpc);
        let begins = data.offset(header.common.sequence) == 0;
        let comes_whole = begins && payload >= length && profile.is_native();
        if comes_whole && self.take_whole(rpc, peer, ctx) {
            return;
        }
        rpc.resend.reset(ctx.next_interval_ns(peer, profile));
        let window = peer.and_then(|peer| peer.window_bytes());
        rpc.rx.granting.set_window(window.unwrap_or(0));
        rpc.rx.granting.measure_round_trips(profile.is_native() && announced <= unscheduled);
        rpc.rx.granting.set_round_trip_bytes(self.round_trip_bytes(peer, &ctx.config));
        rpc.rx.unvalidated = peer.is_some_and(|peer| needs_validation(rpc, peer));
        rpc.rx.moved_at = ctx.now;
        let upto = rpc.rx.granted;
        if !self.memory.reserve(rpc, upto) {
            rpc.rx.unallocated = true;
            self.unallocated.add(index, (length, birth));
            ctx.stats.messages_unallocated.inc();
        } else {
            // Also if the packet at hand should find no memory: the message is known now.
            self.granter.touch(rpc);
        }
    }

    /// Takes all of a message that has just begun: nothing of it is to be granted or missing. What
    /// is unusual is left to [`Receiver::accept`]: `false`.
    #[inline]
    fn take_whole(&mut self, rpc: &mut Rpc, peer: Option<&Peer>, ctx: &mut Ctx) -> bool {
        let length = rpc.rx.length();
        let is_usual = rpc.rx.granted == length
            && !rpc.rx.streaming
            && peer.is_some_and(|peer| !needs_validation(rpc, peer));
        if !is_usual || !self.memory.reserve(rpc, length) {
            return false;
        }
        rpc.rx.data.take_whole();
        self.buffer.note_payload(ctx.now, length);
        ctx.stats.bytes_received.inc_by(u64::from(length));
        true
    }

    /// Whether there is room for a short message of `length` bytes.
    #[inline]
    pub(crate) fn has_room_for_short(&self, length: u32) -> bool {
        self.memory.has_room(short_footprint(length))
    }

    /// Takes all of a message of an RPC in short form, for which there is room.
    #[inline(always)]
    pub(crate) fn take_short(&mut self, length: u32, ctx: &mut Ctx) {
        self.memory.take_short(short_footprint(length));
        self.buffer.note_payload(ctx.now, length);
        ctx.stats.bytes_received.inc_by(u64::from(length));
        self.cutoffs.record(length);
    }

    /// Gives the memory of such a message back.
    #[inline]
    pub(crate) fn give_short_back(&mut self, length: u32) {
        self.memory.give_back(None, short_footprint(length));
    }

    /// A packet, sent `again` or for the first time, says that the message has become longer: that
    /// it is `length` bytes, of which `announced` come without grant.
    pub(crate) fn grow(
        &mut self,
        rpc: &mut Rpc,
        (length, announced): (u32, u32),
        again: bool,
        ctx: &Ctx,
    ) {
        rpc.rx.grow(length);
        let unscheduled = announced.min(ctx.config.unscheduled_max());
        if unscheduled < announced {
            rpc.rx.granting.measure_round_trips(false);
        }
        let unscheduled = unscheduled.min(length);
        // An unvalidated client has announced what counts for it when it began.
        let counts = !again && !rpc.rx.unallocated && !rpc.rx.unvalidated;
        if counts && self.memory.reserve(rpc, unscheduled) {
            rpc.rx.announce(unscheduled);
        }
        rpc.rx.granting.take_part();
        self.granter.touch(rpc);
    }

    /// Counts the reservation of `rpc`'s message towards the share of unvalidated clients.
    pub(crate) fn count_unvalidated(&mut self, rpc: &mut Rpc) {
        // Growth is not counted later.
        let least = if rpc.rx.is_open() { u64::from(PIECE_BYTES) } else { 0 };
        self.memory.count_unvalidated(rpc, least);
    }

    /// Whether there is memory for what an unvalidated client announces.
    pub(crate) fn admits_unvalidated(&self, header: &Header, data: &Data, ctx: &Ctx) -> bool {
        let announced = data.incoming.min(ctx.config.unscheduled_max());
        let rx = Incoming::new(data.message_length, announced, 0);
        let least = if data.is_open(&header.common) { u64::from(PIECE_BYTES) } else { 0 };
        self.memory.admits_unvalidated(rx.footprint(rx.granted).max(least))
    }

    /// Counts a message as that of a validated sender if the sender has validated its address since
    /// the message began.
    #[inline]
    pub(crate) fn look_for_proof(
        &mut self,
        index: RpcIndex,
        rpcs: &mut RpcTable,
        peers: &PeerTable,
    ) {
        let unvalidated = rpcs.known(index).filter(|rpc| rpc.rx.unvalidated);
        let peer = unvalidated.and_then(|rpc| peers.known(rpc.peer));
        if peer.is_some_and(|peer| peer.validation.is_done()) {
            self.sender_validated(index, rpcs);
        }
    }

    #[cold]
    fn sender_validated(&mut self, index: RpcIndex, rpcs: &mut RpcTable) {
        if let Some(rpc) = rpcs.known_mut(index) {
            rpc.rx.unvalidated = false;
            self.memory.forget_unvalidated(rpc);
            if rpc.rx.granted_told < rpc.rx.granted {
                self.granter.mark_due(rpc);
            }
        }
        self.granter.change_sender(index, rpcs);
    }

    /// Takes the bytes `start..end` of a message, sent `again` or for the first time, as far as
    /// they are new.
    #[inline(always)]
    pub(crate) fn accept(
        &mut self,
        rpc: &mut Rpc,
        (start, end): (u32, u32),
        again: bool,
        interval_ns: u64,
        ctx: &mut Ctx,
    ) -> Result<Accepted, DropReason> {
        if rpc.rx.unallocated {
            rpc.rx.refused.note(end);
            return Err(DropReason::NoMemory);
        }
        // A packet far beyond the grant and what has come claims memory for all that is in between.
        let ahead_max = rpc.rx.data.received().saturating_add(ctx.config.unscheduled_max());
        let far_ahead = start > rpc.rx.granted.max(ahead_max);
        let takes_all =
            (!far_ahead || self.memory.is_plentiful(rpc, end)) && self.memory.reserve(rpc, end);
        if !takes_all {
            rpc.rx.refused.note(end);
        }
        // A whole segment may reach beyond the grant: the part up to there has its memory.
        let end = if takes_all { end } else { end.min(rpc.rx.held.upto) };
        if start >= end {
            return Err(DropReason::NoMemory);
        }
        let gaps_max = usize::from(ctx.config.fixed.gaps_max);
        let (start, end, bytes) = match rpc.rx.data.insert(start, end, gaps_max) {
            Insert::New { start, end, bytes } => (start, end, bytes),
            Insert::Duplicate => {
                rpc.rx.retransmissions_used = 0;
                return Err(DropReason::Duplicate);
            }
            Insert::TooManyGaps => return Err(DropReason::Limit),
            Insert::OutOfRange => return Err(DropReason::BadRange),
        };
        rpc.resend.reset(interval_ns);
        if again {
            rpc.rx.retransmissions_used = rpc.rx.retransmissions_used.saturating_add(1);
        }
        let spoke_again = core::mem::replace(&mut rpc.rx.unresponsive, false);
        if rpc.rx.moves() {
            rpc.rx.granting.take_part();
            rpc.rx.moved_at = ctx.now;
        }
        rpc.progress_at = ctx.now;
        if spoke_again {
            rpc.resend.end_wait(ctx.now);
        }
        self.granter.touch(rpc);
        if rpc.rx.streaming {
            rpc.pending.add(Happened::Progress);
            ctx.events.push(rpc);
        }
        if !rpc.rx.unvalidated {
            self.buffer.note_payload(ctx.now, bytes);
        }
        ctx.stats.bytes_received.inc_by(u64::from(bytes));
        Ok(Accepted { start, end, spoke_again })
    }

    /// A message has arrived in full.
    #[inline]
    pub(crate) fn complete(&mut self, rpc: &mut Rpc, ctx: &mut Ctx) {
        rpc.pending.add(Happened::Arrived);
        ctx.events.push(rpc);
        self.cutoffs.record(rpc.rx.length());
        self.memory.forget_unvalidated(rpc);
        self.memory.complete(rpc.key());
    }

    /// The application has taken the bytes below `upto`.
    #[inline]
    pub(crate) fn consume(&mut self, rpc: &mut Rpc, upto: u32) {
        let before = rpc.rx.reserved();
        rpc.rx.consumed = rpc.rx.consumed.max(upto);
        let after = rpc.rx.reserved();
        self.memory.shrink(rpc, before, after);
        if after == 0 && rpc.rx.is_complete() {
            self.memory.leave(rpc);
        }
        if rpc.rx.streaming {
            rpc.rx.granting.take_part();
        }
        self.granter.touch(rpc);
    }

    /// Nothing more of a message is received: it is granted nothing.
    #[inline]
    pub(crate) fn stop_granting(&mut self, index: RpcIndex, rpcs: &mut RpcTable) {
        self.granter.remove(index, rpcs);
    }

    /// Nothing more of a message is received: its memory comes free.
    #[inline]
    pub(crate) fn release(&mut self, rpc: &mut Rpc) {
        if rpc.rx.unallocated {
            self.unallocated.remove(rpc.index(), rpc.rx.held.host);
            rpc.rx.unallocated = false;
        }
        self.memory.release(rpc);
    }

    /// Gives freed memory to unallocated messages, shortest first, and retries memory-blocked ones.
    #[inline]
    pub(crate) fn use_freed_memory(&mut self, rpcs: &mut RpcTable, ctx: &mut Ctx) {
        if core::mem::take(&mut self.memory.freed) {
            self.granter.retry();
            if !self.unallocated.is_empty() {
                self.serve_unallocated(rpcs, ctx);
            }
        }
    }

    #[inline(never)]
    fn serve_unallocated(&mut self, rpcs: &mut RpcTable, ctx: &mut Ctx) {
        self.unallocated.recall(UNALLOCATED_LOOKS / 2);
        let mut served = false;
        for _ in 0..UNALLOCATED_LOOKS {
            let Some(index) = self.unallocated.first() else {
                return;
            };
            let Some(rpc) = rpcs.known_mut(index) else {
                return;
            };
            let upto = rpc.rx.granted;
            if !self.memory.reserve(rpc, upto) {
                if !self.memory.is_for_others(rpc, upto) {
                    return;
                }
                self.unallocated.set_apart(rpc.rx.held.host);
                continue;
            }
            served = true;
            // Its sender's silence begins now, by every measure.
            rpc.rx.unallocated = false;
            rpc.resend.set_interval(nanos(ctx.config.recovery.resend_interval));
            rpc.rx.moved_at = ctx.now;
            rpc.last_heard = ctx.now;
            rpc.progress_at = ctx.now;
            self.granter.touch(rpc);
            let host = rpc.rx.held.host;
            self.unallocated.remove(index, host);
            self.unallocated.recall_of(host);
            ctx.queue_resend(rpc, false);
            ctx.arm(index, nanos(ctx.config.recovery.resend_interval));
        }
        // There may be room for more.
        self.memory.freed |= served;
    }
}
