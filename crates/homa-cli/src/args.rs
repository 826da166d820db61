//! The command line.

use std::{path::PathBuf, time::Duration};

use clap::{ArgGroup, Args, Parser, Subcommand, ValueEnum, value_parser};
use serde::Serialize;

use crate::{
    lab::args::LabCommand,
    transport::Protocol,
    units::{parse_duration, parse_positive, parse_positive_duration, parse_size},
};

/// The longest payload the command makes, in bytes.
pub(crate) const PAYLOAD_BYTES_MAX: u64 = 1 << 30;

/// What clients accept as a reply unless more was ordered, in bytes.
pub(crate) const MESSAGE_BYTES_MAX: u32 = 64 << 20;

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
  sudo homa ping 10.0.0.2:99 --carriage ip     also to a host with the Linux module

Exit status: 0 if everything asked for was done, 1 if not, 2 for wrong usage.";

/// Options of every command.
#[derive(Debug, Clone, Args)]
pub(crate) struct Global {
    /// Print one JSON document on standard output and nothing else there
    #[arg(long, global = true)]
    pub json: bool,
    /// What carries Homa packets
    #[arg(long, global = true, value_enum, default_value_t = Carriage::Udp, value_name = "CARRIAGE")]
    pub carriage: Carriage,
}

/// What carries Homa packets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Carriage {
    /// UDP datagrams; needs no privileges
    #[default]
    Udp,
    /// Raw IP, protocol 146, which hosts with the Linux module speak; needs CAP_NET_RAW
    Ip,
    /// As `ip`, with packets that look like TCP segments (the Linux module's `hijack_tcp`); whoever speaks
    /// raw IP understands them too
    IpTcp,
    /// AF_XDP (not yet built)
    Xdp,
    /// UDP: the one that works everywhere
    Auto,
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
    /// Compare Homa with TCP
    Bench(Box<BenchArgs>),
    /// Draw results of `homa bench cluster` as one HTML page
    Report(crate::report::args::ReportArgs),
    /// Record and explain Homa packets
    Capture(crate::capture::args::CaptureArgs),
    /// Say what this host lacks for Homa, and the commands that mend it; changes nothing
    #[command(after_help = "\
Examples:
  homa doctor                                  what is there and what is missing
  homa doctor --carriage ip                    the same for endpoints over raw IP
  sudo homa doctor --json                      with what only root may see, for programs

States: ok; warning: it works, but not as well as it could; problem: it does not work.
Exit status: 0 without problems, 1 with some.")]
    Doctor,
    /// A data center on one machine: hosts, a switch with priorities, any program inside
    Lab {
        #[command(subcommand)]
        command: LabCommand,
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
    /// The agent of `homa bench cluster` on a host: orders on standard input, reports on standard output
    #[command(hide = true)]
    BenchHost,
    /// The process that holds a lab
    #[command(hide = true)]
    LabHolder {
        /// What to hold, as JSON
        job: String,
    },
    /// The server process of the benchmark
    #[command(hide = true)]
    BenchServer {
        /// What to serve, as JSON
        spec: String,
    },
    /// The client process of the benchmark
    #[command(hide = true)]
    BenchClient {
        /// What to measure, as JSON
        job: String,
    },
}

/// `homa serve`
#[derive(Debug, Clone, Args)]
#[command(group = ArgGroup::new("reply"), after_help = "\
Examples:
  homa serve 0.0.0.0:4000                      echo
  homa serve 127.0.0.1:4000 --reply-bytes 10k  reply with 10,000 bytes
  homa serve 0.0.0.0:4000 --transport both     be the other side of `homa bench --server`

A request may order its own reply: see `homa call --reply-bytes`.")]
pub(crate) struct ServeArgs {
    /// Address to listen on; port 0 takes a free one
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
    /// Poll without pause instead of sleeping
    #[arg(long)]
    pub busy: bool,
    /// What to serve; `both` takes the same port number for Homa and TCP
    #[arg(long, value_enum, default_value_t = Served::Homa)]
    pub transport: Served,
    /// As given with the global options.
    #[arg(skip)]
    pub carriage: Carriage,
}

/// Which transports a command uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Served {
    /// Homa
    Homa,
    /// Length-prefixed RPCs over TCP
    Tcp,
    /// Homa and TCP
    Both,
}

