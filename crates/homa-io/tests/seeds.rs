//! Thousands of small worlds with random troubles. Every call must end, with the right bytes or an error;
//! handlers run at most once; nothing stays behind; and together the worlds must have reached the rare paths.
//!
//! `HOMA_SEEDS=N` sets how many worlds (default 10,000 in release builds, 300 otherwise), `HOMA_FIRST_SEED=N`
//! where they begin, `HOMA_FAILURES_MAX=N` how many may fail before the rest is not tried (default 8). A failure
//! prints `HOMA_SEED=…`: with that variable only this world runs, and `HOMA_SHOW_PACKETS=1` shows its packets.
#![cfg(feature = "virtual")]

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use homa_core::{Carriage, FailReason, Stats};
use homa_io::virtual_net::{
    CallEnd, CallPlan, Dice, HostPlan, LinkPlan, MtuChange, Partition, PortPlan, RefusalRates,
    Response, World,
};

const US: u64 = 1_000;
const MS: u64 = 1_000_000;
const SECOND: u64 = 1_000_000_000;
/// No call may take longer than this.
const LIMIT_NS: u64 = 200 * SECOND;
/// A world that takes more steps than this never comes to rest.
const STEPS_MAX: u64 = 20_000_000;

/// One of an engine's counters.
type Counter = fn(&Stats) -> u64;

/// What a set of worlds has reached.
#[derive(Debug, Default)]
struct Coverage {
    counts: Vec<(&'static str, u64)>,
}

impl Coverage {
    fn add(&mut self, what: &'static str, count: u64) {
        match self.counts.iter_mut().find(|(name, _)| *name == what) {
            Some((_, sum)) => *sum += count,
            None => self.counts.push((what, count)),
        }
    }

    fn merge(&mut self, other: &Self) {
        other.counts.iter().for_each(|(what, count)| self.add(what, *count));
    }
}

/// A world and what may happen in it.
struct Trial {
    world: World,
    /// Nothing that happens excuses a failed call.
    gentle: bool,
    /// Copies come so late that a handler may run again.
    forgets: bool,
    /// Hosts have little memory for incoming messages.
    scarce: bool,
    /// Packets travel over raw IP, the first to each peer at least in the format of Linux.
    linux: bool,
    /// Hosts speak pure Linux format after a restart, and one restarts.
    returns_as_linux: bool,
    younger_copies: bool,
    coverage: Coverage,
}

fn between(dice: &mut Dice, low: u64, high: u64) -> u64 {
    low + dice.below(high - low + 1)
}

/// Between `low` and `high`, each order of magnitude as likely as any other.
fn log_between(dice: &mut Dice, low: u64, high: u64) -> u64 {
    let (low_bits, high_bits) = (low.max(1).ilog2(), high.ilog2());
    let bits = between(dice, u64::from(low_bits), u64::from(high_bits));
    between(dice, 1 << bits, (2 << bits) - 1).clamp(low, high)
}

fn percent(dice: &mut Dice, chance: u64) -> bool {
    dice.below(100) < chance
}

fn pick<T: Copy>(dice: &mut Dice, from: &[T]) -> T {
    from[dice.below(from.len() as u64) as usize]
}

impl Trial {
    fn new(seed: u64) -> Self {
        let mut dice = Dice::new(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0x0068_6F6D_6121);
        let mut trial = Self {
            world: World::new(seed),
            gentle: true,
            forgets: false,
            scarce: false,
            linux: false,
            returns_as_linux: false,
            younger_copies: false,
            coverage: Coverage::default(),
        };
        trial.world.steps_max = STEPS_MAX;
        let hosts = pick(&mut dice, &[2, 2, 2, 3, 3, 4, 6]);
        trial.add_hosts(&mut dice, hosts);
        trial.plan_links(&mut dice, hosts);
        let span_ns = trial.plan_calls(&mut dice, hosts);
        trial.plan_troubles(&mut dice, hosts, span_ns);
        trial
    }

