//! What a packet tells together with those recorded before it.

use std::net::SocketAddr;

use homa_wire::{Body, Data, Grant, Reason, Resend};

use super::{Check, Finding};
use crate::decode::Frame;
use crate::follow::{Direction, Follow, Message, Rpc, RpcKey, direction_of, is_from_client};

/// A sender finishes the super-packet it has begun, so data may lie so far behind a grant, in bytes
/// (docs/spec/wire-format.md §11 rule 10; the largest super-packet).
const SUPER_PACKET_BYTES: u32 = 65_536;
/// Ports from here on are assigned to clients automatically (docs/spec/wire-format.md §3).
const AUTOMATIC_PORTS: u16 = 0x8000;

pub(super) fn check(frame: &Frame<'_>, rpc: &Rpc, follow: &Follow, findings: &mut Vec<Finding>) {
    let mut report = |check, detail| findings.push(Finding::new(check, detail));
    let message = rpc.message(direction_of(frame));
    match &frame.header.body {
        Body::Data(data) => {
            check_roles(frame, rpc, follow, &mut report);
            check_data(frame, data, rpc, message, &mut report);
        }
        Body::Grant(grant) => check_grant(grant, message, &mut report),
        Body::Resend(resend) => check_resend(frame, resend, rpc, message, &mut report),
        Body::NeedAck => check_need_ack(frame, rpc, &mut report),
        Body::Ack(_) => check_ack(frame, rpc, &mut report),
        _ => {}
    }
}

/// A message under an id of the wrong parity looks like one of an RPC in the other direction.
fn check_roles(
    frame: &Frame<'_>,
    rpc: &Rpc,
    follow: &Follow,
    report: &mut impl FnMut(Check, String),
) {
    // Whoever has an automatic port seldom serves, and never under the id of a call that it makes
    // itself.
    if rpc.key.server.port() < AUTOMATIC_PORTS || rpc.from_start && !is_from_client(frame) {
        return;
    }
    let mirrored = RpcKey {
        client: rpc.key.server.ip(),
        server: SocketAddr::new(rpc.key.client, rpc.client_port),
        id: rpc.key.id,
    };
    let is_mirrored = follow
        .find(&mirrored)
        .is_some_and(|other| other.client_port == rpc.key.server.port() && other.from_start);
    if is_mirrored {
        let id = frame.header.common.sender_id;
        report(Check::WrongParity, format!("id {id} from the other side of RPC {}", rpc.key.id));
    }
}

fn check_data(
    frame: &Frame<'_>,
    data: &Data,
    rpc: &Rpc,
    message: &Message,
    report: &mut impl FnMut(Check, String),
) {
    let start = data.offset(frame.header.common.sequence);
    if let Some(length) = message.length {
        let grows = message.open && data.is_open(&frame.header.common);
        if length != data.message_length && !grows {
            report(Check::LengthChanged, format!("{length} bytes, then {}", data.message_length));
        }
    }
    let length = message.length.filter(|_| !message.open).unwrap_or(data.message_length);
    let end = start.saturating_add(frame.payload_bytes()).min(length);
    let again = message.seen.overlap(start, end);
    if again > 0 && again < end.saturating_sub(start) {
        let native = frame.is_native_profile();
        let check = if native { Check::Resegmented } else { Check::PartialOverlap };
        report(check, format!("{again} bytes of {start}..{end} again"));
    }
    // A sender that says 0 knows no grants (docs/spec/wire-format.md §11 rule 9).
    let grants_known = data.incoming > 0;
    let allowed = message.allowed.max(data.incoming);
    let limit = allowed.saturating_add(SUPER_PACKET_BYTES);
    if rpc.from_start && grants_known && start >= limit && start < length {
        report(Check::BeyondGrant, format!("offset {start}, allowed to {allowed}"));
    }
}

fn check_grant(grant: &Grant, message: &Message, report: &mut impl FnMut(Check, String)) {
    if let Some(length) = message.length.filter(|length| grant.offset > *length) {
        report(Check::GrantBeyondLength, format!("{} of {length}", grant.offset));
    }
}

fn check_resend(
    frame: &Frame<'_>,
    resend: &Resend,
    rpc: &Rpc,
    message: &Message,
    report: &mut impl FnMut(Check, String),
) {
    let direction = direction_of(frame);
    // A server that answers has the request; a client that acknowledges has the response.
    let delivered = match direction {
        Direction::Request => rpc.response.packets > 0,
        Direction::Response => rpc.acknowledged_ns.is_some() && rpc.response.is_complete(),
    };
    let range = if resend.is_all() {
        "everything".to_owned()
    } else {
        format!("{}..{}", resend.offset, resend.offset.saturating_add(resend.length))
    };
    if delivered {
        return report(Check::ResendOfDelivered, format!("{range} of the {}", direction.name()));
    }
    let end = if resend.is_all() {
        message.length.unwrap_or(0)
    } else {
        resend.offset.saturating_add(resend.length)
    };
    let recorded = message.seen.overlap(resend.offset, end);
    if recorded > 0 {
        report(Check::ResendOfRecorded, format!("{recorded} bytes of {range}"));
    }
}

fn check_need_ack(frame: &Frame<'_>, rpc: &Rpc, report: &mut impl FnMut(Check, String)) {
    let is_probe = frame.header.reason() == Reason::Probe;
    let response = &rpc.response;
    if is_probe || !rpc.from_start || is_from_client(frame) || response.is_complete() {
        return;
    }
    // A server of the native profile says how much it has sent.
    let said = frame.header.extension.map(|extension| extension.value).filter(|sent| *sent > 0);
    match response.length.map(|length| said.unwrap_or(length).min(length)) {
        Some(sent) if response.allowed.saturating_add(SUPER_PACKET_BYTES) < sent => {
            report(Check::NeedAckTooEarly, format!("allowed to {} of {sent}", response.allowed));
        }
        Some(sent) => {
            let missing = u64::from(sent).saturating_sub(response.recorded_bytes());
            if missing > 0 {
                report(Check::NeedAckIncomplete, format!("{missing} bytes not recorded"));
            }
        }
        None => report(Check::NeedAckIncomplete, "nothing recorded".to_owned()),
    }
}

fn check_ack(frame: &Frame<'_>, rpc: &Rpc, report: &mut impl FnMut(Check, String)) {
    let response = &rpc.response;
    if !rpc.from_start || !is_from_client(frame) || response.is_complete() {
        return;
    }
    let detail = match response.length {
        Some(length) => format!("{} of {length} bytes recorded", response.recorded_bytes()),
        None => "no response recorded".to_owned(),
    };
    let asked = rpc.count(homa_wire::PacketType::NeedAck) > 0;
    report(if asked { Check::AckOfUnknown } else { Check::AckBeforeCompletion }, detail);
}
