//! What one call costs in user space: two endpoints in one thread, so that every count of it is the
//! same in each run. With counters: `perf stat -e instructions:u,instructions:k cargo bench -p
//! homa-transport --bench call_costs` and for a profile of user space `valgrind --tool=callgrind`
//! on the program that is built. The number of calls may be given.

use std::time::Instant;

use homa_transport::Endpoint;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let calls = number_or(100_000, 100);
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
    let each = begin.elapsed() / calls.max(1);
    println!("{calls} calls of 100 bytes, {each:?} each for both sides together");
    Ok(())
}

/// The first number among the arguments, or else so many under `cargo bench` and few in a test of
/// this.
fn number_or(many: u32, few: u32) -> u32 {
    let mut numbers = std::env::args().skip(1).flat_map(|word| word.parse());
    let is_bench = std::env::args().any(|word| word == "--bench");
    numbers.next().unwrap_or(if is_bench { many } else { few })
}
