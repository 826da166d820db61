//! Large bodies that are never in memory as a whole.
//!
//! Run it with `cargo run --release -p homa-transport --example streaming`.

use std::thread;

use homa_transport::{Endpoint, EndpointBuilder};

const BODY_BYTES: u32 = 64 << 20;
const PIECE_BYTES: usize = 256 << 10;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // Messages beyond 1,000,000 bytes need the setting on both sides. `streaming_requests` makes
    // `accept_streaming` hand requests out at their first byte.
    let builder = EndpointBuilder::new().max_message_bytes(BODY_BYTES);
    let server = builder.clone().streaming_requests(true).bind("127.0.0.1:0")?;
    let address = server.local_addr();
    let serving = thread::spawn(move || serve(&server));

    let client = builder.client()?;
    // The length is announced first; then the bytes follow. `send` waits while about 1 MiB is on
    // its way, so a slow reader holds the sender back and memory stays small.
    let (mut body, response) = client.call_streaming(address, BODY_BYTES).open().wait()?;
    while body.missing_bytes() > 0 {
        let length = PIECE_BYTES.min(body.missing_bytes() as usize);
        body.send(vec![b'x'; length]).wait()?;
    }
    body.finish()?;

    // The response is a stream too: its first bytes are here while the last are not sent yet.
    let mut answer = response.reader().wait()?;
    let mut received = 0;
    while let Some(piece) = answer.chunk().wait()? {
        received += piece.len();
    }
    println!("sent {BODY_BYTES} bytes, got {received} of {} back", answer.body_bytes());
    serving.join().map_err(|_| "the server panicked")?;
    Ok(())
}

/// Answers one request with half of its bytes.
fn serve(server: &Endpoint) {
    let Ok(request) = server.accept_streaming().wait() else { return };
    // What reads and what answers are apart: either may go to another thread.
    let (mut reader, responder) = request.split();
    let (mut bytes, mut pieces) = (0_usize, 0_u32);
    // Errors mean that the client gave up; there is nobody to tell.
    while let Ok(Some(piece)) = reader.chunk().wait() {
        bytes += piece.len();
        pieces += 1;
    }
    println!("the server read {bytes} bytes in {pieces} pieces");
    let half = u32::try_from(bytes / 2).unwrap_or(u32::MAX);
    let Ok(mut body) = responder.reply_streaming(half) else { return };
    while body.missing_bytes() > 0 {
        let length = PIECE_BYTES.min(body.missing_bytes() as usize);
        if body.send(vec![b'y'; length]).wait().is_err() {
            return;
        }
    }
    if let Err(error) = body.finish() {
        eprintln!("{error}");
    }
    // Responses are finished before the endpoint is gone.
    server.close().wait();
}
