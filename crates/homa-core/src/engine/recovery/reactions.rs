//! When a host is asked for what has not come. Whoever asks for what is merely late gets copies, and where many do so the copies
//! fill the path that made it late. So the time that copies take is learnt: it is that of the path as it is now. A Linux
//! host answers RESEND with all it has sent and does not say how busy it is, so all of its reactions are learnt from.

use core::time::Duration;

use crate::config::Config;
use crate::engine::Engine;
use crate::engine::peer::{Peer, ResendTimeout};
use crate::engine::rpc::{Rpc, State};
use crate::event::{DropReason, Received};
use crate::time::{Instant, nanos};

/// Round trips that a sender may take to react to a grant before others get its place.
const REACTION_ROUND_TRIPS: u64 = 8;
/// That is at least and at most these parts of the resend interval, the longer as long as no round trip is known. To
/// give the place up costs a sender that was merely busy nothing else.
const REACTION_PARTS: (u64, u64) = (16, 4);

/// For this part of the time-out questions follow the data that they are about.
const FOLLOWING_PART: u32 = 4;

impl Engine {
    /// See [`first_interval_ns`].
    pub(crate) fn first_interval_ns(&self, peer: u32, own: bool) -> u64 {
        first_interval_ns(self.peers.known(peer), own, self.now, &self.config)
    }

    /// See [`next_interval_ns`].
    pub(crate) fn next_interval_ns(&self, peer: u32, own: bool) -> u64 {
        next_interval_ns(self.peers.known(peer), own, self.now, &self.config)
    }

    /// How long the sender of a message may take to react to a grant before others get its place.
    fn reaction(&self, peer: u32) -> Duration {
        let interval_ns = nanos(self.config.resend_interval);
        let rtt_ns =
            self.peers.known(peer).map_or(u64::MAX, |peer| peer.resend_timeout.rtt_min_ns());
        let (least, most) = (interval_ns / REACTION_PARTS.0, interval_ns / REACTION_PARTS.1);
        Duration::from_nanos(rtt_ns.saturating_mul(REACTION_ROUND_TRIPS).clamp(least, most))
    }

    /// A GRANT leaves: the sender's reaction is to be looked for.
    pub(crate) fn watch_grant(&mut self, index: u32) {
        if let Some(peer) = self.rpcs.known(index).map(|rpc| rpc.peer) {
            let at = self.now + self.reaction(peer);
            self.arm_at(index, at);
        }
    }

    /// A message awaits data. If it has waited for too long, others get its place among the granted messages.
    pub(crate) fn look_for_reaction(&mut self, index: u32) {
        let Some(rpc) = self.rpcs.known(index).filter(|rpc| rpc.rx.counted.bytes() > 0) else {
            return;
        };
        let reaction = self.reaction(rpc.peer);
        let due = self.counts_from(rpc.rx.moved_at) + reaction;
        if self.now < due {
            self.arm_at(index, due);
        } else if !self.granter.pass_over_silent(index, &mut self.rpcs, self.now - reaction) {
            let again = self.now + reaction;
            self.arm_at(index, again);
        }
    }

    /// Level of a question to a peer about data of the level `behind`, after silence since `since`: the same, so that it
    /// does not overtake them. After a part of the time-out the highest: whether the peer lives must be known in time.
    pub(crate) fn question_priority(&self, peer: u32, behind: u8, since: Instant) -> u8 {
        let timeout =
            self.peers.known(peer).map_or(self.config.timeout, |peer| peer.timeout(&self.config));
        let silence = self.now.since(self.counts_from(since));
        let top = self.top_priority();
        if silence < timeout / FOLLOWING_PART { behind.min(top) } else { top }
    }

