//! Output order and pacing: the message with the fewest unsent bytes first, a share for the oldest,
//! and a clock that keeps the device's queue short (docs/spec/protocol.md §7).

use alloc::vec::Vec;
use core::time::Duration;

use crate::config::Config;
use crate::engine::rpc::Rpc;
use crate::engine::rpc::index::RpcIndex;
use crate::engine::sender::reserve::Reserve;
use crate::structures::OutOfMemory;
use crate::structures::heap::IndexedHeap;
use crate::structures::index::Index;
use crate::structures::ring::Ring;
use crate::time::{Instant, nanos};

/// A message with data to send.
#[derive(Clone, Copy, Debug)]
struct Entry {
    index: RpcIndex,
    /// Bytes not yet sent or to be sent again.
    remaining: u32,
    birth: u64,
    /// It never waits for the clock.
    short: bool,
}

impl Entry {
    /// Bytes, then the order of creation.
    fn rank(&self) -> (u32, u64) {
        (self.remaining, self.birth)
    }
}

/// Messages with data to send, by rank and by age.
#[derive(Debug)]
pub(crate) struct Pacer {
    /// A line: messages of which each is younger than the one before and goes after it, and which
    /// all wait for the clock or none. They need no heaps, which are empty then.
    line: Ring<Entry>,
    /// By index: whether it is in the line.
    in_line: Vec<bool>,
    /// By rank: those that never wait for the clock.
    short: IndexedHeap<RpcIndex, (u32, u64)>,
    /// By rank: all others.
    long: IndexedHeap<RpcIndex, (u32, u64)>,
    /// All of them.
    by_birth: IndexedHeap<RpcIndex, u64>,
    /// Bytes earned for the oldest message, in 1/1000; negative after a train that was longer than
    /// what had been earned.
    fifo_credit: i64,
    /// Messages go in order of age alone: all bytes are the oldest message's.
    by_age: bool,
    /// When all bytes handed to the device will be out.
    idle_at: Instant,
    /// That time as data waits for it: without control packets that left since data did last.
    data_at: Instant,
    /// ns before that at which data is handed over: as long as its sender comes late.
    reserve: Reserve,
    /// Messages wait for the clock since it was asked last.
    held: bool,
    /// When the link has sent the short messages that the clock let pass, had it sent nothing else.
    passed_until: Instant,
    link_mbps: Option<u32>,
}

impl Pacer {
    pub(crate) fn new(config: &Config) -> Self {
        let backlog_ns = 0..=nanos(config.output.max_nic_backlog);
        Self {
            line: Ring::new(),
            in_line: Vec::new(),
            short: IndexedHeap::new(),
            long: IndexedHeap::new(),
            by_birth: IndexedHeap::new(),
            fifo_credit: 0,
            by_age: config.output.fifo_permille >= 1000,
            idle_at: Instant::ZERO,
            data_at: Instant::ZERO,
            reserve: Reserve::new(0, backlog_ns, RESERVE_STEP_NS),
            held: false,
            passed_until: Instant::ZERO,
            link_mbps: config.output.link_mbps,
        }
    }

    pub(crate) fn try_reserve(&mut self, rpcs: usize) -> Result<(), OutOfMemory> {
        let more = rpcs.saturating_sub(self.in_line.len());
        self.in_line.try_reserve(more).map_err(|_| OutOfMemory)?;
        self.line.try_reserve(rpcs)?;
        self.in_line.resize(rpcs.max(self.in_line.len()), false);
        self.short.try_reserve(rpcs)?;
        self.long.try_reserve(rpcs)?;
        self.by_birth.try_reserve(rpcs)
    }

    /// Whether the link's speed is known.
    #[inline]
    pub(crate) fn has_clock(&self) -> bool {
        self.link_mbps.is_some()
    }

    /// The driver knows the link's speed. The configuration has the last word.
    pub(crate) fn set_link(&mut self, mbps: Option<u32>, config: &Config) {
        self.link_mbps = config.output.link_mbps.or(mbps).filter(|mbps| *mbps > 0);
    }

