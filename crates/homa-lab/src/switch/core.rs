//! What the switch decides, in virtual time: no clock, no I/O.
//!
//! Frames [`arrive`](SwitchCore::arrive); [`advance`](SwitchCore::advance) does everything that is due by a
//! moment, in the order of its time, and hands out what reaches the hosts; [`next_event_ns`](SwitchCore::next_event_ns)
//! says when to call again. A late call changes no departure: a port that has frames waiting begins the next one
//! when the one before ended, so rates are exact over any busy period.

use std::{
    cmp::Ordering,
    collections::{BinaryHeap, VecDeque},
};

use super::{
    conditions::{Direction, LinkConditions},
    frame::{Destination, Frame},
    trace::Ring,
};
use crate::{BufferPolicy, LEVELS, PortCounters, QueueSample, QueueTrace};

/// Buffers kept for later frames.
const POOL_MAX: usize = 1024;

/// How the switch is to behave.
#[derive(Debug, Clone)]
pub struct SwitchConfig {
    /// Number of ports.
    pub ports: usize,
    /// Rate of each port towards its host, in bytes of frames per second; at least 1.
    pub rate_bytes_per_s: u64,
    /// The longest frame in bytes.
    pub frame_bytes: usize,
    /// What `buffer_bytes` limits.
    pub buffer: BufferPolicy,
    /// The limit, in bytes of frames.
    pub buffer_bytes: u64,
    /// Dynamic threshold of a shared buffer: a queue may be this many times as long as what is free.
    pub shared_alpha: f64,
    /// Marks ECN-capable packets that find more than this many bytes in their level's queue.
    pub ecn_bytes: Option<u64>,
    /// Number of different priorities: 1, 2, 4 or 8; levels are joined in groups.
    pub priorities: usize,
    /// What the links from the hosts do to frames.
    pub up: LinkConditions,
    /// What the links towards the hosts do to frames.
    pub down: LinkConditions,
    /// Seed of all random decisions.
    pub seed: u64,
    /// Time between two samples of the queue lengths; zero records none.
    pub trace_interval_ns: u64,
    /// The most samples kept.
    pub trace_samples: usize,
}

#[derive(Debug)]
struct Port {
    queues: [VecDeque<Frame>; LEVELS],
    counters: PortCounters,
    sending: Option<(usize, Frame)>,
    /// What the times of departures so far were rounded down by: parts of a nanosecond.
    remainder: u64,
    up: Direction,
    down: Direction,
}

#[derive(Debug)]
enum Event {
    /// A frame has passed its sender's link.
    Enter { from: usize, frame: Frame },
    /// A port has sent the frame it was sending.
    Sent { port: usize },
    /// A frame has passed its receiver's link.
    Reach { host: usize, frame: Frame },
    /// The queue lengths are to be recorded.
    Sample,
}

#[derive(Debug)]
struct Due {
    at_ns: u64,
    number: u64,
    event: Event,
}

/// The state of the switch.
#[derive(Debug)]
pub struct SwitchCore {
    config: SwitchConfig,
    ports: Vec<Port>,
    due: BinaryHeap<Due>,
    numbers: u64,
    /// Bytes in all queues, for shared buffers.
    held_bytes: u64,
    sampling: bool,
    trace: Ring,
    pool: Vec<Frame>,
    unknown_packets: u64,
}

impl SwitchCore {
    /// An idle switch.
    pub fn new(config: SwitchConfig) -> Self {
        let port = |host: usize| {
            let seed =
                config.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(2 * host as u64);
            Port {
                queues: Default::default(),
                counters: PortCounters { host, ..PortCounters::default() },
                sending: None,
                remainder: 0,
                up: Direction::new(config.up, seed),
                down: Direction::new(config.down, seed.wrapping_add(1)),
            }
        };
        Self {
            ports: (0..config.ports).map(port).collect(),
            due: BinaryHeap::new(),
            numbers: 0,
            held_bytes: 0,
            sampling: false,
            trace: Ring::new(config.trace_interval_ns, config.trace_samples),
            pool: Vec::new(),
            unknown_packets: 0,
            config,
        }
    }

