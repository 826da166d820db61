//! The command line.

use std::{env, path::PathBuf, time::Duration};

use clap::{ArgGroup, Args, CommandFactory, Parser, Subcommand, value_parser};

use crate::{
    bench::args::BenchArgs,
    lab::args::LabCommand,
    load::args::LoadArgs,
    options::{CarriageArg, DriverArgs, Served, TransportArgs, ordered_size, payload_size},
    sim::args::SimCommand,
    transport::Carriage,
    units::{parse_duration, parse_positive_duration},
};

/// Homa: message transport for data centers, on the command line.
#[derive(Debug, Parser)]
#[command(name = "homa", version, propagate_version = true, after_help = EXAMPLES)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

const EXAMPLES: &str = "\
Examples:
  homa bench                                   compare Homa with TCP on this machine
  homa serve 0.0.0.0:4000                      answer every request with itself
  homa call 127.0.0.1:4000 hello               send a request, print the reply
  homa ping 127.0.0.1:4000                     measure round-trip times
  homa load 127.0.0.1:4000 --rate 10k          10,000 calls per second: how long do they take?
  sudo homa ping 10.0.0.2:99 --carriage ip     also to a host with the Linux module

Exit status: 0 if everything asked for was done, 1 if not, 2 for wrong usage.";

/// Options of every command.
#[derive(Debug, Clone, Args)]
pub(crate) struct Global {
    /// Print one JSON document on standard output and nothing else there
    #[arg(long, global = true)]
    pub json: bool,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Answer requests until Ctrl-C
    Serve(ServeArgs),
    /// Send requests and check or print the replies
    Call(CallArgs),
    /// Measure the round-trip time of one call at a time
    Ping(PingArgs),
    /// Load servers at a rate or with calls at a time, and measure how long calls take
    Load(Box<LoadArgs>),
    /// Compare Homa with TCP
    Bench {
        /// What carries Homa packets
        #[arg(long, global = true, value_enum, default_value_t = Carriage::Udp, value_name = "CARRIAGE")]
        carriage: Carriage,
        #[command(flatten)]
        args: Box<BenchArgs>,
    },
    /// Let processes call each other while everything goes wrong, and check what was promised
    Soak(Box<crate::soak::args::SoakArgs>),
    /// Draw results of `homa bench cluster` as one HTML page
    Report(crate::report::args::ReportArgs),
    /// Record and explain Homa packets
    Capture(crate::capture::args::CaptureArgs),
    /// Say what this host lacks for Homa, and the commands that mend it; changes nothing
    #[command(after_help = "\
Examples:
  homa doctor                                  what is there and what is missing
  homa doctor --carriage ip                    the same for endpoints over raw IP
  sudo homa doctor --driver xdp --interface eth0
                                               the same for endpoints over AF_XDP there
  sudo homa doctor --json                      with what only root may see, for programs

States: ok; warning: it works, but not as well as it could; problem: it does not work.
Exit status: 0 without problems, 1 with some.")]
    Doctor(DoctorArgs),
    /// A data center on one machine: hosts, a switch with priorities, any program inside
    Lab {
        #[command(subcommand)]
        command: LabCommand,
    },
    /// A data center in simulated time, with the engine that ships
    Sim {
        #[command(subcommand)]
        command: SimCommand,
    },
    /// Print a completion script for a shell
    #[command(
        after_help = "Examples:\n  homa completions bash > ~/.local/share/bash-completion/completions/homa"
    )]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Write man pages, to a directory or the one of `homa` to standard output
    #[command(after_help = "Examples:\n  homa man | man -l -\n  homa man target/man")]
    Man {
        /// Directory to write one page per command to
        directory: Option<PathBuf>,
    },
}

/// The commands that other commands start as processes of their own; no part of what users are
/// told.
#[derive(Debug, Parser)]
#[command(name = "homa")]
pub(crate) struct Internal {
    #[command(subcommand)]
    pub command: InternalCommand,
}

/// Commands of an [`Internal`] process.
#[derive(Debug, Subcommand)]
pub(crate) enum InternalCommand {
    /// The agent of `homa bench cluster` on a host: orders on standard input, reports on standard
    /// output
    BenchHost,
    /// The process that holds a lab
    LabHolder {
        /// What to hold, as JSON
        job: String,
    },
    /// Whether a lab can be built
    LabTrial,
    /// A server process of `homa soak`
    SoakServer {
        /// What to serve, as JSON
        job: String,
    },
    /// A client process of `homa soak`
    SoakClient {
        /// What to call, as JSON
        job: String,
    },
    /// A process of `homa bench local`
    BenchWorker {
        /// What to do, as JSON
        job: String,
    },
}

impl Internal {
    /// The command of this process, if it is one of these.
    pub(crate) fn of_this_process() -> Option<Self> {
        let name = env::args_os().nth(1)?;
        let known = Self::command().find_subcommand(name).is_some();
        known.then(Self::parse)
    }
}

/// `homa serve`
#[derive(Debug, Clone, Args)]
#[command(group = ArgGroup::new("reply"), after_help = "\
Examples:
  homa serve 0.0.0.0:4000                      echo
  homa serve 127.0.0.1:4000 --reply-bytes 10k  reply with 10,000 bytes
  homa serve 0.0.0.0:4000 --transport both     be the other side of `homa bench local --server`

