//! When a host is asked for what has not come. Whoever asks for what is merely late gets copies, and where many do so the copies
//! fill the path that made it late. So the time that copies take is learnt: it is that of the path as it is now. A Linux
//! host answers RESEND with all it has sent and does not say how busy it is, so all of its reactions are learnt from.

use core::time::Duration;

use crate::config::Config;
use crate::engine::ctx::Ctx;
use crate::engine::peer::{Peer, PeerTable, ResendTimeout};
use crate::engine::receiver::Receiver;
use crate::engine::rpc::{Rpc, RpcTable, State};
use crate::event::{DropReason, Received};
use crate::time::{Instant, nanos};

/// Round trips that a sender may take to react to a grant before others get its place.
const REACTION_ROUND_TRIPS: u64 = 8;
/// That is at least and at most these parts of the resend interval, the longer as long as no round trip is known. To
/// give the place up costs a sender that was merely busy nothing else.
const REACTION_PARTS: (u64, u64) = (16, 4);

/// For this part of the time-out questions follow the data that they are about.
const FOLLOWING_PART: u32 = 4;

impl Receiver {
    /// A GRANT leaves: the sender's reaction is to be looked for.
    pub(crate) fn watch_grant(&self, rpc: &Rpc, peer: Option<&Peer>, ctx: &mut Ctx) {
        ctx.timers.arm_rpc(rpc.key.index, ctx.now + reaction(peer, &ctx.config));
    }

    /// A message awaits data. If it has waited for too long, others get its place among the granted messages.
    pub(crate) fn look_for_reaction(
        &mut self,
        index: u32,
        rpcs: &mut RpcTable,
        peers: &PeerTable,
        ctx: &mut Ctx,
    ) {
        let Some(rpc) = rpcs.known(index).filter(|rpc| rpc.rx.counted.bytes() > 0) else {
            return;
        };
        let reaction = reaction(peers.known(rpc.peer), &ctx.config);
        let due = ctx.counts_from(rpc.rx.moved_at) + reaction;
        if ctx.now < due {
            ctx.timers.arm_rpc(index, due);
        } else if !self.pass_over_silent(index, rpcs, ctx.now - reaction) {
            ctx.timers.arm_rpc(index, ctx.now + reaction);
        }
    }
}

/// How long the sender of a message may take to react to a grant before others get its place.
fn reaction(peer: Option<&Peer>, config: &Config) -> Duration {
    let interval_ns = nanos(config.resend_interval);
    let rtt_ns = peer.map_or(u64::MAX, |peer| peer.resend_timeout.rtt_min_ns());
    let (least, most) = (interval_ns / REACTION_PARTS.0, interval_ns / REACTION_PARTS.1);
    Duration::from_nanos(rtt_ns.saturating_mul(REACTION_ROUND_TRIPS).clamp(least, most))
}

impl Ctx {
    /// Silence after which the peer is first asked for what an RPC misses, in ns, see [`ResendTimeout::first_ns`].
    #[inline]
    pub(crate) fn first_interval_ns(&self, peer: Option<&Peer>, own: bool) -> u64 {
        let base_ns = nanos(self.config.resend_interval);
        peer.map_or(base_ns, |peer| {
            let timeout_ns = || nanos(peer.timeout(&self.config));
            peer.resend_timeout.first_ns(self.now, base_ns, timeout_ns, own)
        })
    }

    /// Silence after which a question is repeated, in ns, see [`ResendTimeout::next_ns`].
    #[inline]
    pub(crate) fn next_interval_ns(&self, peer: Option<&Peer>, own: bool) -> u64 {
        let base_ns = nanos(self.config.resend_interval);
        let first_ns = self.first_interval_ns(peer, own);
        let timeout_ns = || nanos(self.timeout_of(peer));
        ResendTimeout::next_ns(first_ns, base_ns, timeout_ns)
    }

    /// Silence of a peer after which calls to it fail.
    #[inline]
    pub(crate) fn timeout_of(&self, peer: Option<&Peer>) -> Duration {
        peer.map_or(self.config.timeout, |peer| peer.timeout(&self.config))
    }

    /// Level of a question to a peer about data of the level `behind`, after silence since `since`: the same, so that it
    /// does not overtake them. After a part of the time-out the highest: whether the peer lives must be known in time.
    pub(crate) fn question_priority(&self, peer: Option<&Peer>, behind: u8, since: Instant) -> u8 {
        let silence = self.now.since(self.counts_from(since));
        let top = self.config.top_priority();
        if silence < self.timeout_of(peer) / FOLLOWING_PART { behind.min(top) } else { top }
    }
}

impl Rpc {
    /// What was asked for has come, or shows that it was not lost: it took at least as long as since the last question.
    pub(crate) fn note_copy(&self, peers: &mut PeerTable, now: Instant) {
        if !awaits_data(self) || !self.speaks_own(peers) {
            return;
        }
        // What the request's repetition brought is over when the response begins.
        let repeated = self.restarted_at.filter(|_| self.state == State::Outgoing);
        if let Some(asked) = self.resend.asked_at().max(repeated) {
            if let Some(peer) = peers.known_mut(self.peer) {
                peer.resend_timeout.note(now, nanos(now.since(asked)));
            }
        }
    }

    /// DATA for an RPC that waits for some, not sent again: the host took so long to react, unless a question may have been
    /// what it reacted to. The beginning of a response that was asked for in vain was merely late.
    #[inline]
    pub(crate) fn note_reaction(&self, peers: &mut PeerTable, ctx: &Ctx) {
        if self.resend.asked_at().is_some() || !self.speaks_own(peers) {
            self.learn_reaction(peers, ctx);
        }
    }

    #[inline(never)]
    fn learn_reaction(&self, peers: &mut PeerTable, ctx: &Ctx) {
        let asked_in_vain = self.state == State::Outgoing
            && self.resend.asked_at().is_some()
            && self.restarted_at.is_none()
            && !self.confirmed;
        let counts = match self.speaks_own(peers) {
            true => asked_in_vain,
            // Its own questions may have brought it the request.
            false => self.resend.asked_at().is_none() || (asked_in_vain && !self.tx.copied),
        };
        if !counts || !awaits_data(self) {
            return;
        }
        let heard = ctx.counts_from(self.last_heard);
        if let Some(peer) = peers.known_mut(self.peer) {
            peer.resend_timeout.note(ctx.now, nanos(ctx.now.since(heard)));
        }
    }
}

impl Peer {
    /// What became of a retransmission of a Linux host: if it was not lost, the host was asked too early.
    pub(crate) fn look_for_haste(&mut self, became: &Result<Received, DropReason>, ctx: &Ctx) {
        if matches!(became, Err(DropReason::Duplicate | DropReason::UnknownRpc)) {
            let interval_ns = ctx.first_interval_ns(Some(self), false);
            self.resend_timeout.note_spurious(ctx.now, interval_ns);
        }
    }
}

fn awaits_data(rpc: &Rpc) -> bool {
    match rpc.state {
        State::Outgoing => rpc.is_client() && rpc.tx.is_idle(),
        State::Incoming => rpc.rx.awaits_data(),
        _ => false,
    }
}
