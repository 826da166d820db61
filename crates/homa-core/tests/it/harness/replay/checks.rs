//! What must hold of everything that the engine sends in the place of a recorded host.

use std::collections::BTreeMap;

use homa_wire::{Body, DOFF_CONTROL, DOFF_DATA, FLAGS, RESEND_ALL, URGENT, VERSION};

use super::story::Call;
use crate::harness::Sent;

/// Non-overlapping ranges of a message.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ranges(BTreeMap<u32, u32>);

impl Ranges {
    pub(crate) fn add(&mut self, start: u32, end: u32) {
        let (mut start, mut end) = (start, end);
        let touched: Vec<u32> = self
            .0
            .range(..=end)
            .filter(|(_, upto)| **upto >= start)
            .map(|(from, _)| *from)
            .collect();
        for from in touched {
            let upto = self.0.remove(&from).expect("it was just found");
            (start, end) = (start.min(from), end.max(upto));
        }
        if start < end {
            self.0.insert(start, end);
        }
    }

    pub(crate) fn overlaps(&self, start: u32, end: u32) -> bool {
        self.0.range(..end).next_back().is_some_and(|(_, upto)| *upto > start)
    }

    pub(crate) fn contains(&self, start: u32, end: u32) -> bool {
        self.0.range(..=start).next_back().is_some_and(|(_, upto)| *upto >= end)
    }

    pub(crate) fn covers(&self, length: u32) -> bool {
        length > 0 && self.0.get(&0).is_some_and(|upto| *upto >= length)
    }

    pub(crate) fn bytes(&self) -> u32 {
        self.0.iter().map(|(start, end)| end - start).sum()
    }

    pub(crate) fn highest(&self) -> u32 {
        self.0.last_key_value().map_or(0, |(_, upto)| *upto)
    }
}

/// The engine's side of one RPC, as far as it can be told from outside.
#[derive(Clone, Debug)]
pub(crate) struct View {
    pub(crate) call: Call,
    /// The engine is the client.
    pub(crate) is_client: bool,

    // The message that the engine sends.
    pub(crate) tx_length: Option<u32>,
    pub(crate) tx_granted: u32,
    pub(crate) tx_unscheduled: u32,
    pub(crate) tx_sent_upto: u32,
    pub(crate) tx_first: Vec<(u32, u32)>,
    pub(crate) scheduled_priority: u8,
    pub(crate) resend_priorities: Vec<u8>,
    /// What the receiver asked for.
    pub(crate) asked: Ranges,
    /// When it last asked for what begins at each offset.
    pub(crate) asked_ns: BTreeMap<u32, u64>,
    pub(crate) told_unknown: bool,

    // The message that the engine receives.
    pub(crate) rx_length: Option<u32>,
    pub(crate) rx: Ranges,
    pub(crate) rx_granted: u32,
    /// When the engine last asked for what is missing from each offset on.
    pub(crate) missing_asked_ns: BTreeMap<u32, u64>,
    pub(crate) arrived: bool,
    pub(crate) failed: bool,

    /// The peer cannot know it any more: acknowledged, or it says so.
    pub(crate) over: bool,
}

impl View {
    pub(crate) fn new(call: Call, is_client: bool) -> Self {
        Self {
            call,
            is_client,
            tx_length: None,
            tx_granted: 0,
            tx_unscheduled: 0,
            tx_sent_upto: 0,
            tx_first: Vec::new(),
            scheduled_priority: 0,
            resend_priorities: Vec::new(),
            asked: Ranges::default(),
            asked_ns: BTreeMap::new(),
            told_unknown: false,
            rx_length: None,
            rx: Ranges::default(),
            rx_granted: 0,
            missing_asked_ns: BTreeMap::new(),
            arrived: false,
            failed: false,
            over: false,
        }
    }

    /// Notes a RESEND. Nothing is asked for twice within `interval_ns`.
    pub(crate) fn asks_for(&mut self, offset: u32, at_ns: u64, interval_ns: u64) {
        let before = self.missing_asked_ns.insert(offset, at_ns);
        let soon = before.is_some_and(|before| at_ns < before + interval_ns);
        assert!(!soon, "{offset} was asked for at {before:?} and again at {at_ns}: {self:?}");
    }

    /// Whether what is missing has been asked for after `since_ns`.
    pub(crate) fn asked_since(&self, since_ns: u64) -> bool {
        self.missing_asked_ns.values().any(|at_ns| *at_ns >= since_ns)
    }

    pub(crate) fn begin_sending(&mut self, length: u32, unscheduled: u32) {
        self.tx_length = Some(length);
        self.tx_unscheduled = unscheduled.min(length);
        self.tx_granted = self.tx_unscheduled;
    }

    pub(crate) fn sent_all(&self) -> bool {
        self.tx_length.is_some_and(|length| self.tx_sent_upto == length)
    }
}

