//! Counters of an engine.

use crate::event::{DropReason, Received};

/// Counting in fields of [`Stats`].
pub(crate) trait Count {
    fn inc_by(&mut self, more: u64);

    #[inline(always)]
    fn inc(&mut self) {
        self.inc_by(1);
    }
}

impl Count for u64 {
    #[inline(always)]
    fn inc_by(&mut self, more: u64) {
        *self = self.saturating_add(more);
    }
}

/// Declares the numbers of [`Stats`], each with its documentation, so that they can also be listed.
macro_rules! stats {
    (
        counters { $($(#[$counter_doc:meta])+ $counter:ident,)+ }
        gauges { $($(#[$gauge_doc:meta])+ $gauge:ident,)+ }
    ) => {
        /// Counters of an engine since it was made, and some present sizes. Sources:
        /// docs/spec/observability.md §2.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct Stats {
            $($(#[$counter_doc])+ pub $counter: u64,)+
            $($(#[$gauge_doc])+ pub $gauge: u64,)+
            /// The last version seen that is not ours, 0 = none.
            pub last_foreign_version: u16,
        }

        impl Stats {
            /// The counters, with the names of the fields.
            pub fn counters(&self) -> impl Iterator<Item = (&'static str, u64)> + use<> {
                [$((stringify!($counter), self.$counter)),+].into_iter()
            }

            /// Present sizes, with the names of the fields.
            pub fn gauges(&self) -> impl Iterator<Item = (&'static str, u64)> + use<> {
                [$((stringify!($gauge), self.$gauge)),+].into_iter()
            }
        }
    };
}

stats! {
    counters {
        /// Packets handed to `handle_packet`.
        packets_received,
        /// Packets given out by `poll_transmit` (refused ones taken back).
        packets_sent,
        /// Trains given out by `poll_transmit`.
        trains_sent,
        /// Payload bytes accepted.
        bytes_received,
        /// Payload bytes sent for the first time.
        bytes_sent,
        /// Payload bytes sent again.
        bytes_retransmitted,
        /// Packets that their senders sent again and that brought something new.
        retransmissions_used,
        /// Packets that their senders sent again although everything in them had come before.
        retransmissions_unneeded,
        /// Requests begun here.
        requests_sent,
        /// Requests that began to arrive.
        requests_received,
        /// Responses completely received.
        responses_received,
        /// Client RPCs that ended in an error.
        calls_failed,
        /// GRANT packets built.
        grants_sent,
        /// GRANT packets received.
        grants_received,
        /// RESEND packets for a gap in a message.
        resends_gap_sent,
        /// RESEND packets for the missing end of a message.
        resends_tail_sent,
        /// RESEND packets for "everything".
        resends_all_sent,
        /// RESEND packets received.
        resends_received,
        /// RESENDs that raised the grant: a GRANT was lost.
        grants_recovered,
        /// BUSY packets received.
        busy_received,
        /// RPC_UNKNOWN packets received.
        unknown_received,
        /// Requests sent again from the start because the server never saw them.
        restarts,
        /// NEED_ACK packets received.
        need_acks_received,
        /// ACK packets received.
        acks_received,
        /// CUTOFFS packets received.
        cutoffs_received,
        /// Peers over raw IP that turned out to be of this implementation.
        peers_discovered,
        /// Peers over raw IP that were of this implementation and turned out to be Linux hosts.
        peers_reverted,
        /// Probes of a peer sent.
        probes_sent,
        /// Peers that were silent for the timeout.
        peer_timeouts,
        /// Responses given up because they were not acknowledged.
        responses_abandoned,
        /// Responses given up because others needed their room
        /// ([`responses.unacknowledged_bytes`](crate::Config::responses)).
        responses_displaced,
        /// Messages that found no memory when they began to arrive.
        messages_unallocated,
        /// Packets of requests deferred until their client has validated its address: too much
        /// memory was reserved for announcements of unvalidated clients.
        unvalidated_put_off,
        /// Requests of unvalidated clients ended to make room for others.
        unvalidated_displaced,
        /// Requests that were refused at a limit.
        requests_refused,
        /// Duplicates of finished requests that were recognised.
        finished_hits,
        /// Requests for another incarnation of this server.
        stale_incarnations,
        /// Packets from the address of a known peer that do not echo our incarnation, although they
        /// are about a call of ours or lack the validated incarnation of the peer.
        impostors,
        /// Control packets dropped because too many were waiting.
        control_dropped,
        /// Control packets withheld from unvalidated addresses, which are sent no more bytes of
        /// them than came from there.
        control_withheld,
        /// Replies to packets about unknown RPCs suppressed by the rate limit.
        replies_suppressed,
        /// `transmit_failed` for want of room.
        transmit_no_room,
        /// `transmit_failed` for length.
        transmit_too_big,
        /// `transmit_failed` for want of a route.
        transmit_unreachable,
        /// `transmit_failed` because the system forbids it.
        transmit_refused,
        /// Paths that fell to the smallest MTU because full-size packets vanished.
        mtu_black_holes,
        /// Path MTU reductions.
        mtu_shrinks,
        /// Jumps of the clock that shifted deadlines.
        clock_jumps,
        /// ICMP errors that ended an RPC.
        icmp_errors,
        /// FREEZE packets received.
        freezes_received,
        /// Times the cutoffs were computed anew.
        cutoff_updates,
        /// See [`DropReason::Malformed`].
        dropped_malformed,
        /// See [`DropReason::Foreign`].
        dropped_foreign,
        /// See [`DropReason::Version`].
        dropped_version,
        /// See [`DropReason::NoSuchPort`].
        dropped_no_such_port,
        /// See [`DropReason::UnknownRpc`].
        dropped_unknown_rpc,
        /// See [`DropReason::Duplicate`].
        dropped_duplicate,
        /// See [`DropReason::BadRange`].
        dropped_bad_range,
        /// See [`DropReason::NoMemory`].
        dropped_no_memory,
        /// See [`DropReason::TooLong`].
        dropped_too_long,
        /// See [`DropReason::Limit`].
        dropped_limit,
        /// See [`DropReason::WrongPeer`].
        dropped_wrong_peer,
        /// See [`DropReason::Draining`].
        dropped_draining,
        /// Broken invariants of the engine, 0 unless it has a bug: please report it. What was to be
        /// done there is skipped. With the feature `check` the program panics instead.
        impossible,
    }
    gauges {
        /// RPCs alive now.
        live_rpcs,
        /// Peers known now.
        live_peers,
        /// Finished RPCs remembered now.
        finished_entries,
        /// Memory accounted to incoming messages now, in bytes.
        receive_memory_bytes,
        /// Bytes granted and not received now.
        incoming_bytes,
    }
}

impl Stats {
    /// Counts what a packet that was sent `again` brought.
    pub(crate) fn count_retransmission(
        &mut self,
        again: bool,
        received: &Result<Received, DropReason>,
    ) {
        match received {
            _ if !again => {}
            Ok(Received::Place(_)) => self.retransmissions_used.inc(),
            Err(DropReason::Duplicate) => self.retransmissions_unneeded.inc(),
            _ => {}
        }
    }

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
            DropReason::Draining => &mut self.dropped_draining,
        };
        counter.inc();
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;

    #[test]
    fn numbers_are_listed_with_their_names() {
        let mut stats = Stats::default();
        stats.packets_received.inc();
        stats.incoming_bytes.inc_by(7);
        let set = |(_, number): &(&str, u64)| *number > 0;
        assert_eq!(stats.counters().filter(set).collect::<Vec<_>>(), [("packets_received", 1)]);
        assert_eq!(stats.gauges().filter(set).collect::<Vec<_>>(), [("incoming_bytes", 7)]);
    }

    #[test]
    fn a_full_counter_stays_full() {
        let mut stats = Stats { restarts: u64::MAX, ..Stats::default() };
        stats.restarts.inc();
        assert_eq!(stats.restarts, u64::MAX);
    }
}
