//! What one call costs in user space: two endpoints in one thread, so that every count of it is the
//! same in each run. With counters:
//! `perf stat -e instructions:u,instructions:k cargo run --release -p homa-transport --example call_costs`
//! and for a profile of user space `valgrind --tool=callgrind` on the built example. The number of
//! calls may be given.

use std::time::Instant;

use homa_transport::blocking::Endpoint;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let calls: u32 = std::env::args().nth(1).map_or(Ok(100_000), |calls| calls.parse())?;
    let server = Endpoint::builder().busy_poll(true).bind_blocking("127.0.0.1:0")?;
    let client = Endpoint::builder().busy_poll(true).client_blocking()?;
    let request = bytes::Bytes::from_static(&[7; 100]);
    let begin = Instant::now();
    for _ in 0..calls {
        let call = client.start(server.local_addr(), request.clone())?;
        let request = server.accept()?.ok_or("closed")?;
        let answer = bytes::Bytes::copy_from_slice(&request.body().to_vec());
        request.reply(answer)?;
        call.wait()?;
    }
    let each = begin.elapsed() / calls.max(1);
    println!("{calls} calls of 100 bytes, {each:?} each for both sides together");
    Ok(())
}
