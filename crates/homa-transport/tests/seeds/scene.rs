//! A plan is carried out: hosts, their endpoints and tasks, turned and polled in an order that the
//! seed chooses.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use homa_transport::{Config, Drive, Endpoint, EndpointBuilder};
use homa_virtual::{AttachedDriver, Dice, HostPlan, LinkPlan, Partition, PortPlan, World};

use super::executor::{Executor, Habits, Kind, VirtualClock};
use super::ledger::{Ledger, Life, Violation};
use super::plan::{Action, Link, Plan, SECOND, Settings, What};
use super::users::Users;

/// Steps of a world, and of a moment, that never come to rest.
const STEPS_MAX: u64 = 3_000_000;
const STEPS_OF_A_MOMENT_MAX: u64 = 50_000;
/// Time for everything that was begun to end, after the last action.
const END_NS: u64 = 120 * SECOND;
/// Acceptors are patient so long after the last action.
const PATIENT_NS: u64 = 20_000_000;
/// Silence after which a server gives an unacknowledged response up.
const SILENCE: Duration = Duration::from_secs(2);

/// What a world has shown.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) violations: Vec<Violation>,
    pub(crate) digest: u64,
    pub(crate) counts: std::collections::BTreeMap<String, u64>,
}

/// A host with its present endpoint.
struct Place {
    life: Life,
    settings: Settings,
    driver: AttachedDriver,
    /// `None`: its process has ended.
    drive: Option<Drive>,
    /// `None`: all handles were dropped, but those of calls and requests.
    endpoint: Option<Endpoint>,
    /// When the next turn is due, in ns.
    due_ns: Option<u64>,
    /// Something was asked of it since its last turn.
    is_touched: bool,
    paused_until_ns: u64,
}

struct Scene {
    plan: Plan,
    dice: Dice,
    clock: VirtualClock,
    world: World,
    places: Vec<Place>,
    executor: Executor,
    users: Users,
    /// The next action to happen.
    next: usize,
    steps: u64,
    steps_of_moment: u64,
}

/// What to do next.
enum Step {
    Poll(u64),
    Turn(usize),
}

/// Carries a plan out.
pub(crate) fn play(plan: &Plan, shows: bool) -> Outcome {
    let mut scene = Scene::new(plan, shows);
    scene.world.show_packets = shows;
    scene.play();
    let Scene { world, users, .. } = scene;
    let mut ledger = users.ledger.borrow_mut();
    let of_world = world.ledger.violations.iter().map(|text| ("world", text));
    let of_auditor = world.auditor.violations.iter().map(|text| ("auditor", text));
    let all: Vec<_> = of_world.chain(of_auditor).collect();
    for (kind, text) in all {
        ledger.violation(kind, text.clone());
    }
    Outcome {
        violations: std::mem::take(&mut ledger.violations),
        digest: ledger.digest() ^ world.digest().rotate_left(1),
        counts: std::mem::take(&mut ledger.counts),
    }
}

fn builder_of(settings: &Settings, link: &Link, seed: u64) -> EndpointBuilder {
    let config = Config::default().with(|config| {
        config.recovery.quiet_time = link.packet_life();
        config.recovery.timeout = Duration::from_nanos(settings.timeout_ns);
        config.responses.silence = SILENCE;
    });
    let mut builder = EndpointBuilder::new()
        .config(config)
        .max_message_bytes(settings.message_max)
        .outstanding_calls_max(settings.calls_max)
        .outstanding_bytes_max(settings.bytes_max)
        .accept_queue_max(settings.queue_max)
        .streaming_requests(settings.streams)
        .linger(Duration::from_nanos(settings.linger_ns))
        .seed(seed);
    if let Some(queue_time_ns) = settings.queue_time_ns {
        builder = builder.queue_time_max(Duration::from_nanos(queue_time_ns));
    }
    builder
}

