//! Timers: RESENDs, liveness, giving up (docs/spec/protocol.md §8, with the improvements that
//! `ARCHITECTURE.md` lists).
//!
//! Every RPC has at most one entry in the timer heap. Packets move it to an earlier time at most;
//! when it comes up early it is put back. RPCs that merely wait for a server that has the request
//! have none: one exchange per peer covers all of them.

use core::time::Duration;

use homa_wire::{Body, Reason};

use crate::addr::Path;
use crate::config::Config;
use crate::engine::Engine;
use crate::engine::ctx::Ctx;
use crate::engine::peer::calls::FAILURES_PER_CALL;
use crate::engine::peer::{Peer, PeerIndex, PeerTable, Probe};
use crate::engine::profile::Profile;
use crate::engine::recovery::unacknowledged::ack_repeat_max;
use crate::engine::rpc::index::RpcIndex;
use crate::engine::rpc::{Role, Rpc, State};
use crate::engine::stats::Count;
use crate::event::{FailReason, Urgency, WakeReason};
use crate::priority::Priority;
use crate::time::{Instant, nanos};

/// Timers looked at per call, so that a turn stays short.
const TIMERS_PER_CALL: usize = 1024;

/// A response that its client does not take, although it is alive, is given up after so many times
/// `responses.silence`. (Linux waits for ever.)
const UNGRANTED_SILENCES: u32 = 12;

/// A message of which nothing new comes is given up after so many times `responses.silence`.
const MOTIONLESS_SILENCES: u32 = 6;

/// Data that is missing is asked for at least once in so many resend intervals, or as late as its
/// sender is known to react.
const DATA_INTERVALS_MAX: u64 = 4;

/// Condition that an RPC waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Need {
    /// Nothing; a change of state arms the timer again.
    Nothing,
    /// Nothing from the peer: this end has something to send.
    OurTurn,
    /// A grant or the response (client), nothing of which has arrived.
    Answer,
    /// Room for the incoming message, which this end has to find.
    Memory,
    /// Data of the incoming message.
    Data,
    /// An acknowledgement or a grant for the response.
    Acknowledgement,
}

impl Engine {
    /// When `handle_timeout` should be called next, and why. `None`: only a packet or a call can
    /// change anything.
    #[inline]
    pub fn poll_timeout(&self) -> Option<(Instant, WakeReason)> {
        if self.has_transmit_work() {
            let at = if self.only_paced_work() {
                self.sender.ready_at(&self.ctx.config)
            } else {
                Instant::ZERO
            };
            let reason = if at > self.ctx.now { WakeReason::Pacer } else { WakeReason::Transmit };
            let paced = (at.max(self.ctx.now), reason);
            let timer = self.ctx.timers.next().filter(|timer| timer.0 < paced.0);
            return Some(timer.unwrap_or(paced));
        }
        self.ctx.timers.next()
    }

    /// How much the next turn matters.
    #[inline]
    pub fn urgency(&self) -> Urgency {
        let moving = self.has_transmit_work() || self.receiver.expects_data();
        match self.ctx.timers.next() {
            _ if moving => Urgency::Active,
            None => Urgency::Quiescent,
            Some((at, _)) => Urgency::Lazy(at),
        }
    }

    /// Runs the timers due at `now`. `rx_drained`: the last receive found no packet, so silence is
    /// real; otherwise nothing is requested again or given up.
    pub fn handle_timeout(&mut self, now: Instant, rx_drained: bool) {
        self.ctx.tick(now, &mut self.peers);
        // An expected reply would have come before the next receive.
        if rx_drained {
            self.ctx.events.expect_no_answer();
            self.ctx.read_clock.all_read();
            self.ctx.pauses.all_read();
        }
        if self.receiver.cutoffs_mut().is_due(now) {
            self.receiver.cutoffs_mut().plan(&mut self.ctx);
            self.finished.rotate(self.ctx.read_clock.now());
            self.peers.evict(now, &self.ctx.config, &mut self.ctx.timers);
        }
        if !rx_drained {
            return;
        }
        if self.ctx.timers.is_rpc_due(now) {
            // No NEED_ACK about acknowledged responses.
            self.settle();
        }
        for _ in 0..TIMERS_PER_CALL {
            let Some(index) = self.ctx.timers.pop_due_rpc(now) else { break };
            self.rpc_due(index);
        }
        for _ in 0..TIMERS_PER_CALL {
            let Some(index) = self.ctx.timers.pop_due_peer(now) else { break };
            self.peer_due(index);
        }
    }