    /// A host has sent a frame.
    pub fn arrive(&mut self, now_ns: u64, from: usize, frame: Frame) {
        let Some(port) = self.ports.get_mut(from) else {
            return self.recycle(frame);
        };
        let copies = port.up.pass(now_ns);
        match copies {
            [None, None] => port.counters.lost_up_packets += 1,
            [_, Some(_)] => port.counters.duplicated_packets += 1,
            _ => {}
        }
        self.copy(frame, copies, |frame| Event::Enter { from, frame });
    }

    /// Does everything that is due by `now_ns`; `deliver` gets what reaches the hosts.
    pub fn advance(&mut self, now_ns: u64, mut deliver: impl FnMut(usize, Frame)) {
        while self.due.peek().is_some_and(|due| due.at_ns <= now_ns) {
            let Some(Due { at_ns, event, .. }) = self.due.pop() else { break };
            match event {
                Event::Enter { from, frame } => self.forward(at_ns, from, frame),
                Event::Sent { port } => self.sent(at_ns, port),
                Event::Reach { host, frame } => deliver(host, frame),
                Event::Sample => self.sample(at_ns),
            }
        }
    }

    /// When [`SwitchCore::advance`] has something to do next. Changes with every other call.
    pub fn next_event_ns(&self) -> Option<u64> {
        self.due.peek().map(|due| due.at_ns)
    }

    /// What every port has carried.
    pub fn counters(&self) -> Vec<PortCounters> {
        self.ports.iter().map(|port| port.counters.clone()).collect()
    }

    /// Queue lengths over time.
    pub fn trace(&self) -> QueueTrace {
        self.trace.read()
    }

    /// Frames to addresses that no host has.
    pub fn unknown_packets(&self) -> u64 {
        self.unknown_packets
    }

    /// A buffer for a frame.
    pub fn buffer(&mut self) -> Frame {
        self.pool.pop().unwrap_or_else(|| Frame::with_capacity(self.config.frame_bytes))
    }

    /// Takes a buffer back.
    pub fn recycle(&mut self, frame: Frame) {
        if self.pool.len() < POOL_MAX {
            self.pool.push(frame);
        }
    }

    fn schedule(&mut self, at_ns: u64, event: Event) {
        self.numbers += 1;
        self.due.push(Due { at_ns, number: self.numbers, event });
    }

    fn copy(&mut self, frame: Frame, copies: [Option<u64>; 2], event: impl Fn(Frame) -> Event) {
        if let Some(at_ns) = copies[1] {
            let second = event(frame.clone());
            self.schedule(at_ns, second);
        }
        match copies[0] {
            Some(at_ns) => self.schedule(at_ns, event(frame)),
            None => self.recycle(frame),
        }
    }

    fn forward(&mut self, now_ns: u64, from: usize, frame: Frame) {
        match frame.destination(self.ports.len()) {
            Destination::Port(port) => self.enqueue(now_ns, port, frame),
            Destination::All => {
                for port in (0..self.ports.len()).filter(|port| *port != from) {
                    self.enqueue(now_ns, port, frame.clone());
                }
                self.recycle(frame);
            }
            Destination::Unknown => {
                self.unknown_packets += 1;
                self.recycle(frame);
            }
        }
    }

