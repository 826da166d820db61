//! Headers that an input describes.

use homa_wire::{Ack, AckEntry, Body, Common, Cutoffs, Data, Extension, Grant, Header, Resend};

use crate::input::Input;

/// Values that make a header mean something to who receives it.
pub(crate) struct Near<'a> {
    pub(crate) source_port: u16,
    pub(crate) destination_port: u16,
    /// Ids in the form of the sender of the packet.
    pub(crate) ids: &'a [u64],
    /// The sender's number, and what it should echo.
    pub(crate) incarnation: u32,
    pub(crate) echo: u32,
    /// Lengths and offsets of messages on their way.
    pub(crate) numbers: &'a [u32],
}

const U24: u32 = (1 << 24) - 1;

/// A header that fits what is going on, wholly or not.
pub(crate) fn header(input: &mut Input<'_>, near: &Near<'_>) -> Header {
    let native = !input.rarely(3);
    let body = body(input, near);
    let common = common(input, near, native, &body);
    let extension = (native && !input.rarely(8)).then(|| Extension {
        echo: incarnation(input, near.echo),
        reason: (input.byte() % 16).into(),
        value: input.number(near.numbers),
    });
    Header { common, body, extension }
}

fn common(input: &mut Input<'_>, near: &Near<'_>, native: bool, body: &Body) -> Common {
    let (source, destination) = match input.rarely(16) {
        true => (input.u16(), input.u16()),
        false => (near.source_port, near.destination_port),
    };
    let id = id(input, near);
    let common = match body {
        Body::Data(data) => Common::data(source, destination, id, data.seg_offset),
        _ => Common::control(source, destination, id),
    };
    let mut common = match native {
        true => common.with_native_profile(incarnation(input, near.incarnation)),
        false => common,
    };
    if input.rarely(32) {
        common.window = input.u16();
        common.sequence = input.u32();
    }
    common
}

fn body(input: &mut Input<'_>, near: &Near<'_>) -> Body {
    match input.below(16) {
        0..=5 => Body::Data(data(input, near)),
        6 | 7 => {
            Body::Grant(Grant { offset: input.number(near.numbers), priority: input.byte() % 9 })
        }
        8 | 9 => Body::Resend(Resend {
            offset: input.number(near.numbers),
            length: input.number(near.numbers),
            priority: input.byte() % 9,
        }),
        10 => Body::RpcUnknown,
        11 => Body::Busy,
        12 => Body::Cutoffs(Cutoffs {
            levels: [0; 8].map(|_| input.magnitude(24) as u32),
            version: u16::from(input.byte()),
        }),
        13 => Body::NeedAck,
        14 => Body::Ack(Ack {
            count: u16::from(input.byte() % 8),
            entries: [0; 5].map(|_| ack_entry(input, near)),
        }),
        _ => input.choose(&[Body::Freeze, Body::NeedAck]),
    }
}

fn data(input: &mut Input<'_>, near: &Near<'_>) -> Data {
    let message_length = input.number(near.numbers);
    let seg_offset = match input.below(3) {
        0 => 0,
        _ => input.number(near.numbers),
    };
    Data {
        message_length,
        incoming: match input.flag() {
            true => input.number(near.numbers),
            false => message_length,
        },
        ack: match input.rarely(4) {
            true => ack_entry(input, near),
            false => AckEntry::NONE,
        },
        cutoff_version: u16::from(input.byte() % 4),
        flags: flags(input),
        echo: incarnation(input, near.echo),
        seg_offset,
    }
}

/// Mostly none, or that the packet was sent again; sometimes those of a message.
fn flags(input: &mut Input<'_>) -> u8 {
    match input.below(16) {
        3 | 7 | 11 | 15 => Data::RETRANSMISSION,
        1 | 2 => Data::OPEN,
        5 => Data::OPEN | Data::RETRANSMISSION,
        6 => Data::FRAMED,
        _ => 0,
    }
}

fn ack_entry(input: &mut Input<'_>, near: &Near<'_>) -> AckEntry {
    AckEntry { client_id: id(input, near), server_port: near.destination_port }
}

fn id(input: &mut Input<'_>, near: &Near<'_>) -> u64 {
    match input.below(8) {
        0..=2 if !near.ids.is_empty() => near.ids[input.below(near.ids.len())],
        7 => input.u64(),
        // A client's request.
        _ => 2 * u64::from(input.byte() % 16),
    }
}

fn incarnation(input: &mut Input<'_>, right: u32) -> u32 {
    match input.below(16) {
        0 => 0,
        1 => input.u32() & U24,
        2 => right ^ 1,
        _ => right & U24,
    }
}