    fn rpc_due(&mut self, index: RpcIndex) {
        self.expand(index);
        let Some(rpc) = self.rpcs.living(index) else {
            return;
        };
        if let Some(deadline) = rpc.call.deadline {
            if self.ctx.now >= deadline {
                let sent = rpc.tx.first_sent().is_some();
                self.ctx.tell_cancelled(rpc, &self.peers);
                self.fail_rpc(index, FailReason::DeadlineExceeded { sent });
                return;
            }
            self.ctx.timers.arm_rpc(index, deadline);
        }
        let Some(rpc) = self.rpcs.known(index) else {
            return;
        };
        match need(rpc) {
            Need::Nothing => {}
            Need::Memory => {
                let limit = self.ctx.unallocated_limit(rpc, &self.peers);
                if let Some(rpc) = self.rpcs.known_mut(index).filter(|rpc| rpc.is_client()) {
                    self.ctx.probe_response(rpc, &self.peers);
                }
                self.give_up_at(limit, index, Need::Memory);
            }
            Need::OurTurn if rpc.tx.blocked => {
                if !rpc.is_client() {
                    let limit = self.ctx.blocked_limit(rpc, self.peers.known(rpc.peer));
                    self.give_up_at(limit, index, Need::Acknowledgement);
                }
            }
            Need::OurTurn => {
                // Sending the last byte arms the timer again: until then no wake-up is needed.
                if let Some(rpc) = self.rpcs.known_mut(index) {
                    rpc.last_heard = self.ctx.now;
                    self.sender.schedule(rpc, &self.ctx.config);
                }
            }
            need => self.silence(index, need),
        }
    }

    /// Gives an RPC up at `limit`.
    fn give_up_at(&mut self, limit: Instant, index: RpcIndex, need: Need) {
        if self.ctx.now >= limit {
            self.give_up(index, need);
        } else {
            self.ctx.timers.arm_rpc(index, limit);
        }
    }

    /// Acts on the silence of a peer from which an RPC needs something.
    fn silence(&mut self, index: RpcIndex, need: Need) {
        let Some(rpc) = self.rpcs.known(index) else {
            return;
        };
        let heard = match need {
            Need::Acknowledgement => self.ctx.unacknowledged_from(rpc.last_heard),
            _ => self.ctx.counts_from(rpc.last_heard),
        };
        if need == Need::Acknowledgement && may_wait_for_ever(rpc, &self.peers) {
            let limit = self.ctx.ungranted_limit(heard, self.peers.known(rpc.peer));
            self.give_up_at(limit, index, need);
            return;
        }
        // The host may have turned out slower since the message began.
        let peer = self.peers.known(rpc.peer);
        let profile = rpc.profile_with(peer);
        let held_up = self.receiver.held_up_since(rpc);
        // Without delay: its server is closing or may have lost it, or others wait for its memory;
        // one message at a time fills no path.
        let closing = need == Need::Answer && peer.is_some_and(|peer| peer.is_closing(rpc));
        let pressing = closing || need == Need::Data && (rpc.doubts > 0 || held_up.is_some());
        let learnt_ns = match need {
            // Requested sooner as long as the peer is not slow.
            Need::Acknowledgement => Some(self.ctx.next_interval_ns(peer, profile))
                .filter(|learnt_ns| *learnt_ns > nanos(self.ctx.config.recovery.resend_interval))
                .unwrap_or(0),
            _ if pressing => 0,
            _ => self.ctx.first_interval_ns(peer, profile),
        };
        // A peer that is asked later has as much time to reply.
        let later_ns = learnt_ns.saturating_sub(nanos(self.ctx.config.recovery.resend_interval));
        let limit = match need {
            Need::Acknowledgement => self.ctx.config.responses.silence,
            _ => self.ctx.timeout_of(peer),
        } + Duration::from_nanos(later_ns);
        // Control packets alone do not keep a response or a refusal: a client may never acknowledge
        // it. Nor does repeated data keep a message: another incarnation of this end may have
        // acknowledged its beginning.
        let silences = match need {
            Need::Acknowledgement => UNGRANTED_SILENCES,
            Need::Data => MOTIONLESS_SILENCES,
            _ => u32::MAX,
        };
        let unacknowledged_max = self.ctx.config.responses.silence.saturating_mul(silences);
        let unacknowledged_too_long =
            self.ctx.now.since(self.ctx.unacknowledged_from(rpc.progress_at)) >= unacknowledged_max;
        let silent_since = self.ctx.counts_from(held_up.unwrap_or(heard)).min(heard);
        if unacknowledged_too_long || self.ctx.now >= silent_since + limit {
            self.give_up(index, need);
            return;
        }
        let Some(rpc) = self.rpcs.known_mut(index) else {
            return;
        };
        if pressing {
            rpc.expedite(&self.ctx.config);
        }
        // Its sender did not react to the last RESEND.
        let unresponsive = rpc.resend.last_sent().is_some();
        let mut due = rpc.resend.due(self.ctx.now, heard, learnt_ns);
        if need == Need::Data {
            let peer = self.peers.known(rpc.peer);
            let granted_timeout = self.receiver.granted_timeout(rpc, peer, &self.ctx);
            due = due.max(heard + granted_timeout);
            self.receiver.check_reaction(index, &mut self.rpcs, &self.peers, &mut self.ctx);
        }
        if self.ctx.now < due {
            self.ctx.timers.arm_rpc(index, due.min(heard + limit));
            return;
        }
        if need == Need::Data {
            self.receiver.resend_data(index, unresponsive, &mut self.rpcs, &mut self.ctx);
        }
        if let Some(rpc) = self.rpcs.known_mut(index) {
            self.ctx.recover(rpc, need, &self.peers);
        }
        self.ctx.timers.arm_rpc(index, heard + limit);
    }

