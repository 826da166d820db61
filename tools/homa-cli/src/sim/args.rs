//! Options of `homa sim`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum, value_parser};
use homa_sim::reproduce::{
    mixed,
    sigcomm18::{Pacing, Profile},
};

use crate::units::parse_size;

/// `homa sim`
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum SimCommand {
    /// Repeat a published evaluation, and show its figures beside ours
    Reproduce {
        #[command(subcommand)]
        evaluation: Evaluation,
    },
    /// Simulate a plan: all its points on all processors, each result kept as soon as it is there
    Run(RunArgs),
    /// Simulate one point of a plan, for machines that share the work
    Point(PointArgs),
    /// Show the points of a plan, and which of them are done
    List(ListArgs),
    /// Show the results of folders together
    Collect(CollectArgs),
    /// Show where the time of the slowest messages of a result went
    Explain(ExplainArgs),
    /// Show links, queues and the slowest messages of a simulation while it runs
    Watch(WatchArgs),
}

/// `homa sim run`
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  homa sim list plans/sim/load-sweep.toml         what would be simulated
  homa sim run plans/sim/load-sweep.toml          all of it; the same command again goes on
  homa sim run plan.toml --out results --threads 8
  homa sim collect results --csv > results.csv    what came out, later

A plan is a TOML file; any key may have a list of values instead of one, and each combination is a \
point:

  title = \"Overcommitment\"
  load = [0.5, 0.8]
  seed = [1, 2, 3]
  traffic.sizes = \"sigcomm18/w4\"
  homa.grants.max_overcommit = [1, 2, 4, 8]

The result of a point is a file named by what went into it: settings, traffic, network, and the \
sources of the simulator. Ctrl-C, a full disk or a lost machine lose no finished point. \
docs/simulation.md has all keys.")]
pub(crate) struct RunArgs {
    /// The plan
    pub plan: PathBuf,
    /// Directory of the results; sim-results/NAME of the plan if not given
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Points that are simulated at a time; as many as there are processors if not given
    #[arg(long, value_name = "COUNT", value_parser = value_parser!(u16).range(1..=1024))]
    pub threads: Option<u16>,
}

/// `homa sim point`
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  homa sim point plan.toml --index 0 --out results
  homa sim point plan.toml --index \"$SLURM_ARRAY_TASK_ID\" --out /shared/results
  homa sim list plan.toml --json | jq '.points | length'

A point that is done is not simulated again, so the command may be repeated at will and on several \
machines at a time. tools/homa-sim/cluster has templates for Slurm, Kubernetes and Ray.")]
pub(crate) struct PointArgs {
    /// The plan
    pub plan: PathBuf,
    /// Which point, from 0; `homa sim list` shows them
    #[arg(long, value_name = "NUMBER")]
    pub index: usize,
    /// Directory of the results, for all points of the plan
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
}

/// `homa sim list`
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  homa sim list plan.toml
  homa sim list plan.toml --out results --json")]
pub(crate) struct ListArgs {
    /// The plan
    pub plan: PathBuf,
    /// Directory of the results; sim-results/NAME of the plan if not given
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
}

/// `homa sim collect`
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  homa sim collect results
  homa sim collect results-a results-b --csv > both.csv
  homa sim collect results --json | jq '.points[].figures.all.p99'

Columns are the inputs that differ. A result that is in several folders counts once.")]
pub(crate) struct CollectArgs {
    /// Directories of results
    #[arg(required = true, value_name = "DIR")]
    pub directories: Vec<PathBuf>,
    /// Lines of comma-separated values instead of a table
    #[arg(long)]
    pub csv: bool,
}

/// `homa sim explain`
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  homa sim run plan.toml --out results; homa sim explain results
  homa sim explain results/0f2c….json --worst 3 --max 200k
  homa sim reproduce sigcomm18 --quick --workload w5 --out w5; homa sim explain w5 --json

What was simulated is simulated twice more from the inputs in the result, which gives the same run: \
first to find the slowest messages, then to follow them. At the sender: it sent others, waited for \
GRANTs, sent the message; then, of the packet that came last, queues and the rest of its way.")]
pub(crate) struct ExplainArgs {
    /// A result, or a directory of results: of `homa sim run`, `point`, or of `reproduce sigcomm18`
    #[arg(value_name = "RUN")]
    pub result: PathBuf,
    /// How many of the slowest messages of each result
    #[arg(long, default_value_t = 10, value_name = "COUNT", value_parser = value_parser!(u16).range(1..=1000))]
    pub worst: u16,
    /// The slowest of messages of at most this size
    #[arg(long, default_value = "1g", value_name = "SIZE", value_parser = parse_size)]
    pub max: u64,
    /// Where a file of message sizes is that the result names; here if not given
    #[arg(long, value_name = "DIR", default_value = ".", hide_default_value = true)]
    pub files: PathBuf,
    /// Results that are explained at a time; as many as there are processors if not given
    #[arg(long, value_name = "COUNT", value_parser = value_parser!(u16).range(1..=1024))]
    pub threads: Option<u16>,
}

