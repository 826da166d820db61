//! `homa call`: sends requests, and checks or prints the replies.

mod requests;

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    time::{Duration, Instant},
};

use bytes::{Buf, Bytes};
use requests::Requests;
use serde::Serialize;

use crate::{
    args::CallArgs,
    body::{self, Order},
    error::CliError,
    interrupt,
    latency::{Latency, Spread},
    output,
    progress::Progress,
    resolve::resolve,
    serve::settings,
    transport::{Pipeline, Protocol, connect::connect_all},
    units::format_number,
};

/// How long one poll may last, so that Ctrl-C and timeouts are seen.
const POLL: Duration = Duration::from_millis(100);

/// Different error texts kept for the report.
const ERRORS_MAX: usize = 10;

/// Runs the command.
pub(crate) fn run(args: &CallArgs, json: bool) -> Result<(), CliError> {
    let requests = Requests::new(args)?;
    let server = resolve(&args.address)?;
    interrupt::watch(|| {});
    let settings = settings(false, requests.message_bytes_max()).over(&args.transport.driver);
    let mut client = connect_all(args.transport.protocol(), &[server], &settings, None)?;
    let mut run = Run::new(args, requests);
    let broken = run.all(&mut *client).err();
    run.report(json)?;
    match broken {
        Some(error) => Err(error),
        None => run.verdict(),
    }
}

/// A call under way.
#[derive(Debug)]
struct Pending {
    started: Instant,
    request_bytes: u64,
    /// What an echo must be; kept only to verify.
    request: Option<Bytes>,
}

/// The course of the command.
#[derive(Debug)]
struct Run<'a> {
    args: &'a CallArgs,
    requests: Requests,
    pending: HashMap<u64, Pending>,
    /// Calls in the order in which they time out; ended ones are skipped.
    deadlines: VecDeque<(Instant, u64)>,
    begun: u64,
    tally: Tally,
    latency: Latency,
    started: Instant,
    ended: Instant,
    reply: Option<Bytes>,
}

/// How the calls ended.
#[derive(Debug, Default)]
struct Tally {
    ok: u64,
    failed: u64,
    wrong: u64,
    request_bytes: u64,
    reply_bytes: u64,
    errors: BTreeSet<String>,
}

impl Tally {
    fn note(&mut self, error: String) {
        if self.errors.len() < ERRORS_MAX {
            self.errors.insert(error);
        }
    }
}

impl<'a> Run<'a> {
    fn new(args: &'a CallArgs, requests: Requests) -> Self {
        Run {
            args,
            requests,
            pending: HashMap::new(),
            deadlines: VecDeque::new(),
            begun: 0,
            tally: Tally::default(),
            latency: Latency::new(),
            started: Instant::now(),
            ended: Instant::now(),
            reply: None,
        }
    }

    fn all(&mut self, client: &mut dyn Pipeline) -> Result<(), CliError> {
        let mut progress = Progress::new(self.args.count);
        while !interrupt::pressed() {
            self.begin(client)?;
            if self.pending.is_empty() {
                break;
            }
            let next = self.deadlines.front().map_or(Instant::now(), |(deadline, _)| *deadline);
            let until = next.min(Instant::now() + POLL);
            client.poll(until, &mut |call, outcome| match outcome {
                Ok(reply) => self.replied(call, reply),
                Err(error) => self.failed(call, error),
            })?;
            self.expire();
            progress.show(self.tally.ok + self.tally.failed + self.tally.wrong, "calls");
        }
        progress.finish();
        self.ended = Instant::now();
        Ok(())
    }

    fn begin(&mut self, client: &mut dyn Pipeline) -> Result<(), CliError> {
        while self.begun < self.args.count && self.pending.len() < self.args.outstanding as usize {
            let call = self.begun;
            let request = self.requests.body(call);
            let begun = client.start(call, 0, &request);
            self.begun += 1;
            let started = Instant::now();
            let (request_bytes, request) =
                (request.len() as u64, self.args.verify.then_some(request));
            self.pending.insert(call, Pending { started, request_bytes, request });
            match begun {
                Ok(()) => self.deadlines.push_back((started + self.args.timeout, call)),
                // A connection that is gone carries no other calls either.
                Err(error) if self.args.transport.protocol() == Protocol::Tcp => return Err(error),
                Err(error) => self.failed(call, error.to_string()),
            }
        }
        Ok(())
    }

    fn replied(&mut self, call: u64, reply: &mut dyn Buf) {
        // A reply to a call that was given up counts no more.
        let Some(pending) = self.pending.remove(&call) else {
            return;
        };
        self.latency.record(pending.started.elapsed());
        self.tally.request_bytes += pending.request_bytes;
        self.tally.reply_bytes += reply.remaining() as u64;
        if self.requests.printed {
            let reply = reply.copy_to_bytes(reply.remaining());
            self.check(call, &pending, &mut reply.clone());
            self.reply = Some(reply);
        } else {
            self.check(call, &pending, reply);
        }
    }

    fn check(&mut self, call: u64, pending: &Pending, reply: &mut dyn Buf) {
        let fault = match &pending.request {
            None => None,
            Some(request) => match self.requests.order(call) {
                Some(Order::Pattern { length, seed }) => {
                    fault(reply, length as usize, |offset, piece| {
                        body::first_wrong(seed, offset, piece)
                    })
                }
                _ => fault(reply, request.len(), |offset, piece| {
                    first_difference(request, offset, piece)
                }),
            },
        };
        match fault {
            None => self.tally.ok += 1,
            Some(text) => {
                self.tally.wrong += 1;
                self.tally.note(format!("call {call}: {text}"));
            }
        }
    }

