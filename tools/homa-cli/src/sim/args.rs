//! Options of `homa sim`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum, value_parser};
use homa_sim::reproduce::sigcomm18::{Pacing, Profile};

use crate::units::parse_size;

/// `homa sim`
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum SimCommand {
    /// Repeat a published evaluation, and show its figures beside ours
    Reproduce {
        #[command(subcommand)]
        evaluation: Evaluation,
    },
}

/// Published evaluations.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum Evaluation {
    /// SIGCOMM 2018: slowdown by message size, 144 hosts at 10 Gbit/s
    Sigcomm18(Sigcomm18Args),
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

Slowdown: the time of a message in times of what it takes on the idle network. A file of sizes has \
lines of length_bytes,cumulative_fraction.")]
pub(crate) struct Sigcomm18Args {
    /// w1 to w5, or a file of message sizes; may be given several times
    #[arg(long = "workload", value_name = "NAME|FILE", default_values = ["w1", "w2", "w3", "w4", "w5"])]
    pub workloads: Vec<String>,
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
    /// The same number gives the same results, on every machine
    #[arg(long, default_value_t = 1, value_name = "NUMBER")]
    pub seed: u64,
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
}

impl From<PacingArg> for Pacing {
    fn from(pacing: PacingArg) -> Self {
        match pacing {
            PacingArg::Nic => Pacing::Nic,
            PacingArg::Clock => Pacing::Clock,
        }
    }
}
