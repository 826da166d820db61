//! The `homa` command: serve, call, ping and benchmark Homa RPCs.

mod args;
mod bench;
mod body;
mod call;
mod capture;
mod doctor;
mod error;
mod interrupt;
mod lab;
mod latency;
mod manual;
mod output;
mod ping;
mod progress;
mod report;
mod resolve;
mod serve;
mod transport;
mod units;

use std::process::ExitCode;

use clap::Parser;

use crate::{
    args::{Carriage, Cli, Command, Global},
    error::CliError,
};

fn main() -> ExitCode {
    let mut cli = Cli::parse();
    cli.command.set_carriage(cli.global.carriage);
    match run(&cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("homa: {error}");
            ExitCode::from(error.exit_status())
        }
    }
}

fn run(cli: &Cli) -> Result<(), CliError> {
    check_carriage(&cli.global)?;
    let json = cli.global.json;
    match &cli.command {
        Command::Serve(args) => serve::run(args, json),
        Command::Call(args) => call::run(args, json),
        Command::Ping(args) => ping::run(args, json),
        Command::Bench(args) => bench::run(args, json),
        Command::Report(args) => report::run(args, json),
        Command::Capture(args) => capture::run(args, json),
        Command::Doctor => doctor::run(cli.global.carriage, json),
        Command::Lab { command } => lab::run(command, json),
        Command::Completions { shell } => manual::completions(*shell, json),
        Command::Man { directory } => manual::pages(directory.as_deref(), json),
        Command::BenchHost => bench::cluster::agent(),
        Command::LabHolder { job } => lab::holder::run(job),
        Command::LabTrial => lab::trial::run(),
        Command::BenchServer { spec } => bench::server::run(spec),
        Command::BenchClient { job } => bench::client::run(job),
    }
}

fn check_carriage(global: &Global) -> Result<(), CliError> {
    match global.carriage {
        Carriage::Udp | Carriage::Ip | Carriage::IpTcp | Carriage::Auto => Ok(()),
        Carriage::Xdp => Err(not_built("xdp")),
    }
}

fn not_built(carriage: &str) -> CliError {
    CliError::Usage(format!("carriage `{carriage}` is not yet built; use `udp` or `ip`"))
}
