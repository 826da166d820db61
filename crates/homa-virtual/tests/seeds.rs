//! Thousands of small worlds with random troubles. Every call must end, with the right bytes or an
//! error; handlers run at most once; nothing stays behind; and together the worlds must have
//! reached the rare paths.
//!
//! `HOMA_SEEDS=N` sets how many worlds (default 10,000 in release builds, 300 otherwise),
//! `HOMA_FIRST_SEED=N` where they begin, `HOMA_FAILURES_MAX=N` how many may fail before the rest is
//! not tried (default 8). A failure prints `HOMA_SEED=…`, the first one also `HOMA_SHRINK=…`, which
//! leaves out of it what it fails without (`HOMA_SHRINK=0`: not tried). With these variables only
//! this world runs, and `HOMA_SHOW_PACKETS=1` shows its packets. `HOMA_SHORT_FORM=0` keeps all RPCs
//! in their general form; no packet changes. `HOMA_KIND=drill`, `calm` or
//! `troubled` tries only what is of this kind.

#[path = "seeds/calm.rs"]
mod calm;
#[path = "seeds/digests.rs"]
mod digests;
#[path = "seeds/drills/mod.rs"]
mod drills;
#[path = "seeds/script.rs"]
mod script;

use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use homa_core::{Carriage, Config, FailReason, Stats};
use homa_virtual::{
    CallEnd, CallPlan, Conduct, Cut, Dice, HostPlan, LinkPlan, MtuChange, Partition, PortPlan,
    RefusalRates, Response, World, shrink,
};

const US: u64 = 1_000;
const MS: u64 = 1_000_000;
const SECOND: u64 = 1_000_000_000;
/// A call may wait for so many timeouts in a row, each of which something else puts off.
const SILENCES: u64 = 12;
/// A byte of any message takes so long, with all repetitions, on the slowest line.
const NS_PER_BYTE: u64 = 20_000;
/// So many worlds have one in which nothing goes wrong.
const CALM_ONE_IN: u64 = 4;
/// So many seeds have one that plays a drill as well.
const DRILL_ONE_IN: u64 = 4;
/// A world that takes more steps than this never comes to rest.
const STEPS_MAX: u64 = 20_000_000;

/// One of an engine's counters.
type Counter = fn(&Stats) -> u64;

/// What a set of worlds has reached.
#[derive(Debug, Default)]
struct Coverage {
    counts: Vec<(&'static str, u64)>,
    /// The call that came closest to its limit took so much of it.
    longest_percent: u64,
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
        self.longest_percent = self.longest_percent.max(other.longest_percent);
    }
}

/// A world and what may happen in it.
struct Trial {
    world: World,
    cut: Cut,
    /// RPCs may be in short form.
    short_form: bool,
    /// What happens in it, by name.
    troubles: Vec<&'static str>,
    /// From then on nothing new goes wrong, in ns.
    calm_ns: u64,
    /// Longest delay of a packet in flight, in ns.
    delay_ns: u64,
    /// Bytes of all messages.
    bytes: u64,
    /// Nothing that happens excuses a failed call.
    gentle: bool,
    /// Copies come so late that a handler may run again.
    forgets: bool,
    /// Hosts have little memory for incoming messages.
    scarce: bool,
    /// The first host does not keep to the protocol.
    misconduct: bool,
    /// Packets travel over raw IP, the first to each peer at least in the format of Linux.
    linux: bool,
    younger_duplicates: bool,
    /// Nothing goes wrong.
    calm: bool,
    /// Speed of all lines, if they have one, in 10^6 bit/s.
    line_mbps: Option<u32>,
    /// Time that applications take to read, in ns.
    read_delay_ns: u64,
    /// Settings of the hosts.
    configs: Vec<Config>,
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

/// Whether RPCs may be in short form.
fn short_form() -> bool {
    std::env::var("HOMA_SHORT_FORM").map_or(true, |value| value != "0")
}

impl Trial {
    fn new(seed: u64, cut: &Cut) -> Self {
        Self::in_form(seed, cut, short_form())
    }

