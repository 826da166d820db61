//! Unacknowledged responses of a server, and when it asks for acknowledgements. Acknowledgements
//! mostly ride on the client's next request, and a NEED_ACK with its ACK costs two packets, so
//! there is no hurry while little is kept. When as much is kept as may be, the host with most gives
//! way ([`crate::engine::peer::shares`]).

use core::time::Duration;

use homa_wire::{Body, Reason};

use crate::config::Config;
use crate::engine::Engine;
use crate::engine::ctx::Ctx;
use crate::engine::peer::PeerTable;
use crate::engine::peer::shares::{HostIndex, HostShares};
use crate::engine::rpc::events::Happened;
use crate::engine::rpc::index::RpcIndex;
#[cfg(any(test, feature = "check"))]
use crate::engine::rpc::list::RpcList;
use crate::engine::rpc::{Role, Rpc, RpcTable, State};
use crate::engine::stats::Count;
use crate::event::FailReason;
use crate::time::{Instant, nanos};

/// NEED_ACKs for a response before it is given up, at least.
const QUESTIONS_MIN: u32 = 8;
/// From this share of what may be kept on, in 1/1000, the wait is the shortest.
const PRESSING_PERMILLE: u64 = 500;
/// Or from this many bytes on, however many may be kept: what is kept so long takes caches and
/// memory.
const PRESSING_BYTES: u64 = 8 << 20;
/// Responses given up at a time for one that begins.
const DISPLACED_PER_CALL: usize = 1024;

impl HostShares {
    /// Wait before the client is asked for an acknowledgement of a response that begins now, in ns:
    /// between `fixed.request_ack_interval_max` when nothing is kept and
    /// [`responses.request_ack_interval`](Config::responses) when much is, or when the client was
    /// told to wait (`told_busy`) and so does not look for the response itself.
    #[inline]
    pub(crate) fn first_ack_interval_ns(&self, told_busy: bool, config: &Config) -> u64 {
        let (min_ns, max_ns) = self.ack_intervals_ns();
        if told_busy || self.is_flushing() {
            return min_ns;
        }
        let rpcs = share_permille(self.serving() as u64, u64::from(config.serving_max()));
        let pressing = (config.responses.unacknowledged_bytes / 2).min(PRESSING_BYTES);
        let bytes = share_permille(self.unacknowledged_bytes(), pressing.saturating_mul(2));
        let left = PRESSING_PERMILLE.saturating_sub(rpcs.max(bytes));
        let range_ns = max_ns.saturating_sub(min_ns);
        min_ns.saturating_add(range_ns.saturating_mul(left) / PRESSING_PERMILLE)
    }

    /// Tells the peer that this end lives and has nothing to send yet. A client waits without
    /// asking from now on: it learns of a response that is lost by the server's NEED_ACK.
    pub(crate) fn tell_busy(&self, rpc: &mut Rpc, peers: &PeerTable, ctx: &mut Ctx) {
        ctx.tell(rpc, peers, Body::Busy, Reason::None);
        if rpc.role != Role::Server {
            return;
        }
        let first = !core::mem::replace(&mut rpc.told_busy, true);
        if first && rpc.state() == State::Outgoing {
            self.shorten_wait(rpc, ctx);
        }
    }

    fn shorten_wait(&self, rpc: &mut Rpc, ctx: &mut Ctx) {
        let (min_ns, _) = self.ack_intervals_ns();
        rpc.resend.shorten(min_ns);
        ctx.arm(rpc.index(), min_ns);
    }

    /// A response to a host begins: the `bytes` that there are of it are kept until its client has
    /// them.
    #[inline]
    pub(crate) fn keep_response(
        &mut self,
        index: RpcIndex,
        (host, bytes): (HostIndex, u32),
        rpcs: &mut RpcTable,
    ) {
        self.link_response(index, host, rpcs);
        self.keep(host, bytes);
    }

    /// A response that is provided piece by piece has grown by `bytes`. Whether it is kept.
    pub(crate) fn response_supplied(
        &mut self,
        index: RpcIndex,
        bytes: u32,
        rpcs: &mut RpcTable,
        peers: &PeerTable,
    ) -> bool {
        let Some((host, _)) = host_keeping(index, rpcs, peers) else {
            return false;
        };
        self.keep(host, bytes);
        self.move_back(index, host, rpcs);
        true
    }

    /// The peer has the outgoing message of an RPC below `upto`: it is not kept any more.
    pub(crate) fn release(
        &mut self,
        index: RpcIndex,
        upto: u32,
        rpcs: &mut RpcTable,
        peers: &PeerTable,
        ctx: &mut Ctx,
    ) {
        let Some(rpc) = rpcs.known_mut(index) else {
            return;
        };
        let bytes = rpc.tx.release(upto);
        if bytes == 0 {
            return;
        }
        rpc.pending.add(Happened::Released);
        ctx.events.push(rpc);
        if let Some((host, _)) = host_keeping(index, rpcs, peers) {
            self.let_go(host, bytes);
            self.move_back(index, host, rpcs);
        }
    }

