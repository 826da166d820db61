//! How much may be on its way to this host.

use crate::budget::{HostBudget, SlotId};
use crate::config::Config;
use crate::engine::ctx::Ctx;
use crate::engine::peer::{LONG_PACKET_BYTES, Peer, PeerTable};
use crate::engine::receiver::Receiver;
use crate::engine::receiver::grant::{self, GrantLimits};
use crate::engine::rpc::{Rpc, RpcTable};
use crate::time::Instant;

/// A long packet is no hint at what will come after this time.
const LONGEST_PAYLOAD_MEMORY_NS: u64 = 1_000_000_000;

/// The driver's receive buffer, and how well packets fill it.
#[derive(Debug)]
pub(super) struct ReceiveBuffer {
    /// In payload bytes of packets of an Ethernet MTU.
    capacity_bytes: u64,
    /// The longest payload of the packets that came lately.
    longest_bytes: u32,
    longest_at: Instant,
}

impl Default for ReceiveBuffer {
    fn default() -> Self {
        Self { capacity_bytes: u64::MAX, longest_bytes: 0, longest_at: Instant::ZERO }
    }
}

impl ReceiveBuffer {
    #[inline]
    pub(super) fn note_payload(&mut self, now: Instant, bytes: u32) {
        if bytes >= self.longest_payload(now) {
            (self.longest_bytes, self.longest_at) = (bytes, now);
        }
    }

    /// The longest payload of the packets that came lately, in bytes.
    #[inline]
    pub(super) fn longest_payload(&self, now: Instant) -> u32 {
        let recent = now.ns_since(self.longest_at) < LONGEST_PAYLOAD_MEMORY_NS;
        if recent { self.longest_bytes } else { 0 }
    }

    /// The share for granted data: half of it, the other half being for unscheduled data; but two
    /// of the longest packets if three quarters hold them, since otherwise receiving could not
    /// overlap with sending.
    fn share(&self, now: Instant) -> u64 {
        let packet = u64::from(self.longest_payload(now));
        // The system's own administration takes about as much as a short packet, and next to
        // nothing of a long one.
        let capacity = if packet > LONG_PACKET_BYTES {
            self.capacity_bytes.saturating_mul(3) / 2
        } else {
            self.capacity_bytes
        };
        let most = capacity.saturating_mul(3) / 4;
        (capacity / 2).max(packet.saturating_mul(2).min(most))
    }
}

/// Exchange of granted bytes among the engines of a host.
#[derive(Debug)]
pub(super) struct HostShare {
    budget: HostBudget,
    slot: Option<SlotId>,
    /// The figure last published.
    published: u64,
}

impl HostShare {
    pub(super) fn new(budget: HostBudget) -> Self {
        Self { slot: budget.claim(), budget, published: 0 }
    }

    fn others_incoming(&self) -> u64 {
        self.slot.as_ref().map_or(0, |slot| self.budget.others_incoming(*slot))
    }

    #[inline]
    fn publish(&mut self, incoming: u64) {
        if incoming != self.published {
            if let Some(slot) = &self.slot {
                self.budget.set_incoming(*slot, incoming);
                self.published = incoming;
            }
        }
    }
}

impl Drop for HostShare {
    fn drop(&mut self) {
        if let Some(slot) = self.slot.take() {
            self.budget.release(slot);
        }
    }
}

impl Receiver {
    /// Data comes at so many Mbit/s at most, if that is known. Drivers report 0 where it is not.
    pub(crate) fn set_link(&mut self, mbps: Option<u32>) {
        self.link_mbps = mbps.filter(|mbps| *mbps > 0);
    }

    /// Bytes of a message that have to be on their way from a peer; `u32::MAX`: not known.
    pub(crate) fn round_trip_bytes(&self, peer: Option<&Peer>, config: &Config) -> u32 {
        let ns = peer.and_then(|peer| peer.round_trip.ns());
        let known = self.link_mbps(config).zip(ns);
        known.map_or(u32::MAX, |(mbps, ns)| {
            grant::round_trip_bytes(mbps, ns, config.grants.window_rtt_percent)
        })
    }

    /// Bytes below `end` of a message have come, sent `again` or for the first time: they may end a
    /// round trip.
    #[inline]
    pub(crate) fn note_round_trip(
        &self,
        rpc: &mut Rpc,
        (end, again): (u32, bool),
        peers: &mut PeerTable,
        ctx: &Ctx,
    ) {
        let ends = rpc.rx.granting.round_trip(end, ctx.now, ctx.stats.bytes_received);
        let (Some((ns, came)), Some(mbps), false) = (ends, self.link_mbps(&ctx.config), again)
        else {
            return;
        };
        if let Some(peer) = peers.known_mut(rpc.peer) {
            peer.round_trip.note(grant::needed_ns(ns, came, mbps));
            let bytes = self.round_trip_bytes(Some(peer), &ctx.config);
            rpc.rx.granting.set_round_trip_bytes(bytes);
        }
    }

    /// The speed of the link, if windows follow round trips.
    fn link_mbps(&self, config: &Config) -> Option<u32> {
        let known = config.output.link_mbps.or(self.link_mbps);
        known.filter(|_| config.grants.window_rtt_percent > 0)
    }

    /// Capacity of the driver's receive buffer, in payload bytes of packets of an Ethernet MTU.
    pub(crate) fn set_capacity(&mut self, bytes: u64) {
        self.buffer.capacity_bytes = bytes.max(1);
        self.granter.retry();
    }

    /// Looks at all messages that changed and decides on grants.
    pub(crate) fn decide_grants(&mut self, rpcs: &mut RpcTable, ctx: &Ctx) {
        if self.granter.has_work() {
            let limits = self.grant_limits(ctx);
            self.granter.run(rpcs, &mut self.memory, &ctx.config, &limits);
            self.publish_incoming();
        }
    }

    /// Tells the other engines of this host how much this one has granted. Messages also end
    /// without work for the granter.
    #[inline]
    pub(crate) fn publish_incoming(&mut self) {
        self.host.publish(self.granter.total_incoming());
    }

    fn grant_limits(&self, ctx: &Ctx) -> GrantLimits {
        let config = &ctx.config;
        let step = match config.grants.step_bytes {
            0 => 0,
            least if config.grants.incoming_packets_min == 0 => u64::from(least),
            least => {
                let packet = u64::from(self.buffer.longest_payload(ctx.now));
                u64::from(least).max(packet.saturating_mul(2))
            }
        };
        GrantLimits {
            now: ctx.now,
            max_incoming: self.max_incoming(ctx.now, config),
            incoming_cap: self.incoming_cap(ctx),
            kept_min: self.packets_min_bytes(ctx.now, config),
            kept_unknown: self.link_mbps(config).map(|_| config.unscheduled.bytes),
            step,
            others_incoming: self.host.others_incoming(),
            min_unscheduled_priority: self.cutoffs.min_unscheduled_priority(),
        }
    }

    /// Bytes divided into windows.
    fn max_incoming(&self, now: Instant, config: &Config) -> u64 {
        u64::from(config.grants.max_incoming_bytes).max(self.packets_min_bytes(now, config))
    }

    /// Fewer bytes cannot keep a path busy.
    fn packets_min_bytes(&self, now: Instant, config: &Config) -> u64 {
        let packet = u64::from(self.buffer.longest_payload(now));
        packet.saturating_mul(u64::from(config.grants.incoming_packets_min))
    }

    /// Bytes on their way at most.
    pub(crate) fn incoming_cap(&self, ctx: &Ctx) -> u64 {
        self.max_incoming(ctx.now, &ctx.config).min(self.buffer.share(ctx.now)).max(1)
    }
}
