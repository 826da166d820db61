//! What one call costs in user space: two endpoints in one thread, so that every count of it is the
//! same in each run. With counters: `perf stat -e instructions:u,instructions:k cargo bench -p
//! homa-transport --bench call_costs` and for a profile of user space `valgrind --tool=callgrind`
//! on the program that is built. The number of calls may be given.

#[path = "support/arguments.rs"]
mod arguments;

use std::time::Instant;

use homa_transport::Endpoint;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let usual = if arguments::is_bench() { 100_000 } else { 100 };
    let [calls] = arguments::numbers([usual])?;
    let server = Endpoint::builder().busy_poll(true).bind("127.0.0.1:0")?;
    let client = Endpoint::builder().busy_poll(true).client()?;
    let request = bytes::Bytes::from_static(&[7; 100]);
    let begin = Instant::now();
    for _ in 0..calls {
        let call = client.call(server.local_addr(), request.clone()).start();
        let request = server.accept().wait()?;
        let answer = bytes::Bytes::copy_from_slice(&request.body().to_vec());
        request.reply(answer).wait()?;
        call.wait()?;
    }
    let each = begin.elapsed() / u32::try_from(calls.max(1))?;
    println!("{calls} calls of 100 bytes, {each:?} each for both sides together");
    Ok(())
}
