//! Admission of data to a peer: in-flight credit for unscheduled data, and the anti-amplification
//! limit.

use homa_wire::{COMMON_HEADER_BYTES, EXTENSION_BYTES};

use crate::config::Config;
use crate::engine::peer::CREDIT_PER_PACKET;
use crate::engine::peer::Peer;
use crate::engine::profile::Profile;
use crate::engine::rpc::Rpc;
use crate::engine::sender::train::wire_bytes;

/// Whether a segment of new data may be sent now.
pub(crate) enum Admission {
    /// It takes no credit.
    Free,
    /// It takes so much in-flight credit.
    Charged(u32),
    /// Not before there is credit or, if `unvalidated`, before the peer has validated its address.
    Wait { unvalidated: bool },
}

/// Whether the peer may be sent the bytes `range` of this message now, after `in_train` bytes of
/// the present train.
#[inline]
pub(crate) fn admission(
    rpc: &Rpc,
    peer: &Peer,
    range: (u32, u32),
    in_train: u32,
    config: &Config,
) -> Admission {
    let payload = range.1.saturating_sub(range.0);
    let needed = u64::from(wire_bytes(payload)).saturating_add(u64::from(in_train));
    // Room is left for the probe whose reply validates the address.
    if needs_validation(rpc, peer) && peer.validation.room() < needed.saturating_add(NEED_ACK_BYTES)
    {
        return Admission::Wait { unvalidated: true };
    }
    if range.0 >= rpc.tx.unscheduled() || rpc.profile_with(Some(peer)) == Profile::Linux {
        return Admission::Free;
    }
    let cost = payload.saturating_add(CREDIT_PER_PACKET);
    if !peer.in_flight.has_room(cost, peer.in_flight_max(config)) {
        return Admission::Wait { unvalidated: false };
    }
    Admission::Charged(cost)
}

/// Bytes of a NEED_ACK packet of this implementation.
const NEED_ACK_BYTES: u64 = (COMMON_HEADER_BYTES + EXTENSION_BYTES) as u64;

/// Whether this message goes to a client that still has to validate its address.
#[inline]
pub(crate) fn needs_validation(rpc: &Rpc, peer: &Peer) -> bool {
    !peer.validation.is_done() && !rpc.is_client() && rpc.profile_with(Some(peer)).is_native()
}
