//! What happens when nothing happens: requests for retransmission, liveness, giving up
//! (docs/spec/protocol.md §8, with the improvements that `ARCHITECTURE.md` lists).
//!
//! Every RPC has at most one entry in the timer heap. Packets move it to an earlier time at most;
//! when it comes up early it is put back. RPCs that merely wait for a server that has the request have none: one
//! exchange per peer covers all of them.

use core::time::Duration;

use homa_wire::{Body, Reason};

use crate::addr::Path;
use crate::engine::Engine;
use crate::engine::peer::Probe;
use crate::engine::rpc::{Role, Rpc, State};
use crate::engine::stats::Count;
use crate::event::FailReason;
use crate::time::{Instant, nanos};

/// Timers looked at per call, so that a turn stays short.
const TIMERS_PER_CALL: usize = 1024;
/// RPCs of a dead peer that are ended per call.
const FAILURES_PER_CALL: usize = 1024;
/// Steps of the round over a peer's RPCs to find one to probe.
const PROBE_STEPS: usize = 16;
/// Wait before a peer is asked whether it has received what was sent, when that holds others up.
const BLOCKED_PROBE_DELAY: Duration = Duration::from_micros(200);

/// Calls that are asked about at a time while all are checked: the questions share a datagram, and so do the answers.
const RECHECK_BATCH: u32 = 32;

/// A response that its client does not take, although it is alive, is given up after so many times
/// `Config::response_silence`. (Linux waits for ever.)
const UNGRANTED_SILENCES: u32 = 12;

/// A message of which only copies come is given up after so many times `Config::response_silence`.
const MOTIONLESS_SILENCES: u32 = 6;

