//! Messages of RPCs in short form leave.

use homa_wire::{AckEntry, Common, WholeMessages};

use super::{ShortRpc, Stage};
use crate::engine::ctx::Ctx;
use crate::engine::peer::{CREDIT_PER_PACKET, Peer, PeerTable};
use crate::engine::rpc::index::RpcIndex;
use crate::engine::rpc::{Role, RpcTable};
use crate::engine::sender::Sender;
use crate::engine::sender::train::{Train, wire_bytes};
use crate::engine::stats::Count;
use crate::event::RpcKey;
use crate::priority::Priority;

/// What all packets of a train to one peer have in common.
struct Destination {
    headers: WholeMessages,
    payload_max: u32,
    in_flight_max: u32,
    validated: bool,
    /// The peer's incarnation.
    theirs: u32,
}

impl Destination {
    fn new(peer: &mut Peer, local_port: u16, ctx: &Ctx) -> Self {
        peer.path_mtu.retry(ctx.now);
        let common = Common::data(local_port, peer.path.remote.port(), 0, 0)
            .with_native_profile(peer.numbers.ours);
        Self {
            headers: WholeMessages::new(&common, peer.echoed_cutoff_version(ctx.now)),
            payload_max: peer.payload_max(&ctx.config),
            in_flight_max: peer.in_flight_max(&ctx.config),
            validated: peer.validation.is_done(),
            theirs: peer.incarnation(),
        }
    }
}

/// What became of a message that was to leave.
enum Outcome {
    Left,
    /// It does not fit, or there is none.
    Stays,
    /// It may not leave now, or not as one packet.
    Unusual,
}

impl Sender {
    /// Adds the message `first`, of an RPC in short form, and those that follow in the output order
    /// as long as they are of such RPCs of the same peer and fit. Returns the last that was tried.
    pub(crate) fn append_short(
        &mut self,
        train: &mut Train<'_>,
        first: RpcIndex,
        only_short: bool,
        rpcs: &mut RpcTable,
        peers: &mut PeerTable,
        ctx: &mut Ctx,
    ) -> RpcIndex {
        let Some(peer) = train.peer.and_then(|peer| peers.known_mut(peer)) else {
            return first;
        };
        let to = Destination::new(peer, train.path.local_port, ctx);
        let (mut next, mut last, mut asked) = (Some(first), first, None);
        let outcome = loop {
            let of_peer = |(_, rpc): &(_, &mut ShortRpc)| Some(rpc.peer) == train.peer;
            let found = next.and_then(|next| Some((next, rpcs.keyed_short(next)?)));
            let Some((index, (key, rpc))) = found.filter(|(_, found)| of_peer(found)) else {
                break Outcome::Stays;
            };
            last = index;
            match rpc.leave(key, train, peer, &to, ctx) {
                Outcome::Left => {}
                other => break other,
            }
            asked = Some(rpc.id);
            let (length, interval_ns) = (rpc.outgoing.length, rpc.outgoing.interval_ns);
            self.left(index, length, &ctx.config);
            ctx.arm(index, interval_ns);
            next = self.best(only_short);
        };
        if let Some(id) = asked {
            let path = peer.path;
            peer.in_flight.set_probe_target(&path, id);
        }
        if let Outcome::Unusual = outcome {
            rpcs.expand(last, peers);
            self.append(train, last, rpcs, peers, ctx);
        }
        last
    }
}

impl ShortRpc {
    /// Adds the message to a train to its peer, if it fits.
    #[inline]
    fn leave(
        &mut self,
        key: RpcKey,
        train: &mut Train<'_>,
        peer: &mut Peer,
        to: &Destination,
        ctx: &mut Ctx,
    ) -> Outcome {
        let (length, is_client) = (self.outgoing.length, self.role() == Role::Client);
        let (bytes, cost) = (wire_bytes(length), length.saturating_add(CREDIT_PER_PACKET));
        let is_usual = self.stage == Stage::Ready
            && length < to.payload_max
            && (is_client || to.validated)
            && peer.in_flight.has_room(cost, to.in_flight_max);
        if !is_usual {
            return Outcome::Unusual;
        }
        let cutoffs = peer.cutoffs.of_peer();
        let priority = Priority::new(cutoffs.priority(length, ctx.config.priorities.count));
        if train.count() == 0 {
            train.priority = priority;
        }
        let padding = match train.carries(bytes) {
            _ if !train.takes(priority, bytes) => None,
            true => Some(0),
            false => train.fits(bytes, true),
        };
        let Some(padding) = padding else {
            return Outcome::Stays;
        };
        peer.in_flight.charge(&mut self.outgoing.credit, cost, train.priority);
        let ack = peer.acks.pop().map_or(AckEntry::NONE, |ack| AckEntry {
            client_id: ack.client_id,
            server_port: ack.server_port,
        });
        if is_client {
            self.peer_incarnation = to.theirs;
        }
        let (flags, echo) = (self.outgoing.flags, self.peer_incarnation);
        let put = |out: &mut [u8]| to.headers.put(self.id, length, flags, ack, echo, out);
        train.push_whole(put, key, length, padding);
        train.note_priority(priority);
        ctx.stats.bytes_sent.inc_by(u64::from(length));
        self.outgoing.segment_bytes = to.payload_max;
        self.outgoing.first_priority = priority;
        self.stage = Stage::Sent;
        self.since = ctx.now;
        Outcome::Left
    }
}
