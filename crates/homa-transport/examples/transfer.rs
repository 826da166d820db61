//! Bodies of up to 1 GiB up and down, which are never in memory as a whole.
//!
//! Run it with `cargo run --release -p homa-transport --example transfer -- 1024`; the number is
//! MiB, 64 if there is none.

use std::error::Error;
use std::thread;
use std::time::Instant;

use homa_transport::{BodyReader, BodyWriter, Endpoint, StreamError};

const PIECE_BYTES: usize = 256 << 10;
/// Memory that a transfer of any length may take.
const PEAK_MIB_MAX: u64 = 100;

fn main() -> Result<(), Box<dyn Error>> {
    let mib: u32 = std::env::args().nth(1).map_or(Ok(64), |mib| mib.parse())?;
    let bytes = mib << 20;

    // Messages beyond 1,000,000 bytes need the setting on both sides. `streaming_requests` makes
    // `accept_streaming` hand requests out at their first byte.
    let builder = Endpoint::builder().max_message_bytes(bytes);
    let server = builder.clone().streaming_requests(true).bind("127.0.0.1:0")?;
    let address = server.local_addr();
    let serving = thread::spawn({
        let server = server.clone();
        move || while serve(&server).is_ok() {}
    });

    let client = builder.client()?;
    let begin = Instant::now();
    // The length is announced first; then the bytes follow. The answer is the sum of what came.
    let (body, response) = client.call_streaming(address).length(bytes).open().wait()?;
    let sent = write(body, bytes)?;
    let there = response.wait()?.into_string()?;
    println!("up   {mib} MiB in {:.2} s, sum {there}", begin.elapsed().as_secs_f64());

    let begin = Instant::now();
    // The response is read while it comes.
    let answer = client.call(address, bytes.to_string()).reader().wait()?;
    let received = read(answer)?;
    println!("down {mib} MiB in {:.2} s, sum {received:016x}", begin.elapsed().as_secs_f64());

    server.close().wait();
    serving.join().map_err(|_| "the server panicked")?;
    let peak_mib = peak_memory_kib()? >> 10;
    println!("at most {peak_mib} MiB of memory");
    if there != format!("{sent:016x}") || received != sent {
        return Err("bytes came that were not sent".into());
    }
    if peak_mib > PEAK_MIB_MAX {
        return Err("bodies were kept in memory".into());
    }
    Ok(())
}

/// Answers one request: a number with so many bytes, anything longer with its sum.
fn serve(server: &Endpoint) -> Result<(), Box<dyn Error>> {
    let request = server.accept_streaming().wait()?;
    if request.body_bytes().is_some_and(|bytes| bytes <= 10) {
        let request = request.collect().wait()?;
        let bytes = request.body().clone().into_string()?.parse()?;
        write(request.reply_streaming(Some(bytes))?, bytes)?;
    } else {
        // What reads and what answers are apart: either may go to another thread.
        let (reader, responder) = request.split();
        responder.reply(format!("{:016x}", read(reader)?)).wait()?;
    }
    Ok(())
}

/// Supplies a body of numbers that look random; gives its sum.
fn write(mut body: BodyWriter, bytes: u32) -> Result<u64, StreamError> {
    let (mut sum, bytes) = (Sum::default(), u64::from(bytes));
    for at in (0..bytes).step_by(PIECE_BYTES) {
        let piece: Vec<u8> = (at..bytes.min(at + PIECE_BYTES as u64)).map(byte_at).collect();
        sum.add(&piece);
        // It waits while about 1 MiB is on its way: a slow reader holds the sender back.
        body.send(piece).wait()?;
    }
    body.finish()?;
    Ok(sum.0)
}

/// Reads a body; gives its sum.
fn read(mut body: BodyReader) -> Result<u64, StreamError> {
    let mut sum = Sum::default();
    while let Some(piece) = body.chunk().wait()? {
        sum.add(&piece);
    }
    Ok(sum.0)
}

fn byte_at(at: u64) -> u8 {
    (at.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8
}

/// FNV-1a.
struct Sum(u64);

impl Default for Sum {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Sum {
    fn add(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

fn peak_memory_kib() -> Result<u64, Box<dyn Error>> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    Ok(peak.and_then(|line| line.split_whitespace().next()).ok_or("no VmHWM")?.parse()?)
}