    /// A trial in which RPCs may be in short form, or not.
    fn in_form(seed: u64, cut: &Cut, short_form: bool) -> Self {
        let mut dice = Dice::new(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0x0068_6F6D_6121);
        let mut trial = Self {
            world: World::new(seed),
            cut: cut.clone(),
            short_form,
            troubles: Vec::new(),
            calm_ns: 0,
            delay_ns: 0,
            bytes: 0,
            gentle: true,
            forgets: false,
            scarce: false,
            misconduct: false,
            linux: false,
            younger_duplicates: false,
            calm: is_calm(seed),
            line_mbps: None,
            read_delay_ns: 0,
            configs: Vec::new(),
            coverage: Coverage::default(),
        };
        trial.world.steps_max = STEPS_MAX;
        trial.world.auditor.calm = trial.calm;
        trial.world.expands = seed % 8 == 7;
        let hosts = pick(&mut dice, &[2, 2, 2, 3, 3, 4, 6]);
        trial.add_hosts(&mut dice, hosts);
        trial.plan_links(&mut dice, hosts);
        let span_ns = trial.plan_calls(&mut dice, hosts);
        trial.plan_troubles(&mut dice, hosts, span_ns);
        if trial.cut.without.contains(IDLE_HOSTS) {
            trial.leave_out_lonely_hosts(hosts);
        }
        trial
    }

    /// Whether this trouble happens here, and the dice that decide on the rest of it: they are its
    /// own, so that all others stay what they are when it is cut.
    fn trouble(&mut self, dice: &mut Dice, name: &'static str, chance: u64) -> Option<Dice> {
        let mut own = Dice::new(dice.roll());
        let possible = !self.calm || calm::HARMLESS.contains(&name);
        let happens = percent(&mut own, chance) && possible && !self.cut.without.contains(name);
        if happens {
            self.troubles.push(name);
        }
        happens.then_some(own)
    }

    fn leave_out_lonely_hosts(&mut self, hosts: usize) {
        let calls = &self.world.ledger.calls;
        let concerned: Vec<_> =
            calls.iter().flat_map(|call| [call.plan.client, call.plan.server]).collect();
        (0..hosts).filter(|host| !concerned.contains(host)).for_each(|host| {
            self.world.kill(host, 0);
        });
    }

    fn add_hosts(&mut self, dice: &mut Dice, hosts: usize) {
        let carriage = if percent(dice, 20) { Carriage::Ip } else { Carriage::Udp };
        self.linux = carriage == Carriage::Ip;
        // Among the hosts on raw IP: nobody, everybody, or some speak more than Linux format.
        let kind = if self.linux { dice.below(4) } else { 0 };
        let returns_as_linux = self.linux && self.trouble(dice, "return-as-linux", 40).is_some();
        let line = percent(dice, 50).then(|| pick(dice, &[1_000, 10_000, 25_000, 100_000]));
        let mut plan = HostPlan::new(0);
        plan.carriage = carriage;
        plan.returns_as_linux = returns_as_linux;
        plan.uplink_mbps = line;
        plan.port = PortPlan { mbps: line, buffer_bytes: log_between(dice, 100_000, 4_000_000) };
        plan.rx_buffer_bytes = pick(dice, &[106_496, 212_992, 212_992, 4 << 20, 4 << 20]);
        plan.stream_requests = percent(dice, 20);
        plan.config = Config::default().with(|config| {
            config.limits.max_message_bytes = if self.linux { 1_000_000 } else { 10_000_000 };
            config.output.link_mbps = line.filter(|_| percent(dice, 30));
            config.fixed.unread_bytes_max = 128 << 10;
            config.responses.silence = Duration::from_secs(5);
        });
        if self.calm {
            calm::make_ample(&mut plan);
        }
        self.vary_settings(dice, &mut plan);
        (self.line_mbps, self.read_delay_ns) = (line, plan.read_delay_ns);
        let own_settings = self.trouble(dice, "own-settings", settings_percent());
        let misconduct = self.trouble(dice, "misconduct", 8);
        for number in 1..=hosts {
            let address = HostPlan::new(number as u8).address;
            let mut own = HostPlan { address, ..plan.clone() };
            own.config.peers.discover = match kind {
                0 => !self.linux,
                1 | 2 => true,
                _ => percent(dice, 50),
            };
            if let Some(dice) = &own_settings {
                let mut dice = Dice::new(dice.clone().roll() + number as u64);
                own.config = Config::random(&mut |low, high| between(&mut dice, low, high));
            }
            own.config.fixed.short_form &= self.short_form;
            own.tx_queue_bytes = if percent(dice, 30) { 100_000 } else { u64::MAX };
            if let (1, Some(dice)) = (number, &misconduct) {
                use Conduct::{NeverAcknowledges, OnlyAnnounces, OnlySendsData};
                let kinds = [NeverAcknowledges, OnlyAnnounces, OnlySendsData];
                own.conduct = pick(&mut dice.clone(), &kinds);
                self.misconduct = true;
            }
            self.configs.push(own.config.clone());
            self.world.add_host(own);
        }
        if own_settings.is_some() {
            self.gentle = false;
            // Nothing is promised about copies older than what is remembered.
            self.forgets = true;
        }
    }

