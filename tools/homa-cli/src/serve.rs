//! `homa serve`: answers requests until Ctrl-C.

use std::{
    io::{self, IsTerminal},
    net::SocketAddr,
    sync::{
        atomic::Ordering,
        mpsc::{self, Receiver, RecvTimeoutError},
    },
    thread,
    time::{Duration, Instant},
};

use serde_json::json;

use crate::{
    args::ServeArgs,
    error::CliError,
    interrupt,
    options::DriverArgs,
    output,
    resolve::resolve_local,
    transport::{
        Api, Behaviour, Protocol, ReceiveBuffer, Responder, Settings, TcpWrites, Wait,
        connect::{Bound, bind},
    },
    units::{format_number, format_size},
};

/// Time between two lines on a terminal.
const INTERVAL: Duration = Duration::from_secs(10);

/// How often it is looked whether a signal asks for a line.
const LOOK: Duration = Duration::from_millis(500);

/// Why serving ends.
enum End {
    Interrupted,
    Failed(CliError),
}

/// Runs the command.
pub(crate) fn run(args: &ServeArgs, json: bool) -> Result<(), CliError> {
    let address = resolve_local(&args.address)?;
    let settings = settings(args.busy, args.max_message as u32).over(&args.driver);
    let responder = Responder::new(behaviour(args));
    let started = Instant::now();
    let (sender, ended) = mpsc::channel();
    let on_interrupt = sender.clone();
    interrupt::watch(move || {
        let _ = on_interrupt.send(End::Interrupted);
    });
    start_all(args, address, &settings, &responder, &sender)?;
    let end = serve_until(&ended, Course::new(&responder, interval(args)))?;
    let reported = report(&responder, started, json);
    match end {
        End::Failed(error) => Err(error),
        End::Interrupted => reported,
    }
}

/// Time between two lines on standard error; none if nobody is there to read them.
fn interval(args: &ServeArgs) -> Option<Duration> {
    let usual = || io::stderr().is_terminal().then_some(INTERVAL);
    args.interval.or_else(usual).filter(|interval| !interval.is_zero())
}

/// Says now and then what is served, until it ends.
fn serve_until(ended: &Receiver<End>, mut course: Course<'_>) -> Result<End, CliError> {
    let asked = interrupt::watch_usr1()?;
    loop {
        match ended.recv_timeout(course.left().min(LOOK)) {
            Ok(end) => return Ok(end),
            // The caller holds a sender itself, so the channel cannot be closed.
            Err(RecvTimeoutError::Disconnected) => return Ok(End::Interrupted),
            Err(RecvTimeoutError::Timeout) => {}
        }
        if asked.swap(false, Ordering::Relaxed) {
            course.say_all();
        }
        course.say();
    }
}

/// What was served since the last line.
struct Course<'a> {
    responder: &'a Responder,
    interval: Option<Duration>,
    started: Instant,
    since: Instant,
    served: (u64, u64),
}

impl<'a> Course<'a> {
    fn new(responder: &'a Responder, interval: Option<Duration>) -> Self {
        let now = Instant::now();
        Course { responder, interval, started: now, since: now, served: (0, 0) }
    }

    /// Time until the next line.
    fn left(&self) -> Duration {
        self.interval.map_or(LOOK, |interval| interval.saturating_sub(self.since.elapsed()))
    }

    /// A line for the interval if it is over; none while nobody calls.
    fn say(&mut self) {
        if self.interval.is_none() || !self.left().is_zero() {
            return;
        }
        let served = self.responder.served();
        let (requests, bytes) = (served.0 - self.served.0, served.1 - self.served.1);
        let secs = self.since.elapsed().as_secs_f64();
        if requests > 0 {
            eprintln!(
                "homa: {} requests/s, {}/s",
                format_number(requests as f64 / secs),
                format_size((bytes as f64 / secs) as u64),
            );
        }
        (self.since, self.served) = (Instant::now(), served);
    }

    /// A line for all the time.
    fn say_all(&self) {
        let (requests, bytes) = self.responder.served();
        let secs = self.started.elapsed().as_secs_f64();
        eprintln!("homa: {requests} requests, {} in {secs:.1} s", format_size(bytes));
    }
}

/// Settings for servers and callers that are not part of a benchmark.
pub(crate) fn settings(busy: bool, message_bytes_max: u32) -> Settings {
    Settings {
        wait: if busy { Wait::Busy } else { Wait::Sleep },
        connections: 1,
        congestion_control: None,
        receive_buffer: ReceiveBuffer::Large,
        spin: true,
        tcp_writes: TcpWrites::Gathered,
        message_bytes_max,
        driver: DriverArgs::default(),
    }
}

fn behaviour(args: &ServeArgs) -> Behaviour {
    match args.reply_bytes {
        // Limited to 1 GiB by the option's parser.
        Some(bytes) => Behaviour::Pattern(bytes as u32),
        None if args.discard => Behaviour::Discard,
        None => Behaviour::Echo,
    }
}

/// Binds everything before anything is served, then gives each server a thread.
fn start_all(
    args: &ServeArgs,
    address: SocketAddr,
    settings: &Settings,
    responder: &Responder,
    ended: &mpsc::Sender<End>,
) -> Result<(), CliError> {
    let mut bound: Vec<(Protocol, Bound)> = Vec::new();
    for protocol in args.transport.protocols(args.carriage.carriage) {
        let at = bound.first().map_or(address, |(_, first)| first.address);
        bound.push((protocol, bind(protocol, Api::Event, at, settings)?));
    }
    for (protocol, server) in bound {
        eprintln!("homa: serving {} at {}", protocol.name(), server.address);
        let (sender, responder, delay) = (ended.clone(), responder.clone(), args.delay);
        thread::Builder::new()
            .name(format!("serve-{}", protocol.name()))
            .spawn(move || {
                if let Err(error) = (server.serve)(&responder, delay) {
                    let _ = sender.send(End::Failed(error));
                }
            })
            .map_err(|error| CliError::io("thread", &error))?;
    }
    Ok(())
}

fn report(responder: &Responder, started: Instant, json: bool) -> Result<(), CliError> {
    let (requests, request_bytes) = responder.served();
    let secs = started.elapsed().as_secs_f64();
    if json {
        return output::document(
            &json!({ "requests": requests, "request_bytes": request_bytes, "secs": secs }),
        );
    }
    let text = format!("{requests} requests, {} in {secs:.1} s\n", format_size(request_bytes));
    output::bytes(text.as_bytes())
}
