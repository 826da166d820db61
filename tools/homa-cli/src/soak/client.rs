//! The client: calls the servers all the time, checks every answer, and notes how each call ended.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc::{self, Receiver},
    },
    thread,
    time::{Duration, Instant},
};

use foldhash::fast::FixedState;
use homa_bench::{rng::Rng, workload::Workload};
use homa_transport::{BindError, Call, CallError, CallErrorKind, CallId, Endpoint, Message};
use serde::{Deserialize, Serialize};

use super::{
    actor::{self, Actor, Command, Identity},
    journal::{Event, Journal, Way},
    message::{HOLD, Order},
};
use crate::error::CliError;

/// What a client process does.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Job {
    pub who: Identity,
    pub way: Way,
    /// The port it calls from; zero lets the system choose.
    pub port: u16,
    /// The addresses of all servers.
    pub servers: Vec<SocketAddr>,
    /// Calls per second; zero makes none but bursts.
    pub rate: f64,
    /// Lengths of requests and answers.
    pub workload: String,
    pub seed: u64,
}

/// After this time a client is at work, with all the threads and descriptors that it needs.
const SETTLED: Duration = Duration::from_millis(1_500);

/// The longest time without a look at orders and calls to give up.
const TICK: Duration = Duration::from_millis(20);

/// A client that was stopped does not make up for more than this.
const BEHIND_MAX: Duration = Duration::from_secs(1);

/// The number of a client's call says who made it, in which life, and counts: 8, 16 and 40 bits.
pub(super) fn first_call(client: usize, life: u64) -> u64 {
    (client as u64 & 0xff) << 56 | (life & 0xffff) << 40
}

/// The client and the life that a call belongs to.
pub(super) fn caller(call: u64) -> (usize, u64) {
    ((call >> 56) as usize, call >> 40 & 0xffff)
}

/// The hidden command.
pub(crate) fn run(job: &str) -> Result<(), CliError> {
    let job: Job = actor::job(job)?;
    let actor = Actor::begin(&job.who)?;
    let source = Source::new(&job)?;
    let endpoint = open(&actor, &job)
        .map_err(|error| CliError::Transport(format!("client {}: {error}", job.who.number)))?;
    actor.journal.note(Event::Ready(vec![(job.way, endpoint.local_addr())]));
    let (orders, received) = mpsc::channel();
    let caller = Caller { source, journal: Arc::clone(&actor.journal), orders: received };
    let (calling, tokio) = (endpoint.clone(), job.who.tokio);
    let calls = thread::Builder::new().name("calls".into()).spawn(move || match tokio {
        true => caller.call_from_tasks(&calling),
        false => caller.call_from_a_thread(&calling),
    });
    let calls = calls.map_err(|error| CliError::io("thread", &error))?;
    let server = job.servers.first().copied().unwrap_or(endpoint.local_addr());
    let mut settled = Some(Instant::now() + SETTLED);
    loop {
        let until = settled.unwrap_or_else(|| Instant::now() + Duration::from_secs(3_600));
        match actor.next(until) {
            None if settled.take().is_some() => actor.note_usual(),
            None => {}
            Some(command @ (Command::Fork | Command::Descriptors { .. })) => {
                actor.try_out(command, &endpoint, server);
            }
            Some(command) => {
                // Whoever calls lives until it is told to finish.
                let _ = orders.send(command);
                if command == Command::Finish {
                    break;
                }
            }
        }
    }
    if calls.join().is_err() {
        return Err(CliError::Process("the thread that calls panicked".to_owned()));
    }
    actor.note_quiet(&[endpoint]);
    Ok(())
}

/// With a port of its own a client can take the same one in its next life; only endpoints that
/// serve can ask for one, and nobody calls this one.
fn open(actor: &Actor, job: &Job) -> Result<Endpoint, BindError> {
    let builder = actor.builder(job.way).outstanding_calls_max(1 << 17);
    match job.way {
        Way::Udp => builder.bind((job.who.ip, job.port)),
        Way::Ip => builder.client(),
    }
}

/// Makes up calls.
#[derive(Debug)]
struct Source {
    next: u64,
    servers: Vec<SocketAddr>,
    workload: Workload,
    rng: Rng,
    interval: Option<Duration>,
    due: Instant,
}

/// A call that is to be made.
#[derive(Debug)]
struct Planned {
    order: Order,
    server: usize,
    request_bytes: usize,
    timeout: Option<Duration>,
    give_up_after: Option<Duration>,
}

