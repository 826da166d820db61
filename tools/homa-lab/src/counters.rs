//! What the ports of the switch have carried, dropped and hold.

use serde::{Deserialize, Serialize};

use crate::LEVELS;

/// One priority level of a port towards a host, since the lab came up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LevelCounters {
    /// Frames that left towards the host.
    pub sent_packets: u64,
    /// Bytes of these frames.
    pub sent_bytes: u64,
    /// Frames that found no room.
    pub dropped_packets: u64,
    /// Frames marked with congestion experienced.
    pub marked_packets: u64,
    /// Frames waiting now.
    pub queue_packets: u64,
    /// Bytes waiting now.
    pub queue_bytes: u64,
}

/// The switch's port towards one host.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PortCounters {
    /// Index of the host.
    pub host: usize,
    /// By level; level 7 goes first.
    pub levels: [LevelCounters; LEVELS],
    /// Frames the host sent that its link lost on purpose ([`crate::LinkConditions`]).
    pub lost_up_packets: u64,
    /// Frames towards the host that its link lost on purpose, after the switch had sent them.
    pub lost_down_packets: u64,
    /// Frames that the host's link doubled on purpose, in either direction.
    pub duplicated_packets: u64,
}

/// What all ports had carried at some moment between two others.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reading {
    /// Not before this, in nanoseconds since the lab came up.
    pub from_ns: u64,
    /// Not after this; the own switch knows the moment, so both are the same there.
    pub until_ns: u64,
    /// The ports, in the order of the hosts.
    pub ports: Vec<PortCounters>,
}

/// Queue lengths of one port at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueSample {
    /// When, in nanoseconds since the lab came up.
    pub at_ns: u64,
    /// Index of the host the port leads to.
    pub host: usize,
    /// Bytes waiting, by level.
    pub queue_bytes: [u64; LEVELS],
}

/// Queue lengths over time. Only ports that hold something are recorded at each sampling.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct QueueTrace {
    /// Time between two samplings in nanoseconds; zero: this lab records none.
    pub interval_ns: u64,
    /// Oldest first.
    pub samples: Vec<QueueSample>,
    /// Older samples that made room for newer ones.
    pub overwritten: u64,
}
