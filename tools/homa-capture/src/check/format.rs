//! What a packet alone tells.

use std::net::{IpAddr, Ipv6Addr};

use homa_wire::{
    ACKS_MAX, Body, Common, DOFF_CONTROL, DOFF_DATA, Data, EXTENSION_BYTES, FLAGS, Reason, RpcId,
    URGENT, VERSION,
};

use super::{Check, Finding};
use crate::decode::{Carriage, Checksum, Frame};
use crate::follow::is_from_client;

/// DATA in the form whose offsets the segmenter wrote: 13 words (docs/spec/wire-format.md §2).
const DOFF_DATA_SEGMENTED: u8 = 0xD0;
/// Longest message of the Linux format in bytes (docs/spec/wire-format.md §5).
const LINUX_MESSAGE_BYTES_MAX: u32 = 1_000_000;
const LEVEL_MAX: u8 = 7;

pub(super) fn check(frame: &Frame<'_>, findings: &mut Vec<Finding>) {
    let mut report = |check, detail| findings.push(Finding::new(check, detail));
    if let Some(fragment) = frame.fragment {
        report(Check::Fragment, format!("piece from byte {}", fragment.offset_bytes));
    }
    if let Some(kind) = martian(frame) {
        report(Check::MartianSource, format!("{} is {kind}", frame.source));
    }
    if frame.checksum == Checksum::Wrong {
        report(Check::BadTcpChecksum, format!("{:#06x}", frame.header.common.checksum));
    }
    check_common(&frame.header.common, &frame.header.body, &mut report);
    check_parity(frame, &mut report);
    if frame.header_whole {
        check_body(frame, &mut report);
    }
}

fn check_common(common: &Common, body: &Body, report: &mut impl FnMut(Check, String)) {
    let is_data = matches!(body, Body::Data(_));
    let doff_ok = match is_data {
        true => matches!(common.doff, DOFF_DATA | DOFF_DATA_SEGMENTED),
        false => common.doff == DOFF_CONTROL,
    };
    if !doff_ok {
        report(Check::WrongDoff, format!("byte 12 is {:#04x}", common.doff));
    }
    if common.flags != FLAGS {
        report(Check::WrongFlags, format!("{:#04x}", common.flags));
    }
    if common.urgent != URGENT {
        report(Check::WrongUrgent, format!("{:#06x}", common.urgent));
    }
    if let Some(version) = common.version() {
        if version != VERSION {
            report(Check::OtherVersion, format!("version {version}, known is {VERSION}"));
        }
    }
}

/// Only servers send NEED_ACK and only clients ACK; but either side of this implementation may
/// probe the other (ARCHITECTURE.md §Flow control), which answers with ACK.
fn check_parity(frame: &Frame<'_>, report: &mut impl FnMut(Check, String)) {
    let id = frame.header.common.sender_id;
    let is_probe = frame.header.reason() == Reason::Probe;
    match &frame.header.body {
        Body::NeedAck if is_from_client(frame) && !is_probe => {
            report(Check::WrongParity, format!("NEED_ACK with even id {id}"));
        }
        Body::Ack(_) if !is_from_client(frame) && !frame.is_native_profile() => {
            report(Check::WrongParity, format!("ACK with odd id {id}"));
        }
        _ => {}
    }
}

fn check_body(frame: &Frame<'_>, report: &mut impl FnMut(Check, String)) {
    match &frame.header.body {
        Body::Data(data) => return check_data(frame, data, report),
        Body::Grant(grant) => check_priority(grant.priority, report),
        Body::Resend(resend) => check_priority(resend.priority, report),
        Body::Ack(ack) => {
            if usize::from(ack.count) > ACKS_MAX {
                report(Check::TooManyAcks, format!("{}", ack.count));
            }
            for entry in ack.entries().iter().filter(|entry| RpcId(entry.client_id).is_server()) {
                report(Check::WrongParity, format!("acknowledges odd id {}", entry.client_id));
            }
        }
        _ => {}
    }
    let extension_bytes = if frame.is_native_profile() { EXTENSION_BYTES } else { 0 };
    let longest = frame.header.packet_type().header_bytes() + extension_bytes;
    let behind = frame.packet_bytes.saturating_sub(longest as u32);
    if behind > 0 {
        report(Check::TrailingBytes, format!("{behind} bytes"));
    }
}

fn check_data(frame: &Frame<'_>, data: &Data, report: &mut impl FnMut(Check, String)) {
    let length = data.message_length;
    let too_long = length > LINUX_MESSAGE_BYTES_MAX && !frame.is_native_profile();
    if length == 0 || too_long {
        report(Check::MessageLength, format!("{length} bytes"));
    }
    let start = data.offset(frame.header.common.sequence);
    let payload_bytes = frame.payload_bytes();
    let end = u64::from(start) + u64::from(payload_bytes);
    if start >= length {
        report(Check::OffsetBeyondMessage, format!("offset {start} of {length}"));
    } else if end > u64::from(length) && !may_be_padded(frame) {
        report(Check::PayloadBeyondMessage, format!("{start}..{end} of {length}"));
    }
    if payload_bytes == 0 {
        report(Check::EmptyData, format!("offset {start}"));
    }
    if data.incoming > length {
        report(Check::IncomingBeyondMessage, format!("{} of {length}", data.incoming));
    }
    if RpcId(data.ack.client_id).is_server() {
        report(Check::WrongParity, format!("acknowledges odd id {}", data.ack.client_id));
    }
}

/// In this implementation's profile the last segment of a message may be padded to the length of
/// its train's segments (ARCHITECTURE.md §The engine).
fn may_be_padded(frame: &Frame<'_>) -> bool {
    frame.carriage == Carriage::Udp && frame.is_native_profile()
}

fn check_priority(priority: u8, report: &mut impl FnMut(Check, String)) {
    if priority > LEVEL_MAX {
        report(Check::PriorityRange, format!("{priority}"));
    }
}

/// Why nobody can have the packet's source address.
fn martian(frame: &Frame<'_>) -> Option<&'static str> {
    // A raw IP or cooked link may be any device, so only Ethernet with addresses rules loopback
    // out.
    let on_a_wire = !frame.loopback && frame.hop_limit != 0;
    match frame.source {
        IpAddr::V4(ip) => match ip.octets() {
            [0, ..] => Some("of \"this network\""),
            [224..=239, ..] => Some("a multicast address"),
            [255, 255, 255, 255] => Some("the broadcast address"),
            [240..=255, ..] => Some("reserved"),
            [127, ..] if on_a_wire && !frame.destination.is_loopback() => {
                Some("a loopback address")
            }
            _ => None,
        },
        IpAddr::V6(ip) if ip == Ipv6Addr::UNSPECIFIED => Some("unspecified"),
        IpAddr::V6(ip) if ip.is_multicast() => Some("a multicast address"),
        IpAddr::V6(ip) if ip.to_ipv4_mapped().is_some() => Some("an IPv4-mapped address"),
        IpAddr::V6(ip) if ip.is_loopback() && on_a_wire && !frame.destination.is_loopback() => {
            Some("the loopback address")
        }
        IpAddr::V6(_) => None,
    }
}