    /// Enters the outgoing message of an RPC, changes its rank or takes it out, as its state
    /// demands.
    pub(crate) fn follow(&mut self, rpc: &Rpc, config: &Config) {
        let new = rpc.tx.has_sendable() && !rpc.tx.blocked;
        if rpc.is_sending() && (new || rpc.tx.has_retransmissions()) {
            let short = rpc.tx.length() < config.output.defer_min_bytes;
            self.set(rpc.index(), rpc.tx.remaining(), rpc.tx.birth(), short);
        } else {
            self.remove(rpc.index());
        }
    }

    /// Enters a message or changes its rank. `short` messages never wait for the clock; a message
    /// is so always or never.
    #[inline]
    pub(crate) fn set(&mut self, index: RpcIndex, remaining: u32, birth: u64, short: bool) {
        let remaining = if self.by_age { 0 } else { remaining };
        let entry = Entry { index, remaining, birth, short };
        let is_alone = self.line.len() == 1;
        let joins = match self.line.back_mut() {
            Some(last) if last.index == index && is_alone => {
                last.remaining = remaining;
                return;
            }
            // One that is in the line is no younger than the last.
            Some(last) => last.remaining <= remaining && last.birth < birth && last.short == short,
            None => self.by_birth.is_empty(),
        };
        if joins {
            self.set_in_line(index, true);
            // Room was reserved for all.
            self.line.push_back(entry);
        } else {
            self.set_out_of_line(&entry);
        }
    }

    /// The same of a message that does not join the line: the first keeps its place in it as long
    /// as it goes before the second, for others the line breaks.
    #[inline(never)]
    fn set_out_of_line(&mut self, entry: &Entry) {
        let second = self.line.second();
        let stays = second.is_none_or(|second| entry.rank() < second.rank());
        let first = self.line.front_mut().filter(|first| first.index == entry.index);
        if let Some(first) = first.filter(|_| stays) {
            *first = *entry;
            return;
        }
        self.break_line();
        self.enter(entry);
    }

    fn set_in_line(&mut self, index: RpcIndex, is: bool) {
        if let Some(listed) = self.in_line.get_mut(index.position()) {
            *listed = is;
        }
    }

    /// Moves the messages of the line to the heaps.
    #[inline(never)]
    fn break_line(&mut self) {
        while let Some(first) = self.line.pop_front() {
            self.set_in_line(first.index, false);
            self.enter(&first);
        }
    }

    fn enter(&mut self, entry: &Entry) {
        let order = if entry.short { &mut self.short } else { &mut self.long };
        order.set(entry.index, entry.rank());
        if !self.by_birth.contains(entry.index) {
            self.by_birth.set(entry.index, entry.birth);
        }
    }

    #[inline]
    pub(crate) fn remove(&mut self, index: RpcIndex) {
        match self.line.front() {
            Some(first) if first.index == index => {
                self.set_in_line(index, false);
                self.line.pop_front();
            }
            None if self.by_birth.is_empty() => {}
            _ => self.remove_listed(index),
        }
    }

    #[inline(never)]
    fn remove_listed(&mut self, index: RpcIndex) {
        if self.in_line.get(index.position()) == Some(&true) {
            self.break_line();
        }
        self.leave(index);
    }

    fn leave(&mut self, index: RpcIndex) {
        if self.by_birth.remove(index).is_some() {
            self.short.remove(index);
            self.long.remove(index);
        }
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.line.is_empty() && self.by_birth.is_empty()
    }

    #[cfg(any(test, feature = "check"))]
    pub(crate) fn contains(&self, index: RpcIndex) -> bool {
        self.in_line.get(index.position()) == Some(&true) || self.by_birth.contains(index)
    }

    /// Whether there is a message that does not wait for the clock.
    pub(crate) fn has_short(&self) -> bool {
        self.line.front().is_some_and(|entry| entry.short) || !self.short.is_empty()
    }

    fn oldest(&self) -> Option<RpcIndex> {
        let in_heap = || self.by_birth.peek().map(|(index, _)| index);
        self.line.front().map(|entry| entry.index).or_else(in_heap)
    }

    /// The message to send from next; `only_short`: the clock holds the others back.
    pub(crate) fn choose(&self, only_short: bool, config: &Config) -> Option<RpcIndex> {
        let due = config.output.fifo_permille > 0 && self.fifo_credit >= FIFO_TURN_CREDIT;
        if due && !only_short { self.oldest() } else { self.best(only_short) }
    }

