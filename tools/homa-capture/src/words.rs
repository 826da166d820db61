//! What a packet means, in words.

use homa_wire::{Ack, AckEntry, Body, Cutoffs, Data, Grant, Header, Reason, Resend, RpcId};

use crate::analysis::{Observation, What};
use crate::decode::{BadPacket, BadReason, Frame, IcmpError};
use crate::follow::{DataStep, Failure, Rpc, State, direction_of, is_from_client};

/// What an observed packet means, such as `request 0..1424 of 60000, unscheduled to 40000`.
pub fn meaning(observation: &Observation<'_>) -> String {
    match observation.what {
        What::Packet(frame, step) => packet(frame, step, observation.rpc),
        What::Bad(bad) => bad_packet(bad),
        What::Icmp(error) => icmp(error),
    }
}

/// What became of an RPC.
pub fn state(rpc: &Rpc) -> String {
    match rpc.state() {
        State::Complete => "complete".to_owned(),
        State::Unfinished => "unfinished".to_owned(),
        State::Failed(failure) => format!("failed: {}", self::failure(failure)),
    }
}

/// What ended an RPC.
pub fn failure(failure: Failure) -> &'static str {
    match failure {
        Failure::Icmp(meaning) => meaning.name(),
        Failure::Refused(why) => why.meaning(),
        Failure::Cancelled => "the client gave it up",
    }
}

fn packet(frame: &Frame<'_>, step: DataStep, rpc: Option<&Rpc>) -> String {
    let header = &frame.header;
    if !frame.header_whole && !matches!(header.body, Body::Ack(_)) {
        return "cut by the recorder before the end of its header".to_owned();
    }
    let mut text = match &header.body {
        Body::Data(data) => self::data(frame, data, step, rpc),
        Body::Grant(grant) => self::grant(frame, grant, rpc),
        Body::Resend(resend) => self::resend(frame, resend),
        Body::Cutoffs(cutoffs) => self::cutoffs(cutoffs),
        Body::Ack(_) if !is_from_client(frame) => "the server has read what was sent".to_owned(),
        Body::Ack(ack) => self::ack(frame, ack, rpc),
        Body::RpcUnknown if is_from_client(frame) => {
            "the client has no such RPC (any more): the server may forget it".to_owned()
        }
        Body::RpcUnknown => "the server has no such RPC".to_owned(),
        Body::Busy if is_from_client(frame) => "the client is alive, not sending now".to_owned(),
        Body::Busy => "the server is alive, not answering now".to_owned(),
        Body::Freeze => "stop recording traces (debugging)".to_owned(),
        Body::NeedAck if header.reason() == Reason::Probe => {
            "has the receiver read what was sent?".to_owned()
        }
        Body::NeedAck => "may the server forget the RPC?".to_owned(),
    };
    extend(&mut text, header);
    text
}

/// Adds what this implementation's extension says.
fn extend(text: &mut String, header: &Header) {
    if header.reason() != Reason::None {
        text.push_str(": ");
        text.push_str(header.reason().meaning());
    }
}

fn data(frame: &Frame<'_>, data: &Data, step: DataStep, rpc: Option<&Rpc>) -> String {
    let direction = direction_of(frame);
    let length = data.message_length;
    let mut text = format!("{} {}..{} of {length}", direction.name(), step.start, step.end);
    if data.is_framed(&frame.header.common) {
        text.push_str(", framed");
    }
    if data.is_open(&frame.header.common) {
        text.push_str(", open");
    }
    if data.is_retransmission(&frame.header.common) {
        text.push_str(", retransmission");
    } else if step.start < data.incoming {
        match data.incoming >= length {
            true => text.push_str(", unscheduled"),
            false => text.push_str(&format!(", unscheduled to {}", data.incoming)),
        }
    } else {
        text.push_str(", granted");
    }
    let bytes = step.end.saturating_sub(step.start);
    if bytes > 0 && step.new_bytes == 0 {
        text.push_str(", all recorded before");
    } else if step.new_bytes < bytes {
        text.push_str(&format!(", {} bytes recorded before", bytes - step.new_bytes));
    }
    if step.completes {
        text.push_str(", complete");
    } else if rpc.is_some_and(|rpc| step.end < rpc.message(direction).seen.end())
        && step.new_bytes > 0
    {
        text.push_str(", fills a gap");
    }
    if let Some(ack) = data.acknowledged() {
        let port = ack.server_port;
        text.push_str(&format!(", acknowledges rpc {} of port {port}", ack.client_id));
    }
    text
}

fn grant(frame: &Frame<'_>, grant: &Grant, rpc: Option<&Rpc>) -> String {
    let direction = direction_of(frame);
    let length = rpc.and_then(|rpc| rpc.message(direction).length);
    let whole = if length == Some(grant.offset) { " (all)" } else { "" };
    let name = direction.name();
    let mut text =
        format!("grant of {name} to {}{whole} at level {}", grant.offset, grant.priority);
    if let Some(extension) = frame.header.extension {
        text.push_str(&format!(", has all to {}", extension.value));
    }
    text
}

fn resend(frame: &Frame<'_>, resend: &Resend) -> String {
    let name = direction_of(frame).name();
    let level = resend.priority;
    if resend.is_all() {
        return format!("send all again: nothing of the {name} arrived; at level {level}");
    }
    let end = u64::from(resend.offset) + u64::from(resend.length);
    format!("send {name} {}..{end} again, at level {level}", resend.offset)
}

fn cutoffs(cutoffs: &Cutoffs) -> String {
    let mut text = format!("unscheduled priorities, version {}:", cutoffs.version);
    for (level, longest) in cutoffs.levels.iter().enumerate().skip(1).rev() {
        if *longest > 0 {
            text.push_str(&format!(" {level} to {longest} B,"));
        }
    }
    text.push_str(" 0 for the rest");
    text
}

fn ack(frame: &Frame<'_>, ack: &Ack, rpc: Option<&Rpc>) -> String {
    let mut text =
        format!("the server may forget rpc {}", RpcId(frame.header.common.sender_id).of_client().0);
    if rpc.is_none() {
        text.push_str(" (not in the recording)");
    }
    let others = |entry: &&AckEntry| entry.client_id != frame.header.common.sender_id;
    for entry in ack.entries().iter().filter(others) {
        text.push_str(&format!(", {} (port {})", entry.client_id, entry.server_port));
    }
    text
}

fn bad_packet(bad: &BadPacket) -> String {
    match bad.reason {
        BadReason::TooShort { need, got } => {
            format!("too short: {got} bytes, its type needs {need}")
        }
        BadReason::UnknownType(code) => format!("unknown type {code:#04x}"),
        BadReason::LengthLies { announced, got } => {
            format!("its header announces {announced} bytes, {got} were there")
        }
        BadReason::Fragment(fragment) => {
            format!("piece of a fragmented packet, from byte {}", fragment.offset_bytes)
        }
        BadReason::Cut => "cut by the recorder before the end of its header".to_owned(),
    }
}

fn icmp(error: &IcmpError) -> String {
    let quoted = &error.quoted;
    let what = quoted.packet_type.map_or("packet", |packet_type| packet_type.name());
    format!(
        "{} (type {} code {}), about the {what} {}:{} > {}:{}",
        error.meaning.name(),
        error.kind,
        error.code,
        quoted.source,
        quoted.source_port,
        quoted.destination,
        quoted.destination_port,
    )
}