    /// Settings and habits that all hosts share.
    fn vary_settings(&mut self, dice: &mut Dice, plan: &mut HostPlan) {
        if let Some(mut dice) = self.trouble(dice, "settings", settings_percent()) {
            let known = plan.config.clone();
            plan.config = Config::random(&mut |low, high| between(&mut dice, low, high));
            plan.config.limits.max_message_bytes =
                plan.config.limits.max_message_bytes.min(known.limits.max_message_bytes);
            self.gentle = false;
            self.forgets = true;
        }
        if let Some(mut dice) = self.trouble(dice, "tiny-memory", 15) {
            let longest = plan.config.limits.max_message_bytes.min(400_000);
            plan.config.limits.max_message_bytes = longest;
            let left = dice.below(500_000);
            let longest = longest + plan.config.limits.frame_bytes;
            plan.config.limits.receive_memory_bytes = u64::from(longest) + left;
            self.scarce = true;
            // It may all be kept for one message, while others wait for longer than their timeout.
            self.gentle &= left >= 80_000;
        }
        if let Some(mut dice) = self.trouble(dice, "window", 30) {
            let window = log_between(&mut dice, 1_000, 200_000) as u32;
            let unscheduled = match dice.below(3) {
                0 => log_between(&mut dice, 1, 200_000) as u32,
                1 => window.saturating_sub(300) + dice.below(600) as u32,
                _ => window + dice.below(100_000) as u32,
            };
            plan.config.unscheduled.in_flight_max_bytes = window;
            plan.config.unscheduled.bytes = unscheduled.max(1);
        }
        if let Some(mut dice) = self.trouble(dice, "slow-readers", 20) {
            plan.read_delay_ns = match percent(&mut dice, 90) {
                _ if self.calm => log_between(&mut dice, US, MS),
                true => log_between(&mut dice, US, 5 * MS),
                // As good as never.
                false => between(&mut dice, 100, 5_000) * MS,
            };
            self.gentle &= plan.read_delay_ns <= 5 * MS;
        }
    }

    fn plan_links(&mut self, dice: &mut Dice, hosts: usize) {
        let mut loss = self.trouble(dice, "loss", 70);
        let mut duplicates = self.trouble(dice, "duplicates", 40);
        let jitter = self.trouble(dice, "jitter", 50);
        let jitter_ns = jitter.map_or(0, |mut dice| log_between(&mut dice, US, 500 * US));
        let mut spikes = self.trouble(dice, "spikes", 25);
        let mut minutes = self.trouble(dice, "minutes", 5);
        let delay_ns = log_between(dice, US, 200 * US);
        for from in 0..hosts {
            for to in 0..hosts {
                let mut link = LinkPlan { delay_ns, jitter_ns, ..LinkPlan::default() };
                if let Some(dice) = &mut loss {
                    link.loss_ppm = log_between(dice, 1_000, 300_000) as u32;
                    self.gentle &= link.loss_ppm < 60_000;
                }
                if let Some(dice) = &mut duplicates {
                    link.duplicate_ppm = log_between(dice, 1_000, 100_000) as u32;
                }
                if let Some(dice) = &mut spikes {
                    link.spike_ppm = log_between(dice, 100, 20_000) as u32;
                    link.spike_ns = log_between(dice, MS, 200 * MS);
                }
                if let Some(dice) = &mut minutes {
                    link.spike_ppm = log_between(dice, 100, 20_000) as u32;
                    link.spike_ns = log_between(dice, SECOND, 150 * SECOND);
                    (self.gentle, self.forgets) = (false, true);
                }
                self.delay_ns = self.delay_ns.max(link.spike_ns + link.delay_ns);
                self.world.set_link(from, to, link);
            }
        }
    }