    /// The response of an RPC that ends is not kept any more.
    #[inline]
    pub(crate) fn forget_response(
        &mut self,
        index: RpcIndex,
        rpcs: &mut RpcTable,
        peers: &PeerTable,
    ) {
        if let Some((host, rpc)) = host_keeping(index, rpcs, peers) {
            let left = rpc.tx.unacknowledged_bytes();
            self.let_go(host, left);
            self.unlink_response(index, host, rpcs);
        }
    }

    /// A response of `bytes` in short form is not kept any more.
    #[inline]
    pub(crate) fn forget_short(
        &mut self,
        index: RpcIndex,
        (host, bytes): (HostIndex, u32),
        rpcs: &mut RpcTable,
    ) {
        self.let_go(host, bytes);
        self.unlink_response(index, host, rpcs);
    }

    /// The responses in the list of a host.
    #[cfg(any(test, feature = "check"))]
    pub(crate) fn responses_to<'a>(
        &self,
        host: HostIndex,
        rpcs: &'a RpcTable,
    ) -> impl Iterator<Item = RpcIndex> + use<'a> {
        let responses = self.get(host).map_or(RpcList::EMPTY, |share| share.responses);
        responses.iter(rpcs).map(|rpc| rpc.index())
    }

    /// A response made progress.
    fn move_back(&mut self, index: RpcIndex, host: HostIndex, rpcs: &mut RpcTable) {
        self.unlink_response(index, host, rpcs);
        self.link_response(index, host, rpcs);
    }

    /// Puts a response last among those of its client's host.
    #[inline]
    fn link_response(&mut self, index: RpcIndex, host: HostIndex, rpcs: &mut RpcTable) {
        if let Some(share) = self.known_mut(host) {
            share.responses.push_back(index, rpcs);
        }
    }

    #[inline]
    fn unlink_response(&mut self, index: RpcIndex, host: HostIndex, rpcs: &mut RpcTable) {
        if let Some(share) = self.known_mut(host) {
            share.responses.remove(index, rpcs);
        }
    }
}

/// The RPC, if it keeps a response, and the host of its client.
#[inline]
fn host_keeping<'a>(
    index: RpcIndex,
    rpcs: &'a RpcTable,
    peers: &PeerTable,
) -> Option<(HostIndex, &'a Rpc)> {
    let keeps = |rpc: &&Rpc| rpc.role == Role::Server && rpc.state() == State::Outgoing;
    let rpc = rpcs.known(index).filter(keeps)?;
    peers.known(rpc.peer).map(|peer| (peer.host(), rpc))
}

impl Engine {
    /// Flushes acknowledgements: from now on they are requested as soon as when memory is short,
    /// first for responses that have been sent. For a server that is about to stop and waits only
    /// for them.
    pub fn flush_acknowledgements(&mut self, now: Instant) {
        self.ctx.tick(now, &mut self.peers);
        if !self.shares.begin_flush() {
            return;
        }
        self.expand_short_forms(|_| true);
        for index in self.rpcs.indices() {
            let Some(rpc) = self.rpcs.get_mut(index).filter(|rpc| rpc.role == Role::Server) else {
                continue;
            };
            if rpc.state() == State::Outgoing {
                self.shares.shorten_wait(rpc, &mut self.ctx);
            }
        }
    }

    /// Gives responses up until no more is kept than may be: of the host with most, first those
    /// that have made no progress for longest; not `newest`, so that a single response can always
    /// be sent.
    #[inline]
    pub(crate) fn limit_unacknowledged(&mut self, newest: RpcIndex) {
        if self.shares.unacknowledged_bytes() > self.ctx.config.responses.unacknowledged_bytes {
            self.displace_responses(newest);
        }
    }

    #[inline(never)]
    fn displace_responses(&mut self, newest: RpcIndex) {
        for _ in 0..DISPLACED_PER_CALL {
            let index = self.shares.to_give_up().filter(|index| *index != newest);
            let full =
                self.shares.unacknowledged_bytes() > self.ctx.config.responses.unacknowledged_bytes;
            let Some(index) = index.filter(|_| full) else {
                return;
            };
            self.ctx.stats.responses_displaced.inc();
            self.expand(index);
            if let Some(rpc) = self.rpcs.known(index) {
                self.ctx.tell_finished(rpc, &self.peers);
            }
            self.fail_rpc(index, FailReason::Forgotten);
        }
    }
}

/// Longest wait before a client is asked again for an acknowledgement: one answer that gets lost
/// must not end a response.
pub(crate) fn ack_repeat_max(config: &Config) -> Duration {
    config.fixed.resend_interval_max.min(config.responses.silence / QUESTIONS_MIN)
}

/// Shortest and longest wait, in ns.
pub(crate) fn ack_intervals_ns(config: &Config) -> (u64, u64) {
    let min_ns = nanos(config.responses.request_ack_interval);
    let max_ns =
        nanos(config.fixed.request_ack_interval_max.min(config.responses.silence / QUESTIONS_MIN));
    (min_ns, max_ns.max(min_ns))
}

fn share_permille(part: u64, whole: u64) -> u64 {
    part.saturating_mul(1000).checked_div(whole).unwrap_or(u64::MAX)
}
