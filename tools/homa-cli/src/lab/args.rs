//! The command line of `homa lab`.

use std::{path::PathBuf, time::Duration};

use clap::{Args, Subcommand, ValueEnum, value_parser};
use homa_lab::{Backend, BufferPolicy, LabSpec, LinkConditions};

use crate::units::{parse_duration, parse_positive_duration, parse_size};

/// The commands of `homa lab`.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum LabCommand {
    /// Build a lab and leave it running
    Up(UpArgs),
    /// Take a lab down, or remove what a crashed one left
    Down(NameArgs),
    /// Show the labs of this user and what their ports have carried
    Status(StatusArgs),
    /// Run any program inside a host
    Exec(ExecArgs),
    /// Build a lab, run the commands of a plan in it, collect what they print, take it down
    Run(RunArgs),
    /// Measure the lab itself: how exact rates, priorities and times are on this machine
    Check(CheckArgs),
}

/// What all labs are called unless told otherwise.
const NAME: &str = "lab";

/// `homa lab up`
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
A first look: a server on one host, a client on another, what the switch carried.
  homa lab up
  homa lab exec h1 -- homa serve 0.0.0.0:4000 &
  homa lab exec h0 -- homa ping h1:4000 --count 5
  homa lab status
  homa lab down

Other labs:
  homa lab up --hosts 10 --rate 50M --name big       a second one beside the first
  homa lab up --ecn 30k --buffer-scope shared --buffer 1M
  homa lab up --delay 10us --loss 0.1%               slow and lossy links

Programs inside call host hN by the name hN (10.66.0.(N+1)) or hN-v6 (fd66::(N+1)). Packets that bear the DSCP CS7 go \
first at every port, CS0 last. Needs no root where unprivileged user namespaces are allowed; `homa doctor` tries \
that. The lab lives in a process of its own; when that ends, however it does, nothing remains.

Before it builds, it measures for a second what this machine can carry, and refuses links that it cannot fill.")]
pub(crate) struct UpArgs {
    #[command(flatten)]
    pub spec: SpecArgs,
    /// Name of the lab
    #[arg(long, value_name = "NAME", default_value = NAME)]
    pub name: String,
    /// Build it even if the machine cannot carry its rate
    #[arg(long)]
    pub force: bool,
}

/// What a lab is to be like.
#[derive(Debug, Clone, Args)]
pub(crate) struct SpecArgs {
    /// Number of hosts
    #[arg(long, value_name = "N", default_value_t = 6, value_parser = value_parser!(u32).range(2..=250))]
    pub hosts: u32,
    /// Rate of every link in both directions, bits per second
    #[arg(long, value_name = "RATE", default_value = "100M", value_parser = rate_mbps)]
    pub rate: u32,
    /// What emulates the switch; `auto` takes the kernel unless something needs the own switch
    #[arg(long, value_enum, default_value_t = BackendName::Auto)]
    pub backend: BackendName,
    /// The longest IP packet in bytes
    #[arg(long, value_name = "N", default_value_t = 1500)]
    pub mtu: u32,
    /// What the switch may hold
    #[arg(long, value_name = "N", default_value = "500k", value_parser = parse_size)]
    pub buffer: u64,
    /// What --buffer limits: each level of each port, each port, or all ports together
    #[arg(long, value_enum, default_value_t = BufferScope::Level)]
    pub buffer_scope: BufferScope,
    /// Dynamic threshold of a shared buffer: a queue may be F times as long as what is free
    #[arg(long, value_name = "F", default_value_t = 1.0)]
    pub alpha: f64,
    /// Mark ECN-capable packets that find more than N bytes in their queue
    #[arg(long, value_name = "N", value_parser = parse_size)]
    pub ecn: Option<u64>,
    /// Number of priorities: 1, 2, 4 or 8
    #[arg(long, value_name = "N", default_value_t = 8)]
    pub priorities: u32,
    /// What a host's own interface may hold
    #[arg(long, value_name = "N", default_value = "1500k", value_parser = parse_size)]
    pub uplink_buffer: u64,
    /// Every frame takes this much longer: both directions, or UP,DOWN
    #[arg(long, value_name = "TIME[,TIME]", default_value = "0s", value_parser = both::<Duration>)]
    pub delay: Both<Duration>,
    /// And up to this much more, at random, without changing the order
    #[arg(long, value_name = "TIME[,TIME]", default_value = "0s", value_parser = both::<Duration>)]
    pub jitter: Both<Duration>,
    /// Share of frames that are lost, such as 0.01 or 1%
    #[arg(long, value_name = "F[,F]", default_value = "0", value_parser = both::<Share>)]
    pub loss: Both<Share>,
    /// Share of frames that arrive twice
    #[arg(long, value_name = "F[,F]", default_value = "0", value_parser = both::<Share>)]
    pub duplicate: Both<Share>,
    /// Share of frames that are held back for --reorder-time while others pass
    #[arg(long, value_name = "F[,F]", default_value = "0", value_parser = both::<Share>)]
    pub reorder: Both<Share>,
    /// How long these frames are held back
    #[arg(long, value_name = "TIME", default_value = "1ms", value_parser = parse_positive_duration)]
    pub reorder_time: Duration,
    /// Seed of all random decisions
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// Record the queue lengths this often
    #[arg(long, value_name = "TIME", value_parser = parse_positive_duration)]
    pub trace: Option<Duration>,
}

