//! Counters of an engine.

use crate::event::DropReason;

/// What an engine counted since it was made, and some present sizes.
/// Sources: docs/spec/observability.md §2.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Packets handed to `handle_packet`.
    pub packets_received: u64,
    /// Packets given out by `poll_transmit` (refused ones taken back).
    pub packets_sent: u64,
    /// Trains given out by `poll_transmit`.
    pub trains_sent: u64,
    /// Payload bytes accepted.
    pub bytes_received: u64,
    /// Payload bytes sent for the first time.
    pub bytes_sent: u64,
    /// Payload bytes sent again.
    pub bytes_retransmitted: u64,
    /// Packets that their senders sent again and that brought something new.
    pub retransmissions_used: u64,
    /// Packets that their senders sent again although everything in them had come before.
    pub retransmissions_unneeded: u64,
    /// Requests begun here.
    pub requests_sent: u64,
    /// Requests that began to arrive.
    pub requests_received: u64,
    /// Responses completely received.
    pub responses_received: u64,
    /// Client RPCs that ended in an error.
    pub calls_failed: u64,
    /// GRANT packets built.
    pub grants_sent: u64,
    /// GRANT packets received.
    pub grants_received: u64,
    /// RESEND packets for a gap in a message.
    pub resends_gap_sent: u64,
    /// RESEND packets for the missing end of a message.
    pub resends_tail_sent: u64,
    /// RESEND packets for "everything".
    pub resends_all_sent: u64,
    /// RESEND packets received.
    pub resends_received: u64,
    /// RESENDs that raised the grant: a GRANT was lost.
    pub grants_recovered: u64,
    /// BUSY packets received.
    pub busy_received: u64,
    /// RPC_UNKNOWN packets received.
    pub unknown_received: u64,
    /// Requests sent again from the start because the server never saw them.
    pub restarts: u64,
    /// NEED_ACK packets received.
    pub need_acks_received: u64,
    /// ACK packets received.
    pub acks_received: u64,
    /// CUTOFFS packets received.
    pub cutoffs_received: u64,
    /// Peers over raw IP that turned out to be of this implementation.
    pub peers_discovered: u64,
    /// Peers over raw IP that were of this implementation and turned out to be Linux hosts.
    pub peers_reverted: u64,
    /// Probes of a peer sent.
    pub probes_sent: u64,
    /// Peers that were silent for the time-out.
    pub peer_timeouts: u64,
    /// Responses given up because nobody acknowledged them.
    pub responses_abandoned: u64,
    /// Responses given up because others needed their room ([`crate::Config::kept_responses_bytes`]).
    pub responses_displaced: u64,
    /// Messages that found no memory when they began to arrive.
    pub messages_starved: u64,
    /// Packets of requests that were put off until their client has proved its address: too much memory was
    /// reserved for what such clients had announced.
    pub strangers_put_off: u64,
    /// Requests ended to make room for others, because their clients had not proved their addresses.
    pub strangers_displaced: u64,
    /// Requests that were refused at a limit.
    pub requests_refused: u64,
    /// Duplicates of finished requests that were recognised.
    pub finished_hits: u64,
    /// Requests for another life of this server.
    pub stale_incarnations: u64,
    /// Packets in the name of a known peer that carry neither its incarnation nor echo ours as far as it must know it.
    pub impostors: u64,
    /// Control packets dropped because too many were waiting.
    pub control_dropped: u64,
    /// Control packets withheld from addresses that have not been proved: more would have gone there than came from there.
    pub control_withheld: u64,
    /// Replies to packets about unknown RPCs suppressed by the rate limit.
    pub replies_suppressed: u64,
    /// `transmit_failed` for want of room.
    pub transmit_no_room: u64,
    /// `transmit_failed` for length.
    pub transmit_too_big: u64,
    /// `transmit_failed` for want of a route.
    pub transmit_unreachable: u64,
    /// `transmit_failed` because the system forbids it.
    pub transmit_refused: u64,
    /// Paths that fell to the smallest MTU because full-size packets vanished.
    pub mtu_black_holes: u64,
    /// Path MTU reductions.
    pub mtu_shrinks: u64,
    /// Jumps of the clock that shifted deadlines.
    pub clock_jumps: u64,
    /// ICMP errors that ended an RPC.
    pub icmp_errors: u64,
    /// FREEZE packets received.
    pub freezes_received: u64,
    /// Times the cutoffs were computed anew.
    pub cutoff_updates: u64,
    /// See [`DropReason::Malformed`].
    pub dropped_malformed: u64,
    /// See [`DropReason::Foreign`].
    pub dropped_foreign: u64,
    /// See [`DropReason::Version`].
    pub dropped_version: u64,
    /// The last version seen that is not ours, 0 = none.
    pub last_foreign_version: u16,
    /// See [`DropReason::NoSuchPort`].
    pub dropped_no_such_port: u64,
    /// See [`DropReason::UnknownRpc`].
    pub dropped_unknown_rpc: u64,
    /// See [`DropReason::Duplicate`].
    pub dropped_duplicate: u64,
    /// See [`DropReason::BadRange`].
    pub dropped_bad_range: u64,
    /// See [`DropReason::NoMemory`].
    pub dropped_no_memory: u64,
    /// See [`DropReason::TooLong`].
    pub dropped_too_long: u64,
    /// See [`DropReason::Limit`].
    pub dropped_limit: u64,
    /// See [`DropReason::WrongPeer`].
    pub dropped_wrong_peer: u64,
    /// Broken invariants of the engine, 0 unless it has a bug: please report it. What was to be done there is skipped. With
    /// the feature `check` the program panics instead.
    pub impossible: u64,
    /// RPCs alive now.
    pub live_rpcs: u64,
    /// Peers known now.
    pub live_peers: u64,
    /// Finished RPCs remembered now.
    pub finished_entries: u64,
    /// Memory accounted to incoming messages now, in bytes.
    pub receive_memory_bytes: u64,
    /// Bytes granted and not received now.
    pub incoming_bytes: u64,
}

impl Stats {
    pub(crate) fn count_drop(&mut self, reason: DropReason) {
        let counter = match reason {
            DropReason::Malformed => &mut self.dropped_malformed,
            DropReason::Foreign => &mut self.dropped_foreign,
            DropReason::Version => &mut self.dropped_version,
            DropReason::NoSuchPort => &mut self.dropped_no_such_port,
            DropReason::UnknownRpc => &mut self.dropped_unknown_rpc,
            DropReason::Duplicate => &mut self.dropped_duplicate,
            DropReason::BadRange => &mut self.dropped_bad_range,
            DropReason::NoMemory => &mut self.dropped_no_memory,
            DropReason::TooLong => &mut self.dropped_too_long,
            DropReason::Limit => &mut self.dropped_limit,
            DropReason::WrongPeer => &mut self.dropped_wrong_peer,
        };
        *counter = counter.saturating_add(1);
    }
}
