//! What short calls of tasks cost in user space: two endpoints and all tasks in one runtime of one
//! thread, a task per call, over real sockets, by a clock that goes on with each look, so that each
//! run executes nearly the same instructions. Arguments: how many are under way, and how many
//! calls. `tools/instructions` counts both sides.

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use homa_io::udp::{UdpConfig, UdpDriver};
use homa_transport::{Clock, Endpoint};
use tokio::task::JoinSet;

type Failed = Box<dyn std::error::Error + Send + Sync>;

/// Time that passes with each look, in ns.
const TICK_NS: u64 = 50;
/// Begin of that time: so far ahead of the system's that no task is woken by a timer.
const BEGIN_NS: u64 = 1 << 62;

/// A clock that goes on when it is looked at.
#[derive(Clone, Debug)]
struct Ticks(Arc<AtomicU64>);

impl Clock for Ticks {
    fn now_ns(&self) -> u64 {
        let now_ns = self.0.load(Ordering::Relaxed) + TICK_NS;
        self.0.store(now_ns, Ordering::Relaxed);
        now_ns
    }
}

/// Answers each request with its body.
async fn serve(server: Endpoint) -> Result<(), Failed> {
    loop {
        let mut request = server.accept().await?;
        let body = request.take_body();
        request.reply(body).await?;
    }
}

async fn run(outstanding: usize, calls: usize) -> Result<(), Failed> {
    let clock = Ticks(Arc::new(AtomicU64::new(BEGIN_NS)));
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
    let words: Vec<String> =
        std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let number = |nth: usize, usual: usize| words.get(nth).map_or(Ok(usual), |word| word.parse());
    let is_bench = std::env::args().any(|word| word == "--bench");
    let (outstanding, calls) = (number(0, 64)?, number(1, if is_bench { 640_000 } else { 640 })?);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let begin = std::time::Instant::now();
    runtime.block_on(run(outstanding, calls))?;
    let each = begin.elapsed() / u32::try_from(calls)?;
    println!("{calls} calls, {outstanding} tasks: {each:?} each for both sides together");
    Ok(())
}
