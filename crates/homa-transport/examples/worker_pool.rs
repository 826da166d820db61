//! Two servers with threads as workers, which are restarted one after the other while clients call.
//! Calls that were not executed are made again, and none is executed twice. A request that was on
//! its way when its server's socket closed may have been executed for all its client knows: that
//! happens on busy machines.
//!
//! Run it with `cargo run -p homa-transport --example worker_pool`.

use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use homa_transport::{CallError, Endpoint};

const WORKERS: usize = 4;
const CLIENTS: usize = 16;
const RETRIES_MAX: usize = 10;
const RESTARTS: usize = 4;

/// How calls ended.
#[derive(Debug, Default)]
struct Counts {
    answered: usize,
    /// Calls that were made again, since they were not executed.
    retries: usize,
    /// Calls without an answer that may have been executed.
    unknown: usize,
}

/// A server and its workers.
struct Pool {
    server: Endpoint,
    workers: Vec<JoinHandle<usize>>,
}

impl Pool {
    fn start(address: SocketAddr) -> Result<Self, Box<dyn Error>> {
        let server = Endpoint::bind(address)?;
        let workers = (0..WORKERS).map(|_| {
            thread::spawn({
                let server = server.clone();
                move || work(&server)
            })
        });
        Ok(Self { workers: workers.collect(), server })
    }

    /// Answers what was accepted, sends the rest away, and gives the number of requests executed.
    fn stop(self) -> Result<usize, Box<dyn Error>> {
        let unanswered = self.server.drain(Duration::from_secs(5)).wait();
        assert_eq!(unanswered, 0);
        let executed = self.workers.into_iter().map(JoinHandle::join);
        executed.sum::<Result<_, _>>().map_err(|_| "a worker panicked".into())
    }
}

/// Works on requests until the server drains.
fn work(server: &Endpoint) -> usize {
    let mut executed = 0;
    while let Ok(request) = server.accept().wait() {
        thread::sleep(Duration::from_millis(1));
        executed += 1;
        // A client that has given up is no reason to stop.
        let _ = request.reply("done").wait();
    }
    executed
}

/// Calls the servers in turn, beginning with that of number `first`, until one executes the
/// request, with pauses that grow; says how often it had to call again.
fn call(client: &Endpoint, servers: &[SocketAddr], first: usize) -> Result<usize, CallError> {
    let mut retries = 0;
    loop {
        let server = servers[(first + retries) % servers.len()];
        match client.call(server, "work").timeout(Duration::from_secs(5)).wait() {
            Ok(_) => return Ok(retries),
            Err(error) if error.is_retryable() && retries < RETRIES_MAX => {
                thread::sleep(Duration::from_millis(1 << retries));
                retries += 1;
            }
            Err(error) => return Err(error),
        }
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let mut pools = vec![Pool::start(any)?, Pool::start(any)?];
    let servers = [0, 1].map(|index: usize| pools[index].server.local_addr());

    let (client, stop) = (Endpoint::client()?, Arc::new(AtomicBool::new(false)));
    let clients = (0..CLIENTS).map(|number| {
        let (client, stop) = (client.clone(), Arc::clone(&stop));
        thread::spawn(move || {
            let mut counts = Counts::default();
            while !stop.load(Ordering::Relaxed) {
                match call(&client, &servers, number + counts.answered) {
                    Ok(retries) => {
                        counts.answered += 1;
                        counts.retries += retries;
                    }
                    Err(error) if error.may_have_executed() => counts.unknown += 1,
                    Err(error) => return Err(error),
                }
            }
            Ok(counts)
        })
    });
    let clients: Vec<_> = clients.collect();

    let mut executed = 0;
    for _restart in 0..RESTARTS {
        thread::sleep(Duration::from_millis(100));
        let oldest = pools.remove(0);
        let address = oldest.server.local_addr();
        executed += oldest.stop()?;
        pools.push(Pool::start(address)?);
    }

    stop.store(true, Ordering::Relaxed);
    let mut all = Counts::default();
    for client in clients {
        let counts = client.join().map_err(|_| "a client panicked")??;
        all.answered += counts.answered;
        all.retries += counts.retries;
        all.unknown += counts.unknown;
    }
    for pool in pools {
        executed += pool.stop()?;
    }
    println!("{RESTARTS} restarts, {all:?}, executed {executed}");
    assert!((all.answered..=all.answered + all.unknown).contains(&executed));
    Ok(())
}