    fn add_hosts(&mut self, dice: &mut Dice, hosts: usize) {
        let carriage = if percent(dice, 20) { Carriage::Ip } else { Carriage::Udp };
        let scarce = percent(dice, 15);
        self.scarce = scarce;
        self.linux = carriage == Carriage::Ip;
        // Among the hosts on raw IP: nobody, everybody, or some speak more than Linux format.
        let kind = if self.linux { dice.below(4) } else { 0 };
        self.returns_as_linux = self.linux && percent(dice, 40);
        let line = percent(dice, 50).then(|| pick(dice, &[1_000, 10_000, 25_000, 100_000]));
        let rx_buffer_bytes = pick(dice, &[106_496, 212_992, 212_992, 4 << 20, 4 << 20]);
        let buffer_bytes = log_between(dice, 100_000, 4_000_000);
        let read_delay_ns = if percent(dice, 20) { log_between(dice, US, 5 * MS) } else { 0 };
        let stream_requests = percent(dice, 20);
        let paced = percent(dice, 30);
        for number in 1..=hosts {
            let mut plan = HostPlan::new(number as u8);
            plan.carriage = carriage;
            plan.returns_as_linux = self.returns_as_linux;
            plan.config.discover_peers = match kind {
                0 => !self.linux,
                1 | 2 => true,
                _ => percent(dice, 50),
            };
            plan.config.max_message_bytes =
                if carriage == Carriage::Ip { 1_000_000 } else { 10_000_000 };
            plan.config.link_mbps = line.filter(|_| paced);
            plan.config.unread_bytes_max = 128 << 10;
            plan.config.response_silence = Duration::from_secs(5);
            if scarce {
                plan.config.max_message_bytes = 400_000;
                plan.config.receive_memory_bytes = between(dice, 480_000, 900_000);
            }
            plan.uplink_mbps = line;
            plan.tx_queue_bytes = if percent(dice, 30) { 100_000 } else { u64::MAX };
            plan.port = PortPlan { mbps: line, buffer_bytes };
            plan.rx_buffer_bytes = rx_buffer_bytes;
            plan.read_delay_ns = read_delay_ns;
            plan.stream_requests = stream_requests;
            self.world.add_host(plan);
        }
    }

    fn plan_links(&mut self, dice: &mut Dice, hosts: usize) {
        let lossy = percent(dice, 70);
        let duplicates = percent(dice, 40);
        let jitter_ns = if percent(dice, 50) { log_between(dice, US, 500 * US) } else { 0 };
        let spikes = percent(dice, 25);
        let delay_ns = log_between(dice, US, 200 * US);
        for from in 0..hosts {
            for to in 0..hosts {
                let mut link = LinkPlan { delay_ns, jitter_ns, ..LinkPlan::default() };
                if lossy {
                    link.loss_ppm = log_between(dice, 1_000, 300_000) as u32;
                    self.gentle &= link.loss_ppm < 60_000;
                }
                if duplicates {
                    link.duplicate_ppm = log_between(dice, 1_000, 100_000) as u32;
                }
                if spikes {
                    link.spike_ppm = log_between(dice, 100, 20_000) as u32;
                    link.spike_ns = log_between(dice, MS, 200 * MS);
                }
                self.world.set_link(from, to, link);
            }
        }
    }

    /// Plans calls and returns how long they begin.
    fn plan_calls(&mut self, dice: &mut Dice, hosts: usize) -> u64 {
        let max_bytes = self.world.shard(0).expect("it is up").engine().config().max_message_bytes;
        let (count, longest) = match dice.below(1000) {
            0..10 => (1000, 3_000),
            10..90 => (between(dice, 100, 300), 10_000),
            90..110 => (between(dice, 1, 2), 10_000_000),
            110..250 => (between(dice, 1, 6), 1_000_000),
            250..600 => (between(dice, 1, 12), 200_000),
            _ => (between(dice, 1, 25), 40_000),
        };
        let scarce = u64::from(max_bytes) < 500_000;
        let longest = if scarce { longest.max(200_000) } else { longest }.min(u64::from(max_bytes));
        let mut span_ns = if percent(dice, 40) { 0 } else { log_between(dice, 10 * US, 20 * MS) };
        if self.returns_as_linux {
            span_ns += between(dice, 10, 60) * MS;
        }
        for _ in 0..count {
            let client = dice.below(hosts as u64) as usize;
            let server = (client + 1 + dice.below(hosts as u64 - 1) as usize) % hosts;
            let long = log_between(dice, 1, longest) as u32;
            let other = log_between(dice, 1, longest.min(100_000)) as u32;
            let (request, response) = if percent(dice, 50) { (long, other) } else { (other, long) };
            let mut plan = CallPlan::new(client, server, request, response);
            plan.at_ns = dice.below(span_ns + 1);
            self.vary_call(dice, &mut plan);
            self.world.call(plan);
        }
        span_ns
    }

