//! Replies to packets about unknown RPCs. Their source address may be forged: everything that such
//! packets draw goes through [`Replies::send`].

use homa_wire::{Body, Extension, Header, Reason};

use crate::addr::Path;
use crate::engine::ctx::Ctx;
use crate::engine::peer::PeerTable;
use crate::engine::profile::Profile;
use crate::engine::sender::refusals::Refusals;
use crate::engine::stats::Count;
use crate::time::{Instant, nanos};

/// Replies that may go out in a burst.
const BURST_MAX: u32 = 1000;
/// Replies left for validated senders.
const RESERVED: u32 = BURST_MAX / 2;
/// Time in which one more is earned.
const INTERVAL_NS: u64 = 10_000;

/// How many replies may be sent: a burst, and a rate after that.
#[derive(Debug)]
struct Allowance {
    left: u32,
    earned_at: Instant,
}

impl Allowance {
    const FULL: Self = Self { left: BURST_MAX, earned_at: Instant::ZERO };

    /// Whether one more reply may be sent; if so it counts. Half of them are for those who have
    /// `validated` their address, so that forged packets cannot use up what they need.
    fn take(&mut self, now: Instant, validated: bool) -> bool {
        let earned = nanos(now.since(self.earned_at)) / INTERVAL_NS;
        if earned > 0 {
            self.earned_at = now;
            let earned = u32::try_from(earned).unwrap_or(u32::MAX);
            self.left = self.left.saturating_add(earned).min(BURST_MAX);
        }
        let reserved = if validated { 0 } else { RESERVED };
        let allowed = self.left > reserved;
        if allowed {
            self.left = self.left.saturating_sub(1);
        }
        allowed
    }
}

/// Replies to packets about unknown RPCs.
#[derive(Debug)]
pub(crate) struct Replies {
    allowance: Allowance,
    refusals: Refusals,
}

impl Replies {
    pub(crate) const NONE: Self = Self { allowance: Allowance::FULL, refusals: Refusals::NONE };

    /// Answers the sender of a packet, in its format, with a packet about the same RPC, at a
    /// limited rate.
    ///
    /// Unless the sender is validated, the reply is no longer than the packet. (The format of Linux
    /// has no room for a proof.) The answer echoes the incarnation in the packet, which shows that
    /// it is an answer.
    pub(crate) fn send(
        &mut self,
        (path, header): (&Path, &Header),
        body: Body,
        (reason, value): (Reason, u32),
        peers: &PeerTable,
        ctx: &mut Ctx,
    ) {
        let native = header.common.version().is_some();
        let echo = header.common.incarnation;
        let extension = native.then_some(Extension { echo, reason, value });
        let (id, peer) = (header.common.local_id(), peers.find(path));
        let answer = peers.control_header(peer, path, id, body, extension, &ctx.config);
        let validated = peers.is_named_by(path, header);
        if native && !validated && answer.encoded_bytes() > header.encoded_bytes() {
            ctx.stats.control_withheld.inc();
        } else if self.is_allowed(validated, ctx) {
            ctx.push_packet(*path, answer, ctx.config.top_priority());
        }
    }

    /// Answers DATA of an RPC that is not known here, or not taken: once per resend interval,
    /// however many packets come. Peers in Linux format are told nothing: among them RPC_UNKNOWN
    /// answers RESEND alone (docs/spec/protocol.md §10), and a client would send all of its request
    /// again for each.
    pub(crate) fn refuse(
        &mut self,
        packet: (&Path, &Header),
        why: (Reason, u32),
        peers: &PeerTable,
        ctx: &mut Ctx,
    ) {
        let (path, header) = packet;
        let interval = ctx.config.recovery.resend_interval;
        let id = header.common.local_id();
        let named = (peers.hash_of(path), path.local_port, id);
        let understood = header.common.version().is_some();
        if understood && self.refusals.is_due(ctx.now, named, interval) {
            self.send(packet, Body::RpcUnknown, why, peers, ctx);
        }
    }

    /// Acknowledges a response once more whose call is over.
    pub(crate) fn acknowledge_again(
        &mut self,
        packet: (&Path, &Header),
        peers: &mut PeerTable,
        ctx: &mut Ctx,
    ) {
        let (path, header) = packet;
        let (id, profile) = (header.common.local_id(), Profile::of(header));
        let validated = peers.is_named_by(path, header);
        if profile.is_native() && !validated {
            // An ACK is longer than what asks for it. This frees the server as well.
            self.send(packet, Body::RpcUnknown, (Reason::Finished, 0), peers, ctx);
        } else if self.is_allowed(validated, ctx) {
            peers.acknowledge(*path, id, profile, ctx);
        }
    }

    fn is_allowed(&mut self, validated: bool, ctx: &mut Ctx) -> bool {
        let allowed = self.allowance.take(ctx.now, validated);
        if !allowed {
            ctx.stats.replies_suppressed.inc();
        }
        allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(allowance: &mut Allowance, now: Instant, validated: bool) -> usize {
        (0..2000).take_while(|_| allowance.take(now, validated)).count()
    }

    #[test]
    fn unvalidated_clients_leave_half_of_the_allowance_to_those_who_proved_their_address() {
        let mut allowance = Allowance::FULL;
        assert_eq!(taken(&mut allowance, Instant::ZERO, false), 500);
        assert_eq!(taken(&mut allowance, Instant::ZERO, true), 500);
        assert_eq!(taken(&mut allowance, Instant::ZERO, true), 0);
    }

    #[test]
    fn what_is_spent_is_earned_again_up_to_the_burst() {
        let mut allowance = Allowance::FULL;
        assert_eq!(taken(&mut allowance, Instant::ZERO, true), 1000);
        assert_eq!(taken(&mut allowance, Instant::from_nanos(70_000), true), 7);
        assert_eq!(taken(&mut allowance, Instant::from_nanos(60_000_000_000), true), 1000);
    }
}
