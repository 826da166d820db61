//! Control packets on their way out.

use homa_wire::{Body, Common, Extension, Header, Reason};

use crate::addr::{Carriage, Path};
use crate::engine::Engine;
use crate::engine::stats::Count;
use crate::event::RpcKey;

/// What waits in the control queue.
#[derive(Clone, Debug)]
pub(crate) enum ControlBody {
    /// This packet.
    Packet(Header),
    /// RESENDs for what is missing of this RPC's incoming message, decided when they are sent.
    Missing {
        /// Whose.
        rpc: RpcKey,
        /// What follows may not have been sent yet.
        upto: u32,
        /// It may just be late: only silence says that it is lost.
        may_be_late: bool,
    },
}

/// An entry of the control queue.
#[derive(Clone, Debug)]
pub(crate) struct Control {
    pub(crate) path: Path,
    /// Level it leaves at.
    pub(crate) priority: u8,
    pub(crate) body: ControlBody,
}

impl Engine {
    /// Queues a control packet about the RPC with our form `id`: in our own profile, or in pure Linux
    /// format, which has no place for `reason` and `value`.
    pub(crate) fn push_control(
        &mut self,
        path: Path,
        id: u64,
        own: bool,
        body: Body,
        reason: Reason,
        value: u32,
    ) {
        let header = self.control_header(&path, id, body, own.then_some((reason, value)));
        self.push_packet(path, header, self.top_priority());
    }

    /// Queues a question about what an RPC has sent. It goes the way of the data (level `priority`), or it would overtake what
    /// it asks about and be told that this never came.
    pub(crate) fn push_question(
        &mut self,
        path: Path,
        id: u64,
        own: bool,
        (body, reason): (Body, Reason),
        priority: u8,
    ) {
        let header = self.control_header(&path, id, body, own.then_some((reason, 0)));
        self.push_packet(path, header, priority);
    }

    pub(crate) fn push_packet(&mut self, path: Path, header: Header, priority: u8) {
        self.push_entry(Control { path, priority, body: ControlBody::Packet(header) });
    }

    /// Builds a control header about the RPC with our form `id`: in pure Linux format, or with a reason and a value in our
    /// own profile.
    pub(crate) fn control_header(
        &self,
        path: &Path,
        id: u64,
        body: Body,
        words: Option<(Reason, u32)>,
    ) -> Header {
        let peer = self.peer_of(path);
        let extension = words.map(|(reason, value)| {
            let echo = self.addressee(peer, path, id);
            Extension { echo, reason, value }
        });
        self.header_from_us(peer, path, id, body, extension)
    }

    /// A control header to the end of `path`, where `peer` is. With an extension it is of our own profile.
    pub(crate) fn header_from_us(
        &self,
        peer: Option<u32>,
        path: &Path,
        id: u64,
        body: Body,
        extension: Option<Extension>,
    ) -> Header {
        let mut common = Common::control(path.local_port, path.remote.port(), id);
        let announces = path.carriage == Carriage::Ip
            && self.config.discover_peers
            && matches!(body, Body::Cutoffs(_));
        if extension.is_some() || announces {
            common = common.with_own_profile(self.incarnation_for(peer, path));
        }
        Header { common, body, extension }
    }

    pub(crate) fn push_entry(&mut self, entry: Control) {
        let room = self.control.len() < usize::from(self.config.control_queue_max)
            && self.control.try_reserve(1).is_ok();
        if room {
            self.control.push_back(entry);
        } else {
            self.stats.control_dropped.inc();
        }
    }

    /// Asks for everything missing of an incoming message: it is not on its way.
    pub(crate) fn push_missing(&mut self, index: u32) {
        self.push_questions(index, u32::MAX, false);
    }

    /// Asks for what is missing of an incoming message after silence.
    pub(crate) fn push_late(&mut self, index: u32) {
        self.push_questions(index, u32::MAX, true);
    }

    /// Asks for everything missing of a message below `sent`, which its sender says it has sent,
    /// at most once per resend interval: a Linux server says so every tick, and what was asked
    /// for is on its way.
    pub(crate) fn push_missing_at_intervals(&mut self, index: u32, sent: u32) {
        let Some(rpc) = self.rpcs.known(index) else {
            return;
        };
        let interval_ns = self.next_interval_ns(rpc.peer, self.speaks_own(rpc));
        let next = self.now.plus_ns(interval_ns);
        if rpc.resend.has_asked_for_missing(self.now, interval_ns) {
            return;
        }
        self.push_questions(index, sent, false);
        // Nor does the timer ask for it before.
        if let Some(rpc) = self.rpcs.known_mut(index) {
            rpc.resend.not_before(next);
        }
    }

    fn push_questions(&mut self, index: u32, upto: u32, may_be_late: bool) {
        let now = self.now;
        if let Some(rpc) = self.rpcs.known_mut(index) {
            rpc.resend.ask_for_missing(now);
            let body = ControlBody::Missing { rpc: rpc.key, upto, may_be_late };
            let path = rpc.path;
            let priority = self.top_priority();
            self.push_entry(Control { path, priority, body });
        }
    }

    /// Acknowledges the RPC with our form `id`, and others that wait.
    pub(crate) fn push_ack_packet(&mut self, path: Path, id: u64, own: bool) {
        let mut ack =
            homa_wire::Ack { count: 0, entries: [homa_wire::AckEntry::NONE; homa_wire::ACKS_MAX] };
        if let Some(peer) = self.peer_of(&path).and_then(|index| self.peers.known_mut(index)) {
            for entry in &mut ack.entries {
                let Some(pending) = peer.acks.pop() else { break };
                *entry = homa_wire::AckEntry {
                    client_id: pending.client_id,
                    server_port: pending.server_port,
                };
                ack.count = ack.count.saturating_add(1);
            }
        }
        self.push_control(path, id, own, Body::Ack(ack), Reason::None, 0);
    }
}
