//! One ping after the other, without pause.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use super::{Pings, client_settings};
use crate::{
    args::PingArgs,
    body,
    error::CliError,
    interrupt,
    progress::Progress,
    transport::{Protocol, connect::connect},
};

/// Pings if the user says neither how many nor how long.
const COUNT: u64 = 1_000;

/// What comes first of a timed run is not counted: caches fill and the CPU clocks up.
const WARM_UP: Duration = Duration::from_millis(100);

/// Pings the server as often or as long as asked for.
pub(super) fn run(args: &PingArgs, server: SocketAddr) -> Result<Pings, CliError> {
    interrupt::watch(|| {});
    let mut client = connect(args.transport.protocol(), server, &client_settings(args))?;
    let request = body::pattern(0, args.size as usize);
    let warm_up = if args.secs.is_some() { WARM_UP } else { Duration::ZERO };
    let from = Instant::now() + warm_up;
    let until = args.secs.map(|secs| from + secs);
    let count = if until.is_some() { u64::MAX } else { args.count.unwrap_or(COUNT) };
    let mut pings = Pings::new();
    let mut progress = Progress::new(args.secs.map_or(count, |secs| secs.as_secs()));
    while pings.sent < count && !interrupt::pressed() {
        let started = Instant::now();
        if until.is_some_and(|until| started >= until) {
            break;
        }
        let outcome = client.call(&request, args.timeout, &mut |_| {});
        let time = started.elapsed();
        if outcome.is_ok() && started < from {
            continue;
        }
        pings.sent += 1;
        match outcome {
            Ok(()) => pings.latency.record(time),
            Err(error) => {
                pings.lost(error.to_string());
                // What is left of a stream after a failure cannot be told apart.
                if args.transport.protocol() == Protocol::Tcp {
                    pings.broken = Some(error);
                    break;
                }
            }
        }
        match until {
            Some(_) => progress.show(started.saturating_duration_since(from).as_secs(), "s"),
            None => progress.show(pings.sent, "pings"),
        }
    }
    progress.finish();
    Ok(pings)
}