    fn give_up(&mut self, index: RpcIndex, need: Need) {
        if need == Need::Acknowledgement {
            self.ctx.stats.responses_abandoned.inc();
        }
        let Some(rpc) = self.rpcs.known(index) else {
            return;
        };
        match (rpc.role, rpc.state()) {
            (Role::Client, _) => self.ctx.tell_cancelled(rpc, &self.peers),
            // Tells the client, if it is there after all, so that it need not wait.
            (Role::Server, State::Incoming | State::Outgoing) => {
                self.ctx.tell_finished(rpc, &self.peers);
            }
            _ => {}
        }
        self.fail_rpc(index, FailReason::Timeout);
    }

    fn peer_due(&mut self, index: PeerIndex) {
        let Some(peer) = self.peers.known(index) else {
            return;
        };
        if let Some(reason) = peer.liveness.failing() {
            return self.fail_calls_to(index, reason);
        }
        if let Some(probe) = peer.liveness.probe() {
            return self.probe_due(index, probe);
        }
        let (next, waits) = (peer.liveness.next_probe(), peer.liveness.waiting() > 0);
        let blocked = !peer.blocked.is_empty();
        let (target, unnamed) = (peer.in_flight.probe_target(), (peer.path, 0));
        let (path, id) = target.filter(|named| self.may_be_named(index, named)).unwrap_or(unnamed);
        let due = waits && self.ctx.now >= next;
        // The answer about a waiting RPC lets blocked ones go on as well.
        if due && self.peers.probe_waiting(index, &self.ids, &self.rpcs, &mut self.ctx) {
            return;
        }
        if blocked {
            self.peers.start_probe(index, (path, id), &self.ids, &self.rpcs, &mut self.ctx);
        } else if waits {
            let at =
                if due { self.ctx.now + self.ctx.config.recovery.resend_interval } else { next };
            self.ctx.timers.arm_peer(index, at);
        }
    }

    /// Whether a probe may name this RPC. A request that the driver had no room for would leave
    /// after the probe, and its server say that it was never seen.
    fn may_be_named(&mut self, peer: PeerIndex, named: &(Path, u64)) -> bool {
        let index = self.expand_named(peer, named);
        let rpc = index.and_then(|index| self.rpcs.known(index));
        rpc.is_none_or(|rpc| !rpc.is_client() || rpc.tx.sent() > 0)
    }

    /// The RPC that a probe names, in its general form.
    fn expand_named(&mut self, peer: PeerIndex, (path, id): &(Path, u64)) -> Option<RpcIndex> {
        let index = self.ids.find(&self.rpcs, Some(peer), path, *id)?;
        self.expand(index);
        Some(index)
    }

