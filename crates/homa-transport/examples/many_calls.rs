//! Many calls at a time from one thread.
//!
//! Run it with `cargo run --release -p homa-transport --example many_calls`.

use std::thread;
use std::time::Instant;

use homa_transport::{Endpoint, EndpointBuilder};

const OUTSTANDING: usize = 64;
const CALLS: usize = 200_000;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let server = Endpoint::bind("127.0.0.1:0")?;
    let address = server.local_addr();
    thread::spawn(move || {
        while let Ok(request) = server.accept().wait() {
            let answer = request.body().clone();
            let _ = request.reply(answer).wait();
        }
    });
    let client = Endpoint::client()?;

    // A few calls: start them, then wait for each.
    for call in ["a", "b", "c"].map(|body| client.call(address, body).start()) {
        print!("{} ", call.wait()?.into_string()?);
    }
    println!();

    // Very many: a call set hands answers out as they come. Calls added between two waits travel
    // together, which is what makes this fast; the cost per call does not grow with the set.
    let mut calls = client.call_set();
    let (mut started, mut done) = (0, 0);
    let start = Instant::now();
    while done < CALLS {
        while started < CALLS && calls.len() < OUTSTANDING {
            calls.add(client.call(address, [7; 100])).wait()?;
            started += 1;
        }
        let (_id, answer) = calls.join_next().wait().ok_or("a call is missing")?;
        done += usize::from(answer?.len() == 100);
    }
    let seconds = start.elapsed().as_secs_f64();
    println!("{done} calls, {:.0} per second", done as f64 / seconds);

    // Memory is bounded: at a limit calls wait, and `try_start` says which limit it is.
    let small = EndpointBuilder::new().outstanding_calls_max(1).client()?;
    let _first = small.call(address, "1").try_start()?;
    if let Err(error) = small.call(address, "2").try_start() {
        println!("{error}");
    }
    Ok(())
}
