//! What short calls cost in user space when many are under way: two endpoints in one thread, over
//! real sockets, by a clock that goes on with each look, so that each run executes the same
//! instructions. Arguments: how many are under way, and how many calls. `tools/instructions` counts
//! both sides; for one of them, callgrind takes `--toggle-collect='*client_step*'`.

#[path = "support/arguments.rs"]
mod arguments;
#[path = "support/ticks.rs"]
mod ticks;

use std::hint::black_box;
use std::net::SocketAddr;

use bytes::Bytes;
use homa_io::udp::{UdpConfig, UdpDriver};
use homa_transport::{CallSet, Endpoint};
use ticks::Ticks;

type Failed = Box<dyn std::error::Error>;

/// Takes `count` responses and begins a call for each.
#[inline(never)]
fn client_step(
    calls: &mut CallSet,
    client: &Endpoint,
    server: SocketAddr,
    count: usize,
    body: &Bytes,
) -> Result<(), Failed> {
    for _ in 0..count {
        let (_id, answer) = calls.join_next().wait().ok_or("no call is left")?;
        black_box(answer?);
        calls.add(client.call(server, body.clone())).wait()?;
    }
    calls.flush();
    Ok(())
}

/// Accepts and answers `count` requests.
#[inline(never)]
fn server_step(server: &Endpoint, count: usize) -> Result<(), Failed> {
    for _ in 0..count {
        let mut request = server.accept().wait()?;
        let body = request.take_body();
        request.reply(body).wait()?;
    }
    Ok(())
}

fn main() -> Result<(), Failed> {
    let usual = if arguments::is_bench() { 640_000 } else { 640 };
    let [outstanding, calls] = arguments::numbers([64, usual])?;
    let clock = Ticks::from_ns(0);
    let endpoint = |serve| -> Result<_, Failed> {
        let driver = UdpDriver::bind("127.0.0.1:0".parse()?, &UdpConfig::default())?;
        Ok(Endpoint::builder().busy_poll(true).on_driver(driver, clock.clone(), serve)?)
    };
    let ((server, _), (client, _)) = (endpoint(true)?, endpoint(false)?);
    let (address, body) = (server.local_addr(), Bytes::from_static(&[7; 100]));
    let mut set = client.call_set();
    let begin = std::time::Instant::now();
    for _ in 0..outstanding {
        set.add(client.call(address, body.clone())).wait()?;
    }
    set.flush();
    server_step(&server, outstanding)?;
    for _ in 0..calls / outstanding {
        client_step(&mut set, &client, address, outstanding, &body)?;
        server_step(&server, outstanding)?;
    }
    let each = begin.elapsed() / u32::try_from(calls)?;
    println!("{calls} calls, {outstanding} outstanding: {each:?} each for both sides together");
    Ok(())
}
