//! Hosts, links and the passing of time.

mod network;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::hash::{Hash, Hasher};
use std::net::SocketAddr;
use std::time::Duration;

use homa_core::{
    Carriage, Config, Engine, HostBudget, Instant, Path, PortOptions, RequestOptions, RpcInfo,
    Stats,
};
use homa_wire::RpcId;

use crate::app::{App, FORGETFUL_NS, Handler, Task, request_body};
use crate::attached::AttachedDriver;
use crate::auditor::Auditor;
use crate::conduct::Conduct;
use crate::digest::Digest;
use crate::driver::{Done, Notice, Packet, RefusalRates, VirtualDriver};
use crate::ledger::{CallEnd, Ledger};
use crate::link::{LinkPlan, Partition, Port, PortPlan};
use crate::pattern::Pattern;
use crate::plan::CallPlan;
use crate::time::{engine_time, world_ns};
use crate::wrap::Dice;
use homa_io::Shard;

/// What one turn sends at most: its share, and one train more.
const TURN_BYTES_MAX: usize = (256 + 64) << 10;
/// A supplied request gets its next piece after this time.
const SUPPLY_GAP_NS: u64 = 10_000;

/// A host to be.
#[derive(Clone, Debug)]
pub struct HostPlan {
    /// Settings of its engine, in every life.
    pub config: Config,
    /// Its address; the port is also its Homa port.
    pub address: SocketAddr,
    /// How its packets travel.
    pub carriage: Carriage,
    /// After its first restart it speaks pure Linux format only, like another machine at its address.
    pub returns_as_linux: bool,
    /// Whether it keeps to the protocol.
    pub conduct: Conduct,
    /// Whether it accepts requests.
    pub serves: bool,
    /// Whether it reads requests as they arrive.
    pub stream_requests: bool,
    /// Time between news of stream bytes and reading them, in ns.
    pub read_delay_ns: u64,
    /// Receive buffer in bytes as the kernel counts them.
    pub rx_buffer_bytes: u64,
    /// Speed of its network card in 10^6 bit/s; `None`: infinitely fast.
    pub uplink_mbps: Option<u32>,
    /// Bytes the card's queue takes before the driver says "no room".
    pub tx_queue_bytes: u64,
    /// The switch port in front of it.
    pub port: PortPlan,
    /// Least time between two turns, in ns.
    pub turn_gap_ns: u64,
}

impl HostPlan {
    /// A serving host 10.0.0.`number`:4000 with the default configuration on an infinitely fast network.
    pub fn new(number: u8) -> Self {
        Self {
            config: Config::default(),
            address: SocketAddr::from(([10, 0, 0, number], 4000)),
            carriage: Carriage::Udp,
            returns_as_linux: false,
            conduct: Conduct::Honest,
            serves: true,
            stream_requests: false,
            read_delay_ns: 0,
            rx_buffer_bytes: 4 << 20,
            uplink_mbps: None,
            tx_queue_bytes: u64::MAX,
            port: PortPlan::default(),
            turn_gap_ns: 1_000,
        }
    }
}

/// A change of what paths carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MtuChange {
    /// Sending host.
    pub from: usize,
    /// Receiving host.
    pub to: usize,
    /// Longest IP packet from now on, in bytes.
    pub mtu: u32,
    /// Whether the sender's own system knows at once (it refuses longer packets).
    pub known: bool,
}

/// Something that will happen.
#[derive(Debug)]
enum Happening {
    Wake(usize),
    AtPort(usize, Packet),
    PortFree(usize),
    Tell(usize, Notice),
    Start(usize),
    Perform { host: usize, life: usize, task: Task },
    Stop(usize),
    Boot(usize),
    Mtu(MtuChange),
    Close(usize),
    Pause(usize, u64),
}

#[derive(Debug)]
struct Entry {
    at_ns: u64,
    order: u64,
    what: Happening,
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        (self.at_ns, self.order) == (other.at_ns, other.order)
    }
}
impl Eq for Entry {}
impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Entry {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at_ns, self.order).cmp(&(other.at_ns, other.order))
    }
}

#[derive(Debug)]
struct Host {
    plan: HostPlan,
    shard: Option<Shard<VirtualDriver>>,
    app: App,
    port: Port,
    wake_ns: Option<u64>,
    turned_ns: u64,
    paused_until_ns: u64,
    uplink_free_ns: u64,
    turns: u64,
    /// Counters of earlier lives.
    past: Vec<Stats>,
    rx_dropped: u64,
    refusals: RefusalRates,
    /// There is no engine: what comes is kept for whoever plays its part.
    listens: bool,
    /// The driver, where somebody else takes the turns.
    attached: Option<AttachedDriver>,
}