    fn failed(&mut self, call: u64, error: String) {
        if self.pending.remove(&call).is_some() {
            self.tally.failed += 1;
            self.tally.note(error);
        }
    }

    fn expire(&mut self) {
        let now = Instant::now();
        while let Some((deadline, call)) = self.deadlines.front().copied() {
            if deadline > now && self.pending.contains_key(&call) {
                return;
            }
            self.deadlines.pop_front();
            self.failed(call, format!("no reply within {:?}", self.args.timeout));
        }
    }

    fn report(&self, json: bool) -> Result<(), CliError> {
        if json {
            return output::document(&self.document());
        }
        if self.args.count == 1 && self.tally.ok == 0 {
            // The verdict says all there is to say.
            return Ok(());
        }
        if !self.requests.printed {
            return output::bytes(self.summary().as_bytes());
        }
        let Some(reply) = &self.reply else { return Ok(()) };
        output::bytes(reply)?;
        match self.args.text.is_some() && !reply.ends_with(b"\n") {
            true => output::bytes(b"\n"),
            false => Ok(()),
        }
    }

    fn summary(&self) -> String {
        let document = self.document();
        let mut text = format!(
            "{} calls: {} ok, {} failed, {} wrong\n{} RPC/s, {} Gbit/s\ntime in µs {}\n",
            document.calls,
            document.ok,
            document.failed,
            document.wrong,
            format_number(document.rpc_per_s),
            format_number(document.gbit_per_s),
            document.latency.line(),
        );
        for error in &self.tally.errors {
            text.push_str(error);
            text.push('\n');
        }
        text
    }

    fn document(&self) -> Document<'_> {
        let secs = (self.ended - self.started).as_secs_f64().max(1e-9);
        let tally = &self.tally;
        Document {
            calls: self.begun,
            ok: tally.ok,
            failed: tally.failed,
            wrong: tally.wrong,
            verified: self.args.verify,
            transport: self.args.transport.protocol().name(),
            secs,
            request_bytes: tally.request_bytes,
            reply_bytes: tally.reply_bytes,
            rpc_per_s: tally.ok as f64 / secs,
            gbit_per_s: (tally.request_bytes + tally.reply_bytes) as f64 * 8e-9 / secs,
            latency: self.latency.spread(),
            error: self.verdict().err().map(|error| error.to_string()),
            errors: &tally.errors,
            reply: self.reply.as_ref().map(|reply| String::from_utf8_lossy(reply).into_owned()),
        }
    }

    fn verdict(&self) -> Result<(), CliError> {
        let tally = &self.tally;
        if tally.ok == self.args.count {
            return Ok(());
        }
        if tally.failed + tally.wrong == 0 {
            return Err(CliError::Interrupted);
        }
        let first = tally.errors.first().map_or("", String::as_str);
        let (failed, wrong, calls) = (tally.failed, tally.wrong, self.begun);
        if self.args.count == 1 {
            return Err(CliError::Incomplete(first.to_owned()));
        }
        Err(CliError::Incomplete(format!(
            "of {calls} calls {failed} failed, {wrong} had wrong replies: {first}"
        )))
    }
}

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Document<'a> {
    calls: u64,
    ok: u64,
    failed: u64,
    wrong: u64,
    verified: bool,
    transport: &'static str,
    secs: f64,
    request_bytes: u64,
    reply_bytes: u64,
    rpc_per_s: f64,
    gbit_per_s: f64,
    #[serde(flatten)]
    latency: Spread,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    errors: &'a BTreeSet<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reply: Option<String>,
}

/// What is wrong with a reply that should have `length` bytes, of which `wrong` tells for a piece
/// at an offset the first that is not right.
fn fault(
    reply: &mut dyn Buf,
    length: usize,
    wrong: impl Fn(u64, &[u8]) -> Option<u64>,
) -> Option<String> {
    if reply.remaining() != length {
        return Some(format!("reply of {} bytes instead of {length}", reply.remaining()));
    }
    let mut offset = 0;
    while reply.has_remaining() {
        let piece = reply.chunk();
        if let Some(at) = wrong(offset, piece) {
            return Some(format!("byte {at} of the reply is wrong"));
        }
        let taken = piece.len();
        offset += taken as u64;
        reply.advance(taken);
    }
    None
}

/// Offset of the first byte of `piece` that differs from the same stretch of `expected`.
fn first_difference(expected: &[u8], offset: u64, piece: &[u8]) -> Option<u64> {
    let from = offset as usize;
    // The caller has compared the lengths, so the stretch exists; if not, its first byte is wrong.
    let Some(stretch) = expected.get(from..from + piece.len()) else {
        return Some(offset);
    };
    if stretch == piece {
        return None;
    }
    let position = stretch.iter().zip(piece).position(|(a, b)| a != b)?;
    Some(offset + position as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_byte_is_found_in_a_reply_of_several_pieces() {
        let request = body::pattern(3, 5_000);
        let mut bad = request.to_vec();
        bad[4_321] ^= 0x10;
        let (front, back) = bad.split_at(1_234);
        let mut reply = front.chain(back);
        let found =
            fault(&mut reply, 5_000, |offset, piece| first_difference(&request, offset, piece));
        assert_eq!(found.as_deref(), Some("byte 4321 of the reply is wrong"));
        let mut good = request.clone();
        assert_eq!(
            fault(&mut good, 5_000, |offset, piece| first_difference(&request, offset, piece)),
            None
        );
    }

    #[test]
    fn a_reply_of_another_length_is_wrong() {
        let found = fault(&mut &b"abc"[..], 4, |_, _| None);
        assert_eq!(found.as_deref(), Some("reply of 3 bytes instead of 4"));
    }
}