    /// The best-ranked message, to fill a train with.
    #[inline]
    pub(crate) fn best(&self, only_short: bool) -> Option<RpcIndex> {
        if let Some(entry) = self.line.front() {
            return (entry.short || !only_short).then_some(entry.index);
        }
        if self.by_birth.is_empty() {
            return None;
        }
        let best = match (self.short.peek(), self.long.peek()) {
            (Some(short), Some(long)) if !only_short && long.1 < short.1 => Some(long),
            (None, long) if !only_short => long,
            (short, _) => short,
        };
        best.map(|(index, _)| index)
    }

    /// Accounts for the choice of `index` and `bytes` sent of it.
    pub(crate) fn account(&mut self, index: RpcIndex, bytes: u32, config: &Config) {
        let weight = if self.oldest() == Some(index) {
            -1000
        } else {
            i64::from(config.output.fifo_permille)
        };
        self.fifo_credit = self
            .fifo_credit
            .saturating_add(i64::from(bytes).saturating_mul(weight))
            .clamp(FIFO_DEBT_MAX, FIFO_CREDIT_MAX);
    }

    /// Charges bytes on the wire to the clock. Control packets never wait, and data waits for them
    /// only behind another train, at most the backlog limit: however many there are, data goes on.
    pub(crate) fn charge(&mut self, now: Instant, bytes: u64, control: bool, config: &Config) {
        let Some(time_ns) = self.wire_time_ns(bytes, config) else {
            return;
        };
        let idle_at = self.idle_at.max(now) + Duration::from_nanos(time_ns);
        if control {
            let most = self.data_at.max(now) + config.output.max_nic_backlog;
            self.idle_at = self.idle_at.max(idle_at.min(most));
            let reserve = Duration::from_nanos(self.reserve.amount());
            self.data_at = self.idle_at.min(self.data_at.max(now + reserve));
        } else {
            (self.idle_at, self.data_at) = (idle_at, idle_at);
        }
    }

    /// Returns the charge of bytes that were not sent.
    pub(crate) fn refund(&mut self, bytes: u64, config: &Config) {
        if let Some(time_ns) = self.wire_time_ns(bytes, config) {
            let time = Duration::from_nanos(time_ns);
            (self.idle_at, self.data_at) = (self.idle_at - time, self.data_at - time);
        }
    }

    /// When the clock lets long messages go, or short ones, which pass it until those that did take
    /// a quantum.
    #[inline]
    pub(crate) fn ready_at(&self, short: bool, config: &Config) -> Instant {
        if !self.has_clock() {
            return Instant::ZERO;
        }
        let ready_at = self.data_at - Duration::from_nanos(self.reserve.amount());
        if short { ready_at.min(self.passed_until - config.output.quantum) } else { ready_at }
    }

    /// The clock is asked for messages, of which it lets only short ones pass, or none.
    pub(crate) fn hold(&mut self, now: Instant, short_pass: bool, config: &Config) {
        let has_long = self.line.front().is_some_and(|entry| !entry.short) || !self.long.is_empty();
        let waiting = has_long || !short_pass;
        self.held = waiting && now < self.ready_at(false, config);
    }

    /// Charges bytes on the wire of short messages that the clock let pass.
    pub(crate) fn charge_passed(&mut self, now: Instant, bytes: u64, config: &Config) {
        if let Some(time_ns) = self.wire_time_ns(bytes, config) {
            self.passed_until = self.passed_until.max(now) + Duration::from_nanos(time_ns);
        }
    }

    /// Data that waited for the clock goes out: learns whether it comes in time.
    pub(crate) fn release(&mut self, now: Instant) {
        if core::mem::take(&mut self.held) {
            let left = self.idle_at.as_nanos().checked_sub(now.as_nanos());
            self.reserve.learn(left);
        }
    }