    fn vary_call(&mut self, dice: &mut Dice, plan: &mut CallPlan) {
        let service_ns = log_between(dice, US, 30 * MS);
        plan.response = match dice.below(100) {
            0..60 => Response::After { service_ns: 0 },
            60..85 => Response::After { service_ns },
            85..93 => {
                let piece_bytes = (plan.response_bytes / 8).max(1);
                Response::InPieces { service_ns: service_ns / 8, piece_bytes }
            }
            93..95 => Response::Rejected,
            95..96 => {
                plan.deadline_ns = Some(log_between(dice, MS, 100 * MS));
                Response::Never
            }
            _ => Response::After { service_ns: service_ns * 20 },
        };
        if percent(dice, 10) {
            plan.request_piece_bytes = Some((plan.request_bytes / 6).max(1));
        }
        plan.read_as_stream = percent(dice, 20);
        if percent(dice, 3) {
            plan.deadline_ns = Some(log_between(dice, 100 * US, 100 * MS));
        } else if percent(dice, 3) {
            plan.abort_after_ns = Some(log_between(dice, US, 20 * MS));
        }
    }

    fn plan_troubles(&mut self, dice: &mut Dice, hosts: usize, span_ns: u64) {
        let soon = |dice: &mut Dice| dice.below(span_ns + 2 * MS);
        if percent(dice, 25) {
            self.plan_partition(dice, hosts, span_ns);
        }
        if percent(dice, 12) || self.returns_as_linux {
            let (host, at_ns) = (dice.below(hosts as u64) as usize, soon(dice));
            let down_max_ns = if self.returns_as_linux { 10 * MS } else { 300 * MS };
            self.world.restart(host, at_ns, log_between(dice, 10 * US, down_max_ns));
            self.world.icmp_ppm = pick(dice, &[0, 0, 100_000, 1_000_000]);
            self.gentle = false;
        }
        if percent(dice, 12) {
            let (host, at_ns) = (dice.below(hosts as u64) as usize, soon(dice));
            self.world.pause_at(host, at_ns, at_ns + log_between(dice, MS, 300 * MS));
        }
        if percent(dice, 20) {
            self.plan_refusals(dice, hosts);
        }
        if percent(dice, 15) {
            self.plan_mtu(dice, hosts, span_ns);
        }
        if percent(dice, 15) {
            self.world.late_ppm = log_between(dice, 1_000, 200_000) as u32;
            self.younger_copies = percent(dice, 70);
            self.forgets = !self.younger_copies;
            self.world.late_ns = if self.forgets {
                between(dice, 6_000, 9_000) * MS
            } else {
                between(dice, 10, 1_400) * MS
            };
        }
        if percent(dice, 5) {
            self.world.forge_ppm = log_between(dice, 1_000, 100_000) as u32;
            // Strangers can fill what little memory there is, one time-out after the other.
            self.gentle &= !self.scarce;
        }
        if percent(dice, 2) {
            let host = dice.below(hosts as u64) as usize;
            self.world.close(host, soon(dice));
            self.gentle = false;
        }
    }

    fn plan_partition(&mut self, dice: &mut Dice, hosts: usize, span_ns: u64) {
        let start_ns = dice.below(span_ns + 2 * MS);
        let lasts_ns = if percent(dice, 15) {
            between(dice, 900, 3_000) * MS
        } else {
            log_between(dice, MS, 400 * MS)
        };
        self.gentle &= lasts_ns < 500 * MS;
        let one = vec![dice.below(hosts as u64) as usize];
        let (from, to) = match dice.below(4) {
            0 => (vec![], vec![]),
            1 => (one, vec![]),
            2 => (vec![], one),
            _ => (one.clone(), vec![(one[0] + 1) % hosts]),
        };
        self.world.partition(Partition { from, to, start_ns, end_ns: start_ns + lasts_ns });
    }