impl Served {
    /// The protocols meant, the competitor first.
    pub(crate) fn protocols(self, carriage: Carriage) -> Vec<Protocol> {
        let homa = Protocol::HomaUdp.over(carriage);
        match self {
            Served::Homa => vec![homa],
            Served::Tcp => vec![Protocol::Tcp],
            Served::Both => vec![Protocol::Tcp, homa],
        }
    }
}

impl Command {
    /// Makes the command use what was chosen to carry Homa packets.
    pub(crate) fn set_carriage(&mut self, carriage: Carriage) {
        match self {
            Command::Serve(args) => args.carriage = carriage,
            Command::Bench(args) => args.carriage = carriage,
            Command::Call(args) => args.transport = args.transport.over(carriage),
            Command::Ping(args) => args.transport = args.transport.over(carriage),
            _ => {}
        }
    }
}

/// `homa call`
#[derive(Debug, Clone, Args)]
#[command(group = ArgGroup::new("body").required(true), after_help = "\
Examples:
  homa call 127.0.0.1:4000 hello
  homa call 127.0.0.1:4000 --file query.bin --reply-bytes 1M > answer.bin
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
    /// Send this text
    #[arg(group = "body")]
    pub text: Option<String>,
    /// Send the content of this file
    #[arg(long, group = "body", value_name = "F")]
    pub file: Option<PathBuf>,
    /// Send N bytes of a seeded pattern
    #[arg(long, group = "body", value_name = "N", value_parser = payload_size)]
    pub size: Option<u64>,
    /// Number of calls
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = value_parser!(u64).range(1..))]
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
    /// Transport to use
    #[arg(long, value_enum, default_value_t = Protocol::HomaUdp)]
    pub transport: Protocol,
}

/// `homa ping`
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  homa ping 127.0.0.1:4000
  homa ping 127.0.0.1:4000 --size 10k --secs 5 --busy
  homa ping 127.0.0.1:4000 --count 100000 --json

The calls follow each other without pause; the first 100 ms are not counted when --secs is given.")]
pub(crate) struct PingArgs {
    /// The server
    #[arg(value_name = "ADDR:PORT")]
    pub address: String,
    /// Length of the requests in bytes; an echo server replies with as many
    #[arg(long, value_name = "N", default_value = "100", value_parser = payload_size)]
    pub size: u64,
    /// Number of calls (1,000 if neither this nor --secs is given)
    #[arg(long, value_name = "N", conflicts_with = "secs", value_parser = value_parser!(u64).range(1..))]
    pub count: Option<u64>,
    /// Seconds to go on for
    #[arg(long, value_name = "S", value_parser = parse_positive_duration)]
    pub secs: Option<Duration>,
    /// Poll without pause instead of sleeping
    #[arg(long)]
    pub busy: bool,
    /// Give a call up after this time
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = parse_positive_duration)]
    pub timeout: Duration,
    /// Transport to use
    #[arg(long, value_enum, default_value_t = Protocol::HomaUdp)]
    pub transport: Protocol,
}

/// The tests of `homa bench`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum BenchTest {
    /// One call at a time
    Latency,
    /// Many small calls at a time
    Rate,
    /// Long messages
    Goodput,
    /// Messages of all sizes that arrive at random times
    Mixed,
}

impl BenchTest {
    /// The name used in tables and documents.
    pub(crate) fn name(self) -> &'static str {
        match self {
            BenchTest::Latency => "latency",
            BenchTest::Rate => "rate",
            BenchTest::Goodput => "goodput",
            BenchTest::Mixed => "mixed",
        }
    }
}

/// The commands below `homa bench`.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum BenchCommand {
    /// Compare transports over a network of many hosts, emulated on this machine or real
    Cluster(ClusterArgs),
    /// Run a plan file with all its variants
    Plan(PlanArgs),
}

/// `homa bench cluster`
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  homa bench cluster                           6 hosts, 100 Mbit/s, workload W4, load 80 %
  homa bench cluster --workload w3 --load 0.5 --secs 10 --rounds 3
  homa bench cluster --transport homa-udp --transport tcp-bbr-x8
  homa bench cluster --transport homa-udp --transport quic --transport grpc
  homa bench cluster --plan plans/goal-w4.toml --out results

