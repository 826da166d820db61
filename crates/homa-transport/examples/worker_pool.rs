//! Two servers with threads as workers, which are restarted one after the other while clients call.
//! No call fails, and none is executed twice.
//!
//! Run it with `cargo run -p homa-transport --example worker_pool`.

use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use homa_transport::{CallError, Endpoint, Message};

const WORKERS: usize = 4;
const CLIENTS: usize = 4;
const ATTEMPTS: u32 = 10;

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

/// Calls the servers in turn until one executes the request, with pauses that grow.
fn call(client: &Endpoint, servers: &[SocketAddr]) -> Result<Message, CallError> {
    let mut attempt = 0;
    loop {
        let server = servers[attempt as usize % servers.len()];
        match client.call(server, "work").timeout(Duration::from_secs(5)).wait() {
            Err(error) if error.is_retryable() && attempt < ATTEMPTS => {
                thread::sleep(Duration::from_millis(1 << attempt));
                attempt += 1;
            }
            result => return result,
        }
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let mut pools = vec![Pool::start(any)?, Pool::start(any)?];
    let servers = [0, 1].map(|index: usize| pools[index].server.local_addr());

    let (stop, calls) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let client = Endpoint::client()?;
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let (client, stop, calls) = (client.clone(), Arc::clone(&stop), Arc::clone(&calls));
            thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    call(&client, &servers)?;
                    calls.fetch_add(1, Ordering::Relaxed);
                }
                Ok::<_, CallError>(())
            })
        })
        .collect();

    let mut executed = 0;
    for _restart in 0..4 {
        thread::sleep(Duration::from_millis(100));
        let oldest = pools.remove(0);
        let address = oldest.server.local_addr();
        executed += oldest.stop()?;
        pools.push(Pool::start(address)?);
    }

    stop.store(true, Ordering::Relaxed);
    for client in clients {
        client.join().map_err(|_| "a client panicked")??;
    }
    for pool in pools {
        executed += pool.stop()?;
    }
    let calls = calls.load(Ordering::Relaxed);
    println!("{calls} calls answered over 4 restarts, {executed} requests executed");
    assert_eq!(calls, executed);
    Ok(())
}
