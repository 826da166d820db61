//! What all connections of a host have counted, those that are closed included.

use std::sync::{Mutex, MutexGuard, PoisonError};

use homa_bench::agent::Counters;
use quinn::Connection;

/// Connections that are watched at a time; of further ones nothing is counted.
const CONNECTIONS_MAX: usize = 16_384;

/// The connections of a host, as client and as server.
#[derive(Debug, Default)]
pub(super) struct Traffic(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    open: Vec<Connection>,
    closed: Totals,
}

#[derive(Debug, Default, Clone, Copy)]
struct Totals {
    lost_packets: u64,
    lost_bytes: u64,
    packets_sent: u64,
    datagrams_sent: u64,
    datagrams_received: u64,
    congestion_events: u64,
}

impl Traffic {
    /// Counts this connection as well.
    pub(super) fn watch(&self, connection: &Connection) {
        let mut known = self.lock();
        let Known { open, closed } = &mut *known;
        open.retain(|connection| {
            let is_open = connection.close_reason().is_none();
            if !is_open {
                closed.add(connection);
            }
            is_open
        });
        if open.len() < CONNECTIONS_MAX {
            open.push(connection.clone());
        }
    }

    /// All together. A packet that was found lost is one whose frames were sent again.
    pub(super) fn counters(&self) -> Counters {
        let known = self.lock();
        let mut totals = known.closed;
        known.open.iter().for_each(|connection| totals.add(connection));
        let named = [
            ("packets_sent", totals.packets_sent),
            ("datagrams_sent", totals.datagrams_sent),
            ("datagrams_received", totals.datagrams_received),
            ("congestion_events", totals.congestion_events),
        ];
        Counters {
            retransmitted_bytes: totals.lost_bytes,
            retransmitted_packets: totals.lost_packets,
            named: named.map(|(name, count)| (name.to_owned(), count)).to_vec(),
            ..Counters::default()
        }
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        // The counts are whole at any time.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Totals {
    fn add(&mut self, connection: &Connection) {
        let stats = connection.stats();
        self.lost_packets += stats.path.lost_packets;
        self.lost_bytes += stats.path.lost_bytes;
        self.packets_sent += stats.path.sent_packets;
        self.datagrams_sent += stats.udp_tx.datagrams;
        self.datagrams_received += stats.udp_rx.datagrams;
        self.congestion_events += stats.path.congestion_events;
    }
}
