//! What an engine has told and was told about each RPC, and whether the two agree.

use std::collections::HashMap;
use std::ops::Range;

use homa_core::{Event, Placement, RpcKey};

use crate::input::Input;

/// All RPCs, in the order of their beginning.
#[derive(Default)]
pub(super) struct Ledger {
    rpcs: Vec<Rpc>,
    by_key: HashMap<RpcKey, usize>,
}

#[derive(Debug)]
struct Rpc {
    key: RpcKey,
    /// The cookie of a call.
    call: Option<u64>,
    /// Length of the outgoing message, and what was released of it.
    tx: Option<u32>,
    released: u32,
    /// The outgoing message grows until it is finished.
    open: bool,
    /// Length of the incoming message, which may grow, and the ranges of it that came: sorted and
    /// apart.
    rx: Option<u32>,
    placed: Vec<Range<u32>>,
    started: bool,
    arrived: bool,
    /// It failed, or the application does not want it.
    over: bool,
    ended: bool,
}

impl Ledger {
    pub(super) fn called(&mut self, key: RpcKey, cookie: u64, length: u32) {
        let rpc = self.begin(key);
        (rpc.call, rpc.tx, rpc.started) = (Some(cookie), Some(length), true);
    }

    pub(super) fn answered(&mut self, key: RpcKey, length: u32) {
        let rpc = self.live_rpc(key);
        assert!(rpc.call.is_none() && rpc.tx.is_none() && rpc.rx.is_some(), "{rpc:?}");
        rpc.tx = Some(length);
    }

    /// The outgoing message of an RPC is open, if it has one.
    pub(super) fn set_open(&mut self, key: RpcKey) {
        self.live_rpc(key).open = true;
    }

    pub(super) fn is_open(&self, key: RpcKey) -> bool {
        self.get(key).is_some_and(|rpc| rpc.open)
    }

    /// The bytes below `upto` were provided.
    pub(super) fn supplied(&mut self, key: RpcKey, upto: u32) {
        let rpc = self.live_rpc(key);
        if rpc.open {
            rpc.tx = rpc.tx.max(Some(upto + 1));
        }
    }

    /// An open message is finished.
    pub(super) fn finished(&mut self, key: RpcKey) {
        let rpc = self.live_rpc(key);
        assert!(std::mem::take(&mut rpc.open), "{rpc:?}");
    }

    pub(super) fn aborted(&mut self, key: RpcKey) {
        self.live_rpc(key).over = true;
    }

    /// Calls about it succeed, or fail for another reason than that it is over.
    pub(super) fn must_live(&mut self, key: RpcKey) {
        self.live_rpc(key);
    }

    pub(super) fn placed(&mut self, placement: &Placement, transport_len: u32) {
        let bytes = placement.packet.end - placement.packet.start;
        assert!(placement.packet.start >= 56 && placement.packet.end <= transport_len);
        assert!(bytes > 0 && placement.offset + bytes <= placement.message_length, "{placement:?}");
        if !self.by_key.contains_key(&placement.rpc) {
            self.begin(placement.rpc);
        }
        let rpc = self.live_rpc(placement.rpc);
        rpc.note_length(placement.message_length);
        assert!(!rpc.arrived, "bytes after the last: {rpc:?}");
        let mut range = placement.offset..placement.offset + bytes;
        rpc.placed.retain(|other| {
            let apart = other.end < range.start || range.end < other.start;
            if !apart {
                range = range.start.min(other.start)..range.end.max(other.end);
            }
            apart
        });
        let at = rpc.placed.partition_point(|other| other.start < range.start);
        rpc.placed.insert(at, range);
    }

    /// The engine sends these bytes of its message: it was accepted, and they are not released.
    pub(super) fn sent(&mut self, key: RpcKey, payload: &Range<u32>) {
        let rpc = self.live_rpc(key);
        assert!(payload.start < payload.end && Some(payload.end) <= rpc.tx, "{payload:?}: {rpc:?}");
        assert!(payload.start >= rpc.released, "{payload:?}: {rpc:?}");
    }