/// Names of the back-ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum BackendName {
    /// What serves best here
    Auto,
    /// Routes with HTB on every port
    Kernel,
    /// Our own switch: exact buffers, ECN, faults, traces
    Switch,
}

/// Names of the buffer policies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum BufferScope {
    /// Each level of each port
    Level,
    /// Each port
    Port,
    /// All ports together
    Shared,
}

/// `homa lab down`
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:\n  homa lab down\n  homa lab down big")]
pub(crate) struct NameArgs {
    /// Name of the lab
    #[arg(value_name = "NAME", default_value = NAME)]
    pub name: String,
}

/// `homa lab status`
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  homa lab status
  homa lab status --json | jq '.[0].ports[2].levels[7].queue_bytes'")]
pub(crate) struct StatusArgs {
    /// Only this lab
    #[arg(value_name = "NAME")]
    pub name: Option<String>,
}

/// `homa lab exec`
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  homa lab exec h0 -- ip addr                        what a host has: eth0 and lo
  homa lab exec h0 -- sh                             a shell there
  homa lab exec 1 -- nginx -g 'daemon off;'          any program, not only ours
  homa lab exec h0 -- curl http://h1
  homa lab exec h0 --name big -- iperf3 -c h1
  homa lab exec h1 -- tc -s qdisc show dev eth0      its own interface

The program sees the files of this machine, the network of the host, and the processes of the lab. Towards \
these two it has the rights of root, towards files yours. LAB_HOST in its environment is the host's name.

The exit status is that of the program, 128 + n if signal n ended it. Programs still running when the lab goes down \
are killed.

Signals for this command (TERM, INT, HUP, QUIT, ...) are passed on to the program. Whoever asks a second time for its \
end, with `kill` or a service manager, has it killed; keys of the terminal reach the program by themselves, as often as \
they are pressed.")]
pub(crate) struct ExecArgs {
    /// The host: h0, h1, ... or 0, 1, ...
    #[arg(value_name = "HOST", value_parser = host_index)]
    pub host: usize,
    /// Name of the lab
    #[arg(long, value_name = "NAME", default_value = NAME)]
    pub name: String,
    /// The program and its arguments
    #[arg(last = true, required = true, value_name = "CMD")]
    pub command: Vec<std::ffi::OsString>,
}

/// `homa lab run`
#[derive(Debug, Clone, Args)]
#[command(after_help = r#"Examples:
  homa lab run plan.toml
  homa lab run plan.toml --dry-run                   what would run where and when; builds nothing
  homa lab run plan.toml --out results --json

A plan:
  [lab]
  hosts = 3
  port_mbps = 100
  trace_interval_us = 1000

  [[command]]
  host = 1
  run = "homa serve 0.0.0.0:4000"
  background = true             # not waited for; ends with the run at the latest

  [[command]]
  host = [0, 2]                 # one, several, or "all"
  delay_ms = 500
  timeout_ms = 20000
  run = "homa ping h1:4000 --flood --secs 2"