/// What an RPC needs from its peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Need {
    /// Nothing; a change of state arms the timer again.
    Nothing,
    /// The turn is ours: there is something to send.
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
    /// Does what is due at `now`. `rx_drained`: the last look for packets found none, so silence is
    /// silence; otherwise nothing is requested again or given up.
    pub fn handle_timeout(&mut self, now: Instant, rx_drained: bool) {
        self.tick(now);
        // An answer that was to come at once would have come before the next look for packets.
        self.answer_expected &= !rx_drained;
        if rx_drained {
            self.read_clock.all_read();
            self.pauses.all_read();
        }
        if now >= self.next_planning {
            self.next_planning = now + PLANNING_INTERVAL;
            self.plan_cutoffs();
            self.finished.rotate(self.read_clock.now());
            self.peers.evict(now, &self.config, &mut self.peer_timers);
        }
        if !rx_drained {
            return;
        }
        if self.rpc_timers.peek().is_some_and(|(_, at)| at <= now) {
            // What was acknowledged is not asked about.
            self.settle();
        }
        for _ in 0..TIMERS_PER_CALL {
            match self.rpc_timers.peek() {
                Some((index, at)) if at <= now => {
                    self.rpc_timers.remove(index);
                    self.rpc_due(index);
                }
                _ => break,
            }
        }
        for _ in 0..TIMERS_PER_CALL {
            match self.peer_timers.peek() {
                Some((index, at)) if at <= now => {
                    self.peer_timers.remove(index);
                    self.peer_due(index);
                }
                _ => break,
            }
        }
    }

    fn rpc_due(&mut self, index: u32) {
        let Some(rpc) = self.rpcs.living(index) else {
            return;
        };
        if let Some(deadline) = rpc.deadline {
            if self.now >= deadline {
                let sent = rpc.first_sent.is_some();
                self.cancel_at_server(index);
                self.fail_rpc(index, FailReason::DeadlineExceeded { sent });
                return;
            }
            self.arm_at(index, deadline);
        }
        let Some(rpc) = self.rpcs.known(index) else {
            return;
        };
        match need(rpc) {
            Need::Nothing => {}
            Need::Memory => self.starved_due(index),
            Need::OurTurn if rpc.blocked_on_peer => self.blocked_due(index),
            Need::OurTurn => {
                // Sending the last byte arms the timer again: until then nobody needs to be woken.
                if let Some(rpc) = self.rpcs.known_mut(index) {
                    rpc.last_heard = self.now;
                }
                self.schedule(index);
            }
            need => self.silence(index, need),
        }
    }

    /// A message waits for room at its peer, or for the peer to prove its address. The peer is asked;
    /// calls end when it does not answer, and so must responses, or they would stay for ever. What else the peer says is no
    /// reason to keep them: it has to take what is sent to it.
    fn blocked_due(&mut self, index: u32) {
        let Some(rpc) = self.rpcs.known(index).filter(|rpc| !rpc.is_client()) else {
            return;
        };
        let reacted =
            self.peers.known(rpc.peer).map_or(rpc.last_heard, |peer| peer.liveness.reacted_at());
        let limit = self.kept_from(reacted.max(rpc.last_heard)) + self.config.response_silence;
        if self.now >= limit {
            self.give_up(index, Need::Acknowledgement);
        } else {
            self.arm_at(index, limit);
        }
    }

    /// A message waits for memory. A peer that still wants it asks at least once per longest interval whether we live.
    fn starved_due(&mut self, index: u32) {
        let Some(rpc) = self.rpcs.known(index) else {
            return;
        };
        let heard = self.peers.known(rpc.peer).map_or(rpc.last_heard, |peer| peer.last_heard);
        let silence_max = self.config.timeout + self.config.resend_interval_max;
        let limit = self.counts_from(heard) + silence_max;
        if self.now >= limit {
            self.give_up(index, Need::Memory);
        } else {
            self.arm_at(index, limit);
        }
    }

    /// The RPC needs something from its peer: has it been silent for too long?
    fn silence(&mut self, index: u32, need: Need) {
        let Some(rpc) = self.rpcs.known(index) else {
            return;
        };
        let heard = match need {
            Need::Acknowledgement => self.kept_from(rpc.last_heard),
            _ => self.counts_from(rpc.last_heard),
        };
        if need == Need::Acknowledgement && self.may_wait_for_ever(rpc) {
            self.ungranted(index, heard);
            return;
        }
        // The host may have turned out slower since the message began.
        let (peer, own) = (rpc.peer, self.speaks_own(rpc));
        let learnt_ns = match need {
            // Asked for sooner as long as nothing is slow.
            Need::Acknowledgement => Some(self.next_interval_ns(peer, own))
                .filter(|learnt_ns| *learnt_ns > nanos(self.config.resend_interval))
                .unwrap_or(0),
            _ => self.first_interval_ns(peer, own),
        };
        // Who is asked later has as much time to answer.
        let later_ns = learnt_ns.saturating_sub(nanos(self.config.resend_interval));
        let limit = match need {
            Need::Acknowledgement => self.config.response_silence,
            _ => self
                .peers
                .known(rpc.peer)
                .map_or(self.config.timeout, |peer| peer.timeout(&self.config)),
        } + Duration::from_nanos(later_ns);
        // Words alone do not keep a response, nor a refusal: a client may not acknowledge it for ever. Nor do copies
        // keep a message: another life of this end may have told its sender that the beginning has come.
        let silences = match need {
            Need::Acknowledgement => UNGRANTED_SILENCES,
            Need::Data => MOTIONLESS_SILENCES,
            _ => u32::MAX,
        };
        let kept_max = self.config.response_silence.saturating_mul(silences);
        let kept_too_long = self.now.since(self.kept_from(rpc.progress_at)) >= kept_max;
        let held_up_since = if self.holds_others_up(rpc) { rpc.rx.moved_at } else { heard };
        let silent_since = self.counts_from(held_up_since).min(heard);
        if kept_too_long || self.now >= silent_since + limit {
            self.give_up(index, need);
            return;
        }
        let asked_from = rpc.resend.due(self.now, heard, learnt_ns);
        let asked_from = if need == Need::Data {
            self.look_for_reaction(index);
            asked_from.max(heard + self.patience_for_granted(index))
        } else {
            asked_from
        };
        if self.now < asked_from {
            self.arm_at(index, asked_from.min(heard + limit));
            return;
        }
        self.ask(index, need);
        self.arm_at(index, heard + limit);
    }

    /// Do others wait for the memory that is set aside, while this message holds it? What its sender says does not
    /// count then, but what it sends.
    fn holds_others_up(&self, rpc: &Rpc) -> bool {
        rpc.state == State::Incoming
            && self.memory.favourite() == Some(rpc.key)
            && !self.starved.is_empty()
    }

    /// Does the response wait for a grant of a Linux host? That says nothing while it has better things to
    /// receive, or no memory.
    fn may_wait_for_ever(&self, rpc: &Rpc) -> bool {
        !self.speaks_own(rpc) && rpc.state == State::Outgoing && rpc.tx.sent < rpc.tx.length
    }

    /// A response waits for a grant of a Linux host: while that shows life it may still come. It cannot be asked:
    /// NEED_ACK would tell it that everything was sent.
    fn ungranted(&mut self, index: u32, heard: Instant) {
        let Some(rpc) = self.rpcs.known(index) else {
            return;
        };
        let silence = self.config.response_silence;
        let alive = self.peers.known(rpc.peer).map_or(heard, |peer| peer.last_heard.max(heard));
        let give_up_at = (alive + silence).min(heard + silence * UNGRANTED_SILENCES);
        if self.now >= give_up_at {
            self.give_up(index, Need::Acknowledgement);
        } else {
            self.arm_at(index, give_up_at);
        }
    }

    fn give_up(&mut self, index: u32, need: Need) {
        if need == Need::Acknowledgement {
            self.stats.responses_abandoned.inc();
        }
        match self.rpcs.known(index).map(|rpc| (rpc.role, rpc.state)) {
            Some((Role::Client, _)) => self.cancel_at_server(index),
            // It will not be answered (again): a client that is there after all need not wait.
            Some((Role::Server, State::Incoming | State::Outgoing)) => self.tell_finished(index),
            _ => {}
        }
        self.fail_rpc(index, FailReason::Timeout);
    }

    pub(crate) fn tell_finished(&mut self, index: u32) {
        // Linux takes RPC_UNKNOWN for a demand to send the request again.
        if self.rpcs.known(index).is_some_and(|rpc| self.speaks_own(rpc)) {
            self.tell_unknown(index, Reason::Finished);
        }
    }

    /// Asks the peer for what the RPC needs and sets the time of the next question.
    fn ask(&mut self, index: u32, need: Need) {
        let Some(rpc) = self.rpcs.known(index) else {
            return;
        };
        let (path, id, state, sent) = (rpc.path, rpc.id, rpc.state, rpc.tx.sent);
        let own = self.speaks_own(rpc);
        let base = self.next_interval_ns(rpc.peer, own);
        match need {
            Need::Answer => {
                self.stats.resends_all_sent.inc();
                let priority = self.top_priority();
                let body = homa_wire::Resend { offset: 0, length: homa_wire::RESEND_ALL, priority };
                // Towards Linux hosts control packets go first, as among them.
                let behind = if own { rpc.tx.first_priority } else { u8::MAX };
                let level = self.question_priority(rpc.peer, behind, rpc.last_heard);
                self.push_question(path, id, own, (Body::Resend(body), Reason::None), level);
            }
            Need::Data => {
                if rpc.resend.asked_at().is_some() {
                    // Its sender did not react to the last question.
                    self.granter.pass_over(index, &mut self.rpcs);
                    if let Some(rpc) = self.rpcs.known_mut(index) {
                        rpc.rx.silent = true;
                    }
                }
                if let Some(rpc) = self.rpcs.known_mut(index) {
                    if rpc.rx.granted_told < rpc.rx.granted {
                        self.granter.mark_due(rpc);
                    }
                }
                self.push_late(index);
            }
            Need::Acknowledgement if matches!(state, State::Refused(_)) => {
                self.tell_unknown(index, Reason::Rejected);
            }
            Need::Acknowledgement => {
                // A GRANT may be on its way: what it lets go is not missing yet.
                self.push_control(path, id, own, Body::NeedAck, Reason::None, sent);
            }
            Need::Nothing | Need::Memory | Need::OurTurn => {}
        }
        let max_ns = match need {
            // While data is missing, questions must not become rare: recovery time would grow with the
            // number of losses.
            Need::Data => nanos(self.config.resend_interval).saturating_mul(4),
            Need::Answer => nanos(self.config.timeout) / 16,
            _ => nanos(self.config.resend_interval_max),
        };
        let Some(rpc) = self.rpcs.known_mut(index) else {
            return;
        };
        if need == Need::Answer {
            rpc.resend.ask_for_missing(self.now);
        }
        let at = rpc.resend.ask(self.now, max_ns.max(base));
        self.arm_at(index, at);
    }

    /// Makes sure that the peer's timer looks at it at `at` or before.
    pub(crate) fn arm_peer(&mut self, index: u32, at: Instant) {
        if self.peer_timers.key(index).is_none_or(|armed| armed > at) {
            self.peer_timers.set(index, at);
        }
    }

    /// RPCs wait for the peer to take what is on its way: ask soon if it does not say so by itself.
    pub(crate) fn arm_blocked_probe(&mut self, index: u32) {
        let at = self.now + BLOCKED_PROBE_DELAY;
        self.arm_peer(index, at);
    }

    fn peer_due(&mut self, index: u32) {
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
        let (path, id) = peer.in_flight.probe_target().unwrap_or((peer.path, 0));
        let due = waits && self.now >= next;
        // The answer about a waiting RPC lets blocked ones go on as well.
        if due && self.ask_waiting(index) {
            return;
        }
        if blocked {
            self.start_probe(index, path, id);
        } else if waits {
            let at = if due { self.now + self.config.resend_interval } else { next };
            self.arm_peer(index, at);
        }
    }

    /// Asks about the next of the peer's waiting RPCs, or about several of them while all are checked. `false`: the
    /// next one is further away.
    fn ask_waiting(&mut self, index: u32) -> bool {
        let now = self.now;
        let recheck = self.peers.known(index).map_or(0, |peer| peer.liveness.left_to_recheck());
        let Some(mut last) = self.next_waiting(index) else {
            return false;
        };
        let mut asked = 1;
        while asked < recheck.min(RECHECK_BATCH) {
            let Some(next) = self.next_waiting(index) else {
                break;
            };
            self.send_probe(index, last.0, last.1, now);
            last = next;
            asked = asked.saturating_add(1);
        }
        if let Some(peer) = self.peers.known_mut(index) {
            peer.liveness.rechecked(asked);
        }
        self.start_probe(index, last.0, last.1);
        true
    }

    /// The peer may have lost requests that it said it has: it lives another life, does not know one of them any more, or
    /// nobody listened here for so long. Asks about each, so that all calls end soon. (Nothing is ended on this suspicion
    /// alone: ids cannot be guessed, addresses can be forged.)
    pub(crate) fn recheck_waiting(&mut self, index: u32) {
        let now = self.now;
        let Some(peer) = self.peers.known_mut(index) else {
            return;
        };
        if let Some(at) = peer.liveness.recheck(now, &self.config) {
            self.arm_peer(index, at);
        }
    }

    /// Has all calls that wait checked, whichever server they wait for.
    pub(crate) fn recheck_all(&mut self) {
        for index in 0..u32::try_from(self.peers.capacity()).unwrap_or(u32::MAX) {
            if self.peers.get(index).is_some_and(|peer| peer.liveness.waiting() > 0) {
                self.recheck_waiting(index);
            }
        }
    }

    /// The next of the peer's waiting RPCs, going round so that each is verified in turn.
    fn next_waiting(&mut self, index: u32) -> Option<(Path, u64)> {
        let peer = self.peers.known_mut(index)?;
        let first = peer.first_client_rpc;
        let mut cursor = peer.probe_cursor;
        for _ in 0..PROBE_STEPS {
            let rpc = match self.rpcs.get(cursor).filter(|rpc| rpc.is_client() && rpc.peer == index)
            {
                Some(rpc) => rpc,
                None => self.rpcs.get(first)?,
            };
            cursor = rpc.next;
            if rpc.is_waiting() {
                let named = (rpc.path, rpc.id);
                peer.probe_cursor = cursor;
                return Some(named);
            }
        }
        peer.probe_cursor = cursor;
        None
    }

    /// Asks a peer whether it has the RPC `id`: its answer shows that it lives and has read what came
    /// before the question.
    fn start_probe(&mut self, index: u32, path: Path, id: u64) {
        let now = self.now;
        let interval = Duration::from_nanos(self.first_interval_ns(index, true));
        let Some(peer) = self.peers.known_mut(index) else {
            return;
        };
        peer.in_flight.probe_sent();
        let next_send = now + interval;
        peer.liveness.set_probe(Probe { path, id, first_sent: now, next_send, tries: 0 });
        self.send_probe(index, path, id, now);
        self.arm_peer(index, now + interval);
    }

    fn send_probe(&mut self, index: u32, path: Path, id: u64, since: Instant) {
        self.stats.probes_sent.inc();
        let own =
            match self.find_rpc(Some(index), &path, id).and_then(|index| self.rpcs.known(index)) {
                Some(rpc) => self.speaks_own(rpc),
                None => self.is_own_peer(index),
            };
        // The answer says that everything on its way has been read.
        let peer = self.peers.known(index);
        let behind = peer.and_then(|peer| peer.in_flight.lowest_priority()).unwrap_or(u8::MAX);
        let level = self.question_priority(index, behind, since);
        self.push_question(path, id, own, (Body::NeedAck, Reason::Probe), level);
    }

    fn probe_due(&mut self, index: u32, mut probe: Probe) {
        let Some(peer) = self.peers.known_mut(index) else {
            return;
        };
        let timeout = peer.timeout(&self.config);
        // Answers that wait for a client to prove its address are kept as long as any others.
        let answers_wait = !peer.validation.is_done() && !peer.blocked.is_empty();
        let heard = probe.first_sent.max(peer.last_heard);
        let silent_since = self.counts_from(heard);
        let silent = self.now >= silent_since + timeout;
        // It says something, but nothing to what it is asked.
        let mute_since = self.kept_from(probe.first_sent);
        let mute = self.now >= mute_since + self.config.response_silence.max(timeout);
        if mute || (silent && !answers_wait) {
            self.peer_silent(index);
            return;
        }
        if silent {
            self.fail_clients_of(index, FailReason::Timeout, FAILURES_PER_CALL);
        }
        let Some(peer) = self.peers.known_mut(index) else {
            return;
        };
        if self.now >= probe.next_send {
            probe.tries = probe.tries.saturating_add(1);
            let wait = nanos(self.config.resend_interval)
                .saturating_mul(1 << probe.tries.min(4))
                .min(nanos(timeout) / 16)
                .max(1_000_000);
            probe.next_send = self.now + Duration::from_nanos(wait);
            peer.liveness.set_probe(probe);
            self.send_probe(index, probe.path, probe.id, silent_since);
        }
        self.arm_peer(index, probe.next_send);
    }

    /// The peer answered a question: it lives, and what was sent before is not on its way any more.
    pub(crate) fn probe_answered(&mut self, index: u32) {
        let now = self.now;
        let Some(peer) = self.peers.known_mut(index) else {
            return;
        };
        let Some(probe) = peer.liveness.take_answered(now, &self.config) else {
            return;
        };
        if probe.tries == 0 {
            peer.resend_timeout.note_rtt(probe.first_sent, now);
        }
        peer.in_flight.probe_answered();
        let (next, waiting) = (peer.liveness.next_probe(), peer.liveness.waiting());
        self.serve_blocked(index);
        if waiting > 0 {
            self.arm_peer(index, next);
        }
        if self.peers.known(index).is_some_and(|peer| !peer.blocked.is_empty()) {
            self.arm_blocked_probe(index);
        }
    }

    /// Fails all calls to a peer, some of them now and the others in the next turns.
    pub(crate) fn fail_calls_to(&mut self, index: u32, reason: FailReason) {
        let all = self.fail_clients_of(index, reason, FAILURES_PER_CALL);
        let Some(peer) = self.peers.known_mut(index) else {
            return;
        };
        peer.liveness.set_failing(Some(reason).filter(|_| !all));
        // What else the peer's timer is for is looked at when all have failed.
        let now = self.now;
        self.arm_peer(index, now);
    }

    /// The peer did not answer for its time-out: no call to it will be answered.
    fn peer_silent(&mut self, index: u32) {
        self.fail_calls_to(index, FailReason::Timeout);
        if self.peers.known(index).is_some_and(|peer| peer.liveness.failing().is_some()) {
            return;
        }
        if !self.abandon_unproved(index, FAILURES_PER_CALL) {
            let now = self.now;
            self.arm_peer(index, now);
            return;
        }
        self.stats.peer_timeouts.inc();
        let Some(peer) = self.peers.known_mut(index) else {
            return;
        };
        peer.nothing_in_flight();
        self.serve_blocked(index);
    }
}

