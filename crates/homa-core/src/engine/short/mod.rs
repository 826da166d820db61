//! The short form of an RPC: its request is one short packet, its response is one, and nothing
//! unusual has happened to it. Most RPCs spend their whole life in it.
//!
//! One in short form is in the same table, lists and queues as any other, and sends the same
//! packets; it takes two cache lines instead of nine, and each step one look-up. What is
//! unusual (silence, a control packet about it, a packet that comes twice, an abort, no room at the
//! peer or at the driver) *expands* it first, in its place in the table: to the [`Rpc`] that would
//! be there if it had never been short. All that recovers, probes, refuses and fails knows the
//! general form only.
//!
//! | file | what it decides |
//! | --- | --- |
//! | `calls` | how a call begins, is answered, and ends |
//! | `requests` | how a request arrives, is answered, and ends |
//! | `train` | when the message of an RPC leaves in this form |
//! | `events` | what the application is told |
//! | `expand` | nothing: the general form |

mod calls;
mod events;
mod expand;
mod requests;
mod train;

#[cfg(any(test, feature = "check"))]
pub(crate) use expand::View;

use homa_wire::{DATA_HEADER_BYTES, Data, DataView, RpcId};

use crate::addr::{Carriage, Path};
use crate::engine::Engine;
use crate::engine::ctx::Ctx;
use crate::engine::peer::{Credit, Peer, PeerIndex};
use crate::engine::receiver::memory::SHORT_BYTES;
use crate::engine::rpc::Role;
use crate::engine::rpc::index::RpcIndex;
use crate::engine::rpc::list::Link;
use crate::event::{Placement, RpcKey};
use crate::priority::Priority;
use crate::time::Instant;

/// State of an RPC in short form.
#[derive(Debug)]
pub(crate) struct ShortRpc {
    /// Id in our form: even at the client, odd at the server.
    pub(crate) id: u64,
    pub(crate) peer: PeerIndex,
    /// As in [`crate::engine::rpc::Rpc`].
    pub(crate) peer_incarnation: u32,
    pub(crate) local_port: u16,
    pub(crate) stage: Stage,
    /// It waits in the queue of events, for the only one of its stage.
    pub(crate) queued: bool,
    /// The application has taken the incoming message.
    taken: bool,
    /// When it came to this stage.
    since: Instant,
    outgoing: OutgoingShort,
    /// Bytes of the incoming message, and its flags; 0: there is none.
    rx_length: u32,
    rx_flags: u8,
    /// What the client gave with the call.
    cookie: u64,
    /// Its place among the peer's calls, or among the responses kept for the client's host.
    pub(crate) link: Link,
}

/// The message that leaves, if there is one.
#[derive(Debug)]
struct OutgoingShort {
    length: u32,
    flags: u8,
    first_priority: Priority,
    /// Payload of a full packet when it left.
    segment_bytes: u32,
    credit: Credit,
    /// Order of creation within the engine.
    birth: u64,
    /// Silence after it has left, until the timer looks at it, in ns.
    interval_ns: u64,
}

impl OutgoingShort {
    fn none(birth: u64) -> Self {
        Self {
            length: 0,
            flags: 0,
            first_priority: Priority::LOWEST,
            segment_bytes: 1,
            credit: Credit::NONE,
            birth,
            interval_ns: 0,
        }
    }
}

/// Where an RPC in short form stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Its message is in the output order: the request (client) or the response (server).
    Ready,
    /// Its message has left.
    Sent,
    /// Client: the response has come. Event: [`crate::Event::ResponseWhole`].
    Delivered,
    /// Server: the request has come. Event: [`crate::Event::RequestWhole`].
    InService,
    /// Server: over, but for its event [`crate::Event::ResponseDelivered`].
    Over,
}

impl ShortRpc {
    pub(crate) fn role(&self) -> Role {
        if RpcId(self.id).is_server() { Role::Server } else { Role::Client }
    }

    /// Server: whether the application works on the request.
    #[inline]
    pub(crate) fn is_in_service(&self) -> bool {
        self.stage == Stage::InService
    }

    /// Whether the incoming message begins with a frame of the application's library.
    fn is_framed(&self) -> bool {
        self.rx_flags & Data::FRAMED != 0
    }
}

/// A packet that is all of a message which an RPC in short form may take.
struct WholeMessage<'a> {
    path: &'a Path,
    data: DataView<'a>,
    peer: PeerIndex,
    /// Bytes of the packet from the Homa header on.
    transport_len: u32,
}