    fn probe_due(&mut self, index: PeerIndex, mut probe: Probe) {
        let Some(peer) = self.peers.known_mut(index) else {
            return;
        };
        let timeout = peer.timeout(&self.ctx.config);
        // Answers that wait for a client to prove its address are kept as long as any others.
        let answers_wait = !peer.validation.is_done() && !peer.blocked.is_empty();
        let heard = probe.first_sent.max(peer.last_heard);
        let silent_since = self.ctx.counts_from(heard);
        let silent = self.ctx.now >= silent_since + timeout;
        // The peer sends packets but does not answer probes.
        let mute_since = self.ctx.unacknowledged_from(probe.first_sent);
        let mute = self.ctx.now >= mute_since + self.ctx.config.responses.silence.max(timeout);
        if mute || (silent && !answers_wait) {
            self.peer_timed_out(index);
            return;
        }
        if silent {
            self.fail_clients_of(index, FailReason::Timeout, FAILURES_PER_CALL);
        }
        let Some(peer) = self.peers.known_mut(index) else {
            return;
        };
        if self.ctx.now >= probe.next_send {
            probe.tries = probe.tries.saturating_add(1);
            let wait = nanos(self.ctx.config.recovery.resend_interval)
                .saturating_mul(1 << probe.tries.min(4))
                .min(nanos(timeout) / 16)
                .max(1_000_000);
            probe.next_send = self.ctx.now + Duration::from_nanos(wait);
            peer.liveness.set_probe(probe);
            let named = (probe.path, probe.id);
            self.expand_named(index, &named);
            let (ids, rpcs, ctx) = (&self.ids, &self.rpcs, &mut self.ctx);
            self.peers.send_probe(index, named, silent_since, ids, rpcs, ctx);
        }
        self.ctx.timers.arm_peer(index, probe.next_send);
    }

    /// The peer did not answer for its timeout: no call to it will be answered.
    fn peer_timed_out(&mut self, index: PeerIndex) {
        self.fail_calls_to(index, FailReason::Timeout);
        if self.peers.known(index).is_some_and(|peer| peer.liveness.failing().is_some()) {
            return;
        }
        if !self.abandon_unvalidated(index, FAILURES_PER_CALL) {
            let now = self.ctx.now;
            self.ctx.timers.arm_peer(index, now);
            return;
        }
        self.ctx.stats.peer_timeouts.inc();
        let Some(peer) = self.peers.known_mut(index) else {
            return;
        };
        peer.nothing_in_flight();
        self.sender.serve_blocked(index, &mut self.rpcs, &mut self.peers, &self.ctx);
    }
}

impl Engine {
    /// Gives up to `limit` responses up that wait for a peer to prove its address, which it did not
    /// do when it was asked; `true` if none is left.
    fn abandon_unvalidated(&mut self, peer_index: PeerIndex, limit: usize) -> bool {
        for _ in 0..limit {
            if self.peers.known(peer_index).is_none_or(|peer| peer.validation.is_done()) {
                return true;
            }
            let blocked = self.sender.pop_blocked(peer_index, &mut self.rpcs, &mut self.peers);
            let Some(index) = blocked else {
                return true;
            };
            self.ctx.stats.responses_abandoned.inc();
            self.fail_rpc(index, FailReason::Timeout);
        }
        false
    }
}

impl Ctx {
    /// Sends a RESEND about a response that waits here for memory, if its server is silent or may
    /// have lost it: the rest of one that was given up would hold up others when its turn comes.
    fn probe_response(&mut self, rpc: &mut Rpc, peers: &PeerTable) {
        let timeout = self.config.recovery.timeout;
        let probe_at = self.counts_from(rpc.last_heard) + timeout;
        if rpc.doubts == 0 && self.now < probe_at {
            self.timers.arm_rpc(rpc.index(), probe_at);
            return;
        }
        let priority = self.config.top_priority().level();
        let body = Body::Resend(homa_wire::Resend { offset: 0, length: 1, priority });
        self.tell(rpc, peers, body, Reason::None);
        let least_ns = nanos(self.config.recovery.resend_interval);
        let interval_ns = rpc.resend.interval_ns().max(least_ns);
        rpc.resend.back_off((nanos(timeout) / 8).max(least_ns));
        self.arm(rpc.index(), interval_ns);
    }

