//! Hosts, links and the passing of time.

mod calendar;
mod calls;
mod hosts;
mod network;

use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::net::SocketAddr;
use std::time::Duration;

use homa_core::{Config, Stats};
use homa_io::Shard;

use crate::app::{App, FORGETFUL_NS};
use crate::attached::AttachedDriver;
use crate::auditor::Auditor;
use crate::dice::Dice;
use crate::digest::Digest;
use crate::driver::VirtualDriver;
use crate::fault::{Faults, MtuChange, Partition, RefusalRates};
use crate::host::{Host, HostPlan, driver_of};
use crate::ledger::Ledger;
use crate::link::{LinkPlan, Port};
use crate::plan::CallPlan;
use calendar::{Calendar, Happening};

/// A datagram that came to an address without an engine.
#[derive(Clone, Debug)]
pub struct Heard {
    /// When, in ns.
    pub at_ns: u64,
    /// To whom.
    pub to: SocketAddr,
    /// Its priority in the network.
    pub dscp: u8,
    /// From the first Homa header on.
    pub bytes: Vec<u8>,
}

/// How often something happened that only some worlds bring about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rare {
    /// Packets that were repeated much later.
    pub late_duplicates: u64,
    /// Packets that a host did not send, or not as they were, since it does not keep to the
    /// protocol.
    pub misconduct: u64,
    /// Servers that restarted while part of a response was sent.
    pub restarts_within_responses: u64,
    /// Calls given up while part of their request could have been sent, had there been room.
    pub waiting_calls_aborted: u64,
    /// Calls given up while part of the response was there.
    pub arriving_calls_aborted: u64,
}

/// Hosts on a network, with a clock that only this moves.
#[derive(Debug)]
pub struct World {
    now_ns: u64,
    calendar: Calendar,
    hosts: Vec<Host>,
    addresses: Vec<SocketAddr>,
    links: HashMap<(usize, usize), LinkPlan>,
    /// Plan of links that were not set.
    pub default_link: LinkPlan,
    partitions: Vec<Partition>,
    /// Faults of the whole network.
    pub faults: Faults,
    /// Steps after which time stands still: a bound against engines that never come to rest.
    pub steps_max: u64,
    /// Shows every packet sent, one line each, on standard error.
    pub show_packets: bool,
    /// RPCs in short form are expanded now and then, which changes nothing that is sent.
    pub expands: bool,
    steps: u64,
    rare: Rare,
    longest_pause_ns: u64,
    dice: Dice,
    /// Outcome of the calls.
    pub ledger: Ledger,
    /// The auditor of the links.
    pub auditor: Auditor,
    heard: Vec<Heard>,
    packets: u64,
    /// Of the packets sent.
    digest: Digest,
}

impl World {
    /// An empty world. The same seed and the same calls give the same history.
    pub fn new(seed: u64) -> Self {
        Self {
            now_ns: 0,
            calendar: Calendar::default(),
            hosts: Vec::new(),
            addresses: Vec::new(),
            links: HashMap::new(),
            default_link: LinkPlan::default(),
            partitions: Vec::new(),
            faults: Faults::default(),
            steps_max: u64::MAX,
            steps: 0,
            rare: Rare::default(),
            longest_pause_ns: 0,
            show_packets: false,
            expands: false,
            dice: Dice::new(seed),
            ledger: Ledger::default(),
            auditor: Auditor::default(),
            heard: Vec::new(),
            packets: 0,
            digest: Digest::default(),
        }
    }

    /// A world with `count` hosts like [`HostPlan::new`], changed by `change`.
    pub fn with_hosts(seed: u64, count: u8, change: impl Fn(&mut HostPlan)) -> Self {
        let mut world = Self::new(seed);
        for number in 1..=count {
            let mut plan = HostPlan::new(number);
            change(&mut plan);
            world.add_host(plan);
        }
        world
    }

    /// Adds a host and returns its index.
    pub fn add_host(&mut self, plan: HostPlan) -> usize {
        let index = self.add_place(plan);
        self.boot(index);
        index
    }