impl WholeMessage<'_> {
    fn id(&self) -> u64 {
        self.data.local_id()
    }

    fn length(&self) -> u32 {
        self.data.message_length()
    }

    fn placement(&self, rpc: RpcKey) -> Placement {
        const HEADER: u32 = DATA_HEADER_BYTES as u32;
        let (offset, message_length) = (0, self.length());
        let packet = HEADER..HEADER.saturating_add(message_length);
        Placement { rpc, offset, packet, message_length }
    }
}

/// Whether a message of so many bytes is short.
#[inline]
fn is_short_message(length: u32) -> bool {
    length > 0 && u64::from(length) <= SHORT_BYTES
}

/// Whether a packet is of a short message.
#[inline]
pub(crate) fn is_short(data: &DataView<'_>) -> bool {
    is_short_message(data.message_length())
}

impl Engine {
    /// Takes a packet of a short message if it is whole and its peer is certainly its sender.
    /// `None`, and nothing has changed: it is not, or something is unusual about its RPC.
    #[inline(never)]
    pub(crate) fn short_message(
        &mut self,
        path: &Path,
        data: DataView<'_>,
        transport_len: u32,
    ) -> Option<Placement> {
        let (length, config) = (data.message_length(), &self.ctx.config);
        let is_whole = data.flags() & !Data::FRAMED == 0
            && transport_len.saturating_sub(DATA_HEADER_BYTES as u32) >= length
            && data.begins()
            && data.incoming().min(config.unscheduled_max()) >= length
            && !config.limits.exceeds(length, data.flags());
        if !(is_whole && path.carriage == Carriage::Udp && config.fixed.short_form) {
            return None;
        }
        let index = self.peers.find(path)?;
        let peer = self.peers.known(index)?;
        // (It does not answer a probe: the RPC that one names is in its general form.)
        let is_usual = peer.is_certainly(data.incarnation(), data.echo())
            && data.cutoff_version() == self.receiver.cutoffs().version();
        if !is_usual {
            return None;
        }
        let message = WholeMessage { path, data, peer: index, transport_len };
        match RpcId(message.id()).is_server() {
            true => self.short_request(&message),
            false => self.answer(&message),
        }
    }

    /// What every packet of a peer changes that is certainly its sender.
    #[inline(always)]
    fn hear(&mut self, message: &WholeMessage<'_>) {
        self.receiver.note_data(self.ctx.now);
        if let Some(peer) = self.peers.known_mut(message.peer) {
            peer.hear(self.ctx.now, message.transport_len);
        }
        if let Some(ack) = message.data.acknowledged() {
            self.acknowledge_later(Some(message.peer), message.path, &ack);
        }
    }

    /// The peer reacted to the message of an RPC in short form: it is not on its way any more.
    #[inline]
    fn settle_short(&mut self, index: RpcIndex) {
        let Some(rpc) = self.rpcs.short_mut(index).filter(|rpc| !rpc.outgoing.credit.is_none())
        else {
            return;
        };
        let peer_index = rpc.peer;
        let Some(peer) = self.peers.known_mut(peer_index) else {
            return;
        };
        if peer.in_flight.settle(&mut rpc.outgoing.credit) {
            peer.liveness.reacted(self.ctx.now);
        }
        if !peer.blocked.is_empty() {
            let (rpcs, peers) = (&mut self.rpcs, &mut self.peers);
            self.sender.serve_blocked(peer_index, rpcs, peers, &self.ctx);
        }
    }
}

impl Peer {
    /// Whether a message of so many bytes goes to the peer in one packet and without a grant.
    #[inline]
    fn takes_short(&self, length: u32, ctx: &Ctx) -> bool {
        is_short_message(length)
            && self.path.carriage == Carriage::Udp
            && ctx.config.fixed.short_form
            && length < self.payload_max(&ctx.config)
            && self.unscheduled_bytes(length, &ctx.config) >= length
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::rpc::Rpc;

    #[test]
    fn an_rpc_in_short_form_takes_two_cache_lines() {
        assert!(size_of::<ShortRpc>() <= 128, "{} bytes", size_of::<ShortRpc>());
        assert!(size_of::<ShortRpc>() * 5 <= size_of::<Rpc>(), "{} bytes", size_of::<Rpc>());
    }
}
