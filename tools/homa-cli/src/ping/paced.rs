//! A ping per interval, with a line for each.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::mpsc::{self, Receiver},
    time::{Duration, Instant},
};

use bytes::{Buf, Bytes};

use super::{Pings, client_settings, no_reply};
use crate::{
    args::PingArgs,
    body,
    error::CliError,
    interrupt, output,
    transport::{Pipeline, connect::connect_all},
    units::{format_number, format_size},
};

/// How long one poll may last, so that Ctrl-C is seen.
const POLL: Duration = Duration::from_millis(100);

/// Pings the server until the pings asked for have ended; with `lines` each is shown.
pub(super) fn run(args: &PingArgs, server: SocketAddr, lines: bool) -> Result<Pings, CliError> {
    let (sender, pressed) = mpsc::channel();
    interrupt::watch(move || {
        let _ = sender.send(());
    });
    let mut client =
        connect_all(args.transport.protocol(), &[server], &client_settings(args), None)?;
    let now = Instant::now();
    let mut paced = Paced {
        args,
        server,
        lines,
        request: body::pattern(0, args.size as usize),
        next_at: now,
        until: args.secs.map(|secs| now + secs),
        under_way: BTreeMap::new(),
        pings: Pings::new(),
        written: Ok(()),
    };
    while !interrupt::pressed() {
        match paced.turn(&mut *client, &pressed) {
            Ok(true) => {}
            Ok(false) => break,
            Err(error) => {
                paced.pings.broken = Some(error);
                break;
            }
        }
    }
    // Pings of which nothing is known yet were neither answered nor lost.
    paced.pings.sent -= paced.under_way.len() as u64;
    Ok(paced.pings)
}

struct Paced<'a> {
    args: &'a PingArgs,
    server: SocketAddr,
    lines: bool,
    request: Bytes,
    next_at: Instant,
    until: Option<Instant>,
    /// When each began, by its number.
    under_way: BTreeMap<u64, Instant>,
    pings: Pings,
    written: Result<(), CliError>,
}

impl Paced<'_> {
    /// Sends what is due and takes what has come; returns whether there is more to do.
    fn turn(
        &mut self,
        client: &mut dyn Pipeline,
        pressed: &Receiver<()>,
    ) -> Result<bool, CliError> {
        let now = Instant::now();
        let more = self.args.count.is_none_or(|count| self.pings.sent < count)
            && self.until.is_none_or(|until| self.next_at < until);
        if more && now >= self.next_at {
            self.next_at += self.args.interval;
            self.pings.sent += 1;
            let number = self.pings.sent;
            self.under_way.insert(number, Instant::now());
            if let Err(error) = client.start(number, 0, &self.request) {
                self.ended(number, Err(error.to_string()));
            }
        }
        let until = if more { self.next_at.min(now + POLL) } else { now + POLL };
        if self.under_way.is_empty() {
            if !more {
                return Ok(false);
            }
            let _ = pressed.recv_timeout(until.saturating_duration_since(now));
            return Ok(true);
        }
        client.poll(until, &mut |number, outcome| {
            self.ended(number, outcome.map(|reply| reply.remaining()));
        })?;
        self.expire();
        std::mem::replace(&mut self.written, Ok(())).map(|()| true)
    }

    fn ended(&mut self, number: u64, outcome: Result<usize, String>) {
        // The reply to a ping that was given up counts no more.
        let Some(started) = self.under_way.remove(&number) else { return };
        let time = started.elapsed();
        let line = match outcome {
            Ok(length) => {
                self.pings.latency.record(time);
                format!(
                    "{} from {}: seq={number} time={} µs\n",
                    format_size(length as u64),
                    self.server,
                    format_number(time.as_secs_f64() * 1e6),
                )
            }
            Err(kind) => {
                let line = format!("seq={number} lost: {kind}\n");
                self.pings.lost(kind);
                line
            }
        };
        if self.lines && self.written.is_ok() {
            self.written = output::bytes(line.as_bytes());
        }
    }

    fn expire(&mut self) {
        while let Some((number, started)) =
            self.under_way.first_key_value().map(|(n, at)| (*n, *at))
        {
            if started.elapsed() < self.args.timeout {
                return;
            }
            self.ended(number, Err(no_reply(self.args.timeout)));
        }
    }
}
