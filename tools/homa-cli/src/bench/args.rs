//! The command line of `homa bench`.

use std::{path::PathBuf, time::Duration};

use clap::{Args, FromArgMatches, Subcommand, ValueEnum, value_parser};
use serde::Serialize;

use crate::{
    options::{Served, payload_size},
    transport::Carriage,
    units::{parse_positive, parse_positive_duration},
};

/// The tests of `homa bench`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum BenchTest {
    /// Homa beside what programs use: TCP through tokio, TCP that gathers, QUIC, gRPC
    Compare,
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
            BenchTest::Compare => "compare",
            BenchTest::Latency => "latency",
            BenchTest::Rate => "rate",
            BenchTest::Goodput => "goodput",
            BenchTest::Mixed => "mixed",
        }
    }
}

/// `homa bench`
#[derive(Debug, Clone, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "\
Examples:
  homa bench                                   Homa and TCP, workloads W4 and W3: about 2 minutes
  homa bench --out results                     the same; results/report.html is the page
  homa bench --workload w5 --secs 10           another workload
  homa bench --transport homa-udp --transport tcp-bbr --rounds 3
  homa bench --dry-run                         what would be done and how long it takes
  homa bench plan plans/priorities.toml        a study as a file; see `homa bench plan --help`
  homa bench local latency                     two processes on loopback instead of emulated hosts

Six hosts are emulated on this machine (network namespaces, no root needed where users may make them), joined \
by a switch with priorities. Every host calls every other at random times; messages have the sizes of the \
workload, and answers are as long. The rate of the links is what this machine can carry, found out first, unless \
--rate gives it; the time is long enough for 1,000 short messages per transport, unless --secs gives it. \
Where no lab can be built, transports are compared over loopback (`homa bench local`), unless options ask for \
a network."
)]
pub(crate) struct BenchArgs {
    #[command(subcommand)]
    pub command: Option<BenchCommand>,
    #[command(flatten)]
    pub compare: CompareOptions,
    #[command(flatten)]
    pub results: ResultOptions,
    /// As given with the global options.
    #[arg(skip)]
    pub carriage: Carriage,
}

/// The commands below `homa bench`.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum BenchCommand {
    /// Compare transports over one network of many hosts, emulated on this machine or real
    Cluster(Box<ClusterArgs>),
    /// Run a plan file with all its variants
    Plan(PlanArgs),
    /// Compare Homa with TCP between two processes of this machine, or with a server elsewhere
    Local(Box<LocalArgs>),
}

/// What a comparison over a network may vary; what is not given is the plan's.
#[derive(Debug, Clone, Default, PartialEq, Args)]
pub(crate) struct CompareOptions {
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
    /// The longest message; a workload with longer ones is refused
    #[arg(long, value_name = "N", value_parser = payload_size)]
    pub message_max: Option<u64>,
    /// Share of each link's rate that data packets take
    #[arg(long, value_name = "F", value_parser = parse_positive)]
    pub load: Option<f64>,
    /// Transport to measure, several times for several: homa-udp, homa-ip, tcp-cubic, tcp-bbr-x8,
    /// quic, grpc-x4, ...
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
    /// A setting of Homa instead of the derived one, such as grants.max_overcommit=2 or
    /// recovery.timeout=500ms; docs/bench-files.md has the names
    #[arg(long = "set", value_name = "NAME=VALUE")]
    pub settings: Vec<String>,
}