    /// Plans calls and returns how long they begin.
    fn plan_calls(&mut self, dice: &mut Dice, hosts: usize) -> u64 {
        let max_bytes = (0..hosts)
            .map(|host| self.world.shard(host).expect("it is up").engine().config())
            .map(|config| u64::from(config.limits.max_message_bytes))
            .min()
            .expect("there are hosts");
        let (count, longest) = match dice.below(1000) {
            0..10 => (1000, 3_000),
            10..90 => (between(dice, 100, 300), 10_000),
            90..110 => (between(dice, 1, 2), 10_000_000),
            110..250 => (between(dice, 1, 6), 1_000_000),
            250..600 => (between(dice, 1, 12), 200_000),
            _ => (between(dice, 1, 25), 40_000),
        };
        let scarce = max_bytes < 500_000;
        let longest = if scarce { longest.max(200_000) } else { longest }.min(max_bytes);
        let mut span_ns = if percent(dice, 40) { 0 } else { log_between(dice, 10 * US, 20 * MS) };
        if self.troubles.contains(&"return-as-linux") {
            span_ns += between(dice, 10, 60) * MS;
        }
        let cancelled = self.trouble(dice, "cancelled-calls", 15).is_some();
        for number in 0..count as usize {
            let dice = &mut Dice::new(dice.roll());
            let client = dice.below(hosts as u64) as usize;
            let server = (client + 1 + dice.below(hosts as u64 - 1) as usize) % hosts;
            let long = log_between(dice, 1, longest) as u32;
            let other = log_between(dice, 1, longest.min(100_000)) as u32;
            let (request, response) = if percent(dice, 50) { (long, other) } else { (other, long) };
            let (request, response) = (self.cut.bytes(request), self.cut.bytes(response));
            let mut plan = CallPlan::new(client, server, request, response);
            plan.at_ns = dice.below(span_ns + 1);
            vary_call(dice, &mut plan);
            if cancelled && percent(dice, 50) {
                plan.abort_after_ns = Some(log_between(dice, 100, 50 * MS));
            }
            if self.calm {
                (plan.deadline_ns, plan.abort_after_ns) = (None, None);
                // In the packet format of Linux a server cannot say that it dropped a request.
                let unsaid = self.linux && plan.response == Response::Rejected;
                if unsaid || plan.response == Response::Never {
                    plan.response = Response::After { service_ns: 0 };
                }
            }
            if self.cut.makes(number) {
                self.bytes += u64::from(request) + u64::from(response);
                self.world.call(plan);
            }
        }
        span_ns
    }