`run` is for `sh -c`, or a list of a program and its arguments. Hosts are called h0, h1, ... In the environment are
LAB_HOST, LAB_HOSTS, LAB_IP and LAB_IP6 (its own), LAB_IP_0, LAB_IP_1, ... and LAB_IP6_0, ... (everybody's). The run ends
when all commands that are not in the background have ended; one that fails is reported, the others go on."#)]
pub(crate) struct RunArgs {
    /// The plan, in TOML
    #[arg(value_name = "PLAN.toml")]
    pub plan: PathBuf,
    /// Directory for what the commands print, the counters and the queue lengths
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Check the plan and show what would run where and when; build nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Run even if the machine cannot carry the rate of the links
    #[arg(long)]
    pub force: bool,
}

/// `homa lab check`
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  homa lab check
  homa lab check --hosts 6 --rate 300M --backend switch --json")]
pub(crate) struct CheckArgs {
    #[command(flatten)]
    pub spec: SpecArgs,
}

impl SpecArgs {
    /// The specification meant.
    pub(crate) fn spec(&self, name: &str) -> LabSpec {
        LabSpec {
            name: name.to_owned(),
            hosts: self.hosts,
            port_mbps: self.rate,
            backend: match self.backend {
                BackendName::Auto => Backend::Auto,
                BackendName::Kernel => Backend::Kernel,
                BackendName::Switch => Backend::Switch,
            },
            mtu: self.mtu,
            buffer_bytes: self.buffer,
            buffer: match self.buffer_scope {
                BufferScope::Level => BufferPolicy::Level,
                BufferScope::Port => BufferPolicy::Port,
                BufferScope::Shared => BufferPolicy::Shared,
            },
            shared_alpha: self.alpha,
            ecn_bytes: self.ecn,
            priorities: self.priorities,
            uplink_buffer_bytes: self.uplink_buffer,
            up: self.conditions(|both| both.up, |both| both.up),
            down: self.conditions(|both| both.down, |both| both.down),
            seed: self.seed,
            trace_interval_us: self.trace.map_or(0, |time| time.as_micros() as u64),
            ..LabSpec::default()
        }
    }

    fn conditions(
        &self,
        time: impl Fn(&Both<Duration>) -> Duration,
        share: impl Fn(&Both<Share>) -> Share,
    ) -> LinkConditions {
        let reorder = share(&self.reorder).0;
        LinkConditions {
            delay_ns: nanoseconds(time(&self.delay)),
            jitter_ns: nanoseconds(time(&self.jitter)),
            loss: share(&self.loss).0,
            duplicate: share(&self.duplicate).0,
            reorder,
            reorder_ns: if reorder > 0.0 { nanoseconds(self.reorder_time) } else { 0 },
        }
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// A value for the direction from the hosts and one for the direction towards them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Both<T> {
    pub up: T,
    pub down: T,
}

/// A share of frames, 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Share(pub f64);

/// A value of a direction, as people type it.
pub(crate) trait Typed: Copy {
    fn typed(text: &str) -> Result<Self, String>;
}

impl Typed for Duration {
    fn typed(text: &str) -> Result<Self, String> {
        parse_duration(text)
    }
}

impl Typed for Share {
    fn typed(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let (number, unit) = match text.strip_suffix('%') {
            Some(number) => (number, 0.01),
            None => (text, 1.0),
        };
        match number.parse::<f64>().map(|share| share * unit) {
            Ok(share) if (0.0..=1.0).contains(&share) => Ok(Share(share)),
            _ => Err(format!("`{text}` is not a share; examples: 0.01, 1%")),
        }
    }
}

fn both<T: Typed>(text: &str) -> Result<Both<T>, String> {
    let (up, down) = text.split_once(',').unwrap_or((text, text));
    Ok(Both { up: T::typed(up)?, down: T::typed(down)? })
}

fn rate_mbps(text: &str) -> Result<u32, String> {
    let wrong = || format!("`{text}` is not a rate of 1M to 100G; examples: 100M, 1G");
    let bits = parse_size(text).map_err(|_| wrong())?;
    u32::try_from(bits / 1_000_000)
        .ok()
        .filter(|mbps| *mbps >= 1 && bits % 1_000_000 == 0)
        .ok_or_else(wrong)
}

fn host_index(text: &str) -> Result<usize, String> {
    text.strip_prefix('h')
        .unwrap_or(text)
        .parse()
        .map_err(|_| format!("`{text}` is not a host; examples: h0, 3"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_count_for_both_directions_or_for_each() {
        assert_eq!(
            both::<Duration>("10us").map(|both| (both.up, both.down)),
            Ok((Duration::from_micros(10), Duration::from_micros(10)))
        );
        assert_eq!(both::<Share>("1%,0.5").map(|b| (b.up.0, b.down.0)), Ok((0.01, 0.5)));
        assert!(both::<Share>("2").is_err());
        assert!(both::<Share>("nan").is_err());
        assert!(both::<Duration>("1ms,").is_err());
    }

    #[test]
    fn rates_and_hosts_are_read_as_people_type_them() {
        assert_eq!(rate_mbps("100M"), Ok(100));
        assert_eq!(rate_mbps("1G"), Ok(1000));
        for text in ["0", "100", "1.5k", "x", "1500000"] {
            assert!(rate_mbps(text).is_err(), "{text}");
        }
        assert_eq!(host_index("h3"), Ok(3));
        assert_eq!(host_index("0"), Ok(0));
        assert!(host_index("hh").is_err());
    }
}