Every host is a network namespace of this machine; a switch with eight strict priorities joins them. Every host \
calls every other: Poisson arrivals, sizes of the workload, answers as long as the requests. Transports take \
turns, with the same arrivals. The names of TCP are its congestion control and the number of connections per pair \
of hosts, of which an RPC takes the one with the fewest bytes under way. QUIC and gRPC are spoken by a program of \
their own, homa-bench-peers (`cargo build --release --manifest-path peers/Cargo.toml`).")]
pub(crate) struct ClusterArgs {
    /// Plan to start from; options change it
    #[arg(long, value_name = "FILE")]
    pub plan: Option<PathBuf>,
    /// Number of hosts
    #[arg(long, value_name = "N")]
    pub hosts: Option<u32>,
    /// Rate of every link
    #[arg(long, value_name = "RATE", value_parser = homa_bench::units::parse_rate_mbps)]
    pub rate: Option<u32>,
    /// Longest IP packet in bytes, 1280 to 9000
    #[arg(long, value_name = "BYTES")]
    pub mtu: Option<u32>,
    /// What emulates the switch: auto, kernel or switch
    #[arg(long, value_name = "NAME")]
    pub backend: Option<String>,
    /// Bytes that a port of the switch may hold
    #[arg(long, value_name = "N", value_parser = payload_size)]
    pub buffer: Option<u64>,
    /// Message sizes: w1 to w5, fixed:N, or a CSV file with length_bytes,cumulative_fraction
    #[arg(long, value_name = "w1..w5|FILE")]
    pub workload: Option<String>,
    /// Share of each link's rate that data packets take
    #[arg(long, value_name = "F", value_parser = parse_positive)]
    pub load: Option<f64>,
    /// Transport to measure, several times for several: homa-udp, homa-ip, tcp-cubic, tcp-bbr-x8, quic, grpc-x4, ...
    #[arg(long = "transport", value_name = "NAME")]
    pub transports: Vec<homa_bench::transport::Transport>,
    /// Seconds that count, per transport and round
    #[arg(long, value_name = "S", value_parser = parse_positive_duration)]
    pub secs: Option<Duration>,
    /// Rounds in which the transports take turns
    #[arg(long, value_name = "N", value_parser = value_parser!(u32).range(1..=1_000))]
    pub rounds: Option<u32>,
    /// Seed of arrivals, sizes and destinations
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// A setting of Homa instead of the derived one, such as max_overcommit=2
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub settings: Vec<String>,
    /// Addresses of loopback instead of a lab: no link has a rate, to try plans out
    #[arg(long)]
    pub loopback: bool,
    #[command(flatten)]
    pub common: ClusterCommon,
}

/// `homa bench plan`
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  homa bench plan plans/priorities.toml
  homa bench plan plans/incast.toml --out results/incast")]
pub(crate) struct PlanArgs {
    /// The plan
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    #[command(flatten)]
    pub common: ClusterCommon,
}

/// Options of all comparisons over a network.
#[derive(Debug, Clone, Args)]
pub(crate) struct ClusterCommon {
    /// Directory for the results
    #[arg(long, value_name = "DIR", default_value = "bench-results")]
    pub out: PathBuf,
    /// Write the results as a page, report.html in that directory, too
    #[arg(long)]
    pub report: bool,
    /// What stands in for `ssh`, for plans over real machines
    #[arg(long, value_name = "PROGRAM", default_value = "ssh")]
    pub ssh: String,
    /// The agent's command on these machines; for quic and grpc, homa-bench-peers beside the homa it names
    #[arg(long, value_name = "COMMAND", default_value = "homa bench-host")]
    pub remote: String,
}

/// `homa bench`
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  homa bench                                   everything, in less than a minute
  homa bench latency --size 1k --busy
  homa bench rate --outstanding 256 --conns 4
  homa bench mixed --workload w4 --load 0.8 --secs 5 --png
  homa serve 0.0.0.0:4000 --transport both     on another machine, then here:
  homa bench --server 10.0.0.2:4000