    fn plan_troubles(&mut self, dice: &mut Dice, hosts: usize, span_ns: u64) {
        let soon = |dice: &mut Dice| dice.below(span_ns + 2 * MS);
        if let Some(mut dice) = self.trouble(dice, "partition", 25) {
            self.plan_partition(&mut dice, hosts, span_ns);
        }
        let returns_as_linux = self.troubles.contains(&"return-as-linux");
        let chance = if returns_as_linux { 100 } else { 15 };
        if let Some(mut dice) = self.trouble(dice, "restart", chance) {
            let down_max_ns = if returns_as_linux { 10 * MS } else { 300 * MS };
            for _ in 0..between(&mut dice, 1, 2) {
                let (host, at_ns) = (dice.below(hosts as u64) as usize, soon(&mut dice));
                let down_ns = log_between(&mut dice, 10 * US, down_max_ns);
                self.world.restart(host, at_ns, down_ns);
                self.calm_ns = self.calm_ns.max(at_ns + down_ns);
            }
            self.world.faults.icmp_ppm = pick(&mut dice, &[0, 0, 100_000, 1_000_000]);
            self.gentle = false;
        }
        for (name, chance, longest_ns) in [("pause", 12, 300 * MS), ("long-pause", 6, 30 * SECOND)]
        {
            let Some(mut dice) = self.trouble(dice, name, chance) else {
                continue;
            };
            let (host, at_ns) = (dice.below(hosts as u64) as usize, soon(&mut dice));
            let until_ns = at_ns + log_between(&mut dice, MS, longest_ns);
            self.world.pause_at(host, at_ns, until_ns);
            self.calm_ns = self.calm_ns.max(until_ns);
            self.gentle &= longest_ns < SECOND;
        }
        if let Some(mut dice) = self.trouble(dice, "refusals", 20) {
            self.plan_refusals(&mut dice, hosts);
        }
        if let Some(mut dice) = self.trouble(dice, "mtu", 15) {
            self.plan_mtu(&mut dice, hosts, span_ns);
        }
        if let Some(mut dice) = self.trouble(dice, "late-copies", 15) {
            let dice = &mut dice;
            self.world.faults.late_ppm = log_between(dice, 10_000, 300_000) as u32;
            self.younger_duplicates = percent(dice, 50);
            self.forgets |= !self.younger_duplicates;
            self.world.faults.late_ns = match dice.below(100) {
                _ if self.younger_duplicates => between(dice, 10, 1_400) * MS,
                0..50 => between(dice, 6_000, 9_000) * MS,
                _ => log_between(dice, 5 * SECOND, 150 * SECOND),
            };
            self.delay_ns = self.delay_ns.max(self.world.faults.late_ns);
        }
        if let Some(mut dice) = self.trouble(dice, "forging", 5) {
            self.world.faults.forge_ppm = log_between(&mut dice, 1_000, 100_000) as u32;
            // Unvalidated clients can fill what little memory there is, one timeout after the
            // other.
            self.gentle &= !self.scarce;
        }
        if let Some(mut dice) = self.trouble(dice, "close", 2) {
            let host = dice.below(hosts as u64) as usize;
            let at_ns = soon(&mut dice);
            self.world.close(host, at_ns);
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
        self.calm_ns = self.calm_ns.max(start_ns + lasts_ns);
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
            _ if self.calm => rates.no_room_ppm = rate,
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

    /// A call and what both ends know of it.
    fn both_ends(&self, call: usize) -> String {
        let call = &self.world.ledger.calls[call];
        let rpcs = |host| self.world.shard(host).into_iter().flat_map(|it| it.engine().rpcs());
        let client = rpcs(call.plan.client).find(|info| Some(info.rpc) == call.rpc);
        let id = client.map(|info| info.id | 1);
        let server = rpcs(call.plan.server).find(|info| Some(info.id) == id);
        format!("{call:?}\n    client {client:?}\n    server {server:?}")
    }

    /// When a call has ended at the latest: when all is calm, a few times of each silence that an
    /// end may have to wait for, and the time that the messages of the world take several times
    /// over.
    fn limit_ns(&self, call: usize) -> u64 {
        let plan = self.world.ledger.calls[call].plan;
        let nanos = |time: Duration| time.as_nanos() as u64;
        let waits_ns = |config: &Config| {
            SILENCES * (nanos(config.recovery.timeout) + nanos(config.fixed.resend_interval_max))
                + SILENCES * nanos(config.responses.silence) / 4
                // A request is repeated for so long to a server that says only that it does not
                // have it.
                + nanos(config.recovery.finished_memory) / 2
        };
        let slowest_ns = self.configs.iter().map(waits_ns).max().unwrap_or(0);
        // Memory for one message at a time is held for a timeout by each that is announced and does
        // not come.
        let timeout_ns = self.configs.iter().map(|config| nanos(config.recovery.timeout)).max();
        let slowest_ns = slowest_ns + self.withheld_messages() * timeout_ns.unwrap_or(0);
        let service_ns = match plan.response {
            Response::After { service_ns } => service_ns,
            Response::InPieces { service_ns, piece_bytes } => {
                service_ns * u64::from(plan.response_bytes.div_ceil(piece_bytes) + 1)
            }
            _ => 4 * SECOND,
        };
        let begins_ns = plan.at_ns.max(self.calm_ns);
        // A reader that takes its time is sent so much between two looks.
        let unread =
            self.configs.iter().map(|config| u64::from(config.fixed.unread_bytes_max)).min();
        let reading_ns = (self.bytes / unread.unwrap_or(1).max(1) + 1) * self.read_delay_ns;
        let bytes_ns = self.bytes * NS_PER_BYTE + reading_ns;
        begins_ns + service_ns + slowest_ns + 4 * self.delay_ns + bytes_ns
    }

    /// Messages of the host that may announce some and not send them.
    fn withheld_messages(&self) -> u64 {
        let calls = self.world.ledger.calls.iter().filter(|_| self.misconduct);
        calls.filter(|call| call.plan.client == 0 || call.plan.server == 0).count() as u64
    }

    /// Runs the world and returns what was wrong.
    fn run(&mut self) -> Vec<String> {
        let mut wrong = Vec::new();
        let calls = 0..self.world.ledger.calls.len();
        let limits: Vec<u64> = calls.clone().map(|call| self.limit_ns(call)).collect();
        let ended = self.world.run_calls(limits.iter().copied().max().unwrap_or(0));
        let ends = |call: usize| &self.world.ledger.calls[call];
        if !ended {
            let open: Vec<_> = calls.filter(|call| ends(*call).end.is_none()).take(10).collect();
            let how = if self.world.is_exhausted() { "too many steps" } else { "too much time" };
            let now_ns = self.world.now_ns();
            wrong.push(format!("{how} at {now_ns} ns; open calls, at most ten: {open:?}"));
            wrong.push(format!("of which the first is {}", self.both_ends(open[0])));
            return wrong;
        }
        for call in calls.clone().filter(|call| ends(*call).ended_ns > limits[*call]) {
            wrong.push(format!(
                "call {call} took longer than {} ns: {:?}",
                limits[call],
                ends(call)
            ));
        }
        let shares = calls.clone().map(|call| ends(call).ended_ns * 100 / limits[call].max(1));
        self.coverage.longest_percent = shares.max().unwrap_or(0);
        if self.gentle {
            let honest = |call: &usize| {
                let plan = ends(*call).plan;
                !self.misconduct || (plan.client > 0 && plan.server > 0)
            };
            let judged = calls.filter(honest);
            wrong.extend(judged.filter_map(|call| unexcused(call, &self.world, self.linux)));
        }
        wrong.extend(self.world.ledger.contradictions());
        if self.calm {
            let (line_mbps, read_ns) = (self.line_mbps, self.read_delay_ns);
            let delay_ns = self.delay_ns;
            wrong.extend(calm::broken_promises(&mut self.world, line_mbps, delay_ns, read_ns));
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
        wrong.extend(self.world.auditor.violations.iter().cloned());
        let impossible = self.world.total(|stats| stats.impossible);
        wrong.extend((impossible > 0).then(|| format!("{impossible} broken invariants")));
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
            ("messages without memory", |stats| stats.messages_unallocated),
            ("unvalidated clients put off", |stats| stats.unvalidated_put_off),
            ("finished requests recognised", |stats| stats.finished_hits),
            ("transmit without room", |stats| stats.transmit_no_room),
            ("transmit too big", |stats| stats.transmit_too_big),
            ("transmit unreachable", |stats| stats.transmit_unreachable),
            ("transmit refused", |stats| stats.transmit_refused),
            ("MTU reductions", |stats| stats.mtu_shrinks),
            ("black holes", |stats| stats.mtu_black_holes),
            ("clock jumps", |stats| stats.clock_jumps),
            ("requests for an earlier incarnation", |stats| stats.stale_incarnations),
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
        for name in &self.troubles {
            self.coverage.add(name, 1);
        }
        let rare = self.world.rare();
        self.coverage.add("packets withheld or changed by misconduct", rare.misconduct);
        self.coverage.add("restarts within a response", rare.restarts_within_responses);
        self.coverage.add("calls cancelled while they waited", rare.waiting_calls_aborted);
        self.coverage.add("calls cancelled within the response", rare.arriving_calls_aborted);
        self.coverage.add("calls answered", self.world.ledger.answered() as u64);
        self.coverage.add("calls cut off by a restart of the client", cut_off);
        self.coverage.add("calls told of a restarted server", ended(FailReason::Restarted));
        self.coverage.add("calls timed out", ended(FailReason::Timeout));
        let late_duplicates = self.world.rare().late_duplicates;
        let (young, old) = match self.younger_duplicates {
            true => (late_duplicates, 0),
            false => (0, late_duplicates),
        };
        self.coverage.add("late copies younger than the bound", young);
        self.coverage.add("late copies older than the bound", old);
        self.coverage.add(
            "handlers run again by older copies",
            self.world.ledger.executed_twice().len() as u64,
        );
    }
}

/// Share of the worlds in which every setting is random, and of those in which it is so for each
/// host by itself, in percent; `HOMA_SETTINGS` sets another.
fn settings_percent() -> u64 {
    number_from("HOMA_SETTINGS").unwrap_or(8)
}

fn vary_call(dice: &mut Dice, plan: &mut CallPlan) {
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

thread_local! {
    /// Where the last panic of this thread, which tries worlds, began.
    static PANICKED_AT: Cell<Option<String>> = const { Cell::new(None) };
}

/// Panics of worlds are told with their seed, once, and not when they are tried again to be shrunk.
fn keep_panics_of_worlds_quiet() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| match std::thread::current().name() {
        Some(WORLDS) => PANICKED_AT.set(info.location().map(ToString::to_string)),
        _ => before(info),
    }));
}

/// Name of threads that try worlds.
const WORLDS: &str = "worlds";
/// Longest time to look for a smaller world.
const SHRINKING_MAX: Duration = Duration::from_secs(60);
/// The trouble of hosts that no call concerns: without it they are not there.
const IDLE_HOSTS: &str = "idle-hosts";

fn try_seed(seed: u64, cut: &Cut) -> Result<Coverage, String> {
    let result = catch_unwind(AssertUnwindSafe(|| {
        let mut trial = Trial::new(seed, cut);
        trial.world.show_packets = std::env::var_os("HOMA_SHOW_PACKETS").is_some();
        (trial.run(), trial)
    }));
    match result {
        Ok((wrong, trial)) if wrong.is_empty() => Ok(trial.coverage),
        Ok((wrong, trial)) => Err(format!("{:?}: {}", trial.troubles, wrong.join("\n    "))),
        Err(panic) => {
            let at = PANICKED_AT.take().unwrap_or_default();
            Err(format!("panicked at {at}: {}", message_of(panic.as_ref())))
        }
    }
}

fn is_drill(seed: u64) -> bool {
    seed % DRILL_ONE_IN == 1
}

fn is_calm(seed: u64) -> bool {
    seed % CALM_ONE_IN == CALM_ONE_IN - 1
}

/// Tries all that a seed plays, or what is of one kind.
fn try_all(seed: u64, kind: Option<&str>, cut: &Cut) -> Result<Coverage, String> {
    let wanted = |name| kind.is_none_or(|kind| kind == name);
    let mut coverage = Coverage::default();
    if is_drill(seed) && wanted("drill") {
        coverage.merge(&try_drill(seed)?);
    }
    if wanted(if is_calm(seed) { "calm" } else { "troubled" }) {
        coverage.merge(&try_seed(seed, cut)?);
    }
    Ok(coverage)
}

fn try_drill(seed: u64) -> Result<Coverage, String> {
    let number = seed / DRILL_ONE_IN;
    let name = drills::name(number);
    match catch_unwind(|| drills::play(number, seed).broken_promises()) {
        Ok(wrong) if wrong.is_empty() => {
            let mut coverage = Coverage::default();
            coverage.add("drills", 1);
            Ok(coverage)
        }
        Ok(wrong) => Err(format!("{name}: {}", wrong.join("\n    "))),
        Err(panic) => {
            let at = PANICKED_AT.take().unwrap_or_default();
            Err(format!("{name}: panicked at {at}: {}", message_of(panic.as_ref())))
        }
    }
}

/// Leaves out of a world that fails what it fails without, and says how.
fn shrunk(seed: u64) -> String {
    if try_seed(seed, &Cut::default()).is_ok() {
        return format!("HOMA_SEED={seed} HOMA_KIND=drill: a drill is as small as it can be");
    }
    let trial = Trial::new(seed, &Cut::default());
    let calls = trial.world.ledger.calls.len();
    let troubles: Vec<_> = trial.troubles.iter().copied().chain([IDLE_HOSTS]).collect();
    let until = Instant::now() + SHRINKING_MAX;
    let fails = |cut: &Cut| Instant::now() < until && try_seed(seed, cut).is_err();
    let least = shrink(&troubles, calls, fails);
    let failure = try_seed(seed, &least).err().unwrap_or_else(|| "it failed, then not".into());
    format!("HOMA_SEED={seed} HOMA_SHRINK={least}: {failure}")
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
    let shrinking = std::env::var("HOMA_SHRINK").ok();
    let kind = std::env::var("HOMA_KIND").ok();
    if let Some(seed) = number_from("HOMA_SEED") {
        let cut = shrinking.as_deref().filter(|cut| *cut != "0").unwrap_or("");
        let cut = cut.parse().unwrap_or_else(|error| panic!("HOMA_SHRINK: {error}"));
        match try_all(seed, kind.as_deref(), &cut) {
            Ok(coverage) => println!("{coverage:#?}"),
            Err(failure) => panic!("HOMA_SEED={seed} HOMA_SHRINK={cut}: {failure}"),
        }
        return;
    }
    keep_panics_of_worlds_quiet();
    let seeds =
        number_from("HOMA_SEEDS").unwrap_or(if cfg!(debug_assertions) { 300 } else { 10_000 });
    let first = number_from("HOMA_FIRST_SEED").unwrap_or(0);
    let failures_max = number_from("HOMA_FAILURES_MAX").unwrap_or(8) as usize;
    let (next, total, failures) =
        (AtomicU64::new(first), Mutex::new(Coverage::default()), Mutex::new(Vec::new()));
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            let worlds = std::thread::Builder::new().name(WORLDS.into());
            let spawned = worlds.spawn_scoped(scope, || {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + seeds
                        || failures.lock().expect("no panic inside").len() >= failures_max
                    {
                        return;
                    }
                    match try_all(seed, kind.as_deref(), &Cut::default()) {
                        Ok(coverage) => total.lock().expect("no panic inside").merge(&coverage),
                        Err(failure) => {
                            let failure = format!("HOMA_SEED={seed}: {failure}");
                            failures.lock().expect("no panic inside").push((seed, failure));
                        }
                    }
                }
            });
            spawned.expect("threads can be made");
        }
    });
    let failures = failures.into_inner().expect("no panic inside");
    if let Some((seed, _)) = failures.first().filter(|_| shrinking.as_deref() != Some("0")) {
        let shrunk = std::thread::Builder::new().name(WORLDS.into()).spawn({
            let seed = *seed;
            move || shrunk(seed)
        });
        let shrunk = shrunk.expect("threads can be made").join().expect("no panic inside");
        let all: Vec<_> = failures.into_iter().map(|(_, failure)| failure).collect();
        panic!("{}\n\nthe first, shrunk: {shrunk}", all.join("\n"));
    }
    assert!(failures.is_empty(), "{failures:?}");
    let total = total.into_inner().expect("no panic inside");
    println!(
        "{seeds} worlds, the longest call took {}% of its limit: {:#?}",
        total.longest_percent, total.counts
    );
    let least = (seeds / 100).max(1);
    let rare: Vec<_> = total.counts.iter().filter(|(_, count)| *count < least).collect();
    assert!(
        rare.is_empty() || seeds < 1000 || kind.is_some(),
        "reached less than {least} times: {rare:?}"
    );
}