/// `homa sim watch`
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  homa sim watch --workload w4                   144 hosts, some minutes
  homa sim watch --workload w5 --racks 2 --load 0.9 --transport pfabric
  homa sim watch plan.toml --index 3             a point of a plan; `homa sim list` shows them
  homa sim watch --workload w3 --quick --json    a line per step, without a terminal

Ports, by kind: all of them in the mean, and the busiest ones, with the part of the time since the \
picture before in which they sent, and what waits there, now and at most. Messages: the largest \
slowdowns so far, also of messages under way. q ends it.")]
pub(crate) struct WatchArgs {
    /// A plan, of which a point is simulated
    #[arg(conflicts_with_all = ["RunOptions", "workload", "transport"])]
    pub plan: Option<PathBuf>,
    /// Which point of the plan, from 0
    #[arg(long, value_name = "NUMBER", default_value_t = 0, requires = "plan")]
    pub index: usize,
    /// w1 to w5, or a file of message sizes
    #[arg(long, value_name = "NAME|FILE", default_value = "w4")]
    pub workload: String,
    /// What hosts speak
    #[arg(long, value_enum, default_value_t = TransportArg::Homa, value_name = "NAME")]
    pub transport: TransportArg,
    #[command(flatten)]
    pub options: RunOptions,
}

/// Published evaluations.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum Evaluation {
    /// SIGCOMM 2018: slowdown by message size, 144 hosts at 10 Gbit/s
    Sigcomm18(Sigcomm18Args),
    /// HomaModule, August 2023: buffer use of Homa, DCTCP and TCP, 20 hosts at 25 Gbit/s
    Buffers(BuffersArgs),
    /// HomaModule, January 2026: Homa beside TCP, 16 hosts at 100 Gbit/s
    Mixed(MixedArgs),
}

/// `homa sim reproduce mixed`
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  homa sim reproduce mixed --quick               half of the messages over Homa, half over TCP
  homa sim reproduce mixed --share 0.2 --tcp dctcp
  homa sim reproduce mixed --workload w3 --load 0.5 --json

Each alone with all of the load, each alone with its share of it, and both together: what a share \
costs the other one is the difference between the last two.")]
pub(crate) struct MixedArgs {
    /// w1 to w5 as the Linux implementation's benchmark has them, up to 1 MB; fixed:SIZE; or a file
    #[arg(long, value_name = "NAME|FILE", default_value = mixed::WORKLOAD)]
    pub workload: String,
    /// Part of the hosts' links that is used, headers and control packets included
    #[arg(long, default_value_t = mixed::LOAD, value_name = "FRACTION")]
    pub load: f64,
    /// Part of the messages that are Homa's
    #[arg(long, default_value_t = 0.5, value_name = "FRACTION")]
    pub share: f64,
    /// Which TCP
    #[arg(long, value_enum, default_value_t = TcpArg::Cubic, value_name = "NAME")]
    pub tcp: TcpArg,
    /// Fewer messages
    #[arg(long)]
    pub quick: bool,
    /// Messages of a run with all of the load; so many that they make 30 million packets, with
    /// --quick 1 million
    #[arg(long, value_name = "COUNT", value_parser = value_parser!(u32).range(1000..=10_000_000))]
    pub messages: Option<u32>,
    #[command(flatten)]
    pub study: StudyOptions,
}

/// What all studies of several runs have.
#[derive(Debug, Clone, Args)]
pub(crate) struct StudyOptions {
    /// The same number gives the same results, on every machine
    #[arg(long, default_value_t = 1, value_name = "NUMBER")]
    pub seed: u64,
    /// Directory for results.json
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Runs that are simulated at a time; as many as there are processors if not given
    #[arg(long, value_name = "COUNT", value_parser = value_parser!(u16).range(1..=1024))]
    pub threads: Option<u16>,
}

/// What sets TCP's congestion window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum TcpArg {
    /// CUBIC, as Linux has it by default
    Cubic,
    /// DCTCP, whose packets are marked
    Dctcp,
}

/// `homa sim reproduce buffers`
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  homa sim reproduce buffers --quick             use, half of it, half the load
  homa sim reproduce buffers --json              settings of Homa and DCTCP too

Messages are calls, of W5 up to 1 MB. Buffers are limited to parts of what each transport used.")]
pub(crate) struct BuffersArgs {
    /// Fewer messages, fewer limits, no settings
    #[arg(long)]
    pub quick: bool,
    /// Calls of each run; 10,000, with --quick 1,000
    #[arg(long, value_name = "COUNT", value_parser = value_parser!(u32).range(100..=10_000_000))]
    pub messages: Option<u32>,
    #[command(flatten)]
    pub study: StudyOptions,
}

/// `homa sim reproduce sigcomm18`
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  homa sim reproduce sigcomm18 --quick           16 hosts, all workloads, about a minute
  homa sim reproduce sigcomm18 --workload w3     144 hosts, one workload
  homa sim reproduce sigcomm18 --workload my.csv --load 0.5
  homa sim reproduce sigcomm18 --profile default --quick --json
  homa sim reproduce sigcomm18 --quick --workload w4 --set priorities.count=2
  homa sim reproduce sigcomm18 --quick --workload w5 --worst 10 --worst-max 200k
  homa sim reproduce sigcomm18 --quick --transport homa --transport pfabric --transport oracle
  homa sim reproduce sigcomm18 --network fabric.toml --workload w4

