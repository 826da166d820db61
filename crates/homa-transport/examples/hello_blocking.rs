//! The smallest server and client, in threads.
//!
//! Run it with `cargo run -p homa-transport --example hello_blocking`.

use std::thread;

use homa_transport::Endpoint;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // A server is an endpoint bound to an address. Port 0 lets the system choose a free one; a real
    // service says "[::]:4000", which takes IPv4 and IPv6.
    let server = Endpoint::bind("127.0.0.1:0")?;
    let address = server.local_addr();

    // Requests come whole. Any number of threads may accept at the same time; each request is
    // answered whenever its response is ready, in any order.
    let serving = thread::spawn({
        let server = server.clone();
        move || {
            while let Ok(request) = server.accept().wait() {
                let name = String::from_utf8_lossy(&request.body().to_vec()).into_owned();
                // A client that has given up is no reason to stop serving.
                if let Err(error) = request.reply(format!("hello, {name}")).wait() {
                    eprintln!("{error}");
                }
            }
        }
    });

    // A client needs no connection: it names the server with each call.
    let client = Endpoint::client()?;
    println!("{}", client.call(address, "world").wait()?.into_string()?);

    // Closing ends the server's loop: `accept` fails from then on.
    server.close().wait();
    serving.join().map_err(|_| "the server panicked")?;

    // Errors say what happened, to which server, and whether the call may be repeated safely.
    if let Err(error) = client.call(address, "anyone?").wait() {
        println!("{error}; may have been executed: {}", error.may_have_executed());
    }
    Ok(())
}