    /// Adds an address without an engine, whose packets a test writes ([`World::inject`]) and reads
    /// ([`World::take_heard`]), and returns its index.
    pub fn add_remote(&mut self, address: SocketAddr) -> usize {
        let index = self.add_place(HostPlan { address, ..HostPlan::new(0) });
        self.hosts[index].listens = true;
        index
    }

    /// Adds a host whose turns the caller takes over the driver that this returns, with its index.
    /// Packets leave it when time passes. Of its plan the settings are for the auditor only. The
    /// world neither stops nor restarts it.
    pub fn attach(&mut self, plan: HostPlan) -> (usize, AttachedDriver) {
        let index = self.add_place(plan);
        (index, self.attach_again(index))
    }

    /// A new driver for an attached host, whose process begins again: packets reach this one from
    /// now on, and what the former one sends is lost.
    pub fn attach_again(&mut self, host: usize) -> AttachedDriver {
        let seed = self.dice.roll();
        let entry = &mut self.hosts[host];
        assert!(entry.shard.is_none() && !entry.listens, "host {host} is not an attached one");
        let driver = AttachedDriver::new(driver_of(&entry.plan, entry.refusals, seed));
        entry.attached = Some(driver.clone());
        self.auditor.booted(host);
        driver
    }

    /// The process of an attached host ends without a word: nothing reaches it any more, and what
    /// its driver sends from now on is lost.
    pub fn detach(&mut self, host: usize) {
        self.attend();
        self.hosts[host].attached = None;
    }

    fn add_place(&mut self, plan: HostPlan) -> usize {
        let index = self.hosts.len();
        self.addresses.push(plan.address);
        self.hosts.push(Host {
            plan,
            shard: None,
            app: App::default(),
            port: Port::default(),
            wake_ns: None,
            turned_ns: 0,
            paused_until_ns: 0,
            uplink_free_ns: 0,
            turns: 0,
            past: Vec::new(),
            rx_dropped_before: 0,
            refusals: RefusalRates::default(),
            listens: false,
            attached: None,
        });
        index
    }

    /// Packets that have come since the last look to addresses without an engine.
    pub fn take_heard(&mut self) -> Vec<Heard> {
        std::mem::take(&mut self.heard)
    }

    /// Changes the path from one host to another.
    pub fn set_link(&mut self, from: usize, to: usize, plan: LinkPlan) {
        self.links.insert((from, to), plan);
    }

    /// Cuts hosts off for a time.
    pub fn partition(&mut self, partition: Partition) {
        self.partitions.push(partition);
    }

    /// Plans a call and returns its number.
    pub fn call(&mut self, mut plan: CallPlan) -> usize {
        let number = self.ledger.calls.len();
        let least = match number {
            ..256 => 1,
            256..65_536 => 2,
            _ => 3,
        };
        plan.request_bytes = plan.request_bytes.max(least);
        let call = self.ledger.add(plan);
        self.schedule(plan.at_ns, Happening::Start(call));
        call
    }

    /// Plans a call that an address without an engine makes and returns its number: the handler
    /// answers it as planned.
    pub fn call_of_remote(&mut self, plan: CallPlan) -> usize {
        self.ledger.add(plan)
    }

    /// The process of a host ends at `at_ns` without a word and begins again `down_ns` later.
    pub fn restart(&mut self, host: usize, at_ns: u64, down_ns: u64) {
        self.kill(host, at_ns);
        self.schedule(at_ns + down_ns, Happening::Boot(host));
    }

    /// The process of a host ends at `at_ns` for ever.
    pub fn kill(&mut self, host: usize, at_ns: u64) {
        self.assert_turned(host);
        self.schedule(at_ns, Happening::Stop(host));
    }

    /// A host closes its port at `at_ns`, telling its peers.
    pub fn close(&mut self, host: usize, at_ns: u64) {
        self.assert_turned(host);
        self.schedule(at_ns, Happening::Close(host));
    }

