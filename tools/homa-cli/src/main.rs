//! The `homa` command: serve, call, ping and benchmark Homa RPCs.
#![forbid(unsafe_code)]

mod args;
mod bench;
mod body;
mod call;
mod capture;
mod doctor;
mod error;
mod failures;
mod interrupt;
mod lab;
mod latency;
mod load;
mod manual;
mod options;
mod output;
mod ping;
mod progress;
mod report;
mod resolve;
mod serve;
mod sim;
mod soak;
mod transport;
mod units;

use std::{env, process::ExitCode};

use clap::Parser;
use serde_json::json;

use crate::{
    args::{Cli, Command, Internal, InternalCommand},
    bench::args::BenchArgs,
    error::CliError,
};

fn main() -> ExitCode {
    if let Some(internal) = Internal::of_this_process() {
        return status(run_internal(&internal.command), false);
    }
    match Cli::try_parse() {
        Ok(cli) => {
            let json = cli.global.json;
            status(run(&cli.command, json), json)
        }
        Err(error) => usage(&error),
    }
}

/// Says why a command failed; with `json` in a document too, unless it has printed one.
fn status(result: Result<(), CliError>, json: bool) -> ExitCode {
    let Err(error) = result else { return ExitCode::SUCCESS };
    eprintln!("homa: {error}");
    if json && !output::has_document() {
        // If standard output is gone, the exit status is all there is left to say.
        let _ = output::document(&json!({ "error": error.to_string() }));
    }
    ExitCode::from(error.exit_status())
}

/// Prints help, the version, or what is wrong with the command line.
fn usage(error: &clap::Error) -> ExitCode {
    // As above.
    let _ = error.print();
    if error.use_stderr() && env::args_os().any(|argument| argument == "--json") {
        let text = error.render().to_string();
        let first = text.lines().next().unwrap_or_default().trim_start_matches("error: ");
        let _ = output::document(&json!({ "error": first }));
    }
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(1))
}

fn run(command: &Command, json: bool) -> Result<(), CliError> {
    match command {
        Command::Serve(args) => serve::run(args, json),
        Command::Call(args) => call::run(args, json),
        Command::Ping(args) => ping::run(args, json),
        Command::Load(args) => load::run(args, json),
        Command::Bench { carriage, args } => {
            bench::run(&BenchArgs { carriage: *carriage, ..(**args).clone() }, json)
        }
        Command::Soak(args) => soak::run(args, json),
        Command::Report(args) => report::run(args, json),
        Command::Capture(args) => capture::run(args, json),
        Command::Doctor(args) => doctor::run(args, json),
        Command::Lab { command } => lab::run(command, json),
        Command::Sim { command } => sim::run(command, json),
        Command::Completions { shell } => manual::completions(*shell, json),
        Command::Man { directory } => manual::pages(directory.as_deref(), json),
    }
}

fn run_internal(command: &InternalCommand) -> Result<(), CliError> {
    match command {
        InternalCommand::BenchHost => bench::cluster::agent(),
        InternalCommand::LabHolder { job } => lab::holder::run(job),
        InternalCommand::LabTrial => lab::trial::run(),
        InternalCommand::SoakServer { job } => soak::server::run(job),
        InternalCommand::SoakClient { job } => soak::client::run(job),
        InternalCommand::BenchWorker { job } => bench::worker::run(job),
    }
}
