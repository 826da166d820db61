//! A proxy that changes what goes through it, in both directions at once and in little memory.
//! Client, proxy and origin are processes of their own.
//!
//! Run it with `cargo run --release -p homa-transport --example proxy -- 1000` (MiB).

use std::error::Error;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Instant;

use homa_transport::{
    BodyReader, BodyWriter, Endpoint, EndpointBuilder, RequestStream, StreamError,
};

type Outcome<T = ()> = Result<T, Box<dyn Error + Send + Sync>>;

const PIECE_BYTES: usize = 64 << 10;

fn main() -> Outcome {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["origin"] => serve(origin),
        ["proxy", origin] => {
            let (onward, origin) = (builder().client()?, origin.to_string());
            serve(move |request| proxy(request, &onward, &origin))
        }
        [] => client(16),
        [mib] => client(mib.parse()?),
        _ => Err("usage: proxy [MIB]".into()),
    }
}

/// Both ends need the setting of the length; 2^30 is the most.
fn builder() -> EndpointBuilder {
    EndpointBuilder::new().max_message_bytes(1 << 30).streaming_requests(true)
}

/// Answers with what comes, changed. The first bytes of the answer leave while the last of the
/// request are not here yet.
fn origin(request: RequestStream) -> Outcome {
    let (reader, responder) = request.split();
    copy(reader, responder.reply_streaming(None)?)
}

/// Passes a request on, and its answer back.
fn proxy(request: RequestStream, onward: &Endpoint, origin: &str) -> Outcome {
    let metadata = request.metadata().clone();
    let (from_client, to_client) = request.split();
    let (to_origin, call) = onward.call_streaming(origin).open().wait()?;
    thread::scope(|scope| {
        let up = scope.spawn(|| copy(from_client, to_origin));
        let from_origin = call.reader().wait()?;
        copy(from_origin, to_client.reply_streaming_with(None, metadata)?)?;
        up.join().map_err(|_| "a thread panicked")?
    })
}

/// Sends so much through the proxy, and checks what comes back.
fn client(mib: usize) -> Outcome {
    let (origin, origin_address) = spawn(&["origin"])?;
    let (proxy, address) = spawn(&["proxy", &origin_address])?;
    let begin = Instant::now();
    let client = builder().client()?;
    let open = client.call_streaming(address).metadata("trace", "17").open();
    let (mut body, call) = open.wait()?;
    let sending = thread::spawn(move || -> Result<(), StreamError> {
        for _ in 0..(mib << 20) / PIECE_BYTES {
            body.send(vec![b'x'; PIECE_BYTES]).wait()?;
        }
        body.finish()
    });
    let (mut answer, mut bytes) = (call.reader().wait()?, 0);
    while let Some(piece) = answer.chunk().wait()? {
        // Changed on the way up, at the origin, and on the way down.
        assert!(piece.iter().all(|byte| *byte == b'x' + 3), "a wrong byte");
        bytes += piece.len();
    }
    sending.join().map_err(|_| "a thread panicked")??;
    assert_eq!(bytes, mib << 20);
    assert_eq!(answer.metadata().get("trace").ok_or("no metadata")?, "17");
    let rate = mib as f64 / begin.elapsed().as_secs_f64();
    println!("{bytes} bytes there and back, {rate:.0} MiB/s each way");
    println!("peak memory: proxy {}, origin {}", end(proxy)?, end(origin)?);
    Ok(())
}

/// Serves each request in a thread of its own until the standard input ends, then says how much
/// memory that took.
fn serve(handler: impl Fn(RequestStream) -> Outcome + Send + Sync + 'static) -> Outcome {
    let server = builder().bind("127.0.0.1:0")?;
    println!("{}", server.local_addr());
    let handler = std::sync::Arc::new(handler);
    let accepting = thread::spawn({
        let server = server.clone();
        move || {
            while let Ok(request) = server.accept_streaming().wait() {
                let handler = handler.clone();
                thread::spawn(move || {
                    handler(request).unwrap_or_else(|error| eprintln!("{error}"));
                });
            }
        }
    });
    std::io::stdin().read_to_end(&mut Vec::new())?;
    server.close().wait();
    accepting.join().map_err(|_| "a thread panicked")?;
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    println!(
        "{}",
        status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or("?").trim()
    );
    Ok(())
}

/// Passes a body on with each byte changed.
fn copy(mut from: BodyReader, mut to: BodyWriter) -> Outcome {
    while let Some(piece) = from.chunk().wait()? {
        let changed: Vec<u8> = piece.iter().map(|byte| byte.wrapping_add(1)).collect();
        to.send(changed).wait()?;
    }
    Ok(to.finish()?)
}

/// Starts this program in another role; its first line is its address.
fn spawn(arguments: &[&str]) -> Outcome<(Child, String)> {
    let mut child = Command::new(std::env::current_exe()?)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let line = line_of(&mut child)?;
    Ok((child, line))
}

/// Ends it; its last line is its peak memory.
fn end(mut child: Child) -> Outcome<String> {
    drop(child.stdin.take());
    let line = line_of(&mut child)?;
    child.wait()?;
    Ok(line)
}

fn line_of(child: &mut Child) -> Outcome<String> {
    let mut line = String::new();
    let output = child.stdout.as_mut().ok_or("no output")?;
    BufReader::with_capacity(1, output).read_line(&mut line)?;
    Ok(line.trim().to_owned())
}