impl Scene {
    fn new(plan: &Plan, shows: bool) -> Self {
        let clock = VirtualClock::default();
        let mut world = World::new(plan.seed);
        let link = plan.link;
        world.default_link = LinkPlan {
            delay_ns: link.delay_ns,
            jitter_ns: link.jitter_ns,
            loss_ppm: link.loss_ppm,
            duplicate_ppm: link.duplicate_ppm,
            spike_ppm: link.spike_ppm,
            spike_ns: link.spike_ns,
            ..LinkPlan::default()
        };
        let habits =
            Habits { spurious_one_in: plan.spurious_one_in, moved_one_in: plan.moved_one_in };
        let executor = Executor::new(clock.clone(), habits);
        let ledger = Rc::new(RefCell::new(Ledger::new(plan, shows)));
        let impatient_ns = plan.age_ns..plan.age_ns + plan.last_ns() + PATIENT_NS;
        let users = Users { spawner: executor.spawner().clone(), ledger, impatient_ns };
        let mut scene = Self {
            plan: plan.clone(),
            dice: Dice::new(plan.seed ^ 0x6469_6365),
            clock,
            world,
            places: Vec::new(),
            executor,
            users,
            next: 0,
            steps: 0,
            steps_of_moment: 0,
        };
        for (host, settings) in plan.hosts.iter().enumerate() {
            let mut host_plan = HostPlan::new(host as u8 + 1);
            host_plan.config.recovery.timeout = Duration::from_nanos(settings.timeout_ns);
            host_plan.config.responses.silence = SILENCE;
            host_plan.uplink_mbps = link.line_mbps;
            host_plan.port = PortPlan { mbps: link.line_mbps, ..PortPlan::default() };
            let (_, driver) = scene.world.attach(host_plan);
            let life = Life { host, number: 0 };
            scene.places.push(Place {
                life,
                settings: *settings,
                driver,
                drive: None,
                endpoint: None,
                due_ns: None,
                is_touched: true,
                paused_until_ns: 0,
            });
            scene.open(host);
        }
        scene
    }

    fn now_ns(&self) -> u64 {
        self.world.now_ns()
    }

    fn violation(&self, kind: &'static str, text: String) {
        self.users.ledger.borrow_mut().violation(kind, text);
    }

    /// Opens an endpoint at a place, and lets tasks accept.
    fn open(&mut self, host: usize) {
        let (seed, began_ns) = (self.dice.roll(), self.now_ns());
        let place = &mut self.places[host];
        self.users.ledger.borrow_mut().life(place.life).began_ns = began_ns;
        let builder = builder_of(&place.settings, &self.plan.link, seed);
        let (driver, serves) = (place.driver.clone(), place.settings.serves);
        let (endpoint, drive) =
            builder.on_driver(driver, self.clock.clone(), serves).expect("the settings are valid");
        (place.due_ns, place.is_touched) = (None, true);
        place.drive = Some(drive);
        if serves {
            for number in 0..place.settings.acceptors {
                let (users, endpoint) = (self.users.clone(), endpoint.clone());
                let (life, settings) = (place.life, place.settings);
                let name = format!("acceptor {number} of {life:?}");
                let work = async move { users.accept(life, endpoint, settings).await };
                self.users.spawner.spawn(host, Kind::Accept, name, work);
            }
        }
        place.endpoint = Some(endpoint);
    }

    /// Ends the process of a host.
    fn end(&mut self, host: usize, without_a_word: bool) {
        let now_ns = self.now_ns();
        let life = self.places[host].life;
        self.users.ledger.borrow_mut().end_of_life(life, now_ns);
        if without_a_word {
            self.world.detach(host);
        }
        // Nothing is asked of tasks that were not polled yet.
        self.executor.gather();
        let endpoint_first = self.dice.below(2) == 0;
        if endpoint_first {
            self.places[host].endpoint = None;
        }
        self.executor.end(&mut self.dice, |of, _| of == host);
        self.places[host].endpoint = None;
        if !without_a_word {
            self.world.detach(host);
        }
        self.places[host].drive = None;
    }

