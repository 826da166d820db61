//! GRANTs and RESENDs, built when they leave.

use homa_wire::{Body, EXTENSION_BYTES, Grant, PacketType, Reason, Resend};

use crate::engine::ctx::Ctx;
use crate::engine::peer::PeerTable;
use crate::engine::receiver::Receiver;
use crate::engine::receiver::reactions::watch_grant;
use crate::engine::rpc::index::RpcIndex;
use crate::engine::rpc::{RpcTable, State};
use crate::engine::sender::admission::needs_validation;
use crate::engine::sender::train::Train;
use crate::engine::stats::Count;
use crate::event::{RpcKey, SegmentKind};

/// Bytes of a GRANT packet of this implementation.
const GRANT_BYTES: u32 = (PacketType::Grant.header_bytes() + EXTENSION_BYTES) as u32;

impl Receiver {
    /// The next message to send a GRANT for, and the bytes of GRANTs that may go to its sender. A
    /// client that still has to prove its address gets the GRANT after the proof.
    pub(crate) fn next_grant(
        &mut self,
        rpcs: &mut RpcTable,
        peers: &PeerTable,
        ctx: &mut Ctx,
    ) -> Option<(RpcIndex, u32)> {
        loop {
            let index = self.granter.pop_due(rpcs)?;
            let rpc = rpcs.known(index)?;
            let peer = peers.get(rpc.peer);
            let room = match peer.filter(|peer| needs_validation(rpc, peer)) {
                Some(peer) => u32::try_from(peer.validation.control_room()).unwrap_or(u32::MAX),
                None => u32::MAX,
            };
            if room >= GRANT_BYTES {
                return Some((index, room));
            }
            ctx.stats.control_withheld.inc();
            watch_grant(rpc, peer, ctx);
        }
    }

    /// Adds a GRANT for the message of the RPC `first`, and those for others to the same
    /// destination, as long as they fit.
    pub(crate) fn append_grants(
        &mut self,
        train: &mut Train<'_>,
        first: RpcIndex,
        rpcs: &mut RpcTable,
        peers: &PeerTable,
        ctx: &mut Ctx,
    ) {
        let mut next = Some(first);
        while let Some(index) = next {
            let Some(rpc) = rpcs.known_mut(index) else {
                return;
            };
            let priority = rpc.rx.granting.priority().level();
            let body = Body::Grant(Grant { offset: rpc.rx.granted, priority });
            let words = (Reason::None, rpc.rx.data.contiguous());
            let header = rpc.control_header(peers, body, words);
            let bytes = u32::try_from(header.encoded_bytes()).unwrap_or(u32::MAX);
            if !train.goes(&rpc.path, train.priority) || train.fits(bytes, false).is_none() {
                self.granter.mark_due(rpc);
                return;
            }
            train.push(&header, Some(rpc.key()), (0, 0), 0, SegmentKind::Grant);
            ctx.resend_refused(rpc, peers);
            // Until now the sender may have had nothing to send: its silence begins here. A silent
            // sender gets few GRANTs, so that this cannot go on for ever.
            rpc.last_heard = ctx.now;
            rpc.progress_at = ctx.now;
            // The last byte of a message that may grow has not been sent, however long that takes.
            let last = if rpc.rx.is_open() { rpc.rx.length().saturating_sub(1) } else { u32::MAX };
            if rpc.rx.granted_told < rpc.rx.granted.min(last) {
                rpc.rx.granting.granted_from(
                    rpc.rx.granted_told,
                    ctx.now,
                    ctx.stats.bytes_received,
                );
            }
            rpc.rx.granted_told = rpc.rx.granted;
            watch_grant(rpc, peers.known(rpc.peer), ctx);
            ctx.stats.grants_sent.inc();
            next = self.granter.pop_due(rpcs);
        }
    }

    /// Adds RESENDs for every gap of a message and for its missing end below `upto`, as far as
    /// [`Receiver::resend_budget`] lets.
    pub(crate) fn append_resends(
        &mut self,
        train: &mut Train<'_>,
        (key, upto, may_be_late): (RpcKey, u32, bool),
        rpcs: &RpcTable,
        peers: &PeerTable,
        ctx: &mut Ctx,
    ) {
        let room_bytes = self.resend_room(ctx);
        let Some(rpc) = rpcs.resolve(key).and_then(|index| rpcs.known(index)) else {
            return;
        };
        let rx = &rpc.rx;
        let priority = ctx.config.top_priority().level();
        let mut resend_budget = self.resend_budget(rx, room_bytes, may_be_late, ctx);
        let mut ask = |start: u32, length: u32| {
            let body = Body::Resend(Resend { offset: start, length, priority });
            let header = rpc.control_header(peers, body, (Reason::None, 0));
            let bytes = u32::try_from(header.encoded_bytes()).unwrap_or(u32::MAX);
            train.total_bytes.saturating_add(bytes) <= train.limit_bytes
                && train.push(&header, Some(key), (0, 0), 0, SegmentKind::Control)
        };
        let (mut gaps, mut tails, mut all) = (0u64, 0u64, 0u64);
        if rpc.state() == State::Outgoing {
            all += u64::from(ask(0, homa_wire::RESEND_ALL));
        } else if rpc.state() == State::Incoming {
            // Gaps that do not fit into this train are requested next time; the first matter most.
            for (start, end) in rx.data.gaps() {
                let Some(length) = resend_budget.next(end.saturating_sub(*start)) else {
                    break;
                };
                gaps = gaps.saturating_add(u64::from(ask(*start, length)));
            }
            let (highest, end) = (rx.data.highest(), rx.granted_told.min(upto));
            if highest < end {
                if let Some(length) = resend_budget.next(end.saturating_sub(highest)) {
                    tails += u64::from(ask(highest, length));
                }
            }
        }
        self.note_resends(&resend_budget);
        ctx.stats.resends_gap_sent.inc_by(gaps);
        ctx.stats.resends_tail_sent.inc_by(tails);
        ctx.stats.resends_all_sent.inc_by(all);
    }
}