/// A datagram that came to an address without an engine.
#[derive(Clone, Debug)]
pub struct Heard {
    /// When, in ns.
    pub at_ns: u64,
    /// To whom.
    pub to: SocketAddr,
    /// Its level in the network.
    pub dscp: u8,
    /// From the first Homa header on.
    pub bytes: Vec<u8>,
}

/// How often something happened that only some worlds bring about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rare {
    /// Packets that were repeated much later.
    pub late_copies: u64,
    /// Packets that a host did not send, or not as they were, since it does not keep to the protocol.
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
    order: u64,
    future: BinaryHeap<Reverse<Entry>>,
    hosts: Vec<Host>,
    addresses: Vec<SocketAddr>,
    links: HashMap<(usize, usize), LinkPlan>,
    /// Plan of links that were not set.
    pub default_link: LinkPlan,
    partitions: Vec<Partition>,
    /// Chance, in a million packets sent, of a forged or damaged copy.
    pub forge_ppm: u32,
    /// Chance, in a million packets sent, of another copy much later.
    pub late_ppm: u32,
    /// How much later, in ns.
    pub late_ns: u64,
    /// Chance, in a million packets to a host that is down, that the sender is told.
    pub icmp_ppm: u32,
    /// Steps after which time stands still: a bound against engines that never come to rest.
    pub steps_max: u64,
    /// Shows every packet sent, one line each, on standard error.
    pub show_packets: bool,
    steps: u64,
    rare: Rare,
    longest_pause_ns: u64,
    dice: Dice,
    /// What became of the calls.
    pub ledger: Ledger,
    /// Who watches the links.
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
            order: 0,
            future: BinaryHeap::new(),
            hosts: Vec::new(),
            addresses: Vec::new(),
            links: HashMap::new(),
            default_link: LinkPlan::default(),
            partitions: Vec::new(),
            forge_ppm: 0,
            late_ppm: 0,
            late_ns: 0,
            icmp_ppm: 0,
            steps_max: u64::MAX,
            steps: 0,
            rare: Rare::default(),
            longest_pause_ns: 0,
            show_packets: false,
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
    /// Packets leave it when time passes. Of its plan the settings are for the auditor only.
    pub fn attach(&mut self, plan: HostPlan) -> (usize, AttachedDriver) {
        let seed = self.dice.roll();
        let driver = AttachedDriver::new(driver_of(&plan, RefusalRates::default(), seed));
        let index = self.add_place(plan);
        self.hosts[index].attached = Some(driver.clone());
        self.auditor.booted(index);
        (index, driver)
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
            rx_dropped: 0,
            refusals: RefusalRates::default(),
            listens: false,
            attached: None,
        });
        index
    }

    /// What has come since the last look to addresses without an engine.
    pub fn take_heard(&mut self) -> Vec<Heard> {
        std::mem::take(&mut self.heard)
    }

    /// Changes the way from one host to another.
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

    /// Plans a call that an address without an engine makes and returns its number: the handler answers it as planned.
    pub fn call_of_remote(&mut self, plan: CallPlan) -> usize {
        self.ledger.add(plan)
    }

    /// The process of a host ends at `at_ns` without a word and begins again `down_ns` later.
    pub fn restart(&mut self, host: usize, at_ns: u64, down_ns: u64) {
        self.schedule(at_ns, Happening::Stop(host));
        self.schedule(at_ns + down_ns, Happening::Boot(host));
    }

    /// The process of a host ends at `at_ns` for ever.
    pub fn kill(&mut self, host: usize, at_ns: u64) {
        self.schedule(at_ns, Happening::Stop(host));
    }

    /// A host closes its port at `at_ns`, telling its peers.
    pub fn close(&mut self, host: usize, at_ns: u64) {
        self.schedule(at_ns, Happening::Close(host));
    }

    /// A host is stopped from now until `until_ns`; packets wait in its receive buffer.
    pub fn pause(&mut self, host: usize, until_ns: u64) {
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

    /// A digest of every packet sent (when, by whom, to whom, its level, its bytes) and of what became of every call:
    /// a change that alters no behaviour leaves it as it is.
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

    /// What happened that happens seldom.
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
        let present = self.hosts[host]
            .shard
            .as_ref()
            .map_or(0, |shard| homa_io::driver::Driver::rx_dropped(shard.driver()));
        self.hosts[host].rx_dropped + present
    }

    /// The shard of a host that is up.
    pub fn shard(&self, host: usize) -> Option<&Shard<VirtualDriver>> {
        self.hosts[host].shard.as_ref()
    }

    /// The shard of a host that is up, to be changed between turns.
    pub fn shard_mut(&mut self, host: usize) -> Option<&mut Shard<VirtualDriver>> {
        self.hosts[host].shard.as_mut()
    }

    /// Counters of a host's engines: those of earlier lives, and the present one.
    pub fn stats(&self, host: usize) -> impl Iterator<Item = Stats> {
        let host = &self.hosts[host];
        host.past.iter().copied().chain(host.shard.as_ref().map(Shard::stats))
    }

    /// The sum of one counter over all hosts and lives.
    pub fn total(&self, counter: impl Fn(&Stats) -> u64) -> u64 {
        (0..self.hosts.len()).flat_map(|host| self.stats(host)).map(|stats| counter(&stats)).sum()
    }

    /// Lets time pass until `until_ns`.
    pub fn run_until(&mut self, until_ns: u64) {
        self.attend();
        while self.future.peek().is_some_and(|Reverse(entry)| entry.at_ns <= until_ns)
            && !self.is_exhausted()
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
            match self.future.peek() {
                Some(Reverse(entry)) if entry.at_ns <= limit_ns && !self.is_exhausted() => {
                    self.step()
                }
                _ => return false,
            }
        }
        true
    }

    /// Lets time pass until nothing may be remembered any more, and lists what is remembered all the same.
    pub fn leftovers(&mut self) -> Vec<String> {
        let left = self.left_after(1);
        if left.is_empty() {
            return left;
        }
        // A client that is alive and does not take a response is borne with for twelve silences, and for longer after a
        // pause.
        self.left_after(13)
    }

    /// What is left after so many times the silence in which responses are given up, and all else that is waited for.
    fn left_after(&mut self, silences: u32) -> Vec<String> {
        let longest = |config: &Config| {
            config.responses.silence * silences
                + 3 * config.recovery.finished_memory
                + 2 * config.recovery.timeout
                + Duration::from_secs(1)
        };
        let wait =
            self.hosts.iter().map(|host| longest(&host.plan.config)).max().unwrap_or_default();
        // A late copy may begin a service of its own.
        let spike_ns = self.links.values().map(|link| link.spike_ns).max().unwrap_or(0);
        let late_ns = self.late_ns.max(spike_ns) + self.longest_pause_ns;
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

    fn schedule(&mut self, at_ns: u64, what: Happening) {
        self.order += 1;
        let entry = Entry { at_ns: at_ns.max(self.now_ns), order: self.order, what };
        self.future.push(Reverse(entry));
    }

    fn step(&mut self) {
        let Some(Reverse(Entry { at_ns, what, .. })) = self.future.pop() else {
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
            Happening::Pause(host, until_ns) => self.pause(host, until_ns),
        }
    }

    // Hosts.

    fn boot(&mut self, host: usize) {
        let seed = self.dice.roll();
        let now = engine_time(self.now_ns);
        let entry = &mut self.hosts[host];
        let plan = &entry.plan;
        let mut config = plan.config.clone();
        config.peers.discover &= !plan.returns_as_linux || entry.past.is_empty();
        let mut engine = Engine::new(config, HostBudget::local(), seed)
            .expect("a host's configuration is valid");
        let options = if plan.serves { PortOptions::SERVE } else { PortOptions::CLIENT };
        let options = match plan.stream_requests {
            true => options.with_streaming_requests(),
            false => options,
        };
        engine.bind_port(plan.address.port(), options).expect("a new engine has no ports");
        let driver = driver_of(plan, entry.refusals, seed ^ 1);
        // The first life began long before the world did: nothing is on its way from another.
        let born = if entry.past.is_empty() { Instant::ZERO } else { now };
        engine.handle_timeout(born, false);
        entry.app = App::new(plan.read_delay_ns, entry.past.len());
        entry.shard = Some(Shard::new(engine, driver));
        self.auditor.booted(host);
        self.wake(host, self.now_ns);
    }

    fn stop(&mut self, host: usize) {
        let now_ns = self.now_ns;
        let entry = &mut self.hosts[host];
        let Some(shard) = entry.shard.take() else {
            return;
        };
        let within =
            |rpc: &RpcInfo| RpcId(rpc.id).is_server() && (1..rpc.tx_length).contains(&rpc.tx_sent);
        let interrupted = shard.engine().rpcs().any(|rpc| within(&rpc));
        self.rare.restarts_within_responses += u64::from(interrupted);
        entry.past.push(shard.stats());
        entry.rx_dropped += homa_io::driver::Driver::rx_dropped(shard.driver());
        let open: Vec<usize> = entry.app.open_calls().collect();
        for call in open {
            self.ledger.finish(call, CallEnd::HostGone, now_ns);
        }
    }

    fn close_now(&mut self, host: usize) {
        let now = engine_time(self.now_ns);
        let entry = &mut self.hosts[host];
        if let Some(shard) = &mut entry.shard {
            let port = entry.plan.address.port();
            shard.view(now).engine_mut().close_port(now, port);
            self.wake(host, self.now_ns);
        }
    }

    fn wake(&mut self, host: usize, at_ns: u64) {
        let entry = &mut self.hosts[host];
        let at_ns = at_ns
            .max(entry.turned_ns + entry.plan.turn_gap_ns)
            .max(entry.paused_until_ns)
            .max(self.now_ns);
        if entry.wake_ns.is_none_or(|before| at_ns < before) {
            entry.wake_ns = Some(at_ns);
            self.schedule(at_ns, Happening::Wake(host));
        }
    }

    /// One turn of a host, and what follows from it.
    fn turn(&mut self, host: usize) {
        let now = engine_time(self.now_ns);
        let entry = &mut self.hosts[host];
        let Some(shard) = &mut entry.shard else {
            return;
        };
        if entry.paused_until_ns > self.now_ns {
            return self.wake(host, self.now_ns);
        }
        entry.turned_ns = self.now_ns;
        entry.turns += 1;
        if let Some(mbps) = entry.plan.uplink_mbps {
            shard.driver_mut().backlog_bytes =
                backlog_bytes(entry.uplink_free_ns, self.now_ns, mbps);
            shard.writable();
        }
        shard.driver_mut().now_ns = self.now_ns;
        let mut handler = Handler {
            app: &mut entry.app,
            ledger: &mut self.ledger,
            addresses: &self.addresses,
            host,
        };
        let turn = shard.turn(now, &mut handler).expect("virtual drivers do not break");
        let done = shard.driver_mut().take_done();
        let sent = self.note(host, done);
        let sent_bytes: usize = sent.iter().map(|packet| packet.bytes.len()).sum();
        if sent_bytes > TURN_BYTES_MAX {
            self.ledger.violation(format!("{sent_bytes} B sent by host {host} in one turn"));
        }
        let more = turn.rx == homa_io::driver::RxStatus::More;
        let next_ns = if more { Some(self.now_ns) } else { turn.next.map(world_ns) };
        self.after(host, sent);
        if let Some(next_ns) = next_ns.filter(|next| *next < u64::MAX) {
            self.wake(host, next_ns);
        }
    }

    /// Puts what attached hosts sent on the network, and tells them the time.
    fn attend(&mut self) {
        for host in 0..self.hosts.len() {
            let Some(attached) = self.hosts[host].attached.clone() else {
                continue;
            };
            let done = attached.lock().take_done();
            let sent = self.note(host, done);
            self.after(host, sent);
            let (entry, mut driver) = (&self.hosts[host], attached.lock());
            driver.now_ns = self.now_ns;
            if let Some(mbps) = entry.plan.uplink_mbps {
                driver.backlog_bytes = backlog_bytes(entry.uplink_free_ns, self.now_ns, mbps);
            }
        }
    }

    /// Notes what a driver refused and complains of, and returns what it sent.
    fn note(&mut self, host: usize, done: Done) -> Vec<Packet> {
        if done.refused {
            self.auditor.refused(host);
        }
        for what in done.violations {
            self.ledger.violation(format!("{} ns: driver of host {host}: {what}", self.now_ns));
        }
        done.sent
    }

    /// Puts what a host sent on the network and its plans into the calendar.
    fn after(&mut self, host: usize, sent: Vec<Packet>) {
        for packet in sent {
            self.send(host, packet);
        }
        let life = self.hosts[host].app.life;
        for (at_ns, task) in std::mem::take(&mut self.hosts[host].app.later) {
            self.schedule(at_ns, Happening::Perform { host, life, task });
        }
    }

    // Calls.

    fn start(&mut self, call: usize) {
        let plan = self.ledger.calls[call].plan;
        let entry = &mut self.hosts[plan.client];
        if entry.paused_until_ns > self.now_ns {
            let later = entry.paused_until_ns;
            return self.schedule(later, Happening::Start(call));
        }
        let Some(shard) = &mut entry.shard else {
            return self.ledger.finish(call, CallEnd::HostGone, self.now_ns);
        };
        let now = engine_time(self.now_ns);
        let path = Path {
            remote: self.addresses[plan.server],
            local_ip: None,
            local_port: entry.plan.address.port(),
            interface: 0,
            carriage: entry.plan.carriage,
        };
        let options = RequestOptions {
            deadline: plan.deadline_ns.map(|after| now + Duration::from_nanos(after)),
            streaming_response: plan.read_as_stream,
            ..RequestOptions::default()
        };
        let mut view = shard.view(now);
        let result = match plan.request_piece_bytes {
            None => view.send_request(path, request_body(call, &plan), call as u64, options),
            Some(_) => view.send_request_streaming(path, plan.request_bytes, call as u64, options),
        };
        let rpc = match result {
            Ok(rpc) => rpc,
            Err(error) => {
                return self.ledger.finish(call, CallEnd::NotSent(error), self.now_ns);
            }
        };
        entry.app.watch_call(rpc, call, plan.request_bytes);
        if let Some(piece_bytes) = plan.request_piece_bytes {
            let pattern = Pattern::request(call as u32, plan.request_bytes);
            let supply = Task::Supply { rpc, pattern, from: 0, piece_bytes, gap_ns: SUPPLY_GAP_NS };
            entry.app.later.push((self.now_ns, supply));
        }
        if let Some(after_ns) = plan.abort_after_ns {
            entry.app.later.push((self.now_ns + after_ns, Task::Abort { call }));
        }
        self.ledger.calls[call].rpc = Some(rpc);
        self.after(plan.client, Vec::new());
        self.wake(plan.client, self.now_ns);
    }

    fn perform(&mut self, host: usize, life: usize, task: Task) {
        let entry = &mut self.hosts[host];
        let Some(shard) = entry.shard.as_mut().filter(|_| entry.app.life == life) else {
            return;
        };
        if entry.paused_until_ns > self.now_ns {
            let later = entry.paused_until_ns;
            return self.schedule(later, Happening::Perform { host, life, task });
        }
        if let Task::Abort { call } = task {
            let rpc = self.ledger.calls.get(call).and_then(|call| call.rpc);
            if let Some(rpc) = shard.engine().rpcs().find(|info| Some(info.rpc) == rpc) {
                let waits = rpc.tx_sent < rpc.tx_granted;
                self.rare.waiting_calls_aborted += u64::from(waits);
                self.rare.arriving_calls_aborted += u64::from(rpc.rx_received > 0);
            }
        }
        let mut handler = Handler {
            app: &mut entry.app,
            ledger: &mut self.ledger,
            addresses: &self.addresses,
            host,
        };
        handler.perform(task, &mut shard.view(engine_time(self.now_ns)));
        self.after(host, Vec::new());
        self.wake(host, self.now_ns);
    }
}

