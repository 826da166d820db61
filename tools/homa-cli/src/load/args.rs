//! Arguments of `homa load`.

use std::{path::PathBuf, time::Duration};

use clap::{Args, value_parser};

use crate::{
    options::{TransportArgs, ordered_size, payload_size},
    units::{parse_duration, parse_frequency, parse_positive_duration},
};

/// `homa load`
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  homa load 127.0.0.1:4000                              64 calls under way for 10 seconds
  homa load 127.0.0.1:4000 --rate 10k --secs 30         10,000 calls begin per second, come what may
  homa load 10.0.0.2:4000 10.0.0.3:4000 --rate 2k --workload w4
  homa load 127.0.0.1:4000 --rate 5k --size 1k --reply-bytes 100k --hdr latency.hgrm
  homa load 127.0.0.1:4000 -q 1k -z 1m --json > run.json

With --rate the loop is open: calls begin when they are meant to, whether others have ended or not, and a call's \
time counts from then, so that a pause of the server shows in every call that was to begin in it. Without, \
--outstanding calls are kept under way, each followed by the next: that finds what a server carries, not how long \
its clients wait.
Failed calls are counted by kind and have no part in times and goodput. A percentile needs as many calls as \
it takes to see one beyond it (P99: 100, P99.9: 1,000) and is `-` with fewer.
Ctrl-C ends the run and prints what was measured.
Exit status: 0 if every call that was due was answered, 1 if not.")]
pub(crate) struct LoadArgs {
    /// The servers; each call goes to one of them by chance
    #[arg(value_name = "ADDR:PORT", required = true)]
    pub servers: Vec<String>,
    /// Begin N calls per second (10k, 2.5M), whatever has ended
    #[arg(short = 'q', long, value_name = "N", value_parser = parse_frequency, allow_negative_numbers = true)]
    pub rate: Option<f64>,
    /// With --rate: begin the calls at equal intervals instead of at random (Poisson)
    #[arg(long, requires = "rate")]
    pub constant: bool,
    /// Keep K calls under way (64); with --rate: at most K, the others wait (10,000)
    #[arg(short = 'c', long, value_name = "K", value_parser = value_parser!(u32).range(1..=100_000))]
    pub outstanding: Option<u32>,
    /// Length of the requests in bytes
    #[arg(long, value_name = "N", default_value = "100", value_parser = payload_size, allow_negative_numbers = true)]
    pub size: u64,
    /// Lengths of the requests by chance: w1 to w5, or a CSV file with
    /// length_bytes,cumulative_fraction
    #[arg(long, value_name = "w1..w5|FILE", conflicts_with = "size")]
    pub workload: Option<String>,
    /// Ask `homa serve` for replies of N bytes; requests then have at least 16
    #[arg(long, value_name = "N", value_parser = ordered_size)]
    pub reply_bytes: Option<u64>,
    /// Measure for this time (10s)
    #[arg(short = 'z', long, value_name = "TIME", value_parser = parse_positive_duration)]
    pub secs: Option<Duration>,
    /// Measure N calls instead
    #[arg(short = 'n', long, value_name = "N", conflicts_with = "secs", value_parser = value_parser!(u64).range(1..), allow_negative_numbers = true)]
    pub count: Option<u64>,
    /// Make calls for this time before those that count (1s; with --count none)
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub warm_up: Option<Duration>,
    /// Print a line per this time; 0 prints none
    #[arg(short = 'i', long, value_name = "TIME", default_value = "1s", value_parser = parse_duration)]
    pub interval: Duration,
    /// Give a call up after this time
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = parse_positive_duration)]
    pub timeout: Duration,
    /// Write the times for HdrHistogram's tools: FILE.hlog is a log of intervals, any other name a
    /// percentile distribution (.hgrm) in microseconds
    #[arg(long, value_name = "FILE")]
    pub hdr: Option<PathBuf>,
    /// Seed of lengths, servers and beginnings
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// Poll without pause instead of sleeping
    #[arg(long)]
    pub busy: bool,
    #[command(flatten)]
    pub transport: TransportArgs,
}
