//! What short calls of tasks cost in user space: two endpoints and all tasks in one runtime of one
//! thread, a task per call, over real sockets, by a clock that goes on with each look, so that each
//! run executes nearly the same instructions. Arguments: how many are under way, and how many
//! calls. `tools/instructions` counts both sides.

#[path = "support/arguments.rs"]
mod arguments;
#[path = "support/ticks.rs"]
mod ticks;

use std::hint::black_box;
use std::time::Duration;

use bytes::Bytes;
use homa_io::udp::{UdpConfig, UdpDriver};
use homa_transport::Endpoint;
use ticks::Ticks;
use tokio::task::JoinSet;

type Failed = Box<dyn std::error::Error + Send + Sync>;

/// Begin of the clock: so far ahead of the system's that no task is woken by a timer.
const BEGIN_NS: u64 = 1 << 62;

/// Answers each request with its body.
async fn serve(server: Endpoint) -> Result<(), Failed> {
    loop {
        let mut request = server.accept().await?;
        let body = request.take_body();
        request.reply(body).await?;
    }
}

async fn run(outstanding: usize, calls: usize) -> Result<(), Failed> {
    let clock = Ticks::from_ns(BEGIN_NS);
    let endpoint = |serve| -> Result<_, Failed> {
        let driver = UdpDriver::bind("127.0.0.1:0".parse()?, &UdpConfig::default())?;
        let builder = Endpoint::builder().spin(Duration::ZERO);
        Ok(builder.on_driver(driver, clock.clone(), serve)?)
    };
    let ((server, _), (client, _)) = (endpoint(true)?, endpoint(false)?);
    let (address, body) = (server.local_addr(), Bytes::from_static(&[7; 100]));
    let serving = tokio::spawn(serve(server));
    let mut tasks = JoinSet::new();
    for _ in 0..outstanding {
        let (client, body) = (client.clone(), body.clone());
        tasks.spawn(async move {
            for _ in 0..calls / outstanding {
                black_box(client.call(address, body.clone()).await?);
            }
            Ok::<_, Failed>(())
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended??;
    }
    serving.abort();
    Ok(())
}

fn main() -> Result<(), Failed> {
    let usual = if arguments::is_bench() { 640_000 } else { 640 };
    let [outstanding, calls] = arguments::numbers([64, usual])?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let begin = std::time::Instant::now();
    runtime.block_on(run(outstanding, calls))?;
    let each = begin.elapsed() / u32::try_from(calls)?;
    println!("{calls} calls, {outstanding} tasks: {each:?} each for both sides together");
    Ok(())
}
