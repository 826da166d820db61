//! Arguments of `homa soak`.

use std::{path::PathBuf, time::Duration};

use clap::{Args, ValueEnum, value_parser};

use super::plan::Kind;
use crate::units::{parse_frequency, parse_positive_duration};

/// `homa soak`
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  homa soak                                    five minutes of all faults that are possible here
  sudo homa soak --secs 2h --out soak          also raw IP, unplugged hosts, full disks; keep all journals
  homa soak --secs 1m --faults kill,stop       two kinds only
  homa soak --seed 7 --secs 300                the run that printed this line, again
  homa soak --scenario stopped-client          10,000 calls answered while their client stands for 11 s

Servers and clients are processes of their own, in a lab of two hosts where that is possible (homa lab), otherwise on \
loopback; half of the clients work on tokio, half over raw IP where that is possible. Each call has a number, each byte \
follows from it; servers note every run of a handler, clients every end of a call. At the end, and meanwhile, this \
must hold:
  - every call ended, with its answer or a named error, 10 s plus the faults in its way after it began at the latest
  - every answer was right, and made by a life of the server whose handler ran
  - no handler ran twice for a call in one life of a server; none ran where the error says that none did
  - first good answers come within 10 s of the end of a fault
  - no process panicked or ended by itself; what survived has the descriptors, threads and memory it had, and no RPCs

The seed decides faults, targets and lengths; what the processes do meanwhile is up to the machine.
Exit status: 0 if all of it held, 1 if not; the violations are printed with the line that repeats the run.")]
pub(crate) struct SoakArgs {
    /// Run for this time
    #[arg(short = 'z', long, value_name = "TIME", default_value = "300", value_parser = parse_length)]
    pub secs: Duration,
    /// Seed of the faults and calls; another one each time if none is given
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// Inject these kinds only
    #[arg(long, value_name = "KIND,...", value_delimiter = ',', value_enum)]
    pub faults: Vec<Kind>,
    /// Number of servers
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = value_parser!(u8).range(1..=32))]
    pub servers: u8,
    /// Number of clients
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = value_parser!(u8).range(1..=200))]
    pub clients: u8,
    /// Calls that each client begins per second
    #[arg(short = 'q', long, value_name = "N", default_value = "100", value_parser = parse_frequency)]
    pub rate: f64,
    /// Lengths of requests and answers: w1 to w5, or a CSV file with
    /// length_bytes,cumulative_fraction
    #[arg(long, value_name = "w1..w5|FILE", default_value = "w3")]
    pub workload: String,
    /// Where the processes live
    #[arg(long, value_enum, default_value_t = Network::Auto)]
    pub network: Network,
    /// Do this instead of drawing faults
    #[arg(long, value_enum, value_name = "NAME")]
    pub scenario: Option<Scenario>,
    /// Keep the journals of all processes in this directory
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
}

/// Where the processes live.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Network {
    /// A lab of two hosts if one can be built, otherwise loopback
    Auto,
    /// This machine's loopback
    Loopback,
    /// A lab of two hosts
    Lab,
}

/// A fixed course of events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Scenario {
    /// A client with 10,000 calls in service is stopped for 11 s, in which the server answers
    StoppedClient,
}

impl SoakArgs {
    /// The kinds of faults that were asked for.
    pub(super) fn kinds(&self) -> &[Kind] {
        if self.faults.is_empty() { Kind::value_variants() } else { &self.faults }
    }

    /// Whether a kind of faults was asked for.
    pub(super) fn wants(&self, kind: Kind) -> bool {
        self.scenario.is_none() && self.kinds().contains(&kind)
    }

    /// The command line that repeats a run with this seed.
    pub(super) fn again(&self, seed: u64) -> String {
        let mut line = format!("homa soak --secs {:?} --seed {seed}", self.secs);
        if !self.faults.is_empty() {
            let names: Vec<_> = self.faults.iter().map(ToString::to_string).collect();
            line.push_str(&format!(" --faults {}", names.join(",")));
        }
        for (name, value, usual) in [
            ("servers", f64::from(self.servers), 2.0),
            ("clients", f64::from(self.clients), 4.0),
            ("rate", self.rate, 100.0),
        ] {
            if value != usual {
                line.push_str(&format!(" --{name} {value}"));
            }
        }
        if self.workload != "w3" {
            line.push_str(&format!(" --workload {}", self.workload));
        }
        if let Some(network) =
            self.network.to_possible_value().filter(|_| self.network != Network::Auto)
        {
            line.push_str(&format!(" --network {}", network.get_name()));
        }
        if let Some(scenario) = self.scenario.and_then(|scenario| scenario.to_possible_value()) {
            line.push_str(&format!(" --scenario {}", scenario.get_name()));
        }
        line
    }
}

/// The shortest run in which a fault can begin and be overcome.
const LENGTH_MIN: Duration = Duration::from_secs(6);

/// Also takes hours, which other commands do not need.
fn parse_length(text: &str) -> Result<Duration, String> {
    let length = match text.strip_suffix('h') {
        Some(hours) => parse_positive_duration(hours)?.saturating_mul(3_600),
        None => parse_positive_duration(text)?,
    };
    match length < LENGTH_MIN {
        true => Err(format!("at least {LENGTH_MIN:?}: a fault must begin and be overcome")),
        false => Ok(length),
    }
}