    fn act(&mut self, action: Action) {
        let Action { host, what, .. } = action;
        let now_ns = self.now_ns();
        let place = &mut self.places[host];
        let life = place.life;
        place.is_touched = true;
        let name = |what: &str| format!("{what} at {life:?}");
        let (users, endpoint) = (self.users.clone(), place.endpoint.clone());
        let spawner = users.spawner.clone();
        let Some(endpoint) = endpoint else {
            if matches!(what, What::Begin) {
                self.begin_again(host);
            }
            return;
        };
        match what {
            What::Call(plan) => {
                let name = name(&format!("call {}", plan.number));
                let work = async move { users.call(life, endpoint, plan).await };
                spawner.spawn(host, Kind::Call, name, work);
            }
            What::Set(plan) => {
                let work = async move { users.set(life, endpoint, plan).await };
                spawner.spawn(host, Kind::Call, name("set"), work);
            }
            What::StopAccepting => {
                users.ledger.borrow_mut().stops(life, false, now_ns);
                endpoint.stop_accepting();
            }
            What::WaitIdle => {
                let work = async move { endpoint.wait_idle().await };
                spawner.spawn(host, Kind::Shutdown, name("waiting for idleness"), work);
            }
            What::Drain { within_ns } => self.drain(host, Some(within_ns)),
            What::Close => self.drain(host, None),
            What::DropHandles => {
                users.ledger.borrow_mut().stops(life, true, now_ns);
                self.executor.gather();
                // Requests that nobody accepts any more would wait as long as it is held.
                if self.executor.works(host) {
                    endpoint.stop_accepting();
                }
                drop(endpoint);
                place.endpoint = None;
                let accepts = |of, kind| of == host && kind == Kind::Accept;
                self.executor.end(&mut self.dice, accepts);
            }
            What::Crash => {
                drop(endpoint);
                self.end(host, true);
            }
            What::Begin => {
                drop(endpoint);
                self.begin_again(host);
            }
            What::Pause { for_ns } => place.paused_until_ns = now_ns + for_ns,
            What::CutOff { for_ns } => {
                let end_ns = now_ns + for_ns;
                for (from, to) in [(vec![host], vec![]), (vec![], vec![host])] {
                    self.world.partition(Partition { from, to, start_ns: now_ns, end_ns });
                }
            }
        }
    }

    fn drain(&mut self, host: usize, within_ns: Option<u64>) {
        let place = &self.places[host];
        let Some(endpoint) = place.endpoint.clone() else { return };
        let (life, linger_ns, users) = (place.life, place.settings.linger_ns, self.users.clone());
        let name = format!("draining {life:?} within {within_ns:?}");
        let spawner = users.spawner.clone();
        spawner.spawn(host, Kind::Shutdown, name, async move {
            users.drain(life, endpoint, within_ns, linger_ns).await;
        });
    }

    /// A new process at the address of a host.
    fn begin_again(&mut self, host: usize) {
        if self.places[host].drive.is_some() {
            self.end(host, false);
        }
        let driver = self.world.attach_again(host);
        let place = &mut self.places[host];
        place.driver = driver;
        place.life.number += 1;
        place.paused_until_ns = 0;
        self.open(host);
    }

    /// What can be done now: tasks that were woken, endpoints whose turn is due.
    fn steps(&mut self) -> Vec<Step> {
        self.executor.gather();
        let now_ns = self.now_ns();
        let runs = |host: usize| self.places[host].paused_until_ns <= now_ns;
        let polls = self.executor.ready(runs).map(Step::Poll);
        let is_due = |place: &Place| {
            place.drive.is_some()
                && (place.is_touched
                    || place.due_ns.is_some_and(|due_ns| due_ns <= now_ns)
                    || place.driver.has_received())
        };
        let turns = (0..self.places.len())
            .filter(|host| runs(*host) && is_due(&self.places[*host]))
            .map(Step::Turn);
        polls.chain(turns).collect()
    }

    fn take(&mut self, step: Step) {
        let now_ns = self.now_ns();
        match step {
            Step::Poll(task) => {
                if let Some(host) = self.executor.poll(task, &mut self.dice) {
                    self.places[host].is_touched = true;
                }
            }
            Step::Turn(host) => {
                let place = &mut self.places[host];
                place.is_touched = false;
                place.due_ns = place.drive.as_ref().and_then(Drive::turn);
                // Others may be touched by a waker only through their tasks.
                let overdue = place.due_ns.is_some_and(|due_ns| due_ns <= now_ns);
                self.steps_of_moment += u64::from(overdue);
            }
        }
    }

    /// Lets everything happen that can happen now. `false`: it does not come to rest.
    fn settle(&mut self) -> bool {
        self.steps_of_moment = 0;
        loop {
            let mut steps = self.steps();
            let now_ns = self.now_ns();
            let runs = |host: usize| self.places[host].paused_until_ns <= now_ns;
            let spurious = self.executor.spurious(&mut self.dice, runs);
            if steps.is_empty() {
                return true;
            }
            let at = self.dice.below(steps.len() as u64) as usize;
            let step = spurious.map_or_else(|| steps.swap_remove(at), Step::Poll);
            self.take(step);
            self.steps += 1;
            self.steps_of_moment += 1;
            let rests = self.steps_of_moment <= STEPS_OF_A_MOMENT_MAX && self.steps <= STEPS_MAX;
            if !rests {
                return false;
            }
        }
    }

