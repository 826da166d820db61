//! The host agent of `homa bench cluster` for `quic` and `grpc`, and the processes of `homa bench
//! local` for them; started by these, not by people.

use std::{fmt::Display, io, process::ExitCode};

use homa_bench::agent;

const USAGE: &str = "\
Usage: homa-bench-peers bench-host
       homa-bench-peers bench-pair JOB

Speaks QUIC and gRPC in comparisons with Homa. `homa bench cluster --transport quic --transport grpc` starts it on every
host and tells it what to do through its standard input; `homa bench local` starts a client and a server, each with a job.
";

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    match arguments.first().and_then(|first| first.to_str()) {
        Some("bench-host") if arguments.len() == 1 => ended(agent::run_with(
            homa_bench_peers::open,
            io::BufReader::new(io::stdin()),
            io::stdout(),
        )),
        Some("bench-pair") if arguments.len() == 2 => {
            ended(homa_bench_peers::pair(&arguments[1].to_string_lossy(), io::stdout()))
        }
        Some("--help" | "-h" | "help") => {
            print!("{USAGE}");
            ExitCode::SUCCESS
        }
        Some("--version" | "-V") => {
            println!("homa-bench-peers {}", env!("CARGO_PKG_VERSION"));
            ExitCode::SUCCESS
        }
        _ => {
            eprint!("{USAGE}");
            ExitCode::from(2)
        }
    }
}

fn ended(work: Result<(), impl Display>) -> ExitCode {
    match work {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("homa-bench-peers: {error}");
            ExitCode::FAILURE
        }
    }
}
