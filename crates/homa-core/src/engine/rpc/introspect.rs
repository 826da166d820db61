//! Introspection of live RPCs, for reports and debugging.

use crate::addr::Path;
use crate::engine::Engine;
use crate::engine::rpc::index::RpcIndex;
use crate::engine::rpc::{Rpc, State};
use crate::engine::short::Stage;
use crate::event::RpcKey;
use crate::histogram::{LargeMessages, LengthBin};

/// A live RPC at one moment. Lengths are 0 while there is no such message.
/// Source: docs/spec/api.md §3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RpcInfo {
    /// The RPC.
    pub rpc: RpcKey,
    /// Its id on the wire, in our form: even if it was called here, odd if it is served here.
    pub id: u64,
    /// The path between its ends.
    pub path: Path,
    /// As given to `send_request`; 0 at a server.
    pub cookie: u64,
    /// Bytes of the outgoing message.
    pub tx_length: u32,
    /// Bytes of it sent at least once.
    pub tx_sent: u32,
    /// Bytes of it that may be sent.
    pub tx_granted: u32,
    /// Bytes of the incoming message.
    pub rx_length: u32,
    /// Bytes of it that have arrived.
    pub rx_received: u32,
    /// Bytes of it that its sender may send.
    pub rx_granted: u32,
    /// Missing ranges below the highest byte that has arrived.
    pub rx_gaps: u32,
    /// Bytes in them.
    pub rx_gap_bytes: u32,
    /// The incoming message waits for memory.
    pub waits_for_memory: bool,
    /// The incoming message is complete and the application has not taken all of it.
    pub is_ready: bool,
}

impl RpcInfo {
    /// Whether it was called here.
    pub const fn is_client(&self) -> bool {
        self.id % 2 == 0
    }
}

impl Engine {
    /// Requests of clients that are alive here: arriving, in service, answered and not acknowledged
    /// as far as responses are counted, or refused and not acknowledged.
    pub fn live_requests(&self) -> usize {
        self.shares.serving()
    }

    /// All live RPCs. Visits every place of the table: for reports, not for every packet.
    pub fn rpcs(&self) -> impl Iterator<Item = RpcInfo> + '_ {
        let indices = self.rpcs.indices();
        indices.filter_map(|index| self.rpc_info(index))
    }

    fn rpc_info(&self, index: RpcIndex) -> Option<RpcInfo> {
        if let Some(rpc) = self.rpcs.short(index).filter(|rpc| rpc.stage != Stage::Over) {
            let path = self.peers.get(rpc.peer)?.path;
            return self.rpcs.expanded(index, &path).as_ref().map(info);
        }
        self.rpcs.get(index).filter(|rpc| rpc.state() != State::Dead).map(info)
    }

    /// Bytes of the messages that have begun to arrive since the engine was made, by message
    /// length, from short to long, and (count, bytes) of those longer than the last bin. `None` if
    /// the cutoffs are fixed: then lengths are not counted. Source: docs/spec/observability.md
    /// §2.1.
    pub fn message_lengths(
        &self,
    ) -> Option<(impl Iterator<Item = LengthBin> + Clone + '_, LargeMessages)> {
        let histogram = self.receiver.cutoffs().histogram()?;
        Some((histogram.bins(), histogram.large()))
    }
}

fn info(rpc: &Rpc) -> RpcInfo {
    let (tx, rx) = (&rpc.tx, &rpc.rx);
    let gap_bytes = |sum: u32, gap: &(u32, u32)| sum.saturating_add(gap.1.saturating_sub(gap.0));
    RpcInfo {
        rpc: rpc.key(),
        id: rpc.id,
        path: rpc.path,
        cookie: rpc.call.cookie,
        tx_length: tx.length(),
        tx_sent: tx.sent(),
        tx_granted: tx.granted(),
        rx_length: rx.length(),
        rx_received: rx.received(),
        rx_granted: rx.granted(),
        rx_gaps: u32::try_from(rx.gaps().len()).unwrap_or(u32::MAX),
        rx_gap_bytes: rx.gaps().iter().fold(0, gap_bytes),
        waits_for_memory: rx.is_unallocated(),
        is_ready: rx.is_complete() && !rx.is_consumed(),
    }
}