/// Every packet to a Linux host has exactly its format.
pub(crate) fn check_format(sent: &Sent) {
    let common = &sent.header.common;
    let is_data = matches!(sent.header.body, Body::Data(_));
    assert_eq!((common.flags, common.urgent), (FLAGS, URGENT), "{sent:?}");
    assert_eq!(common.doff, if is_data { DOFF_DATA } else { DOFF_CONTROL }, "{sent:?}");
    assert_eq!(sent.header.extension, None, "{sent:?}");
    assert_eq!(sent.padding, 0, "{sent:?}");
    let payload = sent.payload.end - sent.payload.start;
    let type_bytes = sent.header.packet_type().header_bytes() as u32;
    assert_eq!(sent.wire_bytes, type_bytes + payload, "{sent:?}");
    if matches!(sent.header.body, Body::Cutoffs(_)) {
        assert_eq!(common.version(), Some(VERSION), "the announcement: {sent:?}");
    } else {
        assert_eq!((common.window, common.incarnation), (0, 0), "{sent:?}");
    }
    if !is_data {
        assert_eq!(common.sequence, 0, "{sent:?}");
        assert_eq!(sent.priority, 7, "control packets go first: {sent:?}");
    }
}

/// A DATA packet, by what the other side has granted, asked for and told. `level` is that of
/// unscheduled data.
pub(crate) fn check_data(view: &mut View, sent: &Sent, level: u8, cutoff_version: u16) {
    let Body::Data(data) = &sent.header.body else {
        return;
    };
    let (start, end) = (sent.payload.start, sent.payload.end);
    let length = view.tx_length.expect("a message was begun");
    assert_eq!(data.message_length, length, "{sent:?}");
    assert_eq!((data.seg_offset, sent.header.common.sequence), (start, start), "{sent:?}");
    assert!(start < end && end <= length, "{sent:?}");
    assert_eq!(data.echo, 0, "{sent:?}");
    assert_eq!(data.cutoff_version, cutoff_version, "{sent:?}");
    if !data.is_retransmission(&sent.header.common) {
        assert_eq!(start, view.tx_sent_upto, "new data goes out in order: {sent:?}");
        assert!(start < view.tx_granted, "{sent:?} granted {}", view.tx_granted);
        assert_eq!(data.incoming, view.tx_unscheduled, "{sent:?}");
        let crosses = start < view.tx_unscheduled && end > view.tx_unscheduled;
        assert!(!crosses, "a boundary lies at the unscheduled limit: {sent:?}");
        let due = if start < view.tx_unscheduled { level } else { view.scheduled_priority };
        assert_eq!(sent.priority, due, "{sent:?}");
        view.tx_first.push((start, end));
        view.tx_sent_upto = end;
    } else {
        assert!(end <= view.tx_sent_upto, "{sent:?}");
        let first = &view.tx_first;
        // A part of an original segment is right within what the receiver misses.
        let whole = first.contains(&(start, end));
        let part = first.iter().any(|(from, to)| *from <= start && end <= *to);
        let right = whole || (part && view.asked.contains(start, end));
        assert!(right, "boundaries are kept: {start}..{end} of {first:?}, {:?}", view.asked);
        assert!(data.incoming >= end, "{sent:?}");
        let asked = view.resend_priorities.contains(&sent.priority);
        assert!(asked || (view.told_unknown && sent.priority == level), "{sent:?}");
    }
}

/// A control packet about an RPC that the engine has seen.
pub(crate) fn check_control(view: &View, sent: &Sent, granted_max: u32) {
    match &sent.header.body {
        Body::Grant(grant) => {
            let length = view.rx_length.expect("grants are for messages that came");
            assert!(grant.offset <= length, "{sent:?}");
            assert!(!view.rx.covers(length), "nothing is left to grant: {sent:?}");
            assert!(grant.offset >= view.rx_granted, "{sent:?}");
            let ahead = grant.offset.saturating_sub(view.rx.bytes());
            assert!(ahead <= granted_max, "{ahead} bytes ahead: {sent:?}");
        }
        Body::Resend(resend) if resend.length == RESEND_ALL => {
            assert!(view.is_client && view.rx_length.is_none(), "{sent:?}");
            assert_eq!(resend.offset, 0, "{sent:?}");
        }
        Body::Resend(resend) => {
            let end = resend.offset + resend.length;
            let length = view.rx_length.expect("something of the message came");
            assert!(resend.length > 0 && end <= length, "{sent:?}");
            assert!(!view.rx.overlaps(resend.offset, end), "it holds them: {sent:?} {:?}", view.rx);
            let known = view.rx_granted.max(view.rx.highest());
            assert!(end <= known, "the sender cannot have sent beyond {known}: {sent:?}");
        }
        Body::Busy => {
            let waits = view.tx_length.is_none() || !view.sent_all();
            let nothing_missing = view.rx_length.is_some();
            assert!(waits || nothing_missing, "{sent:?}");
        }
        Body::NeedAck => {
            assert!(!view.is_client && view.sent_all(), "{sent:?}");
        }
        Body::RpcUnknown => {
            assert!(
                view.over || view.failed || view.arrived || view.rx_length.is_none(),
                "{sent:?}"
            );
        }
        Body::Ack(_) => assert!(view.is_client && (view.arrived || view.failed), "{sent:?}"),
        Body::Cutoffs(_) | Body::Data(_) | Body::Freeze => {}
    }
}
