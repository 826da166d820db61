//! What the switch decides, in virtual time: no clock, no I/O.
//!
//! Frames [`arrive`](SwitchCore::arrive); [`advance`](SwitchCore::advance) does everything that is
//! due by a moment, in the order of its time, and hands out what reaches the hosts;
//! [`next_event_ns`](SwitchCore::next_event_ns) says when to call again. A late call changes no
//! departure: a port that has frames waiting begins the next one when the one before ended, so
//! rates are exact over any busy period.

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
    /// Dynamic threshold of a shared buffer: a queue may be this many times as long as what is
    /// free.
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
    /// Everything up to this moment is done.
    now_ns: u64,
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
            now_ns: 0,
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
        self.now_ns = self.now_ns.max(now_ns);
    }

    /// When [`SwitchCore::advance`] has something to do next. Changes with every other call.
    pub fn next_event_ns(&self) -> Option<u64> {
        self.due.peek().map(|due| due.at_ns)
    }

    /// Until when [`SwitchCore::advance`] has done everything: the moment of which the counters
    /// tell.
    pub fn now_ns(&self) -> u64 {
        self.now_ns
    }

    /// What every port has carried.
    pub fn counters(&self) -> Vec<PortCounters> {
        self.ports.iter().map(|port| port.counters.clone()).collect()
    }

    /// Queue lengths over time.
    pub fn trace(&self) -> QueueTrace {
        self.trace.read()
    }

    /// The same, which is forgotten then.
    pub fn take_trace(&mut self) -> QueueTrace {
        self.trace.take()
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
        if !self.sampling {
            if let Some(at_ns) = self.trace.next_ns(now_ns) {
                self.sampling = true;
                self.schedule(at_ns, Event::Sample);
            }
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
    /// The heap gives the greatest first: the earliest, and of the same time the first that was
    /// scheduled.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at_ns, other.number).cmp(&(self.at_ns, self.number))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{super::frame::tests::ipv4_frame, *};

    /// 100 Mbit/s: one byte takes 80 ns.
    const RATE: u64 = 12_500_000;
    const BYTE_NS: u64 = 80;

    fn config() -> SwitchConfig {
        SwitchConfig {
            ports: 3,
            rate_bytes_per_s: RATE,
            frame_bytes: 1514,
            buffer: BufferPolicy::Level,
            buffer_bytes: 1_000_000,
            shared_alpha: 1.0,
            ecn_bytes: None,
            priorities: 8,
            up: LinkConditions::default(),
            down: LinkConditions::default(),
            seed: 1,
            trace_interval_ns: 0,
            trace_samples: 1000,
        }
    }

    /// A frame to host 2 at a level.
    fn frame(level: usize, length: usize) -> Frame {
        ipv4_frame(2, (level << 5) as u8, length)
    }

    /// Lets the switch run dry; what reached the hosts, with the time.
    fn run_dry(switch: &mut SwitchCore) -> Vec<(u64, usize, Frame)> {
        let mut reached = Vec::new();
        while let Some(at_ns) = switch.next_event_ns() {
            switch.advance(at_ns, |host, frame| reached.push((at_ns, host, frame)));
        }
        reached
    }

    #[test]
    fn a_frame_takes_its_length_at_the_rate_of_the_port() {
        let mut switch = SwitchCore::new(config());
        switch.arrive(1_000, 0, frame(0, 1500));
        let reached = run_dry(&mut switch);
        assert_eq!(reached.len(), 1);
        assert_eq!(reached[0].0, 1_000 + 1500 * BYTE_NS);
        assert_eq!(reached[0].1, 2);
    }

    #[test]
    fn rates_that_do_not_divide_a_second_are_exact_all_the_same() {
        let mut switch = SwitchCore::new(SwitchConfig { rate_bytes_per_s: 7_777_777, ..config() });
        for _ in 0..500 {
            switch.arrive(0, 0, frame(0, 1001));
        }
        let last_ns = run_dry(&mut switch).last().unwrap().0;
        assert_eq!(last_ns, 500 * 1001 * 1_000_000_000 / 7_777_777);
    }

    #[test]
    fn a_frame_of_the_highest_level_waits_for_one_frame_at_most() {
        let mut switch = SwitchCore::new(config());
        for _ in 0..10 {
            switch.arrive(0, 0, frame(0, 1500));
        }
        switch.advance(1, |_, _| {});
        switch.arrive(2, 1, frame(7, 100));
        let reached = run_dry(&mut switch);
        assert_eq!(reached[1].2.len(), 100);
        assert_eq!(reached[1].0, 1600 * BYTE_NS);
    }

    #[test]
    fn a_late_call_changes_no_departure() {
        let arrive = |switch: &mut SwitchCore| {
            for n in 0..20 {
                switch.arrive(n * 1_000, 0, frame(n as usize % 8, 700));
            }
        };
        let mut prompt = SwitchCore::new(config());
        arrive(&mut prompt);
        let prompt: Vec<_> = run_dry(&mut prompt).into_iter().map(|(_, _, frame)| frame).collect();
        let mut late = SwitchCore::new(config());
        arrive(&mut late);
        let mut reached = Vec::new();
        late.advance(1_000_000_000, |_, frame| reached.push(frame));
        assert_eq!(reached, prompt);
        assert_eq!(late.next_event_ns(), None);
    }

    #[test]
    fn a_level_that_is_full_leaves_the_others_room_but_a_full_port_does_not() {
        for (buffer, top_passes) in [(BufferPolicy::Level, true), (BufferPolicy::Port, false)] {
            let config = SwitchConfig { buffer, buffer_bytes: 3_000, ..config() };
            let mut switch = SwitchCore::new(config);
            for _ in 0..10 {
                switch.arrive(0, 0, frame(0, 1000));
            }
            switch.arrive(1, 1, frame(7, 1000));
            let reached = run_dry(&mut switch);
            let top = reached.iter().filter(|(_, _, frame)| frame.level() == 7).count();
            assert_eq!(top == 1, top_passes, "{buffer:?}");
            let levels = switch.counters()[2].levels;
            // One is being sent, three wait.
            assert_eq!(levels[0].sent_packets, 4);
            assert_eq!(levels[0].dropped_packets, 6);
            assert_eq!(levels[7].dropped_packets, u64::from(!top_passes));
        }
    }

    #[test]
    fn a_shared_buffer_leaves_room_for_a_second_port() {
        let config = SwitchConfig { buffer: BufferPolicy::Shared, buffer_bytes: 8_000, ..config() };
        let mut switch = SwitchCore::new(config);
        for _ in 0..20 {
            switch.arrive(0, 0, frame(0, 1000));
        }
        switch.arrive(1, 0, ipv4_frame(1, 0, 1000));
        switch.arrive(1, 0, ipv4_frame(1, 0, 1000));
        run_dry(&mut switch);
        let counters = switch.counters();
        // With a factor of 1 a single queue gets half of the buffer.
        assert_eq!(counters[2].levels[0].sent_packets, 1 + 4);
        assert_eq!(counters[1].levels[0].dropped_packets, 0);
    }

    #[test]
    fn packets_behind_a_long_queue_are_marked_if_they_are_ecn_capable() {
        let mut switch = SwitchCore::new(SwitchConfig { ecn_bytes: Some(2_000), ..config() });
        for n in 0..8 {
            switch.arrive(0, 0, ipv4_frame(2, if n % 2 == 0 { 2 } else { 0 }, 1000));
        }
        let marks: Vec<_> = run_dry(&mut switch).iter().map(|(_, _, f)| f.bytes()[15]).collect();
        assert_eq!(marks, [2, 0, 2, 0, 3, 0, 3, 0]);
        assert_eq!(switch.counters()[2].levels[0].marked_packets, 2);
    }

    #[test]
    fn fewer_priorities_join_neighbouring_levels() {
        for (priorities, expected) in [(1, [0; 8]), (2, [0, 0, 0, 0, 4, 4, 4, 4])] {
            let mut switch = SwitchCore::new(SwitchConfig { priorities, ..config() });
            (0..8).for_each(|level| switch.arrive(0, 0, frame(level, 100)));
            run_dry(&mut switch);
            let sent = switch.counters()[2].levels.map(|level| level.sent_packets);
            let mut wanted = [0; 8];
            expected.iter().for_each(|level: &usize| wanted[*level] += 1);
            assert_eq!(sent, wanted);
        }
    }

    #[test]
    fn broadcasts_reach_all_but_the_sender_and_unknown_addresses_nobody() {
        let mut switch = SwitchCore::new(config());
        let mut everyone = frame(0, 60);
        everyone.space()[..6].fill(0xff);
        switch.arrive(0, 1, everyone);
        switch.arrive(0, 1, ipv4_frame(77, 0, 60));
        switch.arrive(0, 99, frame(0, 60));
        let hosts: Vec<_> = run_dry(&mut switch).iter().map(|(_, host, _)| *host).collect();
        assert_eq!(hosts, [0, 2]);
        assert_eq!(switch.unknown_packets(), 1);
    }

    #[test]
    fn the_trace_shows_the_queues_at_every_interval_while_something_waits() {
        let mut switch = SwitchCore::new(SwitchConfig { trace_interval_ns: 90_000, ..config() });
        for _ in 0..4 {
            switch.arrive(0, 0, frame(3, 1250));
        }
        run_dry(&mut switch);
        let waiting: Vec<_> =
            switch.trace().samples.iter().map(|s| (s.at_ns, s.queue_bytes[3])).collect();
        assert_eq!(waiting, [(90_000, 3 * 1250), (180_000, 2 * 1250), (270_000, 1250)]);
        assert_eq!(switch.next_event_ns(), None);
    }

    #[test]
    fn delays_count_on_top_of_the_transmission() {
        let up = LinkConditions { delay_ns: 5_000, ..Default::default() };
        let down = LinkConditions { delay_ns: 700, duplicate: 1.0, ..Default::default() };
        let mut switch = SwitchCore::new(SwitchConfig { up, down, ..config() });
        switch.arrive(0, 0, frame(0, 100));
        let reached = run_dry(&mut switch);
        assert_eq!(reached.iter().map(|r| r.0).collect::<Vec<_>>(), [13_700, 13_700]);
        assert_eq!(switch.counters()[2].duplicated_packets, 1);
    }

    /// Gaps between arrivals, levels and lengths.
    fn arrivals() -> impl Strategy<Value = Vec<(u64, usize, usize)>> {
        prop::collection::vec((0..200_000u64, 0..LEVELS, 60..1514usize), 1..200)
    }

    proptest! {
        #[test]
        fn a_port_never_idles_while_something_waits_and_never_sends_the_lower_level_first(
            arrivals in arrivals(),
        ) {
            let mut switch = SwitchCore::new(config());
            let mut now_ns = 0;
            let mut waiting: Vec<(u64, usize, usize)> = Vec::new();
            for (gap_ns, level, length) in arrivals {
                now_ns += gap_ns;
                switch.arrive(now_ns, 0, frame(level, length));
                waiting.push((now_ns, level, length));
            }
            let mut free_ns = 0;
            for (end_ns, _, frame) in run_dry(&mut switch) {
                let first_ns = waiting.iter().map(|(at, _, _)| *at).min().unwrap();
                let begin_ns = free_ns.max(first_ns);
                prop_assert_eq!(end_ns, begin_ns + frame.len() as u64 * BYTE_NS);
                let best = waiting.iter().filter(|(at, _, _)| *at < begin_ns).map(|w| w.1).max();
                prop_assert!(best.is_none_or(|best| frame.level() >= best));
                let place = waiting
                    .iter()
                    .position(|(at, level, length)| {
                        *at <= begin_ns && (*level, *length) == (frame.level(), frame.len())
                    })
                    .unwrap();
                waiting.remove(place);
                free_ns = end_ns;
            }
            prop_assert!(waiting.is_empty());
        }

        #[test]
        fn no_queue_outgrows_its_limit_and_every_frame_is_sent_dropped_or_waits(
            arrivals in arrivals(),
            limit in 1_600..20_000u64,
            policy in 0..3usize,
        ) {
            let buffer = [BufferPolicy::Level, BufferPolicy::Port, BufferPolicy::Shared][policy];
            let config = SwitchConfig { buffer, buffer_bytes: limit, ..config() };
            let mut switch = SwitchCore::new(config);
            let (mut now_ns, mut sent) = (0, 0);
            for (count, (gap_ns, level, length)) in arrivals.into_iter().enumerate() {
                now_ns += gap_ns / 8;
                switch.arrive(now_ns, 0, frame(level, length));
                switch.advance(now_ns, |_, _| sent += 1);
                let levels = switch.counters()[2].levels;
                let held: u64 = levels.iter().map(|level| level.queue_bytes).sum();
                prop_assert!(levels.iter().all(|level| level.queue_bytes <= limit));
                prop_assert!(buffer == BufferPolicy::Level || held <= limit);
                prop_assert_eq!(held, switch.held_bytes);
                let dropped: u64 = levels.iter().map(|level| level.dropped_packets).sum();
                let queued: u64 = levels.iter().map(|level| level.queue_packets).sum();
                let sending = u64::from(switch.ports[2].sending.is_some());
                prop_assert_eq!(sent + dropped + queued + sending, count as u64 + 1);
            }
        }
    }
}