    /// Sends what recovers an RPC besides its data (RESEND, NEED_ACK), and sets the time of the
    /// next.
    fn recover(&mut self, rpc: &mut Rpc, need: Need, peers: &PeerTable) {
        let peer = peers.known(rpc.peer);
        let profile = rpc.profile_with(peer);
        let base = self.next_interval_ns(peer, profile);
        match need {
            Need::Answer => {
                self.stats.resends_all_sent.inc();
                let priority = self.config.top_priority().level();
                let body = homa_wire::Resend { offset: 0, length: homa_wire::RESEND_ALL, priority };
                // Towards Linux hosts control packets go first, as among them.
                let behind = match profile {
                    Profile::Native => rpc.tx.first_priority(),
                    Profile::Linux => Priority::HIGHEST,
                };
                let priority = self.recovery_priority(peer, behind, rpc.last_heard);
                let header = rpc.control_header(peers, Body::Resend(body), (Reason::None, 0));
                self.push_packet(rpc.path, header, priority);
                rpc.resend.note_resend(self.now);
            }
            Need::Acknowledgement if matches!(rpc.state(), State::Refused(_)) => {
                self.tell_refused(rpc, peers);
            }
            Need::Acknowledgement => {
                // A GRANT may be on its way: what it lets go is not missing yet.
                let words = (Reason::None, rpc.tx.sent());
                self.tell_with(words, rpc, peers, Body::NeedAck);
            }
            Need::Nothing | Need::Memory | Need::OurTurn | Need::Data => {}
        }
        let max_ns = match need {
            // While data is missing, RESENDs must not become rare: recovery time would grow with
            // the number of losses.
            Need::Data if rpc.rx.waits_for_growth() => nanos(self.busy_interval_max(peer)),
            Need::Data => {
                nanos(self.config.recovery.resend_interval).saturating_mul(DATA_INTERVALS_MAX)
            }
            Need::Answer => nanos(self.config.recovery.timeout) / 16,
            _ => nanos(ack_repeat_max(&self.config)),
        };
        let at = rpc.resend.sent(self.now, max_ns.max(base));
        self.timers.arm_rpc(rpc.index(), at);
    }

    /// When a response is given up that waits for room at its peer, or for the peer to prove its
    /// address. The peer is probed; calls end when it does not answer, and so must responses, or
    /// they would stay for ever. Other packets of the peer do not keep them: it has to take data.
    fn blocked_limit(&self, rpc: &Rpc, peer: Option<&Peer>) -> Instant {
        let reacted = peer.map_or(rpc.last_heard, |peer| peer.liveness.reacted_at());
        self.unacknowledged_from(reacted.max(rpc.last_heard)) + self.config.responses.silence
    }

    /// When a message is given up that waits for memory. A peer that still wants it asks at least
    /// once per longest interval whether we live. A server in Linux format says nothing while it
    /// waits for a grant: it has as long as one of ours keeps its response.
    fn unallocated_limit(&self, rpc: &Rpc, peers: &PeerTable) -> Instant {
        let heard = peers.known(rpc.peer).map_or(rpc.last_heard, |peer| peer.last_heard);
        let asks = self.config.recovery.timeout + self.config.fixed.resend_interval_max;
        let silence_max = match rpc.is_client() && rpc.profile(peers) == Profile::Linux {
            true => asks.max(self.config.responses.silence),
            false => asks,
        };
        self.counts_from(heard) + silence_max
    }

    /// When a response is given up that waits for a grant of a Linux host, of which it was last
    /// heard at `heard`: while the host shows life the grant may still come. It cannot be asked:
    /// NEED_ACK would tell it that everything was sent.
    fn ungranted_limit(&self, heard: Instant, peer: Option<&Peer>) -> Instant {
        let silence = self.config.responses.silence;
        let alive = peer.map_or(heard, |peer| peer.last_heard.max(heard));
        (alive + silence).min(heard + silence * UNGRANTED_SILENCES)
    }
}

impl Rpc {
    /// Sends a RESEND soon, however slowly the peer is known to react.
    fn expedite(&mut self, config: &Config) {
        let intervals = if self.resend.last_sent().is_some() { DATA_INTERVALS_MAX } else { 1 };
        self.resend.shorten(nanos(config.recovery.resend_interval).saturating_mul(intervals));
    }
}

/// Whether the response waits for a grant of a Linux host. That says nothing while it has better
/// things to receive, or no memory.
fn may_wait_for_ever(rpc: &Rpc, peers: &PeerTable) -> bool {
    let waits = rpc.state() == State::Outgoing && rpc.tx.sent() < rpc.tx.length();
    waits && rpc.profile(peers) == Profile::Linux
}

fn need(rpc: &Rpc) -> Need {
    let sending = rpc.tx.length() > 0 && !rpc.tx.is_idle();
    match (rpc.role, rpc.state()) {
        (_, State::Dead | State::Delivered | State::InService) => Need::Nothing,
        (_, State::Refused(_)) => Need::Acknowledgement,
        (_, State::Incoming) if rpc.rx.is_unallocated() => Need::Memory,
        (_, State::Incoming) if !rpc.rx.awaits_data() => Need::Nothing,
        (_, State::Incoming) => Need::Data,
        (_, State::Outgoing) if sending => Need::OurTurn,
        (Role::Client, State::Outgoing) if rpc.confirmed => Need::Nothing,
        (Role::Client, State::Outgoing) => Need::Answer,
        (Role::Server, State::Outgoing) => Need::Acknowledgement,
    }
}