    pub(super) fn event(&mut self, event: &Event) {
        match *event {
            Event::RequestStarted { rpc, length, .. } => {
                // There may have been no memory for its first bytes.
                let rpc = match self.by_key.contains_key(&rpc) {
                    true => self.live_rpc(rpc),
                    false => self.begin(rpc),
                };
                assert!(!rpc.started, "{rpc:?}");
                rpc.note_length(length);
                rpc.started = true;
            }
            Event::ResponseStarted { rpc, cookie, length, .. } => {
                let rpc = self.live_rpc(rpc);
                assert_eq!(rpc.call, Some(cookie), "{rpc:?}");
                rpc.note_length(length);
            }
            Event::RequestArrived { rpc, length } => self.arrived(rpc, length, None),
            Event::ResponseArrived { rpc, length, cookie } => {
                self.arrived(rpc, length, Some(cookie));
            }
            Event::BodyProgress { rpc, contiguous_upto, .. } => {
                let rpc = self.live_rpc(rpc);
                assert!(rpc.started && contiguous_upto <= rpc.contiguous(), "{rpc:?}");
            }
            Event::Failed { rpc, cookie, .. } => {
                let rpc = self.live_rpc(rpc);
                assert!(rpc.started && !rpc.over && cookie == rpc.call.unwrap_or(0), "{rpc:?}");
                rpc.over = true;
            }
            Event::Released { rpc, upto } => {
                let rpc = self.live_rpc(rpc);
                assert!(upto > rpc.released && Some(upto) <= rpc.tx, "{upto}: {rpc:?}");
                rpc.released = upto;
            }
            Event::Ended { rpc } => {
                let rpc = self.live_rpc(rpc);
                assert!(rpc.tx.is_none_or(|length| rpc.released == length), "{rpc:?}");
                assert!(rpc.call.is_none() || rpc.over || rpc.arrived, "{rpc:?}");
                rpc.ended = true;
            }
            _ => {}
        }
    }

    fn arrived(&mut self, key: RpcKey, length: u32, call: Option<u64>) {
        let rpc = self.live_rpc(key);
        rpc.note_length(length);
        assert!(rpc.started && !rpc.arrived && rpc.call == call, "{rpc:?}");
        assert_eq!(Some(rpc.contiguous()), rpc.rx, "{rpc:?}");
        rpc.arrived = true;
    }

    /// One of the RPCs that the application has heard of, alive or not.
    pub(super) fn pick(&self, input: &mut Input<'_>) -> Option<RpcKey> {
        let back = input.below(self.rpcs.len().min(16));
        let index = self.rpcs.len().checked_sub(1 + back)?;
        let rpc = &self.rpcs[index];
        (rpc.started || rpc.ended).then_some(rpc.key)
    }

    pub(super) fn live(&self) -> Vec<RpcKey> {
        self.rpcs.iter().filter(|rpc| !rpc.ended).map(|rpc| rpc.key).collect()
    }

    /// Bytes of the incoming message from its beginning that are there.
    pub(super) fn contiguous(&self, key: RpcKey) -> u32 {
        self.get(key).map_or(0, Rpc::contiguous)
    }

    pub(super) fn outgoing(&self, key: RpcKey) -> Option<u32> {
        self.get(key)?.tx
    }

    pub(super) fn waits_for_answer(&self, key: RpcKey) -> bool {
        self.get(key).is_some_and(|rpc| {
            rpc.call.is_none() && rpc.arrived && rpc.tx.is_none() && !rpc.over && !rpc.ended
        })
    }

    pub(super) fn assert_all_ended(&self) {
        let open: Vec<_> = self.rpcs.iter().filter(|rpc| !rpc.ended).collect();
        assert!(open.is_empty(), "never ended: {open:?}");
    }

    fn get(&self, key: RpcKey) -> Option<&Rpc> {
        self.by_key.get(&key).map(|index| &self.rpcs[*index])
    }

    fn begin(&mut self, key: RpcKey) -> &mut Rpc {
        let index = self.rpcs.len();
        assert!(self.by_key.insert(key, index).is_none(), "{key:?} is used again");
        self.rpcs.push(Rpc {
            key,
            call: None,
            tx: None,
            released: 0,
            open: false,
            rx: None,
            placed: Vec::new(),
            started: false,
            arrived: false,
            over: false,
            ended: false,
        });
        &mut self.rpcs[index]
    }

    fn live_rpc(&mut self, key: RpcKey) -> &mut Rpc {
        let index = *self.by_key.get(&key).unwrap_or_else(|| panic!("{key:?} is unknown"));
        let rpc = &mut self.rpcs[index];
        assert!(!rpc.ended, "something after the end: {rpc:?}");
        rpc
    }
}

impl Rpc {
    /// The engine tells the length of the incoming message.
    fn note_length(&mut self, length: u32) {
        assert!(length > 0 && self.rx.is_none_or(|before| length >= before), "{length}: {self:?}");
        self.rx = Some(length);
    }

    fn contiguous(&self) -> u32 {
        self.placed.first().filter(|first| first.start == 0).map_or(0, |first| first.end)
    }
}