    fn plan_refusals(&mut self, dice: &mut Dice, hosts: usize) {
        let host = dice.below(hosts as u64) as usize;
        let rate = log_between(dice, 1_000, 400_000) as u32;
        let mut rates = RefusalRates::default();
        match dice.below(4) {
            0 | 1 => rates.no_room_ppm = rate,
            2 => rates.unreachable_ppm = rate,
            _ => rates.refused_ppm = rate / 10,
        }
        self.gentle &= rates.unreachable_ppm == 0 && rates.refused_ppm == 0;
        self.world.refuse(host, rates);
    }

    fn plan_mtu(&mut self, dice: &mut Dice, hosts: usize, span_ns: u64) {
        let from = dice.below(hosts as u64) as usize;
        let to = (from + 1) % hosts;
        let known = percent(dice, 50);
        if !known && percent(dice, 40) {
            for (from, to) in [(from, to), (to, from)] {
                let link = LinkPlan { too_big_is_told: false, ..LinkPlan::default() };
                self.world.set_link(from, to, link);
            }
        }
        let at_ns = dice.below(span_ns + 300 * US);
        let mtu = between(dice, 1_280, 1_490) as u32;
        self.world.change_mtu(at_ns, MtuChange { from, to, mtu, known });
    }

    /// Runs the world and returns what was wrong.
    fn run(&mut self) -> Vec<String> {
        let mut wrong = Vec::new();
        let ended = self.world.run_calls(LIMIT_NS);
        let calls = &self.world.ledger.calls;
        if !ended {
            let open: Vec<_> =
                (0..calls.len()).filter(|call| calls[*call].end.is_none()).take(10).collect();
            let how = if self.world.is_exhausted() { "too many steps" } else { "too much time" };
            wrong.push(format!(
                "{how} at {} ns; open calls, at most ten: {open:?}",
                self.world.now_ns()
            ));
            return wrong;
        }
        if self.gentle {
            wrong.extend(
                (0..calls.len()).filter_map(|call| unexcused(call, &self.world, self.linux)),
            );
        }
        let leftovers = self.world.leftovers();
        wrong.extend(leftovers);
        if self.world.is_exhausted() {
            wrong.push("it never comes to rest".into());
        }
        if !self.forgets {
            let twice = self.world.ledger.executed_twice();
            let calls = &self.world.ledger.calls;
            wrong.extend(
                twice.iter().map(|call| {
                    format!("the handler of call {call} ran twice: {:?}", calls[*call])
                }),
            );
        }
        wrong.extend(self.world.ledger.violations.iter().cloned());
        self.note_coverage();
        wrong
    }