Slowdown: the time of a message in times of what it takes on the idle network. P50 and P99 of Homa are \
those of a host, in the mean over hosts, as they were published; pooled: the P99 of all messages. A \
file of sizes has lines of length_bytes,cumulative_fraction.")]
pub(crate) struct Sigcomm18Args {
    /// w1 to w5, or a file of message sizes; may be given several times
    #[arg(long = "workload", value_name = "NAME|FILE", default_values = ["w1", "w2", "w3", "w4", "w5"])]
    pub workloads: Vec<String>,
    /// What hosts speak; may be given several times
    #[arg(long = "transport", value_enum, default_values = ["homa"], value_name = "NAME")]
    pub transports: Vec<TransportArg>,
    #[command(flatten)]
    pub options: RunOptions,
    /// Show where the time of the slowest messages went, so many of each workload
    #[arg(long, default_value_t = 0, value_name = "COUNT", value_parser = value_parser!(u16).range(..=1000))]
    pub worst: u16,
    /// The slowest of messages of at most this size
    #[arg(long, default_value = "1g", value_name = "SIZE", value_parser = parse_size)]
    pub worst_max: u64,
    /// Directory for results.json and a picture per workload
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Workloads that are simulated at a time; as many as there are processors if not given
    #[arg(long, value_name = "COUNT", value_parser = value_parser!(u16).range(1..=1024))]
    pub threads: Option<u16>,
}

/// What is simulated of a workload.
#[derive(Debug, Clone, Args)]
pub(crate) struct RunOptions {
    /// Part of the hosts' links that is used, headers and control packets included
    #[arg(long, default_value_t = 0.8, value_name = "FRACTION")]
    pub load: f64,
    /// Settings of Homa
    #[arg(long, value_enum, default_value_t = ProfileArg::Paper)]
    pub profile: ProfileArg,
    /// A setting of Homa instead of the profile's, such as grants.max_overcommit=2 or
    /// recovery.resend_interval=5ms; may be given several times
    #[arg(long = "set", value_name = "NAME=VALUE")]
    pub settings: Vec<String>,
    /// What keeps packets from waiting in the senders' NICs
    #[arg(long, value_enum, default_value_t = PacingArg::Nic)]
    pub pacing: PacingArg,
    /// 16 hosts at one switch, and fewer messages
    #[arg(long)]
    pub quick: bool,
    /// Messages per workload; so many that percentiles are certain if not given
    #[arg(long, value_name = "COUNT", value_parser = value_parser!(u32).range(1000..=100_000_000))]
    pub messages: Option<u32>,
    /// Racks of 16 hosts; 9, with --quick 1
    #[arg(long, value_name = "COUNT", value_parser = value_parser!(u32).range(1..=625))]
    pub racks: Option<u32>,
    /// A network as TOML instead of racks; published figures are those of the evaluation's
    #[arg(long, value_name = "FILE", conflicts_with = "racks")]
    pub network: Option<PathBuf>,
    /// The same number gives the same results, on every machine
    #[arg(long, default_value_t = 1, value_name = "NUMBER")]
    pub seed: u64,
}

/// Transports of the evaluation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum TransportArg {
    /// The engine that ships
    Homa,
    /// A scheduler that knows every message: shortest remaining first, preemptive
    Oracle,
    /// pFabric: switches that send the message with the least left first
    Pfabric,
    /// PIAS: priorities by bytes sent, over DCTCP
    Pias,
    /// pHost: tokens from receivers
    Phost,
    /// NDP: trimmed packets, pulled by receivers
    Ndp,
}

impl TransportArg {
    /// Its name in published figures.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Homa => "homa",
            Self::Oracle => "srpt-oracle",
            Self::Pfabric => "pfabric",
            Self::Pias => "pias",
            Self::Phost => "phost",
            Self::Ndp => "ndp",
        }
    }
}

/// Settings of Homa.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ProfileArg {
    /// Parameters and policies of the paper
    #[value(name = "2018")]
    Paper,
    /// Those that everybody gets
    Default,
}

impl From<ProfileArg> for Profile {
    fn from(profile: ProfileArg) -> Self {
        match profile {
            ProfileArg::Paper => Profile::Paper,
            ProfileArg::Default => Profile::Default,
        }
    }
}

/// What paces senders.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum PacingArg {
    /// The NIC asks for each packet; responses travel beside the network
    Nic,
    /// The engine's clock, as over sockets; responses travel through the network
    Clock,
    /// What the driver tells of the NIC's queue: the speed of the link is not known
    Backlog,
}

impl From<PacingArg> for Pacing {
    fn from(pacing: PacingArg) -> Self {
        match pacing {
            PacingArg::Nic => Pacing::Nic,
            PacingArg::Clock => Pacing::Clock,
            PacingArg::Backlog => Pacing::Backlog,
        }
    }
}