    /// What was asked for has come, or shows that it was not lost: it took at least as long as since the last question.
    pub(crate) fn note_copy(&mut self, index: u32) {
        let Some(rpc) = self.rpcs.known(index).filter(|rpc| awaits_data(rpc)) else {
            return;
        };
        if !self.speaks_own(rpc) {
            return;
        }
        // What the request's repetition brought is over when the response begins.
        let repeated = rpc.restarted_at.filter(|_| rpc.state == State::Outgoing);
        if let Some(asked) = rpc.resend.asked_at().max(repeated) {
            let (peer, took_ns) = (rpc.peer, nanos(self.now.since(asked)));
            if let Some(peer) = self.peers.known_mut(peer) {
                peer.resend_timeout.note(self.now, took_ns);
            }
        }
    }

    /// DATA for an RPC that waits for some, not sent again: the host took so long to react, unless a question may have been
    /// what it reacted to. The beginning of a response that was asked for in vain was merely late.
    #[inline]
    pub(crate) fn note_reaction(&mut self, index: u32) {
        let teaches = |rpc: &&Rpc| rpc.resend.asked_at().is_some() || !self.speaks_own(rpc);
        if self.rpcs.known(index).filter(teaches).is_some() {
            self.learn_reaction(index);
        }
    }

    #[inline(never)]
    fn learn_reaction(&mut self, index: u32) {
        let Some(rpc) = self.rpcs.known(index) else {
            return;
        };
        let asked_in_vain = rpc.state == State::Outgoing
            && rpc.resend.asked_at().is_some()
            && rpc.restarted_at.is_none()
            && !rpc.confirmed;
        let counts = match self.speaks_own(rpc) {
            true => asked_in_vain,
            // Its own questions may have brought it the request.
            false => rpc.resend.asked_at().is_none() || (asked_in_vain && !rpc.tx.copied),
        };
        if !counts || !awaits_data(rpc) {
            return;
        }
        let heard = self.counts_from(rpc.last_heard);
        let reaction_ns = nanos(self.now.since(heard));
        if let Some(peer) = self.peers.known_mut(rpc.peer) {
            peer.resend_timeout.note(self.now, reaction_ns);
        }
    }

    /// What became of a retransmission of a Linux host: if it was not lost, the host was asked too early.
    pub(crate) fn look_for_haste(
        &mut self,
        peer: Option<u32>,
        became: &Result<Received, DropReason>,
    ) {
        let Some(peer) = peer else {
            return;
        };
        if !matches!(became, Err(DropReason::Duplicate | DropReason::UnknownRpc)) {
            return;
        }
        let interval_ns = self.first_interval_ns(peer, false);
        let now = self.now;
        if let Some(peer) = self.peers.known_mut(peer) {
            peer.resend_timeout.note_spurious(now, interval_ns);
        }
    }
}

/// Silence after which the peer is first asked for what an RPC misses, in ns, see [`ResendTimeout::first_ns`].
#[inline]
pub(crate) fn first_interval_ns(
    peer: Option<&Peer>,
    own: bool,
    now: Instant,
    config: &Config,
) -> u64 {
    let base_ns = nanos(config.resend_interval);
    peer.map_or(base_ns, |peer| {
        let timeout_ns = || nanos(peer.timeout(config));
        peer.resend_timeout.first_ns(now, base_ns, timeout_ns, own)
    })
}

/// Silence after which a question is repeated, in ns, see [`ResendTimeout::next_ns`].
#[inline]
pub(crate) fn next_interval_ns(
    peer: Option<&Peer>,
    own: bool,
    now: Instant,
    config: &Config,
) -> u64 {
    let (base_ns, first_ns) =
        (nanos(config.resend_interval), first_interval_ns(peer, own, now, config));
    let timeout_ns = || nanos(peer.map_or(config.timeout, |peer| peer.timeout(config)));
    ResendTimeout::next_ns(first_ns, base_ns, timeout_ns)
}

fn awaits_data(rpc: &Rpc) -> bool {
    match rpc.state {
        State::Outgoing => rpc.is_client() && rpc.tx.is_idle(),
        State::Incoming => rpc.rx.awaits_data(),
        _ => false,
    }
}
