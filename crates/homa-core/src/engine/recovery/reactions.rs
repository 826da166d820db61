//! Samples for the resend timeout. RESENDs sent too early bring retransmissions that congest a slow
//! path further, so the timeout adapts to the recovery times observed. A Linux host answers RESEND
//! with all it has sent and does not say how busy it is, so all of its reactions are learnt from.

use core::time::Duration;

use crate::engine::ctx::Ctx;
use crate::engine::peer::{Peer, PeerTable, ResendTimeout};
use crate::engine::profile::Profile;
use crate::engine::rpc::{Rpc, State};
use crate::event::{DropReason, Received};
use crate::priority::Priority;
use crate::time::{Instant, nanos};

/// For this part of the timeout RESENDs follow the data that they are about.
const FOLLOWING_PART: u32 = 4;

impl Ctx {
    /// Silence before the first RESEND, in ns, see [`ResendTimeout::first_ns`].
    #[inline]
    pub(crate) fn first_interval_ns(&self, peer: Option<&Peer>, profile: Profile) -> u64 {
        let base_ns = nanos(self.config.recovery.resend_interval);
        peer.map_or(base_ns, |peer| {
            let timeout_ns = || nanos(peer.timeout(&self.config));
            peer.resend_timeout.first_ns(self.now, base_ns, timeout_ns, profile)
        })
    }

    /// Silence after which a RESEND is repeated, in ns, see [`ResendTimeout::next_ns`].
    #[inline]
    pub(crate) fn next_interval_ns(&self, peer: Option<&Peer>, profile: Profile) -> u64 {
        let base_ns = nanos(self.config.recovery.resend_interval);
        let first_ns = self.first_interval_ns(peer, profile);
        let timeout_ns = || nanos(self.timeout_of(peer));
        ResendTimeout::next_ns(first_ns, base_ns, timeout_ns)
    }

    /// Silence of a peer after which calls to it fail.
    #[inline]
    pub(crate) fn timeout_of(&self, peer: Option<&Peer>) -> Duration {
        peer.map_or(self.config.recovery.timeout, |peer| peer.timeout(&self.config))
    }

    /// The longest interval between RESENDs to a peer that says that it has nothing to send yet:
    /// several fit into the timeout, if that is long enough.
    pub(crate) fn busy_interval_max(&self, peer: Option<&Peer>) -> Duration {
        self.config.fixed.resend_interval_max.min(self.timeout_of(peer) / 8)
    }

    /// Priority of a RESEND or probe to a peer about data of the priority `behind`, after silence
    /// since `since`: the same, so that it does not overtake them. After a part of the timeout the
    /// highest: whether the peer lives must be known in time.
    pub(crate) fn recovery_priority(
        &self,
        peer: Option<&Peer>,
        behind: Priority,
        since: Instant,
    ) -> Priority {
        let silence = self.now.since(self.counts_from(since));
        let top = self.config.top_priority();
        if silence < self.timeout_of(peer) / FOLLOWING_PART { behind.min(top) } else { top }
    }
}

impl Rpc {
    /// Notes that a requested range came, or was not lost: the reaction took at least as long as
    /// since the last RESEND.
    pub(crate) fn note_retransmission(&self, peers: &mut PeerTable, now: Instant) {
        if !awaits_data(self) || self.profile(peers) == Profile::Linux {
            return;
        }
        // A retransmission of the request brings the beginning of the response at most.
        let repeated = self.restarts.last_at().filter(|_| self.state() == State::Outgoing);
        if let Some(asked) = self.resend.last_sent().max(repeated) {
            if let Some(peer) = peers.known_mut(self.peer) {
                peer.resend_timeout.note(now, nanos(now.since(asked)));
            }
        }
    }

    /// DATA for an RPC that waits for some, not sent again: the host took so long to react, unless
    /// a RESEND may have been what it reacted to. The beginning of a response that was asked for
    /// in vain was merely late.
    #[inline]
    pub(crate) fn note_reaction(&self, peers: &mut PeerTable, ctx: &Ctx) {
        if self.resend.last_sent().is_some() || self.profile(peers) == Profile::Linux {
            self.learn_reaction(peers, ctx);
        }
    }

    #[inline(never)]
    fn learn_reaction(&self, peers: &mut PeerTable, ctx: &Ctx) {
        let unanswered = self.state() == State::Outgoing
            && self.resend.last_sent().is_some()
            && !self.restarts.is_any()
            && !self.confirmed;
        let counts = match self.profile(peers) {
            Profile::Native => unanswered,
            // Its own RESENDs may have brought it the request.
            Profile::Linux => {
                self.resend.last_sent().is_none() || (unanswered && !self.tx.was_retransmitted())
            }
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
    /// Notes a retransmission of a Linux host if it was spurious: the RESEND came too early.
    pub(crate) fn note_if_spurious(&mut self, became: &Result<Received, DropReason>, ctx: &Ctx) {
        if matches!(became, Err(DropReason::Duplicate | DropReason::UnknownRpc)) {
            let interval_ns = ctx.first_interval_ns(Some(self), Profile::Linux);
            self.resend_timeout.note_spurious(ctx.now, interval_ns);
        }
    }
}

fn awaits_data(rpc: &Rpc) -> bool {
    match rpc.state() {
        State::Outgoing => rpc.is_client() && rpc.tx.is_idle(),
        State::Incoming => rpc.rx.awaits_data(),
        _ => false,
    }
}