    /// A host refuses new requests from `at_ns` on.
    pub fn drain(&mut self, host: usize, at_ns: u64) {
        self.assert_turned(host);
        self.schedule(at_ns, Happening::Drain(host));
    }

    /// A host is stopped from now until `until_ns`; packets wait in its receive buffer.
    pub fn pause(&mut self, host: usize, until_ns: u64) {
        self.assert_turned(host);
        self.hosts[host].paused_until_ns = until_ns;
        self.longest_pause_ns = self.longest_pause_ns.max(until_ns.saturating_sub(self.now_ns));
    }

    /// A host is stopped from `at_ns` until `until_ns`.
    pub fn pause_at(&mut self, host: usize, at_ns: u64, until_ns: u64) {
        self.schedule(at_ns, Happening::Pause(host, until_ns));
    }

    /// Changes a path at `at_ns`.
    pub fn change_mtu(&mut self, at_ns: u64, change: MtuChange) {
        self.schedule(at_ns, Happening::Mtu(change));
    }

    /// From now on the system refuses transmissions of a host.
    pub fn refuse(&mut self, host: usize, rates: RefusalRates) {
        self.hosts[host].refusals = rates;
        self.hosts[host].with_driver(|driver| driver.refusals = rates);
    }

    /// A packet from `from`, who need not exist, reaches host `to` at `at_ns`.
    pub fn inject(&mut self, at_ns: u64, from: SocketAddr, to: usize, bytes: Vec<u8>) {
        let packet = self.packet_from(from, to, bytes);
        self.schedule(at_ns, Happening::AtPort(to, packet));
    }

    /// Virtual time since the beginning, in ns.
    pub fn now_ns(&self) -> u64 {
        self.now_ns
    }

    /// Packets that were sent.
    pub fn packets(&self) -> u64 {
        self.packets
    }

    /// A digest of every packet sent (when, by whom, to whom, its priority, its bytes) and of what
    /// became of every call: a change that alters no behaviour leaves it as it is.
    pub fn digest(&self) -> u64 {
        let mut digest = self.digest;
        for call in &self.ledger.calls {
            (call.end, call.ended_ns, call.first_byte_ns, &call.executions).hash(&mut digest);
        }
        digest.finish()
    }

    /// Whether more than `steps_max` steps were taken.
    pub fn is_exhausted(&self) -> bool {
        self.steps > self.steps_max
    }

    /// Counters of rare happenings.
    pub fn rare(&self) -> Rare {
        self.rare
    }

    /// How many hosts there are.
    pub fn hosts(&self) -> usize {
        self.hosts.len()
    }

    /// Turns a host has taken.
    pub fn turns(&self, host: usize) -> u64 {
        self.hosts[host].turns
    }

    /// Packets that overflowed a host's receive buffer.
    pub fn rx_dropped(&self, host: usize) -> u64 {
        self.hosts[host].rx_dropped()
    }

    /// The shard of a host that is up.
    pub fn shard(&self, host: usize) -> Option<&Shard<VirtualDriver>> {
        self.hosts[host].shard.as_ref()
    }

    /// Counters of a host's engines: those of earlier incarnations, and the present one.
    pub fn stats(&self, host: usize) -> impl Iterator<Item = Stats> {
        let host = &self.hosts[host];
        host.past.iter().copied().chain(host.shard.as_ref().map(Shard::stats))
    }

    /// The sum of one counter over all hosts and incarnations.
    pub fn total(&self, counter: impl Fn(&Stats) -> u64) -> u64 {
        (0..self.hosts.len()).flat_map(|host| self.stats(host)).map(|stats| counter(&stats)).sum()
    }

    /// When the next thing happens, in ns, if nothing is sent before; `None`: nothing will.
    pub fn next_ns(&mut self) -> Option<u64> {
        self.attend();
        self.calendar.next_ns()
    }

    /// Lets time pass until `until_ns`.
    pub fn run_until(&mut self, until_ns: u64) {
        self.attend();
        while self.calendar.next_ns().is_some_and(|at_ns| at_ns <= until_ns) && !self.is_exhausted()
        {
            self.step();
        }
        self.now_ns = self.now_ns.max(until_ns);
        self.attend();
    }