impl Source {
    fn new(job: &Job) -> Result<Self, CliError> {
        Ok(Source {
            next: first_call(job.who.number, job.who.life),
            servers: job.servers.clone(),
            workload: Workload::load(&job.workload)?.capped(ANSWER_BYTES_MAX),
            rng: Rng::new(job.seed),
            interval: (job.rate > 0.0).then(|| Duration::from_secs_f64(1.0 / job.rate)),
            due: Instant::now(),
        })
    }

    /// Whether a call is due, which then counts as made.
    fn is_due(&mut self, now: Instant) -> bool {
        let Some(interval) = self.interval else { return false };
        if self.due > now {
            return false;
        }
        self.due = self.due.max(now.checked_sub(BEHIND_MAX).unwrap_or(now)) + interval;
        true
    }

    /// How long there is nothing to begin.
    fn idle(&self, now: Instant) -> Duration {
        match self.interval {
            Some(_) => self.due.saturating_duration_since(now).min(TICK),
            None => TICK,
        }
    }

    fn below(&mut self, end: f64) -> f64 {
        self.rng.uniform() * end
    }

    /// A call like those of a service: most are answered at once, some after a while; half have a
    /// deadline, and some clients do not wait.
    fn call(&mut self) -> Planned {
        let server = self.below(self.servers.len() as f64) as usize;
        let work_ms = match self.below(1.0) {
            ..0.85 => 0.0,
            ..0.95 => self.below(200.0),
            _ => 1_000.0 + self.below(2_000.0),
        };
        let deadline_s = self.below(20.0);
        let give_up_s = self.below(10.0);
        let answer_bytes = self.workload.sample(&mut self.rng) as u32;
        let request_bytes = self.workload.sample(&mut self.rng) as usize;
        self.next += 1;
        Planned {
            order: Order { call: self.next, answer_bytes, work_ms: work_ms as u32 },
            server,
            request_bytes,
            timeout: (deadline_s < 10.0).then(|| Duration::from_secs_f64(deadline_s.max(0.05))),
            give_up_after: (give_up_s < 0.5).then(|| Duration::from_secs_f64(give_up_s)),
        }
    }

    /// A small call to the first server, answered when that is told to.
    fn held_call(&mut self) -> Planned {
        self.next += 1;
        Planned {
            order: Order { call: self.next, answer_bytes: 100, work_ms: HOLD },
            server: 0,
            request_bytes: 100,
            timeout: None,
            give_up_after: None,
        }
    }
}

impl Planned {
    /// The call, not begun yet.
    fn call(&self, endpoint: &Endpoint, servers: &[SocketAddr]) -> Result<Call, CallError> {
        // A plan names servers of the job.
        let server = servers.get(self.server).ok_or(CallErrorKind::BadAddress)?;
        let call = endpoint.call(server, self.order.request(self.request_bytes));
        Ok(match self.timeout {
            Some(timeout) => call.timeout(timeout),
            None => call,
        })
    }
}

/// The longest message of a run, in bytes: what endpoints take without being told.
const ANSWER_BYTES_MAX: u64 = 1_000_000;

/// A call under way: however it ends, that is noted once.
#[derive(Debug)]
struct UnderWay {
    order: Order,
    journal: Arc<Journal>,
    over: bool,
    count: Option<Arc<AtomicUsize>>,
}

impl UnderWay {
    fn begin(planned: &Planned, journal: &Arc<Journal>) -> Self {
        journal.note(Event::Began(planned.order.call, planned.server));
        UnderWay { order: planned.order, journal: Arc::clone(journal), over: false, count: None }
    }

    fn end(mut self, result: Result<Message, CallError>) {
        self.over = true;
        let call = self.order.call;
        self.journal.note(match result {
            Ok(answer) => match self.order.read_answer(&answer.into_bytes()) {
                Ok(life) => Event::Answered(call, life),
                Err(wrong) => Event::Wrong(call, wrong),
            },
            Err(error) => Event::Failed(call, kind(&error), !error.may_have_executed()),
        });
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        if !self.over {
            self.journal.note(Event::Dropped(self.order.call));
        }
        if let Some(count) = &self.count {
            count.fetch_sub(1, Ordering::Release);
        }
    }
}

/// What ended a call, by the name of its kind alone.
fn kind(error: &CallError) -> String {
    let text = format!("{:?}", error.kind());
    text.split([' ', '{', '(']).next().unwrap_or_default().to_owned()
}

