//! Control packets on their way out.

use alloc::collections::VecDeque;

use homa_wire::Header;

use crate::addr::Path;
use crate::engine::sender::train::Train;
use crate::event::{RpcKey, SegmentKind};
use crate::priority::Priority;

/// Content of an entry of the control queue.
#[derive(Clone, Debug)]
pub(crate) enum ControlBody {
    /// This packet.
    Packet(Header),
    /// RESENDs for what is missing of this RPC's incoming message, decided when they are sent.
    Missing {
        /// The RPC.
        rpc: RpcKey,
        /// Bytes from here on may not have been sent yet.
        upto: u32,
        /// It may just be late: only silence says that it is lost.
        may_be_late: bool,
    },
}

/// An entry of the control queue.
#[derive(Clone, Debug)]
pub(crate) struct Control {
    pub(super) path: Path,
    /// Priority it leaves at.
    pub(super) priority: Priority,
    /// The destination was an unvalidated peer when this was queued. Without a record of that peer
    /// its anti-amplification limit is unknown, and nothing is sent.
    pub(super) to_unvalidated: bool,
    pub(super) body: ControlBody,
}

/// Control packets in the order in which they leave.
#[derive(Debug, Default)]
pub(crate) struct ControlQueue(VecDeque<Control>);

impl ControlQueue {
    /// Queues an entry. `false`: `max` of them wait, or memory is short.
    pub(crate) fn try_push(&mut self, entry: Control, max: u16) -> bool {
        let room = self.0.len() < usize::from(max) && self.0.try_reserve(1).is_ok();
        if room {
            self.0.push_back(entry);
        }
        room
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn pop(&mut self) -> Option<Control> {
        self.0.pop_front()
    }

    /// Adds the control packets that follow to a train, as long as they fit.
    pub(crate) fn append_to(&mut self, train: &mut Train<'_>) {
        let forgotten = train.peer.is_none();
        while let Some(Control {
            path,
            priority,
            to_unvalidated,
            body: ControlBody::Packet(header),
        }) = self.0.front()
        {
            if forgotten && *to_unvalidated {
                return;
            }
            let bytes = u32::try_from(header.encoded_bytes()).unwrap_or(u32::MAX);
            if !train.goes(path, *priority) || train.fits(bytes, false).is_none() {
                return;
            }
            train.push(header, None, (0, 0), 0, SegmentKind::Control);
            self.0.pop_front();
        }
    }

    /// Puts one back that could not be sent.
    pub(crate) fn put_back(&mut self, entry: Control) {
        self.0.push_front(entry);
    }
}
