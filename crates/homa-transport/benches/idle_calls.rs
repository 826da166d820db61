//! What calls cost that wait for their server, which works on all of them: the processor time of a
//! process with both ends, while nothing else happens. Arguments: how many calls, and for how many
//! seconds.

#[path = "support/arguments.rs"]
mod arguments;

use std::time::{Duration, Instant};

use homa_transport::{Endpoint, Request};

type Failed = Box<dyn std::error::Error>;

/// Processor time of all threads of this process so far, in ns (Linux's schedstat).
fn cpu_ns() -> Result<u64, Failed> {
    let mut sum_ns = 0;
    for thread in std::fs::read_dir("/proc/self/task")? {
        let stat = std::fs::read_to_string(thread?.path().join("schedstat"))?;
        sum_ns += stat.split(' ').next().unwrap_or_default().parse::<u64>()?;
    }
    Ok(sum_ns)
}

fn main() -> Result<(), Failed> {
    let usual = if arguments::is_bench() { [100_000, 20] } else { [100, 1] };
    let [calls, seconds] = arguments::numbers(usual)?;
    let builder = || Endpoint::builder().outstanding_calls_max(1 << 20);
    let server = builder().bind("127.0.0.1:0")?;
    let client = builder().client()?;
    let address = server.local_addr();
    let mut set = client.call_set();
    let mut requests: Vec<Request> = Vec::new();
    for _ in 0..calls {
        set.add(client.call(address, vec![7; 100])).wait()?;
        if set.len() % 64 == 0 {
            set.flush();
            // The accept queue has room for few.
            while let Some(request) = server.accept().try_wait() {
                requests.push(request?);
            }
        }
    }
    set.flush();
    while requests.len() < calls {
        let waited = server.accept().wait_timeout(Duration::from_secs(10));
        requests.push(waited.ok_or("a request is lost")??);
    }
    let window = Duration::from_secs(seconds as u64);
    let serving = std::thread::spawn({
        let server = server.clone();
        move || server.accept().wait_timeout(2 * window).is_some()
    });
    // What the last packets have left to do.
    assert!(set.join_next().wait_timeout(window / 2).is_none(), "nothing is answered");
    let (begin, before_ns) = (Instant::now(), cpu_ns()?);
    assert!(set.join_next().wait_timeout(window).is_none(), "nothing is answered");
    let (passed, spent_ns) = (begin.elapsed(), cpu_ns()? - before_ns);
    assert!(!serving.join().expect("no panic"), "nothing more is asked");
    let share = spent_ns as f64 / passed.as_nanos() as f64;
    println!("{calls} calls in service: {:.3} % of a core, both ends together", 100.0 * share);
    drop(requests);
    Ok(())
}