/// Makes the calls of a client, until it is told to finish and the last has ended.
struct Caller {
    source: Source,
    journal: Arc<Journal>,
    orders: Receiver<Command>,
}

impl Caller {
    fn call_from_a_thread(mut self, endpoint: &Endpoint) {
        let mut calls = endpoint.call_set();
        let mut under_way: HashMap<CallId, (UnderWay, Option<Instant>), FixedState> =
            HashMap::default();
        let mut finishing = false;
        while !(finishing && under_way.is_empty()) {
            let now = Instant::now();
            let mut planned = Vec::new();
            match self.orders.try_recv() {
                Ok(Command::Finish) => finishing = true,
                Ok(Command::Burst { calls }) => {
                    planned.extend((0..calls).map(|_| self.source.held_call()));
                }
                _ => {}
            }
            while !finishing && self.source.is_due(now) {
                planned.push(self.source.call());
            }
            for call in planned {
                let begun = UnderWay::begin(&call, &self.journal);
                let added = call.call(endpoint, &self.source.servers);
                match added.and_then(|call| calls.add(call).wait()) {
                    Ok(id) => {
                        let give_up = call.give_up_after.map(|after| now + after);
                        drop(under_way.insert(id, (begun, give_up)));
                    }
                    Err(error) => begun.end(Err(error)),
                }
            }
            let gone = |(_, (_, at)): &(&CallId, &(UnderWay, Option<Instant>))| {
                at.is_some_and(|at| at <= now)
            };
            let given_up: Vec<CallId> = under_way.iter().filter(gone).map(|(id, _)| *id).collect();
            for id in given_up {
                // An answer that is there already is not given up.
                if calls.abort(id) {
                    under_way.remove(&id);
                }
            }
            match calls.is_empty() {
                true => thread::sleep(self.source.idle(now)),
                false => {
                    let mut next = calls.join_next().wait_timeout(self.source.idle(now));
                    while let Some(Some((id, result))) = next {
                        if let Some((call, _)) = under_way.remove(&id) {
                            call.end(result);
                        }
                        next = calls.join_next().try_wait();
                    }
                }
            }
        }
    }

    /// Each call is a task. On an order the runtime ends with all its tasks, and another goes on.
    fn call_from_tasks(mut self, endpoint: &Endpoint) {
        for number in 0.. {
            let runtime = match actor::runtime(number) {
                Ok(runtime) => runtime,
                Err(error) => return eprintln!("homa: {error}"),
            };
            if runtime.block_on(self.spawn_calls(endpoint)) == Command::Finish {
                return;
            }
        }
    }

    /// Returns why no further calls are begun: told to finish, or to end the runtime.
    async fn spawn_calls(&mut self, endpoint: &Endpoint) -> Command {
        let count = Arc::new(AtomicUsize::new(0));
        let mut finishing = false;
        while !(finishing && count.load(Ordering::Acquire) == 0) {
            let now = Instant::now();
            let mut planned = Vec::new();
            match self.orders.try_recv() {
                Ok(Command::Finish) => finishing = true,
                Ok(Command::Runtime) => return Command::Runtime,
                Ok(Command::Burst { calls }) => {
                    planned.extend((0..calls).map(|_| self.source.held_call()));
                }
                _ => {}
            }
            while !finishing && self.source.is_due(now) {
                planned.push(self.source.call());
            }
            for call in planned {
                let mut begun = UnderWay::begin(&call, &self.journal);
                count.fetch_add(1, Ordering::Relaxed);
                begun.count = Some(Arc::clone(&count));
                let Ok(answer) = call.call(endpoint, &self.source.servers) else { continue };
                drop(tokio::spawn(async move {
                    match call.give_up_after {
                        None => begun.end(answer.await),
                        Some(after) => {
                            if let Ok(result) = tokio::time::timeout(after, answer).await {
                                begun.end(result);
                            }
                        }
                    }
                }));
            }
            tokio::time::sleep(self.source.idle(now)).await;
        }
        Command::Finish
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_a_call_names_its_client_and_life() {
        let call = first_call(3, 77) + 12_345;
        assert_eq!(caller(call), (3, 77));
        assert_eq!(caller(first_call(255, 0xffff)), (255, 0xffff));
    }

    #[test]
    fn a_reason_is_counted_without_the_address() {
        assert_eq!(kind(&CallErrorKind::Closed.into()), "Closed");
    }
}
