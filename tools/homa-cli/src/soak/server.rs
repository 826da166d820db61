//! The server: notes each run of its handler before anything else, works for as long as the request
//! says, answers.

use std::{
    collections::BinaryHeap,
    net::SocketAddr,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use homa_bench::rng::Rng;
use homa_transport::{AcceptError, BindError, Endpoint, Request, Responder};
use serde::{Deserialize, Serialize};

use super::{
    actor::{self, Actor, Command, Identity},
    journal::{Event, Journal, Way},
    message::{HOLD, Order},
};
use crate::error::CliError;

/// What a server process does.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Job {
    pub who: Identity,
    /// What it serves, and at which ports; zero takes a free one.
    pub ways: Vec<(Way, u16)>,
    pub seed: u64,
}

/// Threads that accept, per endpoint.
const ACCEPTING: usize = 2;

/// As in the client.
const SETTLED: Duration = Duration::from_millis(1_500);

/// How often a task looks whether it may answer what is held.
const HOLD_LOOK: Duration = Duration::from_millis(50);

/// Ports over raw IP that can be asked for, from the first of them.
const IP_PORTS: (f64, f64) = (10_000.0, 32_000.0);

/// What answers say of who made them.
pub(super) fn life_of(server: usize, life: u64) -> u64 {
    (server as u64) << 32 | life & 0xffff_ffff
}

/// The hidden command.
pub(crate) fn run(job: &str) -> Result<(), CliError> {
    let job: Job = actor::job(job)?;
    let actor = Actor::begin(&job.who)?;
    let mut rng = Rng::new(job.seed);
    let failed = |error| CliError::Transport(format!("server {}: {error}", job.who.number));
    let endpoints: Vec<Endpoint> = job
        .ways
        .iter()
        .map(|(way, port)| open(&actor, *way, *port, &mut rng))
        .collect::<Result<_, _>>()
        .map_err(failed)?;
    let service = Arc::new(Service {
        journal: Arc::clone(&actor.journal),
        life: life_of(job.who.number, job.who.life),
        work: Mutex::default(),
        changed: Condvar::new(),
        released: AtomicU64::new(0),
    });
    let mut tasks = None;
    match job.who.tokio {
        true => tasks = Some(serve_tasks(0, &endpoints, &service)),
        false => serve_threads(&endpoints, &service),
    }
    let addresses = job.ways.iter().zip(&endpoints);
    let addresses = addresses.map(|((way, _), endpoint)| (*way, endpoint.local_addr())).collect();
    actor.journal.note(Event::Ready(addresses));
    let address = endpoints.first().map_or(SocketAddr::new(job.who.ip, 1), Endpoint::local_addr);
    let mut settled = Some(Instant::now() + SETTLED);
    let mut runtimes = 0;
    loop {
        let until = settled.unwrap_or_else(|| Instant::now() + Duration::from_secs(3_600));
        match actor.next(until) {
            None if settled.take().is_some() => actor.note_usual(),
            None | Some(Command::Burst { .. }) => {}
            Some(Command::Release) => service.release(),
            Some(Command::Runtime) => {
                if tasks.take().is_some() {
                    runtimes += 1;
                    tasks = Some(serve_tasks(runtimes, &endpoints, &service));
                }
            }
            Some(Command::Finish) => break,
            Some(command) => {
                if let Some(endpoint) = endpoints.first() {
                    actor.try_out(command, endpoint, address);
                }
            }
        }
    }
    actor.note_quiet(&endpoints);
    Ok(())
}

fn open(actor: &Actor, way: Way, port: u16, rng: &mut Rng) -> Result<Endpoint, BindError> {
    let ip = actor.identity.ip;
    if way == Way::Udp || port != 0 {
        return actor.builder(way).bind((ip, port));
    }
    // The system's own choice could not be asked for again by the next life.
    loop {
        let port = (IP_PORTS.0 + rng.uniform() * (IP_PORTS.1 - IP_PORTS.0)) as u16;
        match actor.builder(way).bind((ip, port)) {
            Err(BindError::InUse { .. }) => {}
            bound => return bound,
        }
    }
}

/// What the handlers of one server process share.
#[derive(Debug)]
struct Service {
    journal: Arc<Journal>,
    life: u64,
    work: Mutex<Work>,
    changed: Condvar,
    /// How often held requests were released.
    released: AtomicU64,
}

/// Requests in service, by threads.
#[derive(Debug, Default)]
struct Work {
    later: BinaryHeap<Later>,
    held: Vec<(Order, Responder)>,
}

/// A request that is answered when its time has come; the earliest is the greatest.
#[derive(Debug)]
struct Later {
    due: Instant,
    order: Order,
    responder: Responder,
}

impl Ord for Later {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        other.due.cmp(&self.due)
    }
}