    /// Lets time pass until every call has ended, at most until `limit_ns`; says whether they have.
    pub fn run_calls(&mut self, limit_ns: u64) -> bool {
        self.attend();
        while self.ledger.open > 0 {
            let next_ns = self.calendar.next_ns();
            if next_ns.is_none_or(|at_ns| at_ns > limit_ns) || self.is_exhausted() {
                return false;
            }
            self.step();
        }
        true
    }

    /// Lets time pass until nothing may be remembered any more, and lists what is remembered all
    /// the same.
    pub fn leftovers(&mut self) -> Vec<String> {
        let left = self.left_after(1);
        if left.is_empty() {
            return left;
        }
        // A client that is alive and does not take a response is borne with for twelve silences,
        // and for longer after a pause.
        self.left_after(13)
    }

    /// State left over after `silences` times [`responses.silence`](Config::responses) and all
    /// other timeouts.
    fn left_after(&mut self, silences: u32) -> Vec<String> {
        let longest = |config: &Config| {
            config.responses.silence * silences
                + 3 * config.recovery.finished_memory
                + 2 * config.recovery.timeout
                + Duration::from_secs(1)
        };
        let wait =
            self.hosts.iter().map(|host| longest(&host.plan.config)).max().unwrap_or_default();
        // A late duplicate may begin a service of its own.
        let spike_ns = self.links.values().map(|link| link.spike_ns).max().unwrap_or(0);
        let late_ns = self.faults.late_ns.max(spike_ns) + self.longest_pause_ns;
        let last_ns = self.now_ns.max(self.healed_ns()) + late_ns + FORGETFUL_NS;
        let end_ns = last_ns + wait.as_nanos() as u64;
        self.run_until(end_ns);
        for host in 0..self.hosts.len() {
            self.turn(host);
        }
        self.hosts.iter().enumerate().flat_map(|(index, host)| host.leftovers(index)).collect()
    }

    /// When the last partition heals and the last paused host goes on.
    fn healed_ns(&self) -> u64 {
        let partitions = self.partitions.iter().map(|partition| partition.end_ns);
        let pauses = self.hosts.iter().map(|host| host.paused_until_ns);
        partitions.chain(pauses).max().unwrap_or(0)
    }

    /// Panics if the world does not take the turns of a host: it could not stop them either.
    fn assert_turned(&self, host: usize) {
        let Host { listens, attached, .. } = &self.hosts[host];
        assert!(!listens && attached.is_none(), "host {host} has no engine that the world turns");
    }

    fn schedule(&mut self, at_ns: u64, what: Happening) {
        self.calendar.add(at_ns.max(self.now_ns), what);
    }

    fn step(&mut self) {
        let Some((at_ns, what)) = self.calendar.take() else {
            return;
        };
        self.now_ns = at_ns;
        self.steps += 1;
        match what {
            Happening::Wake(host) if self.hosts[host].wake_ns == Some(at_ns) => {
                self.hosts[host].wake_ns = None;
                self.turn(host);
            }
            Happening::Wake(_) => {}
            Happening::AtPort(host, packet) => self.at_port(host, packet),
            Happening::PortFree(host) => self.port_free(host),
            Happening::Tell(host, notice) => {
                if self.hosts[host].with_driver(|driver| driver.notices.push_back(notice)) {
                    self.wake(host, self.now_ns);
                }
            }
            Happening::Start(call) => self.start(call),
            Happening::Perform { host, life, task } => self.perform(host, life, task),
            Happening::Stop(host) => self.stop(host),
            // Of two restarts that overlap the first one that is over counts.
            Happening::Boot(host) if self.hosts[host].shard.is_some() => {}
            Happening::Boot(host) => self.boot(host),
            Happening::Mtu(change) => self.apply_mtu(change),
            Happening::Close(host) => self.close_now(host),
            Happening::Drain(host) => self.drain_now(host),
            Happening::Pause(host, until_ns) => self.pause(host, until_ns),
        }
    }
}