Without --server, a server and a client process are started per measurement, each pinned to its own core. \
Homa and TCP take turns; every figure is the median of the rounds, every ratio the median of the ratios of \
the rounds, with the smallest and the largest.
Latency with `sleep` is each transport's default blocking wait: Homa looks for packets for up to 50 \
microseconds before it sleeps, as long as that has paid off of late; the row `sleep, no spin` is Homa that \
sleeps at once, as TCP does.
In the rate test client and server of TCP write each message when it is made, as RPC libraries that set \
NODELAY usually do; in the row `TCP gathers` all calls of a turn, and all replies to one read, leave in one \
write, which is the ideal of pipelining. Homa is the same in both. Goodput and the mixed test are against TCP \
that gathers and does not copy long messages. TCP always reads all there is.
The mixed test offers both transports the same Poisson arrivals; the load is a share of what the slower one \
carries of this very workload with 64 calls outstanding, or of --link. Slowdown is the time from the \
intended start of a call to its end, divided by the unloaded time of a call of that size over the faster \
transport.")]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct BenchArgs {
    #[command(subcommand)]
    pub command: Option<BenchCommand>,
    /// Which test; all of them if not given
    #[arg(value_enum)]
    pub test: Option<BenchTest>,
    /// Length of requests in bytes
    #[arg(long, value_name = "N", value_parser = payload_size)]
    pub size: Option<u64>,
    /// Calls under way at a time (rate: 64, goodput: 4)
    #[arg(long, value_name = "K", value_parser = value_parser!(u32).range(1..=100_000))]
    pub outstanding: Option<u32>,
    /// TCP connections the calls are spread over
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = value_parser!(u32).range(1..=1_000))]
    pub conns: u32,
    /// Message sizes of the mixed test: w1 to w5, fixed:N (or --size N), or a CSV file with
    /// length_bytes,cumulative_fraction
    #[arg(long, value_name = "w1..w5|FILE", default_value = "w3")]
    pub workload: String,
    /// Load of the mixed test, as a share
    #[arg(long, value_name = "F", default_value_t = 0.5, value_parser = parse_positive)]
    pub load: f64,
    /// Rate of the link in Gbit/s that --load is a share of
    #[arg(long, value_name = "GBIT", value_parser = parse_positive)]
    pub link: Option<f64>,
    /// Poll without pause only, instead of the usual waiting modes
    #[arg(long)]
    pub busy: bool,
    /// Seconds per measurement
    #[arg(long, value_name = "S", value_parser = parse_positive_duration)]
    pub secs: Option<Duration>,
    /// Rounds in which the transports take turns
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = value_parser!(u32).range(1..=1_000))]
    pub rounds: u32,
    /// Use the `homa serve --transport both` at this address
    #[arg(long, value_name = "HOST:PORT")]
    pub server: Option<String>,
    /// Replies of the goodput test are as long as the requests
    #[arg(long)]
    pub echo: bool,
    /// Transports to measure
    #[arg(long, value_enum, default_value_t = Served::Both)]
    pub transport: Served,
    /// As given with the global options.
    #[arg(skip)]
    pub carriage: Carriage,
    /// Congestion control of TCP
    #[arg(long, value_name = "NAME", default_value = "cubic")]
    pub cc: String,
    /// Cores to pin client and server to, such as 0,1; `none` pins nothing
    #[arg(long, value_name = "C,S")]
    pub cpus: Option<String>,
    /// Directory for the picture
    #[arg(long, value_name = "DIR", default_value = "bench-results")]
    pub out: PathBuf,
    /// Write the picture as PNG too
    #[arg(long)]
    pub png: bool,
    /// Seed of arrivals and sizes
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
}

fn payload_size(text: &str) -> Result<u64, String> {
    match parse_size(text)? {
        0 => Err("a message has at least 1 byte".to_owned()),
        bytes if bytes > PAYLOAD_BYTES_MAX => Err("a message has at most 1 GiB".to_owned()),
        bytes => Ok(bytes),
    }
}

fn ordered_size(text: &str) -> Result<u64, String> {
    match payload_size(text)? {
        bytes if bytes > u64::from(crate::body::REPLY_BYTES_MAX) => {
            Err("at most 64 MiB can be ordered".to_owned())
        }
        bytes => Ok(bytes),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn sizes_outside_the_limits_are_refused() {
        assert!(payload_size("0").is_err());
        assert!(payload_size("2GiB").is_err());
        assert!(ordered_size("65MiB").is_err());
        assert_eq!(payload_size("1M"), Ok(1_000_000));
    }
}
