//! Disciplines: which packet leaves next, and which one is dropped or trimmed when a queue is full.

use std::collections::VecDeque;

use crate::{
    event::{HostId, PacketId},
    packet::{PRIORITIES, Packets, wire_bytes},
};

/// How packets wait at the ports of switches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Discipline {
    /// Strict priorities, each first in, first out. The buffer of the switch limits them.
    #[default]
    Priorities,
    /// pFabric's (SIGCOMM 2013): of the flow of the lowest rank the earliest packet leaves first,
    /// and what has the highest rank is dropped first, of equal ranks the latest.
    Ranked {
        /// Bytes of link time that wait at a port at most.
        bytes_max: u32,
    },
    /// NDP's (SIGCOMM 2017): a short queue of data; a packet that finds it full, or the last of
    /// it, is cut down to its header and goes to a queue of headers, of which ten leave for one
    /// packet of data. Packets above priority 0 go to the headers.
    Trimming {
        /// Packets of the queue of data.
        data_packets: u32,
        /// Packets of the queue of headers. What finds it full is dropped.
        header_packets: u32,
        /// Length of the IP packet that is left of a packet.
        trimmed_ip_bytes: u32,
    },
}

/// What a transport needs of the switches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Queues {
    /// How packets wait.
    pub discipline: Discipline,
    /// Bytes of link time that wait at a port when packets are marked (ECN), unless the network
    /// says other.
    pub ecn_bytes: Option<u32>,
}

/// Headers that leave for one packet of data.
const HEADERS_PER_DATA: u32 = 10;

/// The packets that wait at a port.
#[derive(Debug)]
pub(super) enum Queue {
    Levels(Levels),
    Ranked(Box<Ranked>),
    Trimming(Box<Trimming>),
}

impl Queue {
    pub(super) fn new(discipline: Discipline, seed: u64) -> Self {
        match discipline {
            Discipline::Priorities => Self::Levels(Levels::default()),
            Discipline::Ranked { bytes_max } => {
                Self::Ranked(Box::new(Ranked { bytes_max, waiting: Vec::new() }))
            }
            Discipline::Trimming { data_packets, header_packets, trimmed_ip_bytes } => {
                Self::Trimming(Box::new(Trimming {
                    data_packets: data_packets as usize,
                    header_packets: header_packets as usize,
                    trimmed_wire_bytes: wire_bytes(trimmed_ip_bytes),
                    data: VecDeque::new(),
                    headers: VecDeque::new(),
                    headers_in_turn: 0,
                    chance: fastrand::Rng::with_seed(seed),
                }))
            }
        }
    }

    /// Takes the packet out that leaves next.
    pub(super) fn take<H: Copy>(&mut self, packets: &Packets<H>) -> Option<PacketId> {
        match self {
            Self::Levels(levels) => levels.take(packets),
            Self::Ranked(ranked) => ranked.take(),
            Self::Trimming(trimming) => trimming.take(),
        }
    }
}

/// Strict priorities. Each level is a list through the routes of its packets.
#[derive(Debug)]
pub(super) struct Levels {
    /// First and last packet of each level that is occupied.
    ends: [(PacketId, PacketId); PRIORITIES],
    bytes: [u32; PRIORITIES],
    /// Levels that have packets, a bit each.
    occupied: u8,
}

impl Default for Levels {
    fn default() -> Self {
        let nobody = (PacketId(0), PacketId(0));
        Self { ends: [nobody; PRIORITIES], bytes: [0; PRIORITIES], occupied: 0 }
    }
}

impl Levels {
    /// Bytes that wait in a level.
    pub(super) fn bytes(&self, level: usize) -> u32 {
        self.bytes[level]
    }

    pub(super) fn put<H: Copy>(&mut self, level: usize, id: PacketId, packets: &mut Packets<H>) {
        self.bytes[level] += packets.route(id).wire_bytes;
        let bit = 1 << level;
        if self.occupied & bit == 0 {
            self.occupied |= bit;
            self.ends[level].0 = id;
        } else {
            packets.route_mut(self.ends[level].1).next = id;
        }
        self.ends[level].1 = id;
    }

    fn take<H: Copy>(&mut self, packets: &Packets<H>) -> Option<PacketId> {
        let level = self.occupied.checked_ilog2()? as usize;
        let (first, last) = self.ends[level];
        let route = packets.route(first);
        self.ends[level].0 = route.next;
        if first == last {
            self.occupied &= !(1 << level);
        }
        self.bytes[level] -= route.wire_bytes;
        Some(first)
    }
}

/// What packets of one flow have in common: sender, receiver and the sender's name for it.
type Flow = (HostId, HostId, u32);

/// pFabric's queue, in the order of arrival.
#[derive(Debug)]
pub(super) struct Ranked {
    bytes_max: u32,
    waiting: Vec<(u32, Flow, PacketId)>,
}

impl Ranked {
    pub(super) fn bytes_max(&self) -> u64 {
        self.bytes_max.into()
    }

    pub(super) fn put<H: Copy>(&mut self, id: PacketId, packets: &Packets<H>) {
        let route = packets.route(id);
        self.waiting.push((route.rank, (route.from, route.to, route.flow), id));
    }

    /// Takes the packet out that is dropped first.
    pub(super) fn take_worst(&mut self) -> Option<PacketId> {
        // The last of several.
        let (worst, _) = self.waiting.iter().enumerate().max_by_key(|(_, entry)| entry.0)?;
        Some(self.waiting.remove(worst).2)
    }

    fn take(&mut self) -> Option<PacketId> {
        // The first of several.
        let (_, flow, _) = *self.waiting.iter().min_by_key(|entry| entry.0)?;
        let earliest = self.waiting.iter().position(|entry| entry.1 == flow)?;
        Some(self.waiting.remove(earliest).2)
    }
}

/// NDP's queues.
#[derive(Debug)]
pub(super) struct Trimming {
    data_packets: usize,
    header_packets: usize,
    trimmed_wire_bytes: u32,
    data: VecDeque<PacketId>,
    headers: VecDeque<PacketId>,
    /// Headers that left since the last packet of data.
    headers_in_turn: u32,
    chance: fastrand::Rng,
}

/// What becomes of a packet in NDP's queues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// It waits.
    Waits,
    /// This one, itself or the last of the queue, is to be trimmed and put to the headers.
    Trim(PacketId),
    /// It is dropped.
    Dropped,
}

impl Trimming {
    pub(super) fn trimmed_wire_bytes(&self) -> u32 {
        self.trimmed_wire_bytes
    }

    pub(super) fn put<H: Copy>(&mut self, id: PacketId, packets: &Packets<H>) -> Place {
        let route = packets.route(id);
        if route.priority > 0 || route.trimmed {
            return self.put_header(id);
        }
        if self.data.len() < self.data_packets {
            self.data.push_back(id);
            return Place::Waits;
        }
        // Either of the two: senders in step would lose always the same one's otherwise.
        match self.data.back_mut() {
            Some(last) if self.chance.bool() => Place::Trim(std::mem::replace(last, id)),
            _ => Place::Trim(id),
        }
    }

    pub(super) fn put_header(&mut self, id: PacketId) -> Place {
        if self.headers.len() >= self.header_packets {
            return Place::Dropped;
        }
        self.headers.push_back(id);
        Place::Waits
    }

    fn take(&mut self) -> Option<PacketId> {
        if self.headers_in_turn < HEADERS_PER_DATA || self.data.is_empty() {
            if let Some(header) = self.headers.pop_front() {
                self.headers_in_turn += 1;
                return Some(header);
            }
        }
        self.headers_in_turn = 0;
        self.data.pop_front()
    }
}