impl PartialOrd for Later {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Later {
    fn eq(&self, other: &Self) -> bool {
        self.due == other.due
    }
}

impl Eq for Later {}

impl Service {
    fn work(&self) -> MutexGuard<'_, Work> {
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs the handler: what the request asks for, if it is as it was sent.
    fn begin(&self, request: &[u8]) -> Option<Order> {
        match Order::read(request) {
            Ok(order) => {
                self.journal.note(Event::Ran(order.call));
                Some(order)
            }
            Err(wrong) => {
                self.journal.note(Event::Wrong(0, format!("a request: {wrong}")));
                None
            }
        }
    }

    fn release(&self) {
        self.released.fetch_add(1, Ordering::Release);
        for (order, responder) in std::mem::take(&mut self.work().held) {
            self.answer(order, responder);
        }
    }

    fn answer(&self, order: Order, responder: Responder) {
        // A client that gave the call up or is gone has no answer to miss.
        let _ = responder.reply(order.answer(self.life)).wait();
    }

    fn accept(&self, endpoint: &Endpoint) {
        loop {
            let request = match endpoint.accept().wait() {
                Ok(request) => request,
                Err(AcceptError::Closed) => return,
                Err(error) => return self.broken(&error.to_string()),
            };
            let (body, responder) = request.into_parts();
            let Some(order) = self.begin(&body.into_bytes()) else { continue };
            match order.work_ms {
                0 => self.answer(order, responder),
                HOLD => self.work().held.push((order, responder)),
                ms => {
                    let due = Instant::now() + Duration::from_millis(ms.into());
                    self.work().later.push(Later { due, order, responder });
                    self.changed.notify_one();
                }
            }
        }
    }

    fn broken(&self, error: &str) {
        self.journal.note(Event::Tried("accept".to_owned(), Some(error.to_owned())));
    }

    /// Answers requests when their time has come.
    fn answer_later(&self) {
        let mut work = self.work();
        loop {
            let now = Instant::now();
            let left = work.later.peek().map(|next| next.due.saturating_duration_since(now));
            work = match left {
                None => self.changed.wait(work).unwrap_or_else(PoisonError::into_inner),
                Some(Duration::ZERO) => {
                    let next = work.later.pop();
                    drop(work);
                    if let Some(Later { order, responder, .. }) = next {
                        self.answer(order, responder);
                    }
                    self.work()
                }
                Some(left) => {
                    let waited = self.changed.wait_timeout(work, left);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }
}

fn serve_threads(endpoints: &[Endpoint], service: &Arc<Service>) {
    let answering = Arc::clone(service);
    thread::spawn(move || answering.answer_later());
    for endpoint in endpoints {
        for _ in 0..ACCEPTING {
            let (endpoint, service) = (endpoint.clone(), Arc::clone(service));
            thread::spawn(move || service.accept(&endpoint));
        }
    }
}

/// A runtime that serves; dropping it drops the handlers that are at work.
#[derive(Debug)]
struct Tasks {
    stop: Option<std::sync::mpsc::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Drop for Tasks {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // What it panicked with was printed.
            let _ = thread.join();
        }
    }
}

fn serve_tasks(number: u64, endpoints: &[Endpoint], service: &Arc<Service>) -> Tasks {
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let (endpoints, service) = (endpoints.to_vec(), Arc::clone(service));
    let thread = thread::spawn(move || {
        let runtime = match actor::runtime(number) {
            Ok(runtime) => runtime,
            Err(error) => return service.broken(&error.to_string()),
        };
        runtime.block_on(async {
            for endpoint in &endpoints {
                drop(tokio::spawn(accept_tasks(endpoint.clone(), Arc::clone(&service))));
            }
            while stopped.try_recv() != Err(std::sync::mpsc::TryRecvError::Disconnected) {
                tokio::time::sleep(HOLD_LOOK).await;
            }
        });
    });
    Tasks { stop: Some(stop), thread: Some(thread) }
}

async fn accept_tasks(endpoint: Endpoint, service: Arc<Service>) {
    loop {
        match endpoint.accept().await {
            Ok(request) => drop(tokio::spawn(handle(request, Arc::clone(&service)))),
            Err(AcceptError::Closed) => return,
            Err(error) => return service.broken(&error.to_string()),
        }
    }
}

async fn handle(request: Request, service: Arc<Service>) {
    let (body, responder) = request.into_parts();
    let Some(order) = service.begin(&body.into_bytes()) else { return };
    match order.work_ms {
        0 => {}
        HOLD => {
            let before = service.released.load(Ordering::Acquire);
            while service.released.load(Ordering::Acquire) == before {
                tokio::time::sleep(HOLD_LOOK).await;
            }
        }
        ms => tokio::time::sleep(Duration::from_millis(ms.into())).await,
    }
    // As in `Service::answer`.
    let _ = responder.reply(order.answer(service.life)).await;
}
