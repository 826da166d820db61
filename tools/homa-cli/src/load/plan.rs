//! What a run does, once the arguments are found to make sense.

use std::{net::SocketAddr, time::Duration};

use bytes::Bytes;
use homa_bench::{
    arrivals::{Arrivals, Spacing},
    workload::Workload,
};
use homa_report::format::thousands;

use super::args::LoadArgs;
use crate::{
    body::{self, ORDER_BYTES, Order},
    error::CliError,
    options::MESSAGE_BYTES_MAX,
    resolve::resolve,
    transport::Protocol,
    units::{format_number, format_size},
};

/// How long to measure if the user does not say.
const LENGTH: Duration = Duration::from_secs(10);
/// How long to call before that.
const WARM_UP: Duration = Duration::from_secs(1);
/// Calls kept under way in a closed loop.
const CLOSED: u32 = 64;
/// Calls under way at most in an open loop.
const OPEN_MAX: u32 = 10_000;

/// When calls begin.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Mode {
    /// At this rate per second, whatever has ended.
    Open(f64, Spacing),
    /// When another ends.
    Closed,
}

/// When the measurement ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Until {
    /// After this time.
    Time(Duration),
    /// After so many calls.
    Calls(u64),
}

/// A run.
#[derive(Debug)]
pub(super) struct Plan {
    /// Whom to call.
    pub servers: Vec<SocketAddr>,
    /// Over what.
    pub protocol: Protocol,
    /// When calls begin.
    pub mode: Mode,
    /// Calls under way at most.
    pub outstanding: u32,
    /// Lengths of the requests.
    pub workload: Workload,
    /// Their content: of a shorter one, the front.
    pub payload: Bytes,
    /// The shortest request, in bytes; its first bytes may order the reply.
    pub bytes_min: u64,
    /// What the user calls the lengths.
    pub sizes: String,
    /// Time before calls count.
    pub warm_up: Duration,
    /// End of the measurement.
    pub until: Until,
    /// Time per line of the course; zero for none.
    pub interval: Duration,
    /// When a call is given up.
    pub timeout: Duration,
    /// Seed of all that is random.
    pub seed: u64,
}

impl Plan {
    /// Checks the arguments and resolves the servers' names.
    pub(super) fn new(args: &LoadArgs) -> Result<Self, CliError> {
        let (workload, sizes) = lengths(args)?;
        let servers =
            args.servers.iter().map(|server| resolve(server)).collect::<Result<_, _>>()?;
        let mode = match args.rate {
            Some(rate) if args.constant => Mode::Open(rate, Spacing::Constant),
            Some(rate) => Mode::Open(rate, Spacing::Poisson),
            None => Mode::Closed,
        };
        let usual = if mode == Mode::Closed { CLOSED } else { OPEN_MAX };
        let plan = Plan {
            servers,
            protocol: args.transport.protocol(),
            mode,
            outstanding: args.outstanding.unwrap_or(usual),
            payload: payload(args, &workload),
            workload,
            bytes_min: bytes_min(args),
            sizes,
            warm_up: args.warm_up.unwrap_or(if args.count.is_some() {
                Duration::ZERO
            } else {
                WARM_UP
            }),
            until: args.count.map_or(Until::Time(args.secs.unwrap_or(LENGTH)), Until::Calls),
            interval: args.interval,
            timeout: args.timeout,
            seed: args.seed,
        };
        match plan.protocol == Protocol::Tcp && plan.servers.len() > 1 {
            true => Err(CliError::Usage("over tcp only one server can be called".to_owned())),
            false => Ok(plan),
        }
    }

    /// The longest message of the run, or the usual limit; bytes.
    pub(super) fn message_bytes_max(&self) -> u32 {
        MESSAGE_BYTES_MAX.max(self.payload.len().try_into().unwrap_or(u32::MAX))
    }

    /// When calls are meant to begin; in a closed loop only whom they ask and how long they are.
    pub(super) fn arrivals(&self) -> Option<Arrivals> {
        let (rate, spacing) = match self.mode {
            Mode::Open(rate, spacing) => (rate, spacing),
            Mode::Closed => (1.0, Spacing::Constant),
        };
        Arrivals::new(self.workload.clone(), rate, spacing, self.servers.len(), self.seed)
    }

    /// The rate offered, per second.
    pub(super) fn rate(&self) -> Option<f64> {
        match self.mode {
            Mode::Open(rate, _) => Some(rate),
            Mode::Closed => None,
        }
    }

    /// One sentence that says what is done.
    pub(super) fn describe(&self) -> String {
        let servers: Vec<String> = self.servers.iter().map(ToString::to_string).collect();
        let pace = match self.mode {
            Mode::Open(rate, Spacing::Poisson) => {
                format!("open loop, {} calls/s (Poisson)", format_number(rate))
            }
            Mode::Open(rate, Spacing::Constant) => {
                format!("open loop, {} calls/s (equal intervals)", format_number(rate))
            }
            Mode::Closed => format!("closed loop, {} calls under way", self.outstanding),
        };
        let length = match self.until {
            Until::Time(time) => format!("{time:?}"),
            Until::Calls(count) => format!("{} calls", thousands(count as f64)),
        };
        let warm_up = match self.warm_up {
            Duration::ZERO => String::new(),
            time => format!(" after {time:?} of warm-up"),
        };
        format!(
            "{} over {}: {pace}, requests of {}, {length}{warm_up}",
            servers.join(" "),
            self.protocol.name(),
            self.sizes,
        )
    }
}

/// The shortest request: one that orders a reply has room for the order.
fn bytes_min(args: &LoadArgs) -> u64 {
    if args.reply_bytes.is_some() { ORDER_BYTES as u64 } else { 1 }
}

/// The lengths of the requests and their name.
fn lengths(args: &LoadArgs) -> Result<(Workload, String), CliError> {
    let Some(name) = &args.workload else {
        if args.size < bytes_min(args) {
            return Err(CliError::Usage(format!(
                "--reply-bytes needs --size {ORDER_BYTES} or more: it is carried in the request's first bytes"
            )));
        }
        return Ok((Workload::of_length(args.size), format_size(args.size)));
    };
    let workload = Workload::load(name)?;
    let mean = format_size(workload.mean_bytes() as u64);
    Ok((workload, format!("workload {name} (mean {mean})")))
}

fn payload(args: &LoadArgs, workload: &Workload) -> Bytes {
    let longest = (workload.quantile(1.0) as usize).max(ORDER_BYTES);
    match args.reply_bytes {
        // Limited by the option's parser.
        Some(bytes) => {
            let order = Order::Pattern { length: bytes as u32, seed: 0 };
            body::pattern_with_order(0, longest, order)
        }
        None => body::pattern(0, longest),
    }
}