/// Where results go.
#[derive(Debug, Clone, Args)]
pub(crate) struct ResultOptions {
    /// Directory for the results; those of an earlier run are kept as DIR.1, DIR.2, ...
    #[arg(long, value_name = "DIR", default_value = "bench-results")]
    pub out: PathBuf,
    /// Say what would be done and how long it takes, and do nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// `homa bench cluster`
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  homa bench cluster                           6 hosts, 100 Mbit/s, workload W4, load 80 %: 2 minutes
  homa bench cluster --workload w3 --rate 50M --load 0.5 --secs 10 --rounds 3
  homa bench cluster --transport homa-udp --transport tcp-bbr-x8
  homa bench cluster --transport homa-udp --transport quic --transport grpc
  homa bench cluster --plan plans/incast.toml --secs 2 --dry-run

Every host is a network namespace of this machine; a switch with eight strict priorities joins them. Every host \
calls every other: Poisson arrivals, sizes of the workload, answers as long as the requests. Transports take \
turns, with the same arrivals. The names of TCP are its congestion control and the number of connections per pair \
of hosts, of which an RPC takes the one with the fewest bytes under way. QUIC and gRPC are spoken by a program of \
their own, homa-bench-peers (`cargo build --release --manifest-path peers/Cargo.toml`).")]
pub(crate) struct ClusterArgs {
    /// Plan to start from; options change it
    #[arg(long, value_name = "FILE")]
    pub plan: Option<PathBuf>,
    #[command(flatten)]
    pub compare: CompareOptions,
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
  homa bench plan plans/priorities.toml --dry-run
  homa bench plan plans/incast.toml --report --out results/incast

A plan is TOML: `[network]`, `[load]`, `[homa]` and any number of `[[variant]]` that change some keys. Every value \
is checked before anything is built. `docs/bench-files.md` has the keys, `plans/` the studies of the project.")]
pub(crate) struct PlanArgs {
    /// The plan
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    #[command(flatten)]
    pub common: ClusterCommon,
}

/// Options of `homa bench cluster` and `homa bench plan`.
#[derive(Debug, Clone, Args)]
pub(crate) struct ClusterCommon {
    #[command(flatten)]
    pub results: ResultOptions,
    /// Write the results as a page, report.html in that directory, too
    #[arg(long)]
    pub report: bool,
    /// What stands in for `ssh`, for plans over real machines
    #[arg(long, value_name = "PROGRAM", default_value = "ssh")]
    pub ssh: String,
    /// The agent's command on these machines; for quic and grpc, homa-bench-peers beside the homa
    /// it names
    #[arg(long, value_name = "COMMAND", default_value = "homa bench-host")]
    pub remote: String,
}

/// `homa bench local`
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  homa bench local                             everything: about a minute and a half
  homa bench local compare                     TCP, QUIC and gRPC as programs use them, beside Homa
  homa bench local compare --size 1k --outstanding 256
  homa bench local latency --size 1k --busy
  homa bench local rate --outstanding 256 --conns 4
  homa bench local mixed --workload w4 --load 0.8 --secs 5
  homa serve 0.0.0.0:4000 --transport both     on another machine, then here:
  homa bench local --server 10.0.0.2:4000

Without --server, a server and a client process are started per measurement, each pinned to its own core. \
Homa and TCP take turns; every figure is the median of the rounds, every ratio the median of the ratios of \
the rounds, with the smallest and the largest.
The first part, `compare`, is what users ask for: 100 bytes with 64 and with 1,000 calls under way, and 1 MB \
with 4. TCP through tokio: tasks hand their requests to one that writes all at hand together; TCP through epoll: \
one thread, all requests of a turn and all replies to one read in one write; QUIC (quinn) and gRPC (tonic) where \
homa-bench-peers is built (`cargo build --release --manifest-path peers/Cargo.toml`); Homa from one thread, and \
from tasks. Up to 64 calls have a task each, more are shared by 16 tasks; client and server run on one core each. \
Each transport is compared with Homa through the same kind of interface.
How long one core takes to hand a cache line to the other decides much of all figures, and hosts of virtual \
machines change it: it is measured before each round, and rounds with the cores far apart are told apart from \
those in which they share a cache.
Latency with `sleep` is each transport's default blocking wait: Homa looks for packets for up to 50 \
microseconds before it sleeps, as long as that has paid off of late; the row `sleep, no spin` is Homa that \
sleeps at once, as TCP does.
In the rate test without `TCP gathers` client and server of TCP write each message when it is made, as RPC libraries that set \
NODELAY usually do; in the row `TCP gathers` all calls of a turn, and all replies to one read, leave in one \
write, which is the ideal of pipelining. Homa is the same in both. Goodput and the mixed test are against TCP \
that gathers and does not copy long messages. TCP always reads all there is.
The mixed test offers both transports the same Poisson arrivals; the load is a share of what the slower one \
carries of this very workload with 64 calls outstanding, or of --link. Slowdown is the time from the \
intended start of a call to its end, divided by the unloaded time of a call of that size over the faster \
transport.")]
pub(crate) struct LocalArgs {
    /// Which test; all of them if not given
    #[arg(value_enum)]
    pub test: Option<BenchTest>,
    /// Length of requests in bytes
    #[arg(long, value_name = "N", value_parser = payload_size)]
    pub size: Option<u64>,
    /// Calls under way at a time (compare: 64, 1,000 and 4; rate: 64; goodput: 4)
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
    /// Congestion control of TCP: cubic, or the system's default where it may not be used
    #[arg(long, value_name = "NAME")]
    pub cc: Option<String>,
    /// Cores to pin client and server to, such as 0,1; `none` pins nothing
    #[arg(long, value_name = "C,S")]
    pub cpus: Option<String>,
    /// Directory for the picture
    #[arg(long, value_name = "DIR", default_value = "bench-results")]
    pub out: PathBuf,
    /// Write the picture as PNG too (`homa` built with `--features png`)
    #[arg(long)]
    pub png: bool,
    /// Seed of arrivals and sizes
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
}

impl Default for LocalArgs {
    /// What the command line without options says.
    fn default() -> Self {
        let none = LocalArgs::augment_args(clap::Command::new("local")).get_matches_from(["local"]);
        // The options have defaults or need none, which the tests of the command line see to.
        #[expect(clippy::expect_used, reason = "stated above")]
        LocalArgs::from_arg_matches(&none).expect("options have defaults")
    }
}
