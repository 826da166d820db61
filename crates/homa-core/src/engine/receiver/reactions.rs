//! Senders that do not react to their grants: others get their place.

use core::time::Duration;

use crate::config::Config;
use crate::engine::ctx::Ctx;
use crate::engine::peer::{Peer, PeerTable};
use crate::engine::receiver::Receiver;
use crate::engine::rpc::index::RpcIndex;
use crate::engine::rpc::{Rpc, RpcTable};
use crate::time::nanos;

/// Round trips that a sender may take to react to a grant before others get its place.
const REACTION_ROUND_TRIPS: u64 = 8;
/// That is at least and at most these parts of the resend interval, the longer as long as no round
/// trip is known. To give the place up costs a sender that was merely busy nothing else.
const REACTION_PARTS: (u64, u64) = (16, 4);

impl Receiver {
    /// A message awaits data. If it has waited for too long, others get its place among the granted
    /// messages.
    pub(crate) fn check_reaction(
        &mut self,
        index: RpcIndex,
        rpcs: &mut RpcTable,
        peers: &PeerTable,
        ctx: &mut Ctx,
    ) {
        let Some(rpc) = rpcs.known(index).filter(|rpc| rpc.rx.granting.is_counted()) else {
            return;
        };
        let reaction = reaction(peers.known(rpc.peer), &ctx.config);
        let due = ctx.counts_from(rpc.rx.moved_at) + reaction;
        if ctx.now < due {
            ctx.timers.arm_rpc(index, due);
        } else if !self.granter.pass_over_unresponsive(index, rpcs, ctx.now - reaction) {
            ctx.timers.arm_rpc(index, ctx.now + reaction);
        }
    }

    /// Sends RESENDs for a message; if its sender did not react to the last one, others get its
    /// place.
    pub(crate) fn resend_data(
        &mut self,
        index: RpcIndex,
        unresponsive: bool,
        rpcs: &mut RpcTable,
        ctx: &mut Ctx,
    ) {
        if unresponsive {
            self.granter.pass_over(index, rpcs);
        }
        let Some(rpc) = rpcs.known_mut(index) else {
            return;
        };
        rpc.rx.unresponsive |= unresponsive;
        if rpc.rx.granted_told < rpc.rx.granted {
            self.granter.mark_due(rpc);
        }
        ctx.queue_resend(rpc, true);
    }
}

/// Arms the timer for the sender's reaction to a GRANT that leaves.
pub(super) fn watch_grant(rpc: &Rpc, peer: Option<&Peer>, ctx: &mut Ctx) {
    ctx.timers.arm_rpc(rpc.index(), ctx.now + reaction(peer, &ctx.config));
}

/// How long the sender of a message may take to react to a grant before others get its place.
fn reaction(peer: Option<&Peer>, config: &Config) -> Duration {
    let interval_ns = nanos(config.recovery.resend_interval);
    let rtt_ns = peer.map_or(u64::MAX, |peer| peer.resend_timeout.rtt_min_ns());
    let (least, most) = (interval_ns / REACTION_PARTS.0, interval_ns / REACTION_PARTS.1);
    Duration::from_nanos(rtt_ns.saturating_mul(REACTION_ROUND_TRIPS).clamp(least, most))
}
