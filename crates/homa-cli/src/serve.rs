//! `homa serve`: answers requests until Ctrl-C.

use std::{net::SocketAddr, sync::mpsc, thread, time::Instant};

use serde_json::json;

use crate::{
    args::ServeArgs,
    error::CliError,
    interrupt, output,
    resolve::resolve,
    transport::{
        Api, Behaviour, Protocol, ReceiveBuffer, Responder, Settings, TcpWrites, Wait,
        connect::{Bound, bind},
    },
    units::format_size,
};

/// Why serving ends.
enum End {
    Interrupted,
    Failed(CliError),
}

/// Runs the command.
pub(crate) fn run(args: &ServeArgs, json: bool) -> Result<(), CliError> {
    let address = resolve(&args.address)?;
    let settings = settings(args.busy, args.max_message as u32);
    let responder = Responder::new(behaviour(args));
    let started = Instant::now();
    let (sender, ended) = mpsc::channel();
    let on_interrupt = sender.clone();
    interrupt::watch(move || {
        let _ = on_interrupt.send(End::Interrupted);
    });
    start_all(args, address, &settings, &responder, &sender)?;
    // This function holds a sender itself, so the channel cannot be closed.
    let end = ended.recv();
    let reported = report(&responder, started, json);
    match end {
        Ok(End::Failed(error)) => Err(error),
        _ => reported,
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
    for protocol in args.transport.protocols(args.carriage) {
        let at = bound.first().map_or(address, |(_, first)| first.address);
        bound.push((protocol, bind(protocol, Api::Event, at, settings)?));
    }
    for (protocol, server) in bound {
        eprintln!("homa: serving {} at {}", protocol.name(), server.address);
        let (sender, responder, delay) = (ended.clone(), responder.clone(), args.delay);
        thread::Builder::new()
            .name(format!("serve-{}", protocol.name()))
            .spawn(move || {
                if let Err(error) = server.serve(&responder, delay) {
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