impl Engine {
    /// Gives up to `limit` responses up that wait for a peer to prove its address, which it did not do when
    /// it was asked; `true` if none is left.
    fn abandon_unproved(&mut self, peer_index: u32, limit: usize) -> bool {
        for _ in 0..limit {
            let Some(peer) =
                self.peers.known_mut(peer_index).filter(|peer| !peer.validation.is_done())
            else {
                return true;
            };
            let Some(index) = peer.blocked.pop(&mut self.blocked_positions) else {
                return true;
            };
            if let Some(rpc) = self.rpcs.known_mut(index) {
                rpc.blocked_on_peer = false;
            }
            self.stats.responses_abandoned.inc();
            self.fail_rpc(index, FailReason::Timeout);
        }
        false
    }
}

/// How often traffic is looked at for new cutoffs; the planner's own interval is longer.
const PLANNING_INTERVAL: Duration = Duration::from_millis(100);

fn need(rpc: &Rpc) -> Need {
    let sending = rpc.tx.length > 0 && !rpc.tx.is_idle();
    match (rpc.role, rpc.state) {
        (_, State::Dead | State::Delivered | State::InService) => Need::Nothing,
        (_, State::Refused(_)) => Need::Acknowledgement,
        (_, State::Incoming) if rpc.rx.starved => Need::Memory,
        (_, State::Incoming) if !rpc.rx.awaits_data() => Need::Nothing,
        (_, State::Incoming) => Need::Data,
        (_, State::Outgoing) if sending => Need::OurTurn,
        (Role::Client, State::Outgoing) if rpc.confirmed => Need::Nothing,
        (Role::Client, State::Outgoing) => Need::Answer,
        (Role::Server, State::Outgoing) => Need::Acknowledgement,
    }
}
