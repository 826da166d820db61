//! A proxy that changes what goes through it, in both directions at once and in little memory.
//!
//! Run it with `cargo run --release -p homa-transport --example proxy -- 1000` (MiB).

use std::error::Error;
use std::net::SocketAddr;
use std::thread;
use std::time::Instant;

use homa_transport::{
    BodyReader, BodyWriter, Endpoint, EndpointBuilder, RequestStream, StreamError,
};

const PIECE_BYTES: usize = 64 << 10;

fn main() -> Result<(), Box<dyn Error>> {
    let mib: usize = std::env::args().nth(1).map_or(Ok(16), |mib| mib.parse())?;
    // Both ends need the setting; 2^30 is the most.
    let builder = EndpointBuilder::new().max_message_bytes(1 << 30).streaming_requests(true);
    let origin = serve(builder.clone().bind("127.0.0.1:0")?, |request| {
        let (reader, responder) = request.split();
        // The first bytes of the answer leave while the last of the request are not here yet.
        copy(reader, responder.reply_streaming(None)?)
    });
    let onward = builder.clone().client()?;
    let proxy = serve(builder.clone().bind("127.0.0.1:0")?, move |request| {
        let metadata = request.metadata().clone();
        let (from_client, to_client) = request.split();
        let (to_origin, call) = onward.call_streaming(origin).open().wait()?;
        thread::scope(|scope| {
            let up = scope.spawn(|| copy(from_client, to_origin));
            let from_origin = call.reader().wait()?;
            copy(from_origin, to_client.reply_streaming_with(None, metadata)?)?;
            up.join().map_err(|_| "a thread panicked")?
        })
    });

    let client = builder.client()?;
    let begin = Instant::now();
    let (mut body, call) = client.call_streaming(proxy).metadata("trace", "17").open().wait()?;
    let sending = thread::spawn(move || -> Result<(), StreamError> {
        for _ in 0..(mib << 20) / PIECE_BYTES {
            body.send(vec![b'x'; PIECE_BYTES]).wait()?;
        }
        body.finish()
    });
    let mut answer = call.reader().wait()?;
    let mut bytes = 0;
    while let Some(piece) = answer.chunk().wait()? {
        // Changed on the way up, at the origin, and on the way down.
        assert!(piece.iter().all(|byte| *byte == b'x' + 3), "a wrong byte");
        bytes += piece.len();
    }
    sending.join().map_err(|_| "a thread panicked")??;
    let (seconds, rate) = (begin.elapsed().as_secs_f64(), bytes as f64 / (1 << 20) as f64);
    assert_eq!(answer.metadata().get("trace").ok_or("no metadata")?, "17");
    println!(
        "{bytes} bytes there and back in {seconds:.1} s ({:.0} MiB/s each way), peak memory of \
         client, proxy and origin together {}",
        rate / seconds,
        peak_memory().unwrap_or("unknown".into())
    );
    Ok(())
}

/// Serves each request in a thread of its own.
fn serve<F>(server: Endpoint, handler: F) -> SocketAddr
where
    F: Fn(RequestStream) -> Result<(), Box<dyn Error + Send + Sync>> + Clone + Send + 'static,
{
    let address = server.local_addr();
    thread::spawn(move || {
        while let Ok(request) = server.accept_streaming().wait() {
            let handler = handler.clone();
            thread::spawn(move || {
                if let Err(error) = handler(request) {
                    eprintln!("{error}");
                }
            });
        }
    });
    address
}

/// Passes a body on with each byte changed.
fn copy(mut from: BodyReader, mut to: BodyWriter) -> Result<(), Box<dyn Error + Send + Sync>> {
    while let Some(piece) = from.chunk().wait()? {
        let changed: Vec<u8> = piece.iter().map(|byte| byte.wrapping_add(1)).collect();
        to.send(changed).wait()?;
    }
    Ok(to.finish()?)
}

/// The most memory that this process had at a time, as Linux says.
fn peak_memory() -> Option<String> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    Some(status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?.trim().to_owned())
}