    /// Bytes of the longest train: what the link sends in a quantum, and what is missing of the
    /// reserve; at least one packet goes. Without a clock the driver's room is the limit.
    pub(crate) fn train_bytes(&self, now: Instant, config: &Config) -> u32 {
        self.link_mbps.map_or(u32::MAX, |mbps| {
            let left_ns = self.idle_at.as_nanos().saturating_sub(now.as_nanos());
            let missing_ns = self.reserve.amount().saturating_sub(left_ns);
            let ns = nanos(config.output.quantum).saturating_add(missing_ns);
            let bytes = ns.saturating_mul(usable(mbps, config)) / 800_000;
            u32::try_from(bytes).unwrap_or(u32::MAX)
        })
    }

    fn wire_time_ns(&self, bytes: u64, config: &Config) -> Option<u64> {
        bytes.saturating_mul(800_000).checked_div(usable(self.link_mbps?, config))
    }
}

/// What the clock counts on, in 10^4 bit/s.
fn usable(mbps: u32, config: &Config) -> u64 {
    u64::from(mbps).saturating_mul(u64::from(config.output.max_link_usage_percent))
}

/// Least step by which the reserve grows.
const RESERVE_STEP_NS: u64 = 100;
/// Credit at which the oldest message gets a turn: one full packet of 1,500 bytes.
const FIFO_TURN_CREDIT: i64 = 1_500_000;
/// Credit beyond this is not kept: what the oldest message did not use in time is lost.
const FIFO_CREDIT_MAX: i64 = 4 * FIFO_TURN_CREDIT;
/// Debt of one longest train; what the oldest message sends by its rank besides is not held
/// against it.
const FIFO_DEBT_MAX: i64 = -65_536_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn pacer(config: &Config) -> Pacer {
        let mut pacer = Pacer::new(config);
        pacer.try_reserve(8).unwrap();
        pacer
    }

    /// Removes all, the best first.
    fn drain(pacer: &mut Pacer) -> Vec<usize> {
        core::iter::from_fn(|| {
            let best = pacer.best(false)?;
            pacer.remove(best);
            Some(best.position())
        })
        .collect()
    }

    #[test]
    fn messages_in_line_need_no_heap_until_one_does_not_fit() {
        let config = Config::default();
        let mut pacer = pacer(&config);
        for (index, birth) in [(0, 1), (1, 2), (2, 3)] {
            pacer.set(index.into(), 500, birth, false);
        }
        assert!(pacer.by_birth.is_empty() && !pacer.has_short() && !pacer.is_empty());
        assert_eq!(
            (pacer.choose(false, &config), pacer.choose(true, &config)),
            (Some(0.into()), None)
        );
        pacer.set(0.into(), 300, 1, false);
        assert!(pacer.by_birth.is_empty(), "the first is ahead of them all the more");
        pacer.set(3.into(), 400, 4, true);
        assert!(pacer.line.is_empty());
        assert_eq!((pacer.best(false), pacer.best(true)), (Some(0.into()), Some(3.into())));
        pacer.set(0.into(), 450, 1, false);
        assert_eq!((pacer.best(false), pacer.oldest()), (Some(3.into()), Some(0.into())));
        assert_eq!(drain(&mut pacer), [3, 0, 1, 2]);
        assert!(pacer.is_empty());
        pacer.set(2.into(), 100, 3, true);
        assert!(pacer.by_birth.is_empty() && pacer.has_short());
        pacer.remove(1.into());
        assert_eq!((pacer.best(true), pacer.oldest()), (Some(2.into()), Some(2.into())));
        pacer.remove(2.into());
        assert!(pacer.is_empty() && !pacer.has_short());
    }

    #[test]
    fn a_line_is_in_the_order_of_rank_and_of_age() {
        let config = Config::default();
        // Index, remaining bytes, birth, and whether it never waits for the clock.
        for last in [(3, 499, 9, false), (3, 600, 2, false), (3, 600, 9, true)] {
            let mut pacer = pacer(&config);
            for entry in [(0, 500, 1, false), (1, 500, 3, false), last] {
                pacer.set(entry.0.into(), entry.1, entry.2, entry.3);
            }
            assert!(pacer.line.is_empty(), "{last:?}");
            let first = if last.1 < 500 { [3, 0, 1] } else { [0, 1, 3] };
            assert_eq!(drain(&mut pacer), first);
        }
    }

    #[test]
    fn who_leaves_the_middle_of_a_line_or_waits_longer_leaves_the_others_in_order() {
        let config = Config::default();
        for waits in [false, true] {
            let mut pacer = pacer(&config);
            for index in 0..4 {
                pacer.set(index.into(), 500, index as u64, false);
            }
            match waits {
                true => pacer.set(0.into(), 501, 0, false),
                false => pacer.remove(2.into()),
            }
            let left: &[usize] = if waits { &[1, 2, 3, 0] } else { &[0, 1, 3] };
            assert_eq!((pacer.oldest(), &*drain(&mut pacer)), (Some(0.into()), left));
        }
    }

    /// What is handed over, in ns of the link, by a sender that always comes so much late.
    fn handed_over_ns(late_ns: u64) -> Vec<u64> {
        let config = Config::default().with(|config| {
            config.output.link_mbps = Some(10_000);
            config.output.max_link_usage_percent = 100;
        });
        let mut pacer = pacer(&config);
        pacer.set(0.into(), u32::MAX, 1, false);
        let mut now = Instant::from_nanos(1_000_000);
        let mut trains = Vec::new();
        for _ in 0..2_000 {
            pacer.release(now);
            let bytes = u64::from(pacer.train_bytes(now, &config));
            pacer.charge(now, bytes, false, &config);
            pacer.hold(now, false, &config);
            trains.push(bytes * 8 / 10);
            now = now.max(pacer.ready_at(false, &config)) + Duration::from_nanos(late_ns);
        }
        trains
    }

    #[test]
    fn a_sender_that_comes_in_time_hands_over_a_quantum_behind_an_empty_queue() {
        let trains = handed_over_ns(0);
        assert!(trains.iter().all(|ns| (1_240..1_500).contains(ns)), "{trains:?}");
    }

    #[test]
    fn a_sender_that_comes_late_hands_over_the_more_and_the_link_does_not_idle() {
        for late_ns in [2_000, 5_000, 8_000] {
            let trains = &handed_over_ns(late_ns)[1_000..];
            let sent_ns: u64 = trains.iter().sum();
            // A train is what the link has sent since the last one.
            assert!(trains.iter().all(|ns| *ns < 2 * late_ns + 2_500), "{late_ns}: {trains:?}");
            assert!(sent_ns > 1_000 * late_ns, "{late_ns}: {sent_ns}");
        }
    }

    #[test]
    fn short_messages_pass_the_clock_until_they_take_a_quantum() {
        let config = Config::default().with(|config| {
            config.output.link_mbps = Some(10_000);
            config.output.max_link_usage_percent = 100;
        });
        let mut pacer = pacer(&config);
        let now = Instant::from_nanos(1_000);
        pacer.charge(now, 12_500, false, &config);
        assert!(pacer.ready_at(false, &config) > now && pacer.ready_at(true, &config) <= now);
        pacer.charge_passed(now, 1_000, &config);
        assert!(pacer.ready_at(true, &config) <= now);
        pacer.charge_passed(now, 1_000, &config);
        assert_eq!(pacer.ready_at(true, &config), Instant::from_nanos(1_000 + 1_600 - 1_250));
    }

    // Scenario: P1, P2
    #[test]
    fn the_idle_estimate_grows_by_the_wire_time() {
        let config = Config::default().with(|config| {
            config.output.link_mbps = Some(10_000);
            config.output.max_link_usage_percent = 100;
        });
        let mut pacer = pacer(&config);
        pacer.charge(Instant::from_nanos(1000), 1250, false, &config);
        assert_eq!(pacer.idle_at, Instant::from_nanos(2000));
        pacer.charge(Instant::from_nanos(1000), 1250, false, &config);
        assert_eq!(pacer.idle_at, Instant::from_nanos(3000));
        assert_eq!(pacer.ready_at(false, &config), Instant::from_nanos(3000), "no reserve yet");
    }

    #[test]
    fn control_packets_however_many_let_data_go_on() {
        let config = Config::default().with(|config| {
            config.output.link_mbps = Some(10_000);
            config.output.max_link_usage_percent = 100;
        });
        let mut pacer = pacer(&config);
        let now = Instant::from_nanos(1000);
        for _ in 0..1000 {
            pacer.charge(now, 1250, true, &config);
        }
        assert!(pacer.ready_at(false, &config) <= now);
        for _ in 0..10 {
            pacer.charge(now, 1250, false, &config);
        }
        let ready = pacer.ready_at(false, &config);
        assert!(ready > now, "data waits for what is ahead of it");
        pacer.charge(now, 1250, true, &config);
        assert_eq!(pacer.ready_at(false, &config), ready);
    }

    #[test]
    fn fewest_remaining_bytes_first_then_the_older() {
        let config = Config::default();
        let mut pacer = pacer(&config);
        pacer.set(0.into(), 500, 1, false);
        pacer.set(1.into(), 100, 2, false);
        pacer.set(2.into(), 100, 1, false);
        assert_eq!(pacer.choose(false, &config), Some(2.into()));
        pacer.remove(2.into());
        assert_eq!(pacer.choose(false, &config), Some(1.into()));
    }

    #[test]
    fn about_five_percent_of_the_bytes_come_from_the_oldest_message() {
        let config = Config::default();
        let mut pacer = pacer(&config);
        pacer.set(0.into(), 1_000_000, 1, false);
        pacer.set(1.into(), 500, 2, false);
        let mut oldest = 0;
        for _ in 0..10_000 {
            let index = pacer.choose(false, &config).unwrap();
            oldest += u32::from(index == 0.into());
            pacer.account(index, 1500, &config);
        }
        assert!((400..=600).contains(&oldest), "{oldest}");
    }

    #[test]
    fn the_share_holds_when_the_oldest_message_sends_a_long_train_at_its_turn() {
        let config = Config::default();
        let mut pacer = pacer(&config);
        pacer.set(0.into(), 1_000_000, 1, false);
        pacer.set(1.into(), 500, 2, false);
        let (mut oldest, mut all) = (0, 0);
        while all < 100_000_000 {
            let index = pacer.choose(false, &config).unwrap();
            for _ in 0..45 {
                pacer.account(index, 1400, &config);
            }
            oldest += 63_000 * u32::from(index == 0.into());
            all += 63_000;
        }
        assert!((40..=60).contains(&(oldest / (all / 1000))), "{oldest} of {all}");
    }

    #[test]
    fn while_the_clock_holds_long_messages_back_short_ones_go_in_their_own_order() {
        let config = Config::default();
        let mut pacer = pacer(&config);
        pacer.set(0.into(), 10, 1, false);
        pacer.set(1.into(), 900, 2, true);
        pacer.set(2.into(), 800, 3, true);
        assert_eq!(pacer.choose(false, &config), Some(0.into()));
        assert_eq!(pacer.choose(true, &config), Some(2.into()));
        pacer.remove(2.into());
        assert_eq!(pacer.best(true), Some(1.into()));
        pacer.remove(1.into());
        assert!(!pacer.has_short() && !pacer.is_empty());
    }

    #[test]
    fn a_share_of_everything_is_the_order_of_age_for_long_and_short_messages() {
        let config = Config::default().with(|config| config.output.fifo_permille = 1000);
        config.validate().unwrap();
        let mut pacer = pacer(&config);
        pacer.set(0.into(), 1_000_000, 1, false);
        pacer.set(1.into(), 900, 3, true);
        pacer.set(2.into(), 1_000, 2, true);
        for _ in 0..1000 {
            assert_eq!(pacer.choose(false, &config), Some(0.into()));
            assert_eq!(pacer.choose(true, &config), Some(2.into()));
            pacer.account(0.into(), 1500, &config);
        }
        pacer.remove(0.into());
        assert_eq!(pacer.best(false), Some(2.into()));
    }

    #[test]
    fn a_share_of_zero_is_strictly_srpt() {
        let config = Config::default().with(|config| config.output.fifo_permille = 0);
        let mut pacer = pacer(&config);
        pacer.set(0.into(), 1_000_000, 1, false);
        pacer.set(1.into(), 500, 2, false);
        for _ in 0..1000 {
            assert_eq!(pacer.choose(false, &config), Some(1.into()));
            pacer.account(1.into(), 1500, &config);
        }
    }
}
