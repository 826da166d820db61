//! The same endpoints as in `hello_blocking`, in tasks: `.await` where threads say `.wait()`.
//!
//! Run it with `cargo run -p homa-transport --example hello_async`.

use std::time::Duration;

use homa_transport::Endpoint;

// A current-thread runtime gives the lowest latency: the task that waits and the task that drives
// the protocol run on the same thread, so nothing is handed over. A multi-thread runtime works the
// same; there a call from `block_on` wakes a worker thread.
#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let server = Endpoint::bind("127.0.0.1:0")?;
    let address = server.local_addr();

    tokio::spawn(async move {
        // `accept` is cancel-safe: it may be one branch of a `select!` without losing a request.
        while let Ok(request) = server.accept().await {
            // One task per request, so that a slow one holds nobody up.
            tokio::spawn(async move {
                let length = request.body().len();
                let _ = request.reply(format!("{length} bytes, thank you")).await;
            });
        }
    });

    let client = Endpoint::client()?;
    println!("{}", client.call(address, "hello").await?.into_string()?);

    // A call begins when it is awaited, or with `start`: many calls, one task.
    let short = client.call(address, "abc").start();
    let long = client.call(address, vec![0; 100_000]).start();
    println!("{} / {}", short.await?.into_string()?, long.await?.into_string()?);

    // A timeout bounds the whole call. Dropping the future would end it just as well: that aborts
    // the call and tells the server.
    let quick = client.call(address, "quick").timeout(Duration::from_secs(1));
    println!("{}", quick.await?.into_string()?);
    Ok(())
}
