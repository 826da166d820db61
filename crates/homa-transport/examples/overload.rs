//! A server that is offered twice as much as it can do: what it answers, and when it refuses.
//!
//! Run it with `cargo run --release -p homa-transport --example overload`; `--secs N` makes each
//! round so long, `--json` prints a line per round. Workers sleep, so that a slow machine has the
//! same capacity.

use std::collections::{HashMap, VecDeque};
use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use homa_transport::{CallError, CallErrorKind, Endpoint, Message};

const WORKERS: usize = 8;
const SERVICE_TIME: Duration = Duration::from_millis(4);
const CLIENTS: usize = 4;
/// What all workers can do, per second.
const CAPACITY: f64 = WORKERS as f64 / 0.004;
/// Calls per second, by all clients.
const OFFERED: f64 = 2.0 * CAPACITY;
const PATIENCE: Duration = Duration::from_secs(1);
/// The queue has filled then; only later calls count.
const WARM_UP: Duration = PATIENCE;

/// How clients say how long they wait.
#[derive(Clone, Copy)]
enum Deadline {
    /// Servers refuse what waits for a quarter of it.
    Told,
    /// Calls are dropped then: the server works on them in the order of arrival until that moment.
    Secret,
}

/// How calls ended, and after how long.
#[derive(Default)]
struct Outcome {
    served: Vec<Duration>,
    refused: Vec<Duration>,
    late: usize,
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let value = |name| arguments.iter().skip_while(move |word| *word != name).nth(1);
    let secs: f64 = value("--secs").map_or(Ok(2.0), |secs| secs.parse())?;
    let json = arguments.iter().any(|word| word == "--json");
    if !json {
        println!("{WORKERS} workers of {SERVICE_TIME:?}: {CAPACITY} requests per second");
        println!(
            "{CLIENTS} clients offer {OFFERED} per second for {secs} s and wait for {PATIENCE:?}"
        );
        println!("deadline  served in half of it      P50      P99  refused      P99   late");
    }
    for (name, deadline) in [("told", Deadline::Told), ("secret", Deadline::Secret)] {
        let mut outcome = run(Duration::from_secs_f64(secs), deadline)?;
        let in_time = outcome.served.iter().filter(|time| **time <= PATIENCE / 2).count();
        let share = in_time as f64 / (CAPACITY * secs);
        let [served, refused] = [&outcome.served, &outcome.refused].map(Vec::len);
        let ms = |times: &mut Vec<_>, part| quantile(times, part).as_secs_f64() * 1e3;
        let (p50, p99) = (ms(&mut outcome.served, 0.5), ms(&mut outcome.served, 0.99));
        let (refused_p99, late) = (ms(&mut outcome.refused, 0.99), outcome.late);
        if json {
            println!(
                r#"{{"deadline":"{name}","share_in_time":{share:.3},"served":{served},"served_p50_ms":{p50:.1},"served_p99_ms":{p99:.1},"refused":{refused},"refused_p99_ms":{refused_p99:.1},"late":{late}}}"#
            );
        } else {
            println!(
                "{name:<9} {:>19.0} %  {p50:>4.0} ms  {p99:>4.0} ms  {refused:>7}  {refused_p99:>4.0} ms  {late:>5}",
                share * 100.0
            );
        }
        // On a machine with much else to do it is less; with no refusals it would be next to none.
        if matches!(deadline, Deadline::Told) && share < 0.5 {
            return Err("too little is served in good time".into());
        }
    }
    Ok(())
}

/// Offers calls for so long.
fn run(time: Duration, deadline: Deadline) -> Result<Outcome, Box<dyn Error>> {
    let server = Endpoint::bind("127.0.0.1:0")?;
    let address = server.local_addr();
    let workers: Vec<JoinHandle<()>> = (0..WORKERS)
        .map(|_| {
            let server = server.clone();
            thread::spawn(move || {
                while let Ok(request) = server.accept().wait() {
                    thread::sleep(SERVICE_TIME);
                    // A client that has given up is no reason to stop.
                    let _ = request.reply("done").wait();
                }
            })
        })
        .collect();
    let clients: Vec<_> =
        (0..CLIENTS).map(|_| thread::spawn(move || offer(address, time, deadline))).collect();
    let mut all = Outcome::default();
    for client in clients {
        let outcome = client.join().map_err(|_| "a client panicked")??;
        all.served.extend(outcome.served);
        all.refused.extend(outcome.refused);
        all.late += outcome.late;
    }
    server.close().wait();
    for worker in workers {
        worker.join().map_err(|_| "a worker panicked")?;
    }
    Ok(all)
}

/// One client's share of the calls, each begun when it is due, whatever became of those before.
fn offer(address: SocketAddr, time: Duration, deadline: Deadline) -> io::Result<Outcome> {
    let client = Endpoint::client()?;
    let mut calls = client.call_set();
    let (mut outcome, mut due_by_id, mut in_order) =
        (Outcome::default(), HashMap::new(), VecDeque::new());
    let interval = Duration::from_secs_f64(CLIENTS as f64 / OFFERED);
    let begin = Instant::now();
    let mut due = begin;
    let end = begin + WARM_UP + time;
    while due < end || !calls.is_empty() {
        let now = Instant::now();
        if due < end && due <= now {
            let call = client.call(address, "work");
            let id = calls
                .add(match deadline {
                    Deadline::Told => call.deadline(due + PATIENCE),
                    Deadline::Secret => call,
                })
                .wait()?;
            due_by_id.insert(id, due);
            in_order.push_back((due, id));
            due += interval;
            continue;
        }
        while let Some((due, id)) = in_order.front().filter(|(due, _)| *due + PATIENCE <= now) {
            outcome.late += usize::from(calls.abort(*id) && *due >= begin + WARM_UP);
            in_order.pop_front();
        }
        let pause = if due < end { due - now } else { Duration::from_millis(1) };
        match calls.join_next().wait_timeout(pause) {
            None => {}
            Some(None) => thread::sleep(pause),
            Some(Some((id, ended))) => {
                let due = due_by_id.remove(&id).unwrap_or(begin);
                if due >= begin + WARM_UP {
                    outcome.add(due.elapsed(), ended)?;
                }
            }
        }
    }
    Ok(outcome)
}

impl Outcome {
    fn add(&mut self, after: Duration, ended: Result<Message, CallError>) -> Result<(), CallError> {
        match ended {
            Ok(_) => self.served.push(after),
            Err(error) => match error.kind() {
                CallErrorKind::Overloaded => self.refused.push(after),
                CallErrorKind::DeadlineExceeded { .. } => self.late += 1,
                _ => return Err(error),
            },
        }
        Ok(())
    }
}

/// The shortest time that so large a part of `times` does not exceed; zero if there are none.
fn quantile(times: &mut [Duration], part: f64) -> Duration {
    times.sort_unstable();
    let last = times.len().saturating_sub(1);
    times.get((last as f64 * part).round() as usize).copied().unwrap_or_default()
}