    fn note_coverage(&mut self) {
        let counters: [(&'static str, Counter); 20] = [
            ("gap RESENDs", |stats| stats.resends_gap_sent),
            ("tail RESENDs", |stats| stats.resends_tail_sent),
            ("lost GRANTs recovered", |stats| stats.grants_recovered),
            ("restarts after RPC_UNKNOWN", |stats| stats.restarts),
            ("BUSY received", |stats| stats.busy_received),
            ("messages without memory", |stats| stats.messages_starved),
            ("strangers put off", |stats| stats.strangers_put_off),
            ("finished requests recognised", |stats| stats.finished_hits),
            ("transmit without room", |stats| stats.transmit_no_room),
            ("transmit too big", |stats| stats.transmit_too_big),
            ("transmit unreachable", |stats| stats.transmit_unreachable),
            ("transmit refused", |stats| stats.transmit_refused),
            ("MTU reductions", |stats| stats.mtu_shrinks),
            ("black holes", |stats| stats.mtu_black_holes),
            ("clock jumps", |stats| stats.clock_jumps),
            ("requests for an earlier life", |stats| stats.stale_incarnations),
            ("packets of a wrong peer", |stats| stats.dropped_wrong_peer),
            ("ICMP errors", |stats| stats.icmp_errors),
            ("peers over raw IP discovered", |stats| stats.peers_discovered),
            ("discovered peers that turned into Linux hosts", |stats| stats.peers_reverted),
        ];
        for (what, counter) in counters {
            self.coverage.add(what, self.world.total(counter));
        }
        let calls = &self.world.ledger.calls;
        let ended = |reason: FailReason| {
            calls.iter().filter(|call| call.end == Some(CallEnd::Failed(reason))).count() as u64
        };
        let cut_off =
            calls.iter().filter(|call| call.end == Some(CallEnd::HostGone)).count() as u64;
        self.coverage.add("calls", calls.len() as u64);
        self.coverage.add("calls answered", self.world.ledger.answered() as u64);
        self.coverage.add("calls cut off by a restart of the client", cut_off);
        self.coverage.add("calls told of a restarted server", ended(FailReason::Restarted));
        self.coverage.add("calls timed out", ended(FailReason::Timeout));
        let (young, old) = match self.younger_copies {
            true => (self.world.late_copies(), 0),
            false => (0, self.world.late_copies()),
        };
        self.coverage.add("late copies younger than the bound", young);
        self.coverage.add("late copies older than the bound", old);
        self.coverage.add(
            "handlers run again by older copies",
            self.world.ledger.executed_twice().len() as u64,
        );
    }
}

/// Why the end of a call in a gentle world is wrong.
fn unexcused(call: usize, world: &World, linux: bool) -> Option<String> {
    let entry = &world.ledger.calls[call];
    let excused = match entry.end {
        Some(CallEnd::Answered) => true,
        Some(CallEnd::Failed(FailReason::DeadlineExceeded { .. })) => {
            entry.plan.deadline_ns.is_some()
        }
        Some(CallEnd::Aborted) => entry.plan.abort_after_ns.is_some(),
        Some(CallEnd::Failed(FailReason::Rejected)) => entry.plan.response == Response::Rejected,
        // In the packet format of Linux a server cannot say that it dropped a request.
        Some(CallEnd::Failed(FailReason::Timeout | FailReason::Forgotten)) => {
            linux && entry.plan.response == Response::Rejected
        }
        _ => false,
    };
    (!excused).then(|| {
        format!("call {call} ended with {:?} at {} ns: {:?}", entry.end, entry.ended_ns, entry.plan)
    })
}

fn try_seed(seed: u64) -> Result<Coverage, String> {
    let result = catch_unwind(AssertUnwindSafe(|| {
        let mut trial = Trial::new(seed);
        trial.world.show_packets = std::env::var_os("HOMA_SHOW_PACKETS").is_some();
        (trial.run(), trial.coverage)
    }));
    match result {
        Ok((wrong, coverage)) if wrong.is_empty() => Ok(coverage),
        Ok((wrong, _)) => Err(format!("HOMA_SEED={seed}: {}", wrong.join("\n    "))),
        Err(panic) => Err(format!("HOMA_SEED={seed} panicked: {}", message_of(panic.as_ref()))),
    }
}

fn message_of(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("no message")
}

fn number_from(variable: &str) -> Option<u64> {
    std::env::var(variable)
        .ok()
        .map(|text| text.parse().unwrap_or_else(|_| panic!("{variable} is a number")))
}

#[test]
fn every_call_in_every_world_ends_well_or_with_an_error() {
    if let Some(seed) = number_from("HOMA_SEED") {
        let result = try_seed(seed).map(|coverage| println!("{coverage:#?}"));
        assert_eq!(result, Ok(()));
        return;
    }
    let seeds =
        number_from("HOMA_SEEDS").unwrap_or(if cfg!(debug_assertions) { 300 } else { 10_000 });
    let first = number_from("HOMA_FIRST_SEED").unwrap_or(0);
    let failures_max = number_from("HOMA_FAILURES_MAX").unwrap_or(8) as usize;
    let (next, total, failures) =
        (AtomicU64::new(first), Mutex::new(Coverage::default()), Mutex::new(Vec::new()));
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + seeds
                        || failures.lock().expect("no panic inside").len() >= failures_max
                    {
                        return;
                    }
                    match try_seed(seed) {
                        Ok(coverage) => total.lock().expect("no panic inside").merge(&coverage),
                        Err(failure) => failures.lock().expect("no panic inside").push(failure),
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().expect("no panic inside");
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    let total = total.into_inner().expect("no panic inside");
    println!("{seeds} worlds: {:#?}", total.counts);
    let least = (seeds / 100).max(1);
    let rare: Vec<_> = total.counts.iter().filter(|(_, count)| *count < least).collect();
    assert!(rare.is_empty() || seeds < 1000, "reached less than {least} times: {rare:?}");
}