    fn enqueue(&mut self, now_ns: u64, index: usize, mut frame: Frame) {
        // Joins neighbouring levels if there are fewer priorities than levels.
        let group = LEVELS / self.config.priorities.clamp(1, LEVELS);
        let level = frame.level() / group * group;
        let bytes = frame.len() as u64;
        let room = self.has_room(index, level, bytes);
        let Some(port) = self.ports.get_mut(index) else { return };
        let counters = &mut port.counters.levels[level];
        if !room {
            counters.dropped_packets += 1;
            return self.recycle(frame);
        }
        if self.config.ecn_bytes.is_some_and(|limit| counters.queue_bytes > limit)
            && frame.mark_congestion()
        {
            counters.marked_packets += 1;
        }
        counters.queue_bytes += bytes;
        counters.queue_packets += 1;
        self.held_bytes += bytes;
        port.queues[level].push_back(frame);
        self.start_sampling(now_ns);
        self.start_sending(now_ns, index);
    }

    fn has_room(&self, index: usize, level: usize, bytes: u64) -> bool {
        let Some(port) = self.ports.get(index) else { return false };
        let levels = &port.counters.levels;
        let limit = self.config.buffer_bytes;
        match self.config.buffer {
            BufferPolicy::Level => levels[level].queue_bytes + bytes <= limit,
            BufferPolicy::Port => {
                levels.iter().map(|level| level.queue_bytes).sum::<u64>() + bytes <= limit
            }
            BufferPolicy::Shared => {
                let free = limit.saturating_sub(self.held_bytes);
                let allowed = (free as f64 * self.config.shared_alpha) as u64;
                bytes <= free && levels[level].queue_bytes + bytes <= allowed
            }
        }
    }

    /// Begins to send the first frame of the highest level, unless the port is busy or empty.
    fn start_sending(&mut self, now_ns: u64, index: usize) {
        let Some(port) = self.ports.get_mut(index) else { return };
        if port.sending.is_some() {
            return;
        }
        let next = (0..LEVELS)
            .rev()
            .find_map(|level| port.queues[level].pop_front().map(|frame| (level, frame)));
        let Some((level, frame)) = next else {
            port.remainder = 0;
            return;
        };
        let bytes = frame.len() as u64;
        port.counters.levels[level].queue_bytes -= bytes;
        port.counters.levels[level].queue_packets -= 1;
        self.held_bytes -= bytes;
        let rate = self.config.rate_bytes_per_s.max(1);
        let work = bytes * 1_000_000_000 + port.remainder;
        port.remainder = work % rate;
        port.sending = Some((level, frame));
        self.schedule(now_ns + work / rate, Event::Sent { port: index });
    }

    fn sent(&mut self, now_ns: u64, index: usize) {
        let Some(port) = self.ports.get_mut(index) else { return };
        if let Some((level, frame)) = port.sending.take() {
            let counters = &mut port.counters.levels[level];
            counters.sent_packets += 1;
            counters.sent_bytes += frame.len() as u64;
            let copies = port.down.pass(now_ns);
            match copies {
                [None, None] => port.counters.lost_down_packets += 1,
                [_, Some(_)] => port.counters.duplicated_packets += 1,
                _ => {}
            }
            self.copy(frame, copies, |frame| Event::Reach { host: index, frame });
        }
        self.start_sending(now_ns, index);
    }

    /// Samples are taken only while something waits, so an idle switch has nothing to do.
    fn start_sampling(&mut self, now_ns: u64) {
        if !self.sampling
            && let Some(at_ns) = self.trace.next_ns(now_ns)
        {
            self.sampling = true;
            self.schedule(at_ns, Event::Sample);
        }
    }

    fn sample(&mut self, at_ns: u64) {
        self.sampling = false;
        for port in &self.ports {
            let queue_bytes = port.counters.levels.map(|level| level.queue_bytes);
            if queue_bytes != [0; LEVELS] {
                self.trace.push(QueueSample { at_ns, host: port.counters.host, queue_bytes });
            }
        }
        if self.held_bytes > 0 {
            self.start_sampling(at_ns);
        }
    }
}

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Due {}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Due {
    /// The heap gives the greatest first: the earliest, and of the same time the first that was scheduled.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at_ns, other.number).cmp(&(self.at_ns, self.number))
    }
}
