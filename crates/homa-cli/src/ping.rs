//! `homa ping`: the round-trip time of one call at a time.

use std::time::{Duration, Instant};

use bytes::Bytes;
use serde::Serialize;

use crate::{
    args::{MESSAGE_BYTES_MAX, PingArgs},
    body,
    error::CliError,
    interrupt,
    latency::{Latency, Percentiles},
    output,
    progress::Progress,
    resolve::resolve,
    serve::settings,
    transport::{Api, Client, Protocol, Wait, connect::connect},
    units::{format_number, format_size},
};

/// Calls made if the user says neither how many nor how long.
const COUNT: u64 = 1_000;

/// What comes first of a timed run is not counted: caches fill and the CPU clocks up.
const WARM_UP: Duration = Duration::from_millis(100);

/// Runs the command.
pub(crate) fn run(args: &PingArgs, json: bool) -> Result<(), CliError> {
    let server = resolve(&args.address)?;
    interrupt::watch(|| {});
    let mut client = connect(
        args.transport,
        Api::Blocking,
        server,
        &settings(args.busy, (args.size as u32).max(MESSAGE_BYTES_MAX)),
    )?;
    let request = body::pattern(0, args.size as usize);
    let mut latency = Latency::new();
    let outcome = match args.secs {
        Some(secs) => for_time(&mut *client, &request, args.timeout, secs, &mut latency),
        None => {
            let count = args.count.unwrap_or(COUNT);
            for_count(&mut *client, &request, args.timeout, count, &mut latency)
        }
    };
    outcome.and(report(args, &latency, json))
}

fn for_count(
    client: &mut dyn Client,
    request: &Bytes,
    timeout: Duration,
    count: u64,
    latency: &mut Latency,
) -> Result<(), CliError> {
    let mut progress = Progress::new(count);
    for done in 0..count {
        if interrupt::pressed() {
            return Err(CliError::Interrupted);
        }
        latency.record(one(client, request, timeout)?);
        progress.show(done, "pings");
    }
    progress.finish();
    Ok(())
}

fn for_time(
    client: &mut dyn Client,
    request: &Bytes,
    timeout: Duration,
    length: Duration,
    latency: &mut Latency,
) -> Result<(), CliError> {
    let from = Instant::now() + WARM_UP;
    let until = from + length;
    let mut progress = Progress::new(length.as_secs());
    let mut now = Instant::now();
    while now < until {
        if interrupt::pressed() {
            return Err(CliError::Interrupted);
        }
        let time = one(client, request, timeout)?;
        if now >= from {
            latency.record(time);
            progress.show((now - from).as_secs(), "s");
        }
        now = Instant::now();
    }
    progress.finish();
    Ok(())
}

fn one(client: &mut dyn Client, request: &Bytes, timeout: Duration) -> Result<Duration, CliError> {
    let started = Instant::now();
    client.call(request, timeout, &mut |_| {})?;
    Ok(started.elapsed())
}

fn report(args: &PingArgs, latency: &Latency, json: bool) -> Result<(), CliError> {
    let times = latency.percentiles();
    if json {
        return output::document(&Document {
            transport: args.transport,
            wait: if args.busy { Wait::Busy } else { Wait::Sleep },
            size_bytes: args.size,
            latency: times,
        });
    }
    let text = format!(
        "{} pings of {} over {}, µs: min {}  P50 {}  P90 {}  P99 {}  P99.9 {}  max {}\n",
        times.count,
        format_size(args.size),
        args.transport.name(),
        format_number(times.min_us),
        format_number(times.p50_us),
        format_number(times.p90_us),
        format_number(times.p99_us),
        format_number(times.p999_us),
        format_number(times.max_us),
    );
    output::bytes(text.as_bytes())
}

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Document {
    transport: Protocol,
    wait: Wait,
    size_bytes: u64,
    #[serde(flatten)]
    latency: Percentiles,
}