A request may order its own reply: see `homa call --reply-bytes`. SIGUSR1 makes it say what it has served.")]
pub(crate) struct ServeArgs {
    /// Address to listen on: port 0 takes a free one, :PORT is every IPv4 address of this host
    #[arg(value_name = "ADDR:PORT")]
    pub address: String,
    /// Reply with the request (the default)
    #[arg(long, group = "reply")]
    pub echo: bool,
    /// Reply with N bytes of a seeded pattern (seed 2^64 - 1)
    #[arg(long, group = "reply", value_name = "N", value_parser = payload_size)]
    pub reply_bytes: Option<u64>,
    /// Reply with one byte
    #[arg(long, group = "reply")]
    pub discard: bool,
    /// Reply only after this time
    #[arg(long, value_name = "TIME", value_parser = parse_duration, default_value = "0s")]
    pub delay: Duration,
    /// The longest message to accept or send
    #[arg(long, value_name = "N", default_value = "64MiB", value_parser = payload_size)]
    pub max_message: u64,
    /// Say on standard error what was served, per this time (10s on a terminal); 0 says nothing
    #[arg(short = 'i', long, value_name = "TIME", value_parser = parse_duration)]
    pub interval: Option<Duration>,
    /// Poll without pause instead of sleeping
    #[arg(long)]
    pub busy: bool,
    /// What to serve; `both` takes the same port number for Homa and TCP
    #[arg(long, value_enum, default_value_t = Served::Homa)]
    pub transport: Served,
    #[command(flatten)]
    pub carriage: CarriageArg,
    #[command(flatten)]
    pub driver: DriverArgs,
}

/// `homa call`
#[derive(Debug, Clone, Args)]
#[command(group = ArgGroup::new("body").required(true), after_help = "\
Examples:
  homa call 127.0.0.1:4000 hello
  homa call 127.0.0.1:4000 --file query.bin --reply-bytes 1M > answer.bin
  echo hello | homa call 127.0.0.1:4000 -
  homa call 127.0.0.1:4000 --size 10k --count 1000 --outstanding 64 --verify

With --reply-bytes the first 16 bytes of the request tell `homa serve` which reply is wanted: the magic \
9e 48 4d 01, the length (u32) and the seed (u64) of a pattern, little endian. They go in front of TEXT or \
FILE, and take the place of the first bytes of a --size payload.
Call k of a run uses seed k; --verify compares every byte of every reply with the request (echo) or, with \
--reply-bytes, with the ordered pattern.
The reply to a single TEXT or FILE request is written to standard output.")]
pub(crate) struct CallArgs {
    /// The server
    #[arg(value_name = "ADDR:PORT")]
    pub address: String,
    /// Send this text; - sends standard input
    #[arg(group = "body")]
    pub text: Option<String>,
    /// Send the content of this file; - is standard input
    #[arg(long, group = "body", value_name = "F")]
    pub file: Option<PathBuf>,
    /// Send N bytes of a seeded pattern
    #[arg(long, group = "body", value_name = "N", value_parser = payload_size, allow_negative_numbers = true)]
    pub size: Option<u64>,
    /// Number of calls
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = value_parser!(u64).range(1..), allow_negative_numbers = true)]
    pub count: u64,
    /// Number of calls under way at a time
    #[arg(long, value_name = "K", default_value_t = 1, value_parser = value_parser!(u32).range(1..=100_000))]
    pub outstanding: u32,
    /// Ask the server for replies of N bytes
    #[arg(long, value_name = "N", value_parser = ordered_size)]
    pub reply_bytes: Option<u64>,
    /// Check every byte of every reply
    #[arg(long)]
    pub verify: bool,
    /// Give a call up after this time
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = parse_positive_duration)]
    pub timeout: Duration,
    #[command(flatten)]
    pub transport: TransportArgs,
}

/// `homa doctor`
#[derive(Debug, Clone, Args)]
pub(crate) struct DoctorArgs {
    #[command(flatten)]
    pub carriage: CarriageArg,
    #[command(flatten)]
    pub driver: DriverArgs,
}

/// `homa ping`
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  homa ping 127.0.0.1:4000
  homa ping 127.0.0.1:4000 --interval 100ms --count 50
  homa ping 127.0.0.1:4000 --flood --size 10k --secs 5 --busy
  homa ping 127.0.0.1:4000 --flood --count 100000 --json

A call that fails or gets no reply is lost; the others go on. With --flood each ping follows the reply to the one \
before without pause, and the first 100 ms are not counted when --secs is given.
Exit status: 0 if a ping was answered, 1 if none was.")]
pub(crate) struct PingArgs {
    /// The server
    #[arg(value_name = "ADDR:PORT")]
    pub address: String,
    /// Length of the requests in bytes; an echo server replies with as many
    #[arg(long, value_name = "N", default_value = "100", value_parser = payload_size, allow_negative_numbers = true)]
    pub size: u64,
    /// Number of pings (without this and --secs: until Ctrl-C, with --flood 1,000)
    #[arg(short = 'c', long, value_name = "N", conflicts_with = "secs", value_parser = value_parser!(u64).range(1..), allow_negative_numbers = true)]
    pub count: Option<u64>,
    /// How long to go on
    #[arg(short = 'z', long, value_name = "TIME", value_parser = parse_positive_duration)]
    pub secs: Option<Duration>,
    /// Time from one ping to the next
    #[arg(short = 'i', long, value_name = "TIME", default_value = "1s", value_parser = parse_positive_duration)]
    pub interval: Duration,
    /// As fast as replies come, with a summary only
    #[arg(short = 'f', long, conflicts_with = "interval")]
    pub flood: bool,
    /// Poll without pause instead of sleeping
    #[arg(long)]
    pub busy: bool,
    /// When a ping is lost
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = parse_positive_duration)]
    pub timeout: Duration,
    #[command(flatten)]
    pub transport: TransportArgs,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
        Internal::command().debug_assert();
    }
}