    /// When something happens next.
    fn next_ns(&mut self) -> Option<u64> {
        let now_ns = self.now_ns();
        let of_places = self.places.iter().flat_map(|place| {
            let paused = place.paused_until_ns > now_ns;
            let until_ns = paused.then_some(place.paused_until_ns);
            let due_ns = place.drive.as_ref().and(place.due_ns).filter(|_| !paused);
            [until_ns, due_ns]
        });
        let action_ns = self.plan.actions.get(self.next).map(|action| action.at_ns);
        let others = [self.executor.next_ns(), action_ns.map(|at| at + self.plan.age_ns)];
        let earliest_ns = of_places.chain(others).flatten().filter(|at| *at > now_ns).min();
        let world_ns = self.world.next_ns();
        // A sleeper of a paused host whose time has come waits for the end of the pause.
        earliest_ns.into_iter().chain(world_ns).min()
    }

    /// Lets time pass until `until_ns`, or until `is_over` says so. `false`: it hangs.
    fn run_until(&mut self, until_ns: u64, is_over: impl Fn(&Self) -> bool) -> bool {
        loop {
            while let Some(action) = self.plan.actions.get(self.next) {
                if action.at_ns + self.plan.age_ns > self.now_ns() {
                    break;
                }
                self.next += 1;
                let action = action.clone();
                self.act(action);
            }
            if !self.settle() {
                let text = format!("{} steps, {:?}", self.steps, self.executor.pending(|_| true));
                self.violation("restless", text);
                return false;
            }
            if is_over(self) {
                return true;
            }
            let next_ns = self.next_ns().unwrap_or(u64::MAX).min(until_ns);
            if self.now_ns() >= until_ns {
                return true;
            }
            self.world.run_until(next_ns);
            self.clock.set(self.now_ns());
        }
    }

    fn play(&mut self) {
        let last_ns = self.plan.age_ns + self.plan.last_ns();
        let works = |kind| kind != Kind::Accept;
        let is_over = |scene: &Self| {
            scene.next == scene.plan.actions.len() && scene.executor.pending(works).is_empty()
        };
        if !self.run_until(last_ns + END_NS, is_over) {
            return;
        }
        for name in self.executor.pending(works) {
            self.violation("hangs", format!("{name} never ended"));
        }
        self.users.ledger.borrow_mut().close();
        // Clients that are alive and do not take a response are borne with for so long.
        let forgotten_ns = 13 * SILENCE.as_nanos() as u64 + 10 * SECOND;
        if !self.run_until(self.now_ns() + forgotten_ns, |_| false) {
            return;
        }
        // What was remembered is forgotten in a turn, whenever that is.
        self.places.iter_mut().for_each(|place| place.is_touched = true);
        let _ = self.settle();
        self.check_rest();
        (0..self.places.len()).for_each(|host| self.drain(host, None));
        let closed = |scene: &Self| scene.executor.pending(|_| true).is_empty();
        if !self.run_until(self.now_ns() + 5 * SECOND, closed) {
            return;
        }
        for name in self.executor.pending(|_| true) {
            self.violation("hangs", format!("{name}, while all endpoints were closed"));
        }
        self.check_rest();
    }

    /// Nothing is left of calls that are over.
    fn check_rest(&self) {
        for place in &self.places {
            let Some(endpoint) = &place.endpoint else { continue };
            let stats = endpoint.stats();
            let gauges = [
                ("outstanding calls", stats.outstanding_calls),
                ("outstanding bytes", stats.outstanding_bytes),
                ("unacknowledged response bytes", stats.unacknowledged_response_bytes),
                ("requests waiting", stats.requests_waiting),
                ("requests in service", stats.requests_in_service),
                ("live RPCs", stats.engine.live_rpcs),
                ("finished entries", stats.engine.finished_entries),
                ("bytes of receive memory", stats.engine.receive_memory_bytes),
                ("bytes granted and not received", stats.engine.incoming_bytes),
                ("impossible happenings", stats.engine.impossible),
            ];
            for (what, count) in gauges.into_iter().filter(|(_, count)| *count > 0) {
                self.violation("left over", format!("{count} {what} at {:?}", place.life));
            }
        }
    }
}