/// The driver of a host at the beginning of a life.
fn driver_of(plan: &HostPlan, refusals: RefusalRates, seed: u64) -> VirtualDriver {
    let mut driver = VirtualDriver::new(plan.address, plan.carriage, plan.rx_buffer_bytes, seed);
    driver.backlog_max_bytes = plan.tx_queue_bytes;
    driver.has_card = plan.uplink_mbps.is_some();
    driver.refusals = refusals;
    driver
}

/// Bytes that have not left a card of `mbps` whose line is free at `free_ns`.
fn backlog_bytes(free_ns: u64, now_ns: u64, mbps: u32) -> u64 {
    free_ns.saturating_sub(now_ns) * u64::from(mbps) / 8_000
}

impl Host {
    /// Whether there is somebody whom packets reach.
    fn is_up(&self) -> bool {
        self.shard.is_some() || self.attached.is_some()
    }

    /// Lets the driver of a host that is up be changed; `false`: it is not.
    fn with_driver(&mut self, change: impl FnOnce(&mut VirtualDriver)) -> bool {
        match (&mut self.shard, &self.attached) {
            (Some(shard), _) => change(shard.driver_mut()),
            (None, Some(attached)) => change(&mut attached.lock()),
            (None, None) => return false,
        }
        true
    }

    fn leftovers(&self, index: usize) -> Vec<String> {
        let Some(shard) = &self.shard else {
            return Vec::new();
        };
        let stats = shard.stats();
        let store = shard.store();
        [
            ("live RPCs", stats.live_rpcs),
            ("finished entries", stats.finished_entries),
            ("bytes of receive memory", stats.receive_memory_bytes),
            ("bytes granted and not received", stats.incoming_bytes),
            ("RPCs without Ended", self.app.watching() as u64),
            ("places in the store", store.live() as u64),
            ("incoming bytes in the store", store.incoming_bytes()),
            ("outgoing bytes in the store", store.outgoing_bytes()),
        ]
        .into_iter()
        .filter(|(_, count)| *count > 0)
        .map(|(what, count)| format!("host {index}: {count} {what}"))
        .collect()
    }
}
