//! Many calls at a time from one thread, without a runtime.
//!
//! Run it with `cargo run --release -p homa-transport --example many_calls`.

use std::thread;
use std::time::Instant;

use homa_transport::blocking::Endpoint;
use homa_transport::{CallError, EndpointBuilder};

const OUTSTANDING: usize = 64;
const CALLS: usize = 200_000;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let server = Endpoint::bind("127.0.0.1:0")?;
    let address = server.local_addr();
    thread::spawn(move || {
        while let Ok(Some(request)) = server.accept() {
            let answer = request.body().clone();
            let _ = request.reply(answer);
        }
    });
    let client = Endpoint::client()?;

    // A few calls: start them, then wait for each.
    let calls: Vec<_> = ["a", "b", "c"]
        .iter()
        .map(|body| client.start(address, *body))
        .collect::<Result<_, _>>()?;
    for call in calls {
        print!("{} ", call.wait()?.into_string()?);
    }
    println!();

    // Very many: a call set hands answers out as they come. Calls started between two waits travel
    // together, which is what makes this fast; the cost per call does not grow with the set.
    let mut calls = client.call_set();
    let (mut started, mut done) = (0, 0);
    let start = Instant::now();
    while started < OUTSTANDING {
        calls.start(address, [7; 100])?;
        started += 1;
    }
    while let Some((_id, answer)) = calls.wait() {
        done += usize::from(answer?.len() == 100);
        if started < CALLS {
            calls.start(address, [7; 100])?;
            started += 1;
        }
    }
    let seconds = start.elapsed().as_secs_f64();
    println!("{done} calls, {:.0} per second", done as f64 / seconds);

    // Memory is bounded: at a limit `start` waits, and `try_call` says which limit it is.
    let small = EndpointBuilder::new().outstanding_calls_max(1).client_blocking()?;
    let _first = small.try_call(address, "1")?;
    match small.try_call(address, "2") {
        Err(CallError::LimitReached { limit, .. }) => println!("limit reached: {limit}"),
        other => println!("{:?}", other.map(drop)),
    }
    Ok(())
}
